//! Files and directories as a source.

use std::os::unix::ffi::OsStrExt as _;
use std::path::PathBuf;

use super::paths::expand;
use super::{Entries, Source};
use crate::backup::Plan;
use crate::config::BackupDefaults;
use crate::config::source::FilesSource;
use crate::events::{Context, Event};
use crate::scan::caches;
use crate::scan::exclude::{ExcludeRules, ExcludeSettings};
use crate::tree::path_text;
use crate::{Error, Result};

/// Files and directories, with what is left out of them.
#[derive(Debug)]
pub struct Files {
    paths: Vec<PathBuf>,
    exclude: ExcludeSettings,
    one_file_system: bool,
    cache: PathBuf,
}

impl Files {
    /// Those of a source; what is left out in general is left out of them, too.
    pub fn new(source: &FilesSource, general: &BackupDefaults, cache: PathBuf) -> Self {
        let exclude = ExcludeSettings {
            patterns: [&general.exclude[..], &source.exclude].concat(),
            files: [&general.exclude_file[..], &source.exclude_file].concat(),
            caches: general.exclude_caches || source.exclude_caches,
            ..ExcludeSettings::default()
        };
        let one_file_system = general.one_file_system || source.one_file_system;
        Self { paths: source.paths.clone(), exclude, one_file_system, cache }
    }
}

impl Source for Files {
    fn open(&self, context: &Context) -> Result<Entries> {
        let expanded = expand(&self.paths);
        if expanded.paths.is_empty()
            && let Some(first) = expanded.lacking.first()
        {
            return Err(Error::usage(format_args!(
                "there is nothing to back up: {}: {}",
                path_text::display(&first.path),
                first.message
            ))
            .with_hint("Check `paths` of the source; nothing was backed up."));
        }
        let paths: Vec<Vec<u8>> =
            expanded.paths.iter().map(|path| path.as_os_str().as_bytes().to_vec()).collect();
        let mut plan = Plan::new(&paths)?;
        for lacking in expanded.lacking {
            plan.lack(&lacking.path, lacking.kind, lacking.message);
        }
        for (link, target) in &plan.followed {
            context.report(Event::Notice(format!(
                "{} is a link: what it leads to, {}, is backed up too",
                path_text::display(link),
                path_text::display(target)
            )));
        }
        let mut exclude = self.exclude.clone();
        exclude.patterns.extend(caches::patterns_within(&self.cache, &plan));
        let rules = ExcludeRules::new(&exclude)?;
        Ok(Entries { rules, one_file_system: self.one_file_system, ..Entries::new(plan) })
    }
}
