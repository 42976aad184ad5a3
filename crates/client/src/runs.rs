//! Runs and threads.

use http::header::HeaderValue;
use http::{HeaderMap, Method};
use serde_json::Value;
use skep_api::{NewFork, Page, Run, RunStatus, Thread, ThreadContent};

use crate::client::unless_refused;
use crate::request::{Query, encode};
use crate::{Client, ClientError, PageQuery, RequestBody, RunEvents};

/// Which runs.
#[derive(Debug, Clone, Default)]
pub struct RunsQuery {
    /// Only this agent's.
    pub agent: Option<String>,
    /// Only those of this conversation.
    pub thread: Option<String>,
    /// Only those that stand so.
    pub status: Option<RunStatus>,
    /// Only those in which an agent was asked by the one of this run.
    pub parent: Option<String>,
    /// Which page.
    pub page: PageQuery,
}

fn path(id: &str, rest: &str) -> String {
    format!("/runs/{}{rest}", encode(id))
}

fn thread_path(id: &str) -> String {
    format!("/threads/{}", encode(id))
}

impl Client {
    /// Runs, newest first.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn runs(&self, query: &RunsQuery) -> Result<Page<Run>, ClientError> {
        let text = Query::default()
            .with("agent", query.agent.as_deref())
            .with("thread", query.thread.as_deref())
            .with("status", query.status.map(RunStatus::as_str))
            .with("parent", query.parent.as_deref())
            .page(&query.page);
        self.get("/runs", &text).await
    }

    /// One run.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn show_run(&self, id: &str) -> Result<Run, ClientError> {
        self.get(&path(id, ""), &Query::default()).await
    }

    /// What was asked in a run: AG-UI's `RunAgentInput`.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn run_input(&self, id: &str) -> Result<Value, ClientError> {
        self.get(&path(id, "/input"), &Query::default()).await
    }

    /// The events of a run: from its beginning, or behind one that was seen.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn run_events(
        &self,
        id: &str,
        last_event_id: Option<&str>,
    ) -> Result<RunEvents, ClientError> {
        let mut headers = HeaderMap::new();
        if let Some(id) = last_event_id {
            let value = HeaderValue::from_str(id).map_err(|_| {
                ClientError::Request("the event id has characters that no header has".to_owned())
            })?;
            headers.insert("last-event-id", value);
        }
        let path = format!("/api/v1{}", path(id, "/events"));
        let answer = self
            .send(Method::GET, &path, headers, RequestBody::default())
            .await?;
        Ok(RunEvents::new(unless_refused(answer).await?))
    }

    /// Ends a run that is not wanted any more.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn cancel_run(&self, id: &str) -> Result<Run, ClientError> {
        self.post(&path(id, "/cancel")).await
    }

    /// Begins a conversation with what a run had come to.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn fork_run(&self, id: &str, order: &NewFork) -> Result<Thread, ClientError> {
        self.post_json(&path(id, "/fork"), order).await
    }

    /// Conversations, newest first.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn threads(
        &self,
        agent: Option<&str>,
        page: &PageQuery,
    ) -> Result<Page<Thread>, ClientError> {
        let query = Query::default().with("agent", agent).page(page);
        self.get("/threads", &query).await
    }

    /// One conversation, with what was said in it.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn show_thread(&self, id: &str) -> Result<ThreadContent, ClientError> {
        self.get(&thread_path(id), &Query::default()).await
    }

    /// Forgets a conversation with its runs.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn forget_thread(&self, id: &str) -> Result<(), ClientError> {
        self.api(Method::DELETE, &thread_path(id), None)
            .await
            .map(drop)
    }
}
