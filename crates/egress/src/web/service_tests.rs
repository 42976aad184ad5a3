//! The CA of a workspace: made once, and kept as long as it is the same.

use std::path::Path;

use skep_core::Workspaces;

use super::*;
use crate::Safe;
use crate::llm::{self, Keys, Prices};

/// A vault that gives the CA of `slow` when it is told to, and counts how many were made.
#[derive(Default)]
struct Shelf {
    kept: Mutex<HashMap<Workspace, Vec<u8>>>,
    made: std::sync::atomic::AtomicUsize,
    asked: tokio::sync::Notify,
    may: tokio::sync::Notify,
}

#[async_trait]
impl Values for Shelf {
    async fn secret(
        &self,
        _: &Workspace,
        _: &str,
        _: Option<&str>,
    ) -> Result<Option<Zeroizing<Vec<u8>>>, String> {
        Ok(None)
    }

    async fn lease(
        &self,
        _: &Lessee,
        _: &str,
        _: &str,
    ) -> Result<Option<Zeroizing<Vec<u8>>>, String> {
        Ok(None)
    }

    async fn authority(&self, workspace: &Workspace) -> Result<Option<Zeroizing<Vec<u8>>>, String> {
        if workspace.as_str() == "slow" {
            self.asked.notify_one();
            self.may.notified().await;
        }
        Ok(self.kept.lock().get(workspace).cloned().map(Zeroizing::new))
    }

    fn is_open(&self) -> bool {
        true
    }

    async fn keep_authority(&self, workspace: &Workspace, made: &[u8]) -> Result<(), String> {
        self.made.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        self.kept.lock().insert(workspace.clone(), made.to_vec());
        Ok(())
    }
}

#[async_trait]
impl Keys for Shelf {
    async fn key(&self, _: &Workspace, _: &str) -> Result<Zeroizing<Vec<u8>>, String> {
        Err("there are none".to_owned())
    }
}

#[async_trait]
impl llm::Happened for Shelf {
    async fn behind(&self, _: &Workspace, _: u64) -> Result<Vec<llm::Event>, String> {
        Ok(Vec::new())
    }
}

#[async_trait]
impl Safe for Shelf {
    async fn key(&self, _: &Workspace) -> Result<Zeroizing<Vec<u8>>, String> {
        Err("there are none".to_owned())
    }
}

async fn models(db: &Db, shelf: &Arc<Shelf>, folder: &Path) -> Models {
    let options = llm::Options {
        folder: folder.join("ledger"),
        reach: Arc::new(|_| true),
        prices: Prices::shipped().unwrap(),
        strict: false,
        retention: Duration::from_secs(3600),
        keys: shelf.clone(),
        happened: shelf.clone(),
        safe: shelf.clone(),
        workspaces: Workspaces::default(),
    };
    Models::open(db.clone(), options).await.unwrap()
}

#[tokio::test]
async fn who_waits_for_one_ca_holds_up_no_other() {
    let folder = tempfile::tempdir().unwrap();
    let db = crate::ledger::tests::open_db(folder.path());
    let shelf = Arc::new(Shelf::default());
    let options = Options {
        models: models(&db, &shelf, folder.path()).await,
        reach: Arc::new(|_| true),
        ca: None,
        values: shelf.clone(),
        most_body: 1,
        pause: PATIENCE,
    };
    let web = Web::new(db, options);
    let (slow, quick): (Workspace, Workspace) = ("slow".parse().unwrap(), "quick".parse().unwrap());
    let waiting = tokio::spawn({
        let web = web.clone();
        async move { web.authority(&slow).await }
    });
    shelf.asked.notified().await;
    // Many who ask at once make one.
    let many = (0..8).map(|_| {
        let (web, quick) = (web.clone(), quick.clone());
        tokio::spawn(async move { web.authority(&quick).await.unwrap() })
    });
    let many: Vec<_> = many.collect();
    let mut found = Vec::new();
    for one in many {
        found.push(one.await.unwrap());
    }
    assert!(found.iter().all(|it| Arc::ptr_eq(it, &found[0])));
    assert_eq!(shelf.made.load(std::sync::atomic::Ordering::Relaxed), 1);
    assert!(!waiting.is_finished());
    shelf.may.notify_one();
    shelf.asked.notified().await;
    shelf.may.notify_one();
    waiting.await.unwrap().unwrap();
}

#[test]
fn a_ca_stays_as_long_as_what_is_kept_is_the_same() {
    let kept = || Authority::make("w", Timestamp::from_micros(0)).unwrap().0;
    let (one, two) = (kept(), kept());
    let of = OfWorkspace::default();
    assert!(of.fresh().is_none());
    let first = of.read(&one).unwrap();
    assert!(Arc::ptr_eq(&first, &of.fresh().unwrap()));
    assert!(Arc::ptr_eq(&first, &of.read(&one).unwrap()));
    let other = of.read(&two).unwrap();
    assert!(!Arc::ptr_eq(&first, &other));
    assert!(of.read(b"none").is_err());
    assert!(of.fresh().is_none());
}
