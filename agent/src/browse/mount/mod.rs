//! Snapshots as a read-only file system, by FUSE.
//!
//! | module | job |
//! |---|---|
//! | `top` | the directories above the snapshots: `ids`, `times`, `hosts` |
//! | `cache` | what was used lately, bounded |
//! | `inodes` | numbers of files, and what the kernel knows of them |
//! | `files` | entries, directories and bytes by number |
//! | `filesystem` | the kernel's questions and the answers |
//!
//! The kernel is spoken to directly; only users other than root need the program `fusermount3`. What is mounted are the
//! snapshots there were when it was mounted. Damage is reported to the context and is an I/O error to the reader.

mod cache;
mod files;
mod filesystem;
mod inodes;
mod top;

use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use fuser::{BackgroundSession, Config, MountOption, Session, SessionACL};

use crate::events::Context;
use crate::fetch::ChunkReader;
use crate::snapshot::Snapshot;
use crate::{Error, Kind, Result};
use files::Files;
use filesystem::SnapshotFilesystem;
use top::Top;

const FUSE_DEVICE: &str = "/dev/fuse";
const FUSERMOUNT: [&str; 4] =
    ["/usr/bin/fusermount3", "/bin/fusermount3", "/usr/bin/fusermount", "/bin/fusermount"];
/// How often it is looked whether to end.
const POLL_INTERVAL: Duration = Duration::from_millis(100);
/// How long what is still in use is served after it was unmounted for all others.
const CLOSING_TIME: Duration = Duration::from_secs(1);
const CLOSING_POLL_INTERVAL: Duration = Duration::from_millis(5);
/// Threads that answer the kernel: reads of several files overlap.
const THREADS: usize = 4;

/// How to mount.
#[derive(Debug, Clone, Copy, Default)]
pub struct MountOptions {
    /// Let other users in, as far as the files' permissions let them.
    pub allow_other: bool,
}

/// Mounts snapshots at a directory, calls `ready`, and serves it until it is unmounted or the context is stopped.
///
/// # Errors
/// If it cannot be mounted, with what is missing; `ready`'s.
pub fn mount(
    reader: ChunkReader,
    context: &Context,
    snapshots: &[&Snapshot],
    at: &Path,
    options: MountOptions,
    ready: &mut dyn FnMut() -> Result<()>,
) -> Result<()> {
    check_possible(at)?;
    let files = Files::new(Arc::new(reader), Top::new(snapshots)?);
    let filesystem = SnapshotFilesystem::new(files, context.clone());
    let mut config = Config::default();
    config.mount_options = vec![
        MountOption::RO,
        MountOption::NoDev,
        MountOption::NoSuid,
        MountOption::NoAtime,
        MountOption::FSName("lifeboat".to_owned()),
        MountOption::Subtype("lifeboat".to_owned()),
    ];
    if options.allow_other {
        // Others get what the files' owners and modes allow; alone, the one who has the key sees all.
        config.mount_options.push(MountOption::DefaultPermissions);
        config.acl = SessionACL::All;
    }
    config.n_threads = Some(THREADS);
    let session = Session::new(filesystem, at, &config).and_then(Session::spawn);
    let session = session.map_err(|e| cannot_mount(at, e))?;
    let outcome = ready();
    while outcome.is_ok() && !context.stopped() && !session.guard.is_finished() {
        std::thread::sleep(POLL_INTERVAL);
    }
    unmount(session, at)?;
    outcome
}

/// Unmounts. What is still in use goes away for all others at once; its users have a moment to close it.
fn unmount(session: BackgroundSession, at: &Path) -> Result<()> {
    if !session.guard.is_finished() {
        detach(at)?;
    }
    let begun = Instant::now();
    while !session.guard.is_finished() {
        if begun.elapsed() > CLOSING_TIME {
            // To drop it would unmount once more: by now perhaps what somebody else has mounted there.
            std::mem::forget(session);
            return Ok(());
        }
        std::thread::sleep(CLOSING_POLL_INTERVAL);
    }
    session.join().map_err(|e| Error::io(format_args!("{} stopped", at.display()), e))
}

fn detach(at: &Path) -> Result<()> {
    let detached = nix::mount::umount2(at, nix::mount::MntFlags::MNT_DETACH).is_ok()
        || FUSERMOUNT.iter().any(|program| {
            let mut quietly = Command::new(program);
            // In a group of its own: the Ctrl-C that ends this process must not end its helper.
            quietly.args(["-u", "-q", "-z", "--"]).arg(at).stderr(Stdio::null()).process_group(0);
            quietly.status().is_ok_and(|status| status.success())
        });
    if detached {
        return Ok(());
    }
    Err(Error::failed(format_args!("cannot unmount {}: it is in use", at.display()))
        .with_hint(format_args!("Close what uses it, then run `fusermount3 -u {}`.", at.display())))
}

/// Says what is missing before the kernel does, in words that help.
fn check_possible(at: &Path) -> Result<()> {
    let metadata = std::fs::metadata(at).map_err(|e| {
        Error::new(Kind::Usage, Error::io(format_args!("cannot mount at {}", at.display()), e))
            .with_hint("Name an existing directory.")
    })?;
    if !metadata.is_dir() {
        return Err(Error::usage(format_args!("cannot mount at {}: it is not a directory", at.display())));
    }
    if !Path::new(FUSE_DEVICE).exists() {
        return Err(Error::failed(format_args!("cannot mount: there is no {FUSE_DEVICE}")).with_hint(
            "Load the kernel's module with `modprobe fuse`; a container needs `--device /dev/fuse --cap-add SYS_ADMIN`.",
        ));
    }
    if let Err(e) = std::fs::File::options().read(true).write(true).open(FUSE_DEVICE) {
        return Err(Error::io(format_args!("cannot mount: cannot open {FUSE_DEVICE}"), e).with_hint(
            "Every user may open it on common systems (mode 0666); in a container it must be passed in.",
        ));
    }
    let is_root = rustix::process::geteuid().is_root();
    if !is_root && !FUSERMOUNT.iter().any(|program| Path::new(program).exists()) {
        return Err(Error::failed("cannot mount: there is no fusermount3, which users other than root need")
            .with_hint("Install the package fuse3 (`apt-get install fuse3`, `dnf install fuse3`)."));
    }
    Ok(())
}

fn cannot_mount(at: &Path, error: std::io::Error) -> Error {
    let text = error.to_string();
    // The helper's words end with a line break.
    let error = std::io::Error::new(error.kind(), text.trim().to_owned());
    let own = Error::io(format_args!("cannot mount at {}", at.display()), error);
    if text.contains("user_allow_other") {
        return own.with_hint("--allow-other needs the line `user_allow_other` in /etc/fuse.conf.");
    }
    own.with_hint("In a container, mounting needs `--device /dev/fuse --cap-add SYS_ADMIN`; elsewhere the package fuse3.")
}
