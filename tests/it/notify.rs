//! Notifications to real servers on this machine: what each service gets, what becomes of its answers, and that no secret is seen anywhere.

use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use chrono::{DateTime, TimeDelta, Utc};
use lifeboat_agent::config::{ConfigFile, Environment, Places, notify as written};
use lifeboat_agent::notify::{Event, EventKind, Notify, Queue, Redactor, SCHEMA, deliver};
use lifeboat_tests::hook::{Hook, Reply};
use rusqlite::Connection;

/// The time of all tests of notifications, unless they say otherwise: nobody waits for a clock.
pub fn noon() -> DateTime<Utc> {
    DateTime::parse_from_rfc3339("2026-11-22T12:00:00Z").unwrap().to_utc()
}

/// The checked form of a `[notify]`.
pub fn notify(text: &str) -> Notify {
    let places =
        Places::of(&Environment { home: Some("/home/me".into()), ..Environment::default() }).unwrap();
    let file = ConfigFile::parse(text, "config.toml").unwrap().notify.unwrap_or_default();
    written::check(file, "box", &places, Path::new("/etc/lifeboat"), Redactor::default()).unwrap()
}

/// A `[[notify.channel]]`.
pub fn channel(name: &str, kind: &str, url: &str, more: &str) -> String {
    format!("[[notify.channel]]\nname = \"{name}\"\nkind = \"{kind}\"\nurl = \"{url}\"\n{more}\n")
}

/// A new state database.
pub fn database() -> Connection {
    let conn = Connection::open_in_memory().unwrap();
    conn.execute_batch(SCHEMA).unwrap();
    conn
}

/// A run of `db` that failed.
pub fn failure(now: DateTime<Utc>) -> Event {
    let mut event =
        Event::new(EventKind::Failure, "box", now, "The backup of db made no snapshot.").of_source("db");
    event.why = Some("cannot open /srv/db: permission denied".to_owned());
    event.next_step = Some("Check its owner.".to_owned());
    event.last_good = Some(now - TimeDelta::hours(26));
    event
}

/// A run of `db` that worked.
pub fn success(now: DateTime<Utc>) -> Event {
    Event::new(EventKind::Success, "box", now, "The backup of db made a snapshot.").of_source("db")
}

/// Sends `event` to the one channel of this configuration.
fn send(notify: &Notify, event: &Event) -> lifeboat_agent::Result<()> {
    deliver::now(notify, &notify.channels[0], event, &AtomicBool::new(false))
}

#[test]
fn each_service_gets_what_it_takes() {
    let hook = Hook::start();
    let event = failure(noon());
    let mut told = event.clone();
    told.source = Some("<@1> @everyone `db`".to_owned());

    send(&notify(&channel("a", "discord", &hook.url("api/webhooks/1/token-of-discord"), "")), &told).unwrap();
    let heard = hook.only();
    assert_eq!(heard.target, "/api/webhooks/1/token-of-discord");
    assert_eq!(heard.json()["allowed_mentions"]["parse"], serde_json::json!([]));
    assert!(!heard.body.contains("@everyone") && !heard.body.contains("<@1"), "{}", heard.body);
    assert!(
        heard.json()["embeds"][0]["description"].as_str().unwrap().contains("Next step: Check its owner.")
    );

    send(&notify(&channel("a", "slack", &hook.url("services/T/B/token-of-slack"), "")), &told).unwrap();
    let heard = hook.only();
    assert!(!heard.body.contains("@everyone") && !heard.body.contains("<@1"), "{}", heard.body);
    assert_eq!(heard.json()["blocks"][0]["type"], "header");

    send(&notify(&channel("a", "ntfy", &hook.url("sub/alerts"), "token = \"tk_of_ntfy\"")), &event).unwrap();
    let heard = hook.only();
    assert_eq!((heard.target.as_str(), heard.header("authorization")), ("/sub/", Some("Bearer tk_of_ntfy")));
    assert_eq!((&heard.json()["topic"], &heard.json()["priority"]), (&"alerts".into(), &5.into()));
    assert_eq!(heard.json()["title"], "Lifeboat on box: the backup of db failed");

    let mut ended = success(noon());
    ended.run = Some("123e4567-e89b-12d3-a456-426614174000".to_owned());
    let ping = notify(&channel("a", "healthchecks", &hook.url("ping/{source}"), ""));
    send(&ping, &ended).unwrap();
    let heard = hook.only();
    assert_eq!(heard.target, "/ping/db?rid=123e4567-e89b-12d3-a456-426614174000");
    assert_eq!(heard.body, "", "no words unless they are asked for");
    send(&ping, &Event::test("box", noon())).unwrap();
    assert_eq!(hook.only().target, "/ping/test/log", "a test is no good run");
}

#[test]
fn a_long_text_is_cut_for_ntfy_at_a_whole_character_and_says_so() {
    let hook = Hook::start();
    for letter in ["a", "é", "写", "🦀"] {
        let mut event = failure(noon());
        event.what = letter.repeat(5000);
        send(&notify(&channel("a", "ntfy", &hook.url("alerts"), "")), &event).unwrap();
        let heard = hook.only().json();
        let message = heard["message"].as_str().unwrap();
        assert!(message.len() <= 4096 && message.len() > 4080, "{}", message.len());
        assert!(message.ends_with(" … (cut)") && !message.contains('\u{fffd}'));
    }
}

/// What docs/operations/notifications.md says about verifying, done by another tool.
#[test]
fn the_signature_of_a_webhook_is_verified_by_what_the_documentation_shows() {
    let documentation = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/operations/notifications.md");
    let documentation = std::fs::read_to_string(documentation).unwrap();
    let example = documentation.split("```python\n").nth(1).unwrap().split("```").next().unwrap();
    let hook = Hook::start();
    send(&notify(&channel("a", "webhook", &hook.url("in"), "secret = \"sign-with-this\"")), &failure(noon()))
        .unwrap();
    let heard = hook.only();
    let body = heard.json();
    assert_eq!((&body["version"], &body["event"]["kind"]), (&1.into(), &"failure".into()));
    assert_eq!(heard.header("x-lifeboat-event"), Some("failure"));
    assert_eq!(heard.header("x-lifeboat-id"), body["id"].as_str());
    let verified = |secret: &str, body: &str| {
        let call = "\nimport sys\nprint(verify(sys.argv[1].encode(), sys.argv[2], sys.argv[3], sys.argv[4].encode(), now=int(sys.argv[2])))";
        let [timestamp, signature] =
            ["x-lifeboat-timestamp", "x-lifeboat-signature"].map(|name| heard.header(name).unwrap());
        let output = Command::new("python3")
            .args(["-c", &format!("{example}{call}"), secret, timestamp, signature, body])
            .stderr(Stdio::inherit())
            .output()
            .unwrap();
        String::from_utf8(output.stdout).unwrap().trim().to_owned()
    };
    assert_eq!(verified("sign-with-this", &heard.body), "True");
    assert_eq!(verified("sign-with-that", &heard.body), "False");
    assert_eq!(verified("sign-with-this", &heard.body.replace("failure", "success")), "False");
}

#[test]
fn what_a_service_answers_decides_what_becomes_of_a_message() {
    let hook = Hook::start();
    let notify = notify(&channel("ops", "webhook", &hook.url("in/geheimes-token-123"), ""));
    let conn = database();
    let queue = Queue::new(&conn, &notify);
    let running = AtomicBool::new(false);
    let answered = |reply: Reply| {
        queue
            .report(
                &Event { source: None, ..Event::new(EventKind::DrillFailed, "box", noon(), "So.") },
                noon(),
            )
            .unwrap();
        queue.resolve(EventKind::DrillFailed, &Event::test("box", noon()), noon()).unwrap();
        conn.execute("DELETE FROM notify_messages WHERE kind = 'recovered'", []).unwrap();
        hook.script([reply]);
        let delivered = queue.deliver_due(noon(), &running).unwrap();
        conn.execute_batch("DELETE FROM notify_messages; UPDATE notify_channels SET paused_until = NULL")
            .unwrap();
        delivered
    };
    let elsewhere = Hook::start();
    let redirect = vec![("Location", elsewhere.url("in"))];
    for (reply, sent, delayed, failed, word) in [
        (Reply::status(200), 1, 0, 0, ""),
        (Reply::status(204), 1, 0, 0, ""),
        (Reply::Endless(200), 1, 0, 0, ""),
        (Reply::status(500), 0, 1, 0, "status 500"),
        (Reply::status(503), 0, 1, 0, "status 503"),
        (Reply::Close, 0, 1, 0, "cannot be reached"),
        (Reply::status(429), 0, 1, 0, "no more messages"),
        (Reply::status(401), 0, 0, 1, "status 401"),
        (Reply::status(404), 0, 0, 1, "status 404"),
        (
            Reply::Status(400, vec![], "no such field geheimes-token-123".to_owned()),
            0,
            0,
            1,
            "no such field ********",
        ),
        (Reply::Endless(400), 0, 0, 1, "status 400"),
        (Reply::Status(307, redirect, String::new()), 0, 0, 1, "redirects"),
    ] {
        let what = format!("{reply:?}");
        let got = answered(reply);
        assert_eq!((got.sent, got.delayed, got.failed), (sent, delayed, failed), "{what}: {got:?}");
        assert!(
            got.troubles.iter().all(|trouble| trouble.contains(word) && !trouble.contains("geheim")),
            "{got:?}"
        );
        assert_eq!(got.troubles.is_empty(), word.is_empty());
    }
    assert!(elsewhere.heard().is_empty(), "no redirect is followed");
}

#[test]
fn who_is_asked_to_stop_waits_for_no_service_and_loses_nothing() {
    let hook = Hook::start();
    let notify = notify(&channel("ops", "webhook", &hook.url("in"), ""));
    let conn = database();
    let queue = Queue::new(&conn, &notify);
    queue.report(&failure(noon()), noon()).unwrap();
    hook.script([Reply::Hang]);
    let stop = Arc::new(AtomicBool::new(false));
    let delivered = std::thread::scope(|scope| {
        scope.spawn(|| {
            hook.wait_for(1);
            stop.store(true, Ordering::SeqCst);
        });
        queue.deliver_due(noon(), &stop).unwrap()
    });
    assert_eq!((delivered.sent, delivered.delayed, delivered.failed), (0, 0, 0));
    let delivered = queue.deliver_due(noon(), &AtomicBool::new(false)).unwrap();
    assert_eq!(delivered.sent, 1, "at once, and not when a claim has run out");
}

#[test]
fn no_secret_is_sent_kept_in_reasons_or_said() {
    const SECRETS: [&str; 5] =
        ["discord-token-1234", "tk_ntfy_secret", "signing-secret", "passphrase of all", "pg-password"];
    let hook = Hook::start();
    let text = channel("a", "discord", &hook.url(&format!("api/webhooks/1/{}", SECRETS[0])), "")
        + &channel("b", "ntfy", &hook.url("alerts"), &format!("token = \"{}\"", SECRETS[1]))
        + &channel("c", "webhook", &hook.url("in"), &format!("secret = \"{}\"", SECRETS[2]))
        + &channel("d", "slack", &hook.url("services/T0/B0/slack-token-123456"), "");
    let notify = notify(&text);
    notify.redactor.learn(SECRETS[3]);
    let mut event = failure(noon());
    let everything = format!(
        "{} in postgres://me:{}@db/x and {}",
        SECRETS.join(" and "),
        SECRETS[4],
        hook.url("services/T0/B0/slack-token-123456")
    );
    event.what = everything.replace(" and pg-password", "");
    event.why = Some(event.what.clone());
    event.next_step = Some(event.what.clone());
    let conn = database();
    let queue = Queue::new(&conn, &notify);
    queue.report(&event, noon()).unwrap();
    let refusal = || Reply::Status(400, vec![], format!("{} {} {}", SECRETS[0], SECRETS[1], SECRETS[2]));
    hook.script([Reply::status(200), Reply::status(200), refusal(), refusal()]);
    let delivered = queue.deliver_due(noon(), &AtomicBool::new(false)).unwrap();
    assert_eq!((delivered.sent, delivered.failed), (2, 2));
    let errors: Vec<_> = queue.channels().unwrap().into_iter().filter_map(|state| state.error).collect();
    assert_eq!(errors.len(), 2);
    let said = format!("{delivered:?} {errors:?} {notify:?}");
    let heard = hook.heard();
    assert_eq!(heard.len(), 4);
    let bodies: String = heard.iter().map(|heard| heard.body.as_str()).collect();
    assert!(bodies.contains("********"));
    for secret in SECRETS.iter().chain(&["slack-token"]) {
        assert!(!said.contains(secret), "{secret}: {said}");
        assert!(!bodies.contains(secret), "{secret}: {bodies}");
    }
}
