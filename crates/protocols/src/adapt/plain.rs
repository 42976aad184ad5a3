//! JSON of anybody's making: where its text is, and whether it tells of an error.

use serde_json::Value;

/// Where a text is looked for, in this order.
const KEYS: [&str; 10] = [
    "output",
    "text",
    "content",
    "message",
    "response",
    "result",
    "answer",
    "delta",
    "reply",
    "completion",
];
/// How deep it is looked for.
const MOST_DEPTH: usize = 6;

/// The text of a value; none, when nothing in it looks like one.
pub(super) fn text(value: &Value) -> Option<String> {
    at(value, MOST_DEPTH)
}

fn at(value: &Value, depth: usize) -> Option<String> {
    let deeper = depth.checked_sub(1)?;
    match value {
        Value::String(text) => Some(text.clone()),
        Value::Array(parts) => {
            // Parts of one content, not a list of anything.
            let is_part = |part: &Value| part.is_string() || part.get("text").is_some();
            if parts.is_empty() || !parts.iter().all(is_part) {
                return None;
            }
            parts.iter().map(|part| at(part, deeper)).collect()
        }
        Value::Object(object) => {
            let mut there = KEYS.iter().filter_map(|key| object.get(*key));
            there.find_map(|value| at(value, deeper))
        }
        _ => None,
    }
}

/// What an error says that a value tells of.
pub(super) fn error(value: &Value) -> Option<String> {
    let told = value.get("error").filter(|it| !it.is_null());
    let detail = || {
        value
            .get("detail")
            .filter(|_| value.as_object().is_some_and(|it| it.len() == 1))
    };
    let told = told.or_else(detail)?;
    match told {
        Value::Bool(false) => None,
        Value::String(text) if text.is_empty() => None,
        Value::Object(object) => match object.get("message").and_then(Value::as_str) {
            Some(text) => Some(text.to_owned()),
            None => Some(told.to_string()),
        },
        Value::String(text) => {
            let message = value.get("message").and_then(Value::as_str);
            Some(message.map_or_else(|| text.clone(), |it| format!("{it}: {text}")))
        }
        other => Some(other.to_string()),
    }
}
