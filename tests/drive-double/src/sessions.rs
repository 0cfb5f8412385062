//! Resumable uploads: how many bytes of a chunk are kept, and what is said of it.

use std::collections::HashMap;

use crate::answer::{Answer, Content, Outcome};
use crate::auth::Identity;
use crate::fields::Mask;
use crate::metadata::Metadata;
use crate::ranges::{ContentRange, content_range};

/// Chunks are multiples of this, but the last.
pub(crate) const QUANTUM: u64 = 256 * 1024;

/// An upload that has begun.
#[derive(Debug)]
pub(crate) struct Session {
    pub(crate) identity: Identity,
    /// The file whose content is replaced; `None` for a new file.
    pub(crate) updates: Option<String>,
    pub(crate) metadata: Metadata,
    pub(crate) content_type: Option<String>,
    pub(crate) fields: Mask,
    pub(crate) total: Option<u64>,
    pub(crate) received: Vec<u8>,
    /// The last answer, when the upload is complete: asked again, Drive gives it again.
    pub(crate) done: Option<Answer>,
}

/// The sessions by their upload ids.
pub(crate) type Sessions = HashMap<String, Session>;

/// How much of a chunk is kept by order of a fault, from its begin.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Keep {
    All,
    Part(u64),
}

/// What a request to a session did.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Progress {
    /// More is to come.
    Incomplete,
    /// All bytes are here.
    Complete,
}

impl Session {
    fn len(&self) -> u64 {
        self.received.len() as u64
    }

    /// Takes the bytes of a `PUT`, or answers how many there are.
    ///
    /// # Errors
    /// 400 for headers that contradict each other or what was said before; 503 for a gap, as Google's upload
    /// servers say it.
    pub(crate) fn put(
        &mut self,
        header: Option<&str>,
        body: &[u8],
        keep: Keep,
        refuse_unaligned: bool,
    ) -> Outcome<Progress> {
        let range = self.range(header, body)?;
        let Some((first, last)) = range.bytes else { return self.status(range.total, body) };
        let (len, total) = (body.len() as u64, range.total.or(self.total));
        if last - first + 1 != len {
            return Err(text(
                400,
                format!(
                    "Invalid request.  There were {len} byte(s) in the request body.  There should have been {} byte(s) (starting at offset {first} and ending at offset {last}) according to the Content-Range header.",
                    last - first + 1
                ),
            ));
        }
        if first > self.len() {
            return Err(text(
                503,
                format!(
                    "Invalid request.  According to the Content-Range header, the upload offset is {first} byte(s), which exceeds already uploaded size of {} byte(s).",
                    self.len()
                ),
            ));
        }
        let is_last = total == Some(last + 1);
        let mut kept = len;
        if !is_last && len % QUANTUM != 0 {
            if refuse_unaligned || len < QUANTUM {
                return Err(text(
                    400,
                    format!(
                        "Invalid request.  The number of bytes uploaded is required to be equal or greater than {QUANTUM}, except for the final request (it's recommended to be the exact multiple of {QUANTUM}).  The received request contained {len} bytes, which does not meet this requirement."
                    ),
                ));
            }
            kept = whole_quanta(len);
        }
        if let Keep::Part(part) = keep {
            kept = kept.min(whole_quanta(part));
        }
        self.total = total;
        self.append(first, &body[..usize::try_from(kept).unwrap_or(body.len()).min(body.len())]);
        Ok(self.progress())
    }

    /// Keeps what arrived of a chunk whose connection broke.
    pub(crate) fn keep_part(&mut self, header: Option<&str>, body: &[u8]) {
        let first = match header.map(content_range) {
            Some(Some(ContentRange { bytes: Some((first, _)), .. })) => first,
            None => 0,
            Some(_) => return,
        };
        if self.done.is_none() && first <= self.len() {
            let whole = body.len() - body.len() % QUANTUM as usize;
            self.append(first, &body[..whole]);
        }
    }

    /// 308, with what was received so far.
    pub(crate) fn incomplete(&self) -> Answer {
        let answer = Answer::new(308, Content::Empty);
        match self.len().checked_sub(1) {
            Some(last) => answer.header("range", format!("bytes=0-{last}")),
            None => answer,
        }
    }

    fn range(&self, header: Option<&str>, body: &[u8]) -> Outcome<ContentRange> {
        let broken = || text(400, "Failed to parse Content-Range header.".to_owned());
        let range = match header {
            // All of it in one request; an empty upload cannot be told from a header that was forgotten.
            None => {
                let last = (body.len() as u64).checked_sub(1).ok_or_else(broken)?;
                ContentRange { bytes: Some((0, last)), total: Some(last + 1) }
            }
            Some(header) => content_range(header).ok_or_else(broken)?,
        };
        let beyond = range.bytes.zip(self.total).is_some_and(|((_, last), total)| last >= total);
        if range.total == Some(0)
            || beyond
            || range.total.zip(self.total).is_some_and(|(new, old)| new != old)
        {
            return Err(broken());
        }
        Ok(range)
    }

    fn status(&mut self, total: Option<u64>, body: &[u8]) -> Outcome<Progress> {
        if !body.is_empty() {
            return Err(text(400, "Failed to parse Content-Range header.".to_owned()));
        }
        if total == Some(self.len()) {
            self.total = total;
        }
        Ok(self.progress())
    }

    fn append(&mut self, first: u64, bytes: &[u8]) {
        // Bytes that are here already are not taken a second time.
        let here = usize::try_from(self.len() - first).unwrap_or(usize::MAX).min(bytes.len());
        self.received.extend_from_slice(&bytes[here..]);
    }

    fn progress(&self) -> Progress {
        if self.total == Some(self.len()) { Progress::Complete } else { Progress::Incomplete }
    }
}

const fn whole_quanta(bytes: u64) -> u64 {
    bytes - bytes % QUANTUM
}

/// The upload servers say errors in plain text.
fn text(status: u16, message: String) -> Box<Answer> {
    Answer::new(status, Content::Text(message)).refused()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::Owner;

    const Q: usize = QUANTUM as usize;

    fn session(total: Option<u64>) -> Session {
        Session {
            identity: Identity { owner: Owner::User, scopes: Vec::new() },
            updates: None,
            metadata: Metadata::default(),
            content_type: None,
            fields: Mask::All,
            total,
            received: Vec::new(),
            done: None,
        }
    }

    fn put(session: &mut Session, range: &str, body: &[u8]) -> Result<Progress, u16> {
        session.put(Some(range), body, Keep::All, true).map_err(|answer| answer.status)
    }

    fn range_of(session: &Session) -> Option<String> {
        let answer = session.incomplete();
        assert_eq!(answer.status, 308);
        answer.headers.first().map(|(_, value)| value.clone())
    }

    #[test]
    fn chunks_follow_each_other() {
        let mut session = session(None);
        assert_eq!(range_of(&session), None);
        let body: Vec<u8> = (0..Q + 10).map(|at| (at % 251) as u8).collect();
        let total = body.len();
        assert_eq!(
            put(&mut session, &format!("bytes 0-{}/{total}", Q - 1), &body[..Q]),
            Ok(Progress::Incomplete)
        );
        assert_eq!(range_of(&session), Some(format!("bytes=0-{}", Q - 1)));
        assert_eq!(put(&mut session, &format!("bytes */{total}"), b""), Ok(Progress::Incomplete));
        // Of a chunk that is sent again only the rest counts.
        assert_eq!(
            put(&mut session, &format!("bytes 0-{}/{total}", total - 1), &body),
            Ok(Progress::Complete)
        );
        assert_eq!(session.received, body);
    }

    #[test]
    fn what_contradicts_is_refused() {
        let long = vec![0; Q];
        assert_eq!(put(&mut session(None), "bytes 0-4/10", b"01234"), Err(400));
        assert_eq!(put(&mut session(None), &format!("bytes 1-{Q}/*"), &long), Err(503));
        assert_eq!(put(&mut session(None), "bytes 0-9/10", b"01234"), Err(400));
        assert_eq!(put(&mut session(Some(11)), "bytes 0-9/10", b"0123456789"), Err(400));
        assert_eq!(put(&mut session(Some(5)), "bytes 0-9/*", b"0123456789"), Err(400));
        assert_eq!(put(&mut session(None), "bytes */10", b"x"), Err(400));
        assert_eq!(put(&mut session(None), "bytes */0", b""), Err(400));
        assert_eq!(put(&mut session(None), "nonsense", b"x"), Err(400));
        assert!(session(None).put(None, b"", Keep::All, true).is_err());
        assert_eq!(session(None).put(None, b"all", Keep::All, true).unwrap(), Progress::Complete);
    }

    #[test]
    fn only_whole_quanta_are_kept_of_a_part() {
        let body = vec![7; 3 * Q];
        let mut one = session(Some(10 * QUANTUM));
        let range = format!("bytes 0-{}/*", 3 * Q - 1);
        assert!(one.put(Some(&range), &body, Keep::Part(2 * QUANTUM + 5), true).is_ok());
        assert_eq!(one.received.len(), 2 * Q);
        assert!(one.put(Some(&range), &body, Keep::Part(0), true).is_ok());
        assert_eq!(one.received.len(), 2 * Q);
        let mut two = session(Some(10 * QUANTUM));
        two.keep_part(Some(&range), &body[..Q + 1]);
        assert_eq!(two.received.len(), Q);
        two.keep_part(Some("bytes 999999999-9999999999/*"), &body);
        assert_eq!(two.received.len(), Q);
        let mut three = session(None);
        assert!(three.put(Some(&format!("bytes 0-{}/*", Q)), &vec![0; Q + 1], Keep::All, false).is_ok());
        assert_eq!(three.received.len(), Q);
    }

    #[test]
    fn a_total_that_comes_last_completes() {
        let mut session = session(None);
        let body = vec![1; Q];
        assert_eq!(put(&mut session, &format!("bytes 0-{}/*", Q - 1), &body), Ok(Progress::Incomplete));
        assert_eq!(put(&mut session, &format!("bytes */{Q}"), b""), Ok(Progress::Complete));
    }
}
