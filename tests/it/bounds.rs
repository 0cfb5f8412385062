//! Memory stays bounded: the highest that each command reaches, of the real binary and as the kernel counted it.

use std::fs::{self, File};
use std::io::Read as _;
use std::path::Path;
use std::process::Stdio;
use std::sync::mpsc;
use std::time::Duration;

use crate::scene::Scene;

/// What the README promises.
const PEAK_BYTES_MAX: u64 = 150_000_000;
/// Well more than any buffer or window holds.
const LARGE_BYTES: u64 = 100 << 20;
const LARGE_FILES: usize = 2;
const FOLDERS: usize = 100;
const FILES_IN_EACH: usize = 100;
/// Between two looks; the high-water mark only rises, so nothing between them is missed.
const LOOK_EVERY: Duration = Duration::from_millis(1);

/// Large files that do not compress, and many small ones.
fn fill(source: &Path) {
    let mut noise = File::open("/dev/urandom").unwrap();
    for number in 0..LARGE_FILES {
        let mut file = File::create(source.join(format!("large{number}"))).unwrap();
        std::io::copy(&mut noise.by_ref().take(LARGE_BYTES), &mut file).unwrap();
    }
    let mut content = [0; 100];
    for folder in 0..FOLDERS {
        let folder = source.join(format!("folder{folder}"));
        fs::create_dir(&folder).unwrap();
        for number in 0..FILES_IN_EACH {
            noise.read_exact(&mut content).unwrap();
            fs::write(folder.join(format!("a file of a usual name, number {number}")), content).unwrap();
        }
    }
}

/// `VmHWM`, in bytes; `None` of a process that has ended.
fn high_water_bytes(process: u32) -> Option<u64> {
    let status = fs::read_to_string(format!("/proc/{process}/status")).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok().map(|kib| kib * 1024)
}

/// Runs a command to its end, and says how much memory it had at most.
fn peak_bytes(scene: &Scene, arguments: &[&str]) -> u64 {
    let mut command = scene.person.command(arguments);
    let mut child = command.stdout(Stdio::null()).stderr(Stdio::inherit()).spawn().unwrap();
    let process = child.id();
    let (ended, end) = mpsc::channel();
    let waiting = std::thread::spawn(move || ended.send(child.wait().unwrap()).unwrap());
    let mut peak = 0;
    let status = loop {
        peak = peak.max(high_water_bytes(process).unwrap_or(0));
        if let Ok(status) = end.recv_timeout(LOOK_EVERY) {
            break status;
        }
    };
    waiting.join().unwrap();
    assert!(status.success() && peak > 0, "{arguments:?}: {status}, {peak} bytes");
    peak
}

#[test]
fn memory_stays_below_what_is_promised() {
    let scene = Scene::new();
    fill(&scene.world.source());
    scene.run(&["init"]).expect(0);
    let (source, target) = (scene.source(), scene.path("target"));
    let commands: [&[&str]; 4] = [
        &["backup", source],
        &["backup", source],
        &["restore", "latest", "--target", &target],
        &["check", "--read-data"],
    ];
    for arguments in commands {
        let peak = peak_bytes(&scene, arguments);
        println!("{arguments:?}: {} MB", peak / 1_000_000);
        assert!(peak <= PEAK_BYTES_MAX, "{arguments:?} had {peak} bytes of memory");
    }
}
