//! The Python SDK against a server: its own tests, its example, and the page of it in the book.

use std::path::{Path, PathBuf};

use serde_json::json;
use skep_tests::{Server, packages};
use tokio::process::Command;

use crate::frameworks::examples;

const PAGE: &str = "docs/sdks/skep-python.md";

fn repository() -> PathBuf {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    path.canonicalize().expect("the repository")
}

fn python() -> PathBuf {
    let python = packages("skep-python").join(".venv/bin/python");
    assert!(python.exists(), "run `cargo xtask set-up`");
    python
}

/// An agent that is a script on the package.
fn spec(name: &str, script: &str) -> serde_json::Value {
    let sdk = repository().join("sdks/python");
    json!({
        "name": name, "command": [python(), repository().join(script)], "health": { "path": "/ping" },
        "env": { "PYTHONDONTWRITEBYTECODE": "1", "PYTHONPATH": sdk.join("src") },
        "volumes": [
            { "source": packages("skep-python"), "read_only": true },
            { "source": sdk, "read_only": true },
            { "source": repository().join("examples"), "read_only": true },
        ],
    })
}

/// Python with the package and what it needs.
fn command(server: &Server) -> Command {
    let sdk = repository().join("sdks/python");
    let mut command = Command::new(python());
    command
        .env_clear()
        .envs(std::env::var_os("PATH").map(|path| ("PATH", path)))
        .env("HOME", server.data())
        .env("PYTHONDONTWRITEBYTECODE", "1")
        .env("PYTHONPATH", sdk.join("src"))
        .env("SKEP_SERVER", &server.client.url)
        .env("SKEP_API_KEY", &server.client.key)
        .current_dir(sdk.join("tests"))
        .kill_on_drop(true);
    command
}

#[tokio::test]
async fn the_tests_of_the_package_pass() {
    let server = Server::start().await;
    let secret = json!({ "name": "py/one", "value": "canary-of-a-secret" });
    let made = server.client.post_json("/api/v1/secrets", &secret).await;
    assert_eq!(made.status, 201, "{}", made.text());
    server
        .deploy_spec(spec("py", "sdks/python/tests/agent.py"))
        .await;
    let output = command(&server)
        .args(["-W", "error", "-m", "unittest", "-v"])
        .env("AGENT_HOME", server.home("py"))
        .output();
    let output = output.await.expect("it runs");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}\n{}", server.log());
    // One that finds nothing succeeds, too.
    for test in [
        "test_skep.Streams",
        "test_serve.Serve",
        "test_parts.Patience",
    ] {
        assert!(said.contains(test), "{said}");
    }
    assert!(!said.contains("skipped"), "{said}");
}

#[tokio::test]
async fn the_page_of_the_package_prints_what_it_says() {
    let server = Server::start().await;
    server
        .deploy_spec(spec("greeter", "examples/agents/greeter/agent.py"))
        .await;
    let page = std::fs::read_to_string(repository().join(PAGE)).expect("the page");
    let all = examples(&page);
    assert_eq!(all.len(), 2);
    for example in all {
        let text = example
            .text
            .replace("http://127.0.0.1:7537", &server.client.url);
        let output = command(&server).arg("-c").arg(text).output().await;
        let output = output.expect("it runs");
        let error = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{error}");
        let printed = String::from_utf8_lossy(&output.stdout);
        assert_eq!(printed.trim_end(), example.prints);
    }
}
