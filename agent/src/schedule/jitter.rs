//! A delay that differs from machine to machine and is always the same on one: a hundred of them that say "daily at 02:00" do not all begin at 02:00,
//! and each still begins at a time that can be told.

use std::time::Duration;

/// The delay of a class of a source on a machine: whole seconds, less than `max`.
pub fn jitter(host: &str, source: &str, class: &str, max: Duration) -> Duration {
    let mut hasher = blake3::Hasher::new();
    for part in [host, source, class] {
        // With its length: "a" and "bc" are not "ab" and "c".
        hasher.update(&(part.len() as u64).to_le_bytes());
        hasher.update(part.as_bytes());
    }
    let mut number = [0; 8];
    hasher.finalize_xof().fill(&mut number);
    let number = u64::from_le_bytes(number);
    match max.as_secs() {
        0 => Duration::ZERO,
        seconds => Duration::from_secs(number % seconds),
    }
}
