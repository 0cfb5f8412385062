//! Putting metadata back on an entry that exists: owner, attributes, ACLs, permissions, times.
//!
//! The order is what makes it right and safe:
//! 1. Owner, since `chown` clears setuid bits and capabilities.
//! 2. Attributes that the entry has too many (inherited ACLs, leftovers) are removed, `user.*` and others set while the
//!    entry is still writable.
//! 3. POSIX ACLs before the mode: their mask is the mode's group bits, so nobody has more than he should in between.
//! 4. The mode, without setuid or setgid where the owner they speak for could not be set.
//! 5. Other ACLs, which `chmod` would rewrite; capabilities, only for the right owner.
//! 6. Times, since all else might move them.
//!
//! What this user or file system cannot do is noted in [`Shortfalls`] and the rest goes on; an error is returned only
//! when something is broken. Symbolic links are never followed: everything works on an open descriptor, or on an
//! `O_PATH` handle of what is certain to be the right kind of entry. A directory's metadata is to be applied after all
//! below it, deepest first.

use std::io;

use rustix::fd::{AsFd, BorrowedFd};
use rustix::fs::{AtFlags, Gid, Mode, Timespec, Timestamps, UTIME_OMIT, Uid};
use rustix::io::Errno;

use super::FileType;
use super::capture::{open_handle, stat_fd};
use super::create::{Inherited, must_be};
use super::owners::OwnerMap;
use super::shortfalls::{Shortfall, Shortfalls, because, is_cannot};
use super::xattr::{ACL_ACCESS, ACL_DEFAULT, CAPABILITY, Place, is_acl, is_kept, proc_path};
use crate::tree::node::Names;
use crate::tree::{Meta, Time, Xattr};

const SETUID: u32 = 0o4000;
const SETGID: u32 = 0o2000;

/// The metadata of one entry as the snapshot has it.
#[derive(Debug, Clone, Copy)]
pub struct Wanted<'a> {
    /// The entry's metadata.
    pub meta: &'a Meta,
    /// Names of the node's users.
    pub users: &'a Names,
    /// Names of the node's groups.
    pub groups: &'a Names,
    /// The entry's path, for [`Shortfalls`].
    pub path: &'a [u8],
}

/// How metadata is put back, and what could not be.
#[derive(Debug, Default)]
pub struct Applier {
    /// Whose numbers count.
    pub owners: OwnerMap,
    /// What could not be put back so far.
    pub shortfalls: Shortfalls,
}

impl Applier {
    /// Puts back owners as `owners` says.
    pub fn new(owners: OwnerMap) -> Self {
        Self { owners, shortfalls: Shortfalls::new() }
    }

    /// Puts the metadata back on an open file, after its last write.
    ///
    /// # Errors
    /// The kernel's, when something is broken rather than not allowed.
    pub fn file(&self, file: BorrowedFd<'_>, wanted: &Wanted<'_>) -> io::Result<()> {
        self.new_file(file, wanted, None)
    }

    /// As [`Applier::file`], for a file that was just made and has, so far, only what it `inherited`.
    ///
    /// # Errors
    /// As [`Applier::file`].
    pub fn new_file(
        &self,
        file: BorrowedFd<'_>,
        wanted: &Wanted<'_>,
        inherited: Option<Inherited>,
    ) -> io::Result<()> {
        self.apply(&Target { fd: file, kind: FileType::File, handle: false, inherited }, wanted)
    }

    /// Puts the metadata back on an open directory, after all that is below it.
    ///
    /// # Errors
    /// As [`Applier::file`].
    pub fn directory(&self, dir: BorrowedFd<'_>, wanted: &Wanted<'_>) -> io::Result<()> {
        self.apply(&Target { fd: dir, kind: FileType::Directory, handle: false, inherited: None }, wanted)
    }

    /// Puts the metadata back on `name` of `dir`, which is not opened: a symbolic link, pipe or device, or a file whose data stays as it is.
    ///
    /// # Errors
    /// As [`Applier::file`], and [`io::ErrorKind::InvalidInput`] if the entry is not of that kind.
    pub fn special(
        &self,
        dir: BorrowedFd<'_>,
        name: &[u8],
        kind: FileType,
        wanted: &Wanted<'_>,
    ) -> io::Result<()> {
        let handle = open_handle(dir, name)?;
        must_be(kind, handle.as_fd())?;
        self.apply(&Target { fd: handle.as_fd(), kind, handle: true, inherited: None }, wanted)
    }

    fn apply(&self, target: &Target<'_>, wanted: &Wanted<'_>) -> io::Result<()> {
        let owned = self.owner(target, wanted)?;
        let acl_is_set = self.attributes(target, wanted)?;
        if target.kind != FileType::Symlink {
            self.mode(target, wanted, owned, acl_is_set)?;
        }
        for xattr in &wanted.meta.xattrs {
            let is_capability = *xattr.name == *CAPABILITY;
            if is_capability && !owned.user {
                self.shortfalls.note(Shortfall::Capability, wanted.path, || "owner could not be set".into());
            } else if is_capability || (is_acl(&xattr.name) && !is_posix_acl(&xattr.name)) {
                self.set_xattr(target, xattr, wanted)?;
            }
        }
        self.times(target, wanted)
    }

    /// The numbers of the owner and group that an entry is to have here.
    pub fn owner_of(&self, wanted: &Wanted<'_>) -> (u32, u32) {
        let meta = wanted.meta;
        let user = self.owners.user(meta.uid, wanted.users);
        let group = self.owners.group(meta.gid, wanted.groups);
        (user.unwrap_or(meta.uid), group.unwrap_or(meta.gid))
    }

    /// Sets owner and group, or as much of it as is allowed.
    fn owner(&self, target: &Target<'_>, wanted: &Wanted<'_>) -> io::Result<Owned> {
        let meta = wanted.meta;
        let user = self.owners.user(meta.uid, wanted.users);
        let group = self.owners.group(meta.gid, wanted.groups);
        for (known, what, id, names) in
            [(user, "user", meta.uid, wanted.users), (group, "group", meta.gid, wanted.groups)]
        {
            if known.is_none() {
                let name = names.get(&id).map(|name| crate::tree::path_text::display(name));
                let reason = || format!("{what} {} ({id})", name.unwrap_or_default());
                self.shortfalls.note(Shortfall::OwnerName, wanted.path, reason);
            }
        }
        let (uid, gid) = self.owner_of(wanted);
        if target.inherited == Some(Inherited { uid, gid }) {
            return Ok(Owned { user: true, group: true });
        }
        let error = match target.chown(Some(uid), Some(gid)) {
            Ok(()) => return Ok(Owned { user: true, group: true }),
            Err(error) if is_cannot(error) => error,
            Err(error) => return Err(error.into()),
        };
        // A member of the group may at least give it the group.
        let _ = target.chown(None, Some(gid));
        let now = stat_fd(target.fd)?.meta;
        let owned = Owned { user: now.uid == uid, group: now.gid == gid };
        if !(owned.user && owned.group) {
            self.shortfalls
                .note(Shortfall::Owner, wanted.path, || because(format_args!("{uid}:{gid}"), error));
        }
        Ok(owned)
    }

    /// Makes the attributes those of the snapshot, but for capabilities and ACLs that come after the mode.
    /// Returns whether the access ACL is as wanted.
    fn attributes(&self, target: &Target<'_>, wanted: &Wanted<'_>) -> io::Result<bool> {
        let xattrs = &wanted.meta.xattrs;
        // A link's and a node's attributes are so rare that they are not even looked at unless some are wanted.
        if target.handle && xattrs.is_empty() {
            return Ok(true);
        }
        if target.inherited.is_none() {
            self.remove_superfluous(target, wanted)?;
        }
        let is_early = |xattr: &&Xattr| !is_acl(&xattr.name) && *xattr.name != *CAPABILITY;
        for xattr in xattrs.iter().filter(is_early) {
            self.set_xattr(target, xattr, wanted)?;
        }
        let mut acl_is_set = true;
        for xattr in xattrs.iter().filter(|xattr| is_posix_acl(&xattr.name)) {
            let mapped = self.map_acl(xattr, wanted);
            let set = self.set_xattr(target, mapped.as_ref().unwrap_or(xattr), wanted)?;
            acl_is_set &= set || *xattr.name != *ACL_ACCESS;
        }
        Ok(acl_is_set)
    }

    fn remove_superfluous(&self, target: &Target<'_>, wanted: &Wanted<'_>) -> io::Result<()> {
        let place = target.place();
        let mut superfluous: Vec<Box<[u8]>> = Vec::new();
        let is_wanted = |name: &[u8]| wanted.meta.xattrs.iter().any(|xattr| *xattr.name == *name);
        let listed = place.each_name(|name| {
            // The system labels new entries by itself (`security.selinux`): only capabilities are ours to take away.
            let is_ours = !name.starts_with(b"security.") || name == CAPABILITY;
            if is_ours && is_kept(name) && !is_wanted(name) {
                superfluous.push(name.into());
            }
        });
        if let Err(error) = listed {
            return self.fell_short(Shortfall::Xattr, wanted, "list", error);
        }
        for name in superfluous {
            let result = target.while_writable(|| place.remove(&name));
            match result {
                Ok(()) | Err(Errno::NODATA) => {}
                Err(error) => {
                    self.fell_short(category(&name), wanted, String::from_utf8_lossy(&name), error)?;
                }
            }
        }
        Ok(())
    }

    /// Sets one attribute. `false` if that is not possible here.
    fn set_xattr(&self, target: &Target<'_>, xattr: &Xattr, wanted: &Wanted<'_>) -> io::Result<bool> {
        let result = target.while_writable(|| target.place().set(xattr));
        let Err(error) = result else { return Ok(true) };
        self.fell_short(category(&xattr.name), wanted, String::from_utf8_lossy(&xattr.name), error)?;
        Ok(false)
    }

    /// The ACL with its users and groups mapped by name; `None` if it stays as it is.
    fn map_acl(&self, xattr: &Xattr, wanted: &Wanted<'_>) -> Option<Xattr> {
        if matches!(self.owners, OwnerMap::Numeric) {
            return None;
        }
        let mut value = xattr.value.clone();
        for entry in acl_entries(&mut value) {
            let id = u32::from_le_bytes([entry[4], entry[5], entry[6], entry[7]]);
            let mapped = match u16::from_le_bytes([entry[0], entry[1]]) {
                ACL_USER => self.owners.user(id, wanted.users),
                ACL_GROUP => self.owners.group(id, wanted.groups),
                _ => None,
            };
            entry[4..8].copy_from_slice(&mapped.unwrap_or(id).to_le_bytes());
        }
        Some(Xattr { name: xattr.name.clone(), value })
    }

    fn mode(
        &self,
        target: &Target<'_>,
        wanted: &Wanted<'_>,
        owned: Owned,
        acl_is_set: bool,
    ) -> io::Result<()> {
        let mut mode = wanted.meta.mode & 0o7777;
        let mut forbidden = 0;
        if !owned.user {
            forbidden |= SETUID;
        }
        // On a directory setgid gives new entries its group: nothing to gain when that is our own.
        if !owned.group && target.kind != FileType::Directory {
            forbidden |= SETGID;
        }
        if mode & forbidden != 0 {
            self.shortfalls.note(Shortfall::SetId, wanted.path, || "owner or group could not be set".into());
            mode &= !forbidden;
        }
        if !acl_is_set {
            mode = without_acl(mode, wanted.meta);
        }
        let setid = mode & (SETUID | SETGID);
        match target.chmod(mode) {
            // The kernel drops setgid in silence where we are not in the group.
            Ok(()) if setid != 0 && stat_fd(target.fd)?.meta.mode & setid != setid => {
                self.fell_short(Shortfall::SetId, wanted, format_args!("mode {mode:o}"), Errno::PERM)
            }
            Ok(()) => Ok(()),
            // A sandbox may forbid these bits (systemd's RestrictSUIDSGID).
            Err(Errno::PERM) if setid != 0 && target.chmod(mode & !setid).is_ok() => {
                self.fell_short(Shortfall::SetId, wanted, format_args!("mode {mode:o}"), Errno::PERM)
            }
            Err(error) => self.fell_short(Shortfall::Mode, wanted, format_args!("mode {mode:o}"), error),
        }
    }

    fn times(&self, target: &Target<'_>, wanted: &Wanted<'_>) -> io::Result<()> {
        let mtime = wanted.meta.mtime;
        if let Err(error) = target.set_mtime(mtime) {
            return self.fell_short(Shortfall::Time, wanted, format_args!("{} s", mtime.seconds), error);
        }
        // A file system that cannot express the year cuts it in silence.
        if i32::try_from(mtime.seconds).is_err() && stat_fd(target.fd)?.meta.mtime.seconds != mtime.seconds {
            return self.fell_short(
                Shortfall::Time,
                wanted,
                format_args!("{} s", mtime.seconds),
                Errno::OVERFLOW,
            );
        }
        Ok(())
    }

    /// Notes what this user or file system cannot do; gives back as an error what is broken.
    fn fell_short(
        &self,
        what: Shortfall,
        wanted: &Wanted<'_>,
        thing: impl std::fmt::Display,
        error: Errno,
    ) -> io::Result<()> {
        if !is_cannot(error) {
            return Err(error.into());
        }
        self.shortfalls.note(what, wanted.path, || because(thing, error));
        Ok(())
    }
}

/// Which of the two owners are now as wanted.
#[derive(Debug, Clone, Copy)]
struct Owned {
    user: bool,
    group: bool,
}

/// The entry that metadata is applied to.
struct Target<'fd> {
    fd: BorrowedFd<'fd>,
    kind: FileType,
    /// Whether `fd` is an `O_PATH` handle, which some calls take only by way of `/proc`.
    handle: bool,
    /// All it has, if that is known.
    inherited: Option<Inherited>,
}

impl<'fd> Target<'fd> {
    const fn place(&self) -> Place<'fd> {
        if self.handle { Place::Handle(self.fd) } else { Place::Fd(self.fd) }
    }

    fn chown(&self, uid: Option<u32>, gid: Option<u32>) -> Result<(), Errno> {
        // −1 would mean "leave it".
        if uid == Some(u32::MAX) || gid == Some(u32::MAX) {
            return Err(Errno::INVAL);
        }
        let (uid, gid) = (uid.map(Uid::from_raw), gid.map(Gid::from_raw));
        if self.handle {
            rustix::fs::chownat(self.fd, c"", uid, gid, AtFlags::EMPTY_PATH)
        } else {
            rustix::fs::fchown(self.fd, uid, gid)
        }
    }

    fn chmod(&self, mode: u32) -> Result<(), Errno> {
        let mode = Mode::from_raw_mode(mode);
        if self.handle {
            rustix::fs::chmod(proc_path(self.fd), mode)
        } else {
            rustix::fs::fchmod(self.fd, mode)
        }
    }

    /// Sets the modification time; the access time, which a backup does not have, stays.
    fn set_mtime(&self, mtime: Time) -> Result<(), Errno> {
        let times = Timestamps {
            last_access: Timespec { tv_sec: 0, tv_nsec: UTIME_OMIT },
            last_modification: Timespec { tv_sec: mtime.seconds, tv_nsec: mtime.nanoseconds.into() },
        };
        if !self.handle {
            return rustix::fs::futimens(self.fd, &times);
        }
        match rustix::fs::utimensat(self.fd, c"", &times, AtFlags::EMPTY_PATH) {
            // Before Linux 5.8. The magic link leads to the entry itself, so a link is not followed here either.
            Err(Errno::INVAL) => {
                rustix::fs::utimensat(rustix::fs::CWD, proc_path(self.fd), &times, AtFlags::empty())
            }
            result => result,
        }
    }

    /// Changes something that takes the right to write, which the owner may have taken from himself; the final mode
    /// comes later.
    fn while_writable(&self, change: impl Fn() -> Result<(), Errno>) -> Result<(), Errno> {
        match change() {
            Err(Errno::ACCESS) if !self.handle => {
                let mode = rustix::fs::fstat(self.fd)?.st_mode;
                self.chmod(mode & 0o7777 | 0o200)?;
                change()
            }
            result => result,
        }
    }
}

fn category(xattr_name: &[u8]) -> Shortfall {
    match xattr_name {
        CAPABILITY => Shortfall::Capability,
        name if is_acl(name) => Shortfall::Acl,
        _ => Shortfall::Xattr,
    }
}

fn is_posix_acl(name: &[u8]) -> bool {
    matches!(name, ACL_ACCESS | ACL_DEFAULT)
}

const ACL_HEADER_BYTES: usize = 4;
const ACL_ENTRY_BYTES: usize = 8;
const ACL_USER: u16 = 0x02;
const ACL_GROUP_OWNER: u16 = 0x04;
const ACL_GROUP: u16 = 0x08;

/// The entries of a POSIX ACL as the kernel has it: `u32` version, then each `u16` tag, `u16` rights, `u32` number.
fn acl_entries(value: &mut [u8]) -> impl Iterator<Item = &mut [u8]> {
    value.get_mut(ACL_HEADER_BYTES..).unwrap_or_default().chunks_exact_mut(ACL_ENTRY_BYTES)
}

/// The mode for an entry whose ACL could not be set. The group bits were the ACL's mask, which may allow more than the
/// group itself had.
fn without_acl(mode: u32, meta: &Meta) -> u32 {
    let Some(acl) = meta.xattrs.iter().find(|xattr| *xattr.name == *ACL_ACCESS) else { return mode };
    let mut value = acl.value.clone();
    let rights = acl_entries(&mut value)
        .find(|entry| u16::from_le_bytes([entry[0], entry[1]]) == ACL_GROUP_OWNER)
        .map_or(0, |entry| u32::from(entry[2] & 7));
    mode & !0o070 | mode & rights << 3
}

#[cfg(test)]
#[path = "apply_tests.rs"]
mod tests;
