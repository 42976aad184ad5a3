//! Prompts: versions, labels that move and go back, requests that ask for one through each door, what was used by way of
//! each version, and how it was found to be.

use http::Method;
use serde_json::{Value, json};
use skep_tests::{Answer, Client, agent_binary};

use crate::engine::{Engine, on_each_engine};
use crate::models::{CHAT, House, put};
use crate::policy::set;

/// It says what was said, and what it was asked is seen.
const MODEL: &str = "says+say=hello+prompt=10+tokens=3";

on_each_engine!(a_prompt_is_asked_for_as_a_model_is);

async fn add(client: &Client, name: &str, system: &str) -> Value {
    let version = json!({
        "model": format!("openai/{MODEL}"),
        "messages": [{ "role": "system", "content": system }],
    });
    let path = format!("/api/v1/prompts/{name}/versions");
    let made = client.post_json(&path, &version).await;
    assert_eq!(made.status, 201, "{}", made.text());
    made.json()
}

async fn send(client: &Client, method: Method, path: &str, body: &Value) -> Answer {
    let mut request = client.request(method, path, body.to_string());
    let kind = "application/json".parse().expect("a header");
    request.headers_mut().insert("content-type", kind);
    let version = "2023-06-01".parse().expect("a header");
    request.headers_mut().insert("anthropic-version", version);
    client.send(request).await.expect("an answer")
}

async fn label(client: &Client, path: &str, versions: Value) -> Answer {
    let body = json!({ "versions": versions });
    send(
        client,
        Method::PUT,
        &format!("/api/v1/prompts/{path}"),
        &body,
    )
    .await
}

fn asking(prompt: &str, variables: &Value) -> Value {
    json!({
        "model": format!("prompt:{prompt}"), "prompt_variables": variables, "max_tokens": 50,
        "messages": [{ "role": "user", "content": "hi" }],
    })
}

async fn ask(client: &Client, body: &Value, thread: Option<&str>) -> Answer {
    let mut request = client.request(Method::POST, CHAT, body.to_string());
    if let Some(thread) = thread {
        let thread = thread.parse().expect("a header");
        request.headers_mut().insert("skep-thread", thread);
    }
    client.send(request).await.expect("an answer")
}

/// Versions are made, labelled, asked for, moved and moved back; what each cost and how it was found to be is told.
async fn a_prompt_is_asked_for_as_a_model_is(engine: Engine) {
    let mut house = House::start_on(&engine).await;
    let client = &house.server.client;
    let first = add(client, "greet", "Greet {{ name }}.").await;
    assert_eq!(
        (&first["version"], &first["variables"]),
        (&json!(1), &json!(["name"]))
    );
    let second = add(client, "greet", "Greet {{ name|upper }}!").await;
    assert_eq!(second["version"], 2);
    // No label leads there yet.
    let body = asking("greet", &json!({ "name": "Ada" }));
    let none = ask(client, &body, None).await;
    assert_eq!(none.status, 404, "{}", none.text());
    assert!(
        none.text().contains("no label `production`"),
        "{}",
        none.text()
    );
    let to = label(client, "greet/labels/production", json!([{ "version": 1 }])).await;
    assert_eq!(to.status, 200, "{}", to.text());
    let said = ask(client, &body, None).await;
    assert_eq!(
        (said.status, said.header("skep-prompt")),
        (200, "greet@1"),
        "{}",
        said.text()
    );
    assert_eq!(said.header("skep-model"), format!("openai/{MODEL}"));
    let latest = ask(
        client,
        &asking("greet@latest", &json!({ "name": "Ada" })),
        None,
    )
    .await;
    assert_eq!(latest.header("skep-prompt"), "greet@2");
    let seen = house.upstream.seen(MODEL).await;
    for (seen, system) in seen.iter().zip(["Greet Ada.", "Greet ADA!"]) {
        let body = &seen["body"];
        assert_eq!(
            body["messages"][0],
            json!({ "role": "system", "content": system })
        );
        assert_eq!(body["messages"][1]["content"], "hi");
        assert_eq!(
            (&body["prompt_variables"], &body["model"]),
            (&Value::Null, &json!(MODEL))
        );
    }
    it_is_moved_and_goes_back(&mut house).await;
    let client = &house.server.client;
    let whole = client.get("/api/v1/prompts/greet").await.json();
    assert_eq!(whole["labels"].as_array().expect("a list").len(), 3);
    what_was_used_is_told(client).await;
    what_was_removed_is_gone(client).await;
}

async fn it_is_moved_and_goes_back(house: &mut House) {
    let body = asking("greet", &json!({ "name": "Ada" }));
    let client = &house.server.client;
    label(client, "greet/labels/production", json!([{ "version": 2 }])).await;
    let moved = ask(client, &body, None).await;
    assert_eq!(moved.header("skep-prompt"), "greet@2");
    let rollback = "/api/v1/prompts/greet/labels/production/rollback";
    let back = client.post_json(rollback, &json!({})).await;
    assert_eq!(back.status, 200, "{}", back.text());
    assert_eq!(back.json()["back_to"], 1);
    house.server.kill();
    house.server.restart_as_it_was().await;
    let client = &house.server.client;
    let after = ask(client, &body, None).await;
    assert_eq!(after.header("skep-prompt"), "greet@1");
    let further = client.post_json(rollback, &json!({})).await;
    assert_eq!(further.status, 404);
}

async fn what_was_used_is_told(client: &Client) {
    let body = asking("greet", &json!({ "name": "Ada" }));
    let after = ask(client, &body, None).await;
    let diff = client
        .get("/api/v1/prompts/greet/diff?from=1&to=2")
        .await
        .json();
    let text = diff["diff"].as_str().expect("a text");
    assert!(
        text.contains("-Greet {{ name }}.\n+Greet {{ name|upper }}!"),
        "{text}"
    );
    for (what, score) in [("exchange", 1.0), ("exchange", 0.5)] {
        let score = json!({ what: after.header("skep-exchange"), "score": score });
        let scored = client.post_json("/api/v1/models/scores", &score).await;
        assert_eq!(scored.status, 204, "{}", scored.text());
    }
    let usage = client.get("/api/v1/prompts/greet/usage").await.json();
    let line = |at: usize| {
        let fields = ["version", "requests", "failed", "input", "output", "scores"];
        fields.map(|it| usage["items"][at][it].clone())
    };
    assert_eq!(line(0), [2, 2, 0, 20, 6, 0].map(|it| json!(it)), "{usage}");
    assert_eq!(line(1), [1, 3, 0, 30, 9, 1].map(|it| json!(it)), "{usage}");
    // Who says it again changes what they said.
    assert_eq!(usage["items"][1]["score"], 0.5);
    let performance = client.get("/api/v1/models/performance").await.json();
    assert_eq!(performance["items"][0]["score"], 0.5, "{performance}");
}

async fn what_was_removed_is_gone(client: &Client) {
    let body = asking("greet", &json!({ "name": "Ada" }));
    // Nor does it come back under its number.
    let path = "/api/v1/prompts/greet";
    assert_eq!(
        send(client, Method::DELETE, path, &json!({})).await.status,
        204
    );
    assert_eq!(client.get(path).await.status, 404);
    assert_eq!(ask(client, &body, None).await.status, 404);
    assert_eq!(add(client, "greet", "x").await["version"], 3);
    for action in ["prompt:write", "prompt:label", "model:score"] {
        let path = format!("/api/v1/audit/entries?action={action}");
        let entries = client.get(&path).await.json();
        assert!(
            !entries["items"].as_array().expect("a list").is_empty(),
            "{action}"
        );
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_label_of_several_versions_is_the_same_for_one_thread() {
    let house = House::start().await;
    let client = &house.server.client;
    add(client, "trial", "one").await;
    add(client, "trial", "two").await;
    let both = json!([{ "version": 1, "weight": 1 }, { "version": 2, "weight": 1 }]);
    label(client, "trial/labels/production", both).await;
    let body = asking("trial", &json!({}));
    let mut all = std::collections::BTreeSet::new();
    for thread in 0..20 {
        let thread = format!("thread-{thread}");
        let first = ask(client, &body, Some(&thread)).await;
        let again = ask(client, &body, Some(&thread)).await;
        assert_eq!(first.status, 200, "{}", first.text());
        assert_eq!(first.header("skep-prompt"), again.header("skep-prompt"));
        all.insert(first.header("skep-prompt").to_owned());
    }
    assert_eq!(all.len(), 2, "{all:?}");
    // A whole thread is scored.
    let score = json!({ "thread": "thread-0", "score": 0.25 });
    let scored = client.post_json("/api/v1/models/scores", &score).await;
    assert_eq!(scored.status, 204, "{}", scored.text());
    let usage = client.get("/api/v1/prompts/trial/usage").await.json();
    let scores = |at: usize| usage["items"][at]["scores"].as_u64().expect("a number");
    assert_eq!(scores(0) + scores(1), 1, "{usage}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_prompt_is_asked_for_through_each_door() {
    let house = House::start().await;
    let client = &house.server.client;
    for (name, provider) in [("a", "openai"), ("b", "anthropic"), ("c", "google")] {
        let version = json!({
            "model": format!("{provider}/{MODEL}"),
            "messages": [
                { "role": "system", "content": "be {{ how }}" },
                { "role": "user", "content": "q" },
                { "role": "assistant", "content": "a" },
            ],
        });
        let path = format!("/api/v1/prompts/{name}/versions");
        let made = client.post_json(&path, &version).await;
        assert_eq!(made.status, 201, "{}", made.text());
    }
    let variables = json!({ "how": "kind" });
    let turn = json!([{ "role": "user", "content": "hi" }]);
    let gemini = json!([{ "role": "user", "parts": [{ "text": "hi" }] }]);
    for (path, body) in [
        (CHAT, json!({ "model": "prompt:a@1", "messages": turn })),
        (
            "/llm/openai/v1/responses",
            json!({ "model": "prompt:a@1", "input": "hi" }),
        ),
        (
            "/llm/anthropic/v1/messages",
            json!({ "model": "prompt:b@1", "max_tokens": 9, "messages": turn }),
        ),
        // By way of another dialect.
        (
            CHAT,
            json!({ "model": "prompt:b@1", "max_tokens": 9, "messages": turn }),
        ),
        (
            "/llm/google/v1beta/models/prompt:c@1:generateContent",
            json!({ "contents": gemini }),
        ),
    ] {
        let mut body = body;
        body["prompt_variables"] = variables.clone();
        let before = house.upstream.seen(MODEL).await.len();
        let said = send(client, Method::POST, path, &body).await;
        assert_eq!(said.status, 200, "{path}: {}", said.text());
        let seen = house.upstream.seen(MODEL).await;
        assert_eq!(seen.len(), before + 1, "{path}");
        let told = seen[before]["body"].to_string();
        let at = ["be kind", "\"q\"", "\"a\"", "\"hi\""].map(|it| told.find(it));
        assert!(at.iter().all(Option::is_some), "{path}: {told}");
        // What the system says may stand anywhere; the turns are in their order.
        assert!(at[1] < at[2] && at[2] < at[3], "{path}: {told}");
    }
    // It is counted as what it becomes.
    let usage = client.get("/api/v1/prompts/b/usage").await.json();
    assert_eq!(usage["items"][0]["requests"], 2, "{usage}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_wrong_with_a_prompt_is_told() {
    let house = House::start().await;
    let client = &house.server.client;
    add(client, "greet", "Greet {{ name }}.").await;
    label(client, "greet/labels/production", json!([{ "version": 1 }])).await;
    let message = |content: &str| json!({ "messages": [{ "role": "user", "content": content }] });
    for (body, why) in [
        (message("{{ name"), "messages[0]"),
        (message("{% include 'x' %}"), "none of the statements"),
        (
            json!({ "messages": [{ "role": "tool", "content": "x" }] }),
            "`role`",
        ),
        (json!({ "messages": [], "model": "m" }), "`messages`"),
        (
            json!({ "messages": [{ "role": "user", "content": "x" }], "model": "prompt:greet" }),
            "`model`",
        ),
    ] {
        let said = client
            .post_json("/api/v1/prompts/bad/versions", &body)
            .await;
        assert_eq!(said.status, 400, "{}", said.text());
        assert!(said.text().contains(why), "{}", said.text());
    }
    for (path, versions) in [
        ("greet/labels/latest", json!([{ "version": 1 }])),
        ("greet/labels/Bad", json!([{ "version": 1 }])),
        ("greet/labels/x", json!([{ "version": 7 }])),
        ("greet/labels/x", json!([{ "version": 1, "weight": 0 }])),
        ("greet/labels/x", json!([])),
    ] {
        let said = label(client, path, versions).await;
        assert_eq!(said.status, 400, "{path}: {}", said.text());
    }
    let none = label(client, "none/labels/x", json!([{ "version": 1 }])).await;
    assert_eq!(none.status, 404, "{}", none.text());
    for (body, status, why) in [
        (asking("greet", &json!({})), 400, "not given: name"),
        (asking("greet", &json!([])), 400, "`prompt_variables`"),
        (asking("none", &json!({})), 404, "no prompt `none`"),
        (asking("greet@9", &json!({})), 404, "no version 9"),
        (asking("Greet", &json!({})), 400, "`name`"),
    ] {
        let said = ask(client, &body, None).await;
        assert_eq!(said.status, status, "{}", said.text());
        assert!(said.text().contains(why), "{}", said.text());
    }
    let embeds = json!({ "model": "prompt:greet", "input": "x" });
    let said = send(client, Method::POST, "/llm/openai/v1/embeddings", &embeds).await;
    assert_eq!(said.status, 400, "{}", said.text());
    assert_eq!(house.upstream.counts().await.requests, 0);
    // Without a model, the one that is set is asked.
    let without = json!({ "messages": [{ "role": "user", "content": "x" }] });
    client
        .post_json("/api/v1/prompts/free/versions", &without)
        .await;
    let body = asking("free@latest", &json!({}));
    let said = ask(client, &body, None).await;
    assert_eq!(said.status, 400);
    assert!(said.text().contains("names no model"), "{}", said.text());
    let usual = json!({ "model": format!("openai/{MODEL}") });
    put(client, "settings/*", &usual).await;
    assert_eq!(ask(client, &body, None).await.status, 200);
    for score in [
        json!({ "score": 1.0 }),
        json!({ "exchange": "x", "score": 1.0 }),
        json!({ "thread": "t", "exchange": "exc_1", "score": 1.0 }),
        json!({ "thread": "t", "score": 1.5 }),
    ] {
        let said = client.post_json("/api/v1/models/scores", &score).await;
        assert_eq!(said.status, 400, "{}", said.text());
    }
    let nobody = json!({ "thread": "nobody", "score": 1.0 });
    let said = client.post_json("/api/v1/models/scores", &nobody).await;
    assert_eq!(said.status, 404, "{}", said.text());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_prompt_gives_no_rights_and_needs_some() {
    let house = House::start().await;
    let client = &house.server.client;
    add(client, "greet", "Greet.").await;
    let spec = json!({ "name": "ada", "command": [agent_binary()] });
    let deployed = client.post_json("/api/v1/agents?wait=ready", &spec).await;
    assert!(deployed.status < 300, "{}", deployed.text());
    let body = asking("greet@1", &json!({}));
    set(
        &house.server,
        "forbid (principal, action == Skep::Action::\"model:use\", resource);",
    )
    .await;
    assert_eq!(ask(client, &body, None).await.status, 403);
    set(
        &house.server,
        "forbid (principal, action == Skep::Action::\"prompt:use\", resource);",
    )
    .await;
    let said = ask(client, &body, None).await;
    assert_eq!(said.status, 403);
    assert!(said.text().contains("prompt:use"), "{}", said.text());
    // Whether it is there is not told.
    assert_eq!(
        ask(client, &asking("none", &json!({})), None).await.status,
        403
    );
    assert_eq!(house.upstream.counts().await.requests, 0);
}
