//! The suite every provider passes: one named case per promise of the contract.
//!
//! It is library code, not tests, so that the same suite runs on the providers of this crate and, by command, on
//! a live store. It works in a folder of its own and removes what it put there.
//!
//! A failing case never stops the suite; the report has every case, whatever came of it.
//!
//! Nothing of the suite is left in the end, not even what an abandoned put brings late.

mod concurrent;
mod get;
mod list;
mod put;
mod remove;
mod scratch;

use std::fmt;
use std::future::Future;

use crate::{Error, Prefix, SharedProvider};
use scratch::Scratch;

/// What a case found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// The promise is kept.
    Passed,
    /// The promise is broken: how.
    Failed(String),
    /// The store does not make this promise, or the case was not asked for: why.
    NotSupported(String),
}

/// One promise and what was found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Case {
    /// The promise, in words joined by `_`.
    pub name: &'static str,
    /// What was found.
    pub outcome: Outcome,
}

/// What the suite found.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Report {
    /// Which store, see [`crate::Provider::location`].
    pub location: String,
    /// All cases, in the order in which they ran.
    pub cases: Vec<Case>,
    /// Objects of the suite that could not be removed afterwards, with the reason.
    pub left_behind: Vec<String>,
}

/// How thoroughly to look.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Options {
    /// Where the suite works. Nothing else may be in it.
    pub folder: Prefix,
    /// The size of large objects in bytes.
    pub large_bytes: usize,
    /// How many objects the long listing has; above 1,000 it takes a second page of S3 and Drive.
    pub listed_objects: usize,
    /// How many writers race.
    pub writers: usize,
    /// Whether to lock an object for a minute: it then cannot be removed afterwards.
    pub retention: bool,
}

impl Default for Options {
    /// In a folder of a random name.
    fn default() -> Self {
        let number = getrandom::u64().unwrap_or_default();
        Self {
            // A folder of these characters is always valid.
            folder: Prefix::folder(format!("provider-check/{number:016x}")).unwrap_or_default(),
            large_bytes: (5 << 20) + 1,
            listed_objects: 1100,
            writers: 16,
            retention: false,
        }
    }
}

impl Report {
    /// Whether no promise is broken.
    pub fn passed(&self) -> bool {
        self.failures().next().is_none()
    }

    /// The promises that are broken, and how.
    pub fn failures(&self) -> impl Iterator<Item = (&'static str, &str)> {
        self.cases.iter().filter_map(|case| match &case.outcome {
            Outcome::Failed(reason) => Some((case.name, reason.as_str())),
            _ => None,
        })
    }

    /// How many promises the store makes: those that it does without are not counted.
    pub fn promised(&self) -> usize {
        self.cases.iter().filter(|case| !matches!(case.outcome, Outcome::NotSupported(_))).count()
    }

    /// How many of them it keeps.
    pub fn kept(&self) -> usize {
        self.cases.iter().filter(|case| case.outcome == Outcome::Passed).count()
    }
}

/// The report as it grows.
struct Suite<'a> {
    report: Report,
    begun: &'a mut (dyn FnMut(&'static str) + Send),
}

impl Suite<'_> {
    async fn run(&mut self, name: &'static str, case: impl Future<Output = CaseResult>) {
        (self.begun)(name);
        let outcome = match case.await {
            Ok(()) => Outcome::Passed,
            Err(Stop::Failed(reason)) => Outcome::Failed(reason),
            Err(Stop::NotSupported(reason)) => Outcome::NotSupported(reason),
        };
        self.report.cases.push(Case { name, outcome });
    }
}

impl fmt::Display for Report {
    /// One line per case.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for Case { name, outcome } in &self.cases {
            match outcome {
                Outcome::Passed => writeln!(f, "pass           {name}")?,
                Outcome::Failed(reason) => writeln!(f, "FAIL           {name}: {reason}")?,
                Outcome::NotSupported(reason) => writeln!(f, "not supported  {name}: {reason}")?,
            }
        }
        for object in &self.left_behind {
            writeln!(f, "left behind    {object}")?;
        }
        Ok(())
    }
}

/// Runs every case on `provider`.
pub async fn run(provider: SharedProvider, options: Options) -> Report {
    run_shown(provider, options, |_| {}).await
}

/// As [`run`]; `begun` is given the name of each case before it runs, for whoever watches.
pub async fn run_shown(
    provider: SharedProvider,
    options: Options,
    mut begun: impl FnMut(&'static str) + Send,
) -> Report {
    let report = Report { location: provider.location(), ..Report::default() };
    let mut suite = Suite { report, begun: &mut begun };
    let scratch = Scratch::new(provider, options);
    put::run(&scratch, &mut suite).await;
    get::run(&scratch, &mut suite).await;
    list::run(&scratch, &mut suite).await;
    remove::run(&scratch, &mut suite).await;
    concurrent::run(&scratch, &mut suite).await;
    let mut report = suite.report;
    begun("what_was_put_is_removed");
    report.left_behind = scratch.clean_up().await;
    report
}

/// Why a case ended before its end.
enum Stop {
    Failed(String),
    NotSupported(String),
}

type CaseResult<T = ()> = Result<T, Stop>;

impl From<Error> for Stop {
    fn from(error: Error) -> Self {
        use std::error::Error as _;
        let mut text = error.to_string();
        let mut cause = error.source();
        while let Some(source) = cause {
            text = format!("{text}: {source}");
            cause = source.source();
        }
        Self::Failed(text)
    }
}

/// The case fails with `reason` unless the promise is kept.
fn require(kept: bool, reason: impl fmt::Display) -> CaseResult {
    if kept { Ok(()) } else { Err(Stop::Failed(reason.to_string())) }
}

/// The call must have failed with this kind of error.
fn require_error<T>(result: Result<T, Error>, kind: crate::ErrorKind, call: impl fmt::Display) -> CaseResult {
    match result {
        Ok(_) => Err(Stop::Failed(format!("{call} succeeded, {kind:?} was due"))),
        Err(error) => require(error.kind() == kind, format_args!("{call}: {kind:?} was due, not: {error}")),
    }
}

#[cfg(test)]
mod tests;
