//! An agent's answer as it is recorded: the events of its run, in order, each with the id that who follows them knows it by.

use std::fmt;
use std::str::FromStr;

use serde_json::json;

use crate::adapt::{Adapter, FAILED, Protocol};
use crate::agui::{Body, End, Event, Fold, Outcome, Run, RunAgentInput};
use crate::stream::frame;

/// Which event of a run: of which attempt, and the how many-th of it, from 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct EventId {
    /// The attempt.
    pub attempt: u32,
    /// Its place in that.
    pub index: u64,
}

impl fmt::Display for EventId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.attempt, self.index)
    }
}

impl FromStr for EventId {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        let (attempt, index) = text.split_once('.').ok_or(())?;
        Ok(Self {
            attempt: attempt.parse().map_err(|_| ())?,
            index: index.parse().map_err(|_| ())?,
        })
    }
}

/// Makes of an answer what is recorded of it: a stream of server-sent events that is a right one, whatever the agent says.
#[derive(Debug)]
pub struct Recorder {
    adapter: Adapter,
    run: Run,
    last: EventId,
}

impl Recorder {
    /// Begins with the answer to an attempt, of such a status and content type.
    #[must_use]
    pub fn new(
        protocol: Protocol,
        input: &RunAgentInput,
        (attempt, status, content_type): (u32, u16, &str),
    ) -> Self {
        Self {
            adapter: Adapter::new(protocol, status, content_type, &input.run_id),
            run: Run::new(input),
            last: EventId { attempt, index: 0 },
        }
    }

    /// Takes bytes of the answer, and gives those that are recorded.
    pub fn push(&mut self, bytes: &[u8]) -> Vec<u8> {
        let events = self.adapter.push(bytes);
        let events = self.run.push(events);
        let mut out = Vec::new();
        self.write(&mut out, &events);
        out
    }

    /// The answer has come to its end, and so does the run.
    pub fn finish(&mut self) -> Vec<u8> {
        let events = self.adapter.finish();
        let mut events = self.run.push(events);
        events.extend(self.run.end(End::Finished));
        let mut out = Vec::new();
        self.write(&mut out, &events);
        out
    }

    /// What the run has come to.
    #[must_use]
    pub fn fold(&self) -> &Fold {
        self.run.fold()
    }

    /// What is kept of the run when its call ends by this answer, as JSON: `messages`, `state`, `result`, and how it ended: `interrupts`,
    /// `usage`, `cancelled`, or `error` (a word for programs, one for people).
    #[must_use]
    pub fn summary(&self) -> Vec<u8> {
        let fold = self.fold();
        let mut summary = json!({ "messages": fold.messages(), "usage": fold.usage() });
        if let Some(state) = fold.state() {
            summary["state"] = state.clone();
        }
        match fold.end().map(|it| &it.body) {
            Some(Body::RunError { message, code, .. }) => {
                let code = code.as_deref().unwrap_or(FAILED);
                summary["error"] = json!([code, message]);
            }
            Some(Body::RunFinished {
                outcome, result, ..
            }) => {
                if let Some(result) = result {
                    summary["result"] = result.clone();
                }
                match outcome {
                    Some(Outcome::Interrupt { interrupts }) => {
                        summary["interrupts"] = json!(interrupts);
                    }
                    Some(Outcome::Cancelled) => summary["cancelled"] = true.into(),
                    Some(Outcome::Success { .. }) | None => {}
                }
            }
            _ => {}
        }
        summary.to_string().into_bytes()
    }

    fn write(&mut self, out: &mut Vec<u8>, events: &[Event]) {
        for event in events {
            self.last.index += 1;
            out.extend(frame(event, Some(&self.last.to_string())));
        }
    }
}
