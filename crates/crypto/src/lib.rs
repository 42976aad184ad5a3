//! How Skep encrypts. What lives here does no I/O and keeps nothing: bytes and keys go
//! in, bytes come out.
//!
//! There is one construction for everything that is encrypted at rest, [`chunked`]; keys come from
//! passphrases by [`passphrase`]. What people and agents send each other is sealed by [`message`]; what a
//! program of others must open, too, by [`age`], and single values for SOPS by [`gcm`]. Files are signed by
//! [`signing`], and what is signed is spelled by [`canonical`]. What an older program wrote is read by [`fernet`].

pub mod age;
pub mod canonical;
pub mod chunked;
pub mod fernet;
pub mod gcm;
pub mod memory;
pub mod message;
pub mod passphrase;
pub mod signing;

use aws_lc_rs::{hkdf, hmac};
use zeroize::Zeroizing;

use crate::chunked::{Opener, Sealer};

/// Why something is not encrypted or not decrypted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum CryptoError {
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
    /// [`CryptoError::System`].
    pub fn random() -> Result<Self, CryptoError> {
        random().map(Self::from_bytes)
    }

    /// Another key that is made of this one for a purpose, from which this one cannot be found (HKDF-Expand
    /// with SHA-256, RFC 5869).
    ///
    /// # Errors
    /// [`CryptoError::System`].
    pub fn derive(&self, purpose: &str) -> Result<Self, CryptoError> {
        let prk = hkdf::Prk::new_less_safe(hkdf::HKDF_SHA256, &self.0[..]);
        let mut out = Zeroizing::new([0; 32]);
        let info = [purpose.as_bytes()];
        let okm = prk.expand(&info, hkdf::HKDF_SHA256);
        okm.and_then(|okm| okm.fill(&mut out[..]))
            .map_err(|_| CryptoError::System)?;
        Ok(Self(out))
    }

    /// Encrypts a text under this key; it opens under the same context only.
    ///
    /// # Errors
    /// [`CryptoError::System`].
    pub fn seal(&self, context: &[u8], plain: &[u8]) -> Result<Vec<u8>, CryptoError> {
        let chunks = plain.len() / chunked::CHUNK + 1;
        let mut out = Vec::with_capacity(chunked::HEADER + plain.len() + chunks * chunked::TAG);
        let mut sealer = Sealer::new(self, context, &mut out)?;
        sealer.push(plain, &mut out)?;
        sealer.finish(&mut out)?;
        Ok(out)
    }

    /// Decrypts what [`Key::seal`] gave.
    ///
    /// # Errors
    /// [`CryptoError`].
    pub fn open(&self, context: &[u8], sealed: &[u8]) -> Result<Zeroizing<Vec<u8>>, CryptoError> {
        // As long as it can get, with the tag of its last chunk: what is moved while it grows would not be wiped.
        let mut out = Zeroizing::new(Vec::with_capacity(sealed.len()));
        let mut opener = Opener::new(self.clone(), context);
        opener.push(sealed, &mut out)?;
        opener.finish(&mut out)?;
        Ok(out)
    }

    /// Encrypts another key under this one.
    ///
    /// # Errors
    /// [`CryptoError::System`].
    pub fn wrap(&self, context: &[u8], key: &Self) -> Result<Vec<u8>, CryptoError> {
        self.seal(context, &key.0[..])
    }

    /// Decrypts a key that [`Key::wrap`] encrypted.
    ///
    /// # Errors
    /// [`CryptoError`].
    pub fn unwrap(&self, context: &[u8], wrapped: &[u8]) -> Result<Self, CryptoError> {
        let opened = self.open(context, wrapped)?;
        let mut bytes = Zeroizing::new([0; 32]);
        if opened.len() != bytes.len() {
            return Err(CryptoError::Damaged);
        }
        bytes.copy_from_slice(&opened);
        Ok(Self(bytes))
    }

    /// Its bytes, for a format that carries keys inside of what is encrypted.
    #[must_use]
    pub fn expose(&self) -> &[u8; 32] {
        &self.0
    }

    /// HMAC-SHA-256 (RFC 2104) of a text under this key.
    #[must_use]
    pub fn mac(&self, text: &[u8]) -> [u8; 32] {
        let key = hmac::Key::new(hmac::HMAC_SHA256, &self.0[..]);
        let tag = hmac::sign(&key, text);
        let mut out = [0; 32];
        out.copy_from_slice(tag.as_ref());
        out
    }

    /// Whether two keys are the same; takes the same time wherever they differ.
    #[must_use]
    pub fn is(&self, other: &Self) -> bool {
        same(&self.0[..], &other.0[..])
    }

    /// What may lie in the open: only who has the key can make it again.
    ///
    /// # Errors
    /// [`CryptoError::System`].
    pub fn verifier(&self, purpose: &str) -> Result<[u8; 32], CryptoError> {
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
/// [`CryptoError::System`].
pub fn random<const N: usize>() -> Result<[u8; N], CryptoError> {
    let mut bytes = [0; N];
    aws_lc_rs::rand::fill(&mut bytes).map_err(|_| CryptoError::System)?;
    Ok(bytes)
}
