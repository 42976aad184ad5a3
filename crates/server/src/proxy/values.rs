//! What the way out to the web needs of the vault: secrets of rules, what placeholders stand for, and the workspace's CA.

use std::sync::Arc;

use async_trait::async_trait;
use skep_core::{LeaseId, PublicError as _, Workspace};
use skep_egress::web::{Lessee, Values};
use skep_store::{By, Db};
use skep_vault::{About, NewSecret, SecretName, SecretValue, VaultError, Which};
use zeroize::Zeroizing;

use crate::act::Own;
use crate::credentials::{Credentials, HOLDER};

/// The secret that a workspace's CA lies in, below `skep/`.
pub(crate) const CA: &str = "web-ca";

/// From the vault.
pub(crate) struct OfVault {
    pub(crate) db: Db,
    pub(crate) credentials: Arc<Credentials>,
}

fn said(error: &VaultError) -> String {
    error.detail()
}

#[async_trait]
impl Values for OfVault {
    async fn secret(
        &self,
        workspace: &Workspace,
        name: &str,
        field: Option<&str>,
    ) -> Result<Option<Zeroizing<Vec<u8>>>, String> {
        let Some(value) = self.credentials.value(workspace, name).await? else {
            return Ok(None);
        };
        let value = match field {
            Some(field) => value.field(field).map_err(|error| said(&error))?,
            None => value,
        };
        Ok(Some(Zeroizing::new(value.bytes().to_vec())))
    }

    fn is_open(&self) -> bool {
        self.credentials.vault.is_open()
    }

    async fn lease(
        &self,
        by: &Lessee,
        secret: &str,
        placeholder: &str,
    ) -> Result<Option<Zeroizing<Vec<u8>>>, String> {
        let Ok(id) = placeholder.parse::<LeaseId>() else {
            return Ok(None);
        };
        let workspace = &by.who.workspace;
        let holder = format!("{}:{}", by.who.kind, by.who.id);
        let lease = match self.credentials.vault.find_lease(workspace, id).await {
            Ok(lease) => lease,
            Err(VaultError::NoLease(_)) => return Ok(None),
            Err(error) => return Err(said(&error)),
        };
        // What one instance was lent is not for another, nor after its end.
        let is_theirs =
            lease.holder == holder && (by.instance.is_none() || lease.parent == by.instance);
        if !is_theirs {
            return Ok(None);
        }
        let meant = self.credentials.find(workspace, secret).await?;
        if meant.is_none_or(|it| it.secret.id != lease.secret) {
            return Ok(None);
        }
        match self.credentials.vault.redeem(workspace, id, &holder).await {
            Ok(value) => Ok(Some(Zeroizing::new(value.bytes().to_vec()))),
            Err(VaultError::NoLease(_)) => Ok(None),
            Err(error) => Err(said(&error)),
        }
    }

    async fn authority(&self, workspace: &Workspace) -> Result<Option<Zeroizing<Vec<u8>>>, String> {
        // Of the vault itself: no store that is mounted says what it is.
        let which = Which::Name(SecretName::own(CA).map_err(|error| said(&error))?);
        let found = match self.credentials.vault.find(workspace, &which).await {
            Ok(found) => found,
            Err(VaultError::NotFound(_)) => return Ok(None),
            Err(error) => return Err(said(&error)),
        };
        let read = self.credentials.vault.read(workspace, found.id, None).await;
        let (_, value) = read.map_err(|error| said(&error))?;
        Ok(Some(Zeroizing::new(value.bytes().to_vec())))
    }

    async fn keep_authority(&self, workspace: &Workspace, made: &[u8]) -> Result<(), String> {
        let name = SecretName::own(CA).map_err(|error| said(&error))?;
        let mut about = About::named(name);
        about.description = "The CA by which Skep opens TLS of this workspace's agents".to_owned();
        let value = SecretValue::new(made.to_vec()).map_err(|error| said(&error))?;
        let new = NewSecret {
            about,
            value,
            ttl: None,
        };
        let by = By::new(Arc::new(Own(self.db.server())));
        match self
            .credentials
            .vault
            .create(&by, workspace, HOLDER, new)
            .await
        {
            Ok(_) | Err(VaultError::Exists(..)) => Ok(()),
            Err(error) => Err(said(&error)),
        }
    }
}
