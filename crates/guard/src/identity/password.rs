//! Passwords: what is kept of one, and whether a text is it.
//!
//! Argon2id makes one key of a password. What is kept is derived from it for checking; another key, for
//! what only the password may open, is derived for wrapping and kept nowhere.

use skep_crypto::passphrase::{Passphrase, Recipe, SALT};
use skep_crypto::{CryptoError, Key, same};

/// Characters that a password has at most.
pub(super) const LONGEST: usize = 256;

/// How a check ends: the key for what only this password opens.
pub(crate) type Checked = Option<Key>;

const CHECKING: &str = "skep 2026-11 password verifier";
const WRAPPING: &str = "skep 2026-11 password wrapping";

/// What is kept of a password.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Kept {
    recipe: Recipe,
    verifier: [u8; 32],
}

impl Kept {
    /// Of a new password, with the key for what only it opens.
    pub(crate) fn of(password: &Passphrase) -> Result<(Self, Key), CryptoError> {
        let recipe = Recipe::new()?;
        let key = recipe.key(password)?;
        let verifier = key.verifier(CHECKING)?;
        Ok((Self { recipe, verifier }, key.derive(WRAPPING)?))
    }

    /// Of nobody: checking it takes as long as any, and no password is right.
    pub(crate) fn of_nobody() -> Result<Self, CryptoError> {
        Ok(Self {
            recipe: Recipe::new()?,
            verifier: skep_crypto::random()?,
        })
    }

    /// Whether this is the password.
    pub(crate) fn check(&self, password: &Passphrase) -> Result<Checked, CryptoError> {
        let key = self.recipe.key(password)?;
        match same(&key.verifier(CHECKING)?, &self.verifier) {
            true => key.derive(WRAPPING).map(Some),
            false => Ok(None),
        }
    }

    /// Version, parameters, salt and verifier.
    pub(crate) fn to_bytes(&self) -> Vec<u8> {
        let Recipe {
            memory_kib,
            passes,
            lanes,
            salt,
        } = &self.recipe;
        let mut bytes = vec![1];
        for number in [memory_kib, passes, lanes] {
            bytes.extend(number.to_be_bytes());
        }
        bytes.extend(salt);
        bytes.extend(self.verifier);
        bytes
    }

    pub(crate) fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let rest = bytes.strip_prefix(&[1])?;
        let (numbers, rest) = rest.split_at_checked(12)?;
        let (salt, verifier) = rest.split_at_checked(SALT)?;
        let number = |at: usize| -> Option<u32> {
            let four = numbers.get(at * 4..at * 4 + 4)?;
            Some(u32::from_be_bytes(four.try_into().ok()?))
        };
        Some(Self {
            recipe: Recipe {
                memory_kib: number(0)?,
                passes: number(1)?,
                lanes: number(2)?,
                salt: salt.try_into().ok()?,
            },
            verifier: verifier.try_into().ok()?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_kept_knows_its_password_only() {
        let right = Passphrase::new("correct horse battery").unwrap();
        let wrong = Passphrase::new("correct horse battery ").unwrap();
        let (kept, _) = Kept::of(&right).unwrap();
        let read = Kept::from_bytes(&kept.to_bytes()).unwrap();
        assert!(read == kept);
        assert!(read.check(&right).unwrap().is_some());
        assert!(read.check(&wrong).unwrap().is_none());
        let nobody = Kept::of_nobody().unwrap();
        assert!(nobody.check(&right).unwrap().is_none());
        let bytes = kept.to_bytes();
        assert!(Kept::from_bytes(&bytes[..bytes.len() - 1]).is_none());
        assert!(Kept::from_bytes(&[]).is_none());
    }
}
