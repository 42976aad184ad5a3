//! A server of a verb's own: this binary as a child, which ends with the verb.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use skep_client::Client;
use tokio::process::{Child, Command};

use crate::failure::{Failure, Result};
use crate::session::{Address, KEY_FILE};

/// Time for the server to end by itself.
const GRACE: Duration = Duration::from_secs(15);
const LOOK: Duration = Duration::from_millis(10);
/// Lines of the server's log that are shown when it fails.
const LAST_LINES: usize = 15;

/// A server in a folder, which can be started more than once.
pub(super) struct Server {
    folder: PathBuf,
    /// Port 0 the first time; then the same, so that clients find it again.
    listen: String,
    child: Option<Child>,
}

impl Server {
    pub(super) fn new(folder: &Path) -> Result<Self> {
        // No configuration of this place or user must get into it.
        File::create(folder.join("skep.toml"))?;
        Ok(Self {
            folder: folder.to_owned(),
            listen: "127.0.0.1:0".to_owned(),
            child: None,
        })
    }

    pub(super) fn data(&self) -> PathBuf {
        self.folder.join("data")
    }

    fn log(&self) -> PathBuf {
        self.folder.join("server.log")
    }

    /// Starts it and waits until it listens.
    pub(super) async fn start(&mut self) -> Result<Client> {
        let log = File::options().create(true).append(true).open(self.log())?;
        let mut command = Command::new(std::env::current_exe()?);
        command
            .arg("up")
            .args(["--listen", &self.listen, "--log-format", "human"])
            .arg("--data")
            .arg(self.data())
            .arg("--config")
            .arg(self.folder.join("skep.toml"))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            // Ctrl-C is for the verb, which ends the server in its own way.
            .process_group(0)
            .kill_on_drop(true);
        for (name, _) in std::env::vars_os() {
            if name
                .to_string_lossy()
                .starts_with(skep_core::config::PREFIX)
            {
                command.env_remove(name);
            }
        }
        let child = self.child.insert(command.spawn()?);
        let pid = child.id();
        let data = self.folder.join("data");
        let address = loop {
            // A server that was killed leaves its address behind.
            match Address::read(&data).filter(|address| Some(address.pid) == pid) {
                Some(address) => break address,
                None if child.try_wait()?.is_some() => {
                    return Err(Failure::plain("the server did not start"));
                }
                None => tokio::time::sleep(LOOK).await,
            }
        };
        if let Some((_, authority)) = address.url.split_once("://") {
            self.listen = authority.to_owned();
        }
        let key = std::fs::read_to_string(data.join(KEY_FILE))?;
        Ok(Client::new(&address.url, Some(key.trim()))?)
    }

    /// SIGKILL.
    pub(super) async fn kill(&mut self) -> Result {
        match &mut self.child {
            Some(child) => Ok(child.kill().await?),
            None => Ok(()),
        }
    }

    /// Returns when it has ended, which it should not by itself.
    pub(super) async fn ended(&mut self) -> Result {
        if let Some(child) = &mut self.child {
            let status = child.wait().await?;
            return Err(Failure::plain(format!("the server ended: {status}")));
        }
        Ok(())
    }

    /// Ends it and its agents. One that was killed is started once more for that: only a server
    /// knows which processes are left of it.
    pub(super) async fn end(&mut self) {
        let dead = match &mut self.child {
            Some(child) => !matches!(child.try_wait(), Ok(None)),
            None => return,
        };
        if dead && tokio::time::timeout(GRACE, self.start()).await.is_err() {
            return;
        }
        let Some(child) = &mut self.child else { return };
        let pid = child
            .id()
            .and_then(|pid| i32::try_from(pid).ok())
            .and_then(Pid::from_raw);
        if let Some(pid) = pid {
            let _ = kill_process(pid, Signal::TERM);
        }
        let _ = tokio::time::timeout(GRACE, child.wait()).await;
    }

    /// The end of its log.
    pub(super) fn last_words(&self) -> String {
        let text = std::fs::read_to_string(self.log()).unwrap_or_default();
        let lines: Vec<&str> = text.lines().collect();
        let last = &lines[lines.len().saturating_sub(LAST_LINES)..];
        format!("the server's last lines:\n  {}", last.join("\n  "))
    }
}
