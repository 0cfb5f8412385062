//! What monitoring sees of this machine's backups: figures in Prometheus' text format, over HTTP or in a file, and whether the agent is well.
//!
//! | module | job |
//! |---|---|
//! | [`figures`] | what is told, as plain data |
//! | [`render`](mod@render) | figures as text, with the names that alert rules and dashboards use |
//! | [`textfile`] | that text in a file for node_exporter, where no agent runs all the time |
//! | [`health`] | whether the agent is alive and can work |
//! | [`server`] | `/metrics`, `/livez`, `/readyz`, `/healthz` |
//!
//! Labels are names of the configuration, never ids of snapshots or runs, whose number grows without end. All figures are told anew at each
//! request from what the ledger remembers, so that they survive a restart.

pub mod figures;
pub mod health;
pub mod render;
pub mod server;
pub mod textfile;

pub use figures::{BackupFigures, DestinationFigures, Figures, RunResult};
pub use health::{Check, Health, State};
pub use render::render;
pub use server::{Probe, Server};
