//! Streams of what happens, each thing with its number: looked for as it is committed, and sent at the pace of who reads. A client
//! that lost the connection goes on behind the last number that it saw.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use axum::body::Body;
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use http::HeaderMap;
use http::header::{CACHE_CONTROL, CONTENT_TYPE};
use http_body::Frame;
use skep_core::Code;
use tokio::sync::mpsc::{Sender, channel};

use super::input::cursor;
use crate::channel::ReceiverBody;
use crate::problem::ApiError;
use crate::state::State;

/// Things that wait for a slow reader.
const QUEUE: usize = 64;
/// Things that are read at once.
pub(super) const BATCH: u32 = 256;
/// Time between two looks.
const LOOK: Duration = Duration::from_millis(250);
/// Silence after which a comment tells both sides that the other is there.
const HEARTBEAT: Duration = Duration::from_secs(15);

/// Something that happened.
pub(super) struct Told {
    /// Who has seen it goes on behind this.
    pub(super) number: u64,
    /// What happened.
    pub(super) kind: String,
    /// To what, as JSON.
    pub(super) data: String,
}

/// Where a stream comes from.
#[async_trait]
pub(super) trait Source: Send + 'static {
    /// What happened behind a number, oldest first; with the number that was looked up to.
    async fn read(&mut self, after: u64) -> Result<(Vec<Told>, u64), ApiError>;

    /// Whether nothing follows what was read.
    fn is_over(&self) -> bool {
        false
    }
}

/// Behind what a client wants to go on: by the header, or else by the query.
pub(super) fn seen(headers: &HeaderMap, after: Option<&str>) -> Result<Option<u64>, ApiError> {
    let Some(value) = headers.get("last-event-id") else {
        return cursor(after);
    };
    let wrong = |_| ApiError::new(Code::BadRequest, "Last-Event-ID is not the id of an event");
    cursor(Some(value.to_str().map_err(wrong)?))
}

/// A stream of server-sent events. It begins with an id alone: who loses the connection before anything happens misses nothing.
pub(super) fn stream(state: Arc<State>, after: u64, source: impl Source) -> Response {
    let (sender, receiver) = channel(QUEUE);
    tokio::spawn(follow(state, after, source, sender));
    let head = [
        (CONTENT_TYPE, "text/event-stream"),
        (CACHE_CONTROL, "no-store"),
    ];
    (head, Body::new(ReceiverBody(receiver))).into_response()
}

/// Sends what happens, until the client or the server goes, or nothing follows.
async fn follow(
    state: Arc<State>,
    mut after: u64,
    mut source: impl Source,
    sender: Sender<Frame<Bytes>>,
) {
    let mut looks = tokio::time::interval(LOOK);
    looks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut said = tokio::time::Instant::now();
    let mut text = format!("id: {after}\n\n");
    loop {
        tokio::select! {
            _ = looks.tick() => {}
            () = sender.closed() => return,
            () = state.stop.cancelled() => return,
        }
        let (told, next) = match source.read(after).await {
            Ok(found) => found,
            Err(error) => {
                tracing::debug!(error = %error.public(), "what happens cannot be read");
                // The client comes back behind what it has seen.
                return;
            }
        };
        for Told { number, kind, data } in &told {
            text.push_str(&format!("id: {number}\nevent: {kind}\ndata: {data}\n\n"));
        }
        after = next;
        if text.is_empty() && said.elapsed() >= HEARTBEAT {
            // What was looked at and is of no interest need not be looked at again.
            text.push_str(&format!(": still here\nid: {after}\n\n"));
        }
        if !text.is_empty() {
            said = tokio::time::Instant::now();
            let frame = Frame::data(Bytes::from(std::mem::take(&mut text)));
            if sender.send(frame).await.is_err() {
                return;
            }
        }
        if source.is_over() {
            return;
        }
    }
}
