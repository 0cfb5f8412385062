//! The kernel's questions and the answers.

use std::collections::HashMap;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use fuser::{
    Errno, FileAttr, FileHandle, FileType, Filesystem, FopenFlags, Generation, INodeNo, InitFlags,
    KernelConfig, LockOwner, OpenAccMode, OpenFlags, ReplyAttr, ReplyData, ReplyDirectory,
    ReplyDirectoryPlus, ReplyEmpty, ReplyEntry, ReplyOpen, ReplyXattr, Request,
};
use parking_lot::Mutex;

use super::files::{File, Files};
use super::inodes::{Number, number_of_top, top_of_number};
use super::top::{TopIndex, TopKind};
use crate::Result;
use crate::browse::find::type_of;
use crate::chunk::ChunkId;
use crate::events::{Context, Event};
use crate::fs::FileType as Kind;
use crate::tree::{Entry, EntryKind, Time};

/// Snapshots never change, so what the kernel was told stays true.
const FOREVER: Duration = Duration::from_secs(24 * 3600);
const READAHEAD_BYTES: u32 = 1 << 20;
const BLOCK_BYTES: u32 = 4096;
/// A place in a directory is the node's number and the entry's in it; nodes have far fewer entries than this.
const ENTRY_BITS: u32 = 24;

/// A read-only file system over snapshots.
pub(super) struct SnapshotFilesystem {
    files: Files,
    context: Context,
    /// Directories that are open: their nodes.
    open: Mutex<HashMap<u64, Arc<[ChunkId]>>>,
    next_handle: AtomicU64,
    uid: u32,
    gid: u32,
}

/// An entry of a directory on its way to the kernel.
struct Listed<'a> {
    offset: u64,
    name: &'a [u8],
    number: Number,
    file: File,
}

impl SnapshotFilesystem {
    pub(super) fn new(files: Files, context: Context) -> Self {
        Self {
            files,
            context,
            open: Mutex::default(),
            next_handle: AtomicU64::new(1),
            uid: rustix::process::geteuid().as_raw(),
            gid: rustix::process::getegid().as_raw(),
        }
    }

    /// What is damaged is said here, and is an I/O error there.
    fn failed(&self, error: &crate::Error) -> Errno {
        self.context.report(Event::Damage(error.to_string()));
        Errno::EIO
    }

    fn file(&self, ino: INodeNo) -> Result<File, Errno> {
        self.files.file(ino.0).map_err(|e| self.failed(&e))?.ok_or(Errno::ENOENT)
    }

    fn entry(&self, ino: INodeNo) -> Result<Option<Arc<Entry>>, Errno> {
        match self.file(ino)? {
            File::Entry(entry) => Ok(Some(entry)),
            File::Top(_) => Ok(None),
        }
    }

    fn attributes(&self, number: Number, file: &File) -> FileAttr {
        match file {
            File::Top(index) => self.top_attributes(number, *index),
            File::Entry(entry) => entry_attributes(number, entry),
        }
    }

    fn top_attributes(&self, number: Number, index: TopIndex) -> FileAttr {
        let node = self.files.top.nodes.get(index);
        let (kind, perm, size) = match node.map(|node| &node.kind) {
            Some(TopKind::Link(target)) => (FileType::Symlink, 0o777, target.len() as u64),
            _ => (FileType::Directory, 0o555, 0),
        };
        let time = system_time(node.map_or(Time::default(), |node| node.mtime));
        FileAttr {
            ino: INodeNo(number),
            size,
            blocks: 0,
            atime: time,
            mtime: time,
            ctime: time,
            crtime: time,
            kind,
            perm,
            nlink: if kind == FileType::Directory { 2 } else { 1 },
            uid: self.uid,
            gid: self.gid,
            rdev: 0,
            blksize: BLOCK_BYTES,
            flags: 0,
        }
    }

    /// Gives a directory's entries after `offset` to `add` until it says that there is no room.
    fn list(
        &self,
        ino: INodeNo,
        handle: FileHandle,
        offset: u64,
        add: &mut dyn FnMut(&Listed<'_>) -> bool,
    ) -> Result<(), Errno> {
        let file = self.file(ino)?;
        let parent = self.files.parent(ino.0);
        for (number, (name, at)) in [(b".".as_slice(), ino.0), (b"..".as_slice(), parent)].iter().enumerate()
        {
            let next = number as u64 + 1;
            if next > offset {
                let file = self.file(INodeNo(*at))?;
                if add(&Listed { offset: next, name, number: *at, file }) {
                    return Ok(());
                }
            }
        }
        match file {
            File::Top(index) => self.list_top(index, offset, add),
            File::Entry(_) => self.list_nodes(ino.0, handle, offset, add),
        }
    }

    fn list_top(
        &self,
        index: TopIndex,
        offset: u64,
        add: &mut dyn FnMut(&Listed<'_>) -> bool,
    ) -> Result<(), Errno> {
        let Some(TopKind::Directory(names)) = self.files.top.nodes.get(index).map(|node| &node.kind) else {
            return Err(Errno::ENOTDIR);
        };
        for (place, (name, child)) in names.iter().enumerate().skip(offset.saturating_sub(2) as usize) {
            let number = number_of_top(*child);
            let file = self.file(INodeNo(number))?;
            if add(&Listed { offset: place as u64 + 3, name, number, file }) {
                break;
            }
        }
        Ok(())
    }

    fn list_nodes(
        &self,
        parent: Number,
        handle: FileHandle,
        offset: u64,
        add: &mut dyn FnMut(&Listed<'_>) -> bool,
    ) -> Result<(), Errno> {
        let ids = self.open.lock().get(&handle.0).cloned().ok_or(Errno::EBADF)?;
        // Offsets up to 2 are `.` and `..`; then comes the place of the next entry, plus 2.
        let place = offset.saturating_sub(2);
        let (first, mut skip) = ((place >> ENTRY_BITS) as usize, (place & ((1 << ENTRY_BITS) - 1)) as usize);
        for (number, id) in ids.iter().enumerate().skip(first) {
            let node = self.files.node(id).map_err(|e| self.failed(&e))?;
            for (at, entry) in node.entries.iter().enumerate().skip(skip) {
                let next = 2 + ((number as u64) << ENTRY_BITS | (at as u64 + 1));
                let listed = Listed {
                    offset: next,
                    name: &entry.name,
                    number: self.files.number(parent, entry),
                    file: File::Entry(Arc::new(entry.clone())),
                };
                if add(&listed) {
                    return Ok(());
                }
            }
            skip = 0;
        }
        Ok(())
    }

    fn open_directory(&self, ino: INodeNo) -> Result<FileHandle, Errno> {
        let Some(entry) = self.entry(ino)? else { return Ok(FileHandle(0)) };
        let EntryKind::Directory { content, .. } = &entry.kind else { return Err(Errno::ENOTDIR) };
        let ids = self.files.node_ids(content).map_err(|e| self.failed(&e))?;
        let handle = self.next_handle.fetch_add(1, Ordering::Relaxed);
        self.open.lock().insert(handle, ids.into());
        Ok(FileHandle(handle))
    }

    fn bytes(&self, ino: INodeNo, offset: u64, size: u32) -> Result<Vec<u8>, Errno> {
        let entry = self.entry(ino)?.ok_or(Errno::EISDIR)?;
        let EntryKind::File { content, .. } = &entry.kind else { return Err(Errno::EINVAL) };
        self.files.read(content, offset, size as usize).map_err(|e| self.failed(&e))
    }

    fn link_target(&self, ino: INodeNo) -> Result<Vec<u8>, Errno> {
        match self.file(ino)? {
            File::Top(index) => match self.files.top.nodes.get(index).map(|node| &node.kind) {
                Some(TopKind::Link(target)) => Ok(target.clone()),
                _ => Err(Errno::EINVAL),
            },
            File::Entry(entry) => match &entry.kind {
                EntryKind::Symlink { target } => Ok(target.to_vec()),
                _ => Err(Errno::EINVAL),
            },
        }
    }

    fn xattr(&self, ino: INodeNo, name: &OsStr) -> Result<Vec<u8>, Errno> {
        let entry = self.entry(ino)?.ok_or(Errno::NO_XATTR)?;
        let found = entry.meta.xattrs.iter().find(|xattr| *xattr.name == *name.as_bytes());
        found.map(|xattr| xattr.value.to_vec()).ok_or(Errno::NO_XATTR)
    }

    fn xattr_names(&self, ino: INodeNo) -> Result<Vec<u8>, Errno> {
        let mut names = Vec::new();
        for xattr in self.entry(ino)?.iter().flat_map(|entry| &entry.meta.xattrs) {
            names.extend_from_slice(&xattr.name);
            names.push(0);
        }
        Ok(names)
    }
}

impl Filesystem for SnapshotFilesystem {
    fn init(&mut self, _request: &Request, config: &mut KernelConfig) -> std::io::Result<()> {
        // Wishes: a kernel that lacks one of them works without it.
        for wish in [
            InitFlags::FUSE_DO_READDIRPLUS,
            InitFlags::FUSE_READDIRPLUS_AUTO,
            InitFlags::FUSE_PARALLEL_DIROPS,
            InitFlags::FUSE_CACHE_SYMLINKS,
        ] {
            let _ = config.add_capabilities(wish);
        }
        let _ = config.set_max_readahead(READAHEAD_BYTES).or_else(|most| config.set_max_readahead(most));
        Ok(())
    }

    fn lookup(&self, _request: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEntry) {
        match self.files.lookup(parent.0, name.as_bytes()) {
            Ok(Some((number, file))) => reply.entry(&FOREVER, &self.attributes(number, &file), Generation(0)),
            Ok(None) => reply.error(Errno::ENOENT),
            Err(e) => reply.error(self.failed(&e)),
        }
    }

    fn forget(&self, _request: &Request, ino: INodeNo, lookups: u64) {
        self.files.inodes.forget(ino.0, lookups);
    }

    fn getattr(&self, _request: &Request, ino: INodeNo, _handle: Option<FileHandle>, reply: ReplyAttr) {
        match self.file(ino) {
            Ok(file) => reply.attr(&FOREVER, &self.attributes(ino.0, &file)),
            Err(e) => reply.error(e),
        }
    }

    fn readlink(&self, _request: &Request, ino: INodeNo, reply: ReplyData) {
        match self.link_target(ino) {
            Ok(target) => reply.data(&target),
            Err(e) => reply.error(e),
        }
    }

    fn open(&self, _request: &Request, _ino: INodeNo, flags: OpenFlags, reply: ReplyOpen) {
        match flags.acc_mode() {
            OpenAccMode::O_RDONLY => reply.opened(FileHandle(0), FopenFlags::FOPEN_KEEP_CACHE),
            _ => reply.error(Errno::EROFS),
        }
    }

    fn read(
        &self,
        _request: &Request,
        ino: INodeNo,
        _handle: FileHandle,
        offset: u64,
        size: u32,
        _flags: OpenFlags,
        _lock_owner: Option<LockOwner>,
        reply: ReplyData,
    ) {
        match self.bytes(ino, offset, size) {
            Ok(bytes) => reply.data(&bytes),
            Err(e) => reply.error(e),
        }
    }

    fn opendir(&self, _request: &Request, ino: INodeNo, _flags: OpenFlags, reply: ReplyOpen) {
        match self.open_directory(ino) {
            Ok(handle) => reply.opened(handle, FopenFlags::FOPEN_CACHE_DIR | FopenFlags::FOPEN_KEEP_CACHE),
            Err(e) => reply.error(e),
        }
    }

    fn readdir(
        &self,
        _request: &Request,
        ino: INodeNo,
        handle: FileHandle,
        offset: u64,
        mut reply: ReplyDirectory,
    ) {
        let listed = self.list(ino, handle, offset, &mut |listed| {
            let kind = self.attributes(listed.number, &listed.file).kind;
            reply.add(INodeNo(listed.number), listed.offset, kind, OsStr::from_bytes(listed.name))
        });
        match listed {
            Ok(()) => reply.ok(),
            Err(e) => reply.error(e),
        }
    }

    fn readdirplus(
        &self,
        _request: &Request,
        ino: INodeNo,
        handle: FileHandle,
        offset: u64,
        mut reply: ReplyDirectoryPlus,
    ) {
        let listed = self.list(ino, handle, offset, &mut |listed| {
            let attributes = self.attributes(listed.number, &listed.file);
            let name = OsStr::from_bytes(listed.name);
            let full =
                reply.add(INodeNo(listed.number), listed.offset, name, &FOREVER, &attributes, Generation(0));
            // Every entry that goes out counts as a lookup, but for these two.
            let counts = !full && !matches!(listed.name, b"." | b"..");
            if let (true, None, File::Entry(entry)) = (counts, top_of_number(listed.number), &listed.file) {
                self.files.tell(ino.0, entry.clone());
            }
            full
        });
        match listed {
            Ok(()) => reply.ok(),
            Err(e) => reply.error(e),
        }
    }

    fn releasedir(
        &self,
        _request: &Request,
        _ino: INodeNo,
        handle: FileHandle,
        _flags: OpenFlags,
        reply: ReplyEmpty,
    ) {
        self.open.lock().remove(&handle.0);
        reply.ok();
    }

    fn getxattr(&self, _request: &Request, ino: INodeNo, name: &OsStr, size: u32, reply: ReplyXattr) {
        answer_xattr(self.xattr(ino, name), size, reply);
    }

    fn listxattr(&self, _request: &Request, ino: INodeNo, size: u32, reply: ReplyXattr) {
        answer_xattr(self.xattr_names(ino), size, reply);
    }
}

/// The kernel asks first how long it is, with a size of 0.
fn answer_xattr(answer: Result<Vec<u8>, Errno>, size: u32, reply: ReplyXattr) {
    match answer {
        Ok(bytes) if size == 0 => reply.size(bytes.len() as u32),
        Ok(bytes) if bytes.len() <= size as usize => reply.data(&bytes),
        Ok(_) => reply.error(Errno::ERANGE),
        Err(e) => reply.error(e),
    }
}

fn entry_attributes(number: Number, entry: &Entry) -> FileAttr {
    let meta = &entry.meta;
    let (size, rdev) = match &entry.kind {
        EntryKind::File { content, size } => (if entry.incomplete { content.bytes() } else { *size }, 0),
        EntryKind::Symlink { target } => (target.len() as u64, 0),
        EntryKind::CharDevice { major, minor } | EntryKind::BlockDevice { major, minor } => {
            // The kernel's own coding of device numbers.
            (0, (minor & 0xff) | (major << 8) | ((minor & !0xff) << 12))
        }
        _ => (0, 0),
    };
    let mtime = system_time(meta.mtime);
    FileAttr {
        ino: INodeNo(number),
        size,
        blocks: occupied_bytes(entry).div_ceil(512),
        atime: mtime,
        mtime,
        ctime: system_time(meta.ctime),
        crtime: mtime,
        kind: kind_of(entry),
        perm: meta.mode as u16,
        nlink: if entry.is_directory() { 2 } else { u32::try_from(meta.links).unwrap_or(u32::MAX) },
        uid: meta.uid,
        gid: meta.gid,
        rdev,
        blksize: BLOCK_BYTES,
        flags: 0,
    }
}

/// Bytes without the holes, as far as the entry itself knows of them.
fn occupied_bytes(entry: &Entry) -> u64 {
    match &entry.kind {
        EntryKind::File { content, .. } => {
            content.extents.iter().filter(|extent| extent.id.is_some()).map(|extent| extent.length).sum()
        }
        _ => 0,
    }
}

const fn kind_of(entry: &Entry) -> FileType {
    match type_of(entry) {
        Kind::File => FileType::RegularFile,
        Kind::Directory => FileType::Directory,
        Kind::Symlink => FileType::Symlink,
        Kind::Fifo => FileType::NamedPipe,
        Kind::Socket => FileType::Socket,
        Kind::CharDevice => FileType::CharDevice,
        Kind::BlockDevice => FileType::BlockDevice,
    }
}

/// The nearest time that the system can name.
fn system_time(time: Time) -> SystemTime {
    let seconds = Duration::from_secs(time.seconds.unsigned_abs());
    let whole =
        if time.seconds < 0 { UNIX_EPOCH.checked_sub(seconds) } else { UNIX_EPOCH.checked_add(seconds) };
    whole
        .and_then(|whole| whole.checked_add(Duration::from_nanos(time.nanoseconds.into())))
        .unwrap_or(UNIX_EPOCH)
}
