//! A process is killed (SIGKILL) at every call of the store, and at every step of every write of the local store.

use std::path::Path;
use std::process::Command;
use std::sync::Arc;

use lifeboat_agent::seal::Cipher;
use lifeboat_providers::local::LocalProvider;
use lifeboat_tests::random::Random;
use lifeboat_tests::seen::see;
use lifeboat_tests::victim::victim;
use lifeboat_tests::world::{World, backup_all, create, open};
use lifeboat_tests::{grow, proof};

fn copy_store(from: &Path, to: &Path) {
    let done = Command::new("cp").arg("-a").arg(from).arg(to).status().unwrap();
    assert!(done.success());
}

fn killed_at_every(how: &str) {
    let mut random = Random::new(11);
    let world = World::new();
    let base = world.path("base");
    let first_store = Arc::new(LocalProvider::create(&base).unwrap());
    let repository = create(first_store, &world.machine("first"), Cipher::default());
    grow::grow(&world.source(), 10, &mut random);
    let first_tree = see(&world.source());
    let first = backup_all(&repository, &world.source());
    for number in 0..3 {
        grow::file(&world.source().join(format!("new{number}")), 40_000, &mut random);
    }
    grow::edit(&world.source(), 5, &mut random);
    let tree = see(&world.source());
    let counting = world.path("counting");
    copy_store(&base, &counting);
    let (lived, calls) = victim(&world, &counting, "counting", how, 0);
    assert!(lived && calls > 10, "{calls}");
    for call in 1..=calls {
        let when = format!("killed {how} {call} of {calls}");
        let (store, machine) = (world.path(&when), world.machine(&when));
        copy_store(&base, &store);
        let (lived, _) = victim(&world, &store, &when, how, call);
        // Threads may take another order, so that the last calls may not come; all others must kill.
        assert!(!lived || call + 2 >= calls, "{when}: it lived");
        let store = Arc::new(LocalProvider::open(&store).unwrap());
        let repository = open(store.clone(), &machine).unwrap();
        proof::assert_whole(&repository, &when);
        world.restored(&repository, &first).assert_equals(&first_tree, &when);
        let acknowledged = proof::places(&repository);
        let snapshot = backup_all(&repository, &world.source());
        world.restored(&repository, &snapshot).assert_equals(&tree, &when);
        proof::assert_whole(&repository, &format!("{when}, after the next backup"));
        // All that lay in a pack when the process died was used, not stored again.
        let places = proof::places(&repository);
        let twice = acknowledged.keys().filter(|id| places[*id].len() > 1).count();
        assert_eq!(twice, 0, "{when}: {twice} chunks were stored again");
        let left = lifeboat_tests::objects::keys_in(&lifeboat_tests::objects::read_all(&*store), "sessions");
        assert!(left.is_empty(), "{when}: sessions are left over: {left:?}");
    }
}

#[test]
fn before_every_call() {
    killed_at_every("before");
}

#[test]
fn after_every_call() {
    killed_at_every("after");
}

#[test]
fn at_every_step_of_every_write() {
    killed_at_every("step");
}
