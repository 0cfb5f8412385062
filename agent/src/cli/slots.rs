//! Key slots of all destinations: the commands that change one bring the change to all, and say where it could not be brought.

use std::process::ExitCode;

use super::EXIT_INCOMPLETE;
use super::destinations;
use super::holdings::Holding;
use super::session::{Session, Target};
use super::text::count;
use crate::repository::Repository;
use crate::seal::slot::Secret;
use crate::sync::slots::{self, SlotChanges};
use crate::{Error, Result};

/// The destination that a command changes, and all others.
pub struct Everywhere {
    /// The one that was named, or the first.
    pub repository: Repository,
    /// What opened it.
    pub secret: Secret,
    name: String,
    others: Vec<destinations::OpenedOther>,
}

impl Everywhere {
    /// Opens all of them; one of the others that cannot be opened ends nothing.
    ///
    /// # Errors
    /// As [`Session::open_with_secret`].
    pub fn open(session: &Session) -> Result<Self> {
        let (repository, secret) = session.open_with_secret()?;
        let targets = destinations::all(session)?;
        let name = targets.first().map_or_else(String::new, |target| target.name.clone());
        let others = destinations::open_others(&repository, targets.get(1..).unwrap_or_default());
        Ok(Self { repository, secret, name, others })
    }

    /// Makes all of them have the same slots. Returns the names of those where that failed, which is said.
    pub fn agree(&self, session: &Session) -> Vec<String> {
        let first = std::iter::once((&self.name, Ok(&self.repository)));
        let others = self.others.iter().map(|other| (&other.name, other.repository.as_ref()));
        agree(session, first.chain(others).collect(), Some(&self.name))
    }
}

/// Makes the origin of a sync and its targets have the same slots. Returns how many could not be brought to that, which is said.
pub fn sync(session: &Session, origin: &Target, from: &Repository, targets: &[Target]) -> usize {
    let others = destinations::open_others(from, targets);
    let first = std::iter::once((&origin.name, Ok(from)));
    // One that cannot be opened is spoken of when snapshots are to be brought there.
    let others = others.iter().filter_map(|other| Some((&other.name, Ok(other.repository.as_ref().ok()?))));
    agree(session, first.chain(others).collect(), None).len()
}

/// Brings them to agree. What was done at `own` is told by who did it.
fn agree(
    session: &Session,
    places: Vec<(&String, Result<&Repository, &Error>)>,
    own: Option<&String>,
) -> Vec<String> {
    let reached: Vec<&Repository> = places.iter().filter_map(|(_, place)| place.ok()).collect();
    if places.len() < 2 {
        return Vec::new();
    }
    let mut outcomes = slots::agree(&reached).into_iter();
    let mut failed = Vec::new();
    for (name, place) in places {
        let outcome = match place {
            Ok(_) => outcomes.next().unwrap_or_else(|| Err(Error::failed("it was passed over"))),
            Err(e) => Err(Error::new(e.kind(), e)),
        };
        match outcome {
            Ok(changes) if own != Some(name) => tell(session, name, changes),
            Ok(_) => {}
            Err(e) => {
                session.output.warning(format_args!(
                    "the key slots at the destination {name} were not brought up: {e}"
                ));
                failed.push(name.clone());
            }
        }
    }
    failed
}

fn tell(session: &Session, name: &str, changes: SlotChanges) {
    let slots = |number: u64| count(number, "key slot", "key slots");
    let parts = [(changes.added, "added"), (changes.removed, "removed")];
    for (number, done) in parts.into_iter().filter(|(number, _)| *number > 0) {
        session.output.say(format_args!("{name}: {} {done}.", slots(number)));
    }
}

/// How a command that changed slots ends: where the change could not be brought, what brings it is said.
pub fn ending(session: &Session, failed: &[String], next: &str) -> ExitCode {
    if failed.is_empty() {
        return ExitCode::SUCCESS;
    }
    session.output.warning(format_args!("the change is not complete at {}: {next}", failed.join(", ")));
    ExitCode::from(EXIT_INCOMPLETE)
}

/// Says which destinations have other slots than the others; whether any has.
pub fn differ(session: &Session, holdings: &[Holding]) -> bool {
    let held = || holdings.iter().filter_map(|holding| Some((holding, holding.held.as_ref().ok()?)));
    let names: Vec<_> = held().filter_map(|(_, held)| held.slots.as_ref()).collect();
    let asked = held().filter(|(_, held)| held.slots.is_some());
    let mut differ = false;
    for ((holding, _), difference) in asked.zip(slots::differences(&names)) {
        let parts = [
            (difference.lacking, "does not have", "that another one has"),
            (
                difference.stale,
                "still has",
                "that was removed elsewhere: it still opens the repository there",
            ),
        ];
        for (number, verb, what) in parts.into_iter().filter(|(number, ..)| *number > 0) {
            differ = true;
            session.output.warning(format_args!(
                "the destination {} {verb} {} {what}. `lifeboat sync` brings all to the same",
                holding.name,
                count(number, "key slot", "key slots")
            ));
        }
    }
    differ
}
