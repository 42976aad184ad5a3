//! Answers of agents: whatever comes, it becomes a right run, however it is cut; who comes late to it sees the same, and in A2A it is
//! a right task. And what clients ask in A2A.
#![no_main]

use libfuzzer_sys::fuzz_target;
use skep_protocols::a2a::{
    Form, Message, Part, Question, Request, Role, StreamResponse, Task, TaskState, TaskView,
    Version, canonical, rest, rpc,
};
use skep_protocols::adapt::{Adapter, Protocol};
use skep_protocols::agui::{Body, End, Event, Fold, NotFolded, Order, RunAgentInput};
use skep_protocols::{EventId, Shown};

const KINDS: [&str; 5] = [
    "text/event-stream",
    "application/json",
    "application/x-ndjson",
    "text/plain",
    "",
];

/// What an answer becomes that comes in two pieces.
fn told(protocol: Protocol, status: u16, kind: &str, bytes: &[u8], cut: usize) -> Vec<Event> {
    let mut adapter = Adapter::new(protocol, status, kind, "run");
    let mut order = Order::new(&RunAgentInput::new("thread", "run"));
    let (first, second) = bytes.split_at(cut);
    let mut events = adapter.push(first);
    events.extend(adapter.push(second));
    events.extend(adapter.finish());
    let mut told = order.start();
    told.extend(events.into_iter().flat_map(|it| order.push(it)));
    assert!(order.is_over());
    told
}

/// A right run begins once, ends once, and is the same in order again.
fn check(told: &[Event]) {
    let begins = |it: &&Event| matches!(it.body, Body::RunStarted { .. });
    assert!(begins(&&told[0]));
    assert_eq!(told.iter().filter(begins).count(), 1);
    let end = told.iter().position(Event::is_end);
    assert_eq!(end, Some(told.len() - 1));
    let mut order = Order::new(&RunAgentInput::new("thread", "run"));
    let mut again: Vec<Event> = told.iter().flat_map(|it| order.push(it.clone())).collect();
    again.extend(order.end(End::Finished));
    assert_eq!(again, told);
}

/// What events come to; none, when it is too long.
fn folded(events: &[Event]) -> Option<Fold> {
    let mut fold = Fold::default();
    for event in events {
        if let Err(NotFolded::TooMuch) = fold.apply(event) {
            return None;
        }
    }
    Some(fold)
}

/// A run is a task that is told once, ends once, and has been at work before it has brought something forth.
fn task(told: &[Event]) {
    let asked = Message::new("q", Role::User, vec![Part::text("Hi")]);
    let input = RunAgentInput::new("thread", "run");
    let mut view = TaskView::new(Task::submitted("t", "c", asked, 0), &input);
    view.begin();
    let mut state = TaskState::Submitted;
    for (index, event) in (1..).zip(told) {
        let (id, event) = (Some(EventId { attempt: 1, index }), event.clone());
        for told in view.push(&Shown { id, event }, 1) {
            assert!(!state.is_terminal() && !state.is_interrupted());
            match &told {
                StreamResponse::ArtifactUpdate(_) => assert_eq!(state, TaskState::Working),
                _ => state = told.state().unwrap(),
            }
            for form in [Form::V1_0, Form::V0_3, Form::V0_3Http] {
                let _ = told.wire(form);
            }
        }
    }
    assert!(view.is_over());
}

/// What a client may send is read, or refused, and becomes a run.
fn request(bytes: &[u8]) {
    for version in [None, Some("1.0")] {
        let Ok(call) = rpc::read(version, bytes) else {
            continue;
        };
        let (Request::SendMessage(asked) | Request::SendStreamingMessage(asked)) = call.request
        else {
            continue;
        };
        let again = asked.message.wire(Version::V1_0);
        let question = Question {
            asked: &asked,
            thread_id: "thread",
            run_id: "run",
            messages: Vec::new(),
            state: None,
            open: &[],
        };
        let input = question.input().unwrap();
        let back = Message::of_input(&input).unwrap();
        assert_eq!(canonical(&back.wire(Version::V1_0)), canonical(&again));
    }
    if let Ok(path) = std::str::from_utf8(bytes) {
        for verb in ["GET", "POST", "DELETE"] {
            let (path, query) = path.split_once('?').unwrap_or((path, ""));
            if let Some(route) = rest::route(verb, path) {
                let _ = rest::read(Some("1.0"), &route, (query, bytes));
            }
        }
    }
}

fuzz_target!(|bytes: &[u8]| {
    let [first, second, third, bytes @ ..] = bytes else {
        return;
    };
    let (_, protocol) = Protocol::ALL[usize::from(*first) % Protocol::ALL.len()];
    let kind = KINDS[usize::from(*first) / Protocol::ALL.len() % KINDS.len()];
    let status = if first / 32 == 7 { 500 } else { 200 };
    let cut = usize::from(*second).min(bytes.len());

    let whole = told(protocol, status, kind, bytes, 0);
    check(&whole);
    task(&whole);
    request(bytes);
    let pieces = told(protocol, status, kind, bytes, cut);
    let (Some(fold), Some(other)) = (folded(&whole), folded(&pieces)) else {
        return;
    };
    assert_eq!(fold, other);

    let (before, after) = whole.split_at(usize::from(*third).min(whole.len()));
    let Some(snapshot) = folded(before).and_then(|it| it.snapshot()) else {
        return;
    };
    let late = [snapshot, after.to_vec()].concat();
    assert_eq!(folded(&late), Some(fold));
    if let Ok(value) = serde_json::from_slice(bytes) {
        let _ = RunAgentInput::read(value);
    }
});
