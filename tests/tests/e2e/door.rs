//! The call door: what goes through it, and how a call lives.

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method};
use http_body::Frame;
use http_body_util::{BodyExt, StreamBody};
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use skep_tests::{Answer, Server, agent_binary, eventually};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

fn seen(answer: &Answer, name: &str) -> Vec<String> {
    let seen = answer.json();
    let pairs = seen["headers"].as_array().cloned().unwrap_or_default();
    let of_name = pairs.iter().filter(|pair| pair[0] == name);
    of_name
        .filter_map(|pair| pair[1].as_str().map(str::to_owned))
        .collect()
}

async fn send(server: &Server, path: &str, body: &str, headers: &[(&'static str, &str)]) -> Answer {
    let mut request = server.client.request(Method::POST, path, body.to_owned());
    for (name, value) in headers {
        request
            .headers_mut()
            .append(*name, HeaderValue::try_from(*value).expect("a value"));
    }
    server.client.send(request).await.expect("an answer")
}

#[tokio::test]
async fn a_request_reaches_the_agent_as_it_is() {
    let server = Server::start().await;
    server.deploy("a", json!({})).await;
    let path = "/agents/a/x/%2e%2E//y?q=%20&q=+&z";
    let sent = [
        ("x-many", "1"),
        ("x-many", "2"),
        ("connection", "x-private"),
        ("x-private", "secret"),
        ("skep-api-key", &server.client.key),
    ];
    let answer = send(&server, path, "hello", &sent).await;
    assert_eq!(answer.status, 200);
    let echo = answer.json();
    assert_eq!(echo["method"], "POST");
    assert_eq!(echo["target"], "/x/%2e%2E//y?q=%20&q=+&z");
    assert_eq!(echo["body"], "hello");
    assert_eq!(seen(&answer, "x-many"), ["1", "2"]);
    assert_eq!(seen(&answer, "skep-attempt"), ["1"]);
    assert_eq!(seen(&answer, "skep-call-id"), [answer.call()]);
    assert_eq!(seen(&answer, "idempotency-key"), [answer.call()]);
    assert_eq!(seen(&answer, "traceparent").len(), 1);
    for hidden in ["x-private", "connection", "skep-api-key"] {
        assert!(
            seen(&answer, hidden).is_empty(),
            "{hidden} reached the agent"
        );
    }
    let cookies: Vec<_> = answer.headers.get_all("set-cookie").iter().collect();
    assert_eq!(cookies, ["a=1", "b=2"]);
    assert!(
        !answer.headers.contains_key("x-hop"),
        "a hop-by-hop header reached the client"
    );
}

#[tokio::test]
async fn the_key_never_reaches_the_agent_and_its_own_authorization_does() {
    let server = Server::start().await;
    server.deploy("a", json!({})).await;
    let plain = server.post("a", "/x", "").await;
    assert!(seen(&plain, "authorization").is_empty());
    let mut request = server.client.request(Method::POST, "/agents/a/x", "");
    request.headers_mut().insert(
        "authorization",
        HeaderValue::from_static("Bearer agents-own"),
    );
    let key = HeaderValue::try_from(&server.client.key).expect("a key");
    request.headers_mut().insert("skep-api-key", key);
    let own = server.client.send(request).await.expect("an answer");
    assert_eq!(seen(&own, "authorization"), ["Bearer agents-own"]);
}

#[tokio::test]
async fn what_is_not_journaled_passes_through() {
    let server = Server::start().await;
    server.deploy("a", json!({})).await;
    let answer = server.client.get("/agents/a/x?y=1").await;
    assert_eq!(
        (answer.status, answer.json()["target"].as_str()),
        (200, Some("/x?y=1"))
    );
    assert!(answer.call().is_empty());
    let head = server.client.request(Method::HEAD, "/agents/a/x", "");
    let head = server.client.send(head).await.expect("an answer");
    assert_eq!((head.status, head.body.len()), (200, 0));
    let calls = server.client.get("/api/v1/calls").await.json();
    assert_eq!(calls["items"], json!([]));
}

#[tokio::test]
async fn the_same_key_gets_the_same_answer() {
    let server = Server::start().await;
    server.deploy("a", json!({})).await;
    let key = [("idempotency-key", "k1")];
    let first = send(&server, "/agents/a/work", "one", &key).await;
    let again = send(&server, "/agents/a/work", "one", &key).await;
    assert_eq!(
        (again.status, again.text(), again.call()),
        (200, "one".to_owned(), first.call())
    );
    assert_eq!(again.header("idempotency-replayed"), "true");
    assert_eq!(first.header("idempotency-replayed"), "");
    for path in ["/agents/a/work", "/agents/a/work?other"] {
        let other = send(
            &server,
            path,
            if path.ends_with("work") { "two" } else { "one" },
            &key,
        )
        .await;
        assert_eq!(
            (other.status, other.code().as_str()),
            (422, "idempotency-key-reused")
        );
        assert_eq!(other.call(), first.call());
    }
    assert_eq!(server.executed("a").len(), 1);
}

#[tokio::test]
async fn a_key_whose_call_runs_waits_or_is_refused_as_it_asks() {
    let server = Server::start().await;
    server.deploy("a", json!({})).await;
    let steps = "/agents/a/steps?n=1";
    let client = server.client.clone();
    let first = tokio::spawn(async move {
        let mut request = client.request(Method::POST, steps, "x");
        request
            .headers_mut()
            .insert("idempotency-key", HeaderValue::from_static("k"));
        client.send(request).await
    });
    let id = eventually("the call", async || {
        let calls = server
            .client
            .get("/api/v1/calls?state=running")
            .await
            .json();
        calls["items"][0]["id"].as_str().map(str::to_owned)
    })
    .await;
    let impatient = send(
        &server,
        steps,
        "x",
        &[("idempotency-key", "k"), ("prefer", "wait=0")],
    )
    .await;
    assert_eq!(
        (impatient.status, impatient.code().as_str()),
        (409, "call-in-progress")
    );
    assert_eq!(impatient.call(), id);
    let asynchronous = send(
        &server,
        steps,
        "x",
        &[("idempotency-key", "k"), ("prefer", "respond-async")],
    )
    .await;
    assert_eq!(
        (asynchronous.status, asynchronous.call()),
        (202, id.clone())
    );
    let client = server.client.clone();
    let second = tokio::spawn(async move {
        let mut request = client.request(Method::POST, steps, "x");
        request
            .headers_mut()
            .insert("idempotency-key", HeaderValue::from_static("k"));
        client.send(request).await
    });
    std::fs::write(server.home("a").join("step-1"), "").expect("a step");
    let first = first.await.expect("a task").expect("an answer");
    let second = second.await.expect("a task").expect("an answer");
    assert_eq!((first.call(), second.call()), (id.clone(), id));
    assert_eq!(first.text(), second.text());
}

#[tokio::test]
async fn an_asynchronous_call_is_answered_later() {
    let server = Server::start().await;
    server.deploy("a", json!({})).await;
    let accepted = send(
        &server,
        "/agents/a/work",
        "later",
        &[("prefer", "respond-async")],
    )
    .await;
    assert_eq!(accepted.status, 202);
    let location = accepted.header("location").to_owned();
    assert_eq!(location, format!("/api/v1/calls/{}", accepted.call()));
    let call = server.wait_call(&accepted.call(), "succeeded").await;
    assert_eq!(
        (call["status"].as_u64(), call["attempts"].as_u64()),
        (Some(200), Some(1))
    );
    let response = server.client.get(&format!("{location}/response")).await;
    assert_eq!(
        (response.status, response.text()),
        (200, "later".to_owned())
    );
    assert_eq!(
        server
            .client
            .get(&format!("{location}/request"))
            .await
            .text(),
        "later"
    );
}

#[tokio::test]
async fn statuses_that_ask_for_it_are_tried_again_and_others_are_answers() {
    let server = Server::start().await;
    server
        .deploy("a", json!({ "backoff": "1ms", "attempts": 3 }))
        .await;
    let flaky = server.post("a", "/flaky?fails=2", "").await;
    assert_eq!((flaky.status, flaky.text()), (200, "attempt 3".to_owned()));
    let call = server.call(&flaky.call()).await;
    assert_eq!(call["attempts"], 3);
    assert_eq!(call["history"][0]["status"], 503);
    let own = server.post("a", "/status?code=418", "").await;
    assert_eq!((own.status, own.text()), (418, "said so".to_owned()));
    assert_eq!(server.call(&own.call()).await["state"], "failed");
    let hopeless = server.post("a", "/flaky?fails=100", "").await;
    assert_eq!(
        (hopeless.status, hopeless.code().as_str()),
        (502, "call-dead")
    );
    let dead = server.call(&hopeless.call()).await;
    assert_eq!(
        (
            dead["state"].as_str(),
            dead["history"].as_array().map(Vec::len)
        ),
        (Some("dead"), Some(3))
    );
    assert!(
        dead["status"].is_null(),
        "an error that Skep made is stored as the agent's answer"
    );
}

#[tokio::test]
async fn a_dead_call_is_redriven_or_purged() {
    let server = Server::start().await;
    server
        .deploy("a", json!({ "backoff": "1ms", "attempts": 2 }))
        .await;
    let dead = server.post("a", "/flaky?fails=3", "").await.call();
    let client = &server.client;
    let redriven = client
        .post(&format!("/api/v1/calls/{dead}/redrive"), "")
        .await;
    assert_eq!(redriven.status, 200);
    let call = server.wait_call(&dead, "succeeded").await;
    assert_eq!(call["attempts"], 4);
    let response = client.get(&format!("/api/v1/calls/{dead}/response")).await;
    assert_eq!(response.text(), "attempt 4");
    let refused = client
        .post(&format!("/api/v1/calls/{dead}/redrive"), "")
        .await;
    assert_eq!(
        (refused.status, refused.code().as_str()),
        (409, "call-state")
    );
    for _ in 0..3 {
        server.post("a", "/flaky?fails=100", "").await;
    }
    let purged = client
        .post("/api/v1/calls/purge?agent=a&state=dead", "")
        .await;
    assert_eq!(purged.json()["calls"], 3);
    let left = client.get("/api/v1/calls").await.json();
    assert_eq!(left["items"].as_array().map(Vec::len), Some(1));
}

#[tokio::test]
async fn a_replay_is_a_new_call_of_the_same_request() {
    let server = Server::start().await;
    server.deploy("a", json!({})).await;
    let first = server.post("a", "/work", "again").await;
    let replay = server
        .client
        .post(&format!("/api/v1/calls/{}/replay", first.call()), "")
        .await;
    assert_eq!(replay.status, 202);
    let id = replay.json()["id"].as_str().unwrap_or_default().to_owned();
    let call = server.wait_call(&id, "succeeded").await;
    assert_eq!(call["replay_of"], first.call());
    let executed = server.executed("a");
    assert_eq!(
        executed,
        [(first.call(), "again".to_owned()), (id, "again".to_owned())]
    );
}

#[tokio::test]
async fn a_cancelled_call_ends_and_frees_its_agent() {
    let server = Server::start().await;
    server.deploy("a", json!({ "concurrency": 1 })).await;
    let running = send(
        &server,
        "/agents/a/hang",
        "",
        &[("prefer", "respond-async")],
    )
    .await
    .call();
    server.wait_call(&running, "running").await;
    let queued = send(
        &server,
        "/agents/a/work",
        "x",
        &[("prefer", "respond-async")],
    )
    .await
    .call();
    assert_eq!(server.call(&queued).await["state"], "accepted");
    let cancelled = server
        .client
        .post(&format!("/api/v1/calls/{running}/cancel"), "")
        .await;
    assert_eq!(cancelled.json()["state"], "cancelled");
    server.wait_call(&queued, "succeeded").await;
    let response = server
        .client
        .get(&format!("/api/v1/calls/{running}/response"))
        .await;
    assert_eq!(
        (response.status, response.code().as_str()),
        (409, "call-cancelled")
    );
}

#[tokio::test]
async fn a_call_expires_at_its_deadline() {
    let server = Server::start().await;
    server
        .deploy("a", json!({ "deadline": "300ms", "concurrency": 1 }))
        .await;
    let client = server.client.clone();
    let queued = tokio::spawn(async move { client.post("/agents/a/hang", "").await });
    let running = server.post("a", "/hang", "").await;
    assert_eq!(
        (running.status, running.code().as_str()),
        (504, "call-expired")
    );
    let queued = queued.await.expect("a task");
    assert_eq!(queued.code(), "call-expired");
    for id in [running.call(), queued.call()] {
        assert_eq!(server.call(&id).await["state"], "expired");
    }
}

#[tokio::test]
async fn a_silent_agent_is_cut_off() {
    let server = Server::start().await;
    server
        .deploy(
            "a",
            json!({ "idle_timeout": "50ms", "attempts": 2, "backoff": "1ms" }),
        )
        .await;
    let answer = server.post("a", "/hang", "").await;
    assert_eq!(answer.code(), "call-dead");
    let reason = server.call(&answer.call()).await["reason"].to_string();
    assert!(reason.contains("silent"), "{reason}");
}

#[tokio::test]
async fn a_full_queue_says_so() {
    let server = Server::start().await;
    server
        .deploy("a", json!({ "concurrency": 1, "queue": 1 }))
        .await;
    let asynchronous = [("prefer", "respond-async")];
    let first = send(&server, "/agents/a/hang", "", &asynchronous).await;
    let second = send(&server, "/agents/a/hang", "", &asynchronous).await;
    assert_eq!((first.status, second.status), (202, 202));
    let third = send(&server, "/agents/a/hang", "", &asynchronous).await;
    assert_eq!((third.status, third.code().as_str()), (429, "queue-full"));
    assert_eq!(third.header("retry-after"), "1");
}

#[tokio::test]
async fn a_poisonous_call_dies_alone() {
    let server = Server::start().await;
    server
        .deploy("a", json!({ "backoff": "1ms", "max_backoff": "5ms" }))
        .await;
    let client = server.client.clone();
    let poison = tokio::spawn(async move { client.post("/agents/a/poison", "poison").await });
    let mut others = Vec::new();
    for number in 0..20 {
        let client = server.client.clone();
        others.push(tokio::spawn(async move {
            client
                .post("/agents/a/poison?ms=20", format!("good {number}"))
                .await
        }));
    }
    for (number, other) in others.into_iter().enumerate() {
        let answer = other.await.expect("a task");
        assert_eq!(
            (answer.status, answer.text()),
            (200, format!("good {number}"))
        );
    }
    let poison = poison.await.expect("a task");
    assert_eq!(poison.code(), "call-dead");
    server.wait_state("a", "ready").await;
    assert_eq!(server.post("a", "/poison", "after").await.text(), "after");
}

#[tokio::test]
async fn calls_wait_for_a_stopped_agent_only_when_they_may() {
    let server = Server::start().await;
    server.deploy("a", json!({})).await;
    server.client.post("/api/v1/agents/a/stop", "").await;
    server.wait_state("a", "stopped").await;
    let refused = server.post("a", "/work", "now").await;
    assert_eq!(
        (refused.status, refused.code().as_str()),
        (503, "agent-stopped")
    );
    let later = send(
        &server,
        "/agents/a/work",
        "later",
        &[("prefer", "respond-async")],
    )
    .await
    .call();
    server.client.post("/api/v1/agents/a/start", "").await;
    server.wait_call(&later, "succeeded").await;
    assert_eq!(server.executed("a"), [(later, "later".to_owned())]);
}

#[tokio::test]
async fn bodies_of_any_size_come_and_go_whole() {
    let server = Server::start().await;
    server.deploy("a", json!({})).await;
    for size in [0, 1, 16 << 10, (16 << 10) + 1, (256 << 10) + 1, 5 << 20] {
        let body = "y".repeat(size);
        let answer = server.client.post("/agents/a/work", body.clone()).await;
        assert!(answer.text() == body, "{size} bytes did not come back");
        let stored = server
            .client
            .get(&format!("/api/v1/calls/{}/response", answer.call()))
            .await;
        assert!(stored.text() == body, "{size} bytes were not stored");
        let large = server.post("a", &format!("/large?bytes={size}"), "").await;
        assert_eq!(large.body.len(), size);
    }
}

#[tokio::test]
async fn a_body_over_the_limit_is_refused() {
    let env = vec![("SKEP_LIMITS_BODY".to_owned(), "1KiB".to_owned())];
    let server = Server::start_with(skep_tests::Setup {
        env,
        ..Default::default()
    })
    .await;
    server.deploy("a", json!({})).await;
    let declared = server.client.post("/agents/a/work", "x".repeat(1025)).await;
    assert_eq!(
        (declared.status, declared.code().as_str()),
        (413, "body-too-large")
    );
    let chunks = (0..3).map(|_| Ok(Frame::data(Bytes::from(vec![b'x'; 512]))));
    let body = StreamBody::new(Chunks(chunks.collect())).boxed_unsync();
    let request = server
        .client
        .request(Method::POST, "/agents/a/work", "")
        .map(|_| body);
    let chunked = server.client.send(request).await;
    // The answer may be overtaken by the end of the connection.
    assert!(chunked.is_err() || chunked.is_ok_and(|answer| answer.status == 413));
    assert_eq!(
        server.post("a", "/work", &"x".repeat(1024)).await.status,
        200
    );
    assert_eq!(server.executed("a").len(), 1);
}

type Item = Result<Frame<Bytes>, std::convert::Infallible>;

struct Chunks(std::collections::VecDeque<Item>);

impl futures_core::Stream for Chunks {
    type Item = Item;

    fn poll_next(
        mut self: std::pin::Pin<&mut Self>,
        _: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Option<Item>> {
        std::task::Poll::Ready(self.0.pop_front())
    }
}

#[tokio::test]
async fn trailers_go_both_ways() {
    let server = Server::start().await;
    server.deploy("a", json!({})).await;
    let mut trailers = HeaderMap::new();
    trailers.insert("x-sum", HeaderValue::from_static("123"));
    let frames: std::collections::VecDeque<Item> = [
        Ok(Frame::data(Bytes::from("body"))),
        Ok(Frame::trailers(trailers)),
    ]
    .into();
    let body = StreamBody::new(Chunks(frames)).boxed_unsync();
    let mut request = server
        .client
        .request(Method::POST, "/agents/a/x", "")
        .map(|_| body);
    request
        .headers_mut()
        .insert("trailer", HeaderValue::from_static("x-sum"));
    request
        .headers_mut()
        .insert("te", HeaderValue::from_static("trailers"));
    let answer = server.client.send(request).await.expect("an answer");
    assert_eq!(answer.json()["trailers"], json!([["x-sum", "123"]]));
    let sent = answer.trailers.expect("trailers");
    assert_eq!(sent["x-checksum"], "abc");
}

async fn raw(server: &Server, text: &str) -> TcpStream {
    let address = server.client.url.trim_start_matches("http://").to_owned();
    let mut stream = TcpStream::connect(address).await.expect("a connection");
    let text = text
        .replace("KEY", &server.client.key)
        .replace('\n', "\r\n");
    stream.write_all(text.as_bytes()).await.expect("it is sent");
    stream
}

async fn read_until(stream: &mut TcpStream, wanted: &str) -> String {
    let mut text = Vec::new();
    let mut buffer = [0; 4096];
    while !String::from_utf8_lossy(&text).contains(wanted) {
        let count = stream.read(&mut buffer).await.expect("more");
        assert!(count > 0, "it ended: {}", String::from_utf8_lossy(&text));
        text.extend_from_slice(&buffer[..count]);
    }
    String::from_utf8_lossy(&text).into_owned()
}

#[tokio::test]
async fn a_client_that_asks_first_is_told_to_go_on() {
    let server = Server::start().await;
    server.deploy("a", json!({})).await;
    let head = "POST /agents/a/work HTTP/1.1\nhost: x\nauthorization: Bearer KEY\n\
                expect: 100-continue\ncontent-length: 5\n\n";
    let mut stream = raw(&server, head).await;
    read_until(&mut stream, "100 Continue").await;
    stream.write_all(b"hello").await.expect("it is sent");
    let answer = read_until(&mut stream, "hello").await;
    assert!(answer.contains("200 OK"), "{answer}");
}

#[tokio::test]
async fn an_agent_may_answer_before_it_has_read_the_body() {
    let server = Server::start().await;
    server.deploy("a", json!({})).await;
    for size in [10, 1 << 20] {
        let answer = server
            .client
            .post("/agents/a/early", "x".repeat(size))
            .await;
        assert_eq!((answer.status, answer.text()), (200, "early".to_owned()));
    }
}

#[tokio::test]
async fn other_protocols_pass_through() {
    let server = Server::start().await;
    server.deploy("a", json!({})).await;
    let head = "GET /agents/a/upgrade HTTP/1.1\nhost: x\nskep-api-key: KEY\n\
                connection: Upgrade\nupgrade: websocket\n\n";
    let mut stream = raw(&server, head).await;
    let answer = read_until(&mut stream, "\r\n\r\n").await;
    assert!(answer.starts_with("HTTP/1.1 101"), "{answer}");
    for word in ["ping", "pong"] {
        stream.write_all(word.as_bytes()).await.expect("it is sent");
        assert_eq!(read_until(&mut stream, word).await, word);
    }
}

#[tokio::test]
async fn http_2_is_spoken() {
    let server = Server::start().await;
    server.deploy("a", json!({})).await;
    let address = server.client.url.trim_start_matches("http://").to_owned();
    let stream = TcpStream::connect(&address).await.expect("a connection");
    let executor = hyper_util::rt::TokioExecutor::new();
    let handshake = hyper::client::conn::http2::handshake(executor, TokioIo::new(stream));
    let (mut sender, connection) = handshake.await.expect("a handshake");
    tokio::spawn(connection);
    let request = server
        .client
        .request(Method::POST, "/agents/a/x", "over h2");
    let response = sender.send_request(request).await.expect("an answer");
    assert_eq!(response.status(), 200);
    let body = response
        .into_body()
        .collect()
        .await
        .expect("a body")
        .to_bytes();
    let echo: Value = serde_json::from_slice(&body).expect("JSON");
    assert_eq!(echo["body"], "over h2");
    let host = echo["headers"]
        .as_array()
        .and_then(|all| all.iter().find(|pair| pair[0] == "host").cloned());
    assert_eq!(host, Some(json!(["host", address])));
}

#[tokio::test]
async fn a_call_goes_on_without_its_client() {
    let server = Server::start().await;
    server.deploy("a", json!({})).await;
    let head = "POST /agents/a/steps?n=1 HTTP/1.1\nhost: x\nauthorization: Bearer KEY\ncontent-length: 0\n\n";
    let stream = raw(&server, head).await;
    let id = eventually("the call", async || {
        let calls = server
            .client
            .get("/api/v1/calls?state=running")
            .await
            .json();
        calls["items"][0]["id"].as_str().map(str::to_owned)
    })
    .await;
    drop(stream);
    std::fs::write(server.home("a").join("step-1"), "").expect("a step");
    server.wait_call(&id, "succeeded").await;
}

#[tokio::test]
async fn a_restart_of_the_server_replays_what_ran_and_keeps_what_waited() {
    let mut server = Server::start().await;
    server.deploy("a", json!({ "concurrency": 1 })).await;
    let asynchronous = [("prefer", "respond-async")];
    let running = send(&server, "/agents/a/steps?n=1", "", &asynchronous)
        .await
        .call();
    server.wait_call(&running, "running").await;
    let waiting = send(&server, "/agents/a/work", "w", &asynchronous)
        .await
        .call();
    let pid = server.agent("a").await["instance"]["pid"].clone();
    server.kill();
    server.restart().await;
    std::fs::write(server.home("a").join("step-1"), "").expect("a step");
    let call = server.wait_call(&running, "succeeded").await;
    assert_eq!(call["attempts"], 2);
    server.wait_call(&waiting, "succeeded").await;
    assert_eq!(
        server.agent("a").await["instance"]["pid"],
        pid,
        "the agent was adopted, not started anew"
    );
}

#[tokio::test]
async fn a_graceful_end_lets_running_calls_finish() {
    let mut server = Server::start().await;
    server.deploy("a", json!({})).await;
    let client = server.client.clone();
    let call = tokio::spawn(async move { client.post("/agents/a/work?ms=300", "x").await });
    eventually("the call", async || {
        let calls = server
            .client
            .get("/api/v1/calls?state=running")
            .await
            .json();
        calls["items"][0]["id"].as_str().map(str::to_owned)
    })
    .await;
    assert!(server.terminate(), "{}", server.log());
    let answer = call.await.expect("a task");
    assert_eq!((answer.status, answer.text()), (200, "x".to_owned()));
    server.restart().await;
    assert_eq!(server.call(&answer.call()).await["state"], "succeeded");
}

#[tokio::test]
async fn relaxed_calls_are_recorded_all_the_same() {
    let server = Server::start().await;
    server.deploy("a", json!({ "durability": "relaxed" })).await;
    let answer = server.post("a", "/work", "quick").await;
    assert_eq!(answer.text(), "quick");
    server.wait_call(&answer.call(), "succeeded").await;
}

#[tokio::test]
async fn what_its_owner_does_to_an_agent_costs_a_call_no_try() {
    let server = Server::start().await;
    let spec = json!({
        "name": "a", "command": [agent_binary()], "drain": "0ms", "calls": { "attempts": 1 },
    });
    server.deploy_spec(spec).await;
    let asynchronous = [("prefer", "respond-async")];
    let call = send(&server, "/agents/a/steps?n=1", "", &asynchronous)
        .await
        .call();
    server.wait_call(&call, "running").await;
    let before = server.agent("a").await["instance"]["id"].clone();
    server.client.post("/api/v1/agents/a/restart", "").await;
    eventually("another instance alone", async || {
        let agent = server.agent("a").await;
        let alone = agent["instances"]
            .as_array()
            .is_some_and(|all| all.len() == 1);
        (alone && agent["state"] == "ready" && agent["instance"]["id"] != before).then_some(())
    })
    .await;
    std::fs::write(server.home("a").join("step-1"), "").expect("a step");
    let call = server.wait_call(&call, "succeeded").await;
    assert!(call["attempts"].as_u64() >= Some(2), "{call}");
}

#[tokio::test]
async fn what_the_drain_does_not_see_end_is_left_to_the_next_start() {
    let mut server = Server::start().await;
    server.deploy("a", json!({ "attempts": 1 })).await;
    let asynchronous = [("prefer", "respond-async")];
    let call = send(&server, "/agents/a/steps?n=1", "", &asynchronous)
        .await
        .call();
    server.wait_call(&call, "running").await;
    assert!(server.terminate());
    server.restart().await;
    std::fs::write(server.home("a").join("step-1"), "").expect("a step");
    server.wait_call(&call, "succeeded").await;
}

#[tokio::test]
async fn a_call_that_is_being_sent_while_its_agent_is_removed_ends() {
    let server = Server::start().await;
    server.deploy("a", json!({})).await;
    let head = "POST /agents/a/work HTTP/1.1\nhost: x\nauthorization: Bearer KEY\n\
                expect: 100-continue\ncontent-length: 6\n\n";
    let mut stream = raw(&server, head).await;
    // The door reads the body by now.
    read_until(&mut stream, "100 Continue").await;
    let remove = server
        .client
        .request(Method::DELETE, "/api/v1/agents/a", "");
    let removed = server.client.send(remove).await.expect("an answer");
    assert_eq!(removed.status, 204);
    stream.write_all(b"and on").await.expect("it is sent");
    let answer = read_until(&mut stream, "agent-not-found").await;
    assert!(answer.contains("404"), "{answer}");
}

#[tokio::test]
async fn an_agent_that_changes_the_protocol_unasked_has_not_answered() {
    let server = Server::start().await;
    server.deploy("a", json!({ "attempts": 1 })).await;
    let answer = server.post("a", "/upgrade", "").await;
    assert_eq!((answer.status, answer.code().as_str()), (502, "call-dead"));
}

#[tokio::test]
async fn ended_calls_go_when_they_are_old_and_dead_ones_stay() {
    let env = vec![("SKEP_CALLS_RETENTION".to_owned(), "1s".to_owned())];
    let setup = skep_tests::Setup {
        env,
        ..Default::default()
    };
    let server = Server::start_with(setup).await;
    server.deploy("a", json!({ "attempts": 1 })).await;
    let large = "x".repeat(20_000);
    let ended = server.post("a", "/work", &large).await.call();
    let dead = server.post("a", "/flaky?fails=9", "").await.call();
    eventually("the end of the old call", async || {
        let answer = server.client.get(&format!("/api/v1/calls/{ended}")).await;
        (answer.status == 404).then_some(())
    })
    .await;
    assert_eq!(server.call(&dead).await["state"], "dead");
    let blobs = server.data().join("blobs/by-hash/default");
    eventually("the end of its body", async || {
        let folders = std::fs::read_dir(&blobs).expect("blobs");
        let files = folders
            .flatten()
            .filter_map(|folder| std::fs::read_dir(folder.path()).ok())
            .flatten();
        (files.count() == 0).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn readers_that_hang_up_harm_nobody() {
    let server = Server::start().await;
    server.deploy("a", json!({})).await;
    let asynchronous = [("prefer", "respond-async")];
    for _ in 0..100 {
        let head = "GET /api/v1/calls?limit=1000 HTTP/1.1\nhost: x\nauthorization: Bearer KEY\n\n";
        drop(raw(&server, head).await);
        let answer = send(&server, "/agents/a/work", "", &asynchronous).await;
        assert_eq!(answer.status, 202, "{}", answer.text());
    }
}
