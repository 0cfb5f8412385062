//! A person's tokens: the refresh token that a login left is exchanged for access tokens. Never asks the person.

use std::path::PathBuf;
use std::time::Duration;

use serde::Deserialize;
use zeroize::Zeroizing;

use super::{Grant, TokenError, failed, token_file};
use crate::gdrive::SCOPE_FILE;
use crate::gdrive::options::ClientSecret;
use crate::gdrive::wire::{Client, post_form};
use crate::http::check_endpoint;
use crate::{Error, ErrorKind, Result};

/// What Google says if it does not say.
const LIFETIME_SECONDS_DEFAULT: u64 = 3600;

pub(super) struct User {
    app: ClientSecret,
    token_file: PathBuf,
    client: Client,
}

/// A token endpoint's answer; the fields of a login as well as of a refresh.
#[derive(Deserialize)]
pub(in crate::gdrive) struct Answer {
    pub(in crate::gdrive) access_token: Option<String>,
    pub(in crate::gdrive) refresh_token: Option<Zeroizing<String>>,
    pub(in crate::gdrive) expires_in: Option<u64>,
    pub(in crate::gdrive) scope: Option<String>,
}

impl Answer {
    /// Whether the person granted what is needed: Google's page lets single scopes be unticked.
    pub(in crate::gdrive) fn require_scope(&self) -> Result<()> {
        match &self.scope {
            Some(scope) if !scope.split(' ').any(|granted| granted == SCOPE_FILE) => Err(failed(
                ErrorKind::Denied,
                "access to the files that Lifeboat makes was not granted; run `lifeboat provider login gdrive` and leave it ticked",
            )),
            _ => Ok(()),
        }
    }
}

impl User {
    pub(super) fn new(app: ClientSecret, token_file: PathBuf, client: Client) -> Result<Self> {
        check_endpoint(&app.token_uri, false)?;
        Ok(Self { app, token_file, client })
    }

    /// Exchanges the refresh token. The file is read each time: a login meanwhile counts at once.
    pub(super) async fn fetch(&self) -> Result<Grant> {
        let path = self.token_file.clone();
        let reading = tokio::task::spawn_blocking(move || token_file::read(&path));
        let mut stored = reading.await.map_err(|error| stopped().with_source(error))??;
        if stored.client_id != self.app.id {
            return Err(failed(
                ErrorKind::Denied,
                format_args!(
                    "the token in {} was granted to another app ({}); run `lifeboat provider login gdrive`",
                    self.token_file.display(),
                    super::super::error::presentable(&stored.client_id)
                ),
            ));
        }
        let fields = [
            ("client_id", self.app.id.as_str()),
            ("client_secret", self.app.secret.as_str()),
            ("refresh_token", stored.refresh_token.as_str()),
            ("grant_type", "refresh_token"),
        ];
        let (status, headers, text) = post_form(&self.client, &self.app.token_uri, &fields).await?;
        let text = Zeroizing::new(text);
        if status != 200 {
            let delay = super::super::error::retry_after(&headers);
            let error = refused(status, &TokenError::parse(&text));
            return Err(match delay {
                Some(delay) => error.with_retry_after(delay),
                None => error,
            });
        }
        let answer: Answer = serde_json::from_slice(&text)
            .map_err(|_| failed(ErrorKind::Transient, "the answer of the token endpoint cannot be read"))?;
        answer.require_scope()?;
        let seconds = answer.expires_in.unwrap_or(LIFETIME_SECONDS_DEFAULT);
        let grant = Grant::new(answer.access_token.unwrap_or_default(), Duration::from_secs(seconds))?;
        if let Some(renewed) = answer.refresh_token.filter(|renewed| *renewed != stored.refresh_token) {
            stored.refresh_token = renewed;
            let path = self.token_file.clone();
            let writing = tokio::task::spawn_blocking(move || token_file::write(&path, &stored));
            writing.await.map_err(|error| stopped().with_source(error))??;
        }
        Ok(grant)
    }
}

fn stopped() -> Error {
    failed(ErrorKind::Transient, "the call was stopped")
}

/// What a refusal of the token endpoint means.
pub(in crate::gdrive) fn refused(status: u16, error: &TokenError) -> Error {
    let text = error.text();
    match (status, error.error.as_str()) {
        (_, "invalid_grant") => failed(
            ErrorKind::Denied,
            format_args!(
                "Google no longer accepts the login ({text}): it was revoked, or lapsed after half a year without use, or the \
                 app is still in testing, where logins end after a week; run `lifeboat provider login gdrive`"
            ),
        ),
        (_, "invalid_client" | "unauthorized_client" | "deleted_client" | "disabled_client") => failed(
            ErrorKind::Denied,
            format_args!(
                "Google does not accept the app ({text}): check client id and secret, then run `lifeboat provider login gdrive`"
            ),
        ),
        (429, _) => {
            failed(ErrorKind::Throttled, format_args!("the token endpoint asks for fewer requests ({text})"))
        }
        (408 | 500..=599, _) | (_, "temporarily_unavailable" | "internal_failure" | "server_error") => {
            failed(ErrorKind::Transient, format_args!("the token endpoint answers {status} {text}"))
        }
        _ => failed(
            ErrorKind::Denied,
            format_args!("the token endpoint answers {status} {text}; run `lifeboat provider login gdrive`"),
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refusals_say_whether_to_wait_or_to_log_in() {
        let case = |status, text: &str| refused(status, &TokenError::parse(text.as_bytes()));
        let revoked = case(400, r#"{"error":"invalid_grant","error_description":"Token has been revoked."}"#);
        assert_eq!(revoked.kind(), ErrorKind::Denied);
        assert!(revoked.to_string().contains("lifeboat provider login gdrive"), "{revoked}");
        assert_eq!(case(401, r#"{"error":"invalid_client"}"#).kind(), ErrorKind::Denied);
        assert_eq!(case(503, "<html>").kind(), ErrorKind::Transient);
        assert_eq!(case(500, r#"{"error":"internal_failure"}"#).kind(), ErrorKind::Transient);
        assert_eq!(case(429, "").kind(), ErrorKind::Throttled);
        assert_eq!(case(400, r#"{"error":{"code":400}}"#).kind(), ErrorKind::Denied);
    }

    #[test]
    fn an_unticked_scope_is_noticed() {
        let answer = |scope: Option<&str>| Answer {
            access_token: None,
            refresh_token: None,
            expires_in: None,
            scope: scope.map(str::to_owned),
        };
        assert!(answer(None).require_scope().is_ok());
        assert!(answer(Some(&format!("openid {SCOPE_FILE}"))).require_scope().is_ok());
        assert!(answer(Some("openid")).require_scope().is_err());
    }
}
