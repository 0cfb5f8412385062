//! Packs: the objects that hold chunks.
//!
//! | module | job |
//! |---|---|
//! | [`directory`] | which chunks a pack holds, and where |
//! | [`building`] | a pack that takes segments |
//! | [`segment`] | compressing, sealing and verifying one segment |
//! | [`reader`] | directories and segments of stored packs |

pub mod building;
pub mod directory;
pub mod reader;
pub mod segment;
