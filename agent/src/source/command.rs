//! The output of a program as a source: streamed into the snapshot as one file, without a file on the way.
//!
//! The program is started when its output is read for the first time. Its end is awaited at the end of its output: it must have been good, else the
//! run has failed and there is no snapshot.

use std::io::{self, Read};
use std::os::fd::AsFd as _;
use std::os::unix::ffi::OsStrExt as _;
use std::process::ChildStdout;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};

use super::process::{Program, Run};
use super::{Entries, Source};
use crate::backup::{Given, Plan};
use crate::config::source::CommandSource;
use crate::events::Context;
use crate::{Error, Result};

/// How long a stop, or the end of the time, may go unnoticed.
const LOOK_EVERY: Timespec = Timespec { tv_sec: 0, tv_nsec: 200_000_000 };

/// A program whose output is backed up.
#[derive(Debug)]
pub struct Command {
    source: CommandSource,
}

impl Command {
    /// That of a source.
    pub const fn new(source: CommandSource) -> Self {
        Self { source }
    }
}

impl Source for Command {
    fn open(&self, context: &Context) -> Result<Entries> {
        let output = Output {
            command: self.source.command.clone(),
            timeout: self.source.timeout,
            context: context.clone(),
            state: State::Waiting,
        };
        let mut plan = Plan::default();
        plan.give(Given {
            path: self.source.file.as_os_str().as_bytes().to_vec(),
            meta: None,
            bytes: Box::new(output),
        })?;
        Ok(Entries::new(plan))
    }
}

/// What a program prints, to the end of both.
struct Output {
    command: Vec<String>,
    timeout: Option<Duration>,
    context: Context,
    state: State,
}

enum State {
    Waiting,
    Running { program: Box<Program>, output: ChildStdout, until: Option<Instant> },
    Ended,
}

impl Output {
    fn start(&self) -> Result<State> {
        let run = Run { command: &self.command, gives_output: true, ..Run::default() };
        let mut program = run.start()?;
        let output = program.child.stdout.take();
        let output = output.ok_or_else(|| Error::failed("a program was started without its output"))?;
        let until = self.timeout.map(|timeout| Instant::now() + timeout);
        Ok(State::Running { program: Box::new(program), output, until })
    }

    fn next(&mut self, buffer: &mut [u8]) -> Result<usize> {
        if matches!(self.state, State::Waiting) {
            self.state = self.start()?;
        }
        let State::Running { program, output, until } = &mut self.state else { return Ok(0) };
        wait(output, program, *until, &self.context)?;
        let read = rustix::io::retry_on_intr(|| rustix::io::read(output.as_fd(), &mut *buffer));
        match read {
            Ok(0) => {
                program.finish(*until, &self.context)?;
                self.state = State::Ended;
                Ok(0)
            }
            Ok(read) => Ok(read),
            Err(e) => Err(Error::io("cannot read what the program prints", e)),
        }
    }
}

/// Waits until there is something to read.
fn wait(
    output: &ChildStdout,
    program: &mut Program,
    until: Option<Instant>,
    context: &Context,
) -> Result<()> {
    loop {
        context.check_stop()?;
        if until.is_some_and(|until| Instant::now() >= until) {
            program.end();
            return Err(program.late());
        }
        match poll(&mut [PollFd::new(output, PollFlags::IN)], Some(&LOOK_EVERY)) {
            Ok(0) | Err(rustix::io::Errno::INTR) => {}
            _ => return Ok(()),
        }
    }
}

impl Read for Output {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if buffer.is_empty() {
            return Ok(0);
        }
        self.next(buffer).map_err(|e| {
            // Ended as a whole, whatever is left of it.
            self.state = State::Ended;
            io::Error::other(e)
        })
    }
}

#[cfg(test)]
mod tests;
