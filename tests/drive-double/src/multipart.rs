//! Bodies of `multipart/related`: the metadata as JSON, then the content.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use memchr::memmem;

/// One part of a body.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Part {
    pub(crate) content_type: Option<String>,
    pub(crate) content: Bytes,
}

/// The boundary that a `Content-Type` names.
pub(crate) fn boundary(content_type: &str) -> Option<String> {
    let (kind, parameters) = content_type.split_once(';')?;
    if !kind.trim().eq_ignore_ascii_case("multipart/related") {
        return None;
    }
    parameters.split(';').find_map(|parameter| {
        let (name, value) = parameter.split_once('=')?;
        let value = value.trim().trim_matches('"');
        (name.trim().eq_ignore_ascii_case("boundary") && !value.is_empty()).then(|| value.to_owned())
    })
}

/// The parts of a body. Lines may end with CRLF, or all of them with LF alone, as Python's e-mail package writes
/// them; the way the first boundary ends decides.
///
/// # Errors
/// What is missing, in words for the log.
pub(crate) fn parts(body: &Bytes, boundary: &str) -> Result<Vec<Part>, String> {
    let opening = format!("--{boundary}");
    let start = if body.starts_with(opening.as_bytes()) {
        0
    } else {
        let line = format!("\n{opening}");
        memmem::find(body, line.as_bytes()).map(|at| at + 1).ok_or("no boundary")?
    };
    let mut at = start + opening.len();
    let newline: &[u8] = if body[at..].starts_with(b"\r\n") { b"\r\n" } else { b"\n" };
    let delimiter = [newline, opening.as_bytes()].concat();
    let finder = memmem::Finder::new(&delimiter);
    let mut parts = Vec::new();
    loop {
        let rest = &body[at..];
        if rest.starts_with(b"--") {
            return Ok(parts);
        }
        if !rest.starts_with(newline) {
            return Err("a boundary that is no line of its own".to_owned());
        }
        // The newline after the boundary may be the one before the next boundary: an empty part.
        let end = at + finder.find(rest).ok_or("no closing boundary")?;
        let inner = body.slice((at + newline.len()).min(end)..end);
        parts.push(part(&inner, newline)?);
        at = end + delimiter.len();
    }
}

fn part(inner: &Bytes, newline: &[u8]) -> Result<Part, String> {
    let blank = [newline, newline].concat();
    let (head, content) = if inner.starts_with(newline) {
        (Bytes::new(), inner.slice(newline.len()..))
    } else {
        let at = memmem::find(inner, &blank).ok_or("a part without a blank line after its headers")?;
        (inner.slice(..at), inner.slice(at + blank.len()..))
    };
    let head = std::str::from_utf8(&head).map_err(|_| "headers of a part that are no text")?;
    let header = |name: &str| {
        head.lines().find_map(|line| {
            let (key, value) = line.split_once(':')?;
            key.trim().eq_ignore_ascii_case(name).then(|| value.trim().to_owned())
        })
    };
    let content = match header("content-transfer-encoding").as_deref() {
        Some(encoding) if encoding.eq_ignore_ascii_case("base64") => {
            let text: Vec<u8> = content.iter().copied().filter(|byte| !byte.is_ascii_whitespace()).collect();
            STANDARD.decode(text).map_err(|error| format!("base64 of a part: {error}"))?.into()
        }
        _ => content,
    };
    Ok(Part { content_type: header("content-type"), content })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(body: &[u8]) -> Result<Vec<Part>, String> {
        parts(&Bytes::copy_from_slice(body), "b")
    }

    #[test]
    fn both_newlines_and_binary_content() {
        let body = b"--b\r\nContent-Type: application/json\r\n\r\n{}\r\n--b\r\ncontent-type:x/y\r\n\r\n\r\n\n--\x00\r\r\n--b--\r\n";
        let read_parts = read(body).unwrap();
        assert_eq!(read_parts.len(), 2);
        assert_eq!(read_parts[0].content, "{}");
        assert_eq!(read_parts[1].content_type.as_deref(), Some("x/y"));
        assert_eq!(&read_parts[1].content[..], b"\r\n\n--\x00\r");

        let body = b"--b\nContent-Type: application/json\n\n{}\n--b\nA: b\n\nends with \r\n--b--";
        assert_eq!(&read(body).unwrap()[1].content[..], b"ends with \r");
    }

    #[test]
    fn empty_parts_and_base64() {
        let body = b"--b\r\n\r\n\r\n--b\r\nContent-Transfer-Encoding: base64\r\n\r\naGVs\r\nbG8=\r\n--b--";
        let read_parts = read(body).unwrap();
        assert_eq!(read_parts[0].content, "");
        assert_eq!(read_parts[1].content, "hello");
    }

    #[test]
    fn broken_bodies_are_refused() {
        for body in [
            "",
            "--b",
            "--b\r\n",
            "--b\r\nA: b\r\n--b--",
            "--b\r\n\r\nx",
            "--bx\r\n\r\n--b--",
            "--c\r\n\r\n--c--",
        ] {
            assert!(read(body.as_bytes()).is_err(), "{body:?} was understood");
        }
    }

    #[test]
    fn boundaries_of_headers() {
        assert_eq!(boundary("multipart/related; boundary=abc"), Some("abc".to_owned()));
        assert_eq!(boundary("Multipart/Related; type=x; boundary=\"a b\""), Some("a b".to_owned()));
        assert_eq!(boundary("multipart/form-data; boundary=abc"), None);
        assert_eq!(boundary("multipart/related"), None);
        assert_eq!(boundary("multipart/related; boundary="), None);
    }
}
