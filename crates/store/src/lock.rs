//! The lock on the data folder: one server at a time.

use std::fs::{File, OpenOptions};
use std::io::{Read, Seek, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use rustix::fs::{FlockOperation, flock};

use crate::StoreError;

pub(crate) const FILE: &str = "skep.lock";

/// Holds the data folder until it is dropped or the process ends, however it ends.
#[derive(Debug)]
pub struct FolderLock {
    _file: File,
}

impl FolderLock {
    /// Takes the lock of this folder, which must be there.
    ///
    /// # Errors
    /// [`StoreError::InUse`], [`StoreError::Folder`].
    pub fn take(folder: &Path) -> Result<Self, StoreError> {
        let path = folder.join(FILE);
        let failed = |error: std::io::Error| StoreError::Folder {
            path: path.clone(),
            reason: error.to_string(),
        };
        let mut file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(&path)
            .map_err(failed)?;
        if flock(&file, FlockOperation::NonBlockingLockExclusive).is_err() {
            let mut holder = String::new();
            let _ = file.read_to_string(&mut holder);
            let holder = match holder.trim() {
                "" => "another process".to_owned(),
                pid => format!("process {pid}"),
            };
            return Err(StoreError::InUse {
                path: folder.to_owned(),
                holder,
            });
        }
        // Only a hint for people: a disk that is full must not keep the server from reading.
        let _ = file
            .set_len(0)
            .and_then(|()| file.rewind())
            .and_then(|()| writeln!(file, "{}", std::process::id()));
        Ok(Self { _file: file })
    }
}
