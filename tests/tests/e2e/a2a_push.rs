//! What becomes of tasks, pushed to where clients of A2A want it: in order, at least once, whatever is killed in between, and to
//! nobody inside.

use std::path::Path;

use http::Method;
use serde_json::{Value, json};
use skep_tests::{Client, Receiver, Server, Setup, eventually, payload};

use crate::a2a::{call, done, message, refused, request, rest, said};
use crate::a2a_sdks::conformance;

/// This machine may be asked, and what is not taken is tried again within a second.
const QUICK: [(&str, &str); 2] = [
    ("SKEP_OUTGOING_ALLOW", "127.0.0.0/8"),
    ("SKEP_WEBHOOKS_SCHEDULE", "10ms,10ms,10ms"),
];
/// As often as a test can want.
const PATIENT: [(&str, &str); 2] = [
    ("SKEP_OUTGOING_ALLOW", "127.0.0.0/8"),
    (
        "SKEP_WEBHOOKS_SCHEDULE",
        "100ms,100ms,200ms,200ms,500ms,500ms,1s,1s,1s,1s,2s,2s,2s,2s,2s,2s,2s,2s,2s,2s,2s,2s",
    ),
];
const CREDENTIALS: &str = "canary-of-credentials";
const TOKEN: &str = "canary-of-a-token";

async fn server(env: &[(&str, &str)]) -> Server {
    let env = env
        .iter()
        .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
    let setup = Setup {
        env: env.collect(),
        ..Setup::default()
    };
    let server = Server::start_with(setup).await;
    let mut spec = conformance();
    spec["name"] = json!("a");
    server.deploy_spec(spec).await;
    server
}

/// A message with where to push what becomes of it.
fn pushed(id: &str, text: &str, url: &str) -> Value {
    let mut asked = message(id, text);
    asked["configuration"] = json!({ "returnImmediately": true, "taskPushNotificationConfig": {
        "id": "push", "url": url, "token": TOKEN,
        "authentication": { "scheme": "Bearer", "credentials": CREDENTIALS } } });
    asked
}

async fn open(server: &Server, gate: &str) {
    let answer = server.client.get(&format!("/agents/a/open/{gate}")).await;
    assert_eq!(answer.status, 200, "{}", answer.text());
}

/// What was told, shortly.
fn shortly(told: &Value) -> String {
    let update = &told["artifactUpdate"];
    if told["task"].is_object() {
        return format!(
            "task {}",
            told["task"]["status"]["state"].as_str().unwrap_or("?")
        );
    }
    if update.is_object() {
        let text = update["artifact"]["parts"][0]["text"].as_str();
        return format!("text {}", text.unwrap_or("?"));
    }
    let state = told["statusUpdate"]["status"]["state"].as_str();
    state.unwrap_or("?").replace("TASK_STATE_", "")
}

fn is_last(told: &Value, state: &str) -> bool {
    told["statusUpdate"]["status"]["state"] == state
}

/// All that was taken, up to an update of this state.
async fn taken(receiver: &Receiver, name: &str, state: &str) -> Vec<Value> {
    eventually(state, async || {
        let mut all = receiver.heard_at(name);
        all.retain(|it| it["answer"] == "204");
        let all: Vec<Value> = all.iter().map(payload).collect();
        all.last()
            .is_some_and(|it| is_last(it, state))
            .then_some(all)
    })
    .await
}

/// What who was told all that has of the task.
fn applied(all: &[Value]) -> String {
    let mut artifacts: Vec<(Value, String)> = Vec::new();
    for told in all {
        if told["task"].is_object() {
            let now = told["task"]["artifacts"].as_array().cloned();
            let one = |it: &Value| {
                (
                    it["artifactId"].clone(),
                    said(&json!({ "artifacts": [it] })),
                )
            };
            artifacts = now.unwrap_or_default().iter().map(one).collect();
        }
        let update = &told["artifactUpdate"];
        let Some(piece) = update["artifact"]["parts"][0]["text"].as_str() else {
            continue;
        };
        let id = &update["artifact"]["artifactId"];
        match artifacts.iter_mut().find(|(it, _)| it == id) {
            Some((_, text)) if update["append"] == true => text.push_str(piece),
            Some((_, text)) => piece.clone_into(text),
            None => artifacts.push((id.clone(), piece.to_owned())),
        }
    }
    artifacts.into_iter().map(|(_, text)| text).collect()
}

const WHOLE: [&str; 7] = [
    "task TASK_STATE_SUBMITTED",
    "WORKING",
    "text waiting",
    "text ",
    "text done",
    "text ",
    "COMPLETED",
];

#[tokio::test]
async fn what_becomes_of_a_task_is_told_in_order_and_again_when_it_was_not_taken() {
    let server = server(&QUICK).await;
    let receiver = Receiver::start().await;
    receiver.plan(&["500", "503", "204", "500"]);
    let client = &server.client;
    let asked = pushed("held-1", "gate", &receiver.url("one"));
    let sent = done(client, "SendMessage", asked.clone()).await;
    let id = sent["task"]["id"].as_str().expect("an id");
    // Sent again it is the same, and told once.
    let again = done(client, "SendMessage", asked).await;
    assert_eq!(again["task"]["id"], json!(id));
    open(&server, "gate").await;
    let all = taken(&receiver, "one", "TASK_STATE_COMPLETED").await;
    let told: Vec<String> = all.iter().map(shortly).collect();
    assert_eq!(told, WHOLE);
    assert_eq!(applied(&all), "waitingdone");
    let heard = receiver.heard_at("one");
    assert_eq!(heard.len(), WHOLE.len() + 3);
    for one in &heard {
        let headers = &one["headers"];
        assert_eq!(headers["authorization"], format!("Bearer {CREDENTIALS}"));
        assert_eq!(headers["x-a2a-notification-token"], TOKEN);
        assert_eq!(headers["content-type"], "application/a2a+json");
    }
    for told in &all {
        let inner = told.as_object().and_then(|it| it.values().next());
        let inner = inner.expect("one thing");
        let of = inner.get("taskId").or(inner.get("id"));
        assert_eq!(of, Some(&json!(id)), "{told}");
    }
}

#[tokio::test]
async fn who_was_away_while_the_server_was_killed_misses_nothing_and_is_told_nothing_twice() {
    let mut server = server(&PATIENT).await;
    let mut receiver = Receiver::start().await;
    let asked = pushed("held-1", "gate", &receiver.url("one"));
    done(&server.client, "SendMessage", asked).await;
    eventually("the first chunk", async || {
        (receiver.heard_at("one").len() >= 4).then_some(())
    })
    .await;
    receiver.end().await;
    open(&server, "gate").await;
    let listed = json!({ "status": "TASK_STATE_COMPLETED" });
    eventually("the end", async || {
        let listed = done(&server.client, "ListTasks", listed.clone()).await;
        (listed["totalSize"] == 1).then_some(())
    })
    .await;
    server.kill();
    server.restart_as_it_was().await;
    receiver.begin().await;
    let all = taken(&receiver, "one", "TASK_STATE_COMPLETED").await;
    let told: Vec<String> = all.iter().map(shortly).collect();
    assert_eq!(told, WHOLE);
}

#[tokio::test]
async fn what_an_attempt_said_that_was_cut_is_made_good() {
    let mut server = server(&PATIENT).await;
    let receiver = Receiver::start().await;
    let asked = pushed("held-1", "gate", &receiver.url("one"));
    done(&server.client, "SendMessage", asked).await;
    eventually("the first chunk", async || {
        (receiver.heard_at("one").len() >= 4).then_some(())
    })
    .await;
    server.kill();
    server.restart_as_it_was().await;
    open(&server, "gate").await;
    let all = taken(&receiver, "one", "TASK_STATE_COMPLETED").await;
    assert_eq!(applied(&all), "waitingdone");
    let tasks = all.iter().filter(|it| it["task"].is_object()).count();
    assert_eq!(tasks, 2, "{all:?}");
}

#[tokio::test]
async fn who_comes_later_is_told_what_follows_and_of_what_follows_an_answer() {
    let server = server(&QUICK).await;
    let client = &server.client;
    let receiver = Receiver::start().await;
    let asked = done(
        client,
        "SendMessage",
        message("tck-input-required-1", "Go."),
    )
    .await;
    let id = &asked["task"]["id"];
    let config = json!({ "taskId": id, "url": receiver.url("later") });
    let made = done(client, "CreateTaskPushNotificationConfig", config).await;
    assert_eq!(made["id"], *id);
    let mut answer = message("answer", "Blue.");
    answer["message"]["taskId"] = id.clone();
    done(client, "SendMessage", answer).await;
    let all = taken(&receiver, "later", "TASK_STATE_COMPLETED").await;
    let told: Vec<String> = all.iter().map(shortly).collect();
    assert_eq!(
        told,
        ["WORKING", "text Got \"Blue.\"", "text ", "COMPLETED"]
    );
    // What is given up is told, too.
    let asked = pushed("tck-input-required-2", "Go.", &receiver.url("given-up"));
    let asked = done(client, "SendMessage", asked).await;
    taken(&receiver, "given-up", "TASK_STATE_INPUT_REQUIRED").await;
    done(client, "CancelTask", json!({ "id": asked["task"]["id"] })).await;
    taken(&receiver, "given-up", "TASK_STATE_CANCELED").await;
}

#[tokio::test]
async fn nobody_inside_is_told_and_who_takes_nothing_is_given_up() {
    let receiver = Receiver::start().await;
    let closed = server(&QUICK[1..]).await;
    let inside = [
        receiver.url("x"),
        "http://169.254.169.254/latest".to_owned(),
        "http://[::1]/x".to_owned(),
    ];
    for url in inside {
        let (code, why) = refused(&closed.client, "SendMessage", pushed("held-1", "g", &url)).await;
        assert_eq!(code, -32602, "{url}: {why}");
    }
    // Where a name leads is seen when it is asked.
    let url = receiver.url("x").replace("127.0.0.1", "localhost");
    done(&closed.client, "SendMessage", pushed("held-2", "g", &url)).await;
    let failed = async |server: &Server| {
        eventually("the end of it", async || {
            let events = server.client.get("/api/v1/events?type=push.failed").await;
            events.json()["items"][0].as_object().cloned()
        })
        .await
    };
    let event = failed(&closed).await;
    assert!(
        event["detail"]
            .as_str()
            .is_some_and(|it| it.contains("outgoing.allow")),
        "{event:?}"
    );
    assert!(receiver.heard().is_empty());
    // So is one that never takes anything, after its tries.
    let open = server(&QUICK).await;
    receiver.plan(&["500"; 8]);
    done(
        &open.client,
        "SendMessage",
        pushed("held-1", "g", &receiver.url("never")),
    )
    .await;
    let event = failed(&open).await;
    assert!(
        event["detail"]
            .as_str()
            .is_some_and(|it| it.contains("it answered 500")),
        "{event:?}"
    );
    assert_eq!(receiver.heard_at("never").len(), 4);
}

fn read_all(folder: &Path, found: &mut Vec<(String, Vec<u8>)>) {
    for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
        let path = entry.path();
        match path.is_dir() {
            true => read_all(&path, found),
            // A pipe has no end.
            false if !path.is_file() => {}
            false => {
                found.extend(std::fs::read(&path).map(|bytes| (path.display().to_string(), bytes)));
            }
        }
    }
}

#[tokio::test]
async fn a_configuration_is_its_owners_and_its_secrets_are_nobodys() {
    let server = server(&QUICK).await;
    let client = &server.client;
    let receiver = Receiver::start().await;
    let asked = pushed("held-1", "gate", &receiver.url("one"));
    let sent = done(client, "SendMessage", asked).await;
    let id = sent["task"]["id"].as_str().expect("an id");
    let which = json!({ "taskId": id, "id": "push" });
    let got = done(client, "GetTaskPushNotificationConfig", which.clone()).await;
    assert_eq!(
        (&got["url"], &got["taskId"]),
        (&json!(receiver.url("one")), &json!(id))
    );
    assert_eq!(got["authentication"], json!({ "scheme": "Bearer" }));
    let listed = done(
        client,
        "ListTaskPushNotificationConfigs",
        json!({ "taskId": id }),
    )
    .await;
    assert_eq!(listed["configs"], json!([got]));
    let wish = json!({ "name": "other", "role": "member" });
    let made = client.post_json("/api/v1/keys", &wish).await.json();
    let other = Client::new(&client.url, made["secret"].as_str().expect("a key"));
    let new = json!({ "taskId": id, "url": receiver.url("theirs") });
    for (method, params) in [
        ("GetTaskPushNotificationConfig", &which),
        ("ListTaskPushNotificationConfigs", &which),
        ("DeleteTaskPushNotificationConfig", &which),
        ("CreateTaskPushNotificationConfig", &new),
    ] {
        let (code, _) = refused(&other, method, params.clone()).await;
        assert_eq!(code, -32001, "{method}");
    }
    open(&server, "gate").await;
    taken(&receiver, "one", "TASK_STATE_COMPLETED").await;
    // Twice, as it is said that it may be.
    for _ in 0..2 {
        done(client, "DeleteTaskPushNotificationConfig", which.clone()).await;
    }
    let (code, _) = refused(client, "GetTaskPushNotificationConfig", which).await;
    assert_eq!(code, -32001);
    let again = pushed("held-2", "other", &receiver.url("two"));
    done(client, "SendMessage", again).await;
    let mut found = vec![("the log".to_owned(), server.log().into_bytes())];
    read_all(&server.data(), &mut found);
    assert!(
        found.iter().any(|(name, _)| name.ends_with("skep.db")),
        "what is looked at"
    );
    for (name, bytes) in found {
        for canary in [CREDENTIALS, TOKEN] {
            let is_there = bytes
                .windows(canary.len())
                .any(|it| it == canary.as_bytes());
            assert!(!is_there, "{canary} is in {name}");
        }
    }
}

#[tokio::test]
async fn configurations_are_the_same_over_http_and_in_the_older_version() {
    let server = server(&QUICK).await;
    let client = &server.client;
    let receiver = Receiver::start().await;
    let sent = done(
        client,
        "SendMessage",
        pushed("held-1", "gate", &receiver.url("one")),
    )
    .await;
    let id = sent["task"]["id"].as_str().expect("an id");
    let path = format!("/a2a/a/tasks/{id}/pushNotificationConfigs");
    let new = json!({ "id": "http", "url": receiver.url("http") });
    let made = rest(client, Method::POST, &path, &new).await;
    assert_eq!(
        (made.status, &made.json()["id"]),
        (200, &json!("http")),
        "{}",
        made.text()
    );
    let older = async |method: &str, params: Value| {
        let asked = request(client, Method::POST, "/a2a/a", None, call(method, &params));
        client.send(asked).await.expect("an answer").json()["result"].clone()
    };
    let new = json!({ "taskId": id, "pushNotificationConfig": { "id": "older", "url": receiver.url("older"),
        "authentication": { "schemes": ["Bearer"], "credentials": "x" } } });
    let made = older("tasks/pushNotificationConfig/set", new).await;
    assert_eq!(made["pushNotificationConfig"]["id"], "older", "{made}");
    let listed = rest(client, Method::GET, &path, &Value::Null).await.json();
    let ids: Vec<&Value> = listed["configs"]
        .as_array()
        .expect("a list")
        .iter()
        .map(|it| &it["id"])
        .collect();
    assert_eq!(ids, ["http", "older", "push"]);
    let listed = older("tasks/pushNotificationConfig/list", json!({ "id": id })).await;
    assert_eq!(listed.as_array().map(Vec::len), Some(3), "{listed}");
    let gone = rest(
        client,
        Method::DELETE,
        &format!("{path}/push"),
        &Value::Null,
    )
    .await;
    assert_eq!(gone.status, 200, "{}", gone.text());
    let missing = rest(client, Method::GET, &format!("{path}/push"), &Value::Null).await;
    assert_eq!(missing.status, 404, "{}", missing.text());
    open(&server, "gate").await;
    taken(&receiver, "http", "TASK_STATE_COMPLETED").await;
    // Clients of the older one are told the task, as it is.
    let last = eventually("the end", async || {
        let all = receiver.heard_at("older");
        let last = payload(all.last()?);
        (last["status"]["state"] == "completed").then_some(last)
    })
    .await;
    assert_eq!((&last["kind"], &last["id"]), (&json!("task"), &json!(id)));
    let texts: Vec<&Value> = last["artifacts"]
        .as_array()
        .expect("artifacts")
        .iter()
        .map(|it| &it["parts"][0]["text"])
        .collect();
    assert_eq!(texts, ["waiting", "done"]);
    // One has its bound.
    for at in 0..14 {
        let new = json!({ "taskId": id, "id": format!("c{at}"), "url": receiver.url("x") });
        done(client, "CreateTaskPushNotificationConfig", new).await;
    }
    let new = json!({ "taskId": id, "id": "more", "url": receiver.url("x") });
    let (code, _) = refused(client, "CreateTaskPushNotificationConfig", new).await;
    assert_eq!(code, -32602);
}
