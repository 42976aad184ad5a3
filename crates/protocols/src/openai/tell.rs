//! A run as it is told to who takes its agent for a model.

use serde_json::{Value, json};

use super::PREFIX;
use super::ask::PROPS;
use super::output::{Change, Changed, Item, Kind, Output};
use super::write::{self, Ended};
use crate::agui::{Body, Object, Outcome, RunAgentInput};
use crate::stream::data;
use crate::{EventId, Shown};

/// Code of an error: an attempt was cut, and the next one says something else than was told.
pub const CHANGED: &str = "answer_changed";
/// Why that is.
const CHANGED_WHY: &str = "an attempt of the agent was cut, and the next one says something else than was told. \
    The run goes on: ask for its response by its id";
/// How the number of an event begins that tells its attempt.
const ATTEMPT: u32 = 32;

/// As what a run is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// A chat completion.
    Chat {
        /// Whether a stream tells what was used.
        usage: bool,
    },
    /// A response.
    Response,
}

/// What an answer says of itself.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Head {
    /// The run's id.
    pub id: String,
    /// As the client names the agent.
    pub model: String,
    /// When it began, in seconds since 1970.
    pub created: i64,
    /// Whether the client comes back for it.
    pub background: bool,
    /// The response that it goes on with.
    pub previous: Option<String>,
    /// The conversation.
    pub conversation: Option<String>,
    /// What the client handed through.
    pub metadata: Option<Object>,
}

impl Head {
    /// Of a run of an agent, which began at this time, in seconds since 1970.
    #[must_use]
    pub fn of(id: String, agent: &str, created: i64, input: &RunAgentInput) -> Self {
        let asked = input.forwarded_props.as_ref().map(|it| &it[PROPS]);
        let field = |name: &str| asked.and_then(|it| it.get(name));
        Self {
            id,
            model: format!("{PREFIX}{agent}"),
            created,
            background: field("background").and_then(Value::as_bool) == Some(true),
            previous: field("previous_response_id")
                .and_then(Value::as_str)
                .map(str::to_owned),
            conversation: Some(input.thread_id.clone()),
            metadata: field("metadata").and_then(Value::as_object).cloned(),
        }
    }
}

/// Tells a run. The events of a response are numbered: by the attempt, in the upper bits, and their place in that; so is who comes
/// again told what follows, as long as the attempt is the same, and everything anew when it is another.
#[derive(Debug)]
pub struct Teller {
    form: Form,
    head: Head,
    output: Output,
    /// What was told of attempts that were cut.
    past: Vec<Item>,
    /// Of which attempt the events are, and how many it had.
    attempt: u32,
    count: u64,
    /// Behind which event it is told.
    behind: Option<u64>,
    /// Nobody hears it before it is whole: what was taken back was never said.
    is_silent: bool,
    begun: bool,
    end: Option<Ended>,
    is_over: bool,
}

impl Teller {
    /// Begins to tell a run; of a response perhaps what is behind one of its events.
    #[must_use]
    pub fn new(form: Form, head: Head, input: &RunAgentInput, behind: Option<u64>) -> Self {
        Self {
            form,
            head,
            output: Output::new(input),
            past: Vec::new(),
            attempt: 0,
            count: 0,
            behind,
            is_silent: false,
            begun: false,
            end: None,
            is_over: false,
        }
    }

    /// Begins to read a run that is told at once.
    #[must_use]
    pub fn silent(form: Form, head: Head, input: &RunAgentInput) -> Self {
        Self {
            is_silent: true,
            ..Self::new(form, head, input, None)
        }
    }

    /// Whether nothing more is told.
    #[must_use]
    pub const fn is_over(&self) -> bool {
        self.is_over
    }

    /// How the run has failed, when it has: a code and why.
    #[must_use]
    pub fn failure(&self) -> Option<(&str, &str)> {
        match &self.end {
            Some(Ended::Failed { code, message }) => Some((code, message)),
            Some(Ended::Cancelled) => Some(("cancelled", "the run was cancelled")),
            _ => None,
        }
    }

    /// The answer as far as it has come.
    #[must_use]
    pub fn whole(&self) -> Value {
        match self.form {
            Form::Chat { .. } => write::completion(&self.head, &self.output, self.end.as_ref()),
            Form::Response => {
                write::response(&self.head, (&self.output, &self.past), self.end.as_ref())
            }
        }
    }

    /// Takes what is shown next, and gives the frames of a stream.
    pub fn push(&mut self, shown: &Shown) -> Vec<u8> {
        let mut out = Vec::new();
        if self.is_over {
            return out;
        }
        if !std::mem::replace(&mut self.begun, true) {
            self.begin(&mut out);
        }
        let told = self.take(&mut out, shown);
        if told.is_err() {
            self.is_over = true;
            self.break_off(&mut out);
        }
        out
    }

    fn take(&mut self, out: &mut Vec<u8>, shown: &Shown) -> Result<(), Changed> {
        let body = &shown.event.body;
        match shown.id {
            Some(id) => self.attempted(out, id),
            // What an attempt said is taken back.
            None if self.attempt != 0 && matches!(body, Body::MessagesSnapshot { .. }) => {
                self.again();
                return Ok(());
            }
            None => {}
        }
        match body {
            Body::RunFinished {
                result,
                outcome,
                usage,
                ..
            } => {
                self.last_words(out, result.as_ref(), outcome.as_ref())?;
                self.end = Some(match outcome {
                    Some(Outcome::Cancelled) => Ended::Cancelled,
                    _ => Ended::Done {
                        interrupts: shown.event.interrupts().to_vec(),
                        result: result.clone(),
                        usage: usage.clone(),
                    },
                });
                self.finish(out);
            }
            Body::RunError { message, code, .. } => {
                self.end = Some(Ended::Failed {
                    code: code.clone().unwrap_or_else(|| "agent_failed".to_owned()),
                    message: message.clone(),
                });
                self.finish(out);
            }
            _ => {
                let changes = match self.output.push(&shown.event) {
                    Err(Changed) if self.is_silent => {
                        self.output.again();
                        self.output.push(&shown.event)?
                    }
                    changes => changes?,
                };
                self.tell_all(out, changes)?;
            }
        }
        Ok(())
    }

    /// An event of an attempt comes.
    fn attempted(&mut self, out: &mut Vec<u8>, id: EventId) {
        if id.attempt == self.attempt {
            return;
        }
        (self.attempt, self.count) = (id.attempt, 0);
        let of_other = |seen: u64| {
            let attempt = seen >> ATTEMPT;
            attempt != 0 && attempt != u64::from(id.attempt)
        };
        if self.behind.is_some_and(of_other) {
            // What they saw is not what is told now.
            self.behind = None;
            self.begin(out);
            self.count = 0;
        }
    }

    fn again(&mut self) {
        let said = self.output.again();
        if self.is_silent {
            return;
        }
        let mut said = said.into_iter();
        for past in &mut self.past {
            if let Some(item) = said.next() {
                past.is_done |= item.is_done;
                if item.text.len() > past.text.len() {
                    past.text = item.text;
                }
            }
        }
        self.past.extend(said);
    }

    /// What the end of a run says beside what was said.
    fn last_words(
        &mut self,
        out: &mut Vec<u8>,
        result: Option<&Value>,
        outcome: Option<&Outcome>,
    ) -> Result<(), Changed> {
        let mut changes = Vec::new();
        if let Some(result) = result.filter(|_| self.output.items.is_empty()) {
            let text = match result {
                Value::String(text) => text.clone(),
                other => other.to_string(),
            };
            let id = format!("{}-result", self.head.id);
            changes.extend(self.output.say(&id, &text));
        }
        if let Some(Outcome::Interrupt { interrupts }) = outcome {
            let asked = interrupts.iter().filter_map(|it| it.message.as_deref());
            let asked: Vec<&str> = asked.filter(|it| !it.is_empty()).collect();
            let asked = match asked.is_empty() {
                true => "The agent waits for an answer.".to_owned(),
                false => asked.join("\n\n"),
            };
            let id = format!("{}-asked", self.head.id);
            changes.extend(self.output.say(&id, &asked));
        }
        changes.extend(self.output.end());
        self.tell_all(out, changes)?;
        let said = &self.output.items;
        let mut past = self.past.iter().enumerate();
        let is_whole = past.all(|(at, past)| {
            let now = said.get(at);
            now.is_some_and(|it| it.text.len() >= past.text.len())
        });
        if is_whole { Ok(()) } else { Err(Changed) }
    }

    fn tell_all(&mut self, out: &mut Vec<u8>, changes: Vec<Change>) -> Result<(), Changed> {
        for change in changes {
            let fresh = self.fresh(&change)?;
            match self.form {
                Form::Chat { .. } => {
                    if let Some(delta) = fresh.and_then(|it| write::delta(&self.output, &it)) {
                        out.extend(data(&write::chunk(&self.head, &delta, None)));
                    }
                }
                Form::Response => {
                    let is_fresh = fresh.is_some();
                    let told = fresh.unwrap_or(change);
                    for event in write::events((&self.output, &self.past), &told) {
                        self.event(out, event, is_fresh);
                    }
                }
            }
        }
        Ok(())
    }

    /// What of a change was not told when an attempt before said the same.
    fn fresh(&self, change: &Change) -> Result<Option<Change>, Changed> {
        let at = change.at();
        let now = self.output.items.get(at);
        let (Some(past), Some(now)) = (self.past.get(at), now) else {
            return Ok(Some(change.clone()));
        };
        match change {
            Change::Begun(_) => {
                let is_call = matches!(now.kind, Kind::Call(_));
                match past.kind == now.kind && (!is_call || past.id == now.id) {
                    true => Ok(None),
                    false => Err(Changed),
                }
            }
            Change::More(_, delta) => {
                let (said, told) = (now.text.as_str(), past.text.as_str());
                if !said.starts_with(told) && !told.starts_with(said) {
                    return Err(Changed);
                }
                let known = told.len().saturating_sub(said.len() - delta.len());
                match delta.get(known..).filter(|it| !it.is_empty()) {
                    None => Ok(None),
                    Some(_) if past.is_done => Err(Changed),
                    Some(rest) => Ok(Some(Change::More(at, rest.to_owned()))),
                }
            }
            Change::Done(_) if now.text.len() < past.text.len() => Err(Changed),
            Change::Done(_) => Ok((!past.is_done).then(|| change.clone())),
        }
    }

    fn begin(&mut self, out: &mut Vec<u8>) {
        match self.form {
            Form::Chat { .. } => {
                let delta = json!({ "role": "assistant", "content": "" });
                out.extend(data(&write::chunk(&self.head, &delta, None)));
            }
            Form::Response => {
                for kind in ["response.created", "response.in_progress"] {
                    let response = write::response(&self.head, (&self.output, &self.past), None);
                    self.event(out, (kind, json!({ "response": response })), true);
                }
            }
        }
    }

    fn finish(&mut self, out: &mut Vec<u8>) {
        self.is_over = true;
        if self.behind.is_some_and(|it| it >> ATTEMPT > 0) && self.attempt == 0 {
            // Nothing of the attempt that they saw is kept.
            self.behind = None;
            self.begin(out);
        }
        let Some(end) = &self.end else {
            return;
        };
        match self.form {
            Form::Response => {
                let kind = match end {
                    Ended::Done { .. } => "response.completed",
                    Ended::Cancelled => "response.incomplete",
                    Ended::Failed { .. } => "response.failed",
                };
                let response = self.whole();
                self.event(out, (kind, json!({ "response": response })), true);
            }
            Form::Chat { usage } => match self.failure() {
                Some((code, message)) => out.extend(data(&write::error(code, message))),
                None => {
                    out.extend(data(&write::last(&self.head, &self.output, end)));
                    if let Some(used) = write::used(end).filter(|_| usage) {
                        out.extend(data(&write::usage(&self.head, &used)));
                    }
                    out.extend_from_slice(b"data: [DONE]\n\n");
                }
            },
        }
    }

    fn break_off(&mut self, out: &mut Vec<u8>) {
        match self.form {
            Form::Chat { .. } => out.extend(data(&write::error(CHANGED, CHANGED_WHY))),
            Form::Response => {
                let error = json!({ "code": CHANGED, "message": CHANGED_WHY, "param": null });
                self.event(out, ("error", error), true);
            }
        }
    }

    /// Writes an event of a response, with its number, unless it was told.
    fn event(
        &mut self,
        out: &mut Vec<u8>,
        (kind, mut value): (&'static str, Value),
        is_fresh: bool,
    ) {
        let number = (u64::from(self.attempt) << ATTEMPT) + self.count;
        self.count += 1;
        if !is_fresh || self.behind.is_some_and(|seen| number <= seen) {
            return;
        }
        value["type"] = kind.into();
        value["sequence_number"] = number.into();
        out.extend_from_slice(b"event: ");
        out.extend_from_slice(kind.as_bytes());
        out.push(b'\n');
        out.extend(data(&value));
    }
}
