//! Numbers of users and groups to names when backing up, and names back to numbers when restoring.
//!
//! Names come from the system's name service (files, LDAP, systemd …), so a look-up may be slow: each number and each
//! name is asked once. A name that cannot be found out is left away, and the number is what counts.

use std::collections::{BTreeSet, HashMap};

use nix::unistd::{Gid, Group, Uid, User};
use parking_lot::Mutex;

use crate::tree::node::Names;

/// The names of all owners and groups met in a backup.
#[derive(Debug, Default)]
pub struct Owners {
    users: Names,
    groups: Names,
    nameless_users: BTreeSet<u32>,
    nameless_groups: BTreeSet<u32>,
    last: Option<(u32, u32)>,
}

impl Owners {
    /// Knows nobody yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Looks up the names of an entry's owner and group, unless that was done before.
    pub fn note(&mut self, uid: u32, gid: u32) {
        if self.last != Some((uid, gid)) {
            self.last = Some((uid, gid));
            note(&mut self.users, &mut self.nameless_users, uid, user_name);
            note(&mut self.groups, &mut self.nameless_groups, gid, group_name);
        }
    }

    /// Names of the users noted, as far as they have any.
    pub const fn users(&self) -> &Names {
        &self.users
    }

    /// Names of the groups noted, as far as they have any.
    pub const fn groups(&self) -> &Names {
        &self.groups
    }
}

fn note(names: &mut Names, nameless: &mut BTreeSet<u32>, id: u32, look_up: fn(u32) -> Option<String>) {
    if names.contains_key(&id) || nameless.contains(&id) {
        return;
    }
    match look_up(id) {
        Some(name) => {
            names.insert(id, name.into_bytes().into_boxed_slice());
        }
        None => {
            nameless.insert(id);
        }
    }
}

/// The name of a local user.
pub fn user_name(uid: u32) -> Option<String> {
    User::from_uid(Uid::from_raw(uid)).ok().flatten().map(|user| user.name)
}

/// The name of a local group.
pub fn group_name(gid: u32) -> Option<String> {
    Group::from_gid(Gid::from_raw(gid)).ok().flatten().map(|group| group.name)
}

/// Which local owner a restored entry gets.
#[derive(Debug, Default)]
pub enum OwnerMap {
    /// The numbers as they were.
    #[default]
    Numeric,
    /// The local user and group of the same name; the number where there is no such name here or there.
    /// Root stays root.
    Names(NameMap),
}

/// Local numbers by name, each looked up once.
#[derive(Debug, Default)]
pub struct NameMap {
    users: Mutex<HashMap<Box<[u8]>, Option<u32>>>,
    groups: Mutex<HashMap<Box<[u8]>, Option<u32>>>,
}

impl OwnerMap {
    /// Maps by names.
    pub fn by_name() -> Self {
        Self::Names(NameMap::default())
    }

    /// The local number for user `uid` of the source, whose names are `users`; `None` if they are to be mapped by name
    /// and that name is unknown here, so that the number is kept for want of better.
    pub fn user(&self, uid: u32, users: &Names) -> Option<u32> {
        match self {
            Self::Numeric => Some(uid),
            Self::Names(map) => map_id(&map.users, uid, users, |name| {
                User::from_name(name).ok().flatten().map(|user| user.uid.as_raw())
            }),
        }
    }

    /// As [`OwnerMap::user`], for groups.
    pub fn group(&self, gid: u32, groups: &Names) -> Option<u32> {
        match self {
            Self::Numeric => Some(gid),
            Self::Names(map) => map_id(&map.groups, gid, groups, |name| {
                Group::from_name(name).ok().flatten().map(|group| group.gid.as_raw())
            }),
        }
    }
}

fn map_id(
    known: &Mutex<HashMap<Box<[u8]>, Option<u32>>>,
    id: u32,
    names: &Names,
    look_up: impl Fn(&str) -> Option<u32>,
) -> Option<u32> {
    let Some(name) = names.get(&id).filter(|_| id != 0) else {
        return Some(id);
    };
    let mut known = known.lock();
    if let Some(local) = known.get(name) {
        return *local;
    }
    let local = std::str::from_utf8(name).ok().and_then(look_up);
    known.insert(name.clone(), local);
    local
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn root_has_a_name_and_nobody_else_may() {
        let mut owners = Owners::new();
        owners.note(0, 0);
        owners.note(0x7fff_fff0, 0x7fff_fff0);
        owners.note(0, 0);
        assert_eq!(owners.users().get(&0).map(|name| &name[..]), Some(&b"root"[..]));
        assert_eq!(owners.users().len(), 1);
        assert_eq!(owners.groups().len(), 1);
    }

    #[test]
    fn names_map_to_local_numbers_and_unknown_names_are_said() {
        let nobody = User::from_name("nobody").ok().flatten().map(|user| user.uid.as_raw());
        let Some(nobody) = nobody else {
            return println!("skipped: no user nobody here");
        };
        let names: Names = [
            (0, b"nobody"[..].into()),
            (4321, b"nobody"[..].into()),
            (4322, b"no such user \xff"[..].into()),
        ]
        .into();
        let map = OwnerMap::by_name();
        assert_eq!(map.user(4321, &names), Some(nobody));
        assert_eq!(map.user(4321, &names), Some(nobody), "from the cache");
        assert_eq!(map.user(4322, &names), None);
        assert_eq!(map.user(4323, &names), Some(4323), "it had no name there either");
        assert_eq!(map.user(0, &names), Some(0), "root stays root");
        assert_eq!(OwnerMap::Numeric.user(4321, &names), Some(4321));
    }
}
