//! How answers of models are written.

use serde_json::{Value, json};

use super::output::{Change, Item, Kind, Output};
use super::tell::Head;
use crate::agui::{Interrupt, TokenUsage};

/// How a run has ended.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Ended {
    Done {
        interrupts: Vec<Interrupt>,
        result: Option<Value>,
        usage: Vec<TokenUsage>,
    },
    Cancelled,
    Failed {
        code: String,
        message: String,
    },
}

/// What models have used, as the agent says; none, when it says nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Used {
    input: u64,
    cached: u64,
    output: u64,
    reasoning: u64,
    total: u64,
}

pub(super) fn used(end: &Ended) -> Option<Used> {
    let Ended::Done { usage, .. } = end else {
        return None;
    };
    if usage.is_empty() {
        return None;
    }
    let sum = |of: fn(&TokenUsage) -> Option<u64>| {
        let each = usage.iter().filter_map(of);
        each.fold(0_u64, u64::saturating_add)
    };
    let (input, output) = (sum(|it| it.input_tokens), sum(|it| it.output_tokens));
    let total = |it: &TokenUsage| {
        let parts = (it.input_tokens, it.output_tokens);
        let parts = parts
            .0
            .unwrap_or_default()
            .saturating_add(parts.1.unwrap_or_default());
        Some(it.total_tokens.unwrap_or(parts))
    };
    Some(Used {
        input,
        cached: sum(|it| it.cached_input_tokens),
        output,
        reasoning: sum(|it| it.reasoning_tokens),
        total: sum(total),
    })
}

/// An error, as it is read.
pub(super) fn error(code: &str, message: &str) -> Value {
    json!({ "error": { "message": message, "type": "server_error", "param": null, "code": code } })
}

/// The places of what is said beside others of its kind: the calls before it.
fn calls_before(output: &Output, at: usize) -> usize {
    let before = output.items.iter().take(at);
    before.filter(|it| matches!(it.kind, Kind::Call(_))).count()
}

/// What a chunk tells of a change; many tell nothing.
pub(super) fn delta(output: &Output, change: &Change) -> Option<Value> {
    let at = change.at();
    let item = output.items.get(at)?;
    match (change, &item.kind) {
        (Change::More(_, text), Kind::Text) => {
            let is_first = item.text.len() == text.len();
            let mut before = output.items.iter().take(at);
            let follows = before.any(|it| it.kind == Kind::Text && !it.text.is_empty());
            let content = match is_first && follows {
                true => format!("\n\n{text}"),
                false => text.clone(),
            };
            Some(json!({ "content": content }))
        }
        (Change::More(_, text), Kind::Thought) => Some(json!({ "reasoning_content": text })),
        (Change::Begun(_), Kind::Call(name)) => {
            let function = json!({ "name": name, "arguments": "" });
            let call = json!({ "index": calls_before(output, at), "id": item.id, "type": "function", "function": function });
            Some(json!({ "tool_calls": [call] }))
        }
        (Change::More(_, text), Kind::Call(_)) => {
            let function = json!({ "arguments": text });
            let call = json!({ "index": calls_before(output, at), "function": function });
            Some(json!({ "tool_calls": [call] }))
        }
        _ => None,
    }
}

/// A chunk of a completion.
pub(super) fn chunk(head: &Head, delta: &Value, finish: Option<&str>) -> Value {
    let choice = json!({ "index": 0, "delta": delta, "logprobs": null, "finish_reason": finish });
    let mut chunk = part_of(head);
    chunk["choices"] = json!([choice]);
    chunk
}

fn part_of(head: &Head) -> Value {
    json!({ "id": head.id, "object": "chat.completion.chunk", "created": head.created, "model": head.model })
}

fn finish_reason(output: &Output) -> &'static str {
    match output.waits() {
        true => "tool_calls",
        false => "stop",
    }
}

/// What a run has come to beside what was said.
fn with_end(value: &mut Value, end: Option<&Ended>) {
    if let Some(Ended::Done {
        interrupts, result, ..
    }) = end
    {
        if !interrupts.is_empty() {
            value["interrupts"] = json!(interrupts);
        }
        if let Some(result) = result {
            value["result"] = result.clone();
        }
    }
}

/// The last chunk of a completion with a choice.
pub(super) fn last(head: &Head, output: &Output, end: &Ended) -> Value {
    let mut last = chunk(head, &json!({}), Some(finish_reason(output)));
    with_end(&mut last, Some(end));
    last
}

fn of_chat(used: &Used) -> Value {
    json!({
        "prompt_tokens": used.input, "completion_tokens": used.output, "total_tokens": used.total,
        "prompt_tokens_details": { "cached_tokens": used.cached },
        "completion_tokens_details": { "reasoning_tokens": used.reasoning },
    })
}

/// The chunk that tells what was used.
pub(super) fn usage(head: &Head, used: &Used) -> Value {
    let mut chunk = part_of(head);
    chunk["choices"] = json!([]);
    chunk["usage"] = of_chat(used);
    chunk
}

fn joined(output: &Output, kind: &Kind) -> Option<String> {
    let items = output.items.iter().filter(|it| it.kind == *kind);
    let texts: Vec<&str> = items.map(|it| it.text.as_str()).collect();
    let texts: Vec<&str> = texts.into_iter().filter(|it| !it.is_empty()).collect();
    (!texts.is_empty()).then(|| texts.join("\n\n"))
}

/// A whole completion.
pub(super) fn completion(head: &Head, output: &Output, end: Option<&Ended>) -> Value {
    let content = joined(output, &Kind::Text);
    let mut message = json!({ "role": "assistant", "content": content, "refusal": null });
    if let Some(thought) = joined(output, &Kind::Thought) {
        message["reasoning_content"] = thought.into();
    }
    let calls = output.items.iter().filter_map(|it| match &it.kind {
        Kind::Call(name) => {
            let function = json!({ "name": name, "arguments": it.text });
            Some(json!({ "id": it.id, "type": "function", "function": function }))
        }
        _ => None,
    });
    let calls: Vec<Value> = calls.collect();
    match calls.is_empty() {
        false => message["tool_calls"] = calls.into(),
        // A message that says nothing has a text all the same.
        true if message["content"].is_null() => message["content"] = "".into(),
        true => {}
    }
    let choice = json!({ "index": 0, "message": message, "logprobs": null, "finish_reason": finish_reason(output) });
    let mut whole = part_of(head);
    whole["object"] = "chat.completion".into();
    whole["choices"] = json!([choice]);
    if let Some(used) = end.and_then(used) {
        whole["usage"] = of_chat(&used);
    }
    with_end(&mut whole, end);
    whole
}

/// A response, as far as it has come.
pub(super) fn response(
    head: &Head,
    (output, past): (&Output, &[Item]),
    end: Option<&Ended>,
) -> Value {
    let (status, error) = match end {
        None => ("in_progress", Value::Null),
        Some(Ended::Done { .. }) => ("completed", Value::Null),
        Some(Ended::Cancelled) => ("cancelled", Value::Null),
        Some(Ended::Failed { code, message }) => {
            // The codes that there may be are few, and none of them ours.
            let message = format!("{message} ({code})");
            (
                "failed",
                json!({ "code": "server_error", "message": message }),
            )
        }
    };
    let items = output.items.iter().enumerate();
    let items = items.map(|(at, it)| item(it, told_id(past, at, it), it.is_done));
    let items: Vec<Value> = items.collect();
    let usage = end.and_then(used).map(|used| {
        json!({
            "input_tokens": used.input, "input_tokens_details": { "cached_tokens": used.cached },
            "output_tokens": used.output, "output_tokens_details": { "reasoning_tokens": used.reasoning },
            "total_tokens": used.total,
        })
    });
    let conversation = head.conversation.as_ref().map(|id| json!({ "id": id }));
    let mut response = json!({
        "id": head.id, "object": "response", "created_at": head.created, "status": status, "background": head.background,
        "error": error, "incomplete_details": null, "instructions": null, "max_output_tokens": null,
        "metadata": head.metadata.clone().unwrap_or_default(), "model": head.model, "output": items,
        "parallel_tool_calls": true, "previous_response_id": head.previous, "conversation": conversation,
        "store": true, "temperature": null, "text": { "format": { "type": "text" } }, "tool_choice": "auto", "tools": [],
        "top_p": null, "usage": usage,
    });
    with_end(&mut response, end);
    response
}

/// An item of a response.
fn item(item: &Item, id: &str, is_done: bool) -> Value {
    let status = if is_done { "completed" } else { "in_progress" };
    match &item.kind {
        Kind::Text => {
            let content = match item.text.is_empty() && !is_done {
                true => json!([]),
                false => json!([text_part(&item.text)]),
            };
            json!({ "id": id, "type": "message", "status": status, "role": "assistant", "content": content })
        }
        Kind::Thought => {
            let summary = match item.text.is_empty() {
                true => json!([]),
                false => json!([summary_part(&item.text)]),
            };
            json!({ "id": id, "type": "reasoning", "status": status, "summary": summary })
        }
        Kind::Call(name) => json!({
            "id": format!("fc_{id}"), "type": "function_call", "status": status, "call_id": id, "name": name, "arguments": item.text,
        }),
    }
}

fn text_part(text: &str) -> Value {
    json!({ "type": "output_text", "text": text, "annotations": [], "logprobs": [] })
}

fn summary_part(text: &str) -> Value {
    json!({ "type": "summary_text", "text": text })
}

/// An item keeps the id under which it was told first.
fn told_id<'a>(past: &'a [Item], at: usize, now: &'a Item) -> &'a str {
    past.get(at).map_or(&now.id, |it| &it.id)
}

type Told = (&'static str, Value);

/// The events that tell of a change.
pub(super) fn events((output, past): (&Output, &[Item]), change: &Change) -> Vec<Told> {
    let at = change.at();
    let Some(now) = output.items.get(at) else {
        return Vec::new();
    };
    let id = told_id(past, at, now);
    let place = match &now.kind {
        Kind::Text => json!({ "item_id": id, "output_index": at, "content_index": 0 }),
        Kind::Thought => json!({ "item_id": id, "output_index": at, "summary_index": 0 }),
        Kind::Call(_) => json!({ "item_id": format!("fc_{id}"), "output_index": at }),
    };
    let with = |more: Value| {
        let mut value = place.clone();
        for (name, it) in more.as_object().into_iter().flatten() {
            value[name.as_str()] = it.clone();
        }
        value
    };
    match change {
        Change::Begun(_) => {
            let empty = Item {
                text: String::new(),
                ..now.clone()
            };
            let item = json!({ "output_index": at, "item": item(&empty, id, false) });
            let mut out = vec![("response.output_item.added", item)];
            out.extend(match &now.kind {
                Kind::Text => Some((
                    "response.content_part.added",
                    with(json!({ "part": text_part("") })),
                )),
                Kind::Thought => Some((
                    "response.reasoning_summary_part.added",
                    with(json!({ "part": summary_part("") })),
                )),
                Kind::Call(_) => None,
            });
            out
        }
        Change::More(_, delta) => vec![match &now.kind {
            Kind::Text => (
                "response.output_text.delta",
                with(json!({ "delta": delta, "logprobs": [] })),
            ),
            Kind::Thought => (
                "response.reasoning_summary_text.delta",
                with(json!({ "delta": delta })),
            ),
            Kind::Call(_) => (
                "response.function_call_arguments.delta",
                with(json!({ "delta": delta })),
            ),
        }],
        Change::Done(_) => {
            let mut out = done(now, with);
            let item = json!({ "output_index": at, "item": item(now, id, true) });
            out.push(("response.output_item.done", item));
            out
        }
    }
}

/// The events that tell that the parts of an item are whole.
fn done(now: &Item, with: impl Fn(Value) -> Value) -> Vec<Told> {
    let text = now.text.as_str();
    match &now.kind {
        Kind::Text => vec![
            (
                "response.output_text.done",
                with(json!({ "text": text, "logprobs": [] })),
            ),
            (
                "response.content_part.done",
                with(json!({ "part": text_part(text) })),
            ),
        ],
        Kind::Thought => vec![
            (
                "response.reasoning_summary_text.done",
                with(json!({ "text": text })),
            ),
            (
                "response.reasoning_summary_part.done",
                with(json!({ "part": summary_part(text) })),
            ),
        ],
        Kind::Call(name) => vec![(
            "response.function_call_arguments.done",
            with(json!({ "arguments": text, "name": name })),
        )],
    }
}
