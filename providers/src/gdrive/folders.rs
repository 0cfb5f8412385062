//! The folders on Drive: one for each area of keys (their first segment), all in the repository's folder. A file is
//! named by its whole key, so one folder holds an area however deep its keys are.
//!
//! Two machines may make the folder of an area at once. Then there are two of one name, and both are read; the
//! oldest takes the new files.

use std::collections::BTreeMap;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::Instant;

use super::api::{Api, quoted};
use super::error::Outcome;
use super::file::{FOLDER_TYPE, Remote};
use super::ids::IdPool;
use super::setup::no_folder;
use super::state::State;
use crate::Key;

/// How long to wait until a folder that was looked for in vain is looked for again.
const MISS_AGE: Duration = Duration::from_secs(60);

/// The folders below the repository's.
pub(super) struct Folders {
    root: String,
    drive_id: Option<String>,
    known: Mutex<Known>,
    making: tokio::sync::Mutex<BTreeMap<String, String>>,
}

#[derive(Default)]
struct Known {
    /// As the last listing had them, the oldest first.
    listed: BTreeMap<String, Vec<String>>,
    at: Option<Instant>,
}

/// The area of a key: its first segment; `None` for a key of one segment, which lies in the repository's folder.
pub(super) fn area(key: &Key) -> Option<&str> {
    key.as_str().split_once('/').map(|(area, _)| area)
}

/// Whether a folder of this name can be an area's: a person may have put others beside them.
fn is_area(name: &str) -> bool {
    !name.contains('/') && Key::new(name).is_ok()
}

impl Folders {
    /// Below the folder `root`.
    pub(super) fn new(root: &Remote) -> Self {
        Self {
            root: root.id.clone(),
            drive_id: root.drive_id.clone(),
            known: Mutex::default(),
            making: tokio::sync::Mutex::default(),
        }
    }

    /// The repository's folder.
    pub(super) fn root(&self) -> &str {
        &self.root
    }

    /// The shared drive it lies in.
    pub(super) fn drive_id(&self) -> Option<&str> {
        self.drive_id.as_deref()
    }

    /// Asks Drive which folders there are.
    pub(super) async fn refresh(&self, api: &Api, state: &State) -> Outcome<()> {
        let query =
            format!("'{}' in parents and mimeType = '{FOLDER_TYPE}' and trashed = false", quoted(&self.root));
        let mut found = match api.list_all(&query, self.drive_id()).await {
            Err(failure) if failure.has_status(404) => return Err(no_folder(&self.root)),
            result => result?.files,
        };
        found.retain(|folder| folder.is_folder && !folder.trashed && is_area(&folder.name));
        found.sort_by(|a, b| a.rank().cmp(&b.rank()));
        let mut listed: BTreeMap<String, Vec<String>> = BTreeMap::new();
        for folder in found {
            state.folder(&folder.name, &folder.id)?;
            listed.entry(folder.name).or_default().push(folder.id);
        }
        *self.known.lock() = Known { listed, at: Some(Instant::now()) };
        Ok(())
    }

    /// Refreshes unless that was done a moment ago; says whether it was done now.
    pub(super) async fn refresh_if_old(&self, api: &Api, state: &State) -> Outcome<bool> {
        let at = self.known.lock().at;
        if at.is_some_and(|at| at.elapsed() < MISS_AGE) {
            return Ok(false);
        }
        self.refresh(api, state).await?;
        Ok(true)
    }

    /// All areas that have a folder.
    pub(super) fn areas(&self) -> Vec<String> {
        self.known.lock().listed.keys().cloned().collect()
    }

    /// The folders that are known for an area, the one to write to first: as listed, then those that the listing
    /// does not show yet.
    pub(super) fn known(&self, area: Option<&str>, state: &State) -> Outcome<Vec<String>> {
        let Some(area) = area else { return Ok(vec![self.root.clone()]) };
        let mut folders = self.known.lock().listed.get(area).cloned().unwrap_or_default();
        for remembered in state.folders(area)? {
            if !folders.contains(&remembered) {
                folders.push(remembered);
            }
        }
        Ok(folders)
    }

    /// The folder to write to, made if there is none.
    pub(super) async fn for_writing(
        &self,
        area: Option<&str>,
        api: &Api,
        state: &State,
        ids: &IdPool,
    ) -> Outcome<String> {
        if let Some(folder) = self.known(area, state)?.into_iter().next() {
            return Ok(folder);
        }
        let Some(area) = area else { return Ok(self.root.clone()) };
        let mut making = self.making.lock().await;
        if let Some(folder) = self.known(Some(area), state)?.into_iter().next() {
            return Ok(folder);
        }
        self.refresh(api, state).await?;
        if let Some(folder) = self.known(Some(area), state)?.into_iter().next() {
            return Ok(folder);
        }
        // After a failure the same id is tried again: the failed call may have made the folder.
        let id = match making.get(area) {
            Some(id) => id.clone(),
            None => ids.take(api).await?,
        };
        making.insert(area.to_owned(), id.clone());
        match api.create_folder(&id, area, &self.root).await {
            Ok(_) => {}
            Err(failure) if failure.has_status(409) => {}
            Err(failure) => return Err(failure),
        }
        making.remove(area);
        state.folder(area, &id)?;
        Ok(id)
    }

    /// A folder of an area is not there any more.
    pub(super) fn forget(&self, area: &str, id: &str, state: &State) -> Outcome<()> {
        if let Some(folders) = self.known.lock().listed.get_mut(area) {
            folders.retain(|known| known != id);
        }
        Ok(state.folder_gone(area, id)?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_area_is_the_first_of_several_segments() {
        for (key, expected) in [("config", None), ("packs/ab", Some("packs")), ("packs/3f/ab", Some("packs"))]
        {
            assert_eq!(area(&Key::new(key).unwrap()), expected);
        }
    }
}
