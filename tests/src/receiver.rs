//! A receiver of webhooks on the official library: `tests/sdks/webhooks/python/receiver.py`.

use std::fs;
use std::path::Path;
use std::process::Stdio;

use serde_json::Value;
use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt as _, BufReader, Lines};
use tokio::process::{Child, ChildStdout, Command};

use crate::packages;

/// A receiver. It ends with this.
pub struct Receiver {
    child: Option<(Child, Lines<BufReader<ChildStdout>>)>,
    folder: TempDir,
    port: u16,
}

impl Receiver {
    /// One that takes everything.
    ///
    /// # Panics
    /// When it does not start.
    pub async fn start() -> Self {
        let mut receiver = Self {
            child: None,
            folder: TempDir::new().expect("a folder"),
            port: 0,
        };
        receiver.begin().await;
        receiver
    }

    /// Starts it, where it was before.
    ///
    /// # Panics
    /// When it does not start.
    pub async fn begin(&mut self) {
        let python = packages("webhooks/python").join(".venv/bin/python");
        assert!(
            python.exists(),
            "there is no {}: run `cargo xtask set-up`",
            python.display()
        );
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("sdks/webhooks/python/receiver.py");
        let mut child = Command::new(python)
            .arg(script)
            .arg(self.folder.path())
            .arg(self.port.to_string())
            .env_clear()
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .expect("the receiver runs");
        let stdout = child.stdout.take().expect("its output");
        let mut said = BufReader::new(stdout).lines();
        let line = said.next_line().await.expect("a line").expect("a line");
        self.port = line.parse().expect("its port");
        self.child = Some((child, said));
    }

    /// Ends it: nobody is at its port.
    ///
    /// # Panics
    /// When it does not end.
    pub async fn end(&mut self) {
        if let Some((mut child, _)) = self.child.take() {
            child.kill().await.expect("it ends");
        }
    }

    /// Where it is, at a path of this name.
    #[must_use]
    pub fn url(&self, name: &str) -> String {
        format!("http://127.0.0.1:{}/{name}", self.port)
    }

    /// Its port.
    #[must_use]
    pub const fn port(&self) -> u16 {
        self.port
    }

    /// Which keys it tries.
    ///
    /// # Panics
    /// When they cannot be written.
    pub fn knows(&self, keys: &[&str]) {
        fs::write(self.folder.path().join("keys"), keys.join("\n")).expect("a file");
    }

    /// What it answers next, before it takes everything again.
    ///
    /// # Panics
    /// When that cannot be written.
    pub fn plan(&self, answers: &[&str]) {
        let lines: String = answers.iter().map(|it| format!("{it}\n")).collect();
        fs::write(self.folder.path().join("plan"), lines).expect("a file");
    }

    /// What it heard, in order.
    #[must_use]
    pub fn heard(&self) -> Vec<Value> {
        let text = fs::read_to_string(self.folder.path().join("heard")).unwrap_or_default();
        let whole = text.split_inclusive('\n').filter(|it| it.ends_with('\n'));
        whole
            .filter_map(|line| serde_json::from_str(line).ok())
            .collect()
    }

    /// What it heard at a path.
    #[must_use]
    pub fn heard_at(&self, name: &str) -> Vec<Value> {
        let path = format!("/{name}");
        let mut all = self.heard();
        all.retain(|it| it["path"] == path);
        all
    }
}

/// The payload of something that was heard.
///
/// # Panics
/// When it is no JSON.
#[must_use]
pub fn payload(heard: &Value) -> Value {
    let body = heard["body"].as_str().expect("a body");
    serde_json::from_str(body).expect("JSON")
}
