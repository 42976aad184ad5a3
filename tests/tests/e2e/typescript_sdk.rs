//! The TypeScript SDK against a server: its own tests, and the page of it in the book.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};
use skep_tests::{Server, packages};
use tempfile::TempDir;
use tokio::process::Command;

use crate::frameworks::{Example, examples};

const PAGE: &str = "docs/sdks/skep-typescript.md";
/// What of the package is there by hand.
const FILES: [&str; 3] = ["package.json", "tsconfig.json", "generate.mjs"];
const FOLDERS: [&str; 3] = ["src", "src/agui", "tests"];
/// Agents of many shapes, by what they speak.
const PROTOCOLS: [&str; 4] = ["agui", "http", "invocations", "responses"];

fn repository() -> PathBuf {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    path.canonicalize().expect("the repository")
}

/// An agent that is a script of a folder.
fn spec(name: &str, protocol: &str, script: &str) -> Value {
    let script = repository().join(script);
    json!({
        "name": name, "protocol": protocol, "command": ["node", script], "health": { "path": "/ping" },
        "calls": { "attempts": 5, "backoff": "50ms" },
        "volumes": [{ "source": script.parent(), "read_only": true }],
    })
}

fn page() -> Vec<Example> {
    examples(&fs::read_to_string(repository().join(PAGE)).expect("the page"))
}

/// A copy of the package, beside the packages that it is made with. What is generated is not taken along.
fn copied() -> TempDir {
    let packages = packages("skep-typescript").join("node_modules");
    assert!(packages.exists(), "run `cargo xtask set-up`");
    let (folder, sdk) = (
        tempfile::tempdir().expect("a folder"),
        repository().join("sdks/typescript"),
    );
    for file in FILES {
        fs::copy(sdk.join(file), folder.path().join(file)).expect("a copy");
    }
    for name in FOLDERS {
        let to = folder.path().join(name);
        fs::create_dir_all(&to).expect("a folder");
        for entry in fs::read_dir(sdk.join(name)).expect("the package") {
            let path = entry.expect("a file").path();
            let file = path.file_name().expect("a name");
            if path.is_file() && file != "api.ts" {
                fs::copy(&path, to.join(file)).expect("a copy");
            }
        }
    }
    symlink(packages, folder.path().join("node_modules")).expect("a link");
    folder
}

/// Node.js in the package.
fn node(folder: &TempDir) -> Command {
    let mut command = Command::new("node");
    command
        .env_clear()
        .envs(std::env::var_os("PATH").map(|path| ("PATH", path)))
        .env("HOME", folder.path())
        .current_dir(folder.path())
        .kill_on_drop(true);
    command
}

/// Runs it to a good end, and gives what it printed.
async fn run(command: &mut Command, log: impl Fn() -> String) -> String {
    let output = command.output().await.expect("Node.js");
    let (said, error) = (
        String::from_utf8_lossy(&output.stdout).into_owned(),
        String::from_utf8_lossy(&output.stderr),
    );
    assert!(output.status.success(), "{said}\n{error}\n{}", log());
    said
}

/// The package as it is published, with the components of its page among its tests.
async fn built() -> TempDir {
    let folder = copied();
    let document = repository().join("docs/openapi.json");
    let tsc = "node_modules/typescript/bin/tsc";
    run(
        node(&folder).arg("generate.mjs").arg(&document),
        String::new,
    )
    .await;
    run(node(&folder).args([tsc, "-p", "."]), String::new).await;
    let components = page().into_iter().filter(|it| it.language == "tsx");
    let components: Vec<String> = components.map(|it| it.text).collect();
    assert!(!components.is_empty());
    fs::write(folder.path().join("tests/page.tsx"), components.join("\n")).expect("a file");
    run(node(&folder).args([tsc, "-p", "tests"]), String::new).await;
    folder
}

/// Runs tests of the package, one file after the other: some of them end an agent that others ask, too.
async fn passes(files: &[&str], known: &[&str]) {
    let server = Server::start().await;
    let secret = json!({ "name": "ts/one", "value": "canary-of-a-secret" });
    let made = server.client.post_json("/api/v1/secrets", &secret).await;
    assert_eq!(made.status, 201, "{}", made.text());
    let own = spec("ts", "http", "sdks/typescript/tests/agent.mjs");
    server.deploy_spec(own).await;
    for protocol in PROTOCOLS {
        let shapes = spec(protocol, protocol, "tests/sdks/agui/agent.mjs");
        server.deploy_spec(shapes).await;
    }
    let folder = built().await;
    let mut command = node(&folder);
    command
        .args(["--test", "--test-reporter=tap", "--test-concurrency=1"])
        .args(files.iter().map(|it| format!("build/tests/{it}.test.js")))
        .env("SKEP_SERVER", &server.client.url)
        .env("SKEP_API_KEY", &server.client.key)
        .env("AGUI", repository().join("tests/sdks/agui"));
    let said = run(&mut command, || server.log()).await;
    // One that finds nothing succeeds, too.
    for test in known {
        assert!(said.contains(&format!("# Subtest: {test}\n")), "{said}");
    }
    for counted in ["# skipped 0\n", "# todo 0\n"] {
        assert!(said.contains(counted), "{said}");
    }
}

#[tokio::test]
async fn the_tests_of_the_package_pass() {
    let known = ["streams", "management", "patience", "the hook"];
    passes(&["client", "parts", "react"], &known).await;
}

#[tokio::test]
async fn runs_of_all_shapes_go_on_as_the_official_client_has_them() {
    passes(&["runs"], &["agents of all shapes", "a run"]).await;
}

#[tokio::test]
async fn the_page_of_the_package_prints_what_it_says() {
    let server = Server::start().await;
    let words = spec("words", "http", "examples/agents/words/agent.mjs");
    server.deploy_spec(words).await;
    let folder = built().await;
    let all = page().into_iter().filter(|it| it.language == "js");
    let all: Vec<Example> = all.collect();
    assert_eq!(all.len(), 3);
    for example in all {
        let text = example
            .text
            .replace("http://127.0.0.1:7537", &server.client.url);
        let mut command = node(&folder);
        command
            .args(["--input-type=module", "-e", &text])
            .env("SKEP_API_KEY", &server.client.key);
        let printed = run(&mut command, || server.log()).await;
        assert_eq!(printed.trim_end(), example.prints);
    }
}
