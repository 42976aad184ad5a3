//! What agents and their instances use, and how their calls go.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::InstanceState;

/// What an agent uses now: all its instances together, and each of them. What cannot be found out
/// is absent, never zero.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Stats {
    /// The agent's name.
    pub agent: String,
    /// The agent's state.
    pub state: InstanceState,
    /// Copies that are wanted.
    pub replicas: u32,
    /// Instances that take calls.
    pub ready: u32,
    /// What its instances use together.
    #[serde(flatten)]
    pub usage: Usage,
    /// How its calls go.
    #[serde(flatten)]
    pub traffic: Traffic,
    /// Calls that wait for it.
    pub queued: u64,
    /// Restarts since the server started.
    pub restarts: u64,
    /// Each instance, oldest first.
    #[serde(default)]
    pub instances: Vec<InstanceStats>,
    /// Each revision that has instances or had requests in the last minute, oldest first.
    #[serde(default)]
    pub revisions: Vec<RevisionStats>,
}

/// How the calls of one revision go, so that two can be compared.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct RevisionStats {
    /// Its number.
    pub revision: u32,
    /// Its instances that take calls.
    pub ready: u32,
    /// How its calls go.
    #[serde(flatten)]
    pub traffic: Traffic,
}

/// What one instance uses now.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct InstanceStats {
    /// `ins_…`
    pub instance: String,
    /// The revision that it runs.
    pub revision: u32,
    /// Its state.
    pub state: InstanceState,
    /// What it uses.
    #[serde(flatten)]
    pub usage: Usage,
    /// How its calls go.
    #[serde(flatten)]
    pub traffic: Traffic,
}

/// What processes use.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Usage {
    /// CPU time so far, in milliseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cpu_ms: Option<u64>,
    /// Share of one core over the last second or since the last look, in percent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cpu_percent: Option<f64>,
    /// Resident memory of all its processes, in bytes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memory_bytes: Option<u64>,
    /// Number of processes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub processes: Option<u32>,
    /// Bytes received from its network since it started; absent where the driver gives it no
    /// network of its own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub received_bytes: Option<u64>,
    /// Bytes sent to its network since it started.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sent_bytes: Option<u64>,
}

/// How calls go. Times and numbers are of the last minute, as the server counts since it started;
/// they are of requests that an instance was given: an attempt of a call, or a request that is not
/// journaled.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Traffic {
    /// Requests that run now.
    pub in_flight: u64,
    /// Requests that ended each second.
    pub calls_per_second: f64,
    /// Requests of the last minute that broke off, got no answer, or one of 5xx.
    pub errors: u64,
    /// Half of them took no longer, in milliseconds; absent when there were none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub p50_ms: Option<f64>,
    /// Ninety-nine of a hundred took no longer, in milliseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub p99_ms: Option<f64>,
}

/// How an agent's requests went, hour by hour.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Performance {
    /// The agent.
    pub agent: String,
    /// Its hours, oldest first; those without a request are left out.
    pub hours: Vec<PerformanceHour>,
}

/// How the requests to one revision went within one hour. A request is an attempt of a call, or one that
/// is not journaled. Times are in classes, each a fifth wider than the one before.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct PerformanceHour {
    /// When the hour began.
    pub time: String,
    /// Which revision.
    pub revision: u32,
    /// Requests that ended.
    pub calls: u64,
    /// Those that broke off, got no answer, or one of 5xx.
    pub errors: u64,
    /// Half of them took no longer, in milliseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub p50_ms: Option<f64>,
    /// Ninety-five of a hundred took no longer, in milliseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub p95_ms: Option<f64>,
    /// Ninety-nine of a hundred took no longer, in milliseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub p99_ms: Option<f64>,
}
