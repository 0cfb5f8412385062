//! Removing objects, one by one and by the thousand.

use std::collections::HashMap;

use aws_sdk_s3::types::{Delete, ObjectIdentifier};

use super::S3Provider;
use super::error::{kind_of, translate};
use crate::{Error, ErrorKind, Key, Result};

/// The most that one request may name.
const BATCH_MAX: usize = 1000;

impl S3Provider {
    pub(super) async fn delete_object(&self, key: &Key) -> Result<()> {
        let request = self.client.delete_object().bucket(&self.address.bucket).key(self.object(key));
        match request.send().await.map_err(|e| translate("delete", key, e)) {
            Err(e) if e.kind() != ErrorKind::NotFound => Err(e),
            _ => Ok(()),
        }
    }

    pub(super) async fn delete_objects(&self, keys: &[Key]) -> Vec<Result<()>> {
        let mut results = Vec::with_capacity(keys.len());
        for batch in keys.chunks(BATCH_MAX) {
            match self.delete_batch(batch).await {
                Ok(batch) => results.extend(batch),
                // A store without this request, or with its own idea of it.
                Err(e) if matches!(e.kind(), ErrorKind::Unsupported | ErrorKind::Other) => {
                    for key in batch {
                        results.push(self.delete_object(key).await);
                    }
                }
                Err(e) => results.extend(batch.iter().map(|key| {
                    let error = Error::new(e.kind(), "delete", key, e.reason());
                    Err(match e.retry_after() {
                        Some(delay) => error.with_retry_after(delay),
                        None => error,
                    })
                })),
            }
        }
        results
    }

    /// One request; the outer error is that of the whole request.
    async fn delete_batch(&self, keys: &[Key]) -> Result<Vec<Result<()>>> {
        let Some(first) = keys.first() else { return Ok(Vec::new()) };
        let malformed = |e: aws_sdk_s3::error::BuildError| Error::new(ErrorKind::Other, "delete", first, e);
        let mut delete = Delete::builder().quiet(true);
        for key in keys {
            delete =
                delete.objects(ObjectIdentifier::builder().key(self.object(key)).build().map_err(malformed)?);
        }
        let delete = delete.build().map_err(malformed)?;
        let answer = self.client.delete_objects().bucket(&self.address.bucket).delete(delete).send().await;
        let answer = answer.map_err(|e| translate("delete", first, e))?;
        // Quiet: only what failed is named.
        let mut failed: HashMap<String, Error> = HashMap::new();
        for error in answer.errors() {
            let Some(key) = error.key().and_then(|name| self.address.key(name)) else {
                return Err(Error::new(
                    ErrorKind::Other,
                    "delete",
                    first,
                    "the store names a foreign object",
                ));
            };
            let (code, message) = (error.code().unwrap_or_default(), error.message().unwrap_or_default());
            // Within a batch there is no status of the single object: its code has to say it.
            let kind = match kind_of(0, code, message) {
                ErrorKind::Other if code == "AccessDenied" => ErrorKind::Denied,
                kind => kind,
            };
            if kind != ErrorKind::NotFound {
                let why = format!("the store says {code}: {message}");
                failed.insert(key.to_string(), Error::new(kind, "delete", &key, why));
            }
        }
        Ok(keys.iter().map(|key| failed.remove(key.as_str()).map_or(Ok(()), Err)).collect())
    }
}
