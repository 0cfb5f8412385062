//! A tree, parents before children, in the order of names.
//!
//! Memory is one node for each level of depth, whatever the size of the tree.

use super::OnDamage;
use super::directory::Listed;
use crate::events::Context;
use crate::fetch::ChunkReader;
use crate::tree::{Content, Entry, Node};
use crate::{Kind, Result};

/// An entry that the walk has come to.
#[derive(Debug, Clone, Copy)]
pub struct Seen<'a> {
    /// Its path.
    pub path: &'a [u8],
    /// What it is.
    pub entry: &'a Entry,
    /// Its owner's name, if it was known on the source.
    pub user: Option<&'a [u8]>,
    /// Its group's name, if it was known on the source.
    pub group: Option<&'a [u8]>,
}

/// Where the walk goes from an entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Next {
    /// Into it, if it is a directory.
    Descend,
    /// Past it.
    Skip,
}

impl<'a> Seen<'a> {
    /// An entry of a node.
    pub fn new(path: &'a [u8], entry: &'a Entry, node: Option<&'a Node>) -> Self {
        let user = node.and_then(|node| node.users.get(&entry.meta.uid));
        let group = node.and_then(|node| node.groups.get(&entry.meta.gid));
        Self { path, entry, user: user.map(|name| &**name), group: group.map(|name| &**name) }
    }

    /// An entry at hand.
    pub fn of(path: &'a [u8], listed: &'a Listed) -> Self {
        Self { path, entry: &listed.entry, user: listed.user.as_deref(), group: listed.group.as_deref() }
    }
}

/// Visits all entries below a directory whose path is `path`, which is as it was when this returns.
///
/// A directory that cannot be read is given to `damaged`; what was read of it before was visited.
///
/// # Errors
/// What `visit` and `damaged` return; errors of the store; `Interrupted`.
pub fn walk(
    reader: &ChunkReader,
    context: &Context,
    path: &mut Vec<u8>,
    directory: &Content,
    visit: &mut dyn FnMut(&Seen<'_>) -> Result<Next>,
    damaged: &mut OnDamage<'_>,
) -> Result<()> {
    let base = path.len();
    // An error of a visitor may be `Damaged` too: it is kept apart from damage of this directory.
    let mut outcome = Ok(());
    let read = reader.for_each_node(directory, &mut |node| {
        for entry in &node.entries {
            outcome = context.check_stop().and_then(|()| {
                path.truncate(base);
                path.push(b'/');
                path.extend_from_slice(&entry.name);
                match (visit(&Seen::new(path, entry, Some(&node)))?, entry.content()) {
                    (Next::Descend, Some(content)) if entry.is_directory() => {
                        walk(reader, context, path, content, visit, damaged)
                    }
                    _ => Ok(()),
                }
            });
            if outcome.is_err() {
                return Err(crate::Error::interrupted());
            }
        }
        Ok(())
    });
    path.truncate(base);
    outcome?;
    match read {
        Err(e) if e.kind() == Kind::Damaged => damaged(path, e),
        other => other,
    }
}
