//! The object of a run, and its lines for people: the same whether it was run here or by the daemon.

use std::process::ExitCode;

use serde_json::{Value, json};

use crate::cli::output::Output;
use crate::fs::size::human;
use crate::ledger::{Ended, Job};
use crate::{Error, Kind, Result};

/// Prints what a run came to.
///
/// # Errors
/// If standard output cannot be written.
pub fn run(output: &Output, id: Option<i64>, job: &Job, ended: &Ended) -> Result<()> {
    let mut object = json!({ "run": id });
    for part in [serde_json::to_value(job), serde_json::to_value(ended)] {
        if let (Value::Object(object), Ok(Value::Object(mut fields))) = (&mut object, part) {
            object.append(&mut fields);
        }
    }
    if output.json() { output.object("run", &object) } else { lines(output, &object) }
}

/// What the daemon passes on, shown as it comes.
#[derive(Debug, Default)]
pub struct Shown {
    code: Option<u8>,
    refused: Option<(String, Option<String>)>,
}

impl Shown {
    /// Shows a line.
    ///
    /// # Errors
    /// If standard output cannot be written.
    pub fn line(&mut self, output: &Output, line: &str) -> Result<()> {
        let Ok(object) = serde_json::from_str::<Value>(line) else {
            output.complain(line);
            return Ok(());
        };
        let text = |name: &str| object.get(name).and_then(Value::as_str).unwrap_or_default();
        let kind = text("message_type");
        if kind == "done" {
            let code = object.get("exit_code").and_then(Value::as_u64);
            self.code = code.and_then(|code| u8::try_from(code).ok());
            let hint = object.get("hint").and_then(Value::as_str).map(str::to_owned);
            self.refused =
                object.get("message").and_then(Value::as_str).map(|message| (message.to_owned(), hint));
            return Ok(());
        }
        if output.json() {
            return output.line(line);
        }
        match kind {
            "notice" => output.notice(text("message")),
            "warning" => output.warning(text("message")),
            "damage" => output.damage(text("message")),
            "error" => output.warning(format_args!("{}: {}", text("path"), text("message"))),
            "exit_error" => output.warning(text("message")),
            "queued" => output.say(format_args!("asked the daemon for {}", job_name(object.get("job")))),
            "run" => lines(output, &object)?,
            _ => {}
        }
        Ok(())
    }

    /// The exit code, once the daemon has said it.
    ///
    /// # Errors
    /// Why it was refused; if the daemon ended without a word.
    pub fn outcome(self) -> Result<ExitCode> {
        match (self.code, self.refused) {
            (Some(code), Some((message, hint))) => {
                let kinds = [Kind::Usage, Kind::Locked, Kind::Interrupted];
                let kind = kinds.into_iter().find(|kind| kind.exit_code() == code).unwrap_or(Kind::Failed);
                let error = Error::new(kind, message);
                Err(match hint {
                    Some(hint) => error.with_hint(hint),
                    None => error,
                })
            }
            (Some(code), None) => Ok(ExitCode::from(code)),
            (None, _) => Err(Error::failed("the daemon ended before the run did")
                .with_hint("`lifeboat runs` shows what became of it.")),
        }
    }
}

fn job_name(job: Option<&Value>) -> String {
    let job: Option<Job> = job.and_then(|job| serde_json::from_value(job.clone()).ok());
    job.as_ref().map_or_else(|| "a run".to_owned(), crate::daemon::name)
}

fn lines(output: &Output, object: &Value) -> Result<()> {
    let text = |name: &str| object.get(name).and_then(Value::as_str);
    let name = job_name(Some(object));
    if let Some(message) = text("message") {
        let say = format!("{name}: {message}");
        match text("result") {
            Some("failed" | "interrupted") => output.fatal(&match text("hint") {
                Some(hint) => Error::failed(say).with_hint(hint),
                None => Error::failed(say),
            }),
            _ => output.warning(say),
        }
    }
    if output.quiet() {
        return Ok(());
    }
    let snapshot = text("snapshot").map(|id| format!(", snapshot {}", id.get(..8).unwrap_or(id)));
    let run = object.get("run").and_then(Value::as_i64).map(|id| format!(" (run {id})"));
    output.line(format_args!(
        "{name}: {}{}{}",
        text("result").unwrap_or("?"),
        snapshot.unwrap_or_default(),
        run.unwrap_or_default()
    ))?;
    for at in object.get("destinations").and_then(Value::as_array).into_iter().flatten() {
        let field = |name: &str| at.get(name).and_then(Value::as_str).unwrap_or_default();
        let destination = field("destination");
        match at.get("stored").and_then(Value::as_bool) {
            Some(true) => {
                let bytes = at.get("bytes_stored").and_then(Value::as_u64).unwrap_or_default();
                output.line(format_args!(
                    "  {destination}: stored, {}, verified by {}",
                    human(bytes),
                    field("verified")
                ))?;
            }
            _ if text("snapshot").is_some() => {
                output.line(format_args!("  {destination}: NOT stored: {}", field("error")))?;
            }
            _ => {}
        }
    }
    Ok(())
}
