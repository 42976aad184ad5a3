//! The log as its server has it: entries are put into the tree after they were committed, its head is
//! signed, and what is asked for is found and proven.

use std::cell::RefCell;
use std::collections::HashMap;
use std::sync::Arc;

use parking_lot::Mutex as SyncMutex;
use signed_note::Note;
use skep_core::Timestamp;
use skep_store::{Db, Reader, StoreError, Unit};
use tlog_tiles::{Checkpoint, Error, Hash, prove_record, prove_tree};
use tokio::sync::Mutex;

use crate::bundle::push;
use crate::read::{
    BATCHES, Batch, as_int, batches, entry, full_tile, hashes, number, pruned, search, tail,
};
use crate::tree::{Edge, FullTile, Hashes, Reading, WIDTH};
use crate::{AuditError, Change, Decision, Entry, LogKey, PublicKey, Thing};
use crate::{prune, verify};

/// Microseconds.
const HOUR: i64 = 3_600_000_000;

/// A signed head of the tree.
#[derive(Debug, Clone, PartialEq)]
pub struct Head {
    /// Entries below it.
    pub size: u64,
    /// The root of the tree.
    pub root: Hash,
    /// The checkpoint as a signed note.
    pub note: Vec<u8>,
}

/// Which entries are asked for. All that is given must be so.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Filter {
    /// Of this workspace.
    pub workspace: Option<String>,
    /// By this principal's id.
    pub principal: Option<String>,
    /// This action, or all that begin with it and a colon (`agent`).
    pub action: Option<String>,
    /// About this resource's id.
    pub resource: Option<String>,
    /// With this decision.
    pub decision: Option<Decision>,
    /// Of this request or call.
    pub request: Option<String>,
    /// Not before this.
    pub since: Option<Timestamp>,
    /// Before this.
    pub until: Option<Timestamp>,
}

impl Filter {
    /// Whether a batch of this time, in microseconds, is asked for.
    pub(crate) fn has(&self, at: i64) -> bool {
        self.since.is_none_or(|since| at >= since.as_micros())
            && self.until.is_none_or(|until| at < until.as_micros())
    }

    /// Whether nothing but workspace and time is asked for: what pruned entries may be in.
    fn takes_pruned(&self) -> bool {
        let Self {
            principal,
            action,
            resource,
            decision,
            request,
            ..
        } = self;
        let texts = [principal, action, resource, request];
        decision.is_none() && texts.iter().all(|text| text.is_none())
    }

    pub(crate) fn takes(&self, entry: &Entry<'_>) -> bool {
        let same = |wanted: &Option<String>, found: Option<&str>| {
            wanted.as_ref().is_none_or(|wanted| found == Some(wanted))
        };
        let action = self.action.as_ref().is_none_or(|wanted| {
            let rest = entry.action.strip_prefix(wanted.as_str());
            rest.is_some_and(|rest| rest.is_empty() || rest.starts_with(':'))
        });
        action
            && same(&self.workspace, entry.workspace.as_deref())
            && same(&self.principal, Some(&entry.principal.id))
            && same(&self.resource, Some(&entry.resource.id))
            && same(&self.request, entry.request.as_deref())
            && self.decision.is_none_or(|wanted| wanted == entry.decision)
    }
}

/// An entry that was found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    /// Its number in the log, from 0.
    pub number: u64,
    /// Its bytes, as they were hashed.
    pub bytes: Vec<u8>,
}

/// Entries, newest first.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Page {
    /// What was found.
    pub found: Vec<Found>,
    /// Where the search goes on: entries below this number.
    pub before: Option<u64>,
}

/// The log. Cheap to clone.
#[derive(Clone)]
pub struct Log {
    inner: Arc<Inner>,
}

struct Inner {
    db: Db,
    key: LogKey,
    edge: Mutex<Edge>,
    head: SyncMutex<Option<Head>>,
}

fn bad(error: &Error) -> AuditError {
    AuditError::damaged(error.to_string())
}

impl Log {
    /// The log of a store. `key` signs it from its first start on.
    ///
    /// # Errors
    /// [`AuditError::Key`] when another key has signed it, [`AuditError::Damaged`],
    /// [`AuditError::RolledBack`] when there are fewer entries than a checkpoint says.
    pub async fn open(db: Db, key: LogKey) -> Result<Self, AuditError> {
        let (public, server) = (key.public().to_string(), db.server().to_string());
        let known: Result<Option<String>, StoreError> = db
            .write(move |unit| first_key(unit, &public, &server))
            .await;
        let known = known?;
        if known.as_deref() != Some(&key.public().to_string()) {
            let known = known.unwrap_or_default();
            return Err(AuditError::Key(format!("this log is signed by {known}")));
        }
        let (edge, size, head) = db.read(load).await?;
        // One that another key signed is of the log that this one goes on from.
        let own = key.public().name()?;
        let head = match head.filter(|note| verify::origin(note).as_deref() == Some(&own)) {
            Some(note) => Some(verify::head(&note, key.public())?),
            None => None,
        };
        if let Some(head) = head.as_ref().filter(|head| head.size > size) {
            return Err(AuditError::RolledBack {
                had: head.size,
                has: size,
            });
        }
        let log = Self {
            inner: Arc::new(Inner {
                db,
                key,
                edge: Mutex::new(edge),
                head: SyncMutex::new(head),
            }),
        };
        log.integrate().await?;
        Ok(log)
    }

    /// Takes the key from a log that was copied: whoever opens it next signs it with a key, and under
    /// a name, of its own, so that nobody takes it for the first.
    ///
    /// # Errors
    /// The store's own.
    pub async fn forget_key(db: &Db) -> Result<(), StoreError> {
        db.write(|unit| {
            unit.server()
                .execute("UPDATE audit_log SET public_key = NULL WHERE id = 1", &[])
                .map(drop)
        })
        .await
    }

    /// What others believe.
    #[must_use]
    pub fn public_key(&self) -> &PublicKey {
        self.inner.key.public()
    }

    /// Puts what was committed since into the tree; tells its size.
    ///
    /// # Errors
    /// [`AuditError::Damaged`] when an entry is missing, and the store's own.
    pub async fn integrate(&self) -> Result<u64, AuditError> {
        let mut edge = self.inner.edge.lock().await;
        self.grow(&mut edge).await
    }

    async fn grow(&self, edge: &mut Edge) -> Result<u64, AuditError> {
        loop {
            let from = edge.size();
            let batches = self
                .inner
                .db
                .read(move |reader| batches(reader, from, BATCHES))
                .await?;
            let more = batches.len() == BATCHES as usize;
            // What goes wrong leaves the edge as it was.
            let mut next = edge.clone();
            let full = hash_batches(&mut next, batches)?;
            if !full.is_empty() {
                self.inner.db.write(move |unit| store(unit, &full)).await?;
            }
            *edge = next;
            if !more {
                return Ok(edge.size());
            }
        }
    }

    /// The head of the tree as it is now, signed and kept.
    ///
    /// # Errors
    /// As [`Self::integrate`].
    pub async fn checkpoint(&self) -> Result<Head, AuditError> {
        let mut edge = self.inner.edge.lock().await;
        let size = self.grow(&mut edge).await?;
        if let Some(head) = self
            .inner
            .head
            .lock()
            .as_ref()
            .filter(|head| head.size == size)
        {
            return Ok(head.clone());
        }
        let root = edge.root().map_err(|error| bad(&error))?;
        let head = self.sign(size, root)?;
        let (at, note) = (self.inner.db.clock().now(), head.note.clone());
        let kept: Result<_, StoreError> = self
            .inner
            .db
            .write(move |unit| {
                let mut scope = unit.server();
                // One of each hour stays.
                let hour = Timestamp::from_micros(at.as_micros() / HOUR * HOUR);
                scope.execute(
                    "DELETE FROM audit_checkpoints WHERE size < ?1 AND at >= ?2",
                    &[as_int(size).into(), hour.into()],
                )?;
                scope.execute(
                    "INSERT INTO audit_checkpoints (size, at, note) VALUES (?1, ?2, ?3) \
                     ON CONFLICT (size) DO NOTHING",
                    &[as_int(size).into(), at.into(), note.as_slice().into()],
                )
            })
            .await;
        kept?;
        *self.inner.head.lock() = Some(head.clone());
        Ok(head)
    }

    fn sign(&self, size: u64, root: Hash) -> Result<Head, AuditError> {
        let key = &self.inner.key;
        let checkpoint = Checkpoint::new(key.origin(), size, root, "")
            .map_err(|error| AuditError::Key(error.to_string()))?;
        let failed = |error: signed_note::NoteError| AuditError::Key(error.to_string());
        let mut note = Note::new(&checkpoint.to_bytes(), &[]).map_err(failed)?;
        note.add_sigs(&[key.signer()]).map_err(failed)?;
        Ok(Head {
            size,
            root,
            note: note.to_bytes(),
        })
    }

    /// The entries that a filter takes, newest first, at most `limit`, those below `before`.
    ///
    /// # Errors
    /// The store's own.
    pub async fn search(
        &self,
        filter: Filter,
        before: Option<u64>,
        limit: usize,
    ) -> Result<Page, AuditError> {
        let work = move |reader: &mut Reader<'_>| search(reader, &filter, before, limit);
        self.inner.db.read(work).await
    }

    /// The entries of a filter from a number on, oldest first, at most `limit`; with the number to go
    /// on from.
    ///
    /// # Errors
    /// The store's own.
    pub async fn tail(
        &self,
        filter: Filter,
        from: u64,
        limit: usize,
    ) -> Result<(Vec<Found>, u64), AuditError> {
        self.inner
            .db
            .read(move |reader| tail(reader, &filter, from, limit))
            .await
    }

    /// An entry.
    ///
    /// # Errors
    /// [`AuditError::Damaged`] when it is not there.
    pub async fn entry(&self, number: u64) -> Result<Found, AuditError> {
        self.inner
            .db
            .read(move |reader| entry(reader, number))
            .await
    }

    /// An entry with the proof that it is in the log.
    ///
    /// # Errors
    /// [`AuditError::NoEntry`], [`AuditError::Damaged`].
    pub async fn prove(&self, number: u64) -> Result<(Found, Vec<Hash>, Head), AuditError> {
        let head = self.checkpoint().await?;
        if number >= head.size {
            return Err(AuditError::NoEntry {
                number,
                size: head.size,
            });
        }
        let found = self
            .inner
            .db
            .read(move |reader| entry(reader, number))
            .await?;
        let proofs = self.prove_at(vec![number], &head).await?;
        let proof = proofs.into_iter().next().unwrap_or_default();
        Ok((found, proof, head))
    }

    /// The proofs that entries are in the log of a head.
    ///
    /// # Errors
    /// [`AuditError::Damaged`].
    pub async fn prove_at(
        &self,
        numbers: Vec<u64>,
        head: &Head,
    ) -> Result<Vec<Vec<Hash>>, AuditError> {
        let edge = self.inner.edge.lock().await.clone();
        let size = head.size;
        let work = move |reader: &mut Reader<'_>| {
            with_hashes(reader, &edge, |hashes| {
                numbers
                    .iter()
                    .map(|number| prove_record(size, *number, hashes))
                    .collect()
            })
        };
        self.inner.db.read(work).await
    }

    /// The number of the first entry that a filter's time allows.
    ///
    /// # Errors
    /// The store's own.
    pub async fn since(&self, filter: &Filter) -> Result<u64, AuditError> {
        let Some(since) = filter.since else {
            return Ok(0);
        };
        let work = move |reader: &mut Reader<'_>| {
            let rows = reader.server().query(
                "SELECT COALESCE(MIN(first), (SELECT size FROM audit_log WHERE id = 1), 0) \
                 FROM audit_batches WHERE at >= ?1",
                &[since.into()],
            )?;
            rows.first().map_or(Ok(0), |row| number(row, 0))
        };
        let first: Result<u64, StoreError> = self.inner.db.read(work).await;
        Ok(first?)
    }

    /// The proof that the tree of `to` entries begins with that of `from`.
    ///
    /// # Errors
    /// [`AuditError::NoEntry`] when the log is not that long.
    pub async fn consistency(&self, from: u64, to: u64) -> Result<Vec<Hash>, AuditError> {
        let size = self.integrate().await?;
        if from > to || to > size || from == 0 {
            let number = from.max(to);
            return Err(AuditError::NoEntry { number, size });
        }
        let edge = self.inner.edge.lock().await.clone();
        let work = move |reader: &mut Reader<'_>| {
            with_hashes(reader, &edge, |hashes| prove_tree(to, from, hashes))
        };
        self.inner.db.read(work).await
    }

    /// The first `width` hashes of a tile; `None` when the tree has no such tile, or not so many.
    ///
    /// # Errors
    /// The store's own.
    pub async fn tile(
        &self,
        level: u8,
        number: u64,
        width: usize,
    ) -> Result<Option<Vec<u8>>, AuditError> {
        let edge = self.inner.edge.lock().await.clone();
        if let Some(hashes) = edge.partial(level, number) {
            let hashes = hashes.get(..width);
            return Ok(hashes.map(|all| all.iter().flat_map(|hash| hash.0).collect()));
        }
        let stored = self
            .inner
            .db
            .read(move |reader| full_tile(reader, level, number))
            .await?;
        Ok(stored.and_then(|hashes| hashes.get(..width * 32).map(<[u8]>::to_vec)))
    }

    /// The first `width` entries of a tile of the lowest level, bundled. One that was pruned has no bytes.
    ///
    /// # Errors
    /// [`AuditError::NoEntry`] when they are not there any more, or not yet.
    pub async fn bundle(&self, number: u64, width: usize) -> Result<Vec<u8>, AuditError> {
        let from = number.saturating_mul(WIDTH as u64);
        let work = move |reader: &mut Reader<'_>| {
            let pruned = pruned(reader)?.saturating_sub(from).min(width as u64);
            let rest = width - pruned as usize;
            let (found, _) = tail(reader, &Filter::default(), from + pruned, rest)?;
            Ok::<_, AuditError>((from + pruned, found))
        };
        let (first, found) = self.inner.db.read(work).await?;
        let pruned = (first - from) as usize;
        let whole = pruned + found.len() == width
            && found.iter().zip(first..).all(|(it, at)| it.number == at);
        if !whole {
            let size = self.integrate().await?;
            let number = from + width as u64;
            return Err(AuditError::NoEntry { number, size });
        }
        let mut bundled = Vec::new();
        for _ in 0..pruned {
            push(&mut bundled, &[])?;
        }
        for one in &found {
            push(&mut bundled, &one.bytes)?;
        }
        Ok(bundled)
    }

    /// How far the log was pruned: the number of the first entry that is kept, and the entry that says so.
    ///
    /// # Errors
    /// The store's own.
    pub async fn pruned(&self) -> Result<Option<(u64, Found)>, AuditError> {
        let to = self.inner.db.read(pruned).await?;
        if to == 0 {
            return Ok(None);
        }
        let filter = Filter {
            action: Some(prune::ACTION.to_owned()),
            ..Filter::default()
        };
        let mut before = None;
        loop {
            let page = self.search(filter.clone(), before, 1).await?;
            let told = page.found.into_iter().next();
            if let Some(told) = told {
                return Ok(Some((to, told)));
            }
            before = page.before;
            if before.is_none() {
                let why = format!("no entry says that those below {to} were pruned");
                return Err(AuditError::damaged(why));
            }
        }
    }

    /// The hashes of pruned entries that a filter may have taken, from a number on, with the number to go
    /// on from.
    ///
    /// # Errors
    /// The store's own.
    pub async fn hashes(
        &self,
        filter: Filter,
        from: u64,
        limit: usize,
    ) -> Result<(Vec<(u64, Hash)>, u64), AuditError> {
        if !filter.takes_pruned() {
            let kept = self.inner.db.read(pruned).await?;
            return Ok((Vec::new(), kept));
        }
        let work = move |reader: &mut Reader<'_>| hashes(reader, &filter, from, limit);
        self.inner.db.read(work).await
    }

    pub(crate) fn db(&self) -> &Db {
        &self.inner.db
    }

    /// The newest kept checkpoint of a moment or before, else the oldest after it; of a log that was
    /// shorter than now.
    pub(crate) async fn note_of(
        &self,
        since: Timestamp,
        below: u64,
    ) -> Result<Option<Vec<u8>>, AuditError> {
        let work = move |reader: &mut Reader<'_>| -> Result<_, StoreError> {
            let mut scope = reader.server();
            let below = as_int(below);
            let mut found = scope.query(
                "SELECT note FROM audit_checkpoints WHERE at <= ?1 AND size < ?2 \
                 ORDER BY size DESC LIMIT 1",
                &[since.into(), below.into()],
            )?;
            if found.is_empty() {
                found = scope.query(
                    "SELECT note FROM audit_checkpoints WHERE size < ?1 ORDER BY size LIMIT 1",
                    &[below.into()],
                )?;
            }
            found
                .first()
                .map(|row| Ok(row.blob(0)?.to_vec()))
                .transpose()
        };
        Ok(self.inner.db.read(work).await?)
    }

    pub(crate) async fn edge(&self) -> Edge {
        self.inner.edge.lock().await.clone()
    }
}

/// Takes a key for a log that has none; gives the key that it has then.
fn first_key(
    unit: &mut Unit<'_>,
    public: &str,
    server: &str,
) -> Result<Option<String>, StoreError> {
    let now = unit.now();
    let mut scope = unit.server();
    scope.in_turn()?;
    let known = scope.query("SELECT public_key FROM audit_log WHERE id = 1", &[])?;
    let known = known.first().map(|row| row.opt_text(0)).transpose()?;
    if let Some(known) = known.flatten() {
        return Ok(Some(known.to_owned()));
    }
    scope.execute(
        "INSERT INTO audit_log (id, size, public_key) VALUES (1, 0, ?1) \
         ON CONFLICT (id) DO UPDATE SET public_key = excluded.public_key",
        &[public.into()],
    )?;
    let mut entry = Entry::new(
        now,
        Thing::new("Server", server),
        "audit:key",
        Thing::new("AuditLog", ""),
    );
    entry.change = Some(Change {
        what: format!("signed from here on by {public}").into(),
        hash: None,
    });
    unit.record(entry.to_bytes())?;
    Ok(Some(public.to_owned()))
}

/// The edge as far as it is stored, how many entries there are, and the newest checkpoint.
fn load(reader: &mut Reader<'_>) -> Result<(Edge, u64, Option<Vec<u8>>), AuditError> {
    let mut scope = reader.server();
    let full = scope.query(
        "SELECT level, MAX(number) + 1 FROM audit_tiles GROUP BY level ORDER BY level",
        &[],
    )?;
    let mut counts = Vec::new();
    for row in &full {
        counts.push(number(row, 1)?);
    }
    let mut above = Vec::new();
    for (level, count) in counts.iter().enumerate() {
        let first = count / WIDTH as u64 * WIDTH as u64;
        let rows = scope.query(
            "SELECT root FROM audit_tiles WHERE level = ?1 AND number >= ?2 ORDER BY number",
            &[(level as i64).into(), as_int(first).into()],
        )?;
        let mut hashes = Vec::new();
        for row in &rows {
            hashes.push(Hash(row.bytes(0)?));
        }
        if hashes.len() as u64 != count - first {
            return Err(AuditError::damaged(format!(
                "a tile of level {level} is missing"
            )));
        }
        above.push(hashes);
    }
    let size = scope.query("SELECT size FROM audit_log WHERE id = 1", &[])?;
    let size = size.first().map_or(Ok(0), |row| number(row, 0))?;
    let note = scope.query(
        "SELECT note FROM audit_checkpoints ORDER BY size DESC LIMIT 1",
        &[],
    )?;
    let note = note
        .first()
        .map(|row| row.blob(0).map(<[u8]>::to_vec))
        .transpose()?;
    let tiles = counts.first().copied().unwrap_or(0);
    Ok((Edge::of_full_tiles(tiles, above), size, note))
}

fn hash_batches(edge: &mut Edge, batches: Vec<Batch>) -> Result<Vec<FullTile>, AuditError> {
    let mut full = Vec::new();
    for batch in batches {
        let known = edge.size().checked_sub(batch.first);
        let known = known.ok_or_else(|| {
            AuditError::damaged(format!(
                "entries from {} to {} are missing",
                edge.size(),
                batch.first
            ))
        })?;
        for leaf in batch.leaves()?.into_iter().skip(known as usize) {
            full.extend(edge.push(leaf));
        }
    }
    Ok(full)
}

fn store(unit: &mut Unit<'_>, full: &[FullTile]) -> Result<(), StoreError> {
    let mut scope = unit.server();
    for tile in full {
        scope.execute(
            "INSERT INTO audit_tiles (level, number, hashes, root) VALUES (?1, ?2, ?3, ?4) \
             ON CONFLICT (level, number) DO NOTHING",
            &[
                i64::from(tile.level).into(),
                as_int(tile.number).into(),
                tile.hashes.as_slice().into(),
                (&tile.root.0).into(),
            ],
        )?;
    }
    Ok(())
}

/// Lets a proof be made of stored and of growing tiles.
fn with_hashes<T>(
    reader: &mut Reader<'_>,
    edge: &Edge,
    prove: impl FnOnce(&Reading<'_>) -> Result<T, Error>,
) -> Result<T, AuditError> {
    let reader = RefCell::new(reader);
    let failure = RefCell::new(None);
    // Proofs that are made together have most tiles in common.
    let known: RefCell<HashMap<(u8, u64), Vec<u8>>> = RefCell::default();
    let full = |level, number| {
        if let Some(hashes) = known.borrow().get(&(level, number)) {
            return Ok(hashes.clone());
        }
        match full_tile(&mut reader.borrow_mut(), level, number) {
            Ok(Some(hashes)) => {
                known.borrow_mut().insert((level, number), hashes.clone());
                Ok(hashes)
            }
            Ok(None) => Err(Error::InvalidTile),
            Err(error) => {
                *failure.borrow_mut() = Some(error);
                Err(Error::InvalidTile)
            }
        }
    };
    let proven = prove(&Reading(&Hashes { edge, full }));
    match failure.into_inner() {
        Some(error) => Err(error),
        None => proven.map_err(|error| bad(&error)),
    }
}
