//! The one HTTP client of all providers: hyper with rustls over *ring*, the system's root certificates, HTTP/1.1.
//!
//! HTTP/1.1 because transfers of megabytes gain nothing from several streams in one connection, and lose when one
//! lost packet stops all of them.
//!
//! | file | job |
//! |---|---|
//! | [`connect`] | TCP connections: timeouts, keep-alive, TLS |
//! | [`rope`] | bodies without copies |

mod connect;
mod rope;

use std::time::Duration;

use crate::pace::Pace;
use crate::{Error, ErrorKind, Result};

pub use connect::{Connection, Connector, TcpConnector, connector};
pub use rope::RopeBody;

/// How connections are made and when they count as dead.
#[derive(Debug, Clone)]
pub struct HttpSettings {
    /// How long a name may take to resolve and a connection to be accepted.
    pub connect_timeout: Duration,
    /// How long sent bytes may stay unacknowledged, and an idle connection silent, before it counts as dead.
    pub silence_max: Duration,
    /// How long a connection is kept for the next request.
    pub idle_timeout: Duration,
    /// Bytes a second of all connections together.
    pub pace: Pace,
}

impl Default for HttpSettings {
    fn default() -> Self {
        Self {
            connect_timeout: Duration::from_secs(15),
            silence_max: Duration::from_secs(30),
            // Below the 60 s after which common load balancers drop a connection, so that none is used that is about to go.
            idle_timeout: Duration::from_secs(50),
            pace: Pace::unlimited(),
        }
    }
}

/// Checks the URL of an endpoint: `https`, or `http` where it does not leave this machine or is allowed on purpose.
///
/// What Lifeboat sends is sealed, but credentials' signatures and tokens are worth protecting.
///
/// # Errors
/// `Misconfigured` for what is no such URL.
pub fn check_endpoint(endpoint: &str, allow_plain: bool) -> Result<()> {
    let refuse = |why: &str| Err(Error::new(ErrorKind::Misconfigured, "open", endpoint, why));
    let Ok(uri) = endpoint.parse::<http::Uri>() else { return refuse("the endpoint is no URL") };
    let Some(host) = uri.host() else { return refuse("the endpoint names no host") };
    match uri.scheme_str() {
        Some("https") => Ok(()),
        Some("http") if allow_plain || is_loopback(host) => Ok(()),
        Some("http") => refuse(
            "plain http:// is used with hosts on this machine only; use https://, or add `&insecure=yes` for a network you trust",
        ),
        _ => refuse("the endpoint must begin with https://"),
    }
}

fn is_loopback(host: &str) -> bool {
    let address = host.trim_start_matches('[').trim_end_matches(']');
    host == "localhost" || address.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::check_endpoint;

    #[test]
    fn plain_http_stays_on_this_machine() {
        for good in ["https://s3.example.org", "http://127.0.0.1:3900", "http://[::1]:80", "http://localhost"]
        {
            assert!(check_endpoint(good, false).is_ok(), "{good}");
        }
        for bad in
            ["http://s3.example.org", "ftp://localhost", "s3.example.org", "https://", "", "http://10.0.0.1"]
        {
            assert!(check_endpoint(bad, false).is_err(), "{bad}");
        }
        assert!(check_endpoint("http://10.0.0.1:9000", true).is_ok());
    }
}
