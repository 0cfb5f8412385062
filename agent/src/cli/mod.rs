//! The command line: one definition for help, completions and man pages.
//!
//! | module | job |
//! |---|---|
//! | [`commands`] | all commands |
//! | [`session`] | what every command shares: options, repository, history |
//! | [`output`], [`progress`], [`text`], [`terminal`] | what people and programs see |
//! | [`signals`], [`standard_input`] | stopping, also while waiting for input |
//! | [`backup_job`] | one backup, wherever it succeeds |
//! | [`source_job`] | the backup of a source of the configuration, with its hooks |
//! | [`open_each`](mod@open_each) | several destinations at once, for commands that change them |
//! | [`unread`] | what a snapshot lacks, said again by those who rely on it |
//! | [`default_repository`] | the repository of those who name none |
//! | all others | one command each |

mod backup;
mod backup_job;
mod backup_options;
pub mod browse;
mod check;
pub mod commands;
mod config;
mod daemon;
mod default_repository;
mod destinations;
mod doctor;
mod forget;
mod forget_policy;
mod holdings;
mod init;
mod key;
mod manual;
mod notify;
mod open_each;
pub mod output;
pub mod progress;
mod protection;
mod provider;
mod prune;
mod repair;
mod restore;
mod retries;
mod run;
mod runs;
pub mod session;
mod signals;
mod slots;
mod snapshots;
mod source;
mod source_job;
mod standard_input;
mod status;
mod sync;
mod tag;
pub mod terminal;
pub mod text;
mod unread;

use std::ffi::OsString;
use std::process::ExitCode;
use std::sync::Arc;

use clap::Parser;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::config::Environment;
use crate::{Kind, Result};
use commands::Command;
use output::{Output, Style};
use session::{Globals, Session};

/// Encrypted, deduplicated backups that are proved to be restorable
///
/// `lifeboat backup PATH` is all that is needed: without a repository it makes one. `lifeboat COMMAND --help` explains a command.
#[derive(Debug, Parser)]
#[command(name = "lifeboat", bin_name = "lifeboat", version, max_term_width = 110, after_help = EXIT_CODES)]
pub struct Cli {
    #[command(flatten)]
    globals: Globals,
    #[command(subcommand)]
    command: Command,
}

/// Done, but not with all that was asked for.
const EXIT_INCOMPLETE: u8 = 3;

const EXIT_CODES: &str = "\
Exit codes: 0 done · 1 failed · 2 wrong usage · 3 snapshot made, but something could not be read, or restored without all attributes · 10 no repository · 11 locked or fenced · 12 wrong key · 13 no space · 14 damage found · 130 interrupted";

/// Runs the command that the arguments ask for and returns the process's exit code.
pub fn main(arguments: impl IntoIterator<Item = OsString>) -> ExitCode {
    let arguments: Vec<OsString> = arguments.into_iter().collect();
    match Cli::try_parse_from(&arguments) {
        Ok(cli) => run(cli),
        Err(error) => explain_usage(&error, &arguments),
    }
}

fn run(cli: Cli) -> ExitCode {
    return_freed_memory();
    raise_file_limit();
    let environment = Environment::read();
    let color = environment.as_ref().is_ok_and(|environment| environment.color);
    let output = Arc::new(Output::new(cli.globals.style(color)));
    let outcome = environment
        .and_then(|environment| {
            if cli.command.needs_no_session() {
                return cli.command.run_alone(&output);
            }
            if let Command::Daemon(command) = cli.command {
                return command.run(&cli.globals, &output, &environment);
            }
            let globals = cli.command.globals(cli.globals.clone());
            let session = Session::start(&globals, output.clone(), &environment)?;
            cli.command.run(&session)
        })
        .and_then(|code| output.flush().map(|()| code));
    finish(outcome, &output)
}

fn finish(outcome: Result<ExitCode>, output: &Output) -> ExitCode {
    match outcome {
        Ok(code) => code,
        Err(error) if output::is_output_closed(&error) => ExitCode::SUCCESS,
        Err(error) => {
            output.fatal(&error);
            ExitCode::from(error.kind().exit_code())
        }
    }
}

/// Help and version go to standard output and are no failure; with `--json` a usage error is an object like any other error.
fn explain_usage(error: &clap::Error, arguments: &[OsString]) -> ExitCode {
    if !error.use_stderr() {
        let output = Output::new(Style::default());
        let printed = error.print().map_err(|e| output::write_error(&e));
        return finish(printed.map(|()| ExitCode::SUCCESS), &output);
    }
    let code = Kind::Usage.exit_code();
    if arguments.iter().any(|argument| argument == "--json") {
        let text = error.render().to_string();
        let message = text.trim().strip_prefix("error: ").unwrap_or(&text);
        eprintln!("{}", output::exit_error(code, message, None));
    } else {
        let _ = error.print();
    }
    ExitCode::from(code)
}

/// Large buffers go back to the system when they are freed. By default glibc raises this limit to the largest buffer it has seen, keeps
/// what is freed in the heap of each thread, and a backup takes twice the memory (measured: 130–180 MB against 88 MB).
#[cfg(target_env = "gnu")]
fn return_freed_memory() {
    const LARGE_BYTES: libc::c_int = 512 << 10;
    // SAFETY: mallopt only sets parameters of the allocator; it is called before any other thread is started.
    unsafe {
        libc::mallopt(libc::M_MMAP_THRESHOLD, LARGE_BYTES);
        libc::mallopt(libc::M_TRIM_THRESHOLD, LARGE_BYTES);
    }
}

#[cfg(not(target_env = "gnu"))]
const fn return_freed_memory() {}

/// A backup has many files and directories open at once. What cannot be raised is left as it is.
fn raise_file_limit() {
    let limit = getrlimit(Resource::Nofile);
    let _ = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, maximum: limit.maximum });
}
