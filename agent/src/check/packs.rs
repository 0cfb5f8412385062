//! Packs against the index: names and sizes from listings, nothing is read. Where a listing may lag, a pack is missing only if it cannot be had
//! by its name either.

use std::collections::HashMap;

use lifeboat_providers::Sha256;

use super::Check;
use crate::Result;
use crate::pack::directory::PackKind;
use crate::repository::{Area, Tombstones, layout};

impl Check<'_> {
    /// Finds packs that are missing or have another size than the index says, and packs that no index names.
    pub(super) fn packs(&mut self) -> Result<()> {
        let mut stored: HashMap<(PackKind, Sha256), u64> = HashMap::new();
        for kind in [PackKind::Data, PackKind::Metadata] {
            for info in self.repository.store().list(&Area::of_packs(kind).prefix())? {
                self.context.check_stop()?;
                let id = match layout::sha256_of(&info.key) {
                    Ok(id) if layout::pack(kind, &id)? == info.key => id,
                    Ok(_) => {
                        self.report.damage(&info.key, "lies in the wrong folder");
                        continue;
                    }
                    Err(e) => {
                        self.report.warnings.push(e.to_string());
                        continue;
                    }
                };
                stored.insert((kind, id), info.size);
            }
        }
        // Listed after the packs, and only where something is amiss: a prune deletes what its tombstone names.
        let doomed = std::cell::OnceCell::new();
        let is_doomed = |pack: &Sha256| -> Result<bool> {
            if doomed.get().is_none() {
                let _ = doomed.set(Tombstones::load_all(self.repository)?.0.packs);
            }
            Ok(doomed.get().is_some_and(|doomed| doomed.contains(pack)))
        };
        for pack in self.index.packs()? {
            self.report.packs += 1;
            let key = layout::pack(pack.kind, &pack.id)?;
            let found = match stored.remove(&(pack.kind, pack.id)) {
                None => self.repository.store().unlisted(&key)?.map(|info| info.size),
                listed => listed,
            };
            match found {
                Some(size) if size == pack.stored_bytes => {}
                found if self.is_blank(&pack.id)? => {
                    // What was to be had of it lies elsewhere.
                    if found.is_some() {
                        self.report.unused_damage(key);
                    }
                }
                Some(size) => {
                    let problem = format!("has {size} bytes instead of {}", pack.stored_bytes);
                    // Segments before the cut can be read.
                    self.index.for_each_chunk(&pack.id, |_, location| {
                        let segment = location.segment;
                        if segment.offset + u64::from(segment.box_bytes) > size {
                            let reason = format!("{key} {problem}");
                            self.bad.segments.insert((pack.id, segment.number), reason);
                        }
                    })?;
                    self.report.damage(key, problem);
                }
                None => {
                    self.bad.packs.insert(pack.id, format!("{key} is missing"));
                    // Deleted by a prune, and named again by somebody who woke up late: damage only if something needs it.
                    if !is_doomed(&pack.id)? {
                        self.report.damage(key, "is missing");
                    }
                }
            }
        }
        // What is about to be deleted is in no index any more.
        for (_, id) in stored.keys() {
            self.report.orphans += u64::from(!is_doomed(id)?);
        }
        Ok(())
    }
}
