//! Runs in AG-UI: of any agent, durable, shown as they come and to who comes back.

use http::{HeaderValue, Method};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use serde_json::{Value, json};
use skep_tests::{Server, agent_binary};

/// What a client asks.
pub(crate) fn input(thread: &str, run: &str) -> String {
    let asked = json!({ "id": "q", "role": "user", "content": "Count." });
    json!({
        "threadId": thread, "runId": run, "state": {}, "messages": [asked], "tools": [], "context": [], "forwardedProps": {},
    })
    .to_string()
}

/// Asks for a run, or for the rest of it.
pub(crate) async fn asks(
    server: &Server,
    body: String,
    seen: Option<&str>,
) -> http::Response<Incoming> {
    let mut request = server.client.request(Method::POST, "/agents/a/agui", body);
    if let Some(seen) = seen {
        let seen = HeaderValue::from_str(seen).expect("an id");
        request.headers_mut().insert("last-event-id", seen);
    }
    server.client.open(request).await.expect("an answer")
}

/// An event with its id, if it has one.
pub(crate) type Event = (Option<String>, Value);

/// The events of a stream of them; comments are none.
pub(crate) fn events(text: &str) -> Vec<Event> {
    let frames = text.split("\n\n").filter(|it| it.contains("data: "));
    let event = |frame: &str| {
        let field = |name: &str| frame.lines().find_map(|line| line.strip_prefix(name));
        let data = field("data: ").expect("data");
        let id = field("id: ").map(str::to_owned);
        (id, serde_json::from_str(data).expect("JSON"))
    };
    frames.map(event).collect()
}

/// Reads on until an event has this text.
pub(crate) async fn until(body: &mut Incoming, wanted: &str) -> Vec<Event> {
    let mut text = String::new();
    while !text.contains(wanted) || !text.ends_with("\n\n") {
        let frame = body.frame().await.expect("more").expect("a frame");
        if let Some(data) = frame.data_ref() {
            text.push_str(&String::from_utf8_lossy(data));
        }
    }
    events(&text)
}

pub(crate) async fn rest(body: Incoming) -> Vec<Event> {
    let rest = body.collect().await.expect("the end").to_bytes();
    events(&String::from_utf8_lossy(&rest))
}

pub(crate) fn kinds(events: &[Event]) -> Vec<&str> {
    let kinds = events.iter().map(|(_, event)| event["type"].as_str());
    kinds.map(Option::unwrap_or_default).collect()
}

/// What was written by these, as one text.
pub(crate) fn written(events: &[Event]) -> String {
    let deltas = events.iter().filter_map(|(_, it)| it["delta"].as_str());
    deltas.collect()
}

pub(crate) fn step(server: &Server, number: u32) {
    std::fs::write(server.home("a").join(format!("step-{number}")), "").expect("a step");
}

/// Deploys the agent `a`, which is asked for runs there.
async fn deploy(server: &Server, endpoint: &str, calls: Value) {
    let spec =
        json!({ "name": "a", "command": [agent_binary()], "endpoint": endpoint, "calls": calls });
    server.deploy_spec(spec).await;
}

pub(crate) async fn counting() -> Server {
    let server = Server::start().await;
    deploy(&server, "/steps?n=2", json!({})).await;
    server
}

#[tokio::test]
async fn a_run_is_shown_as_it_comes_and_its_rest_to_who_comes_back() {
    let server = counting().await;
    let answer = asks(&server, input("t", "r"), None).await;
    assert_eq!(answer.headers()["content-type"], "text/event-stream");
    let (run, call) = (
        answer.headers()["skep-run-id"].clone(),
        answer.headers()["skep-call-id"].clone(),
    );
    let mut body = answer.into_body();
    // That it has begun is told before its agent says anything.
    let begun = until(&mut body, "RUN_STARTED").await;
    assert_eq!(kinds(&begun), ["RUN_STARTED"]);
    assert_eq!(
        (&begun[0].1["threadId"], &begun[0].1["runId"]),
        (&json!("t"), &json!("r"))
    );
    step(&server, 1);
    let first = until(&mut body, "step 1").await;
    assert_eq!(
        kinds(&first),
        ["TEXT_MESSAGE_START", "TEXT_MESSAGE_CONTENT"]
    );
    assert_eq!(written(&first), "step 1");
    let (seen, message) = (first[1].0.clone().expect("an id"), &first[1].1["messageId"]);
    drop(body);
    // The same request is the same run, and the same call.
    let again = asks(&server, input("t", "r"), Some(&seen)).await;
    assert_eq!(again.headers()["skep-run-id"], run);
    assert_eq!(again.headers()["skep-call-id"], call);
    let mut body = again.into_body();
    let snapshot = until(&mut body, "TEXT_MESSAGE_START").await;
    let [.., (_, messages), (_, state), (_, open)] = &snapshot[..] else {
        panic!("{snapshot:?}");
    };
    assert_eq!(messages["messages"][1]["content"], "step 1");
    assert_eq!(state["snapshot"], json!({}));
    assert_eq!(open["messageId"], *message);
    step(&server, 2);
    let last = rest(body).await;
    assert_eq!(written(&last), "step 2");
    assert_eq!(
        kinds(&last),
        ["TEXT_MESSAGE_CONTENT", "TEXT_MESSAGE_END", "RUN_FINISHED"]
    );
    // Who comes when all is over is shown all of it.
    let whole = rest(asks(&server, input("t", "r"), None).await.into_body()).await;
    assert_eq!(written(&whole), "step 1step 2");
    assert_eq!(kinds(&whole).last(), Some(&"RUN_FINISHED"));
    let calls = server.client.get("/api/v1/calls").await.json();
    assert_eq!(calls["items"].as_array().map(Vec::len), Some(1));
}

#[tokio::test]
async fn a_run_goes_on_through_a_kill_of_the_server() {
    let mut server = counting().await;
    let mut body = asks(&server, input("t", "r"), None).await.into_body();
    step(&server, 1);
    let first = until(&mut body, "step 1").await;
    let seen = first.last().and_then(|(id, _)| id.clone()).expect("an id");
    server.kill();
    server.restart().await;
    step(&server, 2);
    let after = rest(
        asks(&server, input("t", "r"), Some(&seen))
            .await
            .into_body(),
    )
    .await;
    // What the cut attempt said is not there any more: the next one says it again.
    let snapshot = after
        .iter()
        .find(|(_, it)| it["type"] == "MESSAGES_SNAPSHOT");
    let messages = &snapshot.expect("a snapshot").1["messages"];
    assert_eq!(messages.as_array().map(Vec::len), Some(1), "{messages}");
    assert_eq!(written(&after), "step 1step 2");
    assert_eq!(kinds(&after).first(), Some(&"RUN_STARTED"));
    assert_eq!(kinds(&after).last(), Some(&"RUN_FINISHED"));
}

#[tokio::test]
async fn a_run_that_comes_to_nothing_ends_with_an_error_that_says_why() {
    let server = Server::start().await;
    let twice = json!({ "attempts": 2, "backoff": "1ms" });
    deploy(&server, "/status?code=503", twice).await;
    let all = rest(asks(&server, input("t", "r"), None).await.into_body()).await;
    assert_eq!(kinds(&all), ["RUN_STARTED", "RUN_ERROR"]);
    assert_eq!(all[1].1["code"], "call-dead", "{all:?}");
    // An agent's own final no is its own.
    deploy(&server, "/status?code=404", json!({})).await;
    let all = rest(asks(&server, input("t", "s"), None).await.into_body()).await;
    assert_eq!(kinds(&all), ["RUN_STARTED", "RUN_ERROR"]);
    assert_eq!(all[1].1["code"], "agent_failed", "{all:?}");
    assert!(all[1].1["message"].to_string().contains("404"), "{all:?}");
}

#[tokio::test]
async fn what_cannot_be_read_is_refused_by_its_name() {
    let server = counting().await;
    let with = |name: &str, value: Value| {
        let mut body: Value = serde_json::from_str(&input("t", "r")).expect("JSON");
        body[name] = value;
        body.to_string()
    };
    for (body, said) in [
        ("{".to_owned(), "no JSON"),
        (with("threadId", json!(1)), "threadId"),
        (with("runId", json!("")), "`runId` has 1 to 200 bytes"),
        (with("runId", json!("a\nb")), "control character"),
        (with("messages", json!([{ "id": "q" }])), "messages[0]"),
    ] {
        let answer = server.client.post("/agents/a/agui", body).await;
        assert_eq!(answer.status, 400, "{said}");
        let problem = answer.json();
        let detail = problem["detail"].as_str().unwrap_or_default();
        assert!(detail.contains(said), "{detail}");
    }
    let mut request = server
        .client
        .request(Method::POST, "/agents/a/agui", input("t", "r"));
    let odd = HeaderValue::from_static("third");
    request.headers_mut().insert("last-event-id", odd);
    let answer = server.client.send(request).await.expect("an answer");
    assert_eq!(
        (answer.status, answer.code().as_str()),
        (400, "bad-request")
    );
    // The same run with another request is none.
    step(&server, 1);
    step(&server, 2);
    rest(asks(&server, input("t", "r"), None).await.into_body()).await;
    let other = with("messages", json!([]));
    let answer = server.client.post("/agents/a/agui", other).await;
    assert_eq!(answer.status, 422);
    let calls = server.client.get("/api/v1/calls").await.json();
    assert_eq!(calls["items"].as_array().map(Vec::len), Some(1));
}
