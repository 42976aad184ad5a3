//! What an answer says and what it is said to have cost, the same in every dialect.
//!
//! Input tokens are a quarter of the bytes of all texts of the request, rounded up, and one at least. Output tokens
//! are the pieces of the answer, each of which ends after a space and is one delta of a stream; a call of a tool has
//! five.

use serde_json::{Map, Value, json};

use super::script::Script;

/// What every tool is called with.
pub(crate) const ARGUMENTS: &str = r#"{"city":"Paris"}"#;
/// The pieces it comes in.
pub(crate) const PIECES: [&str; 5] = ["{\"", "city", "\":\"", "Paris", "\"}"];
/// How deep a schema may go.
const MOST_DEPTH: usize = 8;

/// What a request says, read by its dialect.
#[derive(Default)]
pub(crate) struct Talk<'a> {
    /// All texts of it.
    pub(crate) texts: Vec<&'a str>,
    /// The last text of the user, or what a tool answered after it.
    pub(crate) last: Vec<&'a str>,
    /// The last word is a tool's.
    pub(crate) after_tool: bool,
    /// The answer must be JSON; of this schema, unless it is null.
    pub(crate) schema: Option<&'a Value>,
    /// The most tokens the answer may have.
    pub(crate) limit: Option<usize>,
}

/// Every text in a message's content, whatever dialect it is of.
pub(crate) fn texts<'a>(content: &'a Value, found: &mut Vec<&'a str>) {
    match content {
        Value::String(text) => found.push(text),
        Value::Array(parts) => parts.iter().for_each(|part| texts(part, found)),
        Value::Object(part) => {
            for name in ["text", "content", "output", "parts"] {
                if let Some(inner) = part.get(name) {
                    texts(inner, found);
                }
            }
            let answer = part
                .get("functionResponse")
                .or(part.get("function_response"));
            if let Some(answer) = answer.and_then(|it| it.get("response")?.as_object()) {
                answer.values().for_each(|value| texts(value, found));
            }
        }
        _ => {}
    }
}

/// What is told to have been used.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Usage {
    /// All input tokens.
    pub(crate) prompt: u64,
    /// Those of them that were in the cache.
    pub(crate) cached: u64,
    /// Those of them that were put into it.
    pub(crate) written: u64,
    /// Words of the answer.
    pub(crate) said: u64,
    /// Words of the thoughts.
    pub(crate) thought: u64,
    lie: Option<u64>,
}

impl Usage {
    /// Output tokens with the thoughts, of so many answers.
    pub(crate) fn output(&self, answers: u64) -> u64 {
        self.lie.unwrap_or(self.said * answers + self.thought)
    }

    /// Output tokens without the thoughts.
    pub(crate) fn answer(&self) -> u64 {
        self.lie.unwrap_or(self.said)
    }
}

/// An answer.
pub(crate) struct Plan {
    /// What it does as it is sent.
    pub(crate) script: Script,
    /// What it says.
    pub(crate) text: String,
    /// The tool that is called instead.
    pub(crate) tool: Option<String>,
    /// It ended because it may not be longer.
    pub(crate) short: bool,
    /// What it cost.
    pub(crate) usage: Usage,
}

impl Plan {
    /// What is answered to this.
    pub(crate) fn new(script: Script, talk: &Talk<'_>) -> Self {
        let tool = script.tool.clone().filter(|_| !talk.after_tool);
        let mut text = said(&script, talk);
        let mut short = false;
        let mut count = text.split_inclusive(' ').count();
        if let Some(limit) = talk.limit.filter(|limit| *limit < count && tool.is_none()) {
            text = text.split_inclusive(' ').take(limit).collect();
            (count, short) = (limit, true);
        }
        if tool.is_some() {
            count = script.tokens.unwrap_or(PIECES.len());
        }
        let bytes: usize = talk.texts.iter().map(|text| text.len()).sum();
        let prompt = script.prompt.unwrap_or((bytes.div_ceil(4)).max(1) as u64);
        let usage = Usage {
            prompt: prompt.max(script.cached.saturating_add(script.written)),
            cached: script.cached,
            written: script.written,
            said: count as u64,
            thought: script.think as u64,
            lie: script.lie,
        };
        Self {
            script,
            text,
            tool,
            short,
            usage,
        }
    }

    /// The text as deltas.
    pub(crate) fn pieces(&self) -> impl Iterator<Item = &str> {
        self.text.split_inclusive(' ')
    }

    /// What it thinks, as deltas.
    pub(crate) fn thoughts(&self) -> impl Iterator<Item = String> {
        (1..=self.script.think).map(|count| format!("thought-{count} "))
    }
}

fn said(script: &Script, talk: &Talk<'_>) -> String {
    if let Some(bytes) = script.huge {
        return "x".repeat(bytes);
    }
    let mut text = match (&script.say, talk.schema) {
        (Some(text), _) => text.clone(),
        (None, Some(Value::Null)) => json!({ "answer": talk.last.join(" ") }).to_string(),
        (None, Some(schema)) => example(schema, schema, 0).to_string(),
        (None, None) => talk.last.join(" "),
    };
    if text.is_empty() {
        text.push_str("ok");
    }
    match script.tokens {
        None => text,
        Some(count) => {
            let words = text.split(' ').filter(|word| !word.is_empty()).cycle();
            words.take(count).collect::<Vec<&str>>().join(" ")
        }
    }
}

/// Something that a schema allows; what it does not understand is text.
fn example(schema: &Value, root: &Value, depth: usize) -> Value {
    if depth > MOST_DEPTH {
        return Value::Null;
    }
    if let Some(path) = schema["$ref"].as_str() {
        let inner = root.pointer(path.trim_start_matches('#'));
        return example(inner.unwrap_or(&Value::Null), root, depth + 1);
    }
    if let Some(only) = schema.get("const").or_else(|| schema["enum"].get(0)) {
        return only.clone();
    }
    if let Some(first) = schema["anyOf"].get(0) {
        return example(first, root, depth + 1);
    }
    let kind = schema["type"].as_str().or(schema["type"][0].as_str());
    match kind.unwrap_or_default().to_ascii_lowercase().as_str() {
        "object" => {
            let properties = schema["properties"].as_object();
            let pairs = properties.into_iter().flatten();
            let pairs = pairs.map(|(name, of)| (name.clone(), example(of, root, depth + 1)));
            Value::Object(pairs.collect::<Map<String, Value>>())
        }
        "array" => json!([example(&schema["items"], root, depth + 1)]),
        "integer" => json!(1),
        "number" => json!(1.5),
        "boolean" => json!(true),
        "null" => Value::Null,
        _ => json!("text"),
    }
}

/// A vector of length one that is the same for the same text, and near where most words are the same.
pub(crate) fn vector(text: &str, dimensions: usize) -> Vec<f32> {
    let mut values = vec![0.0_f32; dimensions];
    for word in text.split(|it: char| !it.is_alphanumeric()) {
        let of_word = of_word(word, dimensions);
        values
            .iter_mut()
            .zip(of_word)
            .for_each(|(sum, it)| *sum += it);
    }
    let length = values.iter().map(|it| it * it).sum::<f32>().sqrt();
    values.iter_mut().for_each(|it| *it /= length.max(1e-9));
    values
}

fn of_word(text: &str, dimensions: usize) -> Vec<f32> {
    // FNV-1a, then xorshift: any spread will do, as long as it is always the same.
    let mut state = text.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    });
    (0..dimensions)
        .map(|_| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            (state >> 40) as f32 / 8_388_608.0 - 1.0
        })
        .collect()
}
