//! What protects the machine by itself: the daemon, each source at its destinations, the channels that tell people. Of a configuration with sources.

use super::Findings;
use crate::Result;
use crate::cli::{protection, run};
use crate::ledger::Ledger;
use crate::notify::Queue;

pub(super) fn look(findings: &mut Findings<'_>) -> Result<()> {
    if findings.session.settings.sources.is_empty() {
        return Ok(());
    }
    daemon(findings)?;
    sources(findings)?;
    channels(findings)
}

fn daemon(findings: &mut Findings<'_>) -> Result<()> {
    match run::daemon_of(findings.session) {
        Ok(Some(socket)) => {
            findings.good("daemon", format_args!("it runs and answers at {}", socket.display()))
        }
        Ok(None) => findings.advice(
            "daemon",
            "none runs with this configuration: nothing is backed up by itself, unless a timer does it",
            "`systemctl enable --now lifeboat`, or `lifeboat-run@CLASS.timer` for those without the daemon.",
        ),
        Err(e) => findings.error("daemon", &e),
    }
}

fn sources(findings: &mut Findings<'_>) -> Result<()> {
    let protected = match protection::all(findings.session, None) {
        Ok(protected) => protected,
        Err(e) => return findings.error("sources", &e),
    };
    let now = findings.session.settings.clock.now();
    for each in &protected {
        let subject = format!("source {}", each.source());
        let text = each.words(now);
        if each.is_wrong() {
            let fix =
                format!("See `lifeboat runs --source {0}`; `lifeboat run {0}` tries at once.", each.source());
            findings.bad(&subject, text, &fix)?;
        } else if each.was_ever_good() {
            findings.good(&subject, text)?;
        } else {
            let fix = format!("`lifeboat run {}` makes the first backup now.", each.source());
            findings.advice(&subject, text, &fix)?;
        }
    }
    Ok(())
}

fn channels(findings: &mut Findings<'_>) -> Result<()> {
    let settings = &findings.session.settings;
    if settings.notify.channels.is_empty() {
        return findings.advice(
            "notifications",
            "there is no channel: nobody is told when a backup fails or is missing",
            "Write a [[notify.channel]]; `lifeboat config example` shows each kind, `lifeboat notify test` tries it.",
        );
    }
    let ledger = Ledger::open(&settings.directories.state);
    let states = ledger.and_then(|ledger| Queue::new(ledger.connection(), &settings.notify).channels());
    let states = match states {
        Ok(states) => states,
        Err(e) => return findings.error("notifications", &e),
    };
    for state in states {
        let subject = format!("channel {}", state.channel);
        match (state.error, state.last_sent) {
            (Some(error), _) => {
                findings.bad(
                    &subject,
                    error,
                    "`lifeboat notify test` tries it again and shows the answer.",
                )?;
            }
            (None, Some(at)) => {
                findings.good(
                    &subject,
                    format_args!("the last message arrived at {}", at.format("%Y-%m-%d %H:%M UTC")),
                )?;
            }
            (None, None) => {
                findings.advice(&subject, "nothing was ever sent by it", "Try it: lifeboat notify test")?;
            }
        }
    }
    Ok(())
}
