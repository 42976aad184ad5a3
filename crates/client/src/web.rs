//! The way out to the web: rules, what becomes of a request, the CA.

use http::Method;
use skep_api::{NewWebRule, Page, WebCa, WebCheck, WebExchange, WebExchangeContent, WebRule};

use crate::request::{Query, encode};
use crate::{Client, ClientError};

impl Client {
    /// The rules.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn web_rules(&self) -> Result<Page<WebRule>, ClientError> {
        self.get("/web/rules", &Query::default()).await
    }

    /// Adds a rule, or puts it in the place of the one of its name.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn put_web_rule(&self, name: &str, new: &NewWebRule) -> Result<WebRule, ClientError> {
        let path = format!("/web/rules/{}", encode(name));
        let answer = self.put_json(&path, new).await?;
        self.in_time(answer.json()).await
    }

    /// Removes a rule.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn remove_web_rule(&self, name: &str) -> Result<(), ClientError> {
        let path = format!("/web/rules/{}", encode(name));
        self.api(Method::DELETE, &path, None).await.map(drop)
    }

    /// What becomes of a request: of an agent, or of who asks. `GET`, unless it is said.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn web_check(
        &self,
        url: &str,
        method: Option<&str>,
        agent: Option<&str>,
    ) -> Result<WebCheck, ClientError> {
        let query = Query::default().with("url", Some(url));
        let query = query.with("method", method).with("agent", agent);
        self.get("/web/check", &query).await
    }

    /// The CA by which Skep opens TLS.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn web_ca(&self) -> Result<WebCa, ClientError> {
        self.get("/web/ca", &Query::default()).await
    }
    /// Exchanges with hosts that are kept, the newest first.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn web_exchanges(
        &self,
        limit: Option<u32>,
        cursor: Option<&str>,
    ) -> Result<Page<WebExchange>, ClientError> {
        let query = Query::default().with("limit", limit).with("cursor", cursor);
        self.get("/web/exchanges", &query).await
    }

    /// What was said in one of them.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn web_exchange(&self, id: &str) -> Result<WebExchangeContent, ClientError> {
        let path = format!("/web/exchanges/{}", encode(id));
        self.get(&path, &Query::default()).await
    }

    /// Removes one of them.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn remove_web_exchange(&self, id: &str) -> Result<(), ClientError> {
        let path = format!("/web/exchanges/{}", encode(id));
        self.api(Method::DELETE, &path, None).await.map(drop)
    }
}
