//! With all rules in, every property holds in every state that can be reached. The settings that take minutes are ignored:
//! `cargo test --release -p lifeboat-collector-model -- --ignored --nocapture`.

use std::time::Instant;

use lifeboat_collector_model::check::prove;
use lifeboat_collector_model::settings as s;
use lifeboat_collector_model::world::Setting;

fn all_hold(kind: &str, settings: impl IntoIterator<Item = Setting>) {
    for setting in settings {
        let begun = Instant::now();
        let states = prove(&setting).unwrap_or_else(|broken| unreachable!("{kind}, {broken}"));
        println!("{kind}, {}: {states} states, {:.1?}", setting.name, begun.elapsed());
    }
}

#[test]
fn it_holds_with_conditional_create() {
    all_hold("conditional create", s::small());
    all_hold("two writers", [s::writers().lacking(2)]);
}

#[test]
fn it_holds_when_tombstones_are_removed() {
    all_hold("tombstones removed", s::small().map(Setting::removing));
}

#[test]
fn it_holds_without_conditional_create() {
    all_hold("no conditional create", s::small().map(Setting::without_cas));
}

#[test]
fn it_holds_where_listings_lag() {
    all_hold("lag", s::small().map(Setting::lagging));
    all_hold("lag, no conditional create", s::small().map(Setting::lagging).map(Setting::without_cas));
}

#[test]
fn it_holds_for_writers_that_read_before_they_put_their_session() {
    all_hold("early", s::small().map(|setting| setting.early().removing()));
    all_hold("early, no conditional create", s::small().map(Setting::early).map(Setting::without_cas));
    all_hold("early, lag", s::small().map(Setting::early).map(Setting::lagging));
}

#[test]
fn it_holds_where_two_collectors_remove_a_pack_that_is_copied_again() {
    all_hold("conditional create", [s::copy().removing().crashes(0)]);
}

#[test]
#[ignore = "minutes; all processes at once"]
fn it_holds_with_all_processes() {
    all_hold("tombstones removed", s::all().map(Setting::removing));
    all_hold("no conditional create", s::all().map(Setting::without_cas));
}

#[test]
#[ignore = "minutes; all processes at once, where listings lag"]
fn it_holds_with_all_processes_where_listings_lag() {
    all_hold("lag", s::all().map(|setting| setting.lagging().crashes(0)));
}

#[test]
#[ignore = "minutes; two crashes"]
fn it_holds_with_two_crashes() {
    all_hold("two crashes", s::all().map(|setting| setting.removing().crashes(2)));
}
