//! The metadata that a client sends with a create or an update.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use serde_json::{Map, Value};

use crate::answer::{ApiError, Outcome, refuse};

/// The mime type of folders.
pub(crate) const FOLDER: &str = "application/vnd.google-apps.folder";

/// Bytes of key and value of a property together.
const PROPERTY_BYTES_MAX: usize = 124;

/// Properties of one app on one file.
const PROPERTIES_MAX: usize = 30;

/// Fields that Drive sets and no client.
const READ_ONLY: &[&str] = &[
    "sha256Checksum",
    "sha1Checksum",
    "md5Checksum",
    "size",
    "quotaBytesUsed",
    "headRevisionId",
    "version",
    "driveId",
    "teamDriveId",
    "owners",
    "ownedByMe",
    "capabilities",
    "explicitlyTrashed",
    "spaces",
    "webViewLink",
    "webContentLink",
    "fileExtension",
    "fullFileExtension",
];

/// What a client said of a file. Absent fields are `None`.
#[derive(Debug, Clone, Default)]
pub(crate) struct Metadata {
    pub(crate) id: Option<String>,
    pub(crate) name: Option<String>,
    pub(crate) mime_type: Option<String>,
    pub(crate) parents: Option<Vec<String>>,
    pub(crate) description: Option<String>,
    pub(crate) trashed: Option<bool>,
    pub(crate) created: Option<DateTime<Utc>>,
    pub(crate) modified: Option<DateTime<Utc>>,
    /// `None` removes a property.
    pub(crate) app_properties: BTreeMap<String, Option<String>>,
    pub(crate) properties: BTreeMap<String, Option<String>>,
}

impl Metadata {
    /// Reads the body of a request; an empty one says nothing.
    ///
    /// # Errors
    /// 400 for what is no JSON or of another type, 403 for a field that a client cannot set.
    pub(crate) fn parse(body: &[u8]) -> Outcome<Self> {
        if body.iter().all(u8::is_ascii_whitespace) {
            return Ok(Self::default());
        }
        let Ok(Value::Object(fields)) = serde_json::from_slice(body) else {
            return Err(refuse(400, "parseError", "Parse Error"));
        };
        if let Some(field) = READ_ONLY.iter().find(|field| fields.contains_key(**field)) {
            let message = "The resource body includes fields which are not directly writable.";
            let mut answer = refuse(403, "fieldNotWritable", message);
            answer.note = Some(format!("{field} is not writable"));
            return Err(answer);
        }
        Ok(Self {
            id: text(&fields, "id")?,
            name: text(&fields, "name")?,
            mime_type: text(&fields, "mimeType")?,
            parents: parents(&fields)?,
            description: text(&fields, "description")?,
            trashed: match fields.get("trashed") {
                None | Some(Value::Null) => None,
                Some(Value::Bool(trashed)) => Some(*trashed),
                Some(_) => return Err(wrong_type("trashed")),
            },
            created: time(&fields, "createdTime")?,
            modified: time(&fields, "modifiedTime")?,
            app_properties: properties(&fields, "appProperties")?,
            properties: properties(&fields, "properties")?,
        })
    }

    pub(crate) fn is_folder(&self) -> bool {
        self.mime_type.as_deref() == Some(FOLDER)
    }
}

fn wrong_type(field: &str) -> Box<crate::answer::Answer> {
    let message = format!("Invalid value for field {field}");
    ApiError { status: 400, reason: "invalid", message: &message, location: Some(("other", field)) }
        .answer()
        .refused()
}

fn text(fields: &Map<String, Value>, name: &str) -> Outcome<Option<String>> {
    match fields.get(name) {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(text)) => Ok(Some(text.clone())),
        Some(_) => Err(wrong_type(name)),
    }
}

fn time(fields: &Map<String, Value>, name: &str) -> Outcome<Option<DateTime<Utc>>> {
    let Some(text) = text(fields, name)? else { return Ok(None) };
    match DateTime::parse_from_rfc3339(&text) {
        Ok(time) => Ok(Some(time.with_timezone(&Utc))),
        Err(_) => Err(wrong_type(name)),
    }
}

fn parents(fields: &Map<String, Value>) -> Outcome<Option<Vec<String>>> {
    let Some(value) = fields.get("parents") else { return Ok(None) };
    let parents: Option<Vec<String>> = value
        .as_array()
        .and_then(|items| items.iter().map(|item| item.as_str().map(str::to_owned)).collect());
    match parents {
        Some(parents) if parents.len() > 1 => {
            let message =
                "A file can only have one parent folder; specifying multiple parents isn't supported.";
            Err(refuse(400, "invalid", message))
        }
        Some(parents) => Ok((!parents.is_empty()).then_some(parents)),
        None => Err(wrong_type("parents")),
    }
}

fn properties(fields: &Map<String, Value>, name: &str) -> Outcome<BTreeMap<String, Option<String>>> {
    let mut properties = BTreeMap::new();
    let object = match fields.get(name) {
        None | Some(Value::Null) => return Ok(properties),
        Some(Value::Object(object)) => object,
        Some(_) => return Err(wrong_type(name)),
    };
    for (key, value) in object {
        let value = match value {
            Value::Null => None,
            Value::String(value) => Some(value.clone()),
            _ => return Err(wrong_type(name)),
        };
        if key.len() + value.as_ref().map_or(0, String::len) > PROPERTY_BYTES_MAX {
            let message = format!("Key and value of a property exceed {PROPERTY_BYTES_MAX} bytes.");
            return Err(refuse(403, "propertyTooLarge", &message));
        }
        properties.insert(key.clone(), value);
    }
    if properties.len() > PROPERTIES_MAX {
        return Err(refuse(403, "tooManyProperties", "A file can have 30 properties of an app."));
    }
    Ok(properties)
}

/// Applies changes of properties.
pub(crate) fn merge(properties: &mut BTreeMap<String, String>, changes: BTreeMap<String, Option<String>>) {
    for (key, value) in changes {
        match value {
            Some(value) => {
                properties.insert(key, value);
            }
            None => {
                properties.remove(&key);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn status(body: &str) -> u16 {
        Metadata::parse(body.as_bytes()).map_or_else(|answer| answer.status, |_| 200)
    }

    #[test]
    fn what_a_client_may_say() {
        let read =
            Metadata::parse(br#"{"name": "a", "parents": ["p"], "appProperties": {"k": "v", "g": null}}"#);
        let read = read.unwrap();
        assert_eq!((read.name.as_deref(), read.parents.as_deref()), (Some("a"), Some(&["p".to_owned()][..])));
        assert_eq!(read.app_properties["g"], None);
        assert_eq!(status(""), 200);
        assert_eq!(status(r#"{"unknown": 1, "modifiedTime": "2026-01-02T03:04:05.678Z"}"#), 200);
        let fits = format!(r#"{{"appProperties": {{"key": "{}"}}}}"#, "v".repeat(121));
        assert_eq!(status(&fits), 200);
    }

    #[test]
    fn what_a_client_may_not_say() {
        let long = format!(r#"{{"appProperties": {{"key": "{}"}}}}"#, "v".repeat(122));
        for (body, expected) in [
            ("[]", 400),
            ("{", 400),
            (r#"{"name": 1}"#, 400),
            (r#"{"parents": "p"}"#, 400),
            (r#"{"parents": ["p", "q"]}"#, 400),
            (r#"{"modifiedTime": "yesterday"}"#, 400),
            (r#"{"size": "3"}"#, 403),
            (r#"{"sha256Checksum": ""}"#, 403),
            (&long, 403),
        ] {
            assert_eq!(status(body), expected, "{body}");
        }
    }
}
