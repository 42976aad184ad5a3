//! Whether an event is within the bounds of a run.

use std::io;

use super::event::{Body, Event};

/// Whether no id is longer than this.
pub(super) fn ids(event: &Event, most: usize) -> bool {
    let short = |id: &str| id.len() <= most;
    let maybe = |id: &Option<String>| id.as_deref().is_none_or(short);
    let own = match &event.body {
        Body::TextMessageStart { message_id, .. }
        | Body::TextMessageContent { message_id, .. }
        | Body::TextMessageEnd { message_id }
        | Body::ActivitySnapshot { message_id, .. }
        | Body::ActivityDelta { message_id, .. }
        | Body::ReasoningStart { message_id }
        | Body::ReasoningEnd { message_id }
        | Body::ReasoningMessageStart { message_id, .. }
        | Body::ReasoningMessageContent { message_id, .. }
        | Body::ReasoningMessageEnd { message_id } => short(message_id),
        Body::TextMessageChunk { message_id, .. }
        | Body::ReasoningMessageChunk { message_id, .. } => maybe(message_id),
        Body::ToolCallStart {
            tool_call_id,
            parent_message_id,
            ..
        } => short(tool_call_id) && maybe(parent_message_id),
        Body::ToolCallArgs { tool_call_id, .. } | Body::ToolCallEnd { tool_call_id } => {
            short(tool_call_id)
        }
        Body::ToolCallChunk {
            tool_call_id,
            parent_message_id,
            ..
        } => maybe(tool_call_id) && maybe(parent_message_id),
        Body::ToolCallResult {
            message_id,
            tool_call_id,
            ..
        } => short(message_id) && short(tool_call_id),
        Body::MessagesSnapshot { messages } => messages.iter().all(|it| {
            let calls = it.tool_calls().iter();
            short(&it.id)
                && maybe(&it.subagent_run_id)
                && calls.map(|it| &it.id).all(|it| short(it))
        }),
        Body::ReasoningEncryptedValue { entity_id, .. } => short(entity_id),
        Body::SubagentStarted {
            parent_subagent_run_id,
            parent_tool_call_id,
            parent_message_id,
            ..
        } => {
            maybe(parent_subagent_run_id) && maybe(parent_tool_call_id) && maybe(parent_message_id)
        }
        Body::RunFinished { .. } => event.interrupts().iter().all(|it| short(&it.id)),
        _ => true,
    };
    own && maybe(&event.subagent_run_id)
}

/// Whether no name is longer than this.
pub(super) fn names(event: &Event, most: usize) -> bool {
    let maybe = |name: &Option<String>| name.as_ref().is_none_or(|it| it.len() <= most);
    match &event.body {
        Body::ToolCallStart { tool_call_name, .. } => tool_call_name.len() <= most,
        Body::ToolCallChunk { tool_call_name, .. } => maybe(tool_call_name),
        Body::TextMessageStart { name, .. } | Body::TextMessageChunk { name, .. } => maybe(name),
        Body::StepStarted { step_name: name }
        | Body::StepFinished { step_name: name }
        | Body::Custom { name, .. }
        | Body::SubagentStarted { name, .. }
        | Body::ActivityDelta {
            activity_type: name,
            ..
        }
        | Body::ActivitySnapshot {
            activity_type: name,
            ..
        } => name.len() <= most,
        _ => true,
    }
}

/// Whether an event has no more bytes than this when it is written.
pub(super) fn fits(event: &Event, most: usize) -> bool {
    let is_plain = event.raw_event.is_none() && event.metadata.is_none();
    let delta = match &event.body {
        Body::TextMessageContent { delta, .. }
        | Body::ToolCallArgs { delta, .. }
        | Body::ReasoningMessageContent { delta, .. } => Some(delta),
        _ => None,
    };
    // Most are short, and need not be written to be measured: a byte becomes six at the most.
    if let Some(delta) = delta.filter(|_| is_plain)
        && delta.len() < most / 8
    {
        return true;
    }
    serde_json::to_writer(Room(most), event).is_ok()
}

/// Takes so many bytes and no more.
struct Room(usize);

impl io::Write for Room {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let left = self.0.checked_sub(bytes.len());
        self.0 = left.ok_or(io::ErrorKind::StorageFull)?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
