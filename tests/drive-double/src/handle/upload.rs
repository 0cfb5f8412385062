//! `files.create` and `files.update` with and without content, in one request and in several.

use bytes::Bytes;

use super::Context;
use super::files::{DEFAULT_FIELDS, find, show};
use crate::answer::{Answer, Content, Outcome, bad_parameter, message_of, refuse};
use crate::auth::Identity;
use crate::fault::{Call, Fault, Plan};
use crate::fields::{Mask, Schema};
use crate::metadata::Metadata;
use crate::multipart;
use crate::request::Head;
use crate::sessions::{Keep, Progress, QUANTUM, Session};
use crate::state::{State, is_visible};

/// What one request carries.
struct Carried {
    metadata: Metadata,
    content_type: Option<String>,
    /// `None` if it is about metadata only.
    content: Option<Bytes>,
}

fn carried(context: &Context<'_>) -> Outcome<Carried> {
    let head = context.head;
    let content_type = head.header("content-type").map(str::to_owned);
    if !head.is_upload {
        let metadata = Metadata::parse(&context.body)?;
        return Ok(Carried { metadata, content_type: None, content: None });
    }
    match head.get("uploadType") {
        Some("media") => {
            Ok(Carried { metadata: Metadata::default(), content_type, content: Some(context.body.clone()) })
        }
        Some("multipart") => {
            let broken = |reason: String| {
                Box::new((*refuse(400, "badContent", "Malformed multipart body.")).note(reason))
            };
            let boundary = content_type
                .as_deref()
                .and_then(multipart::boundary)
                .ok_or_else(|| broken("no multipart/related with a boundary".to_owned()))?;
            let parts = multipart::parts(&context.body, &boundary).map_err(broken)?;
            let Ok([metadata, content]) = <[multipart::Part; 2]>::try_from(parts) else {
                return Err(broken("not two parts".to_owned()));
            };
            Ok(Carried {
                metadata: Metadata::parse(&metadata.content)?,
                content_type: content.content_type,
                content: Some(content.content),
            })
        }
        _ => Err(bad_parameter("uploadType", "invalid", "Invalid Value")),
    }
}

/// Refuses a create that cannot be; gives its folder.
fn check_create(
    state: &State,
    metadata: &Metadata,
    identity: &Identity,
    all_drives: bool,
    bytes: u64,
) -> Outcome<String> {
    if let Some(id) = &metadata.id {
        state.store.check_id(id)?;
    }
    let parent = state.store.check_parent(metadata, |folder| is_visible(folder, identity, all_drives))?;
    state.store.check_limits(&state.options, identity.owner, &parent, true, bytes, 0)?;
    Ok(parent)
}

/// Refuses new content that cannot be.
fn check_content(state: &State, id: &str, identity: &Identity, bytes: u64) -> Outcome<()> {
    let Some(file) = state.store.get(id) else { return Err(crate::answer::no_file(id)) };
    if file.is_folder() {
        return Err(refuse(403, "fileNotDownloadable", "A folder has no content."));
    }
    let parent = file.parents.first().map_or("", String::as_str);
    state.store.check_limits(&state.options, identity.owner, parent, false, bytes, file.digests.size)
}

pub(crate) fn create(state: &mut State, context: &Context<'_>, identity: &Identity) -> Outcome {
    let mask = context.head.mask(Schema::File, DEFAULT_FIELDS)?;
    let Carried { metadata, content_type, content } = carried(context)?;
    let content = stored(content.unwrap_or_default(), context.plan);
    let all_drives = context.head.supports_all_drives()?;
    let parent = check_create(state, &metadata, identity, all_drives, content.len() as u64)?;
    let State { store, random, .. } = state;
    let id = store.create(metadata, parent, content_type, content, random);
    shown(state, &id, &mask)
}

pub(crate) fn update(state: &mut State, context: &Context<'_>, identity: &Identity) -> Outcome {
    let head = context.head;
    let mask = head.mask(Schema::File, DEFAULT_FIELDS)?;
    let id = find(state, head, identity)?.id.clone();
    let Carried { metadata, content, .. } = carried(context)?;
    let parent = check_update(state, head, identity, &id, &metadata)?;
    if let Some(content) = &content {
        check_content(state, &id, identity, content.len() as u64)?;
    }
    state.store.update(&id, metadata, parent);
    if let Some(content) = content {
        let State { store, random, .. } = state;
        store.replace_content(&id, stored(content, context.plan), random);
    }
    shown(state, &id, &mask)
}

/// Refuses changes that cannot be; gives the folder into which the file moves.
fn check_update(
    state: &State,
    head: &Head,
    identity: &Identity,
    id: &str,
    metadata: &Metadata,
) -> Outcome<Option<String>> {
    if metadata.parents.is_some() {
        let message = "The parents field is not directly writable in update requests. Use the addParents and removeParents parameters instead.";
        return Err(refuse(403, "fieldNotWritable", message));
    }
    if metadata.id.as_deref().is_some_and(|new| new != id) {
        let message = "The resource body includes fields which are not directly writable.";
        return Err(refuse(403, "fieldNotWritable", message));
    }
    let Some(file) = state.store.get(id) else { return Err(crate::answer::no_file(id)) };
    if [&state.store.root, &state.store.drive].contains(&&file.id) {
        return Err(refuse(403, "insufficientFilePermissions", message_of("insufficientFilePermissions")));
    }
    let Some(added) = head.get("addParents").filter(|added| !added.is_empty()) else { return Ok(None) };
    let wanted = Metadata { parents: Some(vec![added.to_owned()]), ..Metadata::default() };
    let all_drives = head.supports_all_drives()?;
    let parent = state.store.check_parent(&wanted, |folder| is_visible(folder, identity, all_drives))?;
    let removed: Vec<&str> = head.get("removeParents").unwrap_or_default().split(',').collect();
    if !file.parents.iter().all(|old| removed.contains(&old.as_str())) {
        let message = "Increasing the number of parents is not allowed";
        return Err(refuse(403, "cannotAddParent", message));
    }
    let drive = state.store.get(&parent).and_then(|folder| folder.drive_id.clone());
    if drive != file.drive_id || parent == id {
        return Err(Box::new(
            (*refuse(403, "insufficientFilePermissions", message_of("insufficientFilePermissions")))
                .note("the double moves within a drive only"),
        ));
    }
    Ok(Some(parent))
}

/// Starts a resumable upload.
pub(crate) fn start(state: &mut State, context: &Context<'_>, identity: &Identity) -> Outcome {
    let head = context.head;
    let fields = head.mask(Schema::File, DEFAULT_FIELDS)?;
    let total = match head.header("x-upload-content-length") {
        None => None,
        // An empty file cannot be uploaded this way.
        Some(length) => {
            Some(length.trim().parse::<u64>().ok().filter(|length| *length > 0).ok_or_else(|| {
                refuse(400, "badRequest", "Invalid value for header X-Upload-Content-Length")
            })?)
        }
    };
    let metadata = Metadata::parse(&context.body)?;
    let updates = if head.segments.len() > 1 {
        let id = find(state, head, identity)?.id.clone();
        check_update(state, head, identity, &id, &metadata)?;
        check_content(state, &id, identity, total.unwrap_or(0))?;
        Some(id)
    } else {
        let all_drives = head.supports_all_drives()?;
        check_create(state, &metadata, identity, all_drives, total.unwrap_or(0))?;
        None
    };
    let session = Session {
        identity: identity.clone(),
        updates,
        metadata,
        content_type: head.header("x-upload-content-type").map(str::to_owned),
        fields,
        total,
        received: Vec::new(),
        done: None,
    };
    let upload_id = format!("ABgVH8-double-{}", state.random.text(60));
    let location = location(head, &upload_id);
    state.sessions.insert(upload_id.clone(), session);
    Ok(Answer::new(200, Content::Empty)
        .header("location", location)
        .header("x-guploader-uploadid", upload_id))
}

/// The session's address at the host that the client used, which may be a proxy before the double.
fn location(head: &Head, upload_id: &str) -> String {
    let host = head.header("host").unwrap_or("127.0.0.1");
    let mut query = form_urlencoded::Serializer::new(String::new());
    query.extend_pairs(head.query.iter().filter(|(key, _)| key != "upload_id"));
    query.append_pair("upload_id", upload_id);
    format!("http://{host}{}?{}", head.path, query.finish())
}

/// A `PUT` to a session, and its `DELETE`.
pub(crate) fn put(state: &mut State, context: &Context<'_>) -> Outcome {
    let head = context.head;
    // The address itself is what lets the client in; but a token that is sent has to be valid.
    state.auth.identify(head.header("authorization"))?;
    state.check_rate()?;
    let upload_id = head.get("upload_id").unwrap_or_default();
    let refuse_unaligned = state.options.refuse_unaligned_chunks;
    let Some(session) = state.sessions.get_mut(upload_id) else {
        return Err(refuse(404, "notFound", "Not Found"));
    };
    if head.method == hyper::Method::DELETE {
        state.sessions.remove(upload_id);
        return Ok(Answer::new(499, Content::Empty));
    }
    if let Some(answer) = &session.done {
        return Ok(answer.clone());
    }
    let keep = context.plan.find(|fault| match fault {
        Fault::TakeNone if head.call == Call::UploadChunk => Some(0),
        // A part that reaches the end would be no part.
        Fault::TakePart { bytes } if head.call == Call::UploadChunk => {
            Some((*bytes).min((context.body.len() as u64).saturating_sub(1) / QUANTUM * QUANTUM))
        }
        _ => None,
    });
    let keep = keep.map_or(Keep::All, Keep::Part);
    match session.put(head.header("content-range"), &context.body, keep, refuse_unaligned)? {
        Progress::Incomplete => Ok(session.incomplete()),
        Progress::Complete => {
            let finished = finish(state, upload_id, context.plan);
            if finished.is_err() {
                state.sessions.remove(upload_id);
            }
            finished
        }
    }
}

/// Makes a file of a complete session. What could be checked at its start is checked again: time has passed.
fn finish(state: &mut State, upload_id: &str, plan: &Plan) -> Outcome {
    let Some(session) = state.sessions.get_mut(upload_id) else {
        return Err(refuse(404, "notFound", "Not Found"));
    };
    let content = stored(Bytes::from(std::mem::take(&mut session.received)), plan);
    let (identity, fields) = (session.identity.clone(), session.fields.clone());
    let (metadata, content_type) = (session.metadata.clone(), session.content_type.clone());
    let id = match session.updates.clone() {
        Some(id) => {
            check_content(state, &id, &identity, content.len() as u64)?;
            let State { store, random, .. } = state;
            store.update(&id, metadata, None);
            store.replace_content(&id, content, random);
            id
        }
        None => {
            let parent = check_create(state, &metadata, &identity, true, content.len() as u64)?;
            let State { store, random, .. } = state;
            store.create(metadata, parent, content_type, content, random)
        }
    };
    let answer = shown(state, &id, &fields)?;
    if let Some(session) = state.sessions.get_mut(upload_id) {
        session.done = Some(answer.clone());
    }
    Ok(answer)
}

fn shown(state: &State, id: &str, mask: &Mask) -> Outcome {
    match state.store.get(id) {
        Some(file) => Ok(show(state, file, mask)),
        None => Err(crate::answer::no_file(id)),
    }
}

/// The bytes as they are stored.
fn stored(content: Bytes, plan: &Plan) -> Bytes {
    if plan.has(&Fault::CorruptUpload) { flipped(&content) } else { content }
}

/// A copy with one bit of its middle byte flipped.
pub(crate) fn flipped(content: &Bytes) -> Bytes {
    let mut copy = content.to_vec();
    let middle = copy.len() / 2;
    if let Some(byte) = copy.get_mut(middle) {
        *byte ^= 1;
    }
    copy.into()
}
