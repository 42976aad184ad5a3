//! Answers through lost connections, against a server that plays a script: one connection for each
//! of its answers, closed behind it whether the answer is whole or not.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use http::{HeaderName, Method};
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

use crate::{CallRequest, Client, ClientError, Patience};

/// Plays the answers; gives back the requests.
async fn play(answers: Vec<String>) -> (Client, JoinHandle<Vec<String>>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let played = tokio::spawn(async move {
        let mut requests = Vec::new();
        for answer in answers {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut read = Vec::new();
            while !read.ends_with(b"\r\n\r\n") {
                read.push(stream.read_u8().await.unwrap());
            }
            let head = String::from_utf8(read).unwrap();
            let mut body = vec![0; number(&head, "content-length")];
            stream.read_exact(&mut body).await.unwrap();
            stream.write_all(answer.as_bytes()).await.unwrap();
            requests.push(head);
        }
        requests
    });
    (Client::new(&url, None).unwrap(), played)
}

fn number(head: &str, name: &str) -> usize {
    value(head, name).map_or(0, |value| value.parse().unwrap())
}

fn value<'a>(head: &'a str, name: &str) -> Option<&'a str> {
    let mut lines = head.lines();
    lines.find_map(|line| line.strip_prefix(name)?.strip_prefix(": "))
}

const LOST: &str = "";

/// An answer of Skep's whose body says that it is longer than it is.
fn cut(status: u16, headers: &str, body: &str, missing: usize) -> String {
    let length = body.len() + missing;
    format!(
        "HTTP/1.1 {status} X\r\nconnection: close\r\nskep-request-id: req_1\r\n{headers}\
         content-length: {length}\r\n\r\n{body}"
    )
}

/// An agent's answer to the call, cut off when bytes are missing.
fn answered(body: &str, missing: usize) -> String {
    cut(200, "skep-call-id: call_1\r\n", body, missing)
}

fn events(body: &str, missing: usize) -> String {
    let headers = "skep-call-id: call_1\r\ncontent-type: text/event-stream\r\n";
    cut(200, headers, body, missing)
}

fn refused(code: &str, status: u16) -> String {
    let problem = json!({
        "type": "/docs/errors/x", "title": "t", "status": status, "detail": "d", "code": code,
        "request_id": "req_1", "hint": "h",
    });
    let headers = "content-type: application/problem+json\r\nretry-after: 0\r\n";
    cut(status, headers, &problem.to_string(), 0)
}

fn agent(methods: Option<&[&str]>) -> String {
    let at = "2026-11-21T04:54:08Z";
    let agent = json!({
        "id": "agt_1", "name": "a", "desired": "running", "revision": 1, "state": "ready",
        "restarts": 0, "replicas": 1, "rollout": { "state": "done", "weight": 100 }, "created_at": at, "updated_at": at,
        "spec": { "name": "a", "command": ["x"], "calls": { "methods": methods } },
    });
    cut(
        200,
        "content-type: application/json\r\n",
        &agent.to_string(),
        0,
    )
}

fn patience() -> Patience {
    Patience::new(Duration::from_secs(10)).first_wait(Duration::from_millis(1))
}

async fn called(client: &Client) -> Result<String, ClientError> {
    let request = CallRequest::post("a", "/x", "{}");
    let answer = client.call_through(request, &patience()).await?;
    Ok(String::from_utf8(answer.bytes().await?.to_vec()).unwrap())
}

/// The request lines, and `Last-Event-ID` where there is one.
fn lines(requests: &[String]) -> Vec<String> {
    let line = |head: &String| {
        let line = head.lines().next().unwrap().trim_end_matches(" HTTP/1.1");
        let seen = value(head, "last-event-id").map(|id| format!(" behind {id}"));
        line.to_owned() + &seen.unwrap_or_default()
    };
    requests.iter().map(line).collect()
}

const CALL: &str = "POST /agents/a/x";
const AGENT: &str = "GET /api/v1/agents/a";
const RESPONSE: &str = "GET /api/v1/calls/call_1/response?wait=true";

#[tokio::test]
async fn a_call_is_sent_again_under_its_key_and_then_attached_to() {
    let (client, played) = play(vec![
        refused("shutting-down", 503),
        LOST.to_owned(),
        agent(None),
        answered("he", 3),
        refused("store-unavailable", 503),
        LOST.to_owned(),
        answered("hell", 1),
        answered("hello", 0),
    ])
    .await;
    // In a task of its own: whoever calls an agent may run on any thread.
    let called = tokio::spawn(async move { called(&client).await });
    assert_eq!(called.await.unwrap().unwrap(), "hello");
    let requests = played.await.unwrap();
    assert_eq!(
        lines(&requests),
        [
            CALL, CALL, AGENT, CALL, RESPONSE, RESPONSE, RESPONSE, RESPONSE
        ]
    );
    let keys: Vec<_> = [0, 1, 3]
        .map(|n| value(&requests[n], "idempotency-key"))
        .into();
    assert!(
        keys[0].is_some_and(|key| key.starts_with("auto_")),
        "{keys:?}"
    );
    assert!(keys.windows(2).all(|pair| pair[0] == pair[1]), "{keys:?}");
}

#[tokio::test]
async fn what_is_not_journaled_is_not_sent_again() {
    let (client, played) = play(vec![LOST.to_owned(), agent(Some(&["PUT"]))]).await;
    let error = called(&client).await.unwrap_err();
    assert!(
        matches!(error, ClientError::Interrupted { .. }),
        "{error:?}"
    );
    assert_eq!(lines(&played.await.unwrap()), [CALL, AGENT]);
    let (client, played) = play(vec![LOST.to_owned()]).await;
    let request = CallRequest::new(Method::GET, "a", "/x");
    let error = client.call_through(request, &patience()).await.unwrap_err();
    assert!(
        matches!(error, ClientError::Interrupted { .. }),
        "{error:?}"
    );
    let requests = played.await.unwrap();
    assert_eq!(value(&requests[0], "idempotency-key"), None);
}

#[tokio::test]
async fn a_server_that_was_never_there_fails_at_once_and_one_that_was_is_waited_for() {
    let (client, played) = play(vec![LOST.to_owned()]).await;
    let told = Arc::new(AtomicUsize::new(0));
    let counter = told.clone();
    let short = Patience::new(Duration::from_millis(20))
        .first_wait(Duration::from_millis(1))
        .on_loss(move |_| {
            counter.fetch_add(1, Ordering::Relaxed);
        });
    let request = || CallRequest::post("a", "/x", "{}");
    let error = client.call_through(request(), &short).await.unwrap_err();
    // It was there once: the last thing that went wrong is said, when the patience ends.
    assert!(
        matches!(error, ClientError::Unreachable { .. }),
        "{error:?}"
    );
    assert_eq!(told.load(Ordering::Relaxed), 1);
    played.await.unwrap();
    let error = client.call_through(request(), &short).await.unwrap_err();
    assert!(
        matches!(error, ClientError::Unreachable { .. }),
        "{error:?}"
    );
    assert_eq!(told.load(Ordering::Relaxed), 1, "it was not tried again");
}

#[tokio::test]
async fn an_answer_that_is_another_one_is_not_continued() {
    let others = [
        answered("ho ho ho", 0),
        answered("h", 0),
        cut(500, "skep-call-id: call_1\r\n", "hello", 0),
    ];
    for other in others {
        let (client, played) = play(vec![answered("he", 3), other]).await;
        let error = called(&client).await.unwrap_err();
        let ClientError::Unresumable { call, .. } = &error else {
            panic!("{error:?}")
        };
        assert_eq!(call, "call_1");
        assert_eq!(lines(&played.await.unwrap()), [CALL, RESPONSE]);
    }
}

#[tokio::test]
async fn events_go_on_behind_the_last_one() {
    let known = "id: 1.1\ndata: a\n\nid: 1.2\ndata: b\n\n";
    let again = "id: 2.1\ndata: a\n\nid: 2.2\ndata: b\n\nid: 2.3\ndata: c\n\n";
    let (client, played) = play(vec![
        events("id: 1.1\ndata: a\n\nid: 1.2\nda", 99),
        events("id: 1.2\ndata: b\n\n", 99),
        // Another attempt, whose whole has to be asked for.
        events(again, 0),
        events(again, 0),
    ])
    .await;
    let answer = client
        .response_through("call_1", true, None, &patience())
        .await
        .unwrap();
    let all = answer.bytes().await.unwrap();
    assert_eq!(all, format!("{known}id: 2.3\ndata: c\n\n"));
    let behind = |id: &str| format!("{RESPONSE} behind {id}");
    assert_eq!(
        lines(&played.await.unwrap()),
        [RESPONSE, &behind("1.1"), &behind("1.2"), RESPONSE]
    );
}

#[tokio::test]
async fn the_word_that_a_call_is_accepted_is_asked_for_again() {
    let headers = "skep-call-id: call_1\r\nlocation: /api/v1/calls/call_1\r\n";
    let (client, played) = play(vec![
        cut(202, headers, "{", 1),
        agent(None),
        cut(202, headers, "{}", 0),
    ])
    .await;
    let request = CallRequest::post("a", "/x", "{}").respond_async();
    let answer = client.call_through(request, &patience()).await.unwrap();
    assert!(answer.is_accepted());
    assert_eq!(answer.bytes().await.unwrap(), "{}");
    assert_eq!(lines(&played.await.unwrap()), [CALL, AGENT, CALL]);
}

#[tokio::test]
async fn a_gateway_without_a_server_is_a_lost_connection() {
    let gateway = || {
        "HTTP/1.1 502 Bad Gateway\r\nconnection: close\r\ncontent-length: 2\r\n\r\nno".to_owned()
    };
    let agents_own = cut(502, "skep-call-id: call_1\r\n", "mine", 0);
    let (client, played) = play(vec![
        gateway(),
        agent(None),
        gateway(),
        agent(None),
        agents_own,
    ])
    .await;
    assert_eq!(called(&client).await.unwrap(), "mine");
    assert_eq!(
        lines(&played.await.unwrap()),
        [CALL, AGENT, CALL, AGENT, CALL]
    );
    let (client, played) = play(vec![gateway()]).await;
    let request = CallRequest::new(Method::GET, "a", "/x");
    let answer = client.call_through(request, &patience()).await.unwrap();
    assert_eq!(answer.status(), 502);
    played.await.unwrap();
}

#[tokio::test]
async fn a_key_of_the_callers_own_stays() {
    let (client, played) = play(vec![answered("x", 0)]).await;
    let request = CallRequest::post("a", "/x", "{}")
        .idempotency_key("mine")
        .unwrap();
    client.call_through(request, &patience()).await.unwrap();
    let requests = played.await.unwrap();
    let name = HeaderName::from_static(skep_api::HEADER_IDEMPOTENCY_KEY);
    assert_eq!(value(&requests[0], name.as_str()), Some("mine"));
}
