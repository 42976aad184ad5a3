//! The SQLite engine: connections, pragmas, statements and what its error codes mean to a caller.

use std::borrow::Cow;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rusqlite::config::DbConfig;
use rusqlite::types::{ToSqlOutput, ValueRef};
use rusqlite::{Connection, ErrorCode, OpenFlags, ToSql};
use skep_core::Timestamp;

use crate::engine::{Ended, Engine};
use crate::unit::Session;
use crate::value::plain;
use crate::{Param, Row, StoreError, Value};

const STATEMENT_CACHE: usize = 256;
/// Pages of 4 KiB in the write-ahead log after which a commit also checkpoints, and all that wait
/// with it: seldom, as most pages are written again and again and copied once.
const CHECKPOINT_PAGES: u32 = 16_384;
/// What the writer keeps of the file in memory, once it has used so much: the inner pages of the
/// indexes of a journal of some hundred thousand calls.
const CACHE_KIB: u32 = 16 << 10;
/// Readers and the writer do not block each other; only recovery at open waits.
const BUSY_TIMEOUT: Duration = Duration::from_secs(5);
/// Files up to this size are checked page by page at every start.
const CHECK_UP_TO_BYTES: u64 = 32 << 20;

/// One connection and the file that it belongs to.
pub(crate) struct Sqlite {
    connection: Connection,
    path: PathBuf,
}

impl Sqlite {
    /// The one connection that writes.
    pub(crate) fn writer(path: &Path) -> Result<Self, StoreError> {
        let flags = OpenFlags::SQLITE_OPEN_READ_WRITE
            | OpenFlags::SQLITE_OPEN_CREATE
            | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let engine = Self::open(path, flags)?;
        engine.run("PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL;")?;
        engine.run(&format!(
            "PRAGMA wal_autocheckpoint = {CHECKPOINT_PAGES}; PRAGMA cache_size = -{CACHE_KIB};"
        ))?;
        engine.check()?;
        Ok(engine)
    }

    /// A connection that only reads.
    pub(crate) fn reader(path: &Path) -> Result<Self, StoreError> {
        let engine = Self::open(
            path,
            OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX,
        )?;
        engine.run("PRAGMA query_only = ON;")?;
        Ok(engine)
    }

    fn open(path: &Path, flags: OpenFlags) -> Result<Self, StoreError> {
        let connection =
            Connection::open_with_flags(path, flags).map_err(|e| translate(path, &e))?;
        connection
            .busy_timeout(BUSY_TIMEOUT)
            .map_err(|e| translate(path, &e))?;
        connection.set_prepared_statement_cache_capacity(STATEMENT_CACHE);
        // A statement keeps its plan whatever is bound to it; without this many are planned anew each time they run.
        connection
            .set_db_config(DbConfig::SQLITE_DBCONFIG_ENABLE_QPSG, true)
            .map_err(|e| translate(path, &e))?;
        Ok(Self {
            connection,
            path: path.to_owned(),
        })
    }

    fn check(&self) -> Result<(), StoreError> {
        let size = std::fs::metadata(&self.path).map_or(0, |meta| meta.len());
        if size > CHECK_UP_TO_BYTES {
            return Ok(());
        }
        let found: String = self
            .connection
            .query_row("PRAGMA quick_check(1)", [], |row| row.get(0))
            .map_err(|e| self.translate(&e))?;
        match found.as_str() {
            "ok" => Ok(()),
            _ => Err(StoreError::Corrupt {
                path: self.path.clone(),
                reason: found,
            }),
        }
    }

    fn run(&self, sql: &str) -> Result<(), StoreError> {
        self.connection
            .execute_batch(sql)
            .map_err(|e| self.translate(&e))
    }

    fn row(&self, row: &rusqlite::Row<'_>, columns: usize) -> Result<Row, StoreError> {
        let values = (0..columns)
            .map(|column| own(row.get_ref(column).map_err(|e| self.translate(&e))?))
            .collect::<Result<_, _>>()?;
        Ok(Row::new(values))
    }

    fn translate(&self, error: &rusqlite::Error) -> StoreError {
        translate(&self.path, error)
    }
}

fn translate(path: &Path, error: &rusqlite::Error) -> StoreError {
    match error.sqlite_error_code() {
        Some(
            ErrorCode::DiskFull
            | ErrorCode::SystemIoFailure
            | ErrorCode::ReadOnly
            | ErrorCode::CannotOpen
            | ErrorCode::DatabaseBusy
            | ErrorCode::DatabaseLocked
            | ErrorCode::OutOfMemory
            | ErrorCode::FileLockingProtocolFailed
            | ErrorCode::PermissionDenied
            | ErrorCode::OperationAborted,
        ) => StoreError::Unavailable(error.to_string()),
        Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase) => StoreError::Corrupt {
            path: path.to_owned(),
            reason: error.to_string(),
        },
        _ => StoreError::Statement(error.to_string()),
    }
}

impl ToSql for Param<'_> {
    fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
        Ok(ToSqlOutput::Borrowed(match self {
            Param::Null => ValueRef::Null,
            Param::Int(value) => ValueRef::Integer(*value),
            Param::Text(value) => match plain(value) {
                Cow::Borrowed(text) => ValueRef::Text(text.as_bytes()),
                Cow::Owned(text) => return Ok(ToSqlOutput::Owned(text.into())),
            },
            Param::Blob(value) => ValueRef::Blob(value),
        }))
    }
}

fn own(value: ValueRef<'_>) -> Result<Value, StoreError> {
    Ok(match value {
        ValueRef::Null => Value::Null,
        ValueRef::Integer(value) => Value::Int(value),
        ValueRef::Text(value) => Value::Text(
            std::str::from_utf8(value)
                .map_err(|_| StoreError::Statement("a text is not UTF-8".to_owned()))?
                .to_owned(),
        ),
        ValueRef::Blob(value) => Value::Blob(value.to_owned()),
        ValueRef::Real(_) => {
            return Err(StoreError::Statement(
                "floating-point columns are not used".to_owned(),
            ));
        }
    })
}

impl Session for Sqlite {
    fn execute(&mut self, sql: &'static str, params: &[Param<'_>]) -> Result<usize, StoreError> {
        let mut statement = self
            .connection
            .prepare_cached(sql)
            .map_err(|e| self.translate(&e))?;
        statement
            .execute(rusqlite::params_from_iter(params))
            .map_err(|e| self.translate(&e))
    }

    fn query(&mut self, sql: &'static str, params: &[Param<'_>]) -> Result<Vec<Row>, StoreError> {
        let mut statement = self
            .connection
            .prepare_cached(sql)
            .map_err(|e| self.translate(&e))?;
        let columns = statement.column_count();
        let mut rows = statement
            .query(rusqlite::params_from_iter(params))
            .map_err(|e| self.translate(&e))?;
        let mut out = Vec::new();
        while let Some(row) = rows.next().map_err(|e| self.translate(&e))? {
            out.push(self.row(row, columns)?);
        }
        Ok(out)
    }

    fn wipe(&mut self, table: &'static str) -> Result<(), StoreError> {
        let mut rows = Vec::new();
        self.scan(&format!("SELECT * FROM {table}"), &mut |row| {
            rows.push(row.clone());
            Ok(())
        })?;
        // A page that becomes free is written over; a page that is divided keeps traces of what it
        // held, so that none of the table's stays.
        self.run(&format!(
            "PRAGMA secure_delete = ON; DELETE FROM {table}; PRAGMA secure_delete = OFF;"
        ))?;
        let columns = rows.first().map_or(0, |row| row.values().len());
        let places: Vec<String> = (1..=columns).map(|at| format!("?{at}")).collect();
        let sql = format!("INSERT INTO {table} VALUES ({})", places.join(", "));
        for row in &rows {
            let values = row.values().iter().map(|value| match value {
                Value::Null => Param::Null,
                Value::Int(value) => Param::Int(*value),
                Value::Text(value) => Param::Text(value),
                Value::Blob(value) => Param::Blob(value),
            });
            self.connection
                .prepare_cached(&sql)
                .and_then(|mut it| it.execute(rusqlite::params_from_iter(values)))
                .map_err(|e| self.translate(&e))?;
        }
        Ok(())
    }

    fn scan(
        &mut self,
        sql: &str,
        each: &mut dyn FnMut(&Row) -> Result<(), StoreError>,
    ) -> Result<(), StoreError> {
        let failed = |e| self.translate(&e);
        let mut statement = self.connection.prepare(sql).map_err(failed)?;
        let columns = statement.column_count();
        let mut rows = statement.query([]).map_err(failed)?;
        while let Some(row) = rows.next().map_err(failed)? {
            each(&self.row(row, columns)?)?;
        }
        Ok(())
    }
}

impl Engine for Sqlite {
    fn begin_write(&mut self) -> Result<(), StoreError> {
        self.execute("BEGIN IMMEDIATE", &[]).map(drop)
    }

    fn begin_read(&mut self) -> Result<(), StoreError> {
        self.execute("BEGIN", &[]).map(drop)
    }

    fn commit(&mut self) -> Result<(), StoreError> {
        self.execute("COMMIT", &[]).map(drop)
    }

    fn roll_back(&mut self) {
        // The engine ends a transaction by itself on some failures.
        if !self.connection.is_autocommit() {
            // When even this fails it ends with the connection's next one.
            let _ = self.run("ROLLBACK");
        }
    }

    fn batch(&mut self, sql: &str) -> Result<(), StoreError> {
        self.run(sql)
    }

    fn schema<'a>(&self, sql: &'a str) -> Cow<'a, str> {
        Cow::Borrowed(sql)
    }

    fn knows_migrations(&mut self) -> Result<bool, StoreError> {
        let present = self.query(
            "SELECT 1 FROM sqlite_master WHERE type = 'table' AND name = 'migrations'",
            &[],
        )?;
        Ok(!present.is_empty())
    }

    fn back_up(&mut self, folder: &Path, now: Timestamp) -> Result<Option<PathBuf>, StoreError> {
        let path = folder.join(format!("before-migration-{}.db", now.as_micros()));
        let failed = |error: std::io::Error| StoreError::Folder {
            path: path.clone(),
            reason: error.to_string(),
        };
        std::fs::create_dir_all(folder).map_err(failed)?;
        self.connection
            .execute("VACUUM INTO ?1", [path.to_string_lossy()])
            .map_err(|error| self.translate(&error))?;
        std::fs::File::open(&path)
            .and_then(|file| file.sync_all())
            .map_err(failed)?;
        std::fs::File::open(folder)
            .and_then(|file| file.sync_all())
            .map_err(failed)?;
        Ok(Some(path))
    }

    fn take_over(&mut self, _epoch: i64, _ended: Ended) {
        // The lock of the data folder sees to it.
    }

    fn settle(&mut self) -> bool {
        // Nobody waits for a reader here; who asked asks again.
        let busy = self.connection.busy_timeout(Duration::ZERO).and_then(|()| {
            self.connection
                .query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |row| {
                    row.get::<_, i64>(0)
                })
        });
        if let Err(error) = self.connection.busy_timeout(BUSY_TIMEOUT) {
            tracing::warn!(%error, "the database waits for nobody now");
        }
        matches!(busy, Ok(0))
    }

    fn finish(&mut self) {
        // Whoever copies the database of a stopped server has everything in one file.
        if let Err(error) = self.run("PRAGMA wal_checkpoint(TRUNCATE)") {
            tracing::warn!(%error, "the write-ahead log stays beside the database");
        }
    }
}
