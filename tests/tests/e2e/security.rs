//! What looks like an attack is found at a real server's door, and told in each place that it is told in.

use serde_json::{Value, json};
use skep_tests::client::Client;
use skep_tests::{Server, eventually};

use crate::cli::skep;

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

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_tries_keys_or_rights_is_found() {
    let server = Server::start().await;
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
    assert_eq!(
        server
            .client
            .get("/api/v1/security/detections?kind=odd")
            .await
            .status,
        400
    );
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
