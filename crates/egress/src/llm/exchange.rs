//! One exchange while its answer passes: watched frame by frame, and settled before its end is let through; or when the
//! client leaves, or the provider does.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::StatusCode;
use http_body::{Frame, SizeHint};
use skep_core::Timestamp;
use skep_dialects::{Dialect, Restore, StreamTranslation, Tap, Usage, WithoutUsage};
use tokio::time::{Instant, Sleep};

use super::books::{Amount, Reservation};
use super::plan::Plan;
use super::prices::Price;
use super::recordings::Keep;
use super::send::CANNOT;
use super::service::{Inner, Witness};
use crate::EgressError;
use crate::ledger::{Opened, Settled};
use crate::links::Answering;

/// How long a provider may say nothing in the middle of an answer.
const SILENCE: Duration = Duration::from_secs(300);

/// What an exchange holds until it is settled.
pub(super) struct Open {
    pub(super) inner: Arc<Inner>,
    pub(super) opened: Arc<Opened>,
    /// Who answers: `provider/model`.
    pub(super) target: Arc<str>,
    pub(super) reservation: Option<Reservation>,
    pub(super) price: Option<Price>,
    pub(super) plan: Arc<Plan>,
    pub(super) witness: Arc<dyn Witness>,
    pub(super) began: Instant,
    pub(super) first: Option<Duration>,
    /// In which dialect it answers.
    pub(super) dialect: Dialect,
    /// The provider was asked.
    pub(super) asked: bool,
    /// What was given before is given again.
    pub(super) kept: bool,
    pub(super) settled: bool,
}

impl Drop for Open {
    fn drop(&mut self) {
        if self.settled {
            return;
        }
        // The client left before an answer began: the provider may have read the prompt.
        let read = (self.asked && self.plan.costs()).then(|| match self.plan.streams() {
            true => self.plan.estimate(0),
            // It may write all of it, for nobody.
            false => self.plan.most_usage(self.price.as_ref()),
        });
        self.settle("left", read, read.is_some());
    }
}

/// What a provider tells, within bounds: sums of it must stay numbers.
fn bounded(usage: Usage) -> Usage {
    const MOST: u64 = 1_000_000_000;
    Usage {
        input: usage.input.min(MOST),
        cache_read: usage.cache_read.min(MOST),
        cache_write: usage.cache_write.min(MOST),
        output: usage.output.min(MOST),
        reasoning: usage.reasoning.min(MOST),
    }
}

fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}

impl Open {
    /// The provider is asked.
    pub(super) fn asked(&mut self) {
        self.asked = true;
        let now = self.inner.db.clock().now();
        let (of, target) = (&self.opened.workspace, &self.target);
        self.inner.health(of, |health| health.asked(target, now));
    }

    /// It begins to answer.
    pub(super) fn answers(&self, status: StatusCode) {
        if status.is_success() {
            let (target, first) = (&self.target, self.began.elapsed());
            let of = &self.opened.workspace;
            self.inner.health(of, |health| health.begins(target, first));
        }
    }

    /// How the provider did is known by how the exchange ended.
    fn tell_health(&self, outcome: &str, now: Timestamp) {
        if !self.asked {
            return;
        }
        let status: Option<u16> = outcome.parse().ok();
        let target = &*self.target;
        self.inner
            .health(&self.opened.workspace, |health| match status {
                Some(200..300) => health.good(target),
                Some(status) if CANNOT.contains(&status) => health.bad(target, now),
                None if matches!(outcome, "unreachable" | "cut" | "silent") => {
                    health.bad(target, now);
                }
                _ => health.unknown(target),
            });
    }

    /// It came to nothing, as the other dialect has no word for it.
    pub(super) fn refuse(mut self, error: &skep_dialects::Untranslatable) -> EgressError {
        self.settle("untranslatable", None, false);
        EgressError::Invalid(error.to_string())
    }

    /// It has ended: what it cost is told to the ledger and to the budgets. `usage` is what the provider says of it,
    /// and whether that was all.
    pub(super) fn settle(&mut self, outcome: &str, usage: Option<Usage>, estimated: bool) {
        self.settled = true;
        let now: Timestamp = self.inner.db.clock().now();
        self.tell_health(outcome, now);
        let usage = bounded(usage.unwrap_or_default());
        let cost = self.price.as_ref().map(|price| price.cost(&usage));
        let cost = cost.unwrap_or_default();
        let whole = self.began.elapsed();
        let settled = Settled {
            entry: self.witness.entry(outcome, &self.opened, now),
            outcome: outcome.to_owned(),
            input: usage.input,
            cache_read: usage.cache_read,
            cache_write: usage.cache_write,
            output: usage.output,
            reasoning: usage.reasoning,
            cost,
            estimated,
            first_us: micros(self.first.unwrap_or(whole)),
            whole_us: micros(whole),
            opened: self.opened.clone(),
        };
        // The books after it: what they have as settled, the ledger has.
        self.inner.ledger.end(settled);
        if let Some(reservation) = &self.reservation {
            let tokens = usage.input.saturating_add(usage.output);
            let actual = Amount {
                money: cost,
                tokens,
                ..Amount::default()
            };
            self.inner
                .settle(&self.opened.workspace, reservation, actual);
        }
    }
}

type Wait = Pin<Box<dyn Future<Output = ()> + Send>>;

/// What comes from the provider.
enum Answer {
    /// As it comes.
    Coming(Answering),
    /// It has come.
    Whole(Option<Bytes>),
}

/// What becomes of a stream on its way.
pub(super) enum Change {
    /// Nothing.
    Nothing,
    /// The usage is taken out.
    WithoutUsage(WithoutUsage),
    /// It becomes another dialect.
    Translation(Box<StreamTranslation>),
    /// After that, values come back that were taken out of the request.
    Restored(Box<Self>, Box<Restore>),
}

impl Answer {
    fn poll_frame(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        match self {
            Self::Coming(answer) => http_body::Body::poll_frame(Pin::new(answer), cx),
            Self::Whole(bytes) => Poll::Ready(bytes.take().map(|it| Ok(Frame::data(it)))),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Coming(answer) => http_body::Body::is_end_stream(answer),
            Self::Whole(bytes) => bytes.is_none(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Coming(answer) => http_body::Body::size_hint(answer),
            Self::Whole(bytes) => {
                SizeHint::with_exact(bytes.as_ref().map_or(0, |it| it.len() as u64))
            }
        }
    }
}

impl Change {
    fn push(&mut self, data: Bytes) -> Bytes {
        match self {
            Self::Nothing => data,
            Self::WithoutUsage(without) => without.push(&data).into(),
            Self::Translation(translation) => translation.push(&data).into(),
            Self::Restored(first, restore) => restore.push(&first.push(data)).into(),
        }
    }

    fn finish(&mut self) -> Bytes {
        match self {
            Self::Nothing => Bytes::new(),
            Self::WithoutUsage(without) => without.finish().into(),
            Self::Translation(translation) => translation.finish().into(),
            Self::Restored(first, restore) => {
                let mut rest = restore.push(&first.finish());
                rest.extend(restore.finish());
                rest.into()
            }
        }
    }
}

/// An answer on its way to the client.
pub struct Body {
    answer: Answer,
    tap: Tap,
    change: Change,
    /// Why it ends in the middle; told when what came before has gone out.
    failed: Option<Cut>,
    status: u16,
    open: Option<Open>,
    /// What goes out is kept, too.
    keep: Option<Keep>,
    silence: Pin<Box<Sleep>>,
    /// With strict durability, the frame that ends it, or the end itself, and what that waits for.
    held: Option<(Option<Frame<Bytes>>, Wait)>,
    ended: bool,
}

/// Why an answer ends in the middle.
#[derive(Debug, thiserror::Error)]
pub enum Cut {
    /// The provider ended the connection.
    #[error("the provider cut its answer: {0}")]
    Provider(hyper::Error),
    /// It said nothing for long.
    #[error("the provider said nothing for {} s", SILENCE.as_secs())]
    Silent,
}

impl Body {
    /// An answer in a dialect, as it comes.
    pub(super) fn new(
        answer: Answering,
        (status, dialect): (u16, Dialect),
        open: Open,
        change: Change,
    ) -> Self {
        let tap = Tap::new(dialect, open.plan.streams());
        let answer = Answer::Coming(answer);
        Self::of(answer, tap, (status, change), open)
    }

    /// An answer that has come, and became what it is to be; the tap has seen it.
    pub(super) fn whole(bytes: Bytes, status: u16, tap: Tap, open: Open) -> Self {
        let answer = Answer::Whole(Some(bytes));
        Self::of(answer, tap, (status, Change::Nothing), open)
    }

    fn of(answer: Answer, tap: Tap, (status, change): (u16, Change), open: Open) -> Self {
        Self {
            answer,
            tap,
            change,
            failed: None,
            status,
            open: Some(open),
            keep: None,
            silence: Box::pin(tokio::time::sleep(SILENCE)),
            held: None,
            ended: false,
        }
    }

    /// Keeps what goes out.
    pub(super) fn keep(&mut self, keep: Keep) {
        self.keep = Some(keep);
    }

    /// Gives values back that were taken out of the request.
    pub(super) fn restore(&mut self, restore: Restore) {
        let first = std::mem::replace(&mut self.change, Change::Nothing);
        self.change = Change::Restored(Box::new(first), Box::new(restore));
    }

    /// Settles the exchange, once.
    fn settle(&mut self, cut: Option<&str>) {
        let Some(mut open) = self.open.take() else {
            return;
        };
        let good = (200..300).contains(&self.status) && open.plan.costs() && !open.kept;
        let known = self.tap.usage().filter(|_| good);
        // What a cut stream said in its middle is not all of it.
        let whole = known.filter(|_| self.tap.is_complete() || cut.is_none());
        let estimate = || {
            let guess = open.plan.estimate(self.tap.output_bytes());
            match known {
                // Its beginning says what the prompt was.
                Some(known) => Usage {
                    output: known.output.max(guess.output),
                    ..known
                },
                None => guess,
            }
        };
        let usage = match (whole, good) {
            (Some(whole), _) => Some(whole),
            (None, true) if cut.is_none() => Some(
                open.plan
                    .unsaid(open.price.as_ref(), self.tap.output_bytes()),
            ),
            (None, true) => Some(estimate()),
            (None, false) => None,
        };
        let outcome = match cut {
            Some(cut) if !self.tap.is_complete() => cut.to_owned(),
            _ => self.status.to_string(),
        };
        open.settle(&outcome, usage, good && whole.is_none());
        if let Some(keep) = self.keep.take() {
            let now = open.inner.db.clock().now();
            let said =
                self.tap.is_complete() || (!open.plan.streams() && self.tap.usage().is_some());
            let whole = good && cut.is_none() && said && self.tap.error().is_none();
            keep.end(&outcome, whole, now);
        }
    }

    /// A piece of the answer has come.
    fn take(&mut self, data: Bytes) -> Option<Frame<Bytes>> {
        if let Some(open) = &mut self.open
            && open.first.is_none()
        {
            open.first = Some(open.began.elapsed());
        }
        if let Answer::Coming(_) = self.answer {
            self.tap.push(&data);
        }
        let data = self.change.push(data);
        if let Some(keep) = &mut self.keep {
            keep.push(&data);
        }
        (!data.is_empty()).then(|| Frame::data(data))
    }

    /// The end has come: what is left, and nothing after it.
    fn finish(&mut self) -> Option<Frame<Bytes>> {
        self.tap.finish();
        self.ended = true;
        let rest = self.change.finish();
        if let Some(keep) = &mut self.keep {
            keep.push(&rest);
        }
        (!rest.is_empty()).then(|| Frame::data(rest))
    }

    /// Another provider is asked instead.
    pub(super) fn dismiss(mut self) {
        self.settle(None);
    }

    /// Whether nothing that counts can follow. Gemini says of each answer that it ends, not of all.
    fn is_over(&self) -> bool {
        let gemini = self
            .open
            .as_ref()
            .is_some_and(|it| it.dialect == Dialect::Gemini);
        self.tap.is_complete() && !gemini
    }

    const fn passes(&self) -> bool {
        matches!(self.change, Change::Nothing)
    }

    /// It ends in the middle: first what came before goes out, then that is told.
    fn fail<T>(&mut self, outcome: &str, cut: Cut, cx: &Context<'_>) -> Poll<T> {
        self.ended = true;
        self.settle(Some(outcome));
        self.failed = Some(cut);
        cx.waker().wake_by_ref();
        Poll::Pending
    }

    /// How it was cut, when it ends here. A stream has an end of its own.
    fn cut(&self) -> Option<&'static str> {
        let should_end = self.ended && (200..300).contains(&self.status);
        let streams = self.open.as_ref().is_some_and(|it| it.plan.streams());
        (should_end && streams && !self.tap.is_complete()).then_some("cut")
    }

    /// Lets a frame through, or the end: what ends an exchange, after that is written down.
    fn let_through(
        &mut self,
        frame: Option<Frame<Bytes>>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Frame<Bytes>>> {
        let is_end = self.ended || self.is_over() || self.answer.is_end_stream();
        let inner = match &self.open {
            Some(open) if is_end => open.inner.clone(),
            _ => return Poll::Ready(frame),
        };
        self.settle(self.cut());
        if !inner.strict {
            return Poll::Ready(frame);
        }
        let mut wait: Wait = Box::pin(async move { inner.ledger.on_disk().await });
        match wait.as_mut().poll(cx) {
            Poll::Ready(()) => Poll::Ready(frame),
            Poll::Pending => {
                self.held = Some((frame, wait));
                Poll::Pending
            }
        }
    }
}

impl Drop for Body {
    fn drop(&mut self) {
        // The client left.
        self.settle(Some("left"));
    }
}

impl http_body::Body for Body {
    type Data = Bytes;
    type Error = Cut;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Cut>>> {
        let this = self.get_mut();
        if let Some((_, wait)) = &mut this.held {
            if wait.as_mut().poll(cx).is_pending() {
                return Poll::Pending;
            }
            return Poll::Ready(this.held.take().and_then(|(frame, _)| frame).map(Ok));
        }
        if let Some(cut) = this.failed.take() {
            return Poll::Ready(Some(Err(cut)));
        }
        loop {
            if this.ended {
                return Poll::Ready(None);
            }
            let frame = match this.answer.poll_frame(cx) {
                Poll::Pending => {
                    if this.silence.as_mut().poll(cx).is_pending() {
                        return Poll::Pending;
                    }
                    return this.fail("silent", Cut::Silent, cx);
                }
                Poll::Ready(Some(Err(error))) => {
                    return this.fail("cut", Cut::Provider(error), cx);
                }
                Poll::Ready(Some(Ok(frame))) => {
                    this.silence.as_mut().reset(Instant::now() + SILENCE);
                    match frame.into_data() {
                        Ok(data) => this.take(data),
                        Err(trailers) => Some(trailers),
                    }
                }
                Poll::Ready(None) => {
                    let rest = this.finish();
                    return this.let_through(rest, cx).map(|it| it.map(Ok));
                }
            };
            if frame.is_some() {
                return this.let_through(frame, cx).map(|it| it.map(Ok));
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.held.is_none()
            && self.failed.is_none()
            && (self.ended || (self.open.is_none() && self.passes() && self.answer.is_end_stream()))
    }

    fn size_hint(&self) -> SizeHint {
        match self.change {
            Change::Nothing => self.answer.size_hint(),
            Change::WithoutUsage(_) | Change::Translation(_) | Change::Restored(..) => {
                SizeHint::default()
            }
        }
    }
}
