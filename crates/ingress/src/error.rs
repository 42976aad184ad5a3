//! What the call door refuses, by public code.

use skep_core::{CallId, Code, PublicError};
use skep_store::StoreError;

use crate::quota::Over;

/// Seconds after which a client may try again when something is short-lived.
const SOON_S: u64 = 1;

/// An error of the call door.
#[derive(Debug, Clone, thiserror::Error)]
pub enum IngressError {
    /// No agent has this name.
    #[error("no agent is called `{name}`")]
    AgentNotFound {
        /// The name that was asked for.
        name: String,
        /// A name that is close to it.
        similar: Option<String>,
    },
    /// The agent is just being removed, or given to another server.
    #[error("the agent is on its way")]
    AgentMoves,
    /// The agent is stopped, and the client wanted to wait for the answer.
    #[error("the agent is stopped")]
    AgentStopped,
    /// The agent crashes again and again.
    #[error("the agent crashes again and again: {0}")]
    AgentCrashLoop(String),
    /// No instance is ready for a request that is not journaled.
    #[error("no instance is ready")]
    AgentNotReady,
    /// The agent did not answer a request that is not journaled.
    #[error("the agent did not answer: {0}")]
    AgentUnreachable(String),
    /// The agent was silent for too long on a request that is not journaled.
    #[error("the agent was silent for too long")]
    AgentTimeout,
    /// No call has this id.
    #[error("no such call")]
    CallNotFound,
    /// The call's state does not allow the action.
    #[error("call {call} is {state}")]
    CallState {
        /// Which one.
        call: CallId,
        /// Its state.
        state: &'static str,
    },
    /// The call with this idempotency key still runs.
    #[error("call {0} is still running")]
    CallInProgress(CallId),
    /// The call was cancelled.
    #[error("call {0} was cancelled")]
    CallCancelled(CallId),
    /// The call's deadline passed.
    #[error("the deadline of call {0} passed")]
    CallExpired(CallId),
    /// The call used up its attempts.
    #[error("call {call} is dead: {reason}")]
    CallDead {
        /// Which one.
        call: CallId,
        /// Why the last attempt did not end it.
        reason: String,
    },
    /// The idempotency key was used with another request.
    #[error("the idempotency key belongs to call {0}, which is another request")]
    IdempotencyKeyReused(CallId),
    /// The agent's queue is full.
    #[error("{0} calls wait already")]
    QueueFull(u32),
    /// The workspace has as much of calls as it may.
    #[error("{0}")]
    Quota(Over),
    /// The body is over the limit.
    #[error("the body is over {0} bytes")]
    BodyTooLarge(u64),
    /// The body did not arrive in time.
    #[error("the body did not arrive in time")]
    RequestTimeout,
    /// The request is malformed.
    #[error("{0}")]
    BadRequest(String),
    /// A field of the agent's `calls` is not valid.
    #[error("calls.{field}: {reason}")]
    InvalidPolicy {
        /// Which one.
        field: &'static str,
        /// What is wrong with it.
        reason: String,
    },
    /// The server is shutting down.
    #[error("the server is shutting down")]
    ShuttingDown,
    /// The disk is nearly full.
    #[error("less than {0} bytes are free on the disk")]
    DiskFull(u64),
    /// The store's own error.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl IngressError {
    /// The call that the error is about, for `Skep-Call-Id`.
    #[must_use]
    pub const fn call(&self) -> Option<CallId> {
        match self {
            Self::CallState { call, .. }
            | Self::CallInProgress(call)
            | Self::CallCancelled(call)
            | Self::CallExpired(call)
            | Self::CallDead { call, .. }
            | Self::IdempotencyKeyReused(call) => Some(*call),
            _ => None,
        }
    }
}

impl PublicError for IngressError {
    fn code(&self) -> Code {
        match self {
            Self::AgentNotFound { .. } => Code::AgentNotFound,
            Self::AgentMoves => Code::AgentElsewhere,
            Self::AgentStopped => Code::AgentStopped,
            Self::AgentCrashLoop(_) => Code::AgentCrashLoop,
            Self::AgentNotReady => Code::AgentNotReady,
            Self::AgentUnreachable(_) => Code::AgentUnreachable,
            Self::AgentTimeout => Code::AgentTimeout,
            Self::CallNotFound => Code::CallNotFound,
            Self::CallState { .. } => Code::CallState,
            Self::CallInProgress(_) => Code::CallInProgress,
            Self::CallCancelled(_) => Code::CallCancelled,
            Self::CallExpired(_) => Code::CallExpired,
            Self::CallDead { .. } => Code::CallDead,
            Self::IdempotencyKeyReused(_) => Code::IdempotencyKeyReused,
            Self::QueueFull(_) => Code::QueueFull,
            Self::Quota(Over::Bytes(_)) => Code::QuotaExceeded,
            Self::Quota(_) => Code::CallQuota,
            Self::BodyTooLarge(_) => Code::BodyTooLarge,
            Self::RequestTimeout => Code::RequestTimeout,
            Self::BadRequest(_) => Code::BadRequest,
            Self::InvalidPolicy { .. } => Code::InvalidSpec,
            Self::ShuttingDown => Code::ShuttingDown,
            Self::DiskFull(_) => Code::StoreUnavailable,
            Self::Store(error) => error.code(),
        }
    }

    fn detail(&self) -> String {
        match self {
            // What the store says holds paths and engine words: not for clients.
            Self::Store(error) => error.detail(),
            other => other.to_string(),
        }
    }

    fn hint(&self) -> String {
        match self {
            Self::AgentNotFound {
                similar: Some(similar),
                ..
            } => format!("Did you mean `{similar}`?"),
            Self::DiskFull(_) => {
                "Nothing was accepted. Free space on the disk, or lower `disk.min_free`.".to_owned()
            }
            _ => self.code().hint().to_owned(),
        }
    }

    fn retry_after_s(&self) -> Option<u64> {
        match self {
            Self::AgentNotReady
            | Self::AgentMoves
            | Self::QueueFull(_)
            | Self::Quota(Over::Waiting(_))
            | Self::ShuttingDown
            | Self::CallInProgress(_) => Some(SOON_S),
            Self::Quota(Over::PerDay(_, seconds)) => Some(*seconds),
            Self::AgentStopped | Self::AgentCrashLoop(_) | Self::DiskFull(_) => Some(10),
            Self::Store(error) => error.retry_after_s(),
            _ => None,
        }
    }
}
