//! Virtual MCP servers: what is declared in a file, and where its tools lead.

use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};
use skep_api::{McpVirtual, NewMcpVirtual};
use skep_core::Timestamp;

use super::{NameArgs, text_of};
use crate::failure::{Failure, Result};
use crate::output::Row;
use crate::session::Session;

/// The longest declaration, in bytes.
const MOST_TEXT: u64 = 256 << 10;

/// What to do with virtual servers.
#[derive(Debug, Subcommand)]
pub(crate) enum VirtualVerb {
    /// List the virtual servers, their doors, and where their tools lead
    #[command(visible_alias = "ls")]
    List,
    /// Add a virtual server, or put it in the place of the one of its name
    Set(SetArgs),
    /// Remove a virtual server; the servers of its tools stay
    #[command(visible_alias = "rm")]
    Remove(NameArgs),
}

/// Flags of `mcp virtual set`.
#[derive(Debug, Args)]
#[command(after_help = "\
The file is JSON: `tools` of servers under names of your own, with arguments that
nobody else says, and `composed` tools that are a chain of steps.

  {
    \"tools\": [
      { \"tool\": \"docs/read_*\" },
      { \"tool\": \"web/search\", \"name\": \"find\", \"fixed\": { \"limit\": 5 } }
    ],
    \"composed\": [{
      \"name\": \"first_hit\",
      \"input\": { \"properties\": { \"q\": { \"type\": \"string\" } }, \"required\": [\"q\"] },
      \"steps\": [
        { \"name\": \"hits\", \"tool\": \"web/search\",
          \"arguments\": { \"query\": { \"from\": \"input\", \"pointer\": \"/q\" } } },
        { \"name\": \"page\", \"tool\": \"web/open\",
          \"arguments\": { \"url\": { \"from\": \"hits\", \"pointer\": \"/structuredContent/0/url\" } } }
      ]
    }]
  }

Examples:
  skep mcp virtual set desk desk.json
  skep mcp virtual set desk - < desk.json")]
pub(crate) struct SetArgs {
    /// What it is called: a-z, 0-9 and `-`
    name: String,
    /// What it is made of; `-` reads the input
    file: PathBuf,
}

impl Row for McpVirtual {
    const HEADERS: &'static [&'static str] = &["NAME", "DOOR", "TOOLS", "READY"];

    fn name(&self) -> String {
        self.name.clone()
    }

    fn cells(&self, _: Timestamp) -> Vec<String> {
        let ready = self.tools.iter().filter(|it| it.ready).count();
        vec![
            self.name.clone(),
            self.door.clone(),
            self.tools.len().to_string(),
            ready.to_string(),
        ]
    }
}

fn declared(path: &Path) -> Result<NewMcpVirtual> {
    let failed = |why: String| Failure::usage(format!("{}: {why}", path.display()));
    let text = text_of(path, (MOST_TEXT, "256 KiB"))?;
    serde_json::from_str(&text).map_err(|error| failed(error.to_string()))
}

pub(crate) async fn run(session: &Session, verb: VirtualVerb) -> Result {
    let (client, output) = (session.client()?, &session.output);
    match verb {
        VirtualVerb::List => output.list(&client.mcp_virtuals().await?.items),
        VirtualVerb::Set(SetArgs { name, file }) => {
            let made = client.put_mcp_virtual(&name, &declared(&file)?).await?;
            let mut waits = made.tools.iter().filter(|it| !it.ready).peekable();
            if waits.peek().is_some() {
                let names: Vec<String> = waits
                    .map(|it| format!("{} ({})", it.name, it.uses.join(", ")))
                    .collect();
                let names = names.join(", ");
                output.note(&format!(
                    "Not there until what it uses is approved: {names}."
                ));
            }
            let said = format!(
                "{name} is at {}, with {} tools.",
                made.door,
                made.tools.len()
            );
            output.done(&made, &name, &said)
        }
        VirtualVerb::Remove(NameArgs { name }) => {
            session.confirm(&format!("Remove the virtual MCP server {name}?"))?;
            client.remove_mcp_virtual(&name).await?;
            let said = format!("{name} is removed.");
            output.done(&serde_json::json!({ "removed": name }), &name, &said)
        }
    }
}
