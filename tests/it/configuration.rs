//! The configuration file: who may write it, and what it may say of the key.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;

use lifeboat_tests::binary::Person;
use lifeboat_tests::grow;

use crate::scene::Scene;

/// A person with the scene's repository and no key but what their configuration names; and that file.
fn configured(scene: &Scene, text: &str) -> (Person, String) {
    let person = Person::new(&scene.world.path("configured"));
    let file = scene.path("config.toml");
    fs::write(&file, format!("repository = {:?}\n{text}", scene.path("repository"))).unwrap();
    set_mode(&file, 0o644);
    (person, file)
}

fn set_mode(file: &str, mode: u32) {
    fs::set_permissions(file, fs::Permissions::from_mode(mode)).unwrap();
}

#[test]
fn a_configuration_that_others_can_change_runs_no_program_of_theirs() {
    let scene = Scene::backed_up();
    let ran = scene.path("ran");
    let (person, file) =
        configured(&scene, &format!("passphrase_command = ['sh', '-c', 'touch {ran}; echo secret']\n"));
    for mode in [0o666, 0o664, 0o646] {
        set_mode(&file, mode);
        person.run(&["-c", &file, "snapshots"]).expect(2).says(&file).says("chmod go-w");
        assert!(!fs::exists(&ran).unwrap(), "mode {mode:o}");
    }
    set_mode(&file, 0o644);
    person.run(&["-c", &file, "snapshots"]).expect(0);
    assert!(fs::exists(&ran).unwrap());
    // A pipe or the like is whoever's who made it.
    person.run(&["-c", "/dev/null", "-r", &scene.path("repository"), "snapshots"]).expect(12);
    if !grow::is_root() {
        println!("not tested: only root can give a file to another user");
        return;
    }
    std::os::unix::fs::chown(&file, Some(65534), None).unwrap();
    person.run(&["-c", &file, "snapshots"]).expect(2).says("another user").says("chown 0 ");
}

#[test]
fn a_configuration_names_one_place_for_the_key() {
    let scene = Scene::backed_up();
    let secret = scene.path("passphrase");
    fs::write(&secret, "secret\n").unwrap();
    set_mode(&secret, 0o600);
    let (person, file) =
        configured(&scene, &format!("key_file = '/no/such/key'\npassphrase_file = '{secret}'\n"));
    person.run(&["-c", &file, "snapshots"]).expect(2).says("key_file").says("passphrase_file");
    // What is said elsewhere comes before the file, and that has an order; -v says what was taken.
    let person = person.with("LIFEBOAT_PASSPHRASE_FILE", &secret);
    person.run(&["-c", &file, "snapshots", "-v"]).expect(0).says("key: the passphrase file");
}
