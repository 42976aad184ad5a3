//! What an agent is asked, in its own words.

use serde_json::{Map, Value, json};

use super::Protocol;
use crate::a2a::Version;
use crate::agui::{Content, Message, Part, RunAgentInput, Said, Source, Tool};

/// The header by which `AgentCore` knows a conversation.
const SESSION: &str = "x-amzn-bedrock-agentcore-runtime-session-id";
/// What is understood of an answer.
const ACCEPT: &str = "text/event-stream, application/json;q=0.9, */*;q=0.5";

/// A request to an agent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ask {
    /// The method.
    pub method: &'static str,
    /// The path, where the agent's manifest says none.
    pub path: &'static str,
    /// Headers, in small letters.
    pub headers: Vec<(&'static str, String)>,
    /// The body, which is JSON.
    pub body: Vec<u8>,
}

/// What an agent is asked that a client has asked for a run.
#[must_use]
pub fn ask(protocol: Protocol, input: &RunAgentInput) -> Ask {
    let (path, body) = match protocol {
        Protocol::Http => ("/", http(input)),
        Protocol::Agui => ("/", agui(input)),
        Protocol::Invocations => ("/invocations", invocations(input)),
        Protocol::Responses => ("/v1/responses", responses(input)),
        Protocol::A2a => ("/", super::a2a::ask(input)),
    };
    let accept = match protocol {
        Protocol::Agui => "text/event-stream",
        _ => ACCEPT,
    };
    let mut headers = vec![
        ("content-type", "application/json".to_owned()),
        ("accept", accept.to_owned()),
    ];
    if protocol == Protocol::A2a {
        let version = Version::V1_0.as_str().to_owned();
        headers.push((Version::NAME, version));
    }
    let is_plain = |id: &str| !id.is_empty() && id.bytes().all(|it| it.is_ascii_graphic());
    if protocol == Protocol::Invocations && is_plain(&input.thread_id) {
        headers.push((SESSION, input.thread_id.clone()));
    }
    Ask {
        method: "POST",
        path,
        headers,
        body: Value::Object(body).to_string().into_bytes(),
    }
}

pub(super) fn object(value: Value) -> Map<String, Value> {
    match value {
        Value::Object(object) => object,
        _ => Map::new(),
    }
}

/// What a client sends, with what agents of before 1.0 cannot do without.
fn agui(input: &RunAgentInput) -> Map<String, Value> {
    let mut body = object(serde_json::to_value(input).unwrap_or_default());
    for name in ["state", "forwardedProps"] {
        body.entry(name).or_insert_with(|| json!({}));
    }
    body
}

/// What there is beside what was said.
fn beside(input: &RunAgentInput, body: &mut Map<String, Value>) {
    let whole = object(serde_json::to_value(input).unwrap_or_default());
    for (name, value) in whole {
        let is_empty = value.as_array().is_some_and(Vec::is_empty);
        if name != "messages" && !is_empty {
            body.insert(name, value);
        }
    }
}

fn http(input: &RunAgentInput) -> Map<String, Value> {
    let mut body = Map::new();
    beside(input, &mut body);
    body.insert("input".to_owned(), prompt(input));
    body.insert("messages".to_owned(), chat(&input.messages));
    body.insert("stream".to_owned(), true.into());
    body
}

fn invocations(input: &RunAgentInput) -> Map<String, Value> {
    let mut body = Map::new();
    beside(input, &mut body);
    body.insert("prompt".to_owned(), prompt(input));
    body.insert("messages".to_owned(), chat(&input.messages));
    body
}

fn prompt(input: &RunAgentInput) -> Value {
    input.prompt().unwrap_or_default().into()
}

/// A conversation as chat completions have it.
fn chat(messages: &[Message]) -> Value {
    let one = |message: &Message| {
        let said = match &message.said {
            Said::Developer { content, .. } => json!({"role": "developer", "content": content}),
            Said::System { content, .. } => json!({"role": "system", "content": content}),
            Said::User { content, .. } => json!({"role": "user", "content": parts(content, &CHAT)}),
            Said::Assistant {
                content,
                tool_calls,
                ..
            } => {
                let mut said = json!({"role": "assistant", "content": content});
                if !tool_calls.is_empty() {
                    let call = |it: &crate::agui::ToolCall| json!({"id": it.id, "type": "function", "function": it.function});
                    said["tool_calls"] = tool_calls.iter().map(call).collect();
                }
                said
            }
            Said::Tool {
                content,
                tool_call_id,
                ..
            } => json!({"role": "tool", "tool_call_id": tool_call_id, "content": content.text()}),
            Said::Activity { .. } | Said::Reasoning { .. } => return None,
        };
        Some(said)
    };
    messages.iter().filter_map(one).collect()
}

/// How parts are called: texts, images, and where an image is.
struct Words {
    text: &'static str,
    image: &'static str,
    is_nested: bool,
}

const CHAT: Words = Words {
    text: "text",
    image: "image_url",
    is_nested: true,
};
const INPUT: Words = Words {
    text: "input_text",
    image: "input_image",
    is_nested: false,
};

/// A content in their words; of media, images alone have some.
fn parts(content: &Content, words: &Words) -> Value {
    let parts = match content {
        Content::Text(text) => return text.as_str().into(),
        Content::Parts(parts) => parts,
    };
    let one = |part: &Part| match part {
        Part::Text { text, .. } => Some(json!({"type": words.text, "text": text})),
        Part::Image(image) => {
            let url = match &image.source {
                Source::Data { value, mime_type } => format!("data:{mime_type};base64,{value}"),
                Source::Url { value, .. } => value.clone(),
                Source::File { .. } => return None,
            };
            let url = match words.is_nested {
                true => json!({"url": url}),
                false => url.into(),
            };
            Some(json!({"type": words.image, "image_url": url}))
        }
        _ => None,
    };
    parts.iter().filter_map(one).collect()
}

fn responses(input: &RunAgentInput) -> Map<String, Value> {
    let mut items = Vec::new();
    for message in &input.messages {
        match &message.said {
            Said::Developer { content, .. } => {
                items.push(json!({"role": "developer", "content": content}));
            }
            Said::System { content, .. } => {
                items.push(json!({"role": "system", "content": content}));
            }
            Said::User { content, .. } => {
                items.push(json!({"role": "user", "content": parts(content, &INPUT)}));
            }
            Said::Assistant {
                content,
                tool_calls,
                ..
            } => {
                if let Some(text) = content.as_ref().filter(|it| !it.is_empty()) {
                    items.push(json!({"role": "assistant", "content": text}));
                }
                for call in tool_calls {
                    items.push(json!({"type": "function_call", "call_id": call.id,
                        "name": call.function.name, "arguments": call.function.arguments}));
                }
            }
            Said::Tool {
                content,
                tool_call_id,
                ..
            } => items.push(json!({"type": "function_call_output",
                "call_id": tool_call_id, "output": content.text()})),
            Said::Activity { .. } | Said::Reasoning { .. } => {}
        }
    }
    let tool = |tool: &Tool| {
        let parameters = tool.parameters.clone();
        let parameters = parameters.unwrap_or_else(|| json!({"type": "object", "properties": {}}));
        json!({"type": "function", "name": tool.name, "description": tool.description,
            "parameters": parameters, "strict": false})
    };
    let mut body = object(json!({"model": "agent", "input": items, "stream": true}));
    if !input.tools.is_empty() {
        body.insert("tools".to_owned(), input.tools.iter().map(tool).collect());
    }
    body
}
