//! Connections of the faulty server: which request is which, and the faults that concern the line and the answer.

use std::convert::Infallible;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::Sender;
use std::task::{Context, Poll};

use bytes::Bytes;
use futures_util::stream::{self, Stream, StreamExt as _};
use http::header::{CONTENT_LENGTH, CONTENT_RANGE, CONTENT_TYPE, RETRY_AFTER};
use http::{HeaderValue, Method, StatusCode};
use http_body_util::{BodyExt, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use parking_lot::{Condvar, Mutex};
use s3s::access::{S3Access, S3AccessContext};
use s3s::auth::SimpleAuth;
use s3s::service::{S3Service, S3ServiceBuilder};
use s3s::{Body, S3Result, s3_error};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::oneshot;

use super::operations::{Operations, Ordered, flipped};
use super::rule::{Fault, Operation, Refusal, Script};
use super::store::{Store, sha256_base64};
use super::{ACCESS_KEY, BUCKET, Request, SECRET_KEY};

const CHECKSUM: &str = "x-amz-checksum-sha256";

/// What the server's thread and its owner share.
#[derive(Default)]
pub struct Shared {
    /// Objects and uploads.
    pub store: Arc<Mutex<Store>>,
    /// The rules.
    pub script: Mutex<Script>,
    /// The requests so far.
    pub requests: Mutex<Vec<Request>>,
    /// Told of every request.
    pub news: Condvar,
}

/// Serves until `stopped`; tells the address first.
pub fn run(shared: Arc<Shared>, say: &Sender<SocketAddr>, stopped: oneshot::Receiver<()>) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async move {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        say.send(listener.local_addr().unwrap()).unwrap();
        tokio::select! {
            _ = accept(&listener, &shared) => {}
            // The owner is gone either way.
            _ = stopped => {}
        }
    });
    // Connections and whatever hangs in them end with the runtime.
}

async fn accept(listener: &TcpListener, shared: &Arc<Shared>) -> Infallible {
    let service = service(shared);
    let mut number = 0;
    loop {
        let Ok((stream, _)) = listener.accept().await else { continue };
        number += 1;
        let connection = Arc::new(Connection { number, is_cut: AtomicBool::new(false) });
        let stream = TokioIo::new(Cuttable { stream, connection: connection.clone() });
        let (shared, service) = (shared.clone(), service.clone());
        tokio::spawn(async move {
            let answer = service_fn(move |request| {
                let (shared, service, connection) = (shared.clone(), service.clone(), connection.clone());
                async move { serve(&shared, &service, &connection, request).await }
            });
            // A connection that ends in an error is what this server is for.
            hyper::server::conn::http1::Builder::new().serve_connection(stream, answer).await.ok();
        });
    }
}

fn service(shared: &Arc<Shared>) -> S3Service {
    let mut builder = S3ServiceBuilder::new(Operations(shared.store.clone()));
    builder.set_auth(SimpleAuth::from_single(ACCESS_KEY, SECRET_KEY));
    builder.set_access(Door(shared.store.clone()));
    builder.build()
}

/// Who may come in: who signed, or anybody if the behaviour says so.
struct Door(Arc<Mutex<Store>>);

#[async_trait::async_trait]
impl S3Access for Door {
    async fn check(&self, context: &mut S3AccessContext<'_>) -> S3Result<()> {
        if context.credentials().is_some() || self.0.lock().behaviour.unsigned {
            return Ok(());
        }
        Err(s3_error!(AccessDenied, "Access Denied"))
    }
}

type Answer = http::Response<Body>;

/// Answers one request. An error closes the connection without an answer.
async fn serve(
    shared: &Shared,
    service: &S3Service,
    connection: &Arc<Connection>,
    mut request: http::Request<Incoming>,
) -> io::Result<Answer> {
    let (operation, key) = recognize(request.method(), request.uri());
    let fault = shared.script.lock().next(operation, &key);
    let number = shared.record(operation, key, &request, fault.clone(), connection.number);
    let dropped = || io::Error::from(io::ErrorKind::ConnectionAborted);
    match fault.as_ref() {
        Some(Fault::Refuse(refusal)) => {
            discard(request.body_mut(), usize::MAX).await?;
            let answer = refusal_answer(refusal);
            shared.answered(number, &answer);
            return Ok(answer);
        }
        Some(Fault::DropBefore) => return Err(dropped()),
        Some(Fault::HangBefore) => return std::future::pending().await,
        Some(Fault::CutUpload(bytes)) => {
            discard(request.body_mut(), *bytes).await?;
            return Err(dropped());
        }
        _ => {}
    }
    if let Some(fault) = &fault {
        request.extensions_mut().insert(Ordered(fault.clone()));
    }
    let answer =
        service.call(request.map(Body::from)).await.map_err(|e| io::Error::other(format!("{e:?}")))?;
    // What the store refused by itself is no success that could go wrong.
    let fault = fault.filter(|_| answer.status().is_success());
    let answer = match fault {
        Some(Fault::RefuseAfter(refusal)) => refusal_answer(&refusal),
        Some(Fault::DropAfter) => return Err(dropped()),
        Some(Fault::HangAfter) => return std::future::pending().await,
        Some(fault) => spoilt(answer, &fault, connection).await?,
        None => answer,
    };
    shared.answered(number, &answer);
    Ok(answer)
}

impl Shared {
    /// Keeps a request; returns its number.
    fn record(
        &self,
        operation: Operation,
        key: String,
        request: &http::Request<Incoming>,
        fault: Option<Fault>,
        connection: usize,
    ) -> usize {
        let header = |(name, value): (&http::HeaderName, &HeaderValue)| {
            (name.as_str().to_owned(), String::from_utf8_lossy(value.as_bytes()).into_owned())
        };
        let headers = request.headers().iter().map(header).collect();
        let mut requests = self.requests.lock();
        requests.push(Request { operation, key, headers, status: None, fault, connection });
        self.news.notify_all();
        requests.len() - 1
    }

    fn answered(&self, number: usize, answer: &Answer) {
        // The owner may have forgotten it meanwhile.
        if let Some(request) = self.requests.lock().get_mut(number) {
            request.status = Some(answer.status().as_u16());
        }
        self.news.notify_all();
    }
}

/// What a request asks for, and of which key or prefix.
fn recognize(method: &Method, uri: &http::Uri) -> (Operation, String) {
    let path = percent_decoded(uri.path());
    let path = path.strip_prefix('/').unwrap_or(&path);
    let key =
        path.strip_prefix(BUCKET).and_then(|rest| rest.strip_prefix('/')).unwrap_or_default().to_owned();
    let query: Vec<(&str, &str)> = uri
        .query()
        .unwrap_or_default()
        .split('&')
        .map(|pair| pair.split_once('=').unwrap_or((pair, "")))
        .collect();
    let value = |name: &str| query.iter().find(|(known, _)| *known == name).map(|(_, value)| *value);
    let has = |name: &str| value(name).is_some();
    if key.is_empty() {
        let prefix = percent_decoded(value("prefix").unwrap_or_default());
        let operation = match *method {
            Method::GET if has("uploads") => Operation::ListUploads,
            Method::GET if value("list-type") == Some("2") => Operation::List,
            Method::POST if has("delete") => Operation::DeleteMany,
            Method::HEAD => Operation::HeadBucket,
            _ => Operation::Other,
        };
        return (operation, prefix);
    }
    let operation = match *method {
        Method::PUT if has("partNumber") => Operation::UploadPart,
        Method::PUT if query.iter().all(|(name, _)| name.is_empty() || *name == "x-id") => Operation::Put,
        Method::POST if has("uploads") => Operation::CreateUpload,
        Method::POST if has("uploadId") => Operation::CompleteUpload,
        Method::DELETE if has("uploadId") => Operation::AbortUpload,
        Method::DELETE => Operation::Delete,
        Method::HEAD => Operation::Head,
        Method::GET if !has("uploadId") => Operation::Get,
        _ => Operation::Other,
    };
    (operation, key)
}

fn percent_decoded(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((first, after)) = rest.split_first() {
        let digits = after.get(..2).and_then(|digits| std::str::from_utf8(digits).ok());
        match digits.and_then(|digits| u8::from_str_radix(digits, 16).ok()).filter(|_| *first == b'%') {
            Some(byte) => {
                bytes.push(byte);
                rest = &after[2..];
            }
            None => {
                bytes.push(*first);
                rest = after;
            }
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

/// Reads a request's body and throws it away, until its end or so many bytes.
async fn discard(body: &mut Incoming, mut bytes: usize) -> io::Result<()> {
    while bytes > 0
        && let Some(frame) = body.frame().await
    {
        let frame = frame.map_err(io::Error::other)?;
        bytes = bytes.saturating_sub(frame.data_ref().map_or(0, Bytes::len));
    }
    Ok(())
}

fn refusal_answer(refusal: &Refusal) -> Answer {
    let mut answer = Answer::new(Body::from(refusal.xml()));
    *answer.status_mut() = StatusCode::from_u16(refusal.status).expect("a status");
    answer.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/xml"));
    if let Some(seconds) = refusal.retry_after {
        answer.headers_mut().insert(RETRY_AFTER, seconds.into());
    }
    answer
}

/// The answer with a fault in it.
async fn spoilt(mut answer: Answer, fault: &Fault, connection: &Arc<Connection>) -> io::Result<Answer> {
    match fault {
        Fault::WrongChecksum => {
            let other = HeaderValue::from_str(&sha256_base64(b"other bytes")).expect("Base64");
            answer.headers_mut().insert(CHECKSUM, other);
            Ok(answer)
        }
        Fault::NoChecksum => {
            answer.headers_mut().remove(CHECKSUM);
            Ok(answer)
        }
        Fault::CutAnswer(_) | Fault::StallAnswer(_) | Fault::ShortAnswer(_) | Fault::FlipAnswer(_) => {
            let (mut parts, body) = answer.into_parts();
            // Both are a body's; a stream has methods of these names as well.
            let length_hint = hyper::body::Body::size_hint(&body).exact();
            let bytes = BodyExt::collect(body).await.map_err(io::Error::other)?.to_bytes();
            if let Some(length) = length_hint {
                parts.headers.entry(CONTENT_LENGTH).or_insert(length.into());
            }
            let body = spoilt_body(bytes, fault, &mut parts, connection);
            Ok(Answer::from_parts(parts, body))
        }
        // The others were carried out by the operation.
        _ => Ok(answer),
    }
}

fn spoilt_body(
    bytes: Bytes,
    fault: &Fault,
    parts: &mut http::response::Parts,
    connection: &Arc<Connection>,
) -> Body {
    match fault {
        Fault::FlipAnswer(at) => Body::from(flipped(&bytes, *at)),
        Fault::ShortAnswer(len) => {
            let short = bytes.slice(..(*len).min(bytes.len()));
            parts.headers.insert(CONTENT_LENGTH, short.len().into());
            shorten_range(parts, short.len());
            Body::from(short)
        }
        Fault::CutAnswer(len) | Fault::StallAnswer(len) => {
            let first = bytes.slice(..(*len).min(bytes.len()));
            let cut = matches!(fault, Fault::CutAnswer(_)).then(|| connection.clone());
            Body::http_body(StreamBody::new(broken_off(first, cut)))
        }
        _ => Body::from(bytes),
    }
}

/// Makes a `Content-Range` say what a shortened body has.
fn shorten_range(parts: &mut http::response::Parts, len: usize) {
    let changed = parts.headers.get(CONTENT_RANGE).and_then(|value| {
        let (range, whole) = value.to_str().ok()?.strip_prefix("bytes ")?.split_once('/')?;
        let begin: usize = range.split_once('-')?.0.parse().ok()?;
        HeaderValue::from_str(&format!("bytes {begin}-{}/{whole}", begin + len.saturating_sub(1))).ok()
    });
    if let Some(value) = changed {
        parts.headers.insert(CONTENT_RANGE, value);
    }
}

/// A body that gives its first bytes and then no more; with a connection, that is closed once they are out.
fn broken_off(
    first: Bytes,
    cut: Option<Arc<Connection>>,
) -> impl Stream<Item = Result<Frame<Bytes>, Infallible>> + Send + Sync {
    let head = stream::iter((!first.is_empty()).then(|| Ok(Frame::data(first))));
    head.chain(stream::poll_fn(move |_| {
        if let Some(connection) = &cut {
            connection.is_cut.store(true, Ordering::Release);
        }
        Poll::Pending
    }))
}

/// One connection of a client.
struct Connection {
    number: usize,
    /// It is to be closed as soon as what was written is out.
    is_cut: AtomicBool,
}

/// A stream that can be cut by [`Connection::is_cut`].
struct Cuttable {
    stream: TcpStream,
    connection: Arc<Connection>,
}

impl Cuttable {
    fn cut(&self) -> io::Result<()> {
        if self.connection.is_cut.load(Ordering::Acquire) {
            return Err(io::ErrorKind::ConnectionAborted.into());
        }
        Ok(())
    }
}

impl AsyncRead for Cuttable {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(context, buffer)
    }
}

impl AsyncWrite for Cuttable {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match Pin::new(&mut self.stream).poll_flush(context) {
            // Flushed: whoever cuts the connection wanted these bytes to arrive.
            Poll::Ready(Ok(())) => Poll::Ready(self.cut()),
            other => other,
        }
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}
