//! What can go wrong between a client and a server.

use std::path::PathBuf;
use std::time::Duration;

use skep_api::Problem;

type Cause = Box<dyn std::error::Error + Send + Sync>;

/// Why a request has no answer.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// Skep refused, and says why.
    #[error("{}", problem.detail)]
    Problem {
        /// What it says.
        problem: Box<Problem>,
        /// When trying again may help.
        retry_after: Option<Duration>,
        /// The call that it is about.
        call: Option<String>,
    },
    /// No connection: nothing was sent.
    #[error("no server answers at {url}")]
    Unreachable {
        /// Where it was looked for.
        url: String,
        /// What the system said.
        source: Cause,
    },
    /// The connection was lost after the request was sent: what became of it is not known.
    #[error("the connection to {url} was lost")]
    Interrupted {
        /// The server.
        url: String,
        /// What was lost.
        source: Cause,
    },
    /// The answer did not come in time.
    #[error("no answer within {after:?}")]
    Timeout {
        /// How long it was waited for.
        after: Duration,
    },
    /// What answered does not speak as Skep does.
    #[error("{url} does not answer as a Skep server does: {detail}")]
    Protocol {
        /// Where the answer came from.
        url: String,
        /// What is wrong with it.
        detail: String,
    },
    /// The connection was lost while the answer came in, and what came before cannot be continued.
    /// The call's answer can still be read from its start.
    #[error("the answer of {call} cannot be continued where the connection was lost: {reason}")]
    Unresumable {
        /// The call.
        call: String,
        /// Why not.
        reason: &'static str,
    },
    /// The file that is the request's body cannot be read.
    #[error("{path} cannot be read", path = path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// Why not.
        source: std::io::Error,
    },
    /// The request cannot be put into words of HTTP.
    #[error("{0}")]
    Request(String),
    /// A certificate file cannot be used.
    #[error("{path}: {detail}", path = path.display())]
    Certificates {
        /// The file, or where the system keeps its own.
        path: PathBuf,
        /// What is wrong with it.
        detail: String,
    },
}

impl ClientError {
    /// The stable code of a refusal.
    #[must_use]
    pub fn code(&self) -> Option<&str> {
        match self {
            Self::Problem { problem, .. } => Some(&problem.code),
            _ => None,
        }
    }

    /// Whether the same request may be answered later: with an idempotency key it can be sent
    /// again as it is.
    #[must_use]
    pub fn is_retryable(&self) -> bool {
        match self {
            Self::Unreachable { .. } | Self::Interrupted { .. } | Self::Timeout { .. } => true,
            Self::Problem { problem, .. } => matches!(problem.status, 429 | 503),
            Self::Protocol { .. }
            | Self::Unresumable { .. }
            | Self::File { .. }
            | Self::Request(_)
            | Self::Certificates { .. } => false,
        }
    }
}
