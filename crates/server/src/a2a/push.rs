//! What becomes of tasks, told to where clients want it: at least once, in order, until it is taken or given up. How far each
//! was told is kept, so that a server that begins anew goes on there.

mod told;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::{AUTHORIZATION, CONTENT_TYPE, USER_AGENT};
use http::{HeaderName, HeaderValue, Method, Request as HttpRequest};
use http_body_util::Full;
use serde::{Deserialize, Serialize};
use skep_api::RunStatus;
use skep_core::{MessageId, RunId, Timestamp, Workspace};
use skep_crypto::Key;
use skep_egress::webhooks::Fate;
use skep_protocols::a2a::{
    Answer, Authentication, Error, Form, PushConfig, StatusUpdate, StreamResponse, Version, rest,
};
use skep_runs::{MOST_PUSHES, Place, Push, PushState, Run};
use skep_runtime::Event;
use skep_store::Db;
use skep_vault::{Vault, VaultError};
use tokio::sync::Notify;
use tokio::task::JoinSet;
use tokio::time::MissedTickBehavior;
use zeroize::Zeroizing;

use super::tasks::{catch_up, follow, now};
use super::{Done, Followed, House, Wrong};
use crate::credentials::Credentials;
use crate::mounts::Mounts;
use crate::peers::Place as Home;
use crate::problem::ApiError;
use crate::state::State;
use told::{Next, Reader};

/// How often is looked for what is to be told.
const LOOK: Duration = Duration::from_millis(500);
/// Tasks that are followed at once: of all workspaces, and of one.
const AT_ONCE: usize = 1_024;
const AT_ONCE_OF_WORKSPACE: usize = 128;
/// What cannot be told now for reasons of our own is put off for so long.
const LATER: Duration = Duration::from_secs(5);
/// The secret under which tokens and credentials are kept, below `skep/`.
const KEY: (&str, &str) = (
    "a2a-push",
    "The key that credentials for push notifications are kept under",
);
const TOKEN: HeaderName = HeaderName::from_static("x-a2a-notification-token");
/// What is told of one that is given up.
pub(crate) const FAILED: &str = "push.failed";

/// What tells clients of their tasks.
pub(crate) struct Pushes {
    credentials: Credentials,
    /// Woken when there may be something to tell.
    work: Notify,
}

/// What is kept encrypted.
#[derive(Default, Serialize, Deserialize)]
struct Hidden {
    token: Option<String>,
    credentials: Option<String>,
}

/// Under what it was encrypted.
fn context(workspace: &Workspace, task: RunId, id: &str) -> Vec<u8> {
    format!("{workspace}/{task}/{id}").into_bytes()
}

impl Pushes {
    pub(crate) fn new(db: &Db, vault: &Vault, mounts: &Arc<Mounts>) -> Self {
        Self {
            credentials: Credentials::new(db, vault, mounts),
            work: Notify::new(),
        }
    }

    /// There may be something to tell.
    pub(crate) fn wake(&self) {
        self.work.notify_one();
    }

    async fn key(&self, workspace: &Workspace) -> Result<Key, String> {
        let bytes = self.credentials.own_key(workspace, KEY).await?;
        let bytes = <[u8; 32]>::try_from(bytes.as_slice());
        let bytes = bytes.map_err(|_| "the key is damaged".to_owned())?;
        Ok(Key::from_bytes(bytes))
    }

    async fn seal(
        &self,
        (workspace, task, id): (&Workspace, RunId, &str),
        hidden: &Hidden,
    ) -> Result<Option<Vec<u8>>, Wrong> {
        if hidden.token.is_none() && hidden.credentials.is_none() {
            return Ok(None);
        }
        if !self.credentials.vault.is_open() {
            return Err(ApiError::from(VaultError::Sealed).into());
        }
        let sealed = async {
            let plain = serde_json::to_vec(hidden).map(Zeroizing::new);
            let plain = plain.map_err(|error| error.to_string())?;
            let key = self.key(workspace).await?;
            let sealed = key.seal(&context(workspace, task, id), &plain);
            sealed.map_err(|error| error.to_string())
        };
        sealed.await.map(Some).map_err(|error| {
            tracing::error!(%workspace, error, "credentials cannot be kept");
            ApiError::new(skep_core::Code::Internal, "credentials cannot be kept").into()
        })
    }

    async fn open(&self, workspace: &Workspace, push: &Push) -> Result<Hidden, String> {
        let Some(sealed) = &push.sealed else {
            return Ok(Hidden::default());
        };
        let key = self.key(workspace).await?;
        let plain = key.open(&context(workspace, push.task, &push.id), sealed);
        let plain = plain.map_err(|error| error.to_string())?;
        serde_json::from_slice(&plain).map_err(|_| "they cannot be read".to_owned())
    }
}

/// How somebody shows who tells: by the text that stands in the header.
fn shown(scheme: &str, credentials: Option<&str>) -> Option<HeaderValue> {
    let text = match credentials {
        Some(credentials) => format!("{scheme} {credentials}"),
        None => scheme.to_owned(),
    };
    let mut value = HeaderValue::try_from(text).ok()?;
    value.set_sensitive(true);
    Some(value)
}

/// The word for a version, and the version of a word.
fn version(word: &str) -> Version {
    match word {
        "0.3" => Version::V0_3,
        _ => Version::V1_0,
    }
}

/// One as its client is shown it: without what it is to keep to itself.
fn config(push: &Push) -> PushConfig {
    let scheme = push.scheme.clone();
    PushConfig {
        task_id: Some(push.task.to_string()),
        id: Some(push.id.clone()),
        url: push.url.clone(),
        token: None,
        authentication: scheme.map(|scheme| Authentication {
            scheme,
            credentials: None,
        }),
        tenant: None,
    }
}

impl House<'_> {
    /// What is to be kept of a configuration for a task of who asks.
    pub(super) async fn push_of(
        &self,
        asked: PushConfig,
        (version, task, place): (Version, RunId, Place),
    ) -> Result<Push, Wrong> {
        let url = self.state.webhooks.check_url(&asked.url);
        url.map_err(|why| Error::invalid("url", why))?;
        let id = asked.id.unwrap_or_else(|| task.to_string());
        let (scheme, credentials) = match asked.authentication {
            None => (None, None),
            Some(it) => (Some(it.scheme), it.credentials),
        };
        let hidden = Hidden {
            token: asked.token,
            credentials,
        };
        let is_header = |it: &String| HeaderValue::try_from(it).is_ok();
        if !hidden.token.iter().all(is_header) {
            return Err(Error::invalid("token", "it cannot stand in a header").into());
        }
        let auth = scheme.as_deref();
        if auth.is_some_and(|it| shown(it, hidden.credentials.as_deref()).is_none()) {
            let why = "they cannot stand in a header";
            return Err(Error::invalid("authentication", why).into());
        }
        let of = (self.workspace(), task, id.as_str());
        let sealed = self.state.pushes.seal(of, &hidden).await?;
        Ok(Push {
            task,
            id,
            version: version.as_str().to_owned(),
            url: asked.url,
            scheme,
            sealed,
            place,
            made: MessageId::new(),
            tries: 0,
        })
    }

    /// What is kept of a configuration that comes with a message, which begins or goes on with a task by a run.
    pub(super) async fn push_with(
        &self,
        asked: PushConfig,
        (version, chain, run): (Version, &[Run], RunId),
    ) -> Result<Push, Wrong> {
        let Some(first) = chain.first() else {
            return self
                .push_of(asked, (version, run, Place::before(run, 0)))
                .await;
        };
        let all = self.state.runs().pushes(self.workspace(), first.id).await?;
        let place = Place::before(run, 1);
        let mut push = self.push_of(asked, (version, first.id, place)).await?;
        match all.iter().find(|it| it.id == push.id) {
            // It goes on where the one before it is.
            Some(before) => push.place = before.place,
            None if all.len() >= MOST_PUSHES => return Err(too_many()),
            None => {}
        }
        Ok(push)
    }

    /// Makes one, which is told what comes from now on.
    pub(super) async fn create_push(
        &self,
        version: Version,
        asked: PushConfig,
    ) -> Result<Done, Wrong> {
        let id = asked.task_id.clone().unwrap_or_default();
        let chain = self.chain(&id).await?;
        let missing = || Wrong(Error::task_not_found(&id));
        let first = chain.first().ok_or_else(missing)?.id;
        let of = follow(self.state, self.workspace(), &chain).await?;
        let mut of = of.ok_or_else(missing)?;
        let _ = of.view.begin();
        catch_up(&mut of).await?;
        let mut place = Place::before(of.run.id, 1);
        if let Some((id, says)) = of.last {
            (place.attempt, place.index, place.told) = (id.attempt, id.index, says);
        }
        place.ended = of.view.is_over();
        let answer = asked.clone();
        let push = self.push_of(asked, (version, first, place)).await?;
        let made = PushConfig {
            id: Some(push.id.clone()),
            ..answer
        };
        if !self.state.runs().put_push(self.workspace(), push).await? {
            return Err(too_many());
        }
        self.state.pushes.wake();
        Ok(Done::at(Answer::Push(made)))
    }

    async fn pushes(&self, task: &str) -> Result<(RunId, Vec<Push>), Wrong> {
        let chain = self.chain(task).await?;
        let first = chain.first().map(|it| it.id);
        let first = first.ok_or_else(|| Wrong(Error::task_not_found(task)))?;
        let all = self.state.runs().pushes(self.workspace(), first).await?;
        Ok((first, all))
    }

    pub(super) async fn get_push(&self, task: &str, id: Option<&str>) -> Result<Done, Wrong> {
        let (_, all) = self.pushes(task).await?;
        let found = match id {
            Some(id) => all.iter().find(|it| it.id == id),
            None => all.iter().find(|it| it.id == task).or(all.first()),
        };
        let missing = || {
            let why = "the task has no such configuration";
            Error::new(skep_protocols::a2a::Fault::TaskNotFound, why)
        };
        let found = found.ok_or_else(missing)?;
        Ok(Done::at(Answer::Push(config(found))))
    }

    pub(super) async fn list_pushes(&self, task: &str) -> Result<Done, Wrong> {
        let (_, all) = self.pushes(task).await?;
        Ok(Done::at(Answer::Pushes {
            configs: all.iter().map(config).collect(),
            next_page_token: String::new(),
        }))
    }

    pub(super) async fn delete_push(&self, task: &str, id: &str) -> Result<Done, Wrong> {
        let (task, _) = self.pushes(task).await?;
        let runs = self.state.runs();
        runs.drop_push(self.workspace(), (task, id)).await?;
        Ok(Done::at(Answer::Deleted))
    }
}

fn too_many() -> Wrong {
    let why = format!("a task has {MOST_PUSHES} configurations at most");
    Error::invalid("pushNotificationConfig", why).into()
}

/// Which one is told.
type Whose = (Workspace, RunId, String);

/// Tells what becomes of the tasks of agents that are here, until the server ends.
pub(crate) async fn keep(state: Arc<State>) {
    let mut telling = JoinSet::new();
    // Each that is told has a share.
    let mut busy: HashMap<Whose, Arc<()>> = HashMap::new();
    let mut tick = tokio::time::interval(LOOK);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            _ = tick.tick() => {}
            () = state.pushes.work.notified() => {}
            Some(_) = telling.join_next() => {}
            () = state.stop.cancelled() => return,
        }
        while telling.try_join_next().is_some() {}
        busy.retain(|_, share| Arc::strong_count(share) > 1);
        for workspace in state.tenants.all().all().iter() {
            if let Err(error) = look(&state, workspace, (&mut busy, &mut telling)).await {
                tracing::warn!(%workspace, %error, "what becomes of tasks is told later");
            }
        }
    }
}

async fn look(
    state: &Arc<State>,
    workspace: &Workspace,
    (busy, telling): (&mut HashMap<Whose, Arc<()>>, &mut JoinSet<()>),
) -> Result<(), skep_store::StoreError> {
    let own = busy.keys().filter(|(of, ..)| of == workspace).count();
    let free = AT_ONCE_OF_WORKSPACE.saturating_sub(own);
    let free = free.min(AT_ONCE.saturating_sub(busy.len()));
    if free == 0 {
        return Ok(());
    }
    let most = u32::try_from(own + free).unwrap_or(u32::MAX);
    let now = state.db.clock().now();
    let due = state.runs().due_pushes(workspace, (now, most)).await?;
    for (push, agent) in due.into_iter() {
        let whose = (workspace.clone(), push.task, push.id.clone());
        let is_here = match state.runtime.target(workspace, &agent) {
            Some(_) => true,
            // Nobody has it any more, but its tasks have an end.
            None => {
                let found = state.peers.find(workspace, &agent);
                state.peers.leads() && matches!(found, Home::Here)
            }
        };
        if busy.contains_key(&whose) || busy.len() >= AT_ONCE || !is_here {
            continue;
        }
        let share = Arc::new(());
        busy.insert(whose, share.clone());
        let (state, workspace) = (state.clone(), workspace.clone());
        telling.spawn(async move {
            tell(&state, &workspace, push, &agent).await;
            drop(share);
        });
    }
    Ok(())
}

/// One that is told.
struct Told<'a> {
    state: &'a State,
    workspace: &'a Workspace,
    agent: &'a str,
    push: Push,
    hidden: Hidden,
}

/// Why no more is told for now.
enum Stop {
    /// There is nothing more, or somebody else has taken care of it.
    Over,
    /// For a reason of our own.
    Later(String),
}

impl From<ApiError> for Stop {
    fn from(error: ApiError) -> Self {
        Self::Later(error.public().detail())
    }
}

impl From<skep_store::StoreError> for Stop {
    fn from(error: skep_store::StoreError) -> Self {
        Self::Later(error.to_string())
    }
}

async fn tell(state: &State, workspace: &Workspace, push: Push, agent: &str) {
    let task = push.task;
    let mut told = Told {
        state,
        workspace,
        agent,
        push,
        hidden: Hidden::default(),
    };
    let why = match state.pushes.open(workspace, &told.push).await {
        Err(why) => why,
        Ok(hidden) => {
            told.hidden = hidden;
            match told.runs().await {
                Ok(()) | Err(Stop::Over) => return,
                Err(Stop::Later(why)) => why,
            }
        }
    };
    tracing::info!(%workspace, %task, why, "what becomes of a task is told later");
    let due = state.db.clock().now().plus(LATER);
    if let Err(error) = told.put_off(Some(due), String::new()).await {
        tracing::warn!(%workspace, %task, %error, "what becomes of a task is told again soon");
    }
}

impl Told<'_> {
    /// Tells one run after the other, as long as there are.
    async fn runs(&mut self) -> Result<(), Stop> {
        loop {
            let runs = self.state.runs();
            let chain = runs.task(self.workspace, self.push.task).await?;
            let at = chain.iter().position(|it| it.id == self.push.place.run);
            let Some(at) = at else {
                return Err(Stop::Over);
            };
            if !self.push.place.ended {
                self.run(&chain[..=at]).await?;
                continue;
            }
            match (chain.get(at + 1), &chain[at]) {
                (Some(next), _) => self.push.place = Place::before(next.id, 1),
                (None, run) if run.status == RunStatus::Cancelled => {
                    return self.given_up(&chain).await;
                }
                (None, _) => return Ok(()),
            }
        }
    }

    /// Tells the last of some runs to its end.
    async fn run(&mut self, chain: &[Run]) -> Result<(), Stop> {
        let of = follow(self.state, self.workspace, chain).await?;
        let mut of = of.ok_or(Stop::Over)?;
        let mut reader = Reader::new(self.push.place);
        if let Some(next) = reader.begin(of.view.begin()) {
            self.post(next, &of).await?;
        }
        let mut shown = of.watch.begin();
        loop {
            for one in shown {
                let at = of.clock.now().as_micros();
                let before = reader.is_other(one.id).then(|| of.view.task().clone());
                let says = of.view.push(&one, at);
                let next = match of.view.is_over() {
                    true => {
                        let whole = StreamResponse::Task(of.view.task().clone());
                        reader.end(whole, says)
                    }
                    false => reader.take(one.id, before.map(StreamResponse::Task), says),
                };
                for next in next {
                    self.post(next, &of).await?;
                }
                if of.view.is_over() {
                    return self.end(reader.place(), &of).await;
                }
            }
            shown = match of.watch.next().await {
                Some(shown) => shown.map_err(Stop::Later)?,
                None => return Err(Stop::Later("the run was not told to its end".to_owned())),
            };
        }
    }

    /// What a task waited for was given up.
    async fn given_up(&mut self, chain: &[Run]) -> Result<(), Stop> {
        let task = now(self.state, self.workspace, chain).await?;
        let of = follow(self.state, self.workspace, chain).await?;
        let mut of = of.ok_or(Stop::Over)?;
        catch_up(&mut of).await?;
        let told = StreamResponse::StatusUpdate(StatusUpdate {
            task_id: task.id,
            context_id: task.context_id,
            status: task.status,
            metadata: None,
        });
        let place = self.push.place;
        self.post((told, place), &of).await?;
        self.moved(place, PushState::Done).await
    }

    async fn end(&mut self, place: Place, of: &Followed) -> Result<(), Stop> {
        match of.view.task().status.state.is_terminal() {
            true => {
                self.moved(place, PushState::Done).await?;
                Err(Stop::Over)
            }
            false => self.moved(place, PushState::On).await,
        }
    }

    async fn moved(&mut self, place: Place, state: PushState) -> Result<(), Stop> {
        (self.push.place, self.push.tries) = (place, 0);
        let runs = self.state.runs();
        Ok(runs.pushed(self.workspace, &self.push, state).await?)
    }

    /// Tells one thing, and notes that it was told.
    async fn post(&mut self, (told, place): Next, of: &Followed) -> Result<(), Stop> {
        let runs = self.state.runs();
        if !runs.is_pushed(self.workspace, &self.push).await? {
            return Err(Stop::Over);
        }
        let request = self.request(&told, of).map_err(Stop::Later)?;
        let answer = self.state.webhooks.send(request).await;
        if answer.is_good() {
            return self.moved(place, PushState::On).await;
        }
        self.push.tries += 1;
        let now = self.state.db.clock().now();
        let due = match self.state.webhooks.next(self.push.tries, &answer, now) {
            Fate::Again(due) => Some(due),
            Fate::Over => None,
        };
        let (workspace, task, said) = (self.workspace, self.push.task, answer.said());
        tracing::info!(%workspace, %task, said, "what becomes of a task was not taken");
        self.put_off(due, said).await?;
        Err(Stop::Over)
    }

    async fn put_off(
        &self,
        due: Option<Timestamp>,
        said: String,
    ) -> Result<(), skep_store::StoreError> {
        let detail = format!("{}: {said}", self.push.task);
        let event = Event::of(self.agent, FAILED, detail);
        let also = move |scope: &mut skep_store::Scope<'_>, now| event.record(scope, now);
        let runs = self.state.runs();
        runs.push_failed(self.workspace, &self.push, (due, also))
            .await
    }

    /// What is sent: to clients of 0.3 the task as it is, to others what has become of it.
    fn request(
        &self,
        told: &StreamResponse,
        of: &Followed,
    ) -> Result<HttpRequest<Full<Bytes>>, String> {
        let (kind, body) = match version(&self.push.version) {
            Version::V1_0 => (rest::MEDIA_TYPE, told.wire(Version::V1_0)),
            Version::V0_3 => {
                let mut task = of.view.task().clone();
                if let StreamResponse::StatusUpdate(told) = told {
                    task.status = told.status.clone();
                }
                ("application/json", task.wire(Form::V0_3))
            }
        };
        let mut request = HttpRequest::builder()
            .method(Method::POST)
            .uri(&self.push.url)
            .header(CONTENT_TYPE, kind)
            .header(USER_AGENT, concat!("skep/", env!("CARGO_PKG_VERSION")));
        if let Some(scheme) = &self.push.scheme {
            let value = shown(scheme, self.hidden.credentials.as_deref());
            request = request.header(AUTHORIZATION, value.ok_or("no header of its credentials")?);
        }
        if let Some(token) = &self.hidden.token {
            let value = HeaderValue::try_from(token);
            let mut value = value.map_err(|_| "no header of its token")?;
            value.set_sensitive(true);
            request = request.header(TOKEN, value);
        }
        let body = Full::new(Bytes::from(body.to_string()));
        request.body(body).map_err(|error| error.to_string())
    }
}
