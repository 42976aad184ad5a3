//! What the servers have: which there are, backups, and answers that they keep.

use http::Method;
use skep_api::{Backup, Forgotten, NewBackup, Page, Server};

use crate::client::agent_path;
use crate::request::{Query, encode};
use crate::{Answer, Client, ClientError};

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

    /// Begins a backup of the server.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn create_backup(&self, wanted: &NewBackup) -> Result<Backup, ClientError> {
        self.post_json("/backups", wanted).await
    }

    /// The backups in the server's folder, newest first.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn backups(&self) -> Result<Page<Backup>, ClientError> {
        self.get("/backups", &Query::default()).await
    }

    /// One backup.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn backup(&self, name: &str) -> Result<Backup, ClientError> {
        let path = format!("/backups/{}", encode(name));
        self.get(&path, &Query::default()).await
    }

    /// The file of a backup that is done, as it comes in.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn backup_content(&self, name: &str) -> Result<Answer, ClientError> {
        let path = format!("/backups/{}/content", encode(name));
        self.api(Method::GET, &path, None).await
    }
}
