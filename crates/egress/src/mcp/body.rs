//! An answer on its way to the client: looked at message by message, changed where it lists what is not for this client,
//! and written down before its end is let through.

use std::collections::VecDeque;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::header::CONTENT_TYPE;
use http_body::{Frame, SizeHint};
use skep_core::Workspace;
use skep_mcp::{
    Class, Definition, Events, Kind, Message, Object, State, code, error, is_same_id, kept, reply,
};
use tokio::time::{Instant, Sleep};

use super::door::Judge;
use super::link::{CUT, Coming, Flow, LONG, UNREACHABLE};
use super::service::{Inner, Known};
use crate::ledger::{Opened, Settled};
use crate::llm::{Reservation, Witness, one_call};
use crate::money::Money;
use crate::scrub::Scrub;

/// The longest answer that is no stream, in bytes.
const MOST: usize = 32 << 20;

/// Why an answer ends in the middle.
#[derive(Debug, thiserror::Error)]
pub enum Cut {
    /// The server ended the connection.
    #[error("the server cut its answer: {0}")]
    Server(hyper::Error),
    /// It said nothing for long.
    #[error("the server said nothing for too long")]
    Silent,
    /// It says too much.
    #[error("the server's answer is too long")]
    Long,
}

/// An exchange until it is settled.
pub(super) struct Open {
    pub(super) inner: Arc<Inner>,
    pub(super) opened: Arc<Opened>,
    pub(super) witness: Arc<dyn Witness>,
    pub(super) began: Instant,
    /// What is set aside of budgets.
    pub(super) held: Reservation,
    /// What it costs, when it was sent.
    pub(super) price: Money,
    pub(super) settled: bool,
}

impl Open {
    /// It has ended.
    pub(super) fn settle(&mut self, outcome: &str) {
        if std::mem::replace(&mut self.settled, true) {
            return;
        }
        let now = self.inner.db.clock().now();
        let cost = match outcome {
            UNREACHABLE => Money::ZERO,
            _ => self.price,
        };
        let whole = u64::try_from(self.began.elapsed().as_micros()).unwrap_or(u64::MAX);
        self.inner.ledger.end(Settled {
            entry: self.witness.entry(outcome, &self.opened, now),
            outcome: outcome.to_owned(),
            input: 0,
            cache_read: 0,
            cache_write: 0,
            output: 0,
            reasoning: 0,
            cost,
            estimated: false,
            first_us: whole,
            whole_us: whole,
            opened: self.opened.clone(),
        });
        // The books after it: what they have as settled, the ledger has.
        let workspace = &self.opened.workspace;
        self.inner
            .models
            .settle_use(workspace, &self.held, one_call(cost));
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.settle("left");
    }
}

/// What an answer is looked at by.
pub(super) struct Sieve {
    pub(super) inner: Arc<Inner>,
    pub(super) workspace: Workspace,
    pub(super) server: String,
    pub(super) known: Known,
    pub(super) judge: Arc<dyn Judge>,
    /// The request that it answers: its id, raw, and its method.
    pub(super) own: Option<(String, String)>,
}

/// What was found of a message.
pub(super) enum Found {
    /// It passes as it came.
    Passes,
    /// It passes so.
    Becomes(String),
    /// It does not pass.
    Goes,
}

/// A message that means something else to somebody else.
fn odd(message: &Message<'_>, answers: bool) -> (Found, Option<&'static str>) {
    let Kind::Answer { id, .. } = &message.kind else {
        return (Found::Goes, None);
    };
    let id = id.map(serde_json::value::RawValue::get);
    let why = "the server's answer has a name twice";
    let text = error(id, code::INTERNAL, why, None);
    (Found::Becomes(text), answers.then_some("error"))
}

impl Sieve {
    /// Whether a message is the answer to the client's request.
    fn answers(&self, message: &Message<'_>) -> bool {
        match (&message.kind, &self.own) {
            (Kind::Answer { id: Some(id), .. }, Some((own, _))) => is_same_id(id.get(), own),
            _ => false,
        }
    }

    /// Whether a tool is shown as it is defined here.
    fn shows(&self, text: &str) -> Option<String> {
        let server = self.known.servers.get(&self.server)?;
        let Ok(definition) = Definition::read(text) else {
            tracing::warn!(
                server = self.server,
                "a tool is left out: its definition is none"
            );
            return None;
        };
        let name = &definition.name;
        let tool = server.tools.get(name);
        if tool.and_then(|it| it.seen) != Some(definition.pin) {
            self.inner.look_soon(&self.workspace, &self.server);
        }
        let tool = tool?;
        let is_known = tool.approved == Some(definition.pin) && server.settings.rules.has(name);
        let may = is_known && self.judge.may(&self.server, name, tool.class());
        may.then(|| text.to_owned())
    }

    /// What of its abilities a server may tell of.
    fn capabilities(&self, result: &Object<'_>) -> Option<String> {
        let settings = &self.known.servers.get(&self.server)?.settings;
        let may = |thing| self.judge.may(&self.server, thing, Class::Read);
        let mut hidden = Vec::new();
        if !settings.resources || !may(super::door::RESOURCES) {
            hidden.push(("resources", None));
        }
        if !settings.prompts || !may(super::door::PROMPTS) {
            hidden.push(("prompts", None));
        }
        let own = result.object("capabilities")?;
        if own.get("tasks").is_some() {
            hidden.push(("tasks", None));
        }
        if hidden.is_empty() {
            return None;
        }
        let own = own.with(&hidden);
        Some(result.with(&[("capabilities", Some(&own))]))
    }

    /// Looks at a message of the server's, and tells whether it is the answer to the client's request, and how it went.
    pub(super) fn look(&self, text: &str) -> (Found, Option<&'static str>) {
        let Ok(message) = Message::read(text) else {
            return (Found::Goes, None);
        };
        let answers = self.answers(&message);
        if message.is_odd() {
            return odd(&message, answers);
        }
        let Kind::Answer { id, result } = &message.kind else {
            if message.method() == Some("notifications/tools/list_changed") {
                self.inner.look_soon(&self.workspace, &self.server);
            }
            return (Found::Passes, None);
        };
        let id = id.map(serde_json::value::RawValue::get);
        let Some(result) = result else {
            return (Found::Passes, answers.then_some("error"));
        };
        let Some(fields) = Object::parse(result.get()) else {
            return (Found::Passes, answers.then_some("200"));
        };
        if fields.twice().is_some() || fields.disguised(&["tools"]).is_some() {
            return odd(&message, answers);
        }
        let method = self
            .own
            .as_ref()
            .filter(|_| answers)
            .map(|(_, it)| it.as_str());
        let changed = match method {
            Some("initialize" | "server/discover") => self.capabilities(&fields),
            // Nobody else's answer comes by this way, unless somebody wants to get by.
            Some("tools/list") | None => kept(result.get(), "tools", |it| self.shows(it)),
            Some(_) => None,
        };
        let is_error = fields.get("isError").is_some_and(|it| it.get() == "true");
        let outcome = if is_error { "tool-error" } else { "200" };
        let found = match changed {
            None => Found::Passes,
            Some(changed) => match id {
                Some(id) if message.fields.fields().count() == 3 => {
                    Found::Becomes(reply(id, &changed))
                }
                _ => Found::Becomes(message.fields.with(&[("result", Some(&changed))])),
            },
        };
        (found, answers.then_some(outcome))
    }
}

/// How an answer is cut into messages.
enum Shape {
    /// A stream of events.
    Events(Events),
    /// One message.
    Json(Vec<u8>),
    /// None.
    Plain,
}

/// An answer on its way.
pub struct Body {
    flow: Flow,
    shape: Shape,
    sieve: Option<Sieve>,
    open: Option<Open>,
    status: u16,
    out: VecDeque<Bytes>,
    /// Takes the server's secrets out, before anything is looked at.
    scrub: Option<Scrub>,
    /// How long nothing may come; for ever, without.
    patience: Option<Duration>,
    silence: Pin<Box<Sleep>>,
    ended: bool,
}

impl Body {
    pub(super) fn new(
        coming: Coming,
        sieve: Option<Sieve>,
        open: Option<Open>,
        patience: Option<Duration>,
    ) -> Self {
        let kind = coming.headers.get(CONTENT_TYPE);
        let begins = |text: &str| {
            kind.is_some_and(|it| {
                let own = it.as_bytes().get(..text.len());
                own.is_some_and(|it| it.eq_ignore_ascii_case(text.as_bytes()))
            })
        };
        let shape = match sieve.is_some() {
            true if begins("text/event-stream") => Shape::Events(Events::default()),
            // What says nothing of itself may be read as a message.
            true => Shape::Json(Vec::new()),
            false => Shape::Plain,
        };
        Self {
            flow: coming.flow,
            scrub: (!coming.forms.is_empty()).then(|| Scrub::new(coming.forms)),
            shape,
            sieve,
            open,
            status: coming.status.as_u16(),
            out: VecDeque::new(),
            patience,
            silence: Box::pin(tokio::time::sleep(patience.unwrap_or_default())),
            ended: false,
        }
    }

    fn settle(&mut self, outcome: &str) {
        if let Some(mut open) = self.open.take() {
            open.settle(outcome);
        }
    }

    /// A piece has come.
    fn take(&mut self, data: Bytes) -> Result<(), Cut> {
        match &mut self.scrub {
            Some(scrub) => {
                let data = scrub.push(&data);
                self.hold(data.into())
            }
            None => self.hold(data),
        }
    }

    fn hold(&mut self, data: Bytes) -> Result<(), Cut> {
        match &mut self.shape {
            Shape::Plain => self.out.push_back(data),
            Shape::Json(whole) => {
                if whole.len() + data.len() > MOST {
                    return Err(Cut::Long);
                }
                whole.extend_from_slice(&data);
            }
            Shape::Events(events) => {
                let whole = events.push(&data).map_err(|_| Cut::Long)?;
                for event in whole {
                    self.event(&event);
                }
            }
        }
        Ok(())
    }

    fn event(&mut self, event: &skep_mcp::Event) {
        let looked = match (&event.data, &self.sieve) {
            // An event without a message keeps its place: others begin from there again.
            (Some(data), Some(sieve)) if !data.trim().is_empty() => sieve.look(data),
            _ => (Found::Passes, None),
        };
        let (found, outcome) = looked;
        if let Some(outcome) = outcome {
            self.settle(outcome);
        }
        match found {
            Found::Passes => self.out.push_back(event.written().into()),
            Found::Becomes(text) => self.out.push_back(event.with(&text).into()),
            Found::Goes => {}
        }
    }

    /// The end has come.
    fn finish(&mut self) -> Result<(), Cut> {
        let rest = self.scrub.as_mut().map(Scrub::finish).unwrap_or_default();
        if !rest.is_empty() {
            self.hold(rest.into())?;
        }
        self.ended = true;
        if let Shape::Json(whole) = &mut self.shape {
            let whole = std::mem::take(whole);
            let text = std::str::from_utf8(&whole).ok();
            let looked = match (text, &self.sieve) {
                (Some(text), Some(sieve)) if !text.trim().is_empty() => sieve.look(text),
                _ => (Found::Goes, None),
            };
            let (found, outcome) = looked;
            if let Some(outcome) = outcome {
                self.settle(outcome);
            }
            match found {
                Found::Becomes(text) => self.out.push_back(text.into()),
                Found::Passes => self.out.push_back(whole.into()),
                // No message: what a server says beside the protocol, as of an error, has no list in it.
                Found::Goes if self.status >= 400 && !whole.is_empty() => {
                    let text = error(None, code::INTERNAL, "the server refuses the request", None);
                    self.out.push_back(text.into());
                }
                Found::Goes => {}
            }
        }
        let status = self.status;
        let outcome = if (200..300).contains(&status) {
            CUT.to_owned()
        } else {
            status.to_string()
        };
        self.settle(&outcome);
        Ok(())
    }

    fn poll_flow(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, hyper::Error>>> {
        loop {
            return match &mut self.flow {
                Flow::Whole(bytes) => Poll::Ready(bytes.take().map(Ok)),
                Flow::Lines(lines) => lines.poll_recv(cx).map(|it| it.map(Ok)),
                Flow::Http(body) => match http_body::Body::poll_frame(Pin::new(body), cx) {
                    Poll::Pending => Poll::Pending,
                    Poll::Ready(None) => Poll::Ready(None),
                    Poll::Ready(Some(Err(error))) => Poll::Ready(Some(Err(error))),
                    Poll::Ready(Some(Ok(frame))) => match frame.into_data() {
                        Ok(data) => Poll::Ready(Some(Ok(data))),
                        // Trailers are of one connection.
                        Err(_) => continue,
                    },
                },
            };
        }
    }

    fn fail(&mut self, outcome: &str, cut: Cut) -> Poll<Option<Result<Frame<Bytes>, Cut>>> {
        self.ended = true;
        self.settle(outcome);
        Poll::Ready(Some(Err(cut)))
    }
}

impl Drop for Body {
    fn drop(&mut self) {
        // The client left.
        self.settle("left");
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
        loop {
            if let Some(data) = this.out.pop_front() {
                return Poll::Ready(Some(Ok(Frame::data(data))));
            }
            if this.ended {
                return Poll::Ready(None);
            }
            match this.poll_flow(cx) {
                Poll::Pending => {
                    if this.patience.is_some() && this.silence.as_mut().poll(cx).is_ready() {
                        return this.fail("silent", Cut::Silent);
                    }
                    return Poll::Pending;
                }
                Poll::Ready(Some(Ok(data))) => {
                    if let Some(patience) = this.patience {
                        this.silence.as_mut().reset(Instant::now() + patience);
                    }
                    if let Err(cut) = this.take(data) {
                        return this.fail(LONG, cut);
                    }
                }
                Poll::Ready(Some(Err(error))) => return this.fail(CUT, Cut::Server(error)),
                Poll::Ready(None) => {
                    if let Err(cut) = this.finish() {
                        return this.fail(LONG, cut);
                    }
                }
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.ended && self.out.is_empty()
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::default()
    }
}

/// How a tool stands, for who asks for it.
pub(super) const fn why_not(state: State) -> &'static str {
    match state {
        State::New => "nobody approved it yet",
        State::Changed => "its definition changed since it was approved",
        State::Gone => "its server does not have it any more",
        State::Approved => "it is not to be used",
    }
}
