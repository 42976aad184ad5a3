//! Outgoing webhooks as the server has them: what they follow (events, and calls that end), where their keys lie (the
//! vault), and who is told what endpoints do by themselves.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use serde_json::{Map, Value};
use skep_api::CallState;
use skep_core::config::Settings;
use skep_core::{PublicError as _, Timestamp, Workspace, Workspaces, units};
use skep_egress::webhooks::{Feed, Key, Notice, Options, Schedule, Secrets, Told, Webhooks};
use skep_ingress::Ingress;
use skep_runtime::{Event, EventQuery, Runtime};
use skep_store::{By, Db, Scope, StoreError};
use skep_vault::{About, NewSecret, SecretName, SecretValue, Vault, VaultError, Which};
use tokio::time::MissedTickBehavior;
use zeroize::Zeroizing;

use crate::ServerError;
use crate::a2a::push::FAILED;
use crate::act::Own;
use crate::audit::Audit;
use crate::budgets::{EXCEEDED, ROLLED_BACK, THRESHOLD};
use crate::changes::{self, Change};
use crate::outgoing;
use crate::problem::ApiError;
use crate::state::State;

/// Under whose name the vault is asked.
const HOLDER: &str = "server:webhooks";
/// Below which name keys lie there, below `skep/`.
const KEYS: &str = "webhooks";
/// Bytes of the random part of a key's name.
const PART: usize = 8;
/// The longest time that an endpoint may be given to answer.
const MOST_TIME: Duration = Duration::from_secs(120);
/// How often keys are forgotten that do not sign any more.
const FORGET: Duration = Duration::from_secs(60);

/// The kinds of events that are told: all that there are, with calls that are dead.
const KINDS: [&str; 37] = [
    "agent.crash_loop",
    "agent.deployed",
    "agent.removed",
    "agent.scaled",
    "agent.slept",
    "agent.started",
    "agent.stopped",
    "agent.taken",
    "agent.woke",
    EXCEEDED,
    THRESHOLD,
    "call.dead",
    "exec.ended",
    "exec.started",
    "image.pulled",
    "image.pulling",
    "instance.ended",
    "instance.failed",
    "instance.ready",
    "instance.starting",
    "instance.unready",
    FAILED,
    "rollout.ordered",
    "rollout.paused",
    "rollout.promoted",
    "rollout.resumed",
    "rollout.rolled_back",
    "rollout.step",
    ROLLED_BACK,
    "secret.due",
    "secret.renewal-failed",
    "secret.renewed",
    "security.detected",
    "server.started",
    "server.stopping",
    "webhook.missed",
    "webhook.off",
];
/// Kinds whose detail is in words of Skep alone. That of others could have what an agent or its owner wrote.
const DETAILED: [&str; 16] = [
    "agent.scaled",
    "agent.slept",
    "agent.taken",
    "agent.woke",
    EXCEEDED,
    THRESHOLD,
    ROLLED_BACK,
    FAILED,
    "rollout.step",
    "secret.due",
    "secret.renewed",
    "security.detected",
    "server.started",
    "server.stopping",
    "webhook.missed",
    "webhook.off",
];
/// How calls end, but for those that are dead: an event tells of them.
const ENDS: [&str; 4] = [
    "call.succeeded",
    "call.failed",
    "call.cancelled",
    "call.expired",
];

/// Whether a text is a kind of event, or what kinds begin with.
pub(crate) fn is_kind(text: &str) -> bool {
    KINDS.iter().any(|kind| {
        let rest = kind.strip_prefix(text);
        rest.is_some_and(|it| it.is_empty() || it.starts_with('.'))
    })
}

fn object(workspace: &Workspace, parts: [(&str, Option<Value>); 7]) -> Map<String, Value> {
    let mut data = Map::new();
    data.insert("workspace".to_owned(), workspace.as_str().into());
    let there = parts.into_iter().filter_map(|(name, it)| Some((name, it?)));
    data.extend(there.map(|(name, value)| (name.to_owned(), value)));
    data
}

/// What the events tell.
struct OfEvents(Runtime);

fn of_event(workspace: &Workspace, event: Event) -> Told {
    let detail = DETAILED.contains(&event.kind.as_str()) && !event.detail.is_empty();
    let text = |it: String| Value::String(it);
    let data = object(
        workspace,
        [
            ("agent", event.agent.map(text)),
            ("instance", event.instance.map(|it| it.to_string().into())),
            ("revision", event.revision.map(Into::into)),
            ("call", event.call.map(|it| it.to_string().into())),
            ("by", event.by.map(text)),
            ("detail", detail.then(|| text(event.detail))),
            ("event", Some(event.number.to_string().into())),
        ],
    );
    Told {
        number: event.number,
        kind: event.kind,
        at: event.at,
        data,
    }
}

#[async_trait]
impl Feed for OfEvents {
    fn name(&self) -> &'static str {
        "events"
    }

    fn kinds(&self) -> &'static [&'static str] {
        &KINDS
    }

    async fn end(&self, workspace: &Workspace) -> Result<u64, String> {
        let last = self.0.last_event(workspace).await;
        last.map_err(|error| error.to_string())
    }

    async fn read(
        &self,
        workspace: &Workspace,
        after: u64,
        most: u32,
    ) -> Result<(Vec<Told>, u64), String> {
        let query = EventQuery {
            after: Some(after),
            ..EventQuery::default()
        };
        let found = self.0.events(workspace, &query, most).await;
        let found = found.map_err(|error| error.to_string())?;
        let next = found.last().map_or(after, |it| it.number);
        let told = found.into_iter().map(|it| of_event(workspace, it));
        Ok((told.collect(), next))
    }
}

/// What the audit log tells of calls that end: their entries are in the units of their ends.
struct OfCalls {
    audit: Arc<Audit>,
    ingress: Ingress,
}

/// The kind of what a call ended by.
fn ended(state: CallState) -> Option<&'static str> {
    let is_it = |kind: &&str| kind.strip_prefix("call.") == Some(state.as_str());
    ENDS.into_iter().find(is_it)
}

#[async_trait]
impl Feed for OfCalls {
    fn name(&self) -> &'static str {
        "calls"
    }

    fn kinds(&self) -> &'static [&'static str] {
        &ENDS
    }

    async fn end(&self, _: &Workspace) -> Result<u64, String> {
        let size = self.audit.log.integrate().await;
        size.map_err(|error| error.to_string())
    }

    /// A thing's number is that of its entry and one: there is an entry 0.
    async fn read(
        &self,
        workspace: &Workspace,
        after: u64,
        most: u32,
    ) -> Result<(Vec<Told>, u64), String> {
        let from = (&*self.audit, &self.ingress);
        let found = changes::behind(from, workspace, (after, most), true).await;
        let (found, next) = found.map_err(|error| error.public().to_string())?;
        let told = |(number, change): (u64, Change)| {
            let kind = ended(change.state)?.to_owned();
            let parts = [
                ("call", Some(change.call.to_string().into())),
                ("agent", change.agent.map(Value::String)),
                ("status", change.status.map(Into::into)),
                ("entry", Some((number - 1).to_string().into())),
                ("instance", None),
                ("revision", None),
                ("by", None),
            ];
            let (data, at) = (object(workspace, parts), change.at);
            Some(Told {
                number,
                kind,
                at,
                data,
            })
        };
        Ok((found.into_iter().filter_map(told).collect(), next))
    }
}

/// Keys, in the vault.
struct OfVault(Vault);

#[async_trait]
impl Secrets for OfVault {
    async fn key(&self, workspace: &Workspace, name: &str) -> Result<Zeroizing<Vec<u8>>, String> {
        let said = |error: VaultError| error.detail();
        if !self.0.is_open() {
            return Err("the vault is sealed".to_owned());
        }
        let which = Which::Name(SecretName::own(name).map_err(said)?);
        let found = self.0.find(workspace, &which).await.map_err(said)?;
        let read = self.0.read(workspace, found.id, None).await;
        let (_, value) = read.map_err(said)?;
        Ok(Zeroizing::new(value.bytes().to_vec()))
    }
}

/// What endpoints do is an event.
struct AsEvents;

impl Notice for AsEvents {
    fn tell(
        &self,
        scope: &mut Scope<'_>,
        kind: &'static str,
        (endpoint, detail): (&str, &str),
        now: Timestamp,
    ) -> Result<(), StoreError> {
        Event::new(kind, format!("{endpoint}: {detail}")).record(scope, now)
    }
}

fn schedule(settings: &Settings) -> Result<Schedule, ServerError> {
    let wrong = |why: String| ServerError::Webhooks(format!("webhooks.schedule: {why}"));
    let wait = |text: &String| {
        let found = units::parse_duration(text);
        found.ok_or_else(|| wrong(format!("`{text}` is no duration, such as 5m")))
    };
    let waits: Result<Vec<Duration>, ServerError> =
        settings.webhooks_schedule.iter().map(wait).collect();
    let schedule = Schedule {
        waits: waits?,
        give_up: settings.webhooks_give_up,
    };
    schedule.check().map_err(wrong)?;
    Ok(schedule)
}

/// Opens the way out.
pub(crate) fn open(
    settings: &Settings,
    db: &Db,
    (runtime, ingress, audit, vault): (&Runtime, &Ingress, &Arc<Audit>, &Vault),
    (own, workspaces): (By, &Workspaces),
) -> Result<Webhooks, ServerError> {
    if settings.webhooks_timeout > MOST_TIME {
        let why = "webhooks.timeout: at most 2m".to_owned();
        return Err(ServerError::Webhooks(why));
    }
    let calls = OfCalls {
        audit: audit.clone(),
        ingress: ingress.clone(),
    };
    let options = Options {
        reach: outgoing::reach(&outgoing::guard(settings)?),
        ca: settings.web_ca.clone(),
        secrets: Arc::new(OfVault(vault.clone())),
        feeds: vec![Arc::new(OfEvents(runtime.clone())), Arc::new(calls)],
        notice: Arc::new(AsEvents),
        own,
        workspaces: workspaces.clone(),
        schedule: schedule(settings)?,
        time: settings.webhooks_timeout,
        keep: settings.webhooks_retention,
        agent: format!("skep/{}", env!("CARGO_PKG_VERSION")),
    };
    Ok(Webhooks::new(db.clone(), options))
}

/// Sends what happens, until the server ends.
pub(crate) async fn keep(state: Arc<State>) {
    let leads = || state.peers.leads();
    state.webhooks.keep(state.stop.clone(), leads).await;
}

fn own(state: &State) -> By {
    By::new(Arc::new(Own(state.db.server())))
}

/// Makes a key for an endpoint; tells under which name it lies, and its text.
pub(crate) async fn make_key(
    state: &State,
    workspace: &Workspace,
    endpoint: &str,
) -> Result<(String, Zeroizing<String>), ApiError> {
    if !state.vault.is_open() {
        return Err(VaultError::Sealed.into());
    }
    let random = |error: String| {
        tracing::error!(error, "no random bytes");
        ApiError::new(skep_core::Code::Internal, "the system gave no random bytes")
    };
    let mut part = [0; PART];
    getrandom::fill(&mut part).map_err(|error| random(error.to_string()))?;
    let part: String = part.iter().map(|byte| format!("{byte:02x}")).collect();
    let name = format!("{KEYS}/{endpoint}/{part}");
    let text = Key::make().map_err(random)?.text();
    let mut about = About::named(SecretName::own(&name)?);
    about.description = format!("What messages to the webhook endpoint {endpoint} are signed with");
    let value = SecretValue::new(text.as_bytes().to_vec())?;
    let new = NewSecret {
        about,
        value,
        ttl: None,
    };
    let by = own(state);
    state.vault.create(&by, workspace, HOLDER, new).await?;
    Ok((name, text))
}

/// Forgets keys that sign no more. One that cannot be forgotten now lies in the vault, and nobody uses it.
pub(crate) async fn drop_keys(state: &State, workspace: &Workspace, names: &[String]) {
    for name in names {
        let dropped = async {
            let which = Which::Name(SecretName::own(name)?);
            state.vault.remove(&own(state), workspace, &which).await
        };
        if let Err(error) = dropped.await {
            let error = error.detail();
            tracing::warn!(%workspace, key = name, error, "a key that signs no more stays in the vault");
        }
    }
}

/// Forgets keys that were replaced and whose time is over, until the server ends.
pub(crate) async fn forget_keys(state: Arc<State>) {
    let mut tick = tokio::time::interval(FORGET);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            _ = tick.tick() => {}
            () = state.stop.cancelled() => return,
        }
        if !state.peers.leads() || !state.vault.is_open() {
            continue;
        }
        for workspace in state.tenants.all().all().iter() {
            match state.webhooks.expire(workspace).await {
                Ok(unused) => drop_keys(&state, workspace, &unused).await,
                Err(error) => tracing::warn!(%workspace, %error, "old keys are forgotten later"),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The events of docs/operating.md.
    #[test]
    fn every_event_can_be_told() {
        let page = include_str!("../../../docs/operating.md");
        let rows = page.lines().filter_map(|it| it.strip_prefix("| `"));
        let kinds = rows.filter_map(|row| row.split(" | ").next());
        let kinds = kinds.flat_map(|it| it.split(", "));
        let of = |it: &str| it.trim_matches('`').to_owned();
        let mut all: Vec<String> = kinds.map(of).filter(|it| it.contains('.')).collect();
        all.sort_unstable();
        let mut known = KINDS.map(str::to_owned).to_vec();
        known.sort_unstable();
        assert_eq!(all, known);
        assert!(DETAILED.iter().all(|it| KINDS.contains(it)));
    }

    #[test]
    fn how_calls_end_is_told_once() {
        let told = CallState::ALL.map(ended).into_iter().flatten();
        let mut told: Vec<&str> = told.collect();
        told.sort_unstable();
        let mut ends = ENDS.to_vec();
        ends.sort_unstable();
        // That one is dead is an event.
        assert_eq!(told, ends);
        assert_eq!(ended(CallState::Dead), None);
    }

    #[test]
    fn what_an_agent_may_have_said_is_not_told() {
        let of = |kind: &str| {
            let event = Event::of("a", kind, "exit 1: the key is MARKED");
            Value::Object(of_event(&Workspace::default(), event).data).to_string()
        };
        for kind in KINDS {
            let told = of(kind).contains("MARKED");
            assert_eq!(told, DETAILED.contains(&kind), "{kind}");
        }
        assert!(!DETAILED.contains(&"instance.ended") && !DETAILED.contains(&"exec.started"));
    }
}
