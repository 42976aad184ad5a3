//! The log as its server has it: entries are put into the tree after they were committed, its head is
//! signed, and what is asked for is found and proven.

use std::cell::RefCell;
use std::collections::HashMap;
use std::sync::Arc;

use parking_lot::Mutex as SyncMutex;
use signed_note::Note;
use skep_core::Timestamp;
use skep_store::{Db, Reader, Row, StoreError, Unit};
use tlog_tiles::{Checkpoint, Error, Hash, prove_record, prove_tree, record_hash};
use tokio::sync::Mutex;

use crate::bundle::{push, split};
use crate::tree::{Edge, FullTile, Hashes, Reading, WIDTH};
use crate::verify;
use crate::{AuditError, Change, Decision, Entry, LogKey, PublicKey, Thing};

/// Microseconds.
const HOUR: i64 = 3_600_000_000;
/// Batches that are put into the tree at once.
const BATCHES: i64 = 64;
/// Batches that one look for entries reads at once.
const SEARCH_STEP: i64 = 256;
/// Batches that one look for entries reads at most, before it says where to go on.
const SEARCH_MOST: i64 = 16_384;

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
    fn takes(&self, entry: &Entry<'_>) -> bool {
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

fn number(row: &Row, at: usize) -> Result<u64, StoreError> {
    Ok(u64::try_from(row.int(at)?).unwrap_or(0))
}

fn as_int(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
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
                .read(move |reader| batches(reader, from))
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
        let proofs = self.prove_at(std::slice::from_ref(&found), &head).await?;
        let proof = proofs.into_iter().next().unwrap_or_default();
        Ok((found, proof, head))
    }

    /// The proofs that entries are in the log of a head.
    ///
    /// # Errors
    /// [`AuditError::Damaged`].
    pub async fn prove_at(
        &self,
        found: &[Found],
        head: &Head,
    ) -> Result<Vec<Vec<Hash>>, AuditError> {
        let edge = self.inner.edge.lock().await.clone();
        let size = head.size;
        let numbers: Vec<u64> = found.iter().map(|it| it.number).collect();
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

    /// The first `width` entries of a tile of the lowest level, bundled.
    ///
    /// # Errors
    /// [`AuditError::NoEntry`] when they are not there any more, or not yet.
    pub async fn bundle(&self, number: u64, width: usize) -> Result<Vec<u8>, AuditError> {
        let from = number.saturating_mul(WIDTH as u64);
        let (found, _) = self.tail(Filter::default(), from, width).await?;
        let whole =
            found.len() == width && found.iter().zip(from..).all(|(it, at)| it.number == at);
        if !whole {
            let size = self.integrate().await?;
            let number = from + width as u64;
            return Err(AuditError::NoEntry { number, size });
        }
        let mut bundled = Vec::new();
        for one in &found {
            push(&mut bundled, &one.bytes)?;
        }
        Ok(bundled)
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

/// The next batches from an entry on.
fn batches(reader: &mut Reader<'_>, from: u64) -> Result<Vec<Batch>, AuditError> {
    let rows = reader.server().query(
        "SELECT first, bundle, at FROM audit_batches WHERE first >= \
         COALESCE((SELECT MAX(first) FROM audit_batches WHERE first <= ?1), 0) \
         AND first + entries > ?1 ORDER BY first LIMIT ?2",
        &[as_int(from).into(), BATCHES.into()],
    )?;
    read_batches(&rows)
}

fn hash_batches(edge: &mut Edge, batches: Vec<Batch>) -> Result<Vec<FullTile>, AuditError> {
    let mut full = Vec::new();
    for Batch { first, bundle, .. } in batches {
        let known = edge.size().checked_sub(first);
        let known = known.ok_or_else(|| {
            AuditError::damaged(format!(
                "entries from {} to {first} are missing",
                edge.size()
            ))
        })?;
        for entry in split(&bundle)?.into_iter().skip(known as usize) {
            full.extend(edge.push(record_hash(entry)));
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

fn full_tile(
    reader: &mut Reader<'_>,
    level: u8,
    number: u64,
) -> Result<Option<Vec<u8>>, AuditError> {
    let rows = reader.server().query(
        "SELECT hashes FROM audit_tiles WHERE level = ?1 AND number = ?2",
        &[i64::from(level).into(), as_int(number).into()],
    )?;
    Ok(rows
        .first()
        .map(|row| row.blob(0).map(<[u8]>::to_vec))
        .transpose()?)
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

fn entry(reader: &mut Reader<'_>, wanted: u64) -> Result<Found, AuditError> {
    let batch = batches(reader, wanted)?.into_iter().next();
    let gone = || AuditError::damaged(format!("entry {wanted} is not there any more"));
    let Batch { first, bundle, .. } = batch.ok_or_else(gone)?;
    let at = wanted.checked_sub(first).ok_or_else(gone)? as usize;
    let bytes = split(&bundle)?.get(at).map(|bytes| bytes.to_vec());
    Ok(Found {
        number: wanted,
        bytes: bytes.ok_or_else(gone)?,
    })
}

/// The entries of one transaction.
struct Batch {
    first: u64,
    bundle: Vec<u8>,
    at: i64,
}

fn read_batches(rows: &[Row]) -> Result<Vec<Batch>, AuditError> {
    let mut all = Vec::with_capacity(rows.len());
    for row in rows {
        all.push(Batch {
            first: number(row, 0)?,
            bundle: row.blob(1)?.to_vec(),
            at: row.int(2)?,
        });
    }
    Ok(all)
}

fn search(
    reader: &mut Reader<'_>,
    filter: &Filter,
    before: Option<u64>,
    limit: usize,
) -> Result<Page, AuditError> {
    let mut page = Page::default();
    let mut below = before.map_or(i64::MAX, as_int);
    let since = filter.since.map_or(i64::MIN, Timestamp::as_micros);
    let until = filter.until.map_or(i64::MAX, Timestamp::as_micros);
    for _ in 0..SEARCH_MOST / SEARCH_STEP {
        let rows = reader.server().query(
            "SELECT first, bundle, at FROM audit_batches WHERE first < ?1 AND at >= ?2 AND at < ?3 \
             ORDER BY first DESC LIMIT ?4",
            &[below.into(), since.into(), until.into(), SEARCH_STEP.into()],
        )?;
        let batches = read_batches(&rows)?;
        let last = batches.len() < SEARCH_STEP as usize;
        for Batch { first, bundle, .. } in batches {
            for (at, bytes) in split(&bundle)?.into_iter().enumerate().rev() {
                let number = first + at as u64;
                if before.is_some_and(|before| number >= before) {
                    continue;
                }
                if page.found.len() == limit {
                    page.before = Some(number + 1);
                    return Ok(page);
                }
                if Entry::parse(bytes).is_some_and(|entry| filter.takes(&entry)) {
                    let bytes = bytes.to_vec();
                    page.found.push(Found { number, bytes });
                }
            }
            below = as_int(first);
        }
        if last {
            return Ok(page);
        }
    }
    page.before = Some(u64::try_from(below).unwrap_or(0));
    Ok(page)
}

fn tail(
    reader: &mut Reader<'_>,
    filter: &Filter,
    from: u64,
    limit: usize,
) -> Result<(Vec<Found>, u64), AuditError> {
    let mut found = Vec::new();
    let mut next = from;
    for _ in 0..SEARCH_MOST / BATCHES {
        let batches = batches(reader, next)?;
        let last = batches.len() < BATCHES as usize;
        for Batch { first, bundle, at } in batches {
            let in_time = filter.since.is_none_or(|since| at >= since.as_micros())
                && filter.until.is_none_or(|until| at < until.as_micros());
            let skipped = next.saturating_sub(first) as usize;
            for (at, bytes) in split(&bundle)?.into_iter().enumerate().skip(skipped) {
                if found.len() == limit {
                    return Ok((found, next));
                }
                let number = first + at as u64;
                next = number + 1;
                let wanted = in_time
                    && (filter == &Filter::default()
                        || Entry::parse(bytes).is_some_and(|entry| filter.takes(&entry)));
                if wanted {
                    let bytes = bytes.to_vec();
                    found.push(Found { number, bytes });
                }
            }
        }
        if last {
            break;
        }
    }
    Ok((found, next))
}
