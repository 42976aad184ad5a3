//! Chat completions of `OpenAI`, whole and in chunks.

use serde_json::Value;

use super::voice::Voice;
use crate::agui::TokenUsage;

/// The greatest count that JSON numbers hold everywhere.
const MOST_COUNT: u64 = (1 << 53) - 1;

/// Reads a completion or a chunk of one; whether it is one.
pub(super) fn read(value: &Value, voice: &mut Voice) -> bool {
    let Some(choices) = value.get("choices").and_then(Value::as_array) else {
        return false;
    };
    if let Some(choice) = choices.first() {
        let said = choice.get("delta").or_else(|| choice.get("message"));
        if let Some(said) = said {
            read_message(said, voice);
        } else if let Some(text) = choice.get("text").and_then(Value::as_str) {
            voice.text(text);
        }
        if choice.get("finish_reason").is_some_and(Value::is_string) {
            voice.pause();
            voice.all_called_out();
        }
    }
    let model = value.get("model").and_then(Value::as_str);
    let usage = value.get("usage").filter(|it| it.is_object());
    if let Some(usage) = usage {
        let names = ["prompt_tokens", "completion_tokens"];
        let details = ["prompt_tokens_details", "completion_tokens_details"];
        voice.usage(read_usage(usage, model, names, details));
    }
    true
}

fn read_message(said: &Value, voice: &mut Voice) {
    let text = |name: &str| said.get(name).and_then(Value::as_str);
    let thought = text("reasoning_content").or_else(|| text("reasoning"));
    voice.thought(thought.unwrap_or_default());
    if let Some(content) = said.get("content").and_then(super::plain::text) {
        voice.text(&content);
    }
    voice.text(text("refusal").unwrap_or_default());
    let calls = said.get("tool_calls").and_then(Value::as_array);
    for (at, call) in calls.into_iter().flatten().enumerate() {
        read_call(at, call, voice);
    }
}

fn read_call(at: usize, call: &Value, voice: &mut Voice) {
    let index = call.get("index").and_then(Value::as_u64);
    let key = index.unwrap_or(at as u64).to_string();
    let id = call.get("id").and_then(Value::as_str);
    let id = id.filter(|it| !it.is_empty());
    let function = call.get("function");
    let text = |name: &str| function.and_then(|it| it.get(name)).and_then(Value::as_str);
    let known = voice.called(&key);
    // Some say the name with each chunk, and some begin another call at the same index.
    let is_new = match known {
        None => true,
        Some(known) => id.is_some_and(|id| id != known),
    };
    let name = text("name").filter(|it| !it.is_empty());
    if let Some(name) = name.filter(|_| is_new) {
        voice.called_out(&key);
        voice.call(&key, id, name);
    }
    voice.arguments(&key, text("arguments").unwrap_or_default());
}

/// Usage as chat and responses tell it: names of input and output, and of their details.
pub(super) fn read_usage(
    usage: &Value,
    model: Option<&str>,
    [input, output]: [&str; 2],
    [of_input, of_output]: [&str; 2],
) -> TokenUsage {
    let count = |value: Option<&Value>| {
        let count = value.and_then(Value::as_u64);
        count.filter(|it| *it <= MOST_COUNT)
    };
    let detail = |of: &str, name: &str| count(usage.get(of).and_then(|it| it.get(name)));
    TokenUsage {
        provider: None,
        model: model.map(|it| it.chars().take(256).collect()),
        input_tokens: count(usage.get(input)),
        output_tokens: count(usage.get(output)),
        total_tokens: count(usage.get("total_tokens")),
        reasoning_tokens: detail(of_output, "reasoning_tokens"),
        cached_input_tokens: detail(of_input, "cached_tokens"),
        cache_write_input_tokens: None,
    }
}
