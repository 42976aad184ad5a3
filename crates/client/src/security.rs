//! What looked like an attack: listed, shown, acknowledged.

use skep_api::{Detection, Page};

use crate::request::{Query, encode};
use crate::{Client, ClientError, PageQuery};

/// Which detections are asked for. All that is given must be so.
#[derive(Debug, Clone, Default)]
pub struct DetectionQuery {
    /// Of this kind.
    pub kind: Option<String>,
    /// At least as bad as this.
    pub severity: Option<String>,
    /// From this time on: RFC 3339, or back from now (`10m`).
    pub since: Option<String>,
    /// `open`, or `acknowledged`.
    pub state: Option<String>,
    /// Which page.
    pub page: PageQuery,
}

impl Client {
    /// What looked like an attack, newest first.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn detections(&self, query: &DetectionQuery) -> Result<Page<Detection>, ClientError> {
        let query = Query::default()
            .page(&query.page)
            .with("kind", query.kind.as_deref())
            .with("severity", query.severity.as_deref())
            .with("since", query.since.as_deref())
            .with("state", query.state.as_deref());
        self.get("/security/detections", &query).await
    }

    /// A detection.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn detection(&self, id: &str) -> Result<Detection, ClientError> {
        let path = format!("/security/detections/{}", encode(id));
        self.get(&path, &Query::default()).await
    }

    /// Says that somebody has seen a detection.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn acknowledge(&self, id: &str) -> Result<Detection, ClientError> {
        let path = format!("/security/detections/{}/acknowledge", encode(id));
        self.post(&path).await
    }
}
