//! An agent that is taken elsewhere: where its data is, and a new agent whose data is there before it
//! runs. The form of the file in between is not known here.

use std::io::ErrorKind;
use std::path::PathBuf;
use std::sync::Arc;

use skep_api::AgentSpec;
use skep_core::{AgentId, Workspace};
use skep_store::By;

use crate::RuntimeError;
use crate::agents::{AgentRow, Desired, Revision};
use crate::driver::DriverError;
use crate::folder;
use crate::layers::{self, Layers};
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

impl Runtime {
    /// The layers that an agent has of its lock file, as they are at this moment.
    ///
    /// # Errors
    /// [`RuntimeError::AgentNotFound`], and [`RuntimeError::State`] when something odd is in their place.
    pub async fn layers(&self, workspace: &Workspace, name: &str) -> Result<Layers, RuntimeError> {
        let (_, folders) = self.data(workspace, name, true)?;
        let odd = odd_layers(name);
        blocking(move || layers::read(&folders.home).map_err(odd)).await
    }

    /// Gives an agent layers, for its instances to come: those that are given, the others stay. With `keep` so does a
    /// memory that it has; one that is replaced is nobody's to write meanwhile.
    ///
    /// # Errors
    /// As [`Self::layers`]; [`RuntimeError::State`] when the memory is replaced of an agent that is not stopped.
    pub async fn give_layers(
        &self,
        workspace: &Workspace,
        name: &str,
        (mut given, keep): (Layers, bool),
    ) -> Result<(), RuntimeError> {
        self.change(workspace, name, move |this, workspace, name| async move {
            let (_, folders) = this.data(&workspace, &name, true)?;
            let home = folders.home.clone();
            let odd = odd_layers(&name);
            let there = blocking(move || layers::read(&home).map_err(odd)).await?;
            if given.memory.is_some() && there.memory.is_some() {
                if keep {
                    // It came from where it came from.
                    (given.memory, given.origin) = (None, None);
                } else {
                    this.data(&workspace, &name, false)?;
                }
            }
            let home = folders.home;
            blocking(move || layers::write(&home, &given).map_err(odd_layers(&name))).await
        })
        .await
    }
}

/// Puts layers into the home of an agent that is to be.
///
/// # Errors
/// What the file system says.
pub fn place_layers(folders: &DataFolders, given: &Layers) -> Result<Vec<PathBuf>, RuntimeError> {
    let failed = |error| folder::failed("the layers of the lock file", &error);
    layers::write(&folders.home, given).map_err(failed)?;
    Ok(vec![folders.home.clone()])
}

fn odd_layers(name: &str) -> impl FnOnce(std::io::Error) -> RuntimeError + use<> {
    let name = name.to_owned();
    move |error| {
        tracing::warn!(agent = name, %error, "the layers of an agent's lock file cannot be used");
        let odd = [
            ErrorKind::FileTooLarge,
            ErrorKind::InvalidData,
            ErrorKind::NotADirectory,
        ];
        let is_link = rustix::io::Errno::from_io_error(&error) == Some(rustix::io::Errno::LOOP);
        if !is_link && !odd.contains(&error.kind()) {
            return folder::failed("the layers of the lock file", &error).into();
        }
        RuntimeError::State {
            name,
            reason: "has something else in the place of the layers of its lock file (`$HOME/lock`)",
            hint: "See what it has there (`skep export --with-data --live`); the server's log says what is wrong.",
        }
    }
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, RuntimeError> + Send + 'static,
) -> Result<T, RuntimeError> {
    tokio::task::spawn_blocking(work)
        .await
        .unwrap_or_else(|error| Err(DriverError::Failed(error.to_string()).into()))
}
