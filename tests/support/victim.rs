//! Running the victim: a process that kills itself at a chosen point of a chosen command.

use std::os::unix::process::ExitStatusExt as _;
use std::path::Path;
use std::process::Command;

use crate::binary;
use crate::world::World;

/// Runs the victim; returns whether it lived to its end, and how many events of that kind it counted.
pub fn victim(world: &World, store: &Path, machine: &str, how: &str, at: u64) -> (bool, u64) {
    let directories = world.machine(machine);
    let output = Command::new(binary::victim())
        .args([store, &world.source(), &directories.cache, &directories.state])
        .args([how, &at.to_string()])
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(!said.contains("panicked"), "{how} {at}: {said}");
    match output.status.signal() {
        Some(9) => (false, 0),
        _ => {
            assert!(output.status.success(), "{how} {at}: {said}");
            (true, String::from_utf8_lossy(&output.stdout).trim().parse().unwrap())
        }
    }
}
