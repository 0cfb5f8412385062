//! What the integration tests share.
//!
//! | module | job |
//! |---|---|
//! | [`random`] | numbers from a seed: every failure can be had again |
//! | [`grow`] | random trees and edits of them |
//! | [`seen`] | all that a restore should bring back of a tree, and comparing two |
//! | [`world`] | temporary sources, stores and machines; backing up and restoring in one line |
//! | [`objects`] | a store's objects as bytes: copy, damage, list |
//! | [`proof`] | whether a repository is whole, by reading all of it |
//! | [`binary`] | running the real binary |
//! | [`victim`] | running a process that kills itself at a chosen point |
//! | [`process`] | running a server as a process |
//! | [`promtool`] | Prometheus' own checker, and figures with everything in them |
//! | [`http`] | asking a server on this machine something |
//! | [`acceptor`] | taking connections at a free port until dropped |
//! | [`hook`] | a server for notifications that keeps what it hears |
//! | `smtp` | a mail server that keeps what it takes |
//! | [`garage`] | Garage: a real S3 store, one node or a cluster |
//! | [`moto`] | moto: Object Lock, versions, conditional writes |
//! | `faulty_s3` | an S3 server in this process that goes wrong on demand |
//! | [`decoders`] | every entry point that takes stored or foreign bytes, for fuzzing |
//!
//! Everything here panics when something is not as it should be: it runs in tests only.

pub mod acceptor;
pub mod binary;
pub mod decoders;
#[cfg(feature = "servers")]
pub mod faulty_s3;
pub mod garage;
pub mod grow;
pub mod hook;
pub mod http;
pub mod moto;
pub mod objects;
pub mod process;
pub mod promtool;
pub mod proof;
pub mod random;
pub mod seen;
#[cfg(feature = "servers")]
pub mod smtp;
pub mod victim;
pub mod world;

use std::path::PathBuf;

/// A program that `tests/run` installs: what `variable` names, or `path` in the cache that it uses.
pub fn installed(variable: &str, path: &str) -> Option<PathBuf> {
    if let Some(named) = std::env::var_os(variable) {
        let named = PathBuf::from(named);
        assert!(named.exists(), "{variable} names {}, which is not there", named.display());
        return Some(named);
    }
    let cache = match std::env::var_os("LIFEBOAT_CI_CACHE") {
        Some(cache) => PathBuf::from(cache),
        None => PathBuf::from(std::env::var_os("HOME")?).join(".cache/lifeboat-ci"),
    };
    Some(cache.join(path)).filter(|path| path.exists())
}

/// Whether a program that `tests/run` installs by the system's package `package` is on the path; if not, says that the test is skipped.
///
/// # Panics
/// If it is not and `CI` is `true`: nothing is skipped there.
#[track_caller]
pub fn on_path(program: &str, package: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let is_there = std::env::split_paths(&path).any(|directory| directory.join(program).is_file());
    if !is_there {
        let is_ci = std::env::var_os("CI").is_some_and(|value| value == "true");
        assert!(!is_ci, "no {program}: tests/run installs the package {package}");
        println!("skipped: no {program} (tests/run installs the package {package})");
    }
    is_there
}

/// Passes on whether a program is there; if not, says that the test is skipped.
///
/// # Panics
/// If it is not there and `CI` is `true`: nothing is skipped there.
#[track_caller]
pub fn available(name: &str, variable: &str, is_there: bool) -> bool {
    if !is_there {
        assert!(
            std::env::var_os("CI").is_none_or(|value| value != "true"),
            "no {name}: tests/run installs it and sets {variable}"
        );
        println!("skipped: no {name} (tests/run installs it and sets {variable})");
    }
    is_there
}
