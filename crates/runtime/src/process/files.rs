//! The folder of an instance: what the server tells the shim, and what the shim tells the server.
//! The documents carry a format number, since a server adopts what an older one left.

use std::collections::BTreeMap;
use std::io::Write;
use std::path::{Path, PathBuf};

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::sandbox::cgroup::Places;
use super::sandbox::netns::Network;
use super::sandbox::{Guard, Order};
use crate::logfile::Rotation;

/// The format of every document here. An older reader refuses a newer one.
pub(crate) const FORMAT: u32 = 1;

/// Held (flock) by the shim as long as it lives.
pub(crate) const LOCK: &str = "lock";
/// A FIFO with one command a line: `stop <grace in ms>`, `signal <number>`.
pub(crate) const CONTROL: &str = "control";
/// Where the shim hands out sockets of the agent's network, when it has one of its own.
pub(crate) const NETWORK: &str = "network";
/// What must be said there first: other agents can reach that place, and cannot read this file.
pub(crate) const NETWORK_KEY: &str = "network.key";
pub(crate) const LOG: &str = "log";
pub(crate) const START: &str = "start.json";
pub(crate) const STATE: &str = "state.json";
/// The agent's temporary folder.
pub(crate) const TMP: &str = "tmp";
pub(crate) const EXIT: &str = "exit.json";

/// What the shim is to run.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Start {
    pub(crate) format: u32,
    pub(crate) command: Vec<String>,
    pub(crate) workdir: PathBuf,
    pub(crate) env: BTreeMap<String, String>,
    pub(crate) memory: Option<u64>,
    pub(crate) open_files: Option<u64>,
    pub(crate) file_size: Option<u64>,
    pub(crate) processes: Option<u64>,
    pub(crate) port: u16,
    pub(crate) rotation: Rotation,
    #[serde(default)]
    pub(crate) cpu_millis: Option<u64>,
    /// Bytes of the agent's folders together.
    #[serde(default)]
    pub(crate) disk: Option<u64>,
    #[serde(default)]
    pub(crate) cgroups: Places,
    /// None: it is not locked in.
    #[serde(default)]
    pub(crate) sandbox: Option<Order>,
}

/// What runs: there as soon as the agent does.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct State {
    pub(crate) format: u32,
    pub(crate) shim: u32,
    pub(crate) agent: u32,
    pub(crate) port: u16,
    /// The folders of its control group.
    #[serde(default)]
    pub(crate) groups: Vec<PathBuf>,
    #[serde(default)]
    pub(crate) protections: Vec<Guard>,
    /// None: it is in the machine's network.
    #[serde(default)]
    pub(crate) network: Option<Network>,
}

/// How it ended: there before the shim ends.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Ended {
    pub(crate) format: u32,
    pub(crate) code: Option<i32>,
    pub(crate) signal: Option<i32>,
}

/// The one line that the shim prints when it knows whether the agent runs.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum Report {
    /// The agent runs.
    Running(State),
    /// The agent's program cannot be run.
    Refused(String),
    /// The shim itself failed.
    Failed(String),
}

/// Writes a document so that a reader sees all of it or none.
pub(crate) fn put(folder: &Path, name: &str, document: &impl Serialize) -> std::io::Result<()> {
    use std::os::unix::fs::OpenOptionsExt;
    let draft = folder.join(format!("{name}.new"));
    // Environment variables are nobody else's business.
    let mut file = std::fs::File::options()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(&draft)?;
    file.write_all(&serde_json::to_vec(document)?)?;
    std::fs::rename(draft, folder.join(name))
}

/// Reads a document; `None` when there is none. One that cannot be read is what a power cut left: it
/// is renamed whole but not synced, as nothing that it tells of outlives the machine.
pub(crate) fn get<T: DeserializeOwned>(folder: &Path, name: &str) -> std::io::Result<Option<T>> {
    match std::fs::read(folder.join(name)) {
        Ok(bytes) => Ok(serde_json::from_slice(&bytes).ok()),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}
