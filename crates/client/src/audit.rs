//! The audit log: entries, proofs, its signed head, and all of it.

use http::Method;
use skep_api::{AuditCheckpoint, AuditConsistency, AuditEntry, AuditErased, AuditProof, Page};

use crate::request::{Query, encode};
use crate::{Answer, Client, ClientError, PageQuery};

/// Which entries are asked for. All that is given must be so.
#[derive(Debug, Clone, Default)]
pub struct AuditQuery {
    /// By this principal.
    pub principal: Option<String>,
    /// This action (`agent:deploy`), or all of a kind (`agent`).
    pub action: Option<String>,
    /// About this thing.
    pub resource: Option<String>,
    /// `allow` or `deny`.
    pub decision: Option<String>,
    /// Of this request.
    pub request: Option<String>,
    /// From this time on: RFC 3339, or back from now (`10m`).
    pub since: Option<String>,
    /// Before this time.
    pub until: Option<String>,
    /// Which page; not for exports.
    pub page: PageQuery,
}

impl AuditQuery {
    fn query(&self) -> Query {
        Query::default()
            .page(&self.page)
            .with("principal", self.principal.as_deref())
            .with("action", self.action.as_deref())
            .with("resource", self.resource.as_deref())
            .with("decision", self.decision.as_deref())
            .with("request", self.request.as_deref())
            .with("since", self.since.as_deref())
            .with("until", self.until.as_deref())
    }
}

impl Client {
    /// Entries of the audit log, newest first.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn audit_entries(&self, query: &AuditQuery) -> Result<Page<AuditEntry>, ClientError> {
        self.get("/audit/entries", &query.query()).await
    }

    /// An entry.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn audit_entry(&self, number: u64) -> Result<AuditEntry, ClientError> {
        let path = format!("/audit/entries/{number}");
        self.get(&path, &Query::default()).await
    }

    /// Erases the personal data of somebody.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn audit_erase(&self, person: &str) -> Result<AuditErased, ClientError> {
        let path = format!("/audit/people/{}", encode(person));
        self.api(Method::DELETE, &path, None).await?.json().await
    }

    /// An entry with the proof that it is in the log.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn audit_proof(&self, number: u64) -> Result<AuditProof, ClientError> {
        let path = format!("/audit/entries/{number}/proof");
        self.get(&path, &Query::default()).await
    }

    /// The signed head of the log.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn audit_checkpoint(&self) -> Result<AuditCheckpoint, ClientError> {
        self.get("/audit/checkpoint", &Query::default()).await
    }

    /// The proof that the log of `to` entries begins with that of `from`.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn audit_consistency(
        &self,
        from: u64,
        to: u64,
    ) -> Result<AuditConsistency, ClientError> {
        let query = Query::default()
            .with("from", Some(from))
            .with("to", Some(to));
        self.get("/audit/consistency", &query).await
    }

    /// Entries with their proofs as JSON lines, as they come in.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn audit_export(&self, query: &AuditQuery) -> Result<Answer, ClientError> {
        let path = format!("/audit/export{}", query.query().as_str());
        self.api(Method::GET, &path, None).await
    }

    /// A tile of the whole log: hashes of a level, or `entries`.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn audit_tile(
        &self,
        kind: &str,
        number: u64,
        width: usize,
    ) -> Result<Answer, ClientError> {
        let path = format!("/audit/tiles/{}/{number}?width={width}", encode(kind));
        self.api(Method::GET, &path, None).await
    }
}
