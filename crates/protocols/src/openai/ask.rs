//! What is asked of a model as what an agent is asked.

use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::PREFIX;
use crate::agui::{
    Content, Context, Function, FunctionCall, Interrupt, Media, Message, Object, Part, ResumeEntry,
    ResumeStatus, RunAgentInput, Said, Source, Tool, ToolCall,
};
use crate::fields::{Fields, Read, Wrong};

/// Under which name the agent is told what else was asked, in `forwardedProps`.
pub(super) const PROPS: &str = "openai";
/// What a context is called that says how the agent is to answer.
const INSTRUCTIONS: &str = "instructions";

/// A request that is not as it must be.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{field}`: {why}")]
pub struct Invalid {
    /// Where, as in `messages[2].content`.
    pub field: String,
    /// What it must be.
    pub why: String,
}

impl From<Wrong> for Invalid {
    fn from(wrong: Wrong) -> Self {
        let field = match wrong.field.is_empty() {
            true => "body".to_owned(),
            false => wrong.field,
        };
        Self {
            field,
            why: wrong.why,
        }
    }
}

/// The agent that a body asks, by the name of its model. None when it asks a model, or cannot be read.
#[must_use]
pub fn model(body: &[u8]) -> Option<String> {
    #[derive(Deserialize)]
    struct Model<'a> {
        #[serde(borrow)]
        model: std::borrow::Cow<'a, str>,
    }
    let read: Model<'_> = serde_json::from_slice(body).ok()?;
    read.model.strip_prefix(PREFIX).map(str::to_owned)
}

/// What a client asks of an agent.
#[derive(Debug, Clone, PartialEq)]
pub struct Asked {
    /// As the client names it.
    pub model: String,
    /// Whether it is answered as it comes.
    pub stream: bool,
    /// Whether the client comes back for the answer.
    pub background: bool,
    /// Whether a stream of chunks tells what was used.
    pub usage: bool,
    /// The response that this one goes on with.
    pub previous: Option<String>,
    /// What the client calls the conversation.
    pub conversation: Option<String>,
    /// What the client hands through to the answer.
    pub metadata: Option<Object>,
    /// Whether all that was said is told, and not only what is new.
    is_whole: bool,
    said: Vec<Said>,
    context: Vec<Context>,
    tools: Vec<Tool>,
    props: Object,
}

/// What there was before, where something goes on.
#[derive(Debug, Clone, Default)]
pub struct Before<'a> {
    /// The conversation so far.
    pub messages: Vec<Message>,
    /// Its state.
    pub state: Option<Value>,
    /// What it waits for.
    pub open: &'a [Interrupt],
    /// The run from which this one branches off.
    pub parent: Option<String>,
}

/// Fields that are not handed through, as the run says them.
const OWN: [&str; 11] = [
    "model",
    "messages",
    "input",
    "instructions",
    "tools",
    "stream",
    "stream_options",
    "conversation",
    "n",
    "store",
    "metadata",
];

impl Asked {
    /// Reads the body of a chat completion.
    ///
    /// # Errors
    /// [`Invalid`], which names the field.
    pub fn chat(body: Value) -> Result<Self, Invalid> {
        let fields = Fields::of(&body)?;
        if fields.get("n").is_some_and(|it| it.as_u64() != Some(1)) {
            return Err(wrong("n", "an agent answers once: leave it out").into());
        }
        let said = fields.list("messages", message)?;
        if said.is_empty() {
            return Err(wrong("messages", "it must have a message").into());
        }
        let tools = fields.list("tools", |it| {
            let tool = Fields::of(it)?;
            is_function(&tool)?;
            tool.needs("function", function)
        })?;
        let options = fields.inner("stream_options", |it| Fields::of(it)?.flag("include_usage"))?;
        let mut asked = Self::of(&fields, said, tools)?;
        asked.usage = options.flatten() == Some(true);
        asked.is_whole = true;
        asked.props = rest(body);
        Ok(asked)
    }

    /// Reads the body of a response.
    ///
    /// # Errors
    /// [`Invalid`], which names the field.
    pub fn response(body: Value) -> Result<Self, Invalid> {
        let fields = Fields::of(&body)?;
        let said = match fields.get("input") {
            Some(Value::String(text)) => vec![user(Content::Text(text.clone()))],
            _ => joined(fields.list("input", item)?),
        };
        if said.is_empty() {
            return Err(wrong("input", "it must be a text, or a list of items").into());
        }
        let tools = fields.list("tools", |it| {
            is_function(&Fields::of(it)?)?;
            function(it)
        })?;
        let mut asked = Self::of(&fields, said, tools)?;
        asked.background = fields.flag("background")?.unwrap_or_default();
        asked.previous = fields.id("previous_response_id")?;
        asked.conversation = match fields.get("conversation") {
            Some(it @ Value::Object(_)) => {
                let id = Fields::of(it)?.needs_id("id");
                Some(id.map_err(|wrong| wrong.within("conversation"))?)
            }
            _ => fields.id("conversation")?,
        };
        if asked.previous.is_some() && asked.conversation.is_some() {
            let why = "say this or `conversation`, not both";
            return Err(wrong("previous_response_id", why).into());
        }
        if let Some(value) = fields.text("instructions")? {
            asked.context.push(Context {
                description: INSTRUCTIONS.to_owned(),
                value,
            });
        }
        asked.props = rest(body);
        Ok(asked)
    }

    fn of(fields: &Fields<'_>, said: Vec<Said>, tools: Vec<Tool>) -> Read<Self> {
        Ok(Self {
            model: fields.needs_text("model")?,
            stream: fields.flag("stream")?.unwrap_or_default(),
            background: false,
            usage: false,
            previous: None,
            conversation: None,
            metadata: fields.object("metadata")?,
            is_whole: false,
            said,
            context: Vec::new(),
            tools,
            props: Object::new(),
        })
    }

    /// What the agent is asked.
    ///
    /// # Errors
    /// [`Invalid`]: an answer to what the conversation waits for is wanting; which, is said.
    pub fn input(
        mut self,
        (thread, run): (&str, &str),
        before: Before<'_>,
    ) -> Result<RunAgentInput, Invalid> {
        let mut input = RunAgentInput::new(thread, run);
        if !before.open.is_empty() {
            input.resume = self.answers(before.open)?;
        }
        if !self.is_whole {
            input.messages = before.messages;
        }
        let each = self.said.into_iter().enumerate();
        input
            .messages
            .extend(each.map(|(at, said)| Message::new(format!("{run}-in{at}"), said)));
        input.state = before.state;
        input.tools = self.tools;
        input.context = self.context;
        input.parent_run_id = before.parent;
        if let Some(metadata) = self.metadata {
            self.props.insert("metadata".to_owned(), metadata.into());
        }
        if !self.props.is_empty() {
            input.forwarded_props = Some(json!({ PROPS: self.props }));
        }
        Ok(input)
    }

    /// Whether a run was begun by this very request.
    #[must_use]
    pub fn is_of(&self, input: &RunAgentInput) -> bool {
        let id = &input.run_id;
        let Ok(fresh) = self
            .clone()
            .input((&input.thread_id, id), Before::default())
        else {
            return false;
        };
        // What answers an interrupt is no message of the conversation.
        let is_said = !input.resume.is_empty() || input.messages.ends_with(&fresh.messages);
        is_said && fresh.tools == input.tools && fresh.forwarded_props == input.forwarded_props
    }

    /// Answers to what the conversation waits for: what a tool gave answers the interrupt that waits for its call, and what the
    /// person said last answers the others. Of several each is answered by its id, in an object of JSON.
    fn answers(&mut self, open: &[Interrupt]) -> Result<Vec<ResumeEntry>, Invalid> {
        let field = if self.is_whole { "messages" } else { "input" };
        let said = match self.said.last() {
            Some(Said::User { content, .. }) => {
                let text = content.text();
                self.said.pop();
                Some(text)
            }
            _ => None,
        };
        let by_id: Option<Map<String, Value>> = said
            .as_deref()
            .and_then(|it| serde_json::from_str(it).ok())
            .filter(|it: &Map<String, Value>| open.iter().any(|one| it.contains_key(&one.id)));
        let by_tool = |id: &String| {
            let mut tools = self.said.iter().rev();
            tools.find_map(|it| match it {
                Said::Tool {
                    content,
                    tool_call_id,
                    ..
                } if tool_call_id == id => Some(json_or_text(&content.text())),
                _ => None,
            })
        };
        let mut resume = Vec::with_capacity(open.len());
        for one in open {
            let of_tool = one.tool_call_id.as_ref().and_then(by_tool);
            let payload = match (of_tool, &by_id, &said) {
                (Some(value), ..) => value,
                (None, Some(all), _) if all.contains_key(&one.id) => all[&one.id].clone(),
                (None, None, Some(text)) if open.len() == 1 => Value::String(text.clone()),
                _ => {
                    let ids: Vec<&str> = open.iter().map(|it| it.id.as_str()).collect();
                    let why = format!(
                        "the agent waits for {}: the last message must be an object of JSON with an answer to each",
                        ids.join(", ")
                    );
                    return Err(wrong(field, &why).into());
                }
            };
            resume.push(ResumeEntry {
                interrupt_id: one.id.clone(),
                status: ResumeStatus::Resolved,
                payload: Some(payload),
                metadata: None,
            });
        }
        Ok(resume)
    }
}

fn wrong(field: &str, why: &str) -> Wrong {
    Wrong::new(why).within(field)
}

fn json_or_text(text: &str) -> Value {
    serde_json::from_str(text).unwrap_or_else(|_| text.into())
}

/// What the agent is told of a body beside what the run says.
fn rest(body: Value) -> Object {
    let Value::Object(mut all) = body else {
        return Object::new();
    };
    all.retain(|name, value| !OWN.contains(&name.as_str()) && !value.is_null());
    all
}

const fn user(content: Content) -> Said {
    Said::User {
        content,
        name: None,
    }
}

fn is_function(tool: &Fields<'_>) -> Read<()> {
    match tool.needs_text("type")?.as_str() {
        "function" => Ok(()),
        other => {
            let why =
                format!("the agent has its own tools: `{other}` is none that it can be given");
            Err(wrong("type", &why))
        }
    }
}

fn function(value: &Value) -> Read<Tool> {
    let fields = Fields::of(value)?;
    Ok(Tool {
        name: fields.needs_text("name")?,
        description: fields.text("description")?.unwrap_or_default(),
        parameters: fields.get("parameters").cloned(),
        metadata: None,
    })
}

/// One message of a chat.
fn message(value: &Value) -> Read<Said> {
    let fields = Fields::of(value)?;
    let role = fields.needs_text("role")?;
    let calls = fields.list("tool_calls", |it| {
        let call = Fields::of(it)?;
        is_function(&call)?;
        let id = call.needs_id("id")?;
        call.needs("function", |it| tool_call(&Fields::of(it)?, id))
    })?;
    if role == "tool" {
        return Ok(Said::Tool {
            content: content(&fields, "content")?,
            tool_call_id: fields.needs_id("tool_call_id")?,
            error: None,
        });
    }
    said(&fields, &role, calls)
}

fn tool_call(fields: &Fields<'_>, id: String) -> Read<ToolCall> {
    Ok(ToolCall {
        id,
        r#type: Function::Function,
        function: FunctionCall {
            name: fields.needs_text("name")?,
            arguments: fields.text("arguments")?.unwrap_or_default(),
        },
        encrypted_value: None,
        metadata: None,
    })
}

/// Who says what, in both.
fn said(fields: &Fields<'_>, role: &str, tool_calls: Vec<ToolCall>) -> Read<Said> {
    let name = fields.text("name")?;
    let text = || content(fields, "content").map(|it| it.text());
    Ok(match role {
        "system" => Said::System {
            content: text()?,
            name,
        },
        "developer" => Said::Developer {
            content: text()?,
            name,
        },
        "user" => Said::User {
            content: content(fields, "content")?,
            name,
        },
        "assistant" => Said::Assistant {
            content: match fields.get("content") {
                None if !tool_calls.is_empty() => None,
                _ => Some(text()?),
            },
            tool_calls,
            name,
        },
        _ => {
            let why = "it must be system, developer, user, assistant or tool";
            return Err(wrong("role", why));
        }
    })
}

/// One item of an input. None, of one that an agent has no use for.
fn item(value: &Value) -> Read<Option<Said>> {
    let fields = Fields::of(value)?;
    let kind = fields.text("type")?;
    Ok(Some(match kind.as_deref() {
        None | Some("message") => said(&fields, &fields.needs_text("role")?, Vec::new())?,
        Some("function_call") => {
            let call = tool_call(&fields, fields.needs_id("call_id")?)?;
            Said::Assistant {
                content: None,
                tool_calls: vec![call],
                name: None,
            }
        }
        Some("function_call_output") => Said::Tool {
            content: content(&fields, "output")?,
            tool_call_id: fields.needs_id("call_id")?,
            error: None,
        },
        // What it thought before it has with its conversation.
        Some("reasoning") => return Ok(None),
        Some(_) => {
            let why = "it must be message, function_call, function_call_output or reasoning";
            return Err(wrong("type", why));
        }
    }))
}

/// Calls belong to the message that they follow.
fn joined(items: Vec<Option<Said>>) -> Vec<Said> {
    let mut all: Vec<Said> = Vec::with_capacity(items.len());
    for said in items.into_iter().flatten() {
        match (all.last_mut(), said) {
            (
                Some(Said::Assistant { tool_calls, .. }),
                Said::Assistant {
                    content: None,
                    tool_calls: more,
                    ..
                },
            ) => tool_calls.extend(more),
            (_, said) => all.push(said),
        }
    }
    all
}

/// A text, or parts.
fn content(fields: &Fields<'_>, name: &str) -> Read<Content> {
    match fields.get(name) {
        Some(Value::String(text)) => Ok(Content::Text(text.clone())),
        Some(Value::Array(_)) => Ok(Content::Parts(fields.list(name, part)?)),
        _ => Err(wrong(name, "it must be a text, or a list of parts")),
    }
}

fn part(value: &Value) -> Read<Part> {
    let fields = Fields::of(value)?;
    let plain = |name: &str| {
        let text = fields.told(name).and_then(Value::as_str);
        let text = text.ok_or_else(|| wrong(name, "it must be a text"))?;
        Ok::<_, Wrong>(Part::Text {
            id: None,
            text: text.to_owned(),
            metadata: None,
        })
    };
    match fields.needs_text("type")?.as_str() {
        "text" | "input_text" | "output_text" => plain("text"),
        "refusal" => plain("refusal"),
        "image_url" => fields.needs("image_url", |it| {
            let url = Fields::of(it)?.needs_text("url")?;
            Ok(Part::Image(media(source(&url)?, None)))
        }),
        "input_image" => match (fields.text("image_url")?, fields.id("file_id")?) {
            (Some(url), _) => {
                let source = source(&url).map_err(|wrong| wrong.within("image_url"))?;
                Ok(Part::Image(media(source, None)))
            }
            (None, Some(id)) => Ok(Part::Image(media(at_provider(id), None))),
            (None, None) => Err(wrong("image_url", "it is missing")),
        },
        "input_audio" => fields.needs("input_audio", |it| {
            let audio = Fields::of(it)?;
            Ok(Part::Audio(media(
                Source::Data {
                    value: audio.needs_text("data")?,
                    mime_type: format!("audio/{}", audio.needs_text("format")?),
                },
                None,
            )))
        }),
        "file" => fields.needs("file", file),
        "input_file" => file(value),
        _ => {
            let why = "it must be a text, an image, audio or a file";
            Err(wrong("type", why))
        }
    }
}

fn file(value: &Value) -> Read<Part> {
    let fields = Fields::of(value)?;
    let name = fields.text("filename")?;
    let told = (
        fields.text("file_data")?,
        fields.text("file_url")?,
        fields.id("file_id")?,
    );
    let source = match told {
        (Some(data), ..) => source(&data).map_err(|wrong| wrong.within("file_data"))?,
        (None, Some(url), _) => source(&url).map_err(|wrong| wrong.within("file_url"))?,
        (None, None, Some(id)) => at_provider(id),
        (None, None, None) => return Err(wrong("file_data", "it is missing")),
    };
    Ok(Part::Document(media(source, name)))
}

const fn at_provider(id: String) -> Source {
    Source::File {
        value: id,
        provider: None,
        mime_type: None,
    }
}

fn media(source: Source, name: Option<String>) -> Media {
    Media {
        id: None,
        source,
        metadata: name.map(|it| json!({ "filename": it })),
    }
}

/// Where bytes are: there, or here in base 64.
fn source(url: &str) -> Read<Source> {
    let Some(data) = url.strip_prefix("data:") else {
        if url.starts_with("https://") || url.starts_with("http://") {
            return Ok(Source::Url {
                value: url.to_owned(),
                mime_type: None,
            });
        }
        return Err(Wrong::new("it must be a URL of http, https or data"));
    };
    let (kind, value) = data
        .split_once(";base64,")
        .ok_or_else(|| Wrong::new("a URL of data must be `data:TYPE;base64,…`"))?;
    Ok(Source::Data {
        value: value.to_owned(),
        mime_type: kind.to_owned(),
    })
}
