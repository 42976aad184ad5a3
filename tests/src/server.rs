//! A server of a test's own.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::{Answer, Client};

/// Nothing that a test waits for takes longer.
const PATIENCE: Duration = Duration::from_secs(60);
/// How often a condition is looked at.
const LOOK: Duration = Duration::from_millis(5);

/// The packages of a framework that a template wants, as `cargo xtask set-up` has installed them: the folder that a
/// project has, `.venv` or `node_modules`.
///
/// # Panics
/// When neither `HOME` nor `XDG_CACHE_HOME` is set.
#[must_use]
pub fn framework(template: &str) -> PathBuf {
    let cache = std::env::var_os("XDG_CACHE_HOME").map(PathBuf::from);
    let home = || Some(PathBuf::from(std::env::var_os("HOME")?).join(".cache"));
    let cache = cache.or_else(home).expect("a home folder");
    let folder = cache.join("skep-tests").join("frameworks").join(template);
    let name = if template == "ai-sdk" {
        "node_modules"
    } else {
        ".venv"
    };
    folder.join(name)
}

/// The `skep` binary that was built.
///
/// # Panics
/// When it was not built.
#[must_use]
pub fn skep_binary() -> PathBuf {
    if let Some(path) = std::env::var_os("SKEP_BIN") {
        return PathBuf::from(path);
    }
    // Test programs stand in `deps` beside the binaries.
    let me = std::env::current_exe().expect("this program has a path");
    let folder = me.ancestors().find(|path| path.join("skep").is_file());
    folder
        .expect("build it first: cargo build --package skep")
        .join("skep")
}

/// The agent of the tests.
///
/// # Panics
/// When it was not built.
#[must_use]
pub fn agent_binary() -> String {
    beside_skep("skep-test-agent")
}

/// The agent that writes down and says plain bytes.
///
/// # Panics
/// When it was not built.
#[must_use]
pub fn raw_agent_binary() -> String {
    beside_skep("skep-raw-agent")
}

fn beside_skep(name: &str) -> String {
    let agent = skep_binary().with_file_name(name);
    assert!(
        agent.is_file(),
        "build it first: cargo build --package skep-tests"
    );
    agent.display().to_string()
}

/// Waits for a condition.
///
/// # Panics
/// When it does not come about.
pub async fn eventually<T>(what: &str, mut look: impl AsyncFnMut() -> Option<T>) -> T {
    let started = Instant::now();
    let mut tick = tokio::time::interval(LOOK);
    loop {
        tick.tick().await;
        if let Some(found) = look().await {
            return found;
        }
        assert!(started.elapsed() < PATIENCE, "{what} did not come about");
    }
}

/// The lines that agents wrote down in this folder of what they did: key and body.
#[must_use]
pub fn executed(folder: &Path) -> Vec<(String, String)> {
    let text = fs::read_to_string(folder.join("executed.log")).unwrap_or_default();
    let pair = |line: &str| {
        line.split_once('\t')
            .map(|(key, body)| (key.to_owned(), body.to_owned()))
    };
    text.lines().filter_map(pair).collect()
}

/// How a server is started.
#[derive(Debug, Clone, Default)]
pub struct Setup {
    /// Environment variables.
    pub env: Vec<(String, String)>,
    /// What comes before the program, for example strace with its arguments.
    pub wrapper: Vec<String>,
    /// Where it listens, when that is not any port of this machine alone.
    pub listen: Option<String>,
    /// The admin key, when another server of the same database made it.
    pub key: Option<String>,
}

/// A running server with its data folder.
pub struct Server {
    child: Child,
    folder: TempDir,
    setup: Setup,
    /// A client with the admin key.
    pub client: Client,
}

impl Server {
    /// A server on a new data folder.
    pub async fn start() -> Self {
        Self::start_with(Setup::default()).await
    }

    /// A server on a new data folder, started in a certain way.
    ///
    /// # Panics
    /// When it does not start.
    pub async fn start_with(setup: Setup) -> Self {
        Self::start_in(TempDir::new().expect("a folder"), setup).await
    }

    /// A server on the data folder in this folder, which may be one that was restored.
    ///
    /// # Panics
    /// When it does not start.
    pub async fn start_in(folder: TempDir, setup: Setup) -> Self {
        let child = spawn(folder.path(), &setup);
        let client = reach(folder.path(), &setup).await;
        Self {
            child,
            folder,
            setup,
            client,
        }
    }

    /// The data folder.
    #[must_use]
    pub fn data(&self) -> PathBuf {
        self.folder.path().join("data")
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> String {
        let (_, address) = self.client.url.split_once("://").unwrap_or_default();
        // One that listens on every address is reached at this one.
        address.replace("0.0.0.0", "127.0.0.1")
    }

    /// The server's process id, which is not that of its wrapper.
    #[must_use]
    pub fn pid(&self) -> u32 {
        let document = fs::read_to_string(self.data().join("server.json")).unwrap_or_default();
        let document: Value = serde_json::from_str(&document).unwrap_or(Value::Null);
        document["pid"]
            .as_u64()
            .and_then(|pid| u32::try_from(pid).ok())
            .unwrap_or(self.child.id())
    }

    /// SIGKILL: no chance to do anything.
    ///
    /// # Panics
    /// When the server cannot be killed.
    pub fn kill(&mut self) {
        kill(self.pid());
        // A wrapper would stay with the agents, which live on.
        if !self.setup.wrapper.is_empty() {
            kill(self.child.id());
        }
        self.child.wait().expect("the server ends");
    }

    /// SIGABRT, as when it breaks; tells how it ended.
    ///
    /// # Panics
    /// When it does not end.
    pub fn abort(&mut self) -> std::process::ExitStatus {
        signal(self.pid(), Signal::ABORT);
        self.child.wait().expect("the server ends")
    }

    /// SIGSTOP: it stands still, and its connections stay.
    pub fn pause(&self) {
        signal(self.pid(), Signal::STOP);
    }

    /// SIGCONT, after [`Server::pause`].
    pub fn resume(&self) {
        signal(self.pid(), Signal::CONT);
    }

    /// SIGHUP: it looks at its files.
    pub fn hang_up(&self) {
        signal(self.pid(), Signal::HUP);
    }

    /// SIGTERM, without waiting for the end.
    pub fn tell_to_end(&self) {
        signal(self.pid(), Signal::TERM);
    }

    /// Waits for the end; tells whether it was a good one.
    pub async fn ended(&mut self) -> bool {
        eventually("the end of the server", async || {
            let status = self.child.try_wait().expect("a child");
            status.map(|status| status.success())
        })
        .await
    }

    /// SIGTERM, and the end; tells whether it was a good one.
    ///
    /// # Panics
    /// When the server cannot be told.
    pub fn terminate(&mut self) -> bool {
        signal(self.pid(), Signal::TERM);
        self.child.wait().expect("the server ends").success()
    }

    /// Starts it again on the same folder; its address is another one.
    pub async fn restart(&mut self) {
        self.restart_with(Setup::default()).await;
    }

    /// [`Server::restart`] in the same way as it was started.
    pub async fn restart_as_it_was(&mut self) {
        self.restart_with(self.setup.clone()).await;
    }

    /// [`Server::restart`] in another way.
    ///
    /// # Panics
    /// When the dead server does not let its folder go.
    pub async fn restart_with(&mut self, setup: Setup) {
        self.setup = setup;
        // Under a wrapper the dead one was not our child: it may still be on its way out.
        let lock = fs::File::open(self.data().join("skep.lock")).expect("a lock");
        eventually("a free folder", async || lock.try_lock().ok()).await;
        drop(lock);
        self.child = spawn(self.folder.path(), &self.setup);
        self.client = reach(self.folder.path(), &self.setup).await;
    }

    /// Deploys the test agent and waits until it is ready.
    pub async fn deploy(&self, name: &str, calls: Value) {
        self.deploy_spec(json!({ "name": name, "command": [agent_binary()], "calls": calls }))
            .await;
    }

    /// Deploys the agent of plain bytes and waits until it is ready.
    pub async fn deploy_raw(&self, name: &str, calls: Value) {
        let command = [raw_agent_binary()];
        self.deploy_spec(json!({ "name": name, "command": command, "calls": calls }))
            .await;
    }

    /// What the agent of plain bytes heard, in order.
    #[must_use]
    pub fn heard(&self, agent: &str) -> Vec<Value> {
        let text = fs::read_to_string(self.home(agent).join("heard.log")).unwrap_or_default();
        // The last line may be half written.
        let whole = text
            .split_inclusive('\n')
            .filter(|line| line.ends_with('\n'));
        let read = |line| serde_json::from_str(line).expect("JSON");
        whole.map(read).collect()
    }

    /// Deploys an agent and waits until it is ready.
    ///
    /// # Panics
    /// When it is refused or does not become ready.
    pub async fn deploy_spec(&self, spec: Value) {
        let answer = self.client.post_json("/api/v1/agents", &spec).await;
        assert!(answer.status < 300, "{}", answer.text());
        let name = spec["name"].as_str().unwrap_or_default();
        self.wait_state(name, "ready").await;
    }

    /// Waits for an agent's state.
    pub async fn wait_state(&self, name: &str, state: &str) -> Value {
        eventually(&format!("{name} being {state}"), async || {
            let agent = self.agent(name).await;
            (agent["state"] == state).then_some(agent)
        })
        .await
    }

    /// An agent as the API shows it.
    pub async fn agent(&self, name: &str) -> Value {
        self.client
            .get(&format!("/api/v1/agents/{name}"))
            .await
            .json()
    }

    /// A call as the API shows it.
    pub async fn call(&self, id: &str) -> Value {
        self.client.get(&format!("/api/v1/calls/{id}")).await.json()
    }

    /// Waits until a call is in a state.
    pub async fn wait_call(&self, id: &str, state: &str) -> Value {
        eventually(&format!("{id} being {state}"), async || {
            let call = self.call(id).await;
            (call["state"] == state).then_some(call)
        })
        .await
    }

    /// A request to an agent.
    pub async fn post(&self, agent: &str, path: &str, body: &str) -> Answer {
        self.client
            .post(&format!("/agents/{agent}{path}"), body.to_owned())
            .await
    }

    /// The folder that an agent has for its own.
    ///
    /// # Panics
    /// When there is none.
    #[must_use]
    pub fn home(&self, agent: &str) -> PathBuf {
        let agents = self.data().join("agents/default").join(agent).join("home");
        assert!(agents.is_dir(), "{} is not there", agents.display());
        agents
    }

    /// The lines that an agent wrote down of what it did: key and body.
    #[must_use]
    pub fn executed(&self, agent: &str) -> Vec<(String, String)> {
        executed(&self.home(agent))
    }

    /// SIGKILL to an agent's process; false when none runs.
    pub async fn kill_agent(&self, name: &str) -> bool {
        let agent = self.agent(name).await;
        match agent["instance"]["pid"]
            .as_u64()
            .and_then(|pid| u32::try_from(pid).ok())
        {
            Some(pid) => {
                kill(pid);
                true
            }
            None => false,
        }
    }

    /// What the server wrote to its log so far.
    #[must_use]
    pub fn log(&self) -> String {
        fs::read_to_string(self.folder.path().join("skep.log")).unwrap_or_default()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if self.child.try_wait().ok().flatten().is_none() {
            // One that stands still would not hear it.
            self.resume();
            signal(self.pid(), Signal::TERM);
            let _ = self.child.wait();
        }
    }
}

fn signal(pid: u32, signal: Signal) {
    if let Some(pid) = i32::try_from(pid).ok().and_then(Pid::from_raw) {
        // It may be gone already.
        let _ = kill_process(pid, signal);
    }
}

/// SIGKILL to a process.
pub fn kill(pid: u32) {
    signal(pid, Signal::KILL);
}

fn spawn(folder: &Path, setup: &Setup) -> Child {
    let log = fs::OpenOptions::new()
        .append(true)
        .create(true)
        .open(folder.join("skep.log"))
        .expect("a log file");
    // What a dead server left must not be taken for the new one's.
    let _ = fs::remove_file(folder.join("data/server.json"));
    let binary = skep_binary().display().to_string();
    let mut words = setup.wrapper.clone();
    words.push(binary);
    let listen = setup.listen.as_deref().unwrap_or("127.0.0.1:0");
    let mut command = Command::new(&words[0]);
    command
        .args(&words[1..])
        .args(["up", "--listen", listen, "--data"])
        .arg(folder.join("data"))
        .current_dir(folder)
        .env_clear()
        .env("PATH", std::env::var_os("PATH").unwrap_or_default())
        .env("HOME", folder)
        .env("SKEP_LOG_LEVEL", "info")
        .env("SKEP_SHUTDOWN_DRAIN", "3s")
        .envs(setup.env.iter().map(|(name, value)| (name, value)))
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(log);
    command.spawn().expect("the server runs")
}

async fn reach(folder: &Path, setup: &Setup) -> Client {
    let data = folder.join("data");
    let started = Instant::now();
    let mut tick = tokio::time::interval(LOOK);
    loop {
        tick.tick().await;
        let document = fs::read_to_string(data.join("server.json")).unwrap_or_default();
        let document: Value = serde_json::from_str(&document).unwrap_or(Value::Null);
        if let Some(url) = document["url"].as_str() {
            let made = || fs::read_to_string(data.join("admin.key")).expect("the admin key");
            let key = setup.key.clone().unwrap_or_else(made);
            return Client::new(url, key.trim());
        }
        let log = || fs::read_to_string(folder.join("skep.log")).unwrap_or_default();
        assert!(
            started.elapsed() < PATIENCE,
            "the server does not come up: {}",
            log()
        );
    }
}
