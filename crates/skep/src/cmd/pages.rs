//! Completion scripts, manual pages, and the documents of the book that are made from the code.

use std::ffi::OsString;
use std::io::Write;
use std::process::ExitCode;

use clap::{Command, CommandFactory};
use serde_json::{Value, json};

use crate::cli::{Cli, CompletionsArgs, ManArgs};
use crate::failure::{Exit, Failure, Result};
use crate::session::Session;

pub(crate) fn completions(session: &Session, args: &CompletionsArgs) -> Result {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut Cli::command(), "skep", &mut script);
    session.output.raw(&script)
}

pub(crate) fn man(session: &Session, args: &ManArgs) -> Result {
    let command = Cli::command();
    let Some(folder) = &args.dir else {
        let mut page = Vec::new();
        clap_mangen::Man::new(command).render(&mut page)?;
        return session.output.raw(&page);
    };
    let failed = |error: std::io::Error| Failure::plain(format!("{}: {error}", folder.display()));
    std::fs::create_dir_all(folder).map_err(failed)?;
    clap_mangen::generate_to(command, folder).map_err(failed)?;
    session
        .output
        .say(&format!("The pages are in {}.", folder.display()))
}

/// Columns of the help texts in the book.
const WIDTH: usize = 80;

/// `skep __document openapi|config|cli|manifest`, for `cargo xtask generate`.
pub(crate) fn document(which: Option<&OsString>) -> ExitCode {
    let text = match which.and_then(|word| word.to_str()) {
        Some("openapi") => skep_server::openapi(),
        Some("config") => skep_core::config::reference_markdown(),
        Some("cli") => reference(),
        Some("manifest") => manifest_schema(),
        _ => return Exit::Usage.into(),
    };
    match std::io::stdout().write_all(text.as_bytes()) {
        Ok(()) => Exit::Ok.into(),
        Err(_) => Exit::Failure.into(),
    }
}

/// The JSON Schema of manifests, for editors: the API's own schemas, with what is round them in a
/// file.
fn manifest_schema() -> String {
    let document: Value = serde_json::from_str(&skep_server::openapi()).unwrap_or_default();
    let mut schemas = document["components"]["schemas"].clone();
    local_references(&mut schemas);
    let mut needed = serde_json::Map::new();
    collect("AgentSpec", &schemas, &mut needed);
    let kind = |name: &str| json!({ "const": name });
    let version = kind(crate::manifest::API_VERSION);
    let mut agent = needed.get("AgentSpec").cloned().unwrap_or_default();
    agent["properties"]["apiVersion"] = version.clone();
    agent["properties"]["kind"] = kind("Agent");
    let texts = json!({ "type": "object", "additionalProperties": { "type": "string" } });
    let stack = json!({
        "type": "object",
        "description": "Agents that belong together.",
        "required": ["kind", "name", "agents"],
        "additionalProperties": false,
        "properties": {
            "apiVersion": version,
            "kind": kind("Stack"),
            "name": { "type": "string" },
            "labels": texts,
            "env": texts,
            "agents": { "type": "array", "items": { "$ref": "#/$defs/AgentSpec" } },
        },
    });
    let schema = json!({
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "A Skep manifest",
        "oneOf": [agent, stack],
        "$defs": needed,
    });
    format!("{schema:#}\n")
}

fn local_references(value: &mut Value) {
    match value {
        Value::String(text) => {
            if let Some(name) = text.strip_prefix("#/components/schemas/") {
                *text = format!("#/$defs/{name}");
            }
        }
        Value::Array(items) => items.iter_mut().for_each(local_references),
        Value::Object(map) => map.values_mut().for_each(local_references),
        _ => {}
    }
}

/// A schema and all that it refers to.
fn collect(name: &str, schemas: &Value, out: &mut serde_json::Map<String, Value>) {
    fn references(value: &Value, out: &mut Vec<String>) {
        match value {
            Value::String(text) => {
                out.extend(text.strip_prefix("#/$defs/").map(str::to_owned));
            }
            Value::Array(items) => items.iter().for_each(|item| references(item, out)),
            Value::Object(map) => map.values().for_each(|item| references(item, out)),
            _ => {}
        }
    }
    if out.contains_key(name) {
        return;
    }
    out.insert(name.to_owned(), schemas[name].clone());
    let mut found = Vec::new();
    references(&schemas[name], &mut found);
    for name in found {
        collect(&name, schemas, out);
    }
}

/// Every help text under the name of its verb.
pub(crate) fn helps() -> Vec<(String, String)> {
    fn collect(command: &Command, path: &str, out: &mut Vec<(String, String)>) {
        let mut alone = command.clone().term_width(WIDTH).bin_name(path);
        let help = alone.render_long_help().to_string();
        let lines = help.lines().map(|line| format!("{}\n", line.trim_end()));
        out.push((path.to_owned(), lines.collect()));
        for inner in command
            .get_subcommands()
            .filter(|inner| !inner.is_hide_set())
        {
            collect(inner, &format!("{path} {}", inner.get_name()), out);
        }
    }
    let mut command = Cli::command();
    command.build();
    let mut out = Vec::new();
    collect(&command, "skep", &mut out);
    out
}

fn reference() -> String {
    let mut out = String::from(
        "# Command line\n\n<!-- Generated from crates/skep/src/cli.rs; `cargo xtask ci` compares. -->\n\n\
         Exit codes: 0 ok, 1 failure, 2 usage, 3 cancelled, 4 auth, 5 a watched thing failed,\n\
         8 timeout, 130 interrupted. Errors go to standard error; with `-o json` as JSON.\n",
    );
    for (path, help) in helps() {
        // The global options are the same everywhere: the first help has them.
        let own = match path.as_str() {
            "skep" => help.as_str(),
            _ => help.split("\nGlobal options:").next().unwrap_or_default(),
        };
        out.push_str(&format!(
            "\n## `{path}`\n\n```text\n{}\n```\n",
            own.trim_end()
        ));
    }
    out
}
