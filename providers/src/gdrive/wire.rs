//! Requests that the generated client has no call for: uploads, downloads, folders. Over the same connections, with
//! the same tokens.

use std::pin::Pin;
use std::sync::Arc;

use google_drive3::common;
use hyper::body::{Body as _, Bytes, Incoming};
use hyper::header::{AUTHORIZATION, CONTENT_LENGTH, HeaderName, HeaderValue, USER_AGENT};
use hyper::{Method, Request, Response, StatusCode, Uri};
use serde::de::DeserializeOwned;

use super::auth::Tokens;
use super::error::{Failure, Outcome, Refusal};
use crate::http::{Connector, RopeBody};
use crate::{Body, Error, ErrorKind, Result};

/// What Lifeboat calls itself.
pub(super) const AGENT: &str = concat!("lifeboat/", env!("CARGO_PKG_VERSION"));

/// More than any answer that is not an object's bytes.
const ANSWER_BYTES_MAX: usize = 8 << 20;

pub(super) type Client = common::Client<Connector>;

/// One request; can be sent again.
#[derive(Debug, Clone)]
pub(super) struct Outgoing {
    pub(super) method: Method,
    pub(super) url: String,
    pub(super) headers: Vec<(HeaderName, String)>,
    pub(super) body: Body,
}

impl Outgoing {
    pub(super) fn new(method: Method, url: impl Into<String>) -> Self {
        Self { method, url: url.into(), headers: Vec::new(), body: Body::default() }
    }

    pub(super) fn header(mut self, name: HeaderName, value: impl ToString) -> Self {
        self.headers.push((name, value.to_string()));
        self
    }

    pub(super) fn body(mut self, body: impl Into<Body>) -> Self {
        self.body = body.into();
        self
    }

    fn request(self, token: Option<&str>) -> Outcome<Request<common::Body>> {
        let malformed = |what: &str| Failure::known(ErrorKind::Other, format_args!("{what} cannot be sent"));
        let uri: Uri = self.url.parse().map_err(|_| malformed("the URL"))?;
        let mut request = Request::builder().method(self.method).uri(uri).header(USER_AGENT, AGENT);
        if let Some(token) = token {
            let mut value =
                HeaderValue::try_from(format!("Bearer {token}")).map_err(|_| malformed("the token"))?;
            value.set_sensitive(true);
            request = request.header(AUTHORIZATION, value);
        }
        request = request.header(CONTENT_LENGTH, self.body.len());
        for (name, value) in self.headers {
            request = request.header(name, value);
        }
        request.body(common::Body::new(RopeBody::from(&self.body))).map_err(|_| malformed("the request"))
    }
}

/// Sends requests with a token that is renewed when it is refused.
#[derive(Clone)]
pub(super) struct Wire {
    client: Client,
    tokens: Tokens,
    /// With a slash at its end.
    root: Arc<str>,
}

impl Wire {
    /// To the service below `root`, an URL with a slash at its end.
    pub(super) fn new(client: Client, tokens: Tokens, root: &str) -> Self {
        Self { client, tokens, root: root.into() }
    }

    /// The URL of a path with its query.
    pub(super) fn url(&self, path: &str) -> String {
        format!("{}{path}", self.root)
    }

    /// Sends a request. An answer of any status is returned, but for 401: then once more with a new token.
    pub(super) async fn send(&self, outgoing: Outgoing) -> Outcome<Response<Incoming>> {
        // Google names the address of an upload itself. It gets no token if that is not with the service.
        let with_token = same_host(&outgoing.url, &self.root);
        let mut is_second = false;
        loop {
            let access = if with_token { Some(self.tokens.get().await?) } else { None };
            let token = access.as_ref().map(|access| access.token.as_str());
            let request = outgoing.clone().request(token)?;
            let response = self.client.request(request).await.map_err(|error| Failure::transport(&error))?;
            match access {
                Some(access) if response.status() == StatusCode::UNAUTHORIZED && !is_second => {
                    self.tokens.reject(access.generation).await;
                    is_second = true;
                }
                _ => return Ok(response),
            }
        }
    }

    /// Sends a request whose answer is JSON.
    pub(super) async fn json<T: DeserializeOwned>(&self, outgoing: Outgoing) -> Outcome<T> {
        let response = self.send(outgoing).await?;
        let response = require_success(response).await?;
        decode(response).await
    }
}

/// The answer if it is 2xx, else what it says.
pub(super) async fn require_success(response: Response<Incoming>) -> Outcome<Response<Incoming>> {
    if response.status().is_success() {
        return Ok(response);
    }
    Err(Failure::Refused(refusal(response).await))
}

/// What an answer other than 2xx says; one whose text broke off still has its status.
pub(super) async fn refusal(response: Response<Incoming>) -> Refusal {
    let (head, body) = response.into_parts();
    let text = read_up_to(body, ANSWER_BYTES_MAX).await.unwrap_or_default();
    Refusal::of(head.status.as_u16(), &head.headers, &text)
}

/// The JSON in an answer. What cannot be read is an unknown outcome: the answer was cut, or is not Google's.
pub(super) async fn decode<T: DeserializeOwned>(response: Response<Incoming>) -> Outcome<T> {
    let text = read_up_to(response.into_body(), ANSWER_BYTES_MAX).await?;
    serde_json::from_slice(&text)
        .map_err(|error| Failure::Broken(format!("the answer of Google Drive cannot be read: {error}")))
}

/// The next bytes of an answer; `None` at its end.
pub(super) async fn next_bytes(body: &mut Incoming) -> Outcome<Option<Bytes>> {
    loop {
        let frame = std::future::poll_fn(|context| Pin::new(&mut *body).poll_frame(context)).await;
        match frame {
            None => return Ok(None),
            Some(Ok(frame)) => {
                // Trailers are nobody's business.
                if let Ok(bytes) = frame.into_data() {
                    return Ok(Some(bytes));
                }
            }
            Some(Err(error)) => return Err(Failure::transport(&error)),
        }
    }
}

async fn read_up_to(mut body: Incoming, bytes_max: usize) -> Outcome<Vec<u8>> {
    let mut read = Vec::new();
    while let Some(bytes) = next_bytes(&mut body).await? {
        if read.len() + bytes.len() > bytes_max {
            return Err(Failure::Broken(format!(
                "the answer of Google Drive is longer than {bytes_max} bytes"
            )));
        }
        read.extend_from_slice(&bytes);
    }
    Ok(read)
}

/// A request that needs no token: those that ask for one. Gives status, and the text of the answer.
pub(super) async fn post_form(
    client: &Client,
    url: &str,
    fields: &[(&str, &str)],
) -> Result<(u16, hyper::HeaderMap, Vec<u8>)> {
    let form = url::form_urlencoded::Serializer::new(String::new()).extend_pairs(fields).finish();
    let outgoing = Outgoing::new(Method::POST, url)
        .header(hyper::header::CONTENT_TYPE, "application/x-www-form-urlencoded")
        .header(hyper::header::ACCEPT, "application/json")
        .body(Bytes::from(form));
    let answer = async {
        let request = outgoing.request(None)?;
        let response = client.request(request).await.map_err(|error| Failure::transport(&error))?;
        let (head, body) = response.into_parts();
        Ok((head.status.as_u16(), head.headers, read_up_to(body, ANSWER_BYTES_MAX).await?))
    };
    answer.await.map_err(|failure: Failure| -> Error { failure.into_error("open", url) })
}

/// Whether two URLs lead to the same server.
fn same_host(one: &str, other: &str) -> bool {
    match (url::Url::parse(one), url::Url::parse(other)) {
        (Ok(one), Ok(other)) => one.origin() == other.origin(),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_goes_to_the_service_only() {
        let root = "https://www.googleapis.com/";
        assert!(same_host("https://www.googleapis.com/upload/drive?x=1", root));
        for other in [
            "http://www.googleapis.com/upload",
            "https://www.googleapis.com:444/upload",
            "https://www.googleapis.com.example.org/",
            "https://example.org/",
            "nonsense",
        ] {
            assert!(!same_host(other, root), "{other}");
        }
    }

    #[test]
    fn what_cannot_be_sent_is_an_error() {
        assert!(Outgoing::new(Method::GET, "http://h/a b").request(None).is_err());
        assert!(Outgoing::new(Method::GET, "http://h/").request(Some("a\nb")).is_err());
        let header = Outgoing::new(Method::GET, "http://h/").header(hyper::header::RANGE, "a\r\nb");
        assert!(header.request(Some("t")).is_err());
        let request = Outgoing::new(Method::PUT, "http://h/").request(Some("hidden")).unwrap();
        assert!(!format!("{:?}", request.headers()).contains("hidden"));
        assert_eq!(request.headers()[CONTENT_LENGTH], "0");
    }
}
