//! Values of secrets, and making new ones.

use std::fmt;
use std::str::FromStr;

use zeroize::Zeroizing;

use crate::VaultError;

/// Bytes of a value.
pub(crate) const MOST_VALUE: usize = 256 << 10;
/// Characters of a password that is made.
const PASSWORD: std::ops::RangeInclusive<u16> = 12..=256;
/// Bytes of a key that is made.
const KEY: std::ops::RangeInclusive<u16> = 16..=256;
const LETTERS: &[u8] = b"ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz";
const DIGITS: &[u8] = b"23456789";
const SIGNS: &[u8] = b"!#%+,-./:=@_~";
const BASE62: &[u8] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";

/// A value. It is wiped when it is dropped, and never shown.
#[derive(Clone, PartialEq, Eq)]
pub struct SecretValue(Zeroizing<Vec<u8>>);

impl SecretValue {
    /// This value.
    ///
    /// # Errors
    /// [`VaultError::Invalid`] when it is empty or over 256 KiB.
    pub fn new(bytes: impl Into<Vec<u8>>) -> Result<Self, VaultError> {
        let bytes = Zeroizing::new(bytes.into());
        match bytes.len() {
            0 => Err(VaultError::invalid("value", "it is empty")),
            1..=MOST_VALUE => Ok(Self(bytes)),
            _ => {
                let most = MOST_VALUE >> 10;
                Err(VaultError::invalid("value", format!("at most {most} KiB")))
            }
        }
    }

    pub(crate) fn from_opened(bytes: Zeroizing<Vec<u8>>) -> Self {
        Self(bytes)
    }

    /// Its bytes.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        &self.0
    }

    /// One field of a value that is a JSON object: a text as it is, anything else as JSON.
    ///
    /// # Errors
    /// [`VaultError::Invalid`] when it has no such field.
    pub fn field(&self, name: &str) -> Result<Self, VaultError> {
        let missing = || {
            VaultError::invalid(
                "field",
                format!("the value has no field `{name}`; its fields are those of a JSON object"),
            )
        };
        let object: serde_json::Map<String, serde_json::Value> =
            serde_json::from_slice(&self.0).map_err(|_| missing())?;
        match object.get(name).ok_or_else(missing)? {
            serde_json::Value::String(text) => Self::new(text.as_bytes()),
            other => Self::new(other.to_string()),
        }
    }
}

impl fmt::Debug for SecretValue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SecretValue(…)")
    }
}

/// A value that is to be made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Generate {
    /// A password: characters that are not mistaken for each other, of each sort at least one.
    Password {
        /// Characters.
        length: u16,
        /// Whether there are signs in it.
        signs: bool,
    },
    /// A token of letters and digits.
    Token {
        /// Characters.
        length: u16,
    },
    /// A key, in hexadecimal.
    Key {
        /// Bytes.
        bytes: u16,
    },
}

impl FromStr for Generate {
    type Err = VaultError;

    /// `password`, `token` or `key`, and `:` with a length.
    fn from_str(text: &str) -> Result<Self, VaultError> {
        let (kind, length) = match text.split_once(':') {
            Some((kind, length)) => (kind, Some(length)),
            None => (text, None),
        };
        let length = |default: u16| match length {
            None => Ok(default),
            Some(text) => text.parse().map_err(|_| {
                VaultError::invalid("generate", format!("`{text}` is no length, such as 32"))
            }),
        };
        match kind {
            "password" => Ok(Self::Password {
                length: length(24)?,
                signs: true,
            }),
            "token" => Ok(Self::Token {
                length: length(40)?,
            }),
            "key" => Ok(Self::Key { bytes: length(32)? }),
            _ => Err(VaultError::invalid(
                "generate",
                "write password, token or key, and a length if you like: `password:32`",
            )),
        }
    }
}

/// Characters drawn evenly of an alphabet.
fn drawn(alphabet: &[u8], count: usize, out: &mut Vec<u8>) -> Result<(), VaultError> {
    let fair = 256 / alphabet.len() * alphabet.len();
    let end = out.len() + count;
    while out.len() < end {
        let bytes = Zeroizing::new(skep_crypto::random::<64>()?);
        // Those over the last multiple would make some characters likelier.
        let even = bytes.iter().filter(|byte| usize::from(**byte) < fair);
        let drawn = even.map(|byte| alphabet[usize::from(*byte) % alphabet.len()]);
        out.extend(drawn.take(end - out.len()));
    }
    Ok(())
}

impl Generate {
    /// Makes one.
    ///
    /// # Errors
    /// [`VaultError::Invalid`] when the length is out of bounds; [`VaultError::Crypto`].
    pub fn make(self) -> Result<SecretValue, VaultError> {
        let check =
            |length: u16, range: std::ops::RangeInclusive<u16>| match range.contains(&length) {
                true => Ok(usize::from(length)),
                false => {
                    let reason = format!("a length is {} to {}", range.start(), range.end());
                    Err(VaultError::invalid("generate", reason))
                }
            };
        let mut out = Zeroizing::new(Vec::with_capacity(2 * usize::from(*KEY.end())));
        match self {
            Self::Token { length } => drawn(BASE62, check(length, PASSWORD)?, &mut out)?,
            Self::Key { bytes } => {
                let mut raw = Zeroizing::new(Vec::with_capacity(256));
                let all: Vec<u8> = (0..=u8::MAX).collect();
                drawn(&all, check(bytes, KEY)?, &mut raw)?;
                const HEX: &[u8; 16] = b"0123456789abcdef";
                let digits = raw.iter().flat_map(|byte| [byte >> 4, byte & 15]);
                out.extend(digits.map(|digit| HEX[usize::from(digit)]));
            }
            Self::Password { length, signs } => {
                let length = check(length, PASSWORD)?;
                let sorts: &[&[u8]] = match signs {
                    true => &[LETTERS, DIGITS, SIGNS],
                    false => &[LETTERS, DIGITS],
                };
                let all = sorts.concat();
                let of_each = |text: &[u8]| {
                    sorts
                        .iter()
                        .all(|sort| text.iter().any(|byte| sort.contains(byte)))
                };
                // Drawn anew as a whole, so that no place has a sort of its own.
                while !of_each(&out) {
                    zeroize::Zeroize::zeroize(&mut *out);
                    drawn(&all, length, &mut out)?;
                }
            }
        }
        Ok(SecretValue(out))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_made_is_as_long_as_wished_and_never_twice_the_same() {
        for (text, length, alphabet) in [
            ("password", 24, [LETTERS, DIGITS, SIGNS].concat()),
            ("password:12", 12, [LETTERS, DIGITS, SIGNS].concat()),
            ("token:60", 60, BASE62.to_vec()),
            ("key", 64, b"0123456789abcdef".to_vec()),
        ] {
            let one = text.parse::<Generate>().unwrap().make().unwrap();
            let other = text.parse::<Generate>().unwrap().make().unwrap();
            assert_eq!(one.bytes().len(), length, "{text}");
            assert!(one.bytes().iter().all(|byte| alphabet.contains(byte)));
            assert_ne!(one, other);
        }
        let plain = Generate::Password {
            length: 200,
            signs: false,
        };
        let made = plain.make().unwrap();
        assert!(made.bytes().iter().all(u8::is_ascii_alphanumeric));
        for wrong in ["", "word", "password:x", "password:"] {
            assert!(wrong.parse::<Generate>().is_err(), "{wrong}");
        }
        for wrong in ["password:4", "key:1", "token:60000"] {
            assert!(
                wrong.parse::<Generate>().unwrap().make().is_err(),
                "{wrong}"
            );
        }
    }

    #[test]
    fn a_field_is_one_of_a_json_object() {
        let value = SecretValue::new(r#"{"user":"me","port":5432}"#).unwrap();
        assert_eq!(value.field("user").unwrap().bytes(), b"me");
        assert_eq!(value.field("port").unwrap().bytes(), b"5432");
        assert!(value.field("other").is_err());
        assert!(SecretValue::new("plain").unwrap().field("user").is_err());
        assert!(SecretValue::new("").is_err());
        assert!(SecretValue::new(vec![0; MOST_VALUE + 1]).is_err());
        assert_eq!(format!("{value:?}"), "SecretValue(…)");
    }
}
