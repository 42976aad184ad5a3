//! What is kept of exchanges with models: for people to look at, for the same request to be answered again, and for another
//! attempt of a call to get what the one before got. Where it is kept: `crate::recordings`.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::HeaderMap;
use sha2::{Digest as _, Sha256};
use skep_core::{Timestamp, Workspace};
use skep_dialects::same;
use skep_store::StoreError;

use super::numbers::{Numbered, Numbers};
use super::plan::{Plan, Target};
use super::preferences::Preferences;
use super::service::Who;
use super::similar::Vector;
use super::wishes::Wishes;
use crate::ledger::{Opened, Way};
use crate::recordings::rows::{self, Found};
use crate::recordings::{
    Content, Draft, Held, Keys, Leaf, MOST_BODY, MOST_HELD, Marks, Recorded, Recordings,
    kept_headers,
};

mod apart;
mod near;

pub(super) use apart::Apart;
pub(super) use near::Asked;

/// How long an answer is there for another attempt of its call.
const REPLAYED: Duration = Duration::from_secs(24 * 3600);
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

/// Keeps what is said with models. Cheap to clone.
#[derive(Clone)]
pub(super) struct Keeper {
    pub(super) recordings: Recordings,
    /// The numbers that requests of attempts have.
    numbers: Arc<Numbers>,
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
    held: Held,
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
            held: self.recordings.hold(),
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
        let most = self.apart.as_ref().map_or(MOST_BODY, |_| MOST_HELD);
        self.over = !self.held.more(data.len()) || self.answer.len() + data.len() > most;
        match self.over {
            true => {
                self.answer = Vec::new();
                self.held = self.keeping.recordings.hold();
            }
            false => self.answer.extend_from_slice(data),
        }
    }

    /// What was said, with what was asked where that is kept; nothing, when too much is held.
    fn content(&mut self) -> Option<Content> {
        let keeping = &self.keeping;
        let asked = match keeping.days {
            0 => Bytes::new(),
            _ => keeping.body.clone(),
        };
        let fits = self.held.more(asked.len());
        fits.then(|| Content {
            target: keeping.target.clone(),
            asked,
            status: self.status,
            headers: std::mem::take(&mut self.headers),
            answer: std::mem::take(&mut self.answer),
            ..Content::default()
        })
    }

    /// The answer has come to its end. `whole`: it is good, and all of it.
    pub(super) fn end(mut self, outcome: &str, whole: bool, now: Timestamp) {
        let keeping = self.keeping.clone();
        let recordings = &keeping.recordings;
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
        if recordings.is_full(&keeping.workspace) {
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
        let recorded = Recorded {
            id: self.opened.id,
            way: self.opened.way,
            asked: String::new(),
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
        };
        let marks = Marks {
            call: self.marks.call.filter(|_| replayed),
            near: self.marks.near.filter(|_| near.is_some()),
            ..self.marks
        };
        let leaf = Leaf {
            recorded,
            marks,
            content,
            near: near.map(|it| it.to_bytes()),
        };
        recordings.put(Draft {
            workspace: keeping.workspace.clone(),
            keys: Some(keeping.keys.clone()),
            leaves: leaves(leaf, whole, vectors),
            held: self.held,
        });
    }
}

/// What is written of an exchange: as one, when it is kept whole, and its vectors each by itself, until then.
fn leaves(
    of: Leaf,
    whole: bool,
    vectors: Option<(Arc<Apart>, Timestamp)>,
) -> Box<dyn Iterator<Item = Leaf> + Send> {
    let vectors = vectors.map(|(apart, until)| {
        let (recorded, headers) = (of.recorded.clone(), of.content.headers.clone());
        let fresh = apart.fresh(&of.content.answer).into_iter();
        fresh.map(move |it| apart::vector(&recorded, &headers, it, until))
    });
    let whole = whole.then_some(of);
    Box::new(whole.into_iter().chain(vectors.into_iter().flatten()))
}

impl Keeper {
    pub(super) fn new(recordings: Recordings) -> Self {
        Self {
            recordings,
            numbers: Arc::default(),
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
        let keys = self.recordings.keys(&who.workspace).await?;
        let request = request(plan, client, &same(body));
        let replay = wishes.call.as_ref().filter(|_| replays);
        let replay = replay.map(|(call, attempt)| {
            let whose = [who.kind, &*who.id, call].map(str::as_bytes);
            let [kind, id, call] = whose;
            let mark = keys.mark.mac(&hash(&[b"call", &request, kind, id, call]));
            self.numbers.take(mark, *attempt)
        });
        Some(Arc::new(Keeping {
            recordings: self.recordings.clone(),
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
        let now = self.recordings.db().clock().now();
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
        let found = self.recordings.db().read(move |reader| {
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
        let of = (Way::Model, &keeping.workspace, &id);
        // Of a key of before: it is not known any more.
        let content = keeping.keys.open(of, &sealed)?;
        if let Some(replay) = keeping.replay.as_ref().filter(|_| replayed) {
            replay.answered();
        }
        Some(Again {
            how: if replayed { "replay" } else { "hit" },
            nearness: None,
            age: now.since(at),
            model,
            content,
        })
    }
}
