//! `lifeboat dump`: a file to standard output or into a file, a directory as tar or zip.

use std::ffi::OsString;
use std::fs::{self, File};
use std::io::{self, Write};
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Args, ValueEnum};
use rustix::fs::CWD;

use super::opened::Opened;
use crate::browse::Place;
use crate::browse::dump::{Dumped, Format, dump_archive, dump_content};
use crate::browse::find::type_of;
use crate::cli::output::Output;
use crate::cli::session::{FilterArgs, Session};
use crate::cli::text::count;
use crate::fs::create::rename_new;
use crate::tree::EntryKind;
use crate::{Error, Result};

/// Bytes that are gathered before they are written to a file.
const BUFFER_BYTES: usize = 256 << 10;

/// Arguments of `dump`.
#[derive(Debug, Args)]
pub struct Dump {
    /// Id, latest or latest~N, and the path of a file or directory in it
    #[arg(value_name = "SNAPSHOT:PATH")]
    place: OsString,
    /// Write an archive of this format [default for directories: tar]
    #[arg(long, value_name = "FORMAT")]
    archive: Option<Archive>,
    /// Write into this file, which appears only when it is complete
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
    /// Replace the file that --output names, if it is there already
    #[arg(long, requires = "output")]
    force: bool,
    #[command(flatten)]
    filter: FilterArgs,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Archive {
    /// Everything, with extended attributes and times in nanoseconds
    Tar,
    /// Files, directories and links; for those without tar
    Zip,
}

impl Dump {
    /// Writes it.
    ///
    /// # Errors
    /// `Usage` for a place that is not there; `Damaged` if anything is missing: what was written is then not complete.
    pub fn run(self, session: &Session) -> Result<ExitCode> {
        if self.on_terminal(session) && self.archive.is_some() {
            return Err(archive_on_terminal());
        }
        let named = self.output.as_ref().filter(|path| !is_stdout(path));
        if let Some(path) = named.filter(|path| !self.force && path.is_file()) {
            return Err(is_there(path));
        }
        let opened = Opened::open(session)?;
        let (snapshot, path) = opened.select(&self.place, &self.filter)?;
        let place = opened.place(snapshot, &path.unwrap_or_default())?;
        match named {
            Some(path) if is_plain(path) => self.write_file(&opened, &place, path)?,
            Some(path) => {
                let file = File::options().write(true).create(true).truncate(true).open(path);
                let mut file =
                    file.map_err(|e| Error::io(format_args!("cannot open {}", path.display()), e))?;
                self.write(&opened, &place, &mut file)?;
            }
            None => {
                let mut out = Stdout { output: &session.output, failed: None };
                let written = self.write(&opened, &place, &mut out);
                // The output's own error says whether its reader only went away.
                out.failed.take().map_or(written, Err)?;
            }
        }
        Ok(ExitCode::SUCCESS)
    }

    fn on_terminal(&self, session: &Session) -> bool {
        session.output.stdout_is_terminal() && self.output.as_ref().is_none_or(|path| is_stdout(path))
    }

    /// Writes beside the file and gives it its name when it is complete.
    fn write_file(&self, opened: &Opened<'_>, place: &Place, path: &Path) -> Result<()> {
        let failed = |e: io::Error| Error::io(format_args!("cannot write {}", path.display()), e);
        let mut name = OsString::from(".");
        name.push(path.file_name().unwrap_or_default());
        name.push(format!(".{}.partial", std::process::id()));
        let partial = path.with_file_name(name);
        let file = File::options().write(true).create_new(true).open(&partial).map_err(failed)?;
        let written = (|| {
            let mut out = io::BufWriter::with_capacity(BUFFER_BYTES, file);
            self.write(opened, place, &mut out)?;
            let file = out.into_inner().map_err(|e| failed(e.into_error()))?;
            file.sync_all().map_err(failed)?;
            if self.force {
                return fs::rename(&partial, path).map_err(failed);
            }
            match rename_new(CWD, partial.as_os_str().as_bytes(), path.as_os_str().as_bytes()) {
                Err(e) if e.kind() == io::ErrorKind::AlreadyExists => Err(is_there(path)),
                renamed => renamed.map_err(failed),
            }
        })();
        if written.is_err() {
            // Nothing may take half a file for a whole one.
            let _ = fs::remove_file(&partial);
        }
        written
    }

    fn write(&self, opened: &Opened<'_>, place: &Place, out: &mut dyn Write) -> Result<()> {
        let format = match (self.archive, &place.listed.entry.kind) {
            (Some(Archive::Zip), _) => Format::Zip,
            (Some(Archive::Tar), _) => Format::Tar,
            (None, EntryKind::Directory { .. }) => {
                if self.on_terminal(opened.session) {
                    return Err(archive_on_terminal());
                }
                Format::Tar
            }
            (None, EntryKind::File { content, .. }) => {
                dump_content(&opened.reader, opened.context(), content, out)
                    .map_err(|e| e.context(place.display()))?;
                if place.listed.entry.incomplete {
                    opened.session.output.warning(incomplete(1));
                }
                return out.flush().map_err(|e| Error::io("cannot write the output", e));
            }
            (None, _) => return Err(no_bytes(place)),
        };
        let dumped = dump_archive(&opened.reader, opened.context(), place, format, out, &mut |path, e| {
            Err(e.context(crate::tree::path_text::display(path)))
        })?;
        warn(opened.session, &dumped);
        Ok(())
    }
}

/// What is there may be newer than what is dumped: nobody's file is replaced unasked.
fn is_there(path: &Path) -> Error {
    Error::usage(format_args!("{} is there already", path.display()))
        .with_hint("Name another file, or add --force to replace it.")
}

fn warn(session: &Session, dumped: &Dumped) {
    if dumped.skipped > 0 {
        let left = count(dumped.skipped, "entry", "entries");
        session.output.warning(format_args!(
            "{left} left out: the archive cannot hold sockets, zip also no devices and pipes"
        ));
    }
    if dumped.incomplete > 0 {
        session.output.warning(incomplete(dumped.incomplete));
    }
}

fn incomplete(files: u64) -> String {
    let files = count(files, "file", "files");
    format!("{files} incomplete in the snapshot: what it has of them is written")
}

fn no_bytes(place: &Place) -> Error {
    let what = type_of(&place.listed.entry).describe();
    Error::usage(format_args!("{} is {what}, which has no bytes", place.display()))
        .with_hint("With --archive tar it is written as a member of an archive.")
}

fn archive_on_terminal() -> Error {
    Error::usage("an archive is not written to a terminal")
        .with_hint("Redirect it (> archive.tar), pipe it (| tar -tv), or name a file with --output.")
}

/// Whether a name is free or that of a regular file. Devices, pipes and what links lead to are written to as they are:
/// a rename would put a file in place of them.
fn is_plain(path: &Path) -> bool {
    fs::symlink_metadata(path).map_or(true, |metadata| metadata.is_file())
}

/// Whether a file's name means standard output.
fn is_stdout(path: &Path) -> bool {
    [Path::new("-"), Path::new("/dev/stdout")].contains(&path)
}

/// Standard output as a writer; its error is kept, since a closed pipe is no failure.
struct Stdout<'a> {
    output: &'a Output,
    failed: Option<Error>,
}

impl Write for Stdout<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self.output.bytes(bytes) {
            Ok(()) => Ok(bytes.len()),
            Err(e) => {
                self.failed = Some(e);
                Err(io::ErrorKind::Other.into())
            }
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        self.output.flush().map_err(|e| {
            self.failed = Some(e);
            io::ErrorKind::Other.into()
        })
    }
}
