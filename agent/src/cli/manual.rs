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
    let version = format!("lifeboat {}", env!("CARGO_PKG_VERSION"));
    let man = clap_mangen::Man::new(command.clone()).source(version).manual("Lifeboat");
    let path = directory.join(man.get_filename());
    let cannot = |e: std::io::Error| Error::io(format_args!("cannot write {}", path.display()), e);
    let mut page = Vec::new();
    man.render(&mut page).map_err(cannot)?;
    fs::write(&path, with_usage(&String::from_utf8_lossy(&page), command)).map_err(cannot)?;
    let mut pages = 1;
    for inner in command.get_subcommands().filter(|inner| !inner.is_hide_set()) {
        pages += write_pages(inner, directory)?;
    }
    Ok(pages)
}

/// The page with the usage line of `--help` for a synopsis. That of the crate lists all options, global ones between the command's own, and no
/// value of any.
fn with_usage(page: &str, command: &clap::Command) -> String {
    const SYNOPSIS: &str = ".SH SYNOPSIS\n";
    let Some((before, rest)) = page.split_once(SYNOPSIS) else { return page.to_owned() };
    let after = rest.find(".SH ").and_then(|at| rest.get(at..)).unwrap_or_default();
    let usage = command.clone().render_usage().to_string();
    let usage = usage.trim().strip_prefix("Usage: ").unwrap_or(&usage);
    let name = command.get_bin_name().unwrap_or_else(|| command.get_name());
    let arguments = usage.strip_prefix(name).unwrap_or_default();
    let escaped = |text: &str| text.replace('\\', "\\e").replace('-', "\\-");
    format!("{before}{SYNOPSIS}\\fB{}\\fR{}\n{after}", escaped(name), escaped(arguments))
}
