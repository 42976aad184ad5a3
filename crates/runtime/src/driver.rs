//! `Driver`: what runs instances. The doc comments here are the contract, and
//! [`crate::conformance`] holds every driver to it. Domain types only: nothing of processes or
//! containers, nothing of the store.

use std::collections::BTreeMap;
use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use skep_core::{InstanceId, Timestamp, Workspace};
use tokio::net::{TcpSocket, TcpStream};

use crate::RuntimeError;
use crate::exec::{ExecOrder, Execution};
use crate::spec::Spec;

/// Whose instance it is, and which.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Place {
    /// The workspace.
    pub workspace: Workspace,
    /// The agent's name.
    pub agent: String,
    /// The instance.
    pub instance: InstanceId,
}

/// What a driver needs to start an instance.
#[derive(Debug, Clone)]
pub struct StartRequest {
    /// Whose instance it is, and which. An instance is started once in its life.
    pub place: Place,
    /// What to run.
    pub spec: Arc<Spec>,
    /// The number of the revision that it runs.
    pub revision: u32,
    /// The port at which the instance must be reachable: [`Driver::port`], else one that is reserved
    /// for it on loopback.
    pub port: u16,
    /// The contract's variables (`PORT`, `SKEP_…`); they win over those of the specification.
    pub env: BTreeMap<String, String>,
    /// A folder of this machine with files that the instance may read, and nobody else's may.
    pub held: Option<PathBuf>,
}

/// What a driver tells while it prepares.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct News {
    /// The event that it is, such as `image.pulled`; else it stands in the agent's log only.
    pub event: Option<&'static str>,
    /// What happened, in words.
    pub text: String,
}

/// Where a driver tells its news. Does not wait.
pub type Tell<'a> = &'a (dyn Fn(News) + Send + Sync);

/// Runs instances of agents.
///
/// A driver promises that:
/// - **One life.** An instance that was started runs until it exits by itself, is stopped or
///   signalled. It does not end because the server ends, in whatever way.
/// - **Adoption.** What [`Driver::start`] made, another driver of the same kind and options can
///   adopt with [`Driver::adopt`] after the server was killed at any instruction: also when the
///   handle was never stored. Adoption of something that ended answers `None`, and then nothing
///   of the instance runs or will run.
/// - **No rest.** When [`Running::wait`] answers, nothing of the instance runs any more, the
///   processes that it started included.
/// - **No double start.** Starting a second instance at the same place fails.
/// - **Logs outlive the instance** until [`Driver::discard`].
/// - **Cancel-safe.** A dropped future of this trait leaves an instance that was started or
///   was not, but can be adopted in either case.
#[async_trait]
pub trait Driver: Send + Sync + 'static {
    /// The name that specifications use, for example `process`.
    fn kind(&self) -> &'static str;

    /// The port on which every instance listens, when each has an address of its own. `None`: they
    /// share this machine's, and one is reserved for each.
    fn port(&self) -> Option<u16> {
        None
    }

    /// Where an instance sees a folder of [`StartRequest::held`].
    fn held_at(&self, folder: &Path) -> PathBuf {
        folder.to_owned()
    }

    /// Where instances reach this server, which is at `url` for who is on this machine. `None`: they do not. Asked before
    /// each start; who was told it is still led there by another server of the same options.
    ///
    /// # Errors
    /// [`DriverError`], as of a start.
    async fn server_at(&self, url: &str) -> Result<Option<String>, DriverError> {
        Ok(Some(url.to_owned()))
    }

    /// How it is with what the driver stands on. Answers within seconds.
    async fn condition(&self) -> Condition {
        Condition::Well("available".to_owned())
    }

    /// Looks at a specification before it is deployed: whether the program is there, and the like,
    /// as far as that can be told before anything runs.
    ///
    /// # Errors
    /// [`RuntimeError::InvalidSpec`] with the field that is wrong; [`RuntimeError::Driver`] when
    /// that cannot be found out.
    async fn check(&self, workspace: &Workspace, spec: &Spec) -> Result<(), RuntimeError>;

    /// Gets what an instance needs and is not here, such as an image. Asked before each start; takes
    /// as long as it goes forward. Nothing of an instance is there yet: a dropped future leaves
    /// nothing but what was got.
    ///
    /// # Errors
    /// [`DriverError`], as of a start.
    async fn prepare(
        &self,
        _workspace: &Workspace,
        _spec: &Spec,
        _tell: Tell<'_>,
    ) -> Result<(), DriverError> {
        Ok(())
    }

    /// Starts an instance that was prepared. It runs when this answers; whether it is ready is not the driver's
    /// question.
    ///
    /// # Errors
    /// [`DriverError`]; then nothing runs.
    async fn start(&self, request: &StartRequest) -> Result<Arc<dyn Running>, DriverError>;

    /// Takes over an instance that an earlier server started, with what [`Running::handle`] said
    /// then, if that is known. `None`: it ended.
    ///
    /// # Errors
    /// [`DriverError`] when that cannot be found out.
    async fn adopt(
        &self,
        place: &Place,
        handle: Option<&str>,
    ) -> Result<Option<Arc<dyn Running>>, DriverError>;

    /// Runs a command in the box of an instance that runs, with what it was started with and what
    /// [`Running::handle`] says: the same folders, variables, user, walls and limits, and no more
    /// rights. The command ends with the instance, and when what is given back is dropped.
    ///
    /// # Errors
    /// [`DriverError`]; then nothing of the command runs.
    async fn exec(
        &self,
        request: &StartRequest,
        handle: &str,
        order: &ExecOrder,
    ) -> Result<Execution, DriverError>;

    /// The instances of an agent that logs are kept of, oldest first.
    ///
    /// # Errors
    /// [`DriverError`] when they cannot be listed.
    async fn kept(
        &self,
        workspace: &Workspace,
        agent: &str,
    ) -> Result<Vec<InstanceId>, DriverError>;

    /// The names, of those that begin so, of which something is kept. They may be no agent's any more.
    ///
    /// # Errors
    /// [`DriverError`] when they cannot be listed.
    async fn names(&self, workspace: &Workspace, prefix: &str) -> Result<Vec<String>, DriverError> {
        let _ = (workspace, prefix);
        Ok(Vec::new())
    }

    /// The log of an instance, running or ended, from `since` on. An instance without a log has
    /// an empty one.
    ///
    /// # Errors
    /// [`DriverError`] when it cannot be read.
    async fn logs(
        &self,
        place: &Place,
        since: Option<Timestamp>,
    ) -> Result<Box<dyn LogSource>, DriverError>;

    /// Removes what is kept of an instance that ended. Done twice is well.
    ///
    /// # Errors
    /// [`DriverError`] when it cannot be removed.
    async fn discard(&self, place: &Place) -> Result<(), DriverError>;

    /// Removes what is kept of an agent none of whose instances runs: its home above all.
    ///
    /// # Errors
    /// [`DriverError`] when it cannot be removed.
    async fn discard_agent(&self, workspace: &Workspace, agent: &str) -> Result<(), DriverError>;
}

/// One instance that was started or adopted.
#[async_trait]
pub trait Running: Send + Sync {
    /// What [`Driver::adopt`] needs to find it again: a JSON document of the driver's own.
    fn handle(&self) -> String;

    /// Its process id, when it has one on this machine.
    fn pid(&self) -> Option<u32>;

    /// Where it takes calls.
    fn address(&self) -> SocketAddr;

    /// The way to where it takes calls.
    fn door(&self) -> Door {
        Door::at(self.address())
    }

    /// How it is locked in: each protection that was wanted, in force or not.
    fn protections(&self) -> Vec<Protection> {
        Vec::new()
    }

    /// Waits for its end. May be asked any number of times, also afterwards.
    async fn wait(&self) -> Exit;

    /// Asks it to end, and makes it end after `grace`; answers when it has ended. No grace at all
    /// ends it at once. The end comes even when the future is dropped.
    ///
    /// # Errors
    /// [`DriverError`] when it could not be ended.
    async fn stop(&self, grace: Duration) -> Result<(), DriverError>;

    /// Sends a signal to all its processes. Well when it has ended.
    ///
    /// # Errors
    /// [`DriverError`] when it could not be sent.
    async fn signal(&self, signal: i32) -> Result<(), DriverError>;

    /// Whether it runs, and what it uses with all its processes. What cannot be found out is absent,
    /// never zero; CPU time never goes back but for processes that ended meanwhile.
    ///
    /// # Errors
    /// [`DriverError`] when that cannot be found out.
    async fn inspect(&self) -> Result<Inspection, DriverError>;
}

/// Hands out sockets that stand in an instance's own network: a socket belongs to the network that it
/// was made in, whoever uses it.
#[async_trait]
pub trait Sockets: Send + Sync {
    /// A TCP socket that is not connected yet.
    ///
    /// # Errors
    /// Those of the system; also when the instance has ended.
    async fn socket(&self) -> io::Result<TcpSocket>;
}

/// The way to where an instance takes calls.
#[derive(Clone)]
pub struct Door {
    address: SocketAddr,
    sockets: Option<Arc<dyn Sockets>>,
}

impl Door {
    /// The way to an address that this process reaches by itself.
    #[must_use]
    pub const fn at(address: SocketAddr) -> Self {
        Self {
            address,
            sockets: None,
        }
    }

    /// The way to an address in a network of the instance's own.
    #[must_use]
    pub fn within(address: SocketAddr, sockets: Arc<dyn Sockets>) -> Self {
        Self {
            address,
            sockets: Some(sockets),
        }
    }

    /// The address at its end.
    #[must_use]
    pub const fn address(&self) -> SocketAddr {
        self.address
    }

    /// A new connection.
    ///
    /// # Errors
    /// Those of connecting.
    pub async fn connect(&self) -> io::Result<TcpStream> {
        match &self.sockets {
            None => TcpStream::connect(self.address).await,
            Some(sockets) => sockets.socket().await?.connect(self.address).await,
        }
    }
}

impl fmt::Debug for Door {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Door").field(&self.address).finish()
    }
}

/// How it is with what a driver stands on, in words for who runs the server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Condition {
    /// Instances can be started with every protection.
    Well(String),
    /// Instances can be started, with something to look at.
    Impaired(String),
    /// No instance can be started now.
    Unavailable(String),
}

/// One way in which an instance is locked in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Protection {
    /// What it is about, such as `files`.
    pub name: String,
    /// Whether it holds.
    pub in_force: bool,
    /// By what it holds, or what is missing.
    pub detail: String,
}

/// What an instance is found to be.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Inspection {
    /// Whether anything of it runs.
    pub alive: bool,
    /// CPU time so far, in milliseconds.
    pub cpu_ms: u64,
    /// Resident memory, in bytes.
    pub memory_bytes: u64,
    /// Number of processes.
    pub processes: u32,
    /// Bytes received and sent, when it has a network of its own.
    pub network: Option<Traffic>,
}

/// Bytes through an instance's own network since it started.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Traffic {
    /// To it.
    pub received: u64,
    /// From it.
    pub sent: u64,
}

/// How an instance ended.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Exit {
    /// The status that it exited with.
    pub code: Option<i32>,
    /// The signal that killed it.
    pub signal: Option<i32>,
    /// The last lines of its standard error, when it wrote any.
    pub last_words: Option<String>,
}

impl fmt::Display for Exit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.code, self.signal) {
            (Some(code), _) => write!(f, "exited with status {code}"),
            (None, Some(9)) => write!(f, "was killed (signal 9)"),
            (None, Some(signal)) => write!(f, "was ended by signal {signal}"),
            (None, None) => write!(f, "vanished"),
        }
    }
}

/// Where a line of a log comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum LogStream {
    /// The agent's standard output.
    Stdout,
    /// The agent's standard error.
    Stderr,
    /// Skep itself: what the supervisor did.
    Skep,
}

impl LogStream {
    /// The text form: `stdout`, `stderr` or `skep`.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Stdout => "stdout",
            Self::Stderr => "stderr",
            Self::Skep => "skep",
        }
    }

    /// The stream with this text form.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        [Self::Stdout, Self::Stderr, Self::Skep]
            .into_iter()
            .find(|stream| stream.as_str() == text)
    }
}

/// A line of a log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogLine {
    /// When it was written.
    pub time: Timestamp,
    /// Where it comes from.
    pub stream: LogStream,
    /// The instance that it is about.
    pub instance: InstanceId,
    /// Whether the line goes on in the next one: a very long line comes in pieces.
    pub partial: bool,
    /// The text, without the line's end.
    pub text: String,
}

/// A log that is read from its beginning.
pub trait LogSource: Send {
    /// The next line, oldest first; `None` when there is none yet. Blocks for no longer than a
    /// disk does, and never waits for a line to be written.
    ///
    /// # Errors
    /// [`DriverError`] when the log cannot be read.
    fn next(&mut self) -> Result<Option<LogLine>, DriverError>;
}

/// An error of a driver.
#[derive(Debug, Clone, thiserror::Error)]
pub enum DriverError {
    /// The agent's program cannot be run as the specification says; trying again gives the same.
    #[error("{0}")]
    Refused(String),
    /// Something on the machine failed; trying again may help.
    #[error("{0}")]
    Failed(String),
    /// What runs instances is not there now. The agent is not to blame: it waits, and the text is
    /// for who runs the server.
    #[error("{0}")]
    Unavailable(String),
}

impl DriverError {
    /// Whether the same request may succeed later without a change of the specification.
    #[must_use]
    pub const fn is_retryable(&self) -> bool {
        matches!(self, Self::Failed(_) | Self::Unavailable(_))
    }
}
