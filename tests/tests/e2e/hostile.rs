//! Peers that mean no good: clients without a key that hold what others need, and agents and
//! clients that say what only Skep says.

use bytes::Bytes;
use http::Method;
use http_body_util::Empty;
use hyper::client::conn::http2;
use hyper_util::rt::{TokioExecutor, TokioIo};
use serde_json::json;
use skep_tests::{Server, Setup, eventually};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// Connections that the server of these tests takes.
const CONNECTIONS: usize = 8;

async fn small() -> Server {
    let env = [
        ("SKEP_LIMITS_CONNECTIONS", "8"),
        ("SKEP_LIMITS_HEADER_TIMEOUT", "300ms"),
    ];
    let env = env.map(|(name, value)| (name.to_owned(), value.to_owned()));
    Server::start_with(Setup {
        env: env.to_vec(),
        ..Setup::default()
    })
    .await
}

async fn connect(server: &Server) -> TcpStream {
    let address = server.client.url.trim_start_matches("http://");
    TcpStream::connect(address).await.expect("a connection")
}

/// Health on a connection of its own, which no other request made.
async fn health(server: &Server) -> Option<()> {
    let mut stream = connect(server).await;
    let request = b"GET /api/v1/health/basic HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n";
    stream.write_all(request).await.ok()?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.ok()?;
    answer.starts_with("HTTP/1.1 200").then_some(())
}

#[tokio::test]
async fn silent_connections_give_their_places_back() {
    let server = small().await;
    for said in [
        "",
        "GET /api",
        "PRI * HTTP/2.0",
        "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    ] {
        let mut silent = Vec::new();
        for _ in 0..CONNECTIONS {
            let mut stream = connect(&server).await;
            stream.write_all(said.as_bytes()).await.expect("it is sent");
            silent.push(stream);
        }
        eventually(&format!("an answer beside {said:?}"), async || {
            health(&server).await
        })
        .await;
        // They are closed, all of them, and not only passed by.
        for mut stream in silent {
            let mut rest = Vec::new();
            let _ = stream.read_to_end(&mut rest).await;
        }
    }
}

#[tokio::test]
async fn idle_http_2_connections_give_their_places_back() {
    let server = small().await;
    let mut idle = Vec::new();
    for _ in 0..CONNECTIONS {
        let stream = TokioIo::new(connect(&server).await);
        let handshake = http2::handshake::<_, _, Empty<Bytes>>(TokioExecutor::new(), stream);
        let (sender, connection) = handshake.await.expect("a handshake");
        // It answers every PING for as long as it may.
        idle.push((sender, tokio::spawn(connection)));
    }
    eventually("an answer", async || health(&server).await).await;
    for (_sender, connection) in idle {
        let _ = connection.await.expect("it ends");
    }
}

#[tokio::test]
async fn a_request_that_takes_its_time_is_not_cut_off() {
    let server = small().await;
    server.deploy("a", json!({})).await;
    let client = server.client.clone();
    let slow = tokio::spawn(async move { client.get("/agents/a/events?n=8&ms=200").await });
    let answer = slow.await.expect("a task");
    assert_eq!(answer.status, 200);
    assert!(answer.text().contains("8"), "{}", answer.text());
}

/// Asks the agent for another protocol; the stream and what came of the answer's head.
async fn upgraded(server: &Server) -> (TcpStream, String) {
    let mut stream = connect(server).await;
    let head = format!(
        "GET /agents/a/upgrade HTTP/1.1\r\nhost: x\r\nskep-api-key: {}\r\n\
         connection: Upgrade\r\nupgrade: websocket\r\n\r\n",
        server.client.key
    );
    stream.write_all(head.as_bytes()).await.expect("it is sent");
    let mut answer = String::new();
    while !answer.contains("\r\n\r\n") {
        let byte = stream.read_u8().await.expect("an answer");
        answer.push(char::from(byte));
    }
    (stream, answer)
}

#[tokio::test]
async fn upgraded_connections_count() {
    let server = small().await;
    server.deploy("a", json!({})).await;
    let mut open = Vec::new();
    // The client of `deploy` may hold one, until it has been idle.
    for _ in 0..CONNECTIONS {
        let (stream, answer) = upgraded(&server).await;
        assert!(answer.starts_with("HTTP/1.1 101"), "{answer}");
        open.push(stream);
    }
    let mut late = connect(&server).await;
    let request = b"GET /api/v1/health/basic HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n";
    late.write_all(request).await.expect("it is sent");
    let mut waiting = tokio::spawn(async move {
        let mut answer = String::new();
        late.read_to_string(&mut answer).await.expect("an answer");
        answer
    });
    // Bytes that go to and fro show that the server had its turn, and it took nobody in.
    for stream in &mut open {
        stream.write_all(b"ping").await.expect("it is sent");
        let mut back = [0; 4];
        stream.read_exact(&mut back).await.expect("it comes back");
    }
    assert!(!waiting.is_finished(), "there was a ninth connection");
    open.pop();
    let answer = (&mut waiting).await.expect("a task");
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
}

#[tokio::test]
async fn a_protocol_that_nobody_asked_for_is_no_answer() {
    let server = Server::start().await;
    server.deploy("a", json!({})).await;
    let answer = server.client.get("/agents/a/upgrade").await;
    assert_eq!(
        (answer.status, answer.code().as_str()),
        (502, "agent-unreachable")
    );
}

#[tokio::test]
async fn what_only_skep_says_is_not_passed_on() {
    let server = Server::start().await;
    server.deploy("a", json!({})).await;
    let mut request = server.client.request(Method::GET, "/agents/a/x", "");
    for name in ["skep-call-id", "skep-attempt", "skep-anything"] {
        let value = http::HeaderValue::from_static("1");
        request.headers_mut().insert(name, value);
    }
    let key = http::HeaderValue::try_from(&server.client.key).expect("a key");
    request.headers_mut().insert("skep-api-key", key);
    let answer = server.client.send(request).await.expect("an answer");
    let seen = answer.json();
    let names = seen["headers"].as_array().expect("headers").iter();
    let ours: Vec<_> = names
        .filter_map(|pair| pair[0].as_str())
        .filter(|name| name.starts_with("skep-") || *name == "authorization")
        .collect();
    assert!(ours.is_empty(), "{ours:?} reached the agent");
    let policies = answer.headers.get_all("content-security-policy").iter();
    assert!(
        policies
            .filter_map(|it| it.to_str().ok())
            .any(|it| it.contains("sandbox"))
    );
}

#[tokio::test]
async fn a_log_that_is_followed_does_not_hold_up_the_end() {
    let mut server = Server::start_with(Setup {
        env: vec![("SKEP_SHUTDOWN_DRAIN".to_owned(), "10m".to_owned())],
        ..Setup::default()
    })
    .await;
    server.deploy("a", json!({})).await;
    let path = "/api/v1/agents/a/logs?follow=true";
    let request = server.client.request(Method::GET, path, "");
    let follow = server.client.open(request).await.expect("an answer");
    assert_eq!(follow.status(), 200);
    // With the ten minutes of the drain this would not end in time.
    assert!(server.terminate());
}
