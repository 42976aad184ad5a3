//! The management API: `/api/v1/…`. Handlers translate between wire types and the capabilities;
//! they decide nothing themselves.

mod agents;
pub(crate) mod archives;
mod audit;
mod backups;
mod calls;
mod compliance;
mod events;
mod exec;
mod feed;
mod health;
mod input;
mod keys;
mod layers;
mod leases;
mod links;
mod live;
mod mcp;
mod mcp_virtuals;
mod me;
mod model_kept;
mod model_routes;
mod models;
mod mounts;
mod openings;
mod policy;
mod prompts;
mod providers;
mod rollouts;
mod runs;
mod secrets;
mod security;
mod servers;
mod stats;
mod tokens;
mod users;
mod vault;
mod web;
mod web_kept;
mod webhooks;
mod workspaces;

use std::sync::Arc;

use axum::extract::{DefaultBodyLimit, MatchedPath, RawPathParams, Request, State as Shared};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use axum::{RequestExt as _, Router};
use http::header::{CONTENT_TYPE, HeaderMap, HeaderValue};
use serde_json::json;
use skep_compliance::validate_operation;
use skep_core::{Code, RequestId, Workspace};
use skep_runs::RunsError;
use skep_store::By;
use utoipa::OpenApi;
use utoipa_axum::router::{OpenApiRouter, UtoipaMethodRouterExt as _};
use utoipa_axum::routes;

use crate::access::{self, Access, Asks, Told};
use crate::act::Act;
use crate::gate::{self, About, Asker, Unasked};
use crate::oauth;
use crate::problem::{ApiError, REQUEST};
use crate::state::State;

/// The workspace of who asks, put into each request by the dispatcher.
pub(crate) use input::{Caller, Ordered};

#[derive(OpenApi)]
#[openapi(
    info(
        title = "Skep",
        description = "Agents, their calls and their health. Requests to an agent itself go to \
            `/agents/{agent}/…` with any method; see the book.",
        license(name = "Apache-2.0", identifier = "Apache-2.0"),
    ),
    components(schemas(
        skep_api::Problem,
        skep_api::ExecStart,
        skep_api::ExecSignal,
        skep_api::ExecExit,
        skep_api::TerminalSize
    )),
    security(("key" = [])),
    modifiers(&Security),
)]
struct Document;

struct Security;

impl utoipa::Modify for Security {
    fn modify(&self, document: &mut utoipa::openapi::OpenApi) {
        use utoipa::openapi::security::{HttpAuthScheme, HttpBuilder, SecurityScheme};
        let scheme = HttpBuilder::new()
            .scheme(HttpAuthScheme::Bearer)
            .description(Some(
                "An API key; also taken from the header `Skep-Api-Key`.",
            ))
            .build();
        let components = document.components.get_or_insert_with(Default::default);
        components.add_security_scheme("key", SecurityScheme::Http(scheme));
    }
}

fn documented() -> OpenApiRouter<Arc<State>> {
    OpenApiRouter::with_openapi(Document::openapi())
        .routes(routes!(agents::list, agents::deploy))
        .routes(routes!(agents::show, agents::remove))
        .routes(routes!(agents::revisions))
        .routes(routes!(agents::start))
        .routes(routes!(agents::stop))
        .routes(routes!(agents::restart))
        .routes(routes!(agents::forget_answers))
        .routes(routes!(rollouts::rollback))
        .routes(routes!(rollouts::pause))
        .routes(routes!(rollouts::resume))
        .routes(routes!(rollouts::promote))
        .routes(routes!(agents::logs))
        .routes(routes!(stats::stats))
        .routes(routes!(stats::all_stats))
        .routes(routes!(stats::performance))
        .routes(routes!(layers::show, layers::deploy).layer(DefaultBodyLimit::max(MOST_LAYERS)))
        .routes(routes!(layers::origin))
        .routes(routes!(archives::export, archives::import))
        .routes(routes!(exec::exec))
        .routes(routes!(servers::list))
        .routes(routes!(backups::list, backups::create))
        .routes(routes!(backups::show))
        .routes(routes!(backups::content))
        .routes(routes!(audit::entries))
        .routes(routes!(audit::entry))
        .routes(routes!(audit::proof))
        .routes(routes!(audit::erase))
        .routes(routes!(audit::export))
        .routes(routes!(audit::checkpoint))
        .routes(routes!(audit::consistency))
        .routes(routes!(audit::tile))
        .routes(routes!(compliance::report))
        .routes(routes!(security::detections))
        .routes(routes!(security::show))
        .routes(routes!(security::acknowledge))
        .routes(routes!(keys::list, keys::create))
        .routes(routes!(keys::rotate))
        .routes(routes!(keys::revoke))
        .merge(of_happenings())
        .merge(of_people())
        .routes(routes!(policy::show, policy::set))
        .routes(routes!(policy::versions))
        .routes(routes!(policy::rollback))
        .routes(routes!(policy::schema))
        .routes(routes!(policy::explain))
        .routes(routes!(health::basic))
        .routes(routes!(health::detailed))
        .merge(of_secrets())
        .merge(of_ways_out())
}

/// What happens: events, calls and runs.
fn of_happenings() -> OpenApiRouter<Arc<State>> {
    OpenApiRouter::new()
        .routes(routes!(events::list))
        .routes(routes!(events::stream))
        .routes(routes!(calls::list))
        .routes(routes!(calls::stream))
        .routes(routes!(calls::follow))
        .routes(routes!(calls::show, calls::purge))
        .routes(routes!(calls::request))
        .routes(routes!(calls::response))
        .routes(routes!(calls::cancel))
        .routes(routes!(calls::replay))
        .routes(routes!(calls::redrive))
        .routes(routes!(calls::redrive_all))
        .routes(routes!(calls::purge_all))
        .routes(routes!(live::live))
        .routes(routes!(runs::list))
        .routes(routes!(runs::changes))
        .routes(routes!(runs::show))
        .routes(routes!(runs::asked))
        .routes(routes!(runs::events))
        .routes(routes!(runs::cancel))
        .routes(routes!(runs::fork))
        .routes(routes!(runs::threads))
        .routes(routes!(runs::show_thread, runs::forget))
}

/// Models: providers, budgets, usage.
fn of_ways_out() -> OpenApiRouter<Arc<State>> {
    OpenApiRouter::new()
        .routes(routes!(mcp::presets))
        .routes(routes!(mcp::servers))
        .routes(routes!(mcp::provide, mcp::remove))
        .routes(routes!(mcp::check))
        .routes(routes!(mcp::tools))
        .routes(routes!(mcp::approve))
        .routes(routes!(mcp::classify))
        .routes(routes!(mcp_virtuals::virtuals))
        .routes(routes!(mcp_virtuals::provide, mcp_virtuals::remove))
        .routes(routes!(mcp::usage))
        .routes(routes!(webhooks::list))
        .routes(routes!(webhooks::show, webhooks::put, webhooks::remove))
        .routes(routes!(webhooks::rotate))
        .routes(routes!(webhooks::test))
        .routes(routes!(webhooks::messages))
        .routes(routes!(webhooks::message))
        .routes(routes!(webhooks::redeliver))
        .routes(routes!(webhooks::redeliver_all))
        .routes(routes!(web::rules))
        .routes(routes!(web::allow, web::remove))
        .routes(routes!(web::check))
        .routes(routes!(web::ca))
        .routes(routes!(web_kept::exchanges))
        .routes(routes!(web_kept::exchange, web_kept::remove))
        .routes(routes!(models::providers))
        .routes(routes!(models::provide, models::remove_provider))
        .routes(routes!(models::check))
        .routes(routes!(models::budgets))
        .routes(routes!(models::set_budget, models::remove_budget))
        .routes(routes!(model_routes::routes))
        .routes(routes!(model_routes::set_route, model_routes::remove_route))
        .routes(routes!(model_routes::versions))
        .routes(routes!(model_routes::roll_back))
        .routes(routes!(model_routes::performance))
        .routes(routes!(models::usage))
        .routes(routes!(model_kept::settings))
        .routes(routes!(model_kept::set, model_kept::unset))
        .routes(routes!(model_kept::exchanges))
        .routes(routes!(model_kept::exchange, model_kept::remove))
        .routes(routes!(model_kept::forget))
        .routes(routes!(prompts::list))
        .routes(routes!(prompts::show, prompts::remove))
        .routes(routes!(prompts::add))
        .routes(routes!(prompts::version))
        .routes(routes!(prompts::diff))
        .routes(routes!(prompts::render))
        .routes(routes!(prompts::usage))
        .routes(routes!(prompts::put_label, prompts::remove_label))
        .routes(routes!(prompts::roll_back))
        .routes(routes!(prompts::score))
}

/// Secrets, and the vault that they lie in.
fn of_secrets() -> OpenApiRouter<Arc<State>> {
    OpenApiRouter::new()
        .routes(routes!(secrets::list, secrets::create))
        .routes(routes!(secrets::bulk))
        .routes(routes!(secrets::show, secrets::update, secrets::remove))
        .routes(routes!(secrets::versions, secrets::put))
        .routes(routes!(secrets::reveal))
        .routes(routes!(secrets::delete))
        .routes(routes!(secrets::undelete))
        .routes(routes!(secrets::rotate))
        .routes(routes!(secrets::destroy))
        .routes(routes!(leases::leases, leases::lend))
        .routes(routes!(leases::renew))
        .routes(routes!(leases::release))
        .routes(routes!(leases::shares, leases::share, leases::unshare))
        .routes(routes!(leases::ask))
        .routes(routes!(leases::requests))
        .routes(routes!(leases::decide))
        .routes(routes!(leases::withdraw))
        .routes(routes!(openings::tell))
        .routes(routes!(mounts::list, mounts::create))
        .routes(routes!(mounts::refresh))
        .routes(routes!(mounts::remove))
        .routes(routes!(vault::status))
        .routes(routes!(vault::close))
        .routes(routes!(vault::unseal))
        .routes(routes!(vault::add))
        .routes(routes!(vault::remove))
        .routes(routes!(vault::root_rotations, vault::rotate_root))
        .routes(routes!(vault::roll_back_root))
        .routes(routes!(vault::finish_root))
        .routes(routes!(vault::own_rotations, vault::rotate))
        .routes(routes!(vault::roll_back))
        .routes(routes!(vault::finish))
}

/// Who asks: people, how they come in, and where they belong.
fn of_people() -> OpenApiRouter<Arc<State>> {
    OpenApiRouter::new()
        .routes(routes!(me::show))
        .routes(routes!(tokens::narrow))
        .routes(routes!(me::password))
        .routes(routes!(me::second_factor, me::confirm_second_factor))
        .routes(routes!(me::drop_second_factor))
        .routes(routes!(me::login, me::sessions, me::end_all))
        .routes(routes!(me::end))
        .routes(routes!(links::list, links::add))
        .routes(routes!(links::remove))
        .routes(routes!(providers::list))
        .routes(routes!(providers::begin))
        .routes(routes!(providers::callback))
        .routes(routes!(providers::log_in_proven))
        .routes(routes!(workspaces::list, workspaces::create))
        .routes(routes!(workspaces::show, workspaces::remove))
        .routes(routes!(workspaces::set_quota))
        .routes(routes!(users::list))
        .routes(routes!(users::remove))
        .routes(routes!(users::set_role))
        .routes(routes!(users::invitations, users::invite))
        .routes(routes!(users::withdraw))
        .routes(routes!(users::accept))
}

/// The OpenAPI 3.1 document, as committed in `docs/openapi.json`.
#[must_use]
pub fn openapi() -> String {
    let (_, document) = documented().split_for_parts();
    complete(&document)
}

/// The document with what is so of every operation: an error is a problem document, also one that a
/// single operation does not name.
fn complete(document: &utoipa::openapi::OpenApi) -> String {
    let mut document = serde_json::to_value(document).unwrap_or_default();
    let problem = json!({ "$ref": "#/components/schemas/Problem" });
    let paths = document["paths"].as_object_mut().into_iter().flatten();
    let operations = paths.flat_map(|(_, item)| item.as_object_mut().into_iter().flatten());
    for (_, operation) in operations {
        // Handlers of one name are told apart by what they are about.
        let id = format!(
            "{}_{}",
            operation["tags"][0].as_str().unwrap_or_default(),
            operation["operationId"].as_str().unwrap_or_default()
        );
        operation["operationId"] = id.into();
        let Some(responses) = operation["responses"].as_object_mut() else {
            continue;
        };
        for (status, response) in responses.iter_mut() {
            if response["description"].is_null() {
                // It must have one (OpenAPI 3.1, section 4.8.17).
                response["description"] = format!("Status {status}").into();
            }
            if response["content"]["application/json"]["schema"] == problem {
                response["content"] = json!({ "application/problem+json": { "schema": problem } });
            }
        }
        for (status, description) in [("4XX", "Refused"), ("5XX", "Not possible now")] {
            responses.entry(status).or_insert_with(|| {
                json!({
                    "description": description,
                    "content": { "application/problem+json": { "schema": problem } },
                })
            });
        }
    }
    serde_json::to_string_pretty(&document).unwrap_or_default()
}

/// Every route of the API with its methods, from the OpenAPI document.
#[must_use]
pub fn routes_with_methods() -> Vec<(String, String)> {
    let document: serde_json::Value = serde_json::from_str(&openapi()).unwrap_or_default();
    let paths = document["paths"].as_object().cloned().unwrap_or_default();
    let methods = |item: &serde_json::Value| -> Vec<String> {
        item.as_object()
            .map(|item| item.keys().cloned().collect())
            .unwrap_or_default()
    };
    paths
        .iter()
        .flat_map(|(path, item)| {
            methods(item)
                .into_iter()
                .map(|method| (path.clone(), method))
        })
        .collect()
}

/// Bytes of a deploy with two layers; `limits.body` counts, too.
const MOST_LAYERS: usize = 2 * (skep_runtime::MOST_LAYER as usize) + (1 << 20);

/// What is not there is asked about as it was named: who may not know is told that they may not.
fn or_as_asked(found: Result<String, RunsError>, id: &str) -> Result<String, ApiError> {
    match found {
        Err(RunsError::NotFound(_)) => Ok(id.to_owned()),
        found => Ok(found?),
    }
}

/// The thing that a path names, as its handler reads it.
async fn named(
    state: &State,
    workspace: &Workspace,
    request: &mut Request,
    kind: &str,
) -> Result<String, ApiError> {
    let names = match kind {
        "Agent" => ["agent", "thread"],
        "Call" => ["call", "run"],
        "Secret" => ["secret", "secret"],
        _ => return Ok(String::new()),
    };
    let all: Result<RawPathParams, _> = request.extract_parts().await;
    let all = all.map_err(|_| ApiError::new(Code::NotFound, "the path is malformed"))?;
    let found = all.iter().find(|(key, _)| names.contains(key));
    match found {
        // Who may do something with a call may do so with the run that it carries.
        Some(("run", id)) => {
            let run = match id.parse() {
                Ok(id) => state.runs().show(workspace, id).await,
                Err(_) => Err(RunsError::NotFound("run")),
            };
            or_as_asked(run.map(|run| run.call.to_string()), id)
        }
        Some(("thread", id)) => {
            let thread = match id.parse() {
                Ok(id) => state.runs().thread(workspace, id).await,
                Err(_) => Err(RunsError::NotFound("thread")),
            };
            or_as_asked(thread.map(|(thread, _)| thread.agent), id)
        }
        Some((_, value)) => Ok(value.to_owned()),
        // A route of the table that names nothing of its kind would be asked about the wrong thing.
        None => Err(ApiError::new(Code::Forbidden, "nobody may do that")),
    }
}

/// Takes in what an operation is said to be for, where the frameworks that hold here ask for it.
async fn purposed(
    state: &State,
    act: &Act,
    access: Access,
    headers: &HeaderMap,
) -> Result<(), ApiError> {
    let purpose = headers.get(skep_api::HEADER_PURPOSE);
    let purpose = purpose.map(HeaderValue::as_bytes);
    match validate_operation(&state.frameworks, access.action, purpose) {
        Ok(said) => {
            if let Some(said) = said {
                act.is_for(said);
            }
            Ok(())
        }
        Err(why) => {
            act.is_refused();
            state.audit.refuse(act).await;
            let detail = format!("`{}`: {why}", access.action);
            Err(ApiError::new(Code::PurposeNeeded, detail))
        }
    }
}

/// Looks up what a route does, asks whether who asks may, and sees to it that it is written down.
async fn told(
    Shared(state): Shared<Arc<State>>,
    mut request: Request,
    next: Next,
) -> Result<Response, ApiError> {
    let asker = request.extensions().get::<Asker>().cloned();
    // What is public tells nothing of anybody.
    let Some(asker) = asker else {
        return Ok(next.run(request).await);
    };
    let route = request.extensions().get::<MatchedPath>().cloned();
    let route = route.as_ref().map_or("", MatchedPath::as_str);
    if crate::dispatch::is_public(request.method(), request.uri().path()) {
        return Ok(next.run(request).await);
    }
    let access = access::of(request.method(), route)
        .ok_or_else(|| ApiError::new(Code::Forbidden, "nobody may do that"))?;
    let id = REQUEST
        .try_with(|id| *id)
        .unwrap_or_else(|_| RequestId::new());
    let workspace = asker.principal.workspace.clone();
    let of = named(&state, &workspace, &mut request, access.kind).await?;
    let act = Arc::new(Act::new(&asker, workspace, access, &of, id));
    let about = match access.kind {
        "Agent" => About::Agent(&of),
        "Call" => About::Call(&of),
        "Secret" => About::Secret(&of),
        "Server" => About::Server,
        _ => About::Workspace,
    };
    let (method, path) = (
        request.method().to_string(),
        request.uri().path().to_owned(),
    );
    let circumstances = asker.circumstances(&state, &method, &path);
    let secret = gate::ask(&state, &act, &asker, about, &circumstances).await?;
    if access.kind == "Secret" {
        let decided = input::Decided(secret.map(Arc::new), of.clone());
        request.extensions_mut().insert(decided);
    }
    purposed(&state, &act, access, request.headers()).await?;
    if access.told == Told::Ahead {
        state.audit.tell(&act, "begun").await?;
    }
    match access.asks {
        Asks::Path => {
            let by = Ordered(By::new(act.clone()));
            request.extensions_mut().insert(by);
        }
        Asks::Body => {
            request.extensions_mut().insert(Unasked {
                act: act.clone(),
                asker,
                method,
                path,
            });
        }
    }
    let response = next.run(request).await;
    if !act.is_told() {
        let outcome = response.status().as_str().to_owned();
        state.audit.note(&act, &outcome).await;
    }
    Ok(response)
}

/// The router of everything but the calls to agents.
pub(crate) fn router(state: Arc<State>) -> Router {
    let (router, document) = documented().split_for_parts();
    let document: Arc<str> = complete(&document).into();
    let metrics = state.clone();
    router
        .route(
            "/api/v1/openapi.json",
            axum::routing::get(
                move || async move { text("application/json", document.to_string()) },
            ),
        )
        .route("/docs/errors/{code}", axum::routing::get(error_page))
        .route(oauth::METADATA, axum::routing::get(oauth::metadata))
        .route(
            &format!("{}/mcp", oauth::METADATA),
            axum::routing::get(oauth::metadata),
        )
        .route(
            &format!("{}/mcp/{{server}}", oauth::METADATA),
            axum::routing::get(oauth::metadata),
        )
        .route(
            "/metrics",
            axum::routing::get(move || async move {
                text(
                    "application/openmetrics-text; version=1.0.0; charset=utf-8",
                    metrics.scrape(),
                )
            }),
        )
        .route_layer(axum::middleware::from_fn_with_state(state.clone(), told))
        .fallback(not_found)
        .method_not_allowed_fallback(method_not_allowed)
        .with_state(state)
}

fn text(kind: &'static str, body: String) -> Response {
    ([(CONTENT_TYPE, HeaderValue::from_static(kind))], body).into_response()
}

async fn error_page(input::Path(code): input::Path<String>) -> Result<Response, ApiError> {
    let code = Code::parse(&code)
        .ok_or_else(|| ApiError::new(Code::NotFound, "no error code of that name"))?;
    Ok(text("text/markdown; charset=utf-8", code.page().to_owned()))
}

async fn not_found(request: Request) -> ApiError {
    let path: String = request.uri().path().chars().take(200).collect();
    ApiError::new(Code::NotFound, format!("nothing is at {path}"))
}

async fn method_not_allowed(request: Request) -> ApiError {
    let path: String = request.uri().path().chars().take(200).collect();
    ApiError::new(
        Code::MethodNotAllowed,
        format!("{path} does not take {}", request.method()),
    )
}
