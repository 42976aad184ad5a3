//! The audit log of the server: its key, its checkpoints, and what is written down without a
//! transaction of its own.

use std::collections::HashMap;
use std::collections::hash_map::Entry as Slot;
use std::path::Path;
use std::time::Duration;

use parking_lot::Mutex;
use skep_audit::{AuditError, Entry, Log, LogKey, Thing};
use skep_core::Workspace;
use skep_store::{Db, StoreError};
use tokio_util::sync::CancellationToken;

use crate::ServerError;
use crate::act::Act;
use crate::keys::keep_new;

/// The log's key, in the data folder.
const FILE: &str = "audit.key";
/// How often the head of the log is signed, while it grows.
const SIGN: Duration = Duration::from_secs(1);
/// Looks of one sort within this time are one entry.
const GATHER: Duration = Duration::from_secs(10);
/// Sorts of looks that are gathered at once.
const MOST_SORTS: usize = 4_096;

type Sort = (
    Thing<'static>,
    Workspace,
    &'static str,
    Thing<'static>,
    String,
);

/// The log, and the looks that are not in it yet.
pub(crate) struct Audit {
    pub(crate) log: Log,
    db: Db,
    looks: Mutex<HashMap<Sort, Entry<'static>>>,
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
    pub(crate) async fn open(db: Db, file: Option<&Path>) -> Result<Self, ServerError> {
        let own = db.folder().join(FILE);
        let key = key(file.unwrap_or(&own))?;
        let log = Log::open(db.clone(), key).await;
        Ok(Self {
            log: log.map_err(|error| failed(&error))?,
            db,
            looks: Mutex::default(),
        })
    }

    /// Writes an act down and waits until that is on disk.
    pub(crate) async fn tell(&self, act: &Act, outcome: &str) -> Result<(), StoreError> {
        let entry = act.alone(outcome, self.db.clock().now()).to_bytes();
        self.db.write(move |unit| unit.record(entry)).await
    }

    /// Notes an act that changed nothing: it is written down soon, and once with all that are the
    /// very same.
    pub(crate) async fn note(&self, act: &Act, outcome: &str) {
        let (principal, workspace, action, resource) = act.sort();
        let sort = (principal, workspace, action, resource, outcome.to_owned());
        let full = {
            let mut looks = self.looks.lock();
            match looks.entry(sort) {
                Slot::Occupied(mut known) => {
                    let times = &mut known.get_mut().times;
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

    /// Writes down what was noted. What the store does not take stays for the next time.
    pub(crate) async fn flush(&self) {
        let looks = std::mem::take(&mut *self.looks.lock());
        if looks.is_empty() {
            return;
        }
        let entries: Vec<Vec<u8>> = looks.values().map(Entry::to_bytes).collect();
        let written: Result<(), StoreError> = self
            .db
            .write(move |unit| entries.into_iter().try_for_each(|entry| unit.record(entry)))
            .await;
        if let Err(error) = written {
            tracing::warn!(%error, "what was looked at is not in the audit log yet");
            let mut now = self.looks.lock();
            for (sort, entry) in looks {
                // Bounded: what comes over it is told by the warning alone.
                let room = now.len() < MOST_SORTS;
                match now.entry(sort) {
                    Slot::Occupied(mut known) => {
                        let more = entry.times.unwrap_or(1);
                        let times = &mut known.get_mut().times;
                        *times = Some(times.unwrap_or(1) + more);
                    }
                    Slot::Vacant(free) if room => {
                        free.insert(entry);
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
        loop {
            tokio::select! {
                _ = tick.tick() => {}
                () = stop.cancelled() => return,
            }
            if flushed.elapsed() >= GATHER {
                self.flush().await;
                flushed = tokio::time::Instant::now();
            }
            if leads()
                && let Err(error) = self.log.checkpoint().await
            {
                tracing::warn!(%error, "the audit log's head is not signed");
            }
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
