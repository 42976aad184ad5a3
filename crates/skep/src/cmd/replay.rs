//! `replay`: a recorded request as a new call, to the same agent, another one or another revision,
//! and how its answer differs from the recorded one.

mod compare;
mod editor;

use std::time::Duration;

use clap::Args;
use http::{HeaderMap, HeaderName, HeaderValue, Method};
use serde::Serialize;
use skep_api::{AgentSpec, Call, Replicas, RolloutSpec};
use skep_client::{Answer, CallRequest, Client, PageQuery, Patience, RequestBody};

use self::compare::{Differences, Told, compare};
use super::call::{body, header, late, patience};
use super::wait::{Goal, duration, wait_for};
use crate::failure::{Exit, Failure, Result};
use crate::output::Format;
use crate::session::Session;

/// Time for a revision that is started for a replay.
const START: Duration = Duration::from_secs(90);
/// What Skep shows instead of a credential.
const HIDDEN: &str = "(not shown)";
/// Headers that belong to the connection or to the call, not to the request.
const NOT_SENT_AGAIN: [&str; 11] = [
    "connection",
    "content-length",
    "expect",
    "forwarded",
    "host",
    "idempotency-key",
    "prefer",
    "te",
    "traceparent",
    "tracestate",
    "transfer-encoding",
];
const PROXIES: &str = "x-forwarded-";
const OURS: &str = "skep-";

/// Flags of `replay`.
#[derive(Debug, Args)]
#[command(after_help = "\
The request goes out as a new call, with an idempotency key of its own. Exit
code 0 when both answers are the same, 1 when they differ. JSON is compared by
its values; headers such as Date are left out.

--to AGENT@REVISION runs that revision beside the agent for the time of the
replay, under a name and with a home folder of its own, and removes it after.

Examples:
  skep replay call_0192… --to greeter@3
  skep replay call_0192… --to greeter-next -H \"Authorization: Bearer …\"
  skep replay call_0192… --edit")]
pub(crate) struct ReplayArgs {
    /// The call, `call_…`
    call: String,
    /// Who gets it [default: the agent that had it]
    #[arg(long, value_name = "AGENT[@REVISION]")]
    to: Option<String>,
    /// Change the body in $VISUAL or $EDITOR first
    #[arg(short, long, conflicts_with = "body")]
    edit: bool,
    /// Another body; `@FILE` sends a file, `-` standard input (up to 64 MiB)
    #[arg(short = 'd', long, value_name = "BODY", allow_hyphen_values = true)]
    body: Option<String>,
    /// A header to set, as `Name: value`; without a value it is left out
    #[arg(short = 'H', long, value_name = "HEADER")]
    header: Vec<String>,
    /// How long to wait for the answer; the call goes on
    #[arg(long, value_name = "TIME", value_parser = duration)]
    timeout: Option<Duration>,
}

/// What came of it, for programs.
#[derive(Debug, Serialize)]
struct Report {
    call: String,
    replay: Option<String>,
    agent: String,
    #[serde(flatten)]
    differences: Differences,
}

/// Who gets the request.
#[derive(Debug, PartialEq, Eq)]
struct Target {
    agent: String,
    revision: Option<u32>,
}

impl Target {
    fn parse(text: &str) -> Result<Self> {
        let (agent, revision) = match text.split_once('@') {
            None => (text, None),
            Some((agent, number)) => {
                let wrong = || Failure::usage(format!("`{number}` is not a revision's number"));
                (agent, Some(number.parse().map_err(|_| wrong())?))
            }
        };
        let agent = agent.to_owned();
        Ok(Self { agent, revision })
    }
}

pub(crate) async fn replay(session: &Session, args: ReplayArgs) -> Result {
    if args.edit {
        editor::must_be_possible(session)?;
    }
    let client = session.client()?;
    let call = client.show_call(&args.call).await?;
    if !call.state.is_final() {
        let detail = format!("{} is {} still", call.id, call.state.as_str());
        let hint = format!("`skep calls attach {}` waits for its answer.", call.id);
        return Err(Failure::plain(detail).hint(hint));
    }
    let target = match &args.to {
        Some(text) => Target::parse(text)?,
        None => Target {
            agent: call.agent.clone(),
            revision: None,
        },
    };
    let patience = patience(session, args.timeout);
    let before = recorded(&client, &call, &patience).await?;
    let request = request(session, &client, &call, &args).await?;
    let copy = beside(session, &client, &target).await?;
    let agent = copy.as_ref().map_or(&target.agent, |copy| &copy.name);
    let sent = send(&client, request.to(agent), &patience, args.timeout);
    let sent = tokio::select! {
        sent = sent => sent,
        interrupted = tokio::signal::ctrl_c() => {
            interrupted?;
            Err(Failure::quiet(Exit::Interrupted))
        }
    };
    if let Some(copy) = &copy {
        // Its calls are for nobody any more.
        client.remove_agent(&copy.name, true).await?;
    }
    let (replay, after) = sent?;
    let report = Report {
        differences: compare(&before, &after),
        call: call.id,
        replay,
        agent: args.to.unwrap_or(target.agent),
    };
    tell(session, &report)?;
    match report.differences.same {
        true => Ok(()),
        false => Err(Failure::quiet(Exit::Failure)),
    }
}

/// The recorded answer.
async fn recorded(client: &Client, call: &Call, patience: &Patience) -> Result<Told> {
    let answer = client
        .response_through(&call.id, false, None, patience)
        .await;
    let answer = answer.map_err(|error| {
        let detail = format!("{} has no answer to compare with: {error}", call.id);
        let hint = format!(
            "`skep calls replay {}` sends it again without that.",
            call.id
        );
        Failure::plain(detail).hint(hint)
    })?;
    told(answer).await
}

async fn told(answer: Answer) -> Result<Told> {
    let status = answer.status().as_u16();
    let text = |value: &HeaderValue| String::from_utf8_lossy(value.as_bytes()).into_owned();
    let headers = answer.headers().iter();
    let headers = headers.map(|(name, value)| (name.to_string(), text(value)));
    Ok(Told {
        status,
        headers: headers.collect(),
        body: answer.bytes().await?.to_vec(),
    })
}

/// A request that can go to any agent.
struct Resent {
    method: Method,
    target: String,
    headers: HeaderMap,
    body: RequestBody,
}

impl Resent {
    fn to(self, agent: &str) -> CallRequest {
        let mut request = CallRequest::new(self.method, agent, self.target);
        request.headers = self.headers;
        request.body = self.body;
        request
    }
}

/// The recorded request with what the flags say.
async fn request(
    session: &Session,
    client: &Client,
    call: &Call,
    args: &ReplayArgs,
) -> Result<Resent> {
    let mut headers = HeaderMap::new();
    let mut missing = Vec::new();
    for (name, value) in &call.request_headers {
        let stays = NOT_SENT_AGAIN.contains(&name.as_str())
            || name.starts_with(PROXIES)
            || name.starts_with(OURS);
        // A value with other bytes is shown with escapes and cannot be had back.
        let parsed = (name.parse::<HeaderName>(), value.parse::<HeaderValue>());
        match parsed {
            _ if stays => {}
            (Ok(name), Ok(value)) if value != HIDDEN && !value.as_bytes().contains(&b'\\') => {
                headers.append(name, value);
            }
            _ => missing.push(name.as_str()),
        }
    }
    for line in &args.header {
        match line.strip_suffix(':') {
            Some(name) => {
                headers.remove(name.trim());
                missing.retain(|it| !it.eq_ignore_ascii_case(name.trim()));
            }
            None => {
                let (name, value) = header(line)?;
                missing.retain(|it| name != **it);
                headers.insert(name, value);
            }
        }
    }
    if !missing.is_empty() {
        session.output.note(&format!(
            "note: not sent again, since they are not shown: {}; give them with -H",
            missing.join(", ")
        ));
    }
    let body = match &args.body {
        Some(text) => body(text)?,
        None => {
            let recorded = client.call_request(&call.id).await?.bytes().await?;
            match args.edit {
                true => editor::edited(&recorded).await?.into(),
                false => recorded.into(),
            }
        }
    };
    let method = Method::from_bytes(call.method.as_bytes());
    Ok(Resent {
        method: method.map_err(|_| Failure::plain(format!("{} is no method", call.method)))?,
        target: call.target.clone(),
        headers,
        body,
    })
}

async fn send(
    client: &Client,
    request: CallRequest,
    patience: &Patience,
    timeout: Option<Duration>,
) -> Result<(Option<String>, Told)> {
    let mut id = None;
    let work = async {
        // Durable first: so its id is known when the patience ends.
        let answer = client
            .call_through(request.respond_async(), patience)
            .await?;
        id = answer.call_id().map(str::to_owned);
        let answer = match &id {
            Some(id) if answer.is_accepted() => {
                client.response_through(id, true, None, patience).await?
            }
            _ => answer,
        };
        told(answer).await
    };
    let told = match timeout {
        None => work.await?,
        Some(timeout) => match tokio::time::timeout(timeout, work).await {
            Ok(told) => told?,
            Err(_) => return Err(late(timeout, id.as_deref())),
        },
    };
    Ok((id, told))
}

/// A revision that runs for the time of a replay.
struct Copy {
    name: String,
}

/// Starts the revision that is meant, when it is not the one that serves.
async fn beside(session: &Session, client: &Client, target: &Target) -> Result<Option<Copy>> {
    let Some(number) = target.revision else {
        return Ok(None);
    };
    let agent = client.agent(&target.agent).await?;
    if agent.revision == number && agent.rollout.weight == 100 {
        return Ok(None);
    }
    let name = format!("replay-{:08x}", fastrand::u32(..));
    let spec = AgentSpec {
        name: name.clone(),
        replicas: Some(Replicas::Fixed(1)),
        rollout: RolloutSpec::default(),
        ..revision(client, &target.agent, number).await?
    };
    client.deploy(&spec).await?;
    let goal = Goal::Revision(1);
    let waiting = wait_for(session, client, &name, &goal, START);
    let ready = tokio::select! {
        ready = waiting => ready.map(drop),
        interrupted = tokio::signal::ctrl_c() => {
            interrupted?;
            Err(Failure::quiet(Exit::Interrupted))
        }
    };
    if let Err(failure) = ready {
        client.remove_agent(&name, true).await?;
        return Err(failure);
    }
    Ok(Some(Copy { name }))
}

async fn revision(client: &Client, agent: &str, number: u32) -> Result<AgentSpec> {
    let mut page = PageQuery::default();
    let mut known = Vec::new();
    loop {
        let found = client.revisions(agent, &page).await?;
        for revision in found.items {
            if revision.number == number {
                return Ok(revision.spec);
            }
            known.push(revision.number.to_string());
        }
        page.cursor = match found.next {
            Some(next) => Some(next),
            None => {
                let detail = format!("{agent} has no revision {number}");
                let hint = format!("There are: {}.", known.join(", "));
                return Err(Failure::plain(detail).hint(hint));
            }
        };
    }
}

fn tell(session: &Session, report: &Report) -> Result {
    let output = &session.output;
    let replay = report.replay.as_deref().unwrap_or("not journaled");
    if output.format != Format::Table {
        return output.one(report, replay, &[]);
    }
    let found = &report.differences;
    if found.same {
        return output.say(&format!("{replay} gave the same answer."));
    }
    let removed = |text: &str| output.paint("31", &crate::table::clean(text)) + "\n";
    let added = |text: &str| output.paint("32", &crate::table::clean(text)) + "\n";
    let mut text = removed(&format!("--- {}", report.call));
    text += &added(&format!("+++ {replay} to {}", report.agent));
    if let Some((from, to)) = found.status {
        text += &removed(&format!("-status: {from}"));
        text += &added(&format!("+status: {to}"));
    }
    for change in &found.headers {
        let line = |value: &str| format!("{}: {value}", change.name);
        text += &change
            .from
            .as_ref()
            .map_or_else(String::new, |it| removed(&format!("-{}", line(it))));
        text += &change
            .to
            .as_ref()
            .map_or_else(String::new, |it| added(&format!("+{}", line(it))));
    }
    for line in &found.body {
        text += &match line.as_bytes().first() {
            Some(b'-') => removed(line),
            Some(b'+') => added(line),
            Some(b'@') => output.paint("36", line) + "\n",
            _ => crate::table::clean(line) + "\n",
        };
    }
    output.raw(text.as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_target_is_an_agent_and_perhaps_a_revision() {
        let target = |text| Target::parse(text).map(|it| (it.agent, it.revision));
        assert_eq!(target("a").unwrap(), ("a".into(), None));
        assert_eq!(target("a@3").unwrap(), ("a".into(), Some(3)));
        assert_eq!(target("a@x").unwrap_err().exit, Exit::Usage);
    }
}
