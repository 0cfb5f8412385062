//! One direction of the line: when a piece that is sent now arrives at the other end.

use std::sync::Mutex;
use std::time::Duration;

use tokio::time::Instant;

/// A direction with a rate, a delay and a queue, shared by all connections.
pub struct Link {
    bytes_per_second: f64,
    delay: Duration,
    queue: Duration,
    /// When the last byte that was taken leaves the queue. Kept exactly, so that late wake-ups cost no rate.
    free_at: Mutex<Instant>,
}

impl Link {
    /// An idle direction. Must be made where a timer runs or before it.
    pub fn new(bytes_per_second: f64, delay: Duration, queue: Duration) -> Self {
        Self { bytes_per_second, delay, queue, free_at: Mutex::new(Instant::now()) }
    }

    /// Puts a piece into the queue; returns when its last byte arrives.
    pub fn send(&self, bytes: usize) -> Instant {
        let mut free_at = self.free_at.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        let begin = (*free_at).max(Instant::now());
        *free_at = begin + Duration::from_secs_f64(bytes as f64 / self.bytes_per_second);
        *free_at + self.delay
    }

    /// When an empty piece, such as the end of a connection, arrives if it is sent now.
    pub fn arrival(&self) -> Instant {
        self.send(0)
    }

    /// Waits until the queue has room.
    pub async fn room(&self) {
        loop {
            let free_at = *self.free_at.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
            let now = Instant::now();
            if free_at <= now + self.queue {
                return;
            }
            tokio::time::sleep_until(free_at - self.queue).await;
        }
    }
}
