//! Fernet (github.com/fernet/spec), to read what an older program wrote and nothing else: Skep writes none.
//! Its key comes of a password by fewer rounds than are accepted anywhere else.

use std::num::NonZeroU32;

use aws_lc_rs::cipher::{AES_128, DecryptionContext, PaddedBlockDecryptingKey, UnboundCipherKey};
use aws_lc_rs::iv::FixedLength;
use aws_lc_rs::{hmac, pbkdf2};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE;
use zeroize::Zeroizing;

use crate::{CryptoError, Key};

/// Rounds of PBKDF2-HMAC-SHA-256 that the older program took.
const ROUNDS: NonZeroU32 = NonZeroU32::new(100_000).unwrap();
/// Bytes that a salt may have.
const SALT: std::ops::RangeInclusive<usize> = 8..=64;

const VERSION: u8 = 0x80;
const TIME: usize = 8;
const IV: usize = 16;
const BLOCK: usize = 16;
const TAG: usize = 32;
/// Half of a key authenticates, the other half encrypts.
const HALF: usize = 16;

/// The key of a password as the older program made it.
///
/// # Errors
/// [`CryptoError::Parameters`] for a salt that it never made.
pub fn key(password: &str, salt: &[u8]) -> Result<Key, CryptoError> {
    if !SALT.contains(&salt.len()) {
        return Err(CryptoError::Parameters);
    }
    let mut key = Zeroizing::new([0; 32]);
    let algorithm = pbkdf2::PBKDF2_HMAC_SHA256;
    pbkdf2::derive(algorithm, ROUNDS, salt, password.as_bytes(), &mut key[..]);
    Ok(Key(key))
}

/// Opens a token. The time in it is not looked at: what is kept in a file does not run out.
///
/// # Errors
/// [`CryptoError::Damaged`] when it is no token, [`CryptoError::WrongKey`] when it is not this key's, or was
/// changed: the two look the same.
pub fn open(key: &Key, token: &str) -> Result<Zeroizing<Vec<u8>>, CryptoError> {
    let bytes = URL_SAFE.decode(token).map_err(|_| CryptoError::Damaged)?;
    let body = bytes.len().checked_sub(TAG).ok_or(CryptoError::Truncated)?;
    let (signed, tag) = bytes.split_at(body);
    let (sign, encrypt) = key.0.split_at(HALF);
    hmac::verify(&hmac::Key::new(hmac::HMAC_SHA256, sign), signed, tag)
        .map_err(|_| CryptoError::WrongKey)?;
    let text = signed.strip_prefix(&[VERSION]);
    let text = text.and_then(|rest| rest.split_at_checked(TIME));
    let text = text.and_then(|(_, rest)| rest.split_at_checked(IV));
    let (iv, text) = text.ok_or(CryptoError::Damaged)?;
    if text.is_empty() || text.len() % BLOCK != 0 {
        return Err(CryptoError::Damaged);
    }
    let iv = FixedLength::try_from(iv).map_err(|_| CryptoError::Damaged)?;
    let mut out = Zeroizing::new(text.to_vec());
    let cipher = UnboundCipherKey::new(&AES_128, encrypt)
        .and_then(PaddedBlockDecryptingKey::cbc_pkcs7)
        .map_err(|_| CryptoError::System)?;
    let opened = cipher.decrypt(&mut out, DecryptionContext::Iv128(iv));
    let length = opened.map_err(|_| CryptoError::Damaged)?.len();
    out.truncate(length);
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The key and the token of the specification's `generate.json` and `verify.json`, which say `hello`.
    const SECRET: &str = "cw_0x689RpI-jtRR7oE8h_eQsKImvJapLeSbXpwF4e4=";
    const TOKEN: &str = "gAAAAAAdwJ6wAAECAwQFBgcICQoLDA0ODy021cpGVWKZ_eEwCGM4BLLF_5CV9dOPmrhuVUPgJobwOz7JcbmrR64jVmpU4IwqDA==";

    /// Those of the specification's `invalid.json` that are refused as they stand there. They are spelled as a
    /// draft had it, with the tag first, so that the others are made again below.
    const INVALID: [(&str, &str); 3] = [
        (
            "incorrect mac",
            "rn9hs9yS0GVWjk4hH822VIwQUWz-_WZWCLzsD7SgV2IAAAAAHcCesAABAgMEBQYHCAkKCwwNDg8tNtXKRlVimf3hMAhjOASy",
        ),
        (
            "too short",
            "91GVdgz7jmWR6vJiViEA4u-LhVMhCSr87INSeFwwkYAAAAAAHcCesAABAgMEBQYHCAkKCw==",
        ),
        (
            "invalid base64",
            "%%%%%%%%%%%j-ztUarjDIfllJBmLiBMjfcmZesHVIhcAAAAAHcCesAABAgMEBQYHCAkKCwwNDg8tNtXKRlVimf3hMAhjOASy",
        ),
    ];

    fn secret() -> Key {
        let bytes = URL_SAFE.decode(SECRET).unwrap();
        Key::from_bytes(bytes.try_into().unwrap())
    }

    /// A token of these parts, with the tag that belongs to them.
    fn token(version: u8, time: u64, iv: &[u8], text: &[u8]) -> String {
        let body = [&[version], &time.to_be_bytes()[..], iv, text].concat();
        let tag_key = hmac::Key::new(hmac::HMAC_SHA256, &secret().0[..HALF]);
        let tag = hmac::sign(&tag_key, &body);
        URL_SAFE.encode([&body[..], tag.as_ref()].concat())
    }

    #[test]
    fn the_specifications_token_opens() {
        assert_eq!(*open(&secret(), TOKEN).unwrap(), b"hello");
        let bytes = URL_SAFE.decode(TOKEN).unwrap();
        let (iv, text) = (&bytes[9..25], &bytes[25..bytes.len() - TAG]);
        assert_eq!(token(VERSION, 499_162_800, iv, text), TOKEN);
    }

    #[test]
    fn what_the_specification_refuses_is_refused() {
        for (why, token) in INVALID {
            assert!(open(&secret(), token).is_err(), "{why}");
        }
        // The others of `invalid.json` have a right tag, so they are made with one.
        let iv: Vec<u8> = (0..16).collect();
        let good = URL_SAFE.decode(TOKEN).unwrap()[25..41].to_vec();
        assert!(open(&secret(), &token(VERSION, 499_162_800, &iv, &good)).is_ok());
        let bad_padding = URL_SAFE.decode("da8eX2x5EZ6WQcaTrhAI3Q==").unwrap();
        let other_iv: Vec<u8> = iv.iter().map(|byte| byte ^ 0x75).collect();
        for (why, token) in [
            (
                "payload size not multiple of block size",
                token(VERSION, 499_162_800, &iv, &good[..15]),
            ),
            ("no payload", token(VERSION, 499_162_800, &iv, &[])),
            (
                "payload padding error",
                token(VERSION, 499_162_800, &iv, &bad_padding),
            ),
            (
                "incorrect IV (causes padding error)",
                token(VERSION, 499_162_800, &other_iv, &good),
            ),
            ("another version", token(0x81, 499_162_800, &iv, &good)),
        ] {
            let error = open(&secret(), &token).err();
            assert_eq!(error, Some(CryptoError::Damaged), "{why}");
        }
        // Two are about time, of which a file knows nothing.
        for time in [1_445_470_140, 499_162_800] {
            assert!(open(&secret(), &token(VERSION, time, &iv, &good)).is_ok());
        }
    }

    #[test]
    fn any_bit_of_a_token_counts() {
        let bytes = URL_SAFE.decode(TOKEN).unwrap();
        for bit in 0..bytes.len() * 8 {
            let mut flipped = bytes.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            let error = open(&secret(), &URL_SAFE.encode(&flipped)).err();
            assert_eq!(error, Some(CryptoError::WrongKey), "bit {bit}");
        }
        for length in 0..TOKEN.len() {
            assert!(open(&secret(), &TOKEN[..length]).is_err(), "{length}");
        }
    }

    #[test]
    fn a_passwords_key_is_the_older_programs() {
        // hashlib.pbkdf2_hmac("sha256", b"default-key", bytes(range(16)), 100_000)
        let salt: Vec<u8> = (0..16).collect();
        let key = key("default-key", &salt).unwrap();
        assert_eq!(URL_SAFE.encode(key.expose()), DEFAULT);
        assert_eq!(
            super::key("x", &[0; 7]).err(),
            Some(CryptoError::Parameters)
        );
        assert_eq!(
            super::key("x", &[0; 65]).err(),
            Some(CryptoError::Parameters)
        );
    }

    const DEFAULT: &str = "8Qy7Blo7X82RWrRn0VOq65qmf6aWnlUNZ-pX8I_e51M=";
}
