//! Secrets, their leases and shares, and the vault they lie in.

use bytes::Bytes;
use http::Method;
use serde::Serialize;
use serde::de::DeserializeOwned;
use skep_api::{
    BulkOutcome, BulkSecrets, CreatedSeal, EndedLeases, KeyRotation, LockOpening, MountedSecrets,
    NewRootRotation, NewSeal, NewSecret, NewSecretLease, NewSecretMount, NewSecretRequest,
    NewSecretRotation, NewSecretShare, NewVersion, Page, RenewSecretLease, Reveal, Revealed,
    Secret, SecretChange, SecretDecision, SecretLease, SecretMount, SecretRenewal, SecretRequest,
    SecretShare, SecretVersion, SecretVersions, Unseal, VaultStatus,
};

use crate::request::{PageQuery, Query, encode};
use crate::{Client, ClientError};

/// Which secrets.
#[derive(Debug, Clone, Default)]
pub struct SecretsQuery {
    /// Words, or beginnings of words, of the name.
    pub query: Option<String>,
    /// Tags: `team`, `team=red`.
    pub tags: Vec<String>,
    /// Which page.
    pub page: PageQuery,
}

fn of(secret: &str, rest: &str) -> String {
    format!("/secrets/{}{rest}", encode(secret))
}

/// Whose rotations: those of the root key, or those of the workspace's keys.
fn rotations(root: bool) -> &'static str {
    match root {
        true => "/vault/rotations",
        false => "/secret-rotations",
    }
}

impl Client {
    async fn patch_json<T: DeserializeOwned>(
        &self,
        path: &str,
        body: &impl Serialize,
    ) -> Result<T, ClientError> {
        let body = Bytes::from(skep_api::to_json(body));
        let answer = self.api(Method::PATCH, path, Some(body)).await?;
        self.in_time(answer.json()).await
    }

    /// Secrets of the workspace, oldest first, without their values.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn secrets(&self, query: &SecretsQuery) -> Result<Page<Secret>, ClientError> {
        let tags = (!query.tags.is_empty()).then(|| query.tags.join(","));
        let all = Query::default()
            .with("query", query.query.as_deref())
            .with("tags", tags)
            .page(&query.page);
        self.get("/secrets", &all).await
    }

    /// Makes a secret.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn create_secret(&self, new: &NewSecret) -> Result<Secret, ClientError> {
        self.post_json("/secrets", new).await
    }

    /// Makes secrets and gives others new versions: all or none.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn bulk_secrets(&self, all: &BulkSecrets) -> Result<Vec<BulkOutcome>, ClientError> {
        self.post_json("/secrets-bulk", all).await
    }

    /// A secret without its value, by name or id.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn secret(&self, secret: &str) -> Result<Secret, ClientError> {
        self.get(&of(secret, ""), &Query::default()).await
    }

    /// Changes what is known about a secret.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn update_secret(
        &self,
        secret: &str,
        change: &SecretChange,
    ) -> Result<Secret, ClientError> {
        self.patch_json(&of(secret, ""), change).await
    }

    /// Forgets a secret for ever.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn remove_secret(&self, secret: &str) -> Result<(), ClientError> {
        self.api(Method::DELETE, &of(secret, ""), None)
            .await
            .map(drop)
    }

    /// The versions of a secret, oldest first.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn secret_versions(&self, secret: &str) -> Result<Page<SecretVersion>, ClientError> {
        self.get(&of(secret, "/versions"), &Query::default()).await
    }

    /// Gives a secret a new version.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn put_secret(&self, secret: &str, new: &NewVersion) -> Result<Secret, ClientError> {
        self.post_json(&of(secret, "/versions"), new).await
    }

    /// Shows a value.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn reveal_secret(
        &self,
        secret: &str,
        wish: &Reveal,
    ) -> Result<Revealed, ClientError> {
        self.post_json(&of(secret, "/reveal"), wish).await
    }

    /// Lets the secret's hook make a new value.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn rotate_secret(&self, secret: &str) -> Result<SecretRenewal, ClientError> {
        self.post_json(&of(secret, "/rotate"), &serde_json::json!({}))
            .await
    }

    /// Deletes versions, brings them back (`undelete`) or destroys them for ever (`destroy`).
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn order_versions(
        &self,
        secret: &str,
        order: &str,
        versions: &SecretVersions,
    ) -> Result<Secret, ClientError> {
        let path = of(secret, &format!("/{}", encode(order)));
        self.post_json(&path, versions).await
    }

    /// The leases of a secret that count.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn secret_leases(&self, secret: &str) -> Result<Page<SecretLease>, ClientError> {
        self.get(&of(secret, "/leases"), &Query::default()).await
    }

    /// Lends a secret to who asks.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn lend_secret(
        &self,
        secret: &str,
        new: &NewSecretLease,
    ) -> Result<SecretLease, ClientError> {
        self.post_json(&of(secret, "/leases"), new).await
    }

    /// Lets a lease count longer.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn renew_lease(
        &self,
        secret: &str,
        lease: &str,
        wish: &RenewSecretLease,
    ) -> Result<SecretLease, ClientError> {
        let path = of(secret, &format!("/leases/{}/renew", encode(lease)));
        self.post_json(&path, wish).await
    }

    /// Ends a lease, and those that hang on it.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn release_lease(
        &self,
        secret: &str,
        lease: &str,
    ) -> Result<EndedLeases, ClientError> {
        let path = of(secret, &format!("/leases/{}", encode(lease)));
        let answer = self.api(Method::DELETE, &path, None).await?;
        self.in_time(answer.json()).await
    }

    /// Who may do what with a secret.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn secret_shares(&self, secret: &str) -> Result<Page<SecretShare>, ClientError> {
        self.get(&of(secret, "/shares"), &Query::default()).await
    }

    /// Lets somebody do something with a secret.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn share_secret(
        &self,
        secret: &str,
        new: &NewSecretShare,
    ) -> Result<SecretShare, ClientError> {
        self.post_json(&of(secret, "/shares"), new).await
    }

    /// Takes a share back.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn unshare_secret(
        &self,
        secret: &str,
        holder: &str,
        may: &str,
    ) -> Result<(), ClientError> {
        let query = Query::default()
            .with("holder", Some(holder))
            .with("may", Some(may));
        let path = format!("{}{}", of(secret, "/shares"), query.as_str());
        self.api(Method::DELETE, &path, None).await.map(drop)
    }

    /// Tells that a lock file is opened.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn tell_opening(&self, opening: &LockOpening) -> Result<(), ClientError> {
        let body = Bytes::from(skep_api::to_json(opening));
        self.api(Method::POST, "/lock-openings", Some(body))
            .await
            .map(drop)
    }

    /// The stores that are mounted.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn secret_mounts(&self) -> Result<Page<SecretMount>, ClientError> {
        self.get("/secret-mounts", &Query::default()).await
    }

    /// Mounts a store.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn mount_secrets(&self, new: &NewSecretMount) -> Result<MountedSecrets, ClientError> {
        self.post_json("/secret-mounts", new).await
    }

    /// Asks a mounted store for all that it has, now; `mount` is its id.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn refresh_secrets(&self, mount: &str) -> Result<MountedSecrets, ClientError> {
        let path = format!("/secret-mounts/{}/refresh", encode(mount));
        self.post(&path).await
    }

    /// Takes a mount away; `mount` is its id.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn unmount_secrets(&self, mount: &str) -> Result<(), ClientError> {
        let path = format!("/secret-mounts/{}", encode(mount));
        self.api(Method::DELETE, &path, None).await.map(drop)
    }

    /// Asks for a share.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn ask_for_secret(
        &self,
        secret: &str,
        new: &NewSecretRequest,
    ) -> Result<SecretRequest, ClientError> {
        self.post_json(&of(secret, "/requests"), new).await
    }

    /// Wishes for secrets in a state, `waiting` unless it is said.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn secret_requests(
        &self,
        state: Option<&str>,
    ) -> Result<Page<SecretRequest>, ClientError> {
        self.get("/secret-requests", &Query::default().with("state", state))
            .await
    }

    /// Says yes or no to a wish.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn decide_request(
        &self,
        id: &str,
        approve: bool,
    ) -> Result<SecretRequest, ClientError> {
        let path = format!("/secret-requests/{}/decision", encode(id));
        self.post_json(&path, &SecretDecision { approve }).await
    }

    /// Takes one's own wish back.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn withdraw_request(&self, id: &str) -> Result<SecretRequest, ClientError> {
        self.post(&format!("/secret-requests/{}/withdraw", encode(id)))
            .await
    }

    /// How the vault is.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn vault(&self) -> Result<VaultStatus, ClientError> {
        self.get("/vault", &Query::default()).await
    }

    /// Seals the vault of this server.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn seal_vault(&self) -> Result<VaultStatus, ClientError> {
        self.post("/vault/seal").await
    }

    /// Opens the vault of this server.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn unseal_vault(&self, with: &Unseal) -> Result<VaultStatus, ClientError> {
        self.post_json("/vault/unseal", with).await
    }

    /// Adds a way into the vault.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn add_seal(&self, new: &NewSeal) -> Result<CreatedSeal, ClientError> {
        self.post_json("/vault/seals", new).await
    }

    /// Takes a way into the vault away.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn remove_seal(&self, id: i64) -> Result<(), ClientError> {
        let path = format!("/vault/seals/{id}");
        self.api(Method::DELETE, &path, None).await.map(drop)
    }

    /// Rotations of the root key, or of the workspace's keys, newest first.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn key_rotations(&self, root: bool) -> Result<Page<KeyRotation>, ClientError> {
        self.get(rotations(root), &Query::default()).await
    }

    /// Begins to replace the root key.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn rotate_root(&self, new: &NewRootRotation) -> Result<KeyRotation, ClientError> {
        self.post_json(rotations(true), new).await
    }

    /// Begins to replace the workspace's keys.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn rotate_workspace(
        &self,
        new: &NewSecretRotation,
    ) -> Result<KeyRotation, ClientError> {
        self.post_json(rotations(false), new).await
    }

    /// Goes back to the old keys (`rollback`), or destroys what they wrapped (`finish`).
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn order_rotation(
        &self,
        root: bool,
        id: &str,
        order: &str,
    ) -> Result<KeyRotation, ClientError> {
        let path = format!("{}/{}/{}", rotations(root), encode(id), encode(order));
        self.post(&path).await
    }
}
