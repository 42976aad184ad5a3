//! The connection to the database breaks when a commit was taken and before Skep hears of it. A call
//! that was refused is not there, one that was accepted goes on, and each is done once.

use http::{HeaderValue, Method};
use serde_json::{Value, json};
use skep_core::CallId;
use skep_tests::cutter::Cutter;
use skep_tests::postgres::Postgres;
use skep_tests::{Answer, Server, Setup, eventually};

struct House {
    server: Server,
    cutter: Cutter,
    _postgres: Postgres,
}

impl House {
    async fn new(calls: Value) -> Self {
        let postgres = Postgres::start();
        let cutter = Cutter::to(postgres.socket()).await;
        let setup = Setup {
            env: vec![("SKEP_STORE_URL".to_owned(), cutter.url())],
            ..Setup::default()
        };
        let server = Server::start_with(setup).await;
        server.deploy("a", calls).await;
        Self {
            server,
            cutter,
            _postgres: postgres,
        }
    }

    async fn send(&self, path: &str, body: &str, header: (&'static str, &str)) -> Answer {
        let client = &self.server.client;
        let mut request = client.request(Method::POST, path, body.to_owned());
        let value = HeaderValue::try_from(header.1).expect("a value");
        request.headers_mut().insert(header.0, value);
        client.send(request).await.expect("an answer")
    }

    fn times(&self, body: &str) -> usize {
        let done = self.server.executed("a");
        done.iter().filter(|(_, said)| said == body).count()
    }

    async fn calls(&self) -> Vec<Value> {
        let page = self.server.client.get("/api/v1/calls").await.json();
        page["items"].as_array().cloned().unwrap_or_default()
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_call_whose_acceptance_is_in_doubt_is_refused_and_not_there() {
    let house = House::new(json!({})).await;
    house.cutter.cut(b"needle");
    let key = ("idempotency-key", "one");
    let refused = house.send("/agents/a/work", "needle", key).await;
    assert_eq!(
        (refused.status, house.cutter.cuts()),
        (503, 1),
        "{}",
        refused.text()
    );
    assert_eq!(refused.code(), "store-unavailable");
    // The same key again is a new call, as soon as the store writes.
    let answer = eventually("an answer", async || {
        let answer = house.send("/agents/a/work", "needle", key).await;
        (answer.status == 200).then_some(answer)
    })
    .await;
    assert_eq!(answer.text(), "needle");
    assert_eq!(house.times("needle"), 1);
    let calls = house.calls().await;
    assert_eq!(calls.len(), 1, "{calls:?}");
    assert_eq!(calls[0]["id"], answer.call().as_str());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_result_that_is_in_doubt_is_answered_once_it_is_sure() {
    let house = House::new(json!({})).await;
    house.cutter.cut(b"said so");
    let answer = house.server.post("a", "/status?code=200", "").await;
    assert_eq!((answer.status, answer.text().as_str()), (200, "said so"));
    assert_eq!(house.cutter.cuts(), 1);
    let call = house.server.call(&answer.call()).await;
    assert_eq!(
        (&call["state"], &call["attempts"]),
        (&json!("succeeded"), &json!(1))
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lease_that_is_in_doubt_is_held() {
    let house = House::new(json!({ "concurrency": 1 })).await;
    let later = ("prefer", "respond-async");
    let first = house.send("/agents/a/work?ms=300", "first", later).await;
    let second = house.send("/agents/a/work", "second", later).await;
    assert_eq!((first.status, second.status), (202, 202));
    let id: CallId = second.call().parse().expect("an id");
    house.cutter.cut(id.as_bytes());
    let call = house.server.wait_call(&second.call(), "succeeded").await;
    assert_eq!(
        (house.cutter.cuts(), &call["attempts"]),
        (1, &json!(1)),
        "{call}"
    );
    assert_eq!(house.times("second"), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_call_that_waits_for_its_next_attempt_in_doubt_gets_it() {
    let house = House::new(json!({ "retry_statuses": [503], "backoff": "10ms" })).await;
    house.cutter.cut(b"the agent answered 503");
    let answer = house.server.post("a", "/flaky?fails=1", "").await;
    assert_eq!((answer.status, answer.text().as_str()), (200, "attempt 2"));
    assert_eq!(house.cutter.cuts(), 1);
}
