//! Arguments of `lifeboat backup`, and the plan, rules and options that they mean together with the configuration.

use std::ffi::OsString;
use std::fs::File;
use std::io::Read as _;
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::path::{Path, PathBuf};

use clap::Args;

use super::source_job::SourceRun;
use super::text::not_empty;
use crate::backup::{BackupOptions, Guards, Plan};
use crate::compress::Level;
use crate::config::Settings;
use crate::fs::size::parse_size;
use crate::scan::caches;
use crate::scan::exclude::{ExcludeRules, ExcludeSettings, Patterns};
use crate::tree::path_text;
use crate::{Error, Result};

/// Arguments of `backup`.
#[derive(Debug, Args)]
#[command(
    after_help = "Without a repository named or configured, one is made in ~/.local/share/lifeboat with a key file beside it.\n\n\
                        Exit code 3: the snapshot was made, but something could not be read as it is."
)]
pub struct Backup {
    /// Files and directories
    #[arg(value_name = "PATH")]
    pub(super) paths: Vec<OsString>,
    /// Tag the snapshot; may be given more than once
    #[arg(long = "tag", value_name = "TAG", value_parser = not_empty)]
    tags: Vec<String>,
    /// Name of this machine in the snapshot
    #[arg(long, value_name = "NAME", value_parser = not_empty)]
    host: Option<String>,
    /// Name what is backed up: snapshots of one source form one history, whatever their paths. Without a PATH: a source of the configuration
    #[arg(long, value_name = "NAME", value_parser = not_empty)]
    pub(super) source: Option<String>,
    /// Which history the snapshot belongs to
    #[arg(long, value_name = "NAME", default_value = "manual", value_parser = not_empty)]
    class: String,
    /// Only to this destination of the configuration; may be repeated, the first is read from and written to first
    #[arg(long, value_name = "NAME", value_parser = not_empty)]
    pub(super) to: Vec<String>,
    /// Only say what would be backed up
    #[arg(long)]
    pub(super) dry_run: bool,
    /// Back up standard input as one file
    #[arg(long, conflicts_with_all = ["paths", "files_from", "files_from0"])]
    pub(super) stdin: bool,
    /// Path of that file in the snapshot
    #[arg(long, value_name = "PATH", default_value = "/stdin", requires = "stdin")]
    pub(super) stdin_filename: PathBuf,
    /// Read paths from a file, one a line, `-` for standard input; nothing in them is special
    #[arg(long, value_name = "FILE")]
    files_from: Vec<PathBuf>,
    /// As --files-from, but paths end in NUL bytes, as `find -print0` writes them
    #[arg(long, value_name = "FILE")]
    files_from0: Vec<PathBuf>,
    /// Compare with this snapshot instead of the newest of the same host and source or paths
    #[arg(long, value_name = "SNAPSHOT", value_parser = not_empty)]
    parent: Option<String>,
    /// Read all files, also those that look unchanged
    #[arg(long)]
    rescan: bool,
    /// How hard to compress: off, fast, default, high, or 1 to 19
    #[arg(long, value_name = "LEVEL")]
    compression: Option<Level>,
    /// Do not decode and compare what was packed before it is stored
    #[arg(long, hide = true)]
    no_verify_writes: bool,
    #[command(flatten)]
    exclude: ExcludeArgs,
}

/// What is left out.
#[derive(Debug, Args)]
#[command(next_help_heading = "What is left out")]
struct ExcludeArgs {
    /// A pattern with the syntax of .gitignore: `*.tmp`, `/home/*/.cache`, `node_modules/`, `!keep.tmp`
    #[arg(short, long, value_name = "PATTERN")]
    exclude: Vec<String>,
    /// A file of such patterns, one a line
    #[arg(long, value_name = "FILE")]
    exclude_file: Vec<PathBuf>,
    /// Contents of directories that are tagged as caches (CACHEDIR.TAG)
    #[arg(long)]
    exclude_caches: bool,
    /// Files larger than this, such as 500M
    #[arg(long, value_name = "SIZE", value_parser = parse_size)]
    exclude_larger_than: Option<u64>,
    /// Contents of directories that hold a file of this name, such as .nobackup
    #[arg(long, value_name = "NAME")]
    exclude_if_present: Vec<String>,
    /// Other file systems than those of the paths named
    #[arg(short = 'x', long)]
    one_file_system: bool,
}

impl ExcludeArgs {
    fn says_something(&self) -> bool {
        let Self {
            exclude,
            exclude_file,
            exclude_caches,
            exclude_larger_than,
            exclude_if_present,
            one_file_system,
        } = self;
        let lists = exclude.is_empty() && exclude_file.is_empty() && exclude_if_present.is_empty();
        !lists || *exclude_caches || exclude_larger_than.is_some() || *one_file_system
    }
}

impl Backup {
    /// Whether anything is named that is to be backed up.
    pub(super) fn names_something(&self) -> bool {
        self.stdin
            || [self.paths.len(), self.files_from.len(), self.files_from0.len()]
                .iter()
                .any(|count| *count > 0)
    }

    /// The run of a source of the configuration that is meant.
    ///
    /// # Errors
    /// `Usage` for an option that the configuration says for a source.
    pub(super) fn source_run(&self) -> Result<SourceRun> {
        let own = [
            ("--host", self.host.is_some()),
            ("--parent", self.parent.is_some()),
            ("--compression", self.compression.is_some()),
            ("an option of what is left out", self.exclude.says_something()),
        ];
        if let Some((option, _)) = own.iter().find(|(_, is_set)| *is_set) {
            return Err(Error::usage(format_args!(
                "{option} does not go with a source of the configuration"
            ))
            .with_hint("Change the source in the configuration, or name a PATH."));
        }
        Ok(SourceRun {
            tags: self.tags.clone(),
            to: self.to.clone(),
            rescan: self.rescan,
            dry_run: self.dry_run,
            ..SourceRun::of_class(&self.class)
        })
    }

    /// The paths named, here and in files.
    ///
    /// # Errors
    /// `Usage` for a path that is not there, a file of paths that cannot be read, or no path at all.
    pub(super) fn plan(&self) -> Result<Plan> {
        let mut paths: Vec<Vec<u8>> = self.paths.iter().map(|path| path.as_bytes().to_vec()).collect();
        if paths.iter().any(Vec::is_empty) {
            return Err(Error::usage("a path is empty").with_hint("Is a variable in your script not set?"));
        }
        for (files, end) in [(&self.files_from, b'\n'), (&self.files_from0, b'\0')] {
            for file in files {
                paths.extend(paths_in(file, end)?);
            }
        }
        if paths.is_empty() {
            return Err(Error::usage("the files of paths name no path"));
        }
        Plan::new(&paths)
    }

    /// Where standard input appears in the snapshot.
    ///
    /// # Errors
    /// `Usage` if that is no path of a file.
    pub(super) fn stdin_path(&self) -> Result<Vec<u8>> {
        let path = Path::new("/").join(&self.stdin_filename);
        let plain = path.components().skip(1).all(|part| matches!(part, std::path::Component::Normal(_)));
        if path.file_name().is_none() || !plain || path.as_os_str().as_bytes().ends_with(b"/") {
            return Err(Error::usage(format_args!(
                "--stdin-filename {} is no path of a file",
                path_text::display(self.stdin_filename.as_os_str().as_bytes())
            ))
            .with_hint("Write a name such as database.sql, without `..`."));
        }
        Ok(path.components().as_path().as_os_str().as_bytes().to_vec())
    }

    /// What is left out.
    ///
    /// # Errors
    /// `Usage` for a pattern or file that cannot be used.
    pub(super) fn exclude_rules(&self, settings: &Settings, plan: &Plan) -> Result<ExcludeRules> {
        let defaults = &settings.backup;
        let both = |a: &[String], b: &[String]| [a, b].concat();
        // An error names the place where it is to be mended.
        let mut configured = Patterns::default();
        defaults
            .exclude
            .iter()
            .try_for_each(|pattern| configured.add(pattern, "`exclude` of the configuration"))?;
        let mut patterns = both(&defaults.exclude, &self.exclude.exclude);
        patterns.extend(caches::patterns_within(&settings.directories.cache, plan));
        ExcludeRules::new(&ExcludeSettings {
            patterns,
            files: [&defaults.exclude_file[..], &self.exclude.exclude_file].concat(),
            caches: defaults.exclude_caches || self.exclude.exclude_caches,
            if_present: self.exclude.exclude_if_present.clone(),
            larger_than: self.exclude.exclude_larger_than,
        })
    }

    /// Paths that were named and that a pattern leaves out: they are backed up all the same, which is worth a word.
    pub(super) fn named_and_excluded<'p>(
        plan: &'p Plan,
        rules: &ExcludeRules,
        settings: &Settings,
    ) -> Vec<&'p [u8]> {
        // The patterns of caches are not the user's.
        let caches = caches::own(&settings.directories.cache);
        let is_excluded = |path: &Vec<u8>| {
            let place = Path::new(std::ffi::OsStr::from_bytes(path));
            rules.skips(path, place.is_dir() && !place.is_symlink())
                && !caches.iter().any(|cache| cache == place)
        };
        plan.paths().iter().filter(|path| is_excluded(path)).map(Vec::as_slice).collect()
    }

    /// The engine's options.
    pub(super) fn options(&self, settings: &Settings) -> BackupOptions {
        BackupOptions {
            host: self.host.clone().unwrap_or_else(|| settings.host.clone()),
            user: settings.user.clone(),
            source: self.source.clone(),
            tags: each_once(&self.tags),
            class: self.class.clone(),
            parent: self.parent.clone(),
            rescan: self.rescan,
            dry_run: self.dry_run,
            one_file_system: settings.backup.one_file_system || self.exclude.one_file_system,
            guards: Guards::default(),
            clock: settings.clock.clone(),
            level: self.compression.unwrap_or(settings.backup.level),
            verify: !self.no_verify_writes,
            threads: 0,
        }
    }
}

/// In the order in which they were given first.
pub(super) fn each_once(tags: &[String]) -> Vec<String> {
    let mut seen = std::collections::HashSet::new();
    tags.iter().filter(|tag| seen.insert(*tag)).cloned().collect()
}

fn paths_in(file: &Path, end: u8) -> Result<Vec<Vec<u8>>> {
    let cannot = |e: std::io::Error| {
        let why = crate::error::describe_io(&e);
        Error::usage(format_args!("cannot read the paths in {}: {why}", file.display()))
    };
    let mut bytes = Vec::new();
    if file == Path::new("-") {
        std::io::stdin().lock().read_to_end(&mut bytes).map_err(cannot)?;
    } else {
        File::open(file).and_then(|mut file| file.read_to_end(&mut bytes)).map_err(cannot)?;
    }
    let lines = bytes.split(|byte| *byte == end).filter(|line| !line.is_empty());
    Ok(lines.map(|line| OsString::from_vec(line.to_vec()).into_vec()).collect())
}
