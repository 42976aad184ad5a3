//! Backups: make one, see which there are, fetch one.

use std::io::Read;
use std::sync::Arc;

use axum::Json;
use axum::body::Body;
use axum::extract::State as Shared;
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use http::StatusCode;
use http::header::{CONTENT_LENGTH, CONTENT_TYPE};
use http_body::Frame;
use skep_api::{Backup, NewBackup, Page, Problem};
use skep_backup::BackupError;
use skep_core::Code;
use tokio::sync::mpsc::Sender;

use super::input::{self, Path};
use crate::channel::ReceiverBody;
use crate::problem::ApiError;
use crate::state::State;

/// Pieces of a file that wait for a slow client.
const PIECES: usize = 4;
const PIECE: usize = 64 << 10;

fn broken(error: &BackupError) -> ApiError {
    tracing::warn!(%error, "the folder of backups");
    ApiError::new(Code::Internal, Code::Internal.title())
}

async fn all(state: &Arc<State>) -> Result<Vec<Backup>, ApiError> {
    let backups = state.backups.clone();
    let listed = tokio::task::spawn_blocking(move || backups.list()).await;
    let listed = listed.unwrap_or(Err(BackupError::Stopped));
    listed.map_err(|error| broken(&error))
}

fn missing(name: &str) -> ApiError {
    let name: String = name.chars().take(64).collect();
    ApiError::new(
        Code::BackupNotFound,
        format!("no backup is called `{name}`"),
    )
}

/// Begins a backup of everything that the server has. Ask for it by its name until it is done.
#[utoipa::path(post, path = "/api/v1/backups", tag = "backups", request_body = NewBackup,
    responses((status = 202, body = Backup), (status = "4XX", body = Problem)))]
pub(super) async fn create(
    Shared(state): Shared<Arc<State>>,
    input::Json(wanted): input::Json<NewBackup>,
) -> Result<(StatusCode, Json<Backup>), ApiError> {
    Ok((StatusCode::ACCEPTED, Json(state.backups.begin(wanted)?)))
}

/// The backups in the server's folder, newest first; one that runs, and the last if it failed.
#[utoipa::path(get, path = "/api/v1/backups", tag = "backups",
    responses((status = 200, body = Page<Backup>), (status = "4XX", body = Problem)))]
pub(super) async fn list(
    Shared(state): Shared<Arc<State>>,
) -> Result<Json<Page<Backup>>, ApiError> {
    let items = all(&state).await?;
    Ok(Json(Page { items, next: None }))
}

/// One backup.
#[utoipa::path(get, path = "/api/v1/backups/{backup}", tag = "backups",
    params(("backup" = String, Path, description = "Its name")),
    responses((status = 200, body = Backup), (status = "4XX", body = Problem)))]
pub(super) async fn show(
    Shared(state): Shared<Arc<State>>,
    Path(name): Path<String>,
) -> Result<Json<Backup>, ApiError> {
    let found = all(&state).await?.into_iter();
    let mut found = found.filter(|backup| backup.name == name);
    found.next().map(Json).ok_or_else(|| missing(&name))
}

/// The file of a backup that is done.
#[utoipa::path(get, path = "/api/v1/backups/{backup}/content", tag = "backups",
    params(("backup" = String, Path, description = "Its name")),
    responses((status = 200, description = "The file"), (status = "4XX", body = Problem)))]
pub(super) async fn content(
    Shared(state): Shared<Arc<State>>,
    Path(name): Path<String>,
) -> Result<Response, ApiError> {
    let path = state.backups.file(&name).ok_or_else(|| missing(&name))?;
    let opened = tokio::fs::File::open(&path).await;
    // Retention may have taken it just now.
    let file = opened.map_err(|_| missing(&name))?;
    let about = file.metadata().await.map_err(|_| missing(&name))?;
    let (sender, receiver) = tokio::sync::mpsc::channel(PIECES);
    let file = file.into_std().await;
    tokio::task::spawn_blocking(move || send(file, &path, &sender));
    let headers = [
        (CONTENT_TYPE, "application/octet-stream".to_owned()),
        (CONTENT_LENGTH, about.len().to_string()),
    ];
    Ok((headers, Body::new(ReceiverBody(receiver))).into_response())
}

/// Sends a file; whoever reads it sees by its length when it ended too early.
fn send(mut file: std::fs::File, path: &std::path::Path, sender: &Sender<Frame<Bytes>>) {
    loop {
        let mut piece = vec![0; PIECE];
        match file.read(&mut piece) {
            Ok(0) => return,
            Ok(count) => {
                piece.truncate(count);
                let sent = sender.blocking_send(Frame::data(Bytes::from(piece)));
                if sent.is_err() {
                    return;
                }
            }
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
            Err(error) => {
                tracing::warn!(path = %path.display(), %error, "a backup cannot be read");
                return;
            }
        }
    }
}
