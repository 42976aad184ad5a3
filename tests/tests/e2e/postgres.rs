//! The store on PostgreSQL: the very suite that SQLite passes, and what a server does with a
//! database that crashes, is taken by another server, or lets nobody in.

use serde_json::json;
use skep_store::{Db, Options, StoreError, conformance};
use skep_tests::postgres::Postgres;
use skep_tests::{Server, Setup, eventually};
use tempfile::TempDir;

/// A server whose store this database is.
pub(crate) fn on(postgres: &Postgres) -> Setup {
    Setup {
        env: vec![("SKEP_STORE_URL".to_owned(), postgres.url())],
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

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_server_has_the_database_at_a_time() {
    let postgres = Postgres::start();
    let (first, second) = (TempDir::new(), TempDir::new());
    let (first, second) = (first.expect("a folder"), second.expect("a folder"));
    let db = open(&first, &postgres.url()).expect("a store");
    let refused = open(&second, &postgres.url()).map(|_| ());
    assert!(
        matches!(refused, Err(StoreError::InUse { .. })),
        "{refused:?}"
    );
    db.close().await;
    open(&second, &postgres.url()).expect("the first gave it up");
    let nobody = open(&first, "postgres://nobody@/nowhere?host=/nowhere").map(|_| ());
    assert!(
        matches!(nobody, Err(StoreError::Unavailable(_))),
        "{nobody:?}"
    );
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
