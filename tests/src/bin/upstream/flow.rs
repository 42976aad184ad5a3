//! An answer on its way: its frames in their time, and the end that its script has for it.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use http_body::{Body, SizeHint};
use tokio::time::{Sleep, sleep};

use super::book::Going;

/// A part of a stream.
pub(crate) struct Frame {
    bytes: Bytes,
    /// It carries a delta of the answer.
    delta: bool,
}

impl Frame {
    /// An event round the deltas.
    pub(crate) fn event(text: impl Into<Bytes>) -> Self {
        Self {
            bytes: text.into(),
            delta: false,
        }
    }

    /// An event with a delta.
    pub(crate) fn delta(text: impl Into<Bytes>) -> Self {
        Self {
            bytes: text.into(),
            delta: true,
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.bytes.len()
    }
}

/// Leaves so many deltas of frames, and what stands before the next.
pub(crate) fn shorten(frames: &mut Vec<Frame>, deltas: usize) {
    let places = frames.iter().enumerate().filter(|(_, it)| it.delta);
    let at = places.map(|(at, _)| at).nth(deltas);
    // With all of them sent, what is cut off is the end.
    let last = frames.iter().rposition(|it| it.delta).map(|at| at + 1);
    frames.truncate(at.or(last).unwrap_or(0));
}

/// How an answer ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum End {
    /// As it should.
    Whole,
    /// With its connection.
    Cut,
    /// When the client has enough.
    Never,
}

/// The body of an answer.
pub(crate) enum Flow {
    /// All at once.
    Whole(Bytes),
    /// Frame by frame.
    Frames(Box<Frames>),
}

/// A stream.
pub(crate) struct Frames {
    frames: std::vec::IntoIter<Frame>,
    held: Option<Frame>,
    pace: Duration,
    sleep: Option<Pin<Box<Sleep>>>,
    begun: bool,
    flushed: bool,
    end: End,
    going: Going,
}

impl Frames {
    pub(crate) fn new(frames: Vec<Frame>, pace: Duration, end: End, going: Going) -> Self {
        Self {
            frames: frames.into_iter(),
            held: None,
            pace,
            sleep: None,
            begun: false,
            flushed: false,
            end,
            going,
        }
    }

    fn next(&mut self, context: &mut Context<'_>) -> Poll<Option<io::Result<Bytes>>> {
        if let Some(sleep) = &mut self.sleep {
            ready!(sleep.as_mut().poll(context));
            self.sleep = None;
        }
        if let Some(frame) = self.held.take() {
            return Poll::Ready(Some(Ok(frame.bytes)));
        }
        match self.frames.next() {
            Some(frame) if frame.delta && self.begun && !self.pace.is_zero() => {
                self.held = Some(frame);
                self.sleep = Some(Box::pin(sleep(self.pace)));
                self.next(context)
            }
            Some(frame) => {
                self.begun |= frame.delta;
                Poll::Ready(Some(Ok(frame.bytes)))
            }
            None => self.last(context),
        }
    }

    fn last(&mut self, context: &mut Context<'_>) -> Poll<Option<io::Result<Bytes>>> {
        match self.end {
            End::Whole => {
                self.going.end();
                Poll::Ready(None)
            }
            // Hyper throws away what it has not written when a body fails, and writes when it has to wait.
            End::Cut if !self.flushed => {
                self.flushed = true;
                context.waker().wake_by_ref();
                Poll::Pending
            }
            End::Cut => {
                self.going.end();
                Poll::Ready(Some(Err(io::ErrorKind::ConnectionAborted.into())))
            }
            End::Never => Poll::Pending,
        }
    }
}

impl Body for Flow {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<io::Result<http_body::Frame<Bytes>>>> {
        match self.get_mut() {
            Self::Whole(bytes) if bytes.is_empty() => Poll::Ready(None),
            Self::Whole(bytes) => {
                let bytes = std::mem::take(bytes);
                Poll::Ready(Some(Ok(http_body::Frame::data(bytes))))
            }
            Self::Frames(frames) => {
                let next = ready!(frames.next(context));
                Poll::Ready(next.map(|it| it.map(http_body::Frame::data)))
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        matches!(self, Self::Whole(bytes) if bytes.is_empty())
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Whole(bytes) => SizeHint::with_exact(bytes.len() as u64),
            Self::Frames(_) => SizeHint::default(),
        }
    }
}
