//! The calls of Drive v3 that are made, each as one function: what the generated client has by it (metadata,
//! listings, deletes), the rest by plain requests (see [`super::wire`]).

use bytes::Bytes;
use std::future::Future;
use std::time::SystemTime;

use google_drive3::common::{self, Delegate, Retry};
use google_drive3::{DriveHub, api};
use hyper::Method;
use hyper::header::CONTENT_TYPE;

use super::error::{Failure, Outcome, Refusal, retry_after, server_time};
use super::file::{self, Remote};
use super::wire::{AGENT, Outgoing, Wire};
use crate::http::Connector;
use crate::{ErrorKind, Usage};

/// The most that Drive gives.
const PAGE_ITEMS: i32 = 1000;

/// Longer than any of Drive's. The generated client panics over an URL of more than 64 KiB.
const PAGE_TOKEN_BYTES_MAX: usize = 8 << 10;

/// How many ids are fetched at once: the next hundred objects cost one request.
const IDS_AT_ONCE: i32 = 100;

/// Drive, for one account.
pub(super) struct Api {
    hub: DriveHub<Connector>,
    tokens: super::auth::Tokens,
    wire: Wire,
    /// Named at every call: the generated client's own choices are wrong.
    scope: &'static str,
}

/// One page of a listing.
pub(super) struct Page {
    pub(super) files: Vec<Remote>,
    /// Where the next one begins; `None` at the end.
    pub(super) next: Option<String>,
    /// Drive did not look everywhere.
    pub(super) is_incomplete: bool,
    /// The time by Drive's clock.
    pub(super) at: Option<SystemTime>,
}

/// What the generated client lets one see of a failure.
#[derive(Default)]
struct Watch(Option<Refusal>);

impl Delegate for Watch {
    fn http_failure(&mut self, response: &common::Response, error: Option<&serde_json::Value>) -> Retry {
        let delay = retry_after(response.headers());
        self.0 = Some(Refusal::of_json(response.status().as_u16(), delay, error));
        Retry::Abort
    }
}

impl Watch {
    fn outcome<T>(self, result: common::Result<T>) -> Outcome<T> {
        use common::Error as Cause;
        result.map_err(|error| match (self.0, error) {
            (Some(refusal), _) => Failure::Refused(refusal),
            (None, Cause::HttpError(error)) => Failure::transport(&error),
            (None, Cause::MissingToken(error)) => match error.downcast::<crate::Error>() {
                Ok(error) => Failure::from(*error),
                Err(error) => Failure::transport(&*error),
            },
            // The text itself may be long, and says nothing to anybody.
            (None, Cause::JsonDecodeError(_, error)) => {
                Failure::Broken(format!("the answer of Google Drive cannot be read: {error}"))
            }
            (None, Cause::Io(error)) => Failure::transport(&error),
            (None, other) => Failure::known(ErrorKind::Other, other),
        })
    }
}

impl Api {
    /// Over a client, at the service below `root`, an URL with a slash at its end.
    pub(super) fn new(
        client: super::wire::Client,
        tokens: super::auth::Tokens,
        scope: &'static str,
        root: &str,
    ) -> Self {
        let mut hub = DriveHub::new(client.clone(), tokens.clone());
        hub.user_agent(AGENT.to_owned());
        hub.base_url(format!("{root}drive/v3/"));
        hub.root_url(root.to_owned());
        let wire = Wire::new(client, tokens.clone(), root);
        Self { hub, tokens, wire, scope }
    }

    pub(super) const fn wire(&self) -> &Wire {
        &self.wire
    }

    /// Makes a call of the generated client; once more with a new token if that was refused.
    async fn call<T, F>(&self, call: impl Fn() -> F) -> Outcome<T>
    where
        F: Future<Output = Outcome<T>>,
    {
        let access = self.tokens.get().await?;
        match call().await {
            Err(failure) if failure.has_status(401) => {
                self.tokens.reject(access.generation).await;
                call().await
            }
            outcome => outcome,
        }
    }

    /// What Drive says of a file; one in the trash counts.
    pub(super) async fn get(&self, id: &str) -> Outcome<Remote> {
        let (_, file) = self
            .call(|| async {
                let mut watch = Watch::default();
                let call = self.hub.files().get(id).supports_all_drives(true).param("fields", file::FIELDS);
                let result = call.add_scope(self.scope).delegate(&mut watch).doit().await;
                watch.outcome(result)
            })
            .await?;
        Remote::new(file)
            .ok_or_else(|| Failure::Broken("Google Drive describes a file without an id".to_owned()))
    }

    /// As [`Self::get`], with `None` for what is not there or in the trash.
    pub(super) async fn find(&self, id: &str) -> Outcome<Option<Remote>> {
        match self.get(id).await {
            Ok(remote) => Ok((!remote.trashed).then_some(remote)),
            Err(failure) if failure.has_status(404) => Ok(None),
            Err(failure) => Err(failure),
        }
    }

    /// One page of the files that a query finds, the oldest first.
    pub(super) async fn list(&self, query: &str, drive: Option<&str>, page: Option<&str>) -> Outcome<Page> {
        let fields = format!("nextPageToken,incompleteSearch,files({})", file::FIELDS);
        let (response, list) = self
            .call(|| async {
                let mut watch = Watch::default();
                let mut call = self.hub.files().list().q(query).page_size(PAGE_ITEMS).order_by("createdTime");
                call = call.supports_all_drives(true).include_items_from_all_drives(true);
                call = match drive {
                    Some(drive) => call.corpora("drive").drive_id(drive),
                    None => call.corpora("user"),
                };
                if let Some(page) = page {
                    call = call.page_token(page);
                }
                call = call.param("fields", fields.as_str()).add_scope(self.scope).delegate(&mut watch);
                let result = call.doit().await;
                watch.outcome(result)
            })
            .await?;
        let next = list.next_page_token.filter(|token| !token.is_empty());
        if next.as_ref().is_some_and(|token| token.len() > PAGE_TOKEN_BYTES_MAX) {
            return Err(Failure::Broken(
                "Google Drive names a next page that cannot be asked for".to_owned(),
            ));
        }
        Ok(Page {
            files: list.files.unwrap_or_default().into_iter().filter_map(Remote::new).collect(),
            next,
            is_incomplete: list.incomplete_search.unwrap_or(false),
            at: server_time(response.headers()),
        })
    }

    /// All files that a query finds; for queries that find few.
    pub(super) async fn list_all(&self, query: &str, drive: Option<&str>) -> Outcome<Page> {
        let mut all = Page { files: Vec::new(), next: None, is_incomplete: false, at: None };
        loop {
            let page = self.list(query, drive, all.next.as_deref()).await?;
            if page.is_incomplete {
                return Err(incomplete());
            }
            all.files.extend(page.files);
            all.at = page.at.or(all.at);
            match page.next {
                None => {
                    all.next = None;
                    return Ok(all);
                }
                next if next == all.next => return Err(stands_still()),
                next => all.next = next,
            }
        }
    }

    /// Ids that files can be made under.
    pub(super) async fn generate_ids(&self) -> Outcome<Vec<String>> {
        let (_, generated) = self
            .call(|| async {
                let mut watch = Watch::default();
                let call =
                    self.hub.files().generate_ids().count(IDS_AT_ONCE).space("drive").param("fields", "ids");
                let result = call.add_scope(self.scope).delegate(&mut watch).doit().await;
                watch.outcome(result)
            })
            .await?;
        let ids = generated.ids.unwrap_or_default();
        Ok(ids.into_iter().filter(|id| file::is_id(id)).collect())
    }

    /// Removes a file for good; into the trash where the account may do no more. One that is not there is removed.
    pub(super) async fn remove(&self, id: &str) -> Outcome<()> {
        match self.delete(id).await {
            Ok(()) => Ok(()),
            Err(failure) if failure.has_status(404) => Ok(()),
            // On a shared drive only a manager may delete; a content manager may trash, which Drive empties after
            // 30 days.
            Err(failure) if failure.has_reason("insufficientFilePermissions") => match self.trash(id).await {
                Err(second) if second.has_status(404) => Ok(()),
                Err(second) if second.has_status(403) => Err(failure),
                result => result,
            },
            Err(failure) => Err(failure),
        }
    }

    async fn delete(&self, id: &str) -> Outcome<()> {
        self.call(|| async {
            let mut watch = Watch::default();
            let call = self.hub.files().delete(id).supports_all_drives(true).add_scope(self.scope);
            let result = call.delegate(&mut watch).doit().await;
            watch.outcome(result).map(drop)
        })
        .await
    }

    async fn trash(&self, id: &str) -> Outcome<()> {
        self.call(|| async {
            let mut watch = Watch::default();
            let change = api::File { trashed: Some(true), ..api::File::default() };
            let call = self.hub.files().update(change, id).supports_all_drives(true).param("fields", "id");
            let result = call.add_scope(self.scope).delegate(&mut watch).doit_without_upload().await;
            watch.outcome(result).map(drop)
        })
        .await
    }

    /// Makes a folder under an id chosen before.
    pub(super) async fn create_folder(&self, id: &str, name: &str, parent: &str) -> Outcome<Remote> {
        let metadata = serde_json::json!({
            "id": id, "name": name, "mimeType": file::FOLDER_TYPE, "parents": [parent],
        });
        let path = format!("drive/v3/files?supportsAllDrives=true&fields={}", file::FIELDS);
        let outgoing = Outgoing::new(Method::POST, self.wire.url(&path))
            .header(CONTENT_TYPE, "application/json; charset=UTF-8")
            .body(Bytes::from(metadata.to_string()));
        let file: api::File = self.wire.json(outgoing).await?;
        Remote::new(file)
            .ok_or_else(|| Failure::Broken("Google Drive made a folder without an id".to_owned()))
    }

    /// The account's storage. What is used counts for all of Google's services that share the limit.
    pub(super) async fn usage(&self) -> Outcome<Usage> {
        let (_, about) = self
            .call(|| async {
                let mut watch = Watch::default();
                let call = self.hub.about().get().param("fields", "storageQuota").add_scope(self.scope);
                let result = call.delegate(&mut watch).doit().await;
                watch.outcome(result)
            })
            .await?;
        let quota = about.storage_quota.unwrap_or_default();
        let bytes = |value: Option<i64>| value.and_then(|value| u64::try_from(value).ok());
        let (limit, used) = (bytes(quota.limit), bytes(quota.usage));
        let available = limit.map(|limit| limit.saturating_sub(used.unwrap_or_default()));
        // An account may hold more than its limit after it was lowered.
        let used = used.map(|used| limit.map_or(used, |limit| used.min(limit)));
        Ok(Usage { used_bytes: used, available_bytes: available, limit_bytes: limit })
    }
}

/// Drive did not look everywhere: nothing can be concluded from what it found.
pub(super) fn incomplete() -> Failure {
    Failure::Broken("Google Drive says that its search was incomplete".to_owned())
}

/// A page names itself as the next: what comes after it cannot be had, and may be what is looked for.
pub(super) fn stands_still() -> Failure {
    Failure::Broken("the listing does not get on: a page names itself as the next".to_owned())
}

/// A text within quotes of a query.
pub(super) fn quoted(text: &str) -> String {
    text.replace('\\', "\\\\").replace('\'', "\\'")
}

#[cfg(test)]
mod tests {
    use super::quoted;

    #[test]
    fn quotes_and_backslashes_stay_within_the_text() {
        assert_eq!(quoted(r"it's a \ sign"), r"it\'s a \\ sign");
        assert_eq!(quoted("packs/ab"), "packs/ab");
    }
}
