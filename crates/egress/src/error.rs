//! What goes wrong on the way out.

use std::time::Duration;

use skep_core::{Code, PublicError};
use skep_store::StoreError;

/// Why nothing was let out, or nothing came back.
#[derive(Debug, thiserror::Error)]
pub enum EgressError {
    /// What was asked for is wrong.
    #[error("{0}")]
    Invalid(String),
    /// There is no such way out.
    #[error("{0}")]
    NotFound(String),
    /// There is no such prompt, or no such version or label of it.
    #[error("{0}")]
    NoPrompt(String),
    /// The model cannot be reached by what was asked.
    #[error("{0}")]
    NoModel(String),
    /// A budget has not enough left.
    #[error("the budget `{budget}` has not enough left for this request")]
    OverBudget {
        /// Which.
        budget: String,
        /// When there is more; never, for a total.
        rest: Option<Duration>,
    },
    /// The key of a provider cannot be had.
    #[error("the key of the provider `{provider}` cannot be had: {why}")]
    Key {
        /// Whose.
        provider: String,
        /// Why.
        why: String,
    },
    /// The provider does not answer.
    #[error("the provider `{provider}` does not answer: {why}")]
    Unreachable {
        /// Which.
        provider: String,
        /// Why.
        why: String,
    },
    /// What the provider answers is of no use to the client.
    #[error("the answer of the provider `{provider}` cannot be passed on: {why}")]
    Unusable {
        /// Whose.
        provider: String,
        /// Why.
        why: String,
    },
    /// A server of tools does not answer.
    #[error("the MCP server `{server}` does not answer: {why}")]
    ToolServer {
        /// Which.
        server: String,
        /// Why.
        why: String,
        /// How it ended, when it may have done what it was asked for; none: nothing was sent.
        sent: Option<String>,
    },
    /// A tool is blocked until somebody says yes to it.
    #[error("the tool `{tool}` is blocked: {why}")]
    ToolBlocked {
        /// Which, with its server.
        tool: String,
        /// Why.
        why: &'static str,
    },
    /// It is not let out.
    #[error("{0}")]
    Held(String),
    /// What is kept cannot be opened.
    #[error("{0}")]
    Closed(String),
    /// The body is larger than what is let out.
    #[error("the body has more than {0} bytes")]
    TooLarge(u64),
    /// The ledger cannot be written.
    #[error("the ledger cannot be written: {0}")]
    Ledger(String),
    /// More has ended than the store has taken in.
    #[error("the store is behind with what exchanges cost")]
    Busy,
    /// The store's own.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl PublicError for EgressError {
    fn code(&self) -> Code {
        match self {
            Self::Invalid(_) => Code::BadRequest,
            Self::NotFound(_) | Self::NoPrompt(_) => Code::NotFound,
            Self::NoModel(_) => Code::ModelNotFound,
            Self::OverBudget { .. } => Code::OverBudget,
            Self::Key { .. } => Code::ProviderKey,
            Self::Unreachable { .. } | Self::Unusable { .. } => Code::ProviderUnreachable,
            Self::ToolServer { .. } => Code::McpUnreachable,
            Self::ToolBlocked { .. } => Code::ToolBlocked,
            Self::Held(_) => Code::HeldBack,
            Self::Closed(_) => Code::VaultSealed,
            Self::TooLarge(_) => Code::BodyTooLarge,
            Self::Ledger(_) | Self::Busy => Code::StoreUnavailable,
            Self::Store(error) => error.code(),
        }
    }

    fn detail(&self) -> String {
        match self {
            Self::Store(error) => error.detail(),
            // Why is for the log: it tells of secrets, hosts and certificates.
            Self::Key { provider, .. } => {
                format!("the key of the provider `{provider}` cannot be had")
            }
            Self::Unreachable { provider, .. } | Self::Unusable { provider, .. } => {
                format!(
                    "the provider `{provider}` cannot be asked, or does not answer as it should"
                )
            }
            Self::ToolServer { server, .. } => {
                format!(
                    "the MCP server `{server}` cannot be asked, or does not answer as it should"
                )
            }
            // Where it lies is for the log.
            Self::Ledger(_) => "the ledger of what models cost cannot be written".to_owned(),
            other => other.to_string(),
        }
    }

    fn hint(&self) -> String {
        match self {
            Self::Store(error) => error.hint(),
            Self::OverBudget { rest: None, .. } => {
                "Raise the budget, or use another model: `skep models budgets` shows how all of them stand.".to_owned()
            }
            Self::OverBudget { .. } => {
                "Try again when its time is over, or raise it: `skep models budgets` shows how all of them stand."
                    .to_owned()
            }
            Self::NoPrompt(_) => {
                "`skep prompts list` shows the prompts that there are, and `skep prompts show NAME` versions and labels of one."
                    .to_owned()
            }
            other => other.code().hint().to_owned(),
        }
    }

    fn retry_after_s(&self) -> Option<u64> {
        match self {
            // Rounded up: a second too early is too early.
            Self::OverBudget { rest, .. } => rest.map(|it| it.as_secs() + 1),
            Self::Busy => Some(1),
            Self::Store(error) => error.retry_after_s(),
            _ => None,
        }
    }
}
