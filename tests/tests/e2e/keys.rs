//! API keys: what each may, and when it ends.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use serde_json::{Value, json};
use skep_tests::{Client, Server, Setup, eventually};
use tempfile::TempDir;

use crate::cli::skep;

fn as_key(server: &Server, key: &str) -> Client {
    Client::new(&server.client.url, key.trim())
}

/// Makes a key with the CLI; gives its id and its text.
fn create(server: &Server, args: &[&str]) -> (String, String) {
    let made = skep(
        server,
        &[&["keys", "create"], args, &["-o", "json"]].concat(),
    );
    assert_eq!(made.code, Some(0), "{}", made.err);
    let made: Value = serde_json::from_str(&made.out).expect("pure JSON");
    let text = |name: &str| made[name].as_str().expect("text").to_owned();
    (text("id"), text("secret"))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_key_may_what_its_role_and_scopes_allow() {
    let server = Server::start().await;
    server.deploy("a", json!({})).await;
    let viewer = as_key(
        &server,
        &create(&server, &["dashboard", "--role", "viewer"]).1,
    );
    let caller = create(&server, &["caller", "--scope", "agent:call"]).1;
    let caller = as_key(&server, &caller);
    assert_eq!(viewer.get("/api/v1/agents/a").await.status, 200);
    assert_eq!(viewer.post("/agents/a/work", "x").await.status, 403);
    assert_eq!(viewer.post("/api/v1/agents/a/stop", "").await.status, 403);
    assert_eq!(caller.post("/agents/a/work", "x").await.text(), "x");
    assert_eq!(caller.get("/api/v1/agents/a").await.status, 403);
    // Nobody gives more than they have, and a viewer gives nothing.
    let wish = json!({ "name": "more", "role": "owner" });
    assert_eq!(viewer.post_json("/api/v1/keys", &wish).await.status, 403);
    let admin = as_key(&server, &create(&server, &["admin-2", "--role", "admin"]).1);
    assert_eq!(admin.post_json("/api/v1/keys", &wish).await.status, 403);
    let wish = json!({ "name": "less", "role": "viewer" });
    assert_eq!(admin.post_json("/api/v1/keys", &wish).await.status, 201);
    // The log says who it was.
    let log = crate::audit::whole(&server);
    let called = |entry: &&Value| entry["action"] == "agent:call" && entry["decision"] == "allow";
    let of_caller = log.iter().find(called);
    let id = of_caller.expect("an entry")["principal"]["id"]
        .as_str()
        .map(str::to_owned);
    let listed = skep(&server, &["keys", "list", "-o", "json"]).out;
    let listed: Vec<Value> = serde_json::from_str(&listed).expect("pure JSON");
    let caller = listed
        .iter()
        .find(|key| key["name"] == "caller")
        .expect("a key");
    assert_eq!(caller["id"].as_str(), id.as_deref());
    assert!(
        caller["used_at"].is_string() && caller.get("secret").is_none(),
        "{caller}"
    );
    // A key's text is nowhere in the data folder but where the first is kept.
    let (_, secret) = create(&server, &["hidden"]);
    let kept = fs::read(server.data().join("skep.db-wal")).unwrap_or_default();
    let kept = [
        kept,
        fs::read(server.data().join("skep.db")).expect("a database"),
    ]
    .concat();
    let found = kept
        .windows(secret.len())
        .any(|window| window == secret.as_bytes());
    assert!(!found);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_key_is_replaced_and_ended() {
    let mut server = Server::start().await;
    let (id, old) = create(&server, &["ci", "--role", "viewer"]);
    let rotated = skep(&server, &["keys", "rotate", &id, "--overlap", "1h"]);
    assert_eq!(rotated.code, Some(0), "{}", rotated.err);
    let new = rotated.out.clone();
    for key in [&old, &new] {
        assert_eq!(as_key(&server, key).get("/api/v1/agents").await.status, 200);
    }
    let revoked = skep(&server, &["keys", "revoke", &id, "--yes"]);
    assert_eq!(revoked.code, Some(0), "{}", revoked.err);
    assert_eq!(
        as_key(&server, &old).get("/api/v1/agents").await.status,
        401
    );
    // And it stays so.
    server.kill();
    server.restart().await;
    assert_eq!(
        as_key(&server, &old).get("/api/v1/agents").await.status,
        401
    );
    assert_eq!(
        as_key(&server, &new).get("/api/v1/agents").await.status,
        200
    );
    let keys = server.client.get("/api/v1/keys").await.json();
    let first = keys["items"][0]["id"].as_str().expect("a key").to_owned();
    let refused = skep(&server, &["keys", "revoke", &first, "--yes"]);
    assert_eq!(refused.code, Some(1));
    assert!(refused.err.contains("--role owner"), "{}", refused.err);
    let missing = skep(&server, &["keys", "revoke", "key_nobody", "--yes"]);
    assert!(missing.err.contains("skep keys list"), "{}", missing.err);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn keys_of_a_file_count_when_nobody_else_may_read_it() {
    let folder = TempDir::new().expect("a folder");
    let file = folder.path().join("keys");
    let plain = Server::start().await;
    let key = skep(&plain, &["keys", "generate"]).out;
    fs::write(&file, format!("ci member use {key}\n")).expect("a file");
    let mode = |mode| fs::set_permissions(&file, fs::Permissions::from_mode(mode)).expect("a mode");
    mode(0o600);
    let setup = || Setup {
        env: vec![("SKEP_KEYS_FILE".to_owned(), file.display().to_string())],
        ..Setup::default()
    };
    let server = Server::start_with(setup()).await;
    server.deploy("a", json!({})).await;
    let client = as_key(&server, &key);
    assert_eq!(client.post("/agents/a/work", "x").await.status, 200);
    assert_eq!(client.get("/api/v1/keys").await.status, 403);
    assert_eq!(as_key(&plain, &key).get("/api/v1/agents").await.status, 401);
    mode(0o644);
    let data = TempDir::new().expect("a folder");
    let refused = std::process::Command::new(skep_tests::server::skep_binary())
        .args(["up", "--listen", "127.0.0.1:0", "--data"])
        .arg(data.path())
        .env_clear()
        .env("SKEP_KEYS_FILE", &file)
        .output()
        .expect("the binary runs");
    let said = String::from_utf8_lossy(&refused.stderr);
    assert!(
        !refused.status.success() && said.contains("chmod 600"),
        "{said}"
    );
    assert!(!said.contains(key.trim()));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn another_server_sees_within_a_second_what_was_revoked() {
    let postgres = skep_tests::postgres::Postgres::start();
    let one = Server::start_with(crate::postgres::on(&postgres)).await;
    let two = crate::servers::beside(&one, &postgres).await;
    let (id, key) = create(&one, &["ci", "--role", "viewer"]);
    eventually("the key at the other", async || {
        let answer = as_key(&two, &key).get("/api/v1/servers").await;
        (answer.status == 200).then_some(())
    })
    .await;
    assert_eq!(skep(&one, &["keys", "revoke", &id, "--yes"]).code, Some(0));
    eventually("its end at the other", async || {
        let answer = as_key(&two, &key).get("/api/v1/servers").await;
        (answer.status == 401).then_some(())
    })
    .await;
}
