//! healthchecks.io, and what speaks as it does: a ping when a run begins (`/start`), when it ends well (the URL itself) and when it fails (`/fail`), with
//! the run's id, so that the service knows how long it took. Who never hears the ping of a good run gives the alarm, also when this machine is gone.
//!
//! Pings say nothing but that, unless `details` is set: then their body is what a message would be, and never a log. The service takes 100 kB.

use percent_encoding::{AsciiSet, CONTROLS, utf8_percent_encode};

use super::super::event::{Event, EventKind};
use super::super::http::{self, Request};
use super::super::render::{Rendered, Unit, fit, plain};
use super::super::settings::Address;
use crate::Result;

const BODY_BYTES_MAX: usize = 100_000;

/// What cannot stand in one part of a path.
const PART: &AsciiSet = &CONTROLS
    .add(b' ')
    .add(b'"')
    .add(b'#')
    .add(b'%')
    .add(b'/')
    .add(b'<')
    .add(b'>')
    .add(b'?')
    .add(b'`')
    .add(b'{')
    .add(b'}')
    .add(b'\\');

/// What stands in the URL for the name of the source.
pub const SOURCE: &str = "{source}";

/// The request.
///
/// # Errors
/// `Usage` for a URL that means nothing.
pub fn request(
    url: &str,
    address: &Address,
    details: bool,
    event: &Event,
    rendered: &Rendered,
    channel: &str,
) -> Result<Request> {
    let source = event.source.as_deref().unwrap_or("test");
    let url = url.trim().replace(SOURCE, &utf8_percent_encode(source, PART).to_string());
    let mut url = http::checked_url(&url, &format!("the URL of channel {channel}"), address.allow_plain)?;
    let end = match event.kind {
        EventKind::Started => Some("start"),
        // A snapshot that lacks something is not what was promised, and such a service knows only two outcomes.
        EventKind::Failure | EventKind::Incomplete => Some("fail"),
        EventKind::Success => None,
        // Whatever is no outcome of a run must not be taken for one.
        _ => Some("log"),
    };
    if let (Some(end), Ok(mut parts)) = (end, url.path_segments_mut()) {
        parts.pop_if_empty().push(end);
    }
    if let Some(run) = event.run.as_deref().filter(|run| is_uuid(run)) {
        url.query_pairs_mut().append_pair("rid", run);
    }
    let body = match details || event.kind == EventKind::Test {
        true => {
            fit(&format!("{}\n\n{}", rendered.title, rendered.text()), BODY_BYTES_MAX, Unit::Bytes, plain)
        }
        false => String::new(),
    };
    Ok(Request { url, headers: Vec::new(), content_type: "text/plain; charset=utf-8", body })
}

/// The service refuses pings with another run id.
fn is_uuid(text: &str) -> bool {
    let parts: Vec<&str> = text.split('-').collect();
    parts.iter().map(|part| part.len()).eq([8, 4, 4, 4, 12])
        && parts.iter().all(|part| part.bytes().all(|c| c.is_ascii_hexdigit()))
}

#[cfg(test)]
mod tests {
    use chrono::Utc;

    use super::*;
    use crate::notify::render::render;

    fn url(base: &str, kind: EventKind, run: Option<&str>) -> String {
        let mut event = Event::new(kind, "box", Utc::now(), "so").of_source("my db/é");
        event.run = run.map(str::to_owned);
        let url = crate::config::SecretValue::Environment("unused".to_owned());
        let address = Address { url, allow_plain: false };
        let request = request(base, &address, false, &event, &render(&event, "t"), "c").unwrap();
        assert!(request.body.is_empty());
        request.url.to_string()
    }

    #[test]
    fn each_outcome_has_its_url() {
        let base = "https://hc-ping.com/0aae2bcc-5fc7-4f05-b5d8-7f8b0c4a1d11";
        let run = "123e4567-e89b-12d3-a456-426614174000";
        assert_eq!(url(base, EventKind::Success, None), base);
        assert_eq!(url(base, EventKind::Incomplete, None), format!("{base}/fail"));
        assert_eq!(url(base, EventKind::Failure, Some("7")), format!("{base}/fail"));
        assert_eq!(url(base, EventKind::Started, Some(run)), format!("{base}/start?rid={run}"));
        assert_eq!(
            url("https://hc.example/ping/key/{source}/", EventKind::Failure, None),
            "https://hc.example/ping/key/my%20db%2F%C3%A9/fail"
        );
    }
}
