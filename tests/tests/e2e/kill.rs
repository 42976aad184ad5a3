//! Nothing lost, nothing doubled: clients call while agents and the server are killed at random and
//! revisions are rolled out and back, and an oracle compares what was accepted, answered and carried out.

use std::collections::{HashMap, HashSet};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use http::{HeaderValue, Method};
use serde_json::json;
use skep_tests::postgres::Postgres;
use skep_tests::{Answer, Client, Server, agent_binary, eventually, executed};
use tempfile::TempDir;
use tokio::sync::{Mutex, RwLock};

use crate::docker::{Image, Traces};

/// Clients that call at once.
const CLIENTS: usize = 32;
/// How long the killing goes on, unless the environment says otherwise.
const SECONDS: u64 = 40;
/// The same for agents in containers; everything else is the same for them.
const DOCKER_SECONDS: u64 = 40;
/// Where a container has its ledger.
const LEDGER: &str = "/ledger";
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

/// What the agents are: local processes, or containers of an image.
enum Agents {
    Processes,
    Containers { image: Image, traces: Traces },
}

impl Agents {
    fn seconds(&self) -> u64 {
        let usual = match self {
            Self::Processes => SECONDS,
            Self::Containers { .. } => DOCKER_SECONDS,
        };
        let said = std::env::var("SKEP_KILL_SECONDS").ok();
        said.and_then(|text| text.parse().ok()).unwrap_or(usual)
    }

    /// Two copies of an agent that is killed all the time, and may need more than five tries for one
    /// call. All servers have one ledger for each agent.
    fn spec(&self, ledgers: &Path, agent: &str, number: u32) -> serde_json::Value {
        let ledger = ledgers.join(agent);
        std::fs::create_dir_all(&ledger).expect("a folder");
        let mut spec = json!({
            "name": agent, "replicas": 2, "env": { "NUMBER": number.to_string() },
            "calls": { "attempts": 50, "backoff": "10ms", "max_backoff": "100ms" },
        });
        match self {
            Self::Processes => {
                spec["command"] = json!([agent_binary()]);
                spec["sandbox"] = json!("off");
                spec["env"]["LEDGER"] = json!(ledger);
            }
            Self::Containers { image, .. } => {
                // The user inside is another one.
                let open = std::fs::Permissions::from_mode(0o777);
                std::fs::set_permissions(&ledger, open).expect("its folder");
                spec["driver"] = json!("docker");
                spec["image"] = json!(image.0);
                spec["pull"] = json!("never");
                spec["env"]["LEDGER"] = json!(LEDGER);
                spec["volumes"] = json!([{ "source": ledger, "target": LEDGER }]);
            }
        }
        spec
    }

    /// SIGKILL to a copy; false when none runs.
    async fn kill(&self, server: &Server, agent: &str) -> bool {
        match self {
            Self::Processes => server.kill_agent(agent).await,
            Self::Containers { traces, .. } => traces.kill_one(agent),
        }
    }
}

/// Calls until it has the answer, as a client that must not lose one does, and asks whoever answers.
async fn call(clients: &RwLock<Vec<Client>>, sent: &mut Sent) {
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
        let now = {
            let clients = clients.read().await;
            clients[fastrand::usize(0..clients.len())].clone()
        };
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
    let temporary = [
        "shutting-down",
        "store-unavailable",
        "queue-full",
        "agent-elsewhere",
    ];
    assert!(
        temporary.contains(&code.as_str()),
        "{} {}",
        answer.status,
        answer.text()
    );
}

async fn clients(client: Arc<RwLock<Vec<Client>>>, until: Instant) -> Vec<Sent> {
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
    takeovers: Vec<Duration>,
}

/// What is done to agents and servers.
#[derive(Debug, Clone, Copy)]
enum Deed {
    KillAgent,
    KillServer,
    Update,
    RollBack,
}

impl Did {
    /// Each kind once at the beginning, so that none is missing in a short run; later any.
    fn next(&self) -> Deed {
        let all = [
            (self.servers, Deed::KillServer),
            (self.updates, Deed::Update),
            (self.rollbacks, Deed::RollBack),
            (self.agents, Deed::KillAgent),
        ];
        let missing = all.into_iter().find(|(count, _)| *count == 0);
        missing.map_or_else(
            || match fastrand::u8(0..8) {
                0..4 => Deed::KillAgent,
                4 => Deed::KillServer,
                5 => Deed::RollBack,
                _ => Deed::Update,
            },
            |(_, deed)| deed,
        )
    }

    fn is_complete(&self) -> bool {
        [self.agents, self.servers, self.updates, self.rollbacks]
            .iter()
            .all(|count| *count > 0)
    }
}

/// Kills agents and servers, and rolls revisions out and back, at random moments. Of several servers
/// one lives at any time.
async fn killer(
    servers: &mut [Server],
    agents: &Agents,
    ledgers: &Path,
    client: &RwLock<Vec<Client>>,
    until: Instant,
) -> Did {
    let mut did = Did::default();
    let mut number = 0;
    while Instant::now() < until {
        tokio::time::sleep(KILL_EVERY.mul_f64(fastrand::f64())).await;
        let agent = ["work", "once"][fastrand::usize(0..2)];
        let which = fastrand::usize(0..servers.len());
        let other = servers.len() - 1 - which;
        match did.next() {
            Deed::KillAgent => {
                did.agents += u32::from(agents.kill(&servers[which], agent).await);
            }
            Deed::KillServer => {
                servers[which].kill();
                // Now and then the other has taken everything before it comes back.
                if servers.len() > 1 && fastrand::bool() {
                    taken_over(&servers[other], &mut did).await;
                }
                servers[which].restart_as_it_was().await;
                client.write().await[which] = servers[which].client.clone();
                did.servers += 1;
            }
            Deed::RollBack => {
                let path = format!("/api/v1/agents/{agent}/rollback");
                let back = servers[which].client.post_json(&path, &json!({})).await;
                did.rollbacks += u32::from(back.status == 200);
            }
            Deed::Update => {
                number += 1;
                let spec = agents.spec(ledgers, agent, number);
                let client = &servers[which].client;
                let answer = client.post_json("/api/v1/agents", &spec).await;
                // An agent may be on its way to another server.
                if answer.code() != "agent-elsewhere" {
                    assert_eq!(answer.status, 200, "{}", answer.text());
                    did.updates += 1;
                }
            }
        }
    }
    did
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_accepted_call_has_exactly_one_result() {
    println!(
        "{}",
        kill_and_compare(vec![Server::start().await], Agents::Processes).await
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_accepted_call_has_exactly_one_result_on_postgresql() {
    let postgres = Postgres::start();
    let server = Server::start_with(crate::postgres::on(&postgres)).await;
    println!(
        "{}",
        kill_and_compare(vec![server], Agents::Processes).await
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_accepted_call_has_exactly_one_result_on_two_servers() {
    let postgres = Postgres::start();
    let one = Server::start_with(crate::postgres::on(&postgres)).await;
    let two = crate::servers::beside(&one, &postgres).await;
    println!(
        "{}",
        kill_and_compare(vec![one, two], Agents::Processes).await
    );
}

/// Agents in containers, which only their engine ends.
async fn with_containers(server: Server) -> String {
    let agents = Agents::Containers {
        image: Image::new(&format!("kill-{}", fastrand::u32(..))),
        traces: Traces(server.data()),
    };
    kill_and_compare(vec![server], agents).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_accepted_call_has_exactly_one_result_in_containers() {
    println!("{}", with_containers(Server::start().await).await);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_accepted_call_has_exactly_one_result_in_containers_on_postgresql() {
    let postgres = Postgres::start();
    let server = Server::start_with(crate::postgres::on(&postgres)).await;
    println!("{}", with_containers(server).await);
}

/// Waits until this server has all agents, and notes how long that took.
async fn taken_over(server: &Server, did: &mut Did) {
    let killed = Instant::now();
    eventually("a takeover", async || {
        let page = server.client.get("/api/v1/servers").await.json();
        (page["items"].as_array()?.len() == 1 && page["items"][0]["agents"] == 2).then_some(())
    })
    .await;
    did.takeovers.push(killed.elapsed());
}

/// Tells what was done.
async fn kill_and_compare(mut servers: Vec<Server>, agents: Agents) -> String {
    let ledgers = TempDir::new().expect("a folder");
    for agent in ["work", "once"] {
        let spec = agents.spec(ledgers.path(), agent, 0);
        servers[0].deploy_spec(spec).await;
    }
    let all = servers.iter().map(|server| server.client.clone()).collect();
    let client = Arc::new(RwLock::new(all));
    let until = Instant::now() + Duration::from_secs(agents.seconds());
    let calling = tokio::spawn(clients(client.clone(), until));
    let did = killer(&mut servers, &agents, ledgers.path(), &client, until).await;
    let sent = calling.await.expect("the clients end");
    let written = |agent: &str| executed(&ledgers.path().join(agent));
    let (work, once) = (written("work"), written("once"));
    assert!(
        did.is_complete() && sent.len() > 100,
        "the test did not do its work: {did:?}, {} calls",
        sent.len()
    );
    check_answers(&sent);
    for server in &servers {
        check_journal(server, &sent).await;
    }
    check_log(&servers[0], &sent);
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

/// The audit log tells of each call once that it was accepted and once that it ended, and of no other.
fn check_log(server: &Server, sent: &[Sent]) {
    let mut told: HashMap<String, Vec<String>> = HashMap::new();
    for entry in crate::audit::whole(server) {
        if entry["resource"]["kind"] == "Call" {
            let id = entry["resource"]["id"].as_str().unwrap_or_default();
            let action = entry["action"].as_str().unwrap_or_default();
            told.entry(id.to_owned())
                .or_default()
                .push(action.to_owned());
        }
    }
    for one in sent {
        let of_call = told.remove(&one.answers[0].0);
        let of_call = of_call.unwrap_or_default();
        assert_eq!(of_call, ["agent:call", "call:end"], "{one:?}");
    }
    // What is left was refused, after a commit that was in doubt.
    for (call, actions) in told {
        assert_eq!(actions, ["agent:call", "call:withdraw"], "{call}");
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
        let elsewhere = match one.agent {
            "work" => done.contains_key(one.answers[0].0.as_str()),
            _ => executed.iter().any(|(_, body)| *body == one.body),
        };
        assert!(!elsewhere, "another agent carried out {one:?}");
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
