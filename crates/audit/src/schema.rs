//! The log's tables, and how a transaction's entries get into them.

use skep_core::Timestamp;
use skep_store::{Migration, MigrationSet, Recorder, ServerScope, StoreError};

use crate::bundle;

/// The log's tables.
pub const MIGRATIONS: MigrationSet = MigrationSet {
    component: "audit",
    migrations: &[
        Migration {
            name: "0001-log",
            sql: LOG,
        },
        Migration {
            name: "0002-people",
            sql: PEOPLE,
        },
        Migration {
            name: "0003-pruned",
            // Entries below this number have their hashes in the place of their bodies.
            sql: "ALTER TABLE audit_log ADD COLUMN pruned BIGINT NOT NULL DEFAULT 0;",
        },
    ],
    workspace_tables: &["audit_people"],
};

const LOG: &str = "
            -- How many entries there are, and the key that signs: at most one row.
            CREATE TABLE audit_log (
                id BIGINT NOT NULL,
                size BIGINT NOT NULL,
                public_key TEXT,
                PRIMARY KEY (id)
            );
            -- The entries of one transaction, bundled.
            CREATE TABLE audit_batches (
                first BIGINT NOT NULL,
                entries BIGINT NOT NULL,
                at BIGINT NOT NULL,
                bundle BLOB NOT NULL,
                PRIMARY KEY (first)
            );
            CREATE INDEX audit_batches_by_time ON audit_batches (at);
            -- Full tiles, with their root.
            CREATE TABLE audit_tiles (
                level BIGINT NOT NULL,
                number BIGINT NOT NULL,
                hashes BLOB NOT NULL,
                root BLOB NOT NULL,
                PRIMARY KEY (level, number)
            );
            CREATE TABLE audit_checkpoints (
                size BIGINT NOT NULL,
                at BIGINT NOT NULL,
                note BLOB NOT NULL,
                PRIMARY KEY (size)
            );
        ";

/// What personal data the commitments in entries stand for: a row for each. Where it is gone, nobody
/// finds out any more what an entry's commitment is of.
const PEOPLE: &str = "
    CREATE TABLE audit_people (
        workspace TEXT NOT NULL,
        commitment TEXT NOT NULL,
        -- Whose it is: the id of a user, or one of its own.
        person TEXT NOT NULL,
        -- Whether the person is known by more than this.
        named BIGINT NOT NULL,
        kind TEXT NOT NULL,
        value TEXT NOT NULL,
        -- One for all of a person's.
        secret BLOB NOT NULL,
        at BIGINT NOT NULL,
        PRIMARY KEY (workspace, commitment)
    );
    CREATE INDEX audit_people_by_value ON audit_people (workspace, value);
    CREATE INDEX audit_people_by_person ON audit_people (workspace, person);
    CREATE INDEX audit_people_by_time ON audit_people (workspace, named, at);
";

/// Writes what units recorded: one row for each transaction.
#[derive(Debug, Clone, Copy, Default)]
pub struct Written;

impl Recorder for Written {
    fn record(
        &self,
        scope: &mut ServerScope<'_>,
        entries: Vec<Vec<u8>>,
        now: Timestamp,
    ) -> Result<(), StoreError> {
        // Servers take turns: numbers grow in the order of commits, without a gap.
        scope.in_turn()?;
        let mut bundled = Vec::with_capacity(entries.iter().map(|it| it.len() + 2).sum());
        for entry in &entries {
            bundle::push(&mut bundled, entry)
                .map_err(|error| StoreError::Statement(error.to_string()))?;
        }
        let count = i64::try_from(entries.len()).unwrap_or(i64::MAX);
        let size = scope.query(
            "INSERT INTO audit_log (id, size) VALUES (1, ?1) \
             ON CONFLICT (id) DO UPDATE SET size = audit_log.size + excluded.size RETURNING size",
            &[count.into()],
        )?;
        let size = match size.first() {
            Some(row) => row.int(0)?,
            None => return Err(StoreError::Statement("the audit log is gone".to_owned())),
        };
        scope.execute(
            "INSERT INTO audit_batches (first, entries, at, bundle) VALUES (?1, ?2, ?3, ?4)",
            &[
                (size - count).into(),
                count.into(),
                now.into(),
                bundled.as_slice().into(),
            ],
        )?;
        Ok(())
    }
}
