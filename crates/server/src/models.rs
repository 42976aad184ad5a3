//! The doors to models: `/llm/openai`, `/llm/anthropic` and `/llm/google`, as their SDKs know them. Who asks is found out
//! by the key that the SDK shows, policies decide about the model, and the provider's key comes from the vault.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::{Bytes, BytesMut};
use http::header::{CONTENT_TYPE, HeaderName, HeaderValue};
use http::{Request, Response, Uri};
use http_body_util::BodyExt as _;
use serde_json::{Value, json};
use skep_audit::Thing;
use skep_core::config::Settings;
use skep_core::{Code, ExchangeId, RequestId, Timestamp, Workspace, Workspaces};
use skep_egress::EgressError;
use skep_egress::ledger::Opened;
use skep_egress::llm::{
    Body, Door, Event, Happened, Inputs, Looks, Models, Options, Plan, Prices, Target, Who, Witness,
};
use skep_guard::Circumstances;
use skep_guard::policy::{Resource, Sent};
use skep_store::Db;

use crate::ServerError;
use crate::access::{MODEL_USE, PROMPT_USE};
use crate::act::Act;
use crate::credentials::Credentials;
use crate::dispatch;
use crate::gate::{self, About, Asker};
use crate::outgoing;
use crate::peers::forward::Sent as SentBody;
use crate::problem::ApiError;
use crate::state::State;

/// The folder of the ledger, in the data folder.
pub(crate) const FOLDER: &str = "ledger";
/// The doors, by their paths.
const DOORS: [(&str, Door); 3] = [
    ("/llm/openai", Door::OpenAi),
    ("/llm/anthropic", Door::Anthropic),
    ("/llm/google", Door::Google),
];
/// The header in which Google's SDKs show their key.
const GOOGLE_KEY: HeaderName = HeaderName::from_static("x-goog-api-key");
/// Headers of a request to a door, in which this server finds who asks.
const OWN_KEY: HeaderName = HeaderName::from_static(skep_api::HEADER_API_KEY);
/// Names the thread of a request.
const THREAD: HeaderName = HeaderName::from_static("skep-thread");
/// The bodies that are kept in memory at once are bounded by these many bytes each.
const MOST_BODY: u64 = 64 << 20;

/// The door of a path, and what stands behind it.
pub(crate) fn door(path: &str) -> Option<(Door, &str)> {
    DOORS.iter().find_map(|(at, door)| {
        let rest = path.strip_prefix(at)?;
        rest.starts_with('/').then_some((*door, rest))
    })
}

/// The path of a door, with the version that its SDK's base has.
pub(crate) const fn path(door: Door) -> &'static str {
    match door {
        Door::OpenAi => "/llm/openai/v1",
        Door::Anthropic => "/llm/anthropic",
        Door::Google => "/llm/google",
    }
}

/// Shows the key that an SDK of Google shows in its own way in the way of all others.
pub(crate) fn show_key<B>(request: &mut Request<B>) {
    if !matches!(door(request.uri().path()), Some((Door::Google, _))) {
        return;
    }
    let of_query = || {
        let query = request.uri().query()?;
        let key = query.split('&').find_map(|it| it.strip_prefix("key="))?;
        HeaderValue::try_from(key).ok()
    };
    let key = request.headers().get(GOOGLE_KEY).cloned().or_else(of_query);
    request.headers_mut().remove(GOOGLE_KEY);
    if let Some(mut key) = key
        && !request.headers().contains_key(OWN_KEY)
    {
        key.set_sensitive(true);
        request.headers_mut().insert(OWN_KEY, key);
    }
    // It stands in no log.
    if let Some(uri) = without_key(request.uri()) {
        *request.uri_mut() = uri;
    }
}

/// The same without `key=`; nothing, when there is none.
fn without_key(uri: &Uri) -> Option<Uri> {
    let query = uri.query().filter(|it| it.contains("key="))?;
    let kept: Vec<&str> = query
        .split('&')
        .filter(|it| !it.starts_with("key="))
        .collect();
    let whole = match kept.is_empty() {
        true => uri.path().to_owned(),
        false => format!("{}?{}", uri.path(), kept.join("&")),
    };
    let mut parts = uri.clone().into_parts();
    parts.path_and_query = Some(whole.parse().ok()?);
    Uri::from_parts(parts).ok()
}

/// Opens the way out.
pub(crate) async fn open(
    settings: &Settings,
    db: &Db,
    keys: Arc<Credentials>,
    workspaces: &Workspaces,
) -> Result<Models, ServerError> {
    let wrong = |error: String| ServerError::Models(error);
    let mut prices = Prices::shipped().map_err(|error| wrong(error.to_string()))?;
    if let Some(file) = &settings.models_prices {
        let text = std::fs::read_to_string(file).map_err(|error| ServerError::File {
            path: file.clone(),
            reason: error.to_string(),
        })?;
        let own = Prices::read(&text).map_err(|error| wrong(error.to_string()))?;
        prices = prices.with(own);
    }
    let options = Options {
        folder: settings.data.join(FOLDER),
        reach: outgoing::reach(&outgoing::guard(settings)?),
        prices,
        strict: settings.models_strict,
        retention: settings.exchanges_retention,
        safe: keys.clone(),
        happened: Arc::new(Events(db.clone())),
        keys,
        workspaces: workspaces.clone(),
    };
    let failed = |error: EgressError| match error {
        EgressError::Store(error) => error.into(),
        other => wrong(other.to_string()),
    };
    Models::open(db.clone(), options).await.map_err(failed)
}

/// What the events tell.
struct Events(Db);

#[async_trait]
impl Happened for Events {
    async fn behind(&self, workspace: &Workspace, number: u64) -> Result<Vec<Event>, String> {
        let found = skep_runtime::Event::behind(&self.0, workspace, number).await;
        let found = found.map_err(|error| error.to_string())?.into_iter();
        let event = |it: skep_runtime::Event| Event {
            number: it.number,
            kind: it.kind,
            at: it.at,
        };
        Ok(found.map(event).collect())
    }
}

/// Tells the audit log of exchanges of one request.
struct Seen {
    act: Arc<Act>,
}

impl Witness for Seen {
    fn entry(&self, outcome: &str, opened: &Opened, now: Timestamp) -> Vec<u8> {
        let model = format!("{}/{}", opened.provider, opened.model);
        let id = ExchangeId::from_bytes(opened.id).to_string();
        let about = (Thing::new(MODEL_USE.kind, model), id.as_str());
        self.act.exchanged(outcome, about, now)
    }
}

pub(crate) fn who(asker: &Asker) -> Who {
    Who {
        workspace: asker.principal.workspace.clone(),
        kind: asker.principal.kind.word(),
        id: asker.principal.id.clone(),
    }
}

/// How large and how slow a request to a model may be.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Bounds {
    pub(crate) body: u64,
    pause: Duration,
}

impl Bounds {
    pub(crate) fn of(settings: &Settings) -> Self {
        Self {
            body: settings.limits_body.min(MOST_BODY),
            pause: settings.limits_body_timeout,
        }
    }
}

pub(crate) async fn read(mut body: SentBody, bounds: &Bounds) -> Result<Bytes, ApiError> {
    let mut whole = BytesMut::new();
    loop {
        let frame = tokio::time::timeout(bounds.pause, body.frame()).await;
        let frame = frame
            .map_err(|_| ApiError::new(Code::RequestTimeout, "the body did not arrive in time"))?;
        match frame {
            None => return Ok(whole.freeze()),
            Some(Err(_)) => return Err(ApiError::new(Code::BadRequest, "the body was cut off")),
            Some(Ok(frame)) => {
                let Ok(data) = frame.into_data() else {
                    continue;
                };
                if (whole.len() + data.len()) as u64 > bounds.body {
                    return Err(EgressError::TooLarge(bounds.body).into());
                }
                whole.extend_from_slice(&data);
            }
        }
    }
}

/// Answers a request to a model.
pub(crate) async fn answer(
    state: &State,
    asker: &Asker,
    id: RequestId,
    request: Request<SentBody>,
) -> Result<Response<dispatch::Body>, ApiError> {
    let workspace = asker.principal.workspace.clone();
    let act = Arc::new(Act::new(asker, workspace, MODEL_USE, "", id));
    let answered = asked(state, asker, &act, request).await;
    if let Err(error) = &answered
        && !act.is_told()
    {
        state.audit.note(&act, error.public().code().as_str()).await;
    }
    Ok(answered?.map(|body| dispatch::Body::Model(Box::new(body))))
}

async fn asked(
    state: &State,
    asker: &Asker,
    act: &Arc<Act>,
    request: Request<SentBody>,
) -> Result<Response<Body>, ApiError> {
    let (head, body) = request.into_parts();
    let Some((door, path)) = door(head.uri.path()) else {
        return Err(ApiError::new(Code::NotFound, "there is no such door"));
    };
    let body = read(body, &state.model_bounds).await?;
    let who = who(asker);
    let asked = (&head.method, path, head.uri.query());
    let mut plan = state.models.plan(&who, door, asked, &body).await?;
    let mut circumstances = asker.circumstances(state, head.method.as_str(), head.uri.path());
    if plan.is_prompt() {
        let about = (PROMPT_USE.action, Resource::Workspace);
        if !gate::may_under(state, asker, about, &circumstances).await? {
            act.is_about(PROMPT_USE.kind, who.workspace.as_str());
            return Err(refused(state, act, asker).await);
        }
        let thread = head.headers.get(THREAD).map(HeaderValue::as_bytes);
        let made = state.models.with_prompt(&who, plan, (thread, &body));
        plan = made.await?;
    }
    let looked = looks(state, asker).await?;
    let inputs = plan.inputs(&body, looked).await?;
    let signals = inputs.injection.signals();
    circumstances.sent = sent(&inputs, &signals);
    if let Some(told) = inputs.told() {
        state
            .threats
            .injected(&asker.principal, asker.remote, &told);
    }
    let allowed = allowed(state, asker, &plan, &circumstances).await?;
    let first = allowed.first().or_else(|| plan.targets.first());
    let name = first.map(Target::name).unwrap_or_default();
    act.is_about(MODEL_USE.kind, &name);
    gate::ask(state, act, asker, About::Model(&name), &circumstances).await?;
    if looks(state, asker).await? != looked {
        // Policies changed meanwhile, and want to know what was not looked for.
        return Err(EgressError::Busy.into());
    }
    plan.targets = allowed;
    if let Some(model) = plan.compares() {
        let about = (MODEL_USE.action, Resource::Model(model));
        if !gate::may_under(state, asker, about, &circumstances).await? {
            plan.compares_not();
        }
    }
    let witness = Arc::new(Seen { act: act.clone() });
    let sent = state
        .models
        .send(plan, &who, (&head.headers, &body), witness);
    Ok(sent.await?)
}

/// What policies about models want to know of a request.
async fn looks(state: &State, asker: &Asker) -> Result<Looks, ApiError> {
    let slice = state.policies.slice(&asker.principal.workspace).await?;
    let reads = |attribute| slice.reads(MODEL_USE.action, attribute);
    Ok(Looks {
        pii: reads("pii"),
        secrets: reads("secrets"),
        injection: reads("injection"),
    })
}

/// What policies are told of a request.
fn sent<'a>(inputs: &'a Inputs, signals: &'a BTreeSet<String>) -> Sent<'a> {
    let long = |it: u64| i64::try_from(it).unwrap_or(i64::MAX);
    Sent {
        body_bytes: Some(long(inputs.body_bytes)),
        output_tokens: inputs.output_tokens.map(long),
        pii: Some(&inputs.pii),
        secrets: Some(&inputs.secrets),
        injection: Some((i64::from(inputs.injection.score()), signals)),
    }
}

/// Somebody may not have prompts made.
async fn refused(state: &State, act: &Act, asker: &Asker) -> ApiError {
    act.is_refused();
    state.audit.refuse(act).await;
    state.threats.denied(&asker.principal, asker.remote);
    let action = PROMPT_USE.action;
    ApiError::new(Code::Forbidden, format!("`{action}` is not allowed"))
}

/// Those who may be asked.
async fn allowed(
    state: &State,
    asker: &Asker,
    plan: &Plan,
    circumstances: &Circumstances<'_>,
) -> Result<Vec<Target>, ApiError> {
    let mut allowed = Vec::with_capacity(plan.targets.len());
    for target in &plan.targets {
        let name = target.name();
        let resource = Resource::Model(&name);
        if gate::may_under(state, asker, (MODEL_USE.action, resource), circumstances).await? {
            allowed.push(target.clone());
        }
    }
    Ok(allowed)
}

/// An error of a request, as who came by this door reads it.
pub(crate) fn rendered(door: Option<Door>, problem: Response<String>) -> Response<String> {
    match door {
        None => problem,
        Some(door) => as_its_sdk_reads(door, problem),
    }
}

/// An error as the SDKs of a door read one, with all that a problem document has beside it.
fn as_its_sdk_reads(door: Door, problem: Response<String>) -> Response<String> {
    let (mut head, text) = problem.into_parts();
    let mut document: Value = serde_json::from_str(&text).unwrap_or_default();
    let status = head.status.as_u16();
    let text_of = |field: &str| document[field].as_str().unwrap_or_default().to_owned();
    let message = format!("{}. {}", text_of("detail"), text_of("hint"));
    let code = text_of("code");
    let error = match door {
        Door::OpenAi => {
            json!({ "message": message, "type": of_openai(status), "param": null, "code": code })
        }
        Door::Anthropic => json!({ "type": of_anthropic(status), "message": message }),
        Door::Google => json!({ "code": status, "message": message, "status": of_google(status) }),
    };
    document["error"] = error;
    if door == Door::Anthropic {
        document["type"] = "error".into();
    }
    head.headers
        .insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    Response::from_parts(head, document.to_string())
}

const fn of_openai(status: u16) -> &'static str {
    match status {
        401 => "authentication_error",
        403 => "permission_error",
        429 => "rate_limit_error",
        500.. => "server_error",
        _ => "invalid_request_error",
    }
}

const fn of_anthropic(status: u16) -> &'static str {
    match status {
        401 => "authentication_error",
        403 => "permission_error",
        404 => "not_found_error",
        413 => "request_too_large",
        429 => "rate_limit_error",
        503 => "overloaded_error",
        500.. => "api_error",
        _ => "invalid_request_error",
    }
}

const fn of_google(status: u16) -> &'static str {
    match status {
        401 => "UNAUTHENTICATED",
        403 => "PERMISSION_DENIED",
        404 => "NOT_FOUND",
        429 => "RESOURCE_EXHAUSTED",
        502 | 503 => "UNAVAILABLE",
        500.. => "INTERNAL",
        _ => "INVALID_ARGUMENT",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_leads_to_its_door() {
        for (path, expected) in [
            ("/llm/openai/v1/models", Some((Door::OpenAi, "/v1/models"))),
            (
                "/llm/anthropic/v1/messages",
                Some((Door::Anthropic, "/v1/messages")),
            ),
            ("/llm/openai", None),
            ("/llm/openaix/v1", None),
            ("/agents/a/llm/openai/v1", None),
        ] {
            assert_eq!(door(path), expected, "{path}");
        }
    }

    #[test]
    fn a_key_in_a_query_does_not_stay_there() {
        for (before, after) in [
            ("/llm/google/x?key=secret", Some("/llm/google/x")),
            (
                "/llm/google/x?alt=sse&key=secret&a=b",
                Some("/llm/google/x?alt=sse&a=b"),
            ),
            ("/llm/google/x?alt=sse", None),
        ] {
            let uri = without_key(&before.parse().unwrap());
            assert_eq!(uri.map(|it| it.to_string()).as_deref(), after, "{before}");
        }
    }

    #[test]
    fn errors_are_read_by_each_sdk_and_by_ours() {
        let problem = || {
            let text = r#"{"type":"/docs/errors/over-budget","status":429,"code":"over-budget","detail":"No","hint":"Wait."}"#;
            let mut problem = Response::new(text.to_owned());
            *problem.status_mut() = http::StatusCode::TOO_MANY_REQUESTS;
            problem
        };
        for (door, place, word) in [
            (Door::OpenAi, "type", "rate_limit_error"),
            (Door::Anthropic, "type", "rate_limit_error"),
            (Door::Google, "status", "RESOURCE_EXHAUSTED"),
        ] {
            let shaped = as_its_sdk_reads(door, problem());
            assert_eq!(shaped.headers()[CONTENT_TYPE], "application/json");
            let read: Value = serde_json::from_str(shaped.body()).unwrap();
            assert_eq!(read["error"][place], word);
            assert_eq!(read["error"]["message"], "No. Wait.");
            assert_eq!(read["code"], "over-budget");
        }
    }
}
