//! The CLI as its user sees it: every line of the README's tour, compared with what it must print.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

use serde_json::{Value, json};
use skep_tests::Server;
use skep_tests::server::skep_binary;

/// What a command printed, with what differs from run to run replaced.
pub(crate) struct Said {
    pub(crate) code: Option<i32>,
    pub(crate) out: String,
    pub(crate) err: String,
}

/// Replaces identifiers, times and ages, which are different every time.
fn steady(text: &str) -> String {
    let word = |word: &str| -> String {
        let id = ["call_", "agt_", "ins_", "req_"]
            .iter()
            .find(|prefix| word.starts_with(**prefix));
        let is_age = word.len() < 5
            && word.ends_with('s')
            && word
                .trim_end_matches('s')
                .bytes()
                .all(|byte| byte.is_ascii_digit())
            && word.len() > 1;
        match id {
            Some(prefix) => format!("{prefix}ID"),
            None if is_age => "AGE".to_owned(),
            None => word.to_owned(),
        }
    };
    let line = |line: &str| -> String {
        let words: Vec<String> = line.split_whitespace().map(word).collect();
        words.join(" ")
    };
    text.lines().map(line).collect::<Vec<_>>().join("\n")
}

/// The CLI in the root of the repository, against this server.
pub(crate) fn command(server: &Server, args: &[&str]) -> Command {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .expect("a root");
    let mut command = Command::new(skep_binary());
    command
        .arg("--server")
        .arg(&server.client.url)
        .arg("--data")
        .arg(server.data())
        .args(args)
        .current_dir(root)
        .env_clear()
        .env("PATH", std::env::var_os("PATH").unwrap_or_default())
        .env("HOME", server.data())
        .stdin(Stdio::null());
    command
}

pub(crate) fn skep(server: &Server, args: &[&str]) -> Said {
    let output = command(server, args).output().expect("the binary runs");
    Said {
        code: output.status.code(),
        out: steady(&String::from_utf8_lossy(&output.stdout)),
        err: steady(&String::from_utf8_lossy(&output.stderr)),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_tour_of_the_readme() {
    let server = Server::start().await;
    let python = "python3 examples/agents/hello/agent.py";
    let deploy = skep(&server, &["deploy", "hello", "--command", python]);
    assert_eq!(
        (deploy.code, deploy.out.as_str()),
        (
            Some(0),
            "hello is deployed and ready.\nSend it a request with `skep call hello /PATH -d BODY`."
        ),
        "{}",
        deploy.err
    );
    let call = skep(
        &server,
        &["call", "hello", "/greet", "-d", r#"{"name":"world"}"#],
    );
    assert_eq!(
        (call.code, call.out.as_str()),
        (Some(0), r#"{"greeting": "hello, world"}"#)
    );
    let calls = skep(&server, &["calls", "list"]);
    assert_eq!(
        calls.out,
        "ID AGENT STATE STATUS TRIES AGE REQUEST\n\
         call_ID hello succeeded 200 1 AGE POST /greet"
    );
    let list = skep(&server, &["list"]);
    assert_eq!(
        list.out,
        "NAME STATE READY REVISION RESTARTS WAITING RUNNING DEAD AGE\n\
         hello ready 1/1 1 0 0 0 0 AGE"
    );
    let mixture = "examples/benchmark/mixture.yaml";
    let load = [
        "benchmark",
        "hello",
        "--scenario",
        mixture,
        "-n",
        "20",
        "-q",
    ];
    let load = skep(&server, &load);
    assert_eq!(load.code, Some(0), "{}", load.err);
    assert!(load.out.contains("Success 100%"), "{}", load.out);
    let logs = skep(&server, &["logs", "hello", "--filter", "ready"]);
    assert_eq!(logs.out, "hello is ready\n[skep] ready");
    let json = skep(&server, &["-o", "json", "inspect", "hello"]);
    let agent: Value = serde_json::from_str(&json.out).expect("pure JSON");
    assert_eq!(
        (&agent["name"], &agent["state"]),
        (&json!("hello"), &json!("ready"))
    );
    let names = skep(&server, &["-o", "name", "list"]);
    assert_eq!(names.out, "hello");
    let removed = skep(&server, &["remove", "hello", "--yes"]);
    assert_eq!(
        (removed.code, removed.out.as_str()),
        (Some(0), "hello is removed.")
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_goes_wrong_is_said_with_the_next_thing_to_do() {
    let server = Server::start().await;
    server.deploy("hello", json!({ "attempts": 1 })).await;
    let unknown = skep(&server, &["call", "helo", "/x", "-d", "1"]);
    assert_eq!(
        (unknown.code, unknown.err.as_str()),
        (
            Some(1),
            "error: no agent is called `helo`\nhint: Did you mean `hello`?"
        )
    );
    let unsure = skep(&server, &["remove", "hello"]);
    assert_eq!(unsure.code, Some(2), "{}", unsure.err);
    assert!(unsure.err.contains("--yes"), "{}", unsure.err);
    let dead = skep(&server, &["call", "hello", "/flaky?fails=9", "-d", "1"]);
    assert_eq!(dead.code, Some(5), "{}", dead.err);
    let list = skep(&server, &["calls", "dead"]);
    assert_eq!(
        list.out,
        "ID AGENT STATE STATUS TRIES AGE REQUEST\n\
         call_ID hello dead - 1 AGE POST /flaky?fails=9"
    );
    let redriven = skep(&server, &["calls", "redrive", "--all", "--yes"]);
    assert_eq!(redriven.code, Some(0), "{}", redriven.err);
    fs::write(server.data().join("skep.toml"), "lisen = 1\n").expect("a file");
    let file = server.data().join("skep.toml").display().to_string();
    let config = skep(&server, &["--config", &file, "config", "show"]);
    assert_eq!(config.code, Some(1));
    assert!(
        config.err.contains("Did you mean `listen`?"),
        "{}",
        config.err
    );
}

#[test]
fn the_demo_tells_that_nothing_was_lost() {
    let home = tempfile::tempdir().expect("a folder");
    let mut demo = Command::new(skep_binary());
    demo.args(["demo", "--once", "--calls", "24"]).env_clear();
    demo.env("PATH", std::env::var_os("PATH").unwrap_or_default());
    let output = demo
        .env("HOME", home.path())
        .output()
        .expect("the binary runs");
    let said = String::from_utf8_lossy(&output.stdout);
    let wrong = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}{wrong}");
    assert!(
        said.contains("Nothing was lost, and nothing was done twice."),
        "{said}"
    );
}
