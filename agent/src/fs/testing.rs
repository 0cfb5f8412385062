//! What the tests of this folder share: odd entries, comparing, and running a test as another user.

use std::os::unix::ffi::OsStrExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use rustix::fd::{AsFd, BorrowedFd, OwnedFd};

use super::FileType;
use super::capture::{Stat, open_dir_path, read_link, read_xattrs_at, stat};
use super::xattr::{ACL_ACCESS, Place};
use crate::tree::{Time, Xattr};

/// The user and group nobody has rights as.
pub const NOBODY: u32 = 65534;
/// Set in a process that was started to run one test again.
const RERUN: &str = "LIFEBOAT_TEST_RERUN";

/// A temporary directory, and a descriptor of it.
pub struct Scratch {
    pub fd: OwnedFd,
    dir: tempfile::TempDir,
}

impl Scratch {
    pub fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let fd = open_dir_path(dir.path().as_os_str().as_bytes()).unwrap();
        Self { fd, dir }
    }

    pub fn fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }

    pub fn path(&self, name: &[u8]) -> PathBuf {
        self.dir.path().join(std::ffi::OsStr::from_bytes(name))
    }

    /// Makes a file with some content.
    pub fn file(&self, name: &[u8]) -> PathBuf {
        let path = self.path(name);
        std::fs::write(&path, "content").unwrap();
        path
    }

    /// Whether files here can have attributes in the namespace `user`.
    pub fn has_xattrs(&self) -> bool {
        let path = self.file(b".probe");
        let set = Place::at(self.fd(), b".probe").unwrap().set(&xattr(b"user.probe", b"1"));
        std::fs::remove_file(path).unwrap();
        set.map_err(|error| skip(&format!("user.* attributes: {error}"))).is_ok()
    }
}

pub fn skip(what: &str) {
    println!("skipped: cannot be done here: {what}");
}

/// Whether this is root with its rights, not a root of a sandbox that took them.
pub fn is_root() -> bool {
    static MAY_CHOWN: std::sync::LazyLock<bool> = std::sync::LazyLock::new(|| {
        let probe = tempfile::NamedTempFile::new().unwrap();
        rustix::process::geteuid().is_root()
            && std::os::unix::fs::chown(probe.path(), Some(1), Some(1)).is_ok()
    });
    *MAY_CHOWN
}

/// All that a restore should bring back of an entry.
#[derive(Debug, PartialEq)]
pub struct Seen {
    kind: FileType,
    owner: (u32, u32),
    mode: u32,
    mtime: Time,
    size: u64,
    device: (u32, u32),
    target: Option<Box<[u8]>>,
    xattrs: Vec<Xattr>,
}

pub fn see(dir: BorrowedFd<'_>, name: &[u8]) -> (Stat, Seen) {
    let mut stat = stat(dir, name).unwrap();
    read_xattrs_at(dir, name, &mut stat.meta.xattrs).unwrap();
    let target = (stat.kind == FileType::Symlink).then(|| read_link(dir, name).unwrap());
    let meta = &stat.meta;
    let seen = Seen {
        kind: stat.kind,
        owner: (meta.uid, meta.gid),
        mode: meta.mode,
        mtime: meta.mtime,
        // A directory's size is the file system's affair.
        size: if stat.kind == FileType::Directory { 0 } else { stat.size },
        device: (stat.major, stat.minor),
        target,
        xattrs: meta.xattrs.clone(),
    };
    (stat, seen)
}

pub fn xattr(name: &[u8], value: &[u8]) -> Xattr {
    Xattr { name: name.into(), value: value.into() }
}

/// A POSIX ACL in the kernel's form. An entry is tag, rights and number.
pub fn acl(entries: &[(u16, u16, u32)]) -> Box<[u8]> {
    let mut value = 2_u32.to_le_bytes().to_vec();
    for (tag, rights, id) in entries {
        value.extend_from_slice(&tag.to_le_bytes());
        value.extend_from_slice(&rights.to_le_bytes());
        value.extend_from_slice(&id.to_le_bytes());
    }
    value.into()
}

/// `user::rw-,user:1234:rwx,group::---,mask::rwx,other::---`: mode 0670 though the group has nothing.
pub fn acl_access() -> Xattr {
    let none = u32::MAX;
    let entries = [(1, 6, none), (2, 7, 1234), (4, 0, none), (0x10, 7, none), (0x20, 0, none)];
    Xattr { name: ACL_ACCESS.into(), value: acl(&entries) }
}

/// How a test is run once more in a process of its own.
pub enum As {
    /// Without any rights.
    Nobody,
    /// With a mount table of its own.
    OwnMounts,
}

/// Runs the test `name` of `module` again in a process of its own. `true` in that process, and where no other process
/// is needed: do it. `false` where it was done.
pub fn in_process(module: &str, name: &str, how: &As) -> bool {
    if std::env::var_os(RERUN).is_some() || (matches!(how, As::Nobody) && !is_root()) {
        return true;
    }
    if !is_root() {
        skip("a mount, as this is not root");
        return false;
    }
    let module = module.split_once("::").map_or(module, |(_, path)| path);
    let args = [&format!("{module}::{name}"), "--exact", "--nocapture"];
    let run = |exe: &Path| {
        let mut command = match how {
            As::Nobody => {
                let mut command = Command::new(exe);
                command.uid(NOBODY).gid(NOBODY);
                command
            }
            As::OwnMounts => {
                let mut command = Command::new("unshare");
                command.arg("--mount").arg(exe);
                command
            }
        };
        command.args(args).env(RERUN, "1").env("TMPDIR", "/tmp").current_dir("/").output()
    };
    let exe = std::env::current_exe().unwrap();
    let output = run(&exe).or_else(|_| {
        // The build's directory may be closed to others.
        let open = tempfile::tempdir().unwrap();
        rustix::fs::chmod(open.path(), 0o755.into()).unwrap();
        let copy = open.path().join("test");
        std::fs::copy(&exe, &copy).unwrap();
        run(&copy)
    });
    match output {
        Ok(output) => {
            let text = String::from_utf8_lossy(&output.stdout);
            let errors = String::from_utf8_lossy(&output.stderr);
            if errors.starts_with("unshare:") {
                skip(&errors);
                return false;
            }
            assert!(output.status.success(), "{text}\n{errors}");
            assert!(text.contains("1 passed"), "no such test: {text}");
            text.lines().filter(|line| line.contains("skipped:")).for_each(|line| println!("{line}"));
        }
        Err(error) => skip(&format!("a process of its own: {error}")),
    }
    false
}

/// Sets the modification time of an entry, not following it.
pub fn set_mtime(dir: BorrowedFd<'_>, name: &[u8], seconds: i64, nanoseconds: i64) {
    let time = rustix::fs::Timespec { tv_sec: seconds, tv_nsec: nanoseconds };
    let times = rustix::fs::Timestamps { last_access: time, last_modification: time };
    rustix::fs::utimensat(dir, name, &times, rustix::fs::AtFlags::SYMLINK_NOFOLLOW)
        .unwrap_or_else(|error| panic!("utimensat {seconds}: {error}"));
}
