//! Pages of a listing. A page that fails is asked for again when the stream is polled again.

use std::collections::VecDeque;
use std::time::SystemTime;

use aws_sdk_s3::types::Object;
use futures_util::StreamExt as _;
use futures_util::stream::{self, BoxStream};

use super::S3Provider;
use super::error::translate;
use crate::{Error, ErrorKind, ObjectInfo, Prefix, Result};

/// Where a listing is.
struct Pages<'a> {
    provider: &'a S3Provider,
    prefix: Prefix,
    ready: VecDeque<ObjectInfo>,
    next: Next,
    /// Empty pages that led to themselves, one after the other.
    standing_still: usize,
}

/// So often an empty page may lead to itself: a store that looks for the next object may take its time.
const STANDING_STILL_MAX: usize = 20;

enum Next {
    First,
    Page(String),
    Done,
}

impl S3Provider {
    pub(super) fn list_objects(&self, prefix: &Prefix) -> BoxStream<'_, Result<ObjectInfo>> {
        let pages = Pages {
            provider: self,
            prefix: prefix.clone(),
            ready: VecDeque::new(),
            next: Next::First,
            standing_still: 0,
        };
        stream::unfold(pages, |mut pages| async move {
            let info = pages.next().await?;
            Some((info, pages))
        })
        .boxed()
    }
}

impl Pages<'_> {
    async fn next(&mut self) -> Option<Result<ObjectInfo>> {
        loop {
            if let Some(info) = self.ready.pop_front() {
                return Some(Ok(info));
            }
            let token = match &self.next {
                Next::Done => return None,
                Next::First => None,
                Next::Page(token) => Some(token.clone()),
            };
            if let Err(error) = self.fetch(token).await {
                if !error.kind().is_retryable() {
                    self.next = Next::Done;
                    return Some(Err(error));
                }
                // `next` still names this page.
                return Some(Err(error.resumable()));
            }
        }
    }

    async fn fetch(&mut self, token: Option<String>) -> Result<()> {
        let address = &self.provider.address;
        let folder = match (address.prefix.as_str(), self.prefix.as_str()) {
            ("", "") => String::new(),
            ("", inner) => format!("{inner}/"),
            (outer, "") => format!("{outer}/"),
            (outer, inner) => format!("{outer}/{inner}/"),
        };
        let request = self.provider.client.list_objects_v2().bucket(&address.bucket).prefix(folder);
        let answer = request.set_continuation_token(token.clone()).send().await;
        let answer = answer.map_err(|e| translate("list", &self.prefix, e))?;
        let malformed = |why: &str| Error::new(ErrorKind::Other, "list", &self.prefix, why);
        let next = answer.next_continuation_token().filter(|next| !next.is_empty());
        self.next = match (answer.is_truncated(), next) {
            (Some(true), None) => {
                return Err(malformed("the store says that there is more, and not how to get it"));
            }
            // The end is said, and what would come next is what was just had.
            (Some(false), next) if next == token.as_deref() => Next::Done,
            // Asking for the same page for ever would look like a very long listing.
            (_, Some(next)) if Some(next) == token.as_deref() => {
                self.standing_still += 1;
                if !answer.contents().is_empty() || self.standing_still > STANDING_STILL_MAX {
                    return Err(malformed("the store repeats a page of the listing"));
                }
                return Ok(());
            }
            // Who says how to go on has more, whatever else is said or left out: a listing cut short would look like objects that are gone.
            (_, Some(next)) => Next::Page(next.to_owned()),
            (_, None) => Next::Done,
        };
        self.ready.extend(answer.contents().iter().filter_map(|object| describe(self.provider, object)));
        Ok(())
    }
}

/// What the listing says of one of our objects; `None` for a foreign one.
fn describe(provider: &S3Provider, object: &Object) -> Option<ObjectInfo> {
    let key = provider.address.key(object.key()?)?;
    let size = u64::try_from(object.size()?).ok()?;
    let modified = object.last_modified().and_then(|time| SystemTime::try_from(*time).ok());
    Some(ObjectInfo { key, size, sha256: None, modified })
}
