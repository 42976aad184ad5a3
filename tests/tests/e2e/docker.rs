//! Agents in containers, through the whole server: called, killed, adopted, and without an engine.
//! They need Docker Engine (`cargo xtask set-up` starts it) and fail without one.

use std::collections::BTreeSet;
use std::io::Write;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use http::{HeaderValue, Method};
use serde_json::{Value, json};
use skep_tests::{Answer, Server, Setup, agent_binary, eventually};
use tempfile::TempDir;

const SOCKET: &str = "/var/run/docker.sock";

pub(crate) fn docker(arguments: &[&str]) -> String {
    let output = Command::new("docker").args(arguments).output();
    let output = output.expect("docker runs");
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "docker {arguments:?}: {error}");
    String::from_utf8_lossy(&output.stdout).trim().to_owned()
}

/// An image with the tests' agent and the libraries that it needs; removed at the end.
pub(crate) struct Image(pub(crate) String);

impl Image {
    pub(crate) fn new(name: &str) -> Self {
        Self::with(name, &[], &[])
    }

    /// One of which the engine has no layer yet: there is random content in it.
    pub(crate) fn unique(name: &str) -> Self {
        let folder = TempDir::new().expect("a folder");
        let noise: Vec<u8> = std::iter::repeat_with(|| fastrand::u8(..))
            .take(1 << 20)
            .collect();
        let file = folder.path().join("noise");
        std::fs::write(&file, noise).expect("a file");
        Self::with(name, &[file], &[])
    }

    /// One with programs of this machine beside the agent.
    pub(crate) fn with_programs(name: &str, programs: &[&str]) -> Self {
        let files: Vec<PathBuf> = programs.iter().map(PathBuf::from).collect();
        Self::with(name, &files, programs)
    }

    fn with(name: &str, files: &[PathBuf], programs: &[&str]) -> Self {
        let agent = agent_binary();
        let mut ldd = Command::new("ldd");
        let libraries = ldd.arg(&agent).args(programs).output().expect("ldd runs");
        let libraries = String::from_utf8_lossy(&libraries.stdout).into_owned();
        // Each once: two of a name would be one that links to itself.
        let libraries: BTreeSet<&str> = libraries
            .split_whitespace()
            .filter(|word| word.starts_with('/') && !word.ends_with(':'))
            .collect();
        let mut tar = Command::new("tar");
        tar.args(["-ch", "--transform", "s,.*/skep-test-agent,bin/agent,"])
            .arg(&agent)
            .args(libraries)
            .args(files)
            .stderr(Stdio::null());
        let archive = tar.output().expect("tar runs").stdout;
        let reference = format!("skep-e2e-{name}:{:08x}", fastrand::u32(..));
        let mut import = Command::new("docker")
            .args([
                "import",
                "--change",
                "CMD [\"/bin/agent\"]",
                "-",
                &reference,
            ])
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .spawn()
            .expect("docker runs");
        let mut input = import.stdin.take().expect("a pipe");
        input.write_all(&archive).expect("the archive is taken");
        drop(input);
        assert!(import.wait().expect("docker ends").success());
        Self(reference)
    }

    pub(crate) fn spec(&self, name: &str) -> Value {
        json!({
            "name": name, "driver": "docker", "image": self.0, "pull": "never",
            "restart": { "max_backoff": "500ms" },
        })
    }
}

impl Drop for Image {
    fn drop(&mut self) {
        let mut remove = Command::new("docker");
        let remove = remove.args(["rmi", "-f", &self.0]);
        let _ = remove.stdout(Stdio::null()).stderr(Stdio::null()).status();
    }
}

/// What the server's data folder is at the engine; removed at the end, also when the test fails.
pub(crate) struct Traces(pub(crate) PathBuf);

impl Traces {
    fn id(&self) -> String {
        std::fs::read_to_string(self.0.join("docker.id")).unwrap_or_default()
    }

    pub(crate) fn containers(&self) -> Vec<String> {
        let label = format!("label=skep.data-folder={}", self.id());
        let names = docker(&["ps", "-a", "--filter", &label, "--format", "{{.Names}}"]);
        names.lines().map(str::to_owned).collect()
    }

    /// SIGKILL through the engine to one of an agent's containers; false when none runs.
    pub(crate) fn kill_one(&self, agent: &str) -> bool {
        let ours = format!("label=skep.data-folder={}", self.id());
        let its = format!("label=skep.agent={agent}");
        let names = docker(&[
            "ps",
            "--filter",
            &ours,
            "--filter",
            &its,
            "--format",
            "{{.Names}}",
        ]);
        let names: Vec<&str> = names.lines().collect();
        // It may have ended since: then it was not killed by us.
        !names.is_empty() && {
            let name = names[fastrand::usize(0..names.len())];
            let mut kill = Command::new("docker");
            let kill = kill.args(["kill", name]).stdout(Stdio::null());
            kill.stderr(Stdio::null())
                .status()
                .is_ok_and(|status| status.success())
        }
    }
}

impl Drop for Traces {
    fn drop(&mut self) {
        let id = self.id();
        let line = format!(
            "docker ps -aq --filter label=skep.data-folder={id} | xargs -r docker rm -fv
             docker network rm skep-{id}
             iptables -S INPUT | grep -e '-i skep-{id} ' | sed 's/^-A/-D/' | xargs -rL1 iptables"
        );
        let mut clean = Command::new("sh");
        let clean = clean.args(["-c", &line]);
        let _ = clean.stdout(Stdio::null()).stderr(Stdio::null()).status();
    }
}

/// A request whose answer need not be waited for.
async fn send(server: &Server, method: Method, path: &str) -> Answer {
    let mut request = server.client.request(method, path, "");
    let respond_async = HeaderValue::from_static("respond-async");
    request.headers_mut().insert("prefer", respond_async);
    server.client.send(request).await.expect("an answer")
}

async fn check(server: &Server, name: &str) -> Value {
    let health = server.client.get("/api/v1/health/detailed").await.json();
    let checks = health["checks"].as_array().cloned().unwrap_or_default();
    let found = checks.into_iter().find(|check| check["name"] == name);
    found.expect("the check")
}

#[tokio::test]
async fn a_container_is_called_killed_and_adopted() {
    let image = Image::new("adopted");
    let mut server = Server::start().await;
    let traces = Traces(server.data());
    server.deploy_spec(image.spec("a")).await;
    let answer = server.post("a", "/work", "hello").await;
    assert_eq!((answer.status, answer.text()), (200, "hello".to_owned()));
    assert_eq!(
        server.executed("a").len(),
        1,
        "its home is in the data folder"
    );
    let docker_check = check(&server, "driver:docker").await;
    assert_ne!(docker_check["detail"], "no agent needs it");

    let call = send(&server, Method::POST, "/agents/a/steps?n=1")
        .await
        .call();
    server.wait_call(&call, "running").await;
    let first = server.agent("a").await["instance"]["id"].clone();
    let killed = traces.containers();
    assert_eq!(killed.len(), 1, "{killed:?}");
    docker(&["kill", &killed[0]]);
    // An attempt may still go to the dead container before the engine tells of its end.
    let agent = eventually("another container", async || {
        let agent = server.agent("a").await;
        let ready = agent["state"] == "ready" && agent["instance"]["id"] != first;
        ready.then_some(agent)
    })
    .await;
    let id = agent["instance"]["id"].clone();
    let attempts = eventually("an attempt that runs", async || {
        let call = server.call(&call).await;
        let ended = call["history"].as_array().map(Vec::len)?;
        let attempts = call["attempts"].as_u64()?;
        (call["state"] == "running" && attempts > ended as u64).then_some(attempts)
    })
    .await;

    server.kill();
    assert_eq!(traces.containers().len(), 1, "it outlives the server");
    server.restart().await;
    eventually("the next attempt", async || {
        (server.call(&call).await["attempts"].as_u64() > Some(attempts)).then_some(())
    })
    .await;
    let adopted = server.agent("a").await;
    assert_eq!(adopted["instance"]["id"], id);
    std::fs::write(server.home("a").join("step-1"), "").expect("a step");
    server.wait_call(&call, "succeeded").await;

    assert!(server.terminate(), "{}", server.log());
    assert_eq!(traces.containers(), [] as [&str; 0], "nothing is left");
}

#[tokio::test]
async fn without_an_engine_the_server_runs_and_says_what_to_do() {
    let nowhere = (
        "SKEP_DOCKER_SOCKET".to_owned(),
        "/nowhere/docker.sock".to_owned(),
    );
    let setup = Setup {
        env: vec![nowhere],
        ..Setup::default()
    };
    let server = Server::start_with(setup).await;
    let spec = json!({ "name": "a", "driver": "docker", "image": "a" });
    let refused = server.client.post_json("/api/v1/agents", &spec).await;
    assert_eq!(
        (refused.status, refused.code()),
        (503, "driver-unavailable".to_owned())
    );
    assert!(refused.text().contains("install it"), "{}", refused.text());
    server.deploy("b", json!({})).await;
    let answer = server.post("b", "/work", "hello").await;
    assert_eq!(answer.status, 200);
    let health = server.client.get("/api/v1/health/detailed").await.json();
    assert_eq!(health["status"], "ok", "nobody needs the engine: {health}");
    let logs = server.client.get("/api/v1/agents/b/logs").await;
    assert_eq!(logs.status, 200);
    let removed = send(&server, Method::DELETE, "/api/v1/agents/b").await;
    assert!(removed.status < 300, "{}", removed.text());
}

#[tokio::test]
async fn an_agent_waits_for_its_engine_and_comes_back() {
    let image = Image::new("waits");
    let folder = TempDir::new().expect("a folder");
    let socket = folder.path().join("docker.sock");
    let connect = || symlink(Path::new(SOCKET), &socket).expect("a link");
    connect();
    let setup = Setup {
        env: vec![(
            "SKEP_DOCKER_SOCKET".to_owned(),
            socket.display().to_string(),
        )],
        ..Setup::default()
    };
    let mut server = Server::start_with(setup.clone()).await;
    let traces = Traces(server.data());
    server.deploy_spec(image.spec("a")).await;
    server.kill();
    // The engine goes away, and its containers with it.
    std::fs::remove_file(&socket).expect("a link");
    let containers = traces.containers();
    docker(&["kill", &containers[0]]);
    server.restart_with(setup).await;
    let waits = server.wait_state("a", "backoff").await;
    let reason = waits["reason"].as_str().unwrap_or_default();
    assert!(reason.contains("no Docker Engine"), "{waits}");
    let health = check(&server, "driver:docker").await;
    assert_eq!(health["status"], "degraded");
    // More often than a crash loop takes.
    eventually("many tries", async || {
        let agent = server.agent("a").await;
        assert_ne!(agent["state"], "crash_loop", "{agent}");
        (agent["restarts"].as_u64() > Some(7)).then_some(())
    })
    .await;
    connect();
    server.wait_state("a", "ready").await;
    let answer = server.post("a", "/work", "hello").await;
    assert_eq!(answer.status, 200);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_container_is_looked_into() {
    let image = Image::new("inside");
    let server = Server::start().await;
    let _traces = Traces(server.data());
    server.deploy_spec(image.spec("a")).await;
    server.post("a", "/work", "hello").await;
    let stats = server.client.get("/api/v1/agents/a/stats").await.json();
    let one = &stats["instances"][0];
    assert!(one["memory_bytes"].as_u64() > Some(100 << 10), "{stats}");
    assert!(
        one["received_bytes"].as_u64() > Some(0),
        "it has a network of its own: {stats}"
    );
    assert!(one["cpu_percent"].as_f64().is_some(), "{stats}");

    // There is one program in it: the agent itself, which does not start without a port.
    let inside = crate::cli::skep(&server, &["exec", "a", "--", "/bin/agent"]);
    assert_ne!(inside.code, Some(0));
    assert!(
        inside.err.contains("in use"),
        "it has the agent's port: {}",
        inside.err
    );
    let missing = crate::cli::skep(&server, &["exec", "a", "--", "/bin/nosuch"]);
    assert!(
        matches!(missing.code, Some(126..=127)),
        "{:?}: {}",
        missing.code,
        missing.err
    );
    let events = server
        .client
        .get("/api/v1/events?type=exec.started")
        .await
        .json();
    assert_eq!(
        events["items"].as_array().map(Vec::len),
        Some(2),
        "{events}"
    );
}
