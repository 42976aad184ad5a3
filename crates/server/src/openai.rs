//! The door to agents as models of `OpenAI`'s: `/v1`. What asks for `agent/NAME` is a run of that agent, and so is a response with
//! the id of a run; everything else goes where `/llm/openai/v1` leads.

use std::collections::BTreeSet;

use bytes::Bytes;
use http::header::{CONTENT_TYPE, HeaderName, HeaderValue};
use http::request::Parts;
use http::{Method, Request, Response, StatusCode, Uri};
use http_body_util::{Either, Full};
use hyper::body::Incoming;
use serde_json::{Value, json};
use skep_api::RunStatus;
use skep_core::{Code, RunId, ThreadId, Workspace};
use skep_guard::Principal;
use skep_guard::policy::{Agent, Resource};
use skep_ingress::{Context, Visit};
use skep_protocols::agui::{Interrupt, Message, RunAgentInput};
use skep_protocols::openai::{self, Asked, Before, Form, Head, PREFIX, Teller};
use skep_protocols::{Shown, View};
use skep_runs::{Filter, Kept, Run};

use crate::access::CALL;
use crate::dispatch::Body;
use crate::gate::{self, Asker};
use crate::models;
use crate::peers::forward::Sent;
use crate::problem::ApiError;
use crate::runs::{
    Started, Watch, Wish, Write, answer_key, begin, check_id, kept_json, key, stream, tell, whose,
};
use crate::state::State;

/// The path of the door.
const PATH: &str = "/v1/";
/// Where the door to models is, which has all else.
const MODELS: &str = "/llm/openai";
/// Names the conversation of a request.
const THREAD: HeaderName = HeaderName::from_static("skep-thread");
/// The same key of the same client is one run.
const KEY: HeaderName = HeaderName::from_static("idempotency-key");
/// Tells an SDK not to send a request again.
const RETRY: HeaderName = HeaderName::from_static("x-should-retry");

/// Whether a path is one of this door.
pub(crate) fn is_meant(path: &str) -> bool {
    path.starts_with(PATH)
}

/// For whom a request is.
pub(crate) enum For {
    /// For an agent.
    Agent(String, Request<Sent>),
    /// For a model: the request as that door has it.
    Model(Request<Sent>),
    /// It asks which agents there are; or whether there is this one.
    Listing(Option<String>),
}

fn missing(path: &str) -> ApiError {
    ApiError::new(Code::NotFound, format!("nothing is at {path}"))
}

/// The run that a path behind `/v1/` names, and what is asked of it.
fn of_run(rest: &str) -> Option<(RunId, &str)> {
    let rest = rest.strip_prefix("responses/")?;
    let (id, what) = rest.split_once('/').unwrap_or((rest, ""));
    Some((id.parse().ok()?, what))
}

/// Finds out for whom a request is.
///
/// # Errors
/// When its body cannot be read, or it names a run that is not there.
pub(crate) async fn meant(
    state: &State,
    workspace: &Workspace,
    request: Request<Incoming>,
) -> Result<For, ApiError> {
    let (mut head, body) = request.into_parts();
    let path = head.uri.path().to_owned();
    let rest = path.strip_prefix(PATH).unwrap_or_default();
    let mut body = Either::Left(body);
    if head.method == Method::POST && matches!(rest, "chat/completions" | "responses") {
        let bytes = models::read(body, &state.model_bounds).await?;
        let agent = openai::model(&bytes);
        body = Either::Right(Full::new(bytes));
        if let Some(agent) = agent {
            return Ok(For::Agent(agent, Request::from_parts(head, body)));
        }
    }
    if let Some((run, _)) = of_run(rest) {
        let agent = state.runs().show(workspace, run).await?.agent;
        return Ok(For::Agent(agent, Request::from_parts(head, body)));
    }
    if head.method == Method::GET && rest == "models" {
        return Ok(For::Listing(None));
    }
    let agent = ["models/agent/", "models/agent%2F"];
    if let Some(agent) = agent.iter().find_map(|it| rest.strip_prefix(it)) {
        return Ok(For::Listing(Some(agent.to_owned())));
    }
    let whole = head.uri.path_and_query().map_or(PATH, |it| it.as_str());
    let there: Result<Uri, _> = format!("{MODELS}{whole}").parse();
    head.uri = there.map_err(|_| missing(&path))?;
    Ok(For::Model(Request::from_parts(head, body)))
}

/// The agents that somebody may call, as models.
///
/// # Errors
/// When the one that is asked for is not among them.
pub(crate) async fn listing(
    state: &State,
    asker: &Asker,
    wanted: Option<String>,
) -> Result<Response<Body>, ApiError> {
    let workspace = &asker.principal.workspace;
    let mut names: BTreeSet<String> = state.runtime.names(workspace).into_iter().collect();
    names.extend(state.peers.agents(workspace));
    if let Some(wanted) = &wanted {
        names.retain(|it| it == wanted);
    }
    let mut found = Vec::with_capacity(names.len());
    for name in names {
        let spec = state.runtime.target(workspace, &name).map(|it| it.spec());
        let agent = Agent {
            name: &name,
            driver: spec.as_ref().map(|it| it.driver.as_str()),
            labels: spec.as_ref().map(|it| &it.labels),
        };
        if gate::may(state, asker, CALL.action, Resource::Agent(agent)).await? {
            let id = format!("{PREFIX}{name}");
            found.push(json!({ "id": id, "object": "model", "created": 0, "owned_by": "skep" }));
        }
    }
    match wanted {
        None => Ok(answered(
            StatusCode::OK,
            &json!({ "object": "list", "data": found }),
        )),
        Some(name) => {
            let missing =
                || ApiError::new(Code::AgentNotFound, format!("there is no agent `{name}`"));
            Ok(answered(StatusCode::OK, &found.pop().ok_or_else(missing)?))
        }
    }
}

fn answered(status: StatusCode, value: &Value) -> Response<Body> {
    let mut response = Response::new(Body::Api(axum::body::Body::from(value.to_string())));
    *response.status_mut() = status;
    let kind = HeaderValue::from_static("application/json");
    response.headers_mut().insert(CONTENT_TYPE, kind);
    response
}

/// Somebody who asks an agent.
struct House<'a> {
    state: &'a State,
    context: &'a Context,
    asker: &'a Principal,
    agent: &'a str,
    head: &'a Parts,
}

/// Answers what is asked of an agent.
///
/// # Errors
/// When it is not as it must be, and as of any call.
pub(crate) async fn answer(
    state: &State,
    (context, visit): (Context, Visit),
    (asker, agent): (&Asker, &str),
    request: Request<Sent>,
) -> Result<Response<Body>, ApiError> {
    let (head, body) = request.into_parts();
    let house = House {
        state,
        context: &context,
        asker: &asker.principal,
        agent,
        head: &head,
    };
    let rest = head.uri.path().strip_prefix(PATH).unwrap_or_default();
    if let Some((run, what)) = of_run(rest) {
        let run = house.own(run).await?;
        return match (head.method.as_str(), what) {
            ("GET", "") => house.show(&run).await,
            ("POST", "cancel") => house.cancel(&run).await,
            (_, "" | "cancel") => {
                let detail = "a response of an agent is read by GET, and cancelled by POST";
                Err(ApiError::new(Code::MethodNotAllowed, detail))
            }
            _ => Err(missing(head.uri.path())),
        };
    }
    let bytes = models::read(body, &state.model_bounds).await?;
    let invalid = |why: String| ApiError::new(Code::BadRequest, why);
    let value = serde_json::from_slice(&bytes)
        .map_err(|error| invalid(format!("the body is no JSON: {error}")))?;
    let asked = match rest {
        "chat/completions" => Asked::chat(value).map(|it| (Form::Chat { usage: it.usage }, it)),
        _ => Asked::response(value).map(|it| (Form::Response, it)),
    };
    let (form, asked) = asked.map_err(|wrong| invalid(wrong.to_string()))?;
    house.ask(visit, form, asked).await
}

/// Where a run stands.
#[derive(Default)]
struct Place {
    /// What the client calls the conversation.
    thread: Option<String>,
    messages: Vec<Message>,
    state: Option<Value>,
    open: Vec<Interrupt>,
    /// What makes it the one answer to that.
    answers: Option<String>,
    task: Option<RunId>,
    parent: Option<String>,
}

impl Place {
    fn of(kept: Kept) -> Result<Self, ApiError> {
        Ok(Self {
            messages: kept_json(kept.messages)?,
            state: kept_json(kept.state)?,
            ..Self::default()
        })
    }

    /// It goes on with a run, if that waits.
    fn behind(&mut self, run: Run) {
        if run.status == RunStatus::Interrupted {
            self.answers = Some(answer_key(&run));
            self.task = Some(run.task.unwrap_or(run.id));
            self.open = run.interrupts;
        }
    }
}

/// A stream of what is told.
struct Telling(Teller);

impl Write for Telling {
    fn write(&mut self, shown: &[Shown], _: &View) -> Bytes {
        let frames = shown.iter().flat_map(|it| self.0.push(it));
        frames.collect()
    }

    fn is_over(&self) -> bool {
        self.0.is_over()
    }
}

impl House<'_> {
    fn workspace(&self) -> &Workspace {
        &self.context.workspace
    }

    /// A run of who asks, with this agent.
    async fn own(&self, id: RunId) -> Result<Run, ApiError> {
        let run = self.state.runs().show(self.workspace(), id).await?;
        match run.whose == whose(self.asker) && run.agent == self.agent {
            true => Ok(run),
            false => Err(ApiError::new(Code::RunNotFound, "there is no such run")),
        }
    }

    /// The last run of a thread.
    async fn last(&self, thread: ThreadId) -> Result<Option<Run>, ApiError> {
        let filter = Filter {
            thread: Some(thread),
            ..Filter::default()
        };
        let runs = self.state.runs();
        let found = runs.list(self.workspace(), filter, (None, 1)).await?;
        Ok(found.into_iter().next())
    }

    /// Where what is asked stands: behind a response, in a conversation, or by itself.
    async fn place(&self, asked: &Asked) -> Result<Place, ApiError> {
        let runs = self.state.runs();
        if let Some(id) = &asked.previous {
            let missing =
                || ApiError::new(Code::RunNotFound, format!("there is no response `{id}`"));
            let run = self.own(id.parse().map_err(|_| missing())?).await?;
            if run.status == RunStatus::Running {
                let why =
                    format!("the response `{id}` is under way: cancel it, or wait for its end");
                return Err(ApiError::new(Code::ThreadState, why));
            }
            let kept = runs.kept(self.workspace(), run.id).await?;
            let is_kept = kept.messages.is_some();
            let mut place = Place::of(kept)?;
            if !is_kept {
                // It came to nothing; what it was asked was asked.
                let (input, _) = runs.asked(self.workspace(), run.id).await?;
                (place.messages, place.state) = (input.messages, input.state);
            }
            let last = self.last(run.thread).await?;
            match last.is_some_and(|last| last.id == run.id) {
                true => {
                    let (thread, _) = runs.thread(self.workspace(), run.thread).await?;
                    place.thread = Some(thread.name);
                    place.behind(run);
                }
                // From there on the conversation is another one.
                false => place.parent = Some(run.name),
            }
            return Ok(place);
        }
        let header = self.head.headers.get(THREAD).map(HeaderValue::to_str);
        let header = header
            .transpose()
            .map_err(|_| ApiError::new(Code::BadRequest, "`Skep-Thread` is no text"))?;
        let Some(name) = asked.conversation.as_deref().or(header) else {
            return Ok(Place::default());
        };
        check_id("conversation", name)?;
        let whose = whose(self.asker);
        let named = runs.named(self.workspace(), (self.agent, &whose, name));
        let mut place = match named.await? {
            None => Place::default(),
            Some((thread, kept)) => {
                let mut place = Place::of(kept)?;
                if let Some(last) = self.last(thread.id).await? {
                    place.behind(last);
                }
                place
            }
        };
        place.thread = Some(name.to_owned());
        Ok(place)
    }

    /// Makes a run of what is asked; or finds the one that was made of it before.
    async fn begin(&self, visit: Visit, asked: Asked) -> Result<Started, ApiError> {
        let whose = whose(self.asker);
        let given = self.head.headers.get(KEY);
        let given = given.map(|it| {
            key(
                "openai",
                &[&whose, self.agent, &String::from_utf8_lossy(it.as_bytes())],
            )
        });
        let runs = self.state.runs();
        if let Some(name) = &given {
            let before = (self.agent, whose.as_str(), name.as_str());
            if let Some(run) = runs.run_named(self.workspace(), before).await? {
                let (input, _) = runs.asked(self.workspace(), run.id).await?;
                if !asked.is_of(&input) {
                    let why = "another request had this `Idempotency-Key`";
                    return Err(ApiError::new(Code::IdempotencyKeyReused, why));
                }
                return Ok(Started {
                    run: run.id,
                    call: run.call,
                    input,
                });
            }
        }
        let place = self.place(&asked).await?;
        let id = RunId::new();
        let name = given.unwrap_or_else(|| id.to_string());
        let thread = place.thread.unwrap_or_else(|| ThreadId::new().to_string());
        let before = Before {
            messages: place.messages,
            state: place.state,
            open: &place.open,
            parent: place.parent,
        };
        let input = asked.input((&thread, &name), before);
        let input = input.map_err(|wrong| ApiError::new(Code::BadRequest, wrong.to_string()))?;
        let wish = Wish {
            asker: self.asker,
            agent: self.agent,
            input,
            key: place.answers.unwrap_or(name),
            task: place.task,
            id: Some(id),
            push: None,
            headers: &self.head.headers,
        };
        let started = begin(self.state, (self.context, visit), wish).await;
        started.map_err(|error| match error.public().code() {
            Code::IdempotencyKeyReused => {
                let why = "another message has answered what the agent waited for";
                ApiError::new(Code::ThreadState, why)
            }
            _ => error,
        })
    }

    async fn ask(
        &self,
        visit: Visit,
        form: Form,
        asked: Asked,
    ) -> Result<Response<Body>, ApiError> {
        let (streams, at_once) = (asked.stream, asked.background);
        let started = self.begin(visit, asked).await?;
        let run = self
            .state
            .runs()
            .show(self.workspace(), started.run)
            .await?;
        let mut response = match streams {
            true => self.streamed(form, &run, &started, None).await?,
            false => match self.whole(form, &run, &started, !at_once).await {
                Ok(response) => response,
                Err(error) => goes_on(&run, &error),
            },
        };
        tell(response.headers_mut(), &started);
        Ok(response)
    }

    fn teller_head(&self, run: &Run, input: &RunAgentInput) -> Head {
        let created = run.created.as_micros().div_euclid(1_000_000);
        Head::of(run.id.to_string(), self.agent, created, input)
    }

    async fn streamed(
        &self,
        form: Form,
        run: &Run,
        started: &Started,
        behind: Option<u64>,
    ) -> Result<Response<Body>, ApiError> {
        let head = self.teller_head(run, &started.input);
        let watch = Watch::of(self.state, self.workspace(), started, None).await?;
        let teller = Teller::new(form, head, &started.input, behind);
        Ok(stream(watch, Telling(teller)))
    }

    /// An answer that comes at once: when the run has ended, or as it stands now.
    async fn whole(
        &self,
        form: Form,
        run: &Run,
        started: &Started,
        to_end: bool,
    ) -> Result<Response<Body>, ApiError> {
        let head = self.teller_head(run, &started.input);
        let mut teller = Teller::silent(form, head, &started.input);
        let mut watch = Watch::of(self.state, self.workspace(), started, None).await?;
        let mut shown = watch.begin();
        loop {
            for one in &shown {
                let _ = teller.push(one);
            }
            if teller.is_over() {
                break;
            }
            let next = match to_end {
                true => watch.next().await,
                false => watch.now().await,
            };
            match next {
                None => break,
                Some(next) => {
                    shown = next.map_err(|why| ApiError::new(Code::ShuttingDown, why))?;
                }
            }
        }
        Ok(match (form, teller.failure()) {
            (Form::Chat { .. }, Some((code, why))) => failed(code, why),
            _ => answered(StatusCode::OK, &teller.whole()),
        })
    }

    async fn started(&self, run: &Run) -> Result<Started, ApiError> {
        let (input, _) = self.state.runs().asked(self.workspace(), run.id).await?;
        Ok(Started {
            run: run.id,
            call: run.call,
            input,
        })
    }

    /// A response as it stands now, or its stream.
    async fn show(&self, run: &Run) -> Result<Response<Body>, ApiError> {
        let started = self.started(run).await?;
        let query = self.head.uri.query().unwrap_or_default();
        let mut streams = false;
        let mut behind = None;
        for (name, value) in query.split('&').filter_map(|it| it.split_once('=')) {
            match name {
                "stream" => streams = value == "true",
                "starting_after" => {
                    let number = value.parse().map_err(|_| {
                        let why = "`starting_after` is not the number of an event";
                        ApiError::new(Code::BadRequest, why)
                    });
                    behind = Some(number?);
                }
                _ => {}
            }
        }
        match streams {
            true => self.streamed(Form::Response, run, &started, behind).await,
            false => self.whole(Form::Response, run, &started, false).await,
        }
    }

    /// Ends a run; one that has ended stays as it is.
    async fn cancel(&self, run: &Run) -> Result<Response<Body>, ApiError> {
        let (by, workspace) = (&self.context.by, self.workspace());
        match run.status {
            RunStatus::Running => {
                let cancelled = self.state.ingress.cancel(by, workspace, run.call).await;
                match cancelled.map_err(ApiError::from) {
                    Err(error) if error.public().code() != Code::CallState => return Err(error),
                    // It has ended meanwhile, or now.
                    _ => {}
                }
            }
            RunStatus::Interrupted => {
                self.state.runs().give_up(by, workspace, run.id).await?;
            }
            RunStatus::Finished | RunStatus::Failed | RunStatus::Cancelled => {}
        }
        let run = self.own(run.id).await?;
        let started = self.started(&run).await?;
        self.whole(Form::Response, &run, &started, false).await
    }
}

/// A run that failed, as a client of chats reads it.
fn failed(code: &str, why: &str) -> Response<Body> {
    not_again(StatusCode::BAD_GATEWAY, (code, why))
}

/// A run that cannot be told to its end, though it goes on.
fn goes_on(run: &Run, error: &ApiError) -> Response<Body> {
    let public = error.public();
    let (code, why) = (public.code(), public.detail());
    let status = StatusCode::from_u16(code.status());
    let status = status.unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let id = run.id;
    let why = format!("{why}. The run goes on: GET /v1/responses/{id} has what comes of it");
    not_again(status, (code.as_str(), &why))
}

/// An error behind which an SDK does not ask again by itself: that would be another run.
fn not_again(status: StatusCode, (code, why): (&str, &str)) -> Response<Body> {
    let error = json!({ "message": why, "type": "server_error", "param": null, "code": code });
    let mut response = answered(status, &json!({ "error": error }));
    let no = HeaderValue::from_static("false");
    response.headers_mut().insert(RETRY, no);
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_names_a_run_or_none() {
        let id = RunId::new();
        for (path, expected) in [
            (format!("responses/{id}"), Some((id, ""))),
            (format!("responses/{id}/cancel"), Some((id, "cancel"))),
            ("responses/resp_123".to_owned(), None),
            ("responses".to_owned(), None),
            (format!("chat/completions/{id}"), None),
        ] {
            assert_eq!(of_run(&path), expected, "{path}");
        }
    }
}
