//! Other destinations of the same repository: where an intact copy of an object may be had when the one here is missing or damaged.
//!
//! They are opened when they are first needed, with the keys that this one was opened with: no passphrase is asked for again.

use std::fmt;
use std::sync::Arc;

use lifeboat_providers::{Key, Sha256, SharedProvider};
use parking_lot::Mutex;

use super::{Area, Repository, Tombstones, layout};
use crate::Result;
use crate::seal::SealedObject;
use crate::space::SpacePolicy;

/// Makes the connection to a destination.
pub type Connect = Arc<dyn Fn() -> Result<SharedProvider> + Send + Sync>;

/// Is told what was healed, and what could not be.
pub type Tell = Arc<dyn Fn(String) + Send + Sync>;

/// A destination that may be opened.
pub struct Place {
    /// What it is called.
    pub name: String,
    /// Makes the connection.
    pub connect: Connect,
    /// What it may take up.
    pub space: SpacePolicy,
}

/// The other destinations, and whom to tell what they were good for.
#[derive(Clone)]
pub struct Siblings {
    all: Arc<[Sibling]>,
    tell: Tell,
}

struct Sibling {
    place: Place,
    state: Mutex<State>,
}

enum State {
    Unused,
    Open(Box<Repository>),
    /// It could not be opened; that was said once, and is not tried again by this process.
    Unusable,
}

impl Siblings {
    /// Destinations by name.
    pub fn new(all: Vec<Place>, tell: Tell) -> Self {
        let all = all.into_iter().map(|place| Sibling { place, state: Mutex::new(State::Unused) });
        Self { all: all.collect(), tell }
    }

    /// None.
    pub fn none() -> Self {
        Self::new(Vec::new(), Arc::new(drop))
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.all.is_empty()
    }

    /// All that can be opened.
    pub fn open_all(&self, own: &Repository) -> Vec<(String, Repository)> {
        let open = |sibling: &Sibling| Some((sibling.place.name.clone(), sibling.open(own, &self.tell)?));
        self.all.iter().filter_map(open).collect()
    }

    /// Says something on what they are used for.
    pub fn tell(&self, text: String) {
        (self.tell)(text);
    }

    /// Calls `each` with the name and repository of every destination that can be opened, until it returns something.
    fn find<T>(&self, own: &Repository, mut each: impl FnMut(&str, &Repository) -> Option<T>) -> Option<T> {
        self.all.iter().find_map(|sibling| {
            let repository = sibling.open(own, &self.tell)?;
            each(&sibling.place.name, &repository)
        })
    }
}

impl Sibling {
    fn open(&self, own: &Repository, tell: &Tell) -> Option<Repository> {
        let mut state = self.state.lock();
        if let State::Unused = &*state {
            let opened = (self.place.connect)().and_then(|provider| own.open_sibling(provider));
            *state = match opened {
                Ok(repository) => State::Open(Box::new(repository.with_space(self.place.space.clone()))),
                Err(e) => {
                    tell(format!(
                        "the destination {} cannot be asked for an intact copy: {e}",
                        self.place.name
                    ));
                    State::Unusable
                }
            };
        }
        match &*state {
            State::Open(repository) => Some(Repository::clone(repository)),
            _ => None,
        }
    }
}

impl fmt::Debug for Siblings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.all.iter().map(|sibling| &sibling.place.name)).finish()
    }
}

impl Repository {
    /// The stored bytes of an object that is named by its hash, from the first other destination that has them intact. They are written
    /// back here; where that fails, it is said, and they are returned all the same.
    pub(crate) fn heal(&self, key: &Key) -> Option<bytes::Bytes> {
        let expected = layout::sha256_of(key).ok()?;
        let siblings = self.siblings();
        let (name, bytes) = siblings.find(self, |name, other| {
            let bytes = other.store().get(key).ok()?;
            (Sha256::of(&bytes) == expected).then(|| (name.to_owned(), bytes))
        })?;
        let here = self.store().location();
        if self.is_doomed(key, &expected) {
            siblings.tell(format!("{key} is about to be deleted at {here}: it is read from {name}"));
            return Some(bytes);
        }
        let written = self.store().replace(key, &SealedObject::copied(bytes.clone(), expected));
        siblings.tell(match written {
            Ok(_) => format!("{key} was missing or damaged at {here}: it is healed from {name}"),
            Err(e) => format!(
                "{key} is missing or damaged at {here}: it is read from {name}, and cannot be written back ({e})"
            ),
        });
        Some(bytes)
    }

    /// Whether an object is a pack that a tombstone names, or may be: it is not written again under its name, as somebody is deleting it.
    fn is_doomed(&self, key: &Key, id: &Sha256) -> bool {
        let is_pack = [Area::Packs, Area::Meta].iter().any(|area| key.as_str().starts_with(area.name()));
        is_pack && Tombstones::load(self).map_or(true, |tombstones| tombstones.packs.contains(id))
    }
}
