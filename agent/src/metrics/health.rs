//! Whether the agent is alive and can work, for those who start it again, and for people.

use serde::Serialize;

/// How the agent is.
///
/// Alive means that starting it again would help nothing: a destination that is away, or a backup that failed, is no reason. Ready means that
/// it has a configuration and a ledger, and takes work.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Health {
    /// Its own threads make progress.
    pub is_live: bool,
    /// It takes work.
    pub is_ready: bool,
    /// What was looked at, in the order in which it is shown.
    pub checks: Vec<Check>,
}

/// One thing that was looked at.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Check {
    /// What it is, as `ledger` or `destination offsite`.
    pub name: String,
    /// How it is.
    pub state: State,
    /// Why, where it is not well: the reason and the next step, without secrets.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub detail: Option<String>,
}

/// How something is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum State {
    /// As it should be.
    Ok,
    /// Somebody should look at it, but backups go on.
    Warning,
    /// Backups do not go on because of it.
    Failed,
}

/// The body of `/healthz`. Fields are only ever added.
#[derive(Serialize)]
struct Body<'a> {
    status: State,
    live: bool,
    ready: bool,
    checks: &'a [Check],
}

impl Check {
    /// Something that is as it should be.
    pub fn ok(name: impl Into<String>) -> Self {
        Self { name: name.into(), state: State::Ok, detail: None }
    }

    /// Something that is not.
    pub fn not_well(name: impl Into<String>, state: State, detail: impl Into<String>) -> Self {
        Self { name: name.into(), state, detail: Some(detail.into()) }
    }
}

impl Health {
    /// The worst of all that is known.
    pub fn state(&self) -> State {
        let own = if self.is_live && self.is_ready { State::Ok } else { State::Failed };
        self.checks.iter().map(|check| check.state).fold(own, State::max)
    }

    /// The body of `/healthz`: one JSON object with `status`, `live`, `ready` and the checks.
    ///
    /// # Errors
    /// None in practice: there is nothing in it that JSON cannot say.
    pub fn to_json(&self) -> Result<String, serde_json::Error> {
        let body =
            Body { status: self.state(), live: self.is_live, ready: self.is_ready, checks: &self.checks };
        serde_json::to_string(&body).map(|text| text + "\n")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_worst_counts() {
        let mut health = Health { is_live: true, is_ready: true, checks: vec![Check::ok("ledger")] };
        assert_eq!(health.state(), State::Ok);
        health.checks.push(Check::not_well("destination offsite", State::Warning, "no answer"));
        assert_eq!(health.state(), State::Warning);
        assert_eq!(
            health.to_json().unwrap(),
            "{\"status\":\"warning\",\"live\":true,\"ready\":true,\"checks\":[{\"name\":\"ledger\",\"state\":\"ok\"},\
             {\"name\":\"destination offsite\",\"state\":\"warning\",\"detail\":\"no answer\"}]}\n"
        );
        health.is_ready = false;
        assert_eq!(health.state(), State::Failed);
    }
}
