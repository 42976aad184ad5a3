//! Tokens of instances: who makes them, and for how long one counts.

use skep_core::{InstanceId, Workspace};

use crate::service::Runtime;

/// Makes the token by which an instance says who it is. It counts while the instance lives
/// ([`Runtime::lives`]).
pub trait Mint: std::fmt::Debug + Send + Sync {
    /// The token of an instance: the same one each time.
    fn token(&self, workspace: &Workspace, agent: &str, instance: InstanceId) -> String;

    /// Whether models can be asked with it: then the instance is told where.
    fn opens(&self, _workspace: &Workspace) -> bool {
        false
    }
}

impl Runtime {
    /// Whether an instance of this agent lives on this server, or is only just starting.
    #[must_use]
    pub fn lives(&self, workspace: &Workspace, agent: &str, instance: InstanceId) -> bool {
        let Some(slot) = self.find(workspace, agent) else {
            return false;
        };
        slot.live().0.contains(&instance) || self.shared().begun.lock().contains(&instance)
    }
}
