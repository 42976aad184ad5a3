//! Why a file is not taken, told so that the place is found and nothing secret is said.

use skep_crypto::CryptoError;

/// What is wrong.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LockError {
    /// It is no file of this format.
    #[error("{place}: {why}")]
    Malformed {
        /// The line, and what stands there.
        place: String,
        /// What is wrong with it.
        why: String,
    },
    /// It is of the older format of Backpack.
    #[error("it is a file of version 1, the older format")]
    Older,
    /// It is of a version that is not known.
    #[error("it is a file of version {0}, which this program does not know")]
    Version(u64),
    /// The key opens nothing here.
    #[error("the key is wrong: it is none of this file's recipients'")]
    WrongKey,
    /// There is no recipient who could have such a key.
    #[error("no recipient of this file opens with {0}")]
    NoSuchKind(&'static str),
    /// What a recipient has was changed.
    #[error("{0}: what is wrapped for this recipient was changed")]
    Wrapped(String),
    /// The header or a layer is not what was written.
    #[error("the header's check fails: something was changed, or put together of several files")]
    Mac,
    /// A layer is not what was written.
    #[error("{0}: the layer was changed")]
    Damaged(String),
    /// The content of a layer is none.
    #[error("{place}: {why}")]
    Content {
        /// The layer.
        place: String,
        /// What is wrong with it.
        why: &'static str,
    },
    /// The signature is not the publisher's.
    #[error("the signature is wrong: this is not what its publisher signed")]
    Signature,
    /// Whoever wrote it had no key to write with.
    #[error("it was changed by somebody who may not write it: the writers' signature is wrong")]
    Written,
    /// The key is of somebody who may only read.
    #[error("the recipient `{0}` may only read this file")]
    ReadOnly(String),
    /// There is no signature.
    #[error("the file is not signed")]
    Unsigned,
    /// It is signed by somebody else.
    #[error("the file is signed by another publisher: {0}")]
    Publisher(String),
    /// There is no such layer.
    #[error("there is no layer `{0}`")]
    NoLayer(String),
    /// The recipient may not open that layer.
    #[error("this key does not open the layer `{0}`")]
    NotGiven(String),
    /// The recipient may not do what only those may who open everything.
    #[error("only who opens every layer can do this")]
    NotAll,
    /// There is no such recipient.
    #[error("there is no recipient `{0}`")]
    NoRecipient(String),
    /// There is one already.
    #[error("there is a recipient `{0}` already")]
    Exists(String),
    /// Nobody would be left.
    #[error("a recipient who opens every layer and may write must be left")]
    Nobody,
    /// A new root must be wrapped for everybody, for which a passphrase is missing.
    #[error("the passphrase of the recipient `{0}` is needed")]
    NeedsPassphrase(String),
    /// Two files are of two agents.
    #[error("the files are of different agents")]
    OtherAgent,
    /// Something may not be called so.
    #[error("`{0}` is no name: up to 64 letters, digits, `.`, `_`, `@`, `+`, `-`, in ASCII")]
    Name(String),
    /// There is more of something than may be.
    #[error("there is too much of it: {what}, at most {most}")]
    TooMuch {
        /// Of what.
        what: &'static str,
        /// How much may be.
        most: usize,
    },
    /// A passphrase's parameters, a recipient's key or the system.
    #[error(transparent)]
    Crypto(#[from] CryptoError),
}

impl LockError {
    pub(crate) fn malformed(place: impl Into<String>, why: impl Into<String>) -> Self {
        Self::Malformed {
            place: place.into(),
            why: why.into(),
        }
    }
}
