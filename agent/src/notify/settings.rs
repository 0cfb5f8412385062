//! Who is told what, and how: the checked form of `[notify]`.

use std::collections::BTreeSet;
use std::fmt;

use chrono::{NaiveTime, TimeDelta};
use chrono_tz::Tz;

use super::event::{EventKind, Level};
use super::quiet::QuietHours;
use super::redact::Redactor;
use crate::config::SecretValue;

/// Who is told what.
#[derive(Debug, Clone, Default)]
pub struct Notify {
    /// The channels, in the order in which they are written.
    pub channels: Vec<Channel>,
    /// How long after it was last told a thing that lasts is told again: the first time, the second, and so on; the last value repeats. None
    /// for no reminders.
    pub reminders: Vec<TimeDelta>,
    /// This machine's name.
    pub host: String,
    /// What every title begins with.
    pub title: String,
    /// What is never sent.
    pub redactor: Redactor,
}

/// One place to which messages go.
#[derive(Debug, Clone, PartialEq)]
pub struct Channel {
    /// What it is called.
    pub name: String,
    /// What it is.
    pub service: Service,
    /// What it is told.
    pub events: BTreeSet<EventKind>,
    /// What is less bad is not told; a success that is asked for, and the end of what was told, are.
    pub minimum_level: Level,
    /// Of the good runs of each source, every so manieth is told; 0 for none.
    pub every_nth_success: u64,
    /// When it is silent.
    pub quiet_hours: Option<QuietHours>,
    /// When what is not an error comes, once a day and together.
    pub digest: Option<DigestTime>,
    /// The sources it is told of; none for all.
    pub sources: Vec<String>,
    /// The destinations it is told of; none for all.
    pub destinations: Vec<String>,
}

/// A time of the day.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DigestTime {
    /// The time.
    pub at: NaiveTime,
    /// Its zone; the system's unless set.
    pub zone: Option<Tz>,
}

/// A service, with what it takes to reach it.
#[derive(Debug, Clone, PartialEq)]
pub enum Service {
    /// A webhook of a Discord channel.
    Discord(Address),
    /// An incoming webhook of Slack.
    Slack(Address),
    /// A topic of an ntfy server.
    Ntfy {
        /// The topic's URL.
        address: Address,
        /// An access token.
        token: Option<SecretValue>,
    },
    /// Any server: JSON by POST.
    Webhook {
        /// Where it is sent.
        address: Address,
        /// What it is signed with.
        secret: Option<SecretValue>,
    },
    /// E-mail.
    Email(Box<Mail>),
    /// A check of healthchecks.io, or of what speaks as it does.
    Healthchecks {
        /// The ping URL; `{source}` stands for the source's name.
        address: Address,
        /// Whether pings say what happened.
        details: bool,
    },
}

/// A URL that may be a secret.
#[derive(Debug, Clone, PartialEq)]
pub struct Address {
    /// The URL.
    pub url: SecretValue,
    /// Whether plain http may leave this machine.
    pub allow_plain: bool,
}

/// How e-mail is sent.
#[derive(Debug, Clone, PartialEq)]
pub struct Mail {
    /// The server that takes it.
    pub host: String,
    /// Its port.
    pub port: u16,
    /// How the connection is encrypted.
    pub tls: MailTls,
    /// Who signs in.
    pub user: Option<String>,
    /// With what.
    pub password: Option<SecretValue>,
    /// The sender.
    pub from: String,
    /// Who gets it.
    pub to: Vec<String>,
}

/// How a connection to a mail server is encrypted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MailTls {
    /// From its beginning.
    Implicit,
    /// After `STARTTLS`, which the server must know.
    StartTls,
    /// Not at all: on this machine only.
    None,
}

impl Service {
    /// Its name in the configuration.
    pub const fn kind(&self) -> &'static str {
        match self {
            Self::Discord(_) => "discord",
            Self::Slack(_) => "slack",
            Self::Ntfy { .. } => "ntfy",
            Self::Webhook { .. } => "webhook",
            Self::Email(_) => "email",
            Self::Healthchecks { .. } => "healthchecks",
        }
    }

    /// Whether it is told of runs as they begin and end, and of nothing else.
    pub const fn is_ping(&self) -> bool {
        matches!(self, Self::Healthchecks { .. })
    }

    /// Its secrets, each with what it is.
    pub fn secrets(&self) -> Vec<(&'static str, &SecretValue)> {
        match self {
            Self::Discord(address) | Self::Slack(address) | Self::Healthchecks { address, .. } => {
                vec![("URL", &address.url)]
            }
            Self::Ntfy { address, token: other } => {
                let other = other.iter().map(|token| ("token", token));
                std::iter::once(("URL", &address.url)).chain(other).collect()
            }
            Self::Webhook { address, secret: other } => {
                let other = other.iter().map(|secret| ("secret", secret));
                std::iter::once(("URL", &address.url)).chain(other).collect()
            }
            Self::Email(mail) => mail.password.iter().map(|password| ("password", password)).collect(),
        }
    }
}

impl Notify {
    /// The channel of that name.
    pub fn channel(&self, name: &str) -> Option<&Channel> {
        self.channels.iter().find(|channel| channel.name == name)
    }
}

impl fmt::Display for Channel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "channel {} ({})", self.name, self.service.kind())
    }
}
