//! Messages of Anthropic: requests and answers.

use crate::Dialect;
use crate::chat::read_stops;
use crate::json::{Fields, Json, Object, refused};
use crate::neutral::{
    Answer, Call, Choice, Effort, Format, Kind, Knob, Media, Mode, Outcome, Part, Place, Reasoning,
    Request, Role, Signature, Source, Stop, Thought, Tool,
};
use crate::tap::Usage;
use crate::translate::Untranslatable;

/// Tokens of an answer where the request sets no bound: this API must be told one.
pub const MOST_OUTPUT: u64 = 16_384;

/// What says nothing about the answer.
const WITHOUT_EFFECT: &[&str] = &["metadata", "cache_control", "user_profile_id"];

/// Reads a request.
pub(crate) fn read_request(body: Json) -> Result<Request, Untranslatable> {
    let mut from = Fields::of(body, "")?;
    let mut made = Request::new(Dialect::Messages);
    from.ignore(WITHOUT_EFFECT);
    from.needed("model")?;
    from.only("service_tier", &["auto".into(), "standard_only".into()])?;
    made.stream = from.flag("stream")?.unwrap_or(false);
    // The stream of this dialect always tells it.
    made.usage_asked = true;
    made.most_output = from.count("max_tokens")?;
    made.temperature = from.number("temperature")?;
    made.top_p = from.number("top_p")?;
    made.top_k = from.number("top_k")?;
    made.stops = read_stops(
        from.list("stop_sequences")?.unwrap_or_default(),
        "stop_sequences",
    )?;
    read_thinking(&mut from, &mut made)?;
    for tool in from.objects("tools")? {
        made.tools.push(read_tool(tool)?);
    }
    read_choice(&mut from, &mut made)?;
    let system = read_content(&mut from, "system")?;
    if !system.is_empty() {
        made.say(Role::System, system, "system");
    }
    for mut message in from.objects("messages")? {
        let at = message.here().to_owned();
        let role = match message.needed("role")?.as_str() {
            "user" => Role::User,
            "assistant" => Role::Assistant,
            "system" => Role::System,
            _ => return Err(refused(message.path("role"), "this role is not known")),
        };
        let parts = read_content(&mut message, "content")?;
        message.end()?;
        made.say(role, parts, &at);
    }
    from.end()?;
    Ok(made)
}

fn read_thinking(from: &mut Fields, made: &mut Request) -> Result<(), Untranslatable> {
    if let Some(mut thinking) = from.object("thinking")? {
        let display = thinking.text("display")?;
        let mode = match thinking.needed("type")?.as_str() {
            "disabled" => Mode::Off,
            "adaptive" => Mode::Adaptive,
            "enabled" => {
                let budget = thinking.count("budget_tokens")?;
                let path = "thinking.budget_tokens";
                Mode::Budget(budget.ok_or_else(|| refused(path, "it is missing"))?)
            }
            _ => return Err(refused("thinking.type", "this type is not known")),
        };
        thinking.end()?;
        made.reasoning.mode = Some(mode);
        if mode != Mode::Off {
            made.reasoning.show = Some(display.as_deref() != Some("omitted"));
        }
    }
    if let Some(mut config) = from.object("output_config")? {
        if let Some(effort) = config.text("effort")? {
            made.reasoning.effort = Some(Effort::read(&effort, "output_config.effort")?);
        }
        if let Some(mut format) = config.object("format")? {
            format.only("type", &["json_schema".into()])?;
            let schema = format.take("schema");
            let path = "output_config.format.schema";
            made.format = Some(Format::Schema {
                name: None,
                schema: schema.ok_or_else(|| refused(path, "it is missing"))?,
                strict: Some(true),
            });
            format.end()?;
        }
        config.end()?;
    }
    Ok(())
}

fn read_tool(mut from: Fields) -> Result<Tool, Untranslatable> {
    from.ignore(&["cache_control", "eager_input_streaming"]);
    from.only("defer_loading", &[false.into()])?;
    match from.text("type")?.as_deref() {
        None | Some("custom") => {}
        Some(_) => {
            let why = "tools that the provider runs cannot be translated";
            return Err(refused(from.path("type"), why));
        }
    }
    let tool = Tool {
        name: from.needed("name")?,
        description: from.text("description")?,
        schema: from.take("input_schema"),
        strict: from.flag("strict")?,
    };
    from.end()?;
    Ok(tool)
}

fn read_choice(from: &mut Fields, made: &mut Request) -> Result<(), Untranslatable> {
    let Some(mut choice) = from.object("tool_choice")? else {
        return Ok(());
    };
    made.choice = Some(match choice.needed("type")?.as_str() {
        "auto" => Choice::Auto,
        "any" => Choice::Any,
        "none" => Choice::Never,
        "tool" => Choice::Tool(choice.needed("name")?),
        _ => return Err(refused("tool_choice.type", "this type is not known")),
    });
    let single = choice.flag("disable_parallel_tool_use")?;
    made.parallel = single.map(|single| !single);
    choice.end()
}

fn read_content(from: &mut Fields, name: &str) -> Result<Vec<Part>, Untranslatable> {
    from.content(name, ("blocks", read_block))
}

fn read_block(mut from: Fields) -> Result<Part, Untranslatable> {
    let at = Place(from.here().to_owned());
    from.ignore(&["cache_control"]);
    let part = match from.needed("type")?.as_str() {
        "text" => {
            from.only("citations", &[Vec::new().into()])?;
            Part::Text(from.needed("text")?)
        }
        "image" => Part::Media(read_source(&mut from, Kind::Image)?),
        "document" => read_document(&mut from)?,
        "tool_use" => {
            let direct = Json::from(Object::typed("direct"));
            from.only("caller", &[direct])?;
            let input = from.take("input").unwrap_or(Json::Object(Vec::new()));
            Part::Call(Call {
                id: from.needed("id")?,
                name: from.needed("name")?,
                arguments: input.to_string(),
                signature: None,
                at,
            })
        }
        "tool_result" => Part::Result(Outcome {
            id: from.needed("tool_use_id")?,
            parts: read_content(&mut from, "content")?,
            is_error: from.flag("is_error")?.unwrap_or(false),
            at,
        }),
        "thinking" => {
            let signature = from.text("signature")?.filter(|it| !it.is_empty());
            Part::Thought(Thought {
                text: from.needed("thinking")?,
                signature: signature.map(|text| Signature::read(Dialect::Messages, text)),
                is_hidden: false,
            })
        }
        "redacted_thinking" => Part::Thought(Thought {
            text: String::new(),
            signature: Some(Signature::read(Dialect::Messages, from.needed("data")?)),
            is_hidden: true,
        }),
        _ => return Err(at.refused("this block cannot be translated")),
    };
    from.end()?;
    Ok(part)
}

fn read_source(from: &mut Fields, kind: Kind) -> Result<Media, Untranslatable> {
    let at = from.here().to_owned();
    let source = from.object("source")?;
    let mut source = source.ok_or_else(|| refused(from.path("source"), "it is missing"))?;
    let media = match source.needed("type")?.as_str() {
        "base64" => Media {
            kind,
            source: Source::Data {
                mime: source.needed("media_type")?,
                data: source.needed("data")?,
            },
            name: None,
            detail: None,
            at: Place(at),
        },
        "url" => Media::of_url(kind, source.needed("url")?, at)?,
        _ => return Err(refused(at, "this source cannot be translated")),
    };
    source.end()?;
    Ok(media)
}

fn read_document(from: &mut Fields) -> Result<Part, Untranslatable> {
    let off = Json::from(Object::new().with("enabled", false));
    from.only("citations", &[off])?;
    let name = from.text("title")?;
    let path = from.path("source");
    let source = from.take("source");
    let source = source.ok_or_else(|| refused(path.clone(), "it is missing"))?;
    if source.get("type").and_then(Json::text) == Some("text") {
        // A document in text is text, under its title.
        let mut source = Fields::of(source, path)?;
        source.only("type", &["text".into()])?;
        source.only("media_type", &["text/plain".into()])?;
        let text = source.needed("data")?;
        source.end()?;
        return Ok(Part::Text(match name {
            Some(name) => format!("{name}\n\n{text}"),
            None => text,
        }));
    }
    let here = Json::from(Object::new().with("source", source));
    let mut media = read_source(&mut Fields::of(here, from.here())?, Kind::File)?;
    media.name = name;
    Ok(Part::Media(media))
}

/// Writes a request.
pub(crate) fn write_request(request: &Request, model: &str) -> Result<Json, Untranslatable> {
    request.without(&[
        Knob::Seed,
        Knob::FrequencyPenalty,
        Knob::PresencePenalty,
        Knob::Verbosity,
        Knob::AnyJson,
    ])?;
    let warm = request.temperature.as_ref().and_then(|it| it.as_f64());
    if warm.is_some_and(|warm| warm > 1.0) {
        return Err(refused("temperature", "the provider's API takes 1 at most"));
    }
    let (system, turns) = request.parted()?;
    let mut messages = Vec::new();
    for turn in &turns {
        let role = match turn.role {
            Role::Assistant => "assistant",
            _ => "user",
        };
        let content = write_parts(&turn.parts, Keeps::Own)?;
        if !content.is_empty() {
            let message = Object::new().with("role", role);
            messages.push(message.with("content", write_content(content)).into());
        }
    }
    let system: Vec<Json> = system.into_iter().map(text_block).collect();
    let tools: Vec<Json> = request.tools.iter().map(write_tool).collect();
    let stops: Vec<Json> = request.stops.iter().map(Json::from).collect();
    let config = write_config(request);
    Ok(Object::new()
        .with("model", model)
        .with("max_tokens", request.most_output.unwrap_or(MOST_OUTPUT))
        .maybe(
            "system",
            (!system.is_empty()).then(|| write_content(system)),
        )
        .with("messages", messages)
        .maybe("tools", (!tools.is_empty()).then_some(tools))
        .maybe("tool_choice", write_choice(request))
        .maybe("thinking", write_thinking(&request.reasoning))
        .maybe("output_config", (!config.is_empty()).then_some(config))
        .maybe("temperature", request.temperature.clone())
        .maybe("top_p", request.top_p.clone())
        .maybe("top_k", request.top_k.clone())
        .maybe("stop_sequences", (!stops.is_empty()).then_some(stops))
        .maybe("stream", request.stream.then_some(true))
        .into())
}

fn write_tool(tool: &Tool) -> Json {
    let none = || {
        Object::typed("object")
            .with("properties", Object::new())
            .into()
    };
    Object::new()
        .with("name", &tool.name)
        .maybe("description", tool.description.as_ref())
        .with("input_schema", tool.schema.clone().unwrap_or_else(none))
        .maybe("strict", tool.strict)
        .into()
}

fn write_choice(request: &Request) -> Option<Object> {
    let single = request.parallel.map(|parallel| !parallel);
    let choice = match (&request.choice, request.tools.is_empty()) {
        (_, true) => return None,
        (Some(Choice::Never), false) => return Some(Object::typed("none")),
        (Some(Choice::Any), false) => Object::typed("any"),
        (Some(Choice::Tool(name)), false) => Object::typed("tool").with("name", name),
        (Some(Choice::Auto), false) => Object::typed("auto"),
        (None, false) => {
            single?;
            Object::typed("auto")
        }
    };
    Some(choice.maybe("disable_parallel_tool_use", single))
}

fn write_thinking(reasoning: &Reasoning) -> Option<Object> {
    let thinking = match reasoning.mode? {
        Mode::Off => return Some(Object::typed("disabled")),
        Mode::Adaptive => Object::typed("adaptive"),
        Mode::Budget(tokens) => Object::typed("enabled").with("budget_tokens", tokens),
    };
    let display = match (reasoning.show, reasoning.mode) {
        (Some(false), _) => Some("omitted"),
        (Some(true), Some(Mode::Adaptive)) => Some("summarized"),
        _ => None,
    };
    Some(thinking.maybe("display", display))
}

fn write_config(request: &Request) -> Object {
    let effort = request.reasoning.effort.map(|effort| match effort {
        Effort::Minimal => Effort::Low.word(),
        effort => effort.word(),
    });
    let format = match &request.format {
        Some(Format::Schema { schema, .. }) => {
            Some(Object::typed("json_schema").with("schema", schema.clone()))
        }
        _ => None,
    };
    Object::new()
        .maybe("effort", effort)
        .maybe("format", format)
}

fn text_block(text: &str) -> Json {
    Object::typed("text").with("text", text).into()
}

fn write_content(blocks: Vec<Json>) -> Json {
    match blocks.as_slice() {
        [block] if block.get("type").and_then(Json::text) == Some("text") => {
            let text = block.get("text").and_then(Json::text).unwrap_or_default();
            text.into()
        }
        _ => blocks.into(),
    }
}

/// Whose thoughts are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Keeps {
    /// Those that this provider signed: for the provider.
    Own,
    /// All: for a client.
    All,
}

fn write_parts(parts: &[Part], keeps: Keeps) -> Result<Vec<Json>, Untranslatable> {
    let mut results = Vec::new();
    let mut made = Vec::new();
    for part in parts {
        match part {
            // The API refuses texts without a letter.
            Part::Text(text) | Part::Refusal(text) if text.is_empty() => {}
            Part::Text(text) | Part::Refusal(text) => made.push(text_block(text)),
            Part::Media(media) => made.push(write_media(media)?),
            Part::Call(call) => {
                if let (Some(signature), Keeps::All) = (&call.signature, keeps) {
                    made.push(thinking("", &signature.kept(Dialect::Messages)));
                }
                made.push(
                    Object::typed("tool_use")
                        .with("id", &call.id)
                        .with("name", &call.name)
                        .with("input", call.object()?)
                        .into(),
                );
            }
            Part::Result(outcome) => {
                let content = write_parts(&outcome.parts, keeps)?;
                let content = (!content.is_empty()).then(|| write_content(content));
                results.push(
                    Object::typed("tool_result")
                        .with("tool_use_id", &outcome.id)
                        .maybe("content", content)
                        .maybe("is_error", outcome.is_error.then_some(true))
                        .into(),
                );
            }
            Part::Thought(thought) => made.extend(write_thought(thought, keeps)),
        }
    }
    // The results of calls must come before anything else.
    results.extend(made);
    Ok(results)
}

fn thinking(text: &str, signature: &str) -> Json {
    Object::typed("thinking")
        .with("thinking", text)
        .with("signature", signature)
        .into()
}

fn write_thought(thought: &Thought, keeps: Keeps) -> Option<Json> {
    let signature = match (keeps, &thought.signature) {
        (Keeps::Own, signature) => signature.as_ref()?.own(Dialect::Messages)?.to_owned(),
        (Keeps::All, Some(signature)) => signature.kept(Dialect::Messages),
        (Keeps::All, None) => String::new(),
    };
    Some(match thought.is_hidden {
        true => Object::typed("redacted_thinking")
            .with("data", signature)
            .into(),
        false => thinking(&thought.text, &signature),
    })
}

fn write_media(media: &Media) -> Result<Json, Untranslatable> {
    media.without_detail()?;
    let source = match &media.source {
        Source::Url(url) => Object::typed("url").with("url", url),
        Source::Data { mime, data } => Object::typed("base64")
            .with("media_type", mime)
            .with("data", data),
    };
    let is_pdf = match &media.source {
        Source::Url(_) => true,
        Source::Data { mime, .. } => mime == "application/pdf",
    };
    Ok(match media.kind {
        Kind::Image => Object::typed("image").with("source", source),
        Kind::File if is_pdf => Object::typed("document")
            .with("source", source)
            .maybe("title", media.name.as_ref()),
        Kind::File => return Err(media.at.refused("only PDF files can be sent")),
        Kind::Audio => return Err(media.at.refused("sounds cannot be sent")),
    }
    .into())
}

/// Reads why a model stopped.
pub(crate) fn read_stop(word: &str, text: Option<String>) -> Result<Stop, Untranslatable> {
    Ok(match word {
        "end_turn" => Stop::End,
        "max_tokens" | "model_context_window_exceeded" => Stop::Length,
        "stop_sequence" => Stop::Text(text.unwrap_or_default()),
        "tool_use" => Stop::Calls,
        "refusal" => Stop::Filter,
        _ => return Err(refused("stop_reason", "this reason cannot be translated")),
    })
}

/// Says why a model stopped.
pub(crate) fn write_stop(stop: &Stop) -> (&'static str, Option<&str>) {
    match stop {
        Stop::End => ("end_turn", None),
        Stop::Length => ("max_tokens", None),
        Stop::Text(text) => ("stop_sequence", Some(text)),
        Stop::Calls => ("tool_use", None),
        Stop::Filter => ("refusal", None),
    }
}

/// Writes usage, where the input is what was not cached.
pub(crate) fn write_usage(usage: &Usage) -> Object {
    let cached = usage.cache_read.saturating_add(usage.cache_write);
    let made = Object::new()
        .with("input_tokens", usage.input.saturating_sub(cached))
        .with("cache_creation_input_tokens", usage.cache_write)
        .with("cache_read_input_tokens", usage.cache_read)
        .with("output_tokens", usage.output);
    let thinking = (usage.reasoning > 0).then_some(usage.reasoning);
    let details = thinking.map(|tokens| Object::new().with("thinking_tokens", tokens));
    made.maybe("output_tokens_details", details)
}

/// Reads an answer.
pub(crate) fn read_answer(body: Json, usage: Usage) -> Result<Answer, Untranslatable> {
    let mut from = Fields::answer(body)?;
    let parts = read_content(&mut from, "content")?;
    let text = from.text("stop_sequence")?;
    Ok(Answer {
        id: from.text("id")?.unwrap_or_default(),
        model: from.text("model")?.unwrap_or_default(),
        created: None,
        parts,
        stop: read_stop(&from.needed("stop_reason")?, text)?,
        usage,
    })
}

/// Writes an answer.
pub(crate) fn write_answer(answer: &Answer) -> Result<Json, Untranslatable> {
    let (reason, text) = write_stop(&answer.stop);
    Ok(message(
        &answer.id,
        &answer.model,
        write_parts(&answer.parts, Keeps::All)?,
    )
    .with("stop_reason", reason)
    .with("stop_sequence", text.map_or(Json::Null, Json::from))
    .with("usage", write_usage(&answer.usage))
    .into())
}

/// The beginning of an answer.
pub(crate) fn message(id: &str, model: &str, content: Vec<Json>) -> Object {
    Object::new()
        .with("id", id)
        .with("type", "message")
        .with("role", "assistant")
        .with("model", model)
        .with("content", content)
}
