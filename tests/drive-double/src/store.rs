//! What is stored: files, folders, ids and their limits.

use std::collections::{BTreeSet, HashMap, HashSet};

use bytes::Bytes;
use chrono::{DateTime, SubsecRound, Utc};

use crate::answer::{ApiError, Outcome, message_of, no_file, refuse};
use crate::file::{Digests, File};
use crate::metadata::{FOLDER, Metadata, merge};
use crate::options::Options;
use crate::random::Random;

/// Folders above a file that are looked at; Drive allows 100 levels.
const LEVELS_MAX: usize = 128;

/// All files, those that were removed, and what has been used of the limits.
#[derive(Debug)]
pub(crate) struct Store {
    files: HashMap<String, File>,
    /// Of each folder, the ids in it.
    children: HashMap<String, BTreeSet<String>>,
    /// Removed files without their content, for listings that lag.
    removed: Vec<File>,
    /// Given by `generateIds` and not used yet.
    generated: HashSet<String>,
    /// Ever used: an id does not come back.
    used: HashSet<String>,
    pub(crate) creates: u64,
    pub(crate) root: String,
    pub(crate) drive: String,
    pub(crate) folder: String,
    pub(crate) quota: Option<u64>,
    pub(crate) usage: u64,
    pub(crate) uploaded_today: u64,
}

/// Whose storage new bytes count against.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Owner {
    User,
    ServiceAccount,
}

impl Store {
    /// The roots of My Drive and of one shared drive, and the folder of the tests.
    pub(crate) fn new(options: &Options, random: &mut Random) -> Self {
        let mut store = Self {
            files: HashMap::new(),
            children: HashMap::new(),
            removed: Vec::new(),
            generated: HashSet::new(),
            used: HashSet::new(),
            creates: 0,
            root: format!("0A{}PVA", random.text(14)),
            drive: format!("0A{}PVA", random.text(14)),
            folder: random.file_id(),
            quota: options.quota_bytes,
            usage: 0,
            uploaded_today: 0,
        };
        let (root, drive, folder) = (store.root.clone(), store.drive.clone(), store.folder.clone());
        let above = if options.shared_drive { drive.clone() } else { root.clone() };
        let on_drive = options.shared_drive.then(|| drive.clone());
        store.insert(folder_file(root, "My Drive", Vec::new(), None));
        store.insert(folder_file(drive.clone(), "Drive", Vec::new(), Some(drive)));
        store.insert(folder_file(folder, "lifeboat", vec![above], on_drive));
        store
    }

    fn insert(&mut self, mut file: File) {
        self.creates += 1;
        file.created = self.creates;
        self.usage += file.digests.size;
        self.used.insert(file.id.clone());
        for parent in &file.parents {
            self.children.entry(parent.clone()).or_default().insert(file.id.clone());
        }
        self.files.insert(file.id.clone(), file);
    }

    pub(crate) fn get(&self, id: &str) -> Option<&File> {
        self.files.get(id)
    }

    pub(crate) fn get_mut(&mut self, id: &str) -> Option<&mut File> {
        self.files.get_mut(id)
    }

    pub(crate) fn files(&self) -> impl Iterator<Item = &File> {
        self.files.values()
    }

    pub(crate) fn removed(&self) -> impl Iterator<Item = &File> {
        self.removed.iter()
    }

    /// The files in a folder.
    pub(crate) fn children(&self, folder: &str) -> impl Iterator<Item = &File> {
        self.children.get(folder).into_iter().flatten().filter_map(|id| self.files.get(id))
    }

    /// Whether the file or a folder above it is in the trash.
    pub(crate) fn is_trashed(&self, file: &File) -> bool {
        let mut at = Some(file);
        for _ in 0..LEVELS_MAX {
            match at {
                Some(file) if file.trashed => return true,
                Some(file) => at = file.parents.first().and_then(|parent| self.files.get(parent)),
                None => return false,
            }
        }
        false
    }

    /// New ids for later creates.
    pub(crate) fn generate_ids(&mut self, count: usize, random: &mut Random) -> Vec<String> {
        let ids: Vec<String> = (0..count).map(|_| random.file_id()).collect();
        self.generated.extend(ids.iter().cloned());
        ids
    }

    /// Refuses an id that is taken or was never given.
    pub(crate) fn check_id(&self, id: &str) -> Outcome<()> {
        let (status, reason, message) = if self.used.contains(id) {
            (409, "fileIdInUse", "A file already exists with the provided ID.")
        } else if self.generated.contains(id) {
            return Ok(());
        } else {
            (400, "invalid", "The provided file ID is not usable.")
        };
        Err(ApiError { status, reason, message, location: Some(("other", "file.id")) }.answer().refused())
    }

    /// Refuses what would go beyond a limit: `bytes` more in a folder `parent`, in place of `replaced` bytes.
    pub(crate) fn check_limits(
        &self,
        options: &Options,
        owner: Owner,
        parent: &str,
        new_item: bool,
        bytes: u64,
        replaced: u64,
    ) -> Outcome<()> {
        let forbid = |reason: &str| Err(refuse(403, reason, message_of(reason)));
        let drive = self.files.get(parent).and_then(|folder| folder.drive_id.as_ref());
        if new_item {
            let siblings = self.children.get(parent).map_or(0, BTreeSet::len) as u64;
            if siblings >= options.items_per_folder && parent != self.root {
                return forbid("numChildrenInNonRootLimitExceeded");
            }
            if let Some(drive) = drive {
                let items = self.files.values().filter(|file| file.drive_id.as_ref() == Some(drive)).count();
                if items as u64 > options.items_per_drive {
                    return forbid("teamDriveFileLimitExceeded");
                }
            }
        }
        if bytes == 0 {
            return Ok(());
        }
        if owner == Owner::ServiceAccount && drive.is_none() && !options.service_account_has_storage {
            let message = "Service Accounts do not have storage quota. Leverage shared drives (https://developers.google.com/workspace/drive/api/guides/about-shareddrives), or use OAuth delegation (http://support.google.com/a/answer/7281227) instead.";
            return Err(refuse(403, "storageQuotaExceeded", message));
        }
        if self.quota.is_some_and(|quota| self.usage.saturating_sub(replaced).saturating_add(bytes) > quota) {
            return forbid("storageQuotaExceeded");
        }
        if self.uploaded_today.saturating_add(bytes) > options.upload_bytes_per_day {
            return forbid("userRateLimitExceeded");
        }
        Ok(())
    }

    /// The folder in which a create goes; refuses what is none.
    pub(crate) fn check_parent(
        &self,
        metadata: &Metadata,
        visible: impl Fn(&File) -> bool,
    ) -> Outcome<String> {
        let parent = match metadata.parents.as_deref() {
            Some([parent, ..]) if parent != "root" => parent.clone(),
            _ => self.root.clone(),
        };
        match self.files.get(&parent) {
            Some(folder) if !visible(folder) => Err(no_file(&parent)),
            Some(folder) if folder.is_folder() => Ok(parent),
            Some(_) => Err(refuse(403, "parentNotAFolder", "The specified parent is not a folder.")),
            None => Err(no_file(&parent)),
        }
    }

    /// Makes a file of what was checked before. Takes effect at once.
    pub(crate) fn create(
        &mut self,
        metadata: Metadata,
        parent: String,
        content_type: Option<String>,
        content: Bytes,
        random: &mut Random,
    ) -> String {
        let is_folder = metadata.is_folder();
        let id = metadata.id.unwrap_or_else(|| random.file_id());
        self.generated.remove(&id);
        let now = Utc::now().trunc_subsecs(3);
        let mut file =
            folder_file(id.clone(), metadata.name.as_deref().unwrap_or("Untitled"), vec![parent], None);
        file.drive_id = file.parents.first().and_then(|parent| self.files.get(parent)?.drive_id.clone());
        file.mime_type =
            metadata.mime_type.or(content_type).unwrap_or_else(|| "application/octet-stream".to_owned());
        if !is_folder {
            file.digests = Digests::of(&content);
            self.uploaded_today = self.uploaded_today.saturating_add(file.digests.size);
            file.content = Some(content);
            file.head_revision_id = format!("0B{}", random.text(40));
        }
        file.created_time = metadata.created.unwrap_or(now);
        file.modified_time = metadata.modified.unwrap_or(now);
        file.description = metadata.description;
        file.trashed = metadata.trashed == Some(true);
        merge(&mut file.app_properties, metadata.app_properties);
        merge(&mut file.properties, metadata.properties);
        self.insert(file);
        id
    }

    /// Changes what the client said; moves are `add` and `remove` of parents.
    pub(crate) fn update(&mut self, id: &str, metadata: Metadata, new_parent: Option<String>) {
        let now = Utc::now().trunc_subsecs(3);
        let Some(file) = self.files.get_mut(id) else { return };
        file.version += 1;
        file.modified_time = metadata.modified.unwrap_or(now);
        if let Some(name) = metadata.name {
            file.name = name;
        }
        if let Some(mime_type) = metadata.mime_type {
            file.mime_type = mime_type;
        }
        if let Some(trashed) = metadata.trashed {
            file.trashed = trashed;
        }
        if metadata.description.is_some() {
            file.description = metadata.description;
        }
        merge(&mut file.app_properties, metadata.app_properties);
        merge(&mut file.properties, metadata.properties);
        if let Some(parent) = new_parent {
            for old in std::mem::replace(&mut file.parents, vec![parent.clone()]) {
                if let Some(siblings) = self.children.get_mut(&old) {
                    siblings.remove(id);
                }
            }
            self.children.entry(parent).or_default().insert(id.to_owned());
        }
    }

    /// Puts other content in a file's place, as a new revision.
    pub(crate) fn replace_content(&mut self, id: &str, content: Bytes, random: &mut Random) {
        let Some(file) = self.files.get_mut(id) else { return };
        self.usage = self.usage.saturating_sub(file.digests.size);
        file.digests = Digests::of(&content);
        self.usage += file.digests.size;
        self.uploaded_today = self.uploaded_today.saturating_add(file.digests.size);
        file.content = Some(content);
        file.head_revision_id = format!("0B{}", random.text(40));
        file.version += 1;
        file.modified_time = Utc::now().trunc_subsecs(3);
    }

    /// Removes a file for good, and all below a folder. Whether it was there.
    pub(crate) fn remove(&mut self, id: &str) -> bool {
        let mut waiting = vec![id.to_owned()];
        let mut removed = false;
        while let Some(id) = waiting.pop() {
            waiting.extend(self.children.remove(&id).into_iter().flatten());
            let Some(mut file) = self.files.remove(&id) else { continue };
            for parent in &file.parents {
                if let Some(siblings) = self.children.get_mut(parent) {
                    siblings.remove(&id);
                }
            }
            self.usage = self.usage.saturating_sub(file.digests.size);
            file.content = None;
            self.removed.push(file);
            removed = true;
        }
        removed
    }
}

fn folder_file(id: String, name: &str, parents: Vec<String>, drive_id: Option<String>) -> File {
    let now: DateTime<Utc> = Utc::now().trunc_subsecs(3);
    File {
        id,
        name: name.to_owned(),
        mime_type: FOLDER.to_owned(),
        parents,
        content: None,
        digests: Digests::default(),
        created: 0,
        created_time: now,
        modified_time: now,
        trashed: false,
        description: None,
        app_properties: std::collections::BTreeMap::new(),
        properties: std::collections::BTreeMap::new(),
        drive_id,
        by_app: true,
        abusive: false,
        head_revision_id: String::new(),
        version: 1,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn store(options: &Options) -> (Store, Random) {
        let mut random = Random::new(1);
        (Store::new(options, &mut random), random)
    }

    fn create(store: &mut Store, random: &mut Random, id: Option<String>, content: &'static [u8]) -> String {
        let metadata = Metadata { id, name: Some("a".to_owned()), ..Metadata::default() };
        let folder = store.folder.clone();
        store.create(metadata, folder, None, Bytes::from_static(content), random)
    }

    #[test]
    fn ids_are_used_once() {
        let (mut store, mut random) = store(&Options::default());
        let id = store.generate_ids(1, &mut random).remove(0);
        assert!(store.check_id(&id).is_ok());
        assert_eq!(store.check_id("made-up").unwrap_err().status, 400);
        assert_eq!(create(&mut store, &mut random, Some(id.clone()), b"x"), id);
        assert_eq!(store.check_id(&id).unwrap_err().status, 409);
        assert!(store.remove(&id));
        assert_eq!(store.check_id(&id).unwrap_err().status, 409);
        assert!(!store.remove(&id));
    }

    #[test]
    fn usage_follows_content_and_trash_counts() {
        let (mut store, mut random) = store(&Options { quota_bytes: Some(10), ..Options::default() });
        let id = create(&mut store, &mut random, None, b"12345678");
        let folder = store.folder.clone();
        let limits = |store: &Store, bytes, replaced| {
            store.check_limits(&Options::default(), Owner::User, &folder, true, bytes, replaced)
        };
        assert!(limits(&store, 2, 0).is_ok());
        assert_eq!(limits(&store, 3, 0).unwrap_err().status, 403);
        assert!(limits(&store, 10, 8).is_ok());
        store.update(&id, Metadata { trashed: Some(true), ..Metadata::default() }, None);
        assert_eq!(limits(&store, 3, 0).unwrap_err().status, 403);
        store.replace_content(&id, Bytes::from_static(b"123"), &mut random);
        assert_eq!(store.usage, 3);
        store.remove(&id);
        assert_eq!(store.usage, 0);
    }

    #[test]
    fn a_folder_takes_along_what_is_in_it() {
        let (mut store, mut random) = store(&Options::default());
        let id = create(&mut store, &mut random, None, b"x");
        let folder = store.folder.clone();
        store.update(&folder, Metadata { trashed: Some(true), ..Metadata::default() }, None);
        assert!(store.is_trashed(store.get(&id).unwrap()));
        assert!(!store.get(&id).unwrap().trashed);
        store.remove(&folder);
        assert!(store.get(&id).is_none());
        assert_eq!(store.removed().count(), 2);
    }

    #[test]
    fn moves_change_the_folder() {
        let (mut store, mut random) = store(&Options::default());
        let id = create(&mut store, &mut random, None, b"x");
        let (folder, root) = (store.folder.clone(), store.root.clone());
        store.update(&id, Metadata::default(), Some(root.clone()));
        assert_eq!(store.children(&folder).count(), 0);
        assert!(store.children(&root).any(|file| file.id == id));
    }
}
