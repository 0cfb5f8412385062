//! The systemd units: valid as systemd reads them, and as tight as is promised.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use lifeboat_tests::binary::Person;
use lifeboat_tests::seen::see;
use lifeboat_tests::{binary, on_path};

use crate::scene::Scene;

/// Exposure by `systemd-analyze security`, times ten: what is promised of everything that runs without a person.
const EXPOSURE_MAX: &str = "20";
/// Of the restore, which sets owners and makes devices as root.
const EXPOSURE_OF_RESTORE_MAX: &str = "35";

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().join("deploy/systemd")
}

fn text(unit: &str) -> String {
    fs::read_to_string(folder().join(unit)).unwrap()
}

/// Copies of all units in a directory of their own, which run the binary under test; templates as instances, too.
fn installed() -> tempfile::TempDir {
    let directory = tempfile::tempdir().unwrap();
    let program = binary::lifeboat();
    let put = |name: &str, text: &str| {
        let text = text.replace("/usr/bin/lifeboat", program.to_str().unwrap());
        fs::write(directory.path().join(name), text).unwrap();
    };
    for unit in
        ["lifeboat.service", "lifeboat-run@.service", "lifeboat-run@.timer", "lifeboat-restore@.service"]
    {
        put(unit, &text(unit));
    }
    for (template, instance) in [
        ("lifeboat-run@.service", "lifeboat-run@daily.service"),
        ("lifeboat-run@.timer", "lifeboat-run@daily.timer"),
        ("lifeboat-run@.timer", "lifeboat-run@weekly.timer"),
        ("lifeboat-restore@.service", "lifeboat-restore@srv-app.service"),
    ] {
        put(instance, &text(template));
    }
    directory
}

fn analyze(units: &Path, arguments: &[&str]) -> (bool, String) {
    let output = Command::new("systemd-analyze")
        .args(arguments)
        .env("SYSTEMD_UNIT_PATH", format!("{}:/usr/lib/systemd/system:/lib/systemd/system", units.display()))
        .env("SYSTEMD_COLORS", "0")
        .current_dir(units)
        .output()
        .unwrap();
    let said = [output.stdout, output.stderr].concat();
    (output.status.success(), String::from_utf8_lossy(&said).into_owned())
}

/// What systemd has to say against our units (others of this machine may have troubles of their own).
fn complaints(units: &Path, unit: &str) -> Vec<String> {
    let (is_valid, said) = analyze(units, &["--man=no", "verify", unit]);
    let ours: Vec<String> =
        said.lines().filter(|line| line.contains("lifeboat")).map(str::to_owned).collect();
    assert!(is_valid || !ours.is_empty(), "{unit}: {said}");
    ours
}

#[test]
fn systemd_has_nothing_to_say_against_the_units() {
    if !on_path("systemd-analyze", "systemd") {
        return;
    }
    let units = installed();
    for unit in [
        "lifeboat.service",
        "lifeboat-run@daily.service",
        "lifeboat-run@daily.timer",
        "lifeboat-run@weekly.timer",
        "lifeboat-restore@srv-app.service",
    ] {
        assert_eq!(complaints(units.path(), unit), Vec::<String>::new(), "{unit}");
    }
    // It would see a mistyped key.
    let wrong = text("lifeboat.service").replace("ProtectClock=", "ProtectClocks=");
    fs::write(units.path().join("lifeboat.service"), wrong).unwrap();
    assert!(complaints(units.path(), "lifeboat.service").concat().contains("ProtectClocks"));
}

#[test]
fn the_sandbox_is_as_tight_as_promised() {
    if !on_path("systemd-analyze", "systemd") {
        return;
    }
    let units = installed();
    for (unit, most) in [
        ("lifeboat.service", EXPOSURE_MAX),
        ("lifeboat-run@daily.service", EXPOSURE_MAX),
        ("lifeboat-restore@srv-app.service", EXPOSURE_OF_RESTORE_MAX),
    ] {
        let threshold = format!("--threshold={most}");
        let (is_tight, said) =
            analyze(units.path(), &["security", "--offline=yes", "--no-pager", &threshold, unit]);
        assert!(is_tight && said.contains("Overall exposure level"), "{unit}: {said}");
    }
    // The check would see a hole.
    let is_kept =
        |line: &&str| !line.starts_with("SystemCallFilter=") && !line.starts_with("CapabilityBoundingSet=");
    let open: Vec<_> = text("lifeboat.service").lines().filter(is_kept).map(str::to_owned).collect();
    let open = open.join("\n");
    fs::write(units.path().join("lifeboat.service"), open).unwrap();
    let threshold = format!("--threshold={EXPOSURE_MAX}");
    assert!(
        !analyze(units.path(), &["security", "--offline=yes", "--no-pager", &threshold, "lifeboat.service"])
            .0
    );
}

/// The settings of `[Service]` without comments.
fn service(unit: &str) -> Vec<String> {
    let text = text(unit);
    let (_, rest) = text.split_once("\n[Service]\n").unwrap();
    let section = rest.split("\n[").next().unwrap();
    section.lines().filter(|line| !line.is_empty() && !line.starts_with('#')).map(str::to_owned).collect()
}

#[test]
fn a_run_without_the_daemon_has_the_daemon_s_sandbox() {
    let own_affairs = [
        "Type=",
        "NotifyAccess=",
        "ExecStart=",
        "ExecReload=",
        "WatchdogSec=",
        "TimeoutStartSec=",
        "Restart",
        // systemd would remove the daemon's socket with it when the run ends.
        "RuntimeDirectory",
    ];
    let shared = |unit| {
        let settings = service(unit).into_iter();
        settings.filter(|line| !own_affairs.iter().any(|own| line.starts_with(own))).collect::<Vec<_>>()
    };
    assert_eq!(shared("lifeboat-run@.service"), shared("lifeboat.service"));
    assert!(!text("lifeboat-run@.service").contains("\nRuntimeDirectory"));
}

#[test]
fn the_agent_can_read_everything_and_do_nothing_else() {
    for unit in ["lifeboat.service", "lifeboat-run@.service"] {
        let settings = service(unit);
        for needed in [
            "User=lifeboat",
            "AmbientCapabilities=CAP_DAC_READ_SEARCH",
            "CapabilityBoundingSet=CAP_DAC_READ_SEARCH",
            "NoNewPrivileges=yes",
            "ProtectSystem=strict",
            "UMask=0077",
        ] {
            assert!(settings.iter().any(|line| line == needed), "{unit}: {needed}");
        }
        assert!(!settings.iter().any(|line| line.starts_with("ReadWritePaths=")), "{unit}");
    }
}

/// What systemd runs for a directory, with the unit's own defaults.
fn words_of_restore(directory: &str) -> Vec<String> {
    let settings = service("lifeboat-restore@.service");
    let value = |key: &str| settings.iter().find_map(|line| line.strip_prefix(key)).unwrap();
    let words =
        value("ExecStart=").replace("%f", directory).replace("${SNAPSHOT}", value("Environment=SNAPSHOT="));
    words.split_whitespace().map(str::to_owned).collect()
}

#[test]
fn the_restore_unit_brings_a_directory_back_as_it_was() {
    let scene = Scene::new();
    let config = scene.path("config.toml");
    fs::write(&config, format!("[[destination]]\nname = \"disk\"\nurl = \"{}\"\n", scene.path("disk")))
        .unwrap();
    let person = Person::new(&scene.world.path("home")).with("LIFEBOAT_PASSPHRASE", "secret");
    person.run(&["-c", &config, "init"]).expect(0);
    person.run(&["-c", &config, "backup", scene.source()]).expect(0);
    let before = see(&scene.world.source());
    fs::write(scene.world.source().join("top"), "spoilt").unwrap();
    fs::remove_file(scene.world.source().join("sub/file")).unwrap();
    let words = words_of_restore(scene.source());
    assert_eq!(words[0], "/usr/bin/lifeboat");
    let words: Vec<&str> = words
        .iter()
        .skip(1)
        .map(|word| word.replace("/etc/lifeboat/config.toml", &config).leak() as &str)
        .collect();
    person.run(&words).expect(0);
    assert_eq!(see(&scene.world.source()).contents(), before.contents());
}
