//! What the store needs of a database engine. There are two: SQLite and PostgreSQL.

use std::borrow::Cow;
use std::path::{Path, PathBuf};

use skep_core::Timestamp;

use crate::StoreError;
use crate::unit::Session;

/// One connection. It is used by one thread at a time.
pub(crate) trait Engine: Session + Send {
    /// Begins a transaction that writes. The only one at a time: see [`Engine::take_over`].
    fn begin_write(&mut self) -> Result<(), StoreError>;

    /// Begins a transaction that sees one state and writes nothing.
    fn begin_read(&mut self) -> Result<(), StoreError>;

    /// Makes what was written durable.
    fn commit(&mut self) -> Result<(), StoreError>;

    /// Ends the open transaction, if one is open, without effect.
    fn roll_back(&mut self);

    /// Runs several statements that return nothing.
    fn batch(&mut self, sql: &str) -> Result<(), StoreError>;

    /// Statements of a schema as the engine takes them: their types are `TEXT`, `BIGINT`, `BLOB`.
    fn schema<'a>(&self, sql: &'a str) -> Cow<'a, str>;

    /// Whether there is a table of migrations.
    fn knows_migrations(&mut self) -> Result<bool, StoreError>;

    /// Copies the database before it is migrated, where the engine can do that by itself.
    fn back_up(&mut self, folder: &Path, now: Timestamp) -> Result<Option<PathBuf>, StoreError>;

    /// The epoch has begun: from now on the engine makes sure that it is the last one.
    fn take_over(&mut self, epoch: i64);

    /// The last thing before the connection is closed.
    fn finish(&mut self);
}
