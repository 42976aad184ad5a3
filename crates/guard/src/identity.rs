//! People and where they belong: workspaces, users, memberships, invitations, sessions.
//!
//! `workspaces` is the list of tenants; `users` keeps people and who belongs where, `invitations` is how they come, `factor` the second factor;
//! `sessions` lets people in and knows them again; `links` by accounts at providers, which `proofs` are of.
//! `password`, `totp` and `tries` are their pure parts.

mod factor;
mod invitations;
mod links;
mod password;
mod proofs;
mod sessions;
mod totp;
mod tries;
mod users;
mod workspaces;

#[cfg(test)]
mod identity_tests;
#[cfg(test)]
mod links_tests;

use std::time::Duration;

use skep_core::{Code, PublicError};
use skep_crypto::CryptoError;
use skep_store::{MigrationSet, StoreError};

pub use factor::SecondFactor;
pub use invitations::{Accepted, INVITED_FOR, Invitation, Offer};
pub use links::{Admits, Link};
pub use proofs::{Begun, LOGIN_TIME, Proof, is_challenge};
pub use sessions::{
    Known, LoggedIn, Login, PREFIX as SESSION_PREFIX, Session, SessionOptions, Sessions, Visit,
};
pub use users::{Member, User, Users, normal_email};
pub use workspaces::{FirstOwner, Tenant, Tenants};

/// The tables of people and workspaces.
pub const MIGRATIONS: MigrationSet = MigrationSet {
    component: "guard-identity",
    migrations: &[
        skep_store::Migration {
            name: "0001-people",
            sql: include_str!("identity/tables.sql"),
        },
        skep_store::Migration {
            name: "0002-links",
            sql: include_str!("identity/links.sql"),
        },
    ],
    workspace_tables: &["members", "invitations"],
};

/// What is wrong with a wish about people and workspaces.
#[derive(Debug, thiserror::Error)]
pub enum IdentityError {
    /// There is no such workspace, or none that who asks may know of.
    #[error("there is no workspace `{0}`")]
    NoWorkspace(String),
    /// The name is taken, also by one that was removed.
    #[error("the name `{0}` is taken")]
    WorkspaceExists(String),
    /// The workspace cannot go.
    #[error("{0}")]
    WorkspaceInUse(String),
    /// No such person is in the workspace.
    #[error("there is no user `{0}` here")]
    NoUser(String),
    /// There is no such invitation, or not any more.
    #[error("there is no such invitation, or it has ended")]
    NoInvitation,
    /// There is no such session.
    #[error("there is no session `{0}`")]
    NoSession(String),
    /// A workspace has an owner.
    #[error("it is the last owner of the workspace")]
    LastOwner,
    /// Nobody gives or takes more than they have.
    #[error("who has the role {has} cannot give or take the role {role}")]
    TooMuch {
        /// The role of who asks.
        has: String,
        /// The role that it is about.
        role: String,
    },
    /// A part is wrong.
    #[error("`{field}`: {reason}")]
    Invalid {
        /// Which.
        field: &'static str,
        /// What is wrong, and what to write instead.
        reason: String,
    },
    /// E-mail address, password or second factor are wrong; it is not told which.
    #[error("e-mail address, password or code are wrong")]
    WrongLogin,
    /// The password is right, and a code is wanted too.
    #[error("a code of the authenticator is wanted")]
    SecondFactor,
    /// The account at the provider is nobody's here.
    #[error("nobody here has this account, and it is not invited")]
    NotInvited,
    /// A second factor is wanted, and the provider does not say that it asked for one.
    #[error("a second factor is wanted, and the provider does not say that it asked for one")]
    ProviderFactor,
    /// There is no proof of such a login, or not any more.
    #[error("the code is wrong, or there is no such login any more")]
    NoProof,
    /// There is no such link.
    #[error("there is no link `{0}`")]
    NoLink(String),
    /// The account is somebody's already.
    #[error("this account is linked already")]
    LinkTaken,
    /// Nobody would come in any more.
    #[error("it is the last way in: there is no password and no other link")]
    LastWayIn,
    /// What changes how somebody comes in wants to know again who it is.
    #[error("a password, or a login that is not older than some minutes, is wanted for that")]
    NotFresh,
    /// Too many tries.
    #[error("too many tries failed")]
    Wait(Duration),
    /// The system gave no random bytes or no memory.
    #[error("the system gave no random bytes or no memory")]
    System(#[from] CryptoError),
    /// The store's own error.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl IdentityError {
    pub(crate) fn invalid(field: &'static str, reason: impl Into<String>) -> Self {
        let reason = reason.into();
        Self::Invalid { field, reason }
    }
}

impl PublicError for IdentityError {
    fn code(&self) -> Code {
        match self {
            Self::NoWorkspace(_) => Code::WorkspaceNotFound,
            Self::WorkspaceExists(_) => Code::WorkspaceExists,
            Self::WorkspaceInUse(_) => Code::WorkspaceInUse,
            Self::NoUser(_) => Code::UserNotFound,
            Self::NoInvitation => Code::InvitationNotFound,
            Self::NoSession(_) => Code::SessionNotFound,
            Self::LastOwner => Code::LastOwner,
            Self::TooMuch { .. } => Code::Forbidden,
            Self::Invalid { .. } => Code::InvalidSpec,
            Self::WrongLogin => Code::LoginFailed,
            Self::SecondFactor => Code::SecondFactorNeeded,
            Self::NotInvited => Code::NotInvited,
            Self::ProviderFactor | Self::NoProof => Code::ProviderLoginFailed,
            Self::NoLink(_) => Code::LinkNotFound,
            Self::LinkTaken => Code::LinkTaken,
            Self::LastWayIn => Code::LastWayIn,
            Self::NotFresh => Code::NotFresh,
            Self::Wait(_) => Code::RateLimited,
            Self::System(_) => Code::Internal,
            Self::Store(error) => error.code(),
        }
    }

    fn detail(&self) -> String {
        match self {
            Self::Store(error) => error.detail(),
            Self::System(_) => Code::Internal.title().to_owned(),
            other => other.to_string(),
        }
    }

    fn retry_after_s(&self) -> Option<u64> {
        match self {
            Self::Wait(wait) => Some(wait.as_secs().saturating_add(1)),
            Self::Store(error) => error.retry_after_s(),
            _ => None,
        }
    }
}
