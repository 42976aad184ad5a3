//! Outgoing webhooks: what happens is told to receivers that verify it with the official libraries, whatever fails or is
//! killed in between.

use std::collections::BTreeSet;
use std::process::Stdio;

use http::Method;
use serde_json::{Value, json};
use skep_tests::{Answer, Receiver, Server, Setup, eventually, packages, payload};
use tokio::io::AsyncWriteExt as _;
use tokio::process::Command;

use crate::cli::{command, skep};
use crate::engine::{Engine, on_each_engine};
use crate::models::{CHAT, House, chat};

/// This machine may be asked, and a message is tried four times within a second.
const QUICK: [(&str, &str); 2] = [
    ("SKEP_OUTGOING_ALLOW", "127.0.0.0/8"),
    ("SKEP_WEBHOOKS_SCHEDULE", "10ms,10ms,10ms"),
];
/// As often as a test can want.
const PATIENT: [(&str, &str); 3] = [
    ("SKEP_OUTGOING_ALLOW", "127.0.0.0/8"),
    // A claim lasts as long, and a bit.
    ("SKEP_WEBHOOKS_TIMEOUT", "1s"),
    (
        "SKEP_WEBHOOKS_SCHEDULE",
        "200ms,200ms,200ms,200ms,200ms,500ms,500ms,500ms,1s,1s,1s,1s,1s,2s,2s,2s,2s,2s,2s,2s,2s,2s,2s,2s,2s",
    ),
];

async fn ask(server: &Server, method: Method, path: &str, body: &Value) -> Answer {
    let path = format!("/api/v1/webhooks{path}");
    let mut request = server.client.request(method, &path, body.to_string());
    let json = "application/json".parse().expect("a type");
    request.headers_mut().insert("content-type", json);
    server.client.send(request).await.expect("an answer")
}

async fn put(server: &Server, name: &str, url: &str, events: &[&str]) -> Value {
    let new = json!({ "url": url, "events": events });
    let made = ask(server, Method::PUT, &format!("/{name}"), &new).await;
    assert_eq!(made.status, 200, "{}", made.text());
    made.json()
}

/// An endpoint at a receiver that has its key.
async fn add(server: &Server, name: &str, receiver: &Receiver, events: &[&str]) -> String {
    let made = put(server, name, &receiver.url(name), events).await;
    let key = made["secret"].as_str().expect("a key").to_owned();
    receiver.knows(&[&key]);
    key
}

async fn post(server: &Server, path: &str, body: &Value) -> Value {
    let said = ask(server, Method::POST, path, body).await;
    assert_eq!(said.status, 200, "{}", said.text());
    said.json()
}

async fn show(server: &Server, name: &str) -> Value {
    let said = ask(server, Method::GET, &format!("/{name}"), &json!({})).await;
    assert_eq!(said.status, 200, "{}", said.text());
    said.json()
}

async fn messages(server: &Server, name: &str, query: &str) -> Vec<Value> {
    let path = format!("/{name}/messages?{query}");
    let said = ask(server, Method::GET, &path, &json!({})).await;
    assert_eq!(said.status, 200, "{}", said.text());
    said.json()["items"].as_array().cloned().expect("a page")
}

/// What a receiver heard of a type, as soon as there is so much of it.
async fn heard(receiver: &Receiver, kind: &str, count: usize) -> Vec<Value> {
    eventually(kind, async || {
        let mut all = receiver.heard();
        all.retain(|it| payload(it)["type"] == kind);
        (all.len() >= count).then_some(all)
    })
    .await
}

fn id(heard: &Value) -> &str {
    heard["headers"]["webhook-id"].as_str().expect("an id")
}

async fn call(server: &Server) -> String {
    let answer = server.post("a", "/work", "x").await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    answer.call()
}

/// What the official library for Node.js says of something that was heard.
async fn verified_by_node(key: &str, heard: &Value) -> Value {
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/sdks/webhooks/node/verify.mjs");
    let script = std::fs::File::open(script).expect("a script");
    let mut child = Command::new("node")
        .args(["--input-type=module", "-e"])
        .arg(std::io::read_to_string(script).expect("a script"))
        .current_dir(packages("webhooks/node"))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("Node.js");
    let said = json!({ "key": key, "body": heard["body"], "headers": heard["headers"] });
    let mut stdin = child.stdin.take().expect("its input");
    stdin
        .write_all(said.to_string().as_bytes())
        .await
        .expect("it reads");
    drop(stdin);
    let output = child.wait_with_output().await.expect("it ends");
    serde_json::from_slice(&output.stdout).expect("what it says")
}

async fn what_happens_is_told_until_it_is_taken(engine: Engine) {
    let server = Server::start_with(engine.setup(&QUICK)).await;
    let receiver = Receiver::start().await;
    let events = ["agent.deployed", "call.*"];
    let key = add(&server, "ops", &receiver, &events).await;
    receiver.plan(&["500", "302", "429 0"]);
    server.deploy("a", json!({})).await;
    let told = heard(&receiver, "agent.deployed", 4).await;
    let ids: BTreeSet<&str> = told.iter().map(id).collect();
    assert_eq!(ids.len(), 1, "one message, however often: {told:?}");
    assert!(
        told.iter().all(|it| it["verified"] == json!([0])),
        "{told:?}"
    );
    let last = payload(&told[3]);
    assert_eq!(
        (&last["data"]["agent"], &last["data"]["revision"]),
        (&json!("a"), &json!(1))
    );
    assert_eq!(last["data"]["workspace"], "default");
    let by_node = verified_by_node(&key, &told[0]).await;
    assert_eq!(
        (&by_node["payload"], &by_node["refused"]),
        (&last, &json!(true))
    );

    let id_of_call = call(&server).await;
    let told = heard(&receiver, "call.succeeded", 1).await;
    let data = &payload(&told[0])["data"];
    assert_eq!(data["call"], id_of_call.as_str());
    assert_eq!(
        (&data["agent"], &data["status"]),
        (&json!("a"), &json!(200))
    );
    assert_eq!(
        receiver.heard_at("ops").len(),
        receiver.heard().len(),
        "redirects"
    );
    // Nothing but what was asked for, and nothing of what was before.
    let kinds: BTreeSet<String> = receiver
        .heard()
        .iter()
        .map(|it| payload(it)["type"].to_string())
        .collect();
    assert_eq!(kinds.len(), 2, "{kinds:?}");
    eventually("all delivered", async || {
        let shown = show(&server, "ops").await;
        (shown["waiting"] == 0 && shown["last_success_at"].is_string()).then_some(())
    })
    .await;
    let shown = show(&server, "ops").await;
    assert_eq!(shown["last_failure"], "it answered 429", "{shown}");
    assert!(shown.get("secret").is_none() && shown.get("failing_since").is_none());
    let all = messages(&server, "ops", "state=delivered").await;
    let tries = |kind: &str| {
        all.iter()
            .find(|it| it["event"] == kind)
            .map(|it| it["tries"].clone())
    };
    assert_eq!(tries("agent.deployed"), Some(json!(4)));
    assert_eq!(tries("call.succeeded"), Some(json!(1)));
    shows_nobody_the_key(&engine, server, &key).await;
}

/// That an endpoint was made stands in the log, and its key nowhere.
async fn shows_nobody_the_key(engine: &Engine, mut server: Server, key: &str) {
    let audit = server
        .client
        .get("/api/v1/audit/entries?action=webhook:write")
        .await
        .text();
    assert!(
        audit.contains("Webhook") && audit.contains("added"),
        "{audit}"
    );
    assert!(!audit.contains(key));
    let secrets = server.client.get("/api/v1/secrets").await.text();
    assert!(!secrets.contains(key));
    assert!(!server.log().contains(key));
    assert!(server.terminate());
    let base64 = key.strip_prefix("whsec_").expect("a key");
    assert!(!engine.has(&server, base64), "the key lies in the open");
}

async fn a_dead_message_is_delivered_by_hand(engine: Engine) {
    let server = Server::start_with(engine.setup(&QUICK)).await;
    let receiver = Receiver::start().await;
    add(&server, "ops", &receiver, &["*"]).await;
    receiver.plan(&["500"; 8]);
    let sent = post(&server, "/ops/test", &json!({})).await;
    let path = sent["id"].as_str().expect("an id").to_owned();
    let dead = async || {
        let found = messages(&server, "ops", "state=dead").await;
        found.into_iter().find(|it| it["id"] == path.as_str())
    };
    let found = eventually("a dead message", dead).await;
    assert_eq!(
        (&found["tries"], &found["last_answer"]),
        (&json!(4), &json!("it answered 500"))
    );
    assert_eq!(found["payload"]["type"], "webhook.test");
    post(
        &server,
        &format!("/ops/messages/{path}/redeliver"),
        &json!({}),
    )
    .await;
    heard(&receiver, "webhook.test", 8).await;
    eventually("dead once more", dead).await;
    assert_eq!(show(&server, "ops").await["dead"], 1);
    let again = post(&server, "/ops/redeliver", &json!({})).await;
    assert_eq!(again["messages"], 1);
    let told = heard(&receiver, "webhook.test", 9).await;
    assert!(
        told.iter()
            .all(|it| id(it) == path && it["verified"] == json!([0]))
    );
    eventually("delivered", async || {
        let shown = show(&server, "ops").await;
        (shown["dead"] == 0 && shown["waiting"] == 0).then_some(())
    })
    .await;
    let odd = "/ops/messages/msg_01h455vb4pex5vsknk084sn02q/redeliver";
    let missing = ask(&server, Method::POST, odd, &json!({})).await;
    assert_eq!(
        (missing.status, missing.code().as_str()),
        (404, "webhook-not-found")
    );
}

async fn nothing_is_lost_by_a_kill(engine: Engine) {
    let mut server = Server::start_with(engine.setup(&PATIENT)).await;
    let mut receiver = Receiver::start().await;
    add(&server, "ops", &receiver, &["call.succeeded"]).await;
    server.deploy("a", json!({})).await;
    receiver.end().await;
    let mut calls = BTreeSet::new();
    // What is committed and was not read yet, what waits, and what is on its way.
    for _ in 0..3 {
        for _ in 0..3 {
            calls.insert(call(&server).await);
        }
        server.kill();
        server.restart_as_it_was().await;
        server.wait_state("a", "ready").await;
    }
    let of_call = |heard: &Value| payload(heard)["data"]["call"].as_str().map(str::to_owned);
    // A hanging receiver has what was sent, and the server does not know it.
    receiver.plan(&["hang"]);
    receiver.begin().await;
    eventually("one that is under way", async || {
        (!receiver.heard().is_empty()).then_some(())
    })
    .await;
    server.kill();
    server.restart_as_it_was().await;
    eventually("each call", async || {
        let mut taken = receiver.heard();
        taken.retain(|it| it["answer"] == "204");
        let told: BTreeSet<String> = taken.iter().filter_map(of_call).collect();
        (told == calls).then_some(())
    })
    .await;
    let all = receiver.heard();
    assert!(all.iter().all(|it| it["verified"] == json!([0])), "{all:?}");
    // The same id at each try, and another one for each message.
    let pairs: BTreeSet<_> = all
        .iter()
        .map(|it| (of_call(it), id(it).to_owned()))
        .collect();
    assert_eq!(pairs.len(), calls.len(), "{pairs:?}");
    eventually("nothing that waits", async || {
        (show(&server, "ops").await["waiting"] == 0).then_some(())
    })
    .await;
}

on_each_engine!(
    what_happens_is_told_until_it_is_taken,
    a_dead_message_is_delivered_by_hand,
    nothing_is_lost_by_a_kill,
);

fn on_sqlite(env: &[(&str, &str)]) -> Setup {
    Engine::Sqlite.setup(env)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_keys_sign_while_one_is_replaced() {
    let server = Server::start_with(on_sqlite(&QUICK)).await;
    let receiver = Receiver::start().await;
    let first = add(&server, "ops", &receiver, &["call.*"]).await;
    let rotated = post(&server, "/ops/rotate", &json!({ "overlap": "1h" })).await;
    let second = rotated["secret"].as_str().expect("a key").to_owned();
    assert!(rotated["old_key_until"].is_string() && first != second);
    receiver.knows(&[&first, &second]);
    post(&server, "/ops/test", &json!({})).await;
    let told = heard(&receiver, "webhook.test", 1).await;
    assert_eq!(told[0]["verified"], json!([0, 1]), "{told:?}");
    let signatures = told[0]["headers"]["webhook-signature"].as_str();
    assert_eq!(signatures.expect("signatures").split(' ').count(), 2);
    let rotated = post(&server, "/ops/rotate", &json!({ "overlap": "0s" })).await;
    let third = rotated["secret"].as_str().expect("a key").to_owned();
    receiver.knows(&[&first, &second, &third]);
    post(&server, "/ops/test", &json!({})).await;
    let told = heard(&receiver, "webhook.test", 2).await;
    assert_eq!(
        told[1]["verified"],
        json!([2]),
        "the newest alone: {told:?}"
    );
    let long = ask(
        &server,
        Method::POST,
        "/ops/rotate",
        &json!({ "overlap": "31d" }),
    )
    .await;
    assert_eq!(long.status, 400, "{}", long.text());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn addresses_inside_are_not_asked() {
    let quick = [("SKEP_WEBHOOKS_SCHEDULE", "10ms")];
    let server = Server::start_with(on_sqlite(&quick)).await;
    let receiver = Receiver::start().await;
    for url in [
        receiver.url("x"),
        "http://169.254.169.254/latest/meta-data".to_owned(),
        "https://[::1]:8443/".to_owned(),
        "https://ada:MARKED@example.com/".to_owned(),
    ] {
        let new = json!({ "url": url, "events": ["*"] });
        let refused = ask(&server, Method::PUT, "/ops", &new).await;
        assert_eq!(refused.status, 400, "{url}: {}", refused.text());
        assert!(!refused.text().contains("MARKED"));
    }
    // Where a name leads is found out when it is asked.
    let named = format!("http://localhost:{}/x", receiver.port());
    put(&server, "ops", &named, &["*"]).await;
    post(&server, "/ops/test", &json!({})).await;
    let shown = eventually("a dead message", async || {
        let shown = show(&server, "ops").await;
        (shown["dead"] == 1).then_some(shown)
    })
    .await;
    let why = shown["last_failure"].as_str().expect("why");
    assert!(why.contains("none that Skep may ask"), "{why}");
    assert!(!why.contains("127.0.0.1"), "{why}");
    assert!(receiver.heard().is_empty());
    let odd = json!({ "url": "https://example.com/", "events": ["call.deed"] });
    let odd = ask(&server, Method::PUT, "/odd", &odd).await;
    assert!(
        odd.text().contains("did you mean `call.dead`"),
        "{}",
        odd.text()
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_endpoint_that_is_gone_or_fails_for_too_long_is_turned_off() {
    let env = [QUICK[0], QUICK[1], ("SKEP_WEBHOOKS_GIVE_UP", "1ms")];
    let server = Server::start_with(on_sqlite(&env)).await;
    let (receiver, other) = (Receiver::start().await, Receiver::start().await);
    add(&server, "ops", &receiver, &["call.*"]).await;
    add(&server, "watch", &other, &["webhook.*"]).await;
    let state = async |wanted: &str| {
        eventually(wanted, async || {
            let shown = show(&server, "ops").await;
            (shown["state"] == wanted).then_some(shown)
        })
        .await
    };
    receiver.plan(&["410"]);
    post(&server, "/ops/test", &json!({})).await;
    state("gone").await;
    let refused = ask(&server, Method::POST, "/ops/test", &json!({})).await;
    assert_eq!(
        (refused.status, refused.code().as_str()),
        (409, "webhook-state")
    );
    let told = heard(&other, "webhook.off", 1).await;
    let detail = payload(&told[0])["data"]["detail"].to_string();
    assert!(detail.contains("ops: it answered 410"), "{detail}");
    let on = skep(&server, &["webhooks", "update", "ops", "--on"]);
    assert_eq!(
        (on.code, on.out.as_str()),
        (Some(0), "ops is on."),
        "{}",
        on.err
    );
    receiver.plan(&["500", "500", "500", "500"]);
    post(&server, "/ops/test", &json!({})).await;
    state("failing").await;
    heard(&other, "webhook.off", 2).await;
    let audit = "/api/v1/audit/entries?action=webhook:off";
    let entries = server.client.get(audit).await.json();
    assert_eq!(
        entries["items"].as_array().map(Vec::len),
        Some(2),
        "{entries}"
    );
    let events = skep(&server, &["events", "--type", "webhook.off"]).out;
    assert_eq!(events.matches("webhook.off").count(), 2, "{events}");
    // What waited goes on when it is on again.
    receiver.plan(&[]);
    let before = receiver.heard().len();
    skep(&server, &["webhooks", "update", "ops", "--on"]);
    eventually("the rest", async || {
        let shown = show(&server, "ops").await;
        (shown["waiting"] == 0).then_some(())
    })
    .await;
    assert!(receiver.heard().len() > before);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_slow_endpoint_holds_up_no_other() {
    let server = Server::start_with(on_sqlite(&QUICK)).await;
    let (slow, quick) = (Receiver::start().await, Receiver::start().await);
    add(&server, "slow", &slow, &["call.*"]).await;
    add(&server, "quick", &quick, &["call.*"]).await;
    slow.plan(&["hang"; 40]);
    server.deploy("a", json!({})).await;
    for _ in 0..20 {
        call(&server).await;
    }
    heard(&quick, "call.succeeded", 20).await;
    // So many at once, and no more.
    assert_eq!(slow.heard().len(), 4);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_servers_send_each_message_once() {
    let engine = Engine::postgres();
    let folder = tempfile::tempdir().expect("a folder");
    let seal = folder.path().join("seal.key").display().to_string();
    // Both open the same vault.
    let setup = engine.setup(&[
        PATIENT[0],
        PATIENT[1],
        PATIENT[2],
        ("SKEP_SEAL_FILE", &seal),
    ]);
    let mut one = Server::start_with(setup.clone()).await;
    let two = Server::start_with(Setup {
        key: Some(one.client.key.clone()),
        ..setup
    })
    .await;
    let receiver = Receiver::start().await;
    add(&two, "ops", &receiver, &["call.succeeded"]).await;
    one.deploy("a", json!({})).await;
    let mut calls = BTreeSet::new();
    for server in [&one, &two, &one, &two] {
        calls.insert(call(server).await);
    }
    let told = heard(&receiver, "call.succeeded", 4).await;
    let ids: BTreeSet<&str> = told.iter().map(id).collect();
    assert_eq!((told.len(), ids.len()), (4, 4), "{told:?}");
    // Whoever leads may end: the other goes on.
    one.kill();
    let called = eventually("a call after the takeover", async || {
        let answer = two.post("a", "/work", "x").await;
        (answer.status == 200).then(|| answer.call())
    })
    .await;
    calls.insert(called);
    eventually("each call", async || {
        let heard = receiver.heard();
        let of_call = |it: &Value| payload(it)["data"]["call"].as_str().map(str::to_owned);
        let told: BTreeSet<String> = heard.iter().filter_map(of_call).collect();
        told.is_superset(&calls).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_budget_that_refuses_is_told_of_once() {
    let house = House::start().await;
    let receiver = Receiver::start().await;
    add(&house.server, "ops", &receiver, &["budget.*"]).await;
    let budget = json!({ "of": "workspace", "window": "total", "tokens": 1 });
    let put = crate::models::put(&house.server.client, "budgets/all", &budget).await;
    assert_eq!(put.0, 200, "{}", put.1);
    for _ in 0..3 {
        let asked = chat("priced+prompt=10+tokens=5", false);
        let said = house.server.client.post_json(CHAT, &asked).await;
        assert_eq!((said.status, said.code().as_str()), (429, "over-budget"));
    }
    let told = heard(&receiver, "budget.exceeded", 1).await;
    let detail = payload(&told[0])["data"]["detail"].to_string();
    assert!(detail.contains("the budget all"), "{detail}");
    let events = skep(&house.server, &["events", "--type", "budget.exceeded"]).out;
    assert_eq!(events.matches("budget.exceeded").count(), 1, "{events}");
}

fn lists_one_with_a_dead_message(listed: &str) {
    let mut lines = listed.lines();
    let headers: Vec<&str> = lines
        .next()
        .unwrap_or_default()
        .split_whitespace()
        .collect();
    assert_eq!(
        headers,
        ["NAME", "STATE", "WAITING", "DEAD", "LAST", "EVENTS", "URL"]
    );
    let row = lines.next().unwrap_or_default();
    assert!(row.starts_with("ops   on     0        1"), "{listed}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_command_line_does_all_of_it() {
    let server = Server::start_with(on_sqlite(&QUICK)).await;
    let receiver = Receiver::start().await;
    let url = receiver.url("ops");
    // As it is printed: names of messages are not made steady.
    let run = |words: &[&str]| {
        let output = command(&server, &[&["webhooks"], words].concat()).output();
        let output = output.expect("the binary runs");
        let error = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(0), "{words:?}: {error}");
        String::from_utf8(output.stdout)
            .expect("text")
            .trim_end()
            .to_owned()
    };
    let added = run(&[
        "add",
        "ops",
        &url,
        "--event",
        "call.*",
        "--event",
        "agent.deployed",
    ]);
    assert!(added.starts_with("whsec_"), "the key alone: {}", added);
    assert_eq!(added.lines().count(), 1);
    receiver.knows(&[&added]);
    let tested = run(&["test", "ops"]);
    assert!(tested.ends_with(": it answered 204."), "{}", tested);
    receiver.plan(&["500"; 4]);
    let failed = skep(&server, &["webhooks", "test", "ops"]);
    assert_eq!(failed.code, Some(5), "{}", failed.out);
    eventually("a dead message", async || {
        (show(&server, "ops").await["dead"] == 1).then_some(())
    })
    .await;
    lists_one_with_a_dead_message(&run(&["list"]));
    let shown = run(&["show", "ops"]);
    assert!(
        shown.contains("it answered 500") && shown.contains("call.*, agent.deployed"),
        "{shown}"
    );
    assert!(!shown.contains("whsec_"));
    let dead = run(&["messages", "ops", "--state", "dead", "-o", "name"]);
    let table = run(&["messages", "ops"]);
    assert!(
        table.lines().all(|line| line.chars().count() <= 80),
        "{table}"
    );
    run(&["redeliver", "ops", dead.trim()]);
    let none = run(&["redeliver", "ops", "--dead"]);
    assert_eq!(none, "0 dead messages are sent again.");
    run(&["update", "ops", "--event", "*", "--off"]);
    assert!(run(&["list"]).contains("ops   off"));
    let rotated = run(&["rotate", "ops", "--overlap", "1h"]);
    assert!(rotated.starts_with("whsec_") && rotated != added);
    run(&["remove", "ops", "--yes"]);
    let gone = skep(&server, &["webhooks", "show", "ops"]);
    assert_eq!(gone.code, Some(1), "{}", gone.out);
    assert!(
        gone.err.contains("there is no webhook endpoint `ops`"),
        "{}",
        gone.err
    );
    assert_eq!(run(&["list", "-o", "json"]), "[]");
}
