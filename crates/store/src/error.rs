//! What can go wrong with the store, by what the caller can do about it.

use std::path::PathBuf;

use skep_core::{Code, PublicError};

/// An error of the store.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum StoreError {
    /// The store cannot write now: full disk, I/O error. Nothing of the unit was kept; trying
    /// again later may help.
    #[error("the store cannot write: {0}")]
    Unavailable(String),
    /// The connection to the database broke during a commit: nobody knows whether it took place.
    /// Who sent the unit must look before it sends it again.
    #[error("the store's last commit is in doubt: {0}")]
    Doubtful(String),
    /// A statement is wrong, or broke a constraint that the caller did not expect.
    #[error("statement failed: {0}")]
    Statement(String),
    /// The database file is damaged or is no database.
    #[error("{path} is damaged: {reason}", path = path.display())]
    Corrupt {
        /// The file.
        path: PathBuf,
        /// What the engine said.
        reason: String,
    },
    /// The database has a migration that this binary does not know.
    #[error("the database has migration {component}/{name}, which this binary does not know")]
    Newer {
        /// The component whose migration it is.
        component: String,
        /// Its name.
        name: String,
    },
    /// A migration that was applied differs from the one in this binary.
    #[error("migration {component}/{name} was applied in another form than this binary has")]
    MigrationChanged {
        /// The component whose migration it is.
        component: String,
        /// Its name.
        name: String,
    },
    /// Another process holds the data folder.
    #[error("the data folder {path} is in use by {holder}", path = path.display())]
    InUse {
        /// The folder.
        path: PathBuf,
        /// Who holds it, as far as is known.
        holder: String,
    },
    /// A file or folder of the data folder cannot be used.
    #[error("{path}: {reason}", path = path.display())]
    Folder {
        /// The file or folder.
        path: PathBuf,
        /// What the system said.
        reason: String,
    },
    /// The database's address is wrong, or it lets nobody in.
    #[error("the database cannot be used: {0}")]
    Address(String),
    /// The store that was to be filled has something in it.
    #[error("{0} is not empty")]
    NotEmpty(String),
    /// A dump is damaged, or what was loaded is not what it held.
    #[error("the dump cannot be loaded: {0}")]
    Dump(String),
    /// The store is closed.
    #[error("the store is closed")]
    Closed,
}

impl StoreError {
    /// Whether the same unit may succeed later.
    #[must_use]
    pub fn is_retryable(&self) -> bool {
        matches!(self, Self::Unavailable(_) | Self::Doubtful(_))
    }

    /// Whether the unit may have been kept nevertheless.
    #[must_use]
    pub fn is_doubtful(&self) -> bool {
        matches!(self, Self::Doubtful(_))
    }
}

impl PublicError for StoreError {
    fn code(&self) -> Code {
        match self {
            Self::Unavailable(_) | Self::Doubtful(_) | Self::Closed => Code::StoreUnavailable,
            Self::Statement(_)
            | Self::MigrationChanged { .. }
            | Self::Folder { .. }
            | Self::Dump(_) => Code::Internal,
            Self::Address(_) | Self::NotEmpty(_) => Code::ConfigInvalid,
            Self::Corrupt { .. } => Code::StoreCorrupt,
            Self::Newer { .. } => Code::StoreNewer,
            Self::InUse { .. } => Code::DataFolderInUse,
        }
    }

    fn retry_after_s(&self) -> Option<u64> {
        self.is_retryable().then_some(1)
    }
}
