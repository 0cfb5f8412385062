//! Bodies on the wire: reading a request as far as wanted, and answers that may break off.

use std::collections::VecDeque;
use std::fmt;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body_util::BodyExt;
use hyper::Response;
use hyper::body::{Body, Frame, Incoming, SizeHint};
use hyper::ext::ReasonPhrase;
use hyper::header::{CONTENT_LENGTH, CONTENT_TYPE, HeaderValue};

use crate::answer::{Answer, Content};

/// Capacity that is set aside for a body before it comes.
const CAPACITY_MAX: u64 = 64 << 20;

/// How often a body that breaks off lets the connection write first.
const TURNS_BEFORE_CUT: u32 = 8;

/// Pieces of a body that is handed over, in bytes.
const PIECE_BYTES: usize = 64 * 1024;

/// Tells the HTTP server to cut the connection.
#[derive(Debug)]
pub(crate) struct Cut;

impl fmt::Display for Cut {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the connection is cut on purpose")
    }
}

impl std::error::Error for Cut {}

/// How the reading of a body ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum End {
    Whole,
    /// As many bytes as wanted were read; there may be more.
    Limit,
    /// The client went away.
    Broken,
}

/// Reads at most `limit` bytes of a body.
pub(crate) async fn read(mut body: Incoming, limit: u64) -> (Vec<u8>, End) {
    let capacity = body.size_hint().lower().min(CAPACITY_MAX).min(limit);
    let mut bytes = Vec::with_capacity(usize::try_from(capacity).unwrap_or(0));
    let limit = usize::try_from(limit).unwrap_or(usize::MAX);
    loop {
        if bytes.len() >= limit {
            bytes.truncate(limit);
            return (bytes, End::Limit);
        }
        match body.frame().await {
            Some(Ok(frame)) => {
                if let Ok(data) = frame.into_data() {
                    bytes.extend_from_slice(&data);
                }
            }
            Some(Err(_)) => return (bytes, End::Broken),
            None => return (bytes, End::Whole),
        }
    }
}

/// The body of an answer.
#[derive(Debug)]
pub(crate) struct Payload {
    pieces: VecDeque<Bytes>,
    left: u64,
    /// Turns until the connection is cut, if it is to be cut.
    cut: Option<u32>,
}

impl Payload {
    /// All of `bytes`, or the first ones of them and then a cut.
    fn new(bytes: &Bytes, cut_after: Option<u64>) -> Self {
        let sent = match cut_after {
            Some(after) => bytes.slice(..usize::try_from(after).unwrap_or(usize::MAX).min(bytes.len())),
            None => bytes.clone(),
        };
        let pieces = (0..sent.len())
            .step_by(PIECE_BYTES)
            .map(|at| sent.slice(at..(at + PIECE_BYTES).min(sent.len())))
            .collect();
        Self { pieces, left: bytes.len() as u64, cut: cut_after.map(|_| TURNS_BEFORE_CUT) }
    }
}

impl Body for Payload {
    type Data = Bytes;
    type Error = Cut;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Cut>>> {
        if let Some(piece) = self.pieces.pop_front() {
            self.left -= piece.len() as u64;
            return Poll::Ready(Some(Ok(Frame::data(piece))));
        }
        match self.cut {
            None => Poll::Ready(None),
            Some(0) => Poll::Ready(Some(Err(Cut))),
            // While this waits, the server writes what it has: else the cut would overtake it.
            Some(turns) => {
                self.cut = Some(turns - 1);
                context.waker().wake_by_ref();
                Poll::Pending
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.pieces.is_empty() && self.cut.is_none()
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.left)
    }
}

/// What becomes of an answer's body.
#[derive(Debug, Default, Clone, Copy)]
pub(crate) struct Damage {
    /// The JSON ends in the middle.
    pub(crate) truncate_json: bool,
    /// The connection is cut after so many bytes.
    pub(crate) cut_after: Option<u64>,
}

/// An answer as HTTP, and the bytes of its body that are to be sent.
///
/// # Errors
/// [`Cut`] if the connection is to be cut in a body that is empty.
pub(crate) fn response(answer: Answer, damage: Damage) -> Result<(Response<Payload>, u64), Cut> {
    let (kind, mut bytes) = match answer.content {
        Content::Empty => (None, Bytes::new()),
        Content::Json(value) => (Some("application/json; charset=UTF-8"), Bytes::from(value.to_string())),
        Content::Text(text) => (Some("text/plain; charset=utf-8"), Bytes::from(text)),
        Content::Bytes(bytes) => (None, bytes),
    };
    if damage.truncate_json && kind.is_some_and(|kind| kind.starts_with("application/json")) {
        bytes.truncate(bytes.len() / 2);
    }
    if damage.cut_after.is_some() && bytes.is_empty() {
        return Err(Cut);
    }
    let sent = damage.cut_after.unwrap_or(u64::MAX).min(bytes.len() as u64);
    let mut response = Response::new(Payload::new(&bytes, damage.cut_after));
    // Statuses come from the double's own code and from faults: one that is none becomes 500.
    *response.status_mut() =
        hyper::StatusCode::from_u16(answer.status).unwrap_or(hyper::StatusCode::INTERNAL_SERVER_ERROR);
    if answer.status == 308 {
        response.extensions_mut().insert(ReasonPhrase::from_static(b"Resume Incomplete"));
    }
    let headers = response.headers_mut();
    if answer.status != 204 {
        headers.insert(CONTENT_LENGTH, HeaderValue::from(bytes.len()));
    }
    if let Some(kind) = kind {
        headers.insert(CONTENT_TYPE, HeaderValue::from_static(kind));
    }
    for (name, value) in answer.headers {
        if let Ok(value) = HeaderValue::from_str(&value) {
            headers.insert(name, value);
        }
    }
    Ok((response, sent))
}
