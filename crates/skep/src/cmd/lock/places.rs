//! Where what opens a file may lie, when it is not in a file of its own: the keychain of who runs the command,
//! Skep's vault.

use std::fmt;
use std::path::Path;
use std::str::FromStr;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD_NO_PAD;
use serde::{Deserialize, Deserializer};
use skep_api::Reveal;
use zeroize::Zeroizing;

use crate::cmd::keychain;
use crate::failure::{Failure, Result};
use crate::session::Session;

const WRITE: &str = "write keychain:NAME, vault:SECRET or vault:SECRET#FIELD";

/// A place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Place {
    /// An entry of the keychain.
    Keychain(String),
    /// A secret in the vault, and a field of it.
    Vault(String, Option<String>),
}

impl FromStr for Place {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || format!("`{text}` is no place: {WRITE}");
        let (kind, name) = text.split_once(':').ok_or_else(wrong)?;
        match (kind, name.split_once('#')) {
            _ if name.trim().is_empty() => Err(wrong()),
            ("keychain", _) => Ok(Self::Keychain(name.to_owned())),
            ("vault", None) => Ok(Self::Vault(name.to_owned(), None)),
            ("vault", Some((name, field))) if !name.is_empty() && !field.is_empty() => {
                Ok(Self::Vault(name.to_owned(), Some(field.to_owned())))
            }
            _ => Err(wrong()),
        }
    }
}

impl<'de> Deserialize<'de> for Place {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

/// What was found at a place. It is never shown.
#[derive(Clone)]
pub(crate) struct Found(Zeroizing<String>);

impl Found {
    /// It, without the line break that may be at its end.
    pub(super) fn text(&self) -> &str {
        self.0.trim_end_matches(['\r', '\n'])
    }
}

impl fmt::Debug for Found {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Found(…)")
    }
}

impl Place {
    /// What lies there. Of the vault it is a secret that is revealed, which the audit log tells with the file.
    pub(super) async fn find(&self, session: &Session, file: &Path) -> Result<Found> {
        let text = match self {
            Self::Keychain(name) => keychain::get(session, name).await?,
            Self::Vault(name, field) => revealed(session, file, name, field.clone()).await?,
        };
        match text.trim().is_empty() {
            true => Err(Failure::plain(format!("{self} is empty"))),
            false => Ok(Found(text)),
        }
    }

    /// What lies there for a new recipient. In a keychain that has no such entry a random one is put.
    pub(super) async fn find_or_make(&self, session: &Session, file: &Path) -> Result<Found> {
        let Self::Keychain(name) = self else {
            return self.find(session, file).await;
        };
        if !keychain::is_free(session, name).await? {
            return self.find(session, file).await;
        }
        let random = skep_crypto::random::<32>().map_err(anyhow::Error::from)?;
        let random = Zeroizing::new(random);
        let text = Zeroizing::new(STANDARD_NO_PAD.encode(&random[..]));
        keychain::put(session, name, &text).await?;
        session.output.note(&format!(
            "A new passphrase lies in your keychain, as `{name}`."
        ));
        Ok(Found(text))
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Keychain(name) => write!(f, "keychain:{name}"),
            Self::Vault(name, None) => write!(f, "vault:{name}"),
            Self::Vault(name, Some(field)) => write!(f, "vault:{name}#{field}"),
        }
    }
}

async fn revealed(
    session: &Session,
    file: &Path,
    name: &str,
    field: Option<String>,
) -> Result<Zeroizing<String>> {
    let wish = Reveal {
        reason: format!("opens {}", file.display()),
        version: None,
        field,
    };
    let shown = session.client()?.reveal_secret(name, &wish).await?;
    let text = shown.value.map(Zeroizing::new);
    text.ok_or_else(|| {
        Failure::plain(format!("the secret `{name}` is no text"))
            .hint("A passphrase is text, and so is an identity of age.")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_is_read_as_it_is_written() {
        for text in ["keychain:my#lock", "vault:a/b", "vault:a/b#c"] {
            assert_eq!(text.parse::<Place>().unwrap().to_string(), text);
        }
        let field = Place::Vault("a".to_owned(), Some("b".to_owned()));
        assert_eq!("vault:a#b".parse::<Place>().unwrap(), field);
        for wrong in [
            "",
            "x",
            "keychain:",
            "vault: ",
            "vault:#a",
            "vault:a#",
            "file:x",
        ] {
            let said = wrong.parse::<Place>().unwrap_err();
            assert!(said.contains("write keychain:NAME"), "{said}");
        }
        let found = Found(Zeroizing::new("marked\n".to_owned()));
        assert_eq!(
            (found.text(), format!("{found:?}")),
            ("marked", "Found(…)".to_owned())
        );
    }
}
