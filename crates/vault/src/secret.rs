//! Secrets: what is known about one, and its versions.

use std::str::FromStr;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use skep_core::{SecretId, Timestamp};
use zeroize::Zeroizing;

use crate::VaultError;
use crate::name::{SecretName, Tags, check_tags};
use crate::value::SecretValue;

/// Characters of a description.
pub(crate) const MOST_DESCRIPTION: usize = 1_000;
/// Versions of a secret that are kept.
pub(crate) const MOST_VERSIONS: u32 = 1_000;
/// How often a secret may be due for rotation.
pub(crate) const SHORTEST_ROTATION: Duration = Duration::from_secs(3600);
/// How seldom.
pub(crate) const LONGEST_ROTATION: Duration = Duration::from_secs(5 * 366 * 24 * 3600);
/// How long a value may count.
pub(crate) const LONGEST_TTL: Duration = Duration::from_secs(10 * 366 * 24 * 3600);

/// What is known about a secret. All of it lies in the store encrypted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct About {
    /// What it is called in its workspace.
    pub name: SecretName,
    /// What it is for.
    pub description: String,
    /// Tags by name.
    pub tags: Tags,
    /// For how long a new version counts, unless it says something else.
    pub ttl: Option<Duration>,
    /// How many versions are kept; older ones are destroyed.
    pub keep: u32,
    /// Whether a new version must say which one it follows.
    pub check: bool,
    /// Whether it is bait: nobody has a reason to use it, and whoever does is told of.
    pub canary: bool,
    /// How often it should get a new value.
    pub rotate_every: Option<Duration>,
}

/// Versions that are kept unless something else is said.
pub(crate) const KEEP: u32 = 10;

impl About {
    /// What is known of a secret of which nothing but its name is known.
    #[must_use]
    pub fn named(name: SecretName) -> Self {
        Self {
            name,
            description: String::new(),
            tags: Tags::new(),
            ttl: None,
            keep: KEEP,
            check: false,
            canary: false,
            rotate_every: None,
        }
    }

    /// Whether it can be kept.
    ///
    /// # Errors
    /// [`VaultError::Invalid`].
    pub fn check(&self) -> Result<(), VaultError> {
        check_tags(&self.tags)?;
        let description = &self.description;
        let is_odd = |c: char| c.is_control() && c != '\n' && c != '\t';
        if description.chars().count() > MOST_DESCRIPTION || description.chars().any(is_odd) {
            let reason = format!("up to {MOST_DESCRIPTION} characters");
            return Err(VaultError::invalid("description", reason));
        }
        if !(1..=MOST_VERSIONS).contains(&self.keep) {
            let reason = format!("1 to {MOST_VERSIONS} versions are kept");
            return Err(VaultError::invalid("keep", reason));
        }
        check_ttl(self.ttl)?;
        let fits = |every: &Duration| (SHORTEST_ROTATION..=LONGEST_ROTATION).contains(every);
        if self.rotate_every.is_some_and(|every| !fits(&every)) {
            let reason = "an hour to five years, such as 90d";
            return Err(VaultError::invalid("rotate_every", reason));
        }
        Ok(())
    }

    /// As it is encrypted.
    pub(crate) fn to_bytes(&self) -> Result<Zeroizing<Vec<u8>>, VaultError> {
        let seconds = |of: Option<Duration>| of.map(|of| of.as_secs());
        let stored = Stored {
            name: self.name.as_str().to_owned(),
            description: self.description.clone(),
            tags: self.tags.clone(),
            ttl: seconds(self.ttl),
            keep: self.keep,
            check: self.check,
            canary: self.canary,
            rotate_every: seconds(self.rotate_every),
        };
        let bytes = serde_json::to_vec(&stored);
        bytes
            .map(Zeroizing::new)
            .map_err(|error| VaultError::Corrupt(error.to_string()))
    }

    pub(crate) fn from_bytes(bytes: &[u8]) -> Result<Self, VaultError> {
        let stored: Stored = serde_json::from_slice(bytes)
            // Its text could hold what it read.
            .map_err(|error| VaultError::Corrupt(format!("about, at {}", error.column())))?;
        let duration = |of: Option<u64>| of.map(Duration::from_secs);
        Ok(Self {
            name: SecretName::kept(&stored.name)?,
            description: stored.description,
            tags: stored.tags,
            ttl: duration(stored.ttl),
            keep: stored.keep,
            check: stored.check,
            canary: stored.canary,
            rotate_every: duration(stored.rotate_every),
        })
    }
}

/// [`About`] as it is written: a field that is new must have a default.
#[derive(Serialize, Deserialize)]
struct Stored {
    name: String,
    #[serde(default)]
    description: String,
    #[serde(default)]
    tags: Tags,
    #[serde(default)]
    ttl: Option<u64>,
    keep: u32,
    #[serde(default)]
    check: bool,
    #[serde(default)]
    canary: bool,
    #[serde(default)]
    rotate_every: Option<u64>,
}

/// Whether a value may count for so long.
///
/// # Errors
/// [`VaultError::Invalid`].
pub(crate) fn check_ttl(ttl: Option<Duration>) -> Result<(), VaultError> {
    match ttl {
        Some(ttl) if ttl.is_zero() || ttl > LONGEST_TTL => {
            Err(VaultError::invalid("ttl", "a second to ten years"))
        }
        _ => Ok(()),
    }
}

/// A secret that is wished for.
#[derive(Debug, Clone)]
pub struct NewSecret {
    /// What is to be known about it.
    pub about: About,
    /// Its first value.
    pub value: SecretValue,
    /// For how long that counts.
    pub ttl: Option<Duration>,
}

/// A secret without its value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Secret {
    /// Its id.
    pub id: SecretId,
    /// What is known about it.
    pub about: About,
    /// Its newest version. Versions are counted from 1 on, without gaps.
    pub latest: u32,
    /// When it was made.
    pub made_at: Timestamp,
    /// When anything of it changed last.
    pub changed_at: Timestamp,
    /// When it should get a new value.
    pub rotate_at: Option<Timestamp>,
}

/// What is with a version.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum State {
    /// It can be read.
    Live,
    /// It cannot be read; it can be brought back.
    Deleted,
    /// Its value is gone for ever.
    Destroyed,
}

impl State {
    /// Its name.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Live => "live",
            Self::Deleted => "deleted",
            Self::Destroyed => "destroyed",
        }
    }
}

impl FromStr for State {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let all = [Self::Live, Self::Deleted, Self::Destroyed];
        all.into_iter()
            .find(|state| state.as_str() == text)
            .ok_or_else(|| format!("`{text}` is no state of a version"))
    }
}

/// A version of a secret, without its value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Version {
    /// Its number.
    pub number: u32,
    /// What is with it.
    pub state: State,
    /// When it was made.
    pub made_at: Timestamp,
    /// Who made it.
    pub made_by: String,
    /// From when on it does not count.
    pub expires_at: Option<Timestamp>,
}

impl Version {
    /// Whether its value can be read at that moment.
    ///
    /// # Errors
    /// [`VaultError::NoVersion`], with what is with it.
    pub fn readable(&self, now: Timestamp) -> Result<(), VaultError> {
        let state = match self.state {
            State::Live if self.expires_at.is_some_and(|end| end <= now) => "expired",
            State::Live => return Ok(()),
            other => other.as_str(),
        };
        Err(VaultError::NoVersion {
            version: self.number,
            state,
        })
    }
}
