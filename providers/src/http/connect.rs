//! TCP connections for the HTTP client: how long they may take, when they count as dead, and TLS over them.

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::connect::{Connected, Connection as ConnectionInfo, HttpConnector};
use hyper_util::rt::TokioIo;
use rustls::{ClientConfig, RootCertStore};
use tokio::net::TcpStream;
use tower_service::Service;

use super::HttpSettings;
use crate::pace::{Pace, PacedIo};
use crate::{Error, ErrorKind, Result};

/// Between two probes of a silent connection.
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(10);

/// Makes connections, with TLS where the URL says so.
pub type Connector = HttpsConnector<TcpConnector>;

/// A TCP connection as hyper reads and writes it.
pub type Connection = TokioIo<PacedIo<TcpStream>>;

/// Makes TCP connections.
#[derive(Debug, Clone)]
pub struct TcpConnector {
    inner: HttpConnector,
    timeout: Duration,
    pace: Pace,
}

/// Makes connections by `settings`. The root certificates are read when `tls` says that they are needed.
///
/// # Errors
/// `Misconfigured` if this machine has no root certificates that can be used.
pub fn connector(settings: &HttpSettings, tls: bool) -> Result<Connector> {
    let mut inner = HttpConnector::new();
    inner.enforce_http(false);
    inner.set_nodelay(true);
    inner.set_connect_timeout(Some(settings.connect_timeout));
    inner.set_keepalive(Some(settings.silence_max));
    inner.set_keepalive_interval(Some(KEEPALIVE_INTERVAL));
    inner.set_keepalive_retries(Some(3));
    inner.set_tcp_user_timeout(Some(settings.silence_max));
    let tcp = TcpConnector { inner, timeout: settings.connect_timeout, pace: settings.pace.clone() };
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|e| Error::new(ErrorKind::Misconfigured, "open", "TLS", e))?
        .with_root_certificates(if tls { system_roots()? } else { RootCertStore::empty() })
        .with_no_client_auth();
    Ok(HttpsConnectorBuilder::new()
        .with_tls_config(config)
        .https_or_http()
        .enable_http1()
        .wrap_connector(tcp))
}

fn system_roots() -> Result<RootCertStore> {
    let loaded = rustls_native_certs::load_native_certs();
    let mut roots = RootCertStore::empty();
    let (added, _) = roots.add_parsable_certificates(loaded.certs);
    if added > 0 {
        return Ok(roots);
    }
    let why = loaded.errors.first().map_or_else(|| "none are installed".to_owned(), ToString::to_string);
    Err(Error::new(
        ErrorKind::Misconfigured,
        "open",
        "the system's root certificates",
        format_args!("{why}; install the package ca-certificates, or name a file of them by SSL_CERT_FILE"),
    ))
}

impl ConnectionInfo for PacedIo<TcpStream> {
    fn connected(&self) -> Connected {
        Connected::new()
    }
}

impl Service<http::Uri> for TcpConnector {
    type Response = Connection;
    type Error = Box<dyn std::error::Error + Send + Sync>;
    type Future = Pin<Box<dyn Future<Output = std::result::Result<Connection, Self::Error>> + Send>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<std::result::Result<(), Self::Error>> {
        self.inner.poll_ready(context).map_err(Into::into)
    }

    fn call(&mut self, uri: http::Uri) -> Self::Future {
        let connecting = self.inner.call(uri);
        let (limit, pace) = (self.timeout, self.pace.clone());
        Box::pin(async move {
            // The inner timeout is for connecting alone: a name server may also be silent.
            match tokio::time::timeout(limit, connecting).await {
                Ok(connected) => Ok(TokioIo::new(PacedIo::new(connected?.into_inner(), pace))),
                Err(_) => Err(io::Error::new(
                    io::ErrorKind::TimedOut,
                    format!("no connection within {} s", limit.as_secs()),
                )
                .into()),
            }
        })
    }
}
