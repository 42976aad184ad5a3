//! Lines of an agent's log as the API streams them, one JSON object a line.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// A line that an agent wrote, or that Skep wrote about it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct LogLine {
    /// When it was written.
    pub time: String,
    /// Where it comes from: `stdout`, `stderr`, or `skep` for what the supervisor did.
    pub stream: String,
    /// The instance that it is about, `ins_…`.
    pub instance: String,
    /// The text, without the line's end.
    pub text: String,
}
