//! What keeps the doors to tools: servers that say their key, headers that say something else than the body, policies on
//! streams and sessions, servers that do not answer, and boxes of servers that are gone.

use std::time::{Duration, Instant};

use http::Method;
use serde_json::{Value, json};
use skep_tests::mcp::message;
use skep_tests::{Answer, Client, Server, eventually};
use tokio::net::TcpListener;

use crate::mcp::{
    House, KEY, VERSION, call, check, files, listed, put, session, start, text, within,
};
use crate::policy::set;

/// A call of a tool, with headers more.
async fn called(
    client: &Client,
    door: &str,
    tool: &str,
    arguments: Value,
    more: &[(&str, &str)],
) -> Answer {
    let meta = json!({
        "io.modelcontextprotocol/protocolVersion": VERSION,
        "io.modelcontextprotocol/clientInfo": { "name": "test", "version": "1" },
        "io.modelcontextprotocol/clientCapabilities": {},
    });
    let params = json!({ "name": tool, "arguments": arguments, "_meta": meta });
    let body = json!({ "jsonrpc": "2.0", "id": 7, "method": "tools/call", "params": params });
    let mut request = client.request(Method::POST, door, body.to_string());
    let always = [
        ("content-type", "application/json"),
        ("accept", "application/json, text/event-stream"),
        ("mcp-protocol-version", VERSION),
        ("mcp-method", "tools/call"),
        ("mcp-name", tool),
    ];
    for (name, value) in always.iter().chain(more) {
        let name: http::HeaderName = name.parse().expect("a name");
        request
            .headers_mut()
            .append(name, value.parse().expect("a value"));
    }
    client.send(request).await.expect("an answer")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_says_its_key_says_it_to_nobody() {
    let house = House::approved().await;
    let client = &house.server.client;
    let spelled: String = KEY.bytes().map(|it| format!("%{it:02x}")).collect();
    let mixed = KEY.replace("up", "\\u0055&#112;").replace('y', "%79");
    for said in [KEY, &spelled, &mixed, &KEY.to_uppercase()] {
        let stars = "*".repeat(said.len());
        let arguments = json!({ "text": format!("<{said}>") });
        for (door, tool) in [("tools", "echo"), ("", "tools__echo")] {
            let answer = call(client, door, tool, arguments.clone()).await;
            let content = answer["result"]["content"][0]["text"].as_str();
            let content = content.unwrap_or_else(|| panic!("{answer}"));
            // A backslash is written as two.
            let inner = content.trim_matches(['<', '>']);
            assert!(inner.bytes().all(|it| it == b'*'), "{said}: {answer}");
            assert!(inner.len() >= stars.len(), "{said}: {answer}");
        }
    }
    // Within a session answers come as events.
    let own = session(client, "tools").await;
    let params = json!({ "name": "echo", "arguments": { "text": KEY } });
    let said = within(client, "tools", Some(&own), 5, "tools/call", params).await;
    let said = message(&said.text());
    assert_eq!(
        said["result"]["content"][0]["text"],
        "*".repeat(KEY.len()),
        "{said}"
    );
    // All else passes as it is.
    let said = call(
        client,
        "tools",
        "echo",
        json!({ "text": "canary-upstream" }),
    )
    .await;
    assert_eq!(said["result"]["content"][0]["text"], "canary-upstream");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn headers_say_arguments_as_the_body_does() {
    let house = House::approved().await;
    let client = &house.server.client;
    let tool = "test_x_mcp_header";
    let arguments = json!({ "region": "eu", "level": 1 });
    for (door, tool) in [("/mcp/tools", tool), ("/mcp", "tools__test_x_mcp_header")] {
        let hits = house.hits("test_x_mcp_header").await;
        for more in [
            &[("mcp-param-region", "us")][..],
            &[("mcp-param-region", "eu"), ("mcp-param-region", "eu")],
        ] {
            let said = called(client, door, tool, arguments.clone(), more).await;
            let code = message(&said.text())["error"]["code"].clone();
            assert_eq!((said.status, code), (400, json!(-32020)), "{}", said.text());
        }
        assert_eq!(house.hits("test_x_mcp_header").await, hits, "{door}");
        // What the tool does not ask for means nothing, and does not pass.
        let more = [("mcp-param-region", "eu"), ("mcp-param-other", "us")];
        let said = called(client, door, tool, arguments.clone(), &more).await;
        assert_eq!(said.status, 200, "{}", said.text());
        assert!(said.text().contains("region=eu"), "{}", said.text());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn streams_and_ends_of_sessions_are_asked_of_the_policies() {
    let house = House::approved().await;
    let agent = house.agent("ada").await;
    let own = session(&agent, "tools").await;
    let ask = async |method: Method| {
        let mut request = agent.request(method, "/mcp/tools", "");
        for (name, value) in [
            ("mcp-session-id", own.as_str()),
            ("accept", "text/event-stream"),
        ] {
            request
                .headers_mut()
                .insert(name, value.parse().expect("a value"));
        }
        agent
            .open(request)
            .await
            .expect("an answer")
            .status()
            .as_u16()
    };
    assert_eq!(ask(Method::GET).await, 200);
    let policy = "@id(\"not-itself\") forbid (principal == Skep::Agent::\"ada\", action == Skep::Action::\"tool:use\", \
         resource == Skep::Tool::\"tools/:server\");";
    set(&house.server, policy).await;
    for method in [Method::GET, Method::DELETE] {
        assert_eq!(ask(method.clone()).await, 403, "{method}");
    }
    eventually("both refusals in the log", async || {
        let path = "/api/v1/audit/entries?action=tool:use&limit=100";
        let entries = house.server.client.get(path).await.json();
        let all = entries["items"].as_array().expect("a list").iter();
        let refused = all.filter(|it| it.to_string().contains("tools/:server"));
        (refused.count() >= 2).then_some(())
    })
    .await;
    // It ends nothing that it may not: the session is there still.
    set(&house.server, "").await;
    assert_eq!(ask(Method::GET).await, 200);
    assert!((200..300).contains(&ask(Method::DELETE).await));
    assert_eq!(ask(Method::GET).await, 404);
}

/// A server that takes connections and says nothing.
async fn silent() -> (String, tokio::task::JoinHandle<()>) {
    let listener = TcpListener::bind(("127.0.0.1", 0)).await.expect("a port");
    let url = format!("http://{}/mcp", listener.local_addr().expect("an address"));
    let held = tokio::spawn(async move {
        let mut all = Vec::new();
        while let Ok((stream, _)) = listener.accept().await {
            all.push(stream);
        }
    });
    (url, held)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_does_not_answer_is_left_and_holds_up_no_other() {
    let house = House::approved().await;
    let client = house.server.client.clone();
    let (url, held) = silent().await;
    let settings = json!({ "url": url, "timeout_s": 1 });
    let made = put(&client, "/api/v1/mcp/servers/late", &settings).await;
    assert_eq!(made.status, 200, "{}", made.text());
    let began = Instant::now();
    let failed = client.post("/api/v1/mcp/servers/late/check", "").await;
    assert_eq!(
        (failed.status, failed.code()),
        (502, "mcp-unreachable".to_owned()),
        "{}",
        failed.text()
    );
    // Not before its time, and not long after it.
    assert!(began.elapsed() >= Duration::from_secs(1));
    assert!(
        began.elapsed() < Duration::from_secs(20),
        "{:?}",
        began.elapsed()
    );
    let settings = json!({ "url": url, "timeout_s": 600 });
    let made = put(&client, "/api/v1/mcp/servers/late", &settings).await;
    assert_eq!(made.status, 200, "{}", made.text());
    let waiting = tokio::spawn({
        let client = client.clone();
        async move {
            client
                .post("/api/v1/mcp/servers/late/check", "")
                .await
                .status
        }
    });
    let checked = check(&client, "tools").await;
    assert_eq!(checked["condition"], "well", "{checked}");
    assert!(
        listed(&client, "")
            .await
            .contains(&"tools__echo".to_owned())
    );
    let said = call(&client, "", "tools__echo", json!({ "text": "x" })).await;
    assert_eq!(said["result"]["content"][0]["text"], "x", "{said}");
    assert!(!waiting.is_finished());
    waiting.abort();
    held.abort();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn boxes_of_servers_that_are_gone_are_swept() {
    let mut server: Server = start().await;
    let open = tempfile::tempdir().expect("a folder");
    let settings = files(&[text(open.path())], &[open.path()]);
    let made = put(&server.client, "/api/v1/mcp/servers/files", &settings).await;
    assert_eq!(made.status, 200, "{}", made.text());
    session(&server.client, "files").await;
    let folder = server.data().join("agents/default");
    let count = |name: &str| {
        std::fs::read_dir(folder.join(name).join("instances")).map_or(0, Iterator::count)
    };
    assert_eq!(count("mcp.files"), 1);
    server.kill();
    // As if its server of tools had been removed just before.
    std::fs::rename(folder.join("mcp.files"), folder.join("mcp.gone")).expect("a name");
    server.restart_as_it_was().await;
    assert_eq!((count("mcp.gone"), count("mcp.files")), (0, 0));
}
