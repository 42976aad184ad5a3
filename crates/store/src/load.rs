//! Loading: a dump into a store that is empty, in one transaction, read back and compared before it
//! is committed; and the move of a store to another engine, which is a dump piped into a load.
//!
//! Everything here blocks, and is for a store that no server has.

use std::path::Path;

use skep_core::Timestamp;

use crate::db::{self, DATABASE};
use crate::dump::{Dump, Summing, decode, dump_table, wrong};
use crate::engine::Engine;
use crate::lock::FolderLock;
use crate::servers;
use crate::sqlite::Sqlite;
use crate::{Applied, MigrationSet, Param, Schema, StoreError, Table, TableSum, Value, migrate};

/// Rows that one statement inserts.
const GROUP: usize = 32;

/// What a restored store is ahead of what was saved.
#[derive(Debug, Clone, Copy, Default)]
pub struct Raise {
    /// Added to the epoch.
    pub epochs: i64,
    /// The clock starts no earlier.
    pub time: Timestamp,
}

/// The table that is being loaded.
struct Open {
    table: Table,
    group: &'static str,
    single: &'static str,
    came: Vec<u8>,
    rows: Vec<Vec<Value>>,
    sum: Summing,
}

/// An empty store that is being filled. Dropped before [`Loader::finish`], it leaves the database
/// as it was.
pub struct Loader {
    engine: Box<dyn Engine>,
    schema: Schema,
    open: Option<Open>,
    done: Vec<(Table, TableSum)>,
}

impl Loader {
    /// Begins to fill the database in this folder, or this one, with a store that has these
    /// migrations. The next start applies those that came later.
    ///
    /// # Errors
    /// [`StoreError::NotEmpty`]; [`StoreError::Newer`], [`StoreError::MigrationChanged`] when this
    /// binary cannot have made the dump; what opening a store gives.
    pub fn begin(
        folder: &Path,
        database: Option<&str>,
        sets: &[MigrationSet],
        applied: &[Applied],
    ) -> Result<Self, StoreError> {
        let schema = Schema::of(sets, applied)?;
        let file = folder.join(DATABASE);
        let database = database.map(str::to_owned);
        let mut engine = db::connect(folder, &database, 0)?.engine;
        servers::alone(engine.as_mut())?;
        // A file without tables is what a load leaves that was killed.
        if engine.knows_migrations()? {
            return Err(StoreError::NotEmpty(match database {
                Some(_) => "the database".to_owned(),
                None => file.display().to_string(),
            }));
        }
        engine.begin_write()?;
        engine.take_time()?;
        migrate::apply(engine.as_mut(), &schema.steps, Timestamp::system_now())?;
        Ok(Self {
            engine,
            schema,
            open: None,
            done: Vec::new(),
        })
    }

    /// Begins a table. They come in the order of the schema.
    ///
    /// # Errors
    /// [`StoreError::Dump`] when it is not the one that is next.
    pub fn table(&mut self, name: &str, columns: &[String]) -> Result<(), StoreError> {
        let next = self.schema.tables().get(self.done.len());
        let table = next.filter(|table| table.name == name && table.columns == columns);
        let table = table.filter(|_| self.open.is_none()).cloned();
        let table = table.ok_or_else(|| wrong(&format!("table `{name}` is not as expected")))?;
        // Statements live as long as connections remember them. There are a few for each load, of
        // which a process makes one.
        let statement = |rows| -> &'static str { table.insert(rows).leak() };
        self.open = Some(Open {
            group: statement(GROUP),
            single: statement(1),
            came: Vec::new(),
            rows: Vec::with_capacity(GROUP),
            sum: Summing::default(),
            table,
        });
        Ok(())
    }

    /// Adds to the table what was dumped of it, in pieces of any length.
    ///
    /// # Errors
    /// [`StoreError::Dump`], [`StoreError::Unavailable`].
    pub fn rows(&mut self, bytes: &[u8]) -> Result<(), StoreError> {
        let open = self
            .open
            .as_mut()
            .ok_or_else(|| wrong("rows of no table"))?;
        open.sum.add(bytes);
        open.came.extend_from_slice(bytes);
        let mut at = 0;
        while let Some((row, length)) = decode(&open.came[at..], open.table.columns.len())? {
            at += length;
            open.sum.rows += 1;
            open.rows.push(row);
            if open.rows.len() == GROUP {
                insert(self.engine.as_mut(), open.group, &open.rows)?;
                open.rows.clear();
            }
        }
        open.came.drain(..at);
        Ok(())
    }

    /// Ends the table and tells what came.
    ///
    /// # Errors
    /// As [`Loader::rows`].
    pub fn end_table(&mut self) -> Result<TableSum, StoreError> {
        let open = self
            .open
            .take()
            .ok_or_else(|| wrong("the end of no table"))?;
        if !open.came.is_empty() {
            return Err(wrong("a row is cut short"));
        }
        for row in &open.rows {
            insert(self.engine.as_mut(), open.single, std::slice::from_ref(row))?;
        }
        let sum = open.sum.sum();
        self.done.push((open.table, sum));
        Ok(sum)
    }

    /// Reads everything back, compares it with what came and commits it.
    ///
    /// # Errors
    /// [`StoreError::Dump`] when a table is missing or is not what came; [`StoreError::Unavailable`].
    pub fn finish(mut self, raise: Raise) -> Result<Vec<(String, TableSum)>, StoreError> {
        if self.open.is_some() || self.done.len() != self.schema.tables().len() {
            return Err(wrong("tables are missing"));
        }
        for (table, came) in &self.done {
            let there: TableSum =
                dump_table(self.engine.as_mut(), table, |_| Ok::<_, StoreError>(()))?;
            if there != *came {
                let why = format!(
                    "table `{}` has {} rows with hash {}, and {} with {} were to be there",
                    table.name, there.rows, there.hash, came.rows, came.hash
                );
                return Err(wrong(&why));
            }
        }
        self.engine.execute(
            "UPDATE server_state SET value = value + ?1 WHERE name = 'epoch'",
            &[raise.epochs.into()],
        )?;
        self.engine.execute(
            "UPDATE server_state SET value = ?1 WHERE name = 'last_time' AND value < ?1",
            &[raise.time.into()],
        )?;
        self.engine.commit()?;
        self.engine.finish();
        let sums = self.done.iter();
        Ok(sums
            .map(|(table, sum)| (table.name.clone(), *sum))
            .collect())
    }
}

fn insert(
    engine: &mut dyn Engine,
    sql: &'static str,
    rows: &[Vec<Value>],
) -> Result<(), StoreError> {
    let params: Vec<Param<'_>> = rows.iter().flatten().map(Param::from).collect();
    engine.execute(sql, &params).map(|_| ())
}

/// Copies the store of this folder from one engine to the other: `None` is the file in the folder,
/// else the address of a database. What it is copied from is left as it was, and blobs stay where
/// they are. Tells what each table holds.
///
/// # Errors
/// [`StoreError::InUse`] while a server has one of them; [`StoreError::NotEmpty`] when there is
/// something where it is to go; what opening and writing a store give.
pub fn move_store(
    folder: &Path,
    from: Option<&str>,
    to: Option<&str>,
    sets: &[MigrationSet],
) -> Result<Vec<(String, TableSum)>, StoreError> {
    let _lock = FolderLock::take(folder)?;
    let file = folder.join(DATABASE);
    let mut source: Box<dyn Engine> = match from {
        Some(url) => db::connect(folder, &Some(url.to_owned()), 0)?.engine,
        None if file.is_file() => Box::new(Sqlite::reader(&file)?),
        None => {
            return Err(StoreError::Folder {
                path: file,
                reason: "there is no such file".to_owned(),
            });
        }
    };
    servers::alone(source.as_mut())?;
    if !source.knows_migrations()? {
        return Err(wrong("there is no store where it is to come from"));
    }
    source.begin_read()?;
    source.take_time()?;
    let outcome = copy(source.as_mut(), folder, to, sets);
    source.roll_back();
    outcome
}

fn copy(
    source: &mut dyn Engine,
    folder: &Path,
    to: Option<&str>,
    sets: &[MigrationSet],
) -> Result<Vec<(String, TableSum)>, StoreError> {
    let mut dump = Dump::new(source, sets)?;
    let mut loader = Loader::begin(folder, to, sets, dump.applied())?;
    for table in dump.tables() {
        loader.table(&table.name, &table.columns)?;
        let sent = dump.table(&table, |piece| loader.rows(piece))?;
        let came = loader.end_table()?;
        if sent != came {
            return Err(wrong(&format!("table `{}` came otherwise", table.name)));
        }
    }
    loader.finish(Raise::default())
}
