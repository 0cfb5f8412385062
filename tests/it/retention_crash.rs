//! Forgetting is cut off at every call of the store: what was recorded stays forgotten, what was not stays there, and no check is troubled.

use std::sync::Arc;

use lifeboat_agent::repository::{Area, Repository};
use lifeboat_agent::seal::Cipher;
use lifeboat_agent::snapshot::forget::RECORDS_MAX;
use lifeboat_agent::snapshot::labels::LabelState;
use lifeboat_providers::ErrorKind;
use lifeboat_providers::layer::FaultProvider;
use lifeboat_providers::layer::fault::{Fault, Rule, When};
use lifeboat_providers::memory::MemoryProvider;
use lifeboat_tests::objects::{Objects, read_all, store_of};
use lifeboat_tests::proof;
use lifeboat_tests::world::{World, backup_all, create, open};

const LEFT: usize = 6;

/// As many records as there may be, some snapshots that are left, and a pin on the first of them.
fn scene(world: &World) -> Objects {
    let store = Arc::new(MemoryProvider::new());
    let repository = create(store.clone(), &world.machine("own"), Cipher::default());
    std::fs::write(world.source().join("file"), "content").unwrap();
    let manifest = backup_all(&repository, &world.source()).manifest;
    for _ in 0..RECORDS_MAX + LEFT - 1 {
        lifeboat_tests::world::append(&repository, manifest.clone());
    }
    for _ in 0..RECORDS_MAX {
        let history = repository.load_history().unwrap();
        repository.forget(&[&history.snapshots[0]], "test").unwrap();
    }
    let history = repository.load_history().unwrap();
    let state = LabelState { pinned: true, tags: Vec::new() };
    let label = repository.seal_label(&history.labels, &history.snapshots[0].id, &state, "test").unwrap();
    repository.store_label(&label).unwrap();
    read_all(&*store)
}

fn records(repository: &Repository) -> usize {
    repository.store().list(&Area::Forgotten.prefix()).unwrap().len()
}

/// Forgets the first two.
fn forget(repository: &Repository) -> lifeboat_agent::Result<()> {
    let history = repository.load_history()?;
    let doomed: Vec<_> = history.snapshots.iter().take(2).collect();
    repository.forget(&doomed, "test")
}

#[test]
fn many_records_become_one() {
    let world = World::new();
    let repository = open(store_of(&scene(&world)), &world.machine("own")).unwrap();
    assert_eq!(
        (records(&repository), repository.load_history().unwrap().snapshots.len()),
        (RECORDS_MAX, LEFT)
    );
    forget(&repository).unwrap();
    let history = repository.load_history().unwrap();
    assert_eq!((records(&repository), history.snapshots.len()), (1, LEFT - 2));
    assert_eq!(history.forgotten.len(), RECORDS_MAX + 2);
    assert_eq!(repository.store().list(&Area::Labels.prefix()).unwrap().len(), 0);
    proof::assert_whole(&repository, "one record");
}

#[test]
fn cut_off_at_every_call() {
    let world = World::new();
    let objects = scene(&world);
    let counting = Arc::new(FaultProvider::new(store_of(&objects)));
    let calls = {
        let repository = open(counting.clone(), &world.machine("counting")).unwrap();
        let before = counting.calls_in_all();
        forget(&repository).unwrap();
        before..counting.calls_in_all()
    };
    assert!(calls.end - calls.start > RECORDS_MAX as u64, "{calls:?}");
    let (mut failed, mut both) = (0, 0);
    for call in calls {
        for (effect, fault) in [
            ("before", Fault::FailBefore(ErrorKind::Denied)),
            ("after", Fault::FailAfter(ErrorKind::Transient)),
        ] {
            let when = format!("failing {effect} call {call} and all that follow");
            let store = store_of(&objects);
            let rule = Rule::new(None, When::From(call + 1), fault);
            let faulty = Arc::new(FaultProvider::new(store.clone()).with_rule(rule));
            let machine = world.machine(&format!("at {call}"));
            failed += u64::from(open(faulty, &machine).and_then(|repository| forget(&repository)).is_err());
            let repository = open(store, &machine).unwrap();
            // Snapshots that are recorded and could not be removed yet are no damage.
            let report = proof::check(&repository);
            assert!(report.verdict().is_ok(), "{when}: {report:?}");
            let history = repository.load_history().unwrap();
            let left = history.snapshots.len();
            assert!(left == LEFT || left == LEFT - 2, "{when}: {left}");
            assert_eq!(history.forgotten.len(), RECORDS_MAX + LEFT - left, "{when}");
            assert!(left == LEFT - 2 || history.snapshots[0].pinned, "{when}");
            both += u64::from((2..=RECORDS_MAX).contains(&records(&repository)) && left < LEFT);
            // The next one goes on.
            forget(&repository).unwrap();
            assert_eq!(repository.load_history().unwrap().snapshots.len(), left - 2, "{when}");
            assert!(records(&repository) <= RECORDS_MAX, "{when}");
            proof::assert_whole(&repository, &when);
        }
    }
    assert!(failed > RECORDS_MAX as u64 && both > RECORDS_MAX as u64 / 2, "{failed} {both}");
}
