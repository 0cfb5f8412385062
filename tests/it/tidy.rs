//! What the code promises of its own shape: layers, headers, sizes. A failure names the file and the line.

use std::fs;
use std::path::{Path, PathBuf};

const LINES_MAX: usize = 600;

struct Source {
    path: String,
    text: String,
}

impl Source {
    /// The text without what only tests see: a `#[cfg(test)] mod tests { … }` at the end, and comments.
    fn code(&self) -> impl Iterator<Item = (usize, &str)> {
        let end = self.text.find("\n#[cfg(test)]\nmod tests {").unwrap_or(self.text.len());
        self.text[..end].lines().enumerate().map(|(number, line)| (number + 1, line)).filter(|(_, line)| {
            let line = line.trim_start();
            !line.starts_with("//")
        })
    }

    fn is_test(&self) -> bool {
        self.path.starts_with("tests/")
            || self.path.contains("/tests/")
            || self.path.ends_with("tests.rs")
            || self.path.ends_with("/testing.rs")
    }

    fn is_in(&self, folder: &str) -> bool {
        self.path.starts_with(folder)
    }
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_path_buf()
}

fn sources() -> Vec<Source> {
    let mut sources = Vec::new();
    for folder in ["agent/src", "agent/benches", "providers/src", "tests", "fuzz", "bench"] {
        collect(&root().join(folder), &mut sources);
    }
    assert!(sources.len() > 100, "only {} files found", sources.len());
    sources
}

fn collect(folder: &Path, sources: &mut Vec<Source>) {
    let Ok(entries) = fs::read_dir(folder) else { return };
    for entry in entries {
        let path = entry.unwrap().path();
        if path.is_dir() && !path.ends_with("target") {
            collect(&path, sources);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            let text = fs::read_to_string(&path).unwrap();
            let path = path.strip_prefix(root()).unwrap().to_str().unwrap().to_owned();
            sources.push(Source { path, text });
        }
    }
}

/// Whether `line` has `word`, not as the end of a longer one.
fn has_word(line: &str, word: &str) -> bool {
    let begins = |at: usize| !line[..at].ends_with(|c: char| c.is_alphanumeric() || c == '_');
    line.match_indices(word).any(|(at, _)| begins(at))
}

/// Panics with all lines of code that have one of `words`, in files that `watched` picks.
fn forbid(words: &[&str], watched: impl Fn(&Source) -> bool, rule: &str) {
    let mut found = Vec::new();
    for source in sources().iter().filter(|source| watched(source)) {
        for (number, line) in source.code() {
            if words.iter().any(|word| has_word(line, word)) {
                found.push(format!("{}:{number}: {}", source.path, line.trim()));
            }
        }
    }
    assert!(found.is_empty(), "{rule}:\n{}", found.join("\n"));
}

#[test]
fn providers_know_nothing_of_the_agent() {
    forbid(&["lifeboat_agent"], |s| s.is_in("providers/"), "providers/ names the agent");
    let manifest = fs::read_to_string(root().join("providers/Cargo.toml")).unwrap();
    assert!(!manifest.contains("lifeboat-agent"), "providers/Cargo.toml depends on the agent");
}

#[test]
fn only_the_layout_builds_object_keys() {
    let watched =
        |s: &Source| s.is_in("agent/src/") && s.path != "agent/src/repository/layout.rs" && !s.is_test();
    forbid(
        &["Key::new(", "Prefix::folder("],
        watched,
        "object keys are built outside of repository/layout.rs",
    );
}

#[test]
fn only_sealed_bytes_can_be_stored() {
    let watched = |s: &Source| {
        s.is_in("agent/src/")
            && !s.is_in("agent/src/seal/")
            && !s.is_in("agent/src/pack/building.rs")
            && !s.is_test()
    };
    forbid(
        &["SealedObject {", "SealedObject(", "SealedObject::from_stored("],
        |s| watched(s) && !s.is_in("agent/src/repository/"),
        "sealed objects are made outside of seal/, pack/building.rs and repository/",
    );
    // The bytes of the repository's own objects come from `seal_whole` or a key slot, nowhere else.
    forbid(
        &["SealedObject::from_stored("],
        |s| {
            let makers = ["mod.rs", "config.rs", "create.rs", "slots.rs"];
            watched(s) && !makers.iter().any(|file| s.path == format!("agent/src/repository/{file}"))
        },
        "sealed objects are made in a new place of repository/",
    );
    // The provider's own `put` is called in one place.
    forbid(
        &["provider.put(", "provider().put("],
        |s| watched(s) && s.path != "agent/src/repository/store.rs",
        "something is put past repository/store.rs",
    );
}

#[test]
fn the_engine_knows_neither_command_line_nor_progress_bars() {
    let outer = ["agent/src/cli/", "agent/src/cli.rs", "agent/src/main.rs", "agent/src/config/"];
    forbid(
        &["clap", "indicatif", "println!", "eprintln!"],
        |s| s.is_in("agent/src/") && !outer.iter().any(|folder| s.is_in(folder)) && !s.is_test(),
        "an engine module knows the command line",
    );
}

#[test]
fn only_the_configuration_reads_the_environment() {
    forbid(
        &["env::var", "env::vars"],
        |s| {
            (s.is_in("agent/src/") || s.is_in("providers/src/"))
                && !s.is_in("agent/src/config/")
                && !s.is_test()
        },
        "the environment is read outside of config/",
    );
}

#[test]
fn every_file_says_what_it_is_for() {
    let silent: Vec<String> = sources()
        .into_iter()
        .filter(|source| !source.text.starts_with("//! "))
        .map(|source| source.path)
        .collect();
    assert!(silent.is_empty(), "files without //! at the top: {silent:#?}");
}

#[test]
fn no_file_is_too_long() {
    let long: Vec<String> = sources()
        .iter()
        .filter(|source| !source.is_test())
        .map(|source| {
            let end = source.text.find("\n#[cfg(test)]\nmod tests {").unwrap_or(source.text.len());
            (source.text[..end].lines().count(), &source.path)
        })
        .filter(|(lines, _)| *lines > LINES_MAX)
        .map(|(lines, path)| format!("{path}: {lines} lines"))
        .collect();
    assert!(long.is_empty(), "files over {LINES_MAX} lines: {long:#?}");
}

#[test]
fn nothing_is_left_to_do_and_no_lint_is_silenced() {
    let own = |s: &Source| s.path != "tests/it/tidy.rs";
    forbid(&["todo!(", "unimplemented!(", "dbg!("], own, "unfinished code");
    forbid(&["#[allow(", "#![allow("], |s| own(s) && !s.is_in("fuzz/"), "write #[expect(…, reason = …)]");
}

#[test]
fn tests_do_not_sleep() {
    let own = |s: &Source| s.is_in("tests/") && s.path != "tests/it/tidy.rs";
    forbid(&["thread::sleep", "time::sleep"], own, "tests depend on the machine's speed");
}
