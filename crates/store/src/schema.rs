//! The schema as the binary's own migrations make it: which tables there are, their columns and
//! their keys. It is read from an empty database in memory, so that it is the same whatever the
//! engine of the store is and whatever else lies in its database.

use rusqlite::Connection;

use crate::migrate::{self, Step};
use crate::{Hash, MigrationSet, StoreError};

/// The table of migrations is written by who applies them; which servers live is nobody's past; and
/// what the parts of blobs hold is in the blobs.
const NOT_DUMPED: [&str; 3] = ["migrations", "servers", "blob_parts"];

/// A migration that a store has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Applied {
    /// The component whose it is.
    pub component: String,
    /// Its name.
    pub name: String,
    /// The hash of its statements.
    pub hash: Hash,
}

/// A table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Table {
    /// Its name.
    pub name: String,
    /// The names of its columns, in order.
    pub columns: Vec<String>,
    /// What its rows are ordered by: the columns of its key, and whether each is a text.
    key: Vec<(String, bool)>,
}

impl Table {
    /// Every row, in an order that is the same on every engine.
    pub(crate) fn select(&self, by_bytes: &str) -> String {
        let order: Vec<String> = self
            .key
            .iter()
            .map(|(name, is_text)| match is_text {
                true => format!("{name} {by_bytes}"),
                false => name.clone(),
            })
            .collect();
        format!(
            "SELECT {} FROM {} ORDER BY {}",
            self.columns.join(", "),
            self.name,
            order.join(", ")
        )
    }

    /// An insertion of so many rows.
    pub(crate) fn insert(&self, rows: usize) -> String {
        let row = |row: usize| {
            let of_row = (1..=self.columns.len()).map(|at| row * self.columns.len() + at);
            let numbers: Vec<String> = of_row.map(|number| format!("?{number}")).collect();
            format!("({})", numbers.join(", "))
        };
        let rows: Vec<String> = (0..rows).map(row).collect();
        format!(
            "INSERT INTO {} ({}) VALUES {}",
            self.name,
            self.columns.join(", "),
            rows.join(", ")
        )
    }
}

/// The tables of a store with certain migrations, in the order in which they are made: a table
/// comes after those that it refers to.
#[derive(Debug, Clone)]
pub struct Schema {
    pub(crate) steps: Vec<Step>,
    tables: Vec<Table>,
}

impl Schema {
    /// The schema of a store with these migrations. It may be older than this binary, not newer.
    ///
    /// # Errors
    /// [`StoreError::Newer`], [`StoreError::MigrationChanged`].
    pub fn of(sets: &[MigrationSet], applied: &[Applied]) -> Result<Self, StoreError> {
        let sets: Vec<MigrationSet> = [migrate::OWN]
            .into_iter()
            .chain(sets.iter().copied())
            .collect();
        let applied: Vec<migrate::Applied> = applied
            .iter()
            .map(|it| {
                let hash = it.hash.as_bytes().to_vec();
                (it.component.clone(), it.name.clone(), hash)
            })
            .collect();
        let missing = migrate::pending(&sets, &applied)?;
        let is_missing = |step: &Step| {
            let same = |other: &&Step| other.0 == step.0 && other.1.name == step.1.name;
            missing.iter().find(same).is_some()
        };
        let steps: Vec<Step> = sets
            .iter()
            .flat_map(|set| set.migrations.iter().map(|m| (set.component, m)))
            .filter(|step| !is_missing(step))
            .collect();
        let tables = tables(&steps).map_err(|e| StoreError::Statement(e.to_string()))?;
        if let Some(table) = tables.iter().find(|table| table.key.is_empty()) {
            let text = format!("table {} has no primary key", table.name);
            return Err(StoreError::Statement(text));
        }
        Ok(Self { steps, tables })
    }

    /// The tables.
    #[must_use]
    pub fn tables(&self) -> &[Table] {
        &self.tables
    }
}

fn tables(steps: &[Step]) -> rusqlite::Result<Vec<Table>> {
    let memory = Connection::open_in_memory()?;
    for (_, migration) in steps {
        memory.execute_batch(migration.sql)?;
    }
    let mut names =
        memory.prepare("SELECT name FROM sqlite_master WHERE type = 'table' ORDER BY rowid")?;
    let names: Vec<String> = names
        .query_map([], |row| row.get(0))?
        .collect::<rusqlite::Result<_>>()?;
    let dumped = |name: &String| !NOT_DUMPED.contains(&name.as_str());
    names
        .into_iter()
        .filter(dumped)
        .map(|name| table(&memory, name))
        .collect()
}

fn table(memory: &Connection, name: String) -> rusqlite::Result<Table> {
    let mut about = memory.prepare("SELECT name, type, pk FROM pragma_table_info(?1)")?;
    let found: Vec<(String, String, u32)> = about
        .query_map([&name], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))?
        .collect::<rusqlite::Result<_>>()?;
    let mut key: Vec<_> = found.iter().filter(|(_, _, place)| *place > 0).collect();
    key.sort_by_key(|(_, _, place)| *place);
    Ok(Table {
        key: key
            .into_iter()
            .map(|(name, kind, _)| (name.clone(), kind == "TEXT"))
            .collect(),
        columns: found.into_iter().map(|(name, _, _)| name).collect(),
        name,
    })
}
