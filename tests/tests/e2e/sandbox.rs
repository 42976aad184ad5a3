//! What a hostile agent tries fails in the default sandbox, and only there: each attack is also
//! tried without one, where it must succeed, so that a test that cannot fail is noticed.

use std::fs;
use std::net::TcpListener;
use std::os::unix::net::UnixListener;

use serde_json::{Value, json};
use skep_tests::{Server, agent_binary, eventually};
use tempfile::TempDir;

/// Deploys the test agent in a sandbox.
async fn deploy(server: &Server, name: &str, more: Value) {
    let mut spec = json!({ "name": name, "command": [agent_binary()] });
    let (Some(spec), Value::Object(more)) = (spec.as_object_mut(), more) else {
        return;
    };
    spec.extend(more);
    server.deploy_spec(Value::Object(spec.clone())).await;
}

async fn attempt(server: &Server, agent: &str, what: &str) -> String {
    server
        .client
        .get(&format!("/agents/{agent}/try/{what}"))
        .await
        .text()
}

/// Two agents, one of them without a sandbox.
async fn both(more: Value) -> Server {
    let server = Server::start().await;
    deploy(&server, "boxed", more).await;
    deploy(&server, "free", json!({ "sandbox": "off" })).await;
    server
}

/// The attack fails in the sandbox and succeeds without.
async fn only_without(server: &Server, what: &str) {
    let boxed = attempt(server, "boxed", what).await;
    assert!(boxed.starts_with("refused"), "{what}: {boxed}");
    let free = attempt(server, "free", what).await;
    assert!(
        free.starts_with("done"),
        "without a sandbox, {what}: {free}"
    );
}

async fn may(server: &Server, agent: &str, what: &str) {
    let got = attempt(server, agent, what).await;
    assert!(got.starts_with("done"), "{what}: {got}");
}

/// Whether this user may look into its own processes at all.
fn may_trace() -> bool {
    let scope = fs::read_to_string("/proc/sys/kernel/yama/ptrace_scope");
    scope.is_ok_and(|scope| scope.trim() == "0")
        || fs::metadata("/proc/sys/kernel/yama").is_err()
        || rustix::process::geteuid().is_root()
}

#[tokio::test]
async fn files_of_others_are_closed() {
    let server = both(json!({})).await;
    let secret = server.home("free").join("secret");
    fs::write(&secret, "x").expect("a file");
    let (data, home) = (server.data(), server.home("boxed"));
    let foreign = TempDir::new().expect("a folder");
    fs::write(foreign.path().join("file"), "x").expect("a file");
    for what in [
        format!("read?path={}", data.join("admin.key").display()),
        format!("read?path={}", secret.display()),
        format!("write?path={}", secret.display()),
        format!("list?path={}", server.home("free").display()),
        format!("list?path={}", data.display()),
        format!("read?path={}/file", foreign.path().display()),
        format!("write?path={}/new", foreign.path().display()),
        "read?path=/etc/fstab".to_owned(),
    ] {
        only_without(&server, &what).await;
    }
    for what in [
        format!("write?path={}/mine", home.display()),
        format!("read?path={}/mine", home.display()),
        "rename".to_owned(),
        "read?path=/etc/passwd".to_owned(),
        "read?path=/proc/self/status".to_owned(),
        "write?path=/dev/null".to_owned(),
    ] {
        may(&server, "boxed", &what).await;
    }
}

#[tokio::test]
async fn a_data_folder_within_the_agents_folder_stays_closed() {
    let server = Server::start().await;
    let above = server.data().parent().expect("a folder").to_owned();
    fs::write(above.join("code"), "x").expect("a file");
    deploy(&server, "boxed", json!({ "workdir": above })).await;
    may(
        &server,
        "boxed",
        &format!("read?path={}/code", above.display()),
    )
    .await;
    let key = format!("read?path={}", server.data().join("admin.key").display());
    let got = attempt(&server, "boxed", &key).await;
    assert!(got.starts_with("refused"), "{got}");
    let spec = json!({ "name": "b", "command": [agent_binary()], "workdir": server.data() });
    let answer = server.client.post_json("/api/v1/agents", &spec).await;
    assert_eq!(answer.status, 422, "{}", answer.text());
    assert!(answer.text().contains("workdir"), "{}", answer.text());
}

#[tokio::test]
async fn volumes_are_what_is_asked_for() {
    let (read, write) = (
        TempDir::new().expect("a folder"),
        TempDir::new().expect("a folder"),
    );
    fs::write(read.path().join("file"), "x").expect("a file");
    let server = both(json!({ "volumes": [
        { "source": read.path(), "read_only": true },
        { "source": write.path() },
        { "source": "my-notes" },
    ] }))
    .await;
    may(
        &server,
        "boxed",
        &format!("read?path={}/file", read.path().display()),
    )
    .await;
    may(
        &server,
        "boxed",
        &format!("write?path={}/new", write.path().display()),
    )
    .await;
    only_without(
        &server,
        &format!("write?path={}/file", read.path().display()),
    )
    .await;
    let named = server.data().join("volumes/default/my-notes");
    may(
        &server,
        "boxed",
        &format!("write?path={}/new", named.display()),
    )
    .await;
    let pid = server.agent("boxed").await["instance"]["pid"].clone();
    let environment = fs::read(format!("/proc/{pid}/environ")).expect("the environment");
    let told = format!("SKEP_VOLUME_MY_NOTES={}", named.display());
    assert!(String::from_utf8_lossy(&environment).contains(&told));
}

#[tokio::test]
async fn other_agents_are_not_reached() {
    let server = both(json!({})).await;
    deploy(&server, "victim", json!({})).await;
    let port = server.agent("victim").await["instance"]["port"].clone();
    for what in [
        format!("connect?port={port}"),
        format!("multipath?port={port}"),
        "bind?port=19321".to_owned(),
    ] {
        only_without(&server, &what).await;
    }
    let own = server.agent("boxed").await["instance"]["port"].clone();
    let (_, skep) = server.client.url.rsplit_once(':').expect("a port");
    for what in [
        format!("connect?port={own}"),
        format!("connect?port={skep}"),
        "bind?port=0".to_owned(),
    ] {
        may(&server, "boxed", &what).await;
    }
    // What is named can be reached.
    let other = TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = other.local_addr().expect("a port").port();
    only_without(&server, &format!("connect?port={port}")).await;
    deploy(&server, "boxed", json!({ "connect": [port.to_string()] })).await;
    eventually("the new revision", async || {
        let got = attempt(&server, "boxed", &format!("connect?port={port}")).await;
        got.starts_with("done").then_some(())
    })
    .await;
}

#[tokio::test]
async fn the_server_is_not_looked_into() {
    let server = both(json!({})).await;
    let pid = server.pid();
    for what in ["environ", "memory", "vm", "ptrace"] {
        let what = format!("{what}?pid={pid}");
        if may_trace() {
            only_without(&server, &what).await;
        } else {
            let got = attempt(&server, "boxed", &what).await;
            assert!(got.starts_with("refused"), "{what}: {got}");
        }
    }
    only_without(&server, &format!("signal?pid={pid}")).await;
    let other = server.agent("free").await["instance"]["pid"].clone();
    only_without(&server, &format!("environ?pid={other}")).await;
    only_without(&server, &format!("signal?pid={other}")).await;
    if rustix::process::geteuid().is_root() {
        only_without(&server, "namespace").await;
    }
}

#[tokio::test]
async fn a_fork_bomb_ends_at_its_limit() {
    let server = both(json!({ "resources": { "processes": 40 } })).await;
    only_without(&server, "fork?n=100").await;
    // It goes on below its limit.
    may(&server, "boxed", "fork?n=10").await;
    let by_default = Server::start().await;
    deploy(&by_default, "boxed", json!({})).await;
    let agent = by_default.agent("boxed").await;
    let processes = protection(&agent, "processes");
    assert_eq!(processes["in_force"], true, "{processes}");
}

#[tokio::test]
async fn an_agent_that_fills_the_disk_is_ended() {
    let server = both(json!({ "resources": { "disk": "8MiB" } })).await;
    may(&server, "free", "fill?n=32").await;
    let large = attempt(&server, "boxed", "fill?n=4").await;
    assert!(large.starts_with("done"), "{large}");
    let _ = attempt(&server, "boxed", "fill?n=32").await;
    let reason = eventually("its end", async || {
        let agent = server.agent("boxed").await;
        let reason = agent["reason"].as_str()?.to_owned();
        reason.contains("disk limit").then_some(reason)
    })
    .await;
    assert!(reason.contains("resources.disk"), "{reason}");
}

fn protection(agent: &Value, name: &str) -> Value {
    let all = agent["instance"]["protections"].as_array();
    let found = all.into_iter().flatten().find(|it| it["name"] == name);
    found.cloned().unwrap_or(Value::Null)
}

#[tokio::test]
async fn what_is_in_force_is_told() {
    let server = both(json!({})).await;
    let agent = server.agent("boxed").await;
    let names: Vec<_> = agent["instance"]["protections"]
        .as_array()
        .expect("protections")
        .iter()
        .filter_map(|it| it["name"].as_str())
        .collect();
    let expected = [
        "files",
        "network",
        "signals",
        "sockets",
        "syscalls",
        "privileges",
        "processes",
        "disk",
    ];
    assert_eq!(names, expected);
    assert_eq!(
        server.agent("free").await["instance"]["protections"],
        Value::Null
    );
}

#[tokio::test]
async fn a_strict_sandbox_has_no_way_out_or_does_not_start() {
    let server = Server::start().await;
    let spec = json!({
        "name": "boxed",
        "command": [agent_binary()],
        "sandbox": "strict",
        "restart": { "crash_loop_after": 1 },
    });
    let answer = server.client.post_json("/api/v1/agents", &spec).await;
    assert!(answer.status < 300, "{}", answer.text());
    let agent = eventually("its start, or why not", async || {
        let agent = server.agent("boxed").await;
        let state = agent["state"].as_str()?;
        ["ready", "crash_loop"].contains(&state).then_some(agent)
    })
    .await;
    if agent["state"] == "crash_loop" {
        let reason = agent["reason"].as_str().unwrap_or_default();
        assert!(reason.contains("sandbox: standard"), "{reason}");
        return;
    }
    let all = agent["instance"]["protections"].as_array().expect("all");
    assert!(all.iter().all(|it| it["in_force"] == true), "{all:?}");
    let folder = TempDir::new().expect("a folder");
    let local = folder.path().join("socket");
    let _local = UnixListener::bind(&local).expect("a socket");
    let tcp = TcpListener::bind("127.0.0.1:0").expect("a port");
    let low = (1_024..20_000)
        .find_map(|port| TcpListener::bind(("127.0.0.1", port)).ok())
        .expect("a port");
    let port = |it: &TcpListener| it.local_addr().expect("a port").port();
    deploy(&server, "free", json!({ "sandbox": "off" })).await;
    for what in [
        format!("connect?port={}", port(&tcp)),
        format!("connect?port={}", port(&low)),
        format!("local?path={}", local.display()),
        "datagram".to_owned(),
    ] {
        only_without(&server, &what).await;
    }
    let (_, skep) = server.client.url.rsplit_once(':').expect("a port");
    may(&server, "boxed", &format!("connect?port={skep}")).await;
}

/// An agent in Python with what agents use: threads, processes, locks between them, a database.
const PYTHON: &str = r#"
import multiprocessing, os, sqlite3, subprocess, sys, tempfile
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
class Agent(BaseHTTPRequestHandler):
    def do_GET(self):
        with multiprocessing.Lock():
            base = sqlite3.connect(os.path.join(os.environ["HOME"], "base"))
            base.execute("create table if not exists t (x)")
        with tempfile.TemporaryDirectory() as folder:
            out = subprocess.run([sys.executable, "-c", "print(6 * 7)"], cwd=folder,
                capture_output=True, text=True, check=True).stdout.strip()
        self.send_response(200)
        self.send_header("content-length", str(len(out)))
        self.end_headers()
        self.wfile.write(out.encode())
ThreadingHTTPServer(("0.0.0.0", int(os.environ["PORT"])), Agent).serve_forever()
"#;
const NODE: &str = r#"
const http = require("http"), fs = require("fs"), os = require("os"), path = require("path");
const { execFileSync } = require("child_process");
http.createServer((request, response) => {
  fs.writeFileSync(path.join(os.homedir(), "file"), "x");
  fs.mkdtempSync(path.join(os.tmpdir(), "x-"));
  response.end(execFileSync(process.execPath, ["-p", "6 * 7"]).toString().trim());
}).listen(process.env.PORT, "0.0.0.0");
"#;

#[tokio::test]
async fn agents_run_as_they_are() {
    let folder = TempDir::new().expect("a folder");
    let server = Server::start().await;
    for (program, file, code) in [("python3", "agent.py", PYTHON), ("node", "agent.js", NODE)] {
        fs::write(folder.path().join(file), code).expect("a file");
        let spec = json!({
            "name": program, "command": [program, file], "workdir": folder.path(),
        });
        server.deploy_spec(spec).await;
        // By its full path, from another folder.
        let whole = folder.path().join(file);
        let spec = json!({ "name": format!("{program}-2"), "command": [program, whole] });
        server.deploy_spec(spec).await;
        for name in [program, &format!("{program}-2")] {
            let answer = server.client.get(&format!("/agents/{name}/")).await;
            assert_eq!((answer.status, answer.text().as_str()), (200, "42"));
        }
    }
}
