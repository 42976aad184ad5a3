//! The store on PostgreSQL: the very suite that SQLite passes, and what a server does with a
//! database that crashes, with another server beside it, or with one that lets nobody in.

use std::io::Read;
use std::sync::Arc;

use serde_json::json;
use skep_core::Workspace;
use skep_store::{Beat, BlobRef, Db, Hash, Options, StoreError, conformance};
use skep_tests::postgres::Postgres;
use skep_tests::{Server, Setup, eventually};
use tempfile::TempDir;

/// A server whose store this database is.
pub(crate) fn on(postgres: &Postgres) -> Setup {
    Setup {
        env: vec![
            ("SKEP_STORE_URL".to_owned(), postgres.url()),
            // Servers of one database sign one log.
            ("SKEP_AUDIT_KEY".to_owned(), postgres.audit_key()),
        ],
        ..Setup::default()
    }
}

fn open(folder: &TempDir, url: &str) -> Result<Db, StoreError> {
    let options = Options::new(folder.path()).database(Some(url.to_owned()));
    Db::open(options, &[conformance::TABLES])
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn it_passes_the_suite_of_the_store() {
    let (postgres, folder) = (Postgres::start(), TempDir::new().expect("a folder"));
    conformance::run(async || open(&folder, &postgres.url()).expect("a store")).await;
}

fn beat(url: &str) -> Beat {
    Beat {
        url: url.to_owned(),
        secret: [7; 32],
        agents: 0,
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_another_has_ended_commits_nothing() {
    let postgres = Postgres::start();
    let (first, second) = (TempDir::new(), TempDir::new());
    let (first, second) = (first.expect("a folder"), second.expect("a folder"));
    let one = open(&first, &postgres.url()).expect("a store");
    let two = open(&second, &postgres.url()).expect("a second one beside it");
    assert!(two.epoch() > one.epoch() && two.server() != one.server());
    one.beat(beat("one")).await.expect("it lives");
    let seen = two.beat(beat("two")).await.expect("both live");
    assert_eq!(
        seen.iter().map(|row| row.url.as_str()).collect::<Vec<_>>(),
        ["one", "two"]
    );
    // It has beaten since: it is not ended.
    one.beat(beat("one")).await.expect("it lives");
    assert_eq!(two.end_server(&seen[0]).await, Ok(false));
    let seen = two.beat(beat("two")).await.expect("both live");
    assert_eq!(two.end_server(&seen[0]).await, Ok(true));

    let refused = one.write(|_| Ok::<_, StoreError>(())).await;
    assert!(
        matches!(refused, Err(StoreError::Unavailable(_))),
        "{refused:?}"
    );
    one.ended().await;
    two.write(|_| Ok::<_, StoreError>(()))
        .await
        .expect("the other goes on");
    let seen = two.beat(beat("two")).await.expect("it lives");
    assert_eq!(seen.len(), 1);
    one.close().await;

    // The same folder is the same server; its last start, which nobody closed, is over with this one.
    let again = open(&first, &postgres.url()).expect("a store");
    assert!(again.server() == one.server() && again.epoch() > two.epoch());
    let nobody = open(&second, "postgres://nobody@/nowhere?host=/nowhere").map(|_| ());
    assert!(
        matches!(nobody, Err(StoreError::InUse { .. })),
        "{nobody:?}"
    );
    two.close().await;
    let nobody = open(&second, "postgres://nobody@/nowhere?host=/nowhere").map(|_| ());
    assert!(
        matches!(nobody, Err(StoreError::Unavailable(_))),
        "{nobody:?}"
    );
}

/// Two stores on one database, with their folders.
fn two(postgres: &Postgres) -> (Db, Db, [TempDir; 2]) {
    let folders = [(), ()].map(|()| TempDir::new().expect("a folder"));
    let one = open(&folders[0], &postgres.url()).expect("a store");
    let two = open(&folders[1], &postgres.url()).expect("a second one beside it");
    (one, two, folders)
}

fn blob(number: u8) -> BlobRef {
    BlobRef {
        hash: Hash::from_bytes([number; 32]),
        size: 1,
    }
}

/// Waits until so many writers wait for another one.
async fn writers_that_wait(postgres: &Postgres, count: usize) {
    eventually("writers that wait", async || {
        let waits = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock'";
        (postgres.ask(waits).trim() == count.to_string()).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_blob_that_is_named_again_while_another_server_sweeps_stays() {
    let postgres = Postgres::start();
    let (one, two, _folders) = two(&postgres);
    let workspace = Workspace::default();
    let of = workspace.clone();
    one.write(move |unit| {
        let mut scope = unit.scope(&of);
        scope.link_blob(&blob(1))?;
        scope.unlink_blob(&blob(1).hash)
    })
    .await
    .expect("a blob that nothing names");
    let (linked, has_linked) = std::sync::mpsc::channel();
    let (go_on, may_go_on) = std::sync::mpsc::channel();
    let of = workspace.clone();
    let namer = two.clone();
    let naming = tokio::spawn(async move {
        let name = namer.write(move |unit| {
            unit.scope(&of).link_blob(&blob(1))?;
            linked.send(()).expect("the test");
            may_go_on.recv().expect("the test");
            Ok::<_, StoreError>(())
        });
        name.await
    });
    tokio::task::spawn_blocking(move || has_linked.recv())
        .await
        .expect("a thread")
        .expect("it is named");
    let sweeper = one.clone();
    let sweeping = tokio::spawn(async move {
        let sweep = sweeper.write(move |unit| unit.scope(&workspace).sweep_blobs(10));
        sweep.await
    });
    writers_that_wait(&postgres, 1).await;
    go_on.send(()).expect("the other");
    naming.await.expect("a task").expect("it is named");
    assert_eq!(sweeping.await.expect("a task"), Ok(0));
    let rows = postgres.ask("SELECT refs FROM blobs");
    assert_eq!(rows.trim(), "1");
    one.close().await;
    two.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn servers_that_change_the_same_rows_wait_for_each_other() {
    let postgres = Postgres::start();
    let (one, two, _folders) = two(&postgres);
    // Each changes its first row, and then wants the one of the other.
    let both = Arc::new(Barrier::new(2));
    let tasks = [(one.clone(), 1, 2), (two.clone(), 2, 1)].map(|(db, first, second)| {
        let both = both.clone();
        tokio::spawn(async move {
            db.write(move |unit| {
                let workspace = Workspace::default();
                let mut scope = unit.scope(&workspace);
                scope.link_blob(&blob(first))?;
                // They meet here when both can be at it.
                both.meet();
                scope.link_blob(&blob(second))
            })
            .await
        })
    });
    for task in tasks {
        task.await.expect("a task").expect("a commit");
    }
    assert_eq!(postgres.ask("SELECT sum(refs) FROM blobs").trim(), "4");
    assert!(!postgres.log().contains("deadlock"), "{}", postgres.log());
    one.close().await;
    two.close().await;
}

/// Where several meet, if they can: who comes first waits for the others, and not for ever.
struct Barrier {
    there: std::sync::Mutex<usize>,
    came: std::sync::Condvar,
    all: usize,
}

impl Barrier {
    fn new(all: usize) -> Self {
        Self {
            there: std::sync::Mutex::default(),
            came: std::sync::Condvar::new(),
            all,
        }
    }

    fn meet(&self) {
        let mut there = self.there.lock().expect("nobody panics");
        *there += 1;
        self.came.notify_all();
        let missing = |there: &mut usize| *there < self.all;
        let wait = std::time::Duration::from_millis(300);
        drop(self.came.wait_timeout_while(there, wait, missing));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_blob_that_one_server_put_is_there_for_the_other() {
    let postgres = Postgres::start();
    let (first, second) = (TempDir::new(), TempDir::new());
    let (first, second) = (first.expect("a folder"), second.expect("a folder"));
    let one = open(&first, &postgres.url()).expect("a store");
    let two = open(&second, &postgres.url()).expect("a second one beside it");
    // Nothing, less than a part, exactly one and two parts, and more.
    for size in [0_usize, 10, 256 << 10, 512 << 10, (512 << 10) + 1] {
        let (put, got, workspace) = (one.clone(), two.clone(), Workspace::default());
        let check = move || {
            let content: Vec<u8> = (0..size).map(|at| (at / 7) as u8).collect();
            let mut writer = put.blobs().writer(&workspace)?;
            writer.write(&content)?;
            let blob = writer.finish()?.blob();
            for _ in 0..2 {
                let mut read = Vec::new();
                let mut file = got.blobs().open_blob(&workspace, &blob.hash)?;
                file.read_to_end(&mut read).expect("a file");
                assert!(read == content, "{size}");
            }
            Ok::<_, StoreError>(())
        };
        let checked = tokio::task::spawn_blocking(check).await;
        checked.expect("no panic").expect("a blob");
    }
    let missing = two.clone();
    let open = move || {
        let hash = skep_store::Hash::of(b"nobody put this");
        missing
            .blobs()
            .open_blob(&Workspace::default(), &hash)
            .map(|_| ())
    };
    let opened = tokio::task::spawn_blocking(open).await.expect("no panic");
    assert!(
        matches!(opened, Err(StoreError::Unavailable(_))),
        "{opened:?}"
    );
    // What was put a moment ago is about to get its row.
    assert_eq!(one.sweep_blob_parts(&Workspace::default()).await, Ok(0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn calls_outlive_the_server_and_a_crash_of_the_database() {
    let mut postgres = Postgres::start();
    let mut server = Server::start_with(on(&postgres)).await;
    server.deploy("a", json!({})).await;
    let answer = server.post("a", "/work", "one").await;
    assert_eq!((answer.status, answer.text().as_str()), (200, "one"));
    assert!(!server.data().join("skep.db").exists());
    server.kill();
    server.restart_as_it_was().await;
    assert_eq!(server.call(&answer.call()).await["state"], "succeeded");

    postgres.crash();
    // What comes meanwhile is refused; when the database is back it is taken again.
    let answer = eventually("a call", async || {
        let answer = server.post("a", "/work", "two").await;
        if answer.status != 200 {
            assert_eq!(answer.code(), "store-unavailable", "{}", answer.text());
            return None;
        }
        Some(answer)
    })
    .await;
    assert_eq!(answer.text(), "two");
    assert_eq!(server.call(&answer.call()).await["state"], "succeeded");
}
