//! The presets of MCP servers with what their registries have under those names: the programs start in their boxes, and the
//! classes that are proposed are about tools that they have.

use std::path::Path;

use serde_json::{Value, json};
use skep_tests::mcp::{message, node, node_folder, packages, sdks};
use skep_tests::{Server, Setup};

use crate::cli::skep;
use crate::mcp::{check, session, text, tools_of, within};

/// A server whose programs are found as where a package was installed.
async fn start() -> Server {
    let bin = |folder: &Path| text(folder);
    let node = node();
    let folders = [
        bin(&packages().join("node_modules/.bin")),
        bin(node.parent().expect("a folder")),
        bin(&sdks("mcp-fetch").join(".venv/bin")),
        "/usr/bin".to_owned(),
        "/bin".to_owned(),
    ];
    Server::start_with(Setup {
        env: vec![("PATH".to_owned(), folders.join(":"))],
        ..Setup::default()
    })
    .await
}

/// Adds a preset, with what it wants besides, and approves its tools as proposed; tells their classes.
async fn classes(server: &Server, name: &str, more: &[&str]) -> Value {
    let mut words = vec!["mcp", "add", name, "--preset", name];
    words.extend_from_slice(more);
    let code = [packages(), node_folder(), sdks("mcp-fetch")];
    let code = code.map(|it| format!("{}:ro", text(&it)));
    for folder in &code {
        words.extend(["--folder", folder]);
    }
    let added = skep(server, &words);
    assert_eq!(added.code, Some(0), "{name}: {}", added.err);
    let checked = check(&server.client, name).await;
    assert_eq!(checked["condition"], "well", "{checked}");
    let approved = skep(server, &["mcp", "approve", name, "--all", "--proposed"]);
    assert_eq!(approved.code, Some(0), "{name}: {}", approved.err);
    let all = tools_of(&server.client, name).await;
    all.iter()
        .map(|it| {
            let name = it["name"].as_str().expect("a name");
            (name.to_owned(), it["class"].clone())
        })
        .collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn presets_are_what_their_packages_are() {
    let server = start().await;
    let memory = classes(&server, "memory", &[]).await;
    let expected = json!({
        "create_entities": "write", "create_relations": "write", "add_observations": "write", "delete_entities": "write",
        "delete_observations": "write", "delete_relations": "write", "read_graph": "read", "search_nodes": "read",
        "open_nodes": "read",
    });
    assert_eq!(memory, expected);
    assert_eq!(
        classes(&server, "fetch", &[]).await,
        json!({ "fetch": "read" })
    );
    let key = json!({ "name": "keys/brave", "value": "marked-key" });
    let made = server.client.post_json("/api/v1/secrets", &key).await;
    assert_eq!(made.status, 201, "{}", made.text());
    let key = ["--env", "BRAVE_API_KEY=${secret:keys/brave}"];
    let brave = classes(&server, "brave-search", &key).await;
    let brave = brave.as_object().expect("tools");
    assert!(brave.contains_key("brave_web_search"), "{brave:?}");
    assert!(brave.values().all(|it| it == "read"), "{brave:?}");
    // What is remembered stays for the next session.
    let use_it = async |tool: &str, arguments: Value| {
        let own = session(&server.client, "memory").await;
        let params = json!({ "name": tool, "arguments": arguments });
        let said = within(
            &server.client,
            "memory",
            Some(&own),
            5,
            "tools/call",
            params,
        )
        .await;
        message(&said.text())
    };
    let bee = json!({ "entities": [{ "name": "bee", "entityType": "insect", "observations": ["it dances"] }] });
    let made = use_it("create_entities", bee).await;
    assert!(made["result"]["isError"] != true, "{made}");
    let read = use_it("read_graph", json!({})).await;
    assert!(read.to_string().contains("it dances"), "{read}");
}
