//! What is kept, of which way, and until when.

use bytes::Bytes;
use skep_core::Timestamp;

use super::*;

/// Has a key, until the vault is sealed.
struct Shelf(std::sync::atomic::AtomicBool);

#[async_trait]
impl Safe for Shelf {
    async fn key(&self, _: &Workspace) -> Result<Zeroizing<Vec<u8>>, String> {
        match self.0.load(Ordering::Relaxed) {
            true => Ok(Zeroizing::new(vec![7; 32])),
            false => Err("the vault is sealed".to_owned()),
        }
    }
}

fn leaf(id: ExchangeId, way: Way, until: Timestamp) -> Leaf {
    let recorded = Recorded {
        id: *id.as_bytes(),
        way,
        asked: "GET".to_owned(),
        at: Timestamp::from_micros(1),
        until,
        cached_until: None,
        kind: "agent".to_owned(),
        who: "a".to_owned(),
        model: "host:443/rule".to_owned(),
        outcome: "200".to_owned(),
        call: None,
        tags: Vec::new(),
        looked_at: true,
        bytes: 3,
    };
    let content = Content {
        target: "GET https://host/".to_owned(),
        asked: Bytes::from_static(b"abc"),
        ..Content::default()
    };
    Leaf {
        recorded,
        marks: Marks::default(),
        content,
        near: None,
    }
}

fn put(all: &Recordings, leaf: Leaf) {
    let mut held = all.hold();
    assert!(held.more(3));
    all.put(Draft {
        workspace: Workspace::default(),
        keys: None,
        leaves: Box::new(std::iter::once(leaf)),
        held,
    });
}

/// Writes what waits.
async fn written(all: &Recordings) {
    let mut coming = all.0.coming.lock().take().unwrap();
    while let Ok(draft) = coming.try_recv() {
        all.write(vec![draft], &CancellationToken::new()).await;
    }
    *all.0.coming.lock() = Some(coming);
}

fn open(folder: &std::path::Path) -> (Recordings, Arc<Shelf>) {
    let db = crate::ledger::tests::open_db(folder);
    let shelf = Arc::new(Shelf(true.into()));
    let workspaces = Workspaces::default();
    (Recordings::new(db, shelf.clone(), workspaces), shelf)
}

fn soon(all: &Recordings) -> Timestamp {
    all.db().clock().now().plus(Duration::from_secs(3600))
}

async fn ids(all: &Recordings, way: Way) -> Vec<[u8; 16]> {
    let of = Workspace::default();
    let page = all.page((way, &of), (None, 10)).await.unwrap();
    page.into_iter().map(|it| it.id).collect()
}

/// Rows, whether or not they have come to their end.
async fn bytes(all: &Recordings) -> u64 {
    let of = Workspace::default();
    let read = all.db().read(move |it| rows::bytes(&mut it.scope(&of)));
    let read: Result<u64, StoreError> = read.await;
    read.unwrap()
}

#[tokio::test]
async fn each_way_has_its_own_until_they_end() {
    let folder = tempfile::tempdir().unwrap();
    let (all, _) = open(folder.path());
    let (model, web, ended) = (ExchangeId::new(), ExchangeId::new(), ExchangeId::new());
    let over = all.db().clock().now();
    put(&all, leaf(model, Way::Model, soon(&all)));
    put(&all, leaf(web, Way::Web, soon(&all)));
    put(&all, leaf(ended, Way::Web, over));
    assert_eq!(all.0.held.load(Ordering::Relaxed), 9);
    written(&all).await;
    assert_eq!(all.0.held.load(Ordering::Relaxed), 0);
    assert_eq!(ids(&all, Way::Model).await, [*model.as_bytes()]);
    assert_eq!(ids(&all, Way::Web).await, [*web.as_bytes()]);
    let of = Workspace::default();
    let (recorded, content) = all.one((Way::Web, &of), *web.as_bytes()).await.unwrap();
    assert_eq!(
        (recorded.asked.as_str(), &content.asked[..]),
        ("GET", &b"abc"[..])
    );
    for (way, id) in [(Way::Model, web), (Way::Web, model), (Way::Web, ended)] {
        let found = all.one((way, &of), *id.as_bytes()).await;
        assert!(matches!(found, Err(EgressError::NotFound(_))), "{way:?}");
    }
    assert_eq!(bytes(&all).await, 9);
    all.sweep().await;
    assert_eq!(bytes(&all).await, 6);
}

#[tokio::test]
async fn with_a_sealed_vault_nothing_is_kept_and_nothing_is_opened() {
    let folder = tempfile::tempdir().unwrap();
    let (all, shelf) = open(folder.path());
    let (before, after) = (ExchangeId::new(), ExchangeId::new());
    put(&all, leaf(before, Way::Web, soon(&all)));
    written(&all).await;
    shelf.0.store(false, Ordering::Relaxed);
    let of = Workspace::default();
    let found = all.one((Way::Web, &of), *before.as_bytes()).await;
    assert!(matches!(found, Err(EgressError::Closed(_))));
    put(&all, leaf(after, Way::Web, soon(&all)));
    written(&all).await;
    assert_eq!(ids(&all, Way::Web).await, [*before.as_bytes()]);
    assert_eq!(all.0.held.load(Ordering::Relaxed), 0);
}

#[test]
fn what_is_kept_of_one_way_or_place_is_no_other() {
    let keys = Keys::of(&[7; 32]).unwrap();
    let (of, other): (Workspace, Workspace) = (Workspace::default(), "other".parse().unwrap());
    let plain = Content::default().to_bytes();
    let context = context(Way::Web, &of, &[1; 16]);
    let sealed = keys.seal.seal(&context, &plain).unwrap();
    assert!(keys.open((Way::Web, &of, &[1; 16]), &sealed).is_some());
    for at in [
        (Way::Model, &of, &[1; 16]),
        (Way::Web, &other, &[1; 16]),
        (Way::Web, &of, &[2; 16]),
    ] {
        assert!(keys.open(at, &sealed).is_none());
    }
}

#[tokio::test]
async fn what_is_held_is_bounded_and_given_back() {
    let folder = tempfile::tempdir().unwrap();
    let (all, _) = open(folder.path());
    let (mut one, mut two) = (all.hold(), all.hold());
    assert!(one.more(MOST_HELD) && !two.more(1));
    drop((one, two));
    assert!(all.hold().more(MOST_HELD));
}
