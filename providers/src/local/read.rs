//! Reading objects: whole, in part, and their metadata.

use std::ops::Range;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use rustix::fd::OwnedFd;
use rustix::fs::{FileType, OFlags, Stat, fstat};
use rustix::io::{Errno, pread};

use super::errno::{translate, translate_read};
use super::pool::BufferPool;
use super::root::Root;
use crate::{Error, ErrorKind, Key, ObjectInfo, Result};

/// `NONBLOCK` so that a FIFO somebody put into the store cannot hang the call; it means nothing for files.
const READ_FLAGS: OFlags = OFlags::RDONLY.union(OFlags::NONBLOCK).union(OFlags::NOCTTY);

/// Reads an object or `range` of it, exactly.
pub(super) fn get(
    root: &Root,
    pool: &Arc<BufferPool>,
    key: &Key,
    range: Option<Range<u64>>,
) -> Result<Bytes> {
    let (file, stat) = open(root, "get", key)?;
    let size = size_of(&stat);
    let range = range.unwrap_or(0..size);
    if range.end > size {
        let reason = format_args!("bytes {}..{} asked for, the object has {size}", range.start, range.end);
        return Err(Error::new(ErrorKind::Corrupt, "get", key, reason));
    }
    let len = usize::try_from(range.end.saturating_sub(range.start)).unwrap_or(usize::MAX);
    let Some(mut bytes) = pool.take(len) else {
        return Err(Error::new(ErrorKind::Other, "get", key, "too large for this machine's memory"));
    };
    let mut done = 0;
    while let Some(rest) = bytes.get_mut(done..len).filter(|rest| !rest.is_empty()) {
        match pread(&file, rest, range.start + done as u64) {
            Ok(0) => return Err(Error::new(ErrorKind::Corrupt, "get", key, "it became shorter while read")),
            Ok(got) => done += got,
            Err(Errno::INTR) => {}
            Err(errno) => return Err(translate_read("get", key, errno)),
        }
    }
    Ok(pool.lend(bytes, len))
}

/// Size and time of one object.
pub(super) fn head(root: &Root, key: &Key) -> Result<ObjectInfo> {
    let (_, stat) = open(root, "head", key)?;
    Ok(describe(key.clone(), &stat))
}

/// What a listing says of the file.
pub(super) fn describe(key: Key, stat: &Stat) -> ObjectInfo {
    ObjectInfo { key, size: size_of(stat), sha256: None, modified: modified(stat) }
}

fn open(root: &Root, operation: &'static str, key: &Key) -> Result<(OwnedFd, Stat)> {
    let no_object = || Error::new(ErrorKind::NotFound, operation, key, "no such object");
    let file = match root.open_at(key.as_str(), READ_FLAGS) {
        Ok(file) => file,
        Err(Errno::NOENT | Errno::NOTDIR) => return Err(no_object()),
        Err(errno) => return Err(translate_read(operation, key, errno)),
    };
    let stat = fstat(&file).map_err(|errno| translate(operation, key, errno))?;
    match FileType::from_raw_mode(stat.st_mode) {
        FileType::RegularFile => Ok((file, stat)),
        FileType::Directory => Err(no_object()),
        _ => Err(Error::new(ErrorKind::Corrupt, operation, key, "it is a pipe or device, not a file")),
    }
}

fn size_of(stat: &Stat) -> u64 {
    u64::try_from(stat.st_size).unwrap_or(0)
}

fn modified(stat: &Stat) -> Option<SystemTime> {
    let nanos = u32::try_from(stat.st_mtime_nsec).ok()?;
    match u64::try_from(stat.st_mtime) {
        Ok(seconds) => SystemTime::UNIX_EPOCH.checked_add(Duration::new(seconds, nanos)),
        Err(_) => SystemTime::UNIX_EPOCH.checked_sub(Duration::from_secs(stat.st_mtime.unsigned_abs())),
    }
}
