//! Streams: they pass as they come, are recorded, and can be attached to again.

use http::{HeaderValue, Method};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use serde_json::json;
use skep_tests::{Server, eventually};

/// Reads a stream until it has seen this text.
async fn read_until(body: &mut Incoming, wanted: &str) -> String {
    let mut text = String::new();
    while !text.contains(wanted) {
        let frame = body
            .frame()
            .await
            .expect("more frames")
            .expect("a whole frame");
        if let Some(data) = frame.data_ref() {
            text.push_str(&String::from_utf8_lossy(data));
        }
    }
    text
}

fn step(server: &Server, number: u32) {
    std::fs::write(server.home("a").join(format!("step-{number}")), "").expect("a step");
}

#[tokio::test]
async fn events_pass_as_they_come_with_ids_and_can_be_continued() {
    let server = Server::start().await;
    server.deploy("a", json!({})).await;
    let request = server
        .client
        .request(Method::POST, "/agents/a/steps?n=3", "");
    let (head, mut body) = server
        .client
        .open(request)
        .await
        .expect("an answer")
        .into_parts();
    assert_eq!(head.headers["content-type"], "text/event-stream");
    let id = head.headers["skep-call-id"]
        .to_str()
        .expect("an id")
        .to_owned();
    step(&server, 1);
    assert_eq!(
        read_until(&mut body, "\n\n").await,
        "id: 1.1\ndata: step 1\n\n"
    );
    step(&server, 2);
    assert_eq!(
        read_until(&mut body, "\n\n").await,
        "id: 1.2\ndata: step 2\n\n"
    );
    // The client loses its connection and comes back behind what it has seen.
    drop(body);
    let mut request =
        server
            .client
            .request(Method::GET, &format!("/api/v1/calls/{id}/response"), "");
    request
        .headers_mut()
        .insert("last-event-id", HeaderValue::from_static("1.1"));
    let mut body = server
        .client
        .open(request)
        .await
        .expect("an answer")
        .into_body();
    assert_eq!(
        read_until(&mut body, "\n\n").await,
        "id: 1.2\ndata: step 2\n\n"
    );
    step(&server, 3);
    let rest = body.collect().await.expect("the end").to_bytes();
    assert_eq!(rest, "id: 1.3\ndata: step 3\n\n");
    server.wait_call(&id, "succeeded").await;
    // It is over, and can still be read, whole or in part.
    let whole = server
        .client
        .get(&format!("/api/v1/calls/{id}/response"))
        .await;
    assert_eq!(whole.text().matches("data: step").count(), 3);
    let mut request =
        server
            .client
            .request(Method::GET, &format!("/api/v1/calls/{id}/response"), "");
    request
        .headers_mut()
        .insert("last-event-id", HeaderValue::from_static("1.2"));
    let part = server.client.send(request).await.expect("an answer");
    assert_eq!(part.text(), "id: 1.3\ndata: step 3\n\n");
}

#[tokio::test]
async fn two_readers_see_the_same_stream() {
    let server = Server::start().await;
    server.deploy("a", json!({})).await;
    let request = server
        .client
        .request(Method::POST, "/agents/a/steps?n=2", "");
    let (head, first) = server
        .client
        .open(request)
        .await
        .expect("an answer")
        .into_parts();
    let id = head.headers["skep-call-id"]
        .to_str()
        .expect("an id")
        .to_owned();
    step(&server, 1);
    let request = server
        .client
        .request(Method::GET, &format!("/api/v1/calls/{id}/response"), "");
    let second = server
        .client
        .open(request)
        .await
        .expect("an answer")
        .into_body();
    step(&server, 2);
    let (first, second) = tokio::join!(first.collect(), second.collect());
    let first = first.expect("the end").to_bytes();
    assert_eq!(first, second.expect("the end").to_bytes());
    assert_eq!(first.windows(5).filter(|part| part == b"data:").count(), 2);
}

#[tokio::test]
async fn a_stream_that_is_cut_off_ends_badly_and_is_tried_again() {
    let server = Server::start().await;
    server
        .deploy("a", json!({ "attempts": 2, "backoff": "1ms" }))
        .await;
    let request = server.client.request(Method::POST, "/agents/a/cut", "");
    let (head, mut body) = server
        .client
        .open(request)
        .await
        .expect("an answer")
        .into_parts();
    assert_eq!(
        read_until(&mut body, "\n\n").await,
        "id: 1.1\ndata: one\n\n"
    );
    step(&server, 1);
    assert!(
        body.frame().await.expect("an end").is_err(),
        "half a stream must not look whole"
    );
    let id = head.headers["skep-call-id"]
        .to_str()
        .expect("an id")
        .to_owned();
    let call = server.wait_call(&id, "dead").await;
    let history = call["history"].as_array().cloned().unwrap_or_default();
    let cut = history
        .iter()
        .filter(|end| end["reason"].to_string().contains("broke"));
    assert_eq!(cut.count(), 2, "{history:?}");
}

#[tokio::test]
async fn a_killed_server_plays_a_stream_again_from_the_start() {
    let mut server = Server::start().await;
    server.deploy("a", json!({})).await;
    let request = server
        .client
        .request(Method::POST, "/agents/a/steps?n=2", "");
    let (head, mut body) = server
        .client
        .open(request)
        .await
        .expect("an answer")
        .into_parts();
    let id = head.headers["skep-call-id"]
        .to_str()
        .expect("an id")
        .to_owned();
    step(&server, 1);
    read_until(&mut body, "step 1").await;
    server.kill();
    server.restart().await;
    step(&server, 2);
    let mut request =
        server
            .client
            .request(Method::GET, &format!("/api/v1/calls/{id}/response"), "");
    request
        .headers_mut()
        .insert("last-event-id", HeaderValue::from_static("1.1"));
    let again = server.client.send(request).await.expect("an answer");
    assert_eq!(
        again.text(),
        "id: 2.1\ndata: step 1\n\nid: 2.2\ndata: step 2\n\n"
    );
}

#[tokio::test]
async fn a_slow_answer_of_unknown_length_is_shown_as_it_comes() {
    let server = Server::start().await;
    server.deploy("a", json!({})).await;
    let answer = server.post("a", "/events?n=20&ms=5", "").await;
    assert_eq!(answer.text().matches("of 1\n").count(), 20);
    let stored = server
        .client
        .get(&format!("/api/v1/calls/{}/response", answer.call()))
        .await;
    assert_eq!(stored.text(), answer.text());
}

#[tokio::test]
async fn many_streams_run_at_once() {
    let server = Server::start().await;
    server.deploy("a", json!({})).await;
    let mut readers = Vec::new();
    for _ in 0..50 {
        let client = server.client.clone();
        readers.push(tokio::spawn(async move {
            client.post("/agents/a/steps?n=1", "").await
        }));
    }
    eventually("fifty running calls", async || {
        let agent = server.agent("a").await;
        (agent["calls"]["running"] == 50).then_some(())
    })
    .await;
    step(&server, 1);
    for reader in readers {
        assert_eq!(
            reader.await.expect("a task").text(),
            "id: 1.1\ndata: step 1\n\n"
        );
    }
}
