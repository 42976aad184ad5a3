//! What the evidence says of a framework's controls.

use bytes::Bytes;
use http::Method;
use skep_api::Compliance;

use crate::request::{Query, encode};
use crate::{Client, ClientError};

impl Client {
    /// How it stands with the controls of a framework since a moment: RFC 3339, or back from now (`30d`).
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn compliance(
        &self,
        framework: &str,
        since: Option<&str>,
    ) -> Result<Compliance, ClientError> {
        let query = Query::default().with("since", since);
        self.get(&format!("/compliance/{}", encode(framework)), &query)
            .await
    }

    /// The same as a document: `oscal`, `markdown`, `html`.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn compliance_report(
        &self,
        framework: &str,
        since: Option<&str>,
        format: &str,
    ) -> Result<Bytes, ClientError> {
        let query = Query::default()
            .with("since", since)
            .with("format", Some(format));
        let path = format!("/compliance/{}{}", encode(framework), query.as_str());
        let answer = self.api(Method::GET, &path, None).await?;
        self.in_time(answer.bytes()).await
    }
}
