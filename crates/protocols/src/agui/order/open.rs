//! What is open in a run, and how it ends.

use std::collections::HashSet;

use serde_json::Value;

use super::{MOST_OPEN, Open, Order, Stage, TooMuch, nothing, plain};
use crate::agui::entities::{Entity, Kind, kind};
use crate::agui::{Body, Event, Message, Outcome, SubagentOutcome, TokenUsage};

impl Order {
    /// Tells that something has begun which is to end.
    pub(super) fn remember(&mut self, open: Open, event: Event) -> Result<(), TooMuch> {
        if self.open.len() >= MOST_OPEN {
            return Err(TooMuch("too much that it did not end"));
        }
        self.open.push(open);
        self.out.push(event);
        Ok(())
    }

    pub(super) fn opened(
        &mut self,
        kind: Kind,
        given: &str,
        entity: &Entity,
        event: Event,
    ) -> Result<(), TooMuch> {
        let event = event.by(entity.owner.as_deref());
        self.remember(Open::Entity(kind, given.to_owned()), event)
    }

    /// Tells what goes on; what is empty is not told.
    pub(super) fn content(&mut self, entity: &Entity, body: Body, mut event: Event) {
        let is_empty = match &body {
            Body::TextMessageContent { delta, .. }
            | Body::ToolCallArgs { delta, .. }
            | Body::ReasoningMessageContent { delta, .. } => delta.is_empty(),
            _ => false,
        };
        if !is_empty || event.metadata.is_some() {
            event.body = body;
            self.out.push(event.by(entity.owner.as_deref()));
        }
    }

    /// Ends something that is open.
    pub(super) fn close(&mut self, kind: Kind, given: &str, mut event: Event) {
        let Some(entity) = self.entities.close(kind, given) else {
            return;
        };
        let open = Open::Entity(kind, given.to_owned());
        self.open.retain(|it| *it != open);
        self.lanes
            .retain(|_, it| (it.0, it.1.as_str()) != (kind, given));
        let id = entity.id;
        event.body = match kind {
            Kind::Text => Body::TextMessageEnd { message_id: id },
            Kind::Call => Body::ToolCallEnd { tool_call_id: id },
            Kind::Thought => Body::ReasoningMessageEnd { message_id: id },
            Kind::Span => Body::ReasoningEnd { message_id: id },
            Kind::Activity => return,
        };
        self.out.push(event.by(entity.owner.as_deref()));
    }

    /// Whose stream of chunks one goes on with, and under which id.
    pub(super) fn lane(
        &self,
        kind: Kind,
        id: Option<String>,
        owner: Option<String>,
    ) -> (Option<String>, String) {
        if let Some(id) = id.filter(|it| !it.is_empty()) {
            let known = self.entities.get(kind, &id).filter(|it| it.is_open);
            return (known.map_or(owner, |it| it.owner.clone()), id);
        }
        let of_kind = |lane: &(Kind, String)| (lane.0 == kind).then(|| lane.1.clone());
        if let Some(id) = self.lanes.get(&owner).and_then(of_kind) {
            return (owner, id);
        }
        let mut others = self.lanes.iter().filter(|(_, lane)| lane.0 == kind);
        match (owner, others.next(), others.next()) {
            (None, Some((owner, lane)), None) => (owner.clone(), lane.1.clone()),
            (owner, ..) => (owner, String::new()),
        }
    }

    /// Ends what came as chunks, when something else begins.
    pub(super) fn leave_lane(&mut self, event: &Event) {
        let next: Option<(Kind, Option<&str>)> = match &event.body {
            Body::TextMessageStart { message_id, .. } => Some((Kind::Text, Some(message_id))),
            Body::TextMessageChunk { message_id, .. } => Some((Kind::Text, message_id.as_deref())),
            Body::ToolCallStart { tool_call_id, .. } => Some((Kind::Call, Some(tool_call_id))),
            Body::ToolCallChunk { tool_call_id, .. } => Some((Kind::Call, tool_call_id.as_deref())),
            Body::ReasoningMessageStart { message_id, .. } => {
                Some((Kind::Thought, Some(message_id)))
            }
            Body::ReasoningMessageChunk { message_id, .. } => {
                Some((Kind::Thought, message_id.as_deref()))
            }
            Body::ToolCallResult { .. }
            | Body::SubagentFinished { .. }
            | Body::SubagentError { .. } => None,
            _ => return,
        };
        let Some((kind, id)) = self.lanes.get(&event.subagent_run_id).cloned() else {
            return;
        };
        let goes_on = next.is_some_and(|(next, given)| {
            next == kind && given.is_none_or(|given| given.is_empty() || given == id)
        });
        if !goes_on {
            self.lanes.remove(&event.subagent_run_id);
            self.close(kind, &id, nothing().into());
        }
    }

    /// Ends what a snapshot of the conversation does not have, and takes over what it says.
    pub(super) fn restate(&mut self, messages: &[Message]) {
        let mut there = HashSet::new();
        for message in messages {
            let kind = kind(message).filter(|_| self.entities.is_same(message));
            there.extend(kind.map(|kind| (kind, message.id.as_str())));
            let calls = message.tool_calls().iter();
            there.extend(calls.map(|call| (Kind::Call, call.id.as_str())));
        }
        let gone = |open: &&Open| match open {
            Open::Entity(Kind::Span, _) => false,
            Open::Entity(kind, given) => {
                let id = self.entities.get(*kind, given).map(|it| it.id.as_str());
                id.is_some_and(|id| !there.contains(&(*kind, id)))
            }
            _ => false,
        };
        let gone: Vec<Open> = self.open.iter().rev().filter(gone).cloned().collect();
        for open in gone {
            if let Open::Entity(kind, given) = open {
                self.close(kind, &given, nothing().into());
            }
        }
        self.entities.restated(messages);
    }

    /// Ends all that is open, what was opened last first.
    pub(super) fn close_all(&mut self, outcome: Option<&Outcome>, failed: bool) {
        self.lanes.clear();
        while let Some(open) = self.open.pop() {
            match open {
                Open::Entity(kind, given) => self.close(kind, &given, nothing().into()),
                Open::Step(owner, step_name) => {
                    let end = Event::from(Body::StepFinished { step_name });
                    self.out.push(end.by(owner.as_deref()));
                }
                Open::Subagent(id) => {
                    let body = match outcome {
                        _ if failed => Body::SubagentError {
                            message: "the run failed".to_owned(),
                            code: None,
                        },
                        Some(Outcome::Cancelled) => Body::SubagentError {
                            message: "the run was cancelled".to_owned(),
                            code: Some("cancelled".to_owned()),
                        },
                        Some(Outcome::Interrupt { .. }) => Body::SubagentFinished {
                            result: None,
                            outcome: Some(SubagentOutcome::Suspended {
                                interrupt_ids: Vec::new(),
                            }),
                        },
                        _ => Body::SubagentFinished {
                            result: None,
                            outcome: None,
                        },
                    };
                    self.out.push(Event::from(body).by(Some(&id)));
                }
            }
        }
    }

    pub(super) fn finished(
        &mut self,
        result: Option<Value>,
        outcome: Option<Outcome>,
        usage: Vec<TokenUsage>,
    ) {
        let outcome = outcome.and_then(|it| self.told_outcome(it));
        self.close_all(outcome.as_ref(), false);
        // Who comes later has not seen which calls were answered.
        let mut pending: Vec<_> = std::mem::take(&mut self.pending).into_iter().collect();
        pending.sort_by_key(|(_, before)| *before);
        let pending_tool_call_ids: Vec<String> = pending.into_iter().map(|it| it.0).collect();
        let says_none = match &outcome {
            None => true,
            Some(Outcome::Success {
                pending_tool_call_ids,
            }) => pending_tool_call_ids.is_empty(),
            Some(_) => false,
        };
        let outcome = match says_none && !pending_tool_call_ids.is_empty() {
            true => Some(Outcome::Success {
                pending_tool_call_ids,
            }),
            false => outcome,
        };
        self.stage = Stage::Over;
        self.tell(Body::RunFinished {
            thread_id: self.thread_id.clone(),
            run_id: self.run_id.clone(),
            result,
            outcome,
            usage,
        });
    }

    /// An outcome with the ids under which calls are told; none, when it waits for nothing.
    fn told_outcome(&self, mut outcome: Outcome) -> Option<Outcome> {
        match &mut outcome {
            Outcome::Interrupt { interrupts } if interrupts.is_empty() => return None,
            Outcome::Interrupt { interrupts } => {
                let calls = interrupts.iter_mut();
                for call in calls.filter_map(|it| it.tool_call_id.as_mut()) {
                    *call = self.entities.call_id(call);
                }
            }
            Outcome::Success {
                pending_tool_call_ids,
            } => {
                for call in pending_tool_call_ids {
                    *call = self.entities.call_id(call);
                }
            }
            Outcome::Cancelled => {}
        }
        Some(outcome)
    }

    pub(super) fn failed(&mut self, message: &str, code: Option<String>, usage: Vec<TokenUsage>) {
        self.close_all(None, true);
        self.stage = Stage::Over;
        self.tell(Body::RunError {
            message: plain(message),
            code: code
                .map(|code| plain(&code))
                .filter(|code| !code.is_empty()),
            usage,
        });
    }
}
