//! Whom a token is for, whom it is about, and how long it counts. What is mistyped is refused, never
//! guessed at.

use std::time::Duration;

use serde_json::{Map, Value};
use skep_core::Timestamp;

use super::Refusal;

/// Bytes of a subject.
const MOST_SUBJECT: usize = 256;
/// Seconds since 1970 that a claim may name: the year 9999.
const LAST_SECOND: f64 = 253_402_300_799.0;

/// Whether a token is for one of these.
pub(super) fn is_for(claims: &Map<String, Value>, audience: &[String]) -> Result<(), Refusal> {
    let is_ours = |of: &str| audience.iter().any(|ours| ours == of);
    let fits = match claims.get("aud") {
        Some(Value::String(one)) => is_ours(one),
        Some(Value::Array(all)) => {
            let texts: Option<Vec<&str>> = all.iter().map(Value::as_str).collect();
            texts.ok_or(Refusal::Claims)?.into_iter().any(is_ours)
        }
        _ => return Err(Refusal::Claims),
    };
    match fits {
        true => Ok(()),
        false => Err(Refusal::Audience),
    }
}

/// The moment that a claim names.
pub(super) fn moment(
    claims: &Map<String, Value>,
    name: &str,
) -> Result<Option<Timestamp>, Refusal> {
    let Some(value) = claims.get(name) else {
        return Ok(None);
    };
    let seconds = value.as_f64().ok_or(Refusal::Claims)?;
    if !(0.0..=LAST_SECOND).contains(&seconds) {
        return Err(Refusal::Claims);
    }
    #[expect(
        clippy::cast_possible_truncation,
        reason = "it is in the bounds that were just checked"
    )]
    let micros = (seconds * 1e6) as i64;
    Ok(Some(Timestamp::from_micros(micros)))
}

/// Checks the times; gives the subject.
pub(super) fn check(
    claims: &Map<String, Value>,
    now: Timestamp,
    leeway: Duration,
) -> Result<&str, Refusal> {
    let end = moment(claims, "exp")?.ok_or(Refusal::Claims)?;
    if end.plus(leeway) <= now {
        return Err(Refusal::Expired);
    }
    for name in ["nbf", "iat"] {
        if moment(claims, name)?.is_some_and(|from| from > now.plus(leeway)) {
            return Err(Refusal::Early);
        }
    }
    let subject = claims.get("sub").and_then(Value::as_str);
    let is_one =
        |it: &&str| !it.is_empty() && it.len() <= MOST_SUBJECT && !it.chars().any(char::is_control);
    subject.filter(is_one).ok_or(Refusal::Claims)
}
