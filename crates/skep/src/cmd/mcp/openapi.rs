//! Descriptions of web APIs: read from a file, and what became of one.

use std::path::Path;

use serde_json::Value;
use skep_api::McpServer;

use super::{plain, text_of};
use crate::failure::{Failure, Result};
use crate::output::Output;

/// The longest file, in bytes: YAML, and JSON with spaces, say more than what is sent.
const MOST_TEXT: u64 = 8 << 20;

/// Reads a description.
pub(super) fn read(path: &Path) -> Result<Value> {
    let failed = |why: String| Failure::usage(format!("{}: {why}", path.display()));
    let text = text_of(path, (MOST_TEXT, "8 MiB"))?;
    match text.trim_start().starts_with('{') {
        true => serde_json::from_str(&text).map_err(|error| failed(error.to_string())),
        false => serde_saphyr::from_str(&text).map_err(|error| failed(error.to_string())),
    }
}

/// Tells what of a web API is no tool.
pub(super) fn tell(output: &Output, made: &McpServer) {
    let Some(api) = &made.api else {
        return;
    };
    for left in &api.left_out {
        let (operation, why) = (plain(&left.operation), plain(&left.why));
        output.note(&format!("Left out: {operation}: {why}"));
    }
    output.note(&format!("{} operations are tools.", api.operations));
}
