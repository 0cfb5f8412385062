//! The whole program on S3 stores: killed, limited, locked out and cut off in the middle of what it does.

use std::fs;
use std::path::Path;
use std::process::Child;

use lifeboat_tests::binary::{Ended, Person, ended};
use lifeboat_tests::faulty_s3::{self, Fault, FaultyS3, Operation, Refusal, Rule};
use lifeboat_tests::garage::{self, Garage, GarageCluster};
use lifeboat_tests::grow;
use lifeboat_tests::moto::{self, Moto};
use lifeboat_tests::process::wait_for;
use lifeboat_tests::random::Random;

use crate::scene::Scene;
use crate::servers::boto;

/// A person with a source of some MiB and credentials for a store.
struct Cloud {
    scene: Scene,
    person: Person,
}

impl Cloud {
    fn new(id: &str, secret: &str, mebibytes: usize) -> Self {
        let scene = Scene::new();
        let mut random = Random::new(5);
        for number in 0..mebibytes {
            grow::file(&scene.world.source().join(format!("file{number}")), 1 << 20, &mut random);
        }
        let person = Person::new(&scene.world.path("home"))
            .with("LIFEBOAT_PASSPHRASE", "secret")
            .with("AWS_ACCESS_KEY_ID", id)
            .with("AWS_SECRET_ACCESS_KEY", secret);
        Self { scene, person }
    }

    fn run(&self, url: &str, arguments: &[&str]) -> Ended {
        self.person.run(&[&["-r", url], arguments].concat())
    }

    fn backup(&self, url: &str) -> Ended {
        self.run(url, &["backup", self.scene.source()])
    }

    fn start_backup(&self, url: &str) -> Child {
        self.person.start(&["-r", url, "backup", self.scene.source()])
    }

    /// A machine that knows nothing but the URL and the key restores everything, equal to the source.
    fn restores_on_a_bare_machine(&self, url: &str, id: &str, secret: &str) {
        let target = self.scene.path("restored");
        let _ = fs::remove_dir_all(&target);
        let bare = Person::new(&self.scene.world.path("bare"))
            .with("LIFEBOAT_PASSPHRASE", "secret")
            .with("AWS_ACCESS_KEY_ID", id)
            .with("AWS_SECRET_ACCESS_KEY", secret);
        let what = format!("latest:{}", self.scene.source());
        bare.run(&["-r", url, "restore", &what, "--target", &target]).expect(0);
        same(self.scene.source(), &target);
    }
}

fn same(source: &str, restored: &str) {
    let compared = std::process::Command::new("diff").args(["-r", source, restored]).output().unwrap();
    assert!(compared.status.success(), "{}", String::from_utf8_lossy(&compared.stdout));
}

fn faulty(mebibytes: usize) -> (FaultyS3, Cloud, String) {
    let server = FaultyS3::start();
    let cloud = Cloud::new(faulty_s3::ACCESS_KEY, faulty_s3::SECRET_KEY, mebibytes);
    let url = server.url("host");
    cloud.run(&url, &["init"]).expect(0);
    (server, cloud, url)
}

#[test]
fn killed_in_the_middle_of_uploads_the_next_run_continues() {
    let (server, cloud, url) = faulty(40);
    // The fourth pack never gets an answer; whether it was stored is open.
    for fault in [Fault::HangBefore, Fault::HangAfter] {
        server.fault(Rule::on(Operation::Put, fault).key("/packs/").after(1).once());
    }
    let mut child = cloud.start_backup(&url);
    server.wait_for_request(|request| request.fault.is_some());
    let is_stored = || server.objects().keys().any(|key| key.contains("/packs/")).then_some(());
    wait_for(|| "a pack that is stored".to_owned(), is_stored);
    child.kill().unwrap();
    child.wait().unwrap();
    server.heal();
    let before = server.objects();
    assert!(
        before.keys().any(|key| key.contains("/packs/"))
            && !before.keys().any(|key| key.contains("/snapshots/"))
    );
    cloud.backup(&url).expect(0).says("a backup was cut off before");
    for key in before.keys().filter(|key| key.contains("/packs/")) {
        assert!(server.objects().contains_key(key), "{key} is gone");
    }
    cloud.restores_on_a_bare_machine(&url, faulty_s3::ACCESS_KEY, faulty_s3::SECRET_KEY);
    cloud.run(&url, &["check", "--read-data"]).expect(0);
}

#[test]
fn credentials_revoked_in_mid_run_end_it_with_words_and_lose_nothing() {
    let (server, cloud, url) = faulty(30);
    cloud.backup(&url).expect(0);
    grow::file(&cloud.scene.world.source().join("more"), 30 << 20, &mut Random::new(9));
    server.fault(
        Rule::on(Operation::Put, Fault::Refuse(Refusal::invalid_access_key())).key("/packs/").after(1),
    );
    let refused = cloud.backup(&url).expect(1);
    refused.says("does not know this access key");
    server.heal();
    cloud.run(&url, &["check", "--read-data"]).expect(0);
    cloud.backup(&url).expect(0);
    cloud.restores_on_a_bare_machine(&url, faulty_s3::ACCESS_KEY, faulty_s3::SECRET_KEY);
}

#[test]
fn a_flipped_byte_at_rest_is_healed_from_another_destination() {
    let (server, cloud, url) = faulty(4);
    let disk = cloud.scene.path("disk");
    let folder = cloud.scene.world.path("home/.config/lifeboat");
    fs::create_dir_all(&folder).unwrap();
    let configuration = format!(
        "[[destination]]\nname = \"cloud\"\nurl = \"{url}\"\n[[destination]]\nname = \"disk\"\nurl = \"{disk}\"\n"
    );
    fs::write(folder.join("config.toml"), configuration).unwrap();
    cloud.person.run(&["init"]).expect(0);
    cloud
        .person
        .run(&["backup", cloud.scene.source()])
        .expect(0)
        .prints("cloud: stored")
        .prints("disk: stored");
    let pack = server.objects().into_keys().find(|key| key.contains("/packs/")).unwrap();
    server.flip_byte(&pack);
    let target = cloud.scene.path("out");
    let what = format!("latest:{}", cloud.scene.source());
    cloud.person.run(&["restore", &what, "--target", &target]).expect(0).says("healed from disk");
    same(cloud.scene.source(), &target);
    cloud.person.run(&["check", "--read-data"]).expect(0);
    // What is gone at the store, and nobody was told.
    server.remove(&pack);
    cloud.person.run(&["check", "--all"]).expect(14);
    cloud.person.run(&["check", "--all", "--repair"]).expect(0);
}

#[test]
fn one_of_three_destinations_full_or_locked_does_not_keep_the_others() {
    if !Garage::is_available() {
        return;
    }
    let garage = Garage::start();
    let cloud = Cloud::new(garage::ACCESS_KEY, garage::SECRET_KEY, 6);
    let folder = cloud.scene.world.path("home/.config/lifeboat");
    fs::create_dir_all(&folder).unwrap();
    let destination =
        |name: &str, url: &str| format!("[[destination]]\nname = \"{name}\"\nurl = \"{url}\"\n");
    let configuration = destination("disk", &cloud.scene.path("disk"))
        + &destination("cloud", &garage.url("host"))
        + &destination("second", &cloud.scene.path("second"));
    fs::write(folder.join("config.toml"), configuration).unwrap();
    cloud.person.run(&["init"]).expect(0);
    let backup = || cloud.person.run(&["backup", cloud.scene.source()]);
    backup().expect(0);
    garage.set_quota(Some(1000), None);
    grow::file(&cloud.scene.world.source().join("one-more"), 2 << 20, &mut Random::new(1));
    backup().expect(3).prints("second: stored").prints("cloud: NOT stored").prints("quota");
    garage.set_quota(None, None);
    garage.allow_writing(false);
    grow::file(&cloud.scene.world.source().join("another"), 2 << 20, &mut Random::new(2));
    backup().expect(3).prints("second: stored").prints("cloud: NOT stored");
    garage.allow_writing(true);
    cloud.person.run(&["sync"]).expect(0).prints("cloud: 2 snapshots brought from disk");
    cloud.restores_on_a_bare_machine(&garage.url("host"), garage::ACCESS_KEY, garage::SECRET_KEY);
}

#[test]
fn a_node_of_three_is_killed_in_the_middle_of_a_backup_and_of_a_restore() {
    if !Garage::is_available() {
        return;
    }
    let mut cluster = GarageCluster::start(3);
    let cloud = Cloud::new(garage::ACCESS_KEY, garage::SECRET_KEY, 60);
    let url = cluster.url(0, "host");
    cloud.run(&url, &["init"]).expect(0);
    let child = cloud.start_backup(&url);
    cluster.kill(2);
    let made = ended(child);
    cluster.restart(2);
    cluster.wait_until_healthy();
    if made.code != Some(0) {
        // It may say that the store failed; it may never be wrong.
        assert_eq!(made.code, Some(1), "{made:?}");
        cloud.backup(&url).expect(0);
    }
    cloud.run(&url, &["check", "--read-data"]).expect(0);
    let target = cloud.scene.path("restored");
    let what = format!("latest:{}", cloud.scene.source());
    let child = cloud.person.start(&["-r", &url, "restore", &what, "--target", &target]);
    cluster.kill(1);
    let restored = ended(child);
    cluster.restart(1);
    cluster.wait_until_healthy();
    if restored.code != Some(0) {
        assert_eq!(restored.code, Some(1), "{restored:?}");
        cloud.run(&url, &["restore", &what, "--target", &target]).expect(0);
    }
    same(cloud.scene.source(), &target);
}

#[test]
fn secrets_and_their_traces_are_nowhere_in_what_is_printed_or_kept() {
    let (_server, cloud, url) = faulty(2);
    let loud = cloud.person.clone().with("RUST_LOG", "trace");
    for arguments in
        [vec!["-vv", "backup", cloud.scene.source()], vec!["-vv", "snapshots"], vec!["-vv", "check"]]
    {
        let ended = loud.run(&[&["-r", url.as_str()], &arguments[..]].concat()).expect(0);
        for text in [&ended.out, &ended.err] {
            assert!(!text.contains(faulty_s3::SECRET_KEY) && !text.contains("secret\n"), "{text}");
        }
    }
    for path in crate::scene::walk(Path::new(&cloud.scene.path("home"))) {
        let kept = fs::read(&path).unwrap_or_default();
        let has = |text: &str| kept.windows(text.len()).any(|window| window == text.as_bytes());
        assert!(!has(faulty_s3::SECRET_KEY), "{}", path.display());
    }
}

#[test]
fn what_is_forgotten_is_freed_and_what_may_not_be_deleted_is_said() {
    let (server, cloud, url) = faulty(3);
    cloud.backup(&url).expect(0);
    fs::remove_file(Path::new(cloud.scene.source()).join("file0")).unwrap();
    cloud.backup(&url).expect(0);
    cloud.run(&url, &["forget", "latest~1"]).expect(0);
    let stored = || server.objects().values().map(|object| object.len()).sum::<usize>();
    let before = stored();
    server.fault(Rule::on(Operation::DeleteMany, Fault::Refuse(Refusal::access_denied())).once());
    cloud.run(&url, &["prune", "--max-unused", "0"]).expect(3).says("did not let");
    cloud.run(&url, &["check", "--read-data"]).expect(0);
    cloud.run(&url, &["prune", "--max-unused", "0"]).expect(0);
    assert!(before - stored() > 1_000_000, "{before} and now {}", stored());
    cloud.run(&url, &["check", "--read-data"]).expect(0);
    cloud.restores_on_a_bare_machine(&url, faulty_s3::ACCESS_KEY, faulty_s3::SECRET_KEY);
}

#[test]
fn a_machine_that_may_not_delete_still_backs_up() {
    let (server, cloud, url) = faulty(1);
    for operation in [Operation::Delete, Operation::DeleteMany] {
        server.fault(Rule::on(operation, Fault::Refuse(Refusal::access_denied())));
    }
    cloud.backup(&url).expect(0).says("The snapshot is made");
    cloud.backup(&url).expect(0);
    cloud.restores_on_a_bare_machine(&url, faulty_s3::ACCESS_KEY, faulty_s3::SECRET_KEY);
}

#[test]
fn every_snapshot_has_all_it_leans_on_locked_for_the_whole_period() {
    if !Moto::is_available() {
        return;
    }
    let moto = Moto::start();
    let cloud = Cloud::new(moto::ACCESS_KEY, moto::SECRET_KEY, 2);
    let url = format!("{}&lock=30d", moto.locked_url("host"));
    cloud.run(&url, &["init"]).expect(0);
    cloud.backup(&url).expect(0);
    // Days that are left of each lock, and the folders of what has none. Versions that were written over count as well.
    let script = r#"
days, unlocked = [], set()
for o in s3.list_object_versions(Bucket="lifeboat-locked")["Versions"]:
    if ".lifeboat-probe" in o["Key"]: continue
    until = s3.head_object(Bucket="lifeboat-locked", Key=o["Key"], VersionId=o["VersionId"]).get("ObjectLockRetainUntilDate")
    if until:
        days.append((until - datetime.datetime.now(datetime.timezone.utc)).total_seconds() / 86400)
    else:
        unlocked.add(o["Key"].split("/")[1])
print(min(days) > 32.9, max(days) < 33.1, sorted(unlocked))
"#;
    let ask = || boto(moto.s3(), moto::REGION, moto::ACCESS_KEY, moto::SECRET_KEY, script).unwrap();
    assert_eq!(ask().trim(), "True True ['outcomes', 'sessions']");
    // What was extended a moment ago is not asked for again.
    let extended = |moto: &Moto| moto.log().matches("?retention").count();
    let before = extended(&moto);
    cloud.backup(&url).expect(0);
    assert_eq!(extended(&moto) - before, 1, "only the new snapshot:\n{}", moto.log());
    assert_eq!(ask().trim(), "True True ['outcomes', 'sessions']");
}
