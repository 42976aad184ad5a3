//! Virtual servers at their door: what a name means there, and what is listed. Classes, pins, policies and what is written
//! down are of the tools that are meant.

use http::StatusCode;
use serde_json::json;
use skep_mcp::{Chain, Class, Message, Object, Part, State, Virtual, code, joined};

use super::door::{DoorError, Judge, refused};
use super::service::{Known, Tool};

/// What a call means.
pub(super) enum Meant {
    /// A tool of a server, and the call as that server takes it.
    Tool(String, String),
    /// Several, one after the other.
    Chain(Chain),
}

/// A tool of a virtual server, as whoever declared it sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Leads {
    /// Its name.
    pub name: String,
    /// The tools that it uses, with their servers.
    pub to: Vec<String>,
    /// Whether all of them can be used.
    pub well: bool,
}

fn has(known: &Known, server: &str, tool: &str) -> bool {
    let server = known.servers.get(server);
    server.is_some_and(|it| it.settings.rules.has(tool) && it.tools.contains_key(tool))
}

/// A tool that can be used.
fn ready<'a>(known: &'a Known, server: &str, tool: &str) -> Option<&'a Tool> {
    let server = known.servers.get(server)?;
    let tool = server.tools.get(tool)?;
    (tool.state() == State::Approved && server.settings.rules.has(&tool.name)).then_some(tool)
}

/// What a call means at the door of a virtual server.
pub(super) fn meant(
    part: &Virtual,
    known: &Known,
    message: &Message<'_>,
) -> Result<Meant, DoorError> {
    let no = |why: &str| refused(StatusCode::OK, code::PARAMS, why);
    let params = message.params.as_ref();
    let name = params.and_then(|it| it.text("name"));
    let name = name.ok_or_else(|| no("`name` is missing"))?;
    if let Some(chain) = part.chain(&name) {
        return Ok(Meant::Chain(chain.clone()));
    }
    let found = part.part(&name, |server, tool| has(known, server, tool));
    let (part, tool) = found.ok_or_else(|| no("there is no such tool"))?;
    let params = params.ok_or_else(|| no("`name` is missing"))?;
    let given = params.object("arguments");
    let own = json!(tool).to_string();
    let mut changes = vec![("name", Some(own.as_str()))];
    let arguments = part.arguments(given.as_ref());
    let fixed = "an argument that this tool does not have: it is fixed";
    let arguments = arguments.ok_or_else(|| no(fixed))?;
    if !part.fixed.is_empty() {
        changes.push(("arguments", Some(arguments.as_str())));
    }
    let params = params.with(&changes);
    let text = message.fields.with(&[("params", Some(&params))]);
    Ok(Meant::Tool(part.server.clone(), text))
}

/// The names that a virtual server has, and what each means, chains last.
fn names<'a>(part: &'a Virtual, known: &'a Known) -> Vec<(String, &'a Part, &'a Tool)> {
    let mut all: Vec<(String, &Part, &Tool)> = Vec::new();
    for one in &part.tools {
        let Some(server) = known.servers.get(&one.server) else {
            continue;
        };
        for tool in server.tools.values() {
            let name = one.name.as_ref().unwrap_or(&tool.name);
            let found = part.part(name, |server, tool| has(known, server, tool));
            // The one that a call of this name means, and no other.
            let is_meant =
                found.is_some_and(|(its, own)| std::ptr::eq(its, one) && own == tool.name);
            // The server's name stands for the longest prefix that there could be: it is not shown here.
            if is_meant && joined("x", name).is_some() {
                all.push((name.clone(), one, tool));
            }
        }
    }
    all
}

/// The tools of a virtual server that this client may use, as they are shown.
pub(super) fn part_tools(part: &Virtual, known: &Known, judge: &dyn Judge) -> Vec<String> {
    let may = |server: &str, tool: &str| {
        let tool = ready(known, server, tool)?;
        judge.may(server, &tool.name, tool.class()).then_some(tool)
    };
    let mut all = Vec::new();
    for (name, one, tool) in names(part, known) {
        let Some(tool) = may(&one.server, &tool.name) else {
            continue;
        };
        let shown = one.shown(&tool.definition);
        let fields = shown.as_deref().and_then(Object::parse);
        let own = json!(name).to_string();
        all.extend(fields.map(|it| it.with(&[("name", Some(&own))])));
    }
    for chain in &part.chains {
        let tools: Option<Vec<&Tool>> = chain
            .steps
            .iter()
            .map(|it| may(&it.server, &it.tool))
            .collect();
        if let Some(tools) = tools {
            let reads = tools.iter().all(|it| it.class() == Class::Read);
            let shown = json!({
                "name": chain.name, "description": chain.description, "inputSchema": chain.input,
                "annotations": { "readOnlyHint": reads },
            });
            all.push(shown.to_string());
        }
    }
    all
}

impl Known {
    /// The tools of a virtual server, and where they lead.
    #[must_use]
    pub fn leads(&self, part: &Virtual) -> Vec<Leads> {
        let named = names(part, self)
            .into_iter()
            .map(|(name, one, tool)| Leads {
                name,
                to: vec![format!("{}/{}", one.server, tool.name)],
                well: ready(self, &one.server, &tool.name).is_some(),
            });
        let chains = part.chains.iter().map(|chain| Leads {
            name: chain.name.clone(),
            to: chain
                .steps
                .iter()
                .map(|it| format!("{}/{}", it.server, it.tool))
                .collect(),
            well: chain
                .steps
                .iter()
                .all(|it| ready(self, &it.server, &it.tool).is_some()),
        });
        named.chain(chains).collect()
    }
}
