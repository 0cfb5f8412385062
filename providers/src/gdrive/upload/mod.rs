//! `put`: what is there already, a new file or new content of one that is there, and the proof.
//!
//! A new file is made under an id that was chosen and written down before. Whatever becomes of the call (no answer,
//! an error after it took effect, the end of this process), the next put of the key asks for that id first, and a
//! second create under it is refused (409): there is never a second file by this machine's doing.
//!
//! An object that is replaced keeps its file: Drive gives it new content at the end of the upload, all at once, and a
//! reader gets the old content or the new one by the id it knows. A new file in place of the old one would have to be
//! found first, by a listing that lags; for that time there would be no object. What this costs: the old content
//! stays among the file's versions until Drive drops it (30 days), and if the new content arrives damaged the old is
//! gone from where programs find it.

mod multipart;
mod resumable;

use hyper::Method;
use hyper::header::CONTENT_TYPE;
use serde_json::json;

use super::Drive;
use super::error::{Failure, Outcome};
use super::file::{self, Content, FILE_TYPE, MARKER, Remote};
use super::folders::area;
use super::state::{Entry, Plan};
use super::wire::Outgoing;
use crate::{Body, ErrorKind, Key, Proof, PutMode, Receipt, Sha256};

/// Up to here one request is enough; Drive takes no more in one.
const SINGLE_BYTES_MAX: u64 = 5 << 20;

/// Beyond this a digest is computed off the threads that serve requests.
const INLINE_HASH_BYTES_MAX: u64 = 256 << 10;

/// Where an upload goes.
enum Target<'a> {
    /// A new file in a folder.
    New { key: &'a Key, folder: &'a str },
    /// A file that is there.
    Content,
}

/// What came of an upload.
enum Sent {
    /// The file as Drive then describes it.
    Done(Box<Remote>),
    /// There is a file of this id.
    Taken,
}

/// What is there before a put.
enum Before {
    /// Nothing; perhaps a create that was begun.
    Nothing(Option<Plan>),
    /// The very bytes, by an earlier put of ours that did not learn of its success.
    Ours(Remote),
    /// An object.
    There(Remote),
}

/// Whether Drive holds what was sent.
enum Verdict {
    Proved(Proof),
    /// It holds something else: the file as it is now.
    Differs(Box<Remote>),
}

impl Target<'_> {
    fn request(&self, drive: &Drive, plan: &Plan, upload_type: &str) -> Outgoing {
        let (method, path) = match self {
            Self::New { .. } => (Method::POST, String::new()),
            Self::Content => (Method::PATCH, format!("/{}", plan.id)),
        };
        let path = format!(
            "upload/drive/v3/files{path}?uploadType={upload_type}&supportsAllDrives=true&fields={}",
            file::FIELDS
        );
        Outgoing::new(method, drive.api.wire().url(&path))
    }

    fn metadata(&self, plan: &Plan) -> String {
        let properties = json!({ MARKER: plan.sha256.to_string() });
        let metadata = match self {
            Self::New { key, folder } => json!({
                "id": plan.id,
                "name": key.as_str(),
                "parents": [folder],
                "mimeType": FILE_TYPE,
                "appProperties": properties,
            }),
            Self::Content => json!({ "appProperties": properties }),
        };
        metadata.to_string()
    }
}

impl Drive {
    /// Stores the bytes and proves that they are.
    pub(super) async fn store(
        &self,
        key: &Key,
        body: &Body,
        sha256: Sha256,
        mode: PutMode,
    ) -> Outcome<Receipt> {
        if digest(body).await? != sha256 {
            return Err(Failure::known(
                ErrorKind::Corrupt,
                "the bytes handed over do not have the digest handed over; nothing was sent",
            ));
        }
        let _alone = self.locks.lock(key).await;
        let size = body.len();
        match self.before(key, size, sha256, mode).await? {
            Before::Nothing(begun) => {
                let id = match begun {
                    Some(begun) => begun.id,
                    None => self.ids.take(&self.api).await?,
                };
                self.create(key, body, &Plan { id, size, sha256 }).await
            }
            Before::Ours(remote) => {
                let plan = Plan { id: remote.id.clone(), size, sha256 };
                match self.judge(remote, &plan).await? {
                    Verdict::Proved(proof) => self.finish(key, &plan, proof),
                    Verdict::Differs(_) => Err(Failure::Broken("the object changed meanwhile".to_owned())),
                }
            }
            Before::There(_) if mode == PutMode::CreateNew => {
                Err(Failure::known(ErrorKind::Exists, "the object is there already"))
            }
            Before::There(remote) => self.update(key, body, &Plan { id: remote.id, size, sha256 }).await,
        }
    }

    async fn before(&self, key: &Key, size: u64, sha256: Sha256, mode: PutMode) -> Outcome<Before> {
        let mut begun = None;
        match self.state.entry(key)? {
            Some(Entry::Stored(id)) => match self.api.find(&id).await? {
                Some(remote) if remote.is_object(key) => return Ok(Before::There(remote)),
                _ => self.state.forget(key, &id)?,
            },
            Some(Entry::Planned(plan)) => match self.api.find(&plan.id).await? {
                Some(remote) if remote.is_object(key) && remote.content() != Content::Damaged => {
                    let is_ours = plan.sha256 == sha256 && plan.size == size;
                    return Ok(if is_ours { Before::Ours(remote) } else { Before::There(remote) });
                }
                // An upload of ours that arrived damaged, or was renamed by somebody: not an object.
                Some(remote) => {
                    if remote.content() == Content::Damaged {
                        self.api.remove(&remote.id).await?;
                        self.state.removed(key, &remote.id)?;
                    }
                    self.state.forget(key, &remote.id)?;
                }
                None => begun = Some(plan),
            },
            None => {}
        }
        let (files, now) = self.look_up(key).await?;
        if mode == PutMode::CreateNew {
            self.remove_copies(&files, sha256, now).await?;
        }
        Ok(match files.into_iter().next() {
            Some(remote) => Before::There(remote),
            None => Before::Nothing(begun),
        })
    }

    async fn create(&self, key: &Key, body: &Body, plan: &Plan) -> Outcome<Receipt> {
        let folder = self.folders.for_writing(area(key), &self.api, &self.state, &self.ids).await?;
        self.state.planned(key, plan)?;
        let sent = match self.send(&Target::New { key, folder: &folder }, body, plan).await {
            Err(failure) if failure.has_status(404) => {
                self.folder_missing(area(key), &folder).await?;
                return Err(Failure::Broken(
                    "the folder it belongs into was removed, and is made anew".to_owned(),
                ));
            }
            result => result?,
        };
        let (remote, was_taken) = match sent {
            Sent::Done(remote) => (*remote, false),
            Sent::Taken => match self.api.find(&plan.id).await? {
                Some(remote) => (remote, true),
                None => {
                    self.state.forget(key, &plan.id)?;
                    return Err(Failure::Broken("the file was removed while it was made".to_owned()));
                }
            },
        };
        match self.judge(remote, plan).await? {
            Verdict::Proved(proof) => self.finish(key, plan, proof),
            Verdict::Differs(remote) if was_taken && remote.content() == Content::Proved => {
                // An earlier put of other bytes came true after all.
                self.state.stored(key, &plan.id)?;
                Err(Failure::Broken("an earlier put of other bytes took effect meanwhile".to_owned()))
            }
            Verdict::Differs(remote) => {
                let removed = self.api.remove(&plan.id).await;
                let outcome = if removed.is_ok() { "they were removed" } else { "they could not be removed" };
                self.state.removed(key, &plan.id)?;
                Err(differs(&remote, plan, outcome))
            }
        }
    }

    async fn update(&self, key: &Key, body: &Body, plan: &Plan) -> Outcome<Receipt> {
        let sent = match self.send(&Target::Content, body, plan).await {
            Err(failure) if failure.has_status(404) => {
                self.state.forget(key, &plan.id)?;
                return Err(Failure::Broken("the object was removed meanwhile".to_owned()));
            }
            result => result?,
        };
        let Sent::Done(remote) = sent else {
            return Err(Failure::Broken("Google Drive takes a change for a create".to_owned()));
        };
        match self.judge(*remote, plan).await? {
            Verdict::Proved(proof) => self.finish(key, plan, proof),
            Verdict::Differs(remote) if remote.marker != Some(plan.sha256) => {
                Err(Failure::Broken("another writer replaced the object at the same moment".to_owned()))
            }
            // Removing it could remove what another writer puts there at this moment.
            Verdict::Differs(remote) => {
                Err(differs(&remote, plan, "they stay until the object is put again"))
            }
        }
    }

    async fn send(&self, target: &Target<'_>, body: &Body, plan: &Plan) -> Outcome<Sent> {
        if plan.size <= SINGLE_BYTES_MAX {
            self.send_at_once(target, body, plan).await
        } else {
            self.send_in_chunks(target, body, plan).await
        }
    }

    /// Whether Drive holds exactly the bytes. What speaks against it is asked for again: an answer may be wrong, or
    /// older than the file.
    async fn judge(&self, remote: Remote, plan: &Plan) -> Outcome<Verdict> {
        let is_right = |remote: &Remote| remote.sha256 == Some(plan.sha256) && remote.size == Some(plan.size);
        if is_right(&remote) {
            return Ok(Verdict::Proved(Proof::Server));
        }
        let Some(remote) = self.api.find(&plan.id).await? else {
            return Err(Failure::Broken("the file was removed meanwhile".to_owned()));
        };
        if is_right(&remote) {
            return Ok(Verdict::Proved(Proof::Server));
        }
        if remote.sha256.is_none() && remote.size == Some(plan.size) {
            // Drive also has an MD5, but that proves nothing against somebody who wants two files to have the same.
            let stored = self.fetch(&plan.id, None).await?;
            if digest(&Body::from(stored)).await? == plan.sha256 {
                return Ok(Verdict::Proved(Proof::ReadBack));
            }
        }
        Ok(Verdict::Differs(Box::new(remote)))
    }

    fn finish(&self, key: &Key, plan: &Plan, proof: Proof) -> Outcome<Receipt> {
        self.state.stored(key, &plan.id)?;
        Ok(Receipt { size: plan.size, sha256: plan.sha256, proof, version: Some(plan.id.clone()) })
    }
}

fn differs(remote: &Remote, plan: &Plan, outcome: &str) -> Failure {
    let found = match (remote.sha256, remote.size) {
        (Some(found), _) if found != plan.sha256 => format!("SHA-256 {found}, not {}", plan.sha256),
        (_, Some(size)) if size != plan.size => format!("{size} bytes, not {}", plan.size),
        _ => "another SHA-256 when read back".to_owned(),
    };
    Failure::known(ErrorKind::Corrupt, format_args!("the stored bytes have {found}; {outcome}"))
}

/// The digest of the body, off the serving threads if it takes long.
async fn digest(body: &Body) -> Outcome<Sha256> {
    if body.len() <= INLINE_HASH_BYTES_MAX {
        return Ok(body.sha256());
    }
    let body = body.clone();
    let hashing = tokio::task::spawn_blocking(move || body.sha256());
    hashing.await.map_err(|_| Failure::Broken("hashing was stopped".to_owned()))
}

/// The answer of a request that ends an upload.
async fn sent(response: hyper::Response<hyper::body::Incoming>) -> Outcome<Sent> {
    if response.status() == hyper::StatusCode::CONFLICT {
        return Ok(Sent::Taken);
    }
    let response = super::wire::require_success(response).await?;
    let file: google_drive3::api::File = super::wire::decode(response).await?;
    let remote = Remote::new(file);
    remote
        .map(|remote| Sent::Done(Box::new(remote)))
        .ok_or_else(|| Failure::Broken("Google Drive describes a file without an id".to_owned()))
}

/// A request's header for JSON.
fn json_type(outgoing: Outgoing) -> Outgoing {
    outgoing.header(CONTENT_TYPE, "application/json; charset=UTF-8")
}
