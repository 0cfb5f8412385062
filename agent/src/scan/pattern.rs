//! Patterns as in a `.gitignore`, byte for byte as git matches them (`wildmatch.c`, `dir.c`), with one difference: one with a slash
//! inside matches at any depth.
//!
//! Braces mean nothing. Matching never recurses: it goes back to the newest `*`, and from there to the newest `**`. What these have
//! matched before cannot matter any more, so the time is at most the product of the lengths.

use std::fmt::Write as _;

/// A pattern that was understood.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Pattern {
    tokens: Vec<Token>,
    /// `!` in front: what matches is taken back in.
    is_negated: bool,
    /// `/` at the end.
    only_directories: bool,
    /// It is compared with the whole path, not only with the name.
    of_paths: bool,
}

/// Why a pattern is refused, and what to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Bad {
    pub(super) why: String,
    pub(super) hint: Option<&'static str>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Token {
    Byte(u8),
    /// `?`: one byte that is no slash.
    One,
    /// `*`: any bytes but slashes.
    Many,
    /// `**/`: any number of directories, also none.
    Directories,
    /// `**` elsewhere, as a whole part of a path: any bytes.
    Everything,
    /// `[a-z]`: one byte of a set; never a slash.
    Set(Box<Set>),
}

/// A set of bytes: a bit for each.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
struct Set([u64; 4]);

impl Pattern {
    /// Reads a pattern, without a line's end and the blanks before it.
    pub(super) fn parse(text: &[u8]) -> Result<Self, Bad> {
        let (is_negated, body) = match text.strip_prefix(b"!") {
            Some(body) => (true, body),
            None => (false, text),
        };
        let (only_directories, body) = match body.strip_suffix(b"/") {
            Some(body) => (true, body),
            None => (false, body),
        };
        let of_paths = body.contains(&b'/');
        let mut tokens = Vec::new();
        let body = match body.strip_prefix(b"/") {
            Some(body) => body,
            None if of_paths => {
                tokens.push(Token::Directories);
                body
            }
            None => body,
        };
        read_tokens(body, &mut tokens)?;
        Ok(Self { tokens, is_negated, only_directories, of_paths })
    }

    /// Whether it matches a path without a slash in front.
    fn matches(&self, path: &[u8], is_dir: bool) -> bool {
        if self.only_directories && !is_dir {
            return false;
        }
        let name = match path.iter().rposition(|byte| *byte == b'/') {
            Some(slash) if !self.of_paths => path.get(slash + 1..).unwrap_or_default(),
            _ => path,
        };
        matches(&self.tokens, name)
    }
}

/// What the last pattern that matches an absolute path says: `Some(true)` to leave it out, `Some(false)` to take it back in.
pub(super) fn decide(patterns: &[Pattern], path: &[u8], is_dir: bool) -> Option<bool> {
    let path = path.strip_prefix(b"/").unwrap_or(path);
    patterns.iter().rev().find(|pattern| pattern.matches(path, is_dir)).map(|pattern| !pattern.is_negated)
}

fn bad(why: impl Into<String>, hint: Option<&'static str>) -> Bad {
    Bad { why: why.into(), hint }
}

fn read_tokens(body: &[u8], tokens: &mut Vec<Token>) -> Result<(), Bad> {
    let mut rest = body;
    let mut before = None;
    while let Some((&first, tail)) = rest.split_first() {
        rest = tail;
        match first {
            b'*' => {
                let stars = 1 + tail.iter().take_while(|byte| **byte == b'*').count();
                rest = tail.get(stars - 1..).unwrap_or_default();
                let is_part = stars > 1 && matches!(before, None | Some(b'/'));
                match rest {
                    [b'/', after @ ..] if is_part => {
                        tokens.push(Token::Directories);
                        rest = after;
                        before = Some(b'/');
                        continue;
                    }
                    [] | [b'\\', b'/', ..] if is_part => tokens.push(Token::Everything),
                    _ => tokens.push(Token::Many),
                }
            }
            b'?' => tokens.push(Token::One),
            b'\\' => {
                let (&escaped, tail) = tail.split_first().ok_or_else(|| {
                    bad(
                        "ends in a backslash that escapes nothing",
                        Some("Write \\\\ for the character itself."),
                    )
                })?;
                tokens.push(Token::Byte(escaped));
                rest = tail;
                before = Some(escaped);
                continue;
            }
            b'[' => {
                let (set, tail) = read_set(tail)?;
                tokens.push(Token::Set(Box::new(set)));
                rest = tail;
            }
            byte => tokens.push(Token::Byte(byte)),
        }
        before = Some(first);
    }
    Ok(())
}

/// A set after its `[`, and what comes after its `]`.
fn read_set(text: &[u8]) -> Result<(Set, &[u8]), Bad> {
    let unclosed = || bad("has a `[` without its `]`", Some("Write \\[ for the character itself."));
    let (is_negated, mut rest) = match text {
        [b'!' | b'^', tail @ ..] => (true, tail),
        _ => (false, text),
    };
    let mut set = Set::default();
    let mut before: Option<u8> = None;
    // A `]` that comes first is one of the characters.
    let mut is_first = true;
    loop {
        let (&byte, tail) = rest.split_first().ok_or_else(unclosed)?;
        rest = tail;
        before = match (byte, tail, before) {
            (b']', ..) if !is_first => break,
            (b'\\', ..) => {
                let (&escaped, tail) = tail.split_first().ok_or_else(unclosed)?;
                rest = tail;
                set.add(escaped, escaped);
                Some(escaped)
            }
            (b'-', [high, ..], Some(low)) if *high != b']' => {
                let (&high, tail) = match tail {
                    [b'\\', tail @ ..] => tail.split_first(),
                    tail => tail.split_first(),
                }
                .ok_or_else(unclosed)?;
                rest = tail;
                if high < low {
                    return Err(backwards(low, high));
                }
                set.add(low, high);
                None
            }
            (b'[', [b':', named @ ..], _) => {
                let end = named.iter().position(|byte| *byte == b']').ok_or_else(unclosed)?;
                match named.get(..end).and_then(|name| name.strip_suffix(b":")) {
                    Some(name) => {
                        set.add_class(name)?;
                        rest = named.get(end + 1..).unwrap_or_default();
                        None
                    }
                    None => {
                        set.add(byte, byte);
                        Some(byte)
                    }
                }
            }
            _ => {
                set.add(byte, byte);
                Some(byte)
            }
        };
        is_first = false;
    }
    if is_negated {
        set.0.iter_mut().for_each(|bits| *bits = !*bits);
    }
    set.remove(b'/');
    Ok((set, rest))
}

fn backwards(low: u8, high: u8) -> Bad {
    let mut why = String::from("has the range ");
    // Writing into a String cannot fail.
    let _ = write!(why, "{}-{}, which is backwards", low.escape_ascii(), high.escape_ascii());
    bad(why, None)
}

impl Set {
    fn add(&mut self, low: u8, high: u8) {
        for byte in low..=high {
            if let Some(bits) = self.0.get_mut(usize::from(byte >> 6)) {
                *bits |= 1 << (byte & 63);
            }
        }
    }

    fn remove(&mut self, byte: u8) {
        if let Some(bits) = self.0.get_mut(usize::from(byte >> 6)) {
            *bits &= !(1 << (byte & 63));
        }
    }

    fn has(&self, byte: u8) -> bool {
        self.0.get(usize::from(byte >> 6)).is_some_and(|bits| bits >> (byte & 63) & 1 == 1)
    }

    fn add_class(&mut self, name: &[u8]) -> Result<(), Bad> {
        let test: fn(&u8) -> bool = match name {
            b"alnum" => u8::is_ascii_alphanumeric,
            b"alpha" => u8::is_ascii_alphabetic,
            b"blank" => |byte| matches!(byte, b' ' | b'\t'),
            b"cntrl" => u8::is_ascii_control,
            b"digit" => u8::is_ascii_digit,
            b"graph" => u8::is_ascii_graphic,
            b"lower" => u8::is_ascii_lowercase,
            b"print" => |byte| matches!(byte, b' '..=b'~'),
            b"punct" => u8::is_ascii_punctuation,
            b"space" => |byte| matches!(byte, b' ' | b'\t'..=b'\r'),
            b"upper" => u8::is_ascii_uppercase,
            b"xdigit" => u8::is_ascii_hexdigit,
            _ => {
                let name = name.escape_ascii();
                return Err(bad(format!("has a class [:{name}:], which there is not"), None));
            }
        };
        (0..=u8::MAX).filter(test).for_each(|byte| self.add(byte, byte));
        Ok(())
    }
}

/// Where matching goes on after a failure.
#[derive(Clone, Copy)]
struct Retry {
    token: usize,
    at: usize,
}

fn matches(tokens: &[Token], text: &[u8]) -> bool {
    let (mut token, mut at) = (0, 0);
    let mut star: Option<Retry> = None;
    // Of a `**`, and whether it stops at the beginnings of names only.
    let mut stars: Option<(Retry, bool)> = None;
    loop {
        let byte = text.get(at).copied();
        let fits = match (tokens.get(token), byte) {
            (Some(Token::Many), _) => {
                token += 1;
                star = Some(Retry { token, at });
                continue;
            }
            (Some(kind @ (Token::Directories | Token::Everything)), _) => {
                token += 1;
                stars = Some((Retry { token, at }, *kind == Token::Directories));
                star = None;
                continue;
            }
            (None, None) => return true,
            (Some(Token::Byte(wanted)), Some(byte)) => *wanted == byte,
            (Some(Token::One), Some(byte)) => byte != b'/',
            (Some(Token::Set(set)), Some(byte)) => set.has(byte),
            (None, Some(_)) | (Some(_), None) => false,
        };
        if fits {
            token += 1;
            at += 1;
            continue;
        }
        let rest = |from: usize| text.get(from..).unwrap_or_default();
        if let Some(retry) =
            star.as_mut().filter(|retry| rest(retry.at).first().is_some_and(|byte| *byte != b'/'))
        {
            retry.at += 1;
            (token, at) = (retry.token, retry.at);
            continue;
        }
        star = None;
        let Some((retry, at_names)) = &mut stars else { return false };
        let step = if *at_names {
            rest(retry.at).iter().position(|byte| *byte == b'/').map(|slash| slash + 1)
        } else {
            (!rest(retry.at).is_empty()).then_some(1)
        };
        let Some(step) = step else { return false };
        retry.at += step;
        (token, at) = (retry.token, retry.at);
    }
}
