//! What holds of every message, list, stream and definition.

use std::collections::BTreeMap;
use std::time::Duration;

use proptest::prelude::*;
use serde_json::{Value as Json, json};

use crate::*;

fn any_json() -> impl Strategy<Value = Json> {
    let leaf = prop_oneof![
        Just(Json::Null),
        any::<bool>().prop_map(Json::from),
        any::<i64>().prop_map(Json::from),
        "[ -~é€😀]{0,12}".prop_map(Json::from),
    ];
    leaf.prop_recursive(4, 32, 6, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..6).prop_map(Json::from),
            prop::collection::btree_map("[a-z$_-]{1,8}", inner, 0..6)
                .prop_map(|it| Json::Object(it.into_iter().collect())),
        ]
    })
}

#[test]
fn what_two_readers_read_differently_does_not_pass() {
    for text in [
        r#"{"jsonrpc":"2.0","id":1,"method":"tools/list","method":"tools/call"}"#,
        r#"{"jsonrpc":"2.0","id":1,"method":"tools/list","Method":"tools/call"}"#,
        r#"{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"a","Name":"b"}}"#,
        r#"{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"Name":"b"}}"#,
        r#"{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"a","arguments":{"p":1,"p":2}}}"#,
        r#"{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"a","arguments":{"p":1,"P":2}}}"#,
        r#"{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"a","arguments":{"x":[{"p":1,"\u0070":2}]}}}"#,
        "{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"tools/call\",\"param\u{17f}\":{}}",
        r#"[{"jsonrpc":"2.0","id":1,"method":"ping"}]"#,
        r#"{"jsonrpc":"2.0","id":null,"method":"ping"}"#,
        r#"{"jsonrpc":"2.0","id":{},"method":"ping"}"#,
        r#"{"jsonrpc":"1.0","id":1,"method":"ping"}"#,
        r#"{"jsonrpc":"2.0","id":1}"#,
        r#"{"jsonrpc":"2.0","id":1,"result":{},"error":{}}"#,
        r#"{"jsonrpc":"2.0","id":1,"method":"ping","result":{}}"#,
        r#"{"jsonrpc":"2.0","id":1,"method":"ping","error":{}}"#,
        r#"{"jsonrpc":"2.0","id":1,"method":"ping","params":[1]}"#,
        r#"{"jsonrpc":"2.0","id":1,"method":"ping"} {}"#,
    ] {
        assert!(Message::of_client(text).is_err(), "{text}");
    }
    for text in [
        r#"{"jsonrpc":"2.0","id":1,"error":{},"Result":{"tools":[]}}"#,
        r#"{"jsonrpc":"2.0","id":1,"error":{},"error":{}}"#,
        r#"{"jsonrpc":"2.0","method":"notifications/x","Result":{}}"#,
    ] {
        assert!(Message::read(text).unwrap().is_odd(), "{text}");
    }
    let good = r#"{"jsonrpc":"2.0","id":"a","method":"tools/call","params":{"name":"a","arguments":{"A":1,"b":{"x":1,"X":2}},"new":1}}"#;
    let message = Message::of_client(good).unwrap();
    assert_eq!(message.method(), Some("tools/call"));
    assert_eq!(message.id().unwrap().get(), "\"a\"");
}

#[test]
fn what_is_written_of_a_stream_is_what_was_looked_at() {
    let stream = "\u{feff}data: {\"a\":1}\n\n\n\n:note\n\n\u{feff}data: x\ndatas: y\nid: 7\nid: a\u{2028}data: b\nretry: 5\n\
        event: e\ndata\ndata:{\"b\":\"\u{2028}\"}\n\nid: 8\ndata: \n\n";
    for cut in 1..stream.len() {
        let mut events = Events::default();
        let mut written = Vec::new();
        for piece in stream.as_bytes().chunks(cut) {
            for event in events.push(piece).unwrap() {
                written.push(String::from_utf8(event.written()).unwrap());
            }
        }
        assert_eq!(
            written,
            [
                "data: {\"a\":1}\n\n",
                ":\n\n",
                "event: e\nretry: 5\ndata: \ndata: {\"b\":\"\\u2028\"}\n\n",
                "id: 8\ndata: \n\n",
            ],
            "{cut}"
        );
    }
}

#[test]
fn many_small_events_are_cut_in_one_pass() {
    let stream = "data: x\n\n".repeat(400_000);
    let mut events = Events::default();
    let began = std::time::Instant::now();
    assert_eq!(events.push(stream.as_bytes()).unwrap().len(), 400_000);
    // A copy of the rest for each event would be 720 GB.
    assert!(began.elapsed() < Duration::from_secs(20));
}

#[test]
fn a_header_that_says_something_else_is_a_mismatch() {
    let text = r#"{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"grüße",
        "_meta":{"io.modelcontextprotocol/protocolVersion":"2026-07-28"}}}"#;
    let message = Message::of_client(text).unwrap();
    assert_eq!(Era::of(message.params.as_ref(), None), Era::Modern);
    let name = encoded("grüße");
    let good: &[(&str, &str)] = &[
        (HEADER_METHOD, "tools/call"),
        (HEADER_NAME, &name),
        (HEADER_VERSION, "2026-07-28"),
    ];
    let ask = |headers: &[(&str, &str)]| {
        let found = |wanted: &str| {
            let all = headers.iter().filter(|(name, _)| *name == wanted);
            all.map(|(_, value)| value.as_bytes()).collect()
        };
        agrees(found, "tools/call", message.params.as_ref())
    };
    assert_eq!(ask(good), Ok(()));
    assert_eq!(ask(&[]), Ok(()));
    for (name, value) in [
        (HEADER_METHOD, "tools/list"),
        (HEADER_NAME, "other"),
        (HEADER_NAME, "=?base64?!?="),
        (HEADER_VERSION, "2025-11-25"),
    ] {
        assert_eq!(
            ask(&[(name, value)]),
            Err(Mismatch(name)),
            "{name}: {value}"
        );
    }
    // Whoever takes the last of two would read another one.
    let twice = ask(&[(HEADER_METHOD, "tools/call"), (HEADER_METHOD, "tools/call")]);
    assert_eq!(twice, Err(Mismatch(HEADER_METHOD)));
    for text in ["plain", " padded ", "=?base64?x?=", "a\r\nb", "", "世界"] {
        assert_eq!(decoded(&encoded(text)).as_deref(), Some(text));
        assert!(!encoded(text).contains(['\r', '\n']));
    }
}

#[test]
fn arguments_are_said_again_as_a_definition_asks_for() {
    let text = |it| json!({ "type": "string", "x-mcp-header": it });
    let definition = json!({ "name": "a", "inputSchema": { "properties": {
        "region": text("Region"), "level": { "type": "integer", "x-mcp-header": "Level" }, "none": text("None"),
        "odd": text("a b"), "plain": { "type": "string" },
        "deep": { "properties": { "on": { "type": "boolean", "x-mcp-header": "On" } } },
    } } })
    .to_string();
    let given = json!({ "region": "grüße", "level": -7, "none": null, "odd": "x", "plain": "x", "deep": { "on": true } });
    let given = given.to_string();
    let found = mirrored(&definition, Object::parse(&given).as_ref());
    let mut found: Vec<(&str, &str)> = found
        .iter()
        .map(|(name, value)| (&**name, &**value))
        .collect();
    found.sort_unstable();
    let region = encoded("grüße");
    assert_eq!(
        found,
        [
            ("mcp-param-Level", "-7"),
            ("mcp-param-On", "true"),
            ("mcp-param-Region", &region)
        ]
    );
    assert!(mirrored("{}", None).is_empty());
}

#[test]
fn headers_say_arguments_as_the_body_does() {
    let definition = json!({ "name": "a", "inputSchema": { "properties": {
        "region": { "type": "string", "x-mcp-header": "Region" },
        "level": { "type": "number", "x-mcp-header": "Level" },
        "deep": { "properties": { "on": { "type": "boolean", "x-mcp-header": "On" } } },
        "first": { "type": "string", "x-mcp-header": "Two" }, "second": { "type": "string", "x-mcp-header": "two" },
    } } })
    .to_string();
    let given = json!({ "region": "grüße", "level": 7, "first": "a", "second": "a" }).to_string();
    let ask = |headers: &[(&str, &str)]| {
        let all = headers
            .iter()
            .map(|(name, value)| (*name, value.as_bytes()));
        repeats(all, &definition, Object::parse(&given).as_ref())
    };
    let region = encoded("grüße");
    let good = [
        ("mcp-param-region", &*region),
        ("mcp-param-level", "7.0"),
        // Nobody asks for it: it means nothing, and does not pass.
        ("mcp-param-other", "x"),
    ];
    let passes = ask(&good).unwrap();
    assert_eq!(passes, ["mcp-param-region", "mcp-param-level"]);
    assert_eq!(ask(&[]), Ok(Vec::new()));
    for bad in [
        &[("mcp-param-region", "other")][..],
        &[("mcp-param-level", "8")],
        &[("mcp-param-level", "=?base64?!?=")],
        // What the body does not say.
        &[("mcp-param-on", "true")],
        // Once in each of two places.
        &[("mcp-param-level", "7"), ("mcp-param-level", "7")],
        &[("mcp-param-two", "a")],
    ] {
        assert_eq!(ask(bad), Err(Mismatch("mcp-param-*")), "{bad:?}");
    }
}

#[test]
fn a_pin_is_of_the_whole_definition() {
    let definition = |text: &str| Definition::read(text).unwrap();
    let first = definition(
        r#"{"name":"read","description":"Reads","inputSchema":{"type":"object"},"x":{"b":1,"a":[1]}}"#,
    );
    // Only how it is written differs.
    let same = definition(
        r#"{ "x":{"a":[1],"b":1.0}, "inputSchema":{"type":"object"}, "name":"re\u0061d","description":"Reads" }"#,
    );
    assert_eq!(first.pin, same.pin);
    for other in [
        r#"{"name":"read","description":"Reads ","inputSchema":{"type":"object"},"x":{"b":1,"a":[1]}}"#,
        r#"{"name":"read","description":"Reads","inputSchema":{"type":"object"},"x":{"b":1,"a":[1,2]}}"#,
        r#"{"name":"read","description":"Reads","inputSchema":{"type":"object"},"x":{"b":1,"a":[1]},"_meta":{}}"#,
    ] {
        assert_ne!(definition(other).pin, first.pin, "{other}");
    }
    for bad in [
        r#"{"name":"a","description":"good","description":"evil"}"#,
        r#"{"name":""}"#,
        r#"{"name":"a b"}"#,
        r#"{"name":":resources"}"#,
        "[]",
        "{",
    ] {
        assert!(Definition::read(bad).is_err(), "{bad}");
    }
    let (a, b) = (Some(first.pin), Some(definition(r#"{"name":"b"}"#).pin));
    assert_eq!(State::of(None, a), State::New);
    assert_eq!(State::of(a, a), State::Approved);
    assert_eq!(State::of(a, b), State::Changed);
    assert_eq!(State::of(a, None), State::Gone);
}

#[test]
fn hints_are_proposals_and_nothing_said_is_the_worst() {
    for (hints, class) in [
        (json!({ "readOnlyHint": true }), Class::Read),
        (
            json!({ "readOnlyHint": false, "destructiveHint": false }),
            Class::Write,
        ),
        (json!({ "destructiveHint": true }), Class::Execute),
        (json!({ "readOnlyHint": "true" }), Class::Execute),
        (json!({}), Class::Execute),
    ] {
        let text = json!({ "name": "a", "annotations": hints }).to_string();
        assert_eq!(Definition::read(&text).unwrap().proposed, class, "{text}");
    }
}

fn settings(transport: Transport) -> Settings {
    Settings {
        name: "mine".to_owned(),
        transport,
        rules: Rules::default(),
        resources: true,
        prompts: true,
        timeout: Settings::timeout(None),
        prices: BTreeMap::new(),
    }
}

fn http(url: &str, headers: &[(&str, &str)]) -> Settings {
    let pair = |(name, value): &(&str, &str)| ((*name).to_owned(), Value::parse(value).unwrap());
    settings(Transport::Http {
        url: url.to_owned(),
        headers: headers.iter().map(pair).collect(),
    })
}

fn stdio(env: &[(&str, &str)], command: &[&str]) -> Settings {
    let pair = |(name, value): &(&str, &str)| ((*name).to_owned(), Value::parse(value).unwrap());
    settings(Transport::Stdio {
        command: command.iter().map(|it| (*it).to_owned()).collect(),
        env: env.iter().map(pair).collect(),
        folders: Vec::new(),
        hosts: Vec::new(),
    })
}

#[test]
fn settings_that_are_wrong_say_where() {
    let key = [("Authorization", "Bearer ${secret:keys/x}")];
    let good = http("https://host/mcp?a=b", &key);
    good.check().unwrap();
    assert_eq!(good.secrets().into_iter().collect::<Vec<_>>(), ["keys/x"]);
    let good = stdio(&[("TOKEN", "${secret:keys/x}")], &["server"]);
    good.check().unwrap();
    let named = |name: &str| Settings {
        name: name.to_owned(),
        ..good.clone()
    };
    for (field, wrong) in [
        ("`name`", named("a_b")),
        ("`name`", named("")),
        ("`url`", http("ftp://host", &[])),
        ("`url`", http("https://me:canary@host/", &[])),
        ("`url`", http("https://host/a b", &[])),
        ("`url`", http("https://", &[])),
        ("`headers.Host`", http("https://h", &[("Host", "x")])),
        (
            "`headers.Mcp-Method`",
            http("https://h", &[("Mcp-Method", "x")]),
        ),
        ("`headers.X`", http("https://h", &[("X", "a\r\nB: c")])),
        ("`headers`", http("https://h", &[("X Y", "a")])),
        ("`headers.a`", http("https://h", &[("A", "1"), ("a", "2")])),
        ("`env.LD_PRELOAD`", stdio(&[("LD_PRELOAD", "x.so")], &["s"])),
        ("`env.ld_audit`", stdio(&[("ld_audit", "x.so")], &["s"])),
        (
            "`env.NODE_OPTIONS`",
            stdio(&[("NODE_OPTIONS", "-r x")], &["s"]),
        ),
        ("`env.SKEP_TOKEN`", stdio(&[("SKEP_TOKEN", "x")], &["s"])),
        ("`env.X`", stdio(&[("X", "a\nb")], &["s"])),
        ("`env`", stdio(&[("A=B", "x")], &["s"])),
        ("`command`", stdio(&[], &[])),
        ("`command`", stdio(&[], &["s", "${secret:canary}"])),
    ] {
        let told = wrong.check().unwrap_err().to_string();
        assert!(told.starts_with(field), "{field}: {told}");
        assert!(!told.contains("canary"), "{told}");
    }
    let many: BTreeMap<String, Value> = (0..40)
        .map(|it| (format!("x-{it}"), Value::parse("1").unwrap()))
        .collect();
    let wrong = settings(Transport::Http {
        url: "https://h".to_owned(),
        headers: many,
    });
    assert!(wrong.check().is_err());
    assert_eq!(Settings::timeout(Some(0)), Duration::from_secs(1));
    assert_eq!(Settings::timeout(Some(u64::MAX)), Duration::from_secs(600));
    for text in ["plain", "Bearer ${secret:a/b}", "${secret:a}:x"] {
        assert_eq!(Value::parse(text).unwrap().text(), text);
    }
    for text in ["${secret:a", "${secret:}", "${secret:a}${secret:b}"] {
        assert!(Value::parse(text).is_err(), "{text}");
    }
}

#[test]
fn rules_and_names() {
    let rules = Rules {
        allow: vec!["read_*".to_owned(), "list".to_owned()],
        deny: vec!["*_secret*".to_owned()],
    };
    for (tool, has) in [
        ("read_file", true),
        ("list", true),
        ("lists", false),
        ("read_secrets", false),
        ("write_file", false),
    ] {
        assert_eq!(rules.has(tool), has, "{tool}");
    }
    for (pattern, text, is) in [
        ("*", "", true),
        ("a*b*c", "a-b-b-c", true),
        ("a*b*c", "a-c", false),
        ("ab*ba", "aba", false),
        ("", "", true),
        ("", "a", false),
    ] {
        assert_eq!(fits(pattern, text), is, "{pattern} {text}");
    }
    assert_eq!(
        joined("my-fs", "read__x").as_deref(),
        Some("my-fs__read__x")
    );
    assert_eq!(split("my-fs__read__x"), Some(("my-fs", "read__x")));
    assert_eq!(joined("fs", "a b"), None);
    assert_eq!(joined("fs", &"a".repeat(70)), None);
    assert_eq!(split("a_b__c"), None);
    assert_eq!(split("read"), None);
}

#[test]
fn presets_are_settings_that_can_be() {
    for preset in PRESETS {
        let command: Vec<&str> = preset.command.to_vec();
        let keys = preset.keys.iter().map(|it| (*it, "${secret:keys/x}"));
        let mut made = stdio(&keys.collect::<Vec<_>>(), &command);
        made.name = preset.name.to_owned();
        if let Transport::Stdio { hosts, .. } = &mut made.transport {
            *hosts = preset.hosts.iter().map(|it| (*it).to_owned()).collect();
        }
        made.check().unwrap();
    }
}

proptest! {
    #[test]
    fn lists_keep_every_byte_of_what_they_keep(
        tools in prop::collection::vec(any_json(), 0..6),
        extra in any_json(),
        mask in any::<u8>(),
    ) {
        let result = json!({ "before": extra, "tools": tools, "nextCursor": "x", "_meta": { "z": 1, "a": 2 } }).to_string();
        let mut at = 0;
        let kept = kept(&result, "tools", |raw| {
            at += 1;
            (mask >> (at - 1) & 1 == 1).then(|| raw.to_owned())
        }).unwrap();
        let read: Json = serde_json::from_str(&kept).unwrap();
        let expected: Vec<&Json> = tools.iter().enumerate().filter(|(at, _)| mask >> at & 1 == 1).map(|(_, it)| it).collect();
        prop_assert_eq!(read["tools"].as_array().unwrap().iter().collect::<Vec<_>>(), expected);
        prop_assert_eq!(&read["before"], &extra);
        if mask & 0x3f == 0x3f {
            prop_assert_eq!(kept, result);
        }
    }

    #[test]
    fn a_stream_is_the_same_however_it_is_cut(
        texts in prop::collection::vec("[a-z{}: ]{0,20}", 1..6),
        ends in prop::collection::vec(prop_oneof![Just("\n"), Just("\r\n"), Just("\r")], 12),
        cut in 1_usize..9,
    ) {
        let mut stream = Vec::new();
        for (at, text) in texts.iter().enumerate() {
            let end = ends[at % ends.len()];
            stream.extend_from_slice(format!("id: {at}{end}data: {text}{end}:note{end}{end}").as_bytes());
        }
        let mut events = Events::default();
        let mut found = Vec::new();
        for piece in stream.chunks(cut) {
            found.extend(events.push(piece).unwrap());
        }
        let data: Vec<_> = found.iter().map(|it| it.data.clone().unwrap_or_default()).collect();
        prop_assert_eq!(&data, &texts);
        for (at, one) in found.iter().enumerate() {
            let text = String::from_utf8(one.with("new")).unwrap();
            prop_assert_eq!(text, format!("id: {at}\ndata: new\n\n"));
        }
    }

    #[test]
    fn a_name_is_changed_and_nothing_else(params in any_json(), id in any::<i64>()) {
        let mut params = match params { Json::Object(it) => it, _ => serde_json::Map::new() };
        params.insert("name".to_owned(), "long__name".into());
        let text = json!({ "jsonrpc": "2.0", "id": id, "method": "tools/call", "params": params, "zz": [1.5] }).to_string();
        let Ok(message) = Message::read(&text) else { return Err(TestCaseError::fail("it is one")) };
        let made = renamed(&message, "name");
        prop_assert_eq!(made.replace("\"name\":\"name\"", "\"name\":\"long__name\""), text);
    }

    #[test]
    fn any_text_is_read_or_refused(text in ".{0,200}") {
        let _ = Message::of_client(&text);
        let _ = Definition::read(&text);
        let _ = kept(&text, "tools", |_| None);
        let _ = Value::parse(&text);
    }
}

#[test]
fn addresses_at_a_door_to_several_lead_back() {
    for uri in ["file:///a", "test://x/{id}", "a:b:c", ""] {
        let outer = outer_uri("docs", uri);
        assert_eq!(inner_uri(&outer), Some(("docs", uri)));
    }
    for odd in ["file:///a", "mcp+docs", "mcp+:x", "MCP+docs:x"] {
        assert_eq!(inner_uri(odd), None, "{odd}");
    }
}

#[test]
fn tools_whose_headers_cannot_be_said_are_none() {
    let definition = |properties: Json| {
        let text = json!({ "name": "a", "inputSchema": { "properties": properties } }).to_string();
        Definition::read(&text).map(|it| it.name)
    };
    let one = |kind: &str, header: Json| json!({ "x": { "type": kind, "x-mcp-header": header } });
    for (kind, header) in [("string", "Region"), ("integer", "a"), ("boolean", "A-b")] {
        assert!(definition(one(kind, json!(header))).is_ok(), "{kind}");
    }
    for (kind, header) in [
        ("number", json!("Region")),
        ("object", json!("Region")),
        ("null", json!("Region")),
        ("string", json!("")),
        ("string", json!("a b")),
        ("string", json!("a:b")),
        ("string", json!("é")),
        ("string", json!(7)),
    ] {
        let why = definition(one(kind, header.clone()));
        assert_eq!(why, Err(crate::NoDefinition::Headers), "{kind} {header}");
    }
    let twice = json!({
        "x": { "type": "string", "x-mcp-header": "Region" },
        "y": { "properties": { "z": { "type": "string", "x-mcp-header": "REGION" } } },
    });
    assert!(definition(twice).is_err());
}
