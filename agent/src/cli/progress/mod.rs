//! Shows a running operation: a progress bar on a terminal, `status` objects with `--json`, now and then a line with `-v` off a
//! terminal; and everything it reports, as it happens.
//!
//! | module | job |
//! |---|---|
//! | `status` | how far it is, how fast, and when it will be done |
//! | `bar` | that on a terminal of any width |
//! | `ticker` | the thread that shows it |

mod bar;
mod status;
mod ticker;

use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use parking_lot::Mutex;
use serde_json::json;

use super::output::Output;
use super::text;
use crate::events::{Context, Event, Listener};
use crate::fs::size;
use crate::scan::ahead::Ahead;
use crate::snapshot::manifest::FileErrorKind;
use crate::tree::path_text;
use ticker::Ticker;

/// How many problems with files are listed; the rest is counted.
const FILE_ERRORS_LISTED_MAX: usize = 20;

/// What is shown of an operation besides bytes and files.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Work {
    /// Bytes are read, and some are new.
    Backup,
    /// Bytes are written.
    Restore,
    /// Bytes are read and compared.
    Check,
    /// Only what is reported is shown.
    Quiet,
}

impl Work {
    const fn verb(self) -> &'static str {
        match self {
            Self::Restore => "restored",
            Self::Backup | Self::Check | Self::Quiet => "read",
        }
    }
}

/// A running operation's display; ends when dropped.
pub struct Running {
    context: Context,
    reporter: Arc<Reporter>,
    output: Arc<Output>,
    ticker: Option<Ticker>,
}

impl Running {
    /// Begins to show an operation that `stop` ends. On a terminal, where nothing else tells how much there is to do, `ahead` is counted
    /// meanwhile.
    pub fn begin(output: &Arc<Output>, work: Work, stop: Arc<AtomicBool>, ahead: Option<Ahead>) -> Self {
        let reporter = Arc::new(Reporter::new(output.clone(), work));
        let context = Context::new(reporter.clone(), stop);
        let ticker = Ticker::start(output, work, &context, &reporter, ahead);
        Self { context, reporter, output: output.clone(), ticker }
    }

    /// What the operation is given.
    pub const fn context(&self) -> &Context {
        &self.context
    }

    /// Ends the display and lists what could not be read or restored as it is.
    pub fn end(mut self) {
        self.stop_ticker();
        self.reporter.list_file_errors();
    }

    fn stop_ticker(&mut self) {
        if let Some(ticker) = self.ticker.take() {
            ticker.stop();
        }
        self.output.set_bar(None);
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.stop_ticker();
    }
}

/// Prints events as they come in.
struct Reporter {
    output: Arc<Output>,
    work: Work,
    phase: Mutex<&'static str>,
    file_errors: Mutex<(Vec<String>, u64)>,
}

impl Reporter {
    fn new(output: Arc<Output>, work: Work) -> Self {
        Self { output, work, phase: Mutex::new("starting"), file_errors: Mutex::default() }
    }

    fn phase(&self) -> &'static str {
        *self.phase.lock()
    }

    fn file_error(&self, path: &[u8], kind: FileErrorKind, message: &str) {
        self.output.tap("error", format_args!("{}: {message}", path_text::display(path)));
        if self.output.json() {
            let object = json!({ "path": path_text::to_text(path), "kind": kind, "message": message });
            let _ = self.output.object("error", &object);
            return;
        }
        let mut errors = self.file_errors.lock();
        errors.1 += 1;
        if errors.0.len() < FILE_ERRORS_LISTED_MAX {
            errors.0.push(format!("  {}: {message}", path_text::display(path)));
        }
    }

    fn list_file_errors(&self) {
        let (mut lines, total) = std::mem::take(&mut *self.file_errors.lock());
        if total == 0 {
            return;
        }
        lines.sort_unstable();
        let paths = text::count(total, "path", "paths");
        self.output.warning(format_args!("{paths} could not be {} in full:", self.work.verb()));
        for line in &lines {
            self.output.complain(line);
        }
        let more = total - lines.len() as u64;
        if more > 0 {
            self.output.complain(format_args!("  … and {} more", text::grouped(more)));
        }
    }

    fn path(&self, action: &str, path: &[u8], bytes: u64) {
        if self.output.verbose() == 0 {
            return;
        }
        if self.output.json() {
            let object = json!({ "action": action, "path": path_text::to_text(path), "bytes": bytes });
            let _ = self.output.object("path", &object);
        } else {
            self.output.say(format_args!(
                "{action:<10} {:>10}  {}",
                size::human(bytes),
                path_text::display(path)
            ));
        }
    }
}

impl Listener for Reporter {
    fn event(&self, event: &Event) {
        match event {
            Event::Phase(phase) => {
                *self.phase.lock() = phase;
                self.output.say_verbose(format_args!("{phase} …"));
            }
            Event::Notice(text) => self.output.notice(text),
            Event::Warning(text) => self.output.warning(text),
            Event::FileError { path, kind, message } => self.file_error(path, *kind, message),
            Event::Damage(text) => self.output.damage(text),
            Event::Path { action, path, bytes } => self.path(action, path, *bytes),
            Event::LowSpace { place, words } => {
                self.output.tap("space", place);
                self.output.warning(format_args!("{place} is nearly full: {words}"));
            }
            Event::Checkpoint => {}
        }
    }
}
