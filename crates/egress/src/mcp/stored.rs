//! Servers and tools as the store has them.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use skep_mcp::{Class, Description, Pin, Rules, Settings, Transport, Value, Virtual};
use skep_store::{Scope, StoreError};

use super::rows;
use super::service::{Server, Tool};
use crate::rows::{SERVERS, VIRTUALS};

/// A server as its row has it.
#[derive(Serialize, Deserialize)]
struct StoredServer {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    url: Option<String>,
    /// The description of a web API.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    openapi: Option<String>,
    /// Skep itself.
    #[serde(default)]
    builtin: bool,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    headers: BTreeMap<String, String>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    command: Vec<String>,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    env: BTreeMap<String, String>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    folders: Vec<(PathBuf, bool)>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    hosts: Vec<String>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    allow: Vec<String>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    deny: Vec<String>,
    resources: bool,
    prompts: bool,
    timeout_s: u64,
    /// In billionths of a dollar, by pattern.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    prices: BTreeMap<String, i64>,
}

/// A tool as its row has it. Pins are hexadecimal.
#[derive(Serialize, Deserialize)]
struct StoredTool {
    class: Option<String>,
    proposed: String,
    approved: Option<String>,
    seen: Option<String>,
    definition: String,
}

fn odd(what: &str) -> StoreError {
    StoreError::Statement(format!("a row of tools is not readable: `{what}`"))
}

fn texts(values: &BTreeMap<String, Value>) -> BTreeMap<String, String> {
    let pairs = values.iter();
    pairs
        .map(|(name, value)| (name.clone(), value.text()))
        .collect()
}

fn values(texts: BTreeMap<String, String>) -> Option<BTreeMap<String, Value>> {
    let pair = |(name, text): (String, String)| Some((name, Value::parse(&text).ok()?));
    texts.into_iter().map(pair).collect()
}

/// A server's row.
pub(super) fn server_text(settings: &Settings) -> String {
    let mut stored = StoredServer {
        url: None,
        openapi: None,
        builtin: false,
        headers: BTreeMap::new(),
        command: Vec::new(),
        env: BTreeMap::new(),
        folders: Vec::new(),
        hosts: Vec::new(),
        allow: settings.rules.allow.clone(),
        deny: settings.rules.deny.clone(),
        resources: settings.resources,
        prompts: settings.prompts,
        timeout_s: settings.timeout.as_secs(),
        prices: settings.prices.clone(),
    };
    match &settings.transport {
        Transport::Http { url, headers } => {
            stored.url = Some(url.clone());
            stored.headers = texts(headers);
        }
        Transport::OpenApi {
            url,
            headers,
            description,
        } => {
            stored.url = Some(url.clone());
            stored.headers = texts(headers);
            stored.openapi = Some(description.text().to_owned());
        }
        Transport::Skep { .. } => stored.builtin = true,
        Transport::Stdio {
            command,
            env,
            folders,
            hosts,
        } => {
            stored.command.clone_from(command);
            stored.env = texts(env);
            stored.folders.clone_from(folders);
            stored.hosts.clone_from(hosts);
        }
    }
    // Texts and numbers alone: it cannot fail.
    serde_json::to_string(&stored).unwrap_or_default()
}

fn settings(name: &str, text: &str) -> Option<Settings> {
    let stored: StoredServer = serde_json::from_str(text).ok()?;
    let transport = match (stored.url, stored.openapi) {
        (Some(url), Some(text)) => Transport::OpenApi {
            url,
            headers: values(stored.headers)?,
            description: Arc::new(Description::new(text)),
        },
        (Some(url), None) => Transport::Http {
            url,
            headers: values(stored.headers)?,
        },
        (None, _) if stored.builtin => Transport::Skep {
            description: Arc::new(Description::own()),
        },
        (None, _) => Transport::Stdio {
            command: stored.command,
            env: values(stored.env)?,
            folders: stored.folders,
            hosts: stored.hosts,
        },
    };
    Some(Settings {
        name: name.to_owned(),
        transport,
        rules: Rules {
            allow: stored.allow,
            deny: stored.deny,
        },
        resources: stored.resources,
        prompts: stored.prompts,
        timeout: Settings::timeout(Some(stored.timeout_s)),
        prices: stored.prices,
    })
}

/// Whether the server of a name leads where this one does. One that is not there leads nowhere.
pub(super) fn leads_with(
    scope: &mut Scope<'_>,
    name: &str,
    transport: &Transport,
) -> Result<bool, StoreError> {
    let all = SERVERS.all(scope)?;
    let own = all.iter().find(|(its, _)| its == name);
    let own = own.and_then(|(name, text)| settings(name, text));
    Ok(own.is_some_and(|it| it.transport.leads_with(transport)))
}

fn pin(text: &str) -> Option<Pin> {
    let digits = text.as_bytes().chunks_exact(2);
    let byte = |pair: &[u8]| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok();
    let bytes: Option<Vec<u8>> = digits.map(byte).collect();
    Some(Pin(bytes?.try_into().ok()?))
}

/// A tool's row.
pub(super) fn tool_text(tool: &Tool) -> String {
    let stored = StoredTool {
        class: tool.class.map(|it| it.as_str().to_owned()),
        proposed: tool.proposed.as_str().to_owned(),
        approved: tool.approved.map(|it| it.to_string()),
        seen: tool.seen.map(|it| it.to_string()),
        definition: tool.definition.clone(),
    };
    serde_json::to_string(&stored).unwrap_or_default()
}

pub(super) fn tool(name: &str, text: &str) -> Option<Tool> {
    let stored: StoredTool = serde_json::from_str(text).ok()?;
    // One that is there and cannot be read is none that was approved.
    let read = |text: Option<String>| match text {
        None => Some(None),
        Some(text) => pin(&text).map(Some),
    };
    Some(Tool {
        name: name.to_owned(),
        class: match stored.class {
            None => None,
            Some(word) => Some(Class::named(&word)?),
        },
        proposed: Class::named(&stored.proposed)?,
        approved: read(stored.approved)?,
        seen: read(stored.seen)?,
        definition: stored.definition,
    })
}

/// A tool that the store has.
pub(super) fn find_tool(
    scope: &mut Scope<'_>,
    server: &str,
    name: &str,
) -> Result<Option<Tool>, StoreError> {
    let text = rows::tool(scope, server, name)?;
    text.map(|text| tool(name, &text).ok_or_else(|| odd(name)))
        .transpose()
}

/// All servers of a workspace, with their tools.
pub(super) fn servers(scope: &mut Scope<'_>) -> Result<BTreeMap<String, Server>, StoreError> {
    let mut all = BTreeMap::new();
    for (name, text) in SERVERS.all(scope)? {
        let settings = settings(&name, &text).ok_or_else(|| odd(&name))?;
        let tools = BTreeMap::new();
        all.insert(name, Server { settings, tools });
    }
    for (server, name, text) in rows::tools(scope)? {
        let found = tool(&name, &text).ok_or_else(|| odd(&name))?;
        if let Some(server) = all.get_mut(&server) {
            server.tools.insert(name, found);
        }
    }
    Ok(all)
}

/// All virtual servers of a workspace.
pub(super) fn virtuals(
    scope: &mut Scope<'_>,
) -> Result<BTreeMap<String, Arc<Virtual>>, StoreError> {
    let mut all = BTreeMap::new();
    for (name, text) in VIRTUALS.all(scope)? {
        let made = Virtual::read(&name, &text).map_err(|_| odd(&name))?;
        all.insert(name, Arc::new(made));
    }
    Ok(all)
}
