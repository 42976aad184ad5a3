//! The vault as the server has it: kept in order in the background (how it is opened: `ways.rs`).

use std::sync::Arc;
use std::time::Duration;

use skep_core::{PublicError as _, Workspace};
use skep_guard::Principal;
use skep_guard::policy::{Resource, Secret as Asked};
use skep_runtime::Event;
use skep_store::By;
use skep_vault::{Known, May, Mount, Secret, Vault, VaultError, Which, Work};

use crate::lending;
use crate::state::State;

/// How often it is looked for what rotates, has expired or is due.
const LOOK: Duration = Duration::from_secs(5);
/// How often secrets that are due are told of again.
const REMIND: Duration = Duration::from_secs(24 * 3600);

/// How the vault names who asks.
pub(crate) fn holder(principal: &Principal) -> String {
    let kind = principal.kind.word();
    format!("{kind}:{}", principal.id)
}

/// A secret as policies know it.
pub(crate) struct KnownSecret {
    pub(crate) secret: Secret,
    /// What who asks was let do with it.
    pub(crate) shared: Vec<String>,
    /// The mount that it is below.
    pub(crate) mount: Option<Mount>,
}

impl KnownSecret {
    /// Whether the vault has it. What is below a mount may have been asked for by nobody yet.
    pub(crate) fn is_here(&self) -> bool {
        self.secret.latest > 0
    }

    /// It and no other, whatever it is called meanwhile.
    pub(crate) fn which(&self) -> Which {
        Which::Id(self.secret.id)
    }

    /// As a thing that something is done to; `id` is its id as text.
    pub(crate) fn as_resource<'a>(&'a self, id: &'a str) -> Resource<'a> {
        Resource::Secret(Asked {
            id,
            name: Some(self.secret.about.name.as_str()),
            tags: Some(&self.secret.about.tags),
            canary: self.secret.about.canary,
            shared: &self.shared,
        })
    }
}

/// The secret that is meant, if there is one and the vault is open.
pub(crate) async fn known(
    vault: &Vault,
    workspace: &Workspace,
    text: &str,
    holder: &str,
) -> Result<Option<KnownSecret>, VaultError> {
    let Ok(which) = Which::new(text) else {
        return Ok(None);
    };
    let known = match vault.known(workspace, &which, holder).await {
        Err(VaultError::Sealed) => return Ok(None),
        other => other?,
    };
    let Some(Known { secret, may, mount }) = known else {
        return Ok(None);
    };
    // Policies decide by its name before anybody asks the store for it.
    let elsewhere = match (&which, &mount) {
        (Which::Name(name), Some(mount)) => Some(mount.unseen(name.clone())),
        _ => None,
    };
    Ok(secret.or(elsewhere).map(|secret| KnownSecret {
        secret,
        shared: may.iter().map(May::to_string).collect(),
        mount,
    }))
}

/// Takes back what somebody was let do who is gone. With a sealed vault they are left, and it is said.
pub(crate) async fn forget_holder(
    state: &State,
    by: &By,
    workspace: &Workspace,
    holder: &str,
) -> Result<(), VaultError> {
    match state.vault.forget_holder(by, workspace, holder).await {
        Err(VaultError::Sealed) => {
            tracing::warn!(%workspace, "the vault is sealed: shares of who is gone are left in it");
            Ok(())
        }
        other => other,
    }
}

/// Carries rotations out, ends what has expired, and tells of secrets that are due, until the server ends.
pub(crate) async fn keep(state: Arc<State>, by: By) {
    let mut reminded = state.db.clock().now().minus(REMIND);
    loop {
        if let Err(error) = state.runtime.sweep_held(state.tenants.all()).await {
            tracing::warn!(error = error.detail(), "files with secrets are swept later");
        }
        if !state.vault.is_open()
            && state.ways.is_due()
            && let Err(error) = state.ways.open(&state.vault).await
        {
            tracing::warn!(%error, "the vault stays sealed");
        }
        if state.vault.is_open() {
            rotate(&state, &by).await;
            for workspace in state.tenants.all().all().iter() {
                if let Err(error) = sweep(&state, &by, workspace).await {
                    tracing::warn!(%workspace, error = error.detail(), "secrets are swept later");
                }
                if let Err(error) = lending::sweep(&state, &by, workspace).await {
                    tracing::warn!(%workspace, error, "leases are swept later");
                }
            }
            let now = state.db.clock().now();
            if now.since(reminded) >= REMIND && state.peers.leads() {
                reminded = now;
                remind(&state).await;
            }
        }
        tokio::select! {
            () = tokio::time::sleep(LOOK) => {}
            () = state.vault_work.notified() => {}
            () = state.stop.cancelled() => return,
        }
    }
}

async fn rotate(state: &State, by: &By) {
    loop {
        match state.vault.work(by).await {
            Ok(Work::Done) if !state.stop.is_cancelled() => {}
            Ok(_) | Err(VaultError::Sealed) => return,
            Err(error) => {
                tracing::warn!(error = error.detail(), "keys are rotated later");
                return;
            }
        }
    }
}

async fn sweep(state: &State, by: &By, workspace: &Workspace) -> Result<(), VaultError> {
    if !state.peers.leads() {
        return Ok(());
    }
    while state.vault.sweep(by, workspace).await?.1 {}
    while state.vault.sweep_leases(by, workspace).await? > 0 {}
    state.vault.sweep_shares(workspace).await
}

/// Tells of secrets that should have a new value.
async fn remind(state: &State) {
    for workspace in state.tenants.all().all().iter() {
        let mut after = None;
        loop {
            let (due, next) = match state.vault.due(workspace, after).await {
                Ok(page) => page,
                Err(error) => {
                    tracing::warn!(%workspace, error = error.detail(), "nobody is reminded of secrets");
                    break;
                }
            };
            after = next;
            for secret in due {
                // Its hook sees to it.
                if state.renewals.has(workspace, secret.about.name.as_str()) {
                    continue;
                }
                let since = secret
                    .rotate_at
                    .map(|at| at.to_string())
                    .unwrap_or_default();
                let detail = format!("{} should have had a new value by {since}", secret.id);
                state
                    .runtime
                    .record(workspace, Event::new("secret.due", detail));
            }
            if after.is_none() {
                break;
            }
        }
    }
}
