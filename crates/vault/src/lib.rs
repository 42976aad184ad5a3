//! The vault: secrets that agents use and do not see.
//!
//! A value lies in the store encrypted under a *data key* of its own; data keys are encrypted under their
//! workspace's key, those under the root key, that under the *unlock key*, and that by each way in
//! ([`seal`]). Everything is encrypted by the one construction of [`skep_crypto::chunked`], and each ciphertext
//! is bound to its place: none can be put in another's.
//!
//! [`Vault`] is the service: it is *open* or *sealed*, keeps secrets with their versions, lends them
//! ([`Lease`]), shares them, and replaces keys of any level while they are used ([`rotation`]). It knows nothing
//! of who may do what: its caller has asked.

mod brief;
mod error;
pub mod hooks;
pub mod keeper;
mod keyring;
mod lease;
pub mod mount;
pub mod name;
pub mod renewal;
mod room;
pub mod rotation;
mod row;
mod schema;
pub mod seal;
mod secret;
mod secrets;
mod service;
mod share;
mod turn;
mod value;

pub use brief::{Brief, Moment};
pub use error::VaultError;
pub use lease::{Lease, NewLease};
pub use mount::{Known, Mount, NewMount};
pub use name::{Query, SecretName, Tags};
pub use schema::MIGRATIONS;
pub use secret::{About, NewSecret, Secret, State, Version};
pub use secrets::{Bulk, Due, Outcome, Page, Which};
pub use service::{Status, Vault};
pub use share::{AccessRequest, Decision, May, Share};
pub use turn::{Rotation, Work};
pub use value::{Generate, SecretValue};

#[cfg(test)]
mod vault_tests;
