//! A small HTTP client for servers on this machine: one request, one connection, the whole answer in memory.
//!
//! For administration, health and plain checks; what is under test has a client of its own.

use std::io::{self, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

/// No server on this machine takes as long for what is asked here; a hang must not stop the whole run.
const TIMEOUT: Duration = Duration::from_secs(30);

/// What a server said.
#[derive(Debug, Clone)]
pub struct Answer {
    /// The status code.
    pub status: u16,
    /// Header lines, names in lower case.
    pub headers: Vec<(String, String)>,
    /// The body, with transfer encoding removed.
    pub body: Vec<u8>,
    /// The connection ended before the body did.
    pub is_cut: bool,
}

impl Answer {
    /// The first header of that name (in lower case).
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }

    /// The body as text.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// The body as JSON.
    #[track_caller]
    pub fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|e| panic!("{e}: {}", self.text()))
    }

    /// Panics unless the status is that of a success.
    #[track_caller]
    pub fn success(self) -> Self {
        assert!((200..300).contains(&self.status), "status {}: {}", self.status, self.text());
        self
    }
}

/// Sends a request and reads the answer to its end.
///
/// `target` is the path with the query, as it goes over the line. `Host`, `Content-Length` and `Connection` are added.
///
/// # Errors
/// Nobody listens, the connection broke before a whole head of an answer had come, or the answer is no HTTP.
pub fn request(
    server: SocketAddr,
    method: &str,
    target: &str,
    headers: &[(&str, &str)],
    body: &[u8],
) -> io::Result<Answer> {
    let mut stream = TcpStream::connect_timeout(&server, TIMEOUT)?;
    stream.set_read_timeout(Some(TIMEOUT))?;
    stream.set_write_timeout(Some(TIMEOUT))?;
    let mut head = format!("{method} {target} HTTP/1.1\r\nHost: {server}\r\nConnection: close\r\n");
    for (name, value) in headers {
        head += &format!("{name}: {value}\r\n");
    }
    head += &format!("Content-Length: {}\r\n\r\n", body.len());
    stream.write_all(head.as_bytes())?;
    stream.write_all(body)?;
    let mut received = Vec::new();
    // A reset after the head is a cut answer, which some tests want to see.
    let ended = stream.read_to_end(&mut received);
    match parse(&received, method) {
        Some(answer) => Ok(answer),
        None => Err(ended.err().unwrap_or_else(|| io::ErrorKind::UnexpectedEof.into())),
    }
}

/// The answer in `received`; `None` if not even its head is there.
fn parse(received: &[u8], method: &str) -> Option<Answer> {
    let end = received.windows(4).position(|window| window == b"\r\n\r\n")?;
    let head = std::str::from_utf8(received.get(..end)?).ok()?;
    let mut lines = head.split("\r\n");
    let status = lines.next()?.split(' ').nth(1)?.parse().ok()?;
    let header = |line: &str| {
        let (name, value) = line.split_once(':')?;
        Some((name.to_ascii_lowercase(), value.trim().to_owned()))
    };
    let headers: Vec<_> = lines.filter_map(header).collect();
    let mut answer = Answer { status, headers, body: received.get(end + 4..)?.to_vec(), is_cut: false };
    if answer.header("transfer-encoding").is_some_and(|value| value.eq_ignore_ascii_case("chunked")) {
        (answer.body, answer.is_cut) = unchunked(&answer.body);
    } else if let Some(length) = answer.header("content-length").and_then(|value| value.parse().ok()) {
        answer.is_cut = method != "HEAD" && answer.body.len() < length;
        answer.body.truncate(length);
    }
    Some(answer)
}

/// The bytes of a chunked body, and whether its end is missing.
fn unchunked(mut rest: &[u8]) -> (Vec<u8>, bool) {
    let mut body = Vec::new();
    while let Some(end) = rest.windows(2).position(|window| window == b"\r\n") {
        let line = String::from_utf8_lossy(&rest[..end]);
        let Ok(length) = usize::from_str_radix(line.split(';').next().unwrap_or_default().trim(), 16) else {
            break;
        };
        rest = &rest[end + 2..];
        if length == 0 {
            return (body, false);
        }
        if rest.len() < length + 2 {
            body.extend_from_slice(&rest[..length.min(rest.len())]);
            break;
        }
        body.extend_from_slice(&rest[..length]);
        rest = &rest[length + 2..];
    }
    (body, true)
}
