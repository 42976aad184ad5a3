//! What can be wrong with the configuration, and what to do about it.

use std::path::PathBuf;

use super::Origin;
use crate::{Code, PublicError};

/// Why there is no configuration.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// A file cannot be read.
    #[error("{path} cannot be read", path = path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// The file cannot be written.
    #[error("{path} cannot be written", path = path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// The file is not TOML.
    #[error("{origin}: {message}")]
    Syntax {
        /// File and line.
        origin: Origin,
        /// What the parser said.
        message: String,
    },
    /// No key has this name.
    #[error("{origin}: there is no key `{key}`")]
    UnknownKey {
        /// The name.
        key: String,
        /// Where it stands.
        origin: Origin,
        /// A name that is close to it.
        similar: Option<String>,
    },
    /// An environment variable looks like ours and is not.
    #[error("the environment variable {name} sets nothing")]
    UnknownVariable {
        /// Its name.
        name: String,
        /// A name that is close to it.
        similar: Option<String>,
    },
    /// A variable and its `_FILE` form are both set.
    #[error("{name} and {name}_FILE are both set")]
    Both {
        /// The variable.
        name: String,
    },
    /// A variable is not UTF-8.
    #[error("the environment variable {name} is not UTF-8 text")]
    NotText {
        /// The variable.
        name: String,
    },
    /// A value is not of the key's kind.
    #[error("`{key}` cannot be `{value}` ({origin}): allowed is {allowed}")]
    Invalid {
        /// The key.
        key: &'static str,
        /// The value, or a mask of a secret one.
        value: String,
        /// Where it comes from.
        origin: Origin,
        /// What is allowed.
        allowed: String,
    },
    /// Of two keys that need each other, one is missing.
    #[error("`{given}` is set ({origin}) and `{missing}` is not")]
    Alone {
        /// The key that is set.
        given: &'static str,
        /// Where it is set.
        origin: Origin,
        /// The key that is missing.
        missing: &'static str,
    },
    /// There is no home folder to put the data in.
    #[error("there is no place for the data: neither XDG_DATA_HOME nor HOME is set")]
    NoHome,
}

impl PublicError for ConfigError {
    fn code(&self) -> Code {
        Code::ConfigInvalid
    }

    /// Who configures a server may see everything.
    fn detail(&self) -> String {
        match self {
            Self::Read { source, .. } | Self::Write { source, .. } => format!("{self}: {source}"),
            other => other.to_string(),
        }
    }

    fn hint(&self) -> String {
        match self {
            Self::UnknownKey { similar: Some(similar), .. }
            | Self::UnknownVariable { similar: Some(similar), .. } => {
                format!("Did you mean `{similar}`?")
            }
            Self::UnknownKey { .. } => "`skep config show` lists the keys.".to_owned(),
            Self::UnknownVariable { .. } => {
                "`skep config show` lists the keys; a variable is SKEP_ and the key in capitals, with _ for the dot."
                    .to_owned()
            }
            Self::Both { .. } => "Unset one of them.".to_owned(),
            Self::Alone { missing, .. } => format!("Set `{missing}` too."),
            Self::NoHome => "Set HOME, or name the folder with --data.".to_owned(),
            Self::Read { .. } | Self::Write { .. } => {
                "Check that the file is there and that this user may use it.".to_owned()
            }
            Self::Syntax { .. } => "Correct the file; it is TOML (https://toml.io).".to_owned(),
            Self::NotText { .. } | Self::Invalid { .. } => {
                "`skep config show --origin` says where each value comes from.".to_owned()
            }
        }
    }
}
