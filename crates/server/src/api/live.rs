//! Several topics over one connection: a WebSocket, or server-sent events.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use axum::Extension;
use axum::body::Body;
use axum::extract::State as Shared;
use axum::extract::ws::rejection::WebSocketUpgradeRejection;
use axum::extract::ws::{CloseFrame, Message, WebSocket, WebSocketUpgrade, close_code};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use http::header::{CACHE_CONTROL, CONTENT_TYPE, UPGRADE};
use http::{HeaderMap, Uri};
use serde::Deserialize;
use skep_api::Problem;
use skep_core::Code;
use tokio::sync::mpsc::{Sender, channel};

use crate::channel::CheckedBody;
use crate::connection::Place;
use crate::dispatch::Dispatcher;
use crate::gate::Asker;
use crate::live::{BEAT, Frame, Listener, PROTOCOL, Topic};
use crate::problem::ApiError;
use crate::state::State;
use crate::who::Again;

/// Bytes of a message of who listens.
const MOST_MESSAGE: usize = 64 << 10;
/// How long a client may take nothing of what is there for it.
const STALLED: Duration = Duration::from_secs(60);
/// Beats without a word of the client.
const SILENT: u32 = 3;
/// Frames that wait for a client.
const QUEUE: usize = 16;

/// What who listens says.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "lowercase", deny_unknown_fields)]
enum Said {
    /// Follow this, behind what was seen of it.
    Subscribe {
        topic: String,
        after: Option<String>,
    },
    /// Follow this no more.
    Unsubscribe { topic: String },
}

/// What happens, as it happens: over a WebSocket, by which topics are subscribed and given up, or as server-sent events of the
/// topics in the query. Topics are `events`, `agents`, `agents/NAME`, `calls`, `calls/ID`, `runs` and `runs/ID`, the
/// plural ones with filters as the streams of the API have them (`calls?agent=a`). Each frame is JSON with the topic and either a
/// `state`, an `event` or an `error`; `seq` is what to go on behind. Who cannot set headers shows a key as the WebSocket
/// protocol `skep.bearer.KEY` beside `skep.v1`. A key in the query is refused, and cookies do not count here.
#[utoipa::path(get, path = "/api/v1/live", tag = "live",
    params(
        ("topic" = Option<Vec<String>>, Query, description = "A topic, for server-sent events; several times for several"),
        ("Last-Event-ID" = Option<String>, Header, description = "Go on behind this, of the same topics"),
    ),
    responses(
        (status = 101, description = "A WebSocket of `skep.v1`"),
        (status = 200, body = String, content_type = "text/event-stream"),
        (status = "4XX", body = Problem),
    ))]
pub(super) async fn live(
    Shared(state): Shared<Arc<State>>,
    asker: Asker,
    dispatcher: Option<Extension<Dispatcher>>,
    again: Option<Extension<Arc<Again>>>,
    place: Option<Extension<Place>>,
    (uri, headers): (Uri, HeaderMap),
    upgrade: Result<WebSocketUpgrade, WebSocketUpgradeRejection>,
) -> Result<Response, ApiError> {
    let (Some(Extension(dispatcher)), Some(Extension(again))) = (dispatcher, again) else {
        let why = "topics are followed over a connection of one's own";
        return Err(ApiError::new(Code::BadRequest, why));
    };
    let listener = Listener::new(state.clone(), dispatcher, (asker, again));
    if !headers.contains_key(UPGRADE) {
        return events(state, listener, &uri, &headers);
    }
    let upgrade = upgrade.map_err(|error| ApiError::new(Code::BadRequest, error.body_text()))?;
    let upgrade = upgrade.max_message_size(MOST_MESSAGE).protocols([PROTOCOL]);
    Ok(upgrade.on_upgrade(async move |socket| {
        // It counts among the server's connections for as long as it lasts.
        let _place = place;
        talk(state, listener, socket).await;
    }))
}

/// How a conversation ends.
type Close = (u16, &'static str);

async fn talk(state: Arc<State>, mut listener: Listener, mut socket: WebSocket) {
    let close = tokio::select! {
        close = converse(&mut listener, &mut socket) => close,
        () = state.stop.cancelled() => Some((close_code::AWAY, "the server ends: come again")),
    };
    if let Some((code, why)) = close {
        let reason = why.into();
        let _ = put(
            &mut socket,
            Message::Close(Some(CloseFrame { code, reason })),
        )
        .await;
    }
}

/// Sends, unless the client takes nothing any more.
async fn put(socket: &mut WebSocket, message: Message) -> Result<(), ()> {
    let sent = tokio::time::timeout(STALLED, socket.send(message)).await;
    sent.map_err(drop)?.map_err(drop)
}

/// Talks until one side ends it; why, when it is this one.
async fn converse(listener: &mut Listener, socket: &mut WebSocket) -> Option<Close> {
    let mut beats = tokio::time::interval_at(tokio::time::Instant::now() + BEAT, BEAT);
    let mut silent = 0;
    loop {
        let frames = tokio::select! {
            frame = listener.next() => vec![frame],
            said = socket.recv() => {
                silent = 0;
                match said {
                    Some(Ok(Message::Text(text))) => hear(listener, text.as_bytes()),
                    Some(Ok(Message::Binary(bytes))) => hear(listener, &bytes),
                    Some(Ok(Message::Ping(_) | Message::Pong(_))) => Vec::new(),
                    Some(Ok(Message::Close(_)) | Err(_)) | None => return None,
                }
            }
            _ = beats.tick() => {
                silent += 1;
                if silent > SILENT {
                    return Some((close_code::POLICY, "nothing was heard"));
                }
                let (counts, frames) = listener.beat().await;
                if !counts {
                    return Some((close_code::POLICY, "who listens is not known any more"));
                }
                put(socket, Message::Ping(Bytes::new())).await.ok()?;
                frames
            }
        };
        for frame in frames {
            put(socket, Message::Text(frame.to_json().into()))
                .await
                .ok()?;
        }
    }
}

/// Does what who listens says; what is answered at once.
fn hear(listener: &mut Listener, said: &[u8]) -> Vec<Frame> {
    let said: Said = match serde_json::from_slice(said) {
        Ok(said) => said,
        Err(error) => {
            let why = format!("neither `subscribe` nor `unsubscribe` of a `topic`: {error}");
            return vec![Frame::refused(None, &ApiError::new(Code::BadRequest, why))];
        }
    };
    let (name, done) = match said {
        Said::Subscribe { topic, after } => {
            let done = Topic::parse(&topic).and_then(|it| listener.subscribe(it, after));
            (topic, done)
        }
        Said::Unsubscribe { topic } => {
            let done = match listener.unsubscribe(&topic) {
                true => Ok(()),
                false => Err(ApiError::new(Code::BadRequest, "it is not followed")),
            };
            (topic, done)
        }
    };
    let refused = done.err().map(|error| Frame::refused(Some(name), &error));
    refused.into_iter().collect()
}

/// The topics of a query, in their order.
fn topics(uri: &Uri) -> Result<Vec<Topic>, ApiError> {
    let wrong = |why: String| ApiError::new(Code::BadRequest, why);
    let pairs = axum::extract::Query::<Vec<(String, String)>>::try_from_uri(uri);
    let axum::extract::Query(pairs) =
        pairs.map_err(|error| wrong(format!("query: {}", error.body_text())))?;
    let topic = |(name, value): (String, String)| match name.as_str() {
        "topic" => Topic::parse(&value),
        _ => Err(wrong("query: only `topic` is known".to_owned())),
    };
    let all = pairs
        .into_iter()
        .map(topic)
        .collect::<Result<Vec<_>, _>>()?;
    match all.is_empty() {
        false => Ok(all),
        true => Err(wrong(
            "what is followed? `?topic=events`, or a WebSocket".to_owned(),
        )),
    }
}

/// Server-sent events of the topics of a query.
fn events(
    state: Arc<State>,
    mut listener: Listener,
    uri: &Uri,
    headers: &HeaderMap,
) -> Result<Response, ApiError> {
    let all = topics(uri)?;
    let seen = match headers.get("last-event-id").map(|it| it.to_str()) {
        None => vec![""; all.len()],
        Some(seen) => seen.unwrap_or_default().split(';').collect(),
    };
    if seen.len() != all.len() {
        let why = "Last-Event-ID is not the id of an event of these topics";
        return Err(ApiError::new(Code::BadRequest, why));
    }
    let mut places = Vec::new();
    for (topic, seen) in all.into_iter().zip(seen) {
        places.push((topic.name.clone(), seen.to_owned()));
        let after = Some(seen.to_owned()).filter(|it| !it.is_empty());
        listener.subscribe(topic, after)?;
    }
    let (sender, receiver) = channel(QUEUE);
    tokio::spawn(async move {
        tokio::select! {
            () = write(listener, places, sender) => {}
            () = state.stop.cancelled() => {}
        }
    });
    let head = [
        (CONTENT_TYPE, "text/event-stream"),
        (CACHE_CONTROL, "no-store"),
    ];
    Ok((head, Body::new(CheckedBody(receiver))).into_response())
}

/// Writes what is told, each with where all topics are by then, until all have ended or the client has gone.
async fn write(
    mut listener: Listener,
    mut places: Vec<(String, String)>,
    sender: Sender<io::Result<http_body::Frame<Bytes>>>,
) {
    let mut beats = tokio::time::interval_at(tokio::time::Instant::now() + BEAT, BEAT);
    while !listener.is_idle() {
        let (mut text, frames) = tokio::select! {
            frame = listener.next() => (String::new(), vec![frame]),
            () = sender.closed() => return,
            _ = beats.tick() => {
                let (counts, frames) = listener.beat().await;
                if !counts {
                    return;
                }
                (": still here\n\n".to_owned(), frames)
            }
        };
        for frame in frames {
            let place = places
                .iter_mut()
                .find(|(name, _)| frame.topic.as_ref() == Some(name));
            if let (Some((_, place)), Some(seq)) = (place, &frame.seq) {
                place.clone_from(seq);
            }
            let ids: Vec<&str> = places.iter().map(|(_, place)| place.as_str()).collect();
            text.push_str(&format!(
                "id: {}\ndata: {}\n\n",
                ids.join(";"),
                frame.to_json()
            ));
        }
        let data = http_body::Frame::data(Bytes::from(text));
        let sent = tokio::time::timeout(STALLED, sender.send(Ok(data))).await;
        if !sent.is_ok_and(|sent| sent.is_ok()) {
            return;
        }
    }
}
