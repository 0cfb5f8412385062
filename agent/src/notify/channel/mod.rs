//! The services: each file makes what one of them takes out of an event, within its limits and with its escapes. Sending and judging the answer is the same
//! for all that speak HTTP.

pub mod discord;
pub mod email;
pub mod healthchecks;
pub mod ntfy;
pub mod slack;
pub mod webhook;

use std::sync::atomic::AtomicBool;

use chrono::{DateTime, TimeDelta, Utc};
use zeroize::Zeroizing;

use super::event::Event;
use super::http::{self, Answer, NoAnswer, Request};
use super::redact::Redactor;
use super::render::{Rendered, render, scrubbed};
use super::settings::{Address, Channel, Notify, Service};
use crate::config::SecretValue;
use crate::{Error, Kind, Result};

/// What became of a delivery.
#[derive(Debug)]
pub enum Outcome {
    /// The service has it.
    Sent,
    /// It may work later.
    Later {
        /// What went wrong.
        why: Error,
        /// How long the service wants to be left alone.
        wait: Option<TimeDelta>,
        /// It was too much for the service, and all of the channel has to wait.
        is_limit: bool,
    },
    /// It will not work however often it is tried.
    Never {
        /// What is wrong.
        why: Error,
    },
    /// It was asked to stop.
    Cancelled,
}

/// A channel with its secrets.
pub struct Prepared<'c> {
    /// The channel.
    pub channel: &'c Channel,
    /// Its URL, if it has one.
    pub url: Zeroizing<String>,
    /// Its token, secret or password, if it has one.
    pub secret: Option<Zeroizing<String>>,
}

impl<'c> Prepared<'c> {
    /// Reads the secrets of a channel, which `redactor` learns.
    ///
    /// # Errors
    /// As [`SecretValue::read`].
    pub fn read(channel: &'c Channel, redactor: &Redactor) -> Result<Self> {
        let read = |value: &SecretValue, what| value.read(&format!("the {what} of channel {}", channel.name));
        let (mut url, mut secret) = (Zeroizing::default(), None);
        for (what, value) in channel.service.secrets() {
            let text = read(value, what)?;
            if what == "URL" {
                redactor.learn_url(&text);
                url = text;
            } else {
                redactor.learn(&text);
                secret = Some(text);
            }
        }
        Ok(Self { channel, url, secret })
    }

    fn checked_url(&self, address: &Address) -> Result<url::Url> {
        http::checked_url(
            &self.url,
            &format!("the URL of channel {}", self.channel.name),
            address.allow_plain,
        )
    }
}

/// Sends an event to a channel and waits for what becomes of it. `id` names the message and stays the same when it is tried again.
pub fn deliver(
    notify: &Notify,
    prepared: &Prepared<'_>,
    event: &Event,
    id: i64,
    now: DateTime<Utc>,
    stop: &AtomicBool,
) -> Outcome {
    let event = scrubbed(event, &notify.redactor);
    let rendered = render(&event, &notify.title);
    if let Service::Email(mail) = &prepared.channel.service {
        return email::deliver(mail, prepared, &event, &rendered, id, stop);
    }
    match request(prepared, &event, &rendered, id, now) {
        Ok(request) => match http::post(request, now, stop) {
            Ok(answer) => judge(prepared.channel, answer),
            Err(NoAnswer::Cancelled) => Outcome::Cancelled,
            Err(NoAnswer::Failed(why)) => Outcome::Later { why, wait: None, is_limit: false },
        },
        Err(why) => Outcome::Never { why },
    }
}

/// What is sent to a service that speaks HTTP.
fn request(
    prepared: &Prepared<'_>,
    event: &Event,
    rendered: &Rendered,
    id: i64,
    now: DateTime<Utc>,
) -> Result<Request> {
    let json = |url, body: serde_json::Value| {
        Ok(Request { url, headers: Vec::new(), content_type: "application/json", body: body.to_string() })
    };
    match &prepared.channel.service {
        Service::Discord(address) => json(prepared.checked_url(address)?, discord::body(event, rendered)),
        Service::Slack(address) => json(prepared.checked_url(address)?, slack::body(rendered)),
        Service::Ntfy { address, .. } => ntfy::request(prepared.checked_url(address)?, prepared, rendered),
        Service::Webhook { address, .. } => {
            webhook::request(prepared.checked_url(address)?, prepared, event, rendered, id, now)
        }
        Service::Healthchecks { address, details } => {
            healthchecks::request(&prepared.url, address, *details, event, rendered, &prepared.channel.name)
        }
        Service::Email(_) => Err(Error::failed("e-mail is not sent by HTTP")),
    }
}

fn judge(channel: &Channel, answer: Answer) -> Outcome {
    let said = |text: &str| {
        let reason = answer.reason();
        let words = if reason.is_empty() { String::new() } else { format!(" ({reason})") };
        Error::new(Kind::Store, format_args!("{text}{words}"))
    };
    match answer.status {
        200..=299 => Outcome::Sent,
        429 => {
            let wait = answer.wait.or_else(|| discord::wait_in_body(&answer.body));
            let why = said("the service takes no more messages for now").with_hint("It is sent once it does.");
            Outcome::Later { why, wait, is_limit: true }
        }
        408 | 425 | 500..=599 => {
            let why = said(&format!("the service failed with status {}", answer.status));
            Outcome::Later { why, wait: answer.wait, is_limit: false }
        }
        300..=399 => Outcome::Never {
            why: said(&format!("the service redirects to another address (status {})", answer.status))
                .with_hint("Find out the right URL, and write that one: redirects are not followed, because messages may be read there."),
        },
        401 | 403 | 404 | 410 => Outcome::Never {
            why: said(&format!("the service does not know this URL or token (status {})", answer.status))
                .with_hint(format_args!("Check what {channel} is configured with; was it revoked or deleted there?")),
        },
        status => Outcome::Never {
            why: said(&format!("the service refuses the message with status {status}"))
                .with_hint("If the URL is the right one for this kind of channel, this is a bug in lifeboat."),
        },
    }
}
