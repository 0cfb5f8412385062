//! The store, and with it the repository, as far as each can be reached.

use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use rustix::fs::{Access, AtFlags, CWD, StatVfsMountFlags};

use super::{FREE_BYTES_MIN, Findings, contents};
use crate::cli::session::Target;
use crate::cli::text::count;
use crate::cli::{default_repository, destinations};
use crate::fs::size::human;
use crate::repository::connect::Mode;
use crate::repository::{Area, Repository, Store};
use crate::tree::path_text;
use crate::{Kind, Result};

/// Looks at all destinations that are meant, at each by itself; into the repository only with a key.
pub(super) fn look(findings: &mut Findings<'_>, mut has_key: bool) -> Result<()> {
    let session = findings.session;
    let targets = match destinations::chosen(session, &[]) {
        Ok(targets) => targets,
        Err(e) => return findings.error("repository", &e),
    };
    let is_single = targets.len() == 1;
    let mut opened: Option<Repository> = None;
    for target in &targets {
        // With one there is nothing to tell apart.
        findings.place = (!is_single).then(|| target.name.clone());
        let repository = look_at(findings, target, opened.as_ref(), &mut has_key)?;
        opened = opened.or(repository);
    }
    findings.place = None;
    same_disk(findings, &targets)
}

/// One of them; gives back the repository there if it opens. The keys of one that is open already are those of all.
fn look_at(
    findings: &mut Findings<'_>,
    target: &Target,
    opened: Option<&Repository>,
    has_key: &mut bool,
) -> Result<Option<Repository>> {
    let session = findings.session;
    if target.is_default && !default_repository::exists(&session.settings) {
        findings.error("repository", &default_repository::none_named(&session.settings))?;
        return Ok(None);
    }
    let provider = match target.connect(Mode::Open) {
        Ok(provider) => provider,
        Err(e) => {
            findings.error("repository", &e)?;
            return Ok(None);
        }
    };
    let store = Store::new(provider.clone())?;
    space(findings, &store)?;
    writable(findings, &store)?;
    private(findings, &store)?;
    if !*has_key {
        return Ok(None);
    }
    // Without the warning of a memory that cannot be read: it is one of the findings.
    let repository = match opened {
        Some(first) => first.open_sibling(provider),
        None => session.open_target(target).map(|(repository, _)| repository),
    };
    match repository {
        Ok(repository) => {
            findings.good("repository", format_args!("{} opens", repository.store().location()))?;
            contents(findings, &repository)?;
            Ok(Some(repository))
        }
        Err(e) if e.kind() == Kind::Interrupted => Err(e),
        Err(e) => {
            // A key that does not open one opens none of them: that is said, and asked for, once.
            *has_key = e.kind() != Kind::WrongKey;
            findings.error("repository", &e)?;
            Ok(None)
        }
    }
}

/// Whether the loss of one disk takes the files and all that was kept of them. That another destination is away now does not matter.
fn same_disk(findings: &mut Findings<'_>, looked_at: &[Target]) -> Result<()> {
    let session = findings.session;
    let all = destinations::all(session).unwrap_or_default();
    let home = &session.settings.default_repository.path;
    let is_here = |target: &Target| target.is_default || is_same_disk(target.location.local_path(), home);
    let place = match looked_at {
        _ if !all.iter().all(is_here) => return Ok(()),
        [] => return Ok(()),
        [target] if target.is_default && !default_repository::exists(&session.settings) => return Ok(()),
        [_] => "it is",
        _ => "all destinations are",
    };
    findings.advice(
        "repository",
        format_args!("{place} on the same disk as your home directory, and lost with that disk"),
        "Keep another on an external disk or another machine: --repository PLACE, or a [[destination]].",
    )
}

/// Whether a backup could be stored, as far as the system says without anything being written.
fn writable(findings: &mut Findings<'_>, store: &Store) -> Result<()> {
    let Some(root) = store.capabilities().local_root else { return Ok(()) };
    let shown = path_text::display(root.as_os_str().as_bytes());
    if rustix::fs::statvfs(&root).is_ok_and(|stat| stat.f_flag.contains(StatVfsMountFlags::RDONLY)) {
        return findings.bad(
            "store",
            format_args!("{shown} is on a file system that is mounted read-only: nothing can be backed up"),
            "Mount it writable (mount -o remount,rw); if the system made it so by itself, look for errors of the disk first \
             (dmesg).",
        );
    }
    let denied: Vec<PathBuf> = folders(&root).into_iter().filter(|folder| !can_write(folder)).collect();
    let Some(first) = denied.first() else { return findings.good("store", "it can be written to") };
    let text = format!(
        "{} cannot be written to by this user: {}{}",
        count(denied.len() as u64, "folder of it", "folders of it"),
        path_text::display(first.as_os_str().as_bytes()),
        if denied.len() > 1 { " …" } else { "" }
    );
    let fix = format!(
        "Run lifeboat as the user whom it belongs to, or give it to this one: chown -R \"$USER\" {shown} && chmod -R u+rwX {shown}"
    );
    findings.bad("store", text, &fix)
}

/// The folders that a backup writes to: runs of several users leave some that belong to each.
fn folders(root: &Path) -> Vec<PathBuf> {
    let below = |folder: &Path| {
        let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
        let folders = entries.filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()));
        folders.map(|entry| entry.path()).collect::<Vec<_>>()
    };
    let areas = Area::ALL.iter().map(|area| root.join(area.name())).filter(|area| area.is_dir());
    let mut all = vec![root.to_path_buf()];
    for area in areas {
        all.extend(below(&area));
        all.push(area);
    }
    all.sort_unstable();
    all
}

/// Whether only its owner can write to it. Who can add and remove files there can destroy the backups, although not read them.
fn private(findings: &mut Findings<'_>, store: &Store) -> Result<()> {
    let Some(root) = store.capabilities().local_root else { return Ok(()) };
    let folders = folders(&root);
    let open_to = |bits: u32| -> Vec<&PathBuf> {
        let mode = |folder: &Path| rustix::fs::stat(folder).map_or(0, |stat| stat.st_mode);
        folders.iter().filter(|folder| mode(folder) & bits != 0).collect()
    };
    let (all, group) = (open_to(0o002), open_to(0o020));
    let text = |folders: &[&PathBuf], whom: &str| {
        let first = folders.first().map(|first| path_text::display(first.as_os_str().as_bytes()));
        let which = count(folders.len() as u64, "folder of it", "folders of it");
        let more = if folders.len() > 1 { " …" } else { "" };
        format!(
            "{which} can be written to by {whom}, who can so remove backups: {}{more}",
            first.unwrap_or_default()
        )
    };
    let fix = format!("chmod -R go-w {}", path_text::display(root.as_os_str().as_bytes()));
    match (all.is_empty(), group.is_empty()) {
        (true, true) => Ok(()),
        (false, _) => findings.bad("store", text(&all, "every user of this machine"), &fix),
        // Some share a repository by a group on purpose.
        (true, false) => findings.advice(
            "store",
            text(&group, "other users of its group"),
            &format!("If that is not wanted: {fix}"),
        ),
    }
}

fn can_write(folder: &Path) -> bool {
    let wanted = Access::READ_OK | Access::WRITE_OK | Access::EXEC_OK;
    rustix::fs::accessat(CWD, folder, wanted, AtFlags::EACCESS).is_ok()
}

fn is_same_disk(repository: Option<&Path>, home: &Path) -> bool {
    let device = |path: &Path| {
        let existing = path.ancestors().find(|path| path.exists())?;
        rustix::fs::stat(existing).ok().map(|stat| stat.st_dev)
    };
    repository.is_some_and(|repository| device(repository).is_some() && device(repository) == device(home))
}

fn space(findings: &mut Findings<'_>, store: &Store) -> Result<()> {
    match store.usage() {
        Ok(usage) => match usage.available_bytes {
            Some(free) if free < FREE_BYTES_MIN => findings.bad(
                "space",
                format_args!("only {} are free at {}", human(free), store.location()),
                "Free some space on that disk, forget snapshots and run `lifeboat prune`, or copy the whole directory of the repository to a larger one and name the new \
                 place by --repository.",
            ),
            Some(free) => findings.good("space", format_args!("{} are free", human(free))),
            None => Ok(()),
        },
        Err(e) => findings.error("space", &e),
    }
}
