//! Keys of a cloud's KMS. Who asks is told by the variables that the clouds' own programs know; each may be in a
//! file instead, whose name stands in the variable with `_FILE`.

use std::sync::Arc;

use async_trait::async_trait;
use skep_crypto::Key;
use skep_sources::{Kms, SourceError};
use skep_vault::keeper::{Keeper, KeeperError};
use skep_vault::seal::SealKind;
use zeroize::Zeroizing;

use crate::NameError;

/// Bytes of a file with a variable.
const MOST_FILE: u64 = 64 << 10;

/// A variable of the environment, or of the file that `NAME_FILE` names; a blank one counts as unset.
#[must_use]
pub fn variable(name: &str) -> Option<String> {
    let text = |name: &str| {
        let text = std::env::var(name).ok();
        text.filter(|it| !it.trim().is_empty())
    };
    text(name).or_else(|| {
        let path = text(&format!("{name}_FILE"))?;
        let is_small = std::fs::metadata(&path).is_ok_and(|it| it.len() <= MOST_FILE);
        let text = is_small.then(|| std::fs::read_to_string(path).ok())??;
        let text = text.trim().to_owned();
        (!text.is_empty()).then_some(text)
    })
}

/// The keeper of a key: `aws:KEY`, `azure:VAULT/KEY`, `gcp:projects/…`. Nothing is asked yet.
///
/// # Errors
/// [`NameError`].
pub fn kms(address: &str) -> Result<Arc<dyn Keeper>, NameError> {
    Kms::check(address).map_err(|error| match error {
        SourceError::NotBuilt(feature) => NameError::NotBuilt(feature),
        other => NameError::Invalid(other.to_string()),
    })?;
    Ok(Arc::new(KmsKey(address.to_owned())))
}

/// A key of a KMS. Who asks is looked up each time: tokens end.
#[derive(Debug)]
struct KmsKey(String);

impl KmsKey {
    fn open(&self) -> Result<Kms, KeeperError> {
        Kms::of(&self.0, &variable).map_err(|error| self.failed(&error))
    }

    fn failed(&self, error: &SourceError) -> KeeperError {
        let said = format!("{}: {error}", self.0);
        match error {
            SourceError::NotOurs => KeeperError::Wrong(self.0.clone()),
            error if error.is_passing() => KeeperError::Away(said),
            _ => KeeperError::Refused(said),
        }
    }
}

#[async_trait]
impl Keeper for KmsKey {
    fn kind(&self) -> SealKind {
        SealKind::Kms
    }

    fn key(&self) -> &str {
        &self.0
    }

    async fn wrap(&self, key: &Key, context: &str) -> Result<Vec<u8>, KeeperError> {
        let wrapped = self.open()?.encrypt(key.expose(), context).await;
        wrapped.map_err(|error| self.failed(&error))
    }

    async fn unwrap(&self, wrapped: &[u8], context: &str) -> Result<Key, KeeperError> {
        let plain = self.open()?.decrypt(wrapped, context).await;
        let plain = plain.map_err(|error| self.failed(&error))?;
        key_of(&plain).ok_or_else(|| KeeperError::Wrong(self.0.clone()))
    }
}

/// The key with these bytes, if they are as many as it has.
pub(crate) fn key_of(bytes: &[u8]) -> Option<Key> {
    let mut key = Zeroizing::new([0; 32]);
    if bytes.len() != key.len() {
        return None;
    }
    key.copy_from_slice(bytes);
    Some(Key::from_bytes(*key))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_that_is_none_says_what_to_write() {
        let said = kms("aws").err().map(|it| it.to_string());
        assert!(
            said.as_ref().is_some_and(|it| it.contains("aws:KEY")),
            "{said:?}"
        );
        assert_eq!(kms("aws:alias/skep").unwrap().key(), "aws:alias/skep");
    }

    #[tokio::test]
    async fn who_is_not_said_to_ask_is_told_what_is_missing() {
        // Tests have no variable of a cloud.
        let keeper = kms("aws:arn:aws:kms:eu-central-1:1:key/x").unwrap();
        let said = keeper.wrap(&Key::random().unwrap(), "x").await;
        let Err(KeeperError::Refused(said)) = said else {
            panic!("{said:?}");
        };
        assert!(said.contains("set AWS_ACCESS_KEY_ID"), "{said}");
    }
}
