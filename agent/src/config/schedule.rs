//! `[class.NAME]` and `[schedule]` of the configuration file: when the daemon runs what.
//!
//! A class is a history of its own: when it is made, whether all is read again for it, how much of it is kept. `hourly`, `daily`, `weekly` and
//! `monthly` are there unless they are switched off; others may have any name.

use std::collections::BTreeMap;
use std::str::FromStr as _;
use std::time::Duration;

use chrono_tz::Tz;
use schemars::JsonSchema;
use serde::{Deserialize, Deserializer, de};

use super::{duration, retention};
use crate::retention::policy::OTHER_CLASSES;
use crate::schedule::{Cron, Zone};
use crate::{Error, Result};

/// Classes that are there unless they are switched off, their times, and whether all is read again.
const CLASSES: [(&str, &str, bool); 4] = [
    ("hourly", "0 * * * *", false),
    // Once a day every file is read: what changed without a trace in its times and size is found.
    ("daily", "0 2 * * *", true),
    ("weekly", "0 3 * * 0", false),
    ("monthly", "0 4 1 * *", false),
];
/// After the nightly backups, when few work.
const PRUNE: &str = "30 4 * * 0";
const CHECK: &str = "15 5 * * *";
/// On the full minute everybody's jobs begin. Within a minute a hundred machines are spread well enough for a store, and who wrote 02:00 does not mind
/// 02:00:40; who has thousands writes more.
const JITTER: Duration = Duration::from_secs(60);
/// A run must not begin later than the next one.
const JITTER_MAX: Duration = Duration::from_secs(6 * 3600);
const NAME_LENGTH_MAX: usize = 32;

/// A class as written.
#[derive(Debug, Clone, Default, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct ClassFile {
    /// When it is made: a cron expression such as "0 2 * * *", or "off".
    #[serde(deserialize_with = "when")]
    #[schemars(with = "Option<String>")]
    pub schedule: Option<When>,
    /// Read all files again, also those that seem unchanged. For `daily` it is true unless set.
    pub rescan: Option<bool>,
    /// How many are kept, as in [retention.class].
    pub keep: Option<u64>,
}

/// The table `schedule` as written.
#[derive(Debug, Clone, Default, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct ScheduleFile {
    /// The zone of all schedules, such as "Europe/Berlin"; the system's unless set.
    #[serde(deserialize_with = "retention::zone")]
    #[schemars(with = "Option<String>")]
    pub timezone: Option<Tz>,
    /// Each machine begins up to so much later than the schedule says, always the same; 1m unless set, "0s" for none.
    #[serde(deserialize_with = "jitter")]
    #[schemars(with = "Option<String>")]
    pub jitter: Option<Duration>,
    /// When what no snapshot needs is freed: a cron expression, or "off".
    #[serde(deserialize_with = "when")]
    #[schemars(with = "Option<String>")]
    pub prune: Option<When>,
    /// When a part of all data is read and checked: a cron expression, or "off".
    #[serde(deserialize_with = "when")]
    #[schemars(with = "Option<String>")]
    pub check: Option<When>,
}

/// A schedule, or the word "off".
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum When {
    /// Never by itself.
    Off,
    /// At its times.
    At(Cron),
}

/// When what is run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Schedules {
    /// The zone of all of them.
    pub zone: Zone,
    /// For [`crate::schedule::jitter()`].
    pub jitter: Duration,
    /// The classes: those that are always there first, then the others by name.
    pub classes: Vec<Class>,
    /// When what no snapshot needs is freed.
    pub prune: Option<Cron>,
    /// When a part of all data is checked.
    pub check: Option<Cron>,
}

/// A class of snapshots.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Class {
    /// What it is called.
    pub name: String,
    /// When it is made; `None` for those that are only made by hand.
    pub cron: Option<Cron>,
    /// Whether all files are read again.
    pub rescan: bool,
}

impl When {
    /// The schedule, if it is one.
    fn cron(self) -> Option<Cron> {
        match self {
            Self::Off => None,
            Self::At(cron) => Some(cron),
        }
    }
}

impl Schedules {
    /// Checks what was written.
    ///
    /// # Errors
    /// `Usage` for a class that cannot have its name.
    pub fn check(schedule: ScheduleFile, mut classes: BTreeMap<String, ClassFile>) -> Result<Self> {
        classes.keys().try_for_each(|name| check_name(name))?;
        let mut all = Vec::new();
        for (name, times, rescan) in CLASSES {
            let written = classes.remove(name).unwrap_or_default();
            all.push(Class {
                name: name.to_owned(),
                cron: or_default(written.schedule, times)?,
                rescan: written.rescan.unwrap_or(rescan),
            });
        }
        all.extend(classes.into_iter().map(|(name, written)| Class {
            name,
            cron: written.schedule.and_then(When::cron),
            rescan: written.rescan.unwrap_or(false),
        }));
        Ok(Self {
            zone: schedule.timezone.into(),
            jitter: schedule.jitter.unwrap_or(JITTER),
            classes: all,
            prune: or_default(schedule.prune, PRUNE)?,
            check: or_default(schedule.check, CHECK)?,
        })
    }

    /// The class of a name.
    pub fn class(&self, name: &str) -> Option<&Class> {
        self.classes.iter().find(|class| class.name == name)
    }
}

/// How many of each class are kept by what the classes' own tables say.
pub fn kept(classes: &BTreeMap<String, ClassFile>) -> BTreeMap<String, u64> {
    classes.iter().filter_map(|(name, class)| Some((name.clone(), class.keep?))).collect()
}

fn or_default(written: Option<When>, default: &str) -> Result<Option<Cron>> {
    match written {
        Some(when) => Ok(when.cron()),
        None => default.parse().map(Some).map_err(Error::usage),
    }
}

fn check_name(name: &str) -> Result<()> {
    let is_name = !name.is_empty()
        && name.len() <= NAME_LENGTH_MAX
        && name.bytes().all(|c| c.is_ascii_alphanumeric() || b"-_".contains(&c));
    match name {
        OTHER_CLASSES => Err(Error::usage(
            "[class.other] cannot be: `other` stands for all classes without a name of their own",
        )
        .with_hint(
            "Write how many of those are kept in [retention.class], and give the class another name.",
        )),
        _ if !is_name => Err(Error::usage(format_args!(
            "class {name:?}: a name has up to {NAME_LENGTH_MAX} letters, digits, - and _"
        ))),
        _ => Ok(()),
    }
}

fn when<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<When>, D::Error> {
    match String::deserialize(deserializer)?.trim() {
        "off" => Ok(Some(When::Off)),
        text => Cron::from_str(text).map(|cron| Some(When::At(cron))).map_err(|why| {
            de::Error::custom(format_args!(
                "{why}. Write five fields, such as \"0 2 * * *\" for each day at 02:00, or \"off\""
            ))
        }),
    }
}

fn jitter<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Duration>, D::Error> {
    match duration::optional(deserializer)? {
        Some(jitter) if jitter > JITTER_MAX => Err(de::Error::custom("a jitter of more than 6h is too much")),
        jitter => Ok(jitter),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::ConfigFile;

    fn read(text: &str) -> Result<Schedules> {
        let file = ConfigFile::parse(text, "c")?;
        Schedules::check(file.schedule, file.class)
    }

    fn shown(schedules: &Schedules) -> Vec<String> {
        let class = |class: &Class| {
            let cron = class.cron.as_ref().map_or("off".to_owned(), Cron::to_string);
            format!("{} {cron}{}", class.name, if class.rescan { " rescan" } else { "" })
        };
        schedules.classes.iter().map(class).collect()
    }

    #[test]
    fn without_a_word_there_are_four_classes() {
        let schedules = read("").unwrap();
        assert_eq!(
            shown(&schedules),
            ["hourly 0 * * * *", "daily 0 2 * * * rescan", "weekly 0 3 * * 0", "monthly 0 4 1 * *"]
        );
        assert_eq!((schedules.zone, schedules.jitter), (Zone::System, Duration::from_secs(60)));
        assert_eq!(schedules.prune.unwrap().to_string(), "30 4 * * 0");
        assert_eq!(schedules.check.unwrap().to_string(), "15 5 * * *");
    }

    #[test]
    fn what_is_written_counts() {
        let text = "[schedule]\ntimezone = \"Europe/Berlin\"\njitter = \"0s\"\nprune = \"off\"\ncheck = \"@weekly\"\n\
                    [class.hourly]\nschedule = \"off\"\n[class.daily]\nrescan = false\n[class.night]\nschedule = \"*/10 0-5 * * *\"\n\
                    [class.api]\nkeep = 3\n";
        let schedules = read(text).unwrap();
        assert_eq!(
            shown(&schedules),
            [
                "hourly off",
                "daily 0 2 * * *",
                "weekly 0 3 * * 0",
                "monthly 0 4 1 * *",
                "api off",
                "night */10 0-5 * * *"
            ]
        );
        assert_eq!(schedules.zone, Zone::Named(chrono_tz::Europe::Berlin));
        assert_eq!((schedules.jitter, &schedules.prune), (Duration::ZERO, &None));
        assert!(schedules.class("night").is_some() && schedules.class("yearly").is_none());
        assert_eq!(
            kept(&ConfigFile::parse(text, "c").unwrap().class),
            BTreeMap::from([("api".to_owned(), 3)])
        );
    }

    #[test]
    fn mistakes_are_named() {
        for (text, words) in [
            ("[class.daily]\nschedule = \"0 2 * *\"", "line 2: \"0 2 * *\" is no schedule: it has 4 fields"),
            ("[class.daily]\nschedule = \"0 0 30 2 *\"", "never comes"),
            ("[class.daily]\nshedule = \"off\"", "unknown key `shedule`"),
            ("[schedule]\ntimezone = \"Berlin\"", "no time zone"),
            ("[schedule]\njitter = \"5\"", "no length of time"),
            ("[schedule]\njitter = \"1d\"", "too much"),
            ("[class.other]\nkeep = 1", "[class.other] cannot be"),
            ("[class.\"a b\"]\nkeep = 1", "up to 32"),
        ] {
            let error = read(text).unwrap_err().to_string();
            assert!(error.contains(words), "{text}: {error}");
        }
    }
}
