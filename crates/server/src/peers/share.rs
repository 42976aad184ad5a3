//! Sharing the agents among the servers: those of a server that is gone are taken, and a server
//! that has more than its share gives some away while nothing is to be done for them.

use std::collections::{BTreeSet, HashMap};
use std::time::Duration;

use skep_core::Workspace;
use skep_ingress::Whereabouts;

use crate::state::State;
use crate::{ServerError, problem::ApiError};

/// The pause between two rounds when nothing happens.
const EVERY: Duration = Duration::from_secs(1);

/// Takes and gives agents until the task ends.
pub(crate) async fn keep(state: &State) {
    // Taken, and their calls not yet.
    let mut pending: HashMap<Workspace, BTreeSet<String>> = HashMap::new();
    loop {
        let workspaces = state.tenants.all().all();
        pending.retain(|workspace, _| workspaces.contains(workspace));
        for workspace in workspaces.iter() {
            let pending = pending.entry(workspace.clone()).or_default();
            if let Err(error) = round(state, workspace, pending).await {
                tracing::warn!(%workspace, %error, "agents were not shared; it is tried again");
            }
        }
        let looked = state.peers.looked();
        // At least so often: an agent may be given to this server at any time.
        let _ = tokio::time::timeout(EVERY, looked).await;
    }
}

async fn round(
    state: &State,
    workspace: &Workspace,
    pending: &mut BTreeSet<String>,
) -> Result<(), ServerError> {
    let owners = state.runtime.owners(workspace).await?;
    let servers = state.peers.servers();
    let me = state.db.epoch();
    let lives = |epoch: i64| servers.iter().any(|row| row.epoch == epoch);
    let free = owners.iter().any(|(name, owner)| match *owner == me {
        true => state.runtime.target(workspace, name).is_none(),
        false => !lives(*owner),
    });
    if free {
        pending.extend(state.runtime.claim(workspace).await?);
    }
    state.peers.note_owners(workspace, owners);
    if !pending.is_empty() {
        take_calls(state, workspace, pending).await?;
    } else {
        give(state, workspace).await?;
    }
    Ok(())
}

async fn take_calls(
    state: &State,
    workspace: &Workspace,
    pending: &mut BTreeSet<String>,
) -> Result<(), ServerError> {
    let whereabouts = |agent: &str| match pending.contains(agent) {
        true => Whereabouts::Here,
        false => Whereabouts::Elsewhere,
    };
    let calls = state.ingress.recover(workspace, whereabouts).await?;
    tracing::info!(
        agents = pending.len(),
        calls,
        "agents taken from a server that is gone"
    );
    pending.clear();
    let owners = state.runtime.owners(workspace).await?;
    state.peers.note_owners(workspace, owners);
    Ok(())
}

/// How many agents this server has.
pub(super) fn held(state: &State) -> usize {
    let all = state.tenants.all().all();
    let counts = all.iter().map(|it| state.runtime.names(it).len());
    counts.sum()
}

/// Gives one agent away when another server has fewer by two or more.
async fn give(state: &State, workspace: &Workspace) -> Result<(), ServerError> {
    let names = state.runtime.names(workspace);
    let me = state.db.epoch();
    let servers = state.peers.servers();
    let others = servers
        .iter()
        .filter(|row| row.epoch != me && row.secret.is_some());
    let Some(emptiest) = others.min_by_key(|row| row.agents) else {
        return Ok(());
    };
    if (emptiest.agents as usize).saturating_add(1) >= held(state) {
        return Ok(());
    }
    for name in names {
        if !state.runtime.can_move(workspace, &name) || !state.ingress.shut(workspace, &name) {
            continue;
        }
        let given = state
            .runtime
            .hand_over(workspace, &name, emptiest.epoch)
            .await;
        state.ingress.moved(workspace, &name);
        if given? {
            tracing::info!(agent = name, to = emptiest.url, "given to another server");
        }
        let owners = state.runtime.owners(workspace).await?;
        state.peers.note_owners(workspace, owners);
        return Ok(());
    }
    Ok(())
}

/// The agent as it is known everywhere, for one that is not found here: an agent that was deployed
/// a moment ago may be known to the database only.
pub(crate) async fn look_again(state: &State, workspace: &Workspace) -> Result<(), ApiError> {
    let owners = state.runtime.owners(workspace).await?;
    state.peers.note_owners(workspace, owners);
    Ok(())
}
