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

/// Whether a token that is for one of these counts at a path. One whose audience is the address of a door to tools is for
/// that door alone (RFC 8707). Other addresses are names, as issuers make them up.
pub(super) fn is_at(claims: &Map<String, Value>, audience: &[String], path: &str) -> bool {
    let said = |of: &str| match claims.get("aud") {
        Some(Value::String(one)) => one == of,
        Some(Value::Array(all)) => all.iter().any(|it| it.as_str() == Some(of)),
        _ => false,
    };
    let counts = |ours: &String| {
        let place = ours
            .split_once("://")
            .and_then(|(_, rest)| rest.split_once('/'));
        let place = place.map_or("", |(_, place)| place.trim_end_matches('/'));
        let within = path.strip_prefix('/').and_then(|it| it.strip_prefix(place));
        let is_door = place == "mcp" || place.starts_with("mcp/");
        !is_door || within.is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    };
    audience.iter().any(|ours| said(ours) && counts(ours))
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

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_token_for_a_door_counts_there_alone() {
        let door = "https://skep.example/mcp/files";
        let ours = ["skep", door, "https://corp.example/api"].map(str::to_owned);
        for (of, path, counts) in [
            (json!(door), "/mcp/files", true),
            (json!(door), "/mcp/files/", true),
            (json!(door), "/mcp/filesystem", false),
            (json!(door), "/mcp", false),
            (json!(door), "/api/v1/agents", false),
            (json!(["x", door, "skep"]), "/api/v1/agents", true),
            (json!("skep"), "/mcp/files", true),
            (json!("https://corp.example/api"), "/agents/a", true),
        ] {
            let claims = Map::from_iter([("aud".to_owned(), of.clone())]);
            assert_eq!(is_for(&claims, &ours), Ok(()), "{of}");
            assert_eq!(is_at(&claims, &ours, path), counts, "{of} at {path}");
        }
    }
}
