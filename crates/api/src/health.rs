//! Health of the server as `/api/v1/health/basic` and `/detailed` tell it.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// How well something is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum Health {
    /// All is well.
    Ok,
    /// It works, with something to look at.
    Degraded,
    /// It does not do its work.
    Failed,
}

/// Whether the server takes calls. Needs no key.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct BasicHealth {
    /// `failed` answers with 503.
    pub status: Health,
}

/// One checked part.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct Check {
    /// What was checked: `store`, `disk`, `memory`, `driver:process`.
    pub name: String,
    /// How it is.
    pub status: Health,
    /// What was seen, with units.
    pub detail: String,
}

/// One agent in the health report.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct AgentHealth {
    /// The agent's name.
    pub name: String,
    /// How it is: a stopped agent is `ok`, a crash loop `failed`.
    pub status: Health,
    /// The instance's state and why.
    pub detail: String,
}

/// Everything that the server knows of its own health.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct DetailedHealth {
    /// The worst of the checks (an agent's failure makes the server `degraded`).
    pub status: Health,
    /// The version of the binary.
    pub version: String,
    /// Seconds since the server started.
    pub uptime_s: u64,
    /// The server's own parts.
    pub checks: Vec<Check>,
    /// The agents.
    pub agents: Vec<AgentHealth>,
}
