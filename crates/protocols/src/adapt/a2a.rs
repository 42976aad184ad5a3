//! Agents that speak A2A: a message to one, and its answer, as a stream or whole, in the words of 1.0 or of 0.3.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use super::voice::Voice;
use super::{FAILED, MOST_BODY};
use crate::a2a::{Content, FILE, Message, Method, Part, REJECTED, Role, TaskState, Version};
use crate::agui::{Body, Interrupt, Outcome, ResumeStatus, RunAgentInput, Said};

/// Under which name a message keeps what the agent calls the conversation.
const MARK: &str = "a2a";
const CONTEXT: &str = "contextId";
/// Characters of the name of a step.
const MOST_STEP: usize = 200;
/// Artifacts that are told apart.
const MOST_ARTIFACTS: usize = 4096;

/// What an agent is asked: what was said since it spoke last, or the answers that it waits for. It is told the name that it gave
/// the conversation itself; the task that waits is the name of the interrupt.
pub(super) fn ask(input: &RunAgentInput) -> Map<String, Value> {
    let mut parts = Vec::new();
    for entry in &input.resume {
        parts.push(match (&entry.status, &entry.payload) {
            (ResumeStatus::Cancelled, _) => Part::data(json!({ "status": "cancelled" })),
            (ResumeStatus::Resolved, Some(Value::String(text))) => Part::text(text),
            (ResumeStatus::Resolved, Some(data)) => Part::data(data.clone()),
            (ResumeStatus::Resolved, None) => Part::text(""),
        });
    }
    let is_agent = |said: &Said| matches!(said, Said::Assistant { .. });
    let spoke = input.messages.iter().rposition(|it| is_agent(&it.said));
    let since = spoke.map_or(0, |at| at + 1);
    let since = input.messages.get(since..).unwrap_or_default();
    parts.extend(since.iter().filter_map(Message::of).flat_map(|it| it.parts));
    if parts.is_empty() {
        parts.push(Part::text(""));
    }
    let mut message = Message::new(&input.run_id, Role::User, parts);
    message.task_id = input.resume.first().map(|it| it.interrupt_id.clone());
    let mut marks = input.messages.iter().rev().filter_map(|it| {
        let mark = it.metadata.as_ref()?.get(MARK)?.get(CONTEXT)?;
        mark.as_str().map(str::to_owned)
    });
    message.context_id = marks.next();
    let mut params = json!({ "message": message.wire(Version::V1_0) });
    let props = input.forwarded_props.as_ref();
    let asked = props.and_then(|it| it.get(MARK));
    if let Some(modes) = asked.and_then(|it| it.get("acceptedOutputModes")) {
        params["configuration"] = json!({ "acceptedOutputModes": modes });
    }
    let metadata = match asked {
        Some(asked) => asked.get("metadata"),
        None => props,
    };
    if let Some(metadata) = metadata.filter(|it| it.is_object()) {
        params["metadata"] = metadata.clone();
    }
    let method = Method::SendStreamingMessage.name(Version::V1_0);
    super::ask::object(json!({
        "jsonrpc": "2.0", "id": input.run_id, "method": method, "params": params,
    }))
}

/// How an answer ends: as it did, with what came of it; or by an error, with a word for programs and one for people.
pub(super) type Ended = Result<(Option<Value>, Option<Outcome>), (&'static str, String)>;

/// Reads an answer.
#[derive(Debug, Default)]
pub(super) struct Reader {
    context: Option<String>,
    task: Option<String>,
    /// What was told of each artifact.
    told: BTreeMap<String, String>,
    /// Bytes of it.
    kept: usize,
    /// The artifact of which the text is that is being said.
    saying: Option<String>,
    /// What came as data, by artifact.
    data: BTreeMap<String, Vec<Value>>,
    /// What the agent is at.
    step: Option<String>,
}

fn text<'a>(value: &'a Value, name: &str) -> &'a str {
    value.get(name).and_then(Value::as_str).unwrap_or_default()
}

fn list<'a>(value: &'a Value, name: &str) -> impl Iterator<Item = &'a Value> {
    let list = value.get(name).and_then(Value::as_array);
    list.into_iter().flatten()
}

fn parts(value: &Value) -> Vec<Part> {
    list(value, "parts").filter_map(Part::lenient).collect()
}

fn texts(parts: &[Part]) -> String {
    parts.iter().filter_map(Part::as_text).collect()
}

impl Reader {
    /// Reads what came, in an envelope or without one.
    pub(super) fn read(&mut self, value: &Value, voice: &mut Voice) -> Option<Ended> {
        if let Some(error) = value.get("error").filter(|it| it.is_object()) {
            let message = match text(error, "message") {
                "" => "the agent answered with an error",
                message => message,
            };
            return Some(Err((FAILED, message.to_owned())));
        }
        let told = value.get("result").unwrap_or(value);
        let kind = text(told, "kind");
        let of = |name: &str, older: &str| match told.get(name) {
            Some(inner) if inner.is_object() => Some(inner),
            _ => Some(told).filter(|_| kind == older),
        };
        if let Some(update) = of("artifactUpdate", "artifact-update") {
            self.place(update, "taskId", voice);
            let is = |name: &str| update.get(name) == Some(&Value::Bool(true));
            if let Some(artifact) = update.get("artifact") {
                self.artifact(artifact, is("append"), voice);
            }
            if is("lastChunk") {
                self.pause(voice);
            }
            return None;
        }
        if let Some(update) = of("statusUpdate", "status-update") {
            self.place(update, "taskId", voice);
            return self.status(update.get("status")?, voice);
        }
        // Not every agent says that it is a task.
        let bare = Some(told).filter(|it| it.get("status").is_some_and(Value::is_object));
        if let Some(task) = of("task", "task").or(bare) {
            self.place(task, "id", voice);
            for artifact in list(task, "artifacts") {
                self.artifact(artifact, false, voice);
            }
            return self.status(task.get("status")?, voice);
        }
        let bare = Some(told).filter(|it| it.get("parts").is_some());
        let Some(message) = of("message", "message").or(bare) else {
            let why = "the agent should answer with a task or a message of A2A";
            return Some(Err((crate::agui::MALFORMED, why.to_owned())));
        };
        self.place(message, "taskId", voice);
        self.say("", parts(message), false, voice);
        Some(self.done(None))
    }

    /// What the agent calls the conversation, and the task.
    fn place(&mut self, of: &Value, task: &str, voice: &mut Voice) {
        let context = text(of, CONTEXT);
        if !context.is_empty() && self.context.as_deref() != Some(context) {
            self.context = Some(context.to_owned());
            voice.mark(super::ask::object(json!({ MARK: { CONTEXT: context } })));
        }
        let task = text(of, task);
        if !task.is_empty() {
            self.task = Some(task.to_owned());
        }
    }

    fn pause(&mut self, voice: &mut Voice) {
        voice.pause();
        self.saying = None;
    }

    fn artifact(&mut self, artifact: &Value, append: bool, voice: &mut Voice) {
        if self.told.len() < MOST_ARTIFACTS {
            let parts = parts(artifact);
            self.say(text(artifact, "artifactId"), parts, append, voice);
        }
    }

    /// Tells what has not been told of an artifact.
    fn say(&mut self, id: &str, parts: Vec<Part>, append: bool, voice: &mut Voice) {
        let before = self.told.get(id);
        let is_new = before.is_none() || append;
        let whole = texts(&parts);
        let (is_other, new) = match before {
            Some(_) if append => (false, whole.as_str()),
            // What takes the place of something is told from where it is otherwise, or anew.
            Some(before) => match whole.strip_prefix(before.as_str()) {
                Some(rest) => (false, rest),
                None => (true, whole.as_str()),
            },
            None => (false, whole.as_str()),
        };
        if (is_other || self.saying.as_deref() != Some(id)) && !new.is_empty() {
            voice.pause();
        }
        voice.text(new);
        if !new.is_empty() {
            self.saying = Some(id.to_owned());
        }
        self.kept += new.len();
        let has_room = self.kept <= MOST_BODY;
        let new = new.to_owned();
        let told = self.told.entry(id.to_owned()).or_default();
        if is_other {
            told.clear();
        }
        if has_room {
            told.push_str(&new);
        }
        let data = self.data.entry(id.to_owned()).or_default();
        if !append {
            data.clear();
        }
        for part in parts {
            match part.content {
                Content::Data(value) => data.push(value),
                Content::Raw(_) | Content::Url(_) if is_new => voice.event(
                    Body::Custom {
                        name: FILE.to_owned(),
                        value: part.wire(Version::V1_0),
                    }
                    .into(),
                ),
                _ => {}
            }
        }
    }

    fn status(&mut self, status: &Value, voice: &mut Voice) -> Option<Ended> {
        let state = TaskState::of(Version::V0_3, text(status, "state"))?;
        let message = status.get("message").filter(|it| it.is_object());
        let parts = message.map(parts).unwrap_or_default();
        let text = texts(&parts);
        let or = |otherwise: &str| match text.is_empty() {
            true => otherwise.to_owned(),
            false => text.clone(),
        };
        match state {
            TaskState::Submitted | TaskState::Working => {
                self.step(&text, voice);
                None
            }
            TaskState::Completed => {
                // Some answer here, and with no artifact.
                if self.told.values().all(|it| *it != text) {
                    self.say("", parts, false, voice);
                }
                Some(self.done(None))
            }
            TaskState::Canceled => Some(self.done(Some(Outcome::Cancelled))),
            TaskState::Failed => Some(Err((FAILED, or("the agent's task failed")))),
            TaskState::Rejected => Some(Err((REJECTED, or("the agent rejected the task")))),
            TaskState::InputRequired | TaskState::AuthRequired => {
                let reason = match state {
                    TaskState::AuthRequired => "auth_required",
                    _ => "input_required",
                };
                let interrupt = self.interrupt(reason, &parts);
                let interrupts = vec![interrupt];
                Some(self.done(Some(Outcome::Interrupt { interrupts })))
            }
        }
    }

    fn interrupt(&self, reason: &str, parts: &[Part]) -> Interrupt {
        let text = texts(parts);
        let data: Vec<&Value> = parts
            .iter()
            .filter_map(|part| match &part.content {
                Content::Data(data) => Some(data),
                _ => None,
            })
            .collect();
        let mut schemas = data.iter().filter_map(|it| it.get("responseSchema"));
        let schema = schemas.next().and_then(Value::as_object).cloned();
        let metadata = json!({ MARK: { CONTEXT: self.context, "data": data } });
        Interrupt {
            id: self.task.clone().unwrap_or_else(|| reason.to_owned()),
            reason: reason.to_owned(),
            message: Some(text).filter(|it| !it.is_empty()),
            tool_call_id: None,
            response_schema: schema,
            expires_at: None,
            subagent_run_id: None,
            metadata: Some(super::ask::object(metadata)),
        }
    }

    /// The agent says what it is at.
    fn step(&mut self, text: &str, voice: &mut Voice) {
        let name: String = text.trim().chars().take(MOST_STEP).collect();
        if name.is_empty() || self.step.as_ref() == Some(&name) {
            return;
        }
        self.pause(voice);
        if let Some(step_name) = self.step.replace(name.clone()) {
            voice.event(Body::StepFinished { step_name }.into());
        }
        voice.event(Body::StepStarted { step_name: name }.into());
    }

    /// It is over, with what came as data.
    fn done(&mut self, outcome: Option<Outcome>) -> Ended {
        let mut data: Vec<Value> = std::mem::take(&mut self.data)
            .into_values()
            .flatten()
            .collect();
        let result = match data.len() {
            0 | 1 => data.pop(),
            _ => Some(data.into()),
        };
        Ok((result, outcome))
    }
}
