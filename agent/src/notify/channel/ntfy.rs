//! ntfy: JSON to the root of the server, with the topic, which is the last part of the configured URL.
//!
//! The server takes 4096 bytes of a message; more would become a file that somebody has to open.

use http::header::{AUTHORIZATION, HeaderValue};
use serde_json::json;

use super::super::event::Level;
use super::super::http::Request;
use super::super::render::{Rendered, Unit, fit, plain};
use super::Prepared;
use crate::{Error, Result};

const MESSAGE_BYTES_MAX: usize = 4096;
const TITLE_BYTES_MAX: usize = 250;

/// The request.
///
/// # Errors
/// `Usage` for a URL without a topic, or a token that cannot be sent.
pub fn request(topic_url: url::Url, prepared: &Prepared<'_>, rendered: &Rendered) -> Result<Request> {
    let name = &prepared.channel.name;
    let (url, topic) = split(topic_url).ok_or_else(|| {
        Error::usage(format_args!("the URL of channel {name} names no topic"))
            .with_hint("Write https://ntfy.sh/TOPIC.")
    })?;
    let (priority, tag) = match rendered.level {
        Level::Info => (3, "white_check_mark"),
        Level::Warning => (4, "warning"),
        Level::Error => (5, "rotating_light"),
    };
    let body = json!({
        "topic": topic,
        "title": fit(&rendered.title.replace(['\n', '\t'], " "), TITLE_BYTES_MAX, Unit::Bytes, plain),
        "message": fit(&rendered.text(), MESSAGE_BYTES_MAX, Unit::Bytes, plain),
        "priority": priority,
        "tags": [tag],
    });
    let mut headers = Vec::new();
    if let Some(token) = &prepared.secret {
        let mut value = HeaderValue::from_str(&format!("Bearer {}", token.as_str())).map_err(|_| {
            Error::usage(format_args!("the token of channel {name} has characters that no token has"))
        })?;
        value.set_sensitive(true);
        headers.push((AUTHORIZATION, value));
    }
    Ok(Request { url, headers, content_type: "application/json", body: body.to_string() })
}

/// The root and the topic of `https://host/root/topic`.
fn split(mut url: url::Url) -> Option<(url::Url, String)> {
    let topic = url.path_segments()?.rfind(|part| !part.is_empty())?;
    let topic = percent_encoding::percent_decode_str(topic).decode_utf8().ok()?.into_owned();
    url.path_segments_mut().ok()?.pop_if_empty().pop().push("");
    Some((url, topic))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_part_of_the_path_is_the_topic() {
        for (text, root, topic) in [
            ("https://ntfy.sh/alerts", "https://ntfy.sh/", "alerts"),
            ("https://ntfy.sh/alerts/", "https://ntfy.sh/", "alerts"),
            ("http://box:8080/ntfy/al%C3%A9?a=b", "http://box:8080/ntfy/?a=b", "alé"),
        ] {
            let (url, found) = split(text.parse().unwrap()).unwrap();
            assert_eq!((url.as_str(), found.as_str()), (root, topic));
        }
        assert!(split("https://ntfy.sh/".parse().unwrap()).is_none());
    }
}
