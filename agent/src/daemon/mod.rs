//! The service: runs what is due, what changed and what is asked for, each as a process of its own, and says what is missing.
//!
//! | module | job |
//! |---|---|
//! | [`jobs`] | begins them, hears what they say, notes how they end |
//! | [`look`] | each minute: is the ledger still there, what is overdue |
//! | [`queue`] | what waits and what may run now |
//! | [`dues`] | which jobs are due |
//! | [`child`] | a job as a process |
//! | [`protocol`], [`socket`] | what the command line asks, and how |
//! | [`requests`] | who waits for which jobs |
//! | [`changes`] | sources that are backed up when they change |
//! | [`overdue`] | what has not been backed up for too long |
//! | [`alerts`] | notifications are delivered |
//! | [`figures`] | what monitoring is told |
//! | [`heart`] | what systemd is told |
//!
//! One thread decides; all others send it messages. It looks at the clock at least twice a minute: a machine may sleep, and its clock may be set. It
//! holds nothing that matters: killed at any moment, it goes on from the ledger, and without a ledger from what snapshots say.

pub mod alerts;
pub mod changes;
pub mod child;
pub mod dues;
pub mod figures;
mod heart;
mod jobs;
mod look;
pub mod overdue;
pub mod protocol;
pub mod queue;
mod requests;
pub mod socket;

use std::collections::HashMap;
use std::path::PathBuf;
use std::process::ExitStatus;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::time::{Duration, Instant};

use chrono::{DateTime, TimeDelta, Utc};

use crate::config::Settings;
use crate::ledger::{Job, JobKind, JobLock, Ledger, Trigger};
use crate::{Error, Kind, Result};

use alerts::Alerts;
use changes::Changes;
use child::Program;
use dues::Dues;
use heart::Heart;
use jobs::AtWork;
use protocol::Request;
use queue::{Queue, Ticket};
use requests::Requests;
pub use requests::worse;

/// The loop comes round at least that often, and not more often unless something happens.
const LOOK_EACH: Duration = Duration::from_secs(5);
const SPIN_MIN: Duration = Duration::from_millis(50);

/// What the main loop is told.
#[derive(Debug)]
pub enum Message {
    /// Somebody asks for something, and reads what is sent back.
    Request(Request, Sender<String>),
    /// A job has printed a line.
    Line(Ticket, String),
    /// A job has ended; how, if that is known.
    Ended(Ticket, Option<ExitStatus>),
    /// Something of this source changed.
    Changed(String),
    /// Something is to be said.
    Say(Level, String),
    /// The configuration is to be read anew.
    Reload,
    /// The end.
    Stop,
}

/// How much something matters.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Level {
    /// Worth a line.
    Info,
    /// Not as it should be.
    Warning,
}

/// A configuration that was read, and is not accepted yet.
#[derive(Debug)]
pub struct Loaded {
    /// The configuration, checked.
    pub settings: Settings,
    /// The program that runs jobs, with the place of the copy that they are given.
    pub program: Program,
    /// That copy now, and where it is to be; none where none could be written.
    pub copy: Option<(PathBuf, PathBuf)>,
}

impl Loaded {
    /// From now on jobs get it.
    ///
    /// # Errors
    /// If the copy cannot be put in its place.
    fn accept(self) -> Result<(Settings, Program)> {
        if let Some((now, place)) = &self.copy {
            std::fs::rename(now, place)
                .map_err(|e| Error::io(format_args!("cannot write {}", place.display()), e))?;
        }
        Ok((self.settings, self.program))
    }
}

/// Reads the configuration anew.
pub type Read<'a> = &'a dyn Fn() -> Result<Loaded>;
/// Where the daemon says what it does.
pub type Say<'a> = &'a dyn Fn(Level, &str);

/// The daemon at work.
struct Daemon<'a> {
    read: Read<'a>,
    say: Say<'a>,
    program: Program,
    settings: Arc<Settings>,
    ledger: Ledger,
    queue: Queue,
    dues: Dues,
    running: HashMap<Ticket, AtWork>,
    requests: Requests,
    changes: Changes,
    alerts: Alerts,
    figures: figures::Server,
    heart: Heart,
    sender: Sender<Message>,
    /// Since when sources that are overdue are about to be run.
    waits_since: HashMap<String, DateTime<Utc>>,
    /// What was stored where while this runs.
    stored: overdue::Stored,
    /// When the next job is due; now, before that was looked at.
    next_due: Option<DateTime<Utc>>,
    looked_at: Option<DateTime<Utc>>,
    stopping: Option<Instant>,
}

/// A channel to the main loop; for signal handlers, before [`run`].
pub fn messages() -> (Sender<Message>, Receiver<Message>) {
    channel()
}

/// Runs the daemon until it is told to stop.
///
/// # Errors
/// `Locked` if one is running already; `Usage` if nothing is to be protected; if the socket or the metrics' address cannot be had.
pub fn run(
    read: Read<'_>,
    say: Say<'_>,
    sender: Sender<Message>,
    messages: &Receiver<Message>,
) -> Result<()> {
    let loaded = read()?;
    let state = loaded.settings.directories.state.clone();
    let Some(_alone) = JobLock::try_take(&state, "daemon")? else {
        return Err(Error::new(Kind::Locked, format_args!("a daemon is running already with the state directory {}", state.display()))
            .with_hint("`lifeboat reload` makes it read its configuration anew; two daemons need two state directories (LIFEBOAT_STATE_DIR)."));
    };
    refuse_empty(&loaded.settings)?;
    let (settings, program) = loaded.accept()?;
    // Without it nothing can be asked for; what is due runs all the same.
    let socket = socket::Socket::listen(&settings.daemon.listens_at(&state), sender.clone());
    if let Err(e) = &socket {
        say(Level::Warning, &e.in_full());
    }
    let mut daemon = Daemon::begin(read, say, settings, program, sender)?;
    daemon.go(messages);
    Ok(())
}

fn refuse_empty(settings: &Settings) -> Result<()> {
    match settings.sources.is_empty() {
        false => Ok(()),
        true => Err(Error::usage("the configuration has no [[source]]: there is nothing to protect")
            .with_hint("`lifeboat config init` writes one, config.example.toml documents all of it.")),
    }
}

impl<'a> Daemon<'a> {
    fn begin(
        read: Read<'a>,
        say: Say<'a>,
        settings: Settings,
        program: Program,
        sender: Sender<Message>,
    ) -> Result<Self> {
        let settings = Arc::new(settings);
        let ledger = Ledger::open(&settings.directories.state).or_else(|e| {
            say(Level::Warning, &e.context("backups go on, and nothing of them is remembered").in_full());
            Ledger::in_memory()
        })?;
        let mut daemon = Self {
            queue: Queue::new(settings.daemon.parallel),
            dues: Dues::default(),
            running: HashMap::new(),
            requests: Requests::default(),
            changes: Changes::default(),
            alerts: Alerts::start(&settings, sender.clone())?,
            figures: figures::Server::default(),
            heart: Heart::default(),
            waits_since: HashMap::new(),
            stored: overdue::Stored::default(),
            next_due: Some(settings.clock.now()),
            looked_at: None,
            stopping: None,
            read,
            say,
            program,
            ledger,
            settings,
            sender,
        };
        daemon.begin_ledger();
        daemon.serve_figures();
        daemon.changes.watch(&daemon.settings, &daemon.sender);
        Ok(daemon)
    }

    /// What backups need no figures for goes on without them.
    fn serve_figures(&mut self) {
        if let Err(e) = self.figures.serve(&self.settings) {
            self.say(Level::Warning, &e.in_full());
        }
    }

    fn go(&mut self, messages: &Receiver<Message>) {
        let sources = self.settings.sources.len() as u64;
        self.say(Level::Info, &format!("protecting {}", crate::words::count(sources, "source", "sources")));
        self.heart.ready();
        while !self.is_over() {
            match messages.recv_timeout(self.wait()) {
                Ok(message) => {
                    self.on(message);
                    // All that came meanwhile, before anything is decided.
                    while let Ok(message) = messages.try_recv() {
                        self.on(message);
                    }
                }
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return,
            }
            if self.stopping.is_none() {
                self.queue_what_is_due();
                self.start_what_may();
                self.look_around();
            }
            self.look_after_jobs();
            self.tell();
        }
        self.alerts.finish();
    }

    fn is_over(&self) -> bool {
        self.stopping.is_some() && self.running.is_empty()
    }

    fn on(&mut self, message: Message) {
        match message {
            Message::Request(request, reply) => self.answer(request, reply),
            Message::Line(ticket, line) => self.line(ticket, &line),
            Message::Ended(ticket, status) => self.ended(ticket, status),
            Message::Changed(source) => {
                let now = self.now();
                self.changes.changed(&self.settings, &source, now);
            }
            Message::Say(level, text) => self.say(level, &text),
            Message::Reload => {
                // Said by it.
                let _ = self.reload();
            }
            Message::Stop => self.stop(),
        }
    }

    fn now(&self) -> DateTime<Utc> {
        self.settings.clock.now()
    }

    fn say(&self, level: Level, text: &str) {
        (self.say)(level, text);
    }

    /// How long nothing is to be done, if nothing happens.
    fn wait(&self) -> Duration {
        let now = self.now();
        let next = self.next_due.into_iter().chain(self.changes.next()).min();
        let left = next.map_or(TimeDelta::MAX, |next| next - now);
        // What is due and cannot begin yet is no reason to spin.
        self.settings.clock.wait_at_most(left).clamp(SPIN_MIN, LOOK_EACH)
    }

    fn queue_what_is_due(&mut self) {
        let now = self.now();
        for due in self.dues.now(&self.settings, &self.ledger, now) {
            if !self.queue.has(&due.job) {
                self.queue.push(due.job, due.due, due.priority, false);
            }
        }
        for source in self.changes.due(now) {
            let priority = self.settings.source(&source).map_or(0, |source| source.priority);
            let job = Job {
                kind: JobKind::Backup,
                source: Some(source),
                class: Some(changes::CLASS.to_owned()),
                cause: Trigger::Change,
            };
            self.queue.push(job, now, priority, false);
        }
    }

    fn answer(&mut self, request: Request, reply: Sender<String>) {
        let refuse = |error: &Error| {
            let _ = reply.send(protocol::refused(error));
        };
        match request {
            _ if self.stopping.is_some() => refuse(&Error::failed("the daemon is ending")),
            Request::Run { jobs, accept_shrink } => {
                if let Some(error) = jobs.iter().find_map(|job| self.unknown(job)) {
                    return refuse(&error);
                }
                let now = self.now();
                let mut tickets = Vec::new();
                for job in jobs {
                    let source = job.source.as_deref().and_then(|name| self.settings.source(name));
                    let priority = source.map_or(i32::MIN, |source| source.priority);
                    tickets.push((self.queue.push(job.clone(), now, priority, accept_shrink), job));
                }
                self.requests.wait(tickets, reply);
            }
            Request::Reload => match self.reload() {
                Ok(()) => {
                    let _ = reply.send(protocol::done(0));
                }
                Err(e) => refuse(&e),
            },
            Request::State => {
                let (waiting, running) = self.queue.len();
                let config = self.settings.config_path.as_ref().map(|path| path.display().to_string());
                let state = serde_json::json!({ "waiting": waiting, "running": running, "config": config, "version": env!("CARGO_PKG_VERSION") });
                let _ = reply.send(protocol::line("state", state));
                let _ = reply.send(protocol::done(0));
            }
        }
    }

    fn unknown(&self, job: &Job) -> Option<Error> {
        let source = job.source.as_deref()?;
        if self.settings.source(source).is_some() {
            return None;
        }
        Some(Error::usage(format_args!("the daemon knows no source {source}")).with_hint(
            "Was it added to the configuration after the daemon began? Then run `lifeboat reload`.",
        ))
    }

    fn reload(&mut self) -> Result<()> {
        self.heart.reloading();
        let loaded = (self.read)().and_then(|loaded| {
            refuse_empty(&loaded.settings)?;
            loaded.accept()
        });
        let outcome = match loaded {
            Ok((settings, program)) => {
                let moved = settings.daemon.listens_at(&settings.directories.state)
                    != self.settings.daemon.listens_at(&self.settings.directories.state);
                (self.settings, self.program) = (Arc::new(settings), program);
                let settings = self.settings.clone();
                self.queue.set_parallel(settings.daemon.parallel);
                let dropped = self
                    .queue
                    .retain(|job| job.source.as_deref().is_none_or(|name| settings.source(name).is_some()));
                self.requests.refuse_waiting(&dropped);
                self.changes.watch(&settings, &self.sender);
                self.alerts.set(&settings);
                self.forget_conditions();
                self.serve_figures();
                self.say(Level::Info, "the configuration was read anew");
                if moved {
                    self.say(
                        Level::Warning,
                        "another `[daemon] socket` is listened at after a restart of the daemon",
                    );
                }
                Ok(())
            }
            Err(e) => {
                let text = format!("the configuration is refused, and the old one stays: {}", e.in_full());
                self.say(Level::Warning, &text);
                Err(e)
            }
        };
        self.heart.ready();
        outcome
    }

    /// Nobody is reminded of what was taken out of the configuration.
    fn forget_conditions(&self) {
        let settings = &self.settings;
        let names = settings.destination_names();
        let is_known = |source: Option<&str>, destination: Option<&str>| {
            source.is_none_or(|name| settings.source(name).is_some())
                && destination.is_none_or(|name| names.iter().any(|known| known == name))
        };
        let queue = crate::notify::Queue::new(self.ledger.connection(), &settings.notify);
        if let Err(e) = queue.keep_only(is_known) {
            self.say(Level::Warning, &e.to_string());
        }
    }

    fn stop(&mut self) {
        if self.stopping.is_some() {
            self.running.values().for_each(|at_work| at_work.running().kill());
            return;
        }
        self.heart.stopping();
        self.stopping = Some(Instant::now());
        self.requests.refuse_waiting(&self.queue.retain(|_| false));
        if !self.running.is_empty() {
            self.say(Level::Info, "stopping: what was stored is kept, and used by the next run");
        }
        self.running.values().for_each(|at_work| at_work.running().stop());
    }

    fn tell(&mut self) {
        self.figures.alive();
        self.heart.beat();
        let (waiting, _) = self.queue.len();
        let mut names: Vec<String> = self.running.values().map(|at_work| name(at_work.job())).collect();
        names.sort_unstable();
        self.next_due = self.dues.next(&self.settings, &self.ledger, None, self.now());
        let text = match (names.as_slice(), self.next_due) {
            ([], Some(next)) => {
                format!("next run at {}", next.with_timezone(&chrono::Local).format("%Y-%m-%d %H:%M"))
            }
            ([], None) => "nothing is scheduled".to_owned(),
            (names, _) => format!("running {}; {waiting} waiting", names.join(", ")),
        };
        self.heart.say(text);
    }
}

/// What a job is called in a line.
pub fn name(job: &Job) -> String {
    match (&job.source, &job.class) {
        (Some(source), Some(class)) => format!("{source} ({class})"),
        (Some(source), None) => source.clone(),
        (None, _) => job.kind.word().to_owned(),
    }
}
