//! An agent that is taken elsewhere: where its data is, and a new agent whose data is there before it
//! runs. The form of the file in between is not known here.

use std::path::PathBuf;
use std::sync::Arc;

use skep_api::AgentSpec;
use skep_core::{AgentId, Workspace};
use skep_store::By;

use crate::RuntimeError;
use crate::agents::{AgentRow, Desired, Revision};
use crate::driver::DriverError;
use crate::folder;
use crate::service::Runtime;
use crate::slot::AgentInfo;
use crate::spec::{Spec, VolumeSource};

/// Where an agent's data is on this machine. What is not there yet has never been written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DataFolders {
    /// Its home.
    pub home: PathBuf,
    /// The named volumes of its specification, which other agents may have too.
    pub volumes: Vec<(String, PathBuf)>,
}

impl Runtime {
    fn data_folders(
        &self,
        workspace: &Workspace,
        spec: &AgentSpec,
    ) -> Result<DataFolders, RuntimeError> {
        let data = self.db().folder();
        let parsed = Spec::parse(spec, &self.shared().kinds())?;
        let named = parsed.volumes.iter().filter_map(|it| match &it.source {
            VolumeSource::Named(name) => {
                Some((name.clone(), folder::volume(data, workspace, name)))
            }
            VolumeSource::Host(_) => None,
        });
        Ok(DataFolders {
            home: folder::home(data, workspace, &spec.name),
            volumes: named.collect(),
        })
    }

    /// Where the data of an agent is that rests: it was stopped, and nothing of it runs. With `live`
    /// of any agent.
    ///
    /// # Errors
    /// [`RuntimeError::AgentNotFound`], [`RuntimeError::State`] when it runs.
    pub fn data(
        &self,
        workspace: &Workspace,
        name: &str,
        live: bool,
    ) -> Result<(Arc<AgentSpec>, DataFolders), RuntimeError> {
        let slot = self.slot(workspace, name)?;
        let rests = slot.desired() == Desired::Stopped && slot.info().instances.is_empty();
        if !rests && !live {
            return Err(RuntimeError::State {
                name: name.to_owned(),
                reason: "may write its data just now",
                hint: "Stop it first (`skep stop`), or take its files as they are (`--live`).",
            });
        }
        let spec = slot.target.spec();
        let folders = self.data_folders(workspace, &spec)?;
        Ok((spec, folders))
    }

    /// Deploys an agent that there is not yet, with data that `place` puts into its folders before
    /// anything runs, and tells what it made. `desired` says whether the agent is to run then.
    ///
    /// # Errors
    /// As [`Self::deploy`], and [`RuntimeError::State`] when there is such an agent.
    pub async fn deploy_with(
        &self,
        by: &By,
        workspace: &Workspace,
        spec: AgentSpec,
        desired: Desired,
        place: impl FnOnce(&DataFolders) -> Result<Vec<PathBuf>, RuntimeError> + Send + 'static,
    ) -> Result<AgentInfo, RuntimeError> {
        self.check(workspace, &spec).await?;
        let (name, by) = (spec.name.clone(), by.clone());
        self.change(workspace, &name, move |this, workspace, name| async move {
            // Of all servers: its home may lie here from before.
            if this.owners(&workspace).await?.contains_key(&name) {
                return Err(RuntimeError::State {
                    name,
                    reason: "is there already",
                    hint: "Give the new one another name (`--name`), or remove the old one first.",
                });
            }
            let turn = this.within_quotas(&workspace, None, &spec).await?;
            let folders = this.data_folders(&workspace, &spec)?;
            let own = folder::of_agent(this.db().folder(), &workspace, &name);
            let at = own.clone();
            let placed = blocking(move || {
                // Of an agent that is gone, and whose end was cut short.
                folder::remove(&at)?;
                let placed = place(&folders);
                if placed.is_err() {
                    folder::remove(&at)?;
                }
                placed
            });
            let placed = placed.await?;
            let revision = Revision {
                number: 1,
                created_at: this.db().clock().now(),
                spec: Arc::new(spec),
            };
            let id = AgentId::new();
            if let Err(error) = this.put(&by, &workspace, id, &revision, desired).await {
                blocking(move || {
                    for folder in placed.iter().chain([&own]) {
                        folder::remove(folder)?;
                    }
                    Ok(())
                })
                .await?;
                return Err(error);
            }
            let mut row = AgentRow::new(this.db(), id, revision);
            row.desired = desired;
            let slot = this.insert(&workspace, row);
            slot.reconcile();
            drop(turn);
            Ok(slot.info())
        })
        .await
    }
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, RuntimeError> + Send + 'static,
) -> Result<T, RuntimeError> {
    tokio::task::spawn_blocking(work)
        .await
        .unwrap_or_else(|error| Err(DriverError::Failed(error.to_string()).into()))
}
