//! A job as a process of its own: the same program, so that what it takes of memory and files is given back, and whatever ends it ends nothing else.

use std::ffi::OsString;
use std::io::{BufRead as _, BufReader, Read};
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::Sender;
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use super::Message;
use super::queue::{Ticket, Waiting};
use crate::ledger::JobKind;
use crate::{Error, Result};

/// What destinations hold is asked for so long at most.
const LEARN_WITHIN: Duration = Duration::from_secs(60);
const LOOK_EACH: Duration = Duration::from_millis(20);
/// No line of a job is longer, in bytes.
const LINE_BYTES_MAX: u64 = 1 << 20;

/// A job at work. It is reaped by its own thread, which sends [`Message::Ended`].
#[derive(Debug)]
pub struct Running {
    /// What it works on.
    pub waiting: Waiting,
    pid: Option<Pid>,
}

/// The program and the arguments that every job gets.
#[derive(Debug, Clone)]
pub struct Program {
    /// The program.
    pub path: OsString,
    /// Arguments before the command: the configuration, for one.
    pub arguments: Vec<OsString>,
}

impl Program {
    /// Whether the configuration that jobs are given is where they look for it.
    pub fn config_is_there(&self) -> bool {
        let named = self.arguments.iter().skip_while(|argument| *argument != "--config").nth(1);
        named.is_none_or(|path| Path::new(path).exists())
    }
}

/// Starts a job. What it prints comes as [`Message::Line`], its end as [`Message::Ended`].
///
/// # Errors
/// If no process can be started.
pub fn start(program: &Program, waiting: Waiting, sender: &Sender<Message>) -> Result<Running> {
    let cannot = |e| Error::io("cannot start a process for a run", e);
    let mut command = Command::new(&program.path);
    command.args(&program.arguments).args(["--json", "--no-progress", "run"]).args(arguments(&waiting));
    // A group of its own: a Ctrl-C on the daemon's terminal is the daemon's to pass on.
    command.process_group(0).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().map_err(cannot)?;
    let pid = Pid::from_raw(child.id().cast_signed());
    let ticket = waiting.ticket;
    let (stdout, stderr) = (child.stdout.take(), child.stderr.take());
    let spawned = thread::Builder::new().name("run".to_owned()).spawn({
        let sender = sender.clone();
        move || attend(child, stdout, stderr, ticket, &sender)
    });
    match spawned {
        Ok(_) => Ok(Running { waiting, pid }),
        Err(e) => {
            // Nobody would read what it says; the handle is gone with the closure, and with it both pipes.
            signal(pid, Signal::KILL);
            Err(cannot(e))
        }
    }
}

/// Has a new ledger learn from the snapshots, and waits for it, but not for long: what it does not learn is run once more.
pub fn learn(program: &Program) {
    let mut command = Command::new(&program.path);
    command.args(&program.arguments).args(["--json", "--no-progress", "runs", "--rebuild"]);
    command.process_group(0).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    let Ok(mut child) = command.spawn() else { return };
    let begun = Instant::now();
    while let Ok(None) = child.try_wait() {
        if begun.elapsed() > LEARN_WITHIN {
            let _ = child.kill();
        }
        thread::sleep(LOOK_EACH);
    }
}

fn arguments(waiting: &Waiting) -> Vec<OsString> {
    let job = &waiting.job;
    let mut arguments: Vec<OsString> = vec!["--here".into(), "--supervised".into()];
    arguments.extend(["--cause".into(), job.cause.word().into()]);
    match job.kind {
        JobKind::Backup => {
            arguments.extend(job.source.iter().map(OsString::from));
            arguments.extend(job.class.iter().flat_map(|class| [OsString::from("--class"), class.into()]));
        }
        JobKind::Prune => arguments.push("--prune".into()),
        JobKind::Check => arguments.push("--check".into()),
    }
    if waiting.accept_shrink {
        arguments.push("--accept-shrink".into());
    }
    arguments
}

fn attend(
    mut child: Child,
    stdout: Option<impl Read + Send + 'static>,
    stderr: Option<impl Read + Send + 'static>,
    ticket: Ticket,
    sender: &Sender<Message>,
) {
    let errors = stderr.map(|stderr| {
        let sender = sender.clone();
        thread::spawn(move || pass_on(stderr, ticket, &sender))
    });
    if let Some(stdout) = stdout {
        pass_on(stdout, ticket, sender);
    }
    if let Some(errors) = errors {
        let _ = errors.join();
    }
    let status = child.wait().ok();
    // Nobody listens once the daemon has ended.
    let _ = sender.send(Message::Ended(ticket, status));
}

fn pass_on(pipe: impl Read, ticket: Ticket, sender: &Sender<Message>) {
    let mut pipe = BufReader::new(pipe);
    let mut line = Vec::new();
    loop {
        line.clear();
        match pipe.by_ref().take(LINE_BYTES_MAX).read_until(b'\n', &mut line) {
            Ok(0) | Err(_) => return,
            Ok(_) => {
                let text = String::from_utf8_lossy(&line).trim_end().to_owned();
                if sender.send(Message::Line(ticket, text)).is_err() {
                    return;
                }
            }
        }
    }
}

impl Running {
    /// Asks it to stop.
    pub fn stop(&self) {
        signal(self.pid, Signal::TERM);
    }

    /// Ends it at once.
    pub fn kill(&self) {
        signal(self.pid, Signal::KILL);
    }
}

fn signal(pid: Option<Pid>, signal: Signal) {
    if let Some(pid) = pid {
        // One that is gone needs none.
        let _ = kill_process(pid, signal);
    }
}
