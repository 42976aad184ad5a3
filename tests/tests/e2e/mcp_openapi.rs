//! Plain web APIs as tools: an API that knows nothing of the protocol, and what of its description can be used through the
//! doors, by whom, and with which requests.

use std::convert::Infallible;
use std::sync::Arc;

use http::{Request, Response, StatusCode};
use http_body_util::{BodyExt as _, Full};
use hyper::body::{Bytes, Incoming};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use parking_lot::Mutex;
use serde_json::{Value, json};
use skep_tests::mcp::message;
use skep_tests::{Client, Server, eventually};
use tokio::net::TcpListener;

use crate::mcp::{KEY, approve, call, check, listed, put, session, start, within};
use crate::policy::set;

/// A web API that remembers what it was asked. It ends with this.
pub(crate) struct Api {
    pub(crate) url: String,
    seen: Arc<Mutex<Vec<Value>>>,
    serving: tokio::task::JoinHandle<()>,
}

impl Drop for Api {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

fn answer(path: &str, key: &str) -> (u16, &'static str, Vec<u8>) {
    let json = "application/json";
    let none = "application/octet-stream";
    match path {
        "/v1/pets/7" => (200, json, br#"{"id":7,"name":"Rex"}"#.to_vec()),
        "/v1/pets" => (200, json, br#"[{"id":7},{"id":8}]"#.to_vec()),
        "/v1/hello" => (200, "text/plain", b"hello".to_vec()),
        "/v1/key" => (200, json, json!({ "key": key }).to_string().into_bytes()),
        "/v1/away" => (302, json, Vec::new()),
        "/v1/long" => (200, json, vec![b' '; 9 << 20]),
        "/v1/bytes" => (200, none, vec![0xff; 3]),
        _ => (
            404,
            json,
            json!({ "error": "no such pet", "shown": key })
                .to_string()
                .into_bytes(),
        ),
    }
}

async fn told(request: Request<Incoming>, seen: Arc<Mutex<Vec<Value>>>) -> Response<Full<Bytes>> {
    let (head, body) = request.into_parts();
    let body = body.collect().await.expect("a body").to_bytes();
    let header = |name: &str| {
        let value = head.headers.get(name);
        value.map(|it| it.to_str().expect("a text").to_owned())
    };
    let key = header("authorization").unwrap_or_default();
    seen.lock().push(json!({
        "method": head.method.as_str(), "target": head.uri.to_string(), "key": key, "body": String::from_utf8_lossy(&body),
        "kind": header("content-type"), "cookie": header("cookie"), "trace": header("x-trace"),
        "mcp": head.headers.keys().any(|it| it.as_str().starts_with("mcp-")),
    }));
    let path = head.uri.path();
    if path == "/v1/late" {
        std::future::pending::<()>().await;
    }
    let (status, kind, body) = answer(path, &key);
    let kind = match path {
        "/v1/bytes" => format!("{kind}+{key}"),
        _ => kind.to_owned(),
    };
    let response = Response::builder().status(StatusCode::from_u16(status).expect("a status"));
    let mut response = response
        .header("content-type", kind)
        .header("location", "/v1/hello");
    if path == "/v1/encoded" {
        response = response.header("content-encoding", "gzip");
    }
    response.body(Full::new(body.into())).expect("an answer")
}

impl Api {
    pub(crate) async fn start() -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.expect("a port");
        let url = format!("http://{}/v1", listener.local_addr().expect("an address"));
        let seen = Arc::new(Mutex::new(Vec::new()));
        let all = seen.clone();
        let serving = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let seen = all.clone();
                let service = service_fn(move |request| {
                    let seen = seen.clone();
                    async move { Ok::<_, Infallible>(told(request, seen).await) }
                });
                tokio::spawn(http1::Builder::new().serve_connection(TokioIo::new(stream), service));
            }
        });
        Self { url, seen, serving }
    }

    pub(crate) fn seen(&self) -> Vec<Value> {
        self.seen.lock().clone()
    }

    fn last(&self) -> Value {
        self.seen().last().cloned().expect("a request")
    }
}

/// What the API says of itself.
pub(crate) fn described(url: &str) -> Value {
    let get = |id: &str| json!({ "get": { "operationId": id } });
    json!({
        "openapi": "3.1.0", "info": { "title": "Pets", "version": "1.0" }, "servers": [{ "url": url }],
        "paths": {
            "/pets": {
                "get": { "operationId": "listPets", "summary": "All pets.", "parameters": [
                    { "name": "tags", "in": "query", "schema": { "type": "array", "items": { "type": "string" } } },
                    { "name": "X-Trace", "in": "header", "schema": { "type": "string" } },
                    { "name": "seen", "in": "cookie", "schema": { "type": "string" } },
                ] },
                "post": { "operationId": "addPet", "requestBody": { "required": true, "content": { "application/json": {
                    "schema": { "$ref": "#/components/schemas/Pet" } } } } },
            },
            "/pets/{id}": {
                "parameters": [{ "name": "id", "in": "path", "required": true, "schema": { "type": "string" } }],
                "get": { "operationId": "getPet" }, "delete": { "operationId": "dropPet" },
            },
            "/hello": get("hello"), "/key": get("key"), "/away": get("away"), "/long": get("long"), "/bytes": get("bytes"),
            "/photo": { "post": { "operationId": "addPhoto", "requestBody": { "required": true, "content": { "multipart/form-data": {} } } } },
        },
        "components": { "schemas": { "Pet": {
            "type": "object", "required": ["name"], "properties": { "name": { "type": "string" } },
        } } },
    })
}

pub(crate) fn class(tool: &str) -> &'static str {
    match tool {
        "addPet" => "write",
        "dropPet" => "execute",
        _ => "read",
    }
}

struct House {
    server: Server,
    api: Api,
}

async fn house() -> House {
    let (server, api) = (start().await, Api::start().await);
    let secret = json!({ "name": "keys/pets", "value": KEY });
    let made = server.client.post_json("/api/v1/secrets", &secret).await;
    assert_eq!(made.status, 201, "{}", made.text());
    let settings = json!({
        "openapi": described(&api.url), "headers": { "Authorization": "Bearer ${secret:keys/pets}" },
    });
    let made = put(&server.client, "/api/v1/mcp/servers/pets", &settings).await;
    assert_eq!(made.status, 200, "{}", made.text());
    let made = made.json();
    assert_eq!(
        (&made["transport"], &made["settings"]["url"]),
        (&json!("openapi"), &json!(api.url))
    );
    assert_eq!(made["api"]["operations"], 9, "{made}");
    assert_eq!(
        made["api"]["left_out"][0]["operation"], "POST /photo",
        "{made}"
    );
    let checked = check(&server.client, "pets").await;
    assert_eq!(
        (&checked["says"], &checked["waiting"]),
        (&json!("Pets 1.0"), &json!(9)),
        "{checked}"
    );
    approve(&server.client, "pets", class).await;
    House { server, api }
}

impl House {
    async fn agent(&self, name: &str) -> Client {
        self.server.deploy(name, json!({})).await;
        let made = self.server.agent(name).await;
        let pid = made["instance"]["pid"].as_u64().expect("a process");
        let bytes = std::fs::read(format!("/proc/{pid}/environ")).expect("its variables");
        let text = String::from_utf8_lossy(&bytes).into_owned();
        let token = text
            .split('\0')
            .find_map(|it| it.strip_prefix("SKEP_TOKEN="));
        Client::new(&self.server.client.url, token.expect("a token"))
    }
}

pub(crate) fn said(answer: &Value) -> &str {
    answer["result"]["content"][0]["text"]
        .as_str()
        .unwrap_or_default()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[expect(
    clippy::too_many_lines,
    reason = "one story, each part of which needs the part before"
)]
async fn operations_are_tools_and_calls_are_requests() {
    let House { server, api } = house().await;
    let client = &server.client;
    // Looking at it asks the API nothing.
    assert_eq!(api.seen().len(), 0);
    let answer = call(client, "pets", "getPet", json!({ "id": "7" })).await;
    assert_eq!(
        answer["result"]["structuredContent"],
        json!({ "id": 7, "name": "Rex" }),
        "{answer}"
    );
    assert_eq!(answer["result"]["resultType"], "complete");
    let last = api.last();
    assert_eq!(
        (&last["method"], &last["target"]),
        (&json!("GET"), &json!("/v1/pets/7"))
    );
    assert_eq!(
        (&last["key"], &last["mcp"]),
        (&json!(format!("Bearer {KEY}")), &json!(false))
    );
    let arguments = json!({ "tags": ["a&b", "c"], "X-Trace": "t", "seen": "x;y" });
    let answer = call(client, "", "pets__listPets", arguments).await;
    assert_eq!(
        answer["result"]["structuredContent"]["result"][1]["id"], 8,
        "{answer}"
    );
    let last = api.last();
    assert_eq!(last["target"], "/v1/pets?tags=a%26b&tags=c");
    assert_eq!(
        (&last["trace"], &last["cookie"]),
        (&json!("t"), &json!("seen=x%3By"))
    );
    call(
        client,
        "pets",
        "addPet",
        json!({ "body": { "name": "Rex" } }),
    )
    .await;
    let last = api.last();
    assert_eq!(
        (&last["method"], &last["kind"]),
        (&json!("POST"), &json!("application/json"))
    );
    assert_eq!(last["body"], r#"{"name":"Rex"}"#);
    assert_eq!(
        said(&call(client, "pets", "hello", json!({})).await),
        "hello"
    );
    // What does not fit is said to who called, and asked of nobody.
    let count = api.seen().len();
    for (tool, arguments, why) in [
        (
            "getPet",
            json!({ "id": "../../admin" }),
            "cannot stand in a path",
        ),
        ("getPet", json!({ "id": ".." }), "cannot stand in a path"),
        (
            "getPet",
            json!({ "id": "7/delete" }),
            "cannot stand in a path",
        ),
        ("getPet", json!({}), "`id` is missing"),
        ("addPet", json!({ "body": {} }), "`body.name` is missing"),
        ("hello", json!({ "x": 1 }), "no such argument"),
    ] {
        let refused = call(client, "pets", tool, arguments).await;
        assert_eq!(refused["result"]["isError"], true, "{refused}");
        assert!(said(&refused).contains(why), "{why}: {refused}");
    }
    assert_eq!(api.seen().len(), count);
    let failed = call(client, "pets", "getPet", json!({ "id": "9" })).await;
    assert_eq!(failed["result"]["isError"], true, "{failed}");
    assert!(
        said(&failed).starts_with("HTTP 404") && said(&failed).contains("no such pet"),
        "{failed}"
    );
    // Its key is said to nobody, and nobody is led elsewhere.
    assert!(!failed.to_string().contains(KEY), "{failed}");
    for tool in ["key", "bytes"] {
        let echoed = call(client, "pets", tool, json!({})).await;
        assert!(!said(&echoed).is_empty(), "{echoed}");
        assert!(!echoed.to_string().contains(KEY), "{echoed}");
    }
    let count = api.seen().len();
    let led = call(client, "pets", "away", json!({})).await;
    assert!(
        said(&led).contains("redirection") && led["result"]["isError"] == true,
        "{led}"
    );
    assert_eq!(api.seen().len(), count + 1);
    let long = call(client, "pets", "long", json!({})).await;
    assert_eq!(long["error"]["data"]["code"], "mcp-unreachable", "{long}");
    assert!(!server.log().contains(KEY));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[expect(
    clippy::too_many_lines,
    reason = "one story, each part of which needs the part before"
)]
async fn they_are_tools_as_all_others() {
    let house = house().await;
    let client = &house.server.client;
    let agent = house.agent("ada").await;
    // Both eras, policies, what is written down, and chains.
    assert!(listed(&agent, "pets").await.contains(&"getPet".to_owned()));
    assert!(!listed(&agent, "pets").await.contains(&"dropPet".to_owned()));
    let refused = call(&agent, "pets", "dropPet", json!({ "id": "7" })).await;
    assert_eq!(refused["error"]["data"]["code"], "forbidden", "{refused}");
    assert_eq!(house.api.seen().len(), 0);
    let hello = within(
        &agent,
        "pets",
        None,
        1,
        "initialize",
        json!({ "protocolVersion": "2025-11-25" }),
    )
    .await;
    let hello = message(&hello.text());
    assert_eq!(hello["result"]["serverInfo"]["name"], "Pets", "{hello}");
    let params = json!({ "name": "getPet", "arguments": { "id": "7" } });
    let used = within(&agent, "pets", None, 2, "tools/call", params).await;
    assert!(used.text().contains("Rex"), "{}", used.text());
    let id = session(&agent, "").await;
    let params = json!({ "name": "pets__getPet", "arguments": { "id": "7" } });
    let used = within(&agent, "", Some(&id), 3, "tools/call", params).await;
    assert!(used.text().contains("Rex"), "{}", used.text());
    let chain = json!({ "composed": [{
        "name": "second", "steps": [
            { "name": "all", "tool": "pets/listPets" },
            { "name": "one", "tool": "pets/getPet", "arguments": { "id": { "value": "7" } } },
        ],
    }] });
    let made = put(client, "/api/v1/mcp/virtuals/desk", &chain).await;
    assert_eq!(made.status, 200, "{}", made.text());
    let answer = call(&agent, "desk", "second", json!({})).await;
    assert_eq!(
        answer["result"]["structuredContent"]["name"], "Rex",
        "{answer}"
    );
    eventually("each use in the log", async || {
        let path = "/api/v1/audit/entries?action=tool:use&limit=200";
        let text = client.get(path).await.text();
        (text.matches("pets/getPet").count() >= 3 && text.contains("pets/dropPet")).then_some(())
    })
    .await;
    eventually("their sums", async || {
        let usage = client.get("/api/v1/mcp/usage").await.json();
        let all = usage["items"].as_array().cloned().unwrap_or_default();
        let own = all.iter().find(|it| it["tool"] == "getPet");
        own.is_some_and(|it| it["requests"] == 3).then_some(())
    })
    .await;
    set(
        &house.server,
        "@id(\"one\") forbid (principal is Skep::Agent, action == Skep::Action::\"tool:use\", \
         resource == Skep::Tool::\"pets/getPet\") when { context has tool && context.tool.arguments.hasTag(\"id\") && \
         context.tool.arguments.getTag(\"id\") != \"7\" };",
    )
    .await;
    let refused = call(&agent, "pets", "getPet", json!({ "id": "8" })).await;
    assert_eq!(refused["error"]["data"]["code"], "forbidden", "{refused}");
    // Another path under the same name is another tool.
    let mut other = described(&house.api.url);
    other["paths"]["/hello"]["get"]["operationId"] = json!("getPet");
    other["paths"]["/pets/{id}"]["get"]["operationId"] = json!("hello");
    let made = put(
        client,
        "/api/v1/mcp/servers/pets",
        &json!({ "openapi": other }),
    )
    .await;
    assert_eq!(made.status, 200, "{}", made.text());
    check(client, "pets").await;
    for tool in ["getPet", "hello"] {
        let blocked = call(client, "pets", tool, json!({ "id": "7" })).await;
        assert_eq!(
            blocked["error"]["data"]["code"], "tool-blocked",
            "{blocked}"
        );
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_approved_at_one_place_is_not_at_another() {
    let house = house().await;
    let client = &house.server.client;
    let other = Api::start().await;
    let path = "/api/v1/mcp/servers/pets";
    // Other settings of the same place change nothing.
    let same =
        json!({ "openapi": described(&house.api.url), "timeout_s": 5, "prices": { "*": "0" } });
    assert_eq!(put(client, path, &same).await.status, 200);
    let answer = call(client, "pets", "hello", json!({})).await;
    assert_eq!(said(&answer), "hello", "{answer}");
    let moved = json!({ "openapi": described(&house.api.url), "url": other.url });
    let made = put(client, path, &moved).await;
    assert_eq!(made.status, 200, "{}", made.text());
    assert!(listed(client, "pets").await.is_empty());
    for is_checked in [false, true] {
        if is_checked {
            check(client, "pets").await;
        }
        let blocked = call(client, "pets", "hello", json!({})).await;
        assert!(blocked["error"].is_object(), "{blocked}");
        let blocked = call(client, "", "pets__hello", json!({})).await;
        assert!(blocked["error"].is_object(), "{blocked}");
    }
    assert_eq!((house.api.seen().len(), other.seen().len()), (1, 0));
    approve(client, "pets", class).await;
    let answer = call(client, "pets", "hello", json!({})).await;
    assert_eq!(
        (said(&answer), other.seen().len()),
        ("hello", 1),
        "{answer}"
    );
    // Nor is what Skep itself was approved for, when the same words lead elsewhere.
    let path = "/api/v1/mcp/servers/skep";
    assert_eq!(
        put(client, path, &json!({ "builtin": true })).await.status,
        200
    );
    check(client, "skep").await;
    approve(client, "skep", |_| "read").await;
    let own = include_str!("../../../crates/mcp/src/openapi/skep.json");
    let own: Value = serde_json::from_str(own).expect("JSON");
    let moved = json!({ "openapi": own, "url": other.url });
    let made = put(client, path, &moved).await;
    assert_eq!(made.status, 200, "{}", made.text());
    check(client, "skep").await;
    let blocked = call(client, "skep", "list_agents", json!({})).await;
    assert_eq!(
        blocked["error"]["data"]["code"], "tool-blocked",
        "{blocked}"
    );
    assert_eq!(other.seen().len(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn descriptions_are_looked_at_before_they_are_taken() {
    let server = start().await;
    let client = &server.client;
    let api = Api::start().await;
    let path = "/api/v1/mcp/servers/pets";
    let mut nowhere = described(&api.url);
    nowhere["servers"] = json!([]);
    let mut long = described(&api.url);
    long["info"]["description"] = json!("x".repeat(1 << 20));
    // Each of these names all that one of them may.
    let mut wide = described(&api.url);
    let named = json!({ "$ref": "#/components/schemas/Wide" });
    let all = (0..4_000).map(|it| (format!("f{it}"), named.clone()));
    let all = json!({ "properties": all.collect::<serde_json::Map<_, _>>() });
    wide["components"]["schemas"]["All"] = all;
    wide["components"]["schemas"]["Wide"] = json!({ "enum": vec![0; 200_000] });
    let body = json!({ "content": { "application/json": { "schema": { "$ref": "#/components/schemas/All" } } } });
    for it in 0..300 {
        wide["paths"][format!("/wide{it}")] = json!({ "post": { "requestBody": body } });
    }
    for (settings, why) in [
        (json!({ "openapi": { "swagger": "2.0" } }), "Swagger 2.0"),
        (
            json!({ "openapi": { "swagger": "2.0" }, "url": api.url }),
            "Swagger 2.0",
        ),
        (
            json!({ "openapi": nowhere }),
            "`openapi`: the description does not say",
        ),
        (json!({ "openapi": long }), "1 MiB"),
        (json!({ "openapi": wide }), "in `allow`"),
        (
            json!({ "openapi": described(&api.url), "allow": ["nothing"] }),
            "no operation",
        ),
        (
            json!({ "openapi": described(&api.url), "command": ["x"] }),
            "one of `url`, `openapi`, `command` and `builtin`",
        ),
        (
            json!({ "openapi": described(&api.url), "url": "ftp://x" }),
            "`url`: it begins with",
        ),
    ] {
        let refused = put(client, path, &settings).await;
        assert_eq!(refused.status, 400, "{}", refused.text());
        assert!(refused.text().contains(why), "{why}: {}", refused.text());
    }
    // Addresses that are none of the internet are as far away as for other servers.
    let inside = json!({ "openapi": described("http://10.1.2.3") });
    assert_eq!(put(client, path, &inside).await.status, 200);
    check(client, "pets").await;
    approve(client, "pets", class).await;
    let failed = call(client, "pets", "hello", json!({})).await;
    assert_eq!(
        failed["error"]["data"]["code"], "mcp-unreachable",
        "{failed}"
    );
    assert!(server.log().contains("outgoing.allow"), "{}", server.log());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_command_line_reads_json_and_yaml() {
    let server = start().await;
    let api = Api::start().await;
    let folder = tempfile::tempdir().expect("a folder");
    let run = async |words: &[&str]| {
        let output = tokio::process::Command::new(skep_tests::server::skep_binary())
            .args(["--server", &server.client.url, "-o", "json"])
            .args(words)
            .env("SKEP_API_KEY", &server.client.key)
            .output()
            .await
            .expect("it runs");
        let error = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.success(), "{words:?}: {error}");
        (
            serde_json::from_slice::<Value>(&output.stdout).expect("JSON"),
            error,
        )
    };
    let file = folder.path().join("pets.json");
    std::fs::write(&file, described("https://pets.invalid").to_string()).expect("a file");
    let file = file.display().to_string();
    let words = [
        "mcp",
        "add",
        "pets",
        "--openapi",
        &file,
        "--base-url",
        &api.url,
        "--only",
        "*Pet*",
    ];
    let (made, told) = run(&words).await;
    assert_eq!(
        (&made["api"]["operations"], &made["settings"]["url"]),
        (&json!(4), &json!(api.url)),
        "{made}"
    );
    assert!(made["settings"].get("openapi").is_none(), "{made}");
    assert!(told.contains("4 operations are tools"), "{told}");
    let yaml = "openapi: 3.0.3\ninfo: { title: Hello, version: '1' }\npaths:\n  /hello:\n    get: { operationId: hello, responses: { 200: { description: ok } } }\n  \
                /photo:\n    post:\n      requestBody: { required: true, content: { multipart/form-data: {} } }\n";
    let file = folder.path().join("hello.yaml");
    std::fs::write(&file, yaml).expect("a file");
    let file = file.display().to_string();
    let (made, told) = run(&[
        "mcp",
        "add",
        "hi",
        "--openapi",
        &file,
        "--base-url",
        &api.url,
    ])
    .await;
    assert_eq!(made["api"]["title"], "Hello", "{made}");
    assert!(
        told.contains(
            "Left out: POST /photo: its body cannot be said: it is neither JSON nor a form"
        ),
        "{told}"
    );
    run(&["mcp", "check", "hi"]).await;
    run(&["mcp", "approve", "hi", "--all", "--proposed"]).await;
    let answer = call(&server.client, "hi", "hello", json!({})).await;
    assert_eq!(said(&answer), "hello", "{answer}");
}
