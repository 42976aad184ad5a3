//! Secrets and the vault, from outside: who may what, what is sealed, what rotates under kills, and that no
//! value is anywhere it should not be.

use std::fs;
use std::path::Path;

use http::Method;
use serde_json::{Value, json};
use skep_tests::postgres::Postgres;
use skep_tests::{Answer, Client, Server, Setup, eventually};
use tempfile::TempDir;

use crate::cli::skep;

/// A value that is looked for where it must not be.
const MARK: &str = "MARKED-7f3a-value";

async fn send(client: &Client, method: Method, path: &str, body: &Value) -> Answer {
    let mut request = client.request(method, path, body.to_string());
    let json = http::HeaderValue::from_static("application/json");
    request.headers_mut().insert("content-type", json);
    client.send(request).await.expect("an answer")
}

pub(crate) async fn create(server: &Server, name: &str, value: &str) -> Value {
    let wish = json!({ "name": name, "value": value });
    let made = server.client.post_json("/api/v1/secrets", &wish).await;
    assert_eq!(made.status, 201, "{}", made.text());
    made.json()
}

pub(crate) async fn reveal(client: &Client, name: &str) -> Answer {
    let path = format!("/api/v1/secrets/{}/reveal", name.replace('/', "%2F"));
    let wish = json!({ "reason": "a test looks" });
    client.post_json(&path, &wish).await
}

/// A client with a key of a role; and what the vault calls its holder.
pub(crate) fn with_role(server: &Server, role: &str) -> (Client, String) {
    let made = skep(
        server,
        &["keys", "create", role, "--role", role, "-o", "json"],
    );
    let made: Value = serde_json::from_str(&made.out).expect("pure JSON");
    let secret = made["secret"].as_str().expect("a key");
    let id = made["id"].as_str().expect("an id");
    let client = Client::new(&server.client.url, secret);
    (client, format!("key:{id}"))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_secret_lives_at_the_command_line() {
    let server = Server::start().await;
    let folder = TempDir::new().expect("a folder");
    let file = folder.path().join("value");
    fs::write(&file, "first").expect("a file");
    let file = file.to_str().expect("text");
    let ok = |args: &[&str]| {
        let said = skep(&server, args);
        assert_eq!(said.code, Some(0), "{args:?}: {}", said.err);
        said.out
    };
    let made = ok(&[
        "secrets",
        "create",
        "pay/stripe",
        "--from-file",
        file,
        "--tag",
        "team=pay",
        "--rotate-every",
        "90d",
        "--description",
        "for cards",
    ]);
    assert!(made.starts_with("pay/stripe is made (sec_"), "{made}");
    let twice = skep(
        &server,
        &["secrets", "create", "pay/stripe", "--from-file", file],
    );
    assert_eq!(twice.code, Some(1));
    assert!(twice.err.contains("skep secrets put"), "{}", twice.err);
    fs::write(file, "second").expect("a file");
    let put = ok(&[
        "secrets",
        "put",
        "pay/stripe",
        "--from-file",
        file,
        "--follows",
        "1",
    ]);
    assert_eq!(put, "pay/stripe has version 2.");
    let stale = skep(
        &server,
        &[
            "secrets",
            "put",
            "pay/stripe",
            "--from-file",
            file,
            "--follows",
            "1",
        ],
    );
    assert!(
        stale.err.contains("its latest version is 2"),
        "{}",
        stale.err
    );
    let why = ["--reason", "to see it work"];
    let args = [&["secrets", "reveal", "pay/stripe"], &why[..]].concat();
    assert_eq!(ok(&args), "second");
    assert_eq!(ok(&[&args[..], &["--version", "1"]].concat()), "first");
    let listed = ok(&["secrets", "list", "strip", "--tag", "team=pay"]);
    assert!(listed.contains("pay/stripe"), "{listed}");
    assert!(!ok(&["secrets", "list", "other"]).contains("pay/stripe"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_log_says_why_a_secret_was_shown_and_not_its_name() {
    let server = Server::start().await;
    create(&server, "pay/stripe", "first").await;
    let ok = |args: &[&str]| {
        let said = skep(&server, args);
        assert_eq!(said.code, Some(0), "{args:?}: {}", said.err);
        said.out
    };
    let wish = json!({ "value": "second" });
    let path = "/api/v1/secrets/pay%2Fstripe/versions";
    server.client.post_json(path, &wish).await;
    let args = [
        "secrets",
        "reveal",
        "pay/stripe",
        "--reason",
        "to see it work",
    ];
    ok(&["secrets", "delete", "pay/stripe", "2"]);
    let gone = skep(&server, &args);
    assert!(
        gone.err.contains("version 2 of the secret is deleted"),
        "{}",
        gone.err
    );
    ok(&["secrets", "undelete", "pay/stripe", "2"]);
    assert_eq!(ok(&args), "second");
    ok(&["secrets", "update", "pay/stripe", "--rename", "pay/cards"]);
    let shown = ok(&["secrets", "show", "pay/cards"]);
    assert!(shown.contains("pay/cards"), "{shown}");
    let password = ok(&["secrets", "generate", "password:40"]);
    assert_eq!(password.len(), 40, "{password}");
    ok(&["secrets", "remove", "pay/cards", "--yes"]);
    let none = skep(&server, &["secrets", "show", "pay/cards"]);
    assert_eq!(none.code, Some(1));
    assert!(none.err.contains("skep secrets list"), "{}", none.err);
    // The log says why it was shown, and calls it by its id alone.
    let log = crate::audit::whole(&server);
    let text = serde_json::to_string(&log).expect("JSON");
    assert!(text.contains("to see it work"), "{text}");
    assert!(
        !text.contains("stripe") && !text.contains("pay/cards"),
        "{text}"
    );
    assert!(!text.contains("second"), "{text}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn to_use_is_not_to_see() {
    let server = Server::start().await;
    create(&server, "db/password", MARK).await;
    let (viewer, viewer_id) = with_role(&server, "viewer");
    let (member, member_id) = with_role(&server, "member");
    let (admin, _) = with_role(&server, "admin");
    let at = |rest: &str| format!("/api/v1/secrets/db%2Fpassword{rest}");
    assert_eq!(viewer.get(&at("")).await.status, 200);
    for client in [&viewer, &member] {
        let refused = reveal(client, "db/password").await;
        assert_eq!(
            (refused.status, refused.code()),
            (403, "forbidden".to_owned())
        );
    }
    assert_eq!(reveal(&admin, "db/password").await.json()["value"], MARK);
    // Who may use it has a lease, and nothing of the value.
    let lease = json!({ "ttl": "1h" });
    assert_eq!(viewer.post_json(&at("/leases"), &lease).await.status, 403);
    let lent = member.post_json(&at("/leases"), &lease).await;
    assert_eq!(lent.status, 201, "{}", lent.text());
    assert!(!lent.text().contains(MARK));
    assert_eq!(lent.json()["holder"], member_id);
    // A wish, a yes of somebody else, and an end.
    let wish = json!({ "may": "reveal", "lasts": "1h", "reason": "the card fails" });
    let asked = member.post_json(&at("/requests"), &wish).await;
    assert_eq!(asked.status, 201, "{}", asked.text());
    let id = asked.json()["id"].as_str().expect("an id").to_owned();
    let decision = format!("/api/v1/secret-requests/{id}/decision");
    let yes = json!({ "approve": true });
    assert_eq!(member.post_json(&decision, &yes).await.status, 403);
    assert_eq!(admin.post_json(&decision, &yes).await.status, 200);
    assert_eq!(admin.post_json(&decision, &yes).await.code(), "vault-state");
    assert_eq!(reveal(&member, "db/password").await.json()["value"], MARK);
    let query = format!("/shares?holder={member_id}&may=reveal");
    let back = send(&admin, Method::DELETE, &at(&query), &Value::Null).await;
    assert_eq!(back.status, 204, "{}", back.text());
    assert_eq!(reveal(&member, "db/password").await.status, 403);
    // A share lets even a viewer.
    let share = json!({ "holder": viewer_id, "may": "use", "lasts": "1h" });
    assert_eq!(admin.post_json(&at("/shares"), &share).await.status, 201);
    let lent = viewer.post_json(&at("/leases"), &lease).await;
    assert_eq!(lent.status, 201, "{}", lent.text());
    let lease_id = lent.json()["id"].as_str().expect("an id").to_owned();
    let of_lease = at(&format!("/leases/{lease_id}"));
    let others = member
        .post_json(&format!("{of_lease}/renew"), &json!({ "ttl": "2h" }))
        .await;
    assert_eq!(others.status, 404, "{}", others.text());
    let query = format!("/shares?holder={viewer_id}&may=use");
    send(&admin, Method::DELETE, &at(&query), &Value::Null).await;
    let leases = admin.get(&at("/leases")).await.json();
    assert_eq!(
        leases["items"].as_array().map(Vec::len),
        Some(1),
        "{leases}"
    );
    // Many at once overwrite nothing that may not be written.
    let policy = r#"forbid (principal, action == Skep::Action::"secret:write", resource)
        when { resource has name && resource.name like "db/*" };"#;
    let set = json!({ "text": policy });
    let set = send(&server.client, Method::PUT, "/api/v1/policy", &set).await;
    assert_eq!(set.status, 200, "{}", set.text());
    let all = json!({ "secrets": [
        { "name": "new", "value": "1" }, { "name": "db/password", "value": "2" },
    ] });
    let refused = admin.post_json("/api/v1/secrets-bulk", &all).await;
    assert_eq!(refused.status, 403, "{}", refused.text());
    assert_eq!(admin.get("/api/v1/secrets/new").await.status, 404);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_touches_bait_is_told_of() {
    let server = Server::start().await;
    let wish = json!({ "name": "aws/root", "value": "bait", "canary": true });
    server.client.post_json("/api/v1/secrets", &wish).await;
    let (viewer, _) = with_role(&server, "viewer");
    assert_eq!(viewer.get("/api/v1/secrets/aws%2Froot").await.status, 200);
    assert_eq!(reveal(&viewer, "aws/root").await.status, 403);
    eventually("a detection", async || {
        let path = "/api/v1/security/detections?kind=canary";
        let all = server.client.get(path).await.json();
        let items = all["items"].as_array().cloned().unwrap_or_default();
        (items.len() == 1).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_is_removed_leaves_no_right_behind() {
    let server = Server::start().await;
    create(&server, "stripe", MARK).await;
    let ada = crate::people::join(&server.client, "ada@example.com", "member").await;
    let id = ada["id"].as_str().expect("an id");
    let share = json!({ "holder": format!("user:{id}"), "may": "reveal" });
    let path = "/api/v1/secrets/stripe/shares";
    assert_eq!(server.client.post_json(path, &share).await.status, 201);
    let path = format!("/api/v1/users/{id}");
    let gone = server.client.request(Method::DELETE, &path, "");
    let gone = server.client.send(gone).await.expect("an answer");
    assert_eq!(gone.status, 204, "{}", gone.text());
    let left = server
        .client
        .get("/api/v1/secrets/stripe/shares")
        .await
        .json();
    assert_eq!(left["items"], json!([]));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_breaks_leaves_no_core_file() {
    use std::os::unix::process::ExitStatusExt;
    let anything = "ulimit -c unlimited && exec \"$@\"";
    let wrapper = ["sh", "-c", anything, "sh"].map(str::to_owned).to_vec();
    let folder = TempDir::new().expect("a folder");
    let mut control = std::process::Command::new(&wrapper[0]);
    control
        .args(&wrapper[1..])
        .args(["sh", "-c", "kill -ABRT $$"]);
    let control = control
        .current_dir(folder.path())
        .status()
        .expect("sh runs");
    assert!(
        control.core_dumped(),
        "this machine makes core files: {control}"
    );
    let setup = Setup {
        wrapper,
        ..Setup::default()
    };
    let mut server = Server::start_with(setup).await;
    create(&server, "stripe", MARK).await;
    let ended = server.abort();
    assert_eq!(ended.signal(), Some(6));
    assert!(!ended.core_dumped());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_without_its_seal_key_does_all_that_needs_no_secret() {
    let mut server = Server::start().await;
    server.deploy("a", json!({})).await;
    create(&server, "stripe", MARK).await;
    let key = server.data().join("seal.key");
    let elsewhere = TempDir::new().expect("a folder");
    let moved = elsewhere.path().join("seal.key");
    assert!(server.terminate());
    fs::rename(&key, &moved).expect("a key");
    server.restart_as_it_was().await;
    assert!(!key.exists(), "no other key is made");
    let health = server.client.get("/api/v1/health/detailed").await.json();
    let checks = health["checks"].as_array().expect("checks");
    let vault = checks.iter().find(|it| it["name"] == "vault");
    assert_eq!(vault.expect("a check")["status"], "degraded", "{health}");
    server.wait_state("a", "ready").await;
    assert_eq!(server.post("a", "/work", "x").await.text(), "x");
    let refused = reveal(&server.client, "stripe").await;
    assert_eq!(
        (refused.status, refused.code()),
        (503, "vault-sealed".to_owned())
    );
    let status = skep(&server, &["vault", "status"]);
    assert!(status.out.contains("skep vault unseal"), "{}", status.out);
    let other = elsewhere.path().join("other.key");
    fs::write(&other, format!("skep_seal_{}", "A".repeat(43))).expect("a file");
    let wrong = skep(
        &server,
        &[
            "vault",
            "unseal",
            "--key-file",
            other.to_str().expect("text"),
        ],
    );
    assert!(wrong.err.contains("does not open"), "{}", wrong.err);
    let opened = skep(
        &server,
        &[
            "vault",
            "unseal",
            "--key-file",
            moved.to_str().expect("text"),
        ],
    );
    assert_eq!(opened.code, Some(0), "{}", opened.err);
    assert_eq!(reveal(&server.client, "stripe").await.json()["value"], MARK);
    // And with a passphrase from now on; an empty variable is none.
    let words = elsewhere.path().join("words");
    fs::write(&words, "correct horse battery\n").expect("a file");
    let words = words.to_str().expect("text");
    let added = skep(
        &server,
        &["vault", "seals", "add", "safe", "--passphrase-file", words],
    );
    assert_eq!(added.code, Some(0), "{}", added.err);
    let removed = skep(&server, &["vault", "seals", "remove", "1", "--yes"]);
    assert_eq!(removed.code, Some(0), "{}", removed.err);
    let setup = |name: &str, value: &str| Setup {
        env: vec![(name.to_owned(), value.to_owned())],
        ..Setup::default()
    };
    server.kill();
    server
        .restart_with(setup("SKEP_SEAL_PASSPHRASE", "  "))
        .await;
    assert_eq!(reveal(&server.client, "stripe").await.status, 503);
    server.kill();
    server
        .restart_with(setup("SKEP_SEAL_PASSPHRASE_FILE", words))
        .await;
    assert_eq!(reveal(&server.client, "stripe").await.json()["value"], MARK);
}

/// The phase of a rotation, once it is over or kept.
async fn settled(server: &Server, id: &str) -> String {
    eventually("a rotation that waits or is over", async || {
        let mut found = String::new();
        for path in ["/api/v1/vault/rotations", "/api/v1/secret-rotations"] {
            let all = server.client.get(path).await.json();
            let items = all["items"].as_array().cloned().unwrap_or_default();
            if let Some(rotation) = items.iter().find(|it| it["id"] == id) {
                found = rotation["phase"].as_str().unwrap_or_default().to_owned();
            }
        }
        ["kept", "done", "returned"]
            .contains(&found.as_str())
            .then_some(found)
    })
    .await
}

async fn read_some(server: &Server) {
    for number in [0, 57, 199, 200, 399] {
        let shown = reveal(&server.client, &format!("s/{number}")).await;
        let text = shown.text();
        assert_eq!(shown.json()["value"], format!("value {number}"), "{text}");
    }
}

/// Kills the server again and again until a rotation is in one of these phases.
async fn kill_until(server: &mut Server, (root, id): (bool, &str), over: &[&str]) {
    let list = match root {
        true => "/api/v1/vault/rotations",
        false => "/api/v1/secret-rotations",
    };
    for round in 0..40_u32 {
        // At another moment of the work each time: after so many answers.
        for _ in 0..round % 5 {
            read_some(server).await;
        }
        server.kill();
        server.restart_as_it_was().await;
        read_some(server).await;
        let all = server.client.get(list).await.json();
        let items = all["items"].as_array().cloned().unwrap_or_default();
        let this = items.iter().find(|it| it["id"] == id);
        if this.is_some_and(|it| over.iter().any(|phase| it["phase"] == *phase)) {
            return;
        }
    }
    settled(server, id).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn keys_rotate_while_the_server_is_killed() {
    let mut server = Server::start().await;
    let all: Vec<Value> = (0..400)
        .map(|number| json!({ "name": format!("s/{number}"), "value": format!("value {number}") }))
        .collect();
    let made = json!({ "secrets": all });
    let made = server.client.post_json("/api/v1/secrets-bulk", &made).await;
    assert_eq!(made.status, 200, "{}", made.text());
    for level in ["data", "workspace", "root"] {
        let begun = skep(
            &server,
            &[
                "vault", "rotate", "--level", level, "--keep", "1h", "-o", "json",
            ],
        );
        let begun: Value = serde_json::from_str(&begun.out).expect("pure JSON");
        let id = begun["id"].as_str().expect("an id").to_owned();
        let root = level == "root";
        kill_until(&mut server, (root, &id), &["kept"]).await;
        assert_eq!(settled(&server, &id).await, "kept");
        read_some(&server).await;
        let order = if level == "workspace" {
            "rollback"
        } else {
            "finish"
        };
        let mut args = vec!["vault", order, &id, "--yes"];
        if root {
            args.push("--root");
        }
        let ordered = skep(&server, &args);
        assert_eq!(ordered.code, Some(0), "{}", ordered.err);
        kill_until(&mut server, (root, &id), &["done", "returned"]).await;
        let over = if level == "workspace" {
            "returned"
        } else {
            "done"
        };
        assert_eq!(settled(&server, &id).await, over);
        read_some(&server).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_servers_have_one_vault() {
    let postgres = Postgres::start();
    let seal = TempDir::new().expect("a folder");
    let file = seal.path().join("seal.key");
    let on = |key: Option<String>| {
        let mut setup = crate::postgres::on(&postgres);
        let path = file.to_str().expect("text").to_owned();
        setup.env.push(("SKEP_SEAL_FILE".to_owned(), path));
        Setup { key, ..setup }
    };
    let one = Server::start_with(on(None)).await;
    let two = Server::start_with(on(Some(one.client.key.clone()))).await;
    create(&one, "stripe", MARK).await;
    assert_eq!(reveal(&two.client, "stripe").await.json()["value"], MARK);
    let wish = json!({ "level": "workspace" });
    let begun = two
        .client
        .post_json("/api/v1/secret-rotations", &wish)
        .await;
    assert_eq!(begun.status, 202, "{}", begun.text());
    let begun = begun.json();
    let id = begun["id"].as_str().expect("an id").to_owned();
    create(&one, "meanwhile", "made by one").await;
    assert_eq!(settled(&one, &id).await, "kept");
    let finished = skep(&one, &["vault", "finish", &id, "--yes"]);
    assert_eq!(finished.code, Some(0), "{}", finished.err);
    assert_eq!(settled(&two, &id).await, "done");
    for server in [&one, &two] {
        assert_eq!(reveal(&server.client, "stripe").await.json()["value"], MARK);
        let shown = reveal(&server.client, "meanwhile").await;
        assert_eq!(shown.json()["value"], "made by one");
    }
    let rotated = skep(&one, &["vault", "rotate", "--level", "root", "-o", "json"]);
    let rotated: Value = serde_json::from_str(&rotated.out).expect("pure JSON");
    let id = rotated["id"].as_str().expect("an id").to_owned();
    assert_eq!(settled(&two, &id).await, "kept");
    assert_eq!(reveal(&two.client, "stripe").await.json()["value"], MARK);
}

/// Every file below a folder.
fn files(folder: &Path, found: &mut Vec<std::path::PathBuf>) {
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        let path = entry.path();
        match entry.file_type() {
            Ok(kind) if kind.is_dir() => files(&path, found),
            Ok(kind) if kind.is_file() => found.push(path),
            _ => {}
        }
    }
}

/// Looks through every file of a folder for the value and the name; tells how many bytes there were.
fn without_marks(folder: &Path) -> usize {
    let mut all = Vec::new();
    files(folder, &mut all);
    let mut bytes = 0;
    for file in all {
        let content = fs::read(&file).unwrap_or_default();
        bytes += content.len();
        for mark in [MARK.as_bytes(), b"marked/name"] {
            let found = content.windows(mark.len()).any(|it| it == mark);
            let mark = String::from_utf8_lossy(mark);
            assert!(!found, "{mark} is in {}", file.display());
        }
    }
    bytes
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_value_is_where_it_should_not_be() {
    let mut server = Server::start().await;
    create(&server, "marked/name", MARK).await;
    reveal(&server.client, "marked/name").await;
    let path = "/api/v1/secrets/marked%2Fname";
    let put = json!({ "value": format!("{MARK}-2") });
    server
        .client
        .post_json(&format!("{path}/versions"), &put)
        .await;
    // Whatever is wrong with a wish, the answer does not say the value back.
    let mut answers = Vec::new();
    for wrong in [
        json!({ "value": MARK, "follows": 99 }),
        json!({ "value": MARK, "generate": "key" }),
        json!({ "value": MARK, "unknown": 1 }),
        json!({ "value": MARK, "ttl": MARK }),
        json!({ "value_base64": format!("{MARK}!") }),
        json!({ "value": [MARK] }),
    ] {
        let answer = server
            .client
            .post_json(&format!("{path}/versions"), &wrong)
            .await;
        assert!(answer.status >= 400, "{}", answer.text());
        answers.push((wrong.to_string(), answer.text()));
    }
    for asked in ["", "/versions", "/leases", "/shares"] {
        answers.push((
            asked.to_owned(),
            server.client.get(&format!("{path}{asked}")).await.text(),
        ));
    }
    for asked in [
        "/metrics",
        "/api/v1/events",
        "/api/v1/audit/entries",
        "/api/v1/health/detailed",
    ] {
        answers.push((asked.to_owned(), server.client.get(asked).await.text()));
    }
    for (asked, answer) in &answers {
        // Of a duration that is none it may say what was written there: that is no value.
        let names_ttl = asked.contains("\"ttl\"");
        assert!(names_ttl || !answer.contains(MARK), "{asked}: {answer}");
    }
    let begun = skep(
        &server,
        &["vault", "rotate", "--level", "data", "-o", "json"],
    );
    let begun: Value = serde_json::from_str(&begun.out).expect("pure JSON");
    settled(&server, begun["id"].as_str().expect("an id")).await;
    let made = skep(&server, &["backup", "create"]);
    assert_eq!(made.code, Some(0), "{}", made.err);
    let log = server.log();
    assert!(!log.contains(MARK), "{log}");
    assert!(server.terminate());
    let bytes = without_marks(&server.data());
    assert!(bytes > 50_000, "{bytes}");
    server.restart_as_it_was().await;
    assert_eq!(
        reveal(&server.client, "marked/name").await.json()["value"],
        format!("{MARK}-2")
    );
}
