//! What exchanges cost, before and after. Each is told to a file by one `write` before its request leaves and by another
//! before its answer ends, so that a server that is killed loses nothing; the store takes what has ended many at once,
//! soon after. What a killed server left open is settled as what was set aside for it.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use skep_core::{ExchangeId, Workspace};
use skep_store::{Db, MOST_ENTRY, StoreError, Unit};
use tokio::sync::{Notify, oneshot};
use tokio_util::sync::CancellationToken;

use crate::EgressError;
use crate::rows;

pub(crate) mod ended;
mod segment;

use segment::{Line, Reading, Segment, lost, read_all};
pub use segment::{Opened, Settled, Way};

/// How soon the store has what has ended.
const SOON: Duration = Duration::from_millis(50);
/// After how long the store is asked again that did not take it.
const AGAIN: Duration = Duration::from_millis(250);
/// Ends that may wait for the store; then nothing more is let out.
const MOST_WAITING: usize = 20_000;
/// Bytes of a file after which another is begun.
const FULL: u64 = 4 << 20;

/// The ledger. Cheap to clone.
#[derive(Clone)]
pub struct Ledger(Arc<Inner>);

struct Inner {
    db: Db,
    folder: PathBuf,
    work: Notify,
    /// Held by who brings what has ended into the store.
    flushing: tokio::sync::Mutex<()>,
    state: Mutex<State>,
}

struct State {
    segment: Segment,
    /// Files before it, whose lines are in `waiting` or in the store, or open and in the newest, too.
    old: Vec<PathBuf>,
    open: HashMap<[u8; 16], Arc<Opened>>,
    waiting: Vec<Settled>,
    /// Those that the store is taking in, or did not take the last time.
    taken: Arc<Vec<Settled>>,
    told: Vec<oneshot::Sender<()>>,
}

impl std::fmt::Debug for Ledger {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Ledger")
    }
}

fn file_failed(path: &Path, error: &std::io::Error) -> EgressError {
    EgressError::Ledger(format!("{}: {error}", path.display()))
}

impl Ledger {
    /// Opens the ledger in its folder, and brings into the store what the last start left: what was open is settled as
    /// what was set aside.
    ///
    /// # Errors
    /// [`EgressError::Ledger`], and the store's own.
    pub async fn open(db: Db, folder: &Path) -> Result<Self, EgressError> {
        std::fs::create_dir_all(folder).map_err(|error| file_failed(folder, &error))?;
        let (old, Reading { open, mut settled }) = read_all(folder)?;
        let now = db.clock().now();
        if !open.is_empty() {
            tracing::warn!(
                exchanges = open.len(),
                "what was open when the server ended is settled as what was set aside"
            );
        }
        settled.extend(open.into_values().map(|one| lost(one, now)));
        if !settled.is_empty() {
            write(&db, Arc::new(settled)).await?;
        }
        for path in old {
            std::fs::remove_file(&path).map_err(|error| file_failed(&path, &error))?;
        }
        let segment = Segment::begin(folder, 0)?;
        Ok(Self(Arc::new(Inner {
            db,
            folder: folder.to_owned(),
            work: Notify::new(),
            flushing: tokio::sync::Mutex::default(),
            state: Mutex::new(State {
                segment,
                old: Vec::new(),
                open: HashMap::new(),
                waiting: Vec::new(),
                taken: Arc::default(),
                told: Vec::new(),
            }),
        })))
    }

    /// Tells that an exchange begins. When this returns, a server that is killed has not forgotten it.
    ///
    /// # Errors
    /// [`EgressError::Ledger`], when that cannot be written down: then it must not begin. [`EgressError::Busy`], when
    /// the store is behind.
    pub fn begin(&self, opened: impl Into<Arc<Opened>>) -> Result<(), EgressError> {
        let opened = opened.into();
        if opened.entry.len() > MOST_ENTRY {
            // It would hold up all that ends with it.
            return Err(EgressError::Ledger(
                "an entry of the log is too long".to_owned(),
            ));
        }
        let mut state = self.0.state.lock();
        if state.waiting.len() + state.taken.len() >= MOST_WAITING {
            return Err(EgressError::Busy);
        }
        state.segment.write(Line::Opened(&opened))?;
        state.open.insert(opened.id, opened);
        Ok(())
    }

    /// Tells how one ended. It counts even when the file cannot be written: the store will have it.
    pub fn end(&self, settled: Settled) {
        let mut state = self.0.state.lock();
        if let Err(error) = state.segment.write(Line::Settled(&settled)) {
            tracing::error!(%error, "the end of an exchange is in memory alone until the store has it");
        }
        state.open.remove(&settled.opened.id);
        state.waiting.push(settled);
        let first = state.waiting.len() == 1;
        drop(state);
        if first {
            self.0.work.notify_one();
        }
    }

    /// Exchanges that have begun and not ended.
    #[must_use]
    pub fn open_count(&self) -> usize {
        self.0.state.lock().open.len()
    }

    /// Waits until all that has ended so far is on the disk.
    pub async fn on_disk(&self) {
        let told = {
            let mut state = self.0.state.lock();
            if state.waiting.is_empty() && state.taken.is_empty() {
                return;
            }
            let (tell, told) = oneshot::channel();
            state.told.push(tell);
            told
        };
        self.0.work.notify_one();
        // The sender goes with the ledger alone.
        let _ = told.await;
    }

    /// Brings what has ended into the store, until the end.
    pub async fn keep(&self, stop: CancellationToken) {
        loop {
            tokio::select! {
                () = self.0.work.notified() => {}
                () = stop.cancelled() => break,
            }
            // Whoever waits for the disk does not wait for company.
            if self.0.state.lock().told.is_empty() {
                tokio::select! {
                    () = tokio::time::sleep(SOON) => {}
                    () = self.0.work.notified() => {}
                    () = stop.cancelled() => break,
                }
            }
            if !self.flush().await {
                tokio::select! {
                    () = tokio::time::sleep(AGAIN) => self.0.work.notify_one(),
                    () = stop.cancelled() => break,
                }
            }
        }
        self.flush().await;
    }

    /// Brings what has ended into the store, and tells whether it took that. What it does not take stays for the next
    /// time.
    pub async fn flush(&self) -> bool {
        let _alone = self.0.flushing.lock().await;
        let (settled, told) = {
            let mut state = self.0.state.lock();
            // What nobody came to the end with goes first.
            let mut all = state.taken.to_vec();
            all.append(&mut state.waiting);
            state.taken = Arc::new(all);
            (state.taken.clone(), std::mem::take(&mut state.told))
        };
        let written = match settled.is_empty() {
            true => Ok(()),
            false => write(&self.0.db, settled).await,
        };
        let mut state = self.0.state.lock();
        let taken = written.is_ok();
        match written {
            Ok(()) => {
                state.taken = Arc::default();
                for tell in told {
                    let _ = tell.send(());
                }
                if state.segment.size() >= FULL
                    && let Err(error) = state.turn(&self.0.folder)
                {
                    tracing::warn!(%error, "the ledger's file grows on");
                }
            }
            Err(error) => {
                tracing::warn!(%error, "what exchanges cost is not in the store yet");
                state.told.splice(0..0, told);
            }
        }
        if !state.waiting.is_empty() {
            self.0.work.notify_one();
        }
        taken
    }
}

impl State {
    /// Begins another file, with what is open and what waits, and takes away those before it.
    fn turn(&mut self, folder: &Path) -> Result<(), EgressError> {
        let mut next = Segment::begin(folder, self.segment.number() + 1)?;
        if let Err(error) = self.fill(&mut next) {
            // The next try makes it again.
            let _ = std::fs::remove_file(next.path());
            return Err(error);
        }
        let before = std::mem::replace(&mut self.segment, next);
        self.old.push(before.path().to_owned());
        // One that cannot be removed says nothing new: what the store has, it takes no second time.
        self.old.retain(|path| std::fs::remove_file(path).is_err());
        Ok(())
    }

    /// Writes what is open and what waits, and has it on the disk before what it follows is gone.
    fn fill(&self, next: &mut Segment) -> Result<(), EgressError> {
        for opened in self.open.values() {
            next.write(Line::Opened(opened))?;
        }
        for settled in &self.waiting {
            next.write(Line::Opened(&settled.opened))?;
            next.write(Line::Settled(settled))?;
        }
        next.sync()
    }
}

/// Writes all of them. One that the store does not take at all holds nobody else up.
async fn write(db: &Db, settled: Arc<Vec<Settled>>) -> Result<(), StoreError> {
    match write_together(db, settled.clone()).await {
        Err(StoreError::Statement(why)) => {
            tracing::error!(%why, "exchanges are written down one by one");
        }
        other => return other,
    }
    for one in settled.iter() {
        match write_together(db, Arc::new(vec![one.clone()])).await {
            Err(StoreError::Statement(why)) => {
                let (id, cost) = (ExchangeId::from_bytes(one.opened.id), one.cost);
                tracing::error!(%id, %cost, %why, "an exchange could not be written down");
            }
            other => other?,
        }
    }
    Ok(())
}

async fn write_together(db: &Db, settled: Arc<Vec<Settled>>) -> Result<(), StoreError> {
    db.write(move |unit: &mut Unit<'_>| {
        let mut by_workspace: HashMap<&Workspace, Vec<&Settled>> = HashMap::new();
        for one in settled.iter() {
            by_workspace
                .entry(&one.opened.workspace)
                .or_default()
                .push(one);
        }
        by_workspace
            .into_iter()
            .try_for_each(|(workspace, all)| rows::settle(unit, workspace, &all))
    })
    .await
}

#[cfg(test)]
#[path = "ledger_tests.rs"]
pub(crate) mod tests;
