//! The door to all servers: Skep is the server here. Tools of all of them are listed as they were approved, under names
//! with their server's, and a call goes to the server of its tool, in the era that it speaks.

use std::sync::Arc;
use std::time::Duration;

use http::header::{ALLOW, HeaderMap, HeaderValue};
use http::{Method, Response, StatusCode};
use serde_json::json;
use skep_mcp::{
    Era, HEADER_METHOD, HEADER_NAME, HEADER_SESSION, HEADER_VERSION, LEGACY, MODERN, Message,
    Object, State, Transport, code, encoded, joined, renamed, reply, split,
};
use tokio::time::Instant;

use super::body::{Body, Open, Sieve};
use super::client::{Said, Talk};
use super::door::{DoorError, Judge, Plan, Refused, refused};
use super::link::Coming;
use super::service::{Inner, Server, Tools};
use crate::EgressError;
use crate::llm::{Who, Witness};

/// Talks that are kept for the next call.
const MOST_TALKS: usize = 256;
/// A talk that nobody used for so long is ended.
const IDLE: Duration = Duration::from_secs(600);
/// After so long a server is looked at again when its tools are listed.
const STALE: Duration = Duration::from_secs(300);

/// A talk of Skep's with a server, for one client.
pub(super) type Talks = parking_lot::Mutex<Vec<(Who, String, Arc<Talk>, Instant)>>;

/// What Skep says of itself.
fn hello(era: Era, asked: &str) -> String {
    let info = json!({ "name": "skep", "title": "Skep", "version": env!("CARGO_PKG_VERSION") });
    let capabilities = json!({ "tools": {} });
    let instructions = "Tools of several servers, each under its server's name: `server__tool`. What they say of \
        themselves comes from outside.";
    match era {
        Era::Legacy => {
            let spoken = LEGACY.iter().find(|it| **it == asked).unwrap_or(&LEGACY[0]);
            json!({
                "protocolVersion": spoken, "capabilities": capabilities, "serverInfo": info,
                "instructions": instructions,
            })
        }
        Era::Modern => json!({
            "resultType": "complete", "supportedVersions": MODERN.iter().chain(&LEGACY).collect::<Vec<_>>(),
            "capabilities": capabilities, "instructions": instructions, "ttlMs": 0, "cacheScope": "private",
            "_meta": { "io.modelcontextprotocol/serverInfo": info },
        }),
    }
    .to_string()
}

/// What a request without a session must say, as Skep is the server here.
pub(super) fn must_say(headers: &HeaderMap) -> Result<(), DoorError> {
    let version = headers.get(HEADER_VERSION).and_then(|it| it.to_str().ok());
    let bad = |code, why: &str, asked: Option<&str>| {
        DoorError::Refused(Refused {
            status: StatusCode::BAD_REQUEST,
            code,
            why: why.to_owned(),
            asked: asked.map(str::to_owned),
        })
    };
    match version {
        None => Err(bad(
            code::MISMATCH,
            "the header `mcp-protocol-version` is missing",
            None,
        )),
        Some(version) if !MODERN.contains(&version) => Err(bad(
            code::VERSION,
            "Unsupported protocol version",
            Some(version),
        )),
        Some(_) if !headers.contains_key(HEADER_METHOD) => Err(bad(
            code::MISMATCH,
            "the header `mcp-method` is missing",
            None,
        )),
        Some(_) => Ok(()),
    }
}

/// The server and the tool of a call, and the call as that server takes it.
pub(super) fn routed(message: &Message<'_>) -> Option<(String, String)> {
    let name = message.params.as_ref()?.text("name")?;
    let (server, tool) = split(&name)?;
    Some((server.to_owned(), renamed(message, tool)))
}

impl Tools {
    /// The tools of all servers that were approved, and that this client may use.
    fn list(&self, plan: &Plan, judge: &dyn Judge) -> String {
        let mut all = Vec::new();
        for (name, server) in plan.known.servers.iter() {
            let condition = self.condition(&plan.workspace, name);
            let now = self.0.db.clock().now();
            if condition.is_none_or(|it| now.since(it.at) > STALE) {
                self.0.look_soon(&plan.workspace, name);
            }
            for tool in server.tools.values() {
                let is_there =
                    tool.state() == State::Approved && server.settings.rules.has(&tool.name);
                if !is_there || !judge.may(name, &tool.name, tool.class()) {
                    continue;
                }
                let own = joined(name, &tool.name);
                let own = own.map(|it| serde_json::Value::from(it).to_string());
                let fields = Object::parse(&tool.definition);
                if let (Some(own), Some(fields)) = (own, fields) {
                    all.push(fields.with(&[("name", Some(&own))]));
                }
            }
        }
        let tools = format!("[{}]", all.join(","));
        match plan.era {
            Era::Legacy => format!(r#"{{"tools":{tools}}}"#),
            Era::Modern => {
                format!(
                    r#"{{"resultType":"complete","tools":{tools},"ttlMs":0,"cacheScope":"private"}}"#
                )
            }
        }
    }

    /// Answers at the door to all servers.
    pub(super) async fn send_to_all(
        &self,
        plan: Plan,
        who: &Who,
        client: &HeaderMap,
        (witness, judge): (Arc<dyn Witness>, Arc<dyn Judge>),
    ) -> Result<Response<Body>, DoorError> {
        let shown = client
            .get(HEADER_SESSION)
            .filter(|_| plan.era == Era::Legacy);
        if let Some(shown) = shown {
            let id = shown.to_str().unwrap_or_default();
            if self.0.sessions.find(id, who, None).is_none() {
                let why = "there is no such session: begin another one";
                return Err(refused(StatusCode::NOT_FOUND, code::REQUEST, why));
            }
            if plan.method == Method::DELETE {
                self.0.sessions.end(id);
                return Ok(of(Coming::accepted()));
            }
        }
        if plan.method != Method::POST {
            let mut response = of(Coming::accepted());
            *response.status_mut() = StatusCode::METHOD_NOT_ALLOWED;
            response
                .headers_mut()
                .insert(ALLOW, HeaderValue::from_static("POST, DELETE"));
            return Ok(response);
        }
        let (Some(id), Some(method)) = (plan.id.clone(), plan.rpc.clone()) else {
            return Ok(of(Coming::accepted()));
        };
        let said = |result: &str| of(Coming::of(StatusCode::OK, reply(&id, result)));
        match method.as_str() {
            "initialize" => {
                let session = self.0.sessions.begin(who, None).ok_or(EgressError::Busy)?;
                let asked = Message::read(&plan.text)
                    .ok()
                    .and_then(|it| it.params?.text("protocolVersion"));
                let mut response = said(&hello(Era::Legacy, &asked.unwrap_or_default()));
                if let Ok(value) = HeaderValue::try_from(&session.id) {
                    response.headers_mut().insert(HEADER_SESSION, value);
                }
                Ok(response)
            }
            "server/discover" if plan.era == Era::Modern => Ok(said(&hello(Era::Modern, ""))),
            "ping" if plan.era == Era::Legacy => Ok(said("{}")),
            "tools/list" => Ok(said(&self.list(&plan, &*judge))),
            "tools/call" => self.call(plan, who, client, (witness, judge)).await,
            _ => {
                let status = match plan.era {
                    Era::Modern => StatusCode::NOT_FOUND,
                    Era::Legacy => StatusCode::OK,
                };
                let why =
                    "there is no such method at the door to all servers: ask one, `/mcp/SERVER`";
                Err(refused(status, code::METHOD, why))
            }
        }
    }

    async fn call(
        &self,
        plan: Plan,
        who: &Who,
        client: &HeaderMap,
        (witness, judge): (Arc<dyn Witness>, Arc<dyn Judge>),
    ) -> Result<Response<Body>, DoorError> {
        let known = plan.known.clone();
        let (Some(wanted), Some(server)) = (&plan.wanted, known.servers.get(&plan.server)) else {
            return Err(refused(
                StatusCode::OK,
                code::PARAMS,
                "there is no such tool",
            ));
        };
        let mut open = self.0.begin(who, wanted, &witness)?;
        let is_http = matches!(server.settings.transport, Transport::Http { .. });
        let condition = self.condition(&plan.workspace, &plan.server);
        let is_modern = condition.is_some_and(|it| it.era == Some(Era::Modern));
        if plan.era == Era::Modern && is_modern && is_http {
            let mut headers = client.clone();
            if let Ok(name) = HeaderValue::try_from(encoded(&wanted.thing)) {
                headers.insert(HEADER_NAME, name);
            }
            let sieve = Sieve {
                inner: self.0.clone(),
                workspace: plan.workspace.clone(),
                server: plan.server.clone(),
                known: known.clone(),
                judge,
                own: plan.id.clone().zip(plan.rpc.clone()),
            };
            let asked = self.over_http(&plan, server, who, (&headers, None)).await;
            let (coming, _) = asked.inspect_err(|_| open.settle("unreachable"))?;
            return Ok(passed(coming, Some(sieve), Some(open), server));
        }
        let answer = self.talk(&plan, server, who).await;
        let answer = answer.inspect_err(|_| open.settle("unreachable"))?;
        Ok(answered(&plan, answer, open))
    }

    /// Calls a tool as a client of its server's own, without abilities of the client's.
    async fn talk(
        &self,
        plan: &Plan,
        server: &Server,
        who: &Who,
    ) -> Result<Result<String, Said>, DoorError> {
        let message = Message::read(&plan.text).ok();
        let params = message
            .and_then(|it| it.params)
            .map(|it| it.with(&[("_meta", None)]));
        let params = params.unwrap_or_else(|| "{}".to_owned());
        let tool = plan
            .wanted
            .as_ref()
            .and_then(|it| server.tools.get(&it.thing));
        let definition = tool.map_or("{}", |it| &it.definition);
        for is_last in [false, true] {
            let talk = self.0.talk_of(plan, server, who).await?;
            let answer = talk.call(&params, definition).await;
            match answer {
                // It forgot who this is, and did nothing.
                Ok(Err(said)) if said.is_gone() && !is_last => self.0.forget(who, &plan.server),
                Ok(answer) => return Ok(answer),
                Err(error) => {
                    self.0.forget(who, &plan.server);
                    return Err(error.into());
                }
            }
        }
        Err(Inner::unreachable(&server.settings, "it ends each session").into())
    }
}

impl Inner {
    /// Ends talks that nobody goes on with.
    pub(super) fn prune_talks(&self) {
        let mut talks = self.talks.lock();
        talks.retain(|(.., talk, last)| last.elapsed() < IDLE && !talk.is_over());
    }

    fn forget(&self, who: &Who, server: &str) {
        self.talks
            .lock()
            .retain(|(whose, its, ..)| whose != who || its != server);
    }

    async fn talk_of(
        self: &Arc<Self>,
        plan: &Plan,
        server: &Server,
        who: &Who,
    ) -> Result<Arc<Talk>, EgressError> {
        self.prune_talks();
        {
            let mut talks = self.talks.lock();
            let found = talks.iter_mut().find(|(whose, its, talk, _)| {
                whose == who && *its == plan.server && *talk.settings() == server.settings
            });
            if let Some((.., talk, last)) = found {
                *last = Instant::now();
                return Ok(talk.clone());
            }
        }
        let settings = Arc::new(server.settings.clone());
        let talk = Arc::new(Talk::begin(self, &plan.workspace, &settings).await?);
        let mut talks = self.talks.lock();
        if talks.len() >= MOST_TALKS {
            talks.remove(0);
        }
        talks.push((
            who.clone(),
            plan.server.clone(),
            talk.clone(),
            Instant::now(),
        ));
        Ok(talk)
    }
}

fn of(coming: Coming) -> Response<Body> {
    let mut response = Response::new(());
    *response.status_mut() = coming.status;
    *response.headers_mut() = coming.headers.clone();
    response.map(|()| Body::new(coming, None, None, None))
}

fn passed(
    coming: Coming,
    sieve: Option<Sieve>,
    open: Option<Open>,
    server: &Server,
) -> Response<Body> {
    let mut response = Response::new(());
    *response.status_mut() = coming.status;
    *response.headers_mut() = super::door::of_answer(&coming.headers, &coming.forms);
    let patience = Some(server.settings.timeout);
    response.map(|()| Body::new(coming, sieve, open, patience))
}

/// What a server answered, in the era of the client.
fn answered(plan: &Plan, answer: Result<String, Said>, mut open: Open) -> Response<Body> {
    let id = plan.id.as_deref().unwrap_or("null");
    let text = match answer {
        Err(said) => {
            open.settle("error");
            skep_mcp::error(Some(id), said.code, &said.message, None)
        }
        Ok(result) => {
            let fields = Object::parse(&result);
            let field = |name| {
                fields
                    .as_ref()
                    .and_then(|it| it.get(name))
                    .map(serde_json::value::RawValue::get)
            };
            if field("resultType") == Some("\"input_required\"") {
                open.settle("error");
                let why = "the tool asks its user: use it at the door of its server, `/mcp/SERVER`";
                return of(Coming::of(
                    StatusCode::OK,
                    skep_mcp::error(Some(id), code::INTERNAL, why, None),
                ));
            }
            open.settle(if field("isError") == Some("true") {
                "tool-error"
            } else {
                "200"
            });
            let lacks = plan.era == Era::Modern && field("resultType").is_none();
            let whole = fields
                .filter(|_| lacks)
                .map(|it| it.with(&[("resultType", Some("\"complete\""))]));
            reply(id, &whole.unwrap_or(result))
        }
    };
    of(Coming::of(StatusCode::OK, text))
}
