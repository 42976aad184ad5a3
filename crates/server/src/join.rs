//! Where the capabilities meet: the runtime's agents as the call door knows them.

use std::collections::HashMap;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use bytes::Bytes;
use http::header::CONTENT_TYPE;
use parking_lot::RwLock;
use skep_api::{AgentSpec, CallState};
use skep_core::{AgentId, InstanceId, Timestamp, Workspace};
use skep_ingress::{
    Agent, Agents, Availability, CallPolicy, Connecting, Endpoint, Head, Shape, Shaping, Split,
    Turn,
};
use skep_protocols::Recorder;
use skep_runs::Runs;
use skep_runtime::{Event, Runtime, Target};
use skep_store::{Scope, StoreError};

use crate::runs;

/// The agents of a runtime.
pub(crate) struct RuntimeAgents {
    runtime: Runtime,
    runs: Runs,
    joined: RwLock<HashMap<AgentId, Arc<Joined>>>,
}

/// One agent, with its policy worked out once per revision, and its endpoints once per change.
struct Joined {
    target: Arc<Target>,
    policy: RwLock<(Arc<AgentSpec>, Arc<CallPolicy>)>,
    endpoints: RwLock<Option<Endpoints>>,
}

/// The runtime's endpoints, and the same as the call door knows them.
type Endpoints = (Arc<[skep_runtime::Endpoint]>, Arc<[Endpoint]>);

impl Joined {
    fn endpoints(&self, of: Arc<[skep_runtime::Endpoint]>) -> Arc<[Endpoint]> {
        if let Some((known, same)) = &*self.endpoints.read()
            && Arc::ptr_eq(known, &of)
        {
            return same.clone();
        }
        let same: Arc<[Endpoint]> = of.iter().map(endpoint).collect();
        *self.endpoints.write() = Some((of, same.clone()));
        same
    }
}

impl RuntimeAgents {
    pub(crate) fn new(runtime: Runtime, runs: Runs) -> Self {
        Self {
            runtime,
            runs,
            joined: RwLock::default(),
        }
    }
}

/// It was checked when it was deployed.
fn policy(spec: &AgentSpec) -> Arc<CallPolicy> {
    Arc::new(CallPolicy::from_spec(&spec.calls).unwrap_or_default())
}

impl Agents for RuntimeAgents {
    fn find(&self, workspace: &Workspace, name: &str) -> Option<Arc<dyn Agent>> {
        let target = self.runtime.target(workspace, name)?;
        // One that went to another server and came back is the same agent with another target.
        let is_this = |joined: &&Arc<Joined>| Arc::ptr_eq(&joined.target, &target);
        if let Some(joined) = self.joined.read().get(&target.id()).filter(is_this) {
            return Some(joined.clone());
        }
        let spec = target.spec();
        let policy = RwLock::new((spec.clone(), policy(&spec)));
        let id = target.id();
        let mut all = self.joined.write();
        all.retain(|_, joined| joined.target.available() != skep_runtime::Availability::Removed);
        if let Some(joined) = all.get(&id).filter(is_this) {
            return Some(joined.clone());
        }
        let joined = Arc::new(Joined {
            target: target.clone(),
            policy,
            endpoints: RwLock::default(),
        });
        all.insert(id, joined.clone());
        Some(joined)
    }

    fn similar(&self, workspace: &Workspace, name: &str) -> Option<String> {
        self.runtime.similar(workspace, name)
    }

    fn turned(
        &self,
        scope: &mut Scope<'_>,
        turn: &Turn<'_>,
        now: Timestamp,
    ) -> Result<(), StoreError> {
        if let Some(run) = turn.run {
            let ended = runs::ended(turn.state, turn.reason, turn.summary);
            Runs::turned(scope, run, &ended, now)?;
        }
        if turn.state != CallState::Dead {
            return Ok(());
        }
        let event = Event {
            call: Some(turn.call),
            instance: turn.instance,
            ..Event::of(turn.agent, "call.dead", turn.reason.unwrap_or_default())
        };
        event.record(scope, now)
    }

    fn shape<'a>(&'a self, of: &'a Head<'a>) -> Shaping<'a> {
        Box::pin(async move {
            let kind = of.headers.get(CONTENT_TYPE);
            let kind = kind.and_then(|it| it.to_str().ok()).unwrap_or_default();
            let answer = (of.attempt, of.status, kind);
            let recorder = self.runs.recorder(of.workspace, of.run, answer).await;
            let recorder = recorder.map_err(|error| error.to_string())?;
            Ok(Box::new(Recorded(recorder)) as Box<dyn Shape>)
        })
    }
}

/// What a run's answer becomes.
struct Recorded(Recorder);

impl Shape for Recorded {
    fn push(&mut self, data: Bytes) -> Bytes {
        self.0.push(&data).into()
    }

    fn finish(&mut self) -> Bytes {
        self.0.finish().into()
    }

    fn summary(&self) -> Option<Bytes> {
        Some(self.0.summary().into())
    }
}

fn endpoint(of: &skep_runtime::Endpoint) -> Endpoint {
    Endpoint {
        instance: of.instance,
        address: of.address,
        revision: of.revision,
    }
}

impl Agent for Joined {
    fn id(&self) -> AgentId {
        self.target.id()
    }

    fn policy(&self) -> Arc<CallPolicy> {
        let spec = self.target.spec();
        {
            let known = self.policy.read();
            if Arc::ptr_eq(&known.0, &spec) {
                return known.1.clone();
            }
        }
        let policy = policy(&spec);
        *self.policy.write() = (spec, policy.clone());
        policy
    }

    fn availability(&self) -> Availability {
        match self.target.available() {
            skep_runtime::Availability::Ready { endpoints, split } => Availability::Ready {
                endpoints: self.endpoints(endpoints),
                split: split.map(|split| Split {
                    revision: split.revision,
                    weight: split.weight,
                }),
            },
            skep_runtime::Availability::Waiting => Availability::Waiting,
            skep_runtime::Availability::Asleep => Availability::Asleep,
            skep_runtime::Availability::Stopped => Availability::Stopped,
            skep_runtime::Availability::CrashLoop { reason } => Availability::CrashLoop(reason),
            skep_runtime::Availability::Removed => Availability::Removed,
        }
    }

    fn changed(&self) -> Pin<Box<dyn Future<Output = ()> + Send>> {
        // What is there now counts as seen.
        let mut availability = self.target.availability();
        Box::pin(async move {
            // An error is the end of the agent: its availability says so already.
            let _ = availability.changed().await;
        })
    }

    fn is_ready(&self, instance: InstanceId) -> bool {
        self.target.is_ready(instance)
    }

    fn connect(&self, instance: InstanceId) -> Connecting {
        let target = self.target.clone();
        Box::pin(async move { target.connect(instance).await })
    }

    fn count(&self, instance: InstanceId, delta: i64) {
        if delta > 0 {
            self.target.call_begins(instance);
        } else {
            self.target.call_ends(instance);
        }
    }

    fn wake(&self) {
        self.target.wake();
    }

    fn was_ended(&self, instance: InstanceId) -> bool {
        self.target.was_ended(instance)
    }

    fn suspect(&self, instance: InstanceId) {
        self.target.report_unreachable(instance);
    }
}
