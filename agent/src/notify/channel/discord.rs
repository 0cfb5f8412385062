//! Discord: one embed by a channel's webhook.
//!
//! Limits (Discord's documentation of the embed object): title 256, description 4096, 25 fields with 256 for the name and 1024 for the value, 6000 in all.

use std::borrow::Cow;

use chrono::TimeDelta;
use serde_json::{Value, json};

use super::super::event::{Event, Level};
use super::super::http::seconds_of;
use super::super::render::{Rendered, Unit, fit, plain};

const TITLE_MAX: usize = 256;
const DESCRIPTION_MAX: usize = 4096;
const FIELDS_MAX: usize = 25;
const FIELD_MAX: usize = 1024;
/// Title, description, names and values of fields together.
const TOTAL_MAX: usize = 6000;

/// The body of the request.
pub fn body(event: &Event, rendered: &Rendered) -> Value {
    let title = fit(&rendered.title.replace(['\n', '\t'], " "), TITLE_MAX, Unit::Utf16, escape);
    let mut left = TOTAL_MAX - Unit::Utf16.size(&title);
    let text = rendered.paragraphs.join("\n\n");
    let description = fit(&text, DESCRIPTION_MAX.min(left), Unit::Utf16, escape);
    left -= Unit::Utf16.size(&description);
    let mut fields = Vec::new();
    for (name, value) in rendered.facts.iter().filter(|(_, value)| !value.trim().is_empty()).take(FIELDS_MAX)
    {
        let value = fit(value, FIELD_MAX, Unit::Utf16, escape);
        let size = Unit::Utf16.size(name) + Unit::Utf16.size(&value);
        // A shorter one that comes later may fit.
        if size <= left {
            left -= size;
            fields.push(json!({ "name": name, "value": value, "inline": true }));
        }
    }
    json!({
        // Nobody is called by what a file is named.
        "allowed_mentions": { "parse": [] },
        "embeds": [{
            "title": title,
            "description": description,
            "color": color(rendered.level),
            "timestamp": event.time.to_rfc3339(),
            "fields": fields,
        }],
    })
}

const fn color(level: Level) -> u32 {
    match level {
        Level::Info => 0x2e_9e_5b,
        Level::Warning => 0xe0_a1_00,
        Level::Error => 0xc8_33_2b,
    }
}

/// Backslashes before what Discord takes for markup; a mention is broken up by a character of no width.
fn escape(c: char) -> Cow<'static, str> {
    match c {
        '@' => Cow::Borrowed("@\u{200b}"),
        '\\' | '*' | '_' | '~' | '`' | '|' | '>' | '<' | '[' | ']' | '(' | ')' | '#' => {
            Cow::Owned(format!("\\{c}"))
        }
        c => plain(c),
    }
}

/// Discord says in the body, too, how long it wants to be left alone.
pub fn wait_in_body(body: &str) -> Option<TimeDelta> {
    seconds_of(serde_json::from_str::<Value>(body).ok()?.get("retry_after")?.as_f64()?)
}

#[cfg(test)]
mod tests {
    use chrono::Utc;

    use super::*;
    use crate::notify::event::EventKind;
    use crate::notify::render::{CUT, render};

    fn embed(event: &Event, title: &str) -> Value {
        body(event, &render(event, title))["embeds"][0].clone()
    }

    fn size(value: &Value) -> usize {
        Unit::Utf16.size(value.as_str().unwrap())
    }

    #[test]
    fn all_limits_hold_whatever_the_texts_are() {
        for letter in ["a", "é", "写", "🦀", "*", "@"] {
            let long = letter.repeat(9000);
            let mut event = Event::new(EventKind::Failure, &long, Utc::now(), &long)
                .of_source(&long)
                .at_destination(&long);
            (event.why, event.class, event.snapshot, event.run) =
                (Some(long.clone()), Some(long.clone()), Some(long.clone()), Some(long.clone()));
            let embed = embed(&event, &long);
            assert!(size(&embed["title"]) <= 256 && size(&embed["description"]) <= 4096);
            assert!(embed["title"].as_str().unwrap().ends_with(CUT));
            let fields = embed["fields"].as_array().unwrap();
            assert!(!fields.is_empty() && fields.len() <= 25);
            assert!(fields.iter().all(|field| size(&field["value"]) <= 1024));
            let total: usize = fields.iter().map(|field| size(&field["name"]) + size(&field["value"])).sum();
            assert!(total + size(&embed["title"]) + size(&embed["description"]) <= 6000);
        }
    }

    #[test]
    fn a_file_name_calls_nobody_and_draws_nothing() {
        let event =
            Event::new(EventKind::Failure, "h", Utc::now(), "@everyone <@123> **x** [a](http://b) `c`");
        let body = body(&event, &render(&event, "t"));
        assert_eq!(body["allowed_mentions"], json!({ "parse": [] }));
        let text = body["embeds"][0]["description"].as_str().unwrap();
        assert!(!text.contains("@everyone") && !text.contains("<@1") && !text.contains("]("), "{text}");
        assert!(text.contains("\\*\\*x\\*\\*") && text.contains("\\`c\\`"), "{text}");
    }
}
