//! The door to runs in A2A: `/a2a/{agent}`, over JSON-RPC and HTTP+JSON, in 1.0 and 0.3. A task is a run, or several when it
//! waited for answers.

pub(crate) mod card;
pub(crate) mod push;
mod tasks;

use bytes::Bytes;
use http::header::{ACCEPT, CONTENT_TYPE, HeaderValue};
use http::request::Parts;
use http::{HeaderMap, HeaderName, Method as Verb, Request as HttpRequest, Response, StatusCode};
use serde_json::Value;
use skep_api::RunStatus;
use skep_core::{Clock, Code, RunId, ThreadId, Timestamp, Workspace};
use skep_guard::Principal;
use skep_ingress::{Context, Visit};
use skep_protocols::a2a::{
    Answer, Error, Fault, Form, ListTasks, Message, Question, Request, SendMessage, StreamResponse,
    Task, TaskView, Version, rest, rpc,
};
use skep_protocols::stream::data;
use skep_protocols::{EventId, Shown, View};
use skep_runs::{Run, RunsError, Tasks};

use crate::dispatch::Body;
use crate::gate::Asker;
use crate::models;
use crate::peers::forward::Sent;
use crate::problem::ApiError;
use crate::runs::{
    Started, Watch, Wish, Write, answer_key, begin, check_id, kept_json, key, stream, whose,
};
use crate::state::State;

const JSON: &str = "application/json";
/// The version, on requests and answers.
const VERSION: HeaderName = HeaderName::from_static(Version::NAME);

/// Somebody who asks an agent.
struct House<'a> {
    state: &'a State,
    context: &'a Context,
    asker: &'a Principal,
    agent: &'a str,
    head: &'a Parts,
}

/// What is answered.
enum Done {
    At(Box<Answer>),
    /// A stream of a task, from now on.
    Stream(Box<Watch>, Box<Teller>),
}

impl Done {
    fn at(answer: Answer) -> Self {
        Self::At(Box::new(answer))
    }
}

/// A run of a task that is being followed.
struct Followed {
    view: TaskView,
    watch: Watch,
    run: Run,
    clock: Clock,
    /// The last recorded event that was read, and how much it said.
    last: Option<(EventId, u32)>,
}

impl From<ApiError> for Wrong {
    fn from(error: ApiError) -> Self {
        let public = error.public();
        let code = public.code();
        Self(Error::other(code.status(), code.as_str(), public.detail()))
    }
}

/// Why something is not done, in the protocol's words.
struct Wrong(Error);

impl From<Error> for Wrong {
    fn from(error: Error) -> Self {
        Self(error)
    }
}

impl From<RunsError> for Wrong {
    fn from(error: RunsError) -> Self {
        ApiError::from(error).into()
    }
}

impl From<skep_store::StoreError> for Wrong {
    fn from(error: skep_store::StoreError) -> Self {
        ApiError::from(error).into()
    }
}

fn unsupported(why: impl Into<String>) -> Wrong {
    Wrong(Error::new(Fault::UnsupportedOperation, why))
}

/// Tells a task, as what is shown of its run comes.
struct Teller {
    view: TaskView,
    /// What is told before anything that is shown.
    first: Option<StreamResponse>,
    form: Form,
    /// The id of the request over JSON-RPC.
    envelope: Option<Value>,
    clock: Clock,
}

impl Teller {
    fn frame(&self, event: &StreamResponse) -> Vec<u8> {
        let value = event.wire(self.form);
        let value = match &self.envelope {
            Some(id) => rpc::result(id, &value),
            None => value,
        };
        data(&value)
    }
}

impl Write for Teller {
    fn write(&mut self, shown: &[Shown], _: &View) -> Bytes {
        let now = self.clock.now().as_micros();
        let mut out = Vec::new();
        if let Some(first) = self.first.take() {
            out.extend(self.frame(&first));
        }
        for one in shown {
            for event in self.view.push(one, now) {
                out.extend(self.frame(&event));
            }
        }
        out.into()
    }
}

/// Answers a request at `/a2a/{agent}`; `target` is what stands behind that.
pub(crate) async fn answer(
    state: &State,
    (context, visit): (Context, Visit),
    (asker, agent): (&Asker, &str),
    target: &str,
    request: HttpRequest<Sent>,
) -> Result<Response<Body>, ApiError> {
    let (head, body) = request.into_parts();
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    if card::is_meant(&head.method, path) {
        return card::answer(state, (&context.workspace, agent), &head);
    }
    let told = head
        .headers
        .get(VERSION)
        .map(|it| it.to_str().unwrap_or("?"));
    let house = House {
        state,
        context: &context,
        asker: &asker.principal,
        agent,
        head: &head,
    };
    let is_json = is_json(&head.headers);
    if head.method == Verb::POST && path == "/" {
        if !is_json {
            return Ok(rpc_refusal(&no_json()));
        }
        let bytes = models::read(body, &state.model_bounds).await?;
        let told = told.or_else(|| query.strip_prefix("A2A-Version="));
        return Ok(house.rpc(visit, told, &bytes).await);
    }
    let route = rest::route(head.method.as_str(), path).ok_or_else(|| {
        let detail = format!("nothing of A2A is at {path}");
        ApiError::new(Code::NotFound, detail)
    })?;
    let bytes = models::read(body, &state.model_bounds).await?;
    if !is_json && !bytes.is_empty() {
        return Ok(rest_refusal(rest::told_in(told, query), &no_json()));
    }
    Ok(house.rest(visit, &route, (told, query, &bytes)).await)
}

/// What a header says that is a media type, without its parameters.
fn media_type(headers: &HeaderMap, name: &HeaderName) -> Option<String> {
    let value = headers.get(name)?.to_str().unwrap_or("?");
    let essence = value.split(';').next().unwrap_or_default();
    Some(essence.trim().to_ascii_lowercase())
}

/// Whether a body is JSON, as far as is said.
fn is_json(headers: &HeaderMap) -> bool {
    let said = media_type(headers, &CONTENT_TYPE);
    said.is_none_or(|it| it == JSON || it.ends_with("+json"))
}

fn no_json() -> Error {
    let why = "a request is JSON: say `Content-Type: application/json`";
    Error::new(Fault::ContentTypeNotSupported, why)
}

fn rpc_refusal(error: &Error) -> Response<Body> {
    json(StatusCode::OK, JSON, &rpc::error(&Value::Null, error))
}

fn rest_refusal(version: Version, error: &Error) -> Response<Body> {
    let status = StatusCode::from_u16(error.fault.status());
    let status = status.unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    json(status, JSON, &error.rest(version))
}

fn json(status: StatusCode, kind: &'static str, value: &Value) -> Response<Body> {
    let body = axum::body::Body::from(value.to_string());
    let mut response = Response::new(Body::Api(body));
    *response.status_mut() = status;
    let kind = HeaderValue::from_static(kind);
    response.headers_mut().insert(CONTENT_TYPE, kind);
    response
}

impl House<'_> {
    async fn rpc(&self, visit: Visit, told: Option<&str>, bytes: &[u8]) -> Response<Body> {
        let call = match rpc::read(told, bytes) {
            Ok(call) => call,
            Err(refusal) => return json(StatusCode::OK, JSON, &refusal.answer()),
        };
        let (id, version) = (call.id, call.version);
        match self.perform(visit, version, call.request).await {
            Ok(Done::At(answer)) => {
                let answer = rpc::result(&id, &answer.wire(version));
                json(StatusCode::OK, JSON, &answer)
            }
            Ok(Done::Stream(watch, mut teller)) => {
                (teller.form, teller.envelope) = (version.into(), Some(id));
                stream(*watch, *teller)
            }
            Err(Wrong(error)) => json(StatusCode::OK, JSON, &rpc::error(&id, &error)),
        }
    }

    async fn rest(
        &self,
        visit: Visit,
        route: &rest::Route,
        (told, query, bytes): (Option<&str>, &str, &[u8]),
    ) -> Response<Body> {
        let (version, request) = match rest::read(told, route, (query, bytes)) {
            Ok(read) => read,
            Err(error) => return rest_refusal(rest::told_in(told, query), &error),
        };
        match self.perform(visit, version, request).await {
            Ok(Done::At(answer)) => json(
                StatusCode::OK,
                self.kind(version),
                &answer.wire(Form::http(version)),
            ),
            Ok(Done::Stream(watch, mut teller)) => {
                teller.form = Form::http(version);
                stream(*watch, *teller)
            }
            Err(Wrong(error)) => rest_refusal(version, &error),
        }
    }

    /// The media type of answers: who speaks plain JSON is answered so.
    fn kind(&self, version: Version) -> &'static str {
        let headers = &self.head.headers;
        let says_json = |name| media_type(headers, name).is_some_and(|it| it == JSON);
        match version {
            Version::V1_0 if !says_json(&CONTENT_TYPE) && !says_json(&ACCEPT) => rest::MEDIA_TYPE,
            _ => JSON,
        }
    }

    fn workspace(&self) -> &Workspace {
        &self.context.workspace
    }

    async fn perform(
        &self,
        visit: Visit,
        version: Version,
        request: Request,
    ) -> Result<Done, Wrong> {
        if let Some(tenant) = request.tenant()
            && tenant != self.workspace().as_str()
        {
            let why = "this key is of another tenant";
            return Err(Error::invalid("tenant", why).into());
        }
        match request {
            Request::SendMessage(asked) => self.send((visit, version), *asked, false).await,
            Request::SendStreamingMessage(asked) => self.send((visit, version), *asked, true).await,
            Request::GetTask {
                id, history_length, ..
            } => {
                let task = self.task(&id).await?;
                Ok(Done::at(Answer::Task(task.shown(history_length, true))))
            }
            Request::ListTasks(wanted) => self.list(&wanted).await,
            Request::CancelTask { id, .. } => self.cancel(&id).await,
            Request::SubscribeToTask { id, .. } => self.subscribe(version, &id).await,
            Request::CreatePushConfig(asked) => self.create_push(version, asked).await,
            Request::GetPushConfig { task_id, id, .. } => {
                self.get_push(&task_id, id.as_deref()).await
            }
            Request::ListPushConfigs { task_id, .. } => self.list_pushes(&task_id).await,
            Request::DeletePushConfig { task_id, id, .. } => self.delete_push(&task_id, &id).await,
            Request::GetExtendedAgentCard { .. } => {
                let of = (self.workspace(), self.agent);
                let card = card::of(self.state, of, self.head, version)?;
                Ok(Done::at(Answer::Card(card)))
            }
        }
    }

    /// The runs of a task of who asks, with this agent; the first one first.
    async fn chain(&self, id: &str) -> Result<Vec<Run>, Wrong> {
        let missing = || Wrong(Error::task_not_found(id));
        let first: RunId = id.parse().map_err(|_| missing())?;
        let chain = self.state.runs().task(self.workspace(), first).await?;
        let whose = whose(self.asker);
        let is_own = |run: &Run| run.whose == whose && run.agent == self.agent;
        match chain.first().is_some_and(is_own) {
            true => Ok(chain),
            false => Err(missing()),
        }
    }

    /// A task as it is now.
    async fn task(&self, id: &str) -> Result<Task, Wrong> {
        let chain = self.chain(id).await?;
        Ok(tasks::now(self.state, self.workspace(), &chain).await?)
    }

    async fn send(
        &self,
        by: (Visit, Version),
        asked: SendMessage,
        streaming: bool,
    ) -> Result<Done, Wrong> {
        let history = asked.history_length;
        let at_once = asked.return_immediately;
        let mut of = self.ask(by, asked).await?;
        if streaming {
            return Ok(follow(of));
        }
        if !at_once {
            tasks::to_end(&mut of).await?;
        }
        let task = of.view.task().clone().shown(history, true);
        Ok(Done::at(Answer::Event(StreamResponse::Task(task))))
    }

    /// Makes a run of a message; or finds the one that was made of it before.
    async fn ask(
        &self,
        (visit, version): (Visit, Version),
        mut asked: SendMessage,
    ) -> Result<Followed, Wrong> {
        let (runs, whose) = (self.state.runs(), whose(self.asker));
        let push = asked.push.take();
        let message = &asked.message;
        check_id("message.messageId", &message.id)?;
        // Of a message that is sent twice there is one run.
        let name = key("a2a", &[&whose, self.agent, &message.id]);
        let before = (self.agent, whose.as_str(), name.as_str());
        if let Some(run) = runs.run_named(self.workspace(), before).await? {
            let (input, _) = runs.asked(self.workspace(), run.id).await?;
            let was = Message::of_input(&input);
            if was.is_none_or(|it| it.parts != message.parts) {
                let why = "another message had this id";
                return Err(Error::invalid("message.messageId", why).into());
            }
            let chain = self.chain(&run.task.unwrap_or(run.id).to_string()).await?;
            let of = tasks::follow(self.state, self.workspace(), &chain).await?;
            return of.ok_or_else(|| unsupported("the task is gone"));
        }
        let (chain, context) = self.place(message).await?;
        let last = chain.last();
        let named = (self.agent, whose.as_str(), context.as_str());
        let thread = runs.named(self.workspace(), named).await?;
        let kept = thread.map(|(_, kept)| kept).unwrap_or_default();
        let input = Question {
            asked: &asked,
            thread_id: &context,
            run_id: &name,
            messages: kept_json(kept.messages)?,
            state: kept_json(kept.state)?,
            open: last.map_or(&[], |run| run.interrupts.as_slice()),
        };
        let id = RunId::new();
        let push = match push {
            None => None,
            Some(push) => Some(self.push_with(push, (version, &chain, id)).await?),
        };
        let wish = Wish {
            asker: self.asker,
            agent: self.agent,
            input: input.input()?,
            key: match last {
                // What waits is answered once.
                Some(run) => answer_key(run),
                None => name.clone(),
            },
            task: chain.first().map(|run| run.id),
            id: Some(id),
            headers: &self.head.headers,
            push,
        };
        let started = begin(self.state, (self.context, visit), wish).await;
        let Started { run, .. } = started.map_err(|error| match error.public().code() {
            Code::IdempotencyKeyReused => unsupported("another message has answered the task"),
            _ => error.into(),
        })?;
        self.state.pushes.wake();
        let first = chain.first().map_or(run, |it| it.id);
        let chain = runs.task(self.workspace(), first).await?;
        let of = tasks::follow(self.state, self.workspace(), &chain).await?;
        of.ok_or_else(|| unsupported("the task is gone"))
    }

    /// The task that a message goes on with, and the conversation that it belongs to.
    async fn place(&self, message: &Message) -> Result<(Vec<Run>, String), Wrong> {
        let Some(id) = &message.task_id else {
            let context = match &message.context_id {
                None => ThreadId::new().to_string(),
                Some(context) => {
                    check_id("message.contextId", context)?;
                    context.clone()
                }
            };
            return Ok((Vec::new(), context));
        };
        let chain = self.chain(id).await?;
        let Some(last) = chain.last() else {
            return Err(Error::task_not_found(id).into());
        };
        let (thread, _) = self
            .state
            .runs()
            .thread(self.workspace(), last.thread)
            .await?;
        if message
            .context_id
            .as_ref()
            .is_some_and(|it| *it != thread.name)
        {
            let why = "the task is of another context";
            return Err(Error::invalid("message.contextId", why).into());
        }
        match last.status {
            RunStatus::Interrupted => Ok((chain, thread.name)),
            RunStatus::Running => Err(unsupported(
                "the task is under way and waits for no message: cancel it, or wait until it is done",
            )),
            _ => Err(unsupported("the task has ended: begin another one")),
        }
    }

    async fn subscribe(&self, version: Version, id: &str) -> Result<Done, Wrong> {
        let chain = self.chain(id).await?;
        let of = tasks::follow(self.state, self.workspace(), &chain).await?;
        let mut of = of.ok_or_else(|| Wrong(Error::task_not_found(id)))?;
        tasks::catch_up(&mut of).await?;
        let state = of.view.task().status.state;
        if state.is_terminal() || of.run.status == RunStatus::Cancelled {
            let why = format!("the task is {}, and nothing follows", state.as_str(version));
            return Err(unsupported(why));
        }
        Ok(follow(of))
    }

    async fn cancel(&self, id: &str) -> Result<Done, Wrong> {
        let chain = self.chain(id).await?;
        let (runs, workspace) = (self.state.runs(), self.workspace());
        let not_now = || Wrong(Error::new(Fault::TaskNotCancelable, "the task has ended"));
        let last = chain.last().ok_or_else(not_now)?;
        match last.status {
            RunStatus::Running => {
                let by = &self.context.by;
                let cancelled = self.state.ingress.cancel(by, workspace, last.call).await;
                match cancelled.map_err(ApiError::from) {
                    Ok(_) => {}
                    Err(error) if error.public().code() == Code::CallState => {
                        return Err(not_now());
                    }
                    Err(error) => return Err(error.into()),
                }
            }
            RunStatus::Interrupted => {
                if !runs.give_up(&self.context.by, workspace, last.id).await? {
                    return Err(not_now());
                }
            }
            _ => return Err(not_now()),
        }
        Ok(Done::at(Answer::Task(self.task(id).await?)))
    }

    async fn list(&self, wanted: &ListTasks) -> Result<Done, Wrong> {
        let before = wanted.page_token.as_deref().map(|token| {
            let wrong = || Error::invalid("pageToken", "it is none that a page gave");
            let (time, id) = token.split_once('.').ok_or_else(wrong)?;
            let time: i64 = time.parse().map_err(|_| wrong())?;
            let id: RunId = id.parse().map_err(|_| wrong())?;
            Ok::<_, Error>((Timestamp::from_micros(time), id))
        });
        let statuses = wanted.status.map_or_else(Vec::new, tasks::statuses);
        let tasks = Tasks {
            agent: self.agent.to_owned(),
            whose: whose(self.asker),
            thread: wanted.context_id.clone(),
            statuses,
            since: Timestamp::from_micros(wanted.status_timestamp_after.unwrap_or(0)),
            before: before.transpose()?,
            most: wanted.page_size + 1,
        };
        let (mut found, total_size) = self.state.runs().tasks(self.workspace(), tasks).await?;
        let most = usize::try_from(wanted.page_size).unwrap_or(usize::MAX);
        let more = found.len() > most;
        found.truncate(most);
        let next = found.last().filter(|_| more).map(|run| {
            let at = run.ended.unwrap_or(run.created);
            format!("{}.{}", at.as_micros(), run.id)
        });
        let mut listed = Vec::new();
        for run in &found {
            let first = run.task.unwrap_or(run.id);
            let chain = self.state.runs().task(self.workspace(), first).await?;
            let task = tasks::now(self.state, self.workspace(), &chain).await?;
            // One that is under way may be at its beginning, or not.
            if wanted.status.is_none_or(|it| it == task.status.state) {
                listed.push(task.shown(wanted.history_length, wanted.include_artifacts));
            }
        }
        Ok(Done::at(Answer::Tasks {
            tasks: listed,
            next_page_token: next.unwrap_or_default(),
            page_size: wanted.page_size,
            total_size,
            artifacts: wanted.include_artifacts,
        }))
    }
}

/// A stream of a task, which begins with what it is now.
fn follow(mut of: Followed) -> Done {
    let first = Some(of.view.begin());
    let teller = Teller {
        view: of.view,
        first,
        form: Version::V1_0.into(),
        envelope: None,
        clock: of.clock,
    };
    Done::Stream(Box::new(of.watch), Box::new(teller))
}
