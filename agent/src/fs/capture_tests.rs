//! Reading entries as odd as the world has them.

use std::os::unix::fs::{FileExt, MetadataExt};
use std::os::unix::net::UnixListener;

use super::*;
use crate::fs::create::{EnsuredDir, create_fifo, create_file, create_link, create_symlink, ensure_dir};
use crate::fs::testing::{Scratch, is_root, set_mtime, skip};

#[test]
fn names_are_bytes_in_order_and_can_be_listed_again() {
    let scratch = Scratch::new();
    let long = [b'n'; 255];
    let mut names: Vec<&[u8]> =
        vec![b"b", b"a", b"line\nbreak", b"\xff\xfe", b".hidden", b" ", b"...", b"a b", &long];
    for name in &names {
        create_file(scratch.fd(), name).unwrap();
    }
    names.sort_unstable();
    for _ in 0..2 {
        let listed = read_names(scratch.fd()).unwrap();
        assert_eq!(listed.iter().map(|entry| &*entry.name).collect::<Vec<_>>(), names);
        for entry in &listed {
            let stat = stat(scratch.fd(), &entry.name).unwrap();
            assert_eq!(stat.kind, FileType::File);
            assert_eq!(stat.meta.inode, entry.inode);
            assert!(entry.kind.is_none_or(|kind| kind == FileType::File));
        }
    }
}

#[test]
fn a_directory_of_many_buffers_is_listed_whole() {
    let scratch = Scratch::new();
    let count = 12_000;
    for number in 0..count {
        create_symlink(scratch.fd(), format!("{number:060}").as_bytes(), b"x").unwrap();
    }
    let names = read_names(scratch.fd()).unwrap();
    assert_eq!(names.len(), count);
    assert!(names.is_sorted_by(|a, b| a.name < b.name));
}

#[test]
fn every_kind_is_told() {
    let scratch = Scratch::new();
    let dir = scratch.fd();
    scratch.file(b"file");
    ensure_dir(dir, b"directory").unwrap();
    create_symlink(dir, b"symlink", b"nowhere\xff").unwrap();
    create_fifo(dir, b"fifo").unwrap();
    let _socket = UnixListener::bind(scratch.path(b"socket")).unwrap();
    for (name, kind) in [
        ("file", FileType::File),
        ("directory", FileType::Directory),
        ("symlink", FileType::Symlink),
        ("fifo", FileType::Fifo),
        ("socket", FileType::Socket),
    ] {
        assert_eq!(stat(dir, name.as_bytes()).unwrap().kind, kind);
    }
    assert_eq!(*read_link(dir, b"symlink").unwrap(), *b"nowhere\xff");
    let null = open_dir_path(b"/dev").unwrap();
    let null = stat(null.as_fd(), b"null").unwrap();
    assert_eq!((null.kind, null.major, null.minor), (FileType::CharDevice, 1, 3));
}

#[test]
fn a_stat_says_what_std_says() {
    let scratch = Scratch::new();
    let path = scratch.file(b"file");
    create_link(scratch.fd(), b"file", scratch.fd(), b"other name").unwrap();
    set_mtime(scratch.fd(), b"file", 1, 987_654_321);
    let stat = stat(scratch.fd(), b"file").unwrap();
    let other = super::stat(scratch.fd(), b"other name").unwrap();
    assert_eq!(stat, other);
    let std = std::fs::metadata(path).unwrap();
    let Meta { mode, uid, gid, mtime, ctime, inode, device, links, xattrs } = stat.meta;
    assert_eq!((mode, uid, gid), (std.mode() & 0o7777, std.uid(), std.gid()));
    assert_eq!(mtime, Time { seconds: 1, nanoseconds: 987_654_321 });
    assert_eq!((ctime.seconds, i64::from(ctime.nanoseconds)), (std.ctime(), std.ctime_nsec()));
    assert_eq!((inode, device, links), (std.ino(), std.dev(), 2));
    assert_eq!((stat.size, stat.blocks), (7, std.blocks()));
    assert!(xattrs.is_empty());
    let directory = stat_fd(scratch.fd()).unwrap();
    assert_eq!((directory.kind, directory.meta.links), (FileType::Directory, 1));
    assert_eq!(directory.mount, stat.mount);
}

#[test]
fn times_before_1970_and_after_2038_are_exact() {
    let scratch = Scratch::new();
    scratch.file(b"file");
    for (seconds, nanoseconds) in
        [(-1, 1), (-1_000_000_000, 999_999_999), (0, 0), (1 << 31, 1), (5_000_000_000, 2)]
    {
        set_mtime(scratch.fd(), b"file", seconds, nanoseconds);
        let mtime = stat(scratch.fd(), b"file").unwrap().meta.mtime;
        assert_eq!((mtime.seconds, i64::from(mtime.nanoseconds)), (seconds, nanoseconds));
    }
}

#[test]
fn opening_never_follows_a_link_and_never_hangs() {
    let scratch = Scratch::new();
    let dir = scratch.fd();
    scratch.file(b"file");
    ensure_dir(dir, b"directory").unwrap();
    create_symlink(dir, b"to file", b"file").unwrap();
    create_symlink(dir, b"to directory", b"directory").unwrap();
    create_fifo(dir, b"fifo").unwrap();
    let _socket = UnixListener::bind(scratch.path(b"socket")).unwrap();

    assert!(open_file(dir, b"file").is_ok());
    assert_eq!(open_file(dir, b"to file").unwrap_err().raw_os_error(), Some(Errno::LOOP.raw_os_error()));
    assert_eq!(open_file(dir, b"socket").unwrap_err().raw_os_error(), Some(Errno::NXIO.raw_os_error()));
    let fifo = open_file(dir, b"fifo").unwrap();
    assert_eq!(stat_fd(fifo.as_fd()).unwrap().kind, FileType::Fifo);
    for name in [&b"to directory"[..], b"file", b"fifo"] {
        assert!(matches!(open_dir(dir, name).unwrap_err().kind(), io::ErrorKind::NotADirectory), "{name:?}");
    }
    assert_eq!(stat_fd(open_dir(dir, b"directory").unwrap().as_fd()).unwrap().kind, FileType::Directory);
    let handle = open_handle(dir, b"to file").unwrap();
    assert_eq!(stat_fd(handle.as_fd()).unwrap().kind, FileType::Symlink);
}

#[test]
fn reading_leaves_the_access_time() {
    let scratch = Scratch::new();
    let path = scratch.file(b"file");
    set_mtime(scratch.fd(), b"file", 1000, 0);
    let file = open_file(scratch.fd(), b"file").unwrap();
    let mut buffer = [0; 4];
    rustix::io::pread(&file, &mut buffer, 0).unwrap();
    assert_eq!(std::fs::metadata(path).unwrap().atime(), 1000);
}

#[test]
fn a_file_of_somebody_else_is_read_all_the_same() {
    if !is_root() && std::fs::metadata("/etc/passwd").unwrap().uid() == 0 {
        let etc = open_dir_path(b"/etc").unwrap();
        assert!(open_file(etc.as_fd(), b"passwd").is_ok());
    } else {
        skip("opening without O_NOATIME, as this is root");
    }
}

fn runs(file: BorrowedFd<'_>, size: u64) -> Vec<(u64, u64)> {
    let mut runs = Vec::new();
    let mut offset = 0;
    while let Some((start, end)) = next_data(file, offset, size).unwrap() {
        assert!(offset <= start && start < end && end <= size);
        runs.push((start, end));
        offset = end;
    }
    runs
}

#[test]
fn holes_are_found() {
    let scratch = Scratch::new();
    let file = std::fs::File::create(scratch.path(b"sparse")).unwrap();
    const MIB: u64 = 1 << 20;
    file.set_len(64 * MIB).unwrap();
    let whole_hole = stat(scratch.fd(), b"sparse").unwrap();
    assert!(whole_hole.may_have_holes());
    assert_eq!(runs(file.as_fd(), 64 * MIB), []);
    file.write_all_at(&[1; MIB as usize], 8 * MIB).unwrap();
    file.write_all_at(&[1; MIB as usize], 32 * MIB).unwrap();
    assert_eq!(runs(file.as_fd(), 64 * MIB), [(8 * MIB, 9 * MIB), (32 * MIB, 33 * MIB)]);
    // A size that is out of date cuts the map, and the end of the file ends it.
    assert_eq!(runs(file.as_fd(), 8 * MIB + 7), [(8 * MIB, 8 * MIB + 7)]);
    file.set_len(8 * MIB + 100).unwrap();
    let last = runs(file.as_fd(), 64 * MIB);
    assert_eq!(last.first().map(|run| run.0), Some(8 * MIB));
    let full = scratch.file(b"full");
    let full = std::fs::File::open(full).unwrap();
    assert_eq!(runs(full.as_fd(), 7), [(0, 7)]);
    assert_eq!(runs(full.as_fd(), 0), []);
    create_fifo(scratch.fd(), b"fifo").unwrap();
    let fifo = open_file(scratch.fd(), b"fifo").unwrap();
    assert!(next_data(fifo.as_fd(), 0, 7).is_err());
}

#[test]
fn trees_deeper_than_path_max_are_walked() {
    let scratch = Scratch::new();
    let name = [b'd'; 250];
    let mut dirs = vec![rustix::io::dup(scratch.fd()).unwrap()];
    for _ in 0..40 {
        match ensure_dir(dirs.last().unwrap().as_fd(), &name).unwrap() {
            EnsuredDir::Created(fd, _) => dirs.push(fd),
            other => assert!(matches!(other, EnsuredDir::Created(..)), "{other:?}"),
        }
    }
    let deepest = dirs.last().unwrap().as_fd();
    create_file(deepest, b"file").unwrap();
    assert_eq!(read_names(deepest).unwrap().len(), 1);
    assert_eq!(stat(deepest, b"file").unwrap().kind, FileType::File);
    let mut xattrs = Vec::new();
    read_xattrs_at(deepest, b"file", &mut xattrs).unwrap();
    drop(dirs);
    crate::fs::remove::remove_entry(scratch.fd(), &name).unwrap();
}
