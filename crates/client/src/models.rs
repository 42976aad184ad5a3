//! Models: providers, budgets, usage.

use http::Method;
use skep_api::{ModelBudget, ModelProvider, ModelUsages, NewModelBudget, NewModelProvider, Page};

use crate::request::{Query, encode};
use crate::{Client, ClientError};

impl Client {
    /// The providers of models.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn model_providers(&self) -> Result<Page<ModelProvider>, ClientError> {
        self.get("/models/providers", &Query::default()).await
    }

    /// Adds a provider, or puts it in the place of the one of its name.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn put_model_provider(
        &self,
        name: &str,
        new: &NewModelProvider,
    ) -> Result<ModelProvider, ClientError> {
        let path = format!("/models/providers/{}", encode(name));
        let answer = self.put_json(&path, new).await?;
        self.in_time(answer.json()).await
    }

    /// Removes a provider.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn remove_model_provider(&self, name: &str) -> Result<(), ClientError> {
        let path = format!("/models/providers/{}", encode(name));
        self.api(Method::DELETE, &path, None).await.map(drop)
    }

    /// The budgets, and how they stand.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn model_budgets(&self) -> Result<Page<ModelBudget>, ClientError> {
        self.get("/models/budgets", &Query::default()).await
    }

    /// Adds a budget, or puts it in the place of the one of its name.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn put_model_budget(
        &self,
        name: &str,
        new: &NewModelBudget,
    ) -> Result<ModelBudget, ClientError> {
        let path = format!("/models/budgets/{}", encode(name));
        let answer = self.put_json(&path, new).await?;
        self.in_time(answer.json()).await
    }

    /// Removes a budget.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn remove_model_budget(&self, name: &str) -> Result<(), ClientError> {
        let path = format!("/models/budgets/{}", encode(name));
        self.api(Method::DELETE, &path, None).await.map(drop)
    }

    /// What was used: from one day to another, such as `2026-11-01`; the last 30 days, when nothing is said.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn model_usage(
        &self,
        since: Option<&str>,
        until: Option<&str>,
    ) -> Result<ModelUsages, ClientError> {
        let query = Query::default().with("since", since).with("until", until);
        self.get("/models/usage", &query).await
    }
}
