//! Attributes: which are kept, and that lists and values of any size are read whole.

use rustix::fd::AsFd;

use super::*;
use crate::fs::capture::open_file;
use crate::fs::create::{create_fifo, create_symlink};
use crate::fs::testing::{Scratch, acl_access, is_root, skip, xattr};

#[test]
fn what_others_make_up_is_not_kept() {
    for name in [
        "user.a",
        "user.",
        "trusted.overlay.opaque",
        "security.capability",
        "security.selinux",
        "security.ima",
        "btrfs.compression",
        "system.posix_acl_access",
        "system.posix_acl_default",
        "system.nfs4_acl",
    ] {
        assert!(is_kept(name.as_bytes()), "{name}");
    }
    for name in ["security.evm", "system.cifs_acl", "system.", "ceph.dir.entries", "nodot", "", "users.a"] {
        assert!(!is_kept(name.as_bytes()), "{name}");
    }
}

#[test]
fn all_attributes_are_read_in_order_by_descriptor_and_by_name() {
    let scratch = Scratch::new();
    if !scratch.has_xattrs() {
        return;
    }
    scratch.file(b"file");
    let place = Place::at(scratch.fd(), b"file").unwrap();
    let mut expected = vec![xattr(b"user.empty", b""), xattr(b"user.large", &[7; 2000])];
    // A list of more names than fit the first buffer.
    for number in 0..20 {
        expected.push(xattr(format!("user.{number:040}\u{fe}\n").as_bytes(), b"\0value\xff"));
    }
    expected.push(acl_access());
    expected.sort_by(|a, b| a.name.cmp(&b.name));
    for xattr in expected.iter().rev() {
        match place.set(xattr) {
            Err(Errno::OPNOTSUPP) => return skip("ACLs"),
            result => result.unwrap(),
        }
    }
    let file = open_file(scratch.fd(), b"file").unwrap();
    let mut read = vec![xattr(b"user.of the entry before", b"")];
    read_xattrs(file.as_fd(), &mut read).unwrap();
    assert_eq!(read, expected);
    read_xattrs_at(scratch.fd(), b"file", &mut read).unwrap();
    assert_eq!(read, expected);

    place.remove(b"user.empty").unwrap();
    assert_eq!(place.value(b"user.empty"), Ok(None));
    assert_eq!(place.remove(b"user.empty"), Err(Errno::NODATA));
}

#[test]
fn links_and_pipes_are_asked_themselves() {
    let scratch = Scratch::new();
    scratch.file(b"file");
    create_symlink(scratch.fd(), b"link", b"file").unwrap();
    create_symlink(scratch.fd(), b"nowhere", b"/nonexistent/x").unwrap();
    create_fifo(scratch.fd(), b"fifo").unwrap();
    let mut read = Vec::new();
    for name in [&b"link"[..], b"nowhere", b"fifo"] {
        read_xattrs_at(scratch.fd(), name, &mut read).unwrap();
        assert!(read.iter().all(|xattr| xattr.name.starts_with(b"security.")), "{read:?}");
    }
    if !is_root() {
        return skip("trusted.* attributes, as this is not root");
    }
    let wanted = xattr(b"trusted.lifeboat", b"on the link");
    match Place::at(scratch.fd(), b"link").unwrap().set(&wanted) {
        Err(error) => return skip(&format!("trusted.* attributes: {error}")),
        Ok(()) => {
            read_xattrs_at(scratch.fd(), b"link", &mut read).unwrap();
            assert!(read.contains(&wanted));
        }
    }
    read_xattrs_at(scratch.fd(), b"file", &mut read).unwrap();
    assert!(!read.contains(&wanted), "the link's target has none of it");
}

#[test]
fn an_entry_that_vanished_is_an_error() {
    let scratch = Scratch::new();
    let mut read = Vec::new();
    let error = read_xattrs_at(scratch.fd(), b"missing", &mut read).unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::NotFound);
}

/// A tree node of any size could not be stored: the whole backup would fail for one odd file.
#[test]
fn more_attributes_than_a_node_can_hold_are_an_error_and_the_others_are_kept() {
    let scratch = Scratch::new();
    scratch.file(b"file");
    let file = crate::fs::capture::open_file(scratch.fd(), b"file").unwrap();
    let place = Place::Fd(std::os::fd::AsFd::as_fd(&file));
    for name in [&b"user.a"[..], b"user.b", b"user.c"] {
        match place.set(&xattr(name, &[b'x'; 100])) {
            Ok(()) => {}
            Err(error) => return skip(&format!("user.* attributes: {error}")),
        }
    }
    let mut read_all = Vec::new();
    super::read(&place, &mut read_all, 320).unwrap();
    let mut read_some = Vec::new();
    let error = super::read(&place, &mut read_some, 250).unwrap_err();
    assert!(error.to_string().contains("250 bytes"), "{error}");
    assert_eq!((read_all.len(), read_some.len()), (3, 2));
}
