//! What the call door needs to know of agents. The composition root gives it.

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;

use bytes::Bytes;
use http::HeaderMap;
use skep_api::CallState;
use skep_core::{AgentId, CallId, InstanceId, RunId, Timestamp, Workspace};
use skep_store::{Scope, StoreError};
use tokio::net::TcpStream;

use crate::policy::CallPolicy;

/// One instance that takes calls.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Endpoint {
    /// Which one.
    pub instance: InstanceId,
    /// Where it listens.
    pub address: SocketAddr,
    /// The revision that it runs.
    pub revision: u32,
}

/// How calls are shared between a revision and all others.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Split {
    /// The revision.
    pub revision: u32,
    /// Its share in percent.
    pub weight: u8,
}

/// Whether an agent takes calls now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Availability {
    /// These instances do.
    Ready {
        /// Never empty.
        endpoints: Arc<[Endpoint]>,
        /// How calls are shared; `None`: evenly.
        split: Option<Split>,
    },
    /// None does, but one is to come: it starts, or its probes fail for now.
    Waiting,
    /// None does because nobody called for a while; [`Agent::wake`] changes that.
    Asleep,
    /// Its owner stopped it.
    Stopped,
    /// It crashed too often; somebody must look at it.
    CrashLoop(Arc<str>),
    /// It is gone.
    Removed,
}

/// A connection that is being made.
pub type Connecting = Pin<Box<dyn Future<Output = io::Result<TcpStream>> + Send>>;

/// One agent, as long as it is deployed.
pub trait Agent: Send + Sync + 'static {
    /// Its identifier; another one when an agent of the same name is deployed after a removal.
    fn id(&self) -> AgentId;

    /// How its calls are treated, as of now.
    fn policy(&self) -> Arc<CallPolicy>;

    /// Whether it takes calls, as of now.
    fn availability(&self) -> Availability;

    /// Completes when the availability changes after this was called.
    fn changed(&self) -> Pin<Box<dyn Future<Output = ()> + Send>>;

    /// Whether this instance takes calls, as of now.
    fn is_ready(&self, instance: InstanceId) -> bool;

    /// A new connection to this instance.
    fn connect(&self, instance: InstanceId) -> Connecting;

    /// A call begins (`+1`) or ends (`-1`) on this instance.
    fn count(&self, instance: InstanceId, delta: i64);

    /// A call waits for an agent that sleeps.
    fn wake(&self);

    /// Whether this instance was ended on purpose: a stop, a restart, a deployment.
    fn was_ended(&self, instance: InstanceId) -> bool;

    /// The connection to this instance failed: it may be gone.
    fn suspect(&self, instance: InstanceId);
}

/// The agents that are deployed.
pub trait Agents: Send + Sync + 'static {
    /// The agent with this name. Asked for every request: must be cheap.
    fn find(&self, workspace: &Workspace, name: &str) -> Option<Arc<dyn Agent>>;

    /// A deployed agent's name that is close to this one.
    fn similar(&self, workspace: &Workspace, name: &str) -> Option<String>;

    /// A call has ended, or begins anew. What this writes is committed together with that.
    ///
    /// # Errors
    /// The store's own; then that is not committed either.
    fn turned(
        &self,
        _scope: &mut Scope<'_>,
        _turn: &Turn<'_>,
        _now: Timestamp,
    ) -> Result<(), StoreError> {
        Ok(())
    }

    /// What the answer to an attempt of a run's call becomes before it is recorded. What fails here fails the attempt.
    fn shape<'a>(&'a self, _of: &'a Head<'a>) -> Shaping<'a> {
        Box::pin(async { Err("nobody knows of runs here".to_owned()) })
    }
}

/// A call that has ended, or begins anew.
#[derive(Debug, Clone, Copy)]
pub struct Turn<'a> {
    /// Its agent.
    pub agent: &'a str,
    /// The call.
    pub call: CallId,
    /// The run that it carries, if it does.
    pub run: Option<RunId>,
    /// Where its last attempt ran.
    pub instance: Option<InstanceId>,
    /// Its state from here on.
    pub state: CallState,
    /// The status of the agent's answer, if it ended by one.
    pub status: Option<u16>,
    /// Why the last attempt failed, or the call was ended.
    pub reason: Option<&'a str>,
    /// What the answer's shape tells of it.
    pub summary: Option<&'a [u8]>,
}

/// The head of an answer, whose body becomes something else.
#[derive(Debug, Clone, Copy)]
pub struct Head<'a> {
    /// Whose.
    pub workspace: &'a Workspace,
    /// The run that the call carries.
    pub run: RunId,
    /// The number of the attempt.
    pub attempt: u32,
    /// The answer's status.
    pub status: u16,
    /// Its headers, without those of the connection.
    pub headers: &'a HeaderMap,
}

/// A shape that is being made.
pub type Shaping<'a> = Pin<Box<dyn Future<Output = Result<Box<dyn Shape>, String>> + Send + 'a>>;

/// What a body becomes as it passes: a stream of server-sent events with ids.
pub trait Shape: Send + Sync {
    /// Takes what came and gives what may pass.
    fn push(&mut self, data: Bytes) -> Bytes;

    /// What is left when the body has come to its end.
    fn finish(&mut self) -> Bytes;

    /// What is told of it when its call ends by it ([`Turn::summary`]).
    fn summary(&self) -> Option<Bytes> {
        None
    }
}
