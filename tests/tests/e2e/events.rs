//! Events: each change is told once, in order, and nobody who follows misses one.

use std::io::{BufRead, BufReader};
use std::process::Stdio;

use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};
use skep_tests::postgres::Postgres;
use skep_tests::{Server, Setup, agent_binary, eventually};

use crate::cli::{command, skep};

/// Every event that fits a query, page by page.
async fn all(server: &Server, query: &str) -> Vec<Value> {
    let mut events = Vec::new();
    let mut cursor = "0".to_owned();
    loop {
        let path = format!("/api/v1/events?limit=3&cursor={cursor}{query}");
        let page = server.client.get(&path).await.json();
        events.extend(page["items"].as_array().cloned().expect("items"));
        match page["next"].as_str() {
            Some(next) => cursor = next.to_owned(),
            None => return events,
        }
    }
}

fn kinds(events: &[Value]) -> Vec<&str> {
    events
        .iter()
        .filter_map(|event| event["type"].as_str())
        .collect()
}

/// Waits until the events of an agent are these, in this order.
async fn are(server: &Server, query: &str, wanted: &[&str]) -> Vec<Value> {
    eventually(&format!("{wanted:?}"), async || {
        let events = all(server, query).await;
        if kinds(&events) != wanted && kinds(&events).len() >= wanted.len() {
            panic!("{wanted:?}: {events:#?}");
        }
        (kinds(&events) == wanted).then_some(events)
    })
    .await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_life_of_an_agent_is_told_in_order() {
    lives(Server::start().await).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_life_of_an_agent_is_told_in_order_on_postgresql() {
    let postgres = Postgres::start();
    lives(Server::start_with(crate::postgres::on(&postgres)).await).await;
}

async fn lives(server: Server) {
    let calls = json!({ "attempts": 1 });
    server.deploy("a", calls.clone()).await;
    let begun = [
        "agent.deployed",
        "instance.starting",
        "instance.ready",
        "rollout.promoted",
    ];
    // Ready and promoted are two changes of two parties; the order of both is free.
    eventually("the first four", async || {
        let events = all(&server, "&agent=a").await;
        let mut kinds = kinds(&events);
        kinds.sort_unstable();
        (kinds == {
            let mut all = begun;
            all.sort_unstable();
            all
        })
        .then_some(())
    })
    .await;
    let dead = server.post("a", "/flaky?fails=9", "x").await.call();
    let events = are(&server, "&type=call", &["call.dead"]).await;
    assert_eq!(
        (&events[0]["call"], &events[0]["agent"]),
        (&json!(dead), &json!("a"))
    );
    assert!(
        events[0]["instance"]
            .as_str()
            .is_some_and(|id| id.starts_with("ins_"))
    );
    server.client.post("/api/v1/agents/a/stop", "").await;
    server.wait_state("a", "stopped").await;
    let ended = are(&server, "&type=instance.ended", &["instance.ended"]).await;
    assert_eq!(ended[0]["detail"], "was ended by signal 15", "{ended:?}");
    are(&server, "&type=agent", &["agent.deployed", "agent.stopped"]).await;

    // A revision that cannot work makes way for the one before.
    server.deploy("b", json!({})).await;
    let broken = json!({ "name": "b", "command": ["false"], "restart": { "crash_loop_after": 1 } });
    server.client.post_json("/api/v1/agents", &broken).await;
    let rolled = ["rollout.promoted", "rollout.rolled_back"];
    let events = are(&server, "&agent=b&type=rollout", &rolled).await;
    let why = events[1]["detail"].as_str().unwrap_or_default();
    assert!(why.contains("revision 2 failed"), "{events:?}");
    let request = server
        .client
        .request(http::Method::DELETE, "/api/v1/agents/b", "");
    server.client.send(request).await.expect("an answer");
    let agent = [
        "agent.deployed",
        "agent.deployed",
        "agent.crash_loop",
        "agent.stopped",
        "agent.removed",
    ];
    are(&server, "&agent=b&type=agent", &agent).await;

    let numbers: Vec<u64> = all(&server, "")
        .await
        .iter()
        .filter_map(|event| event["id"].as_str()?.parse().ok())
        .collect();
    let expected: Vec<u64> = (1..=numbers.len() as u64).collect();
    assert_eq!(numbers, expected, "no number is left out");
    let first = all(&server, "&type=server").await;
    assert_eq!(kinds(&first), ["server.started"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sleep_and_waking_are_told() {
    let server = Server::start().await;
    let spec = json!({
        "name": "a", "command": [agent_binary()],
        "replicas": { "min": 0, "max": 2, "idle": "1s", "window": "1s" },
    });
    server.deploy_spec(spec).await;
    server.wait_state("a", "asleep").await;
    assert_eq!(server.post("a", "/work", "x").await.status, 200);
    eventually("both", async || {
        let events = all(&server, "&agent=a&type=agent").await;
        let kinds = kinds(&events);
        kinds
            .starts_with(&["agent.deployed", "agent.slept", "agent.woke"])
            .then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_follows_misses_nothing_over_a_restart() {
    let server = Server::start().await;
    let address = server.address();
    let setup = Setup {
        listen: Some(address),
        ..Setup::default()
    };
    let mut server = server;
    server.terminate();
    server.restart_with(setup.clone()).await;
    server.deploy("a", json!({})).await;
    let mut child = command(
        &server,
        &["events", "--follow", "-o", "json", "--limit", "1000"],
    )
    .stdout(Stdio::piped())
    .stderr(Stdio::null())
    .spawn()
    .expect("the binary runs");
    let mut lines = BufReader::new(child.stdout.take().expect("a pipe")).lines();
    let mut next = || -> Value {
        let line = lines.next().expect("a line").expect("a line");
        serde_json::from_str(&line).expect("an object a line")
    };
    let mut seen = vec![next()];
    server.kill();
    server.restart_with(setup).await;
    server.client.post("/api/v1/agents/a/stop", "").await;
    while seen
        .last()
        .is_none_or(|event| event["type"] != "instance.ended")
    {
        seen.push(next());
    }
    let ids: Vec<u64> = seen
        .iter()
        .filter_map(|event| event["id"].as_str()?.parse().ok())
        .collect();
    let expected: Vec<u64> = (1..=ids.len() as u64).collect();
    assert_eq!(ids, expected, "each once, none left out");
    let started = seen
        .iter()
        .filter(|event| event["type"] == "server.started");
    assert_eq!(started.count(), 3);
    let pid = i32::try_from(child.id())
        .ok()
        .and_then(Pid::from_raw)
        .expect("a pid");
    kill_process(pid, Signal::INT).expect("a signal");
    assert_eq!(child.wait().expect("an end").code(), Some(130));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn events_for_people_are_lines_and_what_is_wrong_is_said() {
    let server = Server::start().await;
    server.deploy("a", json!({})).await;
    let told = skep(
        &server,
        &[
            "events", "--agent", "a", "--since", "10m", "--type", "agent",
        ],
    );
    assert_eq!(told.code, Some(0), "{}", told.err);
    let words: Vec<&str> = told.out.split_whitespace().skip(1).collect();
    assert_eq!(words, ["agent.deployed", "a", "revision", "1"]);
    let wrong = skep(&server, &["events", "--since", "yesterday"]);
    assert_eq!(wrong.code, Some(2));
    for path in [
        "/api/v1/events?cursor=x",
        "/api/v1/events/stream?after=x",
        "/api/v1/events?limit=0",
    ] {
        let answer = server.client.get(path).await;
        assert_eq!(
            (answer.status, answer.code().as_str()),
            (400, "bad-request"),
            "{path}"
        );
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn only_so_many_are_kept() {
    let mut server = Server::start_with(Setup {
        env: vec![("SKEP_EVENTS_KEEP".to_owned(), "3".to_owned())],
        ..Setup::default()
    })
    .await;
    server.deploy("a", json!({})).await;
    server.terminate();
    // The start after that removes what is too much.
    server.restart_as_it_was().await;
    eventually("the newest", async || {
        let events = all(&server, "").await;
        (events.len() <= 5 && events.iter().all(|event| event["id"] != "1")).then_some(())
    })
    .await;
}
