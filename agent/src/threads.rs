//! How many worker threads an operation uses.

/// Workers beside one a core where each waits for the store now and then: the cores stay busy meanwhile.
const WAITING: usize = 2;

/// The number asked for, or one a core for 0.
pub fn count(asked: usize) -> usize {
    match asked {
        0 => std::thread::available_parallelism().map_or(2, usize::from),
        threads => threads,
    }
}

/// The number asked for; for 0, enough for all cores when some wait for the store.
pub fn count_for_reading(asked: usize) -> usize {
    match asked {
        0 => count(0) + WAITING,
        threads => threads,
    }
}
