//! Workspaces: listed, made, removed.

use clap::{Args, Subcommand};
use serde_json::json;
use skep_api::{NewWorkspace, WorkspaceInfo};
use skep_core::Timestamp;

use crate::failure::Result;
use crate::output::{Format, Row, age};
use crate::session::Session;

/// What to do with workspaces.
#[derive(Debug, Subcommand)]
pub(crate) enum WorkspacesVerb {
    /// List one's workspaces; who administers the server sees all
    #[command(visible_alias = "ls")]
    List,
    /// Make a workspace; who does it with a key gets an owner's key, which is printed once
    Create(NameArgs),
    /// Remove one's workspace and all that is left in it; its agents go first
    #[command(visible_alias = "rm")]
    Remove(NameArgs),
}

/// The name of a workspace.
#[derive(Debug, Args)]
#[command(after_help = "\
A name is given once: that of a removed workspace stays taken.

Examples:
  skep workspaces create red > red.key
  skep --api-key-file red.key deploy hello --command python3 agent.py")]
pub(crate) struct NameArgs {
    /// The name: a-z, 0-9 and `-`
    name: String,
}

impl Row for WorkspaceInfo {
    const HEADERS: &'static [&'static str] = &["NAME", "ROLE", "AGE"];

    fn name(&self) -> String {
        self.name.clone()
    }

    fn cells(&self, now: Timestamp) -> Vec<String> {
        let since = self.created_at.as_ref().map(|at| age(at, now));
        vec![
            self.name.clone(),
            self.role.clone().unwrap_or_default(),
            since.unwrap_or_default(),
        ]
    }
}

pub(crate) async fn run(session: &Session, verb: WorkspacesVerb) -> Result {
    let client = session.client()?;
    let output = &session.output;
    match verb {
        WorkspacesVerb::List => output.list(&client.workspaces().await?.items),
        WorkspacesVerb::Create(NameArgs { name }) => {
            let wish = NewWorkspace { name: name.clone() };
            let made = client.create_workspace(&wish).await?;
            match (&made.secret, output.format) {
                (Some(secret), Format::Table | Format::Name | Format::Html) => {
                    output.note(&format!(
                        "{name} is there. This is a key of an owner of it; it is not told again."
                    ));
                    output.raw(format!("{secret}\n").as_bytes())
                }
                _ => output.done(&made, &name, &format!("{name} is there, and yours.")),
            }
        }
        WorkspacesVerb::Remove(NameArgs { name }) => {
            session.confirm(&format!(
                "Remove {name}, with its calls, keys, people and policies, for good?"
            ))?;
            client.remove_workspace(&name).await?;
            let said = format!("{name} is removed.");
            output.done(&json!({ "removed": name }), &name, &said)
        }
    }
}
