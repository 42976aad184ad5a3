//! Pins: what somebody said yes to is a definition of a tool as a whole, name, words, schema and all. One that differs
//! in anything is another.

use std::fmt;

use sha2::{Digest, Sha256};
use skep_crypto::canonical;

use crate::class::Class;
use crate::era::can_repeat;
use crate::raw::{Object, strict};

/// The longest definition, in bytes.
const MOST: usize = 128 << 10;
/// The longest name, in bytes.
const MOST_NAME: usize = 128;

/// The SHA-256 over the RFC 8785 form of a definition.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Pin(pub [u8; 32]);

impl fmt::Display for Pin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

/// Why a definition is none.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NoDefinition {
    /// Too large.
    #[error("it has more than {MOST} bytes")]
    Large,
    /// More than one meaning, or none.
    #[error("{0}")]
    Unclear(String),
    /// No name that can be used.
    #[error("its name is not 1 to {MOST_NAME} visible characters of ASCII")]
    Name,
    /// Headers that cannot say what they are to say.
    #[error("its `x-mcp-header` are none that headers can say")]
    Headers,
}

/// A definition of a tool, as its server says it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Definition {
    /// The tool's name.
    pub name: String,
    /// What it says that it does.
    pub proposed: Class,
    /// What it is known by.
    pub pin: Pin,
}

impl Definition {
    /// Reads one.
    ///
    /// # Errors
    /// [`NoDefinition`].
    pub fn read(text: &str) -> Result<Self, NoDefinition> {
        if text.len() > MOST {
            return Err(NoDefinition::Large);
        }
        let value = strict(text).map_err(NoDefinition::Unclear)?;
        let unclear = || NoDefinition::Unclear("it is no object".to_owned());
        let fields = Object::parse(text).ok_or_else(unclear)?;
        let name = fields.text("name").unwrap_or_default();
        if name.is_empty()
            || name.len() > MOST_NAME
            || !name.bytes().all(|it| it.is_ascii_graphic())
            || name.starts_with(':')
        {
            return Err(NoDefinition::Name);
        }
        if !can_repeat(&fields) {
            return Err(NoDefinition::Headers);
        }
        let mut form = String::new();
        canonical::write(&value, &mut form);
        Ok(Self {
            name,
            proposed: Class::proposed(&fields),
            pin: Pin(Sha256::digest(form.as_bytes()).into()),
        })
    }
}

/// How a tool stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// Nobody said yes yet.
    New,
    /// Somebody said yes to what it is.
    Approved,
    /// It is no longer what somebody said yes to.
    Changed,
    /// Its server does not have it any more.
    Gone,
}

impl State {
    /// By what was approved, and what the server says now.
    #[must_use]
    pub fn of(approved: Option<Pin>, seen: Option<Pin>) -> Self {
        match (approved, seen) {
            (_, None) => Self::Gone,
            (None, Some(_)) => Self::New,
            (Some(approved), Some(seen)) if approved == seen => Self::Approved,
            (Some(_), Some(_)) => Self::Changed,
        }
    }

    /// How it is shown.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::New => "new",
            Self::Approved => "approved",
            Self::Changed => "changed",
            Self::Gone => "gone",
        }
    }
}
