//! Backups: one file with one consistent state of the store, the blobs that it names, the homes,
//! volumes and logs of the agents; made while the server serves, verified anywhere, restored onto an
//! empty data folder.
//!
//! `archive` is the file's form, [`create`](create()) writes one, [`verify`] reads one, [`restore`](restore())
//! brings one back, [`folder`] keeps the newest of a folder. What is in a table is the store's affair.

mod archive;
mod create;
mod error;
mod files;
pub mod folder;
mod restore;
mod tree;

pub use archive::{Manifest, Summary, TableTotal, Totals, verify};
pub use create::{Plan, create};
pub use error::BackupError;
pub use restore::{Restored, Target, is_half_restored, restore};
