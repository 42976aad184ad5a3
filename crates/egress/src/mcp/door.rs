//! The door to one server: what a client sends is read, asked about, and passed on with its session and its key.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use http::header::{
    ACCEPT, ALLOW, CACHE_CONTROL, CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue, RETRY_AFTER,
};
use http::{Method, Response, StatusCode};
use skep_core::{ExchangeId, Workspace};
use skep_mcp::{
    Chain, Class, Era, HEADER_METHOD, HEADER_NAME, HEADER_PARAM, HEADER_SESSION, HEADER_VERSION,
    Kind, LEGACY, Message, Object, State, Virtual, agrees, code, repeats,
};
use tokio::time::Instant;

use super::body::{Body, Open, Sieve, why_not};
use super::chain::Steps;
use super::link::{Coming, Sending, UNREACHABLE};
use super::merged;
use super::parts::{self, Meant};
use super::service::{Inner, Known, Server, Tools};
use super::sessions::{Behind, Session};
use super::things;
use crate::EgressError;
use crate::ledger::{Opened, Way};
use crate::llm::{On, Who, Witness, one_call};
use crate::money::Money;
use crate::scrub::Forms;

/// The resources of a server, as a thing that somebody uses. No tool has such a name.
pub(super) const RESOURCES: &str = ":resources";
/// The prompts of a server.
pub(super) const PROMPTS: &str = ":prompts";
/// A server itself, for what is about none of its things.
pub(super) const ITSELF: &str = ":server";
/// Arguments that policies may look at.
const MOST_ARGUMENTS: usize = 256;

/// Says whether who asks may use something, to leave the rest out of lists.
pub trait Judge: Send + Sync {
    /// Whether they may use a thing of a server, of a class.
    fn may(&self, server: &str, thing: &str, class: Class) -> bool;
}

/// What a request wants to use.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wanted {
    /// Of which server.
    pub server: String,
    /// A tool, or what stands for its resources or prompts.
    pub thing: String,
    /// What it does.
    pub class: Class,
    /// What it is given: texts without their quotes, all else as JSON.
    pub arguments: BTreeMap<String, String>,
}

impl Wanted {
    /// A server itself.
    fn itself(server: &str) -> Self {
        Self {
            server: server.to_owned(),
            thing: ITSELF.to_owned(),
            class: Class::Read,
            arguments: BTreeMap::new(),
        }
    }
}

/// A request that is refused in the words of the protocol.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{why}")]
pub struct Refused {
    /// The status.
    pub status: StatusCode,
    /// The code of the error.
    pub code: i64,
    /// Why.
    pub why: String,
    /// The revisions that are spoken, when another one was asked for.
    pub asked: Option<String>,
}

/// Why a request came to nothing.
#[derive(Debug, thiserror::Error)]
pub enum DoorError {
    /// It is no request of the protocol.
    #[error(transparent)]
    Refused(#[from] Refused),
    /// Something else.
    #[error(transparent)]
    Egress(#[from] EgressError),
}

impl DoorError {
    /// How an exchange ends that comes to this.
    pub(super) fn outcome(&self) -> &str {
        match self {
            Self::Refused(_) => UNREACHABLE,
            Self::Egress(error) => error.outcome(),
        }
    }
}

pub(super) fn refused(status: StatusCode, code: i64, why: impl Into<String>) -> DoorError {
    DoorError::Refused(Refused {
        status,
        code,
        why: why.into(),
        asked: None,
    })
}

/// What a client sent.
pub struct Plan {
    pub(super) workspace: Workspace,
    /// At the door to all servers, or to a virtual one: Skep is the server there.
    all: bool,
    /// The virtual server.
    pub(super) part: Option<Arc<Virtual>>,
    /// The tool that is made of steps.
    pub(super) chain: Option<Chain>,
    pub(super) server: String,
    pub(super) known: Known,
    pub(super) method: Method,
    pub(super) text: String,
    /// The id of the request, raw.
    pub(super) id: Option<String>,
    /// What the request asks for.
    pub(super) rpc: Option<String>,
    pub(super) era: Era,
    /// Its headers that say an argument again, as the tool asks for them.
    pub(super) again: Vec<String>,
    /// What it wants to use.
    pub wanted: Option<Wanted>,
}

impl Plan {
    /// Finds out what a message wants to use, and at the door to all servers of which.
    fn understand(&mut self, message: &Message<'_>) -> Result<(), DoorError> {
        let Kind::Request { method, .. } = &message.kind else {
            return Ok(());
        };
        if self.all {
            if method == "tools/call" {
                let missing = || refused(StatusCode::OK, code::PARAMS, "there is no such tool");
                let (server, text) = match &self.part {
                    None => merged::routed(message).ok_or_else(missing)?,
                    Some(part) => match parts::meant(part, &self.known, message)? {
                        Meant::Tool(server, text) => (server, text),
                        Meant::Chain(chain) => {
                            self.chain = Some(chain);
                            return Ok(());
                        }
                    },
                };
                let found = self.known.servers.get(&server).ok_or_else(missing)?;
                let call = Message::read(&text)
                    .map_err(|fault| refused(StatusCode::BAD_REQUEST, fault.code, fault.why))?;
                self.wanted = found.wanted(method, call.params.as_ref())?;
                self.server = server;
                self.text = text;
            }
            if matches!(method.as_str(), "resources/read" | "prompts/get") {
                let why = "there is no such resource or prompt";
                let missing = || refused(StatusCode::OK, code::PARAMS, why);
                let found = things::routed(self.part.as_deref(), method, message);
                let (server, text) = found.ok_or_else(missing)?;
                let found = self.known.servers.get(&server).ok_or_else(missing)?;
                let own = Message::read(&text)
                    .map_err(|fault| refused(StatusCode::BAD_REQUEST, fault.code, fault.why))?;
                self.wanted = found.wanted(method, own.params.as_ref())?;
                self.server = server;
                self.text = text;
            }
            return Ok(());
        }
        let found = self.known.servers.get(&self.server);
        let found = found.map(|it| it.wanted(method, message.params.as_ref()));
        if let Some(wanted) = found.transpose()?.flatten() {
            self.wanted = Some(wanted);
        } else if !PASS.contains(&method.as_str()) {
            let status = match self.era {
                Era::Modern => StatusCode::NOT_FOUND,
                Era::Legacy => StatusCode::OK,
            };
            return Err(refused(status, code::METHOD, "there is no such method"));
        }
        Ok(())
    }
}

impl Plan {
    /// Whether headers say the arguments of a call as its body does.
    fn agree(&mut self, headers: &HeaderMap, params: Option<&Object<'_>>) -> Result<(), DoorError> {
        if self.rpc.as_deref() != Some("tools/call") {
            return Ok(());
        }
        let tool = self.wanted.as_ref().map(|it| it.thing.as_str());
        let server = self.known.servers.get(&self.server);
        let tool = server.zip(tool).and_then(|(it, name)| it.tools.get(name));
        let Some(tool) = tool else {
            return Ok(());
        };
        let all = headers
            .iter()
            .map(|(name, value)| (name.as_str(), value.as_bytes()));
        let all = all.filter(|(name, _)| name.starts_with(HEADER_PARAM));
        let given = params.and_then(|it| it.object("arguments"));
        let again = repeats(all, &tool.definition, given.as_ref());
        self.again = again.map_err(|mismatch| {
            refused(
                StatusCode::BAD_REQUEST,
                code::MISMATCH,
                mismatch.to_string(),
            )
        })?;
        Ok(())
    }
}

/// What passes, beside what has a name of its own. Not `tasks/*`: who made a task is not known here.
const PASS: [&str; 9] = [
    "initialize",
    "ping",
    "server/discover",
    "tools/list",
    "resources/list",
    "resources/templates/list",
    "prompts/list",
    "logging/setLevel",
    "subscriptions/listen",
];

/// The arguments of a call, as policies see them.
fn arguments(params: Option<&Object<'_>>) -> Result<BTreeMap<String, String>, DoorError> {
    let mut all = BTreeMap::new();
    let Some(given) = params.and_then(|it| it.object("arguments")) else {
        return Ok(all);
    };
    for (name, value) in given.fields() {
        let text = serde_json::from_str(value).unwrap_or_else(|_| value.to_owned());
        all.insert(name.to_owned(), text);
    }
    match all.len() > MOST_ARGUMENTS {
        true => Err(refused(
            StatusCode::BAD_REQUEST,
            code::PARAMS,
            "more than 256 arguments",
        )),
        false => Ok(all),
    }
}

/// One parameter that is a text, as an argument.
fn argument(params: Option<&Object<'_>>, name: &str) -> BTreeMap<String, String> {
    let found = params.and_then(|it| it.text(name));
    found.map(|it| (name.to_owned(), it)).into_iter().collect()
}

/// What a completion is of, as if that were asked for.
fn completed<'a>(
    params: Option<&Object<'a>>,
) -> Result<(&'static str, Option<Object<'a>>), DoorError> {
    let of = params.and_then(|it| it.object("ref"));
    let is_odd =
        |it: &Object<'_>| it.twice().is_some() || it.disguised(&["type", "name", "uri"]).is_some();
    let of = of.filter(|it| !is_odd(it));
    let kind = of.as_ref().and_then(|it| it.text("type"));
    match kind.as_deref() {
        Some("ref/prompt") => Ok(("prompts/get", of)),
        Some("ref/resource") => Ok(("resources/read", of)),
        _ => Err(refused(
            StatusCode::BAD_REQUEST,
            code::PARAMS,
            "`ref` is a prompt or a resource, and says so once",
        )),
    }
}

impl Server {
    /// The tool of a call, when it may be called at all.
    pub(super) fn called(&self, name: &str) -> Result<Class, DoorError> {
        let server = &self.settings.name;
        let tool = self
            .tools
            .get(name)
            .filter(|_| self.settings.rules.has(name));
        let Some(tool) = tool else {
            let why = format!("`{server}` has no tool of this name");
            return Err(refused(StatusCode::OK, code::PARAMS, why));
        };
        match tool.state() {
            State::Approved => Ok(tool.class()),
            state => Err(EgressError::ToolBlocked {
                tool: format!("{server}/{name}"),
                why: why_not(state),
            }
            .into()),
        }
    }

    /// What a request wants to use; nothing, when it wants nothing that is asked about.
    fn wanted(
        &self,
        method: &str,
        params: Option<&Object<'_>>,
    ) -> Result<Option<Wanted>, DoorError> {
        let settings = &self.settings;
        let off = |what: &str| {
            let server = &settings.name;
            refused(
                StatusCode::NOT_FOUND,
                code::METHOD,
                format!("{what} of `{server}` do not pass"),
            )
        };
        let wanted = |thing: &str, class, arguments| Wanted {
            server: settings.name.clone(),
            thing: thing.to_owned(),
            class,
            arguments,
        };
        let (method, params) = match method {
            "completion/complete" => completed(params)?,
            _ => (method, params.cloned()),
        };
        let params = params.as_ref();
        match method {
            "tools/call" => {
                let name = params.and_then(|it| it.text("name"));
                let missing = || refused(StatusCode::OK, code::PARAMS, "`name` is missing");
                let name = name.ok_or_else(missing)?;
                let class = self.called(&name)?;
                Ok(Some(wanted(&name, class, arguments(params)?)))
            }
            _ if method.starts_with("resources/") && !settings.resources => Err(off("resources")),
            _ if method.starts_with("prompts/") && !settings.prompts => Err(off("prompts")),
            _ if method.starts_with("resources/") => Ok(Some(wanted(
                RESOURCES,
                Class::Read,
                argument(params, "uri"),
            ))),
            "prompts/get" | "prompts/list" => {
                let mut all = arguments(params)?;
                all.extend(argument(params, "name"));
                Ok(Some(wanted(PROMPTS, Class::Read, all)))
            }
            _ => Ok(None),
        }
    }
}

/// The values of a header.
fn values<'a>(headers: &'a HeaderMap, name: &str) -> Vec<&'a [u8]> {
    headers
        .get_all(name)
        .iter()
        .map(HeaderValue::as_bytes)
        .collect()
}

impl Tools {
    /// Reads what a client sends to the door of a server.
    ///
    /// # Errors
    /// [`DoorError`].
    pub async fn plan(
        &self,
        workspace: &Workspace,
        server: Option<&str>,
        (method, headers): (&Method, &HeaderMap),
        body: &Bytes,
    ) -> Result<Plan, DoorError> {
        let known = self.0.known(workspace).await?;
        let part = server.and_then(|it| known.virtuals.get(it)).cloned();
        let server = server.filter(|_| part.is_none());
        if let Some(server) = server
            && !known.servers.contains_key(server)
        {
            let why = format!("there is no MCP server `{server}`");
            return Err(EgressError::NotFound(why).into());
        }
        let mut plan = Plan {
            workspace: workspace.clone(),
            all: server.is_none(),
            part,
            chain: None,
            server: server.unwrap_or_default().to_owned(),
            known: known.clone(),
            method: method.clone(),
            text: String::new(),
            id: None,
            rpc: None,
            era: Era::Legacy,
            again: Vec::new(),
            // Whatever reaches a server is asked about.
            wanted: server.map(Wanted::itself),
        };
        match *method {
            Method::GET | Method::DELETE => return Ok(plan),
            Method::POST => {}
            _ => {
                let why = "it takes POST, and GET and DELETE for sessions";
                return Err(refused(StatusCode::METHOD_NOT_ALLOWED, code::REQUEST, why));
            }
        }
        let bad = |code, why: String| refused(StatusCode::BAD_REQUEST, code, why);
        let text = std::str::from_utf8(body);
        let text = text.map_err(|_| bad(code::PARSE, "it is no JSON".to_owned()))?;
        let message = Message::of_client(text).map_err(|fault| bad(fault.code, fault.why))?;
        plan.id = message.id().map(|it| it.get().to_owned());
        plan.rpc = message.method().map(str::to_owned);
        let params = message.params.as_ref();
        let version = headers.get(HEADER_VERSION).and_then(|it| it.to_str().ok());
        plan.era = Era::of(params, version);
        plan.text = text.to_owned();
        if let Some(method) = &plan.rpc {
            let agreed = agrees(|name| values(headers, name), method, params);
            agreed.map_err(|mismatch| bad(code::MISMATCH, mismatch.to_string()))?;
        }
        if plan.all && plan.era == Era::Modern {
            merged::must_say(headers)?;
        }
        plan.understand(&message)?;
        plan.agree(headers, params)?;
        Ok(plan)
    }

    /// Passes on what a client sent, after the policies said yes to what it wants.
    ///
    /// # Errors
    /// [`DoorError`].
    pub async fn send(
        &self,
        plan: Plan,
        who: &Who,
        client: &HeaderMap,
        (witness, judge): (Arc<dyn Witness>, Arc<dyn Judge>),
        steps: &dyn Steps,
    ) -> Result<Response<Body>, DoorError> {
        if let Some(chain) = plan.chain.clone() {
            return self.run(&plan, &chain, who, steps).await;
        }
        if plan.all {
            let eyes = (witness, judge);
            return self.send_to_all(plan, who, client, eyes, steps).await;
        }
        let known = plan.known.clone();
        let Some(server) = known.servers.get(&plan.server) else {
            return Err(EgressError::NotFound("the server is gone".to_owned()).into());
        };
        let shown = client
            .get(HEADER_SESSION)
            .filter(|_| plan.era == Era::Legacy);
        let session = match shown {
            None => None,
            Some(value) => {
                let id = value.to_str().unwrap_or_default();
                let found = self.0.sessions.find(id, who, Some(&plan.server));
                let gone = || {
                    let why = "there is no such session: begin another one";
                    refused(StatusCode::NOT_FOUND, code::REQUEST, why)
                };
                Some(found.ok_or_else(gone)?)
            }
        };
        let open = match &plan.wanted {
            // What uses nothing is no exchange; a no to it is written down.
            Some(wanted) if wanted.thing == ITSELF => None,
            Some(wanted) => Some(self.0.begin(who, (server, wanted), &witness).await?),
            None => None,
        };
        let sieve = Sieve {
            inner: self.0.clone(),
            workspace: plan.workspace.clone(),
            server: plan.server.clone(),
            known: known.clone(),
            judge,
            own: plan.id.clone().zip(plan.rpc.clone()),
        };
        let asked = match server.settings.transport.is_program() {
            false => {
                self.over_http(&plan, server, who, (client, session, steps))
                    .await
            }
            true => self.to_program(&plan, server, who, session).await,
        };
        let (coming, own) = match asked {
            Ok(asked) => asked,
            Err(error) => {
                if let Some(mut open) = open {
                    open.settle(error.outcome());
                }
                return Err(error);
            }
        };
        let lasts =
            plan.method == Method::GET || plan.rpc.as_deref() == Some("subscriptions/listen");
        let patience = (!lasts).then_some(server.settings.timeout);
        let mut response = Response::new(());
        *response.status_mut() = coming.status;
        *response.headers_mut() = of_answer(&coming.headers, &coming.forms);
        if let Some(own) = own
            && let Ok(value) = HeaderValue::try_from(own)
        {
            response.headers_mut().insert(HEADER_SESSION, value);
        }
        Ok(response.map(|()| Body::new(coming, Some(sieve), open, patience)))
    }

    /// Over HTTP: the answer, and the client's session.
    pub(super) async fn over_http(
        &self,
        plan: &Plan,
        server: &Server,
        who: &Who,
        (client, session, steps): (&HeaderMap, Option<Arc<Session>>, &dyn Steps),
    ) -> Result<(Coming, Option<String>), DoorError> {
        let behind = match &session {
            None => None,
            Some(session) => match session.behind.lock().await.get(&plan.server) {
                Some(Behind::Http(behind)) => behind.clone(),
                _ => None,
            },
        };
        let sending = Sending {
            workspace: &plan.workspace,
            settings: &server.settings,
            method: plan.method.clone(),
            headers: to_server(client, &plan.again),
            session: behind.as_deref(),
            body: plan.text.clone().into(),
            own: Some(steps),
        };
        let coming = self.0.ask_http(sending).await?;
        let status = coming.status;
        if status == StatusCode::UNAUTHORIZED || status == StatusCode::PROXY_AUTHENTICATION_REQUIRED
        {
            let why = format!("it refuses who asks (status {status})");
            return Err(Inner::failed(&server.settings, status.as_str(), why).into());
        }
        if let Some(session) = session {
            let ends = plan.method == Method::DELETE && status.is_success();
            if ends || status == StatusCode::NOT_FOUND {
                self.0.sessions.end(&session.id);
            }
            return Ok((coming, Some(session.id.clone())));
        }
        let given = coming.headers.get(HEADER_SESSION);
        let given = given.and_then(|it| it.to_str().ok());
        let Some(given) = given.filter(|_| plan.rpc.as_deref() == Some("initialize")) else {
            return Ok((coming, None));
        };
        let own = self.0.sessions.begin(who, Some(&plan.server));
        let own = own.ok_or(EgressError::Busy)?;
        let behind = Behind::Http(Some(given.to_owned()));
        own.behind.lock().await.insert(plan.server.clone(), behind);
        Ok((coming, Some(own.id.clone())))
    }

    /// To a program: one runs for each session.
    async fn to_program(
        &self,
        plan: &Plan,
        server: &Server,
        who: &Who,
        session: Option<Arc<Session>>,
    ) -> Result<(Coming, Option<String>), DoorError> {
        if plan.era == Era::Modern {
            return Err(DoorError::Refused(Refused {
                status: StatusCode::BAD_REQUEST,
                code: code::VERSION,
                why: "Unsupported protocol version".to_owned(),
                asked: Some(skep_mcp::MODERN[0].to_owned()),
            }));
        }
        if plan.rpc.as_deref() == Some("initialize") {
            let process = self.0.launch(&plan.workspace, &server.settings).await?;
            let coming = Coming::events(process.ask(&plan.text).await?);
            let own = self.0.sessions.begin(who, Some(&plan.server));
            let own = own.ok_or(EgressError::Busy)?;
            let behind = Behind::Program(process);
            own.behind.lock().await.insert(plan.server.clone(), behind);
            return Ok((coming, Some(own.id.clone())));
        }
        let Some(session) = session else {
            let why = format!("begin with `initialize` ({} at most)", LEGACY[0]);
            return Err(refused(StatusCode::BAD_REQUEST, code::REQUEST, why));
        };
        let id = session.id.clone();
        let found = session.behind.lock().await.get(&plan.server).cloned();
        let Some(Behind::Program(process)) = found.filter(|it| match it {
            Behind::Program(process) => !process.is_over(),
            Behind::Http(_) => false,
        }) else {
            self.0.sessions.end(&id);
            let why = "the server's program ended: begin another session";
            return Err(refused(StatusCode::NOT_FOUND, code::REQUEST, why));
        };
        let coming = match (&plan.method, &plan.id) {
            (&Method::DELETE, _) => {
                self.0.sessions.end(&id);
                return Ok((Coming::accepted(), None));
            }
            (&Method::GET, _) => Coming::events(process.listen()),
            (_, Some(_)) => Coming::events(process.ask(&plan.text).await?),
            (_, None) => {
                process.tell(&plan.text).await?;
                Coming::accepted()
            }
        };
        Ok((coming, Some(id)))
    }
}

impl Inner {
    /// Tells that an exchange begins, when budgets let it.
    pub(super) async fn begin(
        self: &Arc<Self>,
        who: &Who,
        (server, wanted): (&Server, &Wanted),
        witness: &Arc<dyn Witness>,
    ) -> Result<Open, EgressError> {
        let price = Money::from_nanos(server.settings.price(&wanted.thing));
        let tool = format!("{}/{}", wanted.server, wanted.thing);
        let one = one_call(price);
        let held = self.models.take_use(who, On::Tool(&tool), one).await?;
        let now = self.db.clock().now();
        let mut opened = Opened {
            id: *ExchangeId::new().as_bytes(),
            workspace: who.workspace.clone(),
            at: now,
            way: Way::Tool,
            kind: who.kind.to_owned(),
            who: who.id.to_string(),
            provider: wanted.server.clone(),
            model: wanted.thing.clone(),
            asked: String::new(),
            reserved: one,
            prices: "none".to_owned(),
            prompt: String::new(),
            thread: String::new(),
            entry: Vec::new(),
        };
        opened.entry = witness.entry("lost", &opened, now);
        let opened = Arc::new(opened);
        let told = self.ledger.begin(opened.clone());
        if let Err(error) = told {
            let workspace = &opened.workspace;
            self.models.give_back_use(workspace, &held);
            return Err(error);
        }
        Ok(Open {
            inner: self.clone(),
            opened,
            witness: witness.clone(),
            began: Instant::now(),
            held,
            price,
            settled: false,
        })
    }
}

/// The headers of the protocol that pass to a server, and those that say an argument again. Whoever asks stays unsaid.
fn to_server(client: &HeaderMap, again: &[String]) -> HeaderMap {
    const PASSED: [&str; 5] = [
        HEADER_VERSION,
        HEADER_METHOD,
        HEADER_NAME,
        "last-event-id",
        "content-type",
    ];
    let mut passed = HeaderMap::new();
    for (name, value) in client {
        let text = name.as_str();
        if PASSED.contains(&text) || *name == ACCEPT || again.iter().any(|it| it == text) {
            passed.append(name.clone(), value.clone());
        }
    }
    passed
}

/// The headers of an answer that pass, without the values of the server's secrets.
pub(super) fn of_answer(server: &HeaderMap, forms: &Forms) -> HeaderMap {
    let buffering = HeaderName::from_static("x-accel-buffering");
    let kept = [CONTENT_TYPE, CACHE_CONTROL, RETRY_AFTER, ALLOW, buffering];
    let all = server.iter().filter(|(name, _)| kept.contains(name));
    let masked = |value: &HeaderValue| match forms.is_empty() {
        true => Ok(value.clone()),
        false => HeaderValue::from_bytes(&forms.masked(value.as_bytes())),
    };
    all.filter_map(|(name, value)| Some((name.clone(), masked(value).ok()?)))
        .collect()
}

#[cfg(test)]
#[path = "door_tests.rs"]
mod tests;
