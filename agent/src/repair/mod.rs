//! Mending what is damaged, never deleting what can be saved.
//!
//! | module | job |
//! |---|---|
//! | [`index`](mod@index) | the index anew from the packs |
//! | [`rewrite`] | one snapshot's tree with holes and gaps in place of what is lost |
//! | [`snapshots`](mod@snapshots) | damaged snapshots once more, with all that can be saved |

pub mod index;
mod rewrite;
pub mod snapshots;

pub use index::{IndexRepair, IndexRepairOptions, index};
pub use snapshots::{SnapshotRepair, SnapshotRepairOptions, snapshots};
