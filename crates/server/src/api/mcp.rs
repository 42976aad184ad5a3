//! MCP servers, their tools, and what was used of them.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use axum::Json;
use axum::extract::State as Shared;
use http::StatusCode;
use skep_api::{
    McpApi, McpApprovals, McpClass, McpFolder, McpLeftOut, McpPreset, McpPresetClass, McpServer,
    McpTool, McpUsage, NewMcpServer, Page, Problem,
};
use skep_core::{Code, Timestamp, Workspace};
use skep_egress::ledger::Way;
use skep_egress::mcp::{Approval, Server, Tools};
use skep_egress::{DayFilter, EgressError, Money};
use skep_mcp::{
    Api, Class, Description, PRESETS, Preset, Rules, Settings, Transport, Value, to_value,
};

use super::input::{self, Caller, Ordered, Path};
use crate::credentials::may_name;
use crate::gate::Asker;
use crate::problem::ApiError;
use crate::state::State;

/// Days of usage.
const DAYS: i64 = 30;
/// Tools that are approved at once.
const MOST_APPROVALS: usize = 500;

/// What is shown of what an API has that is no tool.
const MOST_LEFT_OUT: usize = 100;

fn invalid(field: &str, why: impl std::fmt::Display) -> ApiError {
    EgressError::Invalid(format!("`{field}`: {why}")).into()
}

fn texts(values: &BTreeMap<String, Value>) -> BTreeMap<String, String> {
    let pairs = values.iter();
    pairs
        .map(|(name, value)| (name.clone(), value.text()))
        .collect()
}

fn values(
    field: &str,
    texts: BTreeMap<String, String>,
) -> Result<BTreeMap<String, Value>, ApiError> {
    let pair = |(name, text): (String, String)| {
        let value = Value::parse(&text).map_err(|why| invalid(&format!("{field}.{name}"), why))?;
        Ok((name, value))
    };
    texts.into_iter().map(pair).collect()
}

/// How a server is reached, as a request says it.
fn transport(new: &mut NewMcpServer) -> Result<Transport, ApiError> {
    let folder = |it: McpFolder| (PathBuf::from(it.path), it.read_only);
    let is_program = !new.env.is_empty() || !new.folders.is_empty() || !new.hosts.is_empty();
    let headers = values("headers", std::mem::take(&mut new.headers))?;
    let none = (new.url.is_none(), new.openapi.is_none());
    if new.builtin {
        return match none == (true, true)
            && new.command.is_empty()
            && headers.is_empty()
            && !is_program
        {
            true => Ok(Transport::Skep {
                description: Arc::new(Description::own()),
            }),
            false => Err(invalid("builtin", "Skep itself takes none of the others")),
        };
    }
    match (new.url.take(), new.openapi.take(), new.command.is_empty()) {
        (_, _, true) if is_program => {
            let why = "`env`, `folders` and `hosts` are for programs";
            Err(invalid("url", why))
        }
        (Some(url), None, true) => Ok(Transport::Http { url, headers }),
        (url, Some(said), true) => {
            let text = to_value(&said);
            let description = Description::new(text);
            let url = match url {
                Some(url) => url,
                None => description.base().map_err(|why| invalid("openapi", why))?,
            };
            Ok(Transport::OpenApi {
                url,
                headers,
                description: Arc::new(description),
            })
        }
        (None, None, false) if !headers.is_empty() => {
            let why = "they are for servers over HTTP: give `env`";
            Err(invalid("headers", why))
        }
        (None, None, false) => Ok(Transport::Stdio {
            command: std::mem::take(&mut new.command),
            env: values("env", std::mem::take(&mut new.env))?,
            folders: std::mem::take(&mut new.folders)
                .into_iter()
                .map(folder)
                .collect(),
            hosts: std::mem::take(&mut new.hosts),
        }),
        _ => Err(invalid(
            "url",
            "one of `url`, `openapi`, `command` and `builtin`",
        )),
    }
}

/// Prices, in billionths of a dollar.
fn prices(texts: BTreeMap<String, String>) -> Result<BTreeMap<String, i64>, ApiError> {
    let price = |(pattern, text): (String, String)| {
        let money: Result<Money, _> = text.parse();
        let money = money.map_err(|why| invalid(&format!("prices.{pattern}"), why))?;
        Ok((pattern, money.nanos()))
    };
    texts.into_iter().map(price).collect()
}

/// The settings as a request says them.
fn settings(name: String, mut new: NewMcpServer) -> Result<Settings, ApiError> {
    let transport = transport(&mut new)?;
    // A web API has neither, nor has Skep.
    let speaks = !matches!(
        transport,
        Transport::OpenApi { .. } | Transport::Skep { .. }
    );
    Ok(Settings {
        name,
        transport,
        rules: Rules {
            allow: new.allow,
            deny: new.deny,
        },
        resources: speaks && new.resources.unwrap_or(true),
        prompts: speaks && new.prompts.unwrap_or(true),
        timeout: Settings::timeout(new.timeout_s),
        prices: prices(new.prices)?,
    })
}

fn as_new(settings: &Settings) -> NewMcpServer {
    let mut new = NewMcpServer {
        allow: settings.rules.allow.clone(),
        deny: settings.rules.deny.clone(),
        resources: Some(settings.resources),
        prompts: Some(settings.prompts),
        timeout_s: Some(settings.timeout.as_secs()),
        prices: settings
            .prices
            .iter()
            .map(|(pattern, nanos)| (pattern.clone(), Money::from_nanos(*nanos).to_string()))
            .collect(),
        ..NewMcpServer::default()
    };
    match &settings.transport {
        Transport::Http { url, headers } | Transport::OpenApi { url, headers, .. } => {
            new.url = Some(url.clone());
            new.headers = texts(headers);
        }
        Transport::Skep { .. } => new.builtin = true,
        Transport::Stdio {
            command,
            env,
            folders,
            hosts,
        } => {
            let folder = |(path, read_only): &(PathBuf, bool)| McpFolder {
                path: path.display().to_string(),
                read_only: *read_only,
            };
            new.command.clone_from(command);
            new.env = texts(env);
            new.folders = folders.iter().map(folder).collect();
            new.hosts.clone_from(hosts);
        }
    }
    new
}

fn api(api: &Api) -> McpApi {
    let left_out = |(what, why): &(String, String)| McpLeftOut {
        operation: what.clone(),
        why: why.clone(),
    };
    McpApi {
        title: api.title.clone(),
        version: api.version.clone(),
        operations: api.operations.len() as u64,
        left_out: api
            .left_out
            .iter()
            .take(MOST_LEFT_OUT)
            .map(left_out)
            .collect(),
    }
}

fn shown(state: &State, workspace: &Workspace, server: &Server) -> McpServer {
    use skep_mcp::State as Stands;
    let settings = &server.settings;
    let condition = state.tools.condition(workspace, &settings.name);
    let count = |of: &[Stands]| {
        let all = server.tools.values().filter(|it| of.contains(&it.state()));
        all.count() as u64
    };
    let word = match &condition {
        None => "unknown",
        Some(it) if it.trouble.is_some() => "failed",
        Some(_) => "well",
    };
    McpServer {
        name: settings.name.clone(),
        transport: settings.transport.as_str().to_owned(),
        settings: as_new(settings),
        door: format!("/mcp/{}", settings.name),
        condition: word.to_owned(),
        looked_at: condition.as_ref().map(|it| it.at.to_string()),
        era: condition
            .as_ref()
            .and_then(|it| it.era)
            .map(|it| it.as_str().to_owned()),
        says: condition
            .as_ref()
            .map(|it| it.says.clone())
            .unwrap_or_default(),
        trouble: condition.and_then(|it| it.trouble),
        api: settings.api().and_then(Result::ok).map(api),
        approved: count(&[Stands::Approved]),
        waiting: count(&[Stands::New, Stands::Changed]),
    }
}

fn missing(name: &str) -> ApiError {
    ApiError::new(Code::NotFound, format!("there is no MCP server `{name}`"))
}

async fn one(state: &State, workspace: &Workspace, name: &str) -> Result<McpServer, ApiError> {
    let all = state.tools.servers(workspace).await?;
    let found = all.servers.get(name).ok_or_else(|| missing(name))?;
    Ok(shown(state, workspace, found))
}

fn preset(preset: &Preset) -> McpPreset {
    let texts = |all: &[&str]| all.iter().map(|it| (*it).to_owned()).collect();
    let class = |(tools, class): &(&str, Class)| McpPresetClass {
        tools: (*tools).to_owned(),
        class: class.as_str().to_owned(),
    };
    McpPreset {
        name: preset.name.to_owned(),
        about: preset.about.to_owned(),
        command: texts(preset.command),
        keys: texts(preset.keys),
        hosts: texts(preset.hosts),
        takes_folders: preset.takes_folders,
        classes: preset.classes.iter().map(class).collect(),
    }
}

/// Servers that many want.
#[utoipa::path(get, path = "/api/v1/mcp/presets", tag = "mcp",
    responses((status = 200, body = Page<McpPreset>), (status = "4XX", body = Problem)))]
pub(super) async fn presets() -> Json<Page<McpPreset>> {
    let items = PRESETS.iter().map(preset).collect();
    Json(Page { items, next: None })
}

/// The MCP servers, by name.
#[utoipa::path(get, path = "/api/v1/mcp/servers", tag = "mcp",
    responses((status = 200, body = Page<McpServer>), (status = "4XX", body = Problem)))]
pub(super) async fn servers(
    Shared(state): Shared<Arc<State>>,
    Caller(workspace): Caller,
) -> Result<Json<Page<McpServer>>, ApiError> {
    let all = state.tools.servers(&workspace).await?;
    let items = all.servers.values().map(|it| shown(&state, &workspace, it));
    let items = items.collect();
    Ok(Json(Page { items, next: None }))
}

/// Adds a server, or puts it in the place of the one of its name. Whoever names secrets must be allowed to use them.
#[utoipa::path(put, path = "/api/v1/mcp/servers/{server}", tag = "mcp", request_body = NewMcpServer,
    params(("server" = String, Path, description = "Its name")),
    responses((status = 200, body = McpServer), (status = "4XX", body = Problem)))]
pub(super) async fn provide(
    Shared(state): Shared<Arc<State>>,
    asker: Asker,
    Ordered(by): Ordered,
    Path(name): Path<String>,
    input::Json(new): input::Json<NewMcpServer>,
) -> Result<Json<McpServer>, ApiError> {
    let workspace = &asker.principal.workspace;
    let settings = settings(name, new)?;
    let checked = Tools::check(&settings).await;
    checked.map_err(|wrong| invalid(&wrong.field, wrong.why))?;
    for secret in settings.secrets() {
        may_name(&state, &asker, secret)
            .await?
            .map_err(|why| invalid("secrets", why))?;
    }
    state.tools.put_server(&by, workspace, &settings).await?;
    Ok(Json(one(&state, workspace, &settings.name).await?))
}

/// Removes a server, with what was approved of it. Its sessions end.
#[utoipa::path(delete, path = "/api/v1/mcp/servers/{server}", tag = "mcp",
    params(("server" = String, Path, description = "Its name")),
    responses((status = 204), (status = "4XX", body = Problem)))]
pub(super) async fn remove(
    Shared(state): Shared<Arc<State>>,
    Caller(workspace): Caller,
    Ordered(by): Ordered,
    Path(name): Path<String>,
) -> Result<StatusCode, ApiError> {
    state.tools.drop_server(&by, &workspace, &name).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Looks at what a server has now: what is new or changed waits for somebody's yes.
#[utoipa::path(post, path = "/api/v1/mcp/servers/{server}/check", tag = "mcp",
    params(("server" = String, Path, description = "Its name")),
    responses((status = 200, body = McpServer), (status = "4XX", body = Problem), (status = "5XX", body = Problem)))]
pub(super) async fn check(
    Shared(state): Shared<Arc<State>>,
    Caller(workspace): Caller,
    Path(name): Path<String>,
) -> Result<Json<McpServer>, ApiError> {
    state.tools.look(&workspace, &name).await?;
    Ok(Json(one(&state, &workspace, &name).await?))
}

/// The tools of a server, as it was looked at last. What they say of themselves comes from outside.
#[utoipa::path(get, path = "/api/v1/mcp/servers/{server}/tools", tag = "mcp",
    params(("server" = String, Path, description = "Its name")),
    responses((status = 200, body = Page<McpTool>), (status = "4XX", body = Problem)))]
pub(super) async fn tools(
    Shared(state): Shared<Arc<State>>,
    Caller(workspace): Caller,
    Path(name): Path<String>,
) -> Result<Json<Page<McpTool>>, ApiError> {
    let all = state.tools.servers(&workspace).await?;
    let server = all.servers.get(&name).ok_or_else(|| missing(&name))?;
    let items = server.tools.values().map(|it| McpTool {
        name: it.name.clone(),
        state: it.state().as_str().to_owned(),
        class: it.class().as_str().to_owned(),
        proposed: it.proposed.as_str().to_owned(),
        allowed: server.settings.rules.has(&it.name),
        pin: it.seen.map(|it| it.to_string()),
        approved: it
            .approved
            .filter(|own| Some(*own) != it.seen)
            .map(|it| it.to_string()),
        untrusted_definition: it.definition.clone(),
    });
    let items = items.collect();
    Ok(Json(Page { items, next: None }))
}

fn class(text: &str) -> Result<Class, ApiError> {
    Class::named(text).ok_or_else(|| invalid("class", "one of read, write, execute"))
}

/// Approves tools as somebody saw them: all that are named, or none.
#[utoipa::path(post, path = "/api/v1/mcp/servers/{server}/approvals", tag = "mcp", request_body = McpApprovals,
    params(("server" = String, Path, description = "Its name")),
    responses((status = 200, body = McpServer), (status = "4XX", body = Problem)))]
pub(super) async fn approve(
    Shared(state): Shared<Arc<State>>,
    Caller(workspace): Caller,
    Ordered(by): Ordered,
    Path(name): Path<String>,
    input::Json(new): input::Json<McpApprovals>,
) -> Result<Json<McpServer>, ApiError> {
    if new.tools.is_empty() || new.tools.len() > MOST_APPROVALS {
        return Err(invalid("tools", "1 to 500 tools"));
    }
    let all = new.tools.into_iter().map(|it| {
        Ok(Approval {
            tool: it.tool,
            pin: it.pin,
            class: it.class.as_deref().map(class).transpose()?,
        })
    });
    let all: Result<Vec<Approval>, ApiError> = all.collect();
    state.tools.approve(&by, &workspace, &name, all?).await?;
    Ok(Json(one(&state, &workspace, &name).await?))
}

/// Says what a tool does.
#[utoipa::path(put, path = "/api/v1/mcp/servers/{server}/classes", tag = "mcp", request_body = McpClass,
    params(("server" = String, Path, description = "Its name")),
    responses((status = 200, body = McpServer), (status = "4XX", body = Problem)))]
pub(super) async fn classify(
    Shared(state): Shared<Arc<State>>,
    Caller(workspace): Caller,
    Ordered(by): Ordered,
    Path(name): Path<String>,
    input::Json(new): input::Json<McpClass>,
) -> Result<Json<McpServer>, ApiError> {
    let class = class(&new.class)?;
    let tool = (name.as_str(), new.tool.as_str());
    state.tools.classify(&by, &workspace, tool, class).await?;
    Ok(Json(one(&state, &workspace, &name).await?))
}

/// What was used of tools in the last 30 days, by day, principal and tool.
#[utoipa::path(get, path = "/api/v1/mcp/usage", tag = "mcp",
    responses((status = 200, body = Page<McpUsage>), (status = "4XX", body = Problem)))]
pub(super) async fn usage(
    Shared(state): Shared<Arc<State>>,
    Caller(workspace): Caller,
) -> Result<Json<Page<McpUsage>>, ApiError> {
    let to = state.db.clock().now().day();
    let filter = DayFilter {
        way: Way::Tool,
        from: to.saturating_sub(DAYS - 1),
        to,
    };
    let (days, _) = state.models.days(&workspace, filter).await?;
    let items = days.into_iter().map(|it| McpUsage {
        day: Timestamp::of_day(it.day).date(),
        of: it.kind,
        whose: it.who,
        server: it.provider,
        tool: it.model,
        requests: it.usage.requests,
        failed: it.usage.failed,
        cost: it.usage.cost.to_string(),
    });
    let items = items.collect();
    Ok(Json(Page { items, next: None }))
}
