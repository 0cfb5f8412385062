//! Request bodies without copies: the shared pieces of an object, one frame each, with the length known.

use std::marker::PhantomData;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use hyper::body::{Body as HttpBody, Frame, SizeHint};

use crate::Body;

/// A body as an HTTP client takes it; `E` is what that client calls errors, of which there are none.
pub struct RopeBody<E> {
    pieces: std::vec::IntoIter<Bytes>,
    left: u64,
    errors: PhantomData<fn() -> E>,
}

impl<E> From<&Body> for RopeBody<E> {
    fn from(body: &Body) -> Self {
        Self { pieces: body.pieces().to_vec().into_iter(), left: body.len(), errors: PhantomData }
    }
}

impl<E> HttpBody for RopeBody<E> {
    type Data = Bytes;
    type Error = E;

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
