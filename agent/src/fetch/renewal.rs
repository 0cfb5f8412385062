//! The index once more while it is read by: a prune on another machine copies what is in use of a pack to another and deletes the first,
//! and nobody who reads holds it back.
//!
//! The index is loaded again when a pack is found gone, once for each pack: where packs are lost for good, that ends.

use std::collections::HashSet;

use lifeboat_providers::Sha256;
use parking_lot::Mutex;

use crate::Result;
use crate::index::{Index, Location};
use crate::repository::{Repository, layout};

/// Packs that were found gone, after which the index was loaded again.
#[derive(Default)]
pub(super) struct Renewal {
    gone: Mutex<HashSet<Sha256>>,
}

impl Renewal {
    /// Loads the index again if one of the packs of these places is gone, and was not known to be. Whoever calls it meanwhile waits.
    ///
    /// # Errors
    /// Errors of the store.
    pub(super) fn renew(&self, repository: &Repository, index: &Index, places: &[Location]) -> Result<()> {
        let mut gone = self.gone.lock();
        let mut is_news = false;
        for place in places.iter().filter(|place| !gone.contains(&place.pack)).collect::<Vec<_>>() {
            if repository.store().head(&layout::pack(place.kind, &place.pack)?)?.is_none() {
                is_news |= gone.insert(place.pack);
            }
        }
        if is_news { repository.renew_index(index) } else { Ok(()) }
    }
}
