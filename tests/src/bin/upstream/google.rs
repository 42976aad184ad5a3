//! As Google's Gemini speaks: contents, their tokens, embeddings, models.

use std::sync::LazyLock;

use http::HeaderMap;
use serde_json::{Value, json};

use super::flow::Frame;
use super::openai::limit;
use super::plan::{Plan, Talk, texts, vector};
use super::reply::{Ask, Refusal, Reply, collected};

/// Numbers in a vector when a request does not say.
const DIMENSIONS: usize = 768;
/// The most it may ask for.
const MOST_DIMENSIONS: usize = 3072;

/// What thoughts are signed with.
const SIGNATURE: &str = "c2lnbmVkLWJ5LXRoZS11cHN0cmVhbQ==";

/// Models that it lists.
const MODELS: [&str; 3] = ["gemini-2.5-flash", "gemini-2.5-pro", "gemini-embedding-001"];

/// What each answer tells of itself.
pub(crate) static HEADERS: LazyLock<HeaderMap> = LazyLock::new(|| {
    let fixed = [
        ("server-timing", "gfet4t7; dur=7"),
        ("vary", "Origin, X-Origin, Referer"),
        ("x-content-type-options", "nosniff"),
        ("x-frame-options", "SAMEORIGIN"),
        ("x-xss-protection", "0"),
    ];
    collected(&fixed)
});

/// The body of a failure. A key that is wrong is a wrong argument, and one that is not there is not allowed.
pub(crate) fn error(refusal: &Refusal) -> Value {
    let (code, status) = match refusal.status {
        401 if refusal.missing => (403, "PERMISSION_DENIED"),
        401 => (400, "INVALID_ARGUMENT"),
        400 => (400, "INVALID_ARGUMENT"),
        403 => (403, "PERMISSION_DENIED"),
        404 => (404, "NOT_FOUND"),
        409 => (409, "ABORTED"),
        429 => (429, "RESOURCE_EXHAUSTED"),
        503 => (503, "UNAVAILABLE"),
        504 => (504, "DEADLINE_EXCEEDED"),
        500 => (500, "INTERNAL"),
        code @ 401..=499 => (code, "FAILED_PRECONDITION"),
        code => (code, "UNKNOWN"),
    };
    let mut error = json!({ "code": code, "message": refusal.message, "status": status });
    let kind = |name: &str| format!("type.googleapis.com/google.rpc.{name}");
    if refusal.status == 401 && !refusal.missing {
        error["details"] = json!([{
            "@type": kind("ErrorInfo"), "reason": "API_KEY_INVALID", "domain": "googleapis.com",
            "metadata": { "service": "generativelanguage.googleapis.com" },
        }]);
    }
    if let (429, Some(seconds)) = (code, refusal.after) {
        error["details"] = json!([{
            "@type": kind("RetryInfo"), "retryDelay": format!("{seconds}s"),
        }]);
    }
    json!({ "error": error })
}

/// What an error is within a stream, after something or as the first.
pub(crate) fn broken(array: bool, first: bool) -> Frame {
    let error = error(&Refusal::new(503, "The model is overloaded."));
    match (array, first) {
        (true, true) => Frame::event(format!("[{error}\n]\n")),
        (true, false) => Frame::event(format!(",\r\n{error}\n]\n")),
        (false, _) => Frame::event(format!("data: {error}\r\n\r\n")),
    }
}

/// One of two spellings.
fn either<'a>(json: &'a Value, camel: &str, snake: &str) -> &'a Value {
    json.get(camel).unwrap_or(&json[snake])
}

fn talk(json: &Value) -> Result<Talk<'_>, Refusal> {
    let contents = json["contents"].as_array().filter(|it| !it.is_empty());
    let contents = contents.ok_or_else(|| Refusal::new(400, "contents is not specified"))?;
    let config = either(json, "generationConfig", "generation_config");
    let wants_json = either(config, "responseMimeType", "response_mime_type") == "application/json";
    let schemas = [
        ("responseJsonSchema", "response_json_schema"),
        ("_responseJsonSchema", "_response_json_schema"),
        ("responseSchema", "response_schema"),
    ];
    let schemas = schemas.map(|(camel, snake)| either(config, camel, snake));
    let schema = schemas.into_iter().find(|it| it.is_object());
    let mut talk = Talk {
        schema: wants_json.then(|| schema.unwrap_or(&Value::Null)),
        limit: limit(config, &["maxOutputTokens", "max_output_tokens"]),
        ..Talk::default()
    };
    let system = either(json, "systemInstruction", "system_instruction");
    texts(system, &mut talk.texts);
    for content in contents {
        let before = talk.texts.len();
        texts(content, &mut talk.texts);
        let parts = content["parts"].as_array();
        let mut parts = parts.into_iter().flatten();
        talk.after_tool =
            parts.any(|part| !either(part, "functionResponse", "function_response").is_null());
        if content["role"] != "model" {
            talk.last = talk.texts[before..].to_vec();
        }
    }
    Ok(talk)
}

/// What is told of tokens after so many of the answer and of the thoughts.
fn usage(plan: &Plan, said: u64, thought: u64) -> Value {
    let usage = &plan.usage;
    let mut told = json!({
        "promptTokenCount": usage.prompt,
        "candidatesTokenCount": said,
        "totalTokenCount": usage.prompt + said + thought,
        "promptTokensDetails": [{ "modality": "TEXT", "tokenCount": usage.prompt }],
    });
    if usage.cached > 0 {
        told["cachedContentTokenCount"] = json!(usage.cached);
        told["cacheTokensDetails"] = json!([{ "modality": "TEXT", "tokenCount": usage.cached }]);
    }
    if thought > 0 {
        told["thoughtsTokenCount"] = json!(thought);
    }
    told
}

fn finish(plan: &Plan) -> &'static str {
    if plan.short { "MAX_TOKENS" } else { "STOP" }
}

fn call(name: &str) -> Value {
    json!({
        "functionCall": { "name": name, "args": { "city": "Paris" } },
        "thoughtSignature": SIGNATURE,
    })
}

fn answer(plan: &Plan, id: u64, parts: &[Value], last: bool, usage: Option<Value>) -> Value {
    let mut candidate = json!({ "content": { "parts": parts, "role": "model" }, "index": 0 });
    if last {
        candidate["finishReason"] = json!(finish(plan));
    }
    let mut answer = json!({
        "candidates": [candidate], "modelVersion": plan.script.base,
        "responseId": format!("{id:022x}"),
    });
    if let Some(usage) = usage.filter(|_| !plan.script.nousage) {
        answer["usageMetadata"] = usage;
    }
    answer
}

/// `POST /v1beta/models/MODEL:generateContent`
pub(crate) fn generate(ask: Ask<'_>) -> Result<Reply, Refusal> {
    let plan = Plan::new(ask.script, &talk(ask.json)?);
    let mut parts = Vec::new();
    if plan.script.think > 0 {
        let thoughts: String = plan.thoughts().collect();
        parts.push(json!({ "text": thoughts, "thought": true }));
    }
    parts.push(match &plan.tool {
        Some(name) => call(name),
        None => json!({ "text": plan.text }),
    });
    let usage = usage(&plan, plan.usage.answer(), plan.usage.thought);
    let answer = answer(&plan, ask.id, &parts, true, Some(usage));
    Ok(Reply::whole(answer.to_string(), plan.script))
}

/// `POST /v1beta/models/MODEL:streamGenerateContent`, as events or as a list.
pub(crate) fn stream(ask: Ask<'_>, array: bool) -> Result<Reply, Refusal> {
    let plan = Plan::new(ask.script, &talk(ask.json)?);
    let mut parts: Vec<Value> = plan
        .thoughts()
        .map(|it| json!({ "text": it, "thought": true }))
        .collect();
    let thoughts = parts.len();
    match &plan.tool {
        Some(name) => parts.push(call(name)),
        None => parts.extend(plan.pieces().map(|it| json!({ "text": it }))),
    }
    let count = parts.len();
    let chunks = parts.into_iter().enumerate().map(|(at, part)| {
        let last = at + 1 == count;
        let said = match last {
            true => plan.usage.answer(),
            false => (at + 1).saturating_sub(thoughts) as u64,
        };
        let usage = usage(&plan, said, (at + 1).min(thoughts) as u64);
        let chunk = answer(&plan, ask.id, &[part], last, Some(usage));
        Frame::delta(match (array, at) {
            (false, _) => format!("data: {chunk}\r\n\r\n"),
            (true, 0) => format!("[{chunk}"),
            (true, _) => format!(",\r\n{chunk}"),
        })
    });
    let mut frames: Vec<Frame> = chunks.collect();
    let mut reply = Reply::events(Vec::new(), plan.script.clone());
    if array {
        frames.push(Frame::event("\n]\n"));
        reply.kind = Some("application/json; charset=UTF-8");
    } else {
        reply.kind = Some("text/event-stream");
    }
    reply.said = super::reply::Said::Frames(frames);
    Ok(reply)
}

/// `POST /v1beta/models/MODEL:countTokens`
pub(crate) fn count(ask: Ask<'_>) -> Result<Reply, Refusal> {
    let inner = ask.json.get("generateContentRequest");
    let plan = Plan::new(ask.script, &talk(inner.unwrap_or(ask.json))?);
    let tokens = plan.usage.prompt;
    let answer = json!({
        "totalTokens": tokens,
        "promptTokensDetails": [{ "modality": "TEXT", "tokenCount": tokens }],
    });
    Ok(Reply::whole(answer.to_string(), plan.script))
}

fn embedding(request: &Value) -> (Value, usize) {
    let mut found = Vec::new();
    texts(&request["content"], &mut found);
    let text = found.join(" ");
    let inner = either(request, "embedContentConfig", "embed_content_config");
    let wanted = [request, inner].map(|it| {
        let it = either(it, "outputDimensionality", "output_dimensionality");
        it.as_u64().and_then(|it| usize::try_from(it).ok())
    });
    let dimensions = wanted.into_iter().flatten().next().unwrap_or(DIMENSIONS);
    let values = vector(&text, dimensions.min(MOST_DIMENSIONS));
    (json!({ "values": values }), text.len())
}

/// `POST /v1beta/models/MODEL:embedContent`, and with a list of them.
pub(crate) fn embed(ask: Ask<'_>, batch: bool) -> Result<Reply, Refusal> {
    let one = std::slice::from_ref(ask.json);
    let requests = match batch {
        true => ask.json["requests"].as_array().map(Vec::as_slice),
        false => Some(one).filter(|_| ask.json["content"].is_object()),
    };
    let requests = requests.filter(|it| !it.is_empty());
    let requests = requests.ok_or_else(|| Refusal::new(400, "content is not specified"))?;
    let (embeddings, bytes): (Vec<Value>, Vec<usize>) = requests.iter().map(embedding).unzip();
    let tokens = bytes.iter().sum::<usize>().div_ceil(4).max(1) as u64;
    let tokens = ask.script.prompt.unwrap_or(tokens);
    let mut answer = match batch {
        true => json!({ "embeddings": embeddings }),
        false => json!({ "embedding": embeddings[0] }),
    };
    if !ask.script.nousage {
        answer["usageMetadata"] = json!({
            "promptTokenCount": tokens, "totalTokenCount": tokens,
            "promptTokenDetails": [{ "modality": "TEXT", "tokenCount": tokens }],
        });
    }
    Ok(Reply::whole(answer.to_string(), ask.script))
}

fn model(id: &str) -> Value {
    let methods = match id.contains("embedding") {
        true => vec!["embedContent", "countTextTokens", "countTokens"],
        false => vec!["generateContent", "countTokens", "batchGenerateContent"],
    };
    json!({
        "name": format!("models/{id}"), "version": "001", "displayName": id, "description": id,
        "inputTokenLimit": 1_048_576, "outputTokenLimit": 65_536,
        "supportedGenerationMethods": methods,
        "temperature": 1, "topP": 0.95, "topK": 64, "maxTemperature": 2,
    })
}

/// `GET /v1beta/models` and one of them.
pub(crate) fn models(ask: Ask<'_>, one: bool) -> Reply {
    let answer = match one {
        true => model(&ask.script.base),
        false => json!({ "models": MODELS.map(model) }),
    };
    Reply::whole(answer.to_string(), ask.script)
}
