//! A service account's tokens: an assertion signed with its key is exchanged for access tokens, by yup-oauth2.

use std::time::Duration;

use hyper_util::client::legacy;
use hyper_util::rt::TokioExecutor;
use yup_oauth2::authenticator::Authenticator;
use yup_oauth2::error::AuthErrorCode;
use yup_oauth2::{CustomHyperClientBuilder, ServiceAccountAuthenticator, ServiceAccountKey};
use zeroize::Zeroizing;

use super::token_file::read_secret;
use super::{Grant, failed};
use crate::gdrive::options::KeySource;
use crate::http::{Connector, check_endpoint};
use crate::{Error, ErrorKind, Result};

/// yup-oauth2 gives out the token it holds until a minute before its end, so the time left is not known.
const LIFETIME: Duration = Duration::from_secs(6 * 60);

pub(super) struct Service {
    authenticator: Authenticator<Connector>,
    scope: &'static str,
}

impl Service {
    /// Reads the key, asks for no token yet.
    pub(super) async fn new(
        source: &KeySource,
        subject: Option<&str>,
        scope: &'static str,
        connector: &Connector,
    ) -> Result<Self> {
        let key = parse(&read(source).await?)?;
        let client: legacy::Client<Connector, String> =
            legacy::Client::builder(TokioExecutor::new()).build(connector.clone());
        let mut builder =
            ServiceAccountAuthenticator::with_client(key, CustomHyperClientBuilder::from(client));
        if let Some(subject) = subject {
            builder = builder.subject(subject);
        }
        let authenticator = builder.build().await.map_err(|error| {
            failed(
                ErrorKind::Misconfigured,
                format_args!("the service account's key cannot be used: {error}"),
            )
        })?;
        Ok(Self { authenticator, scope })
    }

    pub(super) async fn fetch(&self, is_renewal: bool) -> Result<Grant> {
        let scopes = [self.scope];
        let token = if is_renewal {
            self.authenticator.force_refreshed_token(&scopes).await
        } else {
            self.authenticator.token(&scopes).await
        };
        let token = token.map_err(translate)?;
        Grant::new(token.token().unwrap_or_default().to_owned(), LIFETIME)
    }
}

async fn read(source: &KeySource) -> Result<Zeroizing<Vec<u8>>> {
    let path = match source {
        KeySource::Text(text) => return Ok(Zeroizing::new(text.as_bytes().to_vec())),
        KeySource::File(path) => path.clone(),
    };
    // A group may share a key that a service manager hands over; the world may not.
    let reading = tokio::task::spawn_blocking(move || {
        read_secret(&path, 0o007, "name the JSON key that Google gave out for the service account")
    });
    reading.await.map_err(|error| failed(ErrorKind::Transient, "reading was stopped").with_source(error))?
}

fn parse(text: &[u8]) -> Result<ServiceAccountKey> {
    // The decoder's own message could repeat what is in the file.
    let key: ServiceAccountKey = serde_json::from_slice(text).map_err(|_| {
        failed(
            ErrorKind::Misconfigured,
            "this is not the JSON key of a service account; make one at console.cloud.google.com, IAM & Admin, Service Accounts, Keys",
        )
    })?;
    check_endpoint(&key.token_uri, false)?;
    Ok(key)
}

fn translate(error: yup_oauth2::Error) -> Error {
    use yup_oauth2::Error as Cause;
    match error {
        Cause::AuthError(refusal) => {
            let text = super::super::error::presentable(&refusal.to_string());
            match &refusal.error {
                AuthErrorCode::Other(code)
                    if matches!(
                        code.as_str(),
                        "temporarily_unavailable" | "internal_failure" | "server_error"
                    ) =>
                {
                    failed(ErrorKind::Transient, format_args!("the token endpoint answers {text}"))
                }
                _ => failed(
                    ErrorKind::Denied,
                    format_args!(
                        "Google does not accept the service account ({text}): check that its key was not deleted, that this \
                         machine's clock is right, and, where it acts for a person, that an administrator delegated the scope"
                    ),
                ),
            }
        }
        Cause::UserError(reason) => failed(ErrorKind::Misconfigured, reason),
        // Connection, an answer that is no JSON (an error page), one without a token.
        other => failed(
            ErrorKind::Transient,
            format_args!("no access token came: {}", super::super::error::chain(&other)),
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_checked_before_it_is_used() {
        let key = |uri: &str| {
            format!(r#"{{"private_key":"hidden","client_email":"a@b","token_uri":"{uri}"}}"#).into_bytes()
        };
        assert!(parse(&key("https://oauth2.googleapis.com/token")).is_ok());
        for bad in
            [key("http://example.org/"), key("nonsense"), key(""), b"{\"private_key\":\"hidden\"}".to_vec()]
        {
            let error = parse(&bad).err().unwrap();
            assert_eq!(error.kind(), ErrorKind::Misconfigured);
            assert!(!error.to_string().contains("hidden"), "{error}");
        }
    }

    #[test]
    fn what_may_pass_is_retried_and_what_stays_is_explained() {
        let refused = |code: &str| {
            let json = format!(r#"{{"error":"{code}"}}"#);
            translate(yup_oauth2::Error::AuthError(serde_json::from_str(&json).unwrap()))
        };
        assert_eq!(refused("invalid_grant").kind(), ErrorKind::Denied);
        assert_eq!(refused("internal_failure").kind(), ErrorKind::Transient);
        let json = serde_json::from_str::<u8>("<html>").unwrap_err();
        assert_eq!(translate(yup_oauth2::Error::JSONError(json)).kind(), ErrorKind::Transient);
        assert_eq!(translate(yup_oauth2::Error::MissingAccessToken).kind(), ErrorKind::Transient);
    }
}
