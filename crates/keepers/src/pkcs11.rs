//! Keys of tokens (smart cards, HSMs) by PKCS#11. A key is named as in RFC 7512: `pkcs11:token=…;object=…`.
//!
//! It is an AES key, which encrypts by AES-GCM with the context as additional data: with an RSA key whoever has
//! the public half could make a way in of their own. Which module is loaded is said by the configuration alone,
//! and never by what is stored.

#[cfg(feature = "pkcs11")]
mod token;

use std::path::Path;
use std::str::FromStr;
use std::sync::Arc;

use skep_vault::keeper::Keeper;
use zeroize::Zeroizing;

use crate::NameError;

/// The name of a key on a token.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pkcs11Key {
    text: String,
    token: Option<String>,
    serial: Option<String>,
    object: Option<String>,
    id: Option<Vec<u8>>,
}

const WRITE: &str =
    "write pkcs11:token=TOKEN;object=KEY (RFC 7512; serial= and id= are known, too)";

impl FromStr for Pkcs11Key {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        let wrong = |why: &str| NameError::Invalid(format!("{why}: {WRITE}"));
        let path = text
            .strip_prefix("pkcs11:")
            .ok_or_else(|| wrong("it is no URI of PKCS#11"))?;
        let mut key = Self {
            text: text.to_owned(),
            token: None,
            serial: None,
            object: None,
            id: None,
        };
        for part in path.split(';') {
            let (name, value) = part.split_once('=').unwrap_or((part, ""));
            let value = bytes(value).ok_or_else(|| wrong("a value is not encoded right"))?;
            let as_text = || {
                let text = String::from_utf8(value.clone()).ok();
                text.filter(|it| !it.is_empty())
                    .ok_or_else(|| wrong(&format!("`{name}` is no text")))
            };
            let was_there = match name {
                "token" => key.token.replace(as_text()?).is_some(),
                "serial" => key.serial.replace(as_text()?).is_some(),
                "object" => key.object.replace(as_text()?).is_some(),
                "id" if !value.is_empty() => key.id.replace(value.clone()).is_some(),
                "type" if value == b"secret-key" => false,
                _ => return Err(wrong(&format!("`{part}` is not known here"))),
            };
            if was_there {
                return Err(wrong(&format!("`{name}` stands there twice")));
            }
        }
        match (&key.token, &key.serial, &key.object, &key.id) {
            (None, None, ..) => Err(wrong("it names no token")),
            (.., None, None) => Err(wrong("it names no key")),
            _ => Ok(key),
        }
    }
}

/// The bytes of a value with `%XX`.
fn bytes(text: &str) -> Option<Vec<u8>> {
    let mut out = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        out.push(match byte {
            b'%' => {
                let digit = |byte: u8| char::from(byte).to_digit(16);
                let (high, low) = (digit(rest.next()?)?, digit(rest.next()?)?);
                u8::try_from(high << 4 | low).ok()?
            }
            b'?' | b'/' | ..=b' ' | 0x7f.. => return None,
            byte => byte,
        });
    }
    Some(out)
}

/// The keeper of a key on a token, by a module and with a PIN. Nothing is loaded yet.
///
/// # Errors
/// [`NameError`].
pub fn pkcs11(
    module: &Path,
    key: &str,
    pin: Option<Zeroizing<String>>,
) -> Result<Arc<dyn Keeper>, NameError> {
    let key: Pkcs11Key = key.parse()?;
    #[cfg(feature = "pkcs11")]
    return Ok(Arc::new(token::TokenKey::new(module, key, pin)));
    #[cfg(not(feature = "pkcs11"))]
    {
        let _ = (module, key, pin);
        Err(NameError::NotBuilt("pkcs11"))
    }
}

#[cfg(test)]
mod tests;
