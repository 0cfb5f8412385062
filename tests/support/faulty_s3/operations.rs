//! The S3 operations over the store in memory, and the faults that change what an operation does.

use std::sync::Arc;
use std::time::SystemTime;

use bytes::{Bytes, BytesMut};
use futures_util::StreamExt as _;
use parking_lot::Mutex;
use s3s::dto::{
    AbortMultipartUploadInput, AbortMultipartUploadOutput, ChecksumType, CompleteMultipartUploadInput,
    CompleteMultipartUploadOutput, CreateMultipartUploadInput, CreateMultipartUploadOutput,
    DeleteObjectInput, DeleteObjectOutput, DeleteObjectsInput, DeleteObjectsOutput, DeletedObject, ETag,
    ETagCondition, Error, GetObjectInput, GetObjectOutput, HeadBucketInput, HeadBucketOutput,
    HeadObjectInput, HeadObjectOutput, ListMultipartUploadsInput, ListMultipartUploadsOutput,
    ListObjectsV2Input, ListObjectsV2Output, PutObjectInput, PutObjectOutput, StreamingBlob, Timestamp,
    UploadPartInput, UploadPartOutput,
};
use s3s::{Body, S3, S3Error, S3ErrorCode, S3Request, S3Response, S3Result, s3_error};

use super::BUCKET;
use super::listing::{list, list_uploads};
use super::rule::Fault;
use super::store::{
    Checksums, Object, Part, Store, composite_md5, composite_sha256, md5_base64, md5_hex, sha256_base64,
};

/// The store as s3s calls it.
#[derive(Clone)]
pub struct Operations(pub Arc<Mutex<Store>>);

/// A fault that an operation is to carry out, in the request's extensions.
#[derive(Clone)]
pub struct Ordered(pub Fault);

fn ordered<T>(request: &S3Request<T>) -> Option<&Fault> {
    request.extensions.get::<Ordered>().map(|ordered| &ordered.0)
}

fn own_bucket(bucket: &str) -> S3Result<()> {
    if bucket == BUCKET {
        Ok(())
    } else {
        Err(s3_error!(NoSuchBucket, "The specified bucket does not exist"))
    }
}

/// A body that was compared with all that was said of it, as it is to be stored.
struct Received {
    bytes: Bytes,
    etag: String,
    sha256: Option<String>,
}

impl Operations {
    /// An object, if it is there and still of the version asked for.
    fn find(&self, key: &str, version: Option<&ETagCondition>) -> S3Result<Object> {
        let object = self.0.lock().objects.get(key).cloned();
        let object = object.ok_or_else(|| s3_error!(NoSuchKey, "The specified key does not exist."))?;
        match version.and_then(ETagCondition::as_etag) {
            Some(tag) if tag.value() != object.etag => Err(precondition_failed()),
            _ => Ok(object),
        }
    }

    /// Reads a body and compares it with the checksums given.
    async fn receive(
        &self,
        body: Option<StreamingBlob>,
        md5: Option<&str>,
        sha256: Option<String>,
    ) -> S3Result<Received> {
        let mut bytes = BytesMut::new();
        let mut body = body.ok_or_else(|| s3_error!(IncompleteBody))?;
        while let Some(piece) = body.next().await {
            bytes.extend_from_slice(&piece.map_err(|e| broken_body(&*e))?);
        }
        let bytes = bytes.freeze();
        if md5.is_some_and(|md5| md5 != md5_base64(&bytes)) {
            return Err(s3_error!(
                BadDigest,
                "The Content-MD5 you specified did not match what we received."
            ));
        }
        let checksums = self.0.lock().behaviour.checksums;
        let sha256 = sha256.filter(|_| checksums != Checksums::Ignored);
        if checksums == Checksums::Verified
            && sha256.as_ref().is_some_and(|sha256| *sha256 != sha256_base64(&bytes))
        {
            return Err(s3_error!(
                BadDigest,
                "The SHA256 you specified did not match the calculated checksum."
            ));
        }
        Ok(Received { etag: md5_hex(&bytes), bytes, sha256 })
    }
}

/// What is said of a body that did not come as announced.
fn broken_body(error: &(dyn std::error::Error + 'static)) -> S3Error {
    if !error.to_string().contains("Mismatch") {
        return s3_error!(
            IncompleteBody,
            "You did not provide the number of bytes specified by Content-Length"
        );
    }
    let message = "The provided 'x-amz-content-sha256' header does not match what was computed.";
    let mut refused = S3Error::with_message(S3ErrorCode::Custom("XAmzContentSHA256Mismatch".into()), message);
    refused.set_status_code(http::StatusCode::BAD_REQUEST);
    refused
}

fn precondition_failed() -> S3Error {
    s3_error!(PreconditionFailed, "At least one of the pre-conditions you specified did not hold")
}

fn composite_type(is_composite: bool) -> ChecksumType {
    ChecksumType::from_static(if is_composite { ChecksumType::COMPOSITE } else { ChecksumType::FULL_OBJECT })
}

/// `bytes` with a bit in the middle flipped.
pub fn flipped(bytes: &Bytes, at: usize) -> Bytes {
    let mut bytes = bytes.to_vec();
    if let Some(byte) = bytes.get_mut(at) {
        *byte ^= 1;
    }
    bytes.into()
}

#[async_trait::async_trait]
impl S3 for Operations {
    async fn head_bucket(
        &self,
        request: S3Request<HeadBucketInput>,
    ) -> S3Result<S3Response<HeadBucketOutput>> {
        own_bucket(&request.input.bucket)?;
        Ok(S3Response::new(HeadBucketOutput::default()))
    }

    async fn put_object(&self, request: S3Request<PutObjectInput>) -> S3Result<S3Response<PutObjectOutput>> {
        let fault = ordered(&request).cloned();
        let input = request.input;
        own_bucket(&input.bucket)?;
        let received = self.receive(input.body, input.content_md5.as_deref(), input.checksum_sha256).await?;
        let mut store = self.0.lock();
        let create_only =
            store.behaviour.conditional && matches!(input.if_none_match, Some(ETagCondition::Any));
        if create_only && store.objects.contains_key(&input.key) {
            return Err(precondition_failed());
        }
        let output = PutObjectOutput {
            e_tag: Some(ETag::Strong(match fault {
                Some(Fault::OtherTag) => "of-another-name".to_owned(),
                _ => received.etag.clone(),
            })),
            checksum_type: received.sha256.is_some().then(|| composite_type(false)),
            checksum_sha256: received.sha256.clone(),
            ..PutObjectOutput::default()
        };
        let bytes = match fault {
            Some(Fault::Lose) => return Ok(S3Response::new(output)),
            Some(Fault::StoreFlipped) => flipped(&received.bytes, received.bytes.len() / 2),
            _ => received.bytes,
        };
        let Received { etag, sha256, .. } = received;
        let object = Object { bytes, etag, sha256, is_composite: false, modified: SystemTime::now() };
        store.objects.insert(input.key, object);
        Ok(S3Response::new(output))
    }

    async fn get_object(&self, request: S3Request<GetObjectInput>) -> S3Result<S3Response<GetObjectOutput>> {
        let input = request.input;
        own_bucket(&input.bucket)?;
        let object = self.find(&input.key, input.if_match.as_ref())?;
        let len = object.bytes.len();
        let range = match input.range {
            None => None,
            Some(range) => Some(
                range
                    .check(len as u64)
                    .map_err(|_| s3_error!(InvalidRange, "The requested range is not satisfiable"))?,
            ),
        };
        // A checksum is one of the whole object, so it comes only with the whole.
        let states = range.is_none() && input.checksum_mode.is_some_and(|mode| mode.as_str() == "ENABLED");
        let sha256 = object.sha256.clone().filter(|_| states);
        let bytes = match &range {
            Some(range) => object.bytes.slice(range.start as usize..range.end as usize),
            None => object.bytes.clone(),
        };
        let output = GetObjectOutput {
            content_length: Some(bytes.len() as i64),
            content_range: range.map(|range| format!("bytes {}-{}/{len}", range.start, range.end - 1)),
            body: Some(StreamingBlob::from(Body::from(bytes))),
            e_tag: Some(ETag::Strong(object.etag)),
            checksum_type: sha256.is_some().then(|| composite_type(object.is_composite)),
            checksum_sha256: sha256,
            last_modified: Some(Timestamp::from(object.modified)),
            accept_ranges: Some("bytes".to_owned()),
            ..GetObjectOutput::default()
        };
        Ok(S3Response::new(output))
    }

    async fn head_object(
        &self,
        request: S3Request<HeadObjectInput>,
    ) -> S3Result<S3Response<HeadObjectOutput>> {
        let input = request.input;
        own_bucket(&input.bucket)?;
        let object = self.find(&input.key, input.if_match.as_ref())?;
        let sha256 =
            object.sha256.filter(|_| input.checksum_mode.is_some_and(|mode| mode.as_str() == "ENABLED"));
        let output = HeadObjectOutput {
            content_length: Some(object.bytes.len() as i64),
            e_tag: Some(ETag::Strong(object.etag)),
            checksum_type: sha256.is_some().then(|| composite_type(object.is_composite)),
            checksum_sha256: sha256,
            last_modified: Some(Timestamp::from(object.modified)),
            accept_ranges: Some("bytes".to_owned()),
            ..HeadObjectOutput::default()
        };
        Ok(S3Response::new(output))
    }

    async fn list_objects_v2(
        &self,
        request: S3Request<ListObjectsV2Input>,
    ) -> S3Result<S3Response<ListObjectsV2Output>> {
        own_bucket(&request.input.bucket)?;
        let fault = ordered(&request).cloned();
        let input = request.input;
        let output = list(&self.0.lock(), input, fault.as_ref())?;
        Ok(S3Response::new(output))
    }

    async fn delete_object(
        &self,
        request: S3Request<DeleteObjectInput>,
    ) -> S3Result<S3Response<DeleteObjectOutput>> {
        own_bucket(&request.input.bucket)?;
        if ordered(&request) != Some(&Fault::Lose) {
            self.0.lock().objects.remove(&request.input.key);
        }
        Ok(S3Response::new(DeleteObjectOutput::default()))
    }

    async fn delete_objects(
        &self,
        request: S3Request<DeleteObjectsInput>,
    ) -> S3Result<S3Response<DeleteObjectsOutput>> {
        own_bucket(&request.input.bucket)?;
        let names = || request.headers.keys().map(|name| name.as_str());
        // AWS takes no multi-delete without one, and so do most others.
        if !names().any(|name| name == "content-md5" || name.starts_with("x-amz-checksum-")) {
            return Err(s3_error!(InvalidRequest, "Missing required header for this request: Content-MD5"));
        }
        let fault = ordered(&request).cloned();
        let quiet = request.input.delete.quiet.unwrap_or(false);
        let (mut deleted, mut errors) = (Vec::new(), Vec::new());
        let mut store = self.0.lock();
        for object in request.input.delete.objects {
            let key = object.key;
            match &fault {
                Some(Fault::FailKeys(part, refusal)) if key.contains(part.as_str()) => errors.push(Error {
                    code: Some(refusal.code.clone()),
                    message: Some(refusal.message.clone()),
                    key: Some(key),
                    ..Error::default()
                }),
                _ => {
                    if fault != Some(Fault::Lose) {
                        store.objects.remove(&key);
                    }
                    deleted.push(DeletedObject { key: Some(key), ..DeletedObject::default() });
                }
            }
        }
        let output = DeleteObjectsOutput {
            deleted: (!quiet).then_some(deleted),
            errors: (!errors.is_empty()).then_some(errors),
            ..DeleteObjectsOutput::default()
        };
        Ok(S3Response::new(output))
    }

    async fn create_multipart_upload(
        &self,
        request: S3Request<CreateMultipartUploadInput>,
    ) -> S3Result<S3Response<CreateMultipartUploadOutput>> {
        let input = request.input;
        own_bucket(&input.bucket)?;
        let upload_id = self.0.lock().begin_upload(&input.key);
        let output = CreateMultipartUploadOutput {
            bucket: Some(input.bucket),
            key: Some(input.key),
            upload_id: Some(upload_id),
            checksum_algorithm: input.checksum_algorithm,
            checksum_type: input.checksum_type,
            ..CreateMultipartUploadOutput::default()
        };
        Ok(S3Response::new(output))
    }

    async fn upload_part(
        &self,
        request: S3Request<UploadPartInput>,
    ) -> S3Result<S3Response<UploadPartOutput>> {
        let fault = ordered(&request).cloned();
        let input = request.input;
        own_bucket(&input.bucket)?;
        if !(1..=10_000).contains(&input.part_number) {
            return Err(s3_error!(
                InvalidArgument,
                "Part number must be an integer between 1 and 10000, inclusive"
            ));
        }
        let received = self.receive(input.body, input.content_md5.as_deref(), input.checksum_sha256).await?;
        let output = UploadPartOutput {
            e_tag: Some(ETag::Strong(received.etag.clone())),
            checksum_sha256: received.sha256.clone(),
            ..UploadPartOutput::default()
        };
        let mut store = self.0.lock();
        let upload = store.uploads.get_mut(&input.upload_id).filter(|upload| upload.key == input.key);
        let upload = upload.ok_or_else(no_such_upload)?;
        let bytes = match fault {
            Some(Fault::Lose) => return Ok(S3Response::new(output)),
            Some(Fault::StoreFlipped) => flipped(&received.bytes, received.bytes.len() / 2),
            _ => received.bytes,
        };
        upload.parts.insert(input.part_number, Part { bytes, etag: received.etag, sha256: received.sha256 });
        Ok(S3Response::new(output))
    }

    async fn complete_multipart_upload(
        &self,
        request: S3Request<CompleteMultipartUploadInput>,
    ) -> S3Result<S3Response<CompleteMultipartUploadOutput>> {
        let fault = ordered(&request).cloned();
        let input = request.input;
        own_bucket(&input.bucket)?;
        let mut store = self.0.lock();
        let mut object = assemble(&store, &input)?;
        let create_only =
            store.behaviour.conditional && matches!(input.if_none_match, Some(ETagCondition::Any));
        if create_only && store.objects.contains_key(&input.key) {
            return Err(precondition_failed());
        }
        let output = CompleteMultipartUploadOutput {
            bucket: Some(input.bucket),
            key: Some(input.key.clone()),
            e_tag: Some(ETag::Strong(object.etag.clone())),
            checksum_type: object.sha256.is_some().then(|| composite_type(true)),
            checksum_sha256: object.sha256.clone(),
            ..CompleteMultipartUploadOutput::default()
        };
        if fault == Some(Fault::Lose) {
            return Ok(S3Response::new(output));
        }
        if fault == Some(Fault::StoreFlipped) {
            object.bytes = flipped(&object.bytes, object.bytes.len() / 2);
        }
        store.uploads.remove(&input.upload_id);
        store.objects.insert(input.key, object);
        Ok(S3Response::new(output))
    }

    async fn abort_multipart_upload(
        &self,
        request: S3Request<AbortMultipartUploadInput>,
    ) -> S3Result<S3Response<AbortMultipartUploadOutput>> {
        own_bucket(&request.input.bucket)?;
        if ordered(&request) != Some(&Fault::Lose) {
            let removed = self.0.lock().uploads.remove(&request.input.upload_id);
            removed.ok_or_else(no_such_upload)?;
        }
        Ok(S3Response::new(AbortMultipartUploadOutput::default()))
    }

    async fn list_multipart_uploads(
        &self,
        request: S3Request<ListMultipartUploadsInput>,
    ) -> S3Result<S3Response<ListMultipartUploadsOutput>> {
        own_bucket(&request.input.bucket)?;
        Ok(S3Response::new(list_uploads(&self.0.lock(), request.input)))
    }
}

fn no_such_upload() -> S3Error {
    s3_error!(
        NoSuchUpload,
        "The specified upload does not exist. The upload ID may be invalid, or the upload may have been aborted or completed."
    )
}

/// The object that the named parts make.
fn assemble(store: &Store, input: &CompleteMultipartUploadInput) -> S3Result<Object> {
    let upload = store.uploads.get(&input.upload_id).filter(|upload| upload.key == input.key);
    let upload = upload.ok_or_else(no_such_upload)?;
    let named = input.multipart_upload.as_ref().and_then(|named| named.parts.as_deref()).unwrap_or_default();
    if named.is_empty() {
        return Err(s3_error!(MalformedXML, "You must specify at least one part"));
    }
    let mut parts: Vec<&Part> = Vec::with_capacity(named.len());
    let mut before = 0;
    for part in named {
        let number = part.part_number.unwrap_or_default();
        if number <= before {
            return Err(s3_error!(InvalidPartOrder, "The list of parts was not in ascending order."));
        }
        before = number;
        let held = upload.parts.get(&number).ok_or_else(invalid_part)?;
        let is_same_tag = part.e_tag.as_ref().is_none_or(|tag| tag.value() == held.etag);
        let is_same_hash =
            part.checksum_sha256.as_ref().is_none_or(|sha256| held.sha256.as_ref() == Some(sha256));
        if !is_same_tag || !is_same_hash {
            return Err(invalid_part());
        }
        parts.push(held);
    }
    let whole = &parts[..parts.len() - 1];
    if whole.iter().any(|part| part.bytes.len() < store.behaviour.part_bytes_min) {
        return Err(s3_error!(
            EntityTooSmall,
            "Your proposed upload is smaller than the minimum allowed size"
        ));
    }
    let bytes = || parts.iter().map(|part| &part.bytes[..]);
    let is_hashed = parts.iter().all(|part| part.sha256.is_some());
    Ok(Object {
        bytes: bytes().collect::<Vec<_>>().concat().into(),
        etag: composite_md5(bytes()),
        sha256: is_hashed.then(|| composite_sha256(bytes())),
        is_composite: true,
        modified: SystemTime::now(),
    })
}

fn invalid_part() -> S3Error {
    s3_error!(
        InvalidPart,
        "One or more of the specified parts could not be found, or its entity tag did not match."
    )
}
