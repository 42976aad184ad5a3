//! Policies on a real server: what is forbidden does not happen and is written down, and who may write
//! policies cannot lose that by a mistake.

use std::fs;

use http::Method;
use http::header::HeaderValue;
use serde_json::{Value, json};
use skep_tests::postgres::Postgres;
use skep_tests::{Answer, Server, eventually};
use tempfile::TempDir;

use crate::api::documented;
use crate::cli::skep;
use crate::postgres::on;
use crate::servers::beside;

/// Nothing but policies may be looked at and changed.
const CLOSED: &str = "@id(\"closed\") forbid (principal, action, resource) unless { action in \
    [Skep::Action::\"policy:read\", Skep::Action::\"policy:write\"] };";
const NO_LOGS: &str =
    "@id(\"no-logs\") forbid (principal, action == Skep::Action::\"agent:logs\", resource);";

async fn put(server: &Server, text: &str, expected: Option<u64>) -> Answer {
    let body = json!({ "text": text, "expected": expected }).to_string();
    let mut request = server.client.request(Method::PUT, "/api/v1/policy", body);
    let json = HeaderValue::from_static("application/json");
    request.headers_mut().insert("content-type", json);
    server.client.send(request).await.expect("an answer")
}

pub(crate) async fn set(server: &Server, text: &str) -> Value {
    let answer = put(server, text, None).await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    answer.json()
}

async fn logs(server: &Server) -> u16 {
    server.client.get("/api/v1/agents/a/logs").await.status
}

/// The log's refusals, newest first.
async fn denials(server: &Server) -> Vec<Value> {
    let page = server
        .client
        .get("/api/v1/audit/entries?decision=deny&limit=1000")
        .await;
    let items = page.json()["items"].as_array().cloned().unwrap_or_default();
    items
        .into_iter()
        .map(|item| item["entry"].clone())
        .collect()
}

#[tokio::test]
async fn what_is_forbidden_is_not_done_and_is_written_down() {
    let server = Server::start().await;
    server.deploy("a", json!({})).await;
    server.deploy("b", json!({})).await;
    let text = "@id(\"not-b\") forbid (principal, action in [Skep::Action::\"agent:call\", \
        Skep::Action::\"agent:stop\", Skep::Action::\"agent:deploy\"], resource == Skep::Agent::\"b\");";
    assert_eq!(set(&server, text).await["version"], 1);
    assert_eq!(server.post("a", "/x", "1").await.status, 200);
    for _ in 0..3 {
        let denied = server.post("b", "/work", "2").await;
        assert_eq!((denied.status, denied.code().as_str()), (403, "forbidden"));
        let said = denied.json();
        assert_eq!(
            said["detail"],
            "`agent:call` on Agent `b` is not allowed: not-b@1 says so"
        );
        assert!(
            said["hint"]
                .as_str()
                .is_some_and(|it| it.contains("skep policy explain agent:call"))
        );
    }
    // However its name is written.
    for path in ["/api/v1/agents/b/stop", "/api/v1/agents/%62/stop"] {
        let denied = server.client.post(path, "").await;
        assert_eq!(denied.status, 403, "{path}: {}", denied.text());
    }
    assert_eq!(server.agent("b").await["state"], "ready");
    // What only the body names is asked about too, before anything is looked at.
    let command = vec![skep_tests::agent_binary()];
    let spec = json!({ "name": "b", "command": command, "env": { "X": "1" } });
    let denied = server.client.post_json("/api/v1/agents", &spec).await;
    assert_eq!(denied.status, 403, "{}", denied.text());
    assert_eq!(server.agent("b").await["revision"], 1);
    server.deploy("c", json!({})).await;
    assert!(server.executed("b").is_empty());
    // The first of each sort is there at once, the others soon.
    let denied = denials(&server).await;
    let of = |action: &str| denied.iter().filter(|it| it["action"] == action).count();
    assert_eq!(
        (of("agent:call"), of("agent:stop"), of("agent:deploy")),
        (1, 1, 1),
        "{denied:?}"
    );
    for entry in &denied {
        assert_eq!(entry["policies"], json!(["not-b@1"]));
        assert_eq!(entry["resource"], json!({ "kind": "Agent", "id": "b" }));
        assert_eq!(entry["principal"]["kind"], "ApiKey");
        assert_eq!(entry["outcome"], "denied");
    }
    // What was allowed says by what.
    let allowed = server
        .client
        .get("/api/v1/audit/entries?action=agent:call&decision=allow")
        .await;
    let allowed = allowed.json();
    assert_eq!(
        allowed["items"][0]["entry"]["policies"],
        json!(["default.member-works", "default.owner-may-all"])
    );
}

#[tokio::test]
async fn every_route_asks() {
    let server = Server::start().await;
    server.deploy("a", json!({})).await;
    let call = server.post("a", "/x", "1").await.call();
    set(&server, CLOSED).await;
    let public = [
        "/api/v1/health/basic",
        "/api/v1/openapi.json",
        "/api/v1/providers",
        "/api/v1/login/{provider}",
        "/api/v1/callback/{provider}",
    ];
    let comes = [
        "/api/v1/sessions",
        "/api/v1/sessions/proven",
        "/api/v1/invitations/accept",
    ];
    let mut asked = 0;
    let mut all = documented(&server).await;
    all.push((Method::GET, "/metrics".to_owned()));
    for method in [
        Method::GET,
        Method::POST,
        Method::DELETE,
        Method::OPTIONS,
        Method::PATCH,
    ] {
        all.push((method.clone(), "/agents/a/x".to_owned()));
        all.push((method, "/agents/nobody/x".to_owned()));
    }
    for (method, path) in all {
        let comes = method == Method::POST && comes.contains(&path.as_str());
        if comes || public.contains(&path.as_str()) {
            continue;
        }
        for (agent, call) in [
            ("a", call.as_str()),
            ("nobody", "call_x"),
            ("%61", "%63all_x"),
        ] {
            let path = path.replace("{agent}", agent).replace("{call}", call);
            let request = server.client.request(method.clone(), &path, "{}");
            let answer = server.client.send(request).await.expect("an answer");
            let open = path.starts_with("/api/v1/policy");
            assert_eq!(
                answer.status == 403,
                !open,
                "{method} {path}: {}",
                answer.text()
            );
            asked += usize::from(!open);
        }
    }
    assert!(asked > 120, "{asked}");
    // The way back is open.
    let back = server.client.post("/api/v1/policy/rollback", "{}").await;
    assert!(back.status != 403, "{}", back.text());
}

#[tokio::test]
async fn a_broken_text_is_refused_and_what_holds_holds() {
    let server = Server::start().await;
    server.deploy("a", json!({})).await;
    assert_eq!(logs(&server).await, 200);
    let none = server.client.get("/api/v1/policy").await;
    assert_eq!(
        (none.json()["version"].clone(), none.header("etag")),
        (json!(0), "\"0\"")
    );
    set(&server, NO_LOGS).await;
    assert_eq!(logs(&server).await, 403);
    // Broken, and told where; what holds goes on to hold.
    let broken = put(
        &server,
        "// one\npermit (principal, acton, resource);",
        None,
    )
    .await;
    assert_eq!(
        (broken.status, broken.code().as_str()),
        (422, "policy-invalid")
    );
    assert!(
        broken.text().contains("line 2, column 20"),
        "{}",
        broken.text()
    );
    let unknown = "permit (principal, action == Skep::Action::\"agent:cal\", resource);";
    let unknown = put(&server, unknown, None).await;
    assert!(
        unknown
            .text()
            .contains("did you mean `Skep::Action::\\\"agent:call\\\"`"),
        "{}",
        unknown.text()
    );
    let out = put(
        &server,
        "@id(\"out\") forbid (principal, action, resource);",
        None,
    )
    .await;
    assert_eq!((out.status, out.code().as_str()), (409, "policy-locks-out"));
    assert!(out.text().contains("forbidden by out"), "{}", out.text());
    assert_eq!(logs(&server).await, 403);
}

#[tokio::test]
async fn versions_come_and_go() {
    let server = Server::start().await;
    server.deploy("a", json!({})).await;
    set(&server, NO_LOGS).await;
    set(&server, "").await;
    assert_eq!(logs(&server).await, 200);
    let back = skep(&server, &["policy", "rollback"]);
    assert_eq!(
        (back.code, back.out.trim()),
        (Some(0), "Version 1 holds."),
        "{}",
        back.err
    );
    assert_eq!(logs(&server).await, 403);
    let history = skep(&server, &["policy", "history", "-o", "json"]);
    let history: Value = serde_json::from_str(&history.out).expect("JSON");
    let held: Vec<_> = history
        .as_array()
        .or(history["items"].as_array())
        .expect("a list")
        .iter()
        .map(|it| (it["version"].clone(), it["current"].clone()))
        .collect();
    assert_eq!(held, [(json!(2), json!(false)), (json!(1), json!(true))]);
    // Each change is in the log, with the hash of what holds.
    let entries = server
        .client
        .get("/api/v1/audit/entries?action=policy:write&decision=allow")
        .await;
    let entries = entries.json();
    let changes: Vec<_> = entries["items"]
        .as_array()
        .expect("entries")
        .iter()
        .filter(|it| it["entry"]["change"].is_object())
        .map(|it| {
            it["entry"]["change"]["what"]
                .as_str()
                .expect("text")
                .to_owned()
        })
        .collect();
    assert_eq!(
        changes,
        [
            "policies, version 1",
            "policies, version 2",
            "policies, version 1"
        ]
    );
    let hash = skep_store::Hash::of(NO_LOGS.as_bytes()).to_string();
    assert_eq!(
        entries["items"]
            .as_array()
            .expect("entries")
            .last()
            .expect("one")["entry"]["change"]["hash"],
        hash
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_changes_at_once_one_is_made() {
    let server = Server::start().await;
    let texts = [0, 1, 2, 3].map(|at| format!("{NO_LOGS}// {at}"));
    let set = |at: usize| put(&server, &texts[at], Some(0));
    let answers = tokio::join!(set(0), set(1), set(2), set(3));
    let answers = [answers.0, answers.1, answers.2, answers.3];
    let made = answers.iter().filter(|it| it.status == 200).count();
    let late = answers
        .iter()
        .filter(|it| it.code() == "policy-conflict" && it.status == 412)
        .count();
    assert_eq!((made, late), (1, 3));
    assert_eq!(
        server.client.get("/api/v1/policy").await.json()["version"],
        1
    );
}

#[tokio::test]
async fn a_change_that_was_answered_outlives_the_server() {
    let mut server = Server::start().await;
    server.deploy("a", json!({})).await;
    for round in 1..=5 {
        assert_eq!(
            set(&server, &format!("{NO_LOGS}// {round}")).await["version"],
            round
        );
        server.kill();
        server.restart().await;
        assert_eq!(
            server.client.get("/api/v1/policy").await.json()["version"],
            round
        );
        assert_eq!(logs(&server).await, 403);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn another_server_sees_a_change() {
    let postgres = Postgres::start();
    let one = Server::start_with(on(&postgres)).await;
    let two = beside(&one, &postgres).await;
    for server in [&one, &two] {
        assert_eq!(server.client.get("/api/v1/events").await.status, 200);
    }
    let text =
        "@id(\"no-events\") forbid (principal, action == Skep::Action::\"event:read\", resource);";
    set(&one, text).await;
    for server in [&one, &two] {
        eventually("the change", async || {
            let answer = server.client.get("/api/v1/events").await;
            (answer.status == 403).then_some(())
        })
        .await;
    }
    let back = two
        .client
        .post_json("/api/v1/policy/rollback", &json!({ "version": 0 }))
        .await;
    assert_eq!(back.status, 200, "{}", back.text());
    eventually("the way back", async || {
        let answer = one.client.get("/api/v1/events").await;
        (answer.status == 200).then_some(())
    })
    .await;
}

/// `a` answers nobody but who comes from one network.
const NOT_A: &str = "@id(\"not-a\")\nforbid (principal, action == Skep::Action::\"agent:call\", \
    resource == Skep::Agent::\"a\")\nunless { context has address && \
    context.address.isInRange(ip(\"203.0.113.0/24\")) };\n";

fn file(work: &TempDir, name: &str, text: &str) -> String {
    let path = work.path().join(name);
    fs::write(&path, text).expect("a file");
    path.to_str().expect("text").to_owned()
}

#[tokio::test]
async fn people_check_and_test_policies() {
    let server = Server::start().await;
    let work = TempDir::new().expect("a folder");
    let policies = file(&work, "p.cedar", NOT_A);
    let broken = file(
        &work,
        "b.cedar",
        "permit (principal, action, resource)\nwhen { resource.nam == 1 };\n",
    );
    let wrong = skep(&server, &["policy", "validate", &broken]);
    assert_eq!(wrong.code, Some(1));
    assert!(wrong.err.contains("b.cedar:2:8: "), "{}", wrong.err);
    assert_eq!(
        skep(&server, &["policy", "validate", &policies]).code,
        Some(0)
    );
    let cases = |expect: &str| {
        file(
            &work,
            "cases.yaml",
            &format!(
                "cases:\n- name: a is closed\n  principal: {{ kind: User, id: u, role: member }}\n  \
                 action: agent:call\n  resource: {{ kind: Agent, id: a }}\n  expect: {expect}\n"
            ),
        )
    };
    let right = skep(
        &server,
        &["policy", "test", &cases("deny"), "--policies", &policies],
    );
    assert_eq!(
        (right.code, right.out.trim()),
        (Some(0), "1 cases, all as expected."),
        "{}",
        right.err
    );
    let wrong = skep(
        &server,
        &["policy", "test", &cases("allow"), "--policies", &policies],
    );
    assert_eq!(wrong.code, Some(1));
    assert!(
        wrong
            .out
            .contains("expected allow, and it is deny (by not-a)"),
        "{}",
        wrong.out
    );
    let schema = skep(&server, &["policy", "schema"]);
    assert!(
        schema.out.contains("action \"agent:call\""),
        "{}",
        schema.out
    );
}

#[tokio::test]
async fn people_ask_the_past_and_why() {
    let server = Server::start().await;
    server.deploy("a", json!({})).await;
    server.post("a", "/x", "1").await;
    let work = TempDir::new().expect("a folder");
    let policies = file(&work, "p.cedar", NOT_A);
    let simulated = skep(
        &server,
        &[
            "policy", "simulate", &policies, "--since", "1h", "-o", "json",
        ],
    );
    let simulated: Value = serde_json::from_str(&simulated.out).expect("JSON");
    assert_eq!(simulated["differs"][0]["resource"], "Call a", "{simulated}");
    assert_eq!(simulated["differs"][0]["would_be"], "deny");
    assert_eq!(simulated["guessed"], json!(["not-a"]));
}

#[tokio::test]
async fn the_past_is_asked_with_what_everybody_is_now() {
    let server = Server::start().await;
    server.deploy("a", json!({})).await;
    let made = |name: &str| {
        let made = skep(&server, &["keys", "create", name, "--role", "member"]);
        skep_tests::Client::new(&server.client.url, made.out.trim())
    };
    let (stays, goes) = (made("stays"), made("goes"));
    for key in [&stays, &goes] {
        assert_eq!(key.post("/agents/a/work", "x").await.status, 200);
    }
    let keys = server.client.get("/api/v1/keys").await.json();
    let mut all = keys["items"].as_array().expect("keys").iter();
    let id = all.find(|it| it["name"] == "goes").expect("a key")["id"].clone();
    let id = id.as_str().expect("an id");
    assert_eq!(
        skep(&server, &["--yes", "keys", "revoke", id]).code,
        Some(0)
    );
    let work = TempDir::new().expect("a folder");
    let no_members = "@id(\"no-members\") forbid (principal, action == Skep::Action::\"agent:call\", resource) \
        unless { principal in Skep::Role::\"admin\" };";
    let policies = file(&work, "p.cedar", no_members);
    let simulate = |more: &[&str]| -> Value {
        let words = [
            "policy", "simulate", &policies, "--since", "1h", "-o", "json",
        ];
        let said = skep(&server, &[&words[..], more].concat());
        serde_json::from_str(&said.out).expect("JSON")
    };
    let said = simulate(&[]);
    // The member that is there would not have been allowed; of the one that has gone nothing is known.
    assert_eq!(said["differs"].as_array().map(Vec::len), Some(1), "{said}");
    assert_eq!(said["differs"][0]["times"], 1);
    assert!(said["unknown"].as_u64() >= Some(1), "{said}");
    let said = simulate(&["--role", "owner"]);
    assert_eq!(
        (&said["differs"], &said["unknown"]),
        (&json!([]), &json!(0)),
        "{said}"
    );
    let said = simulate(&["--role", "member"]);
    assert_eq!(said["differs"].as_array().map(Vec::len), Some(2), "{said}");
}

#[tokio::test]
async fn people_ask_why() {
    let server = Server::start().await;
    server.deploy("a", json!({})).await;
    let work = TempDir::new().expect("a folder");
    let policies = file(&work, "p.cedar", NOT_A);
    let set = skep(&server, &["policy", "set", &policies, "--expected", "0"]);
    assert_eq!(
        (set.code, set.out.trim()),
        (Some(0), "Version 1 holds."),
        "{}",
        set.err
    );
    let why = skep(
        &server,
        &["policy", "explain", "agent:call", "--agent", "a"],
    );
    assert!(
        why.out.starts_with("deny by not-a@1\n"),
        "{} {}",
        why.out,
        why.err
    );
    assert!(
        why.out.contains(
            "near: default.owner-may-all (permit): it allows this, but what forbids wins"
        ),
        "{}",
        why.out
    );
    let why = skep(
        &server,
        &[
            "policy",
            "explain",
            "agent:call",
            "--agent",
            "a",
            "--address",
            "203.0.113.9",
        ],
    );
    assert!(
        why.out
            .contains("near: not-a@1 (forbid): its conditions are not met"),
        "{}",
        why.out
    );
    let why = skep(
        &server,
        &[
            "policy",
            "explain",
            "agent:call",
            "--agent",
            "b",
            "--as",
            "Agent:a",
        ],
    );
    assert!(
        why.out.starts_with("deny: no policy allows it"),
        "{} {}",
        why.out,
        why.err
    );
}

#[tokio::test]
async fn who_has_the_data_folder_has_a_way_back() {
    let mut server = Server::start().await;
    server.deploy("a", json!({})).await;
    set(&server, NOT_A).await;
    let data = server.data();
    assert_eq!(server.post("a", "/x", "1").await.status, 403);
    let running = skep(&server, &["--yes", "policy", "reset", "--offline"]);
    assert_ne!(running.code, Some(0), "{}", running.out);
    assert!(server.terminate());
    assert!(data.join("skep.db").exists());
    let reset = skep(&server, &["--yes", "policy", "reset", "--offline"]);
    assert_eq!(reset.code, Some(0), "{}", reset.err);
    assert!(reset.out.contains("Version 1 is kept"), "{}", reset.out);
    server.restart().await;
    assert_eq!(server.post("a", "/x", "1").await.status, 200);
    let entries = server
        .client
        .get("/api/v1/audit/entries?action=policy:write")
        .await
        .json();
    assert_eq!(
        entries["items"][0]["entry"]["change"]["what"],
        "policies, version 0"
    );
    assert_eq!(entries["items"][0]["entry"]["principal"]["kind"], "Server");
}

#[tokio::test]
async fn another_workspace_has_its_own_way_back_and_its_own_cases() {
    let mut server = Server::start().await;
    let made = skep(&server, &["workspaces", "create", "red"]);
    let red = skep_tests::Client::new(&server.client.url, made.out.trim());
    let work = TempDir::new().expect("a folder");
    let key = file(&work, "red.key", made.out.trim());
    let nothing = "@id(\"own\") forbid (principal, action == Skep::Action::\"agent:list\", resource) \
        when { resource == Skep::Workspace::\"red\" };";
    let own = file(&work, "p.cedar", nothing);
    let set = skep(&server, &["--api-key-file", &key, "policy", "set", &own]);
    assert_eq!(set.code, Some(0), "{}", set.err);
    let cases = "cases:\n  - name: nobody lists\n    principal: { kind: ApiKey, id: k, role: owner }\n    \
        action: agent:list\n    expect: deny\n";
    let cases = file(&work, "cases.yaml", cases);
    let tested = skep(&server, &["--api-key-file", &key, "policy", "test", &cases]);
    assert_eq!(tested.code, Some(0), "{}{}", tested.out, tested.err);
    let named = [
        "--workspace",
        "red",
        "policy",
        "test",
        &cases,
        "--policies",
        &own,
    ];
    let tested = skep(&server, &named);
    assert_eq!(tested.code, Some(0), "{}{}", tested.out, tested.err);
    assert_eq!(red.get("/api/v1/agents").await.status, 403);
    assert!(server.terminate());
    let reset = |of: &str| {
        skep(
            &server,
            &["--yes", "--workspace", of, "policy", "reset", "--offline"],
        )
    };
    let none = reset("blue");
    assert_eq!(none.code, Some(1), "{}", none.out);
    assert!(none.err.contains("no workspace `blue`"), "{}", none.err);
    let done = reset("red");
    assert_eq!(done.code, Some(0), "{}", done.err);
    assert!(done.out.contains("Version 1 is kept"), "{}", done.out);
    server.restart().await;
    let red = skep_tests::Client::new(&server.client.url, &red.key);
    assert_eq!(red.get("/api/v1/agents").await.status, 200);
}
