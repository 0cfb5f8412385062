//! One file or folder, and how Drive shows it.

use std::collections::BTreeMap;

use bytes::Bytes;
use chrono::{DateTime, SecondsFormat, Utc};
use md5::{Digest, Md5};
use serde::Serialize;
use serde_json::{Value, json};

use crate::metadata::FOLDER;

/// A file or folder.
#[derive(Debug, Clone)]
pub(crate) struct File {
    pub(crate) id: String,
    pub(crate) name: String,
    pub(crate) mime_type: String,
    pub(crate) parents: Vec<String>,
    /// `None` for folders, and for what was removed.
    pub(crate) content: Option<Bytes>,
    pub(crate) digests: Digests,
    /// The number of the create, for lag.
    pub(crate) created: u64,
    pub(crate) created_time: DateTime<Utc>,
    pub(crate) modified_time: DateTime<Utc>,
    pub(crate) trashed: bool,
    pub(crate) description: Option<String>,
    pub(crate) app_properties: BTreeMap<String, String>,
    pub(crate) properties: BTreeMap<String, String>,
    /// The shared drive on which it lies.
    pub(crate) drive_id: Option<String>,
    /// Whether the narrow scope sees it.
    pub(crate) by_app: bool,
    pub(crate) abusive: bool,
    pub(crate) head_revision_id: String,
    pub(crate) version: u64,
}

/// The digests that Drive states, in lower-case hexadecimal digits, and the size they are of.
#[derive(Debug, Clone, Default)]
pub(crate) struct Digests {
    pub(crate) size: u64,
    pub(crate) sha256: String,
    pub(crate) sha1: String,
    pub(crate) md5: String,
}

impl Digests {
    pub(crate) fn of(content: &[u8]) -> Self {
        use ring::digest::{SHA1_FOR_LEGACY_USE_ONLY, SHA256, digest};
        Self {
            size: content.len() as u64,
            sha256: hex(digest(&SHA256, content).as_ref()),
            sha1: hex(digest(&SHA1_FOR_LEGACY_USE_ONLY, content).as_ref()),
            md5: hex(&Md5::digest(content)),
        }
    }
}

pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// A file as a test sees it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct FileInfo {
    /// The id.
    pub id: String,
    /// The name; other files may have it too.
    pub name: String,
    /// The mime type.
    pub mime_type: String,
    /// The folder's id, if any.
    pub parents: Vec<String>,
    /// Bytes as Drive states them; 0 for folders.
    pub size: u64,
    /// The SHA-256 as Drive states it, in hexadecimal digits; empty for folders.
    pub sha256: String,
    /// The MD5 as Drive states it, in hexadecimal digits; empty for folders.
    pub md5: String,
    /// Whether it or a folder above it is in the trash.
    pub trashed: bool,
    /// Whether the narrow scope sees it.
    pub by_app: bool,
    /// Whether it is marked as malware.
    pub abusive: bool,
    /// The shared drive, if it lies on one.
    pub drive_id: Option<String>,
    /// The app's own properties.
    pub app_properties: BTreeMap<String, String>,
    /// The current content's id.
    pub head_revision_id: String,
    /// The number of its create, from 1.
    pub created: u64,
}

impl File {
    pub(crate) fn is_folder(&self) -> bool {
        self.mime_type == FOLDER
    }

    pub(crate) fn info(&self, trashed: bool) -> FileInfo {
        FileInfo {
            id: self.id.clone(),
            name: self.name.clone(),
            mime_type: self.mime_type.clone(),
            parents: self.parents.clone(),
            size: self.digests.size,
            sha256: self.digests.sha256.clone(),
            md5: self.digests.md5.clone(),
            trashed,
            by_app: self.by_app,
            abusive: self.abusive,
            drive_id: self.drive_id.clone(),
            app_properties: self.app_properties.clone(),
            head_revision_id: self.head_revision_id.clone(),
            created: self.created,
        }
    }

    /// All that Drive would say of it.
    pub(crate) fn json(&self, trashed: bool, may_delete: bool) -> Value {
        let mut value = json!({
            "kind": "drive#file",
            "id": self.id,
            "name": self.name,
            "mimeType": self.mime_type,
            "starred": false,
            "trashed": trashed,
            "explicitlyTrashed": self.trashed,
            "spaces": ["drive"],
            "version": self.version.to_string(),
            "createdTime": time(self.created_time),
            "modifiedTime": time(self.modified_time),
            "modifiedByMe": true,
            "modifiedByMeTime": time(self.modified_time),
            "viewedByMe": true,
            "shared": self.drive_id.is_some(),
            "isAppAuthorized": self.by_app,
            "writersCanShare": true,
            "copyRequiresWriterPermission": false,
            "viewersCanCopyContent": true,
            "quotaBytesUsed": self.digests.size.to_string(),
            "capabilities": {
                "canAddChildren": self.is_folder(),
                "canDelete": may_delete,
                "canDownload": !self.is_folder(),
                "canEdit": true,
                "canListChildren": self.is_folder(),
                "canModifyContent": true,
                "canRename": true,
                "canTrash": true,
                "canUntrash": true,
            },
        });
        if !self.parents.is_empty() {
            value["parents"] = json!(self.parents);
        }
        match &self.drive_id {
            Some(drive) => {
                value["driveId"] = drive.clone().into();
                value["teamDriveId"] = drive.clone().into();
            }
            None => {
                value["ownedByMe"] = true.into();
                value["owners"] = json!([user()]);
            }
        }
        if let Some(description) = &self.description {
            value["description"] = description.clone().into();
        }
        if !self.app_properties.is_empty() {
            value["appProperties"] = json!(self.app_properties);
        }
        if !self.properties.is_empty() {
            value["properties"] = json!(self.properties);
        }
        if !self.is_folder() {
            value["size"] = self.digests.size.to_string().into();
            value["sha256Checksum"] = self.digests.sha256.clone().into();
            value["sha1Checksum"] = self.digests.sha1.clone().into();
            value["md5Checksum"] = self.digests.md5.clone().into();
            value["headRevisionId"] = self.head_revision_id.clone().into();
            value["originalFilename"] = self.name.clone().into();
        }
        value
    }
}

/// The user to whom My Drive belongs.
pub(crate) fn user() -> Value {
    json!({
        "kind": "drive#user",
        "displayName": "Lifeboat Double",
        "me": true,
        "permissionId": "01234567890123456789",
        "emailAddress": "double@example.com",
    })
}

/// RFC 3339 with milliseconds, as Drive writes times.
pub(crate) fn time(time: DateTime<Utc>) -> String {
    time.to_rfc3339_opts(SecondsFormat::Millis, true)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn digests_are_those_of_the_standards() {
        let digests = Digests::of(b"abc");
        assert_eq!(digests.sha256, "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
        assert_eq!(digests.sha1, "a9993e364706816aba3e25717850c26c9cd0d89d");
        assert_eq!(digests.md5, "900150983cd24fb0d6963f7d28e17f72");
        assert_eq!(digests.size, 3);
    }
}
