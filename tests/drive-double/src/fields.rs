//! The parameter `fields`: which parts of an answer are wanted. A partial answer holds what was asked for and
//! nothing else, also not its digests.

use std::collections::BTreeMap;

use serde_json::Value;

/// How deep parentheses and slashes may nest; the real schema needs four.
const DEPTH_MAX: usize = 16;

/// A parsed mask.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Mask {
    /// `*`, or a name without a selection below it.
    All,
    Some(BTreeMap<String, Mask>),
}

/// The kinds of answer, each with the fields that exist in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Schema {
    About,
    File,
    FileList,
    GeneratedIds,
    Drive,
    DriveList,
}

const ABOUT: &[&str] = &[
    "kind",
    "storageQuota",
    "user",
    "maxUploadSize",
    "importFormats",
    "exportFormats",
    "maxImportSizes",
    "appInstalled",
    "folderColorPalette",
    "driveThemes",
    "canCreateDrives",
    "canCreateTeamDrives",
    "teamDriveThemes",
];

const FILE: &[&str] = &[
    "kind",
    "id",
    "name",
    "mimeType",
    "description",
    "starred",
    "trashed",
    "explicitlyTrashed",
    "trashingUser",
    "trashedTime",
    "parents",
    "properties",
    "appProperties",
    "spaces",
    "version",
    "webContentLink",
    "webViewLink",
    "iconLink",
    "hasThumbnail",
    "thumbnailLink",
    "thumbnailVersion",
    "viewedByMe",
    "viewedByMeTime",
    "createdTime",
    "modifiedTime",
    "modifiedByMeTime",
    "modifiedByMe",
    "sharedWithMeTime",
    "sharingUser",
    "owners",
    "teamDriveId",
    "driveId",
    "lastModifyingUser",
    "shared",
    "ownedByMe",
    "capabilities",
    "viewersCanCopyContent",
    "copyRequiresWriterPermission",
    "writersCanShare",
    "permissions",
    "permissionIds",
    "hasAugmentedPermissions",
    "folderColorRgb",
    "originalFilename",
    "fullFileExtension",
    "fileExtension",
    "md5Checksum",
    "sha1Checksum",
    "sha256Checksum",
    "size",
    "quotaBytesUsed",
    "headRevisionId",
    "contentHints",
    "imageMediaMetadata",
    "videoMediaMetadata",
    "isAppAuthorized",
    "shortcutDetails",
    "contentRestrictions",
    "labelInfo",
    "linkShareMetadata",
    "resourceKey",
    "exportLinks",
    "inheritedPermissionsDisabled",
    "downloadRestrictions",
];

const DRIVE: &[&str] = &["kind", "id", "name", "createdTime", "capabilities", "restrictions", "hidden"];

impl Schema {
    fn has(self, name: &str) -> bool {
        match self {
            Self::About => ABOUT.contains(&name),
            Self::File => FILE.contains(&name),
            Self::FileList => ["kind", "nextPageToken", "incompleteSearch", "files"].contains(&name),
            Self::GeneratedIds => ["kind", "space", "ids"].contains(&name),
            Self::Drive => DRIVE.contains(&name),
            Self::DriveList => ["kind", "nextPageToken", "drives"].contains(&name),
        }
    }

    fn below(self, name: &str) -> Option<Self> {
        match (self, name) {
            (Self::FileList, "files") => Some(Self::File),
            (Self::DriveList, "drives") => Some(Self::Drive),
            _ => None,
        }
    }
}

impl Mask {
    /// Reads a mask and checks its names.
    ///
    /// # Errors
    /// The part that does not exist or could not be read.
    pub(crate) fn parse(text: &str, schema: Schema) -> Result<Self, String> {
        let mut parser = Parser { rest: text };
        let mask = parser.list(0)?;
        if !parser.rest.is_empty() {
            return Err(parser.rest.to_owned());
        }
        mask.check(Some(schema))?;
        Ok(mask)
    }

    fn check(&self, schema: Option<Schema>) -> Result<(), String> {
        let (Self::Some(names), Some(schema)) = (self, schema) else { return Ok(()) };
        for (name, below) in names {
            if !schema.has(name) {
                return Err(name.clone());
            }
            below.check(schema.below(name))?;
        }
        Ok(())
    }

    /// The part of `value` that was asked for. Arrays are gone through.
    pub(crate) fn apply(&self, value: Value) -> Value {
        match (self, value) {
            (Self::Some(names), Value::Object(object)) => Value::Object(
                object
                    .into_iter()
                    .filter_map(|(key, value)| names.get(&key).map(|mask| (key, mask.apply(value))))
                    .collect(),
            ),
            (mask @ Self::Some(_), Value::Array(items)) => {
                Value::Array(items.into_iter().map(|item| mask.apply(item)).collect())
            }
            (_, value) => value,
        }
    }

    fn merge(self, other: Self) -> Self {
        match (self, other) {
            (Self::Some(mut names), Self::Some(more)) => {
                for (name, mask) in more {
                    let merged = match names.remove(&name) {
                        Some(before) => before.merge(mask),
                        None => mask,
                    };
                    names.insert(name, merged);
                }
                Self::Some(names)
            }
            _ => Self::All,
        }
    }
}

struct Parser<'a> {
    rest: &'a str,
}

impl Parser<'_> {
    fn list(&mut self, depth: usize) -> Result<Mask, String> {
        let mut mask = self.path(depth)?;
        while self.take(',') {
            mask = mask.merge(self.path(depth)?);
        }
        Ok(mask)
    }

    fn path(&mut self, depth: usize) -> Result<Mask, String> {
        if depth > DEPTH_MAX {
            return Err(self.rest.to_owned());
        }
        self.rest = self.rest.trim_start();
        if self.take('*') {
            return Ok(Mask::All);
        }
        let end = self.rest.find(|c: char| !c.is_ascii_alphanumeric() && c != '_').unwrap_or(self.rest.len());
        let (name, rest) = self.rest.split_at(end);
        if name.is_empty() {
            return Err(self.rest.to_owned());
        }
        let name = name.to_owned();
        self.rest = rest.trim_start();
        let below = if self.take('/') || self.take('.') {
            self.path(depth + 1)?
        } else if self.take('(') {
            let below = self.list(depth + 1)?;
            if !self.take(')') {
                return Err(self.rest.to_owned());
            }
            below
        } else {
            Mask::All
        };
        Ok(Mask::Some(BTreeMap::from([(name, below)])))
    }

    fn take(&mut self, sign: char) -> bool {
        self.rest = self.rest.trim_start();
        match self.rest.strip_prefix(sign) {
            Some(rest) => {
                self.rest = rest;
                true
            }
            None => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn page() -> Value {
        json!({"kind": "drive#fileList", "nextPageToken": "n", "files": [
            {"id": "1", "name": "a", "size": "3", "capabilities": {"canEdit": true, "canCopy": true}},
            {"id": "2", "name": "b"}
        ]})
    }

    fn apply(mask: &str) -> Value {
        Mask::parse(mask, Schema::FileList).unwrap().apply(page())
    }

    #[test]
    fn only_what_was_asked_for_comes_back() {
        assert_eq!(apply("files(id)"), json!({"files": [{"id": "1"}, {"id": "2"}]}));
        assert_eq!(apply("files/id"), apply("files(id)"));
        assert_eq!(apply("files.id,files/name"), apply("files(id, name)"));
        assert_eq!(
            apply("nextPageToken,files(id,size)"),
            json!({"nextPageToken": "n", "files": [{"id": "1", "size": "3"}, {"id": "2"}]})
        );
        assert_eq!(apply("*"), page());
        assert_eq!(apply("files"), json!({"files": page()["files"]}));
        assert_eq!(
            apply("files(capabilities/canEdit)"),
            json!({"files": [{"capabilities": {"canEdit": true}}, {}]})
        );
        // A name alone asks for all below it, also when a part of it is asked for beside.
        assert_eq!(apply("files,files(id)"), apply("files"));
    }

    #[test]
    fn unknown_names_and_broken_masks_are_refused() {
        let deep = "files(".repeat(1000);
        for mask in [
            "",
            "files(",
            "files(id",
            "files)",
            "files(sha256)",
            "id",
            ",",
            "files,",
            "files()",
            "a b",
            &deep,
        ] {
            assert!(Mask::parse(mask, Schema::FileList).is_err(), "{mask} was understood");
        }
        assert!(Mask::parse("id,sha256Checksum,md5Checksum,size,headRevisionId", Schema::File).is_ok());
    }
}
