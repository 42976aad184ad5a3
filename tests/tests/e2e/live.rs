//! What happens, as it happens: several topics over one connection.

use std::collections::HashMap;

use futures_util::{SinkExt, StreamExt};
use http::header::{AUTHORIZATION, COOKIE, HeaderName, HeaderValue, SEC_WEBSOCKET_PROTOCOL};
use http::{Method, StatusCode};
use http_body_util::BodyExt;
use serde_json::{Value, json};
use skep_tests::{Server, agent_binary};
use tokio::net::TcpStream;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::protocol::CloseFrame;
use tokio_tungstenite::tungstenite::{Error, Message};

use crate::agui::{asks, counting, events, input, step};

/// Somebody who listens.
struct Live(WebSocketStream<TcpStream>);

/// Comes with these headers; or the status of a refusal.
async fn come(
    server: &Server,
    query: &str,
    headers: &[(HeaderName, &str)],
) -> Result<(Live, Option<HeaderValue>), StatusCode> {
    let url = format!("ws://{}/api/v1/live{query}", server.address());
    let mut request = url.into_client_request().expect("a request");
    for (name, value) in headers {
        let value = HeaderValue::from_str(value).expect("a value");
        request.headers_mut().insert(name.clone(), value);
    }
    let stream = TcpStream::connect(server.address())
        .await
        .expect("a connection");
    match tokio_tungstenite::client_async(request, stream).await {
        Ok((live, answer)) => {
            let spoken = answer.headers().get(SEC_WEBSOCKET_PROTOCOL).cloned();
            Ok((Live(live), spoken))
        }
        Err(Error::Http(answer)) => Err(answer.status()),
        Err(error) => panic!("{error}"),
    }
}

impl Live {
    /// Comes with a key.
    async fn with(server: &Server, key: &str) -> Self {
        let bearer = format!("Bearer {key}");
        let came = come(server, "", &[(AUTHORIZATION, &bearer)]).await;
        came.expect("let in").0
    }

    async fn says(&mut self, what: Value) {
        let message = Message::text(what.to_string());
        self.0.send(message).await.expect("sent");
    }

    async fn subscribes(&mut self, topic: &str, after: Option<&str>) {
        self.says(json!({ "subscribe": { "topic": topic, "after": after } }))
            .await;
    }

    /// The next frame; or how the other side ended it.
    async fn next(&mut self) -> Result<Value, Option<CloseFrame>> {
        loop {
            match self.0.next().await {
                Some(Ok(Message::Text(text))) => {
                    return Ok(serde_json::from_str(&text).expect("JSON"));
                }
                Some(Ok(Message::Close(why))) => return Err(why),
                Some(Ok(_)) => {}
                Some(Err(_)) | None => return Err(None),
            }
        }
    }

    /// Frames until one is as it is looked for; with that one.
    async fn until(&mut self, is_it: impl Fn(&Value) -> bool) -> Vec<Value> {
        let mut all = Vec::new();
        while !all.last().is_some_and(&is_it) {
            all.push(self.next().await.expect("a frame"));
        }
        all
    }
}

fn is_state(state: &str) -> impl Fn(&Value) -> bool {
    move |frame| frame["state"] == state
}

/// What was told of a topic: the number, and what it is.
fn told<'a>(frames: &'a [Value], topic: &str) -> Vec<(&'a str, &'a Value)> {
    let of = frames
        .iter()
        .filter(|it| it["topic"] == topic && !it["event"].is_null());
    of.map(|it| (it["seq"].as_str().unwrap_or_default(), &it["event"]))
        .collect()
}

async fn key(server: &Server, wish: Value) -> (String, String) {
    let made = server.client.post_json("/api/v1/keys", &wish).await;
    assert_eq!(made.status, 201, "{}", made.text());
    let made = made.json();
    let text = |name: &str| made[name].as_str().expect("text").to_owned();
    (text("id"), text("secret"))
}

#[tokio::test]
async fn a_run_is_told_as_its_own_stream_tells_it_through_a_kill_of_the_server() {
    let mut server = counting().await;
    let begun = asks(&server, input("t", "r"), None).await;
    let run = begun.headers()["skep-run-id"]
        .to_str()
        .expect("an id")
        .to_owned();
    let topic = format!("runs/{run}");
    let admin = server.client.key.clone();
    let mut live = Live::with(&server, &admin).await;
    live.subscribes(&topic, None).await;
    step(&server, 1);
    let first = live.until(|it| it["event"]["delta"] == "step 1").await;
    assert_eq!(first[0], json!({ "topic": topic, "state": "open" }));
    let seen = first.last().expect("a frame")["seq"]
        .as_str()
        .expect("an id")
        .to_owned();
    server.kill();
    server.restart().await;
    let mut live = Live::with(&server, &admin).await;
    live.subscribes(&topic, Some(&seen)).await;
    // The attempt was cut: what the run has come to is told anew, and then what follows.
    live.until(|it| it["event"]["type"] == "MESSAGES_SNAPSHOT")
        .await;
    live.until(|it| it["event"]["delta"] == "step 1").await;
    step(&server, 2);
    let rest = live.until(is_state("ended")).await;
    let deltas = told(&rest, &topic).into_iter().map(|(_, it)| &it["delta"]);
    let said: Vec<&Value> = deltas.filter(|it| it.is_string()).collect();
    assert_eq!(said, [&json!("step 2")]);
    // Who comes when all is over is told what the run's own stream tells, by the same numbers.
    live.subscribes(&topic, None).await;
    let late = live.until(is_state("ended")).await;
    let own = server
        .client
        .get(&format!("/api/v1/runs/{run}/events"))
        .await
        .text();
    let own = events(&own);
    let own: Vec<(&str, &Value)> = own
        .iter()
        .map(|(id, event)| (id.as_deref().unwrap_or_default(), event))
        .collect();
    assert!(own.len() > 3, "{own:?}");
    assert_eq!(told(&late, &topic), own);
}

/// What happens by one call, by topic; each in its order.
fn of_one_call(call: &str, run: &str) -> [(&'static str, Vec<Value>); 2] {
    let calls = ["call.accepted", "call.succeeded"].map(|kind| json!([kind, call]));
    let runs = ["run.running", "run.finished"].map(|kind| json!([kind, run]));
    [("calls?agent=a", calls.to_vec()), ("runs", runs.to_vec())]
}

fn kinds(frames: &[Value], topic: &str) -> Vec<Value> {
    let of = frames
        .iter()
        .filter(|it| it["topic"] == topic && !it["event"].is_null());
    let id = |event: &Value| match &event["call"] {
        Value::String(call) if event["id"].is_null() => call.clone(),
        _ => event["id"].as_str().unwrap_or_default().to_owned(),
    };
    of.map(|it| json!([it["type"], id(&it["event"])])).collect()
}

#[tokio::test]
async fn what_happens_is_told_alike_over_both_and_nothing_is_missed_between() {
    let server = counting().await;
    let mut live = Live::with(&server, &server.client.key).await;
    let topics = ["calls?agent=a", "runs"];
    for topic in topics {
        live.subscribes(topic, None).await;
    }
    // Each says where it begins.
    let mut from = HashMap::new();
    while from.len() < topics.len() {
        let frame = live.next().await.expect("a frame");
        if let (Some(topic), Some(seq)) = (frame["topic"].as_str(), frame["seq"].as_str()) {
            from.insert(topic.to_owned(), seq.to_owned());
        }
    }
    step(&server, 1);
    step(&server, 2);
    let answer = asks(&server, input("t", "r"), None).await;
    let head = |name: &str| answer.headers()[name].to_str().expect("an id").to_owned();
    let (call, run) = (head("skep-call-id"), head("skep-run-id"));
    answer.into_body().collect().await.expect("an answer");
    let mut frames = Vec::new();
    for kind in ["call.succeeded", "run.finished"] {
        if !frames.iter().any(|it: &Value| it["type"] == kind) {
            frames.extend(live.until(|it| it["type"] == kind).await);
        }
    }
    for (topic, wanted) in of_one_call(&call, &run) {
        assert_eq!(kinds(&frames, topic), wanted);
    }
    // Over the other way, from where each began, the same is told again; and from where it came to, nothing of it.
    let query: String = topics.iter().map(|it| format!("topic={it}&")).collect();
    let behind = topics.map(|it| from[it].clone()).join(";");
    let (same, place) = sent(&server, &query, &behind, "run.finished").await;
    for (topic, wanted) in of_one_call(&call, &run) {
        assert_eq!(told(&same, topic), told(&frames, topic));
        assert_eq!(kinds(&same, topic), wanted);
    }
    let next = asks(&server, input("t2", "r2"), None).await;
    let next = next.headers()["skep-call-id"]
        .to_str()
        .expect("an id")
        .to_owned();
    let (more, _) = sent(&server, &query, &place, "run.finished").await;
    let more = kinds(&more, "calls?agent=a");
    assert_eq!(more.first(), Some(&json!(["call.accepted", next])));
}

/// Server-sent events of topics behind a place, until something has happened; with the place behind that.
async fn sent(server: &Server, query: &str, behind: &str, kind: &str) -> (Vec<Value>, String) {
    let path = format!(
        "/api/v1/live?{}",
        query.trim_end_matches('&').replace("?agent", "%3Fagent")
    );
    let mut request = server.client.request(Method::GET, &path, "");
    let seen = HeaderValue::from_str(behind).expect("an id");
    request.headers_mut().insert("last-event-id", seen);
    let answer = server.client.open(request).await.expect("an answer");
    assert_eq!(answer.status(), 200);
    assert_eq!(answer.headers()["content-type"], "text/event-stream");
    let (mut body, mut text) = (answer.into_body(), String::new());
    let wanted = ["call.succeeded", kind].map(|it| format!("\"type\":\"{it}\""));
    while !wanted.iter().all(|it| text.contains(it.as_str())) || !text.ends_with("\n\n") {
        let frame = body.frame().await.expect("more").expect("a frame");
        let data = frame.into_data().unwrap_or_default();
        text.push_str(&String::from_utf8_lossy(&data));
    }
    let (places, frames): (Vec<_>, Vec<_>) = events(&text).into_iter().unzip();
    let place = places.into_iter().flatten().next_back();
    (frames, place.expect("a place"))
}

#[tokio::test]
async fn who_may_not_is_told_so_and_the_others_go_on() {
    let server = counting().await;
    let answer = asks(&server, input("t", "r"), None).await;
    let run = answer.headers()["skep-run-id"].to_str().expect("an id");
    // What policy says of a stream of the API it says of the topic.
    let wish = json!({ "name": "looks", "role": "viewer", "scopes": ["self:read", "event:read"] });
    let (_, looks) = key(&server, wish).await;
    let mut live = Live::with(&server, &looks).await;
    for topic in ["calls", "runs", &format!("runs/{run}")] {
        live.subscribes(topic, None).await;
        let refused = live.next().await.expect("a frame");
        assert_eq!(
            (&refused["topic"], &refused["error"]["code"]),
            (&json!(topic), &json!("forbidden")),
            "{refused}"
        );
    }
    live.subscribes("events", None).await;
    assert_eq!(
        live.next().await.expect("a frame"),
        json!({ "topic": "events", "state": "open" })
    );
    for (said, code) in [
        (json!({ "subscribe": { "topic": "events" } }), "bad-request"),
        (
            json!({ "subscribe": { "topic": "secrets" } }),
            "bad-request",
        ),
        (
            json!({ "unsubscribe": { "topic": "calls" } }),
            "bad-request",
        ),
        (json!({ "hello": {} }), "bad-request"),
        (
            json!({ "subscribe": { "topic": "runs/run_none" } }),
            "forbidden",
        ),
    ] {
        live.says(said.clone()).await;
        let refused = live.until(|it| !it["error"].is_null()).await;
        assert_eq!(
            refused.last().expect("a frame")["error"]["code"],
            code,
            "{said}"
        );
    }
    // It is still there.
    let spec = json!({ "name": "b", "command": [agent_binary()] });
    server.deploy_spec(spec).await;
    let deployed = live.until(|it| it["type"] == "agent.deployed").await;
    assert_eq!(deployed.last().expect("a frame")["event"]["agent"], "b");
}

#[tokio::test]
async fn nobody_comes_in_by_what_a_browser_shows_by_itself_or_a_log_would_keep() {
    let server = Server::start().await;
    let key = server.client.key.clone();
    let bearer = format!("Bearer {key}");
    let refused = async |query: &str, headers: &[(HeaderName, &str)]| {
        come(&server, query, headers)
            .await
            .err()
            .map(|it| it.as_u16())
    };
    assert_eq!(refused("", &[]).await, Some(401));
    assert_eq!(
        refused("", &[(AUTHORIZATION, "Bearer wrong")]).await,
        Some(401)
    );
    for name in ["token", "access_token", "key"] {
        let query = format!("?{name}={key}");
        assert_eq!(refused(&query, &[]).await, Some(400), "{name}");
        assert_eq!(
            refused(&query, &[(AUTHORIZATION, &bearer)]).await,
            Some(400),
            "{name}"
        );
    }
    let cookie = format!("__Host-skep-session={key}");
    assert_eq!(refused("", &[(COOKIE, &cookie)]).await, Some(401));
    // A browser can offer protocols.
    let offered = format!("skep.v1, skep.bearer.{key}");
    let came = come(&server, "", &[(SEC_WEBSOCKET_PROTOCOL, &offered)]).await;
    let (mut live, spoken) = came.expect("let in");
    assert_eq!(spoken, Some(HeaderValue::from_static("skep.v1")));
    live.subscribes("events", None).await;
    assert_eq!(live.next().await.expect("a frame")["state"], "open");
    let log = server.log();
    assert!(!log.contains(&key), "the key is in the log");
    // For who comes without a WebSocket, too.
    for (path, status) in [
        ("/api/v1/live", 400),
        ("/api/v1/live?topic=secrets", 400),
        ("/api/v1/live?topic=events&topic=events", 400),
        ("/api/v1/live?token=x&topic=events", 400),
    ] {
        assert_eq!(server.client.get(path).await.status, status, "{path}");
    }
}

#[tokio::test]
async fn a_key_that_is_revoked_hears_no_more() {
    let server = Server::start().await;
    let (id, secret) = key(&server, json!({ "name": "gone", "role": "viewer" })).await;
    let mut live = Live::with(&server, &secret).await;
    live.subscribes("events", None).await;
    assert_eq!(live.next().await.expect("a frame")["state"], "open");
    let path = format!("/api/v1/keys/{id}");
    let revoke = server.client.request(Method::DELETE, &path, "");
    let revoked = server.client.send(revoke).await.expect("an answer");
    assert_eq!(revoked.status, 204, "{}", revoked.text());
    let why = loop {
        if let Err(why) = live.next().await {
            break why.expect("a reason");
        }
    };
    assert_eq!(u16::from(why.code), 1008, "{why:?}");
}

#[tokio::test]
async fn when_the_server_ends_it_says_so() {
    let mut server = Server::start().await;
    let mut live = Live::with(&server, &server.client.key).await;
    live.subscribes("events", None).await;
    server.tell_to_end();
    let why = loop {
        if let Err(why) = live.next().await {
            break why.expect("a reason");
        }
    };
    assert_eq!(u16::from(why.code), 1001, "{why:?}");
    assert!(server.ended().await);
}
