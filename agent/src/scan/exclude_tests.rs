//! Exclude rules as a user meets them.

use rustix::fd::AsFd;

use super::*;
use crate::Kind;
use crate::fs::capture::{open_dir_path, read_names};

fn rules(patterns: &[&str]) -> ExcludeRules {
    let settings = ExcludeSettings {
        patterns: patterns.iter().map(ToString::to_string).collect(),
        ..Default::default()
    };
    ExcludeRules::new(&settings).unwrap()
}

/// Patterns, then paths that are left out and paths that are not. A path with `/` at its end is a directory.
fn check(patterns: &[&str], skipped: &[&str], kept: &[&str]) {
    let rules = rules(patterns);
    for (paths, expected) in [(skipped, true), (kept, false)] {
        for path in paths {
            let (bare, is_dir) = path.strip_suffix('/').map_or((*path, false), |bare| (bare, true));
            assert_eq!(rules.skips(bare.as_bytes(), is_dir), expected, "{patterns:?} on {path}");
        }
    }
}

#[test]
fn a_name_matches_at_any_depth() {
    check(&["*.o"], &["/a.o", "/srv/x/a.o", "/srv/.o", "/srv/d.o/"], &["/a.oo", "/a.O", "/srv/o"]);
    check(
        &["node_modules/"],
        &["/node_modules/", "/a/b/node_modules/"],
        &["/a/node_modules", "/a/xnode_modules/"],
    );
    check(&["core"], &["/core", "/a/core", "/a/core/"], &["/a/core.1", "/core2"]);
}

#[test]
fn an_absolute_pattern_matches_from_the_root() {
    check(
        &["/home/*/.cache"],
        &["/home/a/.cache/", "/home/b/.cache"],
        &["/home/.cache/", "/home/a/b/.cache/", "/x/home/a/.cache/", "/home/a/"],
    );
    check(&["/proc"], &["/proc/"], &["/srv/proc/", "/proc2/"]);
    check(&["/var/tmp/**"], &["/var/tmp/a", "/var/tmp/a/b/"], &["/var/tmp/", "/var/tmpa"]);
    check(&["/home/**/*.iso"], &["/home/a.iso", "/home/a/b/c.iso"], &["/a.iso"]);
}

#[test]
fn a_slash_inside_does_not_anchor() {
    check(&["target/debug"], &["/home/a/p/target/debug/", "/target/debug"], &["/target/release/", "/debug/"]);
    check(&["target/debug/"], &["/p/target/debug/"], &["/p/target/debug"]);
    check(&["**/a/b"], &["/a/b", "/x/a/b"], &["/a/c/b"]);
    check(&["a/**/b"], &["/x/a/b", "/a/1/2/b"], &["/b"]);
    check(&["*.o", "!keep/*.o"], &["/x/a.o"], &["/x/keep/a.o"]);
}

#[test]
fn the_last_match_decides() {
    check(&["*.log", "!important.log"], &["/a.log"], &["/x/important.log"]);
    check(&["!important.log", "*.log"], &["/x/important.log"], &[]);
    check(&["/home/*", "!/home/alice"], &["/home/bob/"], &["/home/alice/", "/home/alice/x"]);
}

#[test]
fn special_characters_can_be_meant_literally() {
    check(&["#*#", "a b ", r"\!x", r"\*"], &["/d/#x#", "/a b ", "/!x", "/*"], &["/a b", "/x", "/y"]);
    check(&["#d/x", r"\!d/x"], &["/a/#d/x", "/!d/x"], &["/d/x"]);
    check(&["[a-c]?.{tmp,bak}"], &["/b1.{tmp,bak}"], &["/b1.tmp", "/c2.bak", "/d1.{tmp,bak}"]);
    check(&["{a", "b}", "{}"], &["/{a", "/b}", "/x/{}"], &["/a", "/b"]);
}

#[test]
fn names_need_not_be_utf8() {
    let rules = rules(&["*.o", "/srv/?x/*", "caf?"]);
    for (path, expected) in [
        (&b"/srv/\xff\xfe.o"[..], true),
        (b"/srv/line\nbreak.o", true),
        (b"/srv/\xffx/\x80", true),
        (b"/srv/caf\xe9", true),
        (b"/srv/\xff\xfe", false),
    ] {
        assert_eq!(rules.skips(path, false), expected, "{}", path_text::display(path));
    }
    let long = [&b"/"[..], &[b'n'; 255], b".o"].concat();
    assert!(rules.skips(&long, false));
}

#[test]
fn no_rules_leave_out_nothing() {
    let rules = ExcludeRules::default();
    assert!(!rules.has_patterns());
    assert!(!rules.skips(b"/a", true));
    assert!(!rules.skips_size(u64::MAX));
    assert!(ExcludeRules::new(&ExcludeSettings::default()).is_ok_and(|rules| !rules.has_patterns()));
}

#[test]
fn only_larger_files_are_left_out() {
    let rules = ExcludeRules { larger_than: Some(1000), ..Default::default() };
    assert!(!rules.skips_size(1000));
    assert!(rules.skips_size(1001));
}

fn usage_error(settings: &ExcludeSettings) -> String {
    let error = ExcludeRules::new(settings).unwrap_err();
    assert_eq!(error.kind(), Kind::Usage);
    format!("{error} | {}", error.hint().unwrap_or_default())
}

#[test]
fn bad_patterns_are_refused_with_their_place() {
    for (pattern, why) in [
        ("a[b", "without its `]`"),
        ("[[:letter:]]", "[:letter:]"),
        ("a\\", "backslash"),
        ("[z-a]", "range z-a"),
        ("", "matches nothing"),
        ("!", "matches nothing"),
        ("/", "matches nothing"),
        ("./a", "`.`"),
        ("/a/../b", "`..`"),
        ("a//b", "two slashes"),
        ("~/x", "whole path"),
        ("$HOME/x", "whole path"),
    ] {
        let settings = ExcludeSettings { patterns: vec!["*.o".into(), pattern.into()], ..Default::default() };
        let message = usage_error(&settings);
        assert!(message.contains(why) && message.contains("--exclude"), "{pattern}: {message}");
    }
    assert!(
        ExcludeRules::new(&ExcludeSettings { patterns: vec!["$RECYCLE.BIN".into()], ..Default::default() })
            .is_ok()
    );
}

#[test]
fn files_of_patterns_are_read_and_their_errors_have_a_line() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("excludes");
    std::fs::write(&file, b"\xef\xbb\xbf# comment\r\n\r\n*.o  \n/tmp/x\r\n!keep.o\n  \n").unwrap();
    let mut settings = ExcludeSettings { files: vec![file.clone()], ..Default::default() };
    let rules = ExcludeRules::new(&settings).unwrap();
    assert!(rules.skips(b"/a/b.o", false) && rules.skips(b"/tmp/x", true));
    assert!(!rules.skips(b"/a/keep.o", false) && !rules.skips(b"/# comment", false));

    settings.patterns = vec!["keep.o".into()];
    let rules = ExcludeRules::new(&settings).unwrap();
    assert!(rules.skips(b"/a/keep.o", false), "the command line comes last");

    std::fs::write(&file, "*.o\n\na[b\n").unwrap();
    let message = usage_error(&settings);
    assert!(message.contains("excludes, line 3: has a `[`"), "{message}");
    std::fs::write(&file, b"caf\xe9\n").unwrap();
    let message = usage_error(&settings);
    assert!(message.contains("`caf\\xe9`") && message.contains("line 1: is not UTF-8"), "{message}");
    settings.files = vec![dir.path().join("missing")];
    let message = usage_error(&settings);
    assert!(message.contains("missing: no such file"), "{message}");
}

fn marker_in(rules: &ExcludeRules, path: &Path) -> Option<String> {
    let dir = open_dir_path(path.as_os_str().as_bytes()).unwrap();
    let names = read_names(dir.as_fd()).unwrap();
    let marker = rules.directory_marker(dir.as_fd(), &names)?;
    Some(String::from_utf8_lossy(&marker.entry().name).into_owned())
}

#[test]
fn cache_directories_are_known_by_a_valid_tag_only() {
    let dir = tempfile::tempdir().unwrap();
    let tag = dir.path().join("CACHEDIR.TAG");
    let rules = ExcludeRules { caches: true, ..Default::default() };
    std::fs::write(dir.path().join("other"), "x").unwrap();
    assert_eq!(marker_in(&rules, dir.path()), None);
    std::fs::write(&tag, &CACHE_SIGNATURE[..42]).unwrap();
    assert_eq!(marker_in(&rules, dir.path()), None, "too short");
    std::fs::write(&tag, [&CACHE_SIGNATURE[..], b"\n# made by a test\n"].concat()).unwrap();
    assert_eq!(marker_in(&rules, dir.path()).as_deref(), Some("CACHEDIR.TAG"));
    assert_eq!(marker_in(&ExcludeRules::default(), dir.path()), None, "only if asked for");
    std::fs::rename(&tag, dir.path().join("elsewhere")).unwrap();
    std::os::unix::fs::symlink("elsewhere", &tag).unwrap();
    assert_eq!(marker_in(&rules, dir.path()), None, "a link is no tag");
    std::fs::remove_file(&tag).unwrap();
    rustix::fs::mknodat(rustix::fs::CWD, &tag, rustix::fs::FileType::Fifo, 0o600.into(), 0).unwrap();
    assert_eq!(marker_in(&rules, dir.path()), None, "a pipe is no tag, and does not hang");
}

#[test]
fn marker_files_are_plain_names() {
    let dir = tempfile::tempdir().unwrap();
    let settings =
        ExcludeSettings { if_present: vec![".nobackup".into(), ".skip".into()], ..Default::default() };
    let rules = ExcludeRules::new(&settings).unwrap();
    assert_eq!(marker_in(&rules, dir.path()), None);
    std::fs::write(dir.path().join(".skip"), "").unwrap();
    assert_eq!(marker_in(&rules, dir.path()).as_deref(), Some(".skip"));
    for name in ["", "..", "a/b"] {
        let message = usage_error(&ExcludeSettings { if_present: vec![name.into()], ..Default::default() });
        assert!(message.contains("plain name"), "{message}");
    }
}
