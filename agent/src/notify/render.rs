//! An event as text: a title, sentences, facts; and how much of a text a service takes. What comes out has no secrets and no control characters.

use std::borrow::Cow;

use chrono::{DateTime, Local, Utc};

use super::event::{Digest, Event, EventKind, Level};
use super::redact::Redactor;
use crate::fs::size::human;
use crate::words::count;

/// What stands at the end of a text that is cut.
pub const CUT: &str = " … (cut)";

/// No single text of an event is longer: what a service takes is far less.
const TEXT_BYTES_MAX: usize = 64 << 10;

/// An event as text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rendered {
    /// One line: on which machine, and what.
    pub title: String,
    /// How bad it is.
    pub level: Level,
    /// What, why, what to do: one paragraph each, the first one what happened.
    pub paragraphs: Vec<String>,
    /// What is known beside it: names and values.
    pub facts: Vec<(&'static str, String)>,
}

impl Rendered {
    /// All but the title as plain text.
    pub fn text(&self) -> String {
        let mut text = self.paragraphs.join("\n\n");
        if !self.facts.is_empty() {
            text.push_str("\n\n");
            let facts: Vec<_> = self.facts.iter().map(|(name, value)| format!("{name}: {value}")).collect();
            text.push_str(&facts.join("\n"));
        }
        text
    }
}

/// The event without secrets and control characters: what may leave this machine.
#[must_use]
pub fn scrubbed(event: &Event, redactor: &Redactor) -> Event {
    let clean = |text: &str| clean(&redactor.redact(text));
    let some = |text: &Option<String>| text.as_deref().map(clean);
    let digest = event.digest.as_deref().map(|digest| {
        let each = |events: &[Event]| events.iter().map(|event| scrubbed(event, redactor)).collect();
        let mut successes = digest.successes.clone();
        successes.iter_mut().for_each(|of_source| of_source.source = clean(&of_source.source));
        Box::new(Digest {
            events: each(&digest.events),
            open: each(&digest.open),
            successes,
            ..(*digest).clone()
        })
    });
    Event {
        host: clean(&event.host),
        source: some(&event.source),
        destination: some(&event.destination),
        class: some(&event.class),
        what: clean(&event.what),
        why: some(&event.why),
        code: some(&event.code),
        next_step: some(&event.next_step),
        snapshot: some(&event.snapshot),
        run: some(&event.run),
        digest,
        ..event.clone()
    }
}

/// The text of an event that was [`scrubbed`]. `title` is what every title begins with.
pub fn render(event: &Event, title: &str) -> Rendered {
    let mut paragraphs = vec![event.what.clone()];
    let mut say = |word: &str, text: &Option<String>| {
        if let Some(text) = text {
            paragraphs.push(format!("{word}: {text}"));
        }
    };
    say("Why", &event.why);
    say("Next step", &event.next_step);
    if let Some(digest) = &event.digest {
        paragraphs.extend(sections(digest));
    }
    Rendered {
        title: format!("{}: {}", title, headline(event)),
        level: event.level,
        paragraphs,
        facts: facts(event),
    }
}

/// What happened, in a few words.
pub fn headline(event: &Event) -> String {
    let source = event.source.as_deref();
    let of = source.map_or_else(|| "the backup".to_owned(), |source| format!("the backup of {source}"));
    let at = event.destination.as_deref().map(|name| format!(" at {name}")).unwrap_or_default();
    let place = event.destination.as_deref().unwrap_or("a destination");
    let text = match event.kind {
        EventKind::Started => format!("{of} began"),
        EventKind::Success => format!("{of} is done{at}"),
        EventKind::Incomplete => format!("{of} could not read everything"),
        EventKind::Failure => format!("{of} failed{at}"),
        EventKind::Recovered => recovered(event, &of, place),
        EventKind::Overdue => format!("{of} is overdue{at}"),
        EventKind::StorageWarning => format!("{place} runs out of space"),
        EventKind::Damage => format!("damage was found{at}"),
        EventKind::DestinationBehind => format!("{place} is behind"),
        EventKind::DrillPassed => format!("the restore drill{at} passed"),
        EventKind::DrillFailed => format!("the restore drill{at} failed"),
        EventKind::Test => "a test message".to_owned(),
        EventKind::Digest => match event.digest.as_deref() {
            Some(digest)
                if digest.since.is_none() && digest.successes.is_empty() && digest.open.is_empty() =>
            {
                "messages of the quiet hours".to_owned()
            }
            Some(digest) if !digest.open.is_empty() => {
                format!("digest, {} wrong", count(digest.open.len() as u64, "thing is", "things are"))
            }
            _ => "digest, all is well".to_owned(),
        },
    };
    match event.reminder {
        0 => text,
        number => format!("still: {text} (reminder {number})"),
    }
}

fn recovered(event: &Event, of: &str, place: &str) -> String {
    match event.ended_kind {
        Some(EventKind::StorageWarning) => format!("{place} has space again"),
        Some(EventKind::Damage) => format!("the damage at {place} is mended"),
        Some(EventKind::DestinationBehind) => format!("{place} has caught up"),
        Some(EventKind::DrillFailed) => "the restore drill passes again".to_owned(),
        _ => format!("{of} works again"),
    }
}

fn facts(event: &Event) -> Vec<(&'static str, String)> {
    let mut facts = Vec::new();
    let mut fact = |name, value: Option<String>| facts.extend(value.map(|value| (name, value)));
    fact("Source", event.source.clone());
    fact("Destination", event.destination.clone());
    fact("Class", event.class.clone());
    fact("Last good", event.last_good.map(time).or_else(|| says_never(event)));
    fact("Since", event.since.map(time));
    fact("Snapshot", event.snapshot.clone());
    fact("Duration", event.duration_seconds.map(duration));
    fact("Read", event.bytes_read.map(human));
    fact("Stored", event.bytes_stored.map(human));
    fact("Machine", Some(event.host.clone()));
    fact("Time", Some(time(event.time)));
    fact("Run", event.run.clone());
    facts
}

/// Of what is missing, that there never was one is the news.
fn says_never(event: &Event) -> Option<String> {
    matches!(event.kind, EventKind::Failure | EventKind::Overdue).then(|| "never".to_owned())
}

fn sections(digest: &Digest) -> Vec<String> {
    let mut sections = Vec::new();
    let line = |event: &Event| {
        let why = event.why.as_deref().map(|why| format!(" ({why})")).unwrap_or_default();
        format!(
            "- {}: {}{why}",
            time(event.since.filter(|_| event.kind.lasts()).unwrap_or(event.time)),
            headline(event)
        )
    };
    let mut section = |title: String, lines: Vec<String>| {
        if !lines.is_empty() {
            sections.push(format!("{title}\n{}", lines.join("\n")));
        }
    };
    section("Wrong now, since:".to_owned(), digest.open.iter().map(line).collect());
    let mut events: Vec<String> = digest.events.iter().map(line).collect();
    if digest.events_left_out > 0 {
        events.insert(0, format!("- {} before these", count(digest.events_left_out, "message", "messages")));
    }
    section("Messages:".to_owned(), events);
    let successes = digest.successes.iter().map(|of| {
        let runs = count(of.runs, "run", "runs");
        format!("- {}: {runs}, the last one {}, {} stored", of.source, time(of.last), human(of.bytes_stored))
    });
    section("Good runs:".to_owned(), successes.collect());
    sections
}

/// A time of this machine's zone, with its distance from UTC.
fn time(time: DateTime<Utc>) -> String {
    time.with_timezone(&Local).format("%Y-%m-%d %H:%M %:z").to_string()
}

fn duration(seconds: f64) -> String {
    match seconds as u64 {
        0..60 => format!("{seconds:.1} s"),
        whole @ 60..3600 => format!("{} min {:02} s", whole / 60, whole % 60),
        whole => format!("{} h {:02} min", whole / 3600, whole / 60 % 60),
    }
}

/// The text without characters that would change how what is around it is shown: control characters, and those that turn the direction of writing.
fn clean(text: &str) -> String {
    let mut out = String::with_capacity(text.len().min(TEXT_BYTES_MAX));
    for c in text.chars() {
        if out.len() >= TEXT_BYTES_MAX {
            out.push_str(CUT);
            break;
        }
        match c {
            '\n' | '\t' => out.push(c),
            '\r' => {}
            '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{200e}' | '\u{200f}' | '\u{feff}' => {}
            c if c.is_control() => out.push('\u{fffd}'),
            c => out.push(c),
        }
    }
    out
}

/// How a service counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unit {
    /// UTF-8.
    Bytes,
    /// UTF-16 code units: never fewer than characters, whichever of the two a service means.
    Utf16,
}

impl Unit {
    /// The size of a text.
    pub fn size(self, text: &str) -> usize {
        match self {
            Self::Bytes => text.len(),
            Self::Utf16 => text.encode_utf16().count(),
        }
    }
}

/// As much of `text` as fits into `size_max`, with each character as `escape` writes it. Nothing is cut in the middle of a character or of what
/// stands for one, and what is cut says so.
pub fn fit(text: &str, size_max: usize, unit: Unit, escape: impl Fn(char) -> Cow<'static, str>) -> String {
    let room = size_max.saturating_sub(unit.size(CUT));
    let (mut out, mut size, mut cut_at) = (String::new(), 0, 0);
    for c in text.chars() {
        let piece = escape(c);
        size += unit.size(&piece);
        if size > size_max {
            out.truncate(cut_at);
            out.push_str(CUT);
            return out;
        }
        out.push_str(&piece);
        if size <= room {
            cut_at = out.len();
        }
    }
    out
}

/// Nothing needs an escape.
pub fn plain(c: char) -> Cow<'static, str> {
    Cow::Owned(c.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_that_fits_stays_and_one_that_is_cut_says_so_at_a_whole_character() {
        for unit in [Unit::Bytes, Unit::Utf16] {
            let text = "aé写🦀".repeat(50);
            assert_eq!(fit(&text, unit.size(&text), unit, plain), text);
            for size_max in 10..unit.size(&text) {
                let cut = fit(&text, size_max, unit, plain);
                assert!(unit.size(&cut) <= size_max && unit.size(&cut) + 4 > size_max, "{size_max}: {cut}");
                assert!(text.starts_with(cut.strip_suffix(CUT).unwrap()));
            }
        }
        let escape = |c| if c == '<' { Cow::Borrowed("&lt;") } else { plain(c) };
        for size_max in 10..40 {
            let cut = fit(&"<".repeat(50), size_max, Unit::Bytes, escape);
            assert!(cut.strip_suffix(CUT).unwrap().replace("&lt;", "").is_empty(), "{cut}");
        }
    }

    #[test]
    fn a_name_cannot_draw_over_what_is_around_it() {
        assert_eq!(clean("a\x1b[31m\0\u{202e}b\r\nc"), "a\u{fffd}[31m\u{fffd}b\nc");
        assert!(clean(&"写".repeat(TEXT_BYTES_MAX)).ends_with(CUT));
    }

    #[test]
    fn a_failure_says_what_why_what_to_do_and_what_was_last_good() {
        let mut event = Event::new(EventKind::Failure, "box", DateTime::UNIX_EPOCH, "No snapshot was made.")
            .of_source("db");
        event.why = Some("the disk is full".to_owned());
        event.next_step = Some("Free some space.".to_owned());
        event.last_good = Some(DateTime::UNIX_EPOCH);
        let rendered = render(&event, "Lifeboat on box");
        assert_eq!(rendered.title, "Lifeboat on box: the backup of db failed");
        let text = rendered.text();
        for part in [
            "No snapshot was made.",
            "Why: the disk is full",
            "Next step: Free some",
            "Last good: 19",
            "Source: db",
        ] {
            assert!(text.contains(part), "{part}: {text}");
        }
        event.last_good = None;
        event.reminder = 2;
        let rendered = render(&event, "x");
        assert!(
            rendered.text().contains("Last good: never")
                && rendered.title.contains("still: the backup of db failed (reminder 2)")
        );
    }
}
