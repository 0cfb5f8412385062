//! A server that runs as a process of its own: started, watched, killed by its id, and its log shown when a test fails.

use std::fs;
use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex};
use rustix::process::{Pid, Signal, kill_process, set_parent_process_death_signal};

/// How long a server may take to come up or to settle, on a machine that builds something else at the same time.
pub const PATIENCE: Duration = Duration::from_secs(120);
/// How often a state is asked for of which no event tells.
const POLL: Duration = Duration::from_millis(25);

/// Ports that the system gives to nobody by itself: an outgoing connection of another test cannot take one between
/// its choice and its use.
const PORTS: std::ops::Range<u16> = 10_000..32_000;

/// A port on the loopback interface that was free a moment ago.
pub fn free_port() -> u16 {
    loop {
        let mut random = [0; 2];
        fs::File::open("/dev/urandom")
            .and_then(|mut file| std::io::Read::read_exact(&mut file, &mut random))
            .unwrap();
        let port = PORTS.start + u16::from_ne_bytes(random) % (PORTS.end - PORTS.start);
        if TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok() {
            return port;
        }
    }
}

/// The loopback address with a port.
pub fn loopback(port: u16) -> SocketAddr {
    (Ipv4Addr::LOCALHOST, port).into()
}

/// Asks again until there is an answer.
///
/// # Panics
/// If there is none for [`PATIENCE`]; the message has what `what` says then.
#[track_caller]
pub fn wait_for<T>(what: impl Fn() -> String, mut ask: impl FnMut() -> Option<T>) -> T {
    let begun = Instant::now();
    // Nobody notifies: a wait that always ends by itself.
    let (never, lock) = (Condvar::new(), Mutex::new(()));
    loop {
        if let Some(answer) = ask() {
            return answer;
        }
        assert!(begun.elapsed() < PATIENCE, "waited {} s for {}", PATIENCE.as_secs(), what());
        never.wait_for(&mut lock.lock(), POLL);
    }
}

/// A running server. Killed when dropped, and by the system when the thread that started it ends.
#[derive(Debug)]
pub struct Server {
    name: String,
    child: Child,
    log: Arc<Mutex<String>>,
    log_path: PathBuf,
    reader: Option<JoinHandle<()>>,
}

impl Server {
    /// Starts `command`, with both outputs appended to the file `log`.
    ///
    /// The system kills the process when the starting *thread* ends, so that nothing is left of a test that was killed:
    /// start servers from a thread that lives as long as they are to.
    pub fn start(name: &str, mut command: Command, log: &Path) -> Self {
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
        // SAFETY: between fork and exec only this system call is made; it allocates nothing and takes no lock.
        unsafe {
            command.pre_exec(|| Ok(set_parent_process_death_signal(Some(Signal::KILL))?));
        }
        let mut child = command.spawn().unwrap_or_else(|e| panic!("cannot start {name}: {e}"));
        let shared = Arc::new(Mutex::new(String::new()));
        let mut file = fs::OpenOptions::new().create(true).append(true).open(log).unwrap();
        let errors = BufReader::new(child.stderr.take().unwrap());
        let heard = shared.clone();
        let reader = std::thread::spawn(move || {
            for line in errors.split(b'\n').map_while(Result::ok) {
                let line = String::from_utf8_lossy(&line).into_owned() + "\n";
                // The file is for people; the test goes by what is in memory.
                file.write_all(line.as_bytes()).ok();
                heard.lock().push_str(&line);
            }
        });
        Self { name: name.to_owned(), child, log: shared, log_path: log.to_path_buf(), reader: Some(reader) }
    }

    /// The process id.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// What it has said so far.
    pub fn log(&self) -> String {
        self.log.lock().clone()
    }

    /// The file in which its words are kept.
    pub fn log_path(&self) -> &Path {
        &self.log_path
    }

    /// Whether it still runs.
    pub fn is_running(&mut self) -> bool {
        self.child.try_wait().unwrap().is_none()
    }

    /// Asks it to end (SIGTERM) and waits until it has; it must within [`PATIENCE`].
    pub fn stop(&mut self) {
        if let Some(process) = Pid::from_raw(self.child.id() as i32).filter(|_| self.is_running()) {
            // It may end by itself just now; its id is its own until it is waited for.
            kill_process(process, Signal::TERM).ok();
            wait_for(
                || format!("{} to end\n{}", self.name, self.log.lock()),
                || self.child.try_wait().unwrap(),
            );
        }
        self.kill();
    }

    /// Ends it at once, as a power cut would (SIGKILL), and waits until it is gone.
    pub fn kill(&mut self) {
        // It may have ended by itself: then there is nothing to kill.
        self.child.kill().ok();
        self.child.wait().unwrap();
        if let Some(reader) = self.reader.take() {
            reader.join().unwrap();
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.kill();
        if std::thread::panicking() {
            eprintln!("--- log of {}\n{}--- end of the log of {}", self.name, self.log(), self.name);
        }
    }
}
