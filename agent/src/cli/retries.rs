//! Tells a person who waits that a store does not answer, and what it said: now and then, not at every attempt.

use std::sync::Arc;
use std::time::{Duration, Instant};

use lifeboat_providers::layer::retry::{RetryEvent, RetryNotify};
use parking_lot::Mutex;

use super::output::Output;

/// A short hitch is nobody's business.
const QUIET_FOR: Duration = Duration::from_secs(2);
/// Then it is said again after so long.
const AGAIN_AFTER: Duration = Duration::from_secs(30);
/// Failures that lie further apart have nothing to do with each other.
const SPELL: Duration = Duration::from_secs(120);

/// Failures of one store, one after the other.
struct Trouble {
    since: Instant,
    last: Instant,
    told: Option<Instant>,
}

/// A listener of the failed attempts at the store that is called `name`.
pub fn teller(output: &Arc<Output>, name: &str) -> RetryNotify {
    let (output, name) = (output.clone(), name.to_owned());
    let trouble: Mutex<Option<Trouble>> = Mutex::new(None);
    Arc::new(move |event: &RetryEvent<'_>| {
        // That it is given up is the error itself.
        let Some(delay) = event.delay else { return };
        output.say_verbose(format_args!(
            "{name}: attempt {} failed, the next one is made in {:.1} s: {}",
            event.attempt,
            delay.as_secs_f64(),
            event.error
        ));
        let now = Instant::now();
        let mut trouble = trouble.lock();
        let spell = match trouble.take() {
            Some(known) if now.duration_since(known.last) < SPELL => Trouble { last: now, ..known },
            _ => Trouble { since: now, last: now, told: None },
        };
        let is_due = match spell.told {
            None => now.duration_since(spell.since) >= QUIET_FOR || delay >= QUIET_FOR,
            Some(told) => now.duration_since(told) >= AGAIN_AFTER,
        };
        let told = if is_due { Some(now) } else { spell.told };
        *trouble = Some(Trouble { told, ..spell });
        drop(trouble);
        if is_due {
            output.notice(format_args!("{name}: {}: trying again", event.error));
        }
    })
}
