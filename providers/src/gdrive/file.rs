//! A file on Drive as far as it matters here, and how one of several files of the same name is chosen.
//!
//! Drive lets any number of files have one name. Two come about when two machines create an object at once, or when
//! a listing lags behind a create. Every reader must choose the same one, so the choice depends on nothing but the
//! files: one whose content is proved before one of which that cannot be said, the older before the younger, the
//! smaller id before the greater. Proved means: Drive's SHA-256 of the content is the one that the writer left in
//! the file's properties, which Drive sets together with the content.

use std::collections::HashMap;
use std::time::SystemTime;

use chrono::{DateTime, Utc};
use google_drive3::api;

use crate::{Key, ObjectInfo, Sha256};

/// The property in which a writer leaves the digest of what it sends. With its value well below Drive's 124 bytes.
pub(super) const MARKER: &str = "lifeboat-sha256";

/// What is asked of a file wherever one is described.
pub(super) const FIELDS: &str =
    "id,name,mimeType,size,sha256Checksum,createdTime,modifiedTime,trashed,driveId,appProperties";

pub(super) const FOLDER_TYPE: &str = "application/vnd.google-apps.folder";

/// Set on every file, so that Drive neither guesses nor converts.
pub(super) const FILE_TYPE: &str = "application/octet-stream";

const ID_CHARS_MAX: usize = 128;

/// Whether `text` can be the id of a file: anything else never gets into a URL or a query.
pub(super) fn is_id(text: &str) -> bool {
    let allowed = |c: u8| c.is_ascii_alphanumeric() || matches!(c, b'-' | b'_');
    (1..=ID_CHARS_MAX).contains(&text.len()) && text.bytes().all(allowed)
}

/// A file or folder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Remote {
    pub(super) id: String,
    pub(super) name: String,
    /// Bytes; `None` for folders and Google's own documents.
    pub(super) size: Option<u64>,
    /// As Drive computed it.
    pub(super) sha256: Option<Sha256>,
    /// As the writer announced it.
    pub(super) marker: Option<Sha256>,
    pub(super) created: Option<DateTime<Utc>>,
    pub(super) modified: Option<DateTime<Utc>>,
    pub(super) is_folder: bool,
    pub(super) trashed: bool,
    /// The shared drive it lies in.
    pub(super) drive_id: Option<String>,
}

/// What can be said of a file's content.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Content {
    /// Drive holds what its writer sent.
    Proved,
    /// Drive states no digest, or the writer left none.
    Unknown,
    /// Drive holds other bytes than its writer sent.
    Damaged,
}

impl Remote {
    /// What Drive said of a file; `None` if that has no usable id.
    pub(super) fn new(file: api::File) -> Option<Self> {
        let id = file.id.filter(|id| is_id(id))?;
        let digest = |text: &str| text.to_ascii_lowercase().parse::<Sha256>().ok();
        let marker = |properties: HashMap<String, String>| digest(properties.get(MARKER)?);
        Some(Self {
            id,
            name: file.name.unwrap_or_default(),
            size: file.size.and_then(|size| u64::try_from(size).ok()),
            sha256: file.sha256_checksum.as_deref().and_then(digest),
            marker: file.app_properties.and_then(marker),
            created: file.created_time,
            modified: file.modified_time,
            is_folder: file.mime_type.as_deref() == Some(FOLDER_TYPE),
            trashed: file.trashed.unwrap_or(false),
            drive_id: file.drive_id.filter(|id| is_id(id)),
        })
    }

    /// Whether it can be the object of this key.
    pub(super) fn is_object(&self, key: &Key) -> bool {
        self.name == key.as_str() && !self.is_folder && !self.trashed && self.size.is_some()
    }

    /// What can be said of its content.
    pub(super) fn content(&self) -> Content {
        match (self.sha256, self.marker) {
            (Some(found), Some(sent)) if found == sent => Content::Proved,
            (Some(_), Some(_)) => Content::Damaged,
            _ => Content::Unknown,
        }
    }

    /// Its place among files of the same name: the smallest is the object.
    pub(super) fn rank(&self) -> (Content, DateTime<Utc>, &str) {
        (self.content(), self.created.unwrap_or(DateTime::<Utc>::MAX_UTC), &self.id)
    }

    /// As the contract describes an object.
    pub(super) fn info(&self, key: Key) -> ObjectInfo {
        let modified = self.modified.or(self.created).map(SystemTime::from);
        ObjectInfo { key, size: self.size.unwrap_or_default(), sha256: self.sha256, modified }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(id: &str, created: &str, sha256: Option<&str>, marker: Option<&str>) -> Remote {
        let json = serde_json::json!({
            "id": id, "name": "packs/aa", "size": "3", "createdTime": created, "sha256Checksum": sha256,
            "appProperties": marker.map(|marker| serde_json::json!({ MARKER: marker })),
        });
        Remote::new(serde_json::from_value(json).unwrap()).unwrap()
    }

    #[test]
    fn every_reader_chooses_the_same_of_several() {
        let (one, other) = ("11".repeat(32), "22".repeat(32));
        let early = "2026-01-01T00:00:00.000Z";
        let late = "2026-01-02T00:00:00.000Z";
        let order = [
            file("b", early, Some(&one), Some(&one)),
            file("c", early, Some(&other), Some(&other)),
            file("a", late, Some(&one), Some(&one)),
            file("d", early, None, Some(&one)),
            file("e", early, Some(&one), None),
            file("0", early, Some(&one), Some(&other)),
        ];
        for turn in 0..order.len() {
            let mut files: Vec<&Remote> = order.iter().cycle().skip(turn).take(order.len()).collect();
            files.sort_by(|a, b| a.rank().cmp(&b.rank()));
            let ids: Vec<&str> = files.iter().map(|file| file.id.as_str()).collect();
            assert_eq!(ids, ["b", "c", "a", "d", "e", "0"]);
        }
    }

    #[test]
    fn what_google_says_may_be_anything() {
        let parse = |json: &str| serde_json::from_str::<api::File>(json).ok().and_then(Remote::new);
        for bad in ["{}", r#"{"id":""}"#, r#"{"id":"a/b"}"#, r#"{"id":"a'b"}"#] {
            assert_eq!(parse(bad), None, "{bad}");
        }
        let odd =
            parse(r#"{"id":"a","size":"-1","sha256Checksum":"zz","appProperties":{"lifeboat-sha256":"x"}}"#);
        let odd = odd.unwrap();
        assert_eq!((odd.size, odd.sha256, odd.marker, odd.content()), (None, None, None, Content::Unknown));
        assert!(!odd.is_object(&Key::new("a").unwrap()));
        assert!(MARKER.len() + 64 <= 124);
    }
}
