//! Agents, revisions and instances as the API shows them, and the specification that is deployed.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use utoipa::ToSchema;

use crate::call::StateCounts;

/// What is deployed: one immutable revision of an agent is made of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct AgentSpec {
    /// The agent's name: a DNS label.
    pub name: String,
    /// What runs it; `process` unless said otherwise.
    #[serde(default = "default_driver")]
    pub driver: String,
    /// The program and its arguments: a list, or one text. A single element with spaces is split
    /// as a shell would split words, without any expansion. Empty: what the image says.
    #[serde(
        default,
        deserialize_with = "words",
        skip_serializing_if = "Vec::is_empty"
    )]
    #[schema(schema_with = words_schema)]
    pub command: Vec<String>,
    /// The container image, by tag or digest, for drivers that run containers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub image: Option<String>,
    /// When the image is pulled: `always`, `missing` (default) or `never`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pull: Option<String>,
    /// The working directory; the folder of the one who deploys, for the CLI.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub workdir: Option<String>,
    /// Environment variables for the agent, besides those of its contract.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub env: BTreeMap<String, String>,
    /// Folders besides its own.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub volumes: Vec<VolumeSpec>,
    /// How it is locked in: `strict` (every protection, or it does not start), `standard`
    /// (default: what this machine has) or `off`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sandbox: Option<String>,
    /// What it may connect to besides TCP ports up to 19999: ports, such as `27017` or `30000-30100`,
    /// and hosts with a port, such as `db.example.com:5432`. In a strict sandbox these hosts are all
    /// that it reaches besides Skep, and ports are those of its own loopback.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub connect: Vec<String>,
    /// Names and values of its owner's, for tools.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
    /// Agents that must be ready before it is started, when they are deployed together.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub depends_on: Vec<String>,
    /// What it may use of the machine.
    #[serde(default)]
    pub resources: Resources,
    /// How Skep finds out whether it is ready and alive.
    #[serde(default)]
    pub health: HealthSpec,
    /// What happens when it exits by itself.
    #[serde(default)]
    pub restart: RestartSpec,
    /// Copies of it; default 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub replicas: Option<Replicas>,
    /// How a new revision takes over.
    #[serde(default, skip_serializing_if = "RolloutSpec::is_default")]
    pub rollout: RolloutSpec,
    /// Time that calls in flight have to end before an instance is asked to; default `30s`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub drain: Option<String>,
    /// Time between SIGTERM and SIGKILL; default `10s`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stop_grace: Option<String>,
    /// What it speaks when it is asked for a run: `http` (default), `agui`, `invocations` or `responses`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub protocol: Option<String>,
    /// The path at which it is asked for runs; that of what it speaks unless said otherwise.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub endpoint: Option<String>,
    /// What others are told of it that look for agents (A2A).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub card: Option<AgentCardSpec>,
    /// How its calls are treated.
    #[serde(default)]
    pub calls: CallSpec,
}

/// What others are told of an agent that look for agents: what its A2A card says.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct AgentCardSpec {
    /// What it is for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
    /// Its own version; the revision's number unless said otherwise.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
    /// What it can.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub skills: Vec<AgentSkillSpec>,
    /// Media types that it takes; `text/plain` and `application/json` unless said otherwise.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub input_modes: Vec<String>,
    /// Media types that it gives; `text/plain` and `application/json` unless said otherwise.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub output_modes: Vec<String>,
    /// Where more is said of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub documentation_url: Option<String>,
    /// Whether who shows no key is told all this too. Asking the agent needs one all the same.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub public: bool,
}

/// Something that an agent can.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct AgentSkillSpec {
    /// Which it is.
    pub id: String,
    /// Its name; the id unless said otherwise.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// What it is.
    pub description: String,
    /// Words by which it is found.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tags: Vec<String>,
    /// What can be asked.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub examples: Vec<String>,
}

impl AgentSpec {
    /// The specification of an agent with this command, and nothing else said.
    #[must_use]
    pub fn new(name: impl Into<String>, command: Vec<String>) -> Self {
        Self {
            name: name.into(),
            driver: default_driver(),
            command,
            image: None,
            pull: None,
            workdir: None,
            env: BTreeMap::new(),
            volumes: Vec::new(),
            sandbox: None,
            connect: Vec::new(),
            labels: BTreeMap::new(),
            depends_on: Vec::new(),
            resources: Resources::default(),
            health: HealthSpec::default(),
            restart: RestartSpec::default(),
            replicas: None,
            rollout: RolloutSpec::default(),
            drain: None,
            stop_grace: None,
            protocol: None,
            endpoint: None,
            card: None,
            calls: CallSpec::default(),
        }
    }
}

/// A list of words, or one text.
fn words<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Vec<String>, D::Error> {
    struct Words;
    impl<'de> serde::de::Visitor<'de> for Words {
        type Value = Vec<String>;

        fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            f.write_str("a list of words, or one text")
        }

        fn visit_str<E>(self, text: &str) -> Result<Self::Value, E> {
            Ok(vec![text.to_owned()])
        }

        fn visit_seq<A: serde::de::SeqAccess<'de>>(
            self,
            mut list: A,
        ) -> Result<Self::Value, A::Error> {
            let mut words = Vec::new();
            while let Some(word) = list.next_element()? {
                words.push(word);
            }
            Ok(words)
        }
    }
    deserializer.deserialize_any(Words)
}

fn words_schema() -> utoipa::openapi::schema::Schema {
    use utoipa::openapi::schema::{Array, Object, OneOf, Type};
    let list = Array::new(Object::with_type(Type::String));
    let either = OneOf::builder()
        .item(Object::with_type(Type::String))
        .item(list)
        .description(Some("The program and its arguments: a list, or one text."));
    either.build().into()
}

fn default_driver() -> String {
    "process".to_owned()
}

/// How many copies of an agent run: always the same number, or as many as its calls ask for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(untagged)]
pub enum Replicas {
    /// So many.
    Fixed(u32),
    /// Between two bounds.
    Scaled(Scaling),
}

/// Copies by load.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Scaling {
    /// The fewest copies; 0 lets the agent sleep when nobody calls. Default 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub min: Option<u32>,
    /// The most copies.
    pub max: u32,
    /// Calls in flight that one copy is to have; default 16.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub target: Option<u32>,
    /// The time over which calls in flight are averaged, and after which copies go; default `60s`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub window: Option<String>,
    /// The time without a call after which the last copy goes, when `min` is 0; default `5m`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub idle: Option<String>,
}

/// How a new revision takes over.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct RolloutSpec {
    /// Copies above `replicas` while it does; default 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub surge: Option<u32>,
    /// Shares of the calls that it gets one after the other, before it gets all.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub steps: Vec<RolloutStep>,
    /// Whether a revision that does not become ready makes way for the one before; default true.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rollback: Option<bool>,
}

impl RolloutSpec {
    /// Whether nothing is said.
    #[must_use]
    pub fn is_default(&self) -> bool {
        *self == Self::default()
    }
}

/// A share of the calls for a while.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct RolloutStep {
    /// The share in percent, 1 to 99.
    pub weight: u8,
    /// How long; without it until `skep rollout resume`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pause: Option<String>,
}

/// What an agent may use. Absent means the operating system's own limit.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Resources {
    /// Memory, for example `2GiB`: of all its processes together where the driver can limit that,
    /// else the address space of each (RLIMIT_AS).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memory: Option<String>,
    /// CPU time: cores (`0.5`) or thousandths of one (`500m`), where the driver can limit it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cpu: Option<String>,
    /// Open files of each of its processes (RLIMIT_NOFILE).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub open_files: Option<u64>,
    /// The largest file that it may write, for example `1GiB` (RLIMIT_FSIZE).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub file_size: Option<String>,
    /// Processes and threads: of the agent where the driver can limit that, else of its user
    /// (RLIMIT_NPROC). In a sandbox 2048 when nothing is said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub processes: Option<u64>,
    /// Disk space of its home and temporary files, for example `10GiB`: over it, it is ended. In a
    /// sandbox half of what is free at its start when nothing is said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub disk: Option<String>,
    /// GPUs, a number or `all`, for drivers that can give them (`docker`, with the engine's NVIDIA
    /// runtime).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gpus: Option<String>,
}

/// A folder that an agent sees besides its own.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct VolumeSpec {
    /// A folder of this machine (absolute), or the name of a volume that Skep keeps for the
    /// workspace.
    pub source: String,
    /// Where the agent sees it (absolute). For local processes it must be the folder itself, or be
    /// left out: then a named volume's folder is told in `SKEP_VOLUME_<NAME>`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub target: Option<String>,
    /// Whether it can only be read.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub read_only: bool,
}

/// Probes. Absent fields take the defaults named here.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct HealthSpec {
    /// Path asked with GET; 2xx and 3xx are well. Default: the first of `/ping`, `/readiness`,
    /// `/health` that answers so, else the open port.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub path: Option<String>,
    /// Path that says whether an instance lives, asked when it is not ready: as long as it answers with
    /// 2xx or 3xx, the instance gets no calls and is left alone. Default: there is none, and an
    /// instance that is not ready for long is restarted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub live: Option<String>,
    /// Time between two probes of a ready instance; default `10s`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub interval: Option<String>,
    /// Time that one probe may take; default `2s`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeout: Option<String>,
    /// Failures in a row after which an instance is not ready; default 3. After twice as many it
    /// is restarted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failures: Option<u32>,
    /// Time within which a started instance must become ready; default `60s`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub startup: Option<String>,
}

/// Restart with exponential backoff and jitter.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct RestartSpec {
    /// Wait before the second restart in a row (the first is immediate); default `200ms`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub backoff: Option<String>,
    /// The longest wait; default `30s`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_backoff: Option<String>,
    /// Failed starts in a row after which Skep stops trying (crash loop); default 5.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub crash_loop_after: Option<u32>,
}

/// How calls are treated. Absent fields take the defaults named here.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct CallSpec {
    /// `strict` (default): no client sees a result that is not on disk. `relaxed`: the answer
    /// does not wait for the result's fsync.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub durability: Option<String>,
    /// Methods that are journaled; default all but GET, HEAD and OPTIONS (and CONNECT, TRACE).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub methods: Option<Vec<String>>,
    /// Attempts before a call is dead; default 5.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub attempts: Option<u32>,
    /// Statuses of the agent that are tried again; default 429, 502, 503, 504.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retry_statuses: Option<Vec<u16>>,
    /// Whether an attempt that was cut off (crash, reset, idle timeout) is tried again;
    /// default true. False suits agents whose effects must not happen twice.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retry_interrupted: Option<bool>,
    /// Wait before the second attempt; it doubles, with jitter. Default `200ms`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub backoff: Option<String>,
    /// The longest wait between attempts; default `30s`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_backoff: Option<String>,
    /// Time from acceptance within which a call must end; default `1h`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deadline: Option<String>,
    /// Longest silence of the agent within an attempt; default `5m`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub idle_timeout: Option<String>,
    /// Calls that may run at once; default 256.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub concurrency: Option<u32>,
    /// Calls that may wait; one more gets 429. Default 10000.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub queue: Option<u32>,
    /// A header: requests with the same value of it go to the same instance while it is there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub affinity: Option<String>,
    /// Keep answers to GET requests, as HTTP caching allows it, and give them again without the agent;
    /// `{}` takes the defaults. Absent: nothing is kept.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cache: Option<CacheSpec>,
}

/// Which answers are kept (RFC 9111). They go with a deployment, with a successful request that changes
/// the same target, and by tag (`Cache-Tag`).
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct CacheSpec {
    /// Memory for all of them; default `16MiB`. Those that were not used for longest go first.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub size: Option<String>,
    /// The largest that is kept; default `1MiB`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub largest: Option<String>,
    /// How long an answer is fresh that has neither `Cache-Control` nor `Expires`, for example `30s`.
    /// Default: such an answer is not kept.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ttl: Option<String>,
    /// Headers of requests that tell apart for whom an answer is, such as `authorization`: each value
    /// has answers of its own, private ones too. Without it, answers to requests with `Authorization` or
    /// `Cookie` are kept only if they say `public`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub by: Vec<String>,
}

/// How many answers were forgotten.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Forgotten {
    /// The number of kept answers that are gone.
    pub answers: u64,
}

/// A named thing that answers calls.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Agent {
    /// `agt_…`
    pub id: String,
    /// The name, as in `/agents/{name}/…`.
    pub name: String,
    /// What its owner wants: `running` or `stopped`.
    pub desired: String,
    /// The current revision's number.
    pub revision: u32,
    /// The instance that serves, or will; one of several when there are several.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub instance: Option<Instance>,
    /// All its instances, oldest first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub instances: Vec<Instance>,
    /// Copies that are wanted now.
    pub replicas: u32,
    /// How far the current revision is.
    pub rollout: Rollout,
    /// The state in one word: that of the instance, else `stopped`.
    pub state: InstanceState,
    /// Why it is in this state, when there is more to say.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// How often an instance was restarted since the server started.
    pub restarts: u64,
    /// Calls by state.
    #[serde(default)]
    pub calls: StateCounts,
    /// The current revision's specification.
    pub spec: AgentSpec,
    /// When it was first deployed.
    pub created_at: String,
    /// When it was last deployed.
    pub updated_at: String,
}

/// How far a revision is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Rollout {
    /// Where it stands.
    pub state: RolloutState,
    /// The revision that has proven itself last; absent before the first has.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stable: Option<u32>,
    /// The share of the calls that the current revision gets, in percent.
    pub weight: u8,
    /// Why it was rolled back, or by whom it was paused.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

/// The wish to run another revision.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Rollback {
    /// The revision's number; without it the one before the current.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub to: Option<u32>,
    /// Why, for the agent's log.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

/// Where a rollout stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum RolloutState {
    /// The current revision is taking over.
    Progressing,
    /// It waits: for `skep rollout resume`, or for the time of its step.
    Paused,
    /// The current revision has proven itself.
    Done,
    /// A revision failed and made way for this one.
    RolledBack,
}

impl RolloutState {
    /// The text form, as on the wire.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Progressing => "progressing",
            Self::Paused => "paused",
            Self::Done => "done",
            Self::RolledBack => "rolled_back",
        }
    }
}

/// One immutable deployed specification.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Revision {
    /// Counted from 1.
    pub number: u32,
    /// When it was deployed.
    pub created_at: String,
    /// What was deployed.
    pub spec: AgentSpec,
}

/// What an instance is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum InstanceState {
    /// Nothing runs, as wanted.
    Stopped,
    /// Nothing runs because nobody called for a while; the next call wakes it.
    Asleep,
    /// Started, not ready yet.
    Starting,
    /// It takes calls.
    Ready,
    /// Its probes fail; it gets no calls.
    Unready,
    /// It exited; the next start waits for the backoff.
    Backoff,
    /// It failed too often in a row; Skep waits for `skep restart` or a deploy.
    CrashLoop,
    /// It was asked to end.
    Stopping,
}

impl InstanceState {
    /// Every state.
    pub const ALL: [Self; 8] = [
        Self::Stopped,
        Self::Asleep,
        Self::Starting,
        Self::Ready,
        Self::Unready,
        Self::Backoff,
        Self::CrashLoop,
        Self::Stopping,
    ];

    /// The text form, as on the wire.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Stopped => "stopped",
            Self::Asleep => "asleep",
            Self::Starting => "starting",
            Self::Ready => "ready",
            Self::Unready => "unready",
            Self::Backoff => "backoff",
            Self::CrashLoop => "crash_loop",
            Self::Stopping => "stopping",
        }
    }
}

/// One running copy of a revision.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Instance {
    /// `ins_…`
    pub id: String,
    /// The revision that it runs.
    pub revision: u32,
    /// What it is doing.
    pub state: InstanceState,
    /// The process id of the agent, under the process driver.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pid: Option<u32>,
    /// The port that it listens on, on loopback.
    pub port: u16,
    /// When it was started.
    pub started_at: String,
    /// Why it is in this state, when there is more to say.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// What the last probe found; absent before the first.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub probe: Option<Probe>,
    /// How it is locked in.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub protections: Vec<Protection>,
}

/// What a probe of an instance found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Probe {
    /// When it came back.
    pub at: String,
    /// Whether the instance is well.
    pub ok: bool,
    /// What was asked and answered, in words.
    pub detail: String,
    /// How long it took, in milliseconds.
    pub took_ms: u64,
    /// Misses in a row, this one included.
    pub misses: u32,
}

/// One way in which an instance is locked in.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Protection {
    /// `files`, `network`, `signals`, `sockets`, `syscalls`, `privileges`, `memory`, `cpu`,
    /// `processes` or `disk`.
    pub name: String,
    /// Whether it holds.
    pub in_force: bool,
    /// By what it holds, or what is missing.
    pub detail: String,
}

/// What an agent has of its lock file (`agent.lock`): in its home as `lock/personality.json` and `lock/memory.json`.
#[derive(Clone, Default, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct AgentLayers {
    /// Its prompts, persona, model settings: an object of values by name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Object>)]
    pub personality: Option<Box<RawValue>>,
    /// What it remembers, an object, too; it writes that itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Object>)]
    pub memory: Option<Box<RawValue>>,
    /// Where they came from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub origin: Option<LayersOrigin>,
}

impl std::fmt::Debug for AgentLayers {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("AgentLayers(…)")
    }
}

/// Of which lock file an agent's layers are.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct LayersOrigin {
    /// The id of the agent in the file.
    pub agent: String,
    /// The file's epoch.
    pub epoch: u64,
    /// SHA-256, in hex, of the memory that the file had: its JSON with names in order and without spaces.
    pub memory: String,
}

/// An agent that is deployed with layers of its lock file.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct DeployWithLayers {
    /// What is deployed; its name is that of the path.
    pub spec: AgentSpec,
    /// Its layers. Those that are left out stay as they are.
    pub layers: AgentLayers,
    /// Whether the memory of an agent that has one stays as it is.
    #[serde(default)]
    pub keep_memory: bool,
}
