//! The server's backups: one at a time, by order or by schedule, into one folder of which the newest
//! stay. Nothing that goes wrong here stops the server from serving.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use skep_api::{Backup, BackupState, Check, Health, NewBackup};
use skep_backup::{BackupError, Plan, folder};
use skep_backup_s3::{Bucket, Options};
use skep_core::config::{SecretText, Settings};
use skep_core::{Code, Timestamp};
use skep_crypto::passphrase::Passphrase;
use skep_store::Db;
use tokio_util::sync::CancellationToken;

use crate::ServerError;
use crate::metrics::BackupMetrics;
use crate::problem::ApiError;

/// Where backups are unless the configuration says otherwise, in the data folder.
const FOLDER: &str = "backups";
/// A backup that failed is not made again by itself any sooner.
const AGAIN: Duration = Duration::from_secs(600);
/// The shortest and longest time between two looks whether one is due.
const LOOK: (Duration, Duration) = (Duration::from_millis(200), Duration::from_secs(30));
/// The largest backup that is read through for a report.
const MOST_READ: u64 = 256 << 20;
/// Names of a list.
const MOST_LISTED: usize = 1_000;

/// Makes and keeps backups.
pub(crate) struct Backups {
    db: Db,
    folder: PathBuf,
    every: Option<Duration>,
    keep: usize,
    bucket: Option<Bucket>,
    passphrase: Option<Passphrase>,
    min_free: u64,
    stop: Arc<AtomicBool>,
    metrics: BackupMetrics,
    now: Mutex<Now>,
    /// Held while a backup is read through.
    reading: Mutex<()>,
}

/// What is known besides what lies in the folder.
#[derive(Default)]
struct Now {
    running: Option<Backup>,
    /// The last one, when it failed, and when.
    failed: Option<(Backup, Timestamp)>,
}

impl Backups {
    /// Takes the folder and removes what a server left there that was killed.
    pub(crate) fn open(
        db: &Db,
        settings: &Settings,
        metrics: BackupMetrics,
        stop: &CancellationToken,
    ) -> Result<Arc<Self>, ServerError> {
        let passphrase = settings.backup_passphrase.as_ref();
        let passphrase = passphrase.map(|text| Passphrase::new(text.reveal()));
        let passphrase = passphrase.transpose();
        let passphrase = passphrase
            .map_err(|error| ServerError::Backup(format!("backup.passphrase: {error}")))?;
        let folder = settings.backup_to.clone();
        let folder = folder.unwrap_or_else(|| settings.data.join(FOLDER));
        match folder::remove_partial(&folder) {
            Ok(0) => {}
            Ok(count) => tracing::info!(count, "backups that were not finished are removed"),
            Err(error) => tracing::warn!(%error, "the folder of backups"),
        }
        let bucket = match &settings.backup_bucket {
            Some(url) => Some(bucket(settings, url)?),
            None => None,
        };
        let ends = Arc::new(AtomicBool::new(false));
        let (flag, stop) = (ends.clone(), stop.clone());
        tokio::spawn(async move {
            stop.cancelled().await;
            flag.store(true, Ordering::Release);
        });
        Ok(Arc::new(Self {
            db: db.clone(),
            folder,
            every: settings.backup_every,
            keep: settings.backup_keep,
            bucket,
            passphrase,
            min_free: settings.disk_min_free,
            stop: ends,
            metrics,
            now: Mutex::default(),
            reading: Mutex::default(),
        }))
    }

    /// Begins a backup; it goes on by itself.
    pub(crate) fn begin(self: &Arc<Self>, wanted: NewBackup) -> Result<Backup, ApiError> {
        let own = wanted.passphrase.map(Passphrase::new).transpose();
        let own = own.map_err(|error| ApiError::new(Code::BadRequest, error.to_string()))?;
        let passphrase = own.or_else(|| self.passphrase.clone());
        let passphrase = match (wanted.encrypt, passphrase) {
            (Some(false), _) => None,
            (Some(true), None) => {
                let detail = "there is no passphrase: send one, or set backup.passphrase";
                return Err(ApiError::new(Code::BadRequest, detail));
            }
            (_, passphrase) => passphrase,
        };
        let backup = Backup {
            name: folder::name_of(self.db.clock().now()),
            state: BackupState::Running,
            bytes: None,
            encrypted: passphrase.is_some(),
            reason: None,
        };
        {
            let mut now = self.now.lock();
            if let Some(running) = &now.running {
                let detail = format!("{} is being made", running.name);
                return Err(ApiError::new(Code::BackupRunning, detail));
            }
            now.running = Some(backup.clone());
        }
        let (this, begun) = (self.clone(), backup.clone());
        tokio::spawn(async move { this.make(begun, passphrase).await });
        Ok(backup)
    }

    async fn make(self: Arc<Self>, backup: Backup, passphrase: Option<Passphrase>) {
        let started = std::time::Instant::now();
        let plan = Plan {
            sets: crate::migrations().to_vec(),
            passphrase,
            min_free: self.min_free,
            stop: self.stop.clone(),
        };
        let file = self.folder.join(&backup.name);
        let made = match skep_backup::create(&self.db, plan, &file).await {
            Ok(summary) => self.put(&backup.name, &file).await.map(|()| summary),
            Err(error) => Err(error.to_string()),
        };
        let now = self.db.clock().now();
        self.metrics.ended(made.is_ok(), started.elapsed(), now);
        match made {
            Ok(summary) => {
                let totals = &summary.totals;
                let (files, blobs, bytes) = (totals.files, totals.blobs, totals.bytes);
                tracing::info!(name = backup.name, files, blobs, bytes, "backup made");
                self.prune();
                let mut now = self.now.lock();
                now.running = None;
                now.failed = None;
            }
            Err(error) => {
                tracing::error!(name = backup.name, %error, "backup not made");
                let failed = Backup {
                    state: BackupState::Failed,
                    reason: Some(error),
                    ..backup
                };
                let mut of = self.now.lock();
                of.running = None;
                of.failed = Some((failed, now));
            }
        }
    }

    /// Puts a backup into the bucket, when there is one, and removes the oldest there.
    async fn put(&self, name: &str, file: &Path) -> Result<(), String> {
        let Some(bucket) = &self.bucket else {
            return Ok(());
        };
        bucket
            .put(file, name)
            .await
            .map_err(|error| format!("it is in the server's folder only; {error}"))?;
        match bucket.prune(self.keep).await {
            Ok(gone) => tracing::info!(name, removed = gone.len(), "backup is in the bucket"),
            Err(error) => tracing::warn!(%error, "old backups stay in the bucket"),
        }
        Ok(())
    }

    fn prune(&self) {
        match folder::prune(&self.folder, self.keep) {
            Ok(gone) => {
                for name in gone {
                    tracing::info!(name, "backup removed: there are newer ones");
                }
            }
            Err(error) => tracing::warn!(%error, "old backups stay"),
        }
    }

    /// The backups that there are, newest first, with the one that is being made and the last one
    /// if it failed. Blocks.
    pub(crate) fn list(&self) -> Result<Vec<Backup>, BackupError> {
        let now = {
            let now = self.now.lock();
            let failed = now.failed.iter().map(|(backup, _)| backup.clone());
            now.running
                .iter()
                .cloned()
                .chain(failed)
                .collect::<Vec<_>>()
        };
        let mut all: Vec<Backup> = folder::list(&self.folder)?
            .into_iter()
            .filter(|found| now.iter().all(|backup| backup.name != found.name))
            .map(|found| Backup {
                name: found.name,
                state: BackupState::Done,
                bytes: Some(found.bytes),
                encrypted: found.encrypted.unwrap_or(false),
                reason: None,
            })
            .collect();
        all.extend(now);
        all.sort_by(|one, other| other.name.cmp(&one.name));
        all.truncate(MOST_LISTED);
        Ok(all)
    }

    /// The backups that were made since a moment and are done, newest first. Blocks.
    pub(crate) fn since(&self, since: Timestamp) -> Result<Vec<Backup>, BackupError> {
        let mut all = self.list()?;
        all.retain(|it| {
            let at = folder::moment_of(&it.name);
            it.state == BackupState::Done && at.is_some_and(|at| at >= since)
        });
        Ok(all)
    }

    /// Reads a backup through, one at a time. Else it says why not, and whether it is broken. Blocks.
    pub(crate) fn read_through(&self, backup: &Backup) -> Result<(), (bool, String)> {
        let Some(_turn) = self.reading.try_lock() else {
            return Err((false, "another one is being read just now".to_owned()));
        };
        if backup.bytes.is_none_or(|bytes| bytes > MOST_READ) {
            let why = "it is over 256 MiB; read it with `skep backup verify`";
            return Err((false, why.to_owned()));
        }
        let path = self.file(&backup.name);
        let path = path.ok_or_else(|| (false, "it is gone".to_owned()))?;
        match skep_backup::verify(&path, self.passphrase.as_ref()) {
            Ok(_) => Ok(()),
            Err(error) => {
                use BackupError::{Damaged, NotABackup, Truncated};
                let broken = matches!(error, Damaged(_) | NotABackup | Truncated);
                Err((broken, error.to_string()))
            }
        }
    }

    /// The file of a backup that is done.
    pub(crate) fn file(&self, name: &str) -> Option<PathBuf> {
        let path = folder::is_name(name).then(|| self.folder.join(name))?;
        path.is_file().then_some(path)
    }

    /// Makes backups by the schedule, for ever.
    pub(crate) async fn keep_schedule(self: Arc<Self>) {
        let Some(every) = self.every else { return };
        let mut tick = tokio::time::interval((every / 4).clamp(LOOK.0, LOOK.1));
        tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            tick.tick().await;
            if self.is_due(every) {
                // One that is being made by order will do.
                let _ = self.begin(NewBackup::default());
            }
        }
    }

    fn is_due(&self, every: Duration) -> bool {
        let clock = self.db.clock().now();
        let tried = {
            let now = self.now.lock();
            if now.running.is_some() || self.stop.load(Ordering::Acquire) {
                return false;
            }
            now.failed.as_ref().map(|(_, at)| *at)
        };
        if tried.is_some_and(|at| clock.since(at) < every.min(AGAIN)) {
            return false;
        }
        newest(&self.folder).is_none_or(|at| clock.since(at) >= every)
    }

    /// For the report of health.
    pub(crate) fn check(&self) -> Check {
        let clock = self.db.clock().now();
        let newest = newest(&self.folder);
        let age = newest.map(|at| clock.since(at));
        let failed = self.now.lock().failed.clone();
        let late = self
            .every
            .filter(|every| age.is_none_or(|age| age > *every * 2));
        let hours = |age: Duration| format!("the newest is {} h old", age.as_secs() / 3_600);
        let of_age = age.map_or_else(|| "there is none".to_owned(), hours);
        let (status, detail) = match (failed, late) {
            (Some((backup, _)), _) => {
                let why = backup.reason.unwrap_or_default();
                (
                    Health::Degraded,
                    format!("the last one failed: {why}; {of_age}"),
                )
            }
            (None, Some(_)) if self.db.clock().now().since(self.metrics.began) > AGAIN => {
                (Health::Degraded, format!("overdue: {of_age}"))
            }
            (None, _) if self.every.is_none() => (Health::Ok, format!("no schedule; {of_age}")),
            (None, _) => (Health::Ok, of_age),
        };
        Check {
            name: "backup".to_owned(),
            status,
            detail,
        }
    }
}

/// The bucket of the configuration.
///
/// # Errors
/// [`ServerError::Backup`] when something of it is missing or wrong.
pub fn bucket(settings: &Settings, url: &str) -> Result<Bucket, ServerError> {
    let wrong = |why: String| ServerError::Backup(why);
    let key = |name: &str, value: &Option<SecretText>| {
        let value = value.as_ref().map(|text| text.reveal().to_owned());
        value.ok_or_else(|| wrong(format!("{name} is needed for the bucket {url}")))
    };
    Bucket::new(&Options {
        url: url.to_owned(),
        endpoint: settings.backup_endpoint.clone(),
        region: settings.backup_region.clone(),
        access_key: key("backup.access_key", &settings.backup_access_key)?,
        secret_key: key("backup.secret_key", &settings.backup_secret_key)?,
    })
    .map_err(|error| wrong(format!("backup.bucket: {error}")))
}

/// When the newest backup of a folder was begun.
fn newest(path: &Path) -> Option<Timestamp> {
    // A folder that cannot be read has none: the next one will fail and say so.
    let found = folder::list(path).unwrap_or_default();
    folder::moment_of(&found.last()?.name)
}
