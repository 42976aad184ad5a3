//! Virtual servers: tools of several servers behind one door, under other names and with fixed arguments, and tools that
//! are chains of steps. What is decided, counted and written down is of the real tools.

use http::Method;
use serde_json::{Value, json};
use skep_tests::mcp::message;
use skep_tests::{Answer, Client, eventually};

use crate::mcp::{House, KEY, approve, call, check, class_of, listed, put, session, within};
use crate::policy::set;

/// Declares the virtual server `desk`.
async fn declare(client: &Client, said: &Value) -> Answer {
    put(client, "/api/v1/mcp/virtuals/desk", said).await
}

async fn declared(client: &Client, said: &Value) -> Value {
    let made = declare(client, said).await;
    assert_eq!(made.status, 200, "{}", made.text());
    made.json()
}

async fn told(client: &Client, tool: &str) -> usize {
    let path = "/api/v1/audit/entries?action=tool:use&limit=200";
    let entries = client.get(path).await.json();
    let all = entries["items"].as_array().expect("a list");
    all.iter()
        .filter(|it| it["resource"]["id"] == tool || it.to_string().contains(tool))
        .count()
}

fn desk() -> Value {
    json!({
        "about": "A desk",
        "tools": [
            { "tool": "tools/echo", "name": "say", "description": "Says hello", "fixed": { "text": "hello" } },
            { "tool": "tools/test_simple*" },
            { "tool": "more/test_*" },
            { "tool": "tools/wipe" },
            { "tool": "tools/test_x_mcp_header", "name": "regional", "fixed": { "region": "eu" } },
        ],
    })
}

/// A second server, which is the same program.
async fn second(house: &House) {
    let client = &house.server.client;
    let settings = json!({
        "url": format!("{}/mcp", house.upstream.url),
        "headers": { "Authorization": "Bearer ${secret:keys/tools}" },
    });
    let made = put(client, "/api/v1/mcp/servers/more", &settings).await;
    assert_eq!(made.status, 200, "{}", made.text());
    check(client, "more").await;
    approve(client, "more", class_of).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_virtual_server_merges_renames_and_narrows() {
    let house = House::approved().await;
    let client = &house.server.client;
    second(&house).await;
    let made = declared(client, &desk()).await;
    assert_eq!(made["door"], "/mcp/desk");
    let of = |name: &str| {
        let all = made["tools"].as_array().expect("a list");
        let found = all.iter().find(|it| it["name"] == name);
        found.map(|it| it["uses"].clone()).unwrap_or_default()
    };
    assert_eq!(of("say"), json!(["tools/echo"]));
    // Of two servers that have one name the first counts.
    assert_eq!(of("test_simple_text"), json!(["tools/test_simple_text"]));
    assert_eq!(of("test_image_content"), json!(["more/test_image_content"]));
    let agent = house.agent("ada").await;
    let own = listed(&agent, "desk").await;
    for (name, is_there) in [
        ("say", true),
        ("test_simple_text", true),
        ("test_image_content", true),
        ("regional", true),
        ("echo", false),
        ("wipe", false),
        ("tools__echo", false),
    ] {
        assert_eq!(own.contains(&name.to_owned()), is_there, "{name}: {own:?}");
    }
    let said = call(&agent, "desk", "say", json!({})).await;
    assert_eq!(said["result"]["content"][0]["text"], "hello", "{said}");
    let hits = house.hits("echo").await;
    for (tool, arguments, code) in [
        ("say", json!({ "text": "x" }), -32602),
        ("say", json!({ "TEXT": "x" }), -32602),
        ("echo", json!({ "text": "x" }), -32602),
        ("tools__echo", json!({ "text": "x" }), -32602),
    ] {
        let refused = call(&agent, "desk", tool, arguments).await;
        assert_eq!(refused["error"]["code"], code, "{tool}: {refused}");
    }
    assert_eq!(house.hits("echo").await, hits);
    let refused = call(&agent, "desk", "wipe", json!({})).await;
    assert_eq!(refused["error"]["data"]["code"], "forbidden", "{refused}");
    eventually("a use in the log", async || {
        (told(client, "tools/echo").await == 1).then_some(())
    })
    .await;
    let usage = client.get("/api/v1/mcp/usage").await.json().to_string();
    assert!(
        usage.contains("\"echo\"") && !usage.contains("\"say\""),
        "{usage}"
    );
    // What headers say again is said of what is fixed, too.
    let said = call(&agent, "desk", "regional", json!({})).await;
    assert!(said.to_string().contains("region=eu"), "{said}");
    of_a_session(&house, &agent).await;
    let texts = [
        client.get("/api/v1/mcp/virtuals").await.text(),
        house.server.log(),
    ];
    assert!(texts.iter().all(|it| !it.contains(KEY)));
}

async fn of_a_session(house: &House, agent: &Client) {
    let client = &house.server.client;
    let id = session(agent, "desk").await;
    let list = within(agent, "desk", Some(&id), 2, "tools/list", json!({})).await;
    let list = message(&list.text());
    let tools = list["result"]["tools"].as_array().expect("a list");
    let say = tools.iter().find(|it| it["name"] == "say").expect("a tool");
    assert_eq!(say["description"], "Says hello");
    assert_eq!(say["inputSchema"]["properties"], json!({}), "{say}");
    for tool in ["say", "regional"] {
        let params = json!({ "name": tool, "arguments": {} });
        let said = within(agent, "desk", Some(&id), 3, "tools/call", params).await;
        let expected = if tool == "say" { "hello" } else { "region=eu" };
        assert!(said.text().contains(expected), "{}", said.text());
    }
    let stolen = within(client, "desk", Some(&id), 2, "tools/list", json!({})).await;
    assert_eq!(stolen.status, 404, "{}", stolen.text());
    // Nor is it one of another door.
    let other = within(agent, "", Some(&id), 2, "tools/list", json!({})).await;
    assert_eq!(other.status, 404, "{}", other.text());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn policies_and_pins_are_of_the_real_tools() {
    let house = House::approved().await;
    let client = &house.server.client;
    second(&house).await;
    declared(client, &desk()).await;
    let agent = house.agent("ada").await;
    let policy = "@id(\"no-hello\") forbid (principal is Skep::Agent, action == Skep::Action::\"tool:use\", \
         resource == Skep::Tool::\"tools/echo\") when { context has tool && context.tool.arguments.hasTag(\"text\") && \
         context.tool.arguments.getTag(\"text\") == \"hello\" };";
    set(&house.server, policy).await;
    let hits = house.hits("echo").await;
    let refused = call(&agent, "desk", "say", json!({})).await;
    assert_eq!(refused["error"]["data"]["code"], "forbidden", "{refused}");
    assert_eq!(house.hits("echo").await, hits);
    set(&house.server, "").await;
    Client::new(&house.upstream.url, "").get("/change").await;
    check(client, "tools").await;
    let blocked = call(&agent, "desk", "say", json!({})).await;
    assert_eq!(
        blocked["error"]["data"]["code"], "tool-blocked",
        "{blocked}"
    );
    assert!(!listed(&agent, "desk").await.contains(&"say".to_owned()));
    let all = client.get("/api/v1/mcp/virtuals").await.json();
    let say = &all["items"][0]["tools"][0];
    assert_eq!(
        (&say["name"], &say["ready"]),
        (&json!("say"), &json!(false))
    );
    // What cannot be is refused, and says why.
    for (name, said, why) in [
        ("tools", json!({}), "there is a MCP server `tools`"),
        (
            "desk",
            json!({ "tools": [{ "tool": "nobody/x" }] }),
            "no MCP server `nobody`",
        ),
        ("desk", json!({ "tools": [{ "tool": "echo" }] }), "tools[0]"),
        ("desk", json!({ "tool": [] }), "tool"),
        ("Desk", json!({}), "name"),
    ] {
        let made = put(client, &format!("/api/v1/mcp/virtuals/{name}"), &said).await;
        assert!(matches!(made.status, 400 | 422), "{said}: {}", made.text());
        assert!(made.text().contains(why), "{said}: {}", made.text());
    }
    let url = json!({ "url": "https://host/mcp" });
    let made = put(client, "/api/v1/mcp/servers/desk", &url).await;
    assert_eq!(made.status, 400, "{}", made.text());
    let gone = client.request(Method::DELETE, "/api/v1/mcp/virtuals/desk", "");
    assert_eq!(client.send(gone).await.expect("an answer").status, 204);
    let gone = client.request(Method::DELETE, "/api/v1/mcp/virtuals/desk", "");
    assert_eq!(client.send(gone).await.expect("an answer").status, 404);
    let nowhere = within(client, "desk", None, 1, "initialize", json!({})).await;
    assert_eq!(nowhere.status, 404, "{}", nowhere.text());
}

fn chains() -> Value {
    let given = |from: &str, pointer: &str| json!({ "text": { "from": from, "pointer": pointer } });
    let echo = |name: &str, arguments: Value| json!({ "name": name, "tool": "tools/echo", "arguments": arguments });
    let first = echo("first", given("input", "/q"));
    let input = json!({ "properties": { "q": { "type": "string" } }, "required": ["q"] });
    let chain =
        |name: &str, last: Value| json!({ "name": name, "input": input, "steps": [first, last] });
    json!({ "composed": [
        chain("twice", echo("second", given("first", "/content/0/text"))),
        chain("lost", echo("second", given("first", "/content/7/text"))),
        chain("fails", json!({ "name": "second", "tool": "tools/test_error_handling" })),
        chain("wipes", json!({ "name": "second", "tool": "tools/wipe" })),
        chain("asks", json!({ "name": "second", "tool": "tools/nothing" })),
    ] })
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_step_of_a_chain_is_decided_and_written_down_by_itself() {
    let house = House::approved().await;
    let client = &house.server.client;
    declared(client, &chains()).await;
    let agent = house.agent("ada").await;
    assert_eq!(listed(&agent, "desk").await, ["twice", "lost", "fails"]);
    let said = call(&agent, "desk", "twice", json!({ "q": "hé" })).await;
    assert_eq!(said["result"]["content"][0]["text"], "hé", "{said}");
    assert_eq!(said["result"]["resultType"], "complete", "{said}");
    assert_eq!(house.hits("echo").await, 2);
    eventually("both steps in the log", async || {
        (told(client, "tools/echo").await == 2).then_some(())
    })
    .await;
    let refused = call(&agent, "desk", "twice", json!({})).await;
    assert!(refused.to_string().contains("`q` is missing"), "{refused}");
    assert_eq!(house.hits("echo").await, 2);
    // What goes wrong says in which step. What was done before was done, and is written down.
    for (tool, place) in [
        ("lost", "step `second` (tools/echo): its argument `text`"),
        ("asks", "step `second` (tools/nothing): "),
        ("wipes", "step `second` (tools/wipe): "),
    ] {
        let refused = call(&agent, "desk", tool, json!({ "q": "x" })).await;
        let why = refused["error"]["message"].as_str().unwrap_or_default();
        assert!(why.starts_with(place), "{tool}: {refused}");
        let is_no = refused["error"]["data"]["code"] == "forbidden";
        assert_eq!(is_no, tool == "wipes", "{refused}");
    }
    assert_eq!((house.hits("echo").await, house.hits("wipe").await), (5, 0));
    let failed = call(&agent, "desk", "fails", json!({ "q": "x" })).await;
    assert_eq!(failed["result"]["isError"], true, "{failed}");
    let first = &failed["result"]["content"][0]["text"];
    assert_eq!(
        first, "step `second` (tools/test_error_handling) failed:",
        "{failed}"
    );
    eventually("a refusal in the log", async || {
        (told(client, "tools/wipe").await == 1).then_some(())
    })
    .await;
    let usage = client.get("/api/v1/mcp/usage").await.json();
    let items = usage["items"].as_array().cloned().expect("a list");
    let of = |tool: &str| items.iter().find(|it| it["tool"] == tool).cloned();
    assert_eq!(of("echo").expect("a sum")["requests"], 6, "{usage}");
    assert_eq!(
        of("test_error_handling").expect("a sum")["failed"],
        1,
        "{usage}"
    );
    assert!(of("wipe").is_none() && of("twice").is_none(), "{usage}");
    // A key may do all of it, within a session too.
    let id = session(client, "desk").await;
    let params = json!({ "name": "wipes", "arguments": { "q": "x" } });
    let said = within(client, "desk", Some(&id), 3, "tools/call", params).await;
    assert!(
        message(&said.text())["result"].is_object(),
        "{}",
        said.text()
    );
    assert_eq!(house.hits("wipe").await, 1);
}
