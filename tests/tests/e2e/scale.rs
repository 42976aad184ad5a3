//! Many agents at once.

use serde_json::json;
use skep_tests::{Server, agent_binary};

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
