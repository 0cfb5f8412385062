//! The program: parse, run, exit code.

use std::process::ExitCode;

fn main() -> ExitCode {
    lifeboat_agent::cli::main(std::env::args_os())
}
