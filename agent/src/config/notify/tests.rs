//! What may be written of channels, and what mistakes are called.

use super::*;
use crate::config::{ConfigFile, Environment};

fn read(text: &str) -> Result<Notify> {
    let places = Places::of(&Environment { home: Some("/home/me".into()), ..Environment::default() })?;
    let file = ConfigFile::parse(text, "c")?.notify.unwrap_or_default();
    check(file, "box", &places, Path::new("/etc/lifeboat"), Redactor::default())
}

fn one(fields: &str) -> String {
    format!("[[notify.channel]]\nname = \"ops\"\n{fields}\n")
}

const DISCORD: &str = "kind = \"discord\"\nurl = \"https://discord.com/api/webhooks/1/geheimes-token-123\"";
const MAIL: &str =
    "kind = \"email\"\nhost = \"mail.example\"\nfrom = \"a@example.org\"\nto = \"Me <b@example.org>\"";

#[test]
fn what_is_left_out_has_safe_defaults() {
    let notify = read(&one(DISCORD)).unwrap();
    assert_eq!(notify.title, "Lifeboat on box");
    assert_eq!(notify.reminders.first(), Some(&TimeDelta::hours(1)));
    let channel = notify.channel("ops").unwrap();
    assert_eq!((channel.minimum_level, channel.every_nth_success), (Level::Warning, 0));
    assert_eq!(channel.events.len(), EventKind::CHOOSABLE.len());
    assert!(channel.quiet_hours.is_none() && channel.digest.is_none() && channel.sources.is_empty());
    assert!(read("").unwrap().channels.is_empty());
    let Service::Email(mail) = &read(&one(MAIL)).unwrap().channels[0].service else { panic!() };
    assert_eq!((mail.port, mail.tls, mail.to.len()), (465, MailTls::Implicit, 1));
}

#[test]
fn all_that_can_be_written_is_read() {
    let text = one(&format!(
        "{DISCORD}\nevents = [\"failure\", \"success\"]\nminimum_level = \"info\"\ndigest = \"08:00\"\ntimezone = \"Europe/Berlin\"\n\
         quiet_hours = {{ from = \"22:00\", to = \"7:00\", days = [\"mon-fri\"], except = \"error\" }}\nsources = \"db\"\ndestinations = [\"disk\"]"
    ));
    let channel = read(&text).unwrap().channels.remove(0);
    let quiet = channel.quiet_hours.unwrap();
    assert_eq!((quiet.zone, quiet.except), (Some(chrono_tz::Europe::Berlin), Some(Level::Error)));
    assert_eq!(channel.digest.unwrap().at, NaiveTime::from_hms_opt(8, 0, 0).unwrap());
    // Who writes it down wants each.
    assert_eq!((channel.every_nth_success, channel.events.len()), (1, 2));
    assert_eq!(read("[notify]\nreminders = []").unwrap().reminders, []);
    let reminders = read("[notify]\nreminders = [\"30m\", \"2 d\", \"1w\"]").unwrap().reminders;
    assert_eq!(reminders, [TimeDelta::minutes(30), TimeDelta::days(2), TimeDelta::weeks(1)]);
    let file = read(&one("kind = \"ntfy\"\nurl = { file = \"u\" }\ntoken = { env = \"T\" }")).unwrap();
    let Service::Ntfy { address, token } = &file.channels[0].service else { panic!() };
    assert_eq!(address.url, SecretValue::File("/etc/lifeboat/u".into()));
    assert_eq!(token, &Some(SecretValue::Environment("T".to_owned())));
}

#[test]
fn mistakes_name_the_channel() {
    for (text, word) in [
        (one(DISCORD) + &one(DISCORD), "two notification channels are called ops"),
        (one(DISCORD).replace("ops", "a b"), "up to 32"),
        (one("kind = \"discord\""), "channel ops: `url` is missing"),
        (one("kind = \"pager\"\nurl = \"https://a\""), "pager"),
        (
            one("kind = \"slack\"\nurl = \"http://example.org/x\""),
            "channel ops: `url`: http:// to example.org is refused",
        ),
        (one("kind = \"slack\"\nurl = \"nowhere\""), "channel ops: `url`: the URL means nothing"),
        (one(&format!("{DISCORD}\ntoken = \"abc\"")), "`token` means nothing for kind = \"discord\""),
        (one(&format!("{DISCORD}\nport = 7")), "`port` means nothing"),
        (one(&format!("{MAIL}\nurl = \"https://a\"")), "`url` means nothing for kind = \"email\""),
        (one(&format!("{MAIL}\ntls = \"none\"")), "mail.example is not this machine"),
        (one(&format!("{MAIL}\nuser = \"a\"")), "channel ops: `password` is missing"),
        (one(&MAIL.replace("a@example.org", "a at b")), "\"a at b\" is no e-mail address"),
        (one(&MAIL.replace("to = \"Me <b@example.org>\"", "to = []")), "`to` is missing"),
        (one(&format!("{DISCORD}\nevents = []")), "`events` is empty"),
        (one(&format!("{DISCORD}\nevents = [\"failures\"]")), "\"failures\" is no event"),
        (one(&format!("{DISCORD}\nevents = [\"failure\"]\nevery_nth_success = 3")), "leaves out \"success\""),
        (
            one(&format!("{DISCORD}\nquiet_hours = {{ from = \"22:00\", to = \"22:00\" }}")),
            "end when they begin",
        ),
        (
            one(&format!("{DISCORD}\nquiet_hours = {{ from = \"25:00\", to = \"22:00\" }}")),
            "\"25:00\" is no time",
        ),
        (one(&format!("{DISCORD}\ndigest = \"daily\"")), "`digest`: \"daily\" is no time"),
        (one(&format!("{DISCORD}\ntimezone = \"Berlin\"")), "\"Berlin\" is no time zone"),
        (one("kind = \"healthchecks\"\nurl = \"https://hc/x\"\ndigest = \"08:00\""), "pings have neither"),
        ("[notify]\nreminders = [\"5\"]".to_owned(), "\"5\" is no time"),
        ("[notify]\nreminders = [\"1000w\"]".to_owned(), "between 1m and 90d"),
        ("[notify]\nreminder = []".to_owned(), "unknown key `reminder`"),
        (one(&format!("{DISCORD}\nevnts = []")), "unknown key `evnts`"),
    ] {
        let error = read(&text).unwrap_err().to_string();
        assert!(error.contains(word), "{text}: {error}");
        assert!(!error.contains("geheim"), "{error}");
    }
}

#[test]
fn secrets_are_not_shown_and_are_known_to_the_redactor() {
    let text = one(DISCORD);
    let file = ConfigFile::parse(&text, "c").unwrap();
    assert!(!format!("{file:?}").contains("geheim"));
    let notify = read(&text).unwrap();
    assert!(!format!("{notify:?}").contains("geheim"));
    assert!(!notify.redactor.redact("see geheimes-token-123").contains("geheim"));
    assert_eq!(file.notify.unwrap().written_secret().unwrap(), "`url` of notification channel ops");
    let elsewhere = one("kind = \"slack\"\nurl = { env = \"URL\" }");
    assert_eq!(ConfigFile::parse(&elsewhere, "c").unwrap().notify.unwrap().written_secret(), None);
}

#[test]
fn the_schema_has_every_key_with_its_words() {
    let schema = schemars::schema_for!(NotifyFile).to_value().to_string();
    for word in ["every_nth_success", "The SMTP server", "\"healthchecks\"", "quiet_hours", "\"starttls\""] {
        assert!(schema.to_lowercase().contains(&word.to_lowercase()), "{word}: {schema}");
    }
}
