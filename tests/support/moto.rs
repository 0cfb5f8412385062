//! moto: a second opinion on what S3 means by Object Lock, versioning and conditional writes, which Garage lacks.
//!
//! A process of Python; `tests/run` installs the pinned version and names it in `LIFEBOAT_MOTO`. It keeps everything in
//! memory, takes any credentials, and **compares no checksum with a body**: nothing about proofs can be learnt from it.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::Command;

use crate::http;
use crate::process::{Server, loopback, wait_for};

/// The bucket without versions and locks.
pub const BUCKET: &str = "lifeboat-test";
/// The bucket with versions and Object Lock.
pub const LOCKED_BUCKET: &str = "lifeboat-locked";
/// The region that requests are signed for.
pub const REGION: &str = "us-east-1";
/// Any would do.
pub const ACCESS_KEY: &str = "AKIAIOSFODNN7EXAMPLE";
/// Any would do.
pub const SECRET_KEY: &str = "moto-looks-at-no-signature";

/// The server's program: `LIFEBOAT_MOTO`, or where `tests/run` puts it.
pub fn binary() -> Option<PathBuf> {
    crate::installed("LIFEBOAT_MOTO", "moto/bin/moto_server")
}

/// A running server with both buckets.
#[derive(Debug)]
pub struct Moto {
    server: Server,
    address: SocketAddr,
    _directory: tempfile::TempDir,
}

impl Moto {
    /// Whether there is a moto to test with; if not, says that the test is skipped, and under `CI=true` fails.
    #[track_caller]
    pub fn is_available() -> bool {
        crate::available("moto", "LIFEBOAT_MOTO", binary().is_some())
    }

    /// Starts the server, waits until it serves, and makes the buckets.
    pub fn start() -> Self {
        let directory = tempfile::Builder::new().prefix("lifeboat-moto-").tempdir().unwrap();
        let mut command = Command::new(binary().expect("see Moto::is_available"));
        command
            .env_clear()
            .env("HOME", directory.path())
            .env("LANG", "C.UTF-8")
            .current_dir(directory.path());
        command.args(["--host", "127.0.0.1", "--port", "0"]);
        let mut server = Server::start("moto", command, &directory.path().join("log"));
        let address = wait_for_address(&mut server);
        let moto = Self { server, address, _directory: directory };
        moto.put(&format!("/{BUCKET}"), &[], b"");
        moto.put(&format!("/{LOCKED_BUCKET}"), &[("x-amz-bucket-object-lock-enabled", "true")], b"");
        moto
    }

    /// `s3://BUCKET/PREFIX?…` of the bucket without versions.
    pub fn url(&self, prefix: &str) -> String {
        self.url_in(BUCKET, prefix)
    }

    /// `s3://BUCKET/PREFIX?…` of the bucket with versions and Object Lock.
    pub fn locked_url(&self, prefix: &str) -> String {
        self.url_in(LOCKED_BUCKET, prefix)
    }

    /// Where it serves.
    pub fn s3(&self) -> SocketAddr {
        self.address
    }

    /// What it has said so far: one line a request.
    pub fn log(&self) -> String {
        self.server.log()
    }

    fn url_in(&self, bucket: &str, prefix: &str) -> String {
        format!("s3://{bucket}/{prefix}?endpoint=http://{}&region={REGION}&path-style=true", self.address)
    }

    #[track_caller]
    fn put(&self, target: &str, headers: &[(&str, &str)], body: &[u8]) {
        http::request(self.address, "PUT", target, headers, body).unwrap().success();
    }
}

/// The address it says that it serves on: the system chose the port.
fn wait_for_address(server: &mut Server) -> SocketAddr {
    let log = server.log_path().to_path_buf();
    let port = wait_for(
        || format!("moto to come up\n{}", std::fs::read_to_string(&log).unwrap_or_default()),
        || {
            assert!(server.is_running(), "moto does not start:\n{}", server.log());
            let log = server.log();
            let (_, rest) = log.split_once("Running on http://127.0.0.1:")?;
            let (port, _) = rest.split_once(|c: char| !c.is_ascii_digit())?;
            port.parse().ok()
        },
    );
    loopback(port)
}
