//! Hooks: their order, time, failures, environment.

use std::path::Path;
use std::time::Duration;

use super::*;
use crate::events::Context;

fn shell(script: &str) -> Hook {
    Hook {
        command: vec!["/bin/sh".to_owned(), "-c".to_owned(), script.to_owned()],
        timeout: Duration::from_secs(60),
        on_failure: OnFailure::Error,
    }
}

fn told() -> Told {
    Told {
        source: "app".to_owned(),
        class: "daily".to_owned(),
        outcome: Some("failed"),
        error: Some("it broke".to_owned()),
        ..Told::default()
    }
}

fn read(path: &Path) -> String {
    std::fs::read_to_string(path).unwrap_or_default()
}

#[test]
fn they_run_in_order_with_what_they_are_told() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("out");
    let say = |text: &str| shell(&format!("echo \"{text}\" >> {}", out.display()));
    let hooks = [
        say("1 $LIFEBOAT_SOURCE $LIFEBOAT_CLASS $LIFEBOAT_OUTCOME"),
        say("2 $LIFEBOAT_ERROR ${LIFEBOAT_SNAPSHOT-none}"),
    ];
    run(&hooks, "failed", &told(), &Context::silent()).unwrap();
    assert_eq!(read(&out), "1 app daily failed\n2 it broke none\n");
}

#[test]
fn a_failure_is_what_the_configuration_says() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("out");
    let after = shell(&format!("echo after >> {}", out.display()));
    let fails = |on_failure| Hook { on_failure, ..shell("echo why >&2; exit 3") };
    for on_failure in [OnFailure::Warn, OnFailure::Ignore] {
        run(&[fails(on_failure), after.clone()], "before", &told(), &Context::silent()).unwrap();
    }
    assert_eq!(read(&out), "after\nafter\n");
    let error =
        run(&[fails(OnFailure::Error), after.clone()], "before", &told(), &Context::silent()).unwrap_err();
    assert_eq!(error.to_string(), "the hook `before` of source app: /bin/sh failed (exit code 3): why");
    assert_eq!(read(&out), "after\nafter\n");
    run_all(&[fails(OnFailure::Error), after], "finally", &told(), &Context::silent()).unwrap_err();
    assert_eq!(read(&out), "after\nafter\nafter\n");
}

#[test]
fn one_that_hangs_is_ended_with_all_that_it_started() {
    let folder = tempfile::tempdir().unwrap();
    let fifo = folder.path().join("fifo");
    let status = std::process::Command::new("mkfifo").arg(&fifo).status().unwrap();
    assert!(status.success());
    // A child of its own holds the fifo open for writing, for good, unless it is ended too.
    let hook = Hook {
        timeout: Duration::from_millis(300),
        ..shell(&format!("(exec > {}; echo held; exec tail -f /dev/null) & wait", fifo.display()))
    };
    let reader = std::thread::spawn(move || std::fs::read_to_string(fifo).unwrap());
    let error = run(&[hook], "before", &told(), &Context::silent()).unwrap_err();
    assert!(error.to_string().contains("was not done in time and was ended"), "{error}");
    // Ends only when nobody has the fifo open any more.
    assert_eq!(reader.join().unwrap(), "held\n");
}
