//! Prints a run as it comes, for people or as events.

use std::collections::HashMap;
use std::time::Duration;

use serde_json::Value;
use skep_client::{Client, RunEvent};
use skep_core::units;
use tokio::time::Instant;

use crate::failure::{Failure, Result};
use crate::output::Format;
use crate::session::Session;
use crate::table::{clean, clean_lines};

/// Time between two tries to reach a server that went away.
const AGAIN: Duration = Duration::from_millis(500);
/// How long a server that went away is waited for.
const PATIENCE: Duration = Duration::from_secs(60);
/// Characters of what a tool was given or said that are shown.
const MOST: usize = 200;

fn short(text: &str) -> String {
    let mut chars = text.chars();
    let mut out: String = chars.by_ref().take(MOST).collect();
    if chars.next().is_some() {
        out.push('…');
    }
    clean(&out)
}

/// A call of a tool in a line.
pub(super) fn call(name: &str, with: &str) -> String {
    format!("→ {}({})", clean(name), short(with))
}

/// What a message says in words.
pub(super) fn said(message: &Value) -> String {
    match &message["content"] {
        Value::String(text) => text.clone(),
        Value::Array(parts) => {
            let texts = parts.iter().filter_map(|part| part["text"].as_str());
            texts.collect::<Vec<_>>().join("")
        }
        _ => String::new(),
    }
}

/// What was printed of a run.
#[derive(Debug, Default)]
struct Printed {
    /// Characters of each message.
    texts: HashMap<String, String>,
    /// Calls of tools that come in, by id: name and arguments.
    calls: HashMap<String, (String, String)>,
    /// The last line is not ended.
    open: bool,
}

impl Printed {
    fn line(&mut self, text: &str) -> String {
        let before = if std::mem::take(&mut self.open) {
            "\n"
        } else {
            ""
        };
        format!("{before}{text}\n")
    }

    fn piece(&mut self, id: &str, text: &str) -> String {
        self.texts.entry(id.to_owned()).or_default().push_str(text);
        self.open |= !text.is_empty();
        clean_lines(text)
    }

    /// What is printed of an event.
    fn take(&mut self, event: &Value) -> String {
        let text = |name: &str| event[name].as_str().unwrap_or_default();
        match text("type") {
            "TEXT_MESSAGE_CONTENT" => self.piece(text("messageId"), text("delta")),
            "TEXT_MESSAGE_END" if self.open => self.line(""),
            "TOOL_CALL_START" => {
                let named = (text("toolCallName").to_owned(), String::new());
                self.calls.insert(text("toolCallId").to_owned(), named);
                String::new()
            }
            "TOOL_CALL_ARGS" => {
                if let Some((_, with)) = self.calls.get_mut(text("toolCallId")) {
                    with.push_str(text("delta"));
                }
                String::new()
            }
            "TOOL_CALL_END" => match self.calls.remove(text("toolCallId")) {
                Some((name, with)) => self.line(&call(&name, &with)),
                None => String::new(),
            },
            "TOOL_CALL_RESULT" => self.line(&format!("← {}", short(&said(event)))),
            "MESSAGES_SNAPSHOT" => self.snapshot(&event["messages"]),
            "RUN_ERROR" => self.line(&format!("The run failed: {}", clean(text("message")))),
            "RUN_FINISHED" => {
                let waits = event["outcome"]["interrupts"].as_array();
                let mut out = String::new();
                for one in waits.into_iter().flatten() {
                    let why = one["message"].as_str().or(one["reason"].as_str());
                    let why = clean(why.unwrap_or_default());
                    let id = clean(one["id"].as_str().unwrap_or_default());
                    out.push_str(&self.line(&format!("It waits for an answer to {id}: {why}")));
                }
                if event["outcome"]["type"] == "cancelled" {
                    out.push_str(&self.line("The run was cancelled."));
                }
                if self.open {
                    out.push_str(&self.line(""));
                }
                out
            }
            _ => String::new(),
        }
    }

    /// What a snapshot has that was not printed.
    fn snapshot(&mut self, messages: &Value) -> String {
        let all = messages.as_array().map(Vec::as_slice).unwrap_or_default();
        let mut out = String::new();
        let there: Vec<&str> = all.iter().filter_map(|it| it["id"].as_str()).collect();
        let is_gone = |id: &String| !there.contains(&id.as_str());
        if self.texts.keys().any(is_gone) {
            self.texts.clear();
            out.push_str(&self.line("The agent begins anew."));
        }
        for message in all.iter().filter(|it| it["role"] == "assistant") {
            let (id, whole) = (message["id"].as_str().unwrap_or_default(), said(message));
            let had = self.texts.get(id).cloned().unwrap_or_default();
            if let Some(rest) = whole.strip_prefix(had.as_str()) {
                out.push_str(&self.piece(id, rest));
            }
        }
        out
    }
}

fn print(session: &Session, printed: &mut Printed, event: &RunEvent) -> Result {
    let output = &session.output;
    match output.format {
        Format::Table | Format::Html => output.raw(printed.take(&event.event).as_bytes()),
        Format::Json => output.raw(format!("{}\n", event.event).as_bytes()),
        Format::Name => match &event.id {
            Some(id) => output.raw(format!("{id}\n").as_bytes()),
            None => Ok(()),
        },
        Format::Yaml => {
            output.raw(b"---\n")?;
            output.document(&event.event)
        }
    }
}

fn cut() -> Failure {
    Failure::plain("the stream ended before the run").hint("Try again.")
}

fn is_end(event: &Value) -> bool {
    matches!(event["type"].as_str(), Some("RUN_FINISHED" | "RUN_ERROR"))
}

/// Prints a run to its end, over lost connections: each begins behind what was printed last.
pub(super) async fn tail(
    session: &Session,
    client: &Client,
    id: &str,
    mut seen: Option<String>,
) -> Result {
    let mut printed = Printed::default();
    let mut since = Instant::now();
    loop {
        let lost = match pass(session, client, (id, &mut seen, &mut printed)).await? {
            Ended::Run(true) => return Ok(()),
            Ended::Run(false) => return Err(Failure::quiet(crate::failure::Exit::Failure)),
            Ended::Lost(progress, lost) => {
                if progress {
                    since = Instant::now();
                }
                lost
            }
        };
        if since.elapsed() > PATIENCE {
            let after = units::format_duration(PATIENCE);
            return Err(lost.hint(format!("It was waited for {after}.")));
        }
        tokio::time::sleep(AGAIN).await;
    }
}

/// How a connection ended.
enum Ended {
    /// With the run, well or not.
    Run(bool),
    /// Before it; and whether something came.
    Lost(bool, Failure),
}

async fn pass(
    session: &Session,
    client: &Client,
    (id, seen, printed): (&str, &mut Option<String>, &mut Printed),
) -> Result<Ended> {
    let mut came = false;
    let mut events = match client.run_events(id, seen.as_deref()).await {
        Ok(events) => events,
        Err(lost) if lost.is_retryable() => return Ok(Ended::Lost(came, lost.into())),
        Err(lost) => return Err(lost.into()),
    };
    loop {
        match events.next().await {
            Ok(Some(event)) => {
                came = true;
                print(session, printed, &event)?;
                if is_end(&event.event) {
                    return Ok(Ended::Run(event.event["type"] == "RUN_FINISHED"));
                }
                if event.id.is_some() {
                    *seen = event.id;
                }
            }
            Ok(None) => return Ok(Ended::Lost(came, cut())),
            Err(lost) if lost.is_retryable() => return Ok(Ended::Lost(came, lost.into())),
            Err(lost) => return Err(lost.into()),
        }
    }
}

/// All events of a run, when it has ended.
pub(super) async fn all(client: &Client, id: &str) -> Result<Vec<Value>> {
    let mut events = client.run_events(id, None).await?;
    let mut all = Vec::new();
    while let Some(event) = events.next().await? {
        let end = is_end(&event.event);
        all.push(event.event);
        if end {
            return Ok(all);
        }
    }
    Err(cut())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn printed(printed: &mut Printed, events: &[Value]) -> String {
        events.iter().map(|event| printed.take(event)).collect()
    }

    #[test]
    fn a_run_is_printed_as_people_read_it() {
        let mut all = Printed::default();
        let text = printed(
            &mut all,
            &[
                json!({ "type": "TEXT_MESSAGE_CONTENT", "messageId": "m", "delta": "Let me " }),
                json!({ "type": "TEXT_MESSAGE_CONTENT", "messageId": "m", "delta": "look\u{1b}[2J" }),
                json!({ "type": "TOOL_CALL_START", "toolCallId": "c", "toolCallName": "find" }),
                json!({ "type": "TOOL_CALL_ARGS", "toolCallId": "c", "delta": "{\"a\":" }),
                json!({ "type": "TOOL_CALL_ARGS", "toolCallId": "c", "delta": "1}" }),
                json!({ "type": "TOOL_CALL_END", "toolCallId": "c" }),
                json!({ "type": "TOOL_CALL_RESULT", "toolCallId": "c", "content": "two" }),
                json!({ "type": "RUN_FINISHED", "outcome": { "type": "interrupt",
                    "interrupts": [{ "id": "i", "reason": "approval", "message": "May I?" }] } }),
            ],
        );
        let wanted = "Let me look\u{fffd}[2J\n→ find({\"a\":1})\n← two\nIt waits for an answer to i: May I?\n";
        assert_eq!(text, wanted);
    }

    #[test]
    fn nothing_is_printed_twice_behind_a_lost_connection() {
        let mut all = Printed::default();
        let said =
            |text: &str| json!({ "type": "TEXT_MESSAGE_CONTENT", "messageId": "m", "delta": text });
        let snapshot = |id: &str, text: &str| {
            json!({ "type": "MESSAGES_SNAPSHOT", "messages": [
                { "id": "u", "role": "user", "content": "Hi" },
                { "id": id, "role": "assistant", "content": text }] })
        };
        assert_eq!(printed(&mut all, &[said("one ")]), "one ");
        assert_eq!(printed(&mut all, &[snapshot("m", "one two ")]), "two ");
        assert_eq!(printed(&mut all, &[said("three")]), "three");
        assert_eq!(
            printed(&mut all, &[snapshot("n", "four")]),
            "\nThe agent begins anew.\nfour"
        );
    }
}
