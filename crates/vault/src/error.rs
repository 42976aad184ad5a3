//! What can go wrong with the vault.

use skep_core::{AccessRequestId, Code, LeaseId, MountId, PublicError, RotationId};
use skep_crypto::CryptoError;
use skep_store::StoreError;

use crate::keeper::KeeperError;
use crate::rotation::RotationError;

/// An error of the vault. None says anything of a value or of a key.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum VaultError {
    /// It is sealed: values can be neither read nor written.
    #[error("the vault is sealed")]
    Sealed,
    /// A key or passphrase opens none of the ways in.
    #[error("this key or passphrase does not open the vault")]
    WrongOpening,
    /// Who keeps the key of a way in does not give it.
    #[error(transparent)]
    Keeper(#[from] KeeperError),
    /// There is no such way in.
    #[error("there is no seal {0}")]
    NoSeal(i64),
    /// Without it nothing would open the vault any more.
    #[error("it is the last seal")]
    LastSeal,
    /// There is no such secret.
    #[error("there is no secret `{0}`")]
    NotFound(String),
    /// There is no such version, or its value is not there any more.
    #[error("version {version} of the secret is {state}")]
    NoVersion {
        /// Which.
        version: u32,
        /// What is with it.
        state: &'static str,
    },
    /// The name is taken.
    #[error("there is a secret `{0}` already")]
    Exists(String),
    /// Somebody changed it meanwhile.
    #[error("its latest version is {latest}, not {expected}")]
    Changed {
        /// What is.
        latest: u32,
        /// What was expected.
        expected: u32,
    },
    /// A part of what was sent is wrong.
    #[error("`{field}`: {reason}")]
    Invalid {
        /// Which.
        field: &'static str,
        /// What is wrong, and what to write instead.
        reason: String,
    },
    /// There are too many.
    #[error("there are {most} {what} already")]
    TooMany {
        /// Of what.
        what: &'static str,
        /// How many there may be.
        most: usize,
    },
    /// There is no such lease, or it is over.
    #[error("there is no lease `{0}` that counts")]
    NoLease(LeaseId),
    /// There is no such request.
    #[error("there is no request `{0}`")]
    NoRequest(AccessRequestId),
    /// A request was decided already.
    #[error("the request was {0} already")]
    Decided(&'static str),
    /// There is no such mount.
    #[error("there is no mount `{0}`")]
    NoMount(MountId),
    /// What lies below a mount is changed where it comes from.
    #[error("what is below `{0}` lies in another store")]
    Mounted(String),
    /// Nobody says yes to themselves.
    #[error("who asks cannot decide")]
    OwnRequest,
    /// There is no such rotation.
    #[error("there is no rotation `{0}`")]
    NoRotation(RotationId),
    /// A rotation of these keys is not over.
    #[error("a rotation of these keys is not over: `{0}`")]
    Rotates(RotationId),
    /// A rotation cannot do this now.
    #[error(transparent)]
    Rotation(#[from] RotationError),
    /// What lies in the store does not open: it was changed, or put in another's place.
    #[error("what is stored does not open")]
    Crypto(#[from] CryptoError),
    /// What lies in the store is not what the vault wrote.
    #[error("what is stored is not what the vault writes: {0}")]
    Corrupt(String),
    /// The store's own error.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl VaultError {
    pub(crate) fn invalid(field: &'static str, reason: impl Into<String>) -> Self {
        Self::Invalid {
            field,
            reason: reason.into(),
        }
    }
}

impl PublicError for VaultError {
    fn code(&self) -> Code {
        match self {
            Self::Sealed => Code::VaultSealed,
            Self::WrongOpening => Code::WrongSealKey,
            Self::Keeper(_) => Code::SealKeeper,
            Self::NotFound(_) | Self::NoVersion { .. } => Code::SecretNotFound,
            Self::NoSeal(_)
            | Self::NoRotation(_)
            | Self::NoRequest(_)
            | Self::NoMount(_)
            | Self::NoLease(_) => Code::VaultNotFound,
            Self::Mounted(_) => Code::SecretMounted,
            Self::Exists(_) => Code::SecretExists,
            Self::Changed { .. } => Code::SecretChanged,
            Self::Invalid { .. } => Code::InvalidSpec,
            Self::TooMany { .. } => Code::VaultFull,
            Self::LastSeal
            | Self::Decided(_)
            | Self::OwnRequest
            | Self::Rotates(_)
            | Self::Rotation(_) => Code::VaultState,
            Self::Crypto(_) | Self::Corrupt(_) => Code::VaultDamaged,
            Self::Store(error) => error.code(),
        }
    }

    fn detail(&self) -> String {
        match self {
            Self::Corrupt(_) => self.code().title().to_owned(),
            Self::Store(error) => error.detail(),
            other => other.to_string(),
        }
    }

    fn hint(&self) -> String {
        match self {
            Self::Store(error) => error.hint(),
            Self::NoVersion { .. } => {
                "`skep secrets versions NAME` shows the versions and what is with each.".to_owned()
            }
            Self::LastSeal => "Add another with `skep vault seals add` first.".to_owned(),
            _ => self.code().hint().to_owned(),
        }
    }

    fn retry_after_s(&self) -> Option<u64> {
        match self {
            Self::Store(error) => error.retry_after_s(),
            _ => None,
        }
    }
}
