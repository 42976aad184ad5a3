//! Resources and prompts of several servers behind one door: listed under addresses and names that lead back, for who may.

use serde_json::{Value, json};
use skep_tests::Client;
use skep_tests::mcp::message;

use crate::mcp::{House, approve, ask, check, class_of, put, session, within};
use crate::policy::set;

/// What a door lists, by the field that names it.
async fn listed(client: &Client, door: &str, method: &str) -> Vec<String> {
    let answer = message(&ask(client, door, method, json!({})).await.text());
    let (key, field) = match method {
        "resources/list" => ("resources", "uri"),
        "resources/templates/list" => ("resourceTemplates", "uriTemplate"),
        _ => ("prompts", "name"),
    };
    let items = answer["result"][key].as_array().cloned();
    let items = items.unwrap_or_else(|| panic!("{answer}"));
    let text = |it: &Value| it[field].as_str().expect("a text").to_owned();
    items.iter().map(text).collect()
}

async fn read(client: &Client, door: &str, uri: &str) -> Value {
    let params = json!({ "uri": uri });
    message(&ask(client, door, "resources/read", params).await.text())
}

/// Two servers, which are the same program.
async fn two() -> House {
    let house = House::approved().await;
    let client = &house.server.client;
    let settings = json!({
        "url": format!("{}/mcp", house.upstream.url),
        "headers": { "Authorization": "Bearer ${secret:keys/tools}" },
    });
    let made = put(client, "/api/v1/mcp/servers/more", &settings).await;
    assert_eq!(made.status, 200, "{}", made.text());
    check(client, "more").await;
    approve(client, "more", class_of).await;
    house
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn resources_and_prompts_of_all_servers_lead_back_to_theirs() {
    let house = two().await;
    let client = &house.server.client;
    let agent = house.agent("ada").await;
    let resources = listed(&agent, "", "resources/list").await;
    for uri in [
        "mcp+more:test://static-text",
        "mcp+tools:test://static-text",
    ] {
        assert!(resources.contains(&uri.to_owned()), "{resources:?}");
        let said = read(&agent, "", uri).await;
        let content = &said["result"]["contents"][0];
        assert_eq!(content["uri"], uri, "{said}");
        assert!(content["text"].is_string(), "{said}");
    }
    let templates = listed(&agent, "", "resources/templates/list").await;
    assert!(
        templates.iter().all(|it| it.starts_with("mcp+")) && !templates.is_empty(),
        "{templates:?}"
    );
    let prompts = listed(&agent, "", "prompts/list").await;
    let name = "more__test_prompt_with_arguments";
    assert!(prompts.contains(&name.to_owned()), "{prompts:?}");
    let params = json!({ "name": name, "arguments": { "arg1": "a", "arg2": "b" } });
    let said = message(&ask(&agent, "", "prompts/get", params).await.text());
    assert!(said.to_string().contains("arg1='a'"), "{said}");
    for odd in [
        "test://static-text",
        "mcp+nobody:test://static-text",
        "mcp+:x",
        "mcp+tools",
    ] {
        let refused = read(&agent, "", odd).await;
        assert_eq!(refused["error"]["code"], -32602, "{odd}: {refused}");
    }
    let usage = client.get("/api/v1/mcp/usage").await.json().to_string();
    assert!(
        usage.contains(":resources") && usage.contains(":prompts"),
        "{usage}"
    );
    // Within a session too, and Skep says that it has them.
    let params = json!({
        "protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": { "name": "test", "version": "1" },
    });
    let hello = within(&agent, "", None, 1, "initialize", params).await;
    let abilities = message(&hello.text())["result"]["capabilities"].clone();
    assert!(abilities["resources"].is_object() && abilities["prompts"].is_object());
    let id = session(&agent, "").await;
    let said = within(&agent, "", Some(&id), 2, "resources/list", json!({})).await;
    assert!(
        said.text().contains("mcp+tools:test://static-text"),
        "{}",
        said.text()
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_may_not_ask_a_server_is_shown_nothing_of_it() {
    let house = two().await;
    let client = &house.server.client;
    let agent = house.agent("ada").await;
    let policy = "@id(\"not-more\") forbid (principal is Skep::Agent, action == Skep::Action::\"tool:use\", \
         resource == Skep::Tool::\"more/:resources\");";
    set(&house.server, policy).await;
    let own = listed(&agent, "", "resources/list").await;
    assert!(
        !own.is_empty() && own.iter().all(|it| it.starts_with("mcp+tools:")),
        "{own:?}"
    );
    let refused = read(&agent, "", "mcp+more:test://static-text").await;
    assert_eq!(refused["error"]["data"]["code"], "forbidden", "{refused}");
    let all = listed(client, "", "resources/list").await;
    assert!(all.iter().any(|it| it.starts_with("mcp+more:")), "{all:?}");
    // A virtual server has those of the servers that it names.
    let said = json!({ "resources": ["more"], "prompts": ["tools"] });
    let made = put(client, "/api/v1/mcp/virtuals/desk", &said).await;
    assert_eq!(made.status, 200, "{}", made.text());
    let own = listed(client, "desk", "resources/list").await;
    assert!(
        !own.is_empty() && own.iter().all(|it| it.starts_with("mcp+more:")),
        "{own:?}"
    );
    let prompts = listed(client, "desk", "prompts/list").await;
    assert!(
        !prompts.is_empty() && prompts.iter().all(|it| it.starts_with("tools__")),
        "{prompts:?}"
    );
    assert!(read(client, "desk", "mcp+more:test://static-text").await["result"].is_object());
    let refused = read(client, "desk", "mcp+tools:test://static-text").await;
    assert_eq!(refused["error"]["code"], -32602, "{refused}");
    assert!(listed(&agent, "desk", "resources/list").await.is_empty());
    // What does not pass of a server is at no door.
    let settings = json!({
        "url": format!("{}/mcp", house.upstream.url), "resources": false,
        "headers": { "Authorization": "Bearer ${secret:keys/tools}" },
    });
    let made = put(client, "/api/v1/mcp/servers/more", &settings).await;
    assert_eq!(made.status, 200, "{}", made.text());
    assert!(listed(client, "desk", "resources/list").await.is_empty());
    let refused = read(client, "", "mcp+more:test://static-text").await;
    assert_eq!(refused["error"]["code"], -32601, "{refused}");
}
