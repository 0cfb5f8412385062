//! Any server: the event as JSON, signed if there is a secret.
//!
//! `X-Lifeboat-Signature: sha256=HEX` is the HMAC-SHA256 of `TIMESTAMP.BODY` by the secret, with `X-Lifeboat-Timestamp` (seconds since 1970, when it
//! was sent) and the bytes of the body as they are: docs/operations/notifications.md shows how to verify it.

use std::fmt::Write as _;

use chrono::{DateTime, Utc};
use http::header::{HeaderName, HeaderValue};
use ring::hmac::{self, Key as SigningKey};
use serde_json::json;

use super::super::event::Event;
use super::super::http::Request;
use super::super::render::Rendered;
use super::Prepared;
use crate::{Error, Result};

/// The version of the body's form. Fields are only ever added.
const VERSION: u32 = 1;

/// The request.
///
/// # Errors
/// If the event cannot be written as JSON.
pub fn request(
    url: url::Url,
    prepared: &Prepared<'_>,
    event: &Event,
    rendered: &Rendered,
    id: i64,
    now: DateTime<Utc>,
) -> Result<Request> {
    let body = json!({
        "version": VERSION,
        "id": id.to_string(),
        "title": rendered.title,
        "text": rendered.text(),
        "event": event,
    })
    .to_string();
    let timestamp = now.timestamp().to_string();
    let mut headers = vec![
        (HeaderName::from_static("x-lifeboat-id"), value(&id.to_string())?),
        (HeaderName::from_static("x-lifeboat-event"), value(event.kind.name())?),
        (HeaderName::from_static("x-lifeboat-timestamp"), value(&timestamp)?),
    ];
    if let Some(secret) = &prepared.secret {
        let signature = format!("sha256={}", sign(secret.as_bytes(), &timestamp, &body));
        headers.push((HeaderName::from_static("x-lifeboat-signature"), value(&signature)?));
    }
    Ok(Request { url, headers, content_type: "application/json", body })
}

fn value(text: &str) -> Result<HeaderValue> {
    HeaderValue::from_str(text).map_err(|_| Error::failed("a header of a webhook cannot be sent"))
}

fn sign(secret: &[u8], timestamp: &str, body: &str) -> String {
    let mut context = hmac::Context::with_key(&SigningKey::new(hmac::HMAC_SHA256, secret));
    context.update(timestamp.as_bytes());
    context.update(b".");
    context.update(body.as_bytes());
    let mut hex = String::new();
    for byte in context.sign().as_ref() {
        // Writing into a string does not fail.
        let _ = write!(hex, "{byte:02x}");
    }
    hex
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_signature_is_that_of_other_tools() {
        // printf '1700000000.{"a":1}' | openssl dgst -sha256 -hmac geheim
        assert_eq!(
            sign(b"geheim", "1700000000", r#"{"a":1}"#),
            "c2f0a59f12d0bcd3933234d85083c03b99e970604203fd059a320436bb602adf"
        );
    }
}
