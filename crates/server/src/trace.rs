//! W3C trace context (<https://www.w3.org/TR/trace-context/>): an incoming `traceparent` goes on
//! with a new span of ours; a request without one begins a trace.

use http::{HeaderMap, HeaderValue};
use skep_core::RequestId;

/// The context of one span.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct TraceContext {
    pub(crate) trace: [u8; 16],
    pub(crate) parent: Option<[u8; 8]>,
    pub(crate) span: [u8; 8],
    pub(crate) sampled: bool,
}

fn bytes<const N: usize>(hex: &str) -> Option<[u8; N]> {
    let lower = |byte: u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte);
    if hex.len() != N * 2 || !hex.bytes().all(lower) {
        return None;
    }
    let mut out = [0; N];
    for (slot, pair) in out.iter_mut().zip(hex.as_bytes().chunks(2)) {
        *slot = u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok()?;
    }
    // All zeros is not an identifier.
    (out != [0; N]).then_some(out)
}

fn parse(value: &str) -> Option<([u8; 16], [u8; 8], bool)> {
    let mut parts = value.split('-');
    let version: [u8; 1] = match parts.next()? {
        "00" => [0],
        other => bytes(other)?,
    };
    let (trace, parent) = (bytes(parts.next()?)?, bytes(parts.next()?)?);
    let flags = u8::from_str_radix(parts.next().filter(|flags| flags.len() == 2)?, 16).ok()?;
    // Version 00 has exactly four parts; version ff is forbidden.
    let whole = version != [0] || parts.next().is_none();
    (whole && version != [0xff]).then_some((trace, parent, flags & 1 == 1))
}

fn sent(headers: &HeaderMap) -> Option<([u8; 16], [u8; 8], bool)> {
    parse(headers.get("traceparent")?.to_str().ok()?)
}

/// What other tracing systems left in the headers, as one line.
pub(crate) fn state(headers: &HeaderMap) -> Option<String> {
    let lines = headers.get_all("tracestate").iter();
    let lines: Vec<&str> = lines.filter_map(|line| line.to_str().ok()).collect();
    (!lines.is_empty()).then(|| lines.join(","))
}

impl TraceContext {
    /// The context of a request: its own span under the client's, if that gave one.
    pub(crate) fn of(headers: &HeaderMap, request: RequestId) -> Self {
        let id = *request.as_bytes();
        let mut span = [0; 8];
        // The random half of the request's id.
        span.copy_from_slice(&id[8..]);
        match sent(headers) {
            Some((trace, parent, sampled)) => Self {
                trace,
                parent: Some(parent),
                span,
                sampled,
            },
            None => Self {
                trace: id,
                parent: None,
                span,
                sampled: true,
            },
        }
    }

    /// The context of a new span below the one that the headers name.
    pub(crate) fn below(headers: &HeaderMap) -> Option<Self> {
        let (trace, parent, sampled) = sent(headers)?;
        let mut span = [0; 8];
        getrandom::fill(&mut span).ok()?;
        Some(Self {
            trace,
            parent: Some(parent),
            span,
            sampled,
        })
    }

    /// The header for the agent.
    pub(crate) fn header(&self) -> Option<HeaderValue> {
        let (trace, span) = (
            u128::from_be_bytes(self.trace),
            u64::from_be_bytes(self.span),
        );
        HeaderValue::try_from(format!(
            "00-{trace:032x}-{span:016x}-{:02x}",
            u8::from(self.sampled)
        ))
        .ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with(value: &'static str) -> TraceContext {
        let mut headers = HeaderMap::new();
        headers.insert("traceparent", HeaderValue::from_static(value));
        TraceContext::of(&headers, RequestId::new())
    }

    #[test]
    fn a_trace_goes_on_with_a_new_span() {
        // The example of the recommendation.
        let context = with("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01");
        let header = context.header().unwrap();
        let text = header.to_str().unwrap();
        assert!(text.starts_with("00-4bf92f3577b34da6a3ce929d0e0e4736-") && text.ends_with("-01"));
        assert!(!text.contains("00f067aa0ba902b7"));
        assert_eq!(
            context.parent.map(u64::from_be_bytes),
            Some(0x00f0_67aa_0ba9_02b7)
        );
    }

    #[test]
    fn a_span_below_another_is_of_the_same_trace() {
        let request = with("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-00");
        let mut headers = HeaderMap::new();
        assert_eq!(TraceContext::below(&headers), None);
        headers.insert("traceparent", request.header().unwrap());
        let below = TraceContext::below(&headers).unwrap();
        assert_eq!(
            (below.trace, below.parent),
            (request.trace, Some(request.span))
        );
        assert!(below.span != request.span && !below.sampled);
    }

    #[test]
    fn what_is_malformed_begins_a_new_trace() {
        for value in [
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-extra",
            "00-00000000000000000000000000000000-00f067aa0ba902b7-01",
            "00-4BF92F3577B34DA6A3CE929D0E0E4736-00f067aa0ba902b7-01",
            "ff-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7",
            "nonsense",
        ] {
            assert_eq!(with(value).parent, None, "{value}");
        }
    }
}
