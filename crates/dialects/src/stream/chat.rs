//! Streams of Chat.

use super::{Head, data};
use crate::Dialect;
use crate::chat::{read_stop, signature, write_stop, write_usage};
use crate::json::{Json, Object, refused};
use crate::neutral::{Event, Signature};
use crate::translate::{Memory, Untranslatable};

#[derive(Debug, Default)]
pub(super) struct Reader {
    began: bool,
    /// The index of the call that is told.
    call: Option<u64>,
}

impl Reader {
    pub(super) fn read(&mut self, data: &Json, to: &mut Vec<Event>) -> Result<(), Untranslatable> {
        let text = |name: &str| data.get(name).and_then(Json::text).unwrap_or_default();
        // Some begin with a chunk that has neither a choice nor an id.
        if !self.began && data.get("choices").is_none_or(|it| it.list().is_empty()) {
            return Ok(());
        }
        if !std::mem::replace(&mut self.began, true) {
            to.push(Event::Start {
                id: text("id").to_owned(),
                model: text("model").to_owned(),
                created: data.get("created").and_then(Json::number),
            });
        }
        for choice in data.get("choices").map_or(&[][..], Json::list) {
            if choice.get("index").and_then(Json::number).unwrap_or(0) != 0 {
                return Err(refused("choices", "there must be one"));
            }
            if let Some(delta) = choice.get("delta") {
                self.delta(delta, to)?;
            }
            if let Some(reason) = choice.get("finish_reason").and_then(Json::text) {
                to.push(Event::Stop(read_stop(reason)?));
            }
        }
        Ok(())
    }

    fn delta(&mut self, delta: &Json, to: &mut Vec<Event>) -> Result<(), Untranslatable> {
        let text = |name: &str| {
            let text = delta.get(name).and_then(Json::text);
            text.filter(|text| !text.is_empty()).map(str::to_owned)
        };
        to.extend(
            text("reasoning_content")
                .or(text("reasoning"))
                .map(Event::Thought),
        );
        to.extend(text("content").map(Event::Text));
        to.extend(text("refusal").map(Event::Refusal));
        for (at, call) in delta
            .get("tool_calls")
            .map_or(&[][..], Json::list)
            .iter()
            .enumerate()
        {
            let index = call
                .get("index")
                .and_then(Json::number)
                .unwrap_or(at as u64);
            let name = call.at(&["function", "name"]).and_then(Json::text);
            let name = name.filter(|name| !name.is_empty());
            match (self.call, name) {
                (Some(open), _) if open == index => {}
                (Some(open), _) if index < open => {
                    let why = "calls of tools that are told at once cannot be translated";
                    return Err(refused("choices[0].delta.tool_calls", why));
                }
                (_, None) => return Err(refused("choices[0].delta.tool_calls", "it has no name")),
                (_, Some(name)) => {
                    self.call = Some(index);
                    let id = call.get("id").and_then(Json::text);
                    let path = ["extra_content", "google", "thought_signature"];
                    let signature = call.at(&path).and_then(Json::text);
                    to.push(Event::Call {
                        id: id.map_or_else(|| format!("call_{index}"), str::to_owned),
                        name: name.to_owned(),
                        signature: signature.map(|text| Signature {
                            of: Dialect::Gemini,
                            text: text.to_owned(),
                        }),
                    });
                }
            }
            let arguments = call.at(&["function", "arguments"]).and_then(Json::text);
            let arguments = arguments.filter(|text| !text.is_empty());
            to.extend(arguments.map(|text| Event::Arguments(text.to_owned())));
        }
        Ok(())
    }
}

#[derive(Debug)]
pub(super) struct Writer {
    head: Head,
    now: u64,
    usage_asked: bool,
    /// Calls that have begun.
    calls: u64,
}

impl Writer {
    pub(super) fn new(memory: &Memory) -> Self {
        Self {
            head: Head::default(),
            now: memory.now,
            usage_asked: memory.usage_asked,
            calls: 0,
        }
    }

    fn chunk(&self, choices: Vec<Json>) -> Object {
        Object::new()
            .with("id", &self.head.id)
            .with("object", "chat.completion.chunk")
            .with("created", self.head.created)
            .with("model", &self.head.model)
            .with("choices", choices)
    }

    fn say(&self, delta: Object, reason: Option<&str>, out: &mut Vec<u8>) {
        let choice = Object::new()
            .with("index", 0_u64)
            .with("delta", delta)
            .with("logprobs", Json::Null)
            .with("finish_reason", reason.map_or(Json::Null, Json::from));
        let chunk = self.chunk(vec![choice.into()]);
        let usage = self.usage_asked.then_some(Json::Null);
        data(out, chunk.maybe("usage", usage));
    }

    fn call(&self, call: Object, out: &mut Vec<u8>) {
        self.say(
            Object::new().with("tool_calls", vec![call.into()]),
            None,
            out,
        );
    }

    pub(super) fn write(&mut self, event: Event, out: &mut Vec<u8>) -> Result<(), Untranslatable> {
        let delta = Object::new();
        match event {
            Event::Start { id, model, created } => {
                self.head = Head {
                    id,
                    model,
                    created: created.unwrap_or(self.now),
                };
                self.say(
                    delta.with("role", "assistant").with("content", ""),
                    None,
                    out,
                );
            }
            Event::Text(text) => self.say(delta.with("content", text), None, out),
            Event::Refusal(text) => self.say(delta.with("refusal", text), None, out),
            Event::Thought(text) => self.say(delta.with("reasoning_content", text), None, out),
            // There is no place for it.
            Event::Signed { .. } => {}
            Event::Call {
                id,
                name,
                signature: signed,
            } => {
                let function = Object::new().with("name", name).with("arguments", "");
                let call = Object::new()
                    .with("index", self.calls)
                    .with("id", id)
                    .with("type", "function")
                    .with("function", function)
                    .maybe("extra_content", signature(signed.as_ref()));
                self.call(call, out);
                self.calls += 1;
            }
            Event::Arguments(text) => {
                let call = Object::new().with("index", self.calls.saturating_sub(1));
                self.call(
                    call.with("function", Object::new().with("arguments", text)),
                    out,
                );
            }
            Event::Stop(stop) => self.say(delta, Some(write_stop(&stop)), out),
            Event::End(usage) => {
                if self.usage_asked {
                    let chunk = self.chunk(Vec::new());
                    data(out, chunk.with("usage", write_usage(&usage)));
                }
                out.extend_from_slice(b"data: [DONE]\n\n");
            }
            Event::Failed { .. } => {}
        }
        Ok(())
    }
}
