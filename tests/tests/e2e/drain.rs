//! The end of a server: what runs may end, and who waits for what does not run is told at once.

use std::fs;

use http::{HeaderValue, Method};
use serde_json::{Value, json};
use skep_tests::{Said, Server, Setup, Wire, eventually};

/// Longer than any of these tests waits for anything.
const LONG: &str = "90s";

async fn server() -> Server {
    let server = Server::start_with(Setup {
        env: vec![("SKEP_SHUTDOWN_DRAIN".to_owned(), LONG.to_owned())],
        ..Setup::default()
    })
    .await;
    let calls = json!({ "concurrency": 1, "backoff": "1h", "max_backoff": "1h" });
    server.deploy("a", calls).await;
    server
}

/// A call that nobody waits for yet, in this state.
async fn call(server: &Server, path: &str, state: &str) -> String {
    let mut request = server.client.request(Method::POST, path, "");
    request
        .headers_mut()
        .insert("prefer", HeaderValue::from_static("respond-async"));
    let answer = server.client.send(request).await.expect("an answer");
    assert_eq!(answer.status, 202, "{}", answer.text());
    server.wait_call(&answer.call(), state).await;
    answer.call()
}

fn head(id: &str) -> String {
    format!("GET /api/v1/calls/{id}/response?wait=true HTTP/1.1\r\nhost: x\r\n")
}

/// The rest of a head.
fn rest(server: &Server, fields: &str) -> String {
    format!("skep-api-key: {}\r\n{fields}\r\n", server.client.key)
}

/// A connection on which the server has read this.
async fn said(server: &Server, text: &str) -> Wire {
    let mut wire = Wire::open(server).await;
    wire.say(text.as_bytes()).await;
    wire.heard().await;
    wire
}

/// Waits for a call's answer.
async fn attach(server: &Server, id: &str, fields: &str) -> Wire {
    said(server, &format!("{}{}", head(id), rest(server, fields))).await
}

fn must_say_come_again(said: &Said) {
    let problem: Value = serde_json::from_str(&said.body).expect("a problem");
    assert_eq!(
        (said.status, problem["code"].as_str()),
        (503, Some("shutting-down"))
    );
    assert_eq!(said.header("retry-after"), "1");
}

fn must_be_step_1(said: &Said) {
    assert!(
        said.status == 200 && said.body.contains("step 1"),
        "{said:?}"
    );
}

async fn begins_to_end(server: &Server) {
    server.tell_to_end();
    let address = server.data().join("server.json");
    eventually("the drain", async || (!address.exists()).then_some(())).await;
}

#[tokio::test]
async fn who_waits_for_a_call_that_does_not_run_is_told_at_once() {
    let mut server = server().await;
    let failed = call(&server, "/agents/a/status?code=503", "accepted").await;
    let running = call(&server, "/agents/a/steps?n=1", "running").await;
    let waiting = call(&server, "/agents/a/work", "accepted").await;
    let mut to_be_told = Vec::new();
    for id in [&failed, &waiting] {
        to_be_told.push(attach(&server, id, "").await);
        to_be_told.push(attach(&server, id, "last-event-id: 1.1\r\n").await);
    }
    let mut runs = attach(&server, &running, "").await;
    begins_to_end(&server).await;
    // The call that runs has not ended, and cannot yet.
    for wire in &mut to_be_told {
        must_say_come_again(&wire.answer().await.expect("an answer"));
    }
    fs::write(server.home("a").join("step-1"), "").expect("a step");
    must_be_step_1(&runs.answer().await.expect("an answer"));
    assert!(server.ended().await, "{}", server.log());
    server.restart().await;
    assert_eq!(server.call(&running).await["state"], "succeeded");
    server.wait_call(&waiting, "succeeded").await;
}

#[tokio::test]
async fn who_called_and_waits_is_told_too() {
    let mut server = server().await;
    let running = call(&server, "/agents/a/steps?n=1", "running").await;
    let mut called = Vec::new();
    for prefer in ["", "respond-async, wait=600"] {
        let mut request = server.client.request(Method::POST, "/agents/a/work", "");
        let prefer = HeaderValue::from_static(prefer);
        request.headers_mut().insert("prefer", prefer);
        let client = server.client.clone();
        called.push(tokio::spawn(async move { client.send(request).await }));
    }
    let path = "/api/v1/calls?state=accepted";
    eventually("the calls", async || {
        let calls = server.client.get(path).await.json();
        (calls["items"].as_array()?.len() == 2).then_some(())
    })
    .await;
    begins_to_end(&server).await;
    let mut answers = Vec::new();
    for call in called {
        answers.push(call.await.expect("a task").expect("an answer"));
    }
    let (waits, asks) = (&answers[0], &answers[1]);
    assert_eq!(
        (waits.status, waits.code().as_str()),
        (503, "shutting-down")
    );
    assert_eq!(waits.header("retry-after"), "1");
    assert_eq!(
        (asks.status, asks.json()["state"].as_str()),
        (202, Some("accepted"))
    );
    fs::write(server.home("a").join("step-1"), "").expect("a step");
    assert!(server.ended().await, "{}", server.log());
    server.restart().await;
    assert_eq!(server.call(&running).await["state"], "succeeded");
    server.wait_call(&asks.call(), "succeeded").await;
}

#[tokio::test]
async fn who_comes_late_to_wait_is_told_as_well() {
    let mut server = server().await;
    let running = call(&server, "/agents/a/steps?n=1", "running").await;
    let waiting = call(&server, "/agents/a/work", "accepted").await;
    // The server has half of each request when it is told to end.
    let mut runs = said(&server, &head(&running)).await;
    let mut waits = said(&server, &head(&waiting)).await;
    let mut last = said(&server, &head(&waiting)).await;
    begins_to_end(&server).await;
    let rest = rest(&server, "");
    runs.say(rest.as_bytes()).await;
    waits.say(rest.as_bytes()).await;
    must_say_come_again(&waits.answer().await.expect("an answer"));
    fs::write(server.home("a").join("step-1"), "").expect("a step");
    must_be_step_1(&runs.answer().await.expect("an answer"));
    // Nothing runs any more.
    last.say(rest.as_bytes()).await;
    must_say_come_again(&last.answer().await.expect("an answer"));
    assert!(server.ended().await, "{}", server.log());
}

#[tokio::test]
async fn a_call_whose_body_comes_late_is_refused_and_not_kept() {
    let mut server = server().await;
    let running = call(&server, "/agents/a/steps?n=1", "running").await;
    let head = "POST /agents/a/work HTTP/1.1\r\nhost: x\r\ncontent-length: 4\r\n";
    let expect = rest(&server, "expect: 100-continue\r\n");
    let mut late = said(&server, &format!("{head}{expect}")).await;
    assert_eq!(late.answer().await.expect("a word").status, 100);
    begins_to_end(&server).await;
    late.say(b"late").await;
    must_say_come_again(&late.answer().await.expect("an answer"));
    fs::write(server.home("a").join("step-1"), "").expect("a step");
    assert!(server.ended().await, "{}", server.log());
    server.restart().await;
    let calls = server.client.get("/api/v1/calls").await.json();
    let ids: Vec<_> = calls["items"]
        .as_array()
        .expect("calls")
        .iter()
        .map(|call| &call["id"])
        .collect();
    assert_eq!(ids, [running.as_str()]);
}
