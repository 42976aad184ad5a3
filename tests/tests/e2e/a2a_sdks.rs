//! The official clients of A2A against the agent that the conformance kit asks, in each version and over each binding that its card
//! names (`tests/sdks/a2a/`).

use std::path::{Path, PathBuf};

use serde_json::{Value, json};
use skep_tests::{Server, Setup, packages};
use tokio::process::Command;

fn repository() -> PathBuf {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    path.canonicalize().expect("the repository")
}

/// The agent of `examples/agents/conformance`, as its manifest has it.
pub(crate) fn conformance() -> Value {
    let folder = repository().join("examples/agents/conformance");
    json!({
        "name": "conformance", "protocol": "agui", "command": ["python3", folder.join("agent.py")],
        "health": { "path": "/ping" }, "env": { "PYTHONUNBUFFERED": "1", "TCK_STREAMING_TIMEOUT": "0.1" },
        "volumes": [{ "source": folder, "read_only": true }],
        "card": { "description": "Does what the conformance kit of A2A asks for.", "skills": [
            { "id": "scenarios", "description": "What the beginning of the message's id says.", "tags": ["conformance"] }] },
    })
}

/// Runs a client, and tells how many checks it made of each interface.
async fn counted(server: &Server, command: &mut Command) -> Value {
    let output = command
        .env_clear()
        .envs(std::env::var_os("PATH").map(|path| ("PATH", path)))
        .env("HOME", server.data())
        .env("PYTHONDONTWRITEBYTECODE", "1")
        .env("SKEP_SERVER", &server.client.url)
        .env("SKEP_API_KEY", &server.client.key)
        .kill_on_drop(true)
        .output();
    let output = output.await.expect("it runs");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}\n{}", server.log());
    serde_json::from_slice(&output.stdout).expect("what it counted")
}

/// Fewer checks than these, and the scripts have lost some.
fn checked(counted: &Value) {
    for (interface, least) in [
        ("JSONRPC 1.0", 13),
        ("HTTP+JSON 1.0", 13),
        ("JSONRPC 0.3", 12),
        ("HTTP+JSON 0.3", 12),
    ] {
        let checks = counted[interface].as_u64().unwrap_or_default();
        assert!(checks >= least, "{interface}: {counted}");
    }
}

async fn server() -> Server {
    // The clients are on this machine, and want to be told there.
    let allow = ("SKEP_OUTGOING_ALLOW".to_owned(), "127.0.0.0/8".to_owned());
    let setup = Setup {
        env: vec![allow],
        ..Setup::default()
    };
    let server = Server::start_with(setup).await;
    server.deploy_spec(conformance()).await;
    server
}

#[tokio::test]
async fn the_official_python_client_works_unchanged() {
    let python = packages("a2a/python").join(".venv/bin/python");
    assert!(python.exists(), "run `cargo xtask set-up`");
    let server = server().await;
    let script = repository().join("tests/sdks/a2a/check.py");
    let mut command = Command::new(python);
    checked(&counted(&server, command.arg(script)).await);
}

#[tokio::test]
async fn the_official_javascript_client_works_unchanged() {
    let packages = packages("a2a/node").join("node_modules");
    assert!(packages.exists(), "run `cargo xtask set-up`");
    let server = server().await;
    // Node.js finds packages beside the script.
    let folder = tempfile::tempdir().expect("a folder");
    let script = folder.path().join("check.mjs");
    std::fs::copy(repository().join("tests/sdks/a2a/check.mjs"), &script).expect("a copy");
    std::os::unix::fs::symlink(packages, folder.path().join("node_modules")).expect("a link");
    let mut command = Command::new("node");
    checked(&counted(&server, command.arg(script)).await);
}
