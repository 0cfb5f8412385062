//! What a restore tells the person who runs it: what is missing or in the way comes with the next step, and counts are what happened.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;

use lifeboat_tests::binary::ended;
use rustix::fs::{FlockOperation, flock};
use rustix::process::{Pid, Signal, kill_process};

use crate::restoring::{Scene, large};
use crate::scene::walk;

#[test]
fn a_target_takes_one_restore_at_a_time() {
    let scene = Scene::of(|source| {
        for name in ["a", "b", "c"] {
            fs::write(source.join(name), large()).unwrap();
        }
    });
    let target = scene.world.path("target");
    fs::create_dir(&target).unwrap();
    let other = fs::File::open(&target).unwrap();
    flock(&other, FlockOperation::LockExclusive).unwrap();
    let said = scene.person.run(&scene.arguments(&[])).expect(11);
    assert!(said.err.contains("another restore into") && said.err.contains("hint: Wait"), "{}", said.err);
    assert_eq!(fs::read_dir(&target).unwrap().count(), 0);
    // To look is not to touch.
    scene.restore(&["--dry-run"], 0);
    drop(other);
    let all = ["--overwrite", "always"];
    let started: Vec<_> = (0..4).map(|_| scene.person.start(&scene.arguments(&all))).collect();
    let codes: Vec<_> = started.into_iter().map(|child| ended(child).code).collect();
    assert!(codes.contains(&Some(0)), "{codes:?}");
    assert!(codes.iter().all(|code| matches!(code, Some(0 | 11))), "{codes:?}");
    scene.assert_restored();
    assert_eq!(scene.partial_names(), [""; 0]);
}

#[test]
fn an_interrupted_restore_says_how_it_goes_on() {
    let scene = Scene::of(|source| {
        for number in 0..4 {
            fs::write(source.join(format!("large{number}")), large()).unwrap();
        }
    });
    let mut child = scene.person.start(&scene.arguments(&[]));
    while scene.partial_names().is_empty() && child.try_wait().unwrap().is_none() {
        std::thread::yield_now();
    }
    kill_process(Pid::from_child(&child), Signal::INT).unwrap();
    let said = ended(child).expect(130);
    assert!(said.err.contains("Run the same command again: it continues"), "{}", said.err);
    scene.restore(&[], 0);
    scene.assert_restored();
}
