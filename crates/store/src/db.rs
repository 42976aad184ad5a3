//! `Db`: opens the data folder and hands units to the writer and reads to the pool.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use parking_lot::Mutex;
use skep_core::{Clock, ServerId, Workspace};
use tokio::sync::{Semaphore, mpsc, oneshot, watch};

use crate::engine::{Ended, Engine};
use crate::lock::FolderLock;
use crate::migrate;
use crate::parts::Parts;
use crate::postgres::{Address, Postgres};
use crate::servers;
use crate::sqlite::Sqlite;
use crate::unit::Rules;
use crate::writer::{Message, Observer, QUEUE, Work, Writer};
use crate::{Blobs, CommitStats, MigrationSet, Reader, Recorder, StoreError, Unit};

pub(crate) const DATABASE: &str = "skep.db";
const DEFAULT_READERS: usize = 4;
/// Blob files looked at in one unit when orphans are searched.
const ORPHAN_STEP: usize = 64;

/// How to open a store.
#[derive(Clone)]
pub struct Options {
    folder: PathBuf,
    database: Option<String>,
    readers: usize,
    observer: Option<Observer>,
    recorder: Option<Arc<dyn Recorder>>,
}

impl Options {
    /// The store in this folder, which is made when it is not there.
    #[must_use]
    pub fn new(folder: impl Into<PathBuf>) -> Self {
        Self {
            folder: folder.into(),
            database: None,
            readers: DEFAULT_READERS,
            observer: None,
            recorder: None,
        }
    }

    /// The database, when it is not the file in the folder: `postgres://…`. It holds the blobs too,
    /// for other servers; the folder has copies.
    #[must_use]
    pub fn database(mut self, url: Option<String>) -> Self {
        self.database = url;
        self
    }

    /// How many reads may run at once; at least one.
    #[must_use]
    pub fn readers(mut self, readers: usize) -> Self {
        self.readers = readers.max(1);
        self
    }

    /// A function that is told of every commit, on the writer's thread.
    #[must_use]
    pub fn observer(mut self, observer: impl Fn(CommitStats) + Send + Sync + 'static) -> Self {
        self.observer = Some(Arc::new(observer));
        self
    }

    /// Who writes down what units record ([`Unit::record`]).
    #[must_use]
    pub fn recorder(mut self, recorder: Arc<dyn Recorder>) -> Self {
        self.recorder = Some(recorder);
        self
    }
}

/// The store of one data folder. Cheap to clone.
#[derive(Clone)]
pub struct Db {
    inner: Arc<Inner>,
}

struct Inner {
    folder: PathBuf,
    queue: mpsc::Sender<Message>,
    readers: Mutex<Vec<Box<dyn Engine>>>,
    permits: Arc<Semaphore>,
    rules: Arc<Rules>,
    blobs: Blobs,
    clock: Clock,
    server: ServerId,
    epoch: i64,
    ended: Ended,
    shared: bool,
    writable: Arc<AtomicBool>,
    doubts: Arc<AtomicU64>,
    backup: Option<PathBuf>,
}

impl Db {
    /// Opens the store, migrates it and counts up its epoch. Blocks.
    ///
    /// # Errors
    /// [`StoreError::InUse`], [`StoreError::Corrupt`], [`StoreError::Newer`],
    /// [`StoreError::MigrationChanged`], [`StoreError::Folder`], or [`StoreError::Unavailable`]
    /// when the disk does not take the start's own writes.
    pub fn open(options: Options, sets: &[MigrationSet]) -> Result<Self, StoreError> {
        // A database's client must not be used on a thread that runs async tasks.
        std::thread::scope(|scope| {
            let opened = scope.spawn(|| Self::open_here(options, sets)).join();
            opened.unwrap_or(Err(StoreError::Closed))
        })
    }

    fn open_here(options: Options, sets: &[MigrationSet]) -> Result<Self, StoreError> {
        let folder = options.folder;
        let failed = |path: &Path, error: &std::io::Error| StoreError::Folder {
            path: path.to_owned(),
            reason: error.to_string(),
        };
        make_private(&folder).map_err(|e| failed(&folder, &e))?;
        let lock = FolderLock::take(&folder)?;
        let server = servers::id(&folder)?;
        let Connections {
            mut engine,
            readers,
            parts,
        } = connect(&folder, &options.database, options.readers)?;
        let sets: Vec<MigrationSet> = [migrate::OWN]
            .into_iter()
            .chain(sets.iter().copied())
            .collect();
        engine.start_alone()?;
        let backup = migrate::migrate(engine.as_mut(), &sets, &folder.join("backups"))?;
        let (epoch, last_time) = servers::begin(engine.as_mut(), server, &servers::place(&folder))?;
        engine.let_start()?;
        let (shared, ended) = (engine.is_shared(), Arc::new(watch::Sender::new(false)));
        engine.take_over(epoch, ended.clone());
        let blob_root = folder.join("blobs");
        let blobs = Blobs::open(blob_root.clone(), parts).map_err(|e| failed(&blob_root, &e))?;
        let tables = sets
            .iter()
            .flat_map(|set| set.workspace_tables.iter().copied())
            .collect();
        let rules = Arc::new(Rules::new(tables));
        let clock = Clock::starting_at(last_time);
        let writable = Arc::new(AtomicBool::new(true));
        let doubts = Arc::new(AtomicU64::new(0));
        let writer = Writer {
            engine,
            rules: rules.clone(),
            blobs: blobs.clone(),
            clock: clock.clone(),
            writable: writable.clone(),
            doubts: doubts.clone(),
            observer: options.observer,
            recorder: options.recorder,
            lock,
        };
        let (queue, waiting) = mpsc::channel(QUEUE);
        std::thread::Builder::new()
            .name("store-writer".to_owned())
            .spawn(move || writer.run(waiting))
            .map_err(|e| failed(&folder, &e))?;
        Ok(Self {
            inner: Arc::new(Inner {
                folder,
                queue,
                permits: Arc::new(Semaphore::new(options.readers)),
                readers: Mutex::new(readers),
                rules,
                blobs,
                clock,
                server,
                epoch,
                ended,
                shared,
                writable,
                doubts,
                backup,
            }),
        })
    }

    /// Hands a unit to the writer. `then` is told how it ended when it is committed or refused, on
    /// the writer's thread: it must be quick and must not wait. It saves who only passes the
    /// outcome on a wake-up of its own. When it comes to nothing at all (the store is closed),
    /// `then` is dropped.
    ///
    /// # Errors
    /// [`StoreError::Closed`].
    pub async fn submit<T, E, F, R>(&self, work: F, then: R) -> Result<(), StoreError>
    where
        F: FnOnce(&mut Unit<'_>) -> Result<T, E> + Send + 'static,
        T: Send + 'static,
        E: From<StoreError> + Send + 'static,
        R: FnOnce(Result<T, E>) + Send + 'static,
    {
        let job = Work {
            work: Some(work),
            outcome: None,
            reply: then,
        };
        let sending = self.inner.queue.send(Message::Job(Box::new(job)));
        sending.await.map_err(|_| StoreError::Closed)
    }

    /// Runs a unit and waits until it is on disk. An error of the unit rolls it back.
    ///
    /// # Errors
    /// What the unit gives, and the store's own: [`StoreError::Unavailable`],
    /// [`StoreError::Closed`].
    pub async fn write<T, E, F>(&self, work: F) -> Result<T, E>
    where
        F: FnOnce(&mut Unit<'_>) -> Result<T, E> + Send + 'static,
        T: Send + 'static,
        E: From<StoreError> + Send + 'static,
    {
        let (reply, answer) = oneshot::channel();
        // Who does not wait for the answer has dropped the other end.
        self.submit(work, |outcome| drop(reply.send(outcome)))
            .await?;
        answer.await.map_err(|_| StoreError::Closed)?
    }

    /// Reads from a consistent view of what is committed.
    ///
    /// # Errors
    /// What the work gives, and the store's own.
    pub async fn read<T, E, F>(&self, work: F) -> Result<T, E>
    where
        F: FnOnce(&mut Reader<'_>) -> Result<T, E> + Send + 'static,
        T: Send + 'static,
        E: From<StoreError> + Send + 'static,
    {
        let inner = self.inner.clone();
        let permits = self.inner.permits.clone();
        let permit = permits
            .acquire_owned()
            .await
            .map_err(|_| StoreError::Closed)?;
        tokio::task::spawn_blocking(move || {
            // It goes back with the connection, also when nobody waits for the answer any more.
            let _permit = permit;
            let mut engine = inner.readers.lock().pop().ok_or(StoreError::Closed)?;
            let outcome = catch_unwind(AssertUnwindSafe(|| {
                engine.begin_read()?;
                work(&mut Reader {
                    session: engine.as_mut(),
                    rules: &inner.rules,
                    blobs: &inner.blobs,
                })
            }));
            engine.roll_back();
            inner.readers.lock().push(engine);
            outcome
                .unwrap_or_else(|_| Err(StoreError::Statement("a read panicked".to_owned()).into()))
        })
        .await
        .unwrap_or_else(|_| Err(StoreError::Closed.into()))
    }

    /// Moves what is committed out of the write-ahead log, so that nothing of what was removed is in it
    /// ([`crate::Scope::wipe`]). False while somebody reads what was there before: try again.
    ///
    /// # Errors
    /// [`StoreError::Closed`].
    pub async fn settle(&self) -> Result<bool, StoreError> {
        let (done, settled) = oneshot::channel();
        let sent = self.inner.queue.send(Message::Settle(done)).await;
        sent.map_err(|_| StoreError::Closed)?;
        settled.await.map_err(|_| StoreError::Closed)
    }

    /// The clock of the store: never behind a time that was stored.
    #[must_use]
    pub fn clock(&self) -> &Clock {
        &self.inner.clock
    }

    /// The number of this start: later starts on the same database have higher ones. A lease of
    /// an epoch whose server has ended is void.
    #[must_use]
    pub fn epoch(&self) -> i64 {
        self.inner.epoch
    }

    /// Which server this is, over all its starts.
    #[must_use]
    pub fn server(&self) -> ServerId {
        self.inner.server
    }

    /// Whether other servers may use the database at the same time.
    #[must_use]
    pub fn is_shared(&self) -> bool {
        self.inner.shared
    }

    pub(crate) fn watch_ended(&self) -> watch::Receiver<bool> {
        self.inner.ended.subscribe()
    }

    /// The data folder.
    #[must_use]
    pub fn folder(&self) -> &Path {
        &self.inner.folder
    }

    /// The blob folder.
    #[must_use]
    pub fn blobs(&self) -> &Blobs {
        &self.inner.blobs
    }

    /// Whether the last commit worked.
    #[must_use]
    pub fn is_writable(&self) -> bool {
        self.inner.writable.load(Ordering::Acquire)
    }

    /// How many commits of this start are in doubt ([`StoreError::Doubtful`]).
    #[must_use]
    pub fn doubts(&self) -> u64 {
        self.inner.doubts.load(Ordering::Acquire)
    }

    /// Units that wait for the writer.
    #[must_use]
    pub fn queued(&self) -> usize {
        QUEUE - self.inner.queue.capacity()
    }

    /// The backup that was taken before this start's migrations.
    #[must_use]
    pub fn backup(&self) -> Option<&Path> {
        self.inner.backup.as_deref()
    }

    /// Takes away all rows of a workspace, a table in each unit, and its blobs.
    ///
    /// # Errors
    /// The engine's; what is left goes with the next call.
    pub async fn forget_workspace(&self, workspace: &Workspace) -> Result<(), StoreError> {
        for table in 0.. {
            let of = workspace.clone();
            let forgotten: Result<bool, StoreError> =
                self.write(move |unit| unit.forget(&of, table)).await;
            if !forgotten? {
                break;
            }
        }
        self.sweep_orphan_blobs(workspace).await.map(drop)
    }

    /// Removes blob files that no row names: what a crash left between the file and its commit.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`].
    pub async fn sweep_orphan_blobs(&self, workspace: &Workspace) -> Result<usize, StoreError> {
        let mut removed = 0;
        for first in 0..=u8::MAX {
            let (blobs, of) = (self.inner.blobs.clone(), workspace.clone());
            let hashes = tokio::task::spawn_blocking(move || blobs.list(&of, first))
                .await
                .map_err(|_| StoreError::Closed)??;
            for step in hashes.chunks(ORPHAN_STEP) {
                let (step, of) = (step.to_vec(), workspace.clone());
                removed += self
                    .write(move |unit| -> Result<_, StoreError> {
                        let mut scope = unit.scope(&of);
                        let mut count = 0;
                        for hash in &step {
                            count += usize::from(scope.remove_orphan_blob(hash)?);
                        }
                        Ok(count)
                    })
                    .await?;
            }
        }
        Ok(removed)
    }

    /// Removes the files of blobs that lost their last row or pin and that nothing names now.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`].
    pub async fn sweep_loose_blobs(&self) -> Result<usize, StoreError> {
        let loose = self.inner.blobs.take_loose();
        let mut removed = 0;
        for step in loose.chunks(ORPHAN_STEP) {
            let kept = step.to_vec();
            let swept: Result<usize, StoreError> = self
                .write(move |unit| {
                    let mut count = 0;
                    for (workspace, hash) in &kept {
                        count += usize::from(unit.scope(workspace).remove_orphan_blob(hash)?);
                    }
                    Ok(count)
                })
                .await;
            match swept {
                Ok(count) => removed += count,
                Err(error) => {
                    self.inner.blobs.give_back(step);
                    return Err(error);
                }
            }
        }
        Ok(removed)
    }

    /// Commits what waits, refuses what comes, closes the file and gives up the data folder.
    pub async fn close(&self) {
        self.inner.readers.lock().clear();
        let (done, closed) = oneshot::channel();
        if self.inner.queue.send(Message::Close(done)).await.is_ok() {
            let _ = closed.await;
        }
    }
}

pub(crate) fn make_private(folder: &Path) -> std::io::Result<()> {
    use std::os::unix::fs::DirBuilderExt;
    std::fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(folder)
}

/// The connection that writes, and those that read.
pub(crate) struct Connections {
    pub(crate) engine: Box<dyn Engine>,
    readers: Vec<Box<dyn Engine>>,
    /// Where blobs are kept for other servers too.
    parts: Option<Parts>,
}

pub(crate) fn connect(
    folder: &Path,
    database: &Option<String>,
    readers: usize,
) -> Result<Connections, StoreError> {
    let Some(url) = database else {
        let path = folder.join(DATABASE);
        let engine = Box::new(Sqlite::writer(&path)?);
        let reader = |_| Ok(Box::new(Sqlite::reader(&path)?) as Box<dyn Engine>);
        let readers = (0..readers)
            .map(reader)
            .collect::<Result<_, StoreError>>()?;
        return Ok(Connections {
            engine,
            readers,
            parts: None,
        });
    };
    let address = Address::parse(url)?;
    let engine = Box::new(Postgres::writer(&address)?);
    let reader = |_| Box::new(Postgres::reader(&address)) as Box<dyn Engine>;
    let readers = (0..readers).map(reader).collect();
    Ok(Connections {
        engine,
        readers,
        parts: Some(Parts::new(address)),
    })
}
