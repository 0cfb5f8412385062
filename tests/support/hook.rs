//! A server for notifications in this process: it keeps every request and answers by a script.

use std::collections::VecDeque;
use std::io::{BufRead as _, BufReader, Read, Write};
use std::sync::Arc;

use parking_lot::{Condvar, Mutex};

use crate::acceptor::Acceptor;

/// What the server does with a request.
#[derive(Debug, Clone)]
pub enum Reply {
    /// A status, header lines and a body.
    Status(u16, Vec<(&'static str, String)>, String),
    /// No answer, until the other side has gone or the server ends.
    Hang,
    /// A status, and a body without an end.
    Endless(u16),
    /// The connection ends without an answer.
    Close,
}

impl Reply {
    /// A status alone.
    pub fn status(status: u16) -> Self {
        Self::Status(status, Vec::new(), String::new())
    }
}

/// A request as it came.
#[derive(Debug, Clone)]
pub struct Heard {
    /// The path with the query.
    pub target: String,
    /// Header lines, names in lower case.
    pub headers: Vec<(String, String)>,
    /// The body.
    pub body: String,
}

impl Heard {
    /// The header of that name (in lower case).
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }

    /// The body as JSON.
    #[track_caller]
    pub fn json(&self) -> serde_json::Value {
        serde_json::from_str(&self.body).unwrap_or_else(|e| panic!("{e}: {}", self.body))
    }
}

#[derive(Default)]
struct Shared {
    script: Mutex<VecDeque<Reply>>,
    heard: Mutex<Vec<Heard>>,
    changed: Condvar,
}

/// A running server. It ends when dropped.
pub struct Hook {
    acceptor: Acceptor,
    shared: Arc<Shared>,
    scheme: &'static str,
    host: String,
}

impl Default for Hook {
    fn default() -> Self {
        Self::start()
    }
}

impl Hook {
    /// Starts a server that takes everything with 200.
    pub fn start() -> Self {
        let shared = Arc::new(Shared::default());
        let own = shared.clone();
        let acceptor = Acceptor::start(move |stream| serve(stream, &own));
        let host = acceptor.address().ip().to_string();
        Self { acceptor, shared, scheme: "http", host }
    }

    /// The same over TLS, by the certificate that mail servers here have.
    #[cfg(feature = "servers")]
    pub fn start_tls() -> Self {
        let shared = Arc::new(Shared::default());
        let own = shared.clone();
        let tls = Arc::new(crate::smtp::tls());
        let acceptor = Acceptor::start(move |stream| {
            let session = rustls::ServerConnection::new(tls.clone()).unwrap();
            serve(rustls::StreamOwned::new(session, stream), &own);
        });
        Self { acceptor, shared, scheme: "https", host: "localhost".to_owned() }
    }

    /// The URL of a path here.
    pub fn url(&self, path: &str) -> String {
        format!("{}://{}:{}/{path}", self.scheme, self.host, self.acceptor.address().port())
    }

    /// The next requests get these answers, and those after them 200 again.
    pub fn script(&self, replies: impl IntoIterator<Item = Reply>) {
        self.shared.script.lock().extend(replies);
    }

    /// All requests so far.
    pub fn heard(&self) -> Vec<Heard> {
        self.shared.heard.lock().clone()
    }

    /// The one request there was since the last call of this.
    #[track_caller]
    pub fn only(&self) -> Heard {
        let mut heard = std::mem::take(&mut *self.shared.heard.lock());
        assert_eq!(heard.len(), 1, "{heard:#?}");
        heard.remove(0)
    }

    /// Waits until so many requests have come.
    pub fn wait_for(&self, number: usize) {
        let mut heard = self.shared.heard.lock();
        while heard.len() < number {
            self.shared.changed.wait(&mut heard);
        }
    }
}

fn serve(stream: impl Read + Write, shared: &Shared) {
    let mut reader = BufReader::new(stream);
    let Some(heard) = read(&mut reader) else { return };
    let reply = shared.script.lock().pop_front().unwrap_or_else(|| Reply::status(200));
    shared.heard.lock().push(heard);
    shared.changed.notify_all();
    // Who asked may be gone: that is its matter.
    let _ = answer(&mut reader, reply);
}

fn read(reader: &mut BufReader<impl Read>) -> Option<Heard> {
    let mut line = String::new();
    reader.read_line(&mut line).ok().filter(|bytes| *bytes > 0)?;
    let target = line.split(' ').nth(1)?.to_owned();
    let mut headers = Vec::new();
    loop {
        line.clear();
        reader.read_line(&mut line).ok()?;
        let Some((name, value)) = line.trim_end().split_once(':') else { break };
        headers.push((name.to_ascii_lowercase(), value.trim().to_owned()));
    }
    let length = headers.iter().find(|(name, _)| name == "content-length").map_or("0", |(_, value)| value);
    let mut body = vec![0; length.parse().ok()?];
    reader.read_exact(&mut body).ok()?;
    Some(Heard { target, headers, body: String::from_utf8(body).unwrap() })
}

fn answer(reader: &mut BufReader<impl Read + Write>, reply: Reply) -> std::io::Result<()> {
    let stream = reader.get_mut();
    match reply {
        Reply::Close => Ok(()),
        Reply::Hang => {
            // Ends when the other side closes.
            stream.read(&mut [0]).map(|_| ())
        }
        Reply::Status(status, headers, body) => {
            let mut head = format!(
                "HTTP/1.1 {status} Answer\r\nContent-Length: {}\r\nConnection: close\r\n",
                body.len()
            );
            for (name, value) in headers {
                head += &format!("{name}: {value}\r\n");
            }
            stream.write_all(format!("{head}\r\n{body}").as_bytes())
        }
        Reply::Endless(status) => {
            stream.write_all(format!("HTTP/1.1 {status} Answer\r\nConnection: close\r\n\r\n").as_bytes())?;
            loop {
                stream.write_all(&[b'x'; 4096])?;
            }
        }
    }
}
