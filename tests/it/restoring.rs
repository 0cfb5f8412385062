//! Restoring over what is there: nothing is lost that was there before all of the new is, and nothing is written that is there already.

use std::fs;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use lifeboat_tests::binary::{Person, ended, lifeboat};
use lifeboat_tests::random::Random;
use lifeboat_tests::seen::see;
use lifeboat_tests::world::World;

const LARGE_BYTES: usize = 24 << 20;
/// Changing a byte in each run of this many changes every chunk.
const STEP: usize = 16 << 10;

pub(crate) struct Scene {
    pub(crate) world: World,
    pub(crate) person: Person,
}

impl Scene {
    /// A repository with one snapshot of what `fill` puts into the source.
    pub(crate) fn of(fill: impl FnOnce(&Path)) -> Self {
        let world = World::new();
        fill(&world.source());
        lifeboat_tests::grow::leave_the_future(&world.source());
        let person = Person::new(&world.path("home"))
            .with("LIFEBOAT_REPOSITORY", world.path("repository"))
            .with("LIFEBOAT_PASSPHRASE", "secret");
        person.run(&["init"]).expect(0);
        person.run(&["backup", world.source().to_str().unwrap()]).expect(0);
        Self { world, person }
    }

    pub(crate) fn arguments(&self, more: &[&str]) -> Vec<String> {
        let root = self.world.path("target").display().to_string();
        let all = ["restore", "latest", "--target", &root];
        all.iter().chain(more).map(|argument| (*argument).to_owned()).collect()
    }

    pub(crate) fn restore(&self, more: &[&str], code: i32) {
        self.person.run(&self.arguments(more)).expect(code);
    }

    /// Where the source's entries land.
    pub(crate) fn target(&self) -> PathBuf {
        self.world.path("target").join(self.world.source().strip_prefix("/").unwrap())
    }

    pub(crate) fn assert_restored(&self) {
        see(&self.target()).assert_equals(&see(&self.world.source()), "restored");
    }

    /// Names in the target that a restore uses while it is under way.
    pub(crate) fn partial_names(&self) -> Vec<String> {
        let Ok(names) = fs::read_dir(self.target()) else { return Vec::new() };
        let names = names.map(|entry| entry.unwrap().file_name().into_string().unwrap());
        names.filter(|name| name.starts_with(".lifeboat-partial-")).collect()
    }
}

pub(crate) fn large() -> Vec<u8> {
    Random::new(5).bytes(LARGE_BYTES)
}

fn change_every_chunk(bytes: &mut [u8]) {
    bytes.iter_mut().step_by(STEP).for_each(|byte| *byte = !*byte);
}

/// Flips a bit in the middle of every pack of data.
fn damage_packs(repository: &Path) {
    for folder in fs::read_dir(repository.join("packs")).unwrap() {
        for pack in fs::read_dir(folder.unwrap().path()).unwrap() {
            let path = pack.unwrap().path();
            let mut bytes = fs::read(&path).unwrap();
            let middle = bytes.len() / 2;
            bytes[middle] ^= 1;
            fs::remove_file(&path).unwrap();
            fs::write(&path, bytes).unwrap();
        }
    }
}

#[test]
fn a_file_that_is_there_survives_damage_in_the_store() {
    let scene = Scene::of(|source| fs::write(source.join("large"), large()).unwrap());
    let mut mine = large();
    change_every_chunk(&mut mine);
    fs::create_dir_all(scene.target()).unwrap();
    fs::write(scene.target().join("large"), &mine).unwrap();
    damage_packs(&scene.world.path("repository"));
    scene.restore(&["--overwrite", "always"], 14);
    assert!(fs::read(scene.target().join("large")).unwrap() == mine, "the file that was there has changed");
    let had = fs::read(scene.target().join("large.lifeboat-damaged")).unwrap();
    let wanted = large();
    assert_eq!(had.len(), wanted.len());
    let good = had.chunks(4096).zip(wanted.chunks(4096)).filter(|(had, wanted)| had == wanted).count();
    let lost = had.chunks(4096).filter(|had| had.iter().all(|byte| *byte == 0)).count();
    // Chunks do not end where these blocks do.
    assert!(good > 0 && lost > 0 && good + lost >= had.len() / 4096 - 512, "{good} good, {lost} lost");
    assert_eq!(scene.partial_names(), [""; 0]);
}

#[test]
fn a_killed_restore_leaves_no_half_of_a_file_under_its_name() {
    let scene = Scene::of(|source| fs::write(source.join("large"), large()).unwrap());
    let mut mine = large();
    change_every_chunk(&mut mine);
    for there in [None, Some(mine)] {
        let path = scene.target().join("large");
        if let Some(mine) = &there {
            fs::write(&path, mine).unwrap();
        }
        let mut child = scene.person.start(&scene.arguments(&["--overwrite", "always"]));
        while scene.partial_names().is_empty() && child.try_wait().unwrap().is_none() {
            std::thread::yield_now();
        }
        child.kill().unwrap();
        assert_eq!(ended(child).code, None, "it was too fast to be killed");
        match &there {
            None => assert!(!path.exists()),
            Some(mine) => assert!(fs::read(&path).unwrap() == *mine),
        }
        assert_eq!(scene.partial_names().len(), 1);
        scene.restore(&["--overwrite", "always"], 0);
        scene.assert_restored();
        assert_eq!(scene.partial_names(), [""; 0]);
    }
}

#[test]
fn what_is_equal_stays_and_what_is_not_becomes_so() {
    let scene = Scene::of(|source| {
        fs::write(source.join("equal"), large()).unwrap();
        fs::write(source.join("changed in the middle"), large()).unwrap();
        fs::write(source.join("shorter now"), "as it was").unwrap();
        fs::write(source.join("longer now"), large()).unwrap();
        fs::write(source.join("empty"), "").unwrap();
        fs::write(source.join("small"), "small").unwrap();
        fs::File::create(source.join("hole")).unwrap().set_len(10 << 20).unwrap();
        fs::write(source.join("was a link"), large()).unwrap();
    });
    scene.restore(&[], 0);
    scene.assert_restored();
    let path = |name: &str| scene.target().join(name);
    let inode = |name: &str| fs::metadata(path(name)).unwrap().ino();
    let (equal, changed) = (inode("equal"), inode("changed in the middle"));
    let mut bytes = large();
    bytes[LARGE_BYTES / 2] ^= 1;
    fs::write(path("changed in the middle"), &bytes).unwrap();
    fs::write(path("shorter now"), "as it was and more").unwrap();
    fs::write(path("longer now"), &bytes[..1 << 20]).unwrap();
    fs::write(path("empty"), "not").unwrap();
    fs::write(path("small"), "SMALL").unwrap();
    fs::write(path("hole"), &bytes).unwrap();
    fs::remove_file(path("was a link")).unwrap();
    std::os::unix::fs::symlink("equal", path("was a link")).unwrap();
    scene.restore(&["--overwrite", "always", "--verify"], 0);
    scene.assert_restored();
    assert_eq!(inode("equal"), equal, "equal data was written again");
    assert_ne!(inode("changed in the middle"), changed, "it was changed in place");
    assert_eq!(fs::metadata(path("hole")).unwrap().len(), 10 << 20);
}

#[test]
fn a_name_elsewhere_of_a_file_that_is_replaced_keeps_its_content() {
    let scene = Scene::of(|source| {
        for name in ["same", "other"] {
            fs::write(source.join(name), large()).unwrap();
        }
    });
    scene.restore(&[], 0);
    let elsewhere = scene.world.path("elsewhere");
    fs::create_dir(&elsewhere).unwrap();
    let mut bytes = large();
    change_every_chunk(&mut bytes);
    fs::write(scene.target().join("other"), &bytes).unwrap();
    for name in ["same", "other"] {
        fs::hard_link(scene.target().join(name), elsewhere.join(name)).unwrap();
    }
    fs::set_permissions(elsewhere.join("same"), fs::Permissions::from_mode(0o640)).unwrap();
    scene.restore(&["--overwrite", "always"], 0);
    scene.assert_restored();
    assert!(fs::read(elsewhere.join("other")).unwrap() == bytes);
    assert_eq!(fs::metadata(elsewhere.join("same")).unwrap().mode() & 0o777, 0o640);
}

#[test]
fn a_user_can_verify_what_he_may_not_read() {
    const NOBODY: u32 = 65534;
    if !rustix::process::geteuid().is_root() {
        eprintln!("skipped: only root can make what another user may not read");
        return;
    }
    let scene = Scene::of(|source| {
        fs::create_dir(source.join("closed")).unwrap();
        for name in ["secret", "closed/large", "closed/small"] {
            let content = if name.ends_with("large") { large() } else { b"content".to_vec() };
            fs::write(source.join(name), content).unwrap();
            fs::set_permissions(source.join(name), fs::Permissions::from_mode(0o000)).unwrap();
        }
        fs::set_permissions(source.join("closed"), fs::Permissions::from_mode(0o000)).unwrap();
    });
    let world = &scene.world;
    fs::set_permissions(world.source().parent().unwrap(), fs::Permissions::from_mode(0o755)).unwrap();
    let program = world.path("lifeboat");
    fs::copy(lifeboat(), &program).unwrap();
    std::process::Command::new("chown")
        .args(["-R", "nobody"])
        .arg(world.path("repository"))
        .status()
        .unwrap();
    let person = Person::new(&world.path("home of nobody"))
        .with("LIFEBOAT_REPOSITORY", world.path("repository"))
        .with("LIFEBOAT_PASSPHRASE", "secret")
        .program(&program)
        .as_user(NOBODY);
    fs::create_dir(scene.world.path("target")).unwrap();
    std::os::unix::fs::chown(scene.world.path("target"), Some(NOBODY), Some(NOBODY)).unwrap();
    let ended = person.run(&scene.arguments(&["--verify"])).expect(0);
    assert!(ended.out.contains("3 verified"), "{}", ended.out);
    for name in ["secret", "closed", "closed/large"] {
        assert_eq!(fs::metadata(scene.target().join(name)).unwrap().mode() & 0o777, 0, "{name}");
    }
    // A second run finds all of it there, and what was changed behind its back is found by the verification.
    person.run(&scene.arguments(&["--overwrite", "always", "--verify"])).expect(0);
    let small = scene.target().join("closed/small");
    let time = fs::metadata(&small).unwrap().modified().unwrap();
    fs::write(&small, "CONTENT").unwrap();
    fs::File::options().write(true).open(&small).unwrap().set_modified(time).unwrap();
    let ended = person.run(&scene.arguments(&["--overwrite", "if-changed", "--verify"])).expect(1);
    assert!(ended.err.contains("closed/small"), "{}", ended.err);
}

#[test]
fn what_the_target_would_hand_down_is_not_left_on_what_is_restored() {
    let scene = Scene::of(|source| {
        fs::create_dir(source.join("directory")).unwrap();
        fs::write(source.join("directory/small"), "small").unwrap();
        fs::write(source.join("directory/large"), large()).unwrap();
        fs::set_permissions(source.join("directory/small"), fs::Permissions::from_mode(0o640)).unwrap();
    });
    let root = scene.world.path("target");
    for with_acl in [false, true] {
        fs::create_dir(&root).unwrap();
        if with_acl {
            let acl =
                std::process::Command::new("setfacl").args(["-d", "-m", "u:1234:rwx"]).arg(&root).status();
            assert!(acl.unwrap().success());
        } else if rustix::process::geteuid().is_root() {
            std::os::unix::fs::chown(&root, None, Some(4321)).unwrap();
            fs::set_permissions(&root, fs::Permissions::from_mode(0o2777)).unwrap();
        }
        scene.restore(&[], 0);
        scene.assert_restored();
        fs::remove_dir_all(&root).unwrap();
    }
}

/// Equal size and time were enough: a file with another mode stayed readable by all.
#[test]
fn if_changed_puts_modes_back() {
    let scene = crate::scene::Scene::backed_up();
    let file = scene.world.source().join("top");
    let mode = || fs::metadata(&file).unwrap().permissions().mode() & 0o7777;
    let before = mode();
    fs::set_permissions(&file, fs::Permissions::from_mode(0o666)).unwrap();
    restore_over(&scene).expect(0);
    assert_eq!(mode(), before);
    // What is right is not touched: the next backup would read it again.
    let touched = || fs::metadata(&file).map(|m| (m.ctime(), m.ctime_nsec())).unwrap();
    let settled = touched();
    restore_over(&scene).expect(0);
    assert_eq!(touched(), settled);
}

/// Restores the source over itself: a target of its own, for one restore at a time may go into `/`.
fn restore_over(scene: &crate::scene::Scene) -> lifeboat_tests::binary::Ended {
    let what = format!("latest:{}", scene.source());
    scene.run(&["restore", &what, "--target", scene.source(), "--overwrite", "if-changed"])
}

/// A file outside the target that shares an inode with one in it got the mode of the snapshot's.
#[test]
fn if_changed_changes_nothing_outside_the_target() {
    let scene = crate::scene::Scene::backed_up();
    let (file, outside) = (scene.world.source().join("top"), scene.world.path("outside"));
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o7777;
    let before = mode(&file);
    fs::hard_link(&file, &outside).unwrap();
    fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).unwrap();
    restore_over(&scene).expect(0);
    assert_eq!((mode(&file), mode(&outside)), (before, 0o600));
}

/// Two names of one file: the second must wait until the first is the new file, however long its disk takes.
#[test]
fn a_further_name_waits_for_the_first() {
    let strace = Path::new("/usr/bin/strace");
    let works = std::process::Command::new(strace).args(["-qqf", "true"]).output();
    if !works.is_ok_and(|output| output.status.success()) {
        eprintln!("skipped: no strace, or it may not trace");
        return;
    }
    let scene = Scene::of(|source| {
        fs::write(source.join("a"), "new content").unwrap();
        // More files than are restored together, so that the first is worked on while the last is looked at.
        (0..1100).for_each(|number| fs::write(source.join(format!("file-{number}")), "filler").unwrap());
        fs::hard_link(source.join("a"), source.join("z")).unwrap();
    });
    let target = scene.target();
    fs::create_dir_all(&target).unwrap();
    fs::write(target.join("a"), "old").unwrap();
    fs::hard_link(target.join("a"), target.join("z")).unwrap();
    let (own, restore) = (lifeboat(), scene.arguments(&["--overwrite", "always"]));
    let slowly =
        ["-qqf", "--output=/dev/null", "--inject=fdatasync,fsync:delay_enter=300000"].map(str::to_owned);
    let arguments = [&slowly[..], &[own.display().to_string()], &restore].concat();
    scene.person.clone().program(strace).run(&arguments).expect(0);
    scene.assert_restored();
}
