//! The protocol of the collector (`docs/rfcs/0004-collector.md`) as a model, checked exhaustively by stateright.

pub mod check;
pub mod collector;
pub mod guard;
pub mod judge;
pub mod model;
pub mod settings;
pub mod world;
pub mod writer;
