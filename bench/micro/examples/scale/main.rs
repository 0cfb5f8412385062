//! Makes what a large repository is large by, without its data, and measures the index: `bench/scale` drives it.
//!
//! | command | job |
//! |---|---|
//! | `tree DIRECTORY FILES` | that many files, 1,000 to a directory, one in ten with a few bytes |
//! | `shards REPOSITORY KEY-FILE CHUNKS` | index shards in a repository that name that many chunks, in packs that hold nothing |
//! | `lookups REPOSITORY KEY-FILE CACHE CHUNKS` | opens the local index and looks chunks up, those that `shards` named and others; prints JSON |
//! | `marks REPOSITORY KEY-FILE CACHE CHUNKS` | marks three of four of the chunks that `shards` named, and plans a prune; prints JSON |
//!
//! What `shards` leaves behind is good for measuring only: nothing can be restored from packs that are holes.

mod ids;
mod lookups;
mod marks;
mod shards;
mod tree;

use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;

use lifeboat_agent::repository::{Directories, Repository};
use lifeboat_agent::seal::SecretKey;
use lifeboat_agent::seal::slot::Secret;
use lifeboat_providers::local::LocalProvider;

const USAGE: &str = "usage: scale tree DIRECTORY FILES
       scale shards REPOSITORY KEY-FILE CHUNKS
       scale lookups REPOSITORY KEY-FILE CACHE CHUNKS
       scale marks REPOSITORY KEY-FILE CACHE CHUNKS";

type Fault = Box<dyn std::error::Error + Send + Sync>;

fn run(words: &[&str]) -> Result<(), Fault> {
    match words {
        ["tree", directory, files] => tree::make(Path::new(directory), files.parse()?),
        ["shards", repository, key, chunks] => {
            // Nothing is read from the index, so whatever cache the measured program has stays as it is.
            let unused = Path::new(repository).with_extension("unused");
            shards::store(&open(repository, key, &unused)?, Path::new(repository), chunks.parse()?)
        }
        ["lookups", repository, key, cache, chunks] => {
            lookups::measure(&open(repository, key, Path::new(cache))?, chunks.parse()?)
        }
        ["marks", repository, key, cache, chunks] => {
            marks::measure(&open(repository, key, Path::new(cache))?, chunks.parse()?)
        }
        _ => Err(USAGE.into()),
    }
}

fn open(repository: &str, key: &str, cache: &Path) -> Result<Repository, Fault> {
    let provider = Arc::new(LocalProvider::open(Path::new(repository))?);
    let secret = Secret::Key(SecretKey::parse(&std::fs::read_to_string(key)?)?);
    let directories = Directories::new(cache.to_owned(), cache.with_extension("state"));
    Ok(Repository::open(provider, &secret, directories)?)
}

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    match run(&words) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}
