//! Pages of listings: of objects and of unfinished uploads.

use s3s::dto::{
    CommonPrefix, ETag, ListMultipartUploadsInput, ListMultipartUploadsOutput, ListObjectsV2Input,
    ListObjectsV2Output, MultipartUpload, Object, Timestamp,
};
use s3s::{S3Result, s3_error};

use super::rule::Fault;
use super::store::{Store, Upload, hex};

/// One page of a listing.
pub fn list(
    store: &Store,
    input: ListObjectsV2Input,
    fault: Option<&Fault>,
) -> S3Result<ListObjectsV2Output> {
    let prefix = input.prefix.clone().unwrap_or_default();
    let delimiter = input.delimiter.clone().unwrap_or_default();
    let asked = input.max_keys.and_then(|keys| usize::try_from(keys).ok()).unwrap_or(1000);
    let room = match fault {
        Some(Fault::EmptyPage) => 0,
        _ => asked.min(store.behaviour.page),
    };
    let begin = match &input.continuation_token {
        Some(token) => key_of(token)?,
        None => input.start_after.clone().unwrap_or_default(),
    };
    let is_encoded = input.encoding_type.as_ref().is_some_and(|encoding| encoding.as_str() == "url");
    let shown = |key: &str| if is_encoded { url_encoded(key) } else { key.to_owned() };
    let mut last = begin.clone();
    let (mut contents, mut folders, mut is_truncated) = (Vec::new(), Vec::<String>::new(), false);
    for (key, object) in store.objects.iter().filter(|(key, _)| key.starts_with(&prefix) && **key > begin) {
        let folder = (!delimiter.is_empty()).then(|| key[prefix.len()..].find(&delimiter)).flatten();
        let folder = folder.map(|at| &key[..prefix.len() + at + delimiter.len()]);
        if let Some(folder) = folder
            && (begin.starts_with(folder) || folders.last().is_some_and(|known| known == folder))
        {
            last.clone_from(key);
            continue;
        }
        if contents.len() + folders.len() == room {
            is_truncated = true;
            break;
        }
        last.clone_from(key);
        match folder {
            Some(folder) => folders.push(folder.to_owned()),
            None => contents.push(Object {
                key: Some(shown(key)),
                size: Some(object.bytes.len() as i64),
                e_tag: Some(ETag::Strong(object.etag.clone())),
                last_modified: Some(Timestamp::from(object.modified)),
                ..Object::default()
            }),
        }
    }
    let next = match fault {
        Some(Fault::RepeatPage) => Some(token_of(&begin)),
        Some(Fault::EndListing) => None,
        _ => is_truncated.then(|| token_of(&last)),
    };
    if fault == Some(&Fault::EndListing) {
        contents.truncate(contents.len() / 2);
    }
    let prefixes = |folder: &String| CommonPrefix { prefix: Some(shown(folder)) };
    Ok(ListObjectsV2Output {
        name: Some(input.bucket),
        prefix: Some(shown(&prefix)),
        max_keys: Some(asked as i32),
        key_count: Some((contents.len() + folders.len()) as i32),
        continuation_token: input.continuation_token,
        is_truncated: (fault != Some(&Fault::SayNothingOfMore)).then_some(next.is_some()),
        next_continuation_token: next,
        common_prefixes: (!folders.is_empty()).then(|| folders.iter().map(prefixes).collect()),
        contents: Some(contents),
        delimiter: input.delimiter,
        encoding_type: input.encoding_type,
        start_after: input.start_after,
        ..ListObjectsV2Output::default()
    })
}

/// One page of the unfinished uploads. Uploads of a key come in the order in which they were begun.
pub fn list_uploads(store: &Store, input: ListMultipartUploadsInput) -> ListMultipartUploadsOutput {
    let prefix = input.prefix.clone().unwrap_or_default();
    let marker = (input.key_marker.clone().unwrap_or_default(), input.upload_id_marker.clone());
    // A key marker alone passes over all uploads of that key.
    let is_after = |key: &str, id: &str| {
        key > marker.0.as_str()
            || key == marker.0 && marker.1.as_deref().is_some_and(|own| !own.is_empty() && id > own)
    };
    let mut found: Vec<_> =
        store.uploads.iter().map(|(id, upload)| (upload.key.as_str(), id.as_str(), upload)).collect();
    found.sort_by_key(|(key, id, _)| (*key, *id));
    found.retain(|(key, id, _)| key.starts_with(&prefix) && is_after(key, id));
    let asked = input.max_uploads.and_then(|uploads| usize::try_from(uploads).ok()).unwrap_or(1000);
    let room = asked.min(store.behaviour.page);
    let is_truncated = found.len() > room;
    found.truncate(room);
    let last =
        found.last().filter(|_| is_truncated).map(|(key, id, _)| ((*key).to_owned(), (*id).to_owned()));
    let upload = |(key, id, upload): &(&str, &str, &Upload)| MultipartUpload {
        key: Some((*key).to_owned()),
        upload_id: Some((*id).to_owned()),
        initiated: Some(Timestamp::from(upload.begun)),
        ..MultipartUpload::default()
    };
    ListMultipartUploadsOutput {
        uploads: Some(found.iter().map(upload).collect()),
        bucket: Some(input.bucket),
        prefix: input.prefix,
        key_marker: input.key_marker,
        upload_id_marker: input.upload_id_marker,
        is_truncated: Some(is_truncated),
        next_key_marker: last.as_ref().map(|(key, _)| key.clone()),
        next_upload_id_marker: last.map(|(_, id)| id),
        max_uploads: Some(asked as i32),
        ..ListMultipartUploadsOutput::default()
    }
}

/// Percent-encodes what `encoding-type=url` encodes.
fn url_encoded(key: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.~/".contains(&byte);
    key.bytes()
        .map(|byte| if plain(byte) { char::from(byte).to_string() } else { format!("%{byte:02X}") })
        .collect()
}

/// A continuation token: unlike any key, so that no client can do without it.
fn token_of(key: &str) -> String {
    format!("after-{}", hex(key.as_bytes()))
}

fn key_of(token: &str) -> S3Result<String> {
    let decode = |digits: &str| {
        let digit = |at: usize| u8::from_str_radix(digits.get(at..at + 2)?, 16).ok();
        let bytes: Option<Vec<u8>> = (0..digits.len()).step_by(2).map(digit).collect();
        String::from_utf8(bytes?).ok()
    };
    token
        .strip_prefix("after-")
        .and_then(decode)
        .ok_or_else(|| s3_error!(InvalidArgument, "The continuation token provided is incorrect"))
}
