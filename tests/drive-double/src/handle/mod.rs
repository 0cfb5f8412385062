//! The calls of the API, each on the state behind its lock.

mod drives;
mod files;
mod upload;

pub(crate) use upload::flipped;

use bytes::Bytes;
use serde_json::json;

use crate::answer::{Answer, ApiError, Outcome, bad_parameter, message_of, oauth, refuse};
use crate::auth::{Identity, login_required, parameter, unauthorized};
use crate::fault::{Call, Fault, Plan};
use crate::fields::Schema;
use crate::file::user;
use crate::listing;
use crate::options::{SCOPE_DRIVE, SCOPE_FILE, SCOPE_READONLY};
use crate::request::Head;
use crate::state::State;

/// One call: who makes it and what goes wrong with it.
pub(crate) struct Context<'a> {
    pub(crate) head: &'a Head,
    pub(crate) body: Bytes,
    pub(crate) plan: &'a Plan,
}

/// Answers a request, with the faults that come before its effect and during it.
pub(crate) fn answer(state: &mut State, context: &Context<'_>) -> Answer {
    if let Some(answer) = fault_before(state, context) {
        return answer;
    }
    let answer = match dispatch(state, context) {
        Ok(answer) => answer,
        Err(answer) => *answer,
    };
    let failed = context.plan.find(|fault| match fault {
        Fault::Error { status, after_commit: true } => Some(*status),
        _ => None,
    });
    match failed {
        Some(status) if answer.status < 400 => server_error(context.head.call, status),
        _ => answer,
    }
}

fn dispatch(state: &mut State, context: &Context<'_>) -> Outcome {
    let head = context.head;
    match head.call {
        Call::Token => return token(state, context),
        Call::UploadChunk | Call::UploadStatus => return upload::put(state, context),
        Call::Unknown | Call::Any => {
            return Err(Box::new(
                (*refuse(404, "notFound", "Not Found"))
                    .note(format!("the double has no {} {}", head.method, head.path)),
            ));
        }
        _ => {}
    }
    let identity = state.auth.identify(head.header("authorization"))?.ok_or_else(login_required)?;
    state.check_rate()?;
    check_scopes(head.call, &identity)?;
    match head.call {
        Call::About => about(state, head),
        Call::List => listing::list(state, head, &identity, context.plan),
        Call::GenerateIds => generate_ids(state, head),
        Call::Get => files::get(state, head, &identity),
        Call::Media => files::media(state, head, &identity),
        Call::Create => upload::create(state, context, &identity),
        Call::StartUpload => upload::start(state, context, &identity),
        Call::Update => upload::update(state, context, &identity),
        Call::Delete => files::delete(state, head, &identity),
        Call::Drives => drives::answer(state, head),
        Call::Any | Call::Token | Call::UploadChunk | Call::UploadStatus | Call::Unknown => {
            Err(refuse(404, "notFound", "Not Found"))
        }
    }
}

fn check_scopes(call: Call, identity: &Identity) -> Outcome<()> {
    let enough = match call {
        Call::Create | Call::StartUpload | Call::Update | Call::Delete | Call::GenerateIds => {
            identity.may_write()
        }
        Call::Drives => identity.sees_all(),
        _ => identity
            .scopes
            .iter()
            .any(|scope| [SCOPE_DRIVE, SCOPE_FILE, SCOPE_READONLY].contains(&scope.as_str())),
    };
    if enough {
        return Ok(());
    }
    Err(refuse(403, "insufficientPermissions", message_of("insufficientPermissions")))
}

/// The faults before a call takes effect.
fn fault_before(state: &mut State, context: &Context<'_>) -> Option<Answer> {
    let (call, head) = (context.head.call, context.head);
    let is_session = matches!(call, Call::UploadChunk | Call::UploadStatus);
    let mut gone = false;
    let answer = context.plan.find(|fault| match fault {
        Fault::TooManyRequests { retry_after_seconds } => {
            let answer = forbidden(call, 429, "rateLimitExceeded");
            Some(match retry_after_seconds {
                Some(seconds) => (answer.header("retry-after", seconds.to_string()), false),
                None => (answer, false),
            })
        }
        Fault::Forbidden { reason } => Some((forbidden(call, 403, reason), false)),
        Fault::Unauthorized => Some((*unauthorized(), false)),
        Fault::Error { status, after_commit: false } => Some((server_error(call, *status), false)),
        Fault::InvalidGrant if call == Call::Token => {
            Some((*oauth(400, "invalid_grant", "Token has been expired or revoked."), false))
        }
        Fault::SessionGone { status } if is_session => {
            Some((*refuse(*status, "notFound", "Not Found"), true))
        }
        _ => None,
    });
    let answer = answer.map(|(answer, drops)| {
        gone = drops;
        answer
    });
    if gone {
        state.sessions.remove(head.get("upload_id").unwrap_or_default());
    }
    answer
}

fn forbidden(call: Call, status: u16, reason: &str) -> Answer {
    if call == Call::Token {
        return *oauth(status, "rate_limit_exceeded", message_of(reason));
    }
    *refuse(status, reason, message_of(reason))
}

fn server_error(call: Call, status: u16) -> Answer {
    match call {
        Call::Token => *oauth(status, "internal_failure", "Backend Error"),
        _ => ApiError { status, reason: "backendError", message: "Backend Error", location: None }.answer(),
    }
}

fn token(state: &mut State, context: &Context<'_>) -> Outcome {
    let form: Vec<(String, String)> = form_urlencoded::parse(&context.body).into_owned().collect();
    let State { auth, options, random, .. } = state;
    match context.head.path.as_str() {
        "/token" => auth.token(&form, options, random),
        "/device/code" => auth.device(&form, options, random),
        "/auth" => auth.consent(&context.head.query, random),
        _ => auth.revoke(parameter(&form, "token").or_else(|| context.head.get("token"))),
    }
}

fn about(state: &State, head: &Head) -> Outcome {
    if head.get("fields").is_none_or(str::is_empty) {
        return Err(bad_parameter(
            "fields",
            "required",
            "The 'fields' parameter is required for this method.",
        ));
    }
    let mask = head.mask(Schema::About, "*")?;
    let store = &state.store;
    let in_trash: u64 =
        store.files().filter(|file| store.is_trashed(file)).map(|file| file.digests.size).sum();
    let mut quota = json!({
        "usage": store.usage.to_string(),
        "usageInDrive": store.usage.to_string(),
        "usageInDriveTrash": in_trash.to_string(),
    });
    // Absent when there is no limit.
    if let Some(limit) = store.quota {
        quota["limit"] = limit.to_string().into();
    }
    Ok(Answer::json(mask.apply(json!({
        "kind": "drive#about",
        "user": user(),
        "storageQuota": quota,
        "maxUploadSize": "5242880000000",
        "appInstalled": true,
        "canCreateDrives": true,
    }))))
}

fn generate_ids(state: &mut State, head: &Head) -> Outcome {
    let mask = head.mask(Schema::GeneratedIds, "*")?;
    let count = head.number("count", 10, 1, 1000)?;
    if let Some(space) = head.get("space").filter(|space| *space != "drive") {
        return Err(Box::new(
            (*bad_parameter("space", "invalid", "Invalid Value"))
                .note(format!("the double has the space drive only, not {space}")),
        ));
    }
    if head.get("type").is_some_and(|kind| kind != "files") {
        return Err(bad_parameter("type", "invalid", "Invalid Value"));
    }
    let State { store, random, .. } = state;
    let ids = store.generate_ids(usize::try_from(count).unwrap_or(1000), random);
    Ok(Answer::json(mask.apply(json!({"kind": "drive#generatedIds", "space": "drive", "ids": ids}))))
}
