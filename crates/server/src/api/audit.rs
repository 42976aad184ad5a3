//! The audit log: entries with their proofs, its signed head, and all of it to take along.

use std::io;
use std::sync::Arc;

use axum::Json;
use axum::body::Body;
use axum::extract::State as Shared;
use axum::response::{IntoResponse, Response};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http::header::CONTENT_TYPE;
use http_body::Frame;
use serde::Deserialize;
use skep_api::{
    AuditCheckpoint, AuditConsistency, AuditEntry, AuditErased, AuditPersonal, AuditProof, Page,
    Problem,
};
use skep_audit::{
    AuditError, Decision, Entry, Exported, Filter, Found, Head, Log, proof_text, reveal,
};
use skep_core::{Code, Workspace};
use skep_store::{Reader, StoreError};
use tokio::sync::mpsc::{self, Sender};
use utoipa::IntoParams;

use super::input::{Caller, Ordered, Path, Query, cursor, limit, moment};
use crate::channel::CheckedBody;
use crate::problem::ApiError;
use crate::state::State;

/// Entries that an export reads at once.
const STEP: usize = 256;
/// Lines that wait for a slow client.
const LINES: usize = 64;

impl From<AuditError> for ApiError {
    fn from(error: AuditError) -> Self {
        match error {
            AuditError::Store(error) => Self::Store(error),
            AuditError::NoEntry { .. } => Self::new(Code::EntryNotFound, error.to_string()),
            AuditError::Pruned { .. } => Self::new(Code::EntryPruned, error.to_string()),
            error => {
                tracing::error!(%error, "the audit log");
                Self::new(Code::Internal, Code::Internal.title())
            }
        }
    }
}

#[derive(Debug, Default, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct EntriesQuery {
    /// Where the page begins: `next` of the page before.
    cursor: Option<String>,
    /// Rows of the page, 1 to 1000; default 100.
    limit: Option<u32>,
    /// By this principal.
    principal: Option<String>,
    /// This action (`agent:deploy`), or all of a kind (`agent`).
    action: Option<String>,
    /// About this thing.
    resource: Option<String>,
    /// `allow` or `deny`.
    decision: Option<String>,
    /// Of this request.
    request: Option<String>,
    /// From this moment on (RFC 3339), or of this last time (`10m`).
    since: Option<String>,
    /// Before this moment.
    until: Option<String>,
}

impl EntriesQuery {
    fn filter(&self, state: &State, workspace: &Workspace) -> Result<Filter, ApiError> {
        let now = state.db.clock().now();
        let decision = match self.decision.as_deref() {
            None => None,
            Some("allow") => Some(Decision::Allow),
            Some("deny") => Some(Decision::Deny),
            Some(_) => {
                let detail = "query: decision is `allow` or `deny`";
                return Err(ApiError::new(Code::BadRequest, detail));
            }
        };
        let at = |name: &str, text: &Option<String>| {
            text.as_deref()
                .map(|text| moment(name, text, now))
                .transpose()
        };
        Ok(Filter {
            workspace: Some(workspace.to_string()),
            principal: self.principal.clone(),
            action: self.action.clone(),
            resource: self.resource.clone(),
            decision,
            request: self.request.clone(),
            since: at("since", &self.since)?,
            until: at("until", &self.until)?,
        })
    }
}

/// Entries as they are shown: with what their commitments stand for, where that is not erased.
async fn shown(
    state: &State,
    workspace: &Workspace,
    found: Vec<Found>,
) -> Result<Vec<AuditEntry>, ApiError> {
    let workspace = workspace.clone();
    let work = move |reader: &mut Reader<'_>| {
        let entries = found.iter().map(|one| Entry::parse(&one.bytes));
        let entries: Vec<Option<Entry<'_>>> = entries.collect();
        let all = entries.iter().flatten().flat_map(|it| &it.personal);
        let known = reveal(&mut reader.scope(&workspace), all.map(|it| &*it.commitment))?;
        let shown = found.iter().zip(&entries).map(|(one, entry)| {
            let personal = entry.iter().flat_map(|it| &it.personal);
            AuditEntry {
                number: one.number,
                entry: serde_json::from_slice(&one.bytes).unwrap_or_default(),
                personal: personal
                    .map(|it| AuditPersonal {
                        kind: it.kind.to_string(),
                        person: it.person.to_string(),
                        value: known.get(&*it.commitment).cloned(),
                    })
                    .collect(),
            }
        });
        Ok(shown.collect())
    };
    let shown: Result<_, StoreError> = state.db.read(work).await;
    Ok(shown?)
}

/// Entries of this workspace, newest first.
#[utoipa::path(get, path = "/api/v1/audit/entries", tag = "audit", params(EntriesQuery),
    responses((status = 200, body = Page<AuditEntry>), (status = "4XX", body = Problem)))]
pub(super) async fn entries(
    Shared(state): Shared<Arc<State>>,
    Caller(workspace): Caller,
    Query(query): Query<EntriesQuery>,
) -> Result<Json<Page<AuditEntry>>, ApiError> {
    let filter = query.filter(&state, &workspace)?;
    let before = cursor(query.cursor.as_deref())?;
    let limit = limit(query.limit)? as usize;
    let page = state.audit.log.search(filter, before, limit).await?;
    Ok(Json(Page {
        items: shown(&state, &workspace, page.found).await?,
        next: page.before.map(|before| before.to_string()),
    }))
}

/// The entry's own workspace may see it, and no other.
fn belongs(found: &Found, workspace: &Workspace) -> bool {
    let entry = skep_audit::Entry::parse(&found.bytes);
    entry.is_some_and(|entry| entry.workspace.as_deref() == Some(workspace.as_str()))
}

/// An entry of this workspace.
#[utoipa::path(get, path = "/api/v1/audit/entries/{number}", tag = "audit",
    params(("number" = u64, Path, description = "The entry's number")),
    responses((status = 200, body = AuditEntry), (status = "4XX", body = Problem)))]
pub(super) async fn entry(
    Shared(state): Shared<Arc<State>>,
    Caller(workspace): Caller,
    Path(number): Path<u64>,
) -> Result<Json<AuditEntry>, ApiError> {
    let size = state.audit.log.integrate().await?;
    let none = || ApiError::from(AuditError::NoEntry { number, size });
    if number >= size {
        return Err(none());
    }
    let found = state.audit.log.entry(number).await?;
    if !belongs(&found, &workspace) {
        return Err(none());
    }
    let shown = shown(&state, &workspace, vec![found]).await?;
    shown.into_iter().next().map(Json).ok_or_else(none)
}

/// Erases the personal data of somebody: entries keep commitments that nobody can tell any more what
/// they are of, and their proofs.
#[utoipa::path(delete, path = "/api/v1/audit/people/{person}", tag = "audit",
    params(("person" = String, Path, description = "As entries name them: `person_…`, or a user's id")),
    responses((status = 200, body = AuditErased), (status = "4XX", body = Problem)))]
pub(super) async fn erase(
    Shared(state): Shared<Arc<State>>,
    Caller(workspace): Caller,
    Ordered(by): Ordered,
    Path(person): Path<String>,
) -> Result<Json<AuditErased>, ApiError> {
    let (values, settled) = state.audit.erase(by, workspace, person.clone()).await?;
    if values == 0 {
        let shown: String = person.chars().take(64).collect();
        let detail = format!("nothing is known of `{shown}`");
        return Err(ApiError::new(Code::PersonNotFound, detail));
    }
    Ok(Json(AuditErased {
        person,
        values: values as u64,
        settled,
    }))
}

/// An entry of this workspace, with the proof that it is in the log.
#[utoipa::path(get, path = "/api/v1/audit/entries/{number}/proof", tag = "audit",
    params(("number" = u64, Path, description = "The entry's number")),
    responses((status = 200, body = AuditProof), (status = "4XX", body = Problem)))]
pub(super) async fn proof(
    Shared(state): Shared<Arc<State>>,
    Caller(workspace): Caller,
    Path(number): Path<u64>,
) -> Result<Json<AuditProof>, ApiError> {
    let (found, proof, head) = state.audit.log.prove(number).await?;
    if !belongs(&found, &workspace) {
        let size = head.size;
        return Err(AuditError::NoEntry { number, size }.into());
    }
    Ok(Json(AuditProof {
        number,
        entry: String::from_utf8_lossy(&found.bytes).into_owned(),
        proof: proof_text(number, &proof, &head),
    }))
}

/// The head of the log as it is now, signed.
#[utoipa::path(get, path = "/api/v1/audit/checkpoint", tag = "audit",
    responses((status = 200, body = AuditCheckpoint), (status = "4XX", body = Problem)))]
pub(super) async fn checkpoint(
    Shared(state): Shared<Arc<State>>,
) -> Result<Json<AuditCheckpoint>, ApiError> {
    let log = &state.audit.log;
    let Head { size, note, .. } = log.checkpoint().await?;
    Ok(Json(AuditCheckpoint {
        size,
        checkpoint: String::from_utf8_lossy(&note).into_owned(),
        public_key: log.public_key().to_string(),
    }))
}

#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct ConsistencyQuery {
    /// Entries that the log had.
    from: u64,
    /// Entries that it has.
    to: u64,
}

/// The proof that the log of `to` entries begins with that of `from`.
#[utoipa::path(get, path = "/api/v1/audit/consistency", tag = "audit", params(ConsistencyQuery),
    responses((status = 200, body = AuditConsistency), (status = "4XX", body = Problem)))]
pub(super) async fn consistency(
    Shared(state): Shared<Arc<State>>,
    Query(query): Query<ConsistencyQuery>,
) -> Result<Json<AuditConsistency>, ApiError> {
    let proof = state.audit.log.consistency(query.from, query.to).await?;
    let proof = proof.iter().map(|hash| STANDARD.encode(hash.0)).collect();
    Ok(Json(AuditConsistency { proof }))
}

#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct TileQuery {
    /// How many there are in it, 1 to 256; default 256.
    width: Option<u16>,
}

/// A tile of the whole log (c2sp.org/tlog-tiles): hashes of a level, or `entries`.
#[utoipa::path(get, path = "/api/v1/audit/tiles/{kind}/{number}", tag = "audit",
    params(("kind" = String, Path, description = "A level from 0, or `entries`"),
        ("number" = u64, Path, description = "The tile's number"), TileQuery),
    responses((status = 200, description = "The tile", content_type = "application/octet-stream"),
        (status = "4XX", body = Problem)))]
pub(super) async fn tile(
    Shared(state): Shared<Arc<State>>,
    Path((kind, number)): Path<(String, u64)>,
    Query(query): Query<TileQuery>,
) -> Result<Response, ApiError> {
    let width = usize::from(query.width.unwrap_or(256));
    if !(1..=256).contains(&width) {
        return Err(ApiError::new(Code::BadRequest, "query: width is 1 to 256"));
    }
    let log = &state.audit.log;
    let bytes = match (kind.as_str(), kind.parse::<u8>()) {
        ("entries", _) => log.bundle(number, width).await?,
        (_, Ok(level)) => {
            log.integrate().await?;
            let tile = log.tile(level, number, width).await?;
            tile.ok_or_else(|| ApiError::new(Code::EntryNotFound, "the log has no such tile"))?
        }
        _ => {
            let detail = "a tile is of a level, or of `entries`";
            return Err(ApiError::new(Code::BadRequest, detail));
        }
    };
    let kind = [(CONTENT_TYPE, "application/octet-stream")];
    Ok((kind, bytes).into_response())
}

/// Entries of this workspace with their proofs, oldest first, as JSON lines: the first says by which
/// head of the log they are proven, the last how many there are.
#[utoipa::path(get, path = "/api/v1/audit/export", tag = "audit", params(EntriesQuery),
    responses((status = 200, description = "The lines", content_type = "application/jsonl"),
        (status = "4XX", body = Problem)))]
pub(super) async fn export(
    Shared(state): Shared<Arc<State>>,
    Caller(workspace): Caller,
    Query(query): Query<EntriesQuery>,
) -> Result<Response, ApiError> {
    if query.cursor.is_some() || query.limit.is_some() {
        let detail = "query: an export has all entries; it takes neither cursor nor limit";
        return Err(ApiError::new(Code::BadRequest, detail));
    }
    let filter = query.filter(&state, &workspace)?;
    let head = state.audit.log.checkpoint().await?;
    let (sender, receiver) = mpsc::channel(LINES);
    let log = state.audit.log.clone();
    tokio::spawn(async move {
        if let Err(error) = lines(&log, filter, &head, &sender).await {
            tracing::warn!(%error, "an export of the audit log was cut short");
            let cut = io::Error::other("the export is cut short");
            let _ = sender.send(Err(cut)).await;
        }
    });
    let kind = [(CONTENT_TYPE, "application/jsonl")];
    Ok((kind, Body::new(CheckedBody(receiver))).into_response())
}

/// Writes an export; ends early when nobody reads it any more.
async fn lines(
    log: &Log,
    filter: Filter,
    head: &Head,
    sender: &Sender<io::Result<Frame<Bytes>>>,
) -> Result<(), AuditError> {
    let send = async |line: String| sender.send(Ok(Frame::data(line.into()))).await.is_ok();
    let pruned = log
        .pruned()
        .await?
        .filter(|(_, told)| told.number < head.size);
    let begun = match &pruned {
        Some((_, told)) => {
            let proofs = log.prove_at(vec![told.number], head).await?;
            let proof = proofs.first().map_or(&[][..], Vec::as_slice);
            Exported::begin(log.public_key(), head, Some((told, proof)))?
        }
        None => Exported::begin(log.public_key(), head, None)?,
    };
    let (mut export, first) = begun;
    if !send(first).await {
        return Ok(());
    }
    let mut from = log.since(&filter).await?;
    let kept = pruned.map_or(0, |(kept, _)| kept);
    while from < kept {
        let (hashes, next) = log.hashes(filter.clone(), from, STEP).await?;
        let numbers = hashes.iter().map(|(number, _)| *number).collect();
        let proofs = log.prove_at(numbers, head).await?;
        for ((number, hash), proof) in hashes.iter().zip(&proofs) {
            if !send(export.hash(*number, hash, proof)?).await {
                return Ok(());
            }
        }
        if next == from {
            break;
        }
        from = next;
    }
    loop {
        let (found, next) = log.tail(filter.clone(), from, STEP).await?;
        let found: Vec<Found> = found
            .into_iter()
            .filter(|it| it.number < head.size)
            .collect();
        let numbers = found.iter().map(|it| it.number).collect();
        let proofs = log.prove_at(numbers, head).await?;
        for (one, proof) in found.iter().zip(&proofs) {
            if !send(export.entry(one, proof)?).await {
                return Ok(());
            }
        }
        if next == from || next >= head.size {
            break;
        }
        from = next;
    }
    send(export.end()?).await;
    Ok(())
}
