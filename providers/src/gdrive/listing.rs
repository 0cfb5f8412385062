//! `list`: the folders of an area page by page, each key once, whatever Drive has.
//!
//! Pages may be short or empty before the end, so only the absence of a next one ends a folder. A page that failed
//! is asked for again when the stream is polled again. Of several files of one name the one is shown that `get`
//! would read.
//!
//! A listing lags: it may lack what was made minutes ago. So what this machine remembers under the prefix and no page showed is asked for by
//! its id at the end, and shown if it is there.

use std::collections::{HashSet, VecDeque};

use futures_util::StreamExt as _;
use futures_util::stream::{self, BoxStream};

use super::api::{incomplete, quoted, stands_still};
use super::error::Outcome;
use super::file::{Content, Remote};
use super::folders::area;
use super::state::Entry;
use super::{CONCURRENCY_PREFERRED, Drive};
use crate::{Key, ObjectInfo, Prefix, Result, Sha256};

/// A folder to be listed, and of which area it is.
type Place = (Option<String>, String);

struct Listing<'a> {
    drive: &'a Drive,
    prefix: Prefix,
    /// Folders still to be listed, the current one first; `None` until Drive was asked which there are.
    places: Option<VecDeque<Place>>,
    /// The page of the current folder that comes next; `None` is its first.
    page: Option<String>,
    /// Files of the last page not looked at yet.
    files: VecDeque<(Key, Remote)>,
    /// Keys that were shown, by the beginning of their digest.
    shown: HashSet<[u8; 16]>,
    /// Objects that are remembered and no page showed; `None` until all pages were seen.
    remembered: Option<VecDeque<(Key, String)>>,
    /// Of those, what was found to be there.
    found: VecDeque<(Key, Remote)>,
}

impl Drive {
    /// All objects in a folder of keys and below.
    pub(super) fn listing(&self, prefix: &Prefix) -> BoxStream<'_, Result<ObjectInfo>> {
        let listing = Listing {
            drive: self,
            prefix: prefix.clone(),
            places: None,
            page: None,
            files: VecDeque::new(),
            shown: HashSet::new(),
            remembered: None,
            found: VecDeque::new(),
        };
        stream::unfold(Some(listing), |listing| async move {
            let mut listing = listing?;
            match listing.next().await {
                Ok(info) => Some((Ok(info?), Some(listing))),
                Err(failure) => {
                    let is_first_page = listing.page.is_none();
                    // A page's address that Drive does not take any more is of no use a second time.
                    let page_expired = failure.has_status(400) && !is_first_page;
                    let mut error = failure.into_error("list", &listing.prefix);
                    if page_expired {
                        let reason = format_args!("the listing took too long: {}", error.reason());
                        let error =
                            crate::Error::new(crate::ErrorKind::Transient, "list", &listing.prefix, reason);
                        return Some((Err(error), None));
                    }
                    let go_on = error.kind().is_retryable();
                    if go_on {
                        error = error.resumable();
                    }
                    Some((Err(error), go_on.then_some(listing)))
                }
            }
        })
        .fuse()
        .boxed()
    }
}

fn hash(key: &Key) -> [u8; 16] {
    let mut short = [0; 16];
    for (to, from) in short.iter_mut().zip(Sha256::of(key.as_str().as_bytes()).as_bytes()) {
        *to = *from;
    }
    short
}

/// Whether a file can be taken for the object as it is listed: a listing may have one that was removed.
fn is_plain(drive: &Drive, remote: &Remote) -> Outcome<bool> {
    Ok(remote.content() != Content::Damaged && !drive.state.was_removed(&remote.id)?)
}

impl Listing<'_> {
    async fn next(&mut self) -> Outcome<Option<ObjectInfo>> {
        loop {
            // Taken out only when it is done with: a failure on the way asks for it again.
            while let Some((key, remote)) = self.files.front() {
                let shown = self.choose(key, remote).await?;
                let Some((key, _)) = self.files.pop_front() else { break };
                if let Some(remote) = shown {
                    self.shown.insert(hash(&key));
                    return Ok(Some(remote.info(key)));
                }
            }
            if self.places.is_none() {
                self.places = Some(self.find_places().await?);
            }
            match self.places.as_ref().and_then(|places| places.front().cloned()) {
                Some((area, folder)) => self.turn_page(area.as_deref(), &folder).await?,
                None => return self.next_remembered().await,
            }
        }
    }

    /// The folders that can have objects below the prefix.
    async fn find_places(&self) -> Outcome<VecDeque<Place>> {
        let drive = self.drive;
        drive.folders.refresh(&drive.api, &drive.state).await?;
        let mut areas: Vec<Option<String>> = Vec::new();
        match self.prefix.as_str().split('/').next().unwrap_or_default() {
            "" => {
                areas.push(None);
                areas.extend(drive.folders.areas().into_iter().map(Some));
            }
            area => areas.push(Some(area.to_owned())),
        }
        let mut places = VecDeque::new();
        for area in areas {
            for folder in drive.folders.known(area.as_deref(), &drive.state)? {
                places.push_back((area.clone(), folder));
            }
        }
        Ok(places)
    }

    /// Asks for the next page of a folder.
    async fn turn_page(&mut self, area: Option<&str>, folder: &str) -> Outcome<()> {
        let drive = self.drive;
        let query = format!("'{}' in parents and trashed = false", quoted(folder));
        let page = match drive.api.list(&query, drive.folders.drive_id(), self.page.as_deref()).await {
            Ok(page) => page,
            Err(failure) if failure.has_status(404) => {
                drive.folder_missing(area, folder).await?;
                self.end_folder();
                return Ok(());
            }
            Err(failure) => return Err(failure),
        };
        if page.is_incomplete {
            return Err(incomplete());
        }
        let mut new = Vec::new();
        for remote in page.files {
            if let Some(key) = self.key_of(area, &remote) {
                if is_plain(drive, &remote)? && drive.state.entry(&key)?.is_none() {
                    new.push((key.as_str().to_owned(), remote.id.clone()));
                }
                self.files.push_back((key, remote));
            }
        }
        drive.state.stored_many(new.into_iter())?;
        match page.next {
            None => self.end_folder(),
            Some(next) if self.page.as_ref() == Some(&next) => {
                return Err(stands_still());
            }
            Some(next) => self.page = Some(next),
        }
        Ok(())
    }

    /// The next object that no page showed, and that is there all the same.
    async fn next_remembered(&mut self) -> Outcome<Option<ObjectInfo>> {
        loop {
            if let Some((key, remote)) = self.found.pop_front() {
                return Ok(Some(remote.info(key)));
            }
            let remembered = match &mut self.remembered {
                Some(remembered) => remembered,
                none => none.insert(
                    self.drive.state.stored_under(&self.prefix, |key| self.shown.contains(&hash(key)))?,
                ),
            };
            let asked: Vec<_> = remembered.iter().take(CONCURRENCY_PREFERRED).cloned().collect();
            if asked.is_empty() {
                return Ok(None);
            }
            let drive = self.drive;
            let answers = asked.iter().map(|(_, id)| drive.api.find(id));
            let answers = futures_util::future::try_join_all(answers).await?;
            // Taken out only now: after a failure they are asked for again.
            remembered.drain(..asked.len());
            for ((key, id), answer) in asked.into_iter().zip(answers) {
                match answer.filter(|remote| remote.is_object(&key)) {
                    Some(remote) => self.found.push_back((key, remote)),
                    // Removed, trashed or renamed by another machine or a person.
                    None => drive.state.forget(&key, &id)?,
                }
            }
        }
    }

    fn end_folder(&mut self) {
        self.page = None;
        if let Some(places) = &mut self.places {
            places.pop_front();
        }
    }

    /// The key of a file, if it is an object that belongs here; `None` for what is foreign.
    fn key_of(&self, in_area: Option<&str>, remote: &Remote) -> Option<Key> {
        let key = Key::new(remote.name.as_str()).ok()?;
        let belongs = remote.is_object(&key) && area(&key) == in_area && self.prefix.matches(&key);
        belongs.then_some(key)
    }

    /// The file to show for a key of which this one is listed; `None` if it was shown, or is not there any more.
    async fn choose(&self, key: &Key, remote: &Remote) -> Outcome<Option<Remote>> {
        if self.shown.contains(&hash(key)) {
            return Ok(None);
        }
        let is_object = match self.drive.state.entry(key)? {
            Some(Entry::Stored(id)) => id == remote.id,
            Some(Entry::Planned(plan)) => plan.id == remote.id,
            None => true,
        };
        if is_object && is_plain(self.drive, remote)? {
            return Ok(Some(remote.clone()));
        }
        // Another file of this name is known, or this one was removed: the same choice as for `get`.
        let (files, _) = self.drive.look_up(key).await?;
        match files.into_iter().next() {
            Some(best) => Ok(Some(best)),
            // The listing may be older than the file that is known.
            None => self.drive.find(key).await,
        }
    }
}
