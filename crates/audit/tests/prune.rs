//! Retention: what is old loses its body and nothing else; what was taken out in another way is noticed.

#![expect(clippy::unwrap_used, reason = "a failed expectation is a failed test")]

use std::fs;
use std::path::Path;
use std::sync::Arc;

use skep_audit::verify::{self, CHECKPOINT, Verified, tile_path};
use skep_audit::{
    AuditError, Entry, Exported, Filter, Log, LogKey, MIGRATIONS, PublicKey, Thing, Written,
    split_bundle,
};
use skep_core::Timestamp;
use skep_store::{Db, Options, StoreError};
use tempfile::TempDir;

struct Fixture {
    folder: TempDir,
    key: String,
    db: Db,
    log: Log,
}

impl Fixture {
    async fn at(folder: TempDir, key: String) -> Self {
        let options = Options::new(folder.path()).recorder(Arc::new(Written));
        let db = Db::open(options, &[MIGRATIONS]).unwrap();
        let log = Log::open(db.clone(), LogKey::parse(&key).unwrap()).await;
        Self {
            log: log.unwrap(),
            folder,
            key,
            db,
        }
    }

    async fn new() -> Self {
        Self::at(TempDir::new().unwrap(), LogKey::generate().unwrap().1).await
    }

    async fn again(self) -> Self {
        self.db.close().await;
        Self::at(self.folder, self.key).await
    }

    fn public(&self) -> PublicKey {
        self.log.public_key().clone()
    }

    /// Adds entries, so many a transaction.
    async fn add(&self, from: u64, to: u64, each: usize) {
        for first in (from..to).step_by(each) {
            let added: Result<(), StoreError> = self
                .db
                .write(move |unit| {
                    let now = unit.now();
                    for number in first..(first + each as u64).min(to) {
                        unit.record(entry(number, now).to_bytes())?;
                    }
                    Ok(())
                })
                .await;
            added.unwrap();
        }
    }

    /// A moment after all that was added, and before all that will be.
    fn now(&self) -> Timestamp {
        let now = self.db.clock().now();
        let next = Timestamp::from_micros(now.as_micros() + 1);
        while self.db.clock().now() <= next {}
        next
    }

    async fn pruned(&self) -> u64 {
        self.log.pruned().await.unwrap().map_or(0, |(to, _)| to)
    }

    /// The whole log as a folder of tiles.
    async fn tiles(&self) -> TempDir {
        let folder = TempDir::new().unwrap();
        let head = self.log.checkpoint().await.unwrap();
        let put = |path: &str, bytes: &[u8]| {
            let path = folder.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, bytes).unwrap();
        };
        put(CHECKPOINT, &head.note);
        for number in 0..head.size.div_ceil(256) {
            let width = usize::try_from(head.size - number * 256).unwrap().min(256);
            let hashes = self.log.tile(0, number, width).await.unwrap().unwrap();
            put(&tile_path("0", number, width), &hashes);
            let bundle = self.log.bundle(number, width).await.unwrap();
            put(&tile_path("entries", number, width), &bundle);
        }
        folder
    }

    /// An export of everything, as the server makes it.
    async fn export(&self) -> String {
        let (log, head) = (&self.log, self.log.checkpoint().await.unwrap());
        let (kept, told) = log.pruned().await.unwrap().unwrap();
        let proof = log.prove_at(vec![told.number], &head).await.unwrap();
        let of = Some((&told, &proof[0][..]));
        let (mut export, mut text) = Exported::begin(&self.public(), &head, of).unwrap();
        let mut from = 0;
        while from < kept {
            let (hashes, next) = log.hashes(Filter::default(), from, 100).await.unwrap();
            for (number, hash) in &hashes {
                let proof = log.prove_at(vec![*number], &head).await.unwrap();
                text += &export.hash(*number, hash, &proof[0]).unwrap();
            }
            from = next;
        }
        let (found, _) = log.tail(Filter::default(), 0, 10_000).await.unwrap();
        for one in found.iter().filter(|it| it.number < head.size) {
            let proof = log.prove_at(vec![one.number], &head).await.unwrap();
            text += &export.entry(one, &proof[0]).unwrap();
        }
        text + &export.end().unwrap()
    }
}

fn entry(number: u64, now: Timestamp) -> Entry<'static> {
    let who = Thing::new("ApiKey", "key_1");
    Entry::new(
        now,
        who,
        "agent:read",
        Thing::new("Agent", number.to_string()),
    )
}

fn whole(folder: &TempDir, key: &PublicKey) -> Result<Verified, AuditError> {
    verify::tiles(folder.path(), key, None, |_, _| {})
}

fn change(folder: &Path, path: &str, with: impl FnOnce(&mut Vec<u8>)) {
    let path = folder.join(path);
    let mut bytes = fs::read(&path).unwrap();
    with(&mut bytes);
    fs::write(&path, bytes).unwrap();
}

/// A bundle in which some entries have no bytes.
fn emptied(bundle: &[u8], empty: impl Fn(usize) -> bool) -> Vec<u8> {
    let mut other = Vec::new();
    for (at, entry) in split_bundle(bundle).unwrap().into_iter().enumerate() {
        let entry = if empty(at) { &[][..] } else { entry };
        other.extend(u16::try_from(entry.len()).unwrap().to_be_bytes());
        other.extend(entry);
    }
    other
}

#[tokio::test]
async fn what_is_old_goes_and_every_proof_about_the_rest_stays() {
    let fixture = Fixture::new().await;
    let public = fixture.public();
    // Across edges of tiles and of batches; the first entry is the log's own.
    fixture.add(1, 300, 7).await;
    let early = fixture.log.checkpoint().await.unwrap();
    fixture.add(300, 700, 1).await;
    let before = fixture.log.checkpoint().await.unwrap();
    let moment = fixture.now();
    fixture.add(700, 760, 3).await;

    assert_eq!(fixture.log.prune(moment).await.unwrap(), 700);
    assert_eq!(fixture.log.prune(moment).await.unwrap(), 0);
    let fixture = fixture.again().await;
    assert_eq!(fixture.log.prune(moment).await.unwrap(), 0);
    assert_eq!(fixture.pruned().await, 700);
    let head = fixture.log.checkpoint().await.unwrap();
    for old in [&early, &before] {
        let proof = fixture.log.consistency(old.size, head.size).await.unwrap();
        verify::grows(old, &head, &proof).unwrap();
    }
    for number in [0, 1, 255, 256, 699] {
        let gone = fixture.log.prove(number).await;
        assert!(matches!(gone, Err(AuditError::Pruned { .. })), "{gone:?}");
    }
    for number in [700, 759, head.size - 1] {
        let (found, proof, head) = fixture.log.prove(number).await.unwrap();
        let text = skep_audit::proof_text(number, &proof, &head);
        assert_eq!(
            verify::entry(&found.bytes, &text, &public).unwrap().0,
            number
        );
    }
    let found = fixture
        .log
        .search(Filter::default(), None, 1_000)
        .await
        .unwrap();
    assert_eq!(found.found.last().unwrap().number, 700);
    let told = fixture.log.pruned().await.unwrap().unwrap().1;
    assert!(String::from_utf8_lossy(&told.bytes).contains("entries below 700"));

    let tiles = fixture.tiles().await;
    let verified = verify::tiles(tiles.path(), &public, Some(&before), |number, _| {
        assert!(number >= 700);
    });
    let verified = verified.unwrap();
    assert_eq!((verified.entries, verified.pruned), (head.size, 700));
    let export = fixture.export().await;
    let verified = verify::export(export.as_bytes(), &public, |_, _| {}).unwrap();
    assert_eq!((verified.entries, verified.pruned), (head.size, 700));
    // The log goes on, and is pruned again.
    let moment = fixture.now();
    fixture.add(800, 820, 2).await;
    assert_eq!(fixture.log.prune(moment).await.unwrap(), head.size - 700);
    assert_eq!(
        whole(&fixture.tiles().await, &public).unwrap().pruned,
        head.size
    );
}

#[tokio::test]
async fn nobody_passes_off_as_pruned_what_was_not() {
    let fixture = Fixture::new().await;
    let public = fixture.public();
    fixture.add(1, 300, 5).await;
    let moment = fixture.now();
    fixture.add(300, 520, 5).await;
    fixture.log.prune(moment).await.unwrap();
    let kept = tile_path("entries", 1, 256);
    let hashes = tile_path("0", 0, 256);
    type Change = Box<dyn FnOnce(&mut Vec<u8>)>;
    let all: [(&str, &str, Change); 4] = [
        (
            "the hash of a pruned entry",
            &hashes,
            Box::new(|it| it[40] ^= 1),
        ),
        ("a hash is missing", &hashes, Box::new(|it| it.truncate(64))),
        (
            "the entry behind them",
            &kept,
            Box::new(|it| *it = emptied(it, |at| at <= 300 - 256)),
        ),
        (
            "an entry among those that are kept",
            &kept,
            Box::new(|it| *it = emptied(it, |at| at < 300 - 256 || at == 100)),
        ),
    ];
    for (what, path, with) in all {
        let folder = fixture.tiles().await;
        whole(&folder, &public).unwrap();
        change(folder.path(), path, with);
        let noticed = whole(&folder, &public);
        assert!(
            matches!(noticed, Err(AuditError::Damaged(_))),
            "{what}: {noticed:?}"
        );
    }
    // A line of a kept entry that has its hash in its place, with a right proof.
    let export = fixture.export().await;
    let head = fixture.log.checkpoint().await.unwrap();
    let proof = fixture.log.prove_at(vec![400], &head).await.unwrap();
    let leaf = fixture.log.tile(0, 1, 256).await.unwrap().unwrap();
    let leaf: [u8; 32] = leaf[(400 - 256) * 32..][..32].try_into().unwrap();
    let (mut other, _) = Exported::begin(&public, &head, None).unwrap();
    let line = other.hash(400, &skep_audit::Hash(leaf), &proof[0]).unwrap();
    let lines = export
        .lines()
        .map(|one| match one.contains("\"number\":400,") {
            true => line.trim_end(),
            false => one,
        });
    let text = lines.collect::<Vec<_>>().join("\n") + "\n";
    assert_ne!(text, export);
    let noticed = verify::export(text.as_bytes(), &public, |_, _| {});
    let said = noticed.unwrap_err().to_string();
    assert!(said.contains("no entry says that it was pruned"), "{said}");
}

#[tokio::test]
async fn what_was_changed_is_not_forgotten() {
    let fixture = Fixture::new().await;
    fixture.add(1, 300, 300).await;
    fixture.log.checkpoint().await.unwrap();
    let moment = fixture.now();
    let changed: Result<(), StoreError> = fixture
        .db
        .write(|unit| {
            let mut scope = unit.server();
            let rows = scope.query("SELECT bundle FROM audit_batches WHERE first = 1", &[])?;
            let mut bundle = rows[0].blob(0)?.to_vec();
            let at = bundle
                .windows(10)
                .position(|it| it == b"agent:read")
                .unwrap();
            bundle[at] = b'b';
            scope.execute(
                "UPDATE audit_batches SET bundle = ?1 WHERE first = 1",
                &[bundle.as_slice().into()],
            )?;
            Ok(())
        })
        .await;
    changed.unwrap();
    let refused = fixture.log.prune(moment).await;
    assert!(
        matches!(refused, Err(AuditError::Damaged(_))),
        "{refused:?}"
    );
    assert_eq!(fixture.pruned().await, 0);
    let rows = fixture.log.entry(1).await.unwrap();
    assert!(String::from_utf8_lossy(&rows.bytes).contains("bgent:read"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_cut_short_goes_on() {
    let fixture = Fixture::new().await;
    fixture.add(1, 2_000, 1).await;
    let moment = fixture.now();
    let log = fixture.log.clone();
    let pruning = tokio::spawn(async move { log.prune(moment).await });
    while fixture.pruned().await == 0 {
        tokio::task::yield_now().await;
    }
    pruning.abort();
    let _ = pruning.await;
    let fixture = fixture.again().await;
    let done = fixture.pruned().await;
    assert!(done > 0);
    whole(&fixture.tiles().await, &fixture.public()).unwrap();
    assert_eq!(fixture.log.prune(moment).await.unwrap(), 2_000 - done);
    let verified = whole(&fixture.tiles().await, &fixture.public()).unwrap();
    assert_eq!(verified.pruned, 2_000);
}
