//! What can go wrong with the log.

use skep_store::StoreError;

/// Why the log is not read, not written or not believed.
#[derive(Debug, Clone, thiserror::Error)]
pub enum AuditError {
    /// An entry is longer than any may be.
    #[error("an entry is over 64 KiB")]
    TooLong,
    /// The log is not as it was written.
    #[error("the log is damaged: {0}")]
    Damaged(String),
    /// A checkpoint has no signature of the key that is asked for, or a wrong one.
    #[error("the checkpoint is not signed by this key: {0}")]
    Signature(String),
    /// Two checkpoints cannot be of one log that only grew.
    #[error("the log was rewritten: {0}")]
    Rewritten(String),
    /// The log is shorter than it once was.
    #[error("the log was rolled back: it had {had} entries and has {has}")]
    RolledBack {
        /// Entries that it had.
        had: u64,
        /// Entries that it has.
        has: u64,
    },
    /// There is no such entry.
    #[error("the log has {size} entries; there is no number {number}")]
    NoEntry {
        /// What was asked for.
        number: u64,
        /// How many there are.
        size: u64,
    },
    /// The entry was old enough to go.
    #[error("entry {number} was pruned: only its hash is kept")]
    Pruned {
        /// Which.
        number: u64,
    },
    /// The key of the log cannot be used.
    #[error("the log's key: {0}")]
    Key(String),
    /// The store's own error.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl AuditError {
    pub(crate) fn damaged(why: impl Into<String>) -> Self {
        Self::Damaged(why.into())
    }
}
