//! A part of each destination's data, read and compared: the part that was not read for longest, so that a part each day reads all of it within four
//! weeks. What is damaged is taken from another destination where one has it.

use super::recorder::Recorder;
use crate::check::{CheckOptions, ReadData};
use crate::cli::holdings::{self, Ask};
use crate::cli::session::Session;
use crate::cli::{check, destinations, protection};
use crate::ledger::{Ledger, Verified};
use crate::{Error, Kind, Result};

/// All data is read in so many parts.
const PARTS: u32 = 28;

/// Reads a part at each destination.
///
/// # Errors
/// `Damaged` if something is wrong at one of them, though it may be healed; else the first error of a destination that could not be checked.
pub fn verify(session: &Session, recorder: &Recorder) -> Result<()> {
    let targets = destinations::all(session)?;
    let first = session.open_any()?;
    let known = recorder.with(Ledger::verifications).unwrap_or_default();
    let holdings = holdings::ask(session, &first, None, Ask::Size)?;
    recorder.with(|ledger| protection::see(ledger, &holdings, session.settings.clock.now()));
    let mut worst: Option<Error> = None;
    for target in &targets {
        let part = part_of(&known, &target.name);
        session.output.say(format_args!("{}: reading part {part} of {PARTS}", target.name));
        let options = CheckOptions {
            read_data: ReadData::Part { part: part.into(), parts: PARTS.into() },
            ..CheckOptions::default()
        };
        let checked = target.open_beside(&first).and_then(|repository| {
            let siblings = destinations::siblings(&targets, target, &session.output);
            check::one(session, &repository.with_siblings(siblings), &options, true)
        });
        let (was_read, error) = match checked {
            // What was damaged and is healed is worth a word all the same.
            Ok(checked) => (true, healed(checked)),
            Err(e) if e.kind() == Kind::Interrupted => return Err(e),
            Err(e) => (e.kind() == Kind::Damaged, Some(e)),
        };
        if was_read {
            let at = session.settings.clock.now();
            let message = error.as_ref().map(ToString::to_string);
            let verified =
                Verified { destination: target.name.clone(), part, at, good: error.is_none(), message };
            recorder.with(|ledger| ledger.verify(&verified));
        }
        let error = error.map(|e| e.context(format_args!("destination {}", target.name)));
        let is_worse = worst.as_ref().is_none_or(|worst| worst.kind() != Kind::Damaged);
        if is_worse && error.is_some() {
            worst = error;
        }
    }
    worst.map_or(Ok(()), Err)
}

/// What was wrong, and whether it is healed.
fn healed(checked: check::Checked) -> Option<Error> {
    let damage = checked.damage?;
    Some(match checked.report.verdict() {
        Err(still) => still,
        Ok(()) => Error::new(damage.kind(), format_args!("{damage}; it was healed from another destination"))
            .with_hint("Nothing is lost. Look at the store, or the disk, that damaged it."),
    })
}

/// The part of a destination that was never read, or not for longest; from 1. One that was damaged has every other turn, so that it is known soon when it
/// is whole again.
fn part_of(known: &[Verified], destination: &str) -> u32 {
    let of = || known.iter().filter(|verified| verified.destination == destination);
    let newest = of().map(|verified| verified.at).max();
    let damaged = of().filter(|verified| !verified.good && Some(verified.at) != newest);
    if let Some(damaged) = damaged.min_by_key(|verified| (verified.at, verified.part)) {
        return damaged.part;
    }
    let read = |part: u32| of().find(|verified| verified.part == part).map(|verified| verified.at);
    (1..=PARTS).min_by_key(|part| (read(*part), *part)).unwrap_or(1)
}

#[cfg(test)]
mod tests {
    use chrono::{TimeZone as _, Utc};

    use super::*;

    #[test]
    fn every_part_has_its_turn() {
        let mut known: Vec<Verified> = Vec::new();
        let mut order = Vec::new();
        for day in 0..i64::from(PARTS) * 2 {
            let part = part_of(&known, "disk");
            order.push(part);
            known.retain(|verified| verified.part != part);
            let at = Utc.timestamp_opt(1_800_000_000 + day * 86_400, 0).unwrap();
            let destination = "disk".to_owned();
            known.push(Verified { destination, part, at, good: true, message: None });
        }
        let twice: Vec<u32> = (1..=PARTS).chain(1..=PARTS).collect();
        assert_eq!(order, twice);
        assert_eq!(part_of(&known, "another"), 1);
    }

    #[test]
    fn a_damaged_part_has_every_other_turn() {
        let read = |part, minute: i64, good| Verified {
            destination: "disk".to_owned(),
            part,
            at: Utc.timestamp_opt(1_800_000_000 + minute * 60, 0).unwrap(),
            good,
            message: None,
        };
        assert_eq!(part_of(&[read(1, 0, true), read(2, 1, false)], "disk"), 3);
        assert_eq!(part_of(&[read(1, 0, true), read(2, 1, false), read(3, 2, true)], "disk"), 2);
        assert_eq!(part_of(&[read(1, 0, true), read(2, 3, true), read(3, 2, true)], "disk"), 4);
    }
}
