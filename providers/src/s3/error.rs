//! What the SDK and stores say, as the errors of the contract. Stores differ in codes: each kind has the codes of Amazon, MinIO, Ceph,
//! Garage and Backblaze that mean it.

use std::error::Error as StdError;
use std::fmt::Display;
use std::time::Duration;

use aws_sdk_s3::error::{ProvideErrorMetadata, SdkError};
use aws_smithy_runtime_api::client::orchestrator::HttpResponse;

use crate::{Error, ErrorKind};

/// What says that the credentials are refused, whatever is asked for.
const LOGIN_CODES: [&str; 4] =
    ["InvalidAccessKeyId", "SignatureDoesNotMatch", "ExpiredToken", "InvalidToken"];

const WRONG_SECRET: &str =
    "the secret access key is not the one of this access key, or the region is another";
const UNKNOWN_KEY: &str = "the store does not know this access key";

/// What is asked of a store that throttles and does not say for how long.
const THROTTLE_DELAY: Duration = Duration::from_secs(1);

/// The contract's error for a failed request.
pub(super) fn translate<E>(
    operation: &'static str,
    subject: impl Display,
    error: SdkError<E, HttpResponse>,
) -> Error
where
    E: ProvideErrorMetadata + StdError + Send + Sync + 'static,
{
    let (kind, reason) = match &error {
        SdkError::ConstructionFailure(_) => (construction_kind(&error), cause(&error)),
        SdkError::TimeoutError(_) => (ErrorKind::Transient, "the store did not answer in time".to_owned()),
        SdkError::DispatchFailure(failure) if failure.is_user() => (ErrorKind::Misconfigured, cause(&error)),
        SdkError::DispatchFailure(_) => dispatch(&error),
        SdkError::ServiceError(service) => {
            let meta = service.err().meta();
            let status = service.raw().status().as_u16();
            let code = meta.code().unwrap_or_default();
            let message = meta.message().unwrap_or_default();
            (kind_of(status, code, message), explain(status, code, message, service.raw()))
        }
        _ => (ErrorKind::Transient, format!("the store's answer is cut off or malformed: {}", cause(&error))),
    };
    let retry_after = error.raw_response().and_then(retry_after);
    let mut translated = Error::new(kind, operation, subject, reason);
    let meta = error.as_service_error().map(ProvideErrorMetadata::meta);
    let refuses_login = meta.is_some_and(|meta| {
        let (code, message) = (meta.code().unwrap_or_default(), meta.message().unwrap_or_default());
        LOGIN_CODES.contains(&code) || login_refusal(code, message).is_some()
    });
    if refuses_login {
        // The same for every call, so that a thousand of them do not hammer a refused login.
        translated = translated.of_the_login();
    }
    if let Some(delay) = retry_after.or((kind == ErrorKind::Throttled).then_some(THROTTLE_DELAY)) {
        translated = translated.with_retry_after(delay);
    }
    translated
}

/// Before anything was sent: nearly always credentials that cannot be had.
fn construction_kind<E: StdError + 'static>(error: &SdkError<E, HttpResponse>) -> ErrorKind {
    let text = whole(error);
    if text.contains("timed out") || text.contains("timeout") {
        ErrorKind::Transient
    } else {
        ErrorKind::Denied
    }
}

/// A request that got no answer.
fn dispatch<E: StdError + 'static>(error: &SdkError<E, HttpResponse>) -> (ErrorKind, String) {
    let text = cause(error);
    let lower = whole(error).to_ascii_lowercase();
    if lower.contains("credential") || lower.contains("imds") {
        let hint = "no AWS credentials were found: set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, name a profile, or see the configuration's \
                    `access_key_id`";
        return (ErrorKind::Denied, format!("{hint} ({text})"));
    }
    if lower.contains("certificate") {
        return (ErrorKind::Misconfigured, format!("the server's certificate is not trusted: {text}"));
    }
    (ErrorKind::Transient, text)
}

pub(super) fn kind_of(status: u16, code: &str, message: &str) -> ErrorKind {
    let says_quota = message.to_ascii_lowercase().contains("quota");
    match (code, status) {
        ("NoSuchKey" | "NoSuchUpload", _) => ErrorKind::NotFound,
        ("NoSuchBucket" | "InvalidBucketName" | "PermanentRedirect" | "AuthorizationHeaderMalformed", _)
        | ("IllegalLocationConstraintException", _) => ErrorKind::Misconfigured,
        ("SlowDown" | "SlowDownRead" | "SlowDownWrite" | "Throttling" | "ThrottlingException", _)
        | ("RequestLimitExceeded" | "TooManyRequests" | "TooManyRequestsException", _)
        | (_, 429) => ErrorKind::Throttled,
        (
            "QuotaExceeded" | "XMinioStorageFull" | "XMinioAdminBucketQuotaExceeded" | "InsufficientStorage",
            _,
        )
        | ("EntityTooLarge" | "StorageLimitExceeded" | "ServiceQuotaExceeded" | "CapExceeded", _)
        | (_, 507) => ErrorKind::Quota,
        (_, 403) if says_quota => ErrorKind::Quota,
        ("BadDigest" | "InvalidDigest" | "XAmzContentSHA256Mismatch" | "ContentSHA256Mismatch", _)
        | ("XAmzContentChecksumMismatch" | "InvalidRange", _)
        | (_, 416) => ErrorKind::Corrupt,
        ("ConditionalRequestConflict" | "OperationAborted" | "RequestTimeout", _)
        | ("IncompleteBody" | "InternalError", _) => ErrorKind::Transient,
        ("PreconditionFailed", _) | (_, 412) => ErrorKind::Exists,
        ("NotImplemented" | "InvalidArgument" | "UnsupportedArgument", 501) | (_, 501) => {
            ErrorKind::Unsupported
        }
        ("ExpiredToken" | "TokenRefreshRequired" | "InvalidToken" | "InvalidAccessKeyId", _)
        | ("SignatureDoesNotMatch", _)
        | (_, 401 | 403) => ErrorKind::Denied,
        (_, 404) => ErrorKind::NotFound,
        (_, 408 | 500..=599) => ErrorKind::Transient,
        (_, 301 | 307 | 308) => ErrorKind::Misconfigured,
        _ => ErrorKind::Other,
    }
}

/// What the store said, and what to do about it where that is known.
fn explain(status: u16, code: &str, message: &str, response: &HttpResponse) -> String {
    let said = match (code, message) {
        ("", "") => format!("the store answers with status {status}"),
        (code, "") => format!("the store says {code} (status {status})"),
        ("", message) => format!("the store says: {message} (status {status})"),
        (code, message) => format!("the store says {code}: {}", message.trim_end_matches('.')),
    };
    if let Some(advice) = advice(status, code, message) {
        return format!("{said}; {advice}");
    }
    if !["PermanentRedirect", "AuthorizationHeaderMalformed"].contains(&code) {
        return said;
    }
    match response.headers().get("x-amz-bucket-region") {
        Some(region) => {
            format!("{said}; the bucket is in the region {region}: add region={region} to the URL")
        }
        None => format!("{said}; name the bucket's region by region=… in the URL"),
    }
}

/// What to do about it.
fn advice(status: u16, code: &str, message: &str) -> Option<&'static str> {
    Some(match code {
        "NoSuchBucket" => "check the bucket's name and the endpoint; Lifeboat makes no buckets",
        "InvalidAccessKeyId" => UNKNOWN_KEY,
        "SignatureDoesNotMatch" => WRONG_SECRET,
        "ExpiredToken" | "TokenRefreshRequired" => "the temporary credentials have ended: get new ones",
        "RequestTimeTooSkewed" => "this machine's clock is wrong: set it, for example by systemd-timesyncd",
        "AccessDenied" | "Forbidden" => match login_refusal(code, message) {
            Some(advice) => advice,
            None => "the access key's policy does not allow it, or the key is not known there",
        },
        // The answer to a HEAD has no words.
        "" if matches!(status, 401 | 403) => {
            "the access key or its secret is not the right one, or its policy does not allow this"
        }
        _ => return None,
    })
}

/// What is wrong with the login itself, where a store has one code for all refusals and says in words which it is (Garage).
fn login_refusal(code: &str, message: &str) -> Option<&'static str> {
    if !matches!(code, "AccessDenied" | "Forbidden") {
        return None;
    }
    if message.contains("Invalid signature") {
        return Some(WRONG_SECRET);
    }
    message.contains("No such key: ").then_some(UNKNOWN_KEY)
}

/// `Retry-After` in seconds. The form with a date is not used by stores.
fn retry_after(response: &HttpResponse) -> Option<Duration> {
    let seconds = response.headers().get("retry-after")?.trim().parse::<u64>().ok()?;
    Some(Duration::from_secs(seconds))
}

/// All causes in one line: for telling one failure from another.
fn whole(error: &(dyn StdError + 'static)) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(error) = next {
        text = format!("{text}: {error}");
        next = error.source();
    }
    text
}

/// The innermost causes in one line: the outer ones only say that something failed.
fn cause(error: &(dyn StdError + 'static)) -> String {
    let mut causes = Vec::new();
    let mut next = error.source();
    while let Some(error) = next {
        causes.push(error.to_string());
        next = error.source();
    }
    let innermost = causes.len().saturating_sub(2);
    let mut words: Vec<String> = causes.split_off(innermost);
    words.dedup();
    if words.is_empty() { error.to_string() } else { words.join(": ") }
}

#[cfg(test)]
mod tests {
    use super::{advice, kind_of};
    use crate::ErrorKind;

    #[test]
    fn a_wrong_secret_an_unknown_key_and_a_missing_right_are_told_apart() {
        for (status, code, message, word) in [
            (403, "SignatureDoesNotMatch", "", "the secret access key is not"),
            // Garage's words.
            (403, "AccessDenied", "Forbidden: Invalid signature", "the secret access key is not"),
            (403, "AccessDenied", "Forbidden: No such key: GK0123", "does not know this access key"),
            (403, "InvalidAccessKeyId", "", "does not know this access key"),
            (403, "AccessDenied", "Access Denied", "policy does not allow it"),
            (403, "", "", "its secret is not the right one"),
        ] {
            let advice = advice(status, code, message).unwrap_or_default();
            assert!(advice.contains(word), "{code} {message}: {advice}");
        }
        assert_eq!(advice(500, "", ""), None);
    }

    #[test]
    fn codes_of_several_stores_mean_the_same() {
        for (status, code, message, kind) in [
            (404, "NoSuchKey", "", ErrorKind::NotFound),
            (404, "", "", ErrorKind::NotFound),
            (404, "NoSuchBucket", "", ErrorKind::Misconfigured),
            (301, "PermanentRedirect", "", ErrorKind::Misconfigured),
            (403, "AccessDenied", "", ErrorKind::Denied),
            (403, "RequestTimeTooSkewed", "", ErrorKind::Denied),
            (403, "Forbidden", "Bucket size quota is reached, maximum total size is 1000", ErrorKind::Quota),
            (507, "XMinioStorageFull", "", ErrorKind::Quota),
            (503, "SlowDown", "", ErrorKind::Throttled),
            (429, "", "", ErrorKind::Throttled),
            (503, "ServiceUnavailable", "", ErrorKind::Transient),
            (500, "InternalError", "", ErrorKind::Transient),
            (400, "RequestTimeout", "", ErrorKind::Transient),
            (409, "ConditionalRequestConflict", "", ErrorKind::Transient),
            (412, "PreconditionFailed", "", ErrorKind::Exists),
            (400, "BadDigest", "", ErrorKind::Corrupt),
            (400, "InvalidDigest", "", ErrorKind::Corrupt),
            (416, "InvalidRange", "", ErrorKind::Corrupt),
            (501, "NotImplemented", "", ErrorKind::Unsupported),
            (400, "MalformedXML", "", ErrorKind::Other),
        ] {
            assert_eq!(kind_of(status, code, message), kind, "{status} {code} {message}");
        }
    }
}
