//! `files.get`, its content, and `files.delete`.

use bytes::Bytes;

use crate::answer::{Answer, ApiError, Content, Outcome, message_of, no_file, refuse};
use crate::auth::Identity;
use crate::fields::{Mask, Schema};
use crate::file::File;
use crate::ranges::{Wanted, wanted};
use crate::request::Head;
use crate::state::{State, is_visible};

/// What comes back of a file without `fields`.
pub(crate) const DEFAULT_FIELDS: &str = "kind,id,name,mimeType,driveId,teamDriveId";

/// The file of the path, if whoever calls may see it.
pub(crate) fn find<'a>(state: &'a State, head: &Head, identity: &Identity) -> Outcome<&'a File> {
    let id = if head.id() == "root" { &state.store.root } else { head.id() };
    let all_drives = head.supports_all_drives()?;
    match state.store.get(id) {
        Some(file) if is_visible(file, identity, all_drives) => Ok(file),
        Some(file) => {
            let why = if file.by_app || identity.sees_all() {
                "it lies on a shared drive, and the call does not say supportsAllDrives=true"
            } else {
                "the app did not make it, and the token's scope is drive.file"
            };
            Err(Box::new((*no_file(id)).note(why)))
        }
        None => Err(no_file(id)),
    }
}

/// What `mask` wants of a file.
pub(crate) fn show(state: &State, file: &File, mask: &Mask) -> Answer {
    let may_delete = file.drive_id.is_none() || state.options.may_delete_on_shared_drive;
    Answer::json(mask.apply(file.json(state.store.is_trashed(file), may_delete)))
}

pub(crate) fn get(state: &State, head: &Head, identity: &Identity) -> Outcome {
    let mask = head.mask(Schema::File, DEFAULT_FIELDS)?;
    let file = find(state, head, identity)?;
    Ok(show(state, file, &mask))
}

pub(crate) fn media(state: &State, head: &Head, identity: &Identity) -> Outcome {
    let acknowledged = head.flag("acknowledgeAbuse")?;
    let file = find(state, head, identity)?;
    let Some(content) = &file.content else {
        let message = "Only files with binary content can be downloaded. Use Export with Docs Editors files.";
        return Err(refuse(403, "fileNotDownloadable", message));
    };
    if file.abusive && !acknowledged {
        return Err(refuse(403, "cannotDownloadAbusiveFile", message_of("cannotDownloadAbusiveFile")));
    }
    if acknowledged && !file.abusive {
        let message = "The acknowledgeAbuse parameter can only be set when downloading a file that has been identified as abusive.";
        return Err(refuse(403, "invalidAbuseAcknowledgment", message));
    }
    let size = content.len() as u64;
    let answer = match wanted(head.header("range"), size) {
        Wanted::Whole => Answer::new(200, Content::Bytes(content.clone())),
        Wanted::Part { first, last } => Answer::new(206, Content::Bytes(part(content, first, last)))
            .header("content-range", format!("bytes {first}-{last}/{size}")),
        Wanted::Unsatisfiable => {
            let error = ApiError {
                status: 416,
                reason: "requestedRangeNotSatisfiable",
                message: "Request range not satisfiable",
                location: Some(("header", "Range")),
            };
            return Err(error.answer().header("content-range", format!("bytes */{size}")).refused());
        }
    };
    Ok(answer.header("content-type", header_text(&file.mime_type)).header("accept-ranges", "bytes"))
}

fn part(content: &Bytes, first: u64, last: u64) -> Bytes {
    let end = usize::try_from(last).unwrap_or(usize::MAX).saturating_add(1).min(content.len());
    let begin = usize::try_from(first).unwrap_or(usize::MAX).min(end);
    content.slice(begin..end)
}

/// A client names the mime type: it may be no header.
fn header_text(mime_type: &str) -> String {
    if mime_type.bytes().all(|byte| (b' '..=b'~').contains(&byte)) {
        mime_type.to_owned()
    } else {
        "application/octet-stream".to_owned()
    }
}

pub(crate) fn delete(state: &mut State, head: &Head, identity: &Identity) -> Outcome {
    let file = find(state, head, identity)?;
    let is_root = [&state.store.root, &state.store.drive].contains(&&file.id);
    let may_delete = file.drive_id.is_none() || state.options.may_delete_on_shared_drive;
    if is_root || !may_delete {
        return Err(refuse(403, "insufficientFilePermissions", message_of("insufficientFilePermissions")));
    }
    let id = file.id.clone();
    state.store.remove(&id);
    Ok(Answer::new(204, Content::Empty))
}
