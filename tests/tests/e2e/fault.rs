//! A disk that fails: system calls of the server are made to fail, and nothing that was
//! acknowledged may be missing afterwards.

use std::collections::HashSet;

use http::{HeaderValue, Method};
use serde_json::json;
use skep_tests::{Client, Server, Setup};

/// The write that fails first: the start is over by then, with its migrations.
const FIRST_WRITE: u32 = 500;
/// Acceptances that must work again after the fault.
const AFTERWARDS: usize = 20;
/// Clients that call at once.
const CLIENTS: usize = 8;

/// What a client was told of its calls.
#[derive(Debug, Default)]
struct Told {
    accepted: Vec<String>,
    refused: usize,
    after_refusal: usize,
}

async fn call_until_recovered(client: Client, number: usize) -> Told {
    let mut told = Told::default();
    for count in 0.. {
        let mut request =
            client.request(Method::POST, "/agents/a/work", format!("{number}-{count}"));
        request
            .headers_mut()
            .insert("prefer", HeaderValue::from_static("respond-async"));
        let answer = client.send(request).await.expect("an answer");
        match (answer.status, answer.code().as_str()) {
            (202, _) => {
                told.accepted.push(answer.call());
                told.after_refusal += usize::from(told.refused > 0);
            }
            (503, "store-unavailable") => {
                assert_eq!(answer.header("retry-after"), "1");
                told.refused += 1;
                tokio::time::sleep(std::time::Duration::from_millis(20)).await;
            }
            _ => panic!("{} {}", answer.status, answer.text()),
        }
        if told.after_refusal >= AFTERWARDS {
            break;
        }
    }
    told
}

/// Runs a server whose system calls fail for a while, then kills it, and looks whether all that
/// was acknowledged is there.
async fn survives(calls: &str, error: &str, from: u32, to: u32) {
    let inject = format!("inject={calls}:error={error}:when={from}..{to}");
    let trace = format!("trace={calls}");
    let words = [
        "strace",
        "-f",
        "-qq",
        "--seccomp-bpf",
        "-o",
        "/dev/null",
        "-e",
        &trace,
        "-e",
        &inject,
    ];
    let wrapper = words.map(str::to_owned).to_vec();
    let mut server = Server::start_with(Setup {
        wrapper,
        ..Setup::default()
    })
    .await;
    server.deploy("a", json!({})).await;
    let mut clients = Vec::new();
    for number in 0..CLIENTS {
        clients.push(tokio::spawn(call_until_recovered(
            server.client.clone(),
            number,
        )));
    }
    let mut acknowledged = HashSet::new();
    for client in clients {
        let told = client.await.expect("a client ends well");
        acknowledged.extend(told.accepted);
    }
    assert_eq!(
        server.client.get("/api/v1/health/basic").await.status,
        200,
        "it recovered"
    );
    server.kill();
    server.restart().await;
    for id in &acknowledged {
        server.wait_call(id, "succeeded").await;
        let answer = server
            .client
            .get(&format!("/api/v1/calls/{id}/response"))
            .await;
        assert_eq!(answer.status, 200);
    }
    let executed: HashSet<String> = server
        .executed("a")
        .into_iter()
        .map(|(call, _)| call)
        .collect();
    assert!(
        acknowledged.is_subset(&executed),
        "an accepted call was not carried out"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_fsync_that_fails_loses_nothing_acknowledged() {
    survives("fdatasync,fsync", "EIO", 40, 46).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_write_that_fails_loses_nothing_acknowledged() {
    survives("pwrite64", "EIO", FIRST_WRITE, FIRST_WRITE + 6).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_disk_loses_nothing_acknowledged() {
    survives("pwrite64", "ENOSPC", FIRST_WRITE, FIRST_WRITE + 8).await;
}
