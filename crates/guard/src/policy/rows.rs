//! The tables of policies and their SQL.

use skep_core::{Timestamp, Workspace};
use skep_store::{By, Change, Hash, Migration, MigrationSet, Reader, Row, Scope, StoreError, Unit};

use super::PolicyError;
use super::service::{Stored, Version};

/// Versions that a workspace keeps: the newest ones, and the one that holds.
const MOST_VERSIONS: i64 = 1_000;

/// The tables of policies.
pub const MIGRATIONS: MigrationSet = MigrationSet {
    component: "guard",
    migrations: &[Migration {
        name: "0001-policies",
        sql: "
            -- What was ever set; never changed.
            CREATE TABLE policy_versions (
                workspace TEXT NOT NULL,
                number BIGINT NOT NULL,
                text TEXT NOT NULL,
                hash BLOB NOT NULL,
                by_kind TEXT NOT NULL,
                by_id TEXT NOT NULL,
                created_at BIGINT NOT NULL,
                PRIMARY KEY (workspace, number)
            );
            -- Which version holds; without a row, or with 0, none.
            CREATE TABLE policy_current (
                workspace TEXT NOT NULL,
                number BIGINT NOT NULL,
                changed_at BIGINT NOT NULL,
                PRIMARY KEY (workspace)
            );
            -- How often any workspace's was changed; at most one row. Servers look at it for each other.
            CREATE TABLE policy_changes (
                id BIGINT NOT NULL,
                count BIGINT NOT NULL,
                PRIMARY KEY (id)
            );
        ",
    }],
    workspace_tables: &["policy_versions", "policy_current"],
};

fn number(row: &Row, at: usize) -> Result<u64, StoreError> {
    Ok(u64::try_from(row.int(at)?).unwrap_or(0))
}

fn int(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

/// How often policies were changed.
pub(super) fn changes(reader: &mut Reader<'_>) -> Result<i64, StoreError> {
    let sql = "SELECT count FROM policy_changes WHERE id = 1";
    let rows = reader.server().query(sql, &[])?;
    rows.first().map_or(Ok(0), |row| row.int(0))
}

/// Which version holds.
pub(super) fn current(scope: &mut Scope<'_>) -> Result<u64, StoreError> {
    let sql = "SELECT number FROM policy_current WHERE workspace = ?1";
    let rows = scope.query(sql, &[])?;
    rows.first().map_or(Ok(0), |row| number(row, 0))
}

fn version(row: &Row) -> Result<Version, StoreError> {
    Ok(Version {
        number: number(row, 0)?,
        hash: Hash::from_bytes(row.bytes(1)?),
        by: (row.text(2)?.to_owned(), row.text(3)?.to_owned()),
        created_at: Timestamp::from_micros(row.int(4)?),
    })
}

/// A version with its text.
pub(super) fn stored(scope: &mut Scope<'_>, of: u64) -> Result<Option<Stored>, StoreError> {
    let rows = scope.query(
        "SELECT number, hash, by_kind, by_id, created_at, text FROM policy_versions \
         WHERE workspace = ?1 AND number = ?2",
        &[int(of).into()],
    )?;
    let Some(row) = rows.first() else {
        return Ok(None);
    };
    Ok(Some(Stored {
        version: version(row)?,
        text: row.text(5)?.to_owned(),
    }))
}

/// Versions below a number, newest first.
pub(super) fn versions(
    scope: &mut Scope<'_>,
    below: Option<u64>,
    most: usize,
) -> Result<Vec<Version>, StoreError> {
    let below = below.map_or(i64::MAX, int);
    let most = i64::try_from(most).unwrap_or(i64::MAX);
    let rows = scope.query(
        "SELECT number, hash, by_kind, by_id, created_at FROM policy_versions \
         WHERE workspace = ?1 AND number < ?2 ORDER BY number DESC LIMIT ?3",
        &[below.into(), most.into()],
    )?;
    rows.iter().map(version).collect()
}

/// Takes the turn of whoever changes policies, and sees whether what was thought to hold does. Tells the
/// number of this change, and what holds.
pub(super) fn begin(
    unit: &mut Unit<'_>,
    workspace: &Workspace,
    expected: Option<u64>,
) -> Result<(i64, u64), PolicyError> {
    let sql = "INSERT INTO policy_changes (id, count) VALUES (1, 1) \
               ON CONFLICT (id) DO UPDATE SET count = policy_changes.count + 1 RETURNING count";
    let rows = unit.server().query(sql, &[])?;
    let count = rows.first().map_or(Ok(0), |row| row.int(0))?;
    let current = current(&mut unit.scope(workspace))?;
    match expected {
        Some(expected) if expected != current => Err(PolicyError::Conflict { expected, current }),
        _ => Ok((count, current)),
    }
}

/// Adds a version, and takes the oldest away when there are too many.
pub(super) fn add(
    scope: &mut Scope<'_>,
    text: &str,
    (kind, id): (&str, &str),
    now: Timestamp,
) -> Result<u64, StoreError> {
    let newest = versions(scope, None, 1)?;
    let next = newest.first().map_or(1, |newest| newest.number + 1);
    let hash = Hash::of(text.as_bytes());
    scope.execute(
        "INSERT INTO policy_versions (workspace, number, text, hash, by_kind, by_id, created_at) \
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)",
        &[
            int(next).into(),
            text.into(),
            hash.as_bytes().into(),
            kind.into(),
            id.into(),
            now.into(),
        ],
    )?;
    scope.execute(
        "DELETE FROM policy_versions WHERE workspace = ?1 AND number <= ?2 \
         AND number NOT IN (SELECT number FROM policy_current WHERE workspace = ?1)",
        &[(int(next) - MOST_VERSIONS).into()],
    )?;
    Ok(next)
}

/// Makes a version the one that holds, and leaves the entry of that.
pub(super) fn point(
    scope: &mut Scope<'_>,
    by: &By,
    to: u64,
    hash: Option<Hash>,
    now: Timestamp,
) -> Result<(), StoreError> {
    scope.execute(
        "INSERT INTO policy_current (workspace, number, changed_at) VALUES (?1, ?2, ?3) \
         ON CONFLICT (workspace) DO UPDATE SET number = excluded.number, \
         changed_at = excluded.changed_at",
        &[int(to).into(), now.into()],
    )?;
    let workspace = scope.workspace().clone();
    let change = Change {
        action: Some("policy:write"),
        resource: ("Workspace", workspace.as_str()),
        what: &format!("policies, version {to}"),
        hash,
    };
    by.did(scope, &change, now)
}
