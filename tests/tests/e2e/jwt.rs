//! Tokens of outside issuers: who counts as whom, keys that change, and issuers that fail.

use std::fs;

use serde_json::{Value, json};
use skep_tests::issuer::{Issuer, Says};
use skep_tests::{Client, Server, Setup, eventually};
use tempfile::TempDir;

/// A server that knows these issuers, and what stands under each besides.
async fn server(issuers: &[&Issuer], mapping: &str) -> (Server, TempDir) {
    let folder = TempDir::new().expect("a folder");
    let path = folder.path().join("issuers.toml");
    let tables = issuers.iter().enumerate().map(|(at, issuer)| {
        let (name, url) = (issuer.name(), issuer.url());
        format!(
            "[[issuer]]\nname = \"i{at}\"\nissuer = \"{name}\"\naudience = [\"skep\"]\n\
             algorithms = [\"ES256\"]\njwks_url = \"{url}\"\nworkspace = \"default\"\n{mapping}\n"
        )
    });
    fs::write(&path, tables.collect::<String>()).expect("a file");
    let env = ("SKEP_AUTH_ISSUERS".to_owned(), path.display().to_string());
    let setup = Setup {
        env: vec![env],
        ..Setup::default()
    };
    (Server::start_with(setup).await, folder)
}

fn bearing(server: &Server, token: &str) -> Client {
    Client::new(&server.client.url, token)
}

async fn status(server: &Server, token: &str) -> u16 {
    bearing(server, token).get("/api/v1/agents").await.status
}

/// What health says of an issuer.
async fn health(server: &Server, name: &str) -> Value {
    let health = server.client.get("/api/v1/health/detailed").await.json();
    let checks = health["checks"].as_array().cloned().unwrap_or_default();
    let found = checks.into_iter().find(|it| it["name"] == name);
    found.unwrap_or(Value::Null)
}

const ROLES: &str =
    "role_claim = \"access.roles\"\n[issuer.roles]\nworkers = \"member\"\nwatchers = \"viewer\"";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_token_says_who_one_is_and_what_one_may() {
    let issuer = Issuer::start("k1").await;
    let (server, _folder) = server(&[&issuer], ROLES).await;
    server.deploy("a", json!({})).await;
    let with = |role: &str| json!({ "access": { "roles": [role] } });
    let worker = issuer.token("k1", &with("workers"));
    let watcher = bearing(&server, &issuer.token("k1", &with("watchers")));
    let worker_there = bearing(&server, &worker);
    assert_eq!(worker_there.post("/agents/a/work", "x").await.text(), "x");
    assert_eq!(watcher.get("/api/v1/agents/a").await.status, 200);
    assert_eq!(watcher.post("/agents/a/work", "x").await.status, 403);
    // In the other header it leaves `Authorization` to the agent.
    let mut request = worker_there.request(http::Method::GET, "/agents/a/echo-headers", "");
    let headers = request.headers_mut();
    headers.insert(
        "authorization",
        "Bearer agents-own".parse().expect("a header"),
    );
    headers.insert("skep-api-key", worker.parse().expect("a header"));
    assert_eq!(
        worker_there.send(request).await.expect("an answer").status,
        200
    );
    // The log names the user, always the same, and holds no token.
    let log = crate::audit::whole(&server);
    let users: Vec<&str> = log
        .iter()
        .filter(|it| it["principal"]["kind"] == "User")
        .filter_map(|it| it["principal"]["id"].as_str())
        .collect();
    assert!(!users.is_empty());
    assert!(
        users
            .iter()
            .all(|it| it.starts_with("ext_i0_") && *it == users[0]),
        "{users:?}"
    );
    let signature = worker.rsplit('.').next().expect("a signature");
    assert!(!server.log().contains(signature));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_counts_for_nothing_is_told_in_one_text() {
    let issuer = Issuer::start("k1").await;
    let (server, _folder) = server(&[&issuer], ROLES).await;
    let with = |role: &str| json!({ "access": { "roles": [role] } });
    let now = 1_000;
    let mut told = Vec::new();
    for wrong in [
        issuer.token("k1", &with("kings")),
        issuer.token("k1", &json!({ "aud": "other" })),
        issuer.token("k1", &json!({ "exp": now })),
        issuer.token("k9", &with("workers")),
        issuer.token("k1", &json!({ "iss": "https://eve.example.com" })),
        Issuer::start("k1").await.token(
            "k1",
            &json!({ "iss": issuer.name(), "access": { "roles": "workers" } }),
        ),
    ] {
        let answer = bearing(&server, &wrong).get("/api/v1/agents").await;
        assert_eq!(
            (answer.status, &*answer.code()),
            (401, "unauthorized"),
            "{}",
            answer.text()
        );
        let mut problem = answer.json();
        problem["request_id"] = Value::Null;
        problem["instance"] = Value::Null;
        told.push(problem);
        assert!(!server.log().contains(&wrong));
    }
    assert!(told.windows(2).all(|two| two[0] == two[1]), "{told:?}");
    let metrics = server.client.get("/metrics").await.text();
    for reason in [
        "mapping",
        "audience",
        "expired",
        "key",
        "issuer",
        "signature",
    ] {
        let line = format!("skep_tokens_refused_total{{reason=\"{reason}\"}} 1");
        assert!(metrics.contains(&line), "{line}\n{metrics}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_token_for_skep_never_reaches_an_agent() {
    let issuer = Issuer::start("k1").await;
    let (server, _folder) = server(&[&issuer], "role = \"member\"").await;
    server.deploy_raw("raw", json!({})).await;
    let good = issuer.token("k1", &json!({}));
    let late = issuer.token("k1", &json!({ "exp": 1000 }));
    let foreign = issuer.token("k1", &json!({ "aud": "the agent" }));
    assert_eq!(
        bearing(&server, &good)
            .post("/agents/raw/x", "")
            .await
            .status,
        200
    );
    for token in [&good, &late, &foreign] {
        let mut request = bearing(&server, token).request(http::Method::POST, "/agents/raw/x", "");
        let key = server.client.key.parse().expect("a header");
        request.headers_mut().insert("skep-api-key", key);
        let answer = server.client.send(request).await.expect("an answer");
        assert_eq!(answer.status, 200, "{}", answer.text());
    }
    let heard = serde_json::to_string(&server.heard("raw")).expect("JSON");
    assert!(!heard.contains(&good) && !heard.contains(&late));
    // What is for the agent goes to the agent.
    assert!(heard.contains(&foreign), "{heard}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn keys_change_and_a_flood_of_unknown_ones_asks_once() {
    let issuer = Issuer::start("k1").await;
    let (server, _folder) = server(&[&issuer], "role = \"viewer\"").await;
    assert_eq!(status(&server, &issuer.token("k1", &json!({}))).await, 200);
    let before = issuer.asked();
    // Rotated: the first token of the new key finds it, and the old one is over.
    issuer.say(Says::This(200, issuer.keys("k2")));
    assert_eq!(status(&server, &issuer.token("k2", &json!({}))).await, 200);
    assert_eq!(status(&server, &issuer.token("k1", &json!({}))).await, 401);
    assert_eq!(issuer.asked(), before + 1);
    let mut flood = tokio::task::JoinSet::new();
    for at in 0..300 {
        let token = issuer.token(&format!("unknown-{at}"), &json!({}));
        let client = bearing(&server, &token);
        flood.spawn(async move { client.get("/api/v1/agents").await.status });
    }
    assert!(flood.join_all().await.iter().all(|status| *status == 401));
    // At most one in ten seconds.
    assert!(issuer.asked() <= before + 3, "{}", issuer.asked() - before);
    assert_eq!(status(&server, &issuer.token("k2", &json!({}))).await, 200);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_issuer_that_fails_harms_nobody() {
    let endings = |issuer: &Issuer| {
        let keys = issuer.keys("k2");
        let twice = String::from_utf8_lossy(&keys).replacen("[{", "[{\"kid\":\"k1\",", 1);
        let encrypts = String::from_utf8_lossy(&keys).replace("\"sig\"", "\"enc\"");
        [
            Says::This(200, b"<html>down for maintenance</html>".to_vec()),
            Says::This(200, keys[..keys.len() - 9].to_vec()),
            Says::This(200, twice.into_bytes()),
            Says::This(200, encrypts.into_bytes()),
            Says::This(200, b"{\"keys\":[]}".to_vec()),
            Says::This(200, vec![b' '; 300 << 10]),
            Says::This(500, keys),
            Says::Elsewhere(issuer.url()),
            Says::Endless,
            Says::HangsUp,
            Says::Nothing,
        ]
    };
    let mut issuers = Vec::new();
    for _ in 0..endings(&Issuer::start("k").await).len() {
        issuers.push(Issuer::start("k1").await);
    }
    // One that never was there.
    let gone = Issuer::start("k1").await;
    gone.say(Says::HangsUp);
    issuers.push(gone);
    let all: Vec<&Issuer> = issuers.iter().collect();
    let (server, _folder) = server(&all, "role = \"viewer\"").await;
    let gone = issuers.pop().expect("an issuer");
    for issuer in &issuers {
        eventually("the keys", async || {
            let fetched = status(&server, &issuer.token("k1", &json!({}))).await == 200;
            fetched.then_some(())
        })
        .await;
    }
    for (at, issuer) in issuers.iter().enumerate() {
        let says = endings(issuer)[at].clone();
        let what = format!("{says:?}");
        issuer.say(says);
        // The unknown key has the others fetched again, which fails; those that are known count on.
        eventually(&what[..what.len().min(80)], async || {
            let refused = status(&server, &issuer.token("k2", &json!({}))).await;
            assert_eq!(refused, 401, "{at}");
            let health = health(&server, &format!("issuer:i{at}")).await;
            (health["status"] == "degraded").then_some(())
        })
        .await;
        assert_eq!(
            status(&server, &issuer.token("k1", &json!({}))).await,
            200,
            "{at}"
        );
    }
    assert_eq!(status(&server, &gone.token("k1", &json!({}))).await, 401);
    assert_eq!(server.client.get("/api/v1/agents").await.status, 200);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_file_that_changes_holds_without_a_restart() {
    let (first, second) = (Issuer::start("k1").await, Issuer::start("k1").await);
    let (server, folder) = server(&[&first], "role = \"viewer\"").await;
    let path = folder.path().join("issuers.toml");
    let before = fs::read_to_string(&path).expect("a file");
    let of = |issuer: &Issuer| issuer.token("k1", &json!({}));
    assert_eq!(status(&server, &of(&first)).await, 200);
    assert_eq!(status(&server, &of(&second)).await, 401);
    // What cannot be read changes nothing, and is told.
    fs::write(&path, "[[issuer]]\nnome = \"x\"\n").expect("a file");
    eventually("a word about the file", async || {
        let health = health(&server, "auth.issuers").await;
        let said = health["detail"].as_str().unwrap_or_default();
        said.contains("line 2").then_some(())
    })
    .await;
    assert_eq!(status(&server, &of(&first)).await, 200);
    // One more issuer; the keys of the first count on while it is away.
    first.say(Says::HangsUp);
    let more = before
        .replace("i0", "i1")
        .replace(&first.name(), &second.name());
    let more = more.replace(&first.url(), &second.url());
    fs::write(&path, format!("{before}{more}")).expect("a file");
    eventually("the second issuer", async || {
        (status(&server, &of(&second)).await == 200).then_some(())
    })
    .await;
    assert_eq!(status(&server, &of(&first)).await, 200);
    // One that is taken out counts no more.
    fs::write(&path, more).expect("a file");
    eventually("an end of the first issuer", async || {
        (status(&server, &of(&first)).await == 401).then_some(())
    })
    .await;
    assert_eq!(status(&server, &of(&second)).await, 200);
}

#[test]
fn a_file_that_is_wrong_is_no_start() {
    let folder = TempDir::new().expect("a folder");
    let path = folder.path().join("issuers.toml");
    fs::write(&path, "[[issuer]]\nnome = \"x\"\n").expect("a file");
    let refused = std::process::Command::new(skep_tests::server::skep_binary())
        .args(["up", "--listen", "127.0.0.1:0", "--data"])
        .arg(folder.path().join("data"))
        .env_clear()
        .env("SKEP_AUTH_ISSUERS", &path)
        .output()
        .expect("the binary runs");
    let said = String::from_utf8_lossy(&refused.stderr);
    assert!(
        !refused.status.success() && said.contains("line 2: unknown field `nome`"),
        "{said}"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn clients_of_tools_learn_who_gives_them_tokens() {
    let issuer = Issuer::start("k1").await;
    let (server, _folder) = server(&[&issuer], ROLES).await;
    let stranger = Client::new(&server.client.url, "");
    let origin = &server.client.url;
    for (door, metadata) in [
        ("/mcp", "/mcp"),
        ("/mcp/docs", "/mcp/docs"),
        ("/mcp/", "/mcp"),
    ] {
        let refused = stranger.post(door, "{}").await;
        assert_eq!(refused.status, 401);
        let expected = format!(
            "Bearer realm=\"skep\", resource_metadata=\"{origin}/.well-known/oauth-protected-resource{metadata}\""
        );
        assert_eq!(refused.header("www-authenticate"), expected);
        let path = format!("/.well-known/oauth-protected-resource{metadata}");
        let said = stranger.get(&path).await;
        assert_eq!(said.status, 200, "{}", said.text());
        let said = said.json();
        assert_eq!(said["resource"], format!("{origin}{metadata}"));
        assert_eq!(said["authorization_servers"], json!([issuer.name()]));
    }
    // A token that is none is told the same, and elsewhere nobody is.
    let wrong = bearing(&server, "a.b.c").post("/mcp", "{}").await;
    assert_eq!(wrong.status, 401);
    assert!(
        wrong
            .header("www-authenticate")
            .contains("resource_metadata")
    );
    let elsewhere = stranger.get("/api/v1/agents").await;
    assert_eq!(
        elsewhere.header("www-authenticate"),
        "Bearer realm=\"skep\""
    );
    let odd = stranger.post("/mcp/a%22b", "{}").await;
    assert!(
        odd.header("www-authenticate")
            .ends_with("oauth-protected-resource/mcp\"")
    );
    // Who got one is let in.
    let token = issuer.token("k1", &json!({ "access": { "roles": ["workers"] } }));
    let body = json!({ "jsonrpc": "2.0", "id": 1, "method": "tools/list" }).to_string();
    let said = bearing(&server, &token).post("/mcp", body).await;
    assert_eq!(said.status, 200, "{}", said.text());
    // Where nobody gives tokens nobody is named.
    let alone = Server::start().await;
    let stranger = Client::new(&alone.client.url, "");
    let nobody = stranger
        .get("/.well-known/oauth-protected-resource/mcp")
        .await;
    assert_eq!(nobody.status, 404, "{}", nobody.text());
    let refused = stranger.post("/mcp", "{}").await;
    assert_eq!(refused.header("www-authenticate"), "Bearer realm=\"skep\"");
}
