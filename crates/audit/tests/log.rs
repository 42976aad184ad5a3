//! The log over a store: what is committed is in it, and what is in it can be proven; whatever is
//! changed afterwards is noticed.

#![expect(clippy::unwrap_used, reason = "a failed expectation is a failed test")]

use std::fs;
use std::path::Path;
use std::sync::Arc;

use skep_audit::verify::{self, CHECKPOINT, tile_path};
use skep_audit::{
    AuditError, Commitment, Entry, Exported, Filter, Kind, Log, LogKey, MIGRATIONS, PublicKey,
    Thing, Whose, WitnessKey, WitnessPublicKey, Written, commit_person, erase_person, proof_text,
    reveal,
};
use skep_core::{Timestamp, Workspace};
use skep_store::{Db, Options, StoreError};
use tempfile::TempDir;

struct Fixture {
    folder: TempDir,
    key: String,
    db: Db,
    log: Log,
}

fn open(folder: &Path) -> Db {
    let options = Options::new(folder).recorder(Arc::new(Written));
    Db::open(options, &[MIGRATIONS]).unwrap()
}

impl Fixture {
    async fn new() -> Self {
        let folder = TempDir::new().unwrap();
        let (key, text) = LogKey::generate().unwrap();
        let db = open(folder.path());
        let log = Log::open(db.clone(), key).await.unwrap();
        Self {
            folder,
            key: text,
            db,
            log,
        }
    }

    fn public(&self) -> PublicKey {
        self.log.public_key().clone()
    }

    /// Closes the store and opens it again.
    async fn again(self) -> Self {
        let Self {
            folder,
            key,
            db,
            log,
        } = self;
        drop(log);
        db.close().await;
        drop(db);
        let db = open(folder.path());
        let log = Log::open(db.clone(), LogKey::parse(&key).unwrap())
            .await
            .unwrap();
        Self {
            folder,
            key,
            db,
            log,
        }
    }

    async fn add(&self, from: u64, to: u64) {
        let added: Result<(), StoreError> = self
            .db
            .write(move |unit| {
                for number in from..to {
                    unit.record(entry(number).to_bytes())?;
                }
                Ok(())
            })
            .await;
        added.unwrap();
    }
}

fn entry(number: u64) -> Entry<'static> {
    let (who, action) = match number % 3 {
        0 => ("key_0", "agent:deploy"),
        1 => ("key_1", "agent:read"),
        _ => ("key_2", "call:read"),
    };
    let now = Timestamp::from_micros(1_700_000_000_000_000);
    let mut entry = Entry::new(
        now,
        Thing::new("ApiKey", who),
        action,
        Thing::new("Agent", number.to_string()),
    );
    entry.workspace = Some(
        if number.is_multiple_of(2) {
            "even"
        } else {
            "odd"
        }
        .into(),
    );
    entry
}

/// Writes the whole log as tiles to a folder.
async fn write_tiles(log: &Log, folder: &Path) {
    let head = log.checkpoint().await.unwrap();
    let put = |path: &str, bytes: &[u8]| {
        let path = folder.join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, bytes).unwrap();
    };
    put(CHECKPOINT, &head.note);
    let tiles = head.size.div_ceil(256);
    for number in 0..tiles {
        let width = usize::try_from(head.size - number * 256).unwrap().min(256);
        let hashes = log.tile(0, number, width).await.unwrap().unwrap();
        put(&tile_path("0", number, width), &hashes);
        let bundle = log.bundle(number, width).await.unwrap();
        put(&tile_path("entries", number, width), &bundle);
    }
    for number in 0..head.size / 65_536 {
        let hashes = log.tile(1, number, 256).await.unwrap().unwrap();
        put(&tile_path("1", number, 256), &hashes);
    }
}

#[tokio::test]
async fn a_change_has_its_entry_or_neither_is_there() {
    let fixture = Fixture::new().await;
    fixture.add(1, 4).await;
    let refused: Result<(), StoreError> = fixture
        .db
        .write(|unit| {
            unit.record(entry(4).to_bytes())?;
            Err(StoreError::Statement("changed my mind".to_owned()))
        })
        .await;
    assert!(refused.is_err());
    // What cannot be written down takes its unit with it.
    let too_long: Result<(), StoreError> = fixture
        .db
        .write(|unit| {
            unit.server()
                .execute("UPDATE audit_log SET size = 77 WHERE id = 1", &[])?;
            unit.record(vec![b'x'; 70_000])
        })
        .await;
    assert!(too_long.is_err());
    fixture.add(4, 5).await;
    let found = fixture.log.tail(Filter::default(), 1, 100).await.unwrap().0;
    let bytes: Vec<_> = (1..5).map(|number| entry(number).to_bytes()).collect();
    assert_eq!(
        found.into_iter().map(|it| it.bytes).collect::<Vec<_>>(),
        bytes
    );

    // Without somebody who writes it down nothing can be recorded.
    let folder = TempDir::new().unwrap();
    let db = Db::open(Options::new(folder.path()), &[MIGRATIONS]).unwrap();
    let unheard: Result<(), StoreError> = db.write(|unit| unit.record(vec![])).await;
    assert!(unheard.is_err());
}

#[tokio::test]
async fn every_entry_is_proven_and_nothing_else_is() {
    let mut fixture = Fixture::new().await;
    let public = fixture.public();
    let mut before = fixture.log.checkpoint().await.unwrap();
    // The first entry is the log's own: which key signs it.
    let mut size = 1;
    // Batches of every size, across the edges of tiles, and restarts in between.
    for more in [1, 1, 2, 5, 250, 3, 700, 256, 1, 511] {
        fixture.add(size, size + more).await;
        size += more;
        if more > 200 {
            fixture = fixture.again().await;
        }
        let head = fixture.log.checkpoint().await.unwrap();
        assert_eq!(head.size, size);
        assert_eq!(verify::head(&head.note, &public).unwrap(), head);
        if before.size > 0 {
            let proof = fixture.log.consistency(before.size, size).await.unwrap();
            verify::grows(&before, &head, &proof).unwrap();
        }
        before = head;
    }
    for number in (1..size).step_by(37).chain([size - 1]) {
        let (found, proof, head) = fixture.log.prove(number).await.unwrap();
        assert_eq!(found.bytes, entry(number).to_bytes());
        let text = proof_text(number, &proof, &head);
        let (proven, _) = verify::entry(&found.bytes, &text, &public).unwrap();
        assert_eq!(proven, number);
        // Another entry, another number, another key, another proof.
        let other = entry(number + 1).to_bytes();
        assert!(verify::entry(&other, &text, &public).is_err());
        let moved = text.replacen(
            &format!("index {number}\n"),
            &format!("index {}\n", number + 1),
            1,
        );
        assert!(verify::entry(&found.bytes, &moved, &public).is_err());
        let (stranger, _) = LogKey::generate().unwrap();
        let unsigned = verify::entry(&found.bytes, &text, stranger.public());
        assert!(
            matches!(unsigned, Err(AuditError::Signature(_))),
            "{unsigned:?}"
        );
    }
    let none = fixture.log.prove(size).await;
    assert!(matches!(none, Err(AuditError::NoEntry { .. })), "{none:?}");
}

#[tokio::test]
async fn an_export_is_believed_as_it_is_only() {
    let fixture = Fixture::new().await;
    fixture.add(1, 300).await;
    let public = fixture.public();
    let filter = Filter {
        workspace: Some("odd".to_owned()),
        ..Filter::default()
    };
    let head = fixture.log.checkpoint().await.unwrap();
    let (mut export, mut text) = Exported::begin(&public, &head, None).unwrap();
    let (found, _) = fixture.log.tail(filter, 0, 20).await.unwrap();
    for one in &found {
        let (_, proof, _) = fixture.log.prove(one.number).await.unwrap();
        text += &export.entry(one, &proof).unwrap();
    }
    text += &export.end().unwrap();
    let mut seen = Vec::new();
    let verified = verify::export(text.as_bytes(), &public, |number, _| seen.push(number)).unwrap();
    assert_eq!((verified.entries, verified.head), (20, head));
    assert!(seen.iter().all(|number| number % 2 == 1), "{seen:?}");
    // Any byte that says something.
    for at in (0..text.len()).step_by(131) {
        let mut bytes = text.clone().into_bytes();
        bytes[at] ^= 1;
        let noticed = verify::export(&bytes[..], &public, |_, _| {});
        let line = text[..at].lines().count();
        // Its first line names a key, which nobody believes anyway.
        let named = text.find("\"checkpoint\"").unwrap();
        assert!(noticed.is_err() || at < named, "byte {at} in line {line}");
    }
    for length in (0..text.len() - 1).step_by(173) {
        assert!(
            verify::export(&text.as_bytes()[..length], &public, |_, _| {}).is_err(),
            "{length}"
        );
    }
    let mut lines: Vec<&str> = text.lines().collect();
    lines.remove(3);
    let fewer = lines.join("\n") + "\n";
    assert!(verify::export(fewer.as_bytes(), &public, |_, _| {}).is_err());
}

#[tokio::test]
async fn a_log_that_was_changed_cut_forked_or_rolled_back_is_noticed() {
    let fixture = Fixture::new().await;
    let public = fixture.public();
    fixture.add(1, 400).await;
    let early = fixture.log.checkpoint().await.unwrap();
    fixture.add(400, 700).await;
    let work = TempDir::new().unwrap();
    let whole = work.path().join("whole");
    write_tiles(&fixture.log, &whole).await;
    let mut count = 0;
    let verified = verify::tiles(&whole, &public, Some(&early), |_, _| count += 1).unwrap();
    assert_eq!((verified.entries, count), (700, 700));

    // A byte anywhere in an entry, or in a tile.
    for path in [
        tile_path("entries", 1, 256),
        tile_path("entries", 2, 188),
        tile_path("0", 0, 256),
    ] {
        let path = whole.join(path);
        let bytes = fs::read(&path).unwrap();
        for at in [2, bytes.len() / 2, bytes.len() - 1] {
            let mut tampered = bytes.clone();
            tampered[at] ^= 1;
            fs::write(&path, tampered).unwrap();
            let noticed = verify::tiles(&whole, &public, None, |_, _| {});
            assert!(
                matches!(noticed, Err(AuditError::Damaged(_))),
                "{at}: {noticed:?}"
            );
        }
        fs::write(&path, &bytes[..bytes.len() - 3]).unwrap();
        assert!(verify::tiles(&whole, &public, None, |_, _| {}).is_err());
        fs::write(&path, bytes).unwrap();
    }
    // Another checkpoint of the same size, signed by another.
    let stranger = Fixture::new().await;
    stranger.add(1, 700).await;
    let foreign = stranger.log.checkpoint().await.unwrap();
    let own = fs::read(whole.join(CHECKPOINT)).unwrap();
    fs::write(whole.join(CHECKPOINT), &foreign.note).unwrap();
    let noticed = verify::tiles(&whole, &public, None, |_, _| {});
    assert!(
        matches!(noticed, Err(AuditError::Signature(_))),
        "{noticed:?}"
    );
    fs::write(whole.join(CHECKPOINT), own).unwrap();
}

#[tokio::test]
async fn a_window_is_as_it_was_or_says_what_is_not() {
    let fixture = Fixture::new().await;
    let begun = Timestamp::from_micros(0);
    fixture.add(1, 400).await;
    let early = fixture.log.checkpoint().await.unwrap();
    // One of each hour is kept: this one was signed in another.
    let aged: Result<_, StoreError> = fixture
        .db
        .write(|unit| {
            unit.server()
                .execute("UPDATE audit_checkpoints SET at = 1", &[])
        })
        .await;
    aged.unwrap();
    fixture.add(400, 700).await;
    let mut count = 0;
    let whole = fixture.log.window(begun, 10_000, |_| count += 1).await;
    let whole = whole.unwrap();
    assert_eq!((whole.damage, whole.verified, count), (None, 700, 700));
    assert_eq!(whole.earlier, Some(early.size));
    assert!(!whole.cut && !whole.pruned);
    let cut = fixture.log.window(begun, 300, |_| {}).await.unwrap();
    assert!(cut.cut && cut.verified == 300);
    let later = Timestamp::from_micros(i64::MAX / 2);
    let none = fixture.log.window(later, 300, |_| {}).await.unwrap();
    assert_eq!((none.verified, none.damage), (0, None));

    // The note that is kept of the earlier head, with another root.
    let changed: Result<_, StoreError> = fixture
        .db
        .write(move |unit| {
            let note = String::from_utf8_lossy(&early.note).replacen("\n400\n", "\n401\n", 1);
            let with = [note.as_bytes().into()];
            let change = "UPDATE audit_checkpoints SET note = ?1 WHERE at = 1";
            unit.server().execute(change, &with)
        })
        .await;
    assert_eq!(changed.unwrap(), 1);
    let forged = fixture.log.window(begun, 10_000, |_| {}).await.unwrap();
    assert!(forged.damage.is_some(), "{forged:?}");

    // An entry of a full tile, the tile itself, and the last entry of all.
    for change in [
        "UPDATE audit_tiles SET hashes = zeroblob(8192) WHERE level = 0 AND number = 0",
        "UPDATE audit_batches SET bundle = (SELECT bundle FROM audit_batches WHERE first = 0) \
         WHERE first = 400",
    ] {
        let fixture = Fixture::new().await;
        fixture.add(1, 400).await;
        fixture.add(400, 401).await;
        fixture.log.checkpoint().await.unwrap();
        let changed: Result<_, StoreError> = fixture
            .db
            .write(move |unit| unit.server().execute(change, &[]))
            .await;
        changed.unwrap();
        let damaged = fixture.log.window(begun, 10_000, |_| {}).await.unwrap();
        assert!(damaged.damage.is_some(), "{change}: {damaged:?}");
    }
}

#[tokio::test]
async fn who_saw_the_log_notices_another_history_of_it() {
    let fixture = Fixture::new().await;
    let public = fixture.public();
    fixture.add(1, 400).await;
    let early = fixture.log.checkpoint().await.unwrap();
    fixture.add(400, 700).await;
    let work = TempDir::new().unwrap();
    // Whoever has the key can write another one.
    let forger = TempDir::new().unwrap();
    let db = open(forger.path());
    let forged = Log::open(db.clone(), LogKey::parse(&fixture.key).unwrap())
        .await
        .unwrap();
    let other: Result<(), StoreError> = db
        .write(|unit| {
            for number in 1..800 {
                unit.record(entry(if number == 7 { 9_999 } else { number }).to_bytes())?;
            }
            Ok(())
        })
        .await;
    other.unwrap();
    let fork = work.path().join("fork");
    write_tiles(&forged, &fork).await;
    verify::tiles(&fork, &public, None, |_, _| {}).unwrap();
    let noticed = verify::tiles(&fork, &public, Some(&early), |_, _| {});
    assert!(
        matches!(noticed, Err(AuditError::Rewritten(_))),
        "{noticed:?}"
    );
    let late = forged.checkpoint().await.unwrap();
    let proof = forged.consistency(400, 800).await.unwrap();
    let noticed = verify::grows(&early, &late, &proof);
    assert!(
        matches!(noticed, Err(AuditError::Rewritten(_))),
        "{noticed:?}"
    );
    // And one that is shorter than it was.
    let last = fixture.log.checkpoint().await.unwrap();
    let noticed = verify::grows(&last, &early, &[]);
    assert!(
        matches!(noticed, Err(AuditError::RolledBack { had: 700, has: 400 })),
        "{noticed:?}"
    );
}

#[tokio::test]
async fn a_start_refuses_a_log_that_lost_entries_and_another_key() {
    let fixture = Fixture::new().await;
    fixture.add(1, 10).await;
    fixture.log.checkpoint().await.unwrap();
    let Fixture {
        folder,
        key,
        db,
        log,
    } = fixture;
    drop(log);
    let (stranger, _) = LogKey::generate().unwrap();
    let refused = Log::open(db.clone(), stranger).await;
    assert!(matches!(refused, Err(AuditError::Key(_))));
    let cut: Result<_, StoreError> = db
        .write(|unit| {
            unit.server()
                .execute("UPDATE audit_log SET size = 5 WHERE id = 1", &[])
        })
        .await;
    cut.unwrap();
    let refused = Log::open(db.clone(), LogKey::parse(&key).unwrap()).await;
    assert!(matches!(
        refused,
        Err(AuditError::RolledBack { had: 10, has: 5 })
    ));
    drop(folder);
}

#[tokio::test]
async fn entries_are_found_by_what_they_say() {
    let fixture = Fixture::new().await;
    for from in 0..20 {
        fixture.add(from * 30 + 1, (from + 1) * 30 + 1).await;
    }
    let filter = Filter {
        workspace: Some("odd".to_owned()),
        action: Some("agent".to_owned()),
        principal: Some("key_1".to_owned()),
        ..Filter::default()
    };
    let mut found = Vec::new();
    let mut before = None;
    loop {
        let page = fixture.log.search(filter.clone(), before, 7).await.unwrap();
        found.extend(page.found.into_iter().map(|it| it.number));
        before = page.before;
        if before.is_none() {
            break;
        }
    }
    let wanted: Vec<u64> = (1..601)
        .rev()
        .filter(|it| it % 2 == 1 && it % 3 == 1)
        .collect();
    assert_eq!(found, wanted);
    let (mut oldest, mut from) = (Vec::new(), 0);
    while let (more, next) = fixture.log.tail(filter.clone(), from, 7).await.unwrap()
        && next > from
    {
        oldest.extend(more.into_iter().map(|it| it.number));
        from = next;
    }
    oldest.reverse();
    assert_eq!(oldest, wanted);
}

#[tokio::test]
async fn a_witness_signs_what_grew_and_nothing_else() {
    let fixture = Fixture::new().await;
    let log = fixture.public();
    let now = Timestamp::from_micros(1_700_000_000_000_000);
    let (witness, text) = WitnessKey::generate("witness.example").unwrap();
    let again = WitnessKey::parse(&text).unwrap();
    assert_eq!(again.public().to_string(), witness.public().to_string());
    fixture.add(1, 40).await;
    let first = fixture.log.checkpoint().await.unwrap();
    let seen = witness.cosign(&log, None, &first.note, &[], now).unwrap();
    let public = WitnessPublicKey::parse(&witness.public().to_string()).unwrap();
    public.check(&seen.note).unwrap();
    // The log's own signature still holds, and the witness's is not in what it did not sign.
    assert_eq!(verify::head(&seen.note, &log).unwrap().root, first.root);
    assert!(public.check(&first.note).is_err());
    let (other, _) = WitnessKey::generate("witness.example").unwrap();
    assert!(other.public().check(&seen.note).is_err());
    let moved = String::from_utf8(seen.note.clone())
        .unwrap()
        .replacen("\n40\n", "\n41\n", 1);
    assert!(public.check(moved.as_bytes()).is_err());

    fixture.add(40, 90).await;
    let later = fixture.log.checkpoint().await.unwrap();
    let proof = fixture.log.consistency(40, 90).await.unwrap();
    let refused = witness.cosign(&log, Some(&seen), &later.note, &proof[1..], now);
    assert!(
        matches!(refused, Err(AuditError::Rewritten(_))),
        "{refused:?}"
    );
    let seen = witness
        .cosign(&log, Some(&seen), &later.note, &proof, now)
        .unwrap();
    let refused = witness.cosign(&log, Some(&seen), &first.note, &[], now);
    assert!(
        matches!(refused, Err(AuditError::RolledBack { .. })),
        "{refused:?}"
    );
}

/// Whether any file of the folder has these bytes.
fn holds(folder: &Path, wanted: &str) -> bool {
    fs::read_dir(folder).unwrap().any(|file| {
        let path = file.unwrap().path();
        let bytes = match path.is_file() {
            true => fs::read(&path).unwrap(),
            false => Vec::new(),
        };
        let wanted = wanted.as_bytes();
        bytes.windows(wanted.len()).any(|some| some == wanted)
    })
}

async fn commit(
    db: &Db,
    workspace: &Workspace,
    whose: Option<String>,
    values: Vec<(Kind, String)>,
) -> Vec<Commitment<'static>> {
    let workspace = workspace.clone();
    let made: Result<_, StoreError> = db
        .write(move |unit| {
            let now = unit.now();
            let mut made = Vec::new();
            for (kind, value) in values {
                let whose = whose.as_deref().map_or(Whose::Somebody, Whose::User);
                let scope = &mut unit.scope(&workspace);
                let one = commit_person(scope, whose, kind, &value, now)?;
                let mut told = entry(1);
                told.personal.push(one.clone());
                unit.record(told.to_bytes())?;
                made.push(one);
            }
            Ok(made)
        })
        .await;
    made.unwrap()
}

async fn known(db: &Db, workspace: &Workspace, one: &Commitment<'_>) -> Option<String> {
    let (workspace, of) = (workspace.clone(), one.commitment.to_string());
    let known: Result<_, StoreError> = db
        .read(move |reader| reveal(&mut reader.scope(&workspace), [of.as_str()]))
        .await;
    known.unwrap().remove(&*one.commitment)
}

#[tokio::test]
async fn who_is_erased_is_in_no_file_and_the_log_is_as_it_was() {
    let fixture = Fixture::new().await;
    let workspace = Workspace::new("even").unwrap();
    let db = &fixture.db;
    // In an order that divides pages of the index in their middle, between entries of the log.
    let address = |number: u64| {
        let mixed = number.wrapping_mul(0x9e37_79b9_7f4a_7c15);
        (Kind::Address, format!("2001:db8::{mixed:016x}"))
    };
    let mut made = Vec::new();
    for from in (0..2_000).step_by(50) {
        made.extend(
            commit(
                db,
                &workspace,
                None,
                (from..from + 50).map(address).collect(),
            )
            .await,
        );
    }
    let mail = |name: &str| vec![(Kind::Email, format!("{name}@example.com"))];
    let ada = commit(db, &workspace, Some("usr_ada".to_owned()), mail("ada")).await;
    let eve = commit(db, &workspace, Some("usr_eve".to_owned()), mail("eve")).await;
    let before = fixture.log.checkpoint().await.unwrap();
    let mut persons: Vec<String> = made
        .iter()
        .step_by(40)
        .map(|it| it.person.to_string())
        .collect();
    persons.push("usr_eve".to_owned());
    let gone: Vec<String> = (0..2_000)
        .step_by(40)
        .map(|number| address(number).1)
        .collect();
    for person in persons.clone() {
        let of = workspace.clone();
        let erased: Result<usize, StoreError> = db
            .write(move |unit| erase_person(&mut unit.scope(&of), &person))
            .await;
        assert!(erased.unwrap() > 0);
    }
    assert!(db.settle().await.unwrap());
    for value in &gone {
        assert!(
            !holds(fixture.folder.path(), value),
            "{value} is somewhere still"
        );
    }
    // What was not erased is there, or this test would see nothing.
    assert!(holds(fixture.folder.path(), &address(1).1));
    assert_eq!(known(db, &workspace, &made[1]).await, Some(address(1).1));
    assert_eq!(known(db, &workspace, &made[0]).await, None);
    assert_eq!(known(db, &workspace, &eve[0]).await, None);
    assert_eq!(
        known(db, &workspace, &ada[0]).await.as_deref(),
        Some("ada@example.com")
    );

    // Who comes again is somebody else: nothing leads back to what was erased.
    let anew = commit(db, &workspace, None, vec![address(0)]).await;
    assert_ne!(anew[0].person, made[0].person);
    assert_ne!(anew[0].commitment, made[0].commitment);
    let fixture = fixture.again().await;
    let head = fixture.log.checkpoint().await.unwrap();
    let proof = fixture
        .log
        .consistency(before.size, head.size)
        .await
        .unwrap();
    verify::grows(&before, &head, &proof).unwrap();
    let work = TempDir::new().unwrap();
    write_tiles(&fixture.log, work.path()).await;
    verify::tiles(work.path(), &fixture.public(), Some(&before), |_, _| {}).unwrap();
}

#[tokio::test]
async fn a_commitment_is_of_one_person_in_one_workspace() {
    let fixture = Fixture::new().await;
    let workspace = Workspace::new("even").unwrap();
    let db = &fixture.db;
    let mail = vec![
        (Kind::Email, "ada@example.com".to_owned()),
        (Kind::Address, "192.0.2.77".to_owned()),
    ];
    let ada = commit(db, &workspace, Some("usr_ada".to_owned()), mail.clone()).await;
    // The same is the same, somebody else's or elsewhere is another.
    let again = commit(db, &workspace, Some("usr_ada".to_owned()), mail.clone()).await;
    assert_eq!(ada, again);
    let other = commit(db, &workspace, Some("usr_eve".to_owned()), mail.clone()).await;
    let elsewhere = Workspace::new("odd").unwrap();
    let there = commit(db, &elsewhere, Some("usr_ada".to_owned()), mail).await;
    assert_ne!(ada[0].commitment, other[0].commitment);
    assert_ne!(ada[0].commitment, there[0].commitment);
    assert_eq!(
        known(db, &workspace, &ada[0]).await.as_deref(),
        Some("ada@example.com")
    );
    assert_eq!(known(db, &elsewhere, &ada[0]).await, None);
}

#[tokio::test]
async fn the_oldest_of_those_who_are_known_by_an_address_make_room() {
    let fixture = Fixture::new().await;
    let workspace = Workspace::default();
    let address = |number: u64| {
        (
            Kind::Address,
            format!("198.51.{}.{}", number / 256, number % 256),
        )
    };
    let user = vec![(Kind::Email, "ada@example.com".to_owned())];
    let ada = commit(&fixture.db, &workspace, Some("usr_ada".to_owned()), user).await;
    let first = commit(&fixture.db, &workspace, None, vec![address(0)]).await;
    for from in (1..11_001).step_by(1_000) {
        let some = (from..from + 1_000).map(address).collect();
        commit(&fixture.db, &workspace, None, some).await;
    }
    let last = commit(&fixture.db, &workspace, None, vec![address(11_001)]).await;
    assert_eq!(known(&fixture.db, &workspace, &first[0]).await, None);
    assert!(known(&fixture.db, &workspace, &last[0]).await.is_some());
    assert!(known(&fixture.db, &workspace, &ada[0]).await.is_some());
}
