//! Two teams on one server: nothing of the one is there for the other, by any route and method.

use std::collections::BTreeSet;

use http::{HeaderName, HeaderValue, Method};
use serde_json::{Value, json};
use skep_tests::{Answer, Client, Server};

use crate::agui::input;
use crate::api::documented;
use crate::people::join;

/// A key of an owner of a new workspace.
async fn team(server: &Server, name: &str) -> Client {
    let wish = json!({ "name": name });
    let made = server.client.post_json("/api/v1/workspaces", &wish).await;
    assert_eq!(made.status, 201, "{}", made.text());
    let made = made.json();
    let key = made["secret"].as_str().expect("a key");
    Client::new(&server.client.url, key)
}

async fn deploy(client: &Client, name: &str) {
    let command = vec![skep_tests::agent_binary()];
    let spec = json!({ "name": name, "command": command });
    let deployed = client.post_json("/api/v1/agents?wait=ready", &spec).await;
    assert!(deployed.status < 300, "{}", deployed.text());
    let ready = async || {
        let agent = client.get(&format!("/api/v1/agents/{name}")).await.json();
        (agent["state"] == "ready").then_some(())
    };
    skep_tests::eventually("an agent that is ready", ready).await;
}

/// All that a team has, by the names that routes give it.
struct Things {
    ids: Vec<(&'static str, String)>,
    /// What nobody else may read.
    private: Vec<String>,
}

async fn fill(client: &Client) -> Things {
    deploy(client, "treasure").await;
    let called = client.post("/agents/treasure/work", "the-plan").await;
    assert_eq!(called.status, 200, "{}", called.text());
    let asked = input("red-thread", "red-run");
    let ran = client.post("/agents/treasure/agui", asked).await;
    assert_eq!(ran.status, 200, "{}", ran.text());
    let run = client.get("/api/v1/runs").await.json()["items"][0].clone();
    let user = join(client, "rita@red.example", "member").await;
    let wish = json!({ "email": "guest@red.example", "role": "viewer" });
    let invited = client.post_json("/api/v1/invitations", &wish).await.json();
    let wish = json!({ "name": "red-ci", "role": "member" });
    let key = client.post_json("/api/v1/keys", &wish).await.json();
    let text = "@id(\"red-rule\") forbid (principal, action, resource) when { false };";
    let mut set = client.request(
        Method::PUT,
        "/api/v1/policy",
        json!({ "text": text }).to_string(),
    );
    let json_type = HeaderValue::from_static("application/json");
    set.headers_mut().insert("content-type", json_type);
    let set = client.send(set).await.expect("an answer");
    assert_eq!(set.status, 200, "{}", set.text());
    let url = json!({ "url": "https://tools.red.example/mcp" }).to_string();
    let mut tools = client.request(Method::PUT, "/api/v1/mcp/servers/red-tools", url);
    let json_type = HeaderValue::from_static("application/json");
    tools.headers_mut().insert("content-type", json_type);
    let tools = client.send(tools).await.expect("an answer");
    assert_eq!(tools.status, 200, "{}", tools.text());
    let desk = json!({ "tools": [{ "tool": "red-tools/*" }] }).to_string();
    let desk = ask(client, &Method::PUT, "/api/v1/mcp/virtuals/red-desk", &desk);
    let desk = desk.await;
    assert_eq!(desk.status, 200, "{}", desk.text());
    let hook = json!({ "url": "https://hooks.red.example/x", "events": ["agent.*"] });
    let hook = hook.to_string();
    let hook = ask(client, &Method::PUT, "/api/v1/webhooks/red-hook", &hook).await;
    assert_eq!(hook.status, 200, "{}", hook.text());
    let prompt = json!({ "messages": [{ "role": "user", "content": "red-text" }] });
    let made = client.post_json("/api/v1/prompts/red-prompt/versions", &prompt);
    assert_eq!(made.await.status, 201);
    let entries = client.get("/api/v1/audit/entries").await.json();
    let number = entries["items"][0]["number"].to_string();
    let id = |value: &Value| value["id"].as_str().expect("an id").to_owned();
    let ids = vec![
        ("server", "red-tools".to_owned()),
        ("virtual", "red-desk".to_owned()),
        ("webhook", "red-hook".to_owned()),
        ("prompt", "red-prompt".to_owned()),
        ("label", "production".to_owned()),
        ("agent", "treasure".to_owned()),
        ("call", called.call()),
        ("run", id(&run)),
        (
            "thread",
            run["thread"].as_str().expect("a thread").to_owned(),
        ),
        ("user", id(&user)),
        ("invitation", id(&invited)),
        ("key", id(&key)),
        ("number", number),
        ("workspace", "red".to_owned()),
    ];
    let mut private: Vec<String> = [
        "treasure",
        "the-plan",
        "red.example",
        "red-ci",
        "red-rule",
        "red-text",
        "red-thread",
    ]
    .map(str::to_owned)
    .to_vec();
    private.extend(
        ids.iter()
            .map(|(_, id)| id.clone())
            .filter(|id| id.contains('_')),
    );
    Things { ids, private }
}

/// The state of a team, as its owner sees it.
async fn state(client: &Client) -> Vec<String> {
    let mut all = Vec::new();
    for path in [
        "agents",
        "calls",
        "runs",
        "threads",
        "users",
        "invitations",
        "keys",
        "policy",
        "mcp/servers",
        "mcp/virtuals",
        "webhooks",
        "prompts",
    ] {
        let answer = client.get(&format!("/api/v1/{path}")).await;
        assert_eq!(answer.status, 200, "{path}: {}", answer.text());
        let mut value = answer.json();
        for item in value["items"].as_array_mut().into_iter().flatten() {
            // What moves by itself, and by looking.
            for moving in ["used_at", "age", "instances", "load", "waiting"] {
                item.as_object_mut().and_then(|it| it.remove(moving));
            }
        }
        all.push(value.to_string());
    }
    all
}

async fn ask(client: &Client, method: &Method, path: &str, body: &str) -> Answer {
    let mut request = client.request(method.clone(), path, body.to_owned());
    let json_type = HeaderValue::from_static("application/json");
    request.headers_mut().insert("content-type", json_type);
    client.send(request).await.expect("an answer")
}

/// A body that a route takes.
fn body(method: &Method, path: &str) -> String {
    let body = match (method.as_str(), path) {
        ("PUT", "/api/v1/users/{user}/role") => json!({ "role": "viewer" }),
        ("POST", "/api/v1/keys/{key}/rotate") => json!({ "overlap": "0s" }),
        ("PUT", "/api/v1/agents/{agent}/layers/origin") => {
            json!({ "agent": "a", "epoch": 1, "memory": "m" })
        }
        ("POST", "/api/v1/agents/{agent}/rollback") => json!({}),
        ("PUT", "/api/v1/prompts/{prompt}/labels/{label}") => {
            json!({ "versions": [{ "version": 1 }] })
        }
        ("POST", "/api/v1/mcp/servers/{server}/approvals") => {
            json!({ "tools": [{ "tool": "x", "pin": "00" }] })
        }
        ("PUT", "/api/v1/mcp/virtuals/{virtual}") => {
            json!({ "tools": [{ "tool": "red-tools/*" }] })
        }
        ("PUT", "/api/v1/mcp/servers/{server}/classes") => json!({ "tool": "x", "class": "read" }),
        _ => json!({}),
    };
    body.to_string()
}

/// Routes that stay open, or would take away from who asks what the test goes on with.
fn is_own(method: &Method, path: &str) -> bool {
    matches!(
        (method.as_str(), path),
        (
            "GET",
            "/api/v1/events/stream" | "/api/v1/calls/stream" | "/api/v1/runs/stream"
        ) | ("POST", "/api/v1/agents/{agent}/exec")
    )
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_of_one_workspace_is_there_for_another() {
    let server = Server::start().await;
    let red = team(&server, "red").await;
    let blue = team(&server, "blue").await;
    let things = fill(&red).await;
    let before = state(&red).await;
    let mut asked = BTreeSet::new();
    // First what lists things: later blue finds its own questions in its own log.
    let mut routes = documented(&server).await;
    routes.sort_by_key(|(_, route)| route.contains('{'));
    for (method, route) in routes {
        if is_own(&method, &route) {
            continue;
        }
        let mut path = route.clone();
        for (name, id) in &things.ids {
            path = path.replace(&format!("{{{name}}}"), id);
        }
        let names_another = path != route;
        let answer = ask(&blue, &method, &path, &body(&method, &route)).await;
        let text = answer.text();
        assert_ne!(answer.status, 401, "{method} {route}: {text}");
        // One of that name would be blue's own.
        let makes = [
            "/archive",
            "/layers",
            "/mcp/servers/{server}",
            "/mcp/virtuals/{virtual}",
            "/webhooks/{webhook}",
            "/prompts/{prompt}/versions",
        ];
        let makes = makes.iter().any(|end| route.ends_with(end));
        if makes && matches!(method, Method::PUT | Method::POST) {
            assert!(matches!(answer.status, 400 | 422), "{text}");
        } else if names_another {
            assert!(
                matches!(answer.status, 403..=405),
                "{method} {route}: {} {text}",
                answer.status
            );
            asked.insert(format!("{method} {route}"));
        }
        if answer.status < 300 && !names_another {
            for secret in &things.private {
                assert!(
                    !text.contains(secret),
                    "{method} {route} tells {secret}: {text}"
                );
            }
        }
    }
    assert!(asked.len() > 25, "{asked:?}");
    what_others_have_is_as_what_nobody_has(&blue).await;
    what_all_share_is_for_default(&server, &blue).await;
    // Blue may have an agent of the same name: they are two.
    deploy(&blue, "treasure").await;
    let own = blue.post("/agents/treasure/work", "mine").await;
    assert_eq!(own.text(), "mine");
    let gone = ask(&blue, &Method::DELETE, "/api/v1/agents/treasure", "").await;
    assert!(gone.status < 300, "{}", gone.text());
    // And nothing of red's was changed by all this.
    assert_eq!(state(&red).await, before);
    let still = red.post("/agents/treasure/work", "again").await;
    assert_eq!(still.text(), "again");
}

async fn what_others_have_is_as_what_nobody_has(blue: &Client) {
    // What answers for a nonexistent thing is the same, word for word but for its name.
    let (theirs, nobodys) = ("treasure", "trensure");
    let said = async |name: &str| {
        let answer = blue.get(&format!("/api/v1/agents/{name}")).await;
        let mut said = answer.json();
        said["request_id"] = Value::Null;
        (answer.status, said.to_string().replace(name, "NAME"))
    };
    assert_eq!(said(theirs).await, said(nobodys).await);
    // Naming the workspace does not help either.
    let mut request = blue.request(Method::GET, "/api/v1/agents", "");
    let name = HeaderName::from_static("skep-workspace");
    request
        .headers_mut()
        .insert(name, HeaderValue::from_static("red"));
    let refused = blue.send(request).await.expect("an answer");
    assert_eq!(
        (refused.status, refused.code().as_str()),
        (404, "workspace-not-found")
    );
}

async fn what_all_share_is_for_default(server: &Server, blue: &Client) {
    for path in [
        "/metrics",
        "/api/v1/servers",
        "/api/v1/health/detailed",
        "/api/v1/backups",
    ] {
        assert_eq!(blue.get(path).await.status, 403, "{path}");
        assert_eq!(server.client.get(path).await.status, 200, "{path}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn another_server_has_a_workspace_and_its_people_at_once() {
    let postgres = skep_tests::postgres::Postgres::start();
    let one = Server::start_with(crate::postgres::on(&postgres)).await;
    let two = crate::servers::beside(&one, &postgres).await;
    let red = team(&one, "red").await;
    let there = Client::new(&two.client.url, &red.key);
    skep_tests::eventually("the key on the other server", async || {
        (there.get("/api/v1/agents").await.status == 200).then_some(())
    })
    .await;
    // Deployed at one server, called at either.
    deploy(&there, "treasure").await;
    for client in [&red, &there] {
        let answer = client.post("/agents/treasure/work", "x").await;
        assert_eq!((answer.status, answer.text()), (200, "x".to_owned()));
    }
    let blue = team(&two, "blue").await;
    let listed = blue.get("/api/v1/agents").await.json();
    assert_eq!(listed["items"], json!([]));
    // Who joined at one logs in at the other, and what one ends is ended at both.
    join(&red, "rita@red.example", "member").await;
    let wish = json!({
        "email": "rita@red.example", "password": crate::people::PASSWORD, "token": true,
    });
    let nobody = Client::new(&two.client.url, "");
    let begun = nobody.post_json("/api/v1/sessions", &wish).await;
    assert_eq!(begun.status, 201, "{}", begun.text());
    let token = begun.json()["token"].as_str().expect("a token").to_owned();
    let (here, over) = (
        Client::new(&one.client.url, &token),
        Client::new(&two.client.url, &token),
    );
    for client in [&here, &over] {
        assert_eq!(client.get("/api/v1/me").await.json()["workspace"], "red");
    }
    let ended = ask(&here, &Method::DELETE, "/api/v1/sessions/current", "").await;
    assert_eq!(ended.status, 204, "{}", ended.text());
    for client in [&here, &over] {
        assert_eq!(client.get("/api/v1/me").await.status, 401);
    }
}
