//! The workspace: the tenant that every row but the server's own belongs to.

use std::fmt;
use std::sync::{Arc, PoisonError, RwLock};

/// The name of a workspace: 1–63 of `a-z`, `0-9` and `-`, starting and ending with a letter or a
/// digit (a DNS label, RFC 1123). [`Workspace::default`] is always there.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Workspace(Arc<str>);

/// A text that is not a valid name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not a name: use 1–63 of a-z, 0-9 and `-`, with a letter or digit at both ends")]
pub struct NameError(pub String);

impl Workspace {
    /// The workspace with this name.
    ///
    /// # Errors
    /// [`NameError`] when it is not a DNS label.
    pub fn new(name: &str) -> Result<Self, NameError> {
        check_name(name)?;
        Ok(Self(name.into()))
    }

    /// The name.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl std::str::FromStr for Workspace {
    type Err = NameError;

    fn from_str(name: &str) -> Result<Self, NameError> {
        Self::new(name)
    }
}

impl Default for Workspace {
    fn default() -> Self {
        Self("default".into())
    }
}

impl fmt::Display for Workspace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for Workspace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// The workspaces that there are now, as all rooms see them. Cheap to clone; a clone is the same list.
#[derive(Clone, Debug)]
pub struct Workspaces(Arc<RwLock<Arc<[Workspace]>>>);

impl Default for Workspaces {
    fn default() -> Self {
        Self::from([Workspace::default()])
    }
}

impl<const N: usize> From<[Workspace; N]> for Workspaces {
    fn from(all: [Workspace; N]) -> Self {
        Self(Arc::new(RwLock::new(Arc::new(all))))
    }
}

impl Workspaces {
    /// All of them, as they are now.
    #[must_use]
    pub fn all(&self) -> Arc<[Workspace]> {
        self.0
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// Whether this is one of them.
    #[must_use]
    pub fn has(&self, workspace: &Workspace) -> bool {
        self.all().contains(workspace)
    }

    /// From now on there are these.
    pub fn set(&self, all: impl Into<Arc<[Workspace]>>) {
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = all.into();
    }
}

/// Whether a text is a valid name of a workspace or an agent: a DNS label in lower case.
///
/// # Errors
/// [`NameError`] when it is not.
pub fn check_name(name: &str) -> Result<(), NameError> {
    let inner = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    let bytes = name.as_bytes();
    let ends = |byte: Option<&u8>| byte.is_some_and(|&b| b != b'-');
    if bytes.len() <= 63
        && bytes.iter().all(|&byte| inner(byte))
        && ends(bytes.first())
        && ends(bytes.last())
    {
        Ok(())
    } else {
        Err(NameError(name.chars().take(80).collect()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_dns_labels() {
        for good in ["a", "hello", "a-1", "0", &"x".repeat(63)] {
            assert!(check_name(good).is_ok(), "{good}");
        }
        for bad in [
            "",
            "-a",
            "a-",
            "A",
            "a_b",
            "a.b",
            "é",
            "a b",
            &"x".repeat(64),
        ] {
            assert!(check_name(bad).is_err(), "{bad}");
        }
    }
}
