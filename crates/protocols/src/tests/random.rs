//! Events of any sort, with ids and owners from small sets so that they meet.

use proptest::prelude::*;
use serde_json::{Value, json};

use crate::agui::{Event, RunAgentInput};

fn id() -> impl Strategy<Value = &'static str> {
    prop::sample::select(vec!["", "a", "b", "c", "h1", "h2"])
}

fn owner() -> impl Strategy<Value = Option<&'static str>> {
    prop::sample::select(vec![None, None, None, Some("s1"), Some("s2")])
}

fn text() -> impl Strategy<Value = &'static str> {
    prop::sample::select(vec!["", "x", "yz", "\u{f6}"])
}

/// A patch that applies now and then.
fn patch() -> impl Strategy<Value = Value> {
    let one = prop::sample::select(vec![
        json!({"op": "add", "path": "/k", "value": 1}),
        json!({"op": "add", "path": "", "value": {"k": [1]}}),
        json!({"op": "add", "path": "/k/-", "value": "v"}),
        json!({"op": "remove", "path": "/k"}),
        json!({"op": "replace", "path": "/k", "value": null}),
        json!({"op": "move", "from": "/k", "path": "/l"}),
        json!({"op": "copy", "from": "/k", "path": "/l"}),
        json!({"op": "test", "path": "/k", "value": 1}),
    ]);
    prop::collection::vec(one, 0..3).prop_map(Value::Array)
}

/// One message of a snapshot.
fn message() -> impl Strategy<Value = Value> {
    let roles = vec![
        "user",
        "assistant",
        "tool",
        "activity",
        "reasoning",
        "system",
    ];
    (prop::sample::select(roles), id(), id(), owner(), text()).prop_map(
        |(role, id, call, owner, text)| {
            let mut message =
                json!({"id": id, "role": role, "content": text, "subagentRunId": owner});
            match role {
                "assistant" => {
                    let function = json!({"name": "t", "arguments": "{}"});
                    message["toolCalls"] =
                        json!([{"id": call, "type": "function", "function": function}]);
                }
                "tool" => message["toolCallId"] = call.into(),
                "activity" => {
                    message["activityType"] = "plan".into();
                    message["content"] = json!({"k": 1});
                }
                _ => {}
            }
            message
        },
    )
}

/// Types that have an id of a message and nothing else that is needed, or a delta.
const WITH_MESSAGE: [&str; 9] = [
    "TEXT_MESSAGE_START",
    "TEXT_MESSAGE_CONTENT",
    "TEXT_MESSAGE_END",
    "REASONING_START",
    "REASONING_MESSAGE_START",
    "REASONING_MESSAGE_CONTENT",
    "REASONING_MESSAGE_END",
    "REASONING_END",
    "TOOL_CALL_RESULT",
];
const OF_CALLS: [&str; 4] = [
    "TOOL_CALL_START",
    "TOOL_CALL_ARGS",
    "TOOL_CALL_END",
    "TOOL_CALL_CHUNK",
];
const OTHERS: [&str; 13] = [
    "TEXT_MESSAGE_CHUNK",
    "REASONING_MESSAGE_CHUNK",
    "STEP_STARTED",
    "STEP_FINISHED",
    "SUBAGENT_STARTED",
    "SUBAGENT_FINISHED",
    "SUBAGENT_ERROR",
    "RUN_STARTED",
    "REASONING_ENCRYPTED_VALUE",
    "STATE_SNAPSHOT",
    "RAW",
    "CUSTOM",
    "SOMETHING_ELSE",
];

fn fields(kind: &'static str) -> impl Strategy<Value = Value> {
    let metadata = prop::sample::select(vec![Value::Null, Value::Null, json!({"m": 1})]);
    let word = prop::sample::select(vec!["tool-call", "message"]);
    (id(), id(), owner(), text(), metadata, word, patch(), any::<bool>()).prop_map(
        move |(id, other, owner, text, metadata, word, patch, flag)| {
            // What an event has no place for is dropped when it is read.
            let mut event = json!({
                "type": kind, "messageId": id, "toolCallId": other, "subagentRunId": owner, "delta": text,
                "toolCallName": "t", "parentMessageId": id, "stepName": text, "name": "n", "content": text,
                "parentSubagentRunId": owner, "message": text, "entityId": id, "encryptedValue": "e",
                "subtype": word, "snapshot": {"k": text}, "value": text, "event": text, "threadId": "other",
                "runId": "other", "metadata": metadata, "replace": flag, "activityType": "plan",
            });
            if kind.starts_with("ACTIVITY") {
                event["content"] = json!({"k": text});
                event["patch"] = patch.clone();
            }
            if kind == "STATE_DELTA" {
                event["delta"] = patch;
            }
            if kind.starts_with("SUBAGENT") {
                event["subagentRunId"] = id.into();
            }
            if kind.ends_with("CHUNK") && flag {
                event["messageId"] = Value::Null;
                event["toolCallId"] = Value::Null;
            }
            if flag {
                event["parentMessageId"] = Value::Null;
            }
            event
        },
    )
}

fn value() -> impl Strategy<Value = Value> {
    let kinds = [&WITH_MESSAGE[..], &OF_CALLS, &OTHERS];
    let kinds = kinds.concat();
    let others = vec!["STATE_DELTA", "ACTIVITY_SNAPSHOT", "ACTIVITY_DELTA"];
    let any = prop::sample::select([kinds, others].concat()).prop_flat_map(fields);
    let snapshot = prop::collection::vec(message(), 0..4)
        .prop_map(|messages| json!({"type": "MESSAGES_SNAPSHOT", "messages": messages}));
    let ends = prop::sample::select(vec![
        json!({"type": "RUN_FINISHED", "threadId": "other", "runId": "other", "result": {"a": 1}}),
        json!({"type": "RUN_FINISHED", "outcome": {"type": "interrupt", "interrupts": [
            {"id": "i1", "reason": "approval"}]}}),
        json!({"type": "RUN_FINISHED", "outcome": {"type": "cancelled"}}),
        json!({"type": "RUN_ERROR", "message": "no \u{1b}[31mgood", "code": "c"}),
    ]);
    prop_oneof![60 => any, 3 => snapshot, 1 => ends]
}

/// Any sequence of events, as they are read.
pub(super) fn events() -> impl Strategy<Value = Vec<Event>> {
    let read =
        |value: Value| Event::read(value.clone()).unwrap_or_else(|err| panic!("{value}: {err}"));
    prop::collection::vec(value().prop_map(read), 0..60)
}

/// A conversation that has begun before.
pub(super) fn input() -> RunAgentInput {
    RunAgentInput::read(json!({
        "threadId": "thread", "runId": "run", "state": {"k": 0},
        "messages": [
            {"id": "h1", "role": "user", "content": "hello"},
            {"id": "h2", "role": "assistant", "toolCalls": [
                {"id": "h2", "type": "function", "function": {"name": "t", "arguments": "{}"}}]},
        ],
    }))
    .unwrap()
}
