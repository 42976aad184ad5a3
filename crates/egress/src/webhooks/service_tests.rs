//! Messages are made once of what happened, wait within bounds, and are sent by one of those who would.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use parking_lot::Mutex;
use serde_json::Map;
use skep_core::{Timestamp, Workspace, Workspaces};
use skep_store::{By, Db, Scope, StoreError};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use zeroize::Zeroizing;

use super::*;

const KEY: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
const KINDS: [&str; 2] = ["thing.done", "thing.lost"];

/// So many things happened.
struct Things(Mutex<u64>);

#[async_trait]
impl Feed for Things {
    fn name(&self) -> &'static str {
        "things"
    }

    fn kinds(&self) -> &'static [&'static str] {
        &KINDS
    }

    async fn end(&self, _: &Workspace) -> Result<u64, String> {
        Ok(*self.0.lock())
    }

    async fn read(&self, _: &Workspace, after: u64, most: u32) -> Result<(Vec<Told>, u64), String> {
        let last = (*self.0.lock()).min(after + u64::from(most));
        let told = |number| Told {
            number,
            kind: KINDS[(number % 2) as usize].to_owned(),
            at: Timestamp::from_micros(1_000_000),
            data: Map::from_iter([("number".to_owned(), number.into())]),
        };
        Ok(((after + 1..=last).map(told).collect(), last))
    }
}

struct Fixed;

#[async_trait]
impl Secrets for Fixed {
    async fn key(&self, _: &Workspace, _: &str) -> Result<Zeroizing<Vec<u8>>, String> {
        Ok(Zeroizing::new(KEY.as_bytes().to_vec()))
    }
}

#[derive(Default)]
struct Heard(Mutex<Vec<(&'static str, String)>>);

impl Notice for Heard {
    fn tell(
        &self,
        _: &mut Scope<'_>,
        kind: &'static str,
        (endpoint, _): (&str, &str),
        _: Timestamp,
    ) -> Result<(), StoreError> {
        self.0.lock().push((kind, endpoint.to_owned()));
        Ok(())
    }
}

struct House {
    db: Db,
    things: Arc<Things>,
    notices: Arc<Heard>,
    _folder: tempfile::TempDir,
}

impl House {
    fn open() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let options = skep_store::Options::new(folder.path());
        let db = Db::open(options, &[MIGRATIONS]).unwrap();
        Self {
            db,
            things: Arc::new(Things(Mutex::new(7))),
            notices: Arc::default(),
            _folder: folder,
        }
    }

    fn webhooks(&self) -> Webhooks {
        let options = Options {
            reach: Arc::new(|_| true),
            ca: None,
            secrets: Arc::new(Fixed),
            feeds: vec![self.things.clone()],
            notice: self.notices.clone(),
            own: By::nobody(),
            workspaces: Workspaces::default(),
            schedule: Schedule {
                waits: vec![Duration::from_secs(3600)],
                give_up: Duration::from_secs(3600),
            },
            time: Duration::from_secs(5),
            keep: Duration::from_secs(3600),
            agent: "test".to_owned(),
        };
        Webhooks::new(self.db.clone(), options)
    }

    fn happen(&self, count: u64) {
        *self.things.0.lock() += count;
    }
}

fn new(name: &str, url: &str, events: &str) -> New {
    New {
        name: name.to_owned(),
        url: url.to_owned(),
        events: vec![Selection::parse(events, &KINDS).unwrap()],
        on: true,
    }
}

/// A host that takes everything: where it is, and the ids and bodies that it was sent.
async fn host() -> (String, Arc<Mutex<Vec<(String, String)>>>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/", listener.local_addr().unwrap());
    let heard: Arc<Mutex<Vec<(String, String)>>> = Arc::default();
    let seen = heard.clone();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let seen = seen.clone();
            tokio::spawn(async move {
                let mut text = Vec::new();
                while !text.ends_with(b"}}") {
                    let Ok(byte) = stream.read_u8().await else {
                        return;
                    };
                    text.push(byte);
                }
                let text = String::from_utf8(text).unwrap();
                let (head, body) = text.split_once("\r\n\r\n").unwrap();
                let id = head.lines().find_map(|it| it.strip_prefix("webhook-id: "));
                let pair = (id.unwrap().to_owned(), body.to_owned());
                seen.lock().push(pair);
                let answer = b"HTTP/1.1 204 No Content\r\nconnection: close\r\n\r\n";
                let _ = stream.write_all(answer).await;
            });
        }
    });
    (url, heard)
}

async fn until(what: &str, mut is_so: impl AsyncFnMut() -> bool) {
    let waited = async {
        let mut tick = tokio::time::interval(Duration::from_millis(20));
        while !is_so().await {
            tick.tick().await;
        }
    };
    let waited = tokio::time::timeout(Duration::from_secs(30), waited).await;
    assert!(waited.is_ok(), "{what} did not come about");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_that_read_and_send_make_each_message_once() {
    let house = House::open();
    let (url, heard) = host().await;
    let (one, other) = (house.webhooks(), house.webhooks());
    let workspace = Workspace::default();
    let all = (new("all", &url, "*"), "a".to_owned());
    one.add(&By::nobody(), &workspace, all).await.unwrap();
    let stop = CancellationToken::new();
    for webhooks in [one.clone(), other] {
        let stop = stop.clone();
        tokio::spawn(async move { webhooks.keep(stop, || true).await });
    }
    for _ in 0..10 {
        house.happen(20);
        tokio::task::yield_now().await;
    }
    until("all of them", async || heard.lock().len() >= 200).await;
    let delivered = async || {
        let found = one.find(&workspace, "all").await.unwrap();
        found.health.waiting == 0
    };
    until("nothing that waits", delivered).await;
    stop.cancel();
    let heard = heard.lock().clone();
    let mut numbers = BTreeMap::new();
    for (id, body) in &heard {
        let body: serde_json::Value = serde_json::from_str(body).unwrap();
        let number = body["data"]["number"].as_u64().unwrap();
        assert_eq!(
            numbers.insert(number, id.clone()),
            None,
            "{number} came twice"
        );
    }
    let told: Vec<u64> = numbers.keys().copied().collect();
    // What happened before it was there is not for it.
    assert_eq!(told, (8..=207).collect::<Vec<u64>>());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_waits_is_bounded_and_what_is_not_made_is_told() {
    let house = House::open();
    let webhooks = house.webhooks();
    let workspace = Workspace::default();
    let by = By::nobody();
    // Nobody is there: a port that was given back.
    let gone = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/", gone.local_addr().unwrap());
    drop(gone);
    let half = (new("half", &url, "thing.lost"), "a".to_owned());
    webhooks.add(&by, &workspace, half).await.unwrap();
    house.happen(20_100);
    let stop = CancellationToken::new();
    let (keeping, own) = (webhooks.clone(), stop.clone());
    tokio::spawn(async move { keeping.keep(own, || true).await });
    let missed = async || {
        let found = webhooks.find(&workspace, "half").await.unwrap();
        found.health.missed == 50
    };
    until("50 that are missed", missed).await;
    let found = webhooks.find(&workspace, "half").await.unwrap();
    assert_eq!(found.health.waiting + found.health.dead, 10_000);
    assert!(found.off.is_none());
    stop.cancel();
    let notices = house.notices.0.lock().clone();
    assert_eq!(notices, [("webhook.missed", "half".to_owned())]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_listens_to_more_hears_of_that_from_then_on() {
    let house = House::open();
    let (url, heard) = host().await;
    let webhooks = house.webhooks();
    let (workspace, by) = (Workspace::default(), By::nobody());
    let lost = new("one", &url, "thing.lost");
    let made = webhooks.add(&by, &workspace, (lost, "k".to_owned())).await;
    assert_eq!(made.unwrap().begins["things"], 7);
    // Nobody has read these when it begins to listen to the others, too.
    house.happen(4);
    let all = webhooks.change(&by, &workspace, new("one", &url, "*"));
    let all = all.await.unwrap().unwrap();
    let begins = [("things", 7), ("things thing.done", 11)];
    let begins = begins.map(|(name, at)| (name.to_owned(), at));
    assert_eq!(all.begins, BTreeMap::from(begins));
    house.happen(4);
    let stop = CancellationToken::new();
    let (keeping, own) = (webhooks.clone(), stop.clone());
    tokio::spawn(async move { keeping.keep(own, || true).await });
    let delivered = async || {
        let found = webhooks.find(&workspace, "one").await.unwrap();
        found.health.waiting == 0 && heard.lock().len() >= 6
    };
    until("what it listens to", delivered).await;
    stop.cancel();
    let bodies = heard.lock().clone();
    let number = |(_, body): &(String, String)| {
        let body: serde_json::Value = serde_json::from_str(body).unwrap();
        body["data"]["number"].as_u64().unwrap()
    };
    let mut numbers: Vec<u64> = bodies.iter().map(number).collect();
    numbers.sort_unstable();
    // Odd ones are lost; even ones are done, which it heard of from 12 on.
    assert_eq!(numbers, [9, 11, 12, 13, 14, 15]);
    // One that listens to less, and to more again, begins anew with that.
    let less = webhooks.change(&by, &workspace, new("one", &url, "thing.lost"));
    let begins = less.await.unwrap().unwrap().begins;
    assert_eq!(begins, BTreeMap::from([("things".to_owned(), 7)]));
}

#[tokio::test]
async fn what_waited_for_too_long_is_counted() {
    let house = House::open();
    let webhooks = house.webhooks();
    let (workspace, by) = (Workspace::default(), By::nobody());
    let one = new("one", "https://example.com/", "*");
    webhooks
        .add(&by, &workspace, (one, "k".to_owned()))
        .await
        .unwrap();
    webhooks.test(&by, &workspace, "one").await.unwrap();
    let of = workspace.clone();
    let trimmed = house.db.write(move |unit| {
        let after = unit.now().plus(Duration::from_secs(1));
        rows::trim(&mut unit.scope(&of), "one", (after, 10))
    });
    let trimmed: Result<u64, StoreError> = trimmed.await;
    assert_eq!(trimmed.unwrap(), 1);
    let left = webhooks.messages(&workspace, "one", (Query::default(), 10));
    assert_eq!(left.await.unwrap(), []);
}

#[tokio::test]
async fn an_endpoint_is_made_once_changed_and_removed() {
    let house = House::open();
    let webhooks = house.webhooks();
    let workspace = Workspace::default();
    let by = By::nobody();
    let one = new("one", "https://example.com/", "*");
    let missing = webhooks.change(&by, &workspace, one.clone()).await.unwrap();
    assert_eq!(missing, None);
    let add =
        async |new: New, key: &str| webhooks.add(&by, &workspace, (new, key.to_owned())).await;
    let made = add(one.clone(), "first").await.unwrap();
    assert_eq!(made.begins, BTreeMap::from([("things".to_owned(), 7)]));
    let twice = add(one.clone(), "again").await.unwrap_err();
    assert!(matches!(twice, WebhookError::Exists(_)), "{twice}");
    // What it listens to it goes on with; one that is turned on begins anew.
    house.happen(5);
    let change = async |on: bool| {
        let new = New { on, ..one.clone() };
        let changed = webhooks.change(&by, &workspace, new).await;
        changed.unwrap().unwrap()
    };
    assert_eq!(change(true).await.begins["things"], 7);
    assert_eq!(change(false).await.off, Some(Off::Ordered));
    let off = webhooks.test(&by, &workspace, "one").await.unwrap_err();
    assert!(matches!(off, WebhookError::Off(_)), "{off}");
    assert_eq!(change(true).await.begins["things"], 12);
    let rotate = async |key: &str, overlap| {
        let asked = ("one", key.to_owned(), Duration::from_secs(overlap));
        webhooks.rotate(&by, &workspace, asked).await.unwrap()
    };
    let (rotated, unused) = rotate("second", 0).await;
    assert_eq!(rotated.before.map(|it| it.0), Some("first".to_owned()));
    assert!(unused.is_empty());
    assert_eq!(webhooks.expire(&workspace).await.unwrap(), ["first"]);
    assert!(webhooks.expire(&workspace).await.unwrap().is_empty());
    rotate("third", 60).await;
    assert!(webhooks.expire(&workspace).await.unwrap().is_empty());
    // Two keys sign: a third with a time of its own would end the first of them early.
    let asked = ("one", "early".to_owned(), Duration::from_secs(60));
    let early = webhooks.rotate(&by, &workspace, asked).await.unwrap_err();
    assert!(matches!(early, WebhookError::Rotating(..)), "{early}");
    assert_eq!(rotate("fourth", 0).await.1, ["second"]);
    let unused = webhooks.remove(&by, &workspace, "one").await.unwrap();
    assert_eq!(unused, ["fourth", "third"]);
    for number in 0..50 {
        add(
            new(&format!("e-{number}"), "https://example.com/", "*"),
            "k",
        )
        .await
        .unwrap();
    }
    let many = add(one, "k").await.unwrap_err();
    assert!(matches!(many, WebhookError::TooMany(50)), "{many}");
}
