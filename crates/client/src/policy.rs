//! Policies: what holds, its versions, and why something is decided as it is.

use bytes::Bytes;
use http::Method;
use skep_api::{
    Page, Policy, PolicyExplanation, PolicyQuestion, PolicyRollback, PolicySchema, PolicyText,
    PolicyVersion,
};

use crate::request::Query;
use crate::{Client, ClientError, PageQuery};

impl Client {
    /// The policies of the workspace.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn policy(&self) -> Result<Policy, ClientError> {
        self.get("/policy", &Query::default()).await
    }

    /// Makes a text the policies of the workspace.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn set_policy(&self, text: &PolicyText) -> Result<Policy, ClientError> {
        let body = Bytes::from(skep_api::to_json(text));
        let answer = self.api(Method::PUT, "/policy", Some(body)).await?;
        self.in_time(answer.json()).await
    }

    /// The versions of the policies, newest first.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn policy_versions(
        &self,
        page: &PageQuery,
    ) -> Result<Page<PolicyVersion>, ClientError> {
        self.get("/policy/versions", &Query::default().page(page))
            .await
    }

    /// Makes an earlier version hold again.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn roll_back_policy(&self, to: &PolicyRollback) -> Result<Policy, ClientError> {
        self.post_json("/policy/rollback", to).await
    }

    /// The schema that policies are checked against.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn policy_schema(&self) -> Result<PolicySchema, ClientError> {
        self.get("/policy/schema", &Query::default()).await
    }

    /// What would be decided, and why.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn explain_policy(
        &self,
        question: &PolicyQuestion,
    ) -> Result<PolicyExplanation, ClientError> {
        self.post_json("/policy/explain", question).await
    }
}
