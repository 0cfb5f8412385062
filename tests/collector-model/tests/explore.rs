//! Scratch.
use lifeboat_collector_model::guard::Guard::{self, *};
use lifeboat_collector_model::{settings, judge, world::Setting};
use stateright::{Checker, Model};
fn run(label: &str, s: Setting) {
    let name = s.name;
    for p in [judge::ACKNOWLEDGED, judge::VISIBLE, judge::INDEX, judge::FREED] {
        let checker = s.clone().checker().finish_when(stateright::HasDiscoveries::AnyOf([p].into_iter().collect())).target_state_count(3_000_000).spawn_bfs().join();
        match checker.discovery(p) {
            Some(path) => println!("{label} | {name} | {p}: {} steps, {} states", path.into_actions().len(), checker.unique_state_count()),
            None => if p == judge::ACKNOWLEDGED { println!("{label} | {name} | - {} states", checker.unique_state_count()) },
        }
    }
}
#[test]
fn explore() {
    let cas: Vec<Guard> = vec![SessionFirst, DedupShunsTombstoned, ParentShunsTombstoned, ParentStillThere, AdoptShunsTombstoned, CopyShunsTombstoned, RepairHasSession, FenceHeeded, Helping, ForgetRecords, SweepWaits, SnapshotsAfterSessions, MarkedAgain, IndexAgain, AnyTombstoneCounts, TombstoneLast, TombstoneKept, RewriteDropsAll, PlanShunsTombstoned];
    let only = std::env::var("ONLY").unwrap_or_default();
    if only == "cas" {
    for g in cas { for s in settings::all() { run(&format!("{g:?}"), s.removing().without(g)); } }
    }
    if only == "base" {
      for s in settings::all() { run("base", s.removing()); }
      for s in settings::all() { run("base nocas", s.without_cas()); }
      for s in settings::all() { run("base lag", s.lagging().crashes(0)); }
    }
    if only == "nocas" {
    for g in [LookBefore, LookAfter, BeatSinceSent, LatenessLatched, DeadSettles, ParentProved] { for s in [settings::dedup().lacking(2), settings::writers().lacking(2), settings::adopt().lacking(2)] { run(&format!("{g:?}"), s.clone().without_cas()); run(&format!("{g:?}"), s.without_cas().without(g)); } }
    for g in [LagBeforeSessions, LagBeforeSnapshots] { for s in [settings::dedup().lacking(2), settings::parent(), settings::adopt().lacking(2)] { run(&format!("{g:?}"), s.clone().lagging().without(g)); run(&format!("{g:?} nocas"), s.without_cas().lagging().without(g)); } }
    run("punctual", settings::repair().removing().punctual().without(TombstoneKept));
    run("punctual, no session", settings::repair().removing().punctual().without(TombstoneKept).without(RepairHasSession));
    }
}
