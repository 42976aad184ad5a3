//! What the way out to the web needs of the vault: secrets of rules, what placeholders stand for, and the workspace's CA.

use std::sync::Arc;

use async_trait::async_trait;
use skep_core::{LeaseId, PublicError as _, Workspace};
use skep_egress::web::{Lessee, Values};
use skep_vault::VaultError;
use zeroize::Zeroizing;

use crate::credentials::Credentials;

/// The secret that a workspace's CA lies in, below `skep/`.
pub(crate) const CA: &str = "web-ca";
const ABOUT_CA: &str = "The CA by which Skep opens TLS of this workspace's agents";

/// From the vault.
pub(crate) struct OfVault(pub(crate) Arc<Credentials>);

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
        let Some(value) = self.0.value(workspace, name).await? else {
            return Ok(None);
        };
        let value = match field {
            Some(field) => value.field(field).map_err(|error| said(&error))?,
            None => value,
        };
        Ok(Some(Zeroizing::new(value.bytes().to_vec())))
    }

    fn is_open(&self) -> bool {
        self.0.vault.is_open()
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
        let lease = match self.0.vault.find_lease(workspace, id).await {
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
        let meant = self.0.find(workspace, secret).await?;
        if meant.is_none_or(|it| it.secret.id != lease.secret) {
            return Ok(None);
        }
        match self.0.vault.redeem(workspace, id, &holder).await {
            Ok(value) => Ok(Some(Zeroizing::new(value.bytes().to_vec()))),
            Err(VaultError::NoLease(_)) => Ok(None),
            Err(error) => Err(said(&error)),
        }
    }

    async fn authority(&self, workspace: &Workspace) -> Result<Option<Zeroizing<Vec<u8>>>, String> {
        let found = self.0.own(workspace, CA).await?;
        Ok(found.map(|it| Zeroizing::new(it.bytes().to_vec())))
    }

    async fn keep_authority(&self, workspace: &Workspace, made: &[u8]) -> Result<(), String> {
        self.0.keep_own(workspace, (CA, ABOUT_CA), made).await
    }
}
