//! Exchanges that are kept, encrypted: for people to look at, for the same request to be answered again, and for another
//! attempt of a call to get what the one before got. What is kept comes into the store soon after an answer has ended.

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use http::HeaderMap;
use parking_lot::Mutex;
use sha2::{Digest as _, Sha256};
use skep_core::{Timestamp, Workspace, Workspaces};
use skep_crypto::Key;
use skep_dialects::same;
use skep_store::{Db, StoreError, Unit};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use zeroize::Zeroizing;

use super::content::{Content, kept_headers};
use super::numbers::{Numbered, Numbers};
use super::plan::{Plan, Target};
use super::preferences::Preferences;
use super::service::Who;
use super::similar::Vector;
use super::wishes::Wishes;
use crate::EgressError;
use crate::ledger::Opened;

mod apart;
mod near;
mod rows;

pub(super) use apart::Apart;
pub(super) use near::Asked;
use rows::{Found, Marks};
pub use rows::{Recorded, Which};

/// Bytes of an answer that is kept; a longer one is not.
const MOST_ANSWER: usize = 4 << 20;
/// Bytes of answers that are held at once until they are in the store; what is over is not kept.
const MOST_HELD: usize = 128 << 20;
/// Bytes that are kept of one workspace. Over it, answers that are only given again go, and then nothing more is kept.
const MOST_KEPT: u64 = 4 << 30;
/// Exchanges that wait for the store.
const MOST_WAITING: usize = 1_024;
/// Those that are taken up at once, and rows that are written in one unit.
const BATCH: usize = 32;
const ROWS: usize = 128;
/// How long an answer is there for another attempt of its call.
const REPLAYED: Duration = Duration::from_secs(24 * 3600);
/// After how long the store is asked again that did not take it, and how often.
const AGAIN: Duration = Duration::from_secs(1);
const TRIES: u32 = 30;
/// How often what has come to its end is removed.
const SWEEP: Duration = Duration::from_secs(60);
const DAY: Duration = Duration::from_secs(24 * 3600);
/// Headers of a request that say nothing of what is asked.
const OF_CLIENT: [&str; 7] = [
    "user-agent",
    "accept",
    "accept-language",
    "idempotency-key",
    "x-request-id",
    "x-client-request-id",
    "x-goog-api-client",
];
/// What such headers begin with.
const OF_SDK: &str = "x-stainless-";

/// Has the key that a workspace's exchanges are kept under.
#[async_trait]
pub trait Safe: Send + Sync {
    /// 32 random bytes, made when they are asked for the first time; or why they are not to be had.
    async fn key(&self, workspace: &Workspace) -> Result<Zeroizing<Vec<u8>>, String>;
}

/// What is made of a workspace's key.
struct Keys {
    seal: Key,
    mark: Key,
}

impl Keys {
    fn of(bytes: &[u8]) -> Option<Self> {
        let key = Key::from_bytes(bytes.try_into().ok()?);
        Some(Self {
            seal: key.derive("skep llm recording").ok()?,
            mark: key.derive("skep llm recording mark").ok()?,
        })
    }
}

/// What a ciphertext belongs to.
fn context(workspace: &Workspace, id: &[u8; 16]) -> Vec<u8> {
    [
        b"skep llm recording ",
        workspace.as_str().as_bytes(),
        b" ",
        id,
    ]
    .concat()
}

/// Exchanges that are kept. Cheap to clone.
#[derive(Clone)]
pub(super) struct Recordings(Arc<Inner>);

struct Inner {
    db: Db,
    safe: Arc<dyn Safe>,
    workspaces: Workspaces,
    queue: mpsc::Sender<Draft>,
    coming: Mutex<Option<mpsc::Receiver<Draft>>>,
    held: AtomicUsize,
    /// Workspaces that keep as much as they may.
    full: Mutex<HashSet<Workspace>>,
    /// The numbers that requests of attempts have.
    numbers: Numbers,
}

/// One that is to be written.
struct Draft {
    workspace: Workspace,
    keys: Arc<Keys>,
    recorded: Recorded,
    marks: Marks,
    content: Content,
    /// It is kept as one; and its vectors each by itself, until then.
    whole: bool,
    vectors: Option<(Arc<Apart>, Timestamp)>,
    near: Option<Vector>,
    held: usize,
}

/// What becomes of one request.
pub(super) struct Keeping {
    recordings: Recordings,
    keys: Arc<Keys>,
    workspace: Workspace,
    /// Its mark, whoever answers.
    request: [u8; 32],
    /// It may be answered by what is kept.
    reads: bool,
    /// Its answer may be kept.
    keeps: bool,
    /// One to another question that means the same would do.
    compares: bool,
    /// For how long its answer may be given again, and how old one may be that it gets.
    time: Option<Duration>,
    /// What was kept until then is not given again.
    since: Timestamp,
    tags: Vec<String>,
    call: Option<(String, u32)>,
    /// Its mark within its call, and its number among those that are the same.
    replay: Option<Numbered>,
    /// For how many days people can look at it.
    days: u32,
    target: String,
    body: Bytes,
}

/// What is kept of an answer while it passes.
pub(super) struct Keep {
    keeping: Arc<Keeping>,
    opened: Arc<Opened>,
    model: Arc<str>,
    marks: Marks,
    status: u16,
    headers: Vec<(String, String)>,
    answer: Vec<u8>,
    /// Its vectors are given again one by one.
    apart: Option<Arc<Apart>>,
    /// The vector of what was asked.
    near: Option<Vector>,
    held: usize,
    /// It is too long.
    over: bool,
}

/// An answer that was given before.
pub(super) struct Again {
    /// What the header says of it: `hit`, `replay` or `similar`.
    pub(super) how: &'static str,
    /// How near the question was that it was given to.
    pub(super) nearness: Option<f64>,
    /// How long ago.
    pub(super) age: Duration,
    /// Who answered then: `provider/model`.
    pub(super) model: String,
    pub(super) content: Content,
}

fn hash(parts: &[&[u8]]) -> [u8; 32] {
    let mut hash = Sha256::new();
    for part in parts {
        hash.update((part.len() as u64).to_be_bytes());
        hash.update(part);
    }
    hash.finalize().into()
}

/// A request, with all of it that a model could answer differently to: its body as [`same`] gives it.
fn request(plan: &Plan, client: &HeaderMap, body: &[u8]) -> [u8; 32] {
    let means = |name: &str| !OF_CLIENT.contains(&name) && !name.starts_with(OF_SDK);
    let mut headers: Vec<(&str, &[u8])> = client
        .iter()
        .filter(|(name, _)| means(name.as_str()))
        .map(|(name, value)| (name.as_str(), value.as_bytes()))
        .collect();
    headers.sort_unstable();
    let headers: Vec<&[u8]> = headers
        .iter()
        .flat_map(|(name, value)| [name.as_bytes(), value])
        .collect();
    hash(&[
        b"request",
        plan.door.as_str().as_bytes(),
        plan.path.as_bytes(),
        plan.query.as_deref().unwrap_or_default().as_bytes(),
        &hash(&headers),
        body,
    ])
}

impl Keeping {
    /// Whether its answer may have been given before, or be given again.
    pub(super) fn caches(&self) -> bool {
        self.reads || (self.keeps && self.time.is_some())
    }

    /// How old an answer may be.
    fn oldest(&self, now: Timestamp) -> Timestamp {
        now.minus(self.time.unwrap_or_default()).max(self.since)
    }

    /// The mark of an answer of one of those who could give it.
    fn cache_mark(&self, target: &Target) -> [u8; 32] {
        self.mark_of(b"answer", &self.request, target)
    }

    fn mark_of(&self, of: &[u8], request: &[u8; 32], target: &Target) -> [u8; 32] {
        let provider = &target.provider;
        self.keys.mark.mac(&hash(&[
            of,
            request,
            provider.kind.as_str().as_bytes(),
            provider.base().as_bytes(),
            target.model.as_bytes(),
        ]))
    }

    /// What is kept of an answer that begins.
    pub(super) fn keep(
        self: &Arc<Self>,
        target: &Target,
        (opened, model): (&Arc<Opened>, &Arc<str>),
        (status, headers): (u16, &HeaderMap),
    ) -> Keep {
        let cache = self.cache_mark(target);
        Keep {
            keeping: self.clone(),
            opened: opened.clone(),
            model: model.clone(),
            marks: Marks {
                cache,
                call: self.replay.as_ref().map(Numbered::mark),
                near: None,
            },
            status,
            headers: kept_headers(headers),
            answer: Vec::new(),
            apart: None,
            near: None,
            held: 0,
            over: false,
        }
    }
}

impl Keep {
    /// Its vectors are kept one by one.
    pub(super) fn apart(mut self, apart: Option<Arc<Apart>>) -> Self {
        self.apart = apart;
        self
    }

    /// A piece goes out.
    pub(super) fn push(&mut self, data: &[u8]) {
        if self.over {
            return;
        }
        let held = &self.keeping.recordings.0.held;
        let before = held.fetch_add(data.len(), Ordering::Relaxed);
        self.held += data.len();
        let most = self.apart.as_ref().map_or(MOST_ANSWER, |_| MOST_HELD);
        self.over = self.answer.len() + data.len() > most || before + data.len() > MOST_HELD;
        match self.over {
            true => self.release(),
            false => self.answer.extend_from_slice(data),
        }
    }

    fn release(&mut self) {
        let held = &self.keeping.recordings.0.held;
        held.fetch_sub(std::mem::take(&mut self.held), Ordering::Relaxed);
        self.answer = Vec::new();
    }

    /// What was said, with what was asked where that is kept; nothing, when too much is held.
    fn content(&mut self) -> Option<Content> {
        let keeping = &self.keeping;
        let asked = match keeping.days {
            0 => Bytes::new(),
            _ => keeping.body.clone(),
        };
        let held = &keeping.recordings.0.held;
        let before = held.fetch_add(asked.len(), Ordering::Relaxed);
        self.held += asked.len();
        let fits = before + asked.len() <= MOST_HELD;
        fits.then(|| Content {
            target: keeping.target.clone(),
            asked,
            status: self.status,
            headers: std::mem::take(&mut self.headers),
            answer: std::mem::take(&mut self.answer),
        })
    }

    /// The answer has come to its end. `whole`: it is good, and all of it.
    pub(super) fn end(mut self, outcome: &str, whole: bool, now: Timestamp) {
        let keeping = self.keeping.clone();
        let recordings = &keeping.recordings.0;
        let cached = keeping
            .time
            .filter(|it| whole && keeping.keeps && !it.is_zero());
        let until = cached.map(|it| now.plus(it));
        let vectors = self.apart.take().zip(until);
        let cached = cached.filter(|_| vectors.is_none());
        let near = self.near.take().filter(|_| cached.is_some());
        let replayed = keeping.replay.is_some() && whole;
        if let Some(replay) = keeping.replay.as_ref().filter(|_| whole) {
            replay.answered();
        }
        if self.over {
            tracing::info!(exchange = ?self.opened.id, "an answer is too long to be kept");
            return;
        }
        let whole = keeping.days > 0 || cached.is_some() || replayed;
        if !whole && vectors.is_none() {
            return;
        }
        if recordings.full.lock().contains(&keeping.workspace) {
            return;
        }
        let after = |time: Duration| now.plus(time);
        let until = [
            Some(after(DAY * keeping.days)),
            cached.map(after),
            replayed.then(|| after(REPLAYED)),
        ];
        let Some(content) = self.content() else {
            tracing::warn!(workspace = %keeping.workspace, "too much is held: an exchange is not kept");
            return;
        };
        let draft = Draft {
            workspace: keeping.workspace.clone(),
            keys: keeping.keys.clone(),
            recorded: Recorded {
                id: self.opened.id,
                at: self.opened.at,
                until: until.into_iter().flatten().max().unwrap_or(now),
                cached_until: cached.map(after),
                kind: self.opened.kind.clone(),
                who: self.opened.who.clone(),
                model: self.model.to_string(),
                outcome: outcome.to_owned(),
                call: keeping.call.clone(),
                tags: keeping.tags.clone(),
                looked_at: keeping.days > 0,
                bytes: (content.asked.len() + content.answer.len()) as u64,
            },
            marks: Marks {
                call: self.marks.call.filter(|_| replayed),
                near: self.marks.near.filter(|_| near.is_some()),
                ..self.marks
            },
            content,
            whole,
            vectors,
            near,
            held: std::mem::take(&mut self.held),
        };
        if let Err(refused) = recordings.queue.try_send(draft) {
            let draft = refused.into_inner();
            recordings.held.fetch_sub(draft.held, Ordering::Relaxed);
            tracing::warn!(workspace = %draft.workspace, "the store is behind: an exchange is not kept");
        }
    }
}

impl Drop for Keep {
    fn drop(&mut self) {
        self.release();
    }
}

impl Recordings {
    pub(super) fn new(db: Db, safe: Arc<dyn Safe>, workspaces: Workspaces) -> Self {
        let (queue, coming) = mpsc::channel(MOST_WAITING);
        Self(Arc::new(Inner {
            db,
            safe,
            workspaces,
            queue,
            coming: Mutex::new(Some(coming)),
            held: AtomicUsize::new(0),
            full: Mutex::default(),
            numbers: Numbers::default(),
        }))
    }

    async fn keys(&self, workspace: &Workspace) -> Option<Keys> {
        match self.0.safe.key(workspace).await {
            Ok(bytes) => Keys::of(&bytes),
            Err(why) => {
                tracing::debug!(%workspace, why, "exchanges with models are not kept");
                None
            }
        }
    }

    /// What becomes of a request that costs something; nothing, when nothing of it is kept and nothing kept answers it.
    pub(super) async fn keeping(
        &self,
        (plan, who): (&Plan, &Who),
        (wishes, preferences, since): (Wishes, &Preferences, Timestamp),
        (client, body): (&HeaderMap, &Bytes),
    ) -> Option<Arc<Keeping>> {
        let cache = wishes.cache;
        let usual = preferences.cache();
        // Who administers says that there is none, or for how long at most.
        let time = match (usual, cache.time) {
            (Some(usual), _) if usual.is_zero() => None,
            (Some(usual), Some(own)) => Some(own.min(usual)),
            (usual, own) => own.or(usual),
        };
        // What a provider remembers of before is no part of the request, and would not go on.
        let caches = time.is_some() && !plan.has_state(body);
        let time = time.filter(|_| caches);
        let replays = preferences.replay == Some(true) && wishes.call.is_some();
        let days = preferences.record_days.unwrap_or_default();
        if !plan.costs() || (!caches && !replays && days == 0) {
            return None;
        }
        let keys = self.keys(&who.workspace).await?;
        let request = request(plan, client, &same(body));
        let replay = wishes.call.as_ref().filter(|_| replays);
        let replay = replay.map(|(call, attempt)| {
            let whose = [who.kind, &*who.id, call].map(str::as_bytes);
            let [kind, id, call] = whose;
            let mark = keys.mark.mac(&hash(&[b"call", &request, kind, id, call]));
            self.0.numbers.take(mark, *attempt)
        });
        Some(Arc::new(Keeping {
            recordings: self.clone(),
            keys: Arc::new(keys),
            workspace: who.workspace.clone(),
            request,
            reads: caches && !cache.fresh && !cache.forget,
            keeps: !cache.forget,
            compares: !cache.exact,
            time,
            since,
            tags: cache.tags,
            call: wishes.call,
            replay,
            days,
            target: format!("{} {}", plan.method, plan.path),
            body: body.clone(),
        }))
    }

    /// The answer of an earlier attempt; or of one who could answer now, the first of them first.
    pub(super) async fn again<'a>(
        &self,
        keeping: &Keeping,
        targets: impl Iterator<Item = &'a Target>,
    ) -> Option<Again> {
        let now = self.0.db.clock().now();
        let replay = keeping.replay.as_ref().zip(keeping.call.as_ref());
        let replay = replay.map(|(replay, (_, attempt))| (replay.mark(), *attempt));
        let oldest = keeping.oldest(now);
        let marks: Vec<[u8; 32]> = match keeping.reads {
            true => targets.map(|it| keeping.cache_mark(it)).collect(),
            false => Vec::new(),
        };
        if marks.is_empty() && replay.is_none_or(|(_, attempt)| attempt < 2) {
            return None;
        }
        let workspace = keeping.workspace.clone();
        let found = self.0.db.read(move |reader| {
            let mut scope = reader.scope(&workspace);
            if let Some(((mark, nth), attempt)) = &replay
                && let Some(found) =
                    rows::replayed(&mut scope, (mark, *nth), (*attempt, now.minus(REPLAYED)))?
            {
                return Ok::<_, StoreError>(Some((true, found)));
            }
            for mark in &marks {
                if let Some(found) = rows::cached(&mut scope, mark, (oldest, now))? {
                    return Ok(Some((false, found)));
                }
            }
            Ok(None)
        });
        let found = found.await.inspect_err(|error| {
            tracing::warn!(%error, "no answer that was kept is looked for");
        });
        let (
            replayed,
            Found {
                id,
                at,
                model,
                sealed,
            },
        ) = found.ok().flatten()?;
        let context = context(&keeping.workspace, &id);
        // Of a key of before: it is not known any more.
        let plain = keeping.keys.seal.open(&context, &sealed).ok()?;
        if let Some(replay) = keeping.replay.as_ref().filter(|_| replayed) {
            replay.answered();
        }
        Some(Again {
            how: if replayed { "replay" } else { "hit" },
            nearness: None,
            age: now.since(at),
            model,
            content: Content::from_bytes(&plain)?,
        })
    }

    /// The newest, before one of them.
    pub(super) async fn page(
        &self,
        workspace: &Workspace,
        (before, limit): (Option<[u8; 16]>, u32),
    ) -> Result<Vec<Recorded>, EgressError> {
        let (of, now) = (workspace.clone(), self.0.db.clock().now());
        let read = self
            .0
            .db
            .read(move |reader| rows::page(&mut reader.scope(&of), (before, now), limit));
        Ok(read.await?)
    }

    /// One of them, opened.
    pub(super) async fn one(
        &self,
        workspace: &Workspace,
        id: [u8; 16],
    ) -> Result<(Recorded, Content), EgressError> {
        let (of, now) = (workspace.clone(), self.0.db.clock().now());
        let read = self
            .0
            .db
            .read(move |reader| rows::one(&mut reader.scope(&of), &id, now));
        let missing = || EgressError::NotFound("this exchange is not kept".to_owned());
        let (recorded, sealed) = read.await?.ok_or_else(missing)?;
        let closed = || {
            EgressError::Closed(
                "it cannot be opened: the vault is sealed, or its key is gone".to_owned(),
            )
        };
        let keys = self.keys(workspace).await.ok_or_else(closed)?;
        let plain = keys.seal.open(&context(workspace, &id), &sealed);
        let content = plain.ok().and_then(|it| Content::from_bytes(&it));
        Ok((recorded, content.ok_or_else(closed)?))
    }

    /// Brings what is kept into the store and removes what has come to its end, until the end.
    pub(super) async fn run(&self, stop: CancellationToken) {
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
        let held: usize = batch.iter().map(|it| it.held).sum();
        let mut rows = batch.into_iter().flat_map(sealed).peekable();
        while rows.peek().is_some() {
            // Others write, too.
            self.insert(rows.by_ref().take(ROWS).collect(), stop).await;
        }
        self.0.held.fetch_sub(held, Ordering::Relaxed);
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
                tracing::warn!(%workspace, bytes = sum, "as much as may be is kept of exchanges with models");
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

type Sealed = (Workspace, Recorded, Marks, (Vec<u8>, Option<Vec<u8>>));

/// What is written of one, as it is written.
fn sealed(mut draft: Draft) -> impl Iterator<Item = Sealed> {
    let vectors = draft.vectors.take().map(|(apart, until)| {
        let (of, headers) = (draft.recorded.clone(), draft.content.headers.clone());
        let fresh = apart.fresh(&draft.content.answer).into_iter();
        fresh.map(move |it| apart::vector(&of, &headers, it, until))
    });
    let mut near = draft.near.take();
    let whole = (draft.recorded, draft.marks, draft.content);
    let whole = draft.whole.then_some(whole);
    let all = whole.into_iter().chain(vectors.into_iter().flatten());
    let (workspace, keys) = (draft.workspace, draft.keys);
    all.filter_map(move |(recorded, marks, content)| {
        let plain = Zeroizing::new(content.to_bytes());
        let context = context(&workspace, &recorded.id);
        let sealed = keys.seal.seal(&context, &plain).ok()?;
        let near = near.take().map(|it| near::sealed(&keys, &context, &it));
        Some((workspace.clone(), recorded, marks, (sealed, near.flatten())))
    })
}

/// Gives answers again no more.
pub(super) fn forget(
    scope: &mut skep_store::Scope<'_>,
    which: &Which,
    now: Timestamp,
) -> Result<(), StoreError> {
    rows::forget(scope, which, now)
}

/// Removes one. Tells whether there was one.
pub(super) fn remove(scope: &mut skep_store::Scope<'_>, id: &[u8; 16]) -> Result<bool, StoreError> {
    rows::remove(scope, id)
}
