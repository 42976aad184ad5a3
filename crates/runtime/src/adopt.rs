//! What becomes of instances that outlived the last server: those of an agent's revisions in play
//! are adopted when the agent should run, all others are ended.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use skep_core::Workspace;
use skep_core::units::parse_duration;
use skep_store::Db;
use tokio::task::JoinSet;

use crate::agents::{self, InstanceRow};
use crate::driver::{Driver, Exit, Place, Running};
use crate::slot::{Live, Slot};

/// Grace of an instance whose agent says nothing of it.
const GRACE: Duration = Duration::from_secs(10);

/// Looks for the instances and tells those to go on with, by agent.
pub(crate) async fn adopt(
    db: &Db,
    drivers: &[Arc<dyn Driver>],
    workspace: &Workspace,
    slots: &[Arc<Slot>],
    open: Vec<InstanceRow>,
) -> HashMap<String, Vec<(u32, Live)>> {
    let by_name: HashMap<&str, &Arc<Slot>> = slots.iter().map(|slot| (slot.name(), slot)).collect();
    let mut adopted: HashMap<String, Vec<(u32, Live)>> = HashMap::new();
    let mut ended = JoinSet::new();
    for (row, running) in find(drivers, workspace, open).await {
        let Some(running) = running else {
            ended.spawn(finish(db.clone(), workspace.clone(), row, None, GRACE));
            continue;
        };
        let slot = by_name.get(row.agent.as_str());
        let wanted = slot.map_or(0, |slot| slot.wants(row.revision)) as usize;
        let of_agent = adopted.entry(row.agent.clone()).or_default();
        let there = of_agent.iter().filter(|(of, _)| *of == row.revision);
        // The newest come first.
        if there.count() < wanted {
            let live = Live {
                instance: row.id,
                started_at: row.started_at,
                running,
            };
            of_agent.push((row.revision, live));
            continue;
        }
        let grace = slot
            .and_then(|slot| parse_duration(slot.target.spec().stop_grace.as_deref()?))
            .unwrap_or(GRACE);
        // Not waited for: the others shall not wait for one that takes its time.
        tokio::spawn(finish(
            db.clone(),
            workspace.clone(),
            row,
            Some(running),
            grace,
        ));
    }
    while ended.join_next().await.is_some() {}
    adopted
}

/// What became of the instances, newest first. Those of which that cannot be found out stay open,
/// for the next server to look again.
async fn find(
    drivers: &[Arc<dyn Driver>],
    workspace: &Workspace,
    open: Vec<InstanceRow>,
) -> Vec<(InstanceRow, Option<Arc<dyn Running>>)> {
    let mut looks = JoinSet::new();
    for row in open {
        let driver = drivers.iter().find(|driver| driver.kind() == row.driver);
        let Some(driver) = driver.cloned() else {
            tracing::warn!(
                agent = row.agent,
                kind = row.driver,
                "an instance's driver is gone"
            );
            continue;
        };
        let place = Place {
            workspace: workspace.clone(),
            agent: row.agent.clone(),
            instance: row.id,
        };
        looks.spawn(async move {
            let running = driver.adopt(&place, row.handle.as_deref()).await;
            (row, running)
        });
    }
    let mut found = Vec::new();
    while let Some(look) = looks.join_next().await {
        match look {
            Ok((row, Ok(running))) => found.push((row, running)),
            Ok((row, Err(error))) => {
                tracing::error!(agent = row.agent, instance = %row.id, %error, "not adopted");
            }
            Err(error) => tracing::error!(%error, "adopting an instance broke"),
        }
    }
    found.sort_by_key(|(row, _)| std::cmp::Reverse(row.id));
    found
}

/// Ends an instance that nobody wants any more, and writes its end down.
async fn finish(
    db: Db,
    workspace: Workspace,
    row: InstanceRow,
    running: Option<Arc<dyn Running>>,
    grace: Duration,
) {
    let mut exit = Exit::default();
    if let Some(running) = running {
        if let Err(error) = running.stop(grace).await {
            tracing::error!(agent = row.agent, instance = %row.id, %error, "not ended");
            return;
        }
        exit = running.wait().await;
    }
    let ended = agents::end_instance(&db, &workspace, &row.agent, row.id, &exit).await;
    if let Err(error) = ended {
        tracing::warn!(agent = row.agent, %error, "an instance's end is not kept");
    }
}
