//! What instances are lent of the vault: placeholders of secrets, and files with the values that a
//! program must hold.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use async_trait::async_trait;
use skep_core::{InstanceId, Workspace, Workspaces};
use zeroize::Zeroizing;

use crate::RuntimeError;
use crate::agents;
use crate::driver::Place;
use crate::held;
use crate::service::Runtime;
use crate::spec::{Named, Spec, filled};
use crate::supervise::Charge;

/// Lends secrets to instances.
#[async_trait]
pub trait Lender: std::fmt::Debug + Send + Sync {
    /// What an instance is given for each secret that its specification names. Asked again it is the
    /// same as long as the instance lives, but for values that have changed.
    ///
    /// # Errors
    /// [`NotLent`]; then it is not to be started.
    async fn lend(
        &self,
        place: &Place,
        named: &BTreeSet<Named>,
    ) -> Result<BTreeMap<Named, Lent>, NotLent>;

    /// Takes back what an instance was given: it has ended.
    async fn take_back(&self, place: &Place);
}

/// What an instance is given for a secret.
pub enum Lent {
    /// What stands for it.
    Placeholder(String),
    /// The value, for a file.
    Value(Zeroizing<Vec<u8>>),
}

/// Why a secret is not lent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NotLent {
    /// In words, with what to do.
    pub reason: String,
    /// Whether it is the agent's to mend. Else it is tried again without an end.
    pub counts: bool,
}

/// A value for a file.
type Held = (Named, Zeroizing<Vec<u8>>);

/// What a start is given of the vault.
#[derive(Debug, Clone, Default)]
pub(crate) struct Given {
    pub(crate) env: BTreeMap<String, String>,
    pub(crate) held: Option<PathBuf>,
}

impl Charge {
    /// Gets what an instance is to be given that begins.
    pub(crate) async fn borrow(&self, place: &Place) -> Result<Given, NotLent> {
        self.borrow_as(place, true).await
    }

    /// Gets what an instance has that runs, for a command in its box.
    pub(crate) async fn borrow_again(&self, place: &Place) -> Result<Given, NotLent> {
        let runs = || match self.slot.live().0.contains(&place.instance) {
            true => Ok(()),
            false => Err(NotLent {
                reason: "the instance has ended".to_owned(),
                counts: false,
            }),
        };
        runs()?;
        let given = self.borrow_as(place, false).await?;
        if let Err(ended) = runs() {
            // What it was given it has given back already.
            self.give_back(place).await;
            return Err(ended);
        }
        Ok(given)
    }

    async fn borrow_as(&self, place: &Place, begins: bool) -> Result<Given, NotLent> {
        let spec: &Spec = &self.spec;
        if spec.secrets.is_empty() {
            return Ok(Given::default());
        }
        let lender = self.slot.shared.lender.as_ref().ok_or_else(|| NotLent {
            reason: "there is no vault here that lends secrets".to_owned(),
            counts: true,
        })?;
        let lent = lender.lend(place, &spec.secrets).await?;
        let (mut texts, mut values) = (BTreeMap::new(), Vec::new());
        for (named, lent) in lent {
            match lent {
                Lent::Placeholder(text) => drop(texts.insert(named, text)),
                Lent::Value(value) => values.push((named, value)),
            }
        }
        let held = match values.is_empty() {
            true => None,
            false => Some(self.hold(place, (values, begins), &mut texts).await?),
        };
        let env = filled(&spec.env, &texts);
        Ok(Given { env, held })
    }

    /// Writes values into files of their own, and tells which is where.
    async fn hold(
        &self,
        place: &Place,
        (values, begins): (Vec<Held>, bool),
        texts: &mut BTreeMap<Named, String>,
    ) -> Result<PathBuf, NotLent> {
        let files: Vec<_> = values
            .into_iter()
            .enumerate()
            .map(|(index, (named, value))| (held::name(index, &named.name), named, value))
            .collect();
        let given: Vec<_> = files
            .iter()
            .map(|(name, _, value)| (name.clone(), value.clone()))
            .collect();
        let (data, instance) = (self.slot.shared.db.folder().to_owned(), place.instance);
        let held = tokio::task::spawn_blocking(move || match begins {
            true => held::put(&data, instance, &given),
            false => held::find(&data, instance),
        })
        .await;
        let held = held
            .map_err(|error| error.to_string())
            .and_then(|held| held);
        let folder = held.map_err(|reason| NotLent {
            reason: format!("a secret's file cannot be made: {reason}"),
            counts: false,
        })?;
        let seen = self.driver.held_at(&folder);
        let at = |name: &str| seen.join(name).to_string_lossy().into_owned();
        texts.extend(files.into_iter().map(|(name, named, _)| (named, at(&name))));
        Ok(folder)
    }

    /// Gives back what an instance had.
    pub(crate) async fn give_back(&self, place: &Place) {
        if self.spec.secrets.is_empty() {
            return;
        }
        let (data, instance) = (self.slot.shared.db.folder().to_owned(), place.instance);
        // What is left is swept.
        let _ = tokio::task::spawn_blocking(move || held::remove(&data, instance)).await;
        if let Some(lender) = &self.slot.shared.lender {
            lender.take_back(place).await;
        }
    }
}

impl Runtime {
    /// Removes files with secrets of instances that have ended, and whose end did not do that.
    ///
    /// # Errors
    /// [`RuntimeError::Store`].
    pub async fn sweep_held(&self, workspaces: &Workspaces) -> Result<(), RuntimeError> {
        let data = self.db().folder().to_owned();
        let there = tokio::task::spawn_blocking(move || held::all(&data)).await;
        // First what is there: who begins after that has its row already.
        let there = there.unwrap_or_default();
        if there.is_empty() {
            return Ok(());
        }
        let mut living = BTreeSet::new();
        for workspace in workspaces.all().iter() {
            living.extend(self.living(workspace).await?);
        }
        let data = self.db().folder().to_owned();
        let swept = tokio::task::spawn_blocking(move || {
            for instance in there.difference(&living) {
                if let Err(error) = held::remove(&data, *instance) {
                    tracing::warn!(%instance, %error, "files with secrets are left");
                }
            }
        });
        // It panics, or the process ends: the next look sweeps.
        let _ = swept.await;
        Ok(())
    }

    /// The instances of a workspace, of all servers, that have begun and whose end is not known.
    ///
    /// # Errors
    /// [`RuntimeError::Store`].
    pub async fn living(
        &self,
        workspace: &Workspace,
    ) -> Result<BTreeSet<InstanceId>, RuntimeError> {
        let of = workspace.clone();
        let open: Result<Vec<_>, skep_store::StoreError> = self
            .db()
            .read(move |reader| agents::open_instances(reader, &of, None))
            .await;
        Ok(open?.into_iter().map(|row| row.id).collect())
    }
}
