//! Gemini's `generateContent`: requests and answers. Fields are called as its JSON calls them, or as its
//! protocol buffers do: both are taken.

use std::collections::{BTreeMap, VecDeque};

use crate::Dialect;
use crate::chat::read_stops;
use crate::json::{Fields, Json, Object, refused};
use crate::neutral::{
    Answer, Call, Choice, Effort, Format, Kind, Knob, Media, Mode, Outcome, Part, Place, Reasoning,
    Request, Role, Signature, Source, Stop, Thought, Tool, Turn,
};
use crate::schema;
use crate::tap::Usage;
use crate::translate::Untranslatable;

/// The names of a field's other spelling.
const SPELLINGS: &[(&str, &str)] = &[
    ("system_instruction", "systemInstruction"),
    ("generation_config", "generationConfig"),
    ("tool_config", "toolConfig"),
    ("safety_settings", "safetySettings"),
    ("cached_content", "cachedContent"),
    ("max_output_tokens", "maxOutputTokens"),
    ("candidate_count", "candidateCount"),
    ("top_p", "topP"),
    ("top_k", "topK"),
    ("stop_sequences", "stopSequences"),
    ("frequency_penalty", "frequencyPenalty"),
    ("presence_penalty", "presencePenalty"),
    ("response_mime_type", "responseMimeType"),
    ("response_schema", "responseSchema"),
    ("response_json_schema", "responseJsonSchema"),
    ("response_modalities", "responseModalities"),
    ("response_logprobs", "responseLogprobs"),
    ("thinking_config", "thinkingConfig"),
    ("thinking_budget", "thinkingBudget"),
    ("thinking_level", "thinkingLevel"),
    ("include_thoughts", "includeThoughts"),
    ("function_declarations", "functionDeclarations"),
    ("function_calling_config", "functionCallingConfig"),
    ("allowed_function_names", "allowedFunctionNames"),
    ("parameters_json_schema", "parametersJsonSchema"),
    ("inline_data", "inlineData"),
    ("file_data", "fileData"),
    ("mime_type", "mimeType"),
    ("file_uri", "fileUri"),
    ("display_name", "displayName"),
    ("function_call", "functionCall"),
    ("function_response", "functionResponse"),
    ("thought_signature", "thoughtSignature"),
];

/// An object with its fields in the first spelling. What a tool gets and gives is left as it is.
fn spelled(value: Json, path: String, is_lenient: bool) -> Result<Fields, Untranslatable> {
    let Json::Object(mut fields) = value else {
        return Fields::of(value, path);
    };
    for at in 0..fields.len() {
        let other = fields.get(at).and_then(|(name, _)| {
            let known = SPELLINGS.iter().find(|(snake, _)| snake == name);
            known.map(|(_, camel)| *camel)
        });
        let Some(camel) = other else { continue };
        if fields.iter().any(|(name, _)| name == camel) {
            return Err(refused(format!("{path}.{camel}"), "it is there twice"));
        }
        if let Some((name, _)) = fields.get_mut(at) {
            *name = camel.to_owned();
        }
    }
    Fields::of(Json::Object(fields), path).map(|it| it.lenient(is_lenient))
}

fn object(from: &mut Fields, name: &str) -> Result<Option<Fields>, Untranslatable> {
    let path = from.path(name);
    let value = from.take(name);
    let is_lenient = from.is_lenient();
    value
        .map(|value| spelled(value, path, is_lenient))
        .transpose()
}

fn objects(from: &mut Fields, name: &str) -> Result<Vec<Fields>, Untranslatable> {
    let path = from.path(name);
    let is_lenient = from.is_lenient();
    // Where there is one, it may stand without the list.
    let list = match from.take(name) {
        None => Vec::new(),
        Some(Json::List(list)) => list,
        Some(value) => return Ok(vec![spelled(value, path, is_lenient)?]),
    };
    let each = list.into_iter().enumerate();
    each.map(|(at, value)| spelled(value, format!("{path}[{at}]"), is_lenient))
        .collect()
}

/// Calls that have no id of their own are given one; what comes of them says their names in the same order.
#[derive(Default)]
struct Ids {
    given: usize,
    open: BTreeMap<String, VecDeque<String>>,
}

impl Ids {
    fn call(&mut self, name: &str, id: Option<String>) -> String {
        id.unwrap_or_else(|| {
            self.given += 1;
            let id = format!("call_{}", self.given);
            let open = self.open.entry(name.to_owned()).or_default();
            open.push_back(id.clone());
            id
        })
    }

    fn result(&mut self, name: &str, id: Option<String>) -> Option<String> {
        id.or_else(|| self.open.get_mut(name)?.pop_front())
    }
}

/// Reads a request. The model and whether it streams are in its path.
pub(crate) fn read_request(body: Json) -> Result<Request, Untranslatable> {
    let mut from = spelled(body, String::new(), false)?;
    let mut made = Request::new(Dialect::Gemini);
    made.usage_asked = true;
    from.ignore(&["labels", "model"]);
    from.only("store", &[false.into()])?;
    from.only("safetySettings", &[Vec::new().into()])?;
    let mut ids = Ids::default();
    if let Some(mut system) = object(&mut from, "systemInstruction")? {
        system.ignore(&["role"]);
        let parts = read_parts(&mut system, &mut ids)?;
        system.end()?;
        made.say(Role::System, parts, "systemInstruction");
    }
    for mut content in objects(&mut from, "contents")? {
        let at = content.here().to_owned();
        let role = match content.text("role")?.as_deref() {
            None | Some("user" | "function") => Role::User,
            Some("model") => Role::Assistant,
            Some(_) => return Err(refused(content.path("role"), "this role is not known")),
        };
        let parts = read_parts(&mut content, &mut ids)?;
        content.end()?;
        made.say(role, parts, &at);
    }
    for mut tool in objects(&mut from, "tools")? {
        for declared in objects(&mut tool, "functionDeclarations")? {
            made.tools.push(read_tool(declared)?);
        }
        tool.end()?;
    }
    read_choice(&mut from, &mut made)?;
    if let Some(config) = object(&mut from, "generationConfig")? {
        read_config(config, &mut made)?;
    }
    from.end()?;
    Ok(made)
}

fn read_config(mut from: Fields, made: &mut Request) -> Result<(), Untranslatable> {
    from.only("candidateCount", &[1_u64.into()])?;
    from.only("responseLogprobs", &[false.into()])?;
    from.only("responseModalities", &[vec![Json::from("TEXT")].into()])?;
    made.most_output = from.count("maxOutputTokens")?;
    made.temperature = from.number("temperature")?;
    made.top_p = from.number("topP")?;
    made.top_k = from.number("topK")?;
    made.seed = from.number("seed")?;
    made.frequency_penalty = from.number("frequencyPenalty")?;
    made.presence_penalty = from.number("presencePenalty")?;
    let stops = from.list("stopSequences")?.unwrap_or_default();
    made.stops = read_stops(stops, "generationConfig.stopSequences")?;
    let mime = from.text("responseMimeType")?;
    let plain = from.take("responseJsonSchema");
    let own = from.take("responseSchema");
    let schema = match own {
        Some(own) => Some(schema::plain(own)),
        None => plain,
    };
    made.format = match (mime.as_deref(), schema) {
        (None | Some("text/plain"), None) => None,
        (Some("application/json"), None) => Some(Format::Json),
        (Some("application/json"), Some(schema)) => Some(Format::Schema {
            name: None,
            schema,
            strict: Some(true),
        }),
        _ => {
            let path = from.path("responseMimeType");
            return Err(refused(path, "this form cannot be translated"));
        }
    };
    if let Some(mut thinking) = object(&mut from, "thinkingConfig")? {
        made.reasoning.show = thinking.flag("includeThoughts")?;
        if let Some(level) = thinking.text("thinkingLevel")? {
            let path = thinking.path("thinkingLevel");
            made.reasoning.effort = Some(Effort::read(&level.to_ascii_lowercase(), &path)?);
            made.reasoning.mode = Some(Mode::Adaptive);
        }
        if let Some(budget) = thinking.number("thinkingBudget")? {
            made.reasoning.mode = Some(match budget.as_i64() {
                Some(-1) => Mode::Adaptive,
                Some(0) => Mode::Off,
                budget => {
                    let budget = budget.and_then(|it| u64::try_from(it).ok());
                    let path = thinking.path("thinkingBudget");
                    Mode::Budget(budget.ok_or_else(|| refused(path, "this is no budget"))?)
                }
            });
        }
        thinking.end()?;
    }
    from.end()
}

fn read_tool(mut from: Fields) -> Result<Tool, Untranslatable> {
    let plain = from.take("parametersJsonSchema");
    let own = from.take("parameters");
    let tool = Tool {
        name: from.needed("name")?,
        description: from.text("description")?,
        schema: plain.or_else(|| own.map(schema::plain)),
        strict: None,
    };
    from.end()?;
    Ok(tool)
}

fn read_choice(from: &mut Fields, made: &mut Request) -> Result<(), Untranslatable> {
    let Some(mut config) = object(from, "toolConfig")? else {
        return Ok(());
    };
    if let Some(mut calling) = object(&mut config, "functionCallingConfig")? {
        let path = calling.path("allowedFunctionNames");
        let names = calling.list("allowedFunctionNames")?.unwrap_or_default();
        let names = read_stops(names, &path)?;
        let mode = calling.text("mode")?;
        made.choice = Some(match (mode.as_deref(), names.as_slice()) {
            (None | Some("AUTO"), []) => Choice::Auto,
            (Some("VALIDATED"), []) => {
                for tool in &mut made.tools {
                    tool.strict = Some(true);
                }
                Choice::Auto
            }
            (Some("ANY"), []) => Choice::Any,
            (Some("ANY"), [name]) => Choice::Tool(name.clone()),
            (Some("NONE"), _) => Choice::Never,
            _ => return Err(refused(path, "this choice cannot be translated")),
        });
        calling.end()?;
    }
    config.end()
}

fn read_parts(from: &mut Fields, ids: &mut Ids) -> Result<Vec<Part>, Untranslatable> {
    let each = objects(from, "parts")?.into_iter();
    each.map(|part| read_part(part, ids)).collect()
}

fn read_part(mut from: Fields, ids: &mut Ids) -> Result<Part, Untranslatable> {
    let at = Place(from.here().to_owned());
    let is_thought = from.flag("thought")?.unwrap_or(false);
    let signature = from.text("thoughtSignature")?;
    let signature = signature.map(|text| Signature::read(Dialect::Gemini, text));
    let part = if let Some(text) = from.text("text")? {
        match is_thought {
            true => Part::Thought(Thought {
                text,
                signature,
                is_hidden: false,
            }),
            // Of a text, the signature is a help and no duty.
            false => Part::Text(text),
        }
    } else if let Some(mut call) = object(&mut from, "functionCall")? {
        let name = call.needed("name")?;
        let id = call.text("id")?;
        let args = call.take("args").unwrap_or(Json::Object(Vec::new()));
        call.end()?;
        Part::Call(Call {
            id: ids.call(&name, id),
            name,
            arguments: args.to_string(),
            signature,
            at,
        })
    } else if let Some(result) = object(&mut from, "functionResponse")? {
        Part::Result(read_result(result, ids)?)
    } else {
        Part::Media(read_media(&mut from, at)?)
    };
    from.end()?;
    Ok(part)
}

/// What a tool gave: a text in `output` or `error` is that text, any other object its JSON.
fn read_result(mut from: Fields, ids: &mut Ids) -> Result<Outcome, Untranslatable> {
    let at = Place(from.here().to_owned());
    let name = from.needed("name")?;
    let given = from.text("id")?;
    let id = ids.result(&name, given);
    let id = id.ok_or_else(|| at.refused("there is no call for this response"))?;
    let response = from.take("response").unwrap_or(Json::Object(Vec::new()));
    from.end()?;
    let (text, is_error) = match &response {
        Json::Object(fields) => match fields.as_slice() {
            [(name, Json::Text(text))] if name == "output" => (text.clone(), false),
            [(name, Json::Text(text))] if name == "error" => (text.clone(), true),
            _ => (response.to_string(), false),
        },
        _ => (response.to_string(), false),
    };
    Ok(Outcome {
        id,
        parts: vec![Part::Text(text)],
        is_error,
        at,
    })
}

fn kind(mime: &str) -> Kind {
    match mime.split('/').next() {
        Some("image") => Kind::Image,
        Some("audio") => Kind::Audio,
        _ => Kind::File,
    }
}

fn read_media(from: &mut Fields, at: Place) -> Result<Media, Untranslatable> {
    if let Some(mut blob) = object(from, "inlineData")? {
        let mime = blob.needed("mimeType")?;
        let media = Media {
            kind: kind(&mime),
            name: blob.text("displayName")?,
            source: Source::Data {
                mime,
                data: blob.needed("data")?,
            },
            detail: None,
            at,
        };
        blob.end()?;
        return Ok(media);
    }
    let Some(mut file) = object(from, "fileData")? else {
        return Err(at.refused("this part cannot be translated"));
    };
    let mime = file.text("mimeType")?.unwrap_or_default();
    let url = file.needed("fileUri")?;
    if url.starts_with("https://generativelanguage.googleapis.com/") {
        return Err(at.refused("a file that was uploaded to one provider is not with another"));
    }
    let mut media = Media::of_url(kind(&mime), url, at.0)?;
    media.name = file.text("displayName")?;
    file.end()?;
    Ok(media)
}

/// Writes a request.
pub(crate) fn write_request(request: &Request) -> Result<Json, Untranslatable> {
    request.without(&[Knob::Verbosity, Knob::Parallel])?;
    let (system, turns) = request.parted()?;
    let system: Vec<Json> = system.into_iter().map(text_part).collect();
    let mut contents = Vec::new();
    let mut names = BTreeMap::new();
    for turn in &turns {
        let parts = write_parts(turn, &mut names)?;
        let role = match turn.role {
            Role::Assistant => "model",
            _ => "user",
        };
        if !parts.is_empty() {
            contents.push(Object::new().with("role", role).with("parts", parts).into());
        }
    }
    let declared: Vec<Json> = request.tools.iter().map(write_tool).collect();
    let tools = (!declared.is_empty()).then(|| {
        vec![Json::from(
            Object::new().with("functionDeclarations", declared),
        )]
    });
    let config = write_config(request);
    Ok(Object::new()
        .maybe(
            "systemInstruction",
            (!system.is_empty()).then(|| Object::new().with("parts", system)),
        )
        .with("contents", contents)
        .maybe("tools", tools)
        .maybe("toolConfig", write_choice(request))
        .maybe("generationConfig", (!config.is_empty()).then_some(config))
        .into())
}

fn write_config(request: &Request) -> Object {
    let stops: Vec<Json> = request.stops.iter().map(Json::from).collect();
    let schema = match &request.format {
        Some(Format::Schema { schema, .. }) => Some(schema.clone()),
        _ => None,
    };
    let mime = request.format.as_ref().map(|_| "application/json");
    let thinking = write_thinking(&request.reasoning);
    Object::new()
        .maybe("maxOutputTokens", request.most_output)
        .maybe("temperature", request.temperature.clone())
        .maybe("topP", request.top_p.clone())
        .maybe("topK", request.top_k.clone())
        .maybe("seed", request.seed.clone())
        .maybe("frequencyPenalty", request.frequency_penalty.clone())
        .maybe("presencePenalty", request.presence_penalty.clone())
        .maybe("stopSequences", (!stops.is_empty()).then_some(stops))
        .maybe("responseMimeType", mime)
        .maybe("responseJsonSchema", schema)
        .maybe("thinkingConfig", (!thinking.is_empty()).then_some(thinking))
}

fn write_thinking(reasoning: &Reasoning) -> Object {
    let level = reasoning.effort.map(|effort| match effort {
        Effort::Minimal => "MINIMAL",
        Effort::Low => "LOW",
        Effort::Medium => "MEDIUM",
        Effort::High | Effort::XHigh | Effort::Max => "HIGH",
    });
    // An effort and a budget exclude each other.
    let budget = match (reasoning.mode, level) {
        (Some(Mode::Off), _) => Some(0.into()),
        (_, Some(_)) | (None, None) => None,
        (Some(Mode::Adaptive), None) => Some((-1).into()),
        (Some(Mode::Budget(tokens)), None) => Some(tokens.into()),
    };
    let level = level.filter(|_| budget.is_none());
    Object::new()
        .maybe("includeThoughts", reasoning.show)
        .maybe("thinkingLevel", level)
        .maybe("thinkingBudget", budget.map(Json::Number))
}

fn write_tool(tool: &Tool) -> Json {
    Object::new()
        .with("name", &tool.name)
        .maybe("description", tool.description.as_ref())
        .maybe("parametersJsonSchema", tool.schema.clone())
        .into()
}

fn write_choice(request: &Request) -> Option<Object> {
    if request.tools.is_empty() {
        return None;
    }
    let is_strict = request.tools.iter().any(|tool| tool.strict == Some(true));
    let (mode, name) = match &request.choice {
        None | Some(Choice::Auto) if is_strict => ("VALIDATED", None),
        None => return None,
        Some(Choice::Auto) => ("AUTO", None),
        Some(Choice::Never) => ("NONE", None),
        Some(Choice::Any) => ("ANY", None),
        Some(Choice::Tool(name)) => ("ANY", Some(vec![Json::from(name)])),
    };
    let calling = Object::new().with("mode", mode);
    let calling = calling.maybe("allowedFunctionNames", name);
    Some(Object::new().with("functionCallingConfig", calling))
}

fn text_part(text: &str) -> Json {
    Object::new().with("text", text).into()
}

/// The parts of a turn for the provider. `names` are those of the tools that were called so far, by the ids of
/// the calls.
fn write_parts<'t>(
    turn: &'t Turn,
    names: &mut BTreeMap<&'t str, &'t str>,
) -> Result<Vec<Json>, Untranslatable> {
    let mut made = Vec::new();
    // The signature of a thought that stands for itself goes with the call after it.
    let mut loose: Option<&str> = None;
    for part in &turn.parts {
        match part {
            Part::Text(text) | Part::Refusal(text) if text.is_empty() => {}
            Part::Text(text) | Part::Refusal(text) => made.push(text_part(text)),
            Part::Media(media) => made.push(write_media(media)?),
            Part::Thought(thought) => {
                let own = thought.signature.as_ref();
                loose = own.and_then(|it| it.own(Dialect::Gemini)).or(loose);
            }
            Part::Call(call) => {
                names.insert(&call.id, &call.name);
                let own = call.signature.as_ref();
                let own = own.and_then(|it| it.own(Dialect::Gemini));
                made.push(write_call(call, own.or(loose.take()))?);
            }
            Part::Result(outcome) => {
                let name = names.get(outcome.id.as_str()).copied();
                let name = name.ok_or_else(|| outcome.at.refused("there is no call for it"))?;
                let key = if outcome.is_error { "error" } else { "output" };
                let response = Object::new()
                    .with("id", &outcome.id)
                    .with("name", name)
                    .with("response", Object::new().with(key, outcome.text()?));
                made.push(Object::new().with("functionResponse", response).into());
            }
        }
    }
    Ok(made)
}

fn write_call(call: &Call, signature: Option<&str>) -> Result<Json, Untranslatable> {
    let made = Object::new()
        .with("id", &call.id)
        .with("name", &call.name)
        .with("args", call.object()?);
    Ok(Object::new()
        .with("functionCall", made)
        .maybe("thoughtSignature", signature)
        .into())
}

fn write_media(media: &Media) -> Result<Json, Untranslatable> {
    media.without_detail()?;
    Ok(match &media.source {
        Source::Data { mime, data } => {
            let blob = Object::new().with("mimeType", mime).with("data", data);
            Object::new().with("inlineData", blob)
        }
        Source::Url(url) => {
            let file = Object::new().with("fileUri", url);
            Object::new().with("fileData", file.with("mimeType", mime_of(media, url)?))
        }
    }
    .into())
}

/// What a URL points at, by its ending: this API must be told.
fn mime_of(media: &Media, url: &str) -> Result<&'static str, Untranslatable> {
    let path = url.split(['?', '#']).next().unwrap_or(url);
    let ending = path.rsplit('.').next().unwrap_or_default();
    Ok(match (media.kind, ending.to_ascii_lowercase().as_str()) {
        (Kind::Image, "png") => "image/png",
        (Kind::Image, "jpg" | "jpeg") => "image/jpeg",
        (Kind::Image, "webp") => "image/webp",
        (Kind::Image, "gif") => "image/gif",
        (Kind::File, "pdf") => "application/pdf",
        _ => {
            return Err(media
                .at
                .refused("its URL does not tell what it is: send its bytes"));
        }
    })
}

/// Reads why a model stopped; it says the same of calls and of its end.
pub(crate) fn read_stop(word: &str, has_calls: bool) -> Result<Stop, Untranslatable> {
    Ok(match word {
        "STOP" if has_calls => Stop::Calls,
        "STOP" => Stop::End,
        "MAX_TOKENS" => Stop::Length,
        "SAFETY" | "RECITATION" | "BLOCKLIST" | "PROHIBITED_CONTENT" | "SPII" => Stop::Filter,
        word => {
            let word: String = word.chars().take(64).collect();
            return Err(refused(
                "finishReason",
                format!("the model stopped with {word}"),
            ));
        }
    })
}

/// Says why a model stopped.
pub(crate) fn write_stop(stop: &Stop) -> &'static str {
    match stop {
        Stop::End | Stop::Text(_) | Stop::Calls => "STOP",
        Stop::Length => "MAX_TOKENS",
        Stop::Filter => "SAFETY",
    }
}

/// Writes usage.
pub(crate) fn write_usage(usage: &Usage) -> Object {
    let positive = |tokens: u64| (tokens > 0).then_some(tokens);
    Object::new()
        .with("promptTokenCount", usage.input)
        .maybe("cachedContentTokenCount", positive(usage.cache_read))
        .with(
            "candidatesTokenCount",
            usage.output.saturating_sub(usage.reasoning),
        )
        .maybe("thoughtsTokenCount", positive(usage.reasoning))
        .with("totalTokenCount", usage.input.saturating_add(usage.output))
}

/// What one candidate says: its parts, and why it stopped. `calls` counts those of the whole answer, for the
/// ids of those that have none.
pub(crate) fn read_candidate(
    from: &mut Fields,
    id: &str,
    calls: &mut usize,
) -> Result<(Vec<Part>, Option<String>), Untranslatable> {
    let mut parts = Vec::new();
    if let Some(mut content) = object(from, "content")? {
        for part in objects(&mut content, "parts")? {
            let mut ids = Ids::default();
            let mut part = read_part(part, &mut ids)?;
            if let Part::Call(call) = &mut part {
                if ids.given > 0 {
                    call.id = format!("call_{id}_{calls}");
                }
                *calls += 1;
            }
            parts.push(part);
        }
    }
    Ok((parts, from.text("finishReason")?))
}

/// Reads an answer.
pub(crate) fn read_answer(body: Json, usage: Usage) -> Result<Answer, Untranslatable> {
    let mut from = spelled(body, String::new(), true)?;
    let id = from.text("responseId")?.unwrap_or_default();
    let model = from.text("modelVersion")?.unwrap_or_default();
    let mut candidates = objects(&mut from, "candidates")?.into_iter();
    let mut calls = 0;
    let (parts, stop) = match (candidates.next(), candidates.next()) {
        (Some(mut candidate), None) => {
            let (parts, reason) = read_candidate(&mut candidate, &id, &mut calls)?;
            let reason = reason.ok_or_else(|| refused("finishReason", "it is missing"))?;
            (parts, read_stop(&reason, calls > 0)?)
        }
        // A prompt that is not answered.
        (None, _) if from.take("promptFeedback").is_some() => (Vec::new(), Stop::Filter),
        _ => return Err(refused("candidates", "there must be one")),
    };
    Ok(Answer {
        id,
        model,
        created: None,
        parts,
        stop,
        usage,
    })
}

/// The parts of an answer for a client.
pub(crate) fn write_said(parts: &[Part]) -> Result<Vec<Json>, Untranslatable> {
    let mut made = Vec::new();
    for part in parts {
        match part {
            Part::Text(text) | Part::Refusal(text) => made.push(text_part(text)),
            Part::Thought(thought) => {
                let signature = thought.signature.as_ref();
                let signature = signature.map(|it| it.kept(Dialect::Gemini));
                made.push(
                    Object::new()
                        .with("text", &thought.text)
                        .with("thought", true)
                        .maybe("thoughtSignature", signature)
                        .into(),
                );
            }
            Part::Call(call) => {
                let signature = call.signature.as_ref();
                let signature = signature.map(|it| it.kept(Dialect::Gemini));
                made.push(write_call(call, signature.as_deref())?);
            }
            Part::Media(media) => made.push(write_media(media)?),
            Part::Result(outcome) => return Err(outcome.at.refused("no model says this")),
        }
    }
    Ok(made)
}

/// An answer, or a piece of one.
pub(crate) fn answer(
    id: &str,
    model: &str,
    parts: Vec<Json>,
    stop: Option<&Stop>,
    usage: Option<&Usage>,
) -> Object {
    let candidate = Object::new()
        .with(
            "content",
            Object::new().with("parts", parts).with("role", "model"),
        )
        .maybe("finishReason", stop.map(write_stop))
        .with("index", 0_u64);
    Object::new()
        .with("candidates", vec![candidate.into()])
        .maybe("usageMetadata", usage.map(write_usage))
        .with("modelVersion", model)
        .with("responseId", id)
}

/// Writes an answer.
pub(crate) fn write_answer(answer: &Answer) -> Result<Json, Untranslatable> {
    let parts = write_said(&answer.parts)?;
    let (stop, usage) = (Some(&answer.stop), Some(&answer.usage));
    Ok(self::answer(&answer.id, &answer.model, parts, stop, usage).into())
}
