//! What servers and engines that were killed leave behind: containers of this data folder that do
//! not run and that nobody looks after.

use std::collections::HashMap;
use std::time::Duration;

use bollard::models::ContainerSummary;
use bollard::query_parameters::ListContainersOptions;
use skep_core::{InstanceId, Timestamp, Workspace};
use skep_runtime::{Place, Rotation};

use crate::claim::Claims;
use crate::create::{LABEL_AGENT, LABEL_INSTANCE, LABEL_WORKSPACE};
use crate::engine::{Engine, Trouble};
use crate::folder::Folders;
use crate::log::Carrier;
use crate::network::LABEL_ID;
use crate::running::{remove, settle};

/// A container that is younger may be somebody's who is about to start it.
const OLD: Duration = Duration::from_secs(60);

/// Removes what does not run any more, and keeps its log.
pub(crate) async fn sweep(
    engine: &Engine,
    claims: &Claims,
    folders: &Folders,
    id: &str,
    rotation: Rotation,
) {
    let filter = |name: &str, values: &[&str]| {
        let values = values.iter().map(|&value| value.to_owned()).collect();
        (name.to_owned(), values)
    };
    let label = format!("{LABEL_ID}={id}");
    let options = ListContainersOptions {
        all: true,
        filters: Some(HashMap::from([
            filter("label", &[&label]),
            filter("status", &["created", "exited", "dead"]),
        ])),
        ..ListContainersOptions::default()
    };
    let listed = engine
        .ask(|docker| async move { docker.list_containers(Some(options)).await })
        .await;
    let swept = match listed {
        Ok(all) => {
            let mut swept = Ok(());
            for container in all {
                swept = sweep_one(engine, claims, folders, rotation, &container).await;
            }
            swept
        }
        Err(trouble) => Err(trouble),
    };
    if let Err(trouble) = swept {
        tracing::debug!(?trouble, "containers that ended stay for the next sweep");
    }
}

async fn sweep_one(
    engine: &Engine,
    claims: &Claims,
    folders: &Folders,
    rotation: Rotation,
    container: &ContainerSummary,
) -> Result<(), Trouble> {
    let Some(name) = container.id.as_deref() else {
        return Ok(());
    };
    let created = container.created.unwrap_or_default();
    let created = Timestamp::from_micros(created.saturating_mul(1_000_000));
    if Timestamp::system_now().since(created) < OLD {
        return Ok(());
    }
    let Some(place) = place(container) else {
        // It was made to look into its image.
        return remove(engine, name).await;
    };
    let Some(_claim) = claims.try_claim(place.instance) else {
        return Ok(());
    };
    let log = folders.log(&place);
    let opened = tokio::task::spawn_blocking(move || {
        let kept = log.parent().is_some_and(std::path::Path::is_dir);
        kept.then(|| Carrier::open(&log, rotation))
    })
    .await;
    tracing::info!(agent = place.agent, instance = %place.instance, "removing a container that ended");
    match opened {
        Ok(Some(mut carrier)) => {
            settle(engine, name, &mut carrier).await;
            Ok(())
        }
        _ => remove(engine, name).await,
    }
}

fn place(container: &ContainerSummary) -> Option<Place> {
    let labels = container.labels.as_ref()?;
    Some(Place {
        workspace: Workspace::new(labels.get(LABEL_WORKSPACE)?).ok()?,
        agent: labels.get(LABEL_AGENT)?.clone(),
        instance: labels.get(LABEL_INSTANCE)?.parse::<InstanceId>().ok()?,
    })
}
