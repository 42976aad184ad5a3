//! One process instance as the server sees it: its shim's pidfd, and the folder they share.

use std::fs::File;
use std::io::Write;
use std::net::{Ipv4Addr, SocketAddr};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::process::Child;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use rustix::fs::{Mode, OFlags};
use rustix::process::{PidfdFlags, Signal};
use skep_core::InstanceId;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::sync::watch;

use super::exec::Inside;
use super::files::{self, Ended, State};
use super::network::Hold;
use super::proc;
use super::sandbox::cgroup;
use crate::driver::{Door, DriverError, Exit, Inspection, Protection, Running};
use crate::folder::{blocking, failed};
use crate::logfile;

/// Time that a shim may take beyond the grace to end what it runs.
const STOP_MARGIN: Duration = Duration::from_secs(5);
/// Rounds in which what a killed shim left is looked for.
const SWEEPS: usize = 20;

pub(super) struct ProcessRunning {
    folder: PathBuf,
    state: State,
    shim: Arc<AsyncFd<OwnedFd>>,
    exit: watch::Receiver<Option<Exit>>,
    /// Of a network of its own.
    network: Option<Arc<Hold>>,
}

impl ProcessRunning {
    /// Watches a shim: one of our own children, or an adopted one. Must run in a runtime.
    pub(super) fn new(
        folder: PathBuf,
        instance: InstanceId,
        state: State,
        child: Option<Child>,
        inside: Inside,
    ) -> Result<Self, DriverError> {
        let gone = || DriverError::Failed("the shim ended".to_owned());
        let pid = proc::pid(state.shim).ok_or_else(gone)?;
        let shim = rustix::process::pidfd_open(pid, PidfdFlags::empty())
            .map_err(std::io::Error::from)
            .and_then(|fd| register(fd, Interest::READABLE))
            .map_err(|error| failed("the shim cannot be watched", &error))?;
        let shim = Arc::new(shim);
        let (tell, exit) = watch::channel(None);
        let (watched, place) = (shim.clone(), folder.clone());
        let left = state.clone();
        let network = state.network.clone();
        let network = network.map(|network| Arc::new(Hold::take(folder.clone(), network)));
        let held = network.clone();
        // Its own task, so that the shim is reaped also when nobody waits for it.
        tokio::spawn(async move {
            let _ = watched.readable().await;
            if let Some(held) = held {
                held.close().await;
            }
            let settled = blocking(move || Ok(settle(&place, &left, instance, child))).await;
            // Commands that ran in its box see its end as we do.
            inside.ended(instance).await;
            tell.send_replace(Some(settled.unwrap_or_default()));
        });
        Ok(Self {
            folder,
            state,
            shim,
            exit,
            network,
        })
    }

    /// Hands a command to the shim. Blocks no longer than the file system does.
    fn command(&self, line: &str) -> std::io::Result<()> {
        let flags = OFlags::WRONLY | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let fifo = rustix::fs::open(self.folder.join(files::CONTROL), flags, Mode::empty())?;
        // Shorter than PIPE_BUF: it is written whole or not at all.
        File::from(fifo).write_all(line.as_bytes())
    }

    fn ended(&self) -> bool {
        self.exit.borrow().is_some()
    }

    async fn ends_within(&self, time: Duration) -> bool {
        tokio::time::timeout(time, self.wait()).await.is_ok()
    }
}

#[expect(
    unsafe_code,
    reason = "tokio has no safe way to watch a descriptor any more"
)]
pub(super) fn register(fd: OwnedFd, interest: Interest) -> std::io::Result<AsyncFd<OwnedFd>> {
    // SAFETY: an `OwnedFd` is an open descriptor, always the same one, and stays open until the
    // `AsyncFd` that owns it is dropped.
    unsafe { AsyncFd::register_with_interest(fd, interest) }.map_err(Into::into)
}

/// Finds out how an instance ended whose shim has ended, and ends what it may have left.
fn settle(folder: &Path, left: &State, instance: InstanceId, child: Option<Child>) -> Exit {
    let shim = child.and_then(|mut child| child.wait().ok());
    let written = files::get::<Ended>(folder, files::EXIT).ok().flatten();
    let (code, signal) = match (written, shim.and_then(|status| status.code())) {
        (Some(ended), _) => (ended.code, ended.signal),
        // The shim ended by itself, but the disk was full.
        (None, Some(code)) if code > 128 => (None, Some(code - 128)),
        (None, Some(code)) => (Some(code), None),
        (None, None) => {
            end_session(left, instance);
            let _ = std::fs::remove_dir_all(folder.join(files::TMP));
            (None, None)
        }
    };
    Exit {
        code,
        signal,
        last_words: logfile::last_words(&folder.join(files::LOG)),
    }
}

/// Kills what is left of a shim that was killed. The agent itself dies with the shim; what the
/// agent started is found by its control group, by the session and by the contract's variable.
pub(super) fn end_session(left: &State, instance: InstanceId) {
    let variable = format!("SKEP_INSTANCE={instance}");
    for _ in 0..SWEEPS {
        let any = cgroup::kill(&left.groups);
        let found = proc::of_session(left.shim, &variable);
        if found.is_empty() && !any && cgroup::remove(&left.groups) {
            return;
        }
        for pid in found {
            let _ = rustix::process::kill_process(pid, Signal::KILL);
        }
    }
}

#[async_trait]
impl Running for ProcessRunning {
    fn handle(&self) -> String {
        serde_json::to_string(&self.state).unwrap_or_default()
    }

    fn pid(&self) -> Option<u32> {
        Some(self.state.agent)
    }

    fn address(&self) -> SocketAddr {
        (Ipv4Addr::LOCALHOST, self.state.port).into()
    }

    fn door(&self) -> Door {
        match &self.network {
            Some(hold) => Door::within(self.address(), hold.inner.clone()),
            None => Door::at(self.address()),
        }
    }

    fn protections(&self) -> Vec<Protection> {
        self.state.protections.iter().map(Into::into).collect()
    }

    async fn wait(&self) -> Exit {
        let mut exit = self.exit.clone();
        match exit.wait_for(Option::is_some).await {
            Ok(exit) => exit.clone().unwrap_or_default(),
            Err(_) => Exit::default(),
        }
    }

    async fn stop(&self, grace: Duration) -> Result<(), DriverError> {
        let line = format!(
            "stop {}\n",
            u32::try_from(grace.as_millis()).unwrap_or(u32::MAX)
        );
        let asked = self.command(&line);
        if asked.is_ok() || self.ended() {
            if self.ends_within(grace.saturating_add(STOP_MARGIN)).await {
                return Ok(());
            }
        } else if let Err(error) = asked {
            tracing::debug!(%error, "the shim takes no commands: it is killed");
        }
        // The agent dies with its shim.
        let _ = rustix::process::pidfd_send_signal(self.shim.get_ref(), Signal::KILL);
        if self.ends_within(STOP_MARGIN).await {
            return Ok(());
        }
        Err(DriverError::Failed(
            "the instance does not end, not even when it is killed".to_owned(),
        ))
    }

    async fn signal(&self, signal: i32) -> Result<(), DriverError> {
        match self.command(&format!("signal {signal}\n")) {
            Err(error) if !self.ended() => Err(failed("the shim takes no commands", &error)),
            _ => Ok(()),
        }
    }

    async fn inspect(&self) -> Result<Inspection, DriverError> {
        if self.ended() {
            return Ok(Inspection::default());
        }
        let shim = self.state.shim;
        blocking(move || Ok(proc::below(shim))).await
    }
}
