//! One container as the server sees it. A task of its own carries its log and waits for its end;
//! when the engine is away, the container's first process tells whether it lives.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bollard::models::{ContainerInspectResponse, ContainerNetworkStats, ContainerState};
use bollard::query_parameters::{
    KillContainerOptions, RemoveContainerOptions, StatsOptions, WaitContainerOptions,
};
use futures_util::StreamExt;
use serde::{Deserialize, Serialize};
use skep_runtime::{DriverError, Exit, Inspection, Rotation, Running, Traffic, logfile};
use tokio::sync::watch;
use tokio::task::AbortHandle;

use crate::create::PORT;
use crate::engine::{Engine, Trouble};
use crate::log::Carrier;
use crate::process::Seen;

/// The format of the handle. An older reader refuses a newer one.
const FORMAT: u32 = 1;
/// Time between two looks at a container whose log ended and that still runs.
const LOOK: Duration = Duration::from_millis(200);
/// Time between two looks for an engine that is away.
const AWAY: Duration = Duration::from_secs(1);
/// Time in which the log of a container that ended must have come; what is missing is read again.
const LAST_LINES: Duration = Duration::from_secs(1);
/// Time that the engine may take beyond the grace to end a container.
const STOP_MARGIN: Duration = Duration::from_secs(15);
const SIGKILL: i32 = 9;
/// An exit status above it is that of a program that a signal ended.
const SIGNALLED: i64 = 128;
/// SIGKILL.
const KILLED: i64 = 9;
/// How often, and with which pause, a container that was killed is looked at for why.
const LOOKS_FOR_WHY: u32 = 5;
const LOOK_FOR_WHY: Duration = Duration::from_millis(50);
const MOST_SIGNAL: i64 = 64;
const NANOS_PER_MS: u64 = 1_000_000;

/// What is stored of an instance: enough to go on with it also while the engine is away.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Handle {
    format: u32,
    pub(crate) container: String,
    address: SocketAddr,
    process: Option<Seen>,
}

impl Handle {
    /// Reads what [`Running::handle`] said.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let handle: Self = serde_json::from_str(text).ok()?;
        (handle.format == FORMAT).then_some(handle)
    }

    /// Of a container as the engine shows it.
    pub(crate) fn of(found: &ContainerInspectResponse, network: &str) -> Self {
        let networks = found.network_settings.as_ref();
        let networks = networks.and_then(|settings| settings.networks.as_ref());
        let address = networks
            .and_then(|all| all.get(network)?.ip_address.as_deref()?.parse().ok())
            // One that ended has none any more; nobody answers at the broadcast address.
            .unwrap_or(Ipv4Addr::BROADCAST);
        let pid = found.state.as_ref().and_then(|state| state.pid);
        Self {
            format: FORMAT,
            container: found.id.clone().unwrap_or_default(),
            address: (address, PORT).into(),
            process: pid
                .and_then(|pid| u32::try_from(pid).ok())
                .filter(|pid| *pid > 0)
                .and_then(Seen::look),
        }
    }
}

/// A container that was started or adopted. When it is dropped, the container runs on.
pub(crate) struct DockerRunning {
    engine: Arc<Engine>,
    handle: Handle,
    exit: watch::Receiver<Option<Exit>>,
    watcher: AbortHandle,
}

impl Drop for DockerRunning {
    fn drop(&mut self) {
        self.watcher.abort();
    }
}

impl DockerRunning {
    /// Watches a container. `claim` is held until it has ended.
    pub(crate) fn new(
        engine: Arc<Engine>,
        handle: Handle,
        log: PathBuf,
        rotation: Rotation,
        claim: impl Send + 'static,
    ) -> Self {
        let (tell, exit) = watch::channel(None);
        let (watched, of) = (engine.clone(), handle.clone());
        let watcher = tokio::spawn(async move {
            let exit = until_end(&watched, &of, &log, rotation).await;
            drop(claim);
            tell.send_replace(Some(exit));
        });
        Self {
            engine,
            handle,
            exit,
            watcher: watcher.abort_handle(),
        }
    }

    fn ended(&self) -> bool {
        self.exit.borrow().is_some()
    }
}

/// Answers at the end; never when nobody watches any more.
async fn end(mut exit: watch::Receiver<Option<Exit>>) -> Exit {
    let ended = match exit.wait_for(Option::is_some).await {
        Ok(exit) => exit.clone(),
        Err(_) => None,
    };
    match ended {
        Some(exit) => exit,
        None => std::future::pending().await,
    }
}

/// Carries the log until the container ends, removes it, and tells how it ended.
async fn until_end(engine: &Engine, handle: &Handle, log: &Path, rotation: Rotation) -> Exit {
    let path = log.to_owned();
    let opened = tokio::task::spawn_blocking(move || Carrier::open(&path, rotation)).await;
    let Ok(mut carrier) = opened else {
        return Exit::default();
    };
    let container = &handle.container;
    loop {
        if let Ok(connected) = engine.get().await {
            let docker = connected.docker;
            let mut ended = std::pin::pin!(docker.wait_container(
                container,
                Some(WaitContainerOptions {
                    condition: "not-running".to_owned(),
                }),
            ));
            let mut carrying = std::pin::pin!(carrier.carry(&docker, container, true));
            tokio::select! {
                carried = &mut carrying => if let Err(error) = carried {
                    engine.failed(&error).await;
                },
                _ = ended.next() => {
                    let _ = tokio::time::timeout(LAST_LINES, carrying).await;
                }
            }
        }
        match state(engine, container).await {
            Ok(state) if state.running == Some(true) => tokio::time::sleep(LOOK).await,
            Ok(state) => {
                let state = told_why(engine, container, state).await;
                settle(engine, container, &mut carrier).await;
                return exit_of(&state, log);
            }
            Err(Trouble::Missing(_)) => return Exit::default(),
            Err(trouble) => {
                if handle.process.is_some_and(|process| !process.lives()) {
                    tracing::debug!(?trouble, "a container ended while the engine was away");
                    return Exit::default();
                }
                tokio::time::sleep(AWAY).await;
            }
        }
    }
}

/// Takes what is left of the log of a container that ended, and removes the container.
pub(crate) async fn settle(engine: &Engine, container: &str, carrier: &mut Carrier) {
    if let Ok(connected) = engine.get().await
        && let Err(error) = carrier.carry(&connected.docker, container, false).await
    {
        tracing::warn!(container, %error, "the end of an agent's log is lost");
    }
    if let Err(trouble) = remove(engine, container).await {
        tracing::debug!(?trouble, "a container that ended stays for the sweep");
    }
}

/// Removes a container, also one that runs. Well when it is gone.
pub(crate) async fn remove(engine: &Engine, container: &str) -> Result<(), Trouble> {
    let options = RemoveContainerOptions {
        v: true,
        force: true,
        link: false,
    };
    let removed = engine
        .ask(|docker| async move { docker.remove_container(container, Some(options)).await })
        .await;
    match removed {
        // Its removal is under way.
        Err(Trouble::Missing(_) | Trouble::Refused(409, _)) | Ok(()) => Ok(()),
        Err(other) => Err(other),
    }
}

/// Removes a container for certain, however long the engine is away.
pub(crate) fn abandon(engine: Arc<Engine>, container: String) {
    tokio::spawn(async move {
        while let Err(Trouble::Away(_)) = remove(&engine, &container).await {
            tokio::time::sleep(AWAY).await;
        }
    });
}

async fn state(engine: &Engine, container: &str) -> Result<ContainerState, Trouble> {
    let found = engine
        .ask(|docker| async move { docker.inspect_container(container, None).await })
        .await?;
    Ok(found.state.unwrap_or_default())
}

/// The engine says that memory ran out after it says that the container ended: whoever was killed is
/// looked at again for a moment.
async fn told_why(engine: &Engine, container: &str, ended: ContainerState) -> ContainerState {
    let killed = ended.exit_code == Some(SIGNALLED + KILLED);
    let mut state_now = ended;
    for _ in 0..LOOKS_FOR_WHY {
        if !killed || state_now.oom_killed == Some(true) {
            break;
        }
        tokio::time::sleep(LOOK_FOR_WHY).await;
        match state(engine, container).await {
            Ok(again) => state_now = again,
            Err(_) => break,
        }
    }
    state_now
}

fn exit_of(state: &ContainerState, log: &Path) -> Exit {
    let status = state.exit_code.unwrap_or_default();
    let signal = (status > SIGNALLED && status <= SIGNALLED + MOST_SIGNAL)
        .then(|| i32::try_from(status - SIGNALLED).unwrap_or_default());
    let mut last_words = logfile::last_words(log);
    if state.oom_killed == Some(true) {
        let why = "it used more memory than `resources.memory` gives it";
        last_words = Some(last_words.map_or(why.to_owned(), |words| format!("{words}\n{why}")));
    }
    Exit {
        code: match signal {
            Some(_) => None,
            None => i32::try_from(status).ok(),
        },
        signal,
        last_words,
    }
}

async fn kill(engine: &Engine, container: &str, signal: i32) -> Result<(), Trouble> {
    let options = KillContainerOptions {
        signal: signal.to_string(),
    };
    let killed = engine
        .ask(|docker| async move { docker.kill_container(container, Some(options)).await })
        .await;
    match killed {
        // It ended.
        Err(Trouble::Missing(_) | Trouble::Refused(409, _)) | Ok(()) => Ok(()),
        // What older engines say of one that ended.
        Err(Trouble::Refused(_, why)) if why.contains("is not running") => Ok(()),
        Err(other) => Err(other),
    }
}

#[async_trait]
impl Running for DockerRunning {
    fn handle(&self) -> String {
        serde_json::to_string(&self.handle).unwrap_or_default()
    }

    fn pid(&self) -> Option<u32> {
        self.handle.process.map(|process| process.pid)
    }

    fn address(&self) -> SocketAddr {
        self.handle.address
    }

    async fn wait(&self) -> Exit {
        end(self.exit.clone()).await
    }

    async fn stop(&self, grace: Duration) -> Result<(), DriverError> {
        const SIGTERM: i32 = 15;
        if self.ended() {
            return Ok(());
        }
        let (engine, container) = (self.engine.clone(), self.handle.container.clone());
        let exit = self.exit.clone();
        // Its own task: the end comes also when nobody waits for it.
        tokio::spawn(async move {
            if !grace.is_zero() {
                let asked = kill(&engine, &container, SIGTERM).await;
                if let Err(trouble) = asked {
                    tracing::debug!(?trouble, "a container is not asked to end");
                }
                if tokio::time::timeout(grace, end(exit)).await.is_ok() {
                    return;
                }
            }
            while let Err(Trouble::Away(_)) = kill(&engine, &container, SIGKILL).await {
                tokio::time::sleep(AWAY).await;
            }
        });
        match tokio::time::timeout(grace.saturating_add(STOP_MARGIN), self.wait()).await {
            Ok(_) => Ok(()),
            Err(_) => match self.engine.get().await {
                Err(trouble) => Err(trouble.into()),
                Ok(_) => Err(DriverError::Failed(
                    "the container does not end, not even when it is killed".to_owned(),
                )),
            },
        }
    }

    async fn signal(&self, signal: i32) -> Result<(), DriverError> {
        if self.ended() {
            return Ok(());
        }
        Ok(kill(&self.engine, &self.handle.container, signal).await?)
    }

    async fn inspect(&self) -> Result<Inspection, DriverError> {
        if self.ended() {
            return Ok(Inspection::default());
        }
        let options = StatsOptions {
            stream: false,
            one_shot: true,
        };
        let docker = self.engine.get().await?.docker;
        let mut stats = std::pin::pin!(docker.stats(&self.handle.container, Some(options)));
        let stats = match stats.next().await {
            Some(Ok(stats)) => stats,
            Some(Err(error)) => match self.engine.failed(&error).await {
                Trouble::Missing(_) => return Ok(Inspection::default()),
                other => return Err(other.into()),
            },
            None => return Ok(Inspection::default()),
        };
        let memory = stats.memory_stats.unwrap_or_default();
        let part = |name: &str| memory.stats.as_ref()?.get(name).copied();
        // Files that the kernel can drop are not the agent's, as `docker stats` counts too.
        let files = part("total_inactive_file").or_else(|| part("inactive_file"));
        let processes = stats.pids_stats.and_then(|pids| pids.current).unwrap_or(0);
        let used = memory.usage.unwrap_or(0);
        Ok(Inspection {
            alive: processes > 0,
            cpu_ms: stats
                .cpu_stats
                .and_then(|cpu| cpu.cpu_usage?.total_usage)
                .unwrap_or(0)
                / NANOS_PER_MS,
            memory_bytes: used.saturating_sub(files.unwrap_or(0)),
            processes: u32::try_from(processes).unwrap_or(u32::MAX),
            network: stats.networks.map(|networks| {
                let sum = |of: fn(&ContainerNetworkStats) -> Option<u64>| {
                    networks.values().filter_map(of).sum()
                };
                Traffic {
                    received: sum(|one| one.rx_bytes),
                    sent: sum(|one| one.tx_bytes),
                }
            }),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tells_signals_from_statuses() {
        let nowhere = Path::new("/nowhere");
        let exit = |code: i64| {
            let state = ContainerState {
                exit_code: Some(code),
                ..ContainerState::default()
            };
            let exit = exit_of(&state, nowhere);
            (exit.code, exit.signal)
        };
        assert_eq!(exit(0), (Some(0), None));
        assert_eq!(exit(127), (Some(127), None));
        assert_eq!(exit(137), (None, Some(9)));
        assert_eq!(exit(255), (Some(255), None));
    }

    #[test]
    fn a_handle_is_read_back_and_a_newer_one_refused() {
        let handle = Handle {
            format: FORMAT,
            container: "c".to_owned(),
            address: "10.0.0.2:8080".parse().unwrap(),
            process: None,
        };
        let text = serde_json::to_string(&handle).unwrap();
        assert_eq!(Handle::parse(&text).unwrap().container, "c");
        assert!(Handle::parse(&text.replace("\"format\":1", "\"format\":2")).is_none());
        assert!(Handle::parse("").is_none());
    }
}
