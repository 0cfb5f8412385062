//! E-mail: one plain text to all recipients, by one SMTP server, over TLS. No password is sent without it.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{RecvTimeoutError, sync_channel};
use std::time::Duration;

use lettre::message::Mailbox;
use lettre::message::header::{ContentType, HeaderName, HeaderValue, MIME_VERSION_1_0};
use lettre::transport::smtp::authentication::Credentials;
use lettre::transport::smtp::client::{Tls, TlsParameters};
use lettre::transport::smtp::extension::ClientId;
use lettre::{Message, SmtpTransport, Transport as _};

use super::super::event::Event;
use super::super::render::{Rendered, Unit, fit, plain};
use super::super::settings::{Mail, MailTls};
use super::{Outcome, Prepared};
use crate::{Error, Kind, Result};

/// How long the server may take for each step, of which there are about ten.
const STEP_MAX: Duration = Duration::from_secs(20);
/// How long all of it may take; less than a claim lasts.
const TOTAL_MAX: Duration = Duration::from_secs(120);
const LOOK_EVERY: Duration = Duration::from_millis(50);
/// Beyond that a subject is shown nowhere.
const SUBJECT_MAX: usize = 200;
/// Servers take more; people do not read more.
const BODY_BYTES_MAX: usize = 200_000;

/// Sends it and waits for what becomes of it.
pub fn deliver(
    mail: &Mail,
    prepared: &Prepared<'_>,
    event: &Event,
    rendered: &Rendered,
    id: i64,
    stop: &AtomicBool,
) -> Outcome {
    let made = message(mail, event, rendered, id)
        .and_then(|message| Ok((message, transport(mail, prepared, &event.host)?)));
    let (message, transport) = match made {
        Ok(made) => made,
        Err(why) => return Outcome::Never { why },
    };
    // A thread of its own: nothing ends a call that waits for a server but the server or the time.
    let (done, end) = sync_channel(1);
    let sending = std::thread::Builder::new().name("e-mail".to_owned()).spawn(move || {
        // Nobody waits for it any more when this fails.
        let _ = done.send(transport.send(&message));
    });
    if let Err(e) = sending {
        return Outcome::Later {
            why: Error::io("cannot start a thread for e-mail", e),
            wait: None,
            is_limit: false,
        };
    }
    let begun = std::time::Instant::now();
    loop {
        match end.recv_timeout(LOOK_EVERY) {
            Ok(Ok(_)) => return Outcome::Sent,
            Ok(Err(error)) => return judge(mail, &error),
            Err(RecvTimeoutError::Timeout) if stop.load(Ordering::Relaxed) => return Outcome::Cancelled,
            Err(RecvTimeoutError::Timeout) if begun.elapsed() < TOTAL_MAX => {}
            Err(_) => {
                let why = unreachable(mail, format_args!("no answer within {} s", TOTAL_MAX.as_secs()));
                return Outcome::Later { why, wait: None, is_limit: false };
            }
        }
    }
}

/// The message. Its id stays the same when it is tried again, by which mail programs know that it is one.
fn message(mail: &Mail, event: &Event, rendered: &Rendered, id: i64) -> Result<Message> {
    let host: String =
        event.host.chars().filter(|c| c.is_ascii_alphanumeric() || ".-".contains(*c)).collect();
    let host = if host.is_empty() { "localhost" } else { &host };
    let mut builder = Message::builder()
        .from(mailbox(&mail.from)?)
        .subject(fit(&rendered.title.replace(['\n', '\t'], " "), SUBJECT_MAX, Unit::Utf16, plain))
        .date(event.time.into())
        .message_id(Some(format!("<lifeboat.{}.{id}@{host}>", event.time.timestamp_millis())))
        .header(MIME_VERSION_1_0)
        .header(ContentType::TEXT_PLAIN)
        // RFC 3834: no answer of a machine comes back.
        .raw_header(HeaderValue::new(
            HeaderName::new_from_ascii_str("Auto-Submitted"),
            "auto-generated".to_owned(),
        ))
        .raw_header(HeaderValue::new(
            HeaderName::new_from_ascii_str("X-Lifeboat-Event"),
            event.kind.name().to_owned(),
        ));
    for to in &mail.to {
        builder = builder.to(mailbox(to)?);
    }
    let mut text = fit(&rendered.text(), BODY_BYTES_MAX, Unit::Bytes, plain);
    text.push('\n');
    builder.body(text).map_err(|e| Error::failed(format_args!("the e-mail cannot be written: {e}")))
}

/// An address, alone or with a name: `Backups <backup@example.org>`.
///
/// # Errors
/// `Usage` with the text.
pub fn mailbox(text: &str) -> Result<Mailbox> {
    text.parse().map_err(|e| {
        Error::usage(format_args!("{text:?} is no e-mail address: {e}"))
            .with_hint("Write name@example.org, or Name <name@example.org>.")
    })
}

fn transport(mail: &Mail, prepared: &Prepared<'_>, host: &str) -> Result<SmtpTransport> {
    let parameters = || {
        TlsParameters::new(mail.host.clone())
            .map_err(|e| Error::usage(format_args!("TLS to {} cannot be set up: {e}", mail.host)))
    };
    let tls = match mail.tls {
        MailTls::Implicit => Tls::Wrapper(parameters()?),
        MailTls::StartTls => Tls::Required(parameters()?),
        MailTls::None => Tls::None,
    };
    let mut builder =
        SmtpTransport::builder_dangerous(&mail.host).port(mail.port).tls(tls).timeout(Some(STEP_MAX));
    // A name that no host has would be taken for an attack.
    if host.bytes().all(|c| c.is_ascii_alphanumeric() || b".-".contains(&c)) && !host.is_empty() {
        builder = builder.hello_name(ClientId::Domain(host.to_owned()));
    }
    if let (Some(user), Some(password)) = (&mail.user, &prepared.secret) {
        builder = builder.credentials(Credentials::new(user.clone(), password.as_str().to_owned()));
    }
    Ok(builder.build())
}

fn unreachable(mail: &Mail, why: impl std::fmt::Display) -> Error {
    Error::new(Kind::Store, format_args!("the mail server {}:{} cannot be reached: {why}", mail.host, mail.port))
        .with_hint("Check `host`, `port` and `tls` (implicit is usual with port 465, starttls with 587), and the network.")
}

fn judge(mail: &Mail, error: &lettre::transport::smtp::Error) -> Outcome {
    let reason = std::error::Error::source(error).map_or_else(|| error.to_string(), ToString::to_string);
    let refused = || format!("the mail server {} refused it: {error}", mail.host);
    if error.is_permanent() {
        let why = Error::new(Kind::Store, refused())
            .with_hint("Check `user` and `password`, and whether this sender may send to these recipients.");
        return Outcome::Never { why };
    }
    let why =
        if error.is_transient() { Error::new(Kind::Store, refused()) } else { unreachable(mail, reason) };
    Outcome::Later { why, wait: None, is_limit: false }
}
