//! Messages that only their receiver can read: HPKE (RFC 9180, base mode, DHKEM(X25519, HKDF-SHA256),
//! HKDF-SHA256, AES-256-GCM) under a signature of the sender (Ed25519).
//!
//! ```text
//! envelope = "skepmsg" ‖ version (1) ‖ suite (2) ‖ sender (32 ‖ 32) ‖ receiver (32 ‖ 32) ‖ session (16)
//!     ‖ sequence (8) ‖ expires (8, seconds since 1970) ‖ enc (32) ‖ length (4) ‖ aad
//!     ‖ length (4) ‖ ciphertext ‖ signature (64)
//! info = "skep message v1 info\0" ‖ all from the version to expires
//! signed = "skep message v1 signature\0" ‖ all before the signature
//! ```
//!
//! Numbers are big-endian. Sender and receiver stand in the encryption's `info`, too: who takes a signature off
//! and puts another one on makes a message that nobody can open. [`replay`] says which messages of a
//! session came already. Nothing here does I/O, and nobody here says whose a public key is.

pub mod replay;

#[cfg(test)]
mod tests;

use std::fmt;
use std::str::FromStr;

use aws_lc_rs::agreement::{PrivateKey, X25519};
use aws_lc_rs::encoding::{AsBigEndian, Curve25519SeedBin};
use aws_lc_rs::signature::{ED25519, Ed25519KeyPair, KeyPair as _, UnparsedPublicKey};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use rustls::crypto::aws_lc_rs::hpke::DH_KEM_X25519_HKDF_SHA256_AES_256 as SUITE;
use rustls::crypto::hpke::{EncapsulatedSecret, Hpke, HpkePrivateKey, HpkePublicKey};
use zeroize::Zeroizing;

use crate::{CryptoError, random};
use replay::{Received, Session};

/// Bytes of a message.
pub const MOST_PLAINTEXT: usize = 16 << 20;
/// Bytes of what is signed along in the open.
pub const MOST_AAD: usize = 64 << 10;
/// Seconds that a message may count.
pub const LONGEST: u64 = 7 * 24 * 3600;
/// What a public key begins with.
pub const PUBLIC: &str = "skepmsg1_";
/// What a file with a secret key begins with.
const SECRET: &str = "skepmsg1_secret_";
const MAGIC: &[u8; 7] = b"skepmsg";
const VERSION: u8 = 1;
/// The only suite: DHKEM(X25519, HKDF-SHA256), HKDF-SHA256, AES-256-GCM, Ed25519.
const ONLY_SUITE: [u8; 2] = [0, 1];
/// Bytes from the magic to the key that is encapsulated.
const HEAD: usize = 7 + 1 + 2 + 64 + 64 + 16 + 8 + 8;
const ENC: usize = 32;
const SIGNATURE: usize = 64;
const TAG: usize = 16;
const INFO: &[u8] = b"skep message v1 info\0";
const SIGNED: &[u8] = b"skep message v1 signature\0";

/// Why a message is not opened, or not sealed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum MessageError {
    /// It is no envelope, or one of another version.
    #[error("it is no envelope that is known")]
    Malformed,
    /// It is for another receiver.
    #[error("it is for another receiver")]
    Foreign,
    /// It is of another sender than the ones that are expected.
    #[error("it is of another sender")]
    Sender,
    /// It was changed, or its sender did not sign it.
    #[error("its signature is wrong")]
    Signature,
    /// It cannot be decrypted.
    #[error("it cannot be decrypted")]
    Sealed,
    /// Its time is over, or longer than one may have.
    #[error("its time is over, or too long")]
    Expired,
    /// It was opened before, or is too old to tell.
    #[error("it came before, or is too old to tell")]
    Replayed,
    /// There are too many sessions.
    #[error("too many sessions are open")]
    Full,
    /// It is too long.
    #[error("it is too long")]
    TooLong,
    /// A key cannot be read.
    #[error("it is no key")]
    Key,
    /// The system gave no random bytes.
    #[error("the system gave no random bytes")]
    System,
}

impl From<CryptoError> for MessageError {
    fn from(_: CryptoError) -> Self {
        Self::System
    }
}

/// Whom a message is for, or of: a key for signatures and one for encryption. Its text is `skepmsg1_`
/// and 86 characters of base64url.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PublicKey([u8; 64]);

impl PublicKey {
    fn signs(&self) -> &[u8] {
        &self.0[..32]
    }

    fn opens(&self) -> &[u8] {
        &self.0[32..]
    }
}

impl fmt::Display for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{PUBLIC}{}", URL_SAFE_NO_PAD.encode(self.0))
    }
}

impl fmt::Debug for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for PublicKey {
    type Err = MessageError;

    fn from_str(text: &str) -> Result<Self, MessageError> {
        let text = text.trim().strip_prefix(PUBLIC).ok_or(MessageError::Key)?;
        let bytes = URL_SAFE_NO_PAD
            .decode(text)
            .map_err(|_| MessageError::Key)?;
        bytes.try_into().map(Self).map_err(|_| MessageError::Key)
    }
}

/// Both secret keys of somebody. They are wiped when they are dropped, and never shown.
pub struct SecretKey {
    seed: Zeroizing<[u8; 32]>,
    opens: Zeroizing<[u8; 32]>,
    public: PublicKey,
}

impl fmt::Debug for SecretKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SecretKey({})", self.public)
    }
}

impl SecretKey {
    /// New ones.
    ///
    /// # Errors
    /// [`MessageError::System`].
    pub fn generate() -> Result<Self, MessageError> {
        Self::of(random()?, random()?)
    }

    fn of(seed: [u8; 32], opens: [u8; 32]) -> Result<Self, MessageError> {
        let (seed, opens) = (Zeroizing::new(seed), Zeroizing::new(opens));
        let signs = Ed25519KeyPair::from_seed_unchecked(&seed[..]);
        let signs = signs.map_err(|_| MessageError::Key)?;
        let private = PrivateKey::from_private_key(&X25519, &opens[..]);
        let private = private.map_err(|_| MessageError::Key)?;
        let of_private = private
            .compute_public_key()
            .map_err(|_| MessageError::Key)?;
        let mut public = [0; 64];
        public[..32].copy_from_slice(signs.public_key().as_ref());
        public[32..].copy_from_slice(of_private.as_ref());
        // What is kept is what the library holds.
        let kept: Curve25519SeedBin<'_> = private.as_be_bytes().map_err(|_| MessageError::Key)?;
        let mut opens = Zeroizing::new([0; 32]);
        opens.copy_from_slice(kept.as_ref());
        Ok(Self {
            seed,
            opens,
            public: PublicKey(public),
        })
    }

    /// What others know.
    #[must_use]
    pub const fn public(&self) -> PublicKey {
        self.public
    }

    /// Both as a text, for a file that nobody else may read.
    #[must_use]
    pub fn reveal(&self) -> Zeroizing<String> {
        let both = Zeroizing::new([*self.seed, *self.opens].concat());
        Zeroizing::new(format!("{SECRET}{}", URL_SAFE_NO_PAD.encode(&both[..])))
    }

    /// The keys of a text of [`SecretKey::reveal`].
    ///
    /// # Errors
    /// [`MessageError::Key`].
    pub fn parse(text: &str) -> Result<Self, MessageError> {
        let text = text.trim().strip_prefix(SECRET).ok_or(MessageError::Key)?;
        let bytes = URL_SAFE_NO_PAD
            .decode(text)
            .map_err(|_| MessageError::Key)?;
        let bytes = Zeroizing::new(bytes);
        let (seed, opens) = bytes.split_at_checked(32).ok_or(MessageError::Key)?;
        let of = |half: &[u8]| half.try_into().map_err(|_| MessageError::Key);
        Self::of(of(seed)?, of(opens)?)
    }

    fn sign(&self, signed: &[u8]) -> Result<[u8; SIGNATURE], MessageError> {
        let key = Ed25519KeyPair::from_seed_unchecked(&self.seed[..]);
        let key = key.map_err(|_| MessageError::Key)?;
        let signature = key.sign(&[SIGNED, signed].concat());
        signature.as_ref().try_into().map_err(|_| MessageError::Key)
    }
}

/// What a message is sealed with besides its keys.
#[derive(Debug, Clone, Copy)]
pub struct About<'a> {
    /// The session that it belongs to: random, of one sender with one receiver.
    pub session: [u8; 16],
    /// Its number there, which no other has.
    pub sequence: u64,
    /// Until when it counts, in seconds since 1970.
    pub expires: u64,
    /// What is signed along, in the open.
    pub aad: &'a [u8],
}

/// Seals a message.
///
/// # Errors
/// [`MessageError::TooLong`], [`MessageError::Key`].
pub fn seal(
    sender: &SecretKey,
    receiver: &PublicKey,
    about: &About<'_>,
    plaintext: &[u8],
) -> Result<Vec<u8>, MessageError> {
    if plaintext.len() > MOST_PLAINTEXT || about.aad.len() > MOST_AAD {
        return Err(MessageError::TooLong);
    }
    let mut out = Vec::with_capacity(HEAD + ENC + plaintext.len() + about.aad.len() + 128);
    out.extend_from_slice(MAGIC);
    out.push(VERSION);
    out.extend_from_slice(&ONLY_SUITE);
    out.extend_from_slice(&sender.public.0);
    out.extend_from_slice(&receiver.0);
    out.extend_from_slice(&about.session);
    out.extend_from_slice(&about.sequence.to_be_bytes());
    out.extend_from_slice(&about.expires.to_be_bytes());
    let info = [INFO, &out[MAGIC.len()..]].concat();
    let to = HpkePublicKey(receiver.opens().to_vec());
    let sealed = SUITE.seal(&info, about.aad, plaintext, &to);
    let (enc, ciphertext) = sealed.map_err(|_| MessageError::Key)?;
    out.extend_from_slice(&enc.0);
    for part in [about.aad, &ciphertext] {
        let length = u32::try_from(part.len()).map_err(|_| MessageError::TooLong)?;
        out.extend_from_slice(&length.to_be_bytes());
        out.extend_from_slice(part);
    }
    let signature = sender.sign(&out)?;
    out.extend_from_slice(&signature);
    Ok(out)
}

/// A message that was opened.
#[derive(Debug)]
pub struct Opened {
    /// Who sent it.
    pub sender: PublicKey,
    /// Its session.
    pub session: [u8; 16],
    /// Its number there.
    pub sequence: u64,
    /// What was signed along, in the open.
    pub aad: Vec<u8>,
    /// What it says.
    pub plaintext: Zeroizing<Vec<u8>>,
}

/// An envelope, in its parts.
struct Envelope<'a> {
    sender: PublicKey,
    receiver: PublicKey,
    session: [u8; 16],
    sequence: u64,
    expires: u64,
    info: &'a [u8],
    enc: &'a [u8],
    aad: &'a [u8],
    ciphertext: &'a [u8],
    signed: &'a [u8],
    signature: &'a [u8],
}

/// Takes so many bytes off the front.
fn take<'a>(rest: &mut &'a [u8], count: usize) -> Result<&'a [u8], MessageError> {
    let (taken, left) = rest
        .split_at_checked(count)
        .ok_or(MessageError::Malformed)?;
    *rest = left;
    Ok(taken)
}

fn array<const N: usize>(rest: &mut &[u8]) -> Result<[u8; N], MessageError> {
    let taken = take(rest, N)?;
    taken.try_into().map_err(|_| MessageError::Malformed)
}

fn part<'a>(rest: &mut &'a [u8], most: usize) -> Result<&'a [u8], MessageError> {
    let length = u32::from_be_bytes(array(rest)?) as usize;
    if length > most {
        return Err(MessageError::TooLong);
    }
    take(rest, length)
}

impl<'a> Envelope<'a> {
    fn parse(text: &'a [u8]) -> Result<Self, MessageError> {
        let rest = &mut &text[..];
        let known = take(rest, MAGIC.len())? == MAGIC;
        let info = rest
            .get(..HEAD - MAGIC.len())
            .ok_or(MessageError::Malformed)?;
        if !known || array(rest)? != [VERSION] || array(rest)? != ONLY_SUITE {
            return Err(MessageError::Malformed);
        }
        let envelope = Self {
            sender: PublicKey(array(rest)?),
            receiver: PublicKey(array(rest)?),
            session: array(rest)?,
            sequence: u64::from_be_bytes(array(rest)?),
            expires: u64::from_be_bytes(array(rest)?),
            info,
            enc: take(rest, ENC)?,
            aad: part(rest, MOST_AAD)?,
            ciphertext: part(rest, MOST_PLAINTEXT + TAG)?,
            signed: &text[..text.len() - rest.len()],
            signature: take(rest, SIGNATURE)?,
        };
        match rest.is_empty() {
            true => Ok(envelope),
            false => Err(MessageError::Malformed),
        }
    }
}

/// Opens a message for `receiver` of one of `senders`, once. `now` is in seconds since 1970. Only one
/// that is opened counts in `received`, which is to be kept before anything is done with it.
///
/// # Errors
/// [`MessageError`].
pub fn open(
    receiver: &SecretKey,
    senders: &[PublicKey],
    envelope: &[u8],
    now: u64,
    received: &mut Received,
) -> Result<Opened, MessageError> {
    let envelope = Envelope::parse(envelope)?;
    if envelope.receiver != receiver.public {
        return Err(MessageError::Foreign);
    }
    if !senders.contains(&envelope.sender) {
        return Err(MessageError::Sender);
    }
    UnparsedPublicKey::new(&ED25519, envelope.sender.signs())
        .verify(&[SIGNED, envelope.signed].concat(), envelope.signature)
        .map_err(|_| MessageError::Signature)?;
    if envelope.expires <= now || envelope.expires > now.saturating_add(LONGEST) {
        return Err(MessageError::Expired);
    }
    let session = Session {
        sender: envelope.sender,
        id: envelope.session,
    };
    received.check(&session, envelope.sequence, now)?;
    let info = [INFO, envelope.info].concat();
    let enc = EncapsulatedSecret(envelope.enc.to_vec());
    let secret = HpkePrivateKey::from(receiver.opens.to_vec());
    let plaintext = SUITE.open(&enc, &info, envelope.aad, envelope.ciphertext, &secret);
    let plaintext = Zeroizing::new(plaintext.map_err(|_| MessageError::Sealed)?);
    received.note(session, envelope.sequence, envelope.expires);
    Ok(Opened {
        sender: envelope.sender,
        session: envelope.session,
        sequence: envelope.sequence,
        aad: envelope.aad.to_vec(),
        plaintext,
    })
}
