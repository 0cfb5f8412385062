//! `[retention]` of the configuration file: what is kept, in general, of a source, at a destination.
//!
//! The most specific table counts, and counts whole: that of the source at the destination, that of the destination, that of the source, the
//! general one. A table says nothing of the kind of count that it leaves out: see [`RetentionFile::policy`].

use std::collections::BTreeMap;
use std::str::FromStr as _;

use chrono_tz::Tz;
use schemars::JsonSchema;
use serde::{Deserialize, Deserializer, de};

use crate::retention::policy::OTHER_CLASSES;
use crate::retention::{Period, Policies, Policy, Span};
use crate::{Error, Result};

/// The general table, or that of a destination, as written.
#[derive(Debug, Clone, Default, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct RetentionFile {
    /// So many of the newest.
    pub keep_last: Option<u64>,
    /// All of so long before the newest.
    #[serde(deserialize_with = "span")]
    #[schemars(with = "Option<String>")]
    pub keep_within: Option<Span>,
    /// The newest of each of so many hours.
    pub keep_hourly: Option<u64>,
    /// Of so many days.
    pub keep_daily: Option<u64>,
    /// Of so many weeks.
    pub keep_weekly: Option<u64>,
    /// Of so many months.
    pub keep_monthly: Option<u64>,
    /// Of so many years.
    pub keep_yearly: Option<u64>,
    /// Those with one of these tags.
    #[serde(deserialize_with = "super::file::one_or_many_or_none")]
    #[schemars(with = "Option<super::file::OneOrMany>")]
    pub keep_tag: Option<Vec<String>>,
    /// How many of each class.
    pub class: Option<BTreeMap<String, u64>>,
    /// The zone in which hours and days begin.
    #[serde(deserialize_with = "zone")]
    #[schemars(with = "Option<String>")]
    pub timezone: Option<Tz>,
    /// Sources with rules of their own.
    pub source: BTreeMap<String, RetentionFile>,
}

/// What is kept, checked.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Retention {
    general: Option<RetentionFile>,
    destinations: BTreeMap<String, RetentionFile>,
    /// `LIFEBOAT_KEEP_WITHIN_DAYS`.
    within: Option<Span>,
    /// The zone in which hours and days begin; the system's unless set.
    pub zone: Option<Tz>,
}

impl RetentionFile {
    /// The policy of this table alone.
    ///
    /// Counts of classes: with a table `class`, the defaults with what it says in their place; without one, the defaults if the table has no
    /// `keep_…` either, else none: who writes `keep_within = "7d"` and nothing else wants seven days.
    fn policy(&self) -> Policy {
        let periods = Period::counts([
            self.keep_hourly,
            self.keep_daily,
            self.keep_weekly,
            self.keep_monthly,
            self.keep_yearly,
        ]);
        let says_keep = self.keep_last.is_some()
            || self.keep_within.is_some()
            || self.keep_tag.is_some()
            || !periods.is_empty();
        let mut policy = match (&self.class, says_keep) {
            (None, true) => Policy::default(),
            _ => Policy::by_class(),
        };
        for (class, count) in self.class.iter().flatten() {
            if class == OTHER_CLASSES {
                policy.other_classes = *count;
            } else {
                policy.classes.insert(class.clone(), *count);
            }
        }
        policy.last = self.keep_last.unwrap_or_default();
        policy.within = self.keep_within;
        policy.tags = self.keep_tag.clone().unwrap_or_default();
        policy.periods = periods;
        policy
    }

    /// Refuses what a table below another may not have, and policies that keep nothing. `what` names the table.
    fn check(&self, what: &str, is_top: bool) -> Result<()> {
        if !is_top && self.timezone.is_some() {
            return Err(Error::usage(format_args!("{what} has a `timezone`"))
                .with_hint("There is one for all: write it in [retention]."));
        }
        self.policy().check().map_err(|e| e.context(what))?;
        for (source, table) in &self.source {
            let what = format!("{what}, source {source}");
            if !table.source.is_empty() {
                return Err(Error::usage(format_args!("{what} has sources of its own"))
                    .with_hint("Write [retention.source.NAME] for each source, and nothing below that."));
            }
            table.check(&what, false)?;
        }
        Ok(())
    }
}

impl Retention {
    /// Checks what was written: the general table, those of destinations by name, and `LIFEBOAT_KEEP_WITHIN_DAYS`.
    ///
    /// # Errors
    /// `Usage` that names the table.
    pub fn check(
        general: Option<RetentionFile>,
        destinations: BTreeMap<String, RetentionFile>,
        keep_within_days: Option<&str>,
    ) -> Result<Self> {
        if let Some(table) = &general {
            table.check("[retention]", true)?;
        }
        for (name, table) in &destinations {
            table.check(&format!("[destination.retention] of {name}"), false)?;
        }
        let within = keep_within_days.map(|text| {
            text.trim().parse().ok().and_then(Span::days).ok_or_else(|| {
                Error::usage(format_args!("LIFEBOAT_KEEP_WITHIN_DAYS is {text:?}: it is no number of days"))
                    .with_hint("Set it to a number from 1, or unset it.")
            })
        });
        let zone = general.as_ref().and_then(|table| table.timezone);
        Ok(Self { general, destinations, within: within.transpose()?, zone })
    }

    /// Adds what the tables of classes say is kept of each to the general table, where [`RetentionFile::class`] says the same.
    ///
    /// # Errors
    /// `Usage` for a class of which both speak.
    pub fn with_classes(
        general: Option<RetentionFile>,
        kept: BTreeMap<String, u64>,
    ) -> Result<Option<RetentionFile>> {
        if kept.is_empty() {
            return Ok(general);
        }
        let mut general = general.unwrap_or_default();
        let classes = general.class.get_or_insert_default();
        for (name, count) in kept {
            if classes.insert(name.clone(), count).is_some() {
                return Err(Error::usage(format_args!(
                    "both [class.{name}] and [retention.class] say how many {name} snapshots are kept"
                ))
                .with_hint("Keep one of the two."));
            }
        }
        Ok(Some(general))
    }

    /// The policies of a destination; `None` if nothing anywhere says what is kept there.
    pub fn policies(&self, destination: &str) -> Option<Policies> {
        let own = self.destinations.get(destination);
        let within = |mut policy: Policy| {
            policy.within = self.within.or(policy.within);
            policy
        };
        let general = match (own, &self.general, self.within) {
            (Some(table), ..) | (None, Some(table), _) => table.policy(),
            (None, None, Some(_)) => Policy::default(),
            (None, None, None) => return None,
        };
        // What a destination says goes before what the general table says of a source.
        let of_sources = match (own, &self.general) {
            (Some(own), _) => Some(own),
            (None, general) => general.as_ref(),
        };
        let sources = of_sources.map(|table| &table.source).into_iter().flatten();
        Some(Policies {
            general: within(general),
            sources: sources.map(|(source, table)| (source.clone(), within(table.policy()))).collect(),
        })
    }
}

fn span<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Span>, D::Error> {
    String::deserialize(deserializer)?.parse().map(Some).map_err(de::Error::custom)
}

/// A zone of the tz database.
pub(super) fn zone<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Tz>, D::Error> {
    parse_zone(&String::deserialize(deserializer)?).map(Some).map_err(de::Error::custom)
}

/// A zone by its name.
///
/// # Errors
/// What was expected, with the name.
pub(super) fn parse_zone(name: &str) -> Result<Tz, String> {
    Tz::from_str(name)
        .map_err(|_| format!("{name:?} is no time zone: write one of the tz database, such as Europe/Berlin"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::ConfigFile;

    fn read(text: &str, days: Option<&str>) -> Result<Retention> {
        let file = ConfigFile::parse(text, "c")?;
        let of =
            |d: &crate::config::destination::DestinationFile| Some((d.name.clone(), d.retention.clone()?));
        Retention::check(file.retention, file.destination.iter().filter_map(of).collect(), days)
    }

    fn policies(text: &str, destination: &str) -> Policies {
        read(text, None).unwrap().policies(destination).unwrap()
    }

    #[test]
    fn a_table_that_says_nothing_keeps_by_class_and_one_that_says_something_keeps_that() {
        assert_eq!(policies("[retention]", "x").general, Policy::by_class());
        let week = policies("[retention]\nkeep_within = \"7d\"", "x").general;
        assert_eq!(week, Policy { within: Span::days(7), ..Policy::default() });
        let text = "[retention]\nkeep_daily = 30\nkeep_tag = \"keep\"\n[retention.class]\nmanual = 3\napi = 5\nother = 1\n";
        let both = policies(text, "x").general;
        assert_eq!((both.of_class("manual"), both.of_class("api"), both.of_class("daily")), (3, 5, 7));
        assert_eq!((both.of_class("made-up"), both.periods[&Period::Day]), (1, 30));
        assert_eq!(both.tags, ["keep"]);
    }

    #[test]
    fn the_most_specific_table_counts_whole() {
        let text = "[retention]\nkeep_last = 1\n[retention.source.db]\nkeep_last = 2\n\
                    [[destination]]\nname = \"disk\"\nurl = \"/x\"\n[destination.retention]\nkeep_last = 3\n\
                    [destination.retention.source.web]\nkeep_daily = 4\n[[destination]]\nname = \"far\"\nurl = \"/y\"\n";
        let last =
            |destination: &str, source: Option<&str>| policies(text, destination).of_source(source).last;
        assert_eq!((last("far", None), last("far", Some("db")), last("far", Some("web"))), (1, 2, 1));
        assert_eq!((last("disk", None), last("disk", Some("db")), last("disk", Some("web"))), (3, 3, 0));
    }

    #[test]
    fn what_a_class_keeps_may_stand_at_the_class() {
        let read = |text: &str| {
            let file = ConfigFile::parse(text, "c").unwrap();
            let general =
                Retention::with_classes(file.retention, crate::config::schedule::kept(&file.class))?;
            let policies = Retention::check(general, BTreeMap::new(), None)?.policies("x");
            Ok::<_, Error>(policies.map(|policies| policies.general))
        };
        let policy = read("[class.daily]\nkeep = 30").unwrap().unwrap();
        assert_eq!((policy.of_class("daily"), policy.of_class("hourly"), policy.of_class("x")), (30, 24, 20));
        let both = "[class.daily]\nkeep = 30\n[retention]\nkeep_last = 2\n[retention.class]\nhourly = 5";
        let policy = read(both).unwrap().unwrap();
        assert_eq!((policy.of_class("daily"), policy.of_class("hourly"), policy.last), (30, 5, 2));
        assert_eq!(read("[class.daily]\nrescan = true").unwrap(), None);
        let twice = read("[class.daily]\nkeep = 30\n[retention.class]\ndaily = 5").unwrap_err();
        assert!(twice.to_string().contains("both [class.daily] and [retention.class]"), "{twice}");
    }

    #[test]
    fn the_environment_says_how_many_days() {
        let alone = read("", Some("30")).unwrap().policies("x").unwrap();
        assert_eq!(alone, Policies::of(Policy { within: Span::days(30), ..Policy::default() }));
        let over = read("[retention]\nkeep_within = \"7d\"\nkeep_last = 2", Some("30")).unwrap();
        assert_eq!(over.policies("x").unwrap().general.within, Span::days(30));
        assert_eq!(over.policies("x").unwrap().general.last, 2);
        assert_eq!(read("", None).unwrap().policies("x"), None);
        for wrong in ["0", "-1", "seven", "1.5", "99999999999"] {
            assert!(
                read("", Some(wrong)).unwrap_err().to_string().contains("LIFEBOAT_KEEP_WITHIN_DAYS"),
                "{wrong}"
            );
        }
    }

    #[test]
    fn mistakes_are_named() {
        for (text, words) in [
            ("[retention]\nkeep_dayly = 3", "keep_dayly"),
            ("[retention]\nkeep_within = \"7 days\"", "no length of time"),
            ("[retention]\ntimezone = \"Berlin\"", "no time zone"),
            ("[retention]\nkeep_last = 0", "keeps nothing"),
            ("[retention.source.db]\ntimezone = \"UTC\"", "source db has a `timezone`"),
            ("[retention.source.db.source.x]\nkeep_last = 1", "sources of its own"),
            ("[retention]\nkeep_last = -1", "line 2"),
        ] {
            let error = read(text, None).unwrap_err();
            assert!(error.to_string().contains(words), "{text}: {error}");
        }
    }
}
