//! Since when this machine sees something unchanged, by its own clock, over all its runs: the only way in which a machine that is not there
//! to be asked is ever taken for dead.
//!
//! Kept in the state directory. What is lost is observed anew, which only makes everybody wait longer.

use std::collections::{BTreeMap, HashSet};
use std::fs::{self, File};
use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::clock::Clock;
use crate::repository::state::{lock, machine, write_atomically};
use crate::repository::{Directories, Repository};
use crate::{Error, Result};

const FILE: &str = "observed.json";
const LOCK_FILE: &str = "observed.lock";

/// What this machine has seen of one repository at one place; locked against its other processes while it is held.
#[derive(Debug)]
pub struct Observations {
    all: Stored,
    place: String,
    boot: String,
    path: PathBuf,
    _lock: File,
}

#[derive(Debug, Default, Serialize, Deserialize)]
struct Stored {
    /// The machine that observed: a copy of the file on another one says nothing there.
    machine: String,
    places: BTreeMap<String, BTreeMap<String, Seen>>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Seen {
    /// What it looked like.
    token: String,
    /// Seconds for which it is known to have looked like that.
    seconds: u64,
    /// The boot in which it was last looked at.
    boot: String,
    /// Seconds between that boot and the last look.
    boot_seconds: u64,
    /// The wall clock then, in seconds since 1970.
    wall_seconds: u64,
}

impl Observations {
    /// Opens what was seen of a repository; made anew if it cannot be read or was seen by another machine.
    ///
    /// # Errors
    /// If the state directory cannot be made or locked.
    pub fn open(repository: &Repository) -> Result<Self> {
        Self::open_in(repository.directories(), repository.timing().process.boot.clone())
    }

    fn open_in(directories: &Directories, boot: String) -> Result<Self> {
        let lock = lock(directories, LOCK_FILE)?;
        let path = directories.state.join(FILE);
        let read = fs::read(&path).ok().and_then(|bytes| serde_json::from_slice::<Stored>(&bytes).ok());
        let fresh = || Stored { machine: machine(), places: BTreeMap::new() };
        let all = read.filter(|stored| stored.machine == machine()).unwrap_or_else(fresh);
        Ok(Self { all, place: directories.place.clone(), boot, path, _lock: lock })
    }

    /// Notes that `name` looks like `token` now, and returns for how long it is known to have done so: at least that long.
    ///
    /// After a reboot the time between the last look and the boot is not counted, and of what is counted the lesser of both clocks: neither
    /// a wall clock that jumps nor a file that another machine shares makes anything look older than it is.
    pub fn see(&mut self, name: &str, token: &str, clock: &dyn Clock) -> Duration {
        let (boot_seconds, wall_seconds) = (clock.boot_time().as_secs(), clock.wall_time().as_secs());
        let known = self.all.places.entry(self.place.clone()).or_default();
        let seen = known.entry(name.to_owned()).or_insert_with(|| Seen {
            token: token.to_owned(),
            seconds: 0,
            boot: self.boot.clone(),
            boot_seconds,
            wall_seconds,
        });
        let passed = if seen.boot == self.boot && !self.boot.is_empty() {
            boot_seconds.saturating_sub(seen.boot_seconds)
        } else {
            boot_seconds.min(wall_seconds.saturating_sub(seen.wall_seconds))
        };
        let seconds = if seen.token == token { seen.seconds.saturating_add(passed) } else { 0 };
        *seen =
            Seen { token: token.to_owned(), seconds, boot: self.boot.clone(), boot_seconds, wall_seconds };
        Duration::from_secs(seconds)
    }

    /// Forgets what begins with `prefix` and is not among `names`: it is not there any more.
    pub fn retain(&mut self, prefix: &str, names: &HashSet<String>) {
        if let Some(known) = self.all.places.get_mut(&self.place) {
            known.retain(|name, _| !name.starts_with(prefix) || names.contains(name));
        }
    }

    /// Writes it back, atomically and durably.
    ///
    /// # Errors
    /// If it cannot be written. Nothing else depends on it: what is not remembered is observed anew.
    pub fn save(&self) -> Result<()> {
        let json = serde_json::to_vec_pretty(&self.all).map_err(|e| Error::failed(e.to_string()))?;
        write_atomically(&self.path, &json)
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::TurnedClock;
    use super::*;

    fn at(dir: &std::path::Path, place: &str) -> Directories {
        Directories { cache: dir.join("cache"), state: dir.join("state"), place: place.to_owned() }
    }

    #[test]
    fn the_time_something_is_unchanged_adds_up_over_processes_and_boots() {
        let dir = tempfile::tempdir().unwrap();
        let clock = TurnedClock::default();
        let see = |place: &str, boot: &str, token: &str| {
            let mut observations = Observations::open_in(&at(dir.path(), place), boot.to_owned()).unwrap();
            let seconds = observations.see("session", token, &clock).as_secs();
            observations.save().unwrap();
            seconds
        };
        assert_eq!(see("a", "one", "x"), 0);
        clock.pass(100);
        assert_eq!((see("a", "one", "x"), see("b", "one", "x")), (100, 0));
        clock.pass(50);
        assert_eq!((see("a", "one", "x"), see("b", "one", "x")), (150, 50));
        // What changed is observed anew.
        assert_eq!(see("a", "one", "y"), 0);
        clock.pass(10);
        assert_eq!(see("a", "one", "y"), 10);
        // After a boot: its own time counts, not what the wall clock says of the time between.
        clock.reboot(7);
        clock.jump(1_000_000);
        assert_eq!(see("a", "two", "y"), 17);
        // A file that two machines share: the other one's long uptime says nothing.
        clock.reboot(1_000_000);
        clock.jump(3);
        assert_eq!(see("a", "three", "y"), 20);
        clock.jump_back(500);
        clock.pass(4);
        assert_eq!(see("a", "three", "y"), 24);
    }

    #[test]
    fn what_cannot_be_read_or_is_another_machines_is_observed_anew() {
        let dir = tempfile::tempdir().unwrap();
        let clock = TurnedClock::default();
        let directories = at(dir.path(), "a");
        let see = || {
            let mut observations = Observations::open_in(&directories, "boot".to_owned()).unwrap();
            let seconds = observations.see("session", "x", &clock).as_secs();
            observations.save().unwrap();
            seconds
        };
        see();
        clock.pass(9);
        assert_eq!(see(), 9);
        let file = directories.state.join(FILE);
        let text = fs::read_to_string(&file).unwrap();
        fs::write(&file, text.replace(&machine(), "ffff")).unwrap();
        clock.pass(9);
        assert_eq!(see(), 0);
        fs::write(&file, "{").unwrap();
        assert_eq!(see(), 0);
    }
}
