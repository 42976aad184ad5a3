//! What a workspace wants of models, and what is kept of its exchanges with them.

use std::collections::BTreeMap;
use std::sync::Arc;

use skep_core::{ExchangeId, Workspace};
use skep_store::{By, Scope};

use super::preferences::Preferences;
use super::service::Models;
use super::stored::{PREFERENCES, Ware};
use super::wishes::is_tag;
use crate::EgressError;
use crate::ledger::Way;
use crate::recordings::{Content, Recorded, Recordings, Which, rows as kept};
use crate::rows;

impl Models {
    /// What is kept of exchanges, by whatever way they went.
    pub(crate) fn kept(&self) -> &Recordings {
        &self.0.keeper.recordings
    }

    /// The preferences of a workspace (`*`) and of its agents, by whose they are.
    ///
    /// # Errors
    /// The store's own.
    pub async fn preferences(
        &self,
        workspace: &Workspace,
    ) -> Result<Arc<BTreeMap<String, Preferences>>, EgressError> {
        Ok(self.known(workspace).await?.preferences)
    }

    /// Sets the preferences of an agent, or of everybody (`*`).
    ///
    /// # Errors
    /// [`EgressError::Invalid`], and the store's own.
    pub async fn put_preferences(
        &self,
        by: &By,
        workspace: &Workspace,
        (whose, preferences): (&str, &Preferences),
    ) -> Result<(), EgressError> {
        let ware = Ware::preferences(whose, preferences)?;
        self.put(by, workspace, &PREFERENCES, ware).await
    }

    /// Takes preferences away.
    ///
    /// # Errors
    /// [`EgressError::NotFound`], and the store's own.
    pub async fn drop_preferences(
        &self,
        by: &By,
        workspace: &Workspace,
        whose: &str,
    ) -> Result<(), EgressError> {
        self.drop(by, workspace, &PREFERENCES, whose).await
    }

    /// Exchanges that are kept: the newest, before one of them.
    ///
    /// # Errors
    /// The store's own.
    pub async fn recordings(
        &self,
        workspace: &Workspace,
        (before, limit): (Option<ExchangeId>, u32),
    ) -> Result<Vec<Recorded>, EgressError> {
        let of = (Way::Model, workspace);
        self.kept().page(of, (before, limit)).await
    }

    /// One of them, with what was asked, when that is kept, and what was answered. That somebody saw it is written down
    /// before.
    ///
    /// # Errors
    /// [`EgressError::NotFound`], [`EgressError::Closed`], and the store's own.
    pub async fn recording(
        &self,
        by: &By,
        workspace: &Workspace,
        id: ExchangeId,
    ) -> Result<(Recorded, Content), EgressError> {
        self.kept().shown(by, (Way::Model, workspace), id).await
    }

    /// Removes one.
    ///
    /// # Errors
    /// [`EgressError::NotFound`], and the store's own.
    pub async fn drop_recording(
        &self,
        by: &By,
        workspace: &Workspace,
        id: ExchangeId,
    ) -> Result<(), EgressError> {
        self.kept().remove(by, (Way::Model, workspace), id).await
    }

    /// Gives answers again no more: those of a tag, of a model, or all of them.
    ///
    /// # Errors
    /// [`EgressError::Invalid`], and the store's own.
    pub async fn forget(
        &self,
        by: &By,
        workspace: &Workspace,
        which: Which,
    ) -> Result<(), EgressError> {
        if which.tag.as_ref().is_some_and(|it| !is_tag(it)) {
            let why = "`tag`: a-z, 0-9 and `-`, 64 bytes at most";
            return Err(EgressError::Invalid(why.to_owned()));
        }
        let forget = move |scope: &mut Scope<'_>, now| {
            Ok::<_, EgressError>(kept::forget(scope, &which, now)?)
        };
        let what = ("ModelCache", workspace.as_str(), "forgotten");
        rows::change(&self.0.db, by, workspace, what, forget).await
    }
}
