//! A mail server in this process that keeps what it takes: without encryption, with STARTTLS, or with TLS from the beginning.

use std::io::{self, BufRead as _, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::PathBuf;
use std::sync::Arc;

use parking_lot::Mutex;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ServerConfig, ServerConnection, StreamOwned};

use crate::acceptor::Acceptor;

/// How connections are encrypted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Encryption {
    /// Not at all.
    None,
    /// After STARTTLS.
    StartTls,
    /// From the beginning.
    Implicit,
}

/// A message that was taken.
#[derive(Debug, Clone, Default)]
pub struct Taken {
    /// Whether it came over TLS.
    pub encrypted: bool,
    /// User and password, as base64 of `\0user\0password`, if somebody signed in.
    pub sign_in: Option<String>,
    /// The sender of the envelope.
    pub from: String,
    /// The recipients of the envelope.
    pub to: Vec<String>,
    /// The message, with its header.
    pub data: String,
}

impl Taken {
    /// The header line of that name, as it is.
    pub fn header(&self, name: &str) -> Option<&str> {
        let head = self.data.split("\r\n\r\n").next()?;
        head.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": "))
    }
}

struct Shared {
    encryption: Encryption,
    tls: Arc<ServerConfig>,
    taken: Mutex<Vec<Taken>>,
    /// What is answered to MAIL FROM in place of 250, once each.
    refusals: Mutex<Vec<&'static str>>,
    /// All lines that clients said, also before TLS.
    lines: Mutex<Vec<String>>,
}

/// A running server. It ends when dropped.
pub struct MailServer {
    acceptor: Acceptor,
    shared: Arc<Shared>,
}

/// A file of the certificate that servers here have.
pub fn fixture(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("fixtures/tls").join(name)
}

impl MailServer {
    /// Starts one.
    pub fn start(encryption: Encryption) -> Self {
        let shared = Arc::new(Shared {
            encryption,
            tls: Arc::new(tls()),
            taken: Mutex::default(),
            refusals: Mutex::default(),
            lines: Mutex::default(),
        });
        let own = shared.clone();
        // A client that goes away is its own matter.
        Self { acceptor: Acceptor::start(move |stream| drop(serve(stream, &own))), shared }
    }

    /// Its port on 127.0.0.1.
    pub fn port(&self) -> u16 {
        self.acceptor.address().port()
    }

    /// The next message is refused with this line.
    pub fn refuse(&self, line: &'static str) {
        self.shared.refusals.lock().push(line);
    }

    /// All messages so far.
    pub fn taken(&self) -> Vec<Taken> {
        self.shared.taken.lock().clone()
    }

    /// All lines that clients said.
    pub fn lines(&self) -> Vec<String> {
        self.shared.lines.lock().clone()
    }
}

/// What a server here shows: a certificate for `localhost` of the root in `ca.pem`.
pub(crate) fn tls() -> ServerConfig {
    let certificate = CertificateDer::from_pem_file(fixture("server.pem")).unwrap();
    let key = PrivateKeyDer::from_pem_file(fixture("server.key")).unwrap();
    ServerConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![certificate], key)
        .unwrap()
}

fn secured(stream: TcpStream, shared: &Shared) -> StreamOwned<ServerConnection, TcpStream> {
    StreamOwned::new(ServerConnection::new(shared.tls.clone()).unwrap(), stream)
}

fn serve(mut stream: TcpStream, shared: &Shared) -> io::Result<()> {
    if shared.encryption == Encryption::Implicit {
        let mut stream = secured(stream, shared);
        stream.write_all(b"220 test\r\n")?;
        return talk(stream, shared, true).map(|_| ());
    }
    stream.write_all(b"220 test\r\n")?;
    match talk(stream, shared, false)? {
        Some(stream) => talk(secured(stream, shared), shared, true).map(|_| ()),
        None => Ok(()),
    }
}

/// Speaks SMTP until the client leaves; returns the stream when the client wants TLS.
fn talk<S: Read + Write>(stream: S, shared: &Shared, encrypted: bool) -> io::Result<Option<S>> {
    let mut stream = BufReader::new(stream);
    let mut message = Taken { encrypted, ..Taken::default() };
    loop {
        let mut line = String::new();
        if stream.read_line(&mut line)? == 0 {
            return Ok(None);
        }
        let line = line.trim_end().to_owned();
        shared.lines.lock().push(line.clone());
        let verb = line.split([' ', ':']).next().unwrap_or_default().to_ascii_uppercase();
        let angle = |line: &str| line.split(['<', '>']).nth(1).unwrap_or_default().to_owned();
        let reply = match verb.as_str() {
            "EHLO" if !encrypted && shared.encryption == Encryption::StartTls => "250-test\r\n250 STARTTLS",
            "EHLO" => "250-test\r\n250-8BITMIME\r\n250 AUTH PLAIN LOGIN",
            "STARTTLS" => {
                stream.get_mut().write_all(b"220 go on\r\n")?;
                return Ok(Some(stream.into_inner()));
            }
            "AUTH" => {
                message.sign_in = line.split(' ').nth(2).map(str::to_owned);
                "235 fine"
            }
            "MAIL" => {
                message.from = angle(&line);
                let refusal = shared.refusals.lock().pop();
                refusal.unwrap_or("250 fine")
            }
            "RCPT" => {
                message.to.push(angle(&line));
                "250 fine"
            }
            "DATA" => {
                stream.get_mut().write_all(b"354 go on\r\n")?;
                message.data = data(&mut stream)?;
                shared.taken.lock().push(message.clone());
                "250 taken"
            }
            "QUIT" => "221 bye",
            "RSET" | "NOOP" => "250 fine",
            _ => "500 what?",
        };
        stream.get_mut().write_all(format!("{reply}\r\n").as_bytes())?;
        stream.get_mut().flush()?;
    }
}

fn data<S: Read>(stream: &mut BufReader<S>) -> io::Result<String> {
    let mut data = String::new();
    loop {
        let mut line = String::new();
        if stream.read_line(&mut line)? == 0 || line == ".\r\n" {
            return Ok(data);
        }
        data += line.strip_prefix('.').unwrap_or(&line);
    }
}
