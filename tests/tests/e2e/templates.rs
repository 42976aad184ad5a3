//! Projects from templates: each is made, deployed on a real server and called, as its README says.

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Arc, Mutex};

use serde_json::{Value, json};
use skep_tests::Server;

use crate::cli::{Said, skep};

/// A folder that is no one's data, for the projects of a test.
struct Projects(tempfile::TempDir);

impl Projects {
    fn new() -> Self {
        Self(tempfile::tempdir().expect("a folder"))
    }

    fn at(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    /// Makes a project and deploys it, with these words more.
    fn deployed(&self, server: &Server, template: &str, words: &[&str]) -> PathBuf {
        let folder = self.at(template);
        let made = skep(server, &["init", &text(&folder), "-t", template]);
        assert_eq!(made.code, Some(0), "{}", made.err);
        let manifest = text(&folder.join("agent.yaml"));
        let valid = skep(server, &["validate", "-f", &manifest]);
        assert_eq!(valid.code, Some(0), "{template}: {}", valid.err);
        prepare(template, &folder);
        if template == "http-rust" {
            build(&folder);
        }
        let deployed = skep(server, &[&["deploy", "-f", &manifest], words].concat());
        assert_eq!(deployed.code, Some(0), "{template}: {}", deployed.err);
        folder
    }
}

fn text(path: &Path) -> String {
    path.display().to_string()
}

/// Puts the packages of a framework into a project: those that set-up has installed, as the template wants them.
fn prepare(template: &str, folder: &Path) {
    let installed = ["langgraph", "openai-agents", "ai-sdk"];
    if !installed.contains(&template) {
        return;
    }
    let packages = skep_tests::server::framework(template);
    let mut copy = Command::new("cp");
    copy.arg("-a").arg(&packages).arg(folder);
    let status = copy.status().expect("cp runs");
    assert!(
        status.success(),
        "`cargo xtask set-up` installs {}",
        text(&packages)
    );
}

fn build(folder: &Path) {
    let mut cargo = Command::new("cargo");
    cargo.args(["build", "--release", "--offline", "--quiet"]);
    cargo.current_dir(folder).env_remove("CARGO_TARGET_DIR");
    let status = cargo.status().expect("cargo runs");
    assert!(status.success(), "the template does not build");
}

/// Sends the project's own request.
fn first_call(server: &Server, folder: &Path, words: &[&str]) -> Said {
    let name = folder.file_name().expect("a name").to_string_lossy();
    let body = format!("@{}", text(&folder.join("request.json")));
    skep(server, &[&["call", &name], words, &["-d", &body]].concat())
}

fn answered(said: &Said) -> Value {
    assert_eq!(said.code, Some(0), "{}", said.err);
    serde_json::from_str(&said.out).expect("JSON")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn plain_projects_run_as_they_are() {
    let (server, projects) = (Server::start().await, Projects::new());
    for template in ["http-python", "http-node"] {
        let folder = projects.deployed(&server, template, &[]);
        let said = answered(&first_call(&server, &folder, &["/greet"]));
        assert_eq!(said, json!({ "greeting": "hello, you" }), "{template}");
    }
    let folder = projects.deployed(&server, "http-rust", &[]);
    let said = answered(&first_call(&server, &folder, &["/count"]));
    assert_eq!(said, json!({ "words": 5, "lines": 1, "bytes": 35 }));
    // They stay in their place when they are asked for what they do not have.
    for template in ["http-python", "http-node", "http-rust"] {
        let answer = server.post(template, "/nothing", "{}").await;
        assert_eq!(answer.status, 404, "{template}");
        let wrong = server.post(template, "/greet", "{").await;
        let expected = if template == "http-rust" { 404 } else { 400 };
        assert_eq!(wrong.status, expected, "{template}: {}", wrong.text());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn agui_streams_a_whole_run() {
    let (server, projects) = (Server::start().await, Projects::new());
    let folder = projects.deployed(&server, "agui", &[]);
    let said = first_call(&server, &folder, &["/"]);
    assert_eq!(said.code, Some(0), "{}", said.err);
    let events: Vec<Value> = said
        .out
        .lines()
        .filter_map(|line| line.strip_prefix("data: "))
        .map(|line| serde_json::from_str(line).expect("JSON"))
        .collect();
    let kinds: Vec<_> = events.iter().filter_map(|it| it["type"].as_str()).collect();
    assert_eq!(
        kinds,
        [
            "RUN_STARTED",
            "TEXT_MESSAGE_START",
            "TEXT_MESSAGE_CONTENT",
            "TEXT_MESSAGE_CONTENT",
            "TEXT_MESSAGE_END",
            "RUN_FINISHED"
        ]
    );
    let run = json!({ "type": "RUN_FINISHED", "threadId": "thread-1", "runId": "run-1" });
    assert_eq!(events[5], run);
    assert_eq!(events[1]["role"], "assistant");
    let message = &events[1]["messageId"];
    assert!(events[2..5].iter().all(|it| it["messageId"] == *message));
    let spoken = format!("{}{}", events[2]["delta"], events[3]["delta"]).replace('"', "");
    assert_eq!(spoken, "You said 4 words, and the longest is “interface”.");
    let refused = server.post("agui", "/", r#"{"messages":[]}"#).await;
    assert_eq!(refused.status, 400, "{}", refused.text());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a2a_speaks_both_versions() {
    let (server, projects) = (Server::start().await, Projects::new());
    let folder = projects.deployed(&server, "a2a", &[]);
    let card = server.client.get("/agents/a2a/.well-known/agent-card.json");
    let card = card.await.json();
    let url = format!("{}/agents/a2a/", server.client.url);
    assert_eq!(
        card["supportedInterfaces"][0],
        json!({ "url": url, "protocolBinding": "JSONRPC", "protocolVersion": "1.0" })
    );
    let said = answered(&first_call(
        &server,
        &folder,
        &["/", "-H", "A2A-Version: 1.0"],
    ));
    let message = &said["result"]["message"];
    let parts = json!([{ "text": "4 words; reversed: tnega rehtona morf olleh" }]);
    assert_eq!(
        (&said["id"], &message["role"]),
        (&json!(1), &json!("ROLE_AGENT"))
    );
    assert_eq!(message["parts"], parts);
    let older = json!({
        "jsonrpc": "2.0", "id": "x", "method": "message/send", "params": { "message": {
            "kind": "message", "messageId": "m", "role": "user", "contextId": "c",
            "parts": [{ "kind": "text", "text": "ab" }],
        }},
    });
    // Clients append a slash to the address or do not.
    for path in ["/agents/a2a/", "/agents/a2a"] {
        let said = server.client.post_json(path, &older).await.json();
        let result = &said["result"];
        assert_eq!(
            result["parts"][0]["text"], "1 words; reversed: ba",
            "{said}"
        );
        assert_eq!(
            (&result["kind"], &result["contextId"]),
            (&json!("message"), &json!("c"))
        );
    }
    for (method, params, code) in [
        ("SendMessage", json!({}), -32602),
        ("GetTask", json!({ "id": "t" }), -32001),
        ("SendStreamingMessage", json!({}), -32004),
        ("Nothing", json!({}), -32601),
    ] {
        let asked = json!({ "jsonrpc": "2.0", "id": 1, "method": method, "params": params });
        let said = server.client.post_json("/agents/a2a/", &asked).await.json();
        assert_eq!(said["error"]["code"], code, "{method}: {said}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn personas_answer_from_their_tools_and_say_so() {
    let (server, projects) = (Server::start().await, Projects::new());
    let mut answers = std::collections::BTreeMap::new();
    for persona in [
        "code-reviewer",
        "data-analyst",
        "customer-support",
        "research-assistant",
        "content-generator",
    ] {
        let folder = projects.deployed(&server, persona, &[]);
        let said = answered(&first_call(&server, &folder, &["/ask"]));
        assert_eq!(said["by"], "tools", "{persona}: {said}");
        assert!(
            said["note"]
                .as_str()
                .is_some_and(|it| it.contains("no model"))
        );
        answers.insert(persona, said);
    }
    let findings = answers["code-reviewer"]["findings"].as_array().cloned();
    let found: Vec<_> = findings
        .iter()
        .flatten()
        .map(|one| (&one["line"], &one["what"]))
        .collect();
    assert_eq!(
        found,
        [
            (&json!(11), &json!("what looks like a secret")),
            (&json!(14), &json!("an error is swallowed"))
        ]
    );
    let analyst = &answers["data-analyst"];
    let south = json!({ "count": 3, "sum": 24.0, "mean": 8.0, "median": 8.0, "min": 7.0,
        "max": 9.0, "deviation": 1.0 });
    assert_eq!(analyst["groups"]["south"], south);
    assert_eq!(analyst["columns"]["sold"]["missing"], 1);
    let support = &answers["customer-support"];
    assert_eq!(support["source"], "How can I send something back?");
    let research = &answers["research-assistant"]["passages"][0];
    assert_eq!(
        (&research["file"], &research["line"]),
        (&json!("dance.md"), &json!(3))
    );
    let written = answers["content-generator"]["answer"].as_str();
    assert_eq!(
        written,
        Some(
            "# Keeping bees\n\n## Why bees\n\nThey pollinate fruit. They make honey.\n\n\
             ## What you need\n\nA hive in a quiet place. A veil and a smoker.\n\n\
             ## The first year\n\n[to be written]\n"
        )
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_support_does_not_know_becomes_one_ticket() {
    let (server, projects) = (Server::start().await, Projects::new());
    projects.deployed(&server, "customer-support", &[]);
    // One only for all tries of a call.
    let ask = |key: &str| {
        let question = r#"{"message":"Do you sell elephants?"}"#;
        skep(
            &server,
            &[
                "call",
                "customer-support",
                "/ask",
                "-d",
                question,
                "--idempotency-key",
                key,
            ],
        )
    };
    let tickets: Vec<_> = ["a", "a", "b"]
        .map(|key| answered(&ask(key))["ticket"].clone())
        .into();
    assert_eq!(tickets, [json!(1), json!(1), json!(2)]);
}

/// A server that answers as an OpenAI-compatible one would: first it wants a tool with these arguments, then it says
/// this. It stands in for what costs money; the agent speaks real HTTP to it.
fn model(arguments: &Value, answer: &str) -> (String, Arc<Mutex<Vec<Value>>>) {
    // Agents may connect to ports below 20000 only.
    let listener = (17_000..20_000)
        .find_map(|port| TcpListener::bind(("127.0.0.1", port)).ok())
        .expect("a free port");
    let url = format!("http://{}/v1", listener.local_addr().expect("an address"));
    let heard = Arc::new(Mutex::new(Vec::new()));
    let asked = heard.clone();
    let (arguments, answer) = (arguments.to_string(), answer.to_owned());
    std::thread::spawn(move || {
        for connection in listener.incoming().flatten() {
            let mut reader = BufReader::new(connection);
            let (mut line, mut length) = (String::new(), 0);
            while reader.read_line(&mut line).is_ok_and(|_| line.trim() != "") {
                if let Some(value) = line.to_ascii_lowercase().strip_prefix("content-length:") {
                    length = value.trim().parse().unwrap_or(0);
                }
                line.clear();
            }
            let mut body = vec![0; length];
            reader.read_exact(&mut body).expect("a body");
            let body: Value = serde_json::from_slice(&body).expect("JSON");
            let call = json!({ "id": "1", "type": "function", "function": {
                "name": body["tools"][0]["function"]["name"], "arguments": arguments }});
            let (message, why) = match body["messages"].as_array().map_or(0, Vec::len) {
                2 => (
                    json!({ "role": "assistant", "content": null, "tool_calls": [call] }),
                    "tool_calls",
                ),
                _ => (json!({ "role": "assistant", "content": answer }), "stop"),
            };
            let said = json!({
                "id": "1", "object": "chat.completion", "created": 1, "model": body["model"],
                "choices": [{ "index": 0, "message": message, "finish_reason": why }],
                "usage": { "prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2 },
            })
            .to_string();
            asked.lock().expect("no panic").push(body);
            let head = "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\nconnection: close";
            let length = said.len();
            let _ = write!(
                reader.get_mut(),
                "{head}\r\ncontent-length: {length}\r\n\r\n{said}"
            );
        }
    });
    (url, heard)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_persona_asks_a_model_and_runs_its_tools() {
    let (server, projects) = (Server::start().await, Projects::new());
    let (url, heard) = model(&json!({ "column": "sold" }), "The mean is 10.0.");
    let base = format!("OPENAI_BASE_URL={url}");
    let folder = projects.deployed(
        &server,
        "data-analyst",
        &["-e", &base, "-e", "OPENAI_MODEL=m"],
    );
    let said = answered(&first_call(&server, &folder, &["/ask"]));
    let expected = json!({ "answer": "The mean is 10.0.", "by": "model", "tools": ["describe"] });
    assert_eq!(said, expected);
    let heard = heard.lock().expect("no panic");
    assert_eq!((heard.len(), &heard[0]["model"]), (2, &json!("m")));
    // The prompt is the file's, which people change.
    let prompt = fs::read_to_string(folder.join("prompt.md")).expect("a prompt");
    let system = heard[0]["messages"][0]["content"].as_str();
    assert!(system.is_some_and(|it| it.starts_with(&prompt)));
    let tool: Value =
        serde_json::from_str(heard[1]["messages"][3]["content"].as_str().expect("a text"))
            .expect("JSON");
    assert_eq!((&tool["mean"], &tool["count"]), (&json!(10.0), &json!(6)));
}

/// An agent on a framework, as its README says: with its packages, first without a model and then with one.
async fn framework(template: &str) {
    let (server, projects) = (Server::start().await, Projects::new());
    let folder = projects.deployed(&server, template, &[]);
    let said = server
        .post(template, "/ask", r#"{"message":"What is 17 % of 2340?"}"#)
        .await;
    assert_eq!(said.status, 500, "{}", said.text());
    let told = said.json();
    let missing = told["error"]
        .as_str()
        .is_some_and(|it| it.starts_with("no model: set OPENAI_API_KEY, or OPENAI_BASE_URL"));
    assert!(missing, "{told}");
    let empty = server.post(template, "/ask", "{}").await;
    assert_eq!(empty.status, 400, "{}", empty.text());
    let arguments = json!({ "expression": "2340 * 0.17 + -(1 - 1)" });
    let (url, heard) = model(&arguments, "It is 397.8.");
    let manifest = text(&folder.join("agent.yaml"));
    let base = format!("OPENAI_BASE_URL={url}");
    let words = [
        "deploy",
        "-f",
        &manifest,
        "-e",
        &base,
        "-e",
        "OPENAI_MODEL=m",
    ];
    let deployed = skep(&server, &words);
    assert_eq!(deployed.code, Some(0), "{}", deployed.err);
    let said = answered(&first_call(&server, &folder, &["/ask"]));
    assert_eq!(
        said,
        json!({ "answer": "It is 397.8.", "tools": ["calculate"] })
    );
    let heard = heard.lock().expect("no panic");
    assert_eq!((heard.len(), &heard[0]["model"]), (2, &json!("m")));
    let prompt = fs::read_to_string(folder.join("prompt.md")).expect("a prompt");
    assert_eq!(
        heard[0]["messages"][0],
        json!({ "role": "system", "content": prompt })
    );
    let result = &heard[1]["messages"][3];
    let value = (&result["role"], &result["content"]);
    assert_eq!(value, (&json!("tool"), &json!("397.8")), "{result}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn langgraph_runs_as_it_is() {
    framework("langgraph").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_openai_agents_sdk_runs_as_it_is() {
    framework("openai-agents").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_ai_sdk_runs_as_it_is() {
    framework("ai-sdk").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_overwritten_and_mistakes_are_guessed() {
    let (server, projects) = (Server::start().await, Projects::new());
    let folder = projects.at("mine");
    fs::create_dir(&folder).expect("a folder");
    fs::write(folder.join("README.md"), "mine").expect("a file");
    let refused = skep(&server, &["init", &text(&folder), "-t", "http-python"]);
    assert_eq!(refused.code, Some(1));
    assert!(
        refused.err.contains("has README.md already"),
        "{}",
        refused.err
    );
    let left: Vec<_> = fs::read_dir(&folder).expect("a folder").flatten().collect();
    assert_eq!(
        (
            left.len(),
            fs::read_to_string(folder.join("README.md")).ok().as_deref()
        ),
        (1, Some("mine"))
    );
    let unknown = skep(&server, &["init", "-t", "http-pyton"]);
    assert_eq!(unknown.code, Some(2));
    assert!(
        unknown.err.contains("Did you mean `http-python`?"),
        "{}",
        unknown.err
    );
    let list = skep(&server, &["init", "--list", "-o", "name"]);
    assert_eq!(list.out.lines().count(), 13);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_healthcheck_needs_no_key_and_says_it_by_its_exit_code() {
    let mut server = Server::start().await;
    let data = server.data();
    fs::remove_file(data.join("admin.key")).expect("the key's file");
    let local = |words: &[&str]| {
        let mut command = Command::new(skep_tests::server::skep_binary());
        command
            .env_clear()
            .env("HOME", &data)
            .arg("--data")
            .arg(&data);
        let output = command.args(words).output().expect("the binary runs");
        let text = [output.stdout, output.stderr].concat();
        (
            output.status.code(),
            String::from_utf8_lossy(&text).into_owned(),
        )
    };
    let (code, said) = local(&["healthcheck"]);
    assert_eq!(
        (code, said),
        (Some(0), format!("{} takes calls.\n", server.client.url))
    );
    let url = server.client.url.clone();
    assert_eq!(
        local(&["healthcheck", "-q", "--url", &url]),
        (Some(0), String::new())
    );
    server.pause();
    let (code, said) = local(&["healthcheck", "--timeout", "200ms"]);
    assert_eq!(code, Some(1), "{said}");
    server.resume();
    assert!(server.terminate());
    assert_eq!(local(&["healthcheck", "-q"]), (Some(1), String::new()));
    assert_eq!(local(&["healthcheck", "-q", "--url", &url]).0, Some(1));
}
