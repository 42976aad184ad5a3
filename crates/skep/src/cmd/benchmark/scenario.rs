//! What is sent: one request, or a mixture by weight with pauses, from a file.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use http::{HeaderMap, HeaderName, HeaderValue, Method};
use serde::Deserialize;
use skep_client::{CallRequest, RequestBody};
use skep_core::units;

use crate::failure::{Failure, Result};

/// The largest scenario, and the most requests in it.
const MOST_BYTES: u64 = 4 << 20;
const MOST_REQUESTS: usize = 1_000;

/// A scenario as it is written.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Written {
    requests: Vec<WrittenRequest>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct WrittenRequest {
    #[serde(default = "one")]
    weight: u32,
    method: Option<String>,
    #[serde(default = "root")]
    path: String,
    #[serde(default)]
    headers: BTreeMap<String, String>,
    body: Option<String>,
    json: Option<serde_json::Value>,
    think: Option<String>,
}

const fn one() -> u32 {
    1
}

fn root() -> String {
    "/".to_owned()
}

/// One kind of request.
#[derive(Debug, Clone)]
pub(super) struct Kind {
    pub(super) weight: u32,
    pub(super) method: Method,
    pub(super) path: String,
    pub(super) headers: HeaderMap,
    pub(super) body: RequestBody,
    /// The bounds of the pause behind its answer.
    pub(super) think: Option<(Duration, Duration)>,
}

/// What is sent.
#[derive(Debug, Clone)]
pub(super) struct Scenario {
    kinds: Vec<Kind>,
    total: u32,
}

impl Scenario {
    /// One kind only.
    pub(super) fn single(kind: Kind) -> Self {
        Self {
            total: kind.weight,
            kinds: vec![kind],
        }
    }

    /// Reads a file.
    pub(super) fn read(path: &Path) -> Result<Self> {
        let wrong = |why: String| Failure::usage(format!("{}: {why}", path.display()));
        let size = std::fs::metadata(path)
            .map_err(|error| wrong(error.to_string()))?
            .len();
        if size > MOST_BYTES {
            return Err(wrong(format!(
                "it is over {}",
                units::format_bytes(MOST_BYTES)
            )));
        }
        let text = std::fs::read_to_string(path).map_err(|error| wrong(error.to_string()))?;
        Self::parse(&text)
            .map_err(|why| wrong(why).hint("docs/developing.md shows how a scenario is written."))
    }

    fn parse(text: &str) -> Result<Self, String> {
        let mut options = serde_saphyr::Options::default();
        options.with_snippet = false;
        let written: Written = serde_saphyr::from_str_with_options(text, options)
            .map_err(|error| error.to_string())?;
        if written.requests.is_empty() || written.requests.len() > MOST_REQUESTS {
            return Err(format!("`requests` has none, or over {MOST_REQUESTS}"));
        }
        let kinds = written.requests.into_iter().map(kind);
        let kinds = kinds.collect::<Result<Vec<_>, _>>()?;
        let total = kinds
            .iter()
            .try_fold(0_u32, |sum, kind| sum.checked_add(kind.weight));
        match total {
            Some(total) if total > 0 => Ok(Self { kinds, total }),
            _ => Err("the weights are all 0, or too large".to_owned()),
        }
    }

    /// Whether there are pauses.
    pub(super) fn thinks(&self) -> bool {
        self.kinds.iter().any(|kind| kind.think.is_some())
    }

    /// A request, by weight.
    pub(super) fn next(&self, random: &mut fastrand::Rng) -> &Kind {
        let mut at = random.u32(0..self.total);
        for kind in &self.kinds {
            match at.checked_sub(kind.weight) {
                Some(rest) => at = rest,
                None => return kind,
            }
        }
        // The weights add up to the total.
        &self.kinds[0]
    }
}

impl Kind {
    pub(super) fn to(&self, agent: &str) -> CallRequest {
        let mut request = CallRequest::new(self.method.clone(), agent, self.path.as_str());
        request.headers = self.headers.clone();
        request.body = self.body.clone();
        request
    }

    pub(super) fn pause(&self, random: &mut fastrand::Rng) -> Option<Duration> {
        let (least, most) = self.think?;
        Some(least + (most - least).mul_f64(random.f64()))
    }
}

fn kind(written: WrittenRequest) -> Result<Kind, String> {
    let mut headers = HeaderMap::new();
    for (name, value) in &written.headers {
        let parsed = (name.parse::<HeaderName>(), value.parse::<HeaderValue>());
        match parsed {
            (Ok(name), Ok(value)) => drop(headers.append(name, value)),
            _ => return Err(format!("`{name}: {value}` is not a header")),
        }
    }
    let (body, media) = match (written.body, written.json) {
        (Some(_), Some(_)) => return Err("a request has `body` or `json`, not both".to_owned()),
        (Some(text), None) => (Some(text), "text/plain; charset=utf-8"),
        (None, Some(value)) => (Some(value.to_string()), "application/json"),
        (None, None) => (None, ""),
    };
    if body.is_some() {
        let media = HeaderValue::from_static(media);
        headers.entry(http::header::CONTENT_TYPE).or_insert(media);
    }
    let method = match (&written.method, &body) {
        (Some(word), _) => Method::from_bytes(word.to_ascii_uppercase().as_bytes())
            .map_err(|_| format!("`{word}` is not an HTTP method"))?,
        (None, Some(_)) => Method::POST,
        (None, None) => Method::GET,
    };
    Ok(Kind {
        weight: written.weight,
        method,
        path: written.path,
        headers,
        body: body.map(RequestBody::from).unwrap_or_default(),
        think: written.think.as_deref().map(think).transpose()?,
    })
}

/// `100ms`, or `50ms..200ms`.
fn think(text: &str) -> Result<(Duration, Duration), String> {
    let (least, most) = text.split_once("..").unwrap_or((text, text));
    let both = (
        units::parse_duration(least.trim()),
        units::parse_duration(most.trim()),
    );
    match both {
        (Some(least), Some(most)) if least <= most => Ok((least, most)),
        _ => Err(format!(
            "`{text}` is no time to think, such as 100ms or 50ms..200ms"
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_come_by_weight() {
        let text = "requests:\n  - weight: 3\n    path: /a\n    json: {n: 1}\n    think: 1ms..3ms\n  \
                    - path: /b\n    headers: {X-A: b}\n  - {path: /never, weight: 0}\n";
        let scenario = Scenario::parse(text).unwrap();
        assert!(scenario.thinks());
        let mut random = fastrand::Rng::with_seed(1);
        let mut often = 0;
        for _ in 0..4_000 {
            let kind = scenario.next(&mut random);
            assert_ne!(kind.path, "/never");
            if kind.path == "/a" {
                often += 1;
                let pause = kind.pause(&mut random).unwrap();
                assert!((1..=3).contains(&pause.as_millis()), "{pause:?}");
                assert_eq!(
                    (kind.method.as_str(), &kind.body),
                    ("POST", &"{\"n\":1}".into())
                );
            } else {
                assert_eq!(
                    (kind.method.as_str(), &kind.headers["x-a"]),
                    ("GET", &"b".parse().unwrap())
                );
            }
        }
        assert!((2_800..3_200).contains(&often), "{often}");
    }

    #[test]
    fn mistakes_are_told() {
        for (text, says) in [
            ("requests: []", "has none"),
            ("requests: [{pth: /}]", "unknown field `pth`"),
            ("requests: [{weight: 0}]", "weights"),
            ("requests: [{body: a, json: 1}]", "not both"),
            ("requests: [{think: long}]", "no time to think"),
            ("requests: [{method: 'a b'}]", "not an HTTP method"),
        ] {
            let error = Scenario::parse(text).unwrap_err();
            assert!(error.contains(says), "{text}: {error}");
        }
    }
}
