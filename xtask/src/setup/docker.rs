//! Docker Engine for the tests: started in the background when it does not run, and left running.

use std::fs::File;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};

use super::is_root;

const LOG: &str = "/var/log/dockerd.log";
/// Time in which an engine that was started must answer.
const PATIENCE: Duration = Duration::from_secs(60);
const LOOK: Duration = Duration::from_millis(200);

/// Whether an engine answers.
fn answers() -> bool {
    let mut version = Command::new("docker");
    version.args(["version", "--format", "{{.Server.Version}}"]);
    let status = version.stdout(Stdio::null()).stderr(Stdio::null()).status();
    status.is_ok_and(|status| status.success())
}

#[expect(
    clippy::disallowed_methods,
    reason = "another program's start has nothing to wait on but its answer"
)]
fn pause() {
    std::thread::sleep(LOOK);
}

/// Starts the engine unless one answers. Says what it does.
pub(super) fn start() -> Result<()> {
    if answers() {
        println!("set-up: Docker Engine answers");
        return Ok(());
    }
    if !is_root()? {
        bail!("Docker Engine does not answer: start it (systemctl start docker) and run again");
    }
    println!("set-up: starting Docker Engine (dockerd, log in {LOG}); it stays");
    let log = File::create(LOG).context(LOG)?;
    // In a session of its own: it outlives this task and its terminal.
    Command::new("setsid")
        .args(["--fork", "dockerd"])
        .stdin(Stdio::null())
        .stdout(log.try_clone()?)
        .stderr(log)
        .env("PATH", path())
        .status()
        .context("dockerd does not start")?;
    let started = Instant::now();
    while !answers() {
        if started.elapsed() > PATIENCE {
            bail!("Docker Engine does not answer: see {LOG}");
        }
        pause();
    }
    Ok(())
}

/// The engine runs programs of administrators.
fn path() -> String {
    let path = std::env::var("PATH").unwrap_or_default();
    format!("{path}:/usr/local/sbin:/usr/sbin:/sbin")
}
