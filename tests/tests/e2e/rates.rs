//! How often anybody may ask, and how they are told.

use serde_json::json;
use skep_tests::{Answer, Client, Server, Setup};

fn server(rates: &[(&str, &str)]) -> Setup {
    let env = rates
        .iter()
        .map(|(name, rate)| ((*name).to_owned(), (*rate).to_owned()));
    Setup {
        env: env.collect(),
        ..Setup::default()
    }
}

fn must_be_limited(answer: &Answer, what: &str) {
    assert_eq!(
        (answer.status, answer.code().as_str()),
        (429, "rate-limited"),
        "{}",
        answer.text()
    );
    let wait: u64 = answer.header("retry-after").parse().expect("seconds");
    assert!(wait >= 1, "{wait}");
    let policy = answer.header("ratelimit-policy");
    assert!(policy.starts_with(&format!("\"{what}\";q=")), "{policy}");
    let now = answer.header("ratelimit");
    assert!(now.starts_with(&format!("\"{what}\";r=0;t=")), "{now}");
}

async fn key(server: &Server, rate: Option<&str>) -> Client {
    let wish = json!({ "name": "k", "role": "member", "rate": rate });
    let made = server.client.post_json("/api/v1/keys", &wish).await;
    assert_eq!(made.status, 201, "{}", made.text());
    let made = made.json();
    assert_eq!(made["rate"].as_str(), rate);
    Client::new(&server.client.url, made["secret"].as_str().expect("a key"))
}

#[tokio::test]
async fn a_key_may_so_often_and_no_more() {
    let mut server = Server::start().await;
    let slow = key(&server, Some("3/1h")).await;
    let fast = key(&server, None).await;
    for left in [2, 1, 0] {
        let answer = slow.get("/api/v1/agents").await;
        assert_eq!(answer.status, 200);
        assert_eq!(answer.header("ratelimit"), format!("\"key\";r={left}"));
        assert_eq!(answer.header("ratelimit-policy"), "\"key\";q=3;w=3600");
    }
    must_be_limited(&slow.get("/api/v1/agents").await, "key");
    let other = fast.get("/api/v1/agents").await;
    assert_eq!((other.status, other.header("ratelimit")), (200, ""));
    // The rate is the key's over a restart.
    server.kill();
    server.restart().await;
    let slow = Client::new(&server.client.url, &slow.key);
    for _ in 0..3 {
        assert_eq!(slow.get("/api/v1/agents").await.status, 200);
    }
    must_be_limited(&slow.get("/api/v1/agents").await, "key");
    let wish = json!({ "name": "k", "role": "member", "rate": "often" });
    let refused = server.client.post_json("/api/v1/keys", &wish).await;
    assert_eq!(refused.status, 422, "{}", refused.text());
}

#[tokio::test]
async fn an_agent_is_called_so_often_whoever_calls() {
    let rates = server(&[
        ("SKEP_LIMITS_RATE_AGENT", "4/1h"),
        ("SKEP_LIMITS_RATE_ACTIONS", "key:create=2/1h"),
    ]);
    let server = Server::start_with(rates).await;
    server.deploy("a", json!({})).await;
    server.deploy("b", json!({})).await;
    let (one, other) = (key(&server, None).await, key(&server, None).await);
    for client in [&one, &other, &one, &other] {
        assert_eq!(client.post("/agents/a/work", "x").await.status, 200);
    }
    must_be_limited(&one.post("/agents/a/work", "x").await, "agent");
    assert_eq!(server.executed("a").len(), 4, "it heard no more");
    assert_eq!(one.post("/agents/b/work", "x").await.status, 200);
    // What is done counts apart: these two keys were what this one may make in an hour.
    let wish = json!({ "name": "k", "role": "member" });
    let third = server.client.post_json("/api/v1/keys", &wish).await;
    must_be_limited(&third, "action");
    assert_eq!(server.client.get("/api/v1/keys").await.status, 200);
}

#[tokio::test]
async fn an_address_and_a_principal_are_counted() {
    let rates = server(&[("SKEP_LIMITS_RATE_ADDRESS", "50/1h")]);
    let crowd = Server::start_with(rates).await;
    let stranger = Client::new(&crowd.client.url, "skep_wrong");
    let mut refused = 0;
    for _ in 0..60 {
        refused += usize::from(stranger.get("/api/v1/agents").await.status == 429);
    }
    assert!((1..=30).contains(&refused), "{refused}");
    // All come from there: a right key does not help.
    must_be_limited(&crowd.client.get("/api/v1/agents").await, "address");
    let rates = server(&[("SKEP_LIMITS_RATE_PRINCIPAL", "20/1h")]);
    let server = Server::start_with(rates).await;
    let one = key(&server, None).await;
    for _ in 0..20 {
        assert_eq!(one.get("/api/v1/agents").await.status, 200);
    }
    must_be_limited(&one.get("/api/v1/agents").await, "principal");
    assert_eq!(server.client.get("/api/v1/agents").await.status, 200);
}
