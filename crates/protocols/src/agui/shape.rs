//! The published schema as a table, and the one check that reads it. A checked value has what is needed, nothing that the
//! schema does not know, and no `null` where a field is optional.

use serde_json::{Map, Value};

/// Something that is not as it must be.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{}: {why}", if field.is_empty() { "the value" } else { field })]
pub struct Malformed {
    /// Where, as in `messages[2].content`; empty: the whole.
    pub field: String,
    /// What it must be.
    pub why: String,
}

impl Malformed {
    fn new(why: impl Into<String>) -> Self {
        Self {
            field: String::new(),
            why: why.into(),
        }
    }

    /// What is found after the check.
    pub(super) fn other(err: &serde_json::Error) -> Self {
        Self::new(err.to_string())
    }

    pub(super) fn missing(name: &str, why: impl Into<String>) -> Self {
        Self::new(why).within(name)
    }

    fn within(mut self, name: &str) -> Self {
        let dot = match self.field.chars().next() {
            None | Some('[') => "",
            Some(_) => ".",
        };
        self.field = format!("{name}{dot}{}", self.field);
        self
    }
}

/// How a value is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Mode {
    /// What is wrong is refused.
    Strict,
    /// What is wrong and can be done without is dropped, and names in snake case are understood.
    Lenient,
}

/// What a value must be.
pub(super) enum Shape {
    Any,
    Text,
    Pointer,
    Flag,
    /// A whole number that survives as a double: not below this.
    Whole(i64),
    Object,
    OneOf(&'static [&'static str]),
    List(&'static Shape),
    /// A list with something in it.
    Some(&'static Shape),
    Fields(&'static [Field]),
    TextOr(&'static Shape),
    /// By the value of a field: what all have, and what each has.
    Tagged(
        &'static str,
        &'static [Field],
        &'static [(&'static str, &'static [Field])],
    ),
}

pub(super) struct Field {
    name: &'static str,
    needed: bool,
    shape: &'static Shape,
}

const fn needs(name: &'static str, shape: &'static Shape) -> Field {
    Field {
        name,
        needed: true,
        shape,
    }
}

const fn may(name: &'static str, shape: &'static Shape) -> Field {
    Field {
        name,
        needed: false,
        shape,
    }
}

/// The greatest whole number that a double holds, and all below it.
const MOST_WHOLE: i64 = (1 << 53) - 1;

use Shape::{Any, Fields, Flag, List, Object, OneOf, Pointer, Tagged, Text, TextOr, Whole};

static COUNT: Shape = Whole(0);
static TIME: Shape = Whole(-MOST_WHOLE);
static TEXTS: Shape = List(&Text);
static ROLE: Shape = OneOf(&["developer", "system", "assistant", "user"]);

const OWNER: Field = may("subagentRunId", &Text);
const METADATA: Field = may("metadata", &Object);
const ENCRYPTED: Field = may("encryptedValue", &Text);
const MESSAGE_ID: Field = needs("messageId", &Text);
const CALL_ID: Field = needs("toolCallId", &Text);
const DELTA: Field = needs("delta", &Text);
const MAYBE_DELTA: Field = may("delta", &Text);

static SOURCE: Shape = Tagged(
    "type",
    &[needs("value", &Text)],
    &[
        ("data", &[needs("mimeType", &Text)]),
        ("url", &[may("mimeType", &Text)]),
        ("file", &[may("provider", &Text), may("mimeType", &Text)]),
    ],
);
static MEDIA: [Field; 1] = [needs("source", &SOURCE)];
static PART: Shape = Tagged(
    "type",
    &[may("id", &Text), may("metadata", &Any)],
    &[
        ("text", &[needs("text", &Text)]),
        ("image", &MEDIA),
        ("audio", &MEDIA),
        ("video", &MEDIA),
        ("document", &MEDIA),
    ],
);
static PARTS: Shape = List(&PART);
static CONTENT: Shape = TextOr(&PARTS);

static OPERATION: Shape = Tagged(
    "op",
    &[needs("path", &Pointer)],
    &[
        ("add", &[needs("value", &Any)]),
        ("remove", &[]),
        ("replace", &[needs("value", &Any)]),
        ("move", &[needs("from", &Pointer)]),
        ("copy", &[needs("from", &Pointer)]),
        ("test", &[needs("value", &Any)]),
    ],
);
static PATCH: Shape = List(&OPERATION);

static FUNCTION: Shape = Fields(&[needs("name", &Text), needs("arguments", &Text)]);
static CALL: Shape = Fields(&[
    needs("id", &Text),
    needs("type", &OneOf(&["function"])),
    needs("function", &FUNCTION),
    ENCRYPTED,
    METADATA,
]);
static CALLS: Shape = List(&CALL);
static PLAIN: [Field; 2] = [needs("content", &Text), may("name", &Text)];
static MESSAGE: Shape = Tagged(
    "role",
    &[needs("id", &Text), OWNER, ENCRYPTED, METADATA],
    &[
        ("developer", &PLAIN),
        ("system", &PLAIN),
        (
            "assistant",
            &[
                may("content", &Text),
                may("toolCalls", &CALLS),
                may("name", &Text),
            ],
        ),
        ("user", &[needs("content", &CONTENT), may("name", &Text)]),
        (
            "tool",
            &[needs("content", &CONTENT), CALL_ID, may("error", &Text)],
        ),
        (
            "activity",
            &[needs("activityType", &Text), needs("content", &Object)],
        ),
        ("reasoning", &[needs("content", &Text)]),
    ],
);
static MESSAGES: Shape = List(&MESSAGE);

static TOOL: Shape = Fields(&[
    needs("name", &Text),
    needs("description", &Text),
    may("parameters", &Any),
    METADATA,
]);
static CONTEXT: Shape = Fields(&[needs("description", &Text), needs("value", &Text)]);
static RESUME: Shape = Fields(&[
    needs("interruptId", &Text),
    needs("status", &OneOf(&["resolved", "cancelled"])),
    may("payload", &Any),
    METADATA,
]);

/// What a client sends.
pub(super) static INPUT: Shape = Fields(&[
    needs("threadId", &Text),
    needs("runId", &Text),
    may("protocolVersion", &Text),
    may("parentRunId", &Text),
    may("state", &Any),
    needs("messages", &MESSAGES),
    may("tools", &List(&TOOL)),
    may("context", &List(&CONTEXT)),
    may("forwardedProps", &Any),
    may("resume", &List(&RESUME)),
]);

static INTERRUPT: Shape = Fields(&[
    OWNER,
    needs("id", &Text),
    needs("reason", &Text),
    may("message", &Text),
    may("toolCallId", &Text),
    may("responseSchema", &Object),
    may("expiresAt", &Text),
    METADATA,
]);
static OUTCOME: Shape = Tagged(
    "type",
    &[],
    &[
        ("success", &[may("pendingToolCallIds", &TEXTS)]),
        (
            "interrupt",
            &[needs("interrupts", &Shape::Some(&INTERRUPT))],
        ),
        ("cancelled", &[]),
    ],
);
static USAGE: Shape = List(&Fields(&[
    may("provider", &Text),
    may("model", &Text),
    may("inputTokens", &COUNT),
    may("outputTokens", &COUNT),
    may("totalTokens", &COUNT),
    may("reasoningTokens", &COUNT),
    may("cachedInputTokens", &COUNT),
    may("cacheWriteInputTokens", &COUNT),
]));
static SUBAGENT_OUTCOME: Shape = Tagged(
    "type",
    &[],
    &[
        ("success", &[]),
        ("suspended", &[may("interruptIds", &TEXTS)]),
    ],
);
const SUBAGENT: Field = needs("subagentRunId", &Text);

/// Any event.
pub(super) static EVENT: Shape = Tagged(
    "type",
    &[may("timestamp", &TIME), may("rawEvent", &Any), METADATA],
    &[
        (
            "TEXT_MESSAGE_START",
            &[OWNER, MESSAGE_ID, may("role", &ROLE), may("name", &Text)],
        ),
        ("TEXT_MESSAGE_CONTENT", &[OWNER, MESSAGE_ID, DELTA]),
        ("TEXT_MESSAGE_END", &[OWNER, MESSAGE_ID]),
        (
            "TEXT_MESSAGE_CHUNK",
            &[
                OWNER,
                may("messageId", &Text),
                may("role", &ROLE),
                MAYBE_DELTA,
                may("name", &Text),
            ],
        ),
        (
            "TOOL_CALL_START",
            &[
                OWNER,
                CALL_ID,
                needs("toolCallName", &Text),
                may("parentMessageId", &Text),
            ],
        ),
        ("TOOL_CALL_ARGS", &[OWNER, CALL_ID, DELTA]),
        ("TOOL_CALL_END", &[OWNER, CALL_ID]),
        (
            "TOOL_CALL_CHUNK",
            &[
                OWNER,
                may("toolCallId", &Text),
                may("toolCallName", &Text),
                may("parentMessageId", &Text),
                MAYBE_DELTA,
            ],
        ),
        (
            "TOOL_CALL_RESULT",
            &[
                OWNER,
                MESSAGE_ID,
                CALL_ID,
                needs("content", &CONTENT),
                may("role", &OneOf(&["tool"])),
            ],
        ),
        ("STATE_SNAPSHOT", &[OWNER, needs("snapshot", &Any)]),
        ("STATE_DELTA", &[OWNER, needs("delta", &PATCH)]),
        ("MESSAGES_SNAPSHOT", &[needs("messages", &MESSAGES)]),
        (
            "ACTIVITY_SNAPSHOT",
            &[
                OWNER,
                MESSAGE_ID,
                needs("activityType", &Text),
                needs("content", &Object),
                may("replace", &Flag),
            ],
        ),
        (
            "ACTIVITY_DELTA",
            &[
                OWNER,
                MESSAGE_ID,
                needs("activityType", &Text),
                needs("patch", &PATCH),
            ],
        ),
        ("RAW", &[OWNER, needs("event", &Any), may("source", &Text)]),
        (
            "CUSTOM",
            &[OWNER, needs("name", &Text), needs("value", &Any)],
        ),
        (
            "RUN_STARTED",
            &[
                needs("threadId", &Text),
                needs("runId", &Text),
                may("protocolVersion", &Text),
                may("parentRunId", &Text),
                may("input", &INPUT),
            ],
        ),
        (
            "RUN_FINISHED",
            &[
                needs("threadId", &Text),
                needs("runId", &Text),
                may("result", &Any),
                may("outcome", &OUTCOME),
                may("usage", &USAGE),
            ],
        ),
        (
            "RUN_ERROR",
            &[
                needs("message", &Text),
                may("code", &Text),
                may("usage", &USAGE),
            ],
        ),
        ("STEP_STARTED", &[OWNER, needs("stepName", &Text)]),
        ("STEP_FINISHED", &[OWNER, needs("stepName", &Text)]),
        ("REASONING_START", &[OWNER, MESSAGE_ID]),
        (
            "REASONING_MESSAGE_START",
            &[OWNER, MESSAGE_ID, needs("role", &OneOf(&["reasoning"]))],
        ),
        ("REASONING_MESSAGE_CONTENT", &[OWNER, MESSAGE_ID, DELTA]),
        ("REASONING_MESSAGE_END", &[OWNER, MESSAGE_ID]),
        (
            "REASONING_MESSAGE_CHUNK",
            &[OWNER, may("messageId", &Text), MAYBE_DELTA],
        ),
        ("REASONING_END", &[OWNER, MESSAGE_ID]),
        (
            "REASONING_ENCRYPTED_VALUE",
            &[
                OWNER,
                needs("subtype", &OneOf(&["tool-call", "message"])),
                needs("entityId", &Text),
                needs("encryptedValue", &Text),
            ],
        ),
        (
            "SUBAGENT_STARTED",
            &[
                SUBAGENT,
                needs("name", &Text),
                may("description", &Text),
                may("parentSubagentRunId", &Text),
                may("parentToolCallId", &Text),
                may("parentMessageId", &Text),
            ],
        ),
        (
            "SUBAGENT_FINISHED",
            &[
                SUBAGENT,
                may("result", &Any),
                may("outcome", &SUBAGENT_OUTCOME),
            ],
        ),
        (
            "SUBAGENT_ERROR",
            &[SUBAGENT, needs("message", &Text), may("code", &Text)],
        ),
    ],
);

/// Whether an event of that type is known.
pub(crate) fn is_type(name: &str) -> bool {
    types().any(|one| one == name)
}

/// The types of all events.
pub(super) fn types() -> impl Iterator<Item = &'static str> {
    let all: &[_] = match &EVENT {
        Tagged(_, _, all) => all,
        _ => &[],
    };
    all.iter().map(|(name, _)| *name)
}

/// Checks a value, and takes out of it what does not belong there.
pub(super) fn check(value: &mut Value, shape: &Shape, mode: Mode) -> Result<(), Malformed> {
    let is_right = match shape {
        Any => true,
        Text => value.is_string(),
        Pointer => value.as_str().is_some_and(super::patch::is_pointer),
        Flag => value.is_boolean(),
        Whole(least) => value
            .as_i64()
            .is_some_and(|it| (*least..=MOST_WHOLE).contains(&it)),
        Object => value.is_object(),
        OneOf(words) => value.as_str().is_some_and(|it| words.contains(&it)),
        List(each) => return list(value, each, mode, shape),
        Shape::Some(each) => {
            list(value, each, mode, shape)?;
            value.as_array().is_some_and(|it| !it.is_empty())
        }
        TextOr(_) if value.is_string() => true,
        TextOr(other) if value.is_array() => return check(value, other, mode),
        TextOr(_) => false,
        Fields(all) => return fields(value, &[all], None, mode, shape),
        Tagged(tag, shared, all) => {
            let Some(object) = value.as_object() else {
                return Err(Malformed::new(wanted(&Object)));
            };
            let told = object.get(*tag).and_then(Value::as_str);
            let Some((name, own)) = all.iter().find(|(name, _)| Some(*name) == told) else {
                return Err(Malformed::new(wanted(shape)).within(tag));
            };
            return fields(value, &[shared, own], Some((tag, name)), mode, shape);
        }
    };
    match is_right {
        true => Ok(()),
        false => Err(Malformed::new(wanted(shape))),
    }
}

/// What a value must be, in words.
fn wanted(shape: &Shape) -> String {
    let one_of = |words: &mut dyn Iterator<Item = &'static str>| {
        let words: Vec<&str> = words.take(8).collect();
        format!("it must be one of: {}", words.join(", "))
    };
    match shape {
        Any => "it must be a value".to_owned(),
        Text => "it must be a text".to_owned(),
        Pointer => "it must be a JSON pointer, as /a/b".to_owned(),
        Flag => "it must be true or false".to_owned(),
        Whole(0) => "it must be a whole number, not below 0".to_owned(),
        Whole(_) => "it must be a whole number".to_owned(),
        Object | Fields(_) => "it must be an object".to_owned(),
        OneOf(words) => one_of(&mut words.iter().copied()),
        List(_) => "it must be a list".to_owned(),
        Shape::Some(_) => "it must be a list with something in it".to_owned(),
        TextOr(_) => "it must be a text or a list".to_owned(),
        Tagged(_, _, all) if all.len() > 8 => "it must be the type of an event".to_owned(),
        Tagged(_, _, all) => one_of(&mut all.iter().map(|(name, _)| *name)),
    }
}

fn list(value: &mut Value, each: &Shape, mode: Mode, shape: &Shape) -> Result<(), Malformed> {
    let Some(list) = value.as_array_mut() else {
        return Err(Malformed::new(wanted(shape)));
    };
    let mut wrong = None;
    let mut at = 0;
    list.retain_mut(|one| {
        let name = format!("[{at}]");
        at += 1;
        match check(one, each, mode) {
            Ok(()) => true,
            // A member of a newer version goes; what is known and wrong does not.
            Err(_) if mode == Mode::Lenient && is_newer(one, each) => false,
            Err(err) => {
                wrong.get_or_insert_with(|| err.within(&name));
                true
            }
        }
    });
    wrong.map_or(Ok(()), Err)
}

/// Whether an object says that it is something that the schema does not know.
fn is_newer(value: &Value, shape: &Shape) -> bool {
    let Tagged(tag, _, all) = shape else {
        return false;
    };
    let told = value.get(tag).and_then(Value::as_str);
    *tag != "op" && told.is_some_and(|told| all.iter().all(|(name, _)| *name != told))
}

fn fields(
    value: &mut Value,
    all: &[&[Field]],
    tag: Option<(&str, &str)>,
    mode: Mode,
    shape: &Shape,
) -> Result<(), Malformed> {
    let Some(object) = value.as_object_mut() else {
        return Err(Malformed::new(wanted(shape)));
    };
    let mut kept = Map::new();
    if let Some((tag, name)) = tag {
        kept.insert(tag.to_owned(), name.into());
    }
    for Field {
        name,
        needed,
        shape,
    } in all.iter().copied().flatten()
    {
        let told = match object.remove(*name) {
            None if mode == Mode::Lenient => object.remove(&snake(name)),
            told => told,
        };
        let is_null = matches!(told, Some(Value::Null));
        let told = told.filter(|_| *needed || !is_null);
        let Some(mut told) = told else {
            if *needed {
                let why = format!("it is missing; {}", wanted(shape));
                return Err(Malformed::missing(name, why));
            }
            continue;
        };
        match check(&mut told, shape, mode) {
            Ok(()) => {
                kept.insert((*name).to_owned(), told);
            }
            Err(_) if !*needed && mode == Mode::Lenient => {}
            Err(err) => return Err(err.within(name)),
        }
    }
    *object = kept;
    Ok(())
}

/// A name as Python writes it.
fn snake(name: &str) -> String {
    let mut out = String::with_capacity(name.len() + 4);
    for letter in name.chars() {
        if letter.is_ascii_uppercase() {
            out.push('_');
        }
        out.push(letter.to_ascii_lowercase());
    }
    out
}
