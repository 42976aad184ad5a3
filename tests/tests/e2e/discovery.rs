//! Agents are found by what their cards say they can, and by how they are.

use serde_json::{Value, json};
use skep_tests::{Server, agent_binary};

async fn deploys(server: &Server, name: &str, card: Value) {
    let spec = json!({ "name": name, "command": [agent_binary()], "card": card });
    server.deploy_spec(spec).await;
}

async fn found(server: &Server, query: &str) -> Vec<String> {
    let path = format!("/api/v1/agents?{query}");
    let answer = server.client.get(&path).await;
    assert_eq!(answer.status, 200, "{query}: {}", answer.text());
    let page = answer.json();
    let items = page["items"].as_array().expect("items");
    let names = items.iter().filter_map(|it| it["name"].as_str());
    names.map(str::to_owned).collect()
}

#[tokio::test]
async fn agents_are_found_by_their_cards_and_their_health() {
    let server = Server::start().await;
    deploys(&server, "plain", json!({})).await;
    let skill = json!({ "id": "add", "description": "Sums of numbers.", "tags": ["maths"] });
    let card =
        json!({ "description": "Reckons.", "output_modes": ["image/png"], "skills": [skill] });
    deploys(&server, "sums", card).await;
    for (query, names) in [
        ("skill=add", vec!["sums"]),
        ("tag=Maths", vec!["sums"]),
        ("output_mode=image/png", vec!["sums"]),
        ("output_mode=text/plain", vec!["plain"]),
        ("input_mode=text/plain", vec!["plain", "sums"]),
        ("text=reckons+numbers", vec!["sums"]),
        ("skill=add&tag=cooking", vec![]),
        ("state=ready", vec!["plain", "sums"]),
        ("input_mode=text/plain&limit=1", vec!["plain"]),
        ("input_mode=text/plain&limit=1&cursor=plain", vec!["sums"]),
    ] {
        assert_eq!(found(&server, query).await, names, "{query}");
    }
    let odd = server.client.get("/api/v1/agents?state=well").await;
    assert_eq!(odd.status, 400, "{}", odd.text());
    // What does not take calls is not found among what does.
    let stopped = server.client.post("/api/v1/agents/sums/stop", "").await;
    assert_eq!(stopped.status, 200, "{}", stopped.text());
    server.wait_state("sums", "stopped").await;
    assert_eq!(found(&server, "skill=add&state=ready").await.len(), 0);
    assert_eq!(found(&server, "skill=add").await, ["sums"]);
}
