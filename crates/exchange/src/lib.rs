//! Secrets in the forms in which they come in and go out: `.env`, JSON, YAML, SOPS, and each of these inside of
//! an age file. Bytes go in and entries come out, or the other way round: nothing here does I/O, and no error
//! holds a value.
//!
//! Names of nested documents are paths: `{"db": {"password": …}}` is the entry `db/password`.

mod dotenv;
mod error;
mod json;
mod node;
pub mod sops;
mod yaml;

use std::fmt;
use std::str::FromStr;

use skep_crypto::age::{Identity, Recipient, file};
use zeroize::Zeroizing;

pub use error::ExchangeError;

/// Bytes of a file.
pub const MOST_BYTES: usize = 16 << 20;
/// Entries of a file.
pub const MOST_ENTRIES: usize = 10_000;
/// Bytes of a name.
pub const MOST_NAME: usize = 500;
/// How deep a document may be.
pub const MOST_DEPTH: usize = 32;

/// A secret on its way in or out. Its value is wiped when it is dropped, and never shown.
#[derive(Clone, PartialEq, Eq)]
pub struct Entry {
    /// What it is called: a path with `/` between its parts.
    pub name: String,
    /// Its value.
    pub value: Zeroizing<Vec<u8>>,
    /// The line on which it stands, where that is known.
    pub line: Option<usize>,
}

impl Entry {
    /// An entry of which no line is known.
    #[must_use]
    pub fn new(name: impl Into<String>, value: impl Into<Vec<u8>>) -> Self {
        Self {
            name: name.into(),
            value: Zeroizing::new(value.into()),
            line: None,
        }
    }

    fn text(&self) -> Result<&str, ExchangeError> {
        let name = || self.name.clone();
        std::str::from_utf8(&self.value).map_err(|_| ExchangeError::NotText { name: name() })
    }
}

impl fmt::Debug for Entry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Entry({}, …)", self.name)
    }
}

/// How a file is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// `NAME=value`, a line each.
    Dotenv,
    /// An object.
    Json,
    /// A map.
    Yaml,
    /// What SOPS encrypts, in one of these.
    Sops(sops::Store),
}

impl Format {
    /// The words for the formats.
    pub const WORDS: [&str; 6] = [
        "dotenv",
        "json",
        "yaml",
        "sops-yaml",
        "sops-json",
        "sops-dotenv",
    ];

    /// What a file of this name is, as far as the name tells.
    #[must_use]
    pub fn of_name(name: &str) -> Option<Self> {
        let name = name.rsplit('/').next().unwrap_or(name).to_ascii_lowercase();
        let name = name.strip_suffix(".age").unwrap_or(&name);
        let ends = |ends: &[&str]| ends.iter().any(|end| name.ends_with(end));
        if ends(&[".json"]) {
            Some(Self::Json)
        } else if ends(&[".yaml", ".yml"]) {
            Some(Self::Yaml)
        } else if name.starts_with(".env") || ends(&[".env", ".dotenv"]) {
            Some(Self::Dotenv)
        } else {
            None
        }
    }
}

impl FromStr for Format {
    type Err = ExchangeError;

    fn from_str(text: &str) -> Result<Self, ExchangeError> {
        use sops::Store;
        Ok(match text {
            "dotenv" => Self::Dotenv,
            "json" => Self::Json,
            "yaml" => Self::Yaml,
            "sops-yaml" => Self::Sops(Store::Yaml),
            "sops-json" => Self::Sops(Store::Json),
            "sops-dotenv" => Self::Sops(Store::Dotenv),
            _ => {
                return Err(ExchangeError::Format {
                    word: text.to_owned(),
                });
            }
        })
    }
}

/// Reads a file: opens it when it is one of age, and decrypts it when SOPS encrypted it, whatever the format
/// says of that. The entries are in the order of the file, and no name stands twice.
///
/// # Errors
/// [`ExchangeError`].
pub fn read(
    format: Format,
    bytes: &[u8],
    identities: &[Identity],
) -> Result<Vec<Entry>, ExchangeError> {
    if bytes.len() > MOST_BYTES {
        return Err(ExchangeError::TooLarge);
    }
    let opened;
    let bytes = match file::is_file(bytes) {
        true => {
            opened =
                file::open(identities, bytes).map_err(|error| match identities.is_empty() {
                    true => ExchangeError::NoIdentity,
                    false => ExchangeError::Age(error),
                })?;
            &opened[..]
        }
        false => bytes,
    };
    if bytes.len() > MOST_BYTES {
        return Err(ExchangeError::TooLarge);
    }
    let text = std::str::from_utf8(bytes).map_err(|error| {
        let before = &bytes[..error.valid_up_to()];
        let line = before.iter().filter(|byte| **byte == b'\n').count() + 1;
        ExchangeError::wrong(Some(line), None, "it is no UTF-8 text")
    })?;
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let store = match format {
        Format::Dotenv => sops::Store::Dotenv,
        Format::Json => sops::Store::Json,
        Format::Yaml => sops::Store::Yaml,
        Format::Sops(store) => store,
    };
    let is_sops = matches!(format, Format::Sops(_));
    let entries = match sops::tree(store, text, is_sops)? {
        Some(tree) => sops::read(tree, identities)?,
        None => match store {
            sops::Store::Dotenv => dotenv::read(text)?,
            sops::Store::Json => node::entries(json::read(text)?)?,
            sops::Store::Yaml => node::entries(yaml::read(text)?)?,
        },
    };
    check_names(&entries)?;
    Ok(entries)
}

/// Writes a file. One of SOPS is encrypted for the recipients; any other, when there are recipients, is put
/// into an age file (in armour) for them.
///
/// # Errors
/// [`ExchangeError`]: values that are no text, names that the format cannot say, recipients that are missing.
pub fn write(
    format: Format,
    entries: &[Entry],
    recipients: &[Recipient],
    now: &str,
) -> Result<Zeroizing<Vec<u8>>, ExchangeError> {
    if entries.len() > MOST_ENTRIES {
        return Err(ExchangeError::TooMany);
    }
    check_names(entries)?;
    let text = match format {
        Format::Dotenv => dotenv::write(entries)?,
        Format::Json => json::write(entries)?,
        Format::Yaml => yaml::write(entries)?,
        Format::Sops(store) => {
            let text = sops::write(store, entries, recipients, now)?;
            return Ok(Zeroizing::new(text.into_bytes()));
        }
    };
    if recipients.is_empty() {
        return Ok(Zeroizing::new(text.as_bytes().to_vec()));
    }
    let sealed = file::seal(recipients, text.as_bytes()).map_err(ExchangeError::Age)?;
    Ok(Zeroizing::new(file::armour(&sealed).into_bytes()))
}

/// What a variable is called that stands for a secret: its name with `_` for what a variable cannot have.
#[must_use]
pub fn variable(name: &str) -> String {
    let fits = |c: char| c.is_ascii_alphanumeric() || c == '_';
    let name: String = name
        .chars()
        .map(|c| if fits(c) { c } else { '_' })
        .collect();
    match name.starts_with(|c: char| c.is_ascii_digit()) {
        true => format!("_{name}"),
        false => name,
    }
}

fn check_names(entries: &[Entry]) -> Result<(), ExchangeError> {
    // A longer one could not be a key of YAML in one line.
    let odd = |name: &str| name.len() > MOST_NAME || name.chars().any(char::is_control);
    if let Some(entry) = entries.iter().find(|entry| odd(&entry.name)) {
        let what = format!("a name is over {MOST_NAME} bytes, or has characters that are not seen");
        return Err(ExchangeError::wrong(entry.line, None, what));
    }
    let mut names = std::collections::HashSet::new();
    match entries.iter().find(|entry| !names.insert(&entry.name)) {
        Some(twice) => Err(ExchangeError::Twice {
            name: twice.name.clone(),
            line: twice.line,
        }),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests;
