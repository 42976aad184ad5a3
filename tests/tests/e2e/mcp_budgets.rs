//! Limits of tools: uses that budgets count, by agent, server and tool, in number and in money, however many ask at once and
//! whichever server they ask.

use serde_json::{Value, json};
use skep_tests::{Client, Server, Setup, eventually};

use crate::engine::Engine;
use crate::mcp::{House, approve, call, check, put, session, within};
use crate::mcp_openapi::{Api, class, described, said};

const ALLOW: (&str, &str) = ("SKEP_OUTGOING_ALLOW", "127.0.0.0/8");

async fn provide(client: &Client, api: &Api, prices: Value) {
    let settings = json!({ "openapi": described(&api.url), "prices": prices });
    let made = put(client, "/api/v1/mcp/servers/pets", &settings).await;
    assert_eq!(made.status, 200, "{}", made.text());
    check(client, "pets").await;
    approve(client, "pets", class).await;
}

async fn house(prices: Value) -> (Server, Api) {
    let (server, api) = (crate::mcp::start().await, Api::start().await);
    provide(&server.client, &api, prices).await;
    (server, api)
}

async fn budget(client: &Client, name: &str, budget: Value) {
    let path = format!("/api/v1/models/budgets/{name}");
    let made = put(client, &path, &budget).await;
    assert_eq!(made.status, 200, "{}", made.text());
}

async fn standing(client: &Client, name: &str) -> Value {
    let all = client.get("/api/v1/models/budgets").await.json();
    let all = all["items"].as_array().cloned().expect("a list");
    let found = all.into_iter().find(|it| it["name"] == name);
    found.expect("a budget")
}

fn is_over(answer: &Value, budget: &str) -> bool {
    let message = answer["error"]["message"].as_str().unwrap_or_default();
    answer["error"]["data"]["code"] == "over-budget" && message.contains(&format!("`{budget}`"))
}

/// Uses a tool so often, all at once; gives how many were answered.
async fn at_once(
    clients: &[&Client],
    tool: &'static str,
    times: usize,
    budget: &'static str,
) -> usize {
    let all = (0..times).map(|place| {
        let client = clients[place % clients.len()];
        let client = Client::new(&client.url, &client.key);
        tokio::spawn(async move {
            let answer = call(&client, "pets", tool, json!({})).await;
            let well = answer["result"].is_object();
            assert!(well || is_over(&answer, budget), "{answer}");
            usize::from(well)
        })
    });
    let all: Vec<_> = all.collect();
    let mut done = 0;
    for one in all {
        done += one.await.expect("an answer");
    }
    done
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_more_uses_than_a_budget_has_however_many_ask() {
    let (mut server, api) = house(json!({})).await;
    let client = server.client.clone();
    let tool = json!({ "of": "tool", "whose": "pets/hello", "window": "total", "calls": 5 });
    budget(&client, "hello", tool).await;
    let own = json!({ "of": "server", "whose": "pets", "window": "day", "calls": 7 });
    budget(&client, "pets", own).await;
    assert_eq!(at_once(&[&client], "hello", 40, "hello").await, 5);
    assert_eq!(api.seen().len(), 5);
    let stands = standing(&client, "hello").await;
    assert_eq!(
        (&stands["spent"], &stands["calls"]),
        (&json!("5"), &json!(5)),
        "{stands}"
    );
    // What was refused counts nowhere; a chain is stopped at its step.
    let chain = json!({ "composed": [{ "name": "both", "steps": [
        { "name": "one", "tool": "pets/listPets" }, { "name": "two", "tool": "pets/hello" },
    ] }] });
    let made = put(&client, "/api/v1/mcp/virtuals/desk", &chain).await;
    assert_eq!(made.status, 200, "{}", made.text());
    let answer = call(&client, "desk", "both", json!({})).await;
    let why = answer["error"]["message"].as_str().unwrap_or_default();
    assert!(
        why.starts_with("step `two` (pets/hello): ") && why.contains("`hello`"),
        "{answer}"
    );
    assert_eq!(standing(&client, "pets").await["spent"], "6");
    eventually("it is told", async || {
        let events = client.get("/api/v1/events?limit=100").await.text();
        events.contains("budget.exceeded").then_some(())
    })
    .await;
    // A start counts what counted before it.
    server.kill();
    server.restart_as_it_was().await;
    let client = server.client.clone();
    assert!(is_over(
        &call(&client, "pets", "hello", json!({})).await,
        "hello"
    ));
    assert_eq!(standing(&client, "pets").await["spent"], "6");
    let answer = call(&client, "pets", "listPets", json!({})).await;
    assert!(answer["result"].is_object(), "{answer}");
    assert!(is_over(
        &call(&client, "", "pets__listPets", json!({})).await,
        "pets"
    ));
    assert_eq!(api.seen().len(), 7);
    for (wrong, why) in [
        (
            json!({ "of": "model", "whose": "a/b", "window": "day", "calls": 1 }),
            "`calls`",
        ),
        (
            json!({ "of": "tool", "whose": "a/b", "window": "day", "tokens": 1 }),
            "`tokens`",
        ),
        (
            json!({ "of": "tool", "whose": "a/b", "window": "day", "tokens": 1, "calls": 1 }),
            "one of",
        ),
    ] {
        let refused = put(&client, "/api/v1/models/budgets/wrong", &wrong).await;
        assert_eq!(refused.status, 400, "{}", refused.text());
        assert!(refused.text().contains(why), "{}", refused.text());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tools_with_a_price_are_paid_by_budgets_of_money() {
    let (server, api) = house(json!({ "*": "0.5", "hello": "0", "list*": "0.25" })).await;
    let client = &server.client;
    budget(
        client,
        "all",
        json!({ "of": "workspace", "window": "month", "money": "1.10" }),
    )
    .await;
    let get = async |id: &str| call(client, "pets", "getPet", json!({ "id": id })).await;
    for answer in [get("7").await, get("9").await] {
        assert!(answer["result"].is_object(), "{answer}");
    }
    assert!(is_over(&get("7").await, "all"));
    // What costs nothing is not held up.
    assert_eq!(
        said(&call(client, "pets", "hello", json!({})).await),
        "hello"
    );
    assert!(is_over(
        &call(client, "pets", "listPets", json!({})).await,
        "all"
    ));
    assert_eq!(standing(client, "all").await["spent"], "1.00");
    let usage = client.get("/api/v1/mcp/usage").await.json();
    let items = usage["items"].as_array().cloned().expect("a list");
    let of = |tool: &str| {
        items
            .iter()
            .find(|it| it["tool"] == tool)
            .cloned()
            .unwrap_or_default()
    };
    assert_eq!(
        (&of("getPet")["requests"], &of("getPet")["cost"]),
        (&json!(2), &json!("1.00")),
        "{usage}"
    );
    assert_eq!(of("hello")["cost"], "0.00", "{usage}");
    assert_eq!(api.seen().len(), 3);
    let settings = json!({ "openapi": described(&api.url), "prices": { "*": "-1" } });
    let refused = put(client, "/api/v1/mcp/servers/pets", &settings).await;
    assert_eq!(refused.status, 400, "{}", refused.text());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_sent_is_paid_whatever_comes_back() {
    let (server, api) = (crate::mcp::start().await, Api::start().await);
    let client = &server.client;
    let mut description = described(&api.url);
    for name in ["late", "encoded"] {
        description["paths"][format!("/{name}")] = json!({ "get": { "operationId": name } });
    }
    let prices = json!({ "*": "0.5" });
    let settings = json!({ "openapi": description, "prices": prices, "timeout_s": 1 });
    let made = put(client, "/api/v1/mcp/servers/pets", &settings).await;
    assert_eq!(made.status, 200, "{}", made.text());
    check(client, "pets").await;
    approve(client, "pets", |_| "read").await;
    let all = json!({ "of": "workspace", "window": "total", "money": "3" });
    budget(client, "all", all).await;
    let chain = json!({ "composed": [{ "name": "one", "steps": [{ "name": "it", "tool": "pets/long" }] }] });
    let made = put(client, "/api/v1/mcp/virtuals/desk", &chain).await;
    assert_eq!(made.status, 200, "{}", made.text());
    for (door, tool, spent) in [
        ("pets", "long", "0.50"),
        ("pets", "late", "1.00"),
        ("pets", "encoded", "1.50"),
        ("", "pets__long", "2.00"),
        ("desk", "one", "2.50"),
    ] {
        let failed = call(client, door, tool, json!({})).await;
        assert_eq!(
            failed["error"]["data"]["code"], "mcp-unreachable",
            "{tool}: {failed}"
        );
        assert_eq!(
            standing(client, "all").await["spent"],
            spent,
            "{door} {tool}"
        );
    }
    // Within a session Skep is the client.
    let id = session(client, "").await;
    let params = json!({ "name": "pets__late", "arguments": {} });
    let failed = within(client, "", Some(&id), 3, "tools/call", params).await;
    assert!(
        failed.text().contains("mcp-unreachable"),
        "{}",
        failed.text()
    );
    assert_eq!(standing(client, "all").await["spent"], "3.00");
    let over = call(client, "pets", "long", json!({})).await;
    assert!(is_over(&over, "all"), "{over}");
    assert_eq!(api.seen().len(), 6);
    let usage = client.get("/api/v1/mcp/usage").await.json();
    let items = usage["items"].as_array().cloned().expect("a list");
    let late = items.iter().find(|it| it["tool"] == "late").expect("it");
    assert_eq!(
        (&late["requests"], &late["cost"]),
        (&json!(2), &json!("1.00")),
        "{usage}"
    );
    eventually("how each ended", async || {
        let path = "/api/v1/audit/entries?action=tool:use&limit=200";
        let text = client.get(path).await.text();
        let all = ["late", "long", "encoded"];
        all.iter()
            .all(|it| text.contains(&format!("\"{it}\"")))
            .then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_reaches_nobody_is_free_and_a_refusal_is_not() {
    let house = House::approved().await;
    let client = &house.server.client;
    let all = json!({ "of": "workspace", "window": "total", "money": "10" });
    budget(client, "all", all).await;
    // It refuses who asks, after it was asked.
    let settings = json!({
        "url": format!("{}/mcp", house.upstream.url), "headers": { "Authorization": "Bearer another" },
        "prices": { "*": "0.5" },
    });
    let made = put(client, "/api/v1/mcp/servers/tools", &settings).await;
    assert_eq!(made.status, 200, "{}", made.text());
    let failed = call(client, "tools", "echo", json!({ "text": "x" })).await;
    assert_eq!(
        failed["error"]["data"]["code"], "mcp-unreachable",
        "{failed}"
    );
    assert_eq!(standing(client, "all").await["spent"], "0.50");
    // Nobody is there any more. What goes out over a connection that ends just then may have been read.
    let House { server, upstream } = house;
    drop(upstream);
    let client = &server.client;
    let spends = async || {
        let before = standing(client, "all").await["spent"].clone();
        let failed = call(client, "tools", "echo", json!({ "text": "x" })).await;
        assert_eq!(
            failed["error"]["data"]["code"], "mcp-unreachable",
            "{failed}"
        );
        standing(client, "all").await["spent"] != before
    };
    eventually("nobody is reached", async || {
        (!spends().await).then_some(())
    })
    .await;
    for _ in 0..5 {
        assert!(!spends().await);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_servers_of_one_database_share_what_there_is() {
    let engine = Engine::postgres();
    let one = Server::start_with(engine.setup(&[ALLOW])).await;
    let api = Api::start().await;
    provide(&one.client, &api, json!({})).await;
    let folder = tempfile::tempdir().expect("a folder");
    let data = folder.path().join("data");
    std::fs::create_dir(&data).expect("a folder");
    std::fs::copy(one.data().join("seal.key"), data.join("seal.key")).expect("a key");
    let key = Some(one.client.key.clone());
    let setup = engine.setup(&[ALLOW]);
    let two = Server::start_in(folder, Setup { key, ..setup }).await;
    budget(
        &one.client,
        "hello",
        json!({ "of": "tool", "whose": "pets/hello", "window": "total", "calls": 20 }),
    )
    .await;
    eventually("the other has it, too", async || {
        let all = two.client.get("/api/v1/models/budgets").await.text();
        all.contains("pets/hello").then_some(())
    })
    .await;
    let done = at_once(&[&one.client, &two.client], "hello", 60, "hello").await;
    assert!(done <= 20 && done == api.seen().len(), "{done}");
    // What one has and does not need the other gets.
    eventually("all of it is used", async || {
        for client in [&one.client, &two.client] {
            call(client, "pets", "hello", json!({})).await;
        }
        (api.seen().len() == 20).then_some(())
    })
    .await;
    for client in [&one.client, &two.client] {
        let over = call(client, "pets", "hello", json!({})).await;
        assert!(is_over(&over, "hello"), "{over}");
    }
    assert_eq!(api.seen().len(), 20);
}
