//! The Google Drive provider against the double of Drive: the contract, and each trap of Drive's by itself.

mod contract;
mod interrupted;
mod names;
mod refusals;
mod scene;
pub(crate) mod sign_in;
