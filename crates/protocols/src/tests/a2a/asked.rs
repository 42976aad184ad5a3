//! A message becomes what an agent is asked, and comes back from there.

use serde_json::{Value, json};

use crate::a2a::{Error, Message, Method, Question, Request, Role, SendMessage, Version};
use crate::agui::{self, Interrupt, RunAgentInput};

/// What a client sends, with these parts.
fn send(parts: &Value, more: &Value) -> SendMessage {
    let mut message = json!({ "messageId": "m", "role": "ROLE_USER", "parts": parts });
    if let Some(more) = more.as_object() {
        message.as_object_mut().unwrap().extend(more.clone());
    }
    let params = json!({
        "message": message, "metadata": { "tier": 1 },
        "configuration": { "acceptedOutputModes": ["text/plain"] },
    });
    match Request::read(Version::V1_0, Method::SendMessage, &params) {
        Ok(Request::SendMessage(send)) => *send,
        other => panic!("{other:?}"),
    }
}

fn input(send: &SendMessage, open: &[Interrupt]) -> Result<RunAgentInput, Error> {
    let before = json!({ "id": "a", "role": "assistant", "content": "Hello." });
    let question = Question {
        asked: send,
        thread_id: "thread",
        run_id: "run",
        messages: vec![serde_json::from_value(before).unwrap()],
        state: Some(json!({ "k": 1 })),
        open,
    };
    question.input()
}

#[test]
fn a_message_is_what_the_person_says() {
    let parts = json!([
        { "text": "See:" },
        { "raw": "aGk=", "filename": "f.png", "mediaType": "image/png" },
        { "url": "https://x/a.mp3", "mediaType": "audio/mpeg", "metadata": { "n": 1 } },
        { "url": "https://x/v", "mediaType": "VIDEO/mp4" },
        { "raw": "aGk=" },
        { "data": { "b": [1] } },
        { "text": "there", "metadata": { "n": 2 } },
    ]);
    let send = send(
        &parts,
        &json!({ "metadata": { "x": 1 }, "referenceTaskIds": ["t0"] }),
    );
    let asked = input(&send, &[]).unwrap();
    let wanted = json!([
        { "type": "text", "text": "See:" },
        { "type": "image", "source": { "type": "data", "value": "aGk=", "mime_type": "image/png" },
            "metadata": { "filename": "f.png" } },
        { "type": "audio", "source": { "type": "url", "value": "https://x/a.mp3", "mimeType": "audio/mpeg" },
            "metadata": { "n": 1 } },
        { "type": "video", "source": { "type": "url", "value": "https://x/v", "mimeType": "VIDEO/mp4" } },
        { "type": "document", "source": { "type": "data", "value": "aGk=", "mimeType": "application/octet-stream" } },
        { "type": "text", "text": "{\"b\":[1]}", "metadata": { "a2a": "data" } },
        { "type": "text", "text": "there", "metadata": { "n": 2 } },
    ]);
    let told = serde_json::to_value(&asked.messages[1]).unwrap();
    let wanted = wanted.to_string().replace("mime_type", "mimeType");
    assert_eq!(
        told["content"],
        serde_json::from_str::<Value>(&wanted).unwrap()
    );
    assert_eq!((&told["id"], &told["role"]), (&json!("m"), &json!("user")));
    let props = asked.forwarded_props.clone().unwrap();
    assert_eq!(props["a2a"]["metadata"], json!({ "tier": 1 }));
    assert_eq!(props["a2a"]["acceptedOutputModes"], json!(["text/plain"]));
    assert_eq!(props["a2a"]["message"]["metadata"], json!({ "x": 1 }));
    assert_eq!(props["a2a"]["message"].get("parts"), None);
    // It is a right request, and the message comes back from it.
    let read = RunAgentInput::read(serde_json::to_value(&asked).unwrap());
    assert_eq!(read.as_ref(), Ok(&asked));
    assert_eq!(Message::of_input(&asked).as_ref(), Some(&send.message));
    // What was said in another protocol is shown, too.
    let mut other = asked;
    other.forwarded_props = None;
    let message = Message::of_input(&other).unwrap();
    assert_eq!(
        (message.parts, message.metadata),
        (send.message.parts, None)
    );
    assert_eq!(Message::of(&other.messages[0]).unwrap().role, Role::Agent);
}

#[test]
fn a_text_is_a_text() {
    let send = send(&json!([{ "text": "Hi" }]), &Value::Null);
    let asked = input(&send, &[]).unwrap();
    assert_eq!(asked.prompt().as_deref(), Some("Hi"));
    let content = agui::Content::Text("Hi".to_owned());
    assert!(
        matches!(&asked.messages[1].said, agui::Said::User { content: it, .. } if *it == content)
    );
    assert_eq!(
        (asked.thread_id.as_str(), asked.run_id.as_str()),
        ("thread", "run")
    );
    assert_eq!(asked.state, Some(json!({ "k": 1 })));
    assert_eq!(Message::of_input(&asked).as_ref(), Some(&send.message));
}

#[test]
fn an_id_stands_for_one_message() {
    let error = input(
        &send(&json!([{ "text": "Hi" }]), &json!({ "messageId": "a" })),
        &[],
    )
    .unwrap_err();
    assert!(error.message.contains("message.messageId"), "{error}");
}

fn open(ids: &[&str]) -> Vec<Interrupt> {
    let one =
        |id: &&str| serde_json::from_value(json!({ "id": id, "reason": "approval" })).unwrap();
    ids.iter().map(one).collect()
}

/// Parts, what stands beside them in the message, what is waited for, and the answers.
fn answers() -> Vec<(Value, Value, Vec<Interrupt>, Value)> {
    let none = Value::Null;
    let yes = json!({ "interruptId": "i", "status": "resolved", "payload": "Yes" });
    let named = |id: &str, payload: Value| json!({ "interruptId": id, "status": "resolved", "payload": payload });
    let cancelled = json!({ "interruptId": "i", "status": "cancelled" });
    vec![
        (
            json!([{ "text": "Yes" }]),
            none.clone(),
            open(&["i"]),
            json!([yes]),
        ),
        (
            json!([{ "text": "Yes," }, { "text": "do" }]),
            none.clone(),
            open(&["i"]),
            json!([named("i", json!("Yes,\ndo"))]),
        ),
        (
            json!([{ "data": { "ok": true } }]),
            none.clone(),
            open(&["i"]),
            json!([named("i", json!({ "ok": true }))]),
        ),
        (
            json!([{ "text": "See" }, { "url": "https://x" }]),
            none.clone(),
            open(&["i"]),
            json!([named(
                "i",
                json!([{ "type": "text", "text": "See" },
                { "type": "document", "source": { "type": "url", "value": "https://x" } }])
            )]),
        ),
        (
            json!([{ "data": { "interruptId": "i", "status": "cancelled" } }]),
            none.clone(),
            open(&["i"]),
            json!([cancelled]),
        ),
        (
            json!([{ "text": "No" }]),
            json!({ "metadata": { "status": "cancelled" } }),
            open(&["i"]),
            json!([{ "interruptId": "i", "status": "cancelled", "payload": "No" }]),
        ),
        (
            json!([{ "data": { "interruptId": "j", "payload": 5 } }, { "text": "Yes", "metadata": { "interruptId": "i" } }]),
            none.clone(),
            open(&["i", "j"]),
            json!([named("j", json!(5)), yes]),
        ),
        // What names none answers the one that is left.
        (
            json!([{ "text": "Yes" }, { "data": { "interruptId": "j" } }]),
            none,
            open(&["i", "j"]),
            json!([{ "interruptId": "j", "status": "resolved" }, yes]),
        ),
    ]
}

#[test]
fn a_message_answers_what_the_task_waits_for() {
    for (parts, more, open, wanted) in answers() {
        let send = send(&parts, &more);
        let asked = input(&send, &open).unwrap();
        assert_eq!(
            serde_json::to_value(&asked.resume).unwrap(),
            wanted,
            "{parts}"
        );
        assert_eq!(
            asked.messages.len(),
            1,
            "it is no message of the conversation"
        );
        assert_eq!(Message::of_input(&asked).as_ref(), Some(&send.message));
        let read = RunAgentInput::read(serde_json::to_value(&asked).unwrap());
        assert_eq!(read, Ok(asked));
    }
}

#[test]
fn what_is_not_answered_is_named() {
    let named = |id: &str| json!({ "data": { "interruptId": id } });
    for (parts, ids, wanted) in [
        (json!([{ "text": "Yes" }]), vec!["i", "j"], "`i`, `j`"),
        (
            json!([named("i"), { "text": "Yes" }]),
            vec!["i", "j", "k"],
            "`j`, `k`",
        ),
        (json!([named("i")]), vec!["i", "j"], "waits for `j`"),
        (
            json!([named("x")]),
            vec!["i", "j"],
            "message.parts[0]: the task does not wait for `x`; it waits for `i`, `j`",
        ),
        (
            json!([named("i"), named("i")]),
            vec!["i"],
            "message.parts[1]: `i` is answered twice",
        ),
        (
            json!([{ "data": { "interruptId": "i", "status": "maybe" } }]),
            vec!["i"],
            "message.parts[0]: status",
        ),
    ] {
        let error = input(&send(&parts, &Value::Null), &open(&ids)).unwrap_err();
        assert!(error.message.contains(wanted), "{error}");
    }
}
