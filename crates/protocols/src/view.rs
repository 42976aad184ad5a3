//! What who follows a run is shown: its events once and in their order, whenever they come, and whatever becomes of attempts.
//!
//! Who comes anew behind an event that they saw is shown what the run had come to by then, and what follows. When an attempt was
//! cut, what it said is taken back by a snapshot of what stood before it, but for its thoughts, which clients keep, and the next
//! one's events follow.

use serde_json::Value;

use crate::agui::{Body, End, Event, Fold, Interrupt, Message, Outcome, Run, RunAgentInput};
use crate::record::EventId;

/// An event that is shown, with the id of the last recorded one that is in it; none, of what is not recorded.
#[derive(Debug, Clone, PartialEq)]
pub struct Shown {
    /// The id.
    pub id: Option<EventId>,
    /// The event.
    pub event: Event,
}

/// What the run had come to cannot be shown at once: who came behind an event has to begin anew.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Unseen {
    /// It is too long for that.
    #[error("the run is too long to be shown from its middle")]
    TooLong,
    /// What is recorded is not what a recorder writes.
    #[error("the recording of the run cannot be read")]
    Unreadable,
}

/// Follows one run.
#[derive(Debug)]
pub struct View {
    input: RunAgentInput,
    run: Run,
    /// Bytes of an event that has not come whole.
    rest: Vec<u8>,
    /// Behind which event it begins, until that was found.
    behind: Option<EventId>,
    /// The last event that was read.
    last: Option<EventId>,
    /// The end that its agent says: it counts when it is recorded for good.
    held: Option<(EventId, Event)>,
    /// `RUN_STARTED` was shown.
    begun: bool,
    /// Something of an attempt was shown.
    dirty: bool,
}

impl View {
    /// A view of all of a run, or of what comes behind an event that was seen.
    #[must_use]
    pub fn new(input: RunAgentInput, behind: Option<EventId>) -> Self {
        Self {
            run: Run::new(&input),
            input,
            rest: Vec::new(),
            behind,
            last: None,
            held: None,
            begun: false,
            dirty: false,
        }
    }

    /// That the run has begun, as long as nothing else was shown: it may wait for its agent.
    pub fn begin(&mut self) -> Vec<Shown> {
        let mut out = Vec::new();
        if self.behind.is_none() {
            let events = self.run.start();
            self.show(&mut out, events);
        }
        out
    }

    /// An attempt's answer begins. What one before it said is taken back.
    pub fn attempt(&mut self) -> Vec<Shown> {
        let mut out = Vec::new();
        self.rest.clear();
        (self.last, self.held) = (None, None);
        if self.behind.is_some() {
            self.run = Run::new(&self.input);
        }
        if !self.dirty {
            return out;
        }
        let events = self.run.again(&self.input);
        self.show(&mut out, events);
        self.dirty = false;
        out
    }

    /// Takes recorded bytes, and gives what is shown.
    ///
    /// # Errors
    /// [`Unseen`].
    pub fn push(&mut self, bytes: &[u8]) -> Result<Vec<Shown>, Unseen> {
        let mut out = Vec::new();
        self.rest.extend_from_slice(bytes);
        let all = std::mem::take(&mut self.rest);
        let mut rest = all.as_slice();
        while let Some(end) = rest.windows(2).position(|it| it == b"\n\n") {
            let (frame, after) = rest.split_at(end + 2);
            rest = after;
            let (id, event) = read(frame).ok_or(Unseen::Unreadable)?;
            self.take(&mut out, id, event)?;
        }
        self.rest = rest.to_vec();
        Ok(out)
    }

    /// The run has ended for good, and nothing follows: by what its agent said, when it `Finished`, or else by what became of its
    /// call.
    ///
    /// # Errors
    /// [`Unseen::TooLong`].
    pub fn end(&mut self, end: End) -> Result<Vec<Shown>, Unseen> {
        let mut out = Vec::new();
        let held = self.held.take().filter(|_| end == End::Finished);
        let mut events = Vec::new();
        if let Some((id, event)) = held {
            self.last = Some(id);
            events = self.run.push(vec![event]);
        }
        match self.behind.take() {
            // It was behind what there is.
            Some(_) => self.snapshot(&mut out)?,
            None => self.show(&mut out, events),
        }
        let events = self.run.end(end);
        self.show(&mut out, events);
        Ok(out)
    }

    /// The run has ended, and only what it came to is kept: the conversation, the state, its result and what it waits for.
    ///
    /// # Errors
    /// [`Unseen::TooLong`].
    pub fn kept(
        &mut self,
        (messages, state): (Vec<Message>, Option<Value>),
        (result, interrupts): (Option<Value>, Vec<Interrupt>),
        end: End,
    ) -> Result<Vec<Shown>, Unseen> {
        let mut out = Vec::new();
        let outcome = match interrupts.is_empty() {
            true => None,
            false => Some(Outcome::Interrupt { interrupts }),
        };
        let mut events = vec![Event::from(Body::MessagesSnapshot { messages })];
        events.extend(state.map(|snapshot| Event::from(Body::StateSnapshot { snapshot })));
        if end == End::Finished {
            events.push(Event::from(Body::RunFinished {
                thread_id: self.input.thread_id.clone(),
                run_id: self.input.run_id.clone(),
                result,
                outcome,
                usage: Vec::new(),
            }));
        }
        let events = self.run.push(events);
        if self.behind.is_none() {
            self.show(&mut out, events);
        }
        out.extend(self.end(end)?);
        Ok(out)
    }

    /// What the run has come to, as far as was read.
    #[must_use]
    pub fn fold(&self) -> &Fold {
        self.run.fold()
    }

    fn take(&mut self, out: &mut Vec<Shown>, id: EventId, event: Event) -> Result<(), Unseen> {
        if event.is_end() {
            self.held = Some((id, event));
            return Ok(());
        }
        self.last = Some(id);
        let Some(behind) = self.behind else {
            let events = self.run.push(vec![event]);
            self.show(out, events);
            return Ok(());
        };
        // Its attempt was cut, or is none of this run.
        let is_other = behind.attempt != id.attempt;
        self.run.push(vec![event]);
        if is_other || id >= behind {
            self.behind = None;
            self.snapshot(out)?;
        }
        Ok(())
    }

    /// Shows what the run has come to.
    fn snapshot(&mut self, out: &mut Vec<Shown>) -> Result<(), Unseen> {
        let events = self.run.fold().snapshot().ok_or(Unseen::TooLong)?;
        let id = self.last;
        out.extend(events.into_iter().map(|event| Shown { id, event }));
        (self.begun, self.dirty) = (true, true);
        Ok(())
    }

    fn show(&mut self, out: &mut Vec<Shown>, events: Vec<Event>) {
        for event in events {
            let is_start = matches!(event.body, Body::RunStarted { .. });
            if is_start && std::mem::replace(&mut self.begun, true) {
                continue;
            }
            self.dirty |= !is_start;
            let id = self.last;
            out.push(Shown { id, event });
        }
    }
}

/// An event as a recorder writes it.
fn read(frame: &[u8]) -> Option<(EventId, Event)> {
    let text = std::str::from_utf8(frame).ok()?;
    let (mut id, mut data) = (None, None);
    for line in text.lines() {
        match line.split_once(": ") {
            Some(("id", value)) => id = value.parse().ok(),
            Some(("data", value)) => data = Some(value),
            _ => {}
        }
    }
    let value: Value = serde_json::from_str(data?).ok()?;
    Some((id?, Event::strict(value).ok()?))
}
