//! A tree of many small files.
//!
//! 1,000 files to a directory, 100 such to one above. One in ten holds its number as text, so that all contents differ; the others are
//! empty, so that ten million fit on a disk that gives every file with content a block of 4 KiB.

use std::fs::{self, File};
use std::io::Write as _;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;

use crate::Fault;

const FILES_PER_DIRECTORY: u64 = 1_000;
const DIRECTORIES_PER_PARENT: u64 = 100;
const FILLED_EVERY: u64 = 10;

/// Makes a tree of that many files in a new directory.
pub fn make(root: &Path, files: u64) -> Result<(), Fault> {
    fs::create_dir_all(root)?;
    let next = AtomicU64::new(0);
    let work = || -> Result<(), Fault> {
        loop {
            let number = next.fetch_add(1, Ordering::Relaxed);
            let first = number * FILES_PER_DIRECTORY;
            if first >= files {
                return Ok(());
            }
            let last = files.min(first + FILES_PER_DIRECTORY);
            let parent = root.join(format!("part{:04}", number / DIRECTORIES_PER_PARENT));
            fill(&parent.join(format!("directory{number:06}")), first..last)?;
        }
    };
    thread::scope(|scope| {
        let threads: Vec<_> =
            (0..thread::available_parallelism()?.get()).map(|_| scope.spawn(work)).collect();
        for thread in threads {
            thread.join().map_err(|_| "a thread broke down")??;
        }
        Ok(())
    })
}

fn fill(directory: &Path, numbers: std::ops::Range<u64>) -> Result<(), Fault> {
    fs::create_dir_all(directory)?;
    for number in numbers {
        let mut file = File::create_new(directory.join(format!("file{number:08}.txt")))?;
        if number % FILLED_EVERY == 0 {
            write!(file, "{number}")?;
        }
    }
    Ok(())
}
