//! Metadata that was read, put back, and read again is the same; and what a user may not do is noted, not done wrong.

use std::os::unix::fs::MetadataExt;

use rustix::fd::OwnedFd;

use super::*;
use crate::fs::capture::{open_dir, open_file, read_names, stat};
use crate::fs::create::{
    EnsuredDir, create_device, create_fifo, create_file, create_link, create_symlink, ensure_dir,
    open_file_to_change, punch_hole,
};
use crate::fs::testing::{
    As, NOBODY, Scratch, acl, acl_access, in_process, is_root, see, set_mtime, skip, xattr,
};

const NO_ID: u32 = u32::MAX;

fn wanted<'a>(meta: &'a Meta, names: &'a Names) -> Wanted<'a> {
    Wanted { meta, users: names, groups: names, path: b"/the/path" }
}

/// Metadata as a snapshot may have it, of an entry of this process's user.
fn own_meta(mode: u32) -> Meta {
    let (uid, gid) = (rustix::process::geteuid().as_raw(), rustix::process::getegid().as_raw());
    Meta { mode, uid, gid, mtime: Time { seconds: 1_234_567, nanoseconds: 89 }, links: 1, ..Meta::default() }
}

fn new_dir(parent: BorrowedFd<'_>, name: &[u8]) -> OwnedFd {
    match ensure_dir(parent, name).unwrap() {
        EnsuredDir::Created(fd, _) => fd,
        other => unreachable!("{other:?}"),
    }
}

/// Reads every entry of `source` and makes it again in `target`; content of files apart.
fn copy_all(source: &Scratch, target: &Scratch, applier: &Applier) {
    let names = Names::new();
    for entry in read_names(source.fd()).unwrap() {
        let name = &*entry.name;
        let (stat, _) = see(source.fd(), name);
        let wanted = wanted(&stat.meta, &names);
        match stat.kind {
            FileType::File => {
                let file = create_file(target.fd(), name).unwrap();
                rustix::io::write(&file, &std::fs::read(source.path(name)).unwrap()).unwrap();
                applier.file(file.as_fd(), &wanted).unwrap();
            }
            FileType::Directory => {
                applier.directory(new_dir(target.fd(), name).as_fd(), &wanted).unwrap();
            }
            kind => {
                match kind {
                    FileType::Symlink => {
                        let link = crate::fs::capture::read_link(source.fd(), name).unwrap();
                        create_symlink(target.fd(), name, &link).unwrap();
                    }
                    FileType::Fifo => create_fifo(target.fd(), name).unwrap(),
                    _ => assert!(create_device(target.fd(), name, kind, stat.major, stat.minor).unwrap()),
                }
                applier.special(target.fd(), name, kind, &wanted).unwrap();
            }
        }
    }
}

fn assert_same(source: &Scratch, target: &Scratch) {
    let names = read_names(source.fd()).unwrap();
    assert_eq!(names.len(), read_names(target.fd()).unwrap().len());
    for entry in names {
        assert_eq!(see(source.fd(), &entry.name).1, see(target.fd(), &entry.name).1);
    }
}

/// Entries with everything that this process may give them.
fn odd_entries(scratch: &Scratch) {
    let dir = scratch.fd();
    // What its owner cannot read he cannot copy; root can.
    let closed = if is_root() { 0o000 } else { 0o400 };
    for (index, mode) in [0o644, closed, 0o777, 0o1604, 0o444].into_iter().enumerate() {
        let name = [b"file \xff\n".as_slice(), &[b'0' + index as u8]].concat();
        scratch.file(&name);
        set_mtime(dir, &name, [0, -1, 1 << 31, -2_000_000_000, 1_700_000_000][index], 999_999_999);
        rustix::fs::chmod(scratch.path(&name), mode.into()).unwrap();
    }
    new_dir(dir, b"directory");
    create_symlink(dir, b"symlink", b"/nonexistent/\xff").unwrap();
    create_fifo(dir, &[b'f'; 255]).unwrap();
    set_mtime(dir, b"symlink", 123, 456);
    if scratch.has_xattrs() {
        for (name, attribute) in [
            (&b"file \xff\n0"[..], xattr(b"user.x", &[9; 3000])),
            (b"file \xff\n0", acl_access()),
            (b"directory", xattr(b"user.y", b"")),
            (b"directory", xattr(ACL_DEFAULT, &acl(&[(1, 7, NO_ID), (4, 5, NO_ID), (0x20, 0, NO_ID)]))),
        ] {
            if let Err(error) = Place::at(dir, name).unwrap().set(&attribute) {
                skip(&format!("{}: {error}", String::from_utf8_lossy(&attribute.name)));
            }
        }
    }
    rustix::fs::chmod(scratch.path(b"directory"), 0o2750.into()).unwrap();
}

/// Entries only root can make.
fn odd_entries_of_root(scratch: &Scratch) {
    let dir = scratch.fd();
    for (name, mode) in [(&b"setuid"[..], 0o4755), (b"setgid", 0o2755), (b"all", 0o7777)] {
        let path = scratch.file(name);
        std::os::unix::fs::chown(&path, Some(1234), Some(4321)).unwrap();
        rustix::fs::chmod(&path, mode.into()).unwrap();
    }
    std::os::unix::fs::lchown(scratch.path(b"symlink"), Some(7), Some(8)).unwrap();
    set_mtime(dir, b"symlink", 123, 456);
    match create_device(dir, b"null", FileType::CharDevice, 1, 3) {
        Ok(true) => {
            assert!(create_device(dir, b"loop", FileType::BlockDevice, 7, 300).unwrap());
            rustix::fs::chmod(scratch.path(b"null"), 0o666.into()).unwrap();
        }
        other => skip(&format!("device nodes: {other:?}")),
    }
    // cap_net_raw+ep, version 2.
    let capability = [[1, 0, 0, 2], [0, 0x20, 0, 0], [0; 4], [0; 4], [0; 4]].concat();
    let owned = [
        (&b"all"[..], xattr(CAPABILITY, &capability)),
        (b"setgid", xattr(b"trusted.t", b"1")),
        (b"symlink", xattr(b"trusted.t", b"2")),
    ];
    for (name, attribute) in owned {
        if let Err(error) = Place::at(dir, name).unwrap().set(&attribute) {
            skip(&format!("{}: {error}", String::from_utf8_lossy(&attribute.name)));
        }
    }
}

#[test]
fn everything_comes_back_as_it_was() {
    let (source, target) = (Scratch::new(), Scratch::new());
    odd_entries(&source);
    if is_root() {
        odd_entries_of_root(&source);
    } else {
        skip("foreign owners, devices and capabilities, as this is not root");
    }
    let applier = Applier::default();
    copy_all(&source, &target, &applier);
    assert!(applier.shortfalls.is_empty(), "{}", applier.shortfalls);
    assert_same(&source, &target);
}

#[test]
fn a_normal_user_gets_back_all_that_is_his() {
    if !in_process(module_path!(), "a_normal_user_gets_back_all_that_is_his", &As::Nobody) {
        return;
    }
    let (source, target) = (Scratch::new(), Scratch::new());
    odd_entries(&source);
    rustix::fs::chmod(source.file(b"own setuid"), 0o4711.into()).unwrap();
    let applier = Applier::default();
    copy_all(&source, &target, &applier);
    assert!(applier.shortfalls.is_empty(), "{}", applier.shortfalls);
    assert_same(&source, &target);
}

#[test]
fn a_normal_user_never_makes_setuid_files_of_his_own_out_of_others() {
    let name = "a_normal_user_never_makes_setuid_files_of_his_own_out_of_others";
    if !in_process(module_path!(), name, &As::Nobody) {
        return;
    }
    let scratch = Scratch::new();
    let (names, applier) = (Names::new(), Applier::default());
    let me = own_meta(0).uid;
    let other = u32::from(me == 0);
    let mut meta = Meta { uid: other, gid: other, ..own_meta(0o6755) };
    meta.xattrs = vec![
        xattr(CAPABILITY, b"\x01\0\0\x02\0\x20\0\0\0\0\0\0\0\0\0\0\0\0\0\0"),
        xattr(b"trusted.t", b"1"),
        xattr(b"user.u", b"1"),
    ];
    for name in [b"a", b"b"] {
        let file = create_file(scratch.fd(), name).unwrap();
        applier.file(file.as_fd(), &wanted(&meta, &names)).unwrap();
        let (stat, _) = see(scratch.fd(), name);
        assert_eq!((stat.meta.mode, stat.meta.uid), (0o755, me));
        assert_eq!(stat.meta.mtime, meta.mtime, "the rest is done all the same");
    }
    let tallies = applier.shortfalls.tallies();
    for what in [Shortfall::Owner, Shortfall::SetId, Shortfall::Xattr, Shortfall::Capability] {
        let tally = &tallies[&what];
        assert!(tally.count >= 2, "{what:?}: {tally:?}");
        assert_eq!(tally.path, b"/the/path");
    }
    assert_eq!(tallies[&Shortfall::Owner].reason, format!("{other}:{other}: operation not permitted"));
    assert!(!create_device(scratch.fd(), b"null", FileType::CharDevice, 1, 3).unwrap());
    // A directory of somebody else's: setgid only means that new entries have its group, which is ours.
    let dir = new_dir(scratch.fd(), b"dir");
    applier
        .directory(dir.as_fd(), &wanted(&Meta { uid: other, gid: other, ..own_meta(0o2755) }, &names))
        .unwrap();
    assert_eq!(stat(scratch.fd(), b"dir").unwrap().meta.mode, 0o2755);
}

#[test]
fn attributes_of_read_only_entries_are_set_by_their_owner() {
    let name = "attributes_of_read_only_entries_are_set_by_their_owner";
    if !in_process(module_path!(), name, &As::Nobody) {
        return;
    }
    let scratch = Scratch::new();
    if !scratch.has_xattrs() {
        return;
    }
    let (names, applier) = (Names::new(), Applier::default());
    let (file, dir) = (create_file(scratch.fd(), b"file").unwrap(), new_dir(scratch.fd(), b"dir"));
    for value in [b"1", b"2"] {
        let meta = Meta { xattrs: vec![xattr(b"user.u", value)], ..own_meta(0o444) };
        applier.file(file.as_fd(), &wanted(&meta, &names)).unwrap();
        applier.directory(dir.as_fd(), &wanted(&meta, &names)).unwrap();
        for name in [&b"file"[..], b"dir"] {
            let (stat, _) = see(scratch.fd(), name);
            assert_eq!((stat.meta.mode, stat.meta.xattrs), (0o444, meta.xattrs.clone()));
        }
    }
    assert!(applier.shortfalls.is_empty(), "{}", applier.shortfalls);
}

#[test]
fn what_was_inherited_or_left_over_is_removed() {
    let scratch = Scratch::new();
    if !scratch.has_xattrs() {
        return;
    }
    let inherited = acl(&[(1, 7, NO_ID), (2, 7, 1234), (4, 5, NO_ID), (0x10, 7, NO_ID), (0x20, 0, NO_ID)]);
    if Place::Fd(scratch.fd()).set(&xattr(ACL_DEFAULT, &inherited)).is_err() {
        return skip("ACLs");
    }
    let (names, applier) = (Names::new(), Applier::default());
    let (file, dir) = (create_file(scratch.fd(), b"file").unwrap(), new_dir(scratch.fd(), b"dir"));
    for (place, name) in [(Place::Fd(file.as_fd()), &b"file"[..]), (Place::Fd(dir.as_fd()), b"dir")] {
        place.set(&xattr(b"user.old", b"1")).unwrap();
        assert!(see(scratch.fd(), name).0.meta.xattrs.len() >= 2, "nothing was inherited");
    }
    let meta = Meta { xattrs: vec![xattr(b"user.new", b"1")], ..own_meta(0o640) };
    applier.file(file.as_fd(), &wanted(&meta, &names)).unwrap();
    applier.directory(dir.as_fd(), &wanted(&meta, &names)).unwrap();
    for name in [&b"file"[..], b"dir"] {
        let mut now = see(scratch.fd(), name).0.meta;
        now.xattrs.retain(|xattr| !xattr.name.starts_with(b"security."));
        assert_eq!((now.mode, now.xattrs), (0o640, meta.xattrs.clone()));
    }
    assert!(applier.shortfalls.is_empty(), "{}", applier.shortfalls);
}

#[test]
fn an_acl_that_cannot_be_set_gives_nobody_more() {
    let meta = Meta { xattrs: vec![acl_access()], ..own_meta(0o4670) };
    assert_eq!(without_acl(0o4670, &meta), 0o4600);
    assert_eq!(without_acl(0o644, &own_meta(0o644)), 0o644);
    let broken = Meta { xattrs: vec![xattr(ACL_ACCESS, b"\x02")], ..own_meta(0o670) };
    assert_eq!(without_acl(0o670, &broken), 0o600);

    // An ACL the kernel refuses is noted and tightens the mode.
    let scratch = Scratch::new();
    let (names, applier) = (Names::new(), Applier::default());
    let file = create_file(scratch.fd(), b"file").unwrap();
    applier.file(file.as_fd(), &wanted(&broken, &names)).unwrap();
    assert_eq!(stat(scratch.fd(), b"file").unwrap().meta.mode, 0o600);
    assert_eq!(applier.shortfalls.tallies()[&Shortfall::Acl].count, 1);
}

#[test]
fn owners_are_mapped_by_name_in_acls_too() {
    let Some(daemon) = nix::unistd::User::from_name("daemon").ok().flatten() else {
        return skip("no user daemon");
    };
    let daemon = daemon.uid.as_raw();
    let names: Names = [(1234, b"daemon"[..].into()), (77, b"no such user"[..].into())].into();
    let applier = Applier::new(OwnerMap::by_name());
    let none = Names::new();
    let meta = Meta { uid: 77, xattrs: vec![acl_access()], ..own_meta(0o670) };
    let wanted = Wanted { meta: &meta, users: &names, groups: &none, path: b"/f" };
    let mapped = applier.map_acl(&meta.xattrs[0], &wanted).unwrap();
    let mut value = mapped.value.clone();
    let ids: Vec<_> = acl_entries(&mut value).map(|e| u32::from_le_bytes([e[4], e[5], e[6], e[7]])).collect();
    assert_eq!(ids, [NO_ID, daemon, NO_ID, NO_ID, NO_ID]);

    let scratch = Scratch::new();
    let file = create_file(scratch.fd(), b"file").unwrap();
    applier.file(file.as_fd(), &wanted).unwrap();
    let tally = applier.shortfalls.tallies()[&Shortfall::OwnerName].clone();
    assert_eq!((tally.count, tally.reason.as_str()), (1, "user no such user (77)"));
    if is_root() {
        assert_eq!(stat(scratch.fd(), b"file").unwrap().meta.uid, 77, "the number is kept");
    }
}

#[test]
fn an_impossible_owner_is_noted_and_not_taken_as_leave_it() {
    let scratch = Scratch::new();
    let (names, applier) = (Names::new(), Applier::default());
    let meta = Meta { uid: u32::MAX, ..own_meta(0o4755) };
    let file = create_file(scratch.fd(), b"file").unwrap();
    applier.file(file.as_fd(), &wanted(&meta, &names)).unwrap();
    assert_eq!(stat(scratch.fd(), b"file").unwrap().meta.mode, 0o755, "no setuid for the wrong owner");
    assert!(applier.shortfalls.tallies().contains_key(&Shortfall::Owner));
}

#[test]
fn links_are_never_followed() {
    let scratch = Scratch::new();
    let elsewhere = Scratch::new();
    let victim = elsewhere.file(b"victim");
    let before = std::fs::metadata(&victim).unwrap();
    let dir = scratch.fd();
    let target = victim.to_str().unwrap().as_bytes().to_vec();
    create_symlink(dir, b"link", &target).unwrap();
    create_symlink(dir, b"dir link", elsewhere.path(b"").to_str().unwrap().as_bytes()).unwrap();
    create_symlink(dir, b"nowhere", elsewhere.path(b"new").to_str().unwrap().as_bytes()).unwrap();

    for (name, expected) in [(&b"dir link"[..], FileType::Symlink), (b"link", FileType::Symlink)] {
        assert!(matches!(ensure_dir(dir, name).unwrap(), EnsuredDir::InTheWay(kind) if kind == expected));
    }
    for name in [&b"link"[..], b"nowhere", b"dir link"] {
        let exists = |result: io::Result<()>| {
            assert_eq!(result.unwrap_err().kind(), io::ErrorKind::AlreadyExists);
        };
        exists(create_file(dir, name).map(drop));
        exists(create_symlink(dir, name, b"x"));
        exists(create_fifo(dir, name));
        exists(create_link(elsewhere.fd(), b"victim", dir, name));
        assert!(open_file_to_change(dir, name).is_err());
        assert!(open_dir(dir, name).is_err());
    }
    assert!(!elsewhere.path(b"new").exists());

    // Entries that were swapped for a link, or a link for a file, since they were made.
    let (names, applier) = (Names::new(), Applier::default());
    let meta = own_meta(0o777);
    let refused = |kind, name: &[u8]| {
        let error = applier.special(dir, name, kind, &wanted(&meta, &names)).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::InvalidInput);
    };
    refused(FileType::Fifo, b"link");
    scratch.file(b"file");
    refused(FileType::Symlink, b"file");
    applier.special(dir, b"link", FileType::Symlink, &wanted(&meta, &names)).unwrap();
    assert_eq!(stat(dir, b"link").unwrap().meta.mtime, meta.mtime);
    let after = std::fs::metadata(&victim).unwrap();
    assert_eq!(
        (before.mode(), before.mtime(), before.ctime_nsec()),
        (after.mode(), after.mtime(), after.ctime_nsec())
    );
    // A hard link to a symbolic link is one, not a link to its target.
    create_link(dir, b"link", dir, b"same link").unwrap();
    assert_eq!(stat(dir, b"same link").unwrap().kind, FileType::Symlink);
}

#[test]
fn only_regular_files_are_opened_to_be_changed() {
    let scratch = Scratch::new();
    let dir = scratch.fd();
    scratch.file(b"file");
    create_fifo(dir, b"fifo").unwrap();
    new_dir(dir, b"dir");
    assert!(open_file_to_change(dir, b"file").is_ok());
    for name in [&b"fifo"[..], b"dir"] {
        assert_eq!(open_file_to_change(dir, name).unwrap_err().kind(), io::ErrorKind::InvalidInput);
    }
    assert!(matches!(ensure_dir(dir, b"file").unwrap(), EnsuredDir::InTheWay(FileType::File)));
    assert!(matches!(ensure_dir(dir, b"dir").unwrap(), EnsuredDir::Existing(..)));
}

#[test]
fn punched_holes_read_as_zeros_and_take_no_space() {
    let scratch = Scratch::new();
    let path = scratch.path(b"file");
    std::fs::write(&path, vec![7; 1 << 20]).unwrap();
    let file = open_file_to_change(scratch.fd(), b"file").unwrap();
    if !punch_hole(file.as_fd(), 64 << 10, 512 << 10).unwrap() {
        return skip("holes");
    }
    assert!(punch_hole(file.as_fd(), 0, 0).unwrap());
    let bytes = std::fs::read(&path).unwrap();
    assert_eq!(bytes.len(), 1 << 20);
    assert!(bytes[64 << 10..576 << 10].iter().all(|byte| *byte == 0));
    assert_eq!((bytes[(64 << 10) - 1], bytes[576 << 10]), (7, 7));
    assert!(stat(scratch.fd(), b"file").unwrap().may_have_holes());
    drop(open_file(scratch.fd(), b"file").unwrap());
}

#[test]
fn root_restores_for_a_user_who_then_owns_it() {
    if !is_root() {
        return skip("foreign owners, as this is not root");
    }
    let scratch = Scratch::new();
    let (names, applier) = (Names::new(), Applier::default());
    let meta = Meta { uid: NOBODY, gid: NOBODY, ..own_meta(0o4710) };
    let file = create_file(scratch.fd(), b"file").unwrap();
    applier.file(file.as_fd(), &wanted(&meta, &names)).unwrap();
    let now = stat(scratch.fd(), b"file").unwrap().meta;
    assert_eq!((now.uid, now.gid, now.mode), (NOBODY, NOBODY, 0o4710));
    assert!(applier.shortfalls.is_empty());
}
