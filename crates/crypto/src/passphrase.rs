//! Keys from passphrases, by Argon2id, or by PBKDF2 where a rule demands that. The parameters stand beside what is encrypted, so that they
//! can grow; who reads them accepts only what lies between a floor and a ceiling.

use std::num::NonZeroU32;

use argon2::{Algorithm, Argon2, Params, Version};
use aws_lc_rs::pbkdf2;
use zeroize::Zeroizing;

use crate::{CryptoError, Key, random};

/// Characters that a passphrase has at least.
pub const SHORTEST: usize = 12;
/// Bytes of a salt.
pub const SALT: usize = 16;
/// Memory, in KiB.
const MEMORY: std::ops::RangeInclusive<u32> = (64 << 10)..=(1 << 20);
const PASSES: std::ops::RangeInclusive<u32> = 3..=16;
const LANES: std::ops::RangeInclusive<u32> = 1..=16;

/// Rounds of PBKDF2-HMAC-SHA-256.
const ROUNDS: std::ops::RangeInclusive<u32> = 600_000..=10_000_000;

/// A passphrase. It is wiped when it is dropped, and never shown.
#[derive(Clone, PartialEq, Eq)]
pub struct Passphrase(Zeroizing<String>);

impl Passphrase {
    /// This passphrase.
    ///
    /// # Errors
    /// [`CryptoError::ShortPassphrase`].
    pub fn new(text: impl Into<String>) -> Result<Self, CryptoError> {
        let text = Zeroizing::new(text.into());
        match text.chars().count() {
            0..SHORTEST => Err(CryptoError::ShortPassphrase),
            _ => Ok(Self(text)),
        }
    }
}

impl std::fmt::Debug for Passphrase {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Passphrase(…)")
    }
}

/// How a key is made of a passphrase.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Recipe {
    /// Memory in KiB.
    pub memory_kib: u32,
    /// Passes over it.
    pub passes: u32,
    /// Lanes.
    pub lanes: u32,
    /// The salt.
    pub salt: [u8; SALT],
}

impl Recipe {
    /// How keys are made now: 64 MiB, three passes, four lanes, and a new salt.
    ///
    /// # Errors
    /// [`CryptoError::System`].
    pub fn new() -> Result<Self, CryptoError> {
        Ok(Self {
            memory_kib: 64 << 10,
            passes: 3,
            lanes: 4,
            salt: random()?,
        })
    }

    /// Whether the parameters are neither too weak nor too costly.
    #[must_use]
    pub fn is_accepted(&self) -> bool {
        MEMORY.contains(&self.memory_kib)
            && PASSES.contains(&self.passes)
            && LANES.contains(&self.lanes)
    }

    /// The key of a passphrase. Takes about a third of a second and the memory that it says.
    ///
    /// # Errors
    /// [`CryptoError::Parameters`] when they are too weak, or would cost too much;
    /// [`CryptoError::System`].
    pub fn key(&self, passphrase: &Passphrase) -> Result<Key, CryptoError> {
        if !self.is_accepted() {
            return Err(CryptoError::Parameters);
        }
        let params = Params::new(self.memory_kib, self.passes, self.lanes, Some(32));
        let params = params.map_err(|_| CryptoError::Parameters)?;
        let argon = Argon2::new(Algorithm::Argon2id, Version::V0x13, params);
        let mut key = Zeroizing::new([0; 32]);
        argon
            .hash_password_into(passphrase.0.as_bytes(), &self.salt, &mut key[..])
            .map_err(|_| CryptoError::System)?;
        Ok(Key::from_bytes(*key))
    }
}

/// How a key is made of a passphrase by PBKDF2-HMAC-SHA-256, for who may use nothing else. It costs an
/// attacker far less than Argon2id.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rounds {
    /// How many.
    pub rounds: u32,
    /// The salt.
    pub salt: [u8; SALT],
}

impl Rounds {
    /// The fewest that are accepted, and a new salt.
    ///
    /// # Errors
    /// [`CryptoError::System`].
    pub fn new() -> Result<Self, CryptoError> {
        Ok(Self {
            rounds: *ROUNDS.start(),
            salt: random()?,
        })
    }

    /// Whether they are neither too few nor too many.
    #[must_use]
    pub fn is_accepted(&self) -> bool {
        ROUNDS.contains(&self.rounds)
    }

    /// The key of a passphrase.
    ///
    /// # Errors
    /// [`CryptoError::Parameters`] when there are too few, or too many.
    pub fn key(&self, passphrase: &Passphrase) -> Result<Key, CryptoError> {
        let rounds = NonZeroU32::new(self.rounds).filter(|_| self.is_accepted());
        let rounds = rounds.ok_or(CryptoError::Parameters)?;
        let mut key = Zeroizing::new([0; 32]);
        let algorithm = pbkdf2::PBKDF2_HMAC_SHA256;
        let text = passphrase.0.as_bytes();
        pbkdf2::derive(algorithm, rounds, &self.salt, text, &mut key[..]);
        Ok(Key(key))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_its_passphrases_and_parameters_are_bounded() {
        let recipe = Recipe::new().unwrap();
        let key = |text: &str| recipe.key(&Passphrase::new(text).unwrap()).unwrap();
        let one = key("correct horse battery");
        assert_eq!(*one.0, *key("correct horse battery").0);
        assert_ne!(*one.0, *key("correct horse staple").0);
        let wrong = [
            Recipe {
                memory_kib: 8,
                ..recipe
            },
            Recipe {
                memory_kib: u32::MAX,
                ..recipe
            },
            Recipe {
                passes: 1,
                ..recipe
            },
            Recipe {
                passes: 1_000,
                ..recipe
            },
            Recipe { lanes: 0, ..recipe },
            Recipe {
                lanes: 255,
                ..recipe
            },
        ];
        let passphrase = Passphrase::new("correct horse battery").unwrap();
        for recipe in wrong {
            assert_eq!(recipe.key(&passphrase).err(), Some(CryptoError::Parameters));
        }
        assert_eq!(
            Passphrase::new("short").err(),
            Some(CryptoError::ShortPassphrase)
        );
        assert_eq!(format!("{passphrase:?}"), "Passphrase(…)");
    }

    #[test]
    fn pbkdf2_is_what_others_make_and_its_rounds_are_bounded() {
        let passphrase = Passphrase::new("correct horse battery").unwrap();
        let salt = *b"0123456789abcdef";
        let rounds = |rounds| Rounds { rounds, salt }.key(&passphrase);
        // hashlib.pbkdf2_hmac("sha256", b"correct horse battery", b"0123456789abcdef", 600000)
        let expected = [
            22, 203, 20, 5, 242, 7, 171, 81, 19, 179, 175, 190, 182, 202, 210, 208, 44, 168, 202,
            246, 209, 58, 118, 245, 47, 217, 62, 107, 67, 190, 193, 225,
        ];
        assert_eq!(*rounds(600_000).unwrap().0, expected);
        for wrong in [0, 1, 599_999, 10_000_001] {
            assert_eq!(rounds(wrong).err(), Some(CryptoError::Parameters));
        }
    }

    #[test]
    fn argon2id_is_the_one_of_rfc_9106() {
        // Section 5.3, with the same algorithm and version as above; its costs are below what is accepted.
        let mut params = argon2::ParamsBuilder::new();
        params.m_cost(32).t_cost(3).p_cost(4).output_len(32);
        params.data(argon2::AssociatedData::new(&[4; 12]).unwrap());
        let params = params.build().unwrap();
        let (algorithm, version) = (Algorithm::Argon2id, Version::V0x13);
        let argon = Argon2::new_with_secret(&[3; 8], algorithm, version, params).unwrap();
        let mut tag = [0; 32];
        argon
            .hash_password_into(&[1; 32], &[2; 16], &mut tag)
            .unwrap();
        let expected = [
            0x0d, 0x64, 0x0d, 0xf5, 0x8d, 0x78, 0x76, 0x6c, 0x08, 0xc0, 0x37, 0xa3, 0x4a, 0x8b,
            0x53, 0xc9, 0xd0, 0x1e, 0xf0, 0x45, 0x2d, 0x75, 0xb6, 0x5e, 0xb5, 0x25, 0x20, 0xe9,
            0x6b, 0x01, 0xe6, 0x59,
        ];
        assert_eq!(tag, expected);
        // What others make with our costs: Argon2id of Python's cryptography, 64 MiB, 3 passes, 4 lanes.
        let recipe = Recipe {
            salt: *b"0123456789abcdef",
            ..Recipe::new().unwrap()
        };
        let passphrase = Passphrase::new("correct horse battery").unwrap();
        let expected = [
            82, 32, 72, 61, 75, 161, 99, 124, 93, 93, 244, 59, 55, 122, 127, 106, 237, 57, 166, 21,
            150, 147, 208, 2, 154, 62, 79, 118, 213, 6, 105, 171,
        ];
        assert_eq!(*recipe.key(&passphrase).unwrap().0, expected);
    }
}
