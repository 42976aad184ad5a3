//! The doors to all servers and to virtual ones: Skep is the server here. Tools of all of them are listed as they were approved, under names
//! with their server's, and a call goes to the server of its tool, in the era that it speaks.

use std::sync::Arc;
use std::time::Duration;

use http::header::{ALLOW, HeaderMap, HeaderName, HeaderValue};
use http::{Method, Response, StatusCode};
use serde_json::json;
use skep_mcp::{
    Era, HEADER_METHOD, HEADER_NAME, HEADER_SESSION, HEADER_VERSION, LEGACY, MODERN, Message,
    Object, State, Transport, code, encoded, joined, mirrored, renamed, reply, split,
};
use tokio::time::Instant;

use super::api::To;
use super::body::{Body, Open, Sieve};
use super::chain::Steps;
use super::client::{Said, Talk};
use super::door::{DoorError, Judge, Plan, Refused, Wanted, refused};
use super::link::Coming;
use super::parts::part_tools;
use super::service::{Inner, Server, Tools};
use super::things::Kind;
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
fn hello(plan: &Plan, asked: &str, capabilities: &serde_json::Value) -> String {
    let info = json!({ "name": "skep", "title": "Skep", "version": env!("CARGO_PKG_VERSION") });
    let instructions = match &plan.part {
        Some(part) => &part.about,
        None => {
            "Tools of several servers, each under its server's name: `server__tool`. What they say of themselves comes \
             from outside."
        }
    };
    match plan.era {
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

/// The answer that is a list.
pub(super) fn listed(era: Era, key: &str, all: &[String]) -> String {
    let all = all.join(",");
    match era {
        Era::Legacy => format!(r#"{{"{key}":[{all}]}}"#),
        Era::Modern => {
            format!(
                r#"{{"resultType":"complete","{key}":[{all}],"ttlMs":0,"cacheScope":"private"}}"#
            )
        }
    }
}

impl Tools {
    /// The tools of all servers that were approved, and that this client may use.
    fn list(&self, plan: &Plan, judge: &dyn Judge) -> String {
        if let Some(part) = &plan.part {
            for name in part.servers() {
                self.freshen(plan, name);
            }
            return listed(plan.era, "tools", &part_tools(part, &plan.known, judge));
        }
        let mut all = Vec::new();
        for (name, server) in plan.known.servers.iter() {
            self.freshen(plan, name);
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
        listed(plan.era, "tools", &all)
    }

    /// Looks at a server again that nobody looked at for long.
    fn freshen(&self, plan: &Plan, server: &str) {
        let condition = self.condition(&plan.workspace, server);
        let now = self.0.db.clock().now();
        let is_there = plan.known.servers.contains_key(server);
        if is_there && condition.is_none_or(|it| now.since(it.at) > STALE) {
            self.0.look_soon(&plan.workspace, server);
        }
    }

    /// Answers at the door to all servers, or to a virtual one.
    pub(super) async fn send_to_all(
        &self,
        plan: Plan,
        who: &Who,
        client: &HeaderMap,
        (witness, judge): (Arc<dyn Witness>, Arc<dyn Judge>),
        steps: &dyn Steps,
    ) -> Result<Response<Body>, DoorError> {
        let shown = client
            .get(HEADER_SESSION)
            .filter(|_| plan.era == Era::Legacy);
        let part = plan.part.clone();
        let door = part.as_ref().map(|it| it.name.as_str());
        if let Some(shown) = shown {
            let id = shown.to_str().unwrap_or_default();
            if self.0.sessions.find(id, who, door).is_none() {
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
        if let Some(kind) = Kind::of(&method) {
            return self.list_things(&plan, kind, who, (&*judge, steps)).await;
        }
        let abilities = self.abilities(&plan);
        match method.as_str() {
            "initialize" => {
                let session = self.0.sessions.begin(who, door).ok_or(EgressError::Busy)?;
                let asked = Message::read(&plan.text)
                    .ok()
                    .and_then(|it| it.params?.text("protocolVersion"));
                let mut response = said(&hello(&plan, &asked.unwrap_or_default(), &abilities));
                if let Ok(value) = HeaderValue::try_from(&session.id) {
                    response.headers_mut().insert(HEADER_SESSION, value);
                }
                Ok(response)
            }
            "server/discover" if plan.era == Era::Modern => Ok(said(&hello(&plan, "", &abilities))),
            "ping" if plan.era == Era::Legacy => Ok(said("{}")),
            "tools/list" => Ok(said(&self.list(&plan, &*judge))),
            "tools/call" => self.call(plan, who, client, (witness, judge), steps).await,
            "resources/read" | "prompts/get" => self.fetch(&plan, &method, who, &witness).await,
            _ => {
                let status = match plan.era {
                    Era::Modern => StatusCode::NOT_FOUND,
                    Era::Legacy => StatusCode::OK,
                };
                let why = "there is no such method at this door: ask one server, `/mcp/SERVER`";
                Err(refused(status, code::METHOD, why))
            }
        }
    }

    async fn call(
        &self,
        mut plan: Plan,
        who: &Who,
        client: &HeaderMap,
        (witness, judge): (Arc<dyn Witness>, Arc<dyn Judge>),
        steps: &dyn Steps,
    ) -> Result<Response<Body>, DoorError> {
        let known = plan.known.clone();
        let (Some(wanted), Some(server)) = (&plan.wanted, known.servers.get(&plan.server)) else {
            return Err(refused(
                StatusCode::OK,
                code::PARAMS,
                "there is no such tool",
            ));
        };
        let mut open = self.0.begin(who, (server, wanted), &witness).await?;
        let is_http = !server.settings.transport.is_program();
        let condition = self.condition(&plan.workspace, &plan.server);
        let is_modern = condition.is_some_and(|it| it.era == Some(Era::Modern));
        if plan.era == Era::Modern && is_modern && is_http {
            let mut headers = client.clone();
            if let Ok(name) = HeaderValue::try_from(encoded(&wanted.thing)) {
                headers.insert(HEADER_NAME, name);
            }
            plan.again = say_again(&mut headers, server, wanted, &plan.text);
            let sieve = Sieve {
                inner: self.0.clone(),
                workspace: plan.workspace.clone(),
                server: plan.server.clone(),
                known: known.clone(),
                judge,
                own: plan.id.clone().zip(plan.rpc.clone()),
            };
            let asked = self
                .over_http(&plan, server, who, (&headers, None, steps))
                .await;
            let (coming, _) = asked.inspect_err(|error| open.settle(error.outcome()))?;
            return Ok(passed(coming, Some(sieve), Some(open), server));
        }
        let params = Message::read(&plan.text).ok().and_then(|it| it.params);
        let params = params.map(|it| it.with(&[("_meta", None)]));
        let params = params.unwrap_or_else(|| "{}".to_owned());
        let answer = self.use_tool(server, who, steps, (&wanted.thing, &params));
        let answer = answer.await;
        let answer = answer.inspect_err(|error| open.settle(error.outcome()))?;
        Ok(answered(&plan, answer, open))
    }

    /// Calls a tool: of Skep itself, or as a client of its server's own.
    pub(super) async fn use_tool(
        &self,
        server: &Server,
        who: &Who,
        steps: &dyn Steps,
        (tool, params): (&str, &str),
    ) -> Result<Result<String, Said>, EgressError> {
        if let Transport::Skep { .. } = server.settings.transport {
            let to = To {
                workspace: &who.workspace,
                settings: &server.settings,
                own: Some(steps),
            };
            let params = Object::parse(params);
            return self.0.call_api(to, params.as_ref()).await.map(Ok);
        }
        self.talk(server, who, "tools/call", (tool, params)).await
    }

    /// Calls a tool, or asks for something else that has a name, as a client of its server's own, without abilities of the
    /// client's.
    pub(super) async fn talk(
        &self,
        server: &Server,
        who: &Who,
        method: &str,
        (tool, params): (&str, &str),
    ) -> Result<Result<String, Said>, EgressError> {
        let definition = server.tools.get(tool);
        let definition = definition.map_or("{}", |it| &it.definition);
        let name = &server.settings.name;
        for is_last in [false, true] {
            let talk = self.0.talk_of(server, who).await;
            // A greeting uses nothing yet.
            let talk = talk.map_err(EgressError::before)?;
            match talk.call(method, params, definition).await {
                // It forgot who this is, and did nothing.
                Ok(Err(said)) if said.is_gone() && !is_last => self.0.forget(who, name),
                Ok(answer) => return Ok(answer),
                Err(error) => {
                    self.0.forget(who, name);
                    return Err(error);
                }
            }
        }
        let why = "it ends each session";
        Err(Inner::failed(&server.settings, "404", why))
    }
}

/// Says arguments of a call again in its headers, as the tool asks for them. Gives their names.
fn say_again(headers: &mut HeaderMap, server: &Server, wanted: &Wanted, text: &str) -> Vec<String> {
    let definition = server.tools.get(&wanted.thing);
    let definition = definition.map_or("{}", |it| &it.definition);
    let params = Message::read(text).ok().and_then(|it| it.params);
    let arguments = params.and_then(|it| it.object("arguments"));
    let all = mirrored(definition, arguments.as_ref()).into_iter();
    let said = all.filter_map(|(name, value)| {
        let name = HeaderName::try_from(name).ok()?;
        headers.insert(name.clone(), HeaderValue::try_from(value).ok()?);
        Some(name.as_str().to_owned())
    });
    said.collect()
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

    pub(super) async fn talk_of(
        self: &Arc<Self>,
        server: &Server,
        who: &Who,
    ) -> Result<Arc<Talk>, EgressError> {
        let name = &server.settings.name;
        self.prune_talks();
        {
            let mut talks = self.talks.lock();
            let found = talks.iter_mut().find(|(whose, its, talk, _)| {
                whose == who && its == name && *talk.settings() == server.settings
            });
            if let Some((.., talk, last)) = found {
                *last = Instant::now();
                return Ok(talk.clone());
            }
        }
        let settings = Arc::new(server.settings.clone());
        let talk = Arc::new(Talk::begin(self, &who.workspace, &settings).await?);
        let mut talks = self.talks.lock();
        if talks.len() >= MOST_TALKS {
            talks.remove(0);
        }
        talks.push((who.clone(), name.clone(), talk.clone(), Instant::now()));
        Ok(talk)
    }
}

pub(super) fn of(coming: Coming) -> Response<Body> {
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

/// A result as a client of an era reads it.
pub(super) fn complete(era: Era, result: String) -> String {
    let fields = Object::parse(&result);
    let lacks = |it: &Object<'_>| era == Era::Modern && it.get("resultType").is_none();
    let whole = fields.filter(lacks);
    let whole = whole.map(|it| it.with(&[("resultType", Some("\"complete\""))]));
    whole.unwrap_or(result)
}

/// What a server answered, in the era of the client.
pub(super) fn answered(
    plan: &Plan,
    answer: Result<String, Said>,
    mut open: Open,
) -> Response<Body> {
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
            reply(id, &complete(plan.era, result))
        }
    };
    of(Coming::of(StatusCode::OK, text))
}
