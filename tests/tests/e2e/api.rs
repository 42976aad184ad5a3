//! The management API: keys, headers, paging, strictness.

use http::{HeaderValue, Method};
use serde_json::{Value, json};
use skep_tests::{Client, Server};

/// Every route of the API with its methods, as the server documents them.
pub(crate) async fn documented(server: &Server) -> Vec<(Method, String)> {
    let document = server.client.get("/api/v1/openapi.json").await.json();
    assert!(
        document["openapi"]
            .as_str()
            .is_some_and(|version| version.starts_with("3.1"))
    );
    let paths = document["paths"].as_object().cloned().expect("paths");
    let mut routes = Vec::new();
    for (path, item) in paths {
        for method in item.as_object().expect("methods").keys() {
            routes.push((
                method.to_uppercase().parse().expect("a method"),
                path.clone(),
            ));
        }
    }
    routes
}

/// As [`documented`], of things that there are not.
async fn routes(server: &Server) -> Vec<(Method, String)> {
    let mut all = documented(server).await;
    for (_, path) in &mut all {
        *path = path
            .replace("{agent}", "nobody")
            .replace("{call}", "call_01h455vb4pex5vsknk084sn02q")
            .replace("{provider}", "nobody");
    }
    all
}

#[tokio::test]
async fn every_route_but_the_public_ones_needs_a_key() {
    let server = Server::start().await;
    let public = [
        (Method::GET, "/api/v1/health/basic"),
        (Method::GET, "/api/v1/providers"),
    ];
    // Who comes there has nothing to show yet; a body that is none is refused as such.
    let before = [
        "/api/v1/sessions",
        "/api/v1/sessions/proven",
        "/api/v1/invitations/accept",
    ];
    // Here there is no provider.
    let nowhere = ["/api/v1/login/nobody", "/api/v1/callback/nobody"];
    let mut all = routes(&server).await;
    assert!(all.len() > 15, "{all:?}");
    let more = [
        "/metrics",
        "/agents/nobody/x",
        "/nowhere",
        "/",
        "/api/v1/nowhere",
    ];
    all.extend(more.map(|path| (Method::GET, path.to_owned())));
    all.push((Method::POST, "/agents/nobody/x".to_owned()));
    for key in ["skep_wrong", ""] {
        let stranger = Client::new(&server.client.url, key);
        for (method, path) in &all {
            let request = stranger.request(method.clone(), path, "{}");
            let answer = stranger.send(request).await.expect("an answer");
            if public.contains(&(method.clone(), path.as_str())) {
                assert_eq!(answer.status, 200, "{method} {path}");
            } else if nowhere.contains(&path.as_str()) {
                assert_eq!(answer.code(), "provider-not-found", "{method} {path}");
            } else if method == Method::POST && before.contains(&path.as_str()) {
                assert_eq!(answer.status, 415, "{method} {path}");
            } else {
                assert_eq!(
                    (answer.status, answer.code().as_str()),
                    (401, "unauthorized"),
                    "{method} {path}"
                );
                assert!(answer.header("www-authenticate").starts_with("Bearer"));
            }
        }
    }
}

#[tokio::test]
async fn every_answer_carries_the_headers_of_safety_and_its_request() {
    let server = Server::start().await;
    server.deploy("a", json!({})).await;
    for path in [
        "/agents/a/x",
        "/agents/nobody/x",
        "/api/v1/agents",
        "/nowhere",
        "/metrics",
        "/docs/errors/call-dead",
    ] {
        let answer = server.client.get(path).await;
        for name in [
            "content-security-policy",
            "x-content-type-options",
            "x-frame-options",
            "referrer-policy",
            "permissions-policy",
            "cross-origin-opener-policy",
            "cross-origin-resource-policy",
        ] {
            assert!(!answer.header(name).is_empty(), "{path} has no {name}");
        }
        let request = answer.header("skep-request-id");
        assert!(request.starts_with("req_"), "{path}");
        if answer.status >= 400 {
            assert_eq!(answer.json()["request_id"], request);
            assert_eq!(answer.header("content-type"), "application/problem+json");
        }
        assert!(
            !answer.headers.contains_key("access-control-allow-origin"),
            "{path}"
        );
    }
}

#[tokio::test]
async fn a_problem_names_its_page() {
    let server = Server::start().await;
    let answer = server.client.get("/api/v1/agents/helo").await;
    assert_eq!(answer.code(), "agent-not-found");
    let page = answer.json()["type"]
        .as_str()
        .unwrap_or_default()
        .to_owned();
    assert_eq!(page, "/docs/errors/agent-not-found");
    let page = Client::new(&server.client.url, "").get(&page).await;
    assert!(
        page.text().starts_with("# agent-not-found"),
        "{}",
        page.text()
    );
}

#[tokio::test]
async fn lists_are_paged() {
    let server = Server::start().await;
    server.deploy("a", json!({})).await;
    let mut made = Vec::new();
    for number in 0..5 {
        made.push(server.post("a", "/work", &number.to_string()).await.call());
    }
    let (mut seen, mut cursor) = (Vec::new(), String::new());
    loop {
        let page = server
            .client
            .get(&format!("/api/v1/calls?limit=2{cursor}"))
            .await
            .json();
        let items = page["items"].as_array().cloned().expect("items");
        assert!(items.len() <= 2);
        seen.extend(
            items
                .iter()
                .filter_map(|call| call["id"].as_str().map(str::to_owned)),
        );
        match page["next"].as_str() {
            Some(next) => cursor = format!("&cursor={next}"),
            None => break,
        }
    }
    seen.reverse();
    assert_eq!(seen, made, "newest first, each once");
    let of_state = server
        .client
        .get("/api/v1/calls?state=failed&agent=a")
        .await
        .json();
    assert_eq!(of_state["items"], json!([]));
}

#[tokio::test]
async fn what_is_not_understood_is_refused() {
    let server = Server::start().await;
    for path in [
        "/api/v1/calls?limit=0",
        "/api/v1/calls?limit=1001",
        "/api/v1/calls?state=sleeping",
        "/api/v1/calls?cursor=nonsense",
        "/api/v1/calls?colour=red",
        "/api/v1/agents?limit=x",
    ] {
        let answer = server.client.get(path).await;
        assert_eq!(
            (answer.status, answer.code().as_str()),
            (400, "bad-request"),
            "{path}"
        );
    }
    for (spec, status) in [
        (json!({ "name": "A", "command": ["true"] }), 422),
        (json!({ "name": "a" }), 422),
        (json!({ "name": "a", "command": [] }), 422),
        (
            json!({ "name": "a", "command": ["true"], "colour": "red" }),
            422,
        ),
        (
            json!({ "name": "a", "command": ["true"], "calls": { "attempts": 0 } }),
            422,
        ),
        (
            json!({ "name": "a", "command": ["true"], "driver": "magic" }),
            422,
        ),
        (json!({ "name": "a", "command": ["/no/such/program"] }), 422),
        (
            json!({ "name": "a", "command": ["true"], "env": { "PORT": "1" } }),
            422,
        ),
    ] {
        let answer = server.client.post_json("/api/v1/agents", &spec).await;
        assert_eq!(
            (answer.status, answer.code().as_str()),
            (status, "invalid-spec"),
            "{spec}"
        );
        assert!(
            !answer.json()["hint"]
                .as_str()
                .unwrap_or_default()
                .is_empty()
        );
    }
    let no_json = server.client.post("/api/v1/agents", "{}").await;
    assert_eq!(
        (no_json.status, no_json.code().as_str()),
        (415, "unsupported-media-type")
    );
    let mut request = server.client.request(Method::POST, "/api/v1/agents", "{");
    request
        .headers_mut()
        .insert("content-type", HeaderValue::from_static("application/json"));
    let broken = server.client.send(request).await.expect("an answer");
    assert_eq!(
        (broken.status, broken.code().as_str()),
        (400, "bad-request")
    );
    let wrong_method = server.client.post("/api/v1/health/basic", "").await;
    assert_eq!(
        (wrong_method.status, wrong_method.code().as_str()),
        (405, "method-not-allowed")
    );
}

#[tokio::test]
async fn the_same_specification_makes_no_revision_and_another_one_does() {
    let server = Server::start().await;
    let spec = |note: &str| {
        json!({
            "name": "a", "command": [skep_tests::agent_binary()], "env": { "NOTE": note },
        })
    };
    let first = server.client.post_json("/api/v1/agents", &spec("1")).await;
    assert_eq!(
        (first.status, first.json()["revision"].as_u64()),
        (201, Some(1))
    );
    let same = server.client.post_json("/api/v1/agents", &spec("1")).await;
    assert_eq!(
        (same.status, same.json()["revision"].as_u64()),
        (200, Some(1))
    );
    let other = server.client.post_json("/api/v1/agents", &spec("2")).await;
    assert_eq!(
        (other.status, other.json()["revision"].as_u64()),
        (200, Some(2))
    );
    let revisions = server.client.get("/api/v1/agents/a/revisions").await.json();
    let notes: Vec<Value> = revisions["items"]
        .as_array()
        .expect("items")
        .iter()
        .map(|r| r["spec"]["env"]["NOTE"].clone())
        .collect();
    assert_eq!(notes, ["2", "1"]);
}

#[tokio::test]
async fn health_and_metrics_tell_what_happened() {
    let server = Server::start().await;
    server
        .deploy("a", json!({ "backoff": "1ms", "attempts": 2 }))
        .await;
    server.post("a", "/work", "x").await;
    server.post("a", "/flaky?fails=9", "x").await;
    server.client.get("/agents/a/x").await;
    let health = server.client.get("/api/v1/health/detailed").await;
    assert_eq!(
        (health.status, health.json()["status"].as_str()),
        (200, Some("ok")),
        "{}",
        health.text()
    );
    let checks = health.json()["checks"].as_array().cloned().expect("checks");
    let names: Vec<&str> = checks
        .iter()
        .filter_map(|check| check["name"].as_str())
        .collect();
    for name in ["store", "disk", "memory", "driver:process"] {
        assert!(names.contains(&name), "{names:?}");
    }
    assert_eq!(health.json()["agents"][0]["name"], "a");
    let metrics = server.client.get("/metrics").await.text();
    for line in [
        r#"skep_calls_accepted_total{workspace="default",agent="a"} 2"#,
        r#"skep_calls_ended_total{workspace="default",agent="a",end="succeeded"} 1"#,
        r#"skep_calls_ended_total{workspace="default",agent="a",end="dead"} 1"#,
        r#"skep_attempts_total{workspace="default",agent="a",end="retry_status"} 2"#,
        r#"skep_passed_requests_total{workspace="default",agent="a"} 1"#,
        r#"skep_call_duration_seconds_count{workspace="default",agent="a"} 2"#,
        r#"skep_instances{state="ready"} 1"#,
        "skep_store_writable 1",
        "skep_build_info{version=",
    ] {
        assert!(metrics.contains(line), "no `{line}` in:\n{metrics}");
    }
}

#[tokio::test]
async fn logs_tell_what_the_agent_wrote() {
    let server = Server::start().await;
    let script = r#"echo "starting up"; echo "a complaint" >&2; exec "$AGENT""#;
    let agent = skep_tests::agent_binary();
    let spec = json!({
        "name": "a",
        "command": ["sh", "-c", script],
        "env": { "AGENT": agent },
        "volumes": [{ "source": agent, "read_only": true }],
    });
    server.deploy_spec(spec).await;
    let logs = server.client.get("/api/v1/agents/a/logs").await;
    let lines: Vec<Value> = logs
        .text()
        .lines()
        .map(|line| serde_json::from_str(line).expect("JSON lines"))
        .collect();
    let find = |text: &str| {
        lines
            .iter()
            .find(|line| line["text"] == text)
            .cloned()
            .unwrap_or(Value::Null)
    };
    assert_eq!(find("starting up")["stream"], "stdout");
    assert_eq!(find("a complaint")["stream"], "stderr");
    let filtered = server
        .client
        .get("/api/v1/agents/a/logs?filter=complaint&tail=1")
        .await;
    assert_eq!(filtered.text().lines().count(), 1);
}

#[tokio::test]
async fn an_agent_with_open_calls_is_removed_by_force_only() {
    let server = Server::start().await;
    server.deploy("a", json!({})).await;
    let mut request = server.client.request(Method::POST, "/agents/a/hang", "");
    request
        .headers_mut()
        .insert("prefer", HeaderValue::from_static("respond-async"));
    let call = server.client.send(request).await.expect("an answer").call();
    server.wait_call(&call, "running").await;
    let delete = |query: &str| {
        server
            .client
            .request(Method::DELETE, &format!("/api/v1/agents/a{query}"), "")
    };
    let refused = server.client.send(delete("")).await.expect("an answer");
    assert_eq!(
        (refused.status, refused.code().as_str()),
        (409, "agent-state")
    );
    let removed = server
        .client
        .send(delete("?force=true"))
        .await
        .expect("an answer");
    assert_eq!(removed.status, 204);
    assert_eq!(server.call(&call).await["state"], "cancelled");
    assert_eq!(server.post("a", "/x", "").await.code(), "agent-not-found");
    server.deploy("a", json!({})).await;
    assert_eq!(server.post("a", "/work", "new").await.text(), "new");
}
