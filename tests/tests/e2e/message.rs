//! Sealed messages: a client and an agent talk through Skep, which carries them and cannot read them.

use std::fs;
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Stdio};

use serde_json::{Value, json};
use skep_tests::server::skep_binary;
use skep_tests::{Server, Setup};
use tempfile::TempDir;

/// Opens what it gets and answers sealed; what it does not open is a 422 with why.
const AGENT: &str = r#"
import os, subprocess, http.server
def skep(*words, text):
    return subprocess.run([os.environ["PROGRAM"], "message", *words], input=text, capture_output=True)
class Agent(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.answer(200, b"")
    def do_POST(self):
        body = self.rfile.read(int(self.headers["content-length"]))
        if self.path == "/plain":
            return self.answer(200, body)
        order = ["--in-order"] if self.path == "/in-order" else []
        key, client = os.environ["KEY"], os.environ["CLIENT"]
        opened = skep("open", "--key", key, "--from", client, "--state", key + ".state", *order, text=body)
        if opened.returncode:
            return self.answer(422, opened.stderr)
        sealed = skep("seal", "--key", key, "--to-key", client, text=b"heard: " + opened.stdout)
        self.answer(200, sealed.stdout)
    def answer(self, status, body):
        self.send_response(status)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
    def log_message(self, *words):
        pass
http.server.HTTPServer(("127.0.0.1", int(os.environ["PORT"])), Agent).serve_forever()
"#;

/// What a `skep message` said: exit code, standard output and standard error.
struct Told {
    good: bool,
    out: Vec<u8>,
    err: String,
}

fn message(server: Option<&Server>, args: &[&str], input: &[u8]) -> Told {
    let mut command = Command::new(skep_binary());
    if let Some(server) = server {
        command
            .args(["--server", &server.client.url, "--data"])
            .arg(server.data());
    }
    let mut child = command
        .arg("message")
        .args(args)
        .env_clear()
        .env("HOME", "/nonexistent")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the binary runs");
    let mut stdin = child.stdin.take().expect("an input");
    // It may have said no already.
    let _ = stdin.write_all(input);
    drop(stdin);
    let output = child.wait_with_output().expect("an end");
    Told {
        good: output.status.success(),
        out: output.stdout,
        err: String::from_utf8_lossy(&output.stderr).into_owned(),
    }
}

/// A key in a file of this folder: its path and its public half.
fn keygen(folder: &Path, name: &str) -> (String, String) {
    let path = folder.join(name).display().to_string();
    let made = message(None, &["keygen", "--key", &path], b"");
    assert!(made.good, "{}", made.err);
    let public = String::from_utf8(made.out).expect("text").trim().to_owned();
    (path, public)
}

/// Whether these bytes stand in a file of this folder or below.
fn holds(folder: &Path, bytes: &[u8]) -> bool {
    fs::read_dir(folder)
        .into_iter()
        .flatten()
        .flatten()
        .any(|entry| {
            let path = entry.path();
            // Neither pipes nor sockets, which nobody writes to.
            match path.symlink_metadata().map(|about| about.file_type()) {
                Ok(kind) if kind.is_dir() => holds(&path, bytes),
                Ok(kind) if kind.is_file() => {
                    let text = fs::read(&path).unwrap_or_default();
                    text.windows(bytes.len()).any(|window| window == bytes)
                }
                _ => false,
            }
        })
}

struct Talk {
    server: Server,
    folder: TempDir,
    client: (String, String),
    agent: (String, String),
}

impl Talk {
    async fn start() -> Self {
        let folder = TempDir::new().expect("a folder");
        let (client, agent) = (
            keygen(folder.path(), "client"),
            keygen(folder.path(), "agent"),
        );
        let server = Server::start_with(Setup {
            env: vec![("SKEP_LOG_LEVEL".to_owned(), "debug".to_owned())],
            ..Setup::default()
        })
        .await;
        let spec = json!({
            "name": "a",
            "command": ["python3", "-c", AGENT],
            "sandbox": "off",
            "env": { "PROGRAM": skep_binary(), "KEY": agent.0, "CLIENT": client.1 },
            "labels": { "message-keys": agent.1 },
        });
        server.deploy_spec(spec).await;
        Self {
            server,
            folder,
            client,
            agent,
        }
    }

    fn path(&self, name: &str) -> String {
        self.folder.path().join(name).display().to_string()
    }

    fn seal(&self, more: &[&str], text: &[u8]) -> Vec<u8> {
        let args = [&["seal", "--key", &self.client.0], more].concat();
        let sealed = message(Some(&self.server), &args, text);
        assert!(sealed.good, "{}", sealed.err);
        sealed.out
    }

    async fn send(&self, path: &str, body: Vec<u8>) -> (u16, Vec<u8>) {
        let answer = self
            .server
            .client
            .post(&format!("/agents/a{path}"), body)
            .await;
        (answer.status, answer.body.to_vec())
    }

    async fn refused(&self, what: &str, path: &str, body: Vec<u8>, why: &str) {
        let (status, said) = self.send(path, body).await;
        let said = String::from_utf8_lossy(&said).into_owned();
        assert!(
            status == 422 && said.contains(why),
            "{what}: {status} {said}"
        );
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn skep_carries_what_it_cannot_read() {
    let talk = Talk::start().await;
    let secret = b"the queen leaves on tuesday with eleven thousand of hers";
    let control = b"the control leaves on monday with eleven thousand of hers";
    assert_eq!(talk.send("/plain", control.to_vec()).await.0, 200);
    let sealed = talk.seal(&["--to", "a"], secret);
    let (status, answer) = talk.send("/", sealed).await;
    assert_eq!(status, 200, "{}", String::from_utf8_lossy(&answer));
    let open = [
        "open",
        "--key",
        &talk.client.0,
        "--from",
        &talk.agent.1,
        "--state",
        &talk.path("state"),
    ];
    let opened = message(None, &open, &answer);
    assert!(opened.good, "{}", opened.err);
    assert_eq!(opened.out, [b"heard: ", &secret[..]].concat());
    // The journal has both calls, and the log tells of them.
    let log = crate::audit::whole(&talk.server);
    let calls: Vec<&Value> = log
        .iter()
        .filter(|it| it["action"] == "agent:call")
        .collect();
    assert!(calls.len() >= 2, "{log:?}");
    let data = talk.server.data();
    assert!(holds(&data, control), "what is not sealed is found");
    assert!(!holds(&data, secret) && !holds(&data, b"heard: the queen"));
    assert!(!format!("{log:?}").contains("the queen"));
    assert!(!talk.server.log().contains("the queen"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_tampered_with_is_refused() {
    let talk = Talk::start().await;
    let session = talk.path("session");
    let numbered = ["--to", "a", "--session", &session];
    let (one, two, three) = (
        talk.seal(&numbered, b"one"),
        talk.seal(&numbered, b"two"),
        talk.seal(&numbered, b"three"),
    );
    // Later ones first: each counts once, in any order, unless order is asked for.
    assert_eq!(talk.send("/", two.clone()).await.0, 200);
    talk.refused("again", "/", two.clone(), "it came before")
        .await;
    talk.refused("out of order", "/in-order", one.clone(), "it came before")
        .await;
    assert_eq!(talk.send("/", one.clone()).await.0, 200);
    assert_eq!(talk.send("/in-order", three.clone()).await.0, 200);
    // Still so after the agent has died.
    assert!(talk.server.kill_agent("a").await);
    talk.server.wait_state("a", "ready").await;
    for (what, envelope) in [("one", &one), ("two", &two), ("three", &three)] {
        talk.refused(what, "/", envelope.clone(), "it came before")
            .await;
    }
    let fresh = || talk.seal(&["--to", "a"], b"fresh");
    for at in [0, 9, 20, 60, 100, 140, 155, 165, 180, 210] {
        let mut changed = fresh();
        changed[at] ^= 1;
        talk.refused(&at.to_string(), "/", changed, "the message is not taken")
            .await;
    }
    let mut cut = fresh();
    cut.truncate(cut.len() - 1);
    talk.refused("cut", "/", cut, "no envelope").await;
    talk.refused("no envelope", "/", b"hello".to_vec(), "no envelope")
        .await;
    // Of another sender, and for another receiver.
    let eve = keygen(talk.folder.path(), "eve");
    let of_eve = message(
        None,
        &["seal", "--key", &eve.0, "--to-key", &talk.agent.1],
        b"hi",
    );
    talk.refused("of eve", "/", of_eve.out, "another sender")
        .await;
    let for_eve = talk.seal(&["--to-key", &eve.1], b"hi");
    talk.refused("for eve", "/", for_eve, "another receiver")
        .await;
}

#[test]
fn keys_are_kept_in_files_of_their_owner_alone() {
    let folder = TempDir::new().expect("a folder");
    let (path, public) = keygen(folder.path(), "key");
    let about = fs::metadata(&path).expect("a file");
    assert_eq!(about.permissions().mode() & 0o777, 0o600);
    let before = fs::read(&path).expect("a file");
    let again = message(None, &["keygen", "--key", &path], b"");
    assert!(!again.good && fs::read(&path).expect("a file") == before);
    let seal = ["seal", "--key", &path, "--to-key", &public];
    assert!(message(None, &seal, b"x").good);
    fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).expect("a mode");
    let open = message(None, &seal, b"x");
    assert!(!open.good && open.err.contains("chmod 600"), "{}", open.err);
    fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).expect("a mode");
    for (args, said) in [
        (vec!["--expires", "8d"], "from 1s to 7d"),
        (vec!["--expires", "0s"], "from 1s to 7d"),
    ] {
        let told = message(None, &[&seal[..], &args].concat(), b"x");
        assert!(!told.good && told.err.contains(said), "{}", told.err);
    }
    // A session is one receiver's.
    let session = folder.path().join("session").display().to_string();
    let numbered = [&seal[..], &["--session", &session]].concat();
    assert!(message(None, &numbered, b"x").good);
    let (_, other) = keygen(folder.path(), "other");
    let wrong = [
        "seal",
        "--key",
        &path,
        "--to-key",
        &other,
        "--session",
        &session,
    ];
    let told = message(None, &wrong, b"x");
    assert!(
        !told.good && told.err.contains("another receiver"),
        "{}",
        told.err
    );
    // A state that is broken is not taken for an empty one.
    let state = folder.path().join("state").display().to_string();
    fs::write(&state, "skeprcv").expect("a file");
    let open = ["open", "--key", &path, "--from", &public, "--state", &state];
    let told = message(None, &open, &message(None, &seal, b"x").out);
    assert!(
        !told.good && told.err.contains("which messages came"),
        "{}",
        told.err
    );
}
