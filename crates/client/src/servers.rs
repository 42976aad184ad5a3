//! What the servers have: which there are, and answers that they keep.

use http::Method;
use skep_api::{Forgotten, Page, Server};

use crate::client::agent_path;
use crate::request::Query;
use crate::{Client, ClientError};

impl Client {
    /// The servers that share the database, the oldest first.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn servers(&self) -> Result<Page<Server>, ClientError> {
        self.get("/servers", &Query::default()).await
    }

    /// Forgets an agent's answers that are kept: those with a tag, or all.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn forget_answers(
        &self,
        agent: &str,
        tag: Option<&str>,
    ) -> Result<Forgotten, ClientError> {
        let query = Query::default().with("tag", tag);
        let path = format!("{}{}", agent_path(agent, "/cache"), query.as_str());
        let answer = self.api(Method::DELETE, &path, None).await?;
        self.in_time(answer.json()).await
    }
}
