//! The domain form of a specification: parsed, with defaults filled in and bounds checked.
//!
//! Whatever is wrong is told with the field and with what to write instead. `calls` is not looked
//! at: how calls are treated belongs to the call door. Whether the program can be found is the
//! driver's to say.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use skep_api::{AgentSpec, HealthSpec, Replicas, Resources, RestartSpec, RolloutSpec};
use skep_core::units;
use skep_core::workspace::check_name;

use crate::{RuntimeError, words};

/// Words of a command.
const MOST_WORDS: usize = 1_000;
/// Bytes of a command or of an environment variable.
const MOST_TEXT: usize = 128 << 10;
/// Variables that a specification may set.
const MOST_VARIABLES: usize = 1_000;
/// Bytes of the probe's path.
const MOST_PATH: usize = 1_024;
/// The smallest address space that a program can be started in.
const LEAST_MEMORY: u64 = 1 << 20;
/// Fewer open files than these stop a program before it begins.
const LEAST_OPEN_FILES: u64 = 16;
const MOST_FAILURES: u32 = 1_000;
/// Copies of one agent.
const MOST_REPLICAS: u32 = 1_000;
/// Steps of a rollout.
const MOST_STEPS: usize = 100;

const SECOND: Duration = Duration::from_secs(1);
const HOUR: Duration = Duration::from_secs(3_600);
const DAY: Duration = Duration::from_secs(86_400);

/// A specification that can be run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Spec {
    /// The agent's name.
    pub name: String,
    /// The kind of driver that runs it.
    pub driver: String,
    /// The program and its arguments; never empty.
    pub command: Vec<String>,
    /// Where it runs; `None` is its home.
    pub workdir: Option<PathBuf>,
    /// Variables besides those of the contract.
    pub env: BTreeMap<String, String>,
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

/// What each process of an agent may use; `None` is the operating system's own limit.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Limits {
    /// Address space in bytes.
    pub memory: Option<u64>,
    /// Open files.
    pub open_files: Option<u64>,
    /// The largest file in bytes.
    pub file_size: Option<u64>,
    /// Processes and threads.
    pub processes: Option<u64>,
}

/// How an agent is probed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Health {
    /// The path to ask; `None` is the first usual one that answers, else the open port.
    pub path: Option<String>,
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
        Ok(Self {
            name: spec.name.clone(),
            driver: spec.driver.clone(),
            command: command(&spec.command)?,
            workdir: workdir(spec.workdir.as_deref())?,
            env: variables(&spec.env)?,
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

/// A text as it may stand in a message.
fn short(text: &str) -> String {
    text.chars().take(80).collect()
}

fn no_nul(field: &str, text: &str) -> Result<(), RuntimeError> {
    if text.contains('\0') {
        return Err(RuntimeError::spec(field, "holds a NUL; remove it"));
    }
    if text.len() > MOST_TEXT {
        return Err(RuntimeError::spec(
            field,
            format!("is over {}", units::format_bytes(MOST_TEXT as u64)),
        ));
    }
    Ok(())
}

fn command(given: &[String]) -> Result<Vec<String>, RuntimeError> {
    let words = match given {
        [only] => words::split(only).map_err(|words::Unclosed(quote)| {
            RuntimeError::spec("command", format!("a {quote} is never closed"))
        })?,
        _ => given.to_vec(),
    };
    if words.first().is_none_or(String::is_empty) {
        return Err(RuntimeError::spec(
            "command",
            "is empty; write the program and its arguments, such as [\"python3\", \"agent.py\"]",
        ));
    }
    if words.len() > MOST_WORDS {
        return Err(RuntimeError::spec(
            "command",
            format!("has over {MOST_WORDS} words"),
        ));
    }
    for word in &words {
        no_nul("command", word)?;
    }
    Ok(words)
}

fn workdir(given: Option<&str>) -> Result<Option<PathBuf>, RuntimeError> {
    let Some(text) = given else { return Ok(None) };
    no_nul("workdir", text)?;
    let path = PathBuf::from(text);
    if !path.is_absolute() {
        return Err(RuntimeError::spec(
            "workdir",
            format!("`{}` is relative; write an absolute path", short(text)),
        ));
    }
    Ok(Some(path))
}

fn variables(given: &BTreeMap<String, String>) -> Result<BTreeMap<String, String>, RuntimeError> {
    if given.len() > MOST_VARIABLES {
        return Err(RuntimeError::spec(
            "env",
            format!("has over {MOST_VARIABLES} variables"),
        ));
    }
    for (name, value) in given {
        let field = format!("env.{}", short(name));
        let mut bytes = name.bytes();
        let first = bytes
            .next()
            .is_some_and(|b| b.is_ascii_alphabetic() || b == b'_');
        if !first || !bytes.all(|b| b.is_ascii_alphanumeric() || b == b'_') {
            return Err(RuntimeError::spec(
                field,
                "is not a variable's name; use letters, digits and `_`, and no digit first",
            ));
        }
        if name == "PORT" || name.starts_with("SKEP_") {
            return Err(RuntimeError::spec(
                field,
                "is set by Skep; remove it and read the value that the agent is given",
            ));
        }
        no_nul(&field, value)?;
    }
    Ok(given.clone())
}

fn limits(given: &Resources) -> Result<Limits, RuntimeError> {
    let at_least = |field: &str, value: Option<u64>, least: u64| match value {
        Some(value) if value < least => Err(RuntimeError::spec(
            field,
            format!("`{value}` is too little; use {least} or more, or leave it out"),
        )),
        _ => Ok(value),
    };
    Ok(Limits {
        memory: at_least(
            "resources.memory",
            bytes("resources.memory", given.memory.as_deref())?,
            LEAST_MEMORY,
        )?,
        open_files: at_least("resources.open_files", given.open_files, LEAST_OPEN_FILES)?,
        file_size: bytes("resources.file_size", given.file_size.as_deref())?,
        processes: at_least("resources.processes", given.processes, 1)?,
    })
}

fn health(given: &HealthSpec) -> Result<Health, RuntimeError> {
    if let Some(path) = &given.path {
        let plain = path.bytes().all(|b| b.is_ascii_graphic());
        if !path.starts_with('/') || !plain || path.contains('#') || path.len() > MOST_PATH {
            return Err(RuntimeError::spec(
                "health.path",
                format!(
                    "`{}` is not a path; write one such as `/health`",
                    short(path)
                ),
            ));
        }
    }
    let millisecond = SECOND / 1_000;
    Ok(Health {
        path: given.path.clone(),
        interval: duration(
            "health.interval",
            given.interval.as_deref(),
            10 * SECOND,
            (100 * millisecond, HOUR),
        )?,
        timeout: duration(
            "health.timeout",
            given.timeout.as_deref(),
            2 * SECOND,
            (10 * millisecond, 60 * SECOND),
        )?,
        failures: count("health.failures", given.failures, 3)?,
        startup: duration(
            "health.startup",
            given.startup.as_deref(),
            60 * SECOND,
            (100 * millisecond, DAY),
        )?,
    })
}

fn restart(given: &RestartSpec) -> Result<Restart, RuntimeError> {
    let range = (SECOND / 1_000, DAY);
    let backoff = duration(
        "restart.backoff",
        given.backoff.as_deref(),
        SECOND / 5,
        range,
    )?;
    let max_backoff = duration(
        "restart.max_backoff",
        given.max_backoff.as_deref(),
        (30 * SECOND).max(backoff),
        range,
    )?;
    if max_backoff < backoff {
        return Err(RuntimeError::spec(
            "restart.max_backoff",
            format!(
                "is shorter than `restart.backoff`; use {} or more",
                units::format_duration(backoff)
            ),
        ));
    }
    Ok(Restart {
        backoff,
        max_backoff,
        crash_loop_after: count("restart.crash_loop_after", given.crash_loop_after, 5)?,
    })
}

fn copies(field: &str, given: u32, least: u32) -> Result<u32, RuntimeError> {
    if (least..=MOST_REPLICAS).contains(&given) {
        return Ok(given);
    }
    Err(RuntimeError::spec(
        field,
        format!("`{given}` is out of bounds; use {least} to {MOST_REPLICAS}"),
    ))
}

fn scale(given: Option<&Replicas>) -> Result<Scale, RuntimeError> {
    let fixed = skep_api::Scaling::default();
    let (min, max, given) = match given {
        None => (1, 1, &fixed),
        Some(Replicas::Fixed(number)) => {
            let number = copies("replicas", *number, 1)?;
            (number, number, &fixed)
        }
        Some(Replicas::Scaled(scaling)) => {
            let max = copies("replicas.max", scaling.max, 1)?;
            let min = copies("replicas.min", scaling.min.unwrap_or(1), 0)?;
            if min > max {
                return Err(RuntimeError::spec(
                    "replicas.min",
                    format!("`{min}` is over `replicas.max`; use {max} or less"),
                ));
            }
            (min, max, scaling)
        }
    };
    let range = (SECOND, DAY);
    Ok(Scale {
        min,
        max,
        target: count("replicas.target", given.target, 16)?,
        window: duration(
            "replicas.window",
            given.window.as_deref(),
            60 * SECOND,
            range,
        )?,
        idle: duration("replicas.idle", given.idle.as_deref(), 300 * SECOND, range)?,
    })
}

fn rollout(given: &RolloutSpec) -> Result<Rollout, RuntimeError> {
    if given.steps.len() > MOST_STEPS {
        return Err(RuntimeError::spec(
            "rollout.steps",
            format!("has over {MOST_STEPS} steps"),
        ));
    }
    let mut steps = Vec::with_capacity(given.steps.len());
    for (index, step) in given.steps.iter().enumerate() {
        if !(1..=99).contains(&step.weight) {
            return Err(RuntimeError::spec(
                format!("rollout.steps[{index}].weight"),
                format!("`{}` is out of bounds; use 1 to 99", step.weight),
            ));
        }
        let field = format!("rollout.steps[{index}].pause");
        let pause = step.pause.as_deref().map(|text| {
            duration(
                &field,
                Some(text),
                Duration::ZERO,
                (Duration::ZERO, 30 * DAY),
            )
        });
        steps.push((step.weight, pause.transpose()?));
    }
    Ok(Rollout {
        surge: copies("rollout.surge", given.surge.unwrap_or(1), 1)?,
        steps,
        rollback: given.rollback.unwrap_or(true),
    })
}

fn count(field: &str, given: Option<u32>, default: u32) -> Result<u32, RuntimeError> {
    let value = given.unwrap_or(default);
    if (1..=MOST_FAILURES).contains(&value) {
        return Ok(value);
    }
    Err(RuntimeError::spec(
        field,
        format!("`{value}` is out of bounds; use 1 to {MOST_FAILURES}"),
    ))
}

fn bytes(field: &str, given: Option<&str>) -> Result<Option<u64>, RuntimeError> {
    given
        .map(|text| {
            units::parse_bytes(text).ok_or_else(|| {
                RuntimeError::spec(
                    field,
                    format!(
                        "`{}` is not a size; write one such as `512MiB`",
                        short(text)
                    ),
                )
            })
        })
        .transpose()
}

fn duration(
    field: &str,
    given: Option<&str>,
    default: Duration,
    (least, most): (Duration, Duration),
) -> Result<Duration, RuntimeError> {
    let Some(text) = given else {
        return Ok(default);
    };
    let value = units::parse_duration(text).ok_or_else(|| {
        RuntimeError::spec(
            field,
            format!(
                "`{}` is not a duration; write one such as `30s`",
                short(text)
            ),
        )
    })?;
    if value < least || value > most {
        return Err(RuntimeError::spec(
            field,
            format!(
                "`{}` is out of bounds; use {} to {}",
                short(text),
                units::format_duration(least),
                units::format_duration(most)
            ),
        ));
    }
    Ok(value)
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
