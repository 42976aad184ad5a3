//! The PostgreSQL engine: one connection that writes, and connections that read. A connection that
//! broke is made anew with the next transaction.
//!
//! Several servers may use one database. Each has a row, and each of its transactions that write
//! begins with a shared lock on the number of its epoch and a look at that row. Who ends a server
//! takes that lock alone and changes the row: what the other has begun to commit counts, and
//! nothing that comes later does ([`Engine::take_over`]).
//!
//! Statements are those of SQLite with `$1` for `?1` and `BYTEA` for `BLOB`. What stays different:
//! when the connection breaks during a commit, nobody knows whether it took place
//! ([`StoreError::Doubtful`]).

use std::borrow::Cow;
use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use bytes::BytesMut;
use postgres::error::SqlState;
use postgres::types::{IsNull, ToSql, Type};
use postgres::{Client, Config, SimpleQueryMessage, Statement};
use rustls::ClientConfig;
use skep_core::Timestamp;
use tokio_postgres_rustls::MakeRustlsConnect;

use crate::engine::{Ended, Engine};
use crate::unit::Session;
use crate::value::plain;
use crate::{Param, Row, StoreError, Value};

const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// What was sent and not acknowledged for so long ends the connection.
const USER_TIMEOUT: Duration = Duration::from_secs(10);
const KEEPALIVE: Duration = Duration::from_secs(5);
/// The longest that a start waits for the start of another server.
const START_PATIENCE: Duration = Duration::from_secs(30);
/// The advisory lock of a start, "skep" in ASCII; with an epoch beside it, that of a server's
/// transactions.
const LOCK: i32 = 0x736b_6570;
/// The number of the lock of those that change rows of all servers; servers' own are not below 0.
const TURN: i32 = -1;
/// Rows of a scan that are in memory at once.
const SCAN_PAGE: u32 = 64;
/// Statements that are prepared on one connection.
const MOST_STATEMENTS: usize = 512;

/// What every transaction of a session keeps to. Commits wait for the disk whatever the database's
/// own default says, and a statement that waits for others does not wait for ever.
const SESSION: &str = "SET synchronous_commit = on; SET lock_timeout = '10s'; \
    SET statement_timeout = '60s'; SET idle_in_transaction_session_timeout = '60s'; \
    SET client_min_messages = warning;";
/// For connections that write: a server that stands still in a transaction must not keep others
/// from taking its place.
const WRITER: &str = "SET idle_in_transaction_session_timeout = '3s';";

/// How to reach a database. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Address {
    config: Arc<Config>,
    /// Without the password, for messages.
    shown: Arc<str>,
}

impl Address {
    /// Parses `postgres://user:password@host:port/database?sslmode=…`.
    pub(crate) fn parse(url: &str) -> Result<Self, StoreError> {
        let wrong = |why: String| StoreError::Address(why);
        let mut config: Config = url
            .parse()
            .map_err(|error: postgres::Error| wrong(error.to_string()))?;
        if config.get_hosts().is_empty() {
            return Err(wrong("it names no host".to_owned()));
        }
        config
            .connect_timeout(CONNECT_TIMEOUT)
            .tcp_user_timeout(USER_TIMEOUT)
            .keepalives_idle(KEEPALIVE)
            .application_name("skep");
        let hosts: Vec<String> = config.get_hosts().iter().map(host).collect();
        let database = config.get_dbname().unwrap_or("the user's database");
        let shown = format!("{database} at {}", hosts.join(", ")).into();
        let config = Arc::new(config);
        Ok(Self { config, shown })
    }

    pub(crate) fn connect(&self) -> Result<Client, StoreError> {
        let failed = |error: postgres::Error| self.translate(&error);
        let tls = MakeRustlsConnect::new(tls()?);
        let mut client = self.config.connect(tls).map_err(failed)?;
        client.batch_execute(SESSION).map_err(failed)?;
        Ok(client)
    }

    pub(crate) fn translate(&self, error: &postgres::Error) -> StoreError {
        let Some(db) = error.as_db_error() else {
            let cause = std::error::Error::source(error);
            let why = cause.map_or_else(|| error.to_string(), ToString::to_string);
            // It is the caller's when the values do not fit the statement.
            return match error.is_closed() || error.to_string().contains("connect") {
                false if cause.is_some_and(|cause| cause.is::<WrongType>()) => {
                    StoreError::Statement(why)
                }
                _ => StoreError::Unavailable(format!("{}: {why}", self.shown)),
            };
        };
        let code = db.code();
        // Classes of SQLSTATE: the connection, the transaction, resources, the operator, the system.
        let class = &code.code()[..2];
        let passing = matches!(class, "08" | "40" | "53" | "55" | "57" | "58");
        if passing || *code == SqlState::READ_ONLY_SQL_TRANSACTION {
            return StoreError::Unavailable(format!("{}: {}", self.shown, db.message()));
        }
        match class {
            // Who may connect, and to what.
            "28" | "3D" => StoreError::Address(format!("{}: {}", self.shown, db.message())),
            _ => StoreError::Statement(db.message().to_owned()),
        }
    }
}

fn host(host: &postgres::config::Host) -> String {
    match host {
        postgres::config::Host::Tcp(name) => name.clone(),
        postgres::config::Host::Unix(path) => path.display().to_string(),
    }
}

/// TLS as `sslmode` asks for it, with the certificates that this machine trusts.
fn tls() -> Result<ClientConfig, StoreError> {
    let mut roots = rustls::RootCertStore::empty();
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| StoreError::Address(error.to_string()))?;
    Ok(builder.with_root_certificates(roots).with_no_client_auth())
}

/// One connection, or none for the time being.
pub(crate) struct Postgres {
    address: Address,
    client: Option<Client>,
    statements: HashMap<usize, Statement>,
    /// The epoch that this server has, when the connection writes, and who is to know that it ended.
    epoch: Option<(i64, Ended)>,
    writes: bool,
    open: bool,
    /// Whether the open transaction has its turn: see [`Session::in_turn`].
    in_turn: bool,
}

impl Postgres {
    /// The one connection that writes.
    pub(crate) fn writer(address: &Address) -> Result<Self, StoreError> {
        let mut engine = Self::new(address, true);
        engine.connect()?;
        Ok(engine)
    }

    /// A connection that only reads; it is made with the first read.
    pub(crate) fn reader(address: &Address) -> Self {
        Self::new(address, false)
    }

    fn new(address: &Address, writes: bool) -> Self {
        Self {
            address: address.clone(),
            client: None,
            statements: HashMap::new(),
            epoch: None,
            writes,
            open: false,
            in_turn: false,
        }
    }

    fn connect(&mut self) -> Result<(), StoreError> {
        self.statements.clear();
        self.open = false;
        drop_elsewhere(self.client.take());
        self.client = Some(self.address.connect()?);
        match self.writes {
            true => self.batch(WRITER),
            false => Ok(()),
        }
    }

    fn begin(&mut self, sql: &str) -> Result<(), StoreError> {
        if self.client.as_ref().is_none_or(Client::is_closed) {
            self.connect()?;
        }
        let begun = self.batch(sql);
        match begun {
            Err(StoreError::Unavailable(_)) => {
                // It was closed while nobody looked: once more on a new one.
                self.connect()?;
                self.batch(sql)?;
            }
            other => other?,
        }
        self.open = true;
        self.in_turn = false;
        Ok(())
    }

    fn client(&mut self) -> Result<&mut Client, StoreError> {
        let gone = || StoreError::Unavailable("the connection is gone".to_owned());
        self.client.as_mut().ok_or_else(gone)
    }

    fn prepared(&mut self, sql: &'static str) -> Result<Statement, StoreError> {
        let key = sql.as_ptr() as usize;
        if let Some(statement) = self.statements.get(&key) {
            return Ok(statement.clone());
        }
        let numbered = sql.replace('?', "$");
        let prepared = self.client()?.prepare(&numbered);
        let statement = prepared.map_err(|error| self.address.translate(&error))?;
        if self.statements.len() >= MOST_STATEMENTS {
            self.statements.clear();
        }
        self.statements.insert(key, statement.clone());
        Ok(statement)
    }
}

/// A client ends its conversation when it is dropped, which must not happen on an async thread.
pub(crate) fn drop_elsewhere(client: Option<Client>) {
    if let Some(client) = client {
        std::thread::spawn(move || drop(client));
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        drop_elsewhere(self.client.take());
    }
}

/// A value in the type that the statement has at its place.
#[derive(Debug)]
struct Bound<'a>(Param<'a>);

/// A value that does not fit.
#[derive(Debug, thiserror::Error)]
#[error("a value does not fit the column's type {0}")]
struct WrongType(String);

impl ToSql for Bound<'_> {
    fn to_sql(
        &self,
        kind: &Type,
        out: &mut BytesMut,
    ) -> Result<IsNull, Box<dyn std::error::Error + Sync + Send>> {
        let wrong = || WrongType(kind.name().to_owned());
        match (self.0, kind) {
            (Param::Null, _) => Ok(IsNull::Yes),
            (Param::Int(value), &Type::INT8) => value.to_sql(kind, out),
            (Param::Int(value), &Type::INT4) => {
                i32::try_from(value).map_err(|_| wrong())?.to_sql(kind, out)
            }
            (Param::Int(value), &Type::BOOL) => (value != 0).to_sql(kind, out),
            (Param::Text(value), &Type::TEXT | &Type::VARCHAR) => plain(value).to_sql(kind, out),
            (Param::Blob(value), &Type::BYTEA) => value.to_sql(kind, out),
            _ => Err(wrong().into()),
        }
    }

    fn accepts(_: &Type) -> bool {
        true
    }

    postgres::types::to_sql_checked!();
}

fn own(row: &postgres::Row, column: usize) -> Result<Value, StoreError> {
    let kind = row.columns()[column].type_();
    let failed = |error: postgres::Error| StoreError::Statement(error.to_string());
    let value = match *kind {
        Type::INT8 => row
            .try_get::<_, Option<i64>>(column)
            .map(|v| v.map(Value::Int)),
        Type::INT4 => row
            .try_get::<_, Option<i32>>(column)
            .map(|v| v.map(|v| Value::Int(v.into()))),
        Type::TEXT | Type::VARCHAR => row
            .try_get::<_, Option<String>>(column)
            .map(|v| v.map(Value::Text)),
        Type::BYTEA => row
            .try_get::<_, Option<Vec<u8>>>(column)
            .map(|v| v.map(Value::Blob)),
        _ => {
            let text = format!("columns of type {} are not used", kind.name());
            return Err(StoreError::Statement(text));
        }
    };
    Ok(value.map_err(failed)?.unwrap_or(Value::Null))
}

fn own_row(row: &postgres::Row) -> Result<Row, StoreError> {
    let values = (0..row.len()).map(|column| own(row, column));
    Ok(Row::new(values.collect::<Result<_, _>>()?))
}

impl Session for Postgres {
    fn execute(&mut self, sql: &'static str, params: &[Param<'_>]) -> Result<usize, StoreError> {
        // The locks that were taken since the savepoint are given up.
        self.in_turn &= !sql.starts_with("ROLLBACK");
        let statement = self.prepared(sql)?;
        let bound: Vec<Bound<'_>> = params.iter().copied().map(Bound).collect();
        let refs: Vec<&(dyn ToSql + Sync)> = bound.iter().map(|one| one as _).collect();
        let changed = self.client()?.execute(&statement, &refs);
        let changed = changed.map_err(|error| self.address.translate(&error))?;
        Ok(usize::try_from(changed).unwrap_or(usize::MAX))
    }

    fn query(&mut self, sql: &'static str, params: &[Param<'_>]) -> Result<Vec<Row>, StoreError> {
        let statement = self.prepared(sql)?;
        let bound: Vec<Bound<'_>> = params.iter().copied().map(Bound).collect();
        let refs: Vec<&(dyn ToSql + Sync)> = bound.iter().map(|one| one as _).collect();
        let rows = self.client()?.query(&statement, &refs);
        let rows = rows.map_err(|error| self.address.translate(&error))?;
        rows.iter().map(own_row).collect()
    }

    fn scan(
        &mut self,
        sql: &str,
        each: &mut dyn FnMut(&Row) -> Result<(), StoreError>,
    ) -> Result<(), StoreError> {
        self.batch(&format!("DECLARE skep_scan NO SCROLL CURSOR FOR {sql}"))?;
        let page = format!("FETCH FORWARD {SCAN_PAGE} FROM skep_scan");
        let page = self.client()?.prepare(&page);
        let page = page.map_err(|error| self.address.translate(&error))?;
        loop {
            let rows = self.client()?.query(&page, &[]);
            let rows = rows.map_err(|error| self.address.translate(&error))?;
            if rows.is_empty() {
                return self.batch("CLOSE skep_scan");
            }
            for row in &rows {
                each(&own_row(row)?)?;
            }
        }
    }

    fn by_bytes(&self) -> &'static str {
        "COLLATE \"C\""
    }

    fn take_time(&mut self) -> Result<(), StoreError> {
        self.batch(
            "SET LOCAL statement_timeout = 0; SET LOCAL idle_in_transaction_session_timeout = 0",
        )
    }

    fn fence_off(&mut self, epoch: i64) -> Result<bool, StoreError> {
        let look = format!(
            "SELECT 1 WHERE pg_try_advisory_xact_lock({LOCK}, {key})",
            key = key(epoch)
        );
        let answer = self.client()?.simple_query(&look);
        let answer = answer.map_err(|error| self.address.translate(&error))?;
        let got = |message: &SimpleQueryMessage| matches!(message, SimpleQueryMessage::Row(_));
        Ok(answer.iter().any(got))
    }

    fn in_turn(&mut self) -> Result<(), StoreError> {
        if self.in_turn {
            return Ok(());
        }
        self.batch(&format!("SELECT pg_advisory_xact_lock({LOCK}, {TURN})"))?;
        self.in_turn = true;
        Ok(())
    }
}

/// The number of a server's lock.
fn key(epoch: i64) -> i32 {
    // Epochs begin at 1 and the low half of so many is enough.
    (epoch & 0x7fff_ffff) as i32
}

impl Engine for Postgres {
    fn begin_write(&mut self) -> Result<(), StoreError> {
        self.begin("BEGIN ISOLATION LEVEL READ COMMITTED READ WRITE")?;
        let Some((epoch, ended)) = self.epoch.clone() else {
            return Ok(());
        };
        // One round trip. The row is looked at when the lock is held.
        let look = format!(
            "SELECT pg_advisory_xact_lock_shared({LOCK}, {key}); \
             SELECT 1 FROM servers WHERE epoch = {epoch} AND state = 'live'",
            key = key(epoch)
        );
        let answer = self.client()?.simple_query(&look);
        let answer = answer.map_err(|error| self.address.translate(&error))?;
        let rows = answer
            .iter()
            .filter(|message| matches!(message, SimpleQueryMessage::Row(_)));
        if rows.count() == 2 {
            return Ok(());
        }
        self.roll_back();
        ended.send_replace(true);
        Err(StoreError::Unavailable(format!(
            "{}: another server has taken over",
            self.address.shown
        )))
    }

    fn begin_read(&mut self) -> Result<(), StoreError> {
        self.begin("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY")
    }

    fn commit(&mut self) -> Result<(), StoreError> {
        self.open = false;
        let done = self.client()?.batch_execute("COMMIT");
        done.map_err(|error| match self.address.translate(&error) {
            // The database itself says that it did not.
            refused if error.as_db_error().is_some() => refused,
            StoreError::Unavailable(why) => StoreError::Doubtful(why),
            other => other,
        })
    }

    fn roll_back(&mut self) {
        self.open = false;
        if self.batch("ROLLBACK").is_err() {
            // What is open there ends with the connection.
            drop_elsewhere(self.client.take());
        }
    }

    fn batch(&mut self, sql: &str) -> Result<(), StoreError> {
        let done = self.client()?.batch_execute(sql);
        done.map_err(|error| self.address.translate(&error))
    }

    fn schema<'a>(&self, sql: &'a str) -> Cow<'a, str> {
        sql.replace(" BLOB", " BYTEA").into()
    }

    fn knows_migrations(&mut self) -> Result<bool, StoreError> {
        let rows = self.query(
            "SELECT 1 FROM information_schema.tables \
             WHERE table_schema = current_schema() AND table_name = 'migrations'",
            &[],
        )?;
        Ok(!rows.is_empty())
    }

    fn back_up(&mut self, _: &Path, _: Timestamp) -> Result<Option<PathBuf>, StoreError> {
        // Migrations are one transaction here; backups are the database's own affair.
        Ok(None)
    }

    fn start_alone(&mut self) -> Result<(), StoreError> {
        let patience = START_PATIENCE.as_secs();
        self.batch(&format!(
            "SET lock_timeout = '{patience}s'; SELECT pg_advisory_lock({LOCK}, 0); \
             SET lock_timeout = '10s'"
        ))
    }

    fn let_start(&mut self) -> Result<(), StoreError> {
        self.batch(&format!("SELECT pg_advisory_unlock({LOCK}, 0)"))
    }

    fn is_shared(&self) -> bool {
        true
    }

    fn take_over(&mut self, epoch: i64, ended: Ended) {
        self.epoch = Some((epoch, ended));
    }

    fn finish(&mut self) {}
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_parsed_and_shown_without_their_password() {
        let address = Address::parse("postgres://me:secret@db.example:5433/skep").unwrap();
        assert_eq!(&*address.shown, "skep at db.example");
        for wrong in ["postgres://", "postgres://h:many/x", "nonsense"] {
            assert!(
                matches!(Address::parse(wrong), Err(StoreError::Address(_))),
                "{wrong}"
            );
        }
    }
}
