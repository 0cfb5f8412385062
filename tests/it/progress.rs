//! What a terminal shows of a running operation, drawn into a pseudo-terminal; and the count of what there is to do.

use std::fs::{self, File};
use std::io::{Read as _, Write as _};
use std::path::PathBuf;
use std::process::{Child, Stdio};
use std::sync::Arc;

use lifeboat_agent::events::{Context, Counters};
use lifeboat_agent::repository::OwnDirectories;
use lifeboat_agent::restore::{self, Overwrite, RestoreOptions, Selection};
use lifeboat_agent::scan::ahead::{Ahead, Found};
use lifeboat_agent::scan::exclude::{ExcludeRules, ExcludeSettings};
use lifeboat_agent::seal::Cipher;
use lifeboat_providers::memory::MemoryProvider;
use lifeboat_tests::binary::{Ended, ended};
use lifeboat_tests::grow;
use lifeboat_tests::random::Random;
use lifeboat_tests::world::{World, backup_all, create};
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::{Winsize, tcsetwinsize};

use crate::scene::{Scene, Tmpfs};

/// As much of a terminal as progress needs.
struct Screen {
    columns: usize,
    rows: Vec<String>,
    row: usize,
    column: usize,
    /// The beginning of a sequence or character that is not there in full yet.
    begun: Vec<u8>,
}

impl Screen {
    fn write(&mut self, bytes: &[u8]) {
        self.begun.extend_from_slice(bytes);
        let bytes = std::mem::take(&mut self.begun);
        let valid = bytes.utf8_chunks().next().map_or("", |chunk| chunk.valid());
        let mut rest = valid;
        while let Some(c) = rest.chars().next() {
            if c == '\x1b' {
                let Some(end) = rest.find(|c: char| c.is_ascii_alphabetic()) else { break };
                self.sequence(&rest[1..=end]);
                rest = &rest[end + 1..];
                continue;
            }
            rest = &rest[c.len_utf8()..];
            match c {
                '\r' => self.column = 0,
                '\n' => self.row += 1,
                c => self.put(c),
            }
        }
        self.begun = bytes[valid.len() - rest.len()..].to_vec();
    }

    fn sequence(&mut self, sequence: &str) {
        match sequence {
            "[2K" => self.current_row().clear(),
            "[1A" => self.row = self.row.saturating_sub(1),
            "[1B" => self.row += 1,
            _ => panic!("unknown to this terminal: {sequence:?}"),
        }
    }

    fn put(&mut self, c: char) {
        if self.column == self.columns {
            (self.row, self.column) = (self.row + 1, 0);
        }
        let column = self.column;
        let row = self.current_row();
        let mut cells: Vec<char> = row.chars().collect();
        cells.resize(cells.len().max(column + 1), ' ');
        cells[column] = c;
        *row = cells.into_iter().collect();
        self.column += 1;
    }

    fn current_row(&mut self) -> &mut String {
        self.rows.resize(self.rows.len().max(self.row + 1), String::new());
        &mut self.rows[self.row]
    }

    fn shown(&self) -> Vec<&str> {
        self.rows.iter().map(|row| row.trim_end()).filter(|row| !row.is_empty()).collect()
    }
}

/// A command whose standard error is a terminal.
struct Watched {
    child: Child,
    terminal: File,
    screen: Screen,
}

impl Watched {
    fn start(scene: &Scene, arguments: &[&str], columns: u16) -> Self {
        let terminal = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).unwrap();
        grantpt(&terminal).unwrap();
        unlockpt(&terminal).unwrap();
        let name = ptsname(&terminal, Vec::new()).unwrap();
        let inner = File::options().read(true).write(true).open(name.to_str().unwrap()).unwrap();
        let size = Winsize { ws_row: 24, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 };
        tcsetwinsize(&inner, size).unwrap();
        // The command's own end goes with this statement, or it would never be seen that there is nobody there any more.
        let mut command = scene.person.command(arguments);
        let command = command.env("TERM", "xterm").stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(inner);
        let child = command.spawn().unwrap();
        let screen =
            Screen { columns: columns.into(), rows: Vec::new(), row: 0, column: 0, begun: Vec::new() };
        Self { child, terminal: File::from(terminal), screen }
    }

    fn feed(&mut self, bytes: &[u8]) {
        self.child.stdin.as_mut().unwrap().write_all(bytes).unwrap();
    }

    /// Waits until there are two lines that pass; `None` if the command ends before that.
    #[track_caller]
    fn wait_for(&mut self, passes: impl Fn(&str, &str) -> bool) -> Option<(String, String)> {
        const READS_MAX: usize = 400;
        let mut buffer = [0; 4096];
        for _ in 0..READS_MAX {
            // EIO: nobody has the other end any more.
            match self.terminal.read(&mut buffer) {
                Ok(0) | Err(_) => return None,
                Ok(got) => self.screen.write(&buffer[..got]),
            }
            match self.screen.shown()[..] {
                [] | [_] => {}
                [first, second] if passes(first, second) => return Some((first.into(), second.into())),
                [_, _] => {}
                _ => panic!("the lines are wider than the terminal: {:#?}", self.screen.rows),
            }
        }
        panic!("nothing that passes: {:#?}", self.screen.rows);
    }

    /// Ends its input and waits for it.
    #[track_caller]
    fn end(mut self) -> Ended {
        drop(self.child.stdin.take());
        self.wait_for(|_, _| false);
        assert_eq!(self.screen.shown(), [""; 0], "it is cleared away at the end");
        ended(self.child)
    }
}

const MIB: usize = 1 << 20;
/// As long as a path may be that somebody waits for.
const NAME: &str = "/a/very/long/path/to/some/directory/with/many/others/in/it/database.sql";

#[test]
fn a_terminal_shows_how_far_it_is_how_fast_what_is_new_and_where() {
    let scene = Scene::new();
    scene.run(&["init"]).expect(0);
    let backup = ["backup", "--stdin", "--stdin-filename", NAME];
    let halves = [1, 2].map(|seed| Random::new(seed).bytes(4 * MIB));
    // Nothing tells how much there will be.
    let mut first = Watched::start(&scene, &backup, 80);
    first.feed(&halves[0]);
    let (line, _) = first.wait_for(|line, _| line.contains("s · 4.0 MiB · ")).unwrap();
    assert!(line.ends_with("/s") && !line.contains(['%', '━']), "{line}");
    first.feed(&halves[1]);
    first.end().expect(0);
    // Now the last snapshot does. What is fed is half of it, which is what is shown until there is more.
    for columns in [20, 40, 80, 200] {
        let mut watched = Watched::start(&scene, &backup, columns);
        watched.feed(&halves[0]);
        let (line, below) = watched.wait_for(|line, _| line.contains("50%")).unwrap();
        assert!(columns < 40 || line.contains("4.0 MiB of 8.0 MiB"), "{line}");
        assert!(columns < 40 || line.starts_with("━━━━") && line.contains("╌╌╌╌  50%  "), "{line}");
        assert!(columns < 80 || below.contains("backing up · 0 B new · "), "{below}");
        assert!(below.ends_with("base.sql") && below.contains('…') == (columns < 200), "{below}");
        if columns >= 80 {
            let (line, _) = watched.wait_for(|line, _| line.ends_with(" left")).unwrap();
            assert!(line.contains("/s · "), "{line}");
        }
        watched.feed(&halves[1]);
        if columns == 200 {
            watched.feed(&halves[0]);
            let (line, _) = watched.wait_for(|line, _| line.contains(" MiB, more than expected")).unwrap();
            assert!(!line.contains(['%', '━']) && !line.contains(" left"), "{line}");
        }
        watched.end().expect(0);
    }
}

#[test]
fn a_first_backup_counts_what_there_is() {
    let scene = Scene::new();
    scene.run(&["init"]).expect(0);
    // Large enough to be seen while it is under way, however fast the machine is.
    for megabytes in [64, 256, 1024] {
        for number in 0..megabytes / 64 {
            let name = scene.world.source().join(format!("{megabytes}-{number}"));
            fs::write(name, Random::new(number as u64).bytes(64 * MIB)).unwrap();
        }
        let mut watched = Watched::start(&scene, &["backup", "--dry-run", scene.source()], 80);
        let seen = watched.wait_for(|line, _| line.contains("% ") && line.contains(" of "));
        watched.end().expect(0);
        if let Some((line, below)) = seen {
            assert!(line.contains("of 64.0 MiB") || megabytes > 64, "{line}");
            assert!(below.contains(" new · ") && below.contains("/source/"), "{below}");
            return;
        }
    }
    panic!("a backup of 1 GiB was over before its progress was drawn");
}

/// What a count ahead comes to, beside what the backup then finds.
fn compare(scene: &Scene, paths: &[PathBuf], settings: &ExcludeSettings, arguments: &[&str]) -> Found {
    let ahead = Ahead {
        paths: paths.iter().map(|path| path.as_os_str().as_encoded_bytes().to_vec()).collect(),
        rules: ExcludeRules::new(settings).unwrap(),
        one_file_system: arguments.contains(&"-x"),
        own: OwnDirectories::default().with(&scene.world.path("repository"), "the repository"),
    };
    let found = ahead.count(&|| false).unwrap();
    assert_eq!(ahead.count(&|| true), None);
    let paths: Vec<&str> = paths.iter().map(|path| path.to_str().unwrap()).collect();
    let all = [&["backup", "--rescan", "--json"], arguments, &paths].concat();
    let summary = scene.run(&all).expect(0).json().pop().unwrap();
    let number = |name: &str| summary[name].as_u64().unwrap();
    let files = number("files_new") + number("files_changed") + number("files_unmodified");
    assert_eq!(found.files, files, "{arguments:?}");
    // Of files that are mostly holes the rest is counted, of others with holes all.
    let bytes = number("bytes_read")..=number("bytes_total");
    assert!(bytes.contains(&found.bytes) && found.bytes < 1 << 30, "{arguments:?}: {found:?}, {bytes:?}");
    found
}

#[test]
fn a_count_ahead_is_what_the_backup_finds() {
    let scene = Scene::new();
    scene.run(&["init"]).expect(0);
    let source = scene.world.source();
    grow::grow(&source, 150, &mut Random::new(80));
    fs::create_dir_all(source.join("cache/below")).unwrap();
    fs::write(source.join("cache/CACHEDIR.TAG"), "Signature: 8a477f597d28d172789f06886806bc55").unwrap();
    fs::write(source.join("cache/below/file"), "cached").unwrap();
    fs::write(source.join("large.o"), vec![1; 3 * MIB]).unwrap();
    File::create(source.join("hole")).unwrap().set_len(1 << 30).unwrap();
    std::os::unix::fs::symlink("sub", source.join("to-sub")).unwrap();
    let all = [source.clone()];
    let plain = ExcludeSettings::default();
    let whole = compare(&scene, &all, &plain, &[]);
    // Paths in one another are counted once, the repository's never, a file by itself.
    assert_eq!(
        compare(&scene, &[source.join("sub"), source.clone(), source.join("top")], &plain, &[]),
        whole
    );
    compare(&scene, &[source.join("top"), source.join("sub")], &plain, &[]);
    let patterns = ExcludeSettings { patterns: vec!["*.o".into(), "sub/".into()], ..plain.clone() };
    compare(&scene, &all, &patterns, &["-e", "*.o", "-e", "sub/"]);
    let caches = ExcludeSettings { caches: true, ..plain.clone() };
    compare(&scene, &all, &caches, &["--exclude-caches"]);
    let small = ExcludeSettings { larger_than: Some(2 << 20), ..plain.clone() };
    compare(&scene, &all, &small, &["--exclude-larger-than", "2M"]);
    let inside = source.join("repository");
    fs::rename(scene.world.path("repository"), &inside).unwrap();
    std::os::unix::fs::symlink(&inside, scene.world.path("repository")).unwrap();
    assert_eq!(compare(&scene, &all, &plain, &[]), whole);
    let Some(_other) = Tmpfs::mount(&source.join("other"), "4m") else { return };
    fs::write(source.join("other/file"), "elsewhere").unwrap();
    assert_eq!(compare(&scene, &all, &plain, &["-x"]), whole);
    let both = compare(&scene, &[source.clone(), source.join("other")], &plain, &["-x"]);
    assert_eq!(both.files, whole.files + 1);
}

/// What is left out, linked or there already is dealt with too: else a restore would be over at forty per cent.
#[test]
fn a_restore_comes_to_all_that_was_expected() {
    let world = World::new();
    let source = world.source();
    for folder in ["kept", "left out"] {
        fs::create_dir(source.join(folder)).unwrap();
        for name in ["large", "small"] {
            let bytes = if name == "large" { 5 * MIB } else { 500 };
            fs::write(source.join(folder).join(name), Random::new(bytes as u64).bytes(bytes)).unwrap();
        }
    }
    fs::hard_link(source.join("kept/large"), source.join("kept/linked")).unwrap();
    File::create(source.join("kept/hole")).unwrap().set_len(20 << 20).unwrap();
    let repository = create(Arc::new(MemoryProvider::new()), &world.machine("own"), Cipher::default());
    let snapshot = backup_all(&repository, &source);
    let none: &[&str] = &[];
    for (round, (include, exclude)) in
        [(none, none), (&["kept"], none), (none, &["left out", "small"]), (&["large"], &["kept"])]
            .into_iter()
            .enumerate()
    {
        let owned = |list: &[&str]| list.iter().map(|text| (*text).to_owned()).collect::<Vec<_>>();
        let selection = Selection::new(&owned(include), &owned(exclude)).unwrap();
        for (dry_run, overwrite) in [
            (true, None),
            (false, None),
            (false, Some(Overwrite::IfChanged)),
            (true, Some(Overwrite::Always)),
        ] {
            let target = world.path(&format!("target{round}"));
            let options = RestoreOptions { dry_run, overwrite, ..RestoreOptions::into_directory(target) };
            let context = Context::silent();
            restore::run(&repository, &snapshot, None, &selection, &options, &context).unwrap();
            let [done, total] = [&context.counters.bytes, &context.counters.bytes_total].map(Counters::get);
            assert_eq!(done, total, "{include:?} {exclude:?} {options:?}");
        }
    }
}
