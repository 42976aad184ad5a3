//! The vault: how Skep encrypts. What lives here does no I/O and keeps nothing: bytes and keys go
//! in, bytes come out.
//!
//! There is one construction for everything that is encrypted at rest, [`chunked`]; keys come from
//! passphrases by [`passphrase`]. What people and agents send each other is sealed by [`message`].

pub mod chunked;
pub mod message;
pub mod passphrase;

use aws_lc_rs::hkdf;
use zeroize::Zeroizing;

/// Why something is not encrypted or not decrypted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum VaultError {
    /// The key or the context is another one than it was encrypted with.
    #[error("the key is not the one that it was encrypted with")]
    WrongKey,
    /// It was changed, or it is no ciphertext.
    #[error("the ciphertext was changed")]
    Damaged,
    /// Its end is missing.
    #[error("the ciphertext is cut short")]
    Truncated,
    /// It is longer than the construction allows.
    #[error("the message is too long")]
    TooLong,
    /// The parameters of a passphrase's key are outside of what is accepted.
    #[error("the parameters for the passphrase's key are not acceptable")]
    Parameters,
    /// A passphrase is too short.
    #[error("a passphrase has at least {} characters", passphrase::SHORTEST)]
    ShortPassphrase,
    /// The system gave no random bytes, or no memory.
    #[error("the system gave no random bytes or no memory")]
    System,
}

/// A key of 256 bits. It is wiped when it is dropped, and never shown.
#[derive(Clone)]
pub struct Key(Zeroizing<[u8; 32]>);

impl Key {
    /// The key with these bytes, which must be uniformly random.
    #[must_use]
    pub fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(Zeroizing::new(bytes))
    }

    /// A new key.
    ///
    /// # Errors
    /// [`VaultError::System`].
    pub fn random() -> Result<Self, VaultError> {
        random().map(Self::from_bytes)
    }

    /// Another key that is made of this one for a purpose, from which this one cannot be found (HKDF-Expand
    /// with SHA-256, RFC 5869).
    ///
    /// # Errors
    /// [`VaultError::System`].
    pub fn derive(&self, purpose: &str) -> Result<Self, VaultError> {
        let prk = hkdf::Prk::new_less_safe(hkdf::HKDF_SHA256, &self.0[..]);
        let mut out = Zeroizing::new([0; 32]);
        let info = [purpose.as_bytes()];
        let okm = prk.expand(&info, hkdf::HKDF_SHA256);
        okm.and_then(|okm| okm.fill(&mut out[..]))
            .map_err(|_| VaultError::System)?;
        Ok(Self(out))
    }

    /// What may lie in the open: only who has the key can make it again.
    ///
    /// # Errors
    /// [`VaultError::System`].
    pub fn verifier(&self, purpose: &str) -> Result<[u8; 32], VaultError> {
        self.derive(purpose).map(|key| *key.0)
    }
}

/// Whether two texts of bytes are the same; takes the same time wherever they differ.
#[must_use]
pub fn same(one: &[u8], other: &[u8]) -> bool {
    aws_lc_rs::constant_time::verify_slices_are_equal(one, other).is_ok()
}

impl std::fmt::Debug for Key {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Key(…)")
    }
}

/// Random bytes.
///
/// # Errors
/// [`VaultError::System`].
pub fn random<const N: usize>() -> Result<[u8; N], VaultError> {
    let mut bytes = [0; N];
    aws_lc_rs::rand::fill(&mut bytes).map_err(|_| VaultError::System)?;
    Ok(bytes)
}
