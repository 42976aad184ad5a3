//! Calls as people see them: pages, details, history.

use std::collections::HashMap;
use std::fmt::Write as _;

use http::HeaderMap;
use skep_api::{Attempt, Call, CallState};
use skep_core::{CallId, InstanceId};
use skep_store::{Param, Row, Scope, StoreError};

use crate::headers::decode;

/// Headers whose values are credentials: never shown.
const CREDENTIALS: [&str; 4] = ["authorization", "cookie", "set-cookie", "x-api-key"];

/// Which calls a list shows.
#[derive(Debug, Clone, Default)]
pub struct Filter {
    /// Only this agent's.
    pub agent: Option<String>,
    /// Only those in this state.
    pub state: Option<CallState>,
}

macro_rules! select {
    ($condition:literal) => {
        concat!(
            "SELECT id, agent, state, method, target, attempt, status, reason, idempotency_key, ",
            "replay_of, request_bytes, response_bytes, accepted_at, due_at, deadline_at, ",
            "started_at, finished_at, instance FROM calls WHERE workspace = ?1 AND ",
            $condition
        )
    };
}

/// Newest first, older than `before`.
pub(crate) fn page(
    scope: &mut Scope<'_>,
    filter: &Filter,
    before: Option<CallId>,
    limit: u32,
) -> Result<Vec<Call>, StoreError> {
    let before = before.map_or([0xff; 16], |id| *id.as_bytes());
    let (before, limit) = (Param::from(&before), Param::from(limit));
    let rows = match (&filter.agent, filter.state) {
        (None, None) => scope.query(
            select!("id < ?2 ORDER BY id DESC LIMIT ?3"),
            &[before, limit],
        ),
        (Some(agent), None) => scope.query(
            select!("id < ?2 AND agent = ?4 ORDER BY id DESC LIMIT ?3"),
            &[before, limit, agent.into()],
        ),
        (None, Some(state)) => scope.query(
            select!("id < ?2 AND state = ?4 ORDER BY id DESC LIMIT ?3"),
            &[before, limit, state.as_str().into()],
        ),
        (Some(agent), Some(state)) => scope.query(
            select!("id < ?2 AND agent = ?4 AND state = ?5 ORDER BY id DESC LIMIT ?3"),
            &[before, limit, agent.into(), state.as_str().into()],
        ),
    }?;
    rows.iter().map(call).collect()
}

/// Whose calls these are: of those that are kept.
pub(crate) fn agents(
    scope: &mut Scope<'_>,
    ids: &[CallId],
) -> Result<HashMap<CallId, String>, StoreError> {
    let mut agents = HashMap::with_capacity(ids.len());
    for id in ids {
        let sql = "SELECT agent FROM calls WHERE workspace = ?1 AND id = ?2";
        if let Some(row) = scope.query_opt(sql, &[id.as_bytes().into()])? {
            agents.insert(*id, row.text(0)?.to_owned());
        }
    }
    Ok(agents)
}

/// One call with its history and headers.
pub(crate) fn detail(scope: &mut Scope<'_>, id: CallId) -> Result<Option<Call>, StoreError> {
    let key = Param::from(id.as_bytes());
    let Some(row) = scope.query_opt(select!("id = ?2"), &[key])? else {
        return Ok(None);
    };
    let mut call = call(&row)?;
    call.history = history(scope, id)?;
    let headers = scope.query_opt(
        "SELECT request_headers, response_headers FROM calls WHERE workspace = ?1 AND id = ?2",
        &[key],
    )?;
    if let Some(row) = headers {
        call.request_headers = shown(&decode(row.blob(0)?)?);
        call.response_headers = row
            .opt_blob(1)?
            .map_or(Ok(Vec::new()), |h| decode(h).map(|h| shown(&h)))?;
    }
    Ok(Some(call))
}

fn shown(headers: &HeaderMap) -> Vec<(String, String)> {
    headers
        .iter()
        .map(|(name, value)| {
            let value = match CREDENTIALS.contains(&name.as_str()) {
                true => "(not shown)".to_owned(),
                false => readable(value.as_bytes()),
            };
            (name.to_string(), value)
        })
        .collect()
}

fn readable(bytes: &[u8]) -> String {
    let mut out = String::with_capacity(bytes.len());
    for &byte in bytes {
        match byte {
            b' '..=b'~' => out.push(byte as char),
            // A string takes whatever is written to it.
            _ => drop(write!(out, "\\x{byte:02x}")),
        }
    }
    out
}

fn history(scope: &mut Scope<'_>, id: CallId) -> Result<Vec<Attempt>, StoreError> {
    scope
        .query(
            "SELECT number, instance, epoch, started_at, ended_at, status, reason FROM attempts \
             WHERE workspace = ?1 AND call = ?2 ORDER BY number",
            &[id.as_bytes().into()],
        )?
        .iter()
        .map(|row| {
            Ok(Attempt {
                number: u32::try_from(row.int(0)?).unwrap_or(u32::MAX),
                instance: instance(row, 1)?.unwrap_or_default(),
                epoch: row.int(2)?,
                started_at: row.time(3)?.to_string(),
                ended_at: row.time(4)?.to_string(),
                status: row
                    .opt_int(5)?
                    .and_then(|status| u16::try_from(status).ok()),
                reason: row.text(6)?.to_owned(),
            })
        })
        .collect()
}

fn instance(row: &Row, column: usize) -> Result<Option<String>, StoreError> {
    match row.opt_blob(column)? {
        Some(_) => Ok(Some(InstanceId::from_bytes(row.bytes(column)?).to_string())),
        None => Ok(None),
    }
}

fn call(row: &Row) -> Result<Call, StoreError> {
    let text = row.text(2)?;
    let state = CallState::parse(text)
        .ok_or_else(|| StoreError::Statement(format!("`{text}` is no state")))?;
    let replay_of = match row.opt_blob(9)? {
        Some(_) => Some(CallId::from_bytes(row.bytes(9)?).to_string()),
        None => None,
    };
    let unsigned = |value: i64| u64::try_from(value).unwrap_or(0);
    let between_attempts = state == CallState::Accepted && row.int(5)? > 0;
    Ok(Call {
        id: CallId::from_bytes(row.bytes(0)?).to_string(),
        agent: row.text(1)?.to_owned(),
        state,
        method: row.text(3)?.to_owned(),
        target: row.text(4)?.to_owned(),
        attempts: u32::try_from(row.int(5)?).unwrap_or(u32::MAX),
        status: row
            .opt_int(6)?
            .and_then(|status| u16::try_from(status).ok()),
        reason: row.opt_text(7)?.map(str::to_owned),
        idempotency_key: row.opt_text(8)?.map(str::to_owned),
        replay_of,
        request_bytes: unsigned(row.int(10)?),
        response_bytes: row.opt_int(11)?.map(unsigned),
        accepted_at: row.time(12)?.to_string(),
        due_at: between_attempts
            .then(|| row.time(13))
            .transpose()?
            .map(|time| time.to_string()),
        deadline_at: row.time(14)?.to_string(),
        started_at: row.opt_time(15)?.map(|time| time.to_string()),
        finished_at: row.opt_time(16)?.map(|time| time.to_string()),
        instance: instance(row, 17)?,
        history: Vec::new(),
        request_headers: Vec::new(),
        response_headers: Vec::new(),
    })
}
