//! The program: parse, run, exit code.

use std::process::ExitCode;
use std::thread;

/// Trees are walked by recursion, and people have trees that are thousands of levels deep. Only what is used of it is taken.
const STACK_BYTES: usize = 256 << 20;

fn main() -> ExitCode {
    let run = || lifeboat_agent::cli::main(std::env::args_os());
    match thread::Builder::new().name("main".to_owned()).stack_size(STACK_BYTES).spawn(run) {
        // A panic has said what happened already.
        Ok(thread) => thread.join().unwrap_or(ExitCode::FAILURE),
        Err(_) => run(),
    }
}
