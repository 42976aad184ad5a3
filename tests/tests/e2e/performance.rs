//! How calls went, hour by hour: counted for each revision, and still there after a restart.

use serde_json::{Value, json};
use skep_tests::{Server, eventually};

use crate::cli::skep;
use crate::engine::{Engine, on_each_engine};

async fn hours(server: &Server) -> Vec<Value> {
    let answer = server.client.get("/api/v1/agents/a/performance").await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    let hours = answer.json()["hours"].as_array().cloned();
    hours.unwrap_or_default()
}

/// Calls and errors of a revision: an hour may end in the middle of a test.
async fn sums(server: &Server, revision: u64) -> (u64, u64) {
    let all = hours(server).await;
    let of = all.iter().filter(|hour| hour["revision"] == revision);
    let number = |hour: &Value, name: &str| hour[name].as_u64().unwrap_or_default();
    of.fold((0, 0), |(calls, errors), hour| {
        (
            calls + number(hour, "calls"),
            errors + number(hour, "errors"),
        )
    })
}

async fn it_adds_up_over_revisions_and_restarts(engine: Engine) {
    let mut server = engine.server().await;
    server.deploy("a", json!({ "attempts": 1 })).await;
    assert_eq!(hours(&server).await, Vec::<Value>::new());
    for _ in 0..5 {
        assert_eq!(server.post("a", "/work", "x").await.status, 200);
    }
    assert_eq!(server.post("a", "/status?code=500", "x").await.status, 500);
    eventually("six calls", async || {
        (sums(&server, 1).await == (6, 1)).then_some(())
    })
    .await;
    let hour = hours(&server).await.remove(0);
    let ms = |name: &str| hour[name].as_f64().expect("a time");
    assert!(
        ms("p50_ms") <= ms("p95_ms") && ms("p95_ms") <= ms("p99_ms"),
        "{hour}"
    );
    server.deploy("a", json!({ "attempts": 2 })).await;
    assert_eq!(server.post("a", "/work", "x").await.status, 200);
    eventually("another revision", async || {
        (sums(&server, 2).await == (1, 0)).then_some(())
    })
    .await;
    assert!(server.terminate());
    server.restart_as_it_was().await;
    assert_eq!(sums(&server, 1).await, (6, 1));
    assert_eq!(sums(&server, 2).await, (1, 0));
    server.wait_state("a", "ready").await;
    assert_eq!(server.post("a", "/work", "x").await.status, 200);
    eventually("one more", async || {
        (sums(&server, 2).await == (2, 0)).then_some(())
    })
    .await;
    let said = skep(&server, &["performance", "a", "--since", "1h"]);
    assert!(said.out.contains("REVISION"), "{} {}", said.out, said.err);
    let none = server.client.get("/api/v1/agents/nobody/performance").await;
    assert_eq!(
        (none.status, none.code().as_str()),
        (404, "agent-not-found")
    );
}

on_each_engine!(it_adds_up_over_revisions_and_restarts);
