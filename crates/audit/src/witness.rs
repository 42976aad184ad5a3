//! A witness: somebody on another machine who saw the log, countersigns that it only grew
//! (c2sp.org/tlog-cosignature, `cosignature/v1`), and notices when it did not.

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use ed25519_dalek::{Signature as Bytes, Signer as _, SigningKey, Verifier as _, VerifyingKey};
use signed_note::{Note, Signature, Verifier, VerifierList, is_key_name_valid, key_id};
use skep_core::Timestamp;
use tlog_tiles::Hash;

use crate::verify::{self, grows};
use crate::{AuditError, Head, PublicKey};

/// The algorithm's number in a key (c2sp.org/tlog-cosignature).
const COSIGNATURE: u8 = 4;
/// What the text of a key begins with.
const PRIVATE: &str = "PRIVATE+KEY+";

/// What is signed: that this head was seen then.
fn message(at: u64, text: &[u8]) -> Vec<u8> {
    let mut message = format!("cosignature/v1\ntime {at}\n").into_bytes();
    message.extend_from_slice(text);
    message
}

/// The public key of a witness: `NAME+ID+KEY`.
#[derive(Debug, Clone)]
pub struct WitnessPublicKey {
    name: String,
    id: u32,
    key: VerifyingKey,
}

impl fmt::Display for WitnessPublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let key = [&[COSIGNATURE][..], self.key.as_bytes()].concat();
        write!(f, "{}+{:08x}+{}", self.name, self.id, STANDARD.encode(key))
    }
}

impl Verifier for WitnessPublicKey {
    fn name(&self) -> &str {
        &self.name
    }

    fn key_id(&self) -> u32 {
        self.id
    }

    fn verify(&self, text: &[u8], signature: &[u8]) -> bool {
        let Some((at, bytes)) = signature.split_first_chunk::<8>() else {
            return false;
        };
        let message = message(u64::from_be_bytes(*at), text);
        let bytes = bytes.try_into().map(|bytes| Bytes::from_bytes(&bytes));
        bytes.is_ok_and(|bytes| self.key.verify(&message, &bytes).is_ok())
    }
}

impl WitnessPublicKey {
    /// The key of this text.
    ///
    /// # Errors
    /// [`AuditError::Key`].
    pub fn parse(text: &str) -> Result<Self, AuditError> {
        let wrong = || AuditError::Key(format!("`{}` is no witness's public key", text.trim()));
        let mut parts = text.trim().splitn(3, '+');
        let (name, id, key) = (parts.next(), parts.next(), parts.next());
        let key = STANDARD
            .decode(key.unwrap_or_default())
            .map_err(|_| wrong())?;
        let (name, id) = name.zip(id).ok_or_else(wrong)?;
        let found = match key.split_first() {
            Some((&COSIGNATURE, rest)) => rest.try_into().map_err(|_| wrong())?,
            _ => return Err(wrong()),
        };
        let found = Self {
            name: name.to_owned(),
            id: key_id(name, &key),
            key: VerifyingKey::from_bytes(&found).map_err(|_| wrong())?,
        };
        match u32::from_str_radix(id, 16) == Ok(found.id) {
            true => Ok(found),
            false => Err(wrong()),
        }
    }

    /// Whether this witness countersigned a checkpoint.
    ///
    /// # Errors
    /// [`AuditError::Signature`].
    pub fn check(&self, note: &[u8]) -> Result<(), AuditError> {
        let failed = |error: signed_note::NoteError| AuditError::Signature(error.to_string());
        let note = Note::from_bytes(note).map_err(failed)?;
        let known = VerifierList::new(vec![Box::new(self.clone())]);
        match note.verify(&known).map_err(failed)?.0.is_empty() {
            true => Err(AuditError::Signature(format!(
                "{self} did not countersign it"
            ))),
            false => Ok(()),
        }
    }
}

/// The key of a witness.
pub struct WitnessKey {
    public: WitnessPublicKey,
    key: SigningKey,
}

impl fmt::Debug for WitnessKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("WitnessKey").field(&self.public).finish()
    }
}

impl WitnessKey {
    fn new(name: &str, seed: &[u8; 32]) -> Result<Self, AuditError> {
        if !is_key_name_valid(name) {
            let why = "a witness's name has neither spaces nor `+`";
            return Err(AuditError::Key(why.to_owned()));
        }
        let key = SigningKey::from_bytes(seed);
        let public = key.verifying_key();
        let id = key_id(name, &[&[COSIGNATURE][..], public.as_bytes()].concat());
        let public = WitnessPublicKey {
            name: name.to_owned(),
            id,
            key: public,
        };
        Ok(Self { public, key })
    }

    /// A new key of a witness of this name, with its text, to be kept where nobody else reads it.
    ///
    /// # Errors
    /// [`AuditError::Key`].
    pub fn generate(name: &str) -> Result<(Self, String), AuditError> {
        let mut seed = [0; 32];
        getrandom::fill(&mut seed).map_err(|error| AuditError::Key(error.to_string()))?;
        let key = Self::new(name, &seed)?;
        let secret = STANDARD.encode([&[COSIGNATURE][..], &seed].concat());
        let text = format!("{PRIVATE}{name}+{:08x}+{secret}", key.public.id);
        Ok((key, text))
    }

    /// The key of this text.
    ///
    /// # Errors
    /// [`AuditError::Key`]; it does not hold the text.
    pub fn parse(text: &str) -> Result<Self, AuditError> {
        let wrong = || AuditError::Key("it is not the key of a witness".to_owned());
        let rest = text.trim().strip_prefix(PRIVATE).ok_or_else(wrong)?;
        let mut parts = rest.splitn(3, '+');
        let name = parts.next().ok_or_else(wrong)?;
        let secret = parts.nth(1).and_then(|secret| STANDARD.decode(secret).ok());
        match secret.as_deref().and_then(<[u8]>::split_first) {
            Some((&COSIGNATURE, seed)) => Self::new(name, seed.try_into().map_err(|_| wrong())?),
            _ => Err(wrong()),
        }
    }

    /// What others believe.
    #[must_use]
    pub const fn public(&self) -> &WitnessPublicKey {
        &self.public
    }

    /// Countersigns a head, when the log of it begins with what was seen before. Gives the checkpoint
    /// with the signatures of both.
    ///
    /// # Errors
    /// [`AuditError::Signature`], and what [`grows`] says: then the log was rewritten.
    pub fn cosign(
        &self,
        log: &PublicKey,
        seen: Option<&Head>,
        note: &[u8],
        proof: &[Hash],
        now: Timestamp,
    ) -> Result<Head, AuditError> {
        let mut head = verify::head(note, log)?;
        if let Some(seen) = seen {
            grows(seen, &head, proof)?;
        }
        let failed = |error: signed_note::NoteError| AuditError::Signature(error.to_string());
        let parsed = Note::from_bytes(note).map_err(failed)?;
        let at = u64::try_from(now.as_micros() / 1_000_000).unwrap_or(0);
        let signed = self.key.sign(&message(at, parsed.text()));
        let signature = [&at.to_be_bytes()[..], &signed.to_bytes()].concat();
        let line = Signature::new(self.public.name.clone(), self.public.id, signature);
        head.note.extend(line.map_err(failed)?.to_bytes());
        Ok(head)
    }
}
