//! Streams of Responses: each item is told piece by piece and then whole, and at the end all of them again.

use super::{Head, gather, named, stop};
use crate::errors;
use crate::json::{Json, Object, refused};
use crate::neutral::{Call, Event, Place, Signature, Stop, Thought};
use crate::responses::{
    call_item, message_item, output_text, read_stop, refusal, response, signature, summary,
    thought_item, write_stop, write_usage,
};
use crate::tap::Usage;
use crate::translate::{Memory, Untranslatable};

#[derive(Debug, Default)]
pub(super) struct Reader {
    has_calls: bool,
    /// What was said of the thought that is told.
    thought: bool,
}

impl Reader {
    pub(super) fn read(&mut self, data: &Json, to: &mut Vec<Event>) -> Result<(), Untranslatable> {
        let text = |path: &[&str]| data.at(path).and_then(Json::text).unwrap_or_default();
        let delta = || text(&["delta"]).to_owned();
        match text(&["type"]) {
            "response.created" => to.push(Event::Start {
                id: text(&["response", "id"]).to_owned(),
                model: text(&["response", "model"]).to_owned(),
                created: data.at(&["response", "created_at"]).and_then(Json::number),
            }),
            "response.output_item.added" => match text(&["item", "type"]) {
                "message" => {}
                "reasoning" => self.thought = false,
                "function_call" => {
                    self.has_calls = true;
                    to.push(Event::Call {
                        id: text(&["item", "call_id"]).to_owned(),
                        name: text(&["item", "name"]).to_owned(),
                        signature: None,
                    });
                }
                _ => return Err(refused("item", "this item cannot be translated")),
            },
            "response.output_text.delta" => to.push(Event::Text(delta())),
            "response.refusal.delta" => to.push(Event::Refusal(delta())),
            "response.function_call_arguments.delta" => to.push(Event::Arguments(delta())),
            "response.reasoning_summary_part.added" if self.thought => {
                to.push(Event::Thought("\n\n".to_owned()));
            }
            "response.reasoning_summary_text.delta" | "response.reasoning_text.delta" => {
                self.thought = true;
                to.push(Event::Thought(delta()));
            }
            "response.output_item.done" if text(&["item", "type"]) == "reasoning" => {
                let id = text(&["item", "id"]);
                let encrypted = data.at(&["item", "encrypted_content"]).and_then(Json::text);
                to.extend(encrypted.map(|text| Event::Signed {
                    signature: signature(id, text.to_owned()),
                    is_hidden: false,
                }));
            }
            "response.completed" | "response.incomplete" => {
                let whole = data.get("response").unwrap_or(&Json::Null);
                to.push(Event::Stop(read_stop(whole, self.has_calls)?));
                to.push(Event::End(Usage::default()));
            }
            _ => {}
        }
        Ok(())
    }
}

/// The item that is told.
#[derive(Debug)]
enum Open {
    Text(String),
    Refusal(String),
    Thought(Thought),
    Call(Call),
}

#[derive(Debug)]
pub(super) struct Writer {
    memory: Memory,
    head: Head,
    number: u64,
    open: Option<Open>,
    output: Vec<Json>,
    said: usize,
    held: Option<Stop>,
}

impl Writer {
    pub(super) fn new(memory: &Memory) -> Self {
        Self {
            memory: memory.clone(),
            head: Head::default(),
            number: 0,
            open: None,
            output: Vec::new(),
            said: 0,
            held: None,
        }
    }

    fn send(&mut self, event: Object, out: &mut Vec<u8>) {
        named(out, event.with("sequence_number", self.number));
        self.number += 1;
    }

    fn id(&self, kind: &str) -> String {
        format!("{kind}_{}_{}", self.head.id, self.output.len())
    }

    fn index(&self) -> u64 {
        self.output.len() as u64
    }

    /// An event about the item that is told.
    fn about(&self, kind: &str, id: &str) -> Object {
        Object::typed(kind)
            .with("item_id", id)
            .with("output_index", self.index())
    }

    fn item(&mut self, kind: &str, item: Json, out: &mut Vec<u8>) {
        let event = Object::typed(kind).with("output_index", self.index());
        self.send(event.with("item", item), out);
    }

    fn whole(&self, status: &str) -> Object {
        let head = (
            self.head.id.as_str(),
            self.head.model.as_str(),
            self.head.created,
        );
        response(head, &self.memory, status, self.output.clone())
    }

    /// Opens an item.
    fn begin(&mut self, open: Open, out: &mut Vec<u8>) {
        self.close(out);
        let item = match &open {
            Open::Text(_) | Open::Refusal(_) => {
                message_item(&self.id("msg"), "in_progress", Vec::new())
            }
            Open::Thought(thought) => thought_item(&self.id("rs"), thought),
            Open::Call(call) => call_item(&self.id("fc"), "in_progress", call),
        };
        self.item("response.output_item.added", item, out);
        let part = match &open {
            Open::Text(_) => Some(output_text("")),
            Open::Refusal(_) => Some(refusal("")),
            Open::Thought(_) | Open::Call(_) => None,
        };
        if let Some(part) = part {
            let event = self.about("response.content_part.added", &self.id("msg"));
            self.send(event.with("content_index", 0_u64).with("part", part), out);
        }
        self.open = Some(open);
    }

    /// Tells the open item whole.
    fn close(&mut self, out: &mut Vec<u8>) {
        let item = match self.open.take() {
            None => return,
            Some(Open::Text(text)) => {
                let done = Object::typed("response.output_text.done").with("text", &text);
                let done = done.with("logprobs", Vec::new());
                self.close_part(done, output_text(&text), out)
            }
            Some(Open::Refusal(text)) => {
                let done = Object::typed("response.refusal.done").with("refusal", &text);
                self.close_part(done, refusal(&text), out)
            }
            Some(Open::Thought(thought)) => {
                let id = self.id("rs");
                if let Some(part) = summary(&thought.text).pop() {
                    let done = self.about("response.reasoning_summary_text.done", &id);
                    let done = done.with("summary_index", 0_u64);
                    self.send(done.with("text", &thought.text), out);
                    let done = self.about("response.reasoning_summary_part.done", &id);
                    self.send(done.with("summary_index", 0_u64).with("part", part), out);
                }
                thought_item(&id, &thought)
            }
            Some(Open::Call(call)) => {
                let id = self.id("fc");
                let done = self.about("response.function_call_arguments.done", &id);
                let done = done.with("name", &call.name);
                self.send(done.with("arguments", &call.arguments), out);
                call_item(&id, "completed", &call)
            }
        };
        self.item("response.output_item.done", item.clone(), out);
        self.output.push(item);
    }

    fn close_part(&mut self, done: Object, part: Json, out: &mut Vec<u8>) -> Json {
        let id = self.id("msg");
        let done = done
            .with("item_id", &id)
            .with("output_index", self.index())
            .with("content_index", 0_u64);
        self.send(done, out);
        let done = self.about("response.content_part.done", &id);
        let done = done.with("content_index", 0_u64);
        self.send(done.with("part", part.clone()), out);
        message_item(&id, "completed", vec![part])
    }

    /// Tells a piece of a text.
    fn say(&mut self, event: Object, text: &str, out: &mut Vec<u8>) {
        let event = event.with("content_index", 0_u64);
        self.send(event.with("delta", text), out);
    }

    fn think(&mut self, text: &str, out: &mut Vec<u8>) -> Result<(), Untranslatable> {
        if !matches!(self.open, Some(Open::Thought(_))) {
            self.begin(Open::Thought(Thought::default()), out);
        }
        let id = self.id("rs");
        if let Some(Open::Thought(thought)) = &mut self.open {
            let is_first = thought.text.is_empty();
            gather(&mut thought.text, text)?;
            if is_first {
                let part = Object::typed("summary_text").with("text", "");
                let event = self.about("response.reasoning_summary_part.added", &id);
                self.send(event.with("summary_index", 0_u64).with("part", part), out);
            }
        }
        let event = self.about("response.reasoning_summary_text.delta", &id);
        self.send(event.with("summary_index", 0_u64).with("delta", text), out);
        Ok(())
    }

    fn sign(&mut self, signature: Signature, out: &mut Vec<u8>) {
        if !matches!(self.open, Some(Open::Thought(_))) {
            self.begin(Open::Thought(Thought::default()), out);
        }
        if let Some(Open::Thought(thought)) = &mut self.open {
            thought.signature = Some(signature);
        }
        self.close(out);
    }

    /// Ends with an error.
    pub(super) fn failed(&mut self, status: u16, message: &str, out: &mut Vec<u8>) {
        let code = errors::code(status);
        let error = Object::new().with("code", code).with("message", message);
        let mut whole = self.whole("failed");
        whole.set("error", error.into());
        self.send(
            Object::typed("response.failed").with("response", whole),
            out,
        );
    }

    pub(super) fn write(&mut self, event: Event, out: &mut Vec<u8>) -> Result<(), Untranslatable> {
        match event {
            Event::Start { id, model, created } => {
                let created = created.unwrap_or(self.memory.now);
                self.head = Head { id, model, created };
                for kind in ["response.created", "response.in_progress"] {
                    let whole = self.whole("in_progress");
                    self.send(Object::typed(kind).with("response", whole), out);
                }
            }
            Event::Text(text) => {
                if !matches!(self.open, Some(Open::Text(_))) {
                    self.begin(Open::Text(String::new()), out);
                }
                if let Some(Open::Text(kept)) = &mut self.open {
                    gather(kept, &text)?;
                }
                self.count(text.len())?;
                let event = self.about("response.output_text.delta", &self.id("msg"));
                let event = event.with("logprobs", Vec::new());
                self.say(event, &text, out);
            }
            Event::Refusal(text) => {
                if !matches!(self.open, Some(Open::Refusal(_))) {
                    self.begin(Open::Refusal(String::new()), out);
                }
                if let Some(Open::Refusal(kept)) = &mut self.open {
                    gather(kept, &text)?;
                }
                self.count(text.len())?;
                let event = self.about("response.refusal.delta", &self.id("msg"));
                self.say(event, &text, out);
            }
            Event::Thought(text) => {
                self.count(text.len())?;
                self.think(&text, out)?;
            }
            Event::Signed { signature, .. } => self.sign(signature, out),
            Event::Call {
                id,
                name,
                signature,
            } => {
                if let Some(signature) = signature {
                    self.close(out);
                    self.sign(signature, out);
                }
                let call = Call {
                    id,
                    name,
                    arguments: String::new(),
                    signature: None,
                    at: Place::default(),
                };
                self.begin(Open::Call(call), out);
            }
            Event::Arguments(text) => {
                self.count(text.len())?;
                if let Some(Open::Call(call)) = &mut self.open {
                    gather(&mut call.arguments, &text)?;
                }
                let event = self.about("response.function_call_arguments.delta", &self.id("fc"));
                self.send(event.with("delta", text), out);
            }
            Event::Stop(stop) => self.held = Some(stop),
            Event::End(usage) => self.end(&usage, out),
            Event::Failed { .. } => {}
        }
        Ok(())
    }

    /// All that is said is kept to the end, within bounds.
    fn count(&mut self, bytes: usize) -> Result<(), Untranslatable> {
        self.said += bytes;
        match self.said > super::MOST_GATHERED {
            true => Err(refused("stream", "it says more than is gathered")),
            false => Ok(()),
        }
    }

    fn end(&mut self, usage: &Usage, out: &mut Vec<u8>) {
        self.close(out);
        let held = stop(self.held.take());
        let (status, lacks) = write_stop(&held);
        let whole = self.whole(status);
        let whole = whole
            .with("incomplete_details", lacks)
            .with("usage", write_usage(usage));
        let event = Object::typed(&format!("response.{status}"));
        self.send(event.with("response", whole), out);
    }
}
