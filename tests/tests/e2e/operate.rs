//! Agents operated from the command line: lists and orders to many, health and figures.

use std::io::{BufRead, BufReader};
use std::process::Stdio;

use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};
use skep_tests::{Server, Terminal, agent_binary, eventually};

use crate::cli::{command, skep};

/// Three agents: two that are well, with labels, and one that never gets ready.
async fn three() -> Server {
    let server = Server::start().await;
    for (name, team) in [("a", "blue"), ("b", "red")] {
        let spec = json!({
            "name": name, "command": [agent_binary()], "labels": { "team": team },
            "stop_grace": "1s",
        });
        server.deploy_spec(spec).await;
    }
    let never = json!({
        "name": "never", "command": ["sh", "-c", "sleep 1000"], "labels": { "team": "blue" },
        "stop_grace": "100ms",
    });
    let answer = server.client.post_json("/api/v1/agents", &never).await;
    assert_eq!(answer.status, 201, "{}", answer.text());
    server
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_list_is_filtered_and_shaped() {
    let server = three().await;
    let names = |args: &[&str]| {
        let said = skep(&server, args);
        assert_eq!(said.code, Some(0), "{args:?}: {}", said.err);
        said.out
    };
    assert_eq!(names(&["list", "-o", "name", "--status", "ready"]), "a\nb");
    assert_eq!(
        names(&["ls", "-o", "name", "--selector", "team=blue"]),
        "a\nnever"
    );
    let both = [
        "list",
        "-o",
        "name",
        "--selector",
        "team=blue",
        "--status",
        "running",
    ];
    assert_eq!(names(&both), "a\nnever");
    assert_eq!(
        names(&[
            "list",
            "--format",
            "name,status,labels",
            "--status",
            "ready"
        ]),
        "NAME STATUS LABELS\na ready team=blue\nb ready team=red"
    );
    assert_eq!(
        names(&[
            "list",
            "--format",
            "{name}={status} {{{ready}}}",
            "--status",
            "ready"
        ]),
        "a=ready {1}\nb=ready {1}"
    );
    let picked = names(&[
        "-o",
        "json",
        "list",
        "--format",
        "name,status",
        "--status",
        "ready",
    ]);
    let picked: Value = serde_json::from_str(&picked).expect("pure JSON");
    assert_eq!(picked[0], json!({ "name": "a", "status": "ready" }));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_list_says_what_is_wrong_with_what_is_asked_of_it() {
    let server = three().await;
    for (args, hint) in [
        (
            vec!["list", "--format", "name,stauts"],
            "Did you mean `status`?",
        ),
        (vec!["list", "--status", "redy"], "did you mean `ready`?"),
        (
            vec!["list", "-o", "json", "--format", "{name}"],
            "Leave one of them out",
        ),
    ] {
        let wrong = skep(&server, &args);
        assert_eq!(wrong.code, Some(2), "{args:?}: {}", wrong.err);
        assert!(wrong.err.contains(hint), "{args:?}: {}", wrong.err);
    }
    let none = skep(&server, &["list", "--status", "asleep"]);
    assert_eq!(
        (none.code, none.err.as_str()),
        (Some(0), "No agent is like that.")
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_watched_list_tells_changes_until_ctrl_c() {
    let server = three().await;
    let watch = [
        "list",
        "--watch",
        "--selector",
        "team=red",
        "--format",
        "{name} {status}",
    ];
    let mut child = command(&server, &watch)
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .expect("the binary runs");
    let mut lines = BufReader::new(child.stdout.take().expect("a pipe")).lines();
    let mut next = || lines.next().expect("a line").expect("a line");
    assert_eq!(next(), "b ready");
    server.client.post("/api/v1/agents/b/stop", "").await;
    let mut seen = next();
    while seen == "b stopping" {
        seen = next();
    }
    assert_eq!(seen, "b stopped");
    let pid = i32::try_from(child.id())
        .ok()
        .and_then(Pid::from_raw)
        .expect("a pid");
    kill_process(pid, Signal::INT).expect("a signal");
    assert_eq!(child.wait().expect("an end").code(), Some(130));

    let mut screen = Terminal::run(command(&server, &["list", "--watch"]), 80, 24);
    // The whole list is drawn over the one before.
    screen.shows("\x1b[H\x1b[JNAME");
    screen.shows("\x1b[H\x1b[JNAME");
    screen.signal(Signal::INT);
    let (code, _, _) = screen.ends();
    assert_eq!(code, Some(130));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn orders_to_all_are_asked_for_and_one_failure_stops_no_other() {
    let server = three().await;
    let unsure = skep(&server, &["stop", "--all"]);
    assert_eq!(unsure.code, Some(2), "{}", unsure.err);
    let question = "Stop 3 agents (a, b, never)?";
    assert!(
        unsure.err.contains(question) && unsure.err.contains("--yes"),
        "{}",
        unsure.err
    );
    assert_eq!(skep(&server, &["stop"]).code, Some(2));

    let mut asked = Terminal::run(command(&server, &["stop", "--all"]), 80, 24);
    asked.shows(question);
    asked.press("n\n");
    let (code, _, _) = asked.ends();
    assert_eq!(code, Some(3));
    assert_eq!(server.agent("a").await["desired"], "running");

    let some = skep(&server, &["stop", "a", "nobody", "b"]);
    assert_eq!(some.code, Some(1));
    assert_eq!(some.out, "a is stopped.\nb is stopped.");
    assert!(
        some.err
            .starts_with("nobody failed: There is no agent `nobody` ("),
        "{}",
        some.err
    );
    assert!(some.err.contains("1 of 3 agents failed"), "{}", some.err);

    let started = skep(&server, &["start", "--selector", "team=red", "--yes"]);
    assert_eq!(
        (started.code, started.out.as_str()),
        (Some(0), "b is ready.")
    );
    assert_eq!(server.agent("a").await["desired"], "stopped");
    let restarted = skep(
        &server,
        &["restart", "--selector", "team=red", "-y", "-o", "json"],
    );
    let restarted: Value = serde_json::from_str(&restarted.out).expect("pure JSON");
    assert_eq!(
        restarted,
        json!([{ "name": "b", "ok": true, "state": "ready" }])
    );

    let removed = skep(&server, &["remove", "--all", "--yes"]);
    assert_eq!(removed.code, Some(0), "{}", removed.err);
    assert_eq!(
        removed.out,
        "a is removed.\nb is removed.\nnever is removed."
    );
    let nothing = skep(&server, &["remove", "--all", "--yes"]);
    assert_eq!(nothing.code, Some(0));
    assert!(nothing.err.contains("nothing was done"), "{}", nothing.err);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn health_of_an_agent_is_its_probes() {
    let server = three().await;
    let well = skep(&server, &["health", "a"]);
    assert_eq!(well.code, Some(0), "{}", well.err);
    assert!(well.out.contains("Healthy: yes"), "{}", well.out);
    assert!(
        well.out.contains("Probe: GET /ping answered well ("),
        "{}",
        well.out
    );
    let never = eventually("a probe", async || {
        let never = skep(&server, &["health", "never"]);
        never.out.contains("in a row").then_some(never)
    })
    .await;
    assert_eq!(never.code, Some(5));
    assert!(never.out.contains("Healthy: NO"), "{}", never.out);
    assert!(never.out.contains("Probe: "), "{}", never.out);
    let late = skep(
        &server,
        &["health", "never", "--wait", "--timeout", "300ms"],
    );
    assert_eq!(late.code, Some(8), "{}", late.err);
    server.client.post("/api/v1/agents/a/restart", "").await;
    let waited = skep(&server, &["health", "a", "--wait", "-o", "json"]);
    assert_eq!(waited.code, Some(0), "{}", waited.err);
    let agent: Value = serde_json::from_str(&waited.out).expect("pure JSON");
    assert_eq!(agent["instances"][0]["probe"]["ok"], true, "{agent}");
    // What rests as its owner wants is well.
    server.client.post("/api/v1/agents/b/stop", "").await;
    server.wait_state("b", "stopped").await;
    assert_eq!(skep(&server, &["health", "b"]).code, Some(0));
    assert_eq!(skep(&server, &["health", "nobody"]).code, Some(1));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn stats_tell_what_is_used_and_how_calls_go() {
    let server = Server::start().await;
    let script = "while :; do :; done & exec \"$AGENT\"";
    let agent = agent_binary();
    let spec = json!({
        "name": "busy", "command": ["sh", "-c", script], "replicas": 2,
        "env": { "AGENT": agent }, "volumes": [{ "source": agent, "read_only": true }],
        "calls": { "attempts": 1 },
    });
    server.deploy_spec(spec).await;
    server.deploy("idle", json!({})).await;
    for _ in 0..20 {
        server.post("busy", "/work", "x").await;
    }
    server.post("busy", "/status?code=500", "x").await;
    let stats = eventually("both copies", async || {
        let stats = server.client.get("/api/v1/agents/busy/stats").await.json();
        (stats["ready"] == 2).then_some(stats)
    })
    .await;
    let instances = stats["instances"].as_array().cloned().expect("instances");
    assert_eq!(instances.len(), 2, "{stats}");
    for one in &instances {
        assert!(one["cpu_percent"].as_f64() > Some(1.0), "{stats}");
        assert_eq!(one["processes"], 2, "the loop counts: {stats}");
        assert!(one["memory_bytes"].as_u64() > Some(1 << 20), "{stats}");
        // Nobody can tell the network of a process from that of others.
        assert!(one.get("received_bytes").is_none(), "{stats}");
    }
    assert_eq!(stats["errors"], 1, "{stats}");
    assert!(stats["calls_per_second"].as_f64() > Some(0.2), "{stats}");
    let (p50, p99) = (stats["p50_ms"].as_f64(), stats["p99_ms"].as_f64());
    assert!(p50 > Some(0.0) && p99 >= p50, "{stats}");

    let table = skep(&server, &["stats", "--instances"]);
    assert_eq!(table.code, Some(0), "{}", table.err);
    let lines: Vec<&str> = table.out.lines().collect();
    assert!(
        lines[0].starts_with("AGENT STATE READY CPU MEM NET I/O RUN"),
        "{}",
        table.out
    );
    assert_eq!(lines.len(), 6, "{}", table.out);
    let lines = skep(&server, &["stats", "busy", "-o", "json"]);
    let lines: Value = serde_json::from_str(&lines.out).expect("pure JSON");
    assert_eq!(lines[0]["agent"], "busy");

    let mut child = command(&server, &["stats", "--stream", "-o", "json"])
        .stdout(Stdio::piped())
        .spawn()
        .expect("the binary runs");
    let mut lines = BufReader::new(child.stdout.take().expect("a pipe")).lines();
    for name in ["busy", "idle", "busy"] {
        let line = lines.next().expect("a line").expect("a line");
        let stats: Value = serde_json::from_str(&line).expect("an object a line");
        assert_eq!(stats["agent"], name);
    }
    drop(lines);
    // Who reads has seen enough.
    assert_eq!(child.wait().expect("an end").code(), Some(0));

    let mut screen = Terminal::run(command(&server, &["stats", "--all"]), 80, 24);
    let first = screen.shows("idle");
    assert!(first.contains("\x1b[2J"), "{first:?}");
    screen.shows("\x1b[H\x1b[JAGENT");
    screen.signal(Signal::INT);
    let (code, _, same) = screen.ends();
    assert_eq!((code, same), (Some(130), true));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn top_draws_hears_keys_and_gives_the_terminal_back() {
    let server = three().await;
    let refused = skep(&server, &["top"]);
    assert_eq!(refused.code, Some(2));
    assert!(refused.err.contains("skep stats"), "{}", refused.err);

    let mut screen = Terminal::run(command(&server, &["top"]), 80, 24);
    let first = screen.shows("q quit");
    assert!(
        first.contains("\x1b[?1049h") && first.contains("skep top  3 agents"),
        "{first:?}"
    );
    assert!(
        first.contains("never") && first.contains("by CPU"),
        "{first:?}"
    );
    let lines = first.split("\r\n").map(|line| line.replace("\x1b[K", ""));
    for line in lines.skip(1) {
        let plain = line.replace("\x1b[7m", "").replace("\x1b[0m", "");
        let plain = plain.replace("\x1b[32m", "").replace("\x1b[33m", "");
        assert!(plain.chars().count() <= 80, "{plain:?}");
    }
    screen.press("n");
    let named = screen.shows("by name");
    let (a, b) = (named.find("\r\na "), named.find("\r\nb "));
    assert!(a.is_some() && a < b, "{named:?}");
    screen.press("i");
    screen.shows(" …");
    screen.resize(60, 12);
    // A line for each of the smaller window's rows, the last without an end.
    screen.shows("\x1b[J");
    screen.press("m");
    let small = screen.shows("by memory");
    let small = small.rsplit("\x1b[H").next().unwrap_or_default().to_owned();
    assert_eq!(small.matches("\r\n").count(), 11, "{small:?}");
    screen.press("q");
    let (code, last, same) = screen.ends();
    assert_eq!((code, same), (Some(0), true));
    assert!(last.ends_with("\x1b[?25h\x1b[?1049l"), "{last:?}");

    for (signal, code) in [(Signal::TERM, 130), (Signal::HUP, 130)] {
        let mut screen = Terminal::run(command(&server, &["top"]), 80, 24);
        screen.shows("q quit");
        screen.signal(signal);
        let (ended, last, same) = screen.ends();
        assert_eq!((ended, same), (Some(code), true), "{signal:?}");
        assert!(last.ends_with("\x1b[?1049l"), "{last:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn attach_follows_an_agent_or_a_call() {
    let server = Server::start().await;
    let script = "echo before; exec 3<>\"$HOME/lines\"; \
                  while read -r line <&3; do echo \"out $line\"; echo \"err $line\" >&2; done";
    let spec = json!({
        "name": "a", "health": { "startup": "10m" },
        "command": ["sh", "-c", format!("mkfifo \"$HOME/lines\"; {script}")],
    });
    server.client.post_json("/api/v1/agents", &spec).await;
    eventually("its output", async || {
        skep(&server, &["logs", "a"])
            .out
            .contains("before")
            .then_some(())
    })
    .await;
    let mut child = command(&server, &["attach", "a"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the binary runs");
    let mut errors = BufReader::new(child.stderr.take().expect("a pipe")).lines();
    let attached = errors.next().expect("a line").expect("a line");
    assert!(attached.starts_with("Attached to a"), "{attached}");
    let fifo = server.home("a").join("lines");
    std::fs::write(&fifo, "one\n").expect("it reads");
    let mut lines = BufReader::new(child.stdout.take().expect("a pipe")).lines();
    assert_eq!(
        lines.next().expect("a line").expect("a line"),
        "out one",
        "not what was before"
    );
    assert_eq!(errors.next().expect("a line").expect("a line"), "err one");
    let pid = i32::try_from(child.id())
        .ok()
        .and_then(Pid::from_raw)
        .expect("a pid");
    kill_process(pid, Signal::INT).expect("a signal");
    assert_eq!(child.wait().expect("an end").code(), Some(130));

    server.deploy("b", json!({})).await;
    let call = server.post("b", "/work", "answer").await.call();
    let answer = skep(&server, &["attach", &call]);
    assert_eq!((answer.code, answer.out.as_str()), (Some(0), "answer"));
    assert_eq!(skep(&server, &["attach", "nobody"]).code, Some(1));
}
