//! Messages, streams, definitions, declarations and descriptions of the Model Context Protocol: whatever comes, what passes is read by who
//! reads it as it was read here, however it was cut.
#![no_main]

use std::collections::BTreeMap;
use std::sync::Arc;

use libfuzzer_sys::fuzz_target;
use skep_mcp::{
    Definition, Description, Events, Message, Object, Rules, Settings, Transport, Value, Virtual, array, decoded, encoded, inner_uri, joined,
    kept, mirrored, outer_uri, repeats, split, strict,
};

/// The events of a stream, which comes in two pieces.
fn events(bytes: &[u8], cut: usize) -> Vec<Vec<u8>> {
    let (first, second) = bytes.split_at(cut);
    let mut events = Events::default();
    let mut all = events.push(first).expect("it is short");
    all.extend(events.push(second).expect("it is short"));
    all.iter().map(skep_mcp::Event::written).collect()
}

fn streams(bytes: &[u8], cut: usize) {
    let whole = events(bytes, 0);
    assert_eq!(whole, events(bytes, cut));
    // What is written is read as the same again.
    assert_eq!(events(&whole.concat(), 0), whole);
}

fn messages(text: &str) {
    let Ok(message) = Message::of_client(text) else {
        return;
    };
    let again = message.fields.with(&[]);
    let again = Message::of_client(&again).expect("what was read is read again");
    assert_eq!(again.method(), message.method());
    assert_eq!(again.id().map(|it| it.get()), message.id().map(|it| it.get()));
    if message.method().is_some() {
        let renamed = skep_mcp::renamed(&message, "another");
        let renamed = Message::of_client(&renamed).expect("what was read is read again");
        let name = renamed.params.and_then(|it| it.text("name"));
        assert!(name.is_none_or(|it| it == "another"));
    }
}

fn definitions(text: &str) {
    let Ok(definition) = Definition::read(text) else {
        return;
    };
    let fields = Object::parse(text).expect("it was read");
    let again = Definition::read(&fields.with(&[])).expect("what was read is read again");
    assert_eq!((again.name, again.pin), (definition.name, definition.pin));
    let arguments = fields.object("annotations");
    let headers = mirrored(text, arguments.as_ref());
    let low: Vec<(String, String)> =
        headers.into_iter().map(|(name, value)| (name.to_ascii_lowercase(), value)).collect();
    let said = low.iter().map(|(name, value)| (name.as_str(), value.as_bytes()));
    repeats(said, text, arguments.as_ref()).expect("headers say what the arguments say");
}

fn declarations(text: &str) {
    let Ok(made) = Virtual::read("desk", text) else {
        return;
    };
    assert!(strict(text).is_ok());
    for part in &made.tools {
        assert!(made.servers().contains(part.server.as_str()));
        let shown = part.shown(r#"{"name":"a","inputSchema":{"properties":{"q":{}},"required":["q"]}}"#);
        let shown = shown.expect("a definition");
        assert!(Object::parse(&shown).is_some());
        let given = part.arguments(None).expect("nobody says what is fixed");
        assert!(part.fixed.is_empty() || part.arguments(Object::parse(&given).as_ref()).is_none());
    }
    for chain in &made.chains {
        for step in &chain.steps {
            let _ = step.given(&chain.input, &[]);
        }
    }
}

/// A description of a web API, and calls of what it becomes.
fn descriptions(text: &str) {
    let settings = Settings {
        name: "api".to_owned(),
        transport: Transport::OpenApi {
            url: "https://api.example/v1".to_owned(),
            headers: BTreeMap::new(),
            description: Arc::new(Description::new(text.to_owned())),
        },
        rules: Rules::default(),
        resources: false,
        prompts: false,
        timeout: Settings::timeout(None),
        prices: BTreeMap::new(),
    };
    let Some(Ok(api)) = settings.api() else {
        return;
    };
    for operation in &api.operations {
        assert!(Definition::read(&operation.definition).is_ok());
        let definition = strict(&operation.definition).expect("JSON");
        let arguments = definition["inputSchema"]["properties"].as_object().expect("an object");
        let said = |value: &str| arguments.keys().map(|it| (it.clone(), value.into())).collect();
        for value in ["../a", "..", "a b"] {
            if let Ok(asked) = operation.asked(&said(value)) {
                let path = asked.target.split('?').next().expect("a path");
                assert!(path.starts_with('/') && path.split('/').all(|it| it != ".." && it != "."));
            }
        }
    }
}

fuzz_target!(|bytes: &[u8]| {
    let [first, bytes @ ..] = bytes else {
        return;
    };
    streams(bytes, usize::from(*first).min(bytes.len()));
    let Ok(text) = std::str::from_utf8(bytes) else {
        return;
    };
    messages(text);
    definitions(text);
    declarations(text);
    descriptions(text);
    let _ = Value::parse(text);
    assert_eq!(decoded(&encoded(text)).as_deref(), Some(text));
    assert_eq!(inner_uri(&outer_uri("docs", text)), Some(("docs", text)));
    if let Some(name) = joined("docs", text) {
        assert_eq!(split(&name), Some(("docs", text)));
    }
    if let Some(all) = kept(text, "tools", |it| Some(it.to_owned())) {
        let fields = Object::parse(&all).expect("an object");
        assert!(fields.get("tools").is_some_and(|it| array(it.get()).is_some()));
    }
});
