//! Which files are looked at.
//!
//! | module | job |
//! |---|---|
//! | [`ahead`] | how much there is, for whoever shows how far a backup is |
//! | [`caches`] | Lifeboat's own caches |
//! | [`exclude`] | what people leave out, by pattern, size or marker |
//! | `pattern` | one pattern with the syntax of .gitignore |

pub mod ahead;
pub mod caches;
pub mod exclude;
mod pattern;
