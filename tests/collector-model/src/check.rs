//! Runs the checker over a setting, and says what it found.

use std::fmt::Write as _;

use stateright::{Checker, HasDiscoveries, Model};

use crate::judge::{ACKNOWLEDGED, FREED, INDEX, SOMETIMES_ACKNOWLEDGED, SOMETIMES_DELETED, VISIBLE};
use crate::model::Action;
use crate::world::{Role, Setting};

/// Proves a setting: visits every state, and tells how many there are.
///
/// # Errors
/// The schedule that breaks a property, or the thing that should be able to happen and cannot.
pub fn prove(setting: &Setting) -> Result<usize, String> {
    let broken = [ACKNOWLEDGED, VISIBLE, INDEX, FREED];
    let checker =
        setting.clone().checker().finish_when(HasDiscoveries::AnyOf(broken.into())).spawn_bfs().join();
    for property in broken {
        if let Some(path) = checker.discovery(property) {
            return Err(told(setting, property, &path.into_actions()));
        }
    }
    let writes = |role: &Role| matches!(role, Role::Writer(way, _) if !way.repairs());
    let mut possible = vec![SOMETIMES_DELETED];
    if setting.roles.iter().any(writes) {
        possible.push(SOMETIMES_ACKNOWLEDGED);
    }
    match possible.into_iter().find(|possible| checker.discovery(possible).is_none()) {
        Some(never) => Err(format!("{}: it never happens that {never}", setting.name)),
        None => Ok(checker.unique_state_count()),
    }
}

/// The shortest schedule that breaks a property, a step a line after the first one, which counts them; `None` if it holds.
pub fn counterexample(setting: &Setting, property: &'static str) -> Option<String> {
    let checker =
        setting.clone().checker().finish_when(HasDiscoveries::AnyOf([property].into())).spawn_bfs().join();
    let path = checker.discovery(property)?;
    Some(told(setting, property, &path.into_actions()))
}

fn told(setting: &Setting, property: &str, actions: &[Action]) -> String {
    let mut text = format!("{}: not so after {} steps: {property}", setting.name, actions.len());
    for action in actions {
        // Writing to a string cannot fail.
        let _ = match action {
            Action::Does(who, step, 0) => write!(text, "\n  {who} {step:?}"),
            Action::Does(who, step, choice) => write!(text, "\n  {who} {step:?}, way {choice}"),
            Action::Dies(who, step) => write!(text, "\n  {who} dies before {step:?}"),
            Action::Lands(who, step) => write!(text, "\n  {who} is dead, but its {step:?} takes effect"),
            Action::IsLost(who, step) => write!(text, "\n  {who} is dead, and its {step:?} is lost"),
            Action::FallsSilent(who) => write!(text, "\n  {who} is suspended for the stale time"),
            Action::Appears(bit) => write!(text, "\n  object {bit} appears in listings"),
        };
    }
    text
}
