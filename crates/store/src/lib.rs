//! The store: `Db` over an embedded SQLite file or a PostgreSQL database, and a folder of
//! content-addressed blobs.
//!
//! A change is one *unit of work* handed to the single writer ([`Db::write`]); the writer commits
//! all units that wait as one transaction (group commit) and answers each when the commit is on
//! disk. Reads run on a pool of read-only connections ([`Db::read`]). SQL reaches a workspace's
//! tables only through a [`Scope`], which binds the workspace as `?1` and refuses a statement
//! that does not use it; it reaches the server's own tables only through a [`ServerScope`], which
//! refuses one that names a workspace's table.
//!
//! Nothing of the engine shows in the interface: statements are `&'static str` with numbered
//! parameters, values are [`Param`] and [`Value`]. What lives here knows nothing of calls or agents.

mod blobs;
mod cause;
mod db;
mod dump;
mod engine;
mod error;
mod load;
mod lock;
mod migrate;
mod parts;
mod postgres;
mod schema;
mod servers;
mod sqlite;
mod unit;
mod value;
mod writer;

pub use blobs::{BlobHold, BlobRef, BlobWriter, Blobs, Hash, PinnedBlob};
pub use cause::{By, Cause, Change};
pub use db::{Db, Options};
pub use dump::{Dump, TableSum};
pub use error::StoreError;
pub use load::{Loader, Raise, move_store};
pub use lock::FolderLock;
pub use migrate::{Migration, MigrationSet};
pub use schema::{Applied, Schema, Table};
pub use servers::{Beat, ServerRow};
pub use unit::{MOST_ENTRY, Reader, Recorder, Scope, ServerScope, Unit};
pub use value::{Param, Row, Value};
pub use writer::CommitStats;

#[doc(hidden)]
pub mod conformance;
