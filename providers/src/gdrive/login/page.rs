//! The one page of the sign-in: reads what the browser brings, writes what it shows.

use zeroize::Zeroizing;

use crate::gdrive::error::presentable;

/// What the browser brought.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Redirect {
    /// What is exchanged for tokens.
    Code(Zeroizing<String>),
    /// Google's word for why there is none.
    Refused(String),
}

/// Whether the head of a request is there.
pub(super) fn is_complete(request: &[u8]) -> bool {
    request.windows(4).any(|end| end == b"\r\n\r\n")
}

/// Reads a request; `None` for one that is not Google's answer to this sign-in.
pub(super) fn read(request: &[u8], state: &str) -> Option<Redirect> {
    let line = request.split(|byte| *byte == b'\r').next()?;
    let target = std::str::from_utf8(line).ok()?.strip_prefix("GET ")?.split(' ').next()?;
    let (path, query) = target.split_once('?')?;
    if path != "/" {
        return None;
    }
    let (mut code, mut error, mut is_ours) = (None, None, false);
    for (name, value) in url::form_urlencoded::parse(query.as_bytes()) {
        match name.as_ref() {
            "code" => code = Some(Zeroizing::new(value.into_owned())),
            "error" => error = Some(presentable(&value)),
            "state" => is_ours = value == state,
            _ => {}
        }
    }
    if !is_ours {
        return None;
    }
    error.map(Redirect::Refused).or_else(|| code.map(Redirect::Code))
}

/// The answer to a request.
pub(super) fn write(redirect: Option<&Redirect>) -> String {
    let (status, text) = match redirect {
        Some(Redirect::Code(_)) => ("200 OK", "Lifeboat has what it needs. You can close this page."),
        Some(Redirect::Refused(_)) => ("200 OK", "The sign-in was refused. You can close this page."),
        None => ("404 Not Found", "There is nothing here."),
    };
    let page = format!("<!doctype html><meta charset=utf-8><title>Lifeboat</title><p>{text}</p>\n");
    format!(
        "HTTP/1.1 {status}\r\nContent-Type: text/html; charset=utf-8\r\nContent-Length: {}\r\nCache-Control: no-store\r\n\
         Connection: close\r\n\r\n{page}",
        page.len()
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_google_s_answer_to_this_sign_in_counts() {
        let code = |text: &str| Some(Redirect::Code(Zeroizing::new(text.to_owned())));
        let line = |target: &str| format!("GET {target} HTTP/1.1\r\nHost: x\r\n\r\n");
        assert_eq!(read(line("/?code=4%2Fa&state=s&scope=x").as_bytes(), "s"), code("4/a"));
        let refused = Some(Redirect::Refused("access_denied".to_owned()));
        assert_eq!(read(line("/?error=access_denied&state=s").as_bytes(), "s"), refused);
        for foreign in ["/?code=a", "/?code=a&state=t", "/", "/favicon.ico", "/x?code=a&state=s", "/?state=s"]
        {
            assert_eq!(read(line(foreign).as_bytes(), "s"), None, "{foreign}");
        }
        for nonsense in [&b""[..], b"\r\n\r\n", b"GET", b"POST /?code=a&state=s HTTP/1.1", b"\xff\xfe\r\n"] {
            assert_eq!(read(nonsense, "s"), None);
        }
        assert!(!write(code("4/secret").as_ref()).contains("secret"));
    }
}
