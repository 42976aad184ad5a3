//! Blobs in the database, in parts, for servers that share it: what one server has put is there
//! for the others, and for the time after it.
//!
//! Parts that no blob's row names go an hour after they were put at the earliest: who puts a blob
//! commits its row long before.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use postgres::{Client, Transaction};
use skep_core::{Timestamp, Workspace};

use crate::postgres::{Address, drop_elsewhere};
use crate::{Db, Hash, Row, StoreError};

/// Bytes of one part.
const PART: usize = 256 << 10;
/// Connections that are kept.
const IDLE: usize = 4;
/// Blobs that are looked at together.
const STEP: u32 = 100;
/// The age at which parts without a row go.
const ORPHANED: Duration = Duration::from_secs(3600);

/// The parts of one database. Cheap to clone. Its functions block.
#[derive(Clone)]
pub(crate) struct Parts {
    address: Address,
    idle: Arc<Mutex<Vec<Client>>>,
}

impl std::fmt::Debug for Parts {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Parts")
    }
}

impl Parts {
    pub(crate) fn new(address: Address) -> Self {
        Self {
            address,
            idle: Arc::default(),
        }
    }

    /// Does something on a connection, on a thread of its own: a database's client must not be used
    /// on one that runs async tasks, and who puts a blob need not know of databases.
    fn with<T: Send>(
        &self,
        work: impl FnMut(&mut Client) -> Result<T, StoreError> + Send,
    ) -> Result<T, StoreError> {
        std::thread::scope(|scope| {
            let done = scope.spawn(|| self.with_here(work)).join();
            done.unwrap_or(Err(StoreError::Closed))
        })
    }

    /// One that was kept and is broken is made anew once.
    fn with_here<T>(
        &self,
        mut work: impl FnMut(&mut Client) -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        let kept = self.idle.lock().pop();
        let (mut client, mut fresh) = match kept {
            Some(client) => (client, false),
            None => (self.address.connect()?, true),
        };
        loop {
            let done = work(&mut client);
            match done {
                Err(StoreError::Unavailable(_)) if !fresh && client.is_closed() => {
                    drop_elsewhere(Some(std::mem::replace(
                        &mut client,
                        self.address.connect()?,
                    )));
                    fresh = true;
                }
                done => {
                    self.give_back(client);
                    return done;
                }
            }
        }
    }

    fn give_back(&self, client: Client) {
        let mut idle = self.idle.lock();
        if client.is_closed() || idle.len() >= IDLE {
            drop(idle);
            drop_elsewhere(Some(client));
        } else {
            idle.push(client);
        }
    }

    /// Puts a file's content under its hash. On disk when this returns.
    pub(crate) fn put(
        &self,
        workspace: &Workspace,
        hash: &Hash,
        file: &File,
    ) -> Result<(), StoreError> {
        let failed = |error: postgres::Error| self.address.translate(&error);
        let (of, name) = (workspace.as_str(), hash.as_bytes().as_slice());
        self.with(|client| {
            let mut work = client.transaction().map_err(failed)?;
            let now = Timestamp::system_now().as_micros();
            let there = work
                .execute(
                    "UPDATE blob_parts SET stored_at = $3 WHERE workspace = $1 AND hash = $2",
                    &[&of, &name, &now],
                )
                .map_err(failed)?;
            if there == 0 {
                insert(&mut work, (workspace, hash), file, now, &failed)?;
            }
            work.commit().map_err(failed)
        })
    }

    /// Hands over the content with this hash, part by part.
    pub(crate) fn get(
        &self,
        workspace: &Workspace,
        hash: &Hash,
        mut take: impl FnMut(&[u8]) -> Result<(), StoreError>,
    ) -> Result<(), StoreError> {
        let failed = |error: postgres::Error| self.address.translate(&error);
        let (of, name) = (workspace.as_str(), hash.as_bytes().as_slice());
        let mut part = 0_i64;
        loop {
            let row = self.with(|client| {
                client
                    .query_opt(
                        "SELECT content FROM blob_parts \
                         WHERE workspace = $1 AND hash = $2 AND part = $3",
                        &[&of, &name, &part],
                    )
                    .map_err(failed)
            })?;
            let Some(row) = row else {
                return Ok(());
            };
            let content: &[u8] = row.try_get(0).map_err(failed)?;
            take(content)?;
            if content.len() < PART {
                return Ok(());
            }
            part += 1;
        }
    }
}

fn insert(
    work: &mut Transaction<'_>,
    (workspace, hash): (&Workspace, &Hash),
    file: &File,
    now: i64,
    failed: &impl Fn(postgres::Error) -> StoreError,
) -> Result<(), StoreError> {
    let (of, name) = (workspace.as_str(), hash.as_bytes().as_slice());
    let mut content = vec![0; PART];
    for part in 0_i64.. {
        let at = part.unsigned_abs() * PART as u64;
        let length = read_full(file, &mut content, at)
            .map_err(|error| StoreError::Unavailable(format!("blob: {error}")))?;
        work.execute(
            "INSERT INTO blob_parts (workspace, hash, part, content, stored_at) \
             VALUES ($1, $2, $3, $4, $5) ON CONFLICT DO NOTHING",
            &[&of, &name, &part, &&content[..length], &now],
        )
        .map_err(failed)?;
        // The last part is shorter than the others, and empty when it must be.
        if length < PART {
            break;
        }
    }
    Ok(())
}

impl Drop for Parts {
    fn drop(&mut self) {
        if Arc::strong_count(&self.idle) == 1 {
            self.idle
                .lock()
                .drain(..)
                .for_each(|client| drop_elsewhere(Some(client)));
        }
    }
}

/// Reads until the buffer is full or the file ends.
fn read_full(file: &File, buffer: &mut [u8], at: u64) -> io::Result<usize> {
    let mut filled = 0;
    while filled < buffer.len() {
        match file.read_at(&mut buffer[filled..], at + filled as u64) {
            Ok(0) => break,
            Ok(count) => filled += count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(filled)
}

impl Db {
    /// Puts blobs of the folder into the database that are not there: those of a store that came from
    /// another engine, or from a backup. Tells how many that were.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`].
    pub async fn share_blobs(&self, workspace: &Workspace) -> Result<usize, StoreError> {
        let Some(parts) = self.blobs().parts() else {
            return Ok(0);
        };
        let mut shared = 0;
        let mut after = [0; 32];
        loop {
            let of = workspace.clone();
            let missing = self.read(move |reader| {
                reader.scope(&of).query(
                    "SELECT hash FROM blobs WHERE workspace = ?1 AND hash > ?2 AND NOT EXISTS \
                     (SELECT 1 FROM blob_parts WHERE blob_parts.workspace = ?1 \
                     AND blob_parts.hash = blobs.hash) ORDER BY hash LIMIT ?3",
                    &[after.as_slice().into(), STEP.into()],
                )
            });
            let missing: Vec<Row> = missing.await?;
            let Some(last) = missing.last() else {
                return Ok(shared);
            };
            after = last.bytes(0)?;
            for row in &missing {
                let hash = Hash::from_bytes(row.bytes(0)?);
                let (of, parts, blobs) = (workspace.clone(), parts.clone(), self.blobs().clone());
                let put = tokio::task::spawn_blocking(move || {
                    // Another server may have the file.
                    match blobs.open_here(&of, &hash) {
                        Ok(file) => parts.put(&of, &hash, &file).map(|()| 1),
                        Err(_) => Ok(0),
                    }
                });
                shared += put.await.map_err(|_| StoreError::Closed)??;
            }
        }
    }

    /// Removes parts of blobs that no row names. For one of the servers.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`].
    pub async fn sweep_blob_parts(&self, workspace: &Workspace) -> Result<usize, StoreError> {
        if !self.is_shared() {
            return Ok(0);
        }
        let of = workspace.clone();
        self.write(move |unit| {
            let before = unit.now().minus(ORPHANED);
            unit.scope(&of).execute(
                "DELETE FROM blob_parts WHERE workspace = ?1 AND stored_at < ?2 \
                 AND NOT EXISTS (SELECT 1 FROM blobs WHERE blobs.workspace = ?1 \
                 AND blobs.hash = blob_parts.hash)",
                &[before.into()],
            )
        })
        .await
    }
}
