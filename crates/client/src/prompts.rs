//! Prompts of models, and scores of answers.

use bytes::Bytes;
use http::Method;
use skep_api::{
    ListedPrompt, ModelPrompt, NewPromptLabel, NewPromptVersion, NewScore, Page, PromptDiff,
    PromptLabel, PromptUsage, PromptVersion, RenderPrompt, RenderedPrompt,
};

use crate::request::{Query, encode};
use crate::{Client, ClientError};

impl Client {
    /// The prompts of the workspace.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn prompts(&self) -> Result<Page<ListedPrompt>, ClientError> {
        self.get("/prompts", &Query::default()).await
    }

    /// A prompt: its versions and its labels.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn prompt(&self, name: &str) -> Result<ModelPrompt, ClientError> {
        let path = format!("/prompts/{}", encode(name));
        self.get(&path, &Query::default()).await
    }

    /// One version, by its number or a label.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn prompt_version(
        &self,
        name: &str,
        version: &str,
    ) -> Result<PromptVersion, ClientError> {
        let path = format!("/prompts/{}/versions/{}", encode(name), encode(version));
        self.get(&path, &Query::default()).await
    }

    /// Adds a version; the first one makes the prompt.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn add_prompt_version(
        &self,
        name: &str,
        new: &NewPromptVersion,
    ) -> Result<PromptVersion, ClientError> {
        let path = format!("/prompts/{}/versions", encode(name));
        let body = Bytes::from(skep_api::to_json(new));
        let answer = self.api(Method::POST, &path, Some(body)).await?;
        self.in_time(answer.json()).await
    }

    /// Removes a prompt.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn remove_prompt(&self, name: &str) -> Result<(), ClientError> {
        let path = format!("/prompts/{}", encode(name));
        self.api(Method::DELETE, &path, None).await.map(drop)
    }

    /// What differs between two versions, by number or label.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn prompt_diff(
        &self,
        name: &str,
        (from, to): (&str, &str),
    ) -> Result<PromptDiff, ClientError> {
        let path = format!("/prompts/{}/diff", encode(name));
        let query = Query::default()
            .with("from", Some(from))
            .with("to", Some(to));
        self.get(&path, &query).await
    }

    /// What a prompt says with variables.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn render_prompt(
        &self,
        name: &str,
        with: &RenderPrompt,
    ) -> Result<RenderedPrompt, ClientError> {
        let path = format!("/prompts/{}/render", encode(name));
        let body = Bytes::from(skep_api::to_json(with));
        let answer = self.api(Method::POST, &path, Some(body)).await?;
        self.in_time(answer.json()).await
    }

    /// What was used by way of each version, over so many days until now.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn prompt_usage(
        &self,
        name: &str,
        days: u32,
    ) -> Result<Page<PromptUsage>, ClientError> {
        let path = format!("/prompts/{}/usage", encode(name));
        let query = Query::default().with("days", Some(days));
        self.get(&path, &query).await
    }

    /// Moves a label to a version, or to several by weight.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn put_prompt_label(
        &self,
        (name, label): (&str, &str),
        new: &NewPromptLabel,
    ) -> Result<PromptLabel, ClientError> {
        let path = format!("/prompts/{}/labels/{}", encode(name), encode(label));
        let answer = self.put_json(&path, new).await?;
        self.in_time(answer.json()).await
    }

    /// Moves a label back to where it was before.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn roll_prompt_label_back(
        &self,
        (name, label): (&str, &str),
    ) -> Result<PromptLabel, ClientError> {
        let path = format!(
            "/prompts/{}/labels/{}/rollback",
            encode(name),
            encode(label)
        );
        let answer = self.api(Method::POST, &path, None).await?;
        self.in_time(answer.json()).await
    }

    /// Takes a label away.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn remove_prompt_label(
        &self,
        (name, label): (&str, &str),
    ) -> Result<(), ClientError> {
        let path = format!("/prompts/{}/labels/{}", encode(name), encode(label));
        self.api(Method::DELETE, &path, None).await.map(drop)
    }

    /// Says how good an exchange, or a thread, was.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn score_models(&self, new: &NewScore) -> Result<(), ClientError> {
        let body = Bytes::from(skep_api::to_json(new));
        let scored = self.api(Method::POST, "/models/scores", Some(body));
        scored.await.map(drop)
    }
}
