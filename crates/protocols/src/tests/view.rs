//! Who follows a run is shown a right sequence that comes to the same, whenever they come and whatever becomes of attempts.

use proptest::prelude::*;

use super::checker::Checker;
use super::random;
use crate::adapt::Protocol;
use crate::agui::{Body, Content, End, Event, Fold, Message, RunAgentInput, Said};
use crate::stream::frame;
use crate::{EventId, Recorder, Shown, Unseen, View};

/// What is recorded of an attempt whose agent speaks AG-UI and says these; the piece that each of them becomes.
fn recorded(input: &RunAgentInput, attempt: u32, said: &[Event]) -> Vec<Vec<u8>> {
    let head = (attempt, 200, "text/event-stream");
    let mut recorder = Recorder::new(Protocol::Agui, input, head);
    let mut all: Vec<Vec<u8>> = said
        .iter()
        .map(|event| recorder.push(&frame(event, None)))
        .collect();
    all.push(recorder.finish());
    all
}

/// The ids that stand in recorded bytes.
fn ids(bytes: &[u8]) -> Vec<EventId> {
    let text = std::str::from_utf8(bytes).unwrap();
    let lines = text.lines().filter_map(|line| line.strip_prefix("id: "));
    lines.map(|it| it.parse().unwrap()).collect()
}

fn events(shown: &[Shown]) -> Vec<Event> {
    shown.iter().map(|it| it.event.clone()).collect()
}

/// What a client has after these, that had so much before.
fn come_to(before: Fold, events: &[Event]) -> Fold {
    let mut fold = before;
    for event in events {
        let _ = fold.apply(event);
    }
    fold
}

/// What a client has: the conversation, the state and the end.
fn same(one: &Fold, other: &Fold) -> Result<(), TestCaseError> {
    prop_assert_eq!(one.messages(), other.messages());
    prop_assert_eq!(one.state(), other.state());
    prop_assert_eq!(one.end(), other.end());
    Ok(())
}

proptest! {
    #[test]
    fn all_of_a_run_is_shown_as_it_was_recorded(said in random::events(), cut in 1..40_usize) {
        let input = random::input();
        let bytes = recorded(&input, 1, &said).concat();
        let mut view = View::new(input.clone(), None);
        let mut shown = view.begin();
        shown.extend(view.attempt());
        for piece in bytes.chunks(cut) {
            shown.extend(view.push(piece).unwrap());
        }
        // That it has ended is told when it is for good.
        let end = view.end(End::Finished).unwrap();
        prop_assert!(end.len() == 1 && end[0].event.is_end() && end[0].id.is_some());
        shown.extend(end);
        prop_assert!(Checker::all(&input, &events(&shown)).is_ok());
        let mut known: Vec<EventId> = shown.iter().filter_map(|it| it.id).collect();
        known.dedup();
        // The begin is shown before anything is recorded.
        prop_assert_eq!(&known[..], &ids(&bytes)[1..]);
    }

    #[test]
    fn who_comes_back_comes_to_the_same(said in random::events(), at in any::<prop::sample::Index>()) {
        let input = random::input();
        let bytes = recorded(&input, 2, &said).concat();
        let whole = {
            let mut view = View::new(input.clone(), None);
            let mut shown = view.begin();
            shown.extend(view.push(&bytes).unwrap());
            shown.extend(view.end(End::Finished).unwrap());
            shown
        };
        let behind = *at.get(&ids(&bytes));
        let mut view = View::new(input.clone(), Some(behind));
        prop_assert_eq!(view.begin(), []);
        let mut shown = view.attempt();
        shown.extend(view.push(&bytes).unwrap());
        shown.extend(view.end(End::Finished).unwrap());
        let told = events(&shown);
        prop_assert!(Checker::all(&input, &told).is_ok(), "{told:?}");
        let seen = come_to(Fold::new(&input), &events(&whole));
        same(&come_to(Fold::default(), &told), &seen)?;
        // Nothing that they saw comes once more as it came: the snapshot says it, and then what follows.
        let tail: Vec<&Shown> = shown.iter().filter(|it| it.id > Some(behind)).collect();
        let follows: Vec<&Shown> = whole.iter().filter(|it| it.id > Some(behind)).collect();
        prop_assert_eq!(tail, follows);
    }

    #[test]
    fn an_attempt_that_is_cut_leaves_nothing(
        first in random::events(), second in random::events(), cut in any::<prop::sample::Index>(),
    ) {
        let input = random::input();
        let before = recorded(&input, 1, &first);
        // Its last piece is the end of the run, and did not come.
        let kept = cut.index(before.len());
        let before = before[..kept].concat();
        let after = recorded(&input, 2, &second).concat();
        let mut view = View::new(input.clone(), None);
        let mut shown = view.begin();
        shown.extend(view.attempt());
        shown.extend(view.push(&before).unwrap());
        let is_over = shown.last().is_some_and(|it| it.event.is_end());
        prop_assume!(!is_over);
        shown.extend(view.attempt());
        if shown.len() > 1 {
            let fold = come_to(Fold::new(&input), &events(&shown));
            let thought = |it: &&Message| matches!(it.said, Said::Reasoning { .. });
            // Where a thought had the id of a message, that takes the thought's place.
            let by_id = |mut all: Vec<&Message>| -> Vec<Message> {
                all.sort_by_key(|it| it.id.clone());
                all.into_iter().cloned().collect()
            };
            let left = by_id(fold.messages().iter().filter(|it| !thought(it)).collect());
            prop_assert_eq!(left, by_id(input.messages.iter().collect()));
            prop_assert_eq!(fold.state(), input.state.as_ref());
        }
        shown.extend(view.push(&after).unwrap());
        shown.extend(view.end(End::Finished).unwrap());
        let told = events(&shown);
        prop_assert_eq!(Checker::all(&input, &told), Ok(()));
    }
}

fn text(id: &str, delta: &str) -> Event {
    Body::TextMessageChunk {
        message_id: Some(id.to_owned()),
        role: None,
        delta: Some(delta.to_owned()),
        name: None,
    }
    .into()
}

fn run_finished() -> Event {
    Body::RunFinished {
        thread_id: "t".to_owned(),
        run_id: "r".to_owned(),
        result: None,
        outcome: None,
        usage: Vec::new(),
    }
    .into()
}

#[test]
fn an_end_that_no_agent_said_closes_what_is_open() {
    let input = RunAgentInput::new("t", "r");
    let pieces = recorded(&input, 1, &[text("m", "Hel")]);
    let mut view = View::new(input.clone(), None);
    let mut shown = view.begin();
    shown.extend(view.push(&pieces[0]).unwrap());
    let failed = End::Failed {
        code: "call-dead".to_owned(),
        message: "It was tried three times.".to_owned(),
    };
    let end = view.end(failed).unwrap();
    assert!(end.iter().all(|it| it.id == Some("1.3".parse().unwrap())));
    shown.extend(end);
    let told = events(&shown);
    Checker::all(&input, &told).unwrap();
    let Some(Body::RunError { message, code, .. }) = told.last().map(|it| &it.body) else {
        panic!("{told:?}");
    };
    assert_eq!(message, "It was tried three times.");
    assert_eq!(code.as_deref(), Some("call-dead"));
    // And once.
    assert_eq!(view.end(End::Finished).unwrap(), []);
}

#[test]
fn the_next_attempt_says_it_all_again() {
    let mut input = RunAgentInput::new("t", "r");
    let asked = Said::User {
        content: Content::Text("Hi".to_owned()),
        name: None,
    };
    input.messages.push(Message::new("q", asked));
    let first = recorded(&input, 1, &[text("m", "Hel"), text("m", "lo, wor")]);
    let second = recorded(
        &input,
        2,
        &[text("m", "Good "), text("m", "day"), run_finished()],
    );
    let mut view = View::new(input.clone(), None);
    let mut shown = view.begin();
    shown.extend(view.attempt());
    shown.extend(view.push(&first[..2].concat()).unwrap());
    shown.extend(view.attempt());
    shown.extend(view.push(&second.concat()).unwrap());
    shown.extend(view.end(End::Finished).unwrap());
    let told = events(&shown);
    Checker::all(&input, &told).unwrap();
    let fold = come_to(Fold::new(&input), &told);
    let texts: Vec<String> = fold.messages().iter().map(Message::text).collect();
    assert_eq!(texts, ["Hi", "Good day"]);
    // Who saw the first half of the first attempt is shown the second alone.
    let mut view = View::new(input.clone(), Some("1.3".parse().unwrap()));
    let mut shown = view.attempt();
    shown.extend(view.push(&second.concat()).unwrap());
    shown.extend(view.end(End::Finished).unwrap());
    let told = events(&shown);
    Checker::all(&input, &told).unwrap();
    let fold = come_to(Fold::default(), &told);
    let texts: Vec<String> = fold.messages().iter().map(Message::text).collect();
    assert_eq!(texts, ["Hi", "Good day"]);
}

#[test]
fn who_saw_more_than_there_is_sees_all_of_it() {
    let input = RunAgentInput::new("t", "r");
    let bytes = recorded(&input, 3, &[text("m", "Hello")]).concat();
    for behind in ["3.99", "1.2", "7.1"] {
        let mut view = View::new(input.clone(), Some(behind.parse().unwrap()));
        let mut shown = view.attempt();
        shown.extend(view.push(&bytes).unwrap());
        shown.extend(view.end(End::Finished).unwrap());
        let told = events(&shown);
        Checker::all(&input, &told).unwrap();
        let fold = come_to(Fold::default(), &told);
        assert_eq!(fold.messages()[0].text(), "Hello", "{behind}");
        assert!(fold.end().is_some(), "{behind}");
    }
}

#[test]
fn what_no_recorder_wrote_is_not_shown() {
    let input = RunAgentInput::new("t", "r");
    for bytes in [
        "data: {}\n\n",
        "id: 1.1\ndata: [\n\n",
        "id: x\ndata: {}\n\n",
        "\n\n",
    ] {
        let mut view = View::new(input.clone(), None);
        assert_eq!(
            view.push(bytes.as_bytes()),
            Err(Unseen::Unreadable),
            "{bytes}"
        );
    }
}

#[test]
fn ids_come_back_and_follow_each_other() {
    let one: EventId = "2.10".parse().unwrap();
    assert_eq!(one.to_string(), "2.10");
    assert!("2.9".parse::<EventId>().unwrap() < one && one < "3.1".parse().unwrap());
    for odd in ["", "2", "2.", ".1", "a.1", "-1.1", "1.1.1"] {
        assert!(odd.parse::<EventId>().is_err(), "{odd}");
    }
}
