//! `[[source]]` of the configuration file: what is backed up, how it is read, and what runs before and after.

pub mod written;

use std::os::unix::ffi::OsStrExt as _;
use std::path::{Component, Path, PathBuf};
use std::time::Duration;

use super::name::{self, unknown};
use super::{Destination, Places};
use crate::backup::Guards;
use crate::compress::Level;
use crate::scan::exclude::Patterns;
use crate::{Error, Result};
use written::{HookFile, HooksFile, KindFile, OnChangeFile};
pub use written::{OnFailure, SourceFile};

const NAME_BYTES_MAX: usize = 64;
/// A change is followed by a backup when nothing else changed for so long.
const DEBOUNCE: Duration = Duration::from_secs(10);
/// Backups after changes are at least so far apart.
const MINIMUM_INTERVAL: Duration = Duration::from_secs(5 * 60);
/// A hook may take this long.
const HOOK_TIMEOUT: Duration = Duration::from_secs(5 * 60);
/// The copy of a database may take this long: one that is written to all the time must end some time.
const COPY_TIMEOUT: Duration = Duration::from_secs(60 * 60);
/// `lifeboat run NAME` takes a source or a class: these are classes.
const CLASS_NAMES: [&str; 8] =
    ["hourly", "daily", "weekly", "monthly", "manual", "on-change", "safety", "api"];

/// A source.
#[derive(Debug, Clone, PartialEq)]
pub struct Source {
    /// What it is called; the snapshots' source.
    pub name: String,
    /// What is read.
    pub kind: SourceKind,
    /// Names of the destinations it goes to; none for all.
    pub to: Vec<String>,
    /// Names of the classes it is backed up for; none for all.
    pub classes: Vec<String>,
    /// Tags of its snapshots.
    pub tags: Vec<String>,
    /// How hard to compress, if not as generally.
    pub level: Option<Level>,
    /// What must hold, or there is no snapshot.
    pub guards: Guards,
    /// Programs that run before and after.
    pub hooks: Hooks,
    /// Whether and how it is backed up after changes.
    pub on_change: Option<OnChange>,
    /// Of jobs that wait, those with the higher number run first.
    pub priority: i32,
}

/// What is read of a source.
#[derive(Debug, Clone, PartialEq)]
pub enum SourceKind {
    /// Files and directories.
    Files(FilesSource),
    /// Live SQLite databases.
    Sqlite(SqliteSource),
    /// The output of a program.
    Command(CommandSource),
}

/// Files and directories.
#[derive(Debug, Clone, PartialEq)]
pub struct FilesSource {
    /// Absolute paths and glob patterns.
    pub paths: Vec<PathBuf>,
    /// Patterns of what is left out, besides the general ones.
    pub exclude: Vec<String>,
    /// Files of such patterns, likewise.
    pub exclude_file: Vec<PathBuf>,
    /// Leave out the contents of caches that are tagged as such, also if that is not so generally.
    pub exclude_caches: bool,
    /// Do not go into other file systems, likewise.
    pub one_file_system: bool,
}

/// Live SQLite databases.
#[derive(Debug, Clone, PartialEq)]
pub struct SqliteSource {
    /// Absolute paths and glob patterns.
    pub paths: Vec<PathBuf>,
    /// The copy of one may take this long.
    pub timeout: Duration,
}

/// The output of a program.
#[derive(Debug, Clone, PartialEq)]
pub struct CommandSource {
    /// The program and its arguments.
    pub command: Vec<String>,
    /// The program that takes the output in again, and its arguments.
    pub restore: Option<Vec<String>>,
    /// Where the output appears in the snapshot: an absolute path.
    pub file: PathBuf,
    /// It may take this long.
    pub timeout: Option<Duration>,
}

/// Backups after changes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OnChange {
    /// When nothing changed for so long.
    pub debounce: Duration,
    /// Not more often than this.
    pub minimum_interval: Duration,
}

/// Programs that run before and after.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Hooks {
    /// Before the source is opened.
    pub before: Vec<Hook>,
    /// After a backup that was good.
    pub after: Vec<Hook>,
    /// After one that was not.
    pub failed: Vec<Hook>,
    /// In any case, at the end.
    pub finally: Vec<Hook>,
}

/// One such program.
#[derive(Debug, Clone, PartialEq)]
pub struct Hook {
    /// It and its arguments.
    pub command: Vec<String>,
    /// It may take this long.
    pub timeout: Duration,
    /// What its failure means.
    pub on_failure: OnFailure,
}

impl Source {
    /// The source of this name.
    ///
    /// # Errors
    /// `Usage` if there is none.
    pub fn named<'s>(sources: &'s [Self], name: &str) -> Result<&'s Self> {
        let known = || sources.iter().map(|source| source.name.as_str());
        let found = sources.iter().find(|source| source.name == name);
        found.ok_or_else(|| unknown("source", name, known()))
    }

    /// The word of its kind, as it is written.
    pub const fn kind_word(&self) -> &'static str {
        match self.kind {
            SourceKind::Files(_) => "files",
            SourceKind::Sqlite(_) => "sqlite",
            SourceKind::Command(_) => "command",
        }
    }
}

/// Refuses classes that no `[class.NAME]` has and that are none of the usual ones: such a source would never be due.
///
/// # Errors
/// `Usage` that names the source.
pub fn check_classes(sources: &[Source], known: &[&str]) -> Result<()> {
    for source in sources {
        let is_known =
            |class: &String| known.contains(&class.as_str()) || CLASS_NAMES.contains(&class.as_str());
        if let Some(unknown) = source.classes.iter().find(|class| !is_known(class)) {
            let near = super::file::nearest(unknown, known);
            let error = Error::usage(format_args!("source {}: there is no class {unknown}", source.name));
            return Err(match near {
                Some(near) => error.with_hint(format_args!("Did you mean {near}?")),
                None => error.with_hint(format_args!(
                    "Write [class.{unknown}] with a schedule; these are there: {}.",
                    known.join(", ")
                )),
            });
        }
    }
    Ok(())
}

/// Checks what was written.
///
/// # Errors
/// `Usage` that names the source.
pub fn check(
    files: Vec<SourceFile>,
    places: &Places,
    base: &Path,
    destinations: &[Destination],
) -> Result<Vec<Source>> {
    let mut sources: Vec<Source> = Vec::new();
    for file in files {
        check_name(&file.name)?;
        let name = file.name.clone();
        if sources.iter().any(|other| other.name == name) {
            return Err(Error::usage(format_args!("two sources are called {name}"))
                .with_hint("Give each [[source]] a name of its own."));
        }
        let resolve = |path: &Path| places.resolve(path, base);
        let source = one(file, destinations, &resolve);
        sources.push(source.map_err(|e| e.context(format_args!("source {name}")))?);
    }
    Ok(sources)
}

fn check_name(name: &str) -> Result<()> {
    name::check("source", name, NAME_BYTES_MAX)?;
    if CLASS_NAMES.contains(&name) {
        return Err(Error::usage(format_args!("source {name}: that is the name of a class"))
            .with_hint("`lifeboat run` takes the name of a source or of a class: give the source another."));
    }
    Ok(())
}

fn one(
    file: SourceFile,
    destinations: &[Destination],
    resolve: &impl Fn(&Path) -> PathBuf,
) -> Result<Source> {
    refuse_keys_of_other_kinds(&file)?;
    for name in &file.to {
        if !destinations.iter().any(|destination| destination.name == *name) {
            return Err(unknown("destination", name, destinations.iter().map(|known| known.name.as_str())));
        }
    }
    if file.to.iter().chain(&file.classes).chain(&file.tags).any(|name| name.trim().is_empty()) {
        return Err(Error::usage("a name in `to`, `classes` or `tags` is empty"));
    }
    let on_change = match &file.on_change {
        OnChangeFile::Off | OnChangeFile::Switch(false) => None,
        OnChangeFile::Switch(true) => Some((None, None)),
        OnChangeFile::Table(table) => Some((table.debounce, table.minimum_interval)),
    };
    if on_change.is_some() && file.kind == KindFile::Command {
        return Err(Error::usage("`on_change` watches files, and the output of a program is none")
            .with_hint("Give it a class with a schedule instead."));
    }
    let on_change = on_change.map(|(debounce, minimum_interval)| OnChange {
        debounce: debounce.unwrap_or(DEBOUNCE),
        minimum_interval: minimum_interval.unwrap_or(MINIMUM_INTERVAL),
    });
    Ok(Source {
        kind: kind(&file, resolve)?,
        to: file.to,
        classes: file.classes,
        tags: file.tags,
        level: file.compression,
        guards: Guards {
            // A program that prints nothing and says that all is well has not done what it was for.
            bytes_min: file.minimum_size.or((file.kind == KindFile::Command).then_some(1)),
            shrink_max: file.maximum_shrink,
            expect_all: !file.may_vanish,
        },
        hooks: hooks(file.hooks)?,
        on_change,
        priority: file.priority,
        name: file.name,
    })
}

fn refuse_keys_of_other_kinds(file: &SourceFile) -> Result<()> {
    use KindFile::{Command, Files, Sqlite};
    let keys: [(&str, bool, &[KindFile]); 9] = [
        ("paths", file.paths.is_some(), &[Files, Sqlite]),
        ("exclude", file.exclude.is_some(), &[Files]),
        ("exclude_file", file.exclude_file.is_some(), &[Files]),
        ("exclude_caches", file.exclude_caches.is_some(), &[Files]),
        ("one_file_system", file.one_file_system.is_some(), &[Files]),
        ("command", file.command.is_some(), &[Command]),
        ("restore", file.restore.is_some(), &[Command]),
        ("file", file.file.is_some(), &[Command]),
        ("timeout", file.timeout.is_some(), &[Sqlite, Command]),
    ];
    for (key, is_set, kinds) in keys {
        if is_set && !kinds.contains(&file.kind) {
            let of: Vec<String> = kinds.iter().map(ToString::to_string).collect();
            return Err(Error::usage(format_args!(
                "`{key}` is a key of sources of kind {}, and this one is of kind {}",
                of.join(" and "),
                file.kind
            ))
            .with_hint("Take the key away, or say the `kind` that is meant."));
        }
    }
    Ok(())
}

fn kind(file: &SourceFile, resolve: &impl Fn(&Path) -> PathBuf) -> Result<SourceKind> {
    match file.kind {
        KindFile::Files => {
            let exclude = file.exclude.clone().unwrap_or_default();
            let mut patterns = Patterns::default();
            exclude.iter().try_for_each(|pattern| patterns.add(pattern, "`exclude`"))?;
            let files = file.exclude_file.iter().flatten();
            Ok(SourceKind::Files(FilesSource {
                paths: paths(file, resolve)?,
                exclude,
                exclude_file: files.map(|path| resolve(Path::new(path))).collect(),
                exclude_caches: file.exclude_caches.unwrap_or_default(),
                one_file_system: file.one_file_system.unwrap_or_default(),
            }))
        }
        KindFile::Sqlite => Ok(SourceKind::Sqlite(SqliteSource {
            paths: paths(file, resolve)?,
            timeout: file.timeout.unwrap_or(COPY_TIMEOUT),
        })),
        KindFile::Command => {
            let command = file.command.clone().ok_or_else(|| {
                Error::usage(
                    "`command` is missing: the program, with its arguments, whose output is backed up",
                )
            })?;
            let default = || PathBuf::from(format!("/{}.dump", file.name));
            let path = file.file.clone().unwrap_or_else(default);
            refuse_no_file(&path)?;
            Ok(SourceKind::Command(CommandSource {
                command: program(command, "command")?,
                restore: file.restore.clone().map(|words| program(words, "restore")).transpose()?,
                file: path,
                timeout: file.timeout,
            }))
        }
    }
}

fn paths(file: &SourceFile, resolve: &impl Fn(&Path) -> PathBuf) -> Result<Vec<PathBuf>> {
    let written = file.paths.as_deref().unwrap_or_default();
    if written.is_empty() {
        return Err(Error::usage("`paths` is missing: what is to be backed up"));
    }
    let one = |path: &String| {
        if path.trim().is_empty() {
            return Err(Error::usage("a path in `paths` is empty"));
        }
        let path = resolve(Path::new(path));
        match glob::Pattern::new(&path.to_string_lossy()) {
            Ok(_) => Ok(path),
            Err(_) if path.exists() => Ok(path),
            Err(e) => Err(Error::usage(format_args!("the pattern {}: {}", path.display(), e.msg))),
        }
    };
    written.iter().map(one).collect()
}

fn refuse_no_file(path: &Path) -> Result<()> {
    let plain = path.components().skip(1).all(|part| matches!(part, Component::Normal(_)));
    let ends = path.file_name().is_some() && !path.as_os_str().as_bytes().ends_with(b"/");
    if path.is_absolute() && plain && ends {
        return Ok(());
    }
    Err(Error::usage(format_args!("`file` {} is no absolute path of a file", path.display()))
        .with_hint("Write a path such as /dump/app.pgdump, without `..`: there it appears in the snapshot."))
}

fn program(words: Vec<String>, key: &str) -> Result<Vec<String>> {
    match words.first() {
        Some(program) if !program.trim().is_empty() => Ok(words),
        _ => Err(Error::usage(format_args!("`{key}` names no program")).with_hint(
            "Write the program and its arguments: [\"pg_dump\", \"-Fc\", \"app\"]. No shell runs.",
        )),
    }
}

fn hooks(file: HooksFile) -> Result<Hooks> {
    let all = |hooks: Vec<HookFile>, key: &str, on_failure: OnFailure| -> Result<Vec<Hook>> {
        let one = |hook| match hook {
            HookFile::Command(words) => {
                Ok(Hook { command: program(words, key)?, timeout: HOOK_TIMEOUT, on_failure })
            }
            HookFile::Table(table) => Ok(Hook {
                command: program(table.command, key)?,
                timeout: table.timeout.unwrap_or(HOOK_TIMEOUT),
                on_failure: table.on_failure.unwrap_or(on_failure),
            }),
        };
        hooks.into_iter().map(one).collect()
    };
    Ok(Hooks {
        before: all(file.before, "hooks.before", OnFailure::Error)?,
        after: all(file.after, "hooks.after", OnFailure::Warn)?,
        failed: all(file.failed, "hooks.failed", OnFailure::Warn)?,
        finally: all(file.finally, "hooks.finally", OnFailure::Warn)?,
    })
}

#[cfg(test)]
mod tests;
