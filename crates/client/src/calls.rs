//! Calls as records: lists, details, and what people do with them.

use http::header::HeaderValue;
use http::{HeaderMap, Method};
use skep_api::{Call, Page, Redriven};

use crate::client::{call_path, unless_refused};
use crate::request::Query;
use crate::{Answer, CallsQuery, Client, ClientError, PageQuery, RequestBody};

impl Client {
    /// Calls, newest first.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn calls(&self, query: &CallsQuery) -> Result<Page<Call>, ClientError> {
        self.get("/calls", &Query::calls(query)).await
    }

    /// One call, with its attempts and headers.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn show_call(&self, id: &str) -> Result<Call, ClientError> {
        self.get(&call_path(id, ""), &Query::default()).await
    }

    /// The body of a call's request.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn call_request(&self, id: &str) -> Result<Answer, ClientError> {
        self.api(Method::GET, &call_path(id, "/request"), None)
            .await
    }

    /// The agent's answer to a call, stored or as it comes in. Without `wait`, refused when there
    /// is none yet. `last_event_id` continues an event stream behind that event.
    ///
    /// # Errors
    /// [`ClientError`]; how the call ended, when it ended without an answer.
    pub async fn call_response(
        &self,
        id: &str,
        wait: bool,
        last_event_id: Option<&str>,
    ) -> Result<Answer, ClientError> {
        let path = format!(
            "/api/v1{}",
            call_path(id, &format!("/response?wait={wait}"))
        );
        let mut headers = HeaderMap::new();
        if let Some(id) = last_event_id {
            let value = HeaderValue::from_str(id).map_err(|_| {
                ClientError::Request("the event id has characters that no header has".to_owned())
            })?;
            headers.insert("last-event-id", value);
        }
        let answer = self
            .send(Method::GET, &path, headers, RequestBody::default())
            .await?;
        unless_refused(answer).await
    }

    /// Ends a call that is not wanted any more.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn cancel_call(&self, id: &str) -> Result<Call, ClientError> {
        self.post(&call_path(id, "/cancel")).await
    }

    /// Makes a new call of the same request.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn replay_call(&self, id: &str) -> Result<Call, ClientError> {
        self.post(&call_path(id, "/replay")).await
    }

    /// Gives a dead call another round of attempts.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn redrive_call(&self, id: &str) -> Result<Call, ClientError> {
        self.post(&call_path(id, "/redrive")).await
    }

    /// Forgets a call that has ended.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn purge_call(&self, id: &str) -> Result<(), ClientError> {
        self.api(Method::DELETE, &call_path(id, ""), None)
            .await
            .map(drop)
    }

    /// Gives every dead call, or those of one agent, another round of attempts.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn redrive_calls(&self, agent: Option<&str>) -> Result<Redriven, ClientError> {
        let query = Query::default().with("agent", agent);
        self.post(&format!("/calls/redrive{}", query.as_str()))
            .await
    }

    /// Forgets every call that ended in a state (`dead` unless said otherwise), of one agent or
    /// all. The page of the query is not looked at.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn purge_calls(&self, query: &CallsQuery) -> Result<Redriven, ClientError> {
        let query = Query::calls(&CallsQuery {
            page: PageQuery::default(),
            ..query.clone()
        });
        self.post(&format!("/calls/purge{}", query.as_str())).await
    }
}
