//! `skep dev` on real files that change.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use rustix::process::{Pid, Signal, kill_process};
use skep_tests::Server;
use skep_tests::server::{eventually, skep_binary};

use crate::cli::skep;

const AGENT: &str = r#"
import os, time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

WORD = "first"

class Agent(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    def do_GET(self):
        self.answer(b"well")
    def do_POST(self):
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        if self.path == "/wait":
            open(os.environ["HOME"] + "/waits", "w").close()
            while not os.path.exists(os.environ["HOME"] + "/go"):
                time.sleep(0.01)
        print("saying " + WORD, flush=True)
        self.answer(WORD.encode())
    def answer(self, data):
        self.send_response(200)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)
    def log_message(self, *args):
        pass

ThreadingHTTPServer(("127.0.0.1", int(os.environ["PORT"])), Agent).serve_forever()
"#;

/// `skep dev` in a folder of its own.
struct Dev {
    child: Child,
    folder: tempfile::TempDir,
}

impl Dev {
    fn start(files: &[(&str, &str)], words: &[&str]) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let project = folder.path().join("project");
        fs::create_dir(&project).expect("a folder");
        for (name, text) in files {
            fs::write(project.join(name), text).expect("a file");
        }
        let command = Self::command(&folder, &project);
        Self::run(folder, command, words)
    }

    fn run(folder: tempfile::TempDir, mut command: Command, words: &[&str]) -> Self {
        let out = File::create(folder.path().join("out")).expect("a file");
        command.arg("dev").args(words).stdin(Stdio::null());
        command.stdout(out.try_clone().expect("a file")).stderr(out);
        let child = command.spawn().expect("the binary runs");
        Self { child, folder }
    }

    /// The CLI in the project's folder, with nothing that names a server.
    fn command(folder: &tempfile::TempDir, project: &Path) -> Command {
        let mut command = Command::new(skep_binary());
        command.current_dir(project).env_clear();
        command.env("PATH", std::env::var_os("PATH").unwrap_or_default());
        command
            .env("HOME", folder.path())
            .env("TMPDIR", folder.path());
        for name in ["CARGO_HOME", "RUSTUP_HOME", "RUSTUP_TOOLCHAIN"] {
            command.envs(std::env::var_os(name).map(|value| (name, value)));
        }
        command
    }

    fn project(&self) -> PathBuf {
        self.folder.path().join("project")
    }

    fn write(&self, name: &str, text: &str) {
        fs::write(self.project().join(name), text).expect("a file");
    }

    fn said(&self) -> String {
        fs::read_to_string(self.folder.path().join("out")).unwrap_or_default()
    }

    async fn says(&self, text: &str) {
        eventually(&format!("`{text}` in {}", self.said()), async || {
            self.said().contains(text).then_some(())
        })
        .await;
    }

    fn skep(&self, words: &[&str]) -> (Option<i32>, String) {
        let output = Self::command(&self.folder, &self.project())
            .args(words)
            .output();
        let output = output.expect("the binary runs");
        let text = [output.stdout, output.stderr].concat();
        (
            output.status.code(),
            String::from_utf8_lossy(&text).into_owned(),
        )
    }

    /// A call that the server of the folder answers.
    fn call(&self, path: &str) -> String {
        let (code, said) = self.skep(&["call", "project", path, "-d", "x"]);
        assert_eq!(code, Some(0), "{said}");
        said
    }

    /// Ctrl-C.
    async fn interrupt(&mut self) -> Option<i32> {
        let pid = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw);
        kill_process(pid.expect("a process"), Signal::INT).expect("a signal");
        eventually("the end", async || self.child.try_wait().expect("a child"))
            .await
            .code()
    }
}

impl Drop for Dev {
    fn drop(&mut self) {
        if self.child.try_wait().ok().flatten().is_none() {
            let pid = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw);
            // It ends its server itself.
            let _ = pid.map(|pid| kill_process(pid, Signal::TERM));
            let _ = self.child.wait();
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_change_takes_over_and_a_broken_one_does_not() {
    let mut dev = Dev::start(&[("main.py", AGENT)], &[]);
    dev.says("version 1 is ready").await;
    assert!(
        dev.said().contains("by a guess: `python3 main.py`."),
        "{}",
        dev.said()
    );
    assert_eq!(dev.call("/say"), "first");
    dev.says("  | saying first").await;
    // One line of 80 columns for each call.
    eventually("the call's line", async || {
        let said = dev.said();
        let line = said.lines().find(|line| line.starts_with("POST   /say"))?;
        assert!(line.contains(" 200 ") && line.ends_with(" 5B"), "{line}");
        assert_eq!(line.chars().count(), 80, "{line}");
        Some(())
    })
    .await;

    dev.write("main.py", &AGENT.replace("first", "second"));
    dev.says("changed: main.py").await;
    dev.says("version 2 is ready").await;
    assert_eq!(dev.call("/say"), "second");

    dev.write("main.py", &format!("{AGENT}\ndef broken(:\n"));
    dev.says("version 3 does not start; 2 goes on").await;
    dev.says("SyntaxError").await;
    assert_eq!(dev.call("/say"), "second");

    // A file beside it counts, what tools make does not.
    dev.write("main.py", &AGENT.replace("first", "third"));
    dev.says("version 4 is ready").await;
    assert_eq!(dev.call("/say"), "third");

    let (code, again) = dev.skep(&["dev"]);
    assert!(code == Some(1) && again.contains("runs in"), "{again}");
    assert_eq!(dev.interrupt().await, Some(0));
    let left: Vec<_> = fs::read_dir(dev.project())
        .expect("a folder")
        .flatten()
        .collect();
    assert_eq!(left.len(), 1, "{left:?}");
    let temporary = fs::read_dir(dev.folder.path()).expect("a folder").flatten();
    let servers = temporary.filter(|it| it.file_name().to_string_lossy().starts_with("skep-dev"));
    assert_eq!(servers.count(), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_call_in_flight_survives_a_change() {
    // The agent's home is the only place where it and the test can meet.
    let dev = Dev::start(&[("main.py", AGENT)], &[]);
    dev.says("version 1 is ready").await;
    let data = fs::read_to_string(dev.project().join(".skep/server")).expect("the pointer");
    let home = Path::new(&data).join("agents/default/project/home");
    let mut waiting = Dev::command(&dev.folder, &dev.project());
    waiting
        .args(["call", "project", "/wait", "-d", "x"])
        .stdout(Stdio::piped());
    let waiting = waiting.spawn().expect("the binary runs");
    eventually("the call", async || {
        home.join("waits").exists().then_some(())
    })
    .await;
    dev.write("main.py", &AGENT.replace("first", "second"));
    dev.says("version 2 is ready").await;
    fs::write(home.join("go"), "").expect("a file");
    let output = waiting.wait_with_output().expect("an answer");
    assert_eq!(String::from_utf8_lossy(&output.stdout), "first");
    let (_, calls) = dev.skep(&["-o", "json", "calls", "list"]);
    let calls: serde_json::Value = serde_json::from_str(&calls).expect("JSON");
    assert_eq!(calls[0]["attempts"], 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_rust_project_is_built_and_mistakes_are_shown() {
    let temporary = tempfile::tempdir().expect("a folder");
    let folder = temporary.path().join("counter");
    let made = Dev::command(&temporary, temporary.path())
        .args(["init", "counter", "-t", "http-rust"])
        .status();
    assert!(made.expect("the binary runs").success());
    let mut command = Dev::command(&temporary, &folder);
    // Cargo finds its toolchain, and fetches nothing.
    command.env("CARGO_NET_OFFLINE", "true");
    command.env("HOME", std::env::var_os("HOME").unwrap_or_default());
    let dev = Dev::run(temporary, command, &[]);
    dev.says("version 1 is ready").await;
    let main = folder.join("src/main.rs");
    let text = fs::read_to_string(&main).expect("a file");
    fs::write(&main, text.replace("fn main", "fn mian")).expect("a file");
    dev.says("not deployed: cargo build: exit status: 101")
        .await;
    fs::write(&main, text.replace("\\\"words\\\"", "\\\"all\\\"")).expect("a file");
    dev.says("version 2 is ready").await;
    let output = Dev::command(&dev.folder, &folder)
        .args(["call", "counter", "/count", "-d", "one two"])
        .output()
        .expect("the binary runs");
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert_eq!(said, "{\"all\":2,\"lines\":1,\"bytes\":7}\n");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn on_a_server_that_is_named_it_takes_only_its_own_away() {
    let server = Server::start().await;
    server.deploy("other", serde_json::json!({})).await;
    let data = server.data().display().to_string();
    let mut dev = Dev::start(&[("main.py", AGENT)], &["--data", &data]);
    dev.says("version 1 is ready").await;
    assert_eq!(skep(&server, &["list", "-o", "name"]).out, "other\nproject");
    let taken = skep(
        &server,
        &[
            "dev",
            "--name",
            "other",
            &dev.project().display().to_string(),
        ],
    );
    assert_eq!(taken.code, Some(1));
    assert!(
        taken.err.contains("has an agent `other` already"),
        "{}",
        taken.err
    );
    assert_eq!(dev.interrupt().await, Some(0));
    assert!(
        dev.said().ends_with("project is removed.\n"),
        "{}",
        dev.said()
    );
    assert_eq!(skep(&server, &["list", "-o", "name"]).out, "other");
}
