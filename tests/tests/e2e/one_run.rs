//! One run is one thing: whoever follows it, by whatever door, is told the same in the same order, through a kill of the server.

use http::{HeaderName, HeaderValue, Method};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use serde_json::Value;
use skep_tests::Server;

use crate::agui::{asks, counting, input, step};

/// A door by which a run is followed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Door {
    Agui,
    Rest,
    A2a,
    OpenAi,
}

const DOORS: [Door; 4] = [Door::Agui, Door::Rest, Door::A2a, Door::OpenAi];

/// Somebody who follows the run, and what they have of it.
struct Follower {
    door: Door,
    body: Incoming,
    /// What was said, piece by piece.
    pieces: Vec<String>,
    /// Behind what they come again.
    seen: Option<String>,
    rest: String,
    is_over: bool,
}

impl Follower {
    async fn new(door: Door, server: &Server, run: &str) -> Self {
        Self {
            door,
            body: open(door, server, (run, None)).await,
            pieces: Vec::new(),
            seen: None,
            rest: String::new(),
            is_over: false,
        }
    }

    /// Comes again, behind what was seen.
    async fn again(&mut self, server: &Server, run: &str) {
        self.body = open(self.door, server, (run, self.seen.as_deref())).await;
        self.rest.clear();
    }

    /// Reads until so much was said; or, without a text, to the end.
    async fn reads(&mut self, text: Option<&str>) {
        while text != Some(self.pieces.concat().as_str()) {
            let Some(frame) = self.body.frame().await else {
                assert!(text.is_none() && self.is_over, "{:?} is cut", self.door);
                return;
            };
            let frame = frame.expect("a frame");
            if let Some(data) = frame.data_ref() {
                self.rest.push_str(&String::from_utf8_lossy(data));
            }
            while let Some((one, rest)) = self.rest.split_once("\n\n") {
                let (one, rest) = (one.to_owned(), rest.to_owned());
                self.rest = rest;
                self.take(&one);
            }
        }
    }

    fn take(&mut self, frame: &str) {
        let field = |name: &str| frame.lines().find_map(|line| line.strip_prefix(name));
        let Some(data) = field("data: ") else {
            return;
        };
        let value: Value = serde_json::from_str(data).expect("JSON");
        match self.door {
            Door::Agui | Door::Rest => {
                self.seen = field("id: ").map(str::to_owned).or(self.seen.take());
                self.agui(&value);
            }
            Door::A2a => self.a2a(&value),
            Door::OpenAi => {
                self.seen = Some(value["sequence_number"].to_string());
                self.openai(&value);
            }
        }
    }

    fn says(&mut self, piece: &Value) {
        // The last chunk of an artifact of A2A may be empty.
        let piece = piece.as_str().filter(|it| !it.is_empty());
        self.pieces.extend(piece.map(str::to_owned));
    }

    fn agui(&mut self, event: &Value) {
        match event["type"].as_str().unwrap_or_default() {
            "TEXT_MESSAGE_CONTENT" => self.says(&event["delta"]),
            // The conversation is this, from now on.
            "MESSAGES_SNAPSHOT" => {
                self.pieces.clear();
                let messages = event["messages"].as_array().expect("messages");
                for message in messages.iter().filter(|it| it["role"] == "assistant") {
                    self.says(&message["content"]);
                }
            }
            "RUN_FINISHED" => self.is_over = true,
            _ => {}
        }
    }

    fn a2a(&mut self, event: &Value) {
        if let Some(task) = event["task"].as_object() {
            self.pieces.clear();
            let artifacts = task.get("artifacts").and_then(Value::as_array);
            for artifact in artifacts.into_iter().flatten() {
                self.says(&artifact["parts"][0]["text"]);
            }
        }
        let update = &event["artifactUpdate"];
        if !update.is_null() {
            if update["append"] != true {
                self.pieces.clear();
            }
            self.says(&update["artifact"]["parts"][0]["text"]);
        }
        self.is_over |= event["statusUpdate"]["status"]["state"] == "TASK_STATE_COMPLETED";
    }

    fn openai(&mut self, event: &Value) {
        match event["type"].as_str().unwrap_or_default() {
            "response.created" => self.pieces.clear(),
            "response.output_text.delta" => self.says(&event["delta"]),
            "response.completed" => self.is_over = true,
            _ => {}
        }
    }
}

async fn open(door: Door, server: &Server, (run, seen): (&str, Option<&str>)) -> Incoming {
    if door == Door::Agui {
        let answer = asks(server, input("t", "r"), seen).await;
        assert_eq!(answer.headers()["skep-run-id"], run);
        return answer.into_body();
    }
    let (method, path) = match door {
        Door::A2a => (Method::POST, format!("/a2a/a/tasks/{run}:subscribe")),
        Door::OpenAi => {
            let behind = seen.map(|it| format!("&starting_after={it}"));
            let behind = behind.unwrap_or_default();
            (
                Method::GET,
                format!("/v1/responses/{run}?stream=true{behind}"),
            )
        }
        _ => (Method::GET, format!("/api/v1/runs/{run}/events")),
    };
    let mut request = server.client.request(method, &path, "");
    let headers = [("a2a-version", Some("1.0")), ("last-event-id", seen)];
    for (name, value) in headers {
        if let Some(value) = value {
            let value = HeaderValue::from_str(value).expect("a value");
            let name = HeaderName::from_static(name);
            request.headers_mut().insert(name, value);
        }
    }
    let answer = server.client.open(request).await.expect("an answer");
    assert_eq!(answer.status(), 200, "{door:?}");
    answer.into_body()
}

#[tokio::test]
async fn whoever_follows_a_run_is_told_the_same_through_a_kill_of_the_server() {
    let mut server = counting().await;
    let begun = asks(&server, input("t", "r"), None).await;
    let run = begun.headers()["skep-run-id"].to_str().expect("an id");
    let run = run.to_owned();
    let mut followers = Vec::new();
    for door in DOORS {
        followers.push(Follower::new(door, &server, &run).await);
    }
    step(&server, 1);
    for follower in &mut followers {
        follower.reads(Some("step 1")).await;
    }
    server.kill();
    server.restart().await;
    for follower in &mut followers {
        follower.again(&server, &run).await;
    }
    // Some come before the next attempt has said it again, some behind that.
    for follower in &mut followers {
        follower.reads(Some("step 1")).await;
    }
    step(&server, 2);
    for follower in &mut followers {
        follower.reads(None).await;
        assert_eq!(follower.pieces, ["step 1", "step 2"], "{:?}", follower.door);
    }
    // And who comes when all is over.
    for door in [Door::Agui, Door::Rest, Door::OpenAi] {
        let mut late = Follower::new(door, &server, &run).await;
        late.reads(None).await;
        assert_eq!(late.pieces.concat(), "step 1step 2", "{door:?}");
    }
    let whole = server.client.get(&format!("/a2a/a/tasks/{run}")).await;
    let artifact = &whole.json()["artifacts"][0];
    assert_eq!(artifact["parts"][0]["text"], "step 1step 2");
}
