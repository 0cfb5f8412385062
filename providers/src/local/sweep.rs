//! Temporary files: their names say whose they are, and those of dead writers are removed.
//!
//! A name is `.<host>-<process>-<number>`, where `host` stands for one boot of one machine and one namespace of
//! process ids, so that a process id is only ever judged where it means something. A file is stale when its
//! process is dead on the same `host`, or when it is older than a day by the *store's* clock (that of a file
//! made there now). Nothing else in the folder is touched.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};

use rustix::fd::{AsFd as _, BorrowedFd, OwnedFd};
use rustix::fs::{AtFlags, Dir, FileType, Mode, OFlags, fstat, openat, statat, unlinkat};
use rustix::io::Errno;
use rustix::process::{Pid, test_kill_process};

use super::root::{Root, TEMP_FOLDER};
use crate::digest::Sha256Hasher;

/// No put takes this long; a put that hangs on a dead file server longer than this is lost anyway.
const STALE_SECONDS: i64 = 24 * 60 * 60;

static NEXT_NUMBER: AtomicU64 = AtomicU64::new(0);

/// Makes a temporary file that nobody else uses, and gives its name.
pub(super) fn create_temp(folder: BorrowedFd<'_>) -> rustix::io::Result<(String, OwnedFd)> {
    let flags = OFlags::RDWR | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    loop {
        let name = temp_name();
        match openat(folder, name.as_str(), flags, Mode::RUSR | Mode::WUSR) {
            Ok(file) => return Ok((name, file)),
            // Left by a process that had our id before us; the next number is another name.
            Err(Errno::EXIST | Errno::INTR) => {}
            Err(errno) => return Err(errno),
        }
    }
}

fn temp_name() -> String {
    let number = NEXT_NUMBER.fetch_add(1, Ordering::Relaxed);
    format!(".{}-{}-{number:x}", host(), std::process::id())
}

/// Removes the temporary files of dead writers. What cannot be removed (a read-only disk) is left: it costs
/// space, never correctness.
pub(super) fn sweep(root: &Root) {
    match try_sweep(root) {
        Ok(0) => {}
        Ok(removed) => {
            tracing::info!(store = %root.path().display(), removed, "removed stale temporary files")
        }
        Err(errno) => {
            tracing::debug!(store = %root.path().display(), %errno, "stale temporary files were not looked for");
        }
    }
}

fn try_sweep(root: &Root) -> rustix::io::Result<usize> {
    let folder = match root.open_folder(TEMP_FOLDER) {
        Ok(folder) => folder,
        Err(Errno::NOENT) => return Ok(0),
        Err(errno) => return Err(errno),
    };
    let mut now = None;
    let mut removed = 0;
    for entry in Dir::read_from(&folder)? {
        let entry = entry?;
        let Some(writer) = entry.file_name().to_str().ok().and_then(Writer::parse) else { continue };
        let stale = match writer.is_dead() {
            true => true,
            false => {
                let now = match now {
                    Some(now) => now,
                    None => *now.insert(store_clock(folder.as_fd())?),
                };
                is_older(folder.as_fd(), entry.file_name(), now)
            }
        };
        if stale && unlinkat(&folder, entry.file_name(), AtFlags::empty()).is_ok() {
            removed += 1;
        }
    }
    Ok(removed)
}

/// Who made a temporary file, as its name says.
#[derive(Debug, PartialEq, Eq)]
struct Writer<'a> {
    host: &'a str,
    process: i32,
}

impl<'a> Writer<'a> {
    fn parse(name: &'a str) -> Option<Self> {
        let mut parts = name.strip_prefix('.')?.split('-');
        let (host, process, number) = (parts.next()?, parts.next()?, parts.next()?);
        u64::from_str_radix(number, 16).ok()?;
        let process = process.parse().ok()?;
        (parts.next().is_none() && host.len() == 16).then_some(Self { host, process })
    }

    fn is_dead(&self) -> bool {
        self.host == host()
            && Pid::from_raw(self.process).is_some_and(|pid| test_kill_process(pid) == Err(Errno::SRCH))
    }
}

fn is_older(folder: BorrowedFd<'_>, name: &std::ffi::CStr, now_seconds: i64) -> bool {
    statat(folder, name, AtFlags::SYMLINK_NOFOLLOW).is_ok_and(|stat| {
        FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile
            && now_seconds.saturating_sub(stat.st_mtime) > STALE_SECONDS
    })
}

/// What a file made in the folder now is dated: a file server's clock need not agree with ours.
fn store_clock(folder: BorrowedFd<'_>) -> rustix::io::Result<i64> {
    let (name, file) = create_temp(folder)?;
    let stat = fstat(&file);
    unlinkat(folder, name.as_str(), AtFlags::empty())?;
    Ok(stat?.st_mtime)
}

/// 16 hexadecimal digits for this boot of this machine and this namespace of process ids. Where the system does
/// not tell them, a random value: then only age makes a file stale.
fn host() -> &'static str {
    static HOST: OnceLock<String> = OnceLock::new();
    HOST.get_or_init(|| {
        let boot = std::fs::read("/proc/sys/kernel/random/boot_id");
        let namespace = std::fs::read_link("/proc/self/ns/pid");
        let mut hasher = Sha256Hasher::new();
        if let (Ok(boot), Ok(namespace)) = (boot, namespace) {
            hasher.update(&boot);
            hasher.update(namespace.as_os_str().as_encoded_bytes());
        } else {
            hasher.update(&getrandom::u64().unwrap_or_default().to_le_bytes());
            hasher.update(&std::process::id().to_le_bytes());
        }
        hasher.finish().to_string()[..16].to_owned()
    })
}

#[cfg(test)]
mod tests;
