//! What is kept in this process's memory for a moment, encrypted under a key that never leaves it: AES-256-GCM (NIST SP
//! 800-38D), whose nonces are counted. Nothing of it is ever written anywhere; what is, is encrypted by [`crate::chunked`].

use std::sync::atomic::{AtomicU64, Ordering};

use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use zeroize::Zeroizing;

use crate::{CryptoError, random};

/// Bytes of a number, which stands before what was encrypted under it.
const NUMBER: usize = 8;

/// A key of this process. It is wiped when it is dropped.
pub struct Memory {
    key: LessSafeKey,
    next: AtomicU64,
}

impl std::fmt::Debug for Memory {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Memory(…)")
    }
}

fn nonce(number: [u8; NUMBER]) -> Nonce {
    let mut nonce = [0; NONCE_LEN];
    nonce[NONCE_LEN - NUMBER..].copy_from_slice(&number);
    Nonce::assume_unique_for_key(nonce)
}

impl Memory {
    /// A new one.
    ///
    /// # Errors
    /// [`CryptoError::System`].
    pub fn new() -> Result<Self, CryptoError> {
        let bytes = Zeroizing::new(random::<32>()?);
        let key = UnboundKey::new(&AES_256_GCM, &bytes[..]).map_err(|_| CryptoError::System)?;
        Ok(Self {
            key: LessSafeKey::new(key),
            next: AtomicU64::new(0),
        })
    }

    /// Encrypts a text.
    ///
    /// # Errors
    /// [`CryptoError::System`].
    pub fn seal(&self, plain: &[u8]) -> Result<Vec<u8>, CryptoError> {
        let number = self.next.fetch_add(1, Ordering::Relaxed).to_be_bytes();
        let mut sealed = Vec::with_capacity(NUMBER + plain.len() + AES_256_GCM.tag_len());
        sealed.extend_from_slice(&number);
        sealed.extend_from_slice(plain);
        let tag =
            self.key
                .seal_in_place_separate_tag(nonce(number), Aad::empty(), &mut sealed[NUMBER..]);
        let tag = tag.map_err(|_| CryptoError::System)?;
        sealed.extend_from_slice(tag.as_ref());
        Ok(sealed)
    }

    /// Decrypts what [`Memory::seal`] gave.
    ///
    /// # Errors
    /// [`CryptoError::Damaged`].
    pub fn open(&self, sealed: &[u8]) -> Result<Zeroizing<Vec<u8>>, CryptoError> {
        let damaged = || CryptoError::Damaged;
        let (number, text) = sealed.split_first_chunk::<NUMBER>().ok_or_else(damaged)?;
        let mut plain = Zeroizing::new(text.to_vec());
        let opened = self
            .key
            .open_in_place(nonce(*number), Aad::empty(), &mut plain);
        let length = opened.map_err(|_| damaged())?.len();
        plain.truncate(length);
        Ok(plain)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_kept_opens_under_its_key_and_as_it_is() {
        let memory = Memory::new().unwrap();
        for plain in [&b""[..], b"a value", &[7; 10_000]] {
            let sealed = memory.seal(plain).unwrap();
            assert_eq!(&memory.open(&sealed).unwrap()[..], plain);
            let again = memory.seal(plain).unwrap();
            assert_ne!(sealed, again, "a nonce came twice");
            let other = Memory::new().unwrap();
            assert!(other.open(&sealed).is_err());
            for at in 0..sealed.len().min(40) {
                let mut damaged = sealed.clone();
                damaged[at] ^= 1;
                assert!(memory.open(&damaged).is_err(), "byte {at}");
            }
        }
        assert!(memory.open(b"short").is_err());
    }
}
