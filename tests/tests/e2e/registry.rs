//! Images from a real registry: by tag and digest, with every policy, with logins, and with a registry
//! that is away, slow or breaks. Whatever happens to a pull, the revision that runs goes on.

use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde_json::{Value, json};
use skep_tests::registry::{PASSWORD, USER};
use skep_tests::{Passing, Registry, Server, Setup, Way, eventually};
use tempfile::TempDir;

use crate::docker::{Image, Traces, docker};

/// Bytes of a layer that get through before its connection breaks or stalls.
const PART: usize = 256 << 10;

/// What the Docker CLI keeps of logins, in a folder of the test's own.
struct Logins(TempDir);

impl Logins {
    fn new() -> Self {
        Self(TempDir::new().expect("a folder"))
    }

    fn file(&self) -> PathBuf {
        self.0.path().join("config.json")
    }

    fn write(&self, text: &str) {
        std::fs::write(self.file(), text).expect("a file");
        std::fs::set_permissions(self.file(), std::fs::Permissions::from_mode(0o600))
            .expect("a mode");
    }

    /// `docker login`, as an owner does it.
    fn log_in(&self, host: &str) {
        let mut login = Command::new("docker")
            .arg("--config")
            .arg(self.0.path())
            .args(["login", "--username", USER, "--password-stdin", host])
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("docker runs");
        let mut input = login.stdin.take().expect("a pipe");
        input.write_all(PASSWORD.as_bytes()).expect("it is read");
        drop(input);
        assert!(login.wait().expect("docker ends").success());
    }

    /// Forgets all of them.
    fn log_out(&self) {
        self.write("{}");
    }
}

/// An image in a registry. What the engine has of it is removed with it.
struct Published {
    reference: String,
    digest: String,
}

impl Published {
    fn new(name: &str, host: &str, logins: &Logins) -> Self {
        let image = Image::unique(name);
        let reference = format!("{host}/tests/{name}:1");
        docker(&["tag", &image.0, &reference]);
        let config = logins.0.path().display().to_string();
        docker(&["--config", &config, "push", "--quiet", &reference]);
        let inspected = docker(&["inspect", "-f", "{{index .RepoDigests 0}}", &reference]);
        let (_, digest) = inspected.split_once('@').expect("a digest");
        let digest = digest.to_owned();
        let published = Self { reference, digest };
        published.forget();
        published
    }

    /// The reference with another tag.
    fn tag(&self, tag: &str) -> String {
        let (name, _) = self.reference.rsplit_once(':').expect("a tag");
        format!("{name}:{tag}")
    }

    /// The reference by digest.
    fn by_digest(&self, digest: &str) -> String {
        let (name, _) = self.reference.rsplit_once(':').expect("a tag");
        format!("{name}@{digest}")
    }

    /// The engine forgets it. Containers of it go on.
    fn forget(&self) {
        let id = Command::new("docker")
            .args(["image", "inspect", "-f", "{{.Id}}", &self.reference])
            .output()
            .expect("docker runs");
        let id = String::from_utf8_lossy(&id.stdout).trim().to_owned();
        for name in [&self.reference, &self.by_digest(&self.digest), &id] {
            let mut remove = Command::new("docker");
            let remove = remove.args(["rmi", "-f", name]).stdout(Stdio::null());
            let _ = remove.stderr(Stdio::null()).status();
        }
    }
}

impl Drop for Published {
    fn drop(&mut self) {
        self.forget();
    }
}

fn spec(reference: &str, pull: &str, number: u32) -> Value {
    json!({
        "name": "a", "driver": "docker", "image": reference, "pull": pull,
        "env": { "NUMBER": number.to_string() },
        "restart": { "backoff": "50ms", "max_backoff": "200ms" },
    })
}

async fn deploy(server: &Server, spec: &Value) -> (u16, String) {
    let answer = server.client.post_json("/api/v1/agents", spec).await;
    (answer.status, answer.text())
}

/// Deploys what must be refused with these words, and looks whether what ran still serves.
async fn refused(server: &Server, spec: &Value, status: u16, words: &[&str]) -> String {
    let (got, text) = deploy(server, spec).await;
    assert_eq!(got, status, "{text}");
    for word in words {
        assert!(text.contains(word), "no `{word}`: {text}");
    }
    text
}

async fn serves(server: &Server) {
    assert_eq!(server.post("a", "/work", "x").await.status, 200);
}

/// Waits until a revision runs alone.
async fn settled(server: &Server, revision: u64) -> Value {
    eventually(&format!("revision {revision}"), async || {
        serves(server).await;
        let agent = server.agent("a").await;
        let instances = agent["instances"].as_array().cloned().unwrap_or_default();
        let whole = instances.len() == 1
            && instances[0]["revision"] == revision
            && instances[0]["state"] == "ready";
        whole.then_some(agent)
    })
    .await
}

/// Waits until a new copy waits for this reason, while the old one serves.
async fn waits(server: &Server, words: &[&str]) -> String {
    eventually(&format!("{words:?}"), async || {
        serves(server).await;
        let agent = server.agent("a").await;
        assert_ne!(agent["rollout"]["state"], "rolled_back", "{agent}");
        let text = agent.to_string();
        words.iter().all(|word| text.contains(word)).then_some(text)
    })
    .await
}

async fn events(server: &Server, kind: &str) -> Vec<String> {
    let path = format!("/api/v1/events?limit=100&type={kind}");
    let page = server.client.get(&path).await.json();
    let all = page["items"].as_array().cloned().unwrap_or_default();
    let detail = |event: &Value| event["detail"].as_str().unwrap_or_default().to_owned();
    all.iter().map(detail).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn images_come_by_tag_and_by_digest_with_each_policy() {
    let (mut registry, logins) = (Registry::open(), Logins::new());
    let image = Published::new("policies", &registry.host(), &logins);
    let server = Server::start().await;
    let _traces = Traces(server.data());
    let by_tag = image.reference.as_str();

    refused(
        &server,
        &spec(by_tag, "never", 1),
        422,
        &["docker pull", "`pull` is `never`"],
    )
    .await;
    server.deploy_spec(spec(by_tag, "missing", 1)).await;
    settled(&server, 1).await;
    assert_eq!(
        events(&server, "image.pulling").await,
        [format!("pulling {by_tag}")]
    );
    let pulled = events(&server, "image.pulled").await;
    assert!(pulled[0].contains(&image.digest), "{pulled:?}");
    // It is here now: nobody is asked.
    assert_eq!(deploy(&server, &spec(by_tag, "never", 2)).await.0, 200);
    settled(&server, 2).await;
    assert_eq!(deploy(&server, &spec(by_tag, "missing", 3)).await.0, 200);
    settled(&server, 3).await;
    assert_eq!(events(&server, "image.pulled").await.len(), 1);
    let exact = image.by_digest(&image.digest);
    assert_eq!(deploy(&server, &spec(&exact, "always", 4)).await.0, 200);
    settled(&server, 4).await;
    assert_eq!(events(&server, "image.pulled").await.len(), 2);

    let wrong = image.by_digest(&format!("sha256:{}", "1".repeat(64)));
    for reference in [&wrong, &image.tag("2")] {
        let wanted = ["manifest unknown", "check the reference"];
        refused(&server, &spec(reference, "missing", 5), 422, &wanted).await;
    }
    registry.kill();
    let away = [
        "driver-unavailable",
        "does not answer as it should",
        "docker load",
    ];
    refused(&server, &spec(by_tag, "always", 5), 503, &away).await;
    settled(&server, 4).await;

    // A new start needs the registry: it waits for it, and the old one stays.
    server.client.post("/api/v1/agents/a/restart", "").await;
    waits(&server, &["\"backoff\"", "connection refused"]).await;
    registry.restart();
    eventually("the pull", async || {
        serves(&server).await;
        (events(&server, "image.pulled").await.len() == 3).then_some(())
    })
    .await;
    settled(&server, 4).await;
    let log = server.client.get("/api/v1/agents/a/logs").await.text();
    assert!(log.contains("pulling"), "{log}");
}

fn with_credentials(file: &Path, path: Option<&Path>) -> Setup {
    let mut env = vec![(
        "SKEP_DOCKER_CREDENTIALS".to_owned(),
        file.display().to_string(),
    )];
    if let Some(path) = path {
        let inherited = std::env::var("PATH").unwrap_or_default();
        env.push(("PATH".to_owned(), format!("{}:{inherited}", path.display())));
    }
    Setup {
        env,
        ..Setup::default()
    }
}

/// Whether a text stands in a file below a folder.
fn holds(folder: &Path, text: &str) -> bool {
    let mut grep = Command::new("grep");
    let grep = grep.args(["-rqF", "--", text]).arg(folder);
    grep.status().is_ok_and(|status| status.success())
}

/// Looks where a login must not be: logs, the store, what is told of the agent and its container.
async fn nothing_holds_a_secret(server: &Server, traces: &Traces, agent: &Value) {
    // The old copy's container may be on its way out.
    let container = eventually("one container", async || {
        let mut all = traces.containers();
        all.pop().filter(|_| all.is_empty())
    })
    .await;
    let container = docker(&["inspect", &container]);
    for secret in [PASSWORD, "czNjcmV0", "YmVlOn"] {
        assert!(!server.log().contains(secret), "{secret}");
        assert!(!agent.to_string().contains(secret), "{secret}");
        assert!(!holds(&server.data(), secret), "{secret}");
        assert!(!container.contains(secret), "{secret}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_login_is_read_at_each_pull_and_shown_to_its_registry_alone() {
    let (registry, other, logins) = (Registry::locked(), Registry::locked(), Logins::new());
    let elsewhere = Way::to(other.host()).await;
    for host in [registry.host(), other.host()] {
        logins.log_in(&host);
    }
    let image = Published::new("login", &registry.host(), &logins);
    let host = registry.host();
    logins.log_out();
    let (mut server, reference) = (Server::start().await, &image.reference);
    let traces = Traces(server.data());
    let wanted = ["wants a login", "docker.credentials", "docker login"];
    refused(&server, &spec(reference, "missing", 1), 422, &wanted).await;
    assert!(server.terminate());
    server
        .restart_with(with_credentials(&logins.file(), None))
        .await;
    let wanted = [
        "wants a login",
        "add a login",
        &format!("docker login {host}"),
    ];
    refused(&server, &spec(reference, "missing", 1), 422, &wanted).await;

    // No restart for a new login.
    logins.log_in(&host);
    server.deploy_spec(spec(reference, "always", 1)).await;
    settled(&server, 1).await;
    // What it reaches that is another's registry does not see it, not even at another port.
    let strange = format!("{}/tests/login:1", elsewhere.host());
    refused(
        &server,
        &spec(&strange, "missing", 2),
        422,
        &["wants a login"],
    )
    .await;
    let heard = elsewhere.heard().to_lowercase();
    assert!(
        heard.contains("get /v2/") && !heard.contains("authorization"),
        "{heard}"
    );

    // One that is refused later: the agent waits for a better one, and the old copy serves.
    let auth = r#"{"auths": {"HOST": {"auth": "YmVlOndyb25n"}}}"#.replace("HOST", &host);
    logins.write(&auth);
    let wanted = ["refused the login", "log in again"];
    refused(&server, &spec(reference, "always", 2), 422, &wanted).await;
    server.client.post("/api/v1/agents/a/restart", "").await;
    waits(
        &server,
        &["\"backoff\"", "refused the login", "log in again"],
    )
    .await;
    std::fs::set_permissions(logins.file(), std::fs::Permissions::from_mode(0o644))
        .expect("a mode");
    waits(&server, &["\"backoff\"", "chmod 600"]).await;
    logins.write("{}");
    logins.log_in(&host);
    eventually("the second pull", async || {
        serves(&server).await;
        (events(&server, "image.pulled").await.len() == 2).then_some(())
    })
    .await;
    let agent = settled(&server, 1).await;
    nothing_holds_a_secret(&server, &traces, &agent).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_login_comes_from_a_helper() {
    let (registry, logins, programs) = (Registry::locked(), Logins::new(), Logins::new());
    logins.log_in(&registry.host());
    let image = Published::new("helper", &registry.host(), &logins);
    let host = registry.host();
    let helper = |name: &str, script: String| {
        let path = programs.0.path().join(format!("docker-credential-{name}"));
        std::fs::write(&path, format!("#!/bin/sh\n{script}\n")).expect("a file");
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).expect("a mode");
    };
    let answer = json!({ "ServerURL": host, "Username": USER, "Secret": PASSWORD });
    let asked = programs.0.path().join("asked");
    // It sees what it is asked for, and nothing of Skep's.
    helper(
        "well",
        format!(
            "(echo $1; cat; env | grep ^SKEP_) > {}; echo '{answer}'",
            asked.display()
        ),
    );
    helper(
        "none",
        "echo credentials not found in native keychain; exit 1".to_owned(),
    );
    helper("bad", format!("echo {PASSWORD:?}; exit 1"));
    let setup = with_credentials(&logins.file(), Some(programs.0.path()));
    let server = Server::start_with(setup).await;
    let _traces = Traces(server.data());
    let wanted = spec(&image.reference, "missing", 1);
    logins.write(r#"{"credsStore": "none"}"#);
    refused(&server, &wanted, 422, &["wants a login"]).await;
    logins.write(r#"{"credsStore": "bad"}"#);
    let text = refused(&server, &wanted, 503, &["docker-credential-bad failed"]).await;
    assert!(!text.contains(PASSWORD) && !server.log().contains(PASSWORD));
    let helpers = json!({ "credsStore": "bad", "credHelpers": { host.as_str(): "well" } });
    logins.write(&helpers.to_string());
    server.deploy_spec(wanted).await;
    settled(&server, 1).await;
    let asked = std::fs::read_to_string(asked).expect("it was asked");
    assert_eq!(asked, format!("get\n{host}"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_pull_that_breaks_is_tried_again_and_the_old_revision_serves() {
    let (registry, logins) = (Registry::open(), Logins::new());
    let way = Way::to(registry.host()).await;
    let first = Published::new("before", &way.host(), &logins);
    let server = Server::start().await;
    let _traces = Traces(server.data());
    server
        .deploy_spec(spec(&first.reference, "missing", 1))
        .await;
    let second = Published::new("after", &way.host(), &logins);
    // The manifest gets through, the layer's connections break in the middle.
    way.set(Passing::CutAfter(PART));
    assert_eq!(
        deploy(&server, &spec(&second.reference, "missing", 2))
            .await
            .0,
        200
    );
    waits(&server, &[&format!("pulling {}", second.reference)]).await;
    eventually("a second try", async || {
        serves(&server).await;
        (way.heard().matches("/blobs/").count() >= 4).then_some(())
    })
    .await;
    way.set(Passing::All);
    settled(&server, 2).await;

    // The registry lost what it says that it has: an error of the pull, not of the check.
    let third = Published::new("third", &way.host(), &logins);
    first.forget();
    let layer = registry.layer(&third.digest);
    let kept = layer.with_extension("kept");
    std::fs::rename(&layer, &kept).expect("a layer");
    assert_eq!(
        deploy(&server, &spec(&third.reference, "missing", 3))
            .await
            .0,
        200
    );
    waits(&server, &["\"backoff\"", "is not here", "docker load"]).await;
    std::fs::rename(&kept, &layer).expect("a layer");
    settled(&server, 3).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_pull_that_stalls_holds_nobody_up() {
    let (registry, logins) = (Registry::open(), Logins::new());
    let way = Way::to(registry.host()).await;
    let image = Published::new("stalls", &way.host(), &logins);
    let mut server = Server::start().await;
    let _traces = Traces(server.data());
    way.set(Passing::StallAfter(PART));
    let stalled = spec(&image.reference, "missing", 1);
    // More than may start at the same time: a pull is not a start.
    for number in 0..20 {
        let mut one = stalled.clone();
        one["name"] = json!(format!("a{number}"));
        assert_eq!(deploy(&server, &one).await.0, 201);
    }
    eventually("pulls", async || {
        (!events(&server, "image.pulling").await.is_empty()).then_some(())
    })
    .await;
    server.deploy("b", json!({})).await;
    assert_eq!(server.post("b", "/work", "x").await.status, 200);
    // Who is not wanted any more does not wait for the registry.
    for number in 0..20 {
        let path = format!("/api/v1/agents/a{number}/stop");
        assert_eq!(server.client.post(&path, "").await.status, 200);
        server.wait_state(&format!("a{number}"), "stopped").await;
    }
    // Nor does a server that ends, and the next one begins anew.
    assert_eq!(deploy(&server, &stalled).await.0, 201);
    eventually("a pull", async || {
        let agent = server.agent("a").await.to_string();
        agent.contains("pulling").then_some(())
    })
    .await;
    server.kill();
    way.set(Passing::All);
    server.restart().await;
    server.wait_state("a", "ready").await;
    serves(&server).await;
}
