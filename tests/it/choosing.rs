//! Which files a backup takes: files of paths, and every way to leave something out, through the real binary.

use std::ffi::OsStr;
use std::fs;
use std::io::Write as _;
use std::os::unix::ffi::OsStrExt as _;
use std::process::Stdio;

use lifeboat_tests::binary::{Ended, ended};
use lifeboat_tests::seen::see;

use crate::scene::{Scene, Tmpfs};

/// Names that a line cannot hold, or that look as if they meant something.
const NAMES: &[&[u8]] =
    &[b"plain", b" blank ", b"#hash", b"!not", b"*", b"-dash", b"\xff\xfe", b"back\\slash", b"line\nbreak"];

fn make_named(scene: &Scene) -> Vec<Vec<u8>> {
    let make = |name: &&[u8]| {
        let path = scene.world.source().join(OsStr::from_bytes(name));
        fs::write(&path, name).unwrap();
        path.into_os_string().into_encoded_bytes()
    };
    NAMES.iter().map(make).collect()
}

fn with_input(scene: &Scene, arguments: &[&str], input: &[u8]) -> Ended {
    let mut command = scene.person.command(arguments);
    let mut child =
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(input).unwrap();
    ended(child)
}

/// The names below the source in the newest snapshot.
fn names(scene: &Scene) -> Vec<String> {
    let listed = scene.run(&["ls", "-R", "--json", &format!("latest:{}", scene.source())]).expect(0);
    let prefix = format!("{}/", scene.source());
    listed
        .json()
        .iter()
        .map(|entry| entry["path"].as_str().unwrap().strip_prefix(&prefix).unwrap().to_owned())
        .collect()
}

#[test]
fn files_of_paths_name_what_is_backed_up() {
    let scene = Scene::new();
    scene.run(&["init"]).expect(0);
    let mut paths = make_named(&scene);
    let list = scene.world.path("list");
    fs::write(&list, paths.join(&0)).unwrap();
    scene.run(&["backup", "--files-from0", list.to_str().unwrap()]).expect(0);
    let target = scene.world.path("target");
    let which = format!("latest:{}", scene.source());
    scene.run(&["restore", &which, "--target", target.to_str().unwrap()]).expect(0);
    let restored = see(&target);
    assert_eq!(restored.0.len(), 1 + NAMES.len(), "{:?}", restored.0.keys());
    for name in NAMES {
        assert_eq!(fs::read(target.join(OsStr::from_bytes(name))).unwrap(), *name);
    }
    // By lines, from standard input, and together with a path on the command line.
    paths.pop();
    let top = format!("{}/top", scene.source());
    with_input(&scene, &["backup", "--files-from", "-", &top], &paths.join(&b'\n')).expect(0);
    assert_eq!(names(&scene).len(), NAMES.len());
    assert!(names(&scene).contains(&"top".to_owned()));
    // One that is not there costs the others nothing; a list of nothing is a mistake.
    fs::write(&list, [paths.join(&b'\n'), b"\n/no/such/path\n\n".to_vec()].concat()).unwrap();
    scene.run(&["backup", "--files-from", list.to_str().unwrap()]).expect(3).says("/no/such/path");
    fs::write(&list, "\n\n").unwrap();
    scene.run(&["backup", "--files-from", list.to_str().unwrap()]).expect(2).says("name no path");
    scene.run(&["backup", "--files-from", "/no/list"]).expect(2).says("/no/list");
}

#[test]
fn every_way_to_leave_something_out() {
    let scene = Scene::new();
    scene.run(&["init"]).expect(0);
    let source = scene.world.source();
    let write = |path: &str, bytes: &[u8]| {
        let path = source.join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, bytes).unwrap();
    };
    write("a.o", b"object");
    write("keep.o", b"object");
    write("build/out", b"built");
    write("cache/CACHEDIR.TAG", b"Signature: 8a477f597d28d172789f06886806bc55\n");
    write("cache/thing", b"cached");
    write("private/.nobackup", b"");
    write("private/secret", b"secret");
    write("large", &[1; 20_000]);
    write("{a,b}", b"braces");
    let left_out = |arguments: &[&str]| {
        scene.run(&[&["backup", scene.source()], arguments].concat()).expect(0);
        let names = names(&scene);
        let all = [
            "a.o",
            "keep.o",
            "build",
            "build/out",
            "cache/thing",
            "private/secret",
            "large",
            "{a,b}",
            "sub/file",
            "top",
        ];
        assert!(
            names.contains(&"cache/CACHEDIR.TAG".to_owned())
                && names.contains(&"private/.nobackup".to_owned())
        );
        all.into_iter().filter(|name| !names.iter().any(|known| known == name)).collect::<Vec<_>>()
    };
    assert!(left_out(&[]).is_empty());
    assert_eq!(left_out(&["--exclude", "*.o", "-e", "!keep.o"]), ["a.o"]);
    assert_eq!(left_out(&["--exclude", "build/"]), ["build", "build/out"]);
    assert_eq!(left_out(&["--exclude", &format!("{}/*.o", scene.source())]), ["a.o", "keep.o"]);
    assert_eq!(left_out(&["--exclude", "{a,b}"]), ["{a,b}"]);
    assert_eq!(left_out(&["--exclude-caches"]), ["cache/thing"]);
    assert_eq!(left_out(&["--exclude-if-present", ".nobackup"]), ["private/secret"]);
    assert_eq!(left_out(&["--exclude-larger-than", "10K"]), ["large"]);
    let file = scene.path("patterns");
    fs::write(&file, "# objects\n*.o\n\n/nowhere\nlarge \n").unwrap();
    assert_eq!(left_out(&["--exclude-file", &file]), ["a.o", "keep.o", "large"]);
    assert_eq!(left_out(&["--exclude-file", &file, "--exclude", "!*.o"]), ["large"]);
    // The configuration's count too, and before those of the command line.
    let config = scene.path("config.toml");
    fs::write(&config, "exclude = [\"*.o\", \"large\"]\nexclude_caches = true\n").unwrap();
    assert_eq!(left_out(&["-c", &config, "--exclude", "!large"]), ["a.o", "keep.o", "cache/thing"]);
    // What is named is backed up, whatever the patterns say.
    let named = format!("{}/a.o", scene.source());
    scene.run(&["backup", &named, "--exclude", "*.o"]).expect(0);
    assert_eq!(names(&scene), ["a.o"]);
    scene.run(&["backup", scene.source(), "--exclude-larger-than", "much"]).expect(2).says("much");
    scene.run(&["backup", scene.source(), "--exclude-file", "/no/patterns"]).expect(2).says("/no/patterns");
}

#[test]
fn other_file_systems_are_left_out_where_they_are_mounted() {
    let scene = Scene::new();
    scene.run(&["init"]).expect(0);
    let mount = scene.world.source().join("mount");
    let Some(_mounted) = Tmpfs::mount(&mount, "1m") else { return };
    fs::write(mount.join("other"), "other").unwrap();
    scene.run(&["backup", scene.source(), "--one-file-system"]).expect(0);
    let left = names(&scene);
    assert!(left.contains(&"mount".to_owned()) && !left.contains(&"mount/other".to_owned()), "{left:?}");
    // Unless it is named itself.
    scene.run(&["backup", scene.source(), mount.to_str().unwrap(), "-x"]).expect(0);
    assert!(names(&scene).contains(&"mount/other".to_owned()));
}
