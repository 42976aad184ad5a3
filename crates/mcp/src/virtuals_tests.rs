//! What virtual servers are made of.

use serde_json::{Value, json};

use crate::{Object, Virtual};

fn read(value: &Value) -> Result<Virtual, String> {
    Virtual::read("desk", &value.to_string()).map_err(|wrong| wrong.to_string())
}

#[test]
fn what_cannot_be_is_refused_with_its_place() {
    let step = |name: &str, tool: &str, arguments: Value| json!({ "name": name, "tool": tool, "arguments": arguments });
    let chain = |steps: Vec<Value>| json!({ "composed": [{ "name": "both", "steps": steps }] });
    for (said, place) in [
        (json!({ "tools": [{ "tool": "search" }] }), "tools[0]"),
        (json!({ "tools": [{ "tool": "Docs/search" }] }), "tools[0]"),
        (json!({ "tools": [{ "tool": "docs/:server" }] }), "tools[0]"),
        (
            json!({ "tools": [{ "tool": "docs/*", "name": "all" }] }),
            "tools[0]",
        ),
        (
            json!({ "tools": [{ "tool": "docs/*", "fixed": { "a": 1 } }] }),
            "tools[0]",
        ),
        (
            json!({ "tools": [{ "tool": "docs/a", "name": "a b" }] }),
            "tools[0]",
        ),
        (
            json!({ "tools": [{ "tool": "docs/a" }, { "tool": "web/a" }] }),
            "two are called `a`",
        ),
        (
            json!({ "tools": [{ "tool": "docs/a", "more": 1 }] }),
            "unknown field",
        ),
        (json!({ "resources": ["A"] }), "resources"),
        (chain(vec![]), "composed[0]"),
        (
            chain(vec![step("a", "docs/*", json!({}))]),
            "composed[0].steps[0]",
        ),
        (
            chain(vec![step("input", "docs/a", json!({}))]),
            "composed[0].steps[0]",
        ),
        (
            chain(vec![
                step("a", "docs/a", json!({})),
                step("a", "docs/a", json!({})),
            ]),
            "composed[0].steps[1]",
        ),
        (
            chain(vec![step("a", "docs/a", json!({ "q": { "from": "b" } }))]),
            "arguments.q",
        ),
        (
            chain(vec![step("a", "docs/a", json!({ "q": { "from": "a" } }))]),
            "arguments.q",
        ),
        (
            chain(vec![step(
                "a",
                "docs/a",
                json!({ "q": { "from": "input", "pointer": "x" } }),
            )]),
            "arguments.q",
        ),
        (
            chain(vec![step(
                "a",
                "docs/a",
                json!({ "q": { "from": "input", "value": 1 } }),
            )]),
            "arguments.q",
        ),
        (
            chain(vec![step("a", "docs/a", json!({ "q": {} }))]),
            "arguments.q",
        ),
        (chain(vec![step("a", "docs/a", json!({})); 17]), "1 to 16"),
    ] {
        let why = read(&said).expect_err("it cannot be");
        assert!(why.contains(place), "{said}: {why}");
    }
    assert!(Virtual::read("a b", "{}").is_err());
    assert!(Virtual::read("desk", r#"{"about":"a","about":"b"}"#).is_err());
}

#[test]
fn a_name_means_one_tool() {
    let said = json!({
        "tools": [
            { "tool": "docs/*" }, { "tool": "web/s*" },
            { "tool": "web/search", "name": "find" }, { "tool": "web/open" },
        ],
        "composed": [{ "name": "both", "steps": [{ "name": "a", "tool": "docs/search" }] }],
    });
    let made = read(&said).unwrap();
    let has = |server: &str, tool: &str| match server {
        "docs" => ["search", "open", "both", "read"].contains(&tool),
        _ => ["search", "open", "sum"].contains(&tool),
    };
    let meant = |name: &str| {
        made.part(name, has)
            .map(|(part, tool)| format!("{}/{tool}", part.server))
    };
    for (name, expected) in [
        ("search", Some("docs/search")),
        ("sum", Some("web/sum")),
        ("find", Some("web/search")),
        // What is named comes before what a pattern means.
        ("open", Some("web/open")),
        ("read", Some("docs/read")),
        ("both", None),
        ("write", None),
    ] {
        assert_eq!(meant(name).as_deref(), expected, "{name}");
    }
}

#[test]
fn who_calls_neither_sees_nor_says_what_is_fixed() {
    let said = json!({ "tools": [{ "tool": "docs/search", "name": "find", "description": "Finds", "fixed": { "limit": 5 } }] });
    let made = read(&said).unwrap();
    let part = made.tools.first().unwrap();
    let definition = r#"{"name":"search","description":"x","inputSchema":{"type":"object","properties":{"q":{"type":"string"},"limit":{"type":"integer"}},"required":["q","limit"],"additionalProperties":false},"other":1.0}"#;
    let shown = part.shown(definition).unwrap();
    assert_eq!(
        shown,
        r#"{"name":"find","description":"Finds","inputSchema":{"type":"object","properties":{"q":{"type":"string"}},"required":["q"],"additionalProperties":false},"other":1.0}"#
    );
    let given = |text: &str| part.arguments(Object::parse(text).as_ref());
    assert_eq!(
        given(r#"{"q":1.0}"#).as_deref(),
        Some(r#"{"q":1.0,"limit":5}"#)
    );
    assert_eq!(part.arguments(None).as_deref(), Some(r#"{"limit":5}"#));
    for odd in [r#"{"limit":9}"#, r#"{"LIMIT":9}"#, r#"{"limit":null}"#] {
        assert_eq!(given(odd), None, "{odd}");
    }
}

#[test]
fn a_step_is_given_what_was_said_before_it() {
    let said = json!({ "composed": [{ "name": "both", "input": { "properties": { "q": {} } }, "steps": [
        { "name": "find", "tool": "docs/search", "arguments": {
            "q": { "from": "input", "pointer": "/q" }, "limit": { "value": 1 }, "none": { "value": null },
            "more": { "from": "input", "pointer": "/more" },
        } },
        { "name": "open", "tool": "docs/open", "arguments": {
            "id": { "from": "find", "pointer": "/structuredContent/hits/0/i~1d" }, "all": { "from": "input" },
        } },
    ] }] });
    let made = read(&said).unwrap();
    let chain = made.chain("both").unwrap();
    assert_eq!(chain.input["type"], "object");
    let input = json!({ "q": ["x"] });
    let first = chain.steps[0].given(&input, &[]).unwrap();
    assert_eq!(
        Value::Object(first),
        json!({ "q": ["x"], "limit": 1, "none": null })
    );
    let answer = json!({ "structuredContent": { "hits": [{ "i/d": 7 }] } });
    let second = chain.steps[1].given(&input, &[answer]).unwrap();
    assert_eq!(
        Value::Object(second),
        json!({ "id": 7, "all": { "q": ["x"] } })
    );
    let missing = chain.steps[1].given(&input, &[json!({})]);
    assert!(missing.unwrap_err().contains("`id`"));
    let large = json!({ "q": ["x".repeat(9 << 20)] });
    let large = chain.steps[0].given(&large, &[]).unwrap_err();
    assert!(large.contains("larger than"), "{large}");
}
