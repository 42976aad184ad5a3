//! Tools through the doors: a server on the official SDK behind Skep scores what it scores by itself, who may use what,
//! definitions that change, what is written down, and the filesystem server of the registry in its sandbox.

use std::path::Path;

use http::Method;
use serde_json::{Value, json};
use skep_tests::mcp::{Script, conformance, message, node, node_folder, packages};
use skep_tests::{Answer, Client, Server, Setup, eventually};

use crate::policy::set;

pub(crate) const VERSION: &str = "2026-07-28";
pub(crate) const KEY: &str = "canary-upstream-key";

/// A server before a server of tools.
pub(crate) struct House {
    pub(crate) server: Server,
    pub(crate) upstream: Script,
}

pub(crate) async fn start() -> Server {
    let env = [("SKEP_OUTGOING_ALLOW", "127.0.0.0/8")];
    let own = |(name, value): (&str, &str)| (name.to_owned(), value.to_owned());
    Server::start_with(Setup {
        env: env.map(own).to_vec(),
        ..Setup::default()
    })
    .await
}

pub(crate) async fn put(client: &Client, path: &str, body: &Value) -> Answer {
    let mut request = client.request(Method::PUT, path, body.to_string());
    let json = "application/json".parse().expect("it is so");
    request.headers_mut().insert("content-type", json);
    client.send(request).await.expect("it is so")
}

pub(crate) async fn tools_of(client: &Client, server: &str) -> Vec<Value> {
    let all = client
        .get(&format!("/api/v1/mcp/servers/{server}/tools"))
        .await;
    assert_eq!(all.status, 200, "{}", all.text());
    all.json()["items"].as_array().cloned().expect("it is so")
}

pub(crate) async fn check(client: &Client, server: &str) -> Value {
    let checked = client
        .post(&format!("/api/v1/mcp/servers/{server}/check"), "")
        .await;
    assert_eq!(checked.status, 200, "{}", checked.text());
    checked.json()
}

/// Approves all that waits, of the class that `class` says.
pub(crate) async fn approve(client: &Client, server: &str, class: impl Fn(&str) -> &'static str) {
    let waits = |it: &&Value| it["state"] == "new" || it["state"] == "changed";
    let all = tools_of(client, server).await;
    let all = all.iter().filter(waits).map(|it| {
        let name = it["name"].as_str().expect("it is so");
        json!({ "tool": name, "pin": it["pin"], "class": class(name) })
    });
    let body = json!({ "tools": all.collect::<Vec<_>>() });
    let path = format!("/api/v1/mcp/servers/{server}/approvals");
    let approved = client.post_json(&path, &body).await;
    assert_eq!(approved.status, 200, "{}", approved.text());
}

/// Asks without a session.
pub(crate) async fn ask(client: &Client, server: &str, method: &str, mut params: Value) -> Answer {
    params["_meta"] = json!({
        "io.modelcontextprotocol/protocolVersion": VERSION,
        "io.modelcontextprotocol/clientInfo": { "name": "test", "version": "1" },
        "io.modelcontextprotocol/clientCapabilities": {},
    });
    let body = json!({ "jsonrpc": "2.0", "id": 7, "method": method, "params": params });
    let path = format!("/mcp/{server}");
    let mut request = client.request(Method::POST, path.trim_end_matches('/'), body.to_string());
    let mut headers = vec![
        ("content-type", "application/json"),
        ("accept", "application/json, text/event-stream"),
        ("mcp-protocol-version", VERSION),
        ("mcp-method", method),
    ];
    let named = params["name"].as_str().or(params["uri"].as_str());
    headers.extend(named.map(|it| ("mcp-name", it)));
    for (name, value) in headers {
        request
            .headers_mut()
            .insert(name, value.parse().expect("it is so"));
    }
    client.send(request).await.expect("it is so")
}

pub(crate) async fn call(client: &Client, server: &str, tool: &str, arguments: Value) -> Value {
    let params = json!({ "name": tool, "arguments": arguments });
    message(&ask(client, server, "tools/call", params).await.text())
}

pub(crate) async fn listed(client: &Client, server: &str) -> Vec<String> {
    let said = ask(client, server, "tools/list", json!({})).await;
    assert_eq!(said.status, 200, "{}", said.text());
    let answer = message(&said.text());
    let tools = answer["result"]["tools"]
        .as_array()
        .cloned()
        .expect("it is so");
    tools
        .iter()
        .map(|it| it["name"].as_str().expect("it is so").to_owned())
        .collect()
}

pub(crate) fn class_of(name: &str) -> &'static str {
    match name {
        "wipe" => "execute",
        "test_sampling" => "write",
        _ => "read",
    }
}

impl House {
    async fn start() -> Self {
        let upstream = Script::start("server.mjs", &[("MCP_KEY", KEY)]).await;
        let server = start().await;
        let secret = json!({ "name": "keys/tools", "value": KEY });
        let made = server.client.post_json("/api/v1/secrets", &secret).await;
        assert_eq!(made.status, 201, "{}", made.text());
        let settings = json!({
            "url": format!("{}/mcp", upstream.url),
            "headers": { "Authorization": "Bearer ${secret:keys/tools}" },
        });
        let made = put(&server.client, "/api/v1/mcp/servers/tools", &settings).await;
        assert_eq!(made.status, 200, "{}", made.text());
        Self { server, upstream }
    }

    pub(crate) async fn approved() -> Self {
        let house = Self::start().await;
        let checked = check(&house.server.client, "tools").await;
        assert_eq!(
            (&checked["condition"], &checked["era"]),
            (&json!("well"), &json!("modern"))
        );
        approve(&house.server.client, "tools", class_of).await;
        house
    }

    /// A client that shows the token of an agent.
    pub(crate) async fn agent(&self, name: &str) -> Client {
        self.server.deploy(name, json!({})).await;
        let agent = self.server.agent(name).await;
        let token = given(&agent, "SKEP_TOKEN").expect("it is so");
        Client::new(&self.server.client.url, &token)
    }

    pub(crate) async fn hits(&self, tool: &str) -> u64 {
        let bare = Client::new(&self.upstream.url, "");
        let hits = bare.get("/hits").await.json();
        hits[tool].as_u64().unwrap_or_default()
    }
}

/// A variable of an instance.
fn given(agent: &Value, name: &str) -> Option<String> {
    let pid = agent["instance"]["pid"].as_u64().expect("it is so");
    let bytes = std::fs::read(format!("/proc/{pid}/environ")).expect("it is so");
    let text = String::from_utf8_lossy(&bytes).into_owned();
    let mut pairs = text.split('\0').filter_map(|it| it.split_once('='));
    pairs
        .find(|(own, _)| *own == name)
        .map(|(_, value)| value.to_owned())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_scores_behind_skep_what_it_scores_by_itself() {
    let upstream = Script::start("server.mjs", &[]).await;
    let server = start().await;
    let settings = json!({ "url": format!("{}/mcp", upstream.url) });
    let made = put(&server.client, "/api/v1/mcp/servers/tools", &settings).await;
    assert_eq!(made.status, 200, "{}", made.text());
    check(&server.client, "tools").await;
    approve(&server.client, "tools", class_of).await;
    let target = format!("{}/mcp/tools", server.client.url);
    let env = [
        ("TARGET", target.as_str()),
        ("KEY", server.client.key.as_str()),
    ];
    let way = Script::start("way.mjs", &env).await;
    for revision in ["2025-11-25", "2026-07-28"] {
        let own = conformance(
            &format!("{}/mcp", upstream.url.replace("127.0.0.1", "localhost")),
            revision,
        )
        .await;
        let behind = conformance(&way.url.replace("127.0.0.1", "localhost"), revision).await;
        assert_eq!(behind, own, "{revision}");
        // What is required passes as a whole; the rest is of extensions that the server does not have.
        let failed = own
            .iter()
            .filter(|(name, score)| !score.contains(" 0 failed") && !name.starts_with("tasks-"));
        let failed: Vec<_> = failed.map(|(name, _)| name.as_str()).collect();
        assert_eq!(failed, ["json-schema-2020-12"], "{revision}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_used_before_somebody_said_yes() {
    let house = House::start().await;
    let client = &house.server.client;
    assert!(listed(client, "tools").await.is_empty());
    let blocked = call(client, "tools", "echo", json!({ "text": "x" })).await;
    assert_eq!(blocked["error"]["code"], -32602, "{blocked}");
    // What is seen in passing is looked at by itself.
    eventually("tools that wait", async || {
        let all = tools_of(client, "tools").await;
        (all.len() > 20).then_some(())
    })
    .await;
    let all = tools_of(client, "tools").await;
    let of = |name: &str| {
        all.iter()
            .find(|it| it["name"] == name)
            .cloned()
            .expect("it is so")
    };
    for (name, proposed) in [
        ("echo", "read"),
        ("wipe", "execute"),
        ("test_sampling", "execute"),
    ] {
        let tool = of(name);
        assert_eq!(
            (&tool["state"], &tool["class"]),
            (&json!("new"), &json!("execute"))
        );
        assert_eq!(tool["proposed"], proposed);
    }
    let blocked = call(client, "tools", "echo", json!({ "text": "x" })).await;
    assert_eq!(
        blocked["error"]["data"]["code"], "tool-blocked",
        "{blocked}"
    );
    // A yes is to what was seen.
    let body = json!({ "tools": [{ "tool": "echo", "pin": "00".repeat(32), "class": "read" }] });
    let stale = client
        .post_json("/api/v1/mcp/servers/tools/approvals", &body)
        .await;
    assert_eq!(stale.status, 400, "{}", stale.text());
    let body = json!({ "tools": [{ "tool": "echo", "pin": of("echo")["pin"], "class": "read" }] });
    let approved = client
        .post_json("/api/v1/mcp/servers/tools/approvals", &body)
        .await;
    assert_eq!(approved.status, 200, "{}", approved.text());
    assert_eq!(listed(client, "tools").await, ["echo"]);
    let said = call(client, "tools", "echo", json!({ "text": "hé" })).await;
    assert_eq!(said["result"]["content"][0]["text"], "hé", "{said}");
    assert_eq!(house.hits("echo").await, 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_definition_that_changes_is_blocked_until_it_is_approved_again() {
    let house = House::approved().await;
    let client = &house.server.client;
    assert!(listed(client, "tools").await.contains(&"echo".to_owned()));
    Client::new(&house.upstream.url, "").get("/change").await;
    // Nobody is shown the new words, from the first list on.
    let said = ask(client, "tools", "tools/list", json!({})).await.text();
    assert!(
        !said.contains("Says something else") && !said.contains("\"echo\""),
        "{said}"
    );
    eventually("a tool that changed", async || {
        let all = tools_of(client, "tools").await;
        all.iter()
            .any(|it| it["name"] == "echo" && it["state"] == "changed")
            .then_some(())
    })
    .await;
    let before = house.hits("echo").await;
    let blocked = call(client, "tools", "echo", json!({})).await;
    assert_eq!(
        blocked["error"]["data"]["code"], "tool-blocked",
        "{blocked}"
    );
    assert_eq!(house.hits("echo").await, before);
    assert_eq!(
        listed(client, "tools").await.len() + 1,
        tools_of(client, "tools").await.len()
    );
    let entries = client
        .get("/api/v1/audit/entries?action=tool:seen&limit=200")
        .await
        .json();
    assert!(entries.to_string().contains("changed"), "{entries}");
    approve(client, "tools", class_of).await;
    let said = ask(client, "tools", "tools/list", json!({})).await.text();
    assert!(said.contains("Says something else"), "{said}");
    assert!(call(client, "tools", "echo", json!({})).await["result"].is_object());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_agent_uses_what_reads_and_what_a_policy_lets_it() {
    let house = House::approved().await;
    let client = &house.server.client;
    let agent = house.agent("ada").await;
    let own = listed(&agent, "tools").await;
    assert!(own.contains(&"echo".to_owned()), "{own:?}");
    for hidden in ["wipe", "test_sampling"] {
        assert!(!own.contains(&hidden.to_owned()), "{own:?}");
        let refused = call(&agent, "tools", hidden, json!({ "prompt": "x" })).await;
        assert_eq!(refused["error"]["data"]["code"], "forbidden", "{refused}");
        assert_eq!(house.hits(hidden).await, 0);
    }
    assert!(call(&agent, "tools", "echo", json!({ "text": "x" })).await["result"].is_object());
    assert!(listed(client, "tools").await.contains(&"wipe".to_owned()));
    set(
        &house.server,
        "@id(\"no-secrets\") forbid (principal is Skep::Agent, action == Skep::Action::\"tool:use\", \
         resource == Skep::Tool::\"tools/echo\") when { context has tool && context.tool.arguments.hasTag(\"text\") && \
         context.tool.arguments.getTag(\"text\") like \"secret*\" };\
         @id(\"may-wipe\") permit (principal == Skep::Agent::\"ada\", action == Skep::Action::\"tool:use\", \
         resource == Skep::Tool::\"tools/wipe\");\
         @id(\"no-resources\") forbid (principal is Skep::Agent, action == Skep::Action::\"tool:use\", resource) \
         when { resource.name == \":resources\" };",
    )
    .await;
    let hits = house.hits("echo").await;
    let refused = call(&agent, "tools", "echo", json!({ "text": "secret plan" })).await;
    assert_eq!(refused["error"]["data"]["code"], "forbidden", "{refused}");
    // What two readers could read differently is no way round.
    for odd in [
        r#"{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"echo","arguments":{"text":"a","text":"secret"}}}"#,
        r#"{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"echo","arguments":{"text":"a","Text":"secret"}}}"#,
        r#"[{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"echo","arguments":{"text":"secret"}}}]"#,
    ] {
        let said = agent.post("/mcp/tools", odd).await;
        assert_eq!(said.status, 400, "{}", said.text());
    }
    assert_eq!(house.hits("echo").await, hits);
    assert!(call(&agent, "tools", "wipe", json!({})).await["result"].is_object());
    let params = json!({ "uri": "test://static-text" });
    let refused = message(
        &ask(&agent, "tools", "resources/read", params.clone())
            .await
            .text(),
    );
    assert_eq!(refused["error"]["data"]["code"], "forbidden", "{refused}");
    let read = message(&ask(client, "tools", "resources/read", params).await.text());
    assert!(read["result"]["contents"][0]["text"].is_string(), "{read}");
    let unknown = call(client, "tools", "nothing", json!({})).await;
    assert_eq!(unknown["error"]["code"], -32602, "{unknown}");
    let odd = ask(client, "tools", "vendor/anything", json!({})).await;
    assert_eq!(
        (odd.status, &message(&odd.text())["error"]["code"]),
        (404, &json!(-32601))
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_use_is_written_down_and_no_key_is_seen() {
    let house = House::approved().await;
    let client = &house.server.client;
    for _ in 0..3 {
        call(client, "tools", "echo", json!({ "text": "x" })).await;
    }
    call(client, "tools", "test_error_handling", json!({})).await;
    let usage = client.get("/api/v1/mcp/usage").await.json();
    let of = |tool: &str| {
        let items = usage["items"].as_array().cloned().unwrap_or_default();
        items
            .into_iter()
            .find(|it| it["tool"] == tool)
            .unwrap_or_default()
    };
    assert_eq!(
        (&of("echo")["requests"], &of("echo")["failed"]),
        (&json!(3), &json!(0)),
        "{usage}"
    );
    assert_eq!(of("test_error_handling")["failed"], 1, "{usage}");
    let entries = client
        .get("/api/v1/audit/entries?action=tool:use&limit=100")
        .await
        .json();
    let entries = entries["items"].as_array().cloned().expect("it is so");
    let own = entries
        .iter()
        .filter(|it| it.to_string().contains("tools/echo"));
    assert_eq!(own.count(), 3, "{entries:?}");
    // The models' sums are their own.
    let models = client.get("/api/v1/models/usage").await.json();
    assert_eq!(models["items"], json!([]));
    let all = [
        client.get("/api/v1/mcp/servers").await.text(),
        client.get("/api/v1/mcp/servers/tools/tools").await.text(),
        house.server.log(),
    ];
    assert!(all.iter().all(|it| !it.contains(KEY)));
    // Another key is not believed, and is told to nobody.
    let wrong = json!({ "name": "keys/wrong", "value": "canary-wrong" });
    client.post_json("/api/v1/secrets", &wrong).await;
    let settings = json!({
        "url": format!("{}/mcp", house.upstream.url),
        "headers": { "Authorization": "Bearer ${secret:keys/wrong}" },
    });
    assert_eq!(
        put(client, "/api/v1/mcp/servers/wrong", &settings)
            .await
            .status,
        200
    );
    let failed = client.post("/api/v1/mcp/servers/wrong/check", "").await;
    assert_eq!(
        (failed.status, failed.code()),
        (502, "mcp-unreachable".to_owned())
    );
    assert!(!failed.text().contains("canary"), "{}", failed.text());
    let nowhere = json!({ "url": "http://10.1.2.3/mcp" });
    assert_eq!(
        put(client, "/api/v1/mcp/servers/inside", &nowhere)
            .await
            .status,
        200
    );
    let failed = client.post("/api/v1/mcp/servers/inside/check", "").await;
    assert_eq!(failed.status, 502, "{}", failed.text());
    assert!(
        house.server.log().contains("outgoing.allow"),
        "{}",
        house.server.log()
    );
}

/// A session with a server, as clients before 2026 begin one.
pub(crate) async fn session(client: &Client, server: &str) -> String {
    let params = json!({
        "protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": { "name": "test", "version": "1" },
    });
    let hello = within(client, server, None, 1, "initialize", params).await;
    assert_eq!(hello.status, 200, "{}", hello.text());
    let id = hello.header("mcp-session-id").to_owned();
    assert!(!id.is_empty(), "{}", hello.text());
    id
}

pub(crate) async fn within(
    client: &Client,
    server: &str,
    session: Option<&str>,
    id: u64,
    method: &str,
    params: Value,
) -> Answer {
    let body = json!({ "jsonrpc": "2.0", "id": id, "method": method, "params": params });
    let mut request = client.request(Method::POST, &format!("/mcp/{server}"), body.to_string());
    let headers = [
        ("content-type", Some("application/json")),
        ("accept", Some("application/json, text/event-stream")),
        ("mcp-session-id", session),
    ];
    for (name, value) in headers {
        if let Some(value) = value {
            request
                .headers_mut()
                .insert(name, value.parse().expect("it is so"));
        }
    }
    client.send(request).await.expect("it is so")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_session_is_of_who_began_it() {
    let house = House::approved().await;
    let client = &house.server.client;
    let agent = house.agent("ada").await;
    let own = session(client, "tools").await;
    let listed = within(client, "tools", Some(&own), 2, "tools/list", json!({})).await;
    assert_eq!(listed.status, 200, "{}", listed.text());
    let stolen = within(&agent, "tools", Some(&own), 2, "tools/list", json!({})).await;
    assert_eq!(stolen.status, 404, "{}", stolen.text());
    let unknown = within(client, "tools", Some("x"), 2, "tools/list", json!({})).await;
    assert_eq!(unknown.status, 404, "{}", unknown.text());
    let mut end = client.request(Method::DELETE, "/mcp/tools", "");
    end.headers_mut()
        .insert("mcp-session-id", own.parse().expect("it is so"));
    let ended = client.send(end).await.expect("it is so");
    assert_eq!(ended.status, 200, "{}", ended.text());
    let gone = within(client, "tools", Some(&own), 3, "tools/list", json!({})).await;
    assert_eq!(gone.status, 404, "{}", gone.text());
}

pub(crate) fn text(path: &Path) -> String {
    path.display().to_string()
}

/// The filesystem server of the registry, which lets itself see these, and the folders that its box has.
pub(crate) fn files(sees: &[String], folders: &[&Path]) -> Value {
    let program =
        packages().join("node_modules/@modelcontextprotocol/server-filesystem/dist/index.js");
    let mut command = vec![text(&node()), text(&program)];
    command.extend_from_slice(sees);
    let open = folders.iter().map(|it| json!({ "path": text(it) }));
    let code = [packages(), node_folder()];
    let code = code
        .iter()
        .map(|it| json!({ "path": text(it), "read_only": true }));
    json!({ "command": command, "folders": open.chain(code).collect::<Vec<_>>() })
}

/// What the tools of the filesystem server do, by their names.
fn of_files(name: &str) -> &'static str {
    let reads = ["read_", "list_", "get_", "search_", "directory_"];
    match reads.iter().any(|it| name.starts_with(it)) {
        true => "read",
        false => "write",
    }
}

/// Uses a tool of it within a session.
async fn used(client: &Client, session: &str, tool: &str, arguments: Value) -> Value {
    let params = json!({ "name": tool, "arguments": arguments });
    let said = within(client, "files", Some(session), 5, "tools/call", params).await;
    message(&said.text())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_filesystem_server_of_the_registry_reads_in_its_sandbox_and_no_more() {
    let server = start().await;
    let client = &server.client;
    let folder = || tempfile::tempdir().expect("it is so");
    let (open, hidden) = (folder(), folder());
    std::fs::write(open.path().join("paper.txt"), "what bees say").expect("it is so");
    std::fs::write(hidden.path().join("paper.txt"), "canary-hidden").expect("it is so");
    // The second it lets itself see, and the sandbox does not. (What a command names by its full path can be read.)
    let beside = format!(
        "{}{}",
        "../".repeat(20),
        text(hidden.path()).trim_start_matches('/')
    );
    let settings = files(&[text(open.path()), beside], &[open.path()]);
    let made = put(client, "/api/v1/mcp/servers/files", &settings).await;
    assert_eq!(made.status, 200, "{}", made.text());
    let checked = check(client, "files").await;
    assert_eq!(
        (&checked["condition"], &checked["era"]),
        (&json!("well"), &json!("legacy"))
    );
    approve(client, "files", of_files).await;
    server.deploy("ada", json!({})).await;
    let agent = server.agent("ada").await;
    let url = given(&agent, "SKEP_MCP_URL").expect("it is so");
    assert!(url.ends_with("/mcp"), "{url}");
    let agent = Client::new(&client.url, &given(&agent, "SKEP_TOKEN").expect("it is so"));
    let own = session(&agent, "files").await;
    let paper = open.path().join("paper.txt");
    let read = used(
        &agent,
        &own,
        "read_text_file",
        json!({ "path": text(&paper) }),
    )
    .await;
    assert!(read.to_string().contains("what bees say"), "{read}");
    let away = used(
        &agent,
        &own,
        "read_text_file",
        json!({ "path": text(&hidden.path().join("paper.txt")) }),
    )
    .await;
    assert_eq!(away["result"]["isError"], true, "{away}");
    assert!(!away.to_string().contains("canary"), "{away}");
    let change = json!({ "path": text(&paper), "content": "gone" });
    let refused = used(&agent, &own, "write_file", change.clone()).await;
    assert_eq!(refused["error"]["data"]["code"], "forbidden", "{refused}");
    assert_eq!(
        std::fs::read_to_string(&paper).expect("it is so"),
        "what bees say"
    );
    let list = within(&agent, "files", Some(&own), 6, "tools/list", json!({}))
        .await
        .text();
    assert!(
        list.contains("read_text_file") && !list.contains("write_file"),
        "{list}"
    );
    // Whoever may write writes.
    let admin = session(client, "files").await;
    let written = used(client, &admin, "write_file", change).await;
    assert!(written["result"]["isError"] != true, "{written}");
    assert_eq!(std::fs::read_to_string(&paper).expect("it is so"), "gone");
    // Nothing of a session stays.
    let boxes = server.data().join("agents/default/mcp.files/instances");
    assert!(std::fs::read_dir(&boxes).expect("it is so").count() >= 2);
    put(client, "/api/v1/mcp/servers/files", &settings).await;
    eventually("an end of all boxes", async || {
        (std::fs::read_dir(&boxes).ok()?.count() == 0).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_door_leads_to_all_servers_whatever_era_they_speak() {
    let house = House::approved().await;
    let client = &house.server.client;
    let open = tempfile::tempdir().expect("it is so");
    std::fs::write(open.path().join("paper.txt"), "what bees say").expect("it is so");
    let settings = files(&[text(open.path())], &[open.path()]);
    assert_eq!(
        put(client, "/api/v1/mcp/servers/files", &settings)
            .await
            .status,
        200
    );
    check(client, "files").await;
    approve(client, "files", |name| {
        if name == "read_text_file" {
            "read"
        } else {
            "write"
        }
    })
    .await;
    let agent = house.agent("ada").await;
    let read = json!({ "path": text(&open.path().join("paper.txt")) });
    without_a_session(&agent, &read).await;
    within_a_session(&agent, read).await;
    let id = session(&agent, "").await;
    let stolen = within(client, "", Some(&id), 2, "tools/list", json!({})).await;
    assert_eq!(stolen.status, 404, "{}", stolen.text());
    let usage = client.get("/api/v1/mcp/usage").await.json().to_string();
    assert!(
        usage.contains("\"read_text_file\"") && usage.contains("\"echo\""),
        "{usage}"
    );
}

async fn without_a_session(agent: &Client, read: &Value) {
    let door = "";
    // To a program that wants one, and to a server that does not.
    let own = listed(agent, door).await;
    assert!(
        own.contains(&"files__read_text_file".to_owned())
            && own.contains(&"tools__echo".to_owned()),
        "{own:?}"
    );
    assert!(
        !own.contains(&"files__write_file".to_owned()) && !own.contains(&"tools__wipe".to_owned()),
        "{own:?}"
    );
    let said = call(agent, door, "files__read_text_file", read.clone()).await;
    assert!(said.to_string().contains("what bees say"), "{said}");
    assert_eq!(said["result"]["resultType"], "complete", "{said}");
    let said = call(agent, door, "tools__echo", json!({ "text": "x" })).await;
    assert_eq!(said["result"]["content"][0]["text"], "x", "{said}");
    for hidden in ["files__write_file", "tools__wipe"] {
        let refused = call(agent, door, hidden, json!({})).await;
        assert_eq!(refused["error"]["data"]["code"], "forbidden", "{refused}");
    }
    for unknown in [
        "echo",
        "nobody__echo",
        "tools__nothing",
        "tools__tools__echo",
    ] {
        let refused = call(agent, door, unknown, json!({})).await;
        assert_eq!(refused["error"]["code"], -32602, "{refused}");
    }
    let discovered = message(&ask(agent, door, "server/discover", json!({})).await.text());
    assert!(
        discovered["result"]["supportedVersions"]
            .to_string()
            .contains(VERSION),
        "{discovered}"
    );
}

async fn within_a_session(agent: &Client, read: Value) {
    let door = "";
    let id = session(agent, door).await;
    let list = within(agent, door, Some(&id), 2, "tools/list", json!({}))
        .await
        .text();
    assert!(
        list.contains("files__read_text_file") && !list.contains("tools__wipe"),
        "{list}"
    );
    for (tool, arguments) in [
        ("files__read_text_file", read),
        ("tools__echo", json!({ "text": "what bees say" })),
    ] {
        let params = json!({ "name": tool, "arguments": arguments });
        let said = within(agent, door, Some(&id), 3, "tools/call", params)
            .await
            .text();
        assert!(said.contains("what bees say"), "{tool}: {said}");
    }
    // What its headers must say again is said.
    let params = json!({ "name": "tools__test_x_mcp_header", "arguments": { "region": "eu" } });
    let said = within(agent, door, Some(&id), 4, "tools/call", params)
        .await
        .text();
    assert!(said.contains("region=eu"), "{said}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_of_a_program_outlives_a_server_that_was_killed() {
    let mut server = start().await;
    let open = tempfile::tempdir().expect("it is so");
    let mut settings = files(&[text(open.path())], &[open.path()]);
    settings["env"] = json!({ "TOKEN": "${secret:keys/files}" });
    let secret = json!({ "name": "keys/files", "value": "canary-of-a-program" });
    assert_eq!(
        server
            .client
            .post_json("/api/v1/secrets", &secret)
            .await
            .status,
        201
    );
    assert_eq!(
        put(&server.client, "/api/v1/mcp/servers/files", &settings)
            .await
            .status,
        200
    );
    session(&server.client, "files").await;
    let boxes = server.data().join("agents/default/mcp.files/instances");
    let count = || std::fs::read_dir(&boxes).map_or(0, Iterator::count);
    assert_eq!(count(), 1);
    // Its variables are in no file.
    let found = std::process::Command::new("grep")
        .args(["-rl", "canary-of-a-program"])
        .arg(server.data().join("agents"))
        .output();
    assert_eq!(
        String::from_utf8_lossy(&found.expect("it is so").stdout),
        ""
    );
    server.kill();
    server.restart_as_it_was().await;
    assert_eq!(count(), 0);
    session(&server.client, "files").await;
    assert_eq!(count(), 1);
    // Nor one that ended.
    assert!(server.terminate());
    assert_eq!(count(), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_command_line_adds_looks_and_approves() {
    let upstream = Script::start("server.mjs", &[]).await;
    let server = start().await;
    let run = async |words: &[&str]| {
        let output = tokio::process::Command::new(skep_tests::server::skep_binary())
            .args(["--server", &server.client.url, "-o", "json"])
            .args(words)
            .env("SKEP_API_KEY", &server.client.key)
            .output()
            .await
            .expect("it is so");
        let error = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.success(), "{words:?}: {error}");
        serde_json::from_slice::<Value>(&output.stdout).expect("it is so")
    };
    run(&[
        "mcp",
        "add",
        "tools",
        "--url",
        &format!("{}/mcp", upstream.url),
        "--deny",
        "wipe",
    ])
    .await;
    let checked = run(&["mcp", "check", "tools"]).await;
    assert!(
        checked["waiting"].as_u64().expect("it is so") > 20,
        "{checked}"
    );
    run(&["mcp", "approve", "tools", "--all", "--proposed"]).await;
    run(&["mcp", "class", "tools", "test_sampling", "write"]).await;
    let tools = run(&["mcp", "tools", "tools"]).await.to_string();
    assert!(
        tools.contains("approved") && !tools.contains("\"new\""),
        "{tools}"
    );
    assert!(
        !listed(&server.client, "tools")
            .await
            .contains(&"wipe".to_owned())
    );
    let presets = run(&["mcp", "presets"]).await.to_string();
    assert!(presets.contains("brave-search"), "{presets}");
    run(&["mcp", "remove", "tools", "--yes"]).await;
    assert_eq!(
        run(&["mcp", "list"])
            .await
            .to_string()
            .matches("tools")
            .count(),
        0
    );
}
