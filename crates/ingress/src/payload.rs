//! Bodies at rest: small ones inline in the call's row, large ones as blobs, and requests read
//! from clients within their bounds.

use std::os::unix::fs::FileExt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::HeaderMap;
use http_body_util::BodyExt;
use hyper::body::Incoming;
use skep_core::Workspace;
use skep_store::{BlobRef, BlobWriter, Blobs, PinnedBlob, StoreError};

use crate::IngressError;

/// Bodies up to this size are stored in the row itself.
pub(crate) const INLINE_BYTES: usize = 16 << 10;
/// Bodies up to this size are also held in memory while their call runs.
pub(crate) const MEMORY_BYTES: usize = 256 << 10;
/// While bodies that are being received hold more, further ones go to disk at once.
const INTAKE_BYTES: u64 = 64 << 20;
/// Bytes read from a blob at once.
pub(crate) const CHUNK_BYTES: usize = 64 << 10;

/// A body that is durable, or becomes so with the row that names it.
#[derive(Debug, Clone, Default)]
pub(crate) struct Payload {
    /// Its length.
    pub(crate) size: u64,
    /// Where it is when it is not inline.
    pub(crate) blob: Option<BlobRef>,
    /// The bytes, when they are at hand.
    pub(crate) memory: Option<Bytes>,
}

impl Payload {
    pub(crate) fn inline(bytes: Bytes) -> Self {
        Self {
            size: bytes.len() as u64,
            blob: None,
            memory: Some(bytes),
        }
    }

    /// What goes into the row's own column.
    pub(crate) fn column(&self) -> Option<&[u8]> {
        if self.blob.is_some() {
            None
        } else {
            self.memory.as_deref()
        }
    }

    /// The SHA-256 that a blob has anyway and that an inline body gets.
    pub(crate) fn hash(&self) -> skep_store::Hash {
        match (&self.blob, &self.memory) {
            (Some(blob), _) => blob.hash,
            (None, memory) => skep_store::Hash::of(memory.as_deref().unwrap_or_default()),
        }
    }
}

/// Stores complete bytes: inline when they are few, else as a blob. Blocks on the disk for a blob.
pub(crate) async fn store(
    blobs: &Blobs,
    workspace: &Workspace,
    bytes: Bytes,
) -> Result<(Payload, Option<PinnedBlob>), StoreError> {
    if bytes.len() <= INLINE_BYTES {
        return Ok((Payload::inline(bytes), None));
    }
    let (blobs, workspace, copy) = (blobs.clone(), workspace.clone(), bytes.clone());
    let pinned = blocking(move || {
        let mut writer = blobs.writer(&workspace)?;
        writer.write(&copy)?;
        writer.finish()
    })
    .await?;
    let payload = Payload {
        size: bytes.len() as u64,
        blob: Some(pinned.blob()),
        memory: Some(bytes),
    };
    Ok((payload, Some(pinned)))
}

/// Runs disk work off the reactor.
pub(crate) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, StoreError> + Send + 'static,
) -> Result<T, StoreError> {
    tokio::task::spawn_blocking(work)
        .await
        .unwrap_or(Err(StoreError::Closed))
}

/// A request's body as it was received.
pub(crate) struct Received {
    pub(crate) payload: Payload,
    pub(crate) trailers: Option<HeaderMap>,
    /// Held until the row that names the blob is committed.
    pub(crate) pin: Option<PinnedBlob>,
}

/// A body that is being received: in memory, and in a blob from the moment that it is large.
struct Intake<'a> {
    blobs: &'a Blobs,
    workspace: &'a Workspace,
    /// Most bodies are one frame: that one is kept as it came.
    first: Bytes,
    memory: BytesMut,
    spool: Option<BlobWriter>,
    size: u64,
    /// Bytes of all bodies that are being received in memory.
    held: &'a AtomicU64,
    /// What this one adds to it.
    counted: u64,
}

impl Drop for Intake<'_> {
    fn drop(&mut self) {
        self.held.fetch_sub(self.counted, Ordering::Relaxed);
    }
}

impl Intake<'_> {
    async fn push(&mut self, data: Bytes) -> Result<(), StoreError> {
        self.size += data.len() as u64;
        if let Some(writer) = self.spool.take() {
            self.spool = Some(append(writer, data).await?);
            return Ok(());
        }
        if self.size > MEMORY_BYTES as u64 || self.held.load(Ordering::Relaxed) > INTAKE_BYTES {
            return self.spill(data).await;
        }
        self.held.fetch_add(data.len() as u64, Ordering::Relaxed);
        self.counted += data.len() as u64;
        if self.first.is_empty() && self.memory.is_empty() {
            self.first = data;
        } else {
            self.memory
                .extend_from_slice(&std::mem::take(&mut self.first));
            self.memory.extend_from_slice(&data);
        }
        Ok(())
    }

    /// Goes on in a blob, with what is in memory first.
    async fn spill(&mut self, data: Bytes) -> Result<(), StoreError> {
        let (blobs, workspace) = (self.blobs.clone(), self.workspace.clone());
        let parts = [
            std::mem::take(&mut self.first),
            self.memory.split().freeze(),
            data,
        ];
        let spool = blocking(move || {
            let mut writer = blobs.writer(&workspace)?;
            parts.iter().try_for_each(|part| writer.write(part))?;
            Ok(writer)
        });
        self.spool = Some(spool.await?);
        self.held
            .fetch_sub(std::mem::take(&mut self.counted), Ordering::Relaxed);
        Ok(())
    }

    async fn finish(mut self) -> Result<(Payload, Option<PinnedBlob>), StoreError> {
        let Some(writer) = self.spool.take() else {
            let bytes = if self.memory.is_empty() {
                std::mem::take(&mut self.first)
            } else {
                self.memory.split().freeze()
            };
            return store(self.blobs, self.workspace, bytes).await;
        };
        let pinned = blocking(move || writer.finish()).await?;
        Ok((
            Payload {
                size: self.size,
                blob: Some(pinned.blob()),
                memory: None,
            },
            Some(pinned),
        ))
    }
}

/// Reads a client's body to its end, into memory or, when it is large, into a blob.
pub(crate) async fn receive(
    blobs: &Blobs,
    workspace: &Workspace,
    mut body: Incoming,
    limit: u64,
    pause: Duration,
    held: &AtomicU64,
) -> Result<Received, IngressError> {
    let (first, memory) = (Bytes::new(), BytesMut::new());
    let mut intake = Intake {
        blobs,
        workspace,
        first,
        memory,
        spool: None,
        size: 0,
        held,
        counted: 0,
    };
    let mut trailers = None;
    loop {
        let frame = match tokio::time::timeout(pause, body.frame()).await {
            Err(_) => return Err(IngressError::RequestTimeout),
            Ok(None) => break,
            Ok(Some(Err(_))) => {
                return Err(IngressError::BadRequest(
                    "the body broke off or is malformed".to_owned(),
                ));
            }
            Ok(Some(Ok(frame))) => frame,
        };
        match frame.into_data() {
            Ok(data) if intake.size + data.len() as u64 > limit => {
                return Err(IngressError::BodyTooLarge(limit));
            }
            Ok(data) => intake.push(data).await?,
            Err(other) => trailers = other.into_trailers().ok(),
        }
    }
    let (payload, pin) = intake.finish().await?;
    Ok(Received {
        payload,
        trailers,
        pin,
    })
}

/// Appends to a blob that is being written.
pub(crate) async fn append(mut writer: BlobWriter, data: Bytes) -> Result<BlobWriter, StoreError> {
    blocking(move || {
        writer.write(&data)?;
        Ok(writer)
    })
    .await
}

/// Reads a stretch of a file: up to [`CHUNK_BYTES`] from `position`, not beyond `end`.
pub(crate) fn read_stretch(
    file: &std::fs::File,
    position: u64,
    end: u64,
) -> Result<Bytes, StoreError> {
    let wanted = usize::try_from(end.saturating_sub(position))
        .unwrap_or(usize::MAX)
        .min(CHUNK_BYTES);
    let mut buffer = BytesMut::zeroed(wanted);
    file.read_exact_at(&mut buffer, position)
        .map_err(|error| StoreError::Unavailable(format!("blob: {error}")))?;
    Ok(buffer.freeze())
}
