//! Secrets that agents' specifications name: what an agent is given in their place, who may give it, and that
//! nothing of it is left.

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};
use skep_tests::{Client, Server, Setup, agent_binary, eventually};
use tempfile::TempDir;

use crate::cli::{command, skep};
use crate::policy::set;

/// A value that no agent may see that was lent a placeholder.
const MARK: &str = "MARKED-55d1-value";

async fn create(server: &Server, name: &str, value: &str) {
    let wish = json!({ "name": name, "value": value });
    let made = server.client.post_json("/api/v1/secrets", &wish).await;
    assert_eq!(made.status, 201, "{}", made.text());
}

fn spec(name: &str, number: &str) -> Value {
    let env = json!({ "NUMBER": number });
    json!({ "name": name, "command": [agent_binary()], "env": env, "stop_grace": "1s" })
}

async fn given(server: &Server, agent: &str) -> String {
    let said = server.client.get(&format!("/agents/{agent}/number")).await;
    assert_eq!(said.status, 200, "{}", said.text());
    said.text()
}

async fn leases(server: &Server, secret: &str) -> Vec<Value> {
    let path = format!("/api/v1/secrets/{}/leases", secret.replace('/', "%2F"));
    let all = server.client.get(&path).await.json();
    all["items"].as_array().cloned().expect("a list")
}

async fn refused(client: &Client, spec: &Value) -> (u16, String, String) {
    let said = client.post_json("/api/v1/agents", spec).await;
    (said.status, said.code(), said.text())
}

/// Why an agent does not run.
async fn reason(server: &Server, agent: &str, part: &str) {
    eventually(&format!("{agent} saying `{part}`"), async || {
        let agent = server.agent(agent).await;
        agent.to_string().contains(part).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_agent_is_lent_placeholders_until_it_ends() {
    let mut server = Server::start().await;
    create(&server, "pay/stripe", &json!({ "key": MARK }).to_string()).await;
    server
        .deploy_spec(spec("a", "Bearer ${secret:pay/stripe#key}!"))
        .await;
    let first = given(&server, "a").await;
    let lease = |text: &str| {
        let inner = text
            .strip_prefix("Bearer ")
            .and_then(|it| it.strip_suffix('!'));
        inner.expect("a placeholder").to_owned()
    };
    let all = leases(&server, "pay/stripe").await;
    let instance = server.agent("a").await["instances"][0]["id"].clone();
    let instance = instance.as_str().expect("an id");
    assert_eq!(all.len(), 1);
    assert_eq!(all[0]["id"], lease(&first));
    assert_eq!(all[0]["holder"], "agent:a");
    assert_eq!(all[0]["field"], "key");
    assert_eq!(all[0]["parent"], format!("instance:{instance}"));
    // A command in its box has the same, and makes no other.
    let inside = skep(
        &server,
        &["exec", "a", "--", "sh", "-c", "echo \"$NUMBER\""],
    );
    assert_eq!(inside.out, first, "{}", inside.err);
    assert_eq!(leases(&server, "pay/stripe").await.len(), 1);
    // A server that was killed finds it again; what it runs on ends it.
    server.kill();
    server.restart_as_it_was().await;
    server.wait_state("a", "ready").await;
    assert_eq!(given(&server, "a").await, first);
    assert_eq!(leases(&server, "pay/stripe").await[0]["id"], lease(&first));
    // Another instance, another lease.
    let again = server.client.post("/api/v1/agents/a/restart", "").await;
    assert_eq!(again.status, 200, "{}", again.text());
    let second = eventually("another lease alone", async || {
        let all = leases(&server, "pay/stripe").await;
        let [one] = &all[..] else { return None };
        (one["id"] != lease(&first)).then(|| one["id"].clone())
    })
    .await;
    server.wait_state("a", "ready").await;
    assert_eq!(lease(&given(&server, "a").await), second);
    // It ends while nobody looks: it is swept.
    let pid = server.agent("a").await["instances"][0]["pid"].as_u64();
    let pid = u32::try_from(pid.expect("a pid")).expect("a pid");
    server.kill();
    skep_tests::kill(pid);
    server.restart_as_it_was().await;
    eventually("the lease of what runs now", async || {
        let all = leases(&server, "pay/stripe").await;
        (all.len() == 1 && all[0]["id"] != second).then_some(())
    })
    .await;
    let stopped = server.client.post("/api/v1/agents/a/stop", "").await;
    assert_eq!(stopped.status, 200, "{}", stopped.text());
    eventually("no lease", async || {
        leases(&server, "pay/stripe").await.is_empty().then_some(())
    })
    .await;
    // The agent did that, by the secret's id.
    let log = crate::audit::whole(&server);
    let used = log.iter().any(|it| {
        it["principal"] == json!({ "kind": "Agent", "id": "a" }) && it["action"] == "secret:use"
    });
    assert!(used, "{log:?}");
    assert!(!server.log().contains(MARK) && !format!("{log:?}").contains("pay/stripe"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nobody_gives_an_agent_what_is_not_theirs() {
    let server = Server::start().await;
    let member = crate::vault::with_role(&server, "member").0;
    create(&server, "mine", MARK).await;
    for (number, part) in [
        ("${secret:none}", "skep secrets create none"),
        ("${secret:mine#field}", "has no field `field`"),
        ("${secret:mine", "not closed"),
    ] {
        let (status, _, text) = refused(&server.client, &spec("a", number)).await;
        assert!(status == 400 || status == 422, "{status} {text}");
        assert!(text.contains(part) && !text.contains(MARK), "{text}");
    }
    let text = "@id(\"not-mine\") forbid (principal is Skep::ApiKey, action == Skep::Action::\"secret:use\", resource) \
        when { resource has name && resource.name == \"mine\" && principal in Skep::Role::\"member\" } \
        unless { principal in Skep::Role::\"admin\" };\n\
        @id(\"not-b\") forbid (principal == Skep::Agent::\"b\", action == Skep::Action::\"secret:use\", resource);";
    set(&server, text).await;
    // What is there and what is not look the same to who may not.
    let (status, _, theirs) = refused(&member, &spec("a", "${secret:mine}")).await;
    let (also, _, none) = refused(&member, &spec("a", "${secret:none}")).await;
    assert_eq!((status, status), (also, 422));
    let plain = |text: &str, name: &str| {
        let text: Value = serde_json::from_str(text).expect("JSON");
        text["detail"].as_str().expect("a text").replace(name, "it")
    };
    assert_eq!(plain(&theirs, "mine"), plain(&none, "none"));
    // Who may can deploy; the agent of which a policy says no is given nothing.
    server.deploy_spec(spec("a", "${secret:mine}")).await;
    let made = server
        .client
        .post_json("/api/v1/agents", &spec("b", "${secret:mine}"))
        .await;
    assert_eq!(made.status, 201, "{}", made.text());
    reason(&server, "b", "one forbids it").await;
    let all = leases(&server, "mine").await;
    assert!(all.iter().all(|it| it["holder"] == "agent:a"), "{all:?}");
    let denied = crate::audit::whole(&server).into_iter().any(|it| {
        it["principal"]["id"] == "b" && it["action"] == "secret:use" && it["decision"] == "deny"
    });
    assert!(denied);
}

/// What the agent says of the file that it was given.
fn inside(server: &Server, line: &str) -> String {
    let said = skep(server, &["exec", "a", "--", "sh", "-c", line]);
    assert_eq!(said.code, Some(0), "{}", said.err);
    said.out
}

fn held(data: &Path) -> Vec<PathBuf> {
    let links = fs::read_dir(data.join("held")).into_iter().flatten();
    links
        .flatten()
        .filter_map(|link| fs::read_link(link.path()).ok())
        .collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_program_holds_a_value_when_a_policy_says_so() {
    let server = Server::start().await;
    let member = crate::vault::with_role(&server, "member").0;
    create(&server, "pay/cert", MARK).await;
    let wish = spec("a", "${secret-file:pay/cert}");
    // A member could read it by deploying a program of theirs.
    let (status, _, text) = refused(&member, &wish).await;
    assert!(status == 422 && text.contains("secret:hold"), "{text}");
    let made = server.client.post_json("/api/v1/agents", &wish).await;
    assert_eq!(made.status, 201, "{}", made.text());
    reason(&server, "a", "secret:hold").await;
    assert!(held(&server.data()).is_empty());
    let text = "@id(\"a-holds\") permit (principal == Skep::Agent::\"a\", action == Skep::Action::\"secret:hold\", \
        resource) when { resource has name && resource.name like \"pay/*\" };";
    set(&server, text).await;
    let again = server.client.post("/api/v1/agents/a/restart", "").await;
    assert_eq!(again.status, 200, "{}", again.text());
    server.wait_state("a", "ready").await;
    assert_eq!(inside(&server, "cat \"$NUMBER\""), MARK);
    assert_eq!(inside(&server, "stat -f -c %T \"$NUMBER\""), "tmpfs");
    assert_eq!(inside(&server, "stat -c %a \"$NUMBER\""), "400");
    assert_eq!(inside(&server, "env | grep -c MARKED || true"), "0");
    // A command in its box would show it: that is for who may give it.
    let theirs = command(&server, &["exec", "a", "--", "cat", "/proc/self/environ"])
        .env("SKEP_API_KEY", &member.key)
        .output()
        .expect("the binary runs");
    let said = String::from_utf8_lossy(&theirs.stderr).into_owned();
    assert!(
        !theirs.status.success() && said.contains("secret:hold"),
        "{said}"
    );
    let log = crate::audit::whole(&server);
    let told = |it: &Value| {
        it["principal"]["id"] == "a" && it["action"] == "secret:hold" && it["decision"] == "allow"
    };
    assert!(log.iter().any(told), "{log:?}");
    // It goes with its instance, and a server that was killed removes what it left.
    let [folder] = &held(&server.data())[..] else {
        panic!("one folder");
    };
    assert!(folder.is_dir());
    let stopped = server.client.post("/api/v1/agents/a/stop", "").await;
    assert_eq!(stopped.status, 200, "{}", stopped.text());
    eventually("no file", async || (!folder.exists()).then_some(())).await;
    assert!(held(&server.data()).is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn with_a_sealed_vault_it_waits_and_then_begins() {
    let mut server = Server::start().await;
    create(&server, "mine", MARK).await;
    server.deploy_spec(spec("a", "${secret:mine}")).await;
    server.deploy("plain", json!({})).await;
    let stopped = server.client.post("/api/v1/agents/a/stop", "").await;
    assert_eq!(stopped.status, 200, "{}", stopped.text());
    let elsewhere = TempDir::new().expect("a folder");
    let (key, moved) = (server.data().join("seal.key"), elsewhere.path().join("k"));
    fs::rename(&key, &moved).expect("it moves");
    server.kill();
    server.restart_with(Setup::default()).await;
    server.wait_state("plain", "ready").await;
    let (status, code, _) = refused(&server.client, &spec("b", "${secret:mine}")).await;
    assert_eq!((status, code.as_str()), (503, "vault-sealed"));
    let started = server.client.post("/api/v1/agents/a/start", "").await;
    assert_eq!(started.status, 200, "{}", started.text());
    reason(&server, "a", "skep vault unseal").await;
    let file = moved.to_str().expect("text");
    let unsealed = skep(&server, &["vault", "unseal", "--key-file", file]);
    assert_eq!(unsealed.code, Some(0), "{}", unsealed.err);
    server.wait_state("a", "ready").await;
    assert!(given(&server, "a").await.starts_with("lse_"));
}
