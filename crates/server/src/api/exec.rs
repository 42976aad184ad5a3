//! Commands in the box of an instance: a connection that is upgraded, and frames over it
//! ([`skep_api::exec`]). Each is written down with who ran what.

use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::extract::{Request, State as Shared};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use http::header::{CONNECTION, UPGRADE};
use http::{HeaderMap, StatusCode, Version};
use hyper::upgrade::Upgraded;
use hyper_util::rt::TokioIo;
use serde::Deserialize;
use skep_api::exec::{
    EXEC_BEAT, EXEC_ERRORS, EXEC_EXIT, EXEC_INPUT, EXEC_INPUT_END, EXEC_OUTPUT, EXEC_PROTOCOL,
    EXEC_REFUSED, EXEC_RESIZE, EXEC_SIGNAL, EXEC_START, Frames, frame,
};
use skep_api::{ExecExit, ExecSignal, ExecStart, Problem, TerminalSize};
use skep_core::{Code, RequestId, Workspace};
use skep_runtime::{Event, ExecOrder, Execution, LogStream, Room, RuntimeError, Terminal};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::sync::{OwnedSemaphorePermit, mpsc};
use utoipa::IntoParams;

use super::input::{Caller, Path, Query};
use crate::connection::Place;
use crate::gate::Asker;
use crate::lending;
use crate::problem::{ApiError, REQUEST};
use crate::state::State;

/// Time in which the client must say what is to be run.
const START: Duration = Duration::from_secs(10);
/// Silence after which the client is told that the other side is there: one that is gone without a
/// word is found out so.
const BEAT: Duration = Duration::from_secs(15);
/// Time in which the last output of a command that has ended must come.
const LAST_OUTPUT: Duration = Duration::from_secs(2);
/// Pieces of input that wait for the command.
const INPUTS: usize = 16;
/// Bytes that are read at once.
const PIECE: usize = 32 << 10;
/// Words of a command, and the bytes of all.
const MOST_WORDS: usize = 4_096;
const MOST_BYTES: usize = 128 << 10;
/// Characters of a command in events and logs.
const MOST_SHOWN: usize = 200;

#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct ExecQuery {
    /// In this instance, `ins_…`; without it in one that is ready.
    instance: Option<String>,
}

/// Runs a command in the box of an instance: with the folders, variables, user, walls and limits
/// that the agent has there. The request asks for `Connection: Upgrade` and `Upgrade: skep-exec`
/// over HTTP/1.1, and is answered with 101; then frames go over the connection, each of one byte
/// that says what it is, four bytes with the length of the rest (big-endian, 256 KiB at most), and
/// the rest. The client sends 1, once and first, with an `ExecStart`; 2 with bytes for the standard
/// input, 3 at its end; 4 with a `TerminalSize`; 5 with an `ExecSignal`. The server sends 16 with
/// bytes of the standard output, 17 of the standard error; 20 now and then; and last either 18 with
/// an `ExecExit`, or 19 with a `Problem` when the command does not run. The command ends when the
/// connection does.
#[utoipa::path(post, path = "/api/v1/agents/{agent}/exec", tag = "agents",
    params(("agent" = String, Path, description = "The agent's name"), ExecQuery),
    responses((status = 101, description = "Frames follow"), (status = "4XX", body = Problem),
        (status = 503, body = Problem)))]
pub(super) async fn exec(
    Shared(state): Shared<Arc<State>>,
    Caller(workspace): Caller,
    asker: Asker,
    Path(agent): Path<String>,
    Query(query): Query<ExecQuery>,
    mut request: Request,
) -> Result<Response, ApiError> {
    let Some(places) = state.execs.clone() else {
        let detail = "commands in agents' boxes are turned off (`exec.enabled`)";
        return Err(ApiError::new(Code::Forbidden, detail));
    };
    if request.version() != Version::HTTP_11 || !asks_for_it(request.headers()) {
        let detail = format!("this address takes `Upgrade: {EXEC_PROTOCOL}` over HTTP/1.1 only");
        return Err(ApiError::new(Code::BadRequest, detail));
    }
    let room = find(&state, &workspace, &agent, query.instance.as_deref())?;
    lending::check_held(&state, &asker, room.named()).await?;
    let permit = places.try_acquire_owned().map_err(|_| {
        let detail = "as many commands run in agents' boxes as may; wait for one to end";
        ApiError::new(Code::QueueFull, detail)
    })?;
    let by = request
        .extensions()
        .get::<Asker>()
        .map(|asker| asker.principal.id.to_string());
    let place = request.extensions().get::<Place>().cloned();
    let upgrade = hyper::upgrade::on(&mut request);
    let id = REQUEST
        .try_with(|id| *id)
        .unwrap_or_else(|_| RequestId::new());
    let session = Session {
        state,
        workspace,
        agent,
        by,
        id,
        room,
        _permit: permit,
        _place: place,
    };
    tokio::spawn(async move {
        match upgrade.await {
            Ok(upgraded) => session.serve(upgraded).await,
            Err(error) => tracing::debug!(%error, "an exec was not upgraded"),
        }
    });
    let head = [(CONNECTION, "upgrade"), (UPGRADE, EXEC_PROTOCOL)];
    Ok((StatusCode::SWITCHING_PROTOCOLS, head, Body::empty()).into_response())
}

fn asks_for_it(headers: &HeaderMap) -> bool {
    let wanted = headers.get(UPGRADE).and_then(|value| value.to_str().ok());
    wanted.is_some_and(|wanted| wanted.eq_ignore_ascii_case(EXEC_PROTOCOL))
}

fn find(
    state: &State,
    workspace: &Workspace,
    agent: &str,
    instance: Option<&str>,
) -> Result<Room, ApiError> {
    let unknown = |id: &str| {
        let shown: String = id.chars().take(64).collect();
        let detail = format!("`{agent}` has no instance `{shown}` that runs");
        ApiError::new(Code::AgentState, detail)
    };
    let wanted = match instance {
        Some(id) => Some(id.parse().map_err(|_| unknown(id))?),
        None => None,
    };
    match (state.runtime.room(workspace, agent, wanted)?, instance) {
        (Some(room), _) => Ok(room),
        (None, Some(id)) => Err(unknown(id)),
        (None, None) => {
            let detail = format!("no instance of `{agent}` runs");
            Err(ApiError::new(Code::AgentNotReady, detail))
        }
    }
}

/// One command and its client.
struct Session {
    state: Arc<State>,
    workspace: Workspace,
    agent: String,
    by: Option<String>,
    id: RequestId,
    room: Room,
    _permit: OwnedSemaphorePermit,
    _place: Option<Place>,
}

/// A command as events and logs show it.
fn shown(command: &[String]) -> String {
    let text = command.join(" ");
    match text.char_indices().nth(MOST_SHOWN) {
        Some((at, _)) => format!("{}…", &text[..at]),
        None => text,
    }
}

impl Session {
    async fn serve(self, upgraded: Upgraded) {
        let (mut reader, mut writer) = tokio::io::split(TokioIo::new(upgraded));
        let mut frames = Frames::default();
        let started = tokio::time::timeout(START, self.begin(&mut reader, &mut frames)).await;
        let too_late = || {
            Err(ApiError::new(
                Code::RequestTimeout,
                "nothing was asked to be run",
            ))
        };
        let (command, execution) = match started.unwrap_or_else(|_| too_late()) {
            Ok(Some(began)) => began,
            Ok(None) => return,
            Err(error) => {
                let problem = Problem::new(error.public(), &self.id.to_string());
                let last = frame(EXEC_REFUSED, skep_api::to_json(&problem).as_bytes());
                // The client may be gone.
                let _ = writer.write_all(&last).await;
                let _ = writer.shutdown().await;
                return;
            }
        };
        let stop = self.state.stop.clone();
        let how = tokio::select! {
            ended = converse(&mut reader, &mut writer, frames, execution) => ended,
            () = stop.cancelled() => Err("the server is stopping"),
        };
        let told = match how {
            Ok(exit) => {
                let last = frame(EXEC_EXIT, skep_api::to_json(&exit).as_bytes());
                let _ = writer.write_all(&last).await;
                match (exit.code, exit.signal) {
                    (Some(code), _) => format!("status {code}"),
                    (None, Some(signal)) => format!("signal {signal}"),
                    (None, None) => "it vanished".to_owned(),
                }
            }
            Err(why) => why.to_owned(),
        };
        self.tell("exec.ended", &format!("{command}: {told}"));
        let _ = writer.shutdown().await;
    }

    fn tell(&self, kind: &str, detail: &str) {
        let (by, instance) = (
            self.by.as_deref().unwrap_or("unknown"),
            self.room.instance(),
        );
        let agent = &self.agent;
        tracing::info!(request = %self.id, agent, %instance, by, detail, "{kind}");
        let mut event = Event::of(agent, kind, detail).on(instance);
        event.by.clone_from(&self.by);
        self.state.runtime.record(&self.workspace, event);
    }

    /// Reads what is to be run, and runs it. `None`: the client is gone.
    async fn begin(
        &self,
        reader: &mut (impl AsyncRead + Unpin),
        frames: &mut Frames,
    ) -> Result<Option<(String, Execution)>, ApiError> {
        let bad = |detail: &str| ApiError::new(Code::BadRequest, detail);
        let Some((kind, rest)) = next(reader, frames).await else {
            return Ok(None);
        };
        if kind != EXEC_START {
            return Err(bad(
                "the first frame is the one that says what is to be run (1)",
            ));
        }
        let start: ExecStart = serde_json::from_slice(&rest)
            .map_err(|error| bad(&format!("what is to be run: {error}")))?;
        let bytes: usize = start.command.iter().map(String::len).sum();
        if start.command.is_empty() || start.command.len() > MOST_WORDS || bytes > MOST_BYTES {
            return Err(bad("there is no command, or it is too long"));
        }
        if start.command.iter().any(|word| word.contains('\0')) {
            return Err(bad("a command holds no NUL"));
        }
        let order = ExecOrder {
            terminal: start.terminal.map(|terminal| Terminal {
                columns: terminal.size.columns,
                rows: terminal.size.rows,
                kind: terminal.kind,
            }),
            command: start.command,
        };
        let command = shown(&order.command);
        // Before it runs: whatever becomes of it, who asked for it is told.
        self.tell("exec.started", &command);
        match self.room.exec(&order).await {
            Ok(execution) => Ok(Some((command, execution))),
            Err(error) => {
                self.tell("exec.ended", &format!("{command}: {error}"));
                Err(match error {
                    skep_runtime::DriverError::Refused(why) => bad(&why),
                    other => RuntimeError::from(other).into(),
                })
            }
        }
    }
}

/// The next frame; `None` at the end, and after what is none.
async fn next(reader: &mut (impl AsyncRead + Unpin), frames: &mut Frames) -> Option<(u8, Vec<u8>)> {
    let mut piece = vec![0; PIECE];
    loop {
        if let Some(frame) = frames.next().ok()? {
            return Some(frame);
        }
        let length = reader
            .read(&mut piece)
            .await
            .ok()
            .filter(|length| *length > 0)?;
        frames.push(&piece[..length]);
    }
}

/// Carries both ways until the command has ended, or the client has gone.
async fn converse(
    reader: &mut (impl AsyncRead + Unpin),
    writer: &mut (impl AsyncWrite + Unpin),
    mut frames: Frames,
    execution: Execution,
) -> Result<ExecExit, &'static str> {
    let Execution {
        mut input,
        mut output,
        mut control,
    } = execution;
    let gone = "its client has gone";
    let (keys, mut pressed) = mpsc::channel::<Vec<u8>>(INPUTS);
    let mut keys = Some(keys);
    // A task of its own: a command that takes no input must still hear its signals.
    let feeding = tokio::spawn(async move {
        while let Some(bytes) = pressed.recv().await {
            if input.write_all(&bytes).await.is_err() {
                // It reads no more; what comes is taken and dropped.
                while pressed.recv().await.is_some() {}
            }
        }
        let _ = input.shutdown().await;
    });
    let _feeding = AbortOnDrop(feeding.abort_handle());
    let mut beats = tokio::time::interval(BEAT);
    let (mut exit, mut quiet) = (None, false);
    while exit.is_none() {
        let heard = async {
            if let Some(keys) = &keys {
                // Nothing more is read while the command does not take what there is.
                drop(keys.reserve().await);
            }
            next(reader, &mut frames).await
        };
        tokio::select! {
            piece = output.recv(), if !quiet => match piece {
                Some(piece) => send(writer, piece).await.map_err(|_| gone)?,
                None => quiet = true,
            },
            ended = control.wait() => exit = Some(ended),
            _ = beats.tick() => writer.write_all(&frame(EXEC_BEAT, &[])).await.map_err(|_| gone)?,
            heard = heard => match heard.ok_or(gone)? {
                (EXEC_INPUT, bytes) => if let Some(keys) = &keys {
                    let _ = keys.send(bytes).await;
                },
                (EXEC_INPUT_END, _) => keys = None,
                (EXEC_SIGNAL, rest) => if let Ok(ExecSignal { signal }) = serde_json::from_slice(&rest) {
                    let _ = control.signal(signal).await;
                },
                (EXEC_RESIZE, rest) => if let Ok(TerminalSize { columns, rows }) = serde_json::from_slice(&rest) {
                    let _ = control.resize(columns, rows).await;
                },
                // What a newer client says.
                _ => {}
            },
        }
    }
    let rest = async {
        while let Some(piece) = output.recv().await {
            send(writer, piece).await?;
        }
        Ok::<_, std::io::Error>(())
    };
    if let Ok(sent) = tokio::time::timeout(LAST_OUTPUT, rest).await {
        sent.map_err(|_| gone)?;
    }
    let exit = exit.unwrap_or_default();
    Ok(ExecExit {
        code: exit.code,
        signal: exit.signal,
    })
}

async fn send(
    writer: &mut (impl AsyncWrite + Unpin),
    (stream, bytes): (LogStream, Bytes),
) -> std::io::Result<()> {
    let kind = match stream {
        LogStream::Stderr => EXEC_ERRORS,
        LogStream::Stdout | LogStream::Skep => EXEC_OUTPUT,
    };
    writer.write_all(&frame(kind, &bytes)).await
}

struct AbortOnDrop(tokio::task::AbortHandle);

impl Drop for AbortOnDrop {
    fn drop(&mut self) {
        self.0.abort();
    }
}
