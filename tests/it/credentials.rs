//! Secrets of stores: others must not be able to read them, where they are looked for, and what is said when they are wrong or a
//! destination's name is mistyped.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;

use lifeboat_drive_double::{Double, Options};
use lifeboat_tests::binary::{Ended, Person};
use lifeboat_tests::faulty_s3::{self, FaultyS3};

use crate::scene::Scene;

fn write(path: &str, text: &str, mode: u32) {
    fs::write(path, text).unwrap();
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
}

fn destination(name: &str, url: &str, more: &str) -> String {
    format!("[[destination]]\nname = \"{name}\"\nurl = \"{url}\"\n{more}\n")
}

/// A person whose configuration has these destinations, and the configuration.
struct Configured {
    scene: Scene,
    person: Person,
    file: String,
}

impl Configured {
    fn new(text: impl FnOnce(&Scene) -> String) -> Self {
        let scene = Scene::new();
        let person = Person::new(&scene.world.path("configured")).with("LIFEBOAT_PASSPHRASE", "secret");
        let file = scene.path("config.toml");
        write(&file, &text(&scene), 0o600);
        Self { scene, person, file }
    }

    fn run(&self, arguments: &[&str]) -> Ended {
        self.person.run(&[&["-c", self.file.as_str()], arguments].concat())
    }

    fn chmod(&self, path: &str, mode: u32) {
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    }
}

#[test]
fn an_access_key_that_others_can_read_is_refused() {
    let server = FaultyS3::start();
    let id = format!("access_key_id = \"{}\"\n", faulty_s3::ACCESS_KEY);
    let written = format!("{id}secret_access_key = \"{}\"", faulty_s3::SECRET_KEY);
    let made = Configured::new(|_| destination("cloud", &server.url("host"), &written));
    made.run(&["init"]).expect(0);
    for mode in [0o644, 0o640, 0o604] {
        made.chmod(&made.file, mode);
        made.run(&["snapshots"]).expect(2).says("can be read by others").says("chmod 600");
    }
    // Without a secret in it anybody may read it.
    let made = Configured::new(|scene| {
        let path = scene.path("cloud.secret");
        write(&path, faulty_s3::SECRET_KEY, 0o600);
        destination("cloud", &server.url("other"), &format!("{id}secret_access_key_file = \"{path}\""))
    });
    made.chmod(&made.file, 0o644);
    made.run(&["init"]).expect(0);
    let secret = made.scene.path("cloud.secret");
    made.chmod(&secret, 0o644);
    let refused = made.run(&["snapshots"]).expect(2);
    refused.says("destination cloud").says(&format!("chmod 600 {secret}"));
}

/// systemd sees to who reads its credentials, whatever their mode is.
#[test]
fn an_access_key_among_the_credentials_of_systemd_is_taken_as_it_is() {
    let server = FaultyS3::start();
    let made = Configured::new(|_| destination("cloud", &server.url("host"), ""));
    let folder = made.scene.path("credentials");
    fs::create_dir(&folder).unwrap();
    write(&format!("{folder}/cloud.access-key-id"), faulty_s3::ACCESS_KEY, 0o444);
    write(&format!("{folder}/cloud.secret-access-key"), faulty_s3::SECRET_KEY, 0o444);
    let person = made.person.clone().with("CREDENTIALS_DIRECTORY", &folder);
    person.run(&["-c", &made.file, "init"]).expect(0);
}

#[test]
fn what_google_gave_out_is_refused_where_others_can_read_it() {
    let drive = Double::start(Options { shared_drive: true, ..Options::default() }).unwrap();
    let url = format!("gdrive://{}?endpoint={}", drive.folder(), drive.url());
    let made = Configured::new(|scene| {
        write(&scene.path("client.json"), &drive.client_secret(), 0o600);
        write(&scene.path("service.json"), &drive.service_account(), 0o600);
        let client = format!("google_client = \"{}\"", scene.path("client.json"));
        let elsewhere = format!("gdrive://another-folder?endpoint={}", drive.url());
        destination("person", &url, &client) + &destination("service", &elsewhere, "")
    });
    let client = made.scene.path("client.json");
    made.chmod(&client, 0o644);
    made.run(&["-r", "person", "snapshots"]).expect(2).says(&format!("chmod 600 {client}"));
    let service = made.scene.path("service.json");
    let person = made.person.clone().with("GOOGLE_APPLICATION_CREDENTIALS", &service);
    made.chmod(&service, 0o644);
    let refused = person.run(&["-c", &made.file, "-r", "service", "snapshots"]);
    refused.expect_failure().says(&format!("chmod 600 {service}"));
}

#[test]
fn the_service_account_of_the_environment_opens_a_destination() {
    let drive = Double::start(Options { shared_drive: true, ..Options::default() }).unwrap();
    let url = format!("gdrive://{}?endpoint={}", drive.folder(), drive.url());
    let made = Configured::new(|scene| {
        write(&scene.path("service.json"), &drive.service_account(), 0o600);
        destination("drive", &url, "")
    });
    // Without it the message names it.
    made.run(&["init"]).expect(2).says("GOOGLE_APPLICATION_CREDENTIALS").says("gdrive.md");
    let person = made.person.clone().with("GOOGLE_APPLICATION_CREDENTIALS", made.scene.path("service.json"));
    person.run(&["-c", &made.file, "init"]).expect(0);
    person.run(&["-c", &made.file, "backup", made.scene.source()]).expect(0);
}

#[test]
fn a_mistyped_destination_is_told_from_a_directory() {
    let made = Configured::new(|scene| {
        destination("disk", &scene.path("disk"), "") + &destination("offsite", &scene.path("offsite"), "")
    });
    made.run(&["init"]).expect(0);
    for command in [&["-r", "ofsite", "snapshots"][..], &["provider", "check", "ofsite"]] {
        made.run(command).expect(2).says("no destination ofsite").says("Did you mean offsite?");
    }
    // Something else is a directory, and so is one that is called nearly so.
    made.run(&["-r", "elsewhere", "snapshots"]).expect(10).says("there is no repository at");
    made.run(&["-r", "./ofsite", "init"]).expect(0);
    made.run(&["-r", "ofsite", "snapshots"]).expect(0);
    // Names may be given together.
    made.run(&["backup", "--to", "disk,offsite", made.scene.source()]).expect(0).prints("offsite: stored");
    made.run(&["backup", "--to", "disk,ofsite", made.scene.source()]).expect(2).says("disk, offsite");
    made.run(&["-r", "sftp://host/x", "snapshots"]).expect(2).says("gdrive://");
}

#[test]
fn init_goes_on_where_it_can_and_says_what_is_wrong_with_the_rest() {
    let server = FaultyS3::start();
    let key = |id: &str, secret: &str| format!("access_key_id = \"{id}\"\nsecret_access_key = \"{secret}\"");
    let made = Configured::new(|scene| {
        destination("disk", &scene.path("disk"), "")
            + &destination("secret", &server.url("a"), &key(faulty_s3::ACCESS_KEY, "another"))
            + &destination("unknown", &server.url("b"), &key("AKIAANOTHER", faulty_s3::SECRET_KEY))
            + &destination("second", &scene.path("second"), "")
    });
    // Whether it is there already nobody knows: nothing is made, and each reason is said.
    let refused = made.run(&["init"]).expect(1);
    refused.says("destination secret").says("destination unknown").says("the access key or its secret");
    assert!(!fs::exists(made.scene.path("disk")).unwrap());
    // Where it is known which one it is, it is made wherever that is possible.
    let alone = Configured::new(|_| destination("disk", &made.scene.path("disk"), ""));
    alone.run(&["init"]).expect(0);
    let ended = made.run(&["init"]).expect(1);
    let ended = ended.says("destination secret").says("destination unknown").prints("/second");
    assert_eq!(ended.err.matches("Nobody can read it").count(), 1, "{}", ended.err);
    made.run(&["-r", "second", "snapshots"]).expect(0);
}
