//! Finds the requests in what a client sends over a connection of HTTP/1.1, without holding up the bytes.

/// The longest head that is looked at; what is longer is no request of a backup tool.
const HEAD_BYTES_MAX: usize = 64 << 10;

/// The beginning of a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Head {
    /// `GET`, `PUT` and so on.
    pub method: String,
    /// Path and query.
    pub target: String,
}

enum State {
    /// In a head, of which this is known so far.
    Head(Vec<u8>),
    /// In a body of which so many bytes are to come.
    Body(u64),
    /// In the line that says how long the next chunk is.
    ChunkSize(Vec<u8>),
    /// In a chunk of which so many bytes are to come, its line end included.
    Chunk(u64),
    /// In the lines after the last chunk.
    Trailer(Vec<u8>),
    /// It is no HTTP, or none that is understood.
    Opaque,
}

/// Follows one direction of one connection.
pub struct Scanner {
    state: State,
}

impl Scanner {
    /// At the beginning of a connection.
    pub fn new() -> Self {
        Self { state: State::Head(Vec::new()) }
    }

    /// Takes the next bytes; returns the requests whose head ends in them.
    pub fn feed(&mut self, mut bytes: &[u8]) -> Vec<Head> {
        let mut found = Vec::new();
        while let Some((&byte, rest)) = bytes.split_first() {
            match &mut self.state {
                State::Body(left) | State::Chunk(left) => {
                    let taken = (*left).min(bytes.len() as u64);
                    *left -= taken;
                    bytes = &bytes[taken as usize..];
                    if *left == 0 {
                        let is_chunk = matches!(self.state, State::Chunk(_));
                        self.state =
                            if is_chunk { State::ChunkSize(Vec::new()) } else { State::Head(Vec::new()) };
                    }
                    continue;
                }
                State::Opaque => return found,
                State::Head(head) => {
                    head.push(byte);
                    if head.ends_with(b"\r\n\r\n") {
                        let (request, state) = understood(head);
                        found.extend(request);
                        self.state = state;
                    } else if head.len() > HEAD_BYTES_MAX {
                        self.state = State::Opaque;
                    }
                }
                State::ChunkSize(line) => {
                    line.push(byte);
                    if line.ends_with(b"\r\n") {
                        self.state = match chunk_size(line) {
                            Some(0) => State::Trailer(Vec::new()),
                            Some(size) => State::Chunk(size.saturating_add(2)),
                            None => State::Opaque,
                        };
                    }
                }
                State::Trailer(line) => {
                    line.push(byte);
                    if line == b"\r\n" {
                        self.state = State::Head(Vec::new());
                    } else if line.ends_with(b"\r\n") {
                        line.clear();
                    }
                }
            }
            bytes = rest;
        }
        found
    }
}

/// The request of a head, and what follows it.
fn understood(head: &[u8]) -> (Option<Head>, State) {
    let text = String::from_utf8_lossy(head);
    let mut lines = text.split("\r\n");
    let mut words = lines.next().unwrap_or_default().split(' ');
    let (Some(method), Some(target), Some("HTTP/1.1" | "HTTP/1.0")) =
        (words.next(), words.next(), words.next())
    else {
        return (None, State::Opaque);
    };
    let request = Head { method: method.to_owned(), target: target.to_owned() };
    let mut state = State::Head(Vec::new());
    for (name, value) in lines.filter_map(|line| line.split_once(':')) {
        if name.eq_ignore_ascii_case("content-length") {
            match value.trim().parse() {
                Ok(0) => {}
                Ok(length) => state = State::Body(length),
                Err(_) => return (Some(request), State::Opaque),
            }
        } else if name.eq_ignore_ascii_case("transfer-encoding") {
            return (Some(request), State::ChunkSize(Vec::new()));
        }
    }
    (Some(request), state)
}

fn chunk_size(line: &[u8]) -> Option<u64> {
    let digits = std::str::from_utf8(line).ok()?.split(';').next()?.trim();
    u64::from_str_radix(digits, 16).ok()
}
