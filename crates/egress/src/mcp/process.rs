//! Programs that speak over their standard input and output, a line for each message, and where each line that they
//! write belongs: to the request that it answers or is about, else to who listens.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use parking_lot::Mutex;
use skep_core::Workspace;
use skep_mcp::{Kind, Message, Settings, Transport, code, error, event, is_same_id};
use tokio::io::{AsyncWrite, AsyncWriteExt as _};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot};
use zeroize::Zeroizing;

use super::link::{CUT, LATE, filled, forms};
use super::service::Inner;
use crate::EgressError;
use crate::scrub::Forms;

/// The longest line of a program, in bytes.
const MOST_LINE: usize = 4 << 20;
/// Messages to a client that wait for it.
const MOST_WAITING: usize = 256;
/// Bytes of all messages of a program that wait for clients.
const MOST_WAITING_BYTES: usize = 32 << 20;
/// Messages that are kept for who listens later.
const MOST_KEPT: usize = 64;
/// Bytes of those.
const MOST_KEPT_BYTES: usize = 1 << 20;
/// A program whose client takes nothing for so long ends.
const PATIENCE: Duration = Duration::from_secs(60);
/// Programs that run at once.
pub(super) const MOST_PROGRAMS: usize = 64;
/// Those of one workspace.
const MOST_OF_WORKSPACE: usize = 32;
/// Requests to a program that wait for its answer.
const MOST_ASKED: usize = 256;

/// A program that is to run in a box.
pub struct Order {
    /// For whom.
    pub workspace: Workspace,
    /// The server that it is.
    pub server: String,
    /// The program and its arguments.
    pub command: Vec<String>,
    /// Its variables, with secrets: they are written down nowhere.
    pub env: BTreeMap<String, Zeroizing<String>>,
    /// Folders that it sees, and whether it can only read them.
    pub folders: Vec<(PathBuf, bool)>,
    /// Hosts that it reaches, `host:port`.
    pub hosts: Vec<String>,
}

/// A program that runs.
pub struct Program {
    /// Its standard input.
    pub input: Box<dyn AsyncWrite + Send + Unpin>,
    /// What it writes to its standard output.
    pub output: mpsc::Receiver<Bytes>,
    /// Dropped, the program ends with all that it started.
    pub life: Box<dyn Send + Sync>,
}

/// Runs programs in boxes.
#[async_trait]
pub trait Boxes: Send + Sync {
    /// Runs one. It is never dropped before it is through, whoever leaves meanwhile.
    ///
    /// # Errors
    /// Why not.
    async fn run(&self, order: Order) -> Result<Program, String>;
}

/// Places for programs: of all of them, and of each workspace.
pub(super) struct Places {
    all: Arc<Semaphore>,
    by_workspace: Mutex<HashMap<Workspace, Arc<Semaphore>>>,
}

/// A place that a program has, until it ends.
pub(super) struct Held {
    _all: OwnedSemaphorePermit,
    _own: OwnedSemaphorePermit,
}

impl Default for Places {
    fn default() -> Self {
        Self {
            all: Arc::new(Semaphore::new(MOST_PROGRAMS)),
            by_workspace: Mutex::default(),
        }
    }
}

impl Places {
    /// One for a workspace; says why not.
    fn take(&self, workspace: &Workspace) -> Result<Held, String> {
        let own = self.of(workspace);
        let own = own.try_acquire_owned();
        let own = own.map_err(|_| {
            format!("{MOST_OF_WORKSPACE} programs of this workspace run already: end a session")
        })?;
        let all = self.all.clone().try_acquire_owned();
        let all = all.map_err(|_| format!("{MOST_PROGRAMS} programs run already"))?;
        Ok(Held {
            _all: all,
            _own: own,
        })
    }

    fn of(&self, workspace: &Workspace) -> Arc<Semaphore> {
        let mut all = self.by_workspace.lock();
        // Workspaces come and go; those whose places are all free need no row.
        all.retain(|it, own| it == workspace || own.available_permits() < MOST_OF_WORKSPACE);
        let fresh = || Arc::new(Semaphore::new(MOST_OF_WORKSPACE));
        all.entry(workspace.clone()).or_insert_with(fresh).clone()
    }
}

/// A request that waits for its answer.
struct Asked {
    id: String,
    /// By which it is told how far it is.
    progress: Option<String>,
    to: mpsc::Sender<Bytes>,
}

#[derive(Default)]
struct State {
    asked: Vec<Asked>,
    listener: Option<mpsc::Sender<Bytes>>,
    kept: VecDeque<Bytes>,
    over: bool,
}

impl State {
    /// Keeps a message for who listens later; the oldest go, when there are too many.
    fn keep(&mut self, bytes: Bytes) {
        self.kept.push_back(bytes);
        let mut size: usize = self.kept.iter().map(Bytes::len).sum();
        while size > MOST_KEPT_BYTES || self.kept.len() > MOST_KEPT {
            size -= self.kept.pop_front().map_or(size, |it| it.len());
        }
    }
}

/// A message that waits for its client, with its part of the room for such.
struct Waiting {
    bytes: Bytes,
    _room: OwnedSemaphorePermit,
}

impl AsRef<[u8]> for Waiting {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

/// Runs a program. Whoever waits for it may leave: then it is ended here, and gives its place back.
async fn started(
    boxes: Arc<dyn Boxes>,
    order: Order,
    place: Held,
    timeout: Duration,
) -> Result<(Program, Held), String> {
    let (to, running) = oneshot::channel();
    tokio::spawn(async move {
        let program = boxes.run(order).await;
        // What nobody takes is dropped, and ends so.
        drop(to.send(program.map(|program| (program, place))));
    });
    match tokio::time::timeout(timeout, running).await {
        Ok(Ok(program)) => program,
        Ok(Err(_)) => Err("it did not start".to_owned()),
        Err(_) => Err("it did not start in time".to_owned()),
    }
}

/// A program of one session.
pub(super) struct Process {
    input: tokio::sync::Mutex<Box<dyn AsyncWrite + Send + Unpin>>,
    state: Mutex<State>,
    server: String,
    timeout: Duration,
    /// Its secrets, which nobody is told.
    forms: Forms,
    _life: Box<dyn Send + Sync>,
    _place: Held,
}

impl Process {
    /// Runs the program of a server.
    pub(super) async fn begin(
        inner: &Arc<Inner>,
        workspace: &Workspace,
        settings: &Settings,
    ) -> Result<Arc<Self>, EgressError> {
        let Transport::Stdio {
            command,
            env,
            folders,
            hosts,
        } = &settings.transport
        else {
            return Err(Inner::unreachable(settings, "it is no program"));
        };
        let failed = |why: String| Inner::unreachable(settings, why);
        let mut filled_env = BTreeMap::new();
        let mut secrets = Vec::new();
        for (name, value) in env {
            let value = filled(inner, workspace, &settings.name, (value, &mut secrets)).await?;
            let text = String::from_utf8(value.to_vec());
            let text = text.map_err(|_| failed("a secret is no text".to_owned()))?;
            filled_env.insert(name.clone(), Zeroizing::new(text));
        }
        let boxes = inner.boxes.clone();
        let boxes = boxes.ok_or_else(|| failed("this server runs no programs".to_owned()))?;
        let place = inner.programs.take(workspace).map_err(failed)?;
        let order = Order {
            workspace: workspace.clone(),
            server: settings.name.clone(),
            command: command.clone(),
            env: filled_env,
            folders: folders.clone(),
            hosts: hosts.clone(),
        };
        let running = started(boxes, order, place, settings.timeout).await;
        let (program, place) = running.map_err(failed)?;
        let process = Arc::new(Self {
            input: tokio::sync::Mutex::new(program.input),
            state: Mutex::default(),
            server: settings.name.clone(),
            timeout: settings.timeout,
            forms: forms(&secrets),
            _life: program.life,
            _place: place,
        });
        tokio::spawn(read(Arc::downgrade(&process), program.output));
        Ok(process)
    }

    fn ended(&self, sent: Option<&str>) -> EgressError {
        EgressError::ToolServer {
            server: self.server.clone(),
            why: "its program ended".to_owned(),
            sent: sent.map(str::to_owned),
        }
    }

    /// Tells it something. Who is told leaves when they like: a line that was begun is written to its end.
    pub(super) async fn tell(self: &Arc<Self>, text: &str) -> Result<(), EgressError> {
        // A message is one line: what breaks lines in JSON is space between its parts.
        let mut line = text.replace(['\n', '\r'], " ");
        line.push('\n');
        let process = self.clone();
        let written = tokio::spawn(async move { process.write(line).await });
        written.await.unwrap_or_else(|_| Err(self.ended(Some(CUT))))
    }

    async fn write(&self, line: String) -> Result<(), EgressError> {
        let written = async {
            let mut input = self.input.lock().await;
            input.write_all(line.as_bytes()).await?;
            input.flush().await
        };
        match tokio::time::timeout(self.timeout, written).await {
            // It may have read what it was told, as far as that went.
            Ok(written) => written.map_err(|_| self.ended(Some(CUT))),
            Err(_) => {
                // It may have half of a line: nothing else can be told to it.
                self.end();
                Err(EgressError::ToolServer {
                    server: self.server.clone(),
                    why: "its program reads nothing".to_owned(),
                    sent: Some(LATE.to_owned()),
                })
            }
        }
    }

    /// Asks it, and gives what comes of it as events: the last is the answer.
    pub(super) async fn ask(
        self: &Arc<Self>,
        text: &str,
    ) -> Result<mpsc::Receiver<Bytes>, EgressError> {
        let message = Message::read(text);
        let message = message.map_err(|fault| EgressError::Invalid(fault.why))?;
        let Some(id) = message.id() else {
            return Err(EgressError::Invalid("it is no request".to_owned()));
        };
        let meta = message.params.as_ref().and_then(|it| it.object("_meta"));
        let progress = meta.and_then(|it| it.get("progressToken"));
        let (to, coming) = mpsc::channel(MOST_WAITING);
        {
            let mut state = self.state.lock();
            if state.over {
                return Err(self.ended(None));
            }
            state.asked.retain(|it| !it.to.is_closed());
            let is_there = state.asked.iter().any(|it| is_same_id(&it.id, id.get()));
            if is_there || state.asked.len() >= MOST_ASKED {
                let why = "a request of this id, or too many of them, wait for their answers";
                return Err(EgressError::Invalid(why.to_owned()));
            }
            state.asked.push(Asked {
                id: id.get().to_owned(),
                progress: progress.map(|it| it.get().to_owned()),
                to,
            });
        }
        self.tell(text).await?;
        Ok(coming)
    }

    /// Listens to what belongs to no request; whoever listened before does not any more.
    pub(super) fn listen(&self) -> mpsc::Receiver<Bytes> {
        let (to, coming) = mpsc::channel(MOST_WAITING);
        let mut state = self.state.lock();
        for one in std::mem::take(&mut state.kept) {
            // There is room for all that is kept.
            let _ = to.try_send(one);
        }
        if !state.over {
            state.listener = Some(to);
        }
        coming
    }

    /// Where a line belongs; nothing, when it is kept, or nobody wants it.
    fn place(&self, line: &str) -> Option<(mpsc::Sender<Bytes>, Bytes)> {
        let masked = self.forms.masked(line.as_bytes());
        let line = &*String::from_utf8_lossy(&masked);
        let message = Message::read(line).ok()?;
        // Space between the parts of a message; in a stream it would be the end of a line.
        let bytes = Bytes::from(event(&line.replace('\r', " ")));
        let mut state = self.state.lock();
        if let Kind::Answer { id, .. } = &message.kind {
            let id = id.as_ref()?.get();
            let at = state.asked.iter().position(|it| is_same_id(&it.id, id))?;
            return Some((state.asked.swap_remove(at).to, bytes));
        }
        let method = message.method().unwrap_or_default();
        let token = message
            .params
            .as_ref()
            .and_then(|it| it.get("progressToken"));
        let about = |it: &&Asked| {
            let token = token.map(serde_json::value::RawValue::get);
            token.is_some_and(|token| {
                it.progress
                    .as_deref()
                    .is_some_and(|own| is_same_id(own, token))
            })
        };
        let is_general =
            method.ends_with("/list_changed") || method == "notifications/resources/updated";
        let found = match method {
            "notifications/progress" => state.asked.iter().find(about),
            _ if is_general && state.listener.is_some() => None,
            _ => state.asked.last(),
        };
        if let Some(found) = found {
            return Some((found.to.clone(), bytes));
        }
        match &state.listener {
            Some(listener) if !listener.is_closed() => Some((listener.clone(), bytes)),
            _ => {
                state.keep(bytes);
                None
            }
        }
    }

    /// Nothing comes any more: who waits is told.
    fn end(&self) {
        let mut state = self.state.lock();
        state.over = true;
        state.listener = None;
        for asked in std::mem::take(&mut state.asked) {
            let text = error(
                Some(&asked.id),
                code::INTERNAL,
                "the server's program ended",
                None,
            );
            let _ = asked.to.try_send(event(&text).into());
        }
    }

    pub(super) fn is_over(&self) -> bool {
        self.state.lock().over
    }
}

/// Hands a message to its client; nothing, when the clients of a program take too little for too long.
async fn hand(room: &Arc<Semaphore>, to: mpsc::Sender<Bytes>, bytes: Bytes) -> Option<()> {
    let size = bytes.len().min(MOST_WAITING_BYTES);
    let handed = async {
        let room = room.clone().acquire_many_owned(u32::try_from(size).ok()?);
        let bytes = Waiting {
            bytes,
            _room: room.await.ok()?,
        };
        // Who left wants nothing.
        let _ = to.send(Bytes::from_owner(bytes)).await;
        Some(())
    };
    tokio::time::timeout(PATIENCE, handed).await.ok()?
}

/// Reads the lines of a program until it ends, or nobody has it any more.
async fn read(process: std::sync::Weak<Process>, mut output: mpsc::Receiver<Bytes>) {
    let mut waiting: Vec<u8> = Vec::new();
    let room = Arc::new(Semaphore::new(MOST_WAITING_BYTES));
    'program: while let Some(piece) = output.recv().await {
        let mut rest = &piece[..];
        while let Some(at) = rest.iter().position(|it| *it == b'\n') {
            let (line, after) = rest.split_at(at);
            waiting.extend_from_slice(line);
            if waiting.len() > MOST_LINE {
                break;
            }
            rest = after.get(1..).unwrap_or_default();
            let line = std::mem::take(&mut waiting);
            let Some(process) = process.upgrade() else {
                return;
            };
            let line = String::from_utf8_lossy(&line);
            let placed = process.place(line.trim());
            // Whoever holds it up must not keep it alive.
            drop(process);
            if let Some((to, bytes)) = placed
                && hand(&room, to, bytes).await.is_none()
            {
                tracing::warn!("nobody takes what a program of tools writes; it ends");
                break 'program;
            }
        }
        waiting.extend_from_slice(rest);
        if waiting.len() > MOST_LINE {
            tracing::warn!(
                "a program of tools writes a line that is too long; it is not read any more"
            );
            break;
        }
    }
    if let Some(process) = process.upgrade() {
        process.end();
    }
}

#[cfg(test)]
#[path = "process_tests.rs"]
mod tests;
