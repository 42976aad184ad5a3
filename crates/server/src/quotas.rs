//! How much workspaces may have, as the capabilities ask for it, and how much they have.

use std::sync::Arc;
use std::time::Duration;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;
use skep_api::NewQuota;
use skep_core::config::Settings;
use skep_core::{Code, Workspace, units};
use skep_guard::identity::Tenants;
use skep_guard::quotas::{Quota, Quotas, Said, What};
use skep_ingress::{CallQuota, CallQuotas};
use skep_runtime::Allowance;
use skep_store::{Db, StoreError};
use tokio::sync::Mutex;
use tokio::time::MissedTickBehavior;

use crate::problem::ApiError;
use crate::state::State;

/// How often it is counted how much workspaces have, for metrics.
const COUNT_EVERY: Duration = Duration::from_secs(10);

/// The quotas, and what goes with them.
pub(crate) struct Held {
    /// How much workspaces may have.
    pub(crate) said: Quotas,
    /// One at a time makes what is counted before it is made: keys, invitations.
    pub(crate) turn: Mutex<()>,
    metrics: QuotaMetrics,
}

impl Held {
    /// Those of the store, over those of the configuration.
    pub(crate) async fn open(
        settings: &Settings,
        db: &Db,
        tenants: &Tenants,
        registry: &mut Registry,
    ) -> Result<Self, StoreError> {
        let said = Quotas::open(db.clone(), tenants.all().clone(), of_all(settings));
        Ok(Self {
            said: said.await?,
            turn: Mutex::default(),
            metrics: QuotaMetrics::register(registry),
        })
    }

    /// How the capabilities ask for them.
    pub(crate) fn allowed(&self) -> Arc<Allowed> {
        Arc::new(Allowed(self.said.clone()))
    }
}

/// What the configuration says for all workspaces.
fn of_all(settings: &Settings) -> Quota {
    let mut quota = Quota::default();
    for (what, most) in [
        (What::Agents, settings.quota_agents),
        (What::Instances, settings.quota_instances),
        (What::CallsWaiting, settings.quota_calls_waiting),
        (What::CallsPerDay, settings.quota_calls_per_day),
        (What::Keys, settings.quota_keys),
        (What::Users, settings.quota_users),
    ] {
        quota.set(what, most.map(u64::from));
    }
    quota.set(What::StoredBytes, settings.quota_stored_bytes);
    quota
}

/// Quotas as the runtime and the call door ask for them.
#[derive(Debug)]
pub(crate) struct Allowed(Quotas);

impl Allowance for Allowed {
    fn of(&self, workspace: &Workspace) -> skep_runtime::Quotas {
        let quota = self.0.of(workspace);
        let most = |what| {
            quota
                .of(what)
                .map(|most| u32::try_from(most).unwrap_or(u32::MAX))
        };
        skep_runtime::Quotas {
            agents: most(What::Agents),
            instances: most(What::Instances),
        }
    }
}

impl CallQuotas for Allowed {
    fn of(&self, workspace: &Workspace) -> CallQuota {
        let quota = self.0.of(workspace);
        CallQuota {
            waiting: quota.of(What::CallsWaiting),
            per_day: quota.of(What::CallsPerDay),
            bytes: quota.of(What::StoredBytes),
        }
    }
}

/// What a request says of quotas.
pub(crate) fn said(wish: &NewQuota) -> Result<Vec<(What, Said)>, ApiError> {
    let all = [
        (What::Agents, &wish.agents),
        (What::Instances, &wish.instances),
        (What::CallsWaiting, &wish.calls_waiting),
        (What::CallsPerDay, &wish.calls_per_day),
        (What::Keys, &wish.keys),
        (What::Users, &wish.users),
        (What::StoredBytes, &wish.stored_bytes),
    ];
    let mut said = Vec::new();
    for (what, text) in all {
        let Some(text) = text else { continue };
        let number = match what {
            What::StoredBytes => units::parse_bytes(text),
            _ => text.parse().ok(),
        };
        let this = match (text.as_str(), number) {
            ("default", _) => Said::Default,
            ("none", _) => Said::NoLimit,
            (_, Some(most)) => Said::Most(most),
            (_, None) => {
                let shown: String = text.chars().take(64).collect();
                let what = what.as_str();
                let detail =
                    format!("`{what}`: `{shown}` is no number, and neither `none` nor `default`");
                return Err(ApiError::new(Code::InvalidSpec, detail));
            }
        };
        said.push((what, this));
    }
    Ok(said)
}

/// API keys of a workspace that count.
fn keys(state: &State, workspace: &Workspace) -> u64 {
    let now = state.db.clock().now();
    let all = state.keys.list(workspace);
    let count = all
        .iter()
        .filter(|key| key.expires_at.is_none_or(|end| end > now));
    count.count() as u64
}

/// How much a workspace has of each thing.
pub(crate) async fn used(
    state: &State,
    workspace: &Workspace,
) -> Result<[Option<u64>; What::ALL.len()], ApiError> {
    let invited = state.users.invitations(workspace).await?.len();
    let members = state.users.members(workspace).await?.len();
    Ok([
        Some(state.runtime.owners(workspace).await?.len() as u64),
        Some(state.runtime.copies(workspace, None)),
        Some(state.ingress.waiting(workspace)),
        state.ingress.today(workspace).await?,
        Some(keys(state, workspace)),
        Some((members + invited) as u64),
        Some(state.ingress.ended_bytes(workspace).await?),
    ])
}

fn exceeded(what: What, most: u64) -> ApiError {
    let detail = format!("The workspace may have {most} {}.", what.as_str());
    ApiError::new(Code::QuotaExceeded, detail)
}

/// Whether a workspace may have another key. `beside` keys that are about to end are there for a while.
pub(crate) fn may_have_key(
    state: &State,
    workspace: &Workspace,
    beside: u64,
) -> Result<(), ApiError> {
    match state.quotas.said.of(workspace).of(What::Keys) {
        Some(most) if keys(state, workspace) >= most.saturating_add(beside) => {
            Err(exceeded(What::Keys, most))
        }
        _ => Ok(()),
    }
}

/// Whether a workspace may have another person. Who is invited anew was counted already.
pub(crate) async fn may_have_user(
    state: &State,
    workspace: &Workspace,
    email: &str,
) -> Result<(), ApiError> {
    let Some(most) = state.quotas.said.of(workspace).of(What::Users) else {
        return Ok(());
    };
    let invited = state.users.invitations(workspace).await?;
    let same =
        |it: &&skep_guard::identity::Invitation| !it.email.eq_ignore_ascii_case(email.trim());
    let invited = invited.iter().filter(same).count();
    let members = state.users.members(workspace).await?.len();
    match (members + invited) as u64 >= most {
        true => Err(exceeded(What::Users, most)),
        false => Ok(()),
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Of {
    workspace: String,
    what: &'static str,
}

/// How much workspaces have and may have, of what they have a quota of.
#[derive(Debug, Clone, Default)]
struct QuotaMetrics {
    used: Family<Of, Gauge>,
    most: Family<Of, Gauge>,
}

impl QuotaMetrics {
    fn register(registry: &mut Registry) -> Self {
        let metrics = Self::default();
        registry.register(
            "skep_quota_used",
            "How much a workspace has of what it has a quota of",
            metrics.used.clone(),
        );
        registry.register(
            "skep_quota_most",
            "How much a workspace may have",
            metrics.most.clone(),
        );
        metrics
    }

    async fn refresh(&self, state: &State) -> Result<(), ApiError> {
        let mut found = Vec::new();
        for workspace in state.tenants.all().all().iter() {
            let quota = state.quotas.said.of(workspace);
            if quota == Quota::default() {
                continue;
            }
            let used = used(state, workspace).await?;
            for (what, used) in What::ALL.into_iter().zip(used) {
                let Some(most) = quota.of(what) else { continue };
                let of = Of {
                    workspace: workspace.to_string(),
                    what: what.as_str(),
                };
                found.push((of, used.unwrap_or(0), most));
            }
        }
        // Workspaces and quotas go, too.
        self.used.clear();
        self.most.clear();
        let number = |number: u64| i64::try_from(number).unwrap_or(i64::MAX);
        for (of, used, most) in found {
            self.used.get_or_create(&of).set(number(used));
            self.most.get_or_create(&of).set(number(most));
        }
        Ok(())
    }
}

/// Counts how much workspaces have, for metrics.
pub(crate) async fn keep_counted(state: &State) {
    let mut tick = tokio::time::interval(COUNT_EVERY);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tick.tick().await;
        if let Err(error) = state.quotas.metrics.refresh(state).await {
            tracing::debug!(error = %error.public().detail(), "how much workspaces have is counted later");
        }
    }
}
