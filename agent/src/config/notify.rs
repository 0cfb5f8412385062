//! `[notify]` of the configuration file: who is told what, and how.

use std::collections::BTreeSet;
use std::path::Path;

use chrono::{NaiveTime, TimeDelta};
use chrono_tz::Tz;
use lifeboat_providers::pace::Days;
use schemars::JsonSchema;
use serde::Deserialize;

use super::file::OneOrMany;
use super::{Places, SecretValue, name, retention};
use crate::notify::channel::{email, healthchecks};
use crate::notify::event::{EventKind, Level};
use crate::notify::http::checked_url;
use crate::notify::quiet::QuietHours;
use crate::notify::redact::Redactor;
use crate::notify::settings::{Address, Channel, DigestTime, Mail, MailTls, Notify, Service};
use crate::{Error, Result};

const NAME_BYTES_MAX: usize = 32;
/// Reminders unless written otherwise: soon enough to help, rare enough to be read.
const REMINDERS: [&str; 4] = ["1h", "6h", "1d", "2d"];
/// More often is no reminder.
const REMINDER_MIN: TimeDelta = TimeDelta::minutes(1);
/// Nobody remembers what a reminder after longer is about.
const REMINDER_MAX: TimeDelta = TimeDelta::days(90);
/// The ports that are usual for each way of encryption.
const SMTPS_PORT: u16 = 465;
const SUBMISSION_PORT: u16 = 587;
const SMTP_PORT: u16 = 25;

/// Who is told what, as written.
#[derive(Debug, Clone, Default, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct NotifyFile {
    /// How long after it was last told a thing that lasts is told again, as `["1h", "6h", "1d"]`; the last repeats. `[]` for never.
    pub reminders: Option<Vec<String>>,
    /// What every title begins with; `Lifeboat on HOST` unless set.
    pub title: Option<String>,
    /// Where messages go.
    pub channel: Vec<ChannelFile>,
}

/// A channel as written.
#[derive(Debug, Clone, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ChannelFile {
    /// What it is called on the command line and in messages.
    pub name: String,
    /// The service.
    pub kind: ServiceKind,
    /// The URL of the webhook, topic or check; often a secret. Not of e-mail.
    pub url: Option<SecretValue>,
    /// Plain http:// may leave this machine.
    pub allow_plain: Option<bool>,
    /// ntfy: an access token.
    pub token: Option<SecretValue>,
    /// webhook: what bodies are signed with.
    pub secret: Option<SecretValue>,
    /// healthchecks: pings say what happened.
    pub details: Option<bool>,
    /// email: the SMTP server.
    pub host: Option<String>,
    /// email: its port; 465 for implicit TLS, 587 for STARTTLS.
    pub port: Option<u16>,
    /// email: how the connection is encrypted.
    pub tls: Option<TlsFile>,
    /// email: who signs in.
    pub user: Option<String>,
    /// email: with which password.
    pub password: Option<SecretValue>,
    /// email: the sender.
    pub from: Option<String>,
    /// email: the recipients.
    #[serde(default, deserialize_with = "super::file::one_or_many_or_none")]
    #[schemars(with = "Option<OneOrMany>")]
    pub to: Option<Vec<String>>,
    /// What it is told; everything unless set.
    pub events: Option<Vec<String>>,
    /// What is less bad is not told; "warning" unless set.
    pub minimum_level: Option<LevelFile>,
    /// Of the good runs of each source, every so manieth is told; 0 for none.
    pub every_nth_success: Option<u64>,
    /// When it is silent.
    pub quiet_hours: Option<QuietFile>,
    /// "off", or a time of the day as "08:00": what is not an error comes then, together.
    pub digest: Option<String>,
    /// The zone of quiet hours and digest; the system's unless set.
    pub timezone: Option<String>,
    /// The sources it is told of; all unless set.
    #[serde(default, deserialize_with = "super::file::one_or_many_or_none")]
    #[schemars(with = "Option<OneOrMany>")]
    pub sources: Option<Vec<String>>,
    /// The destinations it is told of; all unless set.
    #[serde(default, deserialize_with = "super::file::one_or_many_or_none")]
    #[schemars(with = "Option<OneOrMany>")]
    pub destinations: Option<Vec<String>>,
}

/// A service.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum ServiceKind {
    /// A webhook of a Discord channel.
    Discord,
    /// An incoming webhook of Slack.
    Slack,
    /// A topic of an ntfy server.
    Ntfy,
    /// Any server: JSON by POST.
    Webhook,
    /// E-mail.
    Email,
    /// Pings of healthchecks.io, and of what speaks as it does.
    Healthchecks,
}

/// How bad something is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum LevelFile {
    /// Good to know.
    Info,
    /// It needs a look, soon.
    Warning,
    /// Something is not protected.
    Error,
}

/// How a connection to a mail server is encrypted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum TlsFile {
    /// From its beginning.
    Implicit,
    /// After STARTTLS, which the server must know.
    StartTls,
    /// Not at all: only for a server on this machine.
    None,
}

/// Quiet hours as written.
#[derive(Debug, Clone, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct QuietFile {
    /// When they begin, as "22:00".
    pub from: String,
    /// When they end, as "07:00".
    pub to: String,
    /// The days on which they begin, as ["mon-fri"]; all unless set.
    #[schemars(with = "Option<OneOrMany>")]
    pub days: Option<Days>,
    /// The zone; that of the channel unless set.
    pub timezone: Option<String>,
    /// What is as bad as that comes all the same; nothing unless set.
    pub except: Option<LevelFile>,
}

impl From<LevelFile> for Level {
    fn from(level: LevelFile) -> Self {
        match level {
            LevelFile::Info => Self::Info,
            LevelFile::Warning => Self::Warning,
            LevelFile::Error => Self::Error,
        }
    }
}

impl NotifyFile {
    /// A secret that is written here, as what messages call it: then nobody else may be able to read the file.
    pub fn written_secret(&self) -> Option<String> {
        self.channel.iter().find_map(|channel| {
            // The URL of a healthchecks check or a webhook is what a password is elsewhere.
            let secrets = [
                ("url", &channel.url),
                ("token", &channel.token),
                ("secret", &channel.secret),
                ("password", &channel.password),
            ];
            let written =
                secrets.iter().find(|(_, value)| value.as_ref().is_some_and(SecretValue::is_written))?;
            Some(format!("`{}` of notification channel {}", written.0, channel.name))
        })
    }
}

/// Checks what was written. `host` is this machine's name; `redactor` learns the secrets that are written in the file.
///
/// # Errors
/// `Usage` that names the channel.
pub fn check(
    file: NotifyFile,
    host: &str,
    places: &Places,
    base: &Path,
    redactor: Redactor,
) -> Result<Notify> {
    let reminders = match &file.reminders {
        Some(written) => written.iter().map(|text| reminder(text)).collect::<Result<_>>()?,
        None => REMINDERS.iter().map(|text| reminder(text)).collect::<Result<_>>()?,
    };
    let title =
        file.title.filter(|title| !title.trim().is_empty()).unwrap_or_else(|| format!("Lifeboat on {host}"));
    let mut channels: Vec<Channel> = Vec::new();
    for written in file.channel {
        let name = written.name.clone();
        name::check("notification channel", &name, NAME_BYTES_MAX)?;
        if channels.iter().any(|other| other.name == name) {
            return Err(Error::usage(format_args!("two notification channels are called {name}"))
                .with_hint("Give each [[notify.channel]] a name of its own."));
        }
        let resolve = |value: SecretValue| value.resolved(|path| places.resolve(path, base));
        let channel =
            channel(written, &resolve).map_err(|e| e.context(format_args!("notification channel {name}")))?;
        for (what, secret) in channel.service.secrets() {
            if let SecretValue::Written(text) = secret {
                if what == "URL" { redactor.learn_url(text) } else { redactor.learn(text) }
            }
        }
        channels.push(channel);
    }
    Ok(Notify { channels, reminders, host: host.to_owned(), title, redactor })
}

fn channel(file: ChannelFile, resolve: &dyn Fn(SecretValue) -> SecretValue) -> Result<Channel> {
    let events = events(file.events.as_deref())?;
    let zone = file.timezone.as_deref().map(zone).transpose()?;
    let asks_for_success = file.events.is_some() && events.contains(&EventKind::Success);
    let every_nth_success = file.every_nth_success.unwrap_or(u64::from(asks_for_success));
    if every_nth_success > 0 && !events.contains(&EventKind::Success) {
        return Err(Error::usage("`every_nth_success` is set, and `events` leaves out \"success\""));
    }
    let quiet_hours = file.quiet_hours.as_ref().map(|quiet| quiet_hours(quiet, zone)).transpose()?;
    let digest = match file.digest.as_deref() {
        None | Some("off") => None,
        Some(text) => Some(DigestTime { at: time_of_day(text).map_err(|e| e.context("`digest`"))?, zone }),
    };
    if file.kind == ServiceKind::Healthchecks && (quiet_hours.is_some() || digest.is_some()) {
        return Err(Error::usage(
            "pings have neither `quiet_hours` nor a `digest`: what is late would be wrong",
        )
        .with_hint("Set the hours of alarms at the service."));
    }
    Ok(Channel {
        name: file.name.clone(),
        events,
        minimum_level: file.minimum_level.map_or(Level::Warning, Level::from),
        every_nth_success,
        quiet_hours,
        digest,
        sources: file.sources.clone().unwrap_or_default(),
        destinations: file.destinations.clone().unwrap_or_default(),
        service: service(file, resolve)?,
    })
}

fn service(file: ChannelFile, resolve: &dyn Fn(SecretValue) -> SecretValue) -> Result<Service> {
    refuse_foreign_keys(&file)?;
    if file.kind == ServiceKind::Email {
        return mail(file, resolve).map(|mail| Service::Email(Box::new(mail)));
    }
    let url = file.url.ok_or_else(|| Error::usage("`url` is missing"))?;
    let allow_plain = file.allow_plain.unwrap_or_default();
    if let SecretValue::Written(text) = &url {
        // The name of a source may stand where a URL has no braces.
        checked_url(&text.replace(healthchecks::SOURCE, "source"), "`url`", allow_plain)?;
    }
    let address = Address { url: resolve(url), allow_plain };
    Ok(match file.kind {
        ServiceKind::Discord => Service::Discord(address),
        ServiceKind::Slack => Service::Slack(address),
        ServiceKind::Ntfy => Service::Ntfy { address, token: file.token.map(resolve) },
        ServiceKind::Webhook => Service::Webhook { address, secret: file.secret.map(resolve) },
        ServiceKind::Healthchecks | ServiceKind::Email => {
            Service::Healthchecks { address, details: file.details.unwrap_or_default() }
        }
    })
}

/// A key of another kind of channel is a mistake that nobody would notice.
fn refuse_foreign_keys(file: &ChannelFile) -> Result<()> {
    use ServiceKind::{Email, Healthchecks, Ntfy, Webhook};
    let mail = [
        ("host", file.host.is_some()),
        ("port", file.port.is_some()),
        ("tls", file.tls.is_some()),
        ("user", file.user.is_some()),
        ("password", file.password.is_some()),
        ("from", file.from.is_some()),
        ("to", file.to.is_some()),
    ];
    let http = [("url", file.url.is_some()), ("allow_plain", file.allow_plain.is_some())];
    let single = [
        ("token", file.token.is_some(), Ntfy),
        ("secret", file.secret.is_some(), Webhook),
        ("details", file.details.is_some(), Healthchecks),
    ];
    let of_others = if file.kind == Email { http.as_slice() } else { mail.as_slice() };
    let foreign = of_others.iter().find(|(_, is_set)| *is_set).map(|(key, _)| *key);
    let foreign = foreign.or_else(|| {
        single.into_iter().find(|(_, is_set, kind)| *is_set && *kind != file.kind).map(|(key, ..)| key)
    });
    match foreign {
        None => Ok(()),
        Some(key) => {
            let kind = format!("{:?}", file.kind).to_lowercase();
            Err(Error::usage(format_args!("`{key}` means nothing for kind = {kind:?}"))
                .with_hint("Take it out, or correct `kind`."))
        }
    }
}

fn mail(file: ChannelFile, resolve: &dyn Fn(SecretValue) -> SecretValue) -> Result<Mail> {
    let missing = |key: &str| Error::usage(format_args!("`{key}` is missing"));
    let host = file.host.filter(|host| !host.trim().is_empty()).ok_or_else(|| missing("host"))?;
    let tls = match file.tls.unwrap_or(TlsFile::Implicit) {
        TlsFile::Implicit => MailTls::Implicit,
        TlsFile::StartTls => MailTls::StartTls,
        TlsFile::None if is_this_machine(&host) => MailTls::None,
        TlsFile::None => {
            return Err(Error::usage(format_args!("`tls` is \"none\", and {host} is not this machine"))
                .with_hint("Write tls = \"starttls\" or \"implicit\"."));
        }
    };
    let port = file.port.unwrap_or(match tls {
        MailTls::Implicit => SMTPS_PORT,
        MailTls::StartTls => SUBMISSION_PORT,
        MailTls::None => SMTP_PORT,
    });
    if file.user.is_some() != file.password.is_some() {
        return Err(missing(if file.user.is_some() { "password" } else { "user" }));
    }
    let from = file.from.ok_or_else(|| missing("from"))?;
    let to = file.to.filter(|to| !to.is_empty()).ok_or_else(|| missing("to"))?;
    for address in std::iter::once(&from).chain(&to) {
        email::mailbox(address)?;
    }
    Ok(Mail { host, port, tls, user: file.user, password: file.password.map(resolve), from, to })
}

fn is_this_machine(host: &str) -> bool {
    host == "localhost" || host.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback())
}

fn events(written: Option<&[String]>) -> Result<BTreeSet<EventKind>> {
    let Some(written) = written else { return Ok(EventKind::CHOOSABLE.into_iter().collect()) };
    if written.is_empty() {
        return Err(Error::usage("`events` is empty: nothing would be told")
            .with_hint("Leave it out for all events."));
    }
    written
        .iter()
        .map(|text| text.parse().map_err(|why| Error::usage(format_args!("`events`: {why}"))))
        .collect()
}

fn quiet_hours(file: &QuietFile, zone_of_channel: Option<Tz>) -> Result<QuietHours> {
    let within = |e: Error| e.context("`quiet_hours`");
    let (from, to) = (time_of_day(&file.from).map_err(within)?, time_of_day(&file.to).map_err(within)?);
    if from == to {
        return Err(Error::usage("`quiet_hours` end when they begin")
            .with_hint("To be told nothing, take the channel out."));
    }
    let zone = file.timezone.as_deref().map(zone).transpose().map_err(within)?.or(zone_of_channel);
    Ok(QuietHours {
        days: file.days.unwrap_or(Days::ALL),
        from,
        to,
        zone,
        except: file.except.map(Level::from),
    })
}

fn time_of_day(text: &str) -> Result<NaiveTime> {
    // 24:00 is how some write the end of the day.
    let text = if text.trim() == "24:00" { "00:00" } else { text.trim() };
    NaiveTime::parse_from_str(text, "%H:%M")
        .map_err(|_| Error::usage(format_args!("{text:?} is no time of the day: write it as \"08:00\"")))
}

fn zone(name: &str) -> Result<Tz> {
    retention::parse_zone(name).map_err(Error::usage)
}

/// `30m`, `6h`, `1d`, `1w`.
fn reminder(text: &str) -> Result<TimeDelta> {
    let trimmed = text.trim();
    let digits = trimmed.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let number: Option<i64> = digits.trim().parse().ok().filter(|number| (1..=100_000).contains(number));
    let span = match (number, trimmed.get(digits.len()..)) {
        (Some(number), Some("m" | "min")) => Some(TimeDelta::minutes(number)),
        (Some(number), Some("h")) => Some(TimeDelta::hours(number)),
        (Some(number), Some("d")) => Some(TimeDelta::days(number)),
        (Some(number), Some("w")) => Some(TimeDelta::weeks(number)),
        _ => None,
    };
    span.filter(|span| (REMINDER_MIN..=REMINDER_MAX).contains(span)).ok_or_else(|| {
        Error::usage(format_args!("[notify], `reminders`: {text:?} is no time between 1m and 90d"))
            .with_hint("Write them as [\"30m\", \"6h\", \"1d\", \"1w\"].")
    })
}

#[cfg(test)]
mod tests;
