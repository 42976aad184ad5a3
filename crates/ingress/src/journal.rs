//! The journal: every statement on calls. Each change of a call's life is a compare-and-set on the
//! lease that it was made from.

use http::{HeaderMap, Method};
use skep_api::CallState;
use skep_core::{CallId, InstanceId, RequestId, RunId, Timestamp};
use skep_store::{BlobRef, By, Change, Hash, Param, Row, Scope, StoreError};

use crate::agents::{Agents, Turn};
use crate::headers::{decode, encode};
use crate::life::{End, Event, Life};
use crate::payload::Payload;
use crate::policy::CallPolicy;

/// What a row costs besides its bodies, for retention by size.
const ROW_BYTES: i64 = 1024;

/// The name of the counter of calls of an agent in a state.
fn state_counter(agent: &str, state: CallState) -> String {
    format!("calls/{agent}/{}", state.as_str())
}

/// The counters, one for each agent, of the bytes that ended calls hold, of those that retention may
/// take. Servers that share a database would wait for each other at a single one.
const BYTES: &str = "ended-call-bytes/";

fn bytes_counter(agent: &str) -> String {
    format!("{BYTES}{agent}")
}

/// What a call holds besides [`ROW_BYTES`].
macro_rules! held {
    () => {
        "request_bytes + LENGTH(request_headers) + COALESCE(response_bytes, 0) \
         + COALESCE(LENGTH(response_headers), 0)"
    };
}

/// Whether retention may take a call in this state. Dead ones wait until somebody decides.
const fn is_retained(state: CallState) -> bool {
    matches!(
        state,
        CallState::Succeeded | CallState::Failed | CallState::Cancelled | CallState::Expired
    )
}

/// A request as an agent gets it.
#[derive(Debug, Clone)]
pub(crate) struct Request {
    pub(crate) method: Method,
    pub(crate) target: String,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Payload,
    pub(crate) trailers: Option<HeaderMap>,
    /// The run that it carries.
    pub(crate) run: Option<RunId>,
}

/// An agent's complete answer.
#[derive(Debug, Clone)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Payload,
    pub(crate) trailers: Option<HeaderMap>,
}

/// A call that is to be accepted.
pub(crate) struct NewCall<'a> {
    /// The hash of its request's body.
    pub(crate) body_hash: Hash,
    /// Who makes it.
    pub(crate) by: &'a By,
    pub(crate) id: CallId,
    pub(crate) agent: &'a str,
    pub(crate) life: &'a Life,
    pub(crate) instance: Option<InstanceId>,
    pub(crate) request: &'a Request,
    pub(crate) fingerprint: Hash,
    pub(crate) key: Option<&'a str>,
    pub(crate) request_id: RequestId,
    pub(crate) replay_of: Option<CallId>,
    pub(crate) now: Timestamp,
}

/// Accepts a call: it is durable when the unit is committed.
pub(crate) fn insert(scope: &mut Scope<'_>, call: &NewCall<'_>) -> Result<(), StoreError> {
    let (life, request) = (call.life, call.request);
    let headers = encode(&request.headers);
    let trailers = request.trailers.as_ref().map(encode);
    let bytes = i64::try_from(request.body.size).unwrap_or(i64::MAX);
    let started = (life.state == CallState::Running).then_some(call.now);
    scope.execute(
        "INSERT INTO calls (workspace, id, agent, state, attempt, tries, crashes, epoch, instance, \
         due_at, deadline_at, accepted_at, started_at, method, target, request_headers, \
         request_trailers, request_body, request_blob, request_bytes, fingerprint, \
         idempotency_key, request_id, replay_of, run) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, \
         ?11, ?12, ?13, ?14, ?15, ?16, ?17, ?18, ?19, ?20, ?21, ?22, ?23, ?24, ?25)",
        &[
            call.id.as_bytes().into(),
            call.agent.into(),
            life.state.as_str().into(),
            life.attempt.into(),
            life.tries.into(),
            life.crashes.into(),
            life.epoch.into(),
            call.instance.as_ref().map(InstanceId::as_bytes).into(),
            life.due.into(),
            life.deadline.into(),
            call.now.into(),
            started.into(),
            request.method.as_str().into(),
            (&request.target).into(),
            headers.as_slice().into(),
            trailers.as_deref().into(),
            request.body.column().into(),
            request
                .body
                .blob
                .as_ref()
                .map(|blob| blob.hash.as_bytes())
                .into(),
            bytes.into(),
            call.fingerprint.as_bytes().into(),
            call.key.into(),
            call.request_id.as_bytes().into(),
            call.replay_of.as_ref().map(CallId::as_bytes).into(),
            request.run.as_ref().map(RunId::as_bytes).into(),
        ],
    )?;
    if let Some(blob) = &request.body.blob {
        scope.link_blob(blob)?;
    }
    let change = Change {
        action: None,
        resource: ("Call", &call.id.to_string()),
        what: call.agent,
        hash: Some(call.body_hash),
    };
    call.by.did(scope, &change, call.now)?;
    scope.count(state_counter(call.agent, life.state), 1)
}

/// The call that holds an idempotency key.
pub(crate) struct Holder {
    pub(crate) id: CallId,
    pub(crate) state: CallState,
    pub(crate) fingerprint: Hash,
}

pub(crate) fn find_by_key(
    scope: &mut Scope<'_>,
    agent: &str,
    key: &str,
) -> Result<Option<Holder>, StoreError> {
    let row = scope.query_opt(
        "SELECT id, state, fingerprint FROM calls \
         WHERE workspace = ?1 AND agent = ?2 AND idempotency_key = ?3",
        &[agent.into(), key.into()],
    )?;
    row.map(|row| {
        Ok(Holder {
            id: CallId::from_bytes(row.bytes(0)?),
            state: state(&row, 1)?,
            fingerprint: Hash::from_bytes(row.bytes(2)?),
        })
    })
    .transpose()
}

fn state(row: &Row, column: usize) -> Result<CallState, StoreError> {
    let text = row.text(column)?;
    CallState::parse(text).ok_or_else(|| StoreError::Statement(format!("`{text}` is no state")))
}

fn narrow(row: &Row, column: usize) -> Result<u32, StoreError> {
    u32::try_from(row.int(column)?)
        .map_err(|_| StoreError::Statement(format!("column {column} is out of range")))
}

/// A call's life with what is needed to go on with it.
#[derive(Debug, Clone)]
pub(crate) struct Standing {
    pub(crate) id: CallId,
    pub(crate) agent: String,
    pub(crate) life: Life,
    pub(crate) instance: Option<InstanceId>,
    pub(crate) started: Option<Timestamp>,
    pub(crate) run: Option<RunId>,
}

fn standing(row: &Row) -> Result<Standing, StoreError> {
    let instance = row
        .opt_blob(9)?
        .is_some()
        .then(|| row.bytes(9))
        .transpose()?;
    Ok(Standing {
        id: CallId::from_bytes(row.bytes(0)?),
        agent: row.text(1)?.to_owned(),
        life: Life {
            state: state(row, 2)?,
            attempt: narrow(row, 3)?,
            tries: narrow(row, 4)?,
            crashes: narrow(row, 5)?,
            epoch: row.int(6)?,
            due: row.time(7)?,
            deadline: row.time(8)?,
            reason: row.opt_text(10)?.map(str::to_owned),
        },
        instance: instance.map(InstanceId::from_bytes),
        started: row.opt_time(11)?,
        run: run(row, 12)?,
    })
}

fn run(row: &Row, column: usize) -> Result<Option<RunId>, StoreError> {
    let is_there = row.opt_blob(column)?.is_some();
    is_there
        .then(|| row.bytes(column).map(RunId::from_bytes))
        .transpose()
}

pub(crate) fn find(scope: &mut Scope<'_>, id: CallId) -> Result<Option<Standing>, StoreError> {
    let row = scope.query_opt(
        "SELECT id, agent, state, attempt, tries, crashes, epoch, due_at, deadline_at, instance, \
         reason, started_at, run FROM calls WHERE workspace = ?1 AND id = ?2",
        &[id.as_bytes().into()],
    )?;
    row.as_ref().map(standing).transpose()
}

/// Open calls, oldest first, after `after`.
pub(crate) fn open_calls(
    scope: &mut Scope<'_>,
    in_state: CallState,
    after: Option<CallId>,
    limit: u32,
) -> Result<Vec<Standing>, StoreError> {
    let after = after.map_or([0; 16], |id| *id.as_bytes());
    scope
        .query(
            "SELECT id, agent, state, attempt, tries, crashes, epoch, due_at, deadline_at, \
             instance, reason, started_at, run FROM calls WHERE workspace = ?1 AND state = ?2 \
             AND state IN ('accepted', 'running') AND id > ?3 ORDER BY id LIMIT ?4",
            &[in_state.as_str().into(), (&after).into(), limit.into()],
        )?
        .iter()
        .map(standing)
        .collect()
}

/// What a step of a call's life brings with it.
pub(crate) enum Brings<'a> {
    /// Nothing.
    Nothing,
    /// An attempt begins on this instance.
    Begin(InstanceId),
    /// An attempt ended; the history keeps why, unless it ended the call.
    End(&'a End),
    /// An attempt ended the call with the agent's answer, whose body has this hash, and of which this is told.
    Answer(&'a Answer, Hash, Option<&'a [u8]>),
}

/// Takes a call from one standing to the next life, and tells who wants to know when it ends by that. False when it is not as
/// it was: somebody else was first.
pub(crate) fn apply(
    agents: &dyn Agents,
    scope: &mut Scope<'_>,
    before: &Standing,
    after: &Life,
    brings: &Brings<'_>,
    (by, now): (&By, Timestamp),
) -> Result<bool, StoreError> {
    let held = match brings {
        Brings::Answer(answer, ..) => settle(scope, before, after, answer, now)?,
        _ => move_on(scope, before, after, brings, now)?,
    };
    let Some(held) = held else { return Ok(false) };
    if is_retained(after.state) {
        scope.count(bytes_counter(&before.agent), held + ROW_BYTES)?;
    }
    if let Brings::End(end) = brings {
        remember_attempt(
            scope,
            before,
            end,
            after.reason.as_deref().unwrap_or_default(),
            now,
        )?;
    }
    if before.life.state != after.state {
        scope.count(state_counter(&before.agent, before.life.state), -1)?;
        scope.count(state_counter(&before.agent, after.state), 1)?;
    }
    // That it waits or runs is told by the entry of its acceptance, or of who gave it another round.
    if after.state.is_final() || before.life.state.is_final() {
        tell_end(scope, before, after, brings, (by, now))?;
        agents.turned(scope, &turn(before, after, brings), now)?;
    }
    Ok(true)
}

/// What is told of a call that has ended, or that begins anew.
fn turn<'a>(before: &'a Standing, after: &'a Life, brings: &Brings<'a>) -> Turn<'a> {
    let (status, summary) = match brings {
        Brings::Answer(answer, _, summary) => (Some(answer.status), *summary),
        _ => (None, None),
    };
    Turn {
        agent: &before.agent,
        call: before.id,
        run: before.run,
        instance: before.instance,
        state: after.state,
        status,
        reason: after.reason.as_deref(),
        summary,
    }
}

/// Leaves the entry of a call that has ended, or that begins anew.
fn tell_end(
    scope: &mut Scope<'_>,
    before: &Standing,
    after: &Life,
    brings: &Brings<'_>,
    (by, now): (&By, Timestamp),
) -> Result<(), StoreError> {
    let (status, hash) = match brings {
        Brings::Answer(answer, hash, _) => (Some(answer.status), Some(*hash)),
        _ => (None, None),
    };
    let what = match status {
        Some(status) => format!("{}, {status}", after.state.as_str()),
        None => after.state.as_str().to_owned(),
    };
    let change = Change {
        action: Some("call:end"),
        resource: ("Call", &before.id.to_string()),
        what: &what,
        hash,
    };
    by.did(scope, &change, now)
}

/// Lets an event happen to a call as it stands now: the life after it, or the state that does not
/// allow it. `None`: there is no such call.
pub(crate) fn happen(
    agents: &dyn Agents,
    scope: &mut Scope<'_>,
    id: CallId,
    event: &Event,
    policy: &CallPolicy,
    brings: &Brings<'_>,
    (by, now): (&By, Timestamp),
) -> Result<Option<Result<Life, CallState>>, StoreError> {
    let Some(before) = find(scope, id)? else {
        return Ok(None);
    };
    let Ok(after) = before.life.step(event, policy, now, 0.0) else {
        return Ok(Some(Err(before.life.state)));
    };
    apply(agents, scope, &before, &after, brings, (by, now))?;
    Ok(Some(Ok(after)))
}

fn settle(
    scope: &mut Scope<'_>,
    before: &Standing,
    after: &Life,
    answer: &Answer,
    now: Timestamp,
) -> Result<Option<i64>, StoreError> {
    let headers = encode(&answer.headers);
    let trailers = answer.trailers.as_ref().map(encode);
    let bytes = i64::try_from(answer.body.size).unwrap_or(i64::MAX);
    let row = scope.query_opt(
        concat!(
            "UPDATE calls SET state = ?6, tries = ?7, finished_at = ?8, reason = ?9, ",
            "status = ?10, response_headers = ?11, response_trailers = ?12, ",
            "response_body = ?13, response_blob = ?14, response_bytes = ?15 ",
            "WHERE workspace = ?1 AND id = ?2 AND state = ?3 AND attempt = ?4 AND epoch = ?5 ",
            "RETURNING ",
            held!()
        ),
        &[
            before.id.as_bytes().into(),
            before.life.state.as_str().into(),
            before.life.attempt.into(),
            before.life.epoch.into(),
            after.state.as_str().into(),
            after.tries.into(),
            now.into(),
            after.reason.as_deref().into(),
            answer.status.into(),
            headers.as_slice().into(),
            trailers.as_deref().into(),
            answer.body.column().into(),
            answer
                .body
                .blob
                .as_ref()
                .map(|blob| blob.hash.as_bytes())
                .into(),
            bytes.into(),
        ],
    )?;
    let held = row.map(|row| row.int(0)).transpose()?;
    if let (Some(_), Some(blob)) = (held, &answer.body.blob) {
        scope.link_blob(blob)?;
    }
    Ok(held)
}

fn move_on(
    scope: &mut Scope<'_>,
    before: &Standing,
    after: &Life,
    brings: &Brings<'_>,
    now: Timestamp,
) -> Result<Option<i64>, StoreError> {
    let (instance, started) = match brings {
        Brings::Begin(instance) => (Some(*instance), Some(now)),
        _ => (before.instance, before.started),
    };
    let row = scope.query_opt(
        concat!(
            "UPDATE calls SET state = ?6, attempt = ?7, tries = ?8, crashes = ?9, epoch = ?10, ",
            "due_at = ?11, deadline_at = ?12, reason = ?13, instance = ?14, started_at = ?15, ",
            "finished_at = ?16 ",
            "WHERE workspace = ?1 AND id = ?2 AND state = ?3 AND attempt = ?4 AND epoch = ?5 ",
            "RETURNING ",
            held!()
        ),
        &[
            before.id.as_bytes().into(),
            before.life.state.as_str().into(),
            before.life.attempt.into(),
            before.life.epoch.into(),
            after.state.as_str().into(),
            after.attempt.into(),
            after.tries.into(),
            after.crashes.into(),
            after.epoch.into(),
            after.due.into(),
            after.deadline.into(),
            after.reason.as_deref().into(),
            instance.as_ref().map(InstanceId::as_bytes).into(),
            started.into(),
            after.state.is_final().then_some(now).into(),
        ],
    )?;
    row.map(|row| row.int(0)).transpose()
}

fn remember_attempt(
    scope: &mut Scope<'_>,
    call: &Standing,
    end: &End,
    reason: &str,
    now: Timestamp,
) -> Result<(), StoreError> {
    let status = match end {
        End::Answered { status, .. } => Param::from(*status),
        _ => Param::Null,
    };
    scope.execute(
        "INSERT INTO attempts (workspace, call, number, instance, epoch, started_at, ended_at, \
         status, reason) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)",
        &[
            call.id.as_bytes().into(),
            call.life.attempt.into(),
            call.instance.as_ref().map(InstanceId::as_bytes).into(),
            call.life.epoch.into(),
            call.started.unwrap_or(now).into(),
            now.into(),
            status,
            reason.into(),
        ],
    )?;
    Ok(())
}

fn payload(row: &Row, body: usize, blob: usize, size: usize) -> Result<Payload, StoreError> {
    let size = u64::try_from(row.opt_int(size)?.unwrap_or(0)).unwrap_or(0);
    if row.opt_blob(blob)?.is_some() {
        let hash = Hash::from_bytes(row.bytes(blob)?);
        return Ok(Payload {
            size,
            blob: Some(BlobRef { hash, size }),
            memory: None,
        });
    }
    Ok(Payload::inline(
        row.opt_blob(body)?.unwrap_or_default().to_vec().into(),
    ))
}

/// The request of a call.
pub(crate) fn load_request(
    scope: &mut Scope<'_>,
    id: CallId,
) -> Result<Option<Request>, StoreError> {
    let row = scope.query_opt(
        "SELECT method, target, request_headers, request_trailers, request_body, request_blob, \
         request_bytes, run FROM calls WHERE workspace = ?1 AND id = ?2",
        &[id.as_bytes().into()],
    )?;
    row.map(|row| {
        let method = row.text(0)?;
        Ok(Request {
            method: Method::from_bytes(method.as_bytes())
                .map_err(|_| StoreError::Statement(format!("`{method}` is no method")))?,
            target: row.text(1)?.to_owned(),
            headers: decode(row.blob(2)?)?,
            trailers: row.opt_blob(3)?.map(decode).transpose()?,
            body: payload(&row, 4, 5, 6)?,
            run: run(&row, 7)?,
        })
    })
    .transpose()
}

/// The answer of a call that has one.
pub(crate) fn load_answer(scope: &mut Scope<'_>, id: CallId) -> Result<Option<Answer>, StoreError> {
    let row = scope.query_opt(
        "SELECT status, response_headers, response_trailers, response_body, response_blob, \
         response_bytes FROM calls WHERE workspace = ?1 AND id = ?2 AND status IS NOT NULL \
         AND response_headers IS NOT NULL",
        &[id.as_bytes().into()],
    )?;
    row.map(|row| {
        Ok(Answer {
            status: u16::try_from(row.int(0)?).unwrap_or(500),
            headers: decode(row.blob(1)?)?,
            trailers: row.opt_blob(2)?.map(decode).transpose()?,
            body: payload(&row, 3, 4, 5)?,
        })
    })
    .transpose()
}

/// The numbers of calls by agent and state, of one agent or of all, from the counters.
pub(crate) fn counts(
    scope: &mut Scope<'_>,
    agent: Option<&str>,
) -> Result<Vec<(String, CallState, u64)>, StoreError> {
    let counters = match agent {
        Some(agent) => scope.counters(&format!("calls/{agent}/"))?,
        None => scope.counters("calls/")?,
    };
    Ok(counters
        .iter()
        .filter_map(|(name, value)| {
            let (agent, state) = name.strip_prefix("calls/")?.rsplit_once('/')?;
            let count = u64::try_from(*value).ok().filter(|count| *count > 0)?;
            Some((agent.to_owned(), CallState::parse(state)?, count))
        })
        .collect())
}

/// The bytes that ended calls hold, from the counters.
pub(crate) fn ended_bytes(scope: &mut Scope<'_>) -> Result<u64, StoreError> {
    let counters = scope.counters(BYTES)?;
    let bytes: i64 = counters.iter().map(|(_, value)| *value).sum();
    Ok(u64::try_from(bytes).unwrap_or(0))
}

/// Forgets a call that has ended, with its history and its bodies.
pub(crate) fn remove(scope: &mut Scope<'_>, id: CallId) -> Result<(), StoreError> {
    let row = scope.query_opt(
        concat!(
            "SELECT agent, state, request_blob, response_blob, ",
            held!(),
            " FROM calls WHERE workspace = ?1 AND id = ?2"
        ),
        &[id.as_bytes().into()],
    )?;
    let Some(row) = row else { return Ok(()) };
    for column in [2, 3] {
        if row.opt_blob(column)?.is_some() {
            scope.unlink_blob(&Hash::from_bytes(row.bytes(column)?))?;
        }
    }
    scope.execute(
        "DELETE FROM attempts WHERE workspace = ?1 AND call = ?2",
        &[id.as_bytes().into()],
    )?;
    scope.execute(
        "DELETE FROM calls WHERE workspace = ?1 AND id = ?2",
        &[id.as_bytes().into()],
    )?;
    let state = state(&row, 1)?;
    if is_retained(state) {
        scope.count(bytes_counter(row.text(0)?), -(row.int(4)? + ROW_BYTES))?;
    }
    scope.count(state_counter(row.text(0)?, state), -1)
}

/// Calls that retention may take and that ended before `before`, those that ended first first, with
/// the bytes that each holds.
pub(crate) fn oldest_ended(
    scope: &mut Scope<'_>,
    before: Timestamp,
    limit: u32,
) -> Result<Vec<(CallId, u64)>, StoreError> {
    scope
        .query(
            concat!(
                "SELECT id, ",
                held!(),
                " FROM calls WHERE workspace = ?1 AND finished_at < ?2 ",
                "AND state IN ('succeeded', 'failed', 'cancelled', 'expired') ",
                "ORDER BY finished_at LIMIT ?3"
            ),
            &[before.into(), limit.into()],
        )?
        .iter()
        .map(|row| {
            let held = u64::try_from(row.int(1)? + ROW_BYTES).unwrap_or(0);
            Ok((CallId::from_bytes(row.bytes(0)?), held))
        })
        .collect()
}
