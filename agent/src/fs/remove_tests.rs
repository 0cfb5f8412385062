//! Removing trees that try to lead elsewhere.

use std::process::Command;

use super::*;
use crate::fs::create::{EnsuredDir, create_fifo, create_file, create_symlink, ensure_dir};
use crate::fs::testing::{As, Scratch, in_process};

#[test]
fn links_are_removed_not_followed() {
    let scratch = Scratch::new();
    let kept = Scratch::new();
    kept.file(b"precious");
    let target = kept.path(b"");
    std::fs::create_dir_all(scratch.path(b"tree/a/b")).unwrap();
    std::os::unix::fs::symlink(&target, scratch.path(b"tree/a/link")).unwrap();
    std::os::unix::fs::symlink(&target, scratch.path(b"link")).unwrap();
    std::fs::write(scratch.path(b"tree/a/b/\xff\n"), "x").unwrap();
    create_fifo(scratch.fd(), b"fifo").unwrap();
    create_symlink(scratch.fd(), b"nowhere", b"/nonexistent").unwrap();
    for name in [&b"tree"[..], b"link", b"fifo", b"nowhere", b"missing"] {
        remove_entry(scratch.fd(), name).unwrap();
    }
    assert_eq!(read_names(scratch.fd()).unwrap(), []);
    assert!(kept.path(b"precious").exists());
}

#[test]
fn deep_trees_take_few_descriptors() {
    let scratch = Scratch::new();
    let depth = OPEN_MAX * 5;
    let mut dir = rustix::io::dup(scratch.fd()).unwrap();
    for level in 0..depth {
        create_file(dir.as_fd(), b"a file").unwrap();
        create_file(dir.as_fd(), b"z file").unwrap();
        let _ = ensure_dir(dir.as_fd(), b"another").unwrap();
        dir = match ensure_dir(dir.as_fd(), b"d").unwrap() {
            EnsuredDir::Created(fd, _) => fd,
            other => unreachable!("{level}: {other:?}"),
        };
    }
    remove_entry(scratch.fd(), b"d").unwrap();
    assert_eq!(read_names(scratch.fd()).unwrap().len(), 3);
}

#[test]
fn directories_closed_to_their_owner_are_removed() {
    if !in_process(module_path!(), "directories_closed_to_their_owner_are_removed", &As::Nobody) {
        return;
    }
    let scratch = Scratch::new();
    std::fs::create_dir_all(scratch.path(b"tree/a/b")).unwrap();
    scratch.file(b"tree/a/b/file");
    for name in [&b"tree/a/b"[..], b"tree/a", b"tree"] {
        rustix::fs::chmod(scratch.path(name), 0o555.into()).unwrap();
    }
    remove_entry(scratch.fd(), b"tree").unwrap();
    assert!(!scratch.path(b"tree").exists());
}

#[test]
fn what_is_mounted_below_is_left_alone() {
    if !in_process(module_path!(), "what_is_mounted_below_is_left_alone", &As::OwnMounts) {
        return;
    }
    let scratch = Scratch::new();
    let kept = Scratch::new();
    kept.file(b"precious");
    std::fs::create_dir_all(scratch.path(b"tree/mount")).unwrap();
    let (source, target) = (kept.path(b""), scratch.path(b"tree/mount"));
    assert!(Command::new("mount").arg("--bind").args([&source, &target]).status().unwrap().success());
    let error = remove_entry(scratch.fd(), b"tree").unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::ResourceBusy);
    assert_eq!(error.to_string(), "tree/mount: another file system is mounted there");
    assert!(kept.path(b"precious").exists());
    assert!(Command::new("umount").arg(&target).status().unwrap().success());
    remove_entry(scratch.fd(), b"tree").unwrap();
}
