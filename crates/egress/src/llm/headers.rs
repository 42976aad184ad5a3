//! Which headers pass: of a request to a provider, and of its answer.

use http::HeaderMap;
use http::header::{
    ACCEPT_ENCODING, AUTHORIZATION, CONTENT_LENGTH, CONTENT_TYPE, COOKIE, HOST, HeaderName,
    HeaderValue, SET_COOKIE,
};

use super::provider::Door;
use crate::headers::Hop;

/// What tells a provider who asks, or from where, and is none of its business.
const OF_SKEP: [&str; 10] = [
    "x-goog-fieldmask",
    "x-api-key",
    "x-goog-api-key",
    "traceparent",
    "tracestate",
    "baggage",
    "forwarded",
    "via",
    "x-real-ip",
    "referer",
];
/// What such headers begin with.
const PREFIXES: [&str; 2] = ["skep-", "x-forwarded-"];

/// The headers that a provider gets: what the client's SDK says, without anything that shows who it is. The key is put
/// in besides.
pub(super) fn to_provider(headers: &HeaderMap) -> HeaderMap {
    let hop = Hop::of(headers);
    let mut passed = HeaderMap::with_capacity(headers.len());
    for (name, value) in headers {
        let text = name.as_str();
        let is_own = OF_SKEP.contains(&text) || PREFIXES.iter().any(|it| text.starts_with(it));
        let is_framing =
            [HOST, CONTENT_LENGTH, COOKIE, AUTHORIZATION, ACCEPT_ENCODING].contains(name);
        if !is_own && !is_framing && !hop.has(name) {
            passed.append(name.clone(), value.clone());
        }
    }
    // What is compressed cannot be watched as it passes.
    passed.insert(ACCEPT_ENCODING, HeaderValue::from_static("identity"));
    passed
}

/// The headers of a request that was translated: what the client's SDK says is for another provider.
pub(super) fn elsewhere(door: Door) -> HeaderMap {
    let mut headers = HeaderMap::new();
    headers.insert(ACCEPT_ENCODING, HeaderValue::from_static("identity"));
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    if door == Door::Anthropic {
        let version = HeaderName::from_static("anthropic-version");
        headers.insert(version, HeaderValue::from_static("2023-06-01"));
    }
    headers
}

/// The headers of an answer that is translated: its ids, and when to try again.
pub(super) fn of_translation(headers: &HeaderMap, streams: bool) -> HeaderMap {
    const KEPT: [&str; 3] = ["retry-after", "request-id", "x-request-id"];
    let kept = headers
        .iter()
        .filter(|(name, _)| KEPT.contains(&name.as_str()));
    let mut passed: HeaderMap = kept
        .map(|(name, value)| (name.clone(), value.clone()))
        .collect();
    let kind = match streams {
        true => "text/event-stream",
        false => "application/json",
    };
    passed.insert(CONTENT_TYPE, HeaderValue::from_static(kind));
    passed
}

/// The headers of an answer that pass. `changes`: its body does not stay as it is.
pub(super) fn to_client(headers: &mut HeaderMap, changes: bool) {
    let hop = Hop::of(headers);
    let gone: Vec<HeaderName> = headers
        .keys()
        .filter(|name| {
            let is_framing = changes && **name == CONTENT_LENGTH;
            hop.has(name) || **name == SET_COOKIE || is_framing
        })
        .cloned()
        .collect();
    for name in gone {
        headers.remove(name);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(all: &[(&str, &str)]) -> HeaderMap {
        let pair = |(name, value): &(&str, &str)| (name.parse().unwrap(), value.parse().unwrap());
        let pairs: Vec<(HeaderName, HeaderValue)> = all.iter().map(pair).collect();
        pairs.into_iter().collect()
    }

    #[test]
    fn nothing_that_tells_who_asks_leaves() {
        let passed = to_provider(&headers(&[
            ("Authorization", "Bearer skep"),
            ("X-Api-Key", "skep"),
            ("x-goog-api-key", "skep"),
            ("Cookie", "a=b"),
            ("Skep-Call-Id", "call_1"),
            ("traceparent", "00-1"),
            ("X-Forwarded-For", "10.0.0.1"),
            ("Connection", "close, X-Own"),
            ("X-Own", "1"),
            ("Transfer-Encoding", "chunked"),
            ("Content-Length", "3"),
            ("Accept-Encoding", "gzip"),
            ("anthropic-version", "2023-06-01"),
            ("Content-Type", "application/json"),
        ]));
        let mut names: Vec<&str> = passed.keys().map(HeaderName::as_str).collect();
        names.sort_unstable();
        assert_eq!(
            names,
            ["accept-encoding", "anthropic-version", "content-type"]
        );
        assert_eq!(passed[ACCEPT_ENCODING], "identity");
    }

    #[test]
    fn an_answer_keeps_what_its_reader_needs() {
        let mut answer = headers(&[
            ("Content-Length", "3"),
            ("Set-Cookie", "a=b"),
            ("Connection", "keep-alive"),
            ("x-request-id", "1"),
            ("retry-after", "2"),
        ]);
        to_client(&mut answer, false);
        assert_eq!(answer.len(), 3);
        to_client(&mut answer, true);
        assert_eq!(answer.len(), 2);
    }
}
