//! As OpenAI speaks: chat completions, embeddings, models. Its responses are in a module of their own.

use std::sync::LazyLock;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::{HeaderMap, HeaderValue};
use serde_json::{Value, json};

use super::flow::Frame;
use super::plan::{ARGUMENTS, PIECES, Plan, Talk, Usage, texts, vector};
use super::reply::{Ask, Refusal, Reply, collected, now, quoted};

/// Numbers in a vector when a request does not say.
const DIMENSIONS: usize = 1536;
/// The most it may ask for.
const MOST_DIMENSIONS: u64 = 3072;
/// Texts of one request.
const MOST_INPUTS: usize = 2048;
/// Answers of one request.
const MOST_CHOICES: u64 = 128;

/// Models that it lists.
const MODELS: [&str; 5] = [
    "gpt-4o",
    "gpt-4o-mini",
    "gpt-5",
    "o4-mini",
    "text-embedding-3-small",
];

/// What each answer tells of limits and itself.
static HEADERS: LazyLock<HeaderMap> = LazyLock::new(|| {
    let fixed = [
        ("openai-organization", "org-upstream"),
        ("openai-version", "2020-10-01"),
        ("openai-processing-ms", "7"),
        ("x-ratelimit-limit-requests", "10000"),
        ("x-ratelimit-limit-tokens", "2000000"),
        ("x-ratelimit-remaining-requests", "9999"),
        ("x-ratelimit-remaining-tokens", "1999990"),
        ("x-ratelimit-reset-requests", "6ms"),
        ("x-ratelimit-reset-tokens", "0s"),
    ];
    collected(&fixed)
});

/// Those headers, and a request's id.
pub(crate) fn headers(id: u64) -> HeaderMap {
    let mut headers = HEADERS.clone();
    if let Ok(value) = HeaderValue::try_from(format!("req_{id:032x}")) {
        headers.insert("x-request-id", value);
    }
    headers
}

/// The body of a failure.
pub(crate) fn error(refusal: &Refusal) -> Value {
    let (kind, code) = match refusal.status {
        401 if refusal.missing => ("invalid_request_error", Value::Null),
        401 => ("invalid_request_error", json!("invalid_api_key")),
        403 => (
            "request_forbidden",
            json!("unsupported_country_region_territory"),
        ),
        404 => ("invalid_request_error", json!("model_not_found")),
        429 => ("requests", json!("rate_limit_exceeded")),
        400..=499 => ("invalid_request_error", Value::Null),
        _ => ("server_error", Value::Null),
    };
    json!({ "error": {
        "message": refusal.message, "type": kind, "param": null, "code": code,
    } })
}

/// What an error is within a stream.
pub(crate) fn broken() -> Frame {
    let error = error(&Refusal::new(500, "The server had an error in the stream."));
    Frame::event(format!("data: {error}\n\n"))
}

fn is_tool(role: &Value) -> bool {
    role == "tool" || role == "function"
}

/// What a request's format asks for.
fn schema(format: &Value) -> Option<&Value> {
    match format["type"].as_str()? {
        "json_object" => Some(&Value::Null),
        "json_schema" => Some(&format["json_schema"]["schema"]),
        _ => None,
    }
}

fn talk(json: &Value) -> Result<Talk<'_>, Refusal> {
    let messages = json["messages"].as_array().filter(|it| !it.is_empty());
    let messages =
        messages.ok_or_else(|| Refusal::new(400, "messages must be a list that is not empty"))?;
    let mut talk = Talk {
        schema: schema(&json["response_format"]),
        limit: limit(json, &["max_completion_tokens", "max_tokens"]),
        ..Talk::default()
    };
    for message in messages {
        let before = talk.texts.len();
        texts(&message["content"], &mut talk.texts);
        talk.after_tool = is_tool(&message["role"]);
        if talk.after_tool || message["role"] == "user" {
            talk.last = talk.texts[before..].to_vec();
        }
    }
    Ok(talk)
}

/// The first of these that is a number.
pub(crate) fn limit(json: &Value, names: &[&str]) -> Option<usize> {
    let found = names.iter().find_map(|name| json[*name].as_u64())?;
    usize::try_from(found).ok()
}

/// As text: these are on every answer, and a benchmark asks for many.
fn usage(usage: &Usage, answers: u64) -> String {
    let output = usage.output(answers);
    format!(
        "{{\"prompt_tokens\":{},\"completion_tokens\":{output},\"total_tokens\":{},\
         \"prompt_tokens_details\":{{\"cached_tokens\":{},\"cache_write_tokens\":{},\"audio_tokens\":0}},\
         \"completion_tokens_details\":{{\"reasoning_tokens\":{},\"audio_tokens\":0,\
         \"accepted_prediction_tokens\":0,\"rejected_prediction_tokens\":0}}}}",
        usage.prompt,
        usage.prompt + output,
        usage.cached,
        usage.written,
        usage.thought,
    )
}

fn finish(plan: &Plan) -> &'static str {
    match (&plan.tool, plan.short) {
        (Some(_), _) => "tool_calls",
        (None, true) => "length",
        (None, false) => "stop",
    }
}

/// `POST /v1/chat/completions`
pub(crate) fn chat(ask: Ask<'_>) -> Result<Reply, Refusal> {
    let talk = talk(ask.json)?;
    let answers = ask.json["n"].as_u64().unwrap_or(1).clamp(1, MOST_CHOICES);
    let id = ask.id;
    let plan = Plan::new(ask.script, &talk);
    if ask.json["stream"] == true {
        let told = ask.json["stream_options"]["include_usage"] == true;
        return Ok(stream(&plan, id, answers, told));
    }
    let message = match &plan.tool {
        Some(name) => format!(
            "{{\"role\":\"assistant\",\"content\":null,\"refusal\":null,\"annotations\":[],\
             \"tool_calls\":[{{\"id\":\"call_{id:024x}\",\"type\":\"function\",\
             \"function\":{{\"name\":{},\"arguments\":{}}}}}]}}",
            quoted(name),
            quoted(ARGUMENTS),
        ),
        None => format!(
            "{{\"role\":\"assistant\",\"content\":{},\"refusal\":null,\"annotations\":[]}}",
            quoted(&plan.text)
        ),
    };
    let finish = finish(&plan);
    let choices = (0..answers).map(|index| {
        format!(
            "{{\"index\":{index},\"message\":{message},\"logprobs\":null,\
             \"finish_reason\":\"{finish}\"}}"
        )
    });
    let told = match plan.script.nousage {
        true => String::new(),
        false => format!(",\"usage\":{}", usage(&plan.usage, answers)),
    };
    let answer = format!(
        "{{\"id\":\"chatcmpl-{id:029x}\",\"object\":\"chat.completion\",\"created\":{},\
         \"model\":{},\"choices\":[{}]{told},\"service_tier\":\"default\",\
         \"system_fingerprint\":\"fp_upstream\"}}",
        now(),
        quoted(&plan.script.base),
        choices.collect::<Vec<String>>().join(","),
    );
    Ok(Reply::whole(answer, plan.script))
}

fn stream(plan: &Plan, id: u64, answers: u64, told: bool) -> Reply {
    let told = told && !plan.script.nousage;
    let model = quoted(&plan.script.base);
    let head = format!(
        "data: {{\"id\":\"chatcmpl-{id:029x}\",\"object\":\"chat.completion.chunk\",\
         \"created\":{},\"model\":{model},\"service_tier\":\"default\",\
         \"system_fingerprint\":\"fp_upstream\",\"choices\":[",
        now()
    );
    let tail = if told {
        "],\"usage\":null}\n\n"
    } else {
        "]}\n\n"
    };
    let chunk = |index: u64, delta: &str, finish: &str| {
        format!(
            "{head}{{\"index\":{index},\"delta\":{delta},\"logprobs\":null,\
             \"finish_reason\":{finish}}}{tail}"
        )
    };
    let mut frames = Vec::new();
    for index in 0..answers {
        let first = match &plan.tool {
            Some(name) => json!({ "role": "assistant", "content": null, "refusal": null,
                "tool_calls": [{ "index": 0, "id": format!("call_{id:024x}"), "type": "function",
                    "function": { "name": name, "arguments": "" } }] }),
            None => json!({ "role": "assistant", "content": "", "refusal": null }),
        };
        frames.push(Frame::event(chunk(index, &first.to_string(), "null")));
    }
    let mut deltas = |delta: &str| {
        frames.extend((0..answers).map(|index| Frame::delta(chunk(index, delta, "null"))));
    };
    if plan.tool.is_some() {
        for piece in PIECES.map(quoted) {
            deltas(&format!(
                "{{\"tool_calls\":[{{\"index\":0,\"function\":{{\"arguments\":{piece}}}}}]}}"
            ));
        }
    } else {
        for piece in plan.pieces() {
            deltas(&format!("{{\"content\":{}}}", quoted(piece)));
        }
    }
    let finish = quoted(finish(plan));
    frames.extend((0..answers).map(|index| Frame::event(chunk(index, "{}", &finish))));
    if told {
        let usage = usage(&plan.usage, answers);
        frames.push(Frame::event(format!("{head}],\"usage\":{usage}}}\n\n")));
    }
    frames.push(Frame::event("data: [DONE]\n\n"));
    Reply::events(frames, plan.script.clone())
}

/// `POST /v1/embeddings`
pub(crate) fn embeddings(ask: Ask<'_>) -> Result<Reply, Refusal> {
    let json = ask.json;
    let dimensions = json["dimensions"].as_u64();
    let dimensions = dimensions.map(|it| usize::try_from(it.min(MOST_DIMENSIONS)));
    let dimensions = dimensions.and_then(Result::ok).unwrap_or(DIMENSIONS);
    let inputs: Vec<String> = match &json["input"] {
        Value::String(text) => vec![text.clone()],
        // Numbers are the tokens of one text.
        Value::Array(parts) if parts.iter().all(Value::is_number) && !parts.is_empty() => {
            vec![json["input"].to_string()]
        }
        Value::Array(parts) => parts
            .iter()
            .map(|it| it.as_str().map_or_else(|| it.to_string(), str::to_owned))
            .collect(),
        _ => Vec::new(),
    };
    if inputs.is_empty() || inputs.len() > MOST_INPUTS {
        return Err(Refusal::new(400, "input must have 1 to 2048 texts"));
    }
    let bytes: usize = inputs.iter().map(String::len).sum();
    let default = bytes.div_ceil(4).max(1) as u64;
    let tokens = ask.script.prompt.unwrap_or(default);
    let in_base64 = json["encoding_format"] == "base64";
    let data = inputs.iter().enumerate().map(|(index, text)| {
        let vector = vector(text, dimensions);
        let embedding = match in_base64 {
            true => {
                let bytes: Vec<u8> = vector.iter().flat_map(|it| it.to_le_bytes()).collect();
                json!(STANDARD.encode(bytes))
            }
            false => json!(vector),
        };
        json!({ "object": "embedding", "index": index, "embedding": embedding })
    });
    let mut answer = json!({
        "object": "list", "data": data.collect::<Vec<Value>>(), "model": ask.script.base,
    });
    if !ask.script.nousage {
        answer["usage"] = json!({ "prompt_tokens": tokens, "total_tokens": tokens });
    }
    Ok(Reply::whole(answer.to_string(), ask.script))
}

fn model(id: &str) -> Value {
    json!({ "id": id, "object": "model", "created": 1_721_172_741, "owned_by": "system" })
}

/// `GET /v1/models` and one of them.
pub(crate) fn models(ask: Ask<'_>, one: bool) -> Reply {
    let answer = match one {
        true => model(&ask.script.base),
        false => json!({ "object": "list", "data": MODELS.map(model) }),
    };
    Reply::whole(answer.to_string(), ask.script)
}
