//! Many agents at once, and no more than there may be.

use serde_json::json;
use skep_tests::{Server, Setup, agent_binary};

/// Agents that run at once.
const AGENTS: usize = 30;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_agents_run_and_answer_at_once() {
    let server = Server::start().await;
    for number in 0..AGENTS {
        let spec = json!({ "name": format!("agent-{number}"), "command": [agent_binary()] });
        assert_eq!(
            server
                .client
                .post_json("/api/v1/agents", &spec)
                .await
                .status,
            201
        );
    }
    let mut calls = Vec::new();
    for number in 0..AGENTS {
        let client = server.client.clone();
        // A call waits for an agent that is still starting.
        calls.push(tokio::spawn(async move {
            client
                .post(&format!("/agents/agent-{number}/work"), number.to_string())
                .await
        }));
    }
    for (number, call) in calls.into_iter().enumerate() {
        let answer = call.await.expect("a task");
        assert_eq!((answer.status, answer.text()), (200, number.to_string()));
    }
    let page = server.client.get("/api/v1/agents?limit=1000").await.json();
    assert_eq!(page["items"].as_array().map(Vec::len), Some(AGENTS));
}

#[tokio::test]
async fn a_workspace_has_no_more_than_it_may() {
    let server = Server::start_with(Setup {
        env: vec![
            ("SKEP_QUOTA_AGENTS".to_owned(), "2".to_owned()),
            ("SKEP_QUOTA_INSTANCES".to_owned(), "4".to_owned()),
        ],
        ..Setup::default()
    })
    .await;
    let spec = |name: &str, most: u32| json!({ "name": name, "command": [agent_binary()], "replicas": { "min": 1, "max": most } });
    server.deploy_spec(spec("a", 2)).await;
    server.deploy_spec(spec("b", 2)).await;
    for (name, most) in [("c", 1), ("b", 3)] {
        let path = "/api/v1/agents";
        let refused = server.client.post_json(path, &spec(name, most)).await;
        assert_eq!(refused.status, 403, "{}", refused.text());
        assert_eq!(refused.code(), "quota-exceeded");
    }
    // Less of one is room for more of another.
    server.deploy_spec(spec("a", 1)).await;
    server.deploy_spec(spec("b", 3)).await;
    assert_eq!(server.agent("b").await["revision"], 2);
}
