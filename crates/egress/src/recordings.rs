//! Exchanges that are kept, encrypted, whatever way they went: with models and with hosts of the web. What is kept comes
//! into the store soon after an answer has ended. What of an exchange is kept, and for what, the ways out say themselves.

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use parking_lot::Mutex;
use skep_core::{ExchangeId, Workspace, Workspaces};
use skep_crypto::Key;
use skep_store::{By, Db, Scope, StoreError, Unit};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use zeroize::Zeroizing;

use crate::EgressError;
use crate::ledger::Way;
use crate::rows::change;

mod content;
pub(crate) mod rows;

pub use content::Content;
pub(crate) use content::kept_headers;
pub(crate) use rows::Marks;
pub use rows::{Recorded, Which};

/// The most days that an exchange is kept.
pub(crate) const MOST_DAYS: u32 = 3_650;
/// Bytes of a body that is kept.
pub(crate) const MOST_BODY: usize = 4 << 20;
/// Bytes of bodies that are held at once until they are in the store; what is over is not kept.
pub(crate) const MOST_HELD: usize = 128 << 20;
/// Bytes that are kept of one workspace. Over it, answers that are only given again go, and then nothing more is kept.
const MOST_KEPT: u64 = 4 << 30;
/// Exchanges that wait for the store.
const MOST_WAITING: usize = 1_024;
/// Those that are taken up at once, and rows that are written in one unit.
const BATCH: usize = 32;
const ROWS: usize = 128;
/// After how long the store is asked again that did not take it, and how often.
const AGAIN: Duration = Duration::from_secs(1);
const TRIES: u32 = 30;
/// How often what has come to its end is removed.
const SWEEP: Duration = Duration::from_secs(60);
/// Exchanges that are told at once.
const MOST_PAGE: u32 = 200;
/// How the audit log calls one that is kept.
const KIND: &str = "Exchange";

/// Has the key that a workspace's exchanges are kept under.
#[async_trait]
pub trait Safe: Send + Sync {
    /// 32 random bytes, made when they are asked for the first time; or why they are not to be had.
    async fn key(&self, workspace: &Workspace) -> Result<Zeroizing<Vec<u8>>, String>;
}

/// What is made of a workspace's key.
pub(crate) struct Keys {
    seal: Key,
    pub(crate) mark: Key,
}

impl Keys {
    fn of(bytes: &[u8]) -> Option<Self> {
        let key = Key::from_bytes(bytes.try_into().ok()?);
        Some(Self {
            seal: key.derive("skep llm recording").ok()?,
            mark: key.derive("skep llm recording mark").ok()?,
        })
    }

    /// What is kept of an exchange; nothing, when it is kept under a key of before.
    pub(crate) fn open(
        &self,
        (way, workspace, id): (Way, &Workspace, &[u8; 16]),
        sealed: &[u8],
    ) -> Option<Content> {
        let plain = self.seal.open(&context(way, workspace, id), sealed);
        Content::from_bytes(&plain.ok()?)
    }

    /// The vector of what was asked in one.
    pub(crate) fn open_vector(
        &self,
        (way, workspace, id): (Way, &Workspace, &[u8; 16]),
        sealed: &[u8],
    ) -> Option<Zeroizing<Vec<u8>>> {
        let context = of_vector(&context(way, workspace, id));
        self.seal.open(&context, sealed).ok()
    }
}

/// What the ciphertext of a vector belongs to.
fn of_vector(context: &[u8]) -> Vec<u8> {
    [context, b" near"].concat()
}

/// What a ciphertext belongs to.
fn context(way: Way, workspace: &Workspace, id: &[u8; 16]) -> Vec<u8> {
    let of: &[u8] = match way {
        Way::Model => b"skep llm recording ",
        Way::Tool => b"skep mcp recording ",
        Way::Web => b"skep web recording ",
    };
    [of, workspace.as_str().as_bytes(), b" ", id].concat()
}

/// Exchanges that are kept. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Recordings(Arc<Inner>);

struct Inner {
    db: Db,
    safe: Arc<dyn Safe>,
    workspaces: Workspaces,
    queue: mpsc::Sender<Draft>,
    coming: Mutex<Option<mpsc::Receiver<Draft>>>,
    held: AtomicUsize,
    /// Workspaces that keep as much as they may.
    full: Mutex<HashSet<Workspace>>,
}

/// Bytes that are held for one exchange, until this goes.
pub(crate) struct Held {
    recordings: Recordings,
    bytes: usize,
}

impl Held {
    /// Holds so many more. Tells whether there is room for them.
    pub(crate) fn more(&mut self, bytes: usize) -> bool {
        let before = self.recordings.0.held.fetch_add(bytes, Ordering::Relaxed);
        self.bytes += bytes;
        before + bytes <= MOST_HELD
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        let held = &self.recordings.0.held;
        held.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

/// A row that is to be written.
pub(crate) struct Leaf {
    pub(crate) recorded: Recorded,
    pub(crate) marks: Marks,
    pub(crate) content: Content,
    /// The vector of what was asked.
    pub(crate) near: Option<Vec<u8>>,
}

/// What of one exchange is to be written.
pub(crate) struct Draft {
    pub(crate) workspace: Workspace,
    /// Without, they are found when it is written.
    pub(crate) keys: Option<Arc<Keys>>,
    /// Made when they are written, away from who waits for an answer.
    pub(crate) leaves: Box<dyn Iterator<Item = Leaf> + Send>,
    pub(crate) held: Held,
}

type Sealed = (Workspace, Recorded, Marks, (Vec<u8>, Option<Vec<u8>>));
type AllSealed = Box<dyn Iterator<Item = Sealed> + Send>;

/// What is written of one, as it is written.
fn sealed(draft: Draft, keys: Arc<Keys>) -> (AllSealed, Held) {
    let workspace = draft.workspace;
    let all = draft.leaves.filter_map(move |leaf| {
        let plain = Zeroizing::new(leaf.content.to_bytes());
        let context = context(leaf.recorded.way, &workspace, &leaf.recorded.id);
        let sealed = keys.seal.seal(&context, &plain).ok()?;
        let near = leaf
            .near
            .map(|it| keys.seal.seal(&of_vector(&context), &it));
        let sealed = (sealed, near.and_then(Result::ok));
        Some((workspace.clone(), leaf.recorded, leaf.marks, sealed))
    });
    (Box::new(all), draft.held)
}

impl Recordings {
    pub(crate) fn new(db: Db, safe: Arc<dyn Safe>, workspaces: Workspaces) -> Self {
        let (queue, coming) = mpsc::channel(MOST_WAITING);
        Self(Arc::new(Inner {
            db,
            safe,
            workspaces,
            queue,
            coming: Mutex::new(Some(coming)),
            held: AtomicUsize::new(0),
            full: Mutex::default(),
        }))
    }

    pub(crate) fn db(&self) -> &Db {
        &self.0.db
    }

    /// What is made of a workspace's key, when that is to be had.
    pub(crate) async fn keys(&self, workspace: &Workspace) -> Option<Keys> {
        match self.0.safe.key(workspace).await {
            Ok(bytes) => Keys::of(&bytes),
            Err(why) => {
                tracing::debug!(%workspace, why, "exchanges are not kept");
                None
            }
        }
    }

    /// For what comes of an exchange.
    pub(crate) fn hold(&self) -> Held {
        Held {
            recordings: self.clone(),
            bytes: 0,
        }
    }

    /// Whether a workspace keeps as much as it may.
    pub(crate) fn is_full(&self, workspace: &Workspace) -> bool {
        self.0.full.lock().contains(workspace)
    }

    /// Hands it over to be written.
    pub(crate) fn put(&self, draft: Draft) {
        if let Err(refused) = self.0.queue.try_send(draft) {
            let workspace = refused.into_inner().workspace;
            tracing::warn!(%workspace, "the store is behind: an exchange is not kept");
        }
    }

    /// The newest of a way, before one of them.
    pub(crate) async fn page(
        &self,
        (way, workspace): (Way, &Workspace),
        (before, limit): (Option<ExchangeId>, u32),
    ) -> Result<Vec<Recorded>, EgressError> {
        let (of, now) = (workspace.clone(), self.0.db.clock().now());
        let before = before.map(|it| *it.as_bytes());
        let limit = limit.clamp(1, MOST_PAGE);
        let read = self.0.db.read(move |reader| {
            let mut scope = reader.scope(&of);
            rows::page(&mut scope, way, (before, now), limit)
        });
        Ok(read.await?)
    }

    /// One of them, opened. That somebody saw it is written down before.
    pub(crate) async fn shown(
        &self,
        by: &By,
        (way, workspace): (Way, &Workspace),
        id: ExchangeId,
    ) -> Result<(Recorded, Content), EgressError> {
        let found = self.one((way, workspace), *id.as_bytes()).await?;
        let (name, nothing) = (id.to_string(), |_: &mut Scope<'_>, _| Ok(()));
        let what = (KIND, name.as_str(), "shown");
        change::<EgressError>(&self.0.db, by, workspace, what, nothing).await?;
        Ok(found)
    }

    async fn one(
        &self,
        (way, workspace): (Way, &Workspace),
        id: [u8; 16],
    ) -> Result<(Recorded, Content), EgressError> {
        let (of, now) = (workspace.clone(), self.0.db.clock().now());
        let read = self
            .0
            .db
            .read(move |reader| rows::one(&mut reader.scope(&of), (way, &id), now));
        let (recorded, sealed) = read.await?.ok_or_else(missing)?;
        let closed = || {
            EgressError::Closed(
                "it cannot be opened: the vault is sealed, or its key is gone".to_owned(),
            )
        };
        let keys = self.keys(workspace).await.ok_or_else(closed)?;
        let content = keys.open((way, workspace, &id), &sealed);
        Ok((recorded, content.ok_or_else(closed)?))
    }

    /// Removes one.
    pub(crate) async fn remove(
        &self,
        by: &By,
        (way, workspace): (Way, &Workspace),
        id: ExchangeId,
    ) -> Result<(), EgressError> {
        let drop = move |scope: &mut Scope<'_>, _| match rows::remove(scope, way, id.as_bytes())? {
            true => Ok(()),
            false => Err(missing()),
        };
        let name = id.to_string();
        change(&self.0.db, by, workspace, (KIND, &name, "removed"), drop).await
    }

    /// Brings what is kept into the store and removes what has come to its end, until the end.
    pub(crate) async fn run(&self, stop: CancellationToken) {
        let Some(mut coming) = self.0.coming.lock().take() else {
            return;
        };
        let mut tick = tokio::time::interval(SWEEP);
        let mut batch = Vec::with_capacity(BATCH);
        loop {
            tokio::select! {
                _ = coming.recv_many(&mut batch, BATCH) => {
                    self.write(std::mem::take(&mut batch), &stop).await;
                }
                _ = tick.tick() => self.sweep().await,
                () = stop.cancelled() => break,
            }
        }
        coming.close();
        while coming.recv_many(&mut batch, BATCH).await > 0 {
            self.write(std::mem::take(&mut batch), &stop).await;
        }
    }

    async fn write(&self, batch: Vec<Draft>, stop: &CancellationToken) {
        let (mut all, mut held) = (Vec::with_capacity(batch.len()), Vec::new());
        for mut draft in batch {
            let keys = match draft.keys.take() {
                Some(keys) => Some(keys),
                None => self.keys(&draft.workspace).await.map(Arc::new),
            };
            let Some(keys) = keys else {
                tracing::warn!(workspace = %draft.workspace, "the vault has no key: an exchange is not kept");
                continue;
            };
            let (rows, of) = sealed(draft, keys);
            all.push(rows);
            held.push(of);
        }
        let mut rest = all.into_iter().flatten();
        loop {
            // Others write, and answer, too.
            let taken = tokio::task::spawn_blocking(move || {
                let rows: Vec<Sealed> = rest.by_ref().take(ROWS).collect();
                (rows, rest)
            });
            let Ok((rows, more)) = taken.await else {
                tracing::error!("exchanges are not kept");
                return;
            };
            if rows.is_empty() {
                return;
            }
            rest = more;
            self.insert(rows, stop).await;
        }
    }

    async fn insert(&self, rows: Vec<Sealed>, stop: &CancellationToken) {
        let rows = Arc::new(rows);
        for times in 1.. {
            let of = rows.clone();
            let written = self.0.db.write(move |unit: &mut Unit<'_>| {
                for (workspace, recorded, marks, (bytes, near)) in of.iter() {
                    let sealed = (bytes.as_slice(), near.as_deref());
                    rows::insert(&mut unit.scope(workspace), (recorded, marks), sealed)?;
                }
                Ok::<_, StoreError>(())
            });
            match written.await {
                Ok(()) => return,
                Err(error) if times >= TRIES || stop.is_cancelled() => {
                    tracing::error!(%error, exchanges = rows.len(), "exchanges are not kept");
                    return;
                }
                Err(_) => tokio::time::sleep(AGAIN).await,
            }
        }
    }

    /// Sees to it that a workspace does not keep more than it may.
    async fn bound(&self, workspace: &Workspace) {
        let mut told = false;
        loop {
            let of = workspace.clone();
            let sum = self
                .0
                .db
                .read(move |reader| rows::bytes(&mut reader.scope(&of)));
            let Ok(sum) = sum.await else { return };
            if sum <= MOST_KEPT {
                self.0.full.lock().remove(workspace);
                return;
            }
            if !std::mem::replace(&mut told, true) {
                tracing::warn!(%workspace, bytes = sum, "as much as may be is kept of exchanges");
            }
            let of = workspace.clone();
            let thinned = self
                .0
                .db
                .write(move |unit: &mut Unit<'_>| rows::thin(&mut unit.scope(&of)));
            if !matches!(thinned.await, Ok(1..)) {
                self.0.full.lock().insert(workspace.clone());
                return;
            }
        }
    }

    async fn sweep(&self) {
        for workspace in self.0.workspaces.all().iter() {
            self.bound(workspace).await;
            loop {
                let (of, now) = (workspace.clone(), self.0.db.clock().now());
                let due = self.0.db.read({
                    let of = of.clone();
                    move |reader| rows::is_due(&mut reader.scope(&of), now)
                });
                if !due.await.unwrap_or_default() {
                    break;
                }
                let swept = self
                    .0
                    .db
                    .write(move |unit: &mut Unit<'_>| rows::sweep(&mut unit.scope(&of), now));
                if !swept.await.unwrap_or_default() {
                    break;
                }
            }
        }
    }
}

fn missing() -> EgressError {
    EgressError::NotFound("this exchange is not kept".to_owned())
}

#[cfg(test)]
#[path = "recordings_tests.rs"]
mod tests;
