//! What a tool does to the world, and which tools of a server there are at all.

use std::fmt;

use crate::raw::Object;

/// What a tool does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Class {
    /// It looks.
    Read,
    /// It changes something.
    Write,
    /// It may do anything.
    Execute,
}

impl Class {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Read, Self::Write, Self::Execute];

    /// How it is written.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Read => "read",
            Self::Write => "write",
            Self::Execute => "execute",
        }
    }

    /// The class that a word means.
    #[must_use]
    pub fn named(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|it| it.as_str() == word)
    }

    /// What a server says that its tool does: a proposal, no more. Nothing said is the worst.
    #[must_use]
    pub fn proposed(definition: &Object<'_>) -> Self {
        let hints = definition.object("annotations");
        let hint = |name: &str| {
            let value = hints.as_ref()?.get(name)?;
            serde_json::from_str::<bool>(value.get()).ok()
        };
        match (hint("readOnlyHint"), hint("destructiveHint")) {
            (Some(true), _) => Self::Read,
            (_, Some(false)) => Self::Write,
            _ => Self::Execute,
        }
    }
}

impl fmt::Display for Class {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Whether a text is one that a pattern stands for: `*` is any text.
#[must_use]
pub fn fits(pattern: &str, text: &str) -> bool {
    let mut parts = pattern.split('*');
    let first = parts.next().unwrap_or_default();
    let Some(mut rest) = text.strip_prefix(first) else {
        return false;
    };
    let mut parts = parts.peekable();
    if parts.peek().is_none() {
        return rest.is_empty();
    }
    while let Some(part) = parts.next() {
        if parts.peek().is_none() {
            return rest.ends_with(part);
        }
        let Some((_, after)) = rest.split_once(part) else {
            return false;
        };
        rest = after;
    }
    true
}

/// Which tools of a server there are.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Rules {
    /// These alone; all, when there are none.
    pub allow: Vec<String>,
    /// Never these.
    pub deny: Vec<String>,
}

impl Rules {
    /// Whether there is this one.
    #[must_use]
    pub fn has(&self, tool: &str) -> bool {
        let any = |all: &[String]| all.iter().any(|it| fits(it, tool));
        (self.allow.is_empty() || any(&self.allow)) && !any(&self.deny)
    }
}
