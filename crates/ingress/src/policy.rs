//! How an agent's calls are treated: `skep_api::CallSpec` with its defaults, checked.

use std::time::Duration;

use http::{HeaderName, Method};
use skep_api::{CacheSpec, CallSpec};
use skep_core::units::{parse_bytes, parse_duration};

use crate::IngressError;

/// The longest deadline that a call may have.
const LONGEST: Duration = Duration::from_secs(30 * 24 * 3600);
const MOST_ATTEMPTS: u32 = 100;
const MOST_CONCURRENT: u32 = 10_000;
/// Bytes of an agent's answers that are kept at most.
const MOST_CACHED: u64 = 1 << 30;
const LONGEST_QUEUE: u32 = 1_000_000;

/// When the client sees a result.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Durability {
    /// When it is on disk.
    Strict,
    /// When the agent gave it; the record follows.
    Relaxed,
}

/// How an agent's calls are treated.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CallPolicy {
    /// When the client sees a result.
    pub durability: Durability,
    /// Methods that are journaled; `None`: all but GET, HEAD, OPTIONS, CONNECT and TRACE.
    pub methods: Option<Vec<Method>>,
    /// Tries before a call is dead.
    pub attempts: u32,
    /// Statuses of the agent that are tried again.
    pub retry_statuses: Vec<u16>,
    /// Whether an attempt that was cut off is tried again.
    pub retry_interrupted: bool,
    /// Wait before the second attempt.
    pub backoff: Duration,
    /// The longest wait between attempts.
    pub max_backoff: Duration,
    /// Time from acceptance within which a call must end.
    pub deadline: Duration,
    /// Longest silence of the agent within an attempt.
    pub idle_timeout: Duration,
    /// Calls that may run at once.
    pub concurrency: u32,
    /// Calls that may wait.
    pub queue: u32,
    /// Requests with the same value of this header go to the same instance while it is there.
    pub affinity: Option<HeaderName>,
    /// Which answers are given again, when any are.
    pub cache: Option<CacheRules>,
}

/// Which answers of an agent are kept, to be given again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CacheRules {
    /// Bytes of all of them.
    pub size: u64,
    /// Bytes of the largest.
    pub largest: u64,
    /// How long one is fresh that says nothing of it.
    pub ttl: Option<Duration>,
    /// Headers of requests that tell apart for whom an answer is.
    pub by: Vec<HeaderName>,
}

impl Default for CallPolicy {
    fn default() -> Self {
        Self {
            durability: Durability::Strict,
            methods: None,
            attempts: 5,
            retry_statuses: vec![429, 502, 503, 504],
            retry_interrupted: true,
            backoff: Duration::from_millis(200),
            max_backoff: Duration::from_secs(30),
            deadline: Duration::from_secs(3600),
            idle_timeout: Duration::from_secs(300),
            concurrency: 256,
            queue: 10_000,
            affinity: None,
            cache: None,
        }
    }
}

fn invalid(field: &'static str, reason: impl Into<String>) -> IngressError {
    IngressError::InvalidPolicy {
        field,
        reason: reason.into(),
    }
}

fn duration(
    field: &'static str,
    text: &Option<String>,
    default: Duration,
) -> Result<Duration, IngressError> {
    let Some(text) = text else { return Ok(default) };
    match parse_duration(text) {
        Some(value) if !value.is_zero() && value <= LONGEST => Ok(value),
        _ => Err(invalid(
            field,
            format!("`{text}` is not a duration between 1ms and 30d, such as `30s`"),
        )),
    }
}

fn count(
    field: &'static str,
    value: Option<u32>,
    default: u32,
    most: u32,
) -> Result<u32, IngressError> {
    match value.unwrap_or(default) {
        0 => Err(invalid(field, "must be at least 1")),
        value if value > most => Err(invalid(field, format!("must be at most {most}"))),
        value => Ok(value),
    }
}

impl CallPolicy {
    /// The policy that a specification describes.
    ///
    /// # Errors
    /// [`IngressError::InvalidPolicy`] names the field.
    pub fn from_spec(spec: &CallSpec) -> Result<Self, IngressError> {
        let default = Self::default();
        let durability = match spec.durability.as_deref() {
            None | Some("strict") => Durability::Strict,
            Some("relaxed") => Durability::Relaxed,
            Some(other) => {
                return Err(invalid(
                    "durability",
                    format!("`{other}` is neither `strict` nor `relaxed`"),
                ));
            }
        };
        let methods = match &spec.methods {
            None => None,
            Some(names) => Some(
                names
                    .iter()
                    .map(|name| method(name))
                    .collect::<Result<_, _>>()?,
            ),
        };
        let retry_statuses = spec
            .retry_statuses
            .clone()
            .unwrap_or(default.retry_statuses);
        if let Some(status) = retry_statuses
            .iter()
            .find(|status| !(400..=599).contains(*status))
        {
            return Err(invalid(
                "retry_statuses",
                format!("{status} is not between 400 and 599"),
            ));
        }
        Ok(Self {
            durability,
            methods,
            attempts: count("attempts", spec.attempts, default.attempts, MOST_ATTEMPTS)?,
            retry_statuses,
            retry_interrupted: spec.retry_interrupted.unwrap_or(default.retry_interrupted),
            backoff: duration("backoff", &spec.backoff, default.backoff)?,
            max_backoff: duration("max_backoff", &spec.max_backoff, default.max_backoff)?,
            deadline: duration("deadline", &spec.deadline, default.deadline)?,
            idle_timeout: duration("idle_timeout", &spec.idle_timeout, default.idle_timeout)?,
            concurrency: count(
                "concurrency",
                spec.concurrency,
                default.concurrency,
                MOST_CONCURRENT,
            )?,
            queue: count("queue", spec.queue, default.queue, LONGEST_QUEUE)?,
            affinity: spec
                .affinity
                .as_deref()
                .map(|name| header("affinity", name))
                .transpose()?,
            cache: spec.cache.as_ref().map(cache).transpose()?,
        })
    }

    /// Whether a request with this method is a call.
    #[must_use]
    pub fn journals(&self, method: &Method) -> bool {
        match &self.methods {
            Some(methods) => methods.contains(method),
            None => !matches!(
                *method,
                Method::GET | Method::HEAD | Method::OPTIONS | Method::CONNECT | Method::TRACE
            ),
        }
    }

    /// The wait before the next attempt after `tries` of them, with `jitter` in 0..1: half of it is
    /// fixed, half of it random, so that calls that failed together do not come back together.
    #[must_use]
    pub fn wait(&self, tries: u32, jitter: f64) -> Duration {
        let doublings = tries.saturating_sub(1).min(20);
        let full = self
            .backoff
            .saturating_mul(1 << doublings)
            .min(self.max_backoff);
        full.mul_f64(0.5 + jitter.clamp(0.0, 1.0) / 2.0)
    }
}

fn header(field: &'static str, name: &str) -> Result<HeaderName, IngressError> {
    name.parse()
        .map_err(|_| invalid(field, format!("`{name}` is not a header's name")))
}

fn cache(spec: &CacheSpec) -> Result<CacheRules, IngressError> {
    let bytes = |field, text: &Option<String>, default| match text {
        None => Ok(default),
        Some(text) => match parse_bytes(text) {
            Some(bytes) if (1..=MOST_CACHED).contains(&bytes) => Ok(bytes),
            _ => Err(invalid(
                field,
                format!("`{text}` is not a size between 1B and 1GiB, such as `16MiB`"),
            )),
        },
    };
    let size = bytes("cache.size", &spec.size, 16 << 20)?;
    Ok(CacheRules {
        size,
        largest: bytes("cache.largest", &spec.largest, 1 << 20)?.min(size),
        ttl: match &spec.ttl {
            None => None,
            text => Some(duration("cache.ttl", text, Duration::ZERO)?),
        },
        by: spec
            .by
            .iter()
            .map(|name| header("cache.by", name))
            .collect::<Result<_, _>>()?,
    })
}

fn method(name: &str) -> Result<Method, IngressError> {
    let parsed = name.parse::<Method>();
    match parsed {
        Ok(method)
            if !matches!(method, Method::CONNECT | Method::TRACE)
                && name == name.to_uppercase() =>
        {
            Ok(method)
        }
        _ => Err(invalid(
            "methods",
            format!("`{name}` is not a method that can be journaled"),
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_empty_specification_gives_the_defaults() {
        assert_eq!(
            CallPolicy::from_spec(&CallSpec::default()).unwrap(),
            CallPolicy::default()
        );
    }

    #[test]
    fn wrong_fields_are_named() {
        let cases: [(&str, CallSpec); 6] = [
            (
                "durability",
                CallSpec {
                    durability: Some("sometimes".into()),
                    ..CallSpec::default()
                },
            ),
            (
                "attempts",
                CallSpec {
                    attempts: Some(0),
                    ..CallSpec::default()
                },
            ),
            (
                "retry_statuses",
                CallSpec {
                    retry_statuses: Some(vec![200]),
                    ..CallSpec::default()
                },
            ),
            (
                "deadline",
                CallSpec {
                    deadline: Some("soon".into()),
                    ..CallSpec::default()
                },
            ),
            (
                "methods",
                CallSpec {
                    methods: Some(vec!["post".into()]),
                    ..CallSpec::default()
                },
            ),
            (
                "queue",
                CallSpec {
                    queue: Some(2_000_000),
                    ..CallSpec::default()
                },
            ),
        ];
        for (field, spec) in cases {
            let error = CallPolicy::from_spec(&spec).unwrap_err();
            assert!(
                matches!(error, IngressError::InvalidPolicy { field: f, .. } if f == field),
                "{error}"
            );
        }
    }

    #[test]
    fn waits_double_up_to_the_longest() {
        let policy = CallPolicy::default();
        assert_eq!(policy.wait(1, 1.0), Duration::from_millis(200));
        assert_eq!(policy.wait(1, 0.0), Duration::from_millis(100));
        assert_eq!(policy.wait(3, 1.0), Duration::from_millis(800));
        assert_eq!(policy.wait(u32::MAX, 1.0), Duration::from_secs(30));
    }
}
