//! Why a store does not do what it is to do. What a store says of an error is told, values never.

/// Why a store does not do what it is to do.
#[derive(Debug, thiserror::Error)]
pub enum SourceError {
    /// It was left out of this program.
    #[error("this program was built without it: build it with `--features {0}`")]
    NotBuilt(&'static str),
    /// The address is none.
    #[error("`{0}` is no address to ask: {1}")]
    Address(String, &'static str),
    /// Something is missing in the environment.
    #[error("{0}")]
    Unset(&'static str),
    /// A file that the environment names.
    #[error("{path}: {detail}")]
    File {
        /// The file.
        path: String,
        /// What is wrong.
        detail: String,
    },
    /// The token would travel in the open.
    #[error("`{0}` is not encrypted, and credentials would go there in the open: use https")]
    Open(String),
    /// What comes from there could be anybody's.
    #[error("`{0}` is not https: what comes from there could be anybody's")]
    Unsafe(String),
    /// It cannot be reached, or does not speak as it should.
    #[error("{host}: {detail}")]
    Network {
        /// Where.
        host: String,
        /// What happened.
        detail: String,
    },
    /// It does not answer in time.
    #[error("{0} gave no whole answer in time")]
    Late(String),
    /// It says no.
    #[error("the store said {status}{}{}", if said.is_empty() { "" } else { ": " }, said)]
    Refused {
        /// The status of its answer.
        status: u16,
        /// What it says of it.
        said: String,
    },
    /// What it says is not understood.
    #[error("the store's answer is not understood: {0}")]
    Answer(&'static str),
    /// A KMS does not take back what it should have encrypted.
    #[error("it was not encrypted by this key, under another context, or it was changed")]
    NotOurs,
    /// There is nothing there.
    #[error("there is no secret at `{0}`")]
    Missing(String),
    /// It has too much.
    #[error(
        "there are over {} secrets or {} MiB of them, or folders over {} deep",
        crate::MOST_SECRETS,
        crate::MOST_BYTES >> 20,
        crate::DEEPEST
    )]
    TooMany,
    /// A name cannot be said there.
    #[error("`{name}` can be no name there: {why}")]
    Name {
        /// The name.
        name: String,
        /// What names are made of.
        why: &'static str,
    },
    /// It has values already that would be replaced.
    #[error("there already, with other values: {}; nothing was written", .0.join(", "))]
    There(Vec<String>),
    /// It has changed meanwhile.
    #[error("`{0}` was changed by somebody else meanwhile; it is left as it is now")]
    Changed(String),
    /// Some were written when one failed.
    #[error("{written} were written, then `{name}` failed: {error}")]
    Partly {
        /// How many stand there now.
        written: usize,
        /// Which failed.
        name: String,
        /// Why.
        error: Box<SourceError>,
    },
}

impl SourceError {
    /// Whether the same may succeed later by itself.
    #[must_use]
    pub fn is_passing(&self) -> bool {
        match self {
            Self::Network { .. } | Self::Late(_) => true,
            Self::Refused { status, .. } => *status == 429 || *status >= 500,
            _ => false,
        }
    }

    /// What went wrong with a secret, after so many were written.
    pub(crate) fn after(self, written: usize, name: &str) -> Self {
        match written {
            0 => self,
            _ => Self::Partly {
                written,
                name: name.to_owned(),
                error: Box::new(self),
            },
        }
    }
}
