//! Archives that `dump` writes, taken apart by the programs that people have: GNU tar, Python's tarfile and zipfile.

use std::fs::{self, File};
use std::io::{Read as _, Seek as _, SeekFrom, Write as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use lifeboat_tests::grow;
use lifeboat_tests::random::Random;
use lifeboat_tests::seen::see;
use rustix::process::{Pid, Signal, kill_process};

use crate::scene::Scene;

const MIB: u64 = 1 << 20;

/// Whether a program can be run; says that a test is skipped if not.
fn is_there(program: &str) -> bool {
    let there = Command::new(program).arg("--version").output().is_ok_and(|output| output.status.success());
    if !there {
        println!("skipped: no {program}");
    }
    there
}

fn run(program: &str, arguments: &[&str]) -> String {
    let output = Command::new(program).args(arguments).output().unwrap();
    assert!(output.status.success(), "{program} {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    // What an extractor complains of is a fault of the archive.
    assert_eq!(String::from_utf8_lossy(&output.stderr), "", "{program} {arguments:?}");
    String::from_utf8(output.stdout).unwrap()
}

/// Files with holes in all places: at the beginning, in the middle, at the end, everywhere; with ends that are no whole blocks.
fn make_sparse(folder: &Path) {
    let write = |name: &str, size: u64, pieces: &[(u64, usize)]| {
        let mut file = File::create(folder.join(name)).unwrap();
        let mut random = Random::new(size);
        for (offset, length) in pieces {
            file.seek(SeekFrom::Start(*offset)).unwrap();
            file.write_all(&random.bytes(*length)).unwrap();
        }
        file.set_len(size).unwrap();
    };
    write("hole-first", 8 * MIB + 5, &[(8 * MIB, 5)]);
    write("hole-last", 40 * MIB + 77, &[(0, 100), (3 * MIB + 9, 70_000)]);
    write("all-hole", 64 * MIB + 1, &[]);
    write("one-byte-hole", 1, &[]);
    let many: Vec<(u64, usize)> = (0..200).map(|number| (number * 128 * 1024, 3_000)).collect();
    write("many-holes", 30 * MIB, &many);
    let long = "x".repeat(150);
    write(&long, 2 * MIB, &[(MIB, 10)]);
    fs::hard_link(folder.join("all-hole"), folder.join("all-hole-again")).unwrap();
}

/// Allocated bytes of all files below a folder.
fn allocated(folder: &Path) -> u64 {
    crate::scene::walk(folder).iter().map(|path| fs::symlink_metadata(path).unwrap().blocks() * 512).sum()
}

fn dump(scene: &Scene, name: &str, more: &[&str]) -> PathBuf {
    let file = scene.world.path(name);
    let place = format!("latest:{}", scene.source());
    scene.run(&[&["dump", &place, "--output", file.to_str().unwrap()], more].concat()).expect(0);
    file
}

#[test]
fn gnu_tar_restores_everything_from_a_dump() {
    if !is_there("tar") {
        return;
    }
    let scene = Scene::new();
    scene.run(&["init"]).expect(0);
    let source = scene.world.source();
    grow::grow(&source, 150, &mut Random::new(70));
    make_sparse(&source);
    let acls = is_there("setfacl");
    if acls {
        fs::create_dir(source.join("acls")).unwrap();
        fs::write(source.join("acls/file"), "acl").unwrap();
        let (file, folder) = (source.join("acls/file"), source.join("acls"));
        run("setfacl", &["-m", "u:1234:rw,g:4321:r,m::rw", file.to_str().unwrap()]);
        run("setfacl", &["-d", "-m", "u:1234:rwx,g::r", folder.to_str().unwrap()]);
    }
    scene.backup().expect(0);
    let archive = dump(&scene, "all.tar", &[]);
    let target = scene.path("target");
    fs::create_dir(&target).unwrap();
    let arguments =
        ["--warning=no-timestamp", "--acls", "--xattrs", "--xattrs-include=*", "--numeric-owner", "-xpf"];
    run("tar", &[&arguments[..], &[archive.to_str().unwrap(), "-C", &target]].concat());
    let restored = Path::new(&target).join("source");
    if grow::is_root() {
        see(&restored).assert_equals(&see(&source), "extracted by tar");
    } else {
        assert_eq!(see(&restored).contents(), see(&source).contents());
    }
    // Holes are neither in the archive nor made into zeros.
    let (real, wanted) = (allocated(&restored), allocated(&source));
    assert!(real < wanted + 4 * MIB, "{real} bytes are allocated instead of {wanted}");
    let size = archive.metadata().unwrap().len();
    assert!(size < wanted + 4 * MIB, "{size} bytes of archive for {wanted} allocated");
    if acls {
        let text = run("getfacl", &["-npc", restored.join("acls/file").to_str().unwrap()]);
        assert!(text.contains("user:1234:rw-") && text.contains("group:4321:r--"), "{text}");
        let text = run("getfacl", &["-npc", restored.join("acls").to_str().unwrap()]);
        assert!(text.contains("default:user:1234:rwx"), "{text}");
    }
}

/// Prints `SIZE SHA256 NAME` of all files of an archive.
const LIST_TAR: &str = "
import hashlib, sys, tarfile
archive = tarfile.open(sys.argv[1], errors='surrogateescape')
for member in archive:
    if member.isreg():
        print(member.size, hashlib.sha256(archive.extractfile(member).read()).hexdigest(), ascii(member.name))
";
const LIST_ZIP: &str = "
import hashlib, sys, zipfile
archive = zipfile.ZipFile(sys.argv[1])
assert archive.testzip() is None
for member in archive.infolist():
    if not member.is_dir() and (member.external_attr >> 28) == 8:
        print(member.file_size, hashlib.sha256(archive.read(member)).hexdigest(), ascii(member.filename))
";
/// The same of files on disk.
const LIST_FILES: &str = "
import hashlib, os, sys
seen = set()
for folder, _, names in os.walk(sys.argv[1]):
    for name in names:
        path = os.path.join(folder, name)
        if os.path.isfile(path) and not os.path.islink(path):
            data = open(path, 'rb').read()
            print(len(data), hashlib.sha256(data).hexdigest(), ascii(os.path.relpath(path, os.path.dirname(sys.argv[1]))))
";

fn python(program: &str, argument: &Path) -> Vec<String> {
    let text = run("python3", &["-c", program, argument.to_str().unwrap()]);
    let mut lines: Vec<String> = text.lines().map(str::to_owned).collect();
    lines.sort();
    lines
}

#[test]
fn python_reads_the_same_files_from_both_kinds_of_archives() {
    if !is_there("python3") {
        return;
    }
    let scene = Scene::new();
    scene.run(&["init"]).expect(0);
    let source = scene.world.source();
    make_sparse(&source);
    fs::remove_file(source.join("all-hole-again")).unwrap();
    fs::write(source.join("sub/caf\u{e9} \u{2603}"), "snowman").unwrap();
    fs::write(source.join("sub/executable"), Random::new(71).bytes(300_000)).unwrap();
    run("chmod", &["750", source.join("sub/executable").to_str().unwrap()]);
    std::os::unix::fs::symlink("sub/file", source.join("link")).unwrap();
    scene.backup().expect(0);
    let wanted = python(LIST_FILES, &source);
    assert!(wanted.len() >= 9, "{wanted:?}");
    assert_eq!(python(LIST_TAR, &dump(&scene, "all.tar", &[])), wanted);
    let zip = dump(&scene, "all.zip", &["--archive", "zip"]);
    assert_eq!(python(LIST_ZIP, &zip), wanted);
    let modes = "import sys, zipfile\nprint(oct(zipfile.ZipFile(sys.argv[1]).getinfo('source/sub/executable').external_attr >> 16))";
    assert_eq!(python(modes, &zip), ["0o100750"]);
    let link = "import sys, zipfile\nprint(zipfile.ZipFile(sys.argv[1]).read('source/link').decode())";
    assert_eq!(python(link, &zip), ["sub/file"]);
}

/// What is there may be what somebody works on: the copy in the backup is the older one.
#[test]
fn a_file_that_is_there_is_not_replaced_unasked() {
    let scene = Scene::backed_up();
    let place = format!("latest:{}/top", scene.source());
    let file = scene.path("file");
    let dump = |more: &[&str]| scene.run(&[&["dump", &place, "--output", &file], more].concat());
    dump(&[]).expect(0);
    fs::write(&file, "mine").unwrap();
    dump(&[]).expect(2).says("is there already").says("--force");
    assert_eq!(fs::read(&file).unwrap(), b"mine");
    std::os::unix::fs::symlink(&file, scene.world.path("link")).unwrap();
    scene.run(&["dump", &place, "--output", &scene.path("link")]).expect(2).says("--force");
    assert_eq!(fs::read(&file).unwrap(), b"mine");
    dump(&["--force"]).expect(0);
    assert_eq!(fs::read(&file).unwrap(), b"top");
    // What holds nothing is written to as it is, and nothing is left of what could not be dumped.
    scene.run(&["dump", &place, "--output", "/dev/null"]).expect(0);
    scene.run(&["dump", "latest:/nope", "--output", &scene.path("nope")]).expect(2);
    assert!(!scene.world.path("nope").exists());
}

/// A hole was written to its end, be it of terabytes, before anybody looked whether the dump was to stop.
#[test]
fn a_signal_ends_a_dump_in_the_middle_of_a_hole() {
    let scene = Scene::new();
    File::create(scene.world.source().join("hole")).unwrap().set_len(3 << 40).unwrap();
    scene.run(&["init"]).expect(0);
    scene.backup().expect(0);
    let place = format!("latest:{}/hole", scene.source());
    // What may still come before the signal is noticed is a small part of all; deflated zeros are a thousandth of what they stand for.
    for (more, signal, read_bytes, rest_bytes_max) in [
        (&[][..], Signal::INT, 4 * MIB, 8192 * MIB),
        (&["--archive", "zip"], Signal::TERM, 100_000, 32 * MIB),
    ] {
        let mut command = scene.person.command(&[&["dump", &place], more].concat());
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let mut out = child.stdout.take().unwrap();
        let mut zeros = vec![0; read_bytes as usize];
        out.read_exact(&mut zeros).unwrap();
        kill_process(Pid::from_child(&child), signal).unwrap();
        let rest = std::io::copy(&mut out.take(rest_bytes_max), &mut std::io::sink()).unwrap();
        if rest == rest_bytes_max {
            child.kill().unwrap();
        }
        assert_eq!(child.wait().unwrap().code(), Some(130), "{more:?}: {rest} bytes after the signal");
    }
}
