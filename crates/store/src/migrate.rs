//! Migrations: ordered, remembered with their hash, preceded by a backup, refused when the file
//! knows more than the binary.

use std::path::{Path, PathBuf};

use skep_core::Timestamp;

use crate::engine::Engine;
use crate::{Hash, StoreError};

/// One step of a component's schema. Once released it never changes.
#[derive(Debug, Clone, Copy)]
pub struct Migration {
    /// Its name, for example `0001-calls`.
    pub name: &'static str,
    /// Its statements. Column types are `TEXT`, `BIGINT` and `BLOB`, so that every engine can
    /// take them.
    pub sql: &'static str,
}

/// The migrations of one component, in order, and the tables of a workspace that they make.
#[derive(Debug, Clone, Copy)]
pub struct MigrationSet {
    /// Whose they are.
    pub component: &'static str,
    /// The steps, in order. New ones are added at the end.
    pub migrations: &'static [Migration],
    /// Tables whose rows belong to a workspace: only a scope reaches them.
    pub workspace_tables: &'static [&'static str],
}

/// The store's own tables.
pub(crate) const OWN: MigrationSet = MigrationSet {
    component: "store",
    migrations: &[Migration {
        name: "0001-ground",
        sql: "
            CREATE TABLE server_state (name TEXT PRIMARY KEY, value BIGINT NOT NULL);
            CREATE TABLE counters (
                workspace TEXT NOT NULL,
                name TEXT NOT NULL,
                value BIGINT NOT NULL,
                PRIMARY KEY (workspace, name)
            );
            CREATE TABLE blobs (
                workspace TEXT NOT NULL,
                hash BLOB NOT NULL,
                size BIGINT NOT NULL,
                refs BIGINT NOT NULL,
                PRIMARY KEY (workspace, hash)
            );
            CREATE INDEX blobs_unused ON blobs (workspace) WHERE refs <= 0;
            CREATE TABLE blob_parts (
                workspace TEXT NOT NULL,
                hash BLOB NOT NULL,
                part BIGINT NOT NULL,
                content BLOB NOT NULL,
                stored_at BIGINT NOT NULL,
                PRIMARY KEY (workspace, hash, part)
            );
            CREATE TABLE servers (
                epoch BIGINT PRIMARY KEY,
                server BLOB NOT NULL,
                place TEXT NOT NULL,
                state TEXT NOT NULL,
                beat BIGINT NOT NULL,
                url TEXT NOT NULL,
                secret BLOB NOT NULL,
                load BIGINT NOT NULL,
                started_at BIGINT NOT NULL
            );
        ",
    }],
    workspace_tables: &["counters", "blobs", "blob_parts"],
};

const TABLE: &str = "
    CREATE TABLE IF NOT EXISTS migrations (
        component TEXT NOT NULL,
        name TEXT NOT NULL,
        hash BLOB NOT NULL,
        applied_at BIGINT NOT NULL,
        PRIMARY KEY (component, name)
    );
";

pub(crate) type Step = (&'static str, &'static Migration);

/// Component, name and hash of a migration that was applied.
pub(crate) type Applied = (String, String, Vec<u8>);

pub(crate) fn applied(engine: &mut dyn Engine) -> Result<Vec<Applied>, StoreError> {
    if !engine.knows_migrations()? {
        return Ok(Vec::new());
    }
    engine
        .query(
            "SELECT component, name, hash FROM migrations ORDER BY component, name",
            &[],
        )?
        .iter()
        .map(|row| {
            Ok((
                row.text(0)?.to_owned(),
                row.text(1)?.to_owned(),
                row.blob(2)?.to_owned(),
            ))
        })
        .collect()
}

/// The steps that are still to be taken.
pub(crate) fn pending(sets: &[MigrationSet], applied: &[Applied]) -> Result<Vec<Step>, StoreError> {
    let known: Vec<Step> = sets
        .iter()
        .flat_map(|set| set.migrations.iter().map(|m| (set.component, m)))
        .collect();
    for (component, name, hash) in applied {
        let step = known.iter().find(|(c, m)| c == component && m.name == name);
        let Some((_, migration)) = step else {
            return Err(StoreError::Newer {
                component: component.clone(),
                name: name.clone(),
            });
        };
        if Hash::of(migration.sql.as_bytes()).as_bytes()[..] != hash[..] {
            return Err(StoreError::MigrationChanged {
                component: component.clone(),
                name: name.clone(),
            });
        }
    }
    Ok(known
        .into_iter()
        .filter(|(component, m)| {
            !applied
                .iter()
                .any(|(c, n, _)| c == component && n == m.name)
        })
        .collect())
}

/// Brings the file to the binary's schema. Tells where the backup is, when one was taken.
pub(crate) fn migrate(
    engine: &mut dyn Engine,
    sets: &[MigrationSet],
    backups: &Path,
) -> Result<Option<PathBuf>, StoreError> {
    let applied = applied(engine)?;
    let steps = pending(sets, &applied)?;
    if steps.is_empty() {
        return Ok(None);
    }
    let now = Timestamp::system_now();
    let backup = match applied.is_empty() {
        true => None,
        false => engine.back_up(backups, now)?,
    };
    engine.begin_write()?;
    let result = apply(engine, &steps, now).and_then(|()| engine.commit());
    if result.is_err() {
        engine.roll_back();
    }
    result.map(|()| backup)
}

pub(crate) fn apply(
    engine: &mut dyn Engine,
    steps: &[Step],
    now: Timestamp,
) -> Result<(), StoreError> {
    let table = engine.schema(TABLE).into_owned();
    engine.batch(&table)?;
    for (component, migration) in steps {
        let sql = engine.schema(migration.sql).into_owned();
        engine.batch(&sql)?;
        engine.execute(
            "INSERT INTO migrations (component, name, hash, applied_at) VALUES (?1, ?2, ?3, ?4)",
            &[
                (*component).into(),
                migration.name.into(),
                Hash::of(migration.sql.as_bytes()).as_bytes().into(),
                now.into(),
            ],
        )?;
    }
    Ok(())
}
