//! What the command line and the daemon say to each other over the socket: one request as a JSON object on a line, then objects on lines, each
//! with its `message_type`, until the daemon closes the connection. The last is `done`.

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::Error;
use crate::ledger::Job;

/// No request is longer, in bytes.
pub const REQUEST_BYTES_MAX: u64 = 64 << 10;

/// What is asked of the daemon.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Request {
    /// Run these jobs, and tell how they go.
    Run {
        /// The jobs.
        jobs: Vec<Job>,
        /// A source that shrank beyond its limit is accepted.
        accept_shrink: bool,
    },
    /// Read the configuration anew.
    Reload,
    /// Say what is going on.
    State,
}

/// An object with its `message_type`, on one line.
pub fn line(message_type: &str, fields: Value) -> String {
    let mut object = json!({ "message_type": message_type });
    if let (Value::Object(object), Value::Object(mut fields)) = (&mut object, fields) {
        object.append(&mut fields);
    }
    object.to_string()
}

/// The last line, with an exit code.
pub fn done(exit_code: u8) -> String {
    line("done", json!({ "exit_code": exit_code }))
}

/// The last line of a request that was refused.
pub fn refused(error: &Error) -> String {
    let code = error.kind().exit_code();
    line("done", json!({ "exit_code": code, "message": error.to_string(), "hint": error.hint() }))
}
