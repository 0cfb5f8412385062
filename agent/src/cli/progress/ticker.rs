//! The thread that shows a running operation now and then.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{RecvTimeoutError, SyncSender, sync_channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use super::bar::Frame;
use super::status::{Rate, Speed, Status};
use super::{Reporter, Work};
use crate::cli::output::Output;
use crate::cli::terminal;
use crate::events::Context;
use crate::scan::ahead::Ahead;
use crate::tree::path_text;

const DRAW_INTERVAL: Duration = Duration::from_millis(150);
const DRAWS_A_SECOND: u8 = 8;
const STATUS_INTERVAL: Duration = Duration::from_secs(1);
const LINE_INTERVAL: Duration = Duration::from_secs(30);
/// What a terminal is taken for that does not say how wide it is.
const USUAL_COLUMNS: usize = 80;

/// The thread, and how to end it.
pub(super) struct Ticker {
    stop: SyncSender<()>,
    thread: JoinHandle<()>,
}

/// How a status is shown.
enum Display {
    Bar(ProgressBar),
    Objects,
    Lines,
}

impl Display {
    fn choose(output: &Output) -> Option<Self> {
        if output.json() {
            return Some(Self::Objects);
        }
        if output.draws_progress() {
            let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr_with_hz(DRAWS_A_SECOND));
            // A constant; one with an error would show as the plain bar.
            bar.set_style(
                ProgressStyle::with_template("{msg}").unwrap_or_else(|_| ProgressStyle::default_bar()),
            );
            output.set_bar(Some(bar.clone()));
            return Some(Self::Bar(bar));
        }
        (output.verbose() > 0 && !output.quiet()).then_some(Self::Lines)
    }

    const fn interval(&self) -> Duration {
        match self {
            Self::Bar(_) => DRAW_INTERVAL,
            Self::Objects => STATUS_INTERVAL,
            Self::Lines => LINE_INTERVAL,
        }
    }
}

impl Ticker {
    /// Starts it, if there is anybody to show anything to.
    pub(super) fn start(
        output: &Arc<Output>,
        work: Work,
        context: &Context,
        reporter: &Arc<Reporter>,
        ahead: Option<Ahead>,
    ) -> Option<Self> {
        if work == Work::Quiet {
            return None;
        }
        let display = Display::choose(output)?;
        let (stop, stopped) = sync_channel::<()>(0);
        let (output, context, reporter) = (output.clone(), context.clone(), reporter.clone());
        // A log that nobody may ever read is not worth the time.
        let ahead = ahead.filter(|_| matches!(display, Display::Bar(_)));
        let mut count = Count { ahead, thread: None, over: Arc::default() };
        let tick = move || {
            let started = Instant::now();
            let (mut moved, mut done) = (Rate::new(), Rate::new());
            while stopped.recv_timeout(display.interval()) == Err(RecvTimeoutError::Timeout) {
                let mut status = Status::of(&context.counters, started.elapsed());
                status.speed =
                    Speed { moved: moved.update(status.bytes_moved()), done: done.update(status.bytes) };
                count.start_if_nothing_tells(&status, &context);
                let current = context.current();
                match &display {
                    Display::Objects => {
                        // A listener that went away ends nothing that is worth finishing.
                        let object = status.json(reporter.phase(), &current);
                        let _ = output.object("status", &object).and_then(|()| output.flush());
                    }
                    Display::Lines => {
                        output.say(format_args!("{}: {}", reporter.phase(), status.line(work)));
                    }
                    Display::Bar(bar) => {
                        let (phase, note) = (reporter.phase(), count.note());
                        let current = path_text::display(&current);
                        draw(bar, &Frame { status: &status, work, phase, current: &current, note });
                    }
                }
            }
            if let Display::Bar(bar) = display {
                bar.finish_and_clear();
            }
            count.end();
        };
        let thread = std::thread::Builder::new().name("progress".to_owned()).spawn(tick).ok()?;
        Some(Self { stop, thread })
    }

    /// Ends it, and clears the terminal of what it drew.
    pub(super) fn stop(self) {
        drop(self.stop);
        let _ = self.thread.join();
    }
}

fn draw(bar: &ProgressBar, frame: &Frame<'_>) {
    // In the last column some terminals break the line already.
    let columns = terminal::stderr_columns().unwrap_or(USUAL_COLUMNS).saturating_sub(1);
    // Both at once, which draws once.
    bar.set_message(frame.lines(columns).join("\n"));
}

/// Counting what there is, where no earlier snapshot tells.
struct Count {
    ahead: Option<Ahead>,
    thread: Option<JoinHandle<()>>,
    over: Arc<AtomicBool>,
}

impl Count {
    /// Once bytes are read, whoever knows how many there will be has said so.
    fn start_if_nothing_tells(&mut self, status: &Status, context: &Context) {
        if status.bytes == 0 || status.bytes_total > 0 {
            return;
        }
        let Some(ahead) = self.ahead.take() else { return };
        let (over, context) = (self.over.clone(), context.clone());
        let count = move || {
            let stopped = || over.load(Ordering::Relaxed) || context.stopped();
            if let Some(found) = ahead.count(&stopped) {
                context.counters.files_total.store(found.files, Ordering::Relaxed);
                context.counters.bytes_total.store(found.bytes, Ordering::Relaxed);
            }
        };
        self.thread = std::thread::Builder::new().name("count".to_owned()).spawn(count).ok();
    }

    /// Why there is no end in sight.
    const fn note(&self) -> &'static str {
        if self.thread.is_some() { "first backup: size not known yet" } else { "" }
    }

    fn end(&mut self) {
        self.over.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}
