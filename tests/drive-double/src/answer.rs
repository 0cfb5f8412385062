//! Answers before they become HTTP, and Google's two forms of errors: that of the API and that of OAuth.

use bytes::Bytes;
use serde_json::{Value, json};

/// An answer to a request.
#[derive(Debug, Clone)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) headers: Vec<(&'static str, String)>,
    pub(crate) content: Content,
    /// For the log: what Drive would not say.
    pub(crate) note: Option<String>,
}

/// The body of an answer.
#[derive(Debug, Clone)]
pub(crate) enum Content {
    Empty,
    Json(Value),
    Text(String),
    /// Bytes of a file.
    Bytes(Bytes),
}

/// Either way an answer: an early return is a refusal. Boxed, so that results are small.
pub(crate) type Outcome<T = Answer> = Result<T, Box<Answer>>;

impl Answer {
    pub(crate) const fn new(status: u16, content: Content) -> Self {
        Self { status, headers: Vec::new(), content, note: None }
    }

    pub(crate) const fn json(value: Value) -> Self {
        Self::new(200, Content::Json(value))
    }

    pub(crate) fn header(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.headers.push((name, value.into()));
        self
    }

    pub(crate) fn note(mut self, note: impl Into<String>) -> Self {
        self.note = Some(note.into());
        self
    }

    pub(crate) fn refused(self) -> Box<Self> {
        Box::new(self)
    }

    pub(crate) const fn is_success(&self) -> bool {
        matches!(self.status, 200..=299)
    }
}

/// An error of the API.
pub(crate) struct ApiError<'a> {
    pub(crate) status: u16,
    pub(crate) reason: &'a str,
    pub(crate) message: &'a str,
    /// The kind and the name of the place that is wrong, such as `("parameter", "fields")`.
    pub(crate) location: Option<(&'a str, &'a str)>,
}

impl ApiError<'_> {
    pub(crate) fn answer(&self) -> Answer {
        let mut error =
            json!({"message": self.message, "domain": domain(self.reason), "reason": self.reason});
        if let Some((kind, name)) = self.location {
            error["locationType"] = kind.into();
            error["location"] = name.into();
        }
        let mut whole = json!({"code": self.status, "message": self.message, "errors": [error]});
        let status = match self.status {
            401 => Some("UNAUTHENTICATED"),
            429 => Some("RESOURCE_EXHAUSTED"),
            500 => Some("INTERNAL"),
            503 => Some("UNAVAILABLE"),
            _ => None,
        };
        if let Some(status) = status {
            whole["status"] = status.into();
        }
        let answer = Answer::new(self.status, Content::Json(json!({"error": whole})));
        match self.status {
            401 => answer.header(
                "www-authenticate",
                "Bearer realm=\"https://accounts.google.com/\", error=\"invalid_token\"",
            ),
            _ => answer,
        }
    }
}

/// The domain that goes with a reason.
fn domain(reason: &str) -> &'static str {
    match reason {
        "rateLimitExceeded" | "userRateLimitExceeded" | "dailyLimitExceeded" | "sharingRateLimitExceeded" => {
            "usageLimits"
        }
        _ => "global",
    }
}

/// An error of the API without a location.
pub(crate) fn refuse(status: u16, reason: &str, message: &str) -> Box<Answer> {
    ApiError { status, reason, message, location: None }.answer().refused()
}

/// 400 for a parameter of the query.
pub(crate) fn bad_parameter(name: &str, reason: &str, message: &str) -> Box<Answer> {
    ApiError { status: 400, reason, message, location: Some(("parameter", name)) }.answer().refused()
}

/// 404 for a file, also for one that must not be seen.
pub(crate) fn no_file(id: &str) -> Box<Answer> {
    let message = format!("File not found: {id}.");
    ApiError { status: 404, reason: "notFound", message: &message, location: Some(("parameter", "fileId")) }
        .answer()
        .refused()
}

/// An error of the OAuth endpoints (RFC 6749, 5.2).
pub(crate) fn oauth(status: u16, error: &str, description: &str) -> Box<Answer> {
    Answer::new(status, Content::Json(json!({"error": error, "error_description": description}))).refused()
}

/// What Drive says with a reason, for faults that give only the reason.
pub(crate) fn message_of(reason: &str) -> &'static str {
    match reason {
        "rateLimitExceeded" => "Rate Limit Exceeded",
        "userRateLimitExceeded" => "User Rate Limit Exceeded",
        "dailyLimitExceeded" => "Daily Limit Exceeded",
        "sharingRateLimitExceeded" => {
            "Rate limit exceeded. User message: \"These item(s) could not be shared\""
        }
        "storageQuotaExceeded" => "The user's Drive storage quota has been exceeded.",
        "teamDriveFileLimitExceeded" => "The file limit for this shared drive has been exceeded.",
        "numChildrenInNonRootLimitExceeded" => {
            "The limit for this folder's number of children (files and folders) has been exceeded."
        }
        "activeItemCreationLimitExceeded" => {
            "This account has exceeded the creation limit of 500 million items. To create more items, move items to the trash and delete them forever."
        }
        "cannotDownloadAbusiveFile" => {
            "This file has been identified as malware or spam and cannot be downloaded."
        }
        "insufficientFilePermissions" => "The user does not have sufficient permissions for this file.",
        "insufficientPermissions" => "Request had insufficient authentication scopes.",
        "appNotAuthorizedToFile" => "The user has not granted the app access to the file.",
        "domainPolicy" => "The domain administrators have disabled Drive apps.",
        "accessNotConfigured" => {
            "Google Drive API has not been used in this project before or it is disabled."
        }
        _ => "Forbidden",
    }
}
