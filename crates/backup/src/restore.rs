//! Bringing a backup back onto an empty data folder.
//!
//! A file in the folder says that it is not done yet, from the first step to the last. A restore that
//! fails takes away what it made; one that was killed is taken away by the next, and a server does
//! not start on it. The store is committed as the last thing but one.

use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, symlink};
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, CWD, Gid, Mode, Timespec, Timestamps, Uid};
use skep_core::{Timestamp, Workspace};
use skep_crypto::passphrase::Passphrase;
use skep_store::{Applied, Blobs, FolderLock, Hash, Loader, MigrationSet, Raise};

use crate::BackupError;
use crate::archive::{About, Checker, Head, Manifest, Summary, TableTotal, Visitor, open, read};
use crate::create::KEY_FILE;
use crate::tree::{bytes_of, to_path};

/// Says that the folder is half restored.
const MARKER: &str = "restore.incomplete";
/// What file systems put into an empty folder.
const LOST: &str = "lost+found";
const WORDS: &str = "A restore was cut short here. Run it again: it begins anew.\n";
/// What the epoch is ahead of the saved one. The server that was lost went on after the backup, and
/// no lease of its later epochs may count.
const EPOCHS: i64 = 1_000_000;

/// Where a backup is brought back to.
#[derive(Debug, Clone)]
pub struct Target {
    /// The data folder: empty, or not there yet.
    pub data: PathBuf,
    /// The database, when it is not a file in the folder.
    pub database: Option<String>,
    /// The migrations of everything that has tables.
    pub sets: Vec<MigrationSet>,
}

/// What was brought back.
#[derive(Debug)]
pub struct Restored {
    /// What the backup held.
    pub summary: Summary,
    /// Whether the first key was in it.
    pub has_key: bool,
    data: PathBuf,
}

impl Restored {
    /// Done: from now on a server starts on it.
    ///
    /// # Errors
    /// [`BackupError::File`].
    pub fn finish(self) -> Result<Summary, BackupError> {
        let marker = self.data.join(MARKER);
        let failed = |error: io::Error| BackupError::file(&marker, &error);
        fs::remove_file(&marker).map_err(failed)?;
        File::open(&self.data)
            .and_then(|folder| folder.sync_all())
            .map_err(failed)?;
        Ok(self.summary)
    }
}

/// Whether a restore was cut short in this data folder.
#[must_use]
pub fn is_half_restored(data: &Path) -> bool {
    data.join(MARKER).exists()
}

/// Brings a backup back. Blocks, and must not be called on a thread that runs async tasks. The last
/// step is [`Restored::finish`].
///
/// # Errors
/// [`BackupError`]. Then the folder is empty again, and the database too.
pub fn restore(
    file: &Path,
    passphrase: Option<&Passphrase>,
    target: &Target,
) -> Result<Restored, BackupError> {
    // What cannot be read at all costs nothing.
    let source = open(file)?;
    let data = &target.data;
    let _lock = begin(data)?;
    match bring_back(source, passphrase, target) {
        Ok((summary, has_key)) => Ok(Restored {
            summary,
            has_key,
            data: data.clone(),
        }),
        Err(error) => {
            if let Err(stays) = empty(data) {
                tracing::warn!(error = %stays, "what was begun stays");
            }
            Err(error)
        }
    }
}

/// Takes the folder: one that is empty, is not there, or in which a restore was cut short.
fn begin(data: &Path) -> Result<FolderLock, BackupError> {
    let failed = |error: io::Error| BackupError::file(data, &error);
    fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(data)
        .map_err(failed)?;
    let half = is_half_restored(data);
    let mut entries = fs::read_dir(data).map_err(failed)?;
    let is_other = |entry: io::Result<fs::DirEntry>| match entry {
        Ok(entry) => entry.file_name() != LOST,
        Err(_) => true,
    };
    if !half && entries.any(is_other) {
        return Err(BackupError::NotEmpty {
            path: data.to_owned(),
        });
    }
    let lock = FolderLock::take(data)?;
    if half {
        empty_but_for_marker(data)?;
    }
    let mut marker = OpenOptions::new();
    let marker = marker.write(true).create(true).truncate(true).mode(0o600);
    marker
        .open(data.join(MARKER))
        .and_then(|mut file| {
            file.write_all(WORDS.as_bytes())?;
            file.sync_all()
        })
        .and_then(|()| File::open(data)?.sync_all())
        .map_err(failed)?;
    Ok(lock)
}

fn empty(data: &Path) -> Result<(), BackupError> {
    empty_but_for_marker(data)?;
    let marker = data.join(MARKER);
    fs::remove_file(&marker).map_err(|error| BackupError::file(&marker, &error))?;
    // The lock's file is held still, by us; without it the folder is empty.
    let _ = fs::remove_file(data.join("skep.lock"));
    Ok(())
}

fn empty_but_for_marker(data: &Path) -> Result<(), BackupError> {
    let failed = |error: io::Error| BackupError::file(data, &error);
    for entry in fs::read_dir(data).map_err(failed)? {
        let entry = entry.map_err(failed)?;
        let name = entry.file_name();
        if name == MARKER || name == LOST || name == "skep.lock" {
            continue;
        }
        let removed = match entry.file_type().map_err(failed)?.is_dir() {
            true => fs::remove_dir_all(entry.path()),
            false => fs::remove_file(entry.path()),
        };
        removed.map_err(|error| BackupError::file(&entry.path(), &error))?;
    }
    Ok(())
}

fn bring_back(
    source: impl io::Read,
    passphrase: Option<&Passphrase>,
    target: &Target,
) -> Result<(Summary, bool), BackupError> {
    let mut work = Work {
        target,
        checker: Checker::default(),
        manifest: None,
        loader: None,
        loaded: BTreeMap::new(),
        open: None,
        folders: Vec::new(),
        links: Vec::new(),
        has_key: false,
    };
    read(source, passphrase, &mut work)?;
    work.finish()
}

struct Work<'a> {
    target: &'a Target,
    checker: Checker,
    manifest: Option<Manifest>,
    loader: Option<Loader>,
    loaded: BTreeMap<String, TableTotal>,
    /// The file that is being written.
    open: Option<(PathBuf, File)>,
    /// What folders get when all is in them, and links, so that nothing is written through one.
    folders: Vec<(PathBuf, About)>,
    links: Vec<(PathBuf, PathBuf, About)>,
    has_key: bool,
}

impl Work<'_> {
    fn path(&self, text: &str) -> Result<PathBuf, BackupError> {
        let path = to_path(text);
        let path = path.ok_or_else(|| BackupError::damaged(format!("no file is called {text}")))?;
        Ok(self.target.data.join(path))
    }

    fn make(&mut self, path: PathBuf) -> Result<(), BackupError> {
        let failed = |error: io::Error| BackupError::file(&path, &error);
        if let Some(parent) = path.parent() {
            make_folder(parent)?;
        }
        let mut options = OpenOptions::new();
        let options = options.write(true).create_new(true).mode(0o600);
        let file = options.open(&path).map_err(failed)?;
        self.open = Some((path, file));
        Ok(())
    }

    fn loader(&mut self) -> Result<&mut Loader, BackupError> {
        let missing = || BackupError::damaged("its tables come before it says what they are");
        self.loader.as_mut().ok_or_else(missing)
    }

    fn begin_store(&mut self, manifest: &Manifest) -> Result<(), BackupError> {
        let wrong = || BackupError::damaged("its migrations are not readable");
        let mut applied = Vec::new();
        for (component, name, hash) in &manifest.migrations {
            applied.push(Applied {
                component: component.clone(),
                name: name.clone(),
                hash: Hash::parse(hash).ok_or_else(wrong)?,
            });
        }
        let Target {
            data,
            database,
            sets,
        } = self.target;
        let loader = Loader::begin(data, database.as_deref(), sets, &applied)?;
        self.loader = Some(loader);
        self.manifest = Some(manifest.clone());
        Ok(())
    }

    fn finish(mut self) -> Result<(Summary, bool), BackupError> {
        for (path, target, about) in &self.links {
            if let Some(parent) = path.parent() {
                make_folder(parent)?;
            }
            symlink(target, path).map_err(|error| BackupError::file(path, &error))?;
            settle(path, *about, AtFlags::SYMLINK_NOFOLLOW)?;
        }
        // The deepest first: a folder's time changes with what is put into it.
        for (path, about) in self.folders.iter().rev() {
            settle(path, *about, AtFlags::empty())?;
        }
        let loader = self.loader.take();
        let summary = self.checker.summary()?;
        if self.loaded != summary.totals.tables {
            return Err(BackupError::damaged(
                "its tables hold something else than it says",
            ));
        }
        let data = &self.target.data;
        let synced = File::open(data).and_then(|folder| Ok(rustix::fs::syncfs(folder)?));
        synced.map_err(|error| BackupError::file(data, &error))?;
        let loader = loader.ok_or(BackupError::Truncated)?;
        loader.finish(Raise {
            epochs: EPOCHS,
            time: Timestamp::from_micros(summary.manifest.time),
        })?;
        Ok((summary, self.has_key))
    }
}

impl Visitor for Work<'_> {
    fn begin(&mut self, head: &Head) -> Result<(), BackupError> {
        match head {
            Head::Manifest(manifest) if self.loader.is_none() => self.begin_store(manifest),
            Head::Table { name, columns } => Ok(self.loader()?.table(name, columns)?),
            Head::Blob { workspace, hash } => {
                let wrong = || BackupError::damaged("a blob has no name");
                let workspace = Workspace::new(workspace).map_err(|_| wrong())?;
                let hash = Hash::parse(hash).ok_or_else(wrong)?;
                let root = self.target.data.join("blobs");
                self.make(Blobs::place(&root, &workspace, &hash))
            }
            Head::Folder { path, about } => {
                let path = self.path(path)?;
                make_folder(&path)?;
                self.folders.push((path, *about));
                Ok(())
            }
            Head::File { path, .. } => {
                let path = self.path(path)?;
                self.make(path)
            }
            Head::Link {
                path,
                target,
                about,
            } => {
                let path = self.path(path)?;
                let target = bytes_of(target).map(PathBuf::from);
                let target = target.ok_or_else(|| BackupError::damaged("a link leads nowhere"))?;
                self.links.push((path, target, *about));
                Ok(())
            }
            Head::Key => {
                self.has_key = true;
                self.make(self.target.data.join(KEY_FILE))
            }
            Head::Manifest(_) | Head::Totals(_) => Ok(()),
        }
    }

    fn data(&mut self, head: &Head, bytes: &[u8]) -> Result<(), BackupError> {
        if matches!(head, Head::Table { .. }) {
            return Ok(self.loader()?.rows(bytes)?);
        }
        let Some((path, file)) = &mut self.open else {
            return Err(BackupError::damaged(
                "an entry has content that can have none",
            ));
        };
        file.write_all(bytes)
            .map_err(|error| BackupError::file(path, &error))
    }

    fn end(&mut self, head: Head, size: u64, hash: Hash) -> Result<(), BackupError> {
        if let Head::Table { name, .. } = &head {
            let sum = self.loader()?.end_table()?;
            let total = TableTotal {
                rows: sum.rows,
                hash: sum.hash.to_string(),
            };
            self.loaded.insert(name.clone(), total);
        }
        if let (Some((path, _)), Head::File { about, .. }) = (self.open.take(), &head) {
            settle(&path, *about, AtFlags::empty())?;
        }
        self.checker.check(head, size, hash)
    }
}

pub(crate) fn make_folder(path: &Path) -> Result<(), BackupError> {
    fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(path)
        .map_err(|error| BackupError::file(path, &error))
}

/// Gives a file its owner, as far as this user may, its mode and its time.
fn settle(path: &Path, about: About, flags: AtFlags) -> Result<(), BackupError> {
    let failed = |error: rustix::io::Errno| BackupError::file(path, &error.into());
    if rustix::process::geteuid().is_root() {
        let (uid, gid) = (Uid::from_raw(about.uid), Gid::from_raw(about.gid));
        let given = rustix::fs::chownat(CWD, path, Some(uid), Some(gid), AtFlags::SYMLINK_NOFOLLOW);
        given.map_err(failed)?;
    }
    if flags.is_empty() {
        let mode = Mode::from_raw_mode(about.mode);
        rustix::fs::chmodat(CWD, path, mode, AtFlags::empty()).map_err(failed)?;
    }
    let modified = Timespec {
        tv_sec: about.modified.0,
        tv_nsec: about.modified.1.into(),
    };
    let times = Timestamps {
        last_access: modified,
        last_modification: modified,
    };
    rustix::fs::utimensat(CWD, path, &times, flags).map_err(failed)
}
