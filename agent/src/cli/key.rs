//! `lifeboat key`: what opens the repository.

use std::path::PathBuf;
use std::process::ExitCode;

use chrono::{DateTime, Utc};
use clap::{Args, Subcommand};
use serde_json::json;

use super::default_repository::write_key_file;
use super::session::Session;
use super::slots::{Everywhere, ending};
use super::text::{self, Align, Table};
use crate::config::SecretSource;
use crate::repository::{Repository, slots};
use crate::seal::SecretKey;
use crate::seal::slot::{Cost, Purpose, Secret, Slot};
use crate::{Error, Kind, Result};

/// What brings a slot to a destination that could not be reached.
const ADDED_LATER: &str = "it cannot be opened there by the new key yet. `lifeboat sync` brings the key slot as soon as that can be done";

/// The `key` commands.
#[derive(Debug, Subcommand)]
pub enum Key {
    /// List key slots: each opens the repository by itself
    List,
    /// Add a passphrase or a key file
    Add(Add),
    /// Remove a key slot
    Remove(Remove),
    /// Replace the passphrase or key file that opens the repository now
    Change(Add),
    /// Print the key of the key file, to copy it to a safe place
    Show,
    /// Make a further key and print it, to keep it on paper; it is stored nowhere
    Recovery(Recovery),
}

/// Where a new secret comes from.
#[derive(Debug, Args)]
pub struct Add {
    /// Make a new key, in this file
    #[arg(long, value_name = "FILE", conflicts_with = "new_passphrase_file")]
    new_key_file: Option<PathBuf>,
    /// Take the new passphrase from this file, without asking
    #[arg(long, value_name = "FILE")]
    new_passphrase_file: Option<PathBuf>,
    /// A name for the slot, visible without a key
    #[arg(long, value_name = "TEXT", default_value = "", hide_default_value = true)]
    label: String,
}

/// Arguments of `remove`.
#[derive(Debug, Args)]
pub struct Remove {
    /// The slot's id, or its beginning, as `lifeboat key list` shows it
    #[arg(value_name = "ID", value_parser = text::not_empty)]
    id: String,
    /// Remove it even if it is the one that opened the repository just now
    #[arg(long)]
    force: bool,
}

/// Arguments of `recovery`.
#[derive(Debug, Args)]
pub struct Recovery {
    /// A name for the slot, visible without a key
    #[arg(long, value_name = "TEXT", default_value = "", hide_default_value = true)]
    label: String,
}

impl Key {
    /// Runs the command: at the destination that was named or is the first, and at all others after it.
    ///
    /// # Errors
    /// `NoRepository`, `WrongKey`; `Usage` for a slot that is not there.
    pub fn run(self, session: &Session) -> Result<ExitCode> {
        match self {
            Self::List => list(session)?,
            Self::Add(arguments) => return add(session, &arguments),
            Self::Remove(arguments) => return remove(session, &arguments),
            Self::Change(arguments) => return change(session, &arguments),
            Self::Show => show(session)?,
            Self::Recovery(arguments) => return recovery(session, &arguments.label),
        }
        Ok(ExitCode::SUCCESS)
    }
}

fn list(session: &Session) -> Result<()> {
    let repository = session.open()?;
    let all = readable_slots(session, &repository)?;
    let mut table = Table::new(&[
        ("Id", Align::Left),
        ("Kind", Align::Left),
        ("Made", Align::Left),
        ("Age", Align::Left),
        ("Label", Align::Left),
    ]);
    for slot in &all {
        let made = created(slot);
        if session.output.json() {
            let object = json!({
                "id": id_text(slot),
                "kind": slot.purpose.to_string(),
                "created": made.as_ref().map(text::json_time),
                "label": slot.label,
            });
            session.output.object("key_slot", &object)?;
            continue;
        }
        table.row([
            id_text(slot),
            slot.purpose.to_string(),
            made.as_ref().map_or_else(String::new, text::local_time),
            made.as_ref().map_or_else(String::new, text::age),
            crate::tree::path_text::display(slot.label.as_bytes()),
        ]);
    }
    if !session.output.json() {
        for line in table.lines() {
            session.output.line(line)?;
        }
    }
    Ok(())
}

fn readable_slots(session: &Session, repository: &Repository) -> Result<Vec<Slot>> {
    let (all, errors) = slots::list(repository.store(), repository.id())?;
    for error in errors {
        session.output.damage(error);
    }
    Ok(all)
}

fn created(slot: &Slot) -> Option<DateTime<Utc>> {
    DateTime::from_timestamp(i64::try_from(slot.created).ok()?, 0)
}

fn id_text(slot: &Slot) -> String {
    format!("{:016x}", u64::from_be_bytes(slot.id))
}

fn add(session: &Session, arguments: &Add) -> Result<ExitCode> {
    let everywhere = Everywhere::open(session)?;
    let slot = add_slot(session, &everywhere.repository, arguments)?;
    report(session, "added", &slot)?;
    let failed = everywhere.agree(session);
    Ok(ending(session, &failed, ADDED_LATER))
}

fn add_slot(session: &Session, repository: &Repository, arguments: &Add) -> Result<Slot> {
    let (secret, purpose) = match (&arguments.new_key_file, &arguments.new_passphrase_file) {
        (Some(path), _) => {
            let key = SecretKey::generate()?;
            write_key_file(path, &key)?;
            (Secret::Key(key), Purpose::KeyFile)
        }
        (None, Some(path)) => (SecretSource::PassphraseFile(path.clone()).load()?, Purpose::Passphrase),
        (None, None) => match session.ask_new_passphrase("the repository") {
            Ok(passphrase) => (Secret::Passphrase(passphrase), Purpose::Passphrase),
            Err(e) if e.kind() == Kind::WrongKey => {
                return Err(Error::usage("there is no terminal to ask for the new passphrase")
                    .with_hint("Name a --new-passphrase-file, or a --new-key-file to make."));
            }
            Err(e) => return Err(e),
        },
    };
    refuse_known(session, repository, &secret)?;
    let added = repository.add_slot(&secret, purpose, &arguments.label, Cost::DEFAULT);
    if let (Err(_), Some(path)) = (&added, &arguments.new_key_file) {
        // It opens nothing.
        let _ = std::fs::remove_file(path);
    }
    let slot = added?;
    if let Some(path) = &arguments.new_key_file {
        session.output.say(format_args!("Made the key file {}.", path.display()));
    }
    Ok(slot)
}

/// A second slot for a passphrase would be of no use; and whoever changes a passphrase wants another one.
fn refuse_known(session: &Session, repository: &Repository, secret: &Secret) -> Result<()> {
    let all = readable_slots(session, repository)?;
    match all.iter().find(|slot| slot.unlock(secret).is_ok()) {
        Some(slot) => Err(Error::usage(format_args!(
            "this passphrase opens the repository already, by key slot {}: nothing was changed",
            id_text(slot)
        ))
        .with_hint("Choose another one.")),
        None => Ok(()),
    }
}

fn remove(session: &Session, arguments: &Remove) -> Result<ExitCode> {
    let everywhere = Everywhere::open(session)?;
    let (repository, secret) = (&everywhere.repository, &everywhere.secret);
    let all = readable_slots(session, repository)?;
    let wanted = arguments.id.to_ascii_lowercase();
    let found: Vec<&Slot> = all.iter().filter(|slot| id_text(slot).starts_with(&wanted)).collect();
    let slot = match found.as_slice() {
        [one] => *one,
        [] => {
            return Err(Error::usage(format_args!("no key slot is called {wanted:?}"))
                .with_hint("`lifeboat key list` shows them."));
        }
        _ => {
            return Err(Error::usage(format_args!("{wanted:?} is the beginning of several key slots' ids"))
                .with_hint("`lifeboat key list` shows them."));
        }
    };
    // The last one is refused whatever is said.
    let locks_out = all.len() > 1 && slot.unlock(secret).is_ok();
    if locks_out && !arguments.force {
        return Err(Error::usage(format_args!(
            "key slot {} opened the repository just now: without it the next command would have the wrong key",
            id_text(slot)
        ))
        .with_hint("Run this with another key, or replace it by `lifeboat key change`; --force removes it all the same."));
    }
    repository.remove_slot(slot.id)?;
    report(session, "removed", slot)?;
    if locks_out {
        warn_of_old_key(session);
    }
    let failed = everywhere.agree(session);
    let next = "what was removed still opens the repository there. `lifeboat sync` removes it as soon as that can be done";
    Ok(ending(session, &failed, next))
}

/// What is configured is of no use from now on.
fn warn_of_old_key(session: &Session) {
    if let Some(source) = &session.settings.secret {
        session.output.notice(format_args!("{source} does not open the repository any more"));
    }
}

/// Adds the new slot, at all destinations, before the old one is removed at any: at every instant something that is known opens each of them.
fn change(session: &Session, arguments: &Add) -> Result<ExitCode> {
    let everywhere = Everywhere::open(session)?;
    let (repository, secret) = (&everywhere.repository, &everywhere.secret);
    let all = readable_slots(session, repository)?;
    let old = all.iter().find(|slot| slot.unlock(secret).is_ok()).ok_or_else(|| {
        Error::failed("the key slot that opened the repository is gone")
            .with_hint("`lifeboat key list` shows the others.")
    })?;
    let new = add_slot(session, repository, arguments)?;
    report(session, "added", &new)?;
    let failed = everywhere.agree(session);
    if !failed.is_empty() {
        let next = format!(
            "the old key still opens all destinations. Run `lifeboat sync` as soon as these can be reached, then `lifeboat key remove {}`",
            id_text(old)
        );
        return Ok(ending(session, &failed, &next));
    }
    repository.remove_slot(old.id)?;
    report(session, "removed", old)?;
    warn_of_old_key(session);
    let failed = everywhere.agree(session);
    let next = "the old key still opens the repository there. `lifeboat sync` removes it as soon as that can be done";
    Ok(ending(session, &failed, next))
}

fn report(session: &Session, what: &str, slot: &Slot) -> Result<()> {
    if session.output.json() {
        let object = json!({ "action": what, "id": id_text(slot), "kind": slot.purpose.to_string() });
        return session.output.object("key_slot", &object);
    }
    let what = if what == "added" { "Added" } else { "Removed" };
    session.output.line(format_args!("{what} key slot {} ({}).", id_text(slot), slot.purpose))
}

fn show(session: &Session) -> Result<()> {
    let (repository, secret) = session.open_with_secret()?;
    let Secret::Key(key) = secret else {
        return Err(Error::usage(
            "the repository was opened by a passphrase, and there is no key file to show",
        )
        .with_hint("`lifeboat key recovery` makes a key to keep on paper."));
    };
    print_key(session, &repository, &key)
}

fn recovery(session: &Session, label: &str) -> Result<ExitCode> {
    let everywhere = Everywhere::open(session)?;
    let repository = &everywhere.repository;
    let key = SecretKey::generate()?;
    let slot = repository.add_slot(&Secret::Key(key.clone()), Purpose::Recovery, label, Cost::DEFAULT)?;
    print_key(session, repository, &key)?;
    session.output.say(format_args!(
        "It is stored nowhere. If it is lost, remove its slot: lifeboat key remove {}",
        id_text(&slot)
    ));
    let failed = everywhere.agree(session);
    Ok(ending(session, &failed, ADDED_LATER))
}

/// The key, on standard output; words about it on standard error, so that the key alone can be piped.
fn print_key(session: &Session, repository: &Repository, key: &SecretKey) -> Result<()> {
    let text = key.to_text();
    if session.output.json() {
        let object = json!({ "key": text.as_str(), "repository": repository.id().to_string() });
        return session.output.object("key", &object);
    }
    session.output.say(format_args!("This key opens the repository at {}:", repository.store().location()));
    session.output.line(text.as_str())?;
    session.output.flush()?;
    session.output.say("Keep it away from this machine. To use it, save it as a file (chmod 600) for --key-file, or type it at the prompt.");
    Ok(())
}
