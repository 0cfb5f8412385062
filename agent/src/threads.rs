//! How many worker threads an operation uses.

/// The number asked for, or one a core for 0.
pub fn count(asked: usize) -> usize {
    match asked {
        0 => std::thread::available_parallelism().map_or(2, usize::from),
        threads => threads,
    }
}
