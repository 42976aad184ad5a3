//! Outgoing webhooks: endpoints, and their messages.

use http::Method;
use skep_api::{NewWebhook, Page, RotateWebhook, Webhook, WebhookMessage, WebhookRedelivery};

use crate::request::{Query, encode};
use crate::{Client, ClientError, PageQuery};

fn path(name: &str, rest: &str) -> String {
    format!("/webhooks/{}{rest}", encode(name))
}

impl Client {
    /// The endpoints.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn webhooks(&self) -> Result<Page<Webhook>, ClientError> {
        self.get("/webhooks", &Query::default()).await
    }

    /// One endpoint.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn webhook(&self, name: &str) -> Result<Webhook, ClientError> {
        self.get(&path(name, ""), &Query::default()).await
    }

    /// Adds an endpoint, whose key is in the answer, or changes the one of its name.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn put_webhook(&self, name: &str, new: &NewWebhook) -> Result<Webhook, ClientError> {
        let answer = self.put_json(&path(name, ""), new).await?;
        self.in_time(answer.json()).await
    }

    /// Removes an endpoint with its messages.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn remove_webhook(&self, name: &str) -> Result<(), ClientError> {
        self.api(Method::DELETE, &path(name, ""), None)
            .await
            .map(drop)
    }

    /// Gives an endpoint another key, which is in the answer.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn rotate_webhook(
        &self,
        name: &str,
        how: &RotateWebhook,
    ) -> Result<Webhook, ClientError> {
        self.post_json(&path(name, "/rotate"), how).await
    }

    /// Sends an endpoint a message that says nothing.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn test_webhook(&self, name: &str) -> Result<WebhookMessage, ClientError> {
        self.post(&path(name, "/test")).await
    }

    /// Messages of an endpoint, newest first; of this state, if it is said.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn webhook_messages(
        &self,
        name: &str,
        state: Option<&str>,
        page: &PageQuery,
    ) -> Result<Page<WebhookMessage>, ClientError> {
        let query = Query::default().page(page).with("state", state);
        self.get(&path(name, "/messages"), &query).await
    }

    /// One message.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn webhook_message(
        &self,
        name: &str,
        message: &str,
    ) -> Result<WebhookMessage, ClientError> {
        let rest = format!("/messages/{}", encode(message));
        self.get(&path(name, &rest), &Query::default()).await
    }

    /// Sends a message again at once.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn redeliver_webhook(
        &self,
        name: &str,
        message: &str,
    ) -> Result<WebhookMessage, ClientError> {
        let rest = format!("/messages/{}/redeliver", encode(message));
        self.post(&path(name, &rest)).await
    }

    /// Sends all dead messages of an endpoint again.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn redeliver_webhooks(&self, name: &str) -> Result<WebhookRedelivery, ClientError> {
        self.post(&path(name, "/redeliver")).await
    }
}
