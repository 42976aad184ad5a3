//! An agent whose personality and memory come from its lock file: brought to the server before it starts, and back into
//! the file when it has grown.

use std::os::unix::fs::symlink;

use serde_json::{Value, json};
use skep_tests::Server;

use super::lock::{Place, TOKEN, text};
use crate::cli::command;

/// An agent that tells what it was given, and remembers what it is called with.
const AGENT: &str = r#"
import http.server, json, os
lock = os.path.join(os.environ['HOME'], 'lock')
began = json.load(open(os.path.join(lock, 'memory.json')))
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        told = {'prompt': json.load(open(os.path.join(lock, 'personality.json')))['prompt'],
                'began': began, 'token': os.environ['TOKEN']}
        self.answer(json.dumps(told))
    def do_POST(self):
        memory = json.load(open(os.path.join(lock, 'memory.json')))
        body = self.rfile.read(int(self.headers['content-length'])).decode()
        memory['heard'] = memory.get('heard', []) + [body]
        new = os.path.join(lock, 'memory.new')
        json.dump(memory, open(new, 'w'))
        os.replace(new, os.path.join(lock, 'memory.json'))
        self.answer('ok')
    def answer(self, text):
        self.send_response(200)
        self.send_header('content-length', str(len(text)))
        self.end_headers()
        self.wfile.write(text.encode())
http.server.HTTPServer(('0.0.0.0', int(os.environ['PORT'])), Handler).serve_forever()
"#;

/// A folder with a lock file and the agent's program, beside a server.
struct House {
    server: Server,
    place: Place,
}

impl House {
    async fn new() -> Self {
        let place = Place::filled();
        place.write("agent.py", AGENT);
        Self {
            server: Server::start().await,
            place,
        }
    }

    /// `skep` with these words in the folder: its code and all that it says.
    fn skep(&self, words: &[&str]) -> (Option<i32>, String) {
        let mut command = command(&self.server, words);
        command
            .current_dir(self.place.path(""))
            .env("XDG_STATE_HOME", self.place.path("state"));
        let output = command.output().expect("it runs");
        let told = format!("{}{}", text(&output.stdout), text(&output.stderr));
        assert!(!told.contains(TOKEN), "{told}");
        (output.status.code(), told)
    }

    fn good(&self, words: &[&str]) -> String {
        let (code, told) = self.skep(words);
        assert_eq!(code, Some(0), "{words:?}: {told}");
        told
    }

    fn bad(&self, words: &[&str]) -> String {
        let (code, told) = self.skep(words);
        assert_eq!(code, Some(1), "{words:?}: {told}");
        told
    }

    fn deploy(&self, more: &[&str]) -> Vec<String> {
        let words = ["deploy", "--lock", "agent.lock", "--passphrase-file", "ada"];
        let run = ["--", "python3", "agent.py"];
        let all = [&words[..], more, &run].concat();
        all.into_iter().map(str::to_owned).collect()
    }

    fn deployed(&self, more: &[&str]) -> String {
        let words = self.deploy(more);
        self.good(&words.iter().map(String::as_str).collect::<Vec<_>>())
    }

    fn refused(&self, more: &[&str]) -> String {
        let words = self.deploy(more);
        self.bad(&words.iter().map(String::as_str).collect::<Vec<_>>())
    }

    async fn told(&self) -> Value {
        let said = self.server.client.get("/agents/demo/").await;
        assert_eq!(said.status, 200, "{}", said.text());
        said.json()
    }

    async fn hears(&self, what: &str) {
        let said = self
            .server
            .client
            .post_json("/agents/demo/", &json!(what))
            .await;
        assert_eq!(said.status, 200, "{}", said.text());
    }

    fn memory(&self) -> Value {
        let got = ["get", "memory", "--passphrase-file", "ada"];
        serde_json::from_str(&self.place.good(&got, "")).expect("JSON")
    }

    fn set(&self, entry: &str, value: &str) {
        let set = ["set", entry, "--passphrase-file", "ada"];
        self.place.good(&set, value);
    }

    fn home(&self) -> std::path::PathBuf {
        self.server.data().join("agents/default/demo/home")
    }
}

const PULL: [&str; 5] = ["lock", "pull", "demo", "--passphrase-file", "ada"];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_agent_is_what_its_lock_file_says_and_its_memory_comes_back() {
    let house = House::new().await;
    let said = house.deployed(&[]);
    assert!(said.contains("demo is deployed"), "{said}");
    let told = house.told().await;
    assert_eq!(told["prompt"], "Be kind.");
    assert_eq!(
        told["began"],
        json!({ "facts": { "known": [1, 2.5, null] } })
    );
    let token = told["token"].as_str().expect("a text");
    assert!(token.starts_with("lse_"), "a placeholder, not {token}");
    let revealed = [
        "secrets",
        "reveal",
        "demo/TOKEN",
        "--reason",
        "x",
        "--field",
        "none",
    ];
    assert!(house.skep(&revealed).1.contains("field"));
    // Nothing new yet.
    let said = house.good(&PULL);
    assert!(said.contains("has all of demo's memory already"), "{said}");
    house.hears("one").await;
    house.good(&PULL);
    assert_eq!(house.memory()["heard"], json!(["\"one\""]));
    // Again and again; what is pulled follows what was pulled before.
    house.hears("two").await;
    let said = house.good(&PULL);
    assert!(said.contains("2 entries of demo's memory"), "{said}");
    assert_eq!(house.memory()["heard"], json!(["\"one\"", "\"two\""]));
    assert_eq!(house.memory()["facts"], json!({ "known": [1, 2.5, null] }));
    // Another personality: the same agent, whose memory has grown since.
    house.hears("three").await;
    house.set("personality/prompt", "Be brief.\n");
    house.deployed(&[]);
    let told = house.told().await;
    assert_eq!(told["prompt"], "Be brief.");
    assert_eq!(
        told["began"]["heard"],
        json!(["\"one\"", "\"two\"", "\"three\""])
    );
    let replace = ["--lock-memory", "replace"];
    let said = house.refused(&replace);
    assert!(said.contains("may write its data just now"), "{said}");
    house.good(&["stop", "demo"]);
    house.deployed(&replace);
    let told = house.told().await;
    assert_eq!(told["began"]["heard"], json!(["\"one\"", "\"two\""]));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_both_sides_changed_is_nobodys_to_lose() {
    let house = House::new().await;
    house.deployed(&[]);
    house.hears("one").await;
    house.set("memory/own", "kept");
    let said = house.bad(&PULL);
    assert!(
        said.contains("has changed since demo was deployed"),
        "{said}"
    );
    assert_eq!(house.memory()["own"], "kept");
    house.good(&[&PULL[..], &["--replace"]].concat());
    assert_eq!(house.memory()["own"], Value::Null);
    // Values of the vault that are not the file's.
    let secret = ["secrets", "put", "demo/TOKEN", "--generate", "token:32"];
    house.good(&secret);
    let said = house.refused(&[]);
    assert!(
        said.contains("the vault has other values") && said.contains("demo/TOKEN"),
        "{said}"
    );
    house.deployed(&["--lock-credentials", "keep"]);
    let shown = house.good(&["secrets", "show", "demo/TOKEN", "-o", "json"]);
    assert!(shown.contains("\"latest\": 2"), "{shown}");
    house.deployed(&["--lock-credentials", "replace"]);
    let shown = house.good(&["secrets", "show", "demo/TOKEN", "-o", "json"]);
    assert!(shown.contains("\"latest\": 3"), "{shown}");
    // Another agent's file.
    house.place.good(
        &[
            "init",
            "other",
            "--file",
            "other.lock",
            "--new-passphrase-file",
            "ada",
        ],
        "",
    );
    let said = house.bad(&[&PULL[..], &["--file", "other.lock"]].concat());
    assert!(said.contains("the lock file of another agent"), "{said}");
    let (code, said) = house.skep(&[
        "deploy",
        "--lock",
        "agent.lock",
        "--passphrase-file",
        "bob",
        "--",
        "true",
    ]);
    assert_eq!(code, Some(4), "{said}");
}

/// A memory that has grown far goes there and back.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_large_memory_goes_there_and_back() {
    let house = House::new().await;
    let large = "x".repeat(5 << 20);
    house.set("memory/large", &large);
    house.deployed(&[]);
    house.hears("one").await;
    house.good(&PULL);
    let memory = house.memory();
    assert_eq!(memory["large"].as_str().map(str::len), Some(large.len()));
    assert_eq!(memory["heard"], json!(["\"one\""]));
}

/// What an agent puts in the place of its layers leads nobody anywhere.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_agents_folder_is_not_trusted() {
    let house = House::new().await;
    house.deployed(&[]);
    let memory = house.home().join("lock/memory.json");
    let before = house.place.lock();
    std::fs::remove_file(&memory).expect("it is there");
    symlink(house.server.data().join("seal.key"), &memory).expect("a link");
    let said = house.bad(&PULL);
    assert!(said.contains("something else in the place"), "{said}");
    std::fs::remove_file(&memory).expect("it is there");
    std::fs::write(&memory, "{\"half\":").expect("a file");
    let said = house.bad(&PULL);
    assert!(said.contains("may be writing it; try again"), "{said}");
    std::fs::write(&memory, "[1]").expect("a file");
    let said = house.bad(&PULL);
    assert!(said.contains("is not the JSON that it must be"), "{said}");
    assert_eq!(house.place.lock(), before);
    let said = house.bad(&["lock", "pull", "none", "--passphrase-file", "ada"]);
    assert!(said.contains("There is no agent `none`"), "{said}");
    house.good(&["deploy", "plain", "--", "python3", "-c", "import os, http.server as h; \
        h.HTTPServer(('0.0.0.0', int(os.environ['PORT'])), h.SimpleHTTPRequestHandler).serve_forever()"]);
    let said = house.bad(&["lock", "pull", "plain", "--passphrase-file", "ada"]);
    assert!(said.contains("has no memory of a lock file"), "{said}");
}

/// Where the settings want it, an opening stands in the audit log before it happens.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn openings_stand_in_the_log_where_that_is_wanted() {
    let mut house = House::new().await;
    let get = [
        "lock",
        "get",
        "personality/prompt",
        "--passphrase-file",
        "ada",
    ];
    house.place.write("skep.toml", "[lock]\naudit = \"must\"\n");
    assert!(house.good(&get).contains("Be kind."));
    let log = house
        .server
        .client
        .get("/api/v1/audit/entries?limit=1000")
        .await
        .json();
    let entries = log["items"].as_array().expect("a list");
    let opened: Vec<&Value> = entries
        .iter()
        .filter(|it| it["entry"]["action"] == "lock:open")
        .collect();
    assert_eq!(opened.len(), 1, "{log}");
    let shown: Value =
        serde_json::from_str(&house.place.good(&["show", "-o", "json"], "")).expect("JSON");
    assert_eq!(opened[0]["entry"]["resource"]["id"], shown["agent"]["id"]);
    house.server.kill();
    let (code, said) = house.skep(&get);
    assert!(code != Some(0) && !said.contains("Be kind."), "{said}");
    assert!(said.contains("audit = \"must\""), "{said}");
    house.place.write("skep.toml", "[lock]\naudit = \"try\"\n");
    let said = house.good(&get);
    assert!(
        said.contains("Be kind.") && said.contains("does not know that it was opened"),
        "{said}"
    );
}
