//! The store on a real folder: the conformance suite, and what is SQLite's own.

use std::fs;
use std::path::Path;

use skep_core::{Clock, Workspace};
use skep_store::{
    Applied, Db, Hash, Loader, Migration, MigrationSet, Options, Raise, StoreError, TableSum,
    conformance,
};
use tempfile::TempDir;

const FIRST: Migration = Migration {
    name: "0001-first",
    sql: "CREATE TABLE things (workspace TEXT NOT NULL, id BIGINT NOT NULL, PRIMARY KEY (workspace, id));",
};
const SECOND: Migration = Migration {
    name: "0002-second",
    sql: "ALTER TABLE things ADD COLUMN note TEXT;",
};

const fn set(migrations: &'static [Migration]) -> MigrationSet {
    MigrationSet {
        component: "things",
        migrations,
        workspace_tables: &["things"],
    }
}

fn open(folder: &Path, migrations: &'static [Migration]) -> Result<Db, StoreError> {
    Db::open(Options::new(folder), &[set(migrations)])
}

async fn put(db: &Db, id: i64) -> Result<(), StoreError> {
    db.write(move |unit| {
        unit.scope(&Workspace::default())
            .execute(
                "INSERT INTO things (workspace, id) VALUES (?1, ?2)",
                &[id.into()],
            )
            .map(|_| ())
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn sqlite_conforms() {
    let folder = TempDir::new().unwrap();
    conformance::run(async || {
        Db::open(Options::new(folder.path()), &[conformance::TABLES]).unwrap()
    })
    .await;
}

#[tokio::test]
async fn a_migration_is_preceded_by_a_backup_and_applied_once() {
    let folder = TempDir::new().unwrap();
    let db = open(folder.path(), &[FIRST]).unwrap();
    assert!(db.backup().is_none(), "an empty store needs no backup");
    put(&db, 1).await.unwrap();
    db.close().await;
    let db = open(folder.path(), &[FIRST, SECOND]).unwrap();
    let backup = db.backup().unwrap().to_owned();
    db.close().await;
    let db = open(folder.path(), &[FIRST, SECOND]).unwrap();
    assert!(db.backup().is_none());
    db.close().await;
    // The backup is a store that the older binary opens.
    let restored = TempDir::new().unwrap();
    fs::copy(backup, restored.path().join("skep.db")).unwrap();
    let db = open(restored.path(), &[FIRST]).unwrap();
    assert!(
        matches!(put(&db, 1).await, Err(StoreError::Statement(_))),
        "the row is in the backup"
    );
}

#[tokio::test]
async fn a_newer_or_changed_database_is_refused_and_left_alone() {
    let folder = TempDir::new().unwrap();
    open(folder.path(), &[FIRST, SECOND]).unwrap().close().await;
    let newer = open(folder.path(), &[FIRST]).err().unwrap();
    assert!(
        matches!(newer, StoreError::Newer { ref name, .. } if name == "0002-second"),
        "{newer}"
    );
    const OTHER: Migration = Migration {
        name: "0001-first",
        sql: "CREATE TABLE things (id BIGINT);",
    };
    let changed = open(folder.path(), &[OTHER, SECOND]).err().unwrap();
    assert!(
        matches!(changed, StoreError::MigrationChanged { .. }),
        "{changed}"
    );
    open(folder.path(), &[FIRST, SECOND]).unwrap().close().await;
}

#[tokio::test]
async fn a_failing_migration_changes_nothing() {
    const WRONG: Migration = Migration {
        name: "0002-wrong",
        sql: "CREATE TABLE half (id BIGINT); SELECT nonsense FROM nowhere;",
    };
    const HALF: Migration = Migration {
        name: "0002-half",
        sql: "CREATE TABLE half (id BIGINT);",
    };
    let folder = TempDir::new().unwrap();
    open(folder.path(), &[FIRST]).unwrap().close().await;
    assert!(open(folder.path(), &[FIRST, WRONG]).is_err());
    open(folder.path(), &[FIRST, HALF]).unwrap().close().await;
}

#[tokio::test]
async fn two_stores_on_one_folder_are_refused() {
    let folder = TempDir::new().unwrap();
    let first = open(folder.path(), &[FIRST]).unwrap();
    let second = open(folder.path(), &[FIRST]).err().unwrap();
    let me = format!("process {}", std::process::id());
    assert!(
        matches!(second, StoreError::InUse { ref holder, .. } if *holder == me),
        "{second}"
    );
    first.close().await;
    open(folder.path(), &[FIRST]).unwrap().close().await;
}

#[tokio::test]
async fn a_damaged_file_is_told_and_not_touched() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("skep.db");
    let garbage = vec![b'x'; 8192];
    fs::write(&path, &garbage).unwrap();
    let error = open(folder.path(), &[FIRST]).err().unwrap();
    assert!(matches!(error, StoreError::Corrupt { .. }), "{error}");
    assert_eq!(fs::read(&path).unwrap(), garbage);
}

#[tokio::test]
async fn damage_inside_the_file_is_found_at_start() {
    let folder = TempDir::new().unwrap();
    let db = open(folder.path(), &[FIRST]).unwrap();
    for id in 0..50 {
        put(&db, id).await.unwrap();
    }
    db.close().await;
    let path = folder.path().join("skep.db");
    let mut bytes = fs::read(&path).unwrap();
    let end = bytes.len() - 4096;
    bytes[end..].fill(0xff);
    fs::write(&path, &bytes).unwrap();
    let error = open(folder.path(), &[FIRST]).err().unwrap();
    assert!(matches!(error, StoreError::Corrupt { .. }), "{error}");
}

#[tokio::test]
async fn the_clock_starts_no_earlier_than_it_stopped() {
    let folder = TempDir::new().unwrap();
    let db = open(folder.path(), &[FIRST]).unwrap();
    db.close().await;
    // As if somebody had set the wall clock back by an hour while the server was down.
    let connection = rusqlite::Connection::open(folder.path().join("skep.db")).unwrap();
    let ahead = Clock::default().now().as_micros() + 3_600_000_000;
    connection
        .execute(
            "UPDATE server_state SET value = ?1 WHERE name = 'last_time'",
            [ahead],
        )
        .unwrap();
    drop(connection);
    let db = open(folder.path(), &[FIRST]).unwrap();
    assert!(db.clock().now().as_micros() >= ahead);
    db.close().await;
}

/// A dump in memory: the migrations, and each table with its columns and rows.
type Dumped = (Vec<Applied>, Vec<(String, Vec<String>, Vec<u8>, TableSum)>);

async fn dumped(db: &Db, migrations: &'static [Migration]) -> Result<Dumped, StoreError> {
    db.read(move |reader| -> Result<_, StoreError> {
        let mut dump = reader.dump(&[set(migrations)])?;
        let mut tables = Vec::new();
        for table in dump.tables() {
            let mut bytes = Vec::new();
            let sum = dump.table(&table, |piece| -> Result<(), StoreError> {
                bytes.extend_from_slice(piece);
                Ok(())
            })?;
            tables.push((table.name, table.columns, bytes, sum));
        }
        Ok((dump.applied().to_vec(), tables))
    })
    .await
}

fn load(
    folder: &Path,
    migrations: &'static [Migration],
    (applied, tables): &Dumped,
    raise: Raise,
) -> Result<Vec<(String, TableSum)>, StoreError> {
    let mut loader = Loader::begin(folder, None, &[set(migrations)], applied)?;
    for (name, columns, bytes, sum) in tables {
        loader.table(name, columns)?;
        // Pieces fall where they fall.
        for piece in bytes.chunks(7) {
            loader.rows(piece)?;
        }
        assert_eq!(loader.end_table()?, *sum);
    }
    loader.finish(raise)
}

#[tokio::test]
async fn a_dump_is_loaded_into_an_empty_store_and_an_older_one_is_migrated_by_its_start() {
    let folder = TempDir::new().unwrap();
    let db = open(folder.path(), &[FIRST]).unwrap();
    for id in 0..100 {
        put(&db, id).await.unwrap();
    }
    let epoch = db.epoch();
    let dump = dumped(&db, &[FIRST]).await.unwrap();
    db.close().await;
    let things = dump.1.iter().find(|table| table.0 == "things").unwrap();
    assert_eq!(things.3.rows, 100);

    let other = TempDir::new().unwrap();
    let raise = Raise {
        epochs: 1000,
        ..Raise::default()
    };
    load(other.path(), &[FIRST, SECOND], &dump, raise).unwrap();
    let db = open(other.path(), &[FIRST, SECOND]).unwrap();
    assert!(db.backup().is_some(), "it was older and is migrated");
    assert_eq!(db.epoch(), epoch + 1001);
    assert!(matches!(put(&db, 1).await, Err(StoreError::Statement(_))));
    let again = dumped(&db, &[FIRST, SECOND]).await.unwrap();
    db.close().await;
    let full = load(other.path(), &[FIRST, SECOND], &dump, Raise::default());
    assert!(matches!(full, Err(StoreError::NotEmpty(_))), "{full:?}");
    let older = TempDir::new().unwrap();
    let newer = load(older.path(), &[FIRST], &again, Raise::default());
    assert!(matches!(newer, Err(StoreError::Newer { .. })), "{newer:?}");
}

#[tokio::test]
async fn a_load_that_is_cut_short_leaves_nothing_and_can_be_done_again() {
    let folder = TempDir::new().unwrap();
    let db = open(folder.path(), &[FIRST]).unwrap();
    put(&db, 1).await.unwrap();
    let mut dump = dumped(&db, &[FIRST]).await.unwrap();
    db.close().await;
    let other = TempDir::new().unwrap();
    let last = dump.1.pop().unwrap();
    let short = load(other.path(), &[FIRST], &dump, Raise::default());
    assert!(matches!(short, Err(StoreError::Dump(_))), "{short:?}");
    dump.1.push(last);
    let bytes = &mut dump.1.last_mut().unwrap().2;
    let byte = bytes.pop().unwrap();
    let short = load(other.path(), &[FIRST], &dump, Raise::default());
    assert!(matches!(short, Err(StoreError::Dump(_))), "{short:?}");
    dump.1.last_mut().unwrap().2.push(byte);
    load(other.path(), &[FIRST], &dump, Raise::default()).unwrap();
}

#[tokio::test]
async fn blobs_stay_while_somebody_holds_them_and_go_afterwards() {
    let folder = TempDir::new().unwrap();
    let db = open(folder.path(), &[FIRST]).unwrap();
    let workspace = Workspace::default();
    let mut writer = db.blobs().writer(&workspace).unwrap();
    writer.write(b"loose").unwrap();
    let hash = Hash::of(b"loose");
    let pinned = writer.finish().unwrap();
    let hold = db.blobs().hold();
    drop(pinned);
    assert_eq!(db.sweep_loose_blobs().await.unwrap(), 0);
    assert_eq!(db.sweep_orphan_blobs(&workspace).await.unwrap(), 0);
    assert!(db.blobs().open_blob(&workspace, &hash).is_ok());
    drop(hold);
    assert_eq!(db.sweep_loose_blobs().await.unwrap(), 2, "told twice");
    assert!(db.blobs().open_blob(&workspace, &hash).is_err());
    db.close().await;
}
