//! Sign-in with a browser elsewhere (RFC 8628): the person opens a page there and types a short code, meanwhile
//! Google is asked again and again whether that has happened.

use std::path::Path;
use std::time::Duration;

use serde::Deserialize;
use tokio::time::{Instant, sleep};
use zeroize::Zeroizing;

use super::{Said, ask, failed, keep, read, refusal};
use crate::gdrive::SCOPE_FILE;
use crate::gdrive::auth::TokenError;
use crate::gdrive::error::presentable;
use crate::gdrive::options::ClientSecret;
use crate::gdrive::setup::client;
use crate::gdrive::wire::post_form;
use crate::http::{Connector, check_endpoint};
use crate::{ErrorKind, Result};

const INTERVAL_SECONDS_DEFAULT: u64 = 5;
const INTERVAL_SECONDS_MAX: u64 = 60;

/// What is added when Google says `slow_down` (RFC 8628, 3.5).
const SLOWER: Duration = Duration::from_secs(5);

/// A code lives half an hour; a server that says more is not believed.
const LIFE_SECONDS_MAX: u64 = 3600;

/// What the person needs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DevicePrompt {
    /// The page to open, on any machine.
    pub url: String,
    /// What to type there.
    pub code: String,
    /// How long the code is good.
    pub valid_for: Duration,
}

#[derive(Deserialize)]
struct Codes {
    device_code: Zeroizing<String>,
    user_code: String,
    /// Google's own spelling; the RFC's is `verification_uri`.
    #[serde(alias = "verification_uri")]
    verification_url: String,
    expires_in: Option<u64>,
    interval: Option<u64>,
}

/// Signs a person in. `show` is given what the person needs; then Google is asked until it is done.
///
/// The app must be of Google's type "TVs and Limited Input devices".
///
/// # Errors
/// `Denied` if the person refuses, grants too little or is not in time, or the token file cannot be written;
/// `Misconfigured` if the app is not usable; `Transient` if Google cannot be reached at the beginning.
pub async fn device_flow(
    app: &ClientSecret,
    token_file: &Path,
    connector: Connector,
    show: impl FnOnce(&DevicePrompt) + Send,
) -> Result<()> {
    check_endpoint(&app.device_uri, false)?;
    check_endpoint(&app.token_uri, false)?;
    let client = client(&connector);
    let fields = [("client_id", app.id.as_str()), ("scope", SCOPE_FILE)];
    let (status, _, text) = post_form(&client, &app.device_uri, &fields).await?;
    let text = Zeroizing::new(text);
    if status != 200 {
        let error = TokenError::parse(&text);
        if matches!(error.error.as_str(), "invalid_client" | "unauthorized_client") {
            return Err(failed(
                ErrorKind::Misconfigured,
                format_args!(
                    "Google does not let this app sign in by a code ({}): make an OAuth client of the type \"TVs and Limited \
                     Input devices\", or sign in with a browser on this machine",
                    error.text()
                ),
            ));
        }
        return Err(refusal(status, &error));
    }
    let codes: Codes = read(&text)?;
    let life = Duration::from_secs(codes.expires_in.unwrap_or(LIFE_SECONDS_MAX).min(LIFE_SECONDS_MAX));
    let seconds = codes.interval.unwrap_or(INTERVAL_SECONDS_DEFAULT).min(INTERVAL_SECONDS_MAX);
    let (end, mut interval) = (Instant::now() + life, Duration::from_secs(seconds));
    show(&DevicePrompt {
        url: presentable(&codes.verification_url),
        code: presentable(&codes.user_code),
        valid_for: life,
    });
    let fields = [
        ("grant_type", "urn:ietf:params:oauth:grant-type:device_code"),
        ("device_code", codes.device_code.as_str()),
    ];
    loop {
        sleep(interval).await;
        let error = match ask(&client, app, &fields).await {
            Ok(Said::Granted(answer)) => return keep(app, token_file, answer).await,
            Ok(Said::Refused(status, error)) => match error.error.as_str() {
                "authorization_pending" => None,
                "slow_down" => {
                    interval += SLOWER;
                    None
                }
                _ => Some(refusal(status, &error)),
            },
            Err(error) => Some(error),
        };
        match error {
            // The line may be down for a moment while the person types.
            Some(error) if !error.kind().is_retryable() => return Err(error),
            _ if Instant::now() >= end => {
                return Err(failed(ErrorKind::Denied, "nobody signed in before the code expired; try again"));
            }
            _ => {}
        }
    }
}
