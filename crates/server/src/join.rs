//! Where the capabilities meet: the runtime's agents as the call door knows them.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use parking_lot::RwLock;
use skep_core::{AgentId, InstanceId, Workspace};
use skep_ingress::{Agent, Agents, Availability, CallPolicy};
use skep_runtime::{Runtime, Target};

/// The agents of a runtime.
pub(crate) struct RuntimeAgents {
    runtime: Runtime,
}

impl RuntimeAgents {
    pub(crate) fn new(runtime: Runtime) -> Self {
        Self { runtime }
    }
}

/// One agent, with its policy worked out once per revision.
struct Joined {
    target: Arc<Target>,
    policy: RwLock<(u32, Arc<CallPolicy>)>,
}

impl Agents for RuntimeAgents {
    fn find(&self, workspace: &Workspace, name: &str) -> Option<Arc<dyn Agent>> {
        let target = self.runtime.target(workspace, name)?;
        let joined = target.extension(|target| Joined {
            target,
            // Revisions are counted from 1: the first look works the policy out.
            policy: RwLock::new((0, Arc::default())),
        });
        Some(joined)
    }

    fn similar(&self, workspace: &Workspace, name: &str) -> Option<String> {
        self.runtime.similar(workspace, name)
    }
}

impl Agent for Joined {
    fn id(&self) -> AgentId {
        self.target.id()
    }

    fn policy(&self) -> Arc<CallPolicy> {
        let (revision, spec) = self.target.spec();
        let known = self.policy.read();
        if known.0 == revision {
            return known.1.clone();
        }
        drop(known);
        // It was checked when it was deployed.
        let policy = Arc::new(CallPolicy::from_spec(&spec.calls).unwrap_or_default());
        *self.policy.write() = (revision, policy.clone());
        policy
    }

    fn availability(&self) -> Availability {
        match self.target.availability() {
            skep_runtime::Availability::Ready { instance, addr, .. } => {
                Availability::Ready { instance, address: addr }
            }
            skep_runtime::Availability::Waiting => Availability::Waiting,
            skep_runtime::Availability::Stopped => Availability::Stopped,
            skep_runtime::Availability::CrashLoop { reason } => Availability::CrashLoop(reason),
            skep_runtime::Availability::Removed => Availability::Removed,
        }
    }

    fn changed(&self) -> Pin<Box<dyn Future<Output = ()> + Send>> {
        let mut watch = self.target.watch();
        watch.mark_unchanged();
        Box::pin(async move {
            // An error is the end of the agent: its availability says so already.
            let _ = watch.changed().await;
        })
    }

    fn count(&self, delta: i64) {
        self.target.count(delta);
    }

    fn suspect(&self, instance: InstanceId) {
        self.target.report_unreachable(instance);
    }
}
