//! Calls that carry a run: begun by Skep itself, and followed through all their attempts. What a run is, nobody knows here.

use std::fs::File;
use std::sync::Arc;

use bytes::Bytes;
use http::header::{HOST, HeaderValue};
use http::{HeaderMap, Method};
use skep_core::{CallId, RunId, Workspace};
use skep_store::StoreError;
use tokio::sync::watch;

use crate::call::{Accepted, Wanted};
use crate::headers::toward_agent;
use crate::journal::{Answer, Request};
use crate::lane::Visit;
use crate::live::Phase;
use crate::payload::{blocking, read_stretch, store};
use crate::recording::{Progress, Recording};
use crate::service::Inner;
use crate::{Also, Context, Ingress, IngressError};

/// A call that a run is carried by.
pub struct Order {
    /// How the agent is asked.
    pub method: Method,
    /// The path and query that it sees.
    pub target: String,
    /// What it sees besides.
    pub headers: HeaderMap,
    /// What it is asked.
    pub body: Bytes,
    /// The run.
    pub run: RunId,
    /// The same key, with the same request, is the same call.
    pub key: Option<String>,
    /// What is written in the unit that accepts it; not for a call that was there before.
    pub also: Also,
}

/// A call that was begun.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Begun {
    /// By this order.
    New(CallId),
    /// Before, by one with the same key.
    Before(CallId),
}

/// What is told of a call to who follows it.
#[derive(Debug)]
pub enum Told {
    /// An attempt's answer begins: what came of one before does not count.
    Begins,
    /// The next bytes of it.
    Bytes(Bytes),
    /// It has come whole, and is on disk. Nothing follows.
    Whole,
    /// The call has ended without one, or nobody knows more of it here. Nothing follows.
    Ended(IngressError),
}

/// Follows one call, at the reader's own pace.
pub struct Follow {
    inner: Arc<Inner>,
    workspace: Workspace,
    phase: watch::Receiver<Phase>,
    reading: Reading,
}

/// What is being read.
enum Reading {
    /// Nothing yet.
    Nothing,
    /// An answer that is being recorded, from a position on.
    Coming(Arc<Recording>, u64),
    /// That one was cut off.
    Cut(Arc<Recording>),
    /// An answer in memory, until it was given.
    Memory(Option<Bytes>),
    /// An answer in a file: from a position on, to an end.
    Stored(Arc<File>, u64, u64),
    /// All was told.
    Ended,
}

impl Ingress {
    /// Begins a call that carries a run. When this returns, it is durable, with what was to be written beside it.
    ///
    /// # Errors
    /// [`IngressError`], as of any call; then nothing was begun.
    pub async fn begin(
        &self,
        context: &Context,
        visit: Visit,
        order: Order,
    ) -> Result<Begun, IngressError> {
        let inner = &self.inner;
        let lane = visit.lane().clone();
        let policy = lane.agent.policy();
        inner.must_be_open()?;
        inner.must_be_able(lane.agent.as_ref(), false)?;
        let size = order.body.len() as u64;
        if size > inner.limits.body {
            return Err(IngressError::BodyTooLarge(inner.limits.body));
        }
        if lane.is_full(&policy) {
            return Err(IngressError::QueueFull(policy.queue));
        }
        let mut headers = order.headers;
        toward_agent(&mut headers, context);
        // An HTTP/1.1 request without a host is none.
        let host = HeaderValue::from_static("localhost");
        headers.entry(HOST).or_insert(host);
        let blobs = inner.db.blobs();
        let (body, pin) = store(blobs, &context.workspace, order.body).await?;
        let request = Request {
            method: order.method,
            target: order.target,
            headers,
            body,
            trailers: None,
            run: Some(order.run),
        };
        let wanted = Wanted {
            request: Arc::new(request),
            pin,
            key: order.key,
            also: Some(order.also),
        };
        let taken = inner.take((lane, policy), context, wanted).await?;
        Ok(match taken.accepted {
            Accepted::New => Begun::New(taken.id),
            Accepted::Known { id, .. } => Begun::Before(id),
        })
    }

    /// Follows a call, from the beginning of its answer.
    ///
    /// # Errors
    /// [`IngressError::CallNotFound`], and the store's own.
    pub async fn follow(
        &self,
        workspace: &Workspace,
        call: CallId,
    ) -> Result<Follow, IngressError> {
        Ok(Follow {
            inner: self.inner.clone(),
            workspace: workspace.clone(),
            phase: self.inner.watch(workspace, call).await?,
            reading: Reading::Nothing,
        })
    }
}

impl Follow {
    /// Whether there is something to be told at once.
    #[must_use]
    pub fn is_behind(&self) -> bool {
        match &self.reading {
            Reading::Ended => false,
            Reading::Memory(_) | Reading::Stored(..) => true,
            Reading::Nothing => is_news(&self.phase.borrow(), None),
            Reading::Cut(cut) => is_news(&self.phase.borrow(), Some(cut)),
            Reading::Coming(recording, from) => match &*recording.progress.borrow() {
                Progress::Coming(end) => end > from,
                Progress::Whole(..) => true,
                Progress::CutOff => is_news(&self.phase.borrow(), Some(recording)),
            },
        }
    }

    /// What comes next; none when all was told.
    pub async fn next(&mut self) -> Option<Told> {
        loop {
            let told = match &mut self.reading {
                Reading::Ended => return None,
                Reading::Nothing | Reading::Cut(_) => self.begins().await,
                Reading::Memory(bytes) => bytes.take().map_or(Ok(Some(Told::Whole)), |bytes| {
                    Ok((!bytes.is_empty()).then_some(Told::Bytes(bytes)))
                }),
                Reading::Stored(_, from, end) if from == end => Ok(Some(Told::Whole)),
                Reading::Stored(file, from, end) => {
                    let (file, position, end) = (file.clone(), *from, *end);
                    let read = blocking(move || read_stretch(&file, position, end));
                    told_of(read.await, from)
                }
                Reading::Coming(..) => self.coming().await,
            };
            match told {
                Ok(None) => {}
                Ok(Some(told)) => {
                    if matches!(told, Told::Whole | Told::Ended(_)) {
                        self.reading = Reading::Ended;
                    }
                    return Some(told);
                }
                Err(error) => {
                    self.reading = Reading::Ended;
                    return Some(Told::Ended(error.into()));
                }
            }
        }
    }

    /// Waits until there is something to read.
    async fn begins(&mut self) -> Result<Option<Told>, StoreError> {
        let cut = match &self.reading {
            Reading::Cut(recording) => Some(recording.clone()),
            _ => None,
        };
        let is_news = |phase: &Phase| is_news(phase, cut.as_ref());
        let phase = match self.phase.wait_for(is_news).await {
            Ok(phase) => phase.clone(),
            Err(_) => return Err(StoreError::Closed),
        };
        self.reading = match phase {
            Phase::Streaming(recording) => Reading::Coming(recording, 0),
            Phase::Answered(answer) => self.stored(&answer).await?,
            Phase::Ended(error) => return Ok(Some(Told::Ended(error))),
            Phase::Waiting => return Ok(None),
        };
        Ok(Some(Told::Begins))
    }

    /// An answer that has come before.
    async fn stored(&self, answer: &Answer) -> Result<Reading, StoreError> {
        if let Some(bytes) = &answer.body.memory {
            return Ok(Reading::Memory(Some(bytes.clone())));
        }
        let Some(blob) = answer.body.blob else {
            return Ok(Reading::Memory(None));
        };
        let (blobs, workspace) = (self.inner.db.blobs().clone(), self.workspace.clone());
        let file = blocking(move || blobs.open_blob(&workspace, &blob.hash)).await?;
        Ok(Reading::Stored(Arc::new(file), 0, blob.size))
    }

    /// The next of an answer that is being recorded.
    async fn coming(&mut self) -> Result<Option<Told>, StoreError> {
        let Reading::Coming(recording, position) = &mut self.reading else {
            return Ok(None);
        };
        let mut progress = recording.progress.subscribe();
        let from = *position;
        let is_news = |progress: &Progress| match progress {
            Progress::Coming(end) => *end > from,
            Progress::Whole(..) | Progress::CutOff => true,
        };
        let now = match progress.wait_for(is_news).await {
            Ok(now) => now.clone(),
            // Who recorded it is gone without a word.
            Err(_) => Progress::CutOff,
        };
        match now {
            Progress::CutOff => {
                self.reading = Reading::Cut(recording.clone());
                Ok(None)
            }
            Progress::Whole(end, _) if from >= end => Ok(Some(Told::Whole)),
            Progress::Whole(end, _) | Progress::Coming(end) => {
                told_of(recording.read(from, end).await, position)
            }
        }
    }
}

/// Whether there is an answer, or an end, behind one that was cut.
fn is_news(phase: &Phase, cut: Option<&Arc<Recording>>) -> bool {
    match phase {
        Phase::Waiting => false,
        Phase::Streaming(recording) => cut.is_none_or(|it| !Arc::ptr_eq(it, recording)),
        Phase::Answered(_) | Phase::Ended(_) => true,
    }
}

/// What is told of bytes that were read, and that they were.
fn told_of(
    read: Result<Bytes, StoreError>,
    position: &mut u64,
) -> Result<Option<Told>, StoreError> {
    let bytes = read?;
    if bytes.is_empty() {
        return Err(StoreError::Unavailable(
            "a recording is cut short".to_owned(),
        ));
    }
    *position += bytes.len() as u64;
    Ok(Some(Told::Bytes(bytes)))
}
