//! Where keys lie that Skep does not keep itself: the keychain of the desktop ([`keychain`]), a token
//! ([`pkcs11()`]), a cloud's KMS ([`kms()`]).
//!
//! A keychain gives a text out: a seal key, a passphrase. The other two are a [`Keeper`] of the vault: their key
//! stays with them. Each of them may be slow or gone. So each is asked in a thread of its own, no longer than a
//! time that is said here, and never twice at once.

pub mod keychain;
mod kms;
mod pkcs11;
mod wait;

pub use kms::{kms, variable};
pub use pkcs11::{Pkcs11Key, pkcs11};
pub use skep_vault::keeper::{Keeper, KeeperError};

/// Why a key outside cannot be named so.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    /// It was left out of this program.
    #[error("this program was built without it: build it with `--features {0}`")]
    NotBuilt(&'static str),
    /// It is no name.
    #[error("{0}")]
    Invalid(String),
}
