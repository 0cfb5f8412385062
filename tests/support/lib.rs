//! What the integration tests share.
//!
//! | module | job |
//! |---|---|
//! | [`random`] | numbers from a seed: every failure can be had again |
//! | [`grow`] | random trees and edits of them |
//! | [`seen`] | all that a restore should bring back of a tree, and comparing two |
//! | [`world`] | temporary sources, stores and machines; backing up and restoring in one line |
//! | [`objects`] | a store's objects as bytes: copy, damage, list |
//! | [`proof`] | whether a repository is whole, by reading all of it |
//! | [`binary`] | running the real binary |
//! | [`decoders`] | every entry point that takes stored or foreign bytes, for fuzzing |
//!
//! Everything here panics when something is not as it should be: it runs in tests only.

pub mod binary;
pub mod decoders;
pub mod grow;
pub mod objects;
pub mod proof;
pub mod random;
pub mod seen;
pub mod world;
