//! What a restore could not put back, summed up: how often, and the first case with its reason.
//!
//! Restoring 100,000 files as a normal user must not print 100,000 lines that say that `chown` needs root, and must not
//! keep silent either.

use std::collections::BTreeMap;
use std::fmt;

use parking_lot::Mutex;
use rustix::io::Errno;

use crate::error::describe_io;
use crate::tree::path_text;

/// A category of things that could not be put back.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum Shortfall {
    /// Owner or group.
    Owner,
    /// The owner's or group's name is unknown here, so the number was kept.
    OwnerName,
    /// Permission bits.
    Mode,
    /// setuid and setgid, left out because the owner they speak for could not be set, or because they are forbidden.
    SetId,
    /// An extended attribute.
    Xattr,
    /// An access control list.
    Acl,
    /// File capabilities.
    Capability,
    /// Modification time.
    Time,
    /// A device node.
    Device,
    /// A socket: its program makes it anew.
    Socket,
    /// A hard link, made as a copy.
    HardLink,
}

impl Shortfall {
    /// What was not restored, as the end of "not restored: …" or "3 × …".
    pub const fn describe(self) -> &'static str {
        match self {
            Self::Owner => "owner or group",
            Self::OwnerName => "owner's name (unknown here; the number was kept)",
            Self::Mode => "permissions",
            Self::SetId => "setuid or setgid bit",
            Self::Xattr => "extended attribute",
            Self::Acl => "access control list",
            Self::Capability => "file capabilities",
            Self::Time => "modification time",
            Self::Device => "device node",
            Self::Socket => "socket (its program makes it anew)",
            Self::HardLink => "hard link (made as a copy)",
        }
    }
}

/// How often one category was met, and where first.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tally {
    /// Entries (for attributes: attributes) concerned.
    pub count: u64,
    /// The first entry concerned.
    pub path: Vec<u8>,
    /// What it was and why, such as `user 1000: operation not permitted`.
    pub reason: String,
}

/// All that could not be put back. Shared by the threads of a restore.
#[derive(Debug, Default)]
pub struct Shortfalls(Mutex<BTreeMap<Shortfall, Tally>>);

impl Shortfalls {
    /// Nothing so far.
    pub fn new() -> Self {
        Self::default()
    }

    /// Counts one more. `reason` is asked for the first of a category only.
    pub fn note(&self, what: Shortfall, path: &[u8], reason: impl FnOnce() -> String) {
        self.0.lock().entry(what).and_modify(|tally| tally.count += 1).or_insert_with(|| Tally {
            count: 1,
            path: path.to_vec(),
            reason: reason(),
        });
    }

    /// Whether all was put back.
    pub fn is_empty(&self) -> bool {
        self.0.lock().is_empty()
    }

    /// Whether anything of the snapshot is missing, other than what no restore puts back.
    pub fn are_losses(&self) -> bool {
        self.0.lock().keys().any(|what| !matches!(what, Shortfall::Socket | Shortfall::OwnerName))
    }

    /// Count and first case of each category met.
    #[cfg(test)]
    pub(super) fn tallies(&self) -> BTreeMap<Shortfall, Tally> {
        self.0.lock().clone()
    }
}

/// One line a category: `41 × owner or group, first /srv/a (user 33: operation not permitted)`.
impl fmt::Display for Shortfalls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, (what, tally)) in self.0.lock().iter().enumerate() {
            let gap = if index == 0 { "" } else { "\n" };
            let path = path_text::display(&tally.path);
            write!(f, "{gap}{} × {}, first {path} ({})", tally.count, what.describe(), tally.reason)?;
        }
        Ok(())
    }
}

/// Whether the error says that this user or this file system cannot do it, rather than that something broke.
pub(super) fn is_cannot(error: Errno) -> bool {
    // ENOSPC is what ext4 says of attributes that do not fit beside the inode; a full disk shows when data is written.
    // ENOENT comes from a missing /proc, through which entries that cannot be opened are reached.
    matches!(
        error,
        Errno::PERM
            | Errno::ACCESS
            | Errno::OPNOTSUPP
            | Errno::INVAL
            | Errno::NOSYS
            | Errno::RANGE
            | Errno::TOOBIG
            | Errno::OVERFLOW
            | Errno::NOSPC
            | Errno::NOENT
    )
}

/// The reason's text: `what: the system's words`.
pub(super) fn because(what: impl fmt::Display, error: Errno) -> String {
    format!("{what}: {}", describe_io(&error.into()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_thousand_cases_are_one_line() {
        let shortfalls = Shortfalls::new();
        assert!(shortfalls.is_empty());
        for number in 0..1000 {
            let path = format!("/srv/{number}\n");
            shortfalls.note(Shortfall::Owner, path.as_bytes(), || because("user 33", Errno::PERM));
        }
        shortfalls.note(Shortfall::Device, b"/dev/\xff", || because("device 8:0", Errno::PERM));
        assert_eq!(
            shortfalls.to_string(),
            "1000 × owner or group, first /srv/0\\n (user 33: operation not permitted)\n\
             1 × device node, first /dev/\\xff (device 8:0: operation not permitted)"
        );
    }
}
