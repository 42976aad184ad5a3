//! Responses of `OpenAI`, whole and as a stream of events.

use std::collections::HashSet;

use serde_json::Value;

use super::chat::read_usage;
use super::voice::Voice;

/// Items of a response that are told apart.
const MOST_ITEMS: usize = 4096;

/// Reads a response.
#[derive(Debug, Default)]
pub(super) struct Reader {
    /// Items of which a part has been told.
    told: HashSet<String>,
    began: bool,
    is_complete: bool,
}

fn text<'a>(value: &'a Value, name: &str) -> &'a str {
    value.get(name).and_then(Value::as_str).unwrap_or_default()
}

impl Reader {
    /// Whether it came to its end.
    pub(super) fn is_complete(&self) -> bool {
        self.is_complete
    }

    /// Whether it began and did not come to its end.
    pub(super) fn is_cut(&self) -> bool {
        self.began && !self.is_complete
    }

    /// Reads a response or an event of one, and what it says of a failure; none, when it is neither.
    pub(super) fn read(&mut self, value: &Value, voice: &mut Voice) -> Option<Result<(), String>> {
        let kind = text(value, "type");
        if text(value, "object") == "response" {
            self.began = true;
            return Some(self.whole(value, voice));
        }
        if kind == "error" && (self.began || value.get("sequence_number").is_some()) {
            let inner = value.get("error").unwrap_or(value);
            return Some(Err(message(inner)));
        }
        let event = kind.strip_prefix("response.")?;
        self.began = true;
        Some(self.event(event, value, voice))
    }

    fn event(&mut self, event: &str, value: &Value, voice: &mut Voice) -> Result<(), String> {
        let item = || {
            let item = text(value, "item_id");
            match item.is_empty() {
                false => item.to_owned(),
                // Some leave it out.
                true => {
                    let index = value.get("output_index").and_then(Value::as_u64);
                    format!("#{}", index.unwrap_or(0))
                }
            }
        };
        match event {
            "output_text.delta" | "refusal.delta" => {
                self.tell(item());
                voice.text(text(value, "delta"));
            }
            "reasoning_summary_text.delta" | "reasoning_text.delta" => {
                self.tell(item());
                voice.thought(text(value, "delta"));
            }
            "reasoning_summary_part.added" => voice.pause(),
            "function_call_arguments.delta" => {
                let key = item();
                voice.arguments(&key, text(value, "delta"));
                self.tell(key);
            }
            "output_item.added" => {
                if let Some(item) = value.get("item") {
                    begin(item, value, voice);
                }
            }
            "output_item.done" => {
                if let Some(item) = value.get("item") {
                    self.item(item, value, voice);
                }
            }
            "completed" | "incomplete" | "failed" | "cancelled" => {
                if let Some(response) = value.get("response") {
                    return self.end(response, voice);
                }
                self.is_complete = true;
            }
            _ => {}
        }
        Ok(())
    }

    fn tell(&mut self, item: String) {
        if self.told.len() < MOST_ITEMS {
            self.told.insert(item);
        }
    }

    /// An item as a whole: what was told of it in pieces is not told again.
    fn item(&mut self, item: &Value, event: &Value, voice: &mut Voice) {
        let key = key(item, event);
        let is_told = self.told.remove(&key);
        match text(item, "type") {
            "function_call" => {
                if voice.called(&key).is_none() {
                    begin(item, event, voice);
                }
                if !is_told {
                    voice.arguments(&key, text(item, "arguments"));
                }
                voice.called_out(&key);
            }
            "message" => {
                if !is_told {
                    let content = item.get("content").and_then(Value::as_array);
                    for part in content.into_iter().flatten() {
                        voice.text(text(part, "text"));
                        voice.text(text(part, "refusal"));
                    }
                }
                voice.pause();
            }
            "reasoning" => {
                for name in ["summary", "content"] {
                    let parts = item.get(name).and_then(Value::as_array);
                    for part in parts.into_iter().flatten().filter(|_| !is_told) {
                        voice.thought(text(part, "text"));
                    }
                }
                voice.pause();
            }
            _ => {}
        }
    }

    fn whole(&mut self, response: &Value, voice: &mut Voice) -> Result<(), String> {
        let items = response.get("output").and_then(Value::as_array);
        for (at, item) in items.into_iter().flatten().enumerate() {
            self.item(item, &serde_json::json!({"output_index": at}), voice);
        }
        self.end(response, voice)
    }

    fn end(&mut self, response: &Value, voice: &mut Voice) -> Result<(), String> {
        self.is_complete = true;
        if let Some(usage) = response.get("usage").filter(|it| it.is_object()) {
            let model = response.get("model").and_then(Value::as_str);
            let names = ["input_tokens", "output_tokens"];
            let details = ["input_tokens_details", "output_tokens_details"];
            voice.usage(read_usage(usage, model, names, details));
        }
        let error = response.get("error").filter(|it| !it.is_null());
        match (error, text(response, "status")) {
            (Some(error), _) => Err(message(error)),
            (None, "failed") => Err("the response failed".to_owned()),
            (None, "cancelled") => Err("the response was cancelled".to_owned()),
            _ => Ok(()),
        }
    }
}

/// What an item is called.
fn key(item: &Value, event: &Value) -> String {
    let id = text(item, "id");
    match id.is_empty() {
        false => id.to_owned(),
        true => {
            let index = event.get("output_index").and_then(Value::as_u64);
            format!("#{}", index.unwrap_or(0))
        }
    }
}

/// Begins a call.
fn begin(item: &Value, event: &Value, voice: &mut Voice) {
    if text(item, "type") == "function_call" {
        let id = item.get("call_id").and_then(Value::as_str);
        voice.call(&key(item, event), id, text(item, "name"));
    }
}

fn message(error: &Value) -> String {
    match text(error, "message") {
        "" => "the response failed".to_owned(),
        message => message.to_owned(),
    }
}
