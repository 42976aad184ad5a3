//! The agents as a list: filtered, in the user's own columns, and watched.

use std::collections::BTreeMap;

use clap::Args;
use serde_json::Value;
use skep_api::Agent;
use skep_client::Client;
use skep_core::Timestamp;

use super::agents::{count, ready, rollout};
use super::select::{Selector, Status, all};
use crate::columns::{Template, cells, fill};
use crate::failure::{Failure, Result};
use crate::live::{EVERY, Picture, until_interrupted};
use crate::output::{Format, Row, age};
use crate::session::Session;

/// Flags of `list`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  skep list --status failed
  skep list --selector team=blue --watch
  skep list --format name,status,cpu_limit
  skep list --format '{name}\\t{status}'

Fields of --format: name, id, status, reason, desired, ready, replicas,
revision, rollout, restarts, waiting, running, dead, age, driver, command,
image, labels, cpu_limit, memory_limit, created, deployed.")]
pub(crate) struct ListArgs {
    /// Only those in this state: `running`, `failed`, `asleep`, …
    #[arg(long, value_name = "STATES")]
    status: Option<Status>,
    /// Only those with these labels: `team=blue,tier`
    #[arg(long, value_name = "LABELS")]
    selector: Option<Selector>,
    /// Go on: drawn over on a terminal, else a line for each change
    #[arg(short, long)]
    watch: bool,
    /// Columns (`name,status`), or a text for each (`{name}\t{status}`)
    #[arg(long, value_name = "TEMPLATE")]
    format: Option<String>,
}

const FIELDS: [&str; 22] = [
    "name",
    "id",
    "status",
    "reason",
    "desired",
    "ready",
    "replicas",
    "revision",
    "rollout",
    "restarts",
    "waiting",
    "running",
    "dead",
    "age",
    "driver",
    "command",
    "image",
    "labels",
    "cpu_limit",
    "memory_limit",
    "created",
    "deployed",
];

fn fields(agent: &Agent, now: Timestamp) -> Vec<(&'static str, String)> {
    let text = |value: &Option<String>| value.clone().unwrap_or_default();
    let labels = agent.spec.labels.iter();
    let labels: Vec<_> = labels
        .map(|(name, value)| format!("{name}={value}"))
        .collect();
    let values = [
        agent.name.clone(),
        agent.id.clone(),
        agent.state.as_str().to_owned(),
        text(&agent.reason),
        agent.desired.clone(),
        ready(agent).to_string(),
        agent.replicas.to_string(),
        agent.revision.to_string(),
        rollout(agent),
        agent.restarts.to_string(),
        count(agent, "accepted").to_string(),
        count(agent, "running").to_string(),
        count(agent, "dead").to_string(),
        age(&agent.created_at, now),
        agent.spec.driver.clone(),
        agent.spec.command.join(" "),
        text(&agent.spec.image),
        labels.join(","),
        text(&agent.spec.resources.cpu),
        text(&agent.spec.resources.memory),
        agent.created_at.clone(),
        agent.updated_at.clone(),
    ];
    FIELDS.into_iter().zip(values).collect()
}

impl ListArgs {
    async fn find(&self, client: &Client) -> Result<Vec<Agent>> {
        let fits = |agent: &Agent| {
            let status = self.status.as_ref();
            let selector = self.selector.as_ref();
            status.is_none_or(|status| status.fits(agent.state))
                && selector.is_none_or(|selector| selector.fits(agent))
        };
        Ok(all(client).await?.into_iter().filter(fits).collect())
    }

    fn template(&self, session: &Session) -> Result<Option<Template>> {
        let Some(text) = &self.format else {
            return Ok(None);
        };
        let template = Template::parse(text, &FIELDS)?;
        match (&template, session.output.format) {
            (Template::Text(_), Format::Json | Format::Yaml | Format::Name) | (_, Format::Name) => {
                Err(Failure::usage("--format and -o say two things").hint(
                    "Leave one of them out; columns (`--format name,status`) go with -o json too.",
                ))
            }
            _ => Ok(Some(template)),
        }
    }
}

/// The rows as text of the wanted form: a table, or a line each.
fn render(session: &Session, template: Option<&Template>, agents: &[Agent]) -> String {
    let output = &session.output;
    let now = Timestamp::system_now();
    match template {
        None => {
            let rows: Vec<_> = agents.iter().map(|agent| agent.cells(now)).collect();
            output.rendered(Agent::HEADERS, &rows)
        }
        Some(Template::Columns(columns)) => {
            let row = |agent: &Agent| cells(columns, &fields(agent, now));
            let rows: Vec<_> = agents.iter().map(row).collect();
            let headers: Vec<_> = columns.iter().map(|name| heading(name)).collect();
            let headers: Vec<_> = headers.iter().map(String::as_str).collect();
            output.rendered(&headers, &rows)
        }
        Some(Template::Text(pieces)) => {
            let line = |agent: &Agent| fill(pieces, &fields(agent, now)) + "\n";
            agents.iter().map(line).collect()
        }
    }
}

fn heading(name: &str) -> String {
    name.to_uppercase().replace('_', " ")
}

/// An agent as a document: all of it, or the wanted columns.
fn document(template: Option<&Template>, agent: &Agent) -> Result<Value> {
    if let Some(Template::Columns(columns)) = template {
        let values = fields(agent, Timestamp::system_now());
        let wanted = values
            .into_iter()
            .filter(|(name, _)| columns.contains(name));
        return Ok(wanted
            .map(|(name, value)| (name.to_owned(), Value::from(value)))
            .collect());
    }
    Ok(serde_json::to_value(agent).map_err(anyhow::Error::from)?)
}

pub(crate) async fn list(session: &Session, args: ListArgs) -> Result {
    let template = args.template(session)?;
    let client = session.client()?;
    if args.watch {
        let watching = watch(session, &client, &args, template.as_ref());
        return until_interrupted(watching).await;
    }
    let agents = args.find(&client).await?;
    let output = &session.output;
    if agents.is_empty() {
        let filtered = args.status.is_some() || args.selector.is_some();
        output.note(match filtered {
            true => "No agent is like that.",
            false => "There is no agent yet; deploy one with `skep deploy`.",
        });
    }
    match (output.format, template) {
        (Format::Name, _) => output.list(&agents),
        (Format::Json | Format::Yaml, template) => {
            let documents = agents
                .iter()
                .map(|agent| document(template.as_ref(), agent));
            output.document(&documents.collect::<Result<Vec<_>>>()?)
        }
        (Format::Table | Format::Html, template) => {
            output.raw(render(session, template.as_ref(), &agents).as_bytes())
        }
    }
}

/// What is the same as long as nothing happened to an agent: not its age.
fn fingerprint(agent: &Agent) -> (Vec<String>, String) {
    let mut cells = agent.cells(Timestamp::system_now());
    cells.pop();
    (cells, agent.reason.clone().unwrap_or_default())
}

async fn watch(
    session: &Session,
    client: &Client,
    args: &ListArgs,
    template: Option<&Template>,
) -> Result {
    let output = &session.output;
    let mut looks = tokio::time::interval(EVERY);
    let mut picture = Picture::default();
    let mut known = BTreeMap::new();
    let mut first = true;
    loop {
        looks.tick().await;
        let agents = args.find(client).await?;
        if output.is_terminal() && output.format == Format::Table {
            picture.draw(output, &render(session, template, &agents))?;
            continue;
        }
        let fresh: BTreeMap<_, _> = agents
            .iter()
            .map(|agent| (agent.name.clone(), fingerprint(agent)))
            .collect();
        let changed = |agent: &&Agent| known.get(&agent.name) != fresh.get(&agent.name);
        let changed: Vec<Agent> = agents.iter().filter(changed).cloned().collect();
        for agent in &changed {
            let text = match output.format {
                Format::Name => agent.name.clone() + "\n",
                // A document a line is how they stream.
                Format::Json => document(template, agent)?.to_string() + "\n",
                Format::Yaml => {
                    output.raw(b"---\n")?;
                    output.document(&document(template, agent)?)?;
                    continue;
                }
                Format::Table | Format::Html => {
                    let text = render(session, template, std::slice::from_ref(agent));
                    let is_table = !matches!(template, Some(Template::Text(_)));
                    match is_table && !std::mem::take(&mut first) {
                        true => text
                            .lines()
                            .skip(1)
                            .map(|line| format!("{line}\n"))
                            .collect(),
                        false => text,
                    }
                }
            };
            output.raw(text.as_bytes())?;
        }
        for gone in known.keys().filter(|name| !fresh.contains_key(*name)) {
            output.note(&format!("{gone} is gone."));
        }
        known = fresh;
    }
}
