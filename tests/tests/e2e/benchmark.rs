//! `skep benchmark` against real agents: what it measures, compares and fails on.

use std::fs;

use serde_json::{Value, json};
use skep_tests::Server;

use crate::cli::{Said, command, skep};

/// A benchmark's JSON.
fn measured(server: &Server, words: &[&str]) -> Value {
    let said = benchmark(server, &[words, &["-o", "json"]].concat());
    assert_eq!(said.code, Some(0), "{}", said.err);
    serde_json::from_str(&said.out).expect("JSON")
}

fn benchmark(server: &Server, words: &[&str]) -> Said {
    skep(server, &[&["benchmark"], words].concat())
}

fn number(value: &Value) -> f64 {
    value.as_f64().expect("a number")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_open_loop_does_not_hide_the_waiting() {
    let server = Server::start().await;
    // One at a time, 50 ms each: 20 a second is all that it can.
    server.deploy("slow", json!({ "concurrency": 1 })).await;
    let work = [
        "slow",
        "--path",
        "/work?ms=50",
        "-d",
        "x",
        "-n",
        "20",
        "--warmup",
        "1",
    ];
    let closed = measured(&server, &[&work[..], &["-c", "1"]].concat());
    let open = measured(&server, &[&work[..], &["--rate", "40"]].concat());
    let (closed, open) = (&closed["agents"][0], &open["agents"][0]);
    for found in [closed, open] {
        assert_eq!(
            (&found["requests"], &found["success"]),
            (&json!(20), &json!(100.0))
        );
        assert!(number(&found["latency"]["min"]) >= 50.0, "{found}");
        assert!(number(&found["usage"]["memory_bytes"]) > 0.0, "{found}");
    }
    // The last was due after 475 ms and its answer cannot be there before 20 times 50 ms are over.
    assert!(number(&open["latency"]["max"]) >= 500.0, "{open}");
    assert!(number(&open["seconds"]) >= 1.0, "{open}");
    // Each client waited before it asked again, and saw nothing of it.
    let rate = number(&closed["throughput"]);
    assert!((1.0..=20.0).contains(&rate), "{rate}");
    assert!(closed["sent_late_p99"].is_null() && open["sent_late_p99"].is_number());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bounds_errors_and_comparisons_are_told() {
    let server = Server::start().await;
    server.deploy("one", json!({ "attempts": 1 })).await;
    server.deploy("two", json!({ "attempts": 1 })).await;
    let folder = tempfile::tempdir().expect("a folder");
    let scenario = folder.path().join("mixture.yaml");
    let text = "requests:\n  - {weight: 1, path: /status?code=500, body: x, think: 1ms}\n  \
                - {weight: 1, path: /work?ms=1, json: {n: 1}}\n";
    fs::write(&scenario, text).expect("a file");
    let scenario = scenario.display().to_string();
    let mixture = [
        "one",
        "two",
        "--scenario",
        scenario.as_str(),
        "-n",
        "60",
        "-c",
        "4",
    ];
    let mixed = measured(&server, &mixture);
    let sent: Vec<_> = (0..2).map(|at| &mixed["agents"][at]["requests"]).collect();
    assert_eq!(sent, [&json!(60), &json!(60)]);
    let (good, bad) = (
        &mixed["agents"][0]["succeeded"],
        &mixed["agents"][0]["errors"]["status 500"],
    );
    assert_eq!(number(good) + number(bad), 60.0);
    assert!(number(good) > 10.0 && number(bad) > 10.0, "{good} {bad}");

    let before = folder.path().join("before.json");
    fs::write(&before, mixed.to_string()).expect("a file");
    let before = before.display().to_string();
    let bounded = [
        "--compare",
        &before,
        "--min-success",
        "99",
        "--max-p99",
        "1us",
    ];
    let missed = benchmark(&server, &[&mixture[..], &bounded].concat());
    assert_eq!(missed.code, Some(5), "{}", missed.err);
    for says in ["one answered ", "well, not 99%", "two has a p99 of "] {
        assert!(missed.err.contains(says), "{}", missed.err);
    }
    assert!(
        missed
            .out
            .starts_with("one two\nRequests 60 (±0%) 60 (±0%)\n"),
        "{}",
        missed.out
    );
    assert!(missed.out.contains("times status 500"), "{}", missed.out);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_page_is_written_and_mistakes_are_told() {
    let server = Server::start().await;
    server.deploy("one", json!({})).await;
    let folder = tempfile::tempdir().expect("a folder");
    let scenario = folder.path().join("thinks.yaml");
    fs::write(&scenario, "requests: [{think: 1ms}]").expect("a file");
    let scenario = scenario.display().to_string();
    let page = command(
        &server,
        &[
            "benchmark",
            "one",
            "-n",
            "5",
            "-o",
            "html",
            "--path",
            "/work",
            "-d",
            "1",
        ],
    )
    .output()
    .expect("the binary runs");
    let page = String::from_utf8_lossy(&page.stdout).into_owned();
    assert!(
        page.starts_with("<!doctype html>") && page.contains("<polyline"),
        "{page}"
    );
    let wrong = skep(&server, &["list", "-o", "html"]);
    assert_eq!(wrong.code, Some(2), "{}", wrong.err);
    for words in [
        &["one", "--rate", "0"][..],
        &["one", "--scenario", &scenario, "--rate", "5"],
        &["none"],
    ] {
        let said = benchmark(&server, words);
        assert!(matches!(said.code, Some(1 | 2)), "{words:?} {}", said.err);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn cold_starts_are_measured_and_leave_the_agent_running() {
    let server = Server::start().await;
    server.deploy("one", json!({})).await;
    let found = measured(
        &server,
        &[
            "one", "--path", "/work", "-d", "1", "-n", "10", "--cold", "2",
        ],
    );
    let found = &found["agents"][0];
    assert_eq!(found["cold"]["starts"], 2);
    // How long it took is the machine's: on one that is busy a warm call may be the slower.
    let (middle, worst) = (number(&found["cold"]["p50"]), number(&found["cold"]["max"]));
    assert!(middle > 0.0 && worst >= middle, "{middle} {worst}");
    assert_eq!(server.agent("one").await["state"], "ready");
}
