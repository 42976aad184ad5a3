//! What the server itself counts, for Prometheus: commits, instances, build.

use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::metrics::info::Info;
use prometheus_client::registry::Registry;
use skep_api::InstanceState;
use skep_core::Timestamp;
use skep_store::CommitStats;

use crate::state::State;

/// Upper bounds of commit durations, in seconds.
const COMMIT_SECONDS: [f64; 11] = [
    0.0005, 0.001, 0.002, 0.004, 0.008, 0.016, 0.032, 0.064, 0.128, 0.5, 2.0,
];
/// Upper bounds of units in one commit.
const COMMIT_UNITS: [f64; 10] = [1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0, 512.0];

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ByState {
    state: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ByOutcome {
    outcome: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ByAgent {
    workspace: String,
    agent: String,
}

/// The server's own metrics. Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct ServerMetrics {
    commit_seconds: Histogram,
    commit_units: Histogram,
    commit_failures: Counter,
    queued_units: Gauge,
    writable: Gauge,
    instances: Family<ByState, Gauge>,
    restarts: Family<ByAgent, Gauge>,
    uptime: Gauge,
    memory: Gauge,
}

/// What is counted of backups.
#[derive(Debug, Clone)]
pub(crate) struct BackupMetrics {
    made: Family<ByOutcome, Counter>,
    seconds: Gauge<f64, AtomicU64>,
    last: Gauge,
    /// When counting began.
    pub(crate) began: Timestamp,
}

impl BackupMetrics {
    pub(crate) fn register(registry: &mut Registry) -> Self {
        let metrics = Self {
            made: Family::default(),
            seconds: Gauge::default(),
            last: Gauge::default(),
            began: Timestamp::system_now(),
        };
        for outcome in ["done", "failed"] {
            drop(metrics.made.get_or_create(&ByOutcome { outcome }));
        }
        registry.register(
            "skep_backups",
            "Backups since the server started, by how they ended",
            metrics.made.clone(),
        );
        registry.register(
            "skep_backup_duration_seconds",
            "Time that the last backup took",
            metrics.seconds.clone(),
        );
        registry.register(
            "skep_backup_last_success_timestamp_seconds",
            "When the last backup of this server was done, in Unix time",
            metrics.last.clone(),
        );
        metrics
    }

    pub(crate) fn ended(&self, done: bool, took: Duration, now: Timestamp) {
        let outcome = if done { "done" } else { "failed" };
        self.made.get_or_create(&ByOutcome { outcome }).inc();
        self.seconds.set(took.as_secs_f64());
        if done {
            self.last.set(now.as_micros() / 1_000_000);
        }
    }
}

impl ServerMetrics {
    pub(crate) fn register(registry: &mut Registry) -> Self {
        let metrics = Self {
            commit_seconds: Histogram::new(COMMIT_SECONDS),
            commit_units: Histogram::new(COMMIT_UNITS),
            commit_failures: Counter::default(),
            queued_units: Gauge::default(),
            writable: Gauge::default(),
            instances: Family::default(),
            restarts: Family::default(),
            uptime: Gauge::default(),
            memory: Gauge::default(),
        };
        let build = Info::new([("version", env!("CARGO_PKG_VERSION"))]);
        registry.register("skep_build", "The running binary", build);
        let m = &metrics;
        registry.register(
            "skep_store_commit_duration_seconds",
            "Time that a commit of the store took",
            m.commit_seconds.clone(),
        );
        registry.register(
            "skep_store_commit_units",
            "Units of work in one commit",
            m.commit_units.clone(),
        );
        registry.register(
            "skep_store_commit_failures",
            "Commits that failed",
            m.commit_failures.clone(),
        );
        registry.register(
            "skep_store_queued_units",
            "Units of work that wait for the writer",
            m.queued_units.clone(),
        );
        registry.register(
            "skep_store_writable",
            "1 while the store takes writes",
            m.writable.clone(),
        );
        registry.register(
            "skep_instances",
            "Agents by the state of their instance",
            m.instances.clone(),
        );
        registry.register(
            "skep_instance_restarts",
            "Restarts of an agent's instance since the server started",
            m.restarts.clone(),
        );
        registry.register(
            "skep_uptime_seconds",
            "Time since the server started",
            m.uptime.clone(),
        );
        registry.register(
            "skep_resident_memory_bytes",
            "Resident memory of the server",
            m.memory.clone(),
        );
        metrics
    }

    pub(crate) fn committed(&self, stats: CommitStats) {
        self.commit_seconds.observe(stats.commit.as_secs_f64());
        self.commit_units
            .observe(f64::from(u32::try_from(stats.units).unwrap_or(u32::MAX)));
        if !stats.ok {
            self.commit_failures.inc();
        }
    }

    /// Brings the gauges up to date.
    pub(crate) fn refresh(&self, state: &Arc<State>) {
        self.queued_units
            .set(i64::try_from(state.db.queued()).unwrap_or(i64::MAX));
        self.writable.set(i64::from(state.db.is_writable()));
        self.uptime
            .set(i64::try_from(state.uptime().as_secs()).unwrap_or(i64::MAX));
        self.memory
            .set(i64::try_from(crate::machine::resident_bytes()).unwrap_or(i64::MAX));
        let snapshot = state.runtime.snapshot();
        for of in InstanceState::ALL {
            let count = snapshot.iter().filter(|agent| agent.state == of).count();
            let gauge = self
                .instances
                .get_or_create(&ByState { state: of.as_str() });
            gauge.set(i64::try_from(count).unwrap_or(i64::MAX));
        }
        self.restarts.clear();
        for agent in snapshot.iter().filter(|agent| agent.restarts > 0) {
            let labels = ByAgent {
                workspace: agent.workspace.to_string(),
                agent: agent.name.clone(),
            };
            let restarts = i64::try_from(agent.restarts).unwrap_or(i64::MAX);
            self.restarts.get_or_create(&labels).set(restarts);
        }
    }
}
