//! `lifeboat notify test` and e-mail: the real binary against a web server and mail servers of this machine.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;

use lifeboat_tests::binary::{Ended, Person};
use lifeboat_tests::hook::{Hook, Reply};
use lifeboat_tests::smtp::{Encryption, MailServer, fixture};
use lifeboat_tests::world::World;

use crate::notify::channel;

/// Runs `lifeboat notify test` with this configuration; the servers' root certificate is trusted.
fn test(text: &str, arguments: &[&str]) -> Ended {
    run(text, arguments, Some("ca.pem"))
}

fn run(text: &str, arguments: &[&str], root: Option<&str>) -> Ended {
    let world = World::new();
    let file = world.path("config.toml");
    fs::write(&file, format!("host = \"box\"\n{text}")).unwrap();
    fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).unwrap();
    let mut person = Person::new(&world.path("home"));
    if let Some(root) = root {
        person = person.with("SSL_CERT_FILE", fixture(root));
    }
    let file = file.to_str().unwrap();
    person.run(&[&["-c", file, "notify", "test"], arguments].concat())
}

fn mail(server: &MailServer, tls: &str, more: &str) -> String {
    format!(
        "[[notify.channel]]\nname = \"mail\"\nkind = \"email\"\nhost = \"localhost\"\nport = {}\ntls = \"{tls}\"\nfrom = \"Bäckups <from@example.org>\"\n\
         to = [\"one@example.org\", \"Two <two@example.org>\"]\n{more}\n",
        server.port()
    )
}

#[test]
fn services_over_https_are_reached_by_the_roots_of_the_system_and_by_no_others() {
    for (kind, service) in [
        ("webhook", "hook"),
        ("discord", "api/webhooks/1/token"),
        ("slack", "services/T/B/token"),
        ("ntfy", "topic"),
        ("healthchecks", "ping/uuid"),
    ] {
        let hook = Hook::start_tls();
        let text = channel("one", kind, &hook.url(service), "");
        test(&text, &[]).expect(0).prints(&format!("channel one ({kind}): ok"));
        assert!(!hook.only().target.is_empty());
        run(&text, &[], None).expect(1).prints("failed");
        assert_eq!(hook.heard().len(), 0, "{kind}: it was told something by a stranger's certificate");
    }
}

#[test]
fn each_channel_is_tried_and_what_is_wrong_is_said_without_secrets() {
    let hook = Hook::start();
    let text = channel("good", "webhook", &hook.url("in/token-of-the-good-one"), "")
        + &channel(
            "gone",
            "discord",
            "http://127.0.0.1:1/api/webhooks/1/token-of-the-gone-one",
            "minimum_level = \"error\"",
        )
        + "[[notify.channel]]\nname = \"unset\"\nkind = \"slack\"\nurl = { env = \"NOT_SET_BY_ANYBODY\" }\n";
    let ended = test(&text, &[]).expect(1);
    let ended = ended
        .prints("channel good (webhook): ok")
        .prints("channel gone (discord): failed: 127.0.0.1:1 cannot be reached: connection refused")
        .prints("  hint: Check the address")
        .prints("channel unset (slack): failed: the URL of channel unset: the environment variable NOT_SET_BY_ANYBODY is not set");
    assert!(!format!("{}{}", ended.out, ended.err).contains("token-of"), "{ended:?}");
    assert!(hook.only().body.contains("Lifeboat on box: a test message"));

    test(&text, &["--channel", "good"]).expect(0);
    hook.only();
    let objects = test(&text, &["--json"]).expect(1).json();
    assert_eq!(objects.len(), 3);
    assert_eq!((&objects[0]["message_type"], &objects[0]["ok"]), (&"channel".into(), &true.into()));
    assert!(
        objects[1]["error"].as_str().unwrap().contains("cannot be reached") && objects[1]["hint"].is_string()
    );
    hook.script([Reply::status(404)]);
    test(&text, &["--channel", "good"]).expect(1).prints("status 404").prints("Check what channel good");
}

#[test]
fn a_configuration_without_the_channel_says_which_there_are() {
    test("", &[]).expect(2).says("no notification channel is configured").says("config.example.toml");
    let text = channel("ops", "webhook", "http://127.0.0.1:1/", "");
    test(&text, &["--channel", "opps"])
        .expect(2)
        .says("no notification channel is called opps")
        .says("There are: ops.");
}

#[test]
fn a_url_that_others_can_read_is_refused() {
    let world = World::new();
    let file = world.path("config.toml");
    fs::write(&file, channel("ops", "discord", "https://discord.com/api/webhooks/1/x", "")).unwrap();
    fs::set_permissions(&file, fs::Permissions::from_mode(0o644)).unwrap();
    let person = Person::new(&world.path("home"));
    let ended = person.run(&["-c", file.to_str().unwrap(), "notify", "test"]).expect(2);
    ended.says("the `url` of notification channel ops in").says("can be read by others").says("chmod 600");
}

#[test]
fn mail_goes_over_tls_from_the_beginning_or_by_starttls_to_all_in_one_message() {
    for (encryption, tls) in [(Encryption::Implicit, "implicit"), (Encryption::StartTls, "starttls")] {
        let server = MailServer::start(encryption);
        test(&mail(&server, tls, "user = \"me\"\npassword = \"mail-password\""), &[])
            .expect(0)
            .prints("channel mail (email): ok");
        let taken = server.taken();
        assert_eq!(taken.len(), 1);
        let message = &taken[0];
        assert!(message.encrypted);
        // base64 of \0me\0mail-password
        assert_eq!(message.sign_in.as_deref(), Some("AG1lAG1haWwtcGFzc3dvcmQ="));
        assert_eq!((message.from.as_str(), message.to.len()), ("from@example.org", 2));
        assert_eq!(message.header("Subject"), Some("Lifeboat on box: a test message"));
        assert_eq!(message.header("To"), Some("one@example.org, Two <two@example.org>"));
        assert_eq!(message.header("Auto-Submitted"), Some("auto-generated"));
        assert!(message.header("Message-ID").unwrap().ends_with("@box>"));
        assert!(message.header("Date").is_some() && message.header("MIME-Version").is_some());
        assert!(message.header("From").unwrap().starts_with("=?utf-8?b?"), "{:?}", message.header("From"));
        assert!(message.data.contains("messages of this machine arrive here"));
        assert!(!message.data.contains("mail-password"));
    }
}

#[test]
fn a_password_is_not_said_to_a_server_that_nobody_vouches_for() {
    let more = "user = \"me\"\npassword = \"mail-password\"";
    for (encryption, tls) in [
        // The certificate is of an unknown root.
        (Encryption::Implicit, "implicit"),
        (Encryption::StartTls, "starttls"),
        // Somebody in between has taken STARTTLS away.
        (Encryption::None, "starttls"),
    ] {
        let server = MailServer::start(encryption);
        let root = (encryption == Encryption::None).then_some("ca.pem");
        let ended = run(&mail(&server, tls, more), &[], root).expect(1);
        ended.prints("channel mail (email): failed");
        let lines = server.lines();
        assert!(lines.iter().all(|line| !line.starts_with("AUTH") && !line.starts_with("MAIL")), "{lines:?}");
    }
}

#[test]
fn a_mail_that_the_server_refuses_says_its_words() {
    let server = MailServer::start(Encryption::None);
    server.refuse("550 5.7.1 we do not relay");
    let ended = test(&mail(&server, "none", ""), &[]).expect(1);
    ended
        .prints("the mail server localhost refused it")
        .prints("we do not relay")
        .prints("hint: Check `user`");
    server.refuse("451 4.3.0 later");
    test(&mail(&server, "none", ""), &[]).expect(1).prints("later");
    test(&mail(&server, "none", ""), &[]).expect(0);
    assert_eq!(server.taken().len(), 1);
}

#[test]
fn a_webhook_over_https_is_sent_only_to_a_server_that_is_vouched_for() {
    // The mail server speaks TLS from the beginning, and then no HTTP: far enough to see who is trusted.
    let server = MailServer::start(Encryption::Implicit);
    let text =
        channel("ops", "webhook", &format!("https://localhost:{}/in/hidden-token-123", server.port()), "");
    let ended = run(&text, &[], None).expect(1).prints("UnknownIssuer");
    assert!(!ended.out.contains("hidden"), "{}", ended.out);
    assert!(server.lines().is_empty());
    let ended = test(&text, &[]).expect(1).prints("cannot be reached");
    assert!(!ended.out.contains("UnknownIssuer"), "{}", ended.out);
}
