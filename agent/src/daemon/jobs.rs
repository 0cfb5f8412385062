//! Begins jobs, hears what they say, notes how they end, and ends those that do not come on.

use std::process::ExitStatus;
use std::time::{Duration, Instant};

use serde_json::Value;

use super::child::{self, Running};
use super::dues::DueJob;
use super::queue::Ticket;
use super::{Daemon, Level, name};
use crate::Kind;
use crate::ledger::{Ended, Job, JobKind, Numbers, RunResult, Trigger};
use crate::notify::{Event, EventKind};

/// Jobs that were asked to stop are ended at once after that.
const STOP_WITHIN: Duration = Duration::from_secs(30);
/// A job that has not come on for so long is ended.
const STALLED_AFTER: Duration = Duration::from_secs(12 * 3600);

/// A job at work.
pub(super) struct AtWork {
    running: Running,
    came_on: Instant,
    progress: String,
    /// It has said something: what it tells of its beginning waits to be delivered.
    has_begun: bool,
    /// It has said what it came to.
    has_told: bool,
    /// The last that it said besides.
    words: String,
    /// It was asked to stop, because it did not come on.
    stopped: Option<Instant>,
}

impl AtWork {
    pub(super) const fn job(&self) -> &Job {
        &self.running.waiting.job
    }

    pub(super) const fn running(&self) -> &Running {
        &self.running
    }
}

impl Daemon<'_> {
    pub(super) fn start_what_may(&mut self) {
        while let Some(waiting) = self.queue.take() {
            let (ticket, job) = (waiting.ticket, waiting.job.clone());
            if let Some(source) = &job.source {
                let now = self.now();
                self.changes.started(&self.settings, source, now);
            }
            match child::start(&self.program, waiting.clone(), &self.sender) {
                Ok(running) => {
                    self.requests.started(ticket, &job);
                    let at_work = AtWork {
                        running,
                        came_on: Instant::now(),
                        progress: String::new(),
                        has_begun: false,
                        has_told: false,
                        words: String::new(),
                        stopped: None,
                    };
                    self.running.insert(ticket, at_work);
                }
                Err(e) => {
                    self.queue.ended(ticket);
                    self.report_lost(&job, &e.in_full());
                    let now = self.now();
                    let due = DueJob { job, due: waiting.due, priority: 0 };
                    self.dues.ended(&self.ledger, &due, false, false, now);
                    self.requests.ended(ticket, e.kind().exit_code());
                }
            }
        }
    }

    /// A line that a job has printed: passed on to who asked for it, and said if it matters.
    pub(super) fn line(&mut self, ticket: Ticket, line: &str) {
        let Some(at_work) = self.running.get_mut(&ticket) else { return };
        if !std::mem::replace(&mut at_work.has_begun, true) {
            self.alerts.wake();
        }
        let parsed: Value = serde_json::from_str(line).unwrap_or_default();
        let field = |name: &str| parsed.get(name).and_then(Value::as_str).unwrap_or_default();
        let kind = field("message_type");
        // A status counts as progress only when it differs from the last: another thread prints it, whatever the job does.
        if kind != "status" || at_work.progress != progress_of(&parsed) {
            at_work.came_on = Instant::now();
        }
        let who = name(at_work.job());
        let mut stored = (String::new(), Vec::new());
        let said = match kind {
            "status" => {
                at_work.progress = progress_of(&parsed);
                None
            }
            "error" => Some((Level::Warning, format!("{who}: {}: {}", field("path"), field("message")))),
            "warning" | "damage" | "exit_error" => {
                field("message").clone_into(&mut at_work.words);
                Some((Level::Warning, format!("{who}: {}", field("message"))))
            }
            "run" => {
                at_work.has_told = true;
                let source = at_work.job().source.clone();
                stored = source.map(|source| (source, stored_at(&parsed))).unwrap_or_default();
                Some(outcome(&who, &parsed))
            }
            "" if !line.is_empty() => {
                line.clone_into(&mut at_work.words);
                Some((Level::Warning, format!("{who}: {line}")))
            }
            _ => None,
        };
        let now = self.now();
        let (source, destinations) = stored;
        self.stored.extend(destinations.into_iter().map(|destination| ((source.clone(), destination), now)));
        if let Some((level, text)) = said {
            self.say(level, &text);
        }
        self.requests.line(ticket, line);
    }

    pub(super) fn ended(&mut self, ticket: Ticket, status: Option<ExitStatus>) {
        let Some(at_work) = self.running.remove(&ticket) else { return };
        self.queue.ended(ticket);
        let code = status.and_then(|status| status.code()).and_then(|code| u8::try_from(code).ok());
        let now = self.now();
        let is_stopping = self.stopping.is_some();
        let job = at_work.job().clone();
        if code.is_none() {
            // It could not say so itself.
            let _ = self.ledger.end_lost(&job, now);
        }
        let lost = match (code, at_work.stopped) {
            _ if is_stopping => None,
            (_, Some(_)) => Some("it did not come on, and was stopped".to_owned()),
            (None, _) => Some("it was killed, and could not put in order what hooks had changed".to_owned()),
            (Some(130), _) => Some("it was stopped by somebody".to_owned()),
            (Some(_), None) if !at_work.has_told => Some(match at_work.words.as_str() {
                "" => "it ended without a word".to_owned(),
                words => words.to_owned(),
            }),
            _ => None,
        };
        if let Some(why) = lost {
            if code.is_some() && !at_work.has_told {
                self.note_lost(&job, code.unwrap_or(1), &why);
            }
            self.report_lost(&job, &why);
        }
        let good = matches!(code, Some(0 | 3));
        if let (Trigger::Change, Some(source), false, false) = (job.cause, &job.source, good, is_stopping) {
            self.changes.again(source, now);
        }
        let due = DueJob { job, due: at_work.running.waiting.due, priority: 0 };
        if let Some(why) = self.dues.ended(&self.ledger, &due, good, is_stopping && !good, now) {
            self.say(Level::Warning, &why);
        }
        self.requests.ended(ticket, code.unwrap_or(1));
        // What waited for this run to end is looked at again.
        self.looked_at = None;
        self.alerts.wake();
    }

    /// Notes a job that ended before it could note itself.
    fn note_lost(&self, job: &Job, exit_code: u8, why: &str) {
        // Another process is at it: its row is not to be touched.
        if exit_code == Kind::Locked.exit_code() {
            return;
        }
        let now = self.now();
        let ended = Ended {
            result: RunResult::Failed,
            exit_code,
            message: Some(why.to_owned()),
            hint: None,
            snapshot: None,
            numbers: Numbers::default(),
            destinations: Vec::new(),
        };
        let noted = self.ledger.begin(job, now).and_then(|id| self.ledger.end(id, job, &ended, now, now));
        if let Err(e) = noted {
            self.say(Level::Warning, &e.in_full());
        }
    }

    /// Says, and tells who wants to know, that a job was lost.
    fn report_lost(&self, job: &Job, why: &str) {
        let who = name(job);
        self.say(Level::Warning, &format!("{who}: {why}"));
        if job.kind != JobKind::Backup {
            return;
        }
        let now = self.now();
        let mut event = Event::new(EventKind::Failure, &self.settings.host, now, format!("{who} failed"));
        event.source.clone_from(&job.source);
        event.class.clone_from(&job.class);
        event.why = Some(why.to_owned());
        event.next_step = Some(format!(
            "It is tried again; `lifeboat run {}` tries at once.",
            job.source.as_deref().unwrap_or_default()
        ));
        self.report(vec![event]);
    }

    /// Ends jobs that do not come on, and those that do not stop.
    pub(super) fn look_after_jobs(&mut self) {
        if self.stopping.is_some_and(|since| since.elapsed() > STOP_WITHIN) {
            self.running.values().for_each(|at_work| at_work.running.kill());
        }
        for at_work in self.running.values_mut() {
            match at_work.stopped {
                Some(since) if since.elapsed() > STOP_WITHIN => at_work.running.kill(),
                None if at_work.came_on.elapsed() > STALLED_AFTER => {
                    at_work.stopped = Some(Instant::now());
                    at_work.running.stop();
                }
                _ => {}
            }
        }
    }
}

/// What a run came to, for the journal.
fn outcome(who: &str, run: &Value) -> (Level, String) {
    let text = |name: &str| run.get(name).and_then(Value::as_str);
    let result = text("result").unwrap_or("?");
    let why = text("message").map(|why| format!(": {why}")).unwrap_or_default();
    let number =
        run.get("run").and_then(Value::as_i64).map(|run| format!(" (run {run})")).unwrap_or_default();
    let level = if result == RunResult::Good.word() { Level::Info } else { Level::Warning };
    (level, format!("{who}: {result}{why}{number}"))
}

/// The destinations at which a run stored its snapshot.
fn stored_at(run: &Value) -> Vec<String> {
    let all = run.get("destinations").and_then(Value::as_array).into_iter().flatten();
    let stored = all.filter(|at| at.get("stored") == Some(&Value::Bool(true)));
    stored.filter_map(|at| at.get("destination")?.as_str().map(str::to_owned)).collect()
}

/// What of a status changes while a job comes on: see `cli/progress/status.rs`.
fn progress_of(status: &Value) -> String {
    let field = |name: &str| status.get(name).map(ToString::to_string).unwrap_or_default();
    ["bytes_done", "files_done", "bytes_stored", "phase"].map(field).join(" ")
}
