//! Which files are looked at.
//!
//! | module | job |
//! |---|---|
//! | [`exclude`] | what people leave out, by pattern, size or marker |
//! | `pattern` | one pattern with the syntax of .gitignore |

pub mod exclude;
mod pattern;
