//! What systemd is told: ready, reloading, stopping, alive. Without systemd nothing is said to anybody.

use sd_notify::NotifyState;

/// Speaks to systemd.
#[derive(Debug, Default)]
pub struct Heart {
    said: String,
}

impl Heart {
    /// Everything is set up.
    pub fn ready(&self) {
        tell(&[NotifyState::Ready]);
    }

    /// The configuration is read anew; [`Heart::ready`] follows.
    pub fn reloading(&self) {
        match NotifyState::monotonic_usec_now() {
            Ok(now) => tell(&[NotifyState::Reloading, now]),
            Err(_) => tell(&[NotifyState::Reloading]),
        }
    }

    /// The end has begun.
    pub fn stopping(&self) {
        tell(&[NotifyState::Stopping]);
    }

    /// The main loop has come round once more, which is what the watchdog is to know.
    pub fn beat(&self) {
        tell(&[NotifyState::Watchdog]);
    }

    /// One line for `systemctl status`.
    pub fn say(&mut self, text: String) {
        if self.said != text {
            tell(&[NotifyState::Status(&text)]);
            self.said = text;
        }
    }
}

fn tell(states: &[NotifyState<'_>]) {
    // Nobody may be there to hear it.
    let _ = sd_notify::notify(states);
}
