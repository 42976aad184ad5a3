//! Keys from passphrases, by Argon2id. The parameters stand beside what is encrypted, so that they
//! can grow; who reads them accepts only what lies between a floor and a ceiling.

use argon2::{Algorithm, Argon2, Params, Version};
use zeroize::Zeroizing;

use crate::{Key, VaultError, random};

/// Characters that a passphrase has at least.
pub const SHORTEST: usize = 12;
/// Bytes of a salt.
pub const SALT: usize = 16;
/// Memory, in KiB.
const MEMORY: std::ops::RangeInclusive<u32> = (64 << 10)..=(1 << 20);
const PASSES: std::ops::RangeInclusive<u32> = 3..=16;
const LANES: std::ops::RangeInclusive<u32> = 1..=16;

/// A passphrase. It is wiped when it is dropped, and never shown.
#[derive(Clone, PartialEq, Eq)]
pub struct Passphrase(Zeroizing<String>);

impl Passphrase {
    /// This passphrase.
    ///
    /// # Errors
    /// [`VaultError::ShortPassphrase`].
    pub fn new(text: impl Into<String>) -> Result<Self, VaultError> {
        let text = Zeroizing::new(text.into());
        match text.chars().count() {
            0..SHORTEST => Err(VaultError::ShortPassphrase),
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
    /// [`VaultError::System`].
    pub fn new() -> Result<Self, VaultError> {
        Ok(Self {
            memory_kib: 64 << 10,
            passes: 3,
            lanes: 4,
            salt: random()?,
        })
    }

    /// The key of a passphrase. Takes about a third of a second and the memory that it says.
    ///
    /// # Errors
    /// [`VaultError::Parameters`] when they are too weak, or would cost too much;
    /// [`VaultError::System`].
    pub fn key(&self, passphrase: &Passphrase) -> Result<Key, VaultError> {
        let accepted = MEMORY.contains(&self.memory_kib)
            && PASSES.contains(&self.passes)
            && LANES.contains(&self.lanes);
        if !accepted {
            return Err(VaultError::Parameters);
        }
        let params = Params::new(self.memory_kib, self.passes, self.lanes, Some(32));
        let params = params.map_err(|_| VaultError::Parameters)?;
        let argon = Argon2::new(Algorithm::Argon2id, Version::V0x13, params);
        let mut key = Zeroizing::new([0; 32]);
        argon
            .hash_password_into(passphrase.0.as_bytes(), &self.salt, &mut key[..])
            .map_err(|_| VaultError::System)?;
        Ok(Key::from_bytes(*key))
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
            assert_eq!(recipe.key(&passphrase).err(), Some(VaultError::Parameters));
        }
        assert_eq!(
            Passphrase::new("short").err(),
            Some(VaultError::ShortPassphrase)
        );
        assert_eq!(format!("{passphrase:?}"), "Passphrase(…)");
    }
}
