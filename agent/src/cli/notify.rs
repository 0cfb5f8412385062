//! `lifeboat notify`: whether messages arrive.

use std::process::ExitCode;

use chrono::Utc;
use clap::{Args, Subcommand};
use serde_json::json;

use super::session::Session;
use super::text::not_empty;
use crate::notify::{Channel, Event, deliver};
use crate::{Error, Kind, Result, threads};

/// What to do with notifications.
#[derive(Debug, Subcommand)]
pub enum Notify {
    /// Send a test message to every channel, at once, and show what became of each
    Test(Test),
}

/// Arguments of `notify test`.
#[derive(Debug, Args)]
#[command(
    after_help = "Filters, quiet hours and digests of channels do not count for it. A healthchecks channel gets it as a log entry, which does not \
                        count as a good run.\n\nExit code 1: a message did not arrive."
)]
pub struct Test {
    /// Only this channel; may be repeated
    #[arg(long = "channel", value_name = "NAME", value_parser = not_empty)]
    channels: Vec<String>,
}

impl Notify {
    /// Does it.
    ///
    /// # Errors
    /// `Usage` if no channel is configured, or none of that name.
    pub fn run(self, session: &Session) -> Result<ExitCode> {
        match self {
            Self::Test(arguments) => test(session, &arguments),
        }
    }
}

fn test(session: &Session, arguments: &Test) -> Result<ExitCode> {
    let notify = &session.settings.notify;
    let channels = chosen(session, &arguments.channels)?;
    let event = Event::test(&session.settings.host, Utc::now());
    let outcomes =
        threads::at_once(&channels, |channel| deliver::now(notify, channel, &event, session.signals.stop()));
    let mut failed = 0_u64;
    for (channel, outcome) in channels.iter().zip(outcomes) {
        match outcome {
            Ok(()) => show(session, channel, None)?,
            Err(e) if e.kind() == Kind::Interrupted => return Err(e),
            Err(e) => {
                failed += 1;
                show(session, channel, Some(&e))?;
            }
        }
    }
    Ok(if failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// The channels that are named, or all.
fn chosen<'s>(session: &'s Session, names: &[String]) -> Result<Vec<&'s Channel>> {
    let all = &session.settings.notify.channels;
    if all.is_empty() {
        return Err(Error::usage("no notification channel is configured").with_hint(
            "Add a [[notify.channel]] to the configuration: config.example.toml shows each kind.",
        ));
    }
    if names.is_empty() {
        return Ok(all.iter().collect());
    }
    let find = |name: &String| {
        session.settings.notify.channel(name).ok_or_else(|| {
            let known: Vec<_> = all.iter().map(|channel| channel.name.as_str()).collect();
            Error::usage(format_args!("no notification channel is called {name}"))
                .with_hint(format_args!("There are: {}.", known.join(", ")))
        })
    };
    names.iter().map(find).collect()
}

fn show(session: &Session, channel: &Channel, error: Option<&Error>) -> Result<()> {
    if session.output.json() {
        let object = json!({
            "channel": channel.name,
            "kind": channel.service.kind(),
            "ok": error.is_none(),
            "error": error.map(ToString::to_string),
            "hint": error.and_then(Error::hint),
        });
        return session.output.object("channel", &object);
    }
    match error {
        None => session.output.line(format_args!("{channel}: ok, the service has taken the message")),
        Some(error) => {
            session.output.line(format_args!("{channel}: failed: {error}"))?;
            error.hint().map_or(Ok(()), |hint| session.output.line(format_args!("  hint: {hint}")))
        }
    }
}
