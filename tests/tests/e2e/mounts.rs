//! A store of secrets that is mounted in the vault, with moto in the place of AWS: asked as it is used, kept for a
//! time, and counted on for a while when it is gone.

use std::process::Command;

use serde_json::{Value, json};
use skep_tests::{Client, Server, Setup, agent_binary};

use crate::moving::{MARK, Moto, Place};

fn on_this_machine() -> Setup {
    Setup {
        env: vec![("SKEP_OUTGOING_ALLOW".to_owned(), "127.0.0.0/8".to_owned())],
        ..Setup::default()
    }
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// What is at AWS, and a way in that lies in the vault.
async fn place(moto: &Moto, server: Server) -> Place {
    let mut place = Place::on(server);
    place.env = moto.env();
    let variables: serde_json::Map<String, Value> = moto
        .env()
        .into_iter()
        .map(|(name, value)| (name, Value::from(value)))
        .collect();
    place.file("login.json", &Value::from(variables).to_string());
    place.good(&["create", "aws-login", "--from-file", "login.json"]);
    put(&place, "db/password", MARK);
    place
}

/// Writes a secret at AWS.
fn put(place: &Place, name: &str, value: &str) {
    place.file("in.json", &json!({ name: value }).to_string());
    let import = ["import", "in.json", "--prefix", "seed/"];
    place.good(&[&import[..], &["--on-conflict", "replace"]].concat());
    let export = ["export", "--prefix", "seed/", "--to", "aws:app/"];
    let how = ["--reason", "a test", "--on-conflict", "replace"];
    place.good(&[&export[..], &how].concat());
}

fn reveal(place: &Place, name: &str) -> String {
    let shown = place.run(&["reveal", name, "--reason", "a test"], "");
    assert!(shown.status.success(), "{name}: {}", text(&shown.stderr));
    text(&shown.stdout)
}

const MOUNT: [&str; 5] = ["mount", "prod", "aws:app/", "--with", "aws-login"];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_mounted_store_is_asked_as_it_is_used() {
    let moto = Moto::start().await;
    let place = place(&moto, Server::start_with(on_this_machine()).await).await;
    let said = place.good(&[&MOUNT[..], &["--cache", "0s"]].concat());
    assert!(said.contains("1 secrets are known"), "{said}");
    let long = [
        "mount",
        "calm",
        "aws:app/",
        "--with",
        "aws-login",
        "--cache",
        "24h",
    ];
    place.good(&long);
    assert_eq!(reveal(&place, "prod/db/password"), MARK);
    assert_eq!(reveal(&place, "calm/db/password"), MARK);
    // One is asked each time; the other when it is said.
    put(&place, "db/password", "newer");
    assert_eq!(reveal(&place, "prod/db/password"), "newer");
    assert_eq!(reveal(&place, "calm/db/password"), MARK);
    place.good(&["refresh", "calm"]);
    assert_eq!(reveal(&place, "calm/db/password"), "newer");
    // What is new there needs no order, by its name or in a specification.
    put(&place, "extra", MARK);
    assert_eq!(reveal(&place, "prod/extra"), MARK);
    put(&place, "second", MARK);
    let spec = json!({ "name": "a", "command": [agent_binary()], "stop_grace": "1s",
        "env": { "NUMBER": "${secret:prod/second}" } });
    place.server.deploy_spec(spec).await;
    let given = place.server.client.get("/agents/a/number").await.text();
    assert!(given.starts_with("lse_"), "{given}");
    let listed = place.good(&["list", "--tag", "mount=prod", "-o", "name"]);
    assert_eq!(listed.lines().count(), 3, "{listed}");
    let said = place.bad(1, &["reveal", "prod/none", "--reason", "x"]);
    assert!(said.contains("there is no secret `prod/none`"), "{said}");
    // It is changed where it lies.
    place.file("value", "x");
    for words in [
        &["put", "prod/extra", "--from-file", "value"][..],
        &["create", "prod/mine", "--from-file", "value"],
        &["update", "aws-login", "--rename", "prod/aws-login"],
        &["import", "in.json", "--prefix", "prod/"],
    ] {
        let said = place.bad(1, words);
        assert!(
            said.contains("what is below `prod` lies in another store"),
            "{said}"
        );
    }
    gone(&place, &moto);
    place.good(&["unmount", "prod", "--yes"]);
    let listed = place.good(&["mounts", "-o", "name"]);
    assert_eq!(listed, "calm\n");
    let said = place.bad(1, &["reveal", "prod/extra", "--reason", "x"]);
    assert!(said.contains("there is no secret"), "{said}");
    let log = place
        .server
        .client
        .get("/api/v1/audit/entries?limit=1000")
        .await
        .text();
    assert!(log.contains("secret:mount") && !log.contains(MARK), "{log}");
}

/// A secret that is deleted there is not read here any more, and not before.
fn gone(place: &Place, moto: &Moto) {
    let order = "import boto3, os; boto3.client('secretsmanager', os.environ['AWS_REGION'], endpoint_url=os.environ['AWS_ENDPOINT_URL'])\
        .delete_secret(SecretId='app/extra', ForceDeleteWithoutRecovery=True)";
    let mut delete = Command::new("python3");
    let done = delete.args(["-c", order]).envs(moto.env()).output();
    let done = done.expect("install it first: cargo xtask set-up test");
    assert!(done.status.success(), "{}", text(&done.stderr));
    let said = place.bad(1, &["reveal", "prod/extra", "--reason", "x"]);
    assert!(
        said.contains("version 1 of the secret is deleted"),
        "{said}"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_read_counts_on_when_the_store_is_gone() {
    let moto = Moto::start().await;
    let mut place = place(&moto, Server::start_with(on_this_machine()).await).await;
    place.good(&[&MOUNT[..], &["--cache", "0s"]].concat());
    assert_eq!(reveal(&place, "prod/db/password"), MARK);
    drop(moto);
    assert_eq!(reveal(&place, "prod/db/password"), MARK);
    place.server.kill();
    place.server.restart_as_it_was().await;
    assert_eq!(reveal(&place, "prod/db/password"), MARK);
    let said = place.bad(1, &["reveal", "prod/other", "--reason", "x"]);
    assert!(
        said.contains("`prod` does not give it: the store cannot be reached"),
        "{said}"
    );
    let said = place.bad(1, &["refresh", "prod"]);
    assert!(
        said.contains("refused") || said.contains("onnect"),
        "{said}"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_may_not_reveal_makes_nobody_ask_and_learns_nothing() {
    let moto = Moto::start().await;
    let place = place(&moto, Server::start_with(on_this_machine()).await).await;
    place.good(&MOUNT);
    put(&place, "later", MARK);
    let key = json!({ "name": "v", "role": "viewer" });
    let made = place.server.client.post_json("/api/v1/keys", &key).await;
    assert_eq!(made.status, 201, "{}", made.text());
    let made = made.json();
    let viewer = Client::new(
        &place.server.client.url,
        made["secret"].as_str().expect("a key"),
    );
    let ask = async |name: &str| {
        let path = format!("/api/v1/secrets/prod%2F{name}/reveal");
        let said = viewer.post_json(&path, &json!({ "reason": "x" })).await;
        (said.status, said.json()["detail"].clone())
    };
    let there = ask("later").await;
    assert_eq!(there.0, 403);
    assert_eq!(ask("none").await, there);
    assert_eq!(ask("db%2Fpassword").await, there);
    // It is known to nobody that it is there.
    let listed = place.good(&["list", "--tag", "mount=prod", "-o", "name"]);
    assert_eq!(listed, "prod/db/password\n");
    let wish = json!({ "path": "own", "address": "aws:app/", "with": "aws-login" });
    let said = viewer.post_json("/api/v1/secret-mounts", &wish).await;
    assert_eq!(said.status, 403, "{}", said.text());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_cannot_be_mounted_says_why() {
    let moto = Moto::start().await;
    let place = place(&moto, Server::start().await).await;
    let said = place.bad(1, &MOUNT);
    assert!(said.contains("outgoing.allow"), "{said}");
    for (login, part) in [
        ("not json", "JSON object of variables"),
        (r#"{"AWS_REGION":"x"}"#, "AWS_ACCESS_KEY_ID"),
        (r#"{"AWS_CA_BUNDLE":"/etc/shadow"}"#, "names a file"),
    ] {
        place.file("login.json", login);
        place.good(&["put", "aws-login", "--from-file", "login.json"]);
        let said = place.bad(1, &MOUNT);
        assert!(said.contains(part), "{said}");
    }
    let said = place.bad(1, &["mount", "prod", "file:/etc", "--with", "aws-login"]);
    assert!(
        said.contains("names a file") || said.contains("no address of a store"),
        "{said}"
    );
    let said = place.bad(1, &["mount", "prod", "aws:app/", "--with", "none"]);
    assert!(
        said.contains("`with` names the secret `none`, which is not there"),
        "{said}"
    );
    let said = place.bad(1, &[&MOUNT[..], &["--stale", "1s"]].concat());
    assert!(said.contains("10s to 7d"), "{said}");
    assert_eq!(place.good(&["mounts", "-o", "name"]), "");
    let said = place.bad(1, &["unmount", "prod", "--yes"]);
    assert!(said.contains("nothing is mounted at `prod`"), "{said}");
}
