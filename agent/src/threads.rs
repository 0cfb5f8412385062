//! Worker threads: how many an operation uses, and running some until all have ended.

use crate::{Error, Result};

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

/// Runs `work` on so many threads and waits for all of them.
///
/// # Errors
/// The first error, in the order of the threads; if one breaks down.
pub fn run(number: usize, work: impl Fn() -> Result<()> + Sync) -> Result<()> {
    at_once(0..number, |_| work()).into_iter().collect()
}

/// Calls `work` with every item, each on a thread of its own, and waits for all: for what spends its time waiting for stores. One that breaks
/// down is an error, in the place of its item.
pub fn at_once<I: Send, T: Send>(
    items: impl IntoIterator<Item = I>,
    work: impl Fn(I) -> Result<T> + Sync,
) -> Vec<Result<T>> {
    let work = &work;
    std::thread::scope(|scope| {
        let threads: Vec<_> = items.into_iter().map(|item| scope.spawn(move || work(item))).collect();
        threads.into_iter().map(|thread| thread.join().unwrap_or_else(|_| Err(broke_down()))).collect()
    })
}

/// The error of a thread that panicked.
pub fn broke_down() -> Error {
    Error::failed("a worker thread broke down: this is a bug in lifeboat")
}
