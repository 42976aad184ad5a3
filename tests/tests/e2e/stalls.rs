//! Clients that take nothing of what is there for them.

use std::time::Duration;

use serde_json::json;
use skep_tests::{Server, Setup, Wire, eventually};

async fn server(connections: &str) -> Server {
    let env = [
        ("SKEP_LIMITS_CONNECTIONS", connections),
        ("SKEP_LIMITS_HEADER_TIMEOUT", "300ms"),
    ];
    let env = env.map(|(name, value)| (name.to_owned(), value.to_owned()));
    let server = Server::start_with(Setup {
        env: env.to_vec(),
        ..Setup::default()
    })
    .await;
    server
        .deploy_raw("a", json!({ "idle_timeout": "500ms" }))
        .await;
    server
}

/// A connection that was upgraded to the agent's flood. It is taken when the one that deployed the
/// agent has been idle, where there is one place only.
async fn upgraded(server: &Server) -> Wire {
    let mut wire = Wire::open(server).await;
    let key = &server.client.key;
    let request = format!(
        "GET /agents/a/flood HTTP/1.1\r\nhost: x\r\nskep-api-key: {key}\r\n\
         connection: upgrade\r\nupgrade: flood\r\n\r\n"
    );
    wire.say(request.as_bytes()).await;
    assert_eq!(wire.answer().await.expect("an answer").status, 101);
    wire
}

#[tokio::test]
async fn an_upgraded_client_that_does_not_read_gives_its_place_back() {
    let server = server("1").await;
    let mut wire = upgraded(&server).await;
    // It speaks all the time, and so it is no silence that ends it.
    eventually("the end of the connection", async || {
        let speaking = wire.try_say(b"!").await;
        speaking.is_err().then_some(())
    })
    .await;
    let answer = server.client.get("/api/v1/health/basic").await;
    assert_eq!(answer.status, 200, "there is room for another one");
}

#[tokio::test]
async fn an_upgraded_client_that_reads_slowly_is_not_cut_off() {
    let server = server("8").await;
    let mut wire = upgraded(&server).await;
    // Three times its patience in all, and never as long at once.
    let mut pace = tokio::time::interval(Duration::from_millis(100));
    for _ in 0..15 {
        pace.tick().await;
        wire.take(4 << 20).await.expect("the rest of what is said");
    }
}
