//! Cursor paging: every list is a page with the cursor of the next one.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// One page of a list. Ask again with `?cursor=` of `next` until there is none.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct Page<T> {
    /// The rows, in the list's order.
    pub items: Vec<T>,
    /// The cursor of the next page; absent on the last.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub next: Option<String>,
}
