//! The API does what its OpenAPI document says, whatever it is asked: by schemathesis, which makes
//! requests from the document, good and bad ones.

use std::process::Command;

use serde_json::json;
use skep_tests::Server;
use tempfile::TempDir;

/// Examples of each operation.
const EXAMPLES: &str = "8";
/// What has no end, changes the protocol, or would take archives for bodies that are made up.
const LEFT_OUT: &str = "/exec$|/stream$|/logs$|/archive$";

/// Runs schemathesis with these checks; gives what it says when something failed.
fn schemathesis(server: &Server, key: Option<&str>, checks: &str) -> Result<(), String> {
    // It keeps notes in the folder that it runs in.
    let folder = TempDir::new().expect("a folder");
    let mut command = Command::new("python3");
    command.current_dir(folder.path());
    command.args([
        "-m",
        "schemathesis.cli",
        "run",
        "--no-color",
        "--checks",
        checks,
    ]);
    command.args(["--phases", "examples,coverage,fuzzing", "-n", EXAMPLES]);
    command.args(["--exclude-path-regex", LEFT_OUT, "--request-timeout", "20"]);
    command.args(["--generation-deterministic", "--workers", "2"]);
    if let Some(key) = key {
        command.args(["--header", &format!("Authorization: Bearer {key}")]);
    }
    command.arg(format!("{}/api/v1/openapi.json", server.client.url));
    let output = command.output().expect("python runs");
    match output.status.success() {
        true => Ok(()),
        false => Err(format!(
            "{}{}",
            String::from_utf8_lossy(&output.stdout),
            String::from_utf8_lossy(&output.stderr)
        )),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn it_does_what_its_document_says() {
    let server = Server::start().await;
    server.deploy("a", json!({})).await;
    server.post("a", "/work", "x").await;
    let key = std::fs::read_to_string(server.data().join("admin.key")).expect("a key");
    let checks = "not_a_server_error,status_code_conformance,content_type_conformance,\
                  response_headers_conformance,response_schema_conformance";
    if let Err(said) = schemathesis(&server, Some(key.trim()), checks) {
        panic!("{said}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn it_refuses_whoever_shows_no_key() {
    let server = Server::start().await;
    let checks = "not_a_server_error,status_code_conformance,content_type_conformance,ignored_auth";
    if let Err(said) = schemathesis(&server, None, checks) {
        panic!("{said}");
    }
}
