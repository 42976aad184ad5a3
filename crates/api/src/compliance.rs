//! What the evidence says of a framework's controls, as the API shows it.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// The controls of a framework, with what the evidence says of each.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Compliance {
    /// `gdpr`, `hipaa`, `sox`, `soc2`.
    pub framework: String,
    /// The workspace.
    pub workspace: String,
    /// From when on the log was looked at.
    pub since: String,
    /// Until when.
    pub until: String,
    /// The signed head of the log by which the entries are proven.
    pub checkpoint: String,
    /// The log's public key.
    pub public_key: String,
    /// The controls, in the catalog's order.
    pub controls: Vec<ComplianceControl>,
}

/// A control.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ComplianceControl {
    /// Its id in the catalog: `gdpr-3`.
    pub id: String,
    /// What it is called.
    pub title: String,
    /// The article or criterion that it comes from.
    pub reference: String,
    /// `satisfied`, `not-satisfied`, or `not-assessable`.
    pub state: String,
    /// Why, in words.
    pub detail: String,
    /// What the log was asked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub query: Option<String>,
    /// Entries that the answer has.
    pub count: u64,
    /// The newest of them, with their proofs.
    pub entries: Vec<ComplianceEntry>,
    /// What a person has to bring.
    pub person: String,
}

/// An entry that shows something.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ComplianceEntry {
    /// Its number in the log.
    pub number: u64,
    /// The proof that it is there, as text (c2sp.org/tlog-proof).
    pub proof: String,
}
