//! What a message is asked about at the door of a server.

use std::time::Duration;

use serde_json::{Value, json};
use skep_mcp::{Rules, Settings, Transport};

use super::*;

/// What a request wants at the door of a server with prompts and without resources; nothing, when it is refused.
fn wanted(method: &str, params: &Value) -> Option<(String, Class)> {
    let settings = Settings {
        name: "mine".to_owned(),
        transport: Transport::Http {
            url: "https://host/mcp".to_owned(),
            headers: BTreeMap::default(),
        },
        rules: Rules::default(),
        resources: false,
        prompts: true,
        timeout: Duration::from_secs(1),
        prices: BTreeMap::new(),
    };
    let server = Server {
        settings,
        tools: BTreeMap::new(),
    };
    let mut plan = Plan {
        workspace: Workspace::default(),
        all: false,
        part: None,
        chain: None,
        server: "mine".to_owned(),
        known: Known {
            at: Instant::now(),
            servers: Arc::new([("mine".to_owned(), server)].into()),
            virtuals: Arc::default(),
        },
        method: Method::POST,
        text: String::new(),
        id: None,
        rpc: None,
        era: Era::Legacy,
        again: Vec::new(),
        wanted: Some(Wanted::itself("mine")),
    };
    let text = json!({ "jsonrpc": "2.0", "id": 1, "method": method, "params": params }).to_string();
    let message = Message::of_client(&text).unwrap();
    plan.understand(&message).ok()?;
    plan.wanted.map(|it| (it.thing, it.class))
}

#[test]
fn every_method_is_asked_about_or_refused() {
    let read = |thing: &str| Some((thing.to_owned(), Class::Read));
    for method in PASS {
        let expected = match method.split_once('/') {
            Some(("resources", _)) => None,
            Some(("prompts", _)) => read(PROMPTS),
            _ => read(ITSELF),
        };
        assert_eq!(wanted(method, &json!({})), expected, "{method}");
    }
    for method in ["get", "list", "cancel", "result", "update"] {
        let method = format!("tasks/{method}");
        assert_eq!(wanted(&method, &json!({ "taskId": "a" })), None, "{method}");
    }
}

#[test]
fn a_completion_counts_as_what_it_completes() {
    let of = |it: Value| wanted("completion/complete", &json!({ "ref": it }));
    let prompt = of(json!({ "type": "ref/prompt", "name": "a" }));
    assert_eq!(prompt, Some((PROMPTS.to_owned(), Class::Read)));
    for refused in [
        // Resources of this server do not pass.
        json!({ "type": "ref/resource", "uri": "a" }),
        json!({ "type": "ref/prompt", "Type": "ref/resource", "uri": "a" }),
        json!({ "type": "ref/tool", "name": "a" }),
        json!({}),
        json!(1),
    ] {
        assert_eq!(of(refused.clone()), None, "{refused}");
    }
}
