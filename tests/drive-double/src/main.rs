//! Serves a double until its standard input closes or it is told to end; its first line says where everything is.

use std::fs::OpenOptions;
use std::io::{self, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Parser;
use lifeboat_drive_double::{Double, Options};
use serde_json::json;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::oneshot;

/// A double of Google Drive v3 on 127.0.0.1, for tests. Prints one line of JSON, then serves until its standard input
/// closes. Faults are switched by POST /_double/faults.
#[derive(Parser)]
#[command(name = "lifeboat-drive-double")]
struct Arguments {
    /// The TCP port; 0 takes a free one
    #[arg(long, default_value_t = 0)]
    port: u16,
    /// Put the folder on a shared drive
    #[arg(long)]
    shared_drive: bool,
    /// The account's storage in bytes; unlimited without it
    #[arg(long, value_name = "BYTES")]
    quota: Option<u64>,
    /// A scope of the refresh token; can be repeated
    #[arg(long, value_name = "URL")]
    scope: Vec<String>,
    /// Derive ids and tokens from this number
    #[arg(long)]
    seed: Option<u64>,
}

fn main() -> ExitCode {
    match run(Arguments::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!(
                "lifeboat-drive-double: cannot serve: {error}. Is the port free, and can the temporary directory be written?"
            );
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: Arguments) -> io::Result<()> {
    let mut options = Options {
        port: arguments.port,
        shared_drive: arguments.shared_drive,
        quota_bytes: arguments.quota,
        seed: arguments.seed,
        ..Options::default()
    };
    if !arguments.scope.is_empty() {
        options.scopes = arguments.scope;
    }
    let double = Double::start(options)?;
    let directory = tempfile::Builder::new().prefix("drive-double-").tempdir()?;
    let line = json!({
        "url": double.url(),
        "folder": double.folder(),
        "drive": double.drive_id(),
        "refresh_token": double.refresh_token(),
        "client_secret": secret_file(directory.path(), "client.json", &double.client_secret())?,
        "service_account": secret_file(directory.path(), "service-account.json", &double.service_account())?,
        "authorized_user": secret_file(directory.path(), "authorized-user.json", &double.authorized_user())?,
    });
    let mut out = io::stdout().lock();
    writeln!(out, "{line}")?;
    out.flush()?;
    wait_for_the_end()
}

fn secret_file(directory: &Path, name: &str, text: &str) -> io::Result<PathBuf> {
    let path = directory.join(name);
    OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path)?.write_all(text.as_bytes())?;
    Ok(path)
}

fn wait_for_the_end() -> io::Result<()> {
    let (closed, input) = oneshot::channel::<()>();
    std::thread::Builder::new().name("stdin".to_owned()).spawn(move || {
        let mut buffer = [0; 4096];
        while matches!(io::stdin().read(&mut buffer), Ok(count) if count > 0) {}
        drop(closed);
    })?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build()?;
    runtime.block_on(async {
        let mut terminate = signal(SignalKind::terminate())?;
        let mut interrupt = signal(SignalKind::interrupt())?;
        tokio::select! {
            _ = input => {}
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
        Ok(())
    })
}
