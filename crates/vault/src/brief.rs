//! Values that are kept in memory for a moment, for who uses one many times a second. What is kept is ciphertext, under
//! a key that an open vault makes for itself: sealing it ends them all.

use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use crate::{SecretValue, Vault, VaultError};

/// How long one counts. What another server changed is seen after so long; what this one did, at once.
const COUNTS: Duration = Duration::from_secs(1);

/// A point in time before a value is read: what is changed after it, the value does not have.
#[derive(Debug, Clone, Copy)]
pub struct Moment {
    at: Instant,
    changes: u64,
}

/// A value, kept as ciphertext.
pub struct Brief {
    of: Moment,
    pub(crate) sealed: Vec<u8>,
}

impl std::fmt::Debug for Brief {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Brief")
    }
}

impl Vault {
    /// Now, before a value is read that is to be kept.
    #[must_use]
    pub fn moment(&self) -> Moment {
        Moment {
            at: Instant::now(),
            changes: self.changes.load(Ordering::Acquire),
        }
    }

    /// Keeps a value that was read since a moment.
    ///
    /// # Errors
    /// [`VaultError::Sealed`].
    pub fn keep(&self, since: Moment, value: &SecretValue) -> Result<Brief, VaultError> {
        let sealed = self.keyring()?.brief.seal(value.bytes())?;
        Ok(Brief { of: since, sealed })
    }

    /// What was kept; nothing when it no longer counts, because of its age, of a change, or as the vault was sealed.
    #[must_use]
    pub fn kept(&self, brief: &Brief) -> Option<SecretValue> {
        let now = self.moment();
        let counts = now.changes == brief.of.changes && now.at.duration_since(brief.of.at) < COUNTS;
        if !counts {
            return None;
        }
        let opened = self.keyring().ok()?.brief.open(&brief.sealed);
        opened.ok().map(SecretValue::from_opened)
    }

    /// Something has changed on this server: nothing that was kept before counts.
    pub(crate) fn changed(&self) {
        self.changes.fetch_add(1, Ordering::AcqRel);
    }
}
