//! The secrets that the ways out put in: read from the vault in the server's own name, and kept as ciphertext for a moment;
//! and who may name one in settings.

use std::collections::HashMap;
use std::sync::Arc;

use async_trait::async_trait;
use parking_lot::Mutex;
use skep_core::{PublicError as _, Workspace};
use skep_egress::Safe;
use skep_egress::llm::Keys;
use skep_store::{By, Db};
use skep_vault::{About, Brief, NewSecret, SecretName, SecretValue, Vault, VaultError, Which};
use zeroize::Zeroizing;

use crate::access::SECRET_USE;
use crate::act::Own;
use crate::gate::{self, Asker};
use crate::mounts::Mounts;
use crate::problem::ApiError;
use crate::state::State;
use crate::vault::{KnownSecret, holder, known};

/// Under whose name mounted stores are asked.
pub(crate) const HOLDER: &str = "server:egress";
/// The secret that exchanges are kept under, below `skep/`: with models, and with hosts of the web.
const RECORDINGS: &str = "model-recordings";
const ABOUT_RECORDINGS: &str = "The key that exchanges with models and the web are kept under";
/// Values that are kept for a moment, at most.
const MOST_KEPT: usize = 4_096;

/// Values of secrets, for requests that go out.
pub(crate) struct Credentials {
    pub(crate) vault: Vault,
    mounts: Arc<Mounts>,
    /// By whom Skep's own are made.
    by: By,
    kept: Mutex<HashMap<Workspace, HashMap<String, Arc<Brief>>>>,
}

impl Credentials {
    pub(crate) fn new(db: &Db, vault: &Vault, mounts: &Arc<Mounts>) -> Self {
        Self {
            vault: vault.clone(),
            mounts: mounts.clone(),
            by: By::new(Arc::new(Own(db.server()))),
            kept: Mutex::default(),
        }
    }

    /// A secret as it is now, if there is one that is not Skep's own.
    pub(crate) async fn find(
        &self,
        workspace: &Workspace,
        name: &str,
    ) -> Result<Option<KnownSecret>, String> {
        if !self.vault.is_open() {
            return Err("the vault is sealed".to_owned());
        }
        let found = known(&self.vault, workspace, name, HOLDER).await;
        let Some(found) = found.map_err(|error| error.detail())? else {
            return Ok(None);
        };
        if found.secret.about.name.is_own() {
            return Ok(None);
        }
        let settled = self.mounts.settle(workspace, found, HOLDER, true).await;
        settled.map_err(|error| error.public().detail())
    }

    /// The value of a secret, if there is such a secret.
    pub(crate) async fn value(
        &self,
        workspace: &Workspace,
        name: &str,
    ) -> Result<Option<SecretValue>, String> {
        if let Some(value) = self.kept(workspace, name) {
            return Ok(Some(value));
        }
        let moment = self.vault.moment();
        let Some(found) = self.find(workspace, name).await? else {
            return Ok(None);
        };
        let read = self.vault.read(workspace, found.secret.id, None).await;
        let (_, value) = read.map_err(|error| error.detail())?;
        if let Ok(brief) = self.vault.keep(moment, &value) {
            self.keep(workspace, name, brief);
        }
        Ok(Some(value))
    }

    /// A value of Skep's own, if there is one: of the vault itself, since no store that is mounted says what it is.
    pub(crate) async fn own(
        &self,
        workspace: &Workspace,
        name: &str,
    ) -> Result<Option<SecretValue>, String> {
        let which = Which::Name(SecretName::own(name).map_err(|error| error.detail())?);
        let found = match self.vault.find(workspace, &which).await {
            Ok(found) => found,
            Err(VaultError::NotFound(_)) => return Ok(None),
            Err(error) => return Err(error.detail()),
        };
        let read = self.vault.read(workspace, found.id, None).await;
        read.map(|(_, value)| Some(value))
            .map_err(|error| error.detail())
    }

    /// Keeps a value of Skep's own, unless there is one.
    pub(crate) async fn keep_own(
        &self,
        workspace: &Workspace,
        (name, about): (&str, &str),
        value: &[u8],
    ) -> Result<(), String> {
        let name = SecretName::own(name).map_err(|error| error.detail())?;
        let mut described = About::named(name);
        described.description = about.to_owned();
        let new = NewSecret {
            about: described,
            value: SecretValue::new(value.to_vec()).map_err(|error| error.detail())?,
            ttl: None,
        };
        match self.vault.create(&self.by, workspace, HOLDER, new).await {
            Ok(_) | Err(VaultError::Exists(..)) => Ok(()),
            Err(error) => Err(error.detail()),
        }
    }

    /// A key of Skep's own, of 32 random bytes, which is made when it is asked for the first time; by its name and what it is for.
    pub(crate) async fn own_key(
        &self,
        workspace: &Workspace,
        (name, about): (&str, &str),
    ) -> Result<Zeroizing<Vec<u8>>, String> {
        let moment = self.vault.moment();
        // No secret that settings name is called so.
        let kept = format!("\0{name}");
        if let Some(value) = self.kept(workspace, &kept) {
            return Ok(Zeroizing::new(value.bytes().to_vec()));
        }
        let mut found = self.own(workspace, name).await?;
        if found.is_none() {
            let made = skep_crypto::random::<32>().map_err(|error| error.to_string())?;
            let made = Zeroizing::new(made);
            self.keep_own(workspace, (name, about), &made[..]).await?;
            // Another server may have been faster.
            found = self.own(workspace, name).await?;
        }
        let value = found.ok_or_else(|| "it was not kept".to_owned())?;
        if let Ok(brief) = self.vault.keep(moment, &value) {
            self.keep(workspace, &kept, brief);
        }
        Ok(Zeroizing::new(value.bytes().to_vec()))
    }

    fn kept(&self, workspace: &Workspace, name: &str) -> Option<SecretValue> {
        let brief = self.kept.lock().get(workspace)?.get(name)?.clone();
        self.vault.kept(&brief)
    }

    fn keep(&self, workspace: &Workspace, name: &str, brief: Brief) {
        let mut kept = self.kept.lock();
        if kept.values().map(HashMap::len).sum::<usize>() >= MOST_KEPT {
            kept.clear();
        }
        let of = kept.entry(workspace.clone()).or_default();
        of.insert(name.to_owned(), Arc::new(brief));
    }
}

#[async_trait]
impl Keys for Credentials {
    async fn key(&self, workspace: &Workspace, secret: &str) -> Result<Zeroizing<Vec<u8>>, String> {
        let value = self.value(workspace, secret).await?;
        let value = value.ok_or_else(|| format!("there is no secret `{secret}`"))?;
        Ok(Zeroizing::new(value.bytes().to_vec()))
    }
}

#[async_trait]
impl Safe for Credentials {
    async fn key(&self, workspace: &Workspace) -> Result<Zeroizing<Vec<u8>>, String> {
        self.own_key(workspace, (RECORDINGS, ABOUT_RECORDINGS))
            .await
    }
}

/// Whether somebody may name a secret in settings by which it is put into requests: why not, if not. A secret of Skep's own
/// is named by nobody, whether by name or by id.
///
/// # Errors
/// The store's own, and a sealed vault.
pub(crate) async fn may_name(
    state: &State,
    asker: &Asker,
    secret: &str,
) -> Result<Result<(), String>, ApiError> {
    let workspace = &asker.principal.workspace;
    let found = known(&state.vault, workspace, secret, &holder(&asker.principal)).await?;
    if !state.vault.is_open() {
        return Err(VaultError::Sealed.into());
    }
    let allowed = match found {
        Some(found) if !found.secret.about.name.is_own() => {
            gate::may_known(state, asker, &SECRET_USE, &found).await?
        }
        _ => false,
    };
    // Whether it is there is not told to who may not know.
    Ok(match allowed {
        true => Ok(()),
        false => Err(format!(
            "the secret `{secret}` is not there, or you may not do `{}` on it: make it with `skep secrets create {secret}`",
            SECRET_USE.action
        )),
    })
}
