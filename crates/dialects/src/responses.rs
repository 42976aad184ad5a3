//! Responses of `OpenAI`: requests and answers. What it keeps between requests cannot be translated.

use crate::Dialect;
use crate::chat::{read_choice_word, read_schema, read_tool};
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
/// What an answer says again of its request, and what it says if the request does not.
const ECHO: &[(&str, Option<bool>)] = &[
    ("instructions", None),
    ("max_output_tokens", None),
    ("metadata", None),
    ("parallel_tool_calls", Some(true)),
    ("reasoning", None),
    ("temperature", None),
    ("text", None),
    ("tool_choice", None),
    ("tools", None),
    ("top_p", None),
];

/// What the answer to a request says again of it.
pub(crate) fn echo(request: &Json) -> Vec<(String, Json)> {
    let each = ECHO.iter().map(|(name, fallback)| {
        let said = request.get(name).filter(|value| **value != Json::Null);
        let value = match (*name, said, fallback) {
            (_, Some(value), _) => value.clone(),
            ("tools", None, _) => Json::List(Vec::new()),
            ("tool_choice", None, _) => "auto".into(),
            (_, None, Some(flag)) => (*flag).into(),
            (_, None, None) => Json::Null,
        };
        ((*name).to_owned(), value)
    });
    each.collect()
}

/// Reads a request.
pub(crate) fn read_request(body: Json) -> Result<Request, Untranslatable> {
    let mut from = Fields::of(body, "")?;
    let mut made = Request::new(Dialect::Responses);
    from.ignore(WITHOUT_EFFECT);
    from.needed("model")?;
    from.only("store", &[false.into()])?;
    from.only("background", &[false.into()])?;
    from.only("truncation", &["disabled".into()])?;
    from.only("top_logprobs", &[0_u64.into()])?;
    from.only("service_tier", &["auto".into(), "default".into()])?;
    let encrypted = vec![Json::from("reasoning.encrypted_content")];
    from.only("include", &[Vec::new().into(), encrypted.into()])?;
    if let Some(mut options) = from.object("stream_options")? {
        // What only fills frames up.
        options.ignore(&["include_obfuscation"]);
        options.end()?;
    }
    made.stream = from.flag("stream")?.unwrap_or(false);
    made.usage_asked = true;
    made.most_output = from.count("max_output_tokens")?;
    made.temperature = from.number("temperature")?;
    made.top_p = from.number("top_p")?;
    made.parallel = from.flag("parallel_tool_calls")?;
    if let Some(mut reasoning) = from.object("reasoning")? {
        if let Some(effort) = reasoning.text("effort")? {
            made.reasoning = Reasoning::of_word(&effort, "reasoning.effort")?;
        }
        let summary = reasoning.text("summary")?;
        let summary = summary.or(reasoning.text("generate_summary")?);
        made.reasoning.show = summary.map(|_| true);
        reasoning.end()?;
    }
    for mut tool in from.objects("tools")? {
        if tool.needed("type")? != "function" {
            let why = "only functions can be translated";
            return Err(refused(tool.path("type"), why));
        }
        made.tools.push(read_tool(tool)?);
    }
    made.choice = read_choice(&mut from)?;
    read_text(&mut from, &mut made)?;
    if let Some(text) = from.text("instructions")? {
        made.say(Role::System, vec![Part::Text(text)], "instructions");
    }
    read_input(&mut from, &mut made)?;
    from.end()?;
    Ok(made)
}

fn read_choice(from: &mut Fields) -> Result<Option<Choice>, Untranslatable> {
    Ok(match from.take("tool_choice") {
        None => None,
        Some(Json::Text(word)) => Some(read_choice_word(&word)?),
        Some(value) => {
            let mut choice = Fields::of(value, "tool_choice")?;
            choice.only("type", &["function".into()])?;
            let name = choice.needed("name")?;
            choice.end()?;
            Some(Choice::Tool(name))
        }
    })
}

fn read_text(from: &mut Fields, made: &mut Request) -> Result<(), Untranslatable> {
    let Some(mut text) = from.object("text")? else {
        return Ok(());
    };
    made.verbosity = text.text("verbosity")?;
    if let Some(mut format) = text.object("format")? {
        match format.needed("type")?.as_str() {
            "text" => format.end()?,
            "json_object" => {
                made.format = Some(Format::Json);
                format.end()?;
            }
            "json_schema" => made.format = Some(read_schema(format)?),
            _ => return Err(refused("text.format.type", "this format is not known")),
        }
    }
    text.end()
}

fn read_input(from: &mut Fields, made: &mut Request) -> Result<(), Untranslatable> {
    let list = match from.take("input") {
        Some(Json::Text(text)) => {
            made.say(Role::User, vec![Part::Text(text)], "input");
            return Ok(());
        }
        Some(Json::List(list)) => list,
        _ => return Err(refused("input", "it must be a text or a list of items")),
    };
    for (at, item) in list.into_iter().enumerate() {
        let item = Fields::of(item, format!("input[{at}]"))?;
        let at = item.here().to_owned();
        let (role, parts) = read_item(item)?;
        match made.turns.last_mut() {
            // What a model says at once is one turn.
            Some(last) if role == Role::Assistant && last.role == role => last.parts.extend(parts),
            _ => made.say(role, parts, &at),
        }
    }
    Ok(())
}

fn read_item(mut from: Fields) -> Result<(Role, Vec<Part>), Untranslatable> {
    from.ignore(&["status", "phase"]);
    let at = Place(from.here().to_owned());
    let kind = from.text("type")?;
    let read = match kind.as_deref() {
        None | Some("message") => {
            from.ignore(&["id"]);
            let role = match from.needed("role")?.as_str() {
                "user" => Role::User,
                "assistant" => Role::Assistant,
                "system" | "developer" => Role::System,
                _ => return Err(refused(from.path("role"), "this role is not known")),
            };
            (role, read_content(&mut from, "content")?)
        }
        Some("function_call") => {
            from.ignore(&["id"]);
            (Role::Assistant, vec![Part::Call(read_call(&mut from)?)])
        }
        Some("function_call_output") => {
            from.ignore(&["id"]);
            let outcome = Outcome {
                id: from.needed("call_id")?,
                parts: read_content(&mut from, "output")?,
                is_error: false,
                at,
            };
            (Role::User, vec![Part::Result(outcome)])
        }
        Some("reasoning") => (
            Role::Assistant,
            vec![Part::Thought(read_thought(&mut from)?)],
        ),
        Some(_) => return Err(at.refused("this item cannot be translated")),
    };
    from.end()?;
    Ok(read)
}

fn read_call(from: &mut Fields) -> Result<Call, Untranslatable> {
    Ok(Call {
        id: from.needed("call_id")?,
        name: from.needed("name")?,
        arguments: from.text("arguments")?.unwrap_or_default(),
        signature: None,
        at: Place(from.here().to_owned()),
    })
}

/// The signature of a thought: its id and what is encrypted of it, or what another provider signed it with.
pub(crate) fn signature(id: &str, encrypted: String) -> Signature {
    let read = Signature::read(Dialect::Responses, encrypted);
    match read.of {
        Dialect::Responses => Signature {
            text: format!("{id}.{}", read.text),
            ..read
        },
        _ => read,
    }
}

/// A thought. Its id and what is encrypted of it are its signature.
fn read_thought(from: &mut Fields) -> Result<Thought, Untranslatable> {
    let id = from.text("id")?.unwrap_or_default();
    let encrypted = from.text("encrypted_content")?;
    let mut texts = Vec::new();
    for list in ["summary", "content"] {
        for mut part in from.objects(list)? {
            part.ignore(&["type"]);
            texts.push(part.needed("text")?);
        }
    }
    let signature = encrypted.map(|text| signature(&id, text));
    Ok(Thought {
        text: texts.join("\n\n"),
        signature,
        is_hidden: false,
    })
}

fn read_content(from: &mut Fields, name: &str) -> Result<Vec<Part>, Untranslatable> {
    from.content(name, ("parts", read_part))
}

fn read_part(mut from: Fields) -> Result<Part, Untranslatable> {
    let at = from.here().to_owned();
    from.ignore(&["prompt_cache_breakpoint"]);
    let part = match from.needed("type")?.as_str() {
        "input_text" => Part::Text(from.needed("text")?),
        "output_text" => {
            from.ignore(&["logprobs"]);
            from.only("annotations", &[Vec::new().into()])?;
            Part::Text(from.needed("text")?)
        }
        "refusal" => Part::Refusal(from.needed("refusal")?),
        "input_image" => {
            let mut media = Media::of_url(Kind::Image, from.needed("image_url")?, at)?;
            media.detail = from.text("detail")?.filter(|detail| detail != "auto");
            Part::Media(media)
        }
        "input_file" => {
            let url = match from.text("file_url")? {
                Some(url) => url,
                None => from.needed("file_data")?,
            };
            let mut media = Media::of_url(Kind::File, url, at)?;
            media.name = from.text("filename")?;
            Part::Media(media)
        }
        _ => return Err(refused(at, "this part cannot be translated")),
    };
    from.end()?;
    Ok(part)
}

/// Writes a request.
pub(crate) fn write_request(request: &Request, model: &str) -> Result<Json, Untranslatable> {
    request.without(&[
        Knob::TopK,
        Knob::Seed,
        Knob::FrequencyPenalty,
        Knob::PresencePenalty,
        Knob::Stops,
    ])?;
    let mut input = Vec::new();
    for turn in &request.turns {
        write_turn(turn, &mut input)?;
    }
    let tools: Vec<Json> = request.tools.iter().map(write_tool).collect();
    let has_tools = !tools.is_empty();
    let text = Object::new()
        .maybe("format", request.format.as_ref().map(write_format))
        .maybe("verbosity", request.verbosity.as_ref());
    let word = request.reasoning.word();
    let thinks = word.is_some_and(|word| word != "none");
    let summary = (request.reasoning.show == Some(true)).then_some("auto");
    let reasoning = Object::new()
        .maybe("effort", word)
        .maybe("summary", summary);
    let include = thinks.then(|| vec![Json::from("reasoning.encrypted_content")]);
    Ok(Object::new()
        .with("model", model)
        .with("input", input)
        .with("store", false)
        .maybe("tools", has_tools.then_some(tools))
        .maybe("tool_choice", request.choice.as_ref().map(write_choice))
        .maybe(
            "parallel_tool_calls",
            request.parallel.filter(|_| has_tools),
        )
        .maybe("max_output_tokens", request.most_output)
        .maybe("temperature", request.temperature.clone())
        .maybe("top_p", request.top_p.clone())
        .maybe("reasoning", (!reasoning.is_empty()).then_some(reasoning))
        .maybe("include", include)
        .maybe("text", (!text.is_empty()).then_some(text))
        .maybe("stream", request.stream.then_some(true))
        .into())
}

fn write_tool(tool: &Tool) -> Json {
    Object::typed("function")
        .with("name", &tool.name)
        .maybe("description", tool.description.as_ref())
        .with("parameters", tool.schema.clone().unwrap_or(Json::Null))
        .with("strict", tool.strict.unwrap_or(false))
        .into()
}

fn write_choice(choice: &Choice) -> Json {
    match choice {
        Choice::Auto => "auto".into(),
        Choice::Never => "none".into(),
        Choice::Any => "required".into(),
        Choice::Tool(name) => Object::typed("function").with("name", name).into(),
    }
}

fn write_format(format: &Format) -> Object {
    match format {
        Format::Json => Object::typed("json_object"),
        Format::Schema {
            name,
            schema,
            strict,
        } => Object::typed("json_schema")
            .with("name", name.as_deref().unwrap_or("answer"))
            .with("schema", schema.clone())
            .maybe("strict", *strict),
    }
}

fn message(role: &str, content: Vec<Json>) -> Json {
    Object::typed("message")
        .with("role", role)
        .with("content", content)
        .into()
}

fn input_text(text: &str) -> Json {
    Object::typed("input_text").with("text", text).into()
}

fn write_turn(turn: &Turn, items: &mut Vec<Json>) -> Result<(), Untranslatable> {
    match turn.role {
        Role::System => {
            let parts = texts(turn)?.into_iter().map(input_text).collect();
            items.push(message("system", parts));
        }
        Role::User => {
            let mut said = Vec::new();
            for part in &turn.parts {
                match part {
                    Part::Text(text) | Part::Refusal(text) => said.push(input_text(text)),
                    Part::Media(media) => said.push(write_media(media)?),
                    Part::Result(outcome) => items.push(write_outcome(outcome)?),
                    Part::Call(_) | Part::Thought(_) => {
                        return Err(turn.at.refused("only a model says this"));
                    }
                }
            }
            if !said.is_empty() {
                items.push(message("user", said));
            }
        }
        Role::Assistant => {
            for part in &turn.parts {
                match part {
                    Part::Text(text) => items.push(message("assistant", vec![output_text(text)])),
                    Part::Refusal(text) => items.push(message("assistant", vec![refusal(text)])),
                    Part::Call(call) => items.push(write_call(call).into()),
                    Part::Thought(thought) => items.extend(write_own_thought(thought)),
                    Part::Media(_) | Part::Result(_) => {
                        return Err(turn.at.refused("a model cannot have said this"));
                    }
                }
            }
        }
    }
    Ok(())
}

pub(crate) fn output_text(text: &str) -> Json {
    Object::typed("output_text")
        .with("text", text)
        .with("annotations", Vec::new())
        .into()
}

pub(crate) fn refusal(text: &str) -> Json {
    Object::typed("refusal").with("refusal", text).into()
}

fn write_call(call: &Call) -> Object {
    Object::typed("function_call")
        .with("call_id", &call.id)
        .with("name", &call.name)
        .with("arguments", &call.arguments)
}

fn write_outcome(outcome: &Outcome) -> Result<Json, Untranslatable> {
    let is_text = outcome
        .parts
        .iter()
        .all(|part| matches!(part, Part::Text(_)));
    let output = match (
        outcome.parts.as_slice(),
        outcome.is_error || outcome.parts.len() < 2,
    ) {
        (_, true) if is_text => Json::from(outcome.told()?),
        (parts, _) => {
            let each = parts.iter().map(|part| match part {
                Part::Text(text) => Ok(input_text(text)),
                Part::Media(media) => write_media(media),
                _ => Err(outcome.at.refused("no tool gives this")),
            });
            let mut list = each.collect::<Result<Vec<_>, _>>()?;
            if outcome.is_error {
                list.insert(0, input_text("Error: "));
            }
            list.into()
        }
    };
    Ok(Object::typed("function_call_output")
        .with("call_id", &outcome.id)
        .with("output", output)
        .into())
}

/// A thought that this provider's model had: no other is of use to it.
fn write_own_thought(thought: &Thought) -> Option<Json> {
    let signature = thought.signature.as_ref()?.own(Dialect::Responses)?;
    let (id, encrypted) = signature.split_once('.')?;
    Some(
        Object::typed("reasoning")
            .with("id", id)
            .with("summary", summary(&thought.text))
            .with("encrypted_content", encrypted)
            .into(),
    )
}

/// The text of a thought, as a summary.
pub(crate) fn summary(text: &str) -> Vec<Json> {
    match text.is_empty() {
        true => Vec::new(),
        false => vec![Object::typed("summary_text").with("text", text).into()],
    }
}

fn write_media(media: &Media) -> Result<Json, Untranslatable> {
    Ok(match (media.kind, &media.source) {
        (Kind::Image, _) => Object::typed("input_image")
            .with("image_url", media.url())
            .with("detail", media.detail.as_deref().unwrap_or("auto")),
        (Kind::File, Source::Url(url)) => Object::typed("input_file").with("file_url", url),
        (Kind::File, Source::Data { .. }) => Object::typed("input_file")
            .with("filename", media.name.as_deref().unwrap_or("file"))
            .with("file_data", media.url()),
        (Kind::Audio, _) => return Err(media.at.refused("sounds cannot be sent")),
    }
    .into())
}

/// Reads an answer.
pub(crate) fn read_answer(body: Json, usage: Usage) -> Result<Answer, Untranslatable> {
    let mut from = Fields::answer(body)?;
    let mut parts = Vec::new();
    for mut item in from.objects("output")? {
        match item.text("type")?.as_deref() {
            Some("message") => parts.extend(read_content(&mut item, "content")?),
            Some("function_call") => parts.push(Part::Call(read_call(&mut item)?)),
            Some("reasoning") => {
                let thought = read_thought(&mut item)?;
                if thought.signature.is_some() || !thought.text.is_empty() {
                    parts.push(Part::Thought(thought));
                }
            }
            _ => return Err(refused(item.here(), "this item cannot be translated")),
        }
    }
    let has_calls = parts.iter().any(|part| matches!(part, Part::Call(_)));
    Ok(Answer {
        id: from.text("id")?.unwrap_or_default(),
        model: from.text("model")?.unwrap_or_default(),
        created: from.number("created_at")?.and_then(|it| it.as_u64()),
        parts,
        stop: read_stop(&from.rest(), has_calls)?,
        usage,
    })
}

/// Why a model stopped, as the whole response tells.
pub(crate) fn read_stop(response: &Json, has_calls: bool) -> Result<Stop, Untranslatable> {
    let reason = response.at(&["incomplete_details", "reason"]);
    match response.get("status").and_then(Json::text) {
        Some("completed") if has_calls => Ok(Stop::Calls),
        Some("completed") => Ok(Stop::End),
        Some("incomplete") => match reason.and_then(Json::text) {
            Some("max_output_tokens") => Ok(Stop::Length),
            Some("content_filter") => Ok(Stop::Filter),
            _ => Err(refused("incomplete_details.reason", "it is not known")),
        },
        _ => {
            let message = response.at(&["error", "message"]).and_then(Json::text);
            let message = message.unwrap_or("the response is not complete");
            Err(refused("status", message))
        }
    }
}

/// Writes usage.
pub(crate) fn write_usage(usage: &Usage) -> Object {
    Object::new()
        .with("input_tokens", usage.input)
        .with(
            "input_tokens_details",
            Object::new()
                .with("cached_tokens", usage.cache_read)
                .with("cache_write_tokens", usage.cache_write),
        )
        .with("output_tokens", usage.output)
        .with(
            "output_tokens_details",
            Object::new().with("reasoning_tokens", usage.reasoning),
        )
        .with("total_tokens", usage.input.saturating_add(usage.output))
}

/// The thought of any model as an item for a client to keep.
pub(crate) fn thought_item(id: &str, thought: &Thought) -> Json {
    let own = thought
        .signature
        .as_ref()
        .and_then(|it| it.own(Dialect::Responses));
    let (id, encrypted) = match own.and_then(|text| text.split_once('.')) {
        Some((id, encrypted)) => (id.to_owned(), Some(encrypted.to_owned())),
        None => {
            let kept = thought.signature.as_ref();
            (id.to_owned(), kept.map(|it| it.kept(Dialect::Responses)))
        }
    };
    Object::typed("reasoning")
        .with("id", id)
        .with("summary", summary(&thought.text))
        .maybe("encrypted_content", encrypted)
        .into()
}

pub(crate) fn message_item(id: &str, status: &str, content: Vec<Json>) -> Json {
    Object::typed("message")
        .with("id", id)
        .with("status", status)
        .with("role", "assistant")
        .with("content", content)
        .into()
}

pub(crate) fn call_item(id: &str, status: &str, call: &Call) -> Json {
    write_call(call)
        .with("id", id)
        .with("status", status)
        .into()
}

/// A response with its output.
pub(crate) fn response(
    (id, model, created): (&str, &str, u64),
    memory: &Memory,
    status: &str,
    output: Vec<Json>,
) -> Object {
    let mut made = Object::new()
        .with("id", id)
        .with("object", "response")
        .with("created_at", created)
        .with("status", status)
        .with("error", Json::Null)
        .with("model", model)
        .with("output", output);
    for (name, value) in &memory.echo {
        made = made.with(name, value.clone());
    }
    made
}

/// The status of a response that stopped so, and what it lacks.
pub(crate) fn write_stop(stop: &Stop) -> (&'static str, Json) {
    let lacks = |reason: &str| Object::new().with("reason", reason).into();
    match stop {
        Stop::End | Stop::Calls | Stop::Text(_) => ("completed", Json::Null),
        Stop::Length => ("incomplete", lacks("max_output_tokens")),
        Stop::Filter => ("incomplete", lacks("content_filter")),
    }
}

/// Writes an answer.
pub(crate) fn write_answer(answer: &Answer, memory: &Memory) -> Result<Json, Untranslatable> {
    let mut output: Vec<Json> = Vec::new();
    for (at, part) in answer.parts.iter().enumerate() {
        let id = |kind: &str| format!("{kind}_{}_{at}", answer.id);
        output.push(match part {
            Part::Text(text) => message_item(&id("msg"), "completed", vec![output_text(text)]),
            Part::Refusal(text) => message_item(&id("msg"), "completed", vec![refusal(text)]),
            Part::Call(call) => call_item(&id("fc"), "completed", call),
            Part::Thought(thought) => thought_item(&id("rs"), thought),
            Part::Media(media) => return Err(media.at.refused("it cannot be told here")),
            Part::Result(outcome) => return Err(outcome.at.refused("no model says this")),
        });
    }
    let (status, lacks) = write_stop(&answer.stop);
    let head = (
        answer.id.as_str(),
        answer.model.as_str(),
        answer.created.unwrap_or(memory.now),
    );
    Ok(response(head, memory, status, output)
        .with("incomplete_details", lacks)
        .with("usage", write_usage(&answer.usage))
        .into())
}
