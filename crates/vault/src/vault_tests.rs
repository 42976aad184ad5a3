//! The vault over a real store: secrets, seals, leases, shares, rotations that are cut off, and rows that
//! somebody changed.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use rusqlite::types::Value;
use skep_core::{SecretId, Workspace};
use skep_crypto::Key;
use skep_crypto::passphrase::Passphrase;
use skep_store::{By, Db, Options};
use tempfile::TempDir;

use crate::keeper::{Keeper, KeeperError};
use crate::renewal::{self, Said};
use crate::rotation::{Level, Phase};
use crate::seal::{Opening, SealKey, SealKind};
use crate::turn::Work;
use crate::{
    About, Bulk, Decision, MIGRATIONS, May, Mount, NewLease, NewMount, NewSecret, Query,
    SecretValue, State, Vault, VaultError, Which,
};

const HOUR: Duration = Duration::from_secs(3600);

struct House {
    folder: TempDir,
    key: SealKey,
    vault: Vault,
    workspace: Workspace,
    by: By,
}

fn db(folder: &TempDir) -> Db {
    Db::open(Options::new(folder.path()), &[MIGRATIONS]).unwrap()
}

fn value(text: &str) -> SecretValue {
    SecretValue::new(text).unwrap()
}

fn named(name: &str) -> Which {
    Which::new(name).unwrap()
}

fn new(name: &str, text: &str) -> NewSecret {
    NewSecret {
        about: About::named(name.parse().unwrap()),
        value: value(text),
        ttl: None,
    }
}

impl House {
    async fn new() -> Self {
        let folder = TempDir::new().unwrap();
        let vault = Vault::new(db(&folder));
        let (key, by) = (SealKey::random().unwrap(), By::nobody());
        let opening = Opening::Key(key.clone());
        vault.set_up(&by, opening, "first").await.unwrap();
        Self {
            folder,
            key,
            vault,
            workspace: Workspace::default(),
            by,
        }
    }

    /// Closes the store and opens it again, as after the end of a server.
    async fn again(&mut self) {
        self.vault.db.close().await;
        self.vault = Vault::new(db(&self.folder));
        let opening = Opening::Key(self.key.clone());
        self.vault.unseal(opening).await.unwrap();
    }

    async fn create(&self, name: &str, text: &str) -> SecretId {
        let made = self
            .vault
            .create(&self.by, &self.workspace, "me", new(name, text));
        made.await.unwrap().id
    }

    async fn put(&self, name: &str, text: &str) -> Result<u32, VaultError> {
        let which = named(name);
        let put = self.vault.put(
            &self.by,
            &self.workspace,
            "me",
            &which,
            (value(text), None, None),
        );
        put.await.map(|secret| secret.latest)
    }

    async fn read(&self, id: SecretId, version: Option<u32>) -> Result<String, VaultError> {
        let read = self.vault.read(&self.workspace, id, version).await?;
        Ok(String::from_utf8(read.1.bytes().to_vec()).unwrap())
    }

    /// Looks at, or changes, what lies in the file.
    fn raw<T>(&self, look: impl FnOnce(&rusqlite::Connection) -> T) -> T {
        let file = self.folder.path().join("skep.db");
        let connection = rusqlite::Connection::open(file).unwrap();
        connection.busy_timeout(Duration::from_secs(10)).unwrap();
        look(&connection)
    }
}

#[tokio::test]
async fn what_is_kept_counts_until_something_changes() {
    let house = House::new().await;
    let (vault, of) = (&house.vault, &house.workspace);
    let id = house.create("provider/key", "canary-one").await;
    let moment = vault.moment();
    let (_, read) = vault.read(of, id, None).await.unwrap();
    let kept = vault.keep(moment, &read).unwrap();
    let holds = |text: &str| {
        kept.sealed
            .windows(text.len())
            .any(|it| it == text.as_bytes())
    };
    assert!(!holds("canary") && !format!("{kept:?}").contains("canary"));
    assert_eq!(vault.kept(&kept).unwrap(), value("canary-one"));
    // Another secret's change ends it, too: which one it was is not asked.
    house.create("other", "value").await;
    assert!(vault.kept(&kept).is_none());
    // What was changed while it was read does not count as read after it.
    let moment = vault.moment();
    let (_, read) = vault.read(of, id, None).await.unwrap();
    house.create("third", "value").await;
    assert!(vault.kept(&vault.keep(moment, &read).unwrap()).is_none());
    let kept = vault.keep(vault.moment(), &read).unwrap();
    assert!(vault.kept(&kept).is_some());
    vault.seal(&house.by).await.unwrap();
    assert!(vault.kept(&kept).is_none());
    vault.unseal(Opening::Key(house.key.clone())).await.unwrap();
    assert!(vault.kept(&kept).is_none(), "its key is gone");
}

#[tokio::test]
async fn a_secret_has_versions_that_follow_each_other() {
    let house = House::new().await;
    let id = house.create("billing/stripe", "one").await;
    let twice = house.vault.create(
        &house.by,
        &house.workspace,
        "me",
        new("billing/stripe", "x"),
    );
    assert!(matches!(twice.await, Err(VaultError::Exists(_))));
    assert_eq!(house.put("billing/stripe", "two").await, Ok(2));
    assert_eq!(house.read(id, None).await.unwrap(), "two");
    assert_eq!(house.read(id, Some(1)).await.unwrap(), "one");
    assert!(house.read(id, Some(3)).await.is_err());
    let stale = (value("x"), Some(1), None);
    let which = named("billing/stripe");
    let put = house
        .vault
        .put(&house.by, &house.workspace, "me", &which, stale)
        .await;
    assert_eq!(
        put.err(),
        Some(VaultError::Changed {
            latest: 2,
            expected: 1
        })
    );
    let follows = (value("three"), Some(2), None);
    let put = house
        .vault
        .put(&house.by, &house.workspace, "me", &which, follows)
        .await;
    assert_eq!(put.unwrap().latest, 3);
}

#[tokio::test]
async fn versions_are_deleted_brought_back_and_destroyed() {
    let house = House::new().await;
    let id = house.create("billing/stripe", "one").await;
    for text in ["two", "three"] {
        house.put("billing/stripe", text).await.unwrap();
    }
    let which = named("billing/stripe");
    let set = |versions: &[u32], state| {
        let (vault, by, of, which) = (
            house.vault.clone(),
            house.by.clone(),
            house.workspace.clone(),
            which.clone(),
        );
        let versions = versions.to_vec();
        async move { vault.set_state(&by, &of, &which, (versions, state)).await }
    };
    set(&[2, 3], State::Deleted).await.unwrap();
    let gone = house.read(id, None).await.err();
    assert_eq!(
        gone,
        Some(VaultError::NoVersion {
            version: 3,
            state: "deleted"
        })
    );
    set(&[3], State::Live).await.unwrap();
    assert_eq!(house.read(id, None).await.unwrap(), "three");
    set(&[2], State::Destroyed).await.unwrap();
    assert!(set(&[2], State::Live).await.is_err());
    let states: Vec<State> = house
        .vault
        .versions(&house.workspace, id)
        .await
        .unwrap()
        .iter()
        .map(|it| it.state)
        .collect();
    assert_eq!(states, [State::Live, State::Destroyed, State::Live]);
}

#[tokio::test]
async fn of_a_secret_that_is_removed_nothing_is_left() {
    let house = House::new().await;
    let id = house.create("billing/stripe", "one").await;
    for text in ["two", "three"] {
        house.put("billing/stripe", text).await.unwrap();
    }
    let which = named("billing/stripe");
    let fewer = house
        .vault
        .update(&house.by, &house.workspace, &which, |about| {
            about.keep = 1;
            Ok(())
        });
    fewer.await.unwrap();
    assert!(house.read(id, Some(1)).await.is_err());
    house
        .vault
        .remove(&house.by, &house.workspace, &which)
        .await
        .unwrap();
    assert!(matches!(
        house.read(id, None).await,
        Err(VaultError::NotFound(_))
    ));
    let left = house.raw(|connection| {
        let count = |table: &str| -> i64 {
            let sql = format!("SELECT COUNT(*) FROM {table}");
            connection.query_row(&sql, [], |row| row.get(0)).unwrap()
        };
        [
            "secrets",
            "secret_versions",
            "secret_values",
            "secret_tokens",
        ]
        .map(count)
    });
    assert_eq!(left, [0; 4]);
}

#[tokio::test]
async fn what_has_expired_is_not_read_and_soon_destroyed() {
    let house = House::new().await;
    let mut short = new("short", "one");
    short.ttl = Some(Duration::from_micros(1));
    let made = house.vault.create(&house.by, &house.workspace, "me", short);
    let id = made.await.unwrap().id;
    let gone = house.read(id, None).await.err();
    assert_eq!(
        gone,
        Some(VaultError::NoVersion {
            version: 1,
            state: "expired"
        })
    );
    let swept = house.vault.sweep(&house.by, &house.workspace).await;
    assert_eq!(swept, Ok((1, false)));
    assert_eq!(
        house.vault.sweep(&house.by, &house.workspace).await,
        Ok((0, false))
    );
    let values: i64 = house.raw(|connection| {
        let sql = "SELECT COUNT(*) FROM secret_values WHERE version > 0";
        connection.query_row(sql, [], |row| row.get(0)).unwrap()
    });
    assert_eq!(values, 0);
}

#[tokio::test]
async fn secrets_are_found_by_words_and_tags_and_renamed() {
    let house = House::new().await;
    for name in ["pay/stripe", "pay/stripe-test", "mail/smtp", "stripes"] {
        house.create(name, "x").await;
    }
    let smtp = named("mail/smtp");
    let tagged = house
        .vault
        .update(&house.by, &house.workspace, &smtp, |about| {
            about.tags.insert("team".to_owned(), "red".to_owned());
            about.name = "mail/server".parse()?;
            Ok(())
        });
    tagged.await.unwrap();
    let found = |words: &'static str, tags: &'static [&'static str]| {
        let (vault, of) = (house.vault.clone(), house.workspace.clone());
        async move {
            let query = Query::new(words, tags.iter().copied()).unwrap();
            let page = vault.list(&of, query, None, 100).await.unwrap();
            let names = page.items.iter().map(|it| it.about.name.to_string());
            names.collect::<Vec<_>>()
        }
    };
    assert_eq!(
        found("stripe", &[]).await,
        ["pay/stripe", "pay/stripe-test", "stripes"]
    );
    assert_eq!(found("pay test", &[]).await, ["pay/stripe-test"]);
    assert_eq!(found("", &["team=red"]).await, ["mail/server"]);
    assert_eq!(found("smtp", &[]).await, Vec::<String>::new());
    assert_eq!(found("", &[]).await.len(), 4);
    let first = house
        .vault
        .list(&house.workspace, Query::default(), None, 3)
        .await
        .unwrap();
    let rest = house
        .vault
        .list(&house.workspace, Query::default(), first.next, 3)
        .await
        .unwrap();
    assert_eq!((first.items.len(), rest.items.len()), (3, 1));
    let stripes = named("stripes");
    let taken = house
        .vault
        .update(&house.by, &house.workspace, &stripes, |about| {
            about.name = "pay/stripe".parse()?;
            Ok(())
        });
    assert!(matches!(taken.await, Err(VaultError::Exists(_))));
    let other = Workspace::new("other").unwrap();
    assert!(house.vault.find(&other, &named("stripes")).await.is_err());
}

#[tokio::test]
async fn it_opens_by_each_seal_and_by_nothing_else() {
    let mut house = House::new().await;
    let id = house.create("stripe", "one").await;
    let words = |text: &str| Opening::Passphrase(Passphrase::new(text).unwrap());
    let made = house
        .vault
        .add_seal(&house.by, words("correct horse battery"), "safe");
    assert_eq!(made.await.unwrap().id, 2);
    house.vault.seal(&house.by).await.unwrap();
    assert_eq!(house.read(id, None).await, Err(VaultError::Sealed));
    let wrong = house.vault.unseal(words("correct horse staple")).await;
    assert_eq!(wrong, Err(VaultError::WrongOpening));
    let wrong = house
        .vault
        .unseal(Opening::Key(SealKey::random().unwrap()))
        .await;
    assert_eq!(wrong, Err(VaultError::WrongOpening));
    house
        .vault
        .unseal(words("correct horse battery"))
        .await
        .unwrap();
    assert_eq!(house.read(id, None).await.unwrap(), "one");
    house.vault.remove_seal(&house.by, 2).await.unwrap();
    let last = house.vault.remove_seal(&house.by, 1).await;
    assert_eq!(last, Err(VaultError::LastSeal));
    let none = house.vault.remove_seal(&house.by, 9).await;
    assert_eq!(none, Err(VaultError::NoSeal(9)));
    house.vault.seal(&house.by).await.unwrap();
    let gone = house.vault.unseal(words("correct horse battery")).await;
    assert_eq!(gone, Err(VaultError::WrongOpening));
    house.again().await;
    assert_eq!(house.read(id, None).await.unwrap(), "one");
    // A second server brings a key of its own: it does not set anything up anew.
    let other = Vault::new(house.vault.db.clone());
    let own = Opening::Key(SealKey::random().unwrap());
    let refused = other.set_up(&house.by, own, "mine").await;
    assert_eq!(refused, Err(VaultError::WrongOpening));
    other
        .set_up(&house.by, Opening::Key(house.key.clone()), "same")
        .await
        .unwrap();
    assert!(other.is_open());
}

/// How a keeper answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Mood {
    Honest,
    Away,
    Lying,
}

/// A keeper that has its key here, and answers as it is told to.
#[derive(Debug)]
struct Box256 {
    name: String,
    key: Key,
    mood: parking_lot::Mutex<Mood>,
}

impl Box256 {
    fn new(name: &str) -> Arc<Self> {
        Arc::new(Self {
            name: name.to_owned(),
            key: Key::random().unwrap(),
            mood: parking_lot::Mutex::new(Mood::Honest),
        })
    }
}

#[async_trait::async_trait]
impl Keeper for Box256 {
    fn kind(&self) -> SealKind {
        SealKind::Kms
    }

    fn key(&self) -> &str {
        &self.name
    }

    async fn wrap(&self, key: &Key, context: &str) -> Result<Vec<u8>, KeeperError> {
        Ok(self.key.wrap(context.as_bytes(), key).unwrap())
    }

    async fn unwrap(&self, wrapped: &[u8], context: &str) -> Result<Key, KeeperError> {
        match *self.mood.lock() {
            Mood::Away => Err(KeeperError::Away("gone fishing".to_owned())),
            Mood::Lying => Ok(Key::random().unwrap()),
            Mood::Honest => {
                let opened = self.key.unwrap(context.as_bytes(), wrapped);
                opened.map_err(|_| KeeperError::Wrong(self.name.clone()))
            }
        }
    }
}

#[tokio::test]
async fn a_keeper_opens_it_and_what_it_says_is_checked() {
    let house = House::new().await;
    let id = house.create("stripe", "one").await;
    let keeper = Box256::new("aws:ours");
    let with = |keeper: &Arc<Box256>| Opening::Keeper(keeper.clone());
    let set = |mood| *keeper.mood.lock() = mood;
    // What it cannot take back is not made a way in.
    set(Mood::Lying);
    let made = house.vault.add_seal(&house.by, with(&keeper), "cloud");
    let wrong = Err(VaultError::Keeper(KeeperError::Wrong("aws:ours".into())));
    assert_eq!(made.await.map(drop), wrong);
    set(Mood::Honest);
    let made = house.vault.add_seal(&house.by, with(&keeper), "cloud");
    let made = made.await.unwrap();
    assert_eq!((made.id, made.kind), (2, SealKind::Kms));
    assert_eq!(house.vault.status().await.unwrap().seals[1], made);
    assert_eq!(made.kept_by.as_deref(), Some("aws:ours"));
    house.vault.seal(&house.by).await.unwrap();
    for (mood, expected) in [
        (
            Mood::Away,
            Err(VaultError::Keeper(KeeperError::Away("gone fishing".into()))),
        ),
        (Mood::Lying, wrong.clone()),
    ] {
        set(mood);
        assert_eq!(house.vault.unseal(with(&keeper)).await, expected);
        assert!(!house.vault.is_open());
    }
    set(Mood::Honest);
    // Another key of the same name opens nothing; one of another name is not even asked.
    let said = house.vault.unseal(with(&Box256::new("aws:ours"))).await;
    assert_eq!(said, wrong);
    let said = house.vault.unseal(with(&Box256::new("aws:theirs"))).await;
    assert_eq!(said, Err(VaultError::WrongOpening));
    house.vault.unseal(with(&keeper)).await.unwrap();
    assert_eq!(house.read(id, None).await.unwrap(), "one");
}

#[tokio::test]
async fn a_keepers_row_that_was_changed_opens_nothing() {
    let house = House::new().await;
    let keeper = Box256::new("aws:ours");
    let with = || Opening::Keeper(keeper.clone());
    for name in ["two", "three"] {
        let made = house.vault.add_seal(&house.by, with(), name).await;
        made.unwrap();
    }
    house.vault.remove_seal(&house.by, 1).await.unwrap();
    house.vault.seal(&house.by).await.unwrap();
    // What the keeper wrapped for one seal is put into the other's row.
    let swap = "UPDATE vault_seals SET params = (SELECT params FROM vault_seals WHERE id = 3) WHERE id = 2";
    let run = |sql: &'static str| {
        house.vault.db.write(move |unit| -> Result<(), VaultError> {
            Ok(unit.server().execute(sql, &[]).map(drop)?)
        })
    };
    run(swap).await.unwrap();
    // The other is whole still, and opens.
    house.vault.unseal(with()).await.unwrap();
    house.vault.seal(&house.by).await.unwrap();
    run("DELETE FROM vault_seals WHERE id = 3").await.unwrap();
    let wrong = Err(VaultError::Keeper(KeeperError::Wrong("aws:ours".into())));
    assert_eq!(house.vault.unseal(with()).await, wrong);
}

#[tokio::test]
async fn a_lease_ends_with_what_it_hangs_on() {
    let house = House::new().await;
    let id = house.create("stripe", "one").await;
    let lease = |parent: Option<String>, holder: &str| {
        let wish = NewLease {
            secret: Which::Id(id),
            version: None,
            field: None,
            holder: holder.to_owned(),
            parent,
            ttl: HOUR,
        };
        let (vault, by, of) = (
            house.vault.clone(),
            house.by.clone(),
            house.workspace.clone(),
        );
        async move { vault.lease(&by, &of, wish).await }
    };
    let (vault, by, of) = (&house.vault, &house.by, &house.workspace);
    let top = lease(Some("instance:ins_1".to_owned()), "agent:hello")
        .await
        .unwrap();
    let below = lease(Some(format!("lease:{}", top.id)), "agent:other")
        .await
        .unwrap();
    assert!(below.most_until <= top.expires_at);
    let other = lease(None, "agent:hello").await.unwrap();
    let read = vault.redeem(of, below.id, "agent:other").await.unwrap();
    assert_eq!(read.bytes(), b"one");
    let stolen = vault.redeem(of, below.id, "agent:hello").await;
    assert_eq!(stolen.err(), Some(VaultError::NoLease(below.id)));
    house.put("stripe", "two").await.unwrap();
    let read = vault.redeem(of, other.id, "agent:hello").await.unwrap();
    assert_eq!(read.bytes(), b"two");
    assert_eq!(vault.leases(of, id).await.unwrap().len(), 3);
    let renewed = vault.renew(by, of, below.id, 2 * HOUR).await.unwrap();
    assert_eq!(
        renewed.expires_at, top.expires_at,
        "no longer than what it hangs on"
    );
    assert_eq!(vault.revoke_below(by, of, "instance:ins_1").await, Ok(2));
    assert!(vault.redeem(of, below.id, "agent:other").await.is_err());
    let late = lease(Some(format!("lease:{}", top.id)), "agent:other").await;
    assert_eq!(late.err(), Some(VaultError::NoLease(top.id)));
    assert_eq!(vault.revoke(by, of, other.id).await, Ok(1));
    assert_eq!(
        vault.revoke(by, of, other.id).await,
        Err(VaultError::NoLease(other.id))
    );
    let mut chain = lease(None, "agent:a").await.unwrap().id;
    let mut deep = 0;
    while let Ok(next) = lease(Some(format!("lease:{chain}")), "agent:a").await {
        chain = next.id;
        deep += 1;
    }
    assert_eq!(deep, 8);
    for wrong in ["hello", ":", "agent:", "Agent:x", "agent:a b"] {
        assert!(lease(None, wrong).await.is_err(), "{wrong}");
    }
}

/// The one order that there is, and what becomes of a word to it.
async fn word(house: &House, phase: renewal::Phase, said: Said) -> Option<String> {
    let mut orders = house.vault.orders(&house.workspace).await.unwrap();
    assert_eq!(orders.len(), 1);
    let order = orders.remove(0).unwrap();
    assert_eq!(order.renewal.phase, phase);
    let of = (order.secret.id, order.renewal);
    let told = house.vault.renewed(
        &house.by,
        &house.workspace,
        of.clone(),
        said,
        Duration::ZERO,
    );
    told.await.unwrap();
    // What comes twice changes nothing.
    let twice = house
        .vault
        .renewed(&house.by, &house.workspace, of, Said::Done, Duration::ZERO);
    twice.await.unwrap();
    let text = |value: SecretValue| String::from_utf8(value.bytes().to_vec()).unwrap();
    order.value.map(text)
}

#[tokio::test]
async fn a_new_value_counts_when_it_is_proven() {
    let house = House::new().await;
    let (vault, of, by) = (&house.vault, &house.workspace, &house.by);
    let id = house.create("stripe", "old").await;
    let which = Which::Id(id);
    let begun = vault.renew_value(by, of, &which).await.unwrap();
    assert_eq!(
        vault.renew_value(by, of, &which).await.unwrap(),
        begun,
        "once"
    );
    let made = Said::Made(value("new"));
    assert_eq!(
        word(&house, renewal::Phase::Making, made).await.unwrap(),
        "old"
    );
    // It is there, and is nobody's to read.
    assert_eq!(house.read(id, None).await.unwrap(), "old");
    assert_eq!(vault.versions(of, id).await.unwrap().len(), 1);
    assert!(house.read(id, Some(renewal::UNPROVEN)).await.is_err());
    // Its keys rotate with the others.
    let level = (Level::Data, Some(of));
    let rotation = vault.rotate(by, level, Duration::ZERO).await.unwrap();
    while vault.rotation(rotation.id).await.unwrap().progress.phase != Phase::Done {
        vault.work(by).await.unwrap();
    }
    let proven = word(&house, renewal::Phase::Proving, Said::Done).await;
    assert_eq!(proven.unwrap(), "new");
    assert_eq!(house.read(id, None).await.unwrap(), "new");
    assert_eq!(house.read(id, Some(1)).await.unwrap(), "old");
    // While somebody has gone back to the old one nobody is told to take it away.
    let is_moot = async || vault.orders(of).await.unwrap().remove(0).unwrap().is_moot;
    assert!(!is_moot().await);
    house.put("stripe", "old").await.unwrap();
    assert!(is_moot().await);
    house.put("stripe", "new").await.unwrap();
    assert!(!is_moot().await);
    let retired = word(&house, renewal::Phase::Kept, Said::Done).await;
    assert_eq!(retired.unwrap(), "old");
    assert!(vault.renewal(of, id).await.unwrap().is_none());
    assert_eq!(house.read(id, None).await.unwrap(), "new");
}

#[tokio::test]
async fn a_value_that_is_overtaken_is_abandoned() {
    let house = House::new().await;
    let (vault, of, by) = (&house.vault, &house.workspace, &house.by);
    let id = house.create("stripe", "old").await;
    let which = Which::Id(id);
    vault.renew_value(by, of, &which).await.unwrap();
    word(&house, renewal::Phase::Making, Said::Made(value("new"))).await;
    house.put("stripe", "by hand").await.unwrap();
    word(&house, renewal::Phase::Proving, Said::Done).await;
    assert_eq!(house.read(id, None).await.unwrap(), "by hand");
    let gone = word(&house, renewal::Phase::Abandoning, Said::Done).await;
    assert_eq!(gone.unwrap(), "new");
    assert!(vault.renewal(of, id).await.unwrap().is_none());
    let left = house.raw(|it| {
        let sql = "SELECT COUNT(*) FROM secret_values WHERE version > 1000";
        it.query_row(sql, [], |row| row.get::<_, i64>(0)).unwrap()
    });
    assert_eq!(left, 0);
    // So it is when it was not made yet, and when the secret is removed.
    vault.renew_value(by, of, &which).await.unwrap();
    house.put("stripe", "again").await.unwrap();
    word(&house, renewal::Phase::Making, Said::Failed).await;
    assert!(vault.renewal(of, id).await.unwrap().is_none());
    vault.renew_value(by, of, &which).await.unwrap();
    vault.remove(by, of, &which).await.unwrap();
    assert!(vault.orders(of).await.unwrap().is_empty());
}

#[tokio::test]
async fn what_runs_is_lent_all_or_nothing_and_the_same_again() {
    let house = House::new().await;
    let (vault, of, by) = (&house.vault, &house.workspace, By::nobody());
    let whole = house.create("whole", "it").await;
    let parts = house
        .create("parts", r#"{"user":"u","password":"p"}"#)
        .await;
    let user = || Some("user".to_owned());
    let (holder, parent) = ("agent:hello", "instance:one");
    let lend = async |parent: &str, wished: Vec<(SecretId, Option<String>)>| {
        let wished = wished
            .into_iter()
            .map(|(id, field)| (By::nobody(), id, field));
        vault.lend(of, (holder, parent), wished.collect()).await
    };
    let wished = vec![(whole, None), (parts, user())];
    let lent = lend(parent, wished.clone()).await.unwrap();
    let read = async |lease: skep_core::LeaseId| vault.redeem(of, lease, holder).await;
    assert_eq!(read(lent[0].id).await.unwrap().bytes(), b"it");
    assert_eq!(read(lent[1].id).await.unwrap().bytes(), b"u");
    // Asked again, with one more: what there is stays.
    let more = [wished.clone(), vec![(parts, None)]].concat();
    let again = lend(parent, more).await.unwrap();
    assert_eq!(&again[..2], &lent[..]);
    assert_ne!(again[2].id, lent[1].id);
    // Another that runs has leases of its own.
    let other = lend("instance:two", wished).await.unwrap();
    assert!(
        other
            .iter()
            .all(|one| again.iter().all(|it| it.id != one.id))
    );
    let to = vault.lent_to(of, "instance").await.unwrap();
    assert_eq!(to.iter().collect::<BTreeSet<_>>().len(), 2);
    // One that cannot be lent: nothing is.
    for wrong in [
        (parts, Some("none".to_owned())),
        (whole, user()),
        (SecretId::new(), None),
    ] {
        let refused = lend("instance:three", vec![(whole, None), wrong]).await;
        assert!(refused.is_err());
    }
    assert_eq!(vault.lent_to(of, "instance").await.unwrap().len(), 2);
    // It has a new value from its next use on, and ends with what runs.
    house.put("whole", "new").await.unwrap();
    assert_eq!(read(lent[0].id).await.unwrap().bytes(), b"new");
    assert_eq!(vault.revoke_below(&by, of, parent).await.unwrap(), 3);
    assert!(matches!(
        read(lent[0].id).await,
        Err(VaultError::NoLease(_))
    ));
    assert_eq!(read(other[0].id).await.unwrap().bytes(), b"new");
}

#[tokio::test]
async fn a_lease_that_is_over_is_swept_with_those_below() {
    let house = House::new().await;
    let id = house.create("stripe", "one").await;
    let wish = NewLease {
        secret: Which::Id(id),
        version: Some(1),
        field: None,
        holder: "agent:a".to_owned(),
        parent: None,
        ttl: Duration::from_micros(1),
    };
    let lease = house
        .vault
        .lease(&house.by, &house.workspace, wish)
        .await
        .unwrap();
    let over = house
        .vault
        .redeem(&house.workspace, lease.id, "agent:a")
        .await;
    assert_eq!(over.err(), Some(VaultError::NoLease(lease.id)));
    assert_eq!(
        house.vault.sweep_leases(&house.by, &house.workspace).await,
        Ok(1)
    );
    assert_eq!(
        house.vault.sweep_leases(&house.by, &house.workspace).await,
        Ok(0)
    );
}

#[tokio::test]
async fn a_request_is_decided_once_by_somebody_else() {
    let house = House::new().await;
    let id = house.create("stripe", "one").await;
    let which = Which::Id(id);
    let (vault, by, of) = (&house.vault, &house.by, &house.workspace);
    let ask = || {
        let wish = ("user:me".to_owned(), May::Reveal, HOUR);
        vault.ask(by, of, &which, wish, "to see why it fails".to_owned())
    };
    let request = ask().await.unwrap();
    let decide = |id, who: &'static str, decision| vault.decide(by, of, who, id, decision);
    let own = decide(request.id, "user:me", Decision::Approved).await;
    assert_eq!(own.err(), Some(VaultError::OwnRequest));
    let others = decide(request.id, "user:you", Decision::Withdrawn).await;
    assert_eq!(others.err(), Some(VaultError::OwnRequest));
    let waiting = vault.requests(of, Decision::Waiting).await.unwrap();
    assert_eq!(waiting[0].reason, "to see why it fails");
    decide(request.id, "user:you", Decision::Approved)
        .await
        .unwrap();
    let shares = vault.shares(of, id).await.unwrap();
    assert_eq!(
        (shares[0].holder.as_str(), shares[0].may),
        ("user:me", May::Reveal)
    );
    assert!(shares[0].expires_at.is_some());
    let twice = decide(request.id, "user:you", Decision::Denied).await;
    assert_eq!(twice.err(), Some(VaultError::Decided("approved")));
    let denied = ask().await.unwrap();
    decide(denied.id, "user:you", Decision::Denied)
        .await
        .unwrap();
    assert_eq!(vault.shares(of, id).await.unwrap().len(), 1);
    vault
        .unshare(by, of, &which, ("user:me".to_owned(), May::Reveal))
        .await
        .unwrap();
    assert!(vault.shares(of, id).await.unwrap().is_empty());
    let nothing = vault.ask(
        by,
        of,
        &which,
        ("user:me".to_owned(), May::Use, HOUR),
        "\n".to_owned(),
    );
    assert!(matches!(
        nothing.await,
        Err(VaultError::Invalid {
            field: "reason",
            ..
        })
    ));
}

#[tokio::test]
async fn many_change_together_or_not_at_all() {
    let house = House::new().await;
    let there = [house.create("a", "1").await, house.create("b", "1").await];
    let how = |dry| Bulk {
        dry,
        writable: there.into(),
        visible: there.into(),
    };
    let wanted = || vec![new("a", "1"), new("b", "2"), new("c", "3")];
    let (vault, by, of) = (&house.vault, &house.by, &house.workspace);
    let dry = vault
        .bulk(by, of, "me", (wanted(), how(true)))
        .await
        .unwrap();
    assert!(vault.find(of, &named("c")).await.is_err());
    let done = vault
        .bulk(by, of, "me", (wanted(), how(false)))
        .await
        .unwrap();
    assert_eq!(dry, done);
    let outcomes: Vec<String> = done.values().map(|it| format!("{it:?}")).collect();
    assert_eq!(outcomes, ["Unchanged", "Updated", "Created"]);
    let twice = vec![new("d", "1"), new("d", "2")];
    assert!(vault.bulk(by, of, "me", (twice, how(false))).await.is_err());
    assert!(
        vault.find(of, &named("d")).await.is_err(),
        "nothing of it was done"
    );
}

/// Every value that the house should have, read anew.
async fn check_all(house: &House, expected: &BTreeMap<SecretId, String>) {
    for (id, text) in expected {
        let read = house.read(*id, None).await;
        assert_eq!(read.as_ref(), Ok(text), "{id}");
    }
}

/// How much there is under other keys than this one.
fn under_others(house: &House, level: Level, counts: i64) -> i64 {
    house.raw(|connection| {
        let sql = match level {
            Level::Root => "SELECT COUNT(*) FROM vault_workspace_keys WHERE root <> ?1",
            Level::Workspace => "SELECT COUNT(*) FROM secret_keys WHERE parent <> ?1",
            Level::Data => {
                "SELECT (SELECT COUNT(*) FROM secret_values WHERE generation <> ?1) + \
                 (SELECT COUNT(*) FROM secret_keys WHERE generation <> ?1 AND generation <> 0)"
            }
        };
        connection
            .query_row(sql, [counts], |row| row.get(0))
            .unwrap()
    })
}

async fn rotate_cut_off(level: Level, back_after: Option<usize>) {
    let mut house = House::new().await;
    let mut expected = BTreeMap::new();
    // More than one batch of each level.
    for number in 0..110 {
        let text = format!("value {number}");
        expected.insert(house.create(&format!("s/{number}"), &text).await, text);
    }
    let of = Workspace::default();
    let rotation = house
        .vault
        .rotate(&house.by, (level, Some(&of)), HOUR)
        .await
        .unwrap();
    let again = house
        .vault
        .rotate(&house.by, (level, Some(&of)), HOUR)
        .await;
    assert_eq!(again.err(), Some(VaultError::Rotates(rotation.id)));
    let early = house.vault.finish(&house.by, rotation.id).await;
    assert!(matches!(early, Err(VaultError::Rotation(_))));
    let (mut steps, mut finished) = (0, false);
    loop {
        let work = house.vault.work(&house.by).await.unwrap();
        steps += 1;
        house.again().await;
        check_all(&house, &expected).await;
        // What is made meanwhile is there afterwards.
        if steps % 2 == 0 && steps < 12 {
            let text = format!("new {steps}");
            expected.insert(house.create(&format!("n/{steps}"), &text).await, text);
        }
        if Some(steps) == back_after {
            house.vault.roll_back(&house.by, rotation.id).await.unwrap();
            check_all(&house, &expected).await;
        }
        match work {
            Work::Done => {}
            Work::Until(_) if back_after.is_some() => {
                house.vault.roll_back(&house.by, rotation.id).await.unwrap();
            }
            Work::Until(_) => {
                assert!(!finished, "it ends when it is told to");
                finished = true;
                house.vault.finish(&house.by, rotation.id).await.unwrap();
            }
            Work::Nothing => break,
        }
    }
    let now = house.vault.rotation(rotation.id).await.unwrap();
    let (phase, counts) = match back_after {
        None => (Phase::Done, rotation.new),
        Some(_) => (Phase::Returned, rotation.old),
    };
    assert_eq!(now.progress.phase, phase);
    assert!(now.ended_at.is_some());
    assert_eq!(under_others(&house, level, counts), 0);
    // And the next rotation takes another number.
    let next = house
        .vault
        .rotate(&house.by, (level, Some(&of)), HOUR)
        .await
        .unwrap();
    assert!(next.new > rotation.new);
}

#[tokio::test]
async fn a_rotation_of_the_root_goes_on_after_every_step() {
    rotate_cut_off(Level::Root, None).await;
}

#[tokio::test]
async fn a_rotation_of_a_workspace_goes_on_after_every_step() {
    rotate_cut_off(Level::Workspace, None).await;
}

#[tokio::test]
async fn a_rotation_of_data_keys_goes_on_after_every_step() {
    rotate_cut_off(Level::Data, None).await;
}

#[tokio::test]
async fn a_rotation_goes_back_from_wherever_it_is() {
    for level in [Level::Root, Level::Workspace, Level::Data] {
        for after in [1, 2, 4] {
            rotate_cut_off(level, Some(after)).await;
        }
    }
}

#[tokio::test]
async fn a_second_wrap_that_does_not_open_is_made_again() {
    let house = House::new().await;
    let id = house.create("stripe", "one").await;
    let of = Workspace::default();
    let level = (Level::Workspace, Some(&of));
    let rotation = house.vault.rotate(&house.by, level, HOUR).await.unwrap();
    house.vault.work(&house.by).await.unwrap();
    house.raw(|connection| {
        let sql =
            "UPDATE secret_keys SET wrapped = zeroblob(104) WHERE parent = ?1 AND version = 1";
        assert_eq!(connection.execute(sql, [rotation.new]).unwrap(), 1);
    });
    for _ in 0..6 {
        house.vault.work(&house.by).await.unwrap();
    }
    let now = house.vault.rotation(rotation.id).await.unwrap();
    assert_eq!(now.progress.phase, Phase::Kept);
    assert_eq!(house.read(id, None).await.unwrap(), "one");
}

#[tokio::test]
async fn keys_of_a_removed_workspace_open_nothing() {
    let house = House::new().await;
    let id = house.create("stripe", "one").await;
    house
        .vault
        .forget_workspace(&house.workspace)
        .await
        .unwrap();
    assert!(house.read(id, None).await.is_err());
}

/// What a reader can see of the house: of the secret, and of what may be done with it.
fn mounted(path: &str, with: SecretId) -> NewMount {
    NewMount {
        path: path.parse().unwrap(),
        address: "vault:secret/MARKED".to_owned(),
        with,
        cache: Duration::ZERO,
        stale: HOUR,
    }
}

/// A mount at `prod`, and what keeps what its store says.
async fn mount(house: &House) -> (Mount, SecretId) {
    let with = house.create("login", "{}").await;
    house.create("prod-old/x", "beside").await;
    let wish = mounted("prod", with);
    let mount = house.vault.mount(&house.by, &house.workspace, "me", wish);
    (mount.await.unwrap(), with)
}

async fn follow(
    house: &House,
    mount: &Mount,
    said: &[(&str, Option<&str>)],
    all: bool,
) -> Result<usize, VaultError> {
    let said = said.iter();
    let said = said.map(|(name, text)| (name.parse().unwrap(), text.map(value)));
    let (vault, by, of) = (&house.vault, &house.by, &house.workspace);
    let now = vault.clock().now();
    vault
        .follow(by, of, mount.id, (said.collect(), all), now)
        .await
}

#[tokio::test]
async fn what_is_below_a_mount_follows_its_store() {
    let house = House::new().await;
    let (vault, by, of) = (&house.vault, &house.by, &house.workspace);
    let (mount, _) = mount(&house).await;
    let follow = async |said, all| follow(&house, &mount, said, all).await;
    let both = [("prod/db", Some("one")), ("prod/no", None)];
    assert_eq!(follow(&both, false).await, Ok(1));
    let db = vault.find(of, &named("prod/db")).await.unwrap();
    assert_eq!(house.read(db.id, None).await.unwrap(), "one");
    assert_eq!(db.about.tags["mount"], "prod");
    // The same value is the same version; another is the only one that is kept.
    follow(&[("prod/db", Some("one"))], false).await.unwrap();
    assert_eq!(vault.versions(of, db.id).await.unwrap().len(), 1);
    follow(&[("prod/db", Some("two"))], false).await.unwrap();
    assert_eq!(house.read(db.id, None).await.unwrap(), "two");
    assert!(house.read(db.id, Some(1)).await.is_err());
    // What is gone there is not read here, and comes back when it is there again.
    assert_eq!(follow(&[("prod/new", Some("n"))], true).await, Ok(1));
    assert!(house.read(db.id, None).await.is_err());
    follow(&[("prod/db", Some("two"))], false).await.unwrap();
    assert_eq!(house.read(db.id, None).await.unwrap(), "two");
    assert_eq!(vault.unmount(by, of, mount.id).await, Ok(2));
    assert!(vault.find(of, &named("prod/db")).await.is_err());
    let late = follow(&[("prod/db", Some("x"))], false).await;
    assert_eq!(late, Err(VaultError::NoMount(mount.id)));
    house.create("prod/db", "ours").await;
}

#[tokio::test]
async fn nobody_else_writes_below_a_mount() {
    let house = House::new().await;
    let (vault, by, of) = (&house.vault, &house.by, &house.workspace);
    let (mount, with) = mount(&house).await;
    let db = [("prod/db", Some("one"))];
    follow(&house, &mount, &db, false).await.unwrap();
    let db = vault.find(of, &named("prod/db")).await.unwrap();
    let refused = |result: Result<(), VaultError>| {
        assert_eq!(result, Err(VaultError::Mounted("prod".to_owned())));
    };
    refused(house.put("prod/db", "x").await.map(drop));
    let made = vault.create(by, of, "me", new("prod/mine", "x")).await;
    refused(made.map(drop));
    let name: Result<crate::SecretName, _> = "prod/y".parse();
    let beside = named("prod-old/x");
    let renamed = vault.update(by, of, &beside, move |about| {
        about.name = name?;
        Ok(())
    });
    refused(renamed.await.map(drop));
    let many = (vec![new("prod/z", "x")], Bulk::default());
    refused(vault.bulk(by, of, "me", many).await.map(drop));
    let which = Which::Id(db.id);
    refused(vault.renew_value(by, of, &which).await.map(drop));
    let states = (vec![1], State::Live);
    refused(vault.set_state(by, of, &which, states).await.map(drop));
    refused(vault.remove(by, of, &which).await);
    // Its store says nothing of what is beside it.
    let beside = [("prod-old/x", Some("x"))];
    refused(follow(&house, &mount, &beside, false).await.map(drop));
    for near in ["prod", "prod/db"] {
        let second = vault.mount(by, of, "me", mounted(near, with)).await;
        refused(second.map(drop));
    }
    let over = vault.mount(by, of, "me", mounted("prod-old", with)).await;
    assert!(matches!(over, Err(VaultError::Exists(_))), "{over:?}");
    let own = vault.mount(by, of, "me", mounted("next", db.id)).await;
    refused(own.map(drop));
}

#[tokio::test]
async fn a_value_of_a_mount_counts_for_its_time() {
    let house = House::new().await;
    let (vault, by, of) = (&house.vault, &house.by, &house.workspace);
    let with = house.create("login", "{}").await;
    let mount = vault
        .mount(by, of, "me", mounted("prod", with))
        .await
        .unwrap();
    let said = vec![("prod/db".parse().unwrap(), Some(value("one")))];
    vault
        .follow(by, of, mount.id, (said.clone(), false), vault.clock().now())
        .await
        .unwrap();
    let db = vault.find(of, &named("prod/db")).await.unwrap();
    let over = async || {
        let versions = vault.versions(of, db.id).await.unwrap();
        versions[0].expires_at.unwrap()
    };
    let first = over().await;
    assert_eq!(first.since(db.made_at), HOUR);
    vault
        .follow(by, of, mount.id, (said, false), vault.clock().now())
        .await
        .unwrap();
    assert!(
        over().await > first,
        "it counts longer, since it was asked for again"
    );
}

async fn seen(house: &House, id: SecretId) -> Result<(String, BTreeSet<String>), VaultError> {
    let (vault, of) = (&house.vault, &house.workspace);
    let secret = vault.find(of, &Which::Id(id)).await?;
    let by_name = vault.find(of, &named("pay/stripe")).await?;
    let versions = vault.versions(of, id).await?;
    let value = house.read(id, None).await?;
    let old = house.read(id, Some(1)).await?;
    let leases = vault.leases(of, id).await?;
    for lease in &leases {
        vault.redeem(of, lease.id, &lease.holder).await?;
    }
    let shares = vault.shares(of, id).await?;
    let requests = vault.requests(of, Decision::Waiting).await?;
    let renewals: Result<Vec<_>, _> = vault.orders(of).await?.into_iter().collect();
    let renewals = renewals?;
    let text = |value: &SecretValue| String::from_utf8_lossy(value.bytes()).into_owned();
    let renewals = renewals
        .iter()
        .map(|it| format!("{:?} {:?}", it.renewal, it.value.as_ref().map(text)));
    let mounts = vault.mounts(of).await?;
    let renewals = renewals.chain(mounts.iter().map(|it| format!("{it:?}")));
    let rights = leases.iter().map(|it| format!("{it:?}"));
    let rights = rights.chain(renewals);
    let rights = rights.chain(shares.iter().map(|it| format!("{it:?}")));
    let rights = rights.chain(requests.iter().map(|it| format!("{it:?}")));
    let what = format!("{secret:?} {by_name:?} {versions:?} {value} {old}");
    Ok((what, rights.collect()))
}

/// A house with something of everything, and the secret that it is about.
async fn furnished() -> (House, SecretId) {
    let house = House::new().await;
    let id = house.create("pay/stripe", "MARKED-one").await;
    house.put("pay/stripe", "MARKED-two").await.unwrap();
    let (vault, by, of) = (&house.vault, &house.by, &house.workspace);
    let which = Which::Id(id);
    let wish = NewLease {
        secret: which.clone(),
        version: None,
        field: None,
        holder: "agent:a".to_owned(),
        parent: None,
        ttl: HOUR,
    };
    vault.lease(by, of, wish).await.unwrap();
    let share = ("user:you".to_owned(), May::Use, Some(HOUR));
    vault.share(by, of, "me", &which, share).await.unwrap();
    let ask = ("user:me".to_owned(), May::Use, HOUR);
    let why = "MARKED-why".to_owned();
    vault.ask(by, of, &which, ask, why).await.unwrap();
    vault
        .mount(by, of, "me", mounted("prod", id))
        .await
        .unwrap();
    let renewal = vault.renew_value(by, of, &which).await.unwrap();
    let made = Said::Made(value("MARKED-new"));
    let made = vault.renewed(by, of, (id, renewal), made, HOUR);
    made.await.unwrap();
    (house, id)
}

/// A bit that is flipped anywhere is noticed or changes nothing that is seen, but that a right can be hidden by it; it
/// never gives one. No error tells a value.
#[tokio::test]
async fn a_bit_that_is_flipped_in_any_row_is_noticed() {
    let (mut house, id) = furnished().await;
    let before = seen(&house, id).await.unwrap();
    let mut tried = 0;
    let mut unnoticed = Vec::new();
    for table in [
        "vault_seals",
        "vault_roots",
        "vault_keys",
        "vault_workspace_keys",
        "secrets",
        "secret_versions",
        "secret_keys",
        "secret_values",
        "secret_leases",
        "secret_shares",
        "secret_requests",
        "secret_renewals",
        "secret_mounts",
    ] {
        for (row, column, old, new) in flips(&house, table) {
            let sql = format!("UPDATE {table} SET {column} = ?1 WHERE rowid = ?2");
            let set =
                |value: &Value| house.raw(|it| it.execute(&sql, rusqlite::params![value, row]));
            // What breaks a rule of the table is noticed by it.
            if set(&new).is_err() {
                continue;
            }
            tried += 1;
            let vault = Vault::new(house.vault.db.clone());
            let opened = vault.unseal(Opening::Key(house.key.clone())).await;
            let kept = std::mem::replace(&mut house.vault, vault);
            let after = match opened {
                Ok(()) => seen(&house, id).await,
                Err(error) => Err(error),
            };
            match after {
                Ok(after) if after.0 == before.0 && after.1.is_subset(&before.1) => {}
                Ok(_) => unnoticed.push(format!("{table}.{column}: {old:?} to {new:?}")),
                Err(error) => assert!(!format!("{error} {error:?}").contains("MARKED"), "{error}"),
            }
            house.vault = kept;
            let set =
                |value: &Value| house.raw(|it| it.execute(&sql, rusqlite::params![value, row]));
            set(&old).unwrap();
        }
    }
    assert_eq!(seen(&house, id).await.unwrap(), before);
    assert!(tried > 500, "{tried}");
    assert!(unnoticed.is_empty(), "{unnoticed:#?}");
}

/// Some bits of every value of a table: row, column, value, and value with a bit flipped.
fn flips(house: &House, table: &str) -> Vec<(i64, String, Value, Value)> {
    house.raw(|connection| {
        let mut statement = connection
            .prepare(&format!("SELECT rowid, * FROM {table}"))
            .unwrap();
        let names: Vec<String> = statement.column_names().map(str::to_owned).collect();
        let mut rows = statement.query([]).unwrap();
        let mut all = Vec::new();
        while let Some(row) = rows.next().unwrap() {
            let id: i64 = row.get(0).unwrap();
            for (at, name) in names.iter().enumerate().skip(1) {
                let old: Value = row.get(at).unwrap();
                let flipped: Vec<Value> = match &old {
                    Value::Integer(number) => [0, 1, 20, 62]
                        .iter()
                        .map(|bit| Value::Integer(number ^ (1 << bit)))
                        .collect(),
                    Value::Blob(bytes) => {
                        let step = (bytes.len() / 6).max(1);
                        let places = (0..bytes.len()).step_by(step).chain([bytes.len() - 1]);
                        places
                            .map(|place| {
                                let mut bytes = bytes.clone();
                                bytes[place] ^= 1 << (place % 8);
                                Value::Blob(bytes)
                            })
                            .collect()
                    }
                    Value::Text(text) => (0..text.len().min(6))
                        .map(|place| {
                            let mut bytes = text.clone().into_bytes();
                            bytes[place] ^= 1;
                            Value::Text(String::from_utf8(bytes).unwrap())
                        })
                        .collect(),
                    Value::Null => vec![Value::Integer(1)],
                    Value::Real(_) => unreachable!(),
                };
                all.extend(
                    flipped
                        .into_iter()
                        .map(|new| (id, name.clone(), old.clone(), new)),
                );
            }
        }
        all
    })
}

#[tokio::test]
async fn nothing_of_a_value_or_a_name_lies_in_the_store_in_the_open() {
    let house = House::new().await;
    house.create("marked-name/inside", "MARKED-value").await;
    let which = named("marked-name/inside");
    let about = house
        .vault
        .update(&house.by, &house.workspace, &which, |about| {
            about
                .tags
                .insert("markedtag".to_owned(), "MARKED-tag".to_owned());
            about.description = "MARKED-description".to_owned();
            Ok(())
        });
    about.await.unwrap();
    house
        .put("marked-name/inside", "MARKED-second")
        .await
        .unwrap();
    house.vault.db.close().await;
    let mut read = 0;
    for file in std::fs::read_dir(house.folder.path()).unwrap() {
        let path = file.unwrap().path();
        let Ok(bytes) = std::fs::read(&path) else {
            continue;
        };
        read += bytes.len();
        let text = String::from_utf8_lossy(&bytes).to_lowercase();
        assert!(!text.contains("marked"), "{}", path.display());
        assert!(!text.contains(&house.key.text().to_lowercase()));
    }
    assert!(read > 10_000);
}
