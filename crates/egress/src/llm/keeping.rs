//! What a workspace wants of models, and what is kept of its exchanges with them.

use std::collections::BTreeMap;
use std::sync::Arc;

use skep_core::{ExchangeId, Workspace};
use skep_store::{By, Scope};

use super::content::Content;
use super::preferences::Preferences;
use super::recordings::{self, Recorded, Which};
use super::service::Models;
use super::stored::{PREFERENCES, Ware};
use super::wishes::is_tag;
use crate::EgressError;
use crate::rows;

/// Exchanges that are told at once.
const MOST_PAGE: u32 = 200;
/// How the audit log calls one that is kept.
const KIND: &str = "Exchange";

impl Models {
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
        let before = before.map(|it| *it.as_bytes());
        let limit = limit.clamp(1, MOST_PAGE);
        let kept = &self.0.recordings;
        kept.page(workspace, (before, limit)).await
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
        let found = self.0.recordings.one(workspace, *id.as_bytes()).await?;
        let (name, nothing) = (id.to_string(), |_: &mut Scope<'_>, _| Ok(()));
        let what = (KIND, name.as_str(), "shown");
        rows::change::<EgressError>(&self.0.db, by, workspace, what, nothing).await?;
        Ok(found)
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
        let drop = move |scope: &mut Scope<'_>, _| match recordings::remove(scope, id.as_bytes())? {
            true => Ok(()),
            false => Err(EgressError::NotFound(
                "this exchange is not kept".to_owned(),
            )),
        };
        let name = id.to_string();
        rows::change(&self.0.db, by, workspace, (KIND, &name, "removed"), drop).await
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
            Ok::<_, EgressError>(recordings::forget(scope, &which, now)?)
        };
        let what = ("ModelCache", workspace.as_str(), "forgotten");
        rows::change(&self.0.db, by, workspace, what, forget).await
    }
}
