//! Workspaces, people, invitations and sessions as the API shows them. What holds a secret is never shown by
//! `Debug`.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// A workspace.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct WorkspaceInfo {
    /// Its name.
    pub name: String,
    /// What who asks is there; absent for one that they only administer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub role: Option<String>,
    /// When it was made (RFC 3339); absent for `default`, and for who does not administer the server.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub created_at: Option<String>,
}

/// A workspace that is wished for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NewWorkspace {
    /// Its name: 1–63 of a-z, 0-9 and `-`. One that was removed is not given again.
    pub name: String,
}

/// A workspace with how much it has and may have.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct WorkspaceDetail {
    /// Its name.
    pub name: String,
    /// How much of each.
    pub quotas: Vec<QuotaUse>,
}

/// How much a workspace has of one thing, and may have.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct QuotaUse {
    /// `agents`, `instances`, `calls-waiting`, `calls-per-day`, `keys`, `users` or `stored-bytes`.
    pub what: String,
    /// How much there is; absent where it is not counted (calls of a day without a quota of them).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub used: Option<u64>,
    /// How much there may be; absent without such a limit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub most: Option<u64>,
    /// Whether that is said for this workspace, and not for all.
    pub own: bool,
}

/// How much a workspace may have: a number, `none` for no limit, or `default` for what holds for all. What is absent
/// stays as it is.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NewQuota {
    /// Agents.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub agents: Option<String>,
    /// Instances of all agents, each at its most, on each server.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub instances: Option<String>,
    /// Calls that wait, on each server.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub calls_waiting: Option<String>,
    /// Calls that are accepted on one day (UTC).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub calls_per_day: Option<String>,
    /// API keys that count.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub keys: Option<String>,
    /// People, and open invitations.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub users: Option<String>,
    /// Bytes that ended calls hold, such as `10GiB`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stored_bytes: Option<String>,
}

/// A new workspace, and how its first owner gets in.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct CreatedWorkspace {
    /// Its name.
    pub name: String,
    /// A key of an owner of it, told once; absent when a person made it, who owns it themselves.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secret: Option<String>,
}

/// A person in a workspace.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct User {
    /// `usr_…`
    pub id: String,
    /// Their address.
    pub email: String,
    /// What people call them.
    pub name: String,
    /// `viewer`, `member`, `admin` or `owner`.
    pub role: String,
    /// Whether a code of an authenticator is wanted of them.
    pub second_factor: bool,
    /// Since when they are in the workspace (RFC 3339).
    pub since: String,
}

/// Another role for somebody.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NewRole {
    /// `viewer`, `member`, `admin` or `owner`: no more than who gives it has.
    pub role: String,
}

/// An invitation that is open.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Invitation {
    /// `inv_…`
    pub id: String,
    /// The workspace.
    pub workspace: String,
    /// For whom: it counts for this address only.
    pub email: String,
    /// As what.
    pub role: String,
    /// Who invited.
    pub invited_by: String,
    /// When (RFC 3339).
    pub created_at: String,
    /// When it ends (RFC 3339).
    pub expires_at: String,
}

/// An invitation that is wished for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NewInvitation {
    /// For whom.
    pub email: String,
    /// `viewer`, `member`, `admin` or `owner`: no more than who gives it has.
    pub role: String,
    /// For how long it counts; default `7d`, at most `90d`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_in: Option<String>,
}

/// A new invitation with its text, which nobody can tell again.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct CreatedInvitation {
    /// What is known of it.
    #[serde(flatten)]
    pub invitation: Invitation,
    /// What the invited person shows; hand it over where nobody else reads it.
    pub secret: String,
}

/// How an invitation is taken.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct AcceptInvitation {
    /// The text of the invitation.
    pub secret: String,
    /// What people call you; not needed from who has an account.
    #[serde(default)]
    pub name: String,
    /// A password of at least 12 characters; from who has an account, the one that they have.
    #[serde(default)]
    pub password: String,
    /// An account at a provider instead of a password; it has the address that is invited.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub proof: Option<Proof>,
}

/// A provider that people log in by.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Provider {
    /// Its name.
    pub name: String,
    /// What people call it.
    pub label: String,
    /// Where browsers begin a login there.
    pub login: String,
}

/// What a browser did for a program at a provider: the program began it with the S256 challenge (RFC 7636) of
/// `verifier`, and the browser showed `code` at its end.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Proof {
    /// What the challenge is made of: 256 bits in base64url.
    pub verifier: String,
    /// The code.
    pub code: String,
}

/// Who wants in by a provider, for programs.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ProvenLogin {
    /// What the browser did.
    pub proof: Proof,
    /// The workspace to be in first; default: the first one of yours.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub workspace: Option<String>,
}

/// An account at a provider that somebody comes in by.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Link {
    /// `lnk_…`
    pub id: String,
    /// What the provider is called here; absent when it is none of the configuration any more.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub provider: Option<String>,
    /// What it calls itself.
    pub issuer: String,
    /// The address that it said when it was linked, if that was known to be theirs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub email: Option<String>,
    /// Since when (RFC 3339).
    pub created_at: String,
    /// When it was last used (RFC 3339).
    pub used_at: String,
}

/// An account to link.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NewLink {
    /// What the browser did.
    pub proof: Proof,
    /// The password; not needed within ten minutes of a login.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub password: Option<String>,
}

/// Shows again who takes a link away.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct DropLink {
    /// The password; not needed within ten minutes of a login.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub password: Option<String>,
}

/// Who wants in.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Login {
    /// The address.
    pub email: String,
    /// The password.
    pub password: String,
    /// Six digits of the authenticator, or a recovery code, when a second factor is set.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub code: Option<String>,
    /// The workspace to be in first; default: the first one of yours.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub workspace: Option<String>,
    /// Tells the session's text in the answer instead of a cookie, for programs: it is sent as an API
    /// key is.
    #[serde(default)]
    pub token: bool,
}

/// A session.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Session {
    /// `ses_…`
    pub id: String,
    /// Whether it is the one of this request.
    pub current: bool,
    /// When it began (RFC 3339).
    pub created_at: String,
    /// When it was last used, within a minute (RFC 3339).
    pub used_at: String,
    /// When it ends at the latest (RFC 3339).
    pub expires_at: String,
    /// Where it began.
    pub remote: String,
    /// What the browser calls itself.
    pub agent: String,
}

/// A session that has just begun.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct LoggedIn {
    /// The session.
    pub session: Session,
    /// Who is in.
    pub me: Me,
    /// The session's text, when it was asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub token: Option<String>,
}

/// Who asks.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Me {
    /// `User`, `ApiKey` or `Agent`.
    pub kind: String,
    /// Their id.
    pub id: String,
    /// Where they are.
    pub workspace: String,
    /// What they are there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub role: Option<String>,
    /// How far of that role they may go; for keys.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub scopes: Vec<String>,
    /// The address; for people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub email: Option<String>,
    /// Whether a second factor is set; for people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub second_factor: Option<bool>,
}

/// Another password.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NewPassword {
    /// The one that counts now.
    pub old: String,
    /// At least 12 characters.
    pub new: String,
}

/// What an authenticator is set up with.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct SecondFactor {
    /// To type in.
    pub secret: String,
    /// To read as a picture.
    pub uri: String,
}

/// Shows that an authenticator is set up.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ConfirmSecondFactor {
    /// The secret that was told.
    pub secret: String,
    /// Six digits.
    pub code: String,
    /// The password.
    pub password: String,
}

/// Codes that count once each instead of the authenticator's, told once.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct RecoveryCodes {
    /// They are.
    pub codes: Vec<String>,
}

/// Shows who it is.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Password {
    /// The password.
    pub password: String,
}

macro_rules! hidden {
    ($($name:ident),*) => {
        $(impl std::fmt::Debug for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str(concat!(stringify!($name), "(…)"))
            }
        })*
    };
}

hidden!(
    CreatedWorkspace,
    CreatedInvitation,
    AcceptInvitation,
    Proof,
    ProvenLogin,
    NewLink,
    DropLink,
    Login,
    LoggedIn,
    NewPassword,
    SecondFactor,
    ConfirmSecondFactor,
    RecoveryCodes,
    Password
);
