//! The body type of the call door, toward clients and toward agents.

use std::fs::File;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use http::HeaderMap;
use http_body::{Body as _, Frame, SizeHint};
use hyper::body::Incoming;
use skep_store::{Blobs, StoreError};
use tokio::sync::mpsc;
use tokio::time::{Instant, Sleep};

use crate::cache::Recorder;
use crate::lane::Held;
use crate::payload::{Payload, blocking, read_stretch};
use crate::pool::Link;
use skep_core::Workspace;

/// Frames that wait for a slow reader.
const CHANNEL_FRAMES: usize = 4;

/// Why a body ended early. The connection is closed, so that the other side sees it is not whole.
#[derive(Debug, Clone, thiserror::Error)]
pub enum BodyError {
    /// The attempt that gave it was cut off.
    #[error("the attempt was cut off")]
    CutOff,
    /// The other side was silent for too long.
    #[error("silent for too long")]
    Silent,
    /// The body is over the limit.
    #[error("over the limit")]
    TooLarge,
    /// The store cannot give it.
    #[error("the store cannot read: {0}")]
    Store(#[from] StoreError),
    /// The connection that it comes from broke.
    #[error("the connection broke: {0}")]
    Broken(String),
}

/// A body of the call door.
pub struct Body(Kind);

enum Kind {
    Full {
        bytes: Option<Bytes>,
        trailers: Option<HeaderMap>,
    },
    Channel {
        frames: mpsc::Receiver<Result<Frame<Bytes>, BodyError>>,
        left: Option<u64>,
    },
    Passing(Box<Passing>),
}

impl Body {
    /// No bytes.
    #[must_use]
    pub const fn empty() -> Self {
        Self(Kind::Full {
            bytes: None,
            trailers: None,
        })
    }

    /// These bytes.
    #[must_use]
    pub fn full(bytes: Bytes) -> Self {
        Self::with_trailers(bytes, None)
    }

    pub(crate) fn with_trailers(bytes: Bytes, trailers: Option<HeaderMap>) -> Self {
        Self(Kind::Full {
            bytes: (!bytes.is_empty()).then_some(bytes),
            trailers,
        })
    }

    /// What another task sends, of a known length or not.
    pub(crate) fn channel(
        length: Option<u64>,
    ) -> (mpsc::Sender<Result<Frame<Bytes>, BodyError>>, Self) {
        let (sender, frames) = mpsc::channel(CHANNEL_FRAMES);
        (
            sender,
            Self(Kind::Channel {
                frames,
                left: length,
            }),
        )
    }

    pub(crate) fn passing(passing: Passing) -> Self {
        Self(Kind::Passing(Box::new(passing)))
    }

    /// A stored body: from memory when it is there, else read from its blob as it is asked for.
    pub(crate) async fn stored(
        blobs: &Blobs,
        workspace: &Workspace,
        payload: &Payload,
        trailers: Option<HeaderMap>,
    ) -> Result<Self, StoreError> {
        if let Some(bytes) = &payload.memory {
            return Ok(Self::with_trailers(bytes.clone(), trailers));
        }
        let Some(blob) = payload.blob else {
            return Ok(Self::with_trailers(Bytes::new(), trailers));
        };
        let (blobs, workspace) = (blobs.clone(), workspace.clone());
        let file = blocking(move || blobs.open_blob(&workspace, &blob.hash)).await?;
        let (sender, body) = Self::channel(trailers.is_none().then_some(blob.size));
        tokio::spawn(async move {
            if send_stretch(&sender, Arc::new(file), 0, blob.size)
                .await
                .is_ok()
                && let Some(trailers) = trailers
            {
                let _ = sender.send(Ok(Frame::trailers(trailers))).await;
            }
        });
        Ok(body)
    }
}

/// The reader is gone.
pub(crate) struct Gone;

/// Sends a stretch of a file, at the reader's pace.
pub(crate) async fn send_stretch(
    sender: &mpsc::Sender<Result<Frame<Bytes>, BodyError>>,
    file: Arc<File>,
    mut position: u64,
    end: u64,
) -> Result<(), Gone> {
    while position < end {
        let reader = file.clone();
        match blocking(move || read_stretch(&reader, position, end)).await {
            Ok(bytes) => {
                position += bytes.len() as u64;
                sender
                    .send(Ok(Frame::data(bytes)))
                    .await
                    .map_err(|_| Gone)?;
            }
            Err(error) => {
                let _ = sender.send(Err(error.into())).await;
                return Err(Gone);
            }
        }
    }
    Ok(())
}

impl http_body::Body for Body {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        match &mut self.0 {
            Kind::Full { bytes, trailers } => Poll::Ready(match bytes.take() {
                Some(bytes) => Some(Ok(Frame::data(bytes))),
                None => trailers
                    .take()
                    .map(|trailers| Ok(Frame::trailers(trailers))),
            }),
            Kind::Channel { frames, left } => {
                let frame = ready!(frames.poll_recv(cx));
                if let (Some(left), Some(Ok(frame))) = (left, &frame) {
                    *left =
                        left.saturating_sub(frame.data_ref().map_or(0, |data| data.len() as u64));
                }
                Poll::Ready(frame)
            }
            Kind::Passing(passing) => passing.poll_frame(cx),
        }
    }

    fn is_end_stream(&self) -> bool {
        match &self.0 {
            Kind::Full { bytes, trailers } => bytes.is_none() && trailers.is_none(),
            Kind::Channel { .. } => false,
            Kind::Passing(passing) => passing.inner.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.0 {
            // A length of its own would leave no room for trailers in HTTP/1.1.
            Kind::Full {
                trailers: Some(_), ..
            } => SizeHint::default(),
            Kind::Full { bytes, .. } => {
                SizeHint::with_exact(bytes.as_ref().map_or(0, |bytes| bytes.len() as u64))
            }
            Kind::Channel { left, .. } => left.map_or_else(SizeHint::default, SizeHint::with_exact),
            Kind::Passing(passing) => passing.inner.size_hint(),
        }
    }
}

/// A body that goes through as it comes, unrecorded: within a limit, and not silent for too long.
pub(crate) struct Passing {
    inner: Incoming,
    limit: u64,
    pause: Duration,
    silence: Option<Pin<Box<Sleep>>>,
    /// The connection that the body comes from, when the one who reads must drive it.
    link: Option<(Held, Link)>,
    /// Keeps it when it is whole.
    recorder: Option<Box<Recorder>>,
}

impl Passing {
    pub(crate) fn new(inner: Incoming, limit: u64, pause: Duration) -> Self {
        Self {
            inner,
            limit,
            pause,
            silence: None,
            link: None,
            recorder: None,
        }
    }

    /// With the connection to an agent that the body comes from. It is kept for the next request
    /// when the whole body has passed, and closed when it broke off.
    pub(crate) fn from_agent(
        inner: Incoming,
        pause: Duration,
        link: (Held, Link),
        recorder: Option<Box<Recorder>>,
    ) -> Self {
        Self {
            inner,
            limit: u64::MAX,
            pause,
            silence: None,
            link: Some(link),
            recorder,
        }
    }

    fn ended(&mut self) {
        if let Some((held, link)) = self.link.take() {
            held.lane.pool.keep(held.place, link);
        }
        if let Some(recorder) = self.recorder.take() {
            recorder.finish();
        }
    }

    fn record(&mut self, frame: &Frame<Bytes>) {
        let Some(recorder) = &mut self.recorder else {
            return;
        };
        // An answer with trailers is not one for a cache.
        let kept = frame.data_ref().is_some_and(|data| recorder.add(data));
        if !kept {
            self.recorder = None;
        }
    }

    fn poll_frame(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let polled = match &mut self.link {
            Some((_, link)) => link.poll_frame(&mut self.inner, cx),
            None => Pin::new(&mut self.inner).poll_frame(cx),
        };
        match polled {
            Poll::Ready(Some(Ok(frame))) => {
                let size = frame.data_ref().map_or(0, |data| data.len() as u64);
                if size > self.limit {
                    return Poll::Ready(Some(Err(BodyError::TooLarge)));
                }
                self.limit -= size;
                if let Some(silence) = &mut self.silence {
                    silence.as_mut().reset(Instant::now() + self.pause);
                }
                self.record(&frame);
                if self.inner.is_end_stream() {
                    self.ended();
                }
                Poll::Ready(Some(Ok(frame)))
            }
            Poll::Ready(Some(Err(error))) => {
                Poll::Ready(Some(Err(BodyError::Broken(error.to_string()))))
            }
            Poll::Ready(None) => {
                self.ended();
                Poll::Ready(None)
            }
            Poll::Pending => {
                let pause = self.pause;
                let silence = self
                    .silence
                    .get_or_insert_with(|| Box::pin(tokio::time::sleep(pause)));
                ready!(silence.as_mut().poll(cx));
                Poll::Ready(Some(Err(BodyError::Silent)))
            }
        }
    }
}
