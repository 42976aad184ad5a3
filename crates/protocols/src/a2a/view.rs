//! A run as a task: what follows it is shown, and what it has come to.

use std::collections::{HashMap, HashSet};

use serde_json::{Value, json};

use super::model::{
    Artifact, ArtifactUpdate, Content, Message, Micros, Part, Role, StatusUpdate, StreamResponse,
    Task, TaskState, TaskStatus,
};
use crate::agui::{self, Body, Event, Interrupt, MOST_KEPT, Outcome, RunAgentInput, Said};
use crate::record::EventId;
use crate::view::Shown;

/// What the message is called with which a task ends or waits, whoever tells it.
const END: &str = "end";

/// Code of an error: the agent will not do what it was asked.
pub const REJECTED: &str = "agent_rejected";
/// The name of a `CUSTOM` whose value is a file that the agent made: a part, as 1.0 writes it.
pub(crate) const FILE: &str = "a2a.file";
/// Says of an update that what there was of an artifact does not count, and nothing is in its place.
const RETRACTED: &str = "retracted";
/// Says of a task that its artifacts are not whole: there was no room.
const TRUNCATED: &str = "truncated";

/// A run as a task. It is fed with what [`View`](crate::View) shows of the run.
///
/// | of the run | of the task |
/// |---|---|
/// | it has begun, and its agent has said nothing | `SUBMITTED` |
/// | anything that its agent says | `WORKING` |
/// | a text of the agent, or of a subagent, whose id its metadata then say | an artifact under the id of the message; its chunks append |
/// | a snapshot of the conversation | artifacts that are other than they were, whole; one that is gone is told as an empty text, with `retracted` in the metadata of the update |
/// | a step, a tool call, a subagent begins | `WORKING`, with its name as a message |
/// | `CUSTOM` with the name `a2a.file` | an artifact of the part that is its value |
/// | any other `CUSTOM`, hints for what to show among them | `WORKING`, with a message of data: `name` and `value` |
/// | the result of the run | an artifact of data, `RUN-result` |
/// | its end | `COMPLETED`; `FAILED` or, with the code [`REJECTED`], `REJECTED`, with what went wrong; `CANCELED` |
/// | its end by interrupts | `INPUT_REQUIRED`, or `AUTH_REQUIRED` where all reasons say so, with a message: the texts, and each interrupt as data |
/// | thoughts, arguments and results of tools, state, activities | nothing: they are the agent's own affair |
///
/// Ids depend on nothing but what is recorded, so that all who follow a run are told the same in the same order. Messages of
/// `WORKING` are not kept: who comes later does not see them.
#[derive(Debug)]
pub struct TaskView {
    task: Task,
    run_id: String,
    /// Messages of the conversation that are none of this run.
    before: HashSet<String>,
    /// Texts of this run, by the message that each is of.
    mine: HashMap<String, usize>,
    /// Texts that have begun and not ended.
    open: HashSet<String>,
    /// The run has just begun: a snapshot has texts that go on.
    fresh: bool,
    /// Bytes of texts that are kept.
    kept: usize,
    /// The event of which a message told last.
    noted: Option<EventId>,
    /// The task was told.
    begun: bool,
    out: Vec<StreamResponse>,
}

impl TaskView {
    /// A view of a run of a task: of the task as it was when the run began, with the message that asked for it
    /// ([`Task::submitted`], or [`Task::goes_on`] with what runs before brought forth), and of what the run was asked.
    #[must_use]
    pub fn new(task: Task, input: &RunAgentInput) -> Self {
        Self {
            task,
            run_id: input.run_id.clone(),
            before: input.messages.iter().map(|it| it.id.clone()).collect(),
            mine: HashMap::new(),
            open: HashSet::new(),
            fresh: true,
            kept: 0,
            noted: None,
            begun: false,
            out: Vec::new(),
        }
    }

    /// Tells the task as it is now. Only what comes after it is told by [`push`](Self::push).
    pub fn begin(&mut self) -> StreamResponse {
        self.begun = true;
        StreamResponse::Task(self.task.clone())
    }

    /// Takes over what is shown of the run, and gives what is told of the task.
    pub fn push(&mut self, shown: &Shown, now: Micros) -> Vec<StreamResponse> {
        if !self.is_over() {
            self.take(shown, now);
        }
        let out = std::mem::take(&mut self.out);
        if self.begun { out } else { Vec::new() }
    }

    /// Takes over what is kept of a run that has ended: its conversation, and the event with which it ended.
    pub fn settle(
        &mut self,
        messages: Vec<agui::Message>,
        end: Body,
        now: Micros,
    ) -> Vec<StreamResponse> {
        let mut out = Vec::new();
        for body in [Body::MessagesSnapshot { messages }, end] {
            let event = Event::from(body);
            out.extend(self.push(&Shown { id: None, event }, now));
        }
        out
    }

    /// The task as it is now.
    #[must_use]
    pub fn task(&self) -> &Task {
        &self.task
    }

    /// Whether nothing more is told: the task has ended, or waits.
    #[must_use]
    pub fn is_over(&self) -> bool {
        let state = self.task.status.state;
        state.is_terminal() || state.is_interrupted()
    }
}

impl TaskView {
    fn take(&mut self, Shown { id, event }: &Shown, now: Micros) {
        match &event.body {
            Body::RunStarted { .. } => self.fresh = true,
            Body::RunFinished {
                result, outcome, ..
            } => self.finish(result.as_ref(), outcome.as_ref(), now),
            Body::RunError { message, code, .. } => {
                let state = match code.as_deref() {
                    Some(REJECTED) => TaskState::Rejected,
                    _ => TaskState::Failed,
                };
                let message = self.message(END, vec![Part::text(message)]);
                self.stand(state, Some(message), now);
            }
            Body::StepStarted { step_name: name }
            | Body::ToolCallStart {
                tool_call_name: name,
                ..
            }
            | Body::SubagentStarted { name, .. } => self.note(*id, Part::text(name), now),
            Body::Custom { name, value } => {
                let part = Some(value).filter(|_| name == FILE);
                if let (Some(id), Some(part)) = (id, part.and_then(Part::lenient)) {
                    self.work(now);
                    return self.file(*id, part);
                }
                let data = json!({ "name": name, "value": value });
                self.note(*id, data_part(data), now);
            }
            _ => {
                self.work(now);
                self.take_text(event);
            }
        }
    }

    fn take_text(&mut self, event: &Event) {
        match &event.body {
            Body::TextMessageStart {
                message_id, role, ..
            } => {
                let is_agent = matches!(role, None | Some(agui::Role::Assistant));
                if is_agent && !self.before.contains(message_id) {
                    self.open.insert(message_id.clone());
                }
            }
            Body::TextMessageContent { message_id, delta } => {
                if self.open.contains(message_id) && !delta.is_empty() {
                    self.append(message_id, delta, event.subagent_run_id.as_ref());
                }
            }
            Body::TextMessageEnd { message_id } => {
                let is_open = self.open.remove(message_id);
                if is_open && self.mine.contains_key(message_id) {
                    let nothing = Artifact::new(message_id, vec![Part::text("")]);
                    self.tell(nothing, (true, true));
                }
            }
            Body::MessagesSnapshot { messages } => self.restate(messages),
            _ => return,
        }
        self.fresh = false;
    }

    /// A task that was waiting for its agent is at work.
    fn work(&mut self, now: Micros) {
        if self.task.status.state == TaskState::Submitted {
            self.stand(TaskState::Working, None, now);
        }
    }

    /// It is at work, and at what.
    fn note(&mut self, id: Option<EventId>, part: Part, now: Micros) {
        // A snapshot has many of the same id, which are not new.
        let Some(new) = id.filter(|_| self.noted != id) else {
            return self.work(now);
        };
        self.noted = id;
        let message = self.message(&new.to_string(), vec![part]);
        self.stand(TaskState::Working, Some(message), now);
    }

    /// A file that the agent made.
    fn file(&mut self, id: EventId, part: Part) {
        let bytes = match &part.content {
            Content::Text(it) | Content::Raw(it) | Content::Url(it) => it.len(),
            Content::Data(data) => data.to_string().len(),
        };
        let mut artifact = Artifact::new(format!("{}.{id}", self.run_id), Vec::new());
        artifact.name.clone_from(&part.filename);
        artifact.parts.push(part);
        if self.has_room(bytes) {
            self.put(artifact.clone());
        }
        self.tell(artifact, (false, true));
    }

    fn message(&self, of: &str, parts: Vec<Part>) -> Message {
        let id = format!("{}.{of}", self.run_id);
        let mut message = Message::new(id, Role::Agent, parts);
        message.context_id = Some(self.task.context_id.clone());
        message.task_id = Some(self.task.id.clone());
        message
    }

    fn stand(&mut self, state: TaskState, message: Option<Message>, now: Micros) {
        self.task.status = TaskStatus {
            state,
            message,
            timestamp: Some(now),
        };
        self.out.push(StreamResponse::StatusUpdate(StatusUpdate {
            task_id: self.task.id.clone(),
            context_id: self.task.context_id.clone(),
            status: self.task.status.clone(),
            metadata: None,
        }));
    }

    fn tell(&mut self, artifact: Artifact, (append, last_chunk): (bool, bool)) {
        self.out
            .push(StreamResponse::ArtifactUpdate(ArtifactUpdate {
                task_id: self.task.id.clone(),
                context_id: self.task.context_id.clone(),
                artifact,
                append,
                last_chunk,
                metadata: None,
            }));
    }

    /// Whether there is room for so many bytes more.
    fn has_room(&mut self, bytes: usize) -> bool {
        self.kept += bytes;
        let has_room = self.kept <= MOST_KEPT;
        if !has_room {
            let metadata = self.task.metadata.get_or_insert_default();
            metadata.insert(TRUNCATED.to_owned(), true.into());
        }
        has_room
    }

    fn append(&mut self, id: &str, delta: &str, owner: Option<&String>) {
        let mut chunk = text_artifact(id, delta, owner);
        let there = self.mine.get(id).copied();
        let kept = if self.has_room(delta.len()) {
            delta
        } else {
            ""
        };
        match there.and_then(|at| self.task.artifacts.get_mut(at)) {
            Some(there) => push_text(there, kept),
            None => self.put(text_artifact(id, kept, owner)),
        }
        if there.is_some() {
            chunk.metadata = None;
        }
        self.tell(chunk, (there.is_some(), false));
    }

    /// Takes up an artifact of this run; one of its id gives way.
    fn put(&mut self, artifact: Artifact) {
        let mut all = self.task.artifacts.iter();
        let there = all.position(|it| it.id == artifact.id);
        let at = there.unwrap_or(self.task.artifacts.len());
        self.mine.insert(artifact.id.clone(), at);
        match self.task.artifacts.get_mut(at) {
            Some(there) => *there = artifact,
            None => self.task.artifacts.push(artifact),
        }
    }

    /// The conversation is this: what is otherwise is told anew.
    fn restate(&mut self, messages: &[agui::Message]) {
        let is_mine = |it: &&agui::Message| !self.before.contains(&it.id);
        let told = messages.iter().filter(is_mine).filter_map(|it| {
            let Said::Assistant { content, .. } = &it.said else {
                return None;
            };
            let text = content.as_deref().filter(|it| !it.is_empty())?;
            Some(text_artifact(&it.id, text, it.subagent_run_id.as_ref()))
        });
        let told: Vec<Artifact> = told.collect();
        let ids: HashSet<&str> = told.iter().map(|it| it.id.as_str()).collect();
        let gone = self.mine.keys().filter(|it| !ids.contains(it.as_str()));
        let mut gone: Vec<String> = gone.cloned().collect();
        gone.sort_by_key(|it| self.mine.get(it).copied());
        for id in gone {
            self.retract(&id);
        }
        // It is no longer than an event may be: there is room.
        self.kept = 0;
        for artifact in told {
            self.kept += artifact
                .parts
                .iter()
                .filter_map(Part::as_text)
                .map(str::len)
                .sum::<usize>();
            let there = self.mine.get(&artifact.id);
            if there.and_then(|at| self.task.artifacts.get(*at)) != Some(&artifact) {
                let is_whole = !self.fresh && !self.open.contains(&artifact.id);
                self.put(artifact.clone());
                self.tell(artifact, (false, is_whole));
            }
        }
    }

    /// What an attempt said that was cut, or what its agent took back.
    fn retract(&mut self, id: &str) {
        let Some(at) = self.mine.remove(id) else {
            return;
        };
        self.task.artifacts.remove(at);
        for other in self.mine.values_mut().filter(|it| **it > at) {
            *other -= 1;
        }
        self.tell(Artifact::new(id, vec![Part::text("")]), (false, true));
        if let Some(StreamResponse::ArtifactUpdate(told)) = self.out.last_mut() {
            told.metadata = Some(agui::Object::from_iter([(
                RETRACTED.to_owned(),
                true.into(),
            )]));
        }
    }

    fn finish(&mut self, result: Option<&Value>, outcome: Option<&Outcome>, now: Micros) {
        if let Some(result) = result {
            self.work(now);
            let id = format!("{}-result", self.run_id);
            let mut artifact = Artifact::new(id, vec![data_part(result.clone())]);
            artifact.name = Some("result".to_owned());
            if self.has_room(result.to_string().len()) {
                self.put(artifact.clone());
            }
            self.tell(artifact, (false, true));
        }
        let (state, message) = match outcome {
            None | Some(Outcome::Success { .. }) => (TaskState::Completed, None),
            Some(Outcome::Cancelled) => (TaskState::Canceled, None),
            Some(Outcome::Interrupt { interrupts }) => {
                let is_auth = interrupts.iter().all(|it| asks_who(&it.reason));
                let (state, text) = match is_auth {
                    true => (TaskState::AuthRequired, "Authentication is required."),
                    false => (TaskState::InputRequired, "Input is required."),
                };
                (state, Some(self.message(END, asked(interrupts, text))))
            }
        };
        self.stand(state, message, now);
    }
}

/// A text of the agent.
fn text_artifact(id: &str, text: &str, owner: Option<&String>) -> Artifact {
    let mut artifact = Artifact::new(id, vec![Part::text(text)]);
    let owner = owner.map(|it| ("subagentRunId".to_owned(), it.as_str().into()));
    artifact.metadata = owner.map(|it| agui::Object::from_iter([it]));
    artifact
}

/// Puts a text behind the text of an artifact.
fn push_text(artifact: &mut Artifact, delta: &str) {
    match artifact.parts.last_mut().map(|it| &mut it.content) {
        Some(Content::Text(text)) => text.push_str(delta),
        _ => artifact.parts.push(Part::text(delta)),
    }
}

fn data_part(data: Value) -> Part {
    let mut part = Part::data(data);
    part.media_type = Some("application/json".to_owned());
    part
}

/// What a task waits for: in words, and as data that say under which id it is answered.
fn asked(interrupts: &[Interrupt], otherwise: &str) -> Vec<Part> {
    let texts = interrupts.iter().filter_map(|it| it.message.as_deref());
    let texts: Vec<&str> = texts.filter(|it| !it.is_empty()).collect();
    let text = match texts.is_empty() {
        true => otherwise.to_owned(),
        false => texts.join("\n"),
    };
    let mut parts = vec![Part::text(text)];
    for one in interrupts {
        let mut data = json!({ "interruptId": one.id, "reason": one.reason });
        for (name, value) in [
            ("message", one.message.as_ref().map(|it| it.as_str().into())),
            (
                "toolCallId",
                one.tool_call_id.as_ref().map(|it| it.as_str().into()),
            ),
            (
                "responseSchema",
                one.response_schema.clone().map(Value::Object),
            ),
            (
                "expiresAt",
                one.expires_at.as_ref().map(|it| it.as_str().into()),
            ),
            ("metadata", one.metadata.clone().map(Value::Object)),
        ] {
            if let Some(value) = value {
                data[name] = value;
            }
        }
        parts.push(data_part(data));
    }
    parts
}

/// Whether a reason says that who asks is to show who they are, or what they may.
fn asks_who(reason: &str) -> bool {
    let mut words = reason.split(|it: char| !it.is_ascii_alphanumeric());
    words.any(|word| {
        let word = word.to_ascii_lowercase();
        let known = ["login", "signin", "credential", "credentials", "oauth2"];
        let begins = [
            "oauth",
            "authenticat",
            "authoriz",
            "authoris",
            "authrequired",
        ];
        word == "auth"
            || known.contains(&word.as_str())
            || begins.iter().any(|it| word.starts_with(it))
    })
}
