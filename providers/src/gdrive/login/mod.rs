//! The one sign-in of a person, which leaves a refresh token for all later runs. Two ways: [`installed_flow`] where a
//! browser runs on this machine, [`device_flow`] where it runs elsewhere.
//!
//! Dropping the future ends a sign-in; nothing is left then. Both ask for the scope `drive.file` only: files that
//! Lifeboat makes.

mod device;
mod installed;
mod page;

use std::path::Path;

use serde::de::DeserializeOwned;
use zeroize::Zeroizing;

use super::auth::TokenError;
use super::auth::token_file::{self, StoredToken};
use super::auth::user::{Answer, refused};
use super::options::ClientSecret;
use super::wire::{Client, post_form};
use crate::{Error, ErrorKind, Result};

pub use device::{DevicePrompt, device_flow};
pub use installed::installed_flow;

fn failed(kind: ErrorKind, reason: impl std::fmt::Display) -> Error {
    Error::new(kind, "open", "the Google account", reason)
}

/// What a token endpoint said.
enum Said {
    Granted(Answer),
    Refused(u16, TokenError),
}

async fn ask(client: &Client, app: &ClientSecret, fields: &[(&str, &str)]) -> Result<Said> {
    let mut all = vec![("client_id", app.id.as_str()), ("client_secret", app.secret.as_str())];
    all.extend_from_slice(fields);
    let (status, _, text) = post_form(client, &app.token_uri, &all).await?;
    let text = Zeroizing::new(text);
    if status == 200 {
        Ok(Said::Granted(read(&text)?))
    } else {
        Ok(Said::Refused(status, TokenError::parse(&text)))
    }
}

fn read<T: DeserializeOwned>(text: &[u8]) -> Result<T> {
    // The decoder's own message could repeat what is in the answer.
    serde_json::from_slice(text).map_err(|_| failed(ErrorKind::Transient, "Google's answer cannot be read"))
}

/// Checks what was granted and writes it down.
async fn keep(app: &ClientSecret, token_file: &Path, answer: Answer) -> Result<()> {
    answer.require_scope()?;
    let refresh_token = answer.refresh_token.filter(|token| !token.is_empty()).ok_or_else(|| {
        failed(
            ErrorKind::Denied,
            "Google gave no refresh token, which later runs need; remove Lifeboat at myaccount.google.com/connections and try again",
        )
    })?;
    let (path, token) = (token_file.to_path_buf(), StoredToken { client_id: app.id.clone(), refresh_token });
    let writing = tokio::task::spawn_blocking(move || token_file::write(&path, &token));
    writing.await.map_err(|error| failed(ErrorKind::Transient, "the call was stopped").with_source(error))?
}

/// What a refusal means that ends a sign-in.
fn refusal(status: u16, error: &TokenError) -> Error {
    match error.error.as_str() {
        "access_denied" => failed(ErrorKind::Denied, "the sign-in was refused in the browser"),
        "expired_token" => failed(ErrorKind::Denied, "nobody signed in in time; try again"),
        _ => refused(status, error),
    }
}
