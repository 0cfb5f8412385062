//! `lifeboat init`: make a repository.

use std::process::ExitCode;

use clap::{Args, ValueEnum};
use serde_json::json;

use super::default_repository::{self, write_key_file};
use super::session::{Session, Target};
use crate::Result;
use crate::config::SecretSource;
use crate::repository::Repository;
use crate::repository::connect::Mode;
use crate::repository::create::CreateOptions;
use crate::seal::slot::{Cost, Purpose, Secret};
use crate::seal::{Cipher, SecretKey};

/// Arguments of `init`.
///
/// Without --repository and configuration, the default repository is made.
#[derive(Debug, Args)]
#[command(after_help = "The key is taken as with every command (see --key-file); on a terminal a new passphrase is asked for. A \
                        --key-file that is not there is made, with a new key.")]
pub struct Init {
    /// How stored data is sealed; both are safe
    #[arg(long, value_enum, default_value_t = CipherName::XChaCha20Poly1305)]
    cipher: CipherName,
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
        let repository = if target.is_default {
            default_repository::create(session, self.cipher.into())?
        } else {
            create(session, &target, self.cipher.into())?
        };
        report(session, &repository)?;
        Ok(ExitCode::SUCCESS)
    }
}

fn create(session: &Session, target: &Target, cipher: Cipher) -> Result<Repository> {
    let (secret, purpose) = first_secret(session)?;
    let options = CreateOptions { cipher, purpose, label: String::new(), cost: Cost::DEFAULT, pack_bytes: None };
    let provider = target.location.connect(Mode::Create)?;
    Repository::create(provider, &secret, &options, session.directories()?)
}

fn first_secret(session: &Session) -> Result<(Secret, Purpose)> {
    match &session.settings.secret {
        Some(SecretSource::KeyFile(path)) if !path.exists() => {
            let key = SecretKey::generate()?;
            write_key_file(path, &key)?;
            session.output.say(format_args!("Made the key file {}.", path.display()));
            Ok((Secret::Key(key), Purpose::KeyFile))
        }
        Some(source) => Ok((source.load()?, source.purpose())),
        None => Ok((Secret::Passphrase(session.ask_new_passphrase("the repository")?), Purpose::Passphrase)),
    }
}

fn report(session: &Session, repository: &Repository) -> Result<()> {
    let output = &session.output;
    let (id, location) = (repository.id().to_string(), repository.store().location());
    if output.json() {
        return output.object("summary", &json!({ "id": id, "repository": location, "cipher": repository.config().cipher }));
    }
    output.line(format_args!("Made repository {} at {location}.", id.get(..8).unwrap_or(&id)))?;
    output.say("Nobody can read it without its key. `lifeboat key recovery` makes a second one to keep on paper.");
    Ok(())
}
