//! Agents as models of OpenAI's: chat completions and responses, as they come, through a kill of the server, and as its SDKs see
//! them.

use std::path::Path;

use http::{HeaderValue, Method};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use serde_json::{Value, json};
use skep_tests::upstream::sdk;
use skep_tests::{Answer, Server, agent_binary};

use crate::agui::{counting, step};

const CHAT: &str = "/v1/chat/completions";
const RESPONSES: &str = "/v1/responses";

fn chat(stream: bool) -> Value {
    json!({ "model": "agent/a", "stream": stream, "messages": [{ "role": "user", "content": "Count." }] })
}

fn response(more: &Value) -> Value {
    let mut body = json!({ "model": "agent/a", "input": "Count." });
    for (name, value) in more.as_object().into_iter().flatten() {
        body[name.as_str()] = value.clone();
    }
    body
}

async fn asks(server: &Server, path: &str, body: &Value) -> Answer {
    server.client.post_json(path, body).await
}

/// What the SDK of a language does with agents as models.
async fn works_with(language: &str, file: &str) {
    let server = Server::start().await;
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples/agents/conformance");
    let folder = folder.canonicalize().expect("the example");
    let spec = json!({
        "name": "conformance", "command": ["python3", folder.join("agent.py")], "protocol": "agui", "health": { "path": "/ping" },
        "env": { "PYTHONUNBUFFERED": "1" }, "volumes": [{ "source": folder, "read_only": true }],
    });
    server.deploy_spec(spec).await;
    let url = &server.client.url;
    let mut command = sdk(language, file);
    command
        .env("OPENAI_BASE_URL", format!("{url}/v1"))
        .env("OPENAI_API_KEY", &server.client.key)
        .env("AGENT_URL", format!("{url}/agents/conformance"));
    let output = command.output().await.expect("it runs");
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{error}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_sdk_for_python_takes_agents_for_models() {
    works_with("python", "openai_front.py").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_sdk_for_node_takes_agents_for_models() {
    works_with("node", "openai_front.mjs").await;
}

/// Opens a stream.
async fn opens(server: &Server, method: Method, path: &str, body: String) -> Incoming {
    let request = server.client.request(method, path, body);
    let answer = server.client.open(request).await.expect("an answer");
    assert_eq!(answer.status(), 200);
    assert_eq!(answer.headers()["content-type"], "text/event-stream");
    answer.into_body()
}

/// What the data of a stream say.
fn read(text: &str) -> Vec<Value> {
    let data = text.lines().filter_map(|it| it.strip_prefix("data: "));
    let data = data.filter(|it| *it != "[DONE]");
    data.map(|it| serde_json::from_str(it).expect("JSON"))
        .collect()
}

/// Reads on until something has this text.
async fn until(body: &mut Incoming, wanted: &str) -> Vec<Value> {
    let mut text = String::new();
    while !text.contains(wanted) || !text.ends_with("\n\n") {
        let frame = body.frame().await.expect("more").expect("a frame");
        if let Some(data) = frame.data_ref() {
            text.push_str(&String::from_utf8_lossy(data));
        }
    }
    read(&text)
}

async fn rest(body: Incoming) -> Vec<Value> {
    let rest = body.collect().await.expect("the end").to_bytes();
    read(&String::from_utf8_lossy(&rest))
}

fn content(chunks: &[Value]) -> String {
    let deltas = chunks.iter();
    deltas
        .filter_map(|it| it["choices"][0]["delta"]["content"].as_str())
        .collect()
}

fn deltas(events: &[Value]) -> String {
    let deltas = events.iter().filter_map(|it| it["delta"].as_str());
    deltas.collect()
}

/// The text of a response.
fn said(response: &Value) -> &str {
    let text = &response["output"][0]["content"][0]["text"];
    text.as_str().unwrap_or_else(|| panic!("{response:#}"))
}

#[tokio::test]
async fn an_agent_is_a_model_that_completes_chats() {
    let server = counting().await;
    let models = server.client.get("/v1/models").await.json();
    assert_eq!(models["data"][0]["id"], "agent/a", "{models}");
    let one = server.client.get("/v1/models/agent/a").await;
    assert_eq!(one.json()["object"], "model");
    assert_eq!(server.client.get("/v1/models/agent/b").await.status, 404);
    // As it comes.
    let mut body = opens(&server, Method::POST, CHAT, chat(true).to_string()).await;
    let begun = until(&mut body, "assistant").await;
    step(&server, 1);
    let first = until(&mut body, "step 1").await;
    assert_eq!(content(&first), "step 1");
    step(&server, 2);
    let last = rest(body).await;
    assert_eq!(content(&last), "step 2");
    let end = last.last().expect("an end");
    assert_eq!(end["choices"][0]["finish_reason"], "stop");
    assert_eq!(end["id"], begun[0]["id"]);
    // At once, and it is the run of that id.
    let answer = asks(&server, CHAT, &chat(false)).await;
    let whole = answer.json();
    assert_eq!(
        whole["choices"][0]["message"]["content"], "step 1step 2",
        "{whole}"
    );
    let id = answer.header("skep-run-id").to_owned();
    assert_eq!(whole["id"], json!(id));
    let run = server.client.get(&format!("/api/v1/runs/{id}")).await;
    assert_eq!(run.json()["status"], "finished");
}

#[tokio::test]
async fn a_response_is_followed_from_any_event_and_gone_on_with() {
    let server = counting().await;
    step(&server, 1);
    let body = response(&json!({ "stream": true, "metadata": { "order": "7" } })).to_string();
    let mut live = opens(&server, Method::POST, RESPONSES, body).await;
    let first = until(&mut live, "step 1").await;
    let id = first[0]["response"]["id"].as_str().expect("an id");
    let (id, path) = (id.to_owned(), format!("{RESPONSES}/{id}"));
    // As it stands now.
    let now = server.client.get(&path).await.json();
    assert_eq!(
        (&now["status"], said(&now)),
        (&json!("in_progress"), "step 1")
    );
    step(&server, 2);
    let mut all = first;
    all.extend(rest(live).await);
    assert_eq!(deltas(&all), "step 1step 2");
    assert_eq!(all.last().expect("an end")["type"], "response.completed");
    for (at, event) in all.iter().enumerate() {
        let seen = &event["sequence_number"];
        let path = format!("{path}?stream=true&starting_after={seen}");
        let behind = rest(opens(&server, Method::GET, &path, String::new()).await).await;
        assert_eq!(behind, all[at + 1..], "behind {seen}");
    }
    let whole = server.client.get(&path).await.json();
    assert_eq!(whole["metadata"], json!({ "order": "7" }));
    // The next one has the conversation so far.
    let next = response(&json!({ "previous_response_id": id, "input": "Again." }));
    let next = asks(&server, RESPONSES, &next).await.json();
    assert_eq!(next["previous_response_id"], json!(id), "{next}");
    assert_eq!(next["conversation"], whole["conversation"]);
    let run = next["id"].as_str().expect("an id");
    let run = server
        .client
        .get(&format!("/api/v1/runs/{run}"))
        .await
        .json();
    let thread = run["thread"].as_str().expect("a thread");
    let path = format!("/api/v1/threads/{thread}");
    let thread = server.client.get(&path).await.json();
    let messages = thread["messages"].as_array().expect("messages");
    let texts: Vec<&str> = messages
        .iter()
        .filter_map(|it| it["content"].as_str())
        .collect();
    assert_eq!(texts, ["Count.", "step 1step 2", "Again.", "step 1step 2"]);
    // From the first the conversation goes another way.
    let other = response(&json!({ "previous_response_id": id, "input": "Otherwise." }));
    let other = asks(&server, RESPONSES, &other).await.json();
    assert_ne!(other["conversation"], whole["conversation"]);
}

#[tokio::test]
async fn a_response_in_the_background_outlives_the_server_and_is_cancelled() {
    let mut server = counting().await;
    let begun = asks(
        &server,
        RESPONSES,
        &response(&json!({ "background": true })),
    )
    .await;
    let begun = begun.json();
    assert_eq!(begun["status"], "in_progress", "{begun}");
    let path = format!("{RESPONSES}/{}", begun["id"].as_str().expect("an id"));
    let follow = format!("{path}?stream=true");
    let mut live = opens(&server, Method::GET, &follow, String::new()).await;
    step(&server, 1);
    let first = until(&mut live, "step 1").await;
    let seen = &first.last().expect("an event")["sequence_number"];
    let behind = format!("{follow}&starting_after={seen}");
    server.kill();
    server.restart().await;
    let live = opens(&server, Method::GET, &behind, String::new()).await;
    step(&server, 2);
    // It is another attempt: all of it is told anew.
    let all = rest(live).await;
    assert_eq!(all[0]["type"], "response.created", "{all:?}");
    assert_eq!(deltas(&all), "step 1step 2");
    // One that has ended stays as it is.
    let ended = server.client.post(&format!("{path}/cancel"), "").await;
    assert_eq!(ended.json()["status"], "completed");
    std::fs::remove_file(server.home("a").join("step-1")).expect("it goes");
    let other = asks(
        &server,
        RESPONSES,
        &response(&json!({ "background": true })),
    )
    .await;
    let path = format!(
        "{RESPONSES}/{}",
        other.json()["id"].as_str().expect("an id")
    );
    let live = opens(
        &server,
        Method::GET,
        &format!("{path}?stream=true"),
        String::new(),
    )
    .await;
    let gone = server.client.post(&format!("{path}/cancel"), "").await;
    assert_eq!(gone.json()["status"], "cancelled", "{}", gone.text());
    let told = rest(live).await;
    assert_eq!(told.last().expect("an end")["type"], "response.incomplete");
}

#[tokio::test]
async fn the_same_key_is_one_run() {
    let server = counting().await;
    step(&server, 1);
    step(&server, 2);
    let send = |body: Value| {
        let mut request = server.client.request(Method::POST, CHAT, body.to_string());
        let key = HeaderValue::from_static("order-7");
        request.headers_mut().insert("idempotency-key", key);
        server.client.send(request)
    };
    let first = send(chat(false)).await.expect("an answer");
    let again = send(chat(false)).await.expect("an answer");
    assert_eq!(first.json(), again.json());
    let mut other = chat(false);
    other["messages"][0]["content"] = json!("Stop.");
    let other = send(other).await.expect("an answer");
    assert_eq!(other.status, 422, "{}", other.text());
    let runs = server.client.get("/api/v1/runs").await.json();
    assert_eq!(runs["items"].as_array().map(Vec::len), Some(1));
}

#[tokio::test]
async fn what_goes_wrong_is_told_as_the_sdks_read_it() {
    let server = Server::start().await;
    let spec = json!({ "name": "a", "command": [agent_binary()], "endpoint": "/status?code=404" });
    server.deploy_spec(spec).await;
    let failed = asks(&server, CHAT, &chat(false)).await;
    assert_eq!(failed.status, 502);
    // It would be another run.
    assert_eq!(failed.header("x-should-retry"), "false");
    assert_eq!(failed.json()["error"]["code"], "agent_failed");
    let told = rest(opens(&server, Method::POST, CHAT, chat(true).to_string()).await).await;
    assert_eq!(
        told.last().expect("an end")["error"]["code"],
        "agent_failed"
    );
    let answer = asks(&server, RESPONSES, &response(&json!({}))).await;
    assert_eq!(
        (answer.status, &answer.json()["status"]),
        (200, &json!("failed"))
    );
    for (path, body, status, said) in [
        (
            CHAT,
            json!({ "model": "agent/b", "messages": [] }),
            404,
            "agent is called `b`",
        ),
        (
            CHAT,
            json!({ "model": "agent/a", "messages": [] }),
            400,
            "`messages`",
        ),
        (
            RESPONSES,
            json!({ "model": "agent/a", "input": 7 }),
            400,
            "`input`",
        ),
        (
            RESPONSES,
            response(&json!({ "previous_response_id": "run_x" })),
            404,
            "no response",
        ),
    ] {
        let answer = asks(&server, path, &body).await;
        assert_eq!(answer.status, status, "{}", answer.text());
        let message = answer.json()["error"]["message"].to_string();
        assert!(message.contains(said), "{message}");
    }
    // What is no agent goes where models are: nobody has one here.
    let mut model = chat(false);
    model["model"] = json!("gpt-4o");
    let answer = asks(&server, CHAT, &model).await;
    assert_eq!(
        answer.json()["code"],
        "model-not-found",
        "{}",
        answer.text()
    );
}
