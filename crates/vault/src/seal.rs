//! What opens the vault: a passphrase, a key in a file, the environment or a keychain, or a key that a token or
//! a KMS keeps.
//!
//! Each way in is a row with its kind, the parameters that are not secret, and the *unlock key* encrypted by
//! what the way in gives. There may be several (a key file for the server, a passphrase in a safe); any one
//! opens. Nothing opens a vault that somebody did not set up: there is no default key.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD_NO_PAD;
use serde::{Deserialize, Serialize};
use skep_core::Timestamp;
use skep_crypto::Key;
use skep_crypto::passphrase::{Passphrase, Recipe, SALT};
use zeroize::Zeroizing;

use crate::VaultError;
use crate::keeper::{Keeper, KeeperError, MOST_WRAPPED};
use crate::service::slow;

/// What the text of a seal key begins with.
pub const PREFIX: &str = "skep_seal_";
/// Ways into one vault.
pub const MOST_SEALS: usize = 16;
/// Bytes of a seal key.
const KEY: usize = 32;

/// A kind of way in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum SealKind {
    /// A key that is kept somewhere: a file, a variable of the environment.
    Key,
    /// A passphrase, by Argon2id.
    Passphrase,
    /// A key of a token, by PKCS#11.
    Pkcs11,
    /// A key of a cloud's KMS.
    Kms,
}

impl SealKind {
    /// Its name.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Key => "key",
            Self::Passphrase => "passphrase",
            Self::Pkcs11 => "pkcs11",
            Self::Kms => "kms",
        }
    }
}

impl fmt::Display for SealKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for SealKind {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "key" => Ok(Self::Key),
            "passphrase" => Ok(Self::Passphrase),
            "pkcs11" => Ok(Self::Pkcs11),
            "kms" => Ok(Self::Kms),
            _ => Err(format!(
                "`{text}` is none of key, passphrase, pkcs11 and kms"
            )),
        }
    }
}

/// A seal key: 256 random bits, written as `skep_seal_` and 43 characters. It is wiped when it is dropped,
/// and never shown.
#[derive(Clone)]
pub struct SealKey(Zeroizing<String>);

impl SealKey {
    /// A new one.
    ///
    /// # Errors
    /// [`VaultError::Crypto`].
    pub fn random() -> Result<Self, VaultError> {
        let bytes = Zeroizing::new(skep_crypto::random::<KEY>()?);
        let mut text = String::with_capacity(64);
        text.push_str(PREFIX);
        STANDARD_NO_PAD.encode_string(&bytes[..], &mut text);
        Ok(Self(Zeroizing::new(text)))
    }

    /// Reads one as it is written.
    ///
    /// # Errors
    /// [`VaultError::Invalid`].
    pub fn new(text: &str) -> Result<Self, VaultError> {
        let key = Self(Zeroizing::new(text.trim().to_owned()));
        key.key().map(|_| key)
    }

    /// As it is written.
    #[must_use]
    pub fn text(&self) -> &str {
        &self.0
    }

    fn key(&self) -> Result<Key, VaultError> {
        let wrong = || {
            let reason = format!("a seal key is `{PREFIX}` and 43 characters of base64");
            VaultError::invalid("key", reason)
        };
        let text = self.0.strip_prefix(PREFIX).ok_or_else(wrong)?;
        let bytes = STANDARD_NO_PAD.decode(text).map_err(|_| wrong())?;
        let bytes = Zeroizing::new(bytes);
        let mut key = Zeroizing::new([0; KEY]);
        if bytes.len() != key.len() {
            return Err(wrong());
        }
        key.copy_from_slice(&bytes);
        Ok(Key::from_bytes(*key))
    }
}

impl fmt::Debug for SealKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SealKey(…)")
    }
}

/// What somebody has who wants in.
#[derive(Debug, Clone)]
pub enum Opening {
    /// A seal key.
    Key(SealKey),
    /// A passphrase.
    Passphrase(Passphrase),
    /// The right to ask a keeper.
    Keeper(Arc<dyn Keeper>),
}

impl Opening {
    /// For which ways in it is.
    #[must_use]
    pub fn kind(&self) -> SealKind {
        match self {
            Self::Key(_) => SealKind::Key,
            Self::Passphrase(_) => SealKind::Passphrase,
            Self::Keeper(keeper) => keeper.kind(),
        }
    }
}

/// The parameters of a way in, as they are kept. None is secret.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "by", deny_unknown_fields)]
pub(crate) enum Params {
    /// HKDF of the key, under a purpose of its own.
    Hkdf {},
    /// Argon2id (RFC 9106).
    Argon2id {
        memory_kib: u32,
        passes: u32,
        lanes: u32,
        salt: String,
    },
    /// A random key that a keeper has encrypted: which of its keys, and what it made of it.
    Keeper { key: String, wrapped: String },
}

const PURPOSE: &str = "skep vault seal";

impl Params {
    /// New ones for the way in of a number, and the key that wraps the unlock key there.
    pub(crate) async fn new(opening: &Opening, seal: i64) -> Result<(Self, Key), VaultError> {
        let params = match opening {
            Opening::Key(_) => Self::Hkdf {},
            Opening::Passphrase(_) => {
                let recipe = Recipe::new()?;
                Self::Argon2id {
                    memory_kib: recipe.memory_kib,
                    passes: recipe.passes,
                    lanes: recipe.lanes,
                    salt: STANDARD_NO_PAD.encode(recipe.salt),
                }
            }
            Opening::Keeper(keeper) => {
                let random = Key::random()?;
                let wrapped = keeper.wrap(&random, &context(seal)).await?;
                if wrapped.is_empty() || wrapped.len() > MOST_WRAPPED {
                    return Err(KeeperError::Wrong(keeper.key().to_owned()).into());
                }
                // What cannot be taken back is no way in.
                let back = keeper.unwrap(&wrapped, &context(seal)).await?;
                if !back.is(&random) {
                    return Err(KeeperError::Wrong(keeper.key().to_owned()).into());
                }
                let params = Self::Keeper {
                    key: keeper.key().to_owned(),
                    wrapped: STANDARD_NO_PAD.encode(&wrapped),
                };
                return Ok((params, back.derive(PURPOSE)?));
            }
        };
        let key = params.key(opening, seal).await?;
        Ok((params, key))
    }

    /// The key of a keeper that it is of.
    pub(crate) fn kept_by(&self) -> Option<&str> {
        match self {
            Self::Keeper { key, .. } => Some(key),
            Self::Hkdf {} | Self::Argon2id { .. } => None,
        }
    }

    /// Whether an opening can be one of it.
    pub(crate) fn fits(&self, opening: &Opening) -> bool {
        match (self, opening) {
            (Self::Hkdf {}, Opening::Key(_)) | (Self::Argon2id { .. }, Opening::Passphrase(_)) => {
                true
            }
            // Whoever can write rows does not choose which key is asked for.
            (Self::Keeper { key, .. }, Opening::Keeper(keeper)) => key == keeper.key(),
            _ => false,
        }
    }

    /// The key that wraps the unlock key. With a passphrase it takes a third of a second, with a keeper as long
    /// as that takes.
    pub(crate) async fn key(&self, opening: &Opening, seal: i64) -> Result<Key, VaultError> {
        match (self, opening) {
            (Self::Hkdf {}, Opening::Key(key)) => Ok(key.key()?.derive(PURPOSE)?),
            (
                Self::Argon2id {
                    memory_kib,
                    passes,
                    lanes,
                    salt,
                },
                Opening::Passphrase(passphrase),
            ) => {
                let salt = STANDARD_NO_PAD.decode(salt).ok();
                let salt = salt.and_then(|salt| <[u8; SALT]>::try_from(salt).ok());
                let recipe = Recipe {
                    memory_kib: *memory_kib,
                    passes: *passes,
                    lanes: *lanes,
                    salt: salt.ok_or(skep_crypto::CryptoError::Parameters)?,
                };
                let passphrase = passphrase.clone();
                slow(move || Ok(recipe.key(&passphrase)?.derive(PURPOSE)?)).await
            }
            (Self::Keeper { key, wrapped }, Opening::Keeper(keeper)) if key == keeper.key() => {
                let wrapped = STANDARD_NO_PAD.decode(wrapped);
                let wrong = |_| VaultError::Corrupt("the parameters of a seal".to_owned());
                let wrapped = wrapped.map_err(wrong)?;
                let key = keeper.unwrap(&wrapped, &context(seal)).await?;
                Ok(key.derive(PURPOSE)?)
            }
            _ => Err(VaultError::WrongOpening),
        }
    }
}

/// What a keeper binds its answer to.
fn context(seal: i64) -> String {
    format!("{PURPOSE} {seal}")
}

/// A way in, as everybody may know it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Seal {
    /// Its number.
    pub id: i64,
    /// Its kind.
    pub kind: SealKind,
    /// What people call it.
    pub name: String,
    /// Which key of a keeper it is of, if it is of one.
    pub kept_by: Option<String>,
    /// When it was made.
    pub made_at: Timestamp,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seal_key_is_read_as_it_is_written_and_never_shown() {
        let key = SealKey::random().unwrap();
        let again = SealKey::new(&format!(" {}\n", key.text())).unwrap();
        assert!(key.key().unwrap().is(&again.key().unwrap()));
        assert_eq!(format!("{key:?}"), "SealKey(…)");
        for wrong in ["", " ", "skep_seal_", "skep_seal_AAAA", &key.text()[1..]] {
            assert!(SealKey::new(wrong).is_err(), "{wrong:?}");
        }
    }

    #[tokio::test]
    async fn parameters_that_are_too_weak_are_refused_when_they_are_read() {
        let opening = Opening::Passphrase(Passphrase::new("correct horse battery").unwrap());
        let (params, _) = Params::new(&opening, 1).await.unwrap();
        let text = serde_json::to_string(&params).unwrap();
        let weak = text.replace("65536", "8");
        assert_ne!(text, weak);
        let weak: Params = serde_json::from_str(&weak).unwrap();
        let said = weak.key(&opening, 1).await;
        assert!(matches!(said, Err(VaultError::Crypto(_))));
        assert!(params.key(&opening, 1).await.is_ok());
        let key = Opening::Key(SealKey::random().unwrap());
        assert!(!params.fits(&key));
        let said = params.key(&key, 1).await;
        assert!(matches!(said, Err(VaultError::WrongOpening)));
    }
}
