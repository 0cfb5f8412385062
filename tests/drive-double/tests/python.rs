//! Google's own client for Python drives the double's binary: `python/drive.py` has the checks.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};

/// Ended when a test is, however it ends.
struct Served(Child);

impl Drop for Served {
    fn drop(&mut self) {
        // Closing its standard input ends it.
        drop(self.0.stdin.take());
        let _ = self.0.wait();
    }
}

#[test]
fn googles_own_client_finds_what_it_expects() {
    let Some(python) = std::env::var_os("LIFEBOAT_DRIVE_PYTHON") else {
        println!("skipped: LIFEBOAT_DRIVE_PYTHON names no Python with Google's client (tests/run makes one)");
        return;
    };
    let double = Command::new(env!("CARGO_BIN_EXE_lifeboat-drive-double"))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut served = Served(double);
    let mut line = String::new();
    BufReader::new(served.0.stdout.take().unwrap()).read_line(&mut line).unwrap();
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("python/drive.py");
    let output = Command::new(python)
        .arg(script)
        .arg(line.trim())
        // A proxy would be asked for the loopback address too.
        .env("NO_PROXY", "127.0.0.1")
        .env("no_proxy", "127.0.0.1")
        .output()
        .unwrap();
    let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{out}\n{err}");
    assert_eq!(out.lines().filter(|line| line.starts_with("ok ")).count(), 11, "{out}");
}
