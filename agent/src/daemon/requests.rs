//! Who asked for which jobs and waits for them: gets their lines as they come, and at last the worst of their exit codes.

use std::collections::HashSet;
use std::sync::mpsc::Sender;

use serde_json::json;

use super::protocol;
use super::queue::{Ticket, Waiting};
use crate::ledger::Job;

/// All that wait.
#[derive(Debug, Default)]
pub struct Requests {
    open: Vec<Open>,
}

#[derive(Debug)]
struct Open {
    tickets: HashSet<Ticket>,
    worst: u8,
    reply: Sender<String>,
}

impl Requests {
    /// Somebody waits for these jobs.
    pub fn wait(&mut self, jobs: Vec<(Ticket, Job)>, reply: Sender<String>) {
        for (_, job) in &jobs {
            let _ = reply.send(protocol::line("queued", json!({ "job": job })));
        }
        let tickets = jobs.iter().map(|(ticket, _)| *ticket).collect();
        self.open.push(Open { tickets, worst: 0, reply });
        self.close_what_is_done();
    }

    /// A job has begun.
    pub fn started(&self, ticket: Ticket, job: &Job) {
        self.line(ticket, &protocol::line("started", json!({ "job": job })));
    }

    /// A job has printed a line.
    pub fn line(&self, ticket: Ticket, line: &str) {
        for open in self.open.iter().filter(|open| open.tickets.contains(&ticket)) {
            let _ = open.reply.send(line.to_owned());
        }
    }

    /// A job has ended.
    pub fn ended(&mut self, ticket: Ticket, exit_code: u8) {
        for open in &mut self.open {
            if open.tickets.remove(&ticket) {
                open.worst = worse(open.worst, exit_code);
            }
        }
        self.close_what_is_done();
    }

    /// These jobs will not be run.
    pub fn refuse_waiting(&mut self, waiting: &[Waiting]) {
        for waiting in waiting {
            self.ended(waiting.ticket, crate::Kind::Interrupted.exit_code());
        }
    }

    fn close_what_is_done(&mut self) {
        self.open.retain(|open| {
            let is_done = open.tickets.is_empty();
            if is_done {
                let _ = open.reply.send(protocol::done(open.worst));
            }
            !is_done
        });
    }
}

/// The worse of two exit codes: a failure is worse than something missing (3), and of two failures the first counts.
pub fn worse(one: u8, other: u8) -> u8 {
    match (one, other) {
        (0, other) => other,
        (3, other) if other != 0 => other,
        (one, _) => one,
    }
}
