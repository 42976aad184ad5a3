//! Keys that a cloud keeps: AWS KMS, and, when they are compiled in, the keys of Azure Key Vault and Google Cloud
//! KMS. What is encrypted here is small, itself a key mostly; each is one request.
//!
//! The context is authenticated by AWS and by Google. Azure's RSA keys know none.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;
use serde_json::json;
use zeroize::Zeroizing;

use crate::amazon::{Client, is};
#[cfg(feature = "azure")]
use crate::azure::AzureKey;
#[cfg(feature = "google")]
use crate::google::GoogleKey;
use crate::{SourceError, Variable};

/// Letters of a key's name.
const MOST_NAME: usize = 2_048;
const WRITE: &str = "write aws:KEY, azure:VAULT/KEY or \
                     gcp:projects/…/locations/…/keyRings/…/cryptoKeys/…";

/// A key of a KMS.
pub struct Kms(Of);

enum Of {
    Aws {
        client: Client,
        key: String,
    },
    #[cfg(feature = "azure")]
    Azure(Box<AzureKey>),
    #[cfg(feature = "google")]
    Google(GoogleKey),
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Encrypted {
    ciphertext_blob: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Decrypted {
    plaintext: Zeroizing<String>,
}

/// The region of an ARN, `arn:aws:kms:REGION:…`.
fn region(key: &str) -> Option<&str> {
    let mut parts = key.split(':');
    let is_arn = parts.next() == Some("arn") && parts.nth(1) == Some("kms");
    parts.next().filter(|_| is_arn)
}

/// Bytes of what a KMS writes in base64.
pub(crate) fn bytes(text: &str) -> Result<Zeroizing<Vec<u8>>, SourceError> {
    let bytes = STANDARD.decode(text);
    let bytes = bytes.map_err(|_| SourceError::Answer("it is no base64"))?;
    Ok(Zeroizing::new(bytes))
}

impl Kms {
    /// Checks an address: `aws:KEY` (an id, `alias/NAME` or an ARN), `azure:VAULT/KEY`, `gcp:projects/…`.
    ///
    /// # Errors
    /// [`SourceError::Address`], [`SourceError::NotBuilt`].
    pub fn check(address: &str) -> Result<(), SourceError> {
        let wrong = || SourceError::Address(address.to_owned(), WRITE);
        let (scheme, key) = address.split_once(':').ok_or_else(wrong)?;
        let fits = |c: char| c.is_ascii_alphanumeric() || "-_/:.+=@".contains(c);
        let is_name = !key.is_empty() && key.len() <= MOST_NAME && key.chars().all(fits);
        match scheme {
            "aws" if is_name => Ok(()),
            #[cfg(feature = "azure")]
            "azure" if is_name && AzureKey::parts(key).is_some() => Ok(()),
            #[cfg(feature = "google")]
            "gcp" if is_name && GoogleKey::is_name(key) => Ok(()),
            #[cfg(not(feature = "azure"))]
            "azure" => Err(SourceError::NotBuilt("azure")),
            #[cfg(not(feature = "google"))]
            "gcp" => Err(SourceError::NotBuilt("google")),
            _ => Err(wrong()),
        }
    }

    /// The key at an address. Nothing is sent yet.
    ///
    /// # Errors
    /// Those of [`Kms::check`]; [`SourceError::Unset`]: what is missing to use it.
    pub fn of(address: &str, variable: Variable<'_>) -> Result<Self, SourceError> {
        Self::check(address)?;
        let (scheme, key) = address.split_once(':').unwrap_or_default();
        Ok(Self(match scheme {
            #[cfg(feature = "azure")]
            "azure" => Of::Azure(Box::new(AzureKey::of(key, variable)?)),
            #[cfg(feature = "google")]
            "gcp" => Of::Google(GoogleKey::of(key, variable)?),
            _ => Of::Aws {
                client: Client::of(("kms", "AWS_ENDPOINT_URL_KMS"), region(key), variable, None)?,
                key: key.to_owned(),
            },
        }))
    }

    /// Encrypts a few bytes: a key.
    ///
    /// # Errors
    /// [`SourceError`].
    pub async fn encrypt(&self, plain: &[u8], context: &str) -> Result<Vec<u8>, SourceError> {
        match &self.0 {
            Of::Aws { client, key } => {
                let plain = Zeroizing::new(STANDARD.encode(plain));
                let body = json!({
                    "KeyId": key,
                    "Plaintext": plain.as_str(),
                    "EncryptionContext": { "skep": context },
                });
                let body = body.to_string().into_bytes();
                let answer = client.ask("TrentService.Encrypt", body).await?;
                let blob = answer.json::<Encrypted>()?.ciphertext_blob;
                Ok(bytes(&blob)?.to_vec())
            }
            #[cfg(feature = "azure")]
            Of::Azure(key) => key.wrap(plain).await,
            #[cfg(feature = "google")]
            Of::Google(key) => key.encrypt(plain, context).await,
        }
    }

    /// Decrypts what [`Kms::encrypt`] gave, by this key and no other.
    ///
    /// # Errors
    /// [`SourceError::NotOurs`] when it was changed, or encrypted by another key or under another context.
    pub async fn decrypt(
        &self,
        cipher: &[u8],
        context: &str,
    ) -> Result<Zeroizing<Vec<u8>>, SourceError> {
        match &self.0 {
            Of::Aws { client, key } => {
                let body = json!({
                    "KeyId": key,
                    "CiphertextBlob": STANDARD.encode(cipher),
                    "EncryptionContext": { "skep": context },
                });
                let body = body.to_string().into_bytes();
                let answer = client.ask("TrentService.Decrypt", body).await?;
                let other = ["InvalidCiphertextException", "IncorrectKeyException"];
                if other.iter().any(|kind| is(&answer, kind)) {
                    return Err(SourceError::NotOurs);
                }
                bytes(&answer.json::<Decrypted>()?.plaintext)
            }
            #[cfg(feature = "azure")]
            Of::Azure(key) => key.unwrap(cipher).await,
            #[cfg(feature = "google")]
            Of::Google(key) => key.decrypt(cipher, context).await,
        }
    }
}
