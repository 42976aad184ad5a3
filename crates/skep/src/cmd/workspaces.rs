//! Workspaces: listed, made, shown with how much they may have, removed.

use clap::{Args, Subcommand};
use serde_json::json;
use skep_api::{NewQuota, NewWorkspace, QuotaUse, WorkspaceDetail, WorkspaceInfo};
use skep_core::{Timestamp, units};

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
    /// Show how much a workspace has, and may have
    Show(ShowArgs),
    /// Say how much a workspace may have; who administers the server does
    Quota(QuotaArgs),
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

/// Which workspace to show.
#[derive(Debug, Args)]
pub(crate) struct ShowArgs {
    /// The name; another than one's own for who administers the server [default: one's own]
    name: Option<String>,
}

/// Flags of `workspaces quota`.
#[derive(Debug, Args)]
#[command(after_help = "\
Each is a number, `none` for no limit, or `default` for what the server's
configuration says for all workspaces (`quota.…`). What a workspace has more
than that stays; it gets no more.

Examples:
  skep workspaces quota red --agents 5 --calls-per-day 10000
  skep workspaces quota red --stored-bytes 10GiB --keys none --users default")]
pub(crate) struct QuotaArgs {
    /// The name of the workspace
    name: String,
    /// Agents
    #[arg(long, value_name = "N")]
    agents: Option<String>,
    /// Instances of all its agents, each at its most, on each server
    #[arg(long, value_name = "N")]
    instances: Option<String>,
    /// Calls that wait at once, on each server
    #[arg(long, value_name = "N")]
    calls_waiting: Option<String>,
    /// Calls on one day (UTC)
    #[arg(long, value_name = "N")]
    calls_per_day: Option<String>,
    /// API keys
    #[arg(long, value_name = "N")]
    keys: Option<String>,
    /// People and open invitations
    #[arg(long, value_name = "N")]
    users: Option<String>,
    /// Bytes that ended calls hold before it makes more
    #[arg(long, value_name = "SIZE")]
    stored_bytes: Option<String>,
}

impl Row for QuotaUse {
    const HEADERS: &'static [&'static str] = &["WHAT", "USED", "MOST", "SAID FOR"];

    fn name(&self) -> String {
        self.what.clone()
    }

    fn cells(&self, _: Timestamp) -> Vec<String> {
        let number = |number: u64| match self.what.as_str() {
            "stored-bytes" => units::format_bytes(number),
            _ => number.to_string(),
        };
        vec![
            self.what.clone(),
            self.used.map(number).unwrap_or_default(),
            self.most.map(number).unwrap_or_default(),
            if self.own { "it" } else { "all" }.to_owned(),
        ]
    }
}

fn tell(session: &Session, workspace: &WorkspaceDetail) -> Result {
    match session.output.format {
        Format::Json | Format::Yaml => session.output.document(workspace),
        _ => session.output.list(&workspace.quotas),
    }
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
        WorkspacesVerb::Show(ShowArgs { name }) => {
            let name = match name {
                Some(name) => name,
                None => client.me().await?.workspace,
            };
            tell(session, &client.workspace(&name).await?)
        }
        WorkspacesVerb::Quota(args) => {
            let wish = NewQuota {
                agents: args.agents,
                instances: args.instances,
                calls_waiting: args.calls_waiting,
                calls_per_day: args.calls_per_day,
                keys: args.keys,
                users: args.users,
                stored_bytes: args.stored_bytes,
            };
            tell(session, &client.set_quota(&args.name, &wish).await?)
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
