//! Random trees of all that a file system can hold, and random edits of them.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::{Seek as _, SeekFrom, Write as _};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, CWD, FileType, Mode, Timespec, Timestamps, XattrFlags};

use crate::random::Random;

/// Sizes where something changes: chunks, blocks, segments, large files.
const SIZES: &[usize] = &[
    0,
    1,
    2,
    100,
    4095,
    4096,
    4097,
    (16 << 10) - 1,
    64 << 10,
    (128 << 10) - 1,
    128 << 10,
    (128 << 10) + 1,
    (256 << 10) + 1,
    1 << 20,
    (2 << 20) + 1,
    (4 << 20) - 1,
    4 << 20,
    (4 << 20) + 1,
];

/// Names that something, somewhere, will not like.
const NAMES: &[&[u8]] = &[
    b"plain",
    b"with space",
    b"new\nline",
    b"tab\there",
    b"\xff\xfe\x80",
    b"caf\xc3\xa9",
    b"cafe\xcc\x81",
    b"-rf",
    b"--help",
    b"back\\slash",
    b"\\x41",
    b"..hidden",
    b"...",
    b".dot",
    b"\x01\x1b[31m",
    b"*?[a]",
    b"quote'\"",
    b"$(id)",
    b" ",
    b"~",
    b"#comment",
    b"!negated",
    b"colon:name",
    b"\xe2\x80\xae.txt",
];

/// Whether this process may do what only root may: owners, devices, `trusted.*`.
pub fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

/// Fills the directory `dir`, which is there, with about `entries` random entries.
pub fn grow(dir: &Path, entries: usize, random: &mut Random) {
    let mut garden = Garden::of(dir);
    for _ in 0..entries {
        garden.add(random);
    }
    garden.settle_times(random);
}

/// Changes about `edits` things below `dir`: adds, removes, renames, rewrites, appends, touches, changes modes and attributes.
pub fn edit(dir: &Path, edits: usize, random: &mut Random) {
    let mut garden = Garden::of(dir);
    for _ in 0..edits {
        garden.edit(random);
    }
}

/// A file of `len` bytes at `path`.
pub fn file(path: &Path, len: usize, random: &mut Random) {
    let bytes = if random.chance(50) { random.bytes(len) } else { random.text(len) };
    fs::write(path, bytes).unwrap();
}

/// Sets the modification time of the entry itself, not of what it links to.
pub fn set_mtime(path: &Path, seconds: i64, nanoseconds: i64) {
    let time = Timespec { tv_sec: seconds, tv_nsec: nanoseconds };
    let times = Timestamps { last_access: time, last_modification: time };
    rustix::fs::utimensat(CWD, path, &times, AtFlags::SYMLINK_NOFOLLOW).unwrap();
}

/// Sets an extended attribute of the entry itself. Returns whether the file system took it.
pub fn set_xattr(path: &Path, name: &str, value: &[u8]) -> bool {
    rustix::fs::lsetxattr(path, name, value, XattrFlags::empty()).is_ok()
}

/// The access ACL `user::rwx, user:1000:r-x, group::r-x, mask::rwx, other::---` in the kernel's form.
pub fn acl() -> Vec<u8> {
    let mut value = 2_u32.to_le_bytes().to_vec();
    for (tag, rights, id) in
        [(1_u16, 7_u16, u32::MAX), (2, 5, 1000), (4, 5, u32::MAX), (0x10, 7, u32::MAX), (0x20, 0, u32::MAX)]
    {
        value.extend_from_slice(&tag.to_le_bytes());
        value.extend_from_slice(&rights.to_le_bytes());
        value.extend_from_slice(&id.to_le_bytes());
    }
    value
}

/// Puts modification times that are in the future into the past: such files are never trusted to be unchanged.
pub fn leave_the_future(path: &Path) {
    let metadata = path.symlink_metadata().unwrap();
    if metadata.is_dir() {
        for entry in fs::read_dir(path).unwrap() {
            leave_the_future(&entry.unwrap().path());
        }
    }
    if std::os::unix::fs::MetadataExt::mtime(&metadata) > 4_000_000_000 {
        set_mtime(path, 1_400_000_000, 7);
    }
}

struct Garden {
    root: PathBuf,
    directories: Vec<PathBuf>,
    /// All else, with whether it is a regular file.
    others: BTreeMap<PathBuf, bool>,
    grown: usize,
}

impl Garden {
    fn of(root: &Path) -> Self {
        let mut garden =
            Self { root: root.to_path_buf(), directories: Vec::new(), others: BTreeMap::new(), grown: 0 };
        garden.look(root);
        garden
    }

    fn look(&mut self, dir: &Path) {
        self.directories.push(dir.to_path_buf());
        let mut entries: Vec<_> = fs::read_dir(dir).unwrap().map(Result::unwrap).collect();
        entries.sort_by_key(fs::DirEntry::file_name);
        for entry in entries {
            let kind = entry.file_type().unwrap();
            if kind.is_dir() {
                self.look(&entry.path());
            } else {
                self.others.insert(entry.path(), kind.is_file());
            }
        }
    }

    fn free_name(&mut self, random: &mut Random) -> PathBuf {
        let dir = random.pick(&self.directories).clone();
        loop {
            self.grown += 1;
            let mut name = random.pick(NAMES).to_vec();
            if random.chance(60) {
                name.extend_from_slice(format!("{}", self.grown).as_bytes());
            }
            if random.chance(3) {
                name.resize(255, b'n');
            }
            let path = dir.join(OsStr::from_bytes(&name));
            // Paths stay below PATH_MAX here: deep ones have a test of their own.
            if path.as_os_str().len() > 3000 {
                return self.root.join(format!("flat{}", self.grown));
            }
            if path.symlink_metadata().is_err() {
                return path;
            }
        }
    }

    fn any_file(&self, random: &mut Random) -> Option<PathBuf> {
        let files: Vec<&PathBuf> =
            self.others.iter().filter(|(_, file)| **file).map(|(path, _)| path).collect();
        if files.is_empty() { None } else { Some((*random.pick(&files)).clone()) }
    }

    fn add(&mut self, random: &mut Random) {
        let path = self.free_name(random);
        match random.below(100) {
            0..50 => {
                // Large ones are rare, so that a tree stays at some megabytes.
                let sizes = if random.chance(85) { &SIZES[..10] } else { SIZES };
                file(&path, *random.pick(sizes), random);
            }
            50..65 => {
                fs::create_dir(&path).unwrap();
                self.dress(&path, true, random);
                self.directories.push(path);
                return;
            }
            65..74 => {
                let targets: [&[u8]; 5] = [b"plain", b"/nowhere/at/all", b"..", b"\xff loop\n", &[b'x'; 900]];
                let target = *random.pick(&targets);
                symlink(OsStr::from_bytes(target), &path).unwrap();
                self.dress(&path, false, random);
                self.others.insert(path, false);
                return;
            }
            74..84 => match self.any_file(random) {
                Some(existing) => {
                    fs::hard_link(existing, &path).unwrap();
                    self.others.insert(path, true);
                    return;
                }
                None => fs::write(&path, b"alone").unwrap(),
            },
            84..89 => sparse(&path, random),
            89..93 => match self.any_file(random) {
                Some(existing) => drop(fs::copy(existing, &path).unwrap()),
                None => fs::write(&path, b"").unwrap(),
            },
            93..97 => {
                node(&path, FileType::Fifo);
                self.dress(&path, false, random);
                self.others.insert(path, false);
                return;
            }
            97..98 => {
                node(&path, FileType::Socket);
                self.others.insert(path, false);
                return;
            }
            _ if is_root() => {
                node(&path, *random.pick(&[FileType::CharacterDevice, FileType::BlockDevice]));
                self.dress(&path, false, random);
                self.others.insert(path, false);
                return;
            }
            _ => fs::write(&path, b"for want of a device").unwrap(),
        }
        self.dress(&path, false, random);
        self.others.insert(path, true);
    }

    /// Owner, mode, attributes, time.
    fn dress(&self, path: &Path, is_dir: bool, random: &mut Random) {
        let kind = path.symlink_metadata().unwrap().file_type();
        if is_root() && random.chance(50) {
            let ids = [0, 1, 1000, 65534, 4_000_000_000];
            std::os::unix::fs::lchown(path, Some(*random.pick(&ids)), Some(*random.pick(&ids))).unwrap();
        }
        if !kind.is_symlink() {
            let mode = if is_dir {
                *random.pick(&[0o755, 0o700, 0o1777, 0o2755, 0o711])
            } else {
                *random.pick(&[0o644, 0o600, 0o755, 0o4755, 0o2711, 0o444, 0o666, 0o640])
            };
            fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
        }
        if (kind.is_file() || kind.is_dir()) && random.chance(25) {
            set_xattr(path, "user.empty", b"");
            let len = random.below(1500);
            set_xattr(path, "user.some", &random.bytes(len));
            if is_root() {
                set_xattr(path, "trusted.lifeboat", b"\0binary\xff");
            }
            if random.chance(40) {
                set_xattr(path, "system.posix_acl_access", &acl());
            }
            if is_dir && random.chance(40) {
                set_xattr(path, "system.posix_acl_default", &acl());
            }
        }
        touch(path, random);
    }

    fn edit(&mut self, random: &mut Random) {
        let others: Vec<PathBuf> = self.others.keys().cloned().collect();
        if others.is_empty() {
            return self.add(random);
        }
        let path = random.pick(&others).clone();
        let is_file = self.others[&path];
        match random.below(9) {
            0 | 1 => self.add(random),
            2 => {
                fs::remove_file(&path).unwrap();
                self.others.remove(&path);
            }
            3 => {
                let to = self.free_name(random);
                fs::rename(&path, &to).unwrap();
                self.others.remove(&path);
                self.others.insert(to, is_file);
            }
            4 if is_file => {
                let mut file = File::options().append(true).open(&path).unwrap();
                let len = *random.pick(&SIZES[..10]);
                file.write_all(&random.bytes(len)).unwrap();
            }
            5 if is_file => {
                let mut file = File::options().write(true).open(&path).unwrap();
                let len = file.metadata().unwrap().len();
                file.seek(SeekFrom::Start(random.number() % (len + 1))).unwrap();
                file.write_all(b"changed in the middle").unwrap();
                // As some programs do: the time is put back, only ctime tells.
                set_mtime(&path, 1_000_000_000, 5);
            }
            6 if is_file => {
                let file = File::options().write(true).open(&path).unwrap();
                let len = file.metadata().unwrap().len();
                file.set_len(random.number() % (len + 1)).unwrap();
            }
            7 => self.dress(&path, false, random),
            8 if self.directories.len() > 1 => {
                let at = 1 + random.below(self.directories.len() - 1);
                let directory = self.directories[at].clone();
                self.dress(&directory, true, random);
            }
            _ => touch(&path, random),
        }
    }

    fn settle_times(&self, random: &mut Random) {
        for directory in self.directories.iter().rev() {
            touch(directory, random);
        }
    }
}

fn touch(path: &Path, random: &mut Random) {
    // Before 1970, now-ish, and beyond 32 bits; never a whole second, which would count as a coarse clock.
    let seconds = *random.pick(&[-1, -86_400 * 365, 0, 1, 1_234_567_890, 1_700_000_000, 5_000_000_000]);
    set_mtime(path, seconds, 1 + (random.number() % 999_999_998) as i64);
}

fn sparse(path: &Path, random: &mut Random) {
    let mut file = File::create(path).unwrap();
    let len = *random.pick(&[1_u64 << 20, (3 << 20) + 17, 40 << 20]);
    file.set_len(len).unwrap();
    for _ in 0..random.below(4) {
        file.seek(SeekFrom::Start(random.number() % len)).unwrap();
        let count = 1 + random.below(100_000);
        file.write_all(&random.bytes(count)).unwrap();
    }
}

fn node(path: &Path, kind: FileType) {
    let device = match kind {
        FileType::CharacterDevice => rustix::fs::makedev(1, 3),
        FileType::BlockDevice => rustix::fs::makedev(7, 200),
        _ => 0,
    };
    rustix::fs::mknodat(CWD, path, kind, Mode::from_raw_mode(0o640), device).unwrap();
}
