//! The HTTP server: connections, and the way of a request through faults and calls.

use std::sync::Arc;

use bytes::Bytes;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::oneshot;

use crate::answer::{Answer, Content, refuse};
use crate::control;
use crate::fault::{Call, Fault, Plan};
use crate::handle::{self, Context, flipped};
use crate::request::{CONTROL, Head};
use crate::state::Shared;
use crate::wire::{self, Cut, Damage, End, Payload};

/// Serves until `stop` is sent or dropped.
pub(crate) async fn serve(listener: TcpListener, shared: Arc<Shared>, mut stop: oneshot::Receiver<()>) {
    loop {
        tokio::select! {
            _ = &mut stop => return,
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) if !shared.with(|state| state.down) => {
                    tokio::spawn(connection(stream, Arc::clone(&shared)));
                }
                Ok(_) => {}
                // Such as too many open files: others may be closed meanwhile.
                Err(_) => tokio::task::yield_now().await,
            },
        }
    }
}

async fn connection(stream: TcpStream, shared: Arc<Shared>) {
    // Without it small answers wait for nothing; failing that they are only slow.
    let _ = stream.set_nodelay(true);
    let service = service_fn(move |request| {
        let shared = Arc::clone(&shared);
        async move {
            // A task of its own: a call takes effect also when the client has gone away meanwhile.
            tokio::spawn(respond(shared, request)).await.unwrap_or(Err(Cut))
        }
    });
    // An error is a cut connection, by a fault or by the client.
    let _ = http1::Builder::new().serve_connection(TokioIo::new(stream), service).await;
}

async fn respond(shared: Arc<Shared>, request: Request<Incoming>) -> Result<Response<Payload>, Cut> {
    let (parts, body) = request.into_parts();
    if let Some(action) = parts.uri.path().strip_prefix(CONTROL) {
        let (body, _) = wire::read(body, shared.with(|state| state.options.body_bytes)).await;
        let answer = control::answer(&shared, parts.method.as_str(), action, &body);
        return wire::response(answer, Damage::default()).map(|(response, _)| response);
    }
    let head = Head::read(&parts);
    // Before the request is recorded: whoever sees it there may release it.
    let released = shared.hang();
    let (number, plan) = shared.begin(&head);
    let answered = exchange(&shared, &head, &plan, number, body, released).await;
    let sent = answered.and_then(|answer| {
        let note = answer.note.clone();
        let status = answer.status;
        let sent = wire::response(answer, damage(&plan));
        shared.record(number, |entry| {
            entry.note = note;
            if let Ok((_, bytes)) = &sent {
                entry.status = Some(status);
                entry.bytes_out = *bytes;
            }
        });
        sent
    });
    shared.record(number, |entry| entry.finished = true);
    sent.map(|(response, _)| response)
}

async fn exchange(
    shared: &Shared,
    head: &Head,
    plan: &Plan,
    number: u64,
    body: Incoming,
    released: impl Future<Output = ()>,
) -> Result<Answer, Cut> {
    let (down, bytes_max) = shared.with(|state| (state.down, state.options.body_bytes));
    if down {
        return Err(Cut);
    }
    let cut = plan.find(|fault| match fault {
        Fault::CutRequest { after_bytes } => Some(*after_bytes),
        _ => None,
    });
    let (body, end) = wire::read(body, cut.unwrap_or_else(|| bytes_max.saturating_add(1))).await;
    shared.record(number, |entry| entry.bytes_in = body.len() as u64);
    if cut.is_some() || end == End::Broken {
        shared.with(|state| {
            let session = state.sessions.get_mut(head.get("upload_id").unwrap_or_default());
            if let Some(session) = session.filter(|_| head.call == Call::UploadChunk) {
                session.keep_part(head.header("content-range"), &body);
            }
        });
        return Err(Cut);
    }
    if end == End::Limit {
        return Ok(*refuse(413, "uploadTooLarge", "Request Too Large"));
    }
    let hang = plan.find(|fault| match fault {
        Fault::Hang { after_commit } => Some(*after_commit),
        _ => None,
    });
    let context = Context { head, body: Bytes::from(body), plan };
    let answer = match hang {
        Some(false) => {
            released.await;
            shared.with(|state| handle::answer(state, &context))
        }
        Some(true) => {
            let answer = shared.with(|state| handle::answer(state, &context));
            released.await;
            answer
        }
        None => shared.with(|state| handle::answer(state, &context)),
    };
    if plan.has(&Fault::NoResponse) {
        return Err(Cut);
    }
    Ok(falsified(answer, head, plan))
}

/// The answer with the faults that make it untrue.
fn falsified(mut answer: Answer, head: &Head, plan: &Plan) -> Answer {
    let is_media = head.call == Call::Media && answer.is_success();
    match &mut answer.content {
        Content::Json(value) => falsify_digests(value, plan),
        Content::Bytes(bytes) if is_media => {
            if plan.has(&Fault::CorruptDownload) {
                *bytes = flipped(bytes);
            }
            let short = plan.find(|fault| match fault {
                Fault::ShortDownload { bytes } => Some(*bytes),
                _ => None,
            });
            if let Some(short) = short {
                bytes.truncate(usize::try_from(short).unwrap_or(usize::MAX));
            }
        }
        _ => {}
    }
    answer
}

fn falsify_digests(value: &mut Value, plan: &Plan) {
    match value {
        Value::Object(object) => {
            let missing = plan.has(&Fault::MissingDigests);
            if missing || plan.has(&Fault::MissingDigest) {
                object.remove("sha256Checksum");
            }
            if missing {
                object.remove("md5Checksum");
            }
            if let Some(Value::String(digest)) = object.get_mut("sha256Checksum")
                && plan.has(&Fault::WrongDigest)
            {
                let first = if digest.starts_with('0') { "1" } else { "0" };
                digest.replace_range(..first.len().min(digest.len()), first);
            }
            object.values_mut().for_each(|value| falsify_digests(value, plan));
        }
        Value::Array(items) => items.iter_mut().for_each(|item| falsify_digests(item, plan)),
        _ => {}
    }
}

fn damage(plan: &Plan) -> Damage {
    Damage {
        truncate_json: plan.has(&Fault::TruncatedJson),
        cut_after: plan.find(|fault| match fault {
            Fault::CutResponse { after_bytes } => Some(*after_bytes),
            _ => None,
        }),
    }
}
