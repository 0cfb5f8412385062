//! Takes what a check found damaged or missing from other destinations.

use std::collections::BTreeSet;

use lifeboat_providers::Key;

use super::Report;
use crate::repository::{Repository, layout};
use crate::session::process::host_name;
use crate::session::{self, Role};

/// Heals every object that the report names and another destination has intact; returns how many there were to heal, and how many were.
pub fn heal(repository: &Repository, report: &Report) -> (u64, u64) {
    let named: BTreeSet<Key> = report
        .damages
        .iter()
        // Of a damaged segment the whole pack is named, and more after a comma.
        .filter_map(|damage| layout::parse(damage.object.split(',').next().unwrap_or_default()))
        .filter(|key| layout::sha256_of(key).is_ok())
        .collect();
    if named.is_empty() {
        return (0, 0);
    }
    // What is written back counts from then on: nobody may be deleting what it needs.
    let session = match session::open(repository, &host_name(), Role::Writer) {
        Ok(session) => session,
        Err(e) => {
            repository.siblings().tell(format!("nothing can be healed: {e}"));
            return (named.len() as u64, 0);
        }
    };
    let healed = named.iter().filter(|key| repository.heal(key).is_some()).count();
    if let Err(e) = session.close() {
        repository.siblings().tell(format!("{e}. What was healed stays so."));
    }
    (named.len() as u64, healed as u64)
}
