//! Streams of Messages.

use super::{Head, indexed, named, stop};
use crate::Dialect;
use crate::json::{Json, Object, refused};
use crate::messages::{message, read_stop, write_stop, write_usage};
use crate::neutral::{Event, Signature, Stop};
use crate::tap::Usage;
use crate::translate::Untranslatable;

#[derive(Debug, Default)]
pub(super) struct Reader;

impl Reader {
    pub(super) fn read(&mut self, data: &Json, to: &mut Vec<Event>) -> Result<(), Untranslatable> {
        let text = |path: &[&str]| data.at(path).and_then(Json::text).unwrap_or_default();
        match text(&["type"]) {
            "message_start" => to.push(Event::Start {
                id: text(&["message", "id"]).to_owned(),
                model: text(&["message", "model"]).to_owned(),
                created: None,
            }),
            "content_block_start" => match text(&["content_block", "type"]) {
                "text" => said(text(&["content_block", "text"]), Event::Text, to),
                "thinking" => said(text(&["content_block", "thinking"]), Event::Thought, to),
                "redacted_thinking" => to.push(Event::Signed {
                    signature: signed(text(&["content_block", "data"])),
                    is_hidden: true,
                }),
                "tool_use" => {
                    to.push(Event::Call {
                        id: text(&["content_block", "id"]).to_owned(),
                        name: text(&["content_block", "name"]).to_owned(),
                        signature: None,
                    });
                    let input = data.at(&["content_block", "input"]);
                    let whole = input.filter(|it| **it != Json::Object(Vec::new()));
                    to.extend(whole.map(|it| Event::Arguments(it.to_string())));
                }
                _ => return Err(refused("content_block", "this block cannot be translated")),
            },
            "content_block_delta" => match text(&["delta", "type"]) {
                "text_delta" => said(text(&["delta", "text"]), Event::Text, to),
                "thinking_delta" => said(text(&["delta", "thinking"]), Event::Thought, to),
                "input_json_delta" => said(text(&["delta", "partial_json"]), Event::Arguments, to),
                "signature_delta" => to.push(Event::Signed {
                    signature: signed(text(&["delta", "signature"])),
                    is_hidden: false,
                }),
                _ => return Err(refused("delta", "this cannot be translated")),
            },
            "message_delta" => {
                let reason = data.at(&["delta", "stop_reason"]).and_then(Json::text);
                let at = data.at(&["delta", "stop_sequence"]).and_then(Json::text);
                if let Some(reason) = reason {
                    to.push(Event::Stop(read_stop(reason, at.map(str::to_owned))?));
                }
            }
            "message_stop" => to.push(Event::End(Usage::default())),
            // `ping`, the end of a block, and what is new and says nothing.
            _ => {}
        }
        Ok(())
    }
}

fn said(text: &str, event: fn(String) -> Event, to: &mut Vec<Event>) {
    if !text.is_empty() {
        to.push(event(text.to_owned()));
    }
}

fn signed(text: &str) -> Signature {
    Signature::read(Dialect::Messages, text.to_owned())
}

/// The block that is open.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Block {
    Text,
    Thinking,
    Call,
}

#[derive(Debug, Default)]
pub(super) struct Writer {
    head: Head,
    /// Blocks that have begun.
    blocks: u64,
    open: Option<Block>,
    held: Option<Stop>,
    refused: bool,
}

impl Writer {
    fn index(&self) -> u64 {
        self.blocks.saturating_sub(1)
    }

    fn close(&mut self, out: &mut Vec<u8>) {
        if self.open.take().is_some() {
            named(out, indexed("content_block_stop", self.index()));
        }
    }

    fn open(&mut self, kind: Block, block: Object, out: &mut Vec<u8>) {
        self.close(out);
        let begins = indexed("content_block_start", self.blocks);
        named(out, begins.with("content_block", block));
        self.blocks += 1;
        self.open = Some(kind);
    }

    fn delta(&self, delta: Object, out: &mut Vec<u8>) {
        named(
            out,
            indexed("content_block_delta", self.index()).with("delta", delta),
        );
    }

    fn thinking(&mut self, out: &mut Vec<u8>) {
        if self.open != Some(Block::Thinking) {
            let block = Object::typed("thinking")
                .with("thinking", "")
                .with("signature", "");
            self.open(Block::Thinking, block, out);
        }
    }

    fn sign(&mut self, signature: &Signature, out: &mut Vec<u8>) {
        self.thinking(out);
        let text = signature.kept(Dialect::Messages);
        self.delta(
            Object::typed("signature_delta").with("signature", text),
            out,
        );
        self.close(out);
    }

    fn text(&mut self, text: String, out: &mut Vec<u8>) {
        if self.open != Some(Block::Text) {
            self.open(Block::Text, Object::typed("text").with("text", ""), out);
        }
        self.delta(Object::typed("text_delta").with("text", text), out);
    }

    pub(super) fn write(&mut self, event: Event, out: &mut Vec<u8>) -> Result<(), Untranslatable> {
        match event {
            Event::Start { id, model, .. } => {
                self.head = Head {
                    id,
                    model,
                    created: 0,
                };
                let begun = message(&self.head.id, &self.head.model, Vec::new())
                    .with("stop_reason", Json::Null)
                    .with("stop_sequence", Json::Null)
                    .with("usage", write_usage(&Usage::default()));
                named(out, Object::typed("message_start").with("message", begun));
            }
            Event::Text(text) => self.text(text, out),
            Event::Refusal(text) => {
                self.refused = true;
                self.text(text, out);
            }
            Event::Thought(text) => {
                self.thinking(out);
                self.delta(Object::typed("thinking_delta").with("thinking", text), out);
            }
            Event::Signed {
                signature,
                is_hidden: true,
            } => {
                let data = signature.kept(Dialect::Messages);
                let block = Object::typed("redacted_thinking").with("data", data);
                self.open(Block::Thinking, block, out);
                self.close(out);
            }
            Event::Signed { signature, .. } => self.sign(&signature, out),
            Event::Call {
                id,
                name,
                signature,
            } => {
                if let Some(signature) = signature {
                    self.close(out);
                    self.sign(&signature, out);
                }
                let block = Object::typed("tool_use").with("id", id).with("name", name);
                self.open(Block::Call, block.with("input", Object::new()), out);
            }
            Event::Arguments(text) => {
                self.delta(
                    Object::typed("input_json_delta").with("partial_json", text),
                    out,
                );
            }
            Event::Stop(stop) => self.held = Some(stop),
            Event::End(usage) => self.end(&usage, out),
            Event::Failed { .. } => {}
        }
        Ok(())
    }

    fn end(&mut self, usage: &Usage, out: &mut Vec<u8>) {
        self.close(out);
        let held = match stop(self.held.take()) {
            Stop::End if self.refused => Stop::Filter,
            held => held,
        };
        let (reason, at) = write_stop(&held);
        let delta = Object::new()
            .with("stop_reason", reason)
            .with("stop_sequence", at.map_or(Json::Null, Json::from));
        let last = Object::typed("message_delta").with("delta", delta);
        named(out, last.with("usage", write_usage(usage)));
        named(out, Object::typed("message_stop"));
    }
}
