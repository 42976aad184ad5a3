//! What is kept of exchanges with hosts of the web, where a rule says so: without the secret that was put in, encrypted, and
//! for who may see it.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::Method;
use serde_json::{Value, json};
use skep_tests::{Client, Host, Said, Server, Wire, eventually};

use crate::cli::skep;
use crate::engine::{Engine, on_each_engine};
use crate::web::{House as Tls, KEY, bearer, put};

/// What stands for the secret in a request.
const PLACEHOLDER: &str = "MY-OWN-PLACEHOLDER";

on_each_engine!(
    an_exchange_is_kept_without_its_secret_and_shown_after_that_was_written_down,
    nobody_else_sees_what_is_kept,
);

/// A server, and a host that is asked in the open.
struct House {
    server: Server,
    host: Host,
}

impl House {
    async fn start(engine: &Engine) -> Self {
        let host = Host::start("127.0.0.2", None, "").await;
        let setup = engine.setup(&[("SKEP_OUTGOING_ALLOW", "127.0.0.0/8")]);
        let server = Server::start_with(setup).await;
        let secret = json!({ "name": "keys/web", "value": KEY });
        let made = server.client.post_json("/api/v1/secrets", &secret).await;
        assert_eq!(made.status, 201, "{}", made.text());
        Self { server, host }
    }

    async fn allow(&self, name: &str, rule: Value) {
        let (status, text) = put(&self.server, name, &rule).await;
        assert_eq!(status, 200, "{text}");
    }

    /// Begins a request to the host, as who has the server's first key.
    async fn asks(&self, start: &str, fields: &str, body: &str) -> Wire {
        let mut wire = Wire::open(&self.server).await;
        let shown = STANDARD.encode(format!("any:{}", self.server.client.key));
        let head = format!(
            "{start} HTTP/1.1\r\nhost: x\r\nproxy-authorization: Basic {shown}\r\ncontent-length: {}\r\n{fields}\r\n",
            body.len()
        );
        wire.say(head.as_bytes()).await;
        wire.say(body.as_bytes()).await;
        wire
    }

    async fn asked(&self, (method, path): (&str, &str), fields: &str, body: &str) -> Said {
        let start = format!("{method} {}{path}", self.host.url);
        let mut wire = self.asks(&start, fields, body).await;
        wire.answer().await.expect("an answer")
    }
}

async fn listed(client: &Client) -> Vec<Value> {
    let told = client.get("/api/v1/web/exchanges").await;
    assert_eq!(told.status, 200, "{}", told.text());
    told.json()["items"].as_array().cloned().expect("a list")
}

/// Waits until so many exchanges are kept.
async fn kept(server: &Server, count: usize) -> Vec<Value> {
    eventually("what is kept", async || {
        let all = listed(&server.client).await;
        (all.len() == count).then_some(all)
    })
    .await
}

/// The path of one that is kept.
fn at(one: &Value) -> String {
    format!(
        "/api/v1/web/exchanges/{}",
        one["id"].as_str().expect("an id")
    )
}

async fn remove(client: &Client, path: &str) -> u16 {
    let remove = client.request(Method::DELETE, path, String::new());
    client.send(remove).await.expect("an answer").status
}

fn value<'a>(headers: &'a Value, name: &str) -> Option<&'a str> {
    let mut all = headers.as_array().expect("headers").iter();
    all.find(|it| it["name"] == name)?["value"].as_str()
}

async fn an_exchange_is_kept_without_its_secret_and_shown_after_that_was_written_down(
    engine: Engine,
) {
    let mut house = House::start(&engine).await;
    let credential = json!({ "secret": "keys/web", "placeholder": PLACEHOLDER });
    let rule = json!({ "host": house.host.url, "credential": credential, "record_days": 30 });
    house.allow("api", rule).await;
    let path = format!("/echo?key={PLACEHOLDER}");
    // Who asks knows the secret, too.
    let body = json!({ "said": "asked-51c2d8", "key": PLACEHOLDER, "known": KEY });
    let body = format!("{body}\u{1b}[2J");
    let fields = "content-type: application/json\r\nx-own: own-credential-77\r\n";
    let said = house.asked(("POST", &path), fields, &body).await;
    assert_eq!(said.status, 200, "{said:?}");
    let heard = house.host.last();
    assert_eq!(heard["body"], body.replace(PLACEHOLDER, KEY));
    assert_eq!(heard["headers"]["x-own"], "own-credential-77");
    let all = kept(&house.server, 1).await;
    assert_eq!(
        ["host", "rule", "method", "outcome", "of"].map(|it| &all[0][it]),
        [&house.host.name, "api", "POST", "200", "key"]
    );
    let client = &house.server.client;
    let path = at(&all[0]);
    let shown = client.get(&path).await.json();
    let target = format!("POST {}/echo?key={PLACEHOLDER}", house.host.url);
    assert_eq!(
        (&shown["target"], &shown["status"]),
        (&json!(target), &json!(200))
    );
    let masked = body.replace(KEY, &"*".repeat(KEY.len()));
    assert_eq!(
        shown["asked"],
        json!({ "text": masked, "bytes": body.len(), "cut": false })
    );
    let headers = &shown["asked_headers"];
    assert_eq!(value(headers, "content-type"), Some("application/json"));
    assert_eq!(
        (
            value(headers, "x-own"),
            value(headers, "proxy-authorization")
        ),
        (Some("*"), None)
    );
    assert_eq!(shown["answer"]["text"], said.body);
    assert!(
        !headers.to_string().contains("own-credential-77"),
        "{headers}"
    );
    assert!(!shown.to_string().contains(KEY), "{shown}");
    let entries = client
        .get("/api/v1/audit/entries?action=web:reveal")
        .await
        .json();
    let id = all[0]["id"].as_str().expect("an id");
    assert!(
        entries["items"][0]["entry"].to_string().contains(id),
        "{entries}"
    );
    it_lasts_encrypted_until_it_is_removed(&engine, &mut house, (id, &shown)).await;
}

/// Over a restart, and for nobody who reads the store.
async fn it_lasts_encrypted_until_it_is_removed(
    engine: &Engine,
    house: &mut House,
    (id, shown): (&str, &Value),
) {
    let path = format!("/api/v1/web/exchanges/{id}");
    let client = &house.server.client;
    // It is none of a model.
    assert_eq!(
        client.get(&path.replace("/web/", "/models/")).await.status,
        404
    );
    assert_eq!(
        remove(client, &path.replace("/web/", "/models/")).await,
        404
    );
    house.server.kill();
    for secret in ["asked-51c2d8", "own-credential-77", KEY, "sk-MARKED-7f31"] {
        assert!(!engine.has(&house.server, secret), "{secret}");
    }
    house.server.restart_as_it_was().await;
    let client = &house.server.client;
    assert_eq!(client.get(&path).await.json()["asked"], shown["asked"]);
    let printed = skep(&house.server, &["web", "exchange", id]);
    // What it says moves no cursor of who looks at it.
    let clean = |it: &Value| it.as_str().expect("a text").replace('\u{1b}', "\u{fffd}");
    let of = |it: &Value| printed.out.contains(&clean(it));
    assert!(clean(&shown["asked"]["text"]).contains('\u{fffd}'));
    assert!(
        of(&shown["target"]) && of(&shown["asked"]["text"]) && !printed.out.contains('\u{1b}'),
        "{}",
        printed.out
    );
    assert_eq!(remove(client, &path).await, 204);
    assert_eq!(client.get(&path).await.status, 404);
}

async fn nobody_else_sees_what_is_kept(engine: Engine) {
    let house = House::start(&engine).await;
    let rule = json!({ "host": house.host.url, "record_days": 1 });
    house.allow("api", rule).await;
    assert_eq!(house.asked(("GET", "/echo"), "", "").await.status, 200);
    let all = kept(&house.server, 1).await;
    let (path, client) = (at(&all[0]), &house.server.client);
    let wish = json!({ "name": "blue" });
    let made = client.post_json("/api/v1/workspaces", &wish).await.json();
    let blue = Client::new(&client.url, made["secret"].as_str().expect("a key"));
    assert!(listed(&blue).await.is_empty());
    assert_eq!(blue.get(&path).await.status, 404);
    assert_eq!(remove(&blue, &path).await, 404);
    // Who may list them may not look into them, nor remove them.
    let wish = json!({ "name": "ci", "role": "member" });
    let made = client.post_json("/api/v1/keys", &wish).await.json();
    let member = Client::new(&client.url, made["secret"].as_str().expect("a key"));
    assert_eq!(listed(&member).await, all);
    let refused = member.get(&path).await;
    assert_eq!(refused.status, 403, "{}", refused.text());
    assert!(refused.text().contains("web:reveal"), "{}", refused.text());
    assert_eq!(remove(&member, &path).await, 403);
    assert_eq!(client.get(&path).await.status, 200);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_long_body_is_cut_and_says_so_and_without_record_nothing_is_kept() {
    const WHOLE: usize = 5 << 20;
    const KEPT: usize = 4 << 20;
    let house = House::start(&Engine::Sqlite).await;
    let plain = json!({ "host": house.host.url, "paths": ["/plain"] });
    house.allow("plain", plain).await;
    let rule = json!({ "host": house.host.url, "record_days": 1 });
    house.allow("api", rule).await;
    assert_eq!(house.asked(("GET", "/plain"), "", "").await.status, 200);
    let said = house.asked(("POST", "/echo"), "", &"x".repeat(WHOLE)).await;
    assert!(said.status == 200 && said.body.len() > WHOLE);
    let all = kept(&house.server, 1).await;
    assert_eq!(
        (&all[0]["rule"], &all[0]["bytes"]),
        (&json!("api"), &json!(2 * KEPT))
    );
    let shown = house.server.client.get(&at(&all[0])).await.json();
    for (side, bytes) in [("asked", WHOLE), ("answer", said.body.len())] {
        let side = &shown[side];
        assert_eq!(
            (&side["cut"], &side["bytes"]),
            (&json!(true), &json!(bytes))
        );
        assert_eq!(side["text"].as_str().map(str::len), Some(KEPT));
    }
    let id = all[0]["id"].as_str().expect("an id");
    let printed = skep(&house.server, &["web", "exchange", id]);
    assert!(
        printed
            .out
            .contains(&format!("(cut: it had {WHOLE} bytes)"))
    );
    let mut wrong = json!({ "host": house.host.url });
    wrong["record_days"] = json!(100_000);
    let (status, text) = put(&house.server, "wrong", &wrong).await;
    assert!(status == 400 && text.contains("record_days"), "{text}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_answer_whose_client_left_is_kept_as_far_as_it_came() {
    let house = House::start(&Engine::Sqlite).await;
    let rule = json!({ "host": house.host.url, "credential": bearer(), "record_days": 1 });
    house.allow("api", rule).await;
    let start = format!("GET {}/endless", house.host.url);
    let mut wire = house.asks(&start, "", "").await;
    assert_eq!(wire.head().await.expect("a head").status, 200);
    while !wire.take(1).await.expect("it goes on").contains('m') {}
    drop(wire);
    let all = kept(&house.server, 1).await;
    assert_eq!(all[0]["outcome"], "left");
    let shown = house.server.client.get(&at(&all[0])).await.json();
    let text = shown["answer"]["text"].as_str().expect("a text");
    assert!(
        text.starts_with(&"*".repeat(KEY.len())) && text.contains("more\n"),
        "{text}"
    );
    assert_eq!(value(&shown["asked_headers"], "authorization"), None);
    // Nobody is there.
    let url = "http://127.0.0.4:9";
    house
        .allow("gone", json!({ "host": url, "record_days": 1 }))
        .await;
    let mut wire = house.asks(&format!("GET {url}/x"), "", "").await;
    assert_eq!(wire.answer().await.expect("an answer").status, 502);
    let all = kept(&house.server, 2).await;
    assert_eq!(all[0]["outcome"], "unreachable");
    let shown = house.server.client.get(&at(&all[0])).await.json();
    assert_eq!(shown["target"], format!("GET {url}/x"));
    assert_eq!(shown.get("status"), None);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_tunnel_is_opened_for_what_is_to_be_kept() {
    let house = Tls::start().await;
    let words = ["web", "allow", "api", &house.host.name, "--record", "30d"];
    let made = skep(&house.server, &words);
    assert_eq!(made.code, Some(0), "{}", made.err);
    let rules = house.server.client.get("/api/v1/web/rules").await.json();
    let rule = &rules["items"][0];
    assert_eq!(
        (&rule["opened"], &rule["record_days"]),
        (&json!(true), &json!(30))
    );
    house.agent(json!({})).await;
    let url = format!("{}/echo?a=1", house.host.url);
    let (code, out, error) = house.curl(&["-d", "x=1", &url]);
    assert_eq!(code, Some(0), "{error}");
    let all = kept(&house.server, 1).await;
    assert_eq!(
        (&all[0]["of"], &all[0]["whose"]),
        (&json!("agent"), &json!("a"))
    );
    let shown = house.server.client.get(&at(&all[0])).await.json();
    assert_eq!(shown["target"], format!("POST {url}"));
    assert_eq!(
        (&shown["asked"]["text"], &shown["answer"]["text"]),
        (&json!("x=1"), &json!(out))
    );
}
