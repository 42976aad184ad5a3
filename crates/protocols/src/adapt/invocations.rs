//! Events that agents stream on Bedrock `AgentCore`: those of its Converse API, as Strands hands them through, beside which its
//! own say the same again. What its SDK cannot write as JSON it writes as a text, as Python shows it.

use serde_json::Value;

use super::voice::Voice;

/// Reads events of the Converse API.
#[derive(Debug, Default)]
pub(super) struct Reader {
    /// They have come: what else is said is said twice.
    began: bool,
}

impl Reader {
    /// Reads an event; whether it was one, or says again what one has said.
    pub(super) fn read(&mut self, value: &Value, voice: &mut Voice) -> bool {
        let is_shown = |it: &str| it.starts_with("{'") && it.ends_with('}');
        if value.as_str().is_some_and(is_shown) {
            return true;
        }
        let event = value.get("event").filter(|it| it.is_object());
        let Some(event) = event else {
            if let Some(text) = value.get("data").and_then(Value::as_str) {
                if !self.began {
                    voice.text(text);
                }
                return true;
            }
            return self.began;
        };
        let at = |name: &str| event.get(name);
        if let Some(began) = at("contentBlockStart") {
            self.began = true;
            voice.pause();
            if let Some(tool) = began.pointer("/start/toolUse") {
                let text = |name: &str| tool.get(name).and_then(Value::as_str);
                voice.call(
                    &key(began),
                    text("toolUseId"),
                    text("name").unwrap_or_default(),
                );
            }
            return true;
        }
        if let Some(block) = at("contentBlockDelta") {
            self.began = true;
            let text = |path: &str| block.pointer(path).and_then(Value::as_str);
            voice.text(text("/delta/text").unwrap_or_default());
            voice.thought(text("/delta/reasoningContent/text").unwrap_or_default());
            voice.arguments(
                &key(block),
                text("/delta/toolUse/input").unwrap_or_default(),
            );
            return true;
        }
        if let Some(block) = at("contentBlockStop") {
            voice.called_out(&key(block));
            return true;
        }
        if at("messageStop").is_some() {
            voice.pause();
        }
        let names = ["messageStart", "messageStop", "metadata"];
        self.began |= names.iter().any(|name| at(name).is_some());
        self.began
    }
}

/// Which block of a message it is.
fn key(block: &Value) -> String {
    let index = block.get("contentBlockIndex").and_then(Value::as_u64);
    index.unwrap_or(0).to_string()
}
