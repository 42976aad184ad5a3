//! The API does what its OpenAPI document says, whatever it is asked: by schemathesis, which makes
//! requests from the document, good and bad ones.

use std::os::unix::fs::PermissionsExt;
use std::process::Command;

use serde_json::json;
use skep_tests::server::skep_binary;
use skep_tests::{Server, Setup};
use tempfile::TempDir;

/// Examples of each operation.
const EXAMPLES: &str = "8";
/// What has no end, changes the protocol, would take archives for bodies that are made up, or makes all that
/// comes after it answer that the vault is sealed.
const LEFT_OUT: &str = "/exec$|/stream$|/logs$|/archive$|/vault/seal$";

/// A new key's text, by the CLI, which needs no server for it.
fn generated() -> String {
    let mut command = Command::new(skep_binary());
    let output = command.args(["keys", "generate"]).env_clear().output();
    let output = output.expect("the binary runs");
    String::from_utf8(output.stdout)
        .expect("text")
        .trim()
        .to_owned()
}

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
    // It replaces and ends the keys that it finds; one of the configuration stays.
    let folder = TempDir::new().expect("a folder");
    let file = folder.path().join("keys");
    let key = generated();
    std::fs::write(&file, format!("schemathesis owner * {key}\n")).expect("a file");
    std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o600)).expect("a mode");
    let server = Server::start_with(Setup {
        env: vec![("SKEP_KEYS_FILE".to_owned(), file.display().to_string())],
        ..Setup::default()
    })
    .await;
    server.deploy("a", json!({})).await;
    server.post("a", "/work", "x").await;
    let checks = "not_a_server_error,status_code_conformance,content_type_conformance,\
                  response_headers_conformance,response_schema_conformance";
    if let Err(said) = schemathesis(&server, Some(&key), checks) {
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
