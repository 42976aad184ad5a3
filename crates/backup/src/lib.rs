//! Backups: one file with one consistent state of the store, the blobs that it names, the homes,
//! volumes and logs of the agents; made while the server serves, verified anywhere, restored onto an
//! empty data folder.
//!
//! `archive` is the file's form, [`create`](create()) writes one, [`verify`] reads one, [`restore`](restore())
//! brings one back, [`folder`] keeps the newest of a folder. What is in a table is the store's affair.
//! `agent` is something smaller: one agent with its files, to take elsewhere.

mod agent;
mod archive;
mod create;
mod error;
mod files;
pub mod folder;
mod restore;
mod tree;

pub use agent::{
    AgentHead, AgentTotals, HOME, Part, Staged, VOLUMES, agent_head, stage_agent, write_agent,
};
pub use archive::{Manifest, Summary, TableTotal, Totals, verify};
pub use create::{Plan, create};
pub use error::BackupError;
pub use restore::{Restored, Target, is_half_restored, restore};
