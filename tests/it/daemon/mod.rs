//! The service as a real process: what is due runs, what was missed is caught up, what fails is tried again and told, and a kill loses nothing. The
//! clock is a file, so that days pass at once.

mod clock;
mod killed;
mod observed;
mod random;
mod requests;
mod service;
mod soak;
mod watched;
mod whole;
