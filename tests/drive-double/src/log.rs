//! The record of all requests: what a test looks at afterwards. It holds no tokens and no contents.

use std::time::Instant;

use serde::Serialize;

use crate::fault::Call;

/// One request.
#[derive(Debug, Clone, Serialize)]
pub struct LoggedRequest {
    /// From 1, in the order of arrival.
    pub number: u64,
    /// The kind of call.
    pub call: Call,
    /// The method.
    pub method: String,
    /// The path and the query; secrets in it are left out.
    pub path: String,
    /// The header `Range`.
    pub range: Option<String>,
    /// The header `Content-Range`.
    pub content_range: Option<String>,
    /// The header `User-Agent`.
    pub user_agent: Option<String>,
    /// Bytes of the body that were read.
    pub bytes_in: u64,
    /// Bytes of the answer's body that were to be sent.
    pub bytes_out: u64,
    /// The status; `None` while there is no answer, and if the connection was cut before one.
    pub status: Option<u16>,
    /// Whether the double is done with it.
    pub finished: bool,
    /// The faults that were switched for it.
    pub faults: Vec<String>,
    /// Why it was refused, where Drive would not say.
    pub note: Option<String>,
    /// When its head arrived.
    #[serde(skip)]
    pub at: Instant,
}

/// All requests, oldest first.
#[derive(Debug, Default)]
pub(crate) struct Log {
    requests: Vec<LoggedRequest>,
}

impl Log {
    /// Adds a request and gives its number.
    pub(crate) fn add(&mut self, mut request: LoggedRequest) -> u64 {
        let number = self.requests.len() as u64 + 1;
        request.number = number;
        self.requests.push(request);
        number
    }

    pub(crate) fn entry(&mut self, number: u64) -> Option<&mut LoggedRequest> {
        let at = usize::try_from(number.checked_sub(1)?).ok()?;
        self.requests.get_mut(at)
    }

    pub(crate) fn all(&self) -> &[LoggedRequest] {
        &self.requests
    }
}
