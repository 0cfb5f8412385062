//! `/metrics`, `/livez`, `/readyz` and `/healthz` over HTTP, for Prometheus, supervisors and people on this machine.
//!
//! It answers whoever can connect, so it listens on the loopback interface (`config/metrics.rs`), takes nothing in, and is bounded in all
//! that a client can make it hold: connections, headers, time. Each connection serves one request: a client that sends nothing costs a place
//! for some seconds and no more.

use std::convert::Infallible;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use http::header::{ALLOW, CACHE_CONTROL, CONTENT_TYPE, HOST, HeaderValue};
use http::{HeaderMap, Method, StatusCode};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio::task::JoinSet;

use super::figures::Figures;
use super::health::Health;
use super::render::{self, render};
use crate::repository::runtime;
use crate::{Error, Result};

/// Who knows the figures: asked at each request, on a thread that may wait for a disk.
pub trait Probe: Send + Sync + 'static {
    /// The figures as they are now.
    ///
    /// # Errors
    /// If what remembers them cannot be read: `/metrics` then answers 500, which alerts as an agent that is down.
    fn figures(&self) -> Result<Figures>;

    /// Whether the agent is alive. Must not wait: a supervisor takes silence for death.
    fn is_live(&self) -> bool;

    /// How the agent is now. Must not wait for long.
    fn health(&self) -> Health;
}

/// What clients can make the server hold at most.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bounds {
    /// Connections at once; more wait to be taken.
    pub connections_max: usize,
    /// How long a request's head may take to come.
    pub head_time_max: Duration,
    /// How long a connection may last in all.
    pub connection_time_max: Duration,
    /// How long a stop waits for answers that are being sent.
    pub stop_time_max: Duration,
}

impl Default for Bounds {
    /// Prometheus gives up after 10 s unless told otherwise, and there are few who ask.
    fn default() -> Self {
        Self {
            connections_max: 32,
            head_time_max: Duration::from_secs(5),
            connection_time_max: Duration::from_secs(30),
            stop_time_max: Duration::from_secs(2),
        }
    }
}

/// The bytes of a request's head at most: the least that the library takes.
const HEAD_BYTES_MAX: usize = 8 << 10;
/// Header lines of a request at most.
const HEADERS_MAX: usize = 64;
/// How long a server that cannot take connections (too many open files) waits before it tries again.
const ACCEPT_PAUSE: Duration = Duration::from_millis(200);

/// A server that runs. Stopped when dropped.
#[derive(Debug)]
pub struct Server {
    address: SocketAddr,
    stop: watch::Sender<bool>,
    task: Option<tokio::task::JoinHandle<()>>,
}

impl Server {
    /// Listens on `listen`, whose port may be 0, and answers with what `probe` says.
    ///
    /// # Errors
    /// If nobody can listen there.
    pub fn start(listen: SocketAddr, probe: Arc<dyn Probe>) -> Result<Self> {
        Self::start_within(listen, probe, Bounds::default())
    }

    /// As [`Server::start`], with bounds of one's own.
    ///
    /// # Errors
    /// If nobody can listen there.
    pub fn start_within(listen: SocketAddr, probe: Arc<dyn Probe>, bounds: Bounds) -> Result<Self> {
        let runtime = runtime::shared()?;
        let cannot = |e: std::io::Error| {
            let hint = match e.kind() {
                std::io::ErrorKind::AddrInUse => {
                    "Another program listens there: choose another port for `listen` in [metrics]."
                }
                _ => "Check `listen` in [metrics].",
            };
            Error::io(format_args!("cannot listen on {listen} for metrics"), e).with_hint(hint)
        };
        let listener = runtime.block_on(TcpListener::bind(listen)).map_err(cannot)?;
        let address = listener.local_addr().map_err(cannot)?;
        let (stop, stopped) = watch::channel(false);
        let served = Arc::new(Served { probe, is_local: address.ip().is_loopback(), bounds });
        let task = Some(runtime.spawn(serve(listener, served, stopped)));
        Ok(Self { address, stop, task })
    }

    /// Where it listens, with the port that the system chose for 0.
    pub const fn address(&self) -> SocketAddr {
        self.address
    }

    /// Takes no more connections, and waits for the answers that are being sent, but not for long. Not to be called from a thread of the
    /// runtime.
    pub fn stop(mut self) {
        self.stop.send_replace(true);
        if let (Some(task), Ok(runtime)) = (self.task.take(), runtime::shared()) {
            // It fails only if the task broke down, which leaves nothing to wait for.
            let _ = runtime.block_on(task);
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stop.send_replace(true);
    }
}

struct Served {
    probe: Arc<dyn Probe>,
    /// Only this machine can connect.
    is_local: bool,
    bounds: Bounds,
}

async fn serve(listener: TcpListener, served: Arc<Served>, mut stopped: watch::Receiver<bool>) {
    let places = Arc::new(Semaphore::new(served.bounds.connections_max));
    let mut connections = JoinSet::new();
    let goes_on = stopped.clone();
    let accept = async {
        loop {
            // The place first: whom there is none for waits in the system's queue and costs nothing here.
            let Ok(place) = Arc::clone(&places).acquire_owned().await else { return };
            match listener.accept().await {
                Ok((stream, _)) => {
                    connections.spawn(connection(stream, Arc::clone(&served), place, goes_on.clone()));
                    while connections.try_join_next().is_some() {}
                }
                Err(_) => tokio::time::sleep(ACCEPT_PAUSE).await,
            }
        }
    };
    tokio::select! {
        () = accept => {}
        _ = stopped.wait_for(|stop| *stop) => {}
    }
    drop(listener);
    let ended = async { while connections.join_next().await.is_some() {} };
    // Whoever is slower than that is cut off.
    let _ = tokio::time::timeout(served.bounds.stop_time_max, ended).await;
}

async fn connection(
    stream: TcpStream,
    served: Arc<Served>,
    _place: OwnedSemaphorePermit,
    mut stopped: watch::Receiver<bool>,
) {
    let bounds = served.bounds;
    let service = service_fn(move |request| {
        let served = Arc::clone(&served);
        async move { Ok::<_, Infallible>(respond(&served, &request).await) }
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(bounds.head_time_max)
        .max_buf_size(HEAD_BYTES_MAX)
        .max_headers(HEADERS_MAX)
        .keep_alive(false)
        .serve_connection(TokioIo::new(stream), service);
    tokio::pin!(connection);
    let whole = async {
        tokio::select! {
            // An error is the client's: it went away, or sent no HTTP.
            _ = &mut connection => return,
            _ = stopped.wait_for(|stop| *stop) => connection.as_mut().graceful_shutdown(),
        }
        let _ = connection.await;
    };
    let _ = tokio::time::timeout(bounds.connection_time_max, whole).await;
}

async fn respond(served: &Arc<Served>, request: &Request<Incoming>) -> Response<String> {
    if served.is_local && !is_of_this_machine(request.headers()) {
        // A page in a browser whose name was made to lead here (DNS rebinding).
        return text(
            StatusCode::FORBIDDEN,
            "ask by the address that this server listens on, not by a name\n",
        );
    }
    let path = request.uri().path();
    if !["/metrics", "/livez", "/readyz", "/healthz"].contains(&path) {
        return text(StatusCode::NOT_FOUND, "there are /metrics, /livez, /readyz and /healthz\n");
    }
    if ![Method::GET, Method::HEAD].contains(request.method()) {
        let mut response = text(StatusCode::METHOD_NOT_ALLOWED, "only GET and HEAD\n");
        response.headers_mut().insert(ALLOW, HeaderValue::from_static("GET, HEAD"));
        return response;
    }
    let (served, path) = (Arc::clone(served), path.to_owned());
    // Reading the ledger waits for a disk. A probe that panics is an answer, too, and no end of the server.
    let answered = tokio::task::spawn_blocking(move || answer(served.probe.as_ref(), &path)).await;
    answered.unwrap_or_else(|_| {
        text(StatusCode::INTERNAL_SERVER_ERROR, "the figures could not be made: this is a bug in lifeboat\n")
    })
}

fn answer(probe: &dyn Probe, path: &str) -> Response<String> {
    match path {
        "/metrics" => match probe.figures().and_then(|figures| render(&figures)) {
            Ok(figures) => response(StatusCode::OK, render::CONTENT_TYPE, figures),
            Err(error) => text(StatusCode::INTERNAL_SERVER_ERROR, &format!("{error}\n")),
        },
        // Never waits for the ledger: who is asked this has to answer at once.
        "/livez" => yes_or_no(probe.is_live()),
        "/readyz" => {
            let health = probe.health();
            yes_or_no(health.is_live && health.is_ready)
        }
        _ => {
            let health = probe.health();
            let status = match health.state() {
                super::State::Failed => StatusCode::SERVICE_UNAVAILABLE,
                _ => StatusCode::OK,
            };
            match health.to_json() {
                Ok(body) => response(status, "application/json", body),
                Err(error) => text(StatusCode::INTERNAL_SERVER_ERROR, &format!("{error}\n")),
            }
        }
    }
}

fn yes_or_no(is_so: bool) -> Response<String> {
    if is_so {
        text(StatusCode::OK, "ok\n")
    } else {
        text(StatusCode::SERVICE_UNAVAILABLE, "not ok: ask /healthz for the reason\n")
    }
}

/// Whether `Host` is an address, `localhost`, or missing.
fn is_of_this_machine(headers: &HeaderMap) -> bool {
    let Some(host) = headers.get(HOST) else { return true };
    let Ok(host) = host.to_str() else { return false };
    // `[::1]:9642`, `127.0.0.1:9642`, or either without a port.
    let name = match host.strip_prefix('[') {
        Some(rest) => rest.split(']').next().unwrap_or_default(),
        None => host.split(':').next().unwrap_or_default(),
    };
    name.eq_ignore_ascii_case("localhost") || name.parse::<IpAddr>().is_ok()
}

fn text(status: StatusCode, body: &str) -> Response<String> {
    response(status, "text/plain; charset=utf-8", body.to_owned())
}

fn response(status: StatusCode, content_type: &'static str, body: String) -> Response<String> {
    let mut response = Response::new(body);
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}
