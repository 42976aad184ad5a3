//! Commands in the box of a process instance, as the server sees them: a helper of their own
//! ([`super::inside`]) enters the box, and what the command reads and writes are pipes, or a
//! terminal, of which the server holds the other ends.

use std::collections::HashMap;
use std::io::{self, IoSlice};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream as StdStream;
use std::path::Path;
use std::pin::Pin;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use rustix::fs::{Mode, OFlags};
use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags, sendmsg};
use rustix::pipe::PipeFlags;
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::{Winsize, tcsetwinsize};
use serde::{Deserialize, Serialize};
use skep_core::InstanceId;
use tokio::io::unix::AsyncFd;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWrite, AsyncWriteExt, BufReader, Interest};
use tokio::net::UnixStream;
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf, pipe};
use tokio::sync::{mpsc, watch};

use super::files::{Start, State};
use super::running::register;
use super::{ProcessDriver, Sandbox};
use crate::driver::{DriverError, Exit, LogStream, StartRequest};
use crate::exec::{ExecOrder, Executing, Execution, Terminal};
use crate::folder::{blocking, failed};

/// Time in which the helper must say whether the command runs.
const START_TIMEOUT: Duration = Duration::from_secs(10);
/// Bytes of one line of the helper's.
const MOST_LINE: u64 = 64 << 10;
/// Pieces of output that wait for a slow reader.
const PIECES: usize = 16;
/// Bytes of a piece.
const PIECE: usize = 16 << 10;
/// Descriptors that the helper is handed at most.
pub(super) const MOST_FDS: usize = 4;

/// What the helper is to do.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Entry {
    pub(super) start: Start,
    pub(super) state: State,
    /// Whether the command gets a terminal: then one descriptor is its standard input, output and
    /// error, else three are.
    pub(super) terminal: bool,
}

/// What the helper says, a line each.
#[derive(Debug, Serialize, Deserialize)]
pub(super) enum Said {
    /// The command runs.
    Runs,
    /// The command cannot be run.
    Refused(String),
    /// The helper itself failed.
    Failed(String),
    /// The command has ended, and nothing of it is left.
    Ended {
        code: Option<i32>,
        signal: Option<i32>,
    },
}

/// How many commands run in each instance.
#[derive(Debug, Clone)]
pub(super) struct Inside(watch::Sender<HashMap<InstanceId, usize>>);

impl Default for Inside {
    fn default() -> Self {
        Self(watch::Sender::new(HashMap::new()))
    }
}

impl Inside {
    fn begin(&self, instance: InstanceId) -> One {
        self.0
            .send_modify(|all| *all.entry(instance).or_default() += 1);
        One(self.clone(), instance)
    }

    /// Waits until none runs in this one.
    pub(super) async fn ended(&self, instance: InstanceId) {
        // The sender is ours: it does not go away.
        let _ = self
            .0
            .subscribe()
            .wait_for(|all| !all.contains_key(&instance))
            .await;
    }
}

/// One command, counted until its helper has ended.
struct One(Inside, InstanceId);

impl Drop for One {
    fn drop(&mut self) {
        self.0.0.send_modify(|all| {
            let left = all.get(&self.1).map_or(0, |count| count - 1);
            match left {
                0 => drop(all.remove(&self.1)),
                left => drop(all.insert(self.1, left)),
            }
        });
    }
}

/// The ends of what a command reads and writes: the helper's and ours.
struct Streams {
    theirs: Vec<OwnedFd>,
    ours: Ours,
}

enum Ours {
    Pipes {
        input: OwnedFd,
        output: OwnedFd,
        errors: OwnedFd,
    },
    Terminal(OwnedFd),
}

fn pipes() -> io::Result<Streams> {
    let pipe = || rustix::pipe::pipe_with(PipeFlags::CLOEXEC);
    let ((their_input, input), (output, their_output), (errors, their_errors)) =
        (pipe()?, pipe()?, pipe()?);
    Ok(Streams {
        theirs: vec![their_input, their_output, their_errors],
        ours: Ours::Pipes {
            input,
            output,
            errors,
        },
    })
}

fn terminal(wanted: &Terminal) -> io::Result<Streams> {
    let main = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC)?;
    grantpt(&main)?;
    unlockpt(&main)?;
    let name = ptsname(&main, Vec::new())?;
    let flags = OFlags::RDWR | OFlags::NOCTTY | OFlags::CLOEXEC;
    let side = rustix::fs::open(name.as_c_str(), flags, Mode::empty())?;
    tcsetwinsize(&main, window(wanted.columns, wanted.rows))?;
    rustix::io::ioctl_fionbio(&main, true)?;
    Ok(Streams {
        theirs: vec![side],
        ours: Ours::Terminal(main),
    })
}

const fn window(columns: u16, rows: u16) -> Winsize {
    Winsize {
        ws_row: rows,
        ws_col: columns,
        ws_xpixel: 0,
        ws_ypixel: 0,
    }
}

/// Hands over descriptors, with one byte that carries them.
fn hand_over(socket: BorrowedFd<'_>, fds: &[BorrowedFd<'_>]) -> io::Result<()> {
    let mut space = [std::mem::MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MOST_FDS))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    if !control.push(SendAncillaryMessage::ScmRights(fds)) {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    sendmsg(
        socket,
        &[IoSlice::new(b"f")],
        &mut control,
        SendFlags::empty(),
    )?;
    Ok(())
}

impl ProcessDriver {
    pub(super) async fn run_inside(
        &self,
        request: &StartRequest,
        handle: &str,
        order: &ExecOrder,
    ) -> Result<Execution, DriverError> {
        let state: State = serde_json::from_str(handle)
            .map_err(|_| DriverError::Failed("the instance is not known".to_owned()))?;
        let one = self.inside.begin(request.place.instance);
        let (driver, request, order) = (self.clone(), request.clone(), order.clone());
        let (socket, ours) =
            blocking(move || driver.launch_inside(&request, state, &order, one)).await?;
        let socket =
            UnixStream::from_std(socket).map_err(|error| failed("the helper's socket", &error))?;
        let (reader, writer) = socket.into_split();
        let mut helper = Helper {
            said: BufReader::new(reader),
            half: Vec::new(),
            writer,
            window: None,
        };
        let said = tokio::time::timeout(START_TIMEOUT, helper.line()).await;
        match said.map_err(|_| DriverError::Failed("the helper did not answer".to_owned()))? {
            Some(Said::Runs) => {}
            Some(Said::Refused(why)) => return Err(DriverError::Refused(why)),
            Some(Said::Failed(why)) => return Err(DriverError::Failed(why)),
            Some(Said::Ended { .. }) | None => {
                let why = "the helper ended without an answer".to_owned();
                return Err(DriverError::Failed(why));
            }
        }
        helper
            .join(ours)
            .map_err(|error| failed("the command's streams", &error))
    }

    /// Starts the helper and tells it what to do. Blocks.
    fn launch_inside(
        &self,
        request: &StartRequest,
        state: State,
        order: &ExecOrder,
        one: One,
    ) -> Result<(StdStream, Ours), DriverError> {
        let folder = self.folder(&request.place);
        let network = match request.spec.sandbox {
            Sandbox::Off => None,
            sandbox => self.network(request, sandbox == Sandbox::Strict)?,
        };
        let mut start = self.document(request, &folder, network.is_some());
        start.command.clone_from(&order.command);
        if let Some(terminal) = &order.terminal {
            start.env.insert("TERM".to_owned(), terminal.kind.clone());
        }
        let entry = Entry {
            start,
            state,
            terminal: order.terminal.is_some(),
        };
        let Streams { mut theirs, ours } = match &order.terminal {
            Some(wanted) => terminal(wanted),
            None => pipes(),
        }
        .map_err(|error| failed("the command's streams", &error))?;
        theirs.extend(network);
        let fds: Vec<BorrowedFd<'_>> = theirs.iter().map(AsFd::as_fd).collect();
        let socket = self.start_helper(&folder, &fds, &entry, one);
        Ok((
            socket.map_err(|error| failed("the helper cannot be started", &error))?,
            ours,
        ))
    }

    fn start_helper(
        &self,
        folder: &Path,
        fds: &[BorrowedFd<'_>],
        entry: &Entry,
        one: One,
    ) -> io::Result<StdStream> {
        use std::io::Write as _;
        let (mut ours, theirs) = StdStream::pair()?;
        hand_over(ours.as_fd(), fds)?;
        let mut child = Command::new(&self.options.shim)
            .args(&self.options.shim_arguments)
            .arg(folder)
            .arg(super::inside::WORD)
            .env_clear()
            .current_dir(folder)
            .stdin(Stdio::from(OwnedFd::from(theirs)))
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()?;
        // It counts until it has ended, however long its client takes with what it said.
        std::thread::Builder::new()
            .name("exec-reaper".to_owned())
            .spawn(move || {
                let _ = child.wait();
                drop(one);
            })?;
        let mut line = serde_json::to_vec(entry)?;
        line.push(b'\n');
        ours.write_all(&line)?;
        ours.set_nonblocking(true)?;
        Ok(ours)
    }
}

/// The helper of one command. Dropped, its socket closes, and it ends what it runs.
struct Helper {
    said: BufReader<OwnedReadHalf>,
    half: Vec<u8>,
    writer: OwnedWriteHalf,
    window: Option<Arc<AsyncFd<OwnedFd>>>,
}

impl Helper {
    async fn line(&mut self) -> Option<Said> {
        // What was read stays when nobody waits for the rest.
        let mut said = (&mut self.said).take(MOST_LINE);
        said.read_until(b'\n', &mut self.half).await.ok()?;
        serde_json::from_slice(&std::mem::take(&mut self.half)).ok()
    }

    /// Joins the command's streams with who reads and writes them.
    fn join(mut self, ours: Ours) -> io::Result<Execution> {
        let (sender, output) = mpsc::channel(PIECES);
        let input: Box<dyn AsyncWrite + Send + Unpin> = match ours {
            Ours::Pipes {
                input,
                output,
                errors,
            } => {
                for (pipe, stream) in [(output, LogStream::Stdout), (errors, LogStream::Stderr)] {
                    let pipe = pipe::Receiver::from_owned_fd(pipe)?;
                    tokio::spawn(carry(pipe, stream, sender.clone()));
                }
                Box::new(pipe::Sender::from_owned_fd(input)?)
            }
            Ours::Terminal(main) => {
                let both = Interest::READABLE | Interest::WRITABLE;
                let main = Arc::new(register(main, both)?);
                self.window = Some(main.clone());
                tokio::spawn(carry_screen(main.clone(), sender));
                Box::new(Keys(main))
            }
        };
        Ok(Execution {
            input,
            output,
            control: Box::new(self),
        })
    }
}

/// Carries what comes out of a pipe until it ends or nobody wants it.
async fn carry(
    mut pipe: pipe::Receiver,
    stream: LogStream,
    sender: mpsc::Sender<(LogStream, Bytes)>,
) {
    let mut piece = vec![0; PIECE];
    while let Ok(length @ 1..) = pipe.read(&mut piece).await {
        let bytes = Bytes::copy_from_slice(&piece[..length]);
        if sender.send((stream, bytes)).await.is_err() {
            return;
        }
    }
}

/// Carries what comes to the screen of a terminal; it ends when nobody has the other side.
async fn carry_screen(main: Arc<AsyncFd<OwnedFd>>, sender: mpsc::Sender<(LogStream, Bytes)>) {
    let mut piece = vec![0; PIECE];
    loop {
        let read = tokio::select! {
            read = main.async_io(Interest::READABLE, |fd| Ok(rustix::io::read(fd, &mut piece[..])?)) => read,
            () = sender.closed() => return,
        };
        let Ok(length @ 1..) = read else { return };
        let bytes = Bytes::copy_from_slice(&piece[..length]);
        if sender.send((LogStream::Stdout, bytes)).await.is_err() {
            return;
        }
    }
}

/// The keyboard of a terminal.
struct Keys(Arc<AsyncFd<OwnedFd>>);

impl AsyncWrite for Keys {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        loop {
            let mut guard = ready!(self.0.poll_write_ready(cx))?;
            match guard.try_io(|fd| Ok(rustix::io::write(fd.get_ref(), bytes)?)) {
                Ok(written) => return Poll::Ready(written),
                Err(_would_block) => {}
            }
        }
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

#[async_trait]
impl Executing for Helper {
    async fn wait(&mut self) -> Exit {
        match self.line().await {
            Some(Said::Ended { code, signal }) => Exit {
                code,
                signal,
                last_words: None,
            },
            _ => Exit::default(),
        }
    }

    async fn signal(&mut self, signal: i32) -> Result<(), DriverError> {
        let line = format!("signal {signal}\n");
        match self.writer.write_all(line.as_bytes()).await {
            Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
                Err(failed("the helper takes no signals", &error))
            }
            _ => Ok(()),
        }
    }

    async fn resize(&mut self, columns: u16, rows: u16) -> Result<(), DriverError> {
        let Some(main) = &self.window else {
            return Ok(());
        };
        tcsetwinsize(main.get_ref(), window(columns, rows))
            .map_err(|error| failed("the terminal's size", &error.into()))
    }
}
