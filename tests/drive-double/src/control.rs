//! What tests do to the stored things behind the API's back, from Rust and by HTTP below `/_double/`:
//!
//! | request | body |
//! |---|---|
//! | `GET files`, `GET requests` | |
//! | `POST faults` | a [`Rule`] or a list of them, such as `{"call": "get", "when": {"nth": 2}, "fault": "no_response"}` |
//! | `DELETE faults`, `POST release` | |
//! | `POST flip_byte`, `remove`, `abusive` | `{"id": …}` |
//! | `POST trash` | `{"id": …, "on": true}` |
//! | `POST add_file` | `{"name": …, "parent": …, "text" or "base64": …, "foreign": false}` |
//! | `POST add_duplicate` | `{"name": …, "text" or "base64": …}` |
//! | `POST quota` | `{"bytes": …}`; no limit without it |
//! | `POST down`, `deny` | `{"on": true}` |
//! | `POST revoke_tokens`, `revoke_grant` | |

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::answer::{Answer, Content};
use crate::fault::Rule;
use crate::file::{File, FileInfo};
use crate::handle::flipped;
use crate::metadata::Metadata;
use crate::state::{Shared, State};

impl State {
    pub(crate) fn info(&self, file: &File) -> FileInfo {
        file.info(self.store.is_trashed(file))
    }

    /// All files but the roots, in the order of their creation.
    pub(crate) fn infos(&self) -> Vec<FileInfo> {
        let roots = [&self.store.root, &self.store.drive];
        let mut infos: Vec<FileInfo> = self
            .store
            .files()
            .filter(|file| !roots.contains(&&file.id))
            .map(|file| self.info(file))
            .collect();
        infos.sort_by_key(|info| info.created);
        infos
    }

    /// Flips a bit in the middle of a file; what Drive states of it stays as it was. Whether there was one.
    pub(crate) fn flip_byte(&mut self, id: &str) -> bool {
        let Some(content) = self.store.get_mut(id).and_then(|file| file.content.as_mut()) else {
            return false;
        };
        *content = flipped(content);
        !content.is_empty()
    }

    /// Adds a file that no call made. `None` if there is no such folder.
    pub(crate) fn add_file(
        &mut self,
        parent: &str,
        name: &str,
        content: Bytes,
        by_app: bool,
    ) -> Option<String> {
        if !self.store.get(parent)?.is_folder() {
            return None;
        }
        let metadata = Metadata { name: Some(name.to_owned()), ..Metadata::default() };
        let id = self.store.create(metadata, parent.to_owned(), None, content, &mut self.random);
        self.store.get_mut(&id)?.by_app = by_app;
        Some(id)
    }

    /// Adds another file of the same name, folder and properties as the newest one of that name; with the same
    /// content if there is none given. `None` if there is no such file.
    pub(crate) fn add_duplicate(&mut self, name: &str, content: Option<Bytes>) -> Option<String> {
        let original =
            self.store.files().filter(|file| file.name == name).max_by_key(|file| file.created)?.clone();
        let parent = original.parents.first()?.clone();
        let content = content.or(original.content).unwrap_or_default();
        let metadata = Metadata {
            name: Some(name.to_owned()),
            mime_type: Some(original.mime_type),
            app_properties: original.app_properties.into_iter().map(|(k, v)| (k, Some(v))).collect(),
            ..Metadata::default()
        };
        Some(self.store.create(metadata, parent, None, content, &mut self.random))
    }

    /// Moves a file to the trash, or back. Whether there was one.
    pub(crate) fn trash(&mut self, id: &str, trashed: bool) -> bool {
        self.store.get_mut(id).map(|file| file.trashed = trashed).is_some()
    }

    pub(crate) fn mark_abusive(&mut self, id: &str) -> bool {
        self.store.get_mut(id).map(|file| file.abusive = true).is_some()
    }
}

/// The body of an action; each takes the fields that it needs.
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Action {
    id: Option<String>,
    name: Option<String>,
    parent: Option<String>,
    text: Option<String>,
    base64: Option<String>,
    foreign: bool,
    bytes: Option<u64>,
    on: Option<bool>,
}

impl Action {
    fn content(&self) -> Result<Option<Bytes>, String> {
        match (&self.text, &self.base64) {
            (Some(text), None) => Ok(Some(Bytes::from(text.clone()))),
            (None, Some(text)) => {
                STANDARD.decode(text).map(|bytes| Some(bytes.into())).map_err(|e| e.to_string())
            }
            (None, None) => Ok(None),
            (Some(_), Some(_)) => Err("text and base64 exclude each other".to_owned()),
        }
    }
}

/// Answers a request below `/_double/`.
pub(crate) fn answer(shared: &Shared, method: &str, action: &str, body: &[u8]) -> Answer {
    match (method, action) {
        ("GET", "files") => Answer::json(json!(shared.with(|state| state.infos()))),
        ("GET", "requests") => Answer::json(json!(shared.with(|state| state.log.all().to_vec()))),
        ("POST", "faults") => match rules(body) {
            Ok(rules) => add_rules(shared, rules),
            Err(error) => wrong(&format!("no rule or list of rules: {error}")),
        },
        ("DELETE", "faults") => {
            shared.with(|state| state.faults.clear());
            Answer::json(json!({}))
        }
        ("POST", "release") => {
            shared.release();
            Answer::json(json!({}))
        }
        ("POST", action) => {
            let read = if body.is_empty() { Ok(Action::default()) } else { serde_json::from_slice(body) };
            match read {
                Ok(parameters) => match shared.with(|state| act(state, action, &parameters)) {
                    Ok(value) => Answer::json(value),
                    Err(reason) => wrong(&reason),
                },
                Err(error) => wrong(&format!("{action}: {error}")),
            }
        }
        _ => wrong(&format!("the double has no {method} /_double/{action}")),
    }
}

/// One rule, or a list of them.
fn rules(body: &[u8]) -> serde_json::Result<Vec<Rule>> {
    match serde_json::from_slice(body)? {
        Value::Array(items) => items.into_iter().map(serde_json::from_value).collect(),
        one => Ok(vec![serde_json::from_value(one)?]),
    }
}

fn add_rules(shared: &Shared, rules: Vec<Rule>) -> Answer {
    shared.with(|state| {
        let last_create = state.store.creates;
        rules.into_iter().for_each(|rule| state.faults.add(rule, last_create));
    });
    Answer::json(json!({}))
}

fn wrong(reason: &str) -> Answer {
    Answer::new(400, Content::Json(json!({"error": reason})))
}

fn act(state: &mut State, action: &str, parameters: &Action) -> Result<Value, String> {
    let need =
        |value: &Option<String>, name: &str| value.clone().ok_or_else(|| format!("{action} needs {name}"));
    let id = || need(&parameters.id, "id");
    let found =
        |found: bool| if found { Ok(json!({})) } else { Err(format!("{action}: there is no such file")) };
    let on = parameters.on.unwrap_or(true);
    match action {
        "flip_byte" => found(state.flip_byte(&id()?)),
        "remove" => found(state.store.remove(&id()?)),
        "trash" => found(state.trash(&id()?, on)),
        "abusive" => found(state.mark_abusive(&id()?)),
        "quota" => {
            state.store.quota = parameters.bytes;
            Ok(json!({}))
        }
        "down" => {
            state.down = on;
            Ok(json!({}))
        }
        "deny" => {
            state.auth.denies = on;
            Ok(json!({}))
        }
        "revoke_tokens" => {
            state.auth.revoke_tokens();
            Ok(json!({}))
        }
        "revoke_grant" => {
            state.auth.revoke_grants();
            Ok(json!({}))
        }
        "add_file" => {
            let parent = parameters.parent.clone().unwrap_or_else(|| state.store.folder.clone());
            let content = parameters.content()?.unwrap_or_default();
            let id = state.add_file(&parent, &need(&parameters.name, "name")?, content, !parameters.foreign);
            id.map(|id| json!({"id": id})).ok_or_else(|| format!("{action}: there is no folder {parent}"))
        }
        "add_duplicate" => {
            let name = need(&parameters.name, "name")?;
            let id = state.add_duplicate(&name, parameters.content()?);
            id.map(|id| json!({"id": id})).ok_or_else(|| format!("{action}: there is no file {name}"))
        }
        other => Err(format!("the double has no action {other}")),
    }
}
