//! What is kept: the rules of one policy, and which policy counts for which source.

use std::collections::BTreeMap;

use super::period::Period;
use super::span::Span;
use crate::{Error, Result};

/// How many of each class are kept where nobody says otherwise.
pub const CLASS_DEFAULTS: [(&str, u64); 5] =
    [("hourly", 24), ("daily", 7), ("weekly", 4), ("monthly", 12), ("manual", 20)];
/// How many of every class that no rule names: one that somebody makes up must not lose its snapshots by that.
pub const OTHER_CLASSES_DEFAULT: u64 = 20;
/// The name that stands for all classes that are not named.
pub const OTHER_CLASSES: &str = "other";

/// Rules; what any of them keeps is kept.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Policy {
    /// So many of the newest.
    pub last: u64,
    /// All that are not older, before the newest, than this.
    pub within: Option<Span>,
    /// The newest of each of the last so many periods that have any, whatever their class.
    pub periods: BTreeMap<Period, u64>,
    /// Those with one of these tags.
    pub tags: Vec<String>,
    /// So many of each class: of the last so many periods where the class is named after one, else of the newest.
    pub classes: BTreeMap<String, u64>,
    /// So many of every other class.
    pub other_classes: u64,
}

impl Policy {
    /// The counts of each class that count where nobody says otherwise.
    pub fn by_class() -> Self {
        Self {
            classes: CLASS_DEFAULTS.iter().map(|(class, count)| ((*class).to_owned(), *count)).collect(),
            other_classes: OTHER_CLASSES_DEFAULT,
            ..Self::default()
        }
    }

    /// How many of a class.
    pub fn of_class(&self, class: &str) -> u64 {
        self.classes.get(class).copied().unwrap_or(self.other_classes)
    }

    /// Refuses a policy without a rule that keeps anything: nobody means that.
    ///
    /// # Errors
    /// `Usage`.
    pub fn check(&self) -> Result<()> {
        let counts = self.periods.values().chain(self.classes.values());
        let keeps = self.last > 0
            || self.other_classes > 0
            || self.within.is_some()
            || !self.tags.is_empty()
            || counts.copied().any(|count| count > 0);
        if keeps {
            return Ok(());
        }
        Err(Error::usage("the policy keeps nothing: all its counts are 0").with_hint(
            "Say what is to be kept, such as --keep-daily 7, or keep_daily = 7 in the configuration.",
        ))
    }
}

/// The policies of one destination.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Policies {
    /// Of sources without one of their own.
    pub general: Policy,
    /// Of sources by name.
    pub sources: BTreeMap<String, Policy>,
}

impl Policies {
    /// One for everything.
    pub fn of(general: Policy) -> Self {
        Self { general, sources: BTreeMap::new() }
    }

    /// That of a source.
    pub fn of_source(&self, source: Option<&str>) -> &Policy {
        source.and_then(|source| self.sources.get(source)).unwrap_or(&self.general)
    }

    /// As [`Policy::check`], for all of them.
    ///
    /// # Errors
    /// `Usage` that names the source.
    pub fn check(&self) -> Result<()> {
        self.general.check()?;
        let check = |(source, policy): (&String, &Policy)| {
            policy.check().map_err(|e| e.context(format_args!("source {source}")))
        };
        self.sources.iter().try_for_each(check)
    }
}
