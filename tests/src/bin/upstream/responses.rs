//! OpenAI's responses: items that come in events which are numbered.

use serde_json::{Value, json};

use super::flow::Frame;
use super::openai::limit;
use super::plan::{ARGUMENTS, PIECES, Plan, Talk, texts};
use super::reply::{Ask, Refusal, Reply, now};

fn schema(format: &Value) -> Option<&Value> {
    match format["type"].as_str()? {
        "json_object" => Some(&Value::Null),
        "json_schema" => Some(&format["schema"]),
        _ => None,
    }
}

fn talk(json: &Value) -> Result<Talk<'_>, Refusal> {
    let mut talk = Talk {
        schema: schema(&json["text"]["format"]),
        limit: limit(json, &["max_output_tokens"]),
        ..Talk::default()
    };
    texts(&json["instructions"], &mut talk.texts);
    match &json["input"] {
        Value::String(text) => {
            talk.texts.push(text);
            talk.last.push(text);
        }
        Value::Array(items) => {
            for item in items {
                let before = talk.texts.len();
                texts(item, &mut talk.texts);
                talk.after_tool = item["type"] == "function_call_output";
                if talk.after_tool || item["role"] == "user" {
                    talk.last = talk.texts[before..].to_vec();
                }
            }
        }
        _ => return Err(Refusal::new(400, "input must be a text or a list of items")),
    }
    Ok(talk)
}

/// A response and what it consists of.
struct Whole {
    base: Value,
    plan: Plan,
    id: u64,
}

impl Whole {
    fn new(json: &Value, plan: Plan, id: u64) -> Self {
        let given = |name: &str, default: Value| json.get(name).cloned().unwrap_or(default);
        let base = json!({
            "id": format!("resp_{id:048x}"), "object": "response", "created_at": now(),
            "status": "in_progress", "background": false, "error": null,
            "incomplete_details": null,
            "instructions": given("instructions", Value::Null),
            "max_output_tokens": given("max_output_tokens", Value::Null),
            "max_tool_calls": null, "model": plan.script.base, "output": [],
            "parallel_tool_calls": true,
            "previous_response_id": given("previous_response_id", Value::Null),
            "prompt_cache_key": null, "reasoning": { "effort": null, "summary": null },
            "safety_identifier": null, "service_tier": "auto", "store": true,
            "temperature": given("temperature", json!(1.0)),
            "text": given("text", json!({ "format": { "type": "text" }, "verbosity": "medium" })),
            "tool_choice": given("tool_choice", json!("auto")),
            "tools": given("tools", json!([])),
            "top_logprobs": 0, "top_p": given("top_p", json!(1.0)), "truncation": "disabled",
            "usage": null, "user": null, "metadata": given("metadata", json!({})),
        });
        Self { base, plan, id }
    }

    fn message(&self, status: &str, text: Option<&str>) -> Value {
        let content = text.map(part);
        let content: Vec<Value> = content.into_iter().collect();
        json!({
            "id": format!("msg_{:048x}", self.id), "type": "message", "status": status,
            "role": "assistant", "content": content,
        })
    }

    fn call(&self, name: &str, status: &str, arguments: &str) -> Value {
        json!({
            "id": format!("fc_{:048x}", self.id), "type": "function_call", "status": status,
            "arguments": arguments, "call_id": format!("call_{:024x}", self.id), "name": name,
        })
    }

    fn reasoning(&self, text: Option<&str>) -> Value {
        let summary = text.map(|text| json!({ "type": "summary_text", "text": text }));
        let summary: Vec<Value> = summary.into_iter().collect();
        json!({ "id": format!("rs_{:048x}", self.id), "type": "reasoning", "summary": summary })
    }

    fn thoughts(&self) -> Option<String> {
        (self.plan.script.think > 0).then(|| self.plan.thoughts().collect())
    }

    fn last(&self) -> Value {
        match &self.plan.tool {
            Some(name) => self.call(name, "completed", ARGUMENTS),
            None => {
                let status = if self.plan.short {
                    "incomplete"
                } else {
                    "completed"
                };
                self.message(status, Some(&self.plan.text))
            }
        }
    }

    /// As it is in the end.
    fn done(&self) -> Value {
        let mut done = self.base.clone();
        let thoughts = self.thoughts().map(|text| self.reasoning(Some(&text)));
        let output: Vec<Value> = thoughts.into_iter().chain([self.last()]).collect();
        done["output"] = Value::Array(output);
        done["service_tier"] = json!("default");
        done["status"] = json!("completed");
        if self.plan.short {
            done["status"] = json!("incomplete");
            done["incomplete_details"] = json!({ "reason": "max_output_tokens" });
        } else {
            done["completed_at"] = json!(now());
        }
        if !self.plan.script.nousage {
            let usage = &self.plan.usage;
            let output = usage.output(1);
            done["usage"] = json!({
                "input_tokens": usage.prompt,
                "input_tokens_details": {
                    "cached_tokens": usage.cached, "cache_write_tokens": usage.written,
                },
                "output_tokens": output,
                "output_tokens_details": { "reasoning_tokens": usage.thought },
                "total_tokens": usage.prompt + output,
            });
        }
        done
    }
}

fn part(text: &str) -> Value {
    json!({ "type": "output_text", "annotations": [], "logprobs": [], "text": text })
}

/// `POST /v1/responses`
pub(crate) fn responses(ask: Ask<'_>) -> Result<Reply, Refusal> {
    let plan = Plan::new(ask.script, &talk(ask.json)?);
    let whole = Whole::new(ask.json, plan, ask.id);
    if ask.json["stream"] == true {
        let frames = Events::default().all(&whole);
        return Ok(Reply::events(frames, whole.plan.script));
    }
    Ok(Reply::whole(whole.done().to_string(), whole.plan.script))
}

/// Events, numbered in their order.
#[derive(Default)]
struct Events {
    frames: Vec<Frame>,
    at: usize,
}

impl Events {
    fn text(&mut self, kind: &str, mut event: Value) -> String {
        event["type"] = json!(kind);
        event["sequence_number"] = json!(self.at);
        self.at += 1;
        format!("event: {kind}\ndata: {event}\n\n")
    }

    fn event(&mut self, kind: &str, event: Value) {
        let text = self.text(kind, event);
        self.frames.push(Frame::event(text));
    }

    fn delta(&mut self, kind: &str, event: Value) {
        let text = self.text(kind, event);
        self.frames.push(Frame::delta(text));
    }

    fn all(mut self, whole: &Whole) -> Vec<Frame> {
        self.event("response.created", json!({ "response": whole.base }));
        self.event("response.in_progress", json!({ "response": whole.base }));
        let thoughts = whole.thoughts();
        if let Some(thoughts) = &thoughts {
            self.thinks(whole, thoughts);
        }
        let index = usize::from(thoughts.is_some());
        match &whole.plan.tool {
            Some(name) => self.calls(whole, name, index),
            None => self.says(whole, index),
        }
        let done = whole.done();
        let kind = match whole.plan.short {
            true => "response.incomplete",
            false => "response.completed",
        };
        self.event(kind, json!({ "response": done }));
        self.frames
    }

    fn thinks(&mut self, whole: &Whole, thoughts: &str) {
        let item = whole.reasoning(None);
        let id = item["id"].clone();
        let at = |rest: Value| {
            let mut event = json!({ "item_id": id, "output_index": 0, "summary_index": 0 });
            for (name, value) in rest.as_object().into_iter().flatten() {
                event[name] = value.clone();
            }
            event
        };
        let part = |text: &str| json!({ "part": { "type": "summary_text", "text": text } });
        self.event(
            "response.output_item.added",
            json!({ "output_index": 0, "item": item }),
        );
        self.event("response.reasoning_summary_part.added", at(part("")));
        for thought in whole.plan.thoughts() {
            let event = at(json!({ "delta": thought }));
            self.delta("response.reasoning_summary_text.delta", event);
        }
        let event = at(json!({ "text": thoughts }));
        self.event("response.reasoning_summary_text.done", event);
        self.event("response.reasoning_summary_part.done", at(part(thoughts)));
        let item = whole.reasoning(Some(thoughts));
        self.event(
            "response.output_item.done",
            json!({ "output_index": 0, "item": item }),
        );
    }

    fn calls(&mut self, whole: &Whole, name: &str, index: usize) {
        let item = whole.call(name, "in_progress", "");
        let id = item["id"].clone();
        self.event(
            "response.output_item.added",
            json!({ "output_index": index, "item": item }),
        );
        for piece in PIECES {
            self.delta(
                "response.function_call_arguments.delta",
                json!({ "item_id": id, "output_index": index, "delta": piece }),
            );
        }
        self.event(
            "response.function_call_arguments.done",
            json!({ "item_id": id, "output_index": index, "name": name, "arguments": ARGUMENTS }),
        );
        self.event(
            "response.output_item.done",
            json!({ "output_index": index, "item": whole.last() }),
        );
    }

    fn says(&mut self, whole: &Whole, index: usize) {
        let item = whole.message("in_progress", None);
        let id = item["id"].clone();
        self.event(
            "response.output_item.added",
            json!({ "output_index": index, "item": item }),
        );
        self.event(
            "response.content_part.added",
            json!({ "item_id": id, "output_index": index, "content_index": 0, "part": part("") }),
        );
        for piece in whole.plan.pieces() {
            self.delta(
                "response.output_text.delta",
                json!({
                    "item_id": id, "output_index": index, "content_index": 0,
                    "delta": piece, "logprobs": [],
                }),
            );
        }
        let text = &whole.plan.text;
        self.event(
            "response.output_text.done",
            json!({
                "item_id": id, "output_index": index, "content_index": 0,
                "text": text, "logprobs": [],
            }),
        );
        self.event(
            "response.content_part.done",
            json!({ "item_id": id, "output_index": index, "content_index": 0, "part": part(text) }),
        );
        self.event(
            "response.output_item.done",
            json!({ "output_index": index, "item": whole.last() }),
        );
    }
}

/// What an error is within a stream.
pub(crate) fn broken() -> Frame {
    let event = json!({
        "type": "error", "sequence_number": 0, "code": "server_error", "param": null,
        "message": "The server had an error in the stream.",
    });
    Frame::event(format!("event: error\ndata: {event}\n\n"))
}
