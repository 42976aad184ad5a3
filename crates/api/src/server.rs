//! The servers that share a database.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// One server that lives.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct Server {
    /// Which one, over all its starts.
    pub id: String,
    /// Where the others reach it.
    pub url: String,
    /// The number of its start; it stands in the attempts of the calls that it ran.
    pub epoch: i64,
    /// How many agents it has.
    pub agents: u32,
    /// When it started.
    pub started_at: String,
    /// Whether it does what one of them is to do, such as forgetting old calls.
    pub leads: bool,
    /// Whether it is the one that answers.
    pub this: bool,
}
