//! What can go wrong with a backup.

use std::io;
use std::path::{Path, PathBuf};

use skep_crypto::CryptoError;
use skep_store::StoreError;

/// Why a backup is not made, not read or not restored.
#[derive(Debug, thiserror::Error)]
pub enum BackupError {
    /// A file or folder cannot be used.
    #[error("{path}: {reason}", path = path.display())]
    File {
        /// Which.
        path: PathBuf,
        /// What the system said.
        reason: String,
    },
    /// The disk would be too full for the server.
    #[error("{path}: less than {min_free} bytes would be free", path = path.display())]
    NoRoom {
        /// Where.
        path: PathBuf,
        /// What must stay free.
        min_free: u64,
    },
    /// The file is none of ours.
    #[error("it is not a backup")]
    NotABackup,
    /// The file is no agent's archive.
    #[error("it is not the archive of an agent")]
    NotAnArchive,
    /// The file is of a later form.
    #[error("it was made by a newer Skep")]
    Newer,
    /// The file is encrypted.
    #[error("it is encrypted, and there is no passphrase")]
    NoPassphrase,
    /// The passphrase is another one.
    #[error("the passphrase is not the one that it was made with, or its beginning is damaged")]
    WrongPassphrase,
    /// The file is not as it was written.
    #[error("it is damaged: {0}")]
    Damaged(String),
    /// The file ends too early.
    #[error("it is cut short")]
    Truncated,
    /// There is something where it was to go.
    #[error("{path} is not empty", path = path.display())]
    NotEmpty {
        /// Where.
        path: PathBuf,
    },
    /// The server ends.
    #[error("it was ended before it was done")]
    Stopped,
    /// The store's own error.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// No key could be made.
    #[error(transparent)]
    Vault(CryptoError),
}

impl BackupError {
    pub(crate) fn file(path: &Path, error: &io::Error) -> Self {
        Self::File {
            path: path.to_owned(),
            reason: error.to_string(),
        }
    }

    pub(crate) fn damaged(why: impl Into<String>) -> Self {
        Self::Damaged(why.into())
    }

    /// The next thing to do.
    #[must_use]
    pub const fn hint(&self) -> &'static str {
        match self {
            Self::File { .. } => "See to the file or folder, then try again.",
            Self::NoRoom { .. } => {
                "Make room, keep fewer backups, or put them on another disk with `backup.to`."
            }
            Self::NotABackup => "Name a file that `skep backup create` made.",
            Self::NotAnArchive => "Name a file that `skep export --with-data` made.",
            Self::Newer => "Use the version of Skep that made it, or a newer one.",
            Self::NoPassphrase => {
                "Give it in SKEP_BACKUP_PASSPHRASE or SKEP_BACKUP_PASSPHRASE_FILE, or by --passphrase-file."
            }
            Self::WrongPassphrase => "Try another passphrase; else take another backup.",
            Self::Damaged(_) | Self::Truncated => {
                "Take another copy of it, or an older backup; `skep backup verify` tells which are whole."
            }
            Self::NotEmpty { .. } => "Name a folder that is empty or not there yet.",
            Self::Stopped => "Make it again when the server is back.",
            Self::Store(StoreError::NotEmpty(_)) => {
                "Name an empty database, or empty this one after you made sure that nobody needs it."
            }
            Self::Store(_) => "See to the store with `skep doctor`, then try again.",
            Self::Vault(_) => "Give a passphrase of at least 12 characters.",
        }
    }
}

impl From<CryptoError> for BackupError {
    fn from(error: CryptoError) -> Self {
        match error {
            CryptoError::WrongKey => Self::WrongPassphrase,
            CryptoError::Damaged => Self::damaged("a part of it was changed"),
            CryptoError::Truncated => Self::Truncated,
            CryptoError::Parameters => Self::damaged("its header asks for an unacceptable key"),
            other => Self::Vault(other),
        }
    }
}
