//! What comes out of [`Order`] is right, whatever goes in.

use proptest::prelude::*;
use serde_json::{Value, json};

use super::checker::Checker;
use super::random;
use crate::agui::{
    Body, End, Event, MOST_ENTITIES, MOST_OPEN, Order, Outcome, RunAgentInput, TOO_MUCH,
};

/// Puts events in order, with an end.
pub(super) fn ordered(input: &RunAgentInput, events: &[Event], end: End) -> Vec<Event> {
    let mut order = Order::new(input);
    let mut told = order.start();
    for event in events {
        told.extend(order.push(event.clone()));
    }
    told.extend(order.end(end));
    assert!(order.is_over());
    assert_eq!(
        order.push(events.first().cloned().unwrap_or(told[0].clone())),
        []
    );
    assert_eq!(order.end(End::Finished), []);
    told
}

fn end() -> impl Strategy<Value = End> {
    prop::sample::select(vec![
        End::Finished,
        End::Cancelled,
        End::Failed {
            code: "c".to_owned(),
            message: "it broke".to_owned(),
        },
    ])
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn any_sequence_becomes_a_right_one(events in random::events(), end in end()) {
        for input in [RunAgentInput::new("thread", "run"), random::input()] {
            let told = ordered(&input, &events, end.clone());
            prop_assert_eq!(Checker::all(&input, &told), Ok(()));
            let again = ordered(&input, &told, End::Finished);
            prop_assert_eq!(&again, &told);
            for event in &told {
                let written: Value = serde_json::from_str(&event.to_json()).unwrap();
                let read = Event::strict(written.clone());
                prop_assert_eq!(read.as_ref(), Ok(event), "{}", written);
            }
        }
    }
}

fn read(all: &[Value]) -> Vec<Event> {
    all.iter()
        .map(|it| Event::read(it.clone()).unwrap())
        .collect()
}

fn written(all: &[Event]) -> Vec<Value> {
    all.iter()
        .map(|it| serde_json::to_value(it).unwrap())
        .collect()
}

/// What becomes of events in an empty conversation.
fn told(all: &[Value]) -> Vec<Value> {
    let input = RunAgentInput::new("thread", "run");
    written(&ordered(&input, &read(all), End::Finished))
}

const STARTED: fn() -> Value = || json!({"type": "RUN_STARTED", "threadId": "thread", "runId": "run", "protocolVersion": "1.0"});
const FINISHED: fn() -> Value =
    || json!({"type": "RUN_FINISHED", "threadId": "thread", "runId": "run"});

#[test]
fn a_run_has_our_ids_and_what_the_agent_says_of_its_end() {
    let interrupt = json!({"type": "interrupt", "interrupts": [{"id": "i", "reason": "approval"}]});
    let told = told(&[
        json!({"type": "RUN_STARTED", "threadId": "x", "runId": "y", "input": {
            "threadId": "x", "runId": "y", "messages": []}}),
        json!({"type": "STEP_STARTED", "stepName": "one"}),
        json!({"type": "RUN_FINISHED", "threadId": "x", "runId": "y", "outcome": interrupt,
            "usage": [{"model": "m", "inputTokens": 3}]}),
        json!({"type": "TEXT_MESSAGE_CHUNK", "messageId": "m", "delta": "late"}),
    ]);
    let mut end = FINISHED();
    end["outcome"] = interrupt;
    end["usage"] = json!([{"model": "m", "inputTokens": 3}]);
    let step = |kind| json!({"type": kind, "stepName": "one"});
    assert_eq!(
        told,
        [STARTED(), step("STEP_STARTED"), step("STEP_FINISHED"), end]
    );
}

#[test]
fn chunks_become_starts_contents_and_ends() {
    let told = told(&[
        json!({"type": "TEXT_MESSAGE_CHUNK", "messageId": "m", "role": "assistant", "delta": "Hel"}),
        json!({"type": "TEXT_MESSAGE_CHUNK", "delta": ""}),
        json!({"type": "TEXT_MESSAGE_CHUNK", "delta": "lo"}),
        json!({"type": "TOOL_CALL_CHUNK", "toolCallId": "c", "toolCallName": "t", "parentMessageId": "m"}),
        json!({"type": "TOOL_CALL_CHUNK", "delta": "{}"}),
        json!({"type": "TOOL_CALL_RESULT", "messageId": "r", "toolCallId": "c", "content": "4"}),
    ]);
    let delta = |delta| json!({"type": "TEXT_MESSAGE_CONTENT", "messageId": "m", "delta": delta});
    assert_eq!(
        told,
        [
            STARTED(),
            json!({"type": "TEXT_MESSAGE_START", "messageId": "m", "role": "assistant"}),
            delta("Hel"),
            delta("lo"),
            json!({"type": "TEXT_MESSAGE_END", "messageId": "m"}),
            json!({"type": "TOOL_CALL_START", "toolCallId": "c", "toolCallName": "t", "parentMessageId": "m"}),
            json!({"type": "TOOL_CALL_ARGS", "toolCallId": "c", "delta": "{}"}),
            json!({"type": "TOOL_CALL_END", "toolCallId": "c"}),
            json!({"type": "TOOL_CALL_RESULT", "messageId": "r", "toolCallId": "c", "content": "4"}),
            FINISHED(),
        ]
    );
}

#[test]
fn older_names_and_spellings_are_understood() {
    let told = told(&[
        json!({"type": "THINKING_START", "title": "hm"}),
        json!({"type": "THINKING_TEXT_MESSAGE_START"}),
        json!({"type": "THINKING_TEXT_MESSAGE_CONTENT", "delta": "I think"}),
        json!({"type": "THINKING_TEXT_MESSAGE_END"}),
        json!({"type": "THINKING_END"}),
        json!({"type": "THOUGHT_CHUNK", "content": "so"}),
        json!({"type": "TOOL_CALL_RESULT", "tool_call_id": "c", "result": {"a": 1}, "raw_event": null}),
        json!({"type": "TEXT_MESSAGE_CONTENT", "message_id": "m", "delta": "x", "timestamp": 1.5}),
        json!({"type": "ERROR", "error": {"message": "bad\u{7}"}}),
    ]);
    let types: Vec<&str> = told.iter().filter_map(|it| it["type"].as_str()).collect();
    assert_eq!(
        types,
        [
            "RUN_STARTED",
            "REASONING_START",
            "REASONING_MESSAGE_START",
            "REASONING_MESSAGE_CONTENT",
            "REASONING_MESSAGE_END",
            "REASONING_END",
            "REASONING_MESSAGE_START",
            "REASONING_MESSAGE_CONTENT",
            "REASONING_MESSAGE_END",
            "TOOL_CALL_RESULT",
            "TEXT_MESSAGE_START",
            "TEXT_MESSAGE_CONTENT",
            "TEXT_MESSAGE_END",
            "RUN_ERROR",
        ]
    );
    assert_eq!(told[9]["content"], r#"{"a":1}"#);
    assert_eq!(told.last().unwrap()["message"], "bad");
}

#[test]
fn an_id_that_is_used_twice_is_told_as_two() {
    let told = told(&[
        json!({"type": "REASONING_MESSAGE_CONTENT", "messageId": "m", "delta": "hm"}),
        json!({"type": "TEXT_MESSAGE_START", "messageId": "m"}),
        json!({"type": "TEXT_MESSAGE_CONTENT", "messageId": "m", "delta": "well"}),
        json!({"type": "TEXT_MESSAGE_END", "messageId": "m"}),
        json!({"type": "TOOL_CALL_START", "toolCallId": "c", "toolCallName": "t", "parentMessageId": "m"}),
        json!({"type": "TOOL_CALL_RESULT", "messageId": "m", "toolCallId": "c", "content": "4"}),
        json!({"type": "TOOL_CALL_RESULT", "messageId": "m", "toolCallId": "c", "content": "4"}),
    ]);
    let text = told[3]["messageId"].as_str().unwrap();
    assert_ne!(text, "m");
    let call = told.iter().find(|it| it["type"] == "TOOL_CALL_START");
    assert_eq!(call.unwrap()["parentMessageId"], text);
    let mut results = told.iter().filter(|it| it["type"] == "TOOL_CALL_RESULT");
    let result = results.next().unwrap()["messageId"].as_str().unwrap();
    assert!(result != "m" && result != text && results.next().is_none());
}

#[test]
fn calls_without_an_answer_are_named_at_the_end() {
    let told = told(&[
        json!({"type": "TOOL_CALL_START", "toolCallId": "a", "toolCallName": "t"}),
        json!({"type": "TOOL_CALL_START", "toolCallId": "b", "toolCallName": "t"}),
        json!({"type": "TOOL_CALL_RESULT", "messageId": "r", "toolCallId": "a", "content": ""}),
    ]);
    let outcome = &told.last().unwrap()["outcome"];
    assert_eq!(
        *outcome,
        json!({"type": "success", "pendingToolCallIds": ["b"]})
    );
}

#[test]
fn what_an_interrupt_waits_for_is_named_as_it_was_told() {
    let told = told(&[
        json!({"type": "TOOL_CALL_START", "toolCallId": "", "toolCallName": "t"}),
        json!({"type": "RUN_FINISHED", "outcome": {"type": "interrupt", "interrupts": [
            {"id": "i", "reason": "approval", "toolCallId": ""}]}}),
    ]);
    let call = &told[1]["toolCallId"];
    assert_ne!(call, "");
    let interrupts = &told.last().unwrap()["outcome"]["interrupts"];
    assert_eq!(interrupts[0]["toolCallId"], *call);
}

#[test]
fn what_is_open_is_closed_before_an_error_and_nothing_comes_after_it() {
    let input = RunAgentInput::new("thread", "run");
    let events = read(&[
        json!({"type": "SUBAGENT_STARTED", "subagentRunId": "s", "name": "helper"}),
        json!({"type": "TEXT_MESSAGE_CHUNK", "messageId": "m", "delta": "x", "subagentRunId": "s"}),
        json!({"type": "RUN_ERROR", "message": "x".repeat(5000)}),
        json!({"type": "RUN_FINISHED", "threadId": "x", "runId": "y"}),
    ]);
    let told = written(&ordered(&input, &events, End::Finished));
    let types: Vec<&str> = told.iter().filter_map(|it| it["type"].as_str()).collect();
    let ends = ["TEXT_MESSAGE_END", "SUBAGENT_ERROR", "RUN_ERROR"];
    assert_eq!(types[types.len() - 3..], ends);
    assert_eq!(
        told.last().unwrap()["message"].as_str().unwrap().len(),
        2000
    );
}

#[test]
fn who_is_cancelled_ends_as_cancelled() {
    let input = RunAgentInput::new("thread", "run");
    let told = ordered(&input, &[], End::Cancelled);
    let outcome = Some(Outcome::Cancelled);
    assert!(matches!(&told[1].body, Body::RunFinished { outcome: told, .. } if *told == outcome));
}

#[test]
fn over_a_bound_a_run_ends() {
    let input = RunAgentInput::new("thread", "run");
    let long = |len| json!({"type": "TEXT_MESSAGE_START", "messageId": "i".repeat(len)});
    let steps = |count| -> Vec<Value> {
        (0..count)
            .map(|it| json!({"type": "STEP_STARTED", "stepName": it.to_string()}))
            .collect()
    };
    let results = |count| -> Vec<Value> {
        (0..count)
            .map(|it| json!({"type": "TOOL_CALL_RESULT", "messageId": format!("m{it}"), "toolCallId": "c", "content": ""}))
            .collect()
    };
    let large = |len: usize| json!({"type": "CUSTOM", "name": "n", "value": "\n".repeat(len)});
    for (right, wrong) in [
        (vec![long(1024)], vec![long(1025)]),
        (steps(MOST_OPEN), steps(MOST_OPEN + 1)),
        (results(MOST_ENTITIES), results(MOST_ENTITIES + 1)),
        (vec![large((4 << 20) - 64)], vec![large(4 << 20)]),
    ] {
        let right = ordered(&input, &read(&right), End::Finished);
        assert!(matches!(
            right.last().unwrap().body,
            Body::RunFinished { .. }
        ));
        let wrong = ordered(&input, &read(&wrong), End::Finished);
        assert_eq!(Checker::all(&input, &wrong), Ok(()));
        let code = Some(TOO_MUCH.to_owned());
        assert!(
            matches!(&wrong.last().unwrap().body, Body::RunError { code: told, .. } if *told == code)
        );
    }
}
