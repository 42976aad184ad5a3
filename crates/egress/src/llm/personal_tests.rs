//! What is personal is found, and what only looks like it is not; what went out comes back.

use proptest::prelude::*;
use serde_json::json;

use super::*;

fn found(text: &str) -> Vec<(String, String)> {
    let wanted = Wanted::of(&Personal::ALL, &Patterns::new()).unwrap();
    wanted
        .find(text)
        .into_iter()
        .map(|(at, kind)| (kind.to_lowercase(), text[at].to_owned()))
        .collect()
}

#[test]
fn each_form_is_a_pattern() {
    for kind in Personal::ALL {
        assert!(Regex::new(kind.form()).is_ok(), "{}", kind.as_str());
        assert_eq!(kind.regex().as_str(), kind.form());
        assert_eq!(Personal::named(kind.as_str()), Some(kind));
    }
    assert!(!never().is_match("a"));
}

#[test]
fn what_is_personal_is_found() {
    for (text, kind, value) in [
        (
            "write to ada.l+x@mail.example.org.",
            "email",
            "ada.l+x@mail.example.org",
        ),
        ("<a@b.co>", "email", "a@b.co"),
        (
            "call +49 (0)30 1234-5678 now",
            "phone",
            "+49 (0)30 1234-5678",
        ),
        ("call +14155552671", "phone", "+14155552671"),
        ("call (415) 555-2671", "phone", "(415) 555-2671"),
        ("415.555.2671", "phone", "415.555.2671"),
        ("4111 1111 1111 1111", "card", "4111 1111 1111 1111"),
        ("5500-0000-0000-0004,", "card", "5500-0000-0000-0004"),
        ("378282246310005", "card", "378282246310005"),
        (
            "IBAN DE89 3704 0044 0532 0130 00 of Ada",
            "iban",
            "DE89 3704 0044 0532 0130 00",
        ),
        ("GB82WEST12345698765432", "iban", "GB82WEST12345698765432"),
        ("NO93 8601 1117 947", "iban", "NO93 8601 1117 947"),
        (
            "GB82 WEST 1234 5698 7654 32 IS MINE",
            "iban",
            "GB82 WEST 1234 5698 7654 32",
        ),
        ("at 10.1.2.3:80", "ip", "10.1.2.3"),
        ("at 2001:db8::7", "ip", "2001:db8::7"),
        ("fe80:0:0:0:1:2:3:4", "ip", "fe80:0:0:0:1:2:3:4"),
    ] {
        let all = found(text);
        assert_eq!(all, [(kind.to_owned(), value.to_owned())], "{text}");
    }
}

#[test]
fn what_only_looks_like_it_is_not() {
    for text in [
        "a @ b",
        "@ada",
        "x@localhost",
        "1234567890123456",
        "4111 1111 1111 1112",
        "0000 0000 0000 0000",
        "a4111111111111111",
        "DE88 3704 0044 0532 0130 00",
        "version 1.2.3.4.5",
        "999.1.1.1",
        "127.0.0.1",
        "::1",
        "12:30:45",
        "std::io::Error",
        "2026-11-22T19:00:00",
        "call 4711",
        "1-800",
        "in 2024-2025",
        "0x4111111111111111",
    ] {
        assert_eq!(found(text), [], "{text}");
    }
}

fn plan(body: &[u8], preferences: Preferences) -> Plan {
    let provider = crate::llm::Provider {
        name: "openai".to_owned(),
        kind: crate::llm::Kind::OpenAi,
        url: None,
        secrets: Vec::new(),
        models: Vec::new(),
    };
    let all = [Arc::new(provider)];
    let asked = (&http::Method::POST, "/v1/chat/completions", None);
    let mut plan = Plan::read((&all, &[], None), crate::llm::Door::OpenAi, asked, body).unwrap();
    plan.preferences = preferences;
    plan
}

fn all() -> Preferences {
    Preferences {
        redact: Some(Personal::ALL.to_vec()),
        redact_patterns: Some([("ticket".to_owned(), "T-[0-9]+".to_owned())].into()),
        ..Preferences::default()
    }
}

#[test]
fn texts_go_out_without_it_and_all_else_as_it_is() {
    let body = json!({
        "model": "gpt", "user": "ada@example.org",
        "messages": [
            { "role": "user", "content": "I am ada@example.org, T-17, and [EMAIL_1] is mine; ada@example.org" },
            { "role": "assistant", "tool_calls": [{ "id": "a@b.co", "function": {
                "name": "x", "arguments": "{\"to\":\"bob@example.org\"}" } }] },
            { "role": "user", "content": [{ "type": "image_url", "image_url": { "url": "https://a@b.co/x" } }] },
        ],
    });
    let body = body.to_string();
    let mut plan = plan(body.as_bytes(), all());
    plan.redact(serde_json::from_str(&body).unwrap()).unwrap();
    let masked = plan.masked.clone().unwrap();
    let sent: Value = serde_json::from_slice(&masked.body).unwrap();
    assert_eq!(
        sent["messages"][0]["content"],
        "I am [EMAIL_2], [TICKET_1], and [EMAIL_1] is mine; [EMAIL_2]"
    );
    assert_eq!(sent["user"], "[EMAIL_2]");
    let call = &sent["messages"][1]["tool_calls"][0];
    assert_eq!(
        (&call["id"], &call["function"]["arguments"]),
        (&json!("a@b.co"), &json!("{\"to\":\"[EMAIL_3]\"}"))
    );
    assert_eq!(
        sent["messages"][2]["content"][0]["image_url"]["url"],
        "https://a@b.co/x"
    );
    assert!(!format!("{plan:?}").contains("ada@example.org"));
    let mut restore = masked.restore(false);
    let mut back = restore.push(&masked.body);
    back.extend(restore.finish());
    assert_eq!(
        serde_json::from_slice::<Value>(&back).unwrap(),
        serde_json::from_str::<Value>(&body).unwrap()
    );
    // Nothing is done to a request that has none of it.
    let plain = json!({ "model": "gpt", "messages": [] }).to_string();
    let mut none = self::plan(plain.as_bytes(), all());
    none.redact(serde_json::from_str(&plain).unwrap()).unwrap();
    assert_eq!(none.masked, None);
}

#[test]
fn patterns_that_are_wrong_are_told() {
    let of = |name: &str, pattern: &str| Patterns::from([(name.to_owned(), pattern.to_owned())]);
    check(&of("ticket", "T-[0-9]+")).unwrap();
    for (wrong, why) in [
        (of("Ticket", "x"), "a-z"),
        (of("email", "x"), "Skep's own"),
        (of("a", "("), "no pattern"),
        (of("a", "x*"), "empty text"),
        (of("a", "(?:x{1000}){1000}"), "no pattern"),
        (of("a", &"x".repeat(301)), "300 bytes"),
        (
            (0..21_u8)
                .map(|it| (char::from(b'a' + it).to_string(), "x".to_owned()))
                .collect(),
            "20 at most",
        ),
    ] {
        let told = check(&wrong).unwrap_err().to_string();
        assert!(
            told.starts_with("`redact_patterns`") && told.contains(why),
            "{told}"
        );
    }
}

proptest! {
    #[test]
    fn what_went_out_comes_back(parts in prop::collection::vec(prop::sample::select(vec![
        "ada@example.org", "bob@example.org", " ", "+49 30 12345678", "4111111111111111", "[EMAIL_1]", "[PHONE_", "x", "\n",
        "DE89370400440532013000", "10.1.2.3", "\"", "é", ",", "T-1",
    ]), 0..20), apart: bool) {
        let text = parts.join(if apart { " " } else { "" });
        let body = json!({ "model": "gpt", "messages": [{ "role": "user", "content": text }] }).to_string();
        let mut plan = plan(body.as_bytes(), all());
        plan.redact(serde_json::from_str(&body).unwrap()).unwrap();
        let Some(masked) = plan.masked else {
            prop_assert!(found(&text).is_empty());
            return Ok(());
        };
        // What follows another at once may be none before, and one behind a placeholder.
        for (_, value) in found(&text).into_iter().filter(|_| apart) {
            let sent: Value = serde_json::from_slice(&masked.body).unwrap();
            let sent = sent["messages"][0]["content"].as_str().unwrap().to_owned();
            let left = found(&sent).into_iter().any(|(_, it)| it == value);
            prop_assert!(!left, "{} in {}", value, sent);
        }
        let mut restore = masked.restore(false);
        let mut back = restore.push(&masked.body);
        back.extend(restore.finish());
        let back: Value = serde_json::from_slice(&back).unwrap();
        prop_assert_eq!(back["messages"][0]["content"].as_str(), Some(text.as_str()));
    }
}
