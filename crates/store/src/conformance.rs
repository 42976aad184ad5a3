//! What every engine must do, told through the public interface only. An engine's tests call
//! [`run`] with a way to open (and open again) one and the same store.

#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a failed expectation is a failed test"
)]

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use skep_core::Workspace;

use crate::{Db, Hash, Migration, MigrationSet, Param, StoreError};

/// The tables that the suite works on; give it to every open.
pub const TABLES: MigrationSet = MigrationSet {
    component: "conformance",
    migrations: &[Migration {
        name: "0001-notes",
        sql: "CREATE TABLE notes (
                workspace TEXT NOT NULL,
                id BIGINT NOT NULL,
                body TEXT,
                raw BLOB,
                PRIMARY KEY (workspace, id)
            );",
    }],
    workspace_tables: &["notes"],
};

const INSERT: &str = "INSERT INTO notes (workspace, id, body, raw) VALUES (?1, ?2, ?3, ?4)";
const COUNT: &str = "SELECT COUNT(*) FROM notes WHERE workspace = ?1";

fn ws(name: &str) -> Workspace {
    Workspace::new(name).unwrap()
}

async fn insert(db: &Db, workspace: &'static str, id: i64) -> Result<(), StoreError> {
    db.write(move |unit| {
        let workspace = ws(workspace);
        let mut scope = unit.scope(&workspace);
        scope.count("notes", 1)?;
        scope
            .execute(INSERT, &[id.into(), "body".into(), Param::Null])
            .map(|_| ())
    })
    .await
}

async fn count(db: &Db, workspace: &'static str) -> i64 {
    db.read(move |reader| -> Result<_, StoreError> {
        reader
            .scope(&ws(workspace))
            .query_opt(COUNT, &[])?
            .unwrap()
            .int(0)
    })
    .await
    .unwrap()
}

/// Runs every test of the suite. `open` opens the same store each time; the one before is closed.
///
/// # Panics
/// When the engine does not do what it must.
pub async fn run(open: impl AsyncFn() -> Db) {
    let db = open().await;
    values_come_back_as_they_went_in(&db).await;
    units_are_all_or_nothing(&db).await;
    workspaces_do_not_see_each_other(&db).await;
    scopes_refuse_what_leaves_them(&db).await;
    many_writers_share_commits_and_counters(&db).await;
    blobs_live_as_long_as_their_references(&db).await;
    let (epoch, last) = (db.epoch(), db.clock().now());
    db.close().await;
    assert!(matches!(
        insert(&db, "closed", 1).await,
        Err(StoreError::Closed)
    ));
    drop(db);
    let db = open().await;
    assert_eq!(db.epoch(), epoch + 1);
    assert!(
        db.clock().now() >= last,
        "the clock does not go back over a restart"
    );
    assert_eq!(
        count(&db, "many").await,
        500,
        "what was committed is there after a restart"
    );
    db.close().await;
}

async fn values_come_back_as_they_went_in(db: &Db) {
    let workspace = ws("values");
    let row = db
        .write(move |unit| -> Result<_, StoreError> {
            let mut scope = unit.scope(&workspace);
            scope.execute(
                INSERT,
                &[i64::MIN.into(), "é\u{0}ü".into(), (&[0_u8, 255]).into()],
            )?;
            scope.execute(INSERT, &[i64::MAX.into(), Param::Null, Param::Null])?;
            scope.query(
                "SELECT id, body, raw FROM notes WHERE workspace = ?1 ORDER BY id",
                &[],
            )
        })
        .await
        .unwrap();
    assert_eq!(row[0].int(0).unwrap(), i64::MIN);
    assert_eq!(
        row[0].text(1).unwrap(),
        "é\u{fffd}ü",
        "no engine keeps a NUL"
    );
    assert_eq!(row[0].blob(2).unwrap(), [0, 255]);
    assert_eq!(row[1].opt_text(1).unwrap(), None);
    assert_eq!(row[1].opt_blob(2).unwrap(), None);
    assert!(row[1].text(1).is_err(), "NULL is no text");
}

async fn units_are_all_or_nothing(db: &Db) {
    insert(db, "units", 1).await.unwrap();
    // A constraint, an error of the caller and a panic each roll back their own unit only.
    let twice = insert(db, "units", 1).await;
    assert!(matches!(twice, Err(StoreError::Statement(_))), "{twice:?}");
    let refused: Result<(), StoreError> = db
        .write(|unit| {
            let workspace = ws("units");
            unit.scope(&workspace)
                .execute(INSERT, &[2_i64.into(), Param::Null, Param::Null])?;
            unit.scope(&workspace).count("notes", 10)?;
            Err(StoreError::Statement("changed my mind".to_owned()))
        })
        .await;
    assert!(refused.is_err());
    let panicked: Result<(), StoreError> = db
        .write(|unit| {
            unit.scope(&ws("units"))
                .execute(INSERT, &[3_i64.into(), Param::Null, Param::Null])?;
            std::panic::resume_unwind(Box::new("a bug in a unit"))
        })
        .await;
    assert!(panicked.is_err());
    insert(db, "units", 4).await.unwrap();
    assert_eq!(count(db, "units").await, 2);
    let counters = db
        .read(|reader| reader.scope(&ws("units")).counters("notes"))
        .await;
    let counters: Result<_, StoreError> = counters;
    assert_eq!(
        counters.unwrap(),
        [("notes".to_owned(), 2)],
        "counters roll back with their unit"
    );
}

async fn workspaces_do_not_see_each_other(db: &Db) {
    insert(db, "left", 1).await.unwrap();
    insert(db, "right", 1).await.unwrap();
    let removed: Result<usize, StoreError> = db
        .write(|unit| {
            unit.scope(&ws("left"))
                .execute("DELETE FROM notes WHERE workspace = ?1", &[])
        })
        .await;
    assert_eq!(removed.unwrap(), 1);
    assert_eq!((count(db, "left").await, count(db, "right").await), (0, 1));
}

async fn scopes_refuse_what_leaves_them(db: &Db) {
    let unscoped: Result<_, StoreError> = db
        .read(|reader| reader.server().query("SELECT * FROM notes", &[]))
        .await;
    assert!(
        matches!(unscoped, Err(StoreError::Statement(_))),
        "{unscoped:?}"
    );
    let unbound: Result<_, StoreError> = db
        .read(|reader| reader.scope(&ws("left")).query("SELECT * FROM notes", &[]))
        .await;
    assert!(
        matches!(unbound, Err(StoreError::Statement(_))),
        "{unbound:?}"
    );
    let writing: Result<_, StoreError> = db
        .read(|reader| {
            reader
                .scope(&ws("right"))
                .execute("DELETE FROM notes WHERE workspace = ?1", &[])
        })
        .await;
    assert!(writing.is_err(), "a reader does not write");
    assert_eq!(count(db, "right").await, 1);
}

async fn many_writers_share_commits_and_counters(db: &Db) {
    let refused = Arc::new(AtomicUsize::new(0));
    let mut tasks = Vec::new();
    for id in 0..500 {
        let (db, refused) = (db.clone(), refused.clone());
        tasks.push(tokio::spawn(async move {
            insert(&db, "many", id).await.unwrap();
            if insert(&db, "many", id).await.is_err() {
                refused.fetch_add(1, Ordering::Relaxed);
            }
        }));
    }
    for task in tasks {
        task.await.unwrap();
    }
    assert_eq!(refused.load(Ordering::Relaxed), 500);
    assert_eq!(count(db, "many").await, 500);
    let counted: Result<_, StoreError> = db
        .read(|reader| reader.scope(&ws("many")).counters(""))
        .await;
    assert_eq!(counted.unwrap(), [("notes".to_owned(), 500)]);
}

async fn blobs_live_as_long_as_their_references(db: &Db) {
    let workspace = ws("blobs");
    let put = |content: &'static [u8]| {
        let mut writer = db.blobs().writer(&workspace).unwrap();
        writer.write(content).unwrap();
        writer.finish().unwrap()
    };
    let (kept, dropped, orphan) = (put(b"kept"), put(b"dropped"), put(b"orphan"));
    let (keep, drop_later) = (kept.blob(), dropped.blob());
    assert_eq!(keep.hash, Hash::of(b"kept"));
    db.write(move |unit| -> Result<_, StoreError> {
        let workspace = ws("blobs");
        let mut scope = unit.scope(&workspace);
        scope.link_blob(&keep)?;
        scope.link_blob(&keep)?;
        scope.link_blob(&drop_later)?;
        scope.unlink_blob(&keep.hash)?;
        scope.unlink_blob(&drop_later.hash)
    })
    .await
    .unwrap();
    let sweep = || async {
        let swept: Result<usize, StoreError> = db
            .write(|unit| unit.scope(&ws("blobs")).sweep_blobs(100))
            .await;
        swept.expect("sweeps")
    };
    assert_eq!(sweep().await, 1, "a row without references goes");
    assert_eq!(
        db.sweep_loose_blobs().await.unwrap(),
        0,
        "the file of a pinned blob stays"
    );
    assert_eq!(
        db.sweep_orphan_blobs(&workspace).await.unwrap(),
        0,
        "a pinned orphan stays"
    );
    drop((kept, dropped, orphan));
    assert_eq!(
        db.sweep_loose_blobs().await.unwrap(),
        2,
        "so do they when the pins go"
    );
    assert_eq!(db.sweep_orphan_blobs(&workspace).await.unwrap(), 0);
    // Looked at in the folder: a database that has them too has them for a while longer.
    let there = |hash: &Hash| {
        let of_first = db.blobs().list(&workspace, hash.as_bytes()[0]).unwrap();
        of_first.contains(hash)
    };
    assert!(there(&keep.hash));
    assert!(!there(&drop_later.hash));
    assert!(!there(&Hash::of(b"orphan")));
}
