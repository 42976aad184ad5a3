//! The audit log: an append-only transparency log (RFC 6962 tree, c2sp.org/tlog-tiles, signed
//! checkpoints), written with what it records in one transaction, and proven to whoever trusts nobody.
//!
//! A unit of work leaves its entry ([`Entry::to_bytes`]) with [`skep_store::Unit::record`]. [`Written`] writes
//! all entries of a transaction as its last statement. [`Log`] puts them into the tree afterwards, signs
//! its head and proves what is in it. [`verify`] believes nothing but a public key.

mod bundle;
mod entry;
mod error;
mod export;
mod key;
mod log;
mod people;
mod prune;
mod read;
mod schema;
mod tree;
pub mod verify;
mod window;
mod witness;

pub use bundle::split as split_bundle;
pub use entry::{Change, Commitment, Decision, Entry, Thing};
pub use error::AuditError;
pub use export::{Exported, proof_text};
pub use key::{LogKey, PublicKey};
pub use log::{Filter, Found, Head, Log, Page};
pub use people::{Kind, Whose, commit_person, erase_person, knows_person, reveal};
pub use schema::{MIGRATIONS, Written};
pub use tlog_tiles::Hash;
pub use window::Window;
pub use witness::{WitnessKey, WitnessPublicKey};
