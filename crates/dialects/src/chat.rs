//! Chat completions of `OpenAI`: requests and answers.

use crate::Dialect;
use crate::json::{Fields, Json, Object, refused};
use crate::neutral::{
    Answer, Call, Choice, Format, Kind, Knob, Media, Outcome, Part, Place, Reasoning, Request,
    Role, Signature, Source, Stop, Thought, Tool, Turn, texts,
};
use crate::tap::Usage;
use crate::translate::{Memory, Untranslatable};

/// What says nothing about the answer.
const WITHOUT_EFFECT: &[&str] = &[
    "user",
    "metadata",
    "safety_identifier",
    "prompt_cache_key",
    "prompt_cache_retention",
    "prompt_cache_options",
];

/// Reads a request.
pub(crate) fn read_request(body: Json) -> Result<Request, Untranslatable> {
    let mut from = Fields::of(body, "")?;
    let mut made = Request::new(Dialect::Chat);
    from.ignore(WITHOUT_EFFECT);
    from.needed("model")?;
    from.only("store", &[false.into()])?;
    from.only("service_tier", &["auto".into(), "default".into()])?;
    from.only("n", &[1_u64.into()])?;
    from.only("logprobs", &[false.into()])?;
    from.only("logit_bias", &[Json::Object(Vec::new())])?;
    from.only("modalities", &[vec![Json::from("text")].into()])?;
    made.stream = from.flag("stream")?.unwrap_or(false);
    if let Some(mut options) = from.object("stream_options")? {
        made.usage_asked = options.flag("include_usage")?.unwrap_or(false);
        // What only fills frames up.
        options.ignore(&["include_obfuscation"]);
        options.end()?;
    }
    let most = from.count("max_tokens")?;
    made.most_output = from.count("max_completion_tokens")?.or(most);
    made.temperature = from.number("temperature")?;
    made.top_p = from.number("top_p")?;
    made.seed = from.number("seed")?;
    made.frequency_penalty = from.number("frequency_penalty")?;
    made.presence_penalty = from.number("presence_penalty")?;
    made.verbosity = from.text("verbosity")?;
    made.parallel = from.flag("parallel_tool_calls")?;
    made.stops = match from.take("stop") {
        Some(Json::Text(stop)) => vec![stop],
        Some(Json::List(stops)) => read_stops(stops, "stop")?,
        Some(_) => return Err(refused("stop", "it must be a text or a list of texts")),
        None => Vec::new(),
    };
    if let Some(effort) = from.text("reasoning_effort")? {
        made.reasoning = Reasoning::of_word(&effort, "reasoning_effort")?;
    }
    for mut tool in from.objects("tools")? {
        only_function(&mut tool)?;
        let function = tool.object("function")?;
        let function = function.ok_or_else(|| refused(tool.path("function"), "it is missing"))?;
        made.tools.push(read_tool(function)?);
        tool.end()?;
    }
    made.choice = read_choice(&mut from)?;
    made.format = read_format(&mut from)?;
    for message in from.objects("messages")? {
        read_message(message, &mut made)?;
    }
    from.end()?;
    Ok(made)
}

/// The texts of a list.
pub(crate) fn read_stops(list: Vec<Json>, path: &str) -> Result<Vec<String>, Untranslatable> {
    let each = list.into_iter().map(|stop| match stop {
        Json::Text(stop) => Ok(stop),
        _ => Err(refused(path, "it must be a list of texts")),
    });
    each.collect()
}

fn only_function(from: &mut Fields) -> Result<(), Untranslatable> {
    match from.text("type")?.as_deref() {
        None | Some("function") => Ok(()),
        Some(_) => Err(refused(
            from.path("type"),
            "only functions can be translated",
        )),
    }
}

/// A tool, as Chat and Responses have it.
pub(crate) fn read_tool(mut from: Fields) -> Result<Tool, Untranslatable> {
    let tool = Tool {
        name: from.needed("name")?,
        description: from.text("description")?,
        schema: from.take("parameters"),
        strict: from.flag("strict")?,
    };
    from.end()?;
    Ok(tool)
}

fn read_choice(from: &mut Fields) -> Result<Option<Choice>, Untranslatable> {
    let value = from.take("tool_choice");
    Ok(Some(match value {
        None => return Ok(None),
        Some(Json::Text(word)) => read_choice_word(&word)?,
        Some(value) => {
            let mut choice = Fields::of(value, "tool_choice")?;
            only_function(&mut choice)?;
            let function = choice.object("function")?;
            choice.end()?;
            let mut function =
                function.ok_or_else(|| refused("tool_choice.function", "it is missing"))?;
            let name = function.needed("name")?;
            function.end()?;
            Choice::Tool(name)
        }
    }))
}

/// A word for a choice, as Chat and Responses have it.
pub(crate) fn read_choice_word(word: &str) -> Result<Choice, Untranslatable> {
    Ok(match word {
        "auto" => Choice::Auto,
        "none" => Choice::Never,
        "required" => Choice::Any,
        _ => return Err(refused("tool_choice", "this choice is not known")),
    })
}

fn read_format(from: &mut Fields) -> Result<Option<Format>, Untranslatable> {
    let Some(mut format) = from.object("response_format")? else {
        return Ok(None);
    };
    let read = match format.needed("type")?.as_str() {
        "text" => None,
        "json_object" => Some(Format::Json),
        "json_schema" => {
            let schema = format.object("json_schema")?;
            let path = "response_format.json_schema";
            Some(read_schema(
                schema.ok_or_else(|| refused(path, "it is missing"))?,
            )?)
        }
        _ => return Err(refused("response_format.type", "this format is not known")),
    };
    format.end()?;
    Ok(read)
}

/// The schema of an answer, as Chat and Responses have it. What describes it is put into it.
pub(crate) fn read_schema(mut from: Fields) -> Result<Format, Untranslatable> {
    let name = from.text("name")?;
    let description = from.text("description")?;
    let strict = from.flag("strict")?;
    let schema = from.take("schema");
    let mut schema = schema.ok_or_else(|| refused(from.path("schema"), "it is missing"))?;
    if let (Json::Object(fields), Some(description)) = (&mut schema, description)
        && !fields.iter().any(|(name, _)| name == "description")
    {
        fields.push(("description".to_owned(), description.into()));
    }
    from.end()?;
    Ok(Format::Schema {
        name,
        schema,
        strict,
    })
}

fn read_message(mut from: Fields, made: &mut Request) -> Result<(), Untranslatable> {
    let role = from.needed("role")?;
    let at = from.here().to_owned();
    match role.as_str() {
        "system" | "developer" => {
            let parts = read_content(&mut from, "content")?;
            made.say(Role::System, parts, &at);
        }
        "user" => {
            let parts = read_content(&mut from, "content")?;
            made.say(Role::User, parts, &at);
        }
        "assistant" => {
            let mut parts = read_content(&mut from, "content")?;
            parts.extend(from.text("refusal")?.map(Part::Refusal));
            for call in from.objects("tool_calls")? {
                parts.push(Part::Call(read_call(call)?));
            }
            // Thoughts that no provider signed: no other model reads them.
            from.ignore(&["reasoning_content", "reasoning"]);
            from.only("annotations", &[Vec::new().into()])?;
            made.say(Role::Assistant, parts, &at);
        }
        "tool" => {
            let outcome = Outcome {
                id: from.needed("tool_call_id")?,
                parts: read_content(&mut from, "content")?,
                is_error: false,
                at: Place(at.clone()),
            };
            made.say(Role::User, vec![Part::Result(outcome)], &at);
        }
        _ => return Err(refused(from.path("role"), "this role cannot be translated")),
    }
    from.end()
}

fn read_content(from: &mut Fields, name: &str) -> Result<Vec<Part>, Untranslatable> {
    from.content(name, ("parts", read_part))
}

fn read_part(mut from: Fields) -> Result<Part, Untranslatable> {
    let at = from.here().to_owned();
    from.ignore(&["prompt_cache_breakpoint"]);
    let missing = |path: String| refused(path, "it is missing");
    let part = match from.needed("type")?.as_str() {
        "text" => Part::Text(from.needed("text")?),
        "refusal" => Part::Refusal(from.needed("refusal")?),
        "image_url" => {
            let inner = from.object("image_url")?;
            let mut inner = inner.ok_or_else(|| missing(from.path("image_url")))?;
            let mut media = Media::of_url(Kind::Image, inner.needed("url")?, at)?;
            media.detail = inner.text("detail")?.filter(|detail| detail != "auto");
            inner.end()?;
            Part::Media(media)
        }
        "input_audio" => {
            let inner = from.object("input_audio")?;
            let mut inner = inner.ok_or_else(|| missing(from.path("input_audio")))?;
            let mime = format!("audio/{}", inner.needed("format")?);
            let data = inner.needed("data")?;
            inner.end()?;
            Part::Media(Media {
                kind: Kind::Audio,
                source: Source::Data { mime, data },
                name: None,
                detail: None,
                at: Place(at),
            })
        }
        "file" => {
            let inner = from.object("file")?;
            let mut inner = inner.ok_or_else(|| missing(from.path("file")))?;
            let mut media = Media::of_url(Kind::File, inner.needed("file_data")?, at)?;
            media.name = inner.text("filename")?;
            inner.end()?;
            Part::Media(media)
        }
        _ => return Err(refused(at, "this part cannot be translated")),
    };
    from.end()?;
    Ok(part)
}

fn read_call(mut from: Fields) -> Result<Call, Untranslatable> {
    let at = Place(from.here().to_owned());
    only_function(&mut from)?;
    from.ignore(&["index"]);
    let id = from.needed("id")?;
    let signature = read_signature(&mut from)?;
    let function = from.object("function")?;
    let mut function = function.ok_or_else(|| refused(from.path("function"), "it is missing"))?;
    from.end()?;
    let call = Call {
        id,
        name: function.needed("name")?,
        arguments: function.text("arguments")?.unwrap_or_default(),
        signature,
        at,
    };
    function.end()?;
    Ok(call)
}

/// The signature of a call: Google keeps it in this place where it speaks this dialect.
fn read_signature(from: &mut Fields) -> Result<Option<Signature>, Untranslatable> {
    let Some(mut extra) = from.object("extra_content")? else {
        return Ok(None);
    };
    let google = extra.object("google")?;
    extra.end()?;
    let Some(mut google) = google else {
        return Ok(None);
    };
    let text = google.text("thought_signature")?;
    google.end()?;
    Ok(text.map(|text| Signature {
        of: Dialect::Gemini,
        text,
    }))
}

/// The signature of a call, for a client to keep.
pub(crate) fn signature(signature: Option<&Signature>) -> Option<Object> {
    let text = signature?.own(Dialect::Gemini)?;
    let google = Object::new().with("thought_signature", text);
    Some(Object::new().with("google", google))
}

/// Writes a request.
pub(crate) fn write_request(request: &Request, model: &str) -> Result<Json, Untranslatable> {
    request.without(&[Knob::TopK])?;
    let mut messages = Vec::new();
    for turn in &request.turns {
        write_turn(turn, &mut messages)?;
    }
    let most = match wants_completion_tokens(model) {
        true => "max_completion_tokens",
        false => "max_tokens",
    };
    let has_tools = !request.tools.is_empty();
    let stops: Vec<Json> = request.stops.iter().map(Json::from).collect();
    Ok(Object::new()
        .with("model", model)
        .with("messages", messages)
        .maybe("tools", has_tools.then(|| write_tools(&request.tools)))
        .maybe("tool_choice", request.choice.as_ref().map(write_choice))
        .maybe(
            "parallel_tool_calls",
            request.parallel.filter(|_| has_tools),
        )
        .maybe(most, request.most_output)
        .maybe("temperature", request.temperature.clone())
        .maybe("top_p", request.top_p.clone())
        .maybe("seed", request.seed.clone())
        .maybe("frequency_penalty", request.frequency_penalty.clone())
        .maybe("presence_penalty", request.presence_penalty.clone())
        .maybe("stop", (!stops.is_empty()).then_some(stops))
        .maybe("reasoning_effort", request.reasoning.word())
        .maybe("verbosity", request.verbosity.as_ref())
        .maybe("response_format", request.format.as_ref().map(write_format))
        .maybe("stream", request.stream.then_some(true))
        .maybe(
            "stream_options",
            request
                .stream
                .then(|| Object::new().with("include_usage", true)),
        )
        .into())
}

/// Whether a model is one of `OpenAI`'s, which want the newer name of the bound; most other servers know the
/// older one alone.
fn wants_completion_tokens(model: &str) -> bool {
    let name = model.rsplit('/').next().unwrap_or(model);
    let mut letters = name.chars();
    name.starts_with("gpt-")
        || name.starts_with("chatgpt-")
        || (letters.next() == Some('o') && letters.next().is_some_and(|it| it.is_ascii_digit()))
}

fn write_tools(tools: &[Tool]) -> Vec<Json> {
    let each = tools.iter().map(|tool| {
        let function = Object::new()
            .with("name", &tool.name)
            .maybe("description", tool.description.as_ref())
            .maybe("parameters", tool.schema.clone())
            .maybe("strict", tool.strict);
        Object::typed("function").with("function", function).into()
    });
    each.collect()
}

fn write_choice(choice: &Choice) -> Json {
    match choice {
        Choice::Auto => "auto".into(),
        Choice::Never => "none".into(),
        Choice::Any => "required".into(),
        Choice::Tool(name) => Object::typed("function")
            .with("function", Object::new().with("name", name))
            .into(),
    }
}

fn write_format(format: &Format) -> Object {
    match format {
        Format::Json => Object::typed("json_object"),
        Format::Schema {
            name,
            schema,
            strict,
        } => Object::typed("json_schema").with(
            "json_schema",
            Object::new()
                .with("name", name.as_deref().unwrap_or("answer"))
                .with("schema", schema.clone())
                .maybe("strict", *strict),
        ),
    }
}

fn text_part(text: &str) -> Json {
    Object::typed("text").with("text", text).into()
}

/// One text as a text, others as the parts that they are.
fn write_content(mut parts: Vec<Json>) -> Json {
    match parts.as_slice() {
        [part] if part.get("type").and_then(Json::text) == Some("text") => {
            let text = part.get("text").and_then(Json::text).unwrap_or_default();
            text.into()
        }
        _ => std::mem::take(&mut parts).into(),
    }
}

fn write_turn(turn: &Turn, messages: &mut Vec<Json>) -> Result<(), Untranslatable> {
    let message = |role: &str| Object::new().with("role", role);
    match turn.role {
        Role::System => {
            let parts = texts(turn)?.into_iter().map(text_part).collect();
            messages.push(
                message("system")
                    .with("content", write_content(parts))
                    .into(),
            );
        }
        Role::User => {
            let mut parts = Vec::new();
            for part in &turn.parts {
                match part {
                    Part::Text(text) | Part::Refusal(text) => parts.push(text_part(text)),
                    Part::Media(media) => parts.push(write_media(media)?),
                    Part::Result(outcome) => messages.push(
                        message("tool")
                            .with("tool_call_id", &outcome.id)
                            .with("content", write_outcome(outcome)?)
                            .into(),
                    ),
                    Part::Call(_) | Part::Thought(_) => {
                        return Err(turn.at.refused("only a model says this"));
                    }
                }
            }
            if !parts.is_empty() {
                messages.push(message("user").with("content", write_content(parts)).into());
            }
        }
        // Nothing is left of a turn that only held thoughts.
        Role::Assistant if turn.parts.iter().all(|it| matches!(it, Part::Thought(_))) => {}
        Role::Assistant => messages.push(write_assistant(&turn.parts, &turn.at)?.into()),
    }
    Ok(())
}

fn write_outcome(outcome: &Outcome) -> Result<Json, Untranslatable> {
    if outcome.is_error {
        return Ok(outcome.told()?.into());
    }
    outcome.text()?;
    let parts = outcome.parts.iter().filter_map(|part| match part {
        Part::Text(text) => Some(text_part(text)),
        _ => None,
    });
    Ok(match write_content(parts.collect()) {
        Json::List(list) if list.is_empty() => "".into(),
        content => content,
    })
}

fn write_assistant(parts: &[Part], at: &Place) -> Result<Object, Untranslatable> {
    let (mut texts, mut calls, mut refusal) = (Vec::new(), Vec::new(), None);
    for part in parts {
        match part {
            Part::Text(text) => texts.push(text_part(text)),
            Part::Refusal(text) => refusal = Some(text),
            Part::Call(call) => calls.push(write_call(call).into()),
            // A model reads no thoughts of another.
            Part::Thought(_) => {}
            Part::Media(media) => return Err(media.at.refused("a model cannot have said this")),
            Part::Result(_) => return Err(at.refused("a model cannot have said this")),
        }
    }
    let content = match texts.is_empty() {
        true => Json::Null,
        false => write_content(texts),
    };
    Ok(Object::new()
        .with("role", "assistant")
        .with("content", content)
        .maybe("refusal", refusal)
        .maybe("tool_calls", (!calls.is_empty()).then_some(calls)))
}

fn write_call(call: &Call) -> Object {
    let function = Object::new()
        .with("name", &call.name)
        .with("arguments", &call.arguments);
    Object::typed("function")
        .with("id", &call.id)
        .with("function", function)
        .maybe("extra_content", signature(call.signature.as_ref()))
}

fn write_media(media: &Media) -> Result<Json, Untranslatable> {
    Ok(match (media.kind, &media.source) {
        (Kind::Image, _) => Object::typed("image_url").with(
            "image_url",
            Object::new()
                .with("url", media.url())
                .maybe("detail", media.detail.as_ref()),
        ),
        (Kind::Audio, Source::Data { mime, data }) => {
            let format = match mime.as_str() {
                "audio/wav" | "audio/x-wav" => "wav",
                "audio/mp3" | "audio/mpeg" => "mp3",
                _ => return Err(media.at.refused("only sounds in WAV and MP3 can be sent")),
            };
            let inner = Object::new().with("data", data).with("format", format);
            Object::typed("input_audio").with("input_audio", inner)
        }
        (Kind::File, Source::Data { .. }) => Object::typed("file").with(
            "file",
            Object::new()
                .with("filename", media.name.as_deref().unwrap_or("file"))
                .with("file_data", media.url()),
        ),
        (Kind::Audio | Kind::File, Source::Url(_)) => {
            return Err(media.at.refused("only an image can be sent by its URL"));
        }
    }
    .into())
}

/// Reads why a model stopped.
pub(crate) fn read_stop(word: &str) -> Result<Stop, Untranslatable> {
    Ok(match word {
        "stop" => Stop::End,
        "length" => Stop::Length,
        "tool_calls" | "function_call" => Stop::Calls,
        "content_filter" => Stop::Filter,
        _ => return Err(refused("finish_reason", "this reason is not known")),
    })
}

/// Says why a model stopped.
pub(crate) fn write_stop(stop: &Stop) -> &'static str {
    match stop {
        Stop::End | Stop::Text(_) => "stop",
        Stop::Length => "length",
        Stop::Calls => "tool_calls",
        Stop::Filter => "content_filter",
    }
}

/// Writes usage.
pub(crate) fn write_usage(usage: &Usage) -> Object {
    let read = Object::new().with("cached_tokens", usage.cache_read);
    let read = match usage.cache_write {
        0 => read,
        write => read.with("cache_write_tokens", write),
    };
    Object::new()
        .with("prompt_tokens", usage.input)
        .with("completion_tokens", usage.output)
        .with("total_tokens", usage.input.saturating_add(usage.output))
        .with("prompt_tokens_details", read)
        .with(
            "completion_tokens_details",
            Object::new().with("reasoning_tokens", usage.reasoning),
        )
}

/// Reads an answer.
pub(crate) fn read_answer(body: Json, usage: Usage) -> Result<Answer, Untranslatable> {
    let mut from = Fields::answer(body)?;
    let mut choices = from.objects("choices")?.into_iter();
    let (Some(mut choice), None) = (choices.next(), choices.next()) else {
        return Err(refused("choices", "there must be one"));
    };
    let message = choice.object("message")?;
    let mut message = message.ok_or_else(|| refused("choices[0].message", "it is missing"))?;
    let mut parts = Vec::new();
    let thought = message.text("reasoning_content")?;
    if let Some(text) = thought
        .or(message.text("reasoning")?)
        .filter(|it| !it.is_empty())
    {
        parts.push(Part::Thought(Thought {
            text,
            ..Thought::default()
        }));
    }
    let said = read_content(&mut message, "content")?;
    parts.extend(
        said.into_iter()
            .filter(|part| *part != Part::Text(String::new())),
    );
    parts.extend(message.text("refusal")?.map(Part::Refusal));
    for call in message.objects("tool_calls")? {
        parts.push(Part::Call(read_call(call)?));
    }
    Ok(Answer {
        id: from.text("id")?.unwrap_or_default(),
        model: from.text("model")?.unwrap_or_default(),
        created: from.count("created")?,
        parts,
        stop: read_stop(&choice.needed("finish_reason")?)?,
        usage,
    })
}

/// Writes an answer.
pub(crate) fn write_answer(answer: &Answer, memory: &Memory) -> Result<Json, Untranslatable> {
    let mut texts = String::new();
    let mut thoughts = String::new();
    let mut rest = Vec::new();
    for part in &answer.parts {
        match part {
            Part::Text(text) => texts.push_str(text),
            Part::Thought(thought) => thoughts.push_str(&thought.text),
            part => rest.push(part.clone()),
        }
    }
    // An answer has one text.
    if !texts.is_empty() {
        rest.insert(0, Part::Text(texts));
    }
    let message = write_assistant(&rest, &Place("choices[0].message".to_owned()))?;
    let has_refusal = rest.iter().any(|part| matches!(part, Part::Refusal(_)));
    let message = match has_refusal {
        true => message,
        false => message.with("refusal", Json::Null),
    };
    let thoughts = (!thoughts.is_empty()).then_some(thoughts);
    let choice = Object::new()
        .with("index", 0_u64)
        .with("message", message.maybe("reasoning_content", thoughts))
        .with("logprobs", Json::Null)
        .with("finish_reason", write_stop(&answer.stop));
    Ok(Object::new()
        .with("id", &answer.id)
        .with("object", "chat.completion")
        .with("created", answer.created.unwrap_or(memory.now))
        .with("model", &answer.model)
        .with("choices", vec![choice.into()])
        .with("usage", write_usage(&answer.usage))
        .into())
}
