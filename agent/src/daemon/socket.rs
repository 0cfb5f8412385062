//! The daemon's socket: only root and the user that the daemon runs as may ask. What is asked comes to the main loop as [`Message::Request`].

use std::io::{BufRead as _, BufReader, ErrorKind, Read as _, Write as _};
use std::os::fd::AsFd as _;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, Sender};
use std::time::Duration;
use std::{fs, thread};

use super::Message;
use super::protocol::{self, REQUEST_BYTES_MAX, Request};
use crate::{Error, Result};

/// Who connects says what it wants within that.
const REQUEST_WITHIN: Duration = Duration::from_secs(10);
/// Who waits for an answer and is to stop waiting notices within that.
const LOOK_AT_STOP_EACH: Duration = Duration::from_millis(200);

/// A socket that is listened at; its file goes when it is dropped.
#[derive(Debug)]
pub struct Socket {
    path: PathBuf,
}

impl Socket {
    /// Listens at `path`. Whoever calls it holds the daemon's lock: a file that is there was left by one that is gone.
    ///
    /// # Errors
    /// If it cannot be made.
    pub fn listen(path: &Path, sender: Sender<Message>) -> Result<Self> {
        let cannot = |e| {
            Error::io(format_args!("cannot listen at {}", path.display()), e)
                .with_hint("`[daemon] socket` names another place; a path may have 107 bytes.")
        };
        if fs::symlink_metadata(path).is_ok() {
            fs::remove_file(path).map_err(cannot)?;
        }
        let listener = UnixListener::bind(path).map_err(cannot)?;
        // Who connected before this line is looked at like everybody else.
        fs::set_permissions(path, fs::Permissions::from_mode(0o600)).map_err(cannot)?;
        let accept = move || {
            for connection in listener.incoming().flatten() {
                let sender = sender.clone();
                // One that cannot be served is closed.
                let _ = thread::Builder::new()
                    .name("socket".to_owned())
                    .spawn(move || serve(&connection, &sender));
            }
        };
        thread::Builder::new().name("socket".to_owned()).spawn(accept).map_err(cannot)?;
        Ok(Self { path: path.to_path_buf() })
    }
}

impl Drop for Socket {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.path);
    }
}

fn serve(connection: &UnixStream, sender: &Sender<Message>) {
    let mut writer = connection;
    // A reader that went away ends nothing: what it asked for goes on.
    let mut answer = |line: &str| writer.write_all(format!("{line}\n").as_bytes()).is_ok();
    let request = match read(connection) {
        Ok(request) => request,
        Err(e) => {
            answer(&protocol::refused(&e));
            return;
        }
    };
    let (reply, lines) = mpsc::channel();
    if sender.send(Message::Request(request, reply)).is_err() {
        answer(&protocol::refused(&Error::failed("the daemon is ending")));
        return;
    }
    for line in lines {
        if !answer(&line) {
            return;
        }
    }
}

fn read(connection: &UnixStream) -> Result<Request> {
    let failed = |e: std::io::Error| Error::io("cannot read the request", e);
    let peer = rustix::net::sockopt::socket_peercred(connection.as_fd()).map_err(|e| failed(e.into()))?;
    let own = rustix::process::geteuid();
    if !peer.uid.is_root() && peer.uid != own {
        return Err(Error::usage("only root and the user that the daemon runs as may ask it for something"));
    }
    connection.set_read_timeout(Some(REQUEST_WITHIN)).map_err(failed)?;
    let mut line = String::new();
    BufReader::new(connection.take(REQUEST_BYTES_MAX)).read_line(&mut line).map_err(failed)?;
    serde_json::from_str(&line).map_err(|e| {
        Error::usage(format_args!("the daemon does not understand this request: {e}"))
            .with_hint("Are the daemon and this program of one version? Restart the daemon after an update.")
    })
}

/// Asks the daemon at `path`, if one listens there: gives every line of the answer to `each`, until `each` says false or the answer ends. `None` if
/// no daemon listens there.
///
/// # Errors
/// If the connection breaks; `Interrupted` once `stop` is set.
pub fn ask(
    path: &Path,
    request: &Request,
    stop: &AtomicBool,
    mut each: impl FnMut(&str) -> bool,
) -> Result<Option<()>> {
    let Ok(mut connection) = UnixStream::connect(path) else { return Ok(None) };
    let broke = |e: std::io::Error| {
        Error::io("the connection to the daemon broke", e)
            .with_hint("What was asked for goes on if the daemon does: see `lifeboat runs`.")
    };
    let text = serde_json::to_string(request).map_err(|e| Error::failed(e.to_string()))?;
    connection.write_all(format!("{text}\n").as_bytes()).map_err(broke)?;
    connection.set_read_timeout(Some(LOOK_AT_STOP_EACH)).map_err(broke)?;
    let mut reader = BufReader::new(connection);
    let mut line = Vec::new();
    loop {
        match reader.read_until(b'\n', &mut line) {
            Ok(0) => return Ok(Some(())),
            Ok(_) if each(String::from_utf8_lossy(&line).trim_end()) => line.clear(),
            Ok(_) => return Ok(Some(())),
            // What came of a line so far stays in it.
            Err(e) if e.kind() == ErrorKind::WouldBlock => {
                if stop.load(Ordering::Relaxed) {
                    return Err(Error::interrupted());
                }
            }
            Err(e) => return Err(broke(e)),
        }
    }
}
