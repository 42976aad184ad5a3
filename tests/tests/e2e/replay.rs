//! `skep replay`: a recorded call again, and how the answers differ.

use std::fs;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use serde_json::{Value, json};
use skep_tests::Server;
use skep_tests::server::skep_binary;

use crate::cli::{Said, skep};

const AGENT: &str = r#"
import json, os
from http.server import BaseHTTPRequestHandler, HTTPServer

class Agent(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    def do_GET(self):
        self.answer(200, {})
    def do_POST(self):
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        greeting = os.environ["WORD"] + " " + json.loads(body)["name"]
        said = {"greeting": greeting, "cookie": self.headers.get("Cookie"), "path": self.path}
        self.answer(int(os.environ.get("STATUS", 200)), said)
    def answer(self, status, value):
        data = json.dumps(value).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)
    def log_message(self, *args):
        pass

HTTPServer(("127.0.0.1", int(os.environ["PORT"])), Agent).serve_forever()
"#;

/// A server with an agent that greets by a word of its revision.
struct Greeter {
    server: Server,
    _folder: tempfile::TempDir,
    program: PathBuf,
}

impl Greeter {
    async fn start() -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let program = folder.path().join("agent.py");
        fs::write(&program, AGENT).expect("a file");
        let server = Server::start().await;
        Self {
            server,
            _folder: folder,
            program,
        }
    }

    fn deploy(&self, env: &[&str]) {
        let program = self.program.display().to_string();
        let variables = env.iter().flat_map(|pair| ["-e", pair]);
        let words: Vec<&str> = ["deploy", "greeter"].into_iter().chain(variables).collect();
        let deployed = self.skep(&[&words, &["--", "python3", program.as_str()][..]].concat());
        assert_eq!(deployed.code, Some(0), "{}", deployed.err);
    }

    fn skep(&self, words: &[&str]) -> Said {
        skep(&self.server, words)
    }

    async fn call(&self) -> String {
        let mut request = self.server.client.request(
            http::Method::POST,
            "/agents/greeter/greet?a=1",
            r#"{"name":"you"}"#,
        );
        let cookie = http::HeaderValue::from_static("a=b");
        request.headers_mut().insert("cookie", cookie);
        let answer = self.server.client.send(request).await.expect("an answer");
        assert_eq!(answer.status, 200);
        answer.call()
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_call_is_sent_again_to_any_revision_and_compared() {
    let greeter = Greeter::start().await;
    greeter.deploy(&["WORD=hello"]);
    let call = greeter.call().await;
    let cookie = ["-H", "Cookie: a=b"];
    let same = greeter.skep(&[&["replay", &call][..], &cookie].concat());
    assert_eq!(
        (same.code, same.out.as_str()),
        (Some(0), "call_ID gave the same answer."),
        "{}",
        same.err
    );
    // What is not shown cannot be sent again, and that is said.
    let without = greeter.skep(&["replay", &call]);
    assert_eq!(without.code, Some(1));
    assert!(without.err.contains("not shown: cookie"), "{}", without.err);
    assert!(
        without.out.contains("+ \"cookie\": null"),
        "{}",
        without.out
    );

    greeter.deploy(&["WORD=bye", "STATUS=404"]);
    let differs = greeter.skep(&[&["replay", &call][..], &cookie].concat());
    assert_eq!(
        (differs.code, differs.out.as_str()),
        (
            Some(1),
            "--- call_ID\n+++ call_ID to greeter\n-status: 200\n+status: 404\n{\n\
             \"cookie\": \"a=b\",\n- \"greeting\": \"hello you\",\n+ \"greeting\": \"bye you\",\n\
             \"path\": \"/greet?a=1\"\n}"
        )
    );
    // An older revision runs beside the newer one for as long as it takes.
    let older = greeter.skep(&[&["replay", &call, "--to", "greeter@1"][..], &cookie].concat());
    assert_eq!(older.code, Some(0), "{}{}", older.out, older.err);
    let left = greeter.skep(&["list", "-o", "name"]);
    assert_eq!(left.out, "greeter");

    let json = [
        "-o",
        "json",
        "replay",
        &call,
        "-d",
        r#"{"name":"they"}"#,
        "--to",
        "greeter@1",
    ];
    let report = greeter.skep(&[&json[..], &cookie].concat());
    let report: Value = serde_json::from_str(&report.out).expect("JSON");
    assert_eq!(
        (&report["same"], &report["agent"]),
        (&json!(false), &json!("greeter@1"))
    );
    assert_eq!(
        report["body"][2],
        "-  \"greeting\": \"hello you\",".replace("  ", " ")
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_cannot_be_replayed_says_why() {
    let greeter = Greeter::start().await;
    greeter.deploy(&["WORD=hello"]);
    let call = greeter.call().await;
    for (words, code, says) in [
        (&["--to", "greter"][..], 1, "Did you mean `greeter`?"),
        (
            &["--to", "greeter@9"],
            1,
            "greeter has no revision 9 hint: There are: 1.",
        ),
        (&["--to", "greeter@x"], 2, "`x` is not a revision's number"),
        (&["--edit"], 2, "--edit needs a terminal"),
        (&["--edit", "-d", "x"], 2, "cannot be used with"),
    ] {
        let said = greeter.skep(&[&["replay", &call], words].concat());
        assert_eq!(said.code, Some(code), "{words:?} {}", said.err);
        assert!(
            said.err.replace('\n', " ").contains(says),
            "{words:?} {}",
            said.err
        );
    }
    let asked = greeter.skep(&["call", "greeter", "/", "-d", "no json", "--async"]);
    assert_eq!(asked.code, Some(0), "{}", asked.err);
}

/// The CLI on a terminal of its own, with an editor that does this to the file.
fn on_a_terminal(greeter: &Greeter, call: &str, editor: &str) -> (Option<i32>, String) {
    let skep = skep_binary().display().to_string();
    let url = &greeter.server.client.url;
    let data = greeter.server.data().display().to_string();
    let line = format!("{skep} --server {url} --data {data} replay {call} --edit -H 'Cookie: a=b'");
    let mut script = Command::new("script");
    script.args(["--quiet", "--return", "--command", &line, "/dev/null"]);
    script
        .env_clear()
        .env("PATH", std::env::var_os("PATH").unwrap_or_default());
    script
        .env("HOME", greeter.server.data())
        .env("EDITOR", editor)
        .env("NO_COLOR", "1");
    let output = script.stdin(Stdio::null()).output().expect("script runs");
    (
        output.status.code(),
        String::from_utf8_lossy(&output.stdout).into_owned(),
    )
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_body_is_edited_before_it_is_sent() {
    let greeter = Greeter::start().await;
    greeter.deploy(&["WORD=hello"]);
    let call = greeter.call().await;
    let (code, said) = on_a_terminal(&greeter, &call, "sed -i s/you/me/");
    assert_eq!(code, Some(1), "{said}");
    assert!(said.contains("+  \"greeting\": \"hello me\""), "{said}");
    let calls = async || {
        greeter
            .skep(&["calls", "list", "-o", "name"])
            .out
            .lines()
            .count()
    };
    assert_eq!(calls().await, 2);
    let (code, said) = on_a_terminal(&greeter, &call, "true");
    assert_eq!(code, Some(3), "{said}");
    assert!(
        said.contains("the body was not changed: nothing was sent"),
        "{said}"
    );
    let (code, said) = on_a_terminal(&greeter, &call, "false");
    assert_eq!(code, Some(3), "{said}");
    assert!(
        said.contains("the editor `false` ended with exit status: 1"),
        "{said}"
    );
    assert_eq!(calls().await, 2);
}
