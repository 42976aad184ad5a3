//! Nothing lost, nothing doubled: clients call while agents and the server are killed at random and
//! revisions are rolled out and back, and an oracle compares what was accepted, answered and carried out.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use http::{HeaderValue, Method};
use serde_json::json;
use skep_tests::postgres::Postgres;
use skep_tests::{Answer, Client, Server, agent_binary};
use tokio::sync::{Mutex, RwLock};

/// Clients that call at once.
const CLIENTS: usize = 32;
/// How long the killing goes on, unless the environment says otherwise.
const SECONDS: u64 = 60;
/// The wait between two kills is random up to this.
const KILL_EVERY: Duration = Duration::from_millis(1800);

/// What one client knows of one call of its own.
#[derive(Debug, Clone)]
struct Sent {
    body: String,
    key: String,
    agent: &'static str,
    /// Every answer that came, with its call.
    answers: Vec<(String, String)>,
}

fn seconds() -> u64 {
    std::env::var("SKEP_KILL_SECONDS")
        .ok()
        .and_then(|text| text.parse().ok())
        .unwrap_or(SECONDS)
}

/// Calls until it has the answer, as a client that must not lose one does.
async fn call(client: &RwLock<Client>, sent: &mut Sent) {
    let path = format!(
        "/agents/{}/{}",
        sent.agent,
        if sent.agent == "once" {
            "once"
        } else {
            "work?ms=5"
        }
    );
    loop {
        let now = client.read().await.clone();
        let mut request = now.request(Method::POST, &path, sent.body.clone());
        let key = HeaderValue::try_from(&sent.key).expect("a key");
        request.headers_mut().insert("idempotency-key", key);
        match now.send(request).await {
            Ok(answer) if answer.status == 200 => {
                sent.answers.push((answer.call(), answer.text()));
                return;
            }
            Ok(answer) => must_be_temporary(&answer),
            // The server is down, or went down in the middle.
            Err(_) => tokio::time::sleep(Duration::from_millis(20)).await,
        }
    }
}

fn must_be_temporary(answer: &Answer) {
    let code = answer.code();
    let temporary = ["shutting-down", "store-unavailable", "queue-full"];
    assert!(
        temporary.contains(&code.as_str()),
        "{} {}",
        answer.status,
        answer.text()
    );
}

async fn clients(client: Arc<RwLock<Client>>, until: Instant) -> Vec<Sent> {
    let all = Arc::new(Mutex::new(Vec::new()));
    let mut tasks = Vec::new();
    for number in 0..CLIENTS {
        let (client, all) = (client.clone(), all.clone());
        tasks.push(tokio::spawn(async move {
            let agent = if number % 2 == 0 { "work" } else { "once" };
            for count in 0.. {
                if Instant::now() >= until {
                    return;
                }
                let body = format!("body-{number}-{count}");
                let mut sent = Sent {
                    key: format!("key-{number}-{count}"),
                    body,
                    agent,
                    answers: Vec::new(),
                };
                call(&client, &mut sent).await;
                // A client that asks again gets the very same answer.
                if count % 16 == 0 {
                    call(&client, &mut sent).await;
                }
                all.lock().await.push(sent);
            }
        }));
    }
    for task in tasks {
        task.await.expect("a client ends well");
    }
    Arc::try_unwrap(all)
        .map(Mutex::into_inner)
        .unwrap_or_default()
}

/// What happened to the agents and the server, and how often.
#[derive(Debug, Default)]
struct Did {
    agents: u32,
    servers: u32,
    updates: u32,
    rollbacks: u32,
}

/// Two copies of an agent that is killed all the time, and may need more than five tries for one
/// call.
fn spec(agent: &str, number: u32) -> serde_json::Value {
    json!({
        "name": agent, "command": [agent_binary()], "replicas": 2,
        "env": { "NUMBER": number.to_string() },
        "calls": { "attempts": 50, "backoff": "10ms", "max_backoff": "100ms" },
    })
}

/// Kills agents and the server, and rolls revisions out and back, at random moments.
async fn killer(server: &mut Server, client: &RwLock<Client>, until: Instant) -> Did {
    let mut did = Did::default();
    // Each kind once at the beginning, so that none is missing in a short run.
    let mut kinds = [4, 6, 5, 0].into_iter();
    while Instant::now() < until {
        tokio::time::sleep(KILL_EVERY.mul_f64(fastrand::f64())).await;
        let agent = ["work", "once"][fastrand::usize(0..2)];
        match kinds.next().unwrap_or_else(|| fastrand::u8(0..8)) {
            0..4 => did.agents += u32::from(server.kill_agent(agent).await),
            4 => {
                server.kill();
                server.restart_as_it_was().await;
                *client.write().await = server.client.clone();
                did.servers += 1;
            }
            5 => {
                let path = format!("/api/v1/agents/{agent}/rollback");
                let back = server.client.post_json(&path, &json!({})).await;
                did.rollbacks += u32::from(back.status == 200);
            }
            _ => {
                did.updates += 1;
                let spec = spec(agent, did.updates);
                let answer = server.client.post_json("/api/v1/agents", &spec).await;
                assert_eq!(answer.status, 200, "{}", answer.text());
            }
        }
    }
    did
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_accepted_call_has_exactly_one_result() {
    println!("{}", kill_and_compare(Server::start().await).await);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_accepted_call_has_exactly_one_result_on_postgresql() {
    let postgres = Postgres::start();
    let server = Server::start_with(crate::postgres::on(&postgres)).await;
    println!("{}", kill_and_compare(server).await);
}

/// Tells what was done.
async fn kill_and_compare(mut server: Server) -> String {
    server.deploy_spec(spec("work", 0)).await;
    server.deploy_spec(spec("once", 0)).await;
    let client = Arc::new(RwLock::new(server.client.clone()));
    let until = Instant::now() + Duration::from_secs(seconds());
    let calling = tokio::spawn(clients(client.clone(), until));
    let did = killer(&mut server, &client, until).await;
    let sent = calling.await.expect("the clients end");
    let (work, once) = (server.executed("work"), server.executed("once"));
    assert!(
        did.agents > 0 && did.servers > 0 && did.updates > 0 && sent.len() > 100,
        "the test did not do its work"
    );
    check_answers(&sent);
    check_journal(&server, &sent).await;
    check_executions(&sent, &work, &once);
    format!(
        "{} calls, {did:?}; {} executions of `work`",
        sent.len(),
        work.len(),
    )
}

/// Each answer belongs to its call, and asking again gave the same.
fn check_answers(sent: &[Sent]) {
    let mut calls = HashSet::new();
    for one in sent {
        let (call, text) = &one.answers[0];
        assert_eq!(*text, one.body, "the answer belongs to another call");
        assert!(
            one.answers.iter().all(|other| other == &one.answers[0]),
            "{one:?}"
        );
        assert!(calls.insert(call.clone()), "{call} answered two requests");
    }
}

/// The journal has each accepted call once, succeeded, and no other.
async fn check_journal(server: &Server, sent: &[Sent]) {
    let mut journal = HashMap::new();
    let mut cursor = String::new();
    loop {
        let page = server
            .client
            .get(&format!("/api/v1/calls?limit=1000{cursor}"))
            .await
            .json();
        for call in page["items"].as_array().expect("a page") {
            let key = call["idempotency_key"]
                .as_str()
                .unwrap_or_default()
                .to_owned();
            let before = journal.insert(key, call.clone());
            assert!(before.is_none(), "two calls have the key of {before:?}");
        }
        match page["next"].as_str() {
            Some(next) => cursor = format!("&cursor={next}"),
            None => break,
        }
    }
    assert_eq!(
        journal.len(),
        sent.len(),
        "accepted calls and answered requests differ in number"
    );
    for one in sent {
        let call = &journal[&one.key];
        assert_eq!(call["state"], "succeeded", "{call}");
        assert_eq!(call["id"], one.answers[0].0.as_str(), "{call}");
    }
}

/// What the agents themselves wrote down.
fn check_executions(sent: &[Sent], work: &[(String, String)], once: &[(String, String)]) {
    let executed: HashSet<(&str, &str)> = work
        .iter()
        .map(|(call, body)| (call.as_str(), body.as_str()))
        .collect();
    let mut done: HashMap<&str, u32> = HashMap::new();
    for (key, _) in once {
        *done.entry(key).or_default() += 1;
    }
    for one in sent {
        match one.agent {
            "work" => {
                let (call, _) = &one.answers[0];
                assert!(
                    executed.contains(&(call.as_str(), one.body.as_str())),
                    "{one:?} was not executed"
                );
            }
            _ => assert_eq!(
                done.get(one.key.as_str()),
                Some(&1),
                "{one:?} was not executed exactly once"
            ),
        }
    }
    assert_eq!(
        done.len(),
        sent.iter().filter(|one| one.agent == "once").count()
    );
}
