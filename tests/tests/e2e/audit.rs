//! The audit log of a real server: what was done is in it, and it can be proven to who trusts nobody.

use std::collections::BTreeSet;
use std::fs;

use http::Method;
use serde_json::{Value, json};
use skep_audit::{PublicKey, verify};
use skep_tests::{Server, agent_binary, eventually};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use crate::cli::skep;
use crate::engine::{Engine, on_each_engine};

/// The whole log, verified with the key that the server tells.
async fn verified(server: &Server) -> Vec<(u64, Value)> {
    let head = server.client.get("/api/v1/audit/checkpoint").await.json();
    let key = head["public_key"].as_str().expect("a key");
    let key = PublicKey::parse(key).expect("a key");
    let export = server.client.get("/api/v1/audit/export").await;
    assert_eq!(export.status, 200, "{}", export.text());
    let mut entries = Vec::new();
    let verified = verify::export(&export.body[..], &key, |number, entry| {
        entries.push((number, serde_json::from_str(entry).expect("JSON")));
    });
    verified.expect("the log is as it was written");
    entries
}

/// Every entry of the log, whose tree is verified as a whole: cheaper than a proof for each.
pub(crate) fn whole(server: &Server) -> Vec<Value> {
    let work = TempDir::new().expect("a folder");
    let folder = work.path().join("log");
    let file = folder.to_str().expect("text");
    let taken = skep(
        server,
        &["audit", "export", "--form", "tiles", "--file", file],
    );
    assert_eq!(taken.code, Some(0), "{}", taken.err);
    let key = PublicKey::parse(&skep(server, &["audit", "key"]).out).expect("a key");
    let mut entries = Vec::new();
    let verified = verify::tiles(&folder, &key, None, |_, entry| {
        entries.push(serde_json::from_str(entry).expect("JSON"));
    });
    verified.expect("the log is as it was written");
    entries
}

/// Entries of an action, oldest first.
async fn entries(server: &Server, action: &str) -> Vec<Value> {
    let all = verified(server).await.into_iter();
    let of = all
        .map(|(_, entry)| entry)
        .filter(|entry| entry["action"] == action);
    of.collect()
}

fn hash(bytes: &[u8]) -> String {
    skep_store::Hash::of(bytes).to_string()
}

#[tokio::test]
async fn what_changes_something_is_told_with_what_it_changed() {
    let server = Server::start().await;
    server.deploy("a", json!({})).await;
    let answer = server.post("a", "/work", "the question").await;
    let call = answer.headers["skep-call-id"]
        .to_str()
        .expect("text")
        .to_owned();
    for order in ["stop", "start", "restart"] {
        server
            .client
            .post(&format!("/api/v1/agents/a/{order}"), "")
            .await;
    }
    server
        .client
        .post(&format!("/api/v1/calls/{call}/replay"), "")
        .await;
    let remove = server
        .client
        .request(Method::DELETE, "/api/v1/agents/a?force=true", "");
    server.client.send(remove).await.expect("an answer");
    let deployed = entries(&server, "agent:deploy").await;
    assert_eq!(deployed.len(), 1, "{deployed:?}");
    let deployed = &deployed[0];
    assert_eq!(deployed["principal"]["kind"], "ApiKey");
    let id = deployed["principal"]["id"].as_str();
    assert!(id.is_some_and(|id| id.starts_with("key_")), "{deployed}");
    assert_eq!(deployed["resource"], json!({ "kind": "Agent", "id": "a" }));
    assert_eq!(deployed["change"]["what"], "revision 1");
    assert_eq!(deployed["decision"], "allow");
    assert!(
        deployed["request"]
            .as_str()
            .is_some_and(|id| id.starts_with("req_"))
    );
    let accepted = &entries(&server, "agent:call").await[0];
    assert_eq!(accepted["resource"], json!({ "kind": "Call", "id": call }));
    assert_eq!(
        accepted["change"],
        json!({ "what": "a", "hash": hash(b"the question") })
    );
    let ended = &entries(&server, "call:end").await[0];
    assert_eq!(ended["resource"]["id"], call.as_str());
    assert_eq!(ended["principal"]["kind"], "Server");
    assert_eq!(
        ended["change"],
        json!({ "what": "succeeded, 200", "hash": hash(b"the question") })
    );
    for action in ["agent:stop", "agent:start", "call:replay", "agent:remove"] {
        assert!(!entries(&server, action).await.is_empty(), "{action}");
    }
    // Nothing of a body or a key is in it.
    let text = server.client.get("/api/v1/audit/export").await.text();
    let key = fs::read_to_string(server.data().join("admin.key")).expect("a key");
    assert!(!text.contains("the question") && !text.contains(key.trim()));
}

#[tokio::test]
async fn what_only_looks_or_is_refused_is_told_soon_and_once() {
    let mut server = Server::start().await;
    server.deploy("a", json!({})).await;
    for _ in 0..50 {
        assert_eq!(server.client.get("/api/v1/agents/a").await.status, 200);
        assert_eq!(server.client.get("/agents/a/ping").await.status, 200);
        assert_eq!(server.client.get("/api/v1/agents/nobody").await.status, 404);
    }
    // The end of the server writes down what is not yet.
    assert!(server.terminate());
    server.restart().await;
    let of = async |action: &str, id: &str| {
        let all = entries(&server, action).await;
        let times = all.iter().filter(|entry| entry["resource"]["id"] == id);
        let counts = times.map(|entry| entry["times"].as_u64().unwrap_or(1));
        (counts.clone().sum::<u64>(), counts.count())
    };
    let (looks, entries_of) = of("agent:read", "a").await;
    assert!(looks >= 50 && entries_of < 10, "{looks} in {entries_of}");
    let (passed, entries_of) = of("agent:call", "a").await;
    assert!(passed >= 50 && entries_of < 10, "{passed} in {entries_of}");
    let (missed, entries_of) = of("agent:read", "nobody").await;
    assert!(missed >= 50 && entries_of < 10, "{missed} in {entries_of}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn anybody_verifies_it_without_the_server() {
    let mut server = Server::start().await;
    server.deploy("a", json!({})).await;
    for number in 0..300 {
        server.post("a", "/work", &number.to_string()).await;
    }
    let work = TempDir::new().expect("a folder");
    let at = |name: &str| work.path().join(name).to_str().expect("text").to_owned();
    let key = skep(&server, &["audit", "key"]).out;
    let lines = at("audit.jsonl");
    let tiles = at("log");
    for (form, file) in [
        ("jsonl", &lines),
        ("tiles", &tiles),
        ("csv", &at("audit.csv")),
    ] {
        let taken = skep(
            &server,
            &["audit", "export", "--form", form, "--file", file],
        );
        assert_eq!(taken.code, Some(0), "{form}: {}", taken.err);
    }
    let number = skep(
        &server,
        &["audit", "search", "--action", "agent:deploy", "-o", "name"],
    )
    .out;
    let proven = skep(
        &server,
        &["audit", "prove", &number, "--dir", &at("evidence")],
    );
    assert_eq!(proven.code, Some(0), "{}", proven.err);
    let proof = at(&format!("evidence/{number}.proof"));
    server.kill();
    for file in [&lines, &tiles, &proof] {
        let verified = skep(&server, &["audit", "verify", file, "--key", &key]);
        assert_eq!(verified.code, Some(0), "{file}: {}", verified.err);
        assert!(
            verified.out.contains("as they were written"),
            "{}",
            verified.out
        );
    }
    // One byte, in each of them.
    let entry = at(&format!("evidence/{number}.json"));
    let bundle = at("log/tile/entries/000");
    for (file, tampered) in [(&lines, &lines), (&tiles, &bundle), (&proof, &entry)] {
        let mut bytes = fs::read(tampered).expect("a file");
        let middle = bytes.len() / 2;
        bytes[middle] ^= 1;
        fs::write(tampered, bytes).expect("a file");
        let noticed = skep(&server, &["audit", "verify", file, "--key", &key]);
        assert_eq!(noticed.code, Some(5), "{file}: {}", noticed.out);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_witness_notices_that_the_log_went_back() {
    let mut server = Server::start().await;
    server.deploy("a", json!({})).await;
    let key = skep(&server, &["audit", "key"]).out;
    let work = TempDir::new().expect("a folder");
    let dir = work.path().to_str().expect("text");
    let look = |server: &Server| skep(server, &["audit", "witness", "--dir", dir, "--key", &key]);
    let seen = look(&server);
    assert_eq!(seen.code, Some(0), "{}", seen.err);
    server.kill();
    let old = fs::read(server.data().join("skep.db")).expect("a database");
    let wal = fs::read(server.data().join("skep.db-wal")).unwrap_or_default();
    server.restart().await;
    for number in 0..20 {
        server.post("a", "/work", &number.to_string()).await;
    }
    let seen = look(&server);
    assert_eq!(
        (seen.code, seen.out.contains("only grew")),
        (Some(0), true),
        "{}",
        seen.err
    );
    // Somebody puts the database of before in its place, and goes on.
    server.kill();
    fs::write(server.data().join("skep.db"), old).expect("a database");
    fs::write(server.data().join("skep.db-wal"), wal).expect("a log");
    let _ = fs::remove_file(server.data().join("skep.db-shm"));
    server.restart().await;
    let noticed = look(&server);
    assert_eq!(noticed.code, Some(5), "{} {}", noticed.out, noticed.err);
    assert!(noticed.err.contains("rolled back"), "{}", noticed.err);
    for number in 0..80 {
        server.post("a", "/work", &format!("other {number}")).await;
    }
    let noticed = look(&server);
    assert_eq!(noticed.code, Some(5), "{} {}", noticed.out, noticed.err);
    assert!(noticed.err.contains("rewritten"), "{}", noticed.err);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn entries_are_found_and_followed() {
    let server = Server::start().await;
    let spec = json!({ "name": "a", "command": [agent_binary()] });
    server.deploy_spec(spec).await;
    server.client.post("/api/v1/agents/a/stop", "").await;
    server.client.post("/api/v1/agents/a/start", "").await;
    let found = skep(
        &server,
        &["audit", "search", "--resource", "a", "-o", "json"],
    );
    let found: Vec<Value> = serde_json::from_str(&found.out).expect("pure JSON");
    let actions: Vec<&str> = found
        .iter()
        .filter_map(|one| one["entry"]["action"].as_str())
        .collect();
    assert_eq!(
        actions.iter().filter(|it| **it == "agent:deploy").count(),
        1,
        "{actions:?}"
    );
    let numbers: BTreeSet<u64> = found
        .iter()
        .filter_map(|one| one["number"].as_u64())
        .collect();
    assert_eq!(numbers.len(), found.len());
    let none = skep(
        &server,
        &["audit", "search", "--decision", "deny", "-o", "name"],
    );
    assert_eq!((none.code, none.out.as_str()), (Some(0), ""));
    let last = skep(&server, &["audit", "tail", "-n", "2"]);
    assert_eq!(last.out.lines().count(), 3, "{}", last.out);
    let first = numbers.first().expect("an entry").to_string();
    let shown = skep(&server, &["audit", "show", &first]);
    assert!(shown.out.contains("agent:deploy"), "{}", shown.out);
    let missing = skep(&server, &["audit", "show", "1000000"]);
    assert_eq!(missing.code, Some(1));
    assert!(missing.err.contains("skep audit search"), "{}", missing.err);
    eventually("a signed head", async || {
        let head = server.client.get("/api/v1/audit/checkpoint").await.json();
        (head["size"].as_u64() > numbers.last().copied()).then_some(())
    })
    .await;
}

/// Sends a request from another address of this machine; gives the status.
async fn from_address(server: &Server, address: &str, head: &str, key: &str) -> String {
    let socket = tokio::net::TcpSocket::new_v4().expect("a socket");
    let own = format!("{address}:0").parse().expect("an address");
    socket.bind(own).expect("an address of this machine");
    let to = server.client.url.trim_start_matches("http://");
    let mut stream = socket
        .connect(to.parse().expect("an address"))
        .await
        .expect("a connection");
    let request = format!(
        "{head} HTTP/1.1\r\nhost: {to}\r\nauthorization: Bearer {key}\r\n\
         content-length: 0\r\nconnection: close\r\n\r\n"
    );
    stream.write_all(request.as_bytes()).await.expect("sent");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.expect("an answer");
    answer.split(' ').nth(1).unwrap_or_default().to_owned()
}

async fn who_was_refused_can_be_erased_and_the_log_stays_proven(engine: Engine) {
    const ADDRESS: &str = "127.77.88.99";
    let mut server = engine.server().await;
    server.deploy("a", json!({})).await;
    let made = skep(&server, &["keys", "create", "eye", "--role", "viewer"]);
    let key = made.out.trim().to_owned();
    // What may be done says nothing of where it came from.
    let allowed = from_address(&server, ADDRESS, "GET /api/v1/agents/a", &key).await;
    assert_eq!(allowed, "200");
    for _ in 0..2 {
        let refused = from_address(&server, ADDRESS, "POST /api/v1/agents/a/stop", &key).await;
        assert_eq!(refused, "403");
    }
    let denied = server
        .client
        .get("/api/v1/audit/entries?decision=deny")
        .await;
    let denied = denied.json()["items"][0].clone();
    assert_eq!(denied["personal"][0]["kind"], "address", "{denied}");
    assert_eq!(denied["personal"][0]["value"], ADDRESS);
    let person = denied["personal"][0]["person"]
        .as_str()
        .expect("a person")
        .to_owned();
    let number = denied["number"].to_string();
    let work = TempDir::new().expect("a folder");
    let lines = work.path().join("audit.jsonl");
    let lines = lines.to_str().expect("text");
    let taken = skep(&server, &["audit", "export", "--file", lines]);
    assert_eq!(taken.code, Some(0), "{}", taken.err);
    let text = fs::read_to_string(lines).expect("an export");
    assert!(text.contains(&person) && !text.contains(ADDRESS));
    let shown = skep(&server, &["audit", "show", &number]).out;
    assert!(
        shown.contains(ADDRESS) && shown.contains(&person),
        "{shown}"
    );

    // Who only looks erases nobody.
    let path = format!("DELETE /api/v1/audit/people/{person}");
    assert_eq!(from_address(&server, "127.0.0.1", &path, &key).await, "403");
    let erased = skep(&server, &["audit", "erase", "--person", &person, "--yes"]);
    assert_eq!(erased.code, Some(0), "{}", erased.err);
    assert!(erased.out.contains("One value"), "{}", erased.out);
    let again = skep(&server, &["audit", "erase", "--person", &person, "--yes"]);
    assert_eq!(again.code, Some(1), "{}", again.out);
    assert!(again.err.contains("nothing is known"), "{}", again.err);
    let shown = skep(&server, &["audit", "show", &number]).out;
    assert!(shown.contains(&format!("erased ({person})")), "{shown}");
    let told = &entries(&server, "audit:erase").await;
    let told = told.iter().find(|it| it["change"]["what"] == "erased");
    assert_eq!(told.expect("an entry")["resource"]["id"], person.as_str());

    let key = skep(&server, &["audit", "key"]).out;
    server.kill();
    let verified = skep(&server, &["audit", "verify", lines, "--key", &key]);
    assert_eq!(verified.code, Some(0), "{}", verified.err);
    assert!(!engine.has(&server, ADDRESS));
    assert!(engine.has(&server, &person), "it would be found");
}

async fn what_is_too_old_is_pruned_and_the_rest_is_proven(engine: Engine) {
    let mut server = engine.server().await;
    server.deploy("a", json!({})).await;
    server.post("a", "/work", "x").await;
    let head = skep(&server, &["audit", "key"]).out;
    let key = PublicKey::parse(&head).expect("a key");
    assert!(server.terminate());
    // Two days later, as far as the log can tell.
    let days: i64 = 2 * 24 * 3_600 * 1_000_000;
    engine.ask(
        &server,
        &format!("UPDATE audit_batches SET at = at - {days}"),
    );
    let old = engine.ask(&server, "SELECT size FROM audit_log WHERE id = 1");
    assert!(old.parse::<u64>().expect("a size") > 0);
    let setup = engine.setup(&[("SKEP_AUDIT_RETENTION", "1d")]);
    server.restart_with(setup).await;
    server.post("a", "/work", "y").await;
    let work = TempDir::new().expect("a folder");
    let pruned = eventually("the old entries are pruned", async || {
        let all = server.client.get("/api/v1/audit/entries/1").await;
        (all.status == 410).then(|| all.code())
    })
    .await;
    assert_eq!(pruned, "entry-pruned");
    for (form, name) in [("jsonl", "audit.jsonl"), ("tiles", "log")] {
        let file = work.path().join(name);
        let file = file.to_str().expect("text");
        let taken = skep(
            &server,
            &["audit", "export", "--form", form, "--file", file],
        );
        assert_eq!(taken.code, Some(0), "{}", taken.err);
        let said = skep(
            &server,
            &["audit", "verify", file, "--key", &key.to_string()],
        );
        assert_eq!(said.code, Some(0), "{}", said.err);
        assert!(
            said.out.contains(&format!("{old} of them were pruned")),
            "{}",
            said.out
        );
    }
    // The new call is there.
    assert_eq!(entries(&server, "agent:call").await.len(), 1);
}

on_each_engine!(
    who_was_refused_can_be_erased_and_the_log_stays_proven,
    what_is_too_old_is_pruned_and_the_rest_is_proven,
);
