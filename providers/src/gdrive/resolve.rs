//! From a key to the file that is the object: by the remembered id where there is one, else by name.
//!
//! A listing lags behind; a question by id does not. So what a listing finds is asked for by id before it counts,
//! and a remembered id is asked for first. "Not there" is said when neither memory nor listing has it: for an object
//! that another machine made seconds ago that may be wrong, and the store has no better answer.

use std::time::{Duration, SystemTime};

use super::Drive;
use super::api::quoted;
use super::error::Outcome;
use super::file::{Content, Remote};
use super::folders::area;
use super::state::Entry;
use crate::{Key, Sha256};

/// A copy younger than this may still be somebody's only knowledge of the object.
const DUPLICATE_AGE_MIN: Duration = Duration::from_secs(24 * 3600);

impl Drive {
    /// The file that is the object, with what Drive says of it now.
    pub(super) async fn find(&self, key: &Key) -> Outcome<Option<Remote>> {
        match self.state.entry(key)? {
            Some(Entry::Stored(id)) => {
                match self.api.find(&id).await? {
                    Some(remote) if remote.is_object(key) => return Ok(Some(remote)),
                    // Removed, trashed or renamed by another machine or a person.
                    _ => self.state.forget(key, &id)?,
                }
            }
            Some(Entry::Planned(plan)) => {
                // An earlier create whose outcome nobody knows: it may have come true.
                if let Some(remote) = self.api.find(&plan.id).await?
                    && remote.is_object(key)
                    && remote.sha256 == Some(plan.sha256)
                {
                    self.state.stored(key, &remote.id)?;
                    return Ok(Some(remote));
                }
            }
            None => {}
        }
        Ok(self.look_up(key).await?.0.into_iter().next())
    }

    /// The id under which to ask for the object first; may be out of date.
    pub(super) async fn likely_id(&self, key: &Key) -> Outcome<Option<String>> {
        if let Some(Entry::Stored(id)) = self.state.entry(key)? {
            return Ok(Some(id));
        }
        Ok(self.find(key).await?.map(|remote| remote.id))
    }

    /// All files that can be the object, found by name and confirmed by id, the object first. Also the time by
    /// Drive's clock.
    pub(super) async fn look_up(&self, key: &Key) -> Outcome<(Vec<Remote>, Option<SystemTime>)> {
        let (found, at) = self.named(key).await?;
        let mut files = Vec::with_capacity(found.len());
        for id in found {
            if let Some(remote) = self.api.find(&id).await?
                && remote.is_object(key)
            {
                files.push(remote);
            }
        }
        files.sort_by(|a, b| a.rank().cmp(&b.rank()));
        if let Some(best) = files.first() {
            self.state.stored(key, &best.id)?;
        }
        Ok((files, at))
    }

    /// The ids that a listing has under the name of the object, not confirmed.
    pub(super) async fn named(&self, key: &Key) -> Outcome<(Vec<String>, Option<SystemTime>)> {
        let area = area(key);
        let mut looked_in = Vec::new();
        let mut was_asked = false;
        let mut found = Vec::new();
        let mut at = None;
        loop {
            let mut folders = self.folders.known(area, &self.state)?;
            folders.retain(|folder| !looked_in.contains(folder));
            for folder in folders {
                let query = format!(
                    "'{}' in parents and name = '{}' and trashed = false",
                    quoted(&folder),
                    quoted(key.as_str())
                );
                match self.api.list_all(&query, self.folders.drive_id()).await {
                    Ok(page) => {
                        at = page.at.or(at);
                        // Drive's `=` ignores case.
                        let files = page.files.into_iter().filter(|file| file.is_object(key));
                        found.extend(files.map(|file| file.id));
                    }
                    Err(failure) if failure.has_status(404) => self.folder_missing(area, &folder).await?,
                    Err(failure) => return Err(failure),
                }
                looked_in.push(folder);
            }
            if !found.is_empty() || area.is_none() {
                return Ok((found, at));
            }
            // Another machine may have made a folder for this area since.
            let is_new = if looked_in.is_empty() && !was_asked {
                self.folders.refresh(&self.api, &self.state).await?;
                true
            } else {
                self.folders.refresh_if_old(&self.api, &self.state).await?
            };
            was_asked = true;
            if !is_new {
                return Ok((found, at));
            }
        }
    }

    /// Removes copies of an object that is there: only those that Drive says are byte for byte the same, once the
    /// object itself is proved, and none that is young.
    pub(super) async fn remove_copies(
        &self,
        files: &[Remote],
        sha256: Sha256,
        now: Option<SystemTime>,
    ) -> Outcome<()> {
        let (Some((object, copies)), Some(now)) = (files.split_first(), now) else { return Ok(()) };
        if object.content() != Content::Proved || object.sha256 != Some(sha256) {
            return Ok(());
        }
        for copy in copies {
            let same = copy.sha256 == object.sha256 && copy.size == object.size;
            let touched = copy.modified.max(copy.created).map(SystemTime::from);
            let age = touched.and_then(|touched| now.duration_since(touched).ok()).unwrap_or_default();
            if same && age >= DUPLICATE_AGE_MIN {
                self.api.remove(&copy.id).await?;
            }
        }
        Ok(())
    }
}
