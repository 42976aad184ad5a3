//! The domain form of a specification: parsed, with defaults filled in and bounds checked.
//!
//! Whatever is wrong is told with the field and with what to write instead. `calls` is not looked
//! at: how calls are treated belongs to the call door. Whether the program can be found is the
//! driver's to say.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::time::Duration;

use skep_api::AgentSpec;
use skep_core::workspace::check_name;

use crate::RuntimeError;

mod card;
mod connect;
mod parts;
mod secrets;

pub use connect::{Connect, HostPort, PortRange};
pub use parts::PROTOCOLS;
use parts::{
    DAY, HOUR, SECOND, command, duration, endpoint, health, image, labels, limits, protocol,
    restart, rollout, sandbox, scale, short, variables, volumes, workdir,
};
pub(crate) use secrets::filled;
pub use secrets::{Named, Use, named};

/// A specification that can be run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Spec {
    /// The agent's name.
    pub name: String,
    /// The kind of driver that runs it.
    pub driver: String,
    /// The program and its arguments; empty when the image says.
    pub command: Vec<String>,
    /// The container image and when it is pulled.
    pub image: Option<Image>,
    /// Where it runs; `None` is its home.
    pub workdir: Option<PathBuf>,
    /// Variables besides those of the contract.
    pub env: BTreeMap<String, String>,
    /// The secrets that they name.
    pub secrets: BTreeSet<Named>,
    /// Folders besides its own.
    pub volumes: Vec<Volume>,
    /// How it is locked in.
    pub sandbox: Sandbox,
    /// What it may connect to besides the usual.
    pub connect: Connect,
    /// Names and values of its owner's.
    pub labels: BTreeMap<String, String>,
    /// What it may use.
    pub limits: Limits,
    /// How it is probed.
    pub health: Health,
    /// How it is restarted.
    pub restart: Restart,
    /// How many copies run.
    pub scale: Scale,
    /// How a new revision takes over.
    pub rollout: Rollout,
    /// Time that calls in flight have to end before an instance is asked to.
    pub drain: Duration,
    /// Time between SIGTERM and SIGKILL.
    pub stop_grace: Duration,
}

/// How many copies run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Scale {
    /// The fewest.
    pub min: u32,
    /// The most.
    pub max: u32,
    /// Calls in flight that one copy is to have.
    pub target: u32,
    /// The time over which calls in flight are averaged.
    pub window: Duration,
    /// The time without a call after which the last copy goes, when `min` is 0.
    pub idle: Duration,
}

/// How a new revision takes over.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rollout {
    /// Copies above those that are wanted while it does.
    pub surge: u32,
    /// Shares of the calls in percent, each with its time; `None` waits for an order.
    pub steps: Vec<(u8, Option<Duration>)>,
    /// Whether a revision that fails makes way for the one before.
    pub rollback: bool,
}

/// A container image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Image {
    /// The reference: by tag or digest.
    pub reference: String,
    /// When it is pulled.
    pub pull: Pull,
}

/// When an image is pulled.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Pull {
    /// Before each start.
    Always,
    /// When it is not there.
    #[default]
    Missing,
    /// Never: it must be there.
    Never,
}

/// A folder that an agent sees besides its own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Volume {
    /// What it is.
    pub source: VolumeSource,
    /// Where the agent sees it; absolute.
    pub target: Option<PathBuf>,
    /// Whether it can only be read.
    pub read_only: bool,
}

/// What a volume is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum VolumeSource {
    /// A folder of this machine; absolute.
    Host(PathBuf),
    /// A volume that is kept for the workspace, by name.
    Named(String),
}

/// How an agent is locked in.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Sandbox {
    /// Every protection, or it does not start.
    Strict,
    /// What this machine has.
    #[default]
    Standard,
    /// None.
    Off,
}

/// What each process of an agent may use; `None` is the operating system's own limit.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Limits {
    /// Memory in bytes.
    pub memory: Option<u64>,
    /// CPU time in thousandths of a core.
    pub cpu_millis: Option<u64>,
    /// Open files.
    pub open_files: Option<u64>,
    /// The largest file in bytes.
    pub file_size: Option<u64>,
    /// Processes and threads.
    pub processes: Option<u64>,
    /// Bytes of its folders together.
    pub disk: Option<u64>,
    /// GPUs.
    pub gpus: Option<Gpus>,
}

/// The GPUs that an agent gets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Gpus {
    /// All of the machine.
    All,
    /// So many.
    Count(u32),
}

/// How an agent is probed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Health {
    /// The path to ask; `None` is the first usual one that answers, else the open port.
    pub path: Option<String>,
    /// The path that says whether it lives, when it takes no calls.
    pub live: Option<String>,
    /// Time between two probes of a ready instance.
    pub interval: Duration,
    /// Time that one probe may take.
    pub timeout: Duration,
    /// Failures in a row after which it is not ready; after twice as many it is restarted.
    pub failures: u32,
    /// Time within which it must become ready.
    pub startup: Duration,
}

/// How an agent is restarted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Restart {
    /// Wait before the second restart in a row.
    pub backoff: Duration,
    /// The longest wait.
    pub max_backoff: Duration,
    /// Failed starts in a row that make a crash loop.
    pub crash_loop_after: u32,
}

impl Spec {
    /// Parses a specification. `drivers` are the kinds that there are.
    ///
    /// # Errors
    /// [`RuntimeError::InvalidSpec`] with the first field that is wrong.
    pub fn parse(spec: &AgentSpec, drivers: &[&str]) -> Result<Self, RuntimeError> {
        check_name(&spec.name).map_err(|error| RuntimeError::spec("name", error.to_string()))?;
        if !drivers.contains(&spec.driver.as_str()) {
            let known = drivers.join("`, `");
            return Err(RuntimeError::spec(
                "driver",
                format!("unknown driver `{}`; use `{known}`", short(&spec.driver)),
            ));
        }
        protocol(spec.protocol.as_deref())?;
        endpoint(spec.endpoint.as_deref())?;
        card::card(spec.card.as_ref())?;
        Ok(Self {
            name: spec.name.clone(),
            driver: spec.driver.clone(),
            command: command(&spec.command, spec.image.is_some())?,
            image: image(spec)?,
            workdir: workdir(spec.workdir.as_deref())?,
            env: variables(&spec.env)?,
            secrets: named(&spec.env)?,
            volumes: volumes(&spec.volumes)?,
            sandbox: sandbox(spec.sandbox.as_deref())?,
            connect: connect::connect(&spec.connect)?,
            labels: labels(&spec.labels)?,
            limits: limits(&spec.resources)?,
            health: health(&spec.health)?,
            restart: restart(&spec.restart)?,
            scale: scale(spec.replicas.as_ref())?,
            rollout: rollout(&spec.rollout)?,
            drain: duration(
                "drain",
                spec.drain.as_deref(),
                30 * SECOND,
                (Duration::ZERO, DAY),
            )?,
            stop_grace: duration(
                "stop_grace",
                spec.stop_grace.as_deref(),
                10 * SECOND,
                (Duration::ZERO, HOUR),
            )?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn spec(document: &serde_json::Value) -> Result<Spec, RuntimeError> {
        let mut whole = serde_json::json!({ "name": "a", "command": ["true"] });
        if let (Some(whole), Some(given)) = (whole.as_object_mut(), document.as_object()) {
            whole.extend(given.clone());
        }
        Spec::parse(
            &serde_json::from_value(whole).unwrap(),
            &["process", "docker"],
        )
    }

    fn wrong(document: &serde_json::Value) -> (String, String) {
        match spec(document) {
            Err(RuntimeError::InvalidSpec { field, reason }) => (field, reason),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn fills_in_the_documented_defaults() {
        let spec = spec(&serde_json::json!({})).unwrap();
        assert_eq!(spec.driver, "process");
        assert_eq!(spec.stop_grace, 10 * SECOND);
        assert_eq!(spec.health.interval, 10 * SECOND);
        assert_eq!(spec.health.timeout, 2 * SECOND);
        assert_eq!(
            (spec.health.failures, spec.restart.crash_loop_after),
            (3, 5)
        );
        assert_eq!(spec.health.startup, 60 * SECOND);
        assert_eq!(spec.restart.backoff, Duration::from_millis(200));
        assert_eq!(spec.restart.max_backoff, 30 * SECOND);
        assert_eq!(spec.limits, Limits::default());
    }

    #[test]
    fn splits_a_single_element() {
        let split = spec(&serde_json::json!({ "command": ["python3 -m 'my agent'"] })).unwrap();
        assert_eq!(split.command, ["python3", "-m", "my agent"]);
        let kept = spec(&serde_json::json!({ "command": ["a b", "c d"] })).unwrap();
        assert_eq!(kept.command, ["a b", "c d"]);
    }

    #[test]
    fn gpus_are_all_or_a_number() {
        let parse = |gpus: &str| {
            let mut spec = AgentSpec::new("a", vec!["x".to_owned()]);
            spec.resources.gpus = Some(gpus.to_owned());
            Spec::parse(&spec, &["process"]).map(|spec| spec.limits.gpus)
        };
        assert_eq!(parse("all").unwrap(), Some(Gpus::All));
        assert_eq!(parse("2").unwrap(), Some(Gpus::Count(2)));
        for wrong in ["some", "0", "65", ""] {
            let error = parse(wrong).unwrap_err().to_string();
            assert!(error.contains("resources.gpus"), "{error}");
        }
    }

    #[test]
    fn names_the_field_and_the_remedy() {
        use serde_json::json;
        for (document, field, part) in [
            (json!({"name": "A b"}), "name", "a-z"),
            (json!({"driver": "vm"}), "driver", "`process`, `docker`"),
            (json!({"command": []}), "command", "python3"),
            (json!({"command": ["sh -c 'x"]}), "command", "closed"),
            (json!({"command": ["a\u{0}"]}), "command", "NUL"),
            (json!({"workdir": "here"}), "workdir", "absolute"),
            (json!({"env": {"1X": ""}}), "env.1X", "letters"),
            (json!({"env": {"PORT": "1"}}), "env.PORT", "set by Skep"),
            (
                json!({"env": {"SKEP_URL": ""}}),
                "env.SKEP_URL",
                "set by Skep",
            ),
            (json!({"env": {"A": "\u{0}"}}), "env.A", "NUL"),
            (
                json!({"resources": {"memory": "lots"}}),
                "resources.memory",
                "512MiB",
            ),
            (
                json!({"resources": {"memory": "1KiB"}}),
                "resources.memory",
                "1048576",
            ),
            (
                json!({"resources": {"open_files": 2}}),
                "resources.open_files",
                "16",
            ),
            (
                json!({"health": {"path": "ping"}}),
                "health.path",
                "/health",
            ),
            (
                json!({"health": {"interval": "10"}}),
                "health.interval",
                "30s",
            ),
            (
                json!({"health": {"interval": "1us"}}),
                "health.interval",
                "100ms",
            ),
            (
                json!({"health": {"failures": 0}}),
                "health.failures",
                "1 to",
            ),
            (
                json!({"restart": {"backoff": "1m", "max_backoff": "1s"}}),
                "restart.max_backoff",
                "1m",
            ),
            (json!({"connect": ["0"]}), "connect[0]", "27017"),
            (
                json!({"connect": ["1", "9-8"]}),
                "connect[1]",
                "30000-30100",
            ),
            (json!({"stop_grace": "2d"}), "stop_grace", "1h"),
        ] {
            let (at, reason) = wrong(&document);
            assert_eq!(at, field);
            assert!(reason.contains(part), "{field}: {reason}");
        }
    }

    proptest! {
        #[test]
        fn any_text_is_parsed_or_refused(text in ".*", grace in ".{0,8}") {
            let _ = spec(&serde_json::json!({
                "command": [text.clone()], "workdir": text, "stop_grace": grace,
                "env": { text.clone(): text }, "health": { "path": text },
            }));
        }
    }
}
