//! An answer on its way to who asked: without the values that were put into its request, counted, and settled before its
//! end.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http_body::{Body as _, Frame, SizeHint};
use hyper::body::Incoming;
use tokio::time::{Instant, Interval, Sleep};

use super::exchange::{Open, Passed};
use super::recording::Keep;
use super::send::May;
use super::service::LOOK;
use crate::scrub::Scrub;
use crate::upstream::Fault;

/// How long a host may say nothing in the middle of an answer.
const SILENCE: Duration = Duration::from_secs(300);

/// An answer on its way.
pub struct Body {
    answer: Incoming,
    scrub: Option<Scrub>,
    open: Option<Open>,
    status: u16,
    silence: Pin<Box<Sleep>>,
    /// Whether who asked still counts, and when that is looked at.
    may: Option<(May, Interval)>,
    ended: bool,
}

impl std::fmt::Debug for Body {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Body({})", self.status)
    }
}

/// Why an answer ends in the middle.
#[derive(Debug, thiserror::Error)]
pub enum Cut {
    /// The host ended the connection.
    #[error("the host cut its answer: {0}")]
    Host(hyper::Error),
    /// Who asked counts no more.
    #[error("what was shown for the request counts no more")]
    Ended,
    /// It said nothing for long.
    #[error("the host said nothing for {} s", SILENCE.as_secs())]
    Silent,
}

impl Body {
    pub(super) fn new(
        answer: Incoming,
        (status, may): (u16, May),
        scrub: Option<Scrub>,
        mut open: Open,
    ) -> Self {
        open.begins();
        let look = tokio::time::interval_at(Instant::now() + LOOK, LOOK);
        let mut body = Self {
            ended: false,
            answer,
            scrub,
            open: Some(open),
            status,
            silence: Box::pin(tokio::time::sleep(SILENCE)),
            may: Some((may, look)),
        };
        if body.answer.is_end_stream() {
            body.end();
        }
        body
    }

    /// Nothing follows: the connection is for something else.
    pub(super) fn empty(answer: Incoming) -> Self {
        Self {
            ended: true,
            answer,
            scrub: None,
            open: None,
            status: 101,
            silence: Box::pin(tokio::time::sleep(SILENCE)),
            may: None,
        }
    }

    fn end(&mut self) {
        self.ended = true;
        if let Some(mut open) = self.open.take() {
            open.settle(&self.status.to_string());
        }
    }

    fn fail(&mut self, outcome: &str, cut: Cut) -> Poll<Option<Result<Frame<Bytes>, Cut>>> {
        self.ended = true;
        if let Some(mut open) = self.open.take() {
            open.settle(outcome);
        }
        Poll::Ready(Some(Err(cut)))
    }

    /// Keeps what goes on, where that is kept.
    fn keep(&self, out: &[u8]) {
        if let Some(keep) = self.open.as_ref().and_then(|it| it.keep.as_ref()) {
            keep.says(out);
        }
    }

    /// What goes on of a piece that came; the end, when that was the last.
    fn take(&mut self, data: &Bytes) -> Bytes {
        if let Some(open) = &self.open {
            open.passed
                .down
                .fetch_add(data.len() as u64, Ordering::Relaxed);
        }
        let last = self.answer.is_end_stream();
        let out = match &mut self.scrub {
            None => data.clone(),
            Some(scrub) => {
                let mut out = scrub.push(data);
                if last {
                    out.extend(scrub.finish());
                }
                out.into()
            }
        };
        self.keep(&out);
        if last {
            self.end();
        }
        out
    }
}

/// Whether it may go on, as far as that is looked at now. It is asked again in time.
fn still(may: &mut Option<(May, Interval)>, cx: &mut Context<'_>) -> bool {
    let Some((may, look)) = may else { return true };
    while look.poll_tick(cx).is_ready() {
        if !may() {
            return false;
        }
    }
    true
}

impl http_body::Body for Body {
    type Data = Bytes;
    type Error = Cut;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Cut>>> {
        let this = self.get_mut();
        loop {
            if this.ended {
                return Poll::Ready(None);
            }
            if !still(&mut this.may, cx) {
                return this.fail("ended", Cut::Ended);
            }
            match Pin::new(&mut this.answer).poll_frame(cx) {
                Poll::Pending if this.silence.as_mut().poll(cx).is_pending() => {
                    return Poll::Pending;
                }
                Poll::Pending => return this.fail("silent", Cut::Silent),
                Poll::Ready(Some(Err(error))) => return this.fail("cut", Cut::Host(error)),
                Poll::Ready(Some(Ok(frame))) => {
                    this.silence.as_mut().reset(Instant::now() + SILENCE);
                    match frame.into_data() {
                        Ok(data) => {
                            let out = this.take(&data);
                            if !out.is_empty() {
                                return Poll::Ready(Some(Ok(Frame::data(out))));
                            }
                        }
                        // What stands in a trailer is looked at by nobody.
                        Err(_) if this.scrub.is_some() => {}
                        Err(trailers) => return Poll::Ready(Some(Ok(trailers))),
                    }
                }
                Poll::Ready(None) => {
                    let rest = this.scrub.as_mut().map(Scrub::finish).unwrap_or_default();
                    this.keep(&rest);
                    this.end();
                    if !rest.is_empty() {
                        return Poll::Ready(Some(Ok(Frame::data(rest.into()))));
                    }
                }
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.ended
    }

    fn size_hint(&self) -> SizeHint {
        match self.scrub {
            // What is held back is still to come.
            Some(_) => SizeHint::default(),
            None => self.answer.size_hint(),
        }
    }
}

/// The body of a request on its way out: counted, of a size, and without long pauses.
pub(super) struct Counted<B> {
    body: B,
    passed: Arc<Passed>,
    most: u64,
    pause: Duration,
    /// When the next piece is late; from when the last one was asked for.
    late: Option<Pin<Box<Sleep>>>,
    /// What passes is kept here.
    keep: Option<Arc<Keep>>,
}

impl<B> Counted<B> {
    pub(super) fn new(body: B, (passed, most, pause): (Arc<Passed>, u64, Duration)) -> Self {
        Self {
            body,
            passed,
            most,
            pause,
            late: None,
            keep: None,
        }
    }

    /// Keeps what passes.
    pub(super) fn kept(mut self, keep: Option<Arc<Keep>>) -> Self {
        self.keep = keep;
        self
    }
}

impl<B> http_body::Body for Counted<B>
where
    B: http_body::Body<Data = Bytes> + Unpin,
    B::Error: Into<Fault>,
{
    type Data = Bytes;
    type Error = Fault;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Fault>>> {
        let this = self.get_mut();
        let polled = Pin::new(&mut this.body).poll_frame(cx);
        if polled.is_pending() {
            let pause = this.pause;
            let late = this
                .late
                .get_or_insert_with(|| Box::pin(tokio::time::sleep(pause)));
            if late.as_mut().poll(cx).is_ready() {
                return Poll::Ready(Some(Err("the body did not arrive in time".into())));
            }
            return Poll::Pending;
        }
        this.late = None;
        let Poll::Ready(Some(frame)) = polled else {
            return polled.map_err(Into::into);
        };
        let frame = frame.map_err(Into::into)?;
        let length = frame.data_ref().map_or(0, |it| it.len() as u64);
        let before = this.passed.up.fetch_add(length, Ordering::Relaxed);
        if let (Some(keep), Some(data)) = (&this.keep, frame.data_ref()) {
            keep.asks(data);
        }
        match before + length > this.most {
            true => Poll::Ready(Some(Err(format!(
                "the body has more than {} bytes",
                this.most
            )
            .into()))),
            false => Poll::Ready(Some(Ok(frame))),
        }
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
