//! A connection that keeps a destination's pace: reads and writes are cut to what may be moved now, and counted.
//!
//! A turn is good for so many bytes, in one read or write or in several, and each byte is charged after it was moved. A
//! connection on which nothing happens is therefore charged nothing and keeps nobody waiting, and one that is dropped leaves
//! nothing behind.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Instant, Sleep, sleep_until};

use super::{Direction, Pace, Turn};

/// `T` at a destination's pace.
#[derive(Debug)]
pub struct PacedIo<T> {
    inner: T,
    member: Member,
    reading: Side,
    writing: Side,
}

/// One of the streams that keep a pace; counted while it lives.
#[derive(Debug)]
struct Member(Pace);

/// Where a stream stands in one direction.
#[derive(Debug, Default)]
struct Side {
    place: Option<u64>,
    /// Bytes left of the turn.
    left: usize,
    /// Kept for the next wait: making one costs an allocation.
    timer: Option<Pin<Box<Sleep>>>,
    is_waiting: bool,
}

impl<T> PacedIo<T> {
    /// `inner` at the pace of all that share `pace`.
    pub fn new(inner: T, pace: Pace) -> Self {
        Self { inner, member: Member::new(pace), reading: Side::default(), writing: Side::default() }
    }

    /// The connection itself.
    pub const fn get_ref(&self) -> &T {
        &self.inner
    }

    /// The connection itself. What is read or written by it is neither paced nor counted.
    pub const fn get_mut(&mut self) -> &mut T {
        &mut self.inner
    }

    /// The connection without its pace.
    pub fn into_inner(self) -> T {
        self.inner
    }
}

impl Member {
    fn new(pace: Pace) -> Self {
        pace.shared.streams.fetch_add(1, Ordering::Relaxed);
        Self(pace)
    }
}

impl Drop for Member {
    fn drop(&mut self) {
        self.0.shared.streams.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Side {
    /// How many bytes may be moved, once it is this stream's turn.
    fn poll_turn(&mut self, pace: &Pace, direction: Direction, cx: &mut Context<'_>) -> Poll<usize> {
        loop {
            if self.left > 0 {
                return Poll::Ready(self.left);
            }
            if self.is_waiting
                && let Some(timer) = &mut self.timer
            {
                ready!(timer.as_mut().poll(cx));
                self.is_waiting = false;
            }
            match pace.turn(direction, &mut self.place) {
                Turn::Free => return Poll::Ready(usize::MAX),
                Turn::Go(bytes) => self.left = bytes,
                Turn::Wait(time) => {
                    let until = Instant::now() + time;
                    match &mut self.timer {
                        Some(timer) => timer.as_mut().reset(until),
                        None => self.timer = Some(Box::pin(sleep_until(until))),
                    }
                    self.is_waiting = true;
                }
            }
        }
    }

    /// So many bytes were moved.
    fn moved(&mut self, pace: &Pace, direction: Direction, bytes: usize) {
        self.left = self.left.saturating_sub(bytes);
        pace.charge(direction, bytes as u64);
    }
}

impl<T: AsyncRead + Unpin> AsyncRead for PacedIo<T> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = &mut *self;
        let most = ready!(this.reading.poll_turn(&this.member.0, Direction::Download, cx));
        let inner = Pin::new(&mut this.inner);
        let read = if most >= buf.remaining() {
            let before = buf.filled().len();
            ready!(inner.poll_read(cx, buf))?;
            buf.filled().len().saturating_sub(before)
        } else {
            let mut part = ReadBuf::new(buf.initialize_unfilled_to(most));
            ready!(inner.poll_read(cx, &mut part))?;
            let read = part.filled().len();
            buf.advance(read);
            read
        };
        this.reading.moved(&this.member.0, Direction::Download, read);
        Poll::Ready(Ok(()))
    }
}

impl<T: AsyncWrite + Unpin> AsyncWrite for PacedIo<T> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let this = &mut *self;
        let most = ready!(this.writing.poll_turn(&this.member.0, Direction::Upload, cx));
        let part = buf.get(..most).unwrap_or(buf);
        let written = ready!(Pin::new(&mut this.inner).poll_write(cx, part))?;
        this.writing.moved(&this.member.0, Direction::Upload, written);
        Poll::Ready(Ok(written))
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = &mut *self;
        let most = ready!(this.writing.poll_turn(&this.member.0, Direction::Upload, cx));
        let inner = Pin::new(&mut this.inner);
        let written = match fitting(bufs, most) {
            Fitting::Whole(part) => ready!(inner.poll_write_vectored(cx, part))?,
            Fitting::Part(part) => ready!(inner.poll_write(cx, part))?,
        };
        this.writing.moved(&this.member.0, Direction::Upload, written);
        Poll::Ready(Ok(written))
    }

    fn is_write_vectored(&self) -> bool {
        self.inner.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(cx)
    }
}

/// What of several buffers may be written.
enum Fitting<'a, 'b> {
    /// These.
    Whole(&'a [IoSlice<'b>]),
    /// Of the first that is not empty, this much.
    Part(&'a [u8]),
}

/// The longest beginning of `bufs` that has at most so many bytes.
fn fitting<'a, 'b>(bufs: &'a [IoSlice<'b>], most: usize) -> Fitting<'a, 'b> {
    let mut left = most;
    for (index, buf) in bufs.iter().enumerate() {
        match left.checked_sub(buf.len()) {
            Some(rest) => left = rest,
            None if left == most => return Fitting::Part(buf.get(..most).unwrap_or(buf)),
            None => return Fitting::Whole(bufs.get(..index).unwrap_or(bufs)),
        }
    }
    Fitting::Whole(bufs)
}
