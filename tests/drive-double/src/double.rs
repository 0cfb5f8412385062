//! The double as tests hold it: started, looked at, harmed, ended.

use std::io;
use std::net::{Ipv4Addr, TcpListener};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use tokio::sync::oneshot;

use crate::fault::Rule;
use crate::file::FileInfo;
use crate::log::LoggedRequest;
use crate::options::Options;
use crate::server;
use crate::state::{Shared, State};

/// A running double of Google Drive. It ends when it is dropped.
#[derive(Debug)]
pub struct Double {
    url: String,
    shared: Arc<Shared>,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Double {
    /// Starts a double on a thread of its own.
    ///
    /// # Errors
    /// The port is taken, or the system gives no thread.
    pub fn start(options: Options) -> io::Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, options.port))?;
        listener.set_nonblocking(true)?;
        let url = format!("http://{}", listener.local_addr()?);
        let seed = options.seed.unwrap_or_else(fresh_seed);
        let shared = Arc::new(Shared::new(State::new(&url, options, seed)));
        let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build()?;
        let (stop, stopped) = oneshot::channel();
        let served = Arc::clone(&shared);
        let listener = {
            let _entered = runtime.enter();
            tokio::net::TcpListener::from_std(listener)?
        };
        let thread = std::thread::Builder::new()
            .name("drive-double".to_owned())
            .spawn(move || runtime.block_on(server::serve(listener, served, stopped)))?;
        Ok(Self { url, shared, stop: Some(stop), thread: Some(thread) })
    }

    /// Where it listens, such as `http://127.0.0.1:4711`.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// The id of a folder that is there from the start.
    pub fn folder(&self) -> String {
        self.shared.with(|state| state.store.folder.clone())
    }

    /// The id of the root of My Drive.
    pub fn root(&self) -> String {
        self.shared.with(|state| state.store.root.clone())
    }

    /// The id of the shared drive, which is also that of its root.
    pub fn drive_id(&self) -> String {
        self.shared.with(|state| state.store.drive.clone())
    }

    /// The client file of an installed app, as JSON.
    pub fn client_secret(&self) -> String {
        self.shared.with(|state| state.auth.client_json())
    }

    /// A grant that was given to the client.
    pub fn refresh_token(&self) -> String {
        self.shared.with(|state| state.auth.refresh_token.clone())
    }

    /// The grant as a credentials file of the kind `authorized_user`, as JSON.
    pub fn authorized_user(&self) -> String {
        self.shared.with(|state| state.auth.authorized_user_json())
    }

    /// The key file of a service account, as JSON.
    pub fn service_account(&self) -> String {
        self.shared.with(|state| state.auth.service_account_json())
    }

    /// Adds a rule.
    pub fn fault(&self, rule: Rule) {
        self.shared.with(|state| {
            let last_create = state.store.creates;
            state.faults.add(rule, last_create);
        });
    }

    /// Removes all rules. Calls that hang go on hanging.
    pub fn clear_faults(&self) {
        self.shared.with(|state| state.faults.clear());
    }

    /// Lets all hanging calls go on, and removes the rules of hanging and of lag.
    pub fn release(&self) {
        self.shared.release();
    }

    /// All files and folders but the roots, in the order of their creation.
    pub fn files(&self) -> Vec<FileInfo> {
        self.shared.with(|state| state.infos())
    }

    /// One file.
    pub fn file(&self, id: &str) -> Option<FileInfo> {
        self.shared.with(|state| state.store.get(id).map(|file| state.info(file)))
    }

    /// The bytes of a file as they are stored.
    pub fn content(&self, id: &str) -> Option<Bytes> {
        self.shared.with(|state| state.store.get(id)?.content.clone())
    }

    /// Bytes stored in all files, the trash included.
    pub fn usage(&self) -> u64 {
        self.shared.with(|state| state.store.usage)
    }

    /// All requests so far, oldest first.
    pub fn requests(&self) -> Vec<LoggedRequest> {
        self.shared.with(|state| state.log.all().to_vec())
    }

    /// Waits until `condition` holds of the requests. Whether it holds after `timeout` at the latest.
    pub fn wait_until(&self, timeout: Duration, condition: impl Fn(&[LoggedRequest]) -> bool) -> bool {
        self.shared.wait_until(Instant::now() + timeout, condition)
    }

    /// Makes all access tokens invalid; the grant goes on.
    pub fn revoke_tokens(&self) {
        self.shared.with(|state| state.auth.revoke_tokens());
    }

    /// Makes all grants invalid, with their tokens.
    pub fn revoke_grant(&self) {
        self.shared.with(|state| state.auth.revoke_grants());
    }

    /// Lets the user say no (or yes again) at `/auth` and in the device flow.
    pub fn deny_consent(&self, denies: bool) {
        self.shared.with(|state| state.auth.denies = denies);
    }

    /// Flips a bit in the middle of a stored file; Drive goes on stating the old digests. Whether there was a
    /// file with content.
    pub fn flip_byte(&self, id: &str) -> bool {
        self.shared.with(|state| state.flip_byte(id))
    }

    /// Puts other content in a file's place, as another client would: the digests follow. Whether there was one.
    pub fn set_content(&self, id: &str, content: impl Into<Bytes>) -> bool {
        self.shared.with(|state| {
            let is_file = state.store.get(id).is_some_and(|file| !file.is_folder());
            if is_file {
                let State { store, random, .. } = state;
                store.replace_content(id, content.into(), random);
            }
            is_file
        })
    }

    /// Adds a file as if the app had made it. `None` if there is no such folder.
    pub fn add_file(&self, parent: &str, name: &str, content: impl Into<Bytes>) -> Option<String> {
        self.shared.with(|state| state.add_file(parent, name, content.into(), true))
    }

    /// Adds a file that the app did not make: the scope `drive.file` does not see it.
    pub fn add_foreign(&self, parent: &str, name: &str, content: impl Into<Bytes>) -> Option<String> {
        self.shared.with(|state| state.add_file(parent, name, content.into(), false))
    }

    /// Adds another file with the name, folder and properties of the newest file of that name, with its content
    /// if none is given. `None` if there is no such file.
    pub fn add_duplicate(&self, name: &str, content: Option<Bytes>) -> Option<String> {
        self.shared.with(|state| state.add_duplicate(name, content))
    }

    /// Removes a file for good. Whether there was one.
    pub fn remove(&self, id: &str) -> bool {
        self.shared.with(|state| state.store.remove(id))
    }

    /// Moves a file to the trash. Whether there was one.
    pub fn trash(&self, id: &str) -> bool {
        self.shared.with(|state| state.trash(id, true))
    }

    /// Marks a file as malware: it is given only to who says `acknowledgeAbuse`. Whether there was one.
    pub fn mark_abusive(&self, id: &str) -> bool {
        self.shared.with(|state| state.mark_abusive(id))
    }

    /// Sets the storage limit in bytes; `None` is no limit.
    pub fn set_quota(&self, bytes: Option<u64>) {
        self.shared.with(|state| state.store.quota = bytes);
    }

    /// Begins a new day for the upload limit.
    pub fn next_day(&self) {
        self.shared.with(|state| state.store.uploaded_today = 0);
    }

    /// Drops all upload sessions, as Drive does after a week.
    pub fn expire_sessions(&self) {
        self.shared.with(|state| state.sessions.clear());
    }

    /// Takes the service down, or up again: while it is down every connection is cut at once.
    pub fn set_down(&self, down: bool) {
        self.shared.with(|state| state.down = down);
    }
}

impl Drop for Double {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            // A panic in the server has been shown on stderr; a second one here would abort.
            let _ = thread.join();
        }
    }
}

/// Doubles of one process, and of two, differ in their ids and tokens.
fn fresh_seed() -> u64 {
    static STARTED: AtomicU64 = AtomicU64::new(0);
    let nanos = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |time| time.as_nanos() as u64);
    let process = u64::from(std::process::id()).rotate_left(32);
    nanos ^ process ^ STARTED.fetch_add(1, Ordering::Relaxed).wrapping_mul(0x9e37_79b9_7f4a_7c15)
}
