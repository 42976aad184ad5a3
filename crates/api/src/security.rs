//! What looked like an attack, as the API shows it.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// Something that looked like an attack.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Detection {
    /// `det_…`.
    pub id: String,
    /// When it was found.
    pub time: String,
    /// What was found: `denials`, `failed-authentications`, `rate`, `networks`, `new-address`, `canary`, `patterns`,
    /// `missing`, `foreign`, `injection`.
    /// New ones may come with any version.
    pub kind: String,
    /// How bad it may be: `low`, `medium`, `high`, `critical`.
    pub severity: String,
    /// The kind of whom it was found of: `ApiKey`, `User`, `Agent`, or `Person` for an address.
    pub subject_kind: String,
    /// Their id; for a `Person` the entry of the audit log knows the address.
    pub subject: String,
    /// The rest, in words.
    pub detail: String,
    /// When somebody said that they had seen it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub acknowledged_at: Option<String>,
}
