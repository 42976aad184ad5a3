//! What is wrong with a file of secrets. Names and places are told, values never.

use skep_crypto::CryptoError;

/// Why a file of secrets is not read or not written.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ExchangeError {
    /// There is no such format.
    #[error("`{word}` is no format; there are {}", crate::Format::WORDS.join(", "))]
    Format {
        /// What was said.
        word: String,
    },
    /// It is not what it should be.
    #[error("{}{what}", place(*line, *column))]
    Wrong {
        /// The line, where it is known.
        line: Option<usize>,
        /// The column, where it is known.
        column: Option<usize>,
        /// What is wrong there.
        what: String,
    },
    /// A name stands there twice.
    #[error("{}`{name}` stands there twice", place(*line, None))]
    Twice {
        /// The name.
        name: String,
        /// The line, where it is known.
        line: Option<usize>,
    },
    /// Two secrets would be one variable.
    #[error(
        "`{one}` and `{other}` would both be the variable `{variable}`: export them as YAML or JSON"
    )]
    Collision {
        /// One secret.
        one: String,
        /// Another.
        other: String,
        /// What both would be called.
        variable: String,
    },
    /// A value is no text.
    #[error("the value of `{name}` is no text, which this format cannot hold: reveal it by itself")]
    NotText {
        /// Whose value.
        name: String,
    },
    /// The format needs a name for itself.
    #[error("the name `{name}` is SOPS' own: rename the secret, or export it in another format")]
    Reserved {
        /// The name.
        name: String,
    },
    /// The file is too large.
    #[error("it has over {} MiB", crate::MOST_BYTES >> 20)]
    TooLarge,
    /// It has too many values.
    #[error("it has over {} values", crate::MOST_ENTRIES)]
    TooMany,
    /// It is encrypted, and there is nothing to open it with.
    #[error("it is encrypted for age: name a file with the identity (`AGE-SECRET-KEY-1…`)")]
    NoIdentity,
    /// It is to be encrypted, and for nobody.
    #[error("SOPS encrypts for recipients: name at least one (`age1…`)")]
    NoRecipient,
    /// The age file.
    #[error("the age file: {0}")]
    Age(CryptoError),
    /// It is one of SOPS that is not understood.
    #[error("the SOPS file: {0}")]
    Sops(String),
    /// A value of a SOPS file does not open.
    #[error("the SOPS file: the value of `{name}` does not open: {error}")]
    Value {
        /// Whose value.
        name: String,
        /// Why.
        error: CryptoError,
    },
    /// The file was changed by somebody without the key.
    #[error(
        "the SOPS file was changed since it was encrypted: its MAC is another one. Values may have been moved, \
         removed or edited; nothing of it was taken"
    )]
    Mac,
}

fn place(line: Option<usize>, column: Option<usize>) -> String {
    match (line, column) {
        (Some(line), Some(column)) => format!("line {line}, column {column}: "),
        (Some(line), None) => format!("line {line}: "),
        _ => String::new(),
    }
}

impl ExchangeError {
    pub(crate) fn wrong(
        line: Option<usize>,
        column: Option<usize>,
        what: impl Into<String>,
    ) -> Self {
        Self::Wrong {
            line,
            column,
            what: what.into(),
        }
    }

    pub(crate) fn sops(what: impl Into<String>) -> Self {
        Self::Sops(what.into())
    }
}
