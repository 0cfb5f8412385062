//! `mount`: what the kernel sees of snapshots is what was backed up.

use std::fs;
use std::io::{BufRead as _, BufReader, ErrorKind, Read as _, Seek as _, SeekFrom};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use lifeboat_tests::binary::ended;
use lifeboat_tests::grow;
use lifeboat_tests::random::Random;
use lifeboat_tests::seen::see;
use rustix::process::{Pid, Signal, kill_process};

use crate::scene::Scene;

/// A mount that goes away with the test, also with one that fails.
struct Mounted {
    child: Option<Child>,
    at: PathBuf,
}

impl Mounted {
    /// Waits until it is mounted; `None`, which is said, where there is no FUSE.
    fn new(scene: &Scene) -> Option<Self> {
        if !Path::new("/dev/fuse").exists() {
            println!("skipped: there is no /dev/fuse on this machine");
            return None;
        }
        let at = scene.world.path("mounted");
        fs::create_dir(&at).unwrap();
        let mut command = scene.person.command(&["mount", at.to_str().unwrap(), "--json"]);
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.as_mut().unwrap()).read_line(&mut line).unwrap();
        let mounted = Self { child: Some(child), at };
        if line.contains("\"mounted\"") {
            return Some(mounted);
        }
        let said = ended({ mounted }.child.take().unwrap()).err;
        // A container may have the device and not the right.
        assert!(said.contains("operation not permitted") || said.contains("permission denied"), "{said}");
        println!("skipped: FUSE cannot be mounted here: {said}");
        None
    }

    /// Ends it as Ctrl-C would.
    fn interrupt(mut self) {
        let child = self.child.take().unwrap();
        kill_process(Pid::from_child(&child), Signal::INT).unwrap();
        ended(child).expect(0);
        assert_eq!(fs::read_dir(&self.at).unwrap().count(), 0, "it is still mounted");
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = Command::new("umount").arg("-l").arg(&self.at).stderr(Stdio::null()).status();
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

#[test]
fn a_mounted_snapshot_is_what_was_backed_up() {
    let scene = Scene::new();
    scene.run(&["init"]).expect(0);
    let source = scene.world.source();
    grow::grow(&source, 120, &mut Random::new(60));
    scene.backup().expect(0);
    let first = see(&source);
    fs::write(source.join("top"), "changed").unwrap();
    let large = Random::new(61).bytes(9 << 20);
    fs::write(source.join("large"), &large).unwrap();
    scene.backup().expect(0);
    let second = see(&source);
    let Some(mounted) = Mounted::new(&scene) else { return };
    let inside =
        |snapshot: &str| mounted.at.join("ids").join(snapshot).join(source.strip_prefix("/").unwrap());
    let ids: Vec<String> = scene
        .run(&["snapshots", "--json"])
        .expect(0)
        .json()
        .iter()
        .map(|snapshot| snapshot["short_id"].as_str().unwrap().to_owned())
        .collect();
    see(&inside(&ids[0])).assert_equals(&first, "the first snapshot, mounted");
    see(&inside("latest")).assert_equals(&second, "the latest snapshot, mounted");
    assert_eq!(fs::read_dir(mounted.at.join("times")).unwrap().count(), 3);
    // From the middle of a file, across its chunks.
    let mut file = fs::File::open(inside("latest").join("large")).unwrap();
    file.seek(SeekFrom::Start(3 << 20)).unwrap();
    let mut middle = vec![0; 4 << 20];
    file.read_exact(&mut middle).unwrap();
    assert!(middle == large[3 << 20..7 << 20]);
    drop(file);
    // Nothing can be changed.
    let refused = fs::write(inside("latest").join("top"), "x").unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::ReadOnlyFilesystem);
    assert!(fs::remove_file(inside("latest").join("top")).is_err());
    mounted.interrupt();
}

#[test]
fn unmounting_from_outside_ends_the_command() {
    let scene = Scene::backed_up();
    let Some(mut mounted) = Mounted::new(&scene) else { return };
    assert!(Command::new("umount").arg(&mounted.at).status().unwrap().success());
    ended(mounted.child.take().unwrap()).expect(0);
    scene.run(&["mount", &scene.path("nowhere")]).expect(2).says("existing directory");
    scene.run(&["mount", &format!("{}/top", scene.source())]).expect(2).says("not a directory");
}

/// The second signal ended the process before it had unmounted: what was left could be neither read nor removed.
#[test]
fn signals_in_a_row_leave_no_dead_mount_point() {
    let scene = Scene::backed_up();
    for in_use in [false, true] {
        let Some(mut mounted) = Mounted::new(&scene) else { return };
        let file = mounted.at.join("ids/latest").join(&scene.source()[1..]).join("top");
        let held = in_use.then(|| fs::File::open(&file).unwrap());
        let child = mounted.child.take().unwrap();
        for signal in [Signal::TERM, Signal::TERM, Signal::INT] {
            // It may be over before the last.
            let _ = kill_process(Pid::from_child(&child), signal);
        }
        let end = ended(child);
        let left = fs::read_dir(&mounted.at).map(Iterator::count);
        let _ = Command::new("umount").arg("-l").arg(&mounted.at).stderr(Stdio::null()).status();
        end.expect(0);
        assert_eq!(left.unwrap(), 0, "it is still mounted, in use: {in_use}");
        fs::remove_dir(&mounted.at).unwrap();
        drop(held);
    }
}
