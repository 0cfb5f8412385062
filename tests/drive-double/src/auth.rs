//! Google's OAuth endpoints: grants, tokens, codes, and whose token a call carries.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::answer::{Answer, ApiError, Outcome, oauth};
use crate::jwt;
use crate::options::{Options, SCOPE_DRIVE, SCOPE_FILE, SCOPE_READONLY};
use crate::random::Random;
use crate::store::Owner;

/// Scopes by which files can be changed.
const WRITING: &[&str] = &[SCOPE_DRIVE, SCOPE_FILE];

/// Scopes by which any file can be seen.
const WIDE: &[&str] = &[SCOPE_DRIVE, SCOPE_READONLY];

/// Scopes that the device flow gives; it gives no wider ones of Drive.
const DEVICE: &[&str] =
    &[SCOPE_FILE, "https://www.googleapis.com/auth/drive.appdata", "openid", "email", "profile"];

/// Who calls, by the access token.
#[derive(Debug, Clone)]
pub(crate) struct Identity {
    pub(crate) owner: Owner,
    pub(crate) scopes: Vec<String>,
}

impl Identity {
    /// Whether files that the app did not make are visible.
    pub(crate) fn sees_all(&self) -> bool {
        self.has_any(WIDE)
    }

    pub(crate) fn may_write(&self) -> bool {
        self.has_any(WRITING)
    }

    fn has_any(&self, scopes: &[&str]) -> bool {
        self.scopes.iter().any(|scope| scopes.contains(&scope.as_str()))
    }
}

/// All grants and tokens.
#[derive(Debug)]
pub(crate) struct Auth {
    url: String,
    pub(crate) client_id: String,
    pub(crate) client_secret: String,
    pub(crate) refresh_token: String,
    grants: HashMap<String, Vec<String>>,
    tokens: HashMap<String, (Identity, Instant)>,
    codes: HashMap<String, Code>,
    devices: HashMap<String, Device>,
    /// The user says no from now on.
    pub(crate) denies: bool,
}

#[derive(Debug)]
struct Code {
    redirect_uri: String,
    scopes: Vec<String>,
    challenge: Option<(String, String)>,
}

#[derive(Debug)]
struct Device {
    scopes: Vec<String>,
    pending: u32,
}

/// The parameters of a form or a query.
pub(crate) type Parameters = [(String, String)];

pub(crate) fn parameter<'a>(parameters: &'a Parameters, name: &str) -> Option<&'a str> {
    parameters.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
}

fn words(scopes: &str) -> Vec<String> {
    scopes.split_whitespace().map(str::to_owned).collect()
}

fn missing(name: &str) -> Box<Answer> {
    oauth(400, "invalid_request", &format!("Missing required parameter: {name}"))
}

impl Auth {
    pub(crate) fn new(url: &str, options: &Options, random: &mut Random) -> Self {
        let refresh_token = format!("1//double-{}", random.text(40));
        Self {
            url: url.to_owned(),
            client_id: format!("{}-double.apps.googleusercontent.com", random.next() % 1_000_000_000_000),
            client_secret: format!("GOCSPX-double-{}", random.text(20)),
            grants: HashMap::from([(refresh_token.clone(), options.scopes.clone())]),
            refresh_token,
            tokens: HashMap::new(),
            codes: HashMap::new(),
            devices: HashMap::new(),
            denies: false,
        }
    }

    /// The client of an installed app, as Google's console gives it for download.
    pub(crate) fn client_json(&self) -> String {
        let client = json!({"installed": {
            "client_id": self.client_id,
            "project_id": "lifeboat-double",
            "auth_uri": format!("{}/auth", self.url),
            "token_uri": format!("{}/token", self.url),
            "auth_provider_x509_cert_url": format!("{}/certs", self.url),
            "client_secret": self.client_secret,
            "redirect_uris": ["http://localhost"],
        }});
        client.to_string()
    }

    /// A file of application default credentials with the grant.
    pub(crate) fn authorized_user_json(&self) -> String {
        let user = json!({
            "type": "authorized_user",
            "client_id": self.client_id,
            "client_secret": self.client_secret,
            "refresh_token": self.refresh_token,
            "token_uri": format!("{}/token", self.url),
        });
        user.to_string()
    }

    pub(crate) fn service_account_json(&self) -> String {
        jwt::service_account(&self.url)
    }

    pub(crate) fn revoke_tokens(&mut self) {
        self.tokens.clear();
    }

    /// Revokes all grants, and with them their tokens.
    pub(crate) fn revoke_grants(&mut self) {
        self.grants.clear();
        self.tokens.retain(|_, (identity, _)| identity.owner == Owner::ServiceAccount);
    }

    /// Whose token the header carries; `None` without a header.
    pub(crate) fn identify(&self, header: Option<&str>) -> Outcome<Option<Identity>> {
        let Some(header) = header else { return Ok(None) };
        let token = header.strip_prefix("Bearer ").map(str::trim);
        match token.and_then(|token| self.tokens.get(token)) {
            Some((identity, expires)) if *expires > Instant::now() => Ok(Some(identity.clone())),
            _ => Err(unauthorized()),
        }
    }

    /// `POST /token`.
    pub(crate) fn token(&mut self, form: &Parameters, options: &Options, random: &mut Random) -> Outcome {
        match parameter(form, "grant_type") {
            Some("refresh_token") => self.refresh(form, options, random),
            Some("authorization_code") => self.exchange_code(form, options, random),
            Some("urn:ietf:params:oauth:grant-type:device_code") => {
                self.exchange_device(form, options, random)
            }
            Some("urn:ietf:params:oauth:grant-type:jwt-bearer") => {
                let assertion = parameter(form, "assertion").ok_or_else(|| missing("assertion"))?;
                let scopes = jwt::verify(assertion, &format!("{}/token", self.url))?;
                Ok(self.issue(Owner::ServiceAccount, words(&scopes), None, options, random))
            }
            Some(other) => Err(oauth(400, "unsupported_grant_type", &format!("Invalid grant_type: {other}"))),
            None => Err(missing("grant_type")),
        }
    }

    fn check_client(&self, form: &Parameters) -> Outcome<()> {
        if parameter(form, "client_id") != Some(&self.client_id) {
            return Err(oauth(401, "invalid_client", "The OAuth client was not found."));
        }
        if parameter(form, "client_secret") != Some(&self.client_secret) {
            return Err(oauth(401, "invalid_client", "The provided client secret is invalid."));
        }
        Ok(())
    }

    fn refresh(&mut self, form: &Parameters, options: &Options, random: &mut Random) -> Outcome {
        self.check_client(form)?;
        let token = parameter(form, "refresh_token").ok_or_else(|| missing("refresh_token"))?;
        let Some(granted) = self.grants.get(token) else {
            return Err(oauth(400, "invalid_grant", "Token has been expired or revoked."));
        };
        let scopes = match parameter(form, "scope").map(words) {
            Some(asked) if !asked.is_empty() => {
                if !asked.iter().all(|scope| granted.contains(scope)) {
                    return Err(oauth(400, "invalid_scope", "Bad Request"));
                }
                asked
            }
            _ => granted.clone(),
        };
        Ok(self.issue(Owner::User, scopes, None, options, random))
    }

    fn exchange_code(&mut self, form: &Parameters, options: &Options, random: &mut Random) -> Outcome {
        self.check_client(form)?;
        let code = parameter(form, "code").ok_or_else(|| missing("code"))?;
        let Some(code) = self.codes.remove(code) else {
            return Err(oauth(400, "invalid_grant", "Malformed auth code."));
        };
        if parameter(form, "redirect_uri") != Some(&code.redirect_uri) {
            return Err(oauth(400, "redirect_uri_mismatch", "Bad Request"));
        }
        if let Some((challenge, method)) = &code.challenge {
            let Some(verifier) = parameter(form, "code_verifier") else {
                return Err(oauth(400, "invalid_grant", "Missing code verifier."));
            };
            let expected = if method == "S256" { jwt::sha256_base64(verifier) } else { verifier.to_owned() };
            if *challenge != expected {
                return Err(oauth(400, "invalid_grant", "Invalid code verifier."));
            }
        }
        let grant = self.grant(&code.scopes, random);
        Ok(self.issue(Owner::User, code.scopes, Some(grant), options, random))
    }

    fn exchange_device(&mut self, form: &Parameters, options: &Options, random: &mut Random) -> Outcome {
        self.check_client(form)?;
        let name = parameter(form, "device_code").ok_or_else(|| missing("device_code"))?;
        let Some(device) = self.devices.get_mut(name) else {
            return Err(oauth(400, "invalid_grant", "Malformed device code."));
        };
        if device.pending > 0 {
            device.pending -= 1;
            return Err(oauth(428, "authorization_pending", "Precondition Required"));
        }
        if self.denies {
            return Err(oauth(403, "access_denied", "Forbidden"));
        }
        let scopes = std::mem::take(&mut device.scopes);
        self.devices.remove(name);
        let grant = self.grant(&scopes, random);
        Ok(self.issue(Owner::User, scopes, Some(grant), options, random))
    }

    fn grant(&mut self, scopes: &[String], random: &mut Random) -> String {
        let grant = format!("1//double-{}", random.text(40));
        self.grants.insert(grant.clone(), scopes.to_vec());
        grant
    }

    fn issue(
        &mut self,
        owner: Owner,
        scopes: Vec<String>,
        grant: Option<String>,
        options: &Options,
        random: &mut Random,
    ) -> Answer {
        let token = format!("ya29.double-{}", random.text(60));
        let mut answer = json!({
            "access_token": token,
            "expires_in": options.token_life.as_secs(),
            "scope": scopes.join(" "),
            "token_type": "Bearer",
        });
        if let Some(grant) = grant {
            answer["refresh_token"] = grant.into();
        }
        // A century is as good as never, and does not overflow.
        let life = options.token_life.min(Duration::from_secs(100 * 365 * 86_400));
        self.tokens.insert(token, (Identity { owner, scopes }, Instant::now() + life));
        Answer::json(answer)
    }

    /// `POST /device/code`.
    pub(crate) fn device(&mut self, form: &Parameters, options: &Options, random: &mut Random) -> Outcome {
        if parameter(form, "client_id") != Some(&self.client_id) {
            return Err(oauth(401, "invalid_client", "The OAuth client was not found."));
        }
        if options.strict_device_client {
            return Err(oauth(401, "invalid_client", "Invalid client type."));
        }
        let scopes = words(parameter(form, "scope").unwrap_or_default());
        if scopes.is_empty() {
            return Err(missing("scope"));
        }
        if let Some(scope) = scopes.iter().find(|scope| !DEVICE.contains(&scope.as_str())) {
            return Err(oauth(400, "invalid_scope", &format!("Invalid device flow scope: {scope}")));
        }
        let code = format!("AH-double-{}", random.text(60));
        let user_code = format!("{:04}-{:04}", random.next() % 10_000, random.next() % 10_000);
        self.devices.insert(code.clone(), Device { scopes, pending: options.device_pending });
        Ok(Answer::json(json!({
            "device_code": code,
            "user_code": user_code,
            "expires_in": 1800,
            "interval": options.device_interval_seconds,
            "verification_url": "https://www.google.com/device",
        })))
    }

    /// `GET /auth`: a user who says yes (or no) at once.
    pub(crate) fn consent(&mut self, query: &Parameters, random: &mut Random) -> Outcome {
        let get = |name| parameter(query, name);
        if get("client_id") != Some(&self.client_id) {
            return Err(oauth(401, "invalid_client", "The OAuth client was not found."));
        }
        let redirect_uri = get("redirect_uri").ok_or_else(|| missing("redirect_uri"))?;
        if !is_loopback(redirect_uri) {
            return Err(oauth(
                400,
                "redirect_uri_mismatch",
                "An installed app redirects to the loopback address.",
            ));
        }
        if get("response_type") != Some("code") {
            return Err(oauth(400, "unsupported_response_type", "Invalid response_type"));
        }
        let scopes = words(get("scope").unwrap_or_default());
        if scopes.is_empty() {
            return Err(missing("scope"));
        }
        let mut answer = form_urlencoded::Serializer::new(String::new());
        if let Some(state) = get("state") {
            answer.append_pair("state", state);
        }
        if self.denies {
            answer.append_pair("error", "access_denied");
        } else {
            let code = format!("4/0double-{}", random.text(40));
            answer.append_pair("code", &code).append_pair("scope", &scopes.join(" "));
            let challenge = get("code_challenge")
                .map(|text| (text.to_owned(), get("code_challenge_method").unwrap_or("plain").to_owned()));
            self.codes.insert(code, Code { redirect_uri: redirect_uri.to_owned(), scopes, challenge });
        }
        let joint = if redirect_uri.contains('?') { '&' } else { '?' };
        let target = format!("{redirect_uri}{joint}{}", answer.finish());
        Ok(Answer::new(302, crate::answer::Content::Empty).header("location", target))
    }

    /// `POST /revoke`.
    pub(crate) fn revoke(&mut self, token: Option<&str>) -> Outcome {
        let token = token.ok_or_else(|| missing("token"))?;
        let known = self.grants.remove(token).is_some() | self.tokens.remove(token).is_some();
        if known {
            Ok(Answer::json(Value::Object(serde_json::Map::new())))
        } else {
            Err(oauth(400, "invalid_token", "Token expired or revoked"))
        }
    }
}

fn is_loopback(uri: &str) -> bool {
    ["http://127.0.0.1", "http://localhost", "http://[::1]"].iter().any(|host| {
        uri.strip_prefix(host).is_some_and(|rest| rest.is_empty() || rest.starts_with([':', '/', '?']))
    })
}

/// 401 for a token that is not valid (any more).
pub(crate) fn unauthorized() -> Box<Answer> {
    let message = "Request had invalid authentication credentials. Expected OAuth 2 access token, login cookie or other valid authentication credential.";
    ApiError { status: 401, reason: "authError", message, location: Some(("header", "Authorization")) }
        .answer()
        .refused()
}

/// 401 for a call without a token.
pub(crate) fn login_required() -> Box<Answer> {
    ApiError {
        status: 401,
        reason: "required",
        message: "Login Required.",
        location: Some(("header", "Authorization")),
    }
    .answer()
    .refused()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn form(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
        pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
    }

    fn body(answer: &Answer) -> Value {
        match &answer.content {
            crate::answer::Content::Json(value) => value.clone(),
            other => panic!("{other:?}"),
        }
    }

    fn auth(options: &Options) -> (Auth, Random) {
        let mut random = Random::new(1);
        (Auth::new("http://127.0.0.1:1", options, &mut random), random)
    }

    #[test]
    fn a_grant_gives_tokens_until_it_is_revoked() {
        let options = Options::default();
        let (mut auth, mut random) = auth(&options);
        let (id, secret, grant) =
            (auth.client_id.clone(), auth.client_secret.clone(), auth.refresh_token.clone());
        let ask = |auth: &mut Auth, random: &mut Random, secret: &str, grant: &str| {
            let form = form(&[
                ("grant_type", "refresh_token"),
                ("client_id", &id),
                ("client_secret", secret),
                ("refresh_token", grant),
            ]);
            auth.token(&form, &Options::default(), random).unwrap_or_else(|answer| *answer)
        };
        let answer = ask(&mut auth, &mut random, &secret, &grant);
        let header = format!("Bearer {}", body(&answer)["access_token"].as_str().unwrap());
        assert!(auth.identify(Some(&header)).unwrap().unwrap().may_write());
        assert!(!auth.identify(Some(&header)).unwrap().unwrap().sees_all());
        assert_eq!(auth.identify(Some("Bearer x")).unwrap_err().status, 401);
        assert!(auth.identify(None).unwrap().is_none());
        assert_eq!(body(&ask(&mut auth, &mut random, "x", &grant))["error"], "invalid_client");
        assert_eq!(body(&ask(&mut auth, &mut random, &secret, "x"))["error"], "invalid_grant");
        auth.revoke_grants();
        assert_eq!(body(&ask(&mut auth, &mut random, &secret, &grant))["error"], "invalid_grant");
        assert_eq!(auth.identify(Some(&header)).unwrap_err().status, 401);
    }

    #[test]
    fn a_token_expires() {
        let options = Options { token_life: Duration::ZERO, ..Options::default() };
        let (mut auth, mut random) = auth(&options);
        let answer = auth.issue(Owner::User, options.scopes.clone(), None, &options, &mut random);
        let header = format!("Bearer {}", body(&answer)["access_token"].as_str().unwrap());
        assert_eq!(auth.identify(Some(&header)).unwrap_err().status, 401);
    }

    #[test]
    fn a_code_is_for_one_exchange_with_its_verifier() {
        let options = Options::default();
        let (mut auth, mut random) = auth(&options);
        let id = auth.client_id.clone();
        let consent = |auth: &mut Auth, random: &mut Random, redirect: &str| {
            let query = form(&[
                ("client_id", &id),
                ("redirect_uri", redirect),
                ("response_type", "code"),
                ("scope", SCOPE_FILE),
                ("state", "a b"),
                ("code_challenge", "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM"),
                ("code_challenge_method", "S256"),
            ]);
            auth.consent(&query, random)
        };
        assert_eq!(consent(&mut auth, &mut random, "http://127.0.0.1.evil").unwrap_err().status, 400);
        let answer = consent(&mut auth, &mut random, "http://127.0.0.1:99/x").unwrap();
        let target = &answer.headers[0].1;
        let (_, query) = target.split_once('?').unwrap();
        let query: Vec<(String, String)> = form_urlencoded::parse(query.as_bytes()).into_owned().collect();
        assert_eq!(parameter(&query, "state"), Some("a b"));
        let code = parameter(&query, "code").unwrap();
        let exchange = |auth: &Auth| {
            form(&[
                ("grant_type", "authorization_code"),
                ("client_id", &auth.client_id),
                ("client_secret", &auth.client_secret),
                ("code", code),
                ("redirect_uri", "http://127.0.0.1:99/x"),
                // The example of RFC 7636, appendix B.
                ("code_verifier", "dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk"),
            ])
        };
        let form = exchange(&auth);
        let answer = auth.token(&form, &options, &mut random).unwrap();
        assert!(body(&answer)["refresh_token"].is_string());
        assert_eq!(body(&auth.token(&form, &options, &mut random).unwrap_err())["error"], "invalid_grant");
    }

    #[test]
    fn a_device_waits_for_the_user() {
        let options = Options { device_pending: 1, ..Options::default() };
        let (mut auth, mut random) = auth(&options);
        let ask = form(&[("client_id", &auth.client_id), ("scope", SCOPE_FILE)]);
        let answer = auth.device(&ask, &options, &mut random).unwrap();
        let code = body(&answer)["device_code"].as_str().unwrap().to_owned();
        let poll = form(&[
            ("grant_type", "urn:ietf:params:oauth:grant-type:device_code"),
            ("client_id", &auth.client_id),
            ("client_secret", &auth.client_secret),
            ("device_code", &code),
        ]);
        let answer = auth.token(&poll, &options, &mut random).unwrap_err();
        assert_eq!((answer.status, body(&answer)["error"].clone()), (428, "authorization_pending".into()));
        assert!(auth.token(&poll, &options, &mut random).is_ok());
        let wide = form(&[("client_id", &auth.client_id), ("scope", SCOPE_DRIVE)]);
        assert_eq!(body(&auth.device(&wide, &options, &mut random).unwrap_err())["error"], "invalid_scope");
    }
}
