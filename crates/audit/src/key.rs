//! The key that signs the log's checkpoints (Ed25519, c2sp.org/signed-note), and the public one that
//! others believe.

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use ed25519_dalek::SigningKey;
use signed_note::{Signer, StandardSigner, StandardVerifier, Verifier, new_ed25519_verifier_key};

use crate::AuditError;

/// The algorithm's number in a key (c2sp.org/signed-note).
const ED25519: u8 = 1;
/// Random bytes of a log's name.
const NAME_BYTES: usize = 8;

/// The public key of a log, with its name: `NAME+ID+KEY`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PublicKey(String);

impl PublicKey {
    /// The key of this text.
    ///
    /// # Errors
    /// [`AuditError::Key`].
    pub fn parse(text: &str) -> Result<Self, AuditError> {
        let key = Self(text.trim().to_owned());
        key.verifier().map(|_| key)
    }

    /// The name of the log, which is the origin of its checkpoints.
    ///
    /// # Errors
    /// Never, for a key that was parsed.
    pub fn name(&self) -> Result<String, AuditError> {
        Ok(self.verifier()?.name().to_owned())
    }

    pub(crate) fn verifier(&self) -> Result<StandardVerifier, AuditError> {
        StandardVerifier::new(&self.0)
            .map_err(|error| AuditError::Key(format!("`{}` is no public key: {error}", self.0)))
    }
}

impl fmt::Display for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The key of a log.
pub struct LogKey {
    signer: StandardSigner,
    public: PublicKey,
}

impl fmt::Debug for LogKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("LogKey").field(&self.public).finish()
    }
}

impl LogKey {
    /// A new key, for a log of a new name; with its text, to be kept where nobody else reads it.
    ///
    /// # Errors
    /// [`AuditError::Key`] when the system has no random numbers.
    pub fn generate() -> Result<(Self, String), AuditError> {
        let mut random = [0; 32 + NAME_BYTES];
        getrandom::fill(&mut random).map_err(|error| AuditError::Key(error.to_string()))?;
        let (seed, name) = random.split_at(32);
        let name: String = name.iter().map(|byte| format!("{byte:02x}")).collect();
        let name = format!("skep.log/{name}");
        let signing = SigningKey::from_bytes(&seed.try_into().unwrap_or_default());
        let public = [&[ED25519][..], signing.verifying_key().as_bytes()].concat();
        let id = signed_note::key_id(&name, &public);
        let secret = STANDARD.encode([&[ED25519][..], seed].concat());
        let text = format!("PRIVATE+KEY+{name}+{id:08x}+{secret}");
        Ok((Self::parse(&text)?, text))
    }

    /// The key of this text (`PRIVATE+KEY+NAME+ID+KEY`).
    ///
    /// # Errors
    /// [`AuditError::Key`]; it does not hold the text.
    pub fn parse(text: &str) -> Result<Self, AuditError> {
        let wrong = || AuditError::Key("it is not of the form PRIVATE+KEY+NAME+ID+KEY".to_owned());
        let signer = StandardSigner::new(text.trim()).map_err(|_| wrong())?;
        // PRIVATE, KEY, the name, the id; the rest may have a plus too.
        let secret = text.trim().splitn(5, '+').nth(4);
        let secret = STANDARD
            .decode(secret.unwrap_or_default())
            .map_err(|_| wrong())?;
        let seed = secret.get(1..).and_then(|seed| seed.try_into().ok());
        let signing = SigningKey::from_bytes(&seed.ok_or_else(wrong)?);
        let public = new_ed25519_verifier_key(signer.name(), &signing.verifying_key());
        let public = PublicKey::parse(&public)?;
        Ok(Self { signer, public })
    }

    /// What others believe.
    #[must_use]
    pub const fn public(&self) -> &PublicKey {
        &self.public
    }

    pub(crate) const fn signer(&self) -> &StandardSigner {
        &self.signer
    }

    pub(crate) fn origin(&self) -> &str {
        self.signer.name()
    }
}
