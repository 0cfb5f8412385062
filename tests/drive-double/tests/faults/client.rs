//! A client so plain that it shows what was on the wire: one connection a request, nothing repeated.

use std::io::{self, Read, Write};
use std::net::TcpStream;

use lifeboat_drive_double::Double;
use serde_json::Value;

/// What came back.
#[derive(Debug, Clone)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    head: String,
    pub(crate) body: Vec<u8>,
}

impl Answer {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.head.lines().find_map(|line| {
            let (key, value) = line.split_once(':')?;
            key.eq_ignore_ascii_case(name).then(|| value.trim())
        })
    }

    #[track_caller]
    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }

    /// The reason of an error.
    #[track_caller]
    pub(crate) fn reason(&self) -> String {
        self.json()["error"]["errors"][0]["reason"].as_str().unwrap_or_default().to_owned()
    }

    /// Whether the body is as long as its header says.
    pub(crate) fn is_whole(&self) -> bool {
        self.header("content-length").and_then(|text| text.parse().ok()) == Some(self.body.len())
    }

    #[track_caller]
    pub(crate) fn ids(&self) -> Vec<String> {
        let files = self.json()["files"].as_array().unwrap().clone();
        files.iter().map(|file| file["id"].as_str().unwrap().to_owned()).collect()
    }
}

/// A client with an access token.
#[derive(Clone)]
pub(crate) struct Client {
    host: String,
    token: Option<String>,
}

impl Client {
    /// With a token of the double's grant.
    pub(crate) fn of(double: &Double) -> Self {
        let secret: Value = serde_json::from_str(&double.client_secret()).unwrap();
        let client = &secret["installed"];
        let form = format!(
            "grant_type=refresh_token&client_id={}&client_secret={}&refresh_token={}",
            client["client_id"].as_str().unwrap(),
            client["client_secret"].as_str().unwrap(),
            double.refresh_token()
        );
        let mut this = Self { host: double.url().trim_start_matches("http://").to_owned(), token: None };
        let answer = this.send("POST", "/token", &[], form.as_bytes());
        this.token = Some(answer.json()["access_token"].as_str().unwrap().to_owned());
        this
    }

    /// A request that is answered.
    #[track_caller]
    pub(crate) fn send(&self, method: &str, path: &str, headers: &[(&str, &str)], body: &[u8]) -> Answer {
        self.try_send(method, path, headers, body).unwrap_or_else(|error| panic!("{method} {path}: {error}"))
    }

    #[track_caller]
    pub(crate) fn get(&self, path: &str) -> Answer {
        self.send("GET", path, &[], b"")
    }

    /// A request; an error if the connection ended without an answer's head.
    pub(crate) fn try_send(
        &self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: &[u8],
    ) -> io::Result<Answer> {
        let mut stream = self.begin(method, path, headers, body.len())?;
        stream.write_all(body)?;
        let mut answer = Vec::new();
        // What came before a reset counts.
        let end = stream.read_to_end(&mut answer);
        let Some(at) = answer.windows(4).position(|window| window == b"\r\n\r\n") else {
            return Err(end.err().unwrap_or_else(|| io::ErrorKind::UnexpectedEof.into()));
        };
        let head = String::from_utf8_lossy(&answer[..at]).into_owned();
        let status = head.split(' ').nth(1).and_then(|text| text.parse().ok()).unwrap();
        Ok(Answer { status, head, body: answer[at + 4..].to_vec() })
    }

    /// Sends the head of a request only.
    pub(crate) fn begin(
        &self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        length: usize,
    ) -> io::Result<TcpStream> {
        let mut stream = TcpStream::connect(&self.host)?;
        let mut head = format!("{method} {path} HTTP/1.1\r\nHost: {}\r\nConnection: close\r\n", self.host);
        if let Some(token) = &self.token {
            head += &format!("Authorization: Bearer {token}\r\n");
        }
        for (name, value) in headers {
            head += &format!("{name}: {value}\r\n");
        }
        head += &format!("Content-Length: {length}\r\n\r\n");
        stream.write_all(head.as_bytes())?;
        Ok(stream)
    }

    /// Starts a resumable upload; gives the path of its session.
    #[track_caller]
    pub(crate) fn start_upload(&self, metadata: &Value) -> String {
        let path = "/upload/drive/v3/files?uploadType=resumable&fields=id,sha256Checksum,size";
        let answer = self.send("POST", path, &[], metadata.to_string().as_bytes());
        assert_eq!(answer.status, 200, "{answer:?}");
        let location = answer.header("location").unwrap();
        location.strip_prefix(&format!("http://{}", self.host)).unwrap().to_owned()
    }

    /// Uploads in one request with a multipart body.
    #[track_caller]
    pub(crate) fn create(&self, metadata: &Value, content: &[u8]) -> Answer {
        self.try_create(metadata, content).unwrap()
    }

    pub(crate) fn try_create(&self, metadata: &Value, content: &[u8]) -> io::Result<Answer> {
        let mut body =
            format!("--x\r\nContent-Type: application/json\r\n\r\n{metadata}\r\n--x\r\n\r\n").into_bytes();
        body.extend_from_slice(content);
        body.extend_from_slice(b"\r\n--x--");
        let path = "/upload/drive/v3/files?uploadType=multipart&fields=id,size,sha256Checksum,md5Checksum";
        self.try_send("POST", path, &[("Content-Type", "multipart/related; boundary=x")], &body)
    }

    #[track_caller]
    pub(crate) fn generate_id(&self) -> String {
        let answer = self.get("/drive/v3/files/generateIds?count=1");
        answer.json()["ids"][0].as_str().unwrap().to_owned()
    }
}
