//! Content-addressed files for bodies that are too large for a row.
//!
//! A blob is written to a temporary file, synced, renamed to its SHA-256 and its folder synced,
//! all before the row that names it is committed. Who put a blob holds a pin on it until then, so
//! that the sweeper of unreferenced blobs cannot take it away in between.

use std::collections::HashMap;
use std::fmt;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::Mutex;
use sha2::{Digest, Sha256};
use skep_core::Workspace;

use crate::StoreError;
use crate::parts::Parts;

const TEMPORARY: &str = "tmp";
/// Blobs that are noted as perhaps unnamed.
const MOST_LOOSE: usize = 100_000;

/// The SHA-256 of a blob.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Hash([u8; 32]);

impl Hash {
    /// The hash with these bytes.
    #[must_use]
    pub const fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// The hash of this content.
    #[must_use]
    pub fn of(content: &[u8]) -> Self {
        Self(Sha256::digest(content).into())
    }

    /// Its bytes.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// The hash that this text shows.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        if text.len() != 64 || !text.is_ascii() {
            return None;
        }
        let mut bytes = [0; 32];
        for (slot, pair) in bytes.iter_mut().zip(text.as_bytes().chunks(2)) {
            *slot = u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok()?;
        }
        Some(Self(bytes))
    }
}

impl fmt::Display for Hash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for Hash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// What a row keeps of a blob.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BlobRef {
    /// Its name.
    pub hash: Hash,
    /// Its length in bytes.
    pub size: u64,
}

/// The blob folder. Cheap to clone. Its functions block on the disk: call them from a blocking
/// context.
#[derive(Debug, Clone)]
pub struct Blobs {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    root: PathBuf,
    next: AtomicU64,
    pins: Mutex<HashMap<(Workspace, Hash), u32>>,
    /// The database that holds them too, when several servers share it.
    parts: Option<Parts>,
    /// Blobs that lost a pin or their row: perhaps nothing names them any more.
    loose: Mutex<Vec<(Workspace, Hash)>>,
    /// Who wants every blob to stay; changed under the lock of `pins`.
    holds: AtomicU64,
}

#[expect(clippy::needless_pass_by_value, reason = "for map_err")]
fn unavailable(error: io::Error) -> StoreError {
    StoreError::Unavailable(format!("blob: {error}"))
}

fn make_folder(path: &Path) -> io::Result<()> {
    fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(path)
}

fn sync_folder(path: &Path) -> io::Result<()> {
    File::open(path)?.sync_all()
}

fn folder(root: &Path, workspace: &Workspace, hash: &Hash) -> PathBuf {
    root.join("by-hash")
        .join(workspace.as_str())
        .join(format!("{:02x}", hash.0[0]))
}

impl Blobs {
    /// Opens the folder and removes what interrupted writers left.
    pub(crate) fn open(root: PathBuf, parts: Option<Parts>) -> io::Result<Self> {
        let temporary = root.join(TEMPORARY);
        if temporary.exists() {
            fs::remove_dir_all(&temporary)?;
        }
        make_folder(&temporary)?;
        Ok(Self {
            inner: Arc::new(Inner {
                root,
                next: AtomicU64::new(0),
                pins: Mutex::default(),
                parts,
                loose: Mutex::default(),
                holds: AtomicU64::new(0),
            }),
        })
    }

    fn folder(&self, workspace: &Workspace, hash: &Hash) -> PathBuf {
        folder(&self.inner.root, workspace, hash)
    }

    fn path(&self, workspace: &Workspace, hash: &Hash) -> PathBuf {
        Self::place(&self.inner.root, workspace, hash)
    }

    /// Where a blob is in a blob folder, for who fills one that no server has.
    #[must_use]
    pub fn place(root: &Path, workspace: &Workspace, hash: &Hash) -> PathBuf {
        folder(root, workspace, hash).join(hash.to_string())
    }

    /// Starts a new blob.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`] when the disk does not take it.
    pub fn writer(&self, workspace: &Workspace) -> Result<BlobWriter, StoreError> {
        let number = self.inner.next.fetch_add(1, Ordering::Relaxed);
        let path = self.inner.root.join(TEMPORARY).join(number.to_string());
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&path)
            .map_err(unavailable)?;
        Ok(BlobWriter {
            blobs: self.clone(),
            workspace: workspace.clone(),
            file,
            path,
            hasher: Sha256::new(),
            size: 0,
            kept: false,
        })
    }

    /// Opens a blob for reading. One that another server put is copied into the folder first.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`] when it cannot be read.
    pub fn open_blob(&self, workspace: &Workspace, hash: &Hash) -> Result<File, StoreError> {
        let (path, parts) = (self.path(workspace, hash), &self.inner.parts);
        match (File::open(&path), parts) {
            (Ok(file), _) => Ok(file),
            (Err(error), Some(parts)) if error.kind() == io::ErrorKind::NotFound => {
                self.fetch(parts, workspace, hash)?;
                File::open(path).map_err(unavailable)
            }
            (Err(error), _) => Err(unavailable(error)),
        }
    }

    /// Opens a blob of the folder.
    pub(crate) fn open_here(&self, workspace: &Workspace, hash: &Hash) -> io::Result<File> {
        File::open(self.path(workspace, hash))
    }

    /// The database that holds the blobs too.
    pub(crate) fn parts(&self) -> Option<Parts> {
        self.inner.parts.clone()
    }

    fn fetch(&self, parts: &Parts, workspace: &Workspace, hash: &Hash) -> Result<(), StoreError> {
        let mut copy = self.writer(workspace)?;
        parts.get(workspace, hash, |content| copy.write(content))?;
        let got = Hash(copy.hasher.clone().finalize().into());
        if got != *hash {
            return Err(StoreError::Unavailable(format!(
                "blob {hash} is not whole in the database"
            )));
        }
        copy.place(hash).map_err(unavailable)
    }

    /// Removes a blob that nobody pins. False when it is pinned. One that is gone counts as removed.
    pub(crate) fn remove_unpinned(
        &self,
        workspace: &Workspace,
        hash: &Hash,
    ) -> Result<bool, StoreError> {
        let pins = self.inner.pins.lock();
        if self.inner.holds.load(Ordering::Acquire) > 0 {
            self.loosen(workspace, *hash);
            return Ok(false);
        }
        if pins.contains_key(&(workspace.clone(), *hash)) {
            return Ok(false);
        }
        match fs::remove_file(self.path(workspace, hash)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(unavailable(error)),
            _ => Ok(true),
        }
    }

    fn pin(&self, workspace: &Workspace, hash: Hash) {
        *self
            .inner
            .pins
            .lock()
            .entry((workspace.clone(), hash))
            .or_default() += 1;
    }

    fn unpin(&self, workspace: &Workspace, hash: Hash) {
        let mut pins = self.inner.pins.lock();
        let key = (workspace.clone(), hash);
        if let Some(count) = pins.get_mut(&key) {
            *count -= 1;
            if *count == 0 {
                pins.remove(&key);
                drop(pins);
                self.loosen(workspace, hash);
            }
        }
    }

    /// Notes a blob that perhaps nothing names any more. What does not fit waits for the search of
    /// the next start.
    pub(crate) fn loosen(&self, workspace: &Workspace, hash: Hash) {
        let mut loose = self.inner.loose.lock();
        if loose.len() < MOST_LOOSE {
            loose.push((workspace.clone(), hash));
        }
    }

    /// From now on no blob is removed, until the hold is dropped: whoever then looks at which blobs
    /// there are finds them all.
    #[must_use]
    pub fn hold(&self) -> BlobHold {
        let _pins = self.inner.pins.lock();
        self.inner.holds.fetch_add(1, Ordering::AcqRel);
        BlobHold {
            blobs: self.clone(),
        }
    }

    pub(crate) fn take_loose(&self) -> Vec<(Workspace, Hash)> {
        if self.inner.holds.load(Ordering::Acquire) > 0 {
            return Vec::new();
        }
        std::mem::take(&mut self.inner.loose.lock())
    }

    pub(crate) fn give_back(&self, loose: &[(Workspace, Hash)]) {
        self.inner.loose.lock().extend_from_slice(loose);
    }

    /// The hashes of a workspace's blobs whose first byte is `first`.
    pub(crate) fn list(&self, workspace: &Workspace, first: u8) -> Result<Vec<Hash>, StoreError> {
        let mut lead = [0; 32];
        lead[0] = first;
        let entries = match fs::read_dir(self.folder(workspace, &Hash(lead))) {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(unavailable(error)),
        };
        Ok(entries
            .flatten()
            .filter_map(|entry| Hash::parse(entry.file_name().to_str()?))
            .collect())
    }
}

/// A blob that is being written. Dropped before [`BlobWriter::finish`], it leaves nothing behind.
#[derive(Debug)]
pub struct BlobWriter {
    blobs: Blobs,
    workspace: Workspace,
    file: File,
    path: PathBuf,
    hasher: Sha256,
    size: u64,
    kept: bool,
}

impl BlobWriter {
    /// Adds bytes.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`] when the disk does not take them.
    pub fn write(&mut self, bytes: &[u8]) -> Result<(), StoreError> {
        self.file.write_all(bytes).map_err(unavailable)?;
        self.hasher.update(bytes);
        self.size += bytes.len() as u64;
        Ok(())
    }

    /// Bytes so far.
    #[must_use]
    pub const fn size(&self) -> u64 {
        self.size
    }

    /// A second handle for reading what was written so far, at any position.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`] when the system has no handle left.
    pub fn reader(&self) -> Result<File, StoreError> {
        self.file.try_clone().map_err(unavailable)
    }

    /// Makes the blob durable under its name and pins it.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`] when the disk does not take it.
    pub fn finish(mut self) -> Result<PinnedBlob, StoreError> {
        self.file.sync_data().map_err(unavailable)?;
        let hash = Hash(std::mem::take(&mut self.hasher).finalize().into());
        self.blobs.pin(&self.workspace, hash);
        let pinned = PinnedBlob {
            blobs: self.blobs.clone(),
            workspace: self.workspace.clone(),
            blob: BlobRef {
                hash,
                size: self.size,
            },
        };
        if let Some(parts) = &self.blobs.inner.parts {
            parts.put(&self.workspace, &hash, &self.file)?;
        }
        self.place(&hash).map_err(unavailable)?;
        Ok(pinned)
    }

    /// Gives the file its name.
    fn place(&mut self, hash: &Hash) -> io::Result<()> {
        let folder = self.blobs.folder(&self.workspace, hash);
        if !folder.exists() {
            make_folder(&folder)?;
            for parent in folder.ancestors().skip(1).take(3) {
                sync_folder(parent)?;
            }
        }
        fs::rename(&self.path, folder.join(hash.to_string()))?;
        self.kept = true;
        sync_folder(&folder)
    }
}

impl Drop for BlobWriter {
    fn drop(&mut self) {
        if !self.kept {
            // What stays is removed at the next start.
            let _ = fs::remove_file(&self.path);
        }
    }
}

/// Keeps every blob where it is, also those that lose their last row.
#[derive(Debug)]
pub struct BlobHold {
    blobs: Blobs,
}

impl Drop for BlobHold {
    fn drop(&mut self) {
        self.blobs.inner.holds.fetch_sub(1, Ordering::AcqRel);
    }
}

/// A durable blob that the sweeper leaves alone while this lives.
#[derive(Debug)]
pub struct PinnedBlob {
    blobs: Blobs,
    workspace: Workspace,
    blob: BlobRef,
}

impl PinnedBlob {
    /// What a row keeps of it.
    #[must_use]
    pub const fn blob(&self) -> BlobRef {
        self.blob
    }
}

impl Drop for PinnedBlob {
    fn drop(&mut self) {
        self.blobs.unpin(&self.workspace, self.blob.hash);
    }
}
