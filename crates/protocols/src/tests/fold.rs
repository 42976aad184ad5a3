//! What a run comes to, and that who comes late sees the same.

use proptest::prelude::*;
use serde_json::{Value, json};

use super::order::ordered;
use super::random;
use crate::agui::{Body, End, Event, Fold, MOST_KEPT, NotFolded, Run, RunAgentInput};

fn folded(from: Fold, events: &[Event]) -> Fold {
    let mut fold = from;
    for event in events {
        match fold.apply(event) {
            Ok(()) | Err(NotFolded::Patch(_) | NotFolded::NoObject) => {}
            Err(err) => panic!("{err}"),
        }
    }
    fold
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn who_comes_late_sees_the_same(events in random::events(), cut in any::<prop::sample::Index>()) {
        for input in [RunAgentInput::new("thread", "run"), random::input()] {
            let told = ordered(&input, &events, End::Finished);
            let whole = folded(Fold::new(&input), &told);
            let (before, after) = told.split_at(cut.index(told.len() + 1));
            let seen = folded(Fold::new(&input), before);
            let snapshot = seen.snapshot().unwrap();
            let late = folded(folded(Fold::default(), &snapshot), after);
            prop_assert_eq!(&late, &whole);
        }
    }

    #[test]
    fn a_snapshot_and_what_follows_is_a_right_sequence(
        events in random::events(),
        cut in any::<prop::sample::Index>(),
    ) {
        let input = random::input();
        let told = ordered(&input, &events, End::Finished);
        let (before, after) = told.split_at(cut.index(told.len()).max(1));
        let mut late = folded(Fold::new(&input), before).snapshot().unwrap();
        late.extend(after.iter().cloned());
        prop_assert_eq!(super::checker::Checker::all(&input, &late), Ok(()));
    }
}

proptest! {
    #[test]
    fn what_a_run_tells_applies(events in random::events()) {
        let input = random::input();
        let mut run = Run::new(&input);
        let mut told = run.push(events);
        told.extend(run.end(End::Finished));
        prop_assert!(run.is_over());
        prop_assert_eq!(super::checker::Checker::all(&input, &told), Ok(()));
        let mut fold = Fold::new(&input);
        for event in &told {
            prop_assert_eq!(fold.apply(event), Ok(()));
        }
        prop_assert_eq!(&fold, run.fold());
    }
}

#[test]
fn a_patch_that_does_not_apply_is_not_told() {
    let mut run = Run::new(&RunAgentInput::new("thread", "run"));
    assert_eq!((run.start().len(), run.start().len()), (1, 0));
    let delta = |path| {
        let patch = json!([{"op": "replace", "path": path, "value": 1}]);
        vec![Event::read(json!({"type": "STATE_DELTA", "delta": patch})).unwrap()]
    };
    assert_eq!(run.push(delta("/a")), []);
    assert!(run.left_out().is_some());
    assert_eq!(run.push(delta("")).len(), 1);
    assert_eq!(run.fold().state(), Some(&json!(1)));
}

fn run(all: &[Value]) -> Fold {
    let input = RunAgentInput::new("thread", "run");
    let events: Vec<Event> = all
        .iter()
        .map(|it| Event::read(it.clone()).unwrap())
        .collect();
    folded(Fold::new(&input), &ordered(&input, &events, End::Finished))
}

#[test]
fn an_answer_stands_behind_its_call_and_a_text_goes_on() {
    let fold = run(&[
        json!({"type": "TEXT_MESSAGE_CHUNK", "messageId": "m", "delta": "a"}),
        json!({"type": "TOOL_CALL_START", "toolCallId": "c", "toolCallName": "t", "parentMessageId": "m"}),
        json!({"type": "TOOL_CALL_ARGS", "toolCallId": "c", "delta": "{}"}),
        json!({"type": "TEXT_MESSAGE_CHUNK", "messageId": "n", "delta": "b", "metadata": {"k": 1}}),
        json!({"type": "TOOL_CALL_RESULT", "messageId": "r", "toolCallId": "c", "content": "4"}),
        json!({"type": "REASONING_ENCRYPTED_VALUE", "subtype": "tool-call", "entityId": "c", "encryptedValue": "e"}),
    ]);
    let call = json!({"id": "c", "type": "function", "function": {"name": "t", "arguments": "{}"}, "encryptedValue": "e"});
    assert_eq!(
        serde_json::to_value(fold.messages()).unwrap(),
        json!([
            {"id": "m", "role": "assistant", "content": "a", "toolCalls": [call]},
            {"id": "r", "role": "tool", "content": "4", "toolCallId": "c"},
            {"id": "n", "role": "assistant", "content": "b", "metadata": {"k": 1}},
        ])
    );
}

#[test]
fn a_patch_that_fails_changes_nothing_and_says_why() {
    let mut fold = Fold::default();
    let event = |value| Event::read(value).unwrap();
    let snapshot = event(json!({"type": "STATE_SNAPSHOT", "snapshot": {"a": 1}}));
    fold.apply(&snapshot).unwrap();
    let delta = event(json!({"type": "STATE_DELTA", "delta": [
        {"op": "add", "path": "/b", "value": 2}, {"op": "remove", "path": "/c"}]}));
    let why = fold.apply(&delta).unwrap_err().to_string();
    assert_eq!(why, "operation 1 of the patch: nothing is at \"/c\"");
    assert_eq!(fold.state(), Some(&json!({"a": 1})));
}

#[test]
fn what_is_too_long_has_no_snapshot_and_is_not_kept() {
    let mut fold = Fold::default();
    let delta = "x".repeat(1 << 20);
    let content = Event::from(Body::TextMessageContent {
        message_id: "m".to_owned(),
        delta,
    });
    let fits = MOST_KEPT >> 20;
    for at in 0..=fits {
        let told = fold.apply(&content);
        assert_eq!(
            told,
            if at < fits {
                Ok(())
            } else {
                Err(NotFolded::TooMuch)
            }
        );
    }
    assert_eq!(fold.snapshot(), None);
}
