//! Backups of a server that serves, brought back on an empty folder and compared; and the store's
//! move from one engine to the other and back.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use http::{HeaderValue, Method};
use serde_json::{Value, json};
use skep_tests::postgres::Postgres;
use skep_tests::server::skep_binary;
use skep_tests::{Client, Server, Setup, eventually};
use tempfile::TempDir;

/// Clients that call while the backup is made.
const CLIENTS: usize = 8;
/// A body that is too large for a row.
const LARGE: usize = 40_000;

/// The CLI without a server.
fn skep(args: &[&str], env: &[(&str, &str)]) -> Output {
    Command::new(skep_binary())
        .args(args)
        .current_dir("/")
        .env_clear()
        .env("HOME", "/nonexistent")
        .env("PATH", std::env::var_os("PATH").unwrap_or_default())
        .envs(env.iter().copied())
        .output()
        .expect("it runs")
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

fn text(path: &Path) -> &str {
    path.to_str().expect("UTF-8")
}

/// Runs it and expects that it goes well; what it printed as JSON.
fn well(args: &[&str], env: &[(&str, &str)]) -> Value {
    let output = skep(&[args, &["-o", "json"]].concat(), env);
    assert!(output.status.success(), "{args:?}: {}", said(&output));
    serde_json::from_slice(&output.stdout).unwrap_or(Value::Null)
}

fn badly(args: &[&str], env: &[(&str, &str)], words: &str) {
    let output = skep(args, env);
    assert_eq!(output.status.code(), Some(1), "{args:?}: {}", said(&output));
    assert!(said(&output).contains(words), "{args:?}: {}", said(&output));
    assert!(
        said(&output).contains("hint:"),
        "{args:?}: {}",
        said(&output)
    );
}

/// Makes a backup of the server; its file.
async fn backup(server: &Server, wanted: Value) -> PathBuf {
    let begun = server.client.post_json("/api/v1/backups", &wanted).await;
    assert_eq!(begun.status, 202, "{}", begun.text());
    let name = begun.json()["name"].as_str().expect("a name").to_owned();
    eventually("a backup", async || {
        let path = format!("/api/v1/backups/{name}");
        let backup = server.client.get(&path).await.json();
        assert_ne!(backup["state"], "failed", "{backup}");
        (backup["state"] == "done").then_some(())
    })
    .await;
    server.data().join("backups").join(name)
}

/// One call that was answered.
#[derive(Debug, Clone)]
struct Answered {
    call: String,
    agent: &'static str,
    body: String,
}

/// Calls until it is told to stop; tells what was answered.
async fn caller(client: Client, number: usize, stop: Arc<AtomicBool>) -> Vec<Answered> {
    let mut answered = Vec::new();
    for count in 0.. {
        if stop.load(Ordering::Acquire) {
            break;
        }
        let agent = ["work", "once"][number % 2];
        let body = match count % 8 {
            0 => format!("{number}-{count}-").repeat(LARGE / 4),
            _ => format!("{number}-{count}"),
        };
        let path = format!("/agents/{agent}/{agent}");
        let mut request = client.request(Method::POST, &path, body.clone());
        let key = HeaderValue::try_from(format!("key-{number}-{count}")).expect("a key");
        request.headers_mut().insert("idempotency-key", key);
        let answer = client.send(request).await.expect("an answer");
        assert_eq!(answer.status, 200, "{}", answer.text());
        assert_eq!(answer.text(), body);
        answered.push(Answered {
            call: answer.call(),
            agent,
            body,
        });
    }
    answered
}

/// Rows of each table of a database file, but for those that are of one server's life only.
fn rows(file: &Path) -> BTreeMap<String, u64> {
    let database = rusqlite::Connection::open(file).expect("a database");
    let mut names = database
        .prepare(
            "SELECT name FROM sqlite_master WHERE type = 'table' \
             AND name NOT IN ('migrations', 'servers', 'blob_parts')",
        )
        .expect("a statement");
    let names: Vec<String> = names
        .query_map([], |row| row.get(0))
        .expect("names")
        .collect::<Result<_, _>>()
        .expect("names");
    let count = |name: &String| {
        let sql = format!("SELECT COUNT(*) FROM {name}");
        let count: i64 = database
            .query_row(&sql, [], |row| row.get(0))
            .expect("a count");
        (name.clone(), u64::try_from(count).expect("a count"))
    };
    names.iter().map(count).collect()
}

/// What a verified backup says of its tables.
fn told(summary: &Value) -> BTreeMap<String, u64> {
    let tables = summary["totals"]["tables"].as_object().expect("tables");
    let rows = |of: &Value| of["rows"].as_u64().expect("a count");
    tables
        .iter()
        .map(|(name, of)| (name.clone(), rows(of)))
        .collect()
}

/// A server with a call that runs for long, and one that waits for a stopped agent.
async fn furnish(server: &Server) -> (String, String) {
    for agent in ["work", "once", "slow", "stopped"] {
        server.deploy(agent, json!({})).await;
    }
    let stopped = server.client.post("/api/v1/agents/stopped/stop", "").await;
    assert!(stopped.status < 300, "{}", stopped.text());
    let call = async |path: &str| {
        let mut request = server.client.request(Method::POST, path, "later");
        let prefer = HeaderValue::from_static("respond-async");
        request.headers_mut().insert("prefer", prefer);
        let answer = server.client.send(request).await.expect("an answer");
        assert_eq!(answer.status, 202, "{}", answer.text());
        answer.call()
    };
    let running = call("/agents/slow/work?ms=5000").await;
    server.wait_call(&running, "running").await;
    (running, call("/agents/stopped/work").await)
}

async fn under_load(wanted: Value, env: &[(&str, &str)]) {
    let server = Server::start().await;
    let (running, waiting) = furnish(&server).await;
    fs::write(server.home("work").join("notes"), "kept").expect("a file");
    let stop = Arc::new(AtomicBool::new(false));
    let begin = |number| tokio::spawn(caller(server.client.clone(), number, stop.clone()));
    let calling: Vec<_> = (0..CLIENTS).map(begin).collect();
    let some = eventually("some calls", async || {
        let page = server
            .client
            .get("/api/v1/calls?state=succeeded&limit=1000")
            .await
            .json();
        let items = page["items"].as_array().cloned().unwrap_or_default();
        (items.len() > 100).then_some(items)
    })
    .await;
    // All of these are acknowledged before the backup begins.
    let before: Vec<String> = some
        .iter()
        .map(|call| call["id"].as_str().unwrap_or_default().to_owned())
        .collect();
    let file = backup(&server, wanted).await;
    stop.store(true, Ordering::Release);
    let mut answered = BTreeMap::new();
    for task in calling {
        for one in task.await.expect("a client ends well") {
            answered.insert(one.call.clone(), one);
        }
    }
    assert!(answered.len() > before.len(), "calls went on meanwhile");
    // Nothing but the file leaves the machine.
    let folder = TempDir::new().expect("a folder");
    let kept = folder.path().join("kept.backup");
    fs::copy(&file, &kept).expect("a copy");
    drop(server);

    let summary = well(&["backup", "verify", text(&kept)], env);
    let data = folder.path().join("data");
    well(
        &["backup", "restore", text(&kept), "--data-dir", text(&data)],
        env,
    );
    let mut expected = told(&summary);
    if env.is_empty() {
        // The first key is in encrypted backups only: there is a new one.
        *expected.get_mut("api_keys").expect("keys") += 1;
    }
    assert_eq!(rows(&data.join("skep.db")), expected);
    compare(folder, &summary, &before, &answered, &running, &waiting).await;
}

async fn compare(
    folder: TempDir,
    summary: &Value,
    before: &[String],
    answered: &BTreeMap<String, Answered>,
    running: &str,
    waiting: &str,
) {
    let server = Server::start_in(folder, Setup::default()).await;
    for id in before {
        assert_eq!(server.call(id).await["state"], "succeeded", "{id}");
        let response = server
            .client
            .get(&format!("/api/v1/calls/{id}/response"))
            .await;
        let expected = &answered[id];
        assert_eq!(response.text(), expected.body, "{id}");
        let executed = server.executed(expected.agent);
        assert!(
            executed.iter().any(|(_, body)| *body == expected.body),
            "{id}"
        );
    }
    let notes = fs::read_to_string(server.home("work").join("notes")).expect("a file");
    assert_eq!(notes, "kept");
    for agent in ["work", "once", "slow"] {
        server.wait_state(agent, "ready").await;
        assert_eq!(server.post(agent, "/work", "again").await.text(), "again");
    }
    assert_eq!(server.agent("stopped").await["state"], "stopped");
    assert_eq!(server.call(waiting).await["state"], "accepted");
    let started = server.client.post("/api/v1/agents/stopped/start", "").await;
    assert!(started.status < 300, "{}", started.text());
    server.wait_call(waiting, "succeeded").await;
    let replayed = server.wait_call(running, "succeeded").await;
    assert_eq!(replayed["attempts"], 2, "{replayed}");
    // The same key gets the same answer, as if nothing had happened.
    let one = &answered[&before[0]];
    let call = server.call(&one.call).await;
    let path = format!("/agents/{0}/{0}", one.agent);
    let mut request = server.client.request(Method::POST, &path, one.body.clone());
    let key = call["idempotency_key"].as_str().expect("a key");
    let key = HeaderValue::try_from(key).expect("a key");
    request.headers_mut().insert("idempotency-key", key);
    let again = server.client.send(request).await.expect("an answer");
    assert_eq!(
        (again.call(), again.text()),
        (one.call.clone(), one.body.clone())
    );
    let epoch = summary["manifest"]["epoch"].as_i64().expect("an epoch");
    let database = rusqlite::Connection::open(server.data().join("skep.db")).expect("a database");
    let sql = "SELECT value FROM server_state WHERE name = 'epoch'";
    let now: i64 = database
        .query_row(sql, [], |row| row.get(0))
        .expect("an epoch");
    assert!(
        now > epoch + 1_000,
        "the epoch goes on rising: {epoch}, {now}"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_backed_up_under_load_comes_back() {
    under_load(json!({}), &[]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_backed_up_encrypted_under_load_comes_back() {
    let passphrase = "correct horse battery staple";
    let env = [("SKEP_BACKUP_PASSPHRASE", passphrase)];
    under_load(json!({ "passphrase": passphrase }), &env).await;
}

#[tokio::test]
async fn what_cannot_be_restored_is_refused_and_leaves_nothing() {
    let server = Server::start().await;
    server.deploy("a", json!({})).await;
    server.post("a", "/work", &"x".repeat(LARGE)).await;
    let plain = backup(&server, json!({})).await;
    let sealed = backup(&server, json!({ "passphrase": "correct horse battery" })).await;
    let key = fs::read(server.data().join("admin.key")).expect("the key");
    let holds = |file: &Path| {
        let bytes = fs::read(file).expect("a backup");
        bytes.windows(key.len()).any(|part| part == key)
    };
    assert!(!holds(&plain) && !holds(&sealed), "no key can be read");
    let folder = TempDir::new().expect("a folder");
    let data = folder.path().join("data");
    let restore = |file: &Path| {
        ["backup", "restore", text(file), "--data-dir", text(&data)].map(str::to_owned)
    };
    let refused = |file: &Path, env: &[(&str, &str)], words: &str| {
        let args = restore(file);
        badly(&args.each_ref().map(String::as_str), env, words);
        let left = fs::read_dir(&data).map_or(0, Iterator::count);
        assert_eq!(left, 0, "{words}");
    };
    refused(&sealed, &[], "it is encrypted");
    let wrong = [("SKEP_BACKUP_PASSPHRASE", "another passphrase")];
    refused(&sealed, &wrong, "the passphrase is not the one");
    let bytes = fs::read(&plain).expect("a backup");
    let damaged = folder.path().join("damaged");
    for length in [0, 10, 15, 1_000, bytes.len() / 2, bytes.len() - 1] {
        fs::write(&damaged, &bytes[..length]).expect("a file");
        let words = if length < 12 {
            "not a backup"
        } else {
            "cut short"
        };
        refused(&damaged, &[], words);
        badly(&["backup", "verify", text(&damaged)], &[], words);
    }
    let mut flipped = bytes.clone();
    flipped[bytes.len() - 2_000] ^= 1;
    fs::write(&damaged, &flipped).expect("a file");
    refused(&damaged, &[], "damaged");

    // What a restore leaves that was killed: no server starts on it, and the next one begins anew.
    fs::write(data.join("restore.incomplete"), "").expect("a file");
    fs::write(data.join("skep.db"), "half").expect("a file");
    let up = skep(
        &["up", "--listen", "127.0.0.1:0", "--data", text(&data)],
        &[],
    );
    assert!(said(&up).contains("restored by half"), "{}", said(&up));
    let args = restore(&plain);
    let args = args.each_ref().map(String::as_str);
    well(&args, &[]);
    badly(&args, &[], "is not empty");
    assert!(!data.join("restore.incomplete").exists());
}

#[tokio::test]
async fn a_server_that_is_killed_while_it_makes_a_backup_leaves_none() {
    let mut server = Server::start().await;
    server.deploy("a", json!({})).await;
    // Large enough to take a while, and no disk.
    let large = fs::File::create(server.home("a").join("large")).expect("a file");
    large.set_len(1 << 30).expect("a size");
    let begun = server.client.post_json("/api/v1/backups", &json!({})).await;
    assert_eq!(begun.status, 202);
    let twice = server.client.post_json("/api/v1/backups", &json!({})).await;
    assert_eq!(
        (twice.status, twice.code().as_str()),
        (409, "backup-running")
    );
    let folder = server.data().join("backups");
    let size = || {
        let entries = fs::read_dir(&folder).into_iter().flatten().flatten();
        let sizes = entries.filter_map(|entry| entry.metadata().ok());
        sizes.map(|about| about.len()).sum::<u64>()
    };
    eventually("a part of a backup", async || {
        (size() > 1 << 20).then_some(())
    })
    .await;
    server.kill();
    assert!(size() < 1 << 30, "it was not done");
    let listed = well(&["backup", "list", "--in", text(&folder)], &[]);
    assert_eq!(listed, json!([]));
    server.restart().await;
    assert_eq!(fs::read_dir(&folder).map_or(0, Iterator::count), 0);
    server.wait_state("a", "ready").await;
    // One that ends in good order does not wait for it.
    let begun = server.client.post_json("/api/v1/backups", &json!({})).await;
    assert_eq!(begun.status, 202);
    eventually("a part of a backup", async || {
        (size() > 1 << 20).then_some(())
    })
    .await;
    assert!(server.terminate());
    assert_eq!(fs::read_dir(&folder).map_or(0, Iterator::count), 0);
}

/// A file system that is soon full.
struct Small(TempDir);

impl Small {
    fn mount(size: &str) -> Self {
        let folder = TempDir::new().expect("a folder");
        let mounted = Command::new("mount")
            .args(["-t", "tmpfs", "-o", size, "skep-test"])
            .arg(folder.path())
            .status();
        assert!(
            mounted.is_ok_and(|status| status.success()),
            "needs to be root"
        );
        Self(folder)
    }
}

impl Drop for Small {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg(self.0.path()).status();
    }
}

#[tokio::test]
async fn a_full_disk_fails_the_backup_and_not_the_server() {
    let small = Small::mount("size=1m");
    let server = Server::start_with(Setup {
        env: vec![
            (
                "SKEP_BACKUP_TO".to_owned(),
                small.0.path().display().to_string(),
            ),
            ("SKEP_DISK_MIN_FREE".to_owned(), "0".to_owned()),
        ],
        ..Setup::default()
    })
    .await;
    server.deploy("a", json!({})).await;
    fs::write(server.home("a").join("large"), vec![1; 4 << 20]).expect("a file");
    let begun = server.client.post_json("/api/v1/backups", &json!({})).await;
    let path = format!(
        "/api/v1/backups/{}",
        begun.json()["name"].as_str().expect("a name")
    );
    let failed = eventually("a failure", async || {
        let backup = server.client.get(&path).await.json();
        (backup["state"] == "failed").then_some(backup)
    })
    .await;
    assert!(
        failed["reason"]
            .as_str()
            .is_some_and(|why| why.contains("space")),
        "{failed}"
    );
    assert_eq!(fs::read_dir(small.0.path()).map_or(9, Iterator::count), 0);
    assert_eq!(server.post("a", "/work", "on").await.text(), "on");
    let health = server.client.get("/api/v1/health/detailed").await.json();
    let checks = health["checks"].as_array().cloned().unwrap_or_default();
    let of_backup = checks.iter().find(|check| check["name"] == "backup");
    assert_eq!(
        of_backup.expect("a check")["status"],
        "degraded",
        "{health}"
    );
    let metrics = server.client.get("/metrics").await.text();
    assert!(
        metrics.contains("skep_backups_total{outcome=\"failed\"} 1"),
        "{metrics}"
    );
    // There is room again.
    fs::remove_file(server.home("a").join("large")).expect("a file");
    let begun = server.client.post_json("/api/v1/backups", &json!({})).await;
    let path = format!(
        "/api/v1/backups/{}",
        begun.json()["name"].as_str().expect("a name")
    );
    eventually("a backup", async || {
        (server.client.get(&path).await.json()["state"] == "done").then_some(())
    })
    .await;
}

#[tokio::test]
async fn backups_are_made_by_the_schedule_and_the_newest_stay() {
    let env = [
        ("EVERY", "300ms"),
        ("KEEP", "2"),
        ("PASSPHRASE", "correct horse battery"),
    ];
    let env = env.map(|(name, value)| (format!("SKEP_BACKUP_{name}"), value.to_owned()));
    let server = Server::start_with(Setup {
        env: env.to_vec(),
        ..Setup::default()
    })
    .await;
    server.deploy("a", json!({})).await;
    let made = async || {
        let metrics = server.client.get("/metrics").await.text();
        let line = metrics
            .lines()
            .find_map(|line| line.strip_prefix("skep_backups_total{outcome=\"done\"} "));
        line.and_then(|count| count.parse::<u32>().ok())
            .unwrap_or(0)
    };
    eventually("four backups", async || (made().await >= 4).then_some(())).await;
    // One that goes while the list is made is in it no more.
    let (list, done) = eventually("the newest", async || {
        let list = server.client.get("/api/v1/backups").await.json();
        let mut done = list["items"].as_array().cloned().unwrap_or_default();
        done.retain(|backup| backup["state"] == "done");
        assert!(done.len() <= 3, "{list}");
        (done.len() >= 2).then_some((list, done))
    })
    .await;
    assert!(
        done.iter().all(|backup| backup["encrypted"] == true),
        "{list}"
    );
    let nobody = server
        .client
        .get("/api/v1/backups/skep-nobody.backup/content")
        .await;
    assert_eq!(nobody.code(), "backup-not-found");
    let refused = server
        .client
        .post_json("/api/v1/backups", &json!({ "passphrase": "x" }))
        .await;
    assert_eq!(refused.code(), "bad-request");
}

#[tokio::test]
async fn the_cli_fetches_a_backup_over_the_network() {
    let server = Server::start().await;
    server.deploy("a", json!({})).await;
    server.post("a", "/work", &"x".repeat(LARGE)).await;
    let to = TempDir::new().expect("a folder");
    let made = crate::cli::command(&server, &["backup", "create", "--to", text(to.path())])
        .output()
        .expect("it runs");
    assert!(made.status.success(), "{}", said(&made));
    let listed = well(&["backup", "list", "--in", text(to.path())], &[]);
    let name = listed[0]["name"].as_str().expect("a name");
    let own = fs::read(server.data().join("backups").join(name)).expect("the server's");
    assert!(own == fs::read(to.path().join(name)).expect("the copy"));
    well(&["backup", "verify", text(&to.path().join(name))], &[]);
}

fn moved(data: &Path, from: &str, to: &str) -> Value {
    well(
        &[
            "store",
            "migrate",
            "--from",
            from,
            "--to",
            to,
            "--data",
            text(data),
        ],
        &[],
    )
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_store_moves_to_the_other_engine_and_back() {
    let postgres = Postgres::start();
    let mut server = Server::start().await;
    server.deploy("a", json!({})).await;
    let answer = server.post("a", "/work", &"x".repeat(LARGE)).await;
    for body in ["one", "zwei \u{1f41d}", ""] {
        server.post("a", "/work", body).await;
    }
    let data = server.data();
    let to = postgres.url();
    let args = [
        "store",
        "migrate",
        "--from",
        "sqlite",
        "--to",
        &to,
        "--data",
        text(&data),
    ];
    badly(&args, &[], "is in use by");
    assert!(server.terminate());
    let there = moved(&data, "sqlite", &to);
    let calls = there
        .as_array()
        .expect("tables")
        .iter()
        .find(|table| table["table"] == "calls");
    assert_eq!(calls.expect("calls")["rows"], 4);
    badly(&args, &[], "is not empty");
    // What it was copied from is as it was.
    let other = Postgres::start();
    assert_eq!(moved(&data, "sqlite", &other.url()), there);

    // The log that moved is signed by the key that it had.
    fs::copy(server.data().join("audit.key"), postgres.audit_key()).expect("a key");
    server.restart_with(crate::postgres::on(&postgres)).await;
    assert_eq!(server.call(&answer.call()).await["state"], "succeeded");
    server.wait_state("a", "ready").await;
    let on_postgres = server.post("a", "/work", "on PostgreSQL").await;
    assert_eq!(on_postgres.text(), "on PostgreSQL");
    assert!(server.terminate());

    let back = [
        "store",
        "migrate",
        "--from",
        &to,
        "--to",
        "sqlite",
        "--data",
        text(&data),
    ];
    badly(&back, &[], "is not empty");
    fs::rename(data.join("skep.db"), data.join("skep.db.old")).expect("moved away");
    let address = data.join("address");
    fs::write(&address, format!("{to}\n")).expect("a file");
    let back = moved(&data, &format!("@{}", text(&address)), "sqlite");
    fs::rename(data.join("skep.db"), data.join("skep.db.new")).expect("moved away");
    let again = Postgres::start();
    fs::rename(data.join("skep.db.new"), data.join("skep.db")).expect("moved back");
    assert_eq!(
        moved(&data, "sqlite", &again.url()),
        back,
        "there and back is the same"
    );
    server.restart().await;
    for answer in [&answer, &on_postgres] {
        let path = format!("/api/v1/calls/{}/response", answer.call());
        assert_eq!(server.client.get(&path).await.text(), answer.text());
    }
    server.wait_state("a", "ready").await;
    assert_eq!(server.post("a", "/work", "back").await.text(), "back");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_backup_made_on_the_one_engine_comes_back_on_the_other() {
    let postgres = Postgres::start();
    let server = Server::start_with(crate::postgres::on(&postgres)).await;
    server.deploy("a", json!({})).await;
    let call = server.post("a", "/work", &"x".repeat(LARGE)).await.call();
    let file = backup(&server, json!({})).await;
    let folder = TempDir::new().expect("a folder");
    let data = folder.path().join("data");
    let restore = ["backup", "restore", text(&file), "--data-dir", text(&data)];
    well(&restore, &[]);
    let on_sqlite = Server::start_in(folder, Setup::default()).await;
    assert_eq!(on_sqlite.call(&call).await["state"], "succeeded");

    let folder = TempDir::new().expect("a folder");
    let data = folder.path().join("data");
    let empty = Postgres::start();
    let (full, url) = (postgres.url(), empty.url());
    let onto = |store| {
        let restore = ["backup", "restore", text(&file), "--data-dir", text(&data)];
        [&restore[..], &["--store", store]].concat()
    };
    badly(&onto(&full), &[], "is in use by");
    well(&onto(&url), &[]);
    let on_postgres = Server::start_in(folder, crate::postgres::on(&empty)).await;
    assert_eq!(on_postgres.call(&call).await["state"], "succeeded");
}

/// A service that speaks as S3 does.
struct Moto {
    child: std::process::Child,
    url: String,
}

impl Moto {
    async fn start(bucket: &str) -> Self {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
        let port = listener.local_addr().expect("an address").port();
        drop(listener);
        let child = Command::new("python3")
            .args([
                "-m",
                "moto.server",
                "-H",
                "127.0.0.1",
                "-p",
                &port.to_string(),
            ])
            .stdin(std::process::Stdio::null())
            .stdout(std::process::Stdio::null())
            .stderr(std::process::Stdio::null())
            .spawn()
            .expect("install it first: cargo xtask set-up test");
        let url = format!("http://127.0.0.1:{port}");
        let client = Client::new(&url, "");
        eventually("a bucket", async || {
            let mut request = client.request(Method::PUT, &format!("/{bucket}"), "");
            // It takes every key, but wants it written as S3 does.
            request.headers_mut().remove("authorization");
            let made = client.send(request).await.ok()?;
            (made.status == 200).then_some(())
        })
        .await;
        Self { child, url }
    }
}

impl Drop for Moto {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[tokio::test]
async fn backups_go_into_a_bucket_and_come_back_from_it() {
    let moto = Moto::start("backups").await;
    let env = [
        ("SKEP_BACKUP_BUCKET", "s3://backups/one"),
        ("SKEP_BACKUP_ENDPOINT", moto.url.as_str()),
        ("SKEP_BACKUP_ACCESS_KEY", "somebody"),
        ("SKEP_BACKUP_SECRET_KEY", "something"),
        ("SKEP_BACKUP_KEEP", "2"),
    ];
    let owned = env.map(|(name, value)| (name.to_owned(), value.to_owned()));
    let server = Server::start_with(Setup {
        env: owned.to_vec(),
        ..Setup::default()
    })
    .await;
    server.deploy("a", json!({})).await;
    let call = server.post("a", "/work", &"x".repeat(LARGE)).await.call();
    // More than one part of an upload.
    let random: Vec<u8> = std::iter::repeat_with(|| fastrand::u8(..))
        .take(20 << 20)
        .collect();
    fs::write(server.home("a").join("large"), &random).expect("a file");
    for _ in 0..3 {
        backup(&server, json!({})).await;
    }
    let listed = well(&["backup", "list", "--in", "s3://backups/one"], &env);
    let names: Vec<&str> = listed
        .as_array()
        .expect("a list")
        .iter()
        .filter_map(|it| it["name"].as_str())
        .collect();
    assert_eq!(names.len(), 2, "the oldest went: {listed}");
    let folder = TempDir::new().expect("a folder");
    let data = folder.path().join("data");
    let file = format!("s3://backups/one/{}", names[0]);
    well(&["backup", "verify", &file], &env);
    well(
        &["backup", "restore", &file, "--data-dir", text(&data)],
        &env,
    );
    assert_eq!(
        fs::read_dir(folder.path()).map_or(0, Iterator::count),
        1,
        "no copy stays"
    );
    let restored = Server::start_in(folder, Setup::default()).await;
    assert_eq!(restored.call(&call).await["state"], "succeeded");
    assert!(fs::read(restored.home("a").join("large")).expect("a file") == random);
    badly(
        &["backup", "verify", "s3://backups/one/nothing"],
        &env,
        "the bucket",
    );
}

#[tokio::test]
async fn a_bucket_that_is_away_fails_the_backup_and_not_the_server() {
    let env = [
        ("SKEP_BACKUP_BUCKET", "s3://backups/one"),
        ("SKEP_BACKUP_ENDPOINT", "http://127.0.0.1:1"),
        ("SKEP_BACKUP_ACCESS_KEY", "somebody"),
        ("SKEP_BACKUP_SECRET_KEY", "something-secret"),
    ];
    let env = env.map(|(name, value)| (name.to_owned(), value.to_owned()));
    let server = Server::start_with(Setup {
        env: env.to_vec(),
        ..Setup::default()
    })
    .await;
    let begun = server.client.post_json("/api/v1/backups", &json!({})).await;
    let path = format!(
        "/api/v1/backups/{}",
        begun.json()["name"].as_str().expect("a name")
    );
    let failed = eventually("a failure", async || {
        let backup = server.client.get(&path).await.json();
        (backup["state"] == "failed").then_some(backup)
    })
    .await;
    let why = failed["reason"].as_str().unwrap_or_default();
    assert!(why.contains("in the server's folder only"), "{failed}");
    assert!(
        !server.log().contains("something-secret"),
        "no secret is logged"
    );
    server.deploy("b", json!({})).await;
}
