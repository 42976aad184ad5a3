//! The official client of AG-UI at the door to runs, with agents of many shapes, right and wrong. It complains on its console of
//! what it does not expect, and any complaint is a failure (`tests/sdks/agui/check.mjs`).

use std::path::{Path, PathBuf};

use serde_json::{Value, json};
use skep_tests::{Server, packages};
use tokio::process::Command;

/// What its agents speak.
const PROTOCOLS: [&str; 4] = ["agui", "http", "invocations", "responses"];
/// Fewer looked at than these, and the scripts have lost some.
const SHAPES: u64 = 140;
const ATTACHED: u64 = 600;

fn scripts() -> PathBuf {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("sdks/agui");
    path.canonicalize().expect("the scripts")
}

/// An agent of a protocol: the same script for each.
fn spec(protocol: &str) -> Value {
    json!({
        "name": protocol, "protocol": protocol, "command": ["node", scripts().join("agent.mjs")],
        "health": { "path": "/ping" }, "calls": { "attempts": 5, "backoff": "50ms" },
        "volumes": [{ "source": scripts(), "read_only": true }],
    })
}

/// The scripts beside their packages, where Node.js finds them.
fn folder() -> tempfile::TempDir {
    let packages = packages("agui").join("node_modules");
    assert!(packages.exists(), "run `cargo xtask set-up`");
    let folder = tempfile::tempdir().expect("a folder");
    for entry in std::fs::read_dir(scripts()).expect("the scripts") {
        let path = entry.expect("a file").path();
        if path.extension().is_some_and(|it| it == "mjs") {
            let name = path.file_name().expect("a name");
            std::fs::copy(&path, folder.path().join(name)).expect("a copy");
        }
    }
    std::os::unix::fs::symlink(packages, folder.path().join("node_modules")).expect("a link");
    folder
}

#[tokio::test]
async fn the_official_client_has_nothing_to_complain_of() {
    let server = Server::start().await;
    for protocol in PROTOCOLS {
        server.deploy_spec(spec(protocol)).await;
    }
    let folder = folder();
    let output = Command::new("node")
        .arg(folder.path().join("check.mjs"))
        .env_clear()
        .envs(std::env::var_os("PATH").map(|path| ("PATH", path)))
        .env("HOME", server.data())
        .env("SKEP_SERVER", &server.client.url)
        .env("SKEP_API_KEY", &server.client.key)
        .kill_on_drop(true)
        .output();
    let output = output.await.expect("Node.js");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}\n{}", server.log());
    let counted: Value = serde_json::from_slice(&output.stdout).expect("what it counted");
    let number = |name: &str| counted[name].as_u64().unwrap_or_default();
    assert_eq!(number("failed"), 0, "{counted}");
    assert!(number("right") + number("wrong") >= SHAPES, "{counted}");
    assert!(number("attached") >= ATTACHED, "{counted}");
    assert!(number("flows") > 0, "{counted}");
}
