//! A disk, an S3 store and Google Drive at once, by real processes: signed in, backed up, cut off, damaged, brought up, restored from each.

use std::fs;
use std::io::{BufRead as _, BufReader};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::Command;

use lifeboat_drive_double::{Call, Double, Fault, FileInfo, Options, Rule, When};
use lifeboat_tests::binary::{Ended, Person, ended};
use lifeboat_tests::faulty_s3::{self, FaultyS3};
use lifeboat_tests::garage::{self, Garage};
use lifeboat_tests::grow;
use lifeboat_tests::process::wait_for;
use lifeboat_tests::random::Random;

use crate::gdrive::sign_in::sign_in;
use crate::scene::{Scene, walk};

/// A server that speaks S3.
pub(crate) trait S3 {
    /// The key and the secret that it takes.
    const CREDENTIALS: (&str, &str);

    /// A repository's place there.
    fn url(&self, prefix: &str) -> String;
}

impl S3 for FaultyS3 {
    const CREDENTIALS: (&str, &str) = (faulty_s3::ACCESS_KEY, faulty_s3::SECRET_KEY);

    fn url(&self, prefix: &str) -> String {
        Self::url(self, prefix)
    }
}

impl S3 for Garage {
    const CREDENTIALS: (&str, &str) = (garage::ACCESS_KEY, garage::SECRET_KEY);

    fn url(&self, prefix: &str) -> String {
        Self::url(self, prefix)
    }
}

pub(crate) struct Three<S = FaultyS3> {
    pub(crate) scene: Scene,
    pub(crate) person: Person,
    pub(crate) s3: S,
    pub(crate) drive: Double,
    pub(crate) drive_url: String,
}

impl Three {
    /// With an S3 store in this process.
    pub(crate) fn new() -> Self {
        Self::with(FaultyS3::start())
    }
}

impl<S: S3> Three<S> {
    /// Signed in and with the repository at all of them.
    pub(crate) fn with(s3: S) -> Self {
        let scene = Scene::new();
        let drive = Double::start(Options::default()).unwrap();
        let folder = scene.world.path("home/.config/lifeboat");
        fs::create_dir_all(&folder).unwrap();
        private(&folder.join("google-client.json"), &drive.client_secret());
        let person = Person::new(&scene.world.path("home"))
            .with("LIFEBOAT_PASSPHRASE", "secret")
            .with("AWS_ACCESS_KEY_ID", S::CREDENTIALS.0)
            .with("AWS_SECRET_ACCESS_KEY", S::CREDENTIALS.1);
        let endpoint = drive.url();
        let mut login = person.start(&["provider", "login", "gdrive", "--endpoint", endpoint]);
        let mut said = BufReader::new(login.stderr.take().unwrap()).lines();
        let url = said.find_map(|line| line.ok().filter(|line| line.starts_with("http"))).unwrap();
        sign_in(&url);
        let signed_in = ended(login).expect(0);
        let place = signed_in.out.trim().to_owned();
        let drive_url = format!("{place}?endpoint={endpoint}");
        let three = Self { person, s3, drive, drive_url, scene };
        let destination =
            |name: &str, url: &str| format!("[[destination]]\nname = \"{name}\"\nurl = \"{url}\"\n");
        let configuration = destination("disk", &three.scene.path("disk"))
            + &destination("s3", &three.s3.url("host"))
            + &destination("drive", &three.drive_url);
        fs::write(folder.join("config.toml"), configuration).unwrap();
        three.run(&["init"]).expect(0);
        three
    }

    pub(crate) fn run(&self, arguments: &[&str]) -> Ended {
        self.person.run(arguments)
    }

    pub(crate) fn backup(&self) -> Ended {
        self.run(&["backup", self.scene.source()])
    }

    pub(crate) fn add(&self, name: &str, len: usize) {
        grow::file(&self.scene.world.source().join(name), len, &mut Random::new(len as u64));
    }

    /// With the URL, the key and the provider's credentials, and nothing else that this machine knows.
    pub(crate) fn restores_alone(&self, name: &str, url: &str) {
        let home = self.scene.world.path(&format!("bare-{name}"));
        let credentials = home.join(".config/lifeboat");
        fs::create_dir_all(&credentials).unwrap();
        for file in ["google-client.json", "google-token.json"] {
            let from = self.scene.world.path("home/.config/lifeboat").join(file);
            fs::copy(from, credentials.join(file)).unwrap();
        }
        let bare = Person::new(&home)
            .with("LIFEBOAT_PASSPHRASE", "secret")
            .with("AWS_ACCESS_KEY_ID", S::CREDENTIALS.0)
            .with("AWS_SECRET_ACCESS_KEY", S::CREDENTIALS.1);
        let target = self.scene.path(&format!("from-{name}"));
        let what = format!("latest:{}", self.scene.source());
        bare.run(&["-r", url, "restore", &what, "--target", &target]).expect(0);
        let same = Command::new("diff").args(["-r", self.scene.source(), &target]).output().unwrap();
        assert!(same.status.success(), "{name}: {}", String::from_utf8_lossy(&same.stdout));
        bare.run(&["-r", url, "check", "--read-data"]).expect(0);
    }

    fn each_restores_alone(&self) {
        self.restores_alone("disk", &self.scene.path("disk"));
        self.restores_alone("s3", &self.s3.url("host"));
        self.restores_alone("drive", &self.drive_url);
    }
}

fn private(path: &Path, text: &str) {
    fs::write(path, text).unwrap();
    fs::set_permissions(path, fs::Permissions::from_mode(0o600)).unwrap();
}

#[test]
fn one_run_reaches_all_and_each_restores_alone() {
    let three = Three::new();
    three.add("large", 9 << 20);
    three.backup().expect(0).prints("disk: stored").prints("s3: stored").prints("drive: stored");
    let listed = three.run(&["snapshots", "--json"]).expect(0).json();
    let verified: Vec<_> =
        listed[0]["destinations"].as_array().unwrap().iter().map(|at| &at["verified"]).collect();
    assert_eq!(verified, ["read-back", "server", "server"]);
    three.each_restores_alone();
    three.run(&["check", "--all"]).expect(0);
}

#[test]
fn drive_full_and_drive_away_are_caught_up_later() {
    let three = Three::new();
    three.backup().expect(0);
    three.drive.set_quota(Some(1000));
    three.add("one", 2 << 20);
    three.backup().expect(3).prints("s3: stored").prints("drive: NOT stored");
    three.drive.set_quota(None);
    // A 500 after the commit, and one before it, on the way back.
    three.drive.fault(Rule::new(
        Call::Create,
        When::Nth(1),
        Fault::Error { status: 500, after_commit: true },
    ));
    three.drive.fault(Rule::new(
        Call::StartUpload,
        When::Nth(1),
        Fault::Error { status: 503, after_commit: false },
    ));
    three.run(&["sync"]).expect(0).prints("drive: 1 snapshot brought from disk");
    three.drive.clear_faults();
    let names: Vec<String> = three.drive.files().into_iter().map(|file| file.name).collect();
    for name in names.iter().filter(|name| name.contains('/')) {
        assert_eq!(names.iter().filter(|other| *other == name).count(), 1, "{name} is there twice");
    }
    three.each_restores_alone();
}

#[test]
fn a_grant_that_has_ended_is_a_clear_error_and_starts_no_sign_in() {
    let three = Three::new();
    three.backup().expect(0);
    three.drive.revoke_grant();
    three.drive.revoke_tokens();
    three.add("more", 1 << 20);
    let behind = three.backup().expect(3).prints("s3: stored").prints("drive: NOT stored");
    assert!(behind.out.contains("lifeboat provider login gdrive"), "{}", behind.out);
    // The message names the command: no other advice comes after it.
    let alone = three.run(&["-r", "drive", "snapshots"]).expect(1).says("lifeboat provider login gdrive");
    assert!(!alone.err.contains("Check the permissions"), "{}", alone.err);
    // It is the second and third that are looked at, too, and each is named.
    let found = three.run(&["doctor"]).expect(1);
    let wrong = |line: &&str| line.starts_with("wrong ");
    let lines: Vec<&str> = found.out.lines().filter(wrong).collect();
    assert!(!lines.is_empty() && lines.iter().all(|line| line.contains("drive, ")), "{}", found.out);
    assert!(found.out.contains("ok      s3, repository"), "{}", found.out);
}

#[test]
fn doctor_looks_at_all_destinations_and_knows_that_some_are_elsewhere() {
    let three = Three::new();
    three.backup().expect(0);
    let found = three.run(&["doctor"]).expect(0).out;
    for name in ["disk", "s3", "drive"] {
        assert!(found.contains(&format!("ok      {name}, snapshots: 1 snapshot")), "{found}");
    }
    assert!(!found.contains("same disk"), "{found}");
    // One of them alone.
    let alone = three.run(&["-r", "s3", "doctor"]).expect(0).out;
    assert!(!alone.contains("drive"), "{alone}");
}

#[test]
fn a_sign_in_by_a_code_goes_where_the_endpoint_says() {
    let scene = Scene::new();
    let options = Options { device_interval_seconds: 0, ..Options::default() };
    let drive = Double::start(options).unwrap();
    let client = scene.world.path("client.json");
    private(&client, &drive.client_secret());
    let token = scene.world.path("token.json");
    let arguments = ["provider", "login", "gdrive", "--device", "--endpoint", drive.url(), "--client"];
    let command = [&arguments[..], &[client.to_str().unwrap(), "--token", token.to_str().unwrap()]].concat();
    let signed_in = scene.run(&command).expect(0);
    signed_in.says("type the code").prints("gdrive://");
    assert!(token.exists());
}

#[test]
fn what_rots_on_drive_is_healed_from_the_others() {
    let three = Three::new();
    three.add("large", 3 << 20);
    three.backup().expect(0);
    let pack = three.drive.files().into_iter().find(|file| file.name.starts_with("packs/")).unwrap();
    three.drive.flip_byte(&pack.id);
    let target = three.scene.path("out");
    let what = format!("latest:{}", three.scene.source());
    three.run(&["-r", "drive", "restore", &what, "--target", &target]).expect(0).says("healed from disk");
    three.run(&["-r", "drive", "check", "--read-data"]).expect(0);
}

#[test]
fn no_secret_of_any_provider_is_printed_or_kept_where_it_does_not_belong() {
    let three = Three::new();
    let loud = three.person.clone().with("RUST_LOG", "trace");
    let said = loud.run(&["-vv", "backup", three.scene.source()]).expect(0);
    let secrets = [faulty_s3::SECRET_KEY.to_owned(), three.drive.refresh_token()];
    for secret in &secrets {
        assert!(!said.out.contains(secret.as_str()) && !said.err.contains(secret.as_str()));
        for path in walk(Path::new(&three.scene.path("home"))) {
            let own = path.ends_with("google-token.json") || path.ends_with("google-client.json");
            let kept = fs::read(&path).unwrap_or_default();
            let has = kept.windows(secret.len()).any(|window| window == secret.as_bytes());
            assert!(own || !has, "{}", path.display());
        }
    }
}

impl Three {
    /// A backup to Drive is killed when a pack has arrived there with other bytes, before it could learn that.
    fn killed_before_the_proof() -> Self {
        let three = Self::new();
        fs::write(three.scene.world.source().join("large"), Random::new(7).bytes(24 << 20)).unwrap();
        // Slow enough that one of several packs is there long before the run is over.
        let file = three.scene.world.path("home/.config/lifeboat/config.toml");
        let configured = fs::read_to_string(&file).unwrap();
        let drive = format!("url = \"{}\"\n", three.drive_url);
        fs::write(&file, configured.replace(&drive, &format!("{drive}limit_upload = \"4MiB/s\"\n"))).unwrap();
        let mut child = three.person.start(&["-r", "drive", "backup", three.scene.source()]);
        let is_large = |file: &FileInfo| file.name.starts_with("packs/") && file.size > 1 << 20;
        let arrived = || three.drive.files().into_iter().find(is_large);
        let pack = wait_for(|| "a pack that is stored".to_owned(), arrived);
        child.kill().unwrap();
        child.wait().unwrap();
        fs::write(&file, configured).unwrap();
        assert!(
            !three.drive.files().iter().any(|file| file.name.starts_with("snapshots/")),
            "it was too quick"
        );
        let mut bytes = three.drive.content(&pack.id).unwrap().to_vec();
        bytes[1000] ^= 1;
        assert!(three.drive.set_content(&pack.id, bytes));
        three
    }
}

#[test]
fn killed_in_the_middle_of_an_upload_to_drive_the_next_run_continues() {
    for after_commit in [false, true] {
        let three = Three::new();
        fs::write(three.scene.world.source().join("large"), Random::new(7).bytes(24 << 20)).unwrap();
        three.drive.fault(Rule::new(Call::UploadChunk, When::Nth(1), Fault::Hang { after_commit }));
        let mut child = three.person.start(&["-r", "drive", "backup", three.scene.source()]);
        let hangs = || three.drive.requests().iter().any(|sent| sent.call == Call::UploadChunk);
        let sent = || three.drive.requests().iter().map(|sent| (sent.call, sent.status)).collect::<Vec<_>>();
        wait_for(|| format!("a part of an upload, {:?}", sent()), || hangs().then_some(()));
        child.kill().unwrap();
        child.wait().unwrap();
        three.drive.clear_faults();
        three.drive.release();
        three.run(&["-r", "drive", "backup", three.scene.source()]).expect(0);
        let names: Vec<String> = three.drive.files().into_iter().map(|file| file.name).collect();
        for name in names.iter().filter(|name| name.contains('/')) {
            assert_eq!(names.iter().filter(|other| *other == name).count(), 1, "{name} is there twice");
        }
        three.restores_alone("drive", &three.drive_url);
    }
}

#[test]
fn an_upload_that_was_cut_off_before_its_proof_is_not_used() {
    let three = Three::killed_before_the_proof();
    three.run(&["-r", "drive", "backup", three.scene.source()]).expect(0).says("damaged and not used");
    three.restores_alone("drive", &three.drive_url);
}

#[test]
fn an_upload_that_was_cut_off_before_its_proof_is_not_indexed_by_a_repair() {
    let three = Three::killed_before_the_proof();
    three.run(&["-r", "drive", "repair", "index"]).expect(14).prints("damaged");
    three.run(&["-r", "drive", "backup", three.scene.source()]).expect(0);
    three.restores_alone("drive", &three.drive_url);
}
