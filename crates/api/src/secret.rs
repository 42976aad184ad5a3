//! Secrets and the vault as the API shows them.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// A secret without its value.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Secret {
    /// `sec_…`
    pub id: String,
    /// What it is called in its workspace, such as `billing/stripe`.
    pub name: String,
    /// What it is for.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub description: String,
    /// Tags by name.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub tags: BTreeMap<String, String>,
    /// Its newest version.
    pub latest: u32,
    /// How many versions are kept.
    pub keep: u32,
    /// Whether a new version must say which one it follows.
    pub check: bool,
    /// Whether it is bait.
    pub canary: bool,
    /// For how long a new version counts, such as `30d`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ttl: Option<String>,
    /// How often it should get a new value, such as `90d`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rotate_every: Option<String>,
    /// When it should get a new value (RFC 3339).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rotate_at: Option<String>,
    /// How far its renewal is, when it gets a new value by a hook. Only told of a single secret.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub renewal: Option<SecretRenewal>,
    /// When it was made (RFC 3339).
    pub created_at: String,
    /// When anything of it changed last (RFC 3339).
    pub updated_at: String,
}

/// How far it is with a new value that a hook makes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct SecretRenewal {
    /// What comes next: `making`, `proving`, `kept` (the value before is retired then) or `abandoning`.
    pub phase: String,
    /// The version that the new one follows.
    pub follows: u32,
    /// How often this phase has failed.
    pub tries: u32,
    /// When it is done, or tried again (RFC 3339).
    pub next_at: String,
    /// When it began (RFC 3339).
    pub began_at: String,
}

/// A secret that is wished for.
#[derive(Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NewSecret {
    /// What it is to be called: parts of letters, digits, `.`, `_` and `-` with `/` between them.
    pub name: String,
    /// Its first value, when it is text. One of this and the next two.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub value: Option<String>,
    /// It, in base64.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub value_base64: Option<String>,
    /// Let the vault make it: `password`, `token` or `key`, and `:` with a length.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub generate: Option<String>,
    /// What it is for.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub description: String,
    /// Tags by name.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub tags: BTreeMap<String, String>,
    /// For how long each version counts, such as `30d`; default: without an end.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ttl: Option<String>,
    /// How many versions are kept; default 10.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub keep: Option<u32>,
    /// Whether a new version must say which one it follows.
    #[serde(default)]
    pub check: bool,
    /// Whether it is bait: whoever touches it is told of.
    #[serde(default)]
    pub canary: bool,
    /// How often it should get a new value, such as `90d`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rotate_every: Option<String>,
}

impl std::fmt::Debug for NewSecret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("NewSecret(…)")
    }
}

/// A new version of a secret.
#[derive(Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NewVersion {
    /// Its value, when it is text. One of this and the next two.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub value: Option<String>,
    /// It, in base64.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub value_base64: Option<String>,
    /// Let the vault make it: `password`, `token` or `key`, and `:` with a length.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub generate: Option<String>,
    /// The version that it must follow: when another is the latest, nothing is done.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub follows: Option<u32>,
    /// For how long it counts; default: what the secret says.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ttl: Option<String>,
}

impl std::fmt::Debug for NewVersion {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("NewVersion(…)")
    }
}

/// What is to change of a secret; what is absent stays.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct SecretChange {
    /// A new name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// What it is for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
    /// All of its tags.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tags: Option<BTreeMap<String, String>>,
    /// For how long new versions count; empty: without an end.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ttl: Option<String>,
    /// How many versions are kept.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub keep: Option<u32>,
    /// Whether a new version must say which one it follows.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub check: Option<bool>,
    /// Whether it is bait.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub canary: Option<bool>,
    /// How often it should get a new value; empty: never.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rotate_every: Option<String>,
}

/// A version of a secret, without its value.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct SecretVersion {
    /// Its number.
    pub version: u32,
    /// `live`, `deleted` or `destroyed`.
    pub state: String,
    /// When it was made (RFC 3339).
    pub created_at: String,
    /// Who made it.
    pub created_by: String,
    /// From when on it does not count (RFC 3339).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_at: Option<String>,
}

/// Some versions of a secret.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct SecretVersions {
    /// Their numbers.
    #[schema(max_items = 1000)]
    pub versions: Vec<u32>,
}

/// A wish to see a value.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Reveal {
    /// Why. It stands in the audit log.
    pub reason: String,
    /// Which version; default the latest.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<u32>,
    /// Which field of a value that is a JSON object; default all of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub field: Option<String>,
}

/// A value that somebody asked to see.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Revealed {
    /// Of which secret.
    pub id: String,
    /// Of which version.
    pub version: u32,
    /// The value, when it is text.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub value: Option<String>,
    /// The value in base64, when it is not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub value_base64: Option<String>,
}

impl std::fmt::Debug for Revealed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Revealed(…)")
    }
}

/// Secrets that are to be made, or given new versions: all or none.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct BulkSecrets {
    /// They. What is said besides the value counts for those that are new.
    #[schema(max_items = 1000)]
    pub secrets: Vec<NewSecret>,
    /// Only tell what would be done.
    #[serde(default)]
    pub dry_run: bool,
    /// Make new secrets only: when one of them is there, nothing is done.
    #[serde(default)]
    pub only_new: bool,
}

/// What became of one of many.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct BulkOutcome {
    /// Its name.
    pub name: String,
    /// `created`, `updated` or `unchanged`.
    pub outcome: String,
}

/// A lease that is wished for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NewSecretLease {
    /// For how long, such as `1h`; at most 24h.
    pub ttl: String,
    /// Of which version; default the one that is the latest at each use.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<u32>,
    /// Of which field of its value, when that is a JSON object; default the whole.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub field: Option<String>,
    /// What it ends with: `lease:lse_…`, `instance:ins_…`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub parent: Option<String>,
}

/// For how much longer a lease is to count.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct RenewSecretLease {
    /// From now on, such as `1h`.
    pub ttl: String,
}

/// The right to use a secret for a time.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct SecretLease {
    /// `lse_…`
    pub id: String,
    /// Of which secret.
    pub secret: String,
    /// Of which version; absent when it is always the latest.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<u32>,
    /// Of which field of its value; absent when it is the whole.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub field: Option<String>,
    /// Who may use it.
    pub holder: String,
    /// What it ends with.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub parent: Option<String>,
    /// When it was made (RFC 3339).
    pub created_at: String,
    /// Until when it counts (RFC 3339).
    pub expires_at: String,
    /// Until when it can be renewed (RFC 3339).
    pub renewable_until: String,
}

/// How many leases ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct EndedLeases {
    /// With those that hung on it.
    pub ended: usize,
}

/// That somebody may do something with a secret.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NewSecretShare {
    /// Who: `user:usr_…`, `agent:NAME`, `key:key_…`.
    pub holder: String,
    /// `use`, `reveal` or `write`.
    pub may: String,
    /// For how long, such as `30d`; default: without an end.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lasts: Option<String>,
}

/// A share as it is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct SecretShare {
    /// Who.
    pub holder: String,
    /// `use`, `reveal` or `write`.
    pub may: String,
    /// Since when (RFC 3339).
    pub created_at: String,
    /// Who said so.
    pub created_by: String,
    /// Until when (RFC 3339).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_at: Option<String>,
}

/// That somebody opens a lock file (`agent.lock`).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct LockOpening {
    /// The id of the agent in the file.
    pub agent: String,
    /// The file's epoch.
    pub epoch: u64,
    /// What it is opened for: `get`, `run`, …
    pub command: String,
}

/// A store that is to be mounted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NewSecretMount {
    /// Below which path its secrets are, such as `prod`. Nothing may be there yet.
    pub path: String,
    /// Where it is: `vault:MOUNT/PATH`, `aws:PREFIX`, `azure:NAME`, `gcp:PROJECT`.
    pub address: String,
    /// The secret with what opens it: a JSON object of the variables that the store's own programs know.
    pub with: String,
    /// For how long it is not asked again for a secret, `0s` to `24h`; default: `1m`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cache: Option<String>,
    /// For how long after that a value counts when it cannot be asked, `10s` to `7d`; default: `1h`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stale: Option<String>,
}

/// A store that is mounted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct SecretMount {
    /// `mnt_…`.
    pub id: String,
    /// Below which path its secrets are.
    pub path: String,
    /// Where it is.
    pub address: String,
    /// The secret with what opens it.
    pub with: String,
    /// For how long it is not asked again for a secret.
    pub cache: String,
    /// For how long after that a value counts when it cannot be asked.
    pub stale: String,
    /// Since when (RFC 3339).
    pub created_at: String,
    /// Who mounted it.
    pub created_by: String,
}

/// What a mounted store has.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct MountedSecrets {
    /// It.
    pub mount: SecretMount,
    /// Its secrets that are known here now; none when it has over 1,000: they come as they are used.
    pub secrets: usize,
    /// Those that can be none here: by their names, or because they are empty or too large.
    pub skipped: usize,
}

/// A wish to do something with a secret for a time.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NewSecretRequest {
    /// `use`, `reveal` or `write`.
    pub may: String,
    /// For how long, such as `1h`.
    pub lasts: String,
    /// Why.
    pub reason: String,
}

/// A wish and what became of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct SecretRequest {
    /// `acr_…`
    pub id: String,
    /// Which secret.
    pub secret: String,
    /// Who wishes.
    pub holder: String,
    /// What.
    pub may: String,
    /// Why.
    pub reason: String,
    /// For how long.
    pub lasts: String,
    /// `waiting`, `approved`, `denied` or `withdrawn`.
    pub state: String,
    /// When it was made (RFC 3339).
    pub created_at: String,
    /// When it was decided (RFC 3339).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub decided_at: Option<String>,
    /// By whom.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub decided_by: Option<String>,
}

/// What somebody says to a wish.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct SecretDecision {
    /// Yes or no.
    pub approve: bool,
}

/// How the vault is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct VaultStatus {
    /// `open`, `sealed` or `new`: nobody has set it up.
    pub state: String,
    /// The ways in.
    pub seals: Vec<VaultSeal>,
    /// The version of the root key.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub root_key: Option<i64>,
}

/// A way into the vault.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct VaultSeal {
    /// Its number.
    pub id: i64,
    /// `key`, `passphrase`, `pkcs11` or `kms`.
    pub kind: String,
    /// What people call it.
    pub name: String,
    /// Which key of a token or of a KMS it is of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kept_by: Option<String>,
    /// When it was made (RFC 3339).
    pub created_at: String,
}

/// What opens the vault: one of them.
#[derive(Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Unseal {
    /// A seal key, `skep_seal_…`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key: Option<String>,
    /// A passphrase.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub passphrase: Option<String>,
    /// What the server's configuration names: a token, a KMS, a keychain, a file.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub configured: bool,
}

impl std::fmt::Debug for Unseal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Unseal(…)")
    }
}

/// A new way in. With a name only it is a key that the vault makes and tells once.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NewSeal {
    /// What people call it.
    pub name: String,
    /// A passphrase of at least 12 characters.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub passphrase: Option<String>,
    /// `pkcs11` or `kms`: the key of the token or of the KMS that the server's configuration names.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kept_by: Option<String>,
}

impl std::fmt::Debug for NewSeal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("NewSeal")
            .field("name", &self.name)
            .finish_non_exhaustive()
    }
}

/// A new way in, with the key that nobody can tell again.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct CreatedSeal {
    /// What is known of it.
    pub seal: VaultSeal,
    /// The seal key, when the vault made one: keep it where nobody else reads it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key: Option<String>,
}

impl std::fmt::Debug for CreatedSeal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("CreatedSeal")
            .field("seal", &self.seal)
            .finish_non_exhaustive()
    }
}

/// A rotation of a workspace's keys that is wished for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NewSecretRotation {
    /// `workspace`: its key; `data`: the keys of its values, which are encrypted again.
    pub level: String,
    /// For how long one can go back, such as `7d`, the default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub keep: Option<String>,
}

/// A rotation of the root key that is wished for.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NewRootRotation {
    /// For how long one can go back, such as `7d`, the default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub keep: Option<String>,
}

/// A rotation of keys.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct KeyRotation {
    /// `rot_…`
    pub id: String,
    /// `root`, `workspace` or `data`.
    pub level: String,
    /// `wrapping`, `verifying`, `kept`, `destroying`, `done`, `returning` or `returned`.
    pub phase: String,
    /// The number of the key that is replaced.
    pub old: i64,
    /// The number of the key that replaces it.
    pub new: i64,
    /// How many keys or values the phase has done.
    pub done: u64,
    /// When it began (RFC 3339).
    pub started_at: String,
    /// Until when one can go back (RFC 3339).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub keeps_until: Option<String>,
    /// When it was over (RFC 3339).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ended_at: Option<String>,
}
