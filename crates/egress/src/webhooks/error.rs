//! What goes wrong with webhooks.

use skep_core::{Code, PublicError, Timestamp};
use skep_store::StoreError;

/// Why something is not done.
#[derive(Debug, thiserror::Error)]
pub enum WebhookError {
    /// What was asked for is wrong.
    #[error("`{field}`: {why}")]
    Invalid {
        /// Where.
        field: &'static str,
        /// Why.
        why: String,
    },
    /// There is no such endpoint.
    #[error("there is no webhook endpoint `{0}`")]
    NotFound(String),
    /// There is no such message.
    #[error("there is no message `{0}`")]
    NoMessage(String),
    /// There is one of that name.
    #[error("a webhook endpoint `{0}` was made meanwhile")]
    Exists(String),
    /// It is off, so that nothing is sent.
    #[error("the webhook endpoint `{0}` is off")]
    Off(String),
    /// Two keys sign its messages, and a third would end one of them early.
    #[error("messages to `{0}` are signed with the key before, too, until {1}")]
    Rotating(String, Timestamp),
    /// The workspace has as many as it may.
    #[error("a workspace has {0} webhook endpoints at most")]
    TooMany(u64),
    /// What happens cannot be followed.
    #[error("what happens cannot be followed: {0}")]
    Feed(String),
    /// The store's own.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl WebhookError {
    pub(crate) fn invalid(field: &'static str, why: impl Into<String>) -> Self {
        Self::Invalid {
            field,
            why: why.into(),
        }
    }
}

impl PublicError for WebhookError {
    fn code(&self) -> Code {
        match self {
            Self::Invalid { .. } | Self::TooMany(_) => Code::BadRequest,
            Self::NotFound(_) | Self::NoMessage(_) => Code::WebhookNotFound,
            Self::Exists(_) | Self::Off(_) | Self::Rotating(..) => Code::WebhookState,
            Self::Feed(_) => Code::StoreUnavailable,
            Self::Store(error) => error.code(),
        }
    }

    fn detail(&self) -> String {
        match self {
            Self::Store(error) => error.detail(),
            Self::Feed(_) => "what happens cannot be followed now".to_owned(),
            other => other.to_string(),
        }
    }

    fn hint(&self) -> String {
        match self {
            Self::Store(error) => error.hint(),
            Self::Rotating(..) => {
                "Wait until then, or say `--overlap 0s`: then the new key alone signs at once."
                    .to_owned()
            }
            Self::TooMany(_) => "Remove one: `skep webhooks list` shows them.".to_owned(),
            other => other.code().hint().to_owned(),
        }
    }

    fn retry_after_s(&self) -> Option<u64> {
        match self {
            Self::Feed(_) => Some(1),
            Self::Store(error) => error.retry_after_s(),
            _ => None,
        }
    }
}
