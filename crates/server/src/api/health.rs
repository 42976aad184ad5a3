//! Health: whether the server takes calls, and everything that it knows of itself.

use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::extract::State as Shared;
use http::StatusCode;
use skep_api::{AgentHealth, BasicHealth, Check, DetailedHealth, Health, InstanceState, Problem};
use skep_core::units::format_bytes;
use skep_runtime::{AgentInfo, Condition};

use super::Caller;
use crate::machine;
use crate::state::State;

/// Time in which a driver must tell how it is.
const DRIVER_ANSWER: Duration = Duration::from_secs(10);
/// Less free memory than one part in so many is worth a look.
const LOW_MEMORY: u64 = 20;

/// Whether the server takes calls.
#[utoipa::path(get, path = "/api/v1/health/basic", tag = "health", security(()),
    responses((status = 200, body = BasicHealth), (status = 503, body = BasicHealth)))]
pub(super) async fn basic(Shared(state): Shared<Arc<State>>) -> (StatusCode, Json<BasicHealth>) {
    let status = if state.db.is_writable() {
        Health::Ok
    } else {
        Health::Failed
    };
    (code(status), Json(BasicHealth { status }))
}

/// Everything that the server knows of its own health.
#[utoipa::path(get, path = "/api/v1/health/detailed", tag = "health",
    responses(
        (status = 200, body = DetailedHealth),
        (status = 503, body = DetailedHealth),
        (status = 401, body = Problem),
    ))]
pub(super) async fn detailed(
    Shared(state): Shared<Arc<State>>,
    Caller(workspace): Caller,
) -> (StatusCode, Json<DetailedHealth>) {
    let mut checks = vec![store(&state), disk(&state), memory(), clock(&state)];
    checks.extend(servers(&state));
    checks.extend(issuers(&state));
    checks.extend(providers(&state));
    checks.extend(tls(&state));
    checks.push(vault(&state).await);
    let found = state.runtime.list(&workspace, None, usize::MAX);
    checks.extend(drivers(&state, &found).await);
    let backups = state.backups.clone();
    // It looks into a folder, which may be far away.
    checks.extend(
        tokio::task::spawn_blocking(move || backups.check())
            .await
            .ok(),
    );
    let agents: Vec<AgentHealth> = found
        .into_iter()
        .map(|agent| AgentHealth {
            status: of_agent(agent.state),
            detail: match &agent.reason {
                Some(reason) => format!("{}: {reason}", agent.state.as_str()),
                None => agent.state.as_str().to_owned(),
            },
            name: agent.name,
        })
        .collect();
    let worst = |of: &mut dyn Iterator<Item = Health>| of.max_by_key(|health| rank(*health));
    let own = worst(&mut checks.iter().map(|check| check.status)).unwrap_or(Health::Ok);
    let theirs = worst(&mut agents.iter().map(|agent| agent.status)).unwrap_or(Health::Ok);
    let status = match (own, theirs) {
        (Health::Ok, Health::Degraded | Health::Failed) => Health::Degraded,
        (own, _) => own,
    };
    let health = DetailedHealth {
        status,
        version: env!("CARGO_PKG_VERSION").to_owned(),
        uptime_s: state.uptime().as_secs(),
        checks,
        agents,
    };
    (code(status), Json(health))
}

/// Who shares the database. Without an answer of etcd nobody is found to be gone.
fn servers(state: &State) -> Option<Check> {
    if !state.peers.is_shared() {
        return None;
    }
    let (living, leads) = (state.peers.servers().len(), state.peers.leads());
    let known = state.peers.leader().is_some();
    let role = match (leads, known) {
        (true, _) => "this one leads",
        (false, true) => "another one leads",
        (false, false) => "etcd does not say who leads",
    };
    Some(Check {
        name: "servers".to_owned(),
        status: if known { Health::Ok } else { Health::Degraded },
        detail: format!("{living} share the database; {role}"),
    })
}

/// Whether secrets can be used. A vault that nobody has set up is nobody's worry.
async fn vault(state: &State) -> Check {
    let why = state.ways.why().map(|why| format!("; {why}"));
    let told = |text: &str| format!("{text}{}", why.clone().unwrap_or_default());
    let (status, detail) = match state.vault.is_open() {
        true => (Health::Ok, "open".to_owned()),
        false => match state.vault.is_set_up().await {
            // What the configuration names should have set it up.
            Ok(false) if why.is_some() => (Health::Degraded, told("nobody has set it up")),
            Ok(false) => (Health::Ok, told("nobody has set it up")),
            Ok(true) => (
                Health::Degraded,
                told("sealed: what needs a secret is refused"),
            ),
            Err(_) => (
                Health::Degraded,
                "the store does not say how it is".to_owned(),
            ),
        },
    };
    Check {
        name: "vault".to_owned(),
        status,
        detail,
    }
}

/// Until when the certificate counts, and whether a new one can be used.
fn tls(state: &State) -> Option<Check> {
    let (status, detail) = match state.tls.as_ref()?.condition() {
        Ok(detail) => (Health::Ok, detail),
        Err(detail) => (Health::Degraded, detail),
    };
    Some(Check {
        name: "tls".to_owned(),
        status,
        detail,
    })
}

/// Whether the keys of outside issuers are known, and fresh.
fn issuers(state: &State) -> impl Iterator<Item = Check> {
    state.outside.conditions().into_iter().map(|(name, it)| {
        let age = it.age.map(|age| format!(", {} s old", age.as_secs()));
        let keys = format!("{} keys{}", it.keys, age.unwrap_or_default());
        let (status, detail) = match it.failure {
            Some(failure) => (Health::Degraded, format!("{keys}; {failure}")),
            None if it.keys == 0 => (Health::Degraded, "its keys are not fetched yet".to_owned()),
            None => (Health::Ok, keys),
        };
        Check {
            name: format!("issuer:{name}"),
            status,
            detail,
        }
    })
}

/// Whether files that are read again can be used, and what providers say of themselves.
fn providers(state: &State) -> impl Iterator<Item = Check> {
    let (file, all) = state.logins.conditions();
    let of_file = |(name, wrong): (&str, Option<String>)| {
        let detail = format!("{}; what it said before holds on", wrong?);
        let name = name.to_owned();
        Some((name, Some(detail)))
    };
    let files = [
        ("auth.issuers", state.outside.wrong()),
        ("auth.providers", file),
        ("secrets.hooks", state.renewals.wrong()),
    ];
    let files: Vec<_> = files.into_iter().filter_map(of_file).collect();
    let all = all
        .into_iter()
        .map(|(name, failure)| (format!("provider:{name}"), failure));
    files.into_iter().chain(all).map(|(name, failure)| Check {
        name,
        status: match failure {
            None => Health::Ok,
            Some(_) => Health::Degraded,
        },
        detail: failure.unwrap_or_else(|| "nothing is known against it".to_owned()),
    })
}

/// What the drivers stand on. What no agent needs may be missing.
async fn drivers(state: &State, agents: &[AgentInfo]) -> Vec<Check> {
    let mut checks = Vec::with_capacity(state.drivers.len());
    for driver in &state.drivers {
        let kind = driver.kind();
        let is_needed = agents.iter().any(|agent| agent.spec.driver == kind);
        let silent = || Condition::Unavailable("no answer within 10s".to_owned());
        let looked = tokio::time::timeout(DRIVER_ANSWER, driver.condition()).await;
        let (status, detail) = match looked.unwrap_or_else(|_| silent()) {
            Condition::Well(detail) => (Health::Ok, detail),
            Condition::Impaired(detail) | Condition::Unavailable(detail) if is_needed => {
                (Health::Degraded, detail)
            }
            Condition::Impaired(detail) | Condition::Unavailable(detail) => {
                (Health::Ok, format!("no agent needs it; {detail}"))
            }
        };
        checks.push(Check {
            name: format!("driver:{kind}"),
            status,
            detail,
        });
    }
    checks
}

const fn rank(health: Health) -> u8 {
    match health {
        Health::Ok => 0,
        Health::Degraded => 1,
        Health::Failed => 2,
    }
}

const fn code(status: Health) -> StatusCode {
    match status {
        Health::Failed => StatusCode::SERVICE_UNAVAILABLE,
        Health::Ok | Health::Degraded => StatusCode::OK,
    }
}

const fn of_agent(state: InstanceState) -> Health {
    match state {
        InstanceState::Ready | InstanceState::Stopped | InstanceState::Asleep => Health::Ok,
        InstanceState::Starting
        | InstanceState::Stopping
        | InstanceState::Unready
        | InstanceState::Backoff => Health::Degraded,
        InstanceState::CrashLoop => Health::Failed,
    }
}

fn store(state: &State) -> Check {
    let (status, detail) = match state.db.is_writable() {
        true => (
            Health::Ok,
            format!("writes; {} units wait", state.db.queued()),
        ),
        false => (
            Health::Failed,
            "the last commit failed; reading goes on".to_owned(),
        ),
    };
    Check {
        name: "store".to_owned(),
        status,
        detail,
    }
}

fn disk(state: &State) -> Check {
    let (status, detail) = match machine::free_disk(state.db.folder()) {
        Ok(free) if free < state.min_free => (
            Health::Failed,
            format!(
                "{} free; under {} no calls are taken",
                mib(free),
                format_bytes(state.min_free)
            ),
        ),
        Ok(free) if free < state.min_free.saturating_mul(4) => {
            (Health::Degraded, format!("{} free", mib(free)))
        }
        Ok(free) => (Health::Ok, format!("{} free", mib(free))),
        Err(_) => (
            Health::Degraded,
            "the free space cannot be found out".to_owned(),
        ),
    };
    Check {
        name: "disk".to_owned(),
        status,
        detail,
    }
}

fn memory() -> Check {
    let own = mib(machine::resident_bytes());
    let (status, detail) = match machine::memory() {
        Some((free, all)) if free < all / LOW_MEMORY => (
            Health::Degraded,
            format!(
                "{} of {} available; the server holds {own}",
                mib(free),
                mib(all)
            ),
        ),
        Some((free, all)) => (
            Health::Ok,
            format!(
                "{} of {} available; the server holds {own}",
                mib(free),
                mib(all)
            ),
        ),
        None => (Health::Ok, format!("the server holds {own}")),
    };
    Check {
        name: "memory".to_owned(),
        status,
        detail,
    }
}

fn clock(state: &State) -> Check {
    let behind = state.db.clock().wall_clock_lag();
    let (status, detail) = if behind.as_secs() > 1 {
        let behind = behind.as_secs();
        (
            Health::Degraded,
            format!("the system's clock is {behind} s behind times that are stored; set it right"),
        )
    } else {
        (Health::Ok, "not behind".to_owned())
    };
    Check {
        name: "clock".to_owned(),
        status,
        detail,
    }
}

fn mib(bytes: u64) -> String {
    format!("{} MiB", bytes >> 20)
}
