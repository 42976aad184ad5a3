//! Spans as OTLP writes them in JSON (<https://opentelemetry.io/docs/specs/otlp/#json-protobuf-encoding>):
//! identifiers in hexadecimal, 64-bit numbers as strings, enumerations as numbers.

use serde::Serialize;

use super::span::{Kind, Span, Value};

/// Flags of a span: the sampled bit, and that it is known whether the parent is of another process.
const FLAGS: u32 = 0x101;
/// The parent is of another process.
const REMOTE_PARENT: u32 = 0x200;
/// The status code of an error.
const ERROR: u8 = 2;

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Export<'a> {
    resource_spans: [ResourceSpans<'a>; 1],
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct ResourceSpans<'a> {
    resource: Resource<'a>,
    scope_spans: [ScopeSpans<'a>; 1],
}

#[derive(Serialize)]
struct Resource<'a> {
    attributes: Vec<KeyValue<'a>>,
}

#[derive(Serialize)]
struct ScopeSpans<'a> {
    scope: Scope,
    spans: Vec<Wire<'a>>,
}

#[derive(Serialize)]
struct Scope {
    name: &'static str,
    version: &'static str,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Wire<'a> {
    trace_id: String,
    span_id: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    parent_span_id: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    trace_state: Option<&'a str>,
    flags: u32,
    name: &'a str,
    kind: u8,
    start_time_unix_nano: String,
    end_time_unix_nano: String,
    attributes: Vec<KeyValue<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    status: Option<Status<'a>>,
}

#[derive(Serialize)]
struct Status<'a> {
    code: u8,
    #[serde(skip_serializing_if = "str::is_empty")]
    message: &'a str,
}

#[derive(Serialize)]
struct KeyValue<'a> {
    key: &'a str,
    value: AnyValue<'a>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
enum AnyValue<'a> {
    StringValue(&'a str),
    IntValue(String),
}

fn id(bytes: [u8; 8]) -> String {
    format!("{:016x}", u64::from_be_bytes(bytes))
}

impl<'a> From<&'a Span> for Wire<'a> {
    fn from(span: &'a Span) -> Self {
        let context = &span.context;
        let remote = span.kind == Kind::Server && context.parent.is_some();
        let attributes = span.attributes.iter().map(|(key, value)| KeyValue {
            key,
            value: match value {
                Value::Text(text) => AnyValue::StringValue(text),
                Value::Number(number) => AnyValue::IntValue(number.to_string()),
            },
        });
        Self {
            trace_id: format!("{:032x}", u128::from_be_bytes(context.trace)),
            span_id: id(context.span),
            parent_span_id: context.parent.map(id),
            trace_state: span.state.as_deref(),
            flags: FLAGS | if remote { REMOTE_PARENT } else { 0 },
            name: &span.name,
            kind: match span.kind {
                Kind::Server => 2,
                Kind::Client => 3,
            },
            start_time_unix_nano: span.began.as_nanos().to_string(),
            end_time_unix_nano: (span.began + span.took).as_nanos().to_string(),
            attributes: attributes.collect(),
            status: span.error.as_deref().map(|message| Status {
                code: ERROR,
                message,
            }),
        }
    }
}

/// An export of these spans.
pub(crate) fn encode(spans: &[Span]) -> Vec<u8> {
    let version = env!("CARGO_PKG_VERSION");
    let told = |key, text| KeyValue {
        key,
        value: AnyValue::StringValue(text),
    };
    let export = Export {
        resource_spans: [ResourceSpans {
            resource: Resource {
                attributes: vec![
                    told("service.name", "skep"),
                    told("service.version", version),
                ],
            },
            scope_spans: [ScopeSpans {
                scope: Scope {
                    name: "skep",
                    version,
                },
                spans: spans.iter().map(Wire::from).collect(),
            }],
        }],
    };
    // Strings and numbers can always be written.
    serde_json::to_vec(&export).unwrap_or_default()
}

/// How many spans of an export the collector did not take, as its answer says.
pub(crate) fn rejected(answer: &[u8]) -> u64 {
    let answer: serde_json::Value = serde_json::from_slice(answer).unwrap_or_default();
    let count = &answer["partialSuccess"]["rejectedSpans"];
    count
        .as_u64()
        .or_else(|| count.as_str()?.parse().ok())
        .unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use serde_json::json;

    use super::*;
    use crate::trace::TraceContext;

    #[test]
    fn a_span_is_written_as_the_specification_says() {
        let span = Span {
            context: TraceContext {
                trace: [0x0a; 16],
                parent: Some([1; 8]),
                span: [2; 8],
                sampled: true,
            },
            state: Some("a=1".to_owned()),
            kind: Kind::Server,
            name: "POST /agents/{agent}".to_owned(),
            began: Duration::new(1_700_000_000, 1),
            took: Duration::from_millis(2),
            attributes: vec![
                ("url.path", Value::Text("/agents/a/x".to_owned())),
                ("http.response.status_code", Value::Number(500)),
            ],
            error: Some(String::new()),
        };
        let written: serde_json::Value = serde_json::from_slice(&encode(&[span])).unwrap();
        let of = &written["resourceSpans"][0];
        assert_eq!(
            of["resource"]["attributes"][0],
            json!({ "key": "service.name", "value": { "stringValue": "skep" } })
        );
        assert_eq!(
            of["scopeSpans"][0]["spans"],
            json!([{
                "traceId": "0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a",
                "spanId": "0202020202020202",
                "parentSpanId": "0101010101010101",
                "traceState": "a=1",
                "flags": 0x301,
                "name": "POST /agents/{agent}",
                "kind": 2,
                "startTimeUnixNano": "1700000000000000001",
                "endTimeUnixNano": "1700000000002000001",
                "attributes": [
                    { "key": "url.path", "value": { "stringValue": "/agents/a/x" } },
                    { "key": "http.response.status_code", "value": { "intValue": "500" } },
                ],
                "status": { "code": 2 },
            }])
        );
    }

    #[test]
    fn what_a_collector_rejects_is_read() {
        for (answer, count) in [
            (r#"{"partialSuccess":{"rejectedSpans":"3"}}"#, 3),
            (r#"{"partialSuccess":{"rejectedSpans":3}}"#, 3),
            (r#"{"partialSuccess":{}}"#, 0),
            ("{}", 0),
            ("", 0),
        ] {
            assert_eq!(rejected(answer.as_bytes()), count, "{answer}");
        }
    }
}
