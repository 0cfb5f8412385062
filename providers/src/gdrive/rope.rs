//! Request bodies without copies: the shared pieces of an object, or a part of them, with the length known.

use std::ops::Range;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use google_drive3::common;
use hyper::body::{Body as HttpBody, Frame, SizeHint};

use crate::Body;

/// The pieces of one request's body.
#[derive(Debug, Clone, Default)]
pub(super) struct Rope {
    pieces: Vec<Bytes>,
    len: u64,
}

impl Rope {
    /// One piece.
    pub(super) fn one(bytes: impl Into<Bytes>) -> Self {
        let mut rope = Self::default();
        rope.push(bytes.into());
        rope
    }

    /// The bytes `range` of an object, as far as it has them.
    pub(super) fn part(body: &Body, range: Range<u64>) -> Self {
        let mut rope = Self::default();
        let mut at = 0_u64;
        for piece in body.pieces() {
            let end = at.saturating_add(piece.len() as u64);
            let (from, to) = (range.start.clamp(at, end), range.end.clamp(at, end));
            if from < to {
                // Both lie within the piece, whose length is an usize.
                rope.push(piece.slice((from - at) as usize..(to - at) as usize));
            }
            at = end;
        }
        rope
    }

    pub(super) fn push(&mut self, piece: Bytes) {
        if !piece.is_empty() {
            self.len += piece.len() as u64;
            self.pieces.push(piece);
        }
    }

    /// Adds the pieces of another one.
    pub(super) fn append(&mut self, other: Self) {
        for piece in other.pieces {
            self.push(piece);
        }
    }

    /// Bytes in all.
    pub(super) const fn len(&self) -> u64 {
        self.len
    }

    /// As the hub's HTTP client takes it.
    pub(super) fn into_body(self) -> common::Body {
        common::Body::new(RopeBody { left: self.len, pieces: self.pieces.into_iter() })
    }
}

struct RopeBody {
    pieces: std::vec::IntoIter<Bytes>,
    left: u64,
}

impl HttpBody for RopeBody {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Self::Data>, Self::Error>>> {
        Poll::Ready(self.pieces.next().map(|piece| {
            self.left = self.left.saturating_sub(piece.len() as u64);
            Ok(Frame::data(piece))
        }))
    }

    fn is_end_stream(&self) -> bool {
        self.left == 0
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.left)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_part_of_an_object_is_cut_out_exactly() {
        let pieces: Vec<Bytes> = ["abc", "", "d", "efgh", "i"].map(Bytes::from).to_vec();
        let body = Body::new(pieces);
        let whole = "abcdefghi";
        for start in 0..=whole.len() {
            for end in start..=whole.len() {
                let rope = Rope::part(&body, start as u64..end as u64);
                assert_eq!(rope.len(), (end - start) as u64);
                assert_eq!(rope.pieces.concat(), &whole.as_bytes()[start..end]);
            }
        }
        assert_eq!(Rope::part(&body, 5..u64::MAX).pieces.concat(), b"fghi");
        assert_eq!(Rope::part(&body, 50..60).len(), 0);
    }
}
