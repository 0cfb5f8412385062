//! `provider check` as a person runs it: it tells, and leaves nothing.

use std::collections::BTreeSet;
use std::fs;
use std::path::PathBuf;

use crate::scene::{Scene, walk};

#[test]
fn it_leaves_a_repository_as_it_was() {
    let scene = Scene::backed_up();
    let place = scene.world.path("repository");
    let before: BTreeSet<PathBuf> = walk(&place).into_iter().collect();
    let said = scene.run(&["provider", "check"]).expect(0);
    let said = said.prints("39 of 39 promises hold").prints("does without: ").says("small objects");
    assert!(!said.err.contains("could not be removed"), "{}", said.err);
    let after: BTreeSet<PathBuf> = walk(&place).into_iter().collect();
    assert_eq!(after.difference(&before).collect::<Vec<_>>(), Vec::<&PathBuf>::new());
    assert_eq!(after, before);
}

#[test]
fn a_directory_that_is_not_made_yet_is_called_that() {
    let scene = Scene::new();
    let place = scene.path("later");
    let said = scene.run(&["provider", "check", &place]).expect(10);
    let said = said.says("there is no directory").says("make the directory first");
    assert!(!said.err.contains("repository at"), "{}", said.err);
    fs::create_dir(&place).unwrap();
    scene.run(&["provider", "check", &place]).expect(0);
}
