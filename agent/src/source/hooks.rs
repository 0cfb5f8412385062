//! Programs that run before and after a backup, as the configuration file says and nothing else.

use std::time::Instant;

use super::process::Run;
use crate::config::source::{Hook, OnFailure};
use crate::events::{Context, Event};
use crate::{Error, Kind, Result};

/// An error in the environment of a hook is cut off here, in bytes.
const ERROR_BYTES_MAX: usize = 4096;

/// What hooks are told.
#[derive(Debug, Clone, Default)]
pub struct Told {
    /// Name of the source.
    pub source: String,
    /// What the run is for.
    pub class: String,
    /// `success`, `incomplete`, `failed` or `interrupted`; `None` as long as it is not known.
    pub outcome: Option<&'static str>,
    /// The snapshot, if one was made.
    pub snapshot: Option<String>,
    /// Why there is none.
    pub error: Option<String>,
}

impl Told {
    fn environment(&self) -> Vec<(&'static str, String)> {
        let mut environment =
            vec![("LIFEBOAT_SOURCE", self.source.clone()), ("LIFEBOAT_CLASS", self.class.clone())];
        let outcome = self.outcome.map(str::to_owned);
        // No variable of an environment can have a NUL byte in it.
        let error = self.error.as_ref().map(|error| cut(error).replace('\0', " "));
        let more = [
            ("LIFEBOAT_OUTCOME", outcome),
            ("LIFEBOAT_SNAPSHOT", self.snapshot.clone()),
            ("LIFEBOAT_ERROR", error),
        ];
        environment.extend(more.into_iter().filter_map(|(name, value)| Some((name, value?))));
        environment
    }
}

fn cut(text: &str) -> &str {
    let end = (0..=ERROR_BYTES_MAX.min(text.len())).rev().find(|end| text.is_char_boundary(*end));
    text.get(..end.unwrap_or(0)).unwrap_or_default()
}

/// Runs hooks one after the other; `when` says in messages which they are, as `before`. After one whose failure is an error, no other runs.
///
/// # Errors
/// Of a hook whose failure is an error; `Interrupted`.
pub fn run(hooks: &[Hook], when: &str, told: &Told, context: &Context) -> Result<()> {
    for hook in hooks {
        let Err(error) = run_one(hook, when, told, context) else { continue };
        let error = error.context(format_args!("the hook `{when}` of source {}", told.source));
        match hook.on_failure {
            _ if error.kind() == Kind::Interrupted => return Err(error),
            OnFailure::Error => return Err(error),
            OnFailure::Warn => context.report(Event::Warning(error.to_string())),
            OnFailure::Ignore => {}
        }
    }
    Ok(())
}

/// As [`run`], of hooks that run whatever happens: each of them, also when another failed. The first error is returned.
///
/// # Errors
/// As [`run`].
pub fn run_all(hooks: &[Hook], when: &str, told: &Told, context: &Context) -> Result<()> {
    let mut all = Ok(());
    for hook in hooks {
        let one = run(std::slice::from_ref(hook), when, told, context);
        all = all.and(one);
    }
    all
}

fn run_one(hook: &Hook, when: &str, told: &Told, context: &Context) -> Result<()> {
    context.check_stop()?;
    let until = Instant::now().checked_add(hook.timeout);
    let environment = told.environment();
    let run = Run { command: &hook.command, environment: &environment, ..Run::default() };
    let mut program = run.start()?;
    let finished = program.finish(until, context);
    let name = hook.command.first().map_or("", String::as_str);
    if finished.is_ok() {
        for line in program.words() {
            context.report(Event::Notice(format!("{when}: {name}: {line}")));
        }
    }
    finished.map_err(|e| match e.kind() {
        Kind::Interrupted => Error::interrupted(),
        _ => e,
    })
}

#[cfg(test)]
mod tests;
