//! Other stores of secrets, over HTTP: HashiCorp Vault and OpenBao (KV version 2), AWS Secrets Manager, and, when
//! they are compiled in, Azure Key Vault and Google Secret Manager. Secrets are read from there and written there.
//!
//! Who may is told by the variables that the stores' own programs know (`VAULT_TOKEN`, `AWS_ACCESS_KEY_ID`, …), so
//! that no credential stands in a command. [`Kms`] is the same for keys that a cloud keeps. There are no clients of the vendors here: what is used of each API is a
//! few requests, and their clients would double the packages of this workspace.
//!
//! [`fetch()`] gets what anybody may read, such as a template: without credentials, and by the same rules.

mod amazon;
mod aws;
#[cfg(feature = "azure")]
mod azure;
mod error;
mod fetch;
#[cfg(feature = "google")]
mod google;
mod http;
mod kms;
pub mod sigv4;
mod vault;

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

use skep_exchange::Entry;
use zeroize::Zeroizing;

pub use error::SourceError;
pub use fetch::fetch;
pub use http::{Reached, may_be_asked, out_of_reach};
pub use kms::Kms;

/// Secrets of a store that are read at once.
pub const MOST_SECRETS: usize = 10_000;
/// Bytes of all values that are read at once.
const MOST_BYTES: usize = 64 << 20;
/// Folders of a store inside of each other.
const DEEPEST: usize = 32;

/// A variable of the environment.
pub type Variable<'a> = &'a dyn Fn(&str) -> Option<String>;

/// Which addresses may be connected to.
pub type Reach = Arc<dyn Fn(IpAddr) -> bool + Send + Sync>;

/// What becomes of what a store has already with another value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Conflict {
    /// Nothing is written at all.
    Fail,
    /// It stays as it is.
    Skip,
    /// It is replaced.
    Replace,
}

/// What became of a secret.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// It is new.
    Created,
    /// It has a new value.
    Updated,
    /// It had this value already.
    Unchanged,
    /// It stays as it was.
    Skipped,
}

impl Outcome {
    /// It as a word.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Created => "created",
            Self::Updated => "updated",
            Self::Unchanged => "unchanged",
            Self::Skipped => "skipped",
        }
    }
}

/// A store, or a part of one.
pub enum Source {
    /// HashiCorp Vault or OpenBao.
    Vault(vault::Vault),
    /// AWS Secrets Manager.
    Aws(aws::Aws),
    /// Azure Key Vault.
    #[cfg(feature = "azure")]
    Azure(Box<azure::Azure>),
    /// Google Secret Manager.
    #[cfg(feature = "google")]
    Google(google::Google),
}

impl Source {
    /// The store at an address, when it is one: `vault:MOUNT/PATH`, `aws:PREFIX`, `azure:NAME`, `gcp:PROJECT`.
    /// Nothing is sent yet; and later only to addresses in `reach`, when it is given.
    ///
    /// # Errors
    /// [`SourceError`]: what is missing to use it.
    pub fn of(
        address: &str,
        variable: Variable<'_>,
        reach: Option<&Reach>,
    ) -> Result<Option<Self>, SourceError> {
        let Some((scheme, rest)) = address.split_once(':') else {
            return Ok(None);
        };
        Ok(Some(match scheme {
            "vault" | "bao" => Self::Vault(vault::Vault::of(rest, variable, reach)?),
            "aws" => Self::Aws(aws::Aws::of(rest, variable, reach)?),
            #[cfg(feature = "azure")]
            "azure" => Self::Azure(Box::new(azure::Azure::of(rest, variable, reach)?)),
            #[cfg(feature = "google")]
            "gcp" => Self::Google(google::Google::of(rest, variable, reach)?),
            #[cfg(not(feature = "azure"))]
            "azure" => return Err(SourceError::NotBuilt("azure")),
            #[cfg(not(feature = "google"))]
            "gcp" => return Err(SourceError::NotBuilt("google")),
            _ => return Ok(None),
        }))
    }

    /// Every secret that is there.
    ///
    /// # Errors
    /// [`SourceError`].
    pub async fn read(&self) -> Result<Vec<Entry>, SourceError> {
        match self {
            Self::Vault(store) => store.read().await,
            Self::Aws(store) => store.read().await,
            #[cfg(feature = "azure")]
            Self::Azure(store) => store.read().await,
            #[cfg(feature = "google")]
            Self::Google(store) => store.read().await,
        }
    }

    /// The value of one secret, if there is one.
    ///
    /// # Errors
    /// [`SourceError`].
    pub async fn get(&self, name: &str) -> Result<Option<Zeroizing<Vec<u8>>>, SourceError> {
        match self {
            Self::Vault(store) => store.get(name).await,
            Self::Aws(store) => store.get(name).await,
            #[cfg(feature = "azure")]
            Self::Azure(store) => store.get(name).await,
            #[cfg(feature = "google")]
            Self::Google(store) => store.get(name).await,
        }
    }

    /// Writes secrets. What is there is looked at before the first is written; stores write one after the other,
    /// so what was written stays when a later one fails, and the error tells how many were.
    ///
    /// # Errors
    /// [`SourceError::There`], before anything is written; [`SourceError::Partly`].
    pub async fn write(
        &self,
        entries: &[Entry],
        conflict: Conflict,
    ) -> Result<BTreeMap<String, Outcome>, SourceError> {
        match self {
            Self::Vault(store) => store.write(entries, conflict).await,
            Self::Aws(store) => store.write(entries, conflict).await,
            #[cfg(feature = "azure")]
            Self::Azure(store) => store.write(entries, conflict).await,
            #[cfg(feature = "google")]
            Self::Google(store) => store.write(entries, conflict).await,
        }
    }
}

/// Refuses what is too much to be held.
fn within(entries: &[Entry]) -> Result<(), SourceError> {
    let bytes: usize = entries
        .iter()
        .map(|it| it.name.len() + it.value.len())
        .sum();
    match entries.len() > MOST_SECRETS || bytes > MOST_BYTES {
        true => Err(SourceError::TooMany),
        false => Ok(()),
    }
}

/// What is to become of an entry, of what is there.
fn fate(there: Option<&[u8]>, entry: &Entry, conflict: Conflict) -> Outcome {
    match there {
        None => Outcome::Created,
        Some(value) if value == &entry.value[..] => Outcome::Unchanged,
        Some(_) if conflict == Conflict::Replace => Outcome::Updated,
        Some(_) => Outcome::Skipped,
    }
}

/// Refuses all when one would be skipped that must not be.
fn refuse(outcomes: &BTreeMap<String, Outcome>, conflict: Conflict) -> Result<(), SourceError> {
    let skipped = outcomes.iter().filter(|(_, it)| **it == Outcome::Skipped);
    let names: Vec<String> = skipped.map(|(name, _)| name.clone()).collect();
    match conflict == Conflict::Fail && !names.is_empty() {
        true => Err(SourceError::There(names)),
        false => Ok(()),
    }
}

/// A part of a path in a URL.
fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' => {
                out.push(char::from(byte));
            }
            _ => out.push_str(&format!("%{byte:02X}")),
        }
    }
    out
}

/// A path in a URL, whose `/` stay.
fn escaped_path(text: &str) -> String {
    let parts: Vec<String> = text.split('/').map(escaped).collect();
    parts.join("/")
}

#[cfg(test)]
mod tests;
