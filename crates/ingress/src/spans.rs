//! What the call door tells of its attempts to whoever traces them. The composition root gives it;
//! without one nothing is recorded, and agents see the trace context that came with the call.

use std::net::SocketAddr;
use std::sync::Arc;

use http::{HeaderMap, HeaderValue, Method};
use skep_core::{CallId, InstanceId};

/// An attempt that begins.
#[derive(Debug, Clone, Copy)]
pub struct Beginning<'a> {
    /// The call.
    pub call: CallId,
    /// The agent's name.
    pub agent: &'a str,
    /// Which attempt of the call it is, from 1.
    pub number: u32,
    /// The instance that it runs on.
    pub instance: InstanceId,
    /// Where the instance listens.
    pub address: SocketAddr,
    /// The request's method.
    pub method: &'a Method,
    /// Path and query that the agent sees.
    pub target: &'a str,
    /// The headers that the call was stored with: they hold its trace context.
    pub headers: &'a HeaderMap,
}

/// How an attempt ended.
#[derive(Debug, Clone, Copy)]
pub struct Ending<'a> {
    /// In one word, the same as in the metrics: `answered`, `cut`, `expired`, …
    pub end: &'static str,
    /// The agent's status, when it answered.
    pub status: Option<u16>,
    /// Why there is no answer.
    pub reason: Option<&'a str>,
}

/// Records attempts.
pub trait Spans: Send + Sync + 'static {
    /// An attempt begins. `None` when its trace is not recorded. Asked for every attempt: must be
    /// cheap.
    fn begin(self: Arc<Self>, attempt: &Beginning<'_>) -> Option<Box<dyn AttemptSpan>>;
}

/// An attempt that is recorded. Dropped without an end, the attempt was given up.
pub trait AttemptSpan: Send + Sync {
    /// The trace context for the agent, whose own spans hang below this one.
    fn traceparent(&self) -> Option<HeaderValue>;

    /// The attempt ended.
    fn end(self: Box<Self>, ending: &Ending<'_>);
}
