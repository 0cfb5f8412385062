//! Each rule of the protocol is taken out, and the checker has to find the bug that it keeps away. `--nocapture` shows the schedules.

use lifeboat_collector_model::check::{counterexample, prove};
use lifeboat_collector_model::guard::Guard;
use lifeboat_collector_model::judge::{ACKNOWLEDGED, FREED, INDEX, NO_RESIDUE, VISIBLE};
use lifeboat_collector_model::settings as s;
use lifeboat_collector_model::world::Setting;

/// Fails unless the property holds with the rule and not without it.
fn needs(setting: &Setting, guard: Guard, property: &'static str) {
    assert_eq!(counterexample(setting, property), None, "it does not hold with {guard:?} either");
    let schedule = counterexample(&setting.clone().without(guard), property);
    let schedule = schedule.unwrap_or_else(|| unreachable!("it holds without {guard:?} as well"));
    println!("without {guard:?}, {schedule}");
}

fn two() -> Setting {
    s::dedup().lacking(2)
}

#[test]
fn the_session_is_put_before_anything_is_listed() {
    needs(&two(), Guard::SessionFirst, ACKNOWLEDGED);
}

#[test]
fn nothing_is_deduplicated_against_tombstoned_packs() {
    needs(&two(), Guard::DedupShunsTombstoned, ACKNOWLEDGED);
}

#[test]
fn who_saw_a_tombstone_asks_for_what_its_parent_had() {
    needs(&s::parent_in_tombstone(), Guard::ParentProbed, ACKNOWLEDGED);
}

#[test]
fn it_asks_for_all_of_it() {
    needs(&s::parent_in_tombstone(), Guard::ParentProbesAll, ACKNOWLEDGED);
}

#[test]
fn tombstoned_packs_are_not_adopted() {
    needs(&s::adopt().lacking(2), Guard::AdoptShunsTombstoned, ACKNOWLEDGED);
}

#[test]
fn nothing_is_copied_under_a_tombstoned_name() {
    needs(&s::copy().lacking(2), Guard::CopyShunsTombstoned, ACKNOWLEDGED);
}

/// Tombstones that stay cover for this one, as far as nobody repairs for a month. So both are taken out, where nobody is slow.
#[test]
fn repair_index_has_a_session() {
    let setting = s::repair().removing().punctual().without(Guard::TombstoneKept);
    needs(&setting, Guard::RepairHasSession, ACKNOWLEDGED);
}

#[test]
fn the_fence_is_heeded() {
    needs(&two(), Guard::FenceHeeded, ACKNOWLEDGED);
}

#[test]
fn a_committed_snapshot_is_put_by_who_finds_it() {
    needs(&two(), Guard::Helping, ACKNOWLEDGED);
}

#[test]
fn a_forgotten_snapshot_does_not_come_back() {
    needs(&s::writers().lacking(1), Guard::ForgetRecords, VISIBLE);
}

#[test]
fn the_sweep_waits_for_sessions() {
    needs(&two(), Guard::SweepWaits, ACKNOWLEDGED);
}

#[test]
fn the_sweep_lists_snapshots_after_sessions() {
    needs(&two(), Guard::SnapshotsAfterSessions, ACKNOWLEDGED);
}

#[test]
fn the_sweep_marks_again() {
    needs(&two(), Guard::MarkedAgain, ACKNOWLEDGED);
}

#[test]
fn the_sweep_loads_the_index_again() {
    needs(&s::adopt().lacking(2), Guard::IndexAgain, FREED);
}

#[test]
fn a_copy_that_any_tombstone_names_is_no_copy() {
    needs(&s::duplicate().lacking(2), Guard::AnyTombstoneCounts, ACKNOWLEDGED);
}

#[test]
fn the_tombstone_goes_after_the_index_was_rewritten() {
    needs(&two().removing(), Guard::TombstoneLast, ACKNOWLEDGED);
}

/// A dead writer's shard comes late, and names what is gone.
#[test]
fn a_tombstone_outlives_late_shards() {
    needs(&s::adopt().lacking(2).removing(), Guard::TombstoneKept, INDEX);
}

/// A dead collector's request to delete comes late, after `sync` brought the pack again.
#[test]
fn a_tombstone_outlives_late_deletions() {
    needs(&s::copy().removing().crashes(0), Guard::TombstoneKept, ACKNOWLEDGED);
}

/// Who reads before it puts its session knows by a tombstone that packs went meanwhile.
#[test]
fn a_tombstone_outlives_early_listings() {
    let setting = two().early().removing().punctual().crashes(0);
    needs(&setting, Guard::TombstoneKept, ACKNOWLEDGED);
}

#[test]
fn a_rewritten_shard_leaves_out_only_what_is_gone() {
    needs(&s::copy().removing().crashes(0), Guard::RewriteDropsOnlyGone, ACKNOWLEDGED);
}

#[test]
fn what_lies_only_in_tombstoned_packs_is_copied() {
    needs(&s::duplicate().lacking(2), Guard::PlanShunsTombstoned, FREED);
}

#[test]
fn without_conditional_create_the_writer_looks_before_it_puts() {
    needs(&two().without_cas(), Guard::LookBefore, VISIBLE);
}

#[test]
fn without_conditional_create_the_writer_looks_again() {
    needs(&two().without_cas(), Guard::LookAfter, ACKNOWLEDGED);
}

#[test]
fn without_conditional_create_a_beat_counts_from_before_its_request() {
    needs(&two().without_cas(), Guard::BeatSinceSent, ACKNOWLEDGED);
}

#[test]
fn without_conditional_create_who_was_late_stays_late() {
    needs(&two().without_cas(), Guard::LatenessLatched, ACKNOWLEDGED);
}

#[test]
fn without_conditional_create_the_dead_are_given_time() {
    needs(&two().without_cas(), Guard::DeadSettles, VISIBLE);
}

/// As long as a tombstone names what is missing, a parent is asked for anyway; so this is about the time after that.
#[test]
fn without_conditional_create_a_parent_is_proved() {
    needs(
        &s::writers().lacking(2).without_cas().removing().nothing_in_flight(),
        Guard::ParentProved,
        ACKNOWLEDGED,
    );
}

/// The one thing that remains: [`VISIBLE`] excepts it and nothing else, and holds.
#[test]
fn without_conditional_create_there_is_a_residue_that_nobody_was_promised() {
    let setting = two().without_cas();
    let schedule = counterexample(&setting, NO_RESIDUE);
    let schedule = schedule.unwrap_or_else(|| unreachable!("the model no longer shows what RFC 4 names"));
    println!("{schedule}");
    assert!(schedule.contains("is suspended for the stale time"), "another residue: {schedule}");
    prove(&setting).unwrap();
}

#[test]
fn where_listings_lag_sessions_are_listed_two_waits_after_the_tombstone() {
    needs(&two().lagging(), Guard::LagBeforeSessions, ACKNOWLEDGED);
}

#[test]
fn where_listings_lag_snapshots_are_listed_a_wait_after_sessions() {
    needs(&two().lagging(), Guard::LagBeforeSnapshots, ACKNOWLEDGED);
}

#[test]
fn where_listings_lag_and_nothing_is_conditional_both_waits_are_needed() {
    needs(&two().lagging().without_cas(), Guard::LagBeforeSessions, ACKNOWLEDGED);
    needs(&two().lagging().without_cas(), Guard::LagBeforeSnapshots, ACKNOWLEDGED);
}
