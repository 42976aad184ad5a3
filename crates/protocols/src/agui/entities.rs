//! What the ids of a run stand for. In a conversation a message id is one message of one kind, once: what an agent uses twice
//! gets an id of ours the second time, and what continues it is given the same one.

use std::collections::{HashMap, HashSet};

use super::input::RunAgentInput;
use super::message::{Message, Said};

/// What an id can stand for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Kind {
    Text,
    Call,
    /// A reasoning message.
    Thought,
    /// What is round reasoning messages.
    Span,
    Activity,
}

/// Something that a run has begun.
#[derive(Debug, Clone)]
pub(super) struct Entity {
    /// Its id, as it is told.
    pub(super) id: String,
    /// The subagent that began it.
    pub(super) owner: Option<String>,
    pub(super) is_open: bool,
}

/// A message that there is.
#[derive(Debug, Clone)]
struct Taken {
    kind: Held,
    owner: Option<String>,
    /// A call has made it, and its text may still come.
    is_bare: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Held {
    Assistant,
    Thought,
    Activity,
    Other,
}

/// All that the ids of a run stand for.
#[derive(Debug, Default)]
pub(super) struct Entities {
    run_id: String,
    minted: u64,
    known: HashMap<(Kind, String), Entity>,
    messages: HashMap<String, Taken>,
    /// Calls that there were before the run began, or that a snapshot says, and whose.
    before: HashMap<String, Option<String>>,
    /// Which call a tool's message answers.
    answers: HashMap<String, String>,
    /// Who began what is reasoned under an id, be it a span or a message.
    reasoners: HashMap<String, Option<String>>,
    spans: HashSet<String>,
    /// What the messages of attempts were that were cut, and whose: clients know that of an id as long as the run lasts.
    past: HashMap<String, (Held, Option<String>)>,
    /// Whose their calls were.
    past_calls: HashMap<String, Option<String>>,
}

impl Entities {
    pub(super) fn new(input: &RunAgentInput) -> Self {
        let mut new = Self {
            run_id: input.run_id.clone(),
            ..Self::default()
        };
        for message in &input.messages {
            new.keep(message);
        }
        new
    }

    /// Keeps what a message of the conversation stands for.
    fn keep(&mut self, message: &Message) {
        let kind = held(&message.said);
        if let Said::Tool { tool_call_id, .. } = &message.said {
            self.answers
                .insert(message.id.clone(), tool_call_id.clone());
        }
        let owner = message.subagent_run_id.clone();
        if kind == Held::Thought {
            self.reasoners.insert(message.id.clone(), owner.clone());
        }
        let taken = Taken {
            kind,
            owner,
            is_bare: false,
        };
        self.messages.insert(message.id.clone(), taken);
        for call in message.tool_calls() {
            let owner = message.subagent_run_id.clone();
            self.before.insert(call.id.clone(), owner);
        }
    }

    /// What was begun does not count any more: its ids are free. What was thought stays, as clients keep it.
    pub(super) fn again(&mut self, input: &RunAgentInput) {
        let old = std::mem::replace(self, Self::new(input));
        (self.spans, self.reasoners) = (old.spans, old.reasoners);
        (self.past, self.past_calls) = (old.past, old.past_calls);
        for (id, message) in &old.messages {
            let was = (message.kind, message.owner.clone());
            self.past.insert(id.clone(), was);
        }
        let calls = old.known.into_iter();
        let calls = calls.filter(|((kind, _), _)| *kind == Kind::Call);
        self.past_calls.extend(old.before);
        self.past_calls
            .extend(calls.map(|(_, call)| (call.id, call.owner)));
        let thoughts = old.messages.into_iter();
        self.messages
            .extend(thoughts.filter(|(_, it)| it.kind == Held::Thought));
    }

    /// How many things the run has begun.
    pub(super) fn len(&self) -> usize {
        self.known.len().max(self.messages.len())
    }

    pub(super) fn get(&self, kind: Kind, given: &str) -> Option<&Entity> {
        self.known.get(&(kind, given.to_owned()))
    }

    pub(super) fn is_open(&self, kind: Kind, given: &str) -> bool {
        self.get(kind, given).is_some_and(|it| it.is_open)
    }

    /// Whether there was such a call before, or there was one that has ended.
    pub(super) fn is_past_call(&self, given: &str) -> bool {
        match self.get(Kind::Call, given) {
            Some(call) => !call.is_open,
            None => self.before.contains_key(given),
        }
    }

    /// Ends what is open, and gives it as it is told.
    pub(super) fn close(&mut self, kind: Kind, given: &str) -> Option<Entity> {
        let entity = self.known.get_mut(&(kind, given.to_owned()))?;
        let was_open = std::mem::replace(&mut entity.is_open, false);
        was_open.then(|| entity.clone())
    }

    /// An id that nothing has.
    fn mint(&mut self, base: &str) -> String {
        let base = match base.is_empty() {
            true => &self.run_id,
            false => base,
        };
        let base: String = base.chars().take(super::order::MOST_ID / 8).collect();
        loop {
            self.minted += 1;
            let id = format!("{base}-{}", self.minted);
            let is_call = self.known.contains_key(&(Kind::Call, id.clone()));
            let is_past = self.past.contains_key(&id) || self.past_calls.contains_key(&id);
            if !self.messages.contains_key(&id) && !self.spans.contains(&id) && !is_call && !is_past
            {
                return id;
            }
        }
    }

    /// Whether an id can be this: no attempt before had it as something else, or as another's.
    fn is_free(&self, id: &str, kind: Held, owner: Option<&String>) -> bool {
        let was = self.past.get(id);
        was.is_none_or(|(was, whose)| *was == kind && whose.as_ref() == owner)
    }

    fn begin(&mut self, kind: Kind, given: &str, id: String, owner: Option<String>) -> Entity {
        let entity = Entity {
            id,
            owner,
            is_open: true,
        };
        self.known.insert((kind, given.to_owned()), entity.clone());
        entity
    }

    fn take(&mut self, id: &str, kind: Held, owner: Option<String>, is_bare: bool) {
        let taken = Taken {
            kind,
            owner,
            is_bare,
        };
        self.messages.insert(id.to_owned(), taken);
    }

    /// Begins a text; one of an assistant may be that of a message which a call has made.
    pub(super) fn text(
        &mut self,
        given: &str,
        owner: Option<String>,
        is_assistant: bool,
    ) -> Entity {
        let kind = match is_assistant {
            true => Held::Assistant,
            false => Held::Other,
        };
        let is_first = self.get(Kind::Text, given).is_none() && !given.is_empty();
        let (id, owner) = match self.messages.get(given) {
            None if is_first && self.is_free(given, kind, owner.as_ref()) => {
                (given.to_owned(), owner)
            }
            Some(taken) if is_first && taken.is_bare && is_assistant => {
                (given.to_owned(), taken.owner.clone())
            }
            _ => (self.mint(given), owner),
        };
        self.take(&id, kind, owner.clone(), false);
        self.begin(Kind::Text, given, id, owner)
    }

    /// Begins a reasoning message or a span.
    pub(super) fn reasoning(&mut self, kind: Kind, given: &str, owner: Option<String>) -> Entity {
        let is_taken = match kind {
            Kind::Span => self.spans.contains(given),
            _ => {
                let was = self.past.get(given);
                self.messages.contains_key(given) || was.is_some_and(|it| it.0 != Held::Thought)
            }
        };
        let id = match is_taken || given.is_empty() {
            true => self.mint(given),
            false => given.to_owned(),
        };
        let owner = self.reasoners.entry(id.clone()).or_insert(owner).clone();
        match kind {
            Kind::Span => {
                self.spans.insert(id.clone());
            }
            _ => self.take(&id, Held::Thought, owner.clone(), false),
        }
        self.begin(kind, given, id, owner)
    }

    /// Begins a call, and says in which message it stands: none, where the call's own id is the message's.
    pub(super) fn call(
        &mut self,
        given: &str,
        parent: Option<&str>,
        owner: Option<String>,
    ) -> (Entity, Option<String>) {
        // The message may have been told under another id.
        let parent = parent.filter(|it| !it.is_empty()).map(|parent| {
            let told = self.get(Kind::Text, parent);
            told.map_or_else(|| parent.to_owned(), |it| it.id.clone())
        });
        let there = parent.as_ref().and_then(|it| self.messages.get(it));
        let owner = owner.or_else(|| there.and_then(|it| it.owner.clone()));
        let was = self.past_calls.get(given);
        let is_others = was.is_some_and(|was| *was != owner);
        let is_free = |it: &String| self.is_free(it, Held::Assistant, owner.as_ref());
        let fits = match there {
            Some(it) => it.kind == Held::Assistant && it.owner == owner,
            None => parent.as_ref().is_none_or(is_free),
        };
        let id = match given.is_empty() || is_others {
            true => self.mint(given),
            false => given.to_owned(),
        };
        let is_free = self.is_free(&id, Held::Assistant, owner.as_ref());
        let is_taken = self.messages.contains_key(&id) || !is_free;
        let parent = match parent.filter(|_| fits) {
            None if is_taken => Some(self.mint(&id)),
            parent => parent,
        };
        let holder = parent.as_ref().unwrap_or(&id).clone();
        if !self.messages.contains_key(&holder) {
            self.take(&holder, Held::Assistant, owner.clone(), true);
        }
        (self.begin(Kind::Call, given, id, owner), parent)
    }

    /// The id under which a call is told.
    pub(super) fn call_id(&self, given: &str) -> String {
        let call = self.get(Kind::Call, given);
        call.map_or_else(|| given.to_owned(), |it| it.id.clone())
    }

    /// The id of the message that an answer of a tool becomes; none, when it has been told.
    pub(super) fn answer(
        &mut self,
        given: &str,
        call: &str,
        owner: Option<String>,
    ) -> Option<String> {
        if self.answers.get(given).is_some_and(|it| it == call) {
            return None;
        }
        let is_free = self.is_free(given, Held::Other, owner.as_ref());
        let id = match given.is_empty() || self.messages.contains_key(given) || !is_free {
            true => self.mint(given),
            false => given.to_owned(),
        };
        self.take(&id, Held::Other, owner, false);
        for known in [given, &id] {
            self.answers.insert(known.to_owned(), call.to_owned());
        }
        Some(id)
    }

    /// Begins an activity or goes on with it.
    pub(super) fn activity(
        &mut self,
        given: &str,
        owner: Option<String>,
        replaces: bool,
    ) -> Entity {
        let known = self.known_activity(given);
        match known {
            Some(mut known) => {
                if replaces {
                    known.owner = owner;
                }
                self.take(&known.id, Held::Activity, known.owner.clone(), false);
                self.begin(Kind::Activity, given, known.id, known.owner)
            }
            None => {
                let is_free = self.is_free(given, Held::Activity, owner.as_ref());
                let is_taken = given.is_empty() || self.messages.contains_key(given) || !is_free;
                let id = match is_taken {
                    true => self.mint(given),
                    false => given.to_owned(),
                };
                self.take(&id, Held::Activity, owner.clone(), false);
                self.begin(Kind::Activity, given, id, owner)
            }
        }
    }

    /// An activity that there is, of this run or from before it.
    pub(super) fn known_activity(&self, given: &str) -> Option<Entity> {
        let known = self.get(Kind::Activity, given);
        let id = known.map_or(given, |it| it.id.as_str());
        // A snapshot may have put something else in its place.
        let there = self.messages.get(id)?;
        (there.kind == Held::Activity).then(|| Entity {
            id: id.to_owned(),
            owner: there.owner.clone(),
            is_open: true,
        })
    }

    /// Gives the messages of a snapshot the ids under which they are told; messages and calls once each.
    pub(super) fn renamed(&mut self, messages: Vec<Message>) -> Vec<Message> {
        let (mut seen, mut calls) = (HashSet::new(), HashSet::new());
        let mut told = Vec::with_capacity(messages.len());
        for mut message in messages {
            let kind = kind(&message);
            let known = kind.and_then(|kind| self.get(kind, &message.id));
            // Another's message of the same id is another.
            let known = known.filter(|known| {
                let there = self.messages.get(&known.id);
                there.is_some_and(|it| it.kind == held(&message.said))
            });
            if let Some(known) = known {
                message.id.clone_from(&known.id);
            }
            // What a tool answers may have the id of the message that called it.
            let is_again = kind.is_none() && seen.contains(&message.id);
            if message.id.is_empty() || is_again {
                message.id = self.mint(&message.id);
            }
            if seen.insert(message.id.clone()) {
                if let Said::Assistant { tool_calls, .. } = &mut message.said {
                    tool_calls.retain(|it| calls.insert(it.id.clone()));
                }
                told.push(message);
            }
        }
        told
    }

    /// Whether a message of a snapshot is what stands under its id.
    pub(super) fn is_same(&self, message: &Message) -> bool {
        let there = self.messages.get(&message.id);
        there.is_some_and(|it| it.kind == held(&message.said))
    }

    /// Takes over what a snapshot says, and whose it says that things are.
    pub(super) fn restated(&mut self, messages: &[Message]) {
        let mut owners = HashMap::new();
        for message in messages {
            let owner = &message.subagent_run_id;
            if let Some(kind) = kind(message) {
                owners.insert((kind, message.id.as_str()), owner);
            }
            for call in message.tool_calls() {
                owners.insert((Kind::Call, call.id.as_str()), owner);
            }
        }
        for ((kind, _), entity) in &mut self.known {
            let kind = match kind {
                Kind::Span => Kind::Thought,
                kind => *kind,
            };
            if let Some(owner) = owners.get(&(kind, entity.id.as_str())) {
                entity.owner.clone_from(owner);
            }
        }
        for message in messages {
            self.keep(message);
        }
    }
}

fn held(said: &Said) -> Held {
    match said {
        Said::Assistant { .. } => Held::Assistant,
        Said::Reasoning { .. } => Held::Thought,
        Said::Activity { .. } => Held::Activity,
        _ => Held::Other,
    }
}

/// What a message can be begun as; none: what a tool answers, which comes whole.
pub(super) fn kind(message: &Message) -> Option<Kind> {
    match &message.said {
        Said::Reasoning { .. } => Some(Kind::Thought),
        Said::Activity { .. } => Some(Kind::Activity),
        Said::Tool { .. } => None,
        _ => Some(Kind::Text),
    }
}
