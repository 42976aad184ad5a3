//! What prompts are, and what becomes of requests that ask for one.

use std::collections::BTreeMap;

use proptest::prelude::*;
use serde_json::json;
use skep_dialects::Dialect;

use super::*;

fn message(role: Role, content: &str) -> Message {
    Message {
        role,
        content: content.to_owned(),
    }
}

fn prompt(messages: &[(Role, &str)]) -> Prompt {
    Prompt {
        model: Some("openai/gpt".to_owned()),
        messages: messages
            .iter()
            .map(|(role, text)| message(*role, text))
            .collect(),
        note: String::new(),
    }
}

fn moved(nth: u64, back: Option<u64>, versions: &[u64]) -> Move {
    Move {
        label: "production".to_owned(),
        nth,
        at: Timestamp::from_micros(0),
        back,
        legs: versions
            .iter()
            .map(|version| PromptLeg {
                version: *version,
                weight: 1,
            })
            .collect(),
    }
}

#[test]
fn a_prompt_that_is_wrong_says_where() {
    let good = prompt(&[
        (Role::System, "You are {{ who }}."),
        (Role::User, "{{ text }}"),
    ]);
    assert_eq!(
        good.check().unwrap().into_iter().collect::<Vec<_>>(),
        ["text", "who"]
    );
    let named = |model: &str| Prompt {
        model: Some(model.to_owned()),
        ..good.clone()
    };
    let noted = Prompt {
        note: "x".repeat(501),
        ..good.clone()
    };
    for (field, wrong) in [
        ("messages", prompt(&[])),
        ("messages", prompt(&[(Role::User, "x"); 65])),
        (
            "messages",
            prompt(&[(Role::User, &"x".repeat(MOST_BYTES + 1))]),
        ),
        (
            "messages[1]",
            prompt(&[(Role::User, "x"), (Role::User, "{{ x")]),
        ),
        ("model", named("")),
        ("model", named("prompt:other")),
        ("note", noted),
    ] {
        let told = wrong.check().unwrap_err().to_string();
        assert!(told.starts_with(&format!("`{field}`")), "{told}");
    }
    for (variables, why) in [
        (json!([]), "an object"),
        (json!({ "who": "x".repeat(MOST_VARIABLES) }), "65536 bytes"),
        (
            json!({ "who": "me" }),
            "messages[1]: line 1: a value is used that is not there; not given: text",
        ),
    ] {
        let told = good.made(&variables).unwrap_err().to_string();
        assert!(told.contains(why), "{told}");
    }
}

#[test]
fn a_name_leads_to_a_version() {
    let which = |text: &str| parts(text).map(|it| it.1);
    assert_eq!(
        which("greet").unwrap(),
        Which::Label("production".to_owned())
    );
    assert_eq!(
        which("greet@latest").unwrap(),
        Which::Label("latest".to_owned())
    );
    assert_eq!(which("greet@3").unwrap(), Which::Number(3));
    for wrong in ["", "@x", "Greet", "a@", "a@B", "a@-b", "a@b@c", "a/b"] {
        assert!(which(wrong).is_err(), "{wrong}");
    }
    assert!(check_label("latest").is_err());
}

#[test]
fn a_label_goes_back_to_where_it_was_and_further() {
    let (one, two, three) = (
        moved(1, None, &[1]),
        moved(2, None, &[2]),
        moved(3, None, &[3]),
    );
    assert_eq!(before(&[]), None);
    assert_eq!(before(std::slice::from_ref(&one)), None);
    let mut all = vec![one, two, three];
    let back = before(&all).unwrap();
    assert_eq!((back.nth, back.legs[0].version), (2, 2));
    all.push(moved(4, Some(2), &[2]));
    assert_eq!(before(&all).unwrap().nth, 1);
    all.push(moved(5, Some(1), &[1]));
    assert_eq!(before(&all), None);
}

proptest! {
    #[test]
    fn each_version_has_its_share_of_chances(weights in prop::collection::vec(0_u32..50, 1..8)) {
        let legs: Vec<PromptLeg> = (1..).zip(&weights)
            .map(|(version, weight)| PromptLeg { version, weight: *weight }).collect();
        let sum: u32 = weights.iter().sum();
        let mut counts: BTreeMap<u64, u32> = BTreeMap::new();
        for chance in 0..u64::from(sum) {
            let version = chosen(&legs, chance).unwrap();
            prop_assert_eq!(chosen(&legs, chance + u64::from(sum)), Some(version));
            *counts.entry(version).or_default() += 1;
        }
        for leg in &legs {
            prop_assert_eq!(counts.get(&leg.version).copied().unwrap_or_default(), leg.weight);
        }
        if sum == 0 {
            prop_assert_eq!(chosen(&legs, 7), None);
        }
    }
}

#[test]
fn versions_are_compared_line_by_line() {
    let version = |number, text: &str| Version {
        number,
        at: Timestamp::from_micros(0),
        prompt: prompt(&[(Role::System, text)]),
    };
    let told = difference(
        &version(1, "be short\nbe kind"),
        &version(2, "be long\nbe kind"),
    );
    assert!(told.contains("--- 1\n+++ 2\n"), "{told}");
    assert!(told.contains("-be short\n+be long\n be kind\n"), "{told}");
    assert_eq!(difference(&version(1, "a"), &version(2, "a")), "");
}

#[test]
fn what_it_says_comes_first_in_each_dialect() {
    let made = [
        message(Role::System, "sys"),
        message(Role::User, "q"),
        message(Role::Assistant, "a"),
    ];
    let asked = |dialect, body: serde_json::Value| {
        let body = apply::applied(dialect, body.to_string().as_bytes(), (&made, "m")).unwrap();
        serde_json::from_slice::<serde_json::Value>(&body).unwrap()
    };
    let turns =
        json!([{ "role": "user", "content": "q" }, { "role": "assistant", "content": "a" }]);
    let chat = asked(
        Dialect::Chat,
        json!({ "model": "prompt:x", "prompt_variables": {}, "temperature": 0.1, "messages": [{ "role": "user", "content": "hi" }] }),
    );
    assert_eq!(chat["model"], "m");
    assert_eq!(chat["temperature"], 0.1);
    assert_eq!(chat.get("prompt_variables"), None);
    let roles: Vec<&str> = chat["messages"]
        .as_array()
        .unwrap()
        .iter()
        .map(|it| it["role"].as_str().unwrap())
        .collect();
    assert_eq!(roles, ["system", "user", "assistant", "user"]);
    let responses = asked(
        Dialect::Responses,
        json!({ "model": "prompt:x", "input": "hi" }),
    );
    assert_eq!(
        responses["input"][3],
        json!({ "role": "user", "content": "hi" })
    );
    for (own, system) in [
        (json!(null), json!("sys")),
        (json!("own"), json!("sys\n\nown")),
        (
            json!([{ "type": "text", "text": "own" }]),
            json!([{ "type": "text", "text": "sys" }, { "type": "text", "text": "own" }]),
        ),
    ] {
        let messages = asked(
            Dialect::Messages,
            json!({ "model": "prompt:x", "system": own, "messages": [] }),
        );
        assert_eq!(messages["system"], system);
        assert_eq!(messages["messages"], turns);
    }
    let gemini = asked(
        Dialect::Gemini,
        json!({ "contents": [{ "parts": [{ "text": "hi" }] }], "systemInstruction": { "parts": [{ "text": "own" }] } }),
    );
    assert_eq!(gemini.get("model"), None);
    assert_eq!(
        gemini["systemInstruction"]["parts"],
        json!([{ "text": "sys" }, { "text": "own" }])
    );
    assert_eq!(gemini["contents"][1]["role"], "model");
    assert_eq!(
        gemini["contents"][2],
        json!({ "parts": [{ "text": "hi" }] })
    );
}

#[test]
fn what_has_no_place_for_it_is_refused() {
    let made = [message(Role::System, "sys")];
    for (dialect, body) in [
        (Dialect::Chat, json!({ "messages": 1 })),
        (Dialect::Messages, json!({ "system": 1, "messages": [] })),
        (Dialect::Gemini, json!({ "systemInstruction": {} })),
        (Dialect::Embeddings, json!({ "input": "x" })),
        (Dialect::Chat, json!([])),
    ] {
        let done = apply::applied(dialect, body.to_string().as_bytes(), (&made, "m"));
        assert!(done.is_err(), "{body}");
    }
}
