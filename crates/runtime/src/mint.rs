//! Tokens of instances: who makes them, and for how long one counts.

use async_trait::async_trait;
use skep_core::{InstanceId, Workspace};

use crate::service::Runtime;

/// What a workspace lets out by: an instance is told of ways that lead somewhere.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Ways {
    /// To models.
    pub models: bool,
    /// To tools.
    pub tools: bool,
    /// To the web.
    pub web: Option<Proxy>,
}

/// The way out to the web: Skep itself, as a proxy.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Proxy {
    /// The certificates that are to be believed by who goes this way, in PEM.
    pub bundle: Option<String>,
}

/// Makes the token by which an instance says who it is. It counts while the instance lives
/// ([`Runtime::lives`]).
#[async_trait]
pub trait Mint: std::fmt::Debug + Send + Sync {
    /// The token of an instance: the same one each time.
    fn token(&self, workspace: &Workspace, agent: &str, instance: InstanceId) -> String;

    /// What can be asked with it.
    async fn ways(&self, _workspace: &Workspace) -> Ways {
        Ways::default()
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
