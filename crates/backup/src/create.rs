//! Making a backup while the server serves.
//!
//! First every blob is held where it is, then one read transaction gives the tables, then come the
//! blobs that they name, and at last homes, logs and volumes, file by file. Files are read after the
//! tables: what an agent wrote before it answered a call is there when the call's answer is.

use std::fs::{self, File, OpenOptions};
use std::io::{BufWriter, Read};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use skep_core::{Clock, Workspace};
use skep_crypto::passphrase::Passphrase;
use skep_store::{Blobs, Db, Dump, Hash, MigrationSet, StoreError};

use crate::BackupError;
use crate::archive::{Head, Manifest, PIECE, Summary, TableTotal, Totals, Writer};
use crate::files::{self, Found, LOOK_EVERY};
use crate::folder::partial;
use crate::tree::{belongs, to_text};

/// The first key, which is in encrypted backups only.
pub(crate) const KEY_FILE: &str = "admin.key";

/// How to make a backup.
#[derive(Debug, Clone, Default)]
pub struct Plan {
    /// The migrations of everything that has tables.
    pub sets: Vec<MigrationSet>,
    /// What it is encrypted with, when it is.
    pub passphrase: Option<Passphrase>,
    /// Free bytes that must stay on the disk that it is written to.
    pub min_free: u64,
    /// Ends it when it becomes true.
    pub stop: Arc<AtomicBool>,
}

/// A file that goes away unless it is kept.
struct Partial {
    path: PathBuf,
    kept: bool,
}

impl Drop for Partial {
    fn drop(&mut self) {
        if !self.kept {
            // What stays is no backup by its name, and the next start removes it.
            let _ = fs::remove_file(&self.path);
        }
    }
}

struct Work {
    writer: Writer<BufWriter<File>>,
    partial: Partial,
    plan: Plan,
    unseen: u64,
    totals: Totals,
}

/// A blob of the state that is backed up.
type Named = (Workspace, Hash);

/// Makes a backup in this file, which appears when it is whole and on disk.
///
/// # Errors
/// [`BackupError`]. Then there is no file.
pub async fn create(db: &Db, plan: Plan, file: &Path) -> Result<Summary, BackupError> {
    let hold = db.blobs().hold();
    let (clock, path) = (db.clock().clone(), file.to_owned());
    let (work, manifest, blobs) = db
        .read(move |reader| {
            let mut work = Work::begin(plan, &path)?;
            let mut dump = reader.dump(&work.plan.sets)?;
            let manifest = manifest(&mut dump, &clock)?;
            work.entry(&Head::Manifest(manifest.clone()), &[])?;
            let blobs = work.tables(&mut dump)?;
            Ok::<_, BackupError>((work, manifest, blobs))
        })
        .await?;
    let (of, data, file) = (db.blobs().clone(), db.folder().to_owned(), file.to_owned());
    let ended = tokio::task::spawn_blocking(move || {
        let mut work = work;
        work.blobs(&of, &blobs)?;
        drop(hold);
        work.files(&data)?;
        let totals = work.finish(&file)?;
        Ok(Summary { manifest, totals })
    });
    ended.await.unwrap_or(Err(BackupError::Stopped))
}

fn manifest(dump: &mut Dump<'_>, clock: &Clock) -> Result<Manifest, StoreError> {
    let (epoch, _) = dump.epoch_and_time()?;
    // After the state was fixed, so that no time in it is later.
    let now = clock.now();
    let applied = dump.applied().iter().map(|it| {
        let hash = it.hash.to_string();
        (it.component.clone(), it.name.clone(), hash)
    });
    Ok(Manifest {
        skep: env!("CARGO_PKG_VERSION").to_owned(),
        created_at: now.to_string(),
        time: now.as_micros(),
        epoch,
        migrations: applied.collect(),
    })
}

impl Work {
    fn begin(plan: Plan, file: &Path) -> Result<Self, BackupError> {
        let folder = file.parent().unwrap_or(Path::new("."));
        fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(folder)
            .map_err(|error| BackupError::file(folder, &error))?;
        let path = partial(file);
        let out = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&path)
            .map_err(|error| BackupError::file(&path, &error))?;
        let partial = Partial { path, kept: false };
        let out = BufWriter::with_capacity(4 * PIECE, out);
        let writer = Writer::new(out, plan.passphrase.as_ref());
        let mut work = Self {
            writer: writer.map_err(|error| error.at(&partial.path))?,
            partial,
            plan,
            unseen: LOOK_EVERY,
            totals: Totals::default(),
        };
        work.go_on(0)?;
        Ok(work)
    }

    /// Looks now and then whether to go on.
    fn go_on(&mut self, written: usize) -> Result<(), BackupError> {
        self.unseen += written as u64;
        if self.plan.stop.load(Ordering::Acquire) {
            return Err(BackupError::Stopped);
        }
        if self.unseen < LOOK_EVERY {
            return Ok(());
        }
        self.unseen = 0;
        files::room(&self.partial.path, self.plan.min_free)
    }

    fn head(&mut self, head: &Head) -> Result<(), BackupError> {
        let begun = self.writer.begin(head);
        begun.map_err(|error| error.at(&self.partial.path))
    }

    fn data(&mut self, bytes: &[u8]) -> Result<(), BackupError> {
        self.go_on(bytes.len())?;
        let written = self.writer.data(bytes);
        written.map_err(|error| error.at(&self.partial.path))
    }

    fn end(&mut self) -> Result<(u64, Hash), BackupError> {
        let ended = self.writer.end();
        ended.map_err(|error| error.at(&self.partial.path))
    }

    fn entry(&mut self, head: &Head, content: &[u8]) -> Result<(), BackupError> {
        self.head(head)?;
        self.data(content)?;
        self.end().map(drop)
    }

    /// Writes the tables; tells which blobs they name.
    fn tables(&mut self, dump: &mut Dump<'_>) -> Result<Vec<Named>, BackupError> {
        for table in dump.tables() {
            self.head(&Head::Table {
                name: table.name.clone(),
                columns: table.columns.clone(),
            })?;
            let sum = dump.table(&table, |piece| self.data(piece))?;
            self.end()?;
            let total = TableTotal {
                rows: sum.rows,
                hash: sum.hash.to_string(),
            };
            self.totals.tables.insert(table.name, total);
        }
        let mut blobs = Vec::new();
        dump.blobs(|workspace, hash, _| {
            blobs.extend(Workspace::new(workspace).map(|workspace| (workspace, hash)));
        })?;
        Ok(blobs)
    }

    fn blobs(&mut self, blobs: &Blobs, named: &[Named]) -> Result<(), BackupError> {
        for (workspace, hash) in named {
            let file = blobs.open_blob(workspace, hash).map_err(|_| {
                BackupError::damaged(format!("the store names blob {hash}, which is not there"))
            })?;
            self.head(&Head::Blob {
                workspace: workspace.to_string(),
                hash: hash.to_string(),
            })?;
            let (size, found) = self.content(file, u64::MAX, Path::new("blob"))?;
            if found != *hash {
                let why = format!("blob {hash} of the store is damaged on its disk");
                return Err(BackupError::damaged(why));
            }
            self.totals.blobs += 1;
            self.totals.bytes += size;
        }
        Ok(())
    }

    /// The content of a file up to a size, which it may not have any more, and the end of the entry.
    fn content(&mut self, file: File, most: u64, path: &Path) -> Result<(u64, Hash), BackupError> {
        let mut file = file.take(most);
        let mut piece = vec![0; PIECE];
        loop {
            match file.read(&mut piece) {
                Ok(0) => return self.end(),
                Ok(count) => self.data(&piece[..count])?,
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
                Err(error) => return Err(BackupError::file(path, &error)),
            }
        }
    }

    fn files(&mut self, data: &Path) -> Result<(), BackupError> {
        let mut skipped = 0;
        skipped += files::walk(data, belongs, &mut |path, about, found| {
            let text = to_text(path);
            match found {
                Found::Folder => self.entry(&Head::Folder { path: text, about }, &[]),
                Found::Link(target) => {
                    let path = text;
                    self.entry(
                        &Head::Link {
                            path,
                            target,
                            about,
                        },
                        &[],
                    )
                }
                Found::File(file, size) => {
                    self.head(&Head::File { path: text, about })?;
                    let (size, _) = self.content(file, size, path)?;
                    self.totals.files += 1;
                    self.totals.bytes += size;
                    Ok(())
                }
            }
        })?;
        self.totals.skipped = skipped;
        if self.plan.passphrase.is_some() {
            self.key(data)?;
        }
        Ok(())
    }

    /// The first key goes along where nobody can read it without the passphrase.
    fn key(&mut self, data: &Path) -> Result<(), BackupError> {
        match fs::read(data.join(KEY_FILE)) {
            Ok(key) => self.entry(&Head::Key, &key),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(()),
            Err(error) => Err(BackupError::file(&data.join(KEY_FILE), &error)),
        }
    }

    /// Ends the file, and gives it its name when it is on disk.
    fn finish(mut self, file: &Path) -> Result<Totals, BackupError> {
        let totals = self.totals.clone();
        self.entry(&Head::Totals(totals.clone()), &[])?;
        let failed = |error: std::io::Error| BackupError::file(file, &error);
        let out = self.writer.finish();
        let out = out.map_err(|error| error.at(&self.partial.path))?;
        let out = out
            .into_inner()
            .map_err(|error| failed(error.into_error()))?;
        out.sync_all().map_err(failed)?;
        fs::rename(&self.partial.path, file).map_err(failed)?;
        self.partial.kept = true;
        let folder = file.parent().unwrap_or(Path::new("."));
        let folder = File::open(folder).and_then(|folder| folder.sync_all());
        folder.map_err(failed)?;
        Ok(totals)
    }
}
