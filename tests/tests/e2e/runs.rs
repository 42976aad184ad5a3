//! Runs and conversations as the API shows them: whatever door they were asked for by.

use http::{HeaderValue, Method};
use serde_json::{Value, json};
use skep_tests::server::Setup;
use skep_tests::{Answer, Client, Server, agent_binary};

use crate::agui::{asks, counting, input, kinds, rest, step, until, written};
use crate::cli::skep;
use crate::tokens::{allow, token, with};

async fn get(client: &Client, path: &str) -> Value {
    let answer = client.get(path).await;
    assert_eq!(answer.status, 200, "{path}: {}", answer.text());
    answer.json()
}

/// The events of a run, by the API.
async fn followed(
    client: &Client,
    run: &str,
    seen: Option<&str>,
) -> http::Response<hyper::body::Incoming> {
    let path = format!("/api/v1/runs/{run}/events");
    let mut request = client.request(Method::GET, &path, "");
    if let Some(seen) = seen {
        let seen = HeaderValue::from_str(seen).expect("an id");
        request.headers_mut().insert("last-event-id", seen);
    }
    client.open(request).await.expect("an answer")
}

async fn fork(client: &Client, run: &str, order: &Value) -> Answer {
    let path = format!("/api/v1/runs/{run}/fork");
    client.post_json(&path, order).await
}

fn id_of(answer: &http::Response<hyper::body::Incoming>) -> String {
    let id = answer.headers()["skep-run-id"].to_str().expect("text");
    id.to_owned()
}

#[tokio::test]
async fn a_run_is_listed_shown_and_followed_behind_what_was_seen() {
    let server = counting().await;
    let client = &server.client;
    let answer = asks(&server, input("t", "r"), None).await;
    let id = id_of(&answer);
    let mut body = answer.into_body();
    step(&server, 1);
    until(&mut body, "step 1").await;
    let list = get(client, "/api/v1/runs?agent=a&status=running").await;
    let run = &list["items"][0];
    assert_eq!(run["id"], json!(id));
    assert_eq!(
        (&run["name"], &run["protocol"]),
        (&json!("r"), &json!("http"))
    );
    assert_eq!(list["items"].as_array().map(Vec::len), Some(1));
    // Another door to the same: the same events with the same ids.
    let mut other = followed(client, &id, None).await.into_body();
    let began = until(&mut other, "step 1").await;
    assert_eq!(
        kinds(&began),
        ["RUN_STARTED", "TEXT_MESSAGE_START", "TEXT_MESSAGE_CONTENT"]
    );
    let seen = began[2].0.clone().expect("an id");
    step(&server, 2);
    assert_eq!(rest(body).await, rest(other).await);
    // Behind what was seen there is what it had come to, and the rest.
    let late = rest(followed(client, &id, Some(&seen)).await.into_body()).await;
    assert_eq!(written(&late), "step 2");
    let shown = get(client, &format!("/api/v1/runs/{id}")).await;
    assert_eq!(shown["status"], "finished");
    assert!(shown["ended_at"].is_string());
    let call = get(
        client,
        &format!("/api/v1/calls/{}", shown["call"].as_str().expect("a call")),
    )
    .await;
    assert_eq!(call["state"], "succeeded");
    let asked = get(client, &format!("/api/v1/runs/{id}/input")).await;
    assert_eq!(asked["messages"][0]["content"], "Count.");
    let thread = shown["thread"].as_str().expect("a thread");
    let thread = get(client, &format!("/api/v1/threads/{thread}")).await;
    assert_eq!(thread["messages"][1]["content"], "step 1step 2");
    assert_eq!((&thread["name"], &thread["run"]), (&json!("t"), &json!(id)));
}

#[tokio::test]
async fn a_run_outlives_the_call_that_carried_it() {
    let server = counting().await;
    let client = &server.client;
    let answer = asks(&server, input("t", "r"), None).await;
    let id = id_of(&answer);
    step(&server, 1);
    step(&server, 2);
    let whole = rest(answer.into_body()).await;
    let seen = whole.iter().rev().find_map(|(id, _)| id.clone());
    let run = get(client, &format!("/api/v1/runs/{id}")).await;
    let call = format!("/api/v1/calls/{}", run["call"].as_str().expect("a call"));
    let gone = client.send(client.request(Method::DELETE, &call, "")).await;
    assert_eq!(gone.expect("an answer").status, 204);
    for seen in [None, seen.as_deref()] {
        let left = rest(followed(client, &id, seen).await.into_body()).await;
        let kinds = kinds(&left);
        assert_eq!(kinds.first(), Some(&"RUN_STARTED"), "{left:?}");
        assert_eq!(kinds.last(), Some(&"RUN_FINISHED"), "{left:?}");
        let snapshot = left
            .iter()
            .find(|(_, it)| it["type"] == "MESSAGES_SNAPSHOT");
        let messages = &snapshot.expect("a snapshot").1["messages"];
        assert_eq!(messages[1]["content"], "step 1step 2");
    }
    // The request that began it begins another call only with another key.
    let shown = get(client, &format!("/api/v1/runs/{id}")).await;
    assert_eq!(shown["status"], "finished");
}

#[tokio::test]
async fn a_run_is_cancelled_and_who_follows_is_told() {
    let server = counting().await;
    let client = &server.client;
    let answer = asks(&server, input("t", "r"), None).await;
    let id = id_of(&answer);
    let mut body = answer.into_body();
    step(&server, 1);
    until(&mut body, "step 1").await;
    let cancelled = client.post(&format!("/api/v1/runs/{id}/cancel"), "").await;
    assert_eq!(cancelled.status, 200, "{}", cancelled.text());
    assert_eq!(cancelled.json()["status"], "cancelled");
    let last = rest(body).await;
    let (_, end) = last.last().expect("an end");
    assert_eq!(end["type"], "RUN_FINISHED", "{last:?}");
    assert_eq!(end["outcome"]["type"], "cancelled");
    let again = client.post(&format!("/api/v1/runs/{id}/cancel"), "").await;
    assert_eq!(again.status, 409, "{}", again.text());
}

#[tokio::test]
async fn a_conversation_forks_where_somebody_wants_it_and_is_forgotten() {
    let server = counting().await;
    let client = &server.client;
    let answer = asks(&server, input("t", "r"), None).await;
    let id = id_of(&answer);
    let mut body = answer.into_body();
    step(&server, 1);
    let first = until(&mut body, "step 1").await;
    let behind = first.last().and_then(|(id, _)| id.clone()).expect("an id");
    let early = fork(client, &id, &json!({})).await;
    assert_eq!((early.status, early.code().as_str()), (409, "thread-state"));
    let middle = fork(client, &id, &json!({ "name": "middle", "behind": behind })).await;
    assert_eq!(middle.status, 201, "{}", middle.text());
    step(&server, 2);
    rest(body).await;
    let end = fork(client, &id, &json!({})).await.json();
    let taken = fork(client, &id, &json!({ "name": "middle" })).await;
    assert_eq!((taken.status, taken.code().as_str()), (409, "thread-state"));
    let odd = fork(client, &id, &json!({ "behind": "9.9" })).await;
    assert_eq!(odd.status, 422, "{}", odd.text());
    for (made, said) in [(middle.json(), "step 1"), (end, "step 1step 2")] {
        let path = format!("/api/v1/threads/{}", made["id"].as_str().expect("an id"));
        assert_eq!(get(client, &path).await["messages"][1]["content"], said);
    }
    let threads = get(client, "/api/v1/threads?agent=a").await;
    assert_eq!(threads["items"].as_array().map(Vec::len), Some(3));
    let run = get(client, &format!("/api/v1/runs/{id}")).await;
    let path = format!("/api/v1/threads/{}", run["thread"].as_str().expect("one"));
    let gone = client.send(client.request(Method::DELETE, &path, "")).await;
    assert_eq!(gone.expect("an answer").status, 204);
    for path in [path, format!("/api/v1/runs/{id}")] {
        assert_eq!(client.get(&path).await.status, 404, "{path}");
    }
    let threads = get(client, "/api/v1/threads").await;
    assert_eq!(threads["items"].as_array().map(Vec::len), Some(2));
}

/// Asks an agent as another one, within one of its runs.
async fn within(client: &Client, agent: &str, run: &str) -> Answer {
    let path = format!("/agents/{agent}/agui");
    let mut request = client.request(Method::POST, &path, input("t", run));
    let run = HeaderValue::from_str(run).expect("an id");
    request.headers_mut().insert("skep-run-id", run);
    client.send(request).await.expect("an answer")
}

#[tokio::test]
async fn agents_that_ask_one_another_are_known_by_their_runs() {
    let setup = Setup {
        env: vec![("SKEP_RUNS_DEPTH".to_owned(), "2".to_owned())],
        ..Setup::default()
    };
    let server = Server::start_with(setup).await;
    for name in ["a", "b", "c"] {
        let spec = json!({ "name": name, "command": [agent_binary()], "endpoint": "/steps?n=1" });
        server.deploy_spec(spec).await;
    }
    allow(
        &server,
        "@id(\"agents-call\") permit (principal is Skep::Agent, action == Skep::Action::\"agent:call\", resource);",
    )
    .await;
    let answer = asks(&server, input("t", "r"), None).await;
    let top = id_of(&answer);
    let a = with(&server, &token(&server, "a").await);
    let b = with(&server, &token(&server, "b").await);
    // Only the agent's own run counts, and only for others than those that wait.
    for (client, agent, run, said) in [
        (&b, "c", top.as_str(), "no run of this agent"),
        (
            &a,
            "b",
            "run_01h455vb4pex5vsknk084sn02q",
            "no run of this agent",
        ),
        (&a, "a", top.as_str(), "in a run of its own: a"),
    ] {
        let refused = within(client, agent, run).await;
        assert_eq!(refused.code(), "delegation-refused", "{}", refused.text());
        assert!(refused.text().contains(said), "{}", refused.text());
    }
    let asking = {
        let mut request = a.request(Method::POST, "/agents/b/agui", input("t", "of-a"));
        let run = HeaderValue::from_str(&top).expect("an id");
        request.headers_mut().insert("skep-run-id", run);
        a.open(request).await.expect("an answer")
    };
    assert_eq!(asking.status(), 200);
    let middle = id_of(&asking);
    let client = &server.client;
    let shown = get(client, &format!("/api/v1/runs/{middle}")).await;
    assert_eq!(
        (&shown["parent"], &shown["by"]),
        (&json!(top), &json!("Agent:a"))
    );
    let children = get(client, &format!("/api/v1/runs?parent={top}")).await;
    assert_eq!(children["items"][0]["id"], json!(middle));
    // A circle, and one too deep.
    let circle = within(&b, "a", &middle).await;
    assert!(circle.text().contains("a asked b"), "{}", circle.text());
    let deep = within(&b, "c", &middle).await;
    assert_eq!(
        (deep.status, deep.code().as_str()),
        (409, "delegation-refused")
    );
    assert!(deep.text().contains("2 agents"), "{}", deep.text());
}

#[tokio::test]
async fn people_look_at_runs_by_the_cli() {
    let server = counting().await;
    let answer = asks(&server, input("t", "r"), None).await;
    let id = id_of(&answer);
    step(&server, 1);
    step(&server, 2);
    rest(answer.into_body()).await;
    let tail = skep(&server, &["runs", "tail", &id]);
    assert_eq!(
        (tail.code, tail.out.trim_end()),
        (Some(0), "step 1step 2"),
        "{}",
        tail.err
    );
    let list = skep(&server, &["runs"]);
    assert!(
        list.out.starts_with("ID AGENT STATUS AGE THREAD"),
        "{}",
        list.out
    );
    assert!(list.out.contains("a finished"), "{}", list.out);
    let shown = skep(&server, &["runs", "show", &id, "-o", "json"]);
    let shown: Value = serde_json::from_str(&shown.out).expect("JSON");
    let thread = shown["thread"].as_str().expect("a thread");
    let said = skep(&server, &["runs", "thread", thread]);
    let wanted = "user: Count.\nassistant: step 1step 2\nstate: {}";
    assert_eq!(
        (said.code, said.out.trim_end()),
        (Some(0), wanted),
        "{}",
        said.err
    );
    let export = skep(&server, &["runs", "export", &id]);
    let export: Value = serde_json::from_str(&export.out).expect("JSON");
    assert_eq!(export["events"][0]["type"], "RUN_STARTED");
    assert_eq!(export["input"]["runId"], "r");
    let fork = skep(&server, &["runs", "fork", &id, "--name", "u"]);
    assert!(
        fork.out.ends_with("with a is begun."),
        "{} {}",
        fork.out,
        fork.err
    );
    let ended = skep(&server, &["runs", "cancel", &id]);
    assert_ne!(ended.code, Some(0));
    let gone = skep(&server, &["runs", "forget", thread, "--yes"]);
    assert_eq!(gone.code, Some(0), "{}", gone.err);
    let missing = skep(&server, &["runs", "tail", &id]);
    assert!(
        missing.err.contains("run-not-found") || missing.err.contains("no such run"),
        "{}",
        missing.err
    );
}
