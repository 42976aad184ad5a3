//! MCP servers: who has tools, what was approved of them, and what was used.

mod openapi;
mod virtuals;

use std::collections::BTreeMap;
use std::io::Read as _;
use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};
use skep_api::{
    McpApproval, McpApprovals, McpClass, McpFolder, McpPreset, McpServer, McpTool, McpUsage,
    NewMcpServer,
};
use skep_core::Timestamp;

use crate::failure::{Failure, Result};
use crate::output::Row;
use crate::session::Session;

/// What to do with MCP servers.
#[derive(Debug, Subcommand)]
pub(crate) enum McpVerb {
    /// List the servers of the workspace, and the doors that lead to them
    #[command(visible_alias = "ls")]
    List,
    /// Add a server, or change the one of its name
    Add(Box<AddArgs>),
    /// Remove a server, with what was approved of it
    #[command(visible_alias = "rm")]
    Remove(NameArgs),
    /// Look at what a server has now
    Check(NameArgs),
    /// List the tools of a server, and how they stand
    Tools(ToolsArgs),
    /// Approve tools as they are now
    Approve(ApproveArgs),
    /// Say what a tool does
    Class(ClassArgs),
    /// Virtual servers: tools of several servers behind one door
    #[command(subcommand)]
    Virtual(virtuals::VirtualVerb),
    /// List the servers that many want
    Presets,
    /// What was used in the last 30 days, by day, principal and tool
    Usage,
}

/// Flags of `mcp add`.
#[derive(Debug, Args)]
#[command(after_help = "\
A server is reached over HTTP (--url), or is a program that runs in a sandbox (the
command, after --), or a web API that knows nothing of the protocol (--openapi):
each of its operations is a tool then. With --builtin it is Skep itself. A header or a variable may hold a secret of
the vault, which no agent sees. New tools wait for your yes: see them with
`skep mcp tools`.

Examples:
  skep mcp add docs --url https://docs.example.com/mcp \\
      --header 'Authorization=Bearer ${secret:keys/docs}'
  skep mcp add files --preset filesystem --folder /srv/papers:ro
  skep mcp add github --preset github \\
      --env 'GITHUB_PERSONAL_ACCESS_TOKEN=${secret:keys/github}'
  skep mcp add mine --folder /srv/data -- node /opt/mine/server.js
  skep mcp add pets --openapi pets.yaml --only 'get*' \\
      --header 'X-Api-Key=${secret:keys/pets}'
  skep mcp add skep --builtin --only 'list_agents' --only 'call_agent'")]
pub(crate) struct AddArgs {
    /// What it is called here: a-z, 0-9 and `-`
    name: String,
    /// Where it is
    #[arg(long, value_name = "URL", conflicts_with_all = ["preset", "command"])]
    url: Option<String>,
    /// A web API instead: a file with its OpenAPI description, JSON or YAML; `-` reads the input
    #[arg(long, value_name = "FILE", conflicts_with_all = ["url", "preset", "command"])]
    openapi: Option<PathBuf>,
    /// What stands before the paths of the web API [default: what its description says]
    #[arg(long, value_name = "URL", requires = "openapi")]
    base_url: Option<String>,
    /// Skep itself instead: its own abilities, as who uses them
    #[arg(long, conflicts_with_all = ["url", "openapi", "preset", "command", "headers", "env", "folders", "hosts"])]
    builtin: bool,
    /// A header of each request, NAME=VALUE
    #[arg(long = "header", value_name = "NAME=VALUE")]
    headers: Vec<String>,
    /// One of the servers that many want: `skep mcp presets`
    #[arg(long, value_name = "NAME", conflicts_with = "command")]
    preset: Option<String>,
    /// A variable of the program, NAME=VALUE
    #[arg(long = "env", value_name = "NAME=VALUE")]
    env: Vec<String>,
    /// A folder that the program sees; with `:ro` it can only be read
    #[arg(long = "folder", value_name = "PATH[:ro]")]
    folders: Vec<String>,
    /// A host that the program reaches [default: none]
    #[arg(long = "host", value_name = "HOST:PORT")]
    hosts: Vec<String>,
    /// A tool that there is, in which `*` is any text [default: all]
    #[arg(long = "allow", visible_alias = "only", value_name = "TOOL")]
    allow: Vec<String>,
    /// A tool that there is not
    #[arg(long = "deny", value_name = "TOOL")]
    deny: Vec<String>,
    /// Its resources do not pass
    #[arg(long)]
    no_resources: bool,
    /// Its prompts do not pass
    #[arg(long)]
    no_prompts: bool,
    /// Seconds that it may take until it answers, 1 to 600 [default: 60]
    #[arg(long, value_name = "SECONDS")]
    timeout: Option<u64>,
    /// What a use of a tool costs, in US dollars: TOOL=AMOUNT, in which `*` is any text [default: nothing]
    #[arg(long = "price", value_name = "TOOL=AMOUNT")]
    prices: Vec<String>,
    /// The program and its arguments
    #[arg(last = true, value_name = "COMMAND")]
    command: Vec<String>,
}

/// A name.
#[derive(Debug, Args)]
pub(crate) struct NameArgs {
    /// Its name
    name: String,
}

/// Flags of `mcp tools`.
#[derive(Debug, Args)]
pub(crate) struct ToolsArgs {
    /// The server
    name: String,
    /// Show the definitions, too: they come from outside
    #[arg(long)]
    definitions: bool,
}

/// Flags of `mcp approve`.
#[derive(Debug, Args)]
#[command(after_help = "\
What is approved is the whole definition of a tool as it is now: when its server
changes anything of it, it is blocked until it is approved again. Without a class a
tool keeps the one it has; one that has none may do anything (execute), which
agents may not use unless a policy says so.

Examples:
  skep mcp approve files read_file list_directory --class read
  skep mcp approve files --all --proposed")]
pub(crate) struct ApproveArgs {
    /// The server
    name: String,
    /// The tools
    #[arg(required_unless_present = "all")]
    tools: Vec<String>,
    /// All that wait
    #[arg(long, conflicts_with = "tools")]
    all: bool,
    /// What they do: read, write, execute
    #[arg(long, value_name = "CLASS", value_parser = ["read", "write", "execute"])]
    class: Option<String>,
    /// They do what is proposed: by the preset of the server's name, else by the server itself
    #[arg(long, conflicts_with = "class")]
    proposed: bool,
}

/// Flags of `mcp class`.
#[derive(Debug, Args)]
pub(crate) struct ClassArgs {
    /// The server
    name: String,
    /// The tool
    tool: String,
    /// What it does: read, write, execute
    #[arg(value_parser = ["read", "write", "execute"])]
    class: String,
}

impl Row for McpServer {
    const HEADERS: &'static [&'static str] =
        &["NAME", "KIND", "CONDITION", "APPROVED", "WAITING", "DOOR"];

    fn name(&self) -> String {
        self.name.clone()
    }

    fn cells(&self, _: Timestamp) -> Vec<String> {
        vec![
            self.name.clone(),
            self.transport.clone(),
            self.condition.clone(),
            self.approved.to_string(),
            self.waiting.to_string(),
            self.door.clone(),
        ]
    }
}

/// The text of a file, or of what comes in for `-`: so many bytes at most, which have a name.
fn text_of(path: &Path, (most, named): (u64, &str)) -> Result<String> {
    let failed = |why: String| Failure::usage(format!("{}: {why}", path.display()));
    let source: Box<dyn std::io::Read> = match path.to_str() {
        Some("-") => Box::new(std::io::stdin()),
        _ => {
            let file = std::fs::File::open(path);
            Box::new(file.map_err(|error| failed(error.to_string()))?)
        }
    };
    let mut text = String::new();
    let read = source.take(most + 1).read_to_string(&mut text);
    read.map_err(|error| failed(error.to_string()))?;
    if text.len() as u64 > most {
        return Err(failed(format!("it has more than {named}")));
    }
    Ok(text)
}

/// Text from outside as a terminal may show it.
fn plain(text: &str) -> String {
    let escaped = |c: char| match c.is_control() {
        true => c.escape_default().collect(),
        false => c.to_string(),
    };
    text.chars().map(escaped).collect()
}

impl Row for McpTool {
    const HEADERS: &'static [&'static str] = &["TOOL", "STATE", "CLASS", "PROPOSED", "PIN"];

    fn name(&self) -> String {
        self.name.clone()
    }

    fn cells(&self, _: Timestamp) -> Vec<String> {
        let state = match self.allowed {
            true => self.state.clone(),
            false => format!("{} (not allowed)", self.state),
        };
        let pin = self.pin.as_deref().unwrap_or_default();
        vec![
            plain(&self.name),
            state,
            self.class.clone(),
            self.proposed.clone(),
            pin.chars().take(12).collect(),
        ]
    }
}

impl Row for McpPreset {
    const HEADERS: &'static [&'static str] = &["NAME", "KEYS", "ABOUT"];

    fn name(&self) -> String {
        self.name.clone()
    }

    fn cells(&self, _: Timestamp) -> Vec<String> {
        vec![self.name.clone(), self.keys.join(","), self.about.clone()]
    }
}

impl Row for McpUsage {
    const HEADERS: &'static [&'static str] = &["DAY", "WHO", "TOOL", "REQUESTS", "FAILED", "COST"];

    fn name(&self) -> String {
        format!("{}/{}", self.server, self.tool)
    }

    fn cells(&self, _: Timestamp) -> Vec<String> {
        vec![
            self.day.clone(),
            format!("{} {}", self.of, self.whose),
            format!("{}/{}", self.server, plain(&self.tool)),
            self.requests.to_string(),
            self.failed.to_string(),
            self.cost.clone(),
        ]
    }
}

fn pairs(flag: &str, all: Vec<String>) -> Result<BTreeMap<String, String>> {
    let pair = |text: String| {
        let found = text.split_once('=');
        let (name, value) = found
            .ok_or_else(|| Failure::usage(format!("--{flag} {text}: write it as NAME=VALUE")))?;
        Ok((name.to_owned(), value.to_owned()))
    };
    all.into_iter().map(pair).collect()
}

fn folder(text: &str) -> McpFolder {
    match text.strip_suffix(":ro") {
        Some(path) => McpFolder {
            path: path.to_owned(),
            read_only: true,
        },
        None => McpFolder {
            path: text.to_owned(),
            read_only: false,
        },
    }
}

impl AddArgs {
    fn wanted(self, presets: &[McpPreset]) -> Result<NewMcpServer> {
        let folders: Vec<McpFolder> = self.folders.iter().map(|it| folder(it)).collect();
        let (mut command, mut hosts) = (self.command, self.hosts);
        if let Some(name) = &self.preset {
            let found = presets.iter().find(|it| it.name == *name);
            let preset = found.ok_or_else(|| {
                let names: Vec<&str> = presets.iter().map(|it| it.name.as_str()).collect();
                let names = names.join(", ");
                Failure::usage(format!("there is no preset {name}: there are {names}"))
            })?;
            command.clone_from(&preset.command);
            hosts.extend(preset.hosts.clone());
            if preset.takes_folders {
                command.extend(folders.iter().map(|it| it.path.clone()));
            }
        }
        Ok(NewMcpServer {
            url: self.url.or(self.base_url),
            openapi: self.openapi.as_deref().map(openapi::read).transpose()?,
            builtin: self.builtin,
            headers: pairs("header", self.headers)?,
            command,
            env: pairs("env", self.env)?,
            folders,
            hosts,
            allow: self.allow,
            deny: self.deny,
            resources: self.no_resources.then_some(false),
            prompts: self.no_prompts.then_some(false),
            timeout_s: self.timeout,
            prices: pairs("price", self.prices)?,
        })
    }
}

/// Whether a name is one that a pattern of a preset stands for.
fn fits(pattern: &str, name: &str) -> bool {
    match pattern.split_once('*') {
        None => pattern == name,
        Some((before, after)) => {
            let inner = name.strip_prefix(before);
            inner.is_some_and(|it| it.ends_with(after))
        }
    }
}

/// What is proposed for a tool.
fn proposed(preset: Option<&McpPreset>, tool: &McpTool) -> String {
    let own =
        preset.and_then(|preset| preset.classes.iter().find(|it| fits(&it.tools, &tool.name)));
    own.map_or_else(|| tool.proposed.clone(), |it| it.class.clone())
}

impl ApproveArgs {
    fn wanted(&self, tools: &[McpTool], preset: Option<&McpPreset>) -> Result<McpApprovals> {
        let waits = |it: &&McpTool| match self.all {
            true => it.state == "new" || it.state == "changed",
            false => self.tools.contains(&it.name),
        };
        for name in &self.tools {
            if !tools.iter().any(|it| it.name == *name) {
                let server = &self.name;
                let why = format!("{server} has no tool {name}: see `skep mcp tools {server}`");
                return Err(Failure::usage(why));
            }
        }
        let approval = |it: &McpTool| {
            let pin = it.pin.clone()?;
            let class = match self.proposed {
                true => Some(proposed(preset, it)),
                false => self.class.clone(),
            };
            Some(McpApproval {
                tool: it.name.clone(),
                pin,
                class,
            })
        };
        let all = tools.iter().filter(waits).filter_map(approval);
        Ok(McpApprovals {
            tools: all.collect(),
        })
    }
}

pub(crate) async fn run(session: &Session, verb: McpVerb) -> Result {
    let (client, output) = (session.client()?, &session.output);
    match verb {
        McpVerb::Virtual(verb) => virtuals::run(session, verb).await,
        McpVerb::List => output.list(&client.mcp_servers().await?.items),
        McpVerb::Presets => output.list(&client.mcp_presets().await?.items),
        McpVerb::Usage => output.list(&client.mcp_usage().await?.items),
        McpVerb::Add(args) => {
            let name = args.name.clone();
            let wanted = args.wanted(&client.mcp_presets().await?.items)?;
            let made = client.put_mcp_server(&name, &wanted).await?;
            openapi::tell(output, &made);
            let said = format!(
                "{name} is at {}; `skep mcp check {name}` looks what it has.",
                made.door
            );
            output.done(&made, &name, &said)
        }
        McpVerb::Remove(NameArgs { name }) => {
            session.confirm(&format!(
                "Remove the MCP server {name}, and what was approved of it?"
            ))?;
            client.remove_mcp_server(&name).await?;
            let said = format!("{name} is removed.");
            output.done(&serde_json::json!({ "removed": name }), &name, &said)
        }
        McpVerb::Check(NameArgs { name }) => {
            let made = client.check_mcp_server(&name).await?;
            let said = format!(
                "{name} has {} tools that can be used, and {} that wait.",
                made.approved, made.waiting
            );
            output.done(&made, &name, &said)
        }
        McpVerb::Tools(args) => {
            let tools = client.mcp_tools(&args.name).await?.items;
            output.list(&tools)?;
            if args.definitions {
                output.note("What follows comes from outside:");
                for tool in &tools {
                    output.note(&plain(&tool.untrusted_definition));
                }
            }
            Ok(())
        }
        McpVerb::Approve(args) => {
            let tools = client.mcp_tools(&args.name).await?.items;
            let presets = client.mcp_presets().await?.items;
            let preset = presets.iter().find(|it| it.name == args.name);
            let wanted = args.wanted(&tools, preset)?;
            if wanted.tools.is_empty() {
                output.note("No tool waits.");
                return Ok(());
            }
            let names: Vec<String> = wanted.tools.iter().map(|it| plain(&it.tool)).collect();
            let made = client.approve_mcp_tools(&args.name, &wanted).await?;
            let said = format!("Approved: {}.", names.join(", "));
            output.done(&made, &args.name, &said)
        }
        McpVerb::Class(args) => {
            let ClassArgs { name, tool, class } = args;
            let wanted = McpClass {
                tool: tool.clone(),
                class: class.clone(),
            };
            let made = client.class_mcp_tool(&name, &wanted).await?;
            output.done(&made, &name, &format!("{tool} of {name} is {class}."))
        }
    }
}
