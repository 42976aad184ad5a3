//! Models: providers, routes, budgets, usage.

use bytes::Bytes;
use http::{HeaderMap, Method};
use skep_api::{
    ForgetAnswers, ModelBudget, ModelExchange, ModelExchangeContent, ModelPerformances,
    ModelProvider, ModelProviderCheck, ModelRoute, ModelRouteVersion, ModelSettings, ModelUsages,
    NewModelBudget, NewModelProvider, NewModelRoute, NewModelSettings, Page,
};

use crate::request::{Query, encode};
use crate::{Answer, Client, ClientError, RequestBody};

impl Client {
    /// Asks a model by a door of an SDK, such as `/llm/openai/v1/chat/completions`. Whatever is answered is the answer, also
    /// outside 2xx and by Skep itself: in the dialect of the door.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn ask_model(
        &self,
        path: &str,
        headers: HeaderMap,
        body: Bytes,
    ) -> Result<Answer, ClientError> {
        let body = RequestBody::Bytes(body);
        self.send(Method::POST, path, headers, body).await
    }

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

    /// Whether a provider can be asked with its keys, and which models it has.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn check_model_provider(
        &self,
        name: &str,
    ) -> Result<ModelProviderCheck, ClientError> {
        let path = format!("/models/providers/{}/check", encode(name));
        let answer = self.api(Method::POST, &path, None).await?;
        self.in_time(answer.json()).await
    }

    /// The routes to models, and how who answers does.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn model_routes(&self) -> Result<Page<ModelRoute>, ClientError> {
        self.get("/models/routes", &Query::default()).await
    }

    /// Adds a route, or puts it in the place of the one of its name.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn put_model_route(
        &self,
        name: &str,
        new: &NewModelRoute,
    ) -> Result<ModelRoute, ClientError> {
        let path = format!("/models/routes/{}", encode(name));
        let answer = self.put_json(&path, new).await?;
        self.in_time(answer.json()).await
    }

    /// Removes a route.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn remove_model_route(&self, name: &str) -> Result<(), ClientError> {
        let path = format!("/models/routes/{}", encode(name));
        self.api(Method::DELETE, &path, None).await.map(drop)
    }

    /// How each model did over so many hours until now.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn model_performance(&self, hours: u64) -> Result<ModelPerformances, ClientError> {
        let query = Query::default().with("hours", Some(hours));
        self.get("/models/performance", &query).await
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

    /// The versions of a route, the newest first.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn model_route_versions(
        &self,
        name: &str,
    ) -> Result<Page<ModelRouteVersion>, ClientError> {
        let path = format!("/models/routes/{}/versions", encode(name));
        self.get(&path, &Query::default()).await
    }

    /// Goes back to the version of a route before the newest one.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn roll_model_route_back(
        &self,
        name: &str,
    ) -> Result<ModelRouteVersion, ClientError> {
        let path = format!("/models/routes/{}/rollback", encode(name));
        let answer = self.api(Method::POST, &path, None).await?;
        self.in_time(answer.json()).await
    }

    /// How models are used, by everybody (`*`) and by agents.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn model_settings(&self) -> Result<Page<ModelSettings>, ClientError> {
        self.get("/models/settings", &Query::default()).await
    }

    /// Sets how models are used by an agent, or by everybody (`*`).
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn put_model_settings(
        &self,
        whose: &str,
        new: &NewModelSettings,
    ) -> Result<ModelSettings, ClientError> {
        let path = format!("/models/settings/{}", encode(whose));
        let answer = self.put_json(&path, new).await?;
        self.in_time(answer.json()).await
    }

    /// Takes the settings of an agent, or of everybody, away.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn remove_model_settings(&self, whose: &str) -> Result<(), ClientError> {
        let path = format!("/models/settings/{}", encode(whose));
        self.api(Method::DELETE, &path, None).await.map(drop)
    }

    /// Exchanges with models that are kept, the newest first.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn model_exchanges(
        &self,
        limit: Option<u32>,
        cursor: Option<&str>,
    ) -> Result<Page<ModelExchange>, ClientError> {
        let query = Query::default().with("limit", limit).with("cursor", cursor);
        self.get("/models/exchanges", &query).await
    }

    /// What was said in one of them.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn model_exchange(&self, id: &str) -> Result<ModelExchangeContent, ClientError> {
        let path = format!("/models/exchanges/{}", encode(id));
        self.get(&path, &Query::default()).await
    }

    /// Removes one of them.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn remove_model_exchange(&self, id: &str) -> Result<(), ClientError> {
        let path = format!("/models/exchanges/{}", encode(id));
        self.api(Method::DELETE, &path, None).await.map(drop)
    }

    /// Gives answers again no more: those of a tag, of a model, or all.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn forget_model_answers(&self, which: &ForgetAnswers) -> Result<(), ClientError> {
        let body = Bytes::from(skep_api::to_json(which));
        let forgotten = self.api(Method::POST, "/models/forget", Some(body));
        forgotten.await.map(drop)
    }
}
