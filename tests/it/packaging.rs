//! The Debian package, the tarball and its install script: what they put where, and that nothing of value is lost by an upgrade, a removal or a purge.
//!
//! Each is tried in a root of its own, which needs root's rights for owners.

use std::fs;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::process::Command;

use lifeboat_tests::{binary, grow, on_path};

fn deploy() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().join("deploy")
}

/// Runs a program and returns whether it succeeded, and all its words.
fn run(command: &mut Command) -> (bool, String) {
    let output = command.output().unwrap_or_else(|e| panic!("{command:?}: {e}"));
    let said = [output.stdout, output.stderr].concat();
    (output.status.success(), String::from_utf8_lossy(&said).into_owned())
}

#[track_caller]
fn succeed(command: &mut Command) -> String {
    let (is_well, said) = run(command);
    assert!(is_well, "{command:?}: {said}");
    said
}

/// Whether this can be tried here.
fn can_install() -> bool {
    if !grow::is_root() {
        println!("not tested: only root can install");
        return false;
    }
    on_path("dpkg-deb", "dpkg") && on_path("systemd-sysusers", "systemd")
}

/// An empty root, as dpkg knows one.
struct Root {
    directory: tempfile::TempDir,
}

impl Root {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        fs::set_permissions(directory.path(), fs::Permissions::from_mode(0o755)).unwrap();
        for folder in ["etc", "var/lib/dpkg/updates", "var/lib/dpkg/info", "var/cache"] {
            fs::create_dir_all(directory.path().join(folder)).unwrap();
        }
        for file in ["var/lib/dpkg/status", "var/lib/dpkg/available", "etc/passwd", "etc/group"] {
            fs::write(directory.path().join(file), "").unwrap();
        }
        Self { directory }
    }

    fn path(&self, path: &str) -> PathBuf {
        self.directory.path().join(path.trim_start_matches('/'))
    }

    fn dpkg(&self, arguments: &[&str]) -> String {
        let mut command = Command::new("dpkg");
        command.arg(format!("--root={}", self.directory.path().display()));
        // The scripts run here, with DPKG_ROOT; the packages it depends on are not in this root.
        command.args(["--force-script-chrootless", "--force-depends", "--force-unsafe-io"]).args(arguments);
        succeed(&mut command)
    }

    /// Owner's name, group's name and mode of a directory.
    fn owner(&self, path: &str) -> (String, String, u32) {
        let metadata = fs::metadata(self.path(path)).unwrap_or_else(|e| panic!("{path}: {e}"));
        let name = |file: &str, number: u32| {
            let text = fs::read_to_string(self.path(file)).unwrap();
            let line = text.lines().find(|line| line.split(':').nth(2) == Some(&number.to_string()));
            line.map_or_else(|| number.to_string(), |line| line.split(':').next().unwrap().to_owned())
        };
        (name("etc/passwd", metadata.uid()), name("etc/group", metadata.gid()), metadata.mode() & 0o7777)
    }

    #[track_caller]
    fn has_the_directories(&self) {
        let lifeboat = || "lifeboat".to_owned();
        assert_eq!(self.owner("/etc/lifeboat"), ("0".to_owned(), lifeboat(), 0o750));
        assert_eq!(self.owner("/var/lib/lifeboat"), (lifeboat(), lifeboat(), 0o700));
        assert_eq!(self.owner("/var/cache/lifeboat"), (lifeboat(), lifeboat(), 0o700));
        let passwd = fs::read_to_string(self.path("etc/passwd")).unwrap();
        assert_eq!(passwd.matches("lifeboat:").count(), 1, "{passwd}");
        assert!(passwd.contains(":/nonexistent:/usr/sbin/nologin"), "{passwd}");
    }

    /// Puts what a person has: a configuration, a key, a repository, a ledger, a cache.
    fn fill(&self) {
        for (path, text) in OWN {
            let path = self.path(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
    }

    fn kept(&self) -> Vec<&'static str> {
        let is_kept = |(path, text): &&(&'static str, &str)| {
            fs::read_to_string(self.path(path)).is_ok_and(|kept| kept == *text)
        };
        OWN.iter().filter(is_kept).map(|(path, _)| *path).collect()
    }
}

const OWN: &[(&str, &str)] = &[
    ("/etc/lifeboat/config.toml", "host = \"a\""),
    ("/etc/lifeboat/key", "the key"),
    ("/var/lib/lifeboat/repository/config", "the repository"),
    ("/var/lib/lifeboat/ledger.sqlite", "the ledger"),
    ("/var/cache/lifeboat/index", "the cache"),
];

/// What is lost for good when it is lost.
const NEVER_LOST: &[&str] = &["/etc/lifeboat/key", "/var/lib/lifeboat/repository/config"];

fn package(out: &Path) -> PathBuf {
    let mut command = Command::new(deploy().join("package"));
    command.arg(binary::lifeboat()).arg(out).env("LIFEBOAT_DEB_COMPRESSION", "none");
    succeed(&mut command).trim().into()
}

#[test]
fn the_package_has_what_an_installation_needs() {
    if !on_path("dpkg-deb", "dpkg") {
        return;
    }
    let out = tempfile::tempdir().unwrap();
    let package = package(out.path());
    let contents = succeed(Command::new("dpkg-deb").arg("--contents").arg(&package));
    for (mode, path) in [
        ("-rwxr-xr-x", "./usr/bin/lifeboat"),
        ("-rw-r--r--", "./usr/lib/systemd/system/lifeboat.service"),
        ("-rw-r--r--", "./usr/lib/systemd/system/lifeboat-restore@.service"),
        ("-rw-r--r--", "./usr/lib/systemd/system/lifeboat-run@.timer"),
        ("-rw-r--r--", "./usr/lib/sysusers.d/lifeboat.conf"),
        ("-rw-r--r--", "./usr/share/man/man1/lifeboat-restore.1.gz"),
        ("-rw-r--r--", "./usr/share/bash-completion/completions/lifeboat"),
        ("-rw-r--r--", "./usr/share/doc/lifeboat/config.example.toml"),
        ("-rw-r--r--", "./usr/share/doc/lifeboat/operations/disaster-recovery.md"),
    ] {
        let is_it = |line: &str| {
            line.starts_with(&format!("{mode} root/root ")) && line.ends_with(&format!(" {path}"))
        };
        assert!(contents.lines().any(is_it), "{mode} {path} in:\n{contents}");
    }
    // Nothing that is the machine's own.
    assert!(!contents.contains(" ./etc/") && !contents.contains(" ./var/"), "{contents}");
    let control = succeed(Command::new("dpkg-deb").arg("--info").arg(&package));
    for line in ["Package: lifeboat", "Version: 0.1.0", "libc6 (>= 2."] {
        assert!(control.contains(line), "{line} in:\n{control}");
    }
}

/// Files of a package with their modes, but the one that cargo-deb writes by itself.
fn files(package: &Path) -> Vec<(String, String)> {
    let contents = succeed(Command::new("dpkg-deb").arg("--contents").arg(package));
    let file = |line: &str| {
        let mode = line.split(' ').next()?.to_owned();
        let path = line.split(' ').next_back()?.to_owned();
        (!path.ends_with('/') && !path.ends_with("/copyright")).then_some((path, mode))
    };
    let mut files: Vec<_> = contents.lines().filter_map(file).collect();
    files.sort();
    files
}

#[test]
fn cargo_deb_makes_the_same_package() {
    let cargo_deb = lifeboat_tests::installed("LIFEBOAT_CARGO_DEB", "cargo-deb-3.8.0/bin/cargo-deb");
    if !lifeboat_tests::available("cargo-deb", "LIFEBOAT_CARGO_DEB", cargo_deb.is_some()) {
        return;
    }
    let out = tempfile::tempdir().unwrap();
    // The manifest names the tree that deploy/stage lays out below target/. Other builds of this checkout use that, so this is a copy of what counts.
    let copy = out.path().join("checkout");
    let root = deploy().parent().unwrap().to_path_buf();
    succeed(Command::new(deploy().join("stage")).arg(binary::lifeboat()).arg(copy.join("target/stage")));
    for path in ["Cargo.toml", "Cargo.lock", "agent", "providers", "tests", "bench/micro", "deploy"] {
        let target = copy.join(path);
        fs::create_dir_all(target.parent().unwrap()).unwrap();
        succeed(Command::new("cp").arg("-r").arg(root.join(path)).arg(target));
    }
    let mut command = Command::new(cargo_deb.unwrap());
    command.args([
        "deb",
        "-p",
        "lifeboat-agent",
        "--no-build",
        "--no-strip",
        "--fast",
        "--quiet",
        "--output",
    ]);
    command
        .arg(out.path())
        .current_dir(&copy)
        .env_remove("CARGO_TARGET_DIR")
        .env("CARGO_NET_OFFLINE", "true");
    let said = succeed(&mut command);
    let made = said.lines().last().unwrap().trim();
    assert_eq!(files(Path::new(made)), files(&package(&out.path().join("own"))));
    let control = succeed(Command::new("dpkg-deb").arg("--info").arg(made));
    for line in ["Package: lifeboat\n", "postinst", "prerm", "postrm"] {
        assert!(control.contains(line), "{line} in:\n{control}");
    }
}

#[test]
fn install_upgrade_remove_and_purge_lose_no_key_and_no_repository() {
    if !can_install() {
        return;
    }
    let (out, root) = (tempfile::tempdir().unwrap(), Root::new());
    let package = package(out.path());
    let install = || root.dpkg(&["--install", package.to_str().unwrap()]);
    assert!(install().contains("lifeboat config init"));
    root.has_the_directories();
    // It begins with nothing: what is not there cannot start by mistake.
    assert!(!root.path("/etc/lifeboat/config.toml").exists());
    let program = Command::new(root.path("/usr/bin/lifeboat")).arg("--version").output().unwrap();
    assert!(program.status.success());

    root.fill();
    let all: Vec<&str> = OWN.iter().map(|(path, _)| *path).collect();
    assert!(!install().contains("config init"), "an upgrade is told how to begin");
    root.has_the_directories();
    assert_eq!(root.kept(), all, "after an upgrade");

    root.dpkg(&["--remove", "lifeboat"]);
    assert!(!root.path("/usr/bin/lifeboat").exists());
    assert_eq!(root.kept(), all, "after removal");

    install();
    let said = root.dpkg(&["--purge", "lifeboat"]);
    assert_eq!(root.kept(), NEVER_LOST, "after purging");
    for kept in ["/etc/lifeboat is kept", "rm -r /var/lib/lifeboat"] {
        assert!(said.contains(kept), "{kept} in: {said}");
    }
}

#[test]
fn a_purge_of_what_was_never_used_leaves_nothing() {
    if !can_install() {
        return;
    }
    let (out, root) = (tempfile::tempdir().unwrap(), Root::new());
    root.dpkg(&["--install", package(out.path()).to_str().unwrap()]);
    let said = root.dpkg(&["--purge", "lifeboat"]);
    assert!(!said.contains("is kept"), "{said}");
    for path in ["/etc/lifeboat", "/var/lib/lifeboat", "/var/cache/lifeboat", "/usr/bin/lifeboat"] {
        assert!(!root.path(path).exists(), "{path}");
    }
}

/// The unpacked tarball.
fn unpacked(out: &Path) -> PathBuf {
    let mut command = Command::new(deploy().join("tarball"));
    command.arg(binary::lifeboat()).arg(out).env("LIFEBOAT_TARBALL_LEVEL", "1");
    let tarball = PathBuf::from(succeed(&mut command).trim());
    let name = tarball.file_name().unwrap().to_str().unwrap();
    succeed(Command::new("sha256sum").arg("-c").arg(format!("{name}.sha256")).current_dir(out));
    succeed(Command::new("tar").arg("-xzf").arg(&tarball).arg("-C").arg(out));
    // This program needs the system's libraries, and its name says so.
    assert!(name.ends_with("-linux-dynamic.tar.gz"), "{name}");
    out.join(name.strip_suffix(".tar.gz").unwrap())
}

#[test]
fn the_install_script_shows_before_it_changes() {
    if !can_install() {
        return;
    }
    let (out, root) = (tempfile::tempdir().unwrap(), Root::new());
    let unpacked = unpacked(out.path());
    let script = |arguments: &[&str]| {
        let mut command = Command::new(unpacked.join("install.sh"));
        run(command
            .arg("--root")
            .arg(root.directory.path())
            .args(arguments)
            .stdin(std::process::Stdio::null()))
    };
    let (_, shown) = script(&["--dry-run"]);
    for line in ["write ", "/usr/local/bin/lifeboat", "make     the system user", "/var/lib/lifeboat"] {
        assert!(shown.contains(line), "{line} in: {shown}");
    }
    // Nobody there to ask: nothing is done.
    let (is_well, said) = script(&[]);
    assert!(!is_well && said.contains("--yes"), "{said}");
    assert!(!root.path("/usr/local").exists() && !root.path("/etc/lifeboat").exists());

    let (is_well, said) = script(&["--yes"]);
    assert!(is_well, "{said}");
    root.has_the_directories();
    let unit = fs::read_to_string(root.path("/usr/local/lib/systemd/system/lifeboat.service")).unwrap();
    assert!(unit.contains("ExecStart=/usr/local/bin/lifeboat "), "{unit}");

    root.fill();
    let (is_well, said) = script(&["--yes"]);
    assert!(is_well && said.contains("is the same") && !said.contains("system user"), "{said}");
    assert_eq!(root.kept().len(), OWN.len());

    fs::write(unpacked.join("tree/usr/local/bin/lifeboat"), "something else").unwrap();
    let (is_well, said) = script(&["--yes"]);
    assert!(!is_well && said.contains("not those of the tarball"), "{said}");
}

#[test]
fn the_scripts_have_nothing_that_a_checker_complains_of() {
    if !on_path("shellcheck", "shellcheck") {
        return;
    }
    let scripts =
        ["stage", "package", "tarball", "install.sh", "debian/postinst", "debian/prerm", "debian/postrm"];
    succeed(Command::new("shellcheck").args(scripts).current_dir(deploy()));
}
