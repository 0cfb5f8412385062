//! Buffers that are read into again and again: memory from the system comes page by page, zeroed, which takes longer than reading a file
//! that is in the page cache.

use std::sync::Arc;

use bytes::Bytes;
use parking_lot::Mutex;

/// Bytes of capacity kept for later at most.
const KEPT_BYTES_MAX: usize = 16 << 20;

/// Buffers that are free.
#[derive(Debug, Default)]
pub(super) struct BufferPool {
    free: Mutex<Free>,
}

#[derive(Debug, Default)]
struct Free {
    buffers: Vec<Vec<u8>>,
    bytes: usize,
}

/// A buffer that goes back to its pool when nobody reads it any more.
struct Lent {
    buffer: Vec<u8>,
    /// How much of it is meant.
    len: usize,
    pool: Arc<BufferPool>,
}

impl BufferPool {
    /// A buffer of at least this many bytes, of any content; `None` if there is no memory for it.
    pub(super) fn take(&self, bytes: usize) -> Option<Vec<u8>> {
        if let Some(buffer) = self.used_before(bytes) {
            return Some(buffer);
        }
        let mut buffer = Vec::new();
        buffer.try_reserve_exact(bytes).ok()?;
        buffer.resize(bytes, 0);
        Some(buffer)
    }

    fn used_before(&self, bytes: usize) -> Option<Vec<u8>> {
        let mut free = self.free.lock();
        // Much larger ones would keep memory from whoever needs it.
        let fits = |buffer: &Vec<u8>| buffer.len() >= bytes && buffer.len() / 4 <= bytes;
        let at = free.buffers.iter().position(fits)?;
        let buffer = free.buffers.swap_remove(at);
        free.bytes -= buffer.len();
        Some(buffer)
    }

    /// The buffer's first `len` bytes, shared; it comes back when the last of them is dropped.
    pub(super) fn lend(self: &Arc<Self>, buffer: Vec<u8>, len: usize) -> Bytes {
        Bytes::from_owner(Lent { buffer, len, pool: self.clone() })
    }
}

impl AsRef<[u8]> for Lent {
    fn as_ref(&self) -> &[u8] {
        self.buffer.get(..self.len).unwrap_or(&self.buffer)
    }
}

impl Drop for Lent {
    fn drop(&mut self) {
        let buffer = std::mem::take(&mut self.buffer);
        let mut free = self.pool.free.lock();
        if free.bytes + buffer.len() <= KEPT_BYTES_MAX {
            free.bytes += buffer.len();
            free.buffers.push(buffer);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_buffer_comes_back_and_no_more_than_enough_are_kept() {
        let pool = Arc::new(BufferPool::default());
        let mut buffer = pool.take(1 << 20).unwrap();
        buffer[..5].copy_from_slice(b"bytes");
        let place = buffer.as_ptr();
        let bytes = pool.lend(buffer, 5);
        assert_eq!(&bytes[..], b"bytes");
        let other = pool.take(1 << 20).unwrap();
        assert_ne!(other.as_ptr(), place, "it is in use");
        drop(bytes);
        assert!(pool.take(1000).unwrap().len() < 1 << 20, "it is far too large");
        let again = pool.take(1 << 19).unwrap();
        assert_eq!(again.as_ptr(), place);
        let many: Vec<Bytes> = (0..40).map(|_| pool.lend(pool.take(1 << 20).unwrap(), 1 << 20)).collect();
        drop(many);
        assert!(pool.free.lock().bytes <= KEPT_BYTES_MAX && !pool.free.lock().buffers.is_empty());
    }
}
