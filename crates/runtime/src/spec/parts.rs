//! The parts of a specification, one by one: what is wrong is told with the field and with what to
//! write instead.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use skep_api::{AgentSpec, HealthSpec, Replicas, Resources, RestartSpec, RolloutSpec, VolumeSpec};
use skep_core::units;
use skep_core::workspace::check_name;

use super::{
    Gpus, Health, Image, Limits, Pull, Restart, Rollout, Sandbox, Scale, Volume, VolumeSource,
};
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
/// Bytes of an image's reference.
const MOST_IMAGE: usize = 1_024;
/// Volumes of one agent, and entries of its other lists.
const MOST_VOLUMES: usize = 100;
/// Bytes of a label's name.
const MOST_LABEL: usize = 253;
/// Thousandths of a core that can be asked for.
const MOST_CPU: u64 = 10_000_000;
/// Copies of one agent.
const MOST_REPLICAS: u32 = 1_000;
/// Steps of a rollout.
const MOST_STEPS: usize = 100;

pub(super) const SECOND: Duration = Duration::from_secs(1);
pub(super) const HOUR: Duration = Duration::from_secs(3_600);
pub(super) const DAY: Duration = Duration::from_secs(86_400);

/// A text as it may stand in a message.
pub(super) fn short(text: &str) -> String {
    text.chars().take(80).collect()
}

pub(super) fn no_nul(field: &str, text: &str) -> Result<(), RuntimeError> {
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

/// What agents can speak that are asked for runs.
pub const PROTOCOLS: [&str; 5] = ["http", "agui", "invocations", "responses", "a2a"];

pub(super) fn protocol(word: Option<&str>) -> Result<(), RuntimeError> {
    match word.filter(|it| !PROTOCOLS.contains(it)) {
        None => Ok(()),
        Some(other) => {
            let (known, other) = (PROTOCOLS.join("`, `"), short(other));
            let why = format!("`{other}` is nothing that agents speak here; use `{known}`");
            Err(RuntimeError::spec("protocol", why))
        }
    }
}

pub(super) fn endpoint(path: Option<&str>) -> Result<(), RuntimeError> {
    let is_path = |it: &str| {
        let plain = it.bytes().all(|it| it.is_ascii_graphic() && it != b'#');
        it.starts_with('/') && it.len() <= MOST_PATH && plain
    };
    match path.is_none_or(is_path) {
        true => Ok(()),
        false => {
            let why =
                format!("is no path; write one such as `/agent`, of {MOST_PATH} bytes at most");
            Err(RuntimeError::spec("endpoint", why))
        }
    }
}

pub(super) fn image(spec: &AgentSpec) -> Result<Option<Image>, RuntimeError> {
    let pull = match spec.pull.as_deref() {
        None | Some("missing") => Pull::Missing,
        Some("always") => Pull::Always,
        Some("never") => Pull::Never,
        Some(other) => {
            let known = "use `always`, `missing` or `never`";
            return Err(RuntimeError::spec(
                "pull",
                format!("`{}` is no rule; {known}", short(other)),
            ));
        }
    };
    let Some(reference) = &spec.image else {
        return Ok(None);
    };
    let plain = !reference.is_empty() && reference.bytes().all(|byte| byte.is_ascii_graphic());
    if !plain || reference.len() > MOST_IMAGE {
        return Err(RuntimeError::spec(
            "image",
            format!(
                "`{}` is no reference; write one such as `registry/name:tag`",
                short(reference)
            ),
        ));
    }
    let reference = reference.clone();
    Ok(Some(Image { reference, pull }))
}

pub(super) fn sandbox(given: Option<&str>) -> Result<Sandbox, RuntimeError> {
    match given {
        None | Some("standard") => Ok(Sandbox::Standard),
        Some("strict") => Ok(Sandbox::Strict),
        Some("off") => Ok(Sandbox::Off),
        Some(other) => Err(RuntimeError::spec(
            "sandbox",
            format!(
                "`{}` is no sandbox; use `strict`, `standard` or `off`",
                short(other)
            ),
        )),
    }
}

/// Whether `..` or nothing but the root stands in a path.
pub(super) fn is_odd(path: &std::path::Path) -> bool {
    let mut parts = path.components();
    !path.is_absolute()
        || parts.any(|part| part == std::path::Component::ParentDir)
        || path.parent().is_none()
}

pub(super) fn volumes(given: &[VolumeSpec]) -> Result<Vec<Volume>, RuntimeError> {
    if given.len() > MOST_VOLUMES {
        return Err(RuntimeError::spec(
            "volumes",
            format!("has over {MOST_VOLUMES} volumes"),
        ));
    }
    let mut volumes: Vec<Volume> = Vec::with_capacity(given.len());
    for (index, volume) in given.iter().enumerate() {
        let field = |name: &str| format!("volumes[{index}].{name}");
        no_nul(&field("source"), &volume.source)?;
        let source = match volume.source.starts_with('/') {
            true => VolumeSource::Host(PathBuf::from(&volume.source)),
            false => VolumeSource::Named(volume.source.clone()),
        };
        let wrong = match &source {
            VolumeSource::Host(path) if is_odd(path) => {
                Some("is no folder that can be given; write its absolute path without `..`")
            }
            VolumeSource::Named(name) if check_name(name).is_err() => {
                Some("is neither an absolute path nor a name (lower-case letters, digits and `-`)")
            }
            _ => None,
        };
        if let Some(wrong) = wrong {
            let text = format!("`{}` {wrong}", short(&volume.source));
            return Err(RuntimeError::spec(field("source"), text));
        }
        let target = volume.target.as_ref().map(PathBuf::from);
        if let Some(target) = &target {
            no_nul(&field("target"), &target.to_string_lossy())?;
            let taken = volumes
                .iter()
                .any(|other| other.target.as_ref() == Some(target));
            if is_odd(target) || taken {
                let text = format!("`{}` is taken, or no absolute path", target.display());
                return Err(RuntimeError::spec(field("target"), short(&text)));
            }
        }
        volumes.push(Volume {
            source,
            target,
            read_only: volume.read_only,
        });
    }
    Ok(volumes)
}

pub(super) fn labels(
    given: &BTreeMap<String, String>,
) -> Result<BTreeMap<String, String>, RuntimeError> {
    if given.len() > MOST_VARIABLES {
        return Err(RuntimeError::spec(
            "labels",
            format!("has over {MOST_VARIABLES} labels"),
        ));
    }
    for (name, value) in given {
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"._/-".contains(&byte);
        let ours = name.starts_with("skep.");
        if name.is_empty() || name.len() > MOST_LABEL || ours || !name.bytes().all(plain) {
            return Err(RuntimeError::spec(
                format!("labels.{}", short(name)),
                "is no label; use up to 253 letters, digits and `._/-`, not beginning with `skep.`",
            ));
        }
        no_nul(&format!("labels.{name}"), value)?;
    }
    Ok(given.clone())
}

/// Thousandths of a core from `0.5`, `2` or `500m`.
pub(super) fn cpu(given: Option<&str>) -> Result<Option<u64>, RuntimeError> {
    let Some(text) = given else { return Ok(None) };
    let thousandths = match text.trim().strip_suffix('m') {
        Some(count) => count.parse::<u64>().ok(),
        None => match text.trim().split_once('.') {
            None => text
                .trim()
                .parse::<u64>()
                .ok()
                .and_then(|n| n.checked_mul(1_000)),
            Some((whole, part)) if (1..=3).contains(&part.len()) => {
                let whole = whole.parse::<u64>().ok();
                let part = format!("{part:0<3}").parse::<u64>().ok();
                whole
                    .and_then(|n| n.checked_mul(1_000))
                    .zip(part)
                    .map(|(a, b)| a + b)
            }
            Some(_) => None,
        },
    };
    match thousandths {
        Some(count @ 1..=MOST_CPU) => Ok(Some(count)),
        _ => Err(RuntimeError::spec(
            "resources.cpu",
            format!(
                "`{}` is no share of CPU time; write one such as `0.5` or `500m`",
                short(text)
            ),
        )),
    }
}

pub(super) fn command(given: &[String], has_image: bool) -> Result<Vec<String>, RuntimeError> {
    if given.is_empty() && has_image {
        return Ok(Vec::new());
    }
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

pub(super) fn workdir(given: Option<&str>) -> Result<Option<PathBuf>, RuntimeError> {
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

pub(super) fn variables(
    given: &BTreeMap<String, String>,
) -> Result<BTreeMap<String, String>, RuntimeError> {
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

/// GPUs of one instance.
const MOST_GPUS: u32 = 64;

pub(super) fn limits(given: &Resources) -> Result<Limits, RuntimeError> {
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
        cpu_millis: cpu(given.cpu.as_deref())?,
        open_files: at_least("resources.open_files", given.open_files, LEAST_OPEN_FILES)?,
        file_size: bytes("resources.file_size", given.file_size.as_deref())?,
        processes: at_least("resources.processes", given.processes, 1)?,
        disk: bytes("resources.disk", given.disk.as_deref())?,
        gpus: given.gpus.as_deref().map(gpus).transpose()?,
    })
}

fn gpus(text: &str) -> Result<Gpus, RuntimeError> {
    match (text, text.parse()) {
        ("all", _) => Ok(Gpus::All),
        (_, Ok(count @ 1..=MOST_GPUS)) => Ok(Gpus::Count(count)),
        _ => Err(RuntimeError::spec(
            "resources.gpus",
            format!(
                "`{}` is neither `all` nor a number from 1 to {MOST_GPUS}",
                short(text)
            ),
        )),
    }
}

pub(super) fn health(given: &HealthSpec) -> Result<Health, RuntimeError> {
    for (field, path) in [("health.path", &given.path), ("health.live", &given.live)] {
        let Some(path) = path else { continue };
        let plain = path.bytes().all(|b| b.is_ascii_graphic());
        if !path.starts_with('/') || !plain || path.contains('#') || path.len() > MOST_PATH {
            return Err(RuntimeError::spec(
                field,
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
        live: given.live.clone(),
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

pub(super) fn restart(given: &RestartSpec) -> Result<Restart, RuntimeError> {
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

pub(super) fn copies(field: &str, given: u32, least: u32) -> Result<u32, RuntimeError> {
    if (least..=MOST_REPLICAS).contains(&given) {
        return Ok(given);
    }
    Err(RuntimeError::spec(
        field,
        format!("`{given}` is out of bounds; use {least} to {MOST_REPLICAS}"),
    ))
}

pub(super) fn scale(given: Option<&Replicas>) -> Result<Scale, RuntimeError> {
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

pub(super) fn rollout(given: &RolloutSpec) -> Result<Rollout, RuntimeError> {
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

pub(super) fn count(field: &str, given: Option<u32>, default: u32) -> Result<u32, RuntimeError> {
    let value = given.unwrap_or(default);
    if (1..=MOST_FAILURES).contains(&value) {
        return Ok(value);
    }
    Err(RuntimeError::spec(
        field,
        format!("`{value}` is out of bounds; use 1 to {MOST_FAILURES}"),
    ))
}

pub(super) fn bytes(field: &str, given: Option<&str>) -> Result<Option<u64>, RuntimeError> {
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

pub(super) fn duration(
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
