//! A provider of models that does what the model's name says (`src/bin/upstream.rs`), and the providers' own SDKs.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use serde_json::Value;
use tokio::io::{AsyncBufReadExt, BufReader, Lines};
use tokio::process::{Child, ChildStdout, Command};

use crate::Client;

/// The key that it takes.
const KEY: &str = "sk-upstream-0123456789abcdef";

/// An upstream of its own. It ends with its owner.
pub struct Upstream {
    _child: Child,
    _said: Lines<BufReader<ChildStdout>>,
    /// Where it is: `http://127.0.0.1:PORT`.
    pub url: String,
    /// The only key that it takes.
    pub key: String,
}

/// How much came, and is open.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Counts {
    /// Requests.
    pub requests: u64,
    /// Those of them whose client left before their end.
    pub cut: u64,
    /// Streams that are open now.
    pub open: u64,
    /// The most that were open at once.
    pub most: u64,
}

/// The binary: beside this program, or in the folder above it.
fn binary() -> PathBuf {
    let me = std::env::current_exe().expect("this program has a path");
    let mut folders = me.ancestors().map(|folder| folder.join("skep-upstream"));
    let found = folders.find(|path| path.is_file());
    found.expect("build it first: cargo build --package skep-tests")
}

impl Upstream {
    /// One that listens.
    ///
    /// # Panics
    /// When it was not built.
    pub async fn start() -> Self {
        let mut child = Command::new(binary())
            .env_clear()
            .env("UPSTREAM_KEYS", KEY)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .expect("the upstream runs");
        let stdout = child.stdout.take().expect("its output");
        let mut said = BufReader::new(stdout).lines();
        let line = said.next_line().await.expect("a line").expect("a line");
        let url = line.strip_prefix("listening on ").expect("its address");
        Self {
            _child: child,
            _said: said,
            url: url.to_owned(),
            key: KEY.to_owned(),
        }
    }

    /// A client of it that sends its key as OpenAI's does.
    #[must_use]
    pub fn client(&self) -> Client {
        Client::new(&self.url, &self.key)
    }

    /// The last requests for a model with options, the oldest first: `method`, `path`, `query`, `headers`, `body` as
    /// JSON, `raw` as text, and `ended`: `open`, `whole`, or `cut` by its client. `-` stands for no model.
    ///
    /// # Panics
    /// When it does not answer.
    pub async fn seen(&self, model: &str) -> Vec<Value> {
        let model = model.replace('%', "%25").replace(' ', "%20");
        let answer = self.client().get(&format!("/_seen?model={model}")).await;
        let requests = answer.json()["requests"].as_array().cloned();
        requests.expect("what it has seen")
    }

    /// What it counted.
    ///
    /// # Panics
    /// When it does not answer.
    pub async fn counts(&self) -> Counts {
        let told = self.client().get("/_counts").await.json();
        let number = |name: &str| told[name].as_u64().expect("a number");
        Counts {
            requests: number("requests"),
            cut: number("cut"),
            open: number("open"),
            most: number("most"),
        }
    }
}

/// Where `cargo xtask set-up` puts the SDKs of a language: `python`, `web/node`.
#[must_use]
pub fn packages(language: &str) -> PathBuf {
    let cache = std::env::var_os("XDG_CACHE_HOME").map(PathBuf::from);
    let home = || PathBuf::from(std::env::var_os("HOME").unwrap_or_default()).join(".cache");
    let cache = cache.unwrap_or_else(home);
    cache.join("skep-tests").join("sdks").join(language)
}

/// A script of `tests/sdks` on the SDK of a provider: `python` or `node`, and the file's name. Its environment is
/// `PATH` and `HOME`: what the SDK reads is to be added, and the script's model as a word.
///
/// # Panics
/// When the SDKs are not installed.
#[must_use]
pub fn sdk(language: &str, file: &str) -> Command {
    let packages = packages(language);
    let python = packages.join(".venv/bin/python");
    let is_python = language == "python";
    let there = match is_python {
        true => python.clone(),
        false => packages.join("node_modules"),
    };
    assert!(
        there.exists(),
        "there are no SDKs in {}: run `cargo xtask set-up`",
        packages.display()
    );
    let scripts = Path::new(env!("CARGO_MANIFEST_DIR")).join("sdks");
    let script = File::open(scripts.join(language).join(file)).expect("a script");
    // Read from its input, a script finds the packages of the folder that it runs in.
    let mut command = match is_python {
        true => Command::new(python),
        false => Command::new("node"),
    };
    if !is_python {
        command.arg("--input-type=module");
    }
    command.arg("-").current_dir(packages).env_clear();
    for name in ["PATH", "HOME"] {
        if let Some(value) = std::env::var_os(name) {
            command.env(name, value);
        }
    }
    command
        .stdin(script)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true);
    command
}
