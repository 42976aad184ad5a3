//! The recording of an answer that comes in: clients read it while it grows, each at its own pace, and it is kept when it is whole.
//!
//! Its end is in memory, and what is longer than a row takes goes to a file from there. A recording that is not whole is worth
//! nothing after a crash (its attempt is made anew), so nobody waits for a disk between an agent and who reads what it says.

use std::fs::File;
use std::io::{Cursor, Read};
use std::sync::Arc;

use bytes::Bytes;
use http::HeaderMap;
use parking_lot::Mutex;
use skep_core::Workspace;
use skep_store::{BlobWriter, Blobs, PinnedBlob, StoreError};
use tokio::sync::watch;

use crate::payload::{CHUNK_BYTES, INLINE_BYTES, Payload, blocking, read_stretch};
use crate::sse::{FromStart, position_after};

/// How far a recording is.
#[derive(Debug, Clone)]
pub(crate) enum Progress {
    /// So many bytes are there, and more may come.
    Coming(u64),
    /// It is whole and on disk.
    Whole(u64, Option<HeaderMap>),
    /// The attempt was cut off.
    CutOff,
}

/// An answer that is recorded as it passes.
#[derive(Debug)]
pub(crate) struct Recording {
    pub(crate) status: u16,
    pub(crate) headers: HeaderMap,
    pub(crate) progress: watch::Sender<Progress>,
    /// Its length, when the agent said it.
    pub(crate) length: Option<u64>,
    kept: Mutex<Kept>,
}

/// Where the bytes are.
#[derive(Debug, Default)]
struct Kept {
    /// Those before the tail, once there are any.
    file: Option<Arc<File>>,
    /// How many those are.
    filed: u64,
    /// The last ones: at most [`INLINE_BYTES`].
    tail: Vec<u8>,
}

impl Recording {
    /// An empty one, of an answer with this status and these headers.
    pub(crate) fn new(status: u16, headers: HeaderMap, length: Option<u64>) -> Self {
        Self {
            status,
            headers,
            progress: watch::Sender::new(Progress::Coming(0)),
            length,
            kept: Mutex::default(),
        }
    }

    /// Some of what is there from `position` on, not beyond `end`. Waits for the disk only for what is not in memory any more.
    pub(crate) async fn read(&self, position: u64, end: u64) -> Result<Bytes, StoreError> {
        let (file, end) = {
            let kept = self.kept.lock();
            if let Some(within) = position.checked_sub(kept.filed) {
                let place = |at: u64| usize::try_from(at).unwrap_or(usize::MAX);
                let most = place(end.saturating_sub(position)).min(CHUNK_BYTES);
                let tail = kept.tail.get(place(within)..).unwrap_or_default();
                return Ok(Bytes::copy_from_slice(&tail[..most.min(tail.len())]));
            }
            (kept.file.clone(), end.min(kept.filed))
        };
        let Some(file) = file else {
            return Ok(Bytes::new());
        };
        blocking(move || read_stretch(&file, position, end)).await
    }

    /// The position behind the event with this id, if it has come.
    pub(crate) async fn position_after(&self, id: &str) -> Result<Option<u64>, StoreError> {
        let (file, filed, tail) = {
            let kept = self.kept.lock();
            (kept.file.clone(), kept.filed, kept.tail.clone())
        };
        let id = id.to_owned();
        blocking(move || {
            let tail = Cursor::new(tail);
            let found = match file {
                Some(file) => position_after(FromStart::of(&file).take(filed).chain(tail), &id),
                None => position_after(tail, &id),
            };
            found.map_err(|error| StoreError::Unavailable(format!("a recording: {error}")))
        })
        .await
    }
}

/// Cuts the recording off unless it became whole.
pub(crate) struct CutOffOnDrop(pub(crate) Option<Arc<Recording>>);

impl Drop for CutOffOnDrop {
    fn drop(&mut self) {
        if let Some(recording) = self.0.take() {
            recording.progress.send_replace(Progress::CutOff);
        }
    }
}

/// Writes a recording.
pub(crate) struct Scribe {
    recording: Arc<Recording>,
    blobs: Blobs,
    workspace: Workspace,
    /// Where what is long goes.
    writer: Option<BlobWriter>,
    size: u64,
}

impl Scribe {
    /// Begins one.
    pub(crate) fn new(recording: Arc<Recording>, blobs: &Blobs, workspace: &Workspace) -> Self {
        Self {
            recording,
            blobs: blobs.clone(),
            workspace: workspace.clone(),
            writer: None,
            size: 0,
        }
    }

    /// Bytes so far.
    pub(crate) const fn size(&self) -> u64 {
        self.size
    }

    /// Adds bytes, and tells who reads.
    pub(crate) async fn append(&mut self, data: Bytes) -> Result<(), StoreError> {
        if data.is_empty() {
            return Ok(());
        }
        let size = self.size + data.len() as u64;
        if !self.hold(&data) {
            self.file(data, size).await?;
        }
        self.size = size;
        let progress = &self.recording.progress;
        progress.send_replace(Progress::Coming(size));
        Ok(())
    }

    /// Keeps bytes in memory, where there is room.
    fn hold(&self, data: &[u8]) -> bool {
        let mut kept = self.recording.kept.lock();
        let fits = kept.tail.len() + data.len() <= INLINE_BYTES;
        if fits {
            kept.tail.extend_from_slice(data);
        }
        fits
    }

    /// Moves the tail to the file, and these bytes behind it. Until that is done, who reads finds it in memory.
    async fn file(&mut self, data: Bytes, size: u64) -> Result<(), StoreError> {
        let tail = self.recording.kept.lock().tail.clone();
        let (writer, blobs) = (self.writer.take(), self.blobs.clone());
        let workspace = self.workspace.clone();
        let write = blocking(move || {
            let (mut writer, fresh) = match writer {
                Some(writer) => (writer, None),
                None => {
                    let writer = blobs.writer(&workspace)?;
                    let file = Arc::new(writer.reader()?);
                    (writer, Some(file))
                }
            };
            writer.write(&tail)?;
            writer.write(&data)?;
            Ok((writer, fresh))
        });
        let (writer, fresh) = write.await?;
        self.writer = Some(writer);
        let mut kept = self.recording.kept.lock();
        kept.file = fresh.or_else(|| kept.file.take());
        kept.filed = size;
        kept.tail.clear();
        Ok(())
    }

    /// Keeps it for good: a short one in the row that the pin is held for, a long one as a blob.
    pub(crate) async fn finish(self) -> Result<(Payload, Option<PinnedBlob>), StoreError> {
        let tail = self.recording.kept.lock().tail.clone();
        let Some(mut writer) = self.writer else {
            return Ok((Payload::inline(tail.into()), None));
        };
        let finish = blocking(move || {
            writer.write(&tail)?;
            writer.finish()
        });
        let pin = finish.await?;
        let payload = Payload {
            size: self.size,
            blob: Some(pin.blob()),
            memory: None,
        };
        Ok((payload, Some(pin)))
    }
}

#[cfg(test)]
mod tests {
    use skep_store::{Db, Options};

    use super::*;

    fn scribe(blobs: &Blobs) -> (Arc<Recording>, Scribe) {
        let recording = Arc::new(Recording::new(200, HeaderMap::new(), None));
        let workspace = Workspace::default();
        (recording.clone(), Scribe::new(recording, blobs, &workspace))
    }

    /// Reads to the end, as a client does that is told of progress.
    async fn follow(recording: Arc<Recording>, all: u64) -> Vec<u8> {
        let mut progress = recording.progress.subscribe();
        let mut seen = Vec::new();
        while (seen.len() as u64) < all {
            let position = seen.len() as u64;
            let further = |now: &Progress| matches!(now, Progress::Coming(end) if *end > position);
            let Progress::Coming(end) = *progress.wait_for(further).await.unwrap() else {
                unreachable!("it was waited for");
            };
            let read = recording.read(position, end).await.unwrap();
            assert!(!read.is_empty() && read.len() as u64 <= end - position);
            seen.extend_from_slice(&read);
        }
        seen
    }

    /// Pieces around the lengths at which a recording changes its place.
    const PIECES: [usize; 10] = [1, 16_383, 1, 1, 5_000, 11_383, 40_000, 7, 70_000, 9];

    #[tokio::test]
    async fn it_is_read_as_it_was_written_wherever_it_is() {
        let folder = tempfile::tempdir().unwrap();
        let db = Db::open(Options::new(folder.path()), &[]).unwrap();
        let blobs = db.blobs().clone();
        let bytes = |piece: usize, len: usize| -> Bytes {
            (0..len).map(|at| (at * 31 + piece * 7) as u8).collect()
        };
        for pieces in 1..=PIECES.len() {
            let (recording, mut scribe) = scribe(&blobs);
            let all: u64 = PIECES[..pieces].iter().map(|len| *len as u64).sum();
            let followed = tokio::spawn(follow(recording.clone(), all));
            let mut written = Vec::new();
            for (piece, &len) in PIECES[..pieces].iter().enumerate() {
                written.extend_from_slice(&bytes(piece, len));
                scribe.append(bytes(piece, len)).await.unwrap();
            }
            assert_eq!(scribe.size(), all);
            assert!(followed.await.unwrap() == written, "{pieces} pieces");
            // Who comes late sees the same, though parts of it are in the file.
            assert!(follow(recording, all).await == written, "{pieces} pieces");
            let (payload, pin) = scribe.finish().await.unwrap();
            assert_eq!(payload.size, all);
            assert_eq!(payload.blob.is_some(), all > INLINE_BYTES as u64);
            let kept = match &pin {
                Some(pin) => {
                    let (workspace, hash) = (Workspace::default(), pin.blob().hash);
                    let mut file = blobs.open_blob(&workspace, &hash).unwrap();
                    let mut kept = Vec::new();
                    file.read_to_end(&mut kept).unwrap();
                    kept
                }
                None => payload.memory.unwrap().to_vec(),
            };
            assert!(kept == written, "{pieces} pieces");
        }
    }

    #[tokio::test]
    async fn an_event_is_found_in_memory_and_in_the_file() {
        let folder = tempfile::tempdir().unwrap();
        let db = Db::open(Options::new(folder.path()), &[]).unwrap();
        let blobs = db.blobs().clone();
        let (recording, mut scribe) = scribe(&blobs);
        let mut ends = Vec::new();
        for index in 0..400 {
            let event = format!("id: 1.{index}\ndata: {}\n\n", "x".repeat(100));
            scribe.append(event.into()).await.unwrap();
            ends.push(scribe.size());
        }
        for (index, end) in ends.into_iter().enumerate() {
            let found = recording.position_after(&format!("1.{index}")).await;
            assert_eq!(found.unwrap(), Some(end));
        }
        assert_eq!(recording.position_after("2.0").await.unwrap(), None);
    }
}
