//! The audit log as the API shows it.

use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::ToSchema;

/// An entry of the audit log.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct AuditEntry {
    /// Its number in the log, from 0.
    pub number: u64,
    /// What it tells. Its proof is about its bytes, which an export has.
    #[schema(value_type = Object)]
    pub entry: Value,
    /// The personal data that belongs to it. The log has nothing but commitments to it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub personal: Vec<AuditPersonal>,
}

/// Personal data that belongs to an entry.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct AuditPersonal {
    /// What it is: `address`, `email`.
    pub kind: String,
    /// Whose it is; by this it is erased.
    pub person: String,
    /// What it is in clear; absent when it was erased.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub value: Option<String>,
}

/// What was erased.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct AuditErased {
    /// Of whom.
    pub person: String,
    /// How many values.
    pub values: u64,
    /// Whether the files of an SQLite database hold nothing of them any more; `false`: that comes within
    /// seconds, when nobody reads any more what was there before.
    pub settled: bool,
}

/// An entry with the proof that it is in the log.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct AuditProof {
    /// Its number in the log.
    pub number: u64,
    /// Its bytes, as they were hashed.
    pub entry: String,
    /// The proof, as text (c2sp.org/tlog-proof).
    pub proof: String,
}

/// The signed head of the log.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct AuditCheckpoint {
    /// Entries in the log.
    pub size: u64,
    /// The head as a signed note (c2sp.org/tlog-checkpoint).
    pub checkpoint: String,
    /// The key that signed it; believe it only when you have it from elsewhere too.
    pub public_key: String,
}

/// The proof that a log only grew.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct AuditConsistency {
    /// Hashes of the tree (RFC 6962, section 2.1.2), in base64.
    pub proof: Vec<String>,
}
