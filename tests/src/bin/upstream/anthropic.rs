//! As Anthropic speaks: messages, their tokens, models.

use std::sync::LazyLock;

use http::{HeaderMap, HeaderValue};
use serde_json::{Value, json};

use super::flow::Frame;
use super::openai::limit;
use super::plan::{PIECES, Plan, Talk, texts};
use super::reply::{Ask, Refusal, Reply, collected, quoted};

/// What thoughts are signed with.
const SIGNATURE: &str = "c2lnbmVkLWJ5LXRoZS11cHN0cmVhbQ==";

/// Models that it lists.
const MODELS: [(&str, &str); 3] = [
    ("claude-opus-4-5", "Claude Opus 4.5"),
    ("claude-sonnet-4-5", "Claude Sonnet 4.5"),
    ("claude-haiku-4-5", "Claude Haiku 4.5"),
];

fn request_id(id: u64) -> String {
    format!("req_{id:024x}")
}

/// What each answer tells of limits and itself.
static HEADERS: LazyLock<HeaderMap> = LazyLock::new(|| {
    let fixed = [
        (
            "anthropic-organization-id",
            "00000000-0000-4000-8000-000000000000",
        ),
        ("anthropic-ratelimit-requests-limit", "4000"),
        ("anthropic-ratelimit-requests-remaining", "3999"),
        ("anthropic-ratelimit-requests-reset", "2026-01-01T00:00:00Z"),
        ("anthropic-ratelimit-input-tokens-limit", "2000000"),
        ("anthropic-ratelimit-input-tokens-remaining", "2000000"),
        (
            "anthropic-ratelimit-input-tokens-reset",
            "2026-01-01T00:00:00Z",
        ),
        ("anthropic-ratelimit-output-tokens-limit", "400000"),
        ("anthropic-ratelimit-output-tokens-remaining", "400000"),
        (
            "anthropic-ratelimit-output-tokens-reset",
            "2026-01-01T00:00:00Z",
        ),
    ];
    collected(&fixed)
});

/// Those headers, and a request's id.
pub(crate) fn headers(id: u64) -> HeaderMap {
    let mut headers = HEADERS.clone();
    if let Ok(value) = HeaderValue::try_from(request_id(id)) {
        headers.insert("request-id", value);
    }
    headers
}

/// The body of a failure.
pub(crate) fn error(refusal: &Refusal, id: u64) -> Value {
    let kind = match refusal.status {
        401 => "authentication_error",
        402 => "billing_error",
        403 => "permission_error",
        404 => "not_found_error",
        413 => "request_too_large",
        429 => "rate_limit_error",
        504 => "timeout_error",
        529 => "overloaded_error",
        400..=499 => "invalid_request_error",
        _ => "api_error",
    };
    json!({
        "type": "error",
        "error": { "type": kind, "message": refusal.message },
        "request_id": request_id(id),
    })
}

/// What an error is within a stream.
pub(crate) fn broken() -> Frame {
    let error = json!({
        "type": "error", "error": { "type": "overloaded_error", "message": "Overloaded" },
    });
    Frame::event(format!("event: error\ndata: {error}\n\n"))
}

fn talk(json: &Value) -> Result<Talk<'_>, Refusal> {
    let messages = json["messages"].as_array().filter(|it| !it.is_empty());
    let messages = messages
        .ok_or_else(|| Refusal::new(400, "messages: a list that is not empty is needed"))?;
    let format = [&json["output_config"]["format"], &json["output_format"]];
    let format = format.into_iter().find(|it| it["type"] == "json_schema");
    let mut talk = Talk {
        schema: format.map(|it| &it["schema"]),
        limit: limit(json, &["max_tokens"]),
        ..Talk::default()
    };
    texts(&json["system"], &mut talk.texts);
    for message in messages {
        let before = talk.texts.len();
        texts(&message["content"], &mut talk.texts);
        let parts = message["content"].as_array();
        let mut parts = parts.into_iter().flatten();
        talk.after_tool = parts.any(|part| part["type"] == "tool_result");
        if message["role"] == "user" {
            talk.last = talk.texts[before..].to_vec();
        }
    }
    Ok(talk)
}

fn usage(plan: &Plan, output: u64) -> Value {
    let usage = &plan.usage;
    json!({
        "input_tokens": usage.prompt - usage.cached - usage.written,
        "cache_creation_input_tokens": usage.written,
        "cache_read_input_tokens": usage.cached,
        "cache_creation": {
            "ephemeral_5m_input_tokens": usage.written, "ephemeral_1h_input_tokens": 0,
        },
        "output_tokens": output,
        "service_tier": "standard",
    })
}

fn stop(plan: &Plan) -> &'static str {
    match (&plan.tool, plan.short) {
        (Some(_), _) => "tool_use",
        (None, true) => "max_tokens",
        (None, false) => "end_turn",
    }
}

fn call(id: u64, name: &str, input: &Value) -> Value {
    json!({
        "type": "tool_use", "id": format!("toolu_{id:024x}"), "name": name, "input": input,
    })
}

/// `POST /v1/messages`
pub(crate) fn messages(ask: Ask<'_>) -> Result<Reply, Refusal> {
    if ask.json["max_tokens"].as_u64().is_none() {
        return Err(Refusal::new(400, "max_tokens: a number is needed"));
    }
    let plan = Plan::new(ask.script, &talk(ask.json)?);
    let id = ask.id;
    if ask.json["stream"] == true {
        let frames = events(&plan, id);
        return Ok(Reply::events(frames, plan.script));
    }
    let mut content = Vec::new();
    if plan.script.think > 0 {
        let thoughts: String = plan.thoughts().collect();
        content.push(json!({
            "type": "thinking", "thinking": thoughts, "signature": SIGNATURE,
        }));
    }
    content.push(match &plan.tool {
        Some(name) => call(id, name, &json!({ "city": "Paris" })),
        None => json!({ "type": "text", "text": plan.text }),
    });
    let mut answer = json!({
        "id": format!("msg_{id:024x}"), "type": "message", "role": "assistant",
        "model": plan.script.base, "content": content,
        "stop_reason": stop(&plan), "stop_sequence": null,
    });
    if !plan.script.nousage {
        answer["usage"] = usage(&plan, plan.usage.output(1));
    }
    Ok(Reply::whole(answer.to_string(), plan.script))
}

fn event(kind: &str, mut event: Value) -> Frame {
    event["type"] = json!(kind);
    Frame::event(format!("event: {kind}\ndata: {event}\n\n"))
}

fn delta(index: usize, kind: &str, name: &str, text: &str) -> Frame {
    Frame::delta(format!(
        "event: content_block_delta\ndata: {{\"type\":\"content_block_delta\",\"index\":{index},\
         \"delta\":{{\"type\":\"{kind}\",\"{name}\":{}}}}}\n\n",
        quoted(text)
    ))
}

fn events(plan: &Plan, id: u64) -> Vec<Frame> {
    let told = !plan.script.nousage;
    let mut message = json!({
        "id": format!("msg_{id:024x}"), "type": "message", "role": "assistant",
        "model": plan.script.base, "content": [], "stop_reason": null, "stop_sequence": null,
    });
    if told {
        message["usage"] = usage(plan, 1);
    }
    let start = |index: usize, block: Value| {
        event(
            "content_block_start",
            json!({ "index": index, "content_block": block }),
        )
    };
    let end = |index: usize| event("content_block_stop", json!({ "index": index }));
    let mut frames = vec![event("message_start", json!({ "message": message }))];
    let mut index = 0;
    if plan.script.think > 0 {
        let block = json!({ "type": "thinking", "thinking": "", "signature": "" });
        frames.push(start(0, block));
        frames.push(event("ping", json!({})));
        for thought in plan.thoughts() {
            frames.push(delta(0, "thinking_delta", "thinking", &thought));
        }
        let signed = json!({ "type": "signature_delta", "signature": SIGNATURE });
        frames.push(event(
            "content_block_delta",
            json!({ "index": 0, "delta": signed }),
        ));
        frames.push(end(0));
        index = 1;
    }
    match &plan.tool {
        Some(name) => frames.push(start(index, call(id, name, &json!({})))),
        None => frames.push(start(index, json!({ "type": "text", "text": "" }))),
    }
    if index == 0 {
        frames.push(event("ping", json!({})));
    }
    if plan.tool.is_some() {
        let of = |piece: &str| delta(index, "input_json_delta", "partial_json", piece);
        frames.extend(PIECES.map(of));
    } else {
        frames.extend(
            plan.pieces()
                .map(|it| delta(index, "text_delta", "text", it)),
        );
    }
    frames.push(end(index));
    let mut last = json!({ "delta": { "stop_reason": stop(plan), "stop_sequence": null } });
    if told {
        let usage = &plan.usage;
        last["usage"] = json!({
            "input_tokens": usage.prompt - usage.cached - usage.written,
            "cache_creation_input_tokens": usage.written,
            "cache_read_input_tokens": usage.cached,
            "output_tokens": usage.output(1),
        });
    }
    frames.push(event("message_delta", last));
    frames.push(event("message_stop", json!({})));
    frames
}

/// `POST /v1/messages/count_tokens`
pub(crate) fn count(ask: Ask<'_>) -> Result<Reply, Refusal> {
    let plan = Plan::new(ask.script, &talk(ask.json)?);
    let answer = json!({ "input_tokens": plan.usage.prompt });
    Ok(Reply::whole(answer.to_string(), plan.script))
}

fn model(id: &str, name: &str) -> Value {
    json!({
        "type": "model", "id": id, "display_name": name, "created_at": "2025-09-29T00:00:00Z",
        "max_input_tokens": 200_000, "max_tokens": 64_000, "lifecycle": "active",
    })
}

/// `GET /v1/models` and one of them.
pub(crate) fn models(ask: Ask<'_>, one: bool) -> Reply {
    let answer = match one {
        true => model(&ask.script.base, &ask.script.base),
        false => json!({
            "data": MODELS.map(|(id, name)| model(id, name)), "has_more": false,
            "first_id": MODELS[0].0, "last_id": MODELS[MODELS.len() - 1].0,
        }),
    };
    Reply::whole(answer.to_string(), ask.script)
}
