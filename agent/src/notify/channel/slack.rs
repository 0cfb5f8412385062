//! Slack: blocks by an incoming webhook.
//!
//! Limits (Slack's reference of block kit): header 150, text of a section 3000, 10 fields of a section with 2000 each, 50 blocks.

use std::borrow::Cow;

use serde_json::{Value, json};

use super::super::event::Level;
use super::super::render::{Rendered, Unit, fit, plain};

const HEADER_MAX: usize = 150;
const SECTION_MAX: usize = 3000;
const FIELDS_MAX: usize = 10;
const FIELD_MAX: usize = 2000;
const BLOCKS_MAX: usize = 50;

/// The body of the request.
pub fn body(rendered: &Rendered) -> Value {
    let title = rendered.title.replace(['\n', '\t'], " ");
    let sign = match rendered.level {
        Level::Info => "",
        Level::Warning => "Warning: ",
        Level::Error => "Error: ",
    };
    let mut blocks = vec![json!({ "type": "header", "text": text(&format!("{sign}{title}"), HEADER_MAX) })];
    let facts: Vec<_> =
        rendered.facts.iter().map(|(name, value)| text(&format!("{name}: {value}"), FIELD_MAX)).collect();
    let fields = facts.chunks(FIELDS_MAX).map(|fields| json!({ "type": "section", "fields": fields }));
    let room = BLOCKS_MAX - blocks.len() - fields.len();
    let sections = rendered.paragraphs.iter().filter(|paragraph| !paragraph.trim().is_empty());
    blocks.extend(
        sections
            .take(room)
            .map(|paragraph| json!({ "type": "section", "text": text(paragraph, SECTION_MAX) })),
    );
    blocks.extend(fields);
    json!({
        // What is shown where blocks are not, as in the notice on a phone.
        "text": fit(&title, SECTION_MAX, Unit::Utf16, escape),
        "mrkdwn": false,
        "link_names": false,
        "parse": "none",
        "unfurl_links": false,
        "unfurl_media": false,
        "blocks": blocks,
    })
}

/// Plain text: neither markup nor mentions mean anything in it.
fn text(text: &str, size_max: usize) -> Value {
    json!({ "type": "plain_text", "emoji": false, "text": fit(text, size_max, Unit::Utf16, escape) })
}

/// The three characters that Slack wants to be escaped everywhere; mentions begin with one of them.
fn escape(c: char) -> Cow<'static, str> {
    match c {
        '&' => Cow::Borrowed("&amp;"),
        '<' => Cow::Borrowed("&lt;"),
        '>' => Cow::Borrowed("&gt;"),
        '@' => Cow::Borrowed("@\u{200b}"),
        c => plain(c),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_limits_hold_whatever_the_texts_are() {
        for letter in ["a", "é", "🦀", "<", "&"] {
            let long = letter.repeat(9000);
            let rendered = Rendered {
                title: long.clone(),
                level: Level::Error,
                paragraphs: vec![long.clone(); 80],
                facts: vec![("Name", long.clone()); 25],
            };
            let body = body(&rendered);
            let blocks = body["blocks"].as_array().unwrap();
            assert_eq!(blocks.len(), 50);
            let size = |value: &Value| Unit::Utf16.size(value["text"].as_str().unwrap());
            assert!(size(&blocks[0]["text"]) <= 150);
            for block in blocks {
                assert!(block["text"].is_null() || size(&block["text"]) <= 3000);
                let fields = block["fields"].as_array().cloned().unwrap_or_default();
                assert!(fields.len() <= 10 && fields.iter().all(|field| size(field) <= 2000));
            }
            assert_eq!(blocks.iter().filter(|block| !block["fields"].is_null()).count(), 3, "facts stay");
        }
    }

    #[test]
    fn a_file_name_calls_nobody() {
        let rendered = Rendered {
            title: "<!channel>".to_owned(),
            level: Level::Info,
            paragraphs: vec!["<@U123> & @here".to_owned()],
            facts: vec![],
        };
        let text = body(&rendered).to_string();
        assert!(!text.contains("<!") && !text.contains("<@") && !text.contains("@here"), "{text}");
        assert!(text.contains("&lt;!channel&gt;") && text.contains(" &amp; "), "{text}");
    }
}
