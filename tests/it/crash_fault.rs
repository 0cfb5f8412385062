//! The store fails at every single call of a backup in turn: nothing that was there is lost, and the next backup succeeds.

use std::sync::Arc;

use lifeboat_agent::seal::Cipher;
use lifeboat_agent::snapshot::Snapshot;
use lifeboat_providers::layer::fault::{Fault, Rule, When};
use lifeboat_providers::layer::{FaultProvider, Operation};
use lifeboat_providers::memory::MemoryProvider;
use lifeboat_providers::{ErrorKind, Prefix};
use lifeboat_tests::grow;
use lifeboat_tests::objects::{Objects, read_all, store_of};
use lifeboat_tests::proof;
use lifeboat_tests::random::Random;
use lifeboat_tests::seen::{Tree, see};
use lifeboat_tests::world::{World, backup, backup_all, create, open, options};

/// A repository with one snapshot, and a source that has changed since.
struct Scene {
    world: World,
    objects: Objects,
    first: Snapshot,
    first_tree: Tree,
    tree: Tree,
}

impl Scene {
    fn new(seed: u64) -> Self {
        let mut random = Random::new(seed);
        let world = World::new();
        let store = Arc::new(MemoryProvider::new());
        let repository = create(store.clone(), &world.machine("first"), Cipher::default());
        grow::grow(&world.source(), 15, &mut random);
        let first_tree = see(&world.source());
        let first = backup_all(&repository, &world.source());
        for number in 0..4 {
            grow::file(&world.source().join(format!("new{number}")), 50_000, &mut random);
        }
        grow::edit(&world.source(), 10, &mut random);
        let tree = see(&world.source());
        Self { world, objects: read_all(&*store), first, first_tree, tree }
    }

    /// Backs up with `rule` in force, then without, and looks at everything. Returns whether the first of the two succeeded.
    fn survives(&self, rule: Rule, when: &str) -> bool {
        let store = store_of(&self.objects);
        let machine = self.world.machine(&when.replace('/', " "));
        let faulty = Arc::new(FaultProvider::new(store.clone()).with_rule(rule));
        let done = open(faulty, &machine)
            .and_then(|repository| backup(&repository, &self.world.source(), &options()))
            .inspect_err(|e| assert_ne!(e.to_string(), "", "{when}"))
            .is_ok();
        self.inspect(&store, when);
        done
    }

    fn inspect(&self, store: &Arc<MemoryProvider>, when: &str) {
        let machine = self.world.machine(&when.replace('/', " "));
        let repository = open(store.clone(), &machine).unwrap();
        proof::assert_whole(&repository, &format!("{when}, at once"));
        self.world.restored(&repository, &self.first).assert_equals(&self.first_tree, when);
        let snapshot = backup_all(&repository, &self.world.source());
        self.world.restored(&repository, &snapshot).assert_equals(&self.tree, when);
        proof::assert_whole(&repository, &format!("{when}, after the next backup"));
        let stranger =
            open(store.clone(), &self.world.machine(&format!("{} stranger", when.replace('/', " "))))
                .unwrap();
        proof::assert_whole(&stranger, &format!("{when}, for another machine"));
    }

    /// How many calls a backup makes.
    fn calls(&self) -> u64 {
        let counting = Arc::new(FaultProvider::new(store_of(&self.objects)));
        let repository = open(counting.clone(), &self.world.machine("counting")).unwrap();
        backup_all(&repository, &self.world.source());
        counting.calls_in_all()
    }
}

fn fails_at_every_call(when: impl Fn(u64) -> When, fault: &Fault, name: &str) {
    let scene = Scene::new(1);
    let calls = scene.calls();
    assert!(calls > 15, "only {calls} calls: the scene is too small to say anything");
    let mut failed = 0;
    for call in 1..=calls {
        let rule = Rule::new(None, when(call), fault.clone());
        failed += u64::from(!scene.survives(rule, &format!("{name} at call {call} of {calls}")));
    }
    // Listings that fail ahead of their time are asked for again, and a session that cannot be removed is a warning: those faults are survived.
    assert!(failed * 3 > calls, "only {failed} of {calls} faults did anything");
}

#[test]
fn one_call_fails_without_effect() {
    fails_at_every_call(When::Call, &Fault::FailBefore(ErrorKind::Denied), "failing once");
}

#[test]
fn one_call_fails_after_its_effect() {
    fails_at_every_call(When::Call, &Fault::FailAfter(ErrorKind::Transient), "failing after its effect");
}

#[test]
fn the_store_is_gone_from_a_call_on() {
    fails_at_every_call(When::From, &Fault::FailBefore(ErrorKind::Transient), "gone");
}

#[test]
fn the_store_does_and_denies_from_a_call_on() {
    fails_at_every_call(When::From, &Fault::FailAfter(ErrorKind::Transient), "denying");
}

/// Every folder's puts alone, so that each kind of object is the first to fail.
#[test]
fn puts_of_one_kind_of_object_fail() {
    let scene = Scene::new(2);
    for folder in ["sessions", "packs", "meta", "index", "snapshots"] {
        for fault in [Fault::FailBefore(ErrorKind::Quota), Fault::FailAfter(ErrorKind::Transient)] {
            let effect = if matches!(fault, Fault::FailBefore(_)) { "before" } else { "after" };
            let rule =
                Rule::new(Operation::Put, When::Always, fault).in_folder(Prefix::folder(folder).unwrap());
            let done = scene.survives(rule, &format!("puts into {folder} fail {effect}"));
            assert!(!done, "a backup whose puts into {folder} fail cannot succeed");
        }
    }
}

/// What was acknowledged before a failure is not uploaded again: no chunk lies in two packs.
#[test]
fn a_run_after_a_failure_uploads_nothing_twice() {
    let scene = Scene::new(3);
    let calls = scene.calls();
    for call in 1..=calls {
        let store = store_of(&scene.objects);
        let machine = scene.world.machine(&format!("twice {call}"));
        let rule = Rule::new(Operation::Put, When::Call(call), Fault::FailBefore(ErrorKind::Denied));
        let faulty = Arc::new(FaultProvider::new(store.clone()).with_rule(rule));
        let repository = open(faulty, &machine).unwrap();
        let _ = backup(&repository, &scene.world.source(), &options());
        let repository = open(store.clone(), &machine).unwrap();
        backup_all(&repository, &scene.world.source());
        let twice: Vec<_> =
            proof::places(&repository).into_iter().filter(|(_, packs)| packs.len() > 1).collect();
        assert!(twice.is_empty(), "put {call} fails: {} chunks lie in several packs: {twice:?}", twice.len());
    }
}
