//! How things are written, in the words of each version. What is absent or empty is left out.
//!
//! Of 0.3 there are two: over HTTP its clients, and official SDKs with them, write and read what its buffers said, and not what its
//! text says.

use serde_json::{Map, Value, json};

use super::method::Version;
use super::model::{
    Artifact, ArtifactUpdate, Content, Message, Micros, Part, Role, StatusUpdate, StreamResponse,
    Task, TaskState, TaskStatus,
};
use super::request::{Authentication, PushConfig};
use crate::agui::Object;

/// In which words something is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Form {
    /// Those of 1.0.
    V1_0,
    /// Those of 0.3.
    V0_3,
    /// Those of 0.3 over HTTP+JSON.
    V0_3Http,
}

impl Form {
    /// What is said over HTTP+JSON to a client of this version.
    #[must_use]
    pub const fn http(version: Version) -> Self {
        match version {
            Version::V1_0 => Self::V1_0,
            Version::V0_3 => Self::V0_3Http,
        }
    }
}

/// What is said over JSON-RPC, and pushed.
impl From<Version> for Form {
    fn from(version: Version) -> Self {
        match version {
            Version::V1_0 => Self::V1_0,
            Version::V0_3 => Self::V0_3,
        }
    }
}

/// What is answered.
#[derive(Debug, Clone, PartialEq)]
pub enum Answer {
    /// To a message: the task; or what a stream tells.
    Event(StreamResponse),
    /// To asking for a task, or for its end.
    Task(Task),
    /// To asking for tasks.
    Tasks {
        /// Those of this page.
        tasks: Vec<Task>,
        /// With which to ask for the next one; empty: there is none.
        next_page_token: String,
        /// So many were asked for.
        page_size: u32,
        /// So many there are.
        total_size: u64,
        /// Whether artifacts were asked for.
        artifacts: bool,
    },
    /// To making or asking for a configuration for pushing.
    Push(PushConfig),
    /// To asking for all of a task.
    Pushes {
        /// The configurations.
        configs: Vec<PushConfig>,
        /// With which to ask for the next page; empty: there is none.
        next_page_token: String,
    },
    /// To deleting one.
    Deleted,
    /// The agent's card, as [`card`](super::card) makes it.
    Card(Value),
}

impl Answer {
    /// How it is written in a version.
    #[must_use]
    pub fn wire(&self, form: impl Into<Form>) -> Value {
        let form = form.into();
        match self {
            Self::Event(event) => event.wire(form),
            Self::Task(task) => task.wire(form),
            Self::Tasks {
                tasks,
                next_page_token,
                page_size,
                total_size,
                artifacts,
            } => {
                let one = |task: &Task| {
                    let mut one = task.wire(form);
                    if *artifacts && task.artifacts.is_empty() {
                        one["artifacts"] = json!([]);
                    }
                    one
                };
                json!({
                    "tasks": tasks.iter().map(one).collect::<Vec<_>>(),
                    "nextPageToken": next_page_token,
                    "pageSize": page_size,
                    "totalSize": total_size,
                })
            }
            Self::Push(config) => config.wire(form),
            Self::Pushes {
                configs,
                next_page_token,
            } => {
                let configs: Vec<Value> = configs.iter().map(|it| it.wire(form)).collect();
                match form {
                    Form::V0_3 => configs.into(),
                    Form::V1_0 | Form::V0_3Http => {
                        json!({ "configs": configs, "nextPageToken": next_page_token })
                    }
                }
            }
            Self::Deleted => match form {
                Form::V0_3 => Value::Null,
                Form::V1_0 | Form::V0_3Http => json!({}),
            },
            Self::Card(card) => card.clone(),
        }
    }
}

/// Puts into an object what is there.
struct Out(Map<String, Value>);

impl Out {
    fn new(form: Form, kind: &str) -> Self {
        let mut out = Self(Map::new());
        if form == Form::V0_3 && !kind.is_empty() {
            out.put("kind", kind);
        }
        out
    }

    fn put(&mut self, name: &str, value: impl Into<Value>) {
        self.0.insert(name.to_owned(), value.into());
    }

    fn maybe(&mut self, name: &str, value: Option<&String>) {
        if let Some(value) = value {
            self.put(name, value.as_str());
        }
    }

    fn list(&mut self, name: &str, list: Vec<Value>) {
        if !list.is_empty() {
            self.put(name, list);
        }
    }

    fn texts(&mut self, name: &str, list: &[String]) {
        self.list(name, list.iter().map(|it| it.as_str().into()).collect());
    }

    fn metadata(&mut self, metadata: Option<&Object>) {
        if let Some(metadata) = metadata {
            self.put("metadata", metadata.clone());
        }
    }

    fn done(self) -> Value {
        Value::Object(self.0)
    }
}

/// A time as section 5.6.1 has it: with milliseconds, in UTC.
pub(super) fn time(at: Micros) -> Option<String> {
    let time = jiff::Timestamp::from_microsecond(at).ok()?;
    Some(format!("{time:.3}"))
}

impl Part {
    /// How it is written in a version.
    #[must_use]
    pub fn wire(&self, form: impl Into<Form>) -> Value {
        let form = form.into();
        let mut out = Out(Map::new());
        match (&self.content, form) {
            (Content::Text(text), _) => out.put("text", text.as_str()),
            (Content::Data(data), Form::V1_0) => out.put("data", data.clone()),
            (Content::Data(data), _) => {
                // There it is an object.
                let data = match data {
                    Value::Object(data) => Value::Object(data.clone()),
                    data => json!({ "value": data }),
                };
                match form {
                    Form::V0_3Http => out.put("data", json!({ "data": data })),
                    _ => out.put("data", data),
                }
            }
            (Content::Raw(raw), Form::V1_0) => out.put("raw", raw.as_str()),
            (Content::Url(url), Form::V1_0) => out.put("url", url.as_str()),
            (Content::Raw(it) | Content::Url(it), _) => {
                let mut file = Out(Map::new());
                let is_raw = matches!(self.content, Content::Raw(_));
                let name = match (is_raw, form) {
                    (true, Form::V0_3Http) => "fileWithBytes",
                    (false, Form::V0_3Http) => "fileWithUri",
                    (true, _) => "bytes",
                    (false, _) => "uri",
                };
                file.put(name, it.as_str());
                file.maybe("name", self.filename.as_ref());
                file.maybe("mimeType", self.media_type.as_ref());
                out.put("file", file.done());
            }
        }
        if form == Form::V1_0 {
            out.maybe("filename", self.filename.as_ref());
            out.maybe("mediaType", self.media_type.as_ref());
        }
        if form == Form::V0_3 {
            out.put(
                "kind",
                match &self.content {
                    Content::Text(_) => "text",
                    Content::Data(_) => "data",
                    Content::Raw(_) | Content::Url(_) => "file",
                },
            );
        }
        out.metadata(self.metadata.as_ref());
        out.done()
    }
}

fn parts(form: Form, parts: &[Part]) -> Vec<Value> {
    parts.iter().map(|it| it.wire(form)).collect()
}

impl Message {
    /// How it is written in a version.
    #[must_use]
    pub fn wire(&self, form: impl Into<Form>) -> Value {
        let form = form.into();
        let mut out = Out::new(form, "message");
        out.put("messageId", self.id.as_str());
        out.maybe("contextId", self.context_id.as_ref());
        out.maybe("taskId", self.task_id.as_ref());
        out.put(
            "role",
            match (self.role, form) {
                (Role::User, Form::V0_3) => "user",
                (Role::Agent, Form::V0_3) => "agent",
                (Role::User, _) => "ROLE_USER",
                (Role::Agent, _) => "ROLE_AGENT",
            },
        );
        let name = match form {
            Form::V0_3Http => "content",
            _ => "parts",
        };
        out.put(name, parts(form, &self.parts));
        out.metadata(self.metadata.as_ref());
        out.texts("extensions", &self.extensions);
        out.texts("referenceTaskIds", &self.reference_task_ids);
        out.done()
    }
}

impl TaskStatus {
    fn wire(&self, form: Form) -> Value {
        let mut out = Out(Map::new());
        out.put("state", state(self.state, form));
        if let Some(message) = &self.message {
            out.put("message", message.wire(form));
        }
        out.maybe("timestamp", self.timestamp.and_then(time).as_ref());
        out.done()
    }
}

impl Artifact {
    /// How it is written in a version.
    #[must_use]
    pub fn wire(&self, form: impl Into<Form>) -> Value {
        let form = form.into();
        let mut out = Out(Map::new());
        out.put("artifactId", self.id.as_str());
        out.maybe("name", self.name.as_ref());
        out.maybe("description", self.description.as_ref());
        out.put("parts", parts(form, &self.parts));
        out.metadata(self.metadata.as_ref());
        out.texts("extensions", &self.extensions);
        out.done()
    }
}

impl Task {
    /// How it is written in a version.
    #[must_use]
    pub fn wire(&self, form: impl Into<Form>) -> Value {
        let form = form.into();
        let mut out = Out::new(form, "task");
        out.put("id", self.id.as_str());
        out.put("contextId", self.context_id.as_str());
        out.put("status", self.status.wire(form));
        let artifacts = self.artifacts.iter().map(|it| it.wire(form));
        out.list("artifacts", artifacts.collect());
        let history = self.history.iter().map(|it| it.wire(form));
        out.list("history", history.collect());
        out.metadata(self.metadata.as_ref());
        out.done()
    }
}

impl StatusUpdate {
    fn wire(&self, form: Form) -> Value {
        let mut out = Out::new(form, "status-update");
        out.put("taskId", self.task_id.as_str());
        out.put("contextId", self.context_id.as_str());
        out.put("status", self.status.wire(form));
        if form != Form::V1_0 {
            let state = self.status.state;
            out.put("final", state.is_terminal() || state.is_interrupted());
        }
        out.metadata(self.metadata.as_ref());
        out.done()
    }
}

impl ArtifactUpdate {
    fn wire(&self, form: Form) -> Value {
        let mut out = Out::new(form, "artifact-update");
        out.put("taskId", self.task_id.as_str());
        out.put("contextId", self.context_id.as_str());
        out.put("artifact", self.artifact.wire(form));
        out.put("append", self.append);
        out.put("lastChunk", self.last_chunk);
        out.metadata(self.metadata.as_ref());
        out.done()
    }
}

impl StreamResponse {
    /// How it is written in a version.
    #[must_use]
    pub fn wire(&self, form: impl Into<Form>) -> Value {
        let form = form.into();
        let (name, value) = match self {
            Self::Task(it) => ("task", it.wire(form)),
            Self::Message(it) => ("message", it.wire(form)),
            Self::StatusUpdate(it) => ("statusUpdate", it.wire(form)),
            Self::ArtifactUpdate(it) => ("artifactUpdate", it.wire(form)),
        };
        match form {
            Form::V0_3 => value,
            Form::V1_0 | Form::V0_3Http => json!({ name: value }),
        }
    }
}

impl PushConfig {
    /// How it is written in a version.
    #[must_use]
    pub fn wire(&self, form: impl Into<Form>) -> Value {
        let form = form.into();
        let mut out = Out(Map::new());
        out.maybe("id", self.id.as_ref());
        out.put("url", self.url.as_str());
        out.maybe("token", self.token.as_ref());
        if let Some(Authentication {
            scheme,
            credentials,
        }) = &self.authentication
        {
            let mut inner = Out(Map::new());
            match form {
                Form::V1_0 => inner.put("scheme", scheme.as_str()),
                _ => inner.put("schemes", vec![scheme.as_str()]),
            }
            inner.maybe("credentials", credentials.as_ref());
            out.put("authentication", inner.done());
        }
        let task = self.task_id.as_deref().unwrap_or_default();
        match form {
            Form::V1_0 => {
                out.maybe("taskId", self.task_id.as_ref());
                out.maybe("tenant", self.tenant.as_ref());
                out.done()
            }
            Form::V0_3 => json!({ "taskId": task, "pushNotificationConfig": out.done() }),
            Form::V0_3Http => {
                let id = self.id.as_deref().unwrap_or_default();
                let name = format!("tasks/{task}/pushNotificationConfigs/{id}");
                json!({ "name": name, "pushNotificationConfig": out.done() })
            }
        }
    }
}

/// How a task stands.
fn state(of: TaskState, form: Form) -> &'static str {
    match (of, form) {
        (TaskState::Canceled, Form::V0_3Http) => "TASK_STATE_CANCELLED",
        (of, Form::V0_3) => of.as_str(Version::V0_3),
        (of, _) => of.as_str(Version::V1_0),
    }
}
