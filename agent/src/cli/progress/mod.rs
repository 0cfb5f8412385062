//! Shows a running operation: a progress line on a terminal, `status` objects with `--json`, now and then a line with `-v` off a
//! terminal; and everything it reports, as it happens.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::sync::mpsc::{RecvTimeoutError, SyncSender, sync_channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use parking_lot::Mutex;
use serde_json::{Value, json};

use super::output::Output;
use super::text;
use crate::events::{Context, Counters, Event, Listener};
use crate::fs::size;
use crate::snapshot::manifest::FileErrorKind;
use crate::tree::path_text;

/// How many problems with files are listed; the rest is counted.
const FILE_ERRORS_LISTED_MAX: usize = 20;
const DRAW_INTERVAL: Duration = Duration::from_millis(150);
const DRAWS_A_SECOND: u8 = 8;
const STATUS_INTERVAL: Duration = Duration::from_secs(1);
const LINE_INTERVAL: Duration = Duration::from_secs(30);
/// The rate is that of about this long.
const RATE_WINDOW: Duration = Duration::from_secs(8);
const NARROW_COLUMNS: usize = 80;

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
    ticker: Option<(SyncSender<()>, JoinHandle<()>)>,
}

impl Running {
    /// Begins to show an operation that `stop` ends.
    pub fn begin(output: &Arc<Output>, work: Work, stop: Arc<AtomicBool>) -> Self {
        let reporter = Arc::new(Reporter::new(output.clone(), work));
        let context = Context::new(reporter.clone(), stop);
        let ticker = start_ticker(output, work, &context, &reporter);
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
        if let Some((stop, thread)) = self.ticker.take() {
            drop(stop);
            let _ = thread.join();
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
            Event::Checkpoint => {}
        }
    }
}

/// What is known of an operation at one instant.
#[derive(Debug, Clone, Copy)]
struct Status {
    files: u64,
    files_total: u64,
    bytes: u64,
    bytes_passed: u64,
    bytes_total: u64,
    bytes_added: u64,
    bytes_stored: u64,
    errors: u64,
}

impl Status {
    fn of(counters: &Counters) -> Self {
        let get = Counters::get;
        Self {
            files: get(&counters.files),
            files_total: get(&counters.files_total),
            bytes: get(&counters.bytes),
            bytes_passed: get(&counters.bytes_passed),
            bytes_total: get(&counters.bytes_total),
            bytes_added: get(&counters.bytes_added),
            bytes_stored: get(&counters.bytes_stored),
            errors: get(&counters.errors),
        }
    }

    /// Bytes that were read or written.
    const fn bytes_moved(&self) -> u64 {
        self.bytes.saturating_sub(self.bytes_passed)
    }

    fn json(&self, phase: &str, elapsed: Duration, speed: Speed, current: &[u8]) -> Value {
        let total = |total: u64| (total > 0).then_some(total);
        json!({
            "phase": phase,
            "seconds_elapsed": elapsed.as_secs(),
            "seconds_remaining": self.seconds_left(speed),
            "files_done": self.files,
            "files_total": total(self.files_total),
            "bytes_done": self.bytes,
            "bytes_total": total(self.bytes_total),
            "bytes_per_second": speed.moved as u64,
            "bytes_added": self.bytes_added,
            "bytes_stored": self.bytes_stored,
            "errors": self.errors,
            "current": (!current.is_empty()).then(|| path_text::to_text(current)),
        })
    }

    fn seconds_left(&self, speed: Speed) -> Option<u64> {
        let left = self.bytes_total.checked_sub(self.bytes).filter(|_| self.bytes_total > 0)?;
        (speed.done >= 1.0).then_some((left as f64 / speed.done) as u64)
    }

    /// The numbers: `1.2 GiB of 3.4 GiB · 120.0 MiB/s · 20 s left · 12,345 files · 300.0 MiB new`.
    fn line(&self, work: Work, elapsed: Duration, speed: Speed) -> String {
        let mut parts = vec![text::duration(elapsed.as_secs() as f64)];
        parts.push(match self.bytes_total {
            0 => size::human(self.bytes),
            total => format!("{} of {}", size::human(self.bytes), size::human(total.max(self.bytes))),
        });
        parts.push(format!("{}/s", size::human(speed.moved as u64)));
        if let Some(seconds) = self.seconds_left(speed) {
            parts.push(format!("{} left", text::coarse(seconds)));
        }
        if self.files > 0 {
            parts.push(text::count(self.files, "file", "files"));
        }
        if work == Work::Backup {
            parts.push(format!("{} new", size::human(self.bytes_added)));
        }
        if self.errors > 0 {
            parts.push(text::count(self.errors, "error", "errors"));
        }
        parts.join(" · ")
    }
}

/// Bytes a second.
#[derive(Debug, Clone, Copy)]
struct Speed {
    /// Of bytes that are read or written: what is shown.
    moved: f64,
    /// Of bytes that are dealt with, also those that need not be read: when the end is reached.
    done: f64,
}

/// The rate over the last seconds.
#[derive(Debug)]
struct Rate {
    samples: std::collections::VecDeque<(Instant, u64)>,
}

impl Rate {
    fn new() -> Self {
        Self { samples: std::collections::VecDeque::from([(Instant::now(), 0)]) }
    }

    fn update(&mut self, bytes: u64) -> f64 {
        let now = Instant::now();
        self.samples.push_back((now, bytes));
        while self.samples.len() > 2 && self.samples.get(1).is_some_and(|(at, _)| now - *at > RATE_WINDOW) {
            self.samples.pop_front();
        }
        let Some((since, before)) = self.samples.front() else { return 0.0 };
        let seconds = (now - *since).as_secs_f64();
        if seconds > 0.0 { bytes.saturating_sub(*before) as f64 / seconds } else { 0.0 }
    }
}

/// How the ticker shows a status.
enum Display {
    Bar(ProgressBar),
    Objects,
    Lines,
}

impl Display {
    const fn interval(&self) -> Duration {
        match self {
            Self::Bar(_) => DRAW_INTERVAL,
            Self::Objects => STATUS_INTERVAL,
            Self::Lines => LINE_INTERVAL,
        }
    }
}

fn choose_display(output: &Output) -> Option<Display> {
    if output.json() {
        return Some(Display::Objects);
    }
    if output.draws_progress() {
        let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr_with_hz(DRAWS_A_SECOND));
        bar.set_style(style("{wide_msg}\n  {prefix}"));
        output.set_bar(Some(bar.clone()));
        return Some(Display::Bar(bar));
    }
    (output.verbose() > 0 && !output.quiet()).then_some(Display::Lines)
}

/// The templates are constants; one with an error would show as the plain bar.
fn style(template: &str) -> ProgressStyle {
    ProgressStyle::with_template(template)
        .unwrap_or_else(|_| ProgressStyle::default_bar())
        .progress_chars("━━╌")
}

fn start_ticker(
    output: &Arc<Output>,
    work: Work,
    context: &Context,
    reporter: &Arc<Reporter>,
) -> Option<(SyncSender<()>, JoinHandle<()>)> {
    if work == Work::Quiet {
        return None;
    }
    let display = choose_display(output)?;
    let (stop, stopped) = sync_channel::<()>(0);
    let (output, context, reporter) = (output.clone(), context.clone(), reporter.clone());
    let tick = move || {
        let started = Instant::now();
        let (mut moved, mut done) = (Rate::new(), Rate::new());
        while stopped.recv_timeout(display.interval()) == Err(RecvTimeoutError::Timeout) {
            let status = Status::of(&context.counters);
            let speed = Speed { moved: moved.update(status.bytes_moved()), done: done.update(status.bytes) };
            let shown = Shown { status, speed, elapsed: started.elapsed(), phase: reporter.phase(), work };
            shown.show(&display, &output, &context.current());
        }
        if let Display::Bar(bar) = display {
            bar.finish_and_clear();
        }
    };
    let thread = std::thread::Builder::new().name("progress".to_owned()).spawn(tick).ok()?;
    Some((stop, thread))
}

/// One status as shown.
struct Shown {
    status: Status,
    speed: Speed,
    elapsed: Duration,
    phase: &'static str,
    work: Work,
}

impl Shown {
    fn show(&self, display: &Display, output: &Output, current: &[u8]) {
        match display {
            Display::Objects => {
                let object = self.status.json(self.phase, self.elapsed, self.speed, current);
                // A listener that went away ends nothing that is worth finishing.
                let _ = output.object("status", &object).and_then(|()| output.flush());
            }
            Display::Lines => output.say(format_args!("{}: {}", self.phase, self.line())),
            Display::Bar(bar) => self.draw(bar, current),
        }
    }

    fn draw(&self, bar: &ProgressBar, current: &[u8]) {
        let columns = super::terminal::stderr_columns().unwrap_or(NARROW_COLUMNS);
        let (bytes, total) = (self.status.bytes, self.status.bytes_total);
        if total > 0 && bar.length() != Some(total) {
            bar.set_style(style("{bar:16} {percent:>3}%  {wide_msg}\n  {prefix}"));
            bar.set_length(total);
        }
        bar.set_position(if total > 0 { bytes.min(total) } else { bytes });
        let path = path_text::display(current);
        let below = if path.is_empty() { self.phase.to_owned() } else { path };
        bar.set_prefix(text::shorten(&below, columns.saturating_sub(4)));
        bar.set_message(self.line());
        bar.tick();
    }

    fn line(&self) -> String {
        self.status.line(self.work, self.elapsed, self.speed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_need_not_be_read_brings_the_end_nearer_and_says_nothing_of_the_speed() {
        let counters = Counters::default();
        counters.pass(3 << 30);
        Counters::add(&counters.bytes, 1 << 20);
        counters.bytes_total.store(4 << 30, std::sync::atomic::Ordering::Relaxed);
        let status = Status::of(&counters);
        assert_eq!((status.bytes, status.bytes_moved()), ((3 << 30) + (1 << 20), 1 << 20));
        let speed = Speed { moved: f64::from(1 << 20), done: f64::from(1 << 30) };
        let line = status.line(Work::Backup, Duration::from_secs(3), speed);
        assert!(line.contains("3.0 GiB of 4.0 GiB · 1.0 MiB/s · 0 s left"), "{line}");
    }
}
