//! The configuration as it counts: what the file says, secrets masked, with what the command line, the environment and the defaults add.

use std::collections::BTreeMap;
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

use serde_json::{Map, Value, json};

use crate::config::{Environment, SecretSource, Settings, schema};
use crate::schedule::Cron;
use crate::tree::path_text;
use crate::{Error, Result};

/// Settings, and where those come from that are not from the file, by the names that the file has for them.
pub(super) struct Shown {
    pub settings: Value,
    pub origins: BTreeMap<String, String>,
}

/// What counts, of what the file says.
pub(super) fn of(mut written: Value, settings: &Settings, environment: &Environment) -> Shown {
    schema::mask(&mut written);
    let mut shown = Shown { settings: written, origins: BTreeMap::new() };
    let default = "default";
    if let Some(place) = &settings.repository {
        let place = path_text::display(place.as_bytes());
        let from = if environment.repository.is_some() {
            "LIFEBOAT_REPOSITORY, or --repository"
        } else {
            "--repository"
        };
        let is_written = shown.settings.get("repository").is_some() && environment.repository.is_none();
        if !is_written {
            shown.set(&["repository"], json!(place), from);
        }
    }
    if let Some(SecretSource::KeyFile(path)) = &settings.secret
        && shown.settings.get("key_file").is_none()
    {
        shown.set(&["key_file"], json!(text(path)), "--key-file");
    }
    let of_cache = if environment.cache_dir.is_some() { "LIFEBOAT_CACHE_DIR" } else { default };
    let cache = json!(text(&settings.directories.cache));
    if environment.cache_dir.is_some() {
        shown.set(&["cache_dir"], cache, of_cache);
    } else {
        shown.add(&["cache_dir"], cache, of_cache);
    }
    shown.add(&["host"], json!(settings.host), "the system");
    shown.add(&["compression"], json!("default"), default);
    shown.add(&["exclude_caches"], json!(settings.backup.exclude_caches), default);
    shown.add(&["one_file_system"], json!(settings.backup.one_file_system), default);
    let schedule = &settings.schedule;
    let when = |cron: &Option<Cron>| json!(cron.as_ref().map_or("off".to_owned(), Cron::to_string));
    for class in &schedule.classes {
        shown.add(&["class", &class.name, "schedule"], when(&class.cron), default);
        shown.add(&["class", &class.name, "rescan"], json!(class.rescan), default);
    }
    shown.add(&["schedule", "jitter"], json!(format!("{}s", schedule.jitter.as_secs())), default);
    shown.add(&["schedule", "prune"], when(&schedule.prune), default);
    shown.add(&["schedule", "check"], when(&schedule.check), default);
    shown
}

impl Shown {
    /// Adds what the file does not say.
    fn add(&mut self, path: &[&str], value: Value, origin: &str) {
        let pointer = path.iter().fold(String::new(), |pointer, name| pointer + "/" + name);
        if self.settings.pointer(&pointer).is_none() {
            self.set(path, value, origin);
        }
    }

    fn set(&mut self, path: &[&str], value: Value, origin: &str) {
        let Some((last, tables)) = path.split_last() else { return };
        let mut table = &mut self.settings;
        for name in tables {
            let Some(fields) = table.as_object_mut() else { return };
            table = fields.entry(*name).or_insert_with(|| Value::Object(Map::new()));
        }
        if let Some(fields) = table.as_object_mut() {
            fields.insert((*last).to_owned(), value);
            self.origins.insert(path.join("."), origin.to_owned());
        }
    }

    /// As TOML: what is not from the file says so at the end of its line.
    ///
    /// # Errors
    /// If a value is none of TOML.
    pub fn toml(&self) -> Result<String> {
        let text = toml::to_string(&self.settings)
            .map_err(|e| Error::failed(format_args!("cannot write the configuration as TOML: {e}")))?;
        let mut table = String::new();
        let line = |line: &str| {
            if line.starts_with('[') {
                table = line.trim_matches(['[', ']']).to_owned() + ".";
                return line.to_owned();
            }
            let key = line.split(" = ").next().unwrap_or_default();
            match self.origins.get(&format!("{table}{key}")) {
                Some(origin) => format!("{line}  # {origin}"),
                None => line.to_owned(),
            }
        };
        Ok(text.lines().map(line).fold(String::new(), |text, line| text + &line + "\n"))
    }
}

fn text(path: &Path) -> String {
    path_text::display(path.as_os_str().as_bytes())
}
