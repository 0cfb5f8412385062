//! One Garage process: its configuration, start and end, and the administration interface over HTTP.

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::{Value, json};

use super::{ACCESS_KEY, BUCKET, REGION, SECRET_KEY, binary};
use crate::http;
use crate::process::{Server, free_port, loopback, wait_for};

/// Guards nothing: everything listens on the loopback interface and lives for one test.
const ADMIN_TOKEN: &str = "administration-of-a-test";
const RPC_SECRET: &str = "1799bccfd7411eddcf9ebd316bc1f5287ad12a68094e1c6ac6abde7e6feae1ec";
/// Another process may take a port between its choice and its use.
const ATTEMPTS: usize = 5;

/// What a node is configured with.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Holds the configuration, data, metadata and log.
    pub directory: PathBuf,
    /// How many nodes keep each object. With 1 the node sets itself up with [`BUCKET`] and [`ACCESS_KEY`].
    pub replication_factor: usize,
    /// The largest block file in bytes: an object below that is one file.
    pub block_bytes: usize,
}

impl Settings {
    /// The usual settings of a single node in a directory.
    pub fn in_directory(directory: &Path) -> Self {
        Self { directory: directory.to_path_buf(), replication_factor: 1, block_bytes: 1 << 20 }
    }
}

/// The ports of a node.
#[derive(Debug, Clone, Copy)]
struct Ports {
    s3: u16,
    rpc: u16,
    admin: u16,
}

impl Ports {
    fn choose() -> Self {
        Self { s3: free_port(), rpc: free_port(), admin: free_port() }
    }
}

/// A node, running or killed.
#[derive(Debug)]
pub struct Node {
    settings: Settings,
    ports: Ports,
    server: Server,
}

impl Node {
    /// Starts a node on free ports and waits until it answers on them.
    pub fn start(settings: Settings) -> Self {
        for _ in 0..ATTEMPTS {
            let ports = Ports::choose();
            let mut node = Self { server: launch(&settings, ports), settings: settings.clone(), ports };
            if node.comes_up() {
                return node;
            }
            node.server.kill();
            assert!(node.lost_a_port(), "Garage does not start:\n{}", node.log());
        }
        panic!("no free ports in {ATTEMPTS} attempts");
    }

    /// Ends the process at once.
    pub fn kill(&mut self) {
        self.server.kill();
    }

    /// Ends the process as an administrator would (SIGTERM), so that its database is closed.
    pub fn stop(&mut self) {
        self.server.stop();
    }

    /// Starts it again, on the same ports and the same data, and waits until it answers.
    pub fn restart(&mut self) {
        self.server.kill();
        self.server = launch(&self.settings, self.ports);
        assert!(self.comes_up(), "Garage does not start again:\n{}", self.log());
    }

    /// Where it serves S3.
    pub fn s3(&self) -> SocketAddr {
        loopback(self.ports.s3)
    }

    /// What it has said since it was last started.
    pub fn log(&self) -> String {
        self.server.log()
    }

    /// Where its objects' blocks lie.
    pub fn data_directory(&self) -> PathBuf {
        self.settings.directory.join("data")
    }

    /// Where its metadata lies, with the objects below 3,072 bytes.
    pub fn metadata_directory(&self) -> PathBuf {
        self.settings.directory.join("meta")
    }

    /// `ID@ADDRESS`, by which other nodes connect to it.
    pub fn peer(&self) -> String {
        format!("{}@{}", self.id(), loopback(self.ports.rpc))
    }

    /// Its public key in hexadecimal digits, by which layouts name it.
    pub fn id(&self) -> String {
        let key = fs::read(self.metadata_directory().join("node_key.pub")).unwrap();
        key.iter().map(|byte| format!("{byte:02x}")).collect()
    }

    /// Calls `/v2/NAME` of the administration interface: with a body a `POST`, else a `GET`.
    ///
    /// # Panics
    /// If the answer is no success.
    #[track_caller]
    pub fn admin(&self, call: &str, body: Option<Value>) -> Value {
        match self.try_admin(call, body) {
            Ok(value) => value,
            Err(why) => panic!("{call}: {why}\n{}", self.log()),
        }
    }

    /// As [`Node::admin`].
    ///
    /// # Errors
    /// What Garage, or the connection to it, says.
    pub fn try_admin(&self, call: &str, body: Option<Value>) -> Result<Value, String> {
        let token = format!("Bearer {ADMIN_TOKEN}");
        let headers = [("Authorization", token.as_str()), ("Content-Type", "application/json")];
        let method = if body.is_some() { "POST" } else { "GET" };
        let text = body.map(|body| body.to_string()).unwrap_or_default();
        let target = format!("/v2/{call}");
        let answer = http::request(loopback(self.ports.admin), method, &target, &headers, text.as_bytes())
            .map_err(|e| e.to_string())?;
        if answer.status != 200 {
            return Err(format!("status {}: {}", answer.status, answer.text()));
        }
        Ok(answer.json())
    }

    /// The id of a bucket, if it is there.
    pub fn bucket_id(&self, bucket: &str) -> Option<String> {
        let info = self.try_admin(&format!("GetBucketInfo?globalAlias={bucket}"), None).ok()?;
        Some(info["id"].as_str()?.to_owned())
    }

    /// Makes a bucket that `key` may use for everything.
    pub fn create_bucket(&self, bucket: &str, key: &str) {
        self.admin("CreateBucket", Some(json!({ "globalAlias": bucket })));
        for right in ["read", "write", "owner"] {
            self.allow(bucket, key, right, true);
        }
    }

    /// Gives a key a right in a bucket (`read`, `write` or `owner`), or takes it.
    pub fn allow(&self, bucket: &str, key: &str, right: &str, allowed: bool) {
        let call = if allowed { "AllowBucketKey" } else { "DenyBucketKey" };
        let id = self.bucket_id(bucket).expect("the bucket is there");
        let body = json!({ "bucketId": id, "accessKeyId": key, "permissions": { right: true } });
        self.admin(call, Some(body));
    }

    /// Limits what a bucket may hold.
    pub fn set_quota(&self, bucket: &str, bytes: Option<u64>, objects: Option<u64>) {
        let id = self.bucket_id(bucket).expect("the bucket is there");
        let body = json!({ "quotas": { "maxSize": bytes, "maxObjects": objects } });
        self.admin(&format!("UpdateBucket?id={id}"), Some(body));
    }

    /// Objects and bytes in a bucket.
    pub fn stored(&self, bucket: &str) -> (u64, u64) {
        let info = self.admin(&format!("GetBucketInfo?globalAlias={bucket}"), None);
        (info["objects"].as_u64().unwrap(), info["bytes"].as_u64().unwrap())
    }

    /// Waits for its interfaces; `false` if it ended or could not have a port.
    fn comes_up(&mut self) -> bool {
        let listening = ["S3", "Admin"].map(|name| format!("{name} API server listening on"));
        let name = format!("Garage (process {}) to come up", self.server.id());
        wait_for(
            || name.clone(),
            || {
                let log = self.server.log();
                if !self.server.is_running() || self.lost_a_port() {
                    return Some(false);
                }
                // The lines come just before the ports are bound; that its own token is taken tells it from a stranger.
                let answers = listening.iter().all(|line| log.contains(line))
                    && self.try_admin("GetClusterStatus", None).is_ok()
                    && http::request(self.s3(), "GET", "/", &[], b"").is_ok();
                answers.then_some(true)
            },
        )
    }

    fn lost_a_port(&self) -> bool {
        let log = self.log();
        log.contains("Address already in use") || log.contains("server exited with error")
    }
}

/// Writes the configuration and starts the process.
fn launch(settings: &Settings, ports: Ports) -> Server {
    let directory = &settings.directory;
    fs::create_dir_all(directory).unwrap();
    let file = directory.join("garage.toml");
    fs::write(&file, configuration(settings, ports)).unwrap();
    let mut command = Command::new(binary().expect("see Garage::is_available"));
    command
        .env_clear()
        .env("NO_COLOR", "1")
        .env("RUST_LOG", "garage=info,netapp=warn")
        .arg("-c")
        .arg(file)
        .arg("server");
    if settings.replication_factor == 1 {
        command.args(["--single-node", "--default-access-key", "--default-bucket"]);
        command.env("GARAGE_DEFAULT_ACCESS_KEY", ACCESS_KEY).env("GARAGE_DEFAULT_SECRET_KEY", SECRET_KEY);
        command.env("GARAGE_DEFAULT_BUCKET", BUCKET);
    }
    Server::start("Garage", command, &directory.join("log"))
}

/// The configuration file.
///
/// Nothing is compressed, so that a stored byte is a byte of the object. Nothing is synchronized to the disk: a killed
/// process loses no page of the cache. Pings are frequent, so that a killed node is soon known to be gone.
fn configuration(settings: &Settings, ports: Ports) -> String {
    let Settings { directory, replication_factor, block_bytes } = settings;
    let Ports { s3, rpc, admin } = ports;
    let directory = directory.display();
    format!(
        r#"metadata_dir = "{directory}/meta"
data_dir = "{directory}/data"
db_engine = "sqlite"
replication_factor = {replication_factor}
block_size = {block_bytes}
compression_level = "none"
disable_scrub = true
rpc_bind_addr = "127.0.0.1:{rpc}"
rpc_public_addr = "127.0.0.1:{rpc}"
rpc_secret = "{RPC_SECRET}"
rpc_ping_timeout_msec = 2000
rpc_timeout_msec = 5000

[s3_api]
s3_region = "{REGION}"
api_bind_addr = "127.0.0.1:{s3}"

[admin]
api_bind_addr = "127.0.0.1:{admin}"
admin_token = "{ADMIN_TOKEN}"
"#
    )
}
