//! New revisions, restarts and copies while clients call: nobody notices.

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use http::Method;
use serde_json::{Value, json};
use skep_tests::{Client, Server, agent_binary, eventually};

use crate::docker::{Image, Traces};

/// Clients that call at once, half of them unjournaled.
const CLIENTS: usize = 8;
/// How often the agent is deployed anew meanwhile.
const DEPLOYMENTS: u32 = 4;

fn spec(number: u32, replicas: u32) -> Value {
    json!({
        "name": "a", "command": [agent_binary()], "replicas": replicas,
        "env": { "NUMBER": number.to_string() },
    })
}

/// Waits until a revision runs alone and in full.
async fn settled(server: &Server, revision: u32, replicas: usize) -> Value {
    eventually(&format!("revision {revision}"), async || {
        let agent = server.agent("a").await;
        let instances = agent["instances"].as_array().cloned().unwrap_or_default();
        let new = |one: &&Value| one["revision"] == revision && one["state"] == "ready";
        let whole = instances.len() == replicas && instances.iter().filter(new).count() == replicas;
        (agent["rollout"]["state"] == "done" && whole).then_some(agent)
    })
    .await
}

/// Calls until it is told to stop. Every answer must be a good one. Tells how many there were.
async fn calls(client: Client, number: usize, stop: Arc<AtomicBool>) -> Vec<String> {
    let mut done = Vec::new();
    let journaled = number.is_multiple_of(2);
    while !stop.load(Ordering::Relaxed) {
        let body = format!("{number}-{}", done.len());
        let request = match journaled {
            true => client.request(Method::POST, "/agents/a/work?ms=3", body.clone()),
            false => client.request(Method::GET, "/agents/a/work?ms=3", String::new()),
        };
        let answer = client.send(request).await.expect("an answer");
        assert_eq!(answer.status, 200, "{}", answer.text());
        if journaled {
            assert_eq!(answer.text(), body);
            done.push(answer.call());
        } else {
            done.push(String::new());
        }
    }
    done
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn updates_restarts_and_rollbacks_cost_no_client_an_error() {
    let server = Server::start().await;
    nobody_notices(&server, spec).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn updates_restarts_and_rollbacks_in_containers_cost_no_client_an_error() {
    let image = Image::new("rollouts");
    let server = Server::start().await;
    let _traces = Traces(server.data());
    nobody_notices(&server, |number, replicas| {
        let mut spec = image.spec("a");
        spec["replicas"] = json!(replicas);
        spec["env"] = json!({ "NUMBER": number.to_string() });
        spec
    })
    .await;
}

/// Updates, restarts and rolls back an agent under load.
async fn nobody_notices(server: &Server, spec: impl Fn(u32, u32) -> Value) {
    server.deploy_spec(spec(0, 2)).await;
    settled(server, 1, 2).await;
    let stop = Arc::new(AtomicBool::new(false));
    let callers: Vec<_> = (0..CLIENTS)
        .map(|number| tokio::spawn(calls(server.client.clone(), number, stop.clone())))
        .collect();
    for number in 1..=DEPLOYMENTS {
        let replicas = 2 + number % 2;
        let answer = server
            .client
            .post_json("/api/v1/agents", &spec(number, replicas))
            .await;
        assert_eq!(answer.status, 200, "{}", answer.text());
        settled(server, number + 1, replicas as usize).await;
    }
    let before = ids(&server.agent("a").await);
    server.client.post("/api/v1/agents/a/restart", "").await;
    eventually("other instances", async || {
        let now = ids(&settled(server, DEPLOYMENTS + 1, 2).await);
        now.is_disjoint(&before).then_some(())
    })
    .await;
    let back = json!({ "to": 1, "reason": "a test" });
    let answer = server
        .client
        .post_json("/api/v1/agents/a/rollback", &back)
        .await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    settled(server, 1, 2).await;
    stop.store(true, Ordering::Relaxed);
    let mut journaled = Vec::new();
    for caller in callers {
        let done = caller.await.expect("a client without an error");
        assert!(!done.is_empty(), "a client that never got an answer");
        journaled.extend(done.into_iter().filter(|call| !call.is_empty()));
    }
    // One attempt each: no call was cut off.
    for call in journaled.iter().step_by(50) {
        assert_eq!(server.call(call).await["attempts"], 1);
    }
    let stored = server.client.get("/api/v1/agents/a").await.json();
    assert_eq!(
        stored["calls"]["succeeded"].as_u64(),
        u64::try_from(journaled.len()).ok()
    );
}

fn ids(agent: &Value) -> HashSet<String> {
    let instances = agent["instances"].as_array().cloned().unwrap_or_default();
    let id = |one: &Value| one["id"].as_str().unwrap_or_default().to_owned();
    instances.iter().map(id).collect()
}

#[tokio::test]
async fn a_revision_that_fails_makes_way_and_nobody_notices() {
    let server = Server::start().await;
    server.deploy_spec(spec(1, 1)).await;
    settled(&server, 1, 1).await;
    let mut broken = spec(2, 1);
    broken["command"] = json!(["sh", "-c", "echo broken >&2; exit 3"]);
    broken["restart"] = json!({ "backoff": "1ms" });
    let answer = server.client.post_json("/api/v1/agents", &broken).await;
    assert_eq!(answer.json()["revision"], 2);
    let agent = eventually("the rollback", async || {
        let agent = server.agent("a").await;
        assert_eq!(server.post("a", "/work", "x").await.status, 200);
        (agent["rollout"]["state"] == "rolled_back").then_some(agent)
    })
    .await;
    assert_eq!(agent["revision"], 1);
    let reason = agent["rollout"]["reason"].as_str().unwrap_or_default();
    assert!(
        reason.contains("revision 2") && reason.contains("broken"),
        "{reason}"
    );
}

#[tokio::test]
async fn a_restart_of_the_server_keeps_copies_and_what_was_decided() {
    let mut server = Server::start().await;
    server.deploy_spec(spec(1, 3)).await;
    let before = ids(&settled(&server, 1, 3).await);
    let mut canary = spec(2, 3);
    canary["rollout"] = json!({ "steps": [{ "weight": 20 }] });
    server.client.post_json("/api/v1/agents", &canary).await;
    let paused = async |server: &Server| {
        eventually("the step", async || {
            let agent = server.agent("a").await;
            let whole = agent["instances"]
                .as_array()
                .is_some_and(|all| all.len() == 3);
            (agent["rollout"]["state"] == "paused" && whole).then_some(agent)
        })
        .await
    };
    let both = ids(&paused(&server).await);
    assert_eq!(both.intersection(&before).count(), 2);
    server.kill();
    server.restart().await;
    let agent = paused(&server).await;
    assert_eq!(
        (ids(&agent), &agent["rollout"]["weight"]),
        (both, &json!(20))
    );
    server
        .client
        .post("/api/v1/agents/a/rollout/promote", "")
        .await;
    settled(&server, 2, 3).await;
}

#[tokio::test]
async fn two_revisions_that_share_the_calls_are_told_apart() {
    let server = Server::start().await;
    server.deploy_spec(spec(1, 2)).await;
    settled(&server, 1, 2).await;
    let mut canary = spec(2, 2);
    canary["rollout"] = json!({ "steps": [{ "weight": 50 }] });
    server.client.post_json("/api/v1/agents", &canary).await;
    let at = "/api/v1/agents/a/stats";
    eventually("both revisions", async || {
        let stats = server.client.get(at).await.json();
        let revisions = stats["revisions"].as_array().cloned().unwrap_or_default();
        (revisions.len() == 2 && revisions.iter().all(|one| one["ready"] == 1)).then_some(())
    })
    .await;
    const CALLS: u64 = 40;
    let mut given = [0_u64; 2];
    for number in 0..CALLS {
        // Journaled or not.
        let answer = match number % 2 {
            0 => server.client.get("/agents/a/number").await,
            _ => server.post("a", "/number", "").await,
        };
        let revision: usize = answer.text().parse().expect("a number");
        given[revision - 1] += 1;
    }
    assert!(given.iter().all(|given| *given > 0), "{given:?}");
    // A request is counted when its answer has passed, which the client may see first.
    for (revision, given) in (1..).zip(given) {
        let labels = format!("workspace=\"default\",agent=\"a\",revision=\"{revision}\"");
        let lines = [
            format!("skep_revision_requests_total{{{labels},result=\"ok\"}} {given}\n"),
            format!("skep_revision_request_duration_seconds_count{{{labels}}} {given}\n"),
        ];
        eventually(&lines.concat(), async || {
            let metrics = server.client.get("/metrics").await.text();
            lines
                .iter()
                .all(|line| metrics.contains(line))
                .then_some(())
        })
        .await;
    }
    let stats = server.client.get(at).await.json();
    for one in stats["revisions"].as_array().expect("a list") {
        assert!(one["p50_ms"].as_f64() > Some(0.0), "{stats}");
    }
}

#[tokio::test]
async fn an_agent_that_sleeps_wakes_for_a_call_of_any_kind() {
    let mut server = Server::start().await;
    let mut sleepy = spec(1, 1);
    sleepy["replicas"] = json!({ "min": 0, "max": 1, "idle": "1s" });
    server.deploy_spec(sleepy).await;
    server.wait_state("a", "asleep").await;
    let answer = server.post("a", "/work", "good morning").await;
    assert_eq!(
        (answer.status, answer.text().as_str()),
        (200, "good morning")
    );
    server.wait_state("a", "asleep").await;
    assert_eq!(server.client.get("/agents/a/ping").await.text(), "pong");
    server.wait_state("a", "asleep").await;
    assert_eq!(server.agent("a").await["instances"], json!(null));
    // A new server lets it sleep, until somebody calls.
    server.kill();
    server.restart().await;
    assert_eq!(server.agent("a").await["state"], "asleep");
    assert_eq!(server.post("a", "/work", "again").await.text(), "again");
    // Its owner wakes it as well.
    server.wait_state("a", "asleep").await;
    server.client.post("/api/v1/agents/a/start", "").await;
    server.wait_state("a", "ready").await;
}

#[tokio::test]
async fn calls_of_one_session_go_to_one_instance_and_failures_elsewhere() {
    let server = Server::start().await;
    let mut sticky = spec(1, 3);
    sticky["calls"] = json!({ "affinity": "x-session", "backoff": "1ms" });
    server.deploy_spec(sticky).await;
    settled(&server, 1, 3).await;
    let pid = async |session: usize, method: Method| {
        let mut request = server.client.request(method, "/agents/a/echo", "x");
        let value = http::HeaderValue::from(session);
        request.headers_mut().insert("x-session", value);
        server.client.send(request).await.expect("an answer").json()["pid"].clone()
    };
    // Instances have names by chance: of twelve sessions, none fell to one of
    // the three once in forty runs.
    let mut pids = HashSet::new();
    for session in 0..64 {
        let first = pid(session, Method::POST).await;
        for method in [Method::POST, Method::GET] {
            assert_eq!(pid(session, method).await, first);
        }
        pids.insert(first.to_string());
    }
    assert_eq!(pids.len(), 3, "sessions are spread");

    // A call that kills its instance is tried again on another one.
    server.post("a", "/poison", "poison").await;
    let calls = server.client.get("/api/v1/calls?limit=1").await.json();
    let id = calls["items"][0]["id"].as_str().expect("a call").to_owned();
    let call = server.wait_call(&id, "dead").await;
    let attempts = call["history"].as_array().cloned().unwrap_or_default();
    let on: HashSet<String> = attempts
        .iter()
        .map(|attempt| attempt["instance"].to_string())
        .collect();
    assert!(on.len() >= 3, "{call}");
}

#[tokio::test]
async fn copies_come_and_go_with_the_calls() {
    let server = Server::start().await;
    let mut growing = spec(1, 1);
    growing["replicas"] = json!({ "min": 1, "max": 3, "target": 2, "window": "1s" });
    growing["drain"] = json!("0ms");
    server.deploy_spec(growing).await;
    let mut hanging = Vec::new();
    for _ in 0..8 {
        let mut request = server.client.request(Method::POST, "/agents/a/hang", "");
        let value = http::HeaderValue::from_static("respond-async");
        request.headers_mut().insert("prefer", value);
        let answer = server.client.send(request).await.expect("an answer");
        hanging.push(answer.call());
    }
    let agent = settled(&server, 1, 3).await;
    assert_eq!(agent["replicas"], 3, "no more than the most");
    for call in hanging {
        let path = format!("/api/v1/calls/{call}/cancel");
        assert_eq!(server.client.post(&path, "").await.status, 200);
    }
    let agent = settled(&server, 1, 1).await;
    assert_eq!(agent["replicas"], 1);
}
