//! Why something is not taken, told so that the place is found.

use skep_crypto::CryptoError;
use skep_crypto::signing::Publisher;

/// What is wrong.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TemplateError {
    /// It is not of its form.
    #[error("{place}: {why}")]
    Malformed {
        /// The file, the line or the field.
        place: String,
        /// What is wrong with it.
        why: String,
    },
    /// It is of a form that is not known.
    #[error("it is of version {0} of its form, which this program does not know")]
    Version(u32),
    /// Variables without a value.
    #[error("these variables have no value: {}", .0.join(", "))]
    Missing(Vec<String>),
    /// A variable, or a value that it cannot have.
    #[error("{name}: {why}")]
    Variable {
        /// What it is called.
        name: String,
        /// What is wrong.
        why: String,
    },
    /// What is signed was changed.
    #[error("the signature is wrong: it was changed after it was signed")]
    Signature,
    /// Somebody else signed it.
    #[error("{is} signed it, not {wanted}")]
    Publisher {
        /// Who signed it.
        is: Publisher,
        /// Who must have.
        wanted: Publisher,
    },
    /// One that came later was seen.
    #[error("it has the serial {is}, and one with {seen} was seen here")]
    Older {
        /// The serial that it has.
        is: u64,
        /// The serial that was seen.
        seen: u64,
    },
    /// Two that differ pass for the same.
    #[error("it has the serial {0}, as one that was seen here and says something else")]
    Twice(u64),
    /// It counts no longer.
    #[error("it has expired on {0}")]
    Expired(String),
    /// It is not what the index lists.
    #[error("{what} is {is}, and the index says {wanted}")]
    NotListed {
        /// What differs.
        what: &'static str,
        /// What it is.
        is: String,
        /// What it must be.
        wanted: String,
    },
    /// The system gave no randomness, or a key is none.
    #[error(transparent)]
    Crypto(#[from] CryptoError),
}

/// It is not of its form.
pub(crate) fn malformed(place: impl Into<String>, why: impl Into<String>) -> TemplateError {
    TemplateError::Malformed {
        place: place.into(),
        why: why.into(),
    }
}
