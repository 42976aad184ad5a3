//! Problem documents (RFC 9457), the form of every error.

use serde::{Deserialize, Serialize};
use skep_core::PublicError;
use utoipa::ToSchema;

/// What went wrong and what to do about it. Sent as `application/problem+json`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Problem {
    /// Where the code is documented, relative to the server: `/docs/errors/agent-not-found`.
    #[serde(rename = "type")]
    pub type_uri: String,
    /// A short summary that is the same for every occurrence.
    pub title: String,
    /// The HTTP status.
    pub status: u16,
    /// What happened this time.
    pub detail: String,
    /// The stable code.
    pub code: String,
    /// The id of the request, to look up in the server's log.
    pub request_id: String,
    /// The next thing to do.
    pub hint: String,
}

impl Problem {
    /// The document for an error of this request.
    #[must_use]
    pub fn new(error: &dyn PublicError, request_id: &str) -> Self {
        let code = error.code();
        Self {
            type_uri: format!("/docs/errors/{}", code.as_str()),
            title: code.title().to_owned(),
            status: code.status(),
            detail: error.detail(),
            code: code.as_str().to_owned(),
            request_id: request_id.to_owned(),
            hint: error.hint(),
        }
    }
}
