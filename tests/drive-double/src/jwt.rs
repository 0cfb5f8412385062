//! The service account of the double: a fixed key, and the check of assertions signed with it.

use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use chrono::Utc;
use ring::digest;
use ring::rsa::KeyPair;
use ring::signature::{RSA_PKCS1_2048_8192_SHA256, UnparsedPublicKey};
use serde::Deserialize;
use serde_json::json;

use crate::answer::{Outcome, oauth};

/// Made for these tests; it opens nothing.
const KEY: &str = include_str!("test-key.pem");

/// The account's address.
pub(crate) const ACCOUNT: &str = "backup@lifeboat-double.iam.gserviceaccount.com";

/// The longest life of an assertion in seconds.
const LIFE_SECONDS_MAX: i64 = 3600;

/// Google's names of its own token endpoint: clients name one of them also when they ask elsewhere.
const ENDPOINTS: &[&str] = &[
    "https://oauth2.googleapis.com/token",
    "https://www.googleapis.com/oauth2/v4/token",
    "https://accounts.google.com/o/oauth2/token",
];

/// How far the client's clock may be ahead, in seconds.
const SKEW_SECONDS_MAX: i64 = 300;

/// The key file of the account, as Google's console gives it for download.
pub(crate) fn service_account(url: &str) -> String {
    let account = json!({
        "type": "service_account",
        "project_id": "lifeboat-double",
        "private_key_id": "0123456789abcdef0123456789abcdef01234567",
        "private_key": KEY,
        "client_email": ACCOUNT,
        "client_id": "123456789012345678901",
        "auth_uri": format!("{url}/auth"),
        "token_uri": format!("{url}/token"),
        "auth_provider_x509_cert_url": format!("{url}/certs"),
        "client_x509_cert_url": format!("{url}/certs/backup"),
        "universe_domain": "googleapis.com",
    });
    account.to_string()
}

#[derive(Deserialize)]
struct Header {
    alg: String,
}

#[derive(Deserialize)]
struct Claims {
    iss: String,
    aud: String,
    #[serde(default)]
    scope: String,
    iat: i64,
    exp: i64,
}

/// Checks an assertion and gives its scopes.
///
/// # Errors
/// `invalid_grant` with what is wrong, in Google's words where they are known.
pub(crate) fn verify(assertion: &str, audience: &str) -> Outcome<String> {
    let wrong = |description: &str| oauth(400, "invalid_grant", description);
    let malformed = || wrong("Invalid JWT: Token must be a valid JWT.");
    let (signed, signature) = assertion.rsplit_once('.').ok_or_else(malformed)?;
    let (header, claims) = signed.split_once('.').ok_or_else(malformed)?;
    let decode = |text: &str| URL_SAFE_NO_PAD.decode(text.trim_end_matches('=')).map_err(|_| malformed());
    let header: Header = serde_json::from_slice(&decode(header)?).map_err(|_| malformed())?;
    let claims: Claims = serde_json::from_slice(&decode(claims)?).map_err(|_| malformed())?;
    if header.alg != "RS256" {
        return Err(wrong("Invalid JWT: Algorithm must be RS256."));
    }
    if claims.iss != ACCOUNT {
        return Err(wrong("Invalid grant: account not found"));
    }
    if claims.aud != audience && !ENDPOINTS.contains(&claims.aud.as_str()) {
        return Err(wrong("Invalid JWT: Failed audience check. The right audience is the token_uri."));
    }
    let now = Utc::now().timestamp();
    let life = claims.exp.checked_sub(claims.iat).unwrap_or(i64::MAX);
    if claims.iat > now + SKEW_SECONDS_MAX || claims.exp <= now || !(0..=LIFE_SECONDS_MAX).contains(&life) {
        return Err(wrong(
            "Invalid JWT: Token must be a short-lived token (60 minutes) and in a reasonable timeframe. Check your iat and exp values in the JWT claim.",
        ));
    }
    let scopes = claims.scope.trim();
    if scopes.is_empty() {
        return Err(oauth(400, "invalid_scope", "Empty or missing scope not allowed."));
    }
    let key = UnparsedPublicKey::new(&RSA_PKCS1_2048_8192_SHA256, public_key().ok_or_else(malformed)?);
    if key.verify(signed.as_bytes(), &decode(signature)?).is_err() {
        return Err(wrong("Invalid JWT Signature."));
    }
    Ok(scopes.to_owned())
}

/// The public half of the key, as DER; `None` only if the crate's own key file is broken, which a test rules out.
fn public_key() -> Option<Vec<u8>> {
    Some(key_pair()?.public().as_ref().to_vec())
}

fn key_pair() -> Option<KeyPair> {
    let body: String = KEY.lines().filter(|line| !line.starts_with("-----")).collect();
    KeyPair::from_pkcs8(&STANDARD.decode(body).ok()?).ok()
}

/// SHA-256 as base64url without padding: the PKCE method `S256`.
pub(crate) fn sha256_base64(text: &str) -> String {
    URL_SAFE_NO_PAD.encode(digest::digest(&digest::SHA256, text.as_bytes()))
}

#[cfg(test)]
mod tests {
    use ring::rand::SystemRandom;
    use ring::signature::RSA_PKCS1_SHA256;

    use super::*;

    const AUDIENCE: &str = "http://127.0.0.1:1/token";

    fn assertion(header: &str, claims: &serde_json::Value) -> String {
        let signed =
            format!("{}.{}", URL_SAFE_NO_PAD.encode(header), URL_SAFE_NO_PAD.encode(claims.to_string()));
        let key = key_pair().unwrap();
        let mut signature = vec![0; key.public().modulus_len()];
        key.sign(&RSA_PKCS1_SHA256, &SystemRandom::new(), signed.as_bytes(), &mut signature).unwrap();
        format!("{signed}.{}", URL_SAFE_NO_PAD.encode(signature))
    }

    fn claims() -> serde_json::Value {
        let now = Utc::now().timestamp();
        json!({"iss": ACCOUNT, "aud": AUDIENCE, "scope": "a b", "iat": now, "exp": now + 3600})
    }

    #[test]
    fn a_right_assertion_gives_its_scopes() {
        assert_eq!(verify(&assertion(r#"{"alg":"RS256"}"#, &claims()), AUDIENCE).unwrap(), "a b");
    }

    #[test]
    fn wrong_assertions_are_refused() {
        let rs256 = r#"{"alg":"RS256"}"#;
        let now = Utc::now().timestamp();
        let changes = [
            ("iss", json!("somebody@else")),
            ("aud", json!("https://example.com/token")),
            ("scope", json!("")),
            ("exp", json!(now - 1)),
            ("exp", json!(now + 7200)),
            ("iat", json!(now + 1000)),
            ("iat", json!(i64::MIN)),
            ("iat", json!("now")),
        ];
        for (field, value) in changes {
            let mut claims = claims();
            claims[field] = value;
            assert!(verify(&assertion(rs256, &claims), AUDIENCE).is_err(), "{claims}");
        }
        assert!(verify(&assertion(r#"{"alg":"none"}"#, &claims()), AUDIENCE).is_err());
        let mut forged = assertion(rs256, &claims());
        let at = forged.rfind('.').unwrap() + 1;
        let other = if forged[at..].starts_with('A') { "B" } else { "A" };
        forged.replace_range(at..=at, other);
        assert!(verify(&forged, AUDIENCE).is_err());
        for text in ["", ".", "..", "a.b.c", "\u{fc}.\u{fc}.\u{fc}"] {
            assert!(verify(text, AUDIENCE).is_err(), "{text}");
        }
    }
}
