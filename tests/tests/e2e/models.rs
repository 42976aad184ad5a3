//! Models through the doors: the providers' own SDKs with Skep before their provider, who may, what it costs, and that no
//! agent sees a provider's key.

use std::fs;
use std::sync::Arc;

use http::Method;
use http_body_util::BodyExt as _;
use serde_json::{Value, json};
use skep_tests::{Client, Server, Setup, Upstream, agent_binary, eventually, sdk};

use crate::engine::Engine;
use crate::policy::set;

/// A model with a price of its own, that writes 20 tokens for 10.
const PRICED: &str = "priced+prompt=10+tokens=20";
/// The same, slowly.
const SLOW: &str = "priced+prompt=10+tokens=20+pace=5";
/// Whose stream says nothing.
const STALLED: &str = "priced+stall";

/// A server before an upstream, with a provider for each door.
pub(crate) struct House {
    pub(crate) server: Server,
    pub(crate) upstream: Upstream,
}

/// $1 a million tokens in, $10 a million out.
fn prices() -> String {
    let model = |name: &str| {
        format!(
            "[[provider.model]]\nnames = [\"{name}\"]\ninput = \"1\"\noutput = \"10\"\nmost_output = 100\n"
        )
    };
    let models: String = [PRICED, SLOW, STALLED].map(model).concat();
    format!("version = \"test\"\n[[provider]]\nname = \"openai\"\n{models}")
}

impl House {
    pub(crate) async fn start() -> Self {
        Self::start_on(&Engine::Sqlite).await
    }

    pub(crate) async fn start_on(engine: &Engine) -> Self {
        let upstream = Upstream::start().await;
        let folder = tempfile::tempdir().expect("it is so");
        let file = folder.path().join("prices.toml");
        fs::write(&file, prices()).expect("it is so");
        let env = [
            ("SKEP_OUTGOING_ALLOW", "127.0.0.0/8"),
            ("SKEP_MODELS_PRICES", file.to_str().expect("it is so")),
        ];
        let server = Server::start_in(folder, engine.setup(&env)).await;
        let secret = json!({ "name": "keys/upstream", "value": upstream.key });
        let made = server.client.post_json("/api/v1/secrets", &secret).await;
        assert_eq!(made.status, 201, "{}", made.text());
        let house = Self { server, upstream };
        for (kind, base) in [("openai", "/v1"), ("anthropic", ""), ("google", "")] {
            house
                .provide(kind, kind, &format!("{}{base}", house.upstream.url))
                .await;
        }
        house
    }

    async fn provide(&self, name: &str, kind: &str, url: &str) {
        let provider = json!({ "kind": kind, "url": url, "secrets": ["keys/upstream"] });
        let put = put(&self.server.client, &format!("providers/{name}"), &provider).await;
        assert_eq!(put.0, 200, "{}", put.1);
    }

    async fn budget(&self, name: &str, budget: Value) {
        let put = put(&self.server.client, &format!("budgets/{name}"), &budget).await;
        assert_eq!(put.0, 200, "{}", put.1);
    }

    async fn standing(&self, name: &str) -> Value {
        let all = self
            .server
            .client
            .get("/api/v1/models/budgets")
            .await
            .json();
        let items = all["items"].as_array().cloned().expect("it is so");
        items
            .into_iter()
            .find(|it| it["name"] == name)
            .expect("it is so")
    }

    pub(crate) async fn usage(&self) -> Value {
        self.server.client.get("/api/v1/models/usage").await.json()
    }

    /// Runs the script of an SDK as an agent would: it knows nothing but Skep.
    async fn run(&self, language: &str, file: &str) {
        let told = self.told((language, file), &[]).await;
        assert!(
            told["checked"].as_array().expect("it is so").len() > 10,
            "{told}"
        );
    }

    /// What such a script prints.
    pub(crate) async fn told(&self, (language, file): (&str, &str), args: &[&str]) -> Value {
        let (url, key) = (&self.server.client.url, &self.server.client.key);
        let mut command = sdk(language, file);
        command
            .args(args)
            .env("OPENAI_BASE_URL", format!("{url}/llm/openai/v1"))
            .env("OPENAI_API_KEY", key)
            .env("ANTHROPIC_BASE_URL", format!("{url}/llm/anthropic"))
            .env("ANTHROPIC_API_KEY", key)
            .env("GOOGLE_GEMINI_BASE_URL", format!("{url}/llm/google"))
            .env("GEMINI_API_KEY", key);
        let output = command.output().await.expect("it is so");
        let error = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{error}");
        serde_json::from_slice(&output.stdout).expect("it is so")
    }
}

pub(crate) async fn put(client: &Client, what: &str, body: &Value) -> (u16, String) {
    let path = format!("/api/v1/models/{what}");
    let mut request = client.request(Method::PUT, &path, body.to_string());
    let json = "application/json".parse().expect("it is so");
    request.headers_mut().insert("content-type", json);
    let answer = client.send(request).await.expect("it is so");
    (answer.status, answer.text())
}

pub(crate) fn chat(model: &str, stream: bool) -> Value {
    json!({ "model": model, "stream": stream, "max_tokens": 100, "messages": [{ "role": "user", "content": "hello" }] })
}

pub(crate) const CHAT: &str = "/llm/openai/v1/chat/completions";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_sdks_for_python_work_as_with_their_provider() {
    let house = House::start().await;
    for file in ["openai_sdk.py", "anthropic_sdk.py", "google_sdk.py"] {
        house.run("python", file).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_sdks_for_node_work_as_with_their_provider() {
    let house = House::start().await;
    for file in ["openai.mjs", "anthropic.mjs", "google.mjs"] {
        house.run("node", file).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_request_leaves_as_it_was_but_for_who_asks() {
    let house = House::start().await;
    let model = "gpt-4o-mini+as=untouched";
    let odd = format!(
        r#"{{ "messages":[ {{"role":"user","content":"h\u00e9"}}],"model" : "{model}","x_new":{{"b":1,"a":2}} }}"#
    );
    let said = house.server.client.post(CHAT, odd.clone()).await;
    assert_eq!(said.status, 200, "{}", said.text());
    let seen = house.upstream.seen(model).await;
    assert_eq!(seen[0]["raw"], odd);
    let headers = seen[0]["headers"].to_string();
    assert!(headers.contains(&house.upstream.key), "{headers}");
    for own in [&house.server.client.key[..], "skep", "traceparent"] {
        assert!(!headers.contains(own), "{own}: {headers}");
    }
    // The provider is named before the model: only that changes.
    let named = odd.replace(model, &format!("openai/{model}"));
    let said = house.server.client.post(CHAT, named).await;
    assert_eq!(said.status, 200, "{}", said.text());
    assert_eq!(house.upstream.seen(model).await[1]["raw"], odd);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_used_is_counted_and_told_to_the_log() {
    let house = House::start().await;
    let client = &house.server.client;
    for stream in [false, true] {
        let said = client.post_json(CHAT, &chat(PRICED, stream)).await;
        assert_eq!(said.status, 200, "{}", said.text());
        // Nobody who did not ask for it is told the usage of a stream.
        assert_eq!(
            said.text().contains("prompt_tokens"),
            !stream,
            "{}",
            said.text()
        );
    }
    let failed = client
        .post_json(CHAT, &chat("priced+fail=500", false))
        .await;
    assert_eq!(failed.status, 500);
    let usage = house.usage().await;
    let of = |model: &str| {
        let items = usage["items"].as_array().expect("it is so");
        items
            .iter()
            .find(|it| it["model"] == model)
            .cloned()
            .expect("it is so")
    };
    let priced = of(PRICED);
    assert_eq!(
        (&priced["requests"], &priced["input"], &priced["output"]),
        (&json!(2), &json!(20), &json!(40))
    );
    // Twice 10 at $1 and 20 at $10 a million.
    assert_eq!(priced["cost"], "0.00042");
    assert_eq!(
        (&priced["of"], &priced["provider"]),
        (&json!("key"), &json!("openai"))
    );
    assert_eq!(
        (
            &of("priced+fail=500")["failed"],
            &of("priced+fail=500")["cost"]
        ),
        (&json!(1), &json!("0.00"))
    );
    let log = client
        .get("/api/v1/audit/entries?action=model:use")
        .await
        .json();
    let entries = log["items"].as_array().expect("it is so");
    assert_eq!(entries.len(), 3, "{log}");
    let text = log.to_string();
    assert!(
        text.contains(&format!("openai/{PRICED}")) && text.contains("exc_"),
        "{text}"
    );
    // Nothing of the provider's key is anywhere but in the vault and at the provider.
    assert!(
        !text.contains(&house.upstream.key) && !house.server.log().contains(&house.upstream.key)
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_budget_is_not_overspent_by_64_at_once() {
    let house = Arc::new(House::start().await);
    // Ten of them cost this much; each sets aside five times that.
    let budget = json!({ "of": "workspace", "window": "total", "money": "0.0021" });
    house.budget("all", budget).await;
    let clients = (0..64).map(|_| {
        let house = house.clone();
        tokio::spawn(async move {
            let mut done = 0;
            for _ in 0..4 {
                let said = house.server.client.post_json(CHAT, &chat(SLOW, true)).await;
                match said.status {
                    200 => {
                        assert!(said.text().ends_with("data: [DONE]\n\n"), "{}", said.text());
                        done += 1;
                    }
                    429 => assert_eq!(said.code(), "over-budget", "{}", said.text()),
                    other => panic!("{other}: {}", said.text()),
                }
            }
            done
        })
    });
    let mut done = 0;
    for client in clients.collect::<Vec<_>>() {
        done += client.await.expect("it is so");
    }
    let standing = house.standing("all").await;
    assert_eq!(standing["reserved"], "0.00", "{standing}");
    let spent: f64 = standing["spent"]
        .as_str()
        .expect("it is so")
        .parse()
        .expect("it is so");
    assert!(done > 0 && spent <= 0.0021, "{standing}");
    let usage = house.usage().await;
    assert_eq!(usage["cost"], standing["spent"]);
    assert_eq!(usage["items"][0]["requests"], done);
    // 10 in at $1 and 20 out at $10 a million: 210 millionths each.
    assert!(
        (spent - f64::from(done) * 0.000_21).abs() < 1e-12,
        "{standing}"
    );
}

/// Another server of the same database, whose vault is opened by the same key.
async fn beside(house: &House, engine: &Engine) -> Server {
    let folder = tempfile::tempdir().expect("it is so");
    let prices_file = folder.path().join("prices.toml");
    fs::write(&prices_file, prices()).expect("it is so");
    let data = folder.path().join("data");
    fs::create_dir(&data).expect("it is so");
    fs::copy(house.server.data().join("seal.key"), data.join("seal.key")).expect("it is so");
    let setup = engine.setup(&[
        ("SKEP_OUTGOING_ALLOW", "127.0.0.0/8"),
        (
            "SKEP_MODELS_PRICES",
            prices_file.to_str().expect("it is so"),
        ),
    ]);
    let key = Some(house.server.client.key.clone());
    Server::start_in(folder, Setup { key, ..setup }).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_budget_is_not_overspent_by_two_servers_one_of_which_is_killed() {
    let engine = Engine::postgres();
    let mut house = House::start_on(&engine).await;
    let two = beside(&house, &engine).await;
    // Forty of them cost this much; each sets aside five times that.
    let budget = json!({ "of": "workspace", "window": "total", "money": "0.0084" });
    house.budget("all", budget).await;
    let clients = (0..64).map(|place| {
        let servers = [&house.server.client, &two.client];
        let client = Client::new(&servers[place % 2].url, &servers[place % 2].key);
        tokio::spawn(async move {
            let mut done = 0_u32;
            for _ in 0..100 {
                let body = chat(SLOW, true).to_string();
                // The first is killed in the middle of it.
                match client.send(client.request(Method::POST, CHAT, body)).await {
                    Ok(said) if said.status == 200 => done += 1,
                    Ok(said) if matches!(said.status, 429 | 503) => {}
                    Ok(said) => panic!("{}: {}", said.status, said.text()),
                    Err(_) => break,
                }
            }
            done
        })
    });
    let clients: Vec<_> = clients.collect();
    eventually("answers by both", async || {
        let counts = house.upstream.counts().await;
        (counts.requests > 12).then_some(())
    })
    .await;
    house.server.kill();
    let mut done = 0;
    for client in clients {
        done += client.await.expect("it is so");
    }
    // What the first had open is settled when it is back.
    house.server.restart_as_it_was().await;
    let standing = house.standing("all").await;
    let spent = |of: &Value| -> f64 { of.as_str().expect("it is so").parse().expect("it is so") };
    assert!(
        done > 0 && spent(&standing["spent"]) <= 0.0084,
        "{standing}"
    );
    let usage = house.usage().await;
    assert_eq!(usage["cost"], standing["spent"]);
    // What is left can be had, whoever is asked.
    let mut more = 0;
    loop {
        let server = if more % 2 == 0 { &two } else { &house.server };
        let said = server.client.post_json(CHAT, &chat(PRICED, false)).await;
        if said.status == 429 {
            break;
        }
        assert_eq!(said.status, 200, "{}", said.text());
        more += 1;
    }
    let standing = house.standing("all").await;
    let left = 0.0084 - spent(&standing["spent"]);
    // One of them sets aside 0.00112, and what each server is a little ahead with.
    assert!((0.0..0.004).contains(&left), "{standing}");
    assert_eq!(house.usage().await["cost"], standing["spent"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_killed_server_forgets_no_cost() {
    let mut house = House::start().await;
    let budget = json!({ "of": "model", "whose": format!("openai/{STALLED}"), "window": "day", "money": "1" });
    house.budget("stalled", budget).await;
    let said = house
        .server
        .client
        .post_json(CHAT, &chat(PRICED, true))
        .await;
    assert_eq!(said.status, 200, "{}", said.text());
    let mut open = Vec::new();
    for _ in 0..3 {
        let body = chat(STALLED, true).to_string();
        let request = house.server.client.request(Method::POST, CHAT, body);
        open.push(house.server.client.open(request).await.expect("it is so"));
    }
    let reserved = house.standing("stalled").await["reserved"].clone();
    house.server.kill();
    house.server.restart_as_it_was().await;
    let usage = house.usage().await;
    let items = usage["items"].as_array().expect("it is so");
    let of = |model: &str| {
        items
            .iter()
            .find(|it| it["model"] == model)
            .cloned()
            .expect("it is so")
    };
    assert_eq!(of(PRICED)["cost"], "0.00021", "{usage}");
    // What nobody knows the end of costs what was set aside for it.
    assert_eq!(
        (&of(STALLED)["requests"], &of(STALLED)["cost"]),
        (&json!(3), &reserved),
        "{usage}"
    );
    let standing = house.standing("stalled").await;
    assert_eq!(
        (&standing["spent"], &standing["reserved"]),
        (&reserved, &json!("0.00"))
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_that_leaves_pays_for_what_was_written() {
    let house = House::start().await;
    let body = chat("priced+prompt=10+tokens=1000+pace=20", true).to_string();
    let client = &house.server.client;
    let mut answer = client
        .open(client.request(Method::POST, CHAT, body))
        .await
        .expect("it is so");
    let mut words = 0;
    while words < 3 {
        let frame = answer
            .frame()
            .await
            .expect("it is so")
            .expect("it is so")
            .into_data()
            .expect("it is so");
        words += String::from_utf8_lossy(&frame).matches("hello").count();
    }
    drop(answer);
    let used = eventually("the exchange to be settled", async || {
        let usage = house.usage().await;
        let one = usage["items"][0].clone();
        (one["requests"] == 1).then_some(one)
    })
    .await;
    let output = used["output"].as_u64().expect("it is so");
    assert!(output > 0 && output < 500, "{used}");
    eventually("the provider to be left", async || {
        (house.upstream.counts().await.open == 0).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_stays_set_aside_for_who_left_before_the_answer() {
    let house = House::start().await;
    let budget = json!({ "of": "workspace", "window": "total", "tokens": 100_000 });
    house.budget("all", budget).await;
    let client = house.server.client.clone();
    let waiting = tokio::spawn(async move {
        client
            .post_json(CHAT, &chat("priced+delay=60000", true))
            .await;
    });
    eventually("the request to be at the provider", async || {
        (house.standing("all").await["reserved"] != "0").then_some(())
    })
    .await;
    waiting.abort();
    let standing = eventually("what was set aside to be free", async || {
        let standing = house.standing("all").await;
        (standing["reserved"] == "0").then_some(standing)
    })
    .await;
    let spent: u64 = standing["spent"]
        .as_str()
        .expect("it is so")
        .parse()
        .expect("it is so");
    assert!(spent < 50, "{standing}");
    assert_eq!(house.usage().await["items"][0]["failed"], 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_agent_asks_with_its_own_token_as_long_as_it_lives() {
    let house = House::start().await;
    let server = &house.server;
    let spec = json!({ "name": "a", "command": [agent_binary()], "stop_grace": "1s" });
    server.deploy_spec(spec).await;
    let token = eventually("the agent's token", async || {
        let text = server.client.get("/agents/a/env").await;
        let env = text.json();
        assert!(!env.to_string().contains(&house.upstream.key));
        assert_eq!(
            env["OPENAI_BASE_URL"],
            format!("{}/llm/openai/v1", server.client.url)
        );
        assert_eq!(
            env["ANTHROPIC_BASE_URL"],
            format!("{}/llm/anthropic", server.client.url)
        );
        assert_eq!(env["GEMINI_API_KEY"], env["OPENAI_API_KEY"]);
        env["OPENAI_API_KEY"].as_str().map(str::to_owned)
    })
    .await;
    let agent = Client::new(&server.client.url, &token);
    let said = agent.post_json(CHAT, &chat(PRICED, false)).await;
    assert_eq!(said.status, 200, "{}", said.text());
    let of = house.usage().await["items"][0].clone();
    assert_eq!((&of["of"], &of["whose"]), (&json!("agent"), &json!("a")));
    // A policy about the model decides, and the SDK is told in its own words.
    let forbids = "forbid (principal, action == Skep::Action::\"model:use\", resource) \
        when { resource.provider == \"openai\" && resource.name like \"priced*\" };";
    set(server, forbids).await;
    let refused = agent.post_json(CHAT, &chat(PRICED, false)).await;
    assert_eq!(refused.status, 403, "{}", refused.text());
    assert_eq!(refused.json()["error"]["type"], "permission_error");
    let other = agent.post_json(CHAT, &chat("gpt-4o-mini", false)).await;
    assert_eq!(other.status, 200, "{}", other.text());
    // It administers nothing, and after its end it is nobody.
    let all = agent.get("/api/v1/models/providers").await;
    assert_eq!(all.status, 403, "{}", all.text());
    let stopped = server.client.post("/api/v1/agents/a/stop", "").await;
    assert!(stopped.status < 300, "{}", stopped.text());
    eventually("the token to be of nobody", async || {
        (agent
            .post_json(CHAT, &chat("gpt-4o-mini", false))
            .await
            .status
            == 401)
            .then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_cannot_be_asked_says_why_before_anything_leaves() {
    let house = House::start().await;
    let client = &house.server.client;
    let before = house.upstream.counts().await.requests;
    let budget = json!({ "of": "workspace", "window": "day", "money": "1" });
    house.budget("all", budget).await;
    let name = "models-that-nobody-has";
    for (path, body, status, code) in [
        (CHAT, json!({ "messages": [] }), 400, "bad-request"),
        (CHAT, json!([]), 400, "bad-request"),
        ("/llm/openai/v1/files", json!({}), 404, "not-found"),
        // A budget counts money, and nobody knows what this costs.
        (CHAT, chat("unpriced", false), 400, "bad-request"),
        (
            "/llm/anthropic/v1/messages",
            json!({ "model": "x".repeat(400), "max_tokens": 1, "messages": [] }),
            400,
            "bad-request",
        ),
    ] {
        let said = client.post_json(path, &body).await;
        assert_eq!(
            (said.status, said.code()),
            (status, code.to_owned()),
            "{}",
            said.text()
        );
        assert!(
            said.json()["error"]["message"].is_string(),
            "{}",
            said.text()
        );
    }
    let removed = client.request(Method::DELETE, "/api/v1/models/providers/google", "");
    assert_eq!(client.send(removed).await.expect("it is so").status, 204);
    let path = format!("/llm/google/v1beta/models/{name}:generateContent");
    let said = client.post_json(&path, &json!({ "contents": [] })).await;
    assert_eq!(
        (said.status, said.code()),
        (404, "model-not-found".to_owned())
    );
    let nobody = Client::new(&client.url, "skep_nobody");
    let said = nobody
        .post_json("/llm/anthropic/v1/messages", &json!({}))
        .await;
    assert_eq!(said.status, 401);
    assert_eq!(said.json()["error"]["type"], "authentication_error");
    // The key of a provider that is not to be had.
    let gone = client.request(Method::DELETE, "/api/v1/secrets/keys%2Fupstream", "");
    assert!(client.send(gone).await.expect("it is so").status < 300);
    let said = client.post_json(CHAT, &chat(PRICED, false)).await;
    assert_eq!(
        (said.status, said.code()),
        (503, "provider-key".to_owned()),
        "{}",
        said.text()
    );
    let counted = house.upstream.counts().await.requests - before;
    assert_eq!(counted, 0, "something left");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_next_provider_is_asked_when_one_cannot() {
    let house = House::start().await;
    let client = &house.server.client;
    let gone = client.request(Method::DELETE, "/api/v1/models/providers/openai", "");
    assert_eq!(client.send(gone).await.expect("it is so").status, 204);
    // Nobody listens there.
    house
        .provide("a-dead-one", "openai", "http://127.0.0.1:1/v1")
        .await;
    let said = client.post_json(CHAT, &chat(PRICED, false)).await;
    assert_eq!(
        (said.status, said.code()),
        (502, "provider-unreachable".to_owned())
    );
    house
        .provide(
            "b-living-one",
            "openai",
            &format!("{}/v1", house.upstream.url),
        )
        .await;
    let said = client.post_json(CHAT, &chat(PRICED, false)).await;
    assert_eq!(said.status, 200, "{}", said.text());
    let usage = house.usage().await;
    let of = |name: &str| {
        let items = usage["items"].as_array().expect("it is so");
        items
            .iter()
            .find(|it| it["provider"] == name)
            .cloned()
            .expect("it is so")
    };
    assert_eq!(
        (&of("a-dead-one")["failed"], &of("a-dead-one")["cost"]),
        (&json!(2), &json!("0.00"))
    );
    assert_eq!(of("b-living-one")["cost"], "0.00021");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn only_addresses_that_may_be_reached_are() {
    let server = Server::start().await;
    let secret = json!({ "name": "key", "value": "canary" });
    assert_eq!(
        server
            .client
            .post_json("/api/v1/secrets", &secret)
            .await
            .status,
        201
    );
    for url in [
        "http://127.0.0.1:9/v1",
        "http://169.254.169.254/v1",
        "http://localhost:9/v1",
    ] {
        let provider = json!({ "kind": "openai", "url": url, "secrets": ["key"] });
        assert_eq!(
            put(&server.client, "providers/inside", &provider).await.0,
            200
        );
        let said = server.client.post_json(CHAT, &chat(PRICED, false)).await;
        assert_eq!(
            (said.status, said.code()),
            (502, "provider-unreachable".to_owned())
        );
        assert!(!said.text().contains("127.0.0.1"), "{}", said.text());
        assert!(server.log().contains("outgoing.allow"), "{}", server.log());
        assert!(!said.text().contains("canary"));
    }
    let nobody = json!({ "kind": "openai", "secrets": ["none"] });
    let (status, text) = put(&server.client, "providers/x", &nobody).await;
    assert!(status == 400 && text.contains("`none`"), "{status} {text}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_of_one_dialect_asks_a_model_of_another() {
    const MESSAGES: &str = "/llm/anthropic/v1/messages";
    const OPTIONS: &str = "+say=Bonjour%20Ada+prompt=10+tokens=20";
    let house = House::start().await;
    let client = &house.server.client;
    let claude = format!("anthropic/claude-sonnet-4-5{OPTIONS}");
    let gemini = format!("google/gemini-2.5-pro{OPTIONS}");
    for model in [&claude, &gemini] {
        let said = client.post_json(CHAT, &chat(model, false)).await;
        assert_eq!(said.status, 200, "{}", said.text());
        let answer = said.json();
        let text = answer["choices"][0]["message"]["content"]
            .as_str()
            .expect("it is so");
        assert!(text.contains("Bonjour"), "{answer}");
        assert_eq!(answer["usage"]["completion_tokens"], 20, "{answer}");
        let streamed = client.post_json(CHAT, &chat(model, true)).await;
        assert_eq!(streamed.status, 200, "{}", streamed.text());
        assert_eq!(streamed.header("content-type"), "text/event-stream");
        let text = streamed.text();
        assert!(
            text.contains("Bonjour") && text.ends_with("data: [DONE]\n\n"),
            "{text}"
        );
        assert!(
            text.contains("chat.completion.chunk") && !text.contains("message_stop"),
            "{text}"
        );
    }
    let asked = |stream: bool| {
        let model = format!("openai/gpt-4o-mini{OPTIONS}");
        let messages = json!([{ "role": "user", "content": "hello" }]);
        json!({ "model": model, "max_tokens": 100, "stream": stream, "messages": messages })
    };
    let said = client.post_json(MESSAGES, &asked(false)).await;
    assert_eq!(said.status, 200, "{}", said.text());
    assert_eq!(said.json()["type"], "message");
    assert_eq!(said.json()["usage"]["output_tokens"], 20);
    let streamed = client.post_json(MESSAGES, &asked(true)).await.text();
    assert!(
        streamed.contains("event: message_stop") && streamed.contains("Bonjour"),
        "{streamed}"
    );
    // All of it was counted, by what the providers said.
    let usage = house.usage().await;
    let items = usage["items"].as_array().expect("it is so");
    assert_eq!(items.len(), 3, "{usage}");
    for item in items {
        assert_eq!(
            (&item["requests"], &item["input"], &item["output"]),
            (&json!(2), &json!(20), &json!(40)),
            "{item}"
        );
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_another_dialect_cannot_say_is_refused() {
    let house = House::start().await;
    let client = &house.server.client;
    // What cannot be said there is not dropped.
    let mut odd = chat("anthropic/claude-sonnet-4-5", false);
    odd["logit_bias"] = json!({ "50256": -100 });
    let refused = client.post_json(CHAT, &odd).await;
    assert_eq!(refused.status, 400, "{}", refused.text());
    assert!(refused.text().contains("logit_bias"), "{}", refused.text());
    // An error is one of the client's dialect.
    let failed = client
        .post_json(
            CHAT,
            &chat("anthropic/claude-sonnet-4-5+fail=429+after=3", false),
        )
        .await;
    assert_eq!((failed.status, failed.header("retry-after")), (429, "3"));
    assert!(
        failed.json()["error"]["message"].is_string(),
        "{}",
        failed.text()
    );
    assert_eq!(
        house.usage().await["items"]
            .as_array()
            .expect("it is so")
            .iter()
            .filter(|it| it["failed"] == 1)
            .count(),
        2
    );
}
