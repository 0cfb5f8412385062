//! Garage: a real S3 store of its own on this machine, for tests that should not only meet doubles.
//!
//! `tests/run` installs the pinned version and names it in `LIFEBOAT_GARAGE`. A test begins with
//! [`Garage::is_available`], which says that it is skipped, or fails where nothing may be skipped.
//!
//! | module | job |
//! |---|---|
//! | [`node`] | one process: configuration, start, kill, its administration interface |
//! | [`cluster`] | several of them that keep every object three times |
//! | [`damage`] | flipping bits of stored objects, and what Garage answers then |
//!
//! # What Garage 2.5.0 does that a provider should know
//! Read from its source and seen by the tests of this crate:
//! - The SHA-256 sent with a `PUT` is compared with the body, kept, and told by `HEAD` with `x-amz-checksum-mode`.
//!   It is a statement about what was received, never again about what is on disk: see [`damage`].
//! - `If-None-Match` on a `PUT` is ignored: two writers both succeed.
//! - A full bucket (quota) answers `403 AccessDenied`, told apart only by the words `quota is reached`.
//! - A lost quorum answers `503 ServiceUnavailable`, any other trouble of its own `500 InternalError`.
//! - Objects below 3,072 bytes live in the metadata, larger ones in files of at most `block_size` bytes.

pub mod cluster;
pub mod damage;
pub mod node;

use std::net::SocketAddr;
use std::path::PathBuf;

pub use self::cluster::GarageCluster;
use self::node::{Node, Settings};
use crate::process::wait_for;

/// The key of all test stores.
pub const ACCESS_KEY: &str = "GK0123456789abcdef01234567";
/// Its secret.
pub const SECRET_KEY: &str = "5ec2e7000000000000000000000000000000000000000000000000000000cafe";
/// The bucket that is there from the start.
pub const BUCKET: &str = "lifeboat-test";
/// The region that requests are signed for.
pub const REGION: &str = "garage";

/// The pinned version's binary: `LIFEBOAT_GARAGE`, or where `tests/run` puts it.
pub fn binary() -> Option<PathBuf> {
    crate::installed("LIFEBOAT_GARAGE", "garage-2.5.0/bin/garage")
}

/// A single node with one bucket. Its data goes with it.
#[derive(Debug)]
pub struct Garage {
    node: Node,
    directory: tempfile::TempDir,
}

impl Garage {
    /// Whether there is a Garage to test with; if not, says that the test is skipped, and under `CI=true` fails.
    #[track_caller]
    pub fn is_available() -> bool {
        crate::available("Garage", "LIFEBOAT_GARAGE", binary().is_some())
    }

    /// Starts a node and waits until it serves.
    pub fn start() -> Self {
        let directory = tempfile::Builder::new().prefix("lifeboat-garage-").tempdir().unwrap();
        let settings = Settings { replication_factor: 1, ..Settings::in_directory(directory.path()) };
        let node = Node::start(settings);
        let garage = Self { node, directory };
        wait_for(|| format!("the bucket\n{}", garage.node.log()), || garage.node.bucket_id(BUCKET));
        garage
    }

    /// `s3://BUCKET/PREFIX?…`, as a repository is named on the command line.
    pub fn url(&self, prefix: &str) -> String {
        url(BUCKET, prefix, self.s3())
    }

    /// Where it serves S3.
    pub fn s3(&self) -> SocketAddr {
        self.node.s3()
    }

    /// The node itself, for what only its administration can tell.
    pub fn node(&self) -> &Node {
        &self.node
    }

    /// Where its data and metadata lie.
    pub fn directory(&self) -> &std::path::Path {
        self.directory.path()
    }

    /// Ends the process at once.
    pub fn kill(&mut self) {
        self.node.kill();
    }

    /// Starts it again after [`Garage::kill`], on the same ports and the same data.
    pub fn restart(&mut self) {
        self.node.restart();
    }

    /// Limits what the bucket may hold, in bytes and objects; `None` is no limit.
    pub fn set_quota(&self, bytes: Option<u64>, objects: Option<u64>) {
        self.node.set_quota(BUCKET, bytes, objects);
    }

    /// Takes the key's right to write from it, or gives it back: credentials that change in mid-run.
    pub fn allow_writing(&self, allowed: bool) {
        self.node.allow(BUCKET, ACCESS_KEY, "write", allowed);
    }

    /// Objects and bytes in the bucket, as the store counts them.
    pub fn stored(&self) -> (u64, u64) {
        self.node.stored(BUCKET)
    }
}

/// The URL of a bucket behind an endpoint of this machine.
pub fn url(bucket: &str, prefix: &str, endpoint: SocketAddr) -> String {
    format!("s3://{bucket}/{prefix}?endpoint=http://{endpoint}&region={REGION}&path-style=true")
}
