//! Skep's own abilities as tools: off until a workspace adds them, asked about as tools and as what they do, and done as who
//! uses them.

use serde_json::{Value, json};
use skep_tests::{Client, Server, eventually};

use crate::mcp::{approve, call, check, listed, put, session, start, within};
use crate::mcp_openapi::said;
use crate::policy::set;

const VALUE: &str = "canary-value-of-a-secret";

fn class(tool: &str) -> &'static str {
    match tool {
        "call_agent" => "execute",
        _ => "read",
    }
}

async fn house() -> Server {
    let server = start().await;
    let client = &server.client;
    let secret = json!({ "name": "keys/own", "value": VALUE });
    let made = client.post_json("/api/v1/secrets", &secret).await;
    assert_eq!(made.status, 201, "{}", made.text());
    assert!(listed(client, "").await.is_empty());
    let made = put(
        client,
        "/api/v1/mcp/servers/skep",
        &json!({ "builtin": true }),
    )
    .await;
    assert_eq!(made.status, 200, "{}", made.text());
    assert_eq!(made.json()["transport"], "builtin", "{}", made.text());
    let checked = check(client, "skep").await;
    assert_eq!(
        (&checked["says"], &checked["waiting"]),
        (&json!("Skep 1"), &json!(7)),
        "{checked}"
    );
    assert!(listed(client, "skep").await.is_empty());
    approve(client, "skep", class).await;
    server
}

async fn agent(server: &Server, name: &str) -> Client {
    server.deploy(name, json!({})).await;
    let made = server.agent(name).await;
    let pid = made["instance"]["pid"].as_u64().expect("a process");
    let bytes = std::fs::read(format!("/proc/{pid}/environ")).expect("its variables");
    let text = String::from_utf8_lossy(&bytes).into_owned();
    let token = text
        .split('\0')
        .find_map(|it| it.strip_prefix("SKEP_TOKEN="));
    Client::new(&server.client.url, token.expect("a token"))
}

async fn entries(client: &Client, query: &str) -> Vec<Value> {
    let all = client
        .get(&format!("/api/v1/audit/entries?limit=200&{query}"))
        .await;
    all.json()["items"].as_array().cloned().expect("a list")
}

fn is_no(answer: &Value) -> bool {
    answer["result"]["isError"] == true && said(answer).starts_with("HTTP 403")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[expect(
    clippy::too_many_lines,
    reason = "one story, each part of which needs the part before"
)]
async fn an_admin_uses_what_skep_can() {
    let server = house().await;
    let client = &server.client;
    server.deploy("echo", json!({})).await;
    let all = call(client, "skep", "list_agents", json!({})).await;
    assert_eq!(
        all["result"]["structuredContent"]["items"][0]["name"], "echo",
        "{all}"
    );
    let arguments = json!({ "agent": "echo", "path": "poison", "body": { "q": "hé" }, "Idempotency-Key": "one" });
    for _ in 0..2 {
        let answer = call(client, "skep", "call_agent", arguments.clone()).await;
        assert_eq!(said(&answer), r#"{"q":"hé"}"#, "{answer}");
    }
    // It is one call of the journal, and it is told as one.
    let calls = client.get("/api/v1/calls").await.json();
    let calls = calls["items"].as_array().cloned().expect("a list");
    assert_eq!(calls.len(), 1, "{calls:?}");
    assert_eq!(calls[0]["state"], "succeeded", "{calls:?}");
    let one = call(
        client,
        "",
        "skep__show_call",
        json!({ "call": calls[0]["id"] }),
    )
    .await;
    assert_eq!(
        one["result"]["structuredContent"]["id"], calls[0]["id"],
        "{one}"
    );
    eventually("its entries", async || {
        let own = entries(client, "action=agent:call").await;
        let uses = entries(client, "action=tool:use").await;
        let of = |it: &&Value| it.to_string().contains("skep/call_agent");
        (!own.is_empty() && uses.iter().filter(of).count() == 2).then_some(())
    })
    .await;
    let secret = call(
        client,
        "skep",
        "show_secret",
        json!({ "secret": "keys/own" }),
    )
    .await;
    assert_eq!(
        secret["result"]["structuredContent"]["name"], "keys/own",
        "{secret}"
    );
    assert!(!secret.to_string().contains(VALUE), "{secret}");
    let found = call(
        client,
        "skep",
        "search_audit",
        json!({ "action": "agent:deploy", "limit": 5 }),
    )
    .await;
    assert_eq!(
        found["result"]["structuredContent"]["items"][0]["entry"]["action"], "agent:deploy",
        "{found}"
    );
    let usage = call(client, "skep", "tools_usage", json!({})).await;
    assert!(usage.to_string().contains("call_agent"), "{usage}");
    assert!(
        call(client, "skep", "models_usage", json!({})).await["result"]["structuredContent"]
            .is_object()
    );
    // What does not fit, and what is not there.
    for (tool, arguments, why) in [
        (
            "call_agent",
            json!({ "agent": "echo/x", "path": "", "body": 1 }),
            "cannot stand in a path",
        ),
        (
            "call_agent",
            json!({ "agent": "echo", "path": "../../api/v1/secrets", "body": 1 }),
            "cannot stand in a path",
        ),
        (
            "show_secret",
            json!({ "secret": ".." }),
            "cannot stand in a path",
        ),
        ("show_secret", json!({ "secret": "keys/none" }), "HTTP 404"),
        (
            "call_agent",
            json!({ "agent": "nobody", "path": "", "body": 1 }),
            "HTTP 404",
        ),
    ] {
        let refused = call(client, "skep", tool, arguments).await;
        assert_eq!(refused["result"]["isError"], true, "{refused}");
        assert!(said(&refused).contains(why), "{why}: {refused}");
    }
    // In sessions, and as a step of a chain.
    let id = session(client, "").await;
    let params = json!({ "name": "skep__list_agents", "arguments": {} });
    let used = within(client, "", Some(&id), 3, "tools/call", params).await;
    assert!(used.text().contains("echo"), "{}", used.text());
    let chain = json!({ "composed": [{ "name": "first", "steps": [
        { "name": "all", "tool": "skep/list_agents" },
        { "name": "one", "tool": "skep/call_agent", "arguments": {
            "agent": { "from": "all", "pointer": "/structuredContent/items/0/name" }, "path": { "value": "poison" }, "body": { "value": 7 },
        } },
    ] }] });
    let made = put(client, "/api/v1/mcp/virtuals/desk", &chain).await;
    assert_eq!(made.status, 200, "{}", made.text());
    let answer = call(client, "desk", "first", json!({})).await;
    assert_eq!(said(&answer), "7", "{answer}");
    for wrong in [
        json!({ "builtin": true, "url": "https://x.example" }),
        json!({ "builtin": true, "command": ["x"] }),
    ] {
        let refused = put(client, "/api/v1/mcp/servers/skep", &wrong).await;
        assert_eq!(refused.status, 400, "{}", refused.text());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_agent_does_by_it_what_it_may_and_no_more() {
    let server = house().await;
    let ada = agent(&server, "ada").await;
    server.deploy("bob", json!({})).await;
    // It may use what reads; what that reads it may not by itself, and so not by this.
    assert!(
        listed(&ada, "skep")
            .await
            .contains(&"list_agents".to_owned())
    );
    for (tool, arguments) in [
        ("list_agents", json!({})),
        ("show_secret", json!({ "secret": "keys/own" })),
        ("search_audit", json!({})),
        ("tools_usage", json!({})),
    ] {
        let refused = call(&ada, "skep", tool, arguments).await;
        assert!(is_no(&refused), "{tool}: {refused}");
    }
    let asked = json!({ "agent": "bob", "path": "poison", "body": "x" });
    let refused = call(&ada, "skep", "call_agent", asked.clone()).await;
    assert_eq!(refused["error"]["data"]["code"], "forbidden", "{refused}");
    // Of the two it needs both.
    let tool = "@id(\"tool\") permit (principal == Skep::Agent::\"ada\", action == Skep::Action::\"tool:use\", \
                resource == Skep::Tool::\"skep/call_agent\");";
    let own = "@id(\"call\") permit (principal == Skep::Agent::\"ada\", action == Skep::Action::\"agent:call\", \
               resource == Skep::Agent::\"bob\");";
    set(&server, tool).await;
    assert!(is_no(
        &call(&ada, "skep", "call_agent", asked.clone()).await
    ));
    set(&server, own).await;
    let refused = call(&ada, "skep", "call_agent", asked.clone()).await;
    assert_eq!(refused["error"]["data"]["code"], "forbidden", "{refused}");
    let calls = server.client.get("/api/v1/calls").await.json();
    assert_eq!(calls["items"], json!([]), "{calls}");
    set(&server, &format!("{tool}{own}")).await;
    let answer = call(&ada, "skep", "call_agent", asked).await;
    assert_eq!(said(&answer), "\"x\"", "{answer}");
    let other = json!({ "agent": "ada", "path": "poison", "body": "x" });
    assert!(is_no(&call(&ada, "skep", "call_agent", other).await));
    // It is ada who did it.
    eventually("the call's entry", async || {
        let own = entries(&server.client, "action=agent:call&decision=allow").await;
        own.iter()
            .any(|it| it.to_string().contains("ada") && it.to_string().contains("bob"))
            .then_some(())
    })
    .await;
}
