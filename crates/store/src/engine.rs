//! What the store needs of a database engine. There are two: SQLite and PostgreSQL.

use std::borrow::Cow;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use skep_core::Timestamp;
use tokio::sync::watch;

use crate::StoreError;
use crate::unit::Session;

/// Whether another server has ended this one.
pub(crate) type Ended = Arc<watch::Sender<bool>>;

/// One connection. It is used by one thread at a time.
pub(crate) trait Engine: Session + Send {
    /// Begins a transaction that writes, unless another server has ended this one: see
    /// [`Engine::take_over`].
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

    /// Keeps other servers from starting until [`Engine::let_start`].
    fn start_alone(&mut self) -> Result<(), StoreError> {
        Ok(())
    }

    /// Lets other servers start.
    fn let_start(&mut self) -> Result<(), StoreError> {
        Ok(())
    }

    /// Whether several servers may use the database at the same time.
    fn is_shared(&self) -> bool {
        false
    }

    /// The epoch has begun: from now on the engine writes only while the server's row says that it
    /// lives, and says in `ended` when it does not.
    fn take_over(&mut self, epoch: i64, ended: Ended);

    /// Moves everything that is committed to the database's own file, where the engine keeps some of
    /// it elsewhere. False when it could not: somebody reads what was there before.
    fn settle(&mut self) -> bool {
        true
    }

    /// The last thing before the connection is closed.
    fn finish(&mut self);
}
