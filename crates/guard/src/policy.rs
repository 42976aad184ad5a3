//! Policies: Cedar text in, decisions out.
//!
//! `ask` has the words of a question, `actions` what can be asked for, `text` checks what somebody
//! wrote, `slice` is what holds in one workspace, compiled. `service` keeps versions in the store and
//! slices in memory. `explain`, `suite` and `simulate` are for people who write policies; they are
//! pure, as is all but `service`.

mod actions;
mod ask;
mod explain;
mod rows;
mod service;
mod simulate;
mod slice;
mod suite;
mod text;

#[cfg(test)]
mod policy_tests;

use skep_core::{Code, PublicError};
use skep_store::StoreError;

pub use actions::{DEFAULT, SCHEMA, actions, groups_of};
pub use ask::{
    Agent, Ask, Circumstances, Principal, PrincipalKind, Resource, Role, Scopes, Secret, Sent, Tool,
};
pub use explain::{Explanation, Near, explain};
pub use rows::MIGRATIONS;
pub use service::{Change, Policies, Stored, Version};
pub use simulate::{Differs, Past, Simulation, simulate};
pub use slice::{Decision, Slice};
pub use suite::{Case, Outcome, Question, Suite};
pub use text::{MOST_POLICIES, MOST_TEXT, PolicyText, Wrong, validate};

/// What can be wrong with a change of policies, or keep a question from its answer.
#[derive(Debug, thiserror::Error)]
pub enum PolicyError {
    /// The text is not one of valid policies.
    #[error("the policies are not valid: {}", .0.iter().map(ToString::to_string).collect::<Vec<_>>().join("; "))]
    Invalid(Vec<Wrong>),
    /// Nobody could change the policies any more.
    #[error("{}", locked_out(.0))]
    LocksOut(Vec<String>),
    /// Somebody else changed them meanwhile.
    #[error("version {expected} was to be changed, but {current} holds now")]
    Conflict {
        /// What was thought to hold.
        expected: u64,
        /// What holds.
        current: u64,
    },
    /// There is no such version.
    #[error("there is no version {0} of the policies")]
    NoVersion(u64),
    /// The store could not do it.
    #[error("the store failed")]
    Store(#[from] StoreError),
}

fn locked_out(policies: &[String]) -> String {
    let by = match policies {
        [] => "nothing would allow it".to_owned(),
        some => format!("forbidden by {}", some.join(", ")),
    };
    format!("no owner could change the policies any more (policy:write, {by})")
}

impl PublicError for PolicyError {
    fn code(&self) -> Code {
        match self {
            Self::Invalid(_) => Code::PolicyInvalid,
            Self::LocksOut(_) => Code::PolicyLocksOut,
            Self::Conflict { .. } => Code::PolicyConflict,
            Self::NoVersion(_) => Code::PolicyNotFound,
            Self::Store(error) => error.code(),
        }
    }

    fn detail(&self) -> String {
        match self {
            Self::Store(error) => error.detail(),
            other => other.to_string(),
        }
    }

    fn retry_after_s(&self) -> Option<u64> {
        match self {
            Self::Store(error) => error.retry_after_s(),
            _ => None,
        }
    }
}
