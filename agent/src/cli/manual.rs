//! `lifeboat completions` and `lifeboat man`: made from the definition of the command line.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Args, CommandFactory as _};

use super::Cli;
use super::output::Output;
use super::text::count;
use crate::{Error, Result};

/// Arguments of `completions`.
#[derive(Debug, Args)]
pub struct Completions {
    /// The shell
    shell: clap_complete::Shell,
}

/// Arguments of `man`.
#[derive(Debug, Args)]
pub struct Man {
    /// Where to write them; made if it is not there
    #[arg(value_name = "DIR")]
    directory: PathBuf,
}

impl Completions {
    /// Prints the script.
    ///
    /// # Errors
    /// If it cannot be written.
    pub fn run(self, output: &Output) -> Result<ExitCode> {
        let mut script = Vec::new();
        clap_complete::generate(self.shell, &mut Cli::command(), "lifeboat", &mut script);
        output.bytes(&script)?;
        Ok(ExitCode::SUCCESS)
    }
}

impl Man {
    /// Writes `lifeboat.1` and one page for each command.
    ///
    /// # Errors
    /// If a page cannot be written.
    pub fn run(self, output: &Output) -> Result<ExitCode> {
        let directory = &self.directory;
        fs::create_dir_all(directory)
            .map_err(|e| Error::io(format_args!("cannot make the directory {}", directory.display()), e))?;
        let mut command = Cli::command().disable_help_subcommand(true);
        command.build();
        let pages = write_pages(&command, directory)?;
        output.say(format_args!("{} in {}", count(pages, "page", "pages"), directory.display()));
        Ok(ExitCode::SUCCESS)
    }
}

fn write_pages(command: &clap::Command, directory: &Path) -> Result<u64> {
    let man = clap_mangen::Man::new(command.clone());
    let path = directory.join(man.get_filename());
    let cannot = |e: std::io::Error| Error::io(format_args!("cannot write {}", path.display()), e);
    let mut page = Vec::new();
    man.render(&mut page).map_err(cannot)?;
    fs::write(&path, page).map_err(cannot)?;
    let mut pages = 1;
    for inner in command.get_subcommands().filter(|inner| !inner.is_hide_set()) {
        pages += write_pages(inner, directory)?;
    }
    Ok(pages)
}
