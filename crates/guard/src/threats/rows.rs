//! What was found, as it is kept: by workspace, newest first, until somebody has seen it and longer.

use skep_core::{DetectionId, Timestamp, Workspace};
use skep_store::{By, Change, Db, Migration, MigrationSet, Row, Scope, StoreError, Unit};

use super::{Finding, KEPT, Kind, Learnt, REMEMBERED, Severity};

/// The tables of detections.
pub const MIGRATIONS: MigrationSet = MigrationSet {
    component: "guard-threats",
    migrations: &[
        Migration {
            name: "0001-detections",
            sql: "
                CREATE TABLE detections (
                    workspace TEXT NOT NULL,
                    id BLOB NOT NULL,
                    at BIGINT NOT NULL,
                    kind TEXT NOT NULL,
                    severity TEXT NOT NULL,
                    subject_kind TEXT NOT NULL,
                    subject TEXT NOT NULL,
                    detail TEXT NOT NULL,
                    acknowledged_at BIGINT,
                    PRIMARY KEY (workspace, id)
                );
                CREATE INDEX detections_by_time ON detections (workspace, at);
            ",
        },
        Migration {
            name: "0002-known-addresses",
            sql: "
                CREATE TABLE known_addresses (
                    workspace TEXT NOT NULL,
                    principal TEXT NOT NULL,
                    key_id BIGINT NOT NULL,
                    tag BIGINT NOT NULL,
                    seen_at BIGINT NOT NULL,
                    PRIMARY KEY (workspace, principal, key_id, tag)
                );
                CREATE INDEX known_addresses_by_time ON known_addresses (workspace, seen_at);
            ",
        },
    ],
    workspace_tables: &["detections", "known_addresses"],
};

/// Detections of a workspace that are kept, about.
const MOST: i64 = 10_000;
/// One in so many new ones looks whether there are too many.
const TRIM_EVERY: u8 = 64;

/// Something that was found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Detection {
    /// Its id.
    pub id: DetectionId,
    /// When.
    pub at: Timestamp,
    /// What.
    pub kind: Kind,
    /// How bad it may be.
    pub severity: Severity,
    /// The kind of whom it was found of: `ApiKey`, `Person`.
    pub subject_kind: String,
    /// Their id.
    pub subject: String,
    /// The rest, in words.
    pub detail: String,
    /// When somebody said that they had seen it.
    pub acknowledged_at: Option<Timestamp>,
}

/// Which are asked for. All that is given must be so.
#[derive(Debug, Clone, Default)]
pub struct Filter {
    /// Of this kind.
    pub kind: Option<Kind>,
    /// At least as bad as this.
    pub severity: Option<Severity>,
    /// Not before this.
    pub since: Option<Timestamp>,
    /// Seen by somebody, or not yet.
    pub acknowledged: Option<bool>,
}

/// Keeps what was found of a subject; `subject` is its kind and its id as others may know them.
///
/// # Errors
/// The store's own.
pub fn keep(
    unit: &mut Unit<'_>,
    finding: &Finding,
    subject: (&str, &str),
) -> Result<DetectionId, StoreError> {
    let (id, now) = (DetectionId::new(), unit.now());
    let mut scope = unit.scope(&finding.workspace);
    scope.execute(
        "INSERT INTO detections (workspace, id, at, kind, severity, subject_kind, subject, detail) \
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)",
        &[
            id.as_bytes().into(),
            now.into(),
            finding.kind.as_str().into(),
            finding.kind.severity().as_str().into(),
            subject.0.into(),
            subject.1.into(),
            finding.detail.as_str().into(),
        ],
    )?;
    if id.as_bytes()[15].is_multiple_of(TRIM_EVERY) {
        scope.execute(
            "DELETE FROM detections WHERE workspace = ?1 AND id IN (SELECT id FROM detections \
             WHERE workspace = ?1 ORDER BY id DESC LIMIT 1000 OFFSET ?2)",
            &[MOST.into()],
        )?;
    }
    Ok(id)
}

const ALL: &str = "SELECT id, at, kind, severity, subject_kind, subject, detail, acknowledged_at \
    FROM detections WHERE workspace = ?1 AND id < ?2 ORDER BY id DESC LIMIT ?3";
/// Rows that are read at once.
const STEP: u32 = 1_000;

fn read(row: &Row) -> Result<Detection, StoreError> {
    let odd = |what: &str| StoreError::Statement(format!("no {what} of a detection"));
    Ok(Detection {
        id: DetectionId::from_bytes(row.bytes(0)?),
        at: row.time(1)?,
        kind: row.text(2)?.parse().map_err(|()| odd("kind"))?,
        severity: row.text(3)?.parse().map_err(|()| odd("severity"))?,
        subject_kind: row.text(4)?.to_owned(),
        subject: row.text(5)?.to_owned(),
        detail: row.text(6)?.to_owned(),
        acknowledged_at: row.opt_int(7)?.map(Timestamp::from_micros),
    })
}

/// Detections, newest first: those below `before`, at most so many.
///
/// # Errors
/// The store's own.
pub async fn list(
    db: &Db,
    workspace: &Workspace,
    filter: Filter,
    before: Option<DetectionId>,
    limit: usize,
) -> Result<Vec<Detection>, StoreError> {
    let workspace = workspace.clone();
    db.read(move |reader| {
        let mut scope = reader.scope(&workspace);
        let mut below = before.map_or([u8::MAX; 16], |id| *id.as_bytes());
        let mut found = Vec::new();
        loop {
            let rows = scope.query(ALL, &[(&below).into(), STEP.into()])?;
            for row in &rows {
                let one = read(row)?;
                below = *one.id.as_bytes();
                let fits = filter.kind.is_none_or(|kind| kind == one.kind)
                    && filter.severity.is_none_or(|least| one.severity >= least)
                    && filter.since.is_none_or(|since| one.at >= since)
                    && filter
                        .acknowledged
                        .is_none_or(|seen| seen == one.acknowledged_at.is_some());
                if fits {
                    found.push(one);
                    if found.len() == limit {
                        return Ok(found);
                    }
                }
            }
            if rows.len() < STEP as usize {
                return Ok(found);
            }
        }
    })
    .await
}

fn one(scope: &mut Scope<'_>, id: DetectionId) -> Result<Option<Detection>, StoreError> {
    let row = scope.query_opt(
        "SELECT id, at, kind, severity, subject_kind, subject, detail, acknowledged_at \
         FROM detections WHERE workspace = ?1 AND id = ?2",
        &[id.as_bytes().into()],
    )?;
    row.as_ref().map(read).transpose()
}

/// A detection, if there is one of this id.
///
/// # Errors
/// The store's own.
pub async fn show(
    db: &Db,
    workspace: &Workspace,
    id: DetectionId,
) -> Result<Option<Detection>, StoreError> {
    let workspace = workspace.clone();
    db.read(move |reader| one(&mut reader.scope(&workspace), id))
        .await
}

/// Somebody has seen a detection. The first time counts; gives it as it is then, if there is one.
///
/// # Errors
/// The store's own.
pub async fn acknowledge(
    db: &Db,
    by: By,
    workspace: &Workspace,
    id: DetectionId,
) -> Result<Option<Detection>, StoreError> {
    let workspace = workspace.clone();
    db.write(move |unit| {
        let now = unit.now();
        let mut scope = unit.scope(&workspace);
        let changed = scope.execute(
            "UPDATE detections SET acknowledged_at = ?3 \
             WHERE workspace = ?1 AND id = ?2 AND acknowledged_at IS NULL",
            &[id.as_bytes().into(), now.into()],
        )?;
        if changed > 0 {
            let change = Change {
                action: None,
                resource: ("Detection", &id.to_string()),
                what: "acknowledged",
                hash: None,
            };
            by.did(&mut scope, &change, now)?;
        }
        one(&mut scope, id)
    })
    .await
}

/// Keeps addresses that principals of a workspace came from, as many of each as are remembered, and forgets those
/// that are too old.
///
/// # Errors
/// The store's own.
pub fn keep_addresses(
    scope: &mut Scope<'_>,
    key_id: i64,
    learnt: &[Learnt],
    now: Timestamp,
) -> Result<(), StoreError> {
    for one in learnt {
        scope.execute(
            "INSERT INTO known_addresses (workspace, principal, key_id, tag, seen_at) \
             VALUES (?1, ?2, ?3, ?4, ?5) \
             ON CONFLICT (workspace, principal, key_id, tag) DO UPDATE SET seen_at = excluded.seen_at",
            &[(&*one.principal).into(), key_id.into(), one.tag.into(), one.at.into()],
        )?;
        let most = i64::try_from(REMEMBERED).unwrap_or(i64::MAX);
        scope.execute(
            "DELETE FROM known_addresses WHERE workspace = ?1 AND principal = ?2 AND key_id = ?3 AND tag IN \
             (SELECT tag FROM known_addresses WHERE workspace = ?1 AND principal = ?2 AND key_id = ?3 \
             ORDER BY seen_at DESC, tag LIMIT 1000 OFFSET ?4)",
            &[(&*one.principal).into(), key_id.into(), most.into()],
        )?;
    }
    let oldest = i64::try_from(KEPT.as_micros()).unwrap_or(i64::MAX);
    let oldest = Timestamp::from_micros(now.as_micros().saturating_sub(oldest));
    scope
        .execute(
            "DELETE FROM known_addresses WHERE workspace = ?1 AND seen_at < ?2",
            &[oldest.into()],
        )
        .map(drop)
}

/// The addresses that principals of a workspace came from, those of the longest ago first.
///
/// # Errors
/// The store's own.
pub async fn known_addresses(
    db: &Db,
    workspace: &Workspace,
    key_id: i64,
) -> Result<Vec<Learnt>, StoreError> {
    let of = workspace.clone();
    db.read(move |reader| {
        let rows = reader.scope(&of).query(
            "SELECT principal, tag, seen_at FROM known_addresses \
             WHERE workspace = ?1 AND key_id = ?2 ORDER BY seen_at",
            &[key_id.into()],
        )?;
        let read = |row: &Row| -> Result<Learnt, StoreError> {
            Ok(Learnt {
                workspace: of.clone(),
                principal: row.text(0)?.into(),
                tag: row.int(1)?,
                at: row.time(2)?,
            })
        };
        rows.iter().map(read).collect()
    })
    .await
}
