//! Signatures of files (Ed25519): a key that signs, and the public key that says whose a signature is.

use std::fmt;
use std::str::FromStr;

use aws_lc_rs::signature::{ED25519, Ed25519KeyPair, KeyPair as _, UnparsedPublicKey};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use zeroize::Zeroizing;

use crate::{CryptoError, Key};

/// What a public key begins with.
pub const PUBLIC: &str = "skepsig1_";
/// What a file with a secret key begins with.
const SECRET: &str = "skepsig1_secret_";
/// Bytes of a signature.
pub const SIGNATURE: usize = 64;

/// Whose a signature is. Its text is `skepsig1_` and 43 characters of base64url.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Publisher([u8; 32]);

/// Who can sign. It is wiped when it is dropped, and never shown.
#[derive(Clone)]
pub struct SigningKey(Key);

impl SigningKey {
    /// A new one.
    ///
    /// # Errors
    /// [`CryptoError::System`].
    pub fn generate() -> Result<Self, CryptoError> {
        Key::random().map(Self)
    }

    fn pair(&self) -> Result<Ed25519KeyPair, CryptoError> {
        Ed25519KeyPair::from_seed_unchecked(&self.0.0[..]).map_err(|_| CryptoError::System)
    }

    /// What others know of it.
    ///
    /// # Errors
    /// [`CryptoError::System`].
    pub fn publisher(&self) -> Result<Publisher, CryptoError> {
        let pair = self.pair()?;
        let public = pair.public_key().as_ref().try_into();
        public.map(Publisher).map_err(|_| CryptoError::System)
    }

    /// Signs a text, which says itself what it is.
    ///
    /// # Errors
    /// [`CryptoError::System`].
    pub fn sign(&self, text: &[u8]) -> Result<[u8; SIGNATURE], CryptoError> {
        let signature = self.pair()?.sign(text);
        signature
            .as_ref()
            .try_into()
            .map_err(|_| CryptoError::System)
    }

    /// The key with these bytes, which must be uniformly random.
    #[must_use]
    pub const fn from_key(key: Key) -> Self {
        Self(key)
    }

    /// Its bytes, for a format that carries keys inside of what is encrypted.
    #[must_use]
    pub const fn to_key(&self) -> &Key {
        &self.0
    }

    /// It as a text, for a file that nobody else may read.
    #[must_use]
    pub fn reveal(&self) -> Zeroizing<String> {
        let text = Zeroizing::new(URL_SAFE_NO_PAD.encode(&self.0.0[..]));
        Zeroizing::new(format!("{SECRET}{}", *text))
    }

    /// The key of a text of [`SigningKey::reveal`].
    ///
    /// # Errors
    /// [`CryptoError::Damaged`].
    pub fn parse(text: &str) -> Result<Self, CryptoError> {
        let bytes = decode(text.trim(), SECRET)?;
        Ok(Self(Key(bytes)))
    }
}

fn decode(text: &str, prefix: &str) -> Result<Zeroizing<[u8; 32]>, CryptoError> {
    let text = text.strip_prefix(prefix).ok_or(CryptoError::Damaged)?;
    let bytes = URL_SAFE_NO_PAD.decode(text);
    let bytes = Zeroizing::new(bytes.map_err(|_| CryptoError::Damaged)?);
    let mut out = Zeroizing::new([0; 32]);
    if bytes.len() != out.len() {
        return Err(CryptoError::Damaged);
    }
    out.copy_from_slice(&bytes);
    Ok(out)
}

impl Publisher {
    /// Whether this publisher signed the text.
    #[must_use]
    pub fn signed(&self, text: &[u8], signature: &[u8]) -> bool {
        let key = UnparsedPublicKey::new(&ED25519, &self.0[..]);
        key.verify(text, signature).is_ok()
    }
}

impl fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SigningKey(…)")
    }
}

impl fmt::Display for Publisher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{PUBLIC}{}", URL_SAFE_NO_PAD.encode(self.0))
    }
}

impl fmt::Debug for Publisher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for Publisher {
    type Err = CryptoError;

    fn from_str(text: &str) -> Result<Self, CryptoError> {
        decode(text, PUBLIC).map(|bytes| Self(*bytes))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_signature_is_its_keys_and_its_texts() {
        let key = SigningKey::generate().unwrap();
        let publisher = key.publisher().unwrap();
        let signature = key.sign(b"hello").unwrap();
        assert!(publisher.signed(b"hello", &signature));
        assert!(!publisher.signed(b"hullo", &signature));
        let other = SigningKey::generate().unwrap();
        assert!(!other.publisher().unwrap().signed(b"hello", &signature));
        let again = SigningKey::parse(&key.reveal()).unwrap();
        assert_eq!(again.publisher().unwrap(), publisher);
        assert_eq!(publisher.to_string().parse(), Ok(publisher));
        assert!(SigningKey::parse(&publisher.to_string()).is_err());
        assert!(key.reveal().parse::<Publisher>().is_err());
        assert_eq!(format!("{key:?}"), "SigningKey(…)");
    }
}
