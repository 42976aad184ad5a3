//! The ledger over the ends of a server.

use skep_core::Timestamp;
use skep_store::Options;

use super::segment::tests::{opened, settled};
use super::*;
use crate::llm::{Amount, Subject, Window};
use crate::money::Money;
use crate::rows::{self, DayFilter, MIGRATIONS};

pub(crate) fn open_db(folder: &Path) -> Db {
    struct Nowhere;
    impl skep_store::Recorder for Nowhere {
        fn record(
            &self,
            _: &mut skep_store::ServerScope<'_>,
            _: Vec<Vec<u8>>,
            _: Timestamp,
        ) -> Result<(), StoreError> {
            Ok(())
        }
    }
    let options = Options::new(folder).recorder(Arc::new(Nowhere));
    Db::open(options, &[MIGRATIONS]).unwrap()
}

async fn whole(db: &Db) -> HashMap<[u8; 16], (Money, String)> {
    let read = db.read(|reader| rows::whole(&mut reader.scope(&Workspace::default())));
    let found: Result<_, StoreError> = read.await;
    found.unwrap()
}

fn files(folder: &Path) -> usize {
    std::fs::read_dir(folder).unwrap().count()
}

#[tokio::test]
async fn what_ended_is_in_the_store_once_and_adds_up() {
    let folder = tempfile::tempdir().unwrap();
    let db = open_db(folder.path());
    let at = folder.path().join("ledger");
    let ledger = Ledger::open(db.clone(), &at).await.unwrap();
    for id in 1..=3 {
        ledger.begin(Arc::new(opened(id))).unwrap();
    }
    assert_eq!(ledger.open_count(), 3);
    ledger.end(settled(1));
    ledger.end(settled(2));
    ledger.flush().await;
    assert_eq!(whole(&db).await.len(), 2);
    let bad = Settled {
        outcome: "503".to_owned(),
        ..settled(3)
    };
    ledger.end(bad);
    ledger.flush().await;
    // The same again, as a server does that was killed between the store and the file.
    write(&db, Arc::new(vec![settled(1), settled(2)]))
        .await
        .unwrap();
    let filter = DayFilter {
        way: Way::Tool,
        from: 0,
        to: 1,
    };
    let read = db.read(move |reader| rows::days(&mut reader.scope(&Workspace::default()), &filter));
    let (days, more) = read.await.unwrap();
    assert!(days.len() == 1 && !more, "{days:?}");
    let sum = days[0].usage;
    assert_eq!(
        (sum.requests, sum.failed, sum.input, sum.output),
        (3, 1, 30, 15)
    );
    assert_eq!(sum.cost, Money::from_nanos(21));
    assert_eq!(ledger.open_count(), 0);
}

#[tokio::test]
async fn what_ended_long_ago_leaves_the_store_and_its_sum_stays() {
    let folder = tempfile::tempdir().unwrap();
    let db = open_db(folder.path());
    let at = folder.path().join("ledger");
    let ledger = Ledger::open(db.clone(), &at).await.unwrap();
    for id in 1..=3 {
        let at = Timestamp::from_micros(i64::from(id) * 1_000_000);
        let one = Arc::new(Opened { at, ..opened(id) });
        ledger.begin(one.clone()).unwrap();
        ledger.end(Settled {
            opened: one,
            ..settled(id)
        });
    }
    ledger.flush().await;
    let workspace = Workspace::default();
    let before = Timestamp::from_micros(3_000_000);
    ended::all_of(&db, &workspace, before).await.unwrap();
    let left = whole(&db).await;
    assert_eq!(left.keys().collect::<Vec<_>>(), [&[3; 16]]);
    let filter = DayFilter {
        way: Way::Tool,
        from: 0,
        to: 1,
    };
    let read = db.read(move |reader| rows::days(&mut reader.scope(&Workspace::default()), &filter));
    let (days, _) = read.await.unwrap();
    assert_eq!(days[0].usage.requests, 3);
}

#[tokio::test]
async fn a_start_counts_for_budgets_what_counted_before_it() {
    let folder = tempfile::tempdir().unwrap();
    let db = open_db(folder.path());
    let of = |id: u8, way, model: &str| Settled {
        opened: Arc::new(Opened {
            way,
            model: model.to_owned(),
            ..opened(id)
        }),
        ..settled(id)
    };
    let all = vec![
        of(1, Way::Model, "gpt-4o"),
        of(2, Way::Model, "gpt-4o-2024-08-06"),
        of(3, Way::Model, "gpt-4o-mini"),
        of(4, Way::Tool, "gpt-4o"),
        of(5, Way::Web, "github"),
        of(6, Way::Web, "github"),
    ];
    write(&db, Arc::new(all)).await.unwrap();
    for (subject, models, tools, web) in [
        (Subject::Model("openai/gpt-4o".to_owned()), 2, 0, 0),
        (Subject::Model("openai/gpt-4o-mini".to_owned()), 1, 0, 0),
        (Subject::Model("other/gpt-4o".to_owned()), 0, 0, 0),
        (Subject::Server("openai".to_owned()), 0, 1, 0),
        (Subject::Server("other".to_owned()), 0, 0, 0),
        (Subject::Tool("openai/gpt-4o".to_owned()), 0, 1, 0),
        (Subject::Tool("openai/gpt".to_owned()), 0, 0, 0),
        (Subject::Rule("github".to_owned()), 0, 0, 2),
        (Subject::Rule("gpt-4o".to_owned()), 0, 0, 0),
        (Subject::Agent("ada".to_owned()), 3, 1, 2),
        (Subject::Agent("bob".to_owned()), 0, 0, 0),
        (Subject::Key("ada".to_owned()), 0, 0, 0),
        (Subject::Workspace, 3, 1, 2),
    ] {
        for window in Window::ALL {
            let of = subject.clone();
            let spent = db.read(move |reader| {
                let now = Timestamp::from_micros(2_000_000);
                rows::spent(&mut reader.scope(&Workspace::default()), &of, window, now)
            });
            let spent: Amount = spent.await.unwrap();
            let expected = Amount {
                money: Money::from_nanos(7 * (models + tools + web)),
                tokens: 15 * u64::try_from(models).unwrap(),
                calls: u64::try_from(tools).unwrap(),
                requests: u64::try_from(web).unwrap(),
            };
            assert_eq!(spent, expected, "{subject:?} {window:?}");
        }
    }
}

#[tokio::test]
async fn a_server_that_is_killed_loses_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let db = open_db(folder.path());
    let at = folder.path().join("ledger");
    let ledger = Ledger::open(db.clone(), &at).await.unwrap();
    for id in 1..=3 {
        ledger.begin(Arc::new(opened(id))).unwrap();
    }
    ledger.end(settled(1));
    // It is gone without a word: nobody flushed.
    drop(ledger);
    assert!(whole(&db).await.is_empty());
    let ledger = Ledger::open(db.clone(), &at).await.unwrap();
    let found = whole(&db).await;
    assert_eq!(found[&[1; 16]], (Money::from_nanos(7), "200".to_owned()));
    // What was open costs what was set aside.
    for id in [2, 3] {
        assert_eq!(found[&[id; 16]], (Money::dollars(1), "lost".to_owned()));
    }
    assert_eq!(files(&at), 1);
    drop(ledger);
    let _ = Ledger::open(db.clone(), &at).await.unwrap();
    assert_eq!(whole(&db).await, found);
}

#[tokio::test]
async fn a_full_file_is_followed_by_another_that_has_what_is_open() {
    let folder = tempfile::tempdir().unwrap();
    let db = open_db(folder.path());
    let at = folder.path().join("ledger");
    let ledger = Ledger::open(db.clone(), &at).await.unwrap();
    let long = |id: u8| Opened {
        entry: vec![0; 60 << 10],
        ..opened(id)
    };
    ledger.begin(long(255)).unwrap();
    for id in 0..60 {
        ledger.begin(long(id)).unwrap();
        ledger.end(settled(id));
    }
    ledger.flush().await;
    assert_eq!(files(&at), 1);
    assert!(ledger.0.state.lock().segment.size() < FULL);
    drop(ledger);
    let _ = Ledger::open(db.clone(), &at).await.unwrap();
    let found = whole(&db).await;
    assert_eq!(found.len(), 61);
    assert_eq!(found[&[255; 16]].1, "lost");
}

#[tokio::test]
async fn who_waits_for_the_disk_waits_for_what_ended_before() {
    let folder = tempfile::tempdir().unwrap();
    let db = open_db(folder.path());
    let ledger = Ledger::open(db.clone(), &folder.path().join("ledger"))
        .await
        .unwrap();
    let stop = CancellationToken::new();
    let keeping = tokio::spawn({
        let (ledger, stop) = (ledger.clone(), stop.clone());
        async move { ledger.keep(stop).await }
    });
    for id in 0..50 {
        ledger.begin(Arc::new(opened(id))).unwrap();
        ledger.end(settled(id));
        ledger.on_disk().await;
        assert!(whole(&db).await.contains_key(&[id; 16]));
    }
    ledger.begin(opened(99)).unwrap();
    ledger.end(settled(99));
    stop.cancel();
    keeping.await.unwrap();
    assert!(whole(&db).await.contains_key(&[99; 16]));
}

#[tokio::test]
async fn an_end_that_the_store_does_not_take_holds_up_no_other() {
    let folder = tempfile::tempdir().unwrap();
    let db = open_db(folder.path());
    let at = folder.path().join("ledger");
    let ledger = Ledger::open(db.clone(), &at).await.unwrap();
    for id in 1..=3 {
        ledger.begin(Arc::new(opened(id))).unwrap();
        let long = if id == 2 { 100 << 10 } else { 0 };
        let entry = vec![0; long];
        ledger.end(Settled {
            entry,
            ..settled(id)
        });
    }
    ledger.flush().await;
    let found = whole(&db).await;
    assert!(
        found.len() == 2 && !found.contains_key(&[2; 16]),
        "{found:?}"
    );
    drop(ledger);
    Ledger::open(db.clone(), &at).await.unwrap();
}

#[tokio::test]
async fn nothing_begins_that_cannot_be_written_down() {
    let folder = tempfile::tempdir().unwrap();
    let db = open_db(folder.path());
    let ledger = Ledger::open(db.clone(), &folder.path().join("ledger"))
        .await
        .unwrap();
    let long = Opened {
        entry: vec![0; 1 << 20],
        ..opened(1)
    };
    assert!(matches!(ledger.begin(long), Err(EgressError::Ledger(_))));
    for id in 0..MOST_WAITING {
        let mut one = settled(0);
        Arc::make_mut(&mut one.opened).id[..8].copy_from_slice(&(id as u64).to_le_bytes());
        ledger.0.state.lock().waiting.push(one);
    }
    assert!(matches!(ledger.begin(opened(2)), Err(EgressError::Busy)));
    ledger.flush().await;
    ledger.begin(opened(2)).unwrap();
}
