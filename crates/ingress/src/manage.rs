//! What people do with calls: look, cancel, replay, redrive, purge, attach; and what follows when
//! an agent is removed.

use std::collections::HashMap;
use std::sync::Arc;

use http::{HeaderMap, HeaderValue, Response as HttpResponse};
use skep_api::{Call, CallState};
use skep_core::{CallId, RequestId, Workspace};
use skep_store::{By, Change, Hash, StoreError};

use crate::IngressError;
use crate::agents::Availability;
use crate::body::{Body, send_stretch};
use crate::call::{ended, follow, response};
use crate::journal::{self, Brings, NewCall, Request};
use crate::lane::{Admission, Lane, Waiting};
use crate::life::{Event, Life};
use crate::listing::{self, Filter};
use crate::live::Phase;
use crate::payload::blocking;
use crate::prefer::Wishes;
use crate::quota;
use crate::router::Choice;
use crate::service::{Ingress, Inner};
use crate::sse::{position_after, position_in_file};

/// Calls that one unit of an action on many of them touches.
const STEP: u32 = 128;

/// What is done with each call of many.
#[derive(Debug, Clone, Copy)]
enum Act {
    Cancel,
    Redrive,
    Purge,
}

/// A stored or growing answer.
pub type Response = HttpResponse<Body>;

impl Ingress {
    /// Calls, newest first, older than `before`.
    ///
    /// # Errors
    /// The store's own.
    pub async fn list(
        &self,
        workspace: &Workspace,
        filter: Filter,
        before: Option<CallId>,
        limit: u32,
    ) -> Result<Vec<Call>, IngressError> {
        let of = workspace.clone();
        let page = self
            .inner
            .db
            .read(move |reader| listing::page(&mut reader.scope(&of), &filter, before, limit));
        page.await.map_err(IngressError::Store)
    }

    /// One call with its history.
    ///
    /// # Errors
    /// [`IngressError::CallNotFound`], and the store's own.
    pub async fn show(&self, workspace: &Workspace, id: CallId) -> Result<Call, IngressError> {
        let of = workspace.clone();
        let read = self.inner.db.read(move |reader| {
            listing::detail(&mut reader.scope(&of), id)?.ok_or(IngressError::CallNotFound)
        });
        read.await
    }

    /// Whose calls these are: of those that are kept.
    ///
    /// # Errors
    /// The store's own.
    pub async fn agents_of(
        &self,
        workspace: &Workspace,
        ids: Vec<CallId>,
    ) -> Result<HashMap<CallId, String>, IngressError> {
        let of = workspace.clone();
        let read = self
            .inner
            .db
            .read(move |reader| listing::agents(&mut reader.scope(&of), &ids));
        let agents: Result<_, StoreError> = read.await;
        Ok(agents?)
    }

    /// Numbers of calls by agent and state, of one agent or of all.
    ///
    /// # Errors
    /// The store's own.
    pub async fn counts(
        &self,
        workspace: &Workspace,
        agent: Option<&str>,
    ) -> Result<HashMap<String, Vec<(CallState, u64)>>, IngressError> {
        let (of, agent) = (workspace.clone(), agent.map(str::to_owned));
        let counts: Result<_, StoreError> = self
            .inner
            .db
            .read(move |reader| journal::counts(&mut reader.scope(&of), agent.as_deref()))
            .await;
        let mut by_agent: HashMap<String, Vec<(CallState, u64)>> = HashMap::new();
        for (agent, state, count) in counts? {
            by_agent.entry(agent).or_default().push((state, count));
        }
        Ok(by_agent)
    }

    /// A call's request as the agent gets it: method and target are in [`Ingress::show`].
    ///
    /// # Errors
    /// [`IngressError::CallNotFound`], and the store's own.
    pub async fn request_body(
        &self,
        workspace: &Workspace,
        id: CallId,
    ) -> Result<Response, IngressError> {
        let of = workspace.clone();
        let request = self
            .inner
            .db
            .read(move |reader| -> Result<_, IngressError> {
                journal::load_request(&mut reader.scope(&of), id)?.ok_or(IngressError::CallNotFound)
            })
            .await?;
        let body = Body::stored(self.inner.db.blobs(), workspace, &request.body, None).await?;
        let mut headers = HeaderMap::new();
        if let Some(kind) = request.headers.get(http::header::CONTENT_TYPE) {
            headers.insert(http::header::CONTENT_TYPE, kind.clone());
        }
        Ok(response(200, &headers, body))
    }

    /// The agent's answer: stored, or as it comes in. `wait` false refuses when there is none yet.
    /// `last_event_id` continues an event stream behind that event.
    ///
    /// # Errors
    /// [`IngressError::CallNotFound`], [`IngressError::CallInProgress`], how the call ended without
    /// an answer, and the store's own.
    pub async fn attach(
        &self,
        workspace: &Workspace,
        id: CallId,
        last_event_id: Option<&str>,
        wait: bool,
    ) -> Result<Response, IngressError> {
        let mut phase = self.inner.watch(workspace, id).await?;
        if !wait && matches!(*phase.borrow(), Phase::Waiting) {
            return Err(IngressError::CallInProgress(id));
        }
        let seen = last_event_id.filter(|id| !id.is_empty());
        let Some(seen) = seen else {
            return self
                .inner
                .respond(workspace, id, phase, &Wishes::default(), false)
                .await;
        };
        let told = match phase
            .wait_for(|phase| !matches!(phase, Phase::Waiting))
            .await
        {
            Ok(phase) => phase.clone(),
            Err(_) => return Err(StoreError::Closed.into()),
        };
        let mut response = match told {
            Phase::Streaming(recording) => {
                // An event of an earlier attempt is in no recording: the reader starts over.
                let from = recording.position_after(seen).await?.unwrap_or(0);
                follow(&recording, from)
            }
            Phase::Answered(answer) => self.inner.rest(workspace, &answer, seen).await?,
            Phase::Ended(error) => return Err(error),
            Phase::Waiting => return Err(StoreError::Closed.into()),
        };
        if let Ok(value) = HeaderValue::try_from(id.to_string()) {
            response
                .headers_mut()
                .insert(skep_api::HEADER_CALL_ID, value);
        }
        Ok(response)
    }

    /// 202 with the call as it stands, for who does not wait for its answer.
    ///
    /// # Errors
    /// [`IngressError::CallNotFound`], and the store's own.
    pub async fn receipt(
        &self,
        workspace: &Workspace,
        id: CallId,
    ) -> Result<Response, IngressError> {
        self.inner.accepted(workspace, id).await
    }

    /// Ends a call that is not wanted any more.
    ///
    /// # Errors
    /// [`IngressError::CallNotFound`], [`IngressError::CallState`], and the store's own.
    pub async fn cancel(
        &self,
        by: &By,
        workspace: &Workspace,
        id: CallId,
    ) -> Result<(), IngressError> {
        let life = self.inner.step(by, workspace, id, Event::Cancel).await?;
        self.inner
            .registry
            .finish(id, Phase::Ended(ended(id, &life)));
        Ok(())
    }

    /// Gives a dead call another round of attempts.
    ///
    /// # Errors
    /// As [`Ingress::cancel`].
    pub async fn redrive(
        &self,
        by: &By,
        workspace: &Workspace,
        id: CallId,
    ) -> Result<(), IngressError> {
        self.inner
            .step(by, workspace, id, Event::Redrive)
            .await
            .map(|_| ())
    }

    /// Gives every dead call (of an agent) another round of attempts; tells how many.
    ///
    /// # Errors
    /// The store's own.
    pub async fn redrive_all(
        &self,
        by: &By,
        workspace: &Workspace,
        agent: Option<String>,
    ) -> Result<u64, IngressError> {
        self.each(
            by,
            workspace,
            Filter {
                agent,
                state: Some(CallState::Dead),
            },
            Act::Redrive,
        )
        .await
    }

    /// Makes a new call of the same request; it does not wait for the answer.
    ///
    /// # Errors
    /// [`IngressError::CallNotFound`], [`IngressError::QueueFull`], [`IngressError::Quota`],
    /// [`IngressError::AgentNotFound`], and the store's own.
    pub async fn replay(
        &self,
        by: &By,
        workspace: &Workspace,
        of: CallId,
        request_id: RequestId,
    ) -> Result<CallId, IngressError> {
        let inner = &self.inner;
        let original = self.show(workspace, of).await?;
        let visit = self.visit(workspace, &original.agent).await?;
        let lane = visit.lane();
        inner.must_be_able(lane.agent.as_ref(), true)?;
        let policy = lane.agent.policy();
        let now = inner.db.clock().now();
        // It goes through the queue even when it could run at once: nobody waits for it.
        let admission = lane.admit(&policy, Choice::default(), now);
        if matches!(admission, Admission::Full) {
            return Err(IngressError::QueueFull(policy.queue));
        }
        let allowed = inner.allowed(workspace, matches!(admission, Admission::Wait(_)))?;
        let (id, life) = (
            CallId::new(),
            Life::accepted(now, now.plus(policy.deadline)),
        );
        let (row_lane, row_life, by) = (lane.clone(), life.clone(), by.clone());
        inner
            .db
            .write(move |unit| -> Result<_, IngressError> {
                let mut scope = unit.scope(&row_lane.workspace);
                let request =
                    journal::load_request(&mut scope, of)?.ok_or(IngressError::CallNotFound)?;
                // It is asked again, and no part of the conversation.
                let request = Request {
                    run: None,
                    ..request
                };
                let call = NewCall {
                    by: &by,
                    body_hash: request.body.hash(),
                    id,
                    agent: &row_lane.name,
                    life: &row_life,
                    instance: None,
                    request: &request,
                    fingerprint: Hash::from_bytes([0; 32]),
                    key: None,
                    request_id,
                    replay_of: Some(of),
                    now,
                };
                quota::count(&mut scope, &allowed, request.body.size, now)?;
                Ok(journal::insert(&mut scope, &call)?)
            })
            .await?;
        lane.metrics.accepted.inc();
        drop(admission);
        let waiting = Waiting::of(&life, Choice::default());
        inner.enqueue(lane, id, waiting, life.due);
        Ok(id)
    }

    /// Forgets a call that has ended.
    ///
    /// # Errors
    /// As [`Ingress::cancel`].
    pub async fn purge(
        &self,
        by: &By,
        workspace: &Workspace,
        id: CallId,
    ) -> Result<(), IngressError> {
        let (of, by) = (workspace.clone(), by.clone());
        let write = self.inner.db.write(move |unit| {
            let now = unit.now();
            let mut scope = unit.scope(&of);
            let call = journal::find(&mut scope, id)?.ok_or(IngressError::CallNotFound)?;
            if !call.life.state.is_final() {
                return Err(IngressError::CallState {
                    call: id,
                    state: call.life.state.as_str(),
                });
            }
            journal::remove(&mut scope, id)?;
            let change = Change {
                action: None,
                resource: ("Call", &id.to_string()),
                what: "gone",
                hash: None,
            };
            Ok(by.did(&mut scope, &change, now)?)
        });
        write.await
    }

    /// Forgets every call (of an agent) that ended in a state; tells how many.
    ///
    /// # Errors
    /// [`IngressError::BadRequest`] for a state that is not an end, and the store's own.
    pub async fn purge_all(
        &self,
        by: &By,
        workspace: &Workspace,
        agent: Option<String>,
        state: CallState,
    ) -> Result<u64, IngressError> {
        if !state.is_final() {
            return Err(IngressError::BadRequest(format!(
                "calls that are {} are not purged",
                state.as_str()
            )));
        }
        self.each(
            by,
            workspace,
            Filter {
                agent,
                state: Some(state),
            },
            Act::Purge,
        )
        .await
    }

    /// Forgets answers of an agent that are kept: those with a tag, or all; tells how many.
    ///
    /// # Errors
    /// [`IngressError::AgentNotFound`].
    pub fn forget_answers(
        &self,
        workspace: &Workspace,
        agent: &str,
        tag: Option<&str>,
    ) -> Result<u64, IngressError> {
        Ok(self.inner.lane(workspace, agent)?.cache.forget(tag))
    }

    /// Cancels every open call of an agent that is removed.
    ///
    /// # Errors
    /// The store's own.
    pub async fn remove_agent(
        &self,
        by: &By,
        workspace: &Workspace,
        agent: &str,
    ) -> Result<u64, IngressError> {
        let mut cancelled = 0;
        for state in [CallState::Accepted, CallState::Running] {
            let filter = Filter {
                agent: Some(agent.to_owned()),
                state: Some(state),
            };
            cancelled += self.each(by, workspace, filter, Act::Cancel).await?;
        }
        let lane = {
            let mut lanes = self.inner.lanes.write();
            let of_workspace = lanes.get_mut(workspace);
            // An agent of the same name that was deployed meanwhile keeps its lane.
            of_workspace.and_then(|lanes| match lanes.get(agent)?.agent.availability() {
                Availability::Removed => lanes.remove(agent),
                _ => None,
            })
        };
        if let Some(lane) = lane {
            lane.metrics.forget();
            lane.wake.notify_one();
        }
        Ok(cancelled)
    }

    /// Does something with each call of a filter, from the newest on. A call that has meanwhile
    /// another state is left out.
    async fn each(
        &self,
        by: &By,
        workspace: &Workspace,
        filter: Filter,
        act: Act,
    ) -> Result<u64, IngressError> {
        let (mut before, mut done) = (None, 0);
        loop {
            let page = self.list(workspace, filter.clone(), before, STEP).await?;
            let ids: Vec<CallId> = page
                .iter()
                .filter_map(|call| call.id.parse().ok())
                .collect();
            for id in &ids {
                let acted = match act {
                    Act::Cancel => self.cancel(by, workspace, *id).await,
                    Act::Redrive => self.redrive(by, workspace, *id).await,
                    Act::Purge => self.purge(by, workspace, *id).await,
                };
                match acted {
                    Ok(()) => done += 1,
                    Err(IngressError::CallState { .. } | IngressError::CallNotFound) => {}
                    // Another server has the agent, or nobody.
                    Err(IngressError::AgentNotFound { .. }) if filter.agent.is_none() => {}
                    Err(error) => return Err(error),
                }
            }
            match ids.last() {
                Some(last) if ids.len() == STEP as usize => before = Some(*last),
                _ => return Ok(done),
            }
        }
    }
}

impl Inner {
    /// Takes one step of a call's life that somebody asked for.
    pub(crate) async fn step(
        self: &Arc<Self>,
        by: &By,
        workspace: &Workspace,
        id: CallId,
        event: Event,
    ) -> Result<Life, IngressError> {
        let of = workspace.clone();
        let find = self.db.read(move |reader| {
            journal::find(&mut reader.scope(&of), id)?.ok_or(IngressError::CallNotFound)
        });
        let standing: journal::Standing = find.await?;
        let lane = self.lane(workspace, &standing.agent).ok();
        // An agent that is about to go to another server has no open call.
        let visit = lane.as_ref().and_then(Lane::enter);
        let policy = lane
            .as_ref()
            .map(|lane| lane.agent.policy())
            .unwrap_or_default();
        if let (None, Event::Redrive) = (&visit, &event) {
            return Err(IngressError::AgentNotFound {
                name: standing.agent,
                similar: None,
            });
        }
        let (of, by) = (workspace.clone(), by.clone());
        let agents = self.agents.clone();
        let life = self
            .db
            .write(move |unit| -> Result<_, IngressError> {
                let now = unit.now();
                let mut scope = unit.scope(&of);
                let happened = journal::happen(
                    &*agents,
                    &mut scope,
                    id,
                    &event,
                    &policy,
                    &Brings::Nothing,
                    (&by, now),
                )?;
                happened
                    .ok_or(IngressError::CallNotFound)?
                    .map_err(|state| {
                        let state = state.as_str();
                        IngressError::CallState { call: id, state }
                    })
            })
            .await?;
        if let Some(lane) = lane {
            match life.state {
                CallState::Accepted => {
                    let waiting = Waiting::of(&life, Choice::default());
                    self.enqueue(&lane, id, waiting, life.due);
                }
                _ => lane.withdraw(id),
            }
        }
        Ok(life)
    }

    /// A finished event stream behind the event that a reader has seen.
    async fn rest(
        &self,
        workspace: &Workspace,
        answer: &journal::Answer,
        seen: &str,
    ) -> Result<Response, IngressError> {
        let (blobs, of, body) = (
            self.db.blobs().clone(),
            workspace.clone(),
            answer.body.clone(),
        );
        let seen = seen.to_owned();
        let found = blocking(move || {
            let failed = |error: std::io::Error| StoreError::Unavailable(error.to_string());
            if let Some(bytes) = &body.memory {
                let from = position_after(bytes.as_ref(), &seen)
                    .map_err(failed)?
                    .unwrap_or(0);
                let from = usize::try_from(from).unwrap_or(0).min(bytes.len());
                return Ok(Rest::Bytes(bytes.slice(from..)));
            }
            let Some(blob) = body.blob else {
                return Ok(Rest::Bytes(bytes::Bytes::new()));
            };
            let file = blobs.open_blob(&of, &blob.hash)?;
            let from = position_in_file(&file, blob.size, &seen)
                .map_err(failed)?
                .unwrap_or(0);
            Ok(Rest::File(Arc::new(file), from, blob.size))
        });
        let body = match found.await? {
            Rest::Bytes(bytes) => Body::full(bytes),
            Rest::File(file, from, end) => {
                let (sender, body) = Body::channel(Some(end - from));
                tokio::spawn(async move { send_stretch(&sender, file, from, end).await });
                body
            }
        };
        Ok(response(answer.status, &answer.headers, body))
    }
}

/// What a reader has not seen yet.
enum Rest {
    Bytes(bytes::Bytes),
    File(Arc<std::fs::File>, u64, u64),
}
