//! A double of Drive, an account on it, and machines that use it.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use lifeboat_drive_double::{Call, Double, Fault, LoggedRequest, Options, Rule, When};
use lifeboat_providers::gdrive::{ClientSecret, Credentials, DriveOptions, DriveProvider};
use lifeboat_providers::http::{Connector, HttpSettings, connector};
use lifeboat_providers::layer::retry::{RetryPolicy, RetryProvider};
use lifeboat_providers::{Key, Provider, PutMode, Receipt, Result, Sha256};
use lifeboat_tests::random::Random;
use tempfile::TempDir;

/// The least that Drive takes: many chunks without many bytes.
pub const CHUNK: u64 = 256 << 10;

/// How long to wait for what must happen.
pub const SOON: Duration = Duration::from_secs(60);

/// Drive and the folders of the machines that use it.
pub struct Scene {
    pub double: Double,
    dir: TempDir,
}

impl Scene {
    pub fn new() -> Self {
        Self::with(Options::default())
    }

    pub fn with(options: Options) -> Self {
        let scene = Self { double: Double::start(options).unwrap(), dir: tempfile::tempdir().unwrap() };
        scene.write_token(&scene.double.refresh_token());
        scene
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub fn token_file(&self) -> PathBuf {
        self.path("token.json")
    }

    pub fn app(&self) -> ClientSecret {
        let mut app = ClientSecret::from_json(&self.double.client_secret()).unwrap();
        app.device_uri = format!("{}/device/code", self.double.url());
        app
    }

    /// What a login leaves.
    pub fn write_token(&self, refresh_token: &str) {
        let json = serde_json::json!({ "client_id": self.app().id, "refresh_token": refresh_token });
        fs::write(self.token_file(), json.to_string()).unwrap();
        fs::set_permissions(self.token_file(), fs::Permissions::from_mode(0o600)).unwrap();
    }

    pub fn user(&self) -> Credentials {
        Credentials::User { client: self.app(), token_file: self.token_file() }
    }

    /// The options of a machine, with its own local state.
    pub fn options(&self, machine: &str) -> DriveOptions {
        let mut options = DriveOptions::new(self.double.folder(), self.user(), self.path(machine));
        options.endpoint = Some(self.double.url().to_owned());
        options.chunk_bytes = CHUNK;
        options
    }

    pub async fn try_connect(&self, options: DriveOptions) -> Result<Arc<DriveProvider>> {
        DriveProvider::connect(options, plain()).await.map(Arc::new)
    }

    /// A machine's provider. The second one of the same name is the same machine after a restart.
    pub async fn machine(&self, name: &str) -> Arc<DriveProvider> {
        self.try_connect(self.options(name)).await.unwrap()
    }

    pub fn fault(&self, call: Call, when: When, fault: Fault) {
        self.double.fault(Rule::new(call, when, fault));
    }

    /// Requests of a kind so far.
    pub fn requests(&self, call: Call) -> Vec<LoggedRequest> {
        self.double.requests().into_iter().filter(|request| request.call == call).collect()
    }

    pub fn count(&self, call: Call) -> usize {
        self.requests(call).len()
    }

    /// The ids of the files of a name that are not in the trash.
    pub fn ids(&self, name: &str) -> Vec<String> {
        let files = self.double.files();
        files.into_iter().filter(|file| file.name == name && !file.trashed).map(|file| file.id).collect()
    }

    /// Waits for requests of a kind to arrive.
    pub fn wait_for(&self, call: Call, count: usize) {
        let arrived = tokio::task::block_in_place(|| {
            self.double.wait_until(SOON, |requests| {
                requests.iter().filter(|request| request.call == call).count() >= count
            })
        });
        assert!(arrived, "{count} requests {call:?} did not come");
    }
}

pub fn plain() -> Connector {
    connector(&HttpSettings::default(), false).unwrap()
}

/// A retry layer that does not wait long.
pub fn retrying(provider: Arc<dyn Provider>, seed: u64) -> Arc<RetryProvider> {
    let policy = RetryPolicy {
        attempts_max: 25,
        delay_min: Duration::from_millis(1),
        delay_max: Duration::from_millis(3),
        jitter_seed: Some(seed),
        ..RetryPolicy::default()
    };
    Arc::new(RetryProvider::new(provider, policy))
}

pub fn key(text: &str) -> Key {
    Key::new(text).unwrap()
}

/// Bytes without pattern.
pub fn noise(len: usize, seed: u64) -> Bytes {
    Random::new(seed).bytes(len).into()
}

/// More than goes into one request, and no multiple of a chunk.
pub fn large(seed: u64) -> Bytes {
    noise((5 << 20) + 300_001, seed)
}

pub async fn put(provider: &dyn Provider, name: &str, bytes: &Bytes, mode: PutMode) -> Result<Receipt> {
    provider.put(&key(name), bytes.clone().into(), Sha256::of(bytes), mode).await
}
