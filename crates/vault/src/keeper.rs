//! Who keeps a key that never leaves them: a token, a KMS. What the vault asks of one; the keepers themselves
//! are made elsewhere.
//!
//! A keeper is given a random key to encrypt, and what it gives back is kept in the row of the way in. That key
//! wraps the unlock key as a seal key does. So whatever a keeper answers is checked here: another key than the
//! one that was given opens nothing.

use std::fmt;

use async_trait::async_trait;
use skep_crypto::Key;

use crate::seal::SealKind;

/// Bytes that a keeper may make of a key.
pub(crate) const MOST_WRAPPED: usize = 16 << 10;

/// Somebody who encrypts and decrypts with a key of theirs that nobody else has.
///
/// A keeper answers within a time of its own choice, or says that it is [`KeeperError::Away`]; what it was asked
/// may be asked again. It never logs what it is given.
#[async_trait]
pub trait Keeper: fmt::Debug + Send + Sync {
    /// For which ways in it is.
    fn kind(&self) -> SealKind;

    /// Which key it is, as it stands in the row of a way in. A way in of another key is never asked for.
    fn key(&self) -> &str;

    /// Encrypts a key. Where the keeper can, the context is bound to it.
    ///
    /// # Errors
    /// [`KeeperError`].
    async fn wrap(&self, key: &Key, context: &str) -> Result<Vec<u8>, KeeperError>;

    /// Decrypts what [`Keeper::wrap`] gave.
    ///
    /// # Errors
    /// [`KeeperError`].
    async fn unwrap(&self, wrapped: &[u8], context: &str) -> Result<Key, KeeperError>;
}

/// Why a keeper gives no key. None says anything of a key or of a PIN.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum KeeperError {
    /// It cannot be reached, or gives no answer: later it may.
    #[error("{0}")]
    Away(String),
    /// It says no, and asking again changes nothing, or does harm: wrong PINs are counted.
    #[error("{0}")]
    Refused(String),
    /// It gave a key, which is not the one that was wrapped.
    #[error("what `{0}` gave does not open the vault: the stored seal was changed, or its answer")]
    Wrong(String),
}

impl KeeperError {
    /// Whether the same may succeed later by itself.
    #[must_use]
    pub const fn is_passing(&self) -> bool {
        matches!(self, Self::Away(_))
    }
}
