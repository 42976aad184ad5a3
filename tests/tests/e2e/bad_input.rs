//! What goes wrong in daily life: each time a clear error with the next thing to do, and no loss.

use std::fs;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use serde_json::json;
use skep_tests::server::skep_binary;
use skep_tests::{Server, Setup};
use tempfile::TempDir;

fn skep(folder: &Path, args: &[&str]) -> Output {
    let mut command = Command::new(skep_binary());
    command
        .args(args)
        .current_dir(folder)
        .env_clear()
        .env("PATH", std::env::var_os("PATH").unwrap_or_default())
        .env("HOME", folder)
        .stdin(Stdio::null());
    command.output().expect("the binary runs")
}

fn up(folder: &Path, more: &[&str]) -> (Option<i32>, String) {
    let data = folder.join("data").display().to_string();
    let mut args = vec!["up", "--data", &data];
    args.extend_from_slice(more);
    let output = skep(folder, &args);
    (
        output.status.code(),
        String::from_utf8_lossy(&output.stderr).into_owned(),
    )
}

/// Exit code 1, what happened, and what to do.
fn must_say(outcome: &(Option<i32>, String), words: &[&str]) {
    let (code, text) = outcome;
    assert_eq!(*code, Some(1), "{text}");
    for word in words.iter().chain(&["error:", "hint:"]) {
        assert!(text.contains(word), "no `{word}` in: {text}");
    }
}

fn sql(database: &Path, statement: &str) {
    let script = "import sqlite3,sys; c=sqlite3.connect(sys.argv[1]); c.executescript(sys.argv[2]); c.commit()";
    let run = Command::new("python3")
        .args(["-c", script])
        .arg(database)
        .arg(statement)
        .status();
    assert!(run.expect("python3 runs").success());
}

#[tokio::test]
async fn a_port_that_is_taken() {
    let folder = TempDir::new().expect("a folder");
    let taken = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = taken.local_addr().expect("an address").to_string();
    let outcome = up(folder.path(), &["--listen", &address]);
    must_say(&outcome, &[&address, "--listen"]);
    assert!(
        !folder.path().join("data/skep.db").exists(),
        "nothing was touched"
    );
}

#[tokio::test]
async fn an_address_that_is_open_to_others_without_tls() {
    let folder = TempDir::new().expect("a folder");
    let outcome = up(folder.path(), &["--listen", "0.0.0.0:0"]);
    must_say(&outcome, &["TLS", "tls.cert"]);
}

#[tokio::test]
async fn two_servers_on_one_folder() {
    let server = Server::start().await;
    let folder = server.data().parent().expect("a parent").to_owned();
    let outcome = up(&folder, &["--listen", "127.0.0.1:0"]);
    must_say(&outcome, &["in use", "--data"]);
    assert_eq!(server.client.get("/api/v1/health/basic").await.status, 200);
}

#[tokio::test]
async fn a_database_that_is_damaged_or_newer() {
    let mut server = Server::start().await;
    server.deploy("a", json!({})).await;
    let call = server.post("a", "/work", "kept").await.call();
    assert!(server.terminate());
    let folder = server.data().parent().expect("a parent").to_owned();
    let database = server.data().join("skep.db");
    let good = fs::read(&database).expect("the database");
    sql(
        &database,
        "INSERT INTO migrations VALUES ('ingress', '9999-future', x'00', 0)",
    );
    must_say(
        &up(&folder, &["--listen", "127.0.0.1:0"]),
        &["9999-future", "newer"],
    );
    fs::write(&database, vec![b'?'; 10_000]).expect("it is damaged");
    must_say(
        &up(&folder, &["--listen", "127.0.0.1:0"]),
        &["skep.db", "backups"],
    );
    assert_eq!(
        fs::read(&database).expect("it is there"),
        vec![b'?'; 10_000],
        "a damaged file is left alone"
    );
    fs::write(&database, good).expect("it is mended");
    server.restart().await;
    assert_eq!(server.call(&call).await["state"], "succeeded");
}

#[tokio::test]
async fn a_disk_that_is_nearly_full() {
    let env = vec![("SKEP_DISK_MIN_FREE".to_owned(), "1024TiB".to_owned())];
    let server = Server::start_with(Setup {
        env,
        ..Setup::default()
    })
    .await;
    server.deploy("a", json!({})).await;
    let refused = skep_tests::eventually("a refusal", async || {
        let answer = server.post("a", "/work", "x").await;
        (answer.status == 503).then_some(answer)
    })
    .await;
    assert_eq!(refused.code(), "store-unavailable");
    assert!(
        refused.json()["hint"]
            .as_str()
            .is_some_and(|hint| hint.contains("disk.min_free"))
    );
    assert_eq!(
        server.client.get("/api/v1/health/detailed").await.status,
        503
    );
    assert_eq!(
        server.client.get("/api/v1/agents").await.status,
        200,
        "reading goes on"
    );
}

#[tokio::test]
async fn an_agent_that_nobody_knows() {
    let server = Server::start().await;
    server.deploy("hello", json!({})).await;
    let answer = server.post("helo", "/x", "").await;
    assert_eq!(
        (answer.status, answer.code().as_str()),
        (404, "agent-not-found")
    );
    assert_eq!(answer.json()["hint"], "Did you mean `hello`?");
}

#[tokio::test]
async fn an_agent_that_crashes_again_and_again() {
    let server = Server::start().await;
    let spec = json!({
        "name": "a",
        "command": ["sh", "-c", "echo a clear reason >&2; exit 3"],
        "restart": { "backoff": "1ms", "max_backoff": "2ms", "crash_loop_after": 3 },
    });
    let answer = server.client.post_json("/api/v1/agents", &spec).await;
    assert_eq!(answer.status, 201);
    let agent = server.wait_state("a", "crash_loop").await;
    let reason = agent["reason"].as_str().unwrap_or_default();
    assert!(
        reason.contains('3') && reason.contains("a clear reason"),
        "{reason}"
    );
    let refused = server.post("a", "/x", "").await;
    assert_eq!(
        (refused.status, refused.code().as_str()),
        (503, "agent-crash-loop")
    );
    let health = server.client.get("/api/v1/health/detailed").await;
    assert_eq!(health.json()["status"], "degraded");
}

#[tokio::test]
async fn a_clock_that_jumps_back() {
    let mut server = Server::start().await;
    server.deploy("a", json!({})).await;
    let first = server.post("a", "/work", "1").await.call();
    assert!(server.terminate());
    // As if the wall clock had been set back by a day while the server was down.
    let ahead = "UPDATE server_state SET value = value + 86400000000 WHERE name = 'last_time'";
    sql(&server.data().join("skep.db"), ahead);
    server.restart().await;
    let second = server.post("a", "/work", "2").await;
    assert_eq!(second.status, 200, "calls do not expire at once");
    let (first, second) = (server.call(&first).await, server.call(&second.call()).await);
    assert!(
        first["accepted_at"].as_str() < second["accepted_at"].as_str(),
        "time went back"
    );
    let health = server.client.get("/api/v1/health/detailed").await.json();
    let clock = health["checks"]
        .as_array()
        .and_then(|all| all.iter().find(|c| c["name"] == "clock").cloned());
    assert_eq!(clock.expect("a check")["status"], "degraded");
}

#[test]
fn a_configuration_that_is_wrong() {
    let folder = TempDir::new().expect("a folder");
    fs::write(folder.path().join("skep.toml"), "lisen = \"127.0.0.1:1\"\n").expect("a file");
    must_say(&up(folder.path(), &[]), &["lisen", "listen"]);
    fs::write(
        folder.path().join("skep.toml"),
        "[limits]\nbody = \"lots\"\n",
    )
    .expect("a file");
    must_say(&up(folder.path(), &[]), &["limits.body", "lots"]);
}

#[test]
fn a_server_that_is_not_there() {
    let folder = TempDir::new().expect("a folder");
    let output = skep(folder.path(), &["--server", "http://127.0.0.1:1", "list"]);
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    must_say(&(output.status.code(), text), &["127.0.0.1:1", "skep up"]);
    let wrong = skep(folder.path(), &["lst"]);
    assert_eq!(wrong.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&wrong.stderr).contains("list"));
}

#[tokio::test]
async fn a_key_that_is_wrong() {
    let server = Server::start().await;
    let folder = TempDir::new().expect("a folder");
    let key = folder.path().join("key");
    fs::write(&key, "skep_wrong\n").expect("a key file");
    let args = [
        "--server",
        &server.client.url,
        "--api-key-file",
        &key.display().to_string(),
        "list",
    ];
    let output = skep(folder.path(), &args);
    assert_eq!(
        output.status.code(),
        Some(4),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
}
