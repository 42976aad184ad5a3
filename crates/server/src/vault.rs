//! The vault as the server has it: opened at the start if its key is there, kept in order in the background.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use skep_core::config::Settings;
use skep_core::{PublicError as _, Workspace};
use skep_crypto::passphrase::Passphrase;
use skep_guard::Principal;
use skep_guard::policy::{PrincipalKind, Resource, Secret as Asked};
use skep_runtime::Event;
use skep_store::{By, Db};
use skep_vault::seal::{Opening, SealKey};
use skep_vault::{Known, May, Mount, Secret, Vault, VaultError, Which, Work};

use crate::ServerError;
use crate::keys::keep_new;
use crate::lending;
use crate::state::State;

/// The key file in the data folder.
const FILE: &str = "seal.key";
/// What the first seal is called when the start makes it.
const FIRST: &str = "server";
/// How often it is looked for what rotates, has expired or is due.
const LOOK: Duration = Duration::from_secs(5);
/// How often secrets that are due are told of again.
const REMIND: Duration = Duration::from_secs(24 * 3600);

fn of_file(path: &Path) -> Result<Option<Opening>, ServerError> {
    let failed = |reason: String| ServerError::File {
        path: path.to_owned(),
        reason,
    };
    match std::fs::read_to_string(path) {
        Ok(text) => {
            let text = zeroize::Zeroizing::new(text);
            let key = SealKey::new(&text).map_err(|error| failed(error.to_string()))?;
            Ok(Some(Opening::Key(key)))
        }
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(failed(error.to_string())),
    }
}

/// What the configuration gives to open the vault with, the most special first.
fn openings(settings: &Settings, file: &Path) -> Result<Vec<Opening>, ServerError> {
    let wrong = |key: &'static str, error: &dyn std::fmt::Display| ServerError::Seal {
        key,
        reason: error.to_string(),
    };
    let mut all = Vec::new();
    if let Some(text) = &settings.seal_key {
        let key = SealKey::new(text.reveal()).map_err(|error| wrong("seal.key", &error))?;
        all.push(Opening::Key(key));
    }
    if let Some(text) = &settings.seal_passphrase {
        let passphrase =
            Passphrase::new(text.reveal()).map_err(|error| wrong("seal.passphrase", &error))?;
        all.push(Opening::Passphrase(passphrase));
    }
    all.extend(of_file(file)?);
    Ok(all)
}

/// The vault of a store, open if the configuration has what opens it; set up if nobody has and it may.
pub(crate) async fn open(db: &Db, settings: &Settings, by: &By) -> Result<Vault, ServerError> {
    let vault = Vault::new(db.clone());
    let file = settings.seal_file.clone();
    let file: PathBuf = file.unwrap_or_else(|| db.folder().join(FILE));
    let mut openings = openings(settings, &file)?;
    let failed = |error: VaultError| match error {
        VaultError::Store(error) => ServerError::from(error),
        other => ServerError::Seal {
            key: "seal",
            reason: other.to_string(),
        },
    };
    if !vault.is_set_up().await.map_err(failed)? {
        if openings.is_empty() && settings.seal_auto {
            let key = SealKey::random().map_err(failed)?;
            // The file first: what it opens is made only when it is safe.
            keep_new(&file, &format!("{}\n", key.text()))?;
            openings.extend(of_file(&file)?);
        }
        match openings.into_iter().next() {
            Some(opening) => vault.set_up(by, opening, FIRST).await.map_err(failed)?,
            None => tracing::info!("nobody has set the vault up; `skep vault seals add` does"),
        }
        return Ok(vault);
    }
    for opening in openings {
        match vault.unseal(opening).await {
            Ok(()) => return Ok(vault),
            Err(VaultError::WrongOpening) => {}
            Err(error) => return Err(failed(error)),
        }
    }
    tracing::warn!("the vault stays sealed: the configuration has nothing that opens it");
    Ok(vault)
}

/// How the vault names who asks.
pub(crate) fn holder(principal: &Principal) -> String {
    let kind = match principal.kind {
        PrincipalKind::User => "user",
        PrincipalKind::ApiKey => "key",
        PrincipalKind::Agent => "agent",
    };
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
