//! `lifeboat init`: make a repository.

use std::process::ExitCode;

use clap::{Args, ValueEnum};
use serde_json::json;

use super::default_repository::{self, write_key_file};
use super::destinations;
use super::session::{Session, Target, tag_cache};
use crate::config::SecretSource;
use crate::repository::connect::Mode;
use crate::repository::create::CreateOptions;
use crate::repository::{Repository, Store, create};
use crate::seal::slot::{Cost, Purpose, Secret};
use crate::seal::{Cipher, SecretKey};
use crate::{Error, Kind, Result};

/// Arguments of `init`.
///
/// Without --repository and configuration, the default repository is made.
#[derive(Debug, Args)]
#[command(
    after_help = "The key is taken as with every command (see --key-file); on a terminal a new passphrase is asked for. A \
                        --key-file that is not there is made, with a new key."
)]
pub struct Init {
    /// How stored data is sealed; both are safe
    #[arg(long, value_enum, default_value_t = CipherName::XChaCha20Poly1305)]
    cipher: CipherName,
    /// Only at this destination of the configuration; may be repeated
    #[arg(long, value_name = "NAME")]
    to: Vec<String>,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum CipherName {
    /// Fast on every processor
    #[value(name = "xchacha20-poly1305")]
    XChaCha20Poly1305,
    /// Faster on processors with AES instructions
    #[value(name = "aes-256-gcm")]
    Aes256Gcm,
}

impl From<CipherName> for Cipher {
    fn from(name: CipherName) -> Self {
        match name {
            CipherName::XChaCha20Poly1305 => Self::XChaCha20Poly1305,
            CipherName::Aes256Gcm => Self::Aes256Gcm,
        }
    }
}

impl Init {
    /// Makes the repository.
    ///
    /// # Errors
    /// `Usage` if there is one already; if it cannot be made.
    pub fn run(self, session: &Session) -> Result<ExitCode> {
        let target = session.target()?;
        if destinations::all(session)?.len() > 1 || !self.to.is_empty() {
            return self.run_destinations(session);
        }
        refuse_existing(&target)?;
        let repository = if target.is_default {
            default_repository::create(session, self.cipher.into())?
        } else {
            create(session, &target, self.cipher.into())?
        };
        report(session, &repository)?;
        remind(session);
        Ok(ExitCode::SUCCESS)
    }

    /// Makes the repository at all destinations where it is not: the first is made, or opened if it is there, the others become the same. One
    /// that cannot be made keeps none of the others.
    fn run_destinations(self, session: &Session) -> Result<ExitCode> {
        let all = destinations::all(session)?;
        let wanted = destinations::chosen(session, &self.to)?;
        let (mut existing, mut unknown) = (None, Vec::new());
        for target in &all {
            match has_repository(target) {
                Ok(true) => existing = existing.or(Some(target)),
                Ok(false) => {}
                Err(e) => unknown.push(e.context(format_args!("destination {}", target.name))),
            }
        }
        let first = match existing {
            Some(target) => session.open_target(target)?.0,
            // Nobody knows whether the repository is at a place that cannot be looked at: a second one must not be made.
            None if !unknown.is_empty() => return last_of(session, unknown),
            None => {
                let Some(target) = wanted.first() else { return Ok(ExitCode::SUCCESS) };
                refuse_existing(target)?;
                let made = create(session, target, self.cipher.into())?;
                report(session, &made)?;
                made
            }
        };
        let mut failed: Vec<Error> = Vec::new();
        for target in &wanted {
            match make_same(session, &first, target) {
                Ok(()) => {}
                Err(e) if matches!(e.kind(), Kind::Interrupted) => return Err(e),
                Err(e) => failed.push(e.context(format_args!("destination {}", target.name))),
            }
        }
        remind(session);
        last_of(session, failed)
    }
}

/// Success if nothing failed; else the last error, after all others were said.
fn last_of(session: &Session, mut failed: Vec<Error>) -> Result<ExitCode> {
    let Some(last) = failed.pop() else { return Ok(ExitCode::SUCCESS) };
    for error in failed {
        let hint = error.hint().map(|hint| format!(". {hint}")).unwrap_or_default();
        session.output.warning(format_args!("{error}{hint}"));
    }
    Err(last)
}

/// Makes the repository at a destination where it is not yet, the same as the first.
fn make_same(session: &Session, first: &Repository, target: &Target) -> Result<()> {
    if has_repository(target)? {
        // That it is the same one is found out here, and not by the first backup.
        let there = target.open_beside(first)?;
        session.output.say(format_args!(
            "The destination {} is ready: {}.",
            target.name,
            there.store().location()
        ));
        return Ok(());
    }
    let made = first.create_sibling(target.connect(Mode::Create)?)?;
    report(session, &made)
}

fn has_repository(target: &Target) -> Result<bool> {
    match target.connect(Mode::Open) {
        Ok(provider) => create::exists(&Store::new(provider)?),
        Err(e) if e.kind() == Kind::NoRepository => Ok(false),
        Err(e) => Err(e),
    }
}

fn create(session: &Session, target: &Target, cipher: Cipher) -> Result<Repository> {
    let (secret, purpose) = first_secret(session)?;
    let options =
        CreateOptions { cipher, purpose, label: String::new(), cost: Cost::DEFAULT, pack_bytes: None };
    let provider = target.connect(Mode::Create)?;
    // The key is on disk before anything is sealed by it, and no earlier: a place that cannot be leaves no key behind.
    if let (Secret::Key(key), Some(SecretSource::KeyFile(path))) = (&secret, &session.settings.secret)
        && !path.exists()
    {
        write_key_file(path, key)?;
        session.output.say(format_args!("Made the key file {}.", path.display()));
    }
    let repository = Repository::create(provider, &secret, &options, session.settings.directories.clone())?;
    tag_cache(repository.directories());
    Ok(repository)
}

/// Nobody is asked for a passphrase of a repository that cannot be made.
fn refuse_existing(target: &Target) -> Result<()> {
    let provider = match target.connect(Mode::Open) {
        Ok(provider) => provider,
        Err(e) if e.kind() == Kind::NoRepository => return Ok(()),
        Err(e) => return Err(e),
    };
    let store = Store::new(provider)?;
    if create::exists(&store)? {
        return Err(Error::usage(format_args!("there is a repository at {} already", store.location()))
            .with_hint("Use it as it is, or name another place."));
    }
    create::refuse_strangers(&store)
}

fn first_secret(session: &Session) -> Result<(Secret, Purpose)> {
    match &session.settings.secret {
        Some(SecretSource::KeyFile(path)) if !path.exists() => {
            Ok((Secret::Key(SecretKey::generate()?), Purpose::KeyFile))
        }
        Some(source) => Ok((source.load()?, source.purpose())),
        None => Ok((Secret::Passphrase(session.ask_new_passphrase("the repository")?), Purpose::Passphrase)),
    }
}

fn report(session: &Session, repository: &Repository) -> Result<()> {
    let output = &session.output;
    let (id, location) = (repository.id().to_string(), repository.store().location());
    if output.json() {
        return output.object(
            "summary",
            &json!({ "id": id, "repository": location, "cipher": repository.config().cipher }),
        );
    }
    output.line(format_args!("Made repository {} at {location}.", id.get(..8).unwrap_or(&id)))
}

/// What is to be known of it, once, however many destinations it has.
fn remind(session: &Session) {
    session.output.say(
        "Nobody can read it without its key. `lifeboat key recovery` makes a second one to keep on paper.",
    );
}
