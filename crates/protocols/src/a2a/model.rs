//! Tasks, messages and what they are made of (section 4), in no version's words: how they are read stands here, too, and how they
//! are written in `wire`.

use base64::Engine as _;
use base64::alphabet;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use serde_json::Value;

use super::fields::{Fields, Read, Wrong};
use super::method::Version;
use super::older;
use crate::agui::Object;

/// A time: microseconds since 1970-01-01 UTC.
pub type Micros = i64;

/// Whatever base 64 has at its end.
const LENIENT: GeneralPurposeConfig =
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent);
const BASE64: GeneralPurpose = GeneralPurpose::new(&alphabet::STANDARD, LENIENT);

/// How a task stands (section 4.1.3).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[expect(missing_docs, reason = "the protocol's own names, which it documents")]
pub enum TaskState {
    Submitted,
    Working,
    Completed,
    Failed,
    Canceled,
    Rejected,
    InputRequired,
    AuthRequired,
}

impl TaskState {
    /// All of them, with their words in 1.0 and in 0.3.
    pub const ALL: [(Self, &'static str, &'static str); 8] = [
        (Self::Submitted, "TASK_STATE_SUBMITTED", "submitted"),
        (Self::Working, "TASK_STATE_WORKING", "working"),
        (Self::Completed, "TASK_STATE_COMPLETED", "completed"),
        (Self::Failed, "TASK_STATE_FAILED", "failed"),
        (Self::Canceled, "TASK_STATE_CANCELED", "canceled"),
        (Self::Rejected, "TASK_STATE_REJECTED", "rejected"),
        (
            Self::InputRequired,
            "TASK_STATE_INPUT_REQUIRED",
            "input-required",
        ),
        (
            Self::AuthRequired,
            "TASK_STATE_AUTH_REQUIRED",
            "auth-required",
        ),
    ];

    /// Its word in a version.
    #[must_use]
    pub fn as_str(self, version: Version) -> &'static str {
        let mut all = Self::ALL.into_iter();
        let found = all.find(|(it, ..)| *it == self);
        found.map_or("", |(_, newer, older)| match version {
            Version::V1_0 => newer,
            Version::V0_3 => older,
        })
    }

    /// The one of a word. Over HTTP, clients of 0.3 say the words of 1.0.
    #[must_use]
    pub fn of(version: Version, word: &str) -> Option<Self> {
        if version == Version::V0_3 && word == "TASK_STATE_CANCELLED" {
            return Some(Self::Canceled);
        }
        let mut all = Self::ALL.into_iter();
        let found = all
            .find(|(_, newer, older)| *newer == word || version == Version::V0_3 && *older == word);
        found.map(|(it, ..)| it)
    }

    /// Whether nothing follows.
    #[must_use]
    pub const fn is_terminal(self) -> bool {
        matches!(
            self,
            Self::Completed | Self::Failed | Self::Canceled | Self::Rejected
        )
    }

    /// Whether it waits for who asked.
    #[must_use]
    pub const fn is_interrupted(self) -> bool {
        matches!(self, Self::InputRequired | Self::AuthRequired)
    }
}

/// Who a message is from (section 4.1.5).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Role {
    /// The client.
    User,
    /// The agent.
    Agent,
}

/// One part of what is said (section 4.1.6).
#[derive(Debug, Clone, PartialEq)]
pub struct Part {
    /// What it holds.
    pub content: Content,
    /// The name of the file.
    pub filename: Option<String>,
    /// Its media type.
    pub media_type: Option<String>,
    /// What else there is to say of it.
    pub metadata: Option<Object>,
}

/// What a part holds.
#[derive(Debug, Clone, PartialEq)]
pub enum Content {
    /// A text.
    Text(String),
    /// The bytes of a file, in base 64.
    Raw(String),
    /// Where a file is.
    Url(String),
    /// JSON.
    Data(Value),
}

impl From<Content> for Part {
    fn from(content: Content) -> Self {
        Self {
            content,
            filename: None,
            media_type: None,
            metadata: None,
        }
    }
}

impl Part {
    /// A text.
    #[must_use]
    pub fn text(text: impl Into<String>) -> Self {
        Content::Text(text.into()).into()
    }

    /// JSON.
    #[must_use]
    pub fn data(data: Value) -> Self {
        Content::Data(data).into()
    }

    /// The text, when it is one.
    #[must_use]
    pub fn as_text(&self) -> Option<&str> {
        match &self.content {
            Content::Text(text) => Some(text),
            _ => None,
        }
    }

    /// A part as anybody writes it; none, when it is none.
    pub(crate) fn lenient(value: &Value) -> Option<Self> {
        Self::read(Version::V0_3, value).ok()
    }

    pub(in crate::a2a) fn read(version: Version, value: &Value) -> Read<Self> {
        let fields = Fields::of(value)?;
        if version == Version::V0_3
            && let Some(part) = older::part(&fields)?
        {
            return Ok(part);
        }
        let told: Vec<(&str, &Value)> = ["text", "raw", "url"]
            .into_iter()
            .filter_map(|name| Some((name, fields.get(name)?)))
            // JSON may be `null`.
            .chain(fields.told("data").map(|it| ("data", it)))
            .collect();
        let [(name, value)] = told.as_slice() else {
            let why = "it must have exactly one of: text, raw, url, data";
            return Err(Wrong::new(why));
        };
        let text = || {
            let text = value.as_str().map(str::to_owned);
            text.ok_or_else(|| Wrong::new("it must be a text").within(name))
        };
        let content = match *name {
            "text" => Content::Text(text()?),
            "raw" => Content::Raw(raw(&text()?).map_err(|wrong| wrong.within(name))?),
            "url" => Content::Url(text()?),
            _ => Content::Data((*value).clone()),
        };
        Ok(Self {
            content,
            filename: fields.text("filename")?,
            media_type: fields.text("mediaType")?,
            metadata: fields.object("metadata")?,
        })
    }
}

/// Bytes in base 64 of either alphabet, in the standard one.
pub(super) fn raw(text: &str) -> Read<String> {
    let text = match text.contains(['-', '_']) {
        true => text.replace('-', "+").replace('_', "/"),
        false => text.to_owned(),
    };
    match BASE64.decode(&text) {
        Ok(_) if text.len().is_multiple_of(4) => Ok(text),
        Ok(bytes) => Ok(BASE64.encode(bytes)),
        Err(_) => Err(Wrong::new("it must be bytes in base 64")),
    }
}

/// A message (section 4.1.4).
#[derive(Debug, Clone, PartialEq)]
pub struct Message {
    /// Which it is; who made it says.
    pub id: String,
    /// The conversation.
    pub context_id: Option<String>,
    /// The task.
    pub task_id: Option<String>,
    /// Who it is from.
    pub role: Role,
    /// What it says; at least one part.
    pub parts: Vec<Part>,
    /// What else there is to say of it.
    pub metadata: Option<Object>,
    /// Extensions that it makes use of.
    pub extensions: Vec<String>,
    /// Other tasks that it is about.
    pub reference_task_ids: Vec<String>,
}

impl Message {
    /// A message with nothing but what it says.
    #[must_use]
    pub fn new(id: impl Into<String>, role: Role, parts: Vec<Part>) -> Self {
        Self {
            id: id.into(),
            context_id: None,
            task_id: None,
            role,
            parts,
            metadata: None,
            extensions: Vec::new(),
            reference_task_ids: Vec::new(),
        }
    }

    /// Its texts.
    #[must_use]
    pub fn text(&self) -> String {
        let texts: Vec<&str> = self.parts.iter().filter_map(Part::as_text).collect();
        texts.join("\n")
    }

    pub(in crate::a2a) fn read(version: Version, value: &Value) -> Read<Self> {
        let fields = Fields::of(value)?;
        let role = fields.needs_text("role")?;
        let role = match (role.as_str(), version) {
            ("ROLE_USER", _) | ("user", Version::V0_3) => Role::User,
            ("ROLE_AGENT", _) | ("agent", Version::V0_3) => Role::Agent,
            _ => {
                let why = match version {
                    Version::V1_0 => "it must be one of: ROLE_USER, ROLE_AGENT",
                    Version::V0_3 => "it must be one of: user, agent",
                };
                return Err(Wrong::new(why).within("role"));
            }
        };
        // So it was called over HTTP in 0.3.
        let is_older = version == Version::V0_3 && fields.get("parts").is_none();
        let name = match is_older && fields.get("content").is_some() {
            true => "content",
            false => "parts",
        };
        let parts = fields.list(name, |it| Part::read(version, it))?;
        if parts.is_empty() {
            return Err(Wrong::new("at least one part is needed").within(name));
        }
        Ok(Self {
            id: fields.needs_id("messageId")?,
            context_id: fields.id("contextId")?,
            task_id: fields.id("taskId")?,
            role,
            parts,
            metadata: fields.object("metadata")?,
            extensions: fields.texts("extensions")?,
            reference_task_ids: fields.texts("referenceTaskIds")?,
        })
    }
}

/// How a task stands, since when, and what there is to say of it (section 4.1.2).
#[derive(Debug, Clone, PartialEq)]
pub struct TaskStatus {
    /// How it stands.
    pub state: TaskState,
    /// What there is to say.
    pub message: Option<Message>,
    /// Since when.
    pub timestamp: Option<Micros>,
}

/// Something that a task has brought forth (section 4.1.7).
#[derive(Debug, Clone, PartialEq)]
pub struct Artifact {
    /// Which it is, in its task.
    pub id: String,
    /// Its name.
    pub name: Option<String>,
    /// What it is, for people.
    pub description: Option<String>,
    /// What it holds; at least one part.
    pub parts: Vec<Part>,
    /// What else there is to say of it.
    pub metadata: Option<Object>,
    /// Extensions that it makes use of.
    pub extensions: Vec<String>,
}

impl Artifact {
    /// An artifact with nothing but what it holds.
    #[must_use]
    pub fn new(id: impl Into<String>, parts: Vec<Part>) -> Self {
        Self {
            id: id.into(),
            name: None,
            description: None,
            parts,
            metadata: None,
            extensions: Vec::new(),
        }
    }
}

/// A task (section 4.1.1).
#[derive(Debug, Clone, PartialEq)]
pub struct Task {
    /// Which it is; the server says.
    pub id: String,
    /// The conversation that it belongs to.
    pub context_id: String,
    /// How it stands.
    pub status: TaskStatus,
    /// What it has brought forth.
    pub artifacts: Vec<Artifact>,
    /// What was said, the oldest first.
    pub history: Vec<Message>,
    /// What else there is to say of it.
    pub metadata: Option<Object>,
}

impl Task {
    /// A task that a message has just begun.
    #[must_use]
    pub fn submitted(
        id: impl Into<String>,
        context_id: impl Into<String>,
        asked: Message,
        at: Micros,
    ) -> Self {
        let mut task = Self {
            id: id.into(),
            context_id: context_id.into(),
            status: TaskStatus {
                state: TaskState::Submitted,
                message: None,
                timestamp: None,
            },
            artifacts: Vec::new(),
            history: Vec::new(),
            metadata: None,
        };
        task.goes_on(asked, at);
        task
    }

    /// Another message goes to a task that waited for one: what it waited for is history.
    pub fn goes_on(&mut self, mut asked: Message, at: Micros) {
        asked.task_id = Some(self.id.clone());
        asked.context_id = Some(self.context_id.clone());
        self.history.extend(self.status.message.take());
        self.history.push(asked);
        self.status.state = TaskState::Submitted;
        self.status.timestamp = Some(at);
    }

    /// The same with so much of its history (section 3.2.4), and with or without artifacts (section 3.1.4).
    #[must_use]
    pub fn shown(mut self, history_length: Option<u32>, artifacts: bool) -> Self {
        if let Some(most) = history_length.and_then(|it| usize::try_from(it).ok()) {
            let over = self.history.len().saturating_sub(most);
            self.history.drain(..over);
        }
        if !artifacts {
            self.artifacts.clear();
        }
        self
    }
}

/// A task stands otherwise (section 4.2.1).
#[derive(Debug, Clone, PartialEq)]
pub struct StatusUpdate {
    /// Which.
    pub task_id: String,
    /// Its conversation.
    pub context_id: String,
    /// How.
    pub status: TaskStatus,
    /// What else there is to say of it.
    pub metadata: Option<Object>,
}

/// Something of a task's artifact (section 4.2.2).
#[derive(Debug, Clone, PartialEq)]
pub struct ArtifactUpdate {
    /// Of which task.
    pub task_id: String,
    /// Its conversation.
    pub context_id: String,
    /// What there is of it.
    pub artifact: Artifact,
    /// Whether it comes behind what there was, and does not take its place.
    pub append: bool,
    /// Whether nothing more of it comes.
    pub last_chunk: bool,
    /// What else there is to say of it.
    pub metadata: Option<Object>,
}

/// What a stream tells, what is pushed, and what a message is answered by (section 3.2.3).
#[derive(Debug, Clone, PartialEq)]
#[expect(missing_docs, reason = "the protocol's own names, which it documents")]
pub enum StreamResponse {
    Task(Task),
    Message(Message),
    StatusUpdate(StatusUpdate),
    ArtifactUpdate(ArtifactUpdate),
}

impl StreamResponse {
    /// How the task stands, when that is told.
    #[must_use]
    pub fn state(&self) -> Option<TaskState> {
        match self {
            Self::Task(it) => Some(it.status.state),
            Self::StatusUpdate(it) => Some(it.status.state),
            Self::Message(_) | Self::ArtifactUpdate(_) => None,
        }
    }

    /// Whether a stream ends with it.
    #[must_use]
    pub fn is_last(&self) -> bool {
        let ends = |it: TaskState| it.is_terminal() || it.is_interrupted();
        matches!(self, Self::Message(_)) || self.state().is_some_and(ends)
    }
}
