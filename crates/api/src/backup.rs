//! Backups as the API shows them.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// What a backup is to be like.
#[derive(Clone, Default, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NewBackup {
    /// Whether it is encrypted; unless it is said, it is when there is a passphrase.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub encrypt: Option<bool>,
    /// What it is encrypted with, instead of the server's `backup.passphrase`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub passphrase: Option<String>,
}

impl std::fmt::Debug for NewBackup {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("NewBackup")
            .field("encrypt", &self.encrypt)
            .field("passphrase", &self.passphrase.as_ref().map(|_| "…"))
            .finish()
    }
}

/// How far a backup is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum BackupState {
    /// It is being made.
    Running,
    /// It is whole and on disk.
    Done,
    /// It was not made.
    Failed,
}

impl BackupState {
    /// The word of the API.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Running => "running",
            Self::Done => "done",
            Self::Failed => "failed",
        }
    }
}

/// A backup of the server.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct Backup {
    /// Its name, which says when it was begun; names are in the order of time.
    pub name: String,
    /// How far it is.
    pub state: BackupState,
    /// Its size in bytes, when it is done.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bytes: Option<u64>,
    /// Whether it is encrypted.
    pub encrypted: bool,
    /// Why it was not made.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}
