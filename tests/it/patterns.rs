//! Exclude patterns against the one who defined them: `git check-ignore` on real files.

use std::collections::BTreeSet;
use std::fs;
use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Stdio};

use lifeboat_agent::scan::exclude::{ExcludeRules, ExcludeSettings};
use lifeboat_tests::random::Random;

/// A path with `/` at its end is a directory.
const PATHS: &[&str] = &[
    "a",
    "b/",
    "b/a",
    "b/ab/",
    "b/ab/a",
    "b/ab/c.o",
    "b/{a,b}",
    "ab/",
    "ab/a/",
    "ab/a/b/",
    "ab/a/b/c",
    "ab/.a",
    "abc",
    "c.o",
    "{a,b}",
    "{}",
    "*",
    "**",
    "?",
    "[",
    "]",
    "[ab]",
    "\\",
    "\\a",
    "#a",
    "!a",
    "a b",
    "a ",
    " ",
    "-",
    ".a",
    "A",
    "7",
    "^",
    "caf\u{e9}",
    "d/",
    "d/d/",
    "d/d/d/",
    "d/d/d/a",
    "d/d/b",
    "d/x-y/",
    "d/x-y/a.o",
];

/// What patterns are made of.
const ATOMS: &[&str] = &[
    "a",
    "b",
    "c",
    "d",
    "ab",
    ".o",
    "*",
    "*",
    "**",
    "?",
    "/",
    "/",
    "/",
    "**/",
    "/**",
    "/**/",
    "[ab]",
    "[!a]",
    "[^b]",
    "[a-c]",
    "[]a]",
    "[a\\]]",
    "[\\[-\\]]",
    "[[:alpha:]]",
    "[[:digit:]x]",
    "[[a]",
    "[a-]",
    "[!/]",
    "\\*",
    "\\[",
    "\\a",
    "{a,b}",
    "{",
    "}",
    ",",
    "-",
    " ",
    "\\ ",
    "#",
    "!",
    "\\#",
    "\\!",
    "caf?",
    "caf??",
    "\u{e9}",
    "[\u{e9}]",
    "A",
    "\\/",
];

/// Patterns that have been wrong somewhere.
const KNOWN: &[&str] = &[
    "a",
    "/a",
    "a/",
    "/b/",
    "b/**",
    "/b/*",
    "**/a",
    "/**/b",
    "**",
    "/**",
    "*",
    "!a",
    "/d/**/a",
    "/d/**/d",
    "**/d/**",
    "{a,b}",
    "*.{o,a}",
    "[[:alpha:]]*",
    "a**",
    "**a",
    "/a**/b",
    "/d/**b",
    "ab/",
    "\\\\",
    "\\\\a",
    "a\\ ",
    "a ",
    "*.o",
    "/*/*.o",
    "**/ab/*",
    "[\\]]",
    "caf\u{e9}",
];

fn pattern(random: &mut Random) -> String {
    if random.below(5) == 0 {
        return (*random.pick(KNOWN)).to_owned();
    }
    let body: String = (0..=random.below(4)).map(|_| *random.pick(ATOMS)).collect();
    let not = if random.below(4) == 0 { "!" } else { "" };
    format!("{not}{body}")
}

/// Git anchors a pattern with a slash inside where its file lies, and Lifeboat does not: where that would differ, it is anchored for both.
fn anchored(pattern: String) -> String {
    let (not, body) = match pattern.strip_prefix('!') {
        Some(body) => ("!", body),
        None => ("", &*pattern),
    };
    let has_inner_slash = body.strip_suffix('/').unwrap_or(body).contains('/');
    match has_inner_slash && !body.starts_with('/') && !body.starts_with("**/") {
        true => format!("{not}/{body}"),
        false => pattern,
    }
}

/// As a walk from the top would: what lies in a directory that is left out is left out.
fn skips(rules: &ExcludeRules, path: &str) -> bool {
    let (path, is_dir) = path.strip_suffix('/').map_or((path, false), |path| (path, true));
    let full = format!("/{path}");
    let ends = full.match_indices('/').skip(1).map(|(at, _)| at);
    ends.map(|end| (end, true))
        .chain([(full.len(), is_dir)])
        .any(|(end, is_dir)| rules.skips(&full.as_bytes()[..end], is_dir))
}

/// Git compares what comes before the first wildcard on its own, and so takes the `**/` of `/a**/b` for one that begins a pattern,
/// against its own manual ("other consecutive asterisks are considered regular asterisks"): `ab` is ignored by it.
fn git_gets_it_wrong(pattern: &str) -> bool {
    let wildcard = pattern.find(['*', '?', '[', '\\']).unwrap_or(pattern.len());
    let (plain, rest) = pattern.split_at(wildcard);
    rest.starts_with("**") && !matches!(plain, "" | "!") && !plain.ends_with('/')
}

fn make_tree(top: &Path) {
    fs::create_dir(top).unwrap();
    for path in PATHS {
        match path.strip_suffix('/') {
            Some(folder) => fs::create_dir(top.join(folder)).unwrap(),
            None => fs::write(top.join(path), "").unwrap(),
        }
    }
}

fn git(folder: &Path, arguments: &[&str], input: &[u8]) -> Vec<u8> {
    let mut command = Command::new("git");
    command
        .current_dir(folder)
        .args(arguments)
        .env("GIT_CONFIG_GLOBAL", "/dev/null")
        .env("GIT_CONFIG_NOSYSTEM", "1");
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let mut stdin = child.stdin.take().unwrap();
    std::thread::scope(|scope| {
        scope.spawn(move || stdin.write_all(input).unwrap());
        let output = child.wait_with_output().unwrap();
        // 1: nothing is ignored.
        assert!(matches!(output.status.code(), Some(0 | 1)), "{output:?}");
        output.stdout
    })
}

#[test]
fn patterns_leave_out_what_git_ignores() {
    if Command::new("git").arg("--version").output().is_err() {
        println!("skipped: no git");
        return;
    }
    let world = tempfile::tempdir().unwrap();
    let mut random = Random::new(90);
    let mut sets = Vec::new();
    while sets.len() < 250 {
        let patterns: Vec<String> = (0..=random.below(3)).map(|_| anchored(pattern(&mut random))).collect();
        if patterns.iter().any(|pattern| git_gets_it_wrong(pattern)) {
            continue;
        }
        let file = world.path().join("patterns");
        fs::write(&file, patterns.join("\n")).unwrap();
        // What Lifeboat refuses as a mistake is not compared.
        let settings = ExcludeSettings { files: vec![file.clone()], ..ExcludeSettings::default() };
        let Ok(rules) = ExcludeRules::new(&settings) else { continue };
        let top = world.path().join(format!("set{}", sets.len()));
        make_tree(&top);
        fs::rename(&file, top.join(".gitignore")).unwrap();
        sets.push((patterns, rules));
    }
    git(world.path(), &["init", "-q"], b"");
    let asked: Vec<String> = (0..sets.len())
        .flat_map(|set| {
            PATHS.iter().map(move |path| format!("set{set}/{}\0", path.strip_suffix('/').unwrap_or(path)))
        })
        .collect();
    let ignored =
        git(world.path(), &["check-ignore", "--no-index", "-z", "--stdin"], asked.concat().as_bytes());
    let ignored: BTreeSet<&str> = std::str::from_utf8(&ignored).unwrap().split_terminator('\0').collect();
    assert!(
        ignored.len() > 1_000,
        "only {} paths are ignored by git: the comparison says little",
        ignored.len()
    );
    let mut differences = Vec::new();
    for (number, (patterns, rules)) in sets.iter().enumerate() {
        for path in PATHS {
            let by_git =
                ignored.contains(&*format!("set{number}/{}", path.strip_suffix('/').unwrap_or(path)));
            if skips(rules, path) != by_git {
                differences.push(format!("{patterns:?} on {path:?}: git says {by_git}"));
            }
        }
    }
    assert!(differences.is_empty(), "{} differences:\n{}", differences.len(), differences.join("\n"));
}
