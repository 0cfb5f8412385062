//! The protocol of the collector (`docs/rfcs/0004-collector.md`) as a model, which stateright checks exhaustively: every order of steps, every
//! delay, a crash at every step.
//!
//! | module | what it has |
//! |---|---|
//! | [`world`] | objects of the store, processes, and what only the observer knows |
//! | [`guard`] | the rules of the protocol, each of which can be taken out |
//! | [`settings`] | who is at work on what: the smallest cases in which the known bugs show |
//! | [`writer`] | the steps of writers and of `forget` |
//! | [`collector`] | the steps of a collector |
//! | [`model`] | which actions there are, and what comes of them |
//! | [`judge`] | what must hold in every state |
//! | [`check`] | runs the checker and tells a schedule in words |
//!
//! A step is one request and what the process makes of its answer. Between any two steps of a process all others may do any number of theirs, so a
//! process that is delayed needs nothing of its own. One that dies may leave its last request, which takes effect later or never. With
//! conditional create a collector may fence anybody at any time: no clock is part of what keeps the protocol safe. Without it, a session
//! may be taken for over only if nothing of its process is left, or if it was suspended for the stale time (`FallsSilent`), which its own clock tells it
//! when it looks. Where listings lag, an object is listed from a step of its own on (`Appears`); a wait of the protocol lasts until all has appeared that was put
//! before it. Thirty days are: until nobody is left who was at work when they began ([`world::Step::WaitOut`]).
//!
//! What a crashed collector leaves is judged without exploring it: in every state all processes are killed and one collector runs alone
//! ([`judge::FREED`]).
//!
//! Not in it: several requests of one process at once, sessions of collectors (two that run at once are the harder case), forgetting of fences,
//! deletions that are denied, requests of several objects that are done in part.
//!
//! `cargo test -p lifeboat-collector-model` takes seconds; `--test guards -- --nocapture` shows the schedule of each bug, a step a line: the number of
//! the process in its setting, and what it does. `cargo test --release -p lifeboat-collector-model -- --ignored --nocapture` takes all processes at
//! once: up to ten million states a setting, minutes each.

pub mod check;
pub mod collector;
pub mod guard;
pub mod judge;
pub mod model;
pub mod settings;
pub mod world;
pub mod writer;
