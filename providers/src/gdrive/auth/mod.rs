//! Access tokens: fetched once for all who wait, renewed before they expire, never by asking a person.
//!
//! yup-oauth2's own authenticator begins an interactive sign-in when a refresh fails, which a daemon cannot use, so
//! a person's tokens are refreshed here ([`user`]); a service account's come from yup-oauth2 ([`service`]).
//!
//! yup-oauth2 writes refresh tokens and signed assertions into its debug log (target `yup_oauth2`): whoever sets up
//! logging caps that target at `info`.

mod service;
pub(super) mod token_file;
pub(super) mod user;

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use google_drive3::common::GetToken;
use tokio::sync::Mutex;
use tokio::time::Instant;
use zeroize::Zeroizing;

use super::options::Credentials;
use super::wire::Client;
use crate::http::Connector;
use crate::{Error, ErrorKind, Result};

/// Tokens live for an hour. Renewed this long before their end, a token also outlives a slow request.
const RENEW_BEFORE_END: Duration = Duration::from_secs(5 * 60);

/// No token of Google's lives longer; a server that says so is not believed.
const LIFETIME_MAX: Duration = Duration::from_secs(24 * 3600);

/// Longer than any token of Google's.
const TOKEN_BYTES_MAX: usize = 16 << 10;

/// A token as it was given out.
struct Grant {
    token: Zeroizing<String>,
    lifetime: Duration,
}

impl Grant {
    /// Checks what came: anything but visible ASCII would break the request it is put into.
    fn new(token: String, lifetime: Duration) -> Result<Self> {
        let token = Zeroizing::new(token);
        if token.is_empty() || token.len() > TOKEN_BYTES_MAX || !token.bytes().all(|c| c.is_ascii_graphic()) {
            return Err(failed(ErrorKind::Transient, "Google's answer has no usable access token"));
        }
        Ok(Self { token, lifetime: lifetime.min(LIFETIME_MAX) })
    }
}

/// The error of a sign-in.
fn failed(kind: ErrorKind, reason: impl std::fmt::Display) -> Error {
    Error::new(kind, "open", "the Google account", reason)
}

/// A token for a request, and which one in the sequence it is.
pub(super) struct Access {
    pub(super) token: Zeroizing<String>,
    pub(super) generation: u64,
}

/// Where tokens come from.
enum Source {
    User(Box<user::User>),
    Service(service::Service),
}

impl Source {
    async fn fetch(&self, is_renewal: bool) -> Result<Grant> {
        match self {
            Self::User(user) => user.fetch().await,
            Self::Service(service) => service.fetch(is_renewal).await,
        }
    }
}

#[derive(Default)]
struct Current {
    token: Option<(Zeroizing<String>, Instant)>,
    /// How many were fetched.
    generation: u64,
    /// Whether Google refused the last one before its time.
    was_rejected: bool,
}

impl Current {
    fn access(&self, left: Duration) -> Option<Access> {
        let (token, end) = self.token.as_ref()?;
        let lives = Instant::now().checked_add(left)? < *end;
        lives.then(|| Access { token: token.clone(), generation: self.generation })
    }
}

/// The tokens of one account; clones share them.
#[derive(Clone)]
pub(super) struct Tokens {
    source: Arc<Source>,
    current: Arc<Mutex<Current>>,
}

impl Tokens {
    /// For these credentials; reads a service account's key, asks for no token yet.
    pub(super) async fn new(
        credentials: &Credentials,
        client: &Client,
        connector: &Connector,
    ) -> Result<Self> {
        let source = match credentials {
            Credentials::User { client: app, token_file } => {
                Source::User(Box::new(user::User::new(app.clone(), token_file.clone(), client.clone())?))
            }
            Credentials::ServiceAccount { key, subject } => {
                let scope = credentials.scope();
                Source::Service(service::Service::new(key, subject.as_deref(), scope, connector).await?)
            }
        };
        Ok(Self { source: Arc::new(source), current: Arc::default() })
    }

    /// A token that lives long enough for a request.
    ///
    /// # Errors
    /// `Denied` if the account does not let Lifeboat in any more; `Transient`, `Throttled` if no token came.
    pub(super) async fn get(&self) -> Result<Access> {
        let mut current = self.current.clone().lock_owned().await;
        if let Some(access) = current.access(RENEW_BEFORE_END) {
            return Ok(access);
        }
        let source = self.source.clone();
        // In a task, so that a request that is abandoned meanwhile does not abandon the token; and so that a panic in
        // a library is an error. All others wait for the lock, which the task holds.
        let fetching = tokio::spawn(async move {
            let is_renewal = current.was_rejected;
            match source.fetch(is_renewal).await {
                Ok(grant) => {
                    let end = Instant::now() + grant.lifetime.max(RENEW_BEFORE_END + Duration::from_secs(1));
                    current.token = Some((grant.token, end));
                    current.generation += 1;
                    current.was_rejected = false;
                    current
                        .access(Duration::ZERO)
                        .ok_or_else(|| failed(ErrorKind::Transient, "the token expired at once"))
                }
                // It was early: what is left of the old one still serves.
                Err(error) if error.kind().is_retryable() => current.access(Duration::ZERO).ok_or(error),
                Err(error) => Err(error),
            }
        });
        match fetching.await {
            Ok(result) => result,
            Err(error) => Err(failed(ErrorKind::Transient, "the sign-in was stopped").with_source(error)),
        }
    }

    /// Google refused the token of this generation: the next one is fetched anew.
    pub(super) async fn reject(&self, generation: u64) {
        let mut current = self.current.lock().await;
        if current.generation == generation {
            current.token = None;
            current.was_rejected = true;
        }
    }
}

impl GetToken for Tokens {
    fn get_token<'a>(
        &'a self,
        _scopes: &'a [&str],
    ) -> Pin<
        Box<
            dyn Future<Output = std::result::Result<Option<String>, Box<dyn std::error::Error + Send + Sync>>>
                + Send
                + 'a,
        >,
    > {
        Box::pin(async move {
            let access = self.get().await?;
            Ok(Some(access.token.to_string()))
        })
    }
}

/// What a token endpoint said when it refused.
#[derive(serde::Deserialize, Default)]
pub(super) struct TokenError {
    #[serde(default)]
    pub(super) error: String,
    #[serde(default)]
    pub(super) error_description: String,
}

impl TokenError {
    /// From any text.
    pub(super) fn parse(text: &[u8]) -> Self {
        serde_json::from_slice(text).unwrap_or_default()
    }

    /// Both parts for a message.
    pub(super) fn text(&self) -> String {
        let joint = if self.error_description.is_empty() { "" } else { ": " };
        super::error::presentable(&format!("{}{joint}{}", self.error, self.error_description))
    }
}
