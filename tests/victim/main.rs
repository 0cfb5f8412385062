//! Backs up a directory, or frees what no snapshot needs, and is killed (SIGKILL, by itself) at a chosen moment.
//!
//! `lifeboat-victim REPOSITORY SOURCE CACHE STATE [prune-]before|after|step NUMBER`: before or after the NUMBERth call of the store, or at the
//! NUMBERth step of its writes; 0 for never. One that lives prints how many there were.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use lifeboat_agent::collect::{self, CollectOptions, MaxUnused};
use lifeboat_agent::events::Context;
use lifeboat_agent::repository::Directories;
use lifeboat_providers::SharedProvider;
use lifeboat_providers::layer::FaultProvider;
use lifeboat_providers::layer::fault::{Fault, FaultHook, Rule, When};
use lifeboat_providers::local::{LocalProvider, StepHook};
use lifeboat_tests::world;

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [store, source, cache, state, how, at] = arguments.as_slice() else {
        panic!("REPOSITORY SOURCE CACHE STATE before|after|step NUMBER");
    };
    let at: u64 = at.parse().unwrap();
    let counter = Arc::new(AtomicU64::new(0));
    let counted = counter.clone();
    let tick = move || {
        if counted.fetch_add(1, Ordering::SeqCst) + 1 == at {
            let own = rustix::process::getpid();
            rustix::process::kill_process(own, rustix::process::Signal::KILL).unwrap();
            // The signal ends all threads, but perhaps not before this one goes on.
            loop {
                std::thread::park();
            }
        }
    };
    let local = LocalProvider::open(Path::new(store)).unwrap();
    let (prunes, how) = match how.strip_prefix("prune-") {
        Some(how) => (true, how),
        None => (false, how.as_str()),
    };
    let provider: SharedProvider = match how {
        "step" => {
            let hook: StepHook = Arc::new(move |_, _| tick());
            Arc::new(local.with_step_hook(hook))
        }
        _ => {
            let hook: FaultHook = Arc::new(move |_, _| tick());
            let fault = if how == "before" { Fault::HookBefore(hook) } else { Fault::HookAfter(hook) };
            Arc::new(FaultProvider::new(Arc::new(local)).with_rule(Rule::new(None, When::Always, fault)))
        }
    };
    let directories = Directories::new(cache, state);
    let repository = world::open(provider, &directories).unwrap();
    if prunes {
        let options = CollectOptions { max_unused: MaxUnused::Bytes(0), ..CollectOptions::default() };
        collect::run(&repository, &options, &Context::silent()).unwrap();
    } else {
        world::backup(&repository, Path::new(source), &world::options()).unwrap();
    }
    println!("{}", counter.load(Ordering::SeqCst));
}
