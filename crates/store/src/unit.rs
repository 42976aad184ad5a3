//! Units of work and the scopes through which SQL is reached.

use std::collections::{BTreeMap, HashSet};

use parking_lot::Mutex;
use skep_core::{Timestamp, Workspace};

use crate::blobs::{BlobRef, Blobs};
use crate::{Param, Row, StoreError};

/// What an engine does for a unit or a reader: run one statement.
pub(crate) trait Session {
    /// Runs a statement and tells how many rows it changed.
    fn execute(&mut self, sql: &'static str, params: &[Param<'_>]) -> Result<usize, StoreError>;

    /// Runs a query and hands over its rows.
    fn query(&mut self, sql: &'static str, params: &[Param<'_>]) -> Result<Vec<Row>, StoreError>;

    /// Waits for nothing: whether no transaction of the server with this epoch is open, and none
    /// can begin before this one has ended.
    fn fence_off(&mut self, _epoch: i64) -> Result<bool, StoreError> {
        Ok(true)
    }

    /// Waits for its turn among the servers that change rows of all of them, which lasts until the
    /// transaction ends.
    fn in_turn(&mut self) -> Result<(), StoreError> {
        Ok(())
    }

    /// Overwrites what was removed from a table and is in the database's file still, where the engine
    /// can do that within a transaction. It reads and writes the whole table: for small ones.
    fn wipe(&mut self, _table: &'static str) -> Result<(), StoreError> {
        Ok(())
    }

    /// Runs a query and hands its rows over one by one; few are in memory at a time. What `each`
    /// refuses ends it.
    fn scan(
        &mut self,
        _sql: &str,
        _each: &mut dyn FnMut(&Row) -> Result<(), StoreError>,
    ) -> Result<(), StoreError> {
        Err(StoreError::Statement("units do not scan".to_owned()))
    }

    /// What makes an order of texts that of their bytes.
    fn by_bytes(&self) -> &'static str {
        "COLLATE BINARY"
    }

    /// The open transaction may take, and be idle for, as long as it needs.
    fn take_time(&mut self) -> Result<(), StoreError> {
        Ok(())
    }

    /// The engine's first failure that makes the whole transaction void, if there was one.
    fn failure(&self) -> Option<StoreError> {
        None
    }
}

/// Which statements were found to stay inside their scope. Each is looked at once.
pub(crate) struct Rules {
    workspace_tables: Vec<&'static str>,
    /// What empties each of them for one workspace.
    forget: Vec<&'static str>,
    seen: Mutex<HashSet<(usize, bool)>>,
}

impl Rules {
    pub(crate) fn new(workspace_tables: Vec<&'static str>) -> Self {
        // Statements live as long as the process; there is one set of rules in it.
        let forget = workspace_tables.iter().map(|table| {
            let sql = format!("DELETE FROM {table} WHERE workspace = ?1");
            &*Box::leak(sql.into_boxed_str())
        });
        Self {
            forget: forget.collect(),
            workspace_tables,
            seen: Mutex::default(),
        }
    }

    fn check(&self, sql: &'static str, scoped: bool) -> Result<(), StoreError> {
        let key = (sql.as_ptr() as usize, scoped);
        if self.seen.lock().contains(&key) {
            return Ok(());
        }
        if scoped && !sql.contains("?1") {
            return Err(StoreError::Statement(format!(
                "statement does not use the workspace (?1): {sql}"
            )));
        }
        let is_word = |c: char| c.is_ascii_alphanumeric() || c == '_';
        let named = sql
            .split(|c| !is_word(c))
            .find(|word| self.workspace_tables.contains(word));
        if let (false, Some(table)) = (scoped, named) {
            return Err(StoreError::Statement(format!(
                "`{table}` needs a workspace scope: {sql}"
            )));
        }
        self.seen.lock().insert(key);
        Ok(())
    }
}

/// The longest entry that a unit records: its length has two bytes.
pub const MOST_ENTRY: usize = 65_535;

/// What units leave for the end of their batch.
#[derive(Default)]
pub(crate) struct Deltas {
    /// Changes of counters.
    pub(crate) counts: Vec<(Workspace, String, i64)>,
    /// Entries for the log.
    pub(crate) entries: Vec<Vec<u8>>,
}

/// How much there was.
#[derive(Clone, Copy)]
pub(crate) struct Mark(usize, usize);

/// Writes down what units recorded, as the last thing of the transaction that they are in: when it
/// fails, none of them is committed.
pub trait Recorder: Send + Sync {
    /// Writes these entries, in their order. There is at least one.
    ///
    /// # Errors
    /// The store's own.
    fn record(
        &self,
        scope: &mut ServerScope<'_>,
        entries: Vec<Vec<u8>>,
        now: Timestamp,
    ) -> Result<(), StoreError>;
}

impl Deltas {
    pub(crate) const fn mark(&self) -> Mark {
        Mark(self.counts.len(), self.entries.len())
    }

    fn record(&mut self, entry: Vec<u8>) -> Result<(), StoreError> {
        if entry.len() > MOST_ENTRY {
            return Err(StoreError::Statement("an entry is too long".to_owned()));
        }
        self.entries.push(entry);
        Ok(())
    }

    /// Forgets what came since.
    pub(crate) fn back_to(&mut self, Mark(counts, entries): Mark) {
        self.counts.truncate(counts);
        self.entries.truncate(entries);
    }

    /// One sum per counter, in an order that all servers keep to: rows that several of them write
    /// are locked in it.
    pub(crate) fn sums(&mut self) -> BTreeMap<(Workspace, String), i64> {
        let mut sums = BTreeMap::new();
        for (workspace, name, delta) in self.counts.drain(..) {
            *sums.entry((workspace, name)).or_default() += delta;
        }
        sums
    }
}

/// One unit of work: every statement of it is committed, or none.
pub struct Unit<'a> {
    pub(crate) session: &'a mut dyn Session,
    pub(crate) rules: &'a Rules,
    pub(crate) deltas: &'a mut Deltas,
    pub(crate) blobs: &'a Blobs,
    pub(crate) now: Timestamp,
}

impl Unit<'_> {
    /// Empties a workspace's rows of one table. False when there is no such table any more.
    pub(crate) fn forget(
        &mut self,
        workspace: &Workspace,
        table: usize,
    ) -> Result<bool, StoreError> {
        let Some(sql) = self.rules.forget.get(table).copied() else {
            return Ok(false);
        };
        self.session
            .execute(sql, &[Param::Text(workspace.as_str())])?;
        Ok(true)
    }

    /// The tables of one workspace.
    pub fn scope<'s>(&'s mut self, workspace: &'s Workspace) -> Scope<'s> {
        Scope {
            session: self.session,
            rules: self.rules,
            deltas: Some(self.deltas),
            blobs: self.blobs,
            workspace,
        }
    }

    /// The server's own tables.
    pub fn server(&mut self) -> ServerScope<'_> {
        ServerScope {
            session: self.session,
            rules: self.rules,
        }
    }

    /// Leaves an entry for the log: it is committed with this unit, or neither is.
    ///
    /// # Errors
    /// [`StoreError::Statement`] when it is over [`MOST_ENTRY`].
    pub fn record(&mut self, entry: Vec<u8>) -> Result<(), StoreError> {
        self.deltas.record(entry)
    }

    /// The moment at which the unit runs.
    #[must_use]
    pub const fn now(&self) -> Timestamp {
        self.now
    }
}

/// A consistent view for reading.
pub struct Reader<'a> {
    pub(crate) session: &'a mut dyn Session,
    pub(crate) rules: &'a Rules,
    pub(crate) blobs: &'a Blobs,
}

impl Reader<'_> {
    /// The tables of one workspace, to read.
    pub fn scope<'s>(&'s mut self, workspace: &'s Workspace) -> Scope<'s> {
        Scope {
            session: self.session,
            rules: self.rules,
            deltas: None,
            blobs: self.blobs,
            workspace,
        }
    }

    /// The server's own tables, to read.
    pub fn server(&mut self) -> ServerScope<'_> {
        ServerScope {
            session: self.session,
            rules: self.rules,
        }
    }
}

/// SQL inside one workspace. `?1` is bound to the workspace; the parameters that are given start
/// at `?2`.
pub struct Scope<'a> {
    session: &'a mut dyn Session,
    rules: &'a Rules,
    deltas: Option<&'a mut Deltas>,
    blobs: &'a Blobs,
    workspace: &'a Workspace,
}

impl Scope<'_> {
    fn bind<'p>(workspace: &'p Workspace, params: &[Param<'p>]) -> Vec<Param<'p>> {
        let mut all = Vec::with_capacity(params.len() + 1);
        all.push(Param::Text(workspace.as_str()));
        all.extend_from_slice(params);
        all
    }

    /// The workspace.
    #[must_use]
    pub const fn workspace(&self) -> &Workspace {
        self.workspace
    }

    /// As [`Unit::record`].
    ///
    /// # Errors
    /// As [`Unit::record`], and [`StoreError::Statement`] in a reader.
    pub fn record(&mut self, entry: Vec<u8>) -> Result<(), StoreError> {
        let deltas = self.deltas.as_mut();
        let deltas = deltas.ok_or_else(|| StoreError::Statement("a reader records".to_owned()))?;
        deltas.record(entry)
    }

    /// Runs a statement and tells how many rows it changed.
    ///
    /// # Errors
    /// [`StoreError::Statement`] when it is wrong, breaks a constraint or leaves the scope;
    /// [`StoreError::Unavailable`] when the store cannot write.
    pub fn execute(
        &mut self,
        sql: &'static str,
        params: &[Param<'_>],
    ) -> Result<usize, StoreError> {
        self.rules.check(sql, true)?;
        self.session
            .execute(sql, &Self::bind(self.workspace, params))
    }

    /// Runs a query and hands over its rows.
    ///
    /// # Errors
    /// As [`Scope::execute`].
    pub fn query(
        &mut self,
        sql: &'static str,
        params: &[Param<'_>],
    ) -> Result<Vec<Row>, StoreError> {
        self.rules.check(sql, true)?;
        self.session.query(sql, &Self::bind(self.workspace, params))
    }

    /// Runs a query for the first row, if there is one.
    ///
    /// # Errors
    /// As [`Scope::execute`].
    pub fn query_opt(
        &mut self,
        sql: &'static str,
        params: &[Param<'_>],
    ) -> Result<Option<Row>, StoreError> {
        Ok(self.query(sql, params)?.into_iter().next())
    }

    /// Adds to a counter of the workspace. The sums are written once a batch, in the same commit.
    ///
    /// # Errors
    /// [`StoreError::Statement`] on a reader.
    pub fn count(&mut self, name: impl Into<String>, delta: i64) -> Result<(), StoreError> {
        let deltas = self
            .deltas
            .as_mut()
            .ok_or_else(|| StoreError::Statement("a reader cannot count".to_owned()))?;
        deltas
            .counts
            .push((self.workspace.clone(), name.into(), delta));
        Ok(())
    }

    /// The counters whose names begin with `prefix`, as of the last commit.
    ///
    /// # Errors
    /// As [`Scope::execute`].
    pub fn counters(&mut self, prefix: &str) -> Result<Vec<(String, i64)>, StoreError> {
        let end = format!("{prefix}\u{10ffff}");
        self.query(
            "SELECT name, value FROM counters WHERE workspace = ?1 AND name >= ?2 AND name < ?3 ORDER BY name",
            &[prefix.into(), (&end).into()],
        )?
        .iter()
        .map(|row| Ok((row.text(0)?.to_owned(), row.int(1)?)))
        .collect()
    }

    /// From here to the commit no other server changes rows that all of them change. Comes before
    /// such a change: two servers that have each what the other wants next would end as a deadlock.
    ///
    /// # Errors
    /// As [`Scope::execute`].
    pub fn in_turn(&mut self) -> Result<(), StoreError> {
        self.session.in_turn()
    }

    /// What was removed from a small table leaves no trace in SQLite's file: its rows are written anew,
    /// in pages of which nothing is left. The write-ahead log has it until [`crate::Db::settle`]. In
    /// PostgreSQL it goes with the next `VACUUM`.
    ///
    /// # Errors
    /// As [`Scope::execute`].
    pub fn wipe(&mut self, table: &'static str) -> Result<(), StoreError> {
        if !self.rules.workspace_tables.contains(&table) {
            let why = format!("`{table}` is no table of a workspace");
            return Err(StoreError::Statement(why));
        }
        self.session.wipe(table)
    }

    /// Adds a reference to a blob. The blob must be pinned until the commit.
    ///
    /// # Errors
    /// As [`Scope::execute`].
    pub fn link_blob(&mut self, blob: &BlobRef) -> Result<(), StoreError> {
        self.in_turn()?;
        let size = i64::try_from(blob.size).unwrap_or(i64::MAX);
        self.execute(
            "INSERT INTO blobs (workspace, hash, size, refs) VALUES (?1, ?2, ?3, 1) \
             ON CONFLICT (workspace, hash) DO UPDATE SET refs = blobs.refs + 1",
            &[blob.hash.as_bytes().into(), size.into()],
        )?;
        Ok(())
    }

    /// Takes a reference away; a blob without any is removed by [`Scope::sweep_blobs`].
    ///
    /// # Errors
    /// As [`Scope::execute`].
    pub fn unlink_blob(&mut self, hash: &crate::Hash) -> Result<(), StoreError> {
        self.in_turn()?;
        self.execute(
            "UPDATE blobs SET refs = refs - 1 WHERE workspace = ?1 AND hash = ?2",
            &[hash.as_bytes().into()],
        )?;
        Ok(())
    }

    /// Forgets up to `limit` blobs without references; tells how many. Their files go afterwards
    /// ([`crate::Db::sweep_loose_blobs`]): a row that comes back with a failed commit must find its
    /// file.
    ///
    /// # Errors
    /// As [`Scope::execute`].
    pub fn sweep_blobs(&mut self, limit: u32) -> Result<usize, StoreError> {
        // Whoever links one meanwhile, be it another server, has it before this looks, or after.
        self.in_turn()?;
        let rows = self.query(
            "SELECT hash FROM blobs WHERE workspace = ?1 AND refs <= 0 LIMIT ?2",
            &[limit.into()],
        )?;
        for row in &rows {
            let hash = crate::Hash::from_bytes(row.bytes(0)?);
            self.execute(
                "DELETE FROM blobs WHERE workspace = ?1 AND hash = ?2 AND refs <= 0",
                &[hash.as_bytes().into()],
            )?;
            self.blobs.loosen(self.workspace, hash);
        }
        Ok(rows.len())
    }

    /// Removes the file of a blob that no row names. False when a row or a pin holds it.
    pub(crate) fn remove_orphan_blob(&mut self, hash: &crate::Hash) -> Result<bool, StoreError> {
        let row = self.query_opt(
            "SELECT 1 FROM blobs WHERE workspace = ?1 AND hash = ?2",
            &[hash.as_bytes().into()],
        )?;
        if row.is_some() {
            return Ok(false);
        }
        self.blobs.remove_unpinned(self.workspace, hash)
    }
}

/// SQL on the server's own tables. Parameters start at `?1`.
pub struct ServerScope<'a> {
    session: &'a mut dyn Session,
    rules: &'a Rules,
}

impl<'a> ServerScope<'a> {
    pub(crate) const fn new(session: &'a mut dyn Session, rules: &'a Rules) -> Self {
        Self { session, rules }
    }

    /// As [`Scope::in_turn`].
    ///
    /// # Errors
    /// The engine's.
    pub fn in_turn(&mut self) -> Result<(), StoreError> {
        self.session.in_turn()
    }

    /// See [`Session::fence_off`].
    pub(crate) fn fence_off(&mut self, epoch: i64) -> Result<bool, StoreError> {
        self.session.fence_off(epoch)
    }

    /// Runs a statement and tells how many rows it changed.
    ///
    /// # Errors
    /// As [`Scope::execute`].
    pub fn execute(
        &mut self,
        sql: &'static str,
        params: &[Param<'_>],
    ) -> Result<usize, StoreError> {
        self.rules.check(sql, false)?;
        self.session.execute(sql, params)
    }

    /// Runs a query and hands over its rows.
    ///
    /// # Errors
    /// As [`Scope::execute`].
    pub fn query(
        &mut self,
        sql: &'static str,
        params: &[Param<'_>],
    ) -> Result<Vec<Row>, StoreError> {
        self.rules.check(sql, false)?;
        self.session.query(sql, params)
    }
}
