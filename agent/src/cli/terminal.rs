//! The terminal: its width, and asking for a passphrase without showing it.

use std::fs::File;
use std::io::{IsTerminal as _, Read as _, Write as _};
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::termios::{LocalModes, OptionalActions, Termios, tcgetattr, tcgetwinsize, tcsetattr};
use zeroize::{Zeroize as _, Zeroizing};

use crate::{Error, Kind, Result};

const PASSPHRASE_BYTES_MAX: usize = 4096;
/// How often a prompt looks whether it was asked to stop.
const POLL_INTERVAL: Timespec = Timespec { tv_sec: 0, tv_nsec: 200_000_000 };

/// The width of the terminal behind standard error.
pub fn stderr_columns() -> Option<usize> {
    let size = tcgetwinsize(std::io::stderr()).ok()?;
    (size.ws_col > 0).then_some(usize::from(size.ws_col))
}

/// Asks for a passphrase; `None` if there is no terminal to ask on.
///
/// # Errors
/// `Interrupted` if `stop` is set meanwhile; if the terminal fails.
pub fn ask_passphrase(prompt: &str, stop: &AtomicBool) -> Result<Option<Zeroizing<String>>> {
    if !std::io::stdin().is_terminal() {
        return Ok(None);
    }
    let Ok(mut terminal) = File::options().read(true).write(true).open("/dev/tty") else { return Ok(None) };
    let failed = |e: std::io::Error| Error::io("cannot ask on the terminal", e);
    let hidden = Hidden::begin(&terminal)?;
    terminal.write_all(prompt.as_bytes()).map_err(failed)?;
    let line = read_line(&mut terminal, stop);
    drop(hidden);
    let _ = terminal.write_all(b"\n");
    line.map(Some)
}

fn read_line(terminal: &mut File, stop: &AtomicBool) -> Result<Zeroizing<String>> {
    let failed = |e: std::io::Error| Error::io("cannot read from the terminal", e);
    let mut line = Zeroizing::new(Vec::with_capacity(PASSPHRASE_BYTES_MAX));
    let mut buffer = Zeroizing::new([0_u8; 256]);
    loop {
        if stop.load(Ordering::Relaxed) {
            return Err(Error::interrupted());
        }
        let readable = match poll(&mut [PollFd::new(terminal, PollFlags::IN)], Some(&POLL_INTERVAL)) {
            Ok(ready) => ready > 0,
            Err(rustix::io::Errno::INTR) => false,
            Err(errno) => return Err(failed(errno.into())),
        };
        if !readable {
            continue;
        }
        let read = terminal.read(&mut buffer[..]).map_err(failed)?;
        line.extend_from_slice(&buffer[..read]);
        if read == 0 || line.last() == Some(&b'\n') {
            break;
        }
        if line.len() >= PASSPHRASE_BYTES_MAX {
            return Err(Error::usage("the passphrase is too long"));
        }
    }
    while matches!(line.last(), Some(b'\n' | b'\r')) {
        line.pop();
    }
    match std::str::from_utf8(&line) {
        Ok("") => Err(Error::new(Kind::WrongKey, "no passphrase was typed")),
        Ok(text) => Ok(Zeroizing::new(text.to_owned())),
        Err(_) => {
            line.zeroize();
            Err(Error::usage("the passphrase is not valid UTF-8"))
        }
    }
}

/// While this lives, the terminal shows nothing that is typed.
struct Hidden {
    terminal: File,
    before: Termios,
}

impl Hidden {
    fn begin(terminal: &File) -> Result<Self> {
        let failed = |e: std::io::Error| Error::io("cannot hide what is typed", e);
        let before = tcgetattr(terminal).map_err(|e| failed(e.into()))?;
        let mut hidden = before.clone();
        hidden.local_modes.remove(LocalModes::ECHO | LocalModes::ECHOE | LocalModes::ECHOK);
        let terminal = terminal.try_clone().map_err(failed)?;
        tcsetattr(&terminal, OptionalActions::Flush, &hidden).map_err(|e| failed(e.into()))?;
        Ok(Self { terminal, before })
    }
}

impl Drop for Hidden {
    fn drop(&mut self) {
        let _ = tcsetattr(&self.terminal, OptionalActions::Flush, &self.before);
    }
}
