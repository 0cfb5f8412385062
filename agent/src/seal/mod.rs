//! Keys, and the only way bytes become fit to leave the machine.
//!
//! | module | job |
//! |---|---|
//! | [`keys`] | the master key and all that is derived from it |
//! | [`secret`] | secret keys and their printable text |
//! | [`slot`] | the master key wrapped under a passphrase or secret key |
//! | [`cipher`] | sealing and opening one box |
//! | [`header`] | the clear header of every sealed object, and its object key |
//! | [`object`] | [`SealedObject`], the only type the store accepts, and whole objects |

pub mod cipher;
pub mod header;
pub mod keys;
pub mod object;
mod second_opinion;
pub mod secret;
pub mod slot;

pub use cipher::{Cipher, ObjectCipher, Role};
pub use header::{HEADER_BYTES, Header, ObjectKind, RepositoryId};
pub use keys::{Keys, MasterKey};
pub use object::SealedObject;
pub use secret::SecretKey;
