//! The doors to tools: `/mcp/{server}` to one server, its names as they are, or to a virtual one, and `/mcp` to all of them. Who asks is found
//! out as at any door, policies decide about each tool and its arguments, and what is refused is said in the words of
//! the protocol.

use std::net::IpAddr;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use http::header::{CONTENT_TYPE, HOST, HeaderMap, HeaderValue, ORIGIN};
use http::{Request, Response, StatusCode};
use http_body_util::Either;
use hyper::body::Incoming;
use serde_json::{Value, json};
use skep_audit::Thing;
use skep_core::config::Settings;
use skep_core::{ExchangeId, RequestId, Timestamp};
use skep_egress::EgressError;
use skep_egress::ledger::Opened;
use skep_egress::llm::{Models, Witness};
use skep_egress::mcp::{
    Body, Boxes, DoorError, Judge, No, Options, Own, Refused, Steps, Tools, Wanted,
};
use skep_guard::policy::{Resource, Slice, Tool};
use skep_guard::{Ask, Circumstances, Principal};
use skep_mcp::{Asked, Class, LEGACY, MODERN, Message, code, error};
use skep_store::{By, Db};

use crate::ServerError;
use crate::access::TOOL_USE;
use crate::act::Act;
use crate::budgets;
use crate::credentials::Credentials;
use crate::dispatch::{self, Dispatcher};
use crate::gate::{self, About, Asker};
use crate::headers::Cors;
use crate::models::{read, who};
use crate::outgoing;
use crate::problem::{ApiError, render};
use crate::state::State;
use crate::within;

/// The path of the doors.
const DOOR: &str = "/mcp";

/// The server that a path leads to; none: to all of them.
pub(crate) fn door(path: &str) -> Option<Option<&str>> {
    match path.strip_prefix(DOOR)? {
        "" | "/" => Some(None),
        rest => {
            let server = rest.strip_prefix('/')?;
            let server = server.strip_suffix('/').unwrap_or(server);
            (!server.is_empty() && !server.contains('/')).then_some(Some(server))
        }
    }
}

/// Opens the way out.
pub(crate) fn open(
    settings: &Settings,
    db: &Db,
    keys: Arc<Credentials>,
    models: &Models,
    (boxes, own): (Option<Arc<dyn Boxes>>, &By),
) -> Result<Tools, ServerError> {
    let options = Options {
        reach: outgoing::reach(&outgoing::guard(settings)?),
        keys,
        models: models.clone(),
        boxes,
        own: own.clone(),
    };
    Ok(Tools::open(db.clone(), options))
}

/// Whether a page may ask that says where it is from: one of this machine's own, asked by that name, or one that the
/// configuration lets ask. Whoever is no page says nothing.
pub(crate) fn is_own_page(headers: &HeaderMap, cors: &Cors) -> bool {
    let Some(origin) = headers.get(ORIGIN) else {
        return true;
    };
    if cors.allowed(headers).is_some() {
        return true;
    }
    let is_here = |host: &str| {
        let host = host.trim_start_matches('[').trim_end_matches(']');
        host == "localhost" || host.parse::<IpAddr>().is_ok_and(|it| it.is_loopback())
    };
    let authority = |text: &str| {
        let authority: Option<http::uri::Authority> = text.parse().ok();
        authority.is_some_and(|it| is_here(it.host()))
    };
    let origin = origin.to_str().unwrap_or_default();
    let origin = origin.split_once("://").map_or("", |(_, rest)| rest);
    let host = headers.get(HOST).and_then(|it| it.to_str().ok());
    authority(origin) && host.is_some_and(authority)
}

/// Tells the audit log of what a request used.
struct Seen {
    act: Arc<Act>,
}

impl Witness for Seen {
    fn entry(&self, outcome: &str, opened: &Opened, now: Timestamp) -> Vec<u8> {
        let tool = format!("{}/{}", opened.provider, opened.model);
        let id = ExchangeId::from_bytes(opened.id).to_string();
        let about = (Thing::new(TOOL_USE.kind, tool), id.as_str());
        self.act.exchanged(outcome, about, now)
    }
}

/// Who may see what, of one request.
struct Eyes {
    slice: Arc<Slice>,
    principal: Principal,
    remote: IpAddr,
    time: Timestamp,
}

impl Judge for Eyes {
    fn may(&self, server: &str, thing: &str, class: Class) -> bool {
        let name = format!("{server}/{thing}");
        let arguments = std::collections::BTreeMap::new();
        let circumstances = Circumstances {
            address: Some(self.remote),
            tool: Some(Tool {
                name: &name,
                arguments: &arguments,
            }),
            ..Circumstances::at(self.time)
        };
        let decision = self.slice.decide(&Ask {
            principal: &self.principal,
            action: TOOL_USE.action,
            resource: Resource::Tool {
                name: &name,
                class: class.as_str(),
            },
            circumstances: &circumstances,
        });
        decision.allow
    }
}

/// Asks about the steps of a tool that has some, each as if it were asked for by itself.
struct Each<'a> {
    state: &'a State,
    dispatcher: &'a Dispatcher,
    asker: &'a Asker,
    request: RequestId,
    /// How the request came.
    head: &'a http::request::Parts,
}

#[async_trait]
impl Steps for Each<'_> {
    async fn step(&self, wanted: &Wanted) -> Result<Arc<dyn Witness>, No> {
        let workspace = self.asker.principal.workspace.clone();
        let act = Act::new(self.asker, workspace, TOOL_USE, "", self.request);
        let act = Arc::new(act);
        let asked = allowed(self.state, self.asker, (&act, self.head), wanted).await;
        let refused = |failed: ApiError| {
            let (_, text) = render(&failed, self.request).into_parts();
            let document: Value = serde_json::from_str(&text).unwrap_or_default();
            let why = document["detail"].as_str().unwrap_or_default().to_owned();
            No { why, document }
        };
        asked.map_err(refused)?;
        Ok(Arc::new(Seen { act }))
    }

    async fn own(&self, asked: Asked) -> Result<Own, String> {
        within::ask(self.dispatcher, self.asker, asked).await
    }
}

/// Asks the policies about what a request wants to use.
async fn allowed(
    state: &State,
    asker: &Asker,
    (act, head): (&Act, &http::request::Parts),
    wanted: &Wanted,
) -> Result<(), ApiError> {
    let name = format!("{}/{}", wanted.server, wanted.thing);
    act.is_about(TOOL_USE.kind, &name);
    let (method, path) = (head.method.as_str(), head.uri.path());
    let mut circumstances = asker.circumstances(state, method, path);
    circumstances.tool = Some(Tool {
        name: &name,
        arguments: &wanted.arguments,
    });
    let about = About::Tool(&name, wanted.class.as_str());
    gate::ask(state, act, asker, about, &circumstances)
        .await
        .map(drop)
}

/// Why a request came to nothing.
enum Failed {
    Refused(Refused),
    Api(ApiError),
}

impl From<ApiError> for Failed {
    fn from(error: ApiError) -> Self {
        Self::Api(error)
    }
}

impl From<DoorError> for Failed {
    fn from(error: DoorError) -> Self {
        match error {
            DoorError::Refused(refused) => Self::Refused(refused),
            DoorError::Egress(error) => Self::Api(error.into()),
        }
    }
}

/// Answers a request to a tool.
pub(crate) async fn answer(
    (state, dispatcher): (&State, &Dispatcher),
    asker: &Asker,
    (id, own_page): (RequestId, bool),
    request: Request<Incoming>,
) -> Result<Response<dispatch::Body>, ApiError> {
    let workspace = asker.principal.workspace.clone();
    let act = Arc::new(Act::new(asker, workspace, TOOL_USE, "", id));
    let (head, body) = request.into_parts();
    let body = read(Either::Left(body), &state.model_bounds).await?;
    let answered = match own_page {
        true => asked((state, dispatcher), (asker, id), &act, (&head, &body)).await,
        false => Err(Failed::Refused(Refused {
            status: StatusCode::FORBIDDEN,
            code: code::REQUEST,
            why: "a page of another site asks".to_owned(),
            asked: None,
        })),
    };
    let failed = match answered {
        Ok(response) => return Ok(response.map(|body| dispatch::Body::Tool(Box::new(body)))),
        Err(failed) => failed,
    };
    if let Failed::Api(error) = &failed {
        budgets::look(state, &asker.principal.workspace, error).await;
    }
    if !act.is_told() {
        let outcome = match &failed {
            Failed::Refused(refused) => refused.code.to_string(),
            Failed::Api(error) => error.public().code().as_str().to_owned(),
        };
        state.audit.note(&act, &outcome).await;
    }
    let text = std::str::from_utf8(&body).unwrap_or_default();
    let message = Message::of_client(text).ok();
    let its = message.and_then(|it| it.id()).map(|it| it.get().to_owned());
    Ok(said(failed, its.as_deref(), id).map(|text| dispatch::Body::Api(text.into())))
}

async fn asked(
    (state, dispatcher): (&State, &Dispatcher),
    (asker, request): (&Asker, RequestId),
    act: &Arc<Act>,
    (head, body): (&http::request::Parts, &Bytes),
) -> Result<Response<Body>, Failed> {
    let path = head.uri.path();
    let workspace = &asker.principal.workspace;
    let Some(server) = door(path) else {
        return Err(
            DoorError::Egress(EgressError::NotFound("there is no such door".to_owned())).into(),
        );
    };
    let plan = state
        .tools
        .plan(workspace, server, (&head.method, &head.headers), body);
    let plan = plan.await?;
    if let Some(wanted) = &plan.wanted {
        allowed(state, asker, (act, head), wanted).await?;
    }
    let slice = state.policies.slice(workspace).await;
    let judge = Arc::new(Eyes {
        slice: slice.map_err(ApiError::from)?,
        principal: asker.principal.clone(),
        remote: asker.remote,
        time: state.db.clock().now(),
    });
    let witness = Arc::new(Seen { act: act.clone() });
    let who = who(asker);
    let each = Each {
        state,
        dispatcher,
        asker,
        request,
        head,
    };
    let sent = state
        .tools
        .send(plan, &who, &head.headers, (witness, judge), &each);
    Ok(sent.await?)
}

/// What went wrong, in the words of the protocol, with all that a problem document has beside it.
fn said(failed: Failed, id: Option<&str>, request: RequestId) -> Response<String> {
    let (status, mut headers, text) = match failed {
        Failed::Refused(refused) => {
            let data = refused.asked.map(|asked| {
                let all: Vec<&str> = match asked == MODERN[0] {
                    // What answers here speaks the older ones alone.
                    true => LEGACY.to_vec(),
                    false => MODERN.iter().chain(&LEGACY).copied().collect(),
                };
                json!({ "supported": all, "requested": asked })
            });
            let text = error(id, refused.code, &refused.why, data.as_ref());
            (refused.status, HeaderMap::new(), text)
        }
        Failed::Api(failed) => {
            let (head, text) = render(&failed, request).into_parts();
            let document: Value = serde_json::from_str(&text).unwrap_or_default();
            let text_of = |field: &str| document[field].as_str().unwrap_or_default();
            let message = format!("{}. {}", text_of("detail"), text_of("hint"));
            // A no to a tool is an answer; clients take such a status for one to the whole door.
            let is_no = matches!(head.status, StatusCode::FORBIDDEN) && id.is_some();
            let (status, code) = match is_no {
                true => (StatusCode::OK, code::PARAMS),
                false => (head.status, code::INTERNAL),
            };
            (
                status,
                head.headers,
                error(id, code, &message, Some(&document)),
            )
        }
    };
    let json = HeaderValue::from_static("application/json");
    headers.insert(CONTENT_TYPE, json);
    let mut response = Response::new(text);
    *response.status_mut() = status;
    *response.headers_mut() = headers;
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_leads_to_its_door() {
        for (path, expected) in [
            ("/mcp", Some(None)),
            ("/mcp/", Some(None)),
            ("/mcp/files", Some(Some("files"))),
            ("/mcp/files/", Some(Some("files"))),
            ("/mcp/files/x", None),
            ("/mcpx", None),
            ("/agents/a/mcp", None),
        ] {
            assert_eq!(door(path), expected, "{path}");
        }
    }

    #[test]
    fn pages_of_other_sites_do_not_ask() {
        let cors = Cors {
            origins: vec!["https://ui.example".to_owned()],
        };
        for (origin, host, may) in [
            (None, "evil.example", true),
            (Some("http://localhost:7537"), "localhost:7537", true),
            (Some("http://127.0.0.1:7537"), "[::1]:7537", true),
            (Some("https://ui.example"), "skep.example", true),
            (Some("http://evil.example"), "localhost:7537", false),
            (Some("http://evil.example"), "evil.example", false),
            (Some("http://localhost:7537"), "evil.example", false),
            (Some("http://localhost.evil.example"), "localhost", false),
            (Some("null"), "localhost", false),
        ] {
            let mut headers = HeaderMap::new();
            headers.insert(HOST, host.parse().unwrap());
            if let Some(origin) = origin {
                headers.insert(ORIGIN, origin.parse().unwrap());
            }
            assert_eq!(is_own_page(&headers, &cors), may, "{origin:?} {host}");
        }
    }
}
