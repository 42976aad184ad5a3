//! What looks like an attack is found at a real server's door, and told in each place that it is told in.

use serde_json::{Value, json};
use skep_tests::client::Client;
use skep_tests::{Server, eventually};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use crate::cli::skep;
use crate::engine::{Engine, on_each_engine};

async fn detections(server: &Server, query: &str) -> Vec<Value> {
    let path = format!("/api/v1/security/detections?{query}");
    let page = server.client.get(&path).await;
    assert_eq!(page.status, 200, "{}", page.text());
    page.json()["items"].as_array().cloned().unwrap_or_default()
}

async fn found(server: &Server, kind: &str) -> Value {
    eventually(kind, async || {
        let all = detections(server, &format!("kind={kind}")).await;
        all.into_iter().next()
    })
    .await
}

async fn who_tries_keys_or_rights_is_found(engine: Engine) {
    let server = engine.server().await;
    server.deploy("a", json!({})).await;
    let stranger = Client::new(&server.client.url, "skep_nonsense");
    for _ in 0..30 {
        assert_eq!(stranger.get("/api/v1/agents").await.status, 401);
    }
    let tried = found(&server, "failed-authentications").await;
    assert_eq!(tried["severity"], "high");
    assert_eq!(tried["subject_kind"], "Person");
    let made = skep(&server, &["keys", "create", "eye", "--role", "viewer"]);
    let eye = Client::new(&server.client.url, made.out.trim());
    for _ in 0..30 {
        assert_eq!(eye.post("/api/v1/agents/a/stop", "").await.status, 403);
    }
    let denied = found(&server, "denials").await;
    assert_eq!(denied["subject_kind"], "ApiKey");
    // Once each, however often it was tried.
    assert_eq!(detections(&server, "").await.len(), 2);
    assert_eq!(detections(&server, "severity=high").await.len(), 1);
    let page = server
        .client
        .get("/api/v1/security/detections?limit=1")
        .await;
    let next = page.json()["next"]
        .as_str()
        .expect("a second page")
        .to_owned();
    assert_eq!(
        detections(&server, &format!("cursor={next}")).await.len(),
        1
    );
    let odd = "/api/v1/security/detections?kind=odd";
    assert_eq!(server.client.get(odd).await.status, 400);
    // Who only looks does not see it.
    assert_eq!(eye.get("/api/v1/security/detections").await.status, 403);

    let id = denied["id"].as_str().expect("an id");
    let acknowledged = skep(&server, &["security", "ack", id]);
    assert_eq!(acknowledged.code, Some(0), "{}", acknowledged.err);
    assert_eq!(detections(&server, "state=open").await.len(), 1);
    let listed = skep(
        &server,
        &["security", "list", "--state", "acknowledged", "-o", "name"],
    );
    assert_eq!(listed.out.trim(), id);
    let shown = skep(&server, &["security", "show", id]).out;
    assert!(shown.contains("denials"), "{shown}");
    let missing = skep(&server, &["security", "ack", "det_1"]);
    assert_eq!(missing.code, Some(1), "{}", missing.out);

    for (action, count) in [("security:detected", 2), ("security:acknowledge", 1)] {
        let path = format!("/api/v1/audit/entries?action={action}");
        let all = server.client.get(&path).await.json();
        let all = all["items"].as_array().cloned().unwrap_or_default();
        assert_eq!(all.len(), count, "{action}: {all:?}");
        if action == "security:detected" {
            assert_eq!(all[0]["personal"][0]["value"], "127.0.0.1");
            assert!(!all[0]["entry"].to_string().contains("127.0.0.1"));
        }
    }
    let events = server.client.get("/api/v1/events?limit=1000").await.json();
    let events = events["items"].as_array().cloned().unwrap_or_default();
    let told = events.iter().filter(|it| it["type"] == "security.detected");
    assert_eq!(told.count(), 2);
    let metrics = server.client.get("/metrics").await.text();
    let line = "skep_security_detections_total{kind=\"denials\",severity=\"medium\"} 1";
    assert!(metrics.contains(line), "{metrics}");
}

/// What a server answers to bytes as they are, on a connection from this address of the machine.
async fn raw(server: &Server, from: &str, bytes: &str) -> String {
    let socket = tokio::net::TcpSocket::new_v4().expect("a socket");
    let own = format!("{from}:0").parse().expect("an address");
    socket.bind(own).expect("an address of this machine");
    let to = server.address().parse().expect("an address");
    let mut stream = socket.connect(to).await.expect("a connection");
    stream.write_all(bytes.as_bytes()).await.expect("sent");
    let mut answer = Vec::new();
    // One that is refused may be cut.
    let _ = stream.read_to_end(&mut answer).await;
    String::from_utf8_lossy(&answer).into_owned()
}

fn status(answer: &str) -> &str {
    answer.split(' ').nth(1).unwrap_or_default()
}

async fn patterns(server: &Server, pattern: &str) -> u64 {
    let metrics = server.client.get("/metrics").await.text();
    let line = format!("skep_security_patterns_total{{pattern=\"{pattern}\"}} ");
    let mut lines = metrics.lines();
    let found = lines.find_map(|it| it.strip_prefix(&line));
    found.map_or(0, |count| count.parse().expect("a number"))
}

async fn requests_that_look_like_tries_are_found_and_reach_their_agent_as_they_are(engine: Engine) {
    const FROM: &str = "127.77.1.1";
    let server = engine.server().await;
    server.deploy_raw("a", json!({})).await;
    let key = &server.client.key;
    let head = format!("host: x\r\nauthorization: Bearer {key}\r\nconnection: close\r\n\r\n");
    let get = |target: &str| format!("GET {target} HTTP/1.1\r\n{head}");
    // What is meant for an agent reaches it byte for byte, whatever it looks like.
    let odd = [
        "/agents/a/x/../../etc/passwd",
        "/agents/a/%252e%252e%252fx?q=a%00",
        "/agents/a/%c0%ae%c0%ae/x",
        "/agents/a/x%0d%0aset-cookie:a=b",
    ];
    for target in odd {
        let answer = raw(&server, FROM, &get(target)).await;
        assert_eq!(status(&answer), "200", "{target}: {answer}");
    }
    let heard: Vec<String> = server
        .heard("a")
        .iter()
        .filter_map(|it| Some(it["head"].as_str()?.split(' ').nth(1)?.to_owned()))
        .collect();
    for target in odd {
        let own = target.strip_prefix("/agents/a").expect("a path");
        assert!(heard.iter().any(|it| it == own), "{own}: {heard:?}");
    }
    assert_eq!(detections(&server, "kind=patterns").await.len(), 0);
    for probe in ["/.env", "/wp-admin/", "/.git/config"] {
        let answer = raw(&server, FROM, &get(probe)).await;
        assert_eq!(status(&answer), "404", "{probe}: {answer}");
    }
    let found = found(&server, "patterns").await;
    let told = found["detail"].as_str().expect("a detail");
    assert!(
        told.contains("traversal 2") && told.contains("probe 1"),
        "{told}"
    );
    assert_eq!(detections(&server, "kind=patterns").await.len(), 1, "once");
    // What the door refuses is seen, too, and what no parser reads.
    let two = format!("GET / HTTP/1.1\r\nhost: y\r\n{head}");
    assert_eq!(status(&raw(&server, FROM, &two).await), "400");
    let coding = format!("POST / HTTP/1.1\r\ntransfer-encoding: gzip, chunked\r\n{head}");
    assert_eq!(status(&raw(&server, FROM, &coding).await), "400");
    raw(&server, FROM, "\u{16}\u{3}\u{1} no request\r\n\r\n").await;
    let many: String = (0..120)
        .map(|number| format!("x-{number}: y\r\n"))
        .collect();
    raw(&server, FROM, &format!("GET / HTTP/1.1\r\n{many}{head}")).await;
    let scanner = format!("GET /api/v1/agents HTTP/1.1\r\nuser-agent: sqlmap/1.8\r\n{head}");
    assert_eq!(status(&raw(&server, FROM, &scanner).await), "200");
    for (pattern, least) in [
        ("traversal", 2),
        ("control", 1),
        ("overlong", 1),
        ("injection", 1),
        ("probe", 3),
        ("host", 1),
        ("framing", 2),
        ("headers", 1),
        ("scanner", 1),
    ] {
        let count = patterns(&server, pattern).await;
        assert!(count >= least, "{pattern}: {count}");
    }
}

async fn who_looks_for_what_is_not_there_is_found(engine: Engine) {
    let setup = engine.setup(&[
        ("SKEP_DETECTIONS_MISSING", "10/10m"),
        ("SKEP_DETECTIONS_FOREIGN", "3/10m"),
    ]);
    let server = Server::start_with(setup).await;
    for _ in 0..30 {
        assert_eq!(server.client.get("/api/v1/agents/one").await.status, 404);
    }
    assert_eq!(
        detections(&server, "kind=missing").await.len(),
        0,
        "one thing"
    );
    for number in 0..10 {
        let id = format!("call_01jd4z0000000000000000000{}", number % 10);
        assert_eq!(
            server
                .client
                .get(&format!("/api/v1/calls/{id}"))
                .await
                .status,
            404
        );
    }
    found(&server, "missing").await;
    for name in ["red", "blue", "green"] {
        let mut request = server
            .client
            .request(http::Method::GET, "/api/v1/agents", "");
        let name = http::HeaderValue::from_static(name);
        request.headers_mut().insert("skep-workspace", name);
        let refused = server.client.send(request).await.expect("an answer");
        assert_eq!(refused.status, 404, "{}", refused.text());
    }
    assert_eq!(found(&server, "foreign").await["subject_kind"], "ApiKey");
}

async fn a_canary_key_may_do_nothing_and_is_told_of(engine: Engine) {
    let mut server = engine.server().await;
    server.deploy("a", json!({})).await;
    let make = ["keys", "create", "bait", "--role", "admin", "--canary"];
    let made = skep(&server, &make);
    assert_eq!(made.code, Some(0), "{}", made.err);
    let key = made.out.trim().to_owned();
    assert_eq!(detections(&server, "").await.len(), 0);
    server.kill();
    server.restart_as_it_was().await;
    let thief = Client::new(&server.client.url, &key);
    for path in [
        "/api/v1/me",
        "/api/v1/agents",
        "/api/v1/keys",
        "/api/v1/workspaces",
        "/agents/a/x",
    ] {
        let refused = thief.get(path).await;
        assert_eq!(refused.status, 403, "{path}: {}", refused.text());
        assert!(!refused.text().contains("canary"), "{}", refused.text());
    }
    let found = found(&server, "canary").await;
    assert_eq!(
        (&found["severity"], &found["subject_kind"]),
        (&json!("critical"), &json!("ApiKey"))
    );
    assert!(
        found["detail"]
            .as_str()
            .is_some_and(|it| it.contains("`bait`")),
        "{found}"
    );
    assert_eq!(detections(&server, "kind=canary").await.len(), 1);
    // It is replaced by one of its kind, and nobody makes one that is more.
    let id = found["subject"].as_str().expect("an id");
    let next = skep(&server, &["keys", "rotate", id]);
    assert_eq!(next.code, Some(0), "{}", next.err);
    let next = Client::new(&server.client.url, next.out.trim());
    assert_eq!(next.get("/api/v1/me").await.status, 403);
    let odd = json!({ "name": "x", "role": "viewer", "canary": true, "scopes": ["*"] });
    let refused = server.client.post_json("/api/v1/keys", &odd).await;
    assert_eq!(refused.code(), "invalid-spec", "{}", refused.text());
    for scopes in [&["canary"][..], &["canary", "*"]] {
        let odd = json!({ "name": "x", "role": "viewer", "scopes": scopes });
        let refused = server.client.post_json("/api/v1/keys", &odd).await;
        assert_eq!(refused.code(), "invalid-spec", "{}", refused.text());
    }
}

async fn from_where_a_key_came_is_known_after_a_restart(engine: Engine) {
    let mut server = engine.server().await;
    let made = skep(&server, &["keys", "create", "eye", "--role", "viewer"]);
    let key = made.out.trim().to_owned();
    let get = format!(
        "GET /api/v1/agents HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {key}\r\nconnection: close\r\n\r\n"
    );
    assert_eq!(status(&raw(&server, "127.77.2.1", &get).await), "200");
    assert_eq!(
        detections(&server, "kind=new-address").await.len(),
        0,
        "the first is learnt"
    );
    assert!(server.terminate());
    // It is kept, and not so that somebody could read it.
    let kept = engine.ask(&server, "SELECT COUNT(*) FROM known_addresses");
    assert!(kept.parse::<u64>().expect("a number") >= 2, "{kept}");
    assert!(!engine.has(&server, "127.77.2.1"));
    server.restart_as_it_was().await;
    assert_eq!(status(&raw(&server, "127.77.2.1", &get).await), "200");
    assert_eq!(detections(&server, "kind=new-address").await.len(), 0);
    // Before, any address after a restart was as good as the first.
    assert_eq!(status(&raw(&server, "127.77.2.2", &get).await), "200");
    found(&server, "new-address").await;
}

async fn rules_are_configured(engine: Engine) {
    let setup = engine.setup(&[
        ("SKEP_DETECTIONS_DENIALS", "3/1m"),
        ("SKEP_DETECTIONS_OFF", "failed-authentications"),
    ]);
    let server = Server::start_with(setup).await;
    let stranger = Client::new(&server.client.url, "skep_nonsense");
    for _ in 0..30 {
        assert_eq!(stranger.get("/api/v1/agents").await.status, 401);
    }
    let made = skep(&server, &["keys", "create", "eye", "--role", "viewer"]);
    let eye = Client::new(&server.client.url, made.out.trim());
    for _ in 0..3 {
        assert_eq!(eye.get("/api/v1/keys").await.status, 403);
    }
    let denied = found(&server, "denials").await;
    assert!(
        denied["detail"]
            .as_str()
            .is_some_and(|it| it.starts_with("3 refusals")),
        "{denied}"
    );
    assert_eq!(detections(&server, "").await.len(), 1);
}

on_each_engine!(
    who_tries_keys_or_rights_is_found,
    requests_that_look_like_tries_are_found_and_reach_their_agent_as_they_are,
    who_looks_for_what_is_not_there_is_found,
    a_canary_key_may_do_nothing_and_is_told_of,
    from_where_a_key_came_is_known_after_a_restart,
    rules_are_configured,
);
