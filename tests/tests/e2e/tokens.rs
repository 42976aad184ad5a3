//! Agents' tokens: what an agent may by its own, and what it hands to another.

use http::Method;
use serde_json::{Value, json};
use skep_tests::{Client, Server, eventually};

use crate::cli::skep;

/// What an instance was given, as its process has it.
fn given(agent: &Value) -> Vec<(String, String)> {
    let pid = agent["instance"]["pid"].as_u64().expect("a process");
    let environ = std::fs::read(format!("/proc/{pid}/environ")).expect("its environment");
    let text = String::from_utf8_lossy(&environ).into_owned();
    let pairs = text.split('\0').filter_map(|pair| pair.split_once('='));
    pairs
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .collect()
}

pub(crate) async fn token(server: &Server, agent: &str) -> String {
    let agent = server.agent(agent).await;
    let all = given(&agent);
    let found = all.into_iter().find(|(name, _)| name == "SKEP_TOKEN");
    found.expect("a token").1
}

pub(crate) fn with(server: &Server, token: &str) -> Client {
    Client::new(&server.client.url, token)
}

pub(crate) async fn allow(server: &Server, text: &str) {
    let body = json!({ "text": text }).to_string();
    let mut request = server.client.request(Method::PUT, "/api/v1/policy", body);
    let kind = http::HeaderValue::from_static("application/json");
    request.headers_mut().insert("content-type", kind);
    let set = server.client.send(request).await.expect("an answer");
    assert_eq!(set.status, 200, "{}", set.text());
}

const PLANNER_CALLS: &str = "@id(\"planner-calls\") permit (principal == Skep::Agent::\"planner\", \
    action == Skep::Action::\"agent:call\", resource);";

async fn three() -> Server {
    let server = Server::start().await;
    for name in ["planner", "worker", "other"] {
        server.deploy(name, json!({})).await;
    }
    server
}

#[tokio::test]
async fn an_agent_calls_another_when_a_policy_says_so_and_nothing_else() {
    let server = three().await;
    let planner = with(&server, &token(&server, "planner").await);
    let me = planner.get("/api/v1/me").await.json();
    assert_eq!(
        (&me["kind"], &me["id"]),
        (&json!("Agent"), &json!("planner"))
    );
    // By default nobody is reached.
    assert_eq!(planner.post("/agents/worker/work", "x").await.status, 403);
    allow(&server, PLANNER_CALLS).await;
    let called = planner.post("/agents/worker/work", "x").await;
    assert_eq!((called.status, called.text()), (200, "x".to_owned()));
    let echoed = planner.post("/agents/worker/echo", "x").await.text();
    assert!(
        !echoed.contains("skep_token_"),
        "nobody else sees it: {echoed}"
    );
    // It is the planner that may, not whoever has a token.
    let worker = with(&server, &token(&server, "worker").await);
    assert_eq!(worker.post("/agents/planner/work", "x").await.status, 403);
    // Whatever a policy says, an agent gives no rights.
    allow(&server, "permit (principal, action, resource);").await;
    let wish = json!({ "name": "mine", "role": "viewer" });
    for (path, body) in [("/api/v1/keys", &wish), ("/api/v1/invitations", &wish)] {
        assert_eq!(planner.post_json(path, body).await.status, 403, "{path}");
    }
    // The log says who it was.
    let log = crate::audit::whole(&server);
    let of_planner = json!({ "kind": "Agent", "id": "planner" });
    let by = |it: &&Value| it["action"] == "agent:call" && it["principal"] == of_planner;
    assert!(log.iter().any(|it| by(&it) && it["decision"] == "allow"));
    assert!(log.iter().any(|it| by(&it) && it["decision"] == "deny"));
}

#[tokio::test]
async fn a_token_lasts_as_long_as_its_instance() {
    let mut server = three().await;
    let shown = token(&server, "planner").await;
    assert_eq!(with(&server, &shown).get("/api/v1/me").await.status, 200);
    // The instance outlives the server, and so does its token.
    server.kill();
    server.restart().await;
    server.wait_state("planner", "ready").await;
    assert_eq!(token(&server, "planner").await, shown);
    assert_eq!(with(&server, &shown).get("/api/v1/me").await.status, 200);
    let restarted = server
        .client
        .post("/api/v1/agents/planner/restart", "")
        .await;
    assert!(restarted.status < 300, "{}", restarted.text());
    eventually("the end of the old one", async || {
        let answer = with(&server, &shown).get("/api/v1/me").await;
        (answer.status == 401).then_some(())
    })
    .await;
    let next = token(&server, "planner").await;
    assert_ne!(next, shown);
    assert_eq!(with(&server, &next).get("/api/v1/me").await.status, 200);
    // One that is changed anywhere is none.
    let forged = next.replacen("skep_token_ey", "skep_token_fy", 1);
    assert_eq!(with(&server, &forged).get("/api/v1/me").await.status, 401);
    // And another server's is none here.
    let elsewhere = Server::start().await;
    elsewhere.deploy("planner", json!({})).await;
    let foreign = token(&elsewhere, "planner").await;
    assert_eq!(with(&server, &foreign).get("/api/v1/me").await.status, 401);
}

#[tokio::test]
async fn what_an_agent_hands_on_is_narrower_and_ends() {
    let server = three().await;
    allow(&server, PLANNER_CALLS).await;
    let planner = with(&server, &token(&server, "planner").await);
    let wish = json!({ "scopes": ["agent:call@worker"], "expires_in": "1m" });
    let made = planner.post_json("/api/v1/tokens", &wish).await;
    assert_eq!(made.status, 201, "{}", made.text());
    let narrow = made.json()["token"].as_str().expect("a token").to_owned();
    let narrow = with(&server, &narrow);
    assert_eq!(narrow.post("/agents/worker/work", "x").await.status, 200);
    assert_eq!(narrow.post("/agents/other/work", "x").await.status, 403);
    assert_eq!(planner.post("/agents/other/work", "x").await.status, 200);
    for (scopes, expires_in, status) in [
        (json!(["agent:call"]), "1m", 403),
        (json!(["*"]), "1m", 403),
        (json!(["agent:call@other"]), "1m", 403),
        (json!(["agent:fly"]), "1m", 422),
        (json!([]), "1m", 422),
        (json!(["agent:call@worker"]), "2h", 422),
        (json!(["agent:call@worker"]), "1h", 201),
    ] {
        let wish = json!({ "scopes": scopes, "expires_in": expires_in });
        let answer = narrow.post_json("/api/v1/tokens", &wish).await;
        assert_eq!(answer.status, status, "{wish}: {}", answer.text());
    }
    // A key makes none: it is no agent.
    let refused = server.client.post_json("/api/v1/tokens", &wish).await;
    assert_eq!(refused.status, 403);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_agent_reaches_another_from_its_box() {
    let server = three().await;
    allow(&server, PLANNER_CALLS).await;
    let program = "import os, urllib.request as r\n\
        q = r.Request(os.environ['SKEP_URL'] + '/agents/worker/work', b'from the box',\n\
            {'Authorization': 'Bearer ' + os.environ['SKEP_TOKEN']})\n\
        print(r.urlopen(q).read().decode())";
    let said = skep(
        &server,
        &["exec", "planner", "--", "python3", "-c", program],
    );
    assert_eq!(said.out.trim(), "from the box", "{}", said.err);
}
