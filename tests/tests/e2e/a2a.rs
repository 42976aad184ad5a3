//! Agents as A2A has them: cards, tasks of one run and of several, streams, over JSON-RPC and HTTP+JSON, in both versions.

use http::{HeaderName, HeaderValue, Method};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use serde_json::{Value, json};
use skep_tests::{Answer, Client, Server, agent_binary};

use crate::agui::{counting, step, until};

const CARD: &str = "/a2a/a/.well-known/agent-card.json";

pub(crate) fn request(
    client: &Client,
    method: Method,
    path: &str,
    version: Option<&str>,
    body: String,
) -> http::Request<skep_tests::client::Body> {
    let mut request = client.request(method, path, body);
    if let Some(version) = version {
        let name = HeaderName::from_static("a2a-version");
        let value = HeaderValue::from_str(version).expect("a version");
        request.headers_mut().insert(name, value);
    }
    request
}

pub(crate) fn call(method: &str, params: &Value) -> String {
    json!({ "jsonrpc": "2.0", "id": 7, "method": method, "params": params }).to_string()
}

/// Asks over JSON-RPC 1.0 and gives what was answered, with its envelope.
pub(crate) async fn rpc(client: &Client, method: &str, params: Value) -> Value {
    let request = request(
        client,
        Method::POST,
        "/a2a/a",
        Some("1.0"),
        call(method, &params),
    );
    let answer = client.send(request).await.expect("an answer");
    assert_eq!(answer.status, 200, "{}", answer.text());
    let answer = answer.json();
    assert_eq!(answer["id"], 7);
    answer
}

pub(crate) async fn done(client: &Client, method: &str, params: Value) -> Value {
    let answer = rpc(client, method, params).await;
    assert!(answer["error"].is_null(), "{method}: {answer}");
    answer["result"].clone()
}

pub(crate) async fn refused(client: &Client, method: &str, params: Value) -> (i64, String) {
    let answer = rpc(client, method, params).await;
    let error = &answer["error"];
    let code = error["code"].as_i64().unwrap_or_else(|| panic!("{answer}"));
    (code, error["message"].to_string())
}

pub(crate) fn message(id: &str, text: &str) -> Value {
    json!({ "message": { "messageId": id, "role": "ROLE_USER", "parts": [{ "text": text }] } })
}

pub(crate) async fn rest(client: &Client, method: Method, path: &str, body: &Value) -> Answer {
    let body = match body {
        Value::Null => String::new(),
        body => body.to_string(),
    };
    let mut request = request(client, method, path, Some("1.0"), body);
    let kind = HeaderValue::from_static("application/a2a+json");
    request.headers_mut().insert("content-type", kind);
    client.send(request).await.expect("an answer")
}

/// Begins a stream over JSON-RPC 1.0.
async fn streams(client: &Client, method: &str, params: &Value) -> Incoming {
    let request = request(
        client,
        Method::POST,
        "/a2a/a",
        Some("1.0"),
        call(method, params),
    );
    let answer = client.open(request).await.expect("an answer");
    assert_eq!(answer.headers()["content-type"], "text/event-stream");
    answer.into_body()
}

/// What a stream told, without envelopes.
fn told(text: &str) -> Vec<Value> {
    let data = text.lines().filter_map(|line| line.strip_prefix("data: "));
    let event = |data: &str| serde_json::from_str::<Value>(data).expect("JSON")["result"].clone();
    data.map(event).collect()
}

async fn all(body: Incoming) -> Vec<Value> {
    let bytes = body.collect().await.expect("the end").to_bytes();
    told(&String::from_utf8_lossy(&bytes))
}

/// What was said in a task: the texts of its artifacts.
pub(crate) fn said(task: &Value) -> String {
    let artifacts = task["artifacts"].as_array().cloned().unwrap_or_default();
    let parts = artifacts
        .iter()
        .flat_map(|it| it["parts"].as_array().cloned().unwrap_or_default());
    let texts: Vec<String> = parts
        .filter_map(|it| it["text"].as_str().map(str::to_owned))
        .collect();
    texts.concat()
}

/// What who follows a task has of it in the end.
fn applied(events: &[Value]) -> String {
    let mut text = events[0]["task"]
        .as_object()
        .map(|_| said(&events[0]["task"]))
        .unwrap_or_default();
    for event in &events[1..] {
        let update = &event["artifactUpdate"];
        if let Some(piece) = update["artifact"]["parts"][0]["text"].as_str() {
            if update["append"] != true {
                text.clear();
            }
            text.push_str(piece);
        }
    }
    text
}

#[tokio::test]
async fn a_message_is_a_task_that_everybody_sees_alike() {
    let server = counting().await;
    let client = &server.client;
    let mut first = streams(client, "SendStreamingMessage", &message("m1", "Count.")).await;
    let begun = frames(&mut first, "\"task\"").await;
    let task = &begun[0]["task"];
    assert_eq!(task["status"]["state"], "TASK_STATE_SUBMITTED");
    assert_eq!(task["history"][0]["parts"][0]["text"], "Count.");
    let id = task["id"].as_str().expect("an id").to_owned();
    step(&server, 1);
    let mut early = begun.clone();
    early.extend(frames(&mut first, "step 1").await);
    let now = done(client, "GetTask", json!({ "id": id })).await;
    assert_eq!(
        (said(&now).as_str(), &now["status"]["state"]),
        ("step 1", &json!("TASK_STATE_WORKING"))
    );
    // Who comes later is told what it is now, and then the same as the first.
    let mut second = streams(client, "SubscribeToTask", &json!({ "id": id })).await;
    let late = frames(&mut second, "\"task\"").await;
    assert_eq!(said(&late[0]["task"]), "step 1");
    step(&server, 2);
    let (rest_first, rest_second) = (all(first).await, all(second).await);
    // But for the time at which each was told.
    let timeless = |all: &[Value]| {
        let mut all = all.to_vec();
        for event in &mut all {
            if let Some(status) = event["statusUpdate"]["status"].as_object_mut() {
                assert!(status.remove("timestamp").is_some());
            }
        }
        all
    };
    assert_eq!(timeless(&rest_first), timeless(&rest_second));
    let last = rest_first.last().expect("an end");
    assert_eq!(
        last["statusUpdate"]["status"]["state"],
        "TASK_STATE_COMPLETED"
    );
    let whole = [early, rest_first].concat();
    assert_eq!(applied(&whole), "step 1step 2");
    let late = [late, rest_second].concat();
    assert_eq!(applied(&late), "step 1step 2");
    let after = done(client, "GetTask", json!({ "id": id, "historyLength": 0 })).await;
    assert_eq!(
        (said(&after).as_str(), &after["history"]),
        ("step 1step 2", &Value::Null)
    );
    // The same message again is the same task; another one under its id is none.
    let again = done(client, "SendMessage", message("m1", "Count.")).await;
    assert_eq!(again["task"]["id"], json!(id));
    let (code, why) = refused(client, "SendMessage", message("m1", "Other.")).await;
    assert_eq!(code, -32602, "{why}");
    let runs = client.get("/api/v1/runs").await.json();
    assert_eq!(runs["items"].as_array().map(Vec::len), Some(1));
    assert_eq!(runs["items"][0]["id"], json!(id));
    // What has ended is neither followed nor cancelled nor gone on with.
    let (code, _) = refused(client, "SubscribeToTask", json!({ "id": id })).await;
    assert_eq!(code, -32004);
    let (code, _) = refused(client, "CancelTask", json!({ "id": id })).await;
    assert_eq!(code, -32002);
    let mut more = message("m2", "More.");
    more["message"]["taskId"] = json!(id);
    let (code, _) = refused(client, "SendMessage", more).await;
    assert_eq!(code, -32004);
}

/// Reads events until one has this text.
async fn frames(body: &mut Incoming, wanted: &str) -> Vec<Value> {
    let events = until(body, wanted).await;
    events
        .into_iter()
        .map(|(_, event)| event["result"].clone())
        .collect()
}

/// An agent that asks before it goes on, in AG-UI: a script of Python that the tests have anyway.
const ASKING: &str = r#"
import json, os, http.server
class Agent(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    def do_GET(self):
        self.answer("text/plain", b"ok")
    def do_POST(self):
        asked = json.loads(self.rfile.read(int(self.headers["content-length"])))
        ids = {"threadId": asked["threadId"], "runId": asked["runId"]}
        out = [{"type": "RUN_STARTED", **ids}]
        if asked.get("resume"):
            text = "paid " + json.dumps(asked["resume"][0].get("payload"))
            out += [{"type": "TEXT_MESSAGE_CHUNK", "messageId": "p" + asked["runId"], "delta": text}]
            out += [{"type": "RUN_FINISHED", **ids}]
        else:
            asks = {"id": "pay", "reason": "approval", "message": "Pay 5?"}
            out += [{"type": "RUN_FINISHED", **ids, "outcome": {"type": "interrupt", "interrupts": [asks]}}]
        self.answer("text/event-stream", b"".join(b"data: " + json.dumps(it).encode() + b"\n\n" for it in out))
    def answer(self, kind, body):
        self.send_response(200)
        self.send_header("content-type", kind)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
    def log_message(self, *_):
        pass
http.server.ThreadingHTTPServer(("127.0.0.1", int(os.environ["PORT"])), Agent).serve_forever()
"#;

async fn asking() -> Server {
    let server = Server::start().await;
    let spec = json!({ "name": "a", "command": ["python3", "-c", ASKING], "protocol": "agui", "health": { "path": "/ping" } });
    server.deploy_spec(spec).await;
    server
}

#[tokio::test]
async fn a_task_that_asks_goes_on_with_the_answer_and_only_once() {
    let server = asking().await;
    let client = &server.client;
    let asked = done(client, "SendMessage", message("m1", "Order.")).await;
    let task = &asked["task"];
    assert_eq!(task["status"]["state"], "TASK_STATE_INPUT_REQUIRED");
    assert!(
        task["status"]["message"].to_string().contains("Pay 5?"),
        "{task}"
    );
    let answer = |id: &str, text: &str| {
        let mut answer = message(id, text);
        answer["message"]["taskId"] = task["id"].clone();
        answer["message"]["contextId"] = task["contextId"].clone();
        answer
    };
    let mut elsewhere = answer("m2", "yes");
    elsewhere["message"]["contextId"] = json!("another");
    let (code, _) = refused(client, "SendMessage", elsewhere).await;
    assert_eq!(code, -32602);
    let paid = done(client, "SendMessage", answer("m3", "yes")).await;
    assert_eq!(paid["task"]["id"], task["id"]);
    assert_eq!(paid["task"]["status"]["state"], "TASK_STATE_COMPLETED");
    assert_eq!(said(&paid["task"]), "paid \"yes\"");
    let history = paid["task"]["history"].to_string();
    for text in ["Order.", "Pay 5?", "yes"] {
        assert!(history.contains(text), "{history}");
    }
    // Sent twice it is done once; and nobody answers it anew.
    let again = done(client, "SendMessage", answer("m3", "yes")).await;
    assert_eq!(again["task"]["status"]["state"], "TASK_STATE_COMPLETED");
    let (code, _) = refused(client, "SendMessage", answer("m4", "no")).await;
    assert_eq!(code, -32004);
    let runs = client.get("/api/v1/runs").await.json();
    assert_eq!(runs["items"].as_array().map(Vec::len), Some(2));
    // One that waits can be given up.
    let other = done(client, "SendMessage", message("m5", "Order.")).await;
    let id = &other["task"]["id"];
    let gone = done(client, "CancelTask", json!({ "id": id })).await;
    assert_eq!(gone["status"]["state"], "TASK_STATE_CANCELED");
    let listed = done(client, "ListTasks", json!({})).await;
    let states: Vec<&Value> = listed["tasks"]
        .as_array()
        .expect("tasks")
        .iter()
        .map(|it| &it["status"]["state"])
        .collect();
    assert_eq!(states, ["TASK_STATE_CANCELED", "TASK_STATE_COMPLETED"]);
    assert_eq!(listed["totalSize"], 2);
    let page = done(client, "ListTasks", json!({ "pageSize": 1 })).await;
    let token = page["nextPageToken"].as_str().expect("a token");
    let rest = done(
        client,
        "ListTasks",
        json!({ "pageSize": 1, "pageToken": token }),
    )
    .await;
    assert_eq!(rest["tasks"][0]["id"], task["id"]);
    assert_eq!(rest["nextPageToken"], "");
}

#[tokio::test]
async fn tasks_go_on_through_a_kill_of_the_server() {
    let mut server = counting().await;
    let mut body = streams(
        &server.client,
        "SendStreamingMessage",
        &message("m1", "Count."),
    )
    .await;
    let begun = frames(&mut body, "\"task\"").await;
    let id = begun[0]["task"]["id"].clone();
    step(&server, 1);
    frames(&mut body, "step 1").await;
    server.kill();
    server.restart().await;
    step(&server, 2);
    let asked = done(&server.client, "SendMessage", message("m1", "Count.")).await;
    assert_eq!(asked["task"]["id"], id);
    assert_eq!(asked["task"]["status"]["state"], "TASK_STATE_COMPLETED");
    assert_eq!(said(&asked["task"]), "step 1step 2");
}

#[tokio::test]
async fn the_same_is_asked_over_http() {
    let server = counting().await;
    let client = &server.client;
    step(&server, 1);
    step(&server, 2);
    let sent = rest(
        client,
        Method::POST,
        "/a2a/a/message:send",
        &message("m1", "Count."),
    )
    .await;
    assert_eq!(sent.status, 200, "{}", sent.text());
    assert_eq!(sent.header("content-type"), "application/a2a+json");
    let task = &sent.json()["task"];
    assert_eq!(said(task), "step 1step 2");
    let id = task["id"].as_str().expect("an id");
    for path in [
        format!("/a2a/a/tasks/{id}"),
        format!("/a2a/a/default/tasks/{id}"),
    ] {
        let got = rest(client, Method::GET, &path, &Value::Null).await;
        assert_eq!((got.status, &got.json()["id"]), (200, &json!(id)), "{path}");
    }
    for (method, path, status, reason) in [
        (
            Method::GET,
            "/a2a/a/tasks/run_01h455vb4pex5vsknk084sn02q".to_owned(),
            404,
            "TASK_NOT_FOUND",
        ),
        (
            Method::GET,
            "/a2a/a/tasks/odd".to_owned(),
            404,
            "TASK_NOT_FOUND",
        ),
        (
            Method::POST,
            format!("/a2a/a/tasks/{id}:cancel"),
            400,
            "TASK_NOT_CANCELABLE",
        ),
        (
            Method::GET,
            format!("/a2a/a/tasks/{id}:subscribe"),
            400,
            "UNSUPPORTED_OPERATION",
        ),
        (
            Method::GET,
            format!("/a2a/a/other/tasks/{id}"),
            400,
            "INVALID_PARAMS",
        ),
    ] {
        let refused = rest(client, method, &path, &Value::Null).await;
        assert_eq!(refused.status, status, "{path}: {}", refused.text());
        assert!(
            refused.text().contains(reason),
            "{path}: {}",
            refused.text()
        );
    }
}

#[tokio::test]
async fn who_says_no_version_speaks_the_older_one() {
    let server = counting().await;
    let client = &server.client;
    step(&server, 1);
    step(&server, 2);
    let older = json!({ "message": { "kind": "message", "messageId": "m2", "role": "user",
        "parts": [{ "kind": "text", "text": "Count." }] } });
    let sent = request(
        client,
        Method::POST,
        "/a2a/a/",
        None,
        call("message/send", &older),
    );
    let sent = client.send(sent).await.expect("an answer").json();
    let task = &sent["result"];
    assert_eq!(
        (&task["kind"], &task["status"]["state"]),
        (&json!("task"), &json!("completed"))
    );
    assert_eq!(task["artifacts"][0]["parts"][0]["kind"], "text");
    let odd = request(
        client,
        Method::POST,
        "/a2a/a",
        Some("2.0"),
        call("GetTask", &json!({ "id": "x" })),
    );
    let odd = client.send(odd).await.expect("an answer").json();
    assert_eq!(odd["error"]["code"], -32009);
}

#[tokio::test]
async fn a_task_is_its_owners_alone() {
    let server = counting().await;
    let client = &server.client;
    step(&server, 1);
    step(&server, 2);
    let mine = done(client, "SendMessage", message("m1", "Count.")).await;
    let id = &mine["task"]["id"];
    let wish = json!({ "name": "other", "role": "member" });
    let made = client.post_json("/api/v1/keys", &wish).await.json();
    let other = Client::new(&client.url, made["secret"].as_str().expect("a key"));
    for method in ["GetTask", "SubscribeToTask", "CancelTask"] {
        let (code, _) = refused(&other, method, json!({ "id": id })).await;
        assert_eq!(code, -32001, "{method}");
    }
    let none = done(&other, "ListTasks", json!({})).await;
    assert_eq!(
        (&none["tasks"], &none["totalSize"]),
        (&json!([]), &json!(0))
    );
    // The same id of a message, by another, is another task; so is the same context.
    let mut theirs = message("m1", "Count.");
    theirs["message"]["contextId"] = mine["task"]["contextId"].clone();
    let theirs = done(&other, "SendMessage", theirs).await;
    assert_ne!(theirs["task"]["id"], *id);
    assert_eq!(theirs["task"]["history"].as_array().map(Vec::len), Some(1));
    let runs = client.get("/api/v1/threads").await.json();
    assert_eq!(runs["items"].as_array().map(Vec::len), Some(2));
}

#[tokio::test]
async fn a_card_says_what_the_manifest_says_to_who_may_know() {
    let server = Server::start().await;
    let client = &server.client;
    let skill = json!({ "id": "count", "description": "Counts steps.", "tags": ["numbers"] });
    let spec = |public: bool| {
        json!({ "name": "a", "command": [agent_binary()],
            "card": { "description": "Counts.", "skills": [skill], "public": public } })
    };
    server.deploy_spec(spec(false)).await;
    let card = client.get(CARD).await;
    assert_eq!(card.status, 200, "{}", card.text());
    let tag = card.header("etag").to_owned();
    let card = card.json();
    assert_eq!(
        (&card["name"], &card["description"]),
        (&json!("a"), &json!("Counts."))
    );
    assert_eq!(card["skills"][0]["tags"], json!(["numbers"]));
    let bindings: Vec<&Value> = card["supportedInterfaces"]
        .as_array()
        .expect("some")
        .iter()
        .map(|it| &it["protocolBinding"])
        .collect();
    assert!(
        bindings.contains(&&json!("JSONRPC")) && bindings.contains(&&json!("HTTP+JSON")),
        "{card}"
    );
    assert_eq!(card["url"], json!(format!("{}/a2a/a", client.url)));
    let mut known = client.request(Method::GET, CARD, "");
    let tag = HeaderValue::from_str(&tag).expect("a tag");
    known.headers_mut().insert("if-none-match", tag);
    assert_eq!(client.send(known).await.expect("an answer").status, 304);
    // The only agent stands for the workspace.
    let front = client.get("/.well-known/agent-card.json").await;
    assert_eq!(front.json()["name"], "a");
    let extended = done(client, "GetExtendedAgentCard", json!({})).await;
    assert_eq!(extended["name"], "a");
    // Nobody is told without a key, unless the manifest says so.
    let nobody = async |method: Method, path: &str| {
        let mut request = request(
            client,
            method,
            path,
            Some("1.0"),
            call("ListTasks", &json!({})),
        );
        request.headers_mut().remove("authorization");
        client.send(request).await.expect("an answer")
    };
    let front = "/.well-known/agent-card.json";
    let missing = "/a2a/b/.well-known/agent-card.json";
    for path in [CARD, front, missing] {
        assert_eq!(nobody(Method::GET, path).await.status, 401, "{path}");
    }
    server.deploy_spec(spec(true)).await;
    for path in [CARD, front] {
        let card = nobody(Method::GET, path).await;
        assert_eq!(
            (card.status, &card.json()["name"]),
            (200, &json!("a")),
            "{path}"
        );
    }
    assert_eq!(nobody(Method::GET, missing).await.status, 401);
    assert_eq!(nobody(Method::POST, "/a2a/a").await.status, 401);
}
