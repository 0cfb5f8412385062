//! An S3 server in this process that goes wrong on demand: s3s over a store in memory, with a script of faults.
//!
//! The protocol and the signatures are those of the crate s3s, so that a client is not judged by code of its own
//! author's alone. Faults are chosen by kind of operation, key and number of the call:
//!
//! ```ignore
//! let store = FaultyS3::start();
//! store.fault(Rule::on(Operation::Put, Fault::RefuseAfter(Refusal::slow_down().retry_after(1))).after(2).once());
//! // … the third PUT is stored, and answered with 503.
//! assert_eq!(store.requests().iter().filter(|request| request.operation == Operation::Put).count(), 4);
//! ```
//!
//! | module | job |
//! |---|---|
//! | [`rule`] | rules, faults, refusals in the words of real stores |
//! | [`store`] | objects and uploads, and how well the store keeps checksums |
//! | [`operations`] | the S3 operations |
//! | [`listing`] | pages of listings |
//! | [`serving`] | connections, and the faults of the line |

pub mod listing;
pub mod operations;
pub mod rule;
pub mod serving;
pub mod store;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::thread::JoinHandle;

use bytes::Bytes;
use tokio::sync::oneshot;

use self::operations::flipped;
pub use self::rule::{Fault, Operation, Refusal, Rule};
use self::serving::Shared;
pub use self::store::{Behaviour, Checksums};
use self::store::{Object, md5_hex, sha256_base64};

/// The one bucket.
pub const BUCKET: &str = "lifeboat-test";
/// The one key.
pub const ACCESS_KEY: &str = "AKIAFAULTYS3EXAMPLE0";
/// Its secret.
pub const SECRET_KEY: &str = "faulty-s3-looks-at-every-signature";
/// The region that requests are signed for; any other is taken as well.
pub const REGION: &str = "test";

/// A request as it came.
#[derive(Debug, Clone)]
pub struct Request {
    /// What it asked for.
    pub operation: Operation,
    /// The object's key; in listings the prefix.
    pub key: String,
    /// Header lines, names in lower case.
    pub headers: Vec<(String, String)>,
    /// The status it was answered with; `None` while there is no answer.
    pub status: Option<u16>,
    /// The fault that struck it.
    pub fault: Option<Fault>,
    /// The number of its connection.
    pub connection: usize,
}

impl Request {
    /// The header of that name (in lower case).
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }
}

/// A running server. It ends when dropped.
pub struct FaultyS3 {
    address: SocketAddr,
    shared: Arc<Shared>,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl FaultyS3 {
    /// Starts a server that does everything right, on a thread of its own.
    pub fn start() -> Self {
        let shared = Arc::new(Shared::default());
        let (stop, stopped) = oneshot::channel();
        let (say, said) = std::sync::mpsc::channel();
        let own = shared.clone();
        let thread = std::thread::spawn(move || serving::run(own, &say, stopped));
        let address = said.recv().expect("the server came up");
        Self { address, shared, stop: Some(stop), thread: Some(thread) }
    }

    /// Starts a server with a behaviour of its own.
    pub fn with(behaviour: Behaviour) -> Self {
        let server = Self::start();
        server.set_behaviour(behaviour);
        server
    }

    /// `s3://BUCKET/PREFIX?…`, as a repository is named on the command line.
    pub fn url(&self, prefix: &str) -> String {
        format!("s3://{BUCKET}/{prefix}?endpoint=http://{}&region={REGION}&path-style=true", self.address)
    }

    /// Where it serves.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Changes how it behaves from now on.
    pub fn set_behaviour(&self, behaviour: Behaviour) {
        self.shared.store.lock().behaviour = behaviour;
    }

    /// Adds a rule; of several that strike a call the one given first is carried out.
    pub fn fault(&self, rule: Rule) {
        self.shared.script.lock().add(rule);
    }

    /// Forgets all rules: from now on nothing goes wrong. What hangs keeps hanging.
    pub fn heal(&self) {
        self.shared.script.lock().clear();
    }

    /// All objects by key.
    pub fn objects(&self) -> BTreeMap<String, Bytes> {
        let store = self.shared.store.lock();
        store.objects.iter().map(|(key, object)| (key.clone(), object.bytes.clone())).collect()
    }

    /// Keys of unfinished multipart uploads.
    pub fn uploads(&self) -> Vec<String> {
        self.shared.store.lock().uploads.values().map(|upload| upload.key.clone()).collect()
    }

    /// Begins a multipart upload that nobody will finish, as a killed process leaves it behind.
    pub fn leave_upload(&self, key: &str) {
        self.shared.store.lock().begin_upload(key);
    }

    /// Writes an object past the protocol.
    pub fn insert(&self, key: &str, bytes: impl Into<Bytes>) {
        let bytes = bytes.into();
        let (etag, sha256) = (md5_hex(&bytes), Some(sha256_base64(&bytes)));
        let modified = std::time::SystemTime::now();
        let object = Object { bytes, etag, sha256, is_composite: false, modified };
        self.shared.store.lock().objects.insert(key.to_owned(), object);
    }

    /// Removes an object past the protocol.
    #[track_caller]
    pub fn remove(&self, key: &str) {
        assert!(self.shared.store.lock().objects.remove(key).is_some(), "no object {key}");
    }

    /// Flips a bit in the middle of an object at rest. Its checksum, tag and time stay as they were, as in a real store
    /// that does not look.
    #[track_caller]
    pub fn flip_byte(&self, key: &str) {
        self.change(key, |object| object.bytes = flipped(&object.bytes, object.bytes.len() / 2));
    }

    /// Cuts an object at rest to `len` bytes; its checksum, tag and time stay.
    #[track_caller]
    pub fn truncate(&self, key: &str, len: usize) {
        self.change(key, |object| object.bytes.truncate(len));
    }

    /// Makes the store forget an object's SHA-256: one that was written before it kept them.
    #[track_caller]
    pub fn forget_checksum(&self, key: &str) {
        self.change(key, |object| object.sha256 = None);
    }

    /// All requests so far, in the order in which they came.
    pub fn requests(&self) -> Vec<Request> {
        self.shared.requests.lock().clone()
    }

    /// How many requests of a kind have come.
    pub fn count(&self, operation: Operation) -> usize {
        self.shared.requests.lock().iter().filter(|request| request.operation == operation).count()
    }

    /// Forgets the requests so far.
    pub fn forget_requests(&self) {
        self.shared.requests.lock().clear();
    }

    /// Waits until a request has come of which `is_it` says that it is the one: for tests that act while a call hangs.
    ///
    /// # Panics
    /// If none comes for [`crate::process::PATIENCE`].
    #[track_caller]
    pub fn wait_for_request(&self, is_it: impl Fn(&Request) -> bool) -> Request {
        let mut requests = self.shared.requests.lock();
        loop {
            if let Some(request) = requests.iter().find(|request| is_it(request)) {
                return request.clone();
            }
            let waited = self.shared.news.wait_for(&mut requests, crate::process::PATIENCE);
            assert!(!waited.timed_out(), "no such request; those that came: {requests:#?}");
        }
    }

    #[track_caller]
    fn change(&self, key: &str, change: impl FnOnce(&mut Object)) {
        let mut store = self.shared.store.lock();
        change(store.objects.get_mut(key).unwrap_or_else(|| panic!("no object {key}")));
    }
}

impl Drop for FaultyS3 {
    fn drop(&mut self) {
        // Either fails only if the server ended by itself, which its thread has then said.
        self.stop.take().map(|stop| stop.send(()).ok());
        self.thread.take().map(|thread| thread.join().ok());
    }
}
