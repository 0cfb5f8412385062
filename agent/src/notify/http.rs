//! One request to a service: bounded in time and in what is read of the answer. No redirect is followed, and no error names more of a URL than its host.

use std::future::poll_fn;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use http::header::{CONTENT_TYPE, HeaderName, HeaderValue, RETRY_AFTER, USER_AGENT};
use http::{HeaderMap, Method, Uri};
use hyper::body::{Body as _, Incoming};
use hyper_util::client::legacy::Client;
use hyper_util::rt::TokioExecutor;
use lifeboat_providers::Body;
use lifeboat_providers::http::{HttpSettings, RopeBody, check_endpoint, connector};

use crate::repository::runtime;
use crate::{Error, Kind, Result};

/// How long a name may take to resolve and a connection to be made.
const CONNECT_MAX: Duration = Duration::from_secs(10);
/// How long all of it may take.
const TOTAL_MAX: Duration = Duration::from_secs(30);
/// How long the words beside a status may take.
const WORDS_MAX: Duration = Duration::from_secs(5);
/// As much of an answer is read: enough for the reason of a refusal.
const ANSWER_BYTES_MAX: usize = 16 << 10;
/// As much of a service's own words is told.
const REASON_CHARS_MAX: usize = 200;
/// How often somebody looks whether all is to end.
const LOOK_EVERY: Duration = Duration::from_millis(50);
/// A service that wants to be left alone for longer is asked after a day all the same.
const WAIT_MAX: TimeDelta = TimeDelta::hours(24);

/// What is sent.
pub struct Request {
    /// Where: checked, never shown.
    pub url: url::Url,
    /// Header lines beside those of every request; values that are secret are marked so.
    pub headers: Vec<(HeaderName, HeaderValue)>,
    /// What kind of text the body is.
    pub content_type: &'static str,
    /// The body.
    pub body: String,
}

/// What a service answered.
#[derive(Debug)]
pub struct Answer {
    /// The status.
    pub status: u16,
    /// How long it wants to be left alone, if it says so.
    pub wait: Option<TimeDelta>,
    /// The beginning of what it said.
    pub body: String,
}

/// Why there is no answer.
#[derive(Debug)]
pub enum NoAnswer {
    /// It was asked to stop.
    Cancelled,
    /// The service could not be reached.
    Failed(Error),
}

/// The URL of a service: https, or http on this machine or where that is allowed. `what` says in messages what it is of.
///
/// # Errors
/// `Usage`, without the URL.
pub fn checked_url(text: &str, what: &str, allow_plain: bool) -> Result<url::Url> {
    let refuse = |why: &str| Error::usage(format_args!("{what}: {why}"));
    let url = url::Url::parse(text.trim())
        .map_err(|e| refuse(&format!("the URL means nothing ({e})")).with_hint("Write https://HOST/PATH."))?;
    if !url.username().is_empty() || url.password().is_some() {
        return Err(refuse("a user or a password in the URL is not sent")
            .with_hint("Take it out; `token` is for tokens."));
    }
    if check_endpoint(url.as_str(), allow_plain).is_err() {
        let hint = "Write https://…; plain http:// is for this machine, or, with `allow_plain = true`, for a network that you trust.";
        return Err(refuse(&format!("{}:// to {} is refused", url.scheme(), host(&url))).with_hint(hint));
    }
    Ok(url)
}

/// What may be told of a URL.
pub fn host(url: &url::Url) -> String {
    let host = url.host_str().unwrap_or("no host");
    url.port().map_or_else(|| host.to_owned(), |port| format!("{host}:{port}"))
}

/// Sends `request` by POST and waits for the answer.
///
/// # Errors
/// [`NoAnswer`]: it was asked to stop, nobody is there, or it took too long.
pub fn post(
    request: Request,
    now: DateTime<Utc>,
    stop: &AtomicBool,
) -> std::result::Result<Answer, NoAnswer> {
    let host = host(&request.url);
    let runtime = runtime::shared().map_err(NoAnswer::Failed)?;
    runtime.block_on(async {
        tokio::select! {
            answer = tokio::time::timeout(TOTAL_MAX, exchange(request, &host, now)) => match answer {
                Ok(answer) => answer.map_err(NoAnswer::Failed),
                Err(_) => Err(NoAnswer::Failed(unreachable(&host, format_args!("no answer within {} s", TOTAL_MAX.as_secs())))),
            },
            () = stopped(stop) => Err(NoAnswer::Cancelled),
        }
    })
}

async fn stopped(stop: &AtomicBool) {
    while !stop.load(Ordering::Relaxed) {
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

fn unreachable(host: &str, why: impl std::fmt::Display) -> Error {
    Error::new(Kind::Store, format_args!("{host} cannot be reached: {why}"))
        .with_hint("Check the address and the network, or that the service runs.")
}

async fn exchange(request: Request, host: &str, now: DateTime<Utc>) -> Result<Answer> {
    let settings = HttpSettings { connect_timeout: CONNECT_MAX, ..HttpSettings::default() };
    let connector = connector(&settings, request.url.scheme() == "https")?;
    let client = Client::builder(TokioExecutor::new()).pool_max_idle_per_host(0).build(connector);
    let uri: Uri = request.url.as_str().parse().map_err(|_| Error::usage("the URL cannot be sent"))?;
    let body: RopeBody<std::io::Error> = (&Body::from(request.body.into_bytes())).into();
    let mut built = http::Request::new(body);
    *built.method_mut() = Method::POST;
    *built.uri_mut() = uri;
    let headers = built.headers_mut();
    headers.insert(USER_AGENT, HeaderValue::from_static(concat!("lifeboat/", env!("CARGO_PKG_VERSION"))));
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(request.content_type));
    for (name, value) in request.headers {
        headers.insert(name, value);
    }
    let response = client.request(built).await.map_err(|e| unreachable(host, root_cause(&e)))?;
    let status = response.status().as_u16();
    let wait = wait(response.headers(), now);
    // The status says it all: words that do not come are not waited for.
    let body = tokio::time::timeout(WORDS_MAX, beginning(response.into_body())).await.unwrap_or_default();
    Ok(Answer { status, wait, body })
}

/// The last cause says why; those above say that a request failed.
fn root_cause(error: &(dyn std::error::Error + 'static)) -> String {
    let mut cause = error;
    while let Some(deeper) = cause.source() {
        cause = deeper;
    }
    match cause.downcast_ref::<std::io::Error>() {
        Some(e) => crate::error::describe_io(e),
        None => cause.to_string(),
    }
}

/// As much of a body as comes and is wanted. One that breaks off says less, and the status stands.
async fn beginning(mut body: Incoming) -> String {
    let mut bytes = Vec::new();
    while bytes.len() < ANSWER_BYTES_MAX {
        let Some(Ok(frame)) = poll_fn(|context| Pin::new(&mut body).poll_frame(context)).await else { break };
        if let Ok(data) = frame.into_data() {
            let room = ANSWER_BYTES_MAX - bytes.len();
            bytes.extend(data.iter().take(room));
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

/// `Retry-After`, in seconds, which some services give with a fraction, or as a date.
fn wait(headers: &HeaderMap, now: DateTime<Utc>) -> Option<TimeDelta> {
    let text = headers.get(RETRY_AFTER)?.to_str().ok()?.trim();
    let wait = match text.parse::<f64>() {
        Ok(seconds) => seconds_of(seconds)?,
        Err(_) => DateTime::parse_from_rfc2822(text).ok()?.to_utc() - now,
    };
    (wait > TimeDelta::zero()).then(|| wait.min(WAIT_MAX))
}

/// A number of seconds as a service says it.
pub(super) fn seconds_of(seconds: f64) -> Option<TimeDelta> {
    let is_time = seconds.is_finite() && seconds > 0.0;
    // Rounded up: to come too early is what it forbids.
    is_time
        .then(|| TimeDelta::milliseconds((seconds.min(WAIT_MAX.num_seconds() as f64) * 1000.0).ceil() as i64))
}

impl Answer {
    /// What the service said of its reason, in one line.
    pub fn reason(&self) -> String {
        let words: Vec<&str> = self.body.split_whitespace().collect();
        let clean = words.join(" ").replace(char::is_control, "");
        match clean.char_indices().nth(REASON_CHARS_MAX) {
            Some((end, _)) => format!("{}…", &clean[..end]),
            None => clean,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(value: &str) -> HeaderMap {
        HeaderMap::from_iter([(RETRY_AFTER, HeaderValue::from_str(value).unwrap())])
    }

    #[test]
    fn retry_after_is_read_in_every_form_and_bounded() {
        let now = DateTime::parse_from_rfc3339("2015-10-21T07:00:00Z").unwrap().to_utc();
        for (text, expected) in [
            ("7", Some(TimeDelta::seconds(7))),
            ("0.65", Some(TimeDelta::milliseconds(650))),
            ("Wed, 21 Oct 2015 07:28:00 GMT", Some(TimeDelta::minutes(28))),
            ("Wed, 21 Oct 2015 06:28:00 GMT", None),
            ("1e300", Some(WAIT_MAX)),
            ("-1", None),
            ("NaN", None),
            ("soon", None),
        ] {
            assert_eq!(wait(&headers(text), now), expected, "{text}");
        }
    }

    #[test]
    fn a_url_that_is_refused_is_not_shown() {
        for text in [
            "http://example.org/geheim",
            "https://user:geheim@example.org/",
            "geheim",
            "ftp://example.org/geheim",
        ] {
            let error = checked_url(text, "channel a", false).unwrap_err();
            assert!(!format!("{error} {:?}", error.hint()).contains("geheim"), "{error}");
        }
        assert!(checked_url("http://example.org/", "channel a", true).is_ok());
        assert!(checked_url("http://127.0.0.1:8080/x", "channel a", false).is_ok());
        assert!(checked_url("https://example.org/x", "channel a", false).is_ok());
    }
}
