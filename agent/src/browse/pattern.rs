//! Patterns of names and paths: `*`, `?`, `[a-z]`, `[!x]`, `\x`, and `**` for any number of directories.
//!
//! A path is matched name by name on the way down a tree, so that a directory in which nothing can match is never read.

use crate::{Error, Result};

/// Names a pattern may be made of: the states of a match fit 64 bits.
const PARTS_MAX: usize = 63;

/// A pattern that was understood.
#[derive(Debug, Clone)]
pub struct Pattern {
    parts: Vec<Part>,
    ignore_case: bool,
}

/// How far a path matches: bit `n` stands for "the first `n` parts are matched by the path so far".
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct States(u64);

#[derive(Debug, Clone, PartialEq, Eq)]
enum Part {
    /// `**`: any number of names.
    AnyDepth,
    Name(Vec<Token>),
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Token {
    Literal(u8),
    /// `?`: one character, or one byte that is not part of any.
    One,
    /// `*`: anything.
    Many,
    Set {
        negated: bool,
        ranges: Vec<(char, char)>,
    },
}

impl Pattern {
    /// Reads a pattern. Without `/` it is one of names at any depth; with a leading `/` one of whole paths; with a `/`
    /// elsewhere one of the last names of a path.
    ///
    /// # Errors
    /// `Usage` if a bracket is not closed, or it is empty or too long.
    pub fn parse(text: &[u8], ignore_case: bool) -> Result<Self> {
        let text = if ignore_case { fold(text) } else { text.to_vec() };
        let mut parts = Vec::new();
        if text.first() != Some(&b'/') {
            parts.push(Part::AnyDepth);
        }
        for name in text.split(|byte| *byte == b'/').filter(|name| !name.is_empty()) {
            let part = if name == b"**" { Part::AnyDepth } else { Part::Name(tokens(name)?) };
            if part != Part::AnyDepth || parts.last() != Some(&Part::AnyDepth) {
                parts.push(part);
            }
        }
        // Of all patterns only `**` is made of nothing but depth.
        let names_nothing = text.split(|byte| *byte == b'/').all(<[u8]>::is_empty);
        match parts.len() {
            len if len > PARTS_MAX => Err(Error::usage("the pattern has too many parts")),
            _ if names_nothing => {
                Err(Error::usage("the pattern is empty").with_hint("`lifeboat find '*.conf'` finds by name."))
            }
            _ => Ok(Self { parts, ignore_case }),
        }
    }

    /// Where a match begins: at the root.
    pub fn start(&self) -> States {
        self.close(1)
    }

    /// The states after one more name of a path.
    pub fn advance(&self, states: States, name: &[u8]) -> States {
        let folded;
        let name = if self.ignore_case {
            folded = fold(name);
            &folded
        } else {
            name
        };
        let mut next = 0;
        for (number, part) in self.parts.iter().enumerate().filter(|(number, _)| states.0 >> number & 1 == 1)
        {
            match part {
                Part::AnyDepth => next |= 1 << number,
                Part::Name(tokens) if matches(tokens, name) => next |= 1 << (number + 1),
                Part::Name(_) => {}
            }
        }
        self.close(next)
    }

    /// Whether the path so far matches.
    pub fn accepts(&self, states: States) -> bool {
        states.0 >> self.parts.len() & 1 == 1
    }

    /// Whether a path below can still match.
    pub fn goes_on(&self, states: States) -> bool {
        states.0 & ((1 << self.parts.len()) - 1) != 0
    }

    /// `**` may stand for no name at all: `/srv/**` is `/srv` too.
    fn close(&self, mut states: u64) -> States {
        for (number, part) in self.parts.iter().enumerate() {
            if *part == Part::AnyDepth && states >> number & 1 == 1 {
                states |= 1 << (number + 1);
            }
        }
        States(states)
    }
}

fn tokens(name: &[u8]) -> Result<Vec<Token>> {
    let mut tokens = Vec::new();
    let mut rest = name;
    while let Some((&first, tail)) = rest.split_first() {
        rest = tail;
        match first {
            b'*' if tokens.last() == Some(&Token::Many) => {}
            b'*' => tokens.push(Token::Many),
            b'?' => tokens.push(Token::One),
            b'\\' => match tail.split_first() {
                Some((&escaped, tail)) => {
                    tokens.push(Token::Literal(escaped));
                    rest = tail;
                }
                None => tokens.push(Token::Literal(b'\\')),
            },
            b'[' => {
                let (set, tail) = set(tail).ok_or_else(|| {
                    Error::usage("the pattern has a [ without its ]")
                        .with_hint("Write \\[ for the character itself.")
                })?;
                tokens.push(set);
                rest = tail;
            }
            byte => tokens.push(Token::Literal(byte)),
        }
    }
    Ok(tokens)
}

/// A set after its `[`, and what comes after its `]`.
fn set(text: &[u8]) -> Option<(Token, &[u8])> {
    let negated = matches!(text.first(), Some(b'!' | b'^'));
    let body = &text[usize::from(negated)..];
    // A `]` that comes first is one of the characters.
    let end = body.iter().skip(1).position(|byte| *byte == b']')? + 1;
    let chars: Vec<char> = String::from_utf8_lossy(&body[..end]).chars().collect();
    let mut ranges = Vec::new();
    let mut rest = chars.as_slice();
    loop {
        rest = match rest {
            [low, '-', high, tail @ ..] => {
                ranges.push((*low, *high));
                tail
            }
            [one, tail @ ..] => {
                ranges.push((*one, *one));
                tail
            }
            [] => break,
        };
    }
    Some((Token::Set { negated, ranges }, &body[end + 1..]))
}

/// Whether tokens match a whole name. On failure it goes back to the last `*` only, so the time is their product at most.
fn matches(tokens: &[Token], name: &[u8]) -> bool {
    let (mut token, mut at) = (0, 0);
    let mut retry: Option<(usize, usize)> = None;
    loop {
        let step = match tokens.get(token) {
            Some(Token::Many) => {
                retry = Some((token + 1, at));
                token += 1;
                continue;
            }
            Some(wanted) => match_one(wanted, &name[at..]),
            None if at == name.len() => return true,
            None => None,
        };
        match (step, retry) {
            (Some(bytes), _) => {
                token += 1;
                at += bytes;
            }
            (None, Some((after, from))) if from < name.len() => {
                let next = from + char_bytes(&name[from..]);
                retry = Some((after, next));
                (token, at) = (after, next);
            }
            _ => return false,
        }
    }
}

/// How many bytes of the text a token takes; `None` if it does not match.
fn match_one(token: &Token, text: &[u8]) -> Option<usize> {
    let first = *text.first()?;
    match token {
        Token::Literal(byte) => (first == *byte).then_some(1),
        Token::One | Token::Many => Some(char_bytes(text)),
        Token::Set { negated, ranges } => {
            let bytes = char_bytes(text);
            let c = std::str::from_utf8(&text[..bytes]).ok().and_then(|text| text.chars().next());
            let inside = c.is_some_and(|c| ranges.iter().any(|(low, high)| (*low..=*high).contains(&c)));
            (inside != *negated).then_some(bytes)
        }
    }
}

/// Bytes of the first character; 1 where there is none.
fn char_bytes(text: &[u8]) -> usize {
    let bytes = match text.first() {
        Some(0xc2..=0xdf) => 2,
        Some(0xe0..=0xef) => 3,
        Some(0xf0..=0xf4) => 4,
        _ => 1,
    };
    if text.get(..bytes).is_some_and(|text| std::str::from_utf8(text).is_ok()) { bytes } else { 1 }
}

/// Lower case, leaving alone what is not UTF-8.
fn fold(text: &[u8]) -> Vec<u8> {
    if text.is_ascii() {
        return text.to_ascii_lowercase();
    }
    let mut folded = Vec::with_capacity(text.len());
    for chunk in text.utf8_chunks() {
        folded.extend_from_slice(chunk.valid().to_lowercase().as_bytes());
        folded.extend_from_slice(chunk.invalid());
    }
    folded
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hits(pattern: &str, ignore_case: bool, path: &str) -> bool {
        let pattern = Pattern::parse(pattern.as_bytes(), ignore_case).unwrap();
        let mut states = pattern.start();
        for name in path.split('/').filter(|name| !name.is_empty()) {
            states = pattern.advance(states, name.as_bytes());
        }
        pattern.accepts(states)
    }

    #[test]
    fn names_match_at_any_depth() {
        for (pattern, path, expected) in [
            ("*.conf", "/etc/a.conf", true),
            ("*.conf", "/etc/a.confs", false),
            ("a?c", "/x/aéc", true),
            ("a?c", "/x/abbc", false),
            ("[!a-c]x", "/dx", true),
            ("[!a-c]x", "/bx", false),
            ("[]x]", "/]", true),
            ("\\*", "/*", true),
            ("\\*", "/a", false),
            ("*a*b*c", "/xxaxxbxxbxc", true),
            ("*a*b*c", "/xxaxxbxxbx", false),
            ("etc", "/etc/passwd", false),
        ] {
            assert_eq!(hits(pattern, false, path), expected, "{pattern} {path}");
        }
        assert!(hits("ÄB*", true, "/x/äbc"));
        assert!(!hits("ÄB*", false, "/x/äbc"));
    }

    #[test]
    fn paths_match_whole_or_at_their_end() {
        for (pattern, path, expected) in [
            ("/etc/*.conf", "/etc/a.conf", true),
            ("/etc/*.conf", "/x/etc/a.conf", false),
            ("/etc/*.conf", "/etc/x/a.conf", false),
            ("etc/*.conf", "/x/etc/a.conf", true),
            ("/srv/**/x", "/srv/x", true),
            ("/srv/**/x", "/srv/a/b/x", true),
            ("/srv/**/x", "/srvx/x", false),
            ("/srv/**", "/srv/a/b", true),
            ("**/a/**/b", "/q/a/z/b", true),
        ] {
            assert_eq!(hits(pattern, false, path), expected, "{pattern} {path}");
        }
    }

    #[test]
    fn directories_where_nothing_can_match_are_known() {
        let pattern = Pattern::parse(b"/srv/*/x", false).unwrap();
        let srv = pattern.advance(pattern.start(), b"srv");
        assert!(pattern.goes_on(srv));
        assert!(!pattern.goes_on(pattern.advance(pattern.start(), b"etc")));
        assert!(!pattern.goes_on(pattern.advance(pattern.advance(srv, b"a"), b"x")));
    }

    #[test]
    fn bad_patterns_are_refused() {
        assert!(Pattern::parse(b"[a", false).is_err());
        assert!(Pattern::parse(b"/", false).is_err());
        assert!(Pattern::parse(b"", false).is_err());
        assert!(Pattern::parse(b"**", false).is_ok());
        assert!(Pattern::parse("a/".repeat(80).as_bytes(), false).is_err());
    }
}
