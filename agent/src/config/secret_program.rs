//! Programs that print a secret: `pass`, `systemd-creds`, a vault's client.

use std::io::{IsTerminal as _, Read as _};
use std::os::unix::process::CommandExt as _;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process_group};
use zeroize::Zeroizing;

use crate::{Error, Kind, Result};

/// Where nobody can answer what it may ask, it gets so long.
const WITHIN: Duration = Duration::from_secs(120);
/// How often is looked whether a program that has said all has ended.
const POLL: Duration = Duration::from_millis(20);

/// What a program prints, which messages call `what`. Without a terminal it gets two minutes.
///
/// # Errors
/// `Usage` if it cannot be run or prints no text; `WrongKey` if it fails, or is not done in time.
pub(super) fn printed(words: &[String], what: &str) -> Result<Zeroizing<String>> {
    let within = (!std::io::stdin().is_terminal()).then_some(WITHIN);
    printed_within(words, what, within)
}

fn printed_within(words: &[String], what: &str, within: Option<Duration>) -> Result<Zeroizing<String>> {
    let (program, arguments) =
        words.split_first().ok_or_else(|| Error::usage(format_args!("{what} is empty")))?;
    let cannot = |e| Error::usage(Error::io(format_args!("cannot run {what}"), e));
    let until = within.map(|within| Instant::now() + within);
    // Its prompts and errors belong on the terminal: only standard output is taken. Standard input may be what is backed up.
    let mut command = Command::new(program);
    command.args(arguments).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::inherit());
    if until.is_some() {
        // So that it can be ended with all that it started. With a terminal it has to stay in the foreground.
        command.process_group(0);
    }
    let mut child = command.spawn().map_err(cannot)?;
    let ended =
        read(&mut child, until).and_then(|text| Some((text.map_err(cannot), wait(&mut child, until)?)));
    let Some((text, status)) = ended else {
        if let Some(group) = i32::try_from(child.id()).ok().and_then(Pid::from_raw) {
            let _ = kill_process_group(group, Signal::KILL);
        }
        let _ = child.kill();
        let _ = child.wait();
        return Err(Error::new(Kind::WrongKey, format_args!("{what} was not done in time and was ended"))
            .with_hint("Run it by hand: does it ask for something that nobody is there to answer?"));
    };
    let status = status.map_err(cannot)?;
    if !status.success() {
        return Err(Error::new(Kind::WrongKey, format_args!("{what} failed: {status}"))
            .with_hint("Run it by hand to see why."));
    }
    let text = text?;
    let text =
        std::str::from_utf8(&text).map_err(|_| Error::usage(format_args!("{what} printed no text")))?;
    Ok(Zeroizing::new(text.to_owned()))
}

/// All that it prints; `None` if it is late.
fn read(child: &mut Child, until: Option<Instant>) -> Option<std::io::Result<Zeroizing<Vec<u8>>>> {
    let Some(mut stdout) = child.stdout.take() else { return Some(Ok(Zeroizing::default())) };
    let (sender, received) = mpsc::channel();
    let read = move || {
        let mut text = Zeroizing::new(Vec::new());
        let read = stdout.read_to_end(&mut text).map(|_| text);
        // Nobody takes what comes too late.
        let _ = sender.send(read);
    };
    if let Err(e) = thread::Builder::new().name("secret".to_owned()).spawn(read) {
        return Some(Err(e));
    }
    match until {
        Some(until) => received.recv_timeout(until.saturating_duration_since(Instant::now())).ok(),
        None => received.recv().ok(),
    }
}

/// Its end; `None` if it is late.
fn wait(child: &mut Child, until: Option<Instant>) -> Option<std::io::Result<ExitStatus>> {
    let Some(until) = until else { return Some(child.wait()) };
    loop {
        match child.try_wait() {
            Ok(None) if Instant::now() >= until => return None,
            Ok(None) => thread::sleep(POLL),
            Ok(Some(status)) => return Some(Ok(status)),
            Err(e) => return Some(Err(e)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sh(script: &str, within: Option<Duration>) -> Result<Zeroizing<String>> {
        printed_within(&["sh".to_owned(), "-c".to_owned(), script.to_owned()], "the program", within)
    }

    #[test]
    fn what_it_prints_is_taken_if_it_ends_well() {
        let long = Some(Duration::from_secs(600));
        for within in [None, long] {
            assert_eq!(sh("echo secret", within).unwrap().as_str(), "secret\n");
            let error = sh("echo secret; exit 3", within).unwrap_err();
            assert!(error.to_string().contains("exit status: 3"), "{error}");
            assert_eq!(error.kind(), Kind::WrongKey);
            assert!(sh("printf '\\377'", within).unwrap_err().to_string().contains("no text"));
        }
        assert!(printed_within(&["/no/such/program".to_owned()], "x", None).is_err());
    }

    #[test]
    fn one_that_hangs_is_ended() {
        let moment = Some(Duration::from_millis(1));
        for script in ["exec tail -f /dev/null", "exec >&-; exec tail -f /dev/null"] {
            let error = sh(script, moment).unwrap_err();
            assert!(error.to_string().contains("was not done in time"), "{error}");
        }
    }
}
