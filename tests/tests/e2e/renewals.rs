//! New values that hooks make: a program and a webhook, what they are told, that nothing counts before it is
//! proven, and what is left of it when the server is killed.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::Arc;

use aws_lc_rs::hmac;
use parking_lot::Mutex;
use serde_json::{Value, json};
use skep_tests::issuer::base64;
use skep_tests::{Server, Setup, eventually};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

use crate::cli::skep;

/// A program that tells its orders to a file, and does what files beside it say.
const PROGRAM: &str = r#"#!/usr/bin/env python3
import json, os, sys
folder = os.path.dirname(os.path.abspath(__file__))
order = json.load(sys.stdin)
order["environment"] = sorted(os.environ)
with open(folder + "/orders", "a") as orders:
    orders.write(json.dumps(order) + "\n")
operation = order["operation"]
if os.path.exists(folder + "/hang-" + operation):
    import time
    while os.path.exists(folder + "/hang-" + operation):
        time.sleep(0.05)
print("MARKED-77aa on standard error", file=sys.stderr)
if os.path.exists(folder + "/fail-" + operation):
    sys.exit(3)
if operation == "make":
    print(json.dumps({"value": "MARKED-77aa-%d" % order["version"]}))
"#;

struct Hook {
    folder: TempDir,
}

impl Hook {
    fn new(keep: &str) -> Self {
        let folder = TempDir::new().expect("a folder");
        let program = folder.path().join("rotate");
        fs::write(&program, PROGRAM).expect("a file");
        fs::set_permissions(&program, fs::Permissions::from_mode(0o700)).expect("a mode");
        let hooks = format!(
            "[[hook]]\nname = \"pay\"\nsecrets = [\"pay/*\"]\ncommand = [\"{}\"]\nkeep = \"{keep}\"\n",
            program.display()
        );
        let file = folder.path().join("hooks.toml");
        fs::write(&file, hooks).expect("a file");
        fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).expect("a mode");
        Self { folder }
    }

    fn setup(&self) -> Setup {
        let file = self.folder.path().join("hooks.toml");
        let env = ("SKEP_SECRETS_HOOKS".to_owned(), file.display().to_string());
        // Python itself is found by its name.
        Setup {
            env: vec![env],
            ..Setup::default()
        }
    }

    fn wish(&self, what: &str) {
        fs::write(self.folder.path().join(what), "").expect("a file");
    }

    fn unwish(&self, what: &str) {
        fs::remove_file(self.folder.path().join(what)).expect("a file");
    }

    fn orders(&self) -> Vec<Value> {
        let text = fs::read_to_string(self.folder.path().join("orders")).unwrap_or_default();
        let read = |line| serde_json::from_str(line).expect("JSON");
        text.lines().map(read).collect()
    }

    fn operations(&self) -> Vec<String> {
        let of = |it: &Value| it["operation"].as_str().expect("a text").to_owned();
        self.orders().iter().map(of).collect()
    }
}

async fn create(server: &Server, name: &str, value: &str) {
    let wish = json!({ "name": name, "value": value, "rotate_every": "90d" });
    let made = server.client.post_json("/api/v1/secrets", &wish).await;
    assert_eq!(made.status, 201, "{}", made.text());
}

fn path(name: &str, rest: &str) -> String {
    format!("/api/v1/secrets/{}{rest}", name.replace('/', "%2F"))
}

async fn secret(server: &Server, name: &str) -> Value {
    server.client.get(&path(name, "")).await.json()
}

async fn value(server: &Server, name: &str) -> String {
    let wish = json!({ "reason": "a test looks" });
    let shown = server.client.post_json(&path(name, "/reveal"), &wish).await;
    shown.json()["value"]
        .as_str()
        .unwrap_or_default()
        .to_owned()
}

async fn phase(server: &Server, name: &str, wanted: &str) {
    eventually(&format!("{name} being at `{wanted}`"), async || {
        let now = secret(server, name).await["renewal"]["phase"].clone();
        (now.as_str().unwrap_or_default() == wanted).then_some(())
    })
    .await;
}

fn rotate(server: &Server, name: &str) {
    let said = skep(server, &["secrets", "rotate", name]);
    assert_eq!(said.code, Some(0), "{}", said.err);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_program_makes_proves_and_retires() {
    let hook = Hook::new("0s");
    let server = Server::start_with(hook.setup()).await;
    create(&server, "pay/stripe", "old").await;
    create(&server, "other", "old").await;
    let none = skep(&server, &["secrets", "rotate", "other"]);
    assert!(
        none.code == Some(1) && none.err.contains("no hook"),
        "{}",
        none.err
    );
    rotate(&server, "pay/stripe");
    eventually("the end of the renewal", async || {
        let now = secret(&server, "pay/stripe").await;
        (now["latest"] == 2 && now["renewal"].is_null()).then_some(())
    })
    .await;
    assert_eq!(value(&server, "pay/stripe").await, "MARKED-77aa-2");
    assert_eq!(hook.operations(), ["make", "prove", "retire"]);
    let orders = hook.orders();
    let said = |at: usize| (orders[at]["value"].clone(), orders[at]["version"].clone());
    assert_eq!(said(0), (json!("old"), json!(2)));
    assert_eq!(said(1), (json!("MARKED-77aa-2"), json!(2)));
    assert_eq!(said(2), (json!("old"), json!(1)));
    assert_eq!(orders[0]["name"], "pay/stripe");
    let variables = orders[0]["environment"].to_string();
    assert!(!variables.contains("SKEP"), "{variables}");
    // It is told by its id, and by no value.
    let events = server.client.get("/api/v1/events?limit=200").await.text();
    assert!(events.contains("secret.renewed"), "{events}");
    let log = format!("{events}{}{:?}", server.log(), crate::audit::whole(&server));
    assert!(!log.contains("MARKED") && log.contains("its renewal: proving is done"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_counts_that_is_not_proven() {
    let hook = Hook::new("1h");
    let mut server = Server::start_with(hook.setup()).await;
    create(&server, "pay/stripe", "old").await;
    hook.wish("fail-prove");
    rotate(&server, "pay/stripe");
    eventually("a failure", async || {
        let now = secret(&server, "pay/stripe").await;
        (now["renewal"]["tries"] == 1).then_some(())
    })
    .await;
    assert_eq!(value(&server, "pay/stripe").await, "old");
    let shown = skep(&server, &["secrets", "show", "pay/stripe"]);
    assert!(
        shown.out.contains("proving, failed 1 times"),
        "{}",
        shown.out
    );
    let events = server.client.get("/api/v1/events?limit=200").await.text();
    assert!(
        events.contains("secret.renewal-failed") && !events.contains("MARKED"),
        "{events}"
    );
    // Somebody writes a value: the hook takes its own away.
    hook.unwish("fail-prove");
    let put = json!({ "value": "by hand" });
    let put = server
        .client
        .post_json(&path("pay/stripe", "/versions"), &put)
        .await;
    assert_eq!(put.status, 201, "{}", put.text());
    // What waits is tried now.
    rotate(&server, "pay/stripe");
    eventually("the end of the renewal", async || {
        let now = secret(&server, "pay/stripe").await;
        (now["renewal"].is_null()).then_some(())
    })
    .await;
    assert_eq!(value(&server, "pay/stripe").await, "by hand");
    let last = hook.orders().pop().expect("an order");
    assert_eq!(
        (&last["operation"], &last["value"]),
        (&json!("abandon"), &json!("MARKED-77aa-2"))
    );
    // A server that is killed while it waits asks again, with the same id.
    hook.wish("hang-make");
    rotate(&server, "pay/stripe");
    let seen = hook.orders().len();
    eventually("the order", async || {
        (hook.orders().len() > seen).then_some(())
    })
    .await;
    server.kill();
    hook.unwish("hang-make");
    server.restart_as_it_was().await;
    phase(&server, "pay/stripe", "kept").await;
    let orders = hook.orders();
    assert_eq!(orders[seen]["operation"], "make");
    assert_eq!(orders[seen]["id"], orders[seen + 1]["id"]);
    assert_eq!(value(&server, "pay/stripe").await, "MARKED-77aa-3");
}

/// What a webhook heard: the head of the request, and its body.
type Heard = Arc<Mutex<Vec<(String, String)>>>;

async fn webhook(heard: Heard) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("an address");
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let mut read = Vec::new();
            let (head, body) = loop {
                let mut buffer = [0; 4096];
                let got = stream.read(&mut buffer).await.expect("bytes");
                read.extend_from_slice(&buffer[..got]);
                let text = String::from_utf8_lossy(&read).into_owned();
                let Some((head, body)) = text.split_once("\r\n\r\n") else {
                    continue;
                };
                let head = head.to_lowercase();
                let length = head
                    .lines()
                    .find_map(|it| it.strip_prefix("content-length: "));
                if length.is_none_or(|it| it.parse() == Ok(body.len())) {
                    break (head, body.to_owned());
                }
            };
            heard.lock().push((head, body));
            let answer = "HTTP/1.1 200 OK\r\ncontent-length: 15\r\nconnection: close\r\n\r\n{\"value\":\"new\"}";
            stream
                .write_all(answer.as_bytes())
                .await
                .expect("an answer");
        }
    });
    format!("http://{address}/rotate")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_webhook_is_signed() {
    let heard = Heard::default();
    let url = webhook(heard.clone()).await;
    let folder = TempDir::new().expect("a folder");
    let file = |name: &str, text: &str| {
        let path = folder.path().join(name);
        fs::write(&path, text).expect("a file");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).expect("a mode");
    };
    let key = base64(&[9; 32]).replace('-', "+").replace('_', "/");
    file("hook.key", &format!("whsec_{key}=\n"));
    let hooks = format!(
        "[[hook]]\nname = \"web\"\nsecrets = [\"*\"]\nurl = \"{url}\"\nkey_file = \"hook.key\"\nkeep = \"0s\"\n"
    );
    file("hooks.toml", &hooks);
    let path: &Path = &folder.path().join("hooks.toml");
    let setup = Setup {
        env: vec![("SKEP_SECRETS_HOOKS".to_owned(), path.display().to_string())],
        ..Setup::default()
    };
    let server = Server::start_with(setup).await;
    create(&server, "stripe", "old").await;
    rotate(&server, "stripe");
    eventually("the end of the renewal", async || {
        (heard.lock().len() == 3).then_some(())
    })
    .await;
    eventually("the new value", async || {
        (value(&server, "stripe").await == "new").then_some(())
    })
    .await;
    for (head, body) in heard.lock().iter() {
        let header = |name: &str| {
            let mut lines = head.lines();
            let found = lines.find_map(|line| line.strip_prefix(&format!("{name}: ")));
            found.expect("a header").to_owned()
        };
        let order: Value = serde_json::from_str(body).expect("JSON");
        assert_eq!(order["id"], header("webhook-id"));
        let text = format!(
            "{}.{}.{body}",
            header("webhook-id"),
            header("webhook-timestamp")
        );
        let tag = hmac::sign(
            &hmac::Key::new(hmac::HMAC_SHA256, &[9; 32]),
            text.as_bytes(),
        );
        let expected = base64(tag.as_ref()).replace('-', "+").replace('_', "/");
        // The head was made lower case.
        assert_eq!(
            header("webhook-signature"),
            format!("v1,{expected}=").to_lowercase()
        );
    }
}
