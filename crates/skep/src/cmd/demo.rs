//! `demo`: the promise, shown on the real thing. A server of its own, an agent, calls from several
//! clients at once; then SIGKILL for the agent and SIGKILL for the server; and a count at the end.

mod load;

use std::path::Path;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use serde::Serialize;
use skep_api::{Agent, AgentSpec, CallState, InstanceState};
use skep_client::{CallsQuery, Client};
use tokio::signal::unix::{SignalKind, signal};

use self::load::{Done, Load};
use super::child::Server;
use crate::cli::DemoArgs;
use crate::failure::{Exit, Failure, Result};
use crate::session::Session;

const AGENT: &str = "demo";
/// What the agent takes for each call.
const WORK_MS: u64 = 150;
/// Clients that call at once.
const CLIENTS: usize = 8;
/// Everything must be over by then.
const PATIENCE: Duration = Duration::from_secs(60);
const LOOK: Duration = Duration::from_millis(20);
/// The agent's log of its effects, in the data folder: the agent may write to its home only.
const EXECUTED: &str = "agents/default/demo/home/executed.log";

/// What was seen, for people and programs.
#[derive(Debug, Serialize)]
struct Report {
    calls: usize,
    answered: usize,
    wrong: usize,
    lost: usize,
    doubled_calls: usize,
    doubled_effects: usize,
    missing_effects: usize,
    attempts: u64,
    calls_with_more_attempts: usize,
    requests_sent_again: u64,
    p50_ms: u64,
    worst_ms: u64,
    seconds: f64,
}

impl Report {
    fn is_clean(&self) -> bool {
        let bad = self.wrong
            + self.lost
            + self.doubled_calls
            + self.doubled_effects
            + self.missing_effects;
        bad == 0 && self.answered == self.calls
    }
}

/// Tells what happens, with the time since the beginning.
#[derive(Debug, Clone, Copy)]
struct Story<'a> {
    session: &'a Session,
    began: Instant,
}

impl Story<'_> {
    fn tell(&self, text: &str) -> Result {
        let at = self.began.elapsed().as_secs_f64();
        self.session.output.say(&format!("{at:6.2}s  {text}"))
    }
}

pub(crate) async fn demo(session: &Session, args: &DemoArgs) -> Result {
    let folder = tempfile::Builder::new().prefix("skep-demo-").tempdir()?;
    let mut server = Server::new(folder.path())?;
    let told = tokio::select! {
        told = tokio::time::timeout(PATIENCE, tell(session, &mut server, args)) => {
            told.unwrap_or_else(|_| Err(Failure::new(Exit::Timeout, "the demo took too long")))
        }
        interrupted = interrupted() => interrupted.and(Err(Failure::quiet(Exit::Interrupted))),
    };
    let ended = match (told, args.once) {
        (Ok(()), false) => linger(session, &mut server).await,
        (told, _) => told,
    };
    if let Err(failure) = &ended
        && !failure.detail.is_empty()
    {
        session.output.note(&server.last_words());
    }
    server.end().await;
    ended
}

/// Returns at Ctrl-C or SIGTERM: the server and its agents must not be left behind.
pub(super) async fn interrupted() -> Result {
    let mut terminate = signal(SignalKind::terminate())?;
    tokio::select! {
        interrupted = tokio::signal::ctrl_c() => Ok(interrupted?),
        _ = terminate.recv() => Ok(()),
    }
}

async fn tell(session: &Session, server: &mut Server, args: &DemoArgs) -> Result {
    let output = &session.output;
    let story = Story {
        session,
        began: Instant::now(),
    };
    output.say("Skep: nothing is lost. See for yourself; the blows are real SIGKILLs.\n")?;
    let client = server.start().await?;
    story.tell(&format!("A server listens at {}.", client.url()))?;
    client.deploy(&specification()?).await?;
    let agent = until_ready(&client, None).await?;
    let pid = agent.instance.as_ref().and_then(|instance| instance.pid);
    story.tell(&format!(
        "The agent `{AGENT}` is ready, as process {}.",
        shown(pid)
    ))?;
    let calls = usize::try_from(args.calls).unwrap_or(usize::MAX);
    story.tell(&format!(
        "{CLIENTS} clients send {calls} calls; the agent works {WORK_MS} ms on each.",
    ))?;
    let mut load = Load::start(&client, args.calls, CLIENTS, WORK_MS);
    load.answered(calls / 4).await;
    let old = agent.instance.map(|instance| instance.id);
    kill(pid)?;
    story.tell(&format!(
        "SIGKILL to the agent, with {} calls answered.",
        load.count()
    ))?;
    let agent = until_ready(&client, old.as_deref()).await?;
    let pid = agent.instance.and_then(|instance| instance.pid);
    story.tell(&format!(
        "Skep started it again, as process {}.",
        shown(pid)
    ))?;
    load.answered(calls / 2).await;
    let open = calls - load.count();
    server.kill().await?;
    story.tell(&format!("SIGKILL to the server, with {open} calls to go."))?;
    let client = server.start().await?;
    story.tell("The server is back on the same folder; it goes on by itself.")?;
    let done = load.finish().await;
    story.tell("Every client has its answer.")?;
    let report = report(&client, &server.data(), args.calls, &done, story.began).await?;
    conclude(session, &report)
}

fn shown(pid: Option<u32>) -> String {
    pid.map_or_else(|| "?".to_owned(), |pid| pid.to_string())
}

fn kill(pid: Option<u32>) -> Result {
    let pid = pid
        .and_then(|pid| i32::try_from(pid).ok())
        .and_then(Pid::from_raw);
    let pid = pid.ok_or_else(|| Failure::plain("the agent has no process"))?;
    kill_process(pid, Signal::KILL).map_err(|error| Failure::plain(error.to_string()))
}

fn specification() -> Result<AgentSpec> {
    let program = std::env::current_exe()?;
    let document = serde_json::json!({
        "name": AGENT,
        "command": [program.to_string_lossy(), "__agent"],
        "health": { "path": "/ping", "interval": "1s" },
        "restart": { "backoff": "50ms", "max_backoff": "500ms" },
        "calls": { "attempts": 20, "backoff": "50ms", "max_backoff": "500ms" },
    });
    Ok(serde_json::from_value(document).map_err(anyhow::Error::from)?)
}

/// Waits for an instance that is not the one with this id.
async fn until_ready(client: &Client, not: Option<&str>) -> Result<Agent> {
    loop {
        let agent = client.agent(AGENT).await?;
        let id = agent.instance.as_ref().map(|instance| instance.id.as_str());
        match agent.state {
            InstanceState::Ready if id != not => return Ok(agent),
            InstanceState::CrashLoop => {
                let reason = agent.reason.unwrap_or_default();
                return Err(Failure::new(
                    Exit::Watched,
                    format!("the agent crashes: {reason}"),
                ));
            }
            _ => tokio::time::sleep(LOOK).await,
        }
    }
}

/// Counts what clients, server and agent say.
async fn report(
    client: &Client,
    data: &Path,
    calls: u64,
    done: &[Done],
    began: Instant,
) -> Result<Report> {
    let recorded = super::calls::all(client, CallsQuery::default(), 0).await?;
    let succeeded = recorded
        .iter()
        .filter(|call| call.state == CallState::Succeeded)
        .count();
    let executed = std::fs::read_to_string(data.join(EXECUTED))?;
    let effects = |n: u64| {
        let of = executed.lines().filter_map(|line| line.split(' ').nth(2));
        of.filter(|word| *word == n.to_string()).count()
    };
    let mut times: Vec<Duration> = done.iter().map(|one| one.took).collect();
    times.sort_unstable();
    let millis = |time: Option<&Duration>| {
        time.map_or(0, |time| {
            u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
        })
    };
    let total = usize::try_from(calls).unwrap_or(usize::MAX);
    Ok(Report {
        calls: total,
        answered: done.iter().filter(|one| one.square.is_some()).count(),
        wrong: done
            .iter()
            .filter(|one| one.square.is_some_and(|it| it != one.n * one.n))
            .count(),
        lost: total.saturating_sub(succeeded),
        doubled_calls: recorded.len().saturating_sub(total),
        doubled_effects: (1..=calls).filter(|n| effects(*n) > 1).count(),
        missing_effects: (1..=calls).filter(|n| effects(*n) == 0).count(),
        attempts: recorded.iter().map(|call| u64::from(call.attempts)).sum(),
        calls_with_more_attempts: recorded.iter().filter(|call| call.attempts > 1).count(),
        requests_sent_again: done.iter().map(|one| one.sent_again).sum(),
        p50_ms: millis(times.get(times.len() / 2)),
        worst_ms: millis(times.last()),
        seconds: began.elapsed().as_secs_f64(),
    })
}

fn conclude(session: &Session, report: &Report) -> Result {
    let output = &session.output;
    let Report {
        calls,
        answered,
        attempts,
        ..
    } = report;
    let lines = [
        format!(
            "{answered} of {calls} calls answered, {} with a wrong result",
            report.wrong
        ),
        format!(
            "{} calls lost, {} recorded twice",
            report.lost, report.doubled_calls
        ),
        format!(
            "{} effects missing, {} done twice (of {calls})",
            report.missing_effects, report.doubled_effects
        ),
        format!(
            "{attempts} attempts: {} calls were cut off and tried again by Skep",
            report.calls_with_more_attempts
        ),
        format!(
            "{} requests sent again by clients, with their idempotency keys",
            report.requests_sent_again
        ),
        format!(
            "p50 {} ms, worst {} ms (the agent alone takes {WORK_MS} ms); {:.1} s in all",
            report.p50_ms, report.worst_ms, report.seconds
        ),
    ];
    let text: String = lines
        .iter()
        .map(|line| format!("         {line}\n"))
        .collect();
    output.say(&format!("\n{text}"))?;
    if output.format != crate::output::Format::Table {
        output.document(report)?;
    }
    match report.is_clean() {
        true => {
            let verdict = output.paint("32", "Nothing was lost, and nothing was done twice.");
            output.say(&format!("         {verdict}\n"))
        }
        false => Err(Failure::plain("something was lost or done twice")
            .hint("This must not happen: please report it with the log above.")),
    }
}

/// Serves on for people who want to look around.
async fn linger(session: &Session, server: &mut Server) -> Result {
    let data = server.data();
    session.output.say(&format!(
        "It serves on until Ctrl-C. In another terminal, try:\n\n  \
         export SKEP_DATA={}\n  skep list\n  skep calls list\n  skep logs {AGENT}\n  \
         skep call {AGENT} /greet -d '{{\"name\":\"you\"}}'\n  \
         skep call {AGENT} /stream -d '{{\"n\":10,\"ms\":300}}'\n",
        data.display()
    ))?;
    tokio::select! {
        ended = server.ended() => ended,
        interrupted = interrupted() => interrupted,
    }
}
