//! Sign-in with a browser on this machine: Google sends it back to a port that is opened here for that, on the
//! loopback address only. A code that somebody else sends there or catches is of no use: the answer must carry a
//! number drawn here, and the code is exchanged with another one (PKCE, RFC 7636).

use std::net::Ipv4Addr;
use std::path::Path;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use zeroize::Zeroizing;

use super::page::{self, Redirect};
use super::{Said, ask, failed, keep, refusal};
use crate::gdrive::SCOPE_FILE;
use crate::gdrive::options::ClientSecret;
use crate::gdrive::setup::client;
use crate::http::{Connector, check_endpoint};
use crate::{ErrorKind, Result, Sha256};

/// A browser's request is much shorter.
const REQUEST_BYTES_MAX: usize = 16 << 10;

/// How long a browser may take to send its request once it is connected.
const REQUEST_SECONDS_MAX: Duration = Duration::from_secs(10);

/// Signs a person in. `show` is given the URL to open in a browser on this machine; then the browser is waited for,
/// as long as it takes: drop the future to give up.
///
/// # Errors
/// `Denied` if the person refuses or grants too little, or the token file cannot be written; `Misconfigured` if the
/// app is not usable; `Transient` if Google cannot be reached.
pub async fn installed_flow(
    app: &ClientSecret,
    token_file: &Path,
    connector: Connector,
    show: impl FnOnce(&str) + Send,
) -> Result<()> {
    check_endpoint(&app.auth_uri, false)?;
    check_endpoint(&app.token_uri, false)?;
    let listening = |error: std::io::Error| {
        failed(ErrorKind::Other, format_args!("no port can be opened for the browser's answer: {error}"))
    };
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.map_err(listening)?;
    let redirect_uri = format!("http://127.0.0.1:{}", listener.local_addr().map_err(listening)?.port());
    let (state, verifier) = (random()?, random()?);
    show(&authorization_url(app, &redirect_uri, &state, &verifier)?);
    let code = wait_for_code(&listener, &state).await?;
    let fields = [
        ("grant_type", "authorization_code"),
        ("code", code.as_str()),
        ("code_verifier", verifier.as_str()),
        ("redirect_uri", redirect_uri.as_str()),
    ];
    match ask(&client(&connector), app, &fields).await? {
        Said::Granted(answer) => keep(app, token_file, answer).await,
        Said::Refused(status, error) => Err(refusal(status, &error)),
    }
}

/// 64 hexadecimal digits nobody can guess.
fn random() -> Result<Zeroizing<String>> {
    let mut bytes = [0_u8; 32];
    getrandom::fill(&mut bytes).map_err(|error| {
        failed(ErrorKind::Other, format_args!("this machine gives no random numbers: {error}"))
    })?;
    // As a digest's text, which is what is wanted of 32 bytes.
    Ok(Zeroizing::new(Sha256::from_bytes(bytes).to_string()))
}

fn authorization_url(app: &ClientSecret, redirect_uri: &str, state: &str, verifier: &str) -> Result<String> {
    let challenge = URL_SAFE_NO_PAD.encode(Sha256::of(verifier.as_bytes()).as_bytes());
    let parameters = [
        ("client_id", app.id.as_str()),
        ("redirect_uri", redirect_uri),
        ("response_type", "code"),
        ("scope", SCOPE_FILE),
        ("state", state),
        ("code_challenge", challenge.as_str()),
        ("code_challenge_method", "S256"),
        // Without these there is no refresh token, or none the second time.
        ("access_type", "offline"),
        ("prompt", "consent"),
    ];
    url::Url::parse_with_params(&app.auth_uri, parameters).map(String::from).map_err(|error| {
        failed(ErrorKind::Misconfigured, format_args!("the app's auth_uri {}: {error}", app.auth_uri))
    })
}

/// Answers browsers until one brings the code. Each has its own task, so that one that connects and says nothing
/// (browsers do, in advance) holds up nobody.
async fn wait_for_code(listener: &TcpListener, state: &str) -> Result<Zeroizing<String>> {
    let mut browsers = tokio::task::JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => {
                // A connection that failed in between is nobody's loss; the browser tries again.
                if let Ok((stream, _)) = accepted {
                    let state = state.to_owned();
                    browsers.spawn(async move {
                        tokio::time::timeout(REQUEST_SECONDS_MAX, answer(stream, &state)).await.ok().flatten()
                    });
                }
            }
            Some(done) = browsers.join_next() => match done {
                Ok(Some(Redirect::Code(code))) => return Ok(code),
                Ok(Some(Redirect::Refused(reason))) => {
                    return Err(failed(
                        ErrorKind::Denied,
                        format_args!("the sign-in was refused in the browser ({reason}); try again"),
                    ));
                }
                _ => {}
            },
        }
    }
}

async fn answer(mut stream: TcpStream, state: &str) -> Option<Redirect> {
    let mut request = Zeroizing::new(Vec::new());
    let mut buffer = Zeroizing::new([0_u8; 1024]);
    while !page::is_complete(&request) && request.len() < REQUEST_BYTES_MAX {
        let read = stream.read(buffer.as_mut()).await.ok()?;
        if read == 0 {
            break;
        }
        request.extend_from_slice(buffer.get(..read)?);
    }
    let redirect = page::read(&request, state);
    // What the browser shows is a courtesy: the sign-in does not depend on it.
    let _ = stream.write_all(page::write(redirect.as_ref()).as_bytes()).await;
    let _ = stream.shutdown().await;
    redirect
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_url_asks_for_the_narrow_scope_with_a_challenge() {
        let app = ClientSecret::new("id", "secret");
        // RFC 7636, appendix B.
        let verifier = "dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk";
        let text = authorization_url(&app, "http://127.0.0.1:5", "s", verifier).unwrap();
        let url = url::Url::parse(&text).unwrap();
        let parameters: std::collections::HashMap<_, _> = url.query_pairs().into_owned().collect();
        assert_eq!(parameters["code_challenge"], "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM");
        assert_eq!(parameters["scope"], SCOPE_FILE);
        assert_eq!(parameters["redirect_uri"], "http://127.0.0.1:5");
        assert!(!text.contains("secret") && !text.contains(verifier));
        assert_ne!(random().unwrap(), random().unwrap());
    }

    #[tokio::test]
    async fn browsers_that_say_nothing_or_nonsense_hold_up_nobody() {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        let browser = async {
            let silent = TcpStream::connect(address).await.unwrap();
            for request in [
                "",
                "nonsense\r\n\r\n",
                "GET /favicon.ico HTTP/1.1\r\n\r\n",
                "GET /?state=x&code=stolen HTTP/1.1\r\n\r\n",
            ] {
                let mut stream = TcpStream::connect(address).await.unwrap();
                stream.write_all(request.as_bytes()).await.unwrap();
                stream.shutdown().await.unwrap();
            }
            let mut stream = TcpStream::connect(address).await.unwrap();
            stream.write_all(b"GET /?state=s&code=4%2Fabc HTTP/1.1\r\nHost: x\r\n\r\n").await.unwrap();
            let mut shown = String::new();
            stream.read_to_string(&mut shown).await.unwrap();
            drop(silent);
            shown
        };
        let (code, shown) = tokio::join!(wait_for_code(&listener, "s"), browser);
        assert_eq!(code.unwrap().as_str(), "4/abc");
        assert!(shown.starts_with("HTTP/1.1 200 ") && !shown.contains("abc"), "{shown}");
    }
}
