//! An agent as a model: what is asked, and how it is answered.

use serde_json::{Value, json};

use crate::agui::{Body, Event, RunAgentInput};
use crate::openai::{Asked, Before, CHANGED, Form, Head, Teller, model};
use crate::{EventId, Shown};

const CHAT: Form = Form::Chat { usage: true };

fn events(values: &[Value]) -> Vec<Event> {
    let each = values.iter().cloned();
    each.map(|it| Event::strict(it).unwrap()).collect()
}

/// Events as they are shown of an attempt.
fn attempt(number: u32, values: &[Value]) -> Vec<Shown> {
    let each = events(values).into_iter().zip(1..);
    let shown = |(event, index)| Shown {
        id: Some(EventId {
            attempt: number,
            index,
        }),
        event,
    };
    each.map(shown).collect()
}

/// What is shown when an attempt was cut.
fn cut() -> Shown {
    let messages = Vec::new();
    Shown {
        id: None,
        event: Body::MessagesSnapshot { messages }.into(),
    }
}

fn started() -> Shown {
    let event = json!({ "type": "RUN_STARTED", "threadId": "t", "runId": "r" });
    Shown {
        id: None,
        event: Event::strict(event).unwrap(),
    }
}

fn text(id: &str, pieces: &[&str]) -> Vec<Value> {
    let mut all = vec![json!({ "type": "TEXT_MESSAGE_START", "messageId": id })];
    for piece in pieces {
        all.push(json!({ "type": "TEXT_MESSAGE_CONTENT", "messageId": id, "delta": piece }));
    }
    all.push(json!({ "type": "TEXT_MESSAGE_END", "messageId": id }));
    all
}

fn finished() -> Value {
    json!({ "type": "RUN_FINISHED", "threadId": "t", "runId": "r" })
}

fn input() -> RunAgentInput {
    let tool = json!({ "type": "function", "function": { "name": "look", "parameters": {} } });
    let body = json!({ "model": "agent/a", "messages": [{ "role": "user", "content": "Hi" }], "tools": [tool] });
    let asked = Asked::chat(body).unwrap();
    asked.input(("t", "r"), Before::default()).unwrap()
}

fn head() -> Head {
    Head {
        id: "run_1".to_owned(),
        model: "agent/a".to_owned(),
        created: 7,
        ..Head::default()
    }
}

fn teller(form: Form, behind: Option<u64>) -> Teller {
    Teller::new(form, head(), &input(), behind)
}

/// The values of a stream of events.
fn read(bytes: &[u8]) -> Vec<Value> {
    let text = std::str::from_utf8(bytes).unwrap();
    let data = text.lines().filter_map(|it| it.strip_prefix("data: "));
    let data = data.filter(|it| *it != "[DONE]");
    data.map(|it| serde_json::from_str(it).unwrap()).collect()
}

fn told(teller: &mut Teller, shown: &[Shown]) -> Vec<Value> {
    let bytes: Vec<u8> = shown.iter().flat_map(|it| teller.push(it)).collect();
    read(&bytes)
}

/// The content of all chunks.
fn content(chunks: &[Value]) -> String {
    let each = chunks.iter();
    let each = each.filter_map(|it| it["choices"][0]["delta"]["content"].as_str());
    each.collect()
}

#[test]
fn the_model_says_which_agent_is_meant() {
    for (body, agent) in [
        (r#"{"model":"agent/hello"}"#, Some("hello")),
        (r#"{"messages":[{}],"model":"ag\u0065nt/x"}"#, Some("x")),
        (r#"{"model":"gpt-4o"}"#, None),
        (r#"{"model":7}"#, None),
        ("[", None),
    ] {
        assert_eq!(model(body.as_bytes()).as_deref(), agent, "{body}");
    }
}

#[test]
fn a_chat_becomes_a_conversation() {
    let call = json!({ "id": "c1", "type": "function", "function": { "name": "look", "arguments": "{\"at\":1}" } });
    let body = json!({
        "model": "agent/a", "temperature": 0.5, "stream": true, "stream_options": { "include_usage": true }, "metadata": { "k": "v" },
        "messages": [
            { "role": "developer", "content": "Be short." },
            { "role": "user", "content": [{ "type": "text", "text": "What is it?" },
                { "type": "image_url", "image_url": { "url": "data:image/png;base64,AAAA" } }] },
            { "role": "assistant", "content": null, "tool_calls": [call] },
            { "role": "tool", "tool_call_id": "c1", "content": "a cat" },
        ],
    });
    let asked = Asked::chat(body).unwrap();
    assert!(asked.stream && asked.usage);
    let input = asked.input(("t", "r"), Before::default()).unwrap();
    let input = serde_json::to_value(&input).unwrap();
    let image = json!({ "type": "image", "source": { "type": "data", "value": "AAAA", "mimeType": "image/png" } });
    assert_eq!(
        input["messages"],
        json!([
            { "id": "r-in0", "role": "developer", "content": "Be short." },
            { "id": "r-in1", "role": "user", "content": [{ "type": "text", "text": "What is it?" }, image] },
            { "id": "r-in2", "role": "assistant", "toolCalls": [call] },
            { "id": "r-in3", "role": "tool", "toolCallId": "c1", "content": "a cat" },
        ])
    );
    assert_eq!(
        input["forwardedProps"],
        json!({ "openai": { "temperature": 0.5, "metadata": { "k": "v" } } })
    );
    // It is what any client may ask.
    RunAgentInput::read(input).unwrap();
}

#[test]
fn the_items_of_a_response_go_on_with_what_was_said() {
    let before = json!([{ "id": "m1", "role": "user", "content": "Hi" }]);
    let before = Before {
        messages: serde_json::from_value(before).unwrap(),
        state: Some(json!({ "n": 1 })),
        ..Before::default()
    };
    let body = json!({
        "model": "agent/a", "instructions": "Be kind.", "previous_response_id": "run_0", "background": true,
        "input": [
            { "type": "message", "role": "assistant", "content": [{ "type": "output_text", "text": "I look." }] },
            { "type": "reasoning", "summary": [] },
            { "type": "function_call", "call_id": "c1", "name": "look", "arguments": "{}" },
            { "type": "function_call_output", "call_id": "c1", "output": "a cat" },
        ],
    });
    let asked = Asked::response(body).unwrap();
    assert_eq!(
        (asked.previous.as_deref(), asked.background),
        (Some("run_0"), true)
    );
    let input = asked.input(("t", "r"), before).unwrap();
    let input = serde_json::to_value(&input).unwrap();
    let said = input["messages"].as_array().unwrap();
    assert_eq!(said.len(), 3);
    assert_eq!(said[0]["id"], "m1");
    assert_eq!(said[1]["content"], "I look.");
    assert_eq!(said[1]["toolCalls"][0]["id"], "c1");
    assert_eq!(said[2]["toolCallId"], "c1");
    assert_eq!(
        input["context"],
        json!([{ "description": "instructions", "value": "Be kind." }])
    );
    assert_eq!(input["state"], json!({ "n": 1 }));
}

#[test]
fn what_cannot_be_asked_is_named() {
    let hi = json!([{ "role": "user", "content": "Hi" }]);
    for (body, field) in [
        (json!([]), "body"),
        (json!({ "model": "agent/a" }), "messages"),
        (json!({ "model": "agent/a", "messages": [] }), "messages"),
        (json!({ "model": "agent/a", "messages": hi, "n": 2 }), "n"),
        (
            json!({ "model": "agent/a", "messages": hi, "stream": "yes" }),
            "stream",
        ),
        (
            json!({ "model": "agent/a", "messages": [{ "role": "robot", "content": "" }] }),
            "messages[0].role",
        ),
        (
            json!({ "model": "agent/a", "messages": [{ "role": "user" }] }),
            "messages[0].content",
        ),
        (
            json!({ "model": "agent/a", "messages": [{ "role": "user", "content": [{ "type": "video" }] }] }),
            "messages[0].content[0].type",
        ),
        (
            json!({ "model": "agent/a", "messages": [{ "role": "user",
                "content": [{ "type": "image_url", "image_url": { "url": "file:///etc/passwd" } }] }] }),
            "messages[0].content[0].image_url",
        ),
        (
            json!({ "model": "agent/a", "messages": hi, "tools": [{ "type": "web_search" }] }),
            "tools[0].type",
        ),
    ] {
        let wrong = Asked::chat(body.clone()).unwrap_err();
        assert_eq!(wrong.field, field, "{body}");
    }
    for (body, field) in [
        (json!({ "model": "agent/a" }), "input"),
        (json!({ "input": "Hi" }), "model"),
        (
            json!({ "model": "agent/a", "input": [{ "type": "item_reference", "id": "x" }] }),
            "input[0].type",
        ),
        (
            json!({ "model": "agent/a", "input": "x", "conversation": "c", "previous_response_id": "r" }),
            "previous_response_id",
        ),
    ] {
        let wrong = Asked::response(body.clone()).unwrap_err();
        assert_eq!(wrong.field, field, "{body}");
    }
}

#[test]
fn what_waits_is_answered() {
    let open = |ids: &[&str]| -> Vec<crate::agui::Interrupt> {
        let each = ids.iter();
        let each = each
            .map(|id| json!({ "id": id, "reason": "confirm", "toolCallId": format!("call-{id}") }));
        each.map(|it| serde_json::from_value(it).unwrap()).collect()
    };
    let answer = |open: &[crate::agui::Interrupt], input: Value| {
        let body = json!({ "model": "agent/a", "input": input });
        let before = Before {
            open,
            ..Before::default()
        };
        let input = Asked::response(body).unwrap().input(("t", "r"), before)?;
        let payloads = input.resume.into_iter().map(|it| it.payload.unwrap());
        Ok::<_, crate::openai::Invalid>((payloads.collect::<Vec<_>>(), input.messages.len()))
    };
    let one = open(&["a"]);
    assert_eq!(answer(&one, json!("yes")).unwrap(), (vec![json!("yes")], 0));
    let by_tool =
        json!([{ "type": "function_call_output", "call_id": "call-a", "output": "{\"ok\":true}" }]);
    assert_eq!(
        answer(&one, by_tool).unwrap(),
        (vec![json!({ "ok": true })], 1)
    );
    let two = open(&["a", "b"]);
    // A word is no answer to two questions.
    let wrong = answer(&two, json!("yes")).unwrap_err();
    assert!(wrong.why.contains("a, b"), "{wrong}");
    assert_eq!(
        answer(&two, json!("{\"a\":1,\"b\":null}")).unwrap(),
        (vec![json!(1), json!(null)], 0)
    );
    assert!(answer(&two, json!("{\"a\":1}")).is_err());
}

#[test]
fn a_run_is_a_completion() {
    let mut said = text("m1", &["Hel", "lo"]);
    said.extend(text("m2", &["World"]));
    for piece in [
        json!({ "type": "REASONING_MESSAGE_START", "messageId": "t1", "role": "reasoning" }),
        json!({ "type": "REASONING_MESSAGE_CONTENT", "messageId": "t1", "delta": "hm" }),
        json!({ "type": "REASONING_MESSAGE_END", "messageId": "t1" }),
        // A tool of the agent's own, and one of the client's.
        json!({ "type": "TOOL_CALL_START", "toolCallId": "c0", "toolCallName": "own" }),
        json!({ "type": "TOOL_CALL_END", "toolCallId": "c0" }),
        json!({ "type": "TOOL_CALL_START", "toolCallId": "c1", "toolCallName": "look" }),
        json!({ "type": "TOOL_CALL_ARGS", "toolCallId": "c1", "delta": "{}" }),
        json!({ "type": "TOOL_CALL_END", "toolCallId": "c1" }),
        json!({ "type": "RUN_FINISHED", "threadId": "t", "runId": "r",
            "usage": [{ "inputTokens": 3, "outputTokens": 4 }, { "inputTokens": 1, "outputTokens": 1, "totalTokens": 5 }] }),
    ] {
        said.push(piece);
    }
    let mut shown = vec![started()];
    shown.extend(attempt(1, &said));
    let mut teller = teller(CHAT, None);
    let chunks = told(&mut teller, &shown);
    assert_eq!(chunks[0]["choices"][0]["delta"]["role"], "assistant");
    assert_eq!(content(&chunks), "Hello\n\nWorld");
    let last = &chunks[chunks.len() - 2];
    assert_eq!(last["choices"][0]["finish_reason"], "tool_calls");
    let usage = &chunks[chunks.len() - 1];
    assert_eq!(
        (&usage["choices"], &usage["usage"]["total_tokens"]),
        (&json!([]), &json!(12))
    );
    let whole = teller.whole();
    let message = &whole["choices"][0]["message"];
    assert_eq!(message["content"], "Hello\n\nWorld");
    assert_eq!(message["reasoning_content"], "hm");
    assert_eq!(
        message["tool_calls"],
        json!([{ "id": "c1", "type": "function", "function": { "name": "look", "arguments": "{}" } }])
    );
    assert_eq!(whole["object"], "chat.completion");
    assert!(teller.is_over());
}

#[test]
fn a_run_is_a_response_whose_events_are_in_order() {
    let mut said = text("m1", &["Hel", "lo"]);
    said.push(finished());
    let mut shown = vec![started()];
    shown.extend(attempt(1, &said));
    let mut teller = teller(Form::Response, None);
    let events = told(&mut teller, &shown);
    let kinds: Vec<&str> = events.iter().filter_map(|it| it["type"].as_str()).collect();
    assert_eq!(
        kinds,
        [
            "response.created",
            "response.in_progress",
            "response.output_item.added",
            "response.content_part.added",
            "response.output_text.delta",
            "response.output_text.delta",
            "response.output_text.done",
            "response.content_part.done",
            "response.output_item.done",
            "response.completed",
        ]
    );
    let done = &events[9]["response"];
    assert_eq!(done["output"][0]["content"][0]["text"], "Hello", "{done:#}");
    assert_eq!(done["status"], "completed");
    let numbers: Vec<u64> = events
        .iter()
        .filter_map(|it| it["sequence_number"].as_u64())
        .collect();
    assert!(numbers.is_sorted() && numbers.len() == events.len());
    // Who comes again is told the rest, wherever they were.
    for (at, seen) in numbers.iter().enumerate() {
        let rest = told(&mut self::teller(Form::Response, Some(*seen)), &shown);
        assert_eq!(rest, events[at + 1..], "behind {seen}");
    }
}

#[test]
fn an_attempt_that_says_the_same_goes_on_where_the_other_was_cut() {
    let half = text("m1", &["Hello, w"]);
    let mut first = attempt(1, &half);
    first.pop();
    let mut again = text("m9", &["Hello", ", world", "!"]);
    again.push(finished());
    let second = attempt(2, &again);
    for form in [CHAT, Form::Response] {
        let mut live = teller(form, None);
        let mut all = told(&mut live, &[started()]);
        all.extend(told(&mut live, &first));
        all.extend(told(&mut live, &[cut()]));
        let later = told(&mut live, &second);
        all.extend(later.clone());
        let whole = live.whole();
        match form {
            Form::Chat { .. } => {
                assert_eq!(content(&all), "Hello, world!");
                assert_eq!(whole["choices"][0]["message"]["content"], "Hello, world!");
            }
            Form::Response => {
                let deltas = all.iter().filter_map(|it| it["delta"].as_str());
                assert_eq!(deltas.collect::<String>(), "Hello, world!");
                let begun = all
                    .iter()
                    .filter(|it| it["type"] == "response.output_item.added");
                assert_eq!(begun.count(), 1);
                assert_eq!(whole["output"][0]["id"], "m1");
                // Who comes again behind what they were told of the second attempt is told the rest of it.
                let mut shown = vec![started()];
                shown.extend(second.clone());
                let seen = later[1]["sequence_number"].as_u64();
                let rest = told(&mut teller(form, seen), &shown);
                let kinds = |all: &[Value]| -> Vec<Value> {
                    all.iter()
                        .map(|it| json!([it["type"], it["sequence_number"]]))
                        .collect()
                };
                assert_eq!(kinds(&rest), kinds(&later[2..]));
                // Behind the first it begins anew.
                let seen = (1 << 32) + 2;
                let anew = told(&mut teller(form, Some(seen)), &shown);
                assert_eq!(anew[0]["type"], "response.created");
                let deltas = anew.iter().filter_map(|it| it["delta"].as_str());
                assert_eq!(deltas.collect::<String>(), "Hello, world!");
            }
        }
    }
}

#[test]
fn an_attempt_that_says_something_else_ends_the_stream() {
    let half = attempt(1, &text("m1", &["Hello"]));
    for other in [
        [text("m1", &["Good day"]), vec![finished()]].concat(),
        [text("m1", &["Hello, you"]), vec![finished()]].concat(),
        [text("m1", &["Hel"]), vec![finished()]].concat(),
        vec![finished()],
    ] {
        for form in [CHAT, Form::Response] {
            let mut live = teller(form, None);
            told(&mut live, &half);
            told(&mut live, &[cut()]);
            let told = told(&mut live, &attempt(2, &other));
            let last = told.last().unwrap();
            match form {
                Form::Chat { .. } => assert_eq!(last["error"]["code"], CHANGED, "{other:?}"),
                Form::Response => assert_eq!(last["code"], CHANGED, "{other:?}"),
            }
            assert!(live.is_over());
        }
    }
}

#[test]
fn what_is_told_at_once_is_the_last_attempt() {
    let mut silent = Teller::silent(Form::Response, head(), &input());
    told(&mut silent, &attempt(1, &text("m1", &["Hello"])));
    told(&mut silent, &[cut()]);
    let again = [text("m2", &["Good day"]), vec![finished()]].concat();
    told(&mut silent, &attempt(2, &again));
    let whole = silent.whole();
    assert_eq!(whole["output"].as_array().unwrap().len(), 1);
    assert_eq!(whole["output"][0]["content"][0]["text"], "Good day");
    assert_eq!(whole["status"], "completed");
}

#[test]
fn a_run_is_known_by_what_it_was_asked() {
    let body = |text: &str| json!({ "model": "agent/a", "input": text, "temperature": 1, "previous_response_id": "run_0" });
    let asked = |text: &str| Asked::response(body(text)).unwrap();
    let before: Value = json!([{ "id": "m1", "role": "user", "content": "Hi" }]);
    let before = Before {
        messages: serde_json::from_value(before).unwrap(),
        ..Before::default()
    };
    let input = asked("go").input(("t", "r"), before).unwrap();
    assert!(asked("go").is_of(&input));
    assert!(!asked("stop").is_of(&input));
    let head = Head::of("run_1".to_owned(), "a", 7, &input);
    assert_eq!(head.previous.as_deref(), Some("run_0"));
    assert_eq!(head.conversation.as_deref(), Some("t"));
}

#[test]
fn every_end_is_told() {
    let interrupt = json!({ "type": "RUN_FINISHED", "threadId": "t", "runId": "r", "outcome":
        { "type": "interrupt", "interrupts": [{ "id": "i1", "reason": "confirm", "message": "Pay 5 EUR?" }] } });
    let mut asks = teller(CHAT, None);
    let chunks = told(&mut asks, &attempt(1, &[interrupt]));
    assert_eq!(content(&chunks), "Pay 5 EUR?");
    assert_eq!(chunks.last().unwrap()["interrupts"][0]["id"], "i1");

    let result =
        json!({ "type": "RUN_FINISHED", "threadId": "t", "runId": "r", "result": { "sum": 3 } });
    let mut counts = teller(Form::Response, None);
    told(&mut counts, &attempt(1, &[result]));
    let whole = counts.whole();
    assert_eq!(whole["output"][0]["content"][0]["text"], r#"{"sum":3}"#);
    assert_eq!(whole["result"], json!({ "sum": 3 }));

    let error = json!({ "type": "RUN_ERROR", "message": "no luck", "code": "agent_failed" });
    let mut fails = teller(CHAT, None);
    let chunks = told(&mut fails, &attempt(1, std::slice::from_ref(&error)));
    assert_eq!(chunks.last().unwrap()["error"]["message"], "no luck");
    assert_eq!(fails.failure(), Some(("agent_failed", "no luck")));
    let mut fails = teller(Form::Response, None);
    let events = told(&mut fails, &attempt(1, &[error]));
    assert_eq!(events.last().unwrap()["type"], "response.failed");
    assert_eq!(fails.whole()["status"], "failed");

    let cancelled = json!({ "type": "RUN_FINISHED", "threadId": "t", "runId": "r", "outcome": { "type": "cancelled" } });
    let mut stops = teller(Form::Response, None);
    let events = told(&mut stops, &attempt(1, &[cancelled]));
    assert_eq!(events.last().unwrap()["type"], "response.incomplete");
    assert_eq!(stops.whole()["status"], "cancelled");
}
