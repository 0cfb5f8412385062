//! How long the local index takes to open and to answer, and what memory it then has.

use std::time::Instant;

use lifeboat_agent::repository::Repository;

use crate::Fault;
use crate::ids::{ABSENT_FROM, id, mixed};

const LOOKUPS: u64 = 1_000_000;

/// Opens the index, and looks up as many absent and present chunks, one after the other, in no order; fails if an answer is wrong.
pub fn measure(repository: &Repository, chunks: u64) -> Result<(), Fault> {
    let started = Instant::now();
    let index = repository.load_catalog()?.index;
    let open_seconds = started.elapsed().as_secs_f64();
    let opened = Memory::now()?;
    let absent = per_second(|number| index.lookup(&id(ABSENT_FROM + number)).is_none())?;
    let present = per_second(|number| index.lookup(&id(mixed(number) % chunks)).is_some())?;
    let used = Memory::now()?;
    println!(
        "{{\"open_seconds\":{open_seconds:.4},\"open_own_bytes\":{},\"open_resident_bytes\":{},\
         \"absent_per_second\":{absent:.0},\"present_per_second\":{present:.0},\"own_bytes\":{},\"resident_bytes\":{}}}",
        opened.anonymous_bytes, opened.resident_bytes, used.anonymous_bytes, used.resident_bytes
    );
    Ok(())
}

fn per_second(is_right: impl Fn(u64) -> bool) -> Result<f64, Fault> {
    let started = Instant::now();
    let right = (0..LOOKUPS).filter(|number| is_right(*number)).count() as u64;
    let seconds = started.elapsed().as_secs_f64();
    if right == LOOKUPS {
        Ok(LOOKUPS as f64 / seconds)
    } else {
        Err(format!("{} of {LOOKUPS} answers are wrong", LOOKUPS - right).into())
    }
}

/// This process's memory: its own, and with mapped files.
pub struct Memory {
    pub anonymous_bytes: u64,
    pub resident_bytes: u64,
}

impl Memory {
    pub fn now() -> Result<Self, Fault> {
        let status = std::fs::read_to_string("/proc/self/status")?;
        let field = |name: &str| -> Result<u64, Fault> {
            let line =
                status.lines().find_map(|line| line.strip_prefix(name)).ok_or("no memory in status")?;
            let kib: u64 = line.trim_start_matches(':').trim().trim_end_matches(" kB").parse()?;
            Ok(kib << 10)
        };
        Ok(Self { anonymous_bytes: field("RssAnon")?, resident_bytes: field("VmRSS")? })
    }
}
