//! An agent with its data in one file: given out, and taken in as a new agent.

use std::io::{self, Read, Write};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::body::Body;
use axum::extract::{Request, State as Shared};
use axum::response::{IntoResponse, Response};
use bytes::{Buf, Bytes};
use http::StatusCode;
use http::header::CONTENT_TYPE;
use http_body::Frame;
use http_body_util::BodyExt;
use serde::Deserialize;
use skep_api::{Agent, AgentSpec, Problem};
use skep_backup::{BackupError, HOME, Part, Staged, VOLUMES, stage_agent, write_agent};
use skep_core::Code;
use skep_ingress::CallPolicy;
use skep_runtime::{DataFolders, Desired, RuntimeError};
use tokio::sync::mpsc;
use utoipa::IntoParams;

use super::agents::find;
use super::input::{Caller, Ordered, Path, Query};
use super::layers::may_deploy;
use crate::channel::CheckedBody;
use crate::gate::Asker;
use crate::lending;
use crate::problem::ApiError;
use crate::state::State;

/// Pieces that wait for a slow reader.
const PIECES: usize = 4;
const PIECE: usize = 64 << 10;
/// Silence of a client after which its archive is given up.
const SILENCE: Duration = Duration::from_secs(60);
/// The folder in which archives are laid out, below the data folder. A start empties it.
pub(crate) const STAGING: &str = "imports";

#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct ArchiveQuery {
    /// Also of an agent that runs: its files as they are at that moment.
    live: Option<bool>,
}

#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct ImportQuery {
    /// Leave it stopped.
    stopped: Option<bool>,
}

/// The folders of an agent as the parts of an archive.
fn parts(folders: &DataFolders) -> Vec<Part> {
    let home = Part {
        name: HOME.to_owned(),
        folder: folders.home.clone(),
    };
    let volumes = folders.volumes.iter().map(|(name, folder)| Part {
        name: format!("{VOLUMES}{name}"),
        folder: folder.clone(),
    });
    std::iter::once(home).chain(volumes).collect()
}

/// A stopped agent with its home and its named volumes: a tar archive. It ends with `end.json`; one
/// without is cut short.
#[utoipa::path(get, path = "/api/v1/agents/{agent}/archive", tag = "agents",
    params(("agent" = String, Path, description = "The agent's name"), ArchiveQuery),
    responses((status = 200, description = "The archive", content_type = "application/x-tar"),
        (status = "4XX", body = Problem)))]
pub(super) async fn export(
    Shared(state): Shared<Arc<State>>,
    Caller(workspace): Caller,
    Path(name): Path<String>,
    Query(query): Query<ArchiveQuery>,
) -> Result<Response, ApiError> {
    let live = query.live.unwrap_or(false);
    let (spec, folders) = state.runtime.data(&workspace, &name, live)?;
    let spec = serde_json::to_value(spec.as_ref())
        .map_err(|_| ApiError::new(Code::Internal, Code::Internal.title()))?;
    let now = state.db.clock().now();
    let (sender, receiver) = mpsc::channel(PIECES);
    tokio::task::spawn_blocking(move || {
        let out = io::BufWriter::with_capacity(PIECE, Sending(sender.clone()));
        if let Err(error) = write_agent(spec, now, &parts(&folders), out) {
            tracing::warn!(agent = name, %error, "an archive was cut short");
            let _ = sender.blocking_send(Err(io::Error::other("the archive is cut short")));
        }
    });
    let kind = [(CONTENT_TYPE, "application/x-tar")];
    Ok((kind, Body::new(CheckedBody(receiver))).into_response())
}

/// What is written goes to who reads the answer.
struct Sending(mpsc::Sender<io::Result<Frame<Bytes>>>);

impl Write for Sending {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let frame = Frame::data(Bytes::copy_from_slice(bytes));
        let sent = self.0.blocking_send(Ok(frame));
        sent.map_err(|_| io::Error::from(io::ErrorKind::BrokenPipe))?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Makes a new agent of an archive, with its data there before it starts. Its name is that of the
/// path, whatever the archive says.
#[utoipa::path(put, path = "/api/v1/agents/{agent}/archive", tag = "agents",
    params(("agent" = String, Path, description = "The new agent's name"), ImportQuery),
    request_body(content_type = "application/x-tar", description = "The archive"),
    responses((status = 201, body = Agent), (status = "4XX", body = Problem)))]
pub(super) async fn import(
    Shared(state): Shared<Arc<State>>,
    Caller(workspace): Caller,
    asker: Asker,
    Ordered(by): Ordered,
    Path(name): Path<String>,
    Query(query): Query<ImportQuery>,
    request: Request,
) -> Result<Response, ApiError> {
    let staged = receive(&state, request).await?;
    let spec = serde_json::from_value::<AgentSpec>(staged.head.spec.clone());
    let mut spec = spec.map_err(|error| {
        let detail = format!("the specification in the archive: {error}");
        ApiError::new(Code::InvalidSpec, detail)
    })?;
    spec.name = name;
    may_deploy(&state, &asker, &spec).await?;
    CallPolicy::from_spec(&spec.calls)?;
    lending::check(&state, &asker, &spec).await?;
    let desired = match query.stopped {
        Some(true) => Desired::Stopped,
        _ => Desired::Running,
    };
    let place = move |folders: &DataFolders| put_in_place(staged, &parts(folders));
    let made = state
        .runtime
        .deploy_with(&by, &workspace, spec, desired, place);
    let made = made.await?;
    let agent = find(&state, &workspace, &made.name).await?;
    Ok((StatusCode::CREATED, Json(agent)).into_response())
}

async fn receive(state: &Arc<State>, request: Request) -> Result<Staged, ApiError> {
    let folder = state.db.folder().join(STAGING);
    let folder = folder.join(skep_core::RequestId::new().to_string());
    let min_free = state.min_free;
    let (sender, receiver) = mpsc::channel(PIECES);
    let staging = tokio::task::spawn_blocking(move || {
        let staged = stage_agent(Receiving(receiver, Bytes::new()), &folder, min_free);
        if staged.is_err() {
            let _ = std::fs::remove_dir_all(&folder);
        }
        staged
    });
    let mut body = request.into_body();
    loop {
        match tokio::time::timeout(SILENCE, body.frame()).await {
            Ok(None) => break,
            Ok(Some(Ok(frame))) => {
                let bytes = frame.into_data().unwrap_or_default();
                // Whoever lays it out has given it up, and says why.
                if sender.send(bytes).await.is_err() {
                    break;
                }
            }
            Ok(Some(Err(_))) => break,
            Err(_) => return Err(ApiError::new(Code::RequestTimeout, "the archive stopped")),
        }
    }
    drop(sender);
    let staged = staging.await.unwrap_or(Err(BackupError::Stopped));
    staged.map_err(|error| match error {
        BackupError::NoRoom { .. } => {
            let detail = "the disk of the server would be too full with the archive on it";
            ApiError::new(Code::StoreUnavailable, detail)
        }
        BackupError::File { .. } => {
            tracing::warn!(%error, "an archive cannot be laid out");
            ApiError::new(Code::Internal, Code::Internal.title())
        }
        error => ApiError::new(Code::BadRequest, format!("the archive: {error}")),
    })
}

/// What a client sends, for who reads as from a file.
struct Receiving(mpsc::Receiver<Bytes>, Bytes);

impl Read for Receiving {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        while self.1.is_empty() {
            match self.0.blocking_recv() {
                Some(bytes) => self.1 = bytes,
                None => return Ok(0),
            }
        }
        let count = self.1.len().min(into.len());
        self.1.copy_to_slice(&mut into[..count]);
        Ok(count)
    }
}

/// Puts all parts in their places, or none.
fn put_in_place(mut staged: Staged, parts: &[Part]) -> Result<Vec<PathBuf>, RuntimeError> {
    let known = |name: &String| parts.iter().any(|part| part.name == *name);
    if let Some(unknown) = staged.parts().into_iter().find(|name| !known(name)) {
        let reason = format!("the archive has `{unknown}`, which the specification does not name");
        return Err(RuntimeError::spec("volumes", reason));
    }
    let mut placed: Vec<PathBuf> = Vec::new();
    let there = staged.parts();
    for part in parts.iter().filter(|part| there.contains(&part.name)) {
        if let Err(error) = staged.take_out(part) {
            for folder in &placed {
                skep_runtime::folder::remove(folder)?;
            }
            tracing::warn!(part = part.name, %error, "an archive is not taken in");
            let reason = match error {
                BackupError::NotEmpty { .. } => format!(
                    "`{}` is there already and holds something: remove it from the data folder \
                     first, or leave it out of the archive",
                    part.name
                ),
                _ => format!("`{}` cannot be put in its place", part.name),
            };
            return Err(RuntimeError::spec("volumes", reason));
        }
        placed.push(part.folder.clone());
    }
    Ok(placed)
}
