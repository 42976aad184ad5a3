//! Guard: who may do what. [`policy`] decides by Cedar policies: those that Skep ships for its roles,
//! and those of each workspace. [`keys`] knows who shows an API key, [`tokens`] agents, [`identity`] people and
//! workspaces, [`jwt`] who bears a token of an outside issuer, [`oidc`] who logged in at a provider,
//! [`certificates`] who shows a certificate.
//!
//! Knows nothing of HTTP, of how somebody shows who they are, or of what is decided about: who asks
//! hands in a [`Principal`], an action's name and a [`Resource`], and gets a [`Decision`].

pub mod certificates;
pub mod identity;
pub mod jwt;
pub mod keys;
pub mod limits;
pub mod oidc;
pub mod outgoing;
pub mod policy;
pub mod quotas;
pub mod threats;
pub mod tokens;

pub use policy::{
    Ask, Circumstances, Decision, Policies, PolicyError, Principal, PrincipalKind, Resource, Role,
    Scopes,
};
