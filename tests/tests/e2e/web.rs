//! The way out to the web: what rules and policies let out and what they do not, secrets that are put in and taken out
//! again, and clients as agents have them. What an agent can find of a secret: `web_box.rs`.

use std::fs;
use std::path::Path;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::Method;
use serde_json::{Value, json};
use skep_tests::{Ca, Host, Said, Server, Setup, Wire, agent_binary, eventually, packages};

use crate::cli::skep;
use crate::policy::set;

/// The secret that is put in.
pub(crate) const KEY: &str = "sk-MARKED-7f31/a+b-0123456789";

/// A server, and two hosts over TLS that it believes.
pub(crate) struct House {
    pub(crate) server: Server,
    pub(crate) host: Host,
    pub(crate) other: Host,
    pub(crate) ca: Ca,
}

pub(crate) async fn put(server: &Server, name: &str, rule: &Value) -> (u16, String) {
    let path = format!("/api/v1/web/rules/{name}");
    let mut request = server.client.request(Method::PUT, &path, rule.to_string());
    let json = "application/json".parse().expect("it is so");
    request.headers_mut().insert("content-type", json);
    let answer = server.client.send(request).await.expect("it is so");
    (answer.status, answer.text())
}

/// A secret in the header that most have it in.
pub(crate) fn bearer() -> Value {
    json!({ "secret": "keys/web", "header": "Authorization" })
}

impl House {
    pub(crate) async fn start() -> Self {
        Self::start_with(&[]).await
    }

    pub(crate) async fn start_with(more: &[(&str, &str)]) -> Self {
        let ca = Ca::make();
        let other = Host::start("127.0.0.3", Some(&ca), "").await;
        let host = Host::start("127.0.0.2", Some(&ca), &format!("{}/echo", other.url)).await;
        let file = ca.file().display().to_string();
        let env = [
            ("SKEP_OUTGOING_ALLOW", "127.0.0.0/8"),
            ("SKEP_WEB_CA", &file),
        ];
        let setup = Setup {
            env: env
                .iter()
                .chain(more)
                .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
                .collect(),
            ..Setup::default()
        };
        let server = Server::start_with(setup).await;
        let secret = json!({ "name": "keys/web", "value": format!("{KEY}\n") });
        let made = server.client.post_json("/api/v1/secrets", &secret).await;
        assert_eq!(made.status, 201, "{}", made.text());
        Self {
            server,
            host,
            other,
            ca,
        }
    }

    pub(crate) async fn allow(&self, name: &str, rule: Value) {
        let (status, text) = put(&self.server, name, &rule).await;
        assert_eq!(status, 200, "{text}");
    }

    /// An agent that may read what the clients of these tests are made of.
    pub(crate) async fn agent(&self, env: Value) {
        let volumes = json!([{ "source": packages("web"), "read_only": true }]);
        let spec = json!({
            "name": "a", "command": [agent_binary()], "env": env, "volumes": volumes, "stop_grace": "1s",
        });
        self.server.deploy_spec(spec).await;
    }

    /// What a command in the agent's box says.
    pub(crate) fn run(&self, words: &[&str]) -> (Option<i32>, String, String) {
        let said = skep(&self.server, &[&["exec", "a", "--"], words].concat());
        (said.code, said.out, said.err)
    }

    pub(crate) fn curl(&self, words: &[&str]) -> (Option<i32>, String, String) {
        self.run(&[&["curl", "-sS", "--max-time", "30"], words].concat())
    }

    /// What clients of Python are told, by name.
    fn python(&self, url: &str) -> Vec<Value> {
        let python = packages("web/python").join(".venv/bin/python");
        let script = fs::read_to_string(script("python/clients.py")).expect("a script");
        let (code, out, error) =
            self.run(&[python.to_str().expect("it is so"), "-c", &script, url]);
        assert_eq!(code, Some(0), "{error}");
        out.lines()
            .map(|line| serde_json::from_str(line).expect("JSON"))
            .collect()
    }

    /// A variable of the agent.
    pub(crate) fn variable(&self, name: &str) -> String {
        self.run(&["sh", "-c", &format!("printf %s \"${name}\"")]).1
    }

    pub(crate) async fn wire(&self) -> Wire {
        Wire::open(&self.server).await
    }

    /// Says something to the proxy, as who has this key.
    pub(crate) async fn asked(&self, target: &str, key: &str, fields: &str) -> Said {
        let mut wire = self.wire().await;
        let shown = STANDARD.encode(format!("any:{key}"));
        let method = if target.contains("://") {
            "GET"
        } else {
            "CONNECT"
        };
        let text = format!(
            "{method} {target} HTTP/1.1\r\nhost: x\r\nproxy-authorization: Basic {shown}\r\n{fields}\r\n"
        );
        wire.say(text.as_bytes()).await;
        wire.answer().await.expect("an answer")
    }
}

fn script(name: &str) -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("sdks/web")
        .join(name)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn clients_of_an_agent_reach_a_host_and_never_see_its_key() {
    let house = House::start().await;
    house
        .allow(
            "api",
            json!({ "host": house.host.name, "credential": bearer() }),
        )
        .await;
    house
        .agent(json!({ "API_KEY": "${secret:keys/web}" }))
        .await;
    let placeholder = house.variable("API_KEY");
    assert!(placeholder.starts_with("lse_"), "{placeholder}");
    let url = format!("{}/echo?a=1", house.host.url);
    for told in house.python(&url) {
        let (client, text) = (&told["client"], told["text"].as_str().expect("it is so"));
        assert_eq!(told["status"], 200, "{told}");
        assert!(
            text.contains("Bearer ****") && !text.contains(KEY),
            "{client}: {text}"
        );
        let heard = house.host.last();
        assert_eq!(
            heard["headers"]["authorization"],
            format!("Bearer {KEY}"),
            "{client}"
        );
        assert_eq!(heard["target"], "/echo?a=1", "{client}");
    }
    let node = fs::read_to_string(script("node/fetch.mjs")).expect("a script");
    let packages = packages("web/node");
    let line = format!(
        "cd {} && exec node --input-type=module -e \"$1\" \"$2\" \"$API_KEY\"",
        packages.display()
    );
    let (code, out, error) = house.run(&["sh", "-c", &line, "sh", &node, &url]);
    assert_eq!(code, Some(0), "{error}");
    assert!(
        out.starts_with("200 ") && out.contains("Bearer ****") && !out.contains(KEY),
        "{out}"
    );
    let (code, out, error) = house.curl(&["-H", "Authorization: Bearer none", "-d", "x=1", &url]);
    assert_eq!(code, Some(0), "{error}");
    assert!(out.contains("Bearer ****") && !out.contains(KEY), "{out}");
    let heard = house.host.last();
    assert_eq!(heard["headers"]["authorization"], format!("Bearer {KEY}"));
    assert_eq!(
        (&heard["method"], &heard["body"]),
        (&json!("POST"), &json!("x=1"))
    );
    assert_told(&house).await;
}

/// Five requests have left what there is to be known of them, and no more.
async fn assert_told(house: &House) {
    let seen = house.host.heard();
    assert_eq!(seen.len(), 5);
    for heard in &seen {
        let names = heard["headers"].as_object().expect("it is so");
        assert!(!names.contains_key("proxy-authorization"), "{heard}");
        assert!(!heard.to_string().contains("skep"), "{heard}");
    }
    // Each is in the log, by its rule, without the key.
    let log = eventually("five exchanges in the log", async || {
        let log = house
            .server
            .client
            .get("/api/v1/audit/entries?action=web:request")
            .await
            .json();
        let items = log["items"].as_array().cloned().expect("it is so");
        (items.len() == 5).then_some(items)
    })
    .await;
    for entry in log.iter().map(|it| &it["entry"]) {
        assert_eq!(
            entry["resource"],
            json!({ "kind": "Host", "id": house.host.name }),
            "{entry}"
        );
        assert_eq!(
            entry["principal"],
            json!({ "kind": "Agent", "id": "a" }),
            "{entry}"
        );
        let text = entry.to_string();
        assert!(
            text.contains("by rule api") && text.contains("exc_") && !text.contains(KEY),
            "{text}"
        );
    }
    assert!(!house.server.log().contains(KEY));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_no_rule_lets_out_is_refused_and_told() {
    let house = House::start().await;
    let rule = json!({ "host": house.host.name, "methods": ["GET"], "paths": ["/v1/**"] });
    house.allow("items", rule).await;
    house.agent(json!({})).await;
    let host = &house.host.url;
    let (code, out, _) = house.curl(&[&format!("{host}/v1/items")]);
    assert!(code == Some(0) && out.contains("/v1/items"), "{out}");
    for words in [
        vec!["-X", "DELETE", "/v1/items"],
        vec!["/v2"],
        vec!["--path-as-is", "/v1/../v2"],
        vec!["--path-as-is", "/v1/%2e%2e/v2"],
    ] {
        let url = format!("{host}{}", words.last().expect("it is so"));
        let mut all = words[..words.len() - 1].to_vec();
        all.push(&url);
        let (code, out, error) = house.curl(&all);
        assert_eq!(code, Some(0), "{words:?} {error}");
        let told: Value = serde_json::from_str(&out).expect("a problem");
        match words[0] {
            "--path-as-is" => assert_eq!(told["code"], "bad-request", "{told}"),
            _ => {
                assert_eq!(told["code"], "web-denied", "{told}");
                let detail = told["detail"].as_str().expect("it is so");
                assert!(
                    detail.contains("(items)") && detail.contains(&house.host.name),
                    "{detail}"
                );
                let hint = told["hint"].as_str().expect("it is so");
                assert!(hint.contains("skep web allow"), "{hint}");
            }
        }
    }
    assert_eq!(house.host.heard().len(), 1);
    // A host that nobody named: said in the only line that clients show of an answer to CONNECT.
    let (code, _, error) = house.curl(&["-v", &house.other.url]);
    assert!(
        code != Some(0)
            && error.contains(&format!("no rule lets anybody ask {}", house.other.name)),
        "{error}"
    );
    let said = house
        .asked(&house.other.name, &house.server.client.key, "")
        .await;
    assert_eq!(
        (said.status, said.header("connection")),
        (403, "close"),
        "{said:?}"
    );
    assert!(
        said.body.contains("web-denied") && said.body.contains("skep web allow"),
        "{said:?}"
    );
    // In the open it is another rule.
    let said = house
        .asked(
            &format!("http://{}/v1/x", house.host.name),
            &house.server.client.key,
            "",
        )
        .await;
    assert!(
        said.status == 403 && said.body.contains("over http"),
        "{said:?}"
    );
    let denied = crate::audit::whole(&house.server).into_iter().any(|it| {
        it["action"] == "web:request"
            && it["decision"] == "deny"
            && it["resource"]["id"] == house.other.name
    });
    assert!(denied && house.other.heard().is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_budget_counts_requests_and_refuses_the_next() {
    let house = House::start().await;
    let rule = json!({ "host": house.host.name, "credential": bearer() });
    house.allow("api", rule).await;
    house.agent(json!({})).await;
    for words in [
        vec!["api", "--rule", "api", "--requests", "2", "--per", "month"],
        vec![
            "other",
            "--rule",
            "other",
            "--requests",
            "1",
            "--per",
            "month",
        ],
        vec!["all", "--agent", "a", "--requests", "9", "--per", "total"],
        // What counts tokens of models has nothing to do with it.
        vec!["tokens", "--tokens", "1", "--per", "total"],
    ] {
        let put = skep(&house.server, &[&["models", "budget"], &words[..]].concat());
        assert_eq!(put.code, Some(0), "{words:?} {}", put.err);
    }
    let odd = ["models", "budget", "odd", "--rule", "api", "--tokens", "1"];
    let odd = skep(&house.server, &[&odd[..], &["--per", "day"]].concat());
    assert!(
        odd.code != Some(0) && odd.err.contains("of models"),
        "{}",
        odd.err
    );
    let url = format!("{}/v1/items", house.host.url);
    for _ in 0..2 {
        let (code, out, error) = house.curl(&[&url]);
        assert!(
            code == Some(0) && out.contains("/v1/items"),
            "{out} {error}"
        );
    }
    let (_, out, _) = house.curl(&["-i", &url]);
    assert!(out.contains("429 ") && out.contains("over-budget"), "{out}");
    assert!(out.contains("`api`"), "it is named: {out}");
    assert_eq!(house.host.heard().len(), 2, "it did not leave");
    let stands = skep(&house.server, &["models", "budgets"]);
    let line = |name: &str| {
        let found = stands.out.lines().find(|it| it.starts_with(name));
        found.unwrap_or_default().to_owned()
    };
    assert!(line("api ").contains("2 requests"), "{}", stands.out);
    assert!(line("all ").contains("agent a"), "{}", stands.out);
    let told = eventually("an event", async || {
        let path = "/api/v1/events?type=budget.exceeded";
        let all = house.server.client.get(path).await.json();
        all["items"].as_array().cloned().filter(|it| !it.is_empty())
    });
    assert_eq!(told.await.len(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn policies_decide_about_each_request() {
    let house = House::start().await;
    house
        .allow("api", json!({ "host": house.host.name, "open": true }))
        .await;
    house
        .allow("blind", json!({ "host": house.other.name }))
        .await;
    house.agent(json!({})).await;
    let text = format!(
        "@id(\"no-admin\") forbid (principal is Skep::Agent, action == Skep::Action::\"web:request\", resource) \
         when {{ context has path && context.path like \"/admin*\" }};\n\
         @id(\"not-there\") forbid (principal == Skep::Agent::\"a\", action == Skep::Action::\"web:request\", \
         resource == Skep::Host::\"{}\") when {{ context has rule && context.rule == \"blind\" && context has method && context.method == \"CONNECT\" }};",
        house.other.name
    );
    set(&house.server, &text).await;
    let (code, out, _) = house.curl(&[&format!("{}/users", house.host.url)]);
    assert!(code == Some(0) && out.contains("/users"), "{out}");
    let (_, out, _) = house.curl(&[&format!("{}/admin/x", house.host.url)]);
    assert!(
        out.contains("forbidden") && out.contains("web:request"),
        "{out}"
    );
    let (code, _, error) = house.curl(&[&house.other.url]);
    assert!(code != Some(0) && error.contains("403"), "{error}");
    assert_eq!(
        (house.host.heard().len(), house.other.heard().len()),
        (1, 0)
    );
    let check = |url: String| {
        let server = &house.server;
        async move {
            let path = format!("/api/v1/web/check?agent=a&url={url}");
            server.client.get(&path).await.json()
        }
    };
    let good = check(format!("{}/users", house.host.url)).await;
    assert_eq!(
        (&good["allowed"], &good["rule"], &good["opened"]),
        (&json!(true), &json!("api"), &json!(true)),
        "{good}"
    );
    let bad = check(format!("{}/admin", house.host.url)).await;
    assert_eq!(
        (&bad["allowed"], &bad["rule"]),
        (&json!(false), &json!("api")),
        "{bad}"
    );
    assert_eq!(
        check(format!("{}/x", house.other.url)).await["allowed"],
        false
    );
    assert_eq!(
        check("https://nobody.example/".to_owned()).await["allowed"],
        false
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn addresses_inside_are_not_asked() {
    let house = House::start().await;
    house.allow("inside", json!({ "host": "10.1.2.3" })).await;
    house
        .allow("metadata", json!({ "host": "http://169.254.169.254" }))
        .await;
    house
        .allow(
            "opened",
            json!({ "host": "https://[fd00::1]:8443", "open": true }),
        )
        .await;
    let key = &house.server.client.key;
    for target in ["10.1.2.3:443", "http://169.254.169.254/latest/meta-data"] {
        let said = house.asked(target, key, "").await;
        assert_eq!(said.status, 502, "{said:?}");
        assert!(
            said.body.contains("outgoing.allow") && said.body.contains("web-unreachable"),
            "{said:?}"
        );
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_placeholder_becomes_the_value_wherever_it_stands() {
    let house = House::start().await;
    let credential = json!({ "secret": "keys/web", "placeholder": "MY-OWN-PLACEHOLDER" });
    house
        .allow(
            "api",
            json!({ "host": house.host.name, "credential": credential }),
        )
        .await;
    house
        .agent(json!({ "API_KEY": "${secret:keys/web}" }))
        .await;
    let lent = house.variable("API_KEY");
    let percent = "sk-MARKED-7f31%2Fa%2Bb-0123456789";
    let url = |rest: &str| format!("{}{rest}", house.host.url);
    let basic = |password: &str| format!("Basic {}", STANDARD.encode(format!("me:{password}")));
    for placeholder in [lent.as_str(), "MY-OWN-PLACEHOLDER"] {
        let asked = url(&format!("/bot{placeholder}/send?key={placeholder}"));
        let (code, out, error) = house.curl(&["-H", &format!("X-Key: {placeholder}"), &asked]);
        assert_eq!(code, Some(0), "{error}");
        let heard = house.host.last();
        assert_eq!(heard["target"], format!("/bot{percent}/send?key={percent}"));
        assert_eq!(heard["headers"]["x-key"], KEY);
        assert!(!out.contains(KEY) && !out.contains(percent), "{out}");
        let (_, out, _) = house.curl(&["-u", &format!("me:{placeholder}"), &url("/basic")]);
        assert_eq!(house.host.last()["headers"]["authorization"], basic(KEY));
        assert!(!out.contains(&STANDARD.encode(KEY)[..20]), "{out}");
        let json = format!("{{\"key\":\"{placeholder}\"}}");
        house.curl(&[
            "-H",
            "Content-Type: application/json",
            "-d",
            &json,
            &url("/json"),
        ]);
        assert_eq!(house.host.last()["body"], format!("{{\"key\":\"{KEY}\"}}"));
        house.curl(&["-d", &format!("a=1&key={placeholder}"), &url("/form")]);
        assert_eq!(house.host.last()["body"], format!("a=1&key={percent}"));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_an_agent_was_lent_is_for_nobody_else_and_for_no_other_secret() {
    let house = House::start().await;
    house
        .agent(json!({ "API_KEY": "${secret:keys/web}" }))
        .await;
    let lent = house.variable("API_KEY");
    let shown = format!("x-key: {lent}\r\n");
    house
        .allow(
            "open",
            json!({ "host": format!("http://{}", house.other.name) }),
        )
        .await;
    let plain = Host::start("127.0.0.4", None, "").await;
    let credential = json!({ "secret": "keys/web" });
    house
        .allow(
            "plain",
            json!({ "host": plain.url, "credential": credential }),
        )
        .await;
    let said = house
        .asked(
            &format!("{}/x", plain.url),
            &house.server.client.key,
            &shown,
        )
        .await;
    assert_eq!(said.status, 200, "{said:?}");
    assert_eq!(plain.last()["headers"]["x-key"], lent);
    let token = house.variable("SKEP_TOKEN");
    house
        .asked(&format!("{}/x", plain.url), &token, &shown)
        .await;
    assert_eq!(plain.last()["headers"]["x-key"], KEY);
    let other = json!({ "name": "keys/other", "value": "another-value" });
    house
        .server
        .client
        .post_json("/api/v1/secrets", &other)
        .await;
    house
        .allow(
            "plain",
            json!({ "host": plain.url, "credential": { "secret": "keys/other" } }),
        )
        .await;
    house
        .asked(&format!("{}/x", plain.url), &token, &shown)
        .await;
    assert_eq!(plain.last()["headers"]["x-key"], lent);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_redirect_to_another_host_takes_nothing_along() {
    let house = House::start().await;
    house
        .allow(
            "api",
            json!({ "host": house.host.name, "credential": bearer() }),
        )
        .await;
    house
        .allow("other", json!({ "host": house.other.name, "open": true }))
        .await;
    house
        .agent(json!({ "API_KEY": "${secret:keys/web}" }))
        .await;
    for told in house.python(&format!("{}/away", house.host.url)) {
        if told["client"] == "httpx" {
            assert_eq!(told["status"], 302, "{told}");
            continue;
        }
        assert_eq!(told["status"], 200, "{told}");
        let heard = house.other.last();
        assert_eq!(heard["target"], "/echo");
        assert!(!heard.to_string().contains(KEY), "{heard}");
    }
    // Nor does a client that sends it along by all means; a session that the key opened stays here as well.
    let url = format!("{}/away", house.host.url);
    let (code, out, _) = house.curl(&[
        "-i",
        "-L",
        "--location-trusted",
        "-H",
        "X-Key: MY",
        "-u",
        "me:mine",
        &url,
    ]);
    assert_eq!(code, Some(0));
    assert!(!out.contains("session=") && !out.contains(KEY), "{out}");
    let all: String = house.other.heard().iter().map(Value::to_string).collect();
    assert!(
        !all.contains(KEY) && !all.contains(&STANDARD.encode(KEY)[..20]),
        "{all}"
    );
    assert_eq!(house.other.heard().len(), 3);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn answers_are_kept_free_of_the_key_as_they_come() {
    let house = House::start().await;
    house
        .allow(
            "api",
            json!({ "host": house.host.name, "credential": bearer() }),
        )
        .await;
    house.agent(json!({})).await;
    let (_, out, _) = house.curl(&[&format!("{}/split", house.host.url)]);
    let masked = "*".repeat(KEY.len());
    assert_eq!(out.trim_end(), format!("data: {masked}\n\ndata: [DONE]"));
    let (_, out, _) = house.curl(&["--compressed", &format!("{}/packed", house.host.url)]);
    assert!(
        out.contains("web-unreachable") && out.contains("compressed"),
        "{out}"
    );
    let (_, out, _) = house.curl(&[&format!("{}/spelled", house.host.url)]);
    let inner = out.trim_end().trim_matches(['<', '>']);
    assert!(
        inner.len() > KEY.len() && inner.bytes().all(|it| it == b'*'),
        "{out}"
    );
    // What was packed was not asked for.
    assert_eq!(house.host.last()["headers"]["accept-encoding"], "identity");
    let plain = Host::start("127.0.0.4", None, "").await;
    house
        .allow(
            "plain",
            json!({ "host": plain.url, "credential": bearer() }),
        )
        .await;
    let mut wire = house.wire().await;
    let shown = STANDARD.encode(format!("any:{}", house.server.client.key));
    let text = format!(
        "GET {}/socket HTTP/1.1\r\nhost: x\r\nproxy-authorization: Basic {shown}\r\nconnection: upgrade\r\n\
         upgrade: websocket\r\nsec-websocket-extensions: permessage-deflate\r\n\r\n",
        plain.url
    );
    wire.say(text.as_bytes()).await;
    let head = wire.head().await.expect("an answer");
    assert_eq!(
        (head.status, head.header("upgrade")),
        (101, "websocket"),
        "{head:?}"
    );
    wire.say(b"hello").await;
    let rest = String::from_utf8(wire.rest().await).expect("text");
    assert_eq!(rest, format!("hello {}!", "*".repeat(KEY.len())));
    assert_eq!(
        plain.last()["headers"]["authorization"],
        format!("Bearer {KEY}")
    );
    assert!(
        plain.last()["headers"]
            .get("sec-websocket-extensions")
            .is_none()
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_host_that_keeps_the_key_says_it_to_nobody_later() {
    let house = House::start().await;
    let keyed = json!({ "host": house.host.name, "paths": ["/keyed"], "credential": bearer() });
    house.allow("keyed", keyed).await;
    let plain = json!({ "host": house.host.name, "paths": ["/before"] });
    house.allow("plain", plain).await;
    house.agent(json!({})).await;
    let (code, _, error) = house.curl(&[&format!("{}/keyed", house.host.url)]);
    assert_eq!(code, Some(0), "{error}");
    assert_eq!(
        house.host.last()["headers"]["authorization"],
        format!("Bearer {KEY}")
    );
    // This request has no key: its rule names none.
    let (code, out, error) = house.curl(&[&format!("{}/before", house.host.url)]);
    assert_eq!(code, Some(0), "{error}");
    assert!(house.host.last()["headers"].get("authorization").is_none());
    let masked = format!("Bearer {}", "*".repeat(KEY.len()));
    assert!(out.contains(&masked) && !out.contains(KEY), "{out}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn secrets_of_skeps_own_are_named_by_nobody() {
    let house = House::start().await;
    let client = &house.server.client;
    let opened = json!({ "host": house.host.name, "credential": bearer() });
    house.allow("api", opened).await;
    house.agent(json!({})).await;
    let all = client.get("/api/v1/secrets?limit=100").await.json();
    let all = all["items"].as_array().cloned().expect("a list");
    let own = all.iter().find(|it| it["name"] == "skep/web-ca");
    let id = own.expect("the workspace's CA")["id"]
        .as_str()
        .expect("an id")
        .to_owned();
    for name in ["skep/web-ca", &id] {
        let rule =
            json!({ "host": house.host.name, "credential": { "secret": name, "header": "X-Key" } });
        let (status, text) = put(&house.server, "thief", &rule).await;
        assert!((400..404).contains(&status), "{status} {text}");
        let provider = json!({ "kind": "openai", "url": house.host.url, "secrets": [name] });
        let (status, text) = crate::models::put(client, "providers/thief", &provider).await;
        assert!((400..404).contains(&status), "{status} {text}");
        let value = format!("Bearer ${{secret:{name}}}");
        let server = json!({ "url": house.host.url, "headers": { "Authorization": value } });
        let said = crate::mcp::put(client, "/api/v1/mcp/servers/thief", &server).await;
        assert!(
            (400..404).contains(&said.status),
            "{} {}",
            said.status,
            said.text()
        );
        let value = format!("${{secret:{name}}}");
        let server = json!({ "command": ["true"], "env": { "KEY": value } });
        let said = crate::mcp::put(client, "/api/v1/mcp/servers/thief", &server).await;
        assert!(
            (400..404).contains(&said.status),
            "{} {}",
            said.status,
            said.text()
        );
    }
    for path in ["web/rules", "models/providers", "mcp/servers"] {
        let text = client.get(&format!("/api/v1/{path}")).await.text();
        assert!(!text.contains("thief"), "{path}: {text}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_tunnel_that_is_not_opened_is_tls_to_its_host_and_no_more() {
    let house = House::start().await;
    house
        .allow("blind", json!({ "host": house.host.name }))
        .await;
    house.agent(json!({})).await;
    // The host's own certificate, which the company's CA signed.
    let (code, out, error) = house.curl(&["-v", &format!("{}/x", house.host.url)]);
    assert!(code == Some(0) && out.contains("/x"), "{error}");
    assert!(error.contains("issuer: CN=test CA"), "{error}");
    let said = eventually("its exchange", async || {
        let log = house
            .server
            .client
            .get("/api/v1/audit/entries?action=web:request")
            .await
            .json();
        let first = log["items"][0]["entry"].clone();
        first["change"].is_object().then_some(first)
    })
    .await;
    assert!(said.to_string().contains("CONNECT by rule blind"), "{said}");
    // Anything else is cut.
    let shown = STANDARD.encode(format!("any:{}", house.server.client.key));
    let mut wire = house.wire().await;
    let connect = format!(
        "CONNECT {} HTTP/1.1\r\nhost: x\r\nproxy-authorization: Basic {shown}\r\n\r\n",
        house.host.name
    );
    wire.say(connect.as_bytes()).await;
    assert_eq!(wire.head().await.expect("an answer").status, 200);
    wire.say(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n").await;
    assert!(wire.rest().await.is_empty());
    // So is TLS that names another host.
    let (code, _, error) = house.curl(&[
        "--connect-to",
        &format!("fronted.example:443:{}", house.host.name),
        "https://fronted.example/",
    ]);
    assert!(code != Some(0), "{error}");
    assert_eq!(house.host.heard().len(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_asks_shows_it_to_the_proxy() {
    let house = House::start().await;
    let plain = Host::start("127.0.0.4", None, "").await;
    house.allow("plain", json!({ "host": plain.url })).await;
    house
        .allow("blind", json!({ "host": house.host.name }))
        .await;
    house.agent(json!({})).await;
    let url = format!("{}/x", plain.url);
    let mut wire = house.wire().await;
    wire.say(format!("GET {url} HTTP/1.1\r\nhost: x\r\n\r\n").as_bytes())
        .await;
    let said = wire.answer().await.expect("an answer");
    assert_eq!(
        (said.status, said.header("proxy-authenticate")),
        (407, "basic realm=\"skep\""),
        "{said:?}"
    );
    assert_eq!(house.asked(&url, "skep_wrong", "").await.status, 407);
    // A key that is shown to the host is none that is shown to the proxy.
    let mut wire = house.wire().await;
    let key = &house.server.client.key;
    wire.say(
        format!("GET {url} HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {key}\r\n\r\n").as_bytes(),
    )
    .await;
    assert_eq!(wire.answer().await.expect("an answer").status, 407);
    let token = house.variable("SKEP_TOKEN");
    let said = house
        .asked(&url, &token, &format!("x-mine: {token}\r\nx-own: 1\r\n"))
        .await;
    assert_eq!(said.status, 200, "{said:?}");
    assert!(
        plain.last()["headers"].get("x-mine").is_none() && plain.last()["headers"]["x-own"] == "1"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_an_instance_had_ends_with_it() {
    let house = House::start().await;
    let plain = Host::start("127.0.0.4", None, "").await;
    house.allow("plain", json!({ "host": plain.url })).await;
    house
        .allow("blind", json!({ "host": house.host.name }))
        .await;
    house.agent(json!({})).await;
    let (url, token) = (format!("{}/x", plain.url), house.variable("SKEP_TOKEN"));
    assert_eq!(house.asked(&url, &token, "").await.status, 200);
    // A tunnel of the agent's that is open, and one that was opened.
    house
        .allow("opened", json!({ "host": house.other.name, "open": true }))
        .await;
    let shown = STANDARD.encode(format!("agent:{token}"));
    let mut tunnels = Vec::new();
    for name in [&house.host.name, &house.other.name] {
        let mut wire = house.wire().await;
        let text = format!(
            "CONNECT {name} HTTP/1.1\r\nhost: x\r\nproxy-authorization: Basic {shown}\r\n\r\n"
        );
        wire.say(text.as_bytes()).await;
        assert_eq!(wire.head().await.expect("an answer").status, 200);
        tunnels.push(wire);
    }
    let stopped = house.server.client.post("/api/v1/agents/a/stop", "").await;
    assert_eq!(stopped.status, 200, "{}", stopped.text());
    eventually("no instance", async || {
        let said = house.asked(&url, &token, "").await;
        (said.status == 407).then_some(())
    })
    .await;
    let heard = plain.heard().len();
    assert_eq!(house.asked(&house.host.name, &token, "").await.status, 407);
    assert_eq!(house.asked(&url, &token, "").await.status, 407);
    assert_eq!(plain.heard().len(), heard);
    // In the open within the tunnel it is told; nothing goes on.
    let mut opened = tunnels.pop().expect("it is so");
    opened
        .say(format!("GET /x HTTP/1.1\r\nhost: {}\r\n\r\n", house.other.name).as_bytes())
        .await;
    let said = opened.answer().await.expect("an answer");
    assert_eq!(said.status, 407, "{said:?}");
    assert!(house.other.heard().is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rules_are_checked_and_told_on_the_command_line() {
    let house = House::start().await;
    for (rule, part) in [
        (json!({ "host": "*.com" }), "host"),
        (
            json!({ "host": "a.example", "methods": ["get it"] }),
            "methods",
        ),
        (json!({ "host": "a.example", "paths": ["x"] }), "paths"),
        (
            json!({ "host": "*", "credential": bearer() }),
            "name the host",
        ),
        (
            json!({ "host": "a.example", "credential": { "secret": "none", "query": "key" } }),
            "skep secrets create",
        ),
        (
            json!({ "host": "a.example", "credential": { "secret": "keys/web", "header": "Host" } }),
            "header",
        ),
        (
            json!({ "host": "a.example", "credential": { "secret": "keys/web", "query": "k", "placeholder": "x" } }),
            "credential",
        ),
        (json!({ "host": "a.example", "unknown": 1 }), "unknown"),
    ] {
        let (status, text) = put(&house.server, "r", &rule).await;
        assert!(
            (400..500).contains(&status) && text.contains(part),
            "{rule}: {status} {text}"
        );
    }
    let server = &house.server;
    let words = [
        "web",
        "allow",
        "gh",
        "api.github.com",
        "--secret",
        "keys/web",
        "--header",
        "Authorization",
        "--path",
        "/repos/**",
    ];
    let said = skep(server, &words);
    assert_eq!(said.code, Some(0), "{}", said.err);
    let list = skep(server, &["web", "list"]);
    assert!(
        list.out.contains("api.github.com") && list.out.contains("keys/web in Authorization"),
        "{}",
        list.out
    );
    let good = skep(server, &["web", "check", "https://api.github.com/repos/x"]);
    assert_eq!(good.code, Some(0), "{} {}", good.out, good.err);
    let bad = skep(server, &["web", "check", "https://api.github.com/user"]);
    assert_eq!(bad.code, Some(5), "{} {}", bad.out, bad.err);
    assert!(bad.out.contains("(gh)"), "{}", bad.out);
    let ca = skep(server, &["web", "ca"]);
    assert!(
        ca.out.starts_with("-----BEGIN CERTIFICATE-----"),
        "{}",
        ca.out
    );
    assert_eq!(
        skep(server, &["--yes", "web", "remove", "gh"]).code,
        Some(0)
    );
    assert_ne!(
        skep(server, &["--yes", "web", "remove", "gh"]).code,
        Some(0)
    );
    assert!(house.ca.file().exists());
}
