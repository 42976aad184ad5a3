//! Older names, and what some agents write instead of the schema's. Each becomes what it means today, before it is checked.
//!
//! What has no id is given an empty one: `Order` finds one for it.

use serde_json::{Map, Value, json};

use super::shape::{Malformed, is_type};

/// Translates an event; a type that nobody knows becomes `RAW`.
pub(super) fn translated(value: Value) -> Result<Value, Malformed> {
    let Value::Object(mut event) = value else {
        return Err(Malformed::missing("", "an event must be an object"));
    };
    let Some(told) = event.get("type").and_then(Value::as_str) else {
        return Err(Malformed::missing(
            "type",
            "it is missing; it must be a text",
        ));
    };
    let mut name = told.to_owned();
    if !is_type(&name) {
        // Some write the names of classes, or in small letters.
        let plain: String = name.chars().filter(char::is_ascii_alphanumeric).collect();
        let plain = plain.to_ascii_uppercase();
        let plain = plain.strip_suffix("EVENT").unwrap_or(&plain);
        match current(plain) {
            Some(current) => current.clone_into(&mut name),
            None => return Ok(json!({"type": "RAW", "event": event})),
        }
    }
    repaired(&name, &mut event);
    event.insert("type".to_owned(), name.into());
    Ok(Value::Object(event))
}

/// The name of today for one without underscores.
fn current(plain: &str) -> Option<&'static str> {
    Some(match plain {
        "THINKINGSTART" => "REASONING_START",
        "THINKINGEND" => "REASONING_END",
        "THINKINGTEXTMESSAGESTART" => "REASONING_MESSAGE_START",
        "THINKINGTEXTMESSAGECONTENT" => "REASONING_MESSAGE_CONTENT",
        "THINKINGTEXTMESSAGEEND" => "REASONING_MESSAGE_END",
        "THOUGHTCHUNK" | "THINKINGCHUNK" | "THINKINGTEXTMESSAGECHUNK" => "REASONING_MESSAGE_CHUNK",
        "ERROR" => "RUN_ERROR",
        _ => {
            let is_it = |name: &&str| name.bytes().filter(|it| *it != b'_').eq(plain.bytes());
            super::shape::types().find(is_it)?
        }
    })
}

fn first<'a>(event: &'a Map<String, Value>, names: &[&str]) -> Option<&'a Value> {
    let mut found = names.iter().filter_map(|name| event.get(*name));
    found.find(|value| !value.is_null())
}

/// Gives an event what it needs and did not say in these words.
fn repaired(name: &str, event: &mut Map<String, Value>) {
    let has = |event: &Map<String, Value>, names: &[&str]| first(event, names).is_some();
    if name.starts_with("REASONING_")
        && !name.ends_with("_CHUNK")
        && !name.ends_with("_VALUE")
        && !has(event, &["messageId", "message_id"])
    {
        event.insert("messageId".to_owned(), "".into());
    }
    match name {
        // Its role was another once.
        "REASONING_MESSAGE_START" => {
            event.insert("role".to_owned(), "reasoning".into());
        }
        "REASONING_MESSAGE_CHUNK" if !has(event, &["delta"]) => {
            let text = first(event, &["content", "thought", "text"]).cloned();
            event.extend(text.map(|text| ("delta".to_owned(), text)));
        }
        "RUN_ERROR" if !event.get("message").is_some_and(Value::is_string) => {
            let told = first(event, &["error", "message", "detail"]);
            let text = told.map_or_else(|| "the agent failed".into(), message);
            event.insert("message".to_owned(), text);
        }
        "TOOL_CALL_RESULT" => {
            if !has(event, &["messageId", "message_id"]) {
                event.insert("messageId".to_owned(), "".into());
            }
            let told = first(event, &["content", "result", "output"]);
            let is_part = |part: &Value| part.get("type").is_some_and(Value::is_string);
            let content = match told {
                Some(Value::Array(parts)) if parts.iter().all(is_part) => parts.clone().into(),
                Some(Value::String(text)) => text.clone().into(),
                Some(other) => other.to_string().into(),
                None => Value::from(""),
            };
            event.insert("content".to_owned(), content);
        }
        "RUN_STARTED" | "RUN_FINISHED" => {
            // They are replaced by ours.
            for (camel, snake) in [("threadId", "thread_id"), ("runId", "run_id")] {
                if !first(event, &[camel, snake]).is_some_and(Value::is_string) {
                    event.insert(camel.to_owned(), "".into());
                }
            }
        }
        _ => {}
    }
}

/// The message of an error, wherever it stands.
fn message(told: &Value) -> Value {
    let inner = told.get("message").filter(|it| it.is_string());
    match inner.unwrap_or(told) {
        Value::String(text) => text.clone().into(),
        other => other.to_string().into(),
    }
}
