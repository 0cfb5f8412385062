//! A request's head: which call of the API it is, and its parameters.

use hyper::http::request::Parts;
use hyper::{HeaderMap, Method};
use percent_encoding::percent_decode_str;

use crate::answer::{Answer, Outcome, bad_parameter};
use crate::auth::parameter;
use crate::fault::Call;
use crate::fields::{Mask, Schema};

/// The paths below this are the double's own.
pub(crate) const CONTROL: &str = "/_double/";

/// A request without its body.
#[derive(Debug, Clone)]
pub(crate) struct Head {
    pub(crate) method: Method,
    pub(crate) path: String,
    /// What comes after `/drive/v3/` or `/upload/drive/v3/`, decoded.
    pub(crate) segments: Vec<String>,
    pub(crate) is_upload: bool,
    pub(crate) query: Vec<(String, String)>,
    pub(crate) headers: HeaderMap,
    pub(crate) call: Call,
}

impl Head {
    pub(crate) fn read(parts: &Parts) -> Self {
        let path = parts.uri.path().to_owned();
        let query: Vec<(String, String)> =
            form_urlencoded::parse(parts.uri.query().unwrap_or_default().as_bytes()).into_owned().collect();
        // Clients made from Google's description of the API put resumable uploads below this.
        let api = path.strip_prefix("/resumable").unwrap_or(&path);
        let (api, is_upload) = match api.strip_prefix("/upload/") {
            Some(_) => (&api["/upload".len()..], true),
            None => (api, false),
        };
        let segments: Vec<String> = api.strip_prefix("/drive/v3/").map_or_else(Vec::new, |rest| {
            rest.split('/')
                .map(|segment| percent_decode_str(segment).decode_utf8_lossy().into_owned())
                .collect()
        });
        let mut head = Self {
            method: parts.method.clone(),
            path,
            segments,
            is_upload,
            query,
            headers: parts.headers.clone(),
            call: Call::Unknown,
        };
        head.call = head.classify();
        head
    }

    fn classify(&self) -> Call {
        let segments: Vec<&str> = self.segments.iter().map(String::as_str).collect();
        let resumable = self.get("uploadType") == Some("resumable");
        match (self.method.as_str(), self.is_upload, segments.as_slice()) {
            ("POST", false, []) if ["/token", "/device/code", "/revoke"].contains(&self.path.as_str()) => {
                Call::Token
            }
            ("GET", false, []) if self.path == "/auth" => Call::Token,
            ("GET", false, ["about"]) => Call::About,
            ("GET", false, ["drives"] | ["drives", _]) => Call::Drives,
            ("GET", false, ["files", "generateIds"]) => Call::GenerateIds,
            ("GET", false, ["files"]) => Call::List,
            ("GET", false, ["files", _]) if self.get("alt") == Some("media") => Call::Media,
            ("GET", false, ["files", _]) => Call::Get,
            ("POST", false, ["files"]) => Call::Create,
            ("PATCH", false, ["files", _]) => Call::Update,
            ("DELETE", false, ["files", _]) => Call::Delete,
            ("PUT", true, ["files"] | ["files", _]) if self.get("upload_id").is_some() => {
                let asks =
                    self.header("content-range").is_some_and(|range| range.trim().starts_with("bytes */"));
                if asks { Call::UploadStatus } else { Call::UploadChunk }
            }
            ("DELETE", true, ["files"] | ["files", _]) if self.get("upload_id").is_some() => {
                Call::UploadStatus
            }
            ("POST", true, ["files"]) | ("PATCH", true, ["files", _]) if resumable => Call::StartUpload,
            ("POST", true, ["files"]) => Call::Create,
            ("PATCH", true, ["files", _]) => Call::Update,
            _ => Call::Unknown,
        }
    }

    /// A parameter of the query; the first one if there are several.
    pub(crate) fn get(&self, name: &str) -> Option<&str> {
        parameter(&self.query, name)
    }

    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).and_then(|value| value.to_str().ok())
    }

    /// The file's id in the path.
    pub(crate) fn id(&self) -> &str {
        self.segments.get(1).map_or("", String::as_str)
    }

    /// A parameter that is true or false; absent is false.
    pub(crate) fn flag(&self, name: &str) -> Outcome<bool> {
        match self.get(name) {
            None | Some("false") => Ok(false),
            Some("true") => Ok(true),
            Some(other) => {
                let message = format!("Invalid boolean value: '{other}'.");
                Err(bad_parameter(name, "invalidParameter", &message))
            }
        }
    }

    /// A parameter that is a number within bounds.
    pub(crate) fn number(&self, name: &str, default: u64, min: u64, max: u64) -> Outcome<u64> {
        let Some(text) = self.get(name) else { return Ok(default) };
        match text.parse::<u64>() {
            Ok(number) if (min..=max).contains(&number) => Ok(number),
            _ => {
                let message =
                    format!("Invalid value '{text}'. Values must be within the range: [{min}, {max}]");
                Err(bad_parameter(name, "invalidParameter", &message))
            }
        }
    }

    pub(crate) fn supports_all_drives(&self) -> Outcome<bool> {
        self.flag("supportsAllDrives")
    }

    /// The mask of the parameter `fields`, or `default`.
    pub(crate) fn mask(&self, schema: Schema, default: &str) -> Outcome<Mask> {
        let text = self.get("fields").filter(|text| !text.is_empty()).unwrap_or(default);
        Mask::parse(text, schema).map_err(|part| invalid_field(&part))
    }

    /// Path and query for the log, without what is secret.
    pub(crate) fn path_and_query(&self) -> String {
        const SECRET: &[&str] =
            &["token", "access_token", "refresh_token", "code", "client_secret", "assertion"];
        if self.query.is_empty() {
            return self.path.clone();
        }
        let mut query = form_urlencoded::Serializer::new(String::new());
        for (key, value) in &self.query {
            query.append_pair(key, if SECRET.contains(&key.as_str()) { "…" } else { value });
        }
        format!("{}?{}", self.path, query.finish())
    }
}

fn invalid_field(part: &str) -> Box<Answer> {
    bad_parameter("fields", "invalidParameter", &format!("Invalid field selection {part}"))
}

#[cfg(test)]
mod tests {
    use hyper::Request;

    use super::*;

    fn head(method: &str, uri: &str, range: Option<&str>) -> Head {
        let mut request = Request::builder().method(method).uri(uri);
        if let Some(range) = range {
            request = request.header("content-range", range);
        }
        Head::read(&request.body(()).unwrap().into_parts().0)
    }

    #[test]
    fn calls_are_told_apart() {
        let cases = [
            ("POST", "/token", None, Call::Token),
            ("GET", "/auth?x=y", None, Call::Token),
            ("GET", "/token", None, Call::Unknown),
            ("GET", "/drive/v3/about", None, Call::About),
            ("GET", "/drive/v3/files?q=x", None, Call::List),
            ("GET", "/drive/v3/files/generateIds", None, Call::GenerateIds),
            ("GET", "/drive/v3/files/abc", None, Call::Get),
            ("GET", "/drive/v3/files/abc?alt=media", None, Call::Media),
            ("GET", "/drive/v3/files/abc/revisions", None, Call::Unknown),
            ("POST", "/drive/v3/files", None, Call::Create),
            ("POST", "/upload/drive/v3/files?uploadType=media", None, Call::Create),
            ("POST", "/upload/drive/v3/files?uploadType=resumable", None, Call::StartUpload),
            ("POST", "/resumable/upload/drive/v3/files?uploadType=resumable", None, Call::StartUpload),
            ("PATCH", "/upload/drive/v3/files/abc?uploadType=resumable", None, Call::StartUpload),
            ("PATCH", "/upload/drive/v3/files/abc?uploadType=media", None, Call::Update),
            ("PATCH", "/drive/v3/files/abc", None, Call::Update),
            ("DELETE", "/drive/v3/files/abc", None, Call::Delete),
            ("PUT", "/upload/drive/v3/files?upload_id=1", Some("bytes 0-1/2"), Call::UploadChunk),
            ("PUT", "/upload/drive/v3/files?upload_id=1", Some("bytes */2"), Call::UploadStatus),
            ("PUT", "/upload/drive/v3/files?upload_id=1", None, Call::UploadChunk),
            ("PUT", "/upload/drive/v3/files", None, Call::Unknown),
            ("GET", "/", None, Call::Unknown),
        ];
        for (method, uri, range, call) in cases {
            assert_eq!(head(method, uri, range).call, call, "{method} {uri}");
        }
    }

    #[test]
    fn the_log_has_no_secrets() {
        let head = head("POST", "/revoke?token=abc&x=%26", None);
        assert_eq!(head.path_and_query(), "/revoke?token=%E2%80%A6&x=%26");
    }

    #[test]
    fn parameters_have_bounds() {
        let head = head("GET", "/drive/v3/files?pageSize=1001&a=true&b=TRUE&fields=files(x)", None);
        assert_eq!(head.number("pageSize", 100, 1, 1000).unwrap_err().status, 400);
        assert_eq!(head.number("count", 10, 1, 1000).unwrap(), 10);
        assert!(head.flag("a").unwrap() && !head.flag("c").unwrap());
        assert_eq!(head.flag("b").unwrap_err().status, 400);
        assert_eq!(head.mask(Schema::FileList, "*").unwrap_err().status, 400);
    }
}
