//! What a prune does with the index: a mark for every chunk that is in use, and what of each pack that leaves; and what memory it takes.

use std::time::Instant;

use lifeboat_agent::collect::{MaxUnused, Plan, plan::PackUse, plan::Standing};
use lifeboat_agent::index::{Mark, Worth};
use lifeboat_agent::repository::Repository;

use crate::Fault;
use crate::ids::{id, mixed};
use crate::lookups::Memory;

/// Of so many chunks one is not in use.
const UNUSED_EVERY: u64 = 4;

/// Marks three of four chunks in no order, chooses, and plans.
pub fn measure(repository: &Repository, chunks: u64) -> Result<(), Fault> {
    let index = repository.load_catalog()?.index;
    let opened = Memory::now()?;
    let started = Instant::now();
    let marks = index.marks()?;
    let mut marked = 0_u64;
    // A step that has no divisor in common with the number of chunks meets each once.
    let step = (0..)
        .map(|n| mixed(n) % chunks | 1)
        .find(|step| greatest_divisor(*step, chunks) == 1)
        .ok_or("no step")?;
    let mut number = 0;
    for _ in 0..chunks {
        if number % UNUSED_EVERY != 0 {
            marked += u64::from(marks.mark(&id(number))? == Mark::New);
        }
        number = (number + step) % chunks;
    }
    let mark_seconds = started.elapsed().as_secs_f64();
    let live = marks.choose(|_| Worth::Good)?;
    let packs: Vec<PackUse> = live
        .packs()
        .iter()
        .zip(0..)
        .map(|(pack, number)| PackUse {
            id: pack.id,
            kind: pack.kind,
            stored_bytes: pack.stored_bytes,
            bytes: live.bytes(number),
            standing: Standing::Free,
            number: Some(number),
        })
        .collect();
    let plan = Plan::new(packs, MaxUnused::default(), |_| repository.config().pack_bytes as u64);
    let seconds = started.elapsed().as_secs_f64();
    let used = Memory::now()?;
    println!(
        "{{\"chunks\":{chunks},\"marked\":{marked},\"mark_seconds\":{mark_seconds:.2},\"plan_seconds\":{:.2},\"frees_bytes\":{},\
         \"open_own_bytes\":{},\"own_bytes\":{},\"resident_bytes\":{}}}",
        seconds - mark_seconds,
        plan.frees(),
        opened.anonymous_bytes,
        used.anonymous_bytes,
        used.resident_bytes
    );
    Ok(())
}

const fn greatest_divisor(a: u64, b: u64) -> u64 {
    if b == 0 { a } else { greatest_divisor(b, a % b) }
}
