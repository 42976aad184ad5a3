//! Descriptions of web APIs: read from a file, and what became of one.

use std::io::Read as _;
use std::path::Path;

use serde_json::Value;
use skep_api::McpServer;

use super::plain;
use crate::failure::{Failure, Result};
use crate::output::Output;

/// The longest file, in bytes: YAML, and JSON with spaces, say more than what is sent.
const MOST_TEXT: u64 = 8 << 20;

/// Reads a description.
pub(super) fn read(path: &Path) -> Result<Value> {
    let failed = |why: String| Failure::usage(format!("{}: {why}", path.display()));
    let source: Box<dyn std::io::Read> = match path.to_str() {
        Some("-") => Box::new(std::io::stdin()),
        _ => {
            let file = std::fs::File::open(path);
            Box::new(file.map_err(|error| failed(error.to_string()))?)
        }
    };
    let mut text = String::new();
    let read = source.take(MOST_TEXT + 1).read_to_string(&mut text);
    read.map_err(|error| failed(error.to_string()))?;
    if text.len() as u64 > MOST_TEXT {
        return Err(failed("it has more than 8 MiB".to_owned()));
    }
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
