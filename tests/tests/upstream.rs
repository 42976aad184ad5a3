//! The provider of models that the other tests trust: what it says on the wire, and that it does what it is told.

#![expect(clippy::expect_used, reason = "a failed expectation is a failed test")]

use http::{HeaderValue, Method, Request};
use http_body_util::BodyExt;
use serde_json::{Value, json};
use skep_tests::client::Body;
use skep_tests::{Answer, Upstream, eventually, sdk};

fn chat(model: &str, text: &str) -> Value {
    json!({ "model": model, "messages": [{ "role": "user", "content": text }] })
}

fn streamed(mut body: Value) -> Value {
    body["stream"] = json!(true);
    body
}

/// The events of a stream: their names and data.
fn events(answer: &Answer) -> Vec<(String, Value)> {
    assert_eq!(answer.status, 200, "{}", answer.text());
    assert!(
        answer
            .header("content-type")
            .starts_with("text/event-stream")
    );
    let text = answer.text().replace("\r\n", "\n");
    let events = text.split("\n\n").filter(|it| !it.is_empty());
    events
        .map(|event| {
            let of = |name: &str| event.lines().find_map(|line| line.strip_prefix(name));
            let data = of("data: ").expect("data");
            let data = serde_json::from_str(data).unwrap_or_else(|_| json!(data));
            (of("event: ").unwrap_or_default().to_owned(), data)
        })
        .collect()
}

fn anthropic(upstream: &Upstream, path: &str, body: &Value) -> Request<Body> {
    let client = upstream.client();
    let mut request = client.request(Method::POST, path, body.to_string());
    let key = HeaderValue::try_from(&upstream.key).expect("a key");
    request.headers_mut().remove("authorization");
    request.headers_mut().insert("x-api-key", key);
    let version = HeaderValue::from_static("2023-06-01");
    request.headers_mut().insert("anthropic-version", version);
    request
}

async fn message(upstream: &Upstream, mut body: Value) -> Answer {
    body["max_tokens"] = json!(1000);
    let request = anthropic(upstream, "/v1/messages", &body);
    upstream.client().send(request).await.expect("an answer")
}

async fn google(upstream: &Upstream, path: &str, text: &str) -> Answer {
    let end = if path.contains('?') { '&' } else { '?' };
    let body = json!({ "contents": [{ "role": "user", "parts": [{ "text": text }] }] });
    let path = format!("/v1beta/models/{path}{end}key={}", upstream.key);
    upstream.client().post_json(&path, &body).await
}

#[tokio::test]
async fn openai_echoes_and_tells_what_it_used() {
    let upstream = Upstream::start().await;
    let client = upstream.client();
    let path = "/v1/chat/completions";
    let answer = client.post_json(path, &chat("gpt-4o", "one two")).await;
    assert_eq!(answer.status, 200);
    assert!(answer.header("x-request-id").starts_with("req_"));
    let said = answer.json();
    assert_eq!(said["choices"][0]["message"]["content"], "one two");
    assert_eq!(said["choices"][0]["finish_reason"], "stop");
    // Seven bytes are two tokens, two words are two.
    assert_eq!(said["usage"]["prompt_tokens"], 2);
    assert_eq!(said["usage"]["completion_tokens"], 2);
    assert_eq!(said["usage"]["total_tokens"], 4);

    let model = "gpt-4o+say=a%20b%2Bc+tokens=5+prompt=90+cached=40+think=3";
    let mut body = chat(model, "one");
    body["n"] = json!(2);
    let said = client.post_json(path, &body).await.json();
    assert_eq!(said["model"], "gpt-4o");
    assert_eq!(said["choices"][1]["message"]["content"], "a b+c a b+c a");
    assert_eq!(said["usage"]["prompt_tokens"], 90);
    assert_eq!(said["usage"]["prompt_tokens_details"]["cached_tokens"], 40);
    assert_eq!(said["usage"]["completion_tokens"], 13);
    assert_eq!(
        said["usage"]["completion_tokens_details"]["reasoning_tokens"],
        3
    );

    let mut body = chat("gpt-4o", "one two three");
    body["max_completion_tokens"] = json!(2);
    let said = client.post_json(path, &body).await.json();
    assert_eq!(said["choices"][0]["finish_reason"], "length");
    assert_eq!(said["usage"]["completion_tokens"], 2);

    let said = client.post_json(path, &chat("m+lie=7", "a")).await.json();
    assert_eq!(said["usage"]["completion_tokens"], 7);
    let said = client.post_json(path, &chat("m+nousage", "a")).await.json();
    assert_eq!(said["usage"], Value::Null);
}

#[tokio::test]
async fn openai_streams() {
    let upstream = Upstream::start().await;
    let client = upstream.client();
    let path = "/v1/chat/completions";
    let plain = streamed(chat("m+tokens=20+pace=1", "a b"));
    let said = events(&client.post_json(path, &plain).await);
    let text = said.iter().filter_map(|(_, data)| {
        let content = &data["choices"][0]["delta"]["content"];
        content.as_str().filter(|it| !it.is_empty())
    });
    assert_eq!(text.count(), 20);
    assert_eq!(said.last().expect("an end").1, "[DONE]");
    assert!(said.iter().all(|(_, data)| data["usage"].is_null()));

    let mut told = plain.clone();
    told["stream_options"] = json!({ "include_usage": true });
    let said = events(&client.post_json(path, &told).await);
    let (_, usage) = &said[said.len() - 2];
    assert_eq!(usage["choices"], json!([]));
    assert_eq!(usage["usage"]["completion_tokens"], 20);

    let said = events(
        &client
            .post_json(path, &streamed(chat("m+tool=w", "a")))
            .await,
    );
    let calls: Vec<&Value> = said
        .iter()
        .map(|(_, data)| &data["choices"][0]["delta"]["tool_calls"][0]["function"])
        .filter(|it| !it.is_null())
        .collect();
    assert_eq!(calls[0]["name"], "w");
    let arguments: String = calls
        .iter()
        .filter_map(|it| it["arguments"].as_str())
        .collect();
    assert_eq!(arguments, r#"{"city":"Paris"}"#);
    let finish = &said[said.len() - 2].1["choices"][0]["finish_reason"];
    assert_eq!(finish, "tool_calls");

    // With the tool's answer as the last word it speaks.
    let mut after = chat("m+tool=w", "a");
    let last = json!({ "role": "tool", "tool_call_id": "x", "content": "sunny" });
    let messages = after["messages"].as_array_mut().expect("messages");
    messages.push(last);
    let said = client.post_json(path, &after).await.json();
    assert_eq!(said["choices"][0]["message"]["content"], "sunny");
}

#[tokio::test]
async fn responses_come_in_their_order() {
    let upstream = Upstream::start().await;
    let body = json!({ "model": "m+think=1", "input": "one two", "stream": true });
    let answer = upstream.client().post_json("/v1/responses", &body).await;
    let said = events(&answer);
    let kinds: Vec<&str> = said.iter().map(|(kind, _)| kind.as_str()).collect();
    let expected = [
        "response.created",
        "response.in_progress",
        "response.output_item.added",
        "response.reasoning_summary_part.added",
        "response.reasoning_summary_text.delta",
        "response.reasoning_summary_text.done",
        "response.reasoning_summary_part.done",
        "response.output_item.done",
        "response.output_item.added",
        "response.content_part.added",
        "response.output_text.delta",
        "response.output_text.delta",
        "response.output_text.done",
        "response.content_part.done",
        "response.output_item.done",
        "response.completed",
    ];
    assert_eq!(kinds, expected);
    for (at, (kind, data)) in said.iter().enumerate() {
        assert_eq!(data["type"], *kind);
        assert_eq!(data["sequence_number"], at);
    }
    let done = &said.last().expect("an end").1["response"];
    assert_eq!(done["output"][1]["content"][0]["text"], "one two");
    assert_eq!(done["usage"]["output_tokens"], 3);
    let plain = json!({ "model": "m", "input": "one two", "max_output_tokens": 1 });
    let said = upstream.client().post_json("/v1/responses", &plain).await;
    assert_eq!(said.json()["status"], "incomplete");
}

#[tokio::test]
async fn embeddings_are_the_same_as_numbers_and_as_base64() {
    let upstream = Upstream::start().await;
    let client = upstream.client();
    let mut body = json!({ "model": "e", "input": ["a", "b", "a"], "dimensions": 4 });
    let plain = client.post_json("/v1/embeddings", &body).await.json();
    assert_eq!(plain["data"][0]["embedding"], plain["data"][2]["embedding"]);
    assert_ne!(plain["data"][0]["embedding"], plain["data"][1]["embedding"]);
    let numbers = plain["data"][0]["embedding"].as_array().expect("numbers");
    let length: f64 = numbers
        .iter()
        .filter_map(Value::as_f64)
        .map(|it| it * it)
        .sum();
    assert!((length - 1.0).abs() < 1e-5, "{length}");
    body["encoding_format"] = json!("base64");
    let packed = client.post_json("/v1/embeddings", &body).await.json();
    // Four numbers of four bytes.
    let text = packed["data"][0]["embedding"].as_str().expect("text");
    assert_eq!(text.len(), 24);
    assert_eq!(packed["usage"]["prompt_tokens"], 1);
}

#[tokio::test]
async fn anthropic_streams_blocks() {
    let upstream = Upstream::start().await;
    let body = streamed(chat("c+think=2+cached=5+written=3+prompt=20", "one two"));
    let said = events(&message(&upstream, body).await);
    let kinds: Vec<&str> = said.iter().map(|(kind, _)| kind.as_str()).collect();
    let expected = [
        "message_start",
        "content_block_start",
        "ping",
        "content_block_delta",
        "content_block_delta",
        "content_block_delta",
        "content_block_stop",
        "content_block_start",
        "content_block_delta",
        "content_block_delta",
        "content_block_stop",
        "message_delta",
        "message_stop",
    ];
    assert_eq!(kinds, expected);
    let usage = &said[0].1["message"]["usage"];
    assert_eq!(usage["input_tokens"], 12);
    assert_eq!(usage["cache_read_input_tokens"], 5);
    assert_eq!(usage["cache_creation_input_tokens"], 3);
    assert_eq!(said[5].1["delta"]["type"], "signature_delta");
    assert_eq!(said[11].1["usage"]["output_tokens"], 4);
    assert_eq!(said[11].1["delta"]["stop_reason"], "end_turn");

    let said = message(&upstream, chat("c+tool=w", "one")).await.json();
    assert_eq!(said["content"][0]["input"]["city"], "Paris");
    assert_eq!(said["stop_reason"], "tool_use");
    let body = chat("c", "one two");
    let request = anthropic(&upstream, "/v1/messages/count_tokens", &body);
    let said = upstream.client().send(request).await.expect("an answer");
    assert_eq!(said.json()["input_tokens"], 2);
}

#[tokio::test]
async fn google_streams_events_and_lists() {
    let upstream = Upstream::start().await;
    let answer = google(&upstream, "g:streamGenerateContent?alt=sse", "one two").await;
    assert!(answer.text().contains("\r\n\r\n"));
    let said = events(&answer);
    assert_eq!(said.len(), 2);
    let part = |at: usize| &said[at].1["candidates"][0];
    assert_eq!(part(0)["content"]["parts"][0]["text"], "one ");
    assert_eq!(part(0)["finishReason"], Value::Null);
    assert_eq!(part(1)["finishReason"], "STOP");
    assert_eq!(said[1].1["usageMetadata"]["candidatesTokenCount"], 2);
    let answer = google(&upstream, "g%2Btool=w:streamGenerateContent", "one").await;
    let list = answer.json();
    let part = &list[0]["candidates"][0]["content"]["parts"][0];
    assert_eq!(part["functionCall"]["name"], "w");
    assert_eq!(part["functionCall"]["args"]["city"], "Paris");
    let said = google(&upstream, "g+think=2:generateContent", "one two").await;
    let usage = &said.json()["usageMetadata"];
    assert_eq!(usage["thoughtsTokenCount"], 2);
    assert_eq!(usage["totalTokenCount"], 6);
    let said = google(&upstream, "g:countTokens", "one two").await.json();
    assert_eq!(said["totalTokens"], 2);
    let body = json!({ "contents": [{ "parts": [{ "text": "one" }] }] });
    let path = format!("/v1/models/g:generateContent?key={}", upstream.key);
    let said = upstream.client().post_json(&path, &body).await.json();
    assert_eq!(said["candidates"][0]["content"]["parts"][0]["text"], "one");
}

#[tokio::test]
async fn answers_are_json_where_that_is_asked_for() {
    let upstream = Upstream::start().await;
    let schema = json!({ "type": "object", "properties": {
        "name": { "type": "string" }, "kind": { "enum": ["b", "c"] },
        "tags": { "type": "array", "items": { "type": "integer" } },
    } });
    let expected = json!({ "name": "text", "kind": "b", "tags": [1] });
    let mut body = chat("m", "one");
    body["response_format"] = json!({ "type": "json_schema", "json_schema": { "schema": schema } });
    let said = upstream
        .client()
        .post_json("/v1/chat/completions", &body)
        .await;
    let said = said.json()["choices"][0]["message"]["content"].clone();
    let said: Value = serde_json::from_str(said.as_str().expect("text")).expect("JSON");
    assert_eq!(said, expected);
    body["response_format"] = json!({ "type": "json_object" });
    let said = upstream
        .client()
        .post_json("/v1/chat/completions", &body)
        .await;
    let said = said.json()["choices"][0]["message"]["content"].clone();
    assert_eq!(said, r#"{"answer":"one"}"#);
}

#[tokio::test]
async fn keys_are_looked_at_as_each_provider_does() {
    let mut upstream = Upstream::start().await;
    let right = upstream.key.clone();
    upstream.key = "wrong".to_owned();
    let path = "/v1/chat/completions";
    let answer = upstream.client().post_json(path, &chat("m", "a")).await;
    assert_eq!(answer.status, 401);
    assert_eq!(answer.json()["error"]["code"], "invalid_api_key");
    let answer = message(&upstream, chat("m", "a")).await;
    assert_eq!(answer.status, 401);
    assert_eq!(answer.json()["error"]["type"], "authentication_error");
    // Google calls a wrong key a wrong argument.
    let answer = google(&upstream, "g:generateContent", "a").await;
    assert_eq!(answer.status, 400);
    let details = &answer.json()["error"]["details"];
    assert_eq!(details[0]["reason"], "API_KEY_INVALID");
    upstream.key = right;
    let answer = message(&upstream, chat("m", "a")).await;
    assert_eq!(answer.status, 200);
}

#[tokio::test]
async fn it_fails_as_often_as_it_is_told_to() {
    let upstream = Upstream::start().await;
    let path = "/v1/chat/completions";
    let body = chat("m+fail=429x2+after=3", "a");
    for _ in 0..2 {
        let answer = upstream.client().post_json(path, &body).await;
        assert_eq!(answer.status, 429);
        assert_eq!(answer.header("retry-after"), "3");
        assert_eq!(answer.json()["error"]["code"], "rate_limit_exceeded");
    }
    assert_eq!(upstream.client().post_json(path, &body).await.status, 200);
    let answer = message(&upstream, chat("m+fail=529", "a")).await;
    assert_eq!(answer.status, 529);
    assert_eq!(answer.json()["error"]["type"], "overloaded_error");
    let answer = google(&upstream, "g+fail=429+after=3:generateContent", "a").await;
    assert_eq!(answer.json()["error"]["status"], "RESOURCE_EXHAUSTED");
    let delay = &answer.json()["error"]["details"][0]["retryDelay"];
    assert_eq!(delay, "3s");
    // A word that it does not know is a mistake of the test.
    let answer = upstream
        .client()
        .post_json(path, &chat("m+fial=429", "a"))
        .await;
    assert_eq!(answer.status, 400);
}

#[tokio::test]
async fn it_cuts_what_it_says() {
    let upstream = Upstream::start().await;
    let client = upstream.client();
    let path = "/v1/chat/completions";
    let body = streamed(chat("m+cut=2", "one two three")).to_string();
    let response = client.open(client.request(Method::POST, path, body)).await;
    let mut body = response.expect("an answer").into_body();
    let mut text = String::new();
    // The body does not end, it breaks off.
    while let Ok(frame) = body.frame().await.expect("more, or an error") {
        let data = frame.into_data().expect("data");
        text.push_str(&String::from_utf8_lossy(&data));
    }
    assert!(text.contains("one ") && text.contains("two ") && !text.contains("three"));
    for model in ["m+cut=0", "m+cutbody"] {
        let request = client.request(Method::POST, path, chat(model, "a").to_string());
        assert!(client.send(request).await.is_err(), "{model}");
    }
    let broken = message(&upstream, streamed(chat("m+error=1", "one two"))).await;
    let said = events(&broken);
    assert_eq!(said.last().expect("an end").0, "error");
    // What it cuts itself was not cut by its client.
    assert_eq!(upstream.counts().await.cut, 0);
    let huge = client.post_json(path, &chat("m+huge=300000", "a")).await;
    let said = huge.json();
    let said = said["choices"][0]["message"]["content"].as_str();
    assert_eq!(said.map(str::len), Some(300_000));
}

#[tokio::test]
async fn it_knows_what_came_and_who_left() {
    let upstream = Upstream::start().await;
    let client = upstream.client();
    let path = "/v1/chat/completions";
    client.post_json(path, &chat("plain", "a")).await;
    assert!(upstream.seen("plain").await.is_empty());
    let model = "m+say=100%25 sure";
    client.post_json(path, &chat(model, "a")).await;
    let seen = upstream.seen(model).await;
    assert_eq!(seen.len(), 1);
    assert_eq!(seen[0]["path"], path);
    assert_eq!(seen[0]["ended"], "whole");
    assert_eq!(seen[0]["body"]["messages"][0]["content"], "a");
    let key = format!("Bearer {}", upstream.key);
    assert_eq!(seen[0]["headers"]["authorization"], key);

    let body = streamed(chat("m+stall", "a")).to_string();
    let response = client.open(client.request(Method::POST, path, body)).await;
    let response = response.expect("an answer");
    assert_eq!(upstream.counts().await.open, 1);
    assert_eq!(upstream.seen("m+stall").await[0]["ended"], "open");
    drop(response);
    eventually("the end of a stream", async || {
        (upstream.counts().await.cut == 1).then_some(())
    })
    .await;
    let counts = upstream.counts().await;
    assert_eq!((counts.requests, counts.open, counts.most), (3, 0, 1));
    assert_eq!(upstream.seen("m+stall").await[0]["ended"], "cut");
}

#[tokio::test]
async fn each_provider_lists_its_models() {
    let upstream = Upstream::start().await;
    let client = upstream.client();
    let openai = client.get("/v1/models").await.json();
    assert_eq!(openai["object"], "list");
    assert_eq!(client.get("/v1/models/x").await.json()["id"], "x");
    let missing = client.get("/v1/models/x+fail=404").await;
    assert_eq!(missing.json()["error"]["code"], "model_not_found");
    let mut request = anthropic(&upstream, "/v1/models", &Value::Null);
    *request.method_mut() = Method::GET;
    *request.body_mut() = http_body_util::Full::default().boxed_unsync();
    let list = client.send(request).await.expect("an answer").json();
    assert_eq!(list["data"][0]["type"], "model");
    let google = client
        .get(&format!("/v1beta/models?key={}", upstream.key))
        .await;
    assert_eq!(
        google.json()["models"][0]["name"],
        "models/gemini-2.5-flash"
    );
}

/// Runs a script on an SDK, as it is told to by its environment alone.
async fn run(language: &str, file: &str) {
    let upstream = Upstream::start().await;
    let mut command = sdk(language, file);
    command
        .env("OPENAI_BASE_URL", format!("{}/v1", upstream.url))
        .env("OPENAI_API_KEY", &upstream.key)
        .env("ANTHROPIC_BASE_URL", &upstream.url)
        .env("ANTHROPIC_API_KEY", &upstream.key)
        .env("GOOGLE_GEMINI_BASE_URL", &upstream.url)
        .env("GEMINI_API_KEY", &upstream.key);
    let output = command.output().await.expect("it runs");
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{error}");
    let told: Value = serde_json::from_slice(&output.stdout).expect("a line of JSON");
    let checked = told["checked"].as_array().map_or(0, Vec::len);
    assert!(checked > 10, "{told}");
}

#[tokio::test]
async fn the_sdk_of_openai_for_python_is_content() {
    run("python", "openai_sdk.py").await;
}

#[tokio::test]
async fn the_sdk_of_anthropic_for_python_is_content() {
    run("python", "anthropic_sdk.py").await;
}

#[tokio::test]
async fn the_sdk_of_google_for_python_is_content() {
    run("python", "google_sdk.py").await;
}

#[tokio::test]
async fn the_sdk_of_openai_for_node_is_content() {
    run("node", "openai.mjs").await;
}

#[tokio::test]
async fn the_sdk_of_anthropic_for_node_is_content() {
    run("node", "anthropic.mjs").await;
}

#[tokio::test]
async fn the_sdk_of_google_for_node_is_content() {
    run("node", "google.mjs").await;
}
