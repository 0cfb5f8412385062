//! Reading records that replace one another: what vanished since it was listed is said again by one that was not listed yet.

use std::collections::HashSet;

use lifeboat_providers::Key;

use crate::Result;
use crate::repository::{Area, Repository, store};
use crate::seal::header::ObjectKind;

/// So often an area is listed, if records vanish while they are read.
const LISTINGS_MAX: usize = 5;

impl Repository {
    /// Calls `each` with the opened bytes of every record of an area, or why they cannot be had. Those that vanished are left out, and the area
    /// is listed again for what replaced them.
    ///
    /// # Errors
    /// If the area cannot be listed; what `each` returns.
    pub(super) fn for_each_record(
        &self,
        area: Area,
        kind: ObjectKind,
        mut each: impl FnMut(&Key, Result<Vec<u8>>) -> Result<()>,
    ) -> Result<()> {
        let mut seen = HashSet::new();
        for _ in 0..LISTINGS_MAX {
            let listed = self.store().list(&area.prefix())?.into_iter().map(|info| info.key);
            let new: Vec<Key> = listed.filter(|key| seen.insert(key.clone())).collect();
            let mut vanished = false;
            for (key, json) in new.iter().zip(self.get_whole_each(&new, kind)) {
                match json {
                    Err(e) if store::is_missing(&e) => vanished = true,
                    json => each(key, json)?,
                }
            }
            if !vanished {
                break;
            }
        }
        Ok(())
    }
}
