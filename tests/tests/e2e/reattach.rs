//! The CLI through a crash of the server: it gets each answer by itself, and prints it once.

use std::fs;
use std::net::SocketAddr;
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use serde_json::json;
use skep_tests::server::skep_binary;
use skep_tests::{Server, Setup, eventually};
use tokio::io::{AsyncBufReadExt, AsyncRead, BufReader};
use tokio::net::TcpSocket;
use tokio::process::{Child, Command};
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};

/// Nothing that a test waits for takes longer.
const PATIENCE: Duration = Duration::from_secs(60);
const NOTE: &str = "connection lost, trying again …";

/// An address that nobody else is given while the server is down: taken, but not listened on.
struct Address {
    _socket: TcpSocket,
    at: SocketAddr,
}

impl Address {
    fn take() -> Self {
        let socket = TcpSocket::new_v4().expect("a socket");
        socket.set_reuseaddr(true).expect("an option");
        let anywhere = SocketAddr::from(([127, 0, 0, 1], 0));
        socket.bind(anywhere).expect("a free port");
        let at = socket.local_addr().expect("an address");
        let _socket = socket;
        Self { _socket, at }
    }

    fn setup(&self) -> Setup {
        Setup {
            listen: Some(self.at.to_string()),
            ..Setup::default()
        }
    }
}

/// A running command, and what it printed so far.
struct Cli {
    child: Child,
    out: Lines,
    err: Lines,
}

struct Lines {
    coming: UnboundedReceiver<String>,
    seen: Vec<String>,
}

impl Lines {
    fn of(from: impl AsyncRead + Unpin + Send + 'static) -> Self {
        let (sender, coming) = unbounded_channel();
        let mut lines = BufReader::new(from).lines();
        tokio::spawn(async move {
            while let Ok(Some(line)) = lines.next_line().await {
                let _ = sender.send(line);
            }
        });
        let seen = Vec::new();
        Self { coming, seen }
    }

    async fn until(&mut self, wanted: &str) {
        while !self.seen.iter().any(|line| line == wanted) {
            let line = tokio::time::timeout(PATIENCE, self.coming.recv()).await;
            match line.expect("a line in time") {
                Some(line) => self.seen.push(line),
                None => panic!("`{wanted}` was not printed: {:?}", self.seen),
            }
        }
    }

    async fn rest(&mut self) -> Vec<String> {
        while let Some(line) = self.coming.recv().await {
            self.seen.push(line);
        }
        std::mem::take(&mut self.seen)
    }
}

impl Cli {
    fn start(server: &Server, args: &[&str]) -> Self {
        let mut child = Command::new(skep_binary())
            .arg("--server")
            .arg(&server.client.url)
            .arg("--data")
            .arg(server.data())
            .args(args)
            .env_clear()
            .env("HOME", server.data())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .expect("the binary runs");
        let out = Lines::of(child.stdout.take().expect("an output"));
        let err = Lines::of(child.stderr.take().expect("an output"));
        Self { child, out, err }
    }

    /// How it ended, and all that it printed.
    async fn end(mut self) -> (ExitStatus, Vec<String>, Vec<String>) {
        let ended = tokio::time::timeout(PATIENCE, self.child.wait()).await;
        let status = ended.expect("an end in time").expect("an end");
        (status, self.out.rest().await, self.err.rest().await)
    }
}

fn step(server: &Server, number: u32) {
    fs::write(server.home("a").join(format!("step-{number}")), "").expect("a step");
}

/// The only call that there is.
async fn only_call(server: &Server) -> serde_json::Value {
    let calls = server.client.get("/api/v1/calls").await.json();
    let calls = calls["items"].as_array().cloned().unwrap_or_default();
    assert_eq!(calls.len(), 1, "{calls:?}");
    calls[0].clone()
}

#[tokio::test]
async fn a_stream_goes_on_through_a_crash_of_the_server_with_each_event_once() {
    let address = Address::take();
    let mut server = Server::start_with(address.setup()).await;
    server.deploy("a", json!({})).await;
    let mut call = Cli::start(&server, &["call", "a", "/steps?n=4", "-d", "x"]);
    step(&server, 1);
    call.out.until("data: step 1").await;
    let id = only_call(&server).await["id"]
        .as_str()
        .unwrap_or_default()
        .to_owned();
    let mut attached = Cli::start(&server, &["calls", "attach", &id]);
    step(&server, 2);
    for cli in [&mut call, &mut attached] {
        cli.out.until("data: step 2").await;
    }
    server.kill();
    for cli in [&mut call, &mut attached] {
        cli.err.until(NOTE).await;
    }
    server.restart_with(address.setup()).await;
    step(&server, 3);
    for cli in [&mut call, &mut attached] {
        cli.out.until("data: step 3").await;
    }
    step(&server, 4);
    let events = [("1.1", 1), ("1.2", 2), ("2.3", 3), ("2.4", 4)];
    let lines: Vec<String> = events
        .iter()
        .flat_map(|(id, n)| {
            [
                format!("id: {id}"),
                format!("data: step {n}"),
                String::new(),
            ]
        })
        .collect();
    for cli in [call, attached] {
        let (status, out, err) = cli.end().await;
        assert_eq!((status.code(), &out), (Some(0), &lines), "{err:?}");
        assert_eq!(err, [NOTE]);
    }
    assert_eq!(only_call(&server).await["state"], "succeeded");
}

#[tokio::test]
async fn a_plain_answer_is_got_through_a_crash_of_the_server_and_given_once() {
    let address = Address::take();
    let mut server = Server::start_with(address.setup()).await;
    server.deploy("a", json!({})).await;
    let agent = server.agent("a").await["instance"]["pid"].as_i64();
    let agent = agent.and_then(|pid| Pid::from_raw(i32::try_from(pid).ok()?));
    let signal = |signal| kill_process(agent.expect("a process"), signal).expect("a signal");
    // It does not answer before the server is gone.
    signal(Signal::STOP);
    let mut call = Cli::start(&server, &["call", "a", "/once", "-d", "work"]);
    eventually("the call running", async || {
        let agent = server.agent("a").await;
        (agent["calls"]["running"] == 1).then_some(())
    })
    .await;
    server.kill();
    call.err.until(NOTE).await;
    signal(Signal::CONT);
    server.restart_with(address.setup()).await;
    let (status, out, err) = call.end().await;
    assert_eq!(
        (status.code(), out.concat().as_str(), err.as_slice()),
        (Some(0), "work", &[NOTE.to_owned()][..])
    );
    assert_eq!(only_call(&server).await["state"], "succeeded");
    let executed = server.executed("a");
    assert_eq!(executed.len(), 1, "{executed:?}");
    assert_eq!(executed[0].1, "work");
}

#[tokio::test]
async fn a_server_that_stays_away_is_given_up_after_the_timeout_with_the_next_thing_to_do() {
    let mut server = Server::start().await;
    server.deploy("a", json!({})).await;
    let args = [
        "-q",
        "call",
        "a",
        "/steps?n=2",
        "-d",
        "x",
        "--timeout",
        "1s",
    ];
    let mut call = Cli::start(&server, &args);
    step(&server, 1);
    call.out.until("data: step 1").await;
    let id = only_call(&server).await["id"].clone();
    let id = id.as_str().unwrap_or_default();
    server.kill();
    let (status, _, err) = call.end().await;
    assert_eq!(status.code(), Some(8), "{err:?}");
    let hint = format!("  hint: It goes on: `skep calls attach {id}` waits for its answer.");
    assert_eq!(err, [format!("error: {id} has no answer after 1s"), hint]);
    // One that was never there is not waited for.
    let (status, _, err) = Cli::start(&server, &["call", "a", "/x", "-d", "x"])
        .end()
        .await;
    assert_eq!(status.code(), Some(1));
    assert!(err[0].starts_with("error: no server answers at"), "{err:?}");
    // The call goes on without its client.
    server.restart().await;
    step(&server, 2);
    server.wait_call(id, "succeeded").await;
}

#[tokio::test]
async fn a_file_is_sent_as_it_is_and_one_over_the_limit_is_refused() {
    let env = vec![("SKEP_LIMITS_BODY".to_owned(), "1MiB".to_owned())];
    let server = Server::start_with(Setup {
        env,
        ..Setup::default()
    })
    .await;
    server.deploy("a", json!({})).await;
    let file = server.data().join("body");
    let send = format!("@{}", file.display());
    let bytes: Vec<u8> = (0..=255).cycle().take(1 << 20).collect();
    fs::write(&file, &bytes).expect("a file");
    let (status, out, err) = Cli::start(&server, &["call", "a", "/early", "-d", &send])
        .end()
        .await;
    assert_eq!(
        (status.code(), out),
        (Some(0), vec!["early".to_owned()]),
        "{err:?}"
    );
    let id = only_call(&server).await["id"].clone();
    let path = format!("/api/v1/calls/{}/request", id.as_str().unwrap_or_default());
    assert!(
        server.client.get(&path).await.body == bytes,
        "other bytes came"
    );
    let large = fs::File::create(&file).expect("a file");
    large.set_len(1 << 30).expect("a length");
    let (status, _, err) = Cli::start(&server, &["call", "a", "/early", "-d", &send])
        .end()
        .await;
    assert_eq!(status.code(), Some(1));
    assert!(err[0].starts_with("error: the body is over"), "{err:?}");
}
