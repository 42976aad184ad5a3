//! What the call door counts, for Prometheus.

use parking_lot::Mutex;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;

use crate::window::Ended;

/// How a request ended.
const WELL: &str = "ok";
const BADLY: &str = "failed";

/// Upper bounds of the duration histograms, in seconds.
const SECONDS: [f64; 14] = [
    0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0, 60.0, 600.0,
];

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ByAgent {
    workspace: String,
    agent: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ByEnd {
    workspace: String,
    agent: String,
    end: &'static str,
}

/// What requests of a revision are counted under.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ByRevision {
    workspace: String,
    agent: String,
    revision: u32,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ByResult {
    workspace: String,
    agent: String,
    revision: u32,
    result: &'static str,
}

/// Revisions of an agent that are counted; when there are more, the oldest is forgotten.
const MOST_REVISIONS: usize = 8;

fn durations() -> Histogram {
    Histogram::new(SECONDS)
}

/// How the requests of revisions go, so that two can be compared.
#[derive(Debug, Clone)]
struct Revisions {
    requests: Family<ByResult, Counter>,
    seconds: Family<ByRevision, Histogram, fn() -> Histogram>,
}

impl Revisions {
    fn register(registry: &mut Registry) -> Self {
        let requests = Family::default();
        let seconds = Family::new_with_constructor(durations as fn() -> Histogram);
        registry.register(
            "skep_revision_requests",
            "Requests that a revision was given, by whether they ended well",
            requests.clone(),
        );
        registry.register(
            "skep_revision_request_duration_seconds",
            "Time of one request that a revision was given",
            seconds.clone(),
        );
        Self { requests, seconds }
    }
}

/// The metrics of every agent's calls. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Metrics {
    accepted: Family<ByAgent, Counter>,
    ended: Family<ByEnd, Counter>,
    attempts: Family<ByEnd, Counter>,
    call_seconds: Family<ByAgent, Histogram, fn() -> Histogram>,
    attempt_seconds: Family<ByAgent, Histogram, fn() -> Histogram>,
    passed: Family<ByAgent, Counter>,
    cached: Family<ByEnd, Counter>,
    running: Family<ByAgent, Gauge>,
    waiting: Family<ByAgent, Gauge>,
    ejected: Family<ByAgent, Gauge>,
    revisions: Revisions,
}

impl Metrics {
    /// Registers the metrics under their names.
    pub fn register(registry: &mut Registry) -> Self {
        let metrics = Self {
            accepted: Family::default(),
            ended: Family::default(),
            attempts: Family::default(),
            call_seconds: Family::new_with_constructor(durations),
            attempt_seconds: Family::new_with_constructor(durations),
            passed: Family::default(),
            cached: Family::default(),
            running: Family::default(),
            waiting: Family::default(),
            ejected: Family::default(),
            revisions: Revisions::register(registry),
        };
        let m = &metrics;
        registry.register("skep_calls_accepted", "Calls accepted", m.accepted.clone());
        registry.register(
            "skep_calls_ended",
            "Calls that ended, by how",
            m.ended.clone(),
        );
        registry.register(
            "skep_attempts",
            "Attempts that ended, by how",
            m.attempts.clone(),
        );
        registry.register(
            "skep_call_duration_seconds",
            "Time from acceptance to the end of a call",
            m.call_seconds.clone(),
        );
        registry.register(
            "skep_attempt_duration_seconds",
            "Time of one attempt",
            m.attempt_seconds.clone(),
        );
        registry.register(
            "skep_passed_requests",
            "Requests passed through unjournaled",
            m.passed.clone(),
        );
        registry.register(
            "skep_cached_requests",
            "Requests that may be answered from the cache, by whether they were",
            m.cached.clone(),
        );
        registry.register(
            "skep_calls_running",
            "Calls that run now",
            m.running.clone(),
        );
        registry.register(
            "skep_calls_waiting",
            "Calls that wait now",
            m.waiting.clone(),
        );
        registry.register(
            "skep_instances_ejected",
            "Instances that get no calls for a while because they failed again and again",
            m.ejected.clone(),
        );
        metrics
    }

    pub(crate) fn lane(&self, workspace: &str, agent: &str) -> LaneMetrics {
        let labels = ByAgent {
            workspace: workspace.to_owned(),
            agent: agent.to_owned(),
        };
        LaneMetrics {
            all: self.clone(),
            accepted: self.accepted.get_or_create(&labels).clone(),
            call_seconds: self.call_seconds.get_or_create(&labels).clone(),
            attempt_seconds: self.attempt_seconds.get_or_create(&labels).clone(),
            passed: self.passed.get_or_create(&labels).clone(),
            running: self.running.get_or_create(&labels).clone(),
            waiting: self.waiting.get_or_create(&labels).clone(),
            ejected: self.ejected.get_or_create(&labels).clone(),
            revisions: Mutex::default(),
            labels,
        }
    }
}

/// The metrics of one revision, at hand.
struct RevisionMetrics {
    number: u32,
    well: Counter,
    badly: Counter,
    seconds: Histogram,
}

/// The metrics of one agent, at hand.
pub(crate) struct LaneMetrics {
    all: Metrics,
    labels: ByAgent,
    pub(crate) accepted: Counter,
    pub(crate) call_seconds: Histogram,
    pub(crate) attempt_seconds: Histogram,
    pub(crate) passed: Counter,
    pub(crate) running: Gauge,
    pub(crate) waiting: Gauge,
    pub(crate) ejected: Gauge,
    /// Those that were asked last, in no order.
    revisions: Mutex<Vec<RevisionMetrics>>,
}

impl LaneMetrics {
    fn by_end(&self, end: &'static str) -> ByEnd {
        let ByAgent { workspace, agent } = self.labels.clone();
        ByEnd {
            workspace,
            agent,
            end,
        }
    }

    pub(crate) fn ended(&self, end: &'static str) {
        self.all.ended.get_or_create(&self.by_end(end)).inc();
    }

    pub(crate) fn attempt(&self, end: &'static str) {
        self.all.attempts.get_or_create(&self.by_end(end)).inc();
    }

    pub(crate) fn cached(&self, how: &'static str) {
        self.all.cached.get_or_create(&self.by_end(how)).inc();
    }

    /// A request to an instance has ended.
    pub(crate) fn ended_on(&self, request: &Ended) {
        let mut known = self.revisions.lock();
        let at = known.iter().position(|it| it.number == request.revision);
        let at = at.unwrap_or_else(|| {
            let oldest = known.iter().enumerate().min_by_key(|(_, it)| it.number);
            if let Some((oldest, _)) = oldest.filter(|_| known.len() == MOST_REVISIONS) {
                self.forget_revision(known.swap_remove(oldest).number);
            }
            known.push(self.revision(request.revision));
            known.len() - 1
        });
        let Some(revision) = known.get(at) else {
            return;
        };
        match request.failed {
            true => revision.badly.inc(),
            false => revision.well.inc(),
        };
        revision.seconds.observe(request.took.as_secs_f64());
    }

    fn by_revision(&self, revision: u32) -> ByRevision {
        let ByAgent { workspace, agent } = self.labels.clone();
        ByRevision {
            workspace,
            agent,
            revision,
        }
    }

    fn by_result(&self, revision: u32, result: &'static str) -> ByResult {
        let ByAgent { workspace, agent } = self.labels.clone();
        ByResult {
            workspace,
            agent,
            revision,
            result,
        }
    }

    fn revision(&self, number: u32) -> RevisionMetrics {
        let (all, labels) = (&self.all.revisions, self.by_revision(number));
        let count = |result| {
            all.requests
                .get_or_create(&self.by_result(number, result))
                .clone()
        };
        RevisionMetrics {
            number,
            well: count(WELL),
            badly: count(BADLY),
            seconds: all.seconds.get_or_create(&labels).clone(),
        }
    }

    fn forget_revision(&self, number: u32) {
        let all = &self.all.revisions;
        all.seconds.remove(&self.by_revision(number));
        for result in [WELL, BADLY] {
            all.requests.remove(&self.by_result(number, result));
        }
    }

    /// Forgets an agent that was removed.
    pub(crate) fn forget(&self) {
        let all = &self.all;
        all.running.remove(&self.labels);
        all.ejected.remove(&self.labels);
        all.waiting.remove(&self.labels);
        for revision in self.revisions.lock().drain(..) {
            self.forget_revision(revision.number);
        }
    }
}
