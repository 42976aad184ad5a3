//! Reading and writing events and requests.

use serde_json::{Map, Value, json};

use crate::agui::{Body, Content, Event, RunAgentInput, Said};

#[test]
fn an_event_is_written_as_it_was_read_without_what_nobody_knows() {
    for (read, written) in [
        (
            json!({"type": "TEXT_MESSAGE_START", "messageId": "m", "role": null, "extra": 1, "timestamp": 5}),
            json!({"type": "TEXT_MESSAGE_START", "messageId": "m", "timestamp": 5}),
        ),
        (
            json!({"type": "STATE_SNAPSHOT", "snapshot": null, "rawEvent": null}),
            json!({"type": "STATE_SNAPSHOT", "snapshot": null}),
        ),
        (
            json!({"type": "CUSTOM", "name": "n", "value": {"deep": [null, {"any": 1}]}, "metadata": {"k": null}}),
            json!({"type": "CUSTOM", "name": "n", "value": {"deep": [null, {"any": 1}]}, "metadata": {"k": null}}),
        ),
        (
            json!({"type": "STATE_DELTA", "delta": [{"op": "add", "path": "/a", "value": null}]}),
            json!({"type": "STATE_DELTA", "delta": [{"op": "add", "path": "/a", "value": null}]}),
        ),
        (
            json!({"type": "SUBAGENT_FINISHED", "subagentRunId": "s", "outcome": {"type": "suspended", "interruptIds": ["i"]}}),
            json!({"type": "SUBAGENT_FINISHED", "subagentRunId": "s", "outcome": {"type": "suspended", "interruptIds": ["i"]}}),
        ),
        (
            json!({"type": "TOOL_CALL_RESULT", "messageId": "m", "toolCallId": "c", "role": "tool", "content": [
                {"type": "image", "source": {"type": "url", "value": "https://x", "mimeType": "image/png"}}, {"type": "text", "text": "t"}]}),
            json!({"type": "TOOL_CALL_RESULT", "messageId": "m", "toolCallId": "c", "role": "tool", "content": [
                {"type": "image", "source": {"type": "url", "value": "https://x", "mimeType": "image/png"}}, {"type": "text", "text": "t"}]}),
        ),
    ] {
        let event = Event::strict(read.clone()).unwrap();
        assert_eq!(serde_json::to_value(&event).unwrap(), written);
        assert_eq!(Event::read(read).unwrap(), event);
        let again: Event = serde_json::from_str(&event.to_json()).unwrap();
        assert_eq!(again, event);
    }
}

#[test]
fn what_is_wrong_is_named() {
    for (value, why) in [
        (
            json!({"type": "TEXT_MESSAGE_END"}),
            "messageId: it is missing; it must be a text",
        ),
        (
            json!({"type": "NOT_KNOWN"}),
            "type: it must be the type of an event",
        ),
        (
            json!({"type": "STATE_DELTA", "delta": [{"op": "add", "path": "a", "value": 1}]}),
            "delta[0].path: it must be a JSON pointer, as /a/b",
        ),
        (
            json!({"type": "MESSAGES_SNAPSHOT", "messages": [{"id": "1", "role": "user", "content": ""}, {"id": "2", "role": "robot"}]}),
            "messages[1].role: it must be one of: developer, system, assistant, user, tool, activity, reasoning",
        ),
        (json!([]), "the value: it must be an object"),
    ] {
        assert_eq!(Event::strict(value).unwrap_err().to_string(), why);
    }
    for (value, why) in [
        (
            json!({"threadId": "t", "runId": 5, "messages": []}),
            "runId: it must be a text",
        ),
        (
            json!({"threadId": "t", "runId": "r"}),
            "messages: it is missing; it must be a list",
        ),
        (
            json!({"threadId": "t", "runId": "r", "messages": [{"id": "1", "role": "user", "content": [
                {"type": "image", "source": {"type": "url"}}]}]}),
            "messages[0].content[0].source.value: it is missing; it must be a text",
        ),
        (
            json!({"threadId": "t", "runId": "r", "messages": [], "resume": [{"interruptId": "i", "status": "maybe"}]}),
            "resume[0].status: it must be one of: resolved, cancelled",
        ),
        (
            json!({"threadId": "t", "runId": "r", "messages": [], "tools": [{"name": "x"}]}),
            "tools[0].description: it is missing; it must be a text",
        ),
    ] {
        assert_eq!(RunAgentInput::read(value).unwrap_err().to_string(), why);
    }
}

#[test]
fn agents_are_read_leniently() {
    let event = Event::read(json!({"type": "MESSAGES_SNAPSHOT", "messages": [
        {"id": "1", "role": "assistant", "content": null, "tool_calls": [
            {"id": "c", "type": "function", "function": {"name": "t", "arguments": ""}}]},
        {"id": "2", "role": "hologram", "content": ""},
        {"id": "3", "role": "user", "content": [{"type": "smell"}, {"type": "text", "text": "t"}], "name": 5},
    ]}));
    let Body::MessagesSnapshot { messages } = event.unwrap().body else {
        panic!("another event");
    };
    assert_eq!(messages[0].tool_calls().len(), 1);
    let said = &messages[1].said;
    assert!(
        matches!(said, Said::User { content: Content::Parts(parts), name: None } if parts.len() == 1)
    );
    let unknown = Event::read(json!({"type": "NEW_THING", "a": 1})).unwrap();
    assert_eq!(
        unknown.body,
        Body::Raw {
            event: json!({"type": "NEW_THING", "a": 1}),
            source: None
        }
    );
    let named = Event::read(json!({"type": "TextMessageEndEvent", "message_id": "m"})).unwrap();
    assert_eq!(
        named.body,
        Body::TextMessageEnd {
            message_id: "m".to_owned()
        }
    );
    for wrong in [
        json!({"type": "TOOL_CALL_ARGS", "toolCallId": "c"}),
        json!(5),
        json!({"a": 1}),
    ] {
        assert!(Event::read(wrong).is_err());
    }
}

#[test]
fn a_request_is_read_and_written() {
    let whole = json!({
        "threadId": "t", "runId": "r", "protocolVersion": "1.0", "parentRunId": "p", "state": [1],
        "messages": [{"id": "1", "role": "user", "content": "hi", "name": "Ann"}],
        "tools": [{"name": "x", "description": "", "parameters": {"type": "object"}}],
        "context": [{"description": "d", "value": "v"}], "forwardedProps": {"a": null},
        "resume": [{"interruptId": "i", "status": "resolved", "payload": true}],
    });
    let input = RunAgentInput::read(whole.clone()).unwrap();
    assert_eq!(input.prompt().as_deref(), Some("hi"));
    assert_eq!(serde_json::to_value(&input).unwrap(), whole);
    let least = json!({"threadId": "t", "runId": "r", "messages": [], "state": null, "extra": 1});
    let least = serde_json::to_value(RunAgentInput::read(least).unwrap()).unwrap();
    assert_eq!(
        least,
        json!({"threadId": "t", "runId": "r", "messages": [], "tools": [], "context": []})
    );
}

/// Each of the 31 events with all of its fields, as the official SDK for Python (1.0.0) writes it.
const ALL: &str = include_str!("all.jsonl");

#[test]
fn all_events_are_read_and_written_as_the_official_sdk_does() {
    let mut types = std::collections::BTreeSet::new();
    for line in ALL.lines() {
        let told: Value = serde_json::from_str(line).unwrap();
        let event = Event::strict(told.clone()).unwrap();
        types.insert(told["type"].as_str().unwrap().to_owned());
        // What is optional and empty is left out.
        let mut wanted = told.clone();
        if let Some(input) = wanted.get_mut("input") {
            input
                .as_object_mut()
                .unwrap()
                .retain(|_, value| !value.is_null());
        }
        assert_eq!(serde_json::to_value(&event).unwrap(), wanted);
        let snake = |name: &str| {
            let each = name.chars().map(|it| match it.is_uppercase() {
                true => format!("_{}", it.to_lowercase()),
                false => it.to_string(),
            });
            each.collect::<String>()
        };
        let spelled = told.as_object().unwrap().iter();
        let spelled: Map<_, _> = spelled.map(|(key, it)| (snake(key), it.clone())).collect();
        assert_eq!(Event::read(spelled.into()), Ok(event));
    }
    assert_eq!(types.len(), 31);
}
