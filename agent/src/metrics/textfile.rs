//! Figures in a file for node_exporter's textfile collector: for machines where no agent runs all the time.

use std::ffi::OsString;
use std::fs::{self, File, Permissions};
use std::io::Write as _;
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::Path;

use super::figures::Figures;
use super::render::render;
use crate::{Error, Result};

/// node_exporter runs as a user of its own.
const MODE: u32 = 0o644;

/// Writes the figures so that a reader sees the old text or the new, never a part.
///
/// # Errors
/// If it cannot be written.
pub fn write(path: &Path, figures: &Figures) -> Result<()> {
    let text = render(figures)?;
    let temporary = temporary_beside(path);
    replace(path, &temporary, text.as_bytes()).map_err(|e| {
        // What is left of it must not fill the directory; the error is told either way.
        let _ = fs::remove_file(&temporary);
        let refused = e.kind() == std::io::ErrorKind::PermissionDenied;
        let error = Error::io(format_args!("cannot write the metrics to {}", path.display()), e);
        let directory = path.parent().unwrap_or(path).display();
        if refused {
            error.with_hint(format_args!("Let the user who runs lifeboat write in {directory}."))
        } else {
            error.with_hint(format_args!("Check `textfile` in [metrics], and the directory {directory}."))
        }
    })
}

/// The collector reads all `*.prom`: until it is whole the file has another name.
fn temporary_beside(path: &Path) -> std::path::PathBuf {
    let mut name = OsString::from(".");
    name.push(path.file_name().unwrap_or_default());
    name.push(format!(".{}", std::process::id()));
    path.with_file_name(name)
}

fn replace(path: &Path, temporary: &Path, text: &[u8]) -> std::io::Result<()> {
    let mut file = File::options().create(true).write(true).truncate(true).mode(MODE).open(temporary)?;
    // The service's umask takes the others' right away.
    file.set_permissions(Permissions::from_mode(MODE))?;
    file.write_all(text)?;
    // Not synced: after a power cut it is written anew, and an empty file tells nothing wrong.
    fs::rename(temporary, path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_file_is_replaced_whole_and_readable_by_all() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("lifeboat.prom");
        fs::write(&path, "old").unwrap();
        let old = File::open(&path).unwrap();
        let figures = Figures { version: "1.2.3".into(), ..Figures::default() };
        write(&path, &figures).unwrap();
        assert!(fs::read_to_string(&path).unwrap().ends_with("lifeboat_build_info{version=\"1.2.3\"} 1\n"));
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o644);
        // Who has the old one open reads it to its end.
        assert_eq!(std::io::read_to_string(old).unwrap(), "old");
        let names: Vec<_> = fs::read_dir(directory.path()).unwrap().map(|e| e.unwrap().file_name()).collect();
        assert_eq!(names, ["lifeboat.prom"]);
    }

    #[test]
    fn a_directory_that_is_not_there_is_named() {
        let error = write(Path::new("/nonexistent/metrics/a.prom"), &Figures::default()).unwrap_err();
        assert!(error.to_string().contains("/nonexistent/metrics/a.prom: no such file"), "{error}");
        assert!(error.hint().unwrap().contains("[metrics]"));
    }

    #[test]
    fn the_collector_does_not_see_the_file_before_it_is_whole() {
        let temporary = temporary_beside(Path::new("/a/b.prom"));
        assert_eq!(temporary.parent(), Some(Path::new("/a")));
        assert_ne!(temporary.extension().unwrap(), "prom");
    }
}
