//! What the runtime can refuse, and what it shows of that.

use skep_core::{Code, PublicError};
use skep_store::StoreError;

use crate::driver::DriverError;

/// Seconds after which a driver that was not there may be.
const UNAVAILABLE_RETRY_S: u64 = 5;

/// An error of the runtime.
#[derive(Debug, Clone, thiserror::Error)]
pub enum RuntimeError {
    /// There is no agent of this name.
    #[error("there is no agent `{name}`")]
    AgentNotFound {
        /// The name that was asked for.
        name: String,
        /// A deployed agent's name that is close to it.
        similar: Option<String>,
    },
    /// The agent has no such revision.
    #[error("`{agent}` has no revision {number}")]
    RevisionNotFound {
        /// The agent.
        agent: String,
        /// The number that was asked for.
        number: u32,
    },
    /// A field of a specification is wrong.
    #[error("`{field}`: {reason}")]
    InvalidSpec {
        /// The field, as a path in the document.
        field: String,
        /// What is wrong and what to write instead.
        reason: String,
    },
    /// The agent is not in a state that allows this.
    #[error("`{name}` {reason}")]
    State {
        /// The agent.
        name: String,
        /// What is so.
        reason: &'static str,
        /// The next thing to do.
        hint: &'static str,
    },
    /// The workspace has as much as it may.
    #[error("the workspace may have {most} {what}")]
    Quota {
        /// What is counted.
        what: &'static str,
        /// How many there may be.
        most: u32,
    },
    /// Another server has the agent, or takes it just now.
    #[error("another server has `{0}`")]
    Elsewhere(String),
    /// The runtime is ending; it starts nothing any more.
    #[error("the runtime is shutting down")]
    ShuttingDown,
    /// The driver could not do it.
    #[error("the driver failed")]
    Driver(#[from] DriverError),
    /// The store could not do it.
    #[error("the store failed")]
    Store(#[from] StoreError),
}

impl RuntimeError {
    /// An [`RuntimeError::InvalidSpec`].
    pub fn spec(field: impl Into<String>, reason: impl Into<String>) -> Self {
        Self::InvalidSpec {
            field: field.into(),
            reason: reason.into(),
        }
    }
}

impl PublicError for RuntimeError {
    fn code(&self) -> Code {
        match self {
            Self::AgentNotFound { .. } => Code::AgentNotFound,
            Self::RevisionNotFound { .. } => Code::RevisionNotFound,
            Self::InvalidSpec { .. } => Code::InvalidSpec,
            Self::Elsewhere(_) => Code::AgentElsewhere,
            Self::State { .. } => Code::AgentState,
            Self::Quota { .. } => Code::QuotaExceeded,
            Self::ShuttingDown => Code::ShuttingDown,
            Self::Driver(DriverError::Unavailable(_)) => Code::DriverUnavailable,
            Self::Driver(_) => Code::Internal,
            Self::Store(error) => error.code(),
        }
    }

    fn detail(&self) -> String {
        match self {
            Self::AgentNotFound { name, .. } => format!("There is no agent `{name}`."),
            Self::RevisionNotFound { agent, number } => match number {
                0 => format!("`{agent}` has no revision before its first."),
                _ => format!("`{agent}` has no revision {number}."),
            },
            Self::InvalidSpec { field, reason } => format!("`{field}`: {reason}"),
            Self::State { name, reason, .. } => format!("`{name}` {reason}."),
            Self::Quota { what, most } => format!("The workspace may have {most} {what}."),
            Self::Elsewhere(agent) => format!("Another server has `{agent}`."),
            Self::Driver(DriverError::Unavailable(what)) => format!("{what}."),
            Self::ShuttingDown | Self::Driver(_) => self.code().title().to_owned(),
            Self::Store(error) => error.detail(),
        }
    }

    fn hint(&self) -> String {
        match self {
            Self::AgentNotFound {
                similar: Some(similar),
                ..
            } => format!("Did you mean `{similar}`?"),
            Self::State { hint, .. } => (*hint).to_owned(),
            _ => self.code().hint().to_owned(),
        }
    }

    fn retry_after_s(&self) -> Option<u64> {
        match self {
            Self::Store(error) => error.retry_after_s(),
            Self::Elsewhere(_) => Some(1),
            Self::Driver(DriverError::Unavailable(_)) => Some(UNAVAILABLE_RETRY_S),
            _ => None,
        }
    }
}
