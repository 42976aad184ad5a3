//! What is personal does not reach a provider, and comes back to who asked: at each door, at once and in streams, from one
//! dialect to another, and when an answer is given again.

use http::Method;
use serde_json::{Value, json};
use skep_tests::Answer;

use crate::models::{CHAT, House, put};

/// It answers with what it was asked.
const ECHO: &str = "echo+prompt=10";
const TEXT: &str =
    "I am ada@example.org with 4111 1111 1111 1111, ticket T-4711, again ada@example.org.";
const SENT: &str = "I am [EMAIL_1] with [CARD_1], ticket [TICKET_1], again [EMAIL_1].";

async fn set(house: &House, settings: Value) -> (u16, String) {
    put(&house.server.client, "settings/*", &settings).await
}

async fn redacts(house: &House) {
    let settings =
        json!({ "redact": ["email", "card"], "redact_patterns": { "ticket": "T-[0-9]+" } });
    let (status, said) = set(house, settings).await;
    assert_eq!(status, 200, "{said}");
}

async fn ask(house: &House, path: &str, body: &Value) -> Answer {
    let client = &house.server.client;
    let mut request = client.request(Method::POST, path, body.to_string());
    let version = "2023-06-01".parse().expect("a header");
    request.headers_mut().insert("anthropic-version", version);
    let said = client.send(request).await.expect("an answer");
    assert_eq!(said.status, 200, "{path}: {}", said.text());
    said
}

/// The texts of an answer, one after the other: of a stream, those of its pieces.
fn heard(answer: &str) -> String {
    let one = |value: &Value| {
        let places = [
            "/choices/0/message/content",
            "/choices/0/delta/content",
            "/content/0/text",
            "/delta/text",
            "/output/0/content/0/text",
            "/candidates/0/content/parts/0/text",
        ];
        let found = places.iter().find_map(|it| value.pointer(it)?.as_str());
        let delta = value["delta"]
            .as_str()
            .filter(|_| value["type"] == "response.output_text.delta");
        found.or(delta).unwrap_or_default().to_owned()
    };
    match serde_json::from_str::<Value>(answer) {
        Ok(whole) => one(&whole),
        Err(_) => answer
            .lines()
            .filter_map(|it| serde_json::from_str(it.strip_prefix("data: ")?).ok())
            .map(|it| one(&it))
            .collect(),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn it_does_not_go_out_and_comes_back() {
    let house = House::start().await;
    redacts(&house).await;
    let turn = json!([{ "role": "user", "content": TEXT }]);
    let gemini = json!([{ "role": "user", "parts": [{ "text": TEXT }] }]);
    for stream in [false, true] {
        let verb = if stream {
            "streamGenerateContent?alt=sse"
        } else {
            "generateContent"
        };
        let google = format!("/llm/google/v1beta/models/{ECHO}:{verb}");
        for (path, body) in [
            (
                CHAT,
                json!({ "model": ECHO, "stream": stream, "messages": turn }),
            ),
            (
                "/llm/openai/v1/responses",
                json!({ "model": ECHO, "stream": stream, "input": TEXT }),
            ),
            (
                "/llm/anthropic/v1/messages",
                json!({ "model": ECHO, "stream": stream, "max_tokens": 90, "messages": turn }),
            ),
            (google.as_str(), json!({ "contents": gemini })),
            // From one dialect to another.
            (
                CHAT,
                json!({ "model": format!("anthropic/{ECHO}"), "stream": stream, "max_tokens": 90, "messages": turn }),
            ),
        ] {
            let before = house.upstream.seen(ECHO).await.len();
            let said = ask(&house, path, &body).await;
            assert_eq!(
                heard(&said.text()),
                TEXT,
                "{path} {stream}: {}",
                said.text()
            );
            let seen = house.upstream.seen(ECHO).await;
            let sent = seen[before]["body"].to_string();
            assert!(sent.contains(SENT), "{path}: {sent}");
            assert!(!sent.contains("ada@"), "{path}: {sent}");
        }
    }
    // What has none of it passes as it is.
    let plain =
        json!({ "model": ECHO, "messages": [{ "role": "user", "content": "no [x] here" }] });
    let said = ask(&house, CHAT, &plain).await;
    assert_eq!(heard(&said.text()), "no [x] here");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_answer_that_is_given_again_has_its_own_values() {
    let house = House::start().await;
    let settings = json!({ "redact": ["email"], "cache_s": 600 });
    assert_eq!(set(&house, settings).await.0, 200);
    let body = |who: &str, stream: bool| {
        let text = format!("I am {who}.");
        json!({ "model": ECHO, "stream": stream, "messages": [{ "role": "user", "content": text }] })
    };
    for stream in [false, true] {
        for who in ["ada@example.org", "bob@example.org"] {
            let first = ask(&house, CHAT, &body(who, stream)).await;
            // What goes out is the same, and what came in is not.
            assert_eq!(first.header("skep-cache"), "miss", "{who}");
            let again = skep_tests::eventually("an answer that is kept", async || {
                let said = ask(&house, CHAT, &body(who, stream)).await;
                (said.header("skep-cache") == "hit").then_some(said)
            })
            .await;
            assert_eq!(heard(&again.text()), format!("I am {who}."));
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_wrong_with_it_is_told() {
    let house = House::start().await;
    for (settings, why) in [
        (json!({ "redact": ["names"] }), "`redact`"),
        (
            json!({ "redact_patterns": { "x": "(" } }),
            "`redact_patterns`",
        ),
        (json!({ "redact_patterns": { "email": "x" } }), "Skep's own"),
        (json!({ "redact_patterns": { "x": "x*" } }), "empty text"),
    ] {
        let (status, said) = set(&house, settings).await;
        assert_eq!(status, 400, "{said}");
        assert!(said.contains(why), "{said}");
    }
    // An agent's own word counts before everybody's.
    redacts(&house).await;
    let off = json!({ "redact": [] });
    let (status, said) = put(&house.server.client, "settings/ada", &off).await;
    assert_eq!(status, 200, "{said}");
    assert!(said.contains("\"redact\":[]"), "{said}");
}
