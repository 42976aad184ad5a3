//! Streams of Gemini: each piece is an answer, and calls come whole.

use super::{Head, data, gather, stop};
use crate::gemini::{answer, read_candidate, read_stop, write_said};
use crate::json::{Fields, Json, refused};
use crate::neutral::{Call, Event, Part, Place, Signature, Stop, Thought};
use crate::tap::Usage;
use crate::translate::Untranslatable;

#[derive(Debug, Default)]
pub(super) struct Reader {
    began: bool,
    id: String,
    calls: usize,
}

impl Reader {
    pub(super) fn read(&mut self, data: Json, to: &mut Vec<Event>) -> Result<(), Untranslatable> {
        let mut from = Fields::answer(data)?;
        let id = from.text("responseId")?.unwrap_or_default();
        let model = from.text("modelVersion")?.unwrap_or_default();
        if !std::mem::replace(&mut self.began, true) {
            self.id.clone_from(&id);
            to.push(Event::Start {
                id,
                model,
                created: None,
            });
        }
        let is_blocked = from.object("promptFeedback")?;
        let is_blocked = is_blocked.is_some_and(|it| it.names().any(|name| name == "blockReason"));
        if is_blocked {
            to.push(Event::Stop(Stop::Filter));
        }
        for mut candidate in from.objects("candidates")? {
            if candidate.count("index")?.unwrap_or(0) != 0 {
                return Err(refused("candidates", "there must be one"));
            }
            let (parts, reason) = read_candidate(&mut candidate, &self.id, &mut self.calls)?;
            for part in parts {
                said(part, to)?;
            }
            if let Some(reason) = reason {
                to.push(Event::Stop(read_stop(&reason, self.calls > 0)?));
            }
        }
        Ok(())
    }
}

fn said(part: Part, to: &mut Vec<Event>) -> Result<(), Untranslatable> {
    match part {
        Part::Text(text) if text.is_empty() => {}
        Part::Text(text) => to.push(Event::Text(text)),
        Part::Refusal(text) => to.push(Event::Refusal(text)),
        Part::Thought(thought) => {
            if !thought.text.is_empty() {
                to.push(Event::Thought(thought.text));
            }
            to.extend(thought.signature.map(|signature| Event::Signed {
                signature,
                is_hidden: false,
            }));
        }
        Part::Call(Call {
            id,
            name,
            arguments,
            signature,
            ..
        }) => {
            to.push(Event::Call {
                id,
                name,
                signature,
            });
            to.push(Event::Arguments(arguments));
        }
        Part::Media(media) => return Err(media.at.refused("it cannot be translated")),
        Part::Result(outcome) => return Err(outcome.at.refused("it cannot be translated")),
    }
    Ok(())
}

#[derive(Debug, Default)]
pub(super) struct Writer {
    head: Head,
    /// The call whose arguments are gathered.
    call: Option<(String, String, Option<Signature>)>,
    arguments: String,
    held: Option<Stop>,
}

impl Writer {
    fn piece(
        &self,
        parts: &[Part],
        end: Option<(&Stop, &Usage)>,
        out: &mut Vec<u8>,
    ) -> Result<(), Untranslatable> {
        let parts = write_said(parts)?;
        let (stop, usage) = end.unzip();
        data(
            out,
            answer(&self.head.id, &self.head.model, parts, stop, usage),
        );
        Ok(())
    }

    /// The call that was gathered.
    fn called(&mut self) -> Option<Part> {
        let (id, name, signature) = self.call.take()?;
        Some(Part::Call(Call {
            id,
            name,
            arguments: std::mem::take(&mut self.arguments),
            signature,
            at: Place("functionCall".to_owned()),
        }))
    }

    fn say(&mut self, part: Option<Part>, out: &mut Vec<u8>) -> Result<(), Untranslatable> {
        let parts: Vec<Part> = self.called().into_iter().chain(part).collect();
        match parts.is_empty() {
            true => Ok(()),
            false => self.piece(&parts, None, out),
        }
    }

    pub(super) fn write(&mut self, event: Event, out: &mut Vec<u8>) -> Result<(), Untranslatable> {
        match event {
            Event::Start { id, model, .. } => {
                self.head = Head {
                    id,
                    model,
                    created: 0,
                };
                Ok(())
            }
            Event::Text(text) | Event::Refusal(text) => self.say(Some(Part::Text(text)), out),
            Event::Thought(text) => {
                let thought = Thought {
                    text,
                    ..Thought::default()
                };
                self.say(Some(Part::Thought(thought)), out)
            }
            Event::Signed { signature, .. } => {
                let thought = Thought {
                    signature: Some(signature),
                    ..Thought::default()
                };
                self.say(Some(Part::Thought(thought)), out)
            }
            Event::Call {
                id,
                name,
                signature,
            } => {
                self.say(None, out)?;
                self.call = Some((id, name, signature));
                Ok(())
            }
            Event::Arguments(text) => gather(&mut self.arguments, &text),
            Event::Stop(stop) => {
                self.held = Some(stop);
                Ok(())
            }
            Event::End(usage) => {
                let last: Vec<Part> = self.called().into_iter().collect();
                let held = stop(self.held.take());
                self.piece(&last, Some((&held, &usage)), out)
            }
            Event::Failed { .. } => Ok(()),
        }
    }
}
