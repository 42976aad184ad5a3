//! The audit log of the server: its key, its checkpoints, and what is written down without a
//! transaction of its own.

use std::collections::HashMap;
use std::collections::hash_map::Entry as Slot;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use skep_audit::{AuditError, Log, LogKey, erase_person, knows_person};
use skep_core::Workspace;
use skep_store::{By, Change, Db, StoreError};
use tokio_util::sync::CancellationToken;

use crate::ServerError;
use crate::act::{Act, Draft, Sort};
use crate::keys::keep_new;

/// The log's key, in the data folder.
pub(crate) const FILE: &str = "audit.key";
/// How often the head of the log is signed, while it grows.
const SIGN: Duration = Duration::from_secs(1);
/// Looks of one sort within this time are one entry.
const GATHER: Duration = Duration::from_secs(10);
/// Sorts of looks that are gathered at once.
const MOST_SORTS: usize = 4_096;

/// The shortest time for which entries are kept.
const LEAST_RETENTION: Duration = Duration::from_secs(24 * 3_600);
/// How often entries that are too old are looked for.
const PRUNE: Duration = Duration::from_secs(3_600);
/// Refusals that are written down at once, between two times that what was gathered is.
const MOST_AT_ONCE: usize = 64;
/// How a refusal ends.
const DENIED: &str = "denied";

/// What was noted, by what it was and how it ended.
type Looks = HashMap<(Sort, String), Draft>;

/// The log, and the looks that are not in it yet.
pub(crate) struct Audit {
    pub(crate) log: Log,
    db: Db,
    looks: Mutex<Looks>,
    /// Refusals that were written down at once lately.
    refused: AtomicUsize,
    /// Whether what was erased is in the write-ahead log still.
    unsettled: AtomicBool,
    /// How long entries are kept; for ever without.
    retention: Option<Duration>,
}

fn failed(error: &AuditError) -> ServerError {
    ServerError::Audit(error.to_string())
}

/// The key of this file; made, when there is none.
fn key(path: &Path) -> Result<LogKey, ServerError> {
    match std::fs::read_to_string(path) {
        Ok(text) => LogKey::parse(&text).map_err(|error| failed(&error)),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            let (key, text) = LogKey::generate().map_err(|error| failed(&error))?;
            match keep_new(path, &text)? {
                true => Ok(key),
                // Another server was first.
                false => self::key(path),
            }
        }
        Err(error) => Err(ServerError::File {
            path: path.to_owned(),
            reason: error.to_string(),
        }),
    }
}

impl Audit {
    pub(crate) async fn open(
        db: Db,
        file: Option<&Path>,
        retention: Option<Duration>,
    ) -> Result<Self, ServerError> {
        if retention.is_some_and(|kept| kept < LEAST_RETENTION) {
            let why = "`audit.retention` is 1d at least; leave it out to keep entries for ever";
            return Err(ServerError::Audit(why.to_owned()));
        }
        let own = db.folder().join(FILE);
        let key = key(file.unwrap_or(&own))?;
        let log = Log::open(db.clone(), key).await;
        Ok(Self {
            log: log.map_err(|error| failed(&error))?,
            db,
            looks: Mutex::default(),
            refused: AtomicUsize::new(0),
            unsettled: AtomicBool::new(false),
            retention,
        })
    }

    /// How long entries are kept; for ever without.
    pub(crate) const fn retention(&self) -> Option<Duration> {
        self.retention
    }

    /// Writes an act down and waits until that is on disk.
    pub(crate) async fn tell(&self, act: &Act, outcome: &str) -> Result<(), StoreError> {
        let draft = act.alone(outcome, self.db.clock().now());
        self.db.write(move |unit| draft.record(unit)).await
    }

    /// Erases what is known of a person, and writes that down with it. Tells how many values that
    /// were, and whether the database's files hold none of them any more; else that comes soon.
    pub(crate) async fn erase(
        &self,
        by: By,
        workspace: Workspace,
        person: String,
    ) -> Result<(usize, bool), StoreError> {
        let erased: Result<usize, StoreError> = self
            .db
            .write(move |unit| {
                let now = unit.now();
                let scope = &mut unit.scope(&workspace);
                if !knows_person(scope, &person)? {
                    return Ok(0);
                }
                // First the entry: people who erase themselves leave no address with it.
                let change = Change {
                    action: None,
                    resource: ("Person", &person),
                    what: "erased",
                    hash: None,
                };
                by.did(scope, &change, now)?;
                erase_person(scope, &person)
            })
            .await;
        let erased = erased?;
        let settled = erased == 0 || self.db.settle().await?;
        if !settled {
            self.unsettled.store(true, Ordering::Release);
        }
        Ok((erased, settled))
    }

    /// Notes an act that changed nothing: it is written down soon, and once with all that are the
    /// very same.
    pub(crate) async fn note(&self, act: &Act, outcome: &str) {
        let sort = (act.sort(), outcome.to_owned());
        let full = {
            let mut looks = self.looks.lock();
            match looks.entry(sort) {
                Slot::Occupied(mut known) => {
                    let times = &mut known.get_mut().entry.times;
                    *times = Some(times.unwrap_or(1) + 1);
                }
                Slot::Vacant(free) => {
                    free.insert(act.alone(outcome, self.db.clock().now()));
                }
            }
            looks.len() >= MOST_SORTS
        };
        if full {
            self.flush().await;
        }
    }

    /// Notes a refusal: the first of its sort is written down at once.
    pub(crate) async fn refuse(&self, act: &Act) {
        let sort = (act.sort(), DENIED.to_owned());
        let known = self.looks.lock().contains_key(&sort);
        self.note(act, DENIED).await;
        act.is_noted();
        if known || self.refused.fetch_add(1, Ordering::Relaxed) >= MOST_AT_ONCE {
            return;
        }
        let Some(first) = self.looks.lock().get(&sort).cloned() else {
            // Somebody wrote all of them down just now.
            return;
        };
        let written: Result<(), StoreError> = self.db.write(move |unit| first.record(unit)).await;
        match written {
            // It stays as one that happened no more yet.
            Ok(()) => {
                if let Some(Draft { entry, .. }) = self.looks.lock().get_mut(&sort) {
                    entry.times = Some(entry.times.unwrap_or(1).saturating_sub(1));
                }
            }
            Err(error) => {
                tracing::warn!(%error, "a refusal is not in the audit log yet");
            }
        }
    }

    /// Writes down what was noted. What the store does not take stays for the next time.
    pub(crate) async fn flush(&self) {
        self.refused.store(0, Ordering::Relaxed);
        let mut looks = std::mem::take(&mut *self.looks.lock());
        looks.retain(|_, draft| draft.entry.times != Some(0));
        if looks.is_empty() {
            return;
        }
        let looks = Arc::new(looks);
        let drafts = looks.clone();
        let written: Result<(), StoreError> = self
            .db
            .write(move |unit| drafts.values().try_for_each(|draft| draft.record(unit)))
            .await;
        if let Err(error) = written {
            tracing::warn!(%error, "what was looked at is not in the audit log yet");
            let mut now = self.looks.lock();
            for (sort, draft) in looks.iter() {
                // Bounded: what comes over it is told by the warning alone.
                let room = now.len() < MOST_SORTS;
                match now.entry(sort.clone()) {
                    Slot::Occupied(mut known) => {
                        let more = draft.entry.times.unwrap_or(1);
                        let times = &mut known.get_mut().entry.times;
                        *times = Some(times.unwrap_or(1) + more);
                    }
                    Slot::Vacant(free) if room => {
                        free.insert(draft.clone());
                    }
                    Slot::Vacant(_) => {}
                }
            }
        }
    }

    /// Signs the head of the log while it grows, and writes down what was noted, until the end.
    pub(crate) async fn maintain(&self, stop: CancellationToken, leads: impl Fn() -> bool) {
        let mut tick = tokio::time::interval(SIGN);
        tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut flushed = tokio::time::Instant::now();
        let mut pruned: Option<tokio::time::Instant> = None;
        loop {
            tokio::select! {
                _ = tick.tick() => {}
                () = stop.cancelled() => return,
            }
            if flushed.elapsed() >= GATHER {
                self.flush().await;
                flushed = tokio::time::Instant::now();
            }
            if self.unsettled.load(Ordering::Acquire) && self.db.settle().await.unwrap_or(false) {
                self.unsettled.store(false, Ordering::Release);
            }
            if leads() && pruned.is_none_or(|last| last.elapsed() >= PRUNE) {
                self.prune().await;
                pruned = Some(tokio::time::Instant::now());
            }
            if leads()
                && let Err(error) = self.log.checkpoint().await
            {
                tracing::warn!(%error, "the audit log's head is not signed");
            }
        }
    }

    /// Takes the bodies of entries that are older than they are to be kept.
    async fn prune(&self) {
        let Some(kept) = self.retention else {
            return;
        };
        match self.log.prune(self.db.clock().now().minus(kept)).await {
            Ok(0) => {}
            Ok(entries) => tracing::info!(entries, "the audit log was pruned"),
            Err(error) => tracing::error!(%error, "the audit log was not pruned"),
        }
    }

    /// The last entries and the last signature.
    pub(crate) async fn close(&self) {
        self.flush().await;
        if let Err(error) = self.log.checkpoint().await {
            tracing::warn!(%error, "the audit log's head is not signed");
        }
    }
}
