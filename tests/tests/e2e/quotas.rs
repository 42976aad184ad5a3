//! A workspace has as much as it may and no more, is told so, and hinders no other.

use http::Method;
use serde_json::{Value, json};
use skep_tests::{Answer, Client, Server, agent_binary, eventually};

use crate::cli::skep;
use crate::engine::{Engine, on_each_engine};

fn must_be_over(answer: &Answer, status: u16, code: &str) {
    let (its, found) = (answer.status, answer.code());
    assert_eq!((its, found.as_str()), (status, code), "{}", answer.text());
    assert!(
        !answer.json()["hint"]
            .as_str()
            .unwrap_or_default()
            .is_empty()
    );
}

async fn workspace(server: &Server, name: &str) -> Client {
    let made = skep(server, &["workspaces", "create", name]);
    assert_eq!(made.code, Some(0), "{}", made.err);
    Client::new(&server.client.url, made.out.trim())
}

fn quota(server: &Server, name: &str, flags: &[&str]) {
    let said = skep(server, &[&["workspaces", "quota", name], flags].concat());
    assert_eq!(said.code, Some(0), "{}", said.err);
}

/// How much a workspace has of something, and may have.
async fn standing(client: &Client, name: &str, what: &str) -> (Value, Value) {
    let shown = client.get(&format!("/api/v1/workspaces/{name}")).await;
    assert_eq!(shown.status, 200, "{}", shown.text());
    let shown = shown.json();
    let mut all = shown["quotas"].as_array().expect("quotas").iter();
    let found = all.find(|it| it["what"] == what).expect("it");
    (found["used"].clone(), found["most"].clone())
}

async fn deploy(client: &Client, name: &str, replicas: u32) -> Answer {
    let spec = json!({ "name": name, "command": [agent_binary()], "replicas": replicas });
    client.post_json("/api/v1/agents", &spec).await
}

async fn ready(client: &Client, name: &str) {
    eventually("a ready agent", async || {
        let agent = client.get(&format!("/api/v1/agents/{name}")).await.json();
        (agent["state"] == "ready").then_some(())
    })
    .await;
}

async fn keys_and_people(red: &Client, blue: &Client) {
    let key = json!({ "name": "k", "role": "member" });
    let second = red.post_json("/api/v1/keys", &key).await;
    assert_eq!(second.status, 201, "{}", second.text());
    must_be_over(
        &red.post_json("/api/v1/keys", &key).await,
        403,
        "quota-exceeded",
    );
    // To replace a key is no more of them in the end; to do it again before the old one has ended is.
    let id = second.json()["id"].as_str().expect("an id").to_owned();
    let rotate = async |id: &str| {
        red.post_json(&format!("/api/v1/keys/{id}/rotate"), &json!({}))
            .await
    };
    let third = rotate(&id).await;
    assert_eq!(third.status, 201, "{}", third.text());
    let id = third.json()["id"].as_str().expect("an id").to_owned();
    must_be_over(&rotate(&id).await, 403, "quota-exceeded");
    let invite = async |client: &Client, email: &str| {
        let wish = json!({ "email": email, "role": "member" });
        client.post_json("/api/v1/invitations", &wish).await
    };
    assert_eq!(invite(red, "a@red.example").await.status, 201);
    assert_eq!(
        invite(red, "a@red.example").await.status,
        201,
        "the same one again"
    );
    must_be_over(&invite(red, "b@red.example").await, 403, "quota-exceeded");
    assert_eq!(invite(blue, "b@red.example").await.status, 201);
}

async fn nobody_raises_their_own(server: &Server, red: &Client) {
    // Who owns a workspace says nothing of it, and sees nothing of another.
    let raise = json!({ "agents": "99" });
    for of in ["red", "blue", "none-such"] {
        let path = format!("/api/v1/workspaces/{of}/quota");
        let request = red.request(Method::PUT, &path, raise.to_string());
        let refused = red.send(request).await.expect("an answer");
        assert_eq!(refused.status, 403, "{of}: {}", refused.text());
    }
    let foreign = red.get("/api/v1/workspaces/blue").await;
    let none = red.get("/api/v1/workspaces/none-such").await;
    assert_eq!(
        (foreign.status, foreign.code()),
        (404, "workspace-not-found".to_owned())
    );
    assert_eq!((none.status, none.code()), (foreign.status, foreign.code()));
    let admin = server.client.get("/api/v1/workspaces/none-such").await;
    assert_eq!(admin.status, 404);
}

/// Going back to what is too much by now is no way around a quota.
async fn nobody_goes_back_over_it(server: &Server, red: &Client) {
    quota(server, "red", &["--instances", "1"]);
    assert_eq!(deploy(red, "a", 1).await.status, 200);
    let (path, second) = ("/api/v1/agents/a/rollback", json!({ "to": 2 }));
    must_be_over(&red.post_json(path, &second).await, 403, "quota-exceeded");
    quota(server, "red", &["--instances", "2"]);
    assert_eq!(red.post_json(path, &second).await.status, 200);
}

async fn one_at_its_quota_is_told_and_the_other_goes_on(engine: Engine) {
    let mut server = engine.server().await;
    let (red, blue) = (
        workspace(&server, "red").await,
        workspace(&server, "blue").await,
    );
    quota(
        &server,
        "red",
        &[
            "--agents",
            "1",
            "--instances",
            "2",
            "--keys",
            "2",
            "--users",
            "1",
        ],
    );
    assert_eq!(deploy(&red, "a", 1).await.status, 201);
    must_be_over(&deploy(&red, "b", 1).await, 403, "quota-exceeded");
    // What is there changes, within what it may.
    assert_eq!(deploy(&red, "a", 2).await.status, 200);
    must_be_over(&deploy(&red, "a", 3).await, 403, "quota-exceeded");
    nobody_goes_back_over_it(&server, &red).await;
    for name in ["a", "b"] {
        assert_eq!(deploy(&blue, name, 2).await.status, 201);
    }
    keys_and_people(&red, &blue).await;
    assert_eq!(standing(&red, "red", "agents").await, (json!(1), json!(1)));
    assert_eq!(
        standing(&red, "red", "instances").await,
        (json!(2), json!(2))
    );

    nobody_raises_their_own(&server, &red).await;
    // It is written down in the workspace's own log, and holds over a restart.
    let entries = red
        .get("/api/v1/audit/entries?action=workspace:quota")
        .await
        .json();
    let entries = entries["items"].as_array().expect("entries");
    let told = entries.iter().any(|it| {
        it["entry"]["decision"] == "allow" && it.to_string().contains("agents 1, instances 2")
    });
    assert!(told, "{entries:?}");
    server.kill();
    server.restart_as_it_was().await;
    let red = Client::new(&server.client.url, &red.key);
    assert_eq!(standing(&red, "red", "agents").await.1, json!(1));
    quota(
        &server,
        "red",
        &["--agents", "none", "--instances", "default"],
    );
    assert_eq!(deploy(&red, "b", 2).await.status, 201);
    let shown = skep(&server, &["workspaces", "show", "red"]);
    assert!(
        shown.out.contains("calls-per-day"),
        "{}{}",
        shown.out,
        shown.err
    );
    eventually("metrics of it", async || {
        let metrics = server.client.get("/metrics").await.text();
        let line = "skep_quota_most{workspace=\"red\",what=\"keys\"} 2";
        metrics.contains(line).then_some(())
    })
    .await;
}

async fn one_waits_and_no_more(red: &Client, blue: &Client) {
    // One runs, one waits, and there is no place for another.
    let slow = red.post("/agents/a/hang", "x");
    let queued = async |client: &Client| {
        let mut request = client.request(Method::POST, "/agents/a/work", "x");
        let wish = http::HeaderValue::from_static("respond-async");
        request.headers_mut().insert("prefer", wish);
        client.send(request).await.expect("an answer")
    };
    let held = async {
        eventually("a call that runs", async || {
            let page = red.get("/api/v1/calls?state=running").await.json();
            (page["items"].as_array()?.len() == 1).then_some(())
        })
        .await;
        assert_eq!(queued(red).await.status, 202);
        let over = queued(red).await;
        must_be_over(&over, 429, "call-quota");
        assert_eq!(over.header("retry-after"), "1");
        assert_eq!(
            standing(red, "red", "calls-waiting").await,
            (json!(1), json!(1))
        );
        for _ in 0..3 {
            assert_eq!(queued(blue).await.status, 202);
        }
        let running = red.get("/api/v1/calls?state=running").await.json();
        let id = running["items"][0]["id"]
            .as_str()
            .expect("an id")
            .to_owned();
        red.post(&format!("/api/v1/calls/{id}/cancel"), "").await
    };
    let (_, cancelled) = tokio::join!(slow, held);
    assert!(cancelled.status < 300, "{}", cancelled.text());
    eventually("nothing that waits", async || {
        (standing(red, "red", "calls-waiting").await.0 == json!(0)).then_some(())
    })
    .await;
}

async fn what_is_stored_is_bounded(server: &Server, red: &Client, blue: &Client) {
    // What ended calls hold is full; when it is purged there is room.
    quota(server, "red", &["--stored-bytes", "1KiB"]);
    must_be_over(
        &red.post("/agents/a/work", "x").await,
        403,
        "quota-exceeded",
    );
    assert_eq!(blue.post("/agents/a/work", "x").await.status, 200);
    let listed = red.get("/api/v1/calls").await.json();
    for call in listed["items"].as_array().expect("calls") {
        let path = format!("/api/v1/calls/{}", call["id"].as_str().expect("an id"));
        let request = red.request(Method::DELETE, &path, "");
        let gone = red.send(request).await.expect("an answer");
        assert_eq!(gone.status, 204, "{}", gone.text());
    }
    assert_eq!(red.post("/agents/a/work", "x").await.status, 200);
}

async fn calls_of_one_workspace_are_bounded_and_others_are_not(engine: Engine) {
    let server = engine.server().await;
    let (red, blue) = (
        workspace(&server, "red").await,
        workspace(&server, "blue").await,
    );
    for client in [&red, &blue] {
        let spec = json!({
            "name": "a", "command": [agent_binary()], "calls": { "concurrency": 1, "attempts": 1 },
        });
        assert_eq!(client.post_json("/api/v1/agents", &spec).await.status, 201);
        ready(client, "a").await;
    }
    // Those before anybody counted count.
    assert_eq!(red.post("/agents/a/work", "x").await.status, 200);
    assert_eq!(standing(&red, "red", "calls-per-day").await.0, Value::Null);
    quota(&server, "red", &["--calls-per-day", "3"]);
    for _ in 0..2 {
        assert_eq!(red.post("/agents/a/work", "x").await.status, 200);
    }
    let over = red.post("/agents/a/work", "x").await;
    must_be_over(&over, 429, "call-quota");
    let wait: u64 = over.header("retry-after").parse().expect("seconds");
    assert!((1..=86_401).contains(&wait), "{wait}");
    assert_eq!(
        standing(&red, "red", "calls-per-day").await,
        (json!(3), json!(3))
    );
    assert_eq!(blue.post("/agents/a/work", "x").await.status, 200);
    // What was refused is not there, and a new call of an old one is a call.
    let listed = red.get("/api/v1/calls").await.json();
    let listed = listed["items"].as_array().expect("calls").clone();
    assert_eq!(listed.len(), 3);
    let id = listed[0]["id"].as_str().expect("an id");
    let replay = red.post(&format!("/api/v1/calls/{id}/replay"), "").await;
    must_be_over(&replay, 429, "call-quota");
    quota(
        &server,
        "red",
        &["--calls-per-day", "none", "--calls-waiting", "1"],
    );

    one_waits_and_no_more(&red, &blue).await;
    what_is_stored_is_bounded(&server, &red, &blue).await;
}

async fn of_calls_at_once_no_more_are_taken_than_there_may_be(engine: Engine) {
    let setup = engine.setup(&[("SKEP_QUOTA_CALLS_PER_DAY", "20")]);
    let server = Server::start_with(setup).await;
    server.deploy("a", json!({})).await;
    let mut load = tokio::task::JoinSet::new();
    for _ in 0..60 {
        let client = server.client.clone();
        load.spawn(async move { client.post("/agents/a/work", "x").await.status });
    }
    let answers = load.join_all().await;
    let of = |status: u16| answers.iter().filter(|it| **it == status).count();
    assert_eq!((of(200), of(429)), (20, 40));
    assert_eq!(server.executed("a").len(), 20);
    // Nor agents, nor keys.
    quota(&server, "default", &["--agents", "3", "--keys", "4"]);
    let mut load = tokio::task::JoinSet::new();
    for number in 0..8 {
        let client = server.client.clone();
        load.spawn(async move {
            let key = json!({ "name": "k", "role": "member" });
            let made = client.post_json("/api/v1/keys", &key).await.status;
            (deploy(&client, &format!("b{number}"), 1).await.status, made)
        });
    }
    let answers = load.join_all().await;
    assert_eq!(
        answers.iter().filter(|it| it.0 == 201).count(),
        2,
        "{answers:?}"
    );
    assert_eq!(
        answers.iter().filter(|it| it.1 == 201).count(),
        3,
        "{answers:?}"
    );
}

on_each_engine!(
    one_at_its_quota_is_told_and_the_other_goes_on,
    calls_of_one_workspace_are_bounded_and_others_are_not,
    of_calls_at_once_no_more_are_taken_than_there_may_be,
);
