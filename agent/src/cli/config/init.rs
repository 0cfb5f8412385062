//! `lifeboat config init`: a short interview on a terminal, and the configuration that it comes to.

use std::fmt::Write as _;
use std::fs::{self, File};
use std::io::{BufRead as _, BufReader, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Args;
use zeroize::Zeroizing;

use crate::cli::session::Session;
use crate::cli::standard_input::StandardInput;
use crate::config::ConfigFile;
use crate::notify::http::checked_url;
use crate::repository::connect::Location;
use crate::seal::keys::random_bytes;
use crate::tree::path_text;
use crate::{Error, Result};

/// As many bytes of randomness as a key has.
const PASSPHRASE_BYTES: usize = 32;
/// The user that the service runs as, and where its configuration is.
const SERVICE_USER: &str = "lifeboat";
const SYSTEM_FOLDER: &str = "/etc/lifeboat";

/// Arguments of `config init`.
#[derive(Debug, Args)]
#[command(
    after_help = "Asks what to protect, where to, and whom to tell, and writes a configuration that only this user can read. What is there already is not \
                        replaced. A passphrase is made beside it, unless one is there. `lifeboat config example` prints one with every key."
)]
pub struct Init {
    /// Where to write it [default: ~/.config/lifeboat/config.toml; for root /etc/lifeboat/config.toml]
    #[arg(long, value_name = "FILE")]
    output: Option<PathBuf>,
}

/// What was answered.
struct Answers {
    paths: Vec<String>,
    databases: Vec<String>,
    places: Vec<String>,
    alerts: Option<Zeroizing<String>>,
}

impl Init {
    /// Asks, and writes.
    ///
    /// # Errors
    /// `Usage` off a terminal, or if the file is there; `Interrupted`.
    pub fn run(self, session: &Session) -> Result<ExitCode> {
        if !session.is_interactive() {
            return Err(Error::usage("this asks questions, and there is no terminal to ask on")
                .with_hint("`lifeboat config example` prints a configuration with every key."));
        }
        let path = match self.output {
            Some(path) => std::path::absolute(&path).map_err(|e| Error::io(path.display(), e))?,
            None => session.settings.new_config_path.clone(),
        };
        if fs::symlink_metadata(&path).is_ok() {
            return Err(Error::usage(format_args!("{} is there already", path.display()))
                .with_hint("Edit it, or name another file by --output."));
        }
        let folder = path.parent().unwrap_or_else(|| Path::new("/"));
        let passphrase = folder.join("passphrase");
        let answers = Answers::ask(session)?;
        let text = Zeroizing::new(answers.configuration(&passphrase)?);
        // What would be refused later is refused now.
        ConfigFile::parse(&text, "the configuration that was answered")?;
        fs::DirBuilder::new()
            .recursive(true)
            .mode(0o755)
            .create(folder)
            .map_err(|e| Error::io(folder.display(), e))?;
        let is_new = !passphrase.exists();
        if is_new {
            create(&passphrase, make_passphrase()?.as_bytes())?;
        }
        let alerts = folder.join("alerts-url");
        if let Some(url) = &answers.alerts {
            create(&alerts, url.as_bytes())?;
        }
        create(&path, text.as_bytes())?;
        let of_service = give_to_service(&path, &[&passphrase, &alerts])?;
        session.output.line(format_args!("Wrote {}.", path.display()))?;
        if is_new {
            session.output.line(format_args!(
                "Made a passphrase in {}: without it nobody can read the backups. Keep a copy of it elsewhere.",
                passphrase.display()
            ))?;
        }
        session.output.line("Next:")?;
        for (command, what) in [
            ("lifeboat init", "makes the repository at each destination"),
            ("lifeboat key recovery", "prints a key to keep on paper"),
            ("lifeboat config validate", "tries destinations and sources"),
            ("lifeboat run --all", "backs up now"),
            ("systemctl enable --now lifeboat", "and from now on; or: lifeboat daemon"),
        ] {
            // What root makes the service's user cannot use.
            let command = match of_service && command.starts_with("lifeboat") {
                true => format!("sudo -u {SERVICE_USER} {command}"),
                false => command.to_owned(),
            };
            session.output.line(format_args!("  {command:<52} {what}"))?;
        }
        Ok(ExitCode::SUCCESS)
    }
}

impl Answers {
    fn ask(session: &Session) -> Result<Self> {
        let mut input = BufReader::new(StandardInput::new(session.signals.stop().clone()));
        let mut ask = |question: &str, default: &str| -> Result<Zeroizing<String>> {
            let shown = if default.is_empty() { String::new() } else { format!(" [{default}]") };
            eprint!("{question}{shown}: ");
            let _ = std::io::stderr().flush();
            let mut line = Zeroizing::new(String::new());
            let read = input.read_line(&mut line).map_err(|e| {
                match session.signals.stop().load(std::sync::atomic::Ordering::Relaxed) {
                    true => Error::interrupted(),
                    false => Error::io("cannot read the answer", e),
                }
            })?;
            match line.trim() {
                _ if read == 0 => Err(Error::interrupted().with_hint("Nothing was written.")),
                "" => Ok(Zeroizing::new(default.to_owned())),
                answer => Ok(Zeroizing::new(answer.to_owned())),
            }
        };
        let paths = loop {
            let paths =
                words(&ask("What is to be protected (paths, with blanks between them)", "/etc /home")?)?;
            match paths.iter().find(|path| !Path::new(path).is_absolute() || !Path::new(path).exists()) {
                None if !paths.is_empty() => break paths,
                None => {}
                Some(wrong) => eprintln!("{wrong} is not there, or no absolute path."),
            }
        };
        let databases =
            words(&ask("Live SQLite databases (paths or patterns such as /srv/bot/*.db; none)", "")?)?;
        let places = loop {
            let places = words(&ask(
                "Where to (a directory, s3://bucket/folder?region=…, gdrive://FOLDER-ID; several with blanks between them)",
                "",
            )?)?;
            match places.iter().find_map(|place| Location::parse(place.as_ref()).err()) {
                None if !places.is_empty() => break places,
                None => {}
                Some(e) => eprintln!("{e}"),
            }
        };
        let alerts = loop {
            let url = ask(
                "Whom to tell when something fails or is missing (URL of ntfy, Discord, Slack or healthchecks; none)",
                "",
            )?;
            match checked_url(&url, "the URL", false) {
                _ if url.is_empty() => break None,
                Ok(_) => break Some(url),
                Err(e) => eprintln!("{e}"),
            }
        };
        Ok(Self { paths, databases, places, alerts })
    }

    fn configuration(&self, passphrase: &Path) -> Result<String> {
        let mut text = String::from(
            "# Lifeboat's configuration, from `lifeboat config init`. `lifeboat config example` prints every key.\n\n",
        );
        let passphrase = path_text::display(passphrase.as_os_str().as_encoded_bytes());
        // Writing into a string does not fail.
        let _ = writeln!(text, "passphrase_file = {}\n", quoted(&passphrase));
        let _ = writeln!(
            text,
            "# 24 hourly, 7 daily, 4 weekly, 12 monthly and 20 manual snapshots are kept.\n[retention]\n"
        );
        for (number, place) in self.places.iter().enumerate() {
            let name = match place.split_once("://") {
                Some((scheme, _)) => scheme.to_owned(),
                None => "disk".to_owned(),
            };
            let is_first = !self.places.iter().take(number).any(|earlier| {
                earlier.split_once("://").map(|p| p.0) == place.split_once("://").map(|p| p.0)
            });
            let name = if is_first { name } else { format!("{name}-{}", number + 1) };
            let _ = writeln!(text, "[[destination]]\nname = {}\nurl = {}\n", quoted(&name), quoted(place));
        }
        let list = |words: &[String]| words.iter().map(|word| quoted(word)).collect::<Vec<_>>().join(", ");
        let _ = writeln!(
            text,
            "[[source]]\nname = \"files\"\npaths = [{}]\nexclude_caches = true\n",
            list(&self.paths)
        );
        if !self.databases.is_empty() {
            let _ = writeln!(
                text,
                "[[source]]\nname = \"databases\"\nkind = \"sqlite\"\npaths = [{}]\non_change = true\n",
                list(&self.databases)
            );
        }
        if let Some(url) = &self.alerts {
            let kind = match url.as_str() {
                url if url.contains("discord") => "discord",
                url if url.contains("slack") => "slack",
                url if url.contains("hc-ping.com") || url.contains("healthchecks") => "healthchecks",
                _ => "ntfy",
            };
            let _ = writeln!(
                text,
                "[[notify.channel]]\nname = \"alerts\"\nkind = {}\nurl = {{ file = \"alerts-url\" }}\n",
                quoted(kind)
            );
        }
        Ok(text)
    }
}

/// Where the service's own user is, and this is its configuration: that user may read it, and owns the passphrase.
fn give_to_service(config: &Path, secrets: &[&Path]) -> Result<bool> {
    if !rustix::process::geteuid().is_root() || !config.starts_with(SYSTEM_FOLDER) {
        return Ok(false);
    }
    let Ok(Some(user)) = nix::unistd::User::from_name(SERVICE_USER) else { return Ok(false) };
    let cannot = |e| Error::io(format_args!("cannot give files to {SERVICE_USER}"), e);
    let (uid, gid) = (user.uid.as_raw(), user.gid.as_raw());
    for secret in secrets.iter().filter(|secret| secret.exists()) {
        std::os::unix::fs::chown(secret, Some(uid), Some(gid)).map_err(cannot)?;
    }
    // It may name a program to be run: only root may change it.
    std::os::unix::fs::chown(config, None, Some(gid)).map_err(cannot)?;
    fs::set_permissions(config, fs::Permissions::from_mode(0o640)).map_err(cannot)?;
    Ok(true)
}

fn words(answer: &str) -> Result<Vec<String>> {
    shell_words::split(answer).map_err(|e| Error::usage(format_args!("{answer:?}: {e}")))
}

/// A string as TOML has it.
fn quoted(text: &str) -> String {
    toml::Value::String(text.to_owned()).to_string()
}

fn make_passphrase() -> Result<Zeroizing<String>> {
    let bytes = Zeroizing::new(random_bytes::<PASSPHRASE_BYTES>()?);
    let mut text = Zeroizing::new(String::with_capacity(2 * PASSPHRASE_BYTES + 1));
    for byte in bytes.iter() {
        let _ = write!(text, "{byte:02x}");
    }
    text.push('\n');
    Ok(text)
}

/// A new file that only this user can read.
fn create(path: &Path, bytes: &[u8]) -> Result<()> {
    let write = || {
        let mut file = File::options().write(true).create_new(true).mode(0o600).open(path)?;
        file.write_all(bytes)?;
        file.sync_all()
    };
    write().map_err(|e| Error::io(format_args!("cannot write {}", path.display()), e))
}
