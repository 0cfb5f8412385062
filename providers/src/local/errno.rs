//! The file system's errors in the words of [`ErrorKind`].

use std::fmt;

use rustix::io::Errno;

use crate::{Error, ErrorKind};

/// Translates what a system call said while doing `operation` on `subject`.
///
/// Callers for whom a missing file is an answer look at the errno before they come here: what is missing here is
/// the store itself.
pub(super) fn translate(
    operation: &'static str,
    subject: &(impl fmt::Display + ?Sized),
    errno: Errno,
) -> Error {
    let (kind, reason) = describe(errno);
    Error::new(kind, operation, subject, reason).with_source(errno)
}

/// A file that cannot be read is a lost copy, where an `EIO` of a write is only a failed write.
pub(super) fn translate_read(
    operation: &'static str,
    subject: &(impl fmt::Display + ?Sized),
    errno: Errno,
) -> Error {
    match errno {
        // The last two: the file system's own checksums or structures are wrong.
        Errno::IO | Errno::BADMSG | Errno::UCLEAN => {
            let reason = "the disk cannot read it back (I/O error); see the kernel's log and SMART values";
            Error::new(ErrorKind::Corrupt, operation, subject, reason).with_source(errno)
        }
        errno => translate(operation, subject, errno),
    }
}

fn describe(errno: Errno) -> (ErrorKind, &'static str) {
    match errno {
        Errno::NOENT => (ErrorKind::Misconfigured, "the store's folder is gone"),
        Errno::NOSPC => (ErrorKind::Quota, "no space left on the disk"),
        Errno::DQUOT => (ErrorKind::Quota, "the disk quota of this user is used up"),
        Errno::ROFS => (ErrorKind::Denied, "the file system is mounted read-only"),
        Errno::ACCESS | Errno::PERM => {
            (ErrorKind::Denied, "permission denied; check who owns the store's folders")
        }
        Errno::LOOP => (
            ErrorKind::Denied,
            "a symbolic link lies in the way, and links inside a store are never followed",
        ),
        Errno::XDEV => (
            ErrorKind::Misconfigured,
            "part of the store lies on another file system than its root; a store must be on one",
        ),
        Errno::NOTDIR => (ErrorKind::Other, "a file lies where a folder is needed"),
        Errno::ISDIR | Errno::NOTEMPTY => (ErrorKind::Other, "a folder lies where an object should be"),
        Errno::NAMETOOLONG => {
            (ErrorKind::Misconfigured, "the file system does not take names of this length")
        }
        Errno::FBIG => (ErrorKind::Misconfigured, "the file system does not take files of this size"),
        Errno::IO => (ErrorKind::Other, "the disk failed (I/O error); see the kernel's log and SMART values"),
        Errno::INTR | Errno::AGAIN | Errno::BUSY | Errno::STALE | Errno::TIMEDOUT => {
            (ErrorKind::Transient, "the file system did not answer in time")
        }
        Errno::HOSTDOWN | Errno::HOSTUNREACH | Errno::NETDOWN | Errno::NETUNREACH | Errno::NOTCONN => {
            (ErrorKind::Transient, "the file server cannot be reached")
        }
        Errno::MFILE | Errno::NFILE | Errno::NOMEM => {
            (ErrorKind::Transient, "the system is out of file handles or memory")
        }
        _ => (ErrorKind::Other, "the file system failed"),
    }
}

#[cfg(test)]
mod tests {
    use rustix::io::Errno;

    use super::{translate, translate_read};
    use crate::ErrorKind;

    #[test]
    fn each_errno_calls_for_its_action() {
        use ErrorKind::{Corrupt, Denied, Misconfigured, Other, Quota, Transient};
        let due = [
            (Errno::NOSPC, Quota),
            (Errno::DQUOT, Quota),
            (Errno::ROFS, Denied),
            (Errno::ACCESS, Denied),
            (Errno::PERM, Denied),
            (Errno::LOOP, Denied),
            (Errno::XDEV, Misconfigured),
            (Errno::NAMETOOLONG, Misconfigured),
            (Errno::IO, Other),
            (Errno::STALE, Transient),
            (Errno::INTR, Transient),
            (Errno::MFILE, Transient),
            (Errno::NOTCONN, Transient),
            (Errno::BADF, Other),
        ];
        for (errno, kind) in due {
            assert_eq!(translate("put", "a", errno).kind(), kind, "{errno}");
        }
        for errno in [Errno::IO, Errno::BADMSG, Errno::UCLEAN] {
            assert_eq!(translate_read("get", "a", errno).kind(), Corrupt);
        }
        assert_eq!(translate_read("get", "a", Errno::STALE).kind(), Transient);
    }
}
