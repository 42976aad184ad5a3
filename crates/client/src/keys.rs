//! API keys: made, listed, replaced, ended.

use http::Method;
use skep_api::{ApiKey, CreatedApiKey, NewApiKey, Page, RotateApiKey};

use crate::request::{Query, encode};
use crate::{Client, ClientError};

impl Client {
    /// The keys of the workspace, oldest first.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn keys(&self) -> Result<Page<ApiKey>, ClientError> {
        self.get("/keys", &Query::default()).await
    }

    /// Makes a key.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn create_key(&self, wanted: &NewApiKey) -> Result<CreatedApiKey, ClientError> {
        self.post_json("/keys", wanted).await
    }

    /// Makes a key that takes the place of another.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn rotate_key(
        &self,
        id: &str,
        how: &RotateApiKey,
    ) -> Result<CreatedApiKey, ClientError> {
        self.post_json(&format!("/keys/{}/rotate", encode(id)), how)
            .await
    }

    /// Ends a key at once.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn revoke_key(&self, id: &str) -> Result<(), ClientError> {
        let path = format!("/keys/{}", encode(id));
        self.api(Method::DELETE, &path, None).await.map(drop)
    }
}
