//! Which files are looked at.
//!
//! | module | job |
//! |---|---|
//! | [`exclude`] | what people leave out, by pattern, size or marker |

pub mod exclude;
