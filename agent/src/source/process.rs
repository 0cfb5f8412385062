//! Programs that the configuration names: dumps, restores, hooks.
//!
//! Each runs in a process group of its own, which is ended as a whole; without the agent's extra capability; without lifeboat's secrets in its
//! environment; with nothing on standard input unless something is given to it. The end of what it says on standard error is kept for messages.

use std::collections::VecDeque;
use std::io::{BufRead as _, BufReader, Read as _};
use std::os::unix::process::{CommandExt as _, ExitStatusExt as _};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process_group};

use crate::events::Context;
use crate::{Error, Result, config};

/// Lines of standard error that are kept, the last ones.
const LINES_MAX: usize = 10;
/// Bytes of one such line.
const LINE_BYTES_MAX: u64 = 500;
/// Whoever is asked to end gets so long until it is ended.
const GRACE: Duration = Duration::from_secs(5);
/// How often is looked whether a program has ended.
const POLL: Duration = Duration::from_millis(20);

/// A running program. Dropping it ends its whole process group.
#[derive(Debug)]
pub struct Program {
    /// What messages call it: the program without its arguments, which may hold what is nobody's business.
    name: String,
    /// Its process; its pipes are there to be taken.
    pub child: Child,
    said: Option<JoinHandle<VecDeque<String>>>,
    has_ended: bool,
}

/// How a program is to be run.
#[derive(Debug, Default)]
pub struct Run<'a> {
    /// The program and its arguments.
    pub command: &'a [String],
    /// More variables of its environment.
    pub environment: &'a [(&'static str, String)],
    /// Its standard input is a pipe.
    pub takes_input: bool,
    /// Its standard output is a pipe; else it goes where standard error goes.
    pub gives_output: bool,
}

impl Run<'_> {
    /// Starts it.
    ///
    /// # Errors
    /// If it cannot be started.
    pub fn start(&self) -> Result<Program> {
        let (program, arguments) =
            self.command.split_first().ok_or_else(|| Error::usage("a command is empty"))?;
        let cannot = |e: std::io::Error| {
            Error::io(format_args!("cannot run {program}"), e)
                .with_hint("Check the name of the program; it is looked for in PATH, and no shell runs.")
        };
        let mut command = Command::new(program);
        command.args(arguments).process_group(0);
        config::environment::without_secrets(&mut command);
        command.envs(self.environment.iter().map(|(name, value)| (name, value)));
        command.stdin(if self.takes_input { Stdio::piped() } else { Stdio::null() });
        if self.gives_output {
            command.stdout(Stdio::piped()).stderr(Stdio::piped());
        } else {
            // One pipe for both, so that lines stay in their order.
            let (reader, writer) = std::io::pipe().map_err(cannot)?;
            command.stdout(writer.try_clone().map_err(cannot)?).stderr(writer);
            let child = without_capabilities(&mut command).map_err(cannot)?;
            // Else the pipe never ends.
            drop(command);
            return Ok(Program::new(program, child, Some(std::thread::spawn(|| last_lines(reader)))));
        }
        let mut child = without_capabilities(&mut command).map_err(cannot)?;
        let said = child.stderr.take();
        let said = said.map(|stderr| std::thread::spawn(|| last_lines(stderr)));
        Ok(Program::new(program, child, said))
    }
}

/// Starts a process from a thread that has given up its ambient capabilities, which are a thread's own and are handed on by it: the program gets
/// none of what the service was given beyond its user's rights.
fn without_capabilities(command: &mut Command) -> std::io::Result<Child> {
    std::thread::scope(|scope| {
        let spawn = scope.spawn(|| {
            match rustix::thread::clear_ambient_capability_set() {
                // Older kernels have no such set, and then nothing is handed on.
                Ok(()) | Err(rustix::io::Errno::INVAL) => command.spawn(),
                Err(e) => Err(e.into()),
            }
        });
        spawn
            .join()
            .unwrap_or_else(|_| Err(std::io::Error::other("the thread that was to start it broke down")))
    })
}

impl Program {
    fn new(program: &str, child: Child, said: Option<JoinHandle<VecDeque<String>>>) -> Self {
        Self { name: program.to_owned(), child, said, has_ended: false }
    }

    /// Waits for its end.
    ///
    /// # Errors
    /// If it fails or is killed; if it is not done in time; `Interrupted`. Then its whole process group is ended.
    pub fn finish(&mut self, until: Option<Instant>, context: &Context) -> Result<()> {
        let status = loop {
            match self.child.try_wait() {
                Ok(Some(status)) => break status,
                Ok(None) => {}
                Err(e) => return Err(Error::io(format_args!("cannot wait for {}", self.name), e)),
            }
            if let Err(e) = context.check_stop() {
                self.end();
                return Err(e);
            }
            if until.is_some_and(|until| Instant::now() >= until) {
                self.end();
                return Err(self.late());
            }
            std::thread::sleep(POLL);
        };
        self.has_ended = true;
        // What it has left behind in its group would hold its pipes open.
        let _ = self.kill(Signal::KILL);
        self.judge(status)
    }

    /// The error of a program that was not done in time.
    pub fn late(&mut self) -> Error {
        let error = Error::failed(format_args!("{} was not done in time and was ended", self.name));
        self.with_words(error).with_hint("Give it a longer `timeout`, or see why it hangs.")
    }

    fn judge(&mut self, status: ExitStatus) -> Result<()> {
        if status.success() {
            return Ok(());
        }
        let how = match (status.code(), status.signal()) {
            (Some(code), _) => format!("exit code {code}"),
            (None, Some(signal)) => format!("signal {signal}"),
            (None, None) => "unknown".to_owned(),
        };
        let error = Error::failed(format_args!("{} failed ({how})", self.name));
        Err(self.with_words(error).with_hint("Run it by hand, as the same user, to see why."))
    }

    fn with_words(&mut self, error: Error) -> Error {
        match self.words() {
            words if words.is_empty() => error,
            words => Error::new(error.kind(), format_args!("{error}: {}", words.join(" | "))),
        }
    }

    /// The last lines that it said, once it has ended; none if something that it left behind holds its output open.
    pub fn words(&mut self) -> Vec<String> {
        let until = Instant::now() + GRACE;
        while self.said.as_ref().is_some_and(|said| !said.is_finished()) {
            if Instant::now() >= until {
                // It ends with whoever holds the other end.
                self.said = None;
                return Vec::new();
            }
            std::thread::sleep(POLL);
        }
        let said = self.said.take().map(JoinHandle::join);
        said.and_then(Result::ok).map(Vec::from).unwrap_or_default()
    }

    /// Asks its process group to end, and ends it after a moment.
    pub fn end(&mut self) {
        if std::mem::replace(&mut self.has_ended, true) {
            return;
        }
        let _ = self.kill(Signal::TERM);
        let until = Instant::now() + GRACE;
        while Instant::now() < until && matches!(self.child.try_wait(), Ok(None)) {
            std::thread::sleep(POLL);
        }
        let _ = self.kill(Signal::KILL);
        let _ = self.child.wait();
    }

    fn kill(&self, signal: Signal) -> rustix::io::Result<()> {
        match i32::try_from(self.child.id()).ok().and_then(Pid::from_raw) {
            Some(group) => kill_process_group(group, signal),
            None => Ok(()),
        }
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        self.end();
    }
}

/// The last lines of what a program says, each cut off where it is too long.
fn last_lines(from: impl std::io::Read) -> VecDeque<String> {
    let mut from = BufReader::new(from);
    let mut lines = VecDeque::new();
    let mut line = Vec::new();
    loop {
        line.clear();
        let read = (&mut from).take(LINE_BYTES_MAX).read_until(b'\n', &mut line);
        let is_cut = line.len() as u64 == LINE_BYTES_MAX && !line.ends_with(b"\n");
        if is_cut {
            skip_line(&mut from);
        }
        let text = String::from_utf8_lossy(&line);
        let text: String = text.trim_end().chars().filter(|c| !c.is_control()).collect();
        if !text.is_empty() {
            lines.push_back(if is_cut { text + "…" } else { text });
        }
        if lines.len() > LINES_MAX {
            lines.pop_front();
        }
        if !matches!(read, Ok(1..)) {
            return lines;
        }
    }
}

/// Passes over the rest of a line without keeping it.
fn skip_line(from: &mut impl std::io::BufRead) {
    while let Ok(bytes) = from.fill_buf() {
        let end = bytes.iter().position(|byte| *byte == b'\n').map(|at| at + 1);
        let length = bytes.len();
        from.consume(end.unwrap_or(length));
        if end.is_some() || length == 0 {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_lines_are_kept_and_long_ones_cut() {
        let mut text: String = (0..30).map(|number| format!("line {number}\n")).collect();
        text.push_str(&"x".repeat(5000));
        text.push_str("\nend");
        let lines = last_lines(text.as_bytes());
        assert_eq!(lines.len(), LINES_MAX);
        assert_eq!(lines.back().unwrap(), "end");
        let long = &lines[LINES_MAX - 2];
        assert!(long.ends_with("x…") && long.chars().count() == LINE_BYTES_MAX as usize + 1);
        assert_eq!(lines[0], "line 22");
    }
}
