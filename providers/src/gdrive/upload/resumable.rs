//! A large object in chunks, through an upload session that outlives connections, and this process.
//!
//! The session's address is written down before the first byte is sent. Whoever puts the same bytes into the same
//! file later asks the session how much it holds, and goes on there. What it says (status 308, header `Range`) is all
//! that counts: Drive may take a part of a chunk, or nothing of it.

use bytes::Bytes;
use hyper::body::Incoming;
use hyper::header::{CONTENT_RANGE, HeaderName, LOCATION, RANGE};
use hyper::{Method, Response, StatusCode};

use super::{Sent, Target, json_type, sent};
use crate::Body;
use crate::gdrive::Drive;
use crate::gdrive::error::{Failure, Outcome};
use crate::gdrive::file::FILE_TYPE;
use crate::gdrive::state::Plan;
use crate::gdrive::wire::{Outgoing, refusal, require_success};

const UPLOAD_TYPE: HeaderName = HeaderName::from_static("x-upload-content-type");
const UPLOAD_LENGTH: HeaderName = HeaderName::from_static("x-upload-content-length");

/// What a session says.
enum Step {
    /// It holds so many bytes from the beginning.
    Holds(u64),
    /// It is complete, or the id is taken.
    Ended(Sent),
    /// It is not there any more.
    Lost,
}

impl Drive {
    /// Sends the bytes that an unfinished upload of them lacks, or all.
    pub(super) async fn send_in_chunks(
        &self,
        target: &Target<'_>,
        body: &Body,
        plan: &Plan,
    ) -> Outcome<Sent> {
        if let Some(url) = self.state.session(plan)? {
            let sent = match self.ask(&url, plan).await? {
                Step::Lost => None,
                // The answer may describe the file as it was when the upload ended.
                Step::Ended(_) => Some(match self.api.find(&plan.id).await? {
                    Some(remote) => Sent::Done(Box::new(remote)),
                    None => return self.over(plan, "the file was removed after its upload"),
                }),
                Step::Holds(held) => self.transfer(&url, body, plan, held).await?,
            };
            self.state.session_over(&plan.id)?;
            if let Some(sent) = sent {
                return Ok(sent);
            }
        }
        let outgoing = json_type(target.request(self, plan, "resumable"))
            .header(UPLOAD_TYPE, FILE_TYPE)
            .header(UPLOAD_LENGTH, plan.size)
            .body(Bytes::from(target.metadata(plan)));
        let response = self.api.wire().send(outgoing).await?;
        if response.status() == StatusCode::CONFLICT {
            return Ok(Sent::Taken);
        }
        let response = require_success(response).await?;
        let url = response.headers().get(LOCATION).and_then(|url| url.to_str().ok()).map(str::to_owned);
        let url =
            url.ok_or_else(|| Failure::Broken("Google Drive gave no address for the upload".to_owned()))?;
        self.state.session_began(plan, &url)?;
        match self.transfer(&url, body, plan, 0).await? {
            Some(sent) => {
                self.state.session_over(&plan.id)?;
                Ok(sent)
            }
            None => self.over(plan, "Google Drive dropped the upload; it begins anew"),
        }
    }

    fn over<T>(&self, plan: &Plan, reason: &str) -> Outcome<T> {
        self.state.session_over(&plan.id)?;
        Err(Failure::Broken(reason.to_owned()))
    }

    /// Sends chunk after chunk from `held` on; `None` if the session was lost.
    async fn transfer(&self, url: &str, body: &Body, plan: &Plan, mut held: u64) -> Outcome<Option<Sent>> {
        loop {
            let step = if held < plan.size {
                let end = held.saturating_add(self.chunk_bytes).min(plan.size);
                let outgoing = Outgoing::new(Method::PUT, url)
                    .header(CONTENT_RANGE, format_args!("bytes {held}-{}/{}", end - 1, plan.size))
                    .body(body.part(held..end));
                self.step(outgoing, plan).await?
            } else {
                self.ask(url, plan).await?
            };
            match step {
                Step::Ended(sent) => return Ok(Some(sent)),
                Step::Lost => return Ok(None),
                Step::Holds(now) if now > held => held = now,
                // The retry layer waits, then the session is asked again.
                Step::Holds(now) => {
                    return Err(Failure::Broken(format!(
                        "Google Drive took nothing of a chunk: it holds {now} of {} bytes",
                        plan.size
                    )));
                }
            }
        }
    }

    /// Asks the session how much it holds.
    async fn ask(&self, url: &str, plan: &Plan) -> Outcome<Step> {
        let range = format!("bytes */{}", plan.size);
        self.step(Outgoing::new(Method::PUT, url).header(CONTENT_RANGE, range), plan).await
    }

    async fn step(&self, outgoing: Outgoing, plan: &Plan) -> Outcome<Step> {
        let response = self.api.wire().send(outgoing).await?;
        match response.status() {
            StatusCode::PERMANENT_REDIRECT => Ok(Step::Holds(holds(&response, plan.size)?)),
            StatusCode::NOT_FOUND | StatusCode::GONE => Ok(Step::Lost),
            StatusCode::OK | StatusCode::CREATED | StatusCode::CONFLICT => {
                Ok(Step::Ended(sent(response).await?))
            }
            // Something is wrong with the session itself: not to be tried again.
            StatusCode::BAD_REQUEST | StatusCode::PRECONDITION_FAILED | StatusCode::PAYLOAD_TOO_LARGE => {
                let refusal = refusal(response).await;
                self.state.session_over(&plan.id)?;
                Err(Failure::Refused(refusal))
            }
            _ => Err(Failure::Refused(refusal(response).await)),
        }
    }
}

/// How many bytes a session holds, by the `Range` of its 308; none without one.
fn holds(response: &Response<Incoming>, size: u64) -> Outcome<u64> {
    match response.headers().get(RANGE) {
        None => Ok(0),
        Some(range) => {
            range.to_str().ok().and_then(|range| held_by(range, size)).ok_or_else(|| {
                Failure::Broken("Google Drive does not say clearly how much it holds".to_owned())
            })
        }
    }
}

/// `bytes=0-42` is 43 bytes.
fn held_by(range: &str, size: u64) -> Option<u64> {
    let range = range.trim();
    let last = range.strip_prefix("bytes=").unwrap_or(range).strip_prefix("0-")?;
    // A sign would also be parsed.
    let last: u64 = last.bytes().all(|c| c.is_ascii_digit()).then(|| last.parse().ok())??;
    last.checked_add(1).filter(|held| *held <= size)
}

#[cfg(test)]
mod tests {
    use super::held_by;

    #[test]
    fn only_a_clear_answer_counts() {
        assert_eq!(held_by("bytes=0-42", 100), Some(43));
        assert_eq!(held_by("bytes=0-99", 100), Some(100));
        assert_eq!(held_by("0-0", 100), Some(1));
        for bad in [
            "bytes=0-100",
            "bytes=1-42",
            "bytes 0-42",
            "bytes=0-",
            "bytes=0-x",
            "bytes=0-+4",
            "",
            "-",
            "bytes=0-18446744073709551615",
            "bytes=0-99999999999999999999999",
        ] {
            assert_eq!(held_by(bad, 100), None, "{bad:?}");
        }
    }
}
