//! Two servers on one database: each has agents and answers for the other's, and when one is
//! killed, stands still or ends, the other takes what it had.

use std::time::Instant;

use http::Method;
use serde_json::{Value, json};
use skep_tests::etcd::Etcd;
use skep_tests::postgres::Postgres;
use skep_tests::{Server, Setup, agent_binary, eventually};
use tempfile::TempDir;

use crate::postgres::on;

/// A second server of the same database.
pub(crate) async fn beside(first: &Server, postgres: &Postgres) -> Server {
    Server::start_with(Setup {
        key: Some(first.client.key.clone()),
        ..on(postgres)
    })
    .await
}

async fn two(postgres: &Postgres) -> (Server, Server) {
    let one = Server::start_with(on(postgres)).await;
    let two = beside(&one, postgres).await;
    eventually("both knowing both", async || {
        let known = |servers: Value| servers["items"].as_array().map_or(0, Vec::len);
        let all = known(servers(&one).await) == 2 && known(servers(&two).await) == 2;
        all.then_some(())
    })
    .await;
    (one, two)
}

async fn servers(server: &Server) -> Value {
    server.client.get("/api/v1/servers").await.json()
}

/// How many agents each server has, as it says itself.
async fn agents_on(server: &Server) -> u64 {
    let all = servers(server).await;
    let items = all["items"].as_array().cloned().unwrap_or_default();
    let this = items.iter().find(|one| one["this"] == true);
    this.map_or(0, |one| one["agents"].as_u64().unwrap_or(0))
}

async fn names(server: &Server, path: &str, field: &str) -> Vec<String> {
    let page = server.client.get(path).await.json();
    let items = page["items"].as_array().cloned().unwrap_or_default();
    let name = |item: &Value| item[field].as_str().unwrap_or_default().to_owned();
    items.iter().map(name).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_has_agents_and_answers_for_the_other() {
    let postgres = Postgres::start();
    let (one, two) = two(&postgres).await;
    for name in ["a", "b", "c", "d"] {
        one.deploy(name, json!({})).await;
    }
    eventually("two for each", async || {
        (agents_on(&one).await == 2 && agents_on(&two).await == 2).then_some(())
    })
    .await;
    for server in [&one, &two] {
        let everywhere = names(server, "/api/v1/agents", "name").await;
        assert_eq!(everywhere, ["a", "b", "c", "d"]);
        let everywhere = names(server, "/api/v1/stats", "agent").await;
        assert_eq!(everywhere, ["a", "b", "c", "d"]);
        let first = server.client.get("/api/v1/agents?limit=3").await.json();
        assert_eq!(first["next"], "c", "{first}");
        for agent in ["a", "b", "c", "d"] {
            every_way_in(server, agent).await;
        }
    }
    // A deployment, a stop and a removal reach the server that has the agent.
    let elsewhere = server_without(&one, &two, "a");
    elsewhere.deploy("a", json!({ "attempts": 2 })).await;
    assert_eq!(elsewhere.agent("a").await["revision"], 2);
    let stopped = elsewhere.client.post("/api/v1/agents/a/stop", "").await;
    assert_eq!(stopped.status, 200, "{}", stopped.text());
    one.wait_state("a", "stopped").await;
    two.wait_state("a", "stopped").await;
    let path = "/api/v1/agents/a?force=true";
    let remove = elsewhere.client.request(Method::DELETE, path, "");
    assert_eq!(
        elsewhere
            .client
            .send(remove)
            .await
            .expect("an answer")
            .status,
        204
    );
    let gone = two.post("a", "/work", "x").await;
    assert_eq!(
        (gone.status, gone.code().as_str()),
        (404, "agent-not-found")
    );
}

/// The one that only passes requests for this agent on.
fn server_without<'s>(one: &'s Server, two: &'s Server, agent: &str) -> &'s Server {
    let folder = |server: &Server| server.data().join("agents/default").join(agent);
    if folder(one).is_dir() { two } else { one }
}

async fn every_way_in(server: &Server, agent: &str) {
    let answer = server.post(agent, "/work", "sync").await;
    assert_eq!((answer.status, answer.text().as_str()), (200, "sync"));
    assert_eq!(server.call(&answer.call()).await["state"], "succeeded");
    // A body that is a blob, there and back.
    let large = "x".repeat(300_000);
    let answer = server.post(agent, "/work", &large).await;
    assert!(answer.text() == large, "{}", answer.status);
    let path = format!("/api/v1/calls/{}/response", answer.call());
    assert!(server.client.get(&path).await.text() == large);
    let path = format!("/api/v1/calls/{}/request", answer.call());
    assert!(server.client.get(&path).await.text() == large);
    // Later, a stream, and what is not journaled.
    let path = format!("/agents/{agent}/work");
    let mut request = server.client.request(Method::POST, &path, "later");
    let wish = http::HeaderValue::from_static("respond-async");
    request.headers_mut().insert("prefer", wish);
    let answer = server.client.send(request).await.expect("an answer");
    assert_eq!(answer.status, 202, "{}", answer.text());
    server.wait_call(&answer.call(), "succeeded").await;
    let replayed = format!("/api/v1/calls/{}/replay", answer.call());
    let replayed = server.client.post(&replayed, "").await;
    assert_eq!(replayed.status, 202, "{}", replayed.text());
    let events = server.post(agent, "/events?n=3", "").await;
    assert_eq!(events.status, 200);
    assert_eq!(
        events.text().matches("data:").count(),
        3,
        "{}",
        events.text()
    );
    let passed = server
        .client
        .get(&format!("/agents/{agent}/echo?q=1"))
        .await;
    assert_eq!(passed.status, 200);
    assert!(passed.call().is_empty());
    let logs = format!("/api/v1/agents/{agent}/logs");
    assert_eq!(server.client.get(&logs).await.status, 200);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_servers_tell_each_other_is_believed_of_servers_only() {
    let postgres = Postgres::start();
    let (one, two) = two(&postgres).await;
    one.deploy("a", json!({})).await;
    for server in [&one, &two] {
        let mut request = server.client.request(Method::POST, "/agents/a/echo", "");
        let headers = request.headers_mut();
        headers.remove("authorization");
        for (name, value) in [
            ("skep-peer", "00".repeat(32)),
            ("skep-peer-workspace", "default".to_owned()),
            ("skep-peer-remote", "1.2.3.4".to_owned()),
            (
                "skep-peer-request",
                "req_01h455vb4pex5vsknk084sn02q".to_owned(),
            ),
            ("skep-peer-hops", "0".to_owned()),
        ] {
            let value = http::HeaderValue::try_from(value).expect("a value");
            headers.insert(name, value);
        }
        let refused = server.client.send(request).await.expect("an answer");
        assert_eq!(refused.status, 401, "{}", refused.text());
        // Who asks is told to the agent, and nothing of what servers tell each other.
        let answer = server.post("a", "/echo", "").await;
        assert_eq!(answer.status, 200);
        assert!(!answer.text().contains("skep-peer"), "{}", answer.text());
        assert!(answer.text().contains("127.0.0.1"), "{}", answer.text());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_starts_again_at_once_is_not_taken_for_its_last_start() {
    let postgres = Postgres::start();
    // It comes back at the same address, with another secret.
    let free = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = free.local_addr().expect("an address").to_string();
    drop(free);
    let here = Setup {
        listen: Some(address),
        ..on(&postgres)
    };
    let mut one = Server::start_with(here).await;
    let two = beside(&one, &postgres).await;
    for name in ["a", "b"] {
        one.deploy(name, json!({})).await;
    }
    let there = elsewhere_of(&two, ["a", "b"]);
    assert_eq!(two.post(there, "/work", "x").await.status, 200);
    one.kill();
    // Until the other has looked it asks the new start as if it were the old one.
    one.restart_as_it_was().await;
    eventually("an answer", async || {
        let answer = two.post(there, "/work", "x").await;
        assert!(matches!(answer.status, 200 | 503), "{}", answer.text());
        (answer.status == 200).then_some(())
    })
    .await;
    assert_eq!(one.post(there, "/work", "x").await.status, 200);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_calls_of_a_killed_server_go_on_at_the_other() {
    let (postgres, ledger) = (Postgres::start(), TempDir::new().expect("a folder"));
    let (mut one, two) = two(&postgres).await;
    let spec = |name: &str| {
        json!({ "name": name, "command": [agent_binary()], "sandbox": "off",
            "env": { "LEDGER": ledger.path() }, "calls": { "concurrency": 1 } })
    };
    for name in ["a", "b"] {
        one.deploy_spec(spec(name)).await;
    }
    // The one that runs, and those that wait behind it; sent to both servers.
    let mut calls = Vec::new();
    for (number, agent) in ["a", "b"].iter().cycle().take(12).enumerate() {
        let server = [&one, &two][number % 2];
        let path = format!("/agents/{agent}/work?ms=300");
        let body = format!("{}{number}", "y".repeat(number * 20_000));
        let mut request = server.client.request(Method::POST, &path, body.clone());
        let wish = http::HeaderValue::from_static("respond-async");
        request.headers_mut().insert("prefer", wish);
        let answer = server.client.send(request).await.expect("an answer");
        assert_eq!(answer.status, 202, "{}", answer.text());
        calls.push((answer.call(), body));
    }
    // A client of the other server that waits for the agent of the one that is killed.
    let lost = elsewhere_of(&two, ["a", "b"]);
    let (client, path) = (two.client.clone(), format!("/agents/{lost}/work?ms=1000"));
    let waiting = tokio::spawn(async move { client.post(&path, "through".to_owned()).await });
    eventually("a call that waits", async || {
        let path = format!("/api/v1/calls?agent={lost}");
        let page = two.client.get(&path).await.json();
        (page["items"].as_array().map_or(0, Vec::len) == 7).then_some(())
    })
    .await;
    one.kill();
    let killed = Instant::now();
    let answer = waiting.await.expect("an answer");
    assert_eq!((answer.status, answer.text().as_str()), (200, "through"));
    let answer = two.post(lost, "/work", "after").await;
    assert_eq!((answer.status, answer.text().as_str()), (200, "after"));
    println!("answered {:?} after the kill", killed.elapsed());
    for (call, body) in &calls {
        two.wait_call(call, "succeeded").await;
        let path = format!("/api/v1/calls/{call}/response");
        assert!(two.client.get(&path).await.text() == *body, "{call}");
    }
    assert_eq!(agents_on(&two).await, 2);

    // It comes back, ends what it left running, and gets its share again when nothing is to be done.
    one.restart_as_it_was().await;
    eventually("its share", async || {
        (agents_on(&one).await == 1 && agents_on(&two).await == 1).then_some(())
    })
    .await;
    for agent in ["a", "b"] {
        one.wait_state(agent, "ready").await;
        let answer = one.post(agent, "/work", "again").await;
        assert_eq!((answer.status, answer.text().as_str()), (200, "again"));
    }
    let pids = eventually("one process of each agent", async || {
        let pids = processes(ledger.path().to_str().expect("a path"));
        (pids.len() == 2).then_some(pids)
    })
    .await;
    assert_eq!(pids.len(), 2);
}

/// The agent that this server has not.
fn elsewhere_of<'n>(server: &Server, names: [&'n str; 2]) -> &'n str {
    let here = |name: &str| server.data().join("agents/default").join(name).is_dir();
    names
        .into_iter()
        .find(|name| !here(name))
        .expect("one is elsewhere")
}

/// Processes of the test agent that have this ledger.
fn processes(ledger: &str) -> Vec<u32> {
    let all = std::fs::read_dir("/proc").into_iter().flatten().flatten();
    let pids = all.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    pids.filter(|pid: &u32| {
        let read = |name: &str| std::fs::read(format!("/proc/{pid}/{name}")).unwrap_or_default();
        let has = |bytes: &[u8], text: &str| {
            bytes
                .windows(text.len())
                .any(|window| window == text.as_bytes())
        };
        read("cmdline").starts_with(agent_binary().as_bytes()) && has(&read("environ"), ledger)
    })
    .collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_stood_still_is_replaced_and_ends_itself() {
    let (postgres, ledger) = (Postgres::start(), TempDir::new().expect("a folder"));
    let (mut one, two) = two(&postgres).await;
    let spec = json!({ "name": "a", "command": [agent_binary()], "sandbox": "off",
        "env": { "LEDGER": ledger.path() } });
    one.deploy_spec(spec).await;
    let client = one.client.clone();
    let slow = tokio::spawn(async move {
        let mut request = client.request(Method::POST, "/agents/a/work?ms=500", "slow");
        let key = http::HeaderValue::from_static("slow");
        request.headers_mut().insert("idempotency-key", key);
        client.send(request).await
    });
    eventually("a running call", async || {
        let page = one.client.get("/api/v1/calls?state=running").await.json();
        (page["items"].as_array().map_or(0, Vec::len) == 1).then_some(())
    })
    .await;
    one.pause();
    // Its agent goes on and answers; nobody takes the answer.
    let mut request = two.client.request(Method::POST, "/agents/a/work", "slow");
    let key = http::HeaderValue::from_static("slow");
    request.headers_mut().insert("idempotency-key", key);
    // The same fingerprint needs the same target.
    *request.uri_mut() = format!("{}/agents/a/work?ms=500", two.client.url)
        .parse()
        .expect("a target");
    let answer = eventually("an answer", async || {
        let mut again = two
            .client
            .request(Method::POST, "/agents/a/work?ms=500", "slow");
        *again.headers_mut() = request.headers().clone();
        let answer = two.client.send(again).await.ok()?;
        (answer.status == 200).then_some(answer)
    })
    .await;
    assert_eq!(answer.text(), "slow");
    assert_eq!(agents_on(&two).await, 1);
    let call = two.call(&answer.call()).await;
    assert_eq!(call["state"], "succeeded", "{call}");
    let epochs: Vec<_> = call["history"].as_array().into_iter().flatten().collect();
    assert_eq!(
        epochs.len(),
        1,
        "the attempt of the first server was given up: {call}"
    );

    one.resume();
    assert!(!one.ended().await, "it must not seem to have ended well");
    assert!(
        one.log()
            .contains("another server has taken this one's place")
    );
    // What it told its client, if anything, is not another result.
    if let Ok(Ok(told)) = slow.await {
        assert!(
            told.status != 200 || told.call() == answer.call(),
            "{told:?}"
        );
    }
    eventually("one process of the agent", async || {
        (processes(ledger.path().to_str().expect("a path")).len() == 1).then_some(())
    })
    .await;
    assert_eq!(two.post("a", "/work", "x").await.status, 200);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_ends_leaves_its_agents_to_the_other() {
    let postgres = Postgres::start();
    let (mut one, two) = two(&postgres).await;
    for name in ["a", "b"] {
        one.deploy(name, json!({})).await;
    }
    assert!(one.terminate());
    eventually("both agents at the other", async || {
        (agents_on(&two).await == 2).then_some(())
    })
    .await;
    for name in ["a", "b"] {
        let answer = two.post(name, "/work", "x").await;
        assert_eq!((answer.status, answer.text().as_str()), (200, "x"));
    }
    let page = servers(&two).await;
    assert_eq!(page["items"].as_array().map_or(0, Vec::len), 1, "{page}");
    assert_eq!(page["items"][0]["leads"], true);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_agent_with_volumes_waits_for_the_server_on_which_they_lie() {
    let postgres = Postgres::start();
    let (mut one, two) = two(&postgres).await;
    let files = json!([{ "source": "notes" }]);
    let spec = json!({ "name": "kept", "command": [agent_binary()], "volumes": files });
    one.deploy_spec(spec).await;
    one.deploy("free", json!({})).await;
    let (mut with, without) = match one.data().join("agents/default/kept").is_dir() {
        true => (one, two),
        false => {
            one.client = two.client.clone();
            (two, one)
        }
    };
    with.kill();
    eventually("the free agent at the other", async || {
        let page = names(&without, "/api/v1/agents", "name").await;
        (page == ["free"]).then_some(())
    })
    .await;
    assert_eq!(without.post("free", "/work", "x").await.status, 200);
    with.restart_as_it_was().await;
    with.wait_state("kept", "ready").await;
    assert_eq!(without.post("kept", "/work", "x").await.status, 200);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn with_etcd_its_leases_say_who_lives_and_who_leads() {
    let (postgres, mut etcd) = (Postgres::start(), Etcd::start());
    let with_etcd = |key: Option<&str>| {
        let mut setup = on(&postgres);
        setup.env.push(("SKEP_SERVERS_ETCD".to_owned(), etcd.url()));
        setup.key = key.map(str::to_owned);
        setup
    };
    let mut one = Server::start_with(with_etcd(None)).await;
    let key = one.client.key.clone();
    let two = Server::start_with(with_etcd(Some(&key))).await;
    let leader = async |server: &Server| {
        let all = servers(server).await;
        let items = all["items"].as_array().cloned().unwrap_or_default();
        let leader = items.iter().find(|one| one["leads"] == true).cloned();
        (items.len() == 2).then_some(leader?["url"].clone())
    };
    let url = one.client.url.clone();
    eventually("the first one leading", async || {
        (leader(&two).await? == url.as_str()).then_some(())
    })
    .await;
    assert_eq!(etcd.dump().matches("/skep/servers/").count(), 2);
    for name in ["a", "b"] {
        one.deploy(name, json!({})).await;
    }
    // Without etcd nobody is taken for gone, and everything else goes on.
    etcd.kill();
    for server in [&one, &two] {
        eventually("word of it", async || {
            server
                .log()
                .contains("etcd does not say who lives")
                .then_some(())
        })
        .await;
        for name in ["a", "b"] {
            let answer = server.post(name, "/work", "x").await;
            assert_eq!(answer.status, 200, "{}", answer.text());
        }
    }
    etcd.restart();
    for server in [&one, &two] {
        eventually("word of it", async || {
            server
                .log()
                .contains("etcd says again who lives")
                .then_some(())
        })
        .await;
    }
    one.kill();
    let killed = Instant::now();
    eventually("everything at the other", async || {
        let all = servers(&two).await;
        let only = all["items"].as_array().map_or(0, Vec::len) == 1;
        (only && all["items"][0]["leads"] == true && agents_on(&two).await == 2).then_some(())
    })
    .await;
    println!("taken over {:?} after the kill", killed.elapsed());
    for name in ["a", "b"] {
        assert_eq!(two.post(name, "/work", "x").await.status, 200);
    }
    assert_eq!(etcd.dump().matches("/skep/servers/").count(), 1);
}
