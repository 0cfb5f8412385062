//! Which entries of a snapshot are restored: `--include` and `--exclude` with gitignore patterns.

use crate::Result;
use crate::scan::exclude::Patterns;

/// Which entries are restored, by their absolute path in the snapshot.
#[derive(Debug, Default)]
pub struct Selection {
    include: Option<Patterns>,
    /// What `--include` says, for messages.
    included: String,
    exclude: Patterns,
}

impl Selection {
    /// Only what matches one of `include` (all, if there is none) and nothing that matches one of `exclude`.
    ///
    /// # Errors
    /// `Usage` for a pattern that cannot be understood.
    pub fn new(include: &[String], exclude: &[String]) -> Result<Self> {
        let included = include.join(", ");
        let include = if include.is_empty() { None } else { Some(patterns("--include", include)?) };
        Ok(Self { include, included, exclude: patterns("--exclude", exclude)? })
    }

    /// The patterns of `--include` as they were given.
    pub fn included(&self) -> &str {
        &self.included
    }

    /// Whether only a part is restored, so that directories are made only when something in them is.
    pub const fn is_partial(&self) -> bool {
        self.include.is_some()
    }

    /// Whether anything was left out or picked.
    pub fn is_filter(&self) -> bool {
        self.include.is_some() || !self.exclude.is_empty()
    }

    /// Whether the entry, with all below it, is left out.
    pub fn excludes(&self, path: &[u8], is_dir: bool) -> bool {
        self.exclude.decide(path, is_dir) == Some(true)
    }

    /// Whether the entry itself is picked, by its own name or a directory's above it.
    pub fn includes(&self, path: &[u8], is_dir: bool) -> bool {
        match &self.include {
            Some(include) => nearest(include, path, is_dir),
            None => true,
        }
    }
}

fn patterns(option: &str, list: &[String]) -> Result<Patterns> {
    let mut patterns = Patterns::default();
    list.iter().try_for_each(|pattern| patterns.add(pattern, option))?;
    Ok(patterns)
}

/// What the patterns say of the path, or else of the nearest directory above it of which they say anything.
fn nearest(patterns: &Patterns, path: &[u8], is_dir: bool) -> bool {
    let (mut path, mut is_dir) = (path, is_dir);
    loop {
        if let Some(decided) = patterns.decide(path, is_dir) {
            return decided;
        }
        let Some(up) = path.iter().rposition(|byte| *byte == b'/').filter(|slash| *slash > 0) else {
            return false;
        };
        path = path.get(..up).unwrap_or_default();
        is_dir = true;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn selection(include: &[&str], exclude: &[&str]) -> Selection {
        let owned = |list: &[&str]| list.iter().map(|s| (*s).to_owned()).collect::<Vec<_>>();
        Selection::new(&owned(include), &owned(exclude)).unwrap()
    }

    #[test]
    fn includes_reach_below_directories() {
        let selection = selection(&["/srv/data", "*.conf"], &[]);
        assert!(selection.includes(b"/srv/data", true));
        assert!(selection.includes(b"/srv/data/a/b", false));
        assert!(selection.includes(b"/etc/x.conf", false));
        assert!(!selection.includes(b"/srv", true));
        assert!(!selection.includes(b"/etc/x.conf.d.txt", false));
        // As when backing up, a slash inside does not anchor.
        let selection = self::selection(&["data/x/"], &[]);
        assert!(selection.includes(b"/srv/data/x/below", false));
        assert!(!selection.includes(b"/srv/data/x", false));
    }

    #[test]
    fn excludes_win() {
        let selection = selection(&["/srv"], &["*.log"]);
        assert!(selection.excludes(b"/srv/a.log", false));
        assert!(!selection.excludes(b"/srv/a.txt", false));
    }
}
