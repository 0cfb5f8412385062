//! Programs that end well, badly, too late, or not at all.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use super::*;
use crate::Kind;
use crate::events::Silent;

/// Reads all that a shell script prints, as the engine would.
fn read(script: &str, timeout: Option<Duration>, context: &Context) -> Result<String> {
    let command = ["/bin/sh", "-c", script].map(str::to_owned).to_vec();
    let mut output = Output { command, timeout, context: context.clone(), state: State::Waiting };
    let mut text = String::new();
    match output.read_to_string(&mut text) {
        Ok(_) => Ok(text),
        Err(e) => Err(e.downcast::<Error>().unwrap()),
    }
}

#[test]
fn output_counts_only_with_a_good_end() {
    let run = |script| read(script, None, &Context::silent());
    assert_eq!(run("echo all of it; echo aside >&2").unwrap(), "all of it\n");
    let error = run("echo half; echo no such table >&2; exit 7").unwrap_err().to_string();
    assert_eq!(error, "/bin/sh failed (exit code 7): no such table");
    let error = run("echo half; kill -9 $$").unwrap_err().to_string();
    assert_eq!(error, "/bin/sh failed (signal 9)");
    // Input is empty, not the agent's.
    assert_eq!(run("cat; echo end").unwrap(), "end\n");
    let command = vec!["/no/such/program".to_owned()];
    let mut output = Output { command, timeout: None, context: Context::silent(), state: State::Waiting };
    let error = output.read(&mut [0; 10]).unwrap_err().downcast::<Error>().unwrap();
    assert!(error.to_string().contains("cannot run /no/such/program") && error.hint().is_some());
}

#[test]
fn closing_its_output_is_not_its_end() {
    let folder = tempfile::tempdir().unwrap();
    let fifo = folder.path().join("fifo");
    assert!(std::process::Command::new("mkfifo").arg(&fifo).status().unwrap().success());
    let path = fifo.clone();
    // Ends only after its output has ended, when somebody writes into the fifo.
    let writer = std::thread::spawn(move || std::fs::write(path, "go\n").unwrap());
    let script = format!("echo out; exec >&-; read line < {}; exit 5", fifo.display());
    let error = read(&script, None, &Context::silent()).unwrap_err();
    writer.join().unwrap();
    assert!(error.to_string().contains("exit code 5"), "{error}");
}

#[test]
fn one_that_hangs_is_ended_when_its_time_is_over_or_the_run_is_stopped() {
    let error = read("echo begun; exec sleep 1000", Some(Duration::from_millis(300)), &Context::silent());
    assert!(error.unwrap_err().to_string().contains("was not done in time"));
    let stop = Arc::new(AtomicBool::new(false));
    let context = Context::new(Arc::new(Silent), stop.clone());
    let command = ["/bin/sh", "-c", "echo $$; exec sleep 1000"].map(str::to_owned).to_vec();
    let mut output = Output { command, timeout: None, context, state: State::Waiting };
    let mut first = [0; 32];
    let length = output.read(&mut first).unwrap();
    stop.store(true, Ordering::Relaxed);
    let error = output.read(&mut first).unwrap_err().downcast::<Error>().unwrap();
    assert_eq!(error.kind(), Kind::Interrupted);
    let id = std::str::from_utf8(&first[..length]).unwrap().trim();
    assert!(!std::path::Path::new("/proc").join(id).exists(), "process {id} still runs");
}
