//! Agents that speak A2A: what they are asked, and what becomes of their answers.

use proptest::prelude::*;
use serde_json::{Value, json};

use crate::a2a::{Message, Part, REJECTED, Role, Task, TaskState, TaskView, Version, rpc};
use crate::adapt::{Adapter, FAILED, Protocol, ask};
use crate::agui::{Body, End, Event, Fold, INCOMPLETE, MALFORMED, Order, RunAgentInput, Said};
use crate::tests::checker::Checker;
use crate::tests::random;
use crate::{EventId, Shown};

const SSE: &str = "text/event-stream";
const JSON: &str = "application/json";

/// What an answer becomes, as events in order.
fn events(kind: &str, body: &str) -> Vec<Event> {
    let input = RunAgentInput::new("thread", "run");
    let mut adapter = Adapter::new(Protocol::A2a, 200, kind, "run");
    let mut order = Order::new(&input);
    let mut told = order.start();
    let mut said = Vec::new();
    for piece in body.as_bytes().chunks(7) {
        said.extend(adapter.push(piece));
    }
    said.extend(adapter.finish());
    told.extend(said.into_iter().flat_map(|it| order.push(it)));
    assert!(order.is_over(), "an adapter says how it ends");
    assert_eq!(Checker::all(&input, &told), Ok(()));
    told
}

fn fold(events: &[Event]) -> Fold {
    let mut fold = Fold::default();
    for event in events {
        fold.apply(event).unwrap();
    }
    fold
}

/// What the agent said, and how its run ended.
fn come_to(kind: &str, body: &str) -> (Vec<String>, Value) {
    let fold = fold(&events(kind, body));
    let said = fold.messages().iter();
    let said = said.filter(|it| matches!(it.said, Said::Assistant { .. }));
    let mut end = serde_json::to_value(fold.end().unwrap()).unwrap();
    let end = end.as_object_mut().unwrap();
    for name in ["threadId", "runId", "type"] {
        end.remove(name);
    }
    (said.map(|it| it.text()).collect(), end.clone().into())
}

/// A stream of these, each in an envelope.
fn stream(all: &[Value]) -> String {
    let one = |it: &Value| format!("data: {}\r\n\r\n", rpc::result(&json!("run"), it));
    all.iter().map(one).collect()
}

fn task(state: &str, more: &Value) -> Value {
    let mut task = json!({ "id": "t", "contextId": "c", "status": { "state": state } });
    task.as_object_mut()
        .unwrap()
        .extend(more.as_object().unwrap().clone());
    json!({ "task": task })
}

fn status(state: &str, text: &str) -> Value {
    let mut status = json!({ "state": state });
    if !text.is_empty() {
        status["message"] =
            json!({ "messageId": "s", "role": "ROLE_AGENT", "parts": [{ "text": text }] });
    }
    json!({ "statusUpdate": { "taskId": "t", "contextId": "c", "status": status } })
}

fn artifact(id: &str, parts: &Value, append: bool, last: bool) -> Value {
    json!({ "artifactUpdate": { "taskId": "t", "contextId": "c", "append": append, "lastChunk": last,
        "artifact": { "artifactId": id, "parts": parts } } })
}

fn text(id: &str, text: &str, append: bool) -> Value {
    artifact(id, &json!([{ "text": text }]), append, false)
}

#[test]
fn a_stream_becomes_texts() {
    let begun = task("TASK_STATE_SUBMITTED", &json!({}));
    let done = status("TASK_STATE_COMPLETED", "");
    for (told, texts) in [
        (
            vec![text("a", "Hel", false), text("a", "lo", true)],
            vec!["Hello"],
        ),
        // What takes the place of something is told from where it is otherwise, or anew.
        (
            vec![text("a", "Hel", false), text("a", "Hello", false)],
            vec!["Hello"],
        ),
        (
            vec![text("a", "Hel", false), text("a", "Bye", false)],
            vec!["Hel", "Bye"],
        ),
        (
            vec![text("a", "Hi", false), text("b", "you", false)],
            vec!["Hi", "you"],
        ),
        (
            vec![
                status("TASK_STATE_WORKING", "Looking"),
                text("a", "Hi", false),
            ],
            vec!["Hi"],
        ),
        (
            vec![
                task(
                    "TASK_STATE_WORKING",
                    &json!({ "artifacts": [
            { "artifactId": "a", "parts": [{ "text": "Hi" }] }] }),
                ),
                text("a", " you", true),
            ],
            vec!["Hi you"],
        ),
    ] {
        let mut all = vec![begun.clone()];
        all.extend(told);
        all.push(done.clone());
        let (said, end) = come_to(SSE, &stream(&all));
        assert_eq!(
            (said, end),
            (texts.into_iter().map(str::to_owned).collect(), json!({}))
        );
    }
    // What the agent is at are steps.
    let all = [
        begun,
        status("TASK_STATE_WORKING", "Looking"),
        text("a", "Hi", false),
        done,
    ];
    let told = events(SSE, &stream(&all));
    let is_step =
        |it: &&Event| matches!(&it.body, Body::StepStarted { step_name } if step_name == "Looking");
    assert_eq!(told.iter().filter(is_step).count(), 1);
    // What it calls the conversation stays with what it said.
    let mark = fold(&told).messages()[0]
        .metadata
        .clone()
        .map(Value::Object);
    assert_eq!(mark, Some(json!({ "a2a": { "contextId": "c" } })));
}

#[test]
fn the_words_of_before_are_understood() {
    let status = |state: &str, end: bool| json!({ "kind": "status-update", "taskId": "t", "contextId": "c", "status": { "state": state }, "final": end });
    let chunk = |text: &str, append: bool| {
        json!({ "kind": "artifact-update", "taskId": "t", "contextId": "c", "append": append,
            "artifact": { "artifactId": "a", "parts": [{ "kind": "text", "text": text }] } })
    };
    let begun =
        json!({ "kind": "task", "id": "t", "contextId": "c", "status": { "state": "submitted" } });
    let all = [
        begun,
        status("working", false),
        chunk("Hel", false),
        chunk("lo", true),
        status("completed", true),
    ];
    let hello = (vec!["Hello".to_owned()], json!({}));
    assert_eq!(come_to(SSE, &stream(&all)), hello);
    let message = json!({ "kind": "message", "messageId": "m", "role": "agent",
        "parts": [{ "kind": "text", "text": "Hello" }] });
    assert_eq!(
        come_to(JSON, &rpc::result(&json!(1), &message).to_string()),
        hello
    );
    // Without an envelope, as over HTTP.
    assert_eq!(come_to(JSON, &message.to_string()), hello);
}

#[test]
fn an_answer_may_come_at_once() {
    let data = json!({ "data": { "n": 1 } });
    let parts = json!([{ "text": "Hi" }, data, { "url": "https://x/f", "filename": "f" }]);
    let artifacts = json!({ "artifacts": [{ "artifactId": "a", "parts": parts }] });
    let whole = rpc::result(&json!("run"), &task("TASK_STATE_COMPLETED", &artifacts));
    let told = come_to(JSON, &whole.to_string());
    assert_eq!(
        told,
        (vec!["Hi".to_owned()], json!({ "result": { "n": 1 } }))
    );
    let file = events(JSON, &whole.to_string())
        .into_iter()
        .find_map(|it| match it.body {
            Body::Custom { name, value } => Some((name, value)),
            _ => None,
        });
    let wanted = json!({ "url": "https://x/f", "filename": "f" });
    assert_eq!(file, Some(("a2a.file".to_owned(), wanted)));
    let message =
        json!({ "message": { "messageId": "m", "role": "ROLE_AGENT", "parts": [data, data] } });
    let told = come_to(JSON, &message.to_string());
    assert_eq!(
        told,
        (vec![], json!({ "result": [{ "n": 1 }, { "n": 1 }] }))
    );
    // Some answer by the status alone.
    let answer = stream(&[
        task("TASK_STATE_WORKING", &json!({})),
        status("TASK_STATE_COMPLETED", "Hi"),
    ]);
    assert_eq!(come_to(SSE, &answer), (vec!["Hi".to_owned()], json!({})));
    let twice = stream(&[text("a", "Hi", false), status("TASK_STATE_COMPLETED", "Hi")]);
    assert_eq!(come_to(SSE, &twice), (vec!["Hi".to_owned()], json!({})));
}

#[test]
fn ends_that_are_none_are_told() {
    let failed = |code: &str, message: &str| json!({ "code": code, "message": message });
    let cancelled = json!({ "outcome": { "type": "cancelled" } });
    let none = "the agent's answer ended before its run did";
    let odd = "the agent should answer with a task or a message of A2A";
    let refused = json!({ "jsonrpc": "2.0", "id": 1, "error": { "code": -32601, "message": "Method not found" } });
    for (kind, body, end) in [
        (
            SSE,
            stream(&[status("TASK_STATE_FAILED", "It broke.")]),
            failed(FAILED, "It broke."),
        ),
        (
            SSE,
            stream(&[status("TASK_STATE_FAILED", "")]),
            failed(FAILED, "the agent's task failed"),
        ),
        (
            SSE,
            stream(&[status("TASK_STATE_REJECTED", "No.")]),
            failed(REJECTED, "No."),
        ),
        (SSE, stream(&[status("TASK_STATE_CANCELED", "")]), cancelled),
        (
            JSON,
            refused.to_string(),
            failed(FAILED, "Method not found"),
        ),
        (
            SSE,
            stream(&[text("a", "", false)]),
            failed(INCOMPLETE, none),
        ),
        (
            JSON,
            task("TASK_STATE_WORKING", &json!({})).to_string(),
            failed(INCOMPLETE, none),
        ),
        (JSON, "{}".to_owned(), failed(MALFORMED, odd)),
        (JSON, "[1]".to_owned(), failed(MALFORMED, odd)),
        (
            SSE,
            "data: Hi\n\n".to_owned(),
            failed(MALFORMED, "the agent should answer with a stream of events"),
        ),
    ] {
        assert_eq!(come_to(kind, &body), (vec![], end), "{body}");
    }
}

#[test]
fn what_a_task_waits_for_is_answered_to_it() {
    let mut waits = status("TASK_STATE_INPUT_REQUIRED", "May I?");
    let schema = json!({ "data": { "responseSchema": { "type": "boolean" } } });
    let parts = &mut waits["statusUpdate"]["status"]["message"]["parts"];
    parts.as_array_mut().unwrap().push(schema);
    let all = [
        task("TASK_STATE_SUBMITTED", &json!({})),
        text("a", "Well.", false),
        waits,
    ];
    let told = events(SSE, &stream(&all));
    let fold = fold(&told);
    let [interrupt] = fold.interrupts() else {
        panic!("{told:?}");
    };
    assert_eq!(
        (interrupt.id.as_str(), interrupt.reason.as_str()),
        ("t", "input_required")
    );
    assert_eq!(interrupt.message.as_deref(), Some("May I?"));
    assert_eq!(
        interrupt.response_schema.clone().map(Value::Object),
        Some(json!({ "type": "boolean" }))
    );
    let (_, end) = come_to(SSE, &stream(&[status("TASK_STATE_AUTH_REQUIRED", "")]));
    assert_eq!(end["outcome"]["interrupts"][0]["reason"], "auth_required");
    // The next run of the conversation.
    let mut input = RunAgentInput::new("thread", "run2");
    input.messages = fold.messages().to_vec();
    for (entry, part) in [
        (
            json!({ "interruptId": "t", "status": "resolved", "payload": "Yes" }),
            json!({ "text": "Yes" }),
        ),
        (
            json!({ "interruptId": "t", "status": "resolved", "payload": true }),
            json!({ "data": true }),
        ),
        (
            json!({ "interruptId": "t", "status": "cancelled" }),
            json!({ "data": { "status": "cancelled" } }),
        ),
    ] {
        input.resume = vec![serde_json::from_value(entry).unwrap()];
        let asked = ask(Protocol::A2a, &input);
        let asked: Value = serde_json::from_slice(&asked.body).unwrap();
        let wanted = json!({ "messageId": "run2", "contextId": "c", "taskId": "t", "role": "ROLE_USER", "parts": [part] });
        assert_eq!(asked["params"]["message"], wanted);
    }
}

#[test]
fn an_agent_is_asked_what_was_said_since_it_spoke() {
    let mut input = RunAgentInput::read(json!({
        "threadId": "thread", "runId": "run",
        "messages": [
            { "id": "1", "role": "user", "content": "Hello" },
            { "id": "2", "role": "assistant", "content": "Hi", "metadata": { "a2a": { "contextId": "c" } } },
            { "id": "3", "role": "user", "content": "How are you?" },
            { "id": "4", "role": "user", "content": [{ "type": "text", "text": "See" },
                { "type": "image", "source": { "type": "url", "value": "https://x/i", "mimeType": "image/png" } }] },
        ],
        "forwardedProps": { "a2a": { "acceptedOutputModes": ["text/plain"], "metadata": { "x": 1 } } },
    }))
    .unwrap();
    let asked = ask(Protocol::A2a, &input);
    assert_eq!((asked.method, asked.path), ("POST", "/"));
    assert!(asked.headers.contains(&("a2a-version", "1.0".to_owned())));
    let body: Value = serde_json::from_slice(&asked.body).unwrap();
    let wanted = json!({
        "jsonrpc": "2.0", "id": "run", "method": "SendStreamingMessage",
        "params": {
            "message": { "messageId": "run", "contextId": "c", "role": "ROLE_USER", "parts": [
                { "text": "How are you?" }, { "text": "See" }, { "url": "https://x/i", "mediaType": "image/png" }] },
            "configuration": { "acceptedOutputModes": ["text/plain"] },
            "metadata": { "x": 1 },
        },
    });
    assert_eq!(body, wanted);
    // What our own door takes.
    assert!(rpc::read(Some("1.0"), &asked.body).is_ok());
    input.messages.clear();
    assert!(rpc::read(Some("1.0"), &ask(Protocol::A2a, &input).body).is_ok());
}

/// A run as its task is told, and as who follows that makes a run of it again.
fn twice(input: &RunAgentInput, said: Vec<Event>, version: Version) -> (TaskView, Vec<Event>) {
    let asked = Message::new("q", Role::User, vec![Part::text("Hi")]);
    let mut view = TaskView::new(Task::submitted("t", "c", asked, 0), input);
    let mut told = vec![view.begin()];
    let mut order = Order::new(input);
    let mut events = order.start();
    events.extend(said.into_iter().flat_map(|it| order.push(it)));
    events.extend(order.end(End::Finished));
    for (index, event) in (1..).zip(events) {
        let id = Some(EventId { attempt: 1, index });
        told.extend(view.push(&Shown { id, event }, 1));
    }
    let told: Vec<Value> = told.iter().map(|it| it.wire(version)).collect();
    let mut adapter = Adapter::new(Protocol::A2a, 200, SSE, "run");
    let mut events = adapter.push(stream(&told).as_bytes());
    events.extend(adapter.finish());
    let mut order = Order::new(&RunAgentInput::new("thread", "run"));
    let mut run = order.start();
    run.extend(events.into_iter().flat_map(|it| order.push(it)));
    assert!(order.is_over());
    (view, run)
}

fn version() -> impl Strategy<Value = Version> {
    prop::sample::select(vec![Version::V1_0, Version::V0_3])
}

proptest! {
    #[test]
    fn an_agent_behind_two_of_us_ends_the_same(said in random::events(), version in version()) {
        let (view, run) = twice(&random::input(), said, version);
        let state = view.task().status.state;
        let fold = fold(&run);
        let is_same = match (state, fold.end().map(|it| &it.body)) {
            (TaskState::Failed, Some(Body::RunError { .. })) => true,
            (TaskState::Failed, _) => false,
            (state, Some(Body::RunFinished { .. })) => {
                state.is_interrupted() != fold.interrupts().is_empty()
            }
            _ => false,
        };
        prop_assert!(is_same, "{state:?} {:?}", fold.end());
    }

    #[test]
    fn an_agent_behind_two_of_us_says_the_same(
        said in prop::collection::vec((0..3_u8, "[a-c\u{f6}]{0,3}"), 0..30), version in version(),
    ) {
        let events = said.iter().map(|(id, delta)| {
            Event::from(Body::TextMessageChunk {
                message_id: Some(format!("m{id}")),
                role: None,
                delta: Some(delta.clone()),
                name: None,
            })
        });
        let end = Body::RunFinished {
            thread_id: String::new(),
            run_id: String::new(),
            result: Some(json!({ "n": 1 })),
            outcome: None,
            usage: Vec::new(),
        };
        let events = events.chain([end.into()]).collect();
        let (_, run) = twice(&RunAgentInput::new("thread", "run"), events, version);
        let text: String = run
            .iter()
            .filter_map(|it| match &it.body {
                Body::TextMessageContent { delta, .. } => Some(delta.as_str()),
                _ => None,
            })
            .collect();
        prop_assert_eq!(text, said.into_iter().map(|(_, delta)| delta).collect::<String>());
        let fold = fold(&run);
        let Some(Body::RunFinished { result, .. }) = fold.end().map(|it| &it.body) else {
            panic!("{run:?}");
        };
        prop_assert_eq!(result.as_ref(), Some(&json!({ "n": 1 })));
    }
}

#[test]
fn files_go_through_two_of_us() {
    let file = json!({ "raw": "aGk=", "filename": "f", "mediaType": "text/csv" });
    let custom = Body::Custom {
        name: "a2a.file".to_owned(),
        value: file.clone(),
    };
    for version in [Version::V1_0, Version::V0_3] {
        let input = RunAgentInput::new("thread", "run");
        let (_, run) = twice(&input, vec![custom.clone().into()], version);
        let files: Vec<&Body> = run
            .iter()
            .map(|it| &it.body)
            .filter(|it| **it == custom)
            .collect();
        assert_eq!(files.len(), 1, "{run:?}");
    }
}
