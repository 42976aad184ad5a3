//! Why a request does not go out, or nothing comes back.

use skep_core::{Code, PublicError};
use skep_store::StoreError;

use crate::EgressError;

/// Why nothing was let out.
#[derive(Debug, thiserror::Error)]
pub enum WebError {
    /// A field is not as it may be.
    #[error("`{field}`: {why}")]
    Invalid {
        /// Which.
        field: String,
        /// What is wrong with it, and what to write.
        why: String,
    },
    /// There is no such rule.
    #[error("there is no rule `{0}`")]
    NoSuchRule(String),
    /// No rule lets it out.
    #[error("{what}")]
    Denied {
        /// What was asked for, and what stands in its way.
        what: String,
        /// What to do.
        hint: String,
    },
    /// The secret of a rule is not to be had.
    #[error("the secret of the rule `{rule}` cannot be put in")]
    Credential {
        /// Of which rule.
        rule: String,
        /// Why; for the log.
        why: String,
    },
    /// TLS cannot be opened.
    #[error("TLS to {host} cannot be opened: {why}")]
    Closed {
        /// To whom.
        host: String,
        /// Why.
        why: String,
    },
    /// Whoever is asked does not answer.
    #[error("{host} does not answer as it should: {why}")]
    Unreachable {
        /// Who.
        host: String,
        /// Why.
        why: String,
    },
    /// The request is not one.
    #[error("{0}")]
    Bad(String),
    /// The body does not come.
    #[error("the body did not arrive in time")]
    Late,
    /// Of the ledger.
    #[error(transparent)]
    Egress(#[from] EgressError),
}

impl WebError {
    pub(crate) fn invalid(field: &str, why: impl Into<String>) -> Self {
        Self::Invalid {
            field: field.to_owned(),
            why: why.into(),
        }
    }
}

impl From<StoreError> for WebError {
    fn from(error: StoreError) -> Self {
        Self::Egress(error.into())
    }
}

impl PublicError for WebError {
    fn code(&self) -> Code {
        match self {
            Self::Invalid { .. } | Self::Bad(_) => Code::BadRequest,
            Self::Late => Code::RequestTimeout,
            Self::NoSuchRule(_) => Code::NotFound,
            Self::Denied { .. } => Code::WebDenied,
            Self::Credential { .. } => Code::WebCredential,
            Self::Closed { .. } => Code::WebClosed,
            Self::Unreachable { .. } => Code::WebUnreachable,
            Self::Egress(error) => error.code(),
        }
    }

    fn detail(&self) -> String {
        match self {
            Self::Egress(error) => error.detail(),
            other => other.to_string(),
        }
    }

    fn hint(&self) -> String {
        match self {
            Self::Denied { hint, .. } => hint.clone(),
            Self::NoSuchRule(_) => "`skep web list` shows those that there are.".to_owned(),
            Self::Egress(error) => error.hint(),
            other => other.code().hint().to_owned(),
        }
    }

    fn retry_after_s(&self) -> Option<u64> {
        match self {
            Self::Egress(error) => error.retry_after_s(),
            _ => None,
        }
    }
}
